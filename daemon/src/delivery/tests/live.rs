//! Live objects of many ROUTE sessions: their chunks, their turns within a batch, their end.

use std::net::SocketAddr;

use carousel::flute::Joiner;
use carousel::limits::{MAX_SESSIONS, SPENT_SESSION_SILENCE};
use carousel::route::{self, Channel, RouteSession, SourceFlow};

use super::*;

const TSI: u64 = 10;

/// A world in which every ROUTE session to its group has one channel, whose object of TOI 1 has this name.
fn world(name: &str) -> World {
    let mut world = World::new(17, Profile::burst(0.0), Origin::None, 36_000);
    let file = File { content_location: name.to_owned(), toi: Toi(1), ..File::default() };
    let source = SourceFlow { is_real_time: true, files: vec![file], ..SourceFlow::default() };
    let channel = Channel { tsi: TSI, source: Some(source), ..Channel::default() };
    let session = RouteSession { channels: vec![channel], ..RouteSession::default() };
    let described = HashMap::from([(DESTINATION.parse().unwrap(), vec![session])]);
    world.delivery.describe_routes(world.now, Arc::new(described));
    world
}

fn sender(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::from(([10, 1, high, low], 5000))
}

/// A packet of the object, which has this length.
fn packet(offset: u64, length: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let sender = route::Sender::new(1400);
    sender.write_source((TSI, Toi(1)), 8, offset, Some(length), &[1; 200], &mut out).unwrap();
    out
}

#[test]
fn segments_of_route_chunks_end_with_their_session() {
    let mut world = world("http://h/1.m4s#0");
    let chunk = packet(0, 200);
    for number in 0..2 * MAX_SESSIONS as u16 {
        world.arrive_from(sender(number), &chunk);
        assert!(world.delivery.live.joiners.len() <= MAX_SESSIONS);
    }
    world.delivery.handle_end_of_batch();
    let live = &world.delivery.live;
    assert_eq!((live.joiners.len(), live.growing.len()), (MAX_SESSIONS, MAX_SESSIONS));
    world.pass(SPENT_SESSION_SILENCE + Duration::from_secs(1));
    let live = &world.delivery.live;
    assert_eq!((live.joiners.len(), live.growing.len(), world.room()), (0, 0, 0));
    // The last session is like the first.
    world.arrive_from(sender(0), &chunk);
    assert_eq!(world.delivery.live.joiners.len(), 1);
    world.delivery.close_sessions(world.now, |_| false);
    assert_eq!(world.delivery.live.joiners.len(), 0);
}

/// A channel may be removed while its session goes on.
#[test]
fn segments_of_route_chunks_end_with_their_channel() {
    let mut world = World::new(23, Profile::burst(0.0), Origin::None, 36_000);
    let (sender_of_route, mut out) = (route::Sender::new(1400), Vec::new());
    let head = b"Content-Location: http://h/1.m4s#0\r\nContent-Length: 4\r\n\r\nbody";
    for tsi in 1..1_000 {
        let length = Some(head.len() as u64);
        sender_of_route.write_source((tsi, Toi(1)), 9, 0, length, head, &mut out).unwrap();
        world.arrive_from(sender(0), &out);
        assert!(world.delivery.live.joiners.len() <= 256);
    }
    let live = &world.delivery.live;
    assert_eq!((live.joiners.len(), live.growing.len()), (256, 256));
}

#[test]
fn route_sessions_that_take_turns_in_a_batch_are_reported_once() {
    let mut world = world("http://h/1.m4s");
    for number in [0, 1] {
        world.arrive_from(sender(number), &packet(0, 10_000));
    }
    world.delivery.handle_end_of_batch();
    let session = |number: u16| SessionKey {
        source: sender(number).ip(),
        destination: DESTINATION.parse().unwrap(),
        tsi: Tsi(TSI),
    };
    let times = |world: &World| {
        [0, 1].map(|number| {
            let object = ObjectRef { session: session(number), toi: Toi(1) };
            world.delivery.live.growing[&object].times_set.load(Ordering::Relaxed)
        })
    };
    let before = times(&world);
    for turn in 1..10 {
        for number in [0, 1] {
            world.arrive_from(sender(number), &packet(turn * 200, 10_000));
        }
    }
    world.delivery.handle_end_of_batch();
    assert_eq!(times(&world), before.map(|it| it + 1));
}

#[test]
fn segments_joined_of_chunks_count_in_the_budget_of_sessions() {
    let mut world = World::new(19, Profile::burst(0.0), Origin::None, 36_000);
    let toi = world.add("http://h/a", body(1, 100), &Protection::NONE);
    let (body, mut out) = (world.bodies[&toi].clone(), Vec::new());
    assert!(world.sender.write_packet(toi, 0, &body, false, &mut out));
    let chunk = vec![0; 60 << 20];
    let file = File { content_location: "http://h/1.m4s#9".to_owned(), toi: Toi(5), ..File::default() };
    for number in [0, 1, 2] {
        world.arrive_from(sender(number), &out);
        let destination = DESTINATION.parse().unwrap();
        let key = SessionKey { source: sender(number).ip(), destination, tsi: Tsi(7) };
        world.delivery.live.joiners.open(key, Joiner::default, |it| it.chunk(world.now, &file, &chunk));
    }
    world.pass(Duration::from_secs(1));
    assert_eq!(world.counters().sessions_displaced, 1);
    assert_eq!((world.delivery.live.joiners.len(), world.delivery.sessions().count()), (2, 2));
}
