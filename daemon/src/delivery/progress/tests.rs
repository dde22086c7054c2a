//! Tests of objects in flight as their readers see them, and of their table.

use std::sync::atomic::AtomicUsize;

use carousel::fec::{Oti, Partition};
use carousel::lct::Tsi;

use super::*;
use crate::store::testing::open;
use crate::store::{Placement, Store};

fn key(name: &str) -> ObjectKey {
    ObjectKey::from_name(name, None).unwrap()
}

fn sent(is_shared: bool) -> Sent {
    let at = WallTime::from_unix_ms(1_795_219_200_000);
    Sent {
        response: ResponseMeta { status: 200, ..Default::default() },
        received_at: at,
        expires: at,
        is_shared,
        may_repeat: false,
        replaces_stale: false,
        not_kept: None,
    }
}

fn of_symbols(store: &Store, name: &str, toi: u128) -> Arc<Flight> {
    let destination = "239.0.0.1:6000".parse().unwrap();
    let session = SessionKey { source: "10.0.0.1".parse().unwrap(), destination, tsi: Tsi(1) };
    let carried = CarouselSource { object: ObjectRef { session, toi: Toi(toi) }, file: Arc::default() };
    let partial = Arc::new(store.create(1000, Placement::default()).unwrap());
    let map = SymbolMap::new(&Partition::new(&Oti::no_code(1000, 100, 1000)).unwrap());
    Arc::new(Flight::of_symbols(key(name), carried, partial, Arc::new(map)))
}

fn of_prefix(store: &Store, name: &str, length: Option<u64>, has_digest: bool, is_shared: bool) -> Flight {
    let partial = Arc::new(store.create(1000, Placement::default()).unwrap());
    Flight::of_prefix(key(name), None, length, sent(is_shared), partial, has_digest)
}

#[test]
fn the_last_byte_is_withheld_where_a_digest_is_to_be_checked() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let flight = of_symbols(&store, "h/a", 1);
    let map = Arc::clone(flight.symbols().unwrap());
    (0..10).for_each(|symbol| _ = map.set(symbol));
    assert_eq!(
        (flight.available_from(0), flight.available_from(998), flight.available_from(999)),
        (999, 999, 999)
    );
    assert_eq!(flight.received_bytes(), 1000);
    // What has not been written to the file is hidden.
    flight.partial().read_limit().set(300);
    assert_eq!((flight.available_from(0), flight.available_from(300)), (300, 300));
    flight.partial().read_limit().clear();
    assert_eq!(flight.available_from(0), 999);
    for (length, has_digest, available) in
        [(Some(1000), true, 999), (Some(1000), false, 1000), (None, true, 0), (None, false, 1000)]
    {
        let flight = of_prefix(&store, "h/b", length, has_digest, true);
        flight.advance(1000);
        assert_eq!(flight.available_from(0), available, "{length:?}, {has_digest}");
    }
}

#[test]
fn a_response_for_one_client_is_not_shared_while_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    assert!(of_prefix(&store, "h/a", None, false, true).suits(&HeaderMap::new()));
    assert!(!of_prefix(&store, "h/a", None, false, false).suits(&HeaderMap::new()));
    assert!(of_symbols(&store, "h/a", 1).suits(&HeaderMap::new()));
}

#[test]
fn an_origin_goes_before_the_carousel_while_half_comes_between_two_offers() {
    let folder = tempfile::tempdir().unwrap();
    let flight = of_prefix(&open(&folder), "h/a", Some(1000), false, true);
    assert!(flight.goes_before_carousel(), "the first time");
    flight.advance(501);
    assert!(flight.goes_before_carousel());
    flight.advance(901);
    assert!(!flight.goes_before_carousel());
    assert!(!flight.goes_before_carousel());
}

#[test]
fn a_pass_that_should_have_begun_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let flight = of_symbols(&open(&folder), "h/a", 1);
    let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
    assert_eq!(flight.next_pass(at(1)), None);
    flight.set_next_pass(Some(at(5)));
    assert_eq!(flight.next_pass(at(3)), Some(Duration::from_secs(2)));
    assert_eq!((flight.next_pass(at(5)), flight.next_pass(at(6))), (None, None));
    flight.set_next_pass(None);
    assert_eq!(flight.next_pass(at(3)), None);
}

#[test]
fn what_has_stalled_is_lost_a_little_later_unless_it_comes_round_again() {
    let folder = tempfile::tempdir().unwrap();
    let flight = of_symbols(&open(&folder), "h/a", 1);
    let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
    assert_eq!(flight.time_to_loss(at(5000)), None);
    flight.set_stalled(Some(at(1000)));
    flight.set_stalled(Some(at(1090)));
    assert_eq!(flight.time_to_loss(at(1100)), Some(Duration::from_millis(200)));
    assert_eq!((flight.is_lost(at(1299)), flight.is_lost(at(1300))), (false, true));
    assert_eq!(flight.time_to_give_up(at(1300)), None, "it may be sent again");
    flight.set_sent_once();
    assert_eq!(flight.time_to_give_up(at(1300)), Some(Duration::ZERO));
    flight.set_next_pass(Some(at(3000)));
    assert_eq!((flight.time_to_loss(at(1300)), flight.is_lost(at(3000))), (None, true));
    flight.set_stalled(None);
    assert_eq!((flight.time_to_loss(at(9000)), flight.is_lost(at(9000))), (None, false));
}

#[test]
fn who_can_ask_an_origin_waits_for_no_repair_symbols() {
    let folder = tempfile::tempdir().unwrap();
    let flight = of_symbols(&open(&folder), "h/a", 1);
    let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
    flight.set_sent_once();
    assert_eq!(flight.time_to_origin(at(5000)), None);
    flight.set_overtaken(Some(at(1000)));
    flight.set_overtaken(Some(at(1200)));
    assert_eq!(flight.time_to_origin(at(1100)), Some(Duration::from_millis(200)));
    assert_eq!((flight.time_to_give_up(at(1300)), flight.is_lost(at(1300))), (None, false));
    flight.set_overtaken(None);
    flight.set_stalled(Some(at(1300)));
    assert_eq!(flight.time_to_origin(at(1300)), Some(Duration::from_millis(300)), "nor for what is lost");
}

#[test]
fn a_request_is_passed_on_once_until_it_was_seen_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let (flights, passed, takes) =
        (Flights::new(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
    let (counter, taking) = (Arc::clone(&passed), Arc::clone(&takes));
    flights.pass_requests(move |object| {
        assert_eq!(object.toi, Toi(7));
        counter.fetch_add(1, Ordering::Relaxed);
        taking.load(Ordering::Relaxed)
    });
    let flight = of_symbols(&store, "h/a", 7);
    let request = || {
        flights.request(&flight);
        passed.load(Ordering::Relaxed)
    };
    assert_eq!((request(), request()), (1, 1));
    flight.request_seen();
    takes.store(false, Ordering::Relaxed);
    assert_eq!((request(), request()), (2, 3), "a shard that is too busy is asked again");
    takes.store(true, Ordering::Relaxed);
    assert_eq!((request(), request()), (4, 4));
    flights.request(&Arc::new(of_prefix(&store, "h/b", None, false, true)));
    assert_eq!(passed.load(Ordering::Relaxed), 4, "no shard has it");
}

#[test]
fn an_end_is_final_and_leaves_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let (store, flights) = (open(&folder), Flights::new());
    let first = of_symbols(&store, "h/a", 1);
    flights.add(Arc::clone(&first)).unwrap();
    let second = of_symbols(&store, "h/a", 2);
    assert!(matches!(flights.add(Arc::clone(&second)), Err(Some(taken)) if Arc::ptr_eq(&taken, &first)));
    flights.replace(Arc::clone(&second)).unwrap();
    assert!(matches!(first.outcome(), Some(Outcome::Failed(FailReason::Replaced))));
    // The end of the first does not touch the second.
    flights.end(&first, Outcome::Failed(FailReason::Verify));
    assert!(matches!(first.outcome(), Some(Outcome::Failed(FailReason::Replaced))));
    assert!(Arc::ptr_eq(&flights.get("h/a").unwrap(), &second));
    flights.withdraw(&first);
    assert!(flights.get("h/a").is_some());
    flights.withdraw(&second);
    assert!(flights.get("h/a").is_none() && second.outcome().is_none());
    let (failed, refused) = flights.failures();
    assert_eq!((failed.labelled().map(|it| it.1).sum::<u64>(), refused), (2, 0));
}

#[test]
fn objects_in_flight_beyond_the_limit_are_refused_and_counted_until_one_ends() {
    let folder = tempfile::tempdir().unwrap();
    let flights = Flights::new();
    let partial = Arc::new(open(&folder).create(1, Placement::default()).unwrap());
    let flight = |number: usize| {
        let key = key(&format!("h/{number}"));
        Arc::new(Flight::of_prefix(key, None, Some(1), sent(true), Arc::clone(&partial), false))
    };
    for number in 0..table::MAX_FLIGHTS {
        flights.add(flight(number)).unwrap();
    }
    let next = flight(table::MAX_FLIGHTS);
    assert!(matches!(flights.add(Arc::clone(&next)), Err(None)));
    assert!(flights.replace(Arc::clone(&next)).is_none());
    assert_eq!(flights.failures().1, 2);
    flights.end(&flights.get("h/5").unwrap(), Outcome::Failed(FailReason::OriginCut));
    flights.add(next).unwrap();
    assert_eq!(flights.list().len(), table::MAX_FLIGHTS);
}

#[test]
fn what_an_origin_completes_is_no_longer_announced() {
    let folder = tempfile::tempdir().unwrap();
    let (store, flights) = (open(&folder), Flights::new());
    let flight = Arc::new(of_prefix(&store, "h/a", Some(4), false, true));
    let partial = Arc::new(store.create(4, Placement::default()).unwrap());
    partial.write_at(0, b"body").unwrap();
    let meta = crate::store::ObjectMeta {
        uri: crate::store::ObjectUri::new("http://h/a", &key("h/a")),
        key: key("h/a"),
        content_type: None,
        length: 4,
        digest: carousel::Digest::of(b"body"),
        version: 0,
        received_at: WallTime::from_unix_ms(0),
        expires: None,
        class: crate::store::Class::Medium,
        came_by: crate::store::CameBy::Origin,
        response: None,
        ignored_query: Default::default(),
        signed_by: None,
    };
    let stored = store.publish(&partial.freeze(4).unwrap(), meta).unwrap();
    let announced = Announced {
        digest: None,
        length: Some(4),
        content_type: None,
        version: 1,
        ignored_query: Default::default(),
    };
    let ObjectRef { session, .. } = of_symbols(&store, "h/b", 1).carried().unwrap().object;
    flights.announce(key("h/a"), ObjectRef { session, toi: Toi(1) }, announced);
    flights.add(Arc::clone(&flight)).unwrap();
    flights.end(&flight, Outcome::Passed(4));
    assert_eq!(flights.announced_count(), 1, "it was not kept");
    flights.end(&flight, Outcome::Complete(stored));
    assert_eq!(flights.announced_count(), 0);
}
