//! `skycached demo` from its start to Ctrl-C: its output is compared over HTTP, and decoded by a foreign decoder.
//!
//! Unit tests cover codes and boxes; only FFmpeg shows that they are H.264 in MP4.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use skycache_tests::programs::{fed, have, program};
use skycache_tests::{Program, free_tcp_port, get};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn the_demo_serves_what_it_has_sent_over_a_lossy_link() {
    let mut demo = program("skycached");
    demo.args(["demo", "--once", "--loss", "10", "--listen", &free_tcp_port().to_string()]);
    let output = demo.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("byte for byte: 46 of 46 objects"), "{said}");
}

/// Pictures that FFmpeg decodes of a playlist's segments.
fn decoded(http: std::net::SocketAddr, folder: &str) -> u64 {
    let path = |name: &str| format!("/cdn.example.com/{folder}/{name}");
    let fetch = |name: &str| {
        let response = get(http, &path(name), &[]).unwrap();
        assert_eq!(response.status, 200, "{name}");
        response.body
    };
    let list = String::from_utf8(fetch("video.m3u8")).unwrap();
    let mut media = fetch("init.mp4");
    list.lines().filter(|it| it.ends_with(".m4s")).take(3).for_each(|it| media.extend(fetch(it)));
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "warning", "-xerror", "-progress", "pipe:1", "-i", "-", "-f", "null", "-"]);
    let output = fed(&mut ffmpeg, &media);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{folder}: {said}");
    let progress = String::from_utf8_lossy(&output.stdout);
    progress.lines().rev().find_map(|it| it.strip_prefix("frame=")?.trim().parse().ok()).unwrap()
}

#[test]
fn the_demo_plays_until_it_is_interrupted_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let http = free_tcp_port();
    let mut demo = program("skycached");
    demo.args(["demo", "--listen", &http.to_string()]).env("TMPDIR", dir.path());
    let log = dir.path().join("log");
    let mut demo = Program::start(demo, &log).unwrap();
    let begin = Instant::now();
    while !demo.log().contains("films 46/46") {
        assert!(begin.elapsed() < PATIENCE && demo.ended().is_none(), "{}", demo.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = demo.log();
    assert!(said.contains(&format!("open in a browser:  http://{http}/")), "{said}");
    let titles = get(http, "/-/titles.json", &[]).unwrap();
    let titles = String::from_utf8_lossy(&titles.body).into_owned();
    for title in ["The Clock", "The Comet", "Life"] {
        assert!(titles.contains(title), "{title}: {titles}");
    }
    if have("ffmpeg") {
        for folder in ["live/clock", "vod/comet", "vod/life"] {
            assert_eq!(decoded(http, folder), 150, "{folder}: three segments of two seconds at 25 a second");
        }
    }
    demo.signal("INT");
    let status = demo.wait(Duration::from_secs(20));
    assert!(status.is_some_and(|it| it.success()), "{status:?}: {}", demo.log());
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(left, [Path::new(&log)], "{}", demo.log());
}
