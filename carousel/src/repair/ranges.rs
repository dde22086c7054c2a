//! Selection of the byte ranges that are requested from a repair server (pure).

use crate::limits;
use std::ops::Range;

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
    pub const MAX_MISSING: usize = 1024, "ranges" {
        why: "A loss of 2 % of 290 MB in bursts has some hundred.",
        full: "Near ranges are joined: more is fetched than is missing.",
        free: "Holds for one object.",
        test: "what_is_nearly_all_missing_is_one_range",
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

/// A gap of bytes that are there already is fetched again rather than paid for with another part's header.
const GAP_BYTES: u64 = 512;

/// Requests for the missing ranges, each a list of ranges in order. `length` is the object's.
pub fn requests(missing: &[Range<u64>], length: u64) -> Vec<Vec<Range<u64>>> {
    let lost: u64 = missing.iter().map(|it| it.end - it.start).sum();
    let is_cut_short = missing.len() >= MAX_MISSING;
    let mut missing = missing.to_vec();
    if is_cut_short || lost.saturating_mul(10) > length.saturating_mul(9) {
        // Nearly everything: one plain range instead of a multipart body.
        let end = missing.last().map_or(length, |it| if is_cut_short { length } else { it.end });
        missing.truncate(1);
        missing.iter_mut().for_each(|first| first.end = end);
    }
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(missing.len());
    for range in missing.into_iter().filter(|it| it.start < it.end) {
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
pub fn holes(missing: Vec<Range<u64>>, length: u64) -> Vec<Range<u64>> {
    missing.into_iter().filter(|range| range.end < length).collect()
}

/// Gathers bytes as an origin sends them into pieces that begin and end with a symbol.
#[derive(Debug)]
pub struct Gather {
    symbol_length: u64,
    offset: u64,
    bytes: Vec<u8>,
}

/// Bytes handed to a shard at a time: few commands, and no long stay away from its sockets.
const PIECE_BYTES: usize = 256 << 10;

impl Gather {
    /// Nothing yet, of an object with symbols of `symbol_length` bytes.
    pub const fn new(symbol_length: u64) -> Self {
        Self { symbol_length, offset: 0, bytes: Vec::new() }
    }

    /// Takes bytes; gives back a piece when there is enough, or when these do not continue the last ones.
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
    use super::*;

    #[test]
    fn near_ranges_are_one_and_requests_are_bounded() {
        assert_eq!(requests(&[0..1400, 1800..2800, 9000..10_000], 100_000), [vec![0..2800, 9000..10_000]]);
        let many: Vec<_> = (0..40).map(|at| at * 10_000..at * 10_000 + 1400).collect();
        let lists = requests(&many, 1_000_000);
        assert_eq!(lists.iter().map(Vec::len).collect::<Vec<_>>(), [16, 16, 8]);
        let all: Vec<_> = requests(&[0..20 << 20], 400 << 20).concat();
        assert_eq!(all, [0..8 << 20, 8 << 20..16 << 20, 16 << 20..20 << 20]);
        assert!(requests(&[], 10).is_empty());
    }

    #[test]
    fn what_is_nearly_all_missing_is_one_range() {
        assert_eq!(requests(&[0..500, 1100..10_000], 10_000), [vec![0..10_000]]);
        let many: Vec<_> = (0..MAX_MISSING as u64).map(|at| at * 10_000..at * 10_000 + 1400).collect();
        assert_eq!(requests(&many, 20_000_000).concat().last().unwrap().end, 20_000_000);
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
        assert_eq!(holes(vec![0..10, 50..100], 100), [0..10]);
    }
}
