//! Ranges of an object that are fetched from an origin as players request them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use carousel::time::Instant;

carousel::limits! {
    /// Ranges of one object that have arrived or are being fetched, none touching another.
    const MAX_SPANS: usize = 256, "ranges" {
        why: "Players that seek make a few; 16 bytes each, looked through for every read.",
        full: "A further range is passed through for its player alone.",
        free: "When a fetch ends, or ranges grow together; after 120 s without a request all are given up.",
        test: "there_are_only_so_many",
    }
}

#[derive(Debug, Default)]
struct Lists {
    /// Ranges in the file, in order; adjacent ones are merged.
    arrived: Vec<Range<u64>>,
    /// Ranges that are being fetched.
    fetched: Vec<Range<u64>>,
}

/// Ranges of an object that have arrived, and those that are being fetched.
#[derive(Debug)]
pub struct Spans {
    lists: Mutex<Lists>,
    /// URL of the object.
    url: String,
    /// Time of the last client request for a part of it, on the daemon's clock.
    touched_ns: AtomicU64,
    is_finished: AtomicBool,
}

impl Spans {
    /// Ranges of an object at `url`, requested at `now`.
    pub fn new(url: &str, now: Instant) -> Self {
        Self {
            lists: Mutex::default(),
            url: url.to_owned(),
            touched_ns: AtomicU64::new(now.as_nanos()),
            is_finished: AtomicBool::new(false),
        }
    }

    /// URL of the object.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Records a client request.
    pub fn touch(&self, now: Instant) {
        self.touched_ns.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// Time of the last client request.
    pub fn touched(&self) -> Instant {
        Instant::from_nanos(self.touched_ns.load(Ordering::Relaxed))
    }

    /// True for the first caller, which publishes the object.
    pub fn finish(&self) -> bool {
        !self.is_finished.swap(true, Ordering::AcqRel)
    }

    /// End of the received bytes from `offset` on; `offset` if that byte is missing.
    pub fn available_from(&self, offset: u64) -> u64 {
        let lists = self.lists();
        lists.arrived.iter().find(|it| it.contains(&offset)).map_or(offset, |it| it.end)
    }

    /// Number of bytes that have arrived.
    pub fn received_bytes(&self) -> u64 {
        self.lists().arrived.iter().map(|it| it.end - it.start).sum()
    }

    /// Whether all of `0..length` has arrived.
    pub fn is_whole(&self, length: u64) -> bool {
        let lists = self.lists();
        length == 0 || lists.arrived.first().is_some_and(|it| it.start == 0 && it.end >= length)
    }

    /// The first part of `range` that has neither arrived nor is being fetched; it now counts as being fetched. `None`: there
    /// is none, or the table is full (`MAX_SPANS`).
    pub fn claim(&self, range: Range<u64>) -> Option<Range<u64>> {
        let mut lists = self.lists();
        let mut start = range.start;
        loop {
            let known = lists.arrived.iter().chain(&lists.fetched).find(|it| it.contains(&start));
            match known {
                Some(known) => start = known.end,
                None => break,
            }
        }
        if start >= range.end || lists.arrived.len() + lists.fetched.len() >= MAX_SPANS {
            return None;
        }
        let known = lists.arrived.iter().chain(&lists.fetched);
        let end = known.map(|it| it.start).filter(|&it| it > start).min().unwrap_or(u64::MAX).min(range.end);
        lists.fetched.push(start..end);
        Some(start..end)
    }

    /// Whether the byte at `offset` has arrived or is being fetched.
    pub fn is_expected(&self, offset: u64) -> bool {
        let lists = self.lists();
        lists.arrived.iter().chain(&lists.fetched).any(|it| it.contains(&offset))
    }

    /// Records that a claimed range is no longer being fetched, complete or not. Readers that wait for the rest notice it
    /// ([`Spans::is_expected`]); a later request may claim it again.
    pub fn release(&self, claimed: &Range<u64>) {
        let mut lists = self.lists();
        if let Some(at) = lists.fetched.iter().position(|it| it == claimed) {
            lists.fetched.swap_remove(at);
        }
    }

    /// Records bytes that are in the file.
    pub fn arrive(&self, range: Range<u64>) {
        let mut lists = self.lists();
        let arrived = &mut lists.arrived;
        let from = arrived.partition_point(|it| it.end < range.start);
        let to = arrived.partition_point(|it| it.start <= range.end);
        let start =
            arrived.get(from).filter(|_| from < to).map_or(range.start, |it| it.start.min(range.start));
        let end = to.checked_sub(1).and_then(|at| arrived.get(at)).filter(|_| from < to);
        let end = end.map_or(range.end, |it| it.end.max(range.end));
        arrived.splice(from..to, std::iter::once(start..end));
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        // Every change affects one list, so a panic elsewhere leaves both consistent.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_nobody_fetches_is_claimed() {
        let spans = Spans::new("http://h/x", Instant::default());
        assert_eq!(spans.claim(10..20), Some(10..20));
        assert_eq!(spans.claim(10..20), None, "somebody does");
        assert_eq!(spans.claim(0..100), Some(0..10));
        assert_eq!(spans.claim(0..100), Some(20..100));
        spans.release(&(10..20));
        spans.arrive(10..15);
        assert_eq!(spans.claim(10..20), Some(15..20), "what has come stays");
        assert_eq!((spans.available_from(12), spans.available_from(15)), (15, 15));
        spans.arrive(15..20);
        spans.arrive(0..10);
        assert!(!spans.is_whole(100) && spans.is_whole(20));
        assert_eq!(spans.received_bytes(), 20);
    }

    #[test]
    fn an_object_is_complete_from_its_first_byte_to_its_last() {
        let spans = Spans::new("http://h/x", Instant::default());
        spans.arrive(1..20);
        assert!(!spans.is_whole(20));
        spans.arrive(0..1);
        assert!(spans.is_whole(20) && !spans.is_whole(21));
        assert!(spans.finish() && !spans.finish(), "it is published once");
    }

    #[test]
    fn there_are_only_so_many() {
        let spans = Spans::new("http://h/x", Instant::default());
        let claimed = (0..10_000).filter(|at| spans.claim(at * 2..at * 2 + 1).is_some()).count();
        assert_eq!(claimed, MAX_SPANS);
        spans.release(&(0..1));
        assert_eq!(spans.claim(30_000..30_001), Some(30_000..30_001), "the place of one that ended");
        assert_eq!(spans.claim(30_002..30_003), None);
    }

    proptest! {
        #[test]
        fn arrivals_add_up_in_any_order(ranges in proptest::collection::vec((0_u64..200, 1_u64..40), 0..40)) {
            let spans = Spans::new("http://h/x", Instant::default());
            let mut bytes = [false; 240];
            for (start, length) in ranges {
                spans.arrive(start..start + length);
                bytes[start as usize..(start + length) as usize].fill(true);
            }
            for offset in 0..240_u64 {
                let end = bytes[offset as usize..].iter().position(|it| !it).unwrap_or(240 - offset as usize);
                prop_assert_eq!(spans.available_from(offset), offset + end as u64);
            }
            prop_assert_eq!(spans.received_bytes(), bytes.iter().filter(|it| **it).count() as u64);
        }
    }
}
