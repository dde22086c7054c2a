//! Announcements: objects that FDT Instances describe, and those that are no longer described.

use std::sync::Arc;

use carousel::flute::{File, SessionKey};
use carousel::lct::Toi;
use carousel::time::Instant;

use super::{Change, Delivery};
use crate::delivery::ObjectRef;
use crate::delivery::object::State;
use crate::delivery::reasons::GoneReason;
use crate::delivery::repair::Kind;
use crate::delivery::storage::{Lookup, ObjectStore};

impl<S: ObjectStore> Delivery<S> {
    pub(super) fn described(&mut self, now: Instant, session: SessionKey, files: Vec<Arc<File>>) {
        let mut announced = Vec::new();
        for file in files {
            let object = ObjectRef { session, toi: file.toi };
            let state = self.objects.state(&object);
            let lookup = self.store.look_up(&session, &file);
            match state {
                // The object being verified is the previous one with this TOI.
                Some(State::Verifying) => self.leave(object, GoneReason::Replaced, None),
                Some(_) => self.set_file(object, Some(Arc::clone(&file))),
                None => {}
            }
            match lookup {
                Lookup::Held => {
                    if self.objects.state(&object) == Some(State::Announced) {
                        self.leave_held(object);
                    }
                    continue;
                }
                Lookup::Unusable | Lookup::Outranked => {
                    if lookup == Lookup::Unusable {
                        self.changes.push_back(Change::Unusable(object, Arc::clone(&file)));
                    }
                    if self.objects.get(&object).is_none() {
                        self.enter(now, object, Some(file), State::Announced);
                        self.leave(object, GoneReason::NotWanted, None);
                    }
                    continue;
                }
                Lookup::Missing => announced.push(Arc::clone(&file)),
                Lookup::Signalling => {}
            }
            if self.objects.get(&object).is_none() {
                self.enter(now, object, Some(file), State::Announced);
            }
        }
        if !announced.is_empty() {
            self.changes.push_back(Change::Announced(session, announced));
        }
    }

    /// Announces again an object that was given up and is still described.
    pub(super) fn announce_again(&mut self, now: Instant, object: ObjectRef) {
        let receiver = self.sessions.get_mut(&object.session);
        let Some(file) = receiver.and_then(|it| it.table().get(object.toi).cloned()) else { return };
        let lookup = self.store.look_up(&object.session, &file);
        if matches!(lookup, Lookup::Held | Lookup::Unusable | Lookup::Outranked)
            || self.objects.get(&object).is_some()
        {
            return;
        }
        self.enter(now, object, Some(Arc::clone(&file)), State::Announced);
        if lookup == Lookup::Missing {
            self.changes.push_back(Change::Announced(object.session, vec![file]));
        }
    }

    /// Withdraws announcements of files that are no longer described; those in flight continue.
    pub(super) fn expired(&mut self, session: SessionKey, files: Vec<Arc<File>>) {
        for file in files {
            let object = ObjectRef { session, toi: file.toi };
            self.changes.push_back(Change::Withdrawn(object, file));
            if self.objects.state(&object) == Some(State::Announced) {
                self.leave(object, GoneReason::Expired, None);
            }
        }
    }

    /// Handles a session that was closed or has fallen silent: objects that were described and never sent are repaired.
    pub(super) fn session_over(&mut self, now: Instant, session: SessionKey, is_closed: bool) {
        let receiver = self.sessions.get_mut(&session);
        // A session of control packets alone, which anybody can send, was none.
        if receiver.as_ref().is_some_and(|it| it.stats().stored > 0 || it.stats().fdt > 0) {
            self.changes.push_back(Change::SessionOver(session, is_closed));
        }
        let unseen: Vec<Toi> = receiver.into_iter().flat_map(|it| it.unseen().map(|file| file.toi)).collect();
        for toi in unseen {
            let object = ObjectRef { session, toi };
            // An object that is not in the table is held, or signalling: both were reported with their description by
            // look_up.
            let found = self.objects.get(&object);
            let is_unseen = found.is_some_and(|it| it.state == State::Announced);
            let file = found.and_then(|it| it.file.clone());
            if is_unseen && file.is_some_and(|it| self.store.look_up(&session, &it) == Lookup::Missing) {
                self.start_repair(now, object, Kind::Unseen, None);
            }
        }
    }
}
