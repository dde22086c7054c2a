//! Signed, unsigned and forged FDT Instances of one session.

use super::*;
use crate::flute::FdtInstance;
use crate::trust::tests::{ROOT, SEALER};
use crate::trust::{HeadScan, Mode, Policy, Trust, TrustDrop};

fn bench(mode: Mode) -> (Bench, Arc<Trust>) {
    let policy = Policy { mode, keys: vec![ROOT.public()], ..Policy::default() };
    let trust = Arc::new(Trust::new(policy));
    (with_trust(Arc::clone(&trust), mode), trust)
}

fn with_trust(trust: Arc<Trust>, mode: Mode) -> Bench {
    of_sender(trust, mode, 0)
}

fn of_sender(trust: Arc<Trust>, mode: Mode, sender: u64) -> Bench {
    let trust = Some(SessionTrust { trust, mode, service: Arc::from(""), sender });
    let config = ReceiverConfig { trust, ..ReceiverConfig::default() };
    Bench { receiver: Receiver::new(config), ..Bench::new() }
}

fn signed(profile: SenderProfile, first_toi: u32) -> Sender {
    let mut sender = Sender::new(Tsi(7), profile, first_toi, 99);
    sender.sign_with(SEALER.clone(), "tag:a".to_owned(), "239.1.1.1:5000/7".to_owned());
    sender
}

fn with_object(mut sender: Sender, name: &str, bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let toi = sender.add(SendFile::of(name, bytes)).unwrap();
    (fdt_packets(&mut sender), object_packets(&sender, toi, bytes))
}

#[test]
fn nothing_is_opened_for_what_nobody_has_signed() {
    let (mut bench, trust) = bench(Mode::Require);
    let (fdt, data) =
        with_object(Sender::new(Tsi(7), SenderProfile::default(), 5, 98), "http://h/x", &body(1, 5000));
    bench.feed_all(&data);
    bench.feed_all(&fdt);
    bench.feed_all(&data);
    assert!(bench.storage.opened.is_empty() && bench.events().is_empty());
    assert_eq!(bench.drops(DropReason::FdtUntrusted), 1);
    assert_eq!(trust.report().refused[TrustDrop::Unsigned as usize], 1);
    // The honest session uses the same TOI; early packets of both are distinguished by the digest.
    let bytes = body(2, 5000);
    let (fdt, data) = with_object(signed(SenderProfile::default(), 5), "http://h/x", &bytes);
    let (mut bench, _) = self::bench(Mode::Require);
    bench.feed_all(&data[..2]);
    assert!(bench.storage.opened.is_empty());
    bench.feed_all(&fdt);
    bench.feed_all(&data[2..]);
    assert_eq!(bench.whole(), [("http://h/x".to_owned(), bytes)]);
    let by = bench.receiver.table().get(Toi(5)).unwrap().signed_by.clone().unwrap();
    assert_eq!((by.root, by.service.as_str()), (ROOT.public().id(), "tag:a"));
}

#[test]
fn every_form_of_an_instance_can_be_signed() {
    let gzip = SenderProfile { fdt_gzip: true, ..SenderProfile::default() };
    let pages = SenderProfile { fdt_page_bytes: 1000, ..SenderProfile::default() };
    let strict = SenderProfile { namespace: crate::flute::FdtNamespace::Rfc6726, ..SenderProfile::default() };
    for (profile, least_pages) in [(SenderProfile::default(), 1), (gzip, 1), (pages, 5), (strict, 1)] {
        let (mut bench, trust) = bench(Mode::Require);
        let mut sender = signed(profile, 1);
        for number in 0..20 {
            sender.add(SendFile::of(format!("http://h/{number}"), b"x")).unwrap();
        }
        let first = fdt_packets(&mut sender);
        assert!(sender.fdt_pages() >= least_pages);
        bench.feed_all(&first);
        assert_eq!((bench.receiver.table().len(), bench.drops(DropReason::FdtUntrusted)), (20, 0));
        // Each page with its next version; the ones before are replays.
        sender.set_complete();
        let second = fdt_packets(&mut sender);
        bench.feed_all(&second);
        // A recording of the first ones, from an address of its own.
        let mut replay = with_trust(Arc::clone(&trust), Mode::Require);
        replay.feed_all(&first);
        assert_eq!(replay.drops(DropReason::FdtUntrusted), sender.fdt_pages() as u64);
        assert!(replay.receiver.table().is_empty());
        let report = trust.report();
        assert_eq!(report.refused[TrustDrop::Replayed as usize], sender.fdt_pages() as u64);
        assert_eq!(report.accepted, 2 * sender.fdt_pages() as u64);
    }
}

#[test]
fn an_instance_of_one_packet_stays_one_packet_with_its_signature() {
    let profile = SenderProfile::default();
    let mut sender = signed(profile, 1);
    for number in 0..100 {
        sender.add(SendFile::of(format!("http://h/{number}"), b"x")).unwrap();
    }
    sender.refresh_fdt(WALL).unwrap();
    assert!((0..sender.fdt_pages()).all(|page| sender.fdt_packets(page) == 1));
}

#[test]
fn where_signed_ones_are_preferred_unsigned_ones_count_until_the_first_of_them() {
    let (mut bench, _) = bench(Mode::Prefer);
    let unsigned = |first_toi| Sender::new(Tsi(7), SenderProfile::default(), first_toi, 98);
    let (fdt, _) = with_object(unsigned(5), "http://h/early", b"x");
    bench.feed_all(&fdt);
    assert!(bench.receiver.table().get(Toi(5)).unwrap().signed_by.is_none());
    let (fdt, _) = with_object(signed(SenderProfile::default(), 6), "http://h/signed", b"y");
    bench.feed_all(&fdt);
    assert!(bench.receiver.table().get(Toi(6)).unwrap().signed_by.is_some());
    let (fdt, _) = with_object(unsigned(6), "http://h/forged", b"z");
    bench.feed_all(&fdt);
    assert_eq!(bench.receiver.table().get(Toi(6)).unwrap().content_location, "http://h/signed");
    assert_eq!(bench.drops(DropReason::FdtUntrusted), 1);
}

#[test]
fn an_instance_that_was_refused_is_looked_at_again_when_its_key_is_trusted() {
    let (mut bench, trust) = bench(Mode::Require);
    trust.configure(Policy { mode: Mode::Require, ..Policy::default() });
    let (fdt, _) = with_object(signed(SenderProfile::default(), 6), "http://h/signed", b"y");
    bench.feed_all(&fdt);
    assert!(bench.receiver.table().is_empty());
    trust.configure(Policy { mode: Mode::Require, keys: vec![ROOT.public()], ..Policy::default() });
    bench.feed_all(&fdt);
    assert_eq!(bench.receiver.table().len(), 1);
}

#[test]
fn an_object_without_its_digest_is_not_covered_by_a_signature() {
    use crate::trust::{BLANK, Edition, Kind, Stream};
    let now = WALL.unix_ms() as u64 / 1000;
    let edition = Edition { version: 1, floor: 1, page: 0, issued: now, until: now + 3600 };
    let stream = Stream { service: "tag:a".to_owned(), name: "s".to_owned(), tsi: 7 };
    let xml = format!(
        "<FDT-Instance Expires=\"{}\"{BLANK}><File TOI=\"1\" Content-Location=\"http://h/a\" Content-Length=\"3\" \
         Content-MD5=\"kAFQmDzST7DWlj99KOF/cg==\"/></FDT-Instance>",
        WALL.plus_ms(3_600_000).ntp_seconds()
    );
    let xml = SEALER.seal_xml(Kind::Fdt, &stream, &edition, &xml);
    for (mode, described) in [(Mode::Require, 0), (Mode::Prefer, 1)] {
        let (bench, trust) = bench(mode);
        let mut receiver = bench.receiver;
        let by = receiver
            .judge(Instant::default(), Some(WALL), Some(Tsi(7)), xml.as_bytes(), &HeadScan::default())
            .unwrap();
        let (mut instance, _) = FdtInstance::parse(xml.as_bytes()).unwrap();
        assert!(by.is_some() && instance.unknown.is_empty());
        receiver.mark_signed(&mut instance, by.as_ref());
        assert_eq!(instance.files.len(), described);
        assert!(instance.files.iter().all(|file| file.signed_by.is_none()));
        assert_eq!(trust.report().refused[TrustDrop::NoDigest as usize], 1);
    }
}

#[test]
fn what_was_recorded_while_it_was_new_is_not_received_when_it_is_old() {
    let (mut honest, trust) = bench(Mode::Require);
    let mut recorded = with_trust(Arc::clone(&trust), Mode::Require);
    let bytes = body(3, 5000);
    let mut sender = signed(SenderProfile::default(), 5);
    let toi = sender.add(SendFile::of("http://h/x", &bytes)).unwrap();
    let (fdt, data) = (fdt_packets(&mut sender), object_packets(&sender, toi, &bytes));
    // The copy gets as far as the last packet but one of an object, and knows of another.
    recorded.feed_all(&fdt);
    recorded.feed_all(&data[1..]);
    sender.withdraw(toi);
    let newer = body(4, 5000);
    let toi = sender.add(SendFile::of("http://h/x", &newer)).unwrap();
    let (fdt, newer_data) = (fdt_packets(&mut sender), object_packets(&sender, toi, &newer));
    honest.feed_all(&fdt);
    honest.feed_all(&newer_data);
    assert_eq!(honest.whole(), [("http://h/x".to_owned(), newer)]);
    recorded.feed_all(&data);
    let events = recorded.events();
    assert!(events.iter().all(|it| !matches!(it, Event::Complete { .. })), "{events:?}");
    assert!(events.iter().any(|it| matches!(it, Event::Replaced { .. })));
    recorded.now = recorded.now + Duration::from_secs(60);
    let opened = recorded.storage.opened.len();
    recorded.feed_all(&data);
    assert_eq!(recorded.storage.opened.len(), opened, "nothing is opened for it");
    assert!(recorded.drops(DropReason::Outdated) >= data.len() as u64);
}

/// The packet of an FDT Instance that is one symbol of gzip.
fn gzip_packet(instance_id: u32, xml: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(xml).unwrap();
    let bytes = gzip.finish().unwrap();
    let length = u16::try_from(bytes.len()).unwrap();
    let mut out = Vec::new();
    let mut writer = crate::bytes::Writer::new(&mut out);
    // As in the assembler's tests, with EXT_CENC.
    writer.u8(0x10).u8(0xa0).u8(4 + 1 + 1 + 4).u8(0).u32(0).u32(7).u32(0);
    writer.u32(192 << 24 | 2 << 20 | instance_id).u32(193 << 24 | 3 << 16);
    writer.u8(64).u8(4).u16(0).u32(u32::from(length)).u16(0).u16(length).u32(1);
    writer.u16(0).u16(0).bytes(&bytes);
    out
}

/// Half a megabyte of XML that shrinks to a thirtieth, behind what `head` says.
fn bomb(head: &str, number: u32) -> Vec<u8> {
    let files =
        (0..8_000).map(|at| format!("<File Content-Location=\"http://h/{number}/{at}\" TOI=\"{at}\"/>"));
    format!("{head}>{}</FDT-Instance>", files.collect::<String>()).into_bytes()
}

/// The text of a genuine instance, up to the end of its root element.
fn genuine_head() -> String {
    let mut bench = Bench::new();
    bench.feed_all(&with_object(signed(SenderProfile::default(), 1), "http://h/0", b"x").0);
    let xml = bench.events().into_iter().find_map(|event| match event {
        Event::Fdt { xml, .. } => Some(String::from_utf8(xml).unwrap()),
        _ => None,
    });
    let xml = xml.unwrap();
    let root = xml.find("<FDT-Instance").unwrap();
    xml[..root + xml[root..].find('>').unwrap()].to_owned()
}

#[test]
fn encoded_instances_without_a_seal_that_counts_are_not_inflated() {
    let (mut bench, trust) = bench(Mode::Require);
    let head = genuine_head();
    let cases = [
        ("<FDT-Instance Expires=\"1\"".to_owned(), TrustDrop::Unsigned),
        (" ".repeat(9_000), TrustDrop::Unsigned),
        ("<FDT-Instance sky:Signature=\"AAAA\"".to_owned(), TrustDrop::Malformed),
        (format!("<FDT-Instance sky:Signature=\"{}", "A".repeat(17_000)), TrustDrop::Malformed),
        (head.replace("sky:Signature=\"A", "sky:Signature=\"B"), TrustDrop::Malformed),
    ];
    for (number, (head, reason)) in (1..).zip(cases) {
        let before = trust.report().refused[reason as usize];
        // What follows the head is not gzip: it would be `fdt_encoding` if anything looked at it.
        let mut packet = gzip_packet(number, &bomb(&head, number));
        let end = packet.len();
        packet[end - 8..].fill(0);
        assert_eq!(bench.feed(&packet), Verdict::Dropped(DropReason::FdtUntrusted), "{number}");
        assert_eq!(trust.report().refused[reason as usize], before + 1, "{number}");
    }
    assert_eq!(bench.receiver.table().len(), 0);
}

#[test]
fn bombs_under_a_genuine_seal_exhaust_a_budget_that_refills() {
    let gzip = SenderProfile { fdt_gzip: true, ..SenderProfile::default() };
    let (mut attacker, trust) = bench(Mode::Require);
    let (mut honest, mut late) =
        (with_trust(Arc::clone(&trust), Mode::Require), with_trust(Arc::clone(&trust), Mode::Require));
    let mut sender = signed(gzip, 1);
    sender.add(SendFile::of("http://h/1", b"x")).unwrap();
    honest.feed_all(&fdt_packets(&mut sender));
    assert_eq!(honest.drops(DropReason::FdtUntrusted), 0);
    let head = genuine_head();
    let budget = |trust: &Trust| trust.report().refused[TrustDrop::Budget as usize];
    let mut bombs = 0;
    while budget(&trust) == 0 {
        bombs += 1;
        assert!(bombs < 40, "half a megabyte each");
        attacker.feed(&gzip_packet(bombs, &bomb(&head, bombs)));
    }
    assert!(bombs > 1);
    // A session that has brought nothing yet has to wait; one that has is heard.
    sender.add(SendFile::of("http://h/2", b"y")).unwrap();
    let next = fdt_packets(&mut sender);
    late.now = attacker.now;
    late.feed_all(&next);
    assert_eq!((late.drops(DropReason::FdtUntrusted), late.receiver.table().len()), (1, 0));
    honest.now = attacker.now;
    honest.feed_all(&next);
    assert_eq!((honest.drops(DropReason::FdtUntrusted), honest.receiver.table().len()), (0, 2));
    late.now = late.now + Duration::from_secs(8);
    late.feed_all(&next);
    assert_eq!(late.receiver.table().len(), 2, "the budget refills");
}

#[test]
fn a_session_that_repeats_descriptions_of_another_opens_few_objects_until_one_is_right() {
    let (mut bench, _) = bench(Mode::Require);
    let mut sender = signed(SenderProfile::default(), 1);
    let body = body(1, 5000);
    let tois: Vec<Toi> = (0..30)
        .map(|number| sender.add(SendFile::of(format!("http://h/{number}"), &body)).unwrap())
        .collect();
    bench.feed_all(&fdt_packets(&mut sender));
    let first = |toi: &Toi| object_packets(&sender, *toi, &body).swap_remove(0);
    for toi in &tois {
        bench.feed(&first(toi));
    }
    assert_eq!((bench.storage.opened.len(), bench.drops(DropReason::Unproven)), (16, 14));
    // A wrong one makes room for one more.
    let rest = object_packets(&sender, tois[0], &body);
    bench.feed_all(&rest[1..]);
    bench.receiver.reject(tois[0]);
    bench.feed(&first(&tois[20]));
    bench.feed(&first(&tois[21]));
    assert_eq!((bench.storage.opened.len(), bench.drops(DropReason::Unproven)), (17, 15));
    // Objects that stall, since more was lost than can be restored, keep nothing out that comes later.
    bench.now = bench.now + Duration::from_secs(60);
    bench.receiver.handle_timeout(bench.now, Some(WALL.plus_ms(60_000)));
    for toi in &tois[22..] {
        bench.feed(&first(toi));
    }
    assert_eq!((bench.storage.opened.len(), bench.drops(DropReason::Unproven)), (25, 15));
    // Signed descriptions of which an object was right are the sender's own.
    bench.receiver.brought(5000, true);
    for toi in &tois {
        bench.feed(&first(toi));
    }
    assert_eq!((bench.storage.opened.len(), bench.drops(DropReason::Unproven)), (39, 15));
}

/// Copies of a genuine seal, from three addresses and faster than is admitted, beside honest sessions that begin one after
/// the other: each is heard with its first instance, or with one of the next while its group of senders is that of a copy.
#[test]
fn copied_seals_keep_no_new_session_out() {
    let gzip = SenderProfile { fdt_gzip: true, ..SenderProfile::default() };
    let (mut first, trust) = bench(Mode::Require);
    trust.salt(1);
    let mut sender = signed(gzip, 1);
    sender.add(SendFile::of("http://h/1", b"x")).unwrap();
    let fdt = fdt_packets(&mut sender);
    let head = genuine_head();
    let bombs: Vec<_> = (0..4).map(|number| gzip_packet(number, &bomb(&head, number))).collect();
    let mut attackers: Vec<Bench> =
        (0..3).map(|sender| of_sender(Arc::clone(&trust), Mode::Require, sender)).collect();
    let (mut waits, mut refused) = (Vec::new(), 0);
    for session in 0..40_u64 {
        let mut honest = of_sender(Arc::clone(&trust), Mode::Require, 1000 + session);
        let mut seconds = 0;
        while honest.receiver.table().is_empty() {
            assert!(seconds < 240, "session {session} is kept out");
            first.now = first.now + Duration::from_secs(1);
            for attacker in &mut attackers {
                attacker.now = first.now;
                for bomb in &bombs {
                    attacker.feed(bomb);
                }
            }
            honest.now = first.now;
            honest.feed_all(&fdt);
            seconds += 1;
        }
        refused += seconds - 1;
        waits.push(seconds);
    }
    let at_once = waits.iter().filter(|it| **it == 1).count();
    assert!(at_once >= 30, "{waits:?}, {refused} refused");
    assert!(trust.report().refused[TrustDrop::Budget as usize] > 200);
}

/// Packets of objects that a session may not open take no lock of [`Trust`], which all receive threads share.
#[test]
fn packets_of_unproven_sessions_take_no_lock() {
    let (mut bench, trust) = bench(Mode::Require);
    let mut sender = signed(SenderProfile::default(), 1);
    let body = body(1, 5000);
    let tois: Vec<Toi> = (0..60)
        .map(|number| sender.add(SendFile::of(format!("http://h/{number}"), &body)).unwrap())
        .collect();
    bench.feed_all(&fdt_packets(&mut sender));
    let packets: Vec<_> = tois.iter().map(|toi| object_packets(&sender, *toi, &body)).collect();
    let locks = trust.locks();
    for of_object in &packets {
        bench.feed(&of_object[0]);
    }
    assert_eq!((bench.storage.opened.len(), trust.locks() - locks), (16, 16), "one for each that is opened");
    let locks = trust.locks();
    for of_object in &packets[16..] {
        bench.feed_all(of_object);
    }
    assert!(bench.drops(DropReason::Unproven) > 100);
    // After a wrong object, which leaves fewer than sixteen.
    for (toi, of_object) in tois.iter().zip(&packets).take(9) {
        bench.feed_all(&of_object[1..]);
        bench.receiver.reject_wrong(bench.now, *toi);
    }
    let (complete, dropped) = (trust.locks() - locks, bench.drops(DropReason::Unproven));
    assert_eq!(complete, 9, "one for each that is complete");
    for of_object in &packets[16..] {
        bench.feed_all(of_object);
    }
    assert!(bench.drops(DropReason::Unproven) > dropped + 100);
    assert_eq!((bench.storage.opened.len(), trust.locks() - locks), (16, 9));
}

#[test]
fn a_wrong_object_under_a_repeated_description_restricts_all_unproven_sessions_of_its_stream() {
    let (mut copy, trust) = bench(Mode::Require);
    let (mut other, mut honest) =
        (with_trust(Arc::clone(&trust), Mode::Require), with_trust(Arc::clone(&trust), Mode::Require));
    let mut sender = signed(SenderProfile::default(), 1);
    let body = body(1, 5000);
    let tois: Vec<Toi> = (0..30)
        .map(|number| sender.add(SendFile::of(format!("http://h/{number}"), &body)).unwrap())
        .collect();
    let fdt = fdt_packets(&mut sender);
    let first = |toi: &Toi| object_packets(&sender, *toi, &body).swap_remove(0);
    for it in [&mut copy, &mut other, &mut honest] {
        it.feed_all(&fdt);
    }
    // The honest session has objects in flight by then.
    honest.feed(&first(&tois[0]));
    honest.feed(&first(&tois[1]));
    copy.feed_all(&object_packets(&sender, tois[0], &body));
    copy.receiver.reject_wrong(copy.now, tois[0]);
    for toi in &tois[1..] {
        copy.feed(&first(toi));
        other.feed(&first(toi));
    }
    assert_eq!(copy.storage.opened.len(), 1 + 4);
    assert_eq!(other.storage.opened.len(), 4, "from another address as few");
    // The honest one loses nothing that it has begun, and with its first right object it is free.
    honest.feed_all(&object_packets(&sender, tois[0], &body));
    honest.receiver.brought(5000, true);
    for toi in &tois[2..] {
        honest.feed(&first(toi));
    }
    assert_eq!(honest.storage.opened.len(), 30);
    let start = other.now;
    other.now = start + Duration::from_secs(700);
    other.receiver.handle_timeout(other.now, Some(WALL.plus_ms(700_000)));
    other.feed_all(&fdt);
    for toi in &tois[1..] {
        other.feed(&first(toi));
    }
    assert!(other.storage.opened.len() > 10, "after ten minutes as before: {}", other.storage.opened.len());
}

/// A packet of `toi` in the name of the sender, with an EXT_FTI of this length and symbol length.
fn lying(toi: u128, length: u64, symbol_length: u16, symbol: &[u8]) -> Vec<u8> {
    by_hand(toi, Some(&Oti::no_code(length, symbol_length, 64)), 0, 0, symbol, |_| {})
}

#[test]
fn one_packet_with_another_oti_keeps_no_signed_object_out() {
    let bytes = body(4, 10_000);
    let (fdt, data) = with_object(signed(SenderProfile::default(), 5), "http://h/x", &bytes);
    let lies = [lying(5, 10_007, 1400, &[0; 1400]), lying(5, 10_000, 1399, &[0; 1399]), {
        let oti = Oti {
            encoding_id: EncodingId::RAPTORQ,
            scheme: SchemeInfo::RaptorQ { source_blocks: 1, sub_blocks: 1, alignment: 4 },
            ..Oti::no_code(10_000, 1400, 0)
        };
        let mut packet = by_hand(5, Some(&oti), 0, 0, &[0; 1400], |_| {});
        packet[3] = 6; // codepoint
        packet
    }];
    let changed = Verdict::Dropped(DropReason::OtiChanged);
    for lie in &lies {
        // Behind the description, between the packets, and again for an object that is held.
        let (mut bench, _) = bench(Mode::Require);
        bench.feed_all(&fdt);
        assert_eq!(bench.feed(lie), changed);
        bench.feed_all(&data[..3]);
        assert_eq!(bench.feed(lie), changed);
        bench.feed_all(&data[3..]);
        assert_eq!(bench.whole(), [("http://h/x".to_owned(), bytes.clone())]);
        let opened = bench.storage.opened.len();
        bench.feed(lie);
        bench.feed_all(&data);
        assert_eq!(bench.storage.opened.len(), opened);
        // Before the description.
        for mode in [Mode::Require, Mode::Prefer] {
            let (mut bench, _) = self::bench(mode);
            bench.feed(lie);
            bench.feed_all(&data[..4]);
            bench.feed_all(&fdt);
            bench.feed_all(&data[4..]);
            assert_eq!(bench.whole(), [("http://h/x".to_owned(), bytes.clone())], "{mode:?}");
        }
    }
}

#[test]
fn a_key_of_another_service_describes_no_objects_of_a_session_whose_service_names_its_keys() {
    let service = |service: &str| crate::trust::ServicePolicy {
        service: service.to_owned(),
        mode: Mode::Require,
        keys: vec![ROOT.public()],
    };
    let keys = vec![ROOT.public()];
    let policy = Policy { mode: Mode::Require, keys, services: vec![service("tag:b")], ..Policy::default() };
    let trust = Arc::new(Trust::new(policy));
    let (fdt, _) = with_object(signed(SenderProfile::default(), 5), "http://h/x", &body(1, 100));
    // It is signed for the service "tag:a".
    for (own, described) in [("tag:b", 0), ("tag:a", 1), ("tag:c", 1), ("", 1)] {
        let mut bench = with_trust(Arc::clone(&trust), Mode::Require);
        bench.receiver.config.trust.as_mut().unwrap().service = Arc::from(own);
        bench.feed_all(&fdt);
        assert_eq!(bench.receiver.table().len(), described, "{own}");
        assert_eq!(bench.receiver.is_signed(), described == 1);
    }
    assert_eq!(trust.report().refused[TrustDrop::WrongService as usize], 1);
}
