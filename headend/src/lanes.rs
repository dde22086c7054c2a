//! Queues of units on the air, for FLUTE objects and DSM-CC modules alike.
//!
//! ```text
//! new ───────────▶ fresh     never sent yet, in order                          ┐
//! hard period ───▶ timers    due again, from start to start                    ├─▶ the next unit to start
//! everything else ▶ schedule  longest weighted wait, or the promised cycle      │
//!                  └ between  short and due while a long unit is being sent     ┘
//! ```
//!
//! Units are numbers here. The caller knows their meaning, the one being sent, and everything with priority over units:
//! [`crate::air`] sends packets of objects, [`crate::multiplex`] blocks of modules.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

pub use crate::schedule::ItemId;
use crate::schedule::Schedule;

/// Interval of checks for due short units during a long one.
const BETWEEN_LOOK_NS: u64 = 1_000_000;
/// Duration of a wave on the link. Losses come in bursts, so a block must be spread over many times their length: with 5 %
/// loss in bursts of eight, and 10 % repair symbols, 6,000 packets keep a block's losses within its repair capacity 999
/// times out of 1000. Two seconds of a transponder are more, and the wait for an object of the carousel is longer anyway.
const WAVE_MS: u64 = 2000;

/// Symbols of a wave on a link of this rate.
pub const fn wave_symbols(rate_bps: u64) -> u64 {
    rate_bps * WAVE_MS / 1000 / (8 * 1400)
}

/// The queues.
#[derive(Debug)]
pub struct Lanes {
    fresh: VecDeque<ItemId>,
    schedule: Schedule,
    /// Due times of units with a hard period. Entries that differ from `due_ns` are stale.
    timers: BinaryHeap<Reverse<(u64, ItemId)>>,
    due_ns: HashMap<ItemId, u64>,
    between_look_ns: u64,
    rate_bps: u64,
    cycle_ns: Option<u64>,
}

impl Lanes {
    /// Empty queues. `rate_bps`: the schedule's part of the link; every scheduled unit is started once in `cycle_ns` if
    /// the link permits.
    pub fn new(rate_bps: u64, cycle_ns: Option<u64>) -> Self {
        Self {
            fresh: VecDeque::new(),
            schedule: Schedule::default(),
            timers: BinaryHeap::new(),
            due_ns: HashMap::new(),
            between_look_ns: 0,
            rate_bps: rate_bps.max(1),
            cycle_ns,
        }
    }

    /// Queues a new unit.
    pub fn add_fresh(&mut self, id: ItemId) {
        self.fresh.push_back(id);
    }

    /// Whether the unit waits for its first transmission.
    pub fn is_fresh(&self, id: ItemId) -> bool {
        self.fresh.contains(&id)
    }

    /// The first new unit that `may_go`.
    pub fn next_fresh(&mut self, may_go: impl Fn(ItemId) -> bool) -> Option<ItemId> {
        let at = self.fresh.iter().position(|&id| may_go(id))?;
        self.fresh.remove(at)
    }

    /// Whether every unit has been started.
    pub fn is_all_started(&self) -> bool {
        self.fresh.is_empty()
    }

    /// Removes all new units.
    pub fn clear_fresh(&mut self) {
        self.fresh.clear();
    }

    /// Sets the due time of a unit with a hard period.
    pub fn set_timer(&mut self, id: ItemId, due_ns: u64) {
        self.due_ns.insert(id, due_ns);
        self.timers.push(Reverse((due_ns, id)));
    }

    /// Whether the unit has a hard period.
    pub fn has_timer(&self, id: ItemId) -> bool {
        self.due_ns.contains_key(&id)
    }

    /// Takes a unit whose hard period has ended. It has no timer until the caller sets one.
    pub fn take_due(&mut self, now_ns: u64) -> Option<ItemId> {
        while let Some(&Reverse((due_ns, id))) = self.timers.peek()
            && due_ns <= now_ns
        {
            self.timers.pop();
            if self.due_ns.get(&id) == Some(&due_ns) {
                self.due_ns.remove(&id);
                return Some(id);
            }
        }
        None
    }

    /// End of the next hard period, possibly of a removed unit.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.timers.peek().map(|&Reverse((due_ns, _))| due_ns)
    }

    /// Schedules a unit of `bytes` on the link that was started at `now_ns`.
    pub fn schedule(&mut self, id: ItemId, weight: f64, bytes: u64, now_ns: u64) {
        self.schedule.add(id, weight, bytes, now_ns);
    }

    /// Removes a unit from the schedule.
    pub fn unschedule(&mut self, id: ItemId) {
        self.schedule.remove(id);
    }

    /// Removes a unit from every queue.
    pub fn remove(&mut self, id: ItemId) {
        self.schedule.remove(id);
        self.due_ns.remove(&id);
        self.fresh.retain(|&fresh| fresh != id);
    }

    /// Removes all units for which `stay` is false.
    pub fn retain(&mut self, stay: impl Fn(ItemId) -> bool) {
        self.fresh.retain(|&id| stay(id));
        self.due_ns.retain(|&id, _| stay(id));
        self.schedule.retain(stay);
    }

    /// The unit of the schedule to start now; it counts as started.
    pub fn next_scheduled(&mut self, now_ns: u64) -> Option<ItemId> {
        let pass_ns = self.schedule.bytes() as f64 * 8e9 / self.rate_bps as f64;
        let kept = self.cycle_ns.filter(|&cycle_ns| pass_ns <= cycle_ns as f64);
        self.schedule.next(now_ns, kept)
    }

    /// A short unit that is due during one with `left_bytes` remaining; it counts as started. Checked once in
    /// [`BETWEEN_LOOK_NS`].
    pub fn next_between(&mut self, now_ns: u64, left_bytes: impl FnOnce() -> Option<u64>) -> Option<ItemId> {
        if now_ns < self.between_look_ns {
            return None;
        }
        self.between_look_ns = now_ns + BETWEEN_LOOK_NS;
        self.schedule.due_between(now_ns, left_bytes()?, self.rate_bps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_units_keep_their_order_and_those_that_may_not_go_their_place() {
        let mut lanes = Lanes::new(1000, None);
        (1..=4).for_each(|id| lanes.add_fresh(id));
        assert_eq!(lanes.next_fresh(|id| id % 2 == 0), Some(2));
        lanes.remove(3);
        assert!(lanes.is_fresh(1) && !lanes.is_fresh(3) && !lanes.is_all_started());
        assert_eq!([lanes.next_fresh(|_| true), lanes.next_fresh(|_| true)], [Some(1), Some(4)]);
        assert!(lanes.is_all_started());
    }

    #[test]
    fn a_timer_that_is_set_again_or_removed_is_due_only_once() {
        let mut lanes = Lanes::new(1000, None);
        lanes.set_timer(1, 100);
        lanes.set_timer(1, 300);
        lanes.set_timer(2, 200);
        assert_eq!((lanes.take_due(99), lanes.next_due_ns()), (None, Some(100)));
        assert_eq!(lanes.take_due(250), Some(2));
        assert!(lanes.take_due(250).is_none() && lanes.has_timer(1) && !lanes.has_timer(2));
        assert_eq!((lanes.take_due(300), lanes.take_due(300)), (Some(1), None));
        lanes.set_timer(3, 400);
        lanes.remove(3);
        assert_eq!((lanes.take_due(1000), lanes.next_due_ns()), (None, None));
    }

    #[test]
    fn the_promised_cycle_counts_only_while_the_link_can_keep_it() {
        // 1000 bytes a second: one pass of both takes two seconds.
        let next_of = |cycle_ns| {
            let mut lanes = Lanes::new(8000, Some(cycle_ns));
            lanes.schedule(1, 1e-6, 1000, 0);
            lanes.schedule(2, 1e6, 1000, 1);
            lanes.next_scheduled(3_000_000_000)
        };
        assert_eq!(next_of(2_000_000_000), Some(1), "overdue goes first");
        assert_eq!(next_of(1_999_999_999), Some(2), "nothing is promised that cannot be kept");
    }

    #[test]
    fn short_units_are_looked_for_once_in_a_millisecond() {
        let mut lanes = Lanes::new(8000, None);
        lanes.schedule(1, 1.0, 1000, 0);
        let now_ns = 60_000_000_000;
        assert_eq!(lanes.next_between(now_ns, || Some(2000)), None, "half of what is left is not short");
        assert_eq!(lanes.next_between(now_ns, || panic!("looked at once more")), None);
        assert_eq!(lanes.next_between(now_ns + BETWEEN_LOOK_NS, || Some(1_000_000)), Some(1));
        assert_eq!(
            lanes.next_between(now_ns + 2 * BETWEEN_LOOK_NS, || Some(1_000_000)),
            None,
            "not due again"
        );
    }
}
