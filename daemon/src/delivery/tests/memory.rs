//! Memory of sessions: its budget, reached by untrusted senders beside honest sessions, and come back from.

use std::net::SocketAddr;

use carousel::flute::Joiner;
use carousel::limits::{MAX_SESSIONS, MAX_SESSIONS_BYTES, SPENT_SESSION_SILENCE};
use carousel::route::{self, Channel, RouteFailure, RouteSession, SourceFlow};

use super::*;
use crate::delivery::memory::CHECK_INTERVAL_BYTES;
use crate::memory::MAX_WORK_BYTES;

const TSI: u64 = 10;
/// Payload of honest packets, and of those of untrusted senders, which fill the memory with few of them.
const SMALL_BYTES: u64 = 1_000;
const LARGE_BYTES: u64 = 60_000;
const MEDIA: u8 = 8;
const CAROUSELLED: u8 = 1;

/// A world over a link that loses nothing, in which every ROUTE session has a channel of named segments.
fn world() -> World {
    let mut world = World::new(31, Profile::burst(0.0), Origin::None, 360_000);
    let template = Some("http://h/$TOI$.m4s".to_owned());
    let source = SourceFlow { is_real_time: true, template, ..SourceFlow::default() };
    let channel = Channel { tsi: TSI, source: Some(source), ..Channel::default() };
    let session = RouteSession { channels: vec![channel], ..RouteSession::default() };
    let described = HashMap::from([(DESTINATION.parse().unwrap(), vec![session])]);
    world.delivery.describe_routes(world.now, Arc::new(described));
    world
}

fn honest() -> SocketAddr {
    SocketAddr::from(([10, 9, 0, 1], 5000))
}

fn untrusted(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::from(([10, 1, high, low], 5000))
}

impl World {
    /// A packet of an object of ROUTE arrives: its number in the object, of which so many bytes are in each.
    fn route(&mut self, from: SocketAddr, toi: u128, codepoint: u8, packet: u64, count: Option<u64>) {
        let bytes = if from == honest() { SMALL_BYTES } else { LARGE_BYTES };
        let (sender, mut out) = (route::Sender::new(bytes as usize), Vec::new());
        let (payload, length) = (vec![toi as u8; bytes as usize], count.map(|count| count * bytes));
        sender.write_source((TSI, Toi(toi)), codepoint, packet * bytes, length, &payload, &mut out).unwrap();
        // No two packets arrive at the same time, so that which session was silent longest is certain.
        self.now = self.now + Duration::from_micros(10);
        self.arrive_from(from, &out);
    }

    fn honest_segment(&mut self, toi: u128, packets: Range<u64>, count: u64) {
        for packet in packets {
            self.route(honest(), toi, MEDIA, packet, Some(count));
        }
    }

    /// A packet of the honest session of FLUTE.
    fn honest_symbol(&mut self, toi: Toi, symbol: u64) {
        let (body, mut out) = (self.bodies[&toi].clone(), Vec::new());
        let bytes = &body[symbol as usize * 100..][..100];
        assert!(self.sender.write_packet(toi, symbol, bytes, false, &mut out));
        self.arrive(&out);
    }

    fn held_bytes(&self) -> usize {
        let flute = self.delivery.sessions.iter().map(|(_, it)| it.held_bytes());
        flute.sum::<usize>() + self.delivery.live.held_bytes()
    }

    fn is_within_budget(&self) -> bool {
        self.held_bytes() <= MAX_SESSIONS_BYTES + CHECK_INTERVAL_BYTES + 2 * LARGE_BYTES as usize
    }

    fn route_failed(&self, why: RouteFailure) -> u64 {
        self.delivery.totals().route.failed[why as usize]
    }

    fn has_honest_route(&self) -> bool {
        self.delivery.live.routes.contains_key(&(honest().ip(), DESTINATION.parse().unwrap()))
    }

    fn bytes_of(&self, toi: u8) -> Vec<usize> {
        let of = self.documents.iter().filter(|it| it.first() == Some(&toi));
        of.map(Vec::len).collect()
    }
}

#[test]
fn untrusted_route_senders_that_fill_the_memory_and_trickle_cost_honest_sessions_nothing() {
    let mut world = world();
    let first = world.add("http://h/first", body(1, 5_000), &Protection::NONE);
    let second = world.add("http://h/second", body(2, 5_000), &Protection::NONE);
    world.send_fdt(true);
    (0..50).for_each(|symbol| world.honest_symbol(first, symbol));
    world.honest_segment(1, 0..60, 60);
    let before = world.held_bytes();

    // Each begins a segment. The honest sessions have one in the middle meanwhile.
    for number in 0..400 {
        for packet in 0..12 {
            world.route(untrusted(number), 900, MEDIA, packet, None);
            assert!(world.is_within_budget(), "{}", world.held_bytes());
        }
        let at = u64::from(number) / 10;
        world.honest_segment(2, at..at + 1, 60);
        world.honest_symbol(second, at);
    }
    let displaced = world.route_failed(RouteFailure::OverBudget);
    assert!(displaced > 100 && world.held_bytes() > MAX_SESSIONS_BYTES / 2, "{displaced}");
    assert_eq!(world.delivery.totals().objects.gone[GoneReason::OverBudget as usize], displaced);
    world.honest_segment(2, 40..60, 60);
    (40..50).for_each(|symbol| world.honest_symbol(second, symbol));
    assert_eq!((world.bytes_of(1), world.bytes_of(2)), (vec![60_000], vec![60_000]));
    assert_eq!(world.counters().held, 2 + 2, "two objects of FLUTE, two segments");

    // Untrusted senders whose packets come just often enough.
    world.pass(Duration::from_secs(10));
    for number in 0..60 {
        (0..32).for_each(|packet| world.route(untrusted(number), 901, CAROUSELLED, packet, None));
    }
    let trickled = 60 * 32 * LARGE_BYTES as usize;
    assert!(world.held_bytes() > trickled && world.is_within_budget());
    let begun = world.now;
    let mut toi = 3;
    while world.now.since(begun) < Duration::from_secs(2 * 3600 + 900) {
        assert!(
            world.now.since(begun) > Duration::from_secs(2 * 3600 - 100) || world.held_bytes() > trickled
        );
        for number in 0..60 {
            world.route(untrusted(number), 901, CAROUSELLED, 31, None);
        }
        for _ in 0..5 {
            world.honest_segment(toi, 0..20, 20);
            toi += 1;
            world.pass(Duration::from_secs(100));
        }
    }
    assert_eq!(world.route_failed(RouteFailure::TooOld), 60);
    assert!(world.held_bytes() < before + 60 * (LARGE_BYTES as usize + 8_192), "{}", world.held_bytes());
    let mut silence = Duration::ZERO;
    while silence <= SPENT_SESSION_SILENCE {
        world.honest_segment(toi, 0..20, 20);
        toi += 1;
        world.pass(Duration::from_secs(100));
        silence += Duration::from_secs(100);
    }
    let after = world.held_bytes();
    assert_eq!(world.delivery.live.routes.len(), 1);
    // What is remembered of the honest segments.
    assert!(after < before + 80 * toi as usize && world.has_honest_route(), "{before} before, {after} after");
    assert_eq!(world.counters().held, 2 + toi as u64 - 1, "nothing honest was lost");
    assert_eq!(world.counters().sessions_displaced, 0);
    assert_eq!(world.delivery.totals().memory_bytes, after as u64);
}

/// As many tables as a session may have, which no object's end frees: the session goes.
#[test]
fn sessions_of_route_that_hold_no_objects_make_room_as_a_whole() {
    let mut world = world();
    world.honest_segment(1, 0..60, 60);
    let (sender, mut out) = (route::Sender::new(100), Vec::new());
    let mut most = 0;
    for number in 0..500 {
        for tsi in 100..350 {
            for toi in 0..3 {
                sender.write_source((tsi, Toi(toi)), MEDIA, 0, Some(4), b"body", &mut out).unwrap();
                world.arrive_from(untrusted(number), &out);
            }
        }
        most = most.max(world.held_bytes());
        assert!(world.is_within_budget(), "{}", world.held_bytes());
    }
    assert!(most > MAX_SESSIONS_BYTES * 9 / 10, "{most}");
    assert!(world.counters().sessions_displaced > 0 && world.has_honest_route());
}

#[test]
fn invented_senders_of_route_displace_no_session_that_has_brought_objects() {
    let mut world = world();
    world.honest_segment(1, 0..60, 60);
    for packet in 0..20 {
        world.honest_segment(2, packet..packet + 1, 20);
        for number in 0..MAX_SESSIONS as u16 + 10 {
            world.route(untrusted(number), 900, MEDIA, packet, None);
        }
        assert!(world.delivery.live.routes.len() <= MAX_SESSIONS);
    }
    assert!(world.counters().sessions_displaced > 10);
    assert_eq!(world.bytes_of(2), [20_000]);
}

#[test]
fn what_sessions_hold_together_is_bounded() {
    let mut world = world();
    let first = world.add("http://h/first", body(1, 5_000), &Protection::NONE);
    world.send_fdt(true);
    (0..50).for_each(|symbol| world.honest_symbol(first, symbol));
    // Early packets, as much as a session may keep.
    let early = {
        let mut out = Vec::new();
        carousel::lct::LctHeader::new(Tsi(1), Toi(99)).write(&mut out).unwrap();
        out.resize(60_000, 1);
        out
    };
    for number in 0..200 {
        for _ in 0..40 {
            world.arrive_from(untrusted(number), &early);
            assert!(world.is_within_budget(), "{}", world.held_bytes());
        }
    }
    assert!(world.counters().sessions_displaced > 100);
    assert!(world.delivery.sessions.get(&World::object(first).session).is_some());
    world.pass(Duration::from_secs(40));
    assert!(world.held_bytes() < 1 << 20, "early packets age: {}", world.held_bytes());
}

/// Objects in flight count with what they have in memory, whatever their packets have brought.
#[test]
fn objects_of_flute_in_memory_are_bounded() {
    let mut world = world();
    let first = world.add("http://h/first", body(1, 5_000), &Protection::NONE);
    world.send_fdt(true);
    (0..50).for_each(|symbol| world.honest_symbol(first, symbol));
    // Each of 16 million symbols: the bit map has 2 MiB.
    let oti = carousel::fec::Oti::no_code(1 << 24, 1, 65_535);
    let mut most = 0;
    for number in 0..12 {
        for toi in 1..11 {
            let (mut extensions, mut out) = (Vec::new(), Vec::new());
            oti.write_fti(&mut extensions).unwrap();
            let extensions = &extensions[..];
            let header =
                carousel::lct::LctHeader { extensions, ..carousel::lct::LctHeader::new(Tsi(1), Toi(toi)) };
            header.write(&mut out).unwrap();
            out.extend_from_slice(&[0, 0, 0, 0, 7]);
            world.arrive_from(untrusted(number), &out);
            most = most.max(world.held_bytes());
        }
    }
    assert!(most > MAX_SESSIONS_BYTES * 9 / 10 && most < MAX_SESSIONS_BYTES + (4 << 20), "{most}");
    assert!(world.counters().sessions_displaced > 0);
    assert!(world.delivery.sessions.get(&World::object(first).session).is_some());
    world.pass(Duration::from_secs(60));
    assert!(world.held_bytes() < 1 << 20, "{}", world.held_bytes());
}

#[test]
fn documents_that_wait_for_a_worker_are_bounded_in_memory() {
    let mut world = world();
    let session =
        SessionKey { source: honest().ip(), destination: DESTINATION.parse().unwrap(), tsi: Tsi(0) };
    let rejected = |world: &World| world.delivery.totals().objects.rejected[RejectReason::QueueFull as usize];
    const DOCUMENT_BYTES: usize = 5 << 20;
    for _ in 0..10 {
        world.delivery.pass_on(world.now, session, File::default(), vec![0; DOCUMENT_BYTES]);
    }
    assert_eq!(rejected(&world), 10 - (MAX_WORK_BYTES / DOCUMENT_BYTES) as u64);
    world.settle();
    // A single one may take more, and one behind it waits for the next pass.
    world.delivery.pass_on(world.now, session, File::default(), vec![0; 2 * MAX_WORK_BYTES]);
    world.delivery.pass_on(world.now, session, File::default(), vec![0; DOCUMENT_BYTES]);
    world.settle();
    world.delivery.pass_on(world.now, session, File::default(), vec![0; DOCUMENT_BYTES]);
    world.settle();
    assert_eq!(world.documents.iter().filter(|it| it.len() >= DOCUMENT_BYTES).count(), 6 + 2);
    assert_eq!(rejected(&world), 4 + 1);
}

/// The FDT packets of a session that describes so many objects until `lifetime_s` have passed.
fn described(world: &World, count: usize, lifetime_s: u32) -> Vec<Vec<u8>> {
    let profile = SenderProfile { fdt_lifetime_s: lifetime_s, ..SenderProfile::default() };
    let mut sender = Sender::new(Tsi(7), profile, 1, 1);
    for number in 0..count {
        sender.add(SendFile::of(format!("http://h/{number}"), b"x")).unwrap();
    }
    sender.refresh_fdt(world.wall()).unwrap();
    let mut packets = Vec::new();
    for page in 0..sender.fdt_pages() {
        for packet in 0..sender.fdt_packets(page) {
            packets.push(Vec::new());
            assert!(sender.write_fdt(page, packet, packets.last_mut().unwrap()));
        }
    }
    packets
}

#[test]
fn objects_of_descriptions_count_in_the_memory_of_their_session() {
    let mut world = world();
    let packets = described(&world, 3_000, 3600);
    packets.iter().for_each(|packet| world.arrive_from(untrusted(1), packet));
    let of_receivers = world.held_bytes();
    let counted = world.delivery.memory.held_bytes();
    // The state of an object has some hundred bytes.
    assert!(counted > of_receivers + 3_000 * 100, "{counted} with {of_receivers} of descriptions");
    let claim = world.delivery.claims().pop().unwrap();
    assert_eq!(claim.held_bytes, counted);
}

/// What sessions are ranked by is what they hold: of both protocols and of the joiners of segments, from nothing to the bound
/// and back.
#[test]
fn claims_of_sessions_are_the_memory_of_the_shard_up_to_the_bound_and_back() {
    let mut world = world();
    let packets = described(&world, 3_000, 3600);
    let mut most = 0;
    for number in 0..400 {
        // A FLUTE session with descriptions, a ROUTE session with a segment, and the joiner of a segment's chunks.
        let from = untrusted(number);
        packets.iter().take(1 + usize::from(number % 8)).for_each(|packet| world.arrive_from(from, packet));
        (0..12).for_each(|packet| world.route(from, 900, MEDIA, packet, None));
        let key = SessionKey { source: from.ip(), destination: DESTINATION.parse().unwrap(), tsi: Tsi(7) };
        let file = File { content_location: "http://h/1.m4s#9".to_owned(), toi: Toi(5), ..File::default() };
        let now = world.now;
        world.delivery.live.joiners.open(key, Joiner::default, |it| it.chunk(now, &file, &[7; 40_000]));
        world.delivery.keep_within_budget(now);
        world.settle();
        let claims = world.delivery.claims();
        let claimed: usize = claims.iter().map(|it| it.held_bytes).sum();
        assert_eq!(claimed, world.delivery.memory.held_bytes(), "after {number}");
        assert!(claimed <= MAX_SESSIONS_BYTES, "{claimed}");
        most = most.max(claimed);
    }
    assert!(most > MAX_SESSIONS_BYTES * 9 / 10, "{most}");
    assert!(world.counters().sessions_displaced > 0 || world.route_failed(RouteFailure::OverBudget) > 0);
    world.pass(SPENT_SESSION_SILENCE + Duration::from_secs(2 * 3600));
    let now = world.now;
    world.delivery.keep_within_budget(now);
    let claimed: usize = world.delivery.claims().iter().map(|it| it.held_bytes).sum();
    assert_eq!((claimed, world.delivery.memory.held_bytes()), (0, 0));
}

#[test]
fn sessions_that_expire_together_are_processed_one_after_the_other() {
    const SESSIONS: u16 = 12;
    const OBJECTS: usize = 2_000;
    let mut world = world();
    let packets = described(&world, OBJECTS, 60);
    for session in 0..SESSIONS {
        packets.iter().for_each(|packet| world.arrive_from(untrusted(session), packet));
    }
    let all = u64::from(SESSIONS) * OBJECTS as u64;
    assert_eq!(world.delivery.totals().objects.entered, all);
    // Past the end of the descriptions, and of the time for which they are kept.
    world.now = world.now + Duration::from_secs(600);
    let (mut most, mut rounds) = (0, 0);
    while world.delivery.poll_timeout() <= world.now {
        let wall = world.wall();
        world.delivery.handle_timeout(world.now, Some(wall));
        most = most.max(world.delivery.changes.len());
        while world.delivery.poll_change().is_some() {}
        rounds += 1;
        assert!(rounds < 100, "it ends");
    }
    let gone: u64 = world.delivery.totals().objects.gone.iter().sum();
    assert_eq!(gone, all);
    assert!(rounds > 2 && most < 3 * 4096, "{most} changes at a time, in {rounds} rounds");
}
