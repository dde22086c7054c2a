//! What becomes of a packet, and the counters of it.

use super::super::assembler::FdtDrop;
use super::Refusal;

/// What became of a packet.
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
    /// Nothing has come of it for [`crate::limits::MAX_OBJECT_SILENCE`].
    Silent,
    /// It made room for another object, being the one that was heard longest ago.
    Displaced,
    /// Storage refused it when it got its name.
    Refused(Refusal),
}

/// Why a packet was dropped. One table gives each its metric name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// Symbols that were there already.
    Duplicate,
    /// Of an object that is whole, or held.
    Repeat,
    /// A repair symbol of a scheme that is not decoded.
    RepairSymbol,
    /// SBN and ESI outside the object.
    OutsideObject,
    /// Payload that is not whole symbols.
    BadSymbolLength,
    /// EXT_FTI differs from what the object was opened with.
    OtiChanged,
    /// OTI that contradicts itself or exceeds the limits.
    BadOti,
    /// FEC Payload ID cut short, or unknown scheme.
    BadPayloadId,
    /// Too many objects in flight that nothing has described.
    TooManyObjects,
    /// Storage had no room.
    NoRoom,
    /// Storage does not want the object.
    NotWanted,
    /// Nobody polls events.
    EventsFull,
    /// TOI 0: see [`FdtDrop`].
    Fdt(FdtDrop),
    /// An FDT Instance that is no XML that we can use.
    FdtUnreadable,
    /// An FDT Instance that had expired before it came.
    FdtExpired,
}

impl DropReason {
    /// Every variant, for metrics and documentation.
    pub const ALL: [Self; 20] = [
        Self::Duplicate,
        Self::Repeat,
        Self::RepairSymbol,
        Self::OutsideObject,
        Self::BadSymbolLength,
        Self::OtiChanged,
        Self::BadOti,
        Self::BadPayloadId,
        Self::TooManyObjects,
        Self::NoRoom,
        Self::NotWanted,
        Self::EventsFull,
        Self::FdtUnreadable,
        Self::FdtExpired,
        Self::Fdt(FdtDrop::NoExtFdt),
        Self::Fdt(FdtDrop::NoExtFti),
        Self::Fdt(FdtDrop::Fec),
        Self::Fdt(FdtDrop::BadLength),
        Self::Fdt(FdtDrop::Duplicate),
        Self::Fdt(FdtDrop::Encoding),
    ];

    /// Name in metrics and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Repeat => "repeat",
            Self::RepairSymbol => "repair_symbol",
            Self::OutsideObject => "outside_object",
            Self::BadSymbolLength => "bad_symbol_length",
            Self::OtiChanged => "oti_changed",
            Self::BadOti => "bad_oti",
            Self::BadPayloadId => "bad_payload_id",
            Self::TooManyObjects => "too_many_objects",
            Self::NoRoom => "no_room",
            Self::NotWanted => "not_wanted",
            Self::EventsFull => "events_full",
            Self::FdtUnreadable => "fdt_unreadable",
            Self::FdtExpired => "fdt_expired",
            Self::Fdt(FdtDrop::NoExtFdt) => "fdt_no_ext_fdt",
            Self::Fdt(FdtDrop::NoExtFti) => "fdt_no_ext_fti",
            Self::Fdt(FdtDrop::Fec) => "fdt_fec",
            Self::Fdt(FdtDrop::BadLength) => "fdt_bad_length",
            Self::Fdt(FdtDrop::Duplicate) => "fdt_duplicate",
            Self::Fdt(FdtDrop::Encoding) => "fdt_encoding",
        }
    }

    /// Place in [`DropReason::ALL`] and in [`ReceiverStats::dropped`].
    pub(super) fn index(self) -> usize {
        Self::ALL.iter().position(|&reason| reason == self).unwrap_or(0)
    }
}

/// Counters of one session; every packet is in exactly one of `stored`, `fdt`, `control`, `early` and `dropped`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverStats {
    /// Packets taken.
    pub packets: u64,
    /// Their UDP payload bytes.
    pub bytes: u64,
    /// Packets with new symbols.
    pub stored: u64,
    /// Packets of TOI 0 that were of use.
    pub fdt: u64,
    /// Packets without payload.
    pub control: u64,
    /// Packets kept until their object is described.
    pub early: u64,
    /// Early packets that made room for others before anything described them.
    pub early_evicted: u64,
    /// Packets dropped, in the order of [`DropReason::ALL`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// `File` elements that could not be used.
    pub unusable_files: u64,
    /// Source symbols that repair symbols brought back.
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
        self.recovered += recovered;
        self.recovery_failed += recovery_failed;
        self.lost += lost;
    }
}

impl ReceiverStats {
    /// How often `reason` was the verdict.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason.index()]
    }
}
