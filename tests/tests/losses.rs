//! Burst losses on the link, the origin up or down. What no faster ring shows: that reception, back-off, range requests,
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
    // What was whole was not received again: each object came exactly once, and the configuration once or twice.
    let status = story.status().unwrap();
    let received = status["receive"]["objects"].as_u64().unwrap();
    assert!(received <= everything() + 4, "{stored} first, {received} in all: {status:#}");
    assert_eq!(status["origin"]["bytes"], 0, "the signalled origin does not exist");
}

#[test]
fn an_origin_that_fails_in_every_way_never_puts_a_wrong_byte_into_the_cache() {
    for (seed, fault) in
        [(6, Fault::WrongBytes), (7, Fault::Cut), (8, Fault::IgnoresRanges), (9, Fault::Unavailable)]
    {
        let mut story = Story::new().with_origin().with_link(seed, Profile::burst(0.10));
        story.origin.as_ref().unwrap().set_fault(fault);
        story.start_daemon();
        story.send_once();
        std::thread::sleep(Duration::from_secs(2));
        let compared = story.compare();
        println!("{fault:?}: {compared}");
        // Read-through of an object that no carousel has ever described has nothing to be checked against; here all
        // are described, so that even an origin that lies does no harm.
        assert!(compared.wrong.is_empty(), "{fault:?}: {compared}");
        story.origin.as_ref().unwrap().set_fault(Fault::None);
        story.start_headend(false);
        story.until_complete(PATIENCE);
        let compared = story.compare();
        assert_eq!(compared.exact, everything(), "{fault:?}: {compared}");
    }
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
#[ignore = "two minutes: the circuit breaker's sixty seconds and the retry after them"]
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
    // The origin of the configuration, and the one that the air names, which does not exist: each is told of once.
    assert!((1..=2).contains(&log.matches("left alone").count()), "{log}");
}
