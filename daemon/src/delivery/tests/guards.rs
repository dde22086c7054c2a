//! Guards of delivery: what must not count, happen twice, or be asked for.

use super::*;

fn world(origin: Origin) -> World {
    World::new(13, Profile::burst(0.0), origin, 36_000)
}

impl World {
    /// An object of which the packets of these symbols have come.
    fn begin(&mut self, name: &str, length: usize, symbols: &[u64]) -> Toi {
        let toi = self.add(name, body(length as u64, length), &Protection::NONE);
        self.send_fdt(true);
        self.bring(toi, symbols);
        toi
    }

    fn bring(&mut self, toi: Toi, symbols: &[u64]) {
        let (body, mut out) = (self.bodies[&toi].clone(), Vec::new());
        for &symbol in symbols {
            let start = symbol as usize * 100;
            let bytes = &body[start..body.len().min(start + 100)];
            assert!(self.sender.write_packet(toi, symbol, bytes, false, &mut out));
            self.take(&out);
        }
    }

    /// Gives delivery a packet without doing the work that follows.
    fn take(&mut self, packet: &[u8]) {
        let (now, wall) = (self.now, self.wall());
        let destination = DESTINATION.parse().unwrap();
        self.delivery.handle_datagram(
            now,
            || Some(wall),
            source(),
            destination,
            &SessionFilter::all(),
            packet,
        );
    }

    /// Advances time; requests of repairs are left where they are.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.delivery.poll_timeout().max(self.now + Duration::from_micros(1)).min(end);
            let wall = self.wall();
            self.delivery.handle_timeout(self.now, Some(wall));
        }
    }

    fn outcome(&self, outcome: RepairOutcome) -> u64 {
        self.delivery.totals().objects.repairs[outcome as usize]
    }
}

fn ranges(request: &RepairRequest) -> Vec<Range<u64>> {
    let RequestedBytes::Ranges(ranges, _) = &request.requested else { panic!("{:?}", request.requested) };
    ranges.concat()
}

/// Anybody on the link can send packets that close sessions which never were: their ends are not news.
#[test]
fn only_the_end_of_a_session_that_has_brought_something_is_reported() {
    // LCT with the A flag and a TSI of 32 bits, without a TOI.
    let close = |tsi: u8| [0x10, 0x82, 3, 0, 0, 0, 0, 0, 0, 0, 0, tsi];
    let mut world = world(Origin::None);
    let over = |world: &mut World| {
        let changes = std::iter::from_fn(|| world.delivery.poll_change());
        changes.filter(|it| matches!(it, Change::SessionOver(..))).count()
    };
    for tsi in 50..150 {
        world.take(&close(tsi));
    }
    assert_eq!(over(&mut world), 0);
    world.begin("http://h/a", 1000, &[0]);
    let tsi = world.sender.tsi().0 as u8;
    world.take(&close(tsi));
    world.take(&close(tsi));
    assert_eq!(over(&mut world), 1);
}

#[test]
fn what_is_not_of_a_wanted_session_is_counted_and_opens_none() {
    let mut world = world(Origin::None);
    let toi = world.add("http://h/a", body(1, 100), &Protection::NONE);
    let packet = {
        let (body, mut out) = (world.bodies[&toi].clone(), Vec::new());
        assert!(world.sender.write_packet(toi, 0, &body, false, &mut out));
        out
    };
    let (now, destination) = (world.now, DESTINATION.parse().unwrap());
    let other = SessionFilter { sessions: vec![(Some(8), None)], ..SessionFilter::default() };
    let mut arrive = |filter: &SessionFilter, payload: &[u8]| {
        world.delivery.handle_datagram(now, || None, source(), destination, filter, payload);
        let totals = world.delivery.totals();
        assert!(totals.reconcile(), "{totals:?}");
        (totals.losses.other_tsi, totals.losses.not_alc, world.delivery.sessions().count())
    };
    assert_eq!(arrive(&other, &packet), (1, 0, 0));
    assert_eq!(arrive(&SessionFilter::all(), b"no packet"), (1, 1, 0));
    assert_eq!(arrive(&SessionFilter::all(), &packet), (1, 1, 1));
}

#[test]
fn an_object_under_verification_outlives_its_session() {
    let mut world = world(Origin::None);
    world.begin("http://h/b", 200, &[0]);
    world.begin("http://h/a", 200, &[0, 1]);
    world.delivery.close_sessions(world.now, |_| false);
    let counters = world.delivery.totals().objects;
    assert_eq!((counters.now[State::Verifying as usize], counters.now.iter().sum::<u64>()), (1, 1));
    world.settle();
    let counters = world.counters();
    assert_eq!((counters.held, counters.gone[GoneReason::SessionEnded as usize], world.room()), (1, 1, 0));
}

#[test]
fn nothing_is_asked_for_while_repairs_are_off() {
    let mut world = world(Origin::Good(Duration::from_millis(1)));
    world.delivery.options.repairs = false;
    let toi = world.begin("http://h/a", 1000, &[0]);
    world.delivery.handle_request(world.now, World::object(toi));
    world.pass(Duration::from_secs(600));
    assert!(world.asked.is_empty() && world.counters().held == 0);
    assert_eq!(world.delivery.repairs.tasks, 0);
}

#[test]
fn a_result_of_a_repair_that_does_not_run_changes_nothing() {
    let mut world = world(Origin::None);
    let toi = world.begin("http://h/a", 1000, &[0]);
    let object = World::object(toi);
    world.wait(Duration::from_secs(10));
    assert!(world.delivery.has_repairs());
    for result in [Ok(()), Err(RepairError::NoOrigin), Err(RepairError::Mismatch)] {
        world.delivery.handle_repair_done(world.now, object, result);
    }
    let counters = world.counters();
    assert_eq!((counters.repairs, counters.held), ([0; RepairOutcome::ALL.len()], 0));
    assert!(world.delivery.poll_repair(world.now).is_some(), "it still waits for its slot");
}

#[test]
fn a_repair_whose_object_the_carousel_completes_ends_with_the_verification() {
    let mut world = world(Origin::None);
    let toi = world.begin("http://h/a", 300, &[0]);
    let object = World::object(toi);
    world.wait(Duration::from_secs(10));
    assert!(world.delivery.poll_repair(world.now).is_some());
    world.bring(toi, &[1, 2]);
    // The request ends in any way: all bytes are there.
    world.delivery.handle_repair_done(world.now, object, Err(RepairError::NoOrigin));
    assert_eq!(world.outcome(RepairOutcome::NoOrigin), 0);
    world.settle();
    assert_eq!((world.counters().held, world.outcome(RepairOutcome::Repaired)), (1, 1));
    assert_eq!(world.delivery.repairs.tasks, 0);
}

#[test]
fn of_an_object_that_is_coming_only_what_the_carousel_has_passed_is_asked_for() {
    let mut world = world(Origin::None);
    let toi = world.begin("http://h/a", 1000, &[0, 3]);
    world.delivery.handle_request(world.now, World::object(toi));
    world.wait(Duration::from_millis(50));
    world.bring(toi, &[4]);
    world.wait(Duration::from_millis(100));
    let request = world.delivery.poll_repair(world.now).unwrap();
    assert_eq!(ranges(&request), std::slice::from_ref(&(100..300)));
    assert!(request.needed_by.is_some_and(|at| at > world.now));
}

#[test]
fn of_an_object_that_is_coming_without_holes_nothing_is_asked_for() {
    let mut world = world(Origin::None);
    let toi = world.begin("http://h/a", 1000, &[0, 1]);
    world.delivery.handle_request(world.now, World::object(toi));
    world.wait(Duration::from_millis(50));
    world.bring(toi, &[2]);
    world.wait(Duration::from_millis(100));
    assert!(!world.delivery.has_repairs());
    assert_eq!((world.delivery.repairs.tasks, world.outcome(RepairOutcome::NotNeeded)), (0, 0));
}

#[test]
fn of_an_object_that_has_stopped_everything_missing_is_asked_for() {
    let mut world = world(Origin::None);
    let toi = world.begin("http://h/a", 1000, &[0, 3]);
    world.delivery.handle_request(world.now, World::object(toi));
    world.wait(Duration::from_millis(150));
    // One range over the short one between that has come.
    let request = world.delivery.poll_repair(world.now).unwrap();
    assert_eq!(ranges(&request), std::slice::from_ref(&(100..1000)));
}

#[test]
fn attempts_that_asked_no_origin_cost_no_retries() {
    let mut world = world(Origin::None);
    let mut attempts = 0;
    for at in 0..20 {
        let toi = world.begin(&format!("http://h/{at}"), 1000, &[0]);
        let object = World::object(toi);
        let begin = world.now;
        while world.now.since(begin) < Duration::from_secs(1000) {
            world.wait(Duration::from_secs(1));
            while let Some(request) = world.delivery.poll_repair(world.now) {
                attempts += usize::from(request.object == object);
                world.delivery.handle_repair_done(world.now, request.object, Err(RepairError::CircuitOpen));
            }
        }
    }
    // Each attempt of each object is made: none is refused for want of budget.
    assert_eq!(attempts, 20 * carousel::repair::ATTEMPTS as usize);
}

#[test]
fn what_came_into_the_cache_another_way_is_not_fetched_after_silence() {
    let mut world = world(Origin::Good(Duration::from_millis(1)));
    let toi = world.add("http://h/a", body(1, 500), &Protection::NONE);
    world.add("http://h/b", body(2, 500), &Protection::NONE);
    world.send_fdt(true);
    let digest = Digest::of(&world.bodies[&toi]);
    world.delivery_store(|store| store.held.insert("http://h/a".to_owned(), digest));
    world.pass(Duration::from_secs(60));
    assert_eq!(world.asked.len(), 1);
}

#[test]
fn what_is_announced_and_never_sent_expires_with_its_description() {
    let mut world = World::new(3, Profile::burst(0.0), Origin::None, 120);
    world.add("http://h/a", body(1, 500), &Protection::NONE);
    world.send_fdt(true);
    assert_eq!(world.counters().now[State::Announced as usize], 1);
    world.pass(Duration::from_secs(600));
    let counters = world.counters();
    assert_eq!(counters.now, [0; State::ALL.len()]);
    assert_eq!(counters.gone[GoneReason::Expired as usize], 1);
}

#[test]
fn a_client_does_not_wait_for_a_pass_that_is_far_away() {
    let asked_after = |period: Duration| {
        let mut world = world(Origin::None);
        let toi = world.begin("http://h/a", 300, &[0, 1, 2]);
        world.settle();
        // Two passes over what is held teach how often things come round.
        for _ in 0..3 {
            world.pass(period);
            world.bring(toi, &[0, 1, 2]);
        }
        let late = world.begin("http://h/b", 300, &[0]);
        world.pass(period);
        world.bring(toi, &[0, 1, 2]);
        world.bring(late, &[0]);
        let begin = world.now;
        world.delivery.handle_request(begin, World::object(late));
        while world.delivery.poll_repair(world.now).is_none() {
            assert!(world.now.since(begin) < Duration::from_secs(3600));
            world.wait(Duration::from_millis(20));
        }
        world.now.since(begin)
    };
    assert!(asked_after(Duration::from_secs(60)) < Duration::from_millis(500));
}

#[test]
fn an_entire_object_of_an_origin_that_is_another_one_is_named_in_the_outcome() {
    let mut world = world(Origin::Wrong);
    world.add("http://h/a", body(1, 500), &Protection::NONE);
    world.send_fdt(true);
    // Nothing of it comes: after silence it is fetched entirely.
    world.pass(Duration::from_secs(60));
    assert!(!world.asked.is_empty());
    assert_eq!((world.outcome(RepairOutcome::Mismatch), world.counters().held), (1, 0));
    assert_eq!(world.counters().now[State::Announced as usize], 1, "the carousel still brings it");
}

#[test]
fn ranges_of_an_origin_do_not_count_as_the_object_before_it_is_verified() {
    let mut world = world(Origin::None);
    let toi = world.begin("http://h/a", 1000, &[0]);
    let object = World::object(toi);
    world.wait(Duration::from_secs(10));
    assert!(world.delivery.poll_repair(world.now).is_some());
    // The origin says that it is done, and has sent nothing.
    world.delivery.handle_repair_done(world.now, object, Ok(()));
    world.settle();
    let counters = world.counters();
    assert_eq!((counters.held, counters.repairs[RepairOutcome::Repaired as usize]), (0, 0));
    assert_eq!(world.delivery.in_flight(), 1);
}

#[test]
fn tables_of_low_level_signalling_are_passed_on_when_they_are_new() {
    let mut world = world(Origin::None);
    world.filter = SessionFilter::lls();
    let table = |version: u8, group: u8| vec![1, group, 0, version, b'<'];
    for version in [1, 1, 1, 2, 2] {
        world.arrive(&table(version, 1));
    }
    assert_eq!(world.documents, [table(1, 1), table(2, 1)]);
    world.pass(Duration::from_secs(5));
    world.arrive(&table(2, 1));
    assert_eq!(world.documents.len(), 3, "a repeat, so that its age is known");
    // A sender that invents tables is held to its rate, and is not remembered without end.
    world.pass(Duration::from_secs(1));
    for version in 0..200 {
        world.arrive(&table(version, version));
    }
    assert_eq!(world.documents.len(), 3 + 32);
    assert_eq!(world.delivery.totals().losses.lls_excess, 200 - 32);
    for second in 0..10_u8 {
        world.pass(Duration::from_secs(1));
        for group in 0..20 {
            world.arrive(&table(second, second * 20 + group + 1));
        }
    }
    assert_eq!(world.documents.len(), 3 + 32 + 200);
    assert!(world.delivery.totals().reconcile());
}
