//! Transmissions in progress, and their order within a wave.

use std::sync::Arc;

use carousel::fec::Sequence;

use super::live::QueuePosition;
use super::{ItemId, SessionIndex};
use crate::object::{OpenBody, SharedRepair};

/// A transmission in progress.
#[derive(Debug)]
pub(super) enum Job {
    Fdt {
        session: SessionIndex,
        page: usize,
        next: u64,
    },
    Object {
        id: ItemId,
        reading: OpenBody,
        repair: SharedRepair,
        sequence: Sequence,
        symbols: u64,
        left: u64,
        broken: bool,
    },
    Close {
        session: SessionIndex,
    },
    /// The signalling of a group of ROUTE sessions.
    Signalling {
        session: SessionIndex,
        packets: Arc<[Vec<u8>]>,
        next: usize,
    },
}

impl Job {
    /// The object that it sends, if any.
    pub(super) const fn object(&self) -> Option<ItemId> {
        match self {
            Self::Object { id, .. } => Some(*id),
            Self::Fdt { .. } | Self::Close { .. } | Self::Signalling { .. } => None,
        }
    }

    /// The fraction of the object sent so far, in units of 2^-32.
    pub(super) fn sent_part(&self) -> u64 {
        match self {
            Self::Object { left, symbols, .. } => ((symbols - left) << 32) / (*symbols).max(1),
            Self::Fdt { .. } | Self::Close { .. } | Self::Signalling { .. } => 0,
        }
    }
}

/// Queue of a job, to which it returns after a packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lane {
    Urgent,
    Live(QueuePosition),
    Share,
    Between,
    Wave,
}

/// An object of the wave. Ordered by the fraction sent, so that all objects of a wave end together.
#[derive(Debug)]
pub(super) struct WaveEntry {
    /// The fraction of the object sent so far, in units of 2^-32.
    sent: u64,
    pub(super) job: Job,
}

impl WaveEntry {
    pub(super) fn of(job: Job) -> Self {
        Self { sent: job.sent_part(), job }
    }
}

impl Ord for WaveEntry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // The greatest of the heap is next.
        other.sent.cmp(&self.sent)
    }
}

impl PartialOrd for WaveEntry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for WaveEntry {
    fn eq(&self, other: &Self) -> bool {
        self.sent == other.sent
    }
}

impl Eq for WaveEntry {}
