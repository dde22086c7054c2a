//! Delivery without faults. No faster ring shows that both programs, their command lines and the sockets between them fit
//! together.

use std::time::Duration;

use skycache_tests::{Story, get, media};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn one_pass_fills_the_cache_and_a_player_gets_every_byte() {
    let mut story = Story::new();
    story.start_daemon();
    story.send_once();
    story.until_complete(PATIENCE);
    let files = media::files(&story.folder).len() as u64;
    let compared = story.compare();
    assert_eq!((compared.exact, compared.hits), (files, files), "{compared}");

    // As a DVB-NIP player asks, by the short host.
    let status = story.status().unwrap();
    assert_eq!(status["receive"]["lost"], 0, "{status:#}");
    let ls = story.skycached("ls").arg("--json").output().unwrap();
    let ls: serde_json::Value = serde_json::from_slice(&ls.stdout).unwrap();
    assert_eq!(ls["objects"].as_array().unwrap().len() as u64, files);
    let log = story.daemon.take().unwrap().stop();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[test]
fn a_restart_serves_what_was_received_before_and_a_kill_loses_nothing_either() {
    let mut story = Story::new();
    story.start_daemon();
    story.send_once();
    story.until_complete(PATIENCE);
    story.daemon.take().unwrap().stop();
    story.start_daemon();
    let files = media::files(&story.folder).len() as u64;
    assert_eq!(story.compare().hits, files);
    let mut daemon = story.daemon.take().unwrap();
    daemon.signal("KILL");
    daemon.wait(PATIENCE);
    story.start_daemon();
    assert_eq!(story.compare().hits, files);
}

#[test]
fn a_receiver_that_comes_late_has_everything_after_one_more_pass() {
    let mut story = Story::new();
    story.start_headend(false);
    std::thread::sleep(Duration::from_millis(700));
    story.start_daemon();
    story.until_complete(PATIENCE);
    let compared = story.compare();
    assert!(compared.wrong.is_empty() && compared.missing.is_empty(), "{compared}");
    let log = story.headend.take().unwrap().stop();
    assert!(log.contains("off the air"), "{log}");
    story.until("the close flags arrive", PATIENCE, |story| {
        story.daemon.as_ref().unwrap().log().contains("the sender closed the session")
    });
}

#[test]
fn what_is_purged_comes_again_with_the_next_pass() {
    let mut story = Story::new();
    story.start_daemon();
    story.start_headend(false);
    story.until_complete(PATIENCE);
    let key = "cdn.example.com/vod/film/init-0.mp4";
    assert!(story.skycached("purge").arg(key).status().unwrap().success());
    story.until_complete(PATIENCE);
    assert_eq!(get(story.http, &format!("/{key}"), &[]).unwrap().status, 200);
}

#[test]
fn a_file_that_changes_while_the_carousel_turns_is_served_old_or_new_never_mixed() {
    let folder = tempfile::tempdir().unwrap();
    media::many(folder.path(), 6, 60_000);
    let mut story = Story::of(folder.path());
    story.start_daemon();
    story.start_headend(false);
    story.until_complete(PATIENCE);
    let (old, new) = (vec![0xaa_u8; 90_000], vec![0xbb_u8; 90_000]);
    let path = Story::path_of("s00002.ts");
    for bytes in [&old, &new, &old] {
        // As packagers do: beside, then renamed over.
        std::fs::write(folder.path().join(".tmp"), bytes).unwrap();
        std::fs::rename(folder.path().join(".tmp"), folder.path().join("s00002.ts")).unwrap();
        story.until("the change arrives", PATIENCE, |story| {
            let body = get(story.http, &path, &[]).map(|response| response.body).unwrap_or_default();
            assert!(body.len() == 60_000 || body == old || body == new, "mixed: {} bytes", body.len());
            body == *bytes
        });
    }
}
