//! Intake with the daemon's store: announcements, objects in flight, publication, and what becomes of each that fails.

use carousel::fec::{EncodingId, PayloadId, Protection};
use carousel::time::Instant;

use super::*;
use crate::delivery::{FailReason, Outcome, SessionFilter};
use crate::store::EvictReason;

struct Box {
    intake: Intake,
    context: ReceiveContext,
    kept: Kept,
    now: Instant,
    rejected: u64,
    _folder: tempfile::TempDir,
}

impl Box {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let context = context(&folder);
        let intake = Intake::new(context.clone(), options(), Arc::default(), None).without_date();
        let now = Instant::from_nanos(1_000_000_000);
        Self { intake, context, kept: Kept::default(), now, rejected: 0, _folder: folder }
    }

    /// One whose cache holds two megabytes.
    fn small() -> Self {
        let mut tested = Self::new();
        let path = tested._folder.path().join("small");
        let config =
            crate::store::StoreConfig { path, quota_bytes: 2 << 20, reserve_bytes: 0, ..Default::default() };
        let store = Store::open(&config).unwrap().0;
        tested.context = ReceiveContext::new(store);
        tested.intake = Intake::new(tested.context.clone(), options(), Arc::default(), None).without_date();
        tested
    }

    /// Takes a packet without finishing what it completes.
    fn take(&mut self, packet: &[u8]) {
        self.take_from(object(1).session.source, packet);
    }

    fn take_from(&mut self, source: std::net::IpAddr, packet: &[u8]) {
        let ObjectRef { session, .. } = object(1);
        let source = std::net::SocketAddr::new(source, 7);
        self.intake.datagram(self.now, source, session.destination, &SessionFilter::all(), packet);
        self.intake.end_batch();
    }

    fn finish(&mut self) {
        self.rejected += self.intake.finish_here(self.now, &mut self.kept);
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.intake.tick(self.now);
    }

    fn holds(&self, key: &str) -> bool {
        self.context.store.contains(key)
    }
}

const BODY: &[u8] = &[7; 1000];

#[test]
fn an_object_is_announced_in_flight_and_held() {
    let mut tested = Box::new();
    let (fdt, objects) = session(&[("http://h/a", Some("video/mp4"), BODY)]);
    fdt.iter().for_each(|it| tested.take(it));
    let flights = Arc::clone(&tested.context.flights);
    let announced = flights.announced("h/a").unwrap();
    assert_eq!((announced.length, announced.digest), (Some(1000), Some(Digest::of(BODY))));
    assert!(flights.get("h/a").is_none());
    tested.take(&objects[0][0]);
    let flight = flights.get("h/a").unwrap();
    assert_eq!((flight.received_bytes(), flight.available_from(0), flight.length), (200, 200, Some(1000)));
    assert_eq!(flight.read(0..200).unwrap(), BODY[..200]);
    objects[0][1..].iter().for_each(|it| tested.take(it));
    assert_eq!((flight.received_bytes(), flight.available_from(0)), (1000, 999), "its last byte is withheld");
    assert!(flight.outcome().is_none() && !tested.holds("h/a"));
    tested.finish();
    assert!(matches!(flight.outcome(), Some(Outcome::Complete(_))));
    let object = tested.context.store.get("h/a").unwrap();
    assert_eq!(object.bytes(0..1000).unwrap(), BODY);
    assert_eq!(object.meta().content_type.as_deref(), Some("video/mp4"));
    tested.intake.end_batch();
    assert!(flights.get("h/a").is_none() && flights.announced("h/a").is_none());
    assert_eq!((tested.context.stats.objects(), tested.rejected), ((1, 0), 0));
    // Its repetition is nothing new.
    objects[0].iter().for_each(|it| tested.take(it));
    tested.finish();
    assert_eq!(tested.context.stats.objects(), (1, 0));
    assert!(tested.intake.totals().reconcile());
}

#[test]
fn blocks_whose_repair_symbols_come_in_one_batch_with_the_rest_are_decoded() {
    let usage = decoded_in_one_batch(40_000);
    assert_eq!((usage.arena_bytes, usage.direct), (0, 0));
}

/// Its source symbols are in memory, its repair symbols in the file.
#[test]
fn blocks_of_a_body_that_is_assembled_in_memory_are_decoded() {
    let usage = decoded_in_one_batch(200_000);
    assert_eq!((usage.arena_bytes, usage.page_cache.iter().sum::<u64>() + usage.direct), (256 << 10, 1));
}

fn decoded_in_one_batch(length: u32) -> crate::store::Usage {
    const SYMBOL_BYTES: u16 = 200;
    let body: Vec<u8> = (0..length).map(|at| (at * 31 + (at >> 8)) as u8).collect();
    let profile = SenderProfile {
        symbol_length: SYMBOL_BYTES,
        fdt_lifetime_s: 20 * 365 * 86_400,
        ..SenderProfile::default()
    };
    let mut sender = Sender::new(Tsi(1), profile, 1, 1);
    let protection =
        Protection { id: EncodingId::RAPTORQ, overhead: 0.5, block_bytes: 10_000, ..Protection::NONE };
    let toi = sender.add_protected(SendFile::of("http://h/a", &body), &protection).unwrap();
    sender.refresh_fdt(WALL).unwrap();
    let (oti, partition) = (*sender.oti(toi).unwrap(), *sender.partition(toi).unwrap());
    assert!(partition.blocks > 2);
    let mut tested = Box::new();
    let mut out = Vec::new();
    let destination = object(1).session.destination;
    let source = std::net::SocketAddr::new(object(1).session.source, 7);
    let take = |tested: &mut Box, packet: &[u8]| {
        tested.intake.datagram(tested.now, source, destination, &SessionFilter::all(), packet);
    };
    for packet in 0..sender.fdt_packets(0) {
        assert!(sender.write_fdt(0, packet, &mut out));
        take(&mut tested, &out);
    }
    let range = |symbol: u64| {
        let range = partition.byte_range(symbol);
        range.start as usize..range.end as usize
    };
    for step in protection.sequence(&oti, partition) {
        let PayloadId { sbn, .. } = step.payload_id;
        match step.source {
            // One of four is lost.
            Some(symbol) if symbol % 4 == 3 => continue,
            Some(symbol) => assert!(sender.write_packet(toi, symbol, &body[range(symbol)], false, &mut out)),
            None => {
                let (first, k) = (partition.first_symbol(sbn), partition.block_symbols(sbn));
                let block = range(first).start..range(first + u64::from(k) - 1).end;
                let mut encoder = sender.block_code(toi, sbn).unwrap().encoder(&body[block]);
                let repair = encoder.repair(step.payload_id.esi).unwrap();
                assert!(sender.write_repair(toi, step.payload_id, &repair, false, &mut out));
            }
        }
        take(&mut tested, &out);
    }
    // The batch has not ended: what decoding reads was written when it was handed out.
    tested.finish();
    let stored = tested.context.store.get("h/a").unwrap();
    assert!(stored.bytes(0..length.into()).unwrap() == body && tested.rejected == 0);
    tested.context.store.usage()
}

#[test]
fn wrong_bytes_are_never_held_and_the_next_pass_is() {
    let mut tested = Box::new();
    let (fdt, objects) = session(&[("http://h/a", None, BODY)]);
    fdt.iter().for_each(|it| tested.take(it));
    let mut wrong = objects[0].clone();
    *wrong[2].last_mut().unwrap() ^= 1;
    wrong.iter().for_each(|it| tested.take(it));
    let flight = tested.context.flights.get("h/a").unwrap();
    tested.finish();
    assert!(matches!(flight.outcome(), Some(Outcome::Failed(FailReason::Verify))));
    assert_eq!((tested.rejected, tested.holds("h/a")), (1, false));
    let (failed, _) = tested.context.flights.failures();
    assert_eq!(failed.get(FailReason::Verify), 1);
    tested.pass(Duration::from_secs(10));
    objects[0].iter().for_each(|it| tested.take(it));
    tested.finish();
    assert_eq!((tested.rejected, tested.holds("h/a")), (1, true));
}

#[test]
fn a_closed_session_ends_what_is_in_flight_and_gives_back_its_room() {
    let mut tested = Box::new();
    let (fdt, objects) = session(&[("http://h/a", None, BODY), ("http://h/b", None, BODY)]);
    fdt.iter().for_each(|it| tested.take(it));
    tested.take(&objects[0][0]);
    let flight = tested.context.flights.get("h/a").unwrap();
    assert!(tested.context.store.usage().partial_bytes > 1000);
    tested.intake.close_sessions(tested.now, |_| false);
    assert!(matches!(flight.outcome(), Some(Outcome::Failed(FailReason::SessionEnded))));
    drop(flight);
    assert_eq!(tested.context.flights.announced_count(), 0);
    assert_eq!(tested.context.store.usage().partial_bytes, 0);
    // It is received like the first time.
    fdt.iter().chain(&objects[0]).for_each(|it| tested.take(it));
    tested.finish();
    assert!(tested.holds("h/a"));
}

#[test]
fn signalling_is_handed_on_and_takes_no_place_in_the_cache() {
    let mut tested = Box::new();
    let document = b"<MulticastGatewayConfiguration/>";
    let (fdt, objects) = session(&[
        ("http://h/config", Some(carousel::mabr::CONFIGURATION_TYPE), document),
        ("http://h/a", None, BODY),
    ]);
    fdt.iter().chain(objects.iter().flatten()).for_each(|it| tested.take(it));
    tested.finish();
    assert!(tested.holds("h/a") && !tested.holds("h/config"));
    let documents = tested.kept.0.lock().unwrap().clone();
    assert_eq!(documents.len(), 1);
    assert_eq!(
        (documents[0].name.as_str(), documents[0].bytes.as_slice()),
        ("http://h/config", &document[..])
    );
    assert_eq!(tested.context.stats.objects(), (1, 0));
}

#[test]
fn what_was_purged_or_evicted_for_room_is_received_again_and_what_is_stale_is_not() {
    let mut tested = Box::new();
    let (fdt, objects) = session(&[("http://h/a", None, BODY)]);
    fdt.iter().chain(&objects[0]).for_each(|it| tested.take(it));
    tested.finish();
    let mut again_after = |reason| {
        assert!(tested.context.store.remove("h/a", reason));
        tested.pass(Duration::from_secs(1));
        objects[0].iter().for_each(|it| tested.take(it));
        tested.finish();
        tested.holds("h/a")
    };
    assert!(again_after(EvictReason::Purged));
    assert!(again_after(EvictReason::Room), "there is room");
    assert!(!again_after(EvictReason::Stale));
}

#[test]
fn a_name_that_cannot_be_used_is_left_out_and_counted() {
    let mut tested = Box::new();
    let (fdt, objects) = session(&[("a://", None, BODY), ("http://h/b", None, BODY)]);
    fdt.iter().chain(objects.iter().flatten()).for_each(|it| tested.take(it));
    tested.finish();
    let totals = tested.intake.totals();
    assert!(tested.holds("h/b") && totals.reconcile(), "{totals:?}");
    assert_eq!(totals.objects.gone[crate::delivery::GoneReason::NotWanted as usize], 1);
    assert_eq!(tested.context.store.usage().objects, 1);
}

#[test]
fn a_newer_version_goes_before_an_older_one_in_flight() {
    let mut tested = Box::new();
    let (fdt, objects) = session(&[("http://h/a", None, BODY), ("http://h/a", None, &[8; 1000])]);
    fdt.iter().for_each(|it| tested.take(it));
    tested.take(&objects[0][0]);
    let old = tested.context.flights.get("h/a").unwrap();
    tested.take(&objects[1][0]);
    assert!(matches!(old.outcome(), Some(Outcome::Failed(FailReason::Replaced))));
    assert!(!Arc::ptr_eq(&old, &tested.context.flights.get("h/a").unwrap()));
}

#[test]
fn bytes_of_an_origin_complete_an_object_and_count_as_repaired() {
    let mut tested = Box::new();
    let (fdt, objects) = session(&[("http://h/a", None, BODY)]);
    fdt.iter().for_each(|it| tested.take(it));
    objects[0][..4].iter().for_each(|it| tested.take(it));
    let now = tested.now;
    let repaired = tested.intake.incomplete().next().unwrap();
    assert_eq!((repaired.received_bytes, repaired.transfer_length), (800, 1000));
    assert_eq!(repaired.uri.as_deref(), Some("http://h/a"));
    tested.intake.object_command(now, Command::Repair(repaired.object, 800, vec![7; 200]));
    tested.finish();
    assert!(tested.holds("h/a"));
    assert_eq!(tested.context.stats.objects(), (1, 1));
}

/// The FDT and packets of one object, gzipped, that is announced with `content_length` bytes. `number` is its TOI and the FDT
/// Instance's ID.
fn gzipped(number: u32, name: &str, object: &[u8], content_length: u64) -> Vec<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, object).unwrap();
    let packed = encoder.finish().unwrap();
    let profile = SenderProfile { fdt_lifetime_s: 20 * 365 * 86_400, ..SenderProfile::default() };
    let mut sender = Sender::new(Tsi(1), profile, number, number);
    let file = SendFile { encoding: Encoding::Gzip, content_length, ..SendFile::of(name, &packed) };
    let toi = sender.add(file).unwrap();
    sender.refresh_fdt(WALL).unwrap();
    let (mut out, mut packets) = (Vec::new(), Vec::new());
    assert!(sender.write_fdt(0, 0, &mut out) && sender.fdt_packets(0) == 1);
    packets.push(out.clone());
    for (symbol, bytes) in packed.chunks(1400).enumerate() {
        assert!(sender.write_packet(toi, symbol as u64, bytes, false, &mut out));
        packets.push(out.clone());
    }
    packets
}

#[test]
fn an_encoded_object_is_held_as_clients_get_it_and_no_bomb_is() {
    const LONG: usize = 16 << 20;
    let mut tested = Box::new();
    let text = b"#EXTM3U\n#EXTINF:2,\ns.m4s\n".repeat(9000);
    for packet in gzipped(1, "http://h/m.m3u8", &text, text.len() as u64) {
        tested.take(&packet);
    }
    tested.finish();
    let held = tested.context.store.get("h/m.m3u8").expect("it is held");
    assert_eq!(held.bytes(0..text.len() as u64).unwrap(), text);
    assert_eq!((held.meta().digest, held.meta().length), (Digest::of(&text), text.len() as u64));
    assert_eq!(tested.rejected, 0);
    // A thousandth of it is sent, and all of it announced.
    let reserved = tested.context.store.usage().partial_bytes;
    for (at, announced) in (2..).zip([LONG as u64, 1 << 40, text.len() as u64]) {
        let name = format!("http://h/bomb{at}");
        gzipped(at, &name, &vec![0; LONG], announced).iter().for_each(|it| tested.take(it));
        tested.finish();
        assert!(!tested.holds(&name["http://".len()..]), "{announced} bytes announced");
    }
    assert_eq!(tested.rejected, 3);
    assert_eq!(tested.context.store.usage().partial_bytes, reserved, "nothing stays reserved");
    // Signalling has a limit of its own, far below.
    let document = vec![b' '; carousel::limits::MAX_XML_BYTES + 1];
    for packet in gzipped(9, carousel::mabr::CONFIGURATION_URI, &document, document.len() as u64) {
        tested.take(&packet);
    }
    tested.finish();
    assert_eq!((tested.rejected, tested.kept.0.lock().unwrap().len()), (4, 0));
}

/// An untrusted sender that announces far more than there is room for and sends a packet of each, then one that sends what it
/// announces and never ends it.
#[test]
fn untrusted_senders_that_announce_huge_objects_evict_nothing_and_what_they_send_costs_no_object_permanently()
{
    let mut tested = Box::small();
    let names: Vec<String> = (0..14).map(|at| format!("http://h/{at}")).collect();
    let body = |at: usize| vec![at as u8 + 1; 120_000];
    let bodies: Vec<Vec<u8>> = (0..names.len()).map(body).collect();
    let files: Vec<(&str, Option<&str>, &[u8])> =
        names.iter().zip(&bodies).map(|(name, body)| (name.as_str(), None, body.as_slice())).collect();
    let (fdt, objects) = session(&files);
    let untrusted = std::net::IpAddr::from([10, 0, 0, 99]);
    let evil_names: Vec<String> = (0..16).map(|at| format!("http://evil/{at}")).collect();
    let large = vec![9; 1_000_000];
    let evil: Vec<(&str, Option<&str>, &[u8])> =
        evil_names.iter().map(|name| (name.as_str(), None, large.as_slice())).collect();
    let (evil_fdt, evil_objects) = session(&evil);
    fdt.iter().for_each(|it| tested.take(it));
    evil_fdt.iter().for_each(|it| tested.take_from(untrusted, it));
    let held = |tested: &Box| {
        (0..names.len()).filter(|at| tested.context.store.contains(&format!("h/{at}"))).count()
    };
    // The honest session, and a packet of another huge object between any two of its objects.
    for (at, packets) in objects.iter().enumerate() {
        tested.take_from(untrusted, &evil_objects[at][at]);
        packets.iter().for_each(|it| tested.take(it));
        tested.finish();
    }
    assert_eq!((held(&tested), tested.rejected), (names.len(), 0));
    assert_eq!(tested.context.store.usage().evicted[EvictReason::Room as usize], 0);
    // Now it sends: what comes takes room, but no more than half of the quota.
    for packets in &evil_objects {
        for packet in &packets[..packets.len() - 100] {
            tested.take_from(untrusted, packet);
        }
    }
    let usage = tested.context.store.usage();
    assert!(usage.partial_bytes <= (1 << 20) + 8192, "{usage:?}");
    assert!((6..names.len()).contains(&held(&tested)), "{} are left", held(&tested));
    // It ends. What it began is let go in time, and what was evicted for it comes again.
    tested.intake.close_sessions(tested.now, |key| key.source != untrusted);
    tested.pass(Duration::from_secs(1));
    assert_eq!(tested.context.store.usage().partial_bytes, 0);
    for _ in 0..2 {
        tested.pass(Duration::from_secs(10));
        objects.iter().flatten().for_each(|it| tested.take(it));
        tested.finish();
    }
    assert_eq!((held(&tested), tested.rejected), (names.len(), 0), "one cycle later everything is there");
}

#[test]
fn an_object_whose_room_is_needed_is_given_up_and_received_again() {
    let mut tested = Box::small();
    let large = vec![9; 800_000];
    let (fdt, objects) =
        session(&[("http://h/a", None, &large), ("http://h/b", None, &large), ("http://h/c", None, BODY)]);
    fdt.iter().for_each(|it| tested.take(it));
    objects[0][..3000].iter().for_each(|it| tested.take(it));
    let flight = tested.context.flights.get("h/a").unwrap();
    objects[1][..3000].iter().for_each(|it| tested.take(it));
    let second = tested.context.flights.get("h/b").unwrap();
    assert!(second.read(0..100).is_err() && flight.read(0..100).is_ok(), "the first goes on");
    tested.pass(Duration::from_secs(1));
    assert!(matches!(second.outcome(), Some(Outcome::Failed(_))), "{:?}", second.outcome());
    assert!(flight.outcome().is_none());
    objects[2].iter().for_each(|it| tested.take(it));
    objects[0][3000..].iter().for_each(|it| tested.take(it));
    tested.finish();
    assert!(tested.holds("h/a") && tested.holds("h/c"));
    drop((flight, second));
    tested.pass(Duration::from_secs(10));
    objects[1].iter().for_each(|it| tested.take(it));
    tested.finish();
    assert!(tested.holds("h/a") && tested.holds("h/b"));
    assert_eq!(tested.rejected, 0);
}
