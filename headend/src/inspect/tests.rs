use super::*;
use std::collections::BTreeSet;

fn shared(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures").join(path);
    if !path.exists() {
        eprintln!("SKIPPED: {} is not here", path.display());
        return None;
    }
    Some(path)
}

fn inspect(path: &std::path::Path) -> Report {
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    run(&Source::File(path.to_owned()), Inspector::new(None), "", 0, None, &stop).unwrap()
}

/// Rows of a truth table: URL, length and SHA-256 of the decoded object.
fn truth(folder: &str) -> BTreeSet<(String, u64, String)> {
    let text = std::fs::read_to_string(shared(&format!("{folder}/objects.tsv")).unwrap()).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let column = |names: &[&str]| header.iter().position(|have| names.contains(have)).unwrap();
    let (url, size, sha) =
        (column(&["url"]), column(&["size", "content_size"]), column(&["sha256", "sha256(decoded)"]));
    lines
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .map(|row| (row[url].to_owned(), row[size].parse().unwrap(), row[sha].to_owned()))
        .collect()
}

#[test]
fn foreign_flute_sessions_yield_every_whole_object_byte_exact() {
    for folder in ["mabr_flute_hls", "rtlibflute_plain"] {
        let Some(path) = shared(&format!("{folder}/{folder}.pcap")) else { continue };
        let report = inspect(&path);
        let whole = report
            .objects
            .iter()
            .filter_map(|object| Some((object.uri.clone()?, object.length, object.digest?.to_hex())));
        assert_eq!(whole.collect::<BTreeSet<_>>(), truth(folder), "{folder}");
        assert!(
            report.sessions.iter().all(|session| session.protocol().0 == "FLUTE" && session.lost == 0),
            "{folder}"
        );
        assert!(report.objects.iter().all(|object| object.wrong.is_none()));
    }
}

#[test]
fn no_packet_of_a_foreign_capture_is_a_baseband_frame() {
    for name in [
        "mabr_flute_hls/mabr_flute_hls",
        "rtlibflute_plain/rtlibflute_plain",
        "route_dash/route_dash",
        "route_ll/route_ll",
        "mabr_flute_ll2/mabr_flute_ll2",
        "mabr_flute_ll2/noend",
    ] {
        let Some(path) = shared(&format!("{name}.pcap")) else { continue };
        let report = inspect(&path);
        assert!(report.streams.is_empty() && report.not_alc == 0, "{name}");
    }
}

#[test]
fn route_is_told_from_flute() {
    let Some(path) = shared("route_dash/route_dash.pcap") else { return };
    let report = inspect(&path);
    assert_eq!(report.sessions.len(), 5);
    for session in &report.sessions {
        assert_eq!(session.protocol(), ("ROUTE", "EXT_TOL"));
    }
}

#[test]
fn foreign_live_objects_are_joined_named_and_their_missing_ends_told() {
    // Captures with the number of whole segments, and of those without a mark of their end.
    for (name, segments, guessed) in [
        ("route_ll/route_ll", 10, 1),
        ("mabr_flute_ll2/mabr_flute_ll2", 9, 0),
        ("mabr_flute_ll2/noend", 6, 5),
    ] {
        let Some(path) = shared(&format!("{name}.pcap")) else { continue };
        let report = inspect(&path);
        let whole = |object: &&ObjectReport| {
            object.digest.is_some()
                && object.chunk_of.is_none()
                && object.uri.as_ref().is_some_and(|uri| uri.ends_with(".m4s"))
        };
        let ends: Vec<End> = report.objects.iter().filter(whole).filter_map(|object| object.end).collect();
        let without_mark = ends.iter().filter(|end| end.is_guessed()).count();
        assert_eq!((ends.len(), without_mark), (segments, guessed), "{name}");
        let table = to_table(&report);
        assert_eq!(table.matches("(no mark of its end)").count(), guessed, "{table}");
    }
}

#[test]
fn packets_split_between_datagrams_are_one_stream() {
    let stream = carousel::ts::null_packet().repeat(70);
    let (from, to) = ("10.0.0.1:9".parse().unwrap(), "239.1.1.1:5000".parse().unwrap());
    for size in [1316, 1472, 1000, 300] {
        let mut inspector = Inspector::new(None);
        // If datagrams are short, the first one decides.
        let (first, rest) = stream.split_at(1316);
        for (at, piece) in [first].into_iter().chain(rest.chunks(size)).enumerate() {
            inspector.datagram(at as u64, from, to, piece).unwrap();
        }
        let report = inspector.finish().unwrap();
        assert_eq!((report.streams.len(), report.streams[0].packets(), report.not_alc), (1, 70, 0), "{size}");
        assert_eq!(report.streams[0].split_packets() > 0, size != 1316, "{size}");
    }
}

const FROM: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::new(10, 0, 0, 1), 9));

fn group(port: u16) -> SocketAddr {
    SocketAddr::from(([239, 1, 1, 1], port))
}

/// A packet that closes a session.
fn close(tsi: u64) -> Vec<u8> {
    let mut out = Vec::new();
    carousel::flute::Sender::new(Tsi(tsi), carousel::flute::SenderProfile::default(), 1, 1)
        .write_close(&mut out);
    out
}

#[test]
fn a_recording_of_invented_sessions_has_a_bounded_report() {
    let mut inspector = Inspector::new(None);
    for tsi in 0..MAX_REPORTS as u64 {
        inspector.datagram(tsi, FROM, group(5000), &close(tsi)).unwrap();
    }
    // Sessions that made room for newer ones are in the report, and counted.
    let before = inspector.left_out;
    for tsi in [MAX_REPORTS as u64, MAX_REPORTS as u64 + 1, 0] {
        inspector.datagram(9_999, FROM, group(5000), &close(tsi)).unwrap();
    }
    let report = inspector.finish().unwrap();
    assert_eq!(report.sessions.len(), MAX_REPORTS);
    assert!(report.left_out >= before + 2, "{} after {before}", report.left_out);
    assert_eq!((report.sessions[0].packets, report.sessions[1].packets), (2, 1), "one that is known goes on");
}

#[test]
fn a_recording_of_many_streams_has_a_bounded_report() {
    let mut inspector = Inspector::new(None);
    let payload = carousel::ts::null_packet().repeat(7);
    for port in 0..MAX_STREAMS as u16 + 3 {
        inspector.datagram(u64::from(port), FROM, group(5000 + port), &payload).unwrap();
    }
    inspector.datagram(999, FROM, group(5000), &payload).unwrap();
    let report = inspector.finish().unwrap();
    assert_eq!((report.streams.len(), report.left_out), (MAX_STREAMS, 3));
    assert_eq!(report.streams[0].packets(), 14);
}

#[test]
fn memory_for_objects_is_bounded_and_given_back() {
    let mut memory = Memory::default();
    let partition = carousel::fec::Partition::new(&carousel::fec::Oti::no_code(8, 4, 2)).unwrap();
    let received = Arc::new(carousel::fec::SymbolMap::new(&partition));
    let mut open = |length| {
        memory.open(&OpenRequest { toi: Toi(1), length, file: None, is_proven: false, received: &received })
    };
    let held = open(1000).unwrap();
    assert_eq!(open(MAX_OPEN_BYTES - 999).unwrap_err(), Refusal::NoRoom);
    assert_eq!(open(1 << 40).unwrap_err(), Refusal::NoRoom);
    assert!(open(2000).is_ok());
    drop(held);
    assert_eq!(memory.open_bytes.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn what_the_report_leaves_out_is_not_extracted() {
    let folder = tempfile::tempdir().unwrap();
    let mut inspector = Inspector::new(Some(Extractor::new(folder.path()).unwrap()));
    let key = SessionKey { source: FROM.ip(), destination: group(5000), tsi: Tsi(1) };
    let file = File { content_location: "http://h/live.m4s".to_owned(), toi: Toi(1), ..File::default() };
    inspector.objects = vec![describe(key, &file, 0); MAX_OBJECTS];
    inspector.complete(key, 0.0, &file, b"bytes").unwrap();
    inspector.whole(key, 0.0, &file, b"bytes", Some(End::Length)).unwrap();
    assert_eq!((inspector.objects.len(), inspector.left_out), (MAX_OBJECTS, 2));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    inspector.objects.clear();
    inspector.whole(key, 0.0, &file, b"bytes", Some(End::Length)).unwrap();
    let extracted = inspector.objects[0].extracted.clone().unwrap();
    assert_eq!(std::fs::read(extracted).unwrap(), b"bytes");
}

#[test]
fn objects_and_files_beyond_the_report_are_counted() {
    let mut inspector = Inspector::new(None);
    let key = SessionKey { source: FROM.ip(), destination: group(5000), tsi: Tsi(1) };
    inspector.objects = vec![describe(key, &File::default(), 0); MAX_OBJECTS - 1];
    let file = |name: &str| File { content_location: name.to_owned(), toi: Toi(1), ..File::default() };
    for name in ["last", "beyond", "last"] {
        inspector.complete(key, 0.0, &file(name), b"bytes").unwrap();
    }
    assert_eq!((inspector.objects.len(), inspector.seen.len(), inspector.left_out), (MAX_OBJECTS, 1, 1));
    inspector.objects = Vec::new();
    inspector.complete(key, 0.0, &file("beyond"), b"bytes").unwrap();
    assert_eq!(inspector.objects[0].uri.as_deref(), Some("beyond"));
    let file = FileReport {
        stream: None,
        pid: carousel::ts::Pid::new(0x100),
        path: String::new(),
        uri: None,
        content_type: None,
        length: 0,
        digest: Digest::of(b""),
        checked: false,
        module: (1, 0),
        complete_s: 0.0,
        extracted: None,
    };
    inspector.files = vec![file.clone(); MAX_OBJECTS - 1];
    for _ in 0..3 {
        inspector
            .take_found(0, StreamContent { files: vec![file.clone()], ..StreamContent::default() })
            .unwrap();
    }
    assert_eq!((inspector.files.len(), inspector.left_out), (MAX_OBJECTS, 3));
}
