//! The state machine: see the head of [`super`].

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use carousel::alc::Packet;
use carousel::flute::{
    Encoding, Event, File, InFlight, Joiner, Receiver, ReceiverConfig, ReceiverStats, RecoveryJob, Refusal,
    SessionKey, Sessions,
};
use carousel::lct::{Toi, Tsi};
use carousel::repair::{ATTEMPTS, BackOff, MAX_MISSING, holes, requests};
use carousel::route;
use carousel::time::{Instant, WallTime};

use super::ObjectRef;
use super::counters::{LossCounters, ObjectCounters, Totals};
use super::filter::SessionFilter;
use super::live::Live;
use super::object::{Objects, State};
use super::reasons::{GoneReason, RejectReason, RepairError, RepairOutcome};
use super::repair::{
    self, CLIENT_PATIENCE, FETCH_TIMEOUT, Kind, LOOK, MAX_PENDING, Phase, RepairRequest, Repairs, Task,
    Wanted,
};
use super::rules::{self, RuleBook};
use super::storage::{Lookup, ObjectStore};

/// Work of one shard that waits for a worker. A receiver completes a few hundred small objects in a burst. Above, an object
/// is received again in the next pass; a place is free again when work is polled.
pub const MAX_WORK: usize = 1024;
/// How often timeouts of sessions are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How often what has arrived of large objects is made to survive a power cut: what a cut costs at most, against a sync of
/// the disk.
const CHECKPOINT: Duration = Duration::from_secs(30);
/// A verification that has not been reported on counts as lost, and the object is received again.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(1800);

/// Settings of delivery.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Silence after which an object counts as stalled, where the sender does not say.
    pub reception_timeout: Duration,
    /// Whether origins are asked for what is missing.
    pub repairs: bool,
    /// Wait before a repair, where the sender does not say.
    pub back_off: BackOff,
    /// An object that the carousel brings again so soon is left to it.
    pub carousel_wait: Duration,
    /// How long a client waits for an object that it has asked for.
    pub client_patience: Duration,
    /// Seed of the random parts of waits.
    pub seed: u64,
}

/// What is done outside, because it takes long.
#[derive(Debug)]
pub enum Work<S: ObjectStore> {
    /// A complete object to verify and publish: answer with [`Delivery::handle_verified`].
    Verify(Verify<S::Buf>),
    /// A source block to decode: answer with [`Delivery::handle_decoded`].
    Decode(Decode<S::Reader>),
    /// A source block of a ROUTE object to decode: answer with [`Delivery::handle_decoded`].
    Restore(Restore),
    /// What is to survive a power cut; no answer.
    Checkpoint(S::Checkpoint),
}

/// A complete object, not yet verified.
#[derive(Debug)]
pub struct Verify<B> {
    /// Which.
    pub object: ObjectRef,
    /// What the FDT says of it.
    pub file: Arc<File>,
    /// Its bytes as transported.
    pub buf: B,
    /// Symbols that came from an origin.
    pub repaired_symbols: u64,
}

/// A source block with enough encoding symbols.
#[derive(Debug)]
pub struct Decode<R> {
    /// The object.
    pub object: ObjectRef,
    /// The mathematics.
    pub job: RecoveryJob,
    /// Its symbols.
    pub reader: R,
}

/// A source block of a ROUTE object with enough symbols.
#[derive(Debug)]
pub struct Restore {
    /// The object.
    pub object: ObjectRef,
    /// The mathematics, and all symbols.
    pub job: route::RepairJob,
}

/// What has changed, in order.
#[derive(Debug)]
pub enum Change<B> {
    /// These are described and not held.
    Announced(SessionKey, Vec<Arc<File>>),
    /// This is no longer to be expected.
    Withdrawn(ObjectRef, Arc<File>),
    /// This object cannot be used for its name.
    Unusable(ObjectRef, Arc<File>),
    /// An object is held.
    Held(ObjectRef),
    /// An object left without being held, with its description and storage where it had them.
    Gone(ObjectRef, GoneReason, Option<Arc<File>>, Option<B>),
    /// A repair ended.
    Repaired(ObjectRef, RepairOutcome),
    /// The sender closed the session, or it has fallen silent.
    SessionOver(SessionKey, bool),
}

/// A session as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// As the receiver counts.
    pub receiver: ReceiverStats,
    /// Objects under reassembly.
    pub in_flight: usize,
    /// Files described.
    pub described: usize,
    /// If it is a channel of ROUTE: what the receiver of ROUTE says of it.
    pub route: Option<Box<route::ChannelState>>,
}

/// Lost symbols with their offsets; `None` if the block could not be decoded.
pub type Decoded = Option<Vec<(u64, Vec<u8>)>>;

/// Owns the objects of one shard from their announcement to their end.
#[derive(Debug)]
pub struct Delivery<S: ObjectStore> {
    options: Options,
    pub(super) store: S,
    rules: Arc<RuleBook>,
    random: u64,
    sessions: Sessions<S::Buf>,
    pub(super) live: Live<S::Buf>,
    pub(super) objects: Objects,
    pub(super) repairs: Repairs,
    pub(super) work: VecDeque<Work<S>>,
    pub(super) changes: VecDeque<Change<S::Buf>>,
    losses: LossCounters,
    pub(super) counters: ObjectCounters,
    /// What ended sessions have counted.
    ended: ReceiverStats,
    next_tick: Instant,
    next_checkpoint: Instant,
    next_scan: Instant,
}

impl<S: ObjectStore> Delivery<S> {
    /// Nothing received yet.
    pub fn new(options: Options, store: S, rules: Arc<RuleBook>) -> Self {
        Self {
            options,
            store,
            rules,
            random: options.seed,
            sessions: Sessions::default(),
            live: Live::default(),
            objects: Objects::default(),
            repairs: Repairs::default(),
            work: VecDeque::new(),
            changes: VecDeque::new(),
            losses: LossCounters::default(),
            counters: ObjectCounters::default(),
            ended: ReceiverStats::default(),
            next_tick: Instant::default(),
            next_checkpoint: Instant::default(),
            next_scan: Instant::default(),
        }
    }

    /// Takes one datagram. `wall` is asked for the date where it counts; `None`: it is not known.
    #[inline]
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        wall: impl FnOnce() -> Option<WallTime>,
        source: SocketAddr,
        destination: SocketAddr,
        filter: &SessionFilter,
        payload: &[u8],
    ) {
        self.losses.datagrams += 1;
        self.losses.bytes += payload.len() as u64;
        let Ok(packet) = Packet::parse(payload) else {
            self.losses.not_alc += 1;
            return;
        };
        let tsi = packet.lct.tsi.unwrap_or(Tsi(0));
        if !filter.wants(tsi) {
            self.losses.other_tsi += 1;
            return;
        }
        let key = SessionKey { source: source.ip(), destination, tsi };
        if filter.has_route && self.live.is_route(&key, &packet) {
            self.handle_route(now, key, &packet, payload.len());
            return;
        }
        let default_timeout = self.options.reception_timeout;
        let config = |key: &SessionKey| ReceiverConfig {
            reception_timeout: filter.reception_timeout(key.tsi).unwrap_or(default_timeout),
            ..ReceiverConfig::default()
        };
        let mut displaced = None;
        let receiver = self.sessions.get_or_open(key, config, |key, old| displaced = Some((key, old)));
        let wall = if packet.lct.toi == Some(Toi::FDT) { wall() } else { None };
        receiver.handle_packet(now, wall, &packet, payload, &mut self.store.lend(key));
        let event = receiver.poll_event();
        if let Some((key, receiver)) = displaced {
            self.counters.sessions_displaced += 1;
            self.end_session(now, key, receiver);
        }
        if let Some(event) = event {
            self.event(now, key, event);
            self.events(now, key);
        }
    }

    /// A datagram of a group that is not received came inside a transport stream.
    pub const fn handle_other_group(&mut self) {
        self.losses.datagrams += 1;
        self.losses.other_group += 1;
    }

    /// The kernel had no buffer for so many datagrams.
    pub const fn handle_kernel_drops(&mut self, datagrams: u64) {
        self.losses.kernel_drops += datagrams;
    }

    /// No further datagram is at hand: gathered symbols are written, and their readers woken.
    pub fn handle_end_of_batch(&mut self) {
        self.grow_live();
        self.store.flush();
    }

    /// Bytes of an object came from an origin.
    pub fn handle_repair(&mut self, now: Instant, object: ObjectRef, offset: u64, bytes: &[u8]) {
        let Some(receiver) = self.sessions.get_mut(&object.session) else { return };
        receiver.repair(object.toi, offset, bytes, &mut self.store.lend(object.session));
        self.came_otherwise(now, object);
    }

    /// A request for a repair is over. `Ok` for [`Wanted::Complete`]: the cache holds the object now.
    pub fn handle_repair_done(&mut self, now: Instant, object: ObjectRef, result: Result<(), RepairError>) {
        let task = self.objects.get_mut(&object).and_then(|it| it.repair.as_mut());
        let Some(task) = task.filter(|task| task.phase == Phase::Fetching) else { return };
        let (kind, is_hurried, attempt) = (task.kind, task.is_hurried, task.attempt);
        let receiver = self.sessions.get_mut(&object.session);
        let in_flight = receiver.as_deref().and_then(|it| it.object(object.toi));
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
            // The carousel brings the rest: the client asks again if it does not.
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

    /// A complete object is in the cache (or was handed on as signalling), or proved wrong.
    pub fn handle_verified(&mut self, now: Instant, object: ObjectRef, result: Result<(), RejectReason>) {
        // Of a version that was replaced meanwhile nothing is left to do.
        if self.objects.state(&object) != Some(State::Verifying) {
            return;
        }
        match result {
            Ok(()) => {
                self.end_repair(object, Some(RepairOutcome::Repaired));
                self.leave_held(object);
            }
            Err(reason) => self.reject(now, object, reason),
        }
    }

    /// A source block was decoded, or could not be.
    pub fn handle_decoded(&mut self, now: Instant, object: ObjectRef, sbn: u32, decoded: &Decoded) {
        let receiver = self.sessions.get_mut(&object.session);
        let Some(receiver) = receiver.filter(|it| it.object(object.toi).is_some()) else {
            self.restored(now, object, sbn, decoded.as_deref());
            return;
        };
        receiver.recovered(object.toi, sbn, decoded.as_deref(), &mut self.store.lend(object.session));
        self.came_otherwise(now, object);
    }

    /// A client waits for an object in flight.
    pub fn handle_request(&mut self, now: Instant, object: ObjectRef) {
        let needed_by = now + self.options.client_patience;
        let store = &self.store;
        if let Some(buf) = self.sessions.get_mut(&object.session).and_then(|it| it.object(object.toi)) {
            store.request_seen(buf.buf());
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

    /// The object came complete another way.
    pub fn handle_fetched(&mut self, object: ObjectRef) {
        if let Some(receiver) = self.sessions.get_mut(&object.session) {
            receiver.hold(object.toi);
        }
        self.end_repair(object, Some(RepairOutcome::Repaired));
        self.leave_held(object);
    }

    /// Objects have left the cache: they are received again when they come round.
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

    /// Looks at what time has done. Call it when [`Delivery::poll_timeout`] is over; early calls do nothing.
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
                receiver.handle_timeout(now, wall);
            }
            self.events(now, key);
        }
        self.live_timeout(now);
        for (key, receiver) in self.sessions.expire(now) {
            self.counters.sessions_expired += 1;
            self.end_session(now, key, receiver);
        }
        if now >= self.next_scan {
            self.next_scan = now + VERIFY_TIMEOUT / 4;
            let late = |_: &ObjectRef, it: &super::object::Object| {
                it.state == State::Verifying && now.since(it.since) >= VERIFY_TIMEOUT
            };
            for object in self.objects.filter(late) {
                self.reject(now, object, RejectReason::Lost);
            }
        }
    }

    /// Makes large objects in flight survive a power cut; by itself every [`CHECKPOINT`].
    pub fn checkpoint(&mut self, now: Instant) {
        self.next_checkpoint = now + CHECKPOINT;
        // What has arrived must be in the files.
        self.store.flush();
        for (_, receiver) in self.sessions.iter() {
            for object in receiver.in_flight() {
                if self.work.len() < MAX_WORK
                    && let Some(checkpoint) = self.store.checkpoint(object.buf())
                {
                    self.work.push_back(Work::Checkpoint(checkpoint));
                }
            }
        }
    }

    /// The next piece of work, if `admit` takes it.
    pub fn poll_work(&mut self, admit: impl FnOnce(&Work<S>) -> bool) -> Option<Work<S>> {
        if !admit(self.work.front()?) {
            return None;
        }
        let work = self.work.pop_front();
        if self.work.is_empty() {
            self.work.shrink_to(16);
        }
        work
    }

    /// Whether [`Delivery::poll_repair`] may have something.
    pub fn has_repairs(&self) -> bool {
        self.repairs.has_due()
    }

    /// The next object that an origin is to be asked for: answer with [`Delivery::handle_repair`] and, in the end,
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
            let wanted = match in_flight {
                Some(in_flight) if kind == Kind::Ranges && file.encoding == Encoding::Identity => {
                    let received = in_flight.received();
                    let mut missing = received.missing(MAX_MISSING);
                    if only_holes {
                        missing = holes(missing, received.length());
                    }
                    let ranges = requests(&missing, received.length());
                    (!ranges.is_empty()).then(|| Wanted::Ranges(ranges, Arc::clone(received)))
                }
                None if kind == Kind::Ranges => None,
                _ if self.store.look_up(&object.session, &file) == Lookup::Missing => Some(Wanted::Complete),
                _ => None,
            };
            let Some(wanted) = wanted else {
                self.stop_repair(now, object, Some(RepairOutcome::NotNeeded));
                continue;
            };
            task.phase = Phase::Fetching;
            self.repairs.set_timer(object, task, now + FETCH_TIMEOUT);
            self.objects.set(now, &object, State::Repairing);
            return Some(RepairRequest { object, file, wanted, attempt, needed_by });
        }
        None
    }

    /// The next change, oldest first.
    pub fn poll_change(&mut self) -> Option<Change<S::Buf>> {
        let change = self.changes.pop_front();
        if self.changes.is_empty() {
            self.changes.shrink_to(64);
        }
        change
    }

    /// When [`Delivery::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Instant {
        self.repairs.next_timer().map_or(self.next_tick, |timer| timer.min(self.next_tick))
    }

    /// All counters since the start.
    pub fn totals(&self) -> Totals {
        let mut packets = self.ended.clone();
        for (_, receiver) in self.sessions.iter() {
            packets += receiver.stats();
        }
        let objects =
            ObjectCounters { now: self.objects.counts(), repairs: self.repairs.outcomes, ..self.counters };
        Totals { losses: self.losses, packets, route: self.live.totals(), objects }
    }

    /// The sessions as they are now.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionKey, SessionStats)> {
        let flute = self.sessions.iter().map(|(key, receiver)| {
            let stats = SessionStats {
                receiver: receiver.stats().clone(),
                in_flight: receiver.in_flight().count(),
                described: receiver.table().len(),
                route: None,
            };
            (*key, stats)
        });
        flute.chain(self.live.channels())
    }

    /// The objects under reassembly.
    pub fn incomplete(&self) -> impl Iterator<Item = (SessionKey, &InFlight<S::Buf>)> {
        self.sessions.iter().flat_map(|(key, receiver)| receiver.in_flight().map(move |it| (*key, it)))
    }

    /// Objects in flight in all sessions.
    pub fn in_flight(&self) -> usize {
        self.sessions.iter().map(|(_, receiver)| receiver.in_flight().count()).sum()
    }

    /// What was lent.
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// Bytes of an object came another way than by its packets.
    fn came_otherwise(&mut self, now: Instant, object: ObjectRef) {
        self.store.flush();
        self.events(now, object.session);
        let receiver = self.sessions.get_mut(&object.session);
        if let Some(in_flight) = receiver.and_then(|it| it.object(object.toi)) {
            self.store.progress(in_flight.buf());
        }
    }

    fn events(&mut self, now: Instant, key: SessionKey) {
        while let Some(event) = self.sessions.get_mut(&key).and_then(Receiver::poll_event) {
            self.event(now, key, event);
        }
    }

    #[cold]
    fn event(&mut self, now: Instant, session: SessionKey, event: Event<S::Buf>) {
        let at = |toi| ObjectRef { session, toi };
        match event {
            Event::Fdt { new_files, .. } => {
                self.name_by_flute(now, session, &new_files);
                self.described(now, session, new_files);
            }
            Event::Opened { toi } => self.opened(now, at(toi)),
            Event::Refused { toi, refusal } => match refusal {
                Refusal::Held => self.leave_held(at(toi)),
                Refusal::NotWanted => self.leave(at(toi), GoneReason::NotWanted, None),
                Refusal::NoRoom => {}
            },
            Event::Complete { file, buf, .. } if Joiner::is_chunk(&file) => {
                self.chunk(now, at(file.toi), &file, buf);
            }
            Event::Complete { file, buf, repaired_symbols } => {
                self.complete(now, at(file.toi), file, buf, repaired_symbols);
            }
            Event::BlockReady { toi, sbn } => self.block_ready(now, at(toi), sbn),
            Event::Stalled { toi } => {
                self.objects.set(now, &at(toi), State::Stalled);
                if let Some(receiver) = self.sessions.get_mut(&session)
                    && let Some(object) = receiver.object(toi)
                {
                    self.store.expect(object.buf(), receiver.next_pass(toi));
                }
                self.start_repair(now, at(toi), Kind::Ranges, None);
            }
            Event::Replaced { toi, file, buf } => {
                self.set_file(at(toi), file);
                self.leave(at(toi), GoneReason::Replaced, Some(buf));
                self.announce_again(now, at(toi));
            }
            Event::Abandoned { toi, reason, file, buf } => {
                self.set_file(at(toi), file);
                match GoneReason::of(reason) {
                    Some(reason) => self.leave(at(toi), reason, Some(buf)),
                    None => self.leave_held(at(toi)),
                }
                if !matches!(
                    reason,
                    carousel::flute::AbandonReason::Refused(Refusal::Held | Refusal::NotWanted)
                ) {
                    self.announce_again(now, at(toi));
                }
            }
            Event::Expired { files } => {
                for file in files {
                    let object = at(file.toi);
                    self.changes.push_back(Change::Withdrawn(object, file));
                    if self.objects.state(&object) == Some(State::Announced) {
                        self.leave(object, GoneReason::Expired, None);
                    }
                }
            }
            Event::SessionClosed | Event::SessionSilent => {
                let is_closed = matches!(event, Event::SessionClosed);
                self.changes.push_back(Change::SessionOver(session, is_closed));
                let receiver = self.sessions.get_mut(&session);
                let unseen: Vec<Toi> =
                    receiver.into_iter().flat_map(|it| it.unseen().map(|file| file.toi)).collect();
                for toi in unseen {
                    // What is not in the table is held, or signalling: look_up has said so when it was described.
                    let found = self.objects.get(&at(toi));
                    let is_unseen = found.is_some_and(|it| it.state == State::Announced);
                    let file = found.and_then(|it| it.file.clone());
                    if is_unseen
                        && file.is_some_and(|it| self.store.look_up(&session, &it) == Lookup::Missing)
                    {
                        self.start_repair(now, at(toi), Kind::Unseen, None);
                    }
                }
            }
        }
    }

    fn described(&mut self, now: Instant, session: SessionKey, files: Vec<Arc<File>>) {
        let mut announced = Vec::new();
        for file in files {
            let object = ObjectRef { session, toi: file.toi };
            let state = self.objects.state(&object);
            let lookup = self.store.look_up(&session, &file);
            match state {
                // Its verification was of the object that had this TOI before.
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
                Lookup::Unusable => {
                    self.changes.push_back(Change::Unusable(object, Arc::clone(&file)));
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

    fn opened(&mut self, now: Instant, object: ObjectRef) {
        match self.objects.state(&object) {
            // The one before is still being verified, and the sender has begun with another.
            Some(State::Verifying) => self.leave(object, GoneReason::Replaced, None),
            Some(_) => return self.objects.set(now, &object, State::Arriving),
            None => {}
        }
        let receiver = self.sessions.get_mut(&object.session);
        let file = receiver.and_then(|it| it.object(object.toi)?.file().cloned());
        self.enter(now, object, file, State::Arriving);
    }

    pub(super) fn complete(
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
        let task = self.objects.get_mut(&object).and_then(|it| it.repair.as_mut());
        match task {
            Some(task) if task.phase == Phase::Fetching => {
                task.phase = Phase::Settling;
                self.repairs.clear_timer(task);
            }
            Some(_) => self.end_repair(object, Some(RepairOutcome::NotNeeded)),
            None => {}
        }
        if self.work.len() >= MAX_WORK {
            self.reject(now, object, RejectReason::QueueFull);
            return;
        }
        self.work.push_back(Work::Verify(Verify { object, file, buf, repaired_symbols }));
    }

    fn block_ready(&mut self, now: Instant, object: ObjectRef, sbn: u32) {
        let Some(receiver) = self.sessions.get_mut(&object.session) else { return };
        let job = receiver.recovery_job(object.toi, sbn);
        let buf = receiver.object(object.toi).map(InFlight::buf);
        let Some((job, reader)) = job.zip(buf.and_then(|buf| self.store.reader(buf))) else { return };
        if self.work.len() >= MAX_WORK {
            self.counters.blocks_refused += 1;
            self.handle_decoded(now, object, sbn, &None);
            return;
        }
        if let Some(buf) = buf {
            self.store.flush_object(buf);
        }
        self.work.push_back(Work::Decode(Decode { object, job, reader }));
    }

    pub(super) fn enter(&mut self, now: Instant, object: ObjectRef, file: Option<Arc<File>>, state: State) {
        self.counters.entered += 1;
        self.objects.insert(now, object, file, state);
    }

    fn set_file(&mut self, object: ObjectRef, file: Option<Arc<File>>) {
        if let Some(found) = self.objects.get_mut(&object).filter(|_| file.is_some()) {
            found.file = file;
        }
    }

    /// An object that was given up is still described: it may come again.
    fn announce_again(&mut self, now: Instant, object: ObjectRef) {
        let receiver = self.sessions.get_mut(&object.session);
        let Some(file) = receiver.and_then(|it| it.table().get(object.toi).cloned()) else { return };
        let lookup = self.store.look_up(&object.session, &file);
        if matches!(lookup, Lookup::Held | Lookup::Unusable) || self.objects.get(&object).is_some() {
            return;
        }
        self.enter(now, object, Some(Arc::clone(&file)), State::Announced);
        if lookup == Lookup::Missing {
            self.changes.push_back(Change::Announced(object.session, vec![file]));
        }
    }

    /// A chunk was not as described: its next pass counts again.
    pub(super) fn reject_chunk(&mut self, object: ObjectRef) {
        if let Some(receiver) = self.sessions.get_mut(&object.session) {
            receiver.reject(object.toi);
        }
    }

    pub(super) fn leave_held(&mut self, object: ObjectRef) {
        self.end_repair(object, Some(RepairOutcome::NotNeeded));
        if let Some(removed) = self.objects.remove(&object) {
            self.counters.held += 1;
            self.changes.push_back(Change::Held(object));
            if let Some(file) = removed.file {
                self.changes.push_back(Change::Withdrawn(object, file));
            }
        }
    }

    pub(super) fn leave(&mut self, object: ObjectRef, reason: GoneReason, buf: Option<S::Buf>) {
        self.end_repair(object, Some(RepairOutcome::NotNeeded));
        let removed = self.objects.remove(&object);
        if let Some(removed) = removed {
            self.counters.gone[reason as usize] += 1;
            if let Some(file) = &removed.file {
                self.changes.push_back(Change::Withdrawn(object, Arc::clone(file)));
            }
            self.changes.push_back(Change::Gone(object, reason, removed.file, buf));
        }
    }

    /// What was complete is received again.
    fn reject(&mut self, now: Instant, object: ObjectRef, reason: RejectReason) {
        self.counters.rejected[reason as usize] += 1;
        let is_mismatch = reason == RejectReason::Verify;
        let outcome = if is_mismatch { RepairOutcome::Mismatch } else { RepairOutcome::NotNeeded };
        self.end_repair(object, Some(outcome));
        let receiver = self.sessions.get_mut(&object.session);
        let is_described = receiver.is_some_and(|receiver| {
            receiver.reject(object.toi);
            receiver.table().get(object.toi).is_some()
        });
        if is_described {
            self.objects.set(now, &object, State::Announced);
        } else {
            self.leave(object, GoneReason::Rejected, None);
        }
    }

    fn end_session(&mut self, now: Instant, session: SessionKey, receiver: Receiver<S::Buf>) {
        self.end_joining(now, session);
        let (in_flight, _, stats) = receiver.close();
        self.ended += &stats;
        for object in in_flight {
            let at = ObjectRef { session, toi: object.toi() };
            self.leave(at, GoneReason::SessionEnded, Some(object.into_buf()));
        }
        for (object, state) in self.objects.of_session(&session) {
            // Those that are complete are still verified and published.
            if state != State::Verifying {
                self.leave(object, GoneReason::SessionEnded, None);
            }
        }
    }

    fn start_repair(&mut self, now: Instant, object: ObjectRef, kind: Kind, needed_by: Option<Instant>) {
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
        let next_pass = match kind {
            Kind::Ranges => self.sessions.get_mut(&object.session).and_then(|it| it.next_pass(object.toi)),
            Kind::Unseen => None,
        };
        let until_begin = next_pass.filter(|&at| at > now).map(|at| at.since(now));
        let patience = match until_begin {
            Some(wait) if needed_by.is_some() => (wait <= CLIENT_PATIENCE).then_some(wait),
            // Begun is not complete: it gets as long again as it takes to notice that nothing comes.
            Some(wait) => (wait <= self.options.carousel_wait).then(|| wait + self.options.reception_timeout),
            None => None,
        };
        self.schedule(now + patience.unwrap_or_default(), object);
    }

    /// Waits before the next attempt.
    fn schedule(&mut self, from: Instant, object: ObjectRef) {
        let rule = self.rules.get(&object.session);
        let back_off = rules::back_off(rule.as_deref(), self.options.back_off);
        let random = self.next_random();
        let Some(task) = self.objects.get_mut(&object).and_then(|it| it.repair.as_mut()) else { return };
        task.phase = Phase::Waiting;
        let wait = repair::wait(task, back_off, random);
        self.repairs.set_timer(object, task, from + wait);
    }

    fn repair_timer(&mut self, now: Instant, object: ObjectRef) {
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
                    // It is coming: only what it has passed by.
                    let receiver = self.sessions.get_mut(&object.session);
                    let passed = receiver.and_then(|it| {
                        let received = it.object(object.toi)?.received();
                        Some(holes(received.missing(MAX_MISSING), received.length()))
                    });
                    if passed.is_some_and(|it| !it.is_empty()) {
                        self.due(object, true);
                    } else {
                        self.stop_repair(now, object, None);
                    }
                }
                _ => self.due(object, false),
            },
            Phase::Fetching => self.retry(now, object),
            Phase::Due { .. } | Phase::Settling => {}
        }
    }

    /// Bytes of an object in flight, if ranges of it can be repaired.
    fn received_bytes(&mut self, object: &ObjectRef) -> Option<u64> {
        let in_flight = self.sessions.get_mut(&object.session)?.object(object.toi)?;
        let is_identity = in_flight.file()?.encoding == Encoding::Identity;
        is_identity.then(|| in_flight.received().received_bytes())
    }

    fn due(&mut self, object: ObjectRef, only_holes: bool) {
        let Some(task) = self.objects.get_mut(&object).and_then(|it| it.repair.as_mut()) else { return };
        task.phase = Phase::Due { only_holes };
        self.repairs.push_due(object, task.needed_by.is_some());
    }

    /// An attempt failed.
    fn retry(&mut self, now: Instant, object: ObjectRef) {
        let Some(task) = self.objects.get_mut(&object).and_then(|it| it.repair.as_mut()) else { return };
        task.attempt += 1;
        if task.attempt >= ATTEMPTS {
            self.stop_repair(now, object, Some(RepairOutcome::OriginFailed));
        } else {
            self.schedule(now, object);
        }
    }

    /// The repair is over, and the object is where it was.
    fn stop_repair(&mut self, now: Instant, object: ObjectRef, outcome: Option<RepairOutcome>) {
        self.end_repair(object, outcome);
        if self.objects.state(&object) != Some(State::Repairing) {
            return;
        }
        let receiver = self.sessions.get_mut(&object.session);
        let (in_flight, described) = receiver.map_or((false, false), |it| {
            (it.object(object.toi).is_some(), it.table().get(object.toi).is_some())
        });
        match (in_flight, described) {
            (true, _) => self.objects.set(now, &object, State::Stalled),
            (false, true) => self.objects.set(now, &object, State::Announced),
            // It expired while an origin was asked.
            (false, false) => self.leave(object, GoneReason::Expired, None),
        }
    }

    fn end_repair(&mut self, object: ObjectRef, outcome: Option<RepairOutcome>) {
        let Some(task) = self.objects.get_mut(&object).and_then(|it| it.repair.take()) else { return };
        self.repairs.end(task, outcome);
        if let Some(outcome) = outcome {
            self.changes.push_back(Change::Repaired(object, outcome));
        }
    }

    /// SplitMix64. No secret depends on it.
    const fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
