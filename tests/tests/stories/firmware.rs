//! Firmware updates over the carousel with both programs and a fake installer: offers that concern the box and others, rollout
//! shares, losses and a power cut during reception, an installer that refuses, an untrusted sender, and a box without the carousel. No
//! faster test has the files and sockets of both sides.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use linksim::{Profile, Rng};
use serde_json::Value;
use skycache_tests::origin::{Fault, Origin};
use skycache_tests::programs::program;
use skycache_tests::{Story, media};

const PATIENCE: Duration = Duration::from_secs(120);
const HARDWARE: &str = "lab-box";

/// Writes a unique bundle of this length.
fn bundle(story: &Story, version: &str, length: usize) -> PathBuf {
    let path = story.dir().join(format!("{version}.raucb"));
    let mut rng = Rng::new(length as u64);
    let bytes: Vec<u8> = (0..length).map(|_| rng.next_u64() as u8).collect();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Output of `headend firmware`.
fn firmware(story: &Story, arguments: &[&str]) -> Value {
    let mut call = program("headend");
    let (action, rest) = arguments.split_first().unwrap();
    call.args(["firmware", action, "--json", "-c"]).arg(story.dir().join("headend.toml")).args(rest);
    let output = call.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn offer(story: &Story, bundle: &Path, version: &str, more: &[&str]) -> Value {
    let path = bundle.display().to_string();
    let plain = ["offer", &path, "--version", version];
    let hardware = ["--compatible", HARDWARE];
    let is_named = more.contains(&"--compatible");
    firmware(story, &[&plain[..], if is_named { &[] } else { &hardware }, more].concat())
}

fn offered(story: &Story) -> Value {
    story.status().map(|it| it["firmware"].clone()).unwrap_or_default()
}

fn count(story: &Story, of: &str, name: &str) -> u64 {
    offered(story)[of][name].as_u64().unwrap_or(0)
}

/// Whether a session of a bundle is among the groups.
fn joins_firmware(story: &Story) -> bool {
    let status = story.status().unwrap_or_default();
    let groups = status["receive"]["groups"].as_array().cloned().unwrap_or_default();
    groups.iter().any(|it| it["why"] == "firmware" && it["joined"] == true)
}

/// A story with keys, `[firmware]` on both sides, and an installer that notes the digest of what it gets.
fn story(mut story: Story, script: &str, more: &str) -> Story {
    let keys = story.dir().join("keys");
    let mut keygen = program("headend");
    let output = keygen.args(["keygen", "--json", "--out"]).arg(&keys).output().unwrap();
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    // A link carries the groups of the story alone.
    let mut group = story.groups[2];
    if story.relay.is_none() {
        group.set_port(group.port() + 1);
    }
    story.headend_extra = format!(
        "[signing]\nkeys = \"{}\"\n[firmware]\nbase = \"https://cdn.example.com/firmware/\"\nrate_bps = 4_000_000\ngroup = \"{group}\"\n",
        keys.display()
    );
    story.daemon_extra = format!(
        "[trust]\nkeys = [{}]\n[firmware]\ncompatible = \"{HARDWARE}\"\nversion = \"1.4\"\nidle_s = 1\n\
         install = [\"/bin/sh\", \"-c\", '{script}', \"x\"]\n{more}",
        made["root"]["key"]
    );
    story
}

fn notes(story: &Story) -> String {
    format!("sha256sum < $1 >> {}", story.dir().join("installed").display())
}

fn installed(story: &Story) -> String {
    std::fs::read_to_string(story.dir().join("installed")).unwrap_or_default()
}

/// The line that the installer writes of a bundle.
fn line(bundle: &Path) -> String {
    let digest = carousel::Digest::of(&std::fs::read(bundle).unwrap()).to_hex();
    format!("{digest}  -\n")
}

#[test]
fn a_box_takes_the_update_that_concerns_it_once_it_is_in_the_share() {
    let plain = Story::new();
    let script = notes(&plain);
    let mut story = story(plain, &script, "");
    story.start_daemon();
    story.start_headend(false);
    let [newer, older, other] = [("1.5", 600_000), ("1.3", 1000), ("2.0", 2000)]
        .map(|(version, length)| bundle(&story, version, length));
    offer(&story, &other, "2.0", &["--compatible", "other-box"]);
    offer(&story, &older, "1.3", &[]);
    let made = offer(&story, &newer, "1.5", &["--share", "0"]);
    assert_eq!(made["url"], "https://cdn.example.com/firmware/1.5.raucb");
    story.until("three refusals", PATIENCE, |story| {
        let held = |why: &str| count(story, "held", why);
        (held("compatible"), held("downgrade"), held("share")) == (1, 1, 1)
    });
    assert!(!joins_firmware(&story), "nothing concerns it: {}", offered(&story));
    firmware(&story, &["share", &format!("{HARDWARE}_1.5"), "100"]);
    story.until("the installation", PATIENCE, |story| count(story, "outcomes", "installed") == 1);
    assert_eq!(installed(&story), line(&newer));
    assert_eq!(offered(&story)["update"]["phase"], "installed");
    assert_eq!(story.metric("firmware_updates_total{outcome=\"installed\"}"), 1);
    assert_eq!(story.metric("firmware_held_total{reason=\"compatible\"}"), 1);
    story.until("the group left", PATIENCE, |story| !joins_firmware(story));
    let mut call = program("skycached");
    let output =
        call.args(["firmware", "status", "-c"]).arg(story.dir().join("skycached.toml")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("2.0 for other-box") && text.contains(": compatible"), "{text}");
    assert!(text.contains("update      1.5, installed"), "{text}");
    // It starts again with the version: done, and the cache has its room again.
    story.daemon.take().unwrap().stop();
    story.daemon_extra = story.daemon_extra.replace("version = \"1.4\"", "version = \"1.5\"");
    story.start_daemon();
    story.until("the version runs", PATIENCE, |story| count(story, "outcomes", "running") == 1);
    story.until("the same version", PATIENCE, |story| count(story, "held", "same") == 1);
    let is_held = |story: &Story| {
        story.list().iter().any(|it| it["key"].as_str().is_some_and(|key| key.ends_with("1.5.raucb")))
    };
    story.until("the bundle is gone", PATIENCE, |story| !is_held(story));
    assert_eq!(installed(&story), line(&newer), "installed once");
}

#[test]
fn an_update_arrives_over_losses_and_power_cuts_and_the_rest_comes_from_the_origin() {
    let folder = media::ladder();
    let lossy = Story::of(&folder).with_link(7, Profile::burst(0.05));
    let script = notes(&lossy);
    let mut story = story(lossy, &script, "");
    let newer = bundle(&story, "1.5", 3_000_000);
    // The origin has the bundle where its URL says.
    let at_origin = story.dir().join("origin");
    std::fs::create_dir(&at_origin).unwrap();
    std::fs::copy(&newer, at_origin.join("1.5.raucb")).unwrap();
    let origin = Origin::start(&at_origin, "/firmware/");
    story.origin = Some(origin);
    // Only what its sender has lost permanently: no repair symbols.
    story.headend_extra += "overhead_percent = 3\n";
    story.start_daemon();
    story.start_headend(false);
    offer(&story, &newer, "1.5", &["--repair-after-s", "5", "--repair-within-s", "1"]);
    for part in [500_000, 1_500_000] {
        story.until("a part of it", PATIENCE, |story| {
            let received = offered(story)["update"]["received_bytes"].as_u64().unwrap_or(0);
            received > part || count(story, "outcomes", "installed") == 1
        });
        story.daemon.take().unwrap().signal("KILL");
        story.start_daemon();
    }
    story.until("the installation", PATIENCE, |story| installed(story) == line(&newer));
    story.until("its end", PATIENCE, |story| offered(story)["update"]["phase"] == "installed");
}

#[test]
fn what_the_installer_refuses_is_not_tried_again_and_an_untrusted_key_offers_nothing() {
    let plain = Story::new();
    let script = format!(
        "echo tried >> {}; echo \"refused (signature): nobody\" >&2; exit 1",
        plain.dir().join("tried").display()
    );
    let mut story = story(plain, &script, "");
    story.start_daemon();
    story.start_headend(false);
    let first = bundle(&story, "1.5", 100_000);
    offer(&story, &first, "1.5", &[]);
    story.until("the refusal", PATIENCE, |story| count(story, "outcomes", "failed") == 1);
    assert_eq!(offered(&story)["over"][0]["why"], "refused (signature): nobody");
    story.until("it is held", PATIENCE, |story| count(story, "held", "failed_before") == 1);
    story.daemon.take().unwrap().stop();
    story.start_daemon();
    story.until("it is still held", PATIENCE, |story| count(story, "held", "failed_before") == 1);
    assert_eq!(std::fs::read_to_string(story.dir().join("tried")).unwrap(), "tried\n");
    // Another operator's keys, and an offer that would concern the box.
    story.headend.take().unwrap().stop();
    let others = story.dir().join("others");
    let mut keygen = program("headend");
    assert!(keygen.args(["keygen", "--out"]).arg(&others).output().unwrap().status.success());
    let keys = story.dir().join("keys").display().to_string();
    story.headend_extra = story.headend_extra.replace(&keys, &others.display().to_string());
    story.start_headend(false);
    let evil = bundle(&story, "1.9", 50_000);
    offer(&story, &evil, "1.9", &[]);
    let refused = |story: &Story| {
        let status = story.status().unwrap_or_default();
        status["trust"]["refused"]["unknown_key"].as_u64().unwrap_or(0)
    };
    story.until("an untrusted key", PATIENCE, |story| refused(story) > 0);
    assert_eq!(offered(&story)["update"], Value::Null);
    assert_eq!(std::fs::read_to_string(story.dir().join("tried")).unwrap(), "tried\n");
}

/// Bodies of requests to a server that says yes to all.
fn listener() -> (String, mpsc::Receiver<String>) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/report", server.local_addr().unwrap());
    let (sender, bodies) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let Ok(mut stream) = stream else { return };
            let (mut text, mut buffer) = (String::new(), [0; 4096]);
            while !text.ends_with('}') {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => text.push_str(&String::from_utf8_lossy(&buffer[..count])),
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            let body = text.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned();
            if sender.send(body).is_err() {
                return;
            }
        }
    });
    (url, bodies)
}

#[test]
fn a_box_without_the_carousel_takes_the_same_bundle_over_http_and_reports() {
    let (report_url, bodies) = listener();
    let plain = Story::new();
    let at_origin = plain.dir().join("origin");
    std::fs::create_dir(&at_origin).unwrap();
    let origin = Origin::start(&at_origin, "/firmware/");
    let script = notes(&plain);
    let url = format!("http://{}/firmware/offers.xml", origin.address());
    let more =
        format!("url = \"{url}\"\nurl_interval_s = 60\nreport_url = \"{report_url}\"\nreport_within_s = 1\n");
    let mut story = story(plain, &script, &more);
    story.origin = Some(origin);
    let newer = bundle(&story, "1.5", 2_000_000);
    story.start_headend(false);
    offer(&story, &newer, "1.5", &["--repair-after-s", "0", "--repair-within-s", "0"]);
    let document = story.dir().join("keys/firmware/offers.xml");
    story.until("the list of offers", PATIENCE, |_| document.exists());
    // The box hears nothing of the carousel.
    story.headend.take().unwrap().stop();
    std::fs::copy(&newer, at_origin.join("1.5.raucb")).unwrap();
    assert!(Command::new("cp").arg(&document).arg(&at_origin).status().unwrap().success());
    // Half of it comes; then the power is cut, and the rest is asked for alone.
    story.drop_in("[store]\nresume_bytes = 100_000\n");
    story.origin.as_ref().unwrap().set_fault(Fault::CutsLong);
    story.start_daemon();
    let received = |story: &Story| offered(story)["update"]["received_bytes"].as_u64().unwrap_or(0);
    story.until("half of the bundle", PATIENCE, |story| received(story) > 900_000);
    // A checkpoint follows at once.
    story.until("its checkpoint", PATIENCE, |story| {
        let files = std::fs::read_dir(story.dir().join("cache/partial")).into_iter().flatten().flatten();
        files.map(|it| it.path()).any(|it| it.extension().is_some_and(|it| it == "map"))
    });
    story.daemon.take().unwrap().signal("KILL");
    let before = story.origin.as_ref().unwrap().counts().1;
    story.origin.as_ref().unwrap().set_fault(Fault::None);
    story.start_daemon();
    story.until("the installation", PATIENCE, |story| count(story, "outcomes", "installed") == 1);
    let sent = story.origin.as_ref().unwrap().counts().1 - before;
    assert!(sent < 1_200_000, "{sent} bytes for the rest and the list of offers");
    assert_eq!(installed(&story), line(&newer));
    let mut events = Vec::new();
    while events.len() < 2 {
        let body = bodies.recv_timeout(PATIENCE).expect("a report");
        let report: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&report["version"], &report["running"]), (&"1.5".into(), &"1.4".into()), "{report}");
        events.push(report["event"].as_str().unwrap().to_owned());
    }
    assert_eq!(events, ["begun", "installed"]);
}
