//! Real players: FFmpeg plays HLS and DASH from the daemon, from the cache and during reception. No faster ring shows that a
//! foreign demuxer accepts our responses.

use std::process::Command;
use std::time::Duration;

use skycache_tests::programs::have;
use skycache_tests::{Story, free_tcp_port, get};

use super::live_edge::nginx;

const PATIENCE: Duration = Duration::from_secs(60);
/// Frames of the ladder: 12 s at 25 a second.
const FRAMES: &str = "300";

/// Plays to the end; gives the frames decoded and every complaint.
fn play(url: &str) -> (String, String) {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "warning", "-progress", "-", "-i", url, "-map", "0:v:0", "-map", "0:a:0"])
        .args(["-f", "null", "/dev/null"])
        .output()
        .expect("ffmpeg");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let frames =
        text.lines().rev().find_map(|line| line.strip_prefix("frame=")).unwrap_or("0").trim().to_owned();
    (frames, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// From then on the box knows the film's sessions: what is on its way is waited for, as bytes arrive.
fn until_its_group_is_listened_to(story: &mut Story) {
    story.until("the film's group is listened to", PATIENCE, |story| {
        story.status().is_some_and(|status| !status["receive"]["groups"][2].is_null())
    });
}

#[test]
fn ffmpeg_plays_hls_and_dash_to_the_end_from_the_cache_and_from_the_air() {
    if !have("ffmpeg") {
        return;
    }
    let mut story = Story::new();
    story.start_daemon();
    story.start_headend(false);
    until_its_group_is_listened_to(&mut story);
    let base = format!("http://{}", story.http);
    for manifest in ["master.m3u8", "manifest.mpd", "master.m3u8"] {
        let url = format!("{base}{}", Story::path_of(manifest));
        story.until("the manifest is there", PATIENCE, |story| {
            get(story.http, &Story::path_of(manifest), &[]).is_ok_and(|response| response.status == 200)
        });
        let (frames, complaints) = play(&url);
        assert_eq!(frames, FRAMES, "{manifest}: {complaints}");
    }
    story.until_complete(PATIENCE);
    story.headend.take().unwrap().stop();
    for manifest in ["master.m3u8", "manifest.mpd"] {
        let (frames, complaints) = play(&format!("{base}{}", Story::path_of(manifest)));
        assert_eq!((frames.as_str(), complaints.as_str()), (FRAMES, ""), "{manifest}");
    }
}

#[test]
fn a_player_of_an_object_in_flight_never_sees_404() {
    // 900 kB at 2 Mbit/s: the object takes four seconds to arrive.
    let folder = tempfile::tempdir().unwrap();
    skycache_tests::media::many(folder.path(), 1, 900_000);
    let mut story = Story::of(folder.path()).at(2_000_000);
    story.start_daemon();
    story.start_headend(false);
    let path = Story::path_of("s00000.ts");
    until_its_group_is_listened_to(&mut story);
    let response = get(story.http, &path, &[]).unwrap();
    let want = std::fs::read(folder.path().join("s00000.ts")).unwrap();
    assert_eq!((response.status, response.whole, response.body == want), (200, true, true));
    assert!(response.header("cache-status").contains("in-flight"), "{:?}", response.headers);
}

#[test]
fn an_unknown_object_is_read_through_once_for_all_who_wait() {
    let mut story = Story::new().with_origin();
    story.start_daemon();
    let path = Story::path_of("0-001.m4s");
    let http = story.http;
    // The playlist says which segments follow.
    assert_eq!(get(http, &Story::path_of("media_0.m3u8"), &[]).unwrap().status, 200);
    let before = story.origin.as_ref().unwrap().counts().0;
    let players: Vec<_> = (0..20)
        .map(|_| {
            std::thread::spawn({
                let path = path.clone();
                move || get(http, &path, &[]).unwrap()
            })
        })
        .collect();
    let want = std::fs::read(story.folder.join("0-001.m4s")).unwrap();
    for player in players {
        let response = player.join().unwrap();
        assert_eq!((response.status, response.body == want), (200, true));
    }
    let have = |story: &Story, name: &str| story.list().iter().any(|it| it.to_string().contains(name));
    story.until("the segments that follow are there", PATIENCE, |story| have(story, "0-002.m4s"));
    // One request for all who waited, and at most one for each of the three segments that they will ask for next.
    let asked = story.origin.as_ref().unwrap().counts().0 - before;
    assert!((2..=4).contains(&asked), "{asked}");
    let next = get(story.http, &Story::path_of("0-002.m4s"), &[]).unwrap();
    assert!(next.header("cache-status").contains("hit"), "{:?}", next.headers);
    assert_eq!(get(story.http, &Story::path_of("no-such"), &[]).unwrap().status, 404);
}

#[test]
fn nginx_as_origin_repairs_ranges() {
    if !have("nginx") {
        return;
    }
    let mut story = Story::new().with_link(11, linksim::Profile::burst(0.05));
    let root = story.dir().join("root");
    std::fs::create_dir_all(root.join("vod")).unwrap();
    std::os::unix::fs::symlink(&story.folder, root.join("vod/film")).unwrap();
    let port = free_tcp_port().port();
    let _nginx = nginx(story.dir(), &root, port);
    story.daemon_extra =
        format!("[[origin]]\nhost = \"cdn.example.com\"\nurl = \"http://127.0.0.1:{port}\"\n");
    story.start_daemon();
    story.send_once();
    story.until_complete(PATIENCE);
    let compared = story.compare();
    assert_eq!(compared.exact, compared.hits, "{compared}");
    assert!(compared.wrong.is_empty() && compared.missing.is_empty(), "{compared}");
    let access = std::fs::read_to_string(story.dir().join("nginx/access.log")).unwrap();
    assert!(access.contains(" 206 "), "{access}");
}
