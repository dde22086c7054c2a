//! State of an object from its announcement to its end, and the table of all objects of a shard.

use std::collections::HashMap;
use std::sync::Arc;

use carousel::flute::{File, SessionKey};
use carousel::lct::Toi;
use carousel::time::Instant;

use super::ObjectRef;
use super::machine::VerificationId;
use super::repair::Task;

carousel::reasons! {
    /// States of objects in delivery: each has a gauge `skycache_delivery_objects_` with its label.
    pub enum State {
        /// Described by the FDT; no packet has come.
        Announced = "announced",
        /// Packets are coming.
        Arriving = "arriving",
        /// Incomplete, and packets have stopped.
        Stalled = "stalled",
        /// An origin is asked for missing ranges.
        Repairing = "repairing",
        /// Complete; the digest is being checked.
        Verifying = "verifying",
    }
}

/// An object that is neither held nor gone.
#[derive(Debug)]
pub(super) struct Object {
    /// `None`: it was opened by EXT_FTI and is not described yet.
    pub(super) file: Option<Arc<File>>,
    pub(super) state: State,
    pub(super) since: Instant,
    pub(super) repair: Option<Task>,
    /// The verification whose result is awaited in [`State::Verifying`].
    pub(super) verification: VerificationId,
}

/// The objects of all sessions. Empty tables are dropped, and others shrink.
#[derive(Debug, Default)]
pub(super) struct Objects {
    sessions: HashMap<SessionKey, HashMap<Toi, Object>>,
    /// Number of objects in each state.
    counts: [u64; State::ALL.len()],
}

impl Objects {
    pub(super) fn get(&self, object: &ObjectRef) -> Option<&Object> {
        self.sessions.get(&object.session)?.get(&object.toi)
    }

    /// For changes of anything but the state.
    pub(super) fn get_mut(&mut self, object: &ObjectRef) -> Option<&mut Object> {
        self.sessions.get_mut(&object.session)?.get_mut(&object.toi)
    }

    pub(super) fn state(&self, object: &ObjectRef) -> Option<State> {
        self.get(object).map(|it| it.state)
    }

    pub(super) fn insert(&mut self, now: Instant, object: ObjectRef, file: Option<Arc<File>>, state: State) {
        let new = Object { file, state, since: now, repair: None, verification: VerificationId::default() };
        let old = self.sessions.entry(object.session).or_default().insert(object.toi, new);
        debug_assert!(old.is_none(), "an object enters once");
        self.counts[state as usize] += 1;
    }

    pub(super) fn set(&mut self, now: Instant, object: &ObjectRef, state: State) {
        let Some(found) = self.sessions.get_mut(&object.session).and_then(|it| it.get_mut(&object.toi))
        else {
            return;
        };
        self.counts[found.state as usize] -= 1;
        self.counts[state as usize] += 1;
        (found.state, found.since) = (state, now);
    }

    pub(super) fn remove(&mut self, object: &ObjectRef) -> Option<Object> {
        let of_session = self.sessions.get_mut(&object.session)?;
        let removed = of_session.remove(&object.toi)?;
        self.counts[removed.state as usize] -= 1;
        if of_session.is_empty() {
            self.sessions.remove(&object.session);
            self.sessions.shrink_to(2 * self.sessions.len() + 16);
        } else if of_session.capacity() > 4 * of_session.len() + 64 {
            of_session.shrink_to(2 * of_session.len());
        }
        Some(removed)
    }

    /// Memory of the objects of a session: places of the table, of which up to seven eighths are taken.
    pub(super) fn held_bytes(&self, session: &SessionKey) -> usize {
        let places = self.sessions.get(session).map_or(0, HashMap::capacity) * 8 / 7;
        places * (size_of::<(Toi, Object)>() + 1)
    }

    /// The objects that satisfy `requested`.
    pub(super) fn filter(&self, requested: impl Fn(&ObjectRef, &Object) -> bool) -> Vec<ObjectRef> {
        let all = self.sessions.iter().flat_map(|(&session, objects)| {
            objects.iter().map(move |(&toi, object)| (ObjectRef { session, toi }, object))
        });
        all.filter(|(at, object)| requested(at, object)).map(|(at, _)| at).collect()
    }

    pub(super) fn of_session(&self, session: &SessionKey) -> Vec<(ObjectRef, State)> {
        let objects = self.sessions.get(session).into_iter().flatten();
        objects.map(|(&toi, it)| (ObjectRef { session: *session, toi }, it.state)).collect()
    }

    pub(super) const fn counts(&self) -> [u64; State::ALL.len()] {
        self.counts
    }
}
