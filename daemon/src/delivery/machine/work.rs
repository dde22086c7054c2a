//! Work of one shard that waits for a worker: bounded in number, and in memory by [`crate::memory::MAX_WORK_BYTES`].

use std::collections::VecDeque;

use super::Work;
use crate::delivery::storage::ObjectStore;

carousel::limits! {
    /// Work of one shard that waits for a worker.
    pub const MAX_WORK: usize = 1024, "pieces" {
        why: "A receiver completes a few hundred small objects in a burst; each piece keeps its object's room reserved.",
        full: "An object is rejected as `queue_full` and received again in the next pass; a block is counted in `blocks_refused` and decoded later.",
        free: "When a worker takes the piece.",
        test: "complete_objects_beyond_the_queue_of_work_are_received_again",
    }
}

/// Pieces of work with their memory, oldest first.
#[derive(Debug)]
pub(in crate::delivery) struct WorkQueue<S: ObjectStore> {
    most_bytes: usize,
    pieces: VecDeque<(Work<S>, usize)>,
    held_bytes: usize,
}

impl<S: ObjectStore> WorkQueue<S> {
    /// An empty queue for pieces that together take at most `most_bytes` in memory.
    pub(super) const fn within(most_bytes: usize) -> Self {
        Self { most_bytes, pieces: VecDeque::new(), held_bytes: 0 }
    }

    /// Whether there is room for a piece of `bytes` in memory.
    pub(in crate::delivery) fn has_room(&self, bytes: usize) -> bool {
        let fits = bytes == 0 || self.held_bytes == 0 || self.held_bytes + bytes <= self.most_bytes;
        self.pieces.len() < MAX_WORK && fits
    }

    /// Adds a piece of `bytes` in memory.
    pub(in crate::delivery) fn push(&mut self, work: Work<S>, bytes: usize) {
        self.held_bytes += bytes;
        self.pieces.push_back((work, bytes));
    }

    /// The next piece, if `admit` takes it.
    pub(super) fn pop(&mut self, admit: impl FnOnce(&Work<S>) -> bool) -> Option<Work<S>> {
        let (next, _) = self.pieces.front()?;
        if !admit(next) {
            return None;
        }
        let (work, bytes) = self.pieces.pop_front()?;
        self.held_bytes -= bytes;
        if self.pieces.is_empty() {
            self.pieces.shrink_to(16);
        }
        Some(work)
    }
}
