//! The loops around the rooms: `send` in real time, `build` as fast as the disk takes it.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use carousel::time::WallTime;
use indicatif::{ProgressBar, ProgressStyle};

use crate::broadcast::{Broadcast, Followed};
use crate::config::Config;
use crate::follow::{Follower, Update, tell_lost};
use crate::line::Line;
use crate::multiplex::Carry;
use crate::pace::Pacer;
use crate::package::Problem;
use crate::scan::grouped;
use crate::sink::{FileSink, PcapSink, Sink, UdpSink};

/// Longest sleep between two looks at the stop flag and the packages.
const MAX_SLEEP: Duration = Duration::from_millis(50);
/// Sleeps shorter than this cost more than they are exact.
const MIN_SLEEP_NS: u64 = 50_000;
/// A line of progress where there is no terminal.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The date now.
pub fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A first TOI that differs from one start to the next: 22 bits of seconds (48 days), 256 objects a second.
fn first_toi(config: &Config, wall: WallTime) -> u32 {
    match config.carousel.profile {
        crate::config::Profile::Bits16 => 1 + ((wall.unix_ms() / 1000) & 0x7fff) as u32,
        _ => (((wall.unix_ms() / 1000) & 0x3f_ffff) as u32) << 8 | 1,
    }
}

/// Reads the packages with a bar where there is a terminal.
///
/// # Errors
/// As [`Broadcast::open`].
pub fn open(config: Config, once: bool, stable: bool) -> Result<Broadcast, String> {
    let wall = wall_now();
    let first_toi = if stable { 1 } else { first_toi(&config, wall) };
    let bar = bar("reading {bar:30} {bytes}/{total_bytes} {eta}", 0);
    // A pass that is sent once, a plan or a recording takes what is there.
    let is_followed = !once && !stable;
    let broadcast = Broadcast::open(config, once, is_followed, first_toi, wall, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let broadcast = broadcast?;
    for (source, problem) in broadcast.problems() {
        eprintln!("{source}: {problem}");
    }
    for (source, inventory) in broadcast.named_inventories() {
        let counts = inventory.left_out_by_reason();
        if !counts.is_empty() {
            let counts = counts
                .iter()
                .map(|(reason, count)| format!("{} {}", grouped(*count), reason.as_str().replace('_', " ")));
            eprintln!("{source}: not carried: {}", counts.collect::<Vec<_>>().join(", "));
        }
    }
    tell(&broadcast.catalog().problems);
    Ok(broadcast)
}

/// Tells of what is wrong with the catalogue.
fn tell(problems: &[Problem]) {
    for problem in problems {
        eprintln!("catalogue: {problem}");
    }
}

/// A bar where there is a terminal, nothing elsewhere.
pub fn bar(template: &str, length: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

/// Sends until `stop` is set, or with `once` until every object was sent. Ends with the close flags.
///
/// # Errors
/// Sockets that cannot be opened, packets that cannot be sent, packages that cannot be read.
pub fn send(config: Config, once: bool, stop: &Arc<AtomicBool>) -> Result<(), String> {
    let mut broadcast = open(config, once, false)?;
    let config = broadcast.config().clone();
    let (start, start_wall) = (Instant::now(), wall_now());
    let mut line = Line::open(&config, once, true, start_wall)?;
    line.forward(&config)?;
    let mut sink = Sink::Udp(UdpSink::open(&config.output, &line.destinations(&broadcast))?);
    let now_ns = || start.elapsed().as_nanos() as u64;
    let wall = |now_ns: u64| start_wall.plus_ms((now_ns / 1_000_000) as i64);
    let mut pacer = Pacer::new(config.link.rate_bps, 0);
    let follower = match once {
        true => None,
        false => Some(
            Follower::start(&config, broadcast.inventories(), broadcast.take_catalog())
                .map_err(|err| format!("cannot start a thread: {err}"))?,
        ),
    };
    let rescan = Duration::from_millis(config.carousel.rescan_interval_ms);
    let refresh = Duration::from_secs(config.carousel.refresh_s);
    let (mut next_rescan, mut next_log, mut next_refresh) = (rescan, LOG_INTERVAL, refresh);
    let objects = broadcast.air.objects().count();
    let template = if once {
        "sending {bar:30} {pos}/{len} objects {msg}"
    } else {
        "{spinner} {pos} objects sent {msg}"
    };
    let bar = bar(template, objects as u64);
    eprintln!(
        "on the air: {objects} objects at {:.3} Mbit/s; {}",
        config.link.rate_bps as f64 / 1e6,
        line.where_to(&config)
    );
    let mut packet = Vec::with_capacity(2048);
    let mut followed = Followed::default();
    loop {
        let now = now_ns();
        if stop.load(Ordering::Relaxed) {
            broadcast.air.close();
            line.close();
        }
        if let Some(follower) = &follower {
            if let Some(update) = follower.poll() {
                let is_settled = matches!(update, Update::Settled);
                if let Update::Catalog(made) = &update
                    && made.problems != broadcast.catalog().problems
                {
                    tell(&made.problems);
                }
                let step = broadcast.apply(update, wall(now))?;
                followed = followed.and(step);
                if is_settled {
                    let Followed { added, removed } = std::mem::take(&mut followed);
                    if !std::io::stderr().is_terminal() {
                        eprintln!("packages changed: {added} objects new, {removed} gone");
                    }
                }
            }
            if start.elapsed() >= next_rescan {
                next_rescan = start.elapsed() + rescan;
                tell_lost(follower.lost(), broadcast.lost().into_iter());
            }
        }
        if !once && start.elapsed() >= next_refresh {
            next_refresh = start.elapsed() + refresh;
            broadcast.refresh(wall(now))?;
        }
        if start.elapsed() >= next_log {
            next_log = start.elapsed() + LOG_INTERVAL;
            if !std::io::stderr().is_terminal() {
                eprintln!("{}", line.stats(&broadcast).to_text(start.elapsed()));
            }
        }
        let wait_ns = pacer.wait_ns(now);
        if wait_ns > MIN_SLEEP_NS {
            std::thread::sleep(Duration::from_nanos(wait_ns).min(MAX_SLEEP));
            continue;
        }
        let Some(departure) = line.next(now, wall(now), &mut broadcast, &mut packet)? else {
            if line.is_over(&broadcast) {
                break;
            }
            let due = line
                .next_due_ns(now, &broadcast)
                .map_or(MAX_SLEEP, |due| Duration::from_nanos(due.saturating_sub(now)));
            std::thread::sleep(due.clamp(Duration::from_micros(100), MAX_SLEEP));
            continue;
        };
        sink.send(departure.destination, &packet, 0).map_err(|err| err.to_string())?;
        pacer.sent(departure.link_bytes, now);
        tell_refused(&mut line);
        let stats = line.stats(&broadcast);
        if stats.packets.is_multiple_of(256) {
            bar.set_position(stats.sent);
            bar.set_message(format!(
                "{:.3} Mbit/s",
                stats.link_bytes as f64 * 8e-6 / start.elapsed().as_secs_f64().max(0.001)
            ));
        }
    }
    bar.finish_and_clear();
    eprintln!("off the air: {}", line.stats(&broadcast).to_text(start.elapsed()));
    Ok(())
}

fn tell_refused(line: &mut Line) {
    for refused in line.refused() {
        eprintln!("left out: {refused}");
    }
}

/// Writes a recording of `seconds` of the carousel, or of one full cycle if 0.
///
/// # Errors
/// A file that cannot be written, packages that cannot be read.
pub fn build(config: Config, out: &Path, seconds: u64) -> Result<(), String> {
    let extension = out.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    let failed = |err: std::io::Error| format!("{}: {err}", out.display());
    let refused = |what: &str| Err(format!("{}: {what}", out.display()));
    let has_packets = config.multiplex.as_ref().is_some_and(|it| it.carry != Carry::Gse);
    let is_pcap = match extension.as_deref() {
        Some("pcap") => true,
        Some("ts") if has_packets => false,
        Some("ts") => return refused("a transport stream needs [multiplex] carry = \"mpe\" or a carousel"),
        _ => return refused("only .pcap and .ts can be built; name the file so"),
    };
    let mut broadcast = open(config, false, true)?;
    let mut sink = match is_pcap {
        true => Sink::Pcap(PcapSink::create(out).map_err(failed)?),
        false => Sink::File(FileSink::create(out).map_err(failed)?),
    };
    let start_wall = wall_now();
    let mut line = Line::open(broadcast.config(), false, is_pcap, start_wall)?;
    let epoch_ns = start_wall.unix_ms().max(0) as u64 * 1_000_000;
    let mut pacer = Pacer::new(broadcast.config().link.rate_bps, 0);
    let end_ns = if seconds == 0 { u64::MAX } else { seconds * 1_000_000_000 };
    let bar = bar("building {bar:30} {pos}/{len}", broadcast.air.objects().count() as u64);
    let (mut now, mut packet, mut datagrams) = (0, Vec::new(), 0_u64);
    while now < end_ns && !(seconds == 0 && line.cycle_done(&broadcast)) {
        now += pacer.wait_ns(now);
        let wall = start_wall.plus_ms((now / 1_000_000) as i64);
        let Some(departure) = line.next(now, wall, &mut broadcast, &mut packet)? else {
            match line.next_due_ns(now, &broadcast) {
                Some(due) => now = now.max(due) + 1,
                None => break,
            }
            continue;
        };
        sink.send(departure.destination, &packet, epoch_ns + now).map_err(failed)?;
        pacer.sent(departure.link_bytes, now);
        tell_refused(&mut line);
        // Counting looks at every object.
        datagrams += 1;
        if datagrams.is_multiple_of(1024) {
            let (done, all) = line.progress(&broadcast);
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        }
    }
    sink.finish().map_err(failed)?;
    bar.finish_and_clear();
    eprintln!("{}: {}", out.display(), line.stats(&broadcast).to_text(Duration::from_nanos(now)));
    Ok(())
}
