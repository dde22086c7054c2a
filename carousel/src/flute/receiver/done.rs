//! Table of TOIs whose packets are no longer needed, with the duration.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::DropReason;
use super::gaps::Coding;
use crate::lct::Toi;
use crate::limits::MAX_TOIS_DONE;
use crate::time::Instant;

/// A TOI whose packets are not needed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    /// Transfer length of the object: packets with another length are of another object.
    pub(super) length: u64,
    /// `None`: until the FDT changes.
    pub(super) until: Option<Instant>,
    pub(super) reason: DropReason,
    /// Layout of its packets, to detect losses.
    pub(super) coding: Option<Coding>,
    /// Start of its last cycle on the carousel, and time of its last packet.
    pub(super) turn_began: Instant,
    pub(super) last_seen: Instant,
}

impl Done {
    /// Creates an entry from now on; its cycle began with the object's first packet.
    pub(super) const fn new(
        length: u64,
        until: Option<Instant>,
        reason: DropReason,
        coding: Option<Coding>,
        now: Instant,
    ) -> Self {
        Self { length, until, reason, coding, turn_began: now, last_seen: now }
    }

    /// Records a packet of a repeat. If it is the first of a cycle, after at least `silence`, returns the time since the
    /// previous cycle.
    pub(super) fn seen(&mut self, now: Instant, silence: Duration) -> Option<Duration> {
        let before = std::mem::replace(&mut self.last_seen, now);
        if now.since(before) < silence {
            return None;
        }
        Some(now.since(std::mem::replace(&mut self.turn_began, now)))
    }
}

/// At most [`MAX_TOIS_DONE`] entries; the oldest makes room.
#[derive(Debug, Default)]
pub(super) struct DoneTable {
    done: HashMap<Toi, Done>,
    /// May contain a TOI more than once, if it was forgotten and done again; all count.
    order: VecDeque<Toi>,
    /// TOI and EXT_FTI of the last repeat: the next packet nearly always has the same, and most packets of a box are
    /// repeats.
    last: Option<Repeat>,
}

#[derive(Debug, Clone, Copy)]
struct Repeat {
    toi: Toi,
    fti: [u8; 16],
    fti_bytes: usize,
    reason: DropReason,
    coding: Option<Coding>,
}

impl Repeat {
    /// Whether its EXT_FTI is equal; without a function call for the usual lengths.
    #[inline]
    fn has_fti(&self, fti: &[u8]) -> bool {
        if fti.len() != self.fti_bytes {
            return false;
        }
        match (fti.first_chunk::<8>(), fti.last_chunk::<8>()) {
            (Some(begin), Some(end)) => {
                let own = &self.fti[..self.fti_bytes.min(16)];
                own.first_chunk() == Some(begin) && own.last_chunk() == Some(end)
            }
            _ => self.fti.get(..self.fti_bytes) == Some(fti),
        }
    }
}

impl DoneTable {
    /// Drop reason of a packet with the TOI and EXT_FTI of the last dropped one, without a lookup.
    #[inline]
    pub(super) fn like_last(&self, toi: Toi, fti: Option<&[u8]>) -> Option<(DropReason, Option<Coding>)> {
        let last = self.last.as_ref().filter(|last| last.toi == toi)?;
        last.has_fti(fti.unwrap_or(&[])).then_some((last.reason, last.coding))
    }

    /// Records a dropped packet, for the following ones with the same TOI and EXT_FTI.
    pub(super) fn note(&mut self, toi: Toi, fti: Option<&[u8]>, reason: DropReason, coding: Option<Coding>) {
        let bytes = fti.unwrap_or(&[]);
        let mut last = Repeat { toi, fti: [0; 16], fti_bytes: bytes.len(), reason, coding };
        self.last = None;
        if let Some(target) = last.fti.get_mut(..bytes.len()) {
            target.copy_from_slice(bytes);
            self.last = Some(last);
        }
    }

    /// Number of entries; a TOI that was forgotten and done again counts twice.
    pub(super) fn len(&self) -> usize {
        self.done.len().max(self.order.len())
    }

    pub(super) fn get(&self, toi: Toi) -> Option<&Done> {
        self.done.get(&toi)
    }

    pub(super) fn get_mut(&mut self, toi: Toi) -> Option<&mut Done> {
        self.done.get_mut(&toi)
    }

    pub(super) fn insert(&mut self, toi: Toi, done: Done) {
        self.last = None;
        if self.done.insert(toi, done).is_none() {
            self.order.push_back(toi);
        }
        while self.order.len() > MAX_TOIS_DONE {
            if let Some(oldest) = self.order.pop_front() {
                self.done.remove(&oldest);
            }
        }
    }

    pub(super) fn remove(&mut self, toi: Toi) {
        self.last = None;
        self.done.remove(&toi);
    }

    /// Forgets every TOI for which `is_done` is false.
    pub(super) fn retain(&mut self, mut is_done: impl FnMut(Toi) -> bool) {
        self.last = None;
        self.done.retain(|&toi, _| is_done(toi));
    }

    /// Forgets TOIs without a packet since `before` for which `is_described` is false. Tables shrink.
    pub(super) fn expire(&mut self, before: Instant, is_described: impl Fn(Toi) -> bool) {
        // Repeats of the last packet skip the lookup, so its time is not updated.
        let last = self.last.as_ref().map(|it| it.toi);
        self.done.retain(|&toi, done| done.last_seen >= before || last == Some(toi) || is_described(toi));
        let done = &self.done;
        self.order.retain(|toi| done.contains_key(toi));
        if self.done.capacity() > 4 * self.done.len() + 64 {
            self.done.shrink_to_fit();
            self.order.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tois_beyond_the_limit_push_out_the_oldest() {
        let mut table = DoneTable::default();
        let now = Instant::from_nanos(0);
        let entry = || Done {
            length: 1,
            until: None,
            reason: DropReason::Repeat,
            coding: None,
            turn_began: now,
            last_seen: now,
        };
        for toi in 0..=MAX_TOIS_DONE as u128 {
            table.insert(Toi(toi), entry());
        }
        assert_eq!((table.done.len(), table.order.len()), (MAX_TOIS_DONE, MAX_TOIS_DONE));
        assert!(table.get(Toi(0)).is_none() && table.get(Toi(1)).is_some());
        table.insert(Toi(0), entry());
        assert!(table.get(Toi(0)).is_some() && table.get(Toi(1)).is_none());
    }

    fn done(now: Instant) -> Done {
        Done::new(1, None, DropReason::Repeat, None, now)
    }

    #[test]
    fn a_pass_begins_after_silence_and_takes_the_time_since_the_one_before() {
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let silence = Duration::from_millis(100);
        let mut entry = done(at(0));
        assert_eq!(entry.seen(at(99), silence), None);
        assert_eq!(
            entry.seen(at(199), silence),
            Some(Duration::from_millis(199)),
            "silence of just that length"
        );
        assert_eq!(entry.seen(at(200), silence), None);
        assert_eq!(entry.seen(at(500), silence), Some(Duration::from_millis(301)));
    }

    #[test]
    fn packets_like_the_last_one_have_its_toi_and_its_ext_fti() {
        let mut table = DoneTable::default();
        table.insert(Toi(1), done(Instant::from_nanos(0)));
        table.note(Toi(1), Some(b"fti"), DropReason::Repeat, None);
        assert!(table.like_last(Toi(1), Some(b"fti")).is_some());
        for (toi, fti) in [(1, &b"ftj"[..]), (1, b""), (1, b"fti."), (2, b"fti")] {
            assert_eq!(table.like_last(Toi(toi), Some(fti)), None, "{toi} {fti:?}");
        }
        assert_eq!(table.like_last(Toi(1), None), None);
        table.note(Toi(1), None, DropReason::NotWanted, None);
        assert_eq!(table.like_last(Toi(1), None), Some((DropReason::NotWanted, None)));
        table.remove(Toi(1));
        assert_eq!(table.like_last(Toi(1), None), None, "it is received again");
        table.note(Toi(1), Some(&[0; 17]), DropReason::Repeat, None);
        assert_eq!(table.like_last(Toi(1), Some(&[0; 17])), None, "no EXT_FTI is as long");
    }

    #[test]
    fn entries_expire_that_are_neither_described_nor_repeated() {
        let at = |s: u64| Instant::from_nanos(s * 1_000_000_000);
        let mut table = DoneTable::default();
        for toi in 1..=4 {
            table.insert(Toi(toi), done(at(if toi == 2 { 10 } else { 5 })));
        }
        table.note(Toi(3), None, DropReason::Repeat, None);
        table.expire(at(10), |toi| toi == Toi(4));
        let left: Vec<bool> = (1..=4).map(|toi| table.get(Toi(toi)).is_some()).collect();
        assert_eq!(left, [false, true, true, true], "recent, repeated now, described");
        assert_eq!(table.order.len(), 3);
    }
}
