//! FDT Instances: identifiers, lengths, restarts, expiry.

use super::describing::{EMPTY_PATIENCE, MAX_EMPTY};
use super::*;

#[test]
fn fdt_ids_that_jump_or_repeat_are_only_ids() {
    let mut bench = Bench::new();
    let (a, b) = (body(1, 3000), body(2, 4000));
    let (_, fdt_a, data_a) = one_object(SenderProfile::default(), "a", &a);
    bench.feed_all(&fdt_a);
    bench.feed_all(&fdt_a);
    let new = |events: Vec<Event<Vec<u8>>>| {
        events.iter().filter(|event| matches!(event, Event::Fdt { .. })).count()
    };
    assert_eq!(new(bench.events()), 1, "a repeated instance is not news");
    // The same ID, other bytes: an instance of a sender that does not count.
    let mut other = Sender::new(Tsi(7), SenderProfile::default(), 6, 99);
    let toi = other.add(SendFile::of("b", &b)).unwrap();
    let fdt_b = fdt_packets(&mut other);
    bench.feed_all(&fdt_b);
    bench.feed_all(&object_packets(&other, toi, &b));
    bench.feed_all(&data_a);
    let names: Vec<_> = bench.whole().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["b", "a"], "instances add up");
    // IDs far apart.
    let mut jump = Sender::new(Tsi(7), SenderProfile::default(), 900, 0xf_fff0);
    let toi = jump.add(SendFile::of("c", &a)).unwrap();
    bench.feed_all(&fdt_packets(&mut jump));
    bench.feed_all(&object_packets(&jump, toi, &a));
    assert_eq!(bench.whole().len(), 1);
}

#[test]
fn widths_of_16_and_48_bits_and_long_tois() {
    for widths in [
        Widths::BITS_16,
        Widths { tsi_words: 1, toi_words: 1, half_word: true },
        Widths { tsi_words: 1, toi_words: 3, half_word: true },
        Widths { tsi_words: 1, toi_words: 2, half_word: false },
    ] {
        let bytes = body(3, 5000);
        let (_, fdt, data) = one_object(SenderProfile { widths, ..SenderProfile::default() }, "a", &bytes);
        let mut bench = Bench::new();
        bench.feed_all(&fdt);
        bench.feed_all(&data);
        assert_eq!(bench.whole().len(), 1, "{widths:?}");
    }
}

#[test]
fn oti_only_on_the_fdt_instance() {
    let xml = "<FDT-Instance Expires=\"4294944000\" FEC-OTI-FEC-Encoding-ID=\"0\" FEC-OTI-Maximum-Source-Block-Length=\"2\" \
        FEC-OTI-Encoding-Symbol-Length=\"4\"><File TOI=\"1\" Content-Location=\"x\" Content-Length=\"10\"/></FDT-Instance>";
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, xml));
    bench.feed(&by_hand(1, None, 0, 0, b"0123", |_| {}));
    bench.feed(&by_hand(1, None, 0, 1, b"4567", |_| {}));
    bench.feed(&by_hand(1, None, 1, 0, b"89", |_| {}));
    assert_eq!(bench.whole(), [("x".to_owned(), b"0123456789".to_vec())]);
}

#[test]
fn a_session_restarted_without_a_close_flag_never_mixes_two_objects() {
    let (old, new) = (body(1, 30_000), body(2, 30_000));
    let (_, old_fdt, old_data) = one_object(SenderProfile::default(), "live/1.m4s", &old);
    let (_, new_fdt, new_data) = one_object(SenderProfile::default(), "live/9.m4s", &new);
    let mut bench = Bench::new();
    bench.feed_all(&old_fdt);
    bench.feed_all(&old_data[..15]);
    // The sender comes back and counts from the same TOI and instance ID.
    bench.feed_all(&new_fdt);
    bench.feed_all(&new_data[10..]);
    assert!(bench.whole().is_empty());
    bench.feed_all(&new_data[..10]);
    assert_eq!(bench.whole(), [("live/9.m4s".to_owned(), new)]);
    // And again after the object was complete.
    bench.feed_all(&old_fdt);
    bench.feed_all(&old_data);
    assert_eq!(bench.whole(), [("live/1.m4s".to_owned(), old)]);
}

#[test]
fn a_restart_with_another_length_is_seen_by_ext_fti_before_any_fdt() {
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"4\"")));
    bench.feed(&by_hand(1, Some(&Oti::no_code(4, 4, 1)), 0, 0, b"0123", |_| {}));
    assert_eq!(bench.whole().len(), 1);
    assert_eq!(bench.feed(&by_hand(1, Some(&Oti::no_code(8, 4, 2)), 0, 0, b"abcd", |_| {})), Verdict::Stored);
    bench.feed(&fdt_by_hand(1, &describe(1, "y", "Content-Length=\"8\"")));
    bench.feed(&by_hand(1, Some(&Oti::no_code(8, 4, 2)), 0, 0, b"abcd", |_| {}));
    bench.feed(&by_hand(1, Some(&Oti::no_code(8, 4, 2)), 0, 1, b"efgh", |_| {}));
    assert_eq!(bench.whole(), [("y".to_owned(), b"abcdefgh".to_vec())]);
}

#[test]
fn fdts_that_lie_about_lengths() {
    let mut bench = Bench::new();
    // Content-Length says 100, EXT_FTI says 8: EXT_FTI goes first, the lie shows when the object is verified.
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"100\"")));
    let oti = Oti::no_code(8, 4, 2);
    bench.feed(&by_hand(1, Some(&oti), 0, 0, b"abcd", |_| {}));
    bench.feed(&by_hand(1, Some(&oti), 0, 1, b"efgh", |_| {}));
    let Some(Event::Complete { file, buf, .. }) = bench.events().pop() else { panic!("complete") };
    assert!(verify(&file, &buf).is_err());
    // Lengths beyond any storage.
    for length in ["18446744073709551615", "17179869185"] {
        bench.feed(&fdt_by_hand(2, &describe(2, "y", &format!("Content-Length=\"{length}\" FEC-OTI-Encoding-Symbol-Length=\"4\" FEC-OTI-Maximum-Source-Block-Length=\"4\""))));
        assert_eq!(
            bench.feed(&by_hand(2, None, 0, 0, b"abcd", |_| {})),
            Verdict::Dropped(DropReason::BadOti)
        );
    }
    // An FDT Instance whose EXT_FTI promises a gigabyte.
    let mut extensions = Vec::new();
    crate::lct::ext::Fdt { version: 1, instance_id: 9 }.write(&mut extensions);
    Oti::no_code(1 << 30, 1400, 65_535).write_fti(&mut extensions).unwrap();
    let mut out = Vec::new();
    LctHeader { extensions: &extensions, ..LctHeader::new(Tsi(7), Toi(0)) }.write(&mut out).unwrap();
    out.extend_from_slice(&[0; 100]);
    assert_eq!(bench.feed(&out), Verdict::Dropped(DropReason::FdtBadLength));
}

#[test]
fn a_description_of_another_length_ends_what_has_come_without_a_name() {
    let oti = Oti::no_code(8, 4, 2);
    for (length, is_another) in [(8, false), (7, true), (9, true)] {
        let mut bench = Bench::new();
        bench.feed(&by_hand(1, Some(&oti), 0, 0, b"abcd", |_| {}));
        bench.feed(&fdt_by_hand(1, &describe(1, "x", &format!("Content-Length=\"{length}\""))));
        let events = bench.events();
        let is_replaced = events.iter().any(|event| matches!(event, Event::Replaced { toi: Toi(1), .. }));
        assert_eq!(
            (is_replaced, bench.storage.named.len()),
            (is_another, usize::from(!is_another)),
            "{length}"
        );
        assert_eq!(bench.receiver.in_flight.len(), usize::from(!is_another));
    }
}

#[test]
fn lengths_of_zero_say_nothing_where_packets_say_otherwise() {
    let oti = Oti::no_code(8, 4, 2);
    let packets = [b"abcd", b"efgh"].iter().enumerate();
    let packets: Vec<_> =
        packets.map(|(at, bytes)| by_hand(1, Some(&oti), 0, at as u32, &bytes[..], |_| {})).collect();
    let fdt = fdt_by_hand(1, &describe(1, "x", "Content-Length=\"0\" Transfer-Length=\"0\""));
    for order in [[0, 1, 2], [1, 0, 2], [1, 2, 0]] {
        let all = [&fdt, &packets[0], &packets[1]];
        let mut bench = Bench::new();
        for at in order {
            bench.feed(all[at]);
        }
        assert_eq!(bench.whole(), [("x".to_owned(), b"abcdefgh".to_vec())], "{order:?}");
    }
}

#[test]
fn descriptions_of_no_bytes_wait_for_packets_that_contradict() {
    let mut bench = Bench::new();
    let zero = |toi: usize| format!("<File TOI=\"{toi}\" Content-Location=\"o{toi}\" Content-Length=\"0\"/>");
    let instance = |files: &str| format!("<FDT-Instance Expires=\"4294944000\">{files}</FDT-Instance>");
    let tois: Vec<usize> = (1..=MAX_EMPTY + 3).collect();
    for (at, tois) in tois.chunks(500).enumerate() {
        let files: String = tois.iter().copied().map(zero).collect();
        bench.feed(&fdt_by_hand(at as u32 + 1, &instance(&files)));
    }
    assert_eq!(bench.whole().len(), 3, "beyond the limit");
    bench.now = bench.now + EMPTY_PATIENCE;
    bench.feed(&fdt_by_hand(9, &instance(&zero(5000))));
    assert_eq!(bench.whole().len(), MAX_EMPTY);
    assert_eq!(bench.receiver.empty.len(), 1);
}

/// Of sender and receiver one has a wrong date: a recording that is sent again, a clock without a battery.
#[test]
fn an_instance_that_comes_expired_holds_for_an_hour() {
    let mut bench = Bench::new();
    for (id, past_ms) in [(1, 1000), (2, 400 * 86_400_000)] {
        let past = WALL.plus_ms(-past_ms).ntp_seconds();
        let xml = format!(
            "<FDT-Instance Expires=\"{past}\"><File TOI=\"{id}\" Content-Location=\"x{id}\"/></FDT-Instance>"
        );
        assert_eq!(bench.feed_at(Some(WALL), &fdt_by_hand(id, &xml)), Verdict::Fdt);
    }
    assert_eq!(bench.receiver.stats().expired_instances, 2);
    for (ms, files) in [(3_600_000, 2), (3_601_000, 0)] {
        bench.receiver.handle_timeout(bench.now, Some(WALL.plus_ms(ms)));
        assert_eq!(bench.receiver.table().len(), files, "{ms}");
    }
}

#[test]
fn an_object_of_no_bytes_is_whole_when_it_has_a_name() {
    let md5 = "Content-Length=\"0\" Content-MD5=\"1B2M2Y8AsgTpgAmY7PhCfg==\"";
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, &describe(1, "end", md5)));
    assert_eq!(bench.whole(), [("end".to_owned(), vec![])]);
    bench.feed(&fdt_by_hand(2, &describe(1, "end", md5)));
    assert!(bench.whole().is_empty(), "once");
    // Without a digest, packets may contradict it, for two seconds or a turn of the carousel.
    let (mut bench, other) = (Bench::new(), body(1, 3000));
    let (_, other_fdt, packets) = one_object(SenderProfile::default(), "a", &other);
    let fdt = fdt_by_hand(900, &describe(77, "end", "Content-Length=\"0\""));
    bench.feed_all(&other_fdt);
    for expected in [0, 0, 1] {
        bench.feed(&fdt);
        let whole = bench.whole();
        assert_eq!(whole.iter().filter(|(name, _)| name == "end").count(), expected);
        bench.feed_all(&packets);
    }
    let mut bench = Bench::new();
    let fdt = fdt_by_hand(1, &describe(1, "end", "Content-Length=\"0\""));
    bench.feed(&fdt);
    assert!(bench.whole().is_empty());
    bench.now = bench.now + EMPTY_PATIENCE;
    bench.feed(&fdt);
    assert_eq!(bench.whole(), [("end".to_owned(), vec![])]);
}

#[test]
fn a_new_version_has_a_new_toi_and_both_arrive() {
    let (one, two) = (body(1, 4000), body(2, 4100));
    let mut sender = Sender::new(Tsi(7), SenderProfile::default(), 1, 1);
    let first = sender.add(SendFile::of("m.m3u8", &one)).unwrap();
    let mut bench = Bench::new();
    bench.feed_all(&fdt_packets(&mut sender));
    bench.feed_all(&object_packets(&sender, first, &one));
    sender.withdraw(first);
    let second = sender.add(SendFile::of("m.m3u8", &two)).unwrap();
    assert_ne!(first, second);
    bench.feed_all(&fdt_packets(&mut sender));
    bench.feed_all(&object_packets(&sender, second, &two));
    assert_eq!(bench.whole(), [("m.m3u8".to_owned(), one), ("m.m3u8".to_owned(), two)]);
}

#[test]
fn an_instance_that_expired_by_age_describes_again_when_it_comes_again() {
    let mut bench = Bench::new();
    let fdt = fdt_by_hand(1, &describe(1, "x", "Content-Length=\"8\""));
    bench.feed_at(None, &fdt);
    bench.pass(UNDATED_EXPIRY.as_secs() + 120, |_| None);
    assert!(bench.receiver.table().is_empty());
    bench.feed_at(None, &fdt);
    assert_eq!(bench.receiver.table().len(), 1);
}

#[test]
fn an_instance_is_valid_to_its_last_second() {
    let mut bench = Bench::new();
    let expires = WALL.ntp_seconds();
    let fdt =
        fdt_by_hand(1, &describe(1, "x", "Content-Length=\"8\"").replace("4294944000", &expires.to_string()));
    assert_eq!(bench.feed_at(Some(WALL), &fdt), Verdict::Fdt);
    assert_eq!((bench.receiver.table().len(), bench.receiver.stats().expired_instances), (1, 0));
    bench.receiver.handle_timeout(bench.now, Some(WALL.plus_ms(1000)));
    assert!(bench.receiver.table().is_empty());
}

#[test]
fn an_instance_without_expiry_holds_for_an_hour() {
    let mut bench = Bench::new();
    let fdt = fdt_by_hand(1, "<FDT-Instance><File TOI=\"1\" Content-Location=\"x\"/></FDT-Instance>");
    bench.feed_at(Some(WALL), &fdt);
    for (ms, files) in [(3_600_000, 1), (3_601_000, 0)] {
        bench.receiver.handle_timeout(bench.now, Some(WALL.plus_ms(ms)));
        assert_eq!(bench.receiver.table().len(), files, "{ms}");
    }
}

#[test]
fn an_object_of_another_description_is_received_again_although_its_bytes_are_held() {
    let oti = Oti::no_code(4, 4, 1);
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"4\"")));
    bench.feed(&by_hand(1, Some(&oti), 0, 0, b"0123", |_| {}));
    assert_eq!(bench.whole().len(), 1);
    bench.feed(&fdt_by_hand(2, &describe(1, "y", "Content-Length=\"4\"")));
    bench.feed(&by_hand(1, Some(&oti), 0, 0, b"4567", |_| {}));
    assert_eq!(bench.whole(), [("y".to_owned(), b"4567".to_vec())]);
}

#[test]
fn an_object_in_flight_of_another_description_is_given_up_and_told() {
    let oti = Oti::no_code(8, 4, 2);
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"8\"")));
    bench.feed(&by_hand(1, Some(&oti), 0, 0, b"0123", |_| {}));
    bench.events();
    bench.feed(&fdt_by_hand(2, &describe(1, "y", "Content-Length=\"8\"")));
    let events = bench.events();
    let replaced =
        events.iter().filter(|event| matches!(event, Event::Replaced { toi: Toi(1), file: Some(_), .. }));
    assert_eq!(replaced.count(), 1, "{events:?}");
    assert_eq!(bench.receiver.in_flight().count(), 0);
}

#[test]
fn instances_and_tois_that_left_the_carousel_are_forgotten() {
    let seconds = UNDATED_EXPIRY.as_secs();
    let mut bench = Bench::new();
    bench.feed_at(None, &fdt_by_hand(1, &describe(1, "x", "Content-Length=\"4\"")));
    bench.feed_at(None, &by_hand(1, Some(&Oti::no_code(4, 4, 1)), 0, 0, b"0123", |_| {}));
    assert_eq!(bench.whole().len(), 1);
    assert!(bench.receiver.done.get(Toi(1)).is_some() && bench.receiver.assembler.heard(1).is_some());
    bench.pass(seconds - 60, |_| None);
    assert!(bench.receiver.done.get(Toi(1)).is_some() && bench.receiver.assembler.heard(1).is_some());
    bench.pass(200, |_| None);
    assert!(bench.receiver.done.get(Toi(1)).is_none() && bench.receiver.assembler.heard(1).is_none());
}

#[test]
fn a_packet_that_contradicts_its_description_yields_to_one_that_does_not() {
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"8\"")));
    let (lie, oti) = (Oti::no_code(12, 4, 3), Oti::no_code(8, 4, 2));
    bench.feed(&by_hand(1, Some(&lie), 0, 0, b"zzzz", |_| {}));
    assert_eq!(bench.feed(&by_hand(1, Some(&oti), 0, 0, b"abcd", |_| {})), Verdict::Stored);
    let changed = Verdict::Dropped(DropReason::OtiChanged);
    assert_eq!(bench.feed(&by_hand(1, Some(&lie), 0, 1, b"zzzz", |_| {})), changed);
    bench.feed(&by_hand(1, Some(&oti), 0, 1, b"efgh", |_| {}));
    let events = bench.events();
    assert!(events.iter().any(|it| matches!(it, Event::Replaced { .. })));
    assert!(events.iter().any(|it| matches!(it, Event::Complete { buf, .. } if buf == b"abcdefgh")));
}

#[test]
fn packets_that_are_dropped_keep_no_object_in_flight() {
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "")));
    bench.feed(&by_hand(1, Some(&Oti::no_code(8, 4, 2)), 0, 0, b"abcd", |_| {}));
    let first = bench.receiver.object(Toi(1)).unwrap().last_packet();
    for _ in 0..5 {
        bench.pass(1, |_| None);
        bench.feed(&by_hand(1, Some(&Oti::no_code(12, 4, 3)), 0, 1, b"zzzz", |_| {}));
        bench.feed(&by_hand(1, Some(&Oti::no_code(8, 4, 2)), 7, 0, b"zzzz", |_| {}));
    }
    let object = bench.receiver.object(Toi(1)).unwrap();
    assert!(object.is_stalled() && object.last_packet() == first);
    bench.feed(&by_hand(1, Some(&Oti::no_code(8, 4, 2)), 0, 0, b"abcd", |_| {}));
    assert!(!bench.receiver.object(Toi(1)).unwrap().is_stalled(), "a repeat of its own");
}
