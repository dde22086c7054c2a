//! Verdicts on packets, reasons for drops and failures, and counters of one ROUTE session.

use crate::growing::{BytesDrop, End};
use crate::reasons;

/// Outcome of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// New bytes are in place.
    Stored,
    /// A repair symbol is kept.
    Repair,
    /// No payload.
    Control,
    /// Nothing new in it.
    Dropped(RouteDrop),
}

reasons! {
    /// Why a packet of a ROUTE session is dropped.
    pub enum RouteDrop in "route_dropped_packets" by "reason" {
        /// Its bytes were there already.
        Duplicate = "duplicate",
        /// It repeats a long object that is complete.
        Repeat = "repeat",
        /// It has no TSI, no start_offset, or a malformed extension.
        Malformed = "malformed",
        /// The codepoint means nothing in its channel.
        Codepoint = "codepoint",
        /// It ends behind the end of its object.
        BeyondEnd = "beyond_end",
        /// Its object would exceed the limit for one, or has too many gaps.
        TooLong = "too_long",
        /// Repair symbols of a channel that no repair flow describes, or of a form that is not decoded.
        UnknownRepair = "unknown_repair",
        /// Repair symbols that are not needed.
        RepairNotNeeded = "repair_not_needed",
        /// The session has too many channels.
        TooManyChannels = "too_many_channels",
        /// Events are not polled.
        EventsFull = "events_full",
    }
}

impl RouteDrop {
    /// Drop reason for rejected bytes.
    pub(super) const fn of(drop: BytesDrop) -> Self {
        match drop {
            BytesDrop::Duplicate => Self::Duplicate,
            // Handled before.
            BytesDrop::Contradiction | BytesDrop::BeyondEnd => Self::BeyondEnd,
            BytesDrop::TooLong | BytesDrop::TooManyGaps => Self::TooLong,
        }
    }
}

reasons! {
    /// Why an object of a ROUTE session was given up.
    pub enum RouteFailure in "route_failed_objects" by "reason" {
        /// Bytes are missing, or there is no evidence of its end.
        Incomplete = "incomplete",
        /// Nothing has given it a name.
        Unnamed = "unnamed",
        /// It made room for others.
        Displaced = "displaced",
        /// The sender has restarted with its TOI.
        Replaced = "replaced",
        /// Its header fields or its transfer coding are damaged.
        BadEntity = "bad_entity",
        /// The signalling package, or the S-TSID in it, cannot be read.
        BadSignalling = "bad_signalling",
        /// It exceeds the limit for an object in memory.
        TooLong = "too_long",
        /// It was begun too long ago, and its packets still trickle in.
        TooOld = "too_old",
        /// Its memory was needed: all sessions together, of FLUTE and ROUTE, held too much.
        OverBudget = "over_budget",
    }
}

/// Counters of one ROUTE session. Every packet is in one of `stored`, `repair`, `control` and `dropped`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteStats {
    /// Packets processed.
    pub packets: u64,
    /// Their UDP payload bytes.
    pub bytes: u64,
    /// Packets with new bytes.
    pub stored: u64,
    /// Packets with repair symbols that were kept.
    pub repair: u64,
    /// Packets without payload.
    pub control: u64,
    /// Packets dropped, in the order of [`RouteDrop::ALL`].
    pub dropped: [u64; RouteDrop::ALL.len()],
    /// Complete objects, by the evidence of their end, in the order of [`End::ALL`].
    pub complete: [u64; End::ALL.len()],
    /// Complete repeats without a change.
    pub repeats: u64,
    /// Objects given up, in the order of [`RouteFailure::ALL`].
    pub failed: [u64; RouteFailure::ALL.len()],
    /// Missing bytes of objects given up.
    pub missing_bytes: u64,
    /// Bytes restored by repair symbols.
    pub recovered_bytes: u64,
    /// Source blocks that could not be decoded.
    pub recovery_failed: u64,
    /// Signalling packages that were read.
    pub packages: u64,
    /// Elements of S-TSIDs that could not be used, and documents without a name.
    pub left_out: u64,
}

impl std::ops::AddAssign<&Self> for RouteStats {
    fn add_assign(&mut self, other: &Self) {
        fn add<const N: usize>(sums: &mut [u64; N], counts: &[u64; N]) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        // Every field is named, so that a new one cannot be left out.
        let Self {
            packets,
            bytes,
            stored,
            repair,
            control,
            dropped,
            complete,
            repeats,
            failed,
            missing_bytes,
            recovered_bytes,
            recovery_failed,
            packages,
            left_out,
        } = other;
        self.packets += packets;
        self.bytes += bytes;
        self.stored += stored;
        self.repair += repair;
        self.control += control;
        add(&mut self.dropped, dropped);
        add(&mut self.complete, complete);
        self.repeats += repeats;
        add(&mut self.failed, failed);
        self.missing_bytes += missing_bytes;
        self.recovered_bytes += recovered_bytes;
        self.recovery_failed += recovery_failed;
        self.packages += packages;
        self.left_out += left_out;
    }
}

impl RouteStats {
    /// Whether every packet is counted in exactly one place.
    pub fn reconcile(&self) -> bool {
        self.packets == self.stored + self.repair + self.control + self.dropped.iter().sum::<u64>()
    }
}
