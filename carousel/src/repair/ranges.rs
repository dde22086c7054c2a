//! Selection of the byte ranges that are requested from a repair server (pure).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use crate::limits;

limits! {
    /// Ranges of one request.
    const MAX_RANGES: usize = 16, "ranges" {
        why: "Origins refuse requests with many ranges.",
        full: "The next ranges go into the next request.",
        free: "With the next request.",
        test: "what_is_nearly_all_missing_is_one_range",
    }
}

limits! {
    /// Missing ranges of one object that are gathered.
    const MAX_MISSING: usize = 1024, "ranges" {
        why: "A loss of 2 % of 290 MB in bursts has some hundred.",
        full: "The nearest ranges are joined: more is fetched than is missing, by as few bytes as possible.",
        free: "Holds for one object.",
        test: "of_many_ranges_the_nearest_are_joined",
    }
}

limits! {
    /// Bytes of one request.
    const MAX_REQUEST_BYTES: u64 = 8 << 20, "bytes" {
        why: "A second of 64 Mbit/s; a failed request is repeated as a whole.",
        full: "The rest goes into the next request.",
        free: "With the next request.",
        test: "what_is_nearly_all_missing_is_one_range",
    }
}

/// Longest gap of received bytes that is fetched again, since another part's header would cost more.
const GAP_BYTES: u64 = 512;

/// Joins the nearest of ordered ranges until at most `most` are left, which adds as few received bytes as possible. Holds only
/// that many at a time.
pub fn joined(ranges: impl IntoIterator<Item = Range<u64>>, most: usize) -> Vec<Range<u64>> {
    // The longest gaps between them: the shortest of these is on top.
    let mut gaps = BinaryHeap::new();
    let mut all: Option<Range<u64>> = None;
    for range in ranges.into_iter().filter(|it| it.start < it.end) {
        let Some(all) = &mut all else {
            all = Some(range);
            continue;
        };
        let gap = range.start.saturating_sub(all.end);
        if gap > 0 {
            gaps.push(Reverse((gap, all.end)));
            if gaps.len() >= most.max(1) {
                gaps.pop();
            }
        }
        all.end = all.end.max(range.end);
    }
    let Some(all) = all else { return Vec::new() };
    let mut gaps: Vec<Range<u64>> =
        gaps.into_iter().map(|Reverse((gap, start))| start..start + gap).collect();
    gaps.sort_unstable_by_key(|gap| gap.start);
    let ends = gaps.iter().map(|gap| gap.start).chain([all.end]);
    let starts = [all.start].into_iter().chain(gaps.iter().map(|gap| gap.end));
    starts.zip(ends).map(|(start, end)| start..end).collect()
}

/// Requests for missing ranges, which are in order, each a list of ranges in order. `length` is the object's.
pub fn requests(missing: impl IntoIterator<Item = Range<u64>>, length: u64) -> Vec<Vec<Range<u64>>> {
    let mut missing = joined(missing, MAX_MISSING);
    let lost: u64 = missing.iter().map(|it| it.end - it.start).sum();
    if lost.saturating_mul(10) > length.saturating_mul(9) {
        // Nearly everything: one plain range instead of a multipart body.
        missing = joined(missing, 1);
    }
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(missing.len());
    for range in missing {
        match merged.last_mut() {
            Some(last) if range.start - last.end <= GAP_BYTES => last.end = range.end,
            _ => merged.push(range),
        }
    }
    let (mut requests, mut current, mut bytes) = (Vec::new(), Vec::new(), 0);
    for mut range in merged {
        while range.start < range.end {
            if current.len() == MAX_RANGES || bytes == MAX_REQUEST_BYTES {
                requests.push(std::mem::take(&mut current));
                bytes = 0;
            }
            let take = (range.end - range.start).min(MAX_REQUEST_BYTES - bytes);
            current.push(range.start..range.start + take);
            bytes += take;
            range.start += take;
        }
    }
    if !current.is_empty() {
        requests.push(current);
    }
    requests
}

/// The missing ranges that lie before bytes that have arrived: the carousel has passed them by.
pub fn holes(missing: impl IntoIterator<Item = Range<u64>>, length: u64) -> impl Iterator<Item = Range<u64>> {
    missing.into_iter().filter(move |range| range.end < length)
}

/// The part of `runs` (of symbols, in order) that has `wanted` symbols in as few runs as possible, in order.
pub(crate) fn longest(mut runs: Vec<Range<u64>>, wanted: u64) -> Vec<Range<u64>> {
    runs.sort_by_key(|run| Reverse(run.end - run.start));
    let mut left = wanted;
    for run in &mut runs {
        run.end = run.end.min(run.start + left);
        left -= run.end - run.start;
    }
    runs.retain(|run| run.start < run.end);
    runs.sort_unstable_by_key(|run| run.start);
    runs
}

/// Gathers bytes as an origin sends them into pieces that begin and end with a symbol.
#[derive(Debug)]
pub struct Gather {
    symbol_length: u64,
    offset: u64,
    bytes: Vec<u8>,
}

/// Bytes handed to a shard at a time: few commands, and no long absence from its sockets.
const PIECE_BYTES: usize = 256 << 10;

impl Gather {
    /// An empty one, for an object with symbols of `symbol_length` bytes.
    pub const fn new(symbol_length: u64) -> Self {
        Self { symbol_length, offset: 0, bytes: Vec::new() }
    }

    /// Adds bytes; returns a piece when there is enough, or when these do not continue the last ones.
    pub fn push(&mut self, offset: u64, bytes: &[u8]) -> Option<(u64, Vec<u8>)> {
        let continues = offset == self.offset + self.bytes.len() as u64;
        let before = if continues { None } else { self.finish() };
        if self.bytes.is_empty() {
            self.offset = offset;
        }
        self.bytes.extend_from_slice(bytes);
        if before.is_some() || self.bytes.len() < PIECE_BYTES {
            return before;
        }
        let end = self.offset + self.bytes.len() as u64;
        let cut = usize::try_from(end - end % self.symbol_length - self.offset).unwrap_or(0);
        let rest = self.bytes.split_off(cut.min(self.bytes.len()));
        let piece = (self.offset, std::mem::replace(&mut self.bytes, rest));
        self.offset += piece.1.len() as u64;
        Some(piece)
    }

    /// Returns the rest.
    pub fn finish(&mut self) -> Option<(u64, Vec<u8>)> {
        (!self.bytes.is_empty()).then(|| (self.offset, std::mem::take(&mut self.bytes)))
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of ranges are what this is about
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn near_ranges_are_one_and_requests_are_bounded() {
        assert_eq!(requests([0..1400, 1800..2800, 9000..10_000], 100_000), [vec![0..2800, 9000..10_000]]);
        let many = (0..40).map(|at| at * 10_000..at * 10_000 + 1400);
        let lists = requests(many, 1_000_000);
        assert_eq!(lists.iter().map(Vec::len).collect::<Vec<_>>(), [16, 16, 8]);
        let all: Vec<_> = requests([0..20 << 20], 400 << 20).concat();
        assert_eq!(all, [0..8 << 20, 8 << 20..16 << 20, 16 << 20..20 << 20]);
        assert!(requests([], 10).is_empty());
    }

    #[test]
    fn what_is_nearly_all_missing_is_one_range() {
        assert_eq!(requests([0..500, 1100..10_000], 10_000), [vec![0..10_000]]);
    }

    #[test]
    fn of_many_ranges_the_nearest_are_joined() {
        // Two gaps are short, and one range more than there is room for: the shorter one goes.
        let at = |number: u64| number * 10_000..number * 10_000 + 1400;
        let mut many: Vec<_> = (0..MAX_MISSING as u64 + 1).map(at).collect();
        many[500].end += 7000;
        many[700].end += 6000;
        let all = requests(many.clone(), 20_000_000).concat();
        many[500].end = many[501].end;
        many.remove(501);
        assert_eq!(all, many);
        assert_eq!(joined([0..1, 2..3, 4..9, 12..13], 2), [0..9, 12..13]);
        assert_eq!(joined([0..1, 1..3, 3..3, 5..6], 9), [0..3, 5..6]);
        assert_eq!(joined([3..4, 9..10], 0), [3..10]);
        assert!(joined([], 3).is_empty());
    }

    #[test]
    fn symbols_are_taken_in_few_runs() {
        let runs = || vec![0..1, 3..6, 8..10, 20..23];
        assert_eq!(longest(runs(), 4), [3..6, 20..21]);
        assert_eq!(longest(runs(), 9), runs());
        assert_eq!(longest(runs(), 99), runs());
        assert!(longest(runs(), 0).is_empty());
    }

    /// Bytes of the former algorithm: with many gaps, everything from the first on.
    fn bytes_before(missing: &[Range<u64>], length: u64) -> u64 {
        let gathered = &missing[..missing.len().min(MAX_MISSING)];
        let lost: u64 = gathered.iter().map(|it| it.end - it.start).sum();
        match gathered {
            [] => 0,
            [first, ..] if gathered.len() >= MAX_MISSING => length - first.start,
            [first, .., last] if lost * 10 > length * 9 => last.end - first.start,
            _ => {
                let near = gathered.windows(2).map(|pair| pair[1].start - pair[0].end);
                lost + near.filter(|gap| *gap <= GAP_BYTES).sum::<u64>()
            }
        }
    }

    proptest! {
        #[test]
        fn everything_missing_is_asked_for_once_and_never_more_than_before(
            runs in proptest::collection::vec((1_u64..4, 1_u64..6), 0..2500),
            symbol in 100_u64..1500,
        ) {
            let mut at = 0;
            let missing: Vec<Range<u64>> = runs
                .iter()
                .map(|(there, lost)| {
                    let start = at + there;
                    at = start + lost;
                    start * symbol..at * symbol
                })
                .collect();
            let length = (at + 1) * symbol;
            let asked = requests(missing.iter().cloned(), length);
            prop_assert!(asked.iter().all(|it| it.len() <= MAX_RANGES));
            let asked = asked.concat();
            prop_assert!(asked.windows(2).all(|pair| pair[0].end <= pair[1].start));
            let is_in = |range: &Range<u64>| {
                let touched = joined(asked.iter().cloned(), usize::MAX);
                touched.iter().any(|it| it.start <= range.start && range.end <= it.end)
            };
            prop_assert!(missing.iter().step_by(97).all(is_in));
            let bytes: u64 = asked.iter().map(|it| it.end - it.start).sum();
            let before = bytes_before(&missing, length);
            // What was gathered before was not all that is missing: the rest cost a further attempt.
            prop_assert!(bytes <= before, "{} {}", bytes, before);
        }
    }

    #[test]
    fn pieces_end_with_a_symbol() {
        let mut gather = Gather::new(1000);
        let mut pieces = Vec::new();
        for at in 0..300_u64 {
            pieces.extend(gather.push(5000 + at * 1111, &[7; 1111]));
        }
        pieces.extend(gather.push(900_000, &[8; 10]));
        pieces.extend(gather.finish());
        assert!(
            pieces[0].1.len() > PIECE_BYTES - 2000
                && (pieces[0].0 + pieces[0].1.len() as u64).is_multiple_of(1000)
        );
        let total: usize = pieces.iter().map(|it| it.1.len()).sum();
        assert_eq!(total, 300 * 1111 + 10);
        assert_eq!(pieces.last().unwrap().0, 900_000);
        assert_eq!(pieces[1].0, pieces[0].0 + pieces[0].1.len() as u64);
    }

    #[test]
    fn holes_leave_the_tail_to_the_carousel() {
        assert!(holes([0..10, 50..100], 100).eq([0..10]));
    }
}
