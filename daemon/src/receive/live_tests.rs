//! Live objects through the receive path: ROUTE and FLUTE chunks into the cache, shown to players while they grow.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use carousel::fec::{EncodingId, PayloadId, Protection};
use carousel::flute::{self, File, SendFile, SenderProfile};
use carousel::lct::{Toi, Tsi};
use carousel::mabr::Directory;
use carousel::route::lls::ServiceDirectory;
use carousel::route::{Channel, Codepoint, Protected, RepairFlow, RouteSession, Sender, SourceFlow};
use carousel::time::{Instant, WallTime};

use super::tests::context;
use super::*;
use crate::delivery::{GoneReason, Options, SessionFilter};
use crate::replay::{Directories, replay};
use crate::signalling::Document;

const PAYLOAD_BYTES: usize = 500;
const MEDIA: u64 = 10;
const REPAIR: u64 = 11;

/// There is no reader of signalling.
struct Ignored;

impl FinishSink for Ignored {
    fn document(&mut self, _: Document) {}
}

/// A sender of ROUTE and a shard's intake, in one thread and in virtual time.
struct World {
    context: ReceiveContext,
    intake: Intake,
    sender: Sender,
    now: Instant,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let context = context(&folder);
        let intake =
            Intake::new(context.clone(), Options::without_repairs(), Arc::default(), None).without_date();
        let init =
            File { content_location: "http://h/init.mp4".to_owned(), toi: Toi(900), ..File::default() };
        let source = SourceFlow {
            is_real_time: true,
            template: Some("http://h/$TOI%03d$.m4s".to_owned()),
            files: vec![init],
            ..SourceFlow::default()
        };
        let repair = RepairFlow {
            oti: Some(Sender::repair_oti(PAYLOAD_BYTES as u16)),
            protected: vec![Protected { tsi: MEDIA, x: 1, y: 0 }],
            ..RepairFlow::default()
        };
        let session = RouteSession {
            channels: vec![
                Channel { tsi: MEDIA, source: Some(source), ..Channel::default() },
                Channel { tsi: REPAIR, repair: Some(repair), ..Channel::default() },
            ],
            ..RouteSession::default()
        };
        let mut sender = Sender::new(PAYLOAD_BYTES);
        sender.set_signalling(session, &[("application/dash+xml", "http://h/live.mpd", b"<MPD/>")]).unwrap();
        let mut world = Self { context, intake, sender, now: Instant::from_nanos(1), _folder: folder };
        let mut packets = Vec::new();
        world.sender.signalling(|packet| packets.push(packet.to_vec())).unwrap();
        world.receive(&packets);
        world
    }

    fn receive(&mut self, packets: &[Vec<u8>]) {
        let (source, group): (SocketAddr, SocketAddr) =
            ("10.0.0.1:9".parse().unwrap(), "239.0.0.1:6000".parse().unwrap());
        for packet in packets {
            self.intake.datagram(self.now, source, group, &SessionFilter::all(), packet);
            self.intake.end_batch();
            let _ = self.intake.finish_here(self.now, &mut Ignored);
        }
    }

    fn object(&self, toi: u128, codepoint: u8, body: &[u8], is_marked: bool) -> Vec<Vec<u8>> {
        let packets = body.chunks(PAYLOAD_BYTES).enumerate().map(|(at, payload)| {
            let offset = (at * PAYLOAD_BYTES) as u64;
            let is_last = offset + payload.len() as u64 == body.len() as u64;
            let length = (is_last && is_marked).then_some(body.len() as u64);
            let mut out = Vec::new();
            self.sender
                .write_source((MEDIA, Toi(toi)), codepoint, offset, length, payload, &mut out)
                .unwrap();
            out
        });
        packets.collect()
    }

    fn held(&self, key: &str) -> Option<Vec<u8>> {
        let object = self.context.store.get(key)?;
        let length = object.meta().length;
        object.bytes(0..length).map(|bytes| bytes.to_vec())
    }
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 253) as u8).collect()
}

#[test]
fn an_object_is_shown_while_it_grows_and_held_when_it_is_complete() {
    let mut world = World::new();
    assert_eq!(world.held("h/live.mpd").as_deref(), Some(&b"<MPD/>"[..]), "a document of the signalling");
    let segment = body(5_250);
    let packets = world.object(7, Codepoint::MEDIA_FILE, &segment, true);
    for (at, packet) in packets.iter().enumerate().take(packets.len() - 1) {
        world.receive(std::slice::from_ref(packet));
        let flight = world.context.flights.get("h/007.m4s").expect("it is on its way");
        let end = ((at + 1) * PAYLOAD_BYTES) as u64;
        assert_eq!((flight.length, flight.available_from(0)), (None, end));
        assert_eq!(flight.read(0..end).unwrap(), segment[..end as usize]);
        assert!(world.held("h/007.m4s").is_none(), "half of it is not all of it");
    }
    world.receive(&packets[packets.len() - 1..]);
    assert_eq!(world.held("h/007.m4s"), Some(segment));
    assert!(world.context.flights.get("h/007.m4s").is_none());
    // An init segment comes round with other bytes.
    for init in [body(800), body(900), body(900)] {
        let packets = world.object(900, Codepoint::INIT_AGAIN, &init, true);
        world.receive(&packets);
        assert_eq!(world.held("h/init.mp4"), Some(init));
    }
    world.intake.publish_stats(0);
    let sessions = world.context.stats.sessions();
    let json: Vec<_> = sessions.iter().map(crate::status::session_json).collect();
    assert!(json.iter().all(|it| it["protocol"] == "ROUTE") && json.len() == 3);
    assert_eq!(json[1]["complete"], 3);
    assert!(world.context.stats.totals().reconcile());
}

#[test]
fn an_object_that_begins_again_before_it_is_verified_has_replaced_itself() {
    let mut world = World::new();
    let (source, group): (SocketAddr, SocketAddr) =
        ("10.0.0.1:9".parse().unwrap(), "239.0.0.1:6000".parse().unwrap());
    let before = world.intake.totals().objects;
    for length in [800, 900] {
        for packet in world.object(900, Codepoint::INIT_AGAIN, &body(length), true) {
            world.intake.datagram(world.now, source, group, &SessionFilter::all(), &packet);
        }
    }
    world.intake.end_batch();
    let _ = world.intake.finish_here(world.now, &mut Ignored);
    assert_eq!(world.held("h/init.mp4"), Some(body(900)));
    let objects = world.intake.totals().objects;
    let replaced = GoneReason::Replaced as usize;
    assert_eq!((objects.entered - before.entered, objects.gone[replaced] - before.gone[replaced]), (2, 1));
    let ended = objects.held + objects.gone.iter().chain(&objects.now).sum::<u64>();
    assert_eq!(objects.entered, ended);
}

#[test]
fn an_object_with_a_loss_is_restored_or_gone_and_never_held_in_part() {
    for with_repair in [true, false] {
        let mut world = World::new();
        let segment = body(9_000);
        let mut packets = world.object(3, Codepoint::MEDIA_FILE, &segment, true);
        packets.drain(4..7);
        world.receive(&packets);
        let flight = world.context.flights.get("h/003.m4s").expect("it is on its way");
        assert_eq!(flight.available_from(0), 4 * PAYLOAD_BYTES as u64, "up to the gap");
        if with_repair {
            let mut repair = Vec::new();
            let sender = world.sender.clone();
            Sender::repair_symbols(&Sender::repair_oti(PAYLOAD_BYTES as u16), &segment, 6, |id, symbol| {
                let mut out = Vec::new();
                sender.write_repair((REPAIR, Toi(3)), segment.len() as u64, id, symbol, &mut out).unwrap();
                repair.push(out);
            })
            .unwrap();
            world.receive(&repair);
            assert_eq!(world.held("h/003.m4s"), Some(segment.clone()));
        }
        world.intake.tick(world.now + Duration::from_secs(30));
        assert_eq!(world.held("h/003.m4s").is_some(), with_repair);
        assert!(flight.outcome().is_some(), "whoever reads it is told");
        let totals = world.intake.totals();
        assert!(totals.reconcile());
        assert_eq!(totals.objects.now.iter().sum::<u64>(), 0);
    }
}

#[test]
fn a_gap_that_only_repair_symbols_can_fill_turns_players_to_origins_and_is_lost_without_them() {
    let mut world = World::new();
    let mut packets = world.object(3, Codepoint::MEDIA_FILE, &body(9_000), true);
    let late = packets.remove(4);
    world.receive(&packets);
    let flight = world.context.flights.get("h/003.m4s").expect("it is on its way");
    let begin = world.now;
    let after = |ms: u64| begin + Duration::from_millis(ms);
    assert_eq!(flight.time_to_origin(after(300)), Some(Duration::ZERO));
    assert!(!flight.is_lost(after(900)), "repair symbols may come");
    world.intake.tick(after(600));
    assert_eq!((flight.is_lost(after(899)), flight.is_lost(after(900))), (false, true));
    world.now = after(1_000);
    world.receive(&[late]);
    assert!(world.held("h/003.m4s").is_some() && !flight.is_lost(after(2_000)), "it comes after all");
}

/// The packets of a chunk that is sent as an object: described, its last packet closing it.
fn chunk_packets(sender: &mut flute::Sender, name: &str, chunk: &[u8]) -> Vec<Vec<u8>> {
    let toi = sender.add(SendFile::of(format!("http://h/9.m4s{name}"), chunk)).unwrap();
    let (mut packets, mut out) = (Vec::new(), Vec::new());
    for page in sender.refresh_fdt(WallTime::from_unix_ms(1_795_219_200_000)).unwrap() {
        for packet in 0..sender.fdt_packets(page) {
            sender.write_fdt(page, packet, &mut out);
            packets.push(out.clone());
        }
    }
    for (at, symbol) in chunk.chunks(PAYLOAD_BYTES).enumerate() {
        let is_last = (at + 1) * PAYLOAD_BYTES >= chunk.len();
        sender.write_packet(toi, at as u64, symbol, is_last, &mut out);
        packets.push(out.clone());
    }
    packets
}

#[test]
fn a_segment_of_which_a_chunk_is_lost_is_lost_at_once_and_goes_on_when_it_comes() {
    // Lost of the second of three: a packet (it is told by the one that closes it), all (by the third), the last packet (by the third;
    // of what has begun it takes the reception timeout).
    for (lost, is_told_by_third) in [(vec![1], false), (vec![0, 1, 2, 3], true)] {
        let mut world = World::new();
        let profile = SenderProfile { symbol_length: PAYLOAD_BYTES as u16, ..SenderProfile::default() };
        let mut sender = flute::Sender::new(Tsi(20), profile, 1, 1);
        let segment = body(6_000);
        let first = chunk_packets(&mut sender, "#0", &segment[..2_000]);
        let second = chunk_packets(&mut sender, "#2000", &segment[2_000..4_000]);
        let third = chunk_packets(&mut sender, "?isLast#4000", &segment[4_000..]);
        world.receive(&first);
        let flight = world.context.flights.get("h/9.m4s").expect("its first chunk is there");
        let descriptions = second.len() - 4;
        let is_lost = |at: usize| at >= descriptions && lost.contains(&(at - descriptions));
        let (late, come): (Vec<_>, Vec<_>) = second.into_iter().enumerate().partition(|(at, _)| is_lost(*at));
        let packets = |them: Vec<(usize, Vec<u8>)>| them.into_iter().map(|it| it.1).collect::<Vec<_>>();
        world.receive(&packets(come));
        let after = |ms: u64| world.now + Duration::from_millis(ms);
        let (soon, then) = (after(299), after(300));
        assert_eq!(flight.available_from(0), 2_000);
        assert_eq!((flight.is_lost(soon), flight.is_lost(then)), (false, !is_told_by_third), "{lost:?}");
        world.receive(&third);
        assert_eq!((flight.is_lost(soon), flight.is_lost(then)), (false, true), "{lost:?}");
        // The next segment does not suffer.
        let file = chunk_packets(&mut sender, "x#0", &segment[..2_000]);
        world.receive(&file);
        assert!(!world.context.flights.get("h/9.m4sx").unwrap().is_lost(then));
        let late = packets(late);
        world.receive(&late[..1]);
        assert!(!flight.is_lost(then), "its packets come again: {lost:?}");
        world.receive(&late[1..]);
        assert_eq!(world.held("h/9.m4s"), Some(segment), "{lost:?}");
        assert!(world.context.stats.totals().reconcile());
    }
}

/// The headend is killed in the middle of a segment, and sends it whole when it is back.
#[test]
fn a_segment_that_was_begun_in_chunks_may_come_whole() {
    for silence_ms in [500, 4_000] {
        let mut world = World::new();
        let profile = SenderProfile { symbol_length: PAYLOAD_BYTES as u16, ..SenderProfile::default() };
        let mut sender = flute::Sender::new(Tsi(20), profile, 1, 1);
        let segment = body(6_000);
        world.receive(&chunk_packets(&mut sender, "#0", &segment[..2_000]));
        let flight = world.context.flights.get("h/9.m4s").expect("its first chunk is there");
        world.now = world.now + Duration::from_millis(silence_ms);
        world.intake.tick(world.now);
        assert_eq!(flight.is_lost(world.now + Duration::from_millis(300)), silence_ms > 2_000);
        world.receive(&chunk_packets(&mut sender, "", &segment));
        // What still comes in chunks continues.
        assert_eq!(world.held("h/9.m4s"), (silence_ms > 2_000).then_some(segment));
        assert!(world.context.stats.totals().reconcile());
    }
}

#[test]
fn a_chunk_of_flute_with_losses_is_restored_by_its_repair_symbols() {
    let mut world = World::new();
    let protection = Protection {
        id: EncodingId::RAPTORQ,
        symbol_length: 0,
        overhead: 0.5,
        least_repair: 4,
        burst_packets: 0,
        block_bytes: 1 << 20,
    };
    let profile = SenderProfile { symbol_length: 500, ..SenderProfile::default() };
    let mut sender = flute::Sender::new(Tsi(20), profile, 1, 1);
    let segment = body(12_000);
    for (start, end, name) in [(0, 6_000, "#0"), (6_000, 12_000, "?isLast#6000")] {
        let chunk = &segment[start..end];
        let file = SendFile::of(format!("http://h/9.m4s{name}"), chunk);
        let toi = sender.add_protected(file, &protection).unwrap();
        let (mut packets, mut out) = (Vec::new(), Vec::new());
        for page in sender.refresh_fdt(WallTime::from_unix_ms(1_795_219_200_000)).unwrap() {
            for packet in 0..sender.fdt_packets(page) {
                sender.write_fdt(page, packet, &mut out);
                packets.push(out.clone());
            }
        }
        let code = sender.block_code(toi, 0).unwrap();
        for symbol in (0..u64::from(code.k())).filter(|symbol| symbol % 3 > 0) {
            let range = sender.partition(toi).unwrap().byte_range(symbol);
            sender.write_packet(
                toi,
                symbol,
                &chunk[range.start as usize..range.end as usize],
                false,
                &mut out,
            );
            packets.push(out.clone());
        }
        let mut encoder = code.encoder(chunk);
        for esi in code.k()..code.k() + 6 {
            let symbol = encoder.repair(esi).unwrap();
            sender.write_repair(toi, PayloadId { sbn: 0, esi }, &symbol, false, &mut out);
            packets.push(out.clone());
        }
        world.receive(&packets);
        if start == 0 {
            let flight = world.context.flights.get("h/9.m4s").expect("its first chunk is there");
            assert_eq!(flight.available_from(0), 6_000);
        }
    }
    assert!(world.held("h/9.m4s") == Some(segment));
    assert!(world.context.stats.totals().reconcile());
}

#[test]
fn a_chunk_of_flute_whose_bytes_are_others_than_described_is_no_part_of_a_segment() {
    for is_right in [false, true] {
        let mut world = World::new();
        let profile = SenderProfile { symbol_length: 500, ..SenderProfile::default() };
        let mut sender = flute::Sender::new(Tsi(20), profile, 1, 1);
        let mut chunk = body(500);
        let toi = sender.add(SendFile::of("http://h/9.m4s#0", &chunk)).unwrap();
        chunk[400] ^= u8::from(!is_right);
        let (mut packets, mut out) = (Vec::new(), Vec::new());
        for page in sender.refresh_fdt(WallTime::from_unix_ms(1_795_219_200_000)).unwrap() {
            for packet in 0..sender.fdt_packets(page) {
                sender.write_fdt(page, packet, &mut out);
                packets.push(out.clone());
            }
        }
        sender.write_packet(toi, 0, &chunk, false, &mut out);
        packets.push(out);
        world.receive(&packets);
        assert_eq!(world.context.flights.get("h/9.m4s").is_some(), is_right);
    }
}

fn captures() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: {} is absent", folder.display());
    None
}

/// SHA-256 of a truth table's rows that players ask for: no chunks, no signalling.
fn truth(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap().trim_start_matches('#').split('\t').collect();
    let column = |name: &str| head.iter().position(|it| *it == name).unwrap();
    let (url, sha) = (column("url"), column("sha256"));
    let rows = lines.map(|line| line.split('\t').collect::<Vec<_>>());
    rows.filter(|row| {
        !row[url].contains('#') && !row[url].starts_with("[SLS") && !row[url].starts_with("urn:")
    })
    .map(|row| row[sha].to_owned())
    .collect()
}

#[test]
fn a_replay_holds_the_segments_of_foreign_live_captures_byte_exact() {
    let Some(captures) = captures() else { return };
    for (capture, tables, others) in [
        ("route_dash/route_dash.pcap", &["route_dash/objects.tsv"][..], 0),
        // One segment without a mark of its end.
        ("route_ll/route_ll.pcap", &["route_ll/objects.tsv"], 1),
        (
            "mabr_flute_ll2/mabr_flute_ll2.pcap",
            &["mabr_flute_ll2/objects.tsv", "mabr_flute_ll2/segments_reassembled.tsv"],
            0,
        ),
        (
            "mabr_flute_ll2/noend.pcap",
            &["mabr_flute_ll2/noend_objects.tsv", "mabr_flute_ll2/noend_segments_reassembled.tsv"],
            0,
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let context = context(&folder);
        let atsc = ServiceDirectory::default();
        let mut directories = Directories { sessions: Directory::default(), atsc, groups: Vec::new() };
        let summary = replay(&captures.join(capture), None, &context, &mut directories).unwrap().0;
        let is_media = |it: &&serde_json::Value| {
            it["signalling"] != true && !it["uri"].as_str().unwrap_or_default().ends_with(".mpd")
        };
        let objects = summary["objects"].as_array().unwrap().iter().filter(is_media);
        let got: BTreeSet<String> = objects.map(|it| it["sha256"].as_str().unwrap().to_owned()).collect();
        let truth: BTreeSet<String> = tables.iter().flat_map(|it| truth(&captures.join(it))).collect();
        let missing: Vec<_> = truth.difference(&got).collect();
        let mpds = summary["objects"].as_array().unwrap().iter().filter(|it| !is_media(it));
        let mpds: BTreeSet<&str> = mpds.filter_map(|it| it["sha256"].as_str()).collect();
        assert!(missing.iter().all(|sha| mpds.contains(sha.as_str())), "{capture}: {missing:?}");
        assert_eq!(got.difference(&truth).count(), others, "{capture}");
        assert_eq!(summary["transport_streams"].as_array().unwrap().len(), 0, "{capture}");
    }
}
