//! Bytes of an object whose length is not known yet.
//!
//! Live objects are sent while they grow: a ROUTE object gets its length with its last packets, a segment in FLUTE chunks
//! with its last chunk, or never. [`Growing`] accepts ranges of bytes in any order, holds only the received ones, and gives
//! the length of the beginning without a gap. [`Boxes`] shows whether the received bytes end where a segment may end.

mod boxes;

pub use boxes::{Boxes, FragmentCount};

use std::collections::BTreeMap;
use std::ops::Range;

use crate::{limits, reasons};

limits! {
    /// One object of unknown length in memory.
    pub const MAX_GROWING_BYTES: u64 = 64 << 20, "bytes" {
        why: "A segment of ten seconds at 50 Mbit/s has 60 MB; a hostile start_offset costs only what is sent.",
        full: "Its packets are dropped as `too_long`.",
        free: "Holds for one object.",
        test: "what_is_too_long_or_contradicts_itself_is_refused",
    }

    /// Runs of bytes of one object with gaps between them.
    pub const MAX_RUNS: usize = 1_024, "runs" {
        why: "A burst of losses leaves a few; every second packet of 2 MB lost leaves 700.",
        full: "Packets that would begin a further run are dropped as `too_many_gaps`.",
        free: "When a gap is filled, or the object ends.",
        test: "gaps_are_bounded_and_filling_them_makes_room",
    }
}

reasons! {
    /// Why bytes of an object of unknown length are dropped.
    pub enum BytesDrop {
        /// All of them were there already.
        Duplicate = "duplicate",
        /// Other bytes were there already, or the length is said to be another.
        Contradiction = "contradiction",
        /// They lie behind the end of the object.
        BeyondEnd = "beyond_end",
        /// The object would exceed the limit.
        TooLong = "too_long",
        /// The object has too many gaps.
        TooManyGaps = "too_many_gaps",
    }
}

reasons! {
    /// Evidence of the end of an object of unknown length.
    pub enum End {
        /// EXT_TOL, EXT_FTI or a description gave its length.
        Length = "length",
        /// The B flag stood in the packet with its last bytes.
        CloseObject = "close_object",
        /// Its last chunk said that it is the last.
        LastChunk = "last_chunk",
        /// The session's next object has begun, and nothing is missing before it.
        NextObject = "next_object",
        /// Nothing more has come, and it has as many fragments as the segment before it.
        Silence = "silence",
    }
}

impl End {
    /// Whether the end is inferred, not signalled by the sender.
    pub const fn is_guessed(self) -> bool {
        matches!(self, Self::NextObject | Self::Silence)
    }
}

/// Approximate memory of a run in addition to its bytes.
const RUN_BYTES: usize = 64;

/// Runs of contiguous bytes of one object, and its length as soon as something proves it.
#[derive(Debug, Clone, Default)]
pub struct Growing {
    /// By offset; no two touch.
    runs: BTreeMap<u64, Vec<u8>>,
    held_bytes: u64,
    /// Capacity of all runs: they grow by doubling.
    allocated_bytes: usize,
    length: Option<u64>,
}

impl Growing {
    /// Inserts bytes at `offset`.
    ///
    /// # Errors
    /// [`BytesDrop`]; nothing has changed then.
    pub fn insert(&mut self, offset: u64, bytes: &[u8]) -> Result<(), BytesDrop> {
        let end = offset.saturating_add(bytes.len() as u64);
        if self.length.is_some_and(|length| end > length) {
            return Err(BytesDrop::BeyondEnd);
        }
        if end > MAX_GROWING_BYTES {
            return Err(BytesDrop::TooLong);
        }
        if bytes.is_empty() {
            return Err(BytesDrop::Duplicate);
        }
        let next = self.runs.range(offset + 1..).next().map(|(&start, _)| start);
        if let Some((&start, run)) = self.runs.range_mut(..=offset).next_back()
            && start + run.len() as u64 == offset
            && next.is_none_or(|next| next > end)
        {
            let before = run.capacity();
            run.extend_from_slice(bytes);
            self.allocated_bytes += run.capacity() - before;
            self.held_bytes += bytes.len() as u64;
            return Ok(());
        }
        self.insert_among(offset, end, bytes)
    }

    #[cold]
    fn insert_among(&mut self, offset: u64, end: u64, bytes: &[u8]) -> Result<(), BytesDrop> {
        // Runs that touch or overlap the new one, from the last to the first.
        let mut touching = Vec::new();
        for (&start, run) in self.runs.range(..=end).rev() {
            let run_end = start + run.len() as u64;
            if run_end < offset {
                break;
            }
            let common = start.max(offset)..run_end.min(end);
            if common.start < common.end {
                let of_run = run.get((common.start - start) as usize..(common.end - start) as usize);
                let of_new = bytes.get((common.start - offset) as usize..(common.end - offset) as usize);
                if of_run != of_new {
                    return Err(BytesDrop::Contradiction);
                }
            }
            if start <= offset && run_end >= end {
                return Err(BytesDrop::Duplicate);
            }
            touching.push(start);
        }
        if touching.is_empty() && self.runs.len() >= MAX_RUNS {
            return Err(BytesDrop::TooManyGaps);
        }
        let runs = touching.iter().filter_map(|start| self.runs.get(start));
        let (before, freed_bytes) = runs
            .fold((0, 0), |(length, capacity), run| (length + run.len() as u64, capacity + run.capacity()));
        let (mut first, mut merged) = (offset, Vec::new());
        if let Some(start) = touching.pop_if(|start| *start <= offset)
            && let Some(run) = self.runs.remove(&start)
        {
            (first, merged) = (start, run);
        }
        let mut add = |start: u64, more: &[u8]| {
            let known = (first + merged.len() as u64).saturating_sub(start) as usize;
            merged.extend_from_slice(more.get(known..).unwrap_or_default());
        };
        add(offset, bytes);
        while let Some(start) = touching.pop() {
            if let Some(run) = self.runs.remove(&start) {
                add(start, &run);
            }
        }
        self.held_bytes += merged.len() as u64 - before;
        self.allocated_bytes = self.allocated_bytes + merged.capacity() - freed_bytes;
        self.runs.insert(first, merged);
        Ok(())
    }

    /// Sets the length of the object.
    ///
    /// # Errors
    /// `Contradiction` if another length was said, or bytes beyond it are there; `TooLong` above [`MAX_GROWING_BYTES`].
    pub fn set_length(&mut self, length: u64) -> Result<(), BytesDrop> {
        if self.length.is_some_and(|known| known != length) || self.end() > length {
            return Err(BytesDrop::Contradiction);
        }
        if length > MAX_GROWING_BYTES {
            return Err(BytesDrop::TooLong);
        }
        self.length = Some(length);
        Ok(())
    }

    /// Its length, once that is known.
    pub const fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether these bytes were received already. `Some(false)`: others were, or the object ends before them; `None`: some are
    /// missing, or there are none.
    pub fn has(&self, offset: u64, bytes: &[u8]) -> Option<bool> {
        let end = offset.saturating_add(bytes.len() as u64);
        if self.length.is_some_and(|length| end > length) {
            return Some(false);
        }
        let mut held_bytes = 0;
        for (&start, run) in self.runs.range(..end).rev() {
            let common = start.max(offset)..end.min(start + run.len() as u64);
            if common.is_empty() {
                break;
            }
            let of_run = run.get((common.start - start) as usize..(common.end - start) as usize);
            let of_new = bytes.get((common.start - offset) as usize..(common.end - offset) as usize);
            if of_run != of_new {
                return Some(false);
            }
            held_bytes += common.end - common.start;
        }
        (held_bytes > 0 && held_bytes == bytes.len() as u64).then_some(true)
    }

    /// Bytes from the beginning up to the first gap.
    pub fn prefix(&self) -> &[u8] {
        self.runs.get(&0).map_or(&[], Vec::as_slice)
    }

    /// End of the last received byte.
    pub fn end(&self) -> u64 {
        self.runs.last_key_value().map_or(0, |(start, run)| start + run.len() as u64)
    }

    /// Whether there is no gap below [`Growing::end`].
    pub fn has_no_gap(&self) -> bool {
        self.prefix().len() as u64 == self.end()
    }

    /// Its boxes, if there is no gap and a segment may end here.
    pub fn boxes(&self) -> Option<Boxes> {
        if !self.has_no_gap() {
            return None;
        }
        Boxes::read(self.prefix()).filter(Boxes::may_end)
    }

    /// Whether the length is known and all bytes were received.
    pub fn is_complete(&self) -> bool {
        self.length == Some(self.prefix().len() as u64)
    }

    /// Received bytes.
    pub const fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Approximate memory: the capacity of all runs and the overhead of each.
    pub fn memory_bytes(&self) -> usize {
        self.allocated_bytes + self.runs.len() * RUN_BYTES
    }

    /// The bytes in `range`, if all of them were received.
    pub fn get(&self, range: Range<u64>) -> Option<&[u8]> {
        let (start, run) = self.runs.range(..=range.start).next_back()?;
        run.get(
            usize::try_from(range.start - start).ok()?
                ..usize::try_from(range.end.checked_sub(*start)?).ok()?,
        )
    }

    /// The received parts of `range`, in order.
    pub fn runs_within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let before = self.runs.range(..range.start).next_back();
        let all = before.into_iter().chain(self.runs.range(range.start..range.end.max(range.start)));
        all.map(move |(&start, run)| start.max(range.start)..(start + run.len() as u64).min(range.end))
            .filter(|part| !part.is_empty())
    }

    /// Missing ranges below the length, or below the last byte if the length is not known.
    pub fn missing(&self) -> Vec<Range<u64>> {
        let mut at = 0;
        let mut missing = Vec::new();
        for (&start, run) in &self.runs {
            if start > at {
                missing.push(at..start);
            }
            at = start + run.len() as u64;
        }
        missing.extend(self.length.filter(|&length| length > at).map(|length| at..length));
        missing
    }

    /// Returns the bytes up to the first gap.
    pub fn into_prefix(mut self) -> Vec<u8> {
        self.runs.remove(&0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_too_long_or_contradicts_itself_is_refused() {
        let mut object = Growing::default();
        assert_eq!(object.insert(MAX_GROWING_BYTES, &[1]), Err(BytesDrop::TooLong));
        assert_eq!(object.insert(u64::MAX, &[1, 2]), Err(BytesDrop::TooLong));
        assert_eq!(object.set_length(MAX_GROWING_BYTES + 1), Err(BytesDrop::TooLong));
        object.insert(MAX_GROWING_BYTES - 1, &[1]).unwrap();
        assert_eq!(object.held_bytes(), 1, "an offset costs nothing");
        let mut object = Growing::default();
        object.insert(0, b"abcd").unwrap();
        assert_eq!(object.insert(2, b"cX"), Err(BytesDrop::Contradiction));
        assert_eq!(object.insert(1, b"bc"), Err(BytesDrop::Duplicate));
        assert_eq!(object.set_length(3), Err(BytesDrop::Contradiction));
        object.set_length(6).unwrap();
        assert_eq!(object.set_length(7), Err(BytesDrop::Contradiction));
        assert_eq!(object.insert(4, b"efg"), Err(BytesDrop::BeyondEnd));
        assert_eq!(object.missing(), std::slice::from_ref(&(4..6)));
        object.insert(3, b"def").unwrap();
        assert!(object.is_complete());
        assert_eq!(object.into_prefix(), b"abcdef");
    }

    #[test]
    fn bytes_that_are_held_are_compared() {
        let mut object = Growing::default();
        object.insert(10, &[1; 10]).unwrap();
        object.insert(30, &[2; 10]).unwrap();
        for (offset, bytes, expected) in [
            (10, &[1; 10][..], Some(true)),
            (12, &[1; 8], Some(true)),
            (12, &[1; 9], None),
            (20, &[1; 10], None),
            (5, &[1; 10], None),
            (12, &[3; 3], Some(false)),
            (5, &[3; 6], Some(false)),
            (15, &[1; 20], Some(false)),
            (12, &[], None),
        ] {
            assert_eq!(object.has(offset, bytes), expected, "{offset} {}", bytes.len());
        }
        object.set_length(40).unwrap();
        assert_eq!((object.has(39, &[2; 2]), object.has(38, &[2; 2])), (Some(false), Some(true)));
    }

    #[test]
    fn boxes_behind_a_gap_end_no_segment() {
        let segment = [&[0, 0, 0, 8][..], b"moof", &[0, 0, 0, 8], b"mdat"].concat();
        let mut object = Growing::default();
        object.insert(0, &segment).unwrap();
        assert_eq!(object.boxes(), Boxes::read(&segment));
        assert_eq!(object.boxes().map(|it| it.fragments), Some(1));
        object.insert(20, &[0]).unwrap();
        assert_eq!(object.boxes(), None);
        let mut object = Growing::default();
        object.insert(0, &segment[..8]).unwrap();
        assert_eq!(object.boxes(), None, "no media data yet");
    }

    #[test]
    fn gaps_are_bounded_and_filling_them_makes_room() {
        let mut object = Growing::default();
        for at in 0..MAX_RUNS as u64 {
            object.insert(2 * at + 1, &[7]).unwrap();
        }
        assert_eq!(object.insert(100_000, &[7]), Err(BytesDrop::TooManyGaps));
        assert_eq!(object.missing().len(), MAX_RUNS);
        object.insert(2, &[7]).unwrap();
        object.insert(100_000, &[7]).unwrap();
    }

    proptest! {
        #[test]
        fn pieces_in_any_order_are_the_object(
            length in 1_usize..300,
            pieces in proptest::collection::vec((0_usize..300, 1_usize..60), 0..60),
        ) {
            let body: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
            let mut have = vec![false; length];
            let mut object = Growing::default();
            for (start, count) in pieces {
                let (start, end) = (start.min(length - 1), (start + count).min(length));
                if start >= end { continue; }
                let is_new = have[start..end].iter().any(|it| !it);
                let result = object.insert(start as u64, &body[start..end]);
                prop_assert_eq!(result, if is_new { Ok(()) } else { Err(BytesDrop::Duplicate) });
                have[start..end].fill(true);
                prop_assert_eq!(object.held_bytes(), have.iter().filter(|it| **it).count() as u64);
                let allocated: usize = object.runs.values().map(Vec::capacity).sum();
                prop_assert_eq!(object.memory_bytes(), allocated + object.runs.len() * RUN_BYTES);
                let prefix = have.iter().position(|it| !it).unwrap_or(length);
                prop_assert_eq!(object.prefix(), &body[..prefix]);
                for range in object.missing() {
                    prop_assert!(have[range.start as usize..range.end as usize].iter().all(|it| !it));
                }
            }
        }
    }
}
