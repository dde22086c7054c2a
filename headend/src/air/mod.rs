//! What is on the air: sessions, the objects in them, and the next packet.
//!
//! ```text
//! timers ──▶ urgent (FDT, announcement, manifests when due)  ┐
//! rescan ──▶ fresh  (objects never sent yet, in order)       ├─▶ next packet ─▶ pace ─▶ sink
//!            wave    (the objects being sent, in turns)      │
//!            Schedule (who has waited longest for its worth) ┘
//! ```
//!
//! Sockets, clocks and configuration files stay outside: time comes in, packets come out; only object bodies are read
//! from files here ([`body`]).

mod body;
mod protect;

use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;

use std::sync::Arc;

use carousel::Digest;
use carousel::fec::{Protection, Sequence};
use carousel::flute::{Encoding, SendFile, Sender, SenderError, SenderProfile};
use carousel::lct::{Toi, Tsi};
use carousel::time::WallTime;

pub use body::{Body, BodyError, Reading};
pub use protect::RepairSymbols;
use protect::SharedRepair;

use crate::plan::{Class, ItemId, Planned, Schedule};

/// Bytes of IPv4 and UDP headers; what a packet costs on the link beyond its payload.
pub const IP_UDP_BYTES: usize = 28;

/// An object that can be put on the air.
#[derive(Debug, Clone)]
pub struct AirObject {
    /// Its URI, as the FDT names it.
    pub uri: String,
    /// MIME type.
    pub content_type: String,
    /// SHA-256 of the body.
    pub digest: Digest,
    /// MD5 of the body.
    pub md5: [u8; 16],
    /// The bytes.
    pub body: Body,
    /// How much it is wanted.
    pub class: Class,
    /// Hard maximum between two of its starts; `None`: the schedule decides.
    pub max_period_ms: Option<u64>,
    /// Its FEC scheme.
    pub protection: Protection,
}

/// Index of a session in [`Air`].
pub type SessionIndex = usize;

#[derive(Debug)]
struct Session {
    address: SocketAddr,
    sender: Sender,
    /// When each page of the FDT was sent last; `None`: never.
    pages_sent_ns: Vec<Option<u64>>,
    /// The page that is repeated next, and when.
    next_page: usize,
    fdt_due_ns: u64,
    /// Whether objects came or went since the FDT was brought up to date.
    fdt_changed: bool,
}

#[derive(Debug)]
struct Item {
    session: SessionIndex,
    toi: Toi,
    object: AirObject,
    air_bytes: u64,
    repair: SharedRepair,
    due_ns: u64,
    starts: u64,
}

/// What a packet is part of, for counting and for the B flag.
#[derive(Debug)]
enum Job {
    Fdt {
        session: SessionIndex,
        page: usize,
        next: u64,
    },
    Object {
        id: ItemId,
        reading: Reading,
        repair: SharedRepair,
        sequence: Sequence,
        symbols: u64,
        left: u64,
        broken: bool,
    },
    Close {
        session: SessionIndex,
    },
}

/// An object of the wave, ordered so that all of them come to their ends together.
#[derive(Debug)]
struct Turn {
    /// The part of the object that is sent already, in units of 2^-32.
    sent: u64,
    job: Job,
}

impl Turn {
    fn of(job: Job) -> Self {
        let sent = match &job {
            Job::Object { left, symbols, .. } => ((symbols - left) << 32) / (*symbols).max(1),
            Job::Fdt { .. } | Job::Close { .. } => 0,
        };
        Self { sent, job }
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // The greatest of the heap is next.
        other.sent.cmp(&self.sent)
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.sent == other.sent
    }
}

impl Eq for Turn {}

/// Where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
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
    /// Objects that changed or vanished on disk while they were sent.
    pub objects_broken_off: u64,
}

/// All sessions and objects. See the module head.
#[derive(Debug)]
pub struct Air {
    sessions: Vec<Session>,
    items: BTreeMap<ItemId, Item>,
    schedule: Schedule,
    urgent: VecDeque<Job>,
    fresh: VecDeque<ItemId>,
    /// What is being sent. More than one: protected objects that take turns, so that a burst hits each lightly.
    wave: BinaryHeap<Turn>,
    next_id: ItemId,
    fdt_interval_ns: u64,
    rate_bps: u64,
    fdt_renewal_ns: u64,
    /// Every object once, then the close flags.
    once: bool,
    /// Until then only objects with a hard maximum period are sent: announcement, configuration, manifests.
    lead_ns: u64,
    ending: Option<Ending>,
    stats: AirStats,
    first_toi: u32,
    symbol: Vec<u8>,
}

/// The part of the link that repeating the FDT may take; what is new goes out at once regardless.
const MAX_FDT_SHARE: f64 = 0.05;
/// How long a wave takes on the link. Bursts are lost whole, so a block must be spread over many times their length:
/// with 5 % lost in bursts of eight, and a tenth of repair symbols, 6,000 packets keep a block's share of the losses
/// below what it can bear 999 times of 1000. Two seconds of a transponder are more, and who waits for an object of the
/// carousel waits longer anyway.
const WAVE_MS: u64 = 2000;
/// Objects of a wave: each has its file open.
const MAX_WAVE: usize = 400;
/// How often pages whose `Expires` comes near are looked for.
const FDT_RENEWAL_NS: u64 = 1_000_000_000;
/// Rounds with the whole FDT at the end of a single pass: who missed the description of an object that came, or of one
/// that was lost whole, gets it now and can repair.
const LAST_FDT_ROUNDS: u32 = 3;
/// Rounds with the A flag.
const CLOSE_ROUNDS: u32 = 5;
/// Between rounds: longer than the bursts in which links lose.
const ROUND_NS: u64 = 100_000_000;

/// The last words, in rounds.
#[derive(Debug, Clone, Copy)]
struct Ending {
    fdt_rounds: u32,
    close_rounds: u32,
    due_ns: u64,
}

impl Air {
    /// Nothing on the air. `first_toi` should differ from one start to the next; `once`: every object is sent once,
    /// with the B flag on its last packet, then every session is closed.
    pub fn new(fdt_interval_ms: u64, rate_bps: u64, first_toi: u32, once: bool) -> Self {
        Self {
            sessions: Vec::new(),
            items: BTreeMap::new(),
            schedule: Schedule::default(),
            urgent: VecDeque::new(),
            fresh: VecDeque::new(),
            wave: BinaryHeap::new(),
            next_id: 1,
            fdt_interval_ns: fdt_interval_ms * 1_000_000,
            rate_bps,
            fdt_renewal_ns: 0,
            once,
            lead_ns: 0,
            ending: None,
            stats: AirStats::default(),
            first_toi,
            symbol: Vec::new(),
        }
    }

    /// Media wait until `lead_ns`, so that receivers find their sessions first. A carousel that turns does without:
    /// who comes late has the next pass.
    #[must_use]
    pub const fn with_lead(mut self, lead_ns: u64) -> Self {
        self.lead_ns = lead_ns;
        self
    }

    /// Opens a session.
    pub fn open_session(&mut self, address: SocketAddr, tsi: Tsi, profile: SenderProfile) -> SessionIndex {
        let sender = Sender::new(tsi, profile, self.first_toi, self.first_toi);
        self.sessions.push(Session {
            address,
            sender,
            pages_sent_ns: Vec::new(),
            next_page: 0,
            fdt_due_ns: 0,
            fdt_changed: false,
        });
        self.sessions.len() - 1
    }

    /// Puts an object on the air. Its FDT goes out at once, then the object, before any repeat of others.
    ///
    /// # Errors
    /// [`SenderError`] if the object does not fit the session.
    pub fn add(
        &mut self,
        session: SessionIndex,
        object: AirObject,
        now_ns: u64,
    ) -> Result<ItemId, SenderError> {
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
        };
        let mut toi = sender.add_protected(file.clone(), &object.protection)?;
        let repair = match RepairSymbols::make(&object.body, sender, toi, &object.protection) {
            Ok(repair) => repair.map(Arc::new),
            // It changed, or there is no room: without repair symbols it can still be sent, and is looked at again.
            Err(_) => {
                sender.withdraw(toi);
                toi = sender.add(file)?;
                None
            }
        };
        let plain = sender.partition(toi).map_or(0, |partition| partition.symbols);
        let symbols = repair.as_ref().map_or(plain, |repair| repair.sequence().symbols());
        // LCT 16, EXT_FTI 16, payload ID 4.
        let symbol_bytes = sender.oti(toi).map_or(0, |oti| u64::from(oti.symbol_length));
        let air_bytes = length + (symbols - plain) * symbol_bytes + symbols * (36 + IP_UDP_BYTES as u64);
        let id = self.next_id;
        self.next_id += 1;
        self.sessions[session].fdt_changed = true;
        self.items.insert(id, Item { session, toi, object, air_bytes, repair, due_ns: now_ns, starts: 0 });
        self.fresh.push_back(id);
        Ok(id)
    }

    /// Takes an object off the air at once.
    pub fn withdraw(&mut self, id: ItemId) {
        let Some(item) = self.items.remove(&id) else { return };
        self.sessions[item.session].sender.withdraw(item.toi);
        self.sessions[item.session].fdt_changed = true;
        self.schedule.remove(id);
        self.fresh.retain(|&fresh| fresh != id);
        let is_other = |job: &Job| !matches!(job, Job::Object { id: sent, .. } if *sent == id);
        self.wave.retain(|turn| is_other(&turn.job));
        self.urgent.retain(is_other);
    }

    /// From now on only close flags are sent; [`Air::is_over`] says when all are out.
    pub fn close(&mut self) {
        self.end(0);
    }

    fn end(&mut self, fdt_rounds: u32) {
        if self.ending.is_none() {
            self.urgent.clear();
            self.fresh.clear();
            self.wave.clear();
            self.ending = Some(Ending { fdt_rounds, close_rounds: CLOSE_ROUNDS, due_ns: 0 });
        }
    }

    /// Writes the next packet into `out`. `None`: there is nothing to send now (or, after [`Air::close`], ever).
    pub fn next_packet(&mut self, now_ns: u64, wall: WallTime, out: &mut Vec<u8>) -> Option<Departure> {
        loop {
            if self.ending.is_none() {
                self.queue_what_is_due(now_ns, wall);
            } else if self.urgent.is_empty() {
                self.queue_last_words(now_ns);
            }
            if self.urgent.is_empty() && self.wave.is_empty() {
                self.fill_wave(now_ns);
            }
            // Urgent is what must go before everything else: an FDT before the data that it names.
            let (mut job, was_urgent) = match self.urgent.pop_front() {
                Some(job) => (job, true),
                None => (self.wave.pop()?.job, false),
            };
            let departure = self.write(&mut job, out);
            if self.is_finished(&job) {
                self.finish(&job);
            } else if was_urgent {
                self.urgent.push_front(job);
            } else {
                self.wave.push(Turn::of(job));
            }
            if let Some(departure) = departure {
                self.stats.packets += 1;
                self.stats.bytes += out.len() as u64;
                return Some(departure);
            }
        }
    }

    /// Whether everything was said, the close flags too.
    pub fn is_over(&self) -> bool {
        let silent = self.urgent.is_empty() && self.wave.is_empty();
        self.ending.is_some_and(|ending| ending.close_rounds == 0 && silent)
    }

    /// When something will be due if nothing is now; `None` if never.
    pub fn next_due_ns(&self) -> Option<u64> {
        let fdt = self.sessions.iter().map(|session| session.fdt_due_ns);
        let items =
            self.items.values().filter(|item| item.object.max_period_ms.is_some()).map(|item| item.due_ns);
        let lead = self.once.then_some(self.lead_ns);
        match self.ending {
            Some(ending) => (ending.close_rounds > 0).then_some(ending.due_ns),
            None => fdt.chain(items).chain(lead).min(),
        }
    }

    /// Counters.
    pub const fn stats(&self) -> &AirStats {
        &self.stats
    }

    /// Objects on the air.
    pub fn objects(&self) -> impl Iterator<Item = (ItemId, &AirObject)> {
        self.items.iter().map(|(&id, item)| (id, &item.object))
    }

    /// Whether the object is (still) on the air.
    pub fn has(&self, id: ItemId) -> bool {
        self.items.contains_key(&id)
    }

    /// Objects that have been started at least once.
    pub fn started(&self) -> usize {
        self.items.values().filter(|item| item.starts > 0).count()
    }

    /// Whether every object has been sent whole at least once.
    pub fn cycle_done(&self) -> bool {
        self.fresh.is_empty() && self.wave.is_empty() && self.items.values().all(|item| item.starts > 0)
    }

    /// The objects as the planner wants them, and what repeating the FDT costs in bit/s.
    pub fn planned(&mut self, wall: WallTime) -> (Vec<Planned>, f64) {
        let objects = self.items.values().map(|item| Planned {
            uri: item.object.uri.clone(),
            length: item.object.body.length(),
            air_bytes: item.air_bytes,
            class: item.object.class,
            max_period_s: item.object.max_period_ms.map(|ms| ms as f64 / 1000.0),
        });
        let objects = objects.collect();
        for session in &mut self.sessions {
            // An FDT that cannot be built shows when it is sent; the plan counts what can be.
            let _ = session.sender.refresh_fdt(wall);
        }
        let fdt_bytes: u64 = self.sessions.iter().map(|session| session.sender.fdt_bytes()).sum();
        (objects, fdt_bytes as f64 * 8e9 / self.fdt_cycle_ns().max(1) as f64)
    }

    /// Time in which every page of every session's FDT is repeated once.
    fn fdt_cycle_ns(&self) -> u64 {
        let bytes: u64 = self.sessions.iter().map(|session| session.sender.fdt_bytes()).sum();
        let by_share = bytes as f64 * 8e9 / (self.rate_bps.max(1) as f64 * MAX_FDT_SHARE);
        self.fdt_interval_ns.max(by_share as u64)
    }

    fn queue_what_is_due(&mut self, now_ns: u64, wall: WallTime) {
        let cycle_ns = self.fdt_cycle_ns();
        let renew = now_ns >= self.fdt_renewal_ns;
        if renew {
            self.fdt_renewal_ns = now_ns + FDT_RENEWAL_NS;
        }
        for (index, session) in self.sessions.iter_mut().enumerate() {
            if std::mem::take(&mut session.fdt_changed) || renew {
                let changed = session.sender.refresh_fdt(wall).unwrap_or_default();
                session.pages_sent_ns.resize(session.sender.fdt_pages(), None);
                for page in changed {
                    session.pages_sent_ns[page] = Some(now_ns);
                    self.urgent.push_back(Job::Fdt { session: index, page, next: 0 });
                }
            }
            let pages = session.sender.fdt_pages();
            if session.fdt_due_ns <= now_ns && pages > 0 {
                session.fdt_due_ns = now_ns + cycle_ns / pages as u64;
                let page = session.next_page % pages;
                session.next_page = page + 1;
                let sent = session.pages_sent_ns[page];
                if sent.is_none_or(|sent| sent + cycle_ns / 2 <= now_ns) {
                    session.pages_sent_ns[page] = Some(now_ns);
                    self.urgent.push_back(Job::Fdt { session: index, page, next: 0 });
                }
            }
        }
        let due: Vec<ItemId> = self
            .items
            .iter()
            .filter(|(_, item)| {
                item.object.max_period_ms.is_some() && item.starts > 0 && item.due_ns <= now_ns
            })
            .map(|(&id, _)| id)
            .collect();
        for id in due {
            if let Some(job) = self.start(id, now_ns) {
                self.urgent.push_back(job);
            }
        }
    }

    fn queue_last_words(&mut self, now_ns: u64) {
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
        for (session, it) in self.sessions.iter().enumerate() {
            if is_fdt {
                let pages = 0..it.sender.fdt_pages();
                self.urgent.extend(pages.map(|page| Job::Fdt { session, page, next: 0 }));
            } else {
                self.urgent.push_back(Job::Close { session });
            }
        }
    }

    /// The next object; if it is small and protected, others like it with it, until a burst on the link is short
    /// against the wave.
    fn fill_wave(&mut self, now_ns: u64) {
        let wave_symbols = self.rate_bps * WAVE_MS / 1000 / (8 * 1400);
        let mut symbols = 0;
        while let Some(job) = self.choose(now_ns) {
            let is_small = match &job {
                Job::Object { repair: Some(_), left, .. } => {
                    symbols += left;
                    symbols < wave_symbols
                }
                _ => false,
            };
            self.wave.push(Turn::of(job));
            let is_full = self.wave.len() >= MAX_WAVE || self.wave.len() >= self.items.len();
            if !is_small || is_full || self.ending.is_some() {
                return;
            }
        }
    }

    fn choose(&mut self, now_ns: u64) -> Option<Job> {
        if self.ending.is_some() {
            return None;
        }
        while let Some(id) = self.next_fresh(now_ns) {
            if let Some(job) = self.start(id, now_ns) {
                return Some(job);
            }
        }
        if now_ns < self.lead_ns {
            return None;
        }
        if self.once {
            if !self.wave.is_empty() {
                return None;
            }
            self.end(LAST_FDT_ROUNDS);
            self.queue_last_words(now_ns);
            return self.urgent.pop_front();
        }
        while let Some(id) = self.schedule.next(now_ns) {
            if let Some(job) = self.start(id, now_ns) {
                return Some(job);
            }
            self.schedule.remove(id);
        }
        None
    }

    fn next_fresh(&mut self, now_ns: u64) -> Option<ItemId> {
        if now_ns >= self.lead_ns {
            return self.fresh.pop_front();
        }
        let items = &self.items;
        let leads = |id: &ItemId| items.get(id).is_some_and(|item| item.object.max_period_ms.is_some());
        let at = self.fresh.iter().position(leads)?;
        self.fresh.remove(at)
    }

    /// Opens the body of an object. `None` if it is no longer what was announced: then it leaves the air, and the
    /// next reading of its folder brings its successor.
    fn start(&mut self, id: ItemId, now_ns: u64) -> Option<Job> {
        let cycle_ns = self.fdt_cycle_ns();
        let item = self.items.get_mut(&id)?;
        item.due_ns = now_ns + item.object.max_period_ms.unwrap_or(0) * 1_000_000;
        item.starts += 1;
        match item.object.body.open() {
            Ok(reading) => {
                // FDT before the data that it names, within its share of the link.
                let session = &mut self.sessions[item.session];
                if let Some(page) = session.sender.page_of(item.toi)
                    && let Some(sent) = session.pages_sent_ns.get_mut(page)
                    && sent.is_none_or(|sent| sent + cycle_ns <= now_ns)
                {
                    *sent = Some(now_ns);
                    self.urgent.push_front(Job::Fdt { session: item.session, page, next: 0 });
                }
                if item.object.max_period_ms.is_none() {
                    self.schedule.add(id, item.object.class, item.air_bytes, now_ns);
                }
                let repair = item.repair.clone();
                let sequence = match &repair {
                    Some(repair) => repair.sequence(),
                    None => Sequence::plain(*session.sender.partition(item.toi)?),
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

    /// Writes the job's next packet. `None` if it has none (an empty object, or one that broke off).
    fn write(&mut self, job: &mut Job, out: &mut Vec<u8>) -> Option<Departure> {
        let departure = |session: SessionIndex, sessions: &[Session]| Departure {
            destination: sessions[session].address,
            session,
        };
        match job {
            Job::Fdt { session, page, next } => {
                let written = self.sessions[*session].sender.write_fdt(*page, *next, out);
                *next += 1;
                written.then(|| departure(*session, &self.sessions))
            }
            Job::Object { id, reading, repair, sequence, left, broken, .. } => {
                let item = self.items.get(id)?;
                let session = &self.sessions[item.session];
                let step = sequence.next()?;
                *left -= 1;
                let (oti, partition) = (session.sender.oti(item.toi)?, session.sender.partition(item.toi)?);
                // What leads is repeated until the media begin.
                let last_ever = self.once && item.object.max_period_ms.is_none() && *left == 0;
                let read = match (step.source, repair) {
                    (Some(symbol), _) => {
                        let range = partition.byte_range(symbol);
                        self.symbol.resize((range.end - range.start) as usize, 0);
                        reading.read_at(range.start, &mut self.symbol)
                    }
                    (None, Some(repair)) => {
                        let k = partition.block_symbols(step.payload_id.sbn);
                        repair.read(step.payload_id, oti, k, &mut self.symbol)
                    }
                    (None, None) => return None,
                };
                if read.is_err() {
                    // The file shrank under us. What was sent is useless; receivers see it by the digest.
                    self.stats.objects_broken_off += 1;
                    *broken = true;
                    return None;
                }
                let written = match step.source {
                    Some(symbol) => {
                        session.sender.write_packet(item.toi, symbol, &self.symbol, last_ever, out)
                    }
                    None => {
                        session.sender.write_repair(item.toi, step.payload_id, &self.symbol, last_ever, out)
                    }
                };
                written.then(|| departure(item.session, &self.sessions))
            }
            Job::Close { session } => {
                self.sessions[*session].sender.write_close(out);
                Some(departure(*session, &self.sessions))
            }
        }
    }

    fn is_finished(&self, job: &Job) -> bool {
        match job {
            Job::Fdt { session, page, next } => *next >= self.sessions[*session].sender.fdt_packets(*page),
            Job::Object { id, left, broken, .. } => *broken || *left == 0 || !self.items.contains_key(id),
            Job::Close { .. } => true,
        }
    }

    fn finish(&mut self, job: &Job) {
        match *job {
            Job::Object { id, broken: true, .. } => self.withdraw(id),
            Job::Object { .. } => self.stats.objects_sent += 1,
            Job::Fdt { .. } | Job::Close { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
