//! Sessions and objects on the air, and the choice of the next packet (`DESIGN.md`).
//!
//! ```text
//! timers ──▶ urgent    FDT; signalling when new and when due      ┐
//! sources ─┬▶ live     once each, within the reserved rate        │
//! ├▶ share    firmware, repeated at its own rate           ├─▶ next packet ─▶ pace ─▶ sink
//!          └▶ fresh    objects never sent yet, in order           │
//! wave     the objects being sent, interleaved        │
//!             schedule the longest wait in proportion to weight   ┘
//! ```
//!
//! No sockets, clocks or configuration files: time is an argument, packets are results. Only bodies of objects are read
//! from files ([`crate::object`]).

mod descriptions;
mod job;
mod live;
mod numbering;
mod opening;
mod pieces;
mod reserve;
mod route;
mod session;
mod share;
mod writing;

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;

use std::sync::Arc;

use carousel::fec::{Partition, Protection, Sequence};
use carousel::flute::{Encoding, SendFile, Sender, SenderError, SenderProfile};
use carousel::lct::{Toi, Tsi};
use carousel::time::WallTime;
use carousel::trust::Sealer;

use job::{Job, Lane, WaveEntry};
use live::{Live, LiveShare, Part};
pub use live::{LiveDrop, LiveDrops};
pub use numbering::{KnownObject, Numbers, ObjectKey, SessionNumbers};
pub use pieces::GrowingObject;
use pieces::PieceRange;
use route::{RouteGroup, RouteObject};
use session::Session;
use share::Share;

use crate::lanes::Lanes;
pub use crate::lanes::{ItemId, wave_symbols};
pub use crate::object::{AirObject, Body, BodyError, LiveTiming, OpenBody, RepairSymbols, Repeat};
use crate::object::{SharedRepair, route_oti};
pub use crate::overhead::{IP_UDP_BYTES, PACKET_BYTES, air_bytes};
use crate::plan::{DeductedRates, Planned};

/// Index of a session in [`Air`].
pub type SessionIndex = usize;

#[derive(Debug)]
struct Item {
    session: SessionIndex,
    toi: Toi,
    object: AirObject,
    air_bytes: u64,
    repair: SharedRepair,
    /// State of an object of a ROUTE session.
    route: Option<RouteObject>,
    /// Position of a piece in an object of a ROUTE session, whose name and TOI belong to another item.
    place: Option<PieceRange>,
    /// Key by which another sender recognises the object.
    key: ObjectKey,
    starts: u64,
    /// Start of its last transmission.
    started_ns: u64,
    /// Number of complete transmissions.
    completed: u64,
    /// Arrival of a live object while another sender is on the air.
    arrived_ns: Option<u64>,
}

/// Destination of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketDestination {
    /// Group and port.
    pub destination: SocketAddr,
    /// Index of the session.
    pub session: SessionIndex,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AirStats {
    /// Packets written.
    pub packets: u64,
    /// Their UDP payload bytes.
    pub bytes: u64,
    /// Objects sent to their last symbol, repeats included.
    pub objects_sent: u64,
    /// Objects that changed or vanished on disk during a transmission.
    pub objects_broken_off: u64,
    /// Dropped live objects.
    pub live_dropped: LiveDrops,
}

/// Options of a carousel.
#[derive(Debug, Clone, Default)]
pub struct AirConfig {
    /// The link's rate, IP and UDP headers included.
    pub rate_bps: u64,
    /// Interval between repeats of an FDT Instance.
    pub fdt_interval_ms: u64,
    /// Promised cycle: every scheduled object is started at least this often if the link permits; `None`: no promise.
    pub cycle_ms: Option<u64>,
    /// Rate reserved for live: objects of [`Repeat::Live`] have priority over the carousel within it.
    pub reserved_bps: u64,
    /// The part of it reserved for each service.
    pub reserved_by_service_bps: Vec<u64>,
    /// Rate of objects of [`Repeat::Share`]: they have priority over the carousel within it, and never exceed it.
    pub share_bps: u64,
    /// Whether live objects that were not started by their deadline are dropped.
    pub drops_late: bool,
    /// First TOI and FDT Instance ID; should differ from one start to the next.
    pub first_toi: u32,
    /// Every object is sent once, with the B flag on its last packet, then every session is closed.
    pub once: bool,
    /// Lead of a single pass: until then only objects with a hard maximum period are sent, so that receivers find their
    /// sessions before the media start. 0 for a carousel, which repeats everything.
    pub lead_ms: u64,
    /// Signer of the FDT of each session.
    pub sealer: Option<Sealer>,
}

/// All sessions and objects.
#[derive(Debug)]
pub struct Air {
    sessions: Vec<Session>,
    routes: Vec<RouteGroup>,
    items: BTreeMap<ItemId, Item>,
    lanes: Lanes,
    urgent: VecDeque<Job>,
    /// Signalling that was not sent yet; it precedes all media, including live.
    signalling: VecDeque<ItemId>,
    live: Live,
    share: Share,
    /// Objects of sessions that are not open yet, by arrival.
    held: VecDeque<ItemId>,
    /// Whether there are such sessions.
    has_closed: bool,
    /// Live objects dropped because they were late, until [`Air::take_dropped`].
    dropped: BTreeSet<ItemId>,
    /// Short objects that became due during the only object of the wave; the last one started is first.
    between: Vec<Job>,
    /// Objects being sent. Protected ones are interleaved, so that a burst takes little of each.
    wave: BinaryHeap<WaveEntry>,
    next_id: ItemId,
    /// Number of additions and removals.
    generation: u64,
    config: AirConfig,
    /// Next check of the sessions' FDTs, and next renewal of all.
    fdt_look_ns: u64,
    fdt_renewal_ns: u64,
    /// Time for one repetition of all FDT pages of all sessions.
    fdt_cycle_ns: u64,
    ending: Option<ClosingRounds>,
    /// Another sender is on the air: nothing is queued.
    is_standby: bool,
    /// Live objects that arrived since the last time update.
    arrived: Vec<ItemId>,
    stats: AirStats,
    symbol: Vec<u8>,
}

/// Service name under which sessions of signalling are signed.
pub const ANNOUNCEMENT_SERVICE: &str = "announcement";
carousel::limits! {
    /// Protected objects that are sent in turns.
    const MAX_WAVE: usize = 400, "objects" {
        why: "Each has its file open, and a process may have 1,024.",
        full: "Further objects wait for the next wave.",
        free: "When the objects of the wave have been sent.",
        test: "a_wave_of_very_small_objects_has_a_bounded_number_of_files_open",
    }
}

carousel::limits! {
    /// Numbers of dropped live objects that are remembered until they are asked for.
    const MAX_DROPPED: usize = 4096, "objects" {
        why: "They are asked for twice a second; a ladder with languages has 40 a segment.",
        full: "The oldest is forgotten, and its file is taken for one that has changed.",
        free: "When they are asked for.",
        test: "numbers_of_dropped_objects_are_bounded",
    }
}

/// Maximum ratio of source to repair symbols of a small object.
const SMALL_REPAIR: u64 = 2;
/// Share of the rate not reserved for live that the schedule counts on; FDT and signalling take the rest.
const SCHEDULED_SHARE: f64 = 0.9;
/// Rounds of the entire FDT at the end of a single pass, so that a receiver that missed the description of an object can
/// still repair it.
const LAST_FDT_ROUNDS: u32 = 3;
/// Rounds with the A flag.
const CLOSE_ROUNDS: u32 = 5;
/// Time between rounds: longer than bursts of loss.
const ROUND_NS: u64 = 100_000_000;

/// Rounds left at the end of a transmission.
#[derive(Debug, Clone, Copy)]
struct ClosingRounds {
    fdt_rounds: u32,
    close_rounds: u32,
    due_ns: u64,
}

impl Air {
    /// An empty carousel.
    pub fn new(config: AirConfig) -> Self {
        Self {
            sessions: Vec::new(),
            routes: Vec::new(),
            items: BTreeMap::new(),
            lanes: Lanes::new(
                (config.rate_bps.saturating_sub(config.reserved_bps + config.share_bps) as f64
                    * SCHEDULED_SHARE) as u64,
                config.cycle_ms.map(|ms| ms * 1_000_000),
            ),
            urgent: VecDeque::new(),
            signalling: VecDeque::new(),
            live: Live::new(config.reserved_bps, &config.reserved_by_service_bps, config.drops_late),
            share: Share::new(config.share_bps),
            held: VecDeque::new(),
            has_closed: false,
            dropped: BTreeSet::new(),
            between: Vec::new(),
            wave: BinaryHeap::new(),
            next_id: 1,
            generation: 0,
            fdt_look_ns: 0,
            fdt_renewal_ns: 0,
            fdt_cycle_ns: config.fdt_interval_ms * 1_000_000,
            ending: None,
            is_standby: false,
            arrived: Vec::new(),
            stats: AirStats::default(),
            symbol: Vec::new(),
            config,
        }
    }

    /// Opens a session.
    pub fn open_session(&mut self, address: SocketAddr, tsi: Tsi, profile: SenderProfile) -> SessionIndex {
        let first = self.config.first_toi;
        self.sessions.push(Session::new(address, Sender::new(tsi, profile, first, first)));
        let session = self.sessions.len() - 1;
        self.sign_session(session, ANNOUNCEMENT_SERVICE);
        session
    }

    /// Sets the service under which the FDT of a session is signed, if there is a signer; the default is
    /// [`ANNOUNCEMENT_SERVICE`].
    pub fn sign_session(&mut self, session: SessionIndex, service: &str) {
        if let Some(sealer) = self.config.sealer.clone() {
            let Session { address, sender, .. } = &mut self.sessions[session];
            let name = format!("{address}/{}", sender.tsi().0);
            sender.sign_with(sealer, service.to_owned(), name);
        }
    }

    /// Opens a channel of ROUTE. Channels of one address share their signalling. TSI + 1 is for its repair symbols.
    pub fn open_route_session(
        &mut self,
        address: SocketAddr,
        tsi: Tsi,
        profile: SenderProfile,
    ) -> SessionIndex {
        let group = self.routes.iter().position(|it| it.address == address).unwrap_or_else(|| {
            self.routes.push(RouteGroup::new(address, profile.symbol_length));
            self.routes.len() - 1
        });
        let session = self.open_session(address, tsi, profile);
        self.sessions[session].route = Some(group);
        session
    }

    /// Adds an object, and makes its repair symbols. Its description is sent at once, then the object, before any repeat of
    /// others.
    ///
    /// # Errors
    /// [`SenderError`] if the object does not fit the session.
    pub fn add(&mut self, session: SessionIndex, object: AirObject) -> Result<ItemId, SenderError> {
        let (sender, length) = (&self.sessions[session].sender, object.body.length());
        let repair = match self.sessions[session].route {
            Some(_) => RepairSymbols::make_route(&object.body, sender.profile(), &object.protection),
            None => {
                let oti = sender.oti_of(length, &object.protection);
                RepairSymbols::make(&object.body, &oti, &object.protection)
            }
        };
        let repair = repair.ok().flatten();
        self.add_prepared(session, object, repair)
    }

    /// As [`Air::add`], with prepared repair symbols; without them the object is sent without a code.
    ///
    /// # Errors
    /// As for [`Air::add`].
    pub fn add_prepared(
        &mut self,
        session: SessionIndex,
        object: AirObject,
        repair: Option<RepairSymbols>,
    ) -> Result<ItemId, SenderError> {
        let is_route = self.sessions[session].route.is_some();
        let sender = &mut self.sessions[session].sender;
        let length = object.body.length();
        let file = SendFile {
            content_location: object.uri.clone(),
            content_type: Some(object.content_type.clone()),
            encoding: Encoding::Identity,
            content_length: length,
            transfer_length: length,
            content_digest: object.digest,
            repr_digest: None,
            content_md5: Some(object.md5),
            expiry_s: object.expiry_s,
            ignored_query: object.ignored_query.clone(),
        };
        // Repair symbols of ROUTE are numbered differently.
        let is_protected = repair.is_some() && !is_route;
        let protection = if is_protected { object.protection } else { Protection::NONE };
        let route = repair.as_ref().filter(|_| is_route).and_then(|_| {
            let oti = route_oti(sender.profile().symbol_length, length);
            Some(RouteObject { oti, partition: Partition::new(&oti).ok()? })
        });
        let toi = sender.add_protected(file, &protection)?;
        let repair = repair.map(Arc::new);
        let air_bytes = sender.partition(toi).map_or(length, |partition| {
            let plain = || Sequence::plain(*partition);
            let sequence = repair.as_ref().map_or_else(plain, |repair| repair.sequence());
            air_bytes(length, partition, &sequence)
        });
        let item = Item {
            session,
            toi,
            object,
            air_bytes,
            repair,
            route,
            place: None,
            key: ObjectKey::default(),
            starts: 0,
            started_ns: 0,
            completed: 0,
            arrived_ns: None,
        };
        let id = self.insert(item);
        self.queue(id);
        Ok(id)
    }

    fn insert(&mut self, item: Item) -> ItemId {
        let item = Item { key: self.key_of(&item), ..item };
        let id = self.next_id;
        self.next_id += 1;
        self.generation += 1;
        self.sessions[item.session].changes += 1;
        self.sessions[item.session].items.insert(id);
        if item.place.is_none() {
            self.sessions[item.session].has_changed = true;
            self.fdt_look_ns = 0;
        }
        self.items.insert(id, item);
        id
    }

    /// Removes an object at once.
    pub fn withdraw(&mut self, id: ItemId) {
        let Some(item) = self.items.remove(&id) else { return };
        self.generation += 1;
        self.sessions[item.session].changes += 1;
        self.sessions[item.session].items.remove(&id);
        if item.place.is_none() {
            self.sessions[item.session].sender.withdraw(item.toi);
            self.sessions[item.session].has_changed = true;
            self.fdt_look_ns = 0;
        }
        self.remove_held(id, &item);
        self.lanes.remove(id);
        self.signalling.retain(|&fresh| fresh != id);
        self.share.remove(id);
        if self.live.remove(id) {
            self.stats.live_dropped.add(LiveDrop::Removed);
        }
        let is_other = |job: &Job| !matches!(job, Job::Object { id: sent, .. } if *sent == id);
        self.wave.retain(|entry| is_other(&entry.job));
        self.between.retain(is_other);
        self.urgent.retain(is_other);
    }

    /// Ends the transmission: only close flags are sent from now on, until [`Air::is_over`].
    pub fn close(&mut self) {
        self.end(0);
    }

    fn end(&mut self, fdt_rounds: u32) {
        if self.ending.is_none() {
            self.urgent.clear();
            self.held.clear();
            self.signalling.clear();
            self.live.clear();
            self.lanes.clear_fresh();
            self.between.clear();
            self.wave.clear();
            self.ending = Some(ClosingRounds { fdt_rounds, close_rounds: CLOSE_ROUNDS, due_ns: 0 });
        }
    }

    /// Writes the next packet into `out`. `None`: there is nothing to send now (or, after [`Air::close`], ever).
    pub fn next_packet(
        &mut self,
        now_ns: u64,
        wall: WallTime,
        out: &mut Vec<u8>,
    ) -> Option<PacketDestination> {
        loop {
            if self.ending.is_none() {
                self.open_due_sessions(now_ns);
                self.queue_what_is_due(now_ns, wall);
            } else if self.urgent.is_empty() {
                self.queue_ending(now_ns);
            }
            let (mut job, lane) = self.take(now_ns)?;
            let departure = self.write(&mut job, out);
            if self.is_finished(&job) {
                if let (Lane::Live(_), Some(id)) = (lane, job.object()) {
                    self.describe_again(id, now_ns);
                }
                self.finish(&job);
            } else {
                match lane {
                    Lane::Urgent => self.urgent.push_front(job),
                    Lane::Live(turn) => match self.ended_part(&job) {
                        Some(part) => {
                            if part == Part::Source {
                                self.complete(&job);
                            }
                            self.live.park(turn, job, now_ns);
                        }
                        None => self.live.put(turn, job),
                    },
                    Lane::Share => self.share.put(job),
                    Lane::Between => self.between.push(job),
                    Lane::Wave => self.wave.push(WaveEntry::of(job)),
                }
            }
            if let Some(departure) = departure {
                self.stats.packets += 1;
                self.stats.bytes += out.len() as u64;
                match lane {
                    Lane::Live(turn) => self.live.spend(turn, out.len() + IP_UDP_BYTES),
                    Lane::Share => self.share.spend(out.len() + IP_UDP_BYTES),
                    Lane::Urgent | Lane::Between | Lane::Wave => {}
                }
                return Some(departure);
            }
        }
    }

    /// Takes the job of the next packet: urgent ones first (an FDT before the data that it describes), then live within
    /// its reserve, then the carousel. The rate that the carousel leaves goes to live again.
    fn take(&mut self, now_ns: u64) -> Option<(Job, Lane)> {
        if let Some(taken) = self.take_live(now_ns, LiveShare::Reserve) {
            return Some(taken);
        }
        if let Some(job) = self.take_share(now_ns) {
            return Some((job, Lane::Share));
        }
        if self.urgent.is_empty() && self.wave.is_empty() && self.between.is_empty() {
            self.fill_wave(now_ns);
        } else {
            self.put_between(now_ns);
        }
        if let Some(job) = self.urgent.pop_front() {
            return Some((job, Lane::Urgent));
        }
        if let Some(job) = self.between.pop() {
            return Some((job, Lane::Between));
        }
        let wave = self.wave.pop().map(|entry| (entry.job, Lane::Wave));
        wave.or_else(|| self.take_live(now_ns, LiveShare::Link))
    }

    /// Takes the next job of firmware, if its rate allows a packet. Also `None` if its description goes first.
    fn take_share(&mut self, now_ns: u64) -> Option<Job> {
        if self.ending.is_some() || !self.share.has_credit(now_ns) {
            return None;
        }
        while let Some(id) = self.share.next_turn() {
            if let Some(job) = self.start(id, now_ns) {
                self.share.put(job);
            }
        }
        if self.urgent.is_empty() { self.share.take() } else { None }
    }

    /// Takes the next live job. Also `None` if its description goes first.
    fn take_live(&mut self, now_ns: u64, within: LiveShare) -> Option<(Job, Lane)> {
        if self.ending.is_some() {
            return None;
        }
        for id in self.live.admit(now_ns) {
            self.describe_again(id, now_ns);
        }
        while let Some(id) = self.live.take_late(now_ns) {
            self.drop_late(id);
        }
        while self.urgent.is_empty() {
            let Some(service) = self.live.choose(now_ns, within) else {
                if let Some((turn, id)) = self.live.pop_backlog(now_ns, within)
                    && let Some(job) = self.start(id, now_ns)
                {
                    self.live.put(turn, job);
                    continue;
                }
                let next = self.live.pop_backlog_job(now_ns, within);
                return next.map(|(turn, job)| (job, Lane::Live(turn)));
            };
            let items = &self.items;
            let is_protected = |id: ItemId| items.get(&id).is_some_and(|item| item.repair.is_some());
            if let Some((turn, id)) = self.live.pop_startable(service, is_protected) {
                if let Some(job) = self.start(id, now_ns) {
                    self.live.put(turn, job);
                }
            } else if let Some((turn, job)) = self.live.pop_job(service) {
                return Some((job, Lane::Live(turn)));
            }
        }
        None
    }

    /// Drops a late live object.
    fn drop_late(&mut self, id: ItemId) {
        self.stats.live_dropped.add(LiveDrop::Late);
        self.withdraw(id);
        self.dropped.insert(id);
        if self.dropped.len() > MAX_DROPPED {
            self.dropped.pop_first();
        }
    }

    /// Whether everything has been sent, close flags included.
    pub fn is_over(&self) -> bool {
        let silent = self.urgent.is_empty() && self.wave.is_empty() && self.between.is_empty();
        self.ending.is_some_and(|ending| ending.close_rounds == 0 && silent)
    }

    /// Time at which something will be due if nothing is now; `None`: never.
    pub fn next_due_ns(&self) -> Option<u64> {
        // Sessions without objects have no FDT to repeat.
        let described = self.sessions.iter().filter(|session| session.sender.fdt_pages() > 0);
        let fdt = described.map(Session::due_ns);
        let items = self.lanes.next_due_ns();
        let lead = self.config.once.then_some(self.lead_ns());
        match self.ending {
            Some(ending) => (ending.close_rounds > 0).then_some(ending.due_ns),
            None => {
                let rates = self.live.next_due_ns().into_iter().chain(self.share.next_due_ns());
                let rates = rates.chain(self.next_opening_ns());
                fdt.chain(items).chain(lead).chain(rates).min()
            }
        }
    }

    const fn lead_ns(&self) -> u64 {
        self.config.lead_ms * 1_000_000
    }

    /// Counters.
    pub const fn stats(&self) -> &AirStats {
        &self.stats
    }

    /// Number that changes whenever an object is added or removed.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The objects.
    pub fn objects(&self) -> impl Iterator<Item = (ItemId, &AirObject)> {
        self.items.iter().map(|(&id, item)| (id, &item.object))
    }

    /// An object.
    pub fn object(&self, id: ItemId) -> Option<&AirObject> {
        self.items.get(&id).map(|item| &item.object)
    }

    /// Number of objects on the air.
    pub fn on_air(&self) -> usize {
        self.items.len()
    }

    /// Whether the object is (still) on the air.
    pub fn has(&self, id: ItemId) -> bool {
        self.items.contains_key(&id)
    }

    /// Live objects dropped as late since the last call.
    pub fn take_dropped(&mut self) -> BTreeSet<ItemId> {
        std::mem::take(&mut self.dropped)
    }

    /// Whether it is in the backlog, or on standby would be.
    pub fn is_backlog(&self, id: ItemId) -> bool {
        let would = || self.is_standby && self.items.get(&id).is_some_and(Item::is_old);
        self.live.is_backlog(id) || self.is_held_backlog(id) || would()
    }

    /// Whether the object has not been sent completely yet.
    pub fn is_pending(&self, id: ItemId) -> bool {
        self.items.get(&id).is_some_and(|item| item.completed == 0)
    }

    /// Objects that have been started at least once.
    pub fn started(&self) -> usize {
        self.items.values().filter(|item| item.starts > 0).count()
    }

    /// Whether every object has been sent completely at least once.
    pub fn cycle_done(&self) -> bool {
        let idle = self.lanes.is_all_started()
            && self.signalling.is_empty()
            && !self.urgent.iter().any(|job| matches!(job, Job::Object { .. }))
            && self.wave.is_empty()
            && self.between.is_empty()
            && self.live.is_empty();
        idle && self.items.values().all(|item| item.starts > 0)
    }

    /// The objects for [`crate::plan`], without those that are sent once, and the rates that are deducted from the link
    /// first.
    pub fn planned(&mut self, wall: WallTime) -> (Vec<Planned>, DeductedRates) {
        let is_planned = |it: &&Item| !it.object.repeat.is_live() && it.object.repeat != Repeat::Share;
        let on_turns = self.items.values().filter(is_planned);
        let objects = on_turns.map(|item| Planned {
            weight: item.object.weight(),
            max_period_s: item.object.max_period_ms().map(|ms| ms as f64 / 1000.0),
            ..Planned::new(
                item.object.uri.clone(),
                item.object.body.length(),
                item.air_bytes,
                item.object.class,
            )
        });
        let objects = objects.collect();
        for session in &mut self.sessions {
            // An FDT that cannot be built is reported when it is sent; the plan counts the others.
            let _ = session.sender.refresh_fdt(wall);
        }
        let fdt_bytes = self.measure_fdt();
        let taken = DeductedRates {
            fdt_bps: fdt_bytes as f64 * 8e9 / self.fdt_cycle_ns.max(1) as f64,
            live_bps: self.config.reserved_bps,
            firmware_bps: self.config.share_bps,
            cycle_s: self.config.cycle_ms.map(|ms| ms as f64 / 1000.0),
        };
        (objects, taken)
    }

    fn queue_what_is_due(&mut self, now_ns: u64, wall: WallTime) {
        if now_ns >= self.fdt_look_ns {
            self.queue_fdts(now_ns, wall);
        }
        while self.urgent.is_empty()
            && let Some(id) = self.signalling.pop_front()
        {
            if let Some(job) = self.start(id, now_ns) {
                self.urgent.push_back(job);
            }
        }
        while let Some(id) = self.lanes.take_due(now_ns) {
            if let Some(job) = self.start(id, now_ns) {
                self.urgent.push_back(job);
            }
        }
    }

    fn queue_ending(&mut self, now_ns: u64) {
        let Some(ending) = &mut self.ending else { return };
        if now_ns < ending.due_ns || ending.close_rounds == 0 {
            return;
        }
        ending.due_ns = now_ns + ROUND_NS;
        let is_fdt = ending.fdt_rounds > 0;
        if is_fdt {
            ending.fdt_rounds -= 1;
        } else {
            ending.close_rounds -= 1;
        }
        for session in 0..self.sessions.len() {
            if let (true, Some(group)) = (is_fdt, self.sessions[session].route) {
                let job = self.signalling_of(group, session);
                self.urgent.push_back(job);
                continue;
            }
            let it = &self.sessions[session];
            if is_fdt {
                let pages = 0..it.sender.fdt_pages();
                self.urgent.extend(pages.map(|page| Job::Fdt { session, page, next: 0 }));
            } else {
                self.urgent.push_back(Job::Close { session });
            }
        }
    }

    /// Starts the next object; if it is small and protected, also further ones of that kind, until the wave is much
    /// longer than a burst of loss.
    fn fill_wave(&mut self, now_ns: u64) {
        let wave_symbols = wave_symbols(self.config.rate_bps);
        let mut symbols = 0;
        while let Some(job) = self.choose(now_ns) {
            let is_small = match &job {
                Job::Object { repair: Some(_), left, .. } => {
                    symbols += left;
                    symbols < wave_symbols
                }
                _ => false,
            };
            self.wave.push(WaveEntry::of(job));
            let is_full = self.wave.len() >= MAX_WAVE || self.wave.len() >= self.items.len();
            if !is_small || is_full || self.ending.is_some() {
                return;
            }
        }
    }

    /// Starts a short object that is due during a long one. Waves of several objects are not interrupted: they are short
    /// themselves, and one burst could take an object sent in between completely.
    fn put_between(&mut self, now_ns: u64) {
        if self.config.once || self.ending.is_some() || self.wave.len() > 1 {
            return;
        }
        let on_air = self.between.last().or_else(|| self.wave.peek().map(|entry| &entry.job));
        let left_bytes = || match on_air {
            Some(Job::Object { left, sequence, .. }) => {
                Some(left * (sequence.symbol_length() + PACKET_BYTES))
            }
            _ => None,
        };
        if let Some(id) = self.lanes.next_between(now_ns, left_bytes) {
            match self.start(id, now_ns) {
                Some(job) => self.between.push(job),
                None => self.lanes.unschedule(id),
            }
        }
    }

    fn choose(&mut self, now_ns: u64) -> Option<Job> {
        if self.ending.is_some() {
            return None;
        }
        if now_ns < self.lead_ns() {
            return None;
        }
        while let Some(id) = self.lanes.next_fresh(|_| true) {
            if let Some(job) = self.start(id, now_ns) {
                return Some(job);
            }
        }
        if self.config.once {
            if !self.wave.is_empty() || !self.live.is_empty() {
                return None;
            }
            self.end(LAST_FDT_ROUNDS);
            self.queue_ending(now_ns);
            return self.urgent.pop_front();
        }
        while let Some(id) = self.lanes.next_scheduled(now_ns) {
            if let Some(job) = self.start(id, now_ns) {
                return Some(job);
            }
            self.lanes.unschedule(id);
        }
        None
    }

    /// Opens the body of an object. `None` if the file has changed since it was announced: the object is removed, and the
    /// next scan of its folder adds its successor.
    fn start(&mut self, id: ItemId, now_ns: u64) -> Option<Job> {
        let item = self.items.get_mut(&id)?;
        item.starts += 1;
        item.started_ns = now_ns;
        self.sessions[item.session].changes += 1;
        match item.object.body.open() {
            Ok(reading) => {
                // The FDT precedes the data that it describes, within its share of the link.
                let (index, toi) = (item.session, item.toi);
                if let Some(job) = self.description(index, toi, now_ns, self.fdt_cycle_ns) {
                    self.urgent.push_front(job);
                }
                let item = self.items.get_mut(&id)?;
                let session = &self.sessions[index];
                match item.object.repeat {
                    Repeat::Within { ms } => self.lanes.set_timer(id, now_ns + ms * 1_000_000),
                    Repeat::Scheduled { .. } => {
                        self.lanes.schedule(id, item.object.weight(), item.air_bytes, now_ns);
                    }
                    Repeat::Live(_) | Repeat::Share => {}
                }
                let repair = item.repair.clone();
                let sequence = match &repair {
                    Some(repair) => repair.sequence(),
                    None => match &item.route {
                        Some(of_piece) => Sequence::plain(of_piece.partition),
                        None => Sequence::plain(*session.sender.partition(item.toi)?),
                    },
                };
                let symbols = sequence.symbols();
                Some(Job::Object { id, reading, repair, sequence, symbols, left: symbols, broken: false })
            }
            Err(_) => {
                self.stats.objects_broken_off += 1;
                self.withdraw(id);
                None
            }
        }
    }

    /// The part of a small object that has just been sent, if another follows later.
    fn ended_part(&self, job: &Job) -> Option<Part> {
        let Job::Object { id, repair: Some(_), symbols, left, .. } = job else { return None };
        let item = self.items.get(id).filter(|item| item.route.is_none())?;
        let partition = self.sessions[item.session].sender.partition(item.toi)?;
        let (source, repair) = (partition.symbols, symbols.saturating_sub(partition.symbols));
        if partition.blocks != 1 || repair * SMALL_REPAIR < source {
            return None;
        }
        Part::ended(symbols - left, source, repair)
    }

    /// Counts a transmission. Repair symbols of parked objects do not count: receivers without losses have the object
    /// already.
    fn complete(&mut self, job: &Job) {
        if let Some(item) = job.object().and_then(|id| self.items.get_mut(&id)) {
            item.completed += 1;
            self.sessions[item.session].changes += 1;
        }
    }

    fn finish(&mut self, job: &Job) {
        match *job {
            Job::Object { id, broken: true, .. } => self.withdraw(id),
            Job::Object { .. } => {
                self.stats.objects_sent += 1;
                self.complete(job);
            }
            Job::Fdt { .. } | Job::Close { .. } | Job::Signalling { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
