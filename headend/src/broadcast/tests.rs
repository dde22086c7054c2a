use std::fs;
use std::path::Path;

use carousel::alc::Packet;

use super::*;
use crate::clock::VirtualClocks;
use crate::line::Line;
use crate::transmit::{End, Observer, Transmission, Updates};

const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);

fn config(folders: &[&Path], extra: &str) -> Config {
    let sources = folders.iter().enumerate().map(|(at, folder)| {
        format!(
            "[[source]]\npath = {:?}\nbase = \"https://cdn.example.com/{at}/\"\n{extra}\n",
            folder.display()
        )
    });
    let text = format!("[link]\nrate_bps = 8_000_000\n{}", sources.collect::<String>());
    Config::parse(&text, Path::new(".")).unwrap_or_else(|why| panic!("{why:?}"))
}

fn open(config: Config, once: bool, is_followed: bool) -> Result<Broadcast, String> {
    Broadcast::open(config, once, is_followed, 1, WALL, |_, _| ())
}

/// A media playlist with the given segments of 100 kB.
fn package(folder: &Path, segments: &[u32], is_live: bool) {
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
    // A single pass takes what is there: a folder that is not is a mistake. Following waits for it.
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

struct Nothing;
impl Observer for Nothing {}

/// One update of a live source at a time.
struct Later(std::cell::RefCell<VecDeque<Update>>);
impl Updates for Later {
    fn poll(&self) -> Option<Update> {
        self.0.borrow_mut().pop_front()
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
        receiver.handle_packet(now, Some(WALL), &packet, payload, &mut Memory);
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

struct Memory;
impl carousel::flute::Storage for Memory {
    type Buf = Vec<u8>;
    fn open(
        &mut self,
        request: &carousel::flute::OpenRequest<'_>,
    ) -> Result<Vec<u8>, carousel::flute::Refusal> {
        Ok(vec![0; request.length as usize])
    }
    fn name(
        &mut self,
        _: &mut Vec<u8>,
        _: &std::sync::Arc<carousel::flute::File>,
    ) -> Result<(), carousel::flute::Refusal> {
        Ok(())
    }
    fn write(&mut self, buf: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
        buf[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }
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
    updates.push(Update::Settled);
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
