//! Stalls, closed and silent sessions, repair, refusals.

use super::*;

#[test]
fn close_flags_stall_what_is_incomplete_once() {
    let oti = Oti::no_code(8, 4, 2);
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"8\"")));
    bench.feed(&by_hand(1, Some(&oti), 0, 0, b"abcd", |header| header.close_object = true));
    let stalled = |events: &[Event<Vec<u8>>]| {
        events.iter().filter(|event| matches!(event, Event::Stalled { .. })).count()
    };
    assert_eq!(stalled(&bench.events()), 1);
    let mut close = Vec::new();
    Sender::new(Tsi(7), SenderProfile::default(), 1, 1).write_close(&mut close);
    assert_eq!(bench.feed(&close), Verdict::Control);
    assert_eq!(bench.feed(&close), Verdict::Control);
    let events = bench.events();
    assert!(matches!(events[..], [Event::SessionClosed]), "{events:?}");
    assert_eq!(
        bench.feed(&by_hand(1, Some(&oti), 0, 1, b"efgh", |_| {})),
        Verdict::Stored,
        "late packets still count"
    );
    let events = bench.events();
    assert!(matches!(events[..], [Event::Resumed { .. }, Event::Complete { .. }]), "{events:?}");
}

#[test]
fn an_object_that_its_sender_closes_while_it_is_decoded_has_not_stalled() {
    let oti = Oti {
        encoding_id: EncodingId::RAPTORQ,
        max_source_block_length: 0,
        scheme: SchemeInfo::RaptorQ { source_blocks: 1, sub_blocks: 1, alignment: 4 },
        ..Oti::no_code(8, 4, 2)
    };
    // Two of two source symbols are lost, or one of them.
    for lost in [2, 1] {
        let mut bench = Bench::new();
        bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"8\"")));
        for esi in lost..2 {
            bench.feed(&by_hand(1, Some(&oti), 0, esi, b"abcd", |header| header.codepoint = 6));
        }
        bench.feed(&by_hand(1, Some(&oti), 0, 2, b"efgh", |header| {
            (header.codepoint, header.close_object) = (6, true);
        }));
        let events = bench.events();
        let is_ready = events.iter().any(|event| matches!(event, Event::BlockReady { .. }));
        let has_stalled = events.iter().any(|event| matches!(event, Event::Stalled { .. }));
        assert_eq!((is_ready, has_stalled), (lost == 1, lost == 2), "{events:?}");
    }
    // Of two blocks one is being decoded, and the other is lost.
    let oti = Oti {
        transfer_length: 16,
        scheme: SchemeInfo::RaptorQ { source_blocks: 2, sub_blocks: 1, alignment: 4 },
        ..oti
    };
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"16\"")));
    let packet = |sbn: u32, esi: u32, is_last: bool| {
        let sbn_in_16_bits = sbn << 8;
        by_hand(1, Some(&oti), sbn_in_16_bits, esi, b"abcd", move |header| {
            (header.codepoint, header.close_object) = (6, is_last);
        })
    };
    bench.feed(&packet(0, 1, false));
    bench.feed(&packet(1, 1, false));
    bench.feed(&packet(1, 2, true));
    let events = bench.events();
    assert!(
        events.iter().any(|event| matches!(event, Event::BlockReady { block: BlockId { sbn: 1, .. }, .. })),
        "{events:?}"
    );
    assert!(events.iter().any(|event| matches!(event, Event::Stalled { .. })), "{events:?}");
}

#[test]
fn an_object_that_stalled_before_it_had_a_name_is_told_of_when_it_gets_one() {
    let oti = Oti::no_code(8, 4, 2);
    let mut bench = Bench::new();
    bench.feed(&by_hand(1, Some(&oti), 0, 0, b"abcd", |header| header.close_object = true));
    assert!(
        !bench.receiver.object(Toi(1)).unwrap().stalled || bench.receiver.events.len() == 1,
        "nothing can repair it"
    );
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"8\"")));
    let events = bench.events();
    assert!(
        matches!(events[..], [Event::Opened { .. }, Event::Fdt { .. }, Event::Stalled { .. }]),
        "{events:?}"
    );
}

#[test]
fn a_session_that_falls_silent_is_told_of_once_and_again_after_it_spoke() {
    let mut bench = Bench::new();
    let silent = |bench: &mut Bench, second: u64| {
        bench.receiver.handle_timeout(Instant::from_nanos(second * 1_000_000_000), None);
        bench.events().iter().filter(|event| matches!(event, Event::SessionSilent)).count()
    };
    assert_eq!(silent(&mut bench, 100), 0, "nothing was ever heard");
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"8\"")));
    assert_eq!(bench.receiver.unseen().count(), 1);
    assert_eq!((silent(&mut bench, 4), silent(&mut bench, 6), silent(&mut bench, 7)), (0, 1, 0));
    bench.feed(&fdt_by_hand(2, &describe(1, "x", "Content-Length=\"8\"")));
    assert_eq!((silent(&mut bench, 4), silent(&mut bench, 6)), (0, 1));
}

#[test]
fn repair_fills_only_whole_symbols_that_are_missing() {
    let bytes = body(5, 10_500);
    let profile = SenderProfile { symbol_length: 1000, ..SenderProfile::default() };
    let (_, fdt, data) = one_object(profile, "a", &bytes);
    let mut bench = Bench::new();
    bench.feed_all(&fdt);
    for packet in
        data.iter().enumerate().filter(|(at, _)| ![0, 4, 5, 10].contains(at)).map(|(_, packet)| packet)
    {
        bench.feed(packet);
    }
    let object = bench.receiver.object(Toi(5)).unwrap();
    let missing = [0..1000, 4000..6000, 10_000..10_500];
    assert!(object.received().missing().eq(missing.clone()) && object.needed().eq(missing));
    assert_eq!(
        bench.receiver.repair(Toi(5), 3500, &bytes[3500..5999], &mut bench.storage),
        Some(1),
        "a part of a symbol is not used"
    );
    assert_eq!(bench.receiver.repair(Toi(5), 10_000, &bytes[10_000..], &mut bench.storage), Some(1));
    assert_eq!(bench.receiver.repair(Toi(5), u64::MAX, b"x", &mut bench.storage), Some(0));
    assert_eq!(bench.receiver.repair(Toi(5), 0, &bytes, &mut bench.storage), Some(2));
    assert_eq!(bench.whole(), [("a".to_owned(), bytes)]);
    assert_eq!(bench.receiver.repair(Toi(5), 0, b"x", &mut bench.storage), None);
}

#[test]
fn what_proved_wrong_is_received_again() {
    let bytes = body(6, 3000);
    let (_, fdt, mut data) = one_object(SenderProfile::default(), "a", &bytes);
    let mut bench = Bench::new();
    bench.feed_all(&fdt);
    let good = data[1].clone();
    *data[1].last_mut().unwrap() ^= 1;
    bench.feed_all(&data);
    let Some(Event::Complete { file, buf, .. }) = bench.events().pop() else { panic!("complete") };
    assert!(verify(&file, &buf).is_err());
    bench.receiver.reject(file.toi);
    data[1] = good;
    bench.feed_all(&data);
    assert_eq!(bench.whole().len(), 1);
}

#[test]
fn refusals_are_remembered_for_as_long_as_they_hold() {
    let bytes = body(7, 3000);
    let (_, fdt, data) = one_object(SenderProfile::default(), "a", &bytes);
    for (refusal, reason) in
        [(Refusal::Held, DropReason::Repeat), (Refusal::NotWanted, DropReason::NotWanted)]
    {
        let mut bench = Bench::new();
        bench.feed_all(&fdt);
        bench.storage.refuse = Some(refusal);
        bench.feed_all(&data);
        bench.storage.refuse = None;
        bench.now = bench.now + Duration::from_secs(3600);
        bench.feed_all(&data);
        assert_eq!(bench.drops(reason), 2 * data.len() as u64);
    }
    let mut bench = Bench::new();
    bench.feed_all(&fdt);
    bench.storage.refuse = Some(Refusal::NoRoom);
    bench.feed_all(&data);
    bench.storage.refuse = None;
    assert_eq!(bench.feed(&data[0]), Verdict::Dropped(DropReason::NoRoom));
    bench.now = bench.now + Duration::from_secs(6);
    bench.feed_all(&data);
    assert_eq!(bench.whole().len(), 1);
}

/// The packet that closes the session.
fn close() -> Vec<u8> {
    let mut close = Vec::new();
    Sender::new(Tsi(7), SenderProfile::default(), 1, 1).write_close(&mut close);
    close
}

#[test]
fn a_session_that_goes_on_after_its_close_flag_can_close_again() {
    let mut bench = Bench::new();
    let closed = |events: Vec<Event<Vec<u8>>>| {
        events.iter().filter(|event| matches!(event, Event::SessionClosed)).count()
    };
    bench.feed_all(&[close(), close()]);
    assert_eq!(closed(bench.events()), 1);
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"8\"")));
    bench.feed_all(&[close(), close()]);
    assert_eq!(closed(bench.events()), 1);
}

#[test]
fn a_closed_session_does_not_fall_silent() {
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"8\"")));
    bench.feed(&close());
    let events = bench.pass(20, |_| None);
    assert!(!events.iter().any(|event| matches!(event, Event::SessionSilent)), "{events:?}");
}

#[test]
fn a_complete_object_without_a_name_does_not_stall() {
    let oti = Oti::no_code(4, 4, 1);
    let mut bench = Bench::new();
    bench.feed(&by_hand(1, Some(&oti), 0, 0, b"abcd", |_| {}));
    bench.pass(5, |_| None);
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"4\"")));
    let events = bench.events();
    assert!(!events.iter().any(|event| matches!(event, Event::Stalled { .. })), "{events:?}");
    assert!(matches!(events.last(), Some(Event::Complete { .. })), "{events:?}");
}

#[test]
fn timeouts_count_from_the_last_packet_to_the_nanosecond() {
    let oti = Oti::no_code(8, 4, 2);
    let nano = Duration::from_nanos(1);
    let config = ReceiverConfig::default();
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"8\"")));
    bench.feed(&by_hand(1, Some(&oti), 0, 0, b"abcd", |_| {}));
    let named = bench.now;
    bench.feed(&by_hand(2, Some(&oti), 0, 0, b"abcd", |_| {}));
    let unnamed = bench.now;
    bench.feed(&by_hand(3, None, 0, 0, b"abcd", |_| {}));
    let early = bench.now;
    bench.events();
    let mut at = |now: Instant| {
        bench.receiver.handle_timeout(now, None);
        let events = bench.events();
        let stalled = events.iter().any(|event| matches!(event, Event::Stalled { .. }));
        let never = |event: &Event<Vec<u8>>| {
            matches!(event, Event::Abandoned { reason: AbandonReason::NeverDescribed, .. })
        };
        (stalled, events.iter().any(never), bench.receiver.early.len())
    };
    assert_eq!(at(named + (config.reception_timeout - nano)), (false, false, 1));
    assert_eq!(at(named + config.reception_timeout), (true, false, 1));
    assert_eq!(at(unnamed + (config.unnamed_timeout - nano)), (false, false, 1));
    assert_eq!(at(unnamed + config.unnamed_timeout), (false, true, 1));
    assert_eq!(at(early + config.unnamed_timeout), (false, false, 0));
}

#[test]
fn what_the_cache_no_longer_holds_is_received_again() {
    let bytes = body(6, 3000);
    let (_, fdt, data) = one_object(SenderProfile::default(), "a", &bytes);
    let mut bench = Bench::new();
    bench.feed_all(&fdt);
    bench.feed_all(&data);
    assert_eq!(bench.whole().len(), 1);
    bench.receiver.forget_unless(|_| true);
    bench.feed_all(&data);
    assert!(bench.whole().is_empty());
    bench.receiver.forget_unless(|file| file.content_location != "a");
    bench.feed_all(&data);
    assert_eq!(bench.whole().len(), 1);
}

#[test]
fn what_came_another_way_leaves_the_objects_in_flight() {
    let bytes = body(6, 3000);
    let (_, fdt, data) = one_object(SenderProfile::default(), "a", &bytes);
    let mut bench = Bench::new();
    bench.feed_all(&fdt);
    bench.receiver.hold(Toi(99));
    bench.feed(&data[0]);
    assert_eq!(bench.receiver.in_flight().count(), 1);
    bench.receiver.hold(Toi(5));
    assert_eq!((bench.receiver.in_flight().count(), bench.receiver.unseen().count()), (0, 0));
    bench.feed_all(&data);
    assert_eq!(bench.drops(DropReason::Repeat), data.len() as u64);
    assert!(bench.whole().is_empty());
}

#[test]
fn the_next_pass_is_told_while_it_is_to_come() {
    let bytes = body(6, 3000);
    let (mut sender, fdt, data) = one_object(SenderProfile::default(), "a", &bytes);
    let other = body(7, 3000);
    let toi = sender.add(SendFile::of("b", &other)).unwrap();
    let mut bench = Bench::new();
    bench.feed_all(&fdt);
    bench.feed_all(&fdt_packets(&mut sender));
    let seconds = |s: u64| Instant::from_nanos(s * 1_000_000_000);
    let lossy = object_packets(&sender, toi, &other);
    for at in [100, 140] {
        bench.now = seconds(at);
        bench.feed_all(&data);
        bench.feed(&lossy[0]);
        bench.receiver.handle_timeout(seconds(at + 10), None);
    }
    // What is held came round after 40 s; the pass of the object in flight began at 140 s.
    let next = bench.receiver.next_pass(toi).unwrap();
    let is_near = |at: Instant, s: u64| at.since(seconds(s)) < Duration::from_secs(1) && at >= seconds(s);
    assert!(is_near(next, 180), "{next:?}");
    bench.now = seconds(400);
    bench.feed(&close());
    assert_eq!(bench.receiver.next_pass(toi), None, "over its time");
    assert_eq!(bench.receiver.next_pass(Toi(99)), None);
}
