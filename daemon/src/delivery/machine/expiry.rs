//! Expiry: objects that end by time, by eviction, or with their session.

use std::sync::Arc;
use std::time::Duration;

use carousel::flute::{File, Receiver, SessionKey};
use carousel::time::{Instant, WallTime};

use super::Delivery;
use crate::delivery::ObjectRef;
use crate::delivery::object::{Object, State};
use crate::delivery::reasons::{GoneReason, RejectReason};
use crate::delivery::storage::ObjectStore;

carousel::limits! {
    /// Changes that wait to be polled before the timers of further sessions are processed.
    const MAX_EXPIRED_CHANGES: usize = 4096, "changes" {
        why: "A change of an object that has expired takes some 300 bytes; sessions of 100,000 objects may expire together.",
        full: "The timers of further sessions are due again at once, when the changes have been polled.",
        free: "When changes are polled.",
        test: "sessions_that_expire_together_are_processed_one_after_the_other",
    }
}

/// Interval at which timeouts of sessions are checked.
const TICK: Duration = Duration::from_millis(500);
/// Interval at which objects are looked up that another session may have replaced, and the time for which it grows by each described
/// file.
const REPLACED_SCAN: Duration = Duration::from_secs(10);
const REPLACED_SCAN_OF_FILE: Duration = Duration::from_micros(500);
/// A verification without a result after this time counts as lost, and the object is received again.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(1800);

impl<S: ObjectStore> Delivery<S> {
    /// Forgets objects that have left the cache, so that they are received again in the next cycle.
    pub fn handle_evictions(&mut self) {
        let store = &self.store;
        for (key, receiver) in self.sessions.iter_mut() {
            receiver.forget_unless(|file| store.still_holds(key, file));
        }
    }

    /// Closes the sessions for which `keep` is false.
    pub fn close_sessions(&mut self, now: Instant, mut keep: impl FnMut(&SessionKey) -> bool) {
        for (key, receiver) in self.sessions.extract(|key, _| keep(key)) {
            self.end_session(now, key, receiver);
        }
        self.close_routes(now, keep);
    }

    /// Processes all timers that are due. Call it at the instant of [`Delivery::poll_timeout`]; early calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant, wall: Option<WallTime>) {
        while let Some(object) = self.repairs.expired(now) {
            self.repair_timer(now, object);
        }
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        if now >= self.next_checkpoint {
            self.checkpoint(now);
        }
        let keys: Vec<SessionKey> = self.sessions.iter().map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(receiver) = self.sessions.get_mut(&key) {
                let store = &self.store;
                receiver.give_up(now, |buf| store.is_lost(buf));
                receiver.handle_timeout(now, wall);
            }
            self.events(now, key);
            if self.changes.len() >= MAX_EXPIRED_CHANGES {
                self.next_tick = now;
                break;
            }
        }
        self.live_timeout(now);
        self.distrust(now);
        self.regain_replaced(now);
        self.keep_within_budget(now);
        for (key, receiver) in self.sessions.expire(now) {
            self.counters.sessions_expired += 1;
            self.end_session(now, key, receiver);
        }
        if now >= self.next_scan {
            self.next_scan = now + VERIFY_TIMEOUT / 4;
            let late = |_: &ObjectRef, it: &Object| {
                it.state == State::Verifying && now.since(it.since) >= VERIFY_TIMEOUT
            };
            for object in self.objects.filter(late) {
                self.reject(now, object, RejectReason::Lost);
            }
        }
    }

    /// Receives objects again whose place in the cache another session's have taken: if that has ended, the next cycle brings them
    /// back. While both are sent, they alternate at this interval.
    fn regain_replaced(&mut self, now: Instant) {
        if now < self.next_replaced_scan {
            return;
        }
        let Self { store, sessions, .. } = self;
        let mut files: u32 = 0;
        for (key, receiver) in sessions.iter_mut() {
            files = files.saturating_add(u32::try_from(receiver.table().len()).unwrap_or(u32::MAX));
            receiver.forget_replaced(|file| store.holds_other(key, file));
        }
        self.next_replaced_scan = now + REPLACED_SCAN + REPLACED_SCAN_OF_FILE * files;
    }

    /// Handles the loss of trust in a key: sessions that it has signed end, and what other keys sign is received again.
    fn distrust(&mut self, now: Instant) {
        let generation = self.trust.generation();
        if std::mem::replace(&mut self.trust_generation, generation) == generation {
            return;
        }
        let trust = Arc::clone(&self.trust);
        let is_trusted = |file: &File| file.signed_by.as_ref().is_none_or(|by| trust.still_trusts(by));
        for (key, receiver) in self.sessions.extract(|_, receiver| receiver.describes_only(is_trusted)) {
            self.end_session(now, key, receiver);
        }
    }

    /// When [`Delivery::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Instant {
        self.repairs.next_timer().map_or(self.next_tick, |timer| timer.min(self.next_tick))
    }

    pub(in crate::delivery) fn end_session(
        &mut self,
        now: Instant,
        session: SessionKey,
        receiver: Receiver<S::Buf>,
    ) {
        self.end_joining(now, session);
        let (in_flight, _, stats) = receiver.close();
        self.ended += &stats;
        for object in in_flight {
            let at = ObjectRef { session, toi: object.toi() };
            self.leave(at, GoneReason::SessionEnded, Some(object.into_buf()));
        }
        for (object, state) in self.objects.of_session(&session) {
            // Complete objects are still verified and published.
            if state != State::Verifying {
                self.leave(object, GoneReason::SessionEnded, None);
            }
        }
    }
}
