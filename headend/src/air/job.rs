//! What is being sent, and whose turn it is.

use carousel::fec::Sequence;

use super::{ItemId, SessionIndex};
use crate::object::{Reading, SharedRepair};

/// What a packet is part of, for counting and for the B flag.
#[derive(Debug)]
pub(super) enum Job {
    Fdt {
        session: SessionIndex,
        page: usize,
        next: u64,
    },
    Object {
        id: ItemId,
        reading: Reading,
        repair: SharedRepair,
        sequence: Sequence,
        symbols: u64,
        left: u64,
        broken: bool,
    },
    Close {
        session: SessionIndex,
    },
}

/// Where a job was taken from, and goes back to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lane {
    Urgent,
    Live,
    Between,
    Wave,
}

/// An object of the wave, ordered so that all of them come to their ends together.
#[derive(Debug)]
pub(super) struct Turn {
    /// The part of the object that is sent already, in units of 2^-32.
    sent: u64,
    pub(super) job: Job,
}

impl Turn {
    pub(super) fn of(job: Job) -> Self {
        let sent = match &job {
            Job::Object { left, symbols, .. } => ((symbols - left) << 32) / (*symbols).max(1),
            Job::Fdt { .. } | Job::Close { .. } => 0,
        };
        Self { sent, job }
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // The greatest of the heap is next.
        other.sent.cmp(&self.sent)
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.sent == other.sent
    }
}

impl Eq for Turn {}
