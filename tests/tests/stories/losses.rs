//! Burst losses on the link, the origin up or down. No faster ring shows that reception, back-off, range requests,
//! players and the next pass work on one object table at the same time.

use std::time::Duration;

use linksim::Profile;
use skycache_tests::{Fault, Story, media};

const PATIENCE: Duration = Duration::from_secs(90);

fn everything() -> u64 {
    media::files(&media::ladder()).len() as u64
}

fn complete_with_origin(seed: u64, loss: f64) {
    let mut story = Story::new().with_origin().with_link(seed, Profile::burst(loss));
    story.start_daemon();
    story.send_once();
    story.until_complete(PATIENCE);
    let compared = story.compare();
    assert_eq!((compared.exact, compared.hits), (everything(), everything()), "{compared}");
    let lost = story.relay.as_ref().unwrap().stats().lost;
    let (requests, bytes) = story.origin.as_ref().unwrap().counts();
    println!("loss {loss}: {lost} packets lost, {requests} requests and {bytes} bytes from the origin");
    assert_eq!(lost == 0, requests == 0, "the origin is asked exactly for what was lost");
    // 1400 bytes a packet, and little more: bursts are asked for in one range.
    assert!(bytes <= lost * 1400 + 40_000, "{bytes} bytes for {lost} packets");
}

#[test]
fn no_loss_needs_no_origin() {
    complete_with_origin(1, 0.0);
}

#[test]
fn one_percent_is_repaired_from_the_origin() {
    complete_with_origin(2, 0.01);
}

#[test]
fn five_percent_is_repaired_from_the_origin() {
    complete_with_origin(3, 0.05);
}

#[test]
fn twenty_percent_is_repaired_from_the_origin() {
    complete_with_origin(4, 0.20);
}

#[test]
fn without_an_origin_nothing_incomplete_is_served_and_the_next_passes_fill_what_is_missing() {
    let mut story = Story::new().with_link(5, Profile::burst(0.20));
    story.start_daemon();
    story.send_once();
    let first = story.compare();
    println!("after one pass: {first}");
    assert!(first.wrong.is_empty() && !first.missing.is_empty(), "{first}");
    let stored = story.status().unwrap()["receive"]["objects"].as_u64().unwrap();
    story.start_headend(false);
    story.until_complete(PATIENCE);
    let all = story.compare();
    assert_eq!((all.exact, all.hits), (everything(), everything()), "{all}");
    // A complete object was not received again: each object came exactly once.
    let status = story.status().unwrap();
    let received = status["receive"]["objects"].as_u64().unwrap();
    assert!(received == everything(), "{stored} first, {received} in all: {status:#}");
    assert_eq!(status["origin"]["bytes"], 0, "the signalled origin does not exist");
}

/// One pass with losses while the origin fails like this; then all comes right with the next pass. `reason` is what the
/// failures are counted as.
fn an_origin_fails(seed: u64, fault: Fault, reason: Option<&str>) {
    let mut story = Story::new().with_origin().with_link(seed, Profile::burst(0.10));
    story.origin.as_ref().unwrap().set_fault(fault);
    story.start_daemon();
    story.send_once();
    std::thread::sleep(Duration::from_secs(2));
    let compared = story.compare();
    println!("{fault:?}: {compared}");
    // Read-through of an object that no carousel has ever described has nothing to be checked against; here all are
    // described, so that even an origin that lies does no harm.
    assert!(compared.wrong.is_empty(), "{fault:?}: {compared}");
    if let Some(reason) = reason {
        story.until(reason, Duration::from_secs(20), |story| {
            let count = |status: serde_json::Value| status["origin"]["failures"][reason].as_u64();
            story.status().and_then(count) > Some(0)
        });
    }
    let (requests, _) = story.origin.as_ref().unwrap().counts();
    assert!(requests < 500, "{fault:?}: {requests} requests are a storm");
    story.origin.as_ref().unwrap().set_fault(Fault::None);
    story.start_headend(false);
    story.until_complete(PATIENCE);
    let compared = story.compare();
    assert_eq!(compared.exact, everything(), "{fault:?}: {compared}");
}

// A test for each: they wait for an origin most of the time, and so can be beside each other.

#[test]
fn an_origin_with_wrong_bytes_never_puts_one_into_the_cache() {
    an_origin_fails(6, Fault::WrongBytes, None);
}

#[test]
fn an_origin_that_ignores_ranges_never_puts_a_wrong_byte_into_the_cache() {
    an_origin_fails(8, Fault::IgnoresRanges, None);
}

#[test]
fn an_origin_of_short_answers_never_puts_a_wrong_byte_into_the_cache() {
    an_origin_fails(14, Fault::Short, None);
}

#[test]
fn an_origin_that_answers_another_range_is_counted_as_bad_range() {
    an_origin_fails(16, Fault::OtherRange, Some("bad_range"));
}

#[test]
fn an_origin_of_long_answers_never_puts_a_wrong_byte_into_the_cache() {
    an_origin_fails(15, Fault::Long, None);
}

#[test]
fn an_origin_with_another_version_never_puts_a_wrong_byte_into_the_cache() {
    an_origin_fails(17, Fault::OtherVersion, None);
}

#[test]
fn an_origin_that_cuts_its_answers_never_puts_a_wrong_byte_into_the_cache() {
    an_origin_fails(7, Fault::Cut, None);
}

#[test]
fn an_origin_that_answers_503_is_counted_as_status() {
    an_origin_fails(9, Fault::Unavailable, Some("status"));
}

#[test]
fn an_origin_that_trickles_is_counted_as_too_slow() {
    an_origin_fails(18, Fault::Trickles, Some("too_slow"));
}

#[test]
fn an_origin_that_redirects_forever_is_counted_as_redirect() {
    an_origin_fails(19, Fault::RedirectLoop, Some("redirect"));
}

#[test]
fn an_origin_that_redirects_elsewhere_is_counted_as_redirect() {
    an_origin_fails(20, Fault::RedirectAway, Some("redirect"));
}

#[test]
fn an_origin_whose_tls_fails_is_no_connection() {
    let mut story = Story::new().with_link(21, Profile::burst(0.10));
    // Speaks http where https is asked for.
    let origin = skycache_tests::Origin::start(&story.folder, "/vod/film/");
    story.daemon_extra =
        format!("[[origin]]\nhost = \"cdn.example.com\"\nurl = \"https://{}\"\n", origin.address());
    story.start_daemon();
    story.send_once();
    story.until("connect", Duration::from_secs(20), |story| {
        story.status().and_then(|status| status["origin"]["failures"]["connect"].as_u64()) > Some(0)
    });
    assert!(story.compare().wrong.is_empty());
}

#[test]
fn a_player_who_waits_for_an_incomplete_object_does_not_wait_for_the_back_off() {
    let mut story = Story::new().with_origin().with_link(22, Profile::burst(0.10));
    // A million boxes would take a minute; a viewer does not wait for that.
    story.headend_extra = "[repair]\nrandom_back_off_ms = 60_000\n".to_owned();
    let origin = story.origin.as_ref().unwrap();
    origin.set_delay(Duration::from_millis(50));
    story.start_daemon();
    story.send_once();
    let mut waits = Vec::new();
    for (relative, path) in media::files(&story.folder) {
        let begin = std::time::Instant::now();
        let response = skycache_tests::client::get(story.http, &Story::path_of(&relative), &[]).unwrap();
        assert!(response.whole && response.body == std::fs::read(path).unwrap(), "{relative}");
        if !response.header("cache-status").ends_with("; hit") {
            waits.push((begin.elapsed(), relative));
        }
    }
    waits.sort();
    println!("waited with an origin 50 ms away: {waits:?}");
    assert!(!waits.is_empty(), "nothing was lost");
    assert!(waits.last().unwrap().0 < Duration::from_secs(5), "{waits:?}");
}

#[test]
fn a_bad_cable_harms_nothing() {
    let mut story = Story::new().with_origin().with_link(10, Profile::bad_cable());
    story.start_daemon();
    story.start_headend(false);
    story.until_complete(PATIENCE);
    let compared = story.compare();
    assert_eq!(compared.exact, everything(), "{compared}");
}

#[test]
fn an_origin_that_comes_back_repairs_what_it_could_not_before() {
    let mut story = Story::new().with_origin().with_link(13, Profile::burst(0.10));
    story.origin.as_ref().unwrap().set_fault(Fault::Unavailable);
    story.start_daemon();
    story.send_once();
    std::thread::sleep(Duration::from_secs(10));
    assert!(story.status().unwrap()["store"]["objects"].as_u64() < Some(everything()));
    story.origin.as_ref().unwrap().set_fault(Fault::None);
    story.until_complete(Duration::from_secs(240));
    let log = story.daemon.as_ref().unwrap().log();
    // The origin of the configuration, and the one that the air names, which does not exist: each is logged once.
    assert!((1..=2).contains(&log.matches("the circuit is open").count()), "{log}");
}
