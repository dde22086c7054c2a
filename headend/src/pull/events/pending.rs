//! Keys of events that were not checked in the store yet, and the latest events.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::EventOutcome;
use super::message::{Event, Happened, Moment};

carousel::limits! {
    /// Keys of a source with events, which wait to be checked in the store.
    pub(super) const MAX_PENDING_KEYS: usize = 10_000, "keys" {
        why: "Each takes up to 1100 bytes; so many are listed faster than they are looked at one by one.",
        full: "All of them are forgotten as `replaced`, and a listing of the bucket takes their place.",
        free: "When they are looked at, or replaced.",
        test: "too_many_keys_are_replaced_by_a_listing",
    }

    /// Keys of a source whose newest event is remembered.
    pub(super) const MAX_RECENT_KEYS: usize = 10_000, "keys" {
        why: "Each takes up to 1200 bytes; an event that comes twice, or late, does so within minutes.",
        full: "The oldest is forgotten: an older event would have its key requested again, which does no harm.",
        free: "After ten minutes.",
        test: "events_that_come_twice_or_late_are_known_for_a_while",
    }
}

/// Time for which the newest event of a key is remembered.
const RECENT: Duration = Duration::from_secs(600);

/// Content of an event about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pull) struct Change {
    pub(in crate::pull) happened: Happened,
    /// ETag in the event, without quotes.
    pub(in crate::pull) etag: Option<String>,
}

/// A key that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pull) enum Waiting {
    /// All its events say the same.
    Alike(Change),
    /// They differ, and only the store knows which was the last.
    Mixed,
}

impl Waiting {
    fn merge(&mut self, change: Change) {
        if *self != Self::Alike(change) {
            *self = Self::Mixed;
        }
    }
}

#[derive(Debug)]
struct RecentEvent {
    change: Change,
    moment: Moment,
    at: Instant,
}

impl RecentEvent {
    /// Whether the event repeats this one.
    fn is_of(&self, change: &Change, moment: &Moment) -> bool {
        self.change == *change && moment.is_that_of(&self.moment)
    }
}

/// Keys to check with their newest change, and the newest event of each recent key, which recognises repeats.
#[derive(Debug, Default)]
pub(in crate::pull) struct Pending {
    keys: BTreeMap<String, Waiting>,
    recent: HashMap<String, RecentEvent>,
    /// Keys of `recent`, the oldest first; one may be there several times.
    order: VecDeque<(Instant, String)>,
}

impl Pending {
    /// Queues an event of one key. Returns its outcome if that is settled; `Replaced` means that all waiting keys are
    /// dropped and the bucket must be listed.
    pub(in crate::pull) fn take(&mut self, key: &str, event: &Event, now: Instant) -> Option<EventOutcome> {
        self.forget(now);
        let change = Change { happened: event.happened, etag: event.etag.clone() };
        // None is skipped for being older: neither stores' counters nor clocks order events reliably, and a request does no
        // harm.
        if self.recent.get(key).is_some_and(|it| it.is_of(&change, &event.moment)) {
            return Some(EventOutcome::Repeated);
        }
        if !self.keys.contains_key(key) && self.keys.len() >= MAX_PENDING_KEYS {
            self.keys.clear();
            return Some(EventOutcome::Replaced);
        }
        self.remember(key, RecentEvent { change: change.clone(), moment: event.moment.clone(), at: now });
        match self.keys.get_mut(key) {
            Some(waiting) => {
                waiting.merge(change);
                Some(EventOutcome::Merged)
            }
            None => {
                self.keys.insert(key.to_owned(), Waiting::Alike(change));
                None
            }
        }
    }

    fn remember(&mut self, key: &str, taken: RecentEvent) {
        self.order.push_back((taken.at, key.to_owned()));
        self.recent.insert(key.to_owned(), taken);
        while self.recent.len() > MAX_RECENT_KEYS || self.order.len() > 2 * MAX_RECENT_KEYS {
            self.forget_oldest();
        }
    }

    fn forget(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(at, _)| now.duration_since(*at) >= RECENT) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((at, key)) = self.order.pop_front()
            && self.recent.get(&key).is_some_and(|it| it.at == at)
        {
            self.recent.remove(&key);
        }
    }

    /// Keys that wait.
    pub(in crate::pull) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Removes and returns all waiting keys.
    pub(in crate::pull) fn drain(&mut self) -> BTreeMap<String, Waiting> {
        std::mem::take(&mut self.keys)
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::read;
    use super::super::message::tests::amazon;
    use super::*;

    fn event(name: &str, etag: &str, sequencer: &str) -> Event {
        read(amazon(name, "films", "a", etag, sequencer).as_bytes()).pop().unwrap().unwrap()
    }

    #[test]
    fn of_events_that_differ_the_store_is_asked_in_whichever_order_they_come() {
        let (put, delete) = (event("ObjectCreated:Put", "e", "05"), event("ObjectRemoved:Delete", "", "06"));
        let other = event("ObjectCreated:Put", "f", "07");
        let now = Instant::now();
        for (first, second) in [(&put, &delete), (&delete, &put), (&put, &other), (&other, &put)] {
            let mut pending = Pending::default();
            assert_eq!(pending.take("a", first, now), None);
            assert_eq!(pending.take("a", second, now), Some(EventOutcome::Merged));
            assert_eq!(pending.take("a", second, now), Some(EventOutcome::Repeated));
            assert_eq!(pending.drain(), BTreeMap::from([("a".to_owned(), Waiting::Mixed)]));
        }
        // The same of another moment, as the second of an upload in parts.
        let mut pending = Pending::default();
        assert_eq!(pending.take("a", &put, now), None);
        assert_eq!(
            pending.take("a", &event("ObjectCreated:Put", "e", "08"), now),
            Some(EventOutcome::Merged)
        );
        let change = Change { happened: Happened::Created, etag: Some("e".to_owned()) };
        assert_eq!(pending.drain()["a"], Waiting::Alike(change));
    }

    #[test]
    fn a_sequencer_that_counts_from_its_lowest_byte_hides_nothing() {
        // Ceph: 0x692BE2FF and then 0x692BE300, written with the lowest byte first.
        let (older, newer) = ("FFE22B69A0860100", "00E32B69A0860100");
        let now = Instant::now();
        let mut pending = Pending::default();
        assert_eq!(pending.take("a", &event("ObjectCreated:Put", "e", older), now), None);
        pending.drain();
        assert_eq!(pending.take("a", &event("ObjectCreated:Put", "f", newer), now), None);
        assert_eq!(pending.len(), 1, "it is looked at");
        assert_eq!(
            pending.take("a", &event("ObjectRemoved:Delete", "", older), now),
            Some(EventOutcome::Merged)
        );
    }

    #[test]
    fn events_that_come_twice_or_late_are_known_for_a_while() {
        let now = Instant::now();
        let mut pending = Pending::default();
        let (put, again) = (event("ObjectCreated:Put", "e", "05"), event("ObjectCreated:Put", "f", "06"));
        assert_eq!(pending.take("a", &again, now), None);
        pending.drain();
        assert_eq!(pending.take("a", &again, now), Some(EventOutcome::Repeated));
        assert_eq!(pending.take("a", &put, now), None, "another one: it may be older, and may be not");
        pending.drain();
        assert_eq!(pending.take("b", &put, now), None, "another key");
        assert_eq!(pending.take("a", &put, now), Some(EventOutcome::Repeated));
        assert_eq!(pending.take("a", &put, now + RECENT), None, "nothing is remembered forever");
        // Without sequencers only the same event is known: clocks differ.
        let (mut early, mut same) =
            (event("ObjectCreated:Put", "e", ""), event("ObjectCreated:Put", "g", ""));
        assert_eq!(pending.take("c", &early, now), None);
        pending.drain();
        assert_eq!(pending.take("c", &early, now), Some(EventOutcome::Repeated));
        assert_eq!(pending.take("c", &same, now), None, "another version at the same time");
        pending.drain();
        early.etag = None;
        same.etag = None;
        assert_eq!(pending.take("c", &early, now), None);
        for number in 0..3 * MAX_RECENT_KEYS {
            pending.take(
                &(number % MAX_RECENT_KEYS + 5).to_string(),
                &event("ObjectCreated:Put", "e", &format!("{number:08X}")),
                now,
            );
            pending.drain();
        }
        assert!(pending.recent.len() <= MAX_RECENT_KEYS && pending.order.len() <= 2 * MAX_RECENT_KEYS);
    }

    #[test]
    fn too_many_keys_are_replaced_by_a_listing() {
        let now = Instant::now();
        let mut pending = Pending::default();
        let put = event("ObjectCreated:Put", "e", "05");
        for number in 0..MAX_PENDING_KEYS {
            assert_eq!(pending.take(&number.to_string(), &put, now), None);
        }
        let next = event("ObjectCreated:Put", "f", "06");
        assert_eq!(pending.take("0", &next, now), Some(EventOutcome::Merged), "it has its place");
        assert_eq!(pending.take("one more", &put, now), Some(EventOutcome::Replaced));
        assert_eq!(pending.len(), 0);
        assert_eq!(pending.take("one more", &put, now), None, "there is room again");
    }
}
