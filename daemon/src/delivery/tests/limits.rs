//! Limits of delivery, reached and come back from; results that never come.

use super::*;
use crate::delivery::repair::FETCH_TIMEOUT;
use carousel::fec::BlockId;

/// A world over a link that loses nothing.
fn world(origin: Origin) -> World {
    World::new(11, Profile::burst(0.0), origin, 36_000)
}

fn repaired(world: &World, outcome: RepairOutcome) -> u64 {
    world.delivery.totals().objects.repairs[outcome as usize]
}

impl World {
    /// Gives delivery the packets of an object, and does not do the work that follows.
    fn deliver_only(&mut self, toi: Toi) {
        let body = self.bodies[&toi].clone();
        let (now, wall, mut out) = (self.now, self.wall(), Vec::new());
        for (symbol, bytes) in body.chunks(100).enumerate() {
            assert!(self.sender.write_packet(toi, symbol as u64, bytes, false, &mut out));
            self.delivery.handle_datagram(
                now,
                || Some(wall),
                source(),
                DESTINATION.parse().unwrap(),
                &SessionFilter::all(),
                &out,
            );
        }
    }

    /// Advances time to delivery's deadlines without doing any work or answering any request.
    fn pass_alone(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.delivery.poll_timeout().max(self.now + Duration::from_micros(1)).min(end);
            let wall = self.wall();
            self.delivery.handle_timeout(self.now, Some(wall));
        }
    }

    fn first_packet(&mut self, toi: Toi) -> Vec<u8> {
        let mut out = Vec::new();
        let body = self.bodies[&toi].clone();
        assert!(self.sender.write_packet(toi, 0, &body[..body.len().min(100)], false, &mut out));
        out
    }
}

#[test]
fn complete_objects_beyond_the_queue_of_work_are_received_again() {
    let mut world = world(Origin::None);
    let tois: Vec<Toi> = (0..MAX_WORK as u64 + 50)
        .map(|at| world.add(&format!("http://h/{at}"), body(at, 50), &Protection::NONE))
        .collect();
    world.send_fdt(true);
    for toi in &tois {
        world.deliver_only(*toi);
    }
    let counters = world.delivery.totals().objects;
    assert_eq!(counters.rejected[RejectReason::QueueFull as usize], 50);
    assert_eq!(counters.now[State::Verifying as usize], MAX_WORK as u64);
    assert_eq!(counters.now[State::Announced as usize], 50);
    world.settle();
    assert_eq!(world.counters().held, MAX_WORK as u64);
    for toi in &tois[MAX_WORK..] {
        world.send_object(*toi, &Protection::NONE);
    }
    assert_eq!((world.counters().held, world.room()), (tois.len() as u64, 0));
}

/// A world with `waiting` pieces of work, and most memory for a block, in which an object of one block has lost its first symbol and gets
/// a repair symbol, and later another; what was counted after each.
fn with_lost_symbol(waiting: usize, block_bytes: u64) -> (World, [ObjectCounters; 2], Toi) {
    let protection = Protection {
        id: EncodingId::RS_GF28,
        symbol_length: 0,
        overhead: 1.0,
        least_repair: 4,
        burst_packets: 0,
        block_bytes: 400,
    };
    let mut world = world(Origin::None);
    world.delivery.options.block_bytes = block_bytes;
    let fillers: Vec<Toi> = (0..waiting as u64)
        .map(|at| world.add(&format!("http://h/{at}"), body(at, 50), &Protection::NONE))
        .collect();
    let toi = world.add("http://h/fec", body(1, 400), &protection);
    world.send_fdt(true);
    for filler in fillers {
        world.deliver_only(filler);
    }
    // The first symbol is lost, repair symbols come.
    let partition = *world.sender.partition(toi).unwrap();
    let body = world.bodies[&toi].clone();
    let mut encoder = world.sender.block_code(toi, 0).unwrap().encoder(&body);
    let (now, wall, k) = (world.now, world.wall(), partition.block_symbols(0));
    let arrive = |world: &mut World, packet: &[u8]| {
        let destination = DESTINATION.parse().unwrap();
        let filter = SessionFilter::all();
        world.delivery.handle_datagram(now, || Some(wall), source(), destination, &filter, packet);
    };
    let mut out = Vec::new();
    for symbol in 1..u64::from(k) {
        let range = partition.byte_range(symbol);
        let bytes = &body[range.start as usize..range.end as usize];
        assert!(world.sender.write_packet(toi, symbol, bytes, false, &mut out));
        arrive(&mut world, &out.clone());
    }
    let mut repair = |world: &mut World, esi: u32| {
        let payload_id = PayloadId { sbn: 0, esi };
        let mut out = Vec::new();
        assert!(world.sender.write_repair(toi, payload_id, &encoder.repair(esi).unwrap(), false, &mut out));
        arrive(world, &out);
    };
    let counted = [k, k + 1].map(|esi| {
        repair(&mut world, esi);
        let counted = world.delivery.totals().objects;
        world.settle();
        counted
    });
    (world, counted, toi)
}

#[test]
fn blocks_beyond_the_queue_of_work_are_counted_and_decoded_later() {
    let (world, counted, _) = with_lost_symbol(MAX_WORK, u64::MAX);
    assert_eq!(counted.map(|it| (it.blocks_refused, it.held)), [(1, 0), (1, MAX_WORK as u64)]);
    assert_eq!((world.counters().held, world.counters().blocks_too_large), (MAX_WORK as u64 + 1, 0));
}

#[test]
fn a_block_for_which_there_is_too_little_memory_is_counted_and_its_object_comes_without_it() {
    // Five times the block: 2,000 bytes.
    let (world, ..) = with_lost_symbol(0, 2000);
    assert_eq!((world.counters().held, world.counters().blocks_too_large), (1, 0), "enough");
    let (mut world, counted, toi) = with_lost_symbol(0, 1999);
    assert_eq!(counted.map(|it| (it.blocks_too_large, it.held)), [(1, 0), (2, 0)]);
    world.send_object(toi, &Protection::NONE);
    world.settle();
    assert_eq!((world.counters().held, world.room()), (1, 0));
}

#[test]
fn decoded_blocks_of_ended_objects_are_counted() {
    let mut world = world(Origin::None);
    let object = World::object(Toi(1));
    let block = BlockId { serial: 1, sbn: 0 };
    world.delivery.handle_decoded(world.now, object, block, &Some(vec![(0, vec![1])]));
    world.delivery.handle_restored(world.now, object, block, &None);
    assert_eq!(world.counters().blocks_late, 2);
}

#[test]
fn repairs_beyond_the_limit_are_counted_and_their_places_come_free() {
    let mut world = world(Origin::Good(Duration::from_millis(10)));
    let most = MAX_PENDING as u64;
    for at in 0..most + 7 {
        world.add(&format!("http://h/{at}"), body(at, 20), &Protection::NONE);
    }
    world.send_fdt(true);
    world.pass(Duration::from_secs(120));
    assert_eq!(repaired(&world, RepairOutcome::TooMany), 7);
    let counters = world.counters();
    assert_eq!((counters.held, counters.now[State::Announced as usize]), (most, 7));
    assert_eq!(world.delivery.repairs.tasks, 0);
    // A place is free for the next one.
    let toi = world.add("http://h/next", body(1, 1000), &Protection::NONE);
    world.send_fdt(true);
    let packet = world.first_packet(toi);
    world.arrive(&packet);
    world.pass(Duration::from_secs(30));
    assert!(world.counters().held > most, "{:?}", world.counters());
    assert_eq!(world.room(), 0);
}

#[test]
fn repairs_that_end_before_they_get_a_slot_leave_nothing_behind() {
    let mut world = world(Origin::None);
    for at in 0..300 {
        let toi = world.add(&format!("http://h/{at}"), body(at, 200), &Protection::NONE);
        world.send_fdt(true);
        let packet = world.first_packet(toi);
        world.arrive(&packet);
        // There is no slot for it, and the carousel brings the rest.
        world.pass_alone(Duration::from_secs(10));
        assert!(world.delivery.has_repairs(), "{at}");
        world.deliver_only(toi);
        assert!(!world.delivery.has_repairs(), "{at}");
        world.settle();
        world.sender.withdraw(toi);
        world.bodies.remove(&toi);
    }
    assert_eq!((world.delivery.repairs.tasks, world.delivery.repairs.due_count()), (0, 0));
    assert_eq!(repaired(&world, RepairOutcome::NotNeeded), 300);
    assert_eq!(world.counters().held, 300);
}

#[test]
fn those_that_clients_wait_for_get_a_slot_first() {
    let mut world = world(Origin::None);
    let tois: Vec<Toi> =
        (0..4).map(|at| world.add(&format!("http://h/{at}"), body(at, 200), &Protection::NONE)).collect();
    world.send_fdt(true);
    for toi in &tois {
        let packet = world.first_packet(*toi);
        world.arrive(&packet);
    }
    world.pass_alone(Duration::from_secs(1));
    for toi in [tois[3], tois[1]] {
        world.delivery.handle_request(world.now, World::object(toi));
        world.pass_alone(Duration::from_millis(300));
    }
    world.pass_alone(Duration::from_secs(10));
    let asked: Vec<Toi> =
        std::iter::from_fn(|| world.delivery.poll_repair(world.now)).map(|it| it.object.toi).collect();
    assert_eq!(asked[..2], [tois[1], tois[3]]);
    assert_eq!(asked.len(), 4);
}

#[test]
fn a_verification_without_a_result_is_counted_as_lost_and_the_object_is_received_again() {
    let mut world = world(Origin::None);
    let toi = world.add("http://h/a", body(1, 1000), &Protection::NONE);
    world.send_fdt(true);
    world.deliver_only(toi);
    let Some(Work::Verify(Verify { id: lost, .. })) = world.delivery.poll_work(|_| true) else {
        panic!("a complete object")
    };
    world.pass_alone(Duration::from_secs(1799));
    assert_eq!(world.delivery.totals().objects.now[State::Verifying as usize], 1);
    world.pass_alone(Duration::from_secs(1800 / 4 + 2));
    let counters = world.delivery.totals().objects;
    assert_eq!(counters.rejected[RejectReason::Lost as usize], 1);
    assert_eq!(counters.now[State::Announced as usize], 1);
    // A result that comes after all changes nothing.
    world.delivery.handle_verified(world.now, World::object(toi), lost, Ok(()));
    assert_eq!(world.delivery.totals().objects.held, 0);
    world.send_fdt(true);
    world.send_object(toi, &Protection::NONE);
    assert_eq!(world.counters().held, 1);
}

#[test]
fn a_late_verification_does_not_reach_the_next_object_with_its_toi() {
    let mut world = world(Origin::None);
    let toi = world.add("http://h/a", body(1, 1000), &Protection::NONE);
    world.send_fdt(true);
    world.deliver_only(toi);
    let Some(Work::Verify(Verify { id: lost, .. })) = world.delivery.poll_work(|_| true) else {
        panic!("a complete object")
    };
    world.pass_alone(Duration::from_secs(1800 * 5 / 4 + 2));
    assert_eq!(world.delivery.totals().objects.rejected[RejectReason::Lost as usize], 1);
    world.send_fdt(true);
    world.deliver_only(toi);
    let Some(Work::Verify(Verify { id, .. })) = world.delivery.poll_work(|_| true) else {
        panic!("complete again")
    };
    for result in [Err(RejectReason::Verify), Ok(())] {
        world.delivery.handle_verified(world.now, World::object(toi), lost, result);
    }
    let counters = world.delivery.totals().objects;
    assert_eq!((counters.held, counters.rejected[RejectReason::Verify as usize]), (0, 0));
    assert_eq!(counters.now[State::Verifying as usize], 1);
    world.delivery.handle_verified(world.now, World::object(toi), id, Ok(()));
    assert_eq!(world.delivery.totals().objects.held, 1);
}

#[test]
fn a_fetch_without_a_result_counts_as_failed() {
    let mut world = world(Origin::None);
    let toi = world.add("http://h/a", body(1, 1000), &Protection::NONE);
    world.send_fdt(true);
    let packet = world.first_packet(toi);
    world.arrive(&packet);
    let mut attempts = Vec::new();
    let begin = world.now;
    // Each attempt takes its timeout and a back-off of at most a minute.
    let longest = (FETCH_TIMEOUT + Duration::from_secs(70)) * carousel::repair::ATTEMPTS;
    while world.now < begin + longest {
        world.pass_alone(Duration::from_secs(1));
        if let Some(request) = world.delivery.poll_repair(world.now) {
            attempts.push((request.attempt, world.now));
        }
    }
    assert_eq!(attempts.len(), carousel::repair::ATTEMPTS as usize);
    assert!(attempts.iter().zip(0..).all(|((attempt, _), at)| *attempt == at), "{attempts:?}");
    for pair in attempts.windows(2) {
        assert!(pair[1].1.since(pair[0].1) >= FETCH_TIMEOUT, "{attempts:?}");
    }
    let counters = world.delivery.totals().objects;
    assert_eq!(counters.repairs[RepairOutcome::OriginFailed as usize], 1);
    assert_eq!(counters.now[State::Stalled as usize], 1);
}

#[test]
fn retries_are_a_fraction_of_first_attempts() {
    let mut world = world(Origin::Flaky(1.0));
    for at in 0..200 {
        let toi = world.add(&format!("http://h/{at}"), body(at, 1000), &Protection::NONE);
        world.send_fdt(true);
        let packet = world.first_packet(toi);
        world.arrive(&packet);
    }
    world.pass(Duration::from_secs(3600));
    // 20 retries are there at the start, and 200 first attempts earn at most 40.
    assert!(world.asked.len() > 220 && world.asked.len() <= 260, "{}", world.asked.len());
    assert_eq!(repaired(&world, RepairOutcome::OriginFailed), 200);
}
