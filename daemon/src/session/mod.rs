//! Selection of multicast groups: evaluates documents of the announcement channel, and opens and closes sockets on the
//! shards.
//!
//! One thread sends all groups to the shards, so that documents that arrive together are applied in sequence. Joining a group
//! is retried after a failure; the state of each is in [`GroupStates`]. `joining.rs` decides which services are joined, by
//! the requests reported by [`Services`].

mod interface;
mod joining;
mod options;
mod rates;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use carousel::flute::SessionKey;
use carousel::mabr::{Directory, Protocol, SessionOrigin, SessionSpec};
use carousel::nip;
use carousel::reason::Counts;
use carousel::route::STSID_TYPE;
use carousel::route::lls::{LLS_TYPE, ListReport, ServiceDirectory, ServiceDrop, SystemTime, USBD_TYPE};
use carousel::trust::{Mode, Trust, TrustDrop};

use crate::clock;
use crate::commands::Commands;
use crate::delivery::{Described, Flights, RuleBook, SessionFilter};
use crate::firmware::Updates;
use crate::memory::MAX_DOCUMENTS_BYTES;
use crate::origin::Origins;
use crate::receive::{Command, FinishSink, ReceiveStats, ShardSender, shard_of};
use crate::services::{Membership, Services};
use crate::signalling::{Document, Documents, Names, is_gateway_configuration};
use crate::source::{GroupSpec, ReceiveSocket};
use crate::vitals::{self, Sign, Vitals};
use interface::Interface;
use joining::{Candidate, Event, Joining};
use rates::Rates;

pub use joining::{JoinReason, JoinRefusal, LeaveReason};
pub use options::{Join, Receive, ServiceOptions, Session, SessionOptions};

/// Capacity of the notice queue. Finishing waits when it is full: signalling is rare.
const NOTICES: usize = 256;
/// Service name under which the announcement channel and the gateway configuration are signed.
const ANNOUNCEMENT_SERVICE: &str = "announcement";
/// Retry interval of a group that cannot be joined.
const RETRY: Duration = Duration::from_secs(5);
/// Interval at which the interface of the joined groups is checked for changes.
const LOOK: Duration = Duration::from_secs(1);

/// A notice to the thread.
#[derive(Debug)]
enum Notice {
    Document(Document, WaitingPlace),
    Reload(Box<SessionOptions>),
    /// A player has requested a service that is not joined, or the list of channels has changed.
    News,
    Stop,
}

/// One group, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupState {
    /// The group.
    pub group: GroupSpec,
    /// Why it is received: `static`, `bootstrap`, `configuration`.
    pub why: &'static str,
    /// Whether it is joined or being joined; false if all its services are unwanted.
    pub is_wanted: bool,
    /// Why it is not being received.
    pub error: Option<String>,
}

/// One service, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceState {
    /// Its identifier.
    pub id: String,
    /// Condition for joining its groups.
    pub join: Join,
    /// State of its groups.
    pub membership: Membership,
    /// Why they are not joined, if for lack of room.
    pub refusal: Option<JoinRefusal>,
    /// Assumed bit rate.
    pub rate_bps: u64,
}

/// Current state of the groups and services.
#[derive(Debug, Default)]
pub struct GroupStates {
    groups: Mutex<Vec<GroupState>>,
    services: Mutex<Vec<ServiceState>>,
    joined: Counts<JoinReason>,
    left: Counts<LeaveReason>,
    refused: Counts<JoinRefusal>,
    atsc: Mutex<AtscState>,
}

/// ATSC services, for status and metrics.
#[derive(Debug, Clone, Default)]
pub struct AtscState {
    /// Service lists.
    pub lists: Vec<ListReport>,
    /// System times, by sender.
    pub times: Vec<(IpAddr, SystemTime)>,
    /// Tables received.
    pub tables: u64,
    /// Services that are not received, in the order of [`ServiceDrop::ALL`].
    pub left_out: [u64; ServiceDrop::ALL.len()],
}

impl GroupStates {
    /// ATSC services.
    pub fn atsc(&self) -> AtscState {
        self.atsc.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All groups: joined, failing, or not wanted.
    pub fn all(&self) -> Vec<GroupState> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All services, in the order of the list of channels.
    pub fn services(&self) -> Vec<ServiceState> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Services whose groups were joined.
    pub const fn joined(&self) -> &Counts<JoinReason> {
        &self.joined
    }

    /// Services whose groups were left.
    pub const fn left(&self) -> &Counts<LeaveReason> {
        &self.left
    }

    /// Services whose groups were not joined.
    pub const fn refused(&self) -> &Counts<JoinRefusal> {
        &self.refused
    }
}

/// Handle that sends the session thread verified documents.
#[derive(Debug, Clone)]
pub struct SessionCommands(SyncSender<Notice>, Arc<Waiting>);

impl FinishSink for SessionCommands {
    fn document(&mut self, document: Document) {
        let place = Waiting::place(&self.1, document.bytes.len());
        let _ = self.0.send(Notice::Document(document, place));
    }
}

/// Documents on their way to the thread.
#[derive(Debug)]
struct Waiting {
    most_bytes: usize,
    bytes: Mutex<usize>,
    has_fallen: Condvar,
}

impl Waiting {
    /// Waits until there is room for so many bytes; a document that is longer than all of it goes alone.
    fn place(self: &Arc<Self>, bytes: usize) -> WaitingPlace {
        let is_full = |waiting: &mut usize| *waiting > 0 && *waiting + bytes > self.most_bytes;
        let waiting = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting =
            self.has_fallen.wait_while(waiting, is_full).unwrap_or_else(PoisonError::into_inner);
        *waiting += bytes;
        WaitingPlace { waiting: Arc::clone(self), bytes }
    }
}

/// Bytes of a document until it has been read, or the thread has ended.
#[derive(Debug)]
struct WaitingPlace {
    waiting: Arc<Waiting>,
    bytes: usize,
}

impl Drop for WaitingPlace {
    fn drop(&mut self) {
        *self.waiting.bytes.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.waiting.has_fallen.notify_all();
    }
}

/// Parts of the daemon that the thread uses.
#[derive(Debug)]
pub struct SessionContext {
    /// Receives the aliases of the configurations in force.
    pub names: Arc<Names>,
    /// Receives the documents.
    pub documents: Arc<Documents>,
    /// Receives base URLs.
    pub origins: Arc<Origins>,
    /// Receives repair parameters.
    pub rules: Arc<RuleBook>,
    /// Gives the required trust of sessions.
    pub trust: Arc<Trust>,
    /// Receives the documents of commands.
    pub commands: Arc<Commands>,
    /// Receives the documents of firmware; gives the sessions of bundles.
    pub updates: Arc<Updates>,
    /// Receives the services; gives the requests of players.
    pub services: Arc<Services>,
    /// Gives the objects that players read.
    pub flights: Arc<Flights>,
    /// Gives the measured rates of sessions.
    pub receive: Arc<ReceiveStats>,
    /// Most bytes of the documents of gateway configurations in force.
    pub configurations_bytes: usize,
}

/// Notice queue of a thread that has not started yet: the finishers need it earlier.
#[derive(Debug)]
pub struct SessionQueue(SyncSender<Notice>, Receiver<Notice>, Arc<Waiting>);

impl Default for SessionQueue {
    fn default() -> Self {
        Self::within(MAX_DOCUMENTS_BYTES)
    }
}

impl SessionQueue {
    /// An empty queue for documents of at most `most_bytes`.
    pub fn within(most_bytes: usize) -> Self {
        let (sender, receiver) = sync_channel(NOTICES);
        let waiting = Waiting { most_bytes, bytes: Mutex::default(), has_fallen: Condvar::new() };
        Self(sender, receiver, Arc::new(waiting))
    }

    /// A handle for finishing.
    pub fn commands(&self) -> SessionCommands {
        SessionCommands(self.0.clone(), Arc::clone(&self.2))
    }

    /// Starts the thread, which opens the fixed sessions at once.
    ///
    /// # Errors
    /// If no thread is available.
    pub fn start(
        self,
        config: &SessionOptions,
        shards: Vec<ShardSender>,
        context: SessionContext,
        vitals: &Vitals,
    ) -> std::io::Result<SessionThread> {
        let groups = Arc::new(GroupStates::default());
        let notices = self.0.clone();
        // A full queue wakes the thread as well.
        context.services.wake_by(move || drop(notices.try_send(Notice::News)));
        let mut control = Control {
            options: config.clone(),
            exceptions: exceptions(config),
            joining: Joining::new(config.join_options()),
            rates: Rates::default(),
            directory: Directory::new(config.join_policy(), config.fixed_sessions())
                .within(context.configurations_bytes),
            atsc: ServiceDirectory::default(),
            described: Arc::default(),
            unsigned_lls: Counts::default(),
            unsigned_routes: BTreeSet::new(),
            is_signed: false,
            updates_generation: 0,
            shards,
            context,
            open: HashMap::new(),
            groups: Arc::clone(&groups),
            joined_on: Interface::of(&config.receive.interface),
        };
        control.apply();
        let Self(sender, receiver, _) = self;
        let sign = vitals.watch("session".to_owned(), clock::now());
        let thread = vitals::start("session", move || control.run(&receiver, &sign))?;
        Ok(SessionThread { notices: sender, groups, thread: Some(thread) })
    }
}

/// The running thread.
#[derive(Debug)]
pub struct SessionThread {
    notices: SyncSender<Notice>,
    groups: Arc<GroupStates>,
    thread: Option<JoinHandle<()>>,
}

impl SessionThread {
    /// The state of the groups.
    pub const fn groups(&self) -> &Arc<GroupStates> {
        &self.groups
    }

    /// Applies `[receive]`, `[[session]]` and `[[service]]` of a new configuration. Received documents stay in force.
    pub fn reload(&self, config: &SessionOptions) {
        let _ = self.notices.send(Notice::Reload(Box::new(config.clone())));
    }

    /// Ends the thread.
    pub fn stop(mut self) {
        let _ = self.notices.send(Notice::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic was reported on stderr.
            let _ = thread.join();
        }
    }
}

struct Control {
    options: SessionOptions,
    joining: Joining,
    rates: Rates,
    /// Trust modes of `[[session]]`s that have their own.
    exceptions: HashMap<SocketAddr, Mode>,
    directory: Directory,
    /// Services of ATSC.
    atsc: ServiceDirectory,
    /// Channels described by its signalling for groups without their own.
    described: Arc<Described>,
    /// ATSC tables dropped because signatures are required.
    unsigned_lls: Counts<ServiceDrop>,
    /// Groups of ROUTE sessions that are not joined for their lack of signatures.
    unsigned_routes: BTreeSet<SocketAddr>,
    /// A signed configuration has been received.
    is_signed: bool,
    /// Generation of the firmware sessions applied last.
    updates_generation: u64,
    shards: Vec<ShardSender>,
    context: SessionContext,
    /// Groups received by shards.
    open: HashMap<GroupSpec, SessionFilter>,
    groups: Arc<GroupStates>,
    /// The interface at the time of joining.
    joined_on: Option<Interface>,
}

impl Control {
    fn run(mut self, notices: &Receiver<Notice>, sign: &Sign) {
        let (mut looked, mut retried) = (clock::now(), clock::now());
        loop {
            let now = clock::now();
            sign.give(now);
            if now.since(looked) >= LOOK {
                looked = now;
                self.rejoin();
                if self.atsc.handle_timeout(now) {
                    tracing::info!("an ATSC service list has not been repeated: its services are gone");
                    self.apply();
                }
                self.measure();
                self.demand();
            }
            match notices.recv_timeout(LOOK) {
                Ok(Notice::Document(document, _place)) => self.document(document),
                Ok(Notice::Reload(config)) => self.reload(&config),
                Ok(Notice::News) => self.demand(),
                Ok(Notice::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) if clock::now().since(retried) < RETRY => {}
                Err(RecvTimeoutError::Timeout) => {
                    retried = clock::now();
                    if self.groups.all().iter().any(|it| it.error.is_some()) {
                        self.apply();
                    }
                }
            }
        }
    }

    /// Joins all groups again if their interface was removed, added again, or replaced: memberships end with their
    /// interface, without an error on their sockets. Sessions continue.
    fn rejoin(&mut self) {
        if !self.options.receive.multicast {
            return;
        }
        let interface = &self.options.receive.interface;
        let now = Interface::of(interface);
        if now == self.joined_on {
            return;
        }
        match &now {
            Some(_) => tracing::info!(interface, "the interface has changed: groups are joined again"),
            None => tracing::error!(interface, "the interface is gone"),
        }
        self.joined_on = now;
        for group in std::mem::take(&mut self.open).into_keys() {
            self.shard(&group.address).send(Command::Leave(group.clone()));
        }
        self.apply();
    }

    fn shard(&self, address: &SocketAddr) -> &ShardSender {
        &self.shards[shard_of(address, self.shards.len())]
    }

    fn document(&mut self, document: Document) {
        if document.name == carousel::command::URI {
            // It is signed separately, independent of the FDT.
            self.context.commands.offer(&self.context.trust, clock::now(), document.bytes);
            return;
        }
        let kind = document.content_type.as_deref();
        if let Some(kind) = kind.filter(|it| [LLS_TYPE, STSID_TYPE, USBD_TYPE].contains(it)) {
            let kind = kind.to_owned();
            self.atsc_document(&kind, &document);
            return;
        }
        if document.name == carousel::firmware::URI {
            self.context.updates.offer(&self.context.trust, clock::now(), document.bytes);
            return;
        }
        if self.is_outranked(&document) {
            self.context.trust.count(TrustDrop::Unsigned);
            return;
        }
        let from = document.object.session.destination;
        if is_configuration(&document) {
            match self.directory.document(document.object.session.source, &document.name, &document.bytes) {
                Ok(_) => {
                    tracing::info!(%from, name = document.name, sessions = self.directory.sessions().len(), "session configuration");
                    self.apply();
                }
                Err(err) => {
                    tracing::warn!(%from, name = document.name, %err, "a session configuration cannot be read; the one before it stays in force");
                }
            }
        } else {
            tracing::debug!(%from, name = document.name, bytes = document.bytes.len(), "signalling");
        }
        if nip::Document::from_name(&document.name) == Some(nip::Document::TimeOffset)
            && let Some(date) = nip::TimeOffsetFile::parse(&document.bytes).ok().and_then(|it| it.time())
        {
            clock::learn(date);
        }
        let SessionContext { names, documents, .. } = &self.context;
        if let Ok(key) = names.key_of(&document.object.session, &document.name) {
            documents.keep(clock::now(), &key, document);
        }
    }

    /// Processes a table of low-level signalling, or a document of a service's own signalling.
    fn atsc_document(&mut self, kind: &str, document: &Document) {
        let SessionKey { source, destination, .. } = document.object.session;
        let has_changed = if kind != LLS_TYPE {
            self.atsc.document(source, destination, kind, &document.bytes)
        } else if !self.options.receive.lls.contains(&destination) {
            false
        } else if self.context.trust.mode_of(ANNOUNCEMENT_SERVICE) == Mode::Require {
            self.unsigned_lls.add(ServiceDrop::Unsigned);
            false
        } else {
            self.atsc.datagram(clock::now(), source, destination, &document.bytes)
        };
        if has_changed {
            let services = self.atsc.services().len();
            tracing::info!(from = %destination, services, "ATSC signalling");
            self.apply();
        } else {
            self.publish_atsc();
        }
    }

    fn publish_atsc(&self) {
        let unsigned = self.unsigned_lls.get(ServiceDrop::Unsigned);
        let left_out = ServiceDrop::ALL.map(|it| {
            let more = if it == ServiceDrop::Unsigned { unsigned } else { 0 };
            self.atsc.left_out().get(it) + more
        });
        let state = AtscState {
            lists: self.atsc.report(),
            times: self.atsc.times().map(|(source, time)| (source, time.clone())).collect(),
            tables: self.atsc.tables(),
            left_out,
        };
        *self.groups.atsc.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// The sessions of the configuration, of gateway configurations and of ATSC services.
    fn sessions(&self) -> Vec<SessionSpec> {
        let mut sessions = self.directory.sessions().to_vec();
        sessions.extend(self.atsc.sessions());
        sessions
    }

    /// Whether signed configurations are in force, and this one is not signed.
    fn is_outranked(&mut self, document: &Document) -> bool {
        self.is_signed &= self.context.trust.mode_of(ANNOUNCEMENT_SERVICE) != Mode::Off;
        self.is_signed |= document.is_signed && is_configuration(document);
        self.is_signed && !document.is_signed && is_configuration(document)
    }

    fn reload(&mut self, config: &SessionOptions) {
        let documents = std::mem::take(&mut self.directory);
        self.directory = documents.with_fixed(config.join_policy(), config.fixed_sessions());
        self.options = config.clone();
        self.atsc.keep_groups(&config.receive.lls);
        self.joined_on = Interface::of(&config.receive.interface);
        self.exceptions = exceptions(config);
        self.apply();
    }

    /// Applies the directory to sockets, aliases, origins and repair rules.
    fn apply(&mut self) {
        self.context.names.set_aliases(self.directory.aliases().clone());
        self.updates_generation = self.context.updates.generation();
        let bundles = self.context.updates.sessions();
        let repairs = || {
            let all = self.directory.sessions().iter().chain(&bundles);
            all.filter_map(|it| Some((it, it.repair.as_ref()?)))
        };
        self.context.origins.set_signalled(repairs().flat_map(|(_, repair)| {
            repair.base_urls.iter().filter(|(_, weight)| *weight > 0).map(|(url, _)| url.clone())
        }));
        self.context.rules.set(repairs().map(|(spec, repair)| (spec.address, spec.tsi, repair.clone())));

        let own = self.directory.sessions().iter().map(|it| it.address);
        self.atsc.set_taken(own.chain(self.options.receive.lls.iter().copied()).collect::<Vec<_>>());
        self.context.names.set_bases(self.atsc.bases());
        self.publish_atsc();
        let described = self.atsc.descriptions();
        if *self.described != described {
            self.described = Arc::new(described);
            for shard in &self.shards {
                shard.send(Command::Describe(Arc::clone(&self.described)));
            }
        }
        self.candidates();
        let mode = |spec: &SessionSpec| mode_of(&self.context.trust, &self.exceptions, spec);
        // Services inside transport streams are never left out: they are received anyway.
        let interface = &self.options.receive.interface;
        let mut all = self.sessions();
        all.extend(bundles.iter().cloned());
        let lls = self.options.receive.lls.iter().map(|&address| {
            let group = GroupSpec { address, source: None, interface: interface.clone() };
            (group, SessionFilter::lls(), "lls")
        });
        let lls: Vec<_> = lls.collect();
        let mut known = wanted(&all, interface, mode);
        known.extend(lls.clone());
        let expected = known.iter().map(|(group, listen, _)| (group.address, listen.clone())).collect();
        let expected = Arc::new(expected);
        for shard in &self.shards {
            shard.send(Command::Expect(Arc::clone(&expected)));
        }
        // Firmware is not requested by players: the bundles that concern the box are joined.
        let is_joined = |it: &SessionSpec| {
            it.service.is_empty()
                || it.origin == SessionOrigin::Firmware
                || self.joining.is_joined(&it.service)
        };
        let is_signable = |it: &&SessionSpec| may_be_signed(it, mode(it));
        let unsigned: BTreeSet<SocketAddr> =
            all.iter().filter(|it| !is_signable(it)).map(|it| it.address).collect();
        for address in unsigned.difference(&self.unsigned_routes) {
            tracing::warn!(group = %address, "not joined: [trust] requires signatures, and ROUTE has none");
        }
        let joined_specs = all.iter().filter(|it| is_joined(it)).filter(is_signable);
        let mut wanted = wanted(joined_specs, interface, mode);
        self.unsigned_routes = unsigned;
        wanted.extend(lls);
        let multicast = self.options.receive.multicast;
        let joined = |group: &GroupSpec| multicast && wanted.iter().any(|it| it.0 == *group);
        let gone: Vec<GroupSpec> = self.open.keys().filter(|group| !joined(group)).cloned().collect();
        for group in gone {
            self.open.remove(&group);
            self.shard(&group.address).send(Command::Close(group));
        }
        let before = self.groups.all();
        let mut states = Vec::with_capacity(wanted.len());
        for (group, listen, why) in wanted {
            let listened = if multicast { self.listen(&group, listen) } else { Ok(()) };
            let error = listened.err().map(|err| err.to_string());
            let said = before.iter().any(|it| it.group == group && it.error == error);
            if let Some(error) = error.as_ref().filter(|_| !said) {
                tracing::error!("{error}; trying again every {} s", RETRY.as_secs());
            }
            states.push(GroupState { group, why, is_wanted: true, error });
        }
        for (group, _, why) in known {
            if !states.iter().any(|it| it.group == group) {
                states.push(GroupState { group, why, is_wanted: false, error: None });
            }
        }
        *self.groups.groups.lock().unwrap_or_else(PoisonError::into_inner) = states;
    }

    /// Publishes the services to the policy and to responses.
    fn candidates(&mut self) {
        let mut announced = self.directory.services();
        announced.extend(self.atsc.services());
        let specs = self.options.with_announced(announced);
        self.context.services.set(&specs);
        let order = self.context.services.order();
        let order: Vec<_> = order.iter().map(|key| self.context.services.of(key)).collect();
        let place = |id: &str| order.iter().position(|it| it.as_ref().is_some_and(|it| it.id == id));
        let mut candidates: Vec<(usize, Candidate)> = specs
            .into_iter()
            .map(|spec| {
                let (join, configured_bps) = self.options.policy_of(&spec.id);
                let rate_bps = configured_bps
                    .or_else(|| self.directory.announced_bps(&spec.id))
                    .or_else(|| self.atsc.announced_bps(&spec.id));
                (place(&spec.id).unwrap_or(usize::MAX), Candidate { id: spec.id, join, rate_bps })
            })
            .collect();
        // Services outside all lists of channels follow in the order of their documents.
        candidates.sort_by_key(|it| it.0);
        let candidates = candidates.into_iter().map(|it| it.1).collect();
        self.joining.configure(clock::now(), self.options.join_options(), candidates);
        self.note_changes();
    }

    /// Joins services that players request, and leaves those no longer requested.
    fn demand(&mut self) {
        let Self { context: SessionContext { services, flights, .. }, joining, .. } = self;
        let is_reordered = services.looking();
        let now = clock::now();
        // An object counts as requested while it is read.
        for flight in flights.list().into_iter().filter(|it| it.is_carried()) {
            if flight.partial().readers_now_and_ever().0 > 0 {
                services.asked(&flight.key, now);
            }
        }
        for service in services.all() {
            if let Some(at) = service.asked_at() {
                joining.asked(now, &service.id, at);
            }
        }
        joining.handle_timeout(now);
        let has_firmware = self.context.updates.generation() != self.updates_generation;
        if self.note_changes() || is_reordered || has_firmware {
            self.apply();
        }
    }

    /// Counts, logs and publishes the decisions of the policy; returns whether a service was joined or left.
    fn note_changes(&mut self) -> bool {
        let mut has_changed = false;
        while let Some(event) = self.joining.poll_event() {
            has_changed |= !matches!(event, Event::Refused(..));
            match event {
                Event::Joined(service, why) => {
                    self.groups.joined.add(why);
                    if why != JoinReason::Always {
                        tracing::info!(service, %why, "the groups of a service are joined");
                    }
                }
                Event::Left(service, why) => {
                    self.groups.left.add(why);
                    tracing::info!(service, %why, "the groups of a service are left");
                }
                Event::Refused(service, why) => {
                    self.groups.refused.add(why);
                    let (rate_bps, limit_bps) =
                        (self.joining.rate_bps(&service), self.options.receive.joined_bps);
                    tracing::warn!(service, %why, rate_bps, limit_bps, "no room for a service: raise [receive] joined_bps");
                }
            }
        }
        let now = clock::now();
        for service in self.context.services.all() {
            let membership = if self.joining.is_joined(&service.id) {
                Membership::Joined
            } else if self.joining.refusal(&service.id).is_some() {
                Membership::Refused
            } else {
                Membership::Left
            };
            service.set_membership(now, membership);
        }
        self.publish_services();
        has_changed
    }

    fn publish_services(&self) {
        let services = self.context.services.all();
        let states = services.iter().map(|it| ServiceState {
            id: it.id.clone(),
            join: self.options.policy_of(&it.id).0,
            membership: it.membership(),
            refusal: self.joining.refusal(&it.id),
            rate_bps: self.joining.rate_bps(&it.id),
        });
        *self.groups.services.lock().unwrap_or_else(PoisonError::into_inner) = states.collect();
    }

    /// Passes the measured rates of services to the policy.
    fn measure(&mut self) {
        let services = self.context.services.all();
        if services.is_empty() {
            return;
        }
        let sessions = self.context.receive.sessions();
        let all = self.sessions();
        for service in services {
            let specs: Vec<&SessionSpec> = all.iter().filter(|it| it.service == service.id).collect();
            let is_own = |key: &SessionKey| {
                specs.iter().any(|it| {
                    let is_route = it.protocol == Protocol::Route;
                    it.address == key.destination && (is_route || it.tsi.is_none_or(|tsi| tsi == key.tsi.0))
                })
            };
            let bytes = sessions.iter().filter(|it| is_own(&it.0)).map(|it| it.1.receiver.bytes).sum();
            let is_joined = service.membership() == Membership::Joined;
            if let Some(bps) = self.rates.sample(clock::now(), &service.id, bytes, is_joined) {
                self.joining.measured(&service.id, bps);
            }
        }
    }

    fn listen(&mut self, group: &GroupSpec, filter: SessionFilter) -> Result<(), crate::source::SourceError> {
        match self.open.get(group) {
            Some(have) if *have == filter => {}
            Some(_) => {
                self.shard(&group.address).send(Command::Change(group.clone(), filter.clone()));
                self.open.insert(group.clone(), filter);
            }
            None => {
                let socket = ReceiveSocket::open(group, self.options.receive.socket_buffer_bytes)?;
                self.shard(&group.address).send(Command::Open(socket, filter.clone()));
                self.open.insert(group.clone(), filter);
            }
        }
        Ok(())
    }
}

/// Whether a session can bring anything that counts: ROUTE has no signatures. Packets of it that come nevertheless, in groups of other
/// sessions, are counted as `unsigned_protocol`.
fn may_be_signed(spec: &SessionSpec, mode: Mode) -> bool {
    spec.protocol != Protocol::Route || mode != Mode::Require
}

/// Groups sessions by their shared socket. All channels of a ROUTE session are received: signalling and repair symbols
/// have channels of their own.
fn wanted<'a>(
    sessions: impl IntoIterator<Item = &'a SessionSpec>,
    interface: &str,
    mode: impl Fn(&SessionSpec) -> Mode,
) -> Vec<(GroupSpec, SessionFilter, &'static str)> {
    let mut groups: Vec<(GroupSpec, SessionFilter, &'static str)> = Vec::new();
    for spec in sessions {
        let is_route = spec.protocol == Protocol::Route;
        // The protocol of undeclared sessions is determined for each packet.
        let has_route = is_route || spec.origin == SessionOrigin::Static;
        let group = GroupSpec { address: spec.address, source: spec.source, interface: interface.to_owned() };
        let timeout = spec.repair.as_ref().map(|it| it.reception_timeout_ms).filter(|ms| *ms > 0);
        let session = (spec.tsi.filter(|_| !is_route), timeout.map(Duration::from_millis));
        let service = (!spec.service.is_empty()).then(|| (session.0, Arc::from(&*spec.service)));
        match groups.iter_mut().find(|it| it.0 == group) {
            Some((_, listen, _)) => {
                listen.sessions.push(session);
                listen.services.extend(service);
                listen.has_route |= has_route;
                listen.trust = stricter(listen.trust, mode(spec));
            }
            None => {
                let sessions = vec![session];
                let services = service.into_iter().collect();
                let trust = mode(spec);
                let filter =
                    SessionFilter { sessions, services, has_route, trust, ..SessionFilter::default() };
                groups.push((group, filter, spec.origin.as_str()));
            }
        }
    }
    groups
}

/// Trust mode of a session: by its own entry of the configuration, or by its service.
fn mode_of(trust: &Trust, exceptions: &HashMap<SocketAddr, Mode>, spec: &SessionSpec) -> Mode {
    let is_static = spec.origin == SessionOrigin::Static;
    let own = exceptions.get(&spec.address).filter(|_| is_static);
    own.copied().unwrap_or_else(|| {
        trust.mode_of(if spec.service.is_empty() { ANNOUNCEMENT_SERVICE } else { &spec.service })
    })
}

fn exceptions(config: &SessionOptions) -> HashMap<SocketAddr, Mode> {
    config.sessions.iter().filter_map(|it| Some((it.address, it.trust?.mode()))).collect()
}

/// Sessions of one group share a socket: the strictest rule applies to all.
const fn stricter(a: Mode, b: Mode) -> Mode {
    match (a, b) {
        (Mode::Require, _) | (_, Mode::Require) => Mode::Require,
        (Mode::Prefer, _) | (_, Mode::Prefer) => Mode::Prefer,
        (Mode::Off, Mode::Off) => Mode::Off,
    }
}

fn is_configuration(document: &Document) -> bool {
    nip::Document::from_name(&document.name) == Some(nip::Document::Bootstrap)
        || is_gateway_configuration(&document.name, document.content_type.as_deref())
}

#[cfg(test)]
mod tests;
