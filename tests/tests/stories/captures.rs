//! Interoperability: packets of other implementations, and ours in other dissectors.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use skycache_tests::Story;
use skycache_tests::programs::{have, program};

/// Captures with ground truth; `None` where the folder is absent.
fn captures() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: {} is absent", folder.display());
    None
}

/// SHA-256 of every object that is completely present, as content.
fn truth(folder: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(folder.join("objects.tsv")).expect("objects.tsv");
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().expect("head").split('\t').collect();
    let column = head
        .iter()
        .position(|name| *name == "sha256(decoded)")
        .or_else(|| head.iter().position(|name| *name == "sha256"))
        .expect("a column of digests");
    lines.filter_map(|line| line.split('\t').nth(column)).map(str::to_owned).collect()
}

fn json(command: &mut Command) -> Value {
    let output = command.output().expect("program");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn digests(objects: &Value, complete_only: bool) -> BTreeSet<String> {
    let objects = objects["objects"].as_array().expect("objects").iter();
    objects
        .filter(|object| !complete_only || object["complete"] == true)
        .filter_map(|object| object["sha256"].as_str())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_whole_object_of_foreign_flute_sessions_is_found_by_inspect_and_by_replay() {
    let Some(captures) = captures() else { return };
    for name in ["mabr_flute_hls", "rtlibflute_plain"] {
        let folder = captures.join(name);
        let pcap = folder.join(format!("{name}.pcap"));
        let truth = truth(&folder);
        let inspected = json(program("headend").arg("inspect").arg(&pcap).arg("--json"));
        assert_eq!(digests(&inspected, true), truth, "{name}: inspect");
        let replayed = json(program("skycached").arg("replay").arg(&pcap));
        assert_eq!(digests(&replayed, false), truth, "{name}: replay");
    }
}

#[test]
fn a_replayed_recording_is_in_the_cache_and_served() {
    let Some(captures) = captures() else { return };
    let folder = captures.join("rtlibflute_plain");
    let mut story = Story::new();
    let config = story.daemon_config();
    json(program("skycached").arg("replay").arg(folder.join("rtlibflute_plain.pcap")).arg("-c").arg(&config));
    story.start_daemon();
    let ls = json(story.skycached("ls").arg("--json"));
    assert_eq!(digests(&ls, false), truth(&folder));
}

#[test]
fn what_we_build_our_own_inspect_and_replay_read_back() {
    let story = Story::new();
    let pcap = story.build();
    let inspected = json(program("headend").arg("inspect").arg(&pcap).arg("--json"));
    let replayed = json(program("skycached").arg("replay").arg(&pcap));
    let sent: BTreeSet<String> = skycache_tests::media::files(&story.folder)
        .iter()
        .map(|(_, path)| {
            use sha2::Digest as _;
            let hash = sha2::Sha256::digest(std::fs::read(path).unwrap());
            hash.iter().map(|byte| format!("{byte:02x}")).collect()
        })
        .collect();
    assert!(digests(&inspected, true).is_superset(&sent));
    assert!(digests(&replayed, false).is_superset(&sent));
    assert!(inspected["sessions"].as_array().unwrap().iter().all(|session| session["protocol"] == "FLUTE"));
}

#[test]
fn tshark_dissects_what_we_build_without_a_malformed_mark() {
    if !have("tshark") {
        return;
    }
    let story = Story::new();
    let pcap = story.build();
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(&pcap);
    for group in story.groups {
        tshark.arg("-d").arg(format!("udp.port=={},alc", group.port()));
    }
    let fields = ["frame.number", "_ws.malformed", "alc.toi", "rmt-lct.toi", "_ws.col.Protocol"];
    tshark.args(["-T", "fields"]);
    for field in &fields[..2] {
        tshark.args(["-e", field]);
    }
    tshark.args(["-e", fields[3], "-e", "_ws.expert.severity", "-e", "_ws.col.Protocol"]);
    let output = tshark.output().expect("tshark");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    assert!(rows.len() > 500, "{} packets", rows.len());
    for row in &rows {
        assert!(row[1].is_empty(), "malformed: {row:?}");
        assert!(row[4].contains("ALC") || row[4].contains("XML"), "not dissected as ALC: {row:?}");
    }
}

/// What proves most that others receive us: GPAC's MABR receiver takes every object of the session byte for byte.
#[test]
fn gpac_receives_every_object_byte_for_byte() {
    if !have("gpac") {
        return;
    }
    let mut story = Story::new();
    // It joins media groups by the system's routes, not on the configured interface.
    let route = Command::new("ip").args(["route", "get"]).arg(story.groups[2].ip().to_string()).output();
    if !route.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("dev lo")) {
        eprintln!("SKIPPED: GPAC needs `ip route add 239.0.0.0/8 dev lo`");
        return;
    }
    story.start_headend(false);
    std::thread::sleep(std::time::Duration::from_secs(1));
    let out = story.dir().join("gpac");
    let url =
        format!("mabr://{}/:ifce=127.0.0.1:odir={}:repair=no:tunein=-1", story.groups[1], out.display());
    let mut command = Command::new("gpac");
    command.arg("-i").arg(url);
    let _gpac = skycache_tests::Program::start(command, &story.dir().join("gpac.log")).expect("gpac");
    // It keeps one manifest of a service, the first that is announced.
    let mut files = skycache_tests::media::files(&story.folder);
    files.retain(|(name, _)| name != "manifest.mpd");
    story.until("GPAC has everything", std::time::Duration::from_secs(30), |_| {
        let have = skycache_tests::media::files_if_any(&out);
        files.iter().all(|(name, path)| {
            have.iter().any(|(other, copy)| {
                other.ends_with(name.as_str()) && std::fs::read(copy).ok() == std::fs::read(path).ok()
            })
        })
    });
}
