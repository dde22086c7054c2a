//! Verdicts on packets, reasons for drops, and counters of one session.

use super::Refusal;
use crate::reasons;

/// Outcome of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// New symbols are in place.
    Stored,
    /// Part of an FDT Instance.
    Fdt,
    /// No payload: close flags, NACI.
    Control,
    /// Kept until the object is described.
    Early,
    /// Nothing new in it.
    Dropped(DropReason),
}

/// Why an object in flight was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AbandonReason {
    /// No FDT Instance has described it.
    NeverDescribed,
    /// Its FDT entry expired, or made room for others, before it was complete.
    Expired,
    /// Nothing of it was received for [`crate::limits::MAX_OBJECT_SILENCE`].
    Silent,
    /// It made room for another object, as the least recently received one.
    Displaced,
    /// Storage refused it when it got its name.
    Refused(Refusal),
}

reasons! {
    /// Why a packet of a FLUTE session is dropped.
    pub enum DropReason in "receive_dropped_packets" by "reason" {
        /// Its symbols had already been received.
        Duplicate = "duplicate",
        /// The object is complete, or held already.
        Repeat = "repeat",
        /// The repair symbol is of a scheme that is not decoded.
        RepairSymbol = "repair_symbol",
        /// SBN and ESI are outside the object.
        OutsideObject = "outside_object",
        /// The payload is not a whole number of symbols.
        BadSymbolLength = "bad_symbol_length",
        /// EXT_FTI differs from that with which the object was opened.
        OtiChanged = "oti_changed",
        /// The OTI contradicts itself or exceeds the limits.
        BadOti = "bad_oti",
        /// The FEC Payload ID is cut short, or the scheme is unknown.
        BadPayloadId = "bad_payload_id",
        /// Too many objects are in flight that nothing has described.
        TooManyObjects = "too_many_objects",
        /// Storage has no room.
        NoRoom = "no_room",
        /// Storage does not want the object.
        NotWanted = "not_wanted",
        /// A newer signed FDT Instance has replaced the one that describes the object.
        Outdated = "outdated",
        /// The session has brought nothing yet whose signed digest was right, and has enough in flight to do so.
        Unproven = "unproven",
        /// Events are not polled.
        EventsFull = "events_full",
        /// The FDT Instance is not XML that can be used.
        FdtUnreadable = "fdt_unreadable",
        /// The FDT Instance is not accepted by `[trust]`; `trust_refused` says why.
        FdtUntrusted = "fdt_untrusted",
        /// TOI 0: the packet has no EXT_FDT, or a FLUTE version other than 1 and 2.
        FdtNoExtFdt = "fdt_no_ext_fdt",
        /// TOI 0: the packet has no EXT_FTI, and nothing else describes it.
        FdtNoExtFti = "fdt_no_ext_fti",
        /// TOI 0: the FEC scheme is not Compact No-Code.
        FdtFec = "fdt_fec",
        /// TOI 0: the lengths contradict each other or exceed the limits.
        FdtBadLength = "fdt_bad_length",
        /// TOI 0: the symbol had already been received.
        FdtDuplicate = "fdt_duplicate",
        /// TOI 0: the content encoding of the FDT Instance cannot be decoded.
        FdtEncoding = "fdt_encoding",
    }
}

/// Counters of one session; every packet is in exactly one of `stored`, `fdt`, `control`, `early` and `dropped`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverStats {
    /// Packets processed.
    pub packets: u64,
    /// Their UDP payload bytes.
    pub bytes: u64,
    /// Packets with new symbols.
    pub stored: u64,
    /// Packets of TOI 0 that were used.
    pub fdt: u64,
    /// Packets without payload.
    pub control: u64,
    /// Packets kept until their object is described.
    pub early: u64,
    /// Early packets that made room for others before they were described.
    pub early_evicted: u64,
    /// Packets dropped, in the order of [`DropReason::ALL`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// `File` elements that could not be used.
    pub unusable_files: u64,
    /// FDT Instances already expired on arrival: the clock of their sender or of this machine is wrong.
    pub expired_instances: u64,
    /// Source symbols restored by repair symbols.
    pub recovered: u64,
    /// Attempts to decode a block that failed.
    pub recovery_failed: u64,
    /// Encoding symbols lost on the link: gaps in the sequence of those of one source block. A lower bound, since the ends
    /// of a block, and objects lost completely, leave no gap.
    pub lost: u64,
}

impl Default for ReceiverStats {
    fn default() -> Self {
        Self {
            packets: 0,
            bytes: 0,
            stored: 0,
            fdt: 0,
            control: 0,
            early: 0,
            early_evicted: 0,
            dropped: [0; DropReason::ALL.len()],
            unusable_files: 0,
            expired_instances: 0,
            recovered: 0,
            recovery_failed: 0,
            lost: 0,
        }
    }
}

impl std::ops::AddAssign<&Self> for ReceiverStats {
    fn add_assign(&mut self, other: &Self) {
        // Every field is named, so that a new one cannot be left out.
        let Self {
            packets,
            bytes,
            stored,
            fdt,
            control,
            early,
            early_evicted,
            dropped,
            unusable_files,
            expired_instances,
            recovered,
            recovery_failed,
            lost,
        } = other;
        self.packets += packets;
        self.bytes += bytes;
        self.stored += stored;
        self.fdt += fdt;
        self.control += control;
        self.early += early;
        self.early_evicted += early_evicted;
        for (sum, count) in self.dropped.iter_mut().zip(dropped) {
            *sum += count;
        }
        self.unusable_files += unusable_files;
        self.expired_instances += expired_instances;
        self.recovered += recovered;
        self.recovery_failed += recovery_failed;
        self.lost += lost;
    }
}

impl ReceiverStats {
    /// Number of verdicts with `reason`.
    pub const fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }
}
