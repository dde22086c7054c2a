use std::fs;
use std::path::Path;

use carousel::alc::Packet;

use super::*;
use crate::clock::VirtualClocks;
use crate::follow::Ended;
use crate::line::Line;
use crate::prepare::{PreparedPiece, prepare, prepare_piece};
use crate::transmit::{End, Observer, Transmission, Updates};

const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);

pub(crate) fn config(folders: &[&Path], extra: &str) -> Config {
    let sources = folders.iter().enumerate().map(|(at, folder)| {
        format!(
            "[[source]]\npath = {:?}\nbase = \"https://cdn.example.com/{at}/\"\n{extra}\n",
            folder.display()
        )
    });
    let text = format!("[link]\nrate_bps = 8_000_000\n{}", sources.collect::<String>());
    Config::parse(&text, Path::new(".")).unwrap_or_else(|why| panic!("{why:?}"))
}

pub(crate) fn open(config: Config, once: bool, is_followed: bool) -> Result<Broadcast, String> {
    Broadcast::open(config, once, is_followed, 1, WALL, &Preparation::default())
}

/// A media playlist with the given segments of 100 kB.
pub(crate) fn package(folder: &Path, segments: &[u32], is_live: bool) {
    let mut list = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n".to_owned();
    list += &format!("#EXT-X-MEDIA-SEQUENCE:{}\n", segments[0]);
    for at in segments {
        list += &format!("#EXTINF:2,\n{at}.ts\n");
        let file = folder.join(format!("{at}.ts"));
        if !file.exists() {
            fs::write(file, vec![*at as u8; 100_000]).unwrap();
        }
    }
    list += if is_live { "" } else { "#EXT-X-ENDLIST\n" };
    fs::write(folder.join("live.m3u8"), list).unwrap();
}

fn uris(broadcast: &Broadcast) -> Vec<&str> {
    broadcast.air.objects().map(|(_, object)| object.uri.as_str()).collect()
}

#[test]
fn a_source_without_files_ends_nothing_while_another_has_some() {
    let folder = tempfile::tempdir().unwrap();
    let [full, empty, missing] = ["full", "empty", "missing"].map(|name| folder.path().join(name));
    fs::create_dir(&full).unwrap();
    fs::create_dir(&empty).unwrap();
    package(&full, &[1], false);
    let both = open(config(&[&empty, &full], ""), true, false).unwrap();
    assert!(uris(&both).contains(&"https://cdn.example.com/1/1.ts"));
    assert_eq!(both.problems().next().unwrap().0, "empty");
    assert!(open(config(&[&empty], ""), true, false).is_err(), "nothing at all to send");
    // A single pass takes the files that exist: a missing folder is a mistake. Following waits for it.
    assert!(open(config(&[&missing, &full], ""), true, false).is_err());
    let followed = open(config(&[&missing], ""), false, true).unwrap();
    assert_eq!(followed.problems().next().unwrap().0, "missing");
    let followed = open(config(&[&missing, &full], ""), false, true).unwrap();
    assert!(uris(&followed).contains(&"https://cdn.example.com/1/1.ts"));
}

#[test]
fn live_manifests_expire_at_once_and_all_else_as_configured() {
    let folder = tempfile::tempdir().unwrap();
    package(folder.path(), &[1], true);
    let expiry = |extra: &str, end: &str| {
        let mut broadcast = open(config(&[folder.path()], extra), false, true).unwrap();
        broadcast.held.iter_mut().for_each(|held| held.behind.clear());
        broadcast.release_held().unwrap();
        let found = broadcast.air.objects().find(|(_, object)| object.uri.ends_with(end));
        found.unwrap().1.expiry_s
    };
    assert_eq!(expiry("reserved_bps = 4_000_000\nexpiry_s = 500", ".m3u8"), Some(1));
    assert_eq!(expiry("reserved_bps = 4_000_000\nexpiry_s = 500", ".ts"), Some(500));
    assert_eq!(expiry("expiry_s = 500", ".m3u8"), Some(500));
    assert_eq!(expiry("", ".m3u8"), Some(86_400));
}

#[test]
fn a_rendition_whose_segments_are_all_new_keeps_its_session() {
    let folder = tempfile::tempdir().unwrap();
    package(folder.path(), &[1, 2], true);
    let extra = "reserved_bps = 4_000_000";
    let mut broadcast = open(config(&[folder.path()], extra), false, true).unwrap();
    package(folder.path(), &[7, 8], true);
    let inventory = read_source(&broadcast.config.sources[0], false).unwrap();
    let removed = vec!["1.ts".to_owned(), "2.ts".to_owned()];
    broadcast.apply(Update::Changed { source: 0, inventory, removed }, WALL).unwrap();
    assert_eq!(broadcast.sources[0].sessions.len(), 1);
}

#[test]
fn pieces_stay_in_the_session_of_their_rendition_when_its_window_has_moved() {
    let folder = tempfile::tempdir().unwrap();
    package(folder.path(), &[1, 2], true);
    let extra = "reserved_bps = 4_000_000\nchunk_ms = 100";
    let mut broadcast = open(config(&[folder.path()], extra), false, true).unwrap();
    package(folder.path(), &[7, 8], true);
    let inventory = read_source(&broadcast.config.sources[0], false).unwrap();
    let removed = vec!["1.ts".to_owned(), "2.ts".to_owned()];
    broadcast.apply(Update::Changed { source: 0, inventory, removed }, WALL).unwrap();
    // Opened before the window moved.
    let bytes = (0, vec![0x47; 188], false);
    let (piece, whole_repair) = prepare_piece(&broadcast.config, 0, bytes, || None);
    let piece = PreparedPiece {
        path: "9.ts".to_owned(),
        like: "2.ts".to_owned(),
        content_type: "video/mp2t",
        piece,
        whole_repair,
    };
    broadcast.apply(Update::Piece { source: 0, piece: Box::new(piece) }, WALL).unwrap();
    assert_eq!((broadcast.sources[0].sessions.len(), broadcast.sources[0].other), (1, None));
    assert_eq!(broadcast.pieces(0).count(), 1);
}

struct Nothing;
impl Observer for Nothing {}

/// One update of a live source at a time.
struct Later(std::cell::RefCell<VecDeque<Update>>);
impl Updates for Later {
    fn poll(&self) -> Result<Option<Update>, Ended> {
        Ok(self.0.borrow_mut().pop_front())
    }
    fn report_lost(&self, files: Vec<(usize, String)>) {
        assert!(files.is_empty(), "{files:?}");
    }
}

/// TOIs of a broadcast by the last part of their URI, in the order of their last new packet, in virtual time.
fn order(broadcast: Broadcast, updates: Vec<Update>, seconds: u64) -> Vec<(String, u64)> {
    let line = Line::open(broadcast.config(), false, true, WALL).unwrap();
    let mut transmission = Transmission::new(broadcast, line, End::At { ns: seconds * 1_000_000_000 });
    let mut receivers = HashMap::new();
    let mut complete = Vec::new();
    let updates = Later(std::cell::RefCell::new(updates.into()));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut take = |to: SocketAddr, payload: &[u8], now_ns: u64| {
        let packet = Packet::parse(payload).unwrap();
        let receiver = receivers
            .entry((to, packet.lct.tsi))
            .or_insert_with(|| carousel::flute::Receiver::new(carousel::flute::ReceiverConfig::default()));
        let now = carousel::time::Instant::from_nanos(now_ns);
        receiver.handle_packet(now, Some(WALL), &packet, payload, &mut carousel::flute::MemoryStorage);
        while let Some(event) = receiver.poll_event() {
            if let carousel::flute::Event::Complete { file, .. } = event {
                let name = file.content_location.rsplit('/').next().unwrap_or_default().to_owned();
                complete.push((name, now_ns));
            }
        }
        Ok(())
    };
    transmission.run(&VirtualClocks::new(WALL), &stop, Some(&updates), &mut Nothing, &mut take).unwrap();
    complete
}

#[test]
fn a_live_manifest_leaves_behind_the_newest_segment_that_it_names() {
    let folder = tempfile::tempdir().unwrap();
    package(folder.path(), &[1, 2, 3], true);
    let live = config(&[folder.path()], "reserved_bps = 2_000_000");
    let broadcast = open(live.clone(), false, true).unwrap();
    let known = broadcast.inventories().remove(0);
    package(folder.path(), &[2, 3, 4], true);
    let inventory = read_source(&live.sources[0], false).unwrap();
    let changes = package::changes(&known, &inventory);
    let mut updates = vec![Update::Changed { source: 0, inventory, removed: Vec::new() }];
    updates.extend(
        changes.added.iter().map(|object| Update::Ready {
            source: 0,
            prepared: Box::new(prepare(&live, 0, object).unwrap()),
        }),
    );
    updates.push(Update::Settled { source: 0 });
    let sent = order(broadcast, updates, 5);
    let first = |name: &str| sent.iter().position(|(sent, _)| sent == name).unwrap();
    let manifests = sent.iter().filter(|(name, _)| name == "live.m3u8").count();
    // 3 is the newest segment that the first manifest names.
    assert!(first("3.ts") < first("live.m3u8"), "{sent:?}");
    assert!(manifests >= 2, "both versions: {sent:?}");
    let second = sent.iter().enumerate().filter(|(_, (name, _))| name == "live.m3u8").nth(1).unwrap().0;
    assert!(first("4.ts") < second, "{sent:?}");
    assert!(first("3.ts") < first("1.ts"), "the newest first: {sent:?}");
}

#[test]
fn documents_are_complete_before_the_first_segment() {
    let folder = tempfile::tempdir().unwrap();
    package(folder.path(), &[1, 2, 3], false);
    let sent = order(open(config(&[folder.path()], ""), false, false).unwrap(), Vec::new(), 3);
    let names: Vec<&str> = sent.iter().map(|(name, _)| name.as_str()).collect();
    let media = names.iter().position(|name| name.ends_with(".ts")).unwrap();
    let documents = ["live.m3u8"];
    assert!(documents.iter().all(|name| names[..media].contains(name)), "{names:?}");
    assert!(media >= 4, "bootstrap, network, service and gateway documents: {names:?}");
}

/// A package of `count` renditions, each with a segment of its own.
fn ladder(folder: &Path, count: usize) {
    let mut main = "#EXTM3U\n".to_owned();
    for at in 0..count {
        main += &format!("#EXT-X-STREAM-INF:BANDWIDTH={},RESOLUTION=64x{}\n{at}.m3u8\n", 1000 + at, 36 + at);
        let list = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{at}.ts\n#EXT-X-ENDLIST\n");
        fs::write(folder.join(format!("{at}.m3u8")), list).unwrap();
        // One transport stream packet: anything else is left to the origin.
        let mut packet = [at as u8; 188];
        packet[..4].copy_from_slice(&[0x47, 0x1f, 0xff, 0x10]);
        fs::write(folder.join(format!("{at}.ts")), packet).unwrap();
    }
    fs::write(folder.join("main.m3u8"), main).unwrap();
}

#[test]
fn rungs_beyond_the_limit_share_the_last_session_and_are_all_announced() {
    let folder = tempfile::tempdir().unwrap();
    ladder(folder.path(), MAX_RUNG_SESSIONS + 6);
    let broadcast = open(config(&[folder.path()], ""), false, false).unwrap();
    let services = broadcast.services();
    let sessions = &services[0].sessions;
    assert_eq!(sessions.len(), MAX_RUNG_SESSIONS);
    let tsis: Vec<u64> = sessions.iter().map(|session| session.tsi).collect();
    assert!(tsis.iter().enumerate().all(|(at, tsi)| *tsi == RUNG_TSI_STEP * (at as u64 + 1)), "{tsis:?}");
    let components: Vec<usize> = sessions.iter().map(|session| session.components.len()).collect();
    assert_eq!((components[0], components[MAX_RUNG_SESSIONS - 1]), (1, 7), "{components:?}");
    let segments = uris(&broadcast).into_iter().filter(|uri| uri.ends_with(".ts")).count();
    assert_eq!(segments, MAX_RUNG_SESSIONS + 6, "and all are sent");
}

/// A live manifest, ready.
fn manifest(config: &Config, folder: &Path) -> Box<Prepared> {
    let inventory = read_source(&config.sources[0], false).unwrap();
    let found = inventory.objects.values().find(|object| object.path == "live.m3u8").cloned();
    let mut found = found.unwrap();
    found.bytes = Some(fs::read(folder.join("live.m3u8")).unwrap().into());
    Box::new(prepare(config, 0, &found).unwrap())
}

#[test]
fn manifests_held_back_are_bounded_and_the_oldest_goes_out_early() {
    let folder = tempfile::tempdir().unwrap();
    package(folder.path(), &[1, 2], true);
    let live = config(&[folder.path()], "reserved_bps = 1_000");
    let mut broadcast = open(live.clone(), false, true).unwrap();
    assert_eq!(broadcast.held.len(), 1, "segments are pending");
    let on_air =
        |broadcast: &Broadcast| uris(broadcast).iter().filter(|uri| uri.ends_with("live.m3u8")).count();
    assert_eq!(on_air(&broadcast), 0);
    for count in 2..=MAX_HELD {
        broadcast.apply(Update::Ready { source: 0, prepared: manifest(&live, folder.path()) }, WALL).unwrap();
        assert_eq!(broadcast.held.len(), count);
    }
    broadcast.release_held().unwrap();
    assert_eq!((broadcast.held.len(), on_air(&broadcast)), (MAX_HELD, 0), "nothing has been sent");
    broadcast.apply(Update::Ready { source: 0, prepared: manifest(&live, folder.path()) }, WALL).unwrap();
    assert_eq!((broadcast.held.len(), on_air(&broadcast)), (MAX_HELD, 1));
    // When the segments are gone, all that is held goes out, each in the place of the one before.
    for id in broadcast.sources[0].items.values().copied().collect::<Vec<_>>() {
        broadcast.air.withdraw(id);
    }
    broadcast.release_held().unwrap();
    assert_eq!((broadcast.held.len(), on_air(&broadcast)), (0, 1));
}

#[test]
fn a_manifest_that_is_removed_while_it_is_held_never_goes_out() {
    let folder = tempfile::tempdir().unwrap();
    package(folder.path(), &[1, 2], true);
    let mut broadcast = open(config(&[folder.path()], "reserved_bps = 1_000"), false, true).unwrap();
    let inventory = broadcast.inventories().remove(0);
    let removed = vec!["live.m3u8".to_owned(), "1.ts".to_owned(), "unknown".to_owned()];
    let followed = broadcast.apply(Update::Changed { source: 0, inventory, removed }, WALL).unwrap();
    assert_eq!((followed, broadcast.held.len()), (UpdateCounts { added: 0, removed: 1 }, 0));
    assert!(!uris(&broadcast).iter().any(|uri| uri.ends_with("/1.ts")));
}

#[test]
fn files_that_left_the_air_are_told_once_with_their_source() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    for folder in [&one, &two] {
        fs::create_dir(folder).unwrap();
        package(folder, &[1, 2], false);
    }
    let mut broadcast = open(config(&[&one, &two], ""), false, false).unwrap();
    assert!(broadcast.lost().is_empty());
    let id = broadcast.sources[1].items["2.ts"];
    broadcast.air.withdraw(id);
    assert_eq!(broadcast.lost(), [(1, "2.ts".to_owned())]);
    assert!(broadcast.lost().is_empty());
}

#[test]
fn documents_are_sent_again_when_they_change_or_when_all_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    package(folder.path(), &[1], false);
    let mut broadcast = open(config(&[folder.path()], ""), false, false).unwrap();
    let documents = broadcast.announcements(WALL).len() as u64;
    let generation = broadcast.air.generation();
    broadcast.apply(Update::Settled { source: 0 }, WALL.plus_ms(60_000)).unwrap();
    assert_eq!(broadcast.air.generation(), generation, "a later date alone is not a change");
    broadcast.refresh(WALL.plus_ms(60_000)).unwrap();
    assert_eq!(broadcast.air.generation(), generation + 2 * documents);
    // A new manifest is named in the gateway configuration and in the service information.
    let mut inventory = broadcast.inventories().remove(0);
    let mut second = inventory.presentations[0].clone();
    second.manifest = "second.m3u8".to_owned();
    inventory.presentations.push(second);
    broadcast.apply(Update::Changed { source: 0, inventory, removed: Vec::new() }, WALL).unwrap();
    let generation = broadcast.air.generation();
    broadcast.apply(Update::Settled { source: 0 }, WALL).unwrap();
    assert_eq!(broadcast.air.generation(), generation + 2 * 2);
    let configuration = broadcast.announcements(WALL).pop().unwrap();
    assert!(String::from_utf8(configuration.bytes).unwrap().contains("/second.m3u8"));
}

#[test]
fn a_large_catalogue_is_repeated_so_seldom_that_it_takes_a_twentieth() {
    let folder = tempfile::tempdir().unwrap();
    package(folder.path(), &[1], false);
    let text = format!(
        "[link]\nrate_bps = 8_000_000\n[dvb_i]\nbase = \"https://own.example.com/\"\ninterval_ms = 2000\n\
         [[source]]\npath = {:?}\nbase = \"https://cdn.example.com/0/\"\n",
        folder.path().display()
    );
    let config = Config::parse(&text, Path::new(".")).unwrap();
    let mut broadcast = open(config, false, false).unwrap();
    let period = |broadcast: &Broadcast, uri: &str| {
        let found = broadcast.air.objects().find(|(_, object)| object.uri == uri);
        found.map(|(_, object)| object.repeat)
    };
    let list = broadcast.catalog().documents[0].clone();
    assert_eq!(period(&broadcast, &list.uri), Some(Repeat::Within { ms: 2000 }));
    let kept = broadcast.air.objects().find(|(_, object)| object.uri == list.uri).unwrap().0;
    let offering = broadcast.catalog().offering.clone();
    let big = Announcement {
        uri: "https://own.example.com/big".to_owned(),
        bytes: vec![1; 500_000],
        ..list.clone()
    };
    let documents = vec![list.clone(), big.clone()];
    let bytes = (list.bytes.len() + 500_000) as u64;
    let made = |documents| {
        Box::new(CatalogDocuments { documents, offering: offering.clone(), ..Default::default() })
    };
    broadcast.apply(Update::Catalog(made(documents)), WALL).unwrap();
    assert_eq!(period(&broadcast, &big.uri), Some(Repeat::Within { ms: bytes * 8000 / 400_000 }));
    assert!(broadcast.air.has(kept), "what is the same stays");
    broadcast.apply(Update::Catalog(made(vec![list])), WALL).unwrap();
    assert_eq!(period(&broadcast, &big.uri), None, "what is gone leaves");
}

#[test]
fn a_reserve_below_the_peak_of_the_ladder_is_told_once_and_when_the_packager_comes() {
    let folder = tempfile::tempdir().unwrap();
    package(folder.path(), &[1, 2, 3], true);
    fs::write(folder.path().join("3.ts"), vec![3; 200_000]).unwrap();
    // 200 kB in two seconds are 143 packets of 1,400 bytes and 64 more each.
    let told = |reserved: &str, fec: &str| {
        let mut config = config(&[folder.path()], &format!("reserved_bps = {reserved}"));
        if !fec.is_empty() {
            config.fec = Config::parse(
                &format!(
                    "[link]\nrate_bps = 8_000_000\n[[source]]\npath = '/x'\nbase = 'http://h/v/'\n{fec}"
                ),
                Path::new("."),
            )
            .unwrap()
            .fec;
        }
        let mut broadcast = open(config, false, true).unwrap();
        let warnings = broadcast.take_warnings();
        assert!(broadcast.take_warnings().is_empty());
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(told("840_000", ""), Vec::<String>::new());
    let low = told("830_000", "");
    assert!(low.len() == 1 && low[0].contains("reserved_bps is 830"), "{low:?}");
    let with_repair =
        told("840_000", "[fec.medium]\ncode = 'raptorq'\noverhead_percent = 30\nleast_repair = 12\n");
    assert!(with_repair.len() == 1 && with_repair[0].contains("1.1 Mbit/s"), "{with_repair:?}");
    // Each of the twenty pieces of FLUTE has repair symbols and descriptions of its own; those of ROUTE share the segment's.
    let fec = "[fec.medium]\ncode = 'raptorq'\noverhead_percent = 30\nleast_repair = 12\n";
    let in_pieces = told("2_000_000\nchunk_ms = 100", fec);
    assert!(in_pieces.len() == 1 && in_pieces[0].contains("2.3 Mbit/s"), "{in_pieces:?}");
    assert!(told("2_000_000\nchunk_ms = 100\nprotocol = 'route'", fec).is_empty());
    let vod = config(&[folder.path()], "");
    assert!(open(vod, false, true).unwrap().take_warnings().is_empty());
    // A packager that comes later.
    let later = tempfile::tempdir().unwrap();
    let live = config(&[later.path()], "reserved_bps = 1_000");
    let mut broadcast = open(live.clone(), false, true).unwrap();
    assert!(broadcast.take_warnings().is_empty());
    package(later.path(), &[1], true);
    let change = || Update::Changed {
        source: 0,
        inventory: read_source(&live.sources[0], false).unwrap(),
        removed: Vec::new(),
    };
    broadcast.apply(change(), WALL).unwrap();
    assert_eq!(broadcast.take_warnings().len(), 1);
    broadcast.apply(change(), WALL).unwrap();
    assert!(broadcast.take_warnings().is_empty(), "once");
}

#[test]
fn manifests_of_one_source_do_not_wait_for_those_of_another() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    folders.iter().for_each(|folder| package(folder.path(), &[1, 2], true));
    let live = config(&[folders[0].path(), folders[1].path()], "reserved_bps = 2_000_000");
    let mut broadcast = open(live.clone(), false, true).unwrap();
    let count = |broadcast: &Broadcast| uris(broadcast).iter().filter(|it| it.ends_with("live.m3u8")).count();
    assert_eq!((broadcast.held.len(), count(&broadcast)), (2, 0));
    // The newest segments go first, and older ones are not waited for.
    assert!(broadcast.held.iter().all(|held| held.behind.len() == 1));
    let (mut out, mut now_ns) = (Vec::new(), 0);
    let sent_of_second = |broadcast: &Broadcast| !broadcast.held.iter().any(|held| held.source == 1);
    // The first source's segment is not sent: as if its reserve were used up.
    for id in broadcast.held[0].behind.clone() {
        broadcast.sources[0].items.retain(|_, of| *of != id);
        broadcast.held[0].behind = vec![id];
        broadcast.air.withdraw(id);
        let again = AirObject::of_bytes("x", &[0; 4_000_000], Repeat::Live(LiveTiming::of(0, Some(60_000))));
        broadcast.held[0].behind = vec![broadcast.air.add(0, again).unwrap()];
    }
    while !sent_of_second(&broadcast) {
        assert!(now_ns < 2_000_000_000, "the second source's manifest waits");
        broadcast.air.next_packet(now_ns, WALL, &mut out);
        now_ns += 1_000_000;
        broadcast.release_held().unwrap();
    }
    assert_eq!((broadcast.held.len(), count(&broadcast)), (1, 1));
}

/// Documents that offer firmware, as a receiver reads them.
fn offers(broadcast: &Broadcast) -> Option<Vec<carousel::firmware::Offer>> {
    let document = broadcast.air.objects().find(|(_, it)| it.uri == carousel::firmware::URI)?;
    let Body::Memory(bytes) = &document.1.body else { return None };
    let sealed = carousel::trust::open(bytes).unwrap().unwrap();
    assert!(sealed.is_genuine(SealKind::Firmware));
    Some(carousel::firmware::read(bytes).unwrap())
}

#[test]
fn firmware_on_offer_is_carried_and_announced_until_it_is_withdrawn() {
    use crate::prepare::{Bundle, PreparedRelease, prepare_bundle};
    use crate::releases::{self, tests::release};
    let folder = tempfile::tempdir().unwrap();
    let mut config = releases::tests::config(folder.path());
    package(&folder.path().join("film"), &[1], false);
    let (secret, online) = ([1; 32], carousel::trust::SecretKey::from_seed(&[2; 32]));
    let root = carousel::trust::SecretKey::from_seed(&secret);
    let certificate =
        carousel::trust::Certificate::issue(&root, online.public(), (0, 1), (0, 1 << 40), Vec::new());
    config.sealer = carousel::trust::Sealer::new(online, certificate, None, 0);
    let mut broadcast = open(config.clone(), false, true).unwrap();
    assert_eq!(offers(&broadcast), None);
    let one = releases::add(&config, release(folder.path(), "1.5", &[5; 70_000]), 50).unwrap();
    let two = releases::add(&config, release(folder.path(), "1.6", &[6; 90_000]), 50).unwrap();
    let prepared = |release: &releases::Release| PreparedRelease {
        release: release.clone(),
        bundle: prepare_bundle(&config, release),
    };
    let both = vec![prepared(&one), prepared(&two)];
    broadcast.apply(Update::Firmware(both), WALL).unwrap();
    assert_eq!(offers(&broadcast).unwrap(), [one.offer.clone(), two.offer.clone()]);
    let carried = |broadcast: &Broadcast| {
        let bundles = broadcast.air.objects().filter(|(_, it)| it.repeat == Repeat::Share);
        bundles.map(|(id, it)| (id, it.digest, it.uri.clone())).collect::<Vec<_>>()
    };
    let before = carried(&broadcast);
    assert_eq!(broadcast.bundles(), 2);
    assert_eq!(before.iter().map(|it| it.1).collect::<Vec<_>>(), [one.offer.sha256, two.offer.sha256]);
    assert!(before.iter().all(|it| it.2.starts_with("https://cdn.example.com/firmware/1.")));
    // A greater share is another document and the same transmission.
    let (_, wider) = releases::set_share(&config, &one.id(), 5000, 50).unwrap();
    let known =
        |release: &releases::Release| PreparedRelease { release: release.clone(), bundle: Bundle::Same };
    broadcast.apply(Update::Firmware(vec![known(&wider), known(&two)]), WALL).unwrap();
    assert_eq!(offers(&broadcast).unwrap()[0].share, 5000);
    assert_eq!(carried(&broadcast), before);
    // A file that is not what was offered any more.
    fs::write(&one.path, [7; 70_000]).unwrap();
    assert!(matches!(prepare_bundle(&config, &one), Bundle::Unusable));
    broadcast.apply(Update::Firmware(vec![known(&two)]), WALL).unwrap();
    assert_eq!(carried(&broadcast), before[1..]);
    broadcast.apply(Update::Firmware(vec![prepared(&one)]), WALL).unwrap();
    assert!(broadcast.take_warnings()[0].text.contains("is not the file that was offered"));
    assert_eq!(offers(&broadcast), Some(Vec::new()), "receivers that have begun come by its end");
    assert!(carried(&broadcast).is_empty());

    // The file is as it was offered again; then it is touched, and the same transmission continues.
    fs::write(&one.path, [5; 70_000]).unwrap();
    broadcast.apply(Update::Firmware(vec![prepared(&one)]), WALL).unwrap();
    let first = carried(&broadcast);
    broadcast.apply(Update::Firmware(vec![prepared(&one)]), WALL).unwrap();
    assert_eq!(carried(&broadcast), first);
    // Its bytes are rewritten: what was opened before could not be sent any more.
    fs::write(&one.path, [5; 70_000]).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
    fs::File::options().write(true).open(&one.path).unwrap().set_modified(later).unwrap();
    broadcast.apply(Update::Firmware(vec![prepared(&one)]), WALL).unwrap();
    let again = carried(&broadcast);
    assert!(again.len() == 1 && again[0].0 != first[0].0, "{again:?}");

    // Offered again under another name, and in another session: another object each time, and no other.
    let renamed = folder.path().join("1.5 final.raucb");
    fs::rename(&one.path, &renamed).unwrap();
    let mut other = one.clone();
    (other.path, other.offer.url) =
        (renamed.clone(), releases::url("https://cdn.example.com/firmware/", &renamed).unwrap());
    broadcast.apply(Update::Firmware(vec![prepared(&other)]), WALL).unwrap();
    let of = |broadcast: &Broadcast| carried(broadcast).into_iter().map(|it| it.2).collect::<Vec<_>>();
    assert_eq!(of(&broadcast), ["https://cdn.example.com/firmware/1.5%20final.raucb"]);
    let before = carried(&broadcast)[0].0;
    other.offer.session = other.offer.session.map(|(group, tsi)| (group, tsi + 7));
    broadcast.apply(Update::Firmware(vec![prepared(&other)]), WALL).unwrap();
    assert!(carried(&broadcast).len() == 1 && carried(&broadcast)[0].0 != before);
    assert_eq!(offers(&broadcast).unwrap()[0].session, other.offer.session);
    // The same bytes for two kinds of hardware leave the air one by one.
    let copy = folder.path().join("1.5-b.raucb");
    fs::copy(&renamed, &copy).unwrap();
    let mut twin = other.clone();
    (twin.offer.compatible, twin.path) = ("other".to_owned(), copy);
    twin.offer.url = "https://cdn.example.com/firmware/1.5-b.raucb".to_owned();
    twin.offer.session = twin.offer.session.map(|(group, tsi)| (group, tsi + 1));
    broadcast.apply(Update::Firmware(vec![known(&other), prepared(&twin)]), WALL).unwrap();
    assert_eq!(carried(&broadcast).len(), 2);
    broadcast.apply(Update::Firmware(vec![known(&twin)]), WALL).unwrap();
    assert_eq!(of(&broadcast), [twin.offer.url]);
    broadcast.apply(Update::Firmware(Vec::new()), WALL).unwrap();
    assert!(carried(&broadcast).is_empty());
}

/// A package with one more rendition, and files that belong to none.
fn second_rendition(folder: &Path) {
    let sub = folder.join("sub");
    fs::create_dir_all(&sub).unwrap();
    package(&sub, &[11, 12], true);
}

/// A rendition that comes later, and the first object of no rendition: nothing of their sessions is sent before receivers can know
/// them from the configuration.
#[test]
fn a_session_that_is_opened_late_is_silent_until_the_configuration_names_it() {
    use carousel::flute::{Event, MemoryStorage, Receiver, ReceiverConfig};
    for protocol in ["flute", "route"] {
        let folder = tempfile::tempdir().unwrap();
        package(folder.path(), &[1, 2], true);
        let extra = format!("reserved_bps = 4_000_000\nprotocol = '{protocol}'\ninclude_unreferenced = true");
        let broadcast = open(config(&[folder.path()], &extra), false, true).unwrap();
        let config = broadcast.config.clone();
        let known = broadcast.inventories().remove(0);
        second_rendition(folder.path());
        fs::write(folder.path().join("logo.png"), [1; 5000]).unwrap();
        let inventory = read_source(&config.sources[0], false).unwrap();
        let added = package::changes(&known, &inventory).added;
        // As the follower reports them: all are prepared before the source is settled.
        let mut updates = vec![Update::Changed { source: 0, inventory, removed: Vec::new() }];
        updates.extend(added.iter().map(|object| {
            let prepared = Box::new(prepare(&config, 0, object).unwrap());
            Update::Ready { source: 0, prepared }
        }));
        let media = config.media_address(0);
        let configuration = config.sessions.configuration;
        let line = Line::open(&config, false, true, WALL).unwrap();
        let mut transmission = Transmission::new(broadcast, line, End::At { ns: 6_000_000_000 });
        let later = Later(std::cell::RefCell::new(updates.into()));
        let mut receiver = Receiver::new(ReceiverConfig::default());
        let (mut named_ns, mut first_ns) = (BTreeMap::new(), BTreeMap::new());
        transmission
            .run(
                &VirtualClocks::new(WALL),
                &std::sync::atomic::AtomicBool::new(false),
                Some(&later),
                &mut Nothing,
                &mut |to: SocketAddr, payload: &[u8], now_ns: u64| {
                    let packet = Packet::parse(payload).unwrap();
                    let tsi = packet.lct.tsi.unwrap().0;
                    if to == media && packet.lct.toi.is_some_and(|toi| toi.0 != 0) {
                        first_ns.entry(tsi).or_insert(now_ns);
                    }
                    if to != configuration || tsi != CONFIGURATION_TSI {
                        return Ok(());
                    }
                    let now = carousel::time::Instant::from_nanos(now_ns);
                    receiver.handle_packet(now, Some(WALL), &packet, payload, &mut MemoryStorage);
                    while let Some(event) = receiver.poll_event() {
                        let Event::Complete { file, buf, .. } = event else { continue };
                        if file.content_location == carousel::mabr::CONFIGURATION_URI {
                            let text = String::from_utf8_lossy(&buf.bytes).into_owned();
                            for tsi in [2, 10, 20] {
                                if text.contains(&format!("\"s0-{tsi}\"")) {
                                    named_ns.entry(tsi).or_insert(now_ns);
                                }
                            }
                        }
                    }
                    Ok(())
                },
            )
            .unwrap();
        assert_eq!(named_ns.keys().copied().collect::<Vec<_>>(), [2, 10, 20], "{protocol}");
        for tsi in [2, 20] {
            let wait_ns = first_ns[&tsi].checked_sub(named_ns[&tsi]);
            assert!(
                wait_ns.is_some_and(|it| it >= 400_000_000),
                "{protocol} {tsi}: {named_ns:?} {first_ns:?}"
            );
        }
    }
}

#[test]
fn every_source_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    fs::create_dir(&there).unwrap();
    fs::write(there.join("a.ts"), "x").unwrap();
    let source = |name: &str| {
        format!("[[source]]\npath = '{name}'\nbase = 'http://h/{name}/'\ninclude_unreferenced = true\n")
    };
    let sources = source("gone") + &source("there") + &source("away");
    let config = Config::parse(&format!("link.rate_bps = 1_000_000\n{sources}"), folder.path()).unwrap();
    let why = Broadcast::open(config.clone(), true, false, 1, WALL, &Preparation::default()).unwrap_err();
    assert!(why.contains("/gone: ") && why.contains("/away: ") && !why.contains("/there: "), "{why}");
    let followed = Broadcast::open(config, false, true, 1, WALL, &Preparation::default());
    assert!(followed.is_ok(), "their folders may come later");
}

#[test]
fn the_manifest_of_a_first_start_with_a_lease_does_not_wait_for_the_whole_window() {
    let folder = tempfile::tempdir().unwrap();
    let window: Vec<u32> = (1..=60).collect();
    package(folder.path(), &window, true);
    let mut broadcast = open(config(&[folder.path()], "reserved_bps = 4_000_000"), false, true).unwrap();
    broadcast.air.stand_by();
    // A segment later, before the lease is held.
    let window: Vec<u32> = (2..=61).collect();
    package(folder.path(), &window, true);
    let inventory = read_source(&broadcast.config.sources[0], false).unwrap();
    let package::Changes { added, removed, .. } =
        package::changes(&broadcast.sources[0].inventory, &inventory);
    broadcast.apply(Update::Changed { source: 0, inventory, removed }, WALL).unwrap();
    for object in &added {
        let prepared = Box::new(prepare(&broadcast.config, 0, object).unwrap());
        broadcast.apply(Update::Ready { source: 0, prepared }, WALL).unwrap();
    }
    broadcast.go_on(1_500_000_000, WALL, &HashMap::new(), 0).unwrap();
    let (mut now_ns, mut out, mut is_sent) = (1_500_000_000, Vec::new(), false);
    while !is_sent {
        assert!(now_ns < 2_500_000_000, "it waits for what players do not begin at");
        broadcast.release_held().unwrap();
        match broadcast.air.next_packet(now_ns, WALL, &mut out) {
            Some(_) => now_ns += (out.len() as u64 + 28) * 1000,
            None => now_ns += 1_000_000,
        }
        let manifest = broadcast.air.objects().find(|(_, it)| it.uri.ends_with(".m3u8")).map(|it| it.0);
        is_sent = manifest.is_some_and(|id| !broadcast.air.is_pending(id));
    }
    let segments = broadcast.air.objects().filter(|(_, it)| it.repeat.is_live());
    let pending = segments.filter(|(id, _)| broadcast.air.is_pending(*id)).count();
    assert!(pending > 30, "{pending}: the rest of the window comes behind it");
}

#[test]
fn two_sources_with_different_files_of_one_name_are_refused_and_disjoint_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str, file: &str| {
        let folder = dir.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), name).unwrap();
        folder
    };
    let refusal = |sources: &[(&Path, &str)]| {
        let tables = sources.iter().map(|(path, base)| {
            format!("[[source]]\npath = '{}'\nbase = 'https://cdn.example.com/{base}'\n", path.display())
        });
        let text = format!("link.rate_bps = 8_000_000\n{}", tables.collect::<String>());
        let config = Config::parse(&text, Path::new("/")).unwrap();
        Broadcast::open(config, false, true, 1, WALL, &Preparation::default()).err()
    };
    let (one, other, apart) = (at("one", "a.ts"), at("other", "a.ts"), at("apart", "b.ts"));
    let why = refusal(&[(&one, "v/"), (&other, "v/")]).unwrap();
    assert!(
        why.starts_with("sources one (")
            && why.contains(" and other (")
            && why.contains("https://cdn.example.com/v/a.ts,"),
        "{why}"
    );
    assert_eq!(refusal(&[(&one, "v/"), (&apart, "v/")]), None, "names that are apart");
    assert_eq!(refusal(&[(&one, "v/"), (&other, "w/")]), None, "bases that are apart");
    assert_eq!(refusal(&[(&one, "v/"), (&one, "v/")]), None, "the same file");
    // The folder of one is below that of the other.
    at("above/v", "a.ts");
    assert!(refusal(&[(&one, "v/"), (&dir.path().join("above"), "")]).unwrap().contains("/v/a.ts"));
}
