//! Limits on objects and events.

use super::*;

#[test]
fn a_hundred_thousand_invented_tois_leave_room_for_described_objects() {
    let oti = Oti::no_code(8, 4, 2);
    let mut bench = Bench::new();
    for toi in 0..100_000 {
        bench.feed(&by_hand(1_000_000 + toi, Some(&oti), 0, 0, b"abcd", |_| {}));
    }
    assert_eq!(bench.receiver.in_flight.len(), MAX_UNNAMED);
    assert_eq!(bench.drops(DropReason::TooManyObjects), 100_000 - MAX_UNNAMED as u64);
    let bytes = body(8, 3000);
    let (_, fdt, data) = one_object(SenderProfile::default(), "a", &bytes);
    bench.feed_all(&fdt);
    bench.feed_all(&data);
    assert_eq!(bench.whole().len(), 1);
    bench.now = bench.now + Duration::from_secs(60);
    bench.receiver.handle_timeout(bench.now, Some(WALL));
    assert_eq!(bench.receiver.in_flight.len(), 0, "those that never got a name are given up");
}

#[test]
fn described_objects_in_flight_are_bounded() {
    let mut bench = Bench::new();
    let files: String = (1..=3000)
        .map(|toi| format!("<File TOI=\"{toi}\" Content-Location=\"f{toi}\" Content-Length=\"8\"/>"))
        .collect();
    let xml = format!("<FDT-Instance Expires=\"4294944000\">{files}</FDT-Instance>");
    for chunk_start in [0] {
        let mut extensions = Vec::new();
        crate::lct::ext::Fdt { version: 1, instance_id: 1 }.write(&mut extensions);
        Oti::no_code(xml.len() as u64, 50_000, 9).write_fti(&mut extensions).unwrap();
        for (esi, part) in xml.as_bytes().chunks(50_000).enumerate() {
            let mut out = Vec::new();
            LctHeader { extensions: &extensions, ..LctHeader::new(Tsi(7), Toi(chunk_start)) }
                .write(&mut out)
                .unwrap();
            PayloadId { sbn: 0, esi: esi as u32 }.write_16_16(&mut out);
            out.extend_from_slice(part);
            bench.feed(&out);
        }
    }
    bench.events();
    let mut displaced = Vec::new();
    for toi in 1..=3000 {
        bench.feed(&by_hand(toi, Some(&Oti::no_code(8, 4, 2)), 0, 0, b"abcd", |_| {}));
        displaced.extend(bench.events().into_iter().filter_map(|event| match event {
            Event::Abandoned { toi, reason: AbandonReason::Displaced, .. } => Some(toi.0),
            _ => None,
        }));
    }
    assert_eq!(bench.receiver.in_flight.len(), MAX_OBJECTS_IN_FLIGHT);
    let expected: Vec<u128> = (1..=3000 - MAX_OBJECTS_IN_FLIGHT as u128).collect();
    assert!(displaced == expected, "the one heard longest ago makes room");
}

#[test]
fn events_that_nobody_polls_stop_the_intake_not_the_memory() {
    let mut bench = Bench::new();
    for id in 0..MAX_EVENTS as u32 + 100 {
        bench.feed(&fdt_by_hand(id, &describe(id + 1, "x", "Content-Length=\"4\"")));
    }
    assert_eq!(bench.receiver.events.len(), MAX_EVENTS);
    assert_eq!(bench.drops(DropReason::EventsFull), 100);
}

#[test]
fn objects_whose_storage_is_lost_stay_until_there_is_room_for_their_events() {
    let oti = Oti::no_code(8, 4, 2);
    let mut bench = Bench::new();
    for toi in [1, 2] {
        bench.feed(&by_hand(toi, Some(&oti), 0, 0, b"abcd", |_| {}));
    }
    bench.events();
    for id in 0..MAX_EVENTS as u32 - 1 {
        bench.feed(&fdt_by_hand(id, &describe(id + 9, "x", "Content-Length=\"4\"")));
    }
    assert_eq!((bench.receiver.events.len(), bench.receiver.in_flight.len()), (MAX_EVENTS - 1, 2));
    bench.receiver.give_up(bench.now, |_| true);
    assert_eq!((bench.receiver.events.len(), bench.receiver.in_flight.len()), (MAX_EVENTS, 1));
    bench.events();
    bench.receiver.give_up(bench.now, |_| true);
    assert_eq!((bench.events().len(), bench.receiver.in_flight.len()), (1, 0));
}

#[test]
fn objects_that_get_a_name_leave_room_for_others_without_one() {
    let oti = Oti::no_code(8, 4, 2);
    let mut bench = Bench::new();
    let invented = |bench: &mut Bench, from: u128| {
        for toi in from..from + MAX_UNNAMED as u128 {
            assert_eq!(
                bench.feed(&by_hand(toi, Some(&oti), 0, 0, b"abcd", |_| {})),
                Verdict::Stored,
                "{toi}"
            );
        }
        bench.feed(&by_hand(9_999, Some(&oti), 0, 0, b"abcd", |_| {}))
    };
    let full = Verdict::Dropped(DropReason::TooManyObjects);
    assert_eq!(invented(&mut bench, 1), full);
    for toi in 1..=MAX_UNNAMED as u32 {
        bench.feed(&fdt_by_hand(toi, &describe(toi, &format!("f{toi}"), "Content-Length=\"8\"")));
    }
    assert_eq!(invented(&mut bench, 1000), full);
}
