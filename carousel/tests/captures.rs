//! Every capture of foreign senders against its truth: objects of FLUTE, segments joined of FLUTE chunks, objects of ROUTE.
//! The captures are not part of the repository; without them the tests say that they were skipped.

// Recordings are files, and a skipped test is reported.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use carousel::Digest;
use carousel::alc::Packet;
use carousel::capture::{Datagrams, Records};
use carousel::flute::{self, Joined, Joiner, MemoryBuf, MemoryStorage, SessionKey, Sessions, verify};
use carousel::growing::End;
use carousel::route;
use carousel::time::Instant;

/// Name, length and SHA-256.
type Row = (String, u64, String);

fn captures() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: {} is absent", folder.display());
    None
}

/// Name of a signalling package in truth tables, whose lengths are those of the packages or of what is in them.
const PACKAGE: &str = "[SLS bundle]";

/// A truth table by the names of its columns.
fn truth(path: &Path) -> BTreeSet<Row> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap().trim_start_matches('#').split('\t').collect();
    let column = |names: &[&str]| head.iter().position(|it| names.contains(it)).unwrap();
    let (url, size) = (column(&["url"]), column(&["size", "content_size"]));
    let sha = column(&["sha256", "sha256(decoded)"]);
    lines
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .map(|row| {
            let length = if row[url] == PACKAGE { 0 } else { row[size].parse().unwrap() };
            (row[url].to_owned(), length, row[sha].to_owned())
        })
        .collect()
}

fn row(name: &str, bytes: &[u8]) -> Row {
    (name.to_owned(), bytes.len() as u64, Digest::of(bytes).to_hex())
}

#[derive(Default)]
struct Got {
    flute: BTreeSet<Row>,
    joined: BTreeMap<Row, End>,
    route: BTreeMap<Row, End>,
    failed: Vec<String>,
}

fn joined(joiner: &mut Joiner, got: &mut Got) {
    while let Some(event) = joiner.poll_event() {
        match event {
            Joined::Complete { file, bytes, end } => {
                got.joined.insert(row(&file.content_location, &bytes), end);
            }
            Joined::Failed(file, why) => got.failed.push(format!("{} {why}", file.content_location)),
            Joined::Begun(_) => {}
        }
    }
}

fn routed(receiver: &mut route::Receiver, got: &mut Got) {
    while let Some(event) = receiver.poll_event() {
        match event {
            route::Event::Complete { file, bytes, end, .. } => {
                got.route.insert(row(&file.content_location, &bytes), end);
            }
            route::Event::Package { bytes, .. } => {
                let unpacked = route::package::unpack(&bytes).unwrap();
                let sha = format!("-(decompressed bundle) {}", Digest::of(&unpacked).to_hex());
                got.route.insert((PACKAGE.to_owned(), 0, sha), End::Length);
            }
            route::Event::Failed { file, why, .. } => {
                got.failed.push(format!("{:?} {why}", file.map(|it| it.content_location.clone())));
            }
            _ => {}
        }
    }
}

fn receive(path: &Path) -> Got {
    let bytes = std::fs::read(path).unwrap();
    let mut datagrams = Datagrams::new(Records::new(&bytes).unwrap());
    let mut got = Got::default();
    let mut recognizer = route::Recognizer::default();
    let mut sessions = Sessions::<MemoryBuf>::default();
    let mut joiners: BTreeMap<SessionKey, Joiner> = BTreeMap::new();
    let mut routes = BTreeMap::new();
    while let Some((time_ns, datagram)) = datagrams.next_datagram() {
        let now = Instant::from_nanos(time_ns);
        let Ok(packet) = Packet::parse(datagram.payload) else { continue };
        let (source, destination) = (datagram.source.ip(), datagram.destination);
        if recognizer.is_route(source, destination, &packet) {
            let receiver = routes
                .entry((source, destination))
                .or_insert_with(|| route::Receiver::new(route::ReceiverConfig::default(), destination));
            receiver.handle_packet(now, &packet, datagram.payload.len());
            receiver.handle_timeout(now);
            routed(receiver, &mut got);
            continue;
        }
        let key = SessionKey { source, destination, tsi: packet.lct.tsi.unwrap_or_default() };
        let receiver = sessions.get_or_open(key, |_| flute::ReceiverConfig::default(), |_, _| ());
        receiver.handle_packet(now, None, &packet, datagram.payload, &mut MemoryStorage);
        while let Some(event) = receiver.poll_event() {
            if let flute::Event::Complete { file, buf, .. } = event {
                let content = verify(&file, &buf.bytes).unwrap();
                let bytes = content.decoded.unwrap_or(buf.bytes);
                got.flute.insert(row(&file.content_location, &bytes));
                let joiner = joiners.entry(key).or_default();
                joiner.chunk(now, &file, &bytes);
                joined(joiner, &mut got);
            }
        }
    }
    for joiner in joiners.values_mut() {
        joiner.close();
        joined(joiner, &mut got);
    }
    for receiver in routes.values_mut() {
        receiver.close();
        routed(receiver, &mut got);
        assert!(receiver.stats().reconcile());
    }
    got
}

#[test]
fn every_object_and_every_chunk_of_flute_is_byte_exact() {
    let Some(folder) = captures() else { return };
    for (capture, table) in [
        ("mabr_flute_hls/mabr_flute_hls.pcap", "mabr_flute_hls/objects.tsv"),
        ("rtlibflute_plain/rtlibflute_plain.pcap", "rtlibflute_plain/objects.tsv"),
        ("mabr_flute_ll2/mabr_flute_ll2.pcap", "mabr_flute_ll2/objects.tsv"),
        ("mabr_flute_ll2/noend.pcap", "mabr_flute_ll2/noend_objects.tsv"),
    ] {
        let got = receive(&folder.join(capture));
        assert_eq!(got.flute, truth(&folder.join(table)), "{capture}");
        assert!(got.route.is_empty(), "{capture}");
    }
}

#[test]
fn chunks_of_flute_are_joined_to_whole_segments() {
    let Some(folder) = captures() else { return };
    for (capture, table, marked) in [
        ("mabr_flute_ll2/mabr_flute_ll2.pcap", "mabr_flute_ll2/segments_reassembled.tsv", 9),
        ("mabr_flute_ll2/noend.pcap", "mabr_flute_ll2/noend_segments_reassembled.tsv", 1),
    ] {
        let got = receive(&folder.join(capture));
        let whole: BTreeSet<Row> = got.joined.keys().cloned().collect();
        assert_eq!(whole, truth(&folder.join(table)), "{capture}: {:?}", got.failed);
        let with_mark = got.joined.values().filter(|end| !end.is_guessed()).count();
        assert_eq!(with_mark, marked, "{capture}: {:?}", got.joined.values());
    }
    // Plain objects are not chunks.
    assert!(receive(&folder.join("mabr_flute_hls/mabr_flute_hls.pcap")).joined.is_empty());
}

#[test]
fn every_object_of_route_is_byte_exact() {
    let Some(folder) = captures() else { return };
    for (name, guessed) in [("route_dash", 0), ("route_ll", 1)] {
        let got = receive(&folder.join(name).join(format!("{name}.pcap")));
        let marked: BTreeSet<Row> =
            got.route.iter().filter(|(_, end)| !end.is_guessed()).map(|(row, _)| row.clone()).collect();
        let truth = truth(&folder.join(name).join("objects.tsv"));
        let missing: Vec<_> = truth.difference(&marked).collect();
        let more: Vec<_> = marked.difference(&truth).collect();
        assert!(
            missing.is_empty() && more.is_empty(),
            "{name}: missing {missing:#?}, too many {more:#?}, failed {:?}",
            got.failed
        );
        let without_mark: Vec<_> = got.route.iter().filter(|(_, end)| end.is_guessed()).collect();
        assert_eq!(without_mark.len(), guessed, "{name}: {without_mark:?}");
        assert!(got.flute.is_empty(), "{name}");
    }
}
