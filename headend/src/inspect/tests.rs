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
        // Where datagrams are short, the first one tells.
        let (first, rest) = stream.split_at(1316);
        for (at, piece) in [first].into_iter().chain(rest.chunks(size)).enumerate() {
            inspector.datagram(at as u64, from, to, piece).unwrap();
        }
        let report = inspector.finish().unwrap();
        assert_eq!((report.streams.len(), report.streams[0].packets(), report.not_alc), (1, 70, 0), "{size}");
        assert_eq!(report.streams[0].split_packets() > 0, size != 1316, "{size}");
    }
}
