//! Forward error correction end to end: one pass over a lossy link, no repair. No faster ring shows that
//! the sender's symbols, the slots behind the object, the finisher's decoder and the cache agree.

use std::time::Duration;

use linksim::Profile;
use skycache_tests::programs::program;
use skycache_tests::{Story, media};

fn protected(code: &str) -> Story {
    let mut story = Story::new().with_link(21, Profile::burst(0.05));
    story.headend_extra =
        format!("[fec.medium]\ncode = \"{code}\"\noverhead_percent = 30\nleast_repair = 5\n");
    story
}

fn one_pass_is_enough(code: &str) {
    let mut story = protected(code);
    story.start_daemon();
    story.send_once();
    story.until_complete(Duration::from_secs(30));
    let compared = story.compare();
    let all = media::files(&story.folder).len() as u64;
    assert_eq!((compared.exact, compared.hits), (all, all), "{compared}");
    let status = story.status().unwrap();
    let sum = |name: &str| {
        let sessions = status["receive"]["sessions"].as_array().unwrap().iter();
        sessions.filter_map(|session| session[name].as_u64()).sum::<u64>()
    };
    let lost = story.relay.as_ref().unwrap().stats().lost;
    println!("{code}: {lost} packets lost, {} source symbols recovered", sum("recovered"));
    assert!(lost > 0 && sum("recovered") > 0, "{status:#}");
    assert_eq!(status["origin"]["bytes"], 0);
}

#[test]
fn one_pass_with_raptorq_needs_no_repair() {
    one_pass_is_enough("raptorq");
}

#[test]
fn one_pass_with_raptor_needs_no_repair() {
    one_pass_is_enough("raptor");
}

#[test]
fn one_pass_with_reed_solomon_needs_no_repair() {
    one_pass_is_enough("reed-solomon");
}

#[test]
fn inspect_and_replay_decode_what_a_recording_lacks() {
    let story = protected("raptorq");
    let pcap = story.build();
    // Every 20th packet of the recording goes missing.
    let bytes = std::fs::read(&pcap).unwrap();
    let (mut thinned, mut at, mut number) = (bytes[..24].to_vec(), 24, 0);
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        number += 1;
        if number % 20 != 0 {
            thinned.extend_from_slice(&bytes[at..at + 16 + length]);
        }
        at += 16 + length;
    }
    std::fs::write(&pcap, thinned).unwrap();
    let json = |mut command: std::process::Command| -> serde_json::Value {
        serde_json::from_slice(&command.arg(&pcap).output().unwrap().stdout).unwrap()
    };
    let mut inspect = program("headend");
    inspect.arg("inspect").arg("--json");
    let inspected = json(inspect);
    let whole = inspected["objects"].as_array().unwrap().iter().filter(|object| object["complete"] == true);
    let media = |uri: &serde_json::Value| uri.as_str().is_some_and(|uri| uri.ends_with(".m4s"));
    assert_eq!(whole.filter(|object| media(&object["uri"])).count(), 25);
    let mut replay = program("skycached");
    replay.arg("replay");
    let replayed = json(replay);
    assert_eq!(
        replayed["objects"].as_array().unwrap().iter().filter(|object| media(&object["uri"])).count(),
        25
    );
}
