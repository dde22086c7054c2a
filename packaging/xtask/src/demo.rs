//! `cargo xtask demo`: a delivery over a lossy link, with progress on the terminal.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use linksim::Profile;
use skycache_tests::{Comparison, Story, Value, media};

use crate::{cargo, run as run_command, target_dir};

/// A pass of the ladder takes seconds; who waits longer than this waits in vain.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the film is to televisions, and to the page.
const SERVICE: &str = "[source.service]
names = { en = \"The film of the demo\", de = \"Der Film der Vorführung\" }
descriptions = { en = \"Twelve seconds of a test picture, over a link that loses packets.\" }
genres = [\"Movies\"]
[dvb_i]
";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// End after the first pass; success only if every object served over HTTP equals its source.
    #[arg(long)]
    once: bool,
    /// Packets lost on the link, in percent, in bursts of eight.
    #[arg(long, default_value_t = 5.0, value_name = "PERCENT")]
    loss: f64,
    /// Seed of the losses.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Bits a second of the link.
    #[arg(long, default_value_t = 4_000_000, value_name = "BPS")]
    rate_bps: u64,
    /// Address of the players' listener; the next free port if it is taken.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    if !(0.0..=90.0).contains(&arguments.loss) {
        return Err(format!("--loss {}: 0 to 90 percent", arguments.loss));
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|err| format!("signals: {err}"))?;
    }
    println!("building headend and skycached");
    run_command(cargo().args(["build", "--release", "--quiet", "-p", "skycache", "-p", "skycache-headend"]))?;
    // Programs of this process are found there; nothing else reads the variable.
    let bin = target_dir().join("release");
    skycache_tests::programs::use_bin_dir(&bin);

    let files = media::files(&media::ladder());
    let bytes: u64 = files.iter().filter_map(|(_, path)| path.metadata().ok()).map(|it| it.len()).sum();
    println!(
        "a film of 12 s: {} files, {} kB, HLS and DASH over the same segments",
        files.len(),
        bytes / 1000
    );
    let profile = Profile::burst(arguments.loss / 100.0);
    let mut story = Story::new().at(arguments.rate_bps).with_origin();
    story.http = free(arguments.listen);
    story = story.with_link(arguments.seed, profile);
    story.headend_extra = SERVICE.to_owned();
    println!(
        "headend ─▶ {} at {} Mbit/s ─▶ link that loses {} % ─▶ skycached ─▶ http://{}",
        story.groups[2],
        arguments.rate_bps as f64 / 1e6,
        arguments.loss,
        story.http
    );
    story.start_daemon();
    story.start_headend(true);
    receive(&mut story, files.len(), &stop)?;
    let compared = story.compare();
    table(&story, &compared, files.len());
    if arguments.once || stop.load(Ordering::Relaxed) {
        return verdict(&compared, files.len());
    }
    // From here on the carousel turns, and the link goes on losing: the cache is full and does not mind.
    if let Some(headend) = story.headend.as_mut() {
        headend.wait(PATIENCE);
    }
    story.start_headend(false);
    let base = format!("http://{}{}", story.http, Story::path_of(""));
    println!("\nopen in a player:  {base}master.m3u8   (HLS)\n                   {base}manifest.mpd  (DASH)");
    println!(
        "in a browser:      http://{}/  (play it there, and see what the box does)\n\nCtrl-C ends",
        story.http
    );
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
        if let Some(status) = story.daemon.as_mut().and_then(skycache_tests::Program::ended) {
            return Err(format!("skycached ended: {status}"));
        }
    }
    println!("\nending");
    verdict(&compared, files.len())
}

/// Shows what arrives until the cache is full.
fn receive(story: &mut Story, wanted: usize, stop: &AtomicBool) -> Result<(), String> {
    let style = ProgressStyle::with_template("receiving {bar:30} {pos}/{len} objects  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(wanted as u64).with_style(style);
    let begin = Instant::now();
    let mut told = Instant::now();
    loop {
        let status = story.status().unwrap_or_default();
        let objects = story.held();
        let link = story.relay.as_ref().map(skycache_tests::Relay::stats).unwrap_or_default();
        let repaired = status["receive"]["objects_repaired"].as_u64().unwrap_or(0);
        let message = format!("{} packets sent, {} lost, {repaired} objects repaired", link.sent, link.lost);
        bar.set_position(objects as u64);
        bar.set_message(message.clone());
        if bar.is_hidden() && (told.elapsed() >= Duration::from_secs(1) || objects >= wanted) {
            told = Instant::now();
            println!("receiving {objects}/{wanted} objects  {message}");
        }
        if objects >= wanted {
            bar.finish_and_clear();
            return Ok(());
        }
        if stop.load(Ordering::Relaxed) {
            return Err("stopped before the film was there".to_owned());
        }
        if begin.elapsed() > PATIENCE {
            let log = story.daemon.as_ref().map(skycache_tests::Program::log).unwrap_or_default();
            return Err(format!(
                "only {objects} of {wanted} objects in {PATIENCE:?}; skycached says:\n{log}"
            ));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn table(story: &Story, compared: &Comparison, files: usize) {
    let status = story.status().unwrap_or_default();
    let link = story.relay.as_ref().map(skycache_tests::Relay::stats).unwrap_or_default();
    let (requests, bytes) = story.origin.as_ref().map(skycache_tests::Origin::counts).unwrap_or_default();
    let percent = 100.0 * link.lost as f64 / link.sent.max(1) as f64;
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    println!();
    for (what, value) in [
        ("objects sent", files.to_string()),
        ("packets sent", link.sent.to_string()),
        ("packets lost on the link", format!("{} ({percent:.1} %)", link.lost)),
        ("objects in the cache", story.held().to_string()),
        ("… with parts repaired from the origin", number(&status["receive"]["objects_repaired"]).to_string()),
        ("… whole from the origin, no packet arrived", whole_from_origin(story).to_string()),
        ("repair requests, bytes", format!("{requests}, {bytes}")),
        ("served over HTTP, byte for byte", format!("{} of {files}", compared.exact)),
    ] {
        println!("{what:<44} {value}");
    }
}

/// Objects of the cache that came from the origin alone.
fn whole_from_origin(story: &Story) -> usize {
    story.list().iter().filter(|object| object["came_by"] == "origin").count()
}

fn verdict(compared: &Comparison, files: usize) -> Result<(), String> {
    if compared.exact == files as u64 {
        Ok(())
    } else {
        Err(format!("not every object is right: {compared}"))
    }
}

/// `wanted`, or the same address with a port that nobody has.
fn free(wanted: SocketAddr) -> SocketAddr {
    (wanted.port()..=u16::MAX)
        .map(|port| SocketAddr::new(wanted.ip(), port))
        .find(|address| std::net::TcpListener::bind(address).is_ok())
        .unwrap_or(wanted)
}
