use super::*;
use carousel::Digest;
use carousel::alc::Packet;
use carousel::flute::{Event, MemoryStorage, Receiver, ReceiverConfig, verify};
use carousel::time::Instant;

const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);

const CONFIG: AirConfig = AirConfig {
    sealer: None,
    rate_bps: 8_000_000,
    fdt_interval_ms: 100,
    cycle_ms: None,
    reserved_bps: 0,
    share_bps: 0,
    reserved_by_service_bps: Vec::new(),
    drops_late: false,
    first_toi: 1,
    once: false,
    lead_ms: 0,
};

fn object(uri: &str, length: usize, max_period_ms: Option<u64>) -> AirObject {
    let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + uri.len()) as u8).collect();
    let repeat = max_period_ms.map_or(Repeat::Scheduled { popularity: 1.0 }, |ms| Repeat::Within { ms });
    AirObject::of_bytes(uri, &bytes, repeat)
}

/// Runs the air at 8 Mbit/s until it ends or `seconds` have passed; returns names in order of completion.
fn receive(air: &mut Air, seconds: u64) -> (Vec<String>, bool) {
    let mut receiver = Receiver::new(ReceiverConfig::default());
    let (mut names, mut closed, mut now_ns) = (Vec::new(), false, 0);
    let mut out = Vec::new();
    while now_ns < seconds * 1_000_000_000 {
        let Some(_) = air.next_packet(now_ns, WALL, &mut out) else {
            match air.next_due_ns() {
                Some(due) => now_ns = now_ns.max(due) + 1,
                None => break,
            }
            continue;
        };
        now_ns += (out.len() + IP_UDP_BYTES) as u64 * 1000;
        let packet = Packet::parse(&out).unwrap();
        receiver.handle_packet(Instant::from_nanos(now_ns), Some(WALL), &packet, &out, &mut MemoryStorage);
        while let Some(event) = receiver.poll_event() {
            match event {
                Event::Complete { file, buf, .. } => {
                    verify(&file, &buf.bytes).unwrap();
                    names.push(file.content_location.clone());
                }
                Event::SessionClosed => closed = true,
                _ => {}
            }
        }
    }
    (names, closed)
}

fn air(once: bool) -> Air {
    let mut air = Air::new(AirConfig { once, ..CONFIG });
    air.open_session("239.1.1.1:5000".parse().unwrap(), Tsi(1), SenderProfile::default());
    air
}

#[test]
fn once_sends_everything_in_order_and_closes() {
    let mut air = air(true);
    for at in 0..20 {
        air.add(0, object(&format!("o{at}"), at * 3000, None)).unwrap();
    }
    let (names, closed) = receive(&mut air, 60);
    assert_eq!(names.len(), 20);
    assert!(closed);
    assert_eq!(air.stats().objects_sent, 20);
}

#[test]
fn a_cycle_ends_behind_the_last_byte_of_signalling() {
    let mut air = air(false);
    air.add(0, object("long.mpd", 300_000, Some(1000))).unwrap();
    let (mut receiver, mut out) = (Receiver::new(ReceiverConfig::default()), Vec::new());
    let (mut now_ns, mut is_complete) = (0, false);
    while !air.cycle_done() {
        if air.next_packet(now_ns, WALL, &mut out).is_some() {
            now_ns += (out.len() + IP_UDP_BYTES) as u64 * 1000;
            let packet = Packet::parse(&out).unwrap();
            receiver.handle_packet(
                Instant::from_nanos(now_ns),
                Some(WALL),
                &packet,
                &out,
                &mut MemoryStorage,
            );
        } else {
            now_ns = now_ns.max(air.next_due_ns().unwrap()) + 1;
        }
        while let Some(event) = receiver.poll_event() {
            is_complete |= matches!(event, Event::Complete { .. });
        }
    }
    assert!(is_complete);
}

#[test]
fn what_has_a_hard_period_is_repeated_within_it() {
    let mut air = air(false);
    air.add(0, object("manifest", 2000, Some(200))).unwrap();
    air.add(0, object("big", 5_000_000, None)).unwrap();
    let (mut out, mut now_ns, mut starts) = (Vec::new(), 0, Vec::new());
    while now_ns < 3_000_000_000 {
        air.next_packet(now_ns, WALL, &mut out).unwrap();
        let packet = Packet::parse(&out).unwrap();
        if packet.lct.toi == Some(Toi(1)) && packet.body.get(..4) == Some(&[0, 0, 0, 0]) {
            starts.push(now_ns);
        }
        now_ns += (out.len() + IP_UDP_BYTES) as u64 * 1000;
    }
    assert!(starts.len() >= 14, "{} starts", starts.len());
    // A period can slip by the few packets that are due at the same moment.
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] < 215_000_000), "{starts:?}");
}

#[test]
fn withdrawn_objects_stop_at_once_and_new_ones_go_first() {
    let mut air = air(false);
    let old = air.add(0, object("old", 4_000_000, None)).unwrap();
    let mut out = Vec::new();
    for step in 0..100 {
        air.next_packet(step, WALL, &mut out).unwrap();
    }
    air.withdraw(old);
    air.add(0, object("new", 3000, None)).unwrap();
    let (names, _) = receive(&mut air, 1);
    assert_eq!(names[0], "new");
    assert!(names.iter().all(|name| name == "new"));
}

#[test]
fn a_file_that_changed_leaves_the_air_instead_of_mixing_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seg.m4s");
    std::fs::write(&path, vec![1; 10_000]).unwrap();
    let (body, _) = Body::file(&path).unwrap();
    let mut air = air(false);
    let digest = Digest::of(&[1; 10_000]);
    let object =
        AirObject { digest, md5: carousel::digest::md5(&[1; 10_000]), body, ..object("seg", 0, None) };
    air.add(0, object).unwrap();
    std::fs::write(&path, vec![2; 9_000]).unwrap();
    let (names, _) = receive(&mut air, 1);
    assert!(names.is_empty());
    assert_eq!(air.stats().objects_broken_off, 1);
    assert_eq!(air.objects().count(), 0);
}

#[test]
fn a_single_pass_repeats_what_shows_the_way_before_the_media_begin() {
    let mut air = Air::new(AirConfig { once: true, lead_ms: 500, ..CONFIG });
    let session = air.open_session("239.1.1.1:5000".parse().unwrap(), Tsi(1), SenderProfile::default());
    let way = air.add(session, object("way", 2000, Some(100))).unwrap();
    let media = air.add(session, object("media", 2000, None)).unwrap();
    let (mut now, mut out) = (0, Vec::new());
    while !air.is_over() && now < 10_000_000_000 {
        match air.next_packet(now, WALL, &mut out) {
            Some(_) => now += 1_000_000,
            None => now = air.next_due_ns().unwrap().max(now + 1),
        }
        assert!(now >= 500_000_000 || air.items[&media].starts == 0, "media at {now}");
    }
    assert!(air.is_over());
    assert_eq!((air.items[&way].starts, air.items[&media].starts), (6, 1), "and once more beside them");
}

#[test]
fn live_goes_out_at_its_reserved_rate_while_the_carousel_gets_the_rest() {
    let mut air = Air::new(AirConfig { reserved_bps: 2_000_000, ..CONFIG });
    air.open_session("239.1.1.1:5000".parse().unwrap(), Tsi(1), SenderProfile::default());
    air.add(0, object("film", 4_000_000, None)).unwrap();
    let segment = |name: &str| AirObject {
        repeat: Repeat::Live(LiveTiming::of(0, None)),
        ..object(name, 500_000, None)
    };
    air.add(0, segment("live1")).unwrap();
    let (mut out, mut now_ns, mut bytes) = (Vec::new(), 0, [0_usize; 3]);
    let mut last_ns = [0_u64; 3];
    while now_ns < 10_000_000_000 {
        if air.next_packet(now_ns, WALL, &mut out).is_some() {
            let toi = Packet::parse(&out).unwrap().lct.toi.unwrap().0 as usize;
            bytes[toi.min(2)] += out.len();
            last_ns[toi.min(2)] = now_ns;
        }
        now_ns += (out.len() + IP_UDP_BYTES) as u64 * 1000;
    }
    // 500 kB at 2 Mbit/s, of which a half second is saved up, is two seconds; it is sent once.
    assert!((500_000..540_000).contains(&bytes[2]), "{bytes:?}");
    assert!((1_000_000_000..2_000_000_000).contains(&last_ns[2]), "{last_ns:?}");
    assert!(bytes[1] > 8_000_000, "{bytes:?}");
    let (film, _) = (1, air.stats());
    assert!(air.has(film));
}

/// Packets in order, each with its time, TOI and whether it describes objects; the link is never idle.
fn packets(air: &mut Air, seconds: u64) -> Vec<(u64, Option<u128>, Vec<u8>)> {
    let (mut now_ns, mut out, mut sent) = (0, Vec::new(), Vec::new());
    while now_ns < seconds * 1_000_000_000 {
        match air.next_packet(now_ns, WALL, &mut out) {
            Some(_) => {
                sent.push((now_ns, Packet::parse(&out).unwrap().lct.toi.map(|toi| toi.0), out.clone()));
                now_ns += (out.len() + IP_UDP_BYTES) as u64 * 1000;
            }
            None => match air.next_due_ns() {
                Some(due_ns) => now_ns = now_ns.max(due_ns) + 1,
                None => break,
            },
        }
    }
    sent
}

fn protected(name: &str, length: usize) -> AirObject {
    let protection = Protection {
        id: carousel::fec::EncodingId::RS_GF28,
        symbol_length: 0,
        overhead: 0.1,
        least_repair: 2,
        burst_packets: 0,
        block_bytes: 100_000,
    };
    AirObject { protection, ..object(name, length, None) }
}

#[test]
fn repeating_the_fdt_takes_no_more_than_a_twentieth_of_the_link() {
    let mut air = Air::new(AirConfig { fdt_interval_ms: 10, ..CONFIG });
    air.open_session("239.1.1.1:5000".parse().unwrap(), Tsi(1), SenderProfile::default());
    for at in 0..300 {
        air.add(0, object(&format!("https://cdn.example.com/{at}.m4s"), 20_000, None)).unwrap();
    }
    let sent = packets(&mut air, 20);
    let fdt = |from_s: u64| -> usize {
        let later = sent.iter().filter(|(at, toi, _)| *at >= from_s * 1_000_000_000 && *toi == Some(0));
        later.map(|(.., bytes)| bytes.len()).sum()
    };
    // Once at the start, then in turns. 18 s at 8 Mbit/s are 18 MB, of which a twentieth are 900 kB.
    let repeated = fdt(2);
    assert!((700_000..=910_000).contains(&repeated), "{repeated}");
    let (_, taken) = air.planned(WALL);
    assert!((0.04..=0.05).contains(&(taken.fdt_bps / 8e6)), "{}", taken.fdt_bps);
}

#[test]
fn no_packet_of_an_object_comes_before_its_description() {
    let mut air = Air::new(AirConfig { fdt_interval_ms: 100, ..CONFIG });
    let profile = SenderProfile { fdt_page_bytes: 1000, fti_everywhere: false, ..SenderProfile::default() };
    air.open_session("239.1.1.1:5000".parse().unwrap(), Tsi(1), profile);
    for at in 0..50 {
        let period = (at % 5 == 0).then_some(300);
        air.add(0, object(&format!("o{at}"), 10_000, period)).unwrap();
    }
    let mut receiver = Receiver::new(ReceiverConfig::default());
    for (now_ns, _, bytes) in packets(&mut air, 3) {
        let packet = Packet::parse(&bytes).unwrap();
        receiver.handle_packet(Instant::from_nanos(now_ns), Some(WALL), &packet, &bytes, &mut MemoryStorage);
        while receiver.poll_event().is_some() {}
    }
    assert_eq!(receiver.stats().early, 0);
    assert_eq!(receiver.table().len(), 50);
}

#[test]
fn protected_objects_are_sent_in_waves_and_others_one_after_the_other() {
    let order = |objects: [AirObject; 3]| {
        let mut air = air(true);
        for object in objects {
            air.add(0, object).unwrap();
        }
        let tois = packets(&mut air, 5).into_iter().filter_map(|(_, toi, _)| toi.filter(|toi| *toi > 0));
        let tois: Vec<u128> = tois.collect();
        (tois.windows(2).filter(|pair| pair[0] != pair[1]).count(), tois)
    };
    let (changes, plain) = order(["a", "b", "c"].map(|name| object(name, 140_000, None)));
    assert_eq!((changes, plain.len()), (2, 300), "100 packets each");
    let (changes, wave) =
        order([("a", 140_000), ("b", 140_000), ("c", 70_000)].map(|(name, bytes)| protected(name, bytes)));
    assert!(changes > 200, "{changes} of {}", wave.len());
    // All come to their ends together: the short one takes fewer turns.
    let last = |toi: u128| wave.iter().rposition(|it| *it == toi).unwrap();
    assert!([1, 2, 3].iter().all(|toi| wave.len() - last(*toi) <= 4), "{wave:?}");
}

#[test]
fn an_object_is_pending_until_its_last_packet() {
    let mut air = air(false);
    let id = air.add(0, object("a", 14_000, None)).unwrap();
    let mut out = Vec::new();
    let (mut sent, mut now_ns) = (0, 0);
    while air.is_pending(id) {
        assert_eq!(air.stats().objects_sent, 0);
        air.next_packet(now_ns, WALL, &mut out).unwrap();
        now_ns += 1_000_000;
        sent += u32::from(Packet::parse(&out).unwrap().lct.toi == Some(Toi(1)));
        assert_eq!(air.started(), usize::from(sent > 0));
    }
    assert_eq!((sent, air.stats().objects_sent), (10, 1));
    air.withdraw(id);
    assert!(!air.is_pending(id) && !air.has(id) && air.object(id).is_none());
}

#[test]
fn a_carousel_that_is_closed_sends_five_rounds_of_close_flags_and_is_over() {
    let mut air = air(false);
    air.open_session("239.1.1.2:5000".parse().unwrap(), Tsi(2), SenderProfile::default());
    air.add(0, object("a", 100_000, None)).unwrap();
    let mut out = Vec::new();
    for at in 0..20 {
        air.next_packet(at * 1_000_000, WALL, &mut out).unwrap();
    }
    air.close();
    assert!(!air.is_over());
    let sent = packets(&mut air, 10);
    let closes: Vec<u64> = sent
        .iter()
        .filter(|(.., bytes)| Packet::parse(bytes).unwrap().lct.close_session)
        .map(|(at, ..)| *at)
        .collect();
    assert_eq!((sent.len(), closes.len()), (10, 10), "five rounds of two sessions");
    // A round is farther from the next than the bursts in which links lose.
    assert!(
        closes.chunks(2).zip(closes.chunks(2).skip(1)).all(|(a, b)| b[0] - a[0] >= 100_000_000),
        "{closes:?}"
    );
    assert!(air.is_over() && air.next_due_ns().is_none());
    assert!(air.next_packet(20_000_000_000, WALL, &mut out).is_none());
}

#[test]
fn a_single_pass_describes_everything_three_times_more_before_it_closes() {
    let mut air = air(true);
    air.add(0, object("a", 14_000, None)).unwrap();
    let sent = packets(&mut air, 10);
    let last = sent.iter().rposition(|(_, toi, _)| *toi == Some(1)).unwrap();
    assert!(Packet::parse(&sent[last].2).unwrap().lct.close_object, "the B flag on the last packet");
    let kinds: Vec<&str> = sent[last + 1..]
        .iter()
        .map(|(.., bytes)| if Packet::parse(bytes).unwrap().lct.close_session { "close" } else { "fdt" })
        .collect();
    assert_eq!(kinds, ["fdt", "fdt", "fdt", "close", "close", "close", "close", "close"]);
}

#[test]
fn signalling_goes_before_live_and_live_keeps_its_order() {
    let mut air = Air::new(AirConfig { reserved_bps: 8_000_000, ..CONFIG });
    air.open_session("239.1.1.1:5000".parse().unwrap(), Tsi(1), SenderProfile::default());
    let live = |name: &str| AirObject {
        repeat: Repeat::Live(LiveTiming::of(0, None)),
        ..object(name, 14_000, None)
    };
    air.add(0, live("one")).unwrap();
    air.add(0, object("film", 14_000, None)).unwrap();
    air.add(0, live("two")).unwrap();
    air.add(0, object("manifest", 2_000, Some(10_000))).unwrap();
    let (names, _) = receive(&mut air, 1);
    assert_eq!(names[..3], ["manifest", "one", "two"], "{names:?}");
    assert!(names[3..].iter().all(|name| name == "film"), "{names:?}");
    let (planned, taken) = air.planned(WALL);
    let planned: Vec<&str> = planned.iter().map(|it| it.uri.as_str()).collect();
    assert_eq!((planned, taken.live_bps), (vec!["film", "manifest"], 8_000_000));
}

#[test]
fn objects_are_taken_off_the_air_wherever_they_wait() {
    let mut air = Air::new(AirConfig { reserved_bps: 2_000_000, ..CONFIG });
    air.open_session("239.1.1.1:5000".parse().unwrap(), Tsi(1), SenderProfile::default());
    let live = |name: &str| AirObject {
        repeat: Repeat::Live(LiveTiming::of(0, None)),
        ..object(name, 1_000_000, None)
    };
    let first = [
        air.add(0, live("live")).unwrap(),
        air.add(0, protected("wave1", 300_000)).unwrap(),
        air.add(0, protected("wave2", 300_000)).unwrap(),
        air.add(0, object("manifest", 20_000, Some(100))).unwrap(),
    ];
    let before = packets(&mut air, 1);
    let sent: BTreeSet<_> = before.iter().filter_map(|(_, toi, _)| *toi).collect();
    assert!(sent.len() >= 3, "{sent:?}");
    let others = [
        air.add(0, live("live2")).unwrap(),
        air.add(0, object("fresh", 1000, None)).unwrap(),
        air.add(0, object("signalling", 1000, Some(100))).unwrap(),
    ];
    let generation = air.generation();
    for id in first.into_iter().chain(others) {
        air.withdraw(id);
    }
    air.withdraw(first[0]);
    assert_eq!(air.generation(), generation + 7, "once each");
    let after = packets(&mut air, 3);
    assert!(after.iter().all(|(_, toi, _)| *toi == Some(0)), "nothing is left but the FDT");
    assert!(air.cycle_done() && air.objects().count() == 0);
}

#[test]
fn a_wave_of_very_small_objects_has_a_bounded_number_of_files_open() {
    let mut air = Air::new(AirConfig { rate_bps: 100_000_000, once: true, ..CONFIG });
    air.open_session("239.1.1.1:5000".parse().unwrap(), Tsi(1), SenderProfile::default());
    for at in 0..MAX_WAVE + 50 {
        air.add(0, protected(&at.to_string(), 3000)).unwrap();
    }
    let (mut out, mut longest, mut now_ns) = (Vec::new(), 0, 0);
    while !air.is_over() {
        match air.next_packet(now_ns, WALL, &mut out) {
            Some(_) => now_ns += 100_000,
            None => now_ns = air.next_due_ns().unwrap().max(now_ns + 1),
        }
        longest = longest.max(air.wave.len());
    }
    assert!((MAX_WAVE - 1..=MAX_WAVE).contains(&longest), "{longest}");
    assert_eq!(air.stats().objects_sent, MAX_WAVE as u64 + 50, "the others in the next wave");
}

/// The packets of an air until it has nothing to say for a second.
fn departures(air: &mut Air) -> Vec<(PacketDestination, Vec<u8>)> {
    let (mut out, mut now_ns, mut all) = (Vec::new(), 0, Vec::new());
    while now_ns < 4_000_000_000 {
        match air.next_packet(now_ns, WALL, &mut out) {
            Some(departure) => {
                all.push((departure, out.clone()));
                now_ns += (out.len() + IP_UDP_BYTES) as u64 * 1000;
            }
            None => now_ns = now_ns.max(air.next_due_ns().unwrap_or(now_ns)) + 1_000_000,
        }
    }
    all
}

#[test]
fn live_objects_go_out_by_route_and_come_whole_over_a_lossy_link() {
    use carousel::route;

    let address = "239.1.1.1:5000".parse().unwrap();
    let mut air = Air::new(AirConfig {
        rate_bps: 8_000_000,
        fdt_interval_ms: 500,
        reserved_bps: 6_000_000,
        first_toi: 7,
        ..AirConfig::default()
    });
    let sessions = [10, 20].map(|tsi| air.open_route_session(address, Tsi(tsi), SenderProfile::default()));
    let raptorq = Protection {
        id: carousel::fec::EncodingId::RAPTORQ,
        symbol_length: 0,
        overhead: 0.3,
        least_repair: 4,
        burst_packets: 0,
        block_bytes: 1 << 20,
    };
    // Lengths around whole symbols: padding and length behind the object take a symbol of their own, or none.
    let symbol = usize::from(SenderProfile::default().symbol_length);
    let lengths = [100_000, 50 * symbol, 50 * symbol - 3, 50 * symbol - 4, 1];
    let mut expected = BTreeMap::new();
    for (at, length) in lengths.into_iter().enumerate() {
        for (session, tsi) in sessions.into_iter().zip([10, 20]) {
            let body: Vec<u8> = (0..length).map(|byte| (byte * 31 % 251 + at) as u8).collect();
            let mut object = object(&format!("http://h/{tsi}/{at}.m4s"), 0, None);
            (object.digest, object.body) = (Digest::of(&body), Body::Memory(body.clone().into()));
            (object.repeat, object.protection) = (Repeat::Live(LiveTiming::of(0, None)), raptorq);
            expected.insert(object.uri.clone(), body);
            air.add(session, object).unwrap();
        }
    }
    let packets = departures(&mut air);
    assert!(packets.iter().all(|(departure, _)| departure.destination == address));
    let mut receiver = route::Receiver::new(route::ReceiverConfig::default(), address);
    let mut got = BTreeMap::new();
    let mut lost = 0;
    for (at, (_, bytes)) in packets.iter().enumerate() {
        let packet = Packet::parse(bytes).unwrap();
        // Bursts of two in ten; the signalling is repeated.
        if at % 10 < 2 && packet.lct.tsi != Some(Tsi(route::SIGNALLING_TSI)) {
            lost += 1;
            continue;
        }
        let now = Instant::from_nanos(at as u64);
        receiver.handle_packet(now, &packet, bytes.len());
        while let Some(event) = receiver.poll_event() {
            match event {
                route::Event::Complete { file, bytes, .. } => {
                    got.insert(file.content_location.clone(), bytes);
                }
                route::Event::BlockReady { tsi, toi, block } => {
                    let lost = receiver.repair_job(tsi, toi, block).and_then(route::RepairJob::run);
                    receiver.repaired(tsi, toi, block, lost.as_deref());
                }
                _ => {}
            }
        }
    }
    assert!(lost > 50 && receiver.stats().recovered_bytes > 0, "{lost}");
    assert!(got == expected, "{} of {}", got.len(), expected.len());
    assert_eq!(air.stats().objects_sent, 10);
    air.close();
    let mut closed = 0;
    for (_, bytes) in departures(&mut air) {
        closed += usize::from(Packet::parse(&bytes).unwrap().lct.close_session);
    }
    assert_eq!(closed, 10, "five rounds of two sessions");
}

/// Bytes that a session sends in `seconds`, headers included, with or without a carousel beside it.
fn share_of(seconds: u64, with_media: bool) -> (u64, u64) {
    let mut air = Air::new(AirConfig { share_bps: 2_000_000, fdt_interval_ms: 1000, ..CONFIG });
    let media: SocketAddr = "239.1.1.1:5000".parse().unwrap();
    let bundles: SocketAddr = "239.1.1.2:5000".parse().unwrap();
    let session = air.open_session(bundles, Tsi(100), SenderProfile::default());
    for (name, length) in [("a", 300_000), ("b", 500_000)] {
        air.add(session, AirObject { repeat: Repeat::Share, ..object(name, length, None) }).unwrap();
    }
    if with_media {
        let session = air.open_session(media, Tsi(1), SenderProfile::default());
        air.add(session, object("film", 5_000_000, None)).unwrap();
    }
    let (mut out, mut now_ns, mut bytes, mut all) = (Vec::new(), 0, 0, 0);
    while now_ns < seconds * 1_000_000_000 {
        match air.next_packet(now_ns, WALL, &mut out) {
            Some(departure) => {
                let length = (out.len() + IP_UDP_BYTES) as u64;
                now_ns += length * 1000;
                all += length;
                bytes += length * u64::from(departure.destination == bundles);
            }
            None => now_ns = now_ns.max(air.next_due_ns().unwrap()) + 1,
        }
    }
    (bytes, all)
}

#[test]
fn firmware_has_its_rate_whatever_else_there_is_and_never_more() {
    let expected = 2_000_000 / 8 * 20;
    let (bytes, all) = share_of(20, true);
    assert!(bytes.abs_diff(expected) < expected / 20, "{bytes} of {expected}");
    assert!(all > 19_900_000, "the carousel has the rest: {all}");
    let (bytes, all) = share_of(20, false);
    assert!(
        bytes.abs_diff(expected) < expected / 20 && all < expected * 11 / 10,
        "{bytes}, {all} of {expected}"
    );
}

#[test]
fn bundles_take_turns_and_one_that_is_withdrawn_is_sent_no_more() {
    let mut air = Air::new(AirConfig { share_bps: 4_000_000, ..CONFIG });
    air.open_session("239.1.1.1:5000".parse().unwrap(), Tsi(1), SenderProfile::default());
    let add = |air: &mut Air, name: &str| {
        air.add(0, AirObject { repeat: Repeat::Share, ..object(name, 100_000, None) }).unwrap()
    };
    let first = add(&mut air, "a");
    add(&mut air, "b");
    let (mut out, mut now_ns) = (Vec::new(), 0);
    let mut turn = |air: &mut Air, until_sent: u64| {
        while air.stats().objects_sent < until_sent {
            match air.next_packet(now_ns, WALL, &mut out) {
                Some(_) => now_ns += (out.len() + IP_UDP_BYTES) as u64 * 1000,
                None => now_ns = now_ns.max(air.next_due_ns().unwrap()) + 1,
            }
        }
        air.items.values().map(|it| (it.object.uri.clone(), it.completed)).collect::<Vec<_>>()
    };
    let completed = |a, b| vec![("a".to_owned(), a), ("b".to_owned(), b)];
    assert_eq!(turn(&mut air, 4), completed(2, 2));
    air.withdraw(first);
    assert_eq!(turn(&mut air, 6), [("b".to_owned(), 4)]);
}
