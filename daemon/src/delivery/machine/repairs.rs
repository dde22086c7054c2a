//! Repairs: tasks of objects, their timers, and the requests that they lead to.

use std::sync::Arc;

use carousel::flute::{Encoding, InFlight, Joiner, SessionKey};
use carousel::repair::{ATTEMPTS, holes, requests};
use carousel::time::Instant;

use super::{Change, Delivery};
use crate::delivery::ObjectRef;
use crate::delivery::object::State;
use crate::delivery::reasons::{GoneReason, RepairError, RepairOutcome};
use crate::delivery::repair::{
    self, CLIENT_PATIENCE, DECODING, FETCH_TIMEOUT, Kind, LOOK, MAX_PENDING, Phase, RepairRequest,
    RequestedBytes, Task,
};
use crate::delivery::rules;
use crate::delivery::storage::{Lookup, ObjectStore};

impl<S: ObjectStore> Delivery<S> {
    /// Handles bytes of an object from an origin.
    pub fn handle_repair(&mut self, now: Instant, object: ObjectRef, offset: u64, bytes: &[u8]) {
        let Some(receiver) = self.sessions.get_mut(&object.session) else { return };
        receiver.repair(object.toi, offset, bytes, &mut self.store.session_storage(object.session));
        if let Some(in_flight) = receiver.object(object.toi) {
            self.store.set_stalled(in_flight.buf(), None);
            self.touch_joined(now, object.session);
        }
        self.came_otherwise(now, object);
    }

    /// Handles the end of a repair request. `Ok` for [`RequestedBytes::Complete`]: the cache holds the object now.
    pub fn handle_repair_done(&mut self, now: Instant, object: ObjectRef, result: Result<(), RepairError>) {
        let task = self.objects.get_mut(&object).and_then(|it| it.repair.as_mut());
        let Some(task) = task.filter(|task| task.phase == Phase::Fetching) else { return };
        let (kind, is_hurried, attempt) = (task.kind, task.is_hurried, task.attempt);
        let receiver = self.sessions.get_mut(&object.session);
        let in_flight = receiver.as_deref().and_then(|it| it.object(object.toi));
        let is_being_decoded = in_flight.is_some_and(InFlight::is_being_decoded);
        let is_identity =
            in_flight.and_then(InFlight::file).is_some_and(|file| file.encoding == Encoding::Identity);
        match result {
            Ok(()) if kind == Kind::Unseen || !is_identity => {
                if let Some(receiver) = receiver {
                    receiver.hold(object.toi);
                }
                self.end_repair(object, Some(RepairOutcome::Repaired));
                self.leave_held(object);
            }
            // These bytes were requested for decoding.
            Ok(()) if is_being_decoded => {
                task.phase = Phase::Decoding;
                self.repairs.set_timer(object, task, now + DECODING);
            }
            // The carousel sends the rest; if it does not, the client's next request starts another repair.
            Ok(()) if is_hurried => self.stop_repair(now, object, None),
            Ok(()) | Err(RepairError::Failed) => self.retry(now, object),
            Err(RepairError::CircuitOpen) => {
                if attempt > 0 {
                    self.repairs.budget.give_back();
                }
                self.retry(now, object);
            }
            Err(err) => {
                let outcome = match err {
                    RepairError::NoOrigin => RepairOutcome::NoOrigin,
                    RepairError::Refused => RepairOutcome::Refused,
                    RepairError::Mismatch => RepairOutcome::Mismatch,
                    _ => RepairOutcome::NotNeeded,
                };
                self.stop_repair(now, object, Some(outcome));
            }
        }
    }

    /// Handles a client's request for an object in flight.
    pub fn handle_request(&mut self, now: Instant, object: ObjectRef) {
        let needed_by = now + self.options.client_patience;
        let store = &self.store;
        if let Some(buf) = self.sessions.get_mut(&object.session).and_then(|it| it.object(object.toi)) {
            store.request_seen(buf.buf());
        } else if self.request_growing(now, object) {
            return;
        }
        let Some(found) = self.objects.get_mut(&object) else { return };
        let Some(task) = &mut found.repair else {
            if matches!(found.state, State::Arriving | State::Stalled) {
                self.start_repair(now, object, Kind::Ranges, Some(needed_by));
            }
            return;
        };
        task.needed_by = Some(needed_by);
        if task.phase == Phase::Waiting {
            self.repairs.set_timer(object, task, now);
        } else {
            task.skips_wait = true;
        }
    }

    /// Whether [`Delivery::poll_repair`] may return a request.
    pub fn has_repairs(&self) -> bool {
        self.repairs.has_due()
    }

    /// The next repair request: answer with [`Delivery::handle_repair`] and, in the end,
    /// [`Delivery::handle_repair_done`].
    pub fn poll_repair(&mut self, now: Instant) -> Option<RepairRequest> {
        while let Some(object) = self.repairs.pop_due() {
            let Some(found) = self.objects.get_mut(&object) else { continue };
            let Some(task) = &mut found.repair else { continue };
            let Phase::Due { only_holes } = task.phase else { continue };
            let (attempt, needed_by, kind) = (task.attempt, task.needed_by, task.kind);
            let receiver = self.sessions.get_mut(&object.session);
            let in_flight = receiver.as_deref().and_then(|it| it.object(object.toi));
            let file = in_flight.and_then(|it| it.file().cloned()).or_else(|| found.file.clone());
            let Some(file) = file else { continue };
            let requested = match in_flight {
                Some(in_flight) if kind == Kind::Ranges && file.encoding == Encoding::Identity => {
                    let received = in_flight.received();
                    let length = received.length();
                    let mut ranges = match only_holes {
                        true => requests(holes(received.missing(), length), length),
                        false if attempt == 0 => requests(in_flight.needed(), length),
                        false => Vec::new(),
                    };
                    // Nothing is left to request, and decoding has failed or is not over.
                    if ranges.is_empty() && !only_holes {
                        ranges = requests(received.missing(), length);
                    }
                    (!ranges.is_empty()).then(|| RequestedBytes::Ranges(ranges, Arc::clone(received)))
                }
                None if kind == Kind::Ranges => None,
                _ if self.store.look_up(&object.session, &file) == Lookup::Missing => {
                    Some(RequestedBytes::Complete)
                }
                _ => None,
            };
            let Some(requested) = requested else {
                self.stop_repair(now, object, Some(RepairOutcome::NotNeeded));
                continue;
            };
            task.phase = Phase::Fetching;
            self.repairs.set_timer(object, task, now + FETCH_TIMEOUT);
            self.objects.set(now, &object, State::Repairing);
            return Some(RepairRequest { object, file, requested, attempt, needed_by });
        }
        None
    }

    pub(super) fn start_repair(
        &mut self,
        now: Instant,
        object: ObjectRef,
        kind: Kind,
        needed_by: Option<Instant>,
    ) {
        let Some(found) = self.objects.get_mut(&object) else { return };
        if !self.options.repairs || found.repair.is_some() {
            return;
        }
        if self.repairs.tasks >= MAX_PENDING {
            self.repairs.count(RepairOutcome::TooMany);
            self.changes.push_back(Change::Repaired(object, RepairOutcome::TooMany));
            return;
        }
        self.repairs.tasks += 1;
        found.repair = Some(Task::new(kind, needed_by));
        self.report_stalled(now, object);
        let next_pass = match kind {
            Kind::Ranges => self.sessions.get_mut(&object.session).and_then(|it| it.next_pass(object.toi)),
            Kind::Unseen => None,
        };
        let until_begin = next_pass.filter(|&at| at > now).map(|at| at.since(now));
        let patience = match until_begin {
            Some(wait) if needed_by.is_some() => (wait <= CLIENT_PATIENCE).then_some(wait),
            // The pass begins by then; allow the reception timeout on top, after which missing packets are noticed.
            Some(wait) => (wait <= self.options.carousel_wait).then(|| wait + self.options.reception_timeout),
            None => None,
        };
        self.schedule(now + patience.unwrap_or_default(), object);
    }

    /// Sets the timer of the next attempt.
    pub(super) fn schedule(&mut self, from: Instant, object: ObjectRef) {
        let rule = self.rules.get(&object.session);
        let back_off = rules::back_off(rule.as_deref(), self.options.back_off);
        let random = self.next_random();
        let Some(task) = self.objects.get_mut(&object).and_then(|it| it.repair.as_mut()) else { return };
        task.phase = Phase::Waiting;
        let wait = repair::wait(task, back_off, random);
        self.repairs.set_timer(object, task, from + wait);
    }

    pub(super) fn repair_timer(&mut self, now: Instant, object: ObjectRef) {
        let Some(found) = self.objects.get_mut(&object) else { return };
        let Some(task) = &mut found.repair else { return };
        match task.phase {
            Phase::Waiting => {
                if task.attempt == 0 {
                    self.repairs.budget.earn();
                } else if !self.repairs.budget.spend() {
                    self.retry(now, object);
                    return;
                }
                let received = self.received_bytes(&object);
                let Some(task) = self.objects.get_mut(&object).and_then(|it| it.repair.as_mut()) else {
                    return;
                };
                if let Some(received) = received.filter(|_| task.is_hurried && task.attempt == 0) {
                    task.phase = Phase::Looking(received);
                    self.repairs.set_timer(object, task, now + LOOK);
                } else {
                    self.due(object, false);
                }
            }
            Phase::Looking(before) => match self.received_bytes(&object) {
                Some(received) if received != before => {
                    // The carousel is sending it: request only the ranges that it has passed.
                    let receiver = self.sessions.get_mut(&object.session);
                    let passed = receiver.and_then(|it| {
                        let received = it.object(object.toi)?.received();
                        Some(holes(received.missing(), received.length()).next().is_some())
                    });
                    if passed == Some(true) {
                        self.due(object, true);
                    } else {
                        self.stop_repair(now, object, None);
                    }
                }
                _ => self.due(object, false),
            },
            Phase::Fetching | Phase::Decoding => self.retry(now, object),
            Phase::Due { .. } | Phase::Settling => {}
        }
    }

    /// Bytes received of an object in flight; `None` if its ranges cannot be repaired.
    pub(super) fn received_bytes(&mut self, object: &ObjectRef) -> Option<u64> {
        let in_flight = self.sessions.get_mut(&object.session)?.object(object.toi)?;
        let is_identity = in_flight.file()?.encoding == Encoding::Identity;
        is_identity.then(|| in_flight.received().received_bytes())
    }

    pub(super) fn due(&mut self, object: ObjectRef, only_holes: bool) {
        let Some(task) = self.objects.get_mut(&object).and_then(|it| it.repair.as_mut()) else { return };
        task.phase = Phase::Due { only_holes };
        self.repairs.push_due(object, task);
    }

    /// Schedules the next attempt after a failed one, or gives up.
    pub(super) fn retry(&mut self, now: Instant, object: ObjectRef) {
        let Some(task) = self.objects.get_mut(&object).and_then(|it| it.repair.as_mut()) else { return };
        task.attempt += 1;
        if task.attempt >= ATTEMPTS {
            self.stop_repair(now, object, Some(RepairOutcome::OriginFailed));
        } else {
            self.schedule(now, object);
            self.report_stalled(now, object);
        }
    }

    /// Ends the repair; the object returns to its previous state.
    pub(super) fn stop_repair(&mut self, now: Instant, object: ObjectRef, outcome: Option<RepairOutcome>) {
        self.end_repair(object, outcome);
        if self.objects.state(&object) != Some(State::Repairing) {
            self.report_stalled(now, object);
            return;
        }
        let receiver = self.sessions.get_mut(&object.session);
        let (is_stalled, described) = receiver.map_or((None, false), |it| {
            (it.object(object.toi).map(InFlight::is_stalled), it.table().get(object.toi).is_some())
        });
        match (is_stalled, described) {
            (Some(is_stalled), _) => {
                // A client was waiting, so the object was repaired while its packets arrived.
                let state = if is_stalled { State::Stalled } else { State::Arriving };
                self.objects.set(now, &object, state);
                self.report_stalled(now, object);
            }
            (None, true) => self.objects.set(now, &object, State::Announced),
            // It expired during the request.
            (None, false) => self.leave(object, GoneReason::Expired, None),
        }
    }

    /// Reports to the readers whether an object has stalled. After a failed repair it has, until bytes arrive.
    pub(super) fn report_stalled(&mut self, now: Instant, object: ObjectRef) {
        let receiver = self.sessions.get(&object.session);
        if let Some(in_flight) = receiver.and_then(|it| it.object(object.toi)) {
            let is_stalled = self.is_stalled(object.session, in_flight);
            self.store.set_stalled(in_flight.buf(), is_stalled.then_some(now));
            if in_flight.file().is_some_and(|file| Joiner::is_chunk(file)) {
                self.touch_joined(now, object.session);
            }
        }
    }

    /// Whether an object in flight has stalled: neither its packets nor an origin bring more of it.
    pub(in crate::delivery) fn is_stalled(&self, session: SessionKey, in_flight: &InFlight<S::Buf>) -> bool {
        let found = self.objects.get(&ObjectRef { session, toi: in_flight.toi() });
        let is_repaired = found.and_then(|it| it.repair.as_ref()).is_some_and(|task| task.attempt == 0);
        in_flight.is_stalled() && !is_repaired
    }

    pub(super) fn end_repair(&mut self, object: ObjectRef, outcome: Option<RepairOutcome>) {
        let Some(task) = self.objects.get_mut(&object).and_then(|it| it.repair.take()) else { return };
        self.repairs.end(task, outcome);
        if let Some(outcome) = outcome {
            self.changes.push_back(Change::Repaired(object, outcome));
        }
    }

    /// SplitMix64. No secret depends on it.
    pub(super) const fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
