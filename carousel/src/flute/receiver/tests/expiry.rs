//! Expiry in virtual time.

use super::*;

/// The date at `now` of a test that began at [`WALL`].
fn date(now: Instant) -> WallTime {
    WALL.plus_ms(i64::try_from(now.as_nanos() / 1_000_000).unwrap())
}

/// A live session: segments described for ten seconds, of each the second of two packets lost.
fn lossy_live(wall: impl Fn(Instant) -> Option<WallTime>) {
    let oti = Oti::no_code(8, 4, 2);
    let mut bench = Bench::new();
    let mut abandoned = 0;
    let mut count = |events: Vec<Event<Vec<u8>>>| {
        abandoned += events.iter().filter(|event| matches!(event, Event::Abandoned { .. })).count();
    };
    for toi in 1..=1100_u32 {
        let expires = date(bench.now).plus_ms(10_000).ntp_seconds();
        let xml = format!(
            "<FDT-Instance Expires=\"{expires}\"><File TOI=\"{toi}\" Content-Location=\"s{toi}\" Content-Length=\"8\"/></FDT-Instance>"
        );
        bench.feed_at(wall(bench.now), &fdt_by_hand(toi, &xml));
        bench.feed_at(wall(bench.now), &by_hand(toi.into(), Some(&oti), 0, 0, b"abcd", |_| {}));
        count(bench.pass(2, &wall));
        assert!(bench.receiver.in_flight.len() <= MAX_OBJECTS_IN_FLIGHT);
    }
    count(bench.pass(3600, &wall));
    assert_eq!((abandoned, bench.receiver.in_flight.len()), (1100, 0));
    assert!(bench.receiver.table().is_empty() && bench.receiver.is_spent());
    let expires = date(bench.now).plus_ms(10_000).ntp_seconds();
    let xml = describe(2000, "next", "Content-Length=\"8\"").replace("4294944000", &expires.to_string());
    bench.feed_at(wall(bench.now), &fdt_by_hand(2000, &xml));
    bench.feed_at(wall(bench.now), &by_hand(2000, Some(&oti), 0, 0, b"abcd", |_| {}));
    bench.feed_at(wall(bench.now), &by_hand(2000, Some(&oti), 0, 1, b"efgh", |_| {}));
    assert_eq!(bench.whole(), [("next".to_owned(), b"abcdefgh".to_vec())]);
}

#[test]
fn a_lossy_live_session_gives_up_what_has_expired() {
    lossy_live(|now| Some(date(now)));
}

#[test]
fn a_lossy_live_session_gives_up_what_is_old_while_the_date_is_not_known() {
    lossy_live(|_| None);
}

#[test]
fn an_expired_object_is_waited_for_while_its_packets_come() {
    let oti = Oti::no_code(8000, 4, 2000);
    let mut bench = Bench::new();
    let expires = date(bench.now).plus_ms(2_000).ntp_seconds();
    let xml = describe(1, "x", "Content-Length=\"8000\"").replace("4294944000", &expires.to_string());
    bench.feed_at(Some(WALL), &fdt_by_hand(1, &xml));
    for esi in 0..60 {
        bench.feed_at(None, &by_hand(1, Some(&oti), 0, esi, b"abcd", |_| {}));
        let events = bench.pass(1, |now| Some(date(now)));
        assert!(!events.iter().any(|event| matches!(event, Event::Abandoned { .. })), "{esi}");
    }
    let grace = EXPIRED_GRACE.as_secs();
    assert!(
        !bench.pass(grace - 2, |now| Some(date(now))).iter().any(|it| matches!(it, Event::Abandoned { .. }))
    );
    let events = bench.pass(3, |now| Some(date(now)));
    assert!(matches!(events[..], [Event::Abandoned { reason: AbandonReason::Expired, .. }]), "{events:?}");
}

#[test]
fn what_never_expires_is_given_up_after_a_day_and_a_half() {
    let oti = Oti::no_code(8, 4, 2);
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"8\"")));
    bench.feed(&by_hand(1, Some(&oti), 0, 0, b"abcd", |_| {}));
    bench.events();
    bench.now = bench.now + (MAX_OBJECT_SILENCE - Duration::from_secs(5));
    assert!(!bench.pass(3, |now| Some(date(now))).iter().any(|it| matches!(it, Event::Abandoned { .. })));
    let events = bench.pass(10, |now| Some(date(now)));
    assert!(matches!(events[..], [Event::Abandoned { reason: AbandonReason::Silent, .. }]), "{events:?}");
}

#[test]
fn an_object_without_a_name_is_given_up_though_its_packets_come() {
    let oti = Oti::no_code(400, 4, 100);
    let mut bench = Bench::new();
    let before = bench.receiver.held_bytes();
    let begun = bench.now;
    for esi in 0..100 {
        bench.feed_at(None, &by_hand(1, Some(&oti), 0, esi, b"abcd", |_| {}));
        assert!(bench.receiver.held_bytes() > before + 1_000);
        let events = bench.pass(25, |_| None);
        let reasons = events.iter().filter_map(|event| match event {
            Event::Abandoned { reason, .. } => Some(reason),
            _ => None,
        });
        if reasons.eq([&AbandonReason::NeverDescribed]) {
            assert!(bench.now.since(begun) >= MAX_UNNAMED_AGE);
            assert_eq!((bench.receiver.in_flight.len(), bench.receiver.held_bytes()), (0, before));
            return;
        }
    }
    panic!("it is still there");
}
