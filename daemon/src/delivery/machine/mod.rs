//! The state machine: inputs, outputs, and how objects enter and leave. The modules below have the rest, by concern.

mod announcements;
mod expiry;
mod placement;
mod repairs;
mod totals;
mod work;

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use carousel::alc::Template;
use carousel::budget::SessionBudget;
use carousel::flute::{
    Event, File, InFlight, Joiner, Receiver, ReceiverConfig, ReceiverStats, RecoveryJob, Refusal, SessionKey,
    SessionTrust, Sessions, Verdict,
};
use carousel::lct::{Toi, Tsi};
use carousel::repair::BackOff;
use carousel::route;
use carousel::time::{Instant, WallTime};
use carousel::trust::{Mode, Trust};

use super::ObjectRef;
use super::counters::{LossCounters, ObjectCounters};
use super::filter::SessionFilter;
use super::live::Live;
use super::memory::Memory;
use super::object::{Objects, State};
use super::reasons::{GoneReason, RepairOutcome};
use super::repair::{Kind, Repairs};
use super::rules::RuleBook;
use super::storage::ObjectStore;
use crate::memory::MAX_WORK_BYTES;

pub use totals::SessionStats;
pub use work::MAX_WORK;
use work::WorkQueue;

/// Approximate memory of an early packet in addition to its bytes.
const EARLY_BYTES: usize = 64;

/// A number of a sender, by which [`SessionTrust`] counts what its sessions cost.
fn sender(address: &IpAddr) -> u64 {
    let mut hasher = DefaultHasher::new();
    address.hash(&mut hasher);
    hasher.finish()
}

/// Settings of delivery.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Silence after which an object counts as stalled, where the sender does not say.
    pub reception_timeout: Duration,
    /// Whether origins are asked for what is missing.
    pub repairs: bool,
    /// Wait before a repair, where the sender does not say.
    pub back_off: BackOff,
    /// If the carousel's next pass begins within this time, no origin is asked.
    pub carousel_wait: Duration,
    /// Time for which a client waits for an object that it has asked for.
    pub client_patience: Duration,
    /// Seed of the random parts of waits.
    pub seed: u64,
    /// Most memory of the work that waits for a worker.
    pub work_bytes: usize,
    /// Most memory for decoding one source block.
    pub block_bytes: u64,
}

impl Options {
    /// Settings for reception without origins, for example of a recording.
    pub const fn without_repairs() -> Self {
        Self {
            reception_timeout: Duration::from_secs(2),
            repairs: false,
            back_off: BackOff { fixed: Duration::ZERO, random: Duration::ZERO },
            carousel_wait: Duration::ZERO,
            client_patience: Duration::ZERO,
            seed: 0,
            work_bytes: MAX_WORK_BYTES,
            block_bytes: u64::MAX,
        }
    }
}

/// Long-running work that is done outside the state machine.
#[derive(Debug)]
pub enum Work<S: ObjectStore> {
    /// A complete object to verify and publish: answer with [`Delivery::handle_verified`].
    Verify(Verify<S::Buf>),
    /// A source block to decode: answer with [`Delivery::handle_decoded`].
    Decode(Decode<S::Reader>),
    /// A source block of a ROUTE object to decode: answer with [`Delivery::handle_restored`].
    Restore(Restore),
    /// State that is to survive a power cut; no answer.
    Checkpoint(S::Checkpoint),
}

/// Serial number of a verification. Senders use TOIs again: a late result belongs to the object that it was made of, and not to the
/// next one with its TOI.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerificationId(u64);

/// A complete object, not yet verified.
#[derive(Debug)]
pub struct Verify<B> {
    /// Which.
    pub object: ObjectRef,
    /// The number by which its result is recognised.
    pub id: VerificationId,
    /// Its description by the FDT.
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
    /// The decoding job.
    pub job: RecoveryJob,
    /// Its symbols.
    pub reader: R,
}

/// A source block of a ROUTE object with enough symbols.
#[derive(Debug)]
pub struct Restore {
    /// The object.
    pub object: ObjectRef,
    /// The decoding job, with all its symbols.
    pub job: route::RepairJob,
}

/// Changes, in order.
#[derive(Debug)]
pub enum Change<B> {
    /// Objects are described and not held.
    Announced(SessionKey, Vec<Arc<File>>),
    /// An announced object is no longer expected.
    Withdrawn(ObjectRef, Arc<File>),
    /// The name of an object is unusable.
    Unusable(ObjectRef, Arc<File>),
    /// An object is held.
    Held(ObjectRef),
    /// An object left without being held; with its description and storage if it had them.
    Gone(ObjectRef, GoneReason, Option<Arc<File>>, Option<B>),
    /// A repair ended.
    Repaired(ObjectRef, RepairOutcome),
    /// A session that has brought something is over: closed by its sender (`true`), or silent.
    SessionOver(SessionKey, bool),
}

/// Lost symbols with their offsets; `None` if the block could not be decoded.
pub type Decoded = Option<Vec<(u64, Vec<u8>)>>;

/// State machine of one shard: owns its objects from their announcement to their end.
#[derive(Debug)]
pub struct Delivery<S: ObjectStore> {
    pub(super) options: Options,
    pub(super) store: S,
    rules: Arc<RuleBook>,
    trust: Arc<Trust>,
    /// [`Trust::generation`] at the last check of the sessions.
    trust_generation: u64,
    random: u64,
    /// Header template of the last packet: packets of one object differ only behind it.
    template: Template,
    pub(super) sessions: Sessions<S::Buf>,
    pub(super) live: Live<S::Buf>,
    pub(super) objects: Objects,
    pub(super) repairs: Repairs,
    pub(super) memory: Memory,
    pub(super) work: WorkQueue<S>,
    pub(super) changes: VecDeque<Change<S::Buf>>,
    pub(super) losses: LossCounters,
    pub(super) counters: ObjectCounters,
    /// The newest verification.
    last_verification: VerificationId,
    /// Counters of ended sessions.
    ended: ReceiverStats,
    next_tick: Instant,
    next_checkpoint: Instant,
    next_scan: Instant,
    next_replaced_scan: Instant,
}

impl<S: ObjectStore> Delivery<S> {
    /// A state machine without sessions.
    pub fn new(options: Options, store: S, rules: Arc<RuleBook>) -> Self {
        Self {
            options,
            store,
            rules,
            trust: Arc::default(),
            trust_generation: 0,
            random: options.seed,
            template: Template::default(),
            sessions: Sessions::default(),
            live: Live::default(),
            objects: Objects::default(),
            repairs: Repairs::default(),
            memory: Memory::default(),
            work: WorkQueue::within(options.work_bytes),
            changes: VecDeque::new(),
            losses: LossCounters::default(),
            counters: ObjectCounters::default(),
            last_verification: VerificationId::default(),
            ended: ReceiverStats::default(),
            next_tick: Instant::default(),
            next_checkpoint: Instant::default(),
            next_scan: Instant::default(),
            next_replaced_scan: Instant::default(),
        }
    }

    /// Sets the keys by which [`SessionFilter::trust`] is judged; without a call no key is trusted.
    pub fn set_trust(&mut self, trust: Arc<Trust>) {
        self.trust_generation = trust.generation();
        self.trust = trust;
    }

    /// Shares the memory budget of sessions with other shards; without a call this shard has all of it.
    pub fn share_budget(&mut self, budget: SessionBudget) {
        self.memory.share(budget);
    }

    /// Handles one datagram. `wall` is called where the date is needed; it returns `None` while the date is unknown.
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
        if filter.is_lls {
            self.handle_lls(now, source, destination, payload);
            return;
        }
        let Ok(packet) = self.template.parse(payload) else {
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
            if filter.trust == Mode::Require {
                self.losses.unsigned_protocol += 1;
                return;
            }
            self.handle_route(now, key, &packet, payload.len());
            if self.memory.needs_check(self.live.held_bytes()) {
                self.keep_within_budget(now);
            }
            return;
        }
        let default_timeout = self.options.reception_timeout;
        let trust = &self.trust;
        let config = |key: &SessionKey| ReceiverConfig {
            trust: (filter.trust != Mode::Off).then(|| SessionTrust {
                trust: Arc::clone(trust),
                mode: filter.trust,
                service: filter.service(key.tsi),
                sender: sender(&key.source),
            }),
            reception_timeout: filter.reception_timeout(key.tsi).unwrap_or(default_timeout),
            ..ReceiverConfig::default()
        };
        let mut displaced = None;
        let receiver = self.sessions.get_or_open(key, config, |key, old| displaced = Some((key, old)));
        let wall = if packet.lct.toi == Some(Toi::FDT) { wall() } else { None };
        let verdict =
            receiver.handle_packet(now, wall, &packet, payload, &mut self.store.session_storage(key));
        let event = receiver.poll_event();
        if let Some((key, receiver)) = displaced {
            self.counters.sessions_displaced += 1;
            self.end_session(now, key, receiver);
        }
        if let Some(event) = event {
            self.event(now, key, event);
            self.events(now, key);
        }
        if verdict == Verdict::Early {
            self.memory.grow(payload.len() + EARLY_BYTES);
        }
        if verdict == Verdict::Fdt || self.memory.needs_check(self.live.held_bytes()) {
            self.keep_within_budget(now);
        }
    }

    /// Counts a datagram inside a transport stream whose group is not received.
    pub const fn handle_other_group(&mut self) {
        self.losses.datagrams += 1;
        self.losses.other_group += 1;
    }

    /// Counts datagrams that the kernel has dropped for lack of buffers.
    pub const fn handle_kernel_drops(&mut self, datagrams: u64) {
        self.losses.kernel_drops += datagrams;
    }

    /// Handles the end of a batch of datagrams: writes gathered symbols and wakes their readers.
    pub fn handle_end_of_batch(&mut self) {
        self.grow_live();
        self.store.flush();
    }

    /// The next piece of work, if `admit` takes it.
    pub fn poll_work(&mut self, admit: impl FnOnce(&Work<S>) -> bool) -> Option<Work<S>> {
        self.work.pop(admit)
    }

    /// The next change, oldest first.
    pub fn poll_change(&mut self) -> Option<Change<S::Buf>> {
        let change = self.changes.pop_front();
        if self.changes.is_empty() {
            self.changes.shrink_to(64);
        }
        change
    }

    /// The storage that was lent.
    pub const fn store(&self) -> &S {
        &self.store
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
            Event::Opened { toi } => {
                let opened = self.sessions.get(&session).and_then(|it| it.object(toi));
                self.memory.grow(opened.map_or(0, InFlight::held_bytes));
                self.opened(now, at(toi));
                self.touch_joined(now, session);
            }
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
            Event::BlockReady { toi, block } => self.block_ready(now, at(toi), block),
            Event::Stalled { toi } => {
                self.objects.set(now, &at(toi), State::Stalled);
                if let Some(receiver) = self.sessions.get_mut(&session)
                    && let Some(object) = receiver.object(toi)
                {
                    self.store.expect(object.buf(), receiver.next_pass(toi));
                }
                self.start_repair(now, at(toi), Kind::Ranges, None);
                self.report_stalled(now, at(toi));
            }
            Event::Resumed { toi } => self.resumed(now, at(toi)),
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
            Event::Expired { files } => self.expired(session, files),
            Event::SessionClosed => self.session_over(now, session, true),
            Event::SessionSilent => self.session_over(now, session, false),
        }
    }

    pub(in crate::delivery) fn enter(
        &mut self,
        now: Instant,
        object: ObjectRef,
        file: Option<Arc<File>>,
        state: State,
    ) {
        self.counters.entered += 1;
        self.objects.insert(now, object, file, state);
    }

    fn set_file(&mut self, object: ObjectRef, file: Option<Arc<File>>) {
        if let Some(found) = self.objects.get_mut(&object).filter(|_| file.is_some()) {
            found.file = file;
        }
    }

    pub(in crate::delivery) fn leave_held(&mut self, object: ObjectRef) {
        self.end_repair(object, Some(RepairOutcome::NotNeeded));
        if let Some(removed) = self.objects.remove(&object) {
            self.counters.held += 1;
            self.changes.push_back(Change::Held(object));
            if let Some(file) = removed.file {
                self.changes.push_back(Change::Withdrawn(object, file));
            }
        }
    }

    pub(in crate::delivery) fn leave(&mut self, object: ObjectRef, reason: GoneReason, buf: Option<S::Buf>) {
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
}
