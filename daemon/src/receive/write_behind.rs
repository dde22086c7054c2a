//! Write-behind buffer of symbols: gathers symbols into runs, and writes runs to files.
//!
//! A packet's 1400 bytes are too few for a system call: written through a mapping, every third packet takes
//! a page fault in which the kernel finds, clears and registers a page of the file; written one by one, each costs a
//! system call. Packets of an object arrive in order, though, dozens in a batch. So they are copied into a run that stays
//! in the processor's cache, and a run is written with one call, over complete pages that need no clearing. A run ends where
//! the next 64 KiB of the file begin, within a symbol if need be: then no page is written twice, and the page cache takes it as
//! one piece. Measured by `cargo xtask bench receive`; the figures are in `store/DESIGN.md`.
//!
//! Until its run is written, a symbol is hidden from readers by [`ReadLimit`](carousel::fec::ReadLimit). A run is written when
//! the next symbol is not adjacent, when it is full, when its object is complete or a block of it is to be decoded, and at the
//! end of every batch: no byte waits for another packet. Repair symbols, which lie behind the object until their block is
//! decoded, have runs of their own, so that a sender may mix them with source symbols.

use std::sync::Arc;

use crate::delivery::Flight;
use crate::store::{BODY_AT, Partial};

/// Maximum bytes of a run, which ends at a multiple of them in the file: a small part of a level-2 cache, and enough to amortise
/// the system call.
const RUN_BYTES: usize = 64 << 10;
/// Maximum number of runs: 512 KiB of a level-2 cache. Beyond that the least recently used run is flushed, so more interleaved
/// objects have shorter runs.
const MAX_RUNS: usize = 8;

/// Contents of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Symbols {
    /// Bytes of the object, which readers wait for.
    Source,
    /// Bytes behind it, which only the decoder reads, after [`WriteBehind::flush_one`].
    Repair,
}

/// Contiguous bytes of one object.
#[derive(Debug)]
struct Run {
    partial: Arc<Partial>,
    symbols: Symbols,
    flight: Option<Arc<Flight>>,
    start: u64,
    bytes: Vec<u8>,
    /// Bytes at which it ends, at a multiple of [`RUN_BYTES`] of the file.
    room: usize,
}

impl Run {
    fn is_of(&self, partial: &Arc<Partial>, symbols: Symbols) -> bool {
        Arc::ptr_eq(&self.partial, partial) && self.symbols == symbols
    }

    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Begins at `offset` of the body.
    fn begin(&mut self, offset: u64, flight: Option<&Arc<Flight>>) {
        self.start = offset;
        self.room = RUN_BYTES - ((BODY_AT + offset) % RUN_BYTES as u64) as usize;
        if self.symbols == Symbols::Source {
            self.flight = flight.cloned();
            self.partial.read_limit().set(offset);
        }
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
        if self.symbols == Symbols::Repair {
            return;
        }
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
    /// Buffers source symbols of an object.
    #[inline]
    pub(super) fn write(
        &mut self,
        partial: &Arc<Partial>,
        flight: Option<&Arc<Flight>>,
        offset: u64,
        bytes: &[u8],
    ) {
        self.take(partial, Symbols::Source, flight, offset, bytes);
    }

    /// Takes a repair symbol of an object. A write that fails later makes the object lost.
    pub(super) fn write_repair(&mut self, partial: &Arc<Partial>, offset: u64, bytes: &[u8]) {
        self.take(partial, Symbols::Repair, None, offset, bytes);
    }

    #[inline]
    fn take(
        &mut self,
        partial: &Arc<Partial>,
        symbols: Symbols,
        flight: Option<&Arc<Flight>>,
        offset: u64,
        bytes: &[u8],
    ) {
        let joins = self.runs.first().is_some_and(|run| {
            run.is_of(partial, symbols)
                && run.end() == offset
                && !run.bytes.is_empty()
                && run.bytes.len() + bytes.len() < run.room
        });
        if joins {
            self.runs[0].bytes.extend_from_slice(bytes);
        } else {
            self.start(partial, symbols, flight, offset, bytes);
        }
    }

    fn start(
        &mut self,
        partial: &Arc<Partial>,
        symbols: Symbols,
        flight: Option<&Arc<Flight>>,
        offset: u64,
        bytes: &[u8],
    ) {
        match self.runs.iter().position(|run| run.is_of(partial, symbols)) {
            Some(at) => {
                self.runs.swap(0, at);
                let run = &mut self.runs[0];
                if run.end() != offset || bytes.len() > RUN_BYTES {
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
                let partial = Arc::clone(partial);
                let run = Run { partial, symbols, flight: None, start: offset, bytes: memory, room: 0 };
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
        let (mut offset, mut bytes) = (offset, bytes);
        while !bytes.is_empty() {
            if run.bytes.is_empty() {
                run.begin(offset, flight);
            }
            let (now, later) = bytes.split_at(bytes.len().min(run.room - run.bytes.len()));
            run.bytes.extend_from_slice(now);
            // With its last symbol a run stays: that one is not in the map yet, and its readers are to be woken behind that.
            if run.bytes.len() == run.room && !later.is_empty() {
                run.flush();
            }
            (offset, bytes) = (offset + now.len() as u64, later);
        }
    }

    /// Writes what there is of one object.
    pub(super) fn flush_one(&mut self, partial: &Arc<Partial>) {
        while let Some(at) = self.runs.iter().position(|run| Arc::ptr_eq(&run.partial, partial)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Placement, Store};

    const SYMBOL_BYTES: u64 = 1000;

    fn partial(store: &Store) -> Arc<Partial> {
        Arc::new(store.create(100 * SYMBOL_BYTES, Placement::default()).unwrap())
    }

    fn holds(partial: &Partial, offset: u64, number: u8) -> bool {
        let mut found = [0; SYMBOL_BYTES as usize];
        partial.read_at(offset, &mut found).is_ok() && found == [number; SYMBOL_BYTES as usize]
    }

    #[test]
    fn runs_end_where_the_next_64_kib_of_the_file_begin() {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::store::testing::open(&folder);
        let partial = Arc::new(store.create(300 * SYMBOL_BYTES, Placement::default()).unwrap());
        let mut writes = WriteBehind::default();
        let body: Vec<u8> = (0..300 * SYMBOL_BYTES).map(|at| (at % 251) as u8 + 1).collect();
        let mut ends = vec![];
        for (at, symbol) in (0..).zip(body.chunks(SYMBOL_BYTES as usize)) {
            writes.write(&partial, None, at * SYMBOL_BYTES, symbol);
            let limit = partial.read_limit().get().min((at + 1) * SYMBOL_BYTES);
            // All before the limit is there, nothing behind it.
            let mut found = vec![0; ((at + 1) * SYMBOL_BYTES) as usize];
            partial.read_at(0, &mut found).unwrap();
            let (there, hidden) = found.split_at(limit as usize);
            assert!(there == &body[..there.len()] && hidden.iter().all(|it| *it == 0), "symbol {at}");
            if ends.last() != Some(&limit) {
                ends.push(limit);
            }
        }
        let run = RUN_BYTES as u64;
        assert_eq!(ends, [0, run - 4096, 2 * run - 4096, 3 * run - 4096, 4 * run - 4096]);
        // One that ends a run just so is in it until the next comes, or the batch ends.
        writes.flush();
        writes.write(&partial, None, run - 4096 - 1000, &[7; 1000]);
        assert_eq!(partial.read_limit().get(), run - 4096 - 1000);
        writes.write(&partial, None, run - 4096, &[7; 1000]);
        assert_eq!(partial.read_limit().get(), run - 4096);
        // One of several runs.
        writes.write(&partial, None, 1, &vec![8; RUN_BYTES]);
        assert_eq!(partial.read_limit().get(), run - 4096);
        writes.flush();
        let mut found = vec![0; RUN_BYTES];
        partial.read_at(1, &mut found).unwrap();
        assert!(found.iter().all(|it| *it == 8));
    }

    #[test]
    fn repair_symbols_gather_beside_source_symbols_and_leave_their_limit() {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::store::testing::open(&folder);
        let partial = partial(&store);
        let mut writes = WriteBehind::default();
        let symbol = |number: u8| [number; SYMBOL_BYTES as usize];
        let behind = |slot: u64| (100 + slot) * SYMBOL_BYTES;
        for number in 0..20 {
            writes.write(&partial, None, u64::from(number) * SYMBOL_BYTES, &symbol(number + 1));
            writes.write_repair(&partial, behind(number.into()), &symbol(number + 101));
        }
        // Nothing was written for any of them.
        assert_eq!((writes.runs.len(), partial.read_limit().get()), (2, 0));
        assert!((0..20).all(|it| !holds(&partial, it * SYMBOL_BYTES, it as u8 + 1)));
        assert!((0..20).all(|it| !holds(&partial, behind(it), it as u8 + 101)));
        // One that does not follow has the run before it written; source symbols stay hidden.
        writes.write_repair(&partial, behind(30), &symbol(130));
        assert!((0..20).all(|it| holds(&partial, behind(it), it as u8 + 101)));
        assert!(!holds(&partial, behind(30), 130) && !holds(&partial, 0, 1));
        assert_eq!(partial.read_limit().get(), 0);
        writes.flush_one(&partial);
        assert!(holds(&partial, behind(30), 130) && holds(&partial, 0, 1) && holds(&partial, 19_000, 20));
        assert_eq!((writes.runs.len(), partial.read_limit().get()), (0, u64::MAX));
    }

    #[test]
    fn runs_of_all_objects_are_bounded_and_the_longest_unused_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::store::testing::open(&folder);
        let partials: Vec<_> = (0..MAX_RUNS).map(|_| partial(&store)).collect();
        let mut writes = WriteBehind::default();
        for partial in &partials {
            writes.write(partial, None, 0, &[1; SYMBOL_BYTES as usize]);
            writes.write_repair(partial, 100 * SYMBOL_BYTES, &[2; SYMBOL_BYTES as usize]);
        }
        assert_eq!(writes.runs.len(), MAX_RUNS);
        let half = MAX_RUNS / 2;
        assert!(partials[..half].iter().all(|it| holds(it, 0, 1) && holds(it, 100 * SYMBOL_BYTES, 2)));
        assert!(partials[half..].iter().all(|it| !holds(it, 0, 1) && !holds(it, 100 * SYMBOL_BYTES, 2)));
        writes.flush();
        assert!(partials.iter().all(|it| holds(it, 0, 1) && holds(it, 100 * SYMBOL_BYTES, 2)));
        assert_eq!((writes.runs.len(), writes.spare.len()), (0, MAX_RUNS));
    }
}
