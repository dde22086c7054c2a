//! Signed, unsigned and forged FDT Instances of one session.

use super::*;
use crate::flute::FdtInstance;
use crate::trust::tests::{ROOT, SEALER};
use crate::trust::{Mode, Policy, Trust, TrustDrop};

fn bench(mode: Mode) -> (Bench, Arc<Trust>) {
    let policy = Policy { mode, keys: vec![ROOT.public()], ..Policy::default() };
    let trust = Arc::new(Trust::new(policy));
    (with_trust(Arc::clone(&trust), mode), trust)
}

fn with_trust(trust: Arc<Trust>, mode: Mode) -> Bench {
    let trust = Some(SessionTrust { trust, mode });
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
        let by = receiver.judge(Instant::default(), Some(WALL), Some(Tsi(7)), xml.as_bytes()).unwrap();
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
