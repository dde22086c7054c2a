//! Keys that events have told of and that have not been looked at yet, and the events that were taken last.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::EventOutcome;
use super::message::{Event, Happened, Moment};

carousel::limits! {
    /// Keys of a source that events have told of and that wait to be looked at.
    pub(super) const MAX_PENDING_KEYS: usize = 10_000, "keys" {
        why: "Each takes up to 1100 bytes; so many are listed faster than they are looked at one by one.",
        full: "All of them are forgotten as `replaced`, and a listing of the bucket takes their place.",
        free: "When they are looked at, or replaced.",
        test: "too_many_keys_are_replaced_by_a_listing",
    }

    /// Keys of a source whose newest event is remembered.
    pub(super) const MAX_RECENT_KEYS: usize = 10_000, "keys" {
        why: "Each takes up to 1200 bytes; an event that comes twice, or late, does so within minutes.",
        full: "The oldest is forgotten: an event of before it would have its key looked at again, which does no harm.",
        free: "After ten minutes.",
        test: "events_that_come_twice_or_late_are_known_for_a_while",
    }
}

/// Time for which the newest event of a key is remembered.
const RECENT: Duration = Duration::from_secs(600);

/// A key that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pull) struct Waiting {
    pub(in crate::pull) happened: Happened,
    /// ETag in the event, without quotes.
    pub(in crate::pull) etag: Option<String>,
    moment: Moment,
}

#[derive(Debug)]
struct Taken {
    happened: Happened,
    etag: Option<String>,
    moment: Moment,
    at: Instant,
}

/// See the module head.
#[derive(Debug, Default)]
pub(in crate::pull) struct Pending {
    keys: BTreeMap<String, Waiting>,
    recent: HashMap<String, Taken>,
    /// Keys of `recent`, the oldest first; one may be there several times.
    order: VecDeque<(Instant, String)>,
}

impl Pending {
    /// Takes an event of one key. Gives what became of it, if that is settled; `replaced` says that all keys that waited are
    /// forgotten and the bucket must be listed.
    pub(in crate::pull) fn take(&mut self, key: &str, event: &Event, now: Instant) -> Option<EventOutcome> {
        self.forget(now);
        let Event { happened, etag, moment, .. } = event;
        if let Some(newest) = self.recent.get(key) {
            let order = moment.order(&newest.moment);
            let is_same = *happened == newest.happened && *etag == newest.etag;
            let is_by_store = moment.has_sequencer() && newest.moment.has_sequencer();
            // Clocks of several machines order nothing for sure: a key is looked at once too often rather than not at all.
            let is_known = match order {
                Some(Ordering::Less) => is_by_store,
                Some(Ordering::Equal) => is_same,
                Some(Ordering::Greater) | None => false,
            };
            if is_known {
                return Some(EventOutcome::Repeated);
            }
        }
        if !self.keys.contains_key(key) && self.keys.len() >= MAX_PENDING_KEYS {
            self.keys.clear();
            return Some(EventOutcome::Replaced);
        }
        let waiting = Waiting { happened: *happened, etag: etag.clone(), moment: moment.clone() };
        let is_older = |it: &Waiting| moment.order(&it.moment) == Some(Ordering::Less);
        let was_there = match self.keys.get(key) {
            Some(it) if is_older(it) => return Some(EventOutcome::Merged),
            there => there.is_some(),
        };
        self.keys.insert(key.to_owned(), waiting);
        self.remember(key, event, now);
        was_there.then_some(EventOutcome::Merged)
    }

    fn remember(&mut self, key: &str, event: &Event, now: Instant) {
        let taken = Taken {
            happened: event.happened,
            etag: event.etag.clone(),
            moment: event.moment.clone(),
            at: now,
        };
        self.recent.insert(key.to_owned(), taken);
        self.order.push_back((now, key.to_owned()));
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

    /// All of them, which do not wait any more.
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
    fn the_newest_event_of_a_key_counts_in_whichever_order_they_come() {
        let (put, delete) = (event("ObjectCreated:Put", "e", "05"), event("ObjectRemoved:Delete", "", "06"));
        let now = Instant::now();
        for (first, second) in [(&put, &delete), (&delete, &put)] {
            let mut pending = Pending::default();
            assert_eq!(pending.take("a", first, now), None);
            assert!(matches!(
                pending.take("a", second, now),
                Some(EventOutcome::Merged | EventOutcome::Repeated)
            ));
            let keys = pending.drain();
            assert_eq!((keys.len(), keys["a"].happened), (1, Happened::Removed));
        }
    }

    #[test]
    fn events_that_come_twice_or_late_are_known_for_a_while() {
        let now = Instant::now();
        let mut pending = Pending::default();
        let (put, again) = (event("ObjectCreated:Put", "e", "05"), event("ObjectCreated:Put", "f", "06"));
        assert_eq!(pending.take("a", &again, now), None);
        pending.drain();
        assert_eq!(pending.take("a", &again, now), Some(EventOutcome::Repeated));
        assert_eq!(pending.take("a", &put, now), Some(EventOutcome::Repeated), "it is older");
        assert_eq!(pending.take("b", &put, now), None, "another key");
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
