//! Write-behind buffer of symbols: gathers symbols into runs, and writes runs to files.
//!
//! A packet's 1400 bytes are too few for a system call: written through a mapping, every third packet takes
//! a page fault in which the kernel finds, clears and registers a page of the file; written one by one, each costs a
//! system call. Packets of an object arrive in order, though, dozens in a batch. So they are copied into a run that stays
//! in the processor's cache, and a run is written with one call, over complete pages that need no clearing. Measured by
//! `cargo xtask bench receive`; the figures are in `store/DESIGN.md`.
//!
//! Until its run is written, a symbol is hidden from readers by [`ReadLimit`](carousel::fec::ReadLimit). A run is written when
//! the next symbol is not adjacent, when it is full, when its object is complete, and at the end of every batch: no byte waits
//! for another packet.

use std::sync::Arc;

use crate::delivery::Flight;
use crate::store::Partial;

/// Bytes of a run: a small part of a level-2 cache, and enough to amortise the system call.
const RUN_BYTES: usize = 64 << 10;
/// Maximum number of runs: 512 KiB of a level-2 cache. Beyond that the least recently used run is flushed, so more interleaved
/// objects have shorter runs.
const MAX_RUNS: usize = 8;

/// Contiguous bytes of one object.
#[derive(Debug)]
struct Run {
    partial: Arc<Partial>,
    flight: Option<Arc<Flight>>,
    start: u64,
    bytes: Vec<u8>,
}

impl Run {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Writes the run. After a failed write the digest will not match, and the object is received again.
    fn flush(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        if let Err(err) = self.partial.write_at(self.start, &self.bytes) {
            tracing::debug!(%err, "writing symbols failed");
        }
        self.start = self.end();
        self.bytes.clear();
        self.partial.read_limit().clear();
        if let Some(flight) = &self.flight {
            flight.progress();
        }
    }
}

/// The runs of one shard. At most [`MAX_RUNS`] × [`RUN_BYTES`].
#[derive(Debug, Default)]
pub(super) struct WriteBehind {
    /// Most recently used first.
    runs: Vec<Run>,
    spare: Vec<Vec<u8>>,
}

impl WriteBehind {
    /// Buffers symbols of an object.
    #[inline]
    pub(super) fn write(
        &mut self,
        partial: &Arc<Partial>,
        flight: Option<&Arc<Flight>>,
        offset: u64,
        bytes: &[u8],
    ) {
        let joins = self.runs.first().is_some_and(|run| {
            Arc::ptr_eq(&run.partial, partial)
                && run.end() == offset
                && !run.bytes.is_empty()
                && run.bytes.len() + bytes.len() <= RUN_BYTES
        });
        if joins {
            self.runs[0].bytes.extend_from_slice(bytes);
        } else {
            self.start(partial, flight, offset, bytes);
        }
    }

    fn start(&mut self, partial: &Arc<Partial>, flight: Option<&Arc<Flight>>, offset: u64, bytes: &[u8]) {
        match self.runs.iter().position(|run| Arc::ptr_eq(&run.partial, partial)) {
            Some(at) => {
                self.runs.swap(0, at);
                let run = &mut self.runs[0];
                if run.end() != offset || run.bytes.len() + bytes.len() > RUN_BYTES {
                    run.flush();
                }
            }
            None => {
                if self.runs.len() >= MAX_RUNS
                    && let Some(mut oldest) = self.runs.pop()
                {
                    oldest.flush();
                    self.spare.push(oldest.bytes);
                }
                let memory = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(RUN_BYTES));
                let run = Run { partial: Arc::clone(partial), flight: None, start: offset, bytes: memory };
                self.runs.insert(0, run);
            }
        }
        if bytes.len() > RUN_BYTES {
            // Pieces from repair are larger than a run.
            if let Err(err) = partial.write_at(offset, bytes) {
                tracing::debug!(%err, "writing symbols failed");
            }
            return;
        }
        let run = &mut self.runs[0];
        if run.bytes.is_empty() {
            run.start = offset;
            run.flight = flight.cloned();
            run.partial.read_limit().set(offset);
        }
        run.bytes.extend_from_slice(bytes);
    }

    /// Writes the rest of a complete object.
    pub(super) fn flush_one(&mut self, partial: &Arc<Partial>) {
        if let Some(at) = self.runs.iter().position(|run| Arc::ptr_eq(&run.partial, partial)) {
            let mut run = self.runs.swap_remove(at);
            run.flush();
            self.spare.push(run.bytes);
        }
    }

    /// Writes all runs at the end of a batch. Afterwards they keep no object alive.
    pub(super) fn flush(&mut self) {
        for mut run in self.runs.drain(..) {
            run.flush();
            self.spare.push(run.bytes);
        }
    }
}
