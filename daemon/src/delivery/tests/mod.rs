//! Simulation of a complete receiver in virtual time from one seed: sender, lossy link, delivery, memory cache, origins
//! and clients.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use carousel::digest::Digest;
use carousel::fec::{EncodingId, PayloadId, Protection};
use carousel::flute::{
    File, MemoryBuf, OpenRequest, Refusal, SendFile, Sender, SenderProfile, SessionKey, Storage, SymbolPlace,
    verify,
};
use carousel::lct::{Toi, Tsi};
use carousel::repair::BackOff;
use carousel::time::{Instant, WallTime};
use linksim::{Link, Profile, Rng};
use proptest::prelude::*;
use std::time::Duration;

use super::*;

mod guards;
mod limits;
mod live;
mod memory;
mod trust;

const START: WallTime = WallTime::from_unix_ms(1_795_219_200_000);
const DESTINATION: &str = "239.0.0.1:6000";

fn source() -> std::net::SocketAddr {
    "10.0.0.1:5000".parse().unwrap()
}

/// Bytes that storage has lent and not got back.
#[derive(Debug, Clone, Default)]
struct Room(Arc<AtomicU64>);

/// Storage of one object in memory.
#[derive(Debug)]
struct Space {
    bytes: Arc<Mutex<MemoryBuf>>,
    length: u64,
    room: Room,
    stalled_since: Mutex<Option<Instant>>,
    /// Number of times that it was set.
    times_set: AtomicU32,
}

impl Drop for Space {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.length, Ordering::Relaxed);
    }
}

/// A cache in memory.
#[derive(Debug, Default)]
struct Memory {
    held: HashMap<String, Digest>,
    room: Room,
    refuses: Option<Refusal>,
}

impl Storage for &mut Memory {
    type Buf = Space;
    fn open(&mut self, request: &OpenRequest<'_>) -> Result<Space, Refusal> {
        if let Some(refusal) = self.refuses {
            return Err(refusal);
        }
        if request.file.is_some_and(|file| self.holds(file)) {
            return Err(Refusal::Held);
        }
        self.room.0.fetch_add(request.length, Ordering::Relaxed);
        let bytes = Arc::new(Mutex::new(MemoryBuf::new(request.length)));
        Ok(Space {
            bytes,
            length: request.length,
            room: self.room.clone(),
            stalled_since: Mutex::default(),
            times_set: AtomicU32::new(0),
        })
    }
    fn name(&mut self, _: &mut Space, file: &Arc<File>) -> Result<(), Refusal> {
        if self.holds(file) { Err(Refusal::Held) } else { Ok(()) }
    }
    fn write(&mut self, buf: &mut Space, offset: u64, bytes: &[u8]) {
        buf.bytes.lock().unwrap().write(offset, bytes);
    }
    fn keep_repair(&mut self, buf: &mut Space, slot: u32, bytes: &[u8]) -> bool {
        buf.bytes.lock().unwrap().keep_repair(slot, bytes)
    }
}

impl Memory {
    fn holds(&self, file: &File) -> bool {
        self.held.get(&file.content_location).copied() == file.content_digest
    }
}

impl ObjectStore for Memory {
    type Buf = Space;
    type SessionStorage<'a> = &'a mut Self;
    type Reader = Arc<Mutex<MemoryBuf>>;
    type Checkpoint = ();

    fn session_storage(&mut self, _: SessionKey) -> &mut Self {
        self
    }
    fn begin(&mut self, _: &SessionKey, _: &Arc<File>) -> Option<Space> {
        self.document(Vec::new())
    }
    fn extend(&mut self, space: &mut Space, offset: u64, bytes: &[u8]) {
        let mut buf = space.bytes.lock().unwrap();
        buf.bytes.truncate(usize::try_from(offset).unwrap());
        buf.bytes.extend_from_slice(bytes);
    }
    fn chunk(&mut self, space: Space) -> Option<Vec<u8>> {
        Some(space.bytes.lock().unwrap().bytes.clone())
    }
    fn document(&mut self, bytes: Vec<u8>) -> Option<Space> {
        let length = bytes.len() as u64;
        self.room.0.fetch_add(length, Ordering::Relaxed);
        let mut buf = MemoryBuf::new(length);
        buf.write(0, &bytes);
        Some(Space {
            bytes: Arc::new(Mutex::new(buf)),
            length,
            room: self.room.clone(),
            stalled_since: Mutex::default(),
            times_set: AtomicU32::new(0),
        })
    }
    fn memory_bytes(&self, space: &Space) -> usize {
        usize::try_from(space.length).unwrap()
    }
    fn look_up(&self, _: &SessionKey, file: &File) -> Lookup {
        if file.content_location.is_empty() {
            Lookup::Unusable
        } else if self.holds(file) {
            Lookup::Held
        } else {
            Lookup::Missing
        }
    }
    fn still_holds(&self, _: &SessionKey, file: &File) -> bool {
        self.holds(file)
    }
    fn holds_other(&self, _: &SessionKey, file: &File) -> bool {
        self.held.contains_key(&file.content_location) && !self.holds(file)
    }
    fn flush(&mut self) {}
    fn flush_object(&mut self, _: &Space) {}
    fn reader(&self, buf: &Space) -> Option<Arc<Mutex<MemoryBuf>>> {
        Some(Arc::clone(&buf.bytes))
    }
    fn checkpoint(&self, _: &Space) -> Option<()> {
        None
    }
    fn progress(&self, _: &Space) {}
    fn expect(&self, _: &Space, _: Option<Instant>) {}
    fn set_stalled(&self, space: &Space, since: Option<Instant>) {
        *space.stalled_since.lock().unwrap() = since;
        space.times_set.fetch_add(1, Ordering::Relaxed);
    }
    fn request_seen(&self, _: &Space) {}
}

/// Answer of an origin to a request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Origin {
    None,
    /// Delivers what is requested, after this delay.
    Good(Duration),
    /// Fails with this probability, else as `Good` of 50 ms.
    Flaky(f64),
    /// Gives other bytes.
    Wrong,
    Refuses,
}

/// The box and everything around it.
struct World {
    now: Instant,
    delivery: Delivery<Memory>,
    link: Link,
    sender: Sender,
    bodies: HashMap<Toi, Vec<u8>>,
    origin: Origin,
    fetches: Vec<(Instant, RepairRequest)>,
    asked: Vec<Instant>,
    /// Bytes of ranges that were asked for, and those that were missing then.
    asked_bytes: [u64; 2],
    rng: Rng,
    announced: i64,
    changes_held: u64,
    changes_gone: u64,
    verify_wrong: u32,
    documents: Vec<Vec<u8>>,
    filter: SessionFilter,
    /// Whether the box knows the date.
    is_dated: bool,
}

impl World {
    fn new(seed: u64, profile: Profile, origin: Origin, lifetime_s: u32) -> Self {
        let ms = Duration::from_millis;
        let options = Options {
            reception_timeout: ms(2000),
            repairs: true,
            back_off: BackOff { fixed: ms(0), random: ms(1000) },
            carousel_wait: ms(30_000),
            client_patience: ms(10_000),
            seed,
            ..Options::without_repairs()
        };
        let profile_of_sender =
            SenderProfile { symbol_length: 100, fdt_lifetime_s: lifetime_s, ..SenderProfile::default() };
        Self {
            now: Instant::from_nanos(1_000_000_000),
            delivery: Delivery::new(options, Memory::default(), Arc::default()),
            link: Link::new(seed, profile),
            sender: Sender::new(Tsi(7), profile_of_sender, 1, 1),
            bodies: HashMap::new(),
            origin,
            fetches: Vec::new(),
            asked: Vec::new(),
            asked_bytes: [0; 2],
            rng: Rng::new(seed ^ 0x55),
            announced: 0,
            changes_held: 0,
            changes_gone: 0,
            verify_wrong: 0,
            documents: Vec::new(),
            filter: SessionFilter::all(),
            is_dated: true,
        }
    }

    /// The date as the box knows it.
    fn date(&self) -> Option<WallTime> {
        self.is_dated.then(|| self.wall())
    }

    fn wall(&self) -> WallTime {
        START.plus_ms(i64::try_from(self.now.as_nanos() / 1_000_000).unwrap())
    }

    fn object(toi: Toi) -> ObjectRef {
        let session =
            SessionKey { source: source().ip(), destination: DESTINATION.parse().unwrap(), tsi: Tsi(7) };
        ObjectRef { session, toi }
    }

    fn add(&mut self, name: &str, body: Vec<u8>, protection: &Protection) -> Toi {
        let file = SendFile::of(name, &body);
        let toi = self.sender.add_protected(file, protection).unwrap();
        self.bodies.insert(toi, body);
        toi
    }

    /// Puts the FDT on the link; on the other side it is certain to arrive where `is_certain`.
    fn send_fdt(&mut self, is_certain: bool) {
        self.sender.refresh_fdt(self.wall()).unwrap();
        let mut out = Vec::new();
        for page in 0..self.sender.fdt_pages() {
            for packet in 0..self.sender.fdt_packets(page) {
                if self.sender.write_fdt(page, packet, &mut out) {
                    if is_certain {
                        self.arrive(&out.clone());
                    } else {
                        self.transmit(&out.clone());
                    }
                }
            }
        }
    }

    fn send_object(&mut self, toi: Toi, protection: &Protection) {
        let (oti, partition) = (*self.sender.oti(toi).unwrap(), *self.sender.partition(toi).unwrap());
        let body = self.bodies[&toi].clone();
        let range = |symbol: u64| {
            let range = partition.byte_range(symbol);
            range.start as usize..range.end as usize
        };
        let mut encoders: HashMap<u32, _> = HashMap::new();
        let mut out = Vec::new();
        for step in protection.sequence(&oti, partition) {
            let PayloadId { sbn, esi } = step.payload_id;
            match step.source {
                Some(symbol) => {
                    assert!(self.sender.write_packet(toi, symbol, &body[range(symbol)], false, &mut out));
                }
                None => {
                    let encoder = encoders.entry(sbn).or_insert_with(|| {
                        let (first, k) = (partition.first_symbol(sbn), partition.block_symbols(sbn));
                        let block = &body[range(first).start..range(first + u64::from(k) - 1).end];
                        self.sender.block_code(toi, sbn).unwrap().encoder(block)
                    });
                    let repair = encoder.repair(esi).unwrap();
                    assert!(self.sender.write_repair(toi, step.payload_id, &repair, false, &mut out));
                }
            }
            self.transmit(&out.clone());
        }
    }

    fn transmit(&mut self, packet: &[u8]) {
        self.link.send(self.now.as_nanos(), packet);
        while let Some(packet) = self.link.poll(self.now.as_nanos()) {
            self.arrive(&packet);
        }
    }

    fn arrive(&mut self, packet: &[u8]) {
        self.arrive_from(source(), packet);
    }

    fn arrive_from(&mut self, source: std::net::SocketAddr, packet: &[u8]) {
        let date = self.date();
        let destination = DESTINATION.parse().unwrap();
        self.delivery.handle_datagram(self.now, || date, source, destination, &self.filter, packet);
        self.settle();
    }

    /// Time passes, at the deadlines that delivery names.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let fetched = self.fetches.iter().map(|it| it.0).min();
            let next = self.delivery.poll_timeout().min(fetched.unwrap_or(end));
            self.now = next.max(self.now + Duration::from_micros(1)).min(end);
            while let Some(at) = self.fetches.iter().position(|it| it.0 <= self.now) {
                let (_, request) = self.fetches.remove(at);
                self.answer(&request);
            }
            let date = self.date();
            self.delivery.handle_timeout(self.now, date);
            self.settle();
            if self.now >= end {
                return;
            }
        }
    }

    /// Does the work, hears the changes and asks the origin.
    fn settle(&mut self) {
        loop {
            let Some(work) = self.delivery.poll_work(|_| true) else { break };
            match work {
                Work::Verify(Verify { object, id, file, buf, .. }) => {
                    let is_right = verify(&file, &buf.bytes.lock().unwrap().bytes).is_ok();
                    let is_document = file.content_digest.is_none();
                    if is_document {
                        self.documents.push(buf.bytes.lock().unwrap().bytes.clone());
                    } else if let Some(digest) = file.content_digest.filter(|_| is_right) {
                        self.delivery_store(|store| store.held.insert(file.content_location.clone(), digest));
                    } else {
                        self.verify_wrong += 1;
                    }
                    drop(buf);
                    let result = if is_right { Ok(()) } else { Err(RejectReason::Verify) };
                    self.delivery.handle_verified(self.now, object, id, result);
                }
                Work::Decode(Decode { object, job, reader }) => {
                    let decoded = job.run(|place: SymbolPlace, out| reader.lock().unwrap().read(place, out));
                    self.delivery.handle_decoded(self.now, object, job.block, &decoded);
                }
                Work::Checkpoint(()) | Work::Restore(_) => {}
            }
        }
        while let Some(change) = self.delivery.poll_change() {
            match change {
                Change::Announced(_, files) => self.announced += files.len() as i64,
                Change::Held(_) => self.changes_held += 1,
                Change::Gone(..) => self.changes_gone += 1,
                _ => {}
            }
        }
        while let Some(request) = self.delivery.poll_repair(self.now) {
            self.asked.push(self.now);
            if let RequestedBytes::Ranges(lists, received) = &request.requested {
                let bytes = |range: Range<u64>| range.end - range.start;
                self.asked_bytes[0] += lists.iter().flatten().cloned().map(bytes).sum::<u64>();
                self.asked_bytes[1] += received.missing().map(bytes).sum::<u64>();
            }
            let after = match self.origin {
                Origin::Good(after) => after,
                _ => Duration::from_millis(50),
            };
            self.fetches.push((self.now + after, request));
        }
    }

    fn delivery_store<R>(&mut self, change: impl FnOnce(&mut Memory) -> R) -> R {
        change(&mut self.delivery.store)
    }

    fn answer(&mut self, request: &RepairRequest) {
        let object = request.object;
        let fails = match self.origin {
            Origin::Flaky(chance) => self.rng.chance(chance),
            _ => false,
        };
        let result = match self.origin {
            Origin::None => Err(RepairError::NoOrigin),
            Origin::Refuses => Err(RepairError::Refused),
            _ if fails => Err(RepairError::Failed),
            _ => {
                let body = self.bodies[&object.toi].clone();
                match &request.requested {
                    RequestedBytes::Ranges(lists, _) => {
                        for range in lists.iter().flatten() {
                            let mut bytes = body[range.start as usize..range.end as usize].to_vec();
                            if self.origin == Origin::Wrong {
                                bytes.iter_mut().for_each(|it| *it ^= 0xff);
                            }
                            self.delivery.handle_repair(self.now, object, range.start, &bytes);
                        }
                    }
                    RequestedBytes::Complete if self.origin == Origin::Wrong => {
                        self.delivery.handle_repair_done(self.now, object, Err(RepairError::Mismatch));
                        self.settle();
                        return;
                    }
                    RequestedBytes::Complete => {
                        let (name, digest) = (request.file.content_location.clone(), Digest::of(&body));
                        self.delivery_store(|store| store.held.insert(name, digest));
                    }
                }
                Ok(())
            }
        };
        self.delivery.handle_repair_done(self.now, object, result);
        self.settle();
    }

    fn counters(&self) -> ObjectCounters {
        let totals = self.delivery.totals();
        assert!(totals.reconcile(), "{totals:?}");
        let gone: u64 = totals.objects.gone.iter().sum();
        assert_eq!((self.changes_held, self.changes_gone), (totals.objects.held, gone));
        totals.objects
    }

    fn room(&self) -> u64 {
        self.delivery.store().room.0.load(Ordering::Relaxed)
    }
}

fn body(seed: u64, length: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..length).map(|_| rng.below(256) as u8).collect()
}

const DAY_SEGMENTS: u64 = 43_200;

#[test]
fn a_day_of_live_without_an_origin_never_locks_and_stays_flat() {
    let mut world = World::new(7, Profile::burst(0.02), Origin::None, 60);
    let mut window = std::collections::VecDeque::new();
    let mut most = 0;
    for number in 0..DAY_SEGMENTS {
        let toi = world.add(&format!("http://h/{number}.m4s"), body(number, 450), &Protection::NONE);
        window.push_back(toi);
        if window.len() > 5 {
            let old = window.pop_front().unwrap();
            world.sender.withdraw(old);
            world.bodies.remove(&old);
        }
        world.send_fdt(false);
        world.send_object(toi, &Protection::NONE);
        if number % 10 == 0 {
            world.delivery.handle_request(world.now, World::object(toi));
        }
        world.pass(Duration::from_secs(2));
        let now: u64 = world.delivery.totals().objects.now.iter().sum();
        most = most.max(now);
    }
    let counters = world.counters();
    assert!(most < 200, "{most} objects at a time");
    assert!(counters.held > DAY_SEGMENTS * 85 / 100, "{counters:?}");
    world.pass(Duration::from_secs(3600));
    let counters = world.counters();
    assert_eq!((world.delivery.in_flight(), counters.now, world.room()), (0, [0; State::ALL.len()], 0));
    assert!(counters.gone[GoneReason::Expired as usize] > 0, "{counters:?}");
    let toi = world.add("http://h/next", body(1, 450), &Protection::NONE);
    world.send_fdt(true);
    world.link.set_profile(Profile::burst(0.0));
    world.send_object(toi, &Protection::NONE);
    assert_eq!(world.counters().held, counters.held + 1, "the next segment arrives");
}

#[test]
fn a_good_origin_repairs_everything_that_the_link_lost() {
    for seed in 0..20 {
        let mut world = World::new(seed, Profile::burst(0.05), Origin::Good(Duration::from_millis(80)), 3600);
        let tois: Vec<Toi> = (0..50)
            .map(|at| world.add(&format!("http://h/{seed}/{at}"), body(at, 3000), &Protection::NONE))
            .collect();
        world.send_fdt(true);
        for toi in tois {
            world.send_object(toi, &Protection::NONE);
            world.pass(Duration::from_millis(100));
        }
        world.pass(Duration::from_secs(30));
        let counters = world.counters();
        assert_eq!((counters.held, world.room()), (50, 0), "{counters:?}");
        assert!(counters.repairs[RepairOutcome::Repaired as usize] > 0);
    }
}

#[test]
fn fec_restores_what_the_link_lost_without_an_origin() {
    let protection = Protection {
        id: EncodingId::RS_GF28,
        symbol_length: 0,
        overhead: 0.4,
        least_repair: 4,
        burst_packets: 0,
        block_bytes: 3000,
    };
    let mut world = World::new(3, Profile::burst(0.03), Origin::None, 3600);
    let tois: Vec<Toi> =
        (0..60).map(|at| world.add(&format!("http://h/{at}"), body(at, 6000), &protection)).collect();
    world.send_fdt(true);
    for toi in tois {
        world.send_object(toi, &protection);
        world.pass(Duration::from_millis(20));
    }
    let counters = world.counters();
    assert!(counters.held >= 55 && world.delivery.totals().packets.recovered > 0, "{counters:?}");
    assert_eq!(world.verify_wrong, 0);
}

#[test]
fn of_what_has_repair_symbols_an_origin_is_asked_once_for_what_decoding_needs() {
    let protection = Protection {
        id: EncodingId::RAPTORQ,
        symbol_length: 0,
        overhead: 0.25,
        least_repair: 3,
        burst_packets: 0,
        block_bytes: 6000,
    };
    let mut world = World::new(11, Profile::burst(0.35), Origin::Good(Duration::from_millis(80)), 3600);
    let tois: Vec<Toi> =
        (0..20).map(|at| world.add(&format!("http://h/{at}"), body(at, 12_000), &protection)).collect();
    world.send_fdt(true);
    for toi in tois {
        world.send_object(toi, &protection);
        world.pass(Duration::from_millis(20));
    }
    world.pass(Duration::from_secs(30));
    let counters = world.counters();
    assert_eq!((counters.held, world.room(), world.verify_wrong), (20, 0, 0), "{counters:?}");
    // Blocks are decoded behind the end of the request: that is not a failure, and nothing is asked for again.
    let repaired = counters.repairs[RepairOutcome::Repaired as usize];
    assert_eq!((counters.repairs.iter().sum::<u64>(), world.asked.len() as u64), (repaired, repaired));
    let [asked, missing] = world.asked_bytes;
    assert!(repaired > 10 && asked * 3 < missing * 2, "{asked} of {missing} bytes of {repaired} objects");
}

#[test]
fn repair_backs_off_and_ends() {
    let mut world = World::new(5, Profile::burst(0.0), Origin::Flaky(1.0), 36_000);
    let toi = world.add("http://h/a", body(1, 1000), &Protection::NONE);
    world.send_fdt(true);
    let mut out = Vec::new();
    world.sender.write_packet(toi, 0, &world.bodies[&toi][..100], false, &mut out);
    world.arrive(&out);
    world.pass(Duration::from_secs(3600));
    let counters = world.counters();
    assert_eq!(world.asked.len(), carousel::repair::ATTEMPTS as usize);
    assert_eq!(counters.repairs[RepairOutcome::OriginFailed as usize], 1);
    assert_eq!(counters.now[State::Stalled as usize], 1);
    let waits: Vec<u64> = world.asked.windows(2).map(|it| it[1].since(it[0]).as_millis() as u64).collect();
    assert!(waits.last() > waits.first() && waits.iter().all(|&ms| ms <= 61_000), "{waits:?}");
}

#[test]
fn an_object_that_nothing_brings_any_more_is_marked() {
    for origin in [Origin::None, Origin::Flaky(1.0), Origin::Good(Duration::from_secs(5))] {
        let mut world = World::new(5, Profile::burst(0.0), origin, 36_000);
        let toi = world.add("http://h/a", body(1, 1000), &Protection::NONE);
        world.send_fdt(true);
        let stalled = |world: &mut World| {
            let object = World::object(toi);
            let state = world.delivery.objects.state(&object).unwrap();
            let receiver = world.delivery.sessions.get_mut(&object.session).unwrap();
            let since = *receiver.object(toi).unwrap().buf().stalled_since.lock().unwrap();
            (state, since.is_some())
        };
        let mut out = Vec::new();
        let symbol = |world: &mut World, at: usize, is_last: bool, out: &mut Vec<u8>| {
            let bytes = &world.bodies[&toi][at * 100..(at + 1) * 100];
            world.sender.write_packet(toi, at as u64, bytes, is_last, out);
            world.arrive(&out.clone());
        };
        symbol(&mut world, 0, false, &mut out);
        assert_eq!(stalled(&mut world), (State::Arriving, false));
        // Its sender closes it.
        symbol(&mut world, 3, true, &mut out);
        world.pass(Duration::from_millis(1500));
        match origin {
            Origin::None => assert_eq!(stalled(&mut world), (State::Stalled, true), "no origin has it"),
            Origin::Flaky(_) => {
                assert_eq!(stalled(&mut world), (State::Repairing, true), "it fails");
                symbol(&mut world, 1, false, &mut out);
                assert_eq!(stalled(&mut world), (State::Repairing, false), "packets come after all");
                continue;
            }
            _ => {
                assert_eq!(stalled(&mut world), (State::Repairing, false), "an origin is asked");
                continue;
            }
        }
        // A packet that was overtaken.
        symbol(&mut world, 1, false, &mut out);
        assert_eq!(stalled(&mut world), (State::Arriving, false));
        world.pass(Duration::from_secs(4));
        assert_eq!(stalled(&mut world), (State::Stalled, true));
    }
}

#[test]
fn a_lost_chunk_of_a_segment_is_asked_of_an_origin_when_a_client_waits_for_the_segment() {
    for (origin, is_requested) in [
        (Origin::Good(Duration::from_millis(50)), true),
        (Origin::Good(Duration::from_millis(50)), false),
        (Origin::Refuses, true),
    ] {
        let mut world = World::new(5, Profile::burst(0.0), origin, 36_000);
        let first = world.add("http://h/1.m4s#0", body(1, 400), &Protection::NONE);
        let second = world.add("http://h/1.m4s?isLast#400", body(2, 400), &Protection::NONE);
        world.send_fdt(true);
        world.send_object(first, &Protection::NONE);
        world.delivery.handle_end_of_batch();
        let segment = World::object(first);
        let stalled = |world: &World| {
            let buf = world.delivery.live.growing.get(&segment)?;
            Some(buf.stalled_since.lock().unwrap().is_some())
        };
        assert_eq!(stalled(&world), Some(false));
        let mut out = Vec::new();
        for at in [0, 1, 3_usize] {
            let bytes = &world.bodies[&second][at * 100..(at + 1) * 100];
            world.sender.write_packet(second, at as u64, bytes, at == 3, &mut out);
            world.arrive(&out);
        }
        world.delivery.handle_end_of_batch();
        assert_eq!(stalled(&world), Some(false), "an origin is to be asked");
        let begin = world.now;
        if is_requested {
            world.delivery.handle_request(world.now, segment);
        }
        world.pass(Duration::from_secs(1));
        world.delivery.handle_end_of_batch();
        let asked = world.asked.first().map(|it| it.since(begin)).unwrap();
        assert_eq!(asked < Duration::from_millis(10), is_requested, "{asked:?}");
        let is_whole = world.documents.iter().any(|it| it.len() == 800);
        assert_eq!(
            (stalled(&world), is_whole),
            match origin {
                Origin::Refuses => (Some(true), false),
                _ => (None, true),
            }
        );
    }
}

/// Of two segments of a session each has chunks of its own in flight.
#[test]
fn chunks_in_flight_belong_to_the_segment_of_their_name() {
    let mut world = World::new(5, Profile::burst(0.0), Origin::None, 36_000);
    let add = |world: &mut World, name: &str| {
        world.add(&format!("http://h/{name}"), body(1, 400), &Protection::NONE)
    };
    let one = add(&mut world, "1.m4s#0");
    let two = add(&mut world, "10.m4s#0");
    let next_of_one = add(&mut world, "1.m4s#400");
    let next_of_two = add(&mut world, "10.m4s#400");
    let _ = add(&mut world, "1.m4s");
    world.send_fdt(true);
    for toi in [two, one] {
        world.send_object(toi, &Protection::NONE);
    }
    let mut out = Vec::new();
    // The packets of the first one's next chunk end with a gap.
    for (toi, symbols) in [(next_of_one, &[0, 3_usize][..]), (next_of_two, &[0])] {
        for &at in symbols {
            let bytes = &world.bodies[&toi][at * 100..(at + 1) * 100];
            world.sender.write_packet(toi, at as u64, bytes, at == 3, &mut out);
            world.arrive(&out);
        }
    }
    // No origin has it.
    world.pass(Duration::from_secs(1));
    world.delivery.handle_end_of_batch();
    let stalled = [one, two].map(|toi| {
        let buf = world.delivery.live.growing.get(&World::object(toi)).expect("it grows");
        buf.stalled_since.lock().unwrap().is_some()
    });
    assert_eq!(stalled, [true, false]);
    // Sessions whose packets alternate in a batch are examined once.
    let session = World::object(one).session;
    let other = SessionKey { tsi: Tsi(session.tsi.0 + 1), ..session };
    world.delivery.live.joiners.open(other, carousel::flute::Joiner::default, |_| {});
    let times =
        |world: &World| world.delivery.live.growing[&World::object(one)].times_set.load(Ordering::Relaxed);
    let before = times(&world);
    for session in [session, other, session, other, session] {
        world.delivery.touch_joined(world.now, session);
    }
    world.delivery.handle_end_of_batch();
    assert_eq!(times(&world) - before, 1);
}

/// A player has waited at a hole, and the origin does not have the object yet.
#[test]
fn an_object_whose_packets_come_has_not_stalled_when_an_origin_refuses_it() {
    let mut world = World::new(5, Profile::burst(0.0), Origin::Refuses, 36_000);
    let toi = world.add("http://h/a", body(1, 5000), &Protection::NONE);
    world.send_fdt(true);
    let mut out = Vec::new();
    let object = World::object(toi);
    let mut has_asked = false;
    for at in (0..50_usize).filter(|at| *at != 3) {
        let bytes = &world.bodies[&toi][at * 100..(at + 1) * 100];
        world.sender.write_packet(toi, at as u64, bytes, false, &mut out);
        world.arrive(&out.clone());
        world.pass(Duration::from_millis(100));
        if at == 5 {
            world.delivery.handle_request(world.now, object);
        }
        has_asked |= !world.asked.is_empty();
        let receiver = world.delivery.sessions.get_mut(&object.session).unwrap();
        let since = *receiver.object(toi).unwrap().buf().stalled_since.lock().unwrap();
        assert_eq!(since, None, "{at}");
    }
    assert!(has_asked);
    assert_eq!(world.delivery.objects.state(&object), Some(State::Arriving));
    // A packet that closes it before its end, and the next one: no origin is asked for what comes.
    let before = world.asked.len();
    let bytes = world.bodies[&toi][..100].to_vec();
    world.sender.write_packet(toi, 0, &bytes, true, &mut out);
    world.arrive(&out.clone());
    world.sender.write_packet(toi, 0, &bytes, false, &mut out);
    world.arrive(&out.clone());
    world.pass(Duration::from_millis(1500));
    assert_eq!(world.asked.len(), before);
}

#[test]
fn an_origin_that_refuses_or_lies_is_named_in_the_outcome() {
    for (origin, outcome) in [
        (Origin::Refuses, RepairOutcome::Refused),
        (Origin::Wrong, RepairOutcome::Mismatch),
        (Origin::None, RepairOutcome::NoOrigin),
    ] {
        let mut world = World::new(5, Profile::burst(0.0), origin, 36_000);
        let toi = world.add("http://h/a", body(1, 1000), &Protection::NONE);
        world.send_fdt(true);
        let mut out = Vec::new();
        world.sender.write_packet(toi, 0, &world.bodies[&toi][..100], false, &mut out);
        world.arrive(&out);
        world.pass(Duration::from_secs(60));
        let counters = world.counters();
        assert!(counters.repairs[outcome as usize] > 0, "{origin:?}: {counters:?}");
        assert_eq!(counters.held, 0, "never a wrong byte");
        // The carousel still brings it.
        world.send_object(toi, &Protection::NONE);
        assert_eq!(world.counters().held, 1, "{origin:?}");
    }
}

#[test]
fn a_client_that_waits_does_not_wait_for_the_back_off() {
    let asked_after = |is_requested: bool| {
        let mut world = World::new(9, Profile::burst(0.0), Origin::Good(Duration::from_millis(10)), 3600);
        let toi = world.add("http://h/a", body(1, 1000), &Protection::NONE);
        world.send_fdt(true);
        let mut out = Vec::new();
        world.sender.write_packet(toi, 0, &world.bodies[&toi][..100], false, &mut out);
        world.arrive(&out);
        let begin = world.now;
        if is_requested {
            world.delivery.handle_request(world.now, World::object(toi));
        }
        world.pass(Duration::from_secs(20));
        assert_eq!(world.counters().held, 1);
        world.asked[0].since(begin)
    };
    assert!(asked_after(true) < Duration::from_millis(150));
    assert!(asked_after(false) >= Duration::from_secs(2));
}

#[test]
fn what_a_silent_session_described_and_never_sent_is_fetched() {
    let mut world = World::new(2, Profile::burst(0.0), Origin::Good(Duration::from_millis(10)), 3600);
    for at in 0..30 {
        world.add(&format!("http://h/{at}"), body(at, 500), &Protection::NONE);
    }
    world.send_fdt(true);
    world.pass(Duration::from_secs(30));
    assert_eq!(world.counters().held, 30);
}

#[test]
fn a_closed_session_gives_back_its_room_and_its_counters_stay() {
    let mut world = World::new(4, Profile::burst(0.0), Origin::None, 3600);
    let toi = world.add("http://h/a", body(1, 1000), &Protection::NONE);
    world.add("http://h/b", body(2, 1000), &Protection::NONE);
    world.send_fdt(true);
    let mut out = Vec::new();
    world.sender.write_packet(toi, 0, &world.bodies[&toi][..100], false, &mut out);
    world.arrive(&out);
    assert_eq!(world.room(), 1000);
    let before = world.delivery.totals().packets.packets;
    world.delivery.close_sessions(world.now, |_| false);
    world.settle();
    let counters = world.counters();
    assert_eq!((world.room(), counters.gone[GoneReason::SessionEnded as usize]), (0, 2));
    assert_eq!(world.delivery.totals().packets.packets, before, "no counter falls");
    world.arrive(&out);
    assert_eq!(world.delivery.totals().packets.packets, before + 1);
}

#[test]
fn ten_thousand_sessions_come_and_go() {
    let mut world = World::new(4, Profile::burst(0.0), Origin::None, 3600);
    let toi = world.add("http://h/a", body(1, 1000), &Protection::NONE);
    let mut out = Vec::new();
    world.sender.write_packet(toi, 0, &world.bodies[&toi][..100], false, &mut out);
    let filter = SessionFilter::all();
    for number in 0..10_000_u32 {
        let from = std::net::SocketAddr::from((std::net::Ipv4Addr::from(number + 1), 7));
        let destination = DESTINATION.parse().unwrap();
        world.delivery.handle_datagram(world.now, || None, from, destination, &filter, &out);
        world.now = world.now + Duration::from_millis(1);
        world.settle();
    }
    let counters = world.counters();
    let most = carousel::limits::MAX_SESSIONS as u64;
    assert_eq!((counters.sessions_displaced, counters.entered), (10_000 - most, 10_000));
    world.pass(Duration::from_secs(3600));
    let counters = world.counters();
    assert_eq!((counters.sessions_expired, counters.now, world.room()), (most, [0; State::ALL.len()], 0));
    assert_eq!(world.delivery.sessions().count(), 0);
}

#[test]
fn storage_without_room_is_asked_again_and_unwanted_objects_are_gone() {
    let mut world = World::new(4, Profile::burst(0.0), Origin::None, 3600);
    world.delivery_store(|store| store.refuses = Some(Refusal::NoRoom));
    let toi = world.add("http://h/a", body(1, 1000), &Protection::NONE);
    world.send_fdt(true);
    world.send_object(toi, &Protection::NONE);
    assert_eq!(world.counters().now[State::Announced as usize], 1);
    world.delivery_store(|store| store.refuses = None);
    world.pass(Duration::from_secs(6));
    world.send_object(toi, &Protection::NONE);
    assert_eq!(world.counters().held, 1);
    world.delivery_store(|store| store.refuses = Some(Refusal::NotWanted));
    let toi = world.add("http://h/b", body(2, 1000), &Protection::NONE);
    world.send_fdt(true);
    world.send_object(toi, &Protection::NONE);
    assert_eq!(world.counters().gone[GoneReason::NotWanted as usize], 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_object_ends_held_or_gone_and_counters_reconcile(
        seed in any::<u64>(),
        loss in 0.0_f64..0.4,
        origin in 0_usize..5,
        steps in proptest::collection::vec((0_u8..9, 0_usize..16, 1_u64..20_000), 1..60),
    ) {
        let origin = [Origin::None, Origin::Good(Duration::from_millis(30)), Origin::Flaky(0.5), Origin::Wrong, Origin::Refuses][origin];
        let mut world = World::new(seed, Profile::burst(loss), origin, 120);
        let mut tois: Vec<Toi> = Vec::new();
        for (step, at, ms) in steps {
            let toi = tois.get(at % tois.len().max(1)).copied();
            match (step, toi) {
                (0 | 1, _) => {
                    let name = format!("http://h/{}", tois.len() % 7);
                    tois.push(world.add(&name, body(ms, 100 + ms as usize % 2000), &Protection::NONE));
                }
                (2, _) => world.send_fdt(false),
                (3 | 4, Some(toi)) if world.sender.oti(toi).is_some() => world.send_object(toi, &Protection::NONE),
                (5, Some(toi)) => world.delivery.handle_request(world.now, World::object(toi)),
                (6, Some(toi)) => { world.sender.withdraw(toi); }
                (7, _) if ms % 5 == 0 => world.delivery.close_sessions(world.now, |_| false),
                (7, _) => {
                    world.delivery_store(|store| store.held.clear());
                    world.delivery.handle_evictions();
                }
                _ => world.pass(Duration::from_millis(ms)),
            }
            world.settle();
            world.counters();
        }
        world.pass(Duration::from_secs(7200));
        let counters = world.counters();
        prop_assert_eq!((counters.now, world.delivery.in_flight(), world.room()), ([0; State::ALL.len()], 0, 0));
        prop_assert_eq!(counters.entered, counters.held + counters.gone.iter().sum::<u64>());
        prop_assert_eq!(world.delivery.repairs.tasks, 0);
    }
}
