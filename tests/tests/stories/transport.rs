//! Receivers without native IP: the same objects in a transport stream or in baseband frames. No faster ring shows that headend
//! and daemon agree on the URLs there, and that damaged data never gets into the cache.

use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use linksim::Rng;
use serde_json::Value;
use skycache_tests::programs::{Program, program};
use skycache_tests::{Story, get, media};

const PATIENCE: Duration = Duration::from_secs(60);
const PACKET_BYTES: usize = 188;

/// A story whose headend carries objects so.
fn carried(carry: &str, scheme: &str) -> Story {
    let mut story = Story::new();
    let to = story.groups[1];
    let to_scheme = if scheme == "bbframe" { "udp" } else { scheme };
    story.headend_extra = format!(
        "[multiplex]\ncarry = \"{carry}\"\nto = \"{to_scheme}://{}:{}\"\ncontrol_interval_ms = 100\n[link.dvb_s2]\nmodulation = \"8PSK\"\nfec = \"3/4\"\nsymbol_rate_ksps = 27500\n",
        to.ip(),
        to.port() + 1,
    );
    story.daemon_extra =
        format!("[[transport_stream]]\nfrom = \"{scheme}://{}:{}\"\n", to.ip(), to.port() + 1);
    story
}

/// A story of an object carousel with every file of a folder.
fn carrying(folder: &std::path::Path) -> Story {
    let mut story = carried("object-carousel", "udp");
    story.folder = folder.to_path_buf();
    story.headend_extra =
        story.headend_extra.replacen("[multiplex]", "include_unreferenced = true\n[multiplex]", 1);
    story
}

/// Packets and baseband frames of the first transport stream.
fn counted(status: &Value) -> u64 {
    let stream = &status["receive"]["transport_streams"][0];
    ["packets", "frames"].iter().filter_map(|name| stream[name].as_u64()).sum()
}

fn arrives(carry: &str, scheme: &str) {
    let mut story = carried(carry, scheme);
    story.start_daemon();
    story.start_headend(false);
    story.until_complete(PATIENCE);
    let compared = story.compare();
    let files = media::files(&story.folder).len() as u64;
    assert_eq!((compared.exact, compared.hits), (files, files), "{carry} over {scheme}: {compared}");
    // Counters are published twice a second.
    let deadline = Instant::now() + Duration::from_secs(10);
    let status = loop {
        let status = story.status().unwrap();
        if counted(&status) > 0 || Instant::now() > deadline {
            break status;
        }
        sleep(Duration::from_millis(100));
    };
    let stream = &status["receive"]["transport_streams"][0];
    assert!(counted(&status) > 0, "{stream:#}");
    assert!(stream["error"].is_null() && stream["continuity_errors"] == 0, "{stream:#}");
    assert_eq!(stream["dropped"], serde_json::json!({}), "{stream:#}");
    if scheme == "rtp" {
        assert_eq!(stream["rtp"]["lost"], 0, "{stream:#}");
    }
    let log = story.daemon.take().unwrap().stop();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    let said = story.headend.take().unwrap().stop();
    assert!(said.contains("off the air"), "{said}");
}

#[test]
fn an_object_carousel_arrives_under_the_same_urls() {
    arrives("object-carousel", "rtp");
}

#[test]
fn a_data_carousel_arrives_under_the_same_urls() {
    arrives("data-carousel", "udp");
}

#[test]
fn ip_in_sections_arrives_as_if_it_were_native() {
    arrives("mpe", "udp");
}

#[test]
fn ip_in_baseband_frames_arrives_as_if_it_were_native() {
    arrives("gse", "bbframe");
}

#[test]
fn sessions_of_another_sender_are_carried_along_to_a_box_that_joins_nothing() {
    let mut story = Story::new();
    let [announcement, configuration, media] = story.groups;
    let to = format!("{}:{}", announcement.ip(), announcement.port() + 1);
    let elsewhere =
        |last: u8| format!("239.255.{last}.{}:{}", announcement.ip().octets()[3], announcement.port());
    let folder = tempfile::tempdir().unwrap();
    media::many(folder.path(), 1, 1000);
    let text = format!(
        "[link]\nrate_bps = 20_000_000\n[output]\ninterface = \"127.0.0.1\"\n[sessions]\nannounce = false\n\
         configuration = \"{}\"\nmedia = \"{}\"\n[[source]]\npath = {:?}\nbase = \"https://other.example/\"\n\
         include_unreferenced = true\n[multiplex]\ncarry = \"mpe\"\nto = \"udp://{to}\"\n\
         forward = [\"{announcement}\", \"{configuration}\", \"{media}\"]\n",
        elsewhere(1),
        elsewhere(2),
        folder.path().display().to_string(),
    );
    let config = story.dir().join("multiplexer.toml");
    std::fs::write(&config, text).unwrap();
    let mut command = program("headend");
    command.args(["send", "-c"]).arg(&config);
    let multiplexer = Program::start(command, &story.dir().join("multiplexer.log")).unwrap();
    story.drop_in("[receive]\nmulticast = false\n");
    story.daemon_extra = format!("[[transport_stream]]\nfrom = \"udp://{to}\"\n");
    story.start_daemon();
    story.start_headend(false);
    story.until_complete(PATIENCE);
    let compared = story.compare();
    assert_eq!(compared.exact, media::files(&story.folder).len() as u64, "{compared}");
    let said = multiplexer.stop();
    assert!(said.contains("packets of others (0 dropped)"), "{said}");
}

#[test]
fn a_single_pass_of_a_carousel_is_enough_where_nothing_is_lost() {
    let mut story = carried("object-carousel", "udp");
    story.start_daemon();
    story.send_once();
    story.until_complete(PATIENCE);
    let compared = story.compare();
    assert_eq!(compared.exact, media::files(&story.folder).len() as u64, "{compared}");
}

#[test]
fn a_long_object_is_written_to_the_flash_once() {
    let folder = tempfile::tempdir().unwrap();
    media::many(folder.path(), 1, 6_000_000);
    let mut story = carrying(folder.path()).at(20_000_000);
    story.start_daemon();
    story.start_headend(false);
    story.until_complete(PATIENCE);
    let compared = story.compare();
    assert_eq!(compared.exact, media::files(&story.folder).len() as u64, "{compared}");
    let written = story.status().unwrap()["store"]["flash"]["total_bytes"].as_u64().unwrap();
    assert!((6_000_000..6_600_000).contains(&written), "{written} bytes written");
}

#[test]
fn a_file_that_changes_is_carried_again_and_purged_ones_come_again() {
    let folder = tempfile::tempdir().unwrap();
    media::many(folder.path(), 6, 60_000);
    let mut story = carrying(folder.path());
    story.start_daemon();
    story.start_headend(false);
    story.until_complete(PATIENCE);
    let (name, path) =
        media::files(&story.folder).into_iter().find(|(name, _)| !name.ends_with("m3u8")).unwrap();
    std::fs::write(path, vec![7; 61_000]).unwrap();
    story.until_complete(PATIENCE);
    let key = Story::path_of(&name);
    assert!(story.skycached("purge").arg(key.trim_start_matches('/')).status().unwrap().success());
    story.until_complete(PATIENCE);
    assert_eq!(get(story.http, &key, &[]).unwrap().body.len(), 61_000);
}

/// Some seconds of the carousel in a file of packets; 0: one pass of it.
fn recording(carry: &str, seconds: u64) -> (Story, PathBuf) {
    let story = carried(carry, "udp");
    let path = story.dir().join("x.ts");
    let mut command = program("headend");
    command.args(["build", "-c"]).arg(story.headend_config()).arg("--out").arg(&path);
    if seconds > 0 {
        command.args(["--seconds", &seconds.to_string()]);
    }
    assert!(command.status().unwrap().success());
    (story, path)
}

fn replayed(path: &std::path::Path) -> Value {
    let output = program("skycached").arg("replay").arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Digests of the folder's files by key.
fn truth(story: &Story) -> std::collections::BTreeMap<String, String> {
    media::files(&story.folder)
        .into_iter()
        .map(|(name, path)| {
            let digest = carousel::Digest::of(&std::fs::read(path).unwrap()).to_hex();
            (Story::path_of(&name).trim_start_matches('/').to_owned(), digest)
        })
        .collect()
}

#[test]
fn a_recording_is_read_again_while_it_tells_of_groups_that_nobody_listened_to() {
    let (mut story, path) = recording("mpe", 0);
    story.daemon_extra = format!("[[transport_stream]]\nfrom = \"file://{}\"\n", path.display());
    story.start_daemon();
    story.until_complete(PATIENCE);
    assert_eq!(story.compare().exact, media::files(&story.folder).len() as u64);
}

#[test]
fn wrong_bits_and_lost_packets_cost_passes_and_never_a_wrong_byte() {
    for carry in ["object-carousel", "data-carousel", "mpe"] {
        let (story, path) = recording(carry, 8);
        let truth = truth(&story);
        for seed in 0..3 {
            println!("{carry}, seed {seed}");
            let (mut rng, mut wrong) = (Rng::new(seed), Vec::new());
            let bytes = std::fs::read(&path).unwrap();
            for packet in bytes.chunks(PACKET_BYTES) {
                let mut packet = packet.to_vec();
                match rng.below(200) {
                    0 => continue,
                    1 => {
                        let at = rng.below(PACKET_BYTES as u64) as usize;
                        packet[at] ^= 1 << rng.below(8);
                    }
                    _ => {}
                }
                wrong.extend(packet);
            }
            let noisy = story.dir().join("noisy.ts");
            std::fs::write(&noisy, &wrong).unwrap();
            let summary = replayed(&noisy);
            let mut keys = std::collections::BTreeSet::new();
            for object in summary["objects"].as_array().unwrap() {
                if object["signalling"] == true {
                    continue;
                }
                let (key, digest) = (object["key"].as_str().unwrap(), object["sha256"].as_str().unwrap());
                assert_eq!(truth.get(key).map(String::as_str), Some(digest), "{carry}, seed {seed}: {key}");
                keys.insert(key.to_owned());
            }
            let stream = &summary["transport_streams"][0];
            assert!(stream["dropped"]["crc"].as_u64() > Some(0), "{stream:#}");
            // Each block was seen in one of the passes: some fifteen of them.
            if carry != "mpe" {
                assert_eq!(keys.len(), truth.len(), "{carry}, seed {seed}: {:#}", summary["incomplete"]);
            }
        }
    }
}

#[test]
fn nothing_hostile_in_a_stream_ends_the_daemon_or_leaves_its_url_space() {
    let (story, path) = recording("object-carousel", 1);
    let good = std::fs::read(&path).unwrap();
    let mut rng = Rng::new(11);
    let mut hostile = Vec::new();
    for (at, packet) in good.chunks(PACKET_BYTES).enumerate() {
        hostile.extend_from_slice(packet);
        // Every PID is tried, with every beginning of a section.
        let mut other: Vec<u8> = (0..PACKET_BYTES).map(|_| rng.below(256) as u8).collect();
        let pid = (0x20 + at * 3 % 0x1fc0) as u16;
        other[..5].copy_from_slice(&[0x47, 0x40 | (pid >> 8) as u8, pid as u8, 0x10 | (at & 15) as u8, 0]);
        other[5] = [0x3b, 0x3c, 0x3e, 0x02][at % 4];
        other[6] |= 0xb0;
        hostile.extend(other);
    }
    let noisy = story.dir().join("hostile.ts");
    std::fs::write(&noisy, &hostile).unwrap();
    let summary = replayed(&noisy);
    let truth = truth(&story);
    let objects = summary["objects"].as_array().unwrap();
    assert_eq!(objects.len(), truth.len());
    for object in objects {
        assert_eq!(truth[object["key"].as_str().unwrap()], object["sha256"].as_str().unwrap());
    }
    assert!(summary["transport_streams"][0]["dropped"]["too_many_pids"].as_u64() > Some(0), "{summary:#}");
    // The same over the network: the daemon stays up.
    let mut story = story;
    story.start_daemon();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&socket).set_multicast_if_v4(&[127, 0, 0, 1].into()).unwrap();
    for datagram in hostile.chunks(PACKET_BYTES * 7).take(3000) {
        socket.send_to(datagram, (*story.groups[1].ip(), story.groups[1].port() + 1)).unwrap();
        sleep(Duration::from_micros(200));
    }
    story.until("the stream was heard", PATIENCE, |story| {
        story
            .status()
            .is_some_and(|it| it["receive"]["transport_streams"][0]["packets"].as_u64() > Some(1000))
    });
}

#[test]
fn inspect_tells_carousels_of_others_and_extracts_their_files() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/captures/dsmcc");
    if !std::path::Path::new(folder).exists() {
        eprintln!("SKIPPED: {folder} is absent");
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let mut command: Command = program("headend");
    command.args(["inspect", "--json", "--extract"]).arg(out.path());
    let output = command.arg(format!("{folder}/app_c0_psi_3loops.ts")).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let carousel = &report["streams"][0]["carousels"][0];
    assert_eq!(
        (&carousel["pid"], &carousel["kind"]),
        (&Value::from(2003), &Value::from("object")),
        "{carousel:#}"
    );
    let table = std::fs::read_to_string(format!("{folder}/files.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter(|row| row[0] == "app_c0_psi_3loops.ts")
        .collect();
    assert!(!rows.is_empty());
    for row in rows {
        let bytes = std::fs::read(out.path().join(row[4])).unwrap_or_else(|err| panic!("{}: {err}", row[4]));
        assert_eq!(carousel::Digest::of(&bytes).to_hex(), row[6], "{}", row[4]);
    }
}
