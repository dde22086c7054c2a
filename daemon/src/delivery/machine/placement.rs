//! Placement: from the first symbol of an object to its verification.

use std::sync::Arc;
use std::time::Duration;

use carousel::fec::BlockId;
use carousel::flute::{File, InFlight, SessionKey};
use carousel::route::SIGNALLING_TSI;
use carousel::time::Instant;

use super::{Decode, Decoded, Delivery, VerificationId, Verify, Work};
use crate::delivery::ObjectRef;
use crate::delivery::object::State;
use crate::delivery::reasons::{GoneReason, RejectReason, RepairOutcome};
use crate::delivery::repair::Phase;
use crate::delivery::storage::ObjectStore;

/// Interval between checkpoints of large objects: the most that a power cut loses, against the cost of a sync.
const CHECKPOINT: Duration = Duration::from_secs(30);

impl<S: ObjectStore> Delivery<S> {
    /// Handles the result of decoding a source block of a FLUTE object. It is dropped if the object has ended.
    pub fn handle_decoded(&mut self, now: Instant, object: ObjectRef, block: BlockId, decoded: &Decoded) {
        let receiver = self.sessions.get_mut(&object.session);
        let is_open = receiver.is_some_and(|it| {
            let storage = &mut self.store.session_storage(object.session);
            it.recovered(object.toi, block, decoded.as_deref(), storage)
        });
        if is_open {
            self.came_otherwise(now, object);
        } else {
            self.counters.blocks_late += 1;
        }
    }

    pub(super) fn opened(&mut self, now: Instant, object: ObjectRef) {
        match self.objects.state(&object) {
            // The previous object is still being verified, and the sender has begun another.
            Some(State::Verifying) => self.leave(object, GoneReason::Replaced, None),
            Some(_) => return self.objects.set(now, &object, State::Arriving),
            None => {}
        }
        let receiver = self.sessions.get_mut(&object.session);
        let file = receiver.and_then(|it| it.object(object.toi)?.file().cloned());
        self.enter(now, object, file, State::Arriving);
    }

    /// Handles packets of a stalled object that have resumed. Cancels a repair that has not been sent: a single
    /// out-of-order or foreign close packet must not cause a request.
    pub(super) fn resumed(&mut self, now: Instant, object: ObjectRef) {
        let Some(found) = self.objects.get(&object) else { return };
        let task = found.repair.as_ref();
        let is_early =
            task.is_some_and(|it| it.phase == Phase::Waiting && it.attempt == 0 && it.needed_by.is_none());
        if is_early {
            self.end_repair(object, None);
        }
        if self.objects.state(&object) == Some(State::Stalled) {
            self.objects.set(now, &object, State::Arriving);
        }
        self.report_stalled(now, object);
    }

    pub(in crate::delivery) fn complete(
        &mut self,
        now: Instant,
        object: ObjectRef,
        file: Arc<File>,
        buf: S::Buf,
        repaired_symbols: u64,
    ) {
        self.store.flush_object(&buf);
        if self.objects.get(&object).is_none() {
            self.enter(now, object, Some(Arc::clone(&file)), State::Verifying);
        }
        self.set_file(object, Some(Arc::clone(&file)));
        self.objects.set(now, &object, State::Verifying);
        self.last_verification.0 += 1;
        let id = self.last_verification;
        if let Some(found) = self.objects.get_mut(&object) {
            found.verification = id;
        }
        let task = self.objects.get_mut(&object).and_then(|it| it.repair.as_mut());
        match task {
            Some(task) if matches!(task.phase, Phase::Fetching | Phase::Decoding) => {
                task.phase = Phase::Settling;
                self.repairs.clear_timer(task);
            }
            Some(_) => self.end_repair(object, Some(RepairOutcome::NotNeeded)),
            None => {}
        }
        let bytes = self.store.memory_bytes(&buf);
        if !self.work.has_room(bytes) {
            self.reject(now, object, RejectReason::QueueFull);
            return;
        }
        self.work.push(Work::Verify(Verify { object, id, file, buf, repaired_symbols }), bytes);
    }

    pub(super) fn block_ready(&mut self, now: Instant, object: ObjectRef, block: BlockId) {
        let Some(receiver) = self.sessions.get_mut(&object.session) else { return };
        let job = receiver.recovery_job(object.toi, block);
        let buf = receiver.object(object.toi).map(InFlight::buf);
        let Some((job, reader)) = job.zip(buf.and_then(|buf| self.store.reader(buf))) else { return };
        let is_too_large = job.memory_bytes() > self.options.block_bytes;
        if is_too_large || !self.work.has_room(0) {
            let counters = &mut self.counters;
            let counter =
                if is_too_large { &mut counters.blocks_too_large } else { &mut counters.blocks_refused };
            *counter += 1;
            self.handle_decoded(now, object, block, &None);
            return;
        }
        if let Some(buf) = buf {
            self.store.flush_object(buf);
        }
        self.work.push(Work::Decode(Decode { object, job, reader }), 0);
    }

    /// Handles bytes of an object that did not come in its packets.
    pub(super) fn came_otherwise(&mut self, now: Instant, object: ObjectRef) {
        self.store.flush();
        self.events(now, object.session);
        let receiver = self.sessions.get_mut(&object.session);
        if let Some(in_flight) = receiver.and_then(|it| it.object(object.toi)) {
            self.store.progress(in_flight.buf());
        }
    }

    /// Handles the result of a verification: the object is in the cache (or was passed on as signalling), or was
    /// rejected. It is dropped if the object has ended, or another one with its TOI has taken its place.
    pub fn handle_verified(
        &mut self,
        now: Instant,
        object: ObjectRef,
        id: VerificationId,
        result: Result<(), RejectReason>,
    ) {
        let found = self.objects.get(&object);
        if !found.is_some_and(|it| it.state == State::Verifying && it.verification == id) {
            return;
        }
        match result {
            Ok(()) => {
                self.end_repair(object, Some(RepairOutcome::Repaired));
                self.brought(object);
                self.leave_held(object);
            }
            Err(reason) => self.reject(now, object, reason),
        }
    }

    /// Credits the session with a verified object, which raises its rank against sessions without any.
    fn brought(&mut self, object: ObjectRef) {
        let Some(file) = self.objects.get(&object).and_then(|it| it.file.as_ref()) else { return };
        let (bytes, is_signed) = (file.on_air_length().unwrap_or(0), file.signed_by.is_some());
        let SessionKey { source, destination, tsi } = object.session;
        if let Some(receiver) = self.sessions.get_mut(&object.session) {
            receiver.brought(bytes, is_signed);
        }
        // Signalling documents are short and not verified.
        if tsi.0 != SIGNALLING_TSI {
            self.live.routes.with(&(source, destination), |it| it.brought(bytes));
        }
    }

    /// Rejects a chunk that differs from its description: it is received again in its next pass.
    pub(in crate::delivery) fn reject_chunk(&mut self, object: ObjectRef) {
        if let Some(receiver) = self.sessions.get_mut(&object.session) {
            receiver.reject(object.toi);
        }
    }

    /// Rejects a complete object: it is received again.
    pub(super) fn reject(&mut self, now: Instant, object: ObjectRef, reason: RejectReason) {
        self.counters.rejected[reason as usize] += 1;
        let is_mismatch = reason == RejectReason::Verify;
        let outcome = if is_mismatch { RepairOutcome::Mismatch } else { RepairOutcome::NotNeeded };
        self.end_repair(object, Some(outcome));
        let receiver = self.sessions.get_mut(&object.session);
        let is_described = receiver.is_some_and(|receiver| {
            if is_mismatch {
                receiver.reject_wrong(now, object.toi);
            } else {
                receiver.reject(object.toi);
            }
            receiver.table().get(object.toi).is_some()
        });
        if is_described {
            self.objects.set(now, &object, State::Announced);
        } else {
            self.leave(object, GoneReason::Rejected, None);
        }
    }

    /// Requests checkpoints of large objects in flight. Also called every [`CHECKPOINT`] by the timer.
    pub fn checkpoint(&mut self, now: Instant) {
        self.next_checkpoint = now + CHECKPOINT;
        // The received bytes must be in the files.
        self.store.flush();
        for (_, receiver) in self.sessions.iter() {
            for object in receiver.in_flight() {
                if self.work.has_room(0)
                    && let Some(checkpoint) = self.store.checkpoint(object.buf())
                {
                    self.work.push(Work::Checkpoint(checkpoint), 0);
                }
            }
        }
    }
}
