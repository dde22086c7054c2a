//! Work of one shard that waits for a worker: bounded in number and in memory.

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

    /// Memory of the work of one shard that waits for a worker: documents, symbols of blocks of ROUTE. One piece may take more.
    pub const MAX_WORK_BYTES: usize = 32 << 20, "bytes" {
        why: "Two blocks of segments of ten seconds at 10 Mbit/s; a document has some 100 KB, and 8 MiB at most.",
        full: "As for MAX_WORK.",
        free: "When a worker takes the piece.",
        test: "documents_that_wait_for_a_worker_are_bounded_in_memory",
    }
}

/// Pieces of work with their memory, oldest first.
#[derive(Debug)]
pub(in crate::delivery) struct WorkQueue<S: ObjectStore> {
    pieces: VecDeque<(Work<S>, usize)>,
    held_bytes: usize,
}

impl<S: ObjectStore> Default for WorkQueue<S> {
    fn default() -> Self {
        Self { pieces: VecDeque::new(), held_bytes: 0 }
    }
}

impl<S: ObjectStore> WorkQueue<S> {
    /// Whether there is room for a piece of `bytes` in memory.
    pub(in crate::delivery) fn has_room(&self, bytes: usize) -> bool {
        let fits = bytes == 0 || self.held_bytes == 0 || self.held_bytes + bytes <= MAX_WORK_BYTES;
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
