use super::*;
use crate::options::Viewing;
use std::path::Path;

/// A million boxes, 600 MB in 300 objects, a tenth of RaptorQ: one pass takes 90 seconds.
fn config(extra: &str) -> Config {
    let text = format!(
        "[link]\nrate_bps = 61_270_000\n[receiver]\ncache_bytes = 10_737_418_240\n\
         [fec.high]\ncode = \"raptorq\"\noverhead_percent = 10\n\
         [[forecast]]\nname = \"films\"\ntitles = 10\ntitle_bytes = 60_000_000\ntitle_duration_s = 5400\n{extra}"
    );
    Config::parse(&text, Path::new(".")).unwrap_or_else(|why| panic!("{why:?}"))
}

fn play(extra: &str) -> Report {
    run(&config(extra), None, |_| {})
}

#[test]
fn the_same_seed_gives_the_same_figures_and_another_other_ones() {
    let simulation = |seed| format!("[simulation]\nseed = {seed}\nduration_s = 180\nloss = 0.02\n");
    let first = play(&simulation(1));
    assert_eq!(first, play(&simulation(1)));
    assert_ne!(first, play(&simulation(2)));
}

#[test]
fn without_losses_everything_is_whole_after_one_pass_and_nobody_asks() {
    let report = play("[simulation]\nduration_s = 180\nloss = 0.0\n");
    for outcome in [&report.with_fec, &report.without_fec] {
        assert!((outcome.complete - 1.0).abs() < 1e-9, "{outcome:?}");
        assert_eq!(outcome.repair_requests, 0.0);
    }
    // 600 MB, a tenth more and the headers at 61.27 Mbit/s.
    let p99 = report.with_fec.acquisition_s.p99.unwrap();
    assert!((84.0..100.0).contains(&p99), "{p99}");
    assert!(report.without_fec.acquisition_s.p99.unwrap() < p99);
}

#[test]
fn fec_spares_the_origin() {
    let report = play("[simulation]\nduration_s = 180\nloss = 0.01\n");
    let ratio = report.without_fec.repair_bytes / report.with_fec.repair_bytes.max(1.0);
    assert!(ratio > 1000.0, "{report:#?}");
    // A hundredth of 600 MB for each of a million.
    assert!(
        (report.without_fec.repair_bytes / 6e12 - 1.0).abs() < 0.05,
        "{}",
        report.without_fec.repair_bytes
    );
}

#[test]
fn a_fade_over_a_third_of_a_million_brings_no_second_more_than_twice_its_fair_share() {
    let fade = "[[simulation.fade]]\nregions = [0]\nbegin_s = 30\nlasts_s = 600\n";
    for (random_back_off_ms, most) in [(1000, 1.05), (30_000, 1.3), (60_000, 1.5)] {
        let report = play(&format!(
            "[repair]\nrandom_back_off_ms = {random_back_off_ms}\n\
             [simulation]\nduration_s = 1800\nloss = 0.0\n{fade}"
        ));
        let ratio = report.with_fec.peak_to_fair_share.unwrap();
        println!("dispersal {random_back_off_ms} ms: busiest second {ratio:.3} of the fair share");
        assert!(ratio < most && ratio > 0.01, "{random_back_off_ms}: {ratio}");
        assert!((report.with_fec.complete - 1.0).abs() < 1e-9, "{report:#?}");
    }
}

#[test]
fn what_the_carousel_brings_before_the_back_off_is_over_is_not_asked_for() {
    let fade = "[[simulation.fade]]\nregions = [0, 1, 2]\nbegin_s = 30\nlasts_s = 10\n";
    let asked = |random_back_off_ms: u64| {
        let report = play(&format!(
            "[repair]\nrandom_back_off_ms = {random_back_off_ms}\n[simulation]\nduration_s = 1200\nloss = 0.0\n{fade}"
        ));
        assert!((report.with_fec.complete - 1.0).abs() < 1e-9);
        report.with_fec.repair_bytes
    };
    // A cycle is 90 seconds: of a window of twelve minutes an eighth has asked by then.
    let (soon, late) = (asked(1000), asked(720_000));
    assert!(late < soon * 0.2 && late > soon * 0.05, "{late} of {soon}");
}

#[test]
fn receivers_come_on_over_time_and_wait_for_the_next_pass() {
    let report = play("[simulation]\nduration_s = 720\njoin_s = 360\nloss = 0.0\n");
    assert!((report.with_fec.complete - 1.0).abs() < 1e-9);
    let p50 = report.with_fec.acquisition_s.p50.unwrap();
    // Half of a cycle of 90 seconds, that of rarer titles longer.
    assert!((38.0..56.0).contains(&p50), "{p50}");
}

#[test]
fn households_hit_what_their_boxes_hold() {
    let viewing = |cache: u64| {
        let mut config =
            config("[simulation]\nduration_s = 86_400\nloss = 0.0\n[simulation.viewing]\nboxes = 10\n");
        config.receiver.cache_bytes = Some(cache);
        config.simulation.receivers = 10;
        config.link.rate_bps = 6_127_000;
        run(&config, None, |_| {}).viewing.unwrap()
    };
    let all = viewing(1_000_000_000);
    assert!(all.views > 10 && (all.hit_ratio - 1.0).abs() < 1e-9, "everything fits: {all:?}");
    let half = viewing(300_000_000);
    assert!((0.3..0.9).contains(&half.hit_ratio), "{half:?}");
    assert!(viewing(4_000_000).hit_ratio < 0.1);
}

#[test]
fn views_end_as_configured() {
    let viewing = Viewing::default();
    assert_eq!(viewing.ends_after(0.0, 5400.0), 0.0);
    assert!((viewing.ends_after(0.37, 5400.0) - 300.0).abs() < 1e-9);
    assert!((viewing.ends_after(0.75, 5400.0) - 1500.0).abs() < 1e-9);
    assert!((viewing.ends_after(1.0, 5400.0) - 5400.0).abs() < 1e-9);
    assert!(viewing.ends_after(0.9, 60.0) <= 60.0);
}
