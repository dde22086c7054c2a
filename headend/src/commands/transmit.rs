//! `headend send` and `headend build`: run the transmission loop ([`crate::transmit`]) on sockets, or into a
//! file.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::ProgressBar;

use super::{Identity, end_on_signals, open, print_problems};
use crate::broadcast::{Broadcast, UpdateCounts};
use crate::check;
use crate::claim::Claims;
use crate::clock::{Clocks, SystemClocks, VirtualClocks};
use crate::condition::Condition;
use crate::config::Config;
use crate::follow::Follower;
use crate::ingest::Ingest;
use crate::lease::Lease;
use crate::line::{Line, LineStats};
use crate::metrics;
use crate::options::{Carry, Source};
use crate::package::Problem;
use crate::progress::{Preparation, bar, is_terminal, say};
use crate::pull::{self, PullStats};
use crate::signing::{self, Versions};
use crate::sink::{FileSink, PcapSink, Sink, UdpSink};
use crate::status::{self, State};
use crate::transmit::{End, Observer, Output, Transmission, Updates};
use crate::units::counted;

/// Sends until `stop` is set, or with `once` until every object was sent. Ends with the close flags. Another transmission of this
/// machine of the same configuration is not an obstacle where that has a lease, or with `alongside`.
///
/// # Errors
/// A configuration that another one sends, sockets that cannot be opened, packets that cannot be sent, packages that cannot be read.
pub(super) fn send(
    config: Config,
    once: bool,
    alongside: bool,
    stop: &Arc<AtomicBool>,
) -> Result<(), String> {
    if once && config.lease.is_some() {
        return Err(
            "--once does not go with [lease]: a single pass is sent by one headend; leave [lease] out"
                .to_owned(),
        );
    }
    let _claims = match alongside || config.lease.is_some() {
        true => None,
        false => {
            let (claims, warning) = Claims::of(&config)?;
            if let Some(warning) = warning {
                eprintln!("warning: {warning}");
            }
            Some(claims)
        }
    };
    let clocks = Arc::new(SystemClocks::new());
    if let Some(warning) = check::clock_warning(clocks.wall()) {
        eprintln!("warning: {warning}");
    }
    let ingest = if once { None } else { Ingest::start(&config)? };
    if let Some(ingest) = &ingest {
        eprintln!("packagers upload to http://{}/NAME/", ingest.address());
    }
    let pulled = if once {
        super::pull::before(&config)?;
        None
    } else {
        pull::start(&config)?
    };
    let is_opening = end_on_signals()?;
    if stop.load(Ordering::Relaxed) {
        return Ok(());
    }
    let progress = Arc::<Preparation>::default();
    let state = State::of(&config, Arc::clone(&progress), pulled.clone());
    if let Some(file) = config.file.clone().filter(|_| !once) {
        match status::listen(&file, state.clone()) {
            Ok(()) => {}
            Err(err) if err.kind() == std::io::ErrorKind::AddrInUse => eprintln!(
                "headend: another `headend send` has {} on the air, and answers `headend status`",
                file.display()
            ),
            Err(err) => eprintln!("headend: `headend status` will not work: {err}"),
        }
    }
    let mut broadcast = open(config, once, Identity::Fresh, &*clocks, &progress)?;
    is_opening.store(false, Ordering::Relaxed);
    let config = broadcast.config().clone();
    let mut line = Line::open(&config, once, true, clocks.wall())?;
    line.forward(&config)?;
    let mut sink = UdpSink::open(&config.output, &line.destinations(broadcast.destinations()))?;
    let follower = match once {
        true => None,
        false => {
            let clocks: Arc<dyn Clocks> = Arc::<SystemClocks>::clone(&clocks);
            let started = Follower::start(&config, broadcast.inventories(), broadcast.take_catalog(), clocks);
            Some(started.map_err(|err| format!("cannot start a thread: {err}"))?)
        }
    };
    let mut versions = Versions::open(&config, clocks.wall())?;
    let objects = broadcast.air.objects().count();
    let lease = Lease::start(&config, &mut broadcast)?;
    if let Some(status) = lease.as_ref().map(Lease::status) {
        sink.only_while(move || status.may_send());
    }
    if let Some(lease) = &lease {
        state.with_lease(lease.status());
    }
    progress.end();
    state.update(&config, objects, &conditions_at_start(&broadcast), &LineStats::default(), Duration::ZERO);
    if let Some(metrics) = config.metrics.as_ref().filter(|_| !once) {
        let uploads = ingest.as_ref().map(|it| Arc::clone(it.stats()));
        let address = metrics::listen(metrics.listen, state.clone(), uploads, pulled.clone())?;
        eprintln!("metrics at http://{address}/metrics");
    }
    let mut announcement = format!(
        "{}: {} at {:.3} Mbit/s; {}",
        if lease.is_some() { "ready, with a lease" } else { "on the air" },
        counted_objects(&broadcast),
        config.link.rate_bps as f64 / 1e6,
        line.where_to(&config)
    );
    if let Some(sealer) = &config.sealer {
        announcement.push_str(&format!("\n{}", signing::describe(sealer)));
    }
    let mut sink = Announced { sink, announcement: Some(announcement), say };
    let template = if once {
        "sending {bar:30} {pos}/{len} objects {msg}"
    } else {
        "{spinner} {pos} objects sent {msg}"
    };
    let mut console = Console::new(bar(template, objects as u64));
    console.versions = versions.take();
    console.ingest = ingest;
    console.pulled = pulled;
    let conditions = conditions_at_start(&broadcast);
    console.state = (!once).then_some(StateWriter { state, config, conditions, updated: Duration::ZERO });
    let mut transmission = Transmission::new(broadcast, line, End::Stopped { once }).with_lease(lease);
    crate::sys::sleep_exactly();
    let updates = follower.as_ref().map(|it| it as &dyn Updates);
    transmission.run(&*clocks, stop, updates, &mut console, &mut sink)?;
    console.bar.finish_and_clear();
    let elapsed = Duration::from_nanos(clocks.now().as_nanos());
    say(&format!("off the air: {}", transmission.stats().to_text(elapsed)));
    Ok(())
}

/// Writes a recording of `seconds` of the carousel, or of one full cycle if 0.
///
/// # Errors
/// A file that cannot be written, packages that cannot be read.
pub(super) fn build(config: Config, out: &Path, seconds: u64) -> Result<(), String> {
    let extension = out.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    let failed =
        |err: std::io::Error| format!("{}: {}", out.display(), carousel::config::without_numbers(&err));
    let refused = |what: &str| Err(format!("{}: {what}", out.display()));
    let has_packets = config.multiplex.as_ref().is_some_and(|it| it.carry != Carry::Gse);
    let is_pcap = match extension.as_deref() {
        Some("pcap") => true,
        Some("ts") if has_packets => false,
        Some("ts") => return refused("a transport stream needs [multiplex] carry = \"mpe\" or a carousel"),
        _ => return refused("unknown type of recording; use a name that ends with .pcap or .ts"),
    };
    super::pull::before(&config)?;
    let system = SystemClocks::new();
    let broadcast = open(config, false, Identity::Stable, &system, &Preparation::default())?;
    let mut versions = Versions::open(broadcast.config(), system.wall())?;
    let sink = RefCell::new(match is_pcap {
        true => Sink::Pcap(PcapSink::create(out).map_err(failed)?),
        false => Sink::File(FileSink::create(out).map_err(failed)?),
    });
    let start = system.wall();
    let clocks = VirtualClocks::new(start);
    let epoch_ns = start.unix_ms().max(0) as u64 * 1_000_000;
    let line = Line::open(broadcast.config(), false, is_pcap, start)?;
    let mut console =
        Console::new(bar("building {bar:30} {pos}/{len}", broadcast.air.objects().count() as u64));
    let end = match seconds {
        0 => End::Cycle,
        _ => End::At { ns: seconds.saturating_mul(1_000_000_000) },
    };
    let mut transmission = Transmission::new(broadcast, line, end);
    transmission.run(
        &clocks,
        &AtomicBool::new(false),
        None,
        &mut console,
        &mut |to: SocketAddr, payload: &[u8], now_ns: u64| {
            sink.borrow_mut().send(to, payload, epoch_ns + now_ns).map_err(failed)
        },
    )?;
    sink.into_inner().finish().map_err(failed)?;
    versions.as_mut().map_or(Ok(()), Versions::keep)?;
    console.bar.finish_and_clear();
    let elapsed = Duration::from_nanos(clocks.now().as_nanos());
    eprintln!("{}: {}", out.display(), transmission.stats().to_text(elapsed));
    Ok(())
}

/// Progress and problems of a running transmission, on stderr.
struct Console {
    bar: ProgressBar,
    is_terminal: bool,
    state: Option<StateWriter>,
    /// Versions of signatures that are set aside.
    versions: Option<Versions>,
    ingest: Option<Ingest>,
    /// Text that was last printed of it.
    ingest_text: String,
    pulled: Option<Arc<PullStats>>,
    /// See `ingest_text`.
    pulled_text: String,
}

/// The sockets, and what is said once the first packets have left by them: where the system refuses those, the error is all.
struct Announced {
    sink: UdpSink,
    announcement: Option<String>,
    say: fn(&str),
}

impl Output for Announced {
    fn send(&mut self, destination: SocketAddr, payload: &[u8], _now_ns: u64) -> Result<(), String> {
        self.sink.send(destination, payload).map_err(|err| err.to_string())
    }

    fn flush(&mut self) -> Result<(), String> {
        self.sink.flush().map_err(|err| err.to_string())?;
        if let Some(announcement) = self.announcement.take() {
            (self.say)(&announcement);
        }
        Ok(())
    }
}

/// The objects on the air, by where they come from.
fn counted_objects(broadcast: &Broadcast) -> String {
    let objects = broadcast.air.on_air();
    let of_sources: usize = (0..broadcast.config().sources.len()).map(|at| broadcast.objects_of(at)).sum();
    let made = match broadcast.config().firmware {
        Some(_) => "documents and bundles of the headend",
        None => "documents of the headend",
    };
    format!("{} ({of_sources} from sources, {} {made})", counted(objects, "object"), objects - of_sources)
}

/// The condition of each source as it was first read.
fn conditions_at_start(broadcast: &Broadcast) -> Vec<Condition> {
    broadcast.named_inventories().map(|(_, inventory)| Condition::at_start(inventory)).collect()
}

/// State for `headend status`, written once a second at most.
struct StateWriter {
    state: State,
    config: Config,
    /// Of each source.
    conditions: Vec<Condition>,
    updated: Duration,
}

impl StateWriter {
    fn update(&mut self, stats: &LineStats, elapsed: Duration) {
        if elapsed.saturating_sub(self.updated) >= Duration::from_secs(1) {
            self.updated = elapsed;
            self.state.update(&self.config, stats.on_air, &self.conditions, stats, elapsed);
        }
    }
}

impl Console {
    fn new(bar: ProgressBar) -> Self {
        Self {
            bar,
            is_terminal: is_terminal(),
            state: None,
            versions: None,
            ingest: None,
            ingest_text: String::new(),
            pulled: None,
            pulled_text: String::new(),
        }
    }
}

impl Console {
    fn keep_versions(&mut self) {
        if let Some(Err(why)) = self.versions.as_mut().map(Versions::keep) {
            say(&format!("headend: {why}"));
        }
    }
}

impl Observer for Console {
    fn progress(&mut self, done: u64, all: Option<u64>, stats: &LineStats, elapsed: Duration) {
        if let Some(all) = all {
            self.bar.set_length(all);
        }
        self.bar.set_position(done);
        self.keep_versions();
        let rate = stats.link_bytes as f64 * 8e-6 / elapsed.as_secs_f64().max(0.001);
        self.bar.set_message(format!("{rate:.3} Mbit/s"));
        if let Some(writer) = &mut self.state {
            writer.update(stats, elapsed);
        }
    }

    fn log(&mut self, stats: &LineStats, elapsed: Duration) {
        self.keep_versions();
        if let Some(writer) = &mut self.state {
            writer.update(stats, elapsed);
        }
        if !self.is_terminal {
            say(&stats.to_text(elapsed));
        }
        let text = self.ingest.as_ref().map(|it| it.stats().to_text()).unwrap_or_default();
        if text != self.ingest_text {
            say(&text);
            self.ingest_text = text;
        }
        let text = self.pulled.as_ref().map(|it| it.to_text()).unwrap_or_default();
        if text != self.pulled_text {
            say(&text);
            self.pulled_text = text;
        }
    }

    fn followed(&mut self, source: usize, followed: UpdateCounts) {
        let Some(writer) = &self.state else { return };
        let line = changed_line(&writer.config.sources[source], followed);
        if let Some(line) = line.filter(|_| !self.is_terminal) {
            say(&line);
        }
    }

    fn condition(&mut self, source: usize, condition: Condition, objects: usize) {
        let Some(writer) = &mut self.state else { return };
        let before = std::mem::replace(&mut writer.conditions[source], condition);
        let now = &writer.conditions[source];
        // The reason alone may change: the time without a segment grows.
        if now.as_str() != before.as_str() {
            say(&now.to_line(&before, &writer.config.sources[source], objects));
        }
    }

    fn catalogue(&mut self, problems: &[Problem]) {
        print_problems(problems);
    }

    fn warned(&mut self, warning: &str) {
        say(warning);
    }

    fn left_out(&mut self, object: &str) {
        say(&format!("left out: {object}"));
    }
}

/// A line about the changes of a source; none of a live one, which changes with every segment.
fn changed_line(source: &Source, followed: UpdateCounts) -> Option<String> {
    let UpdateCounts { added, removed } = followed;
    let line =
        || format!("source {} changed: {} added, {removed} removed", source.name, counted(added, "object"));
    let is_change = added > 0 || removed > 0;
    (source.reserved_bps.is_none() && is_change).then(line)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn a_transmission_is_announced_once_when_its_first_packets_have_left() {
        static SAID: AtomicUsize = AtomicUsize::new(0);
        let say: fn(&str) = |_| {
            SAID.fetch_add(1, Ordering::Relaxed);
        };
        let to = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let announced = |options: &crate::options::Output| {
            let sink = UdpSink::open(options, &[to(9)]).unwrap();
            Announced { sink, announcement: Some("on the air".to_owned()), say }
        };
        // A socket that has an address of loopback has no route to others.
        let on_loopback = crate::options::Output {
            source: Some([127, 0, 0, 1].into()),
            ..crate::options::Output::default()
        };
        let mut refused = announced(&on_loopback);
        refused.send(SocketAddr::from(([198, 51, 100, 1], 9)), b"x", 0).unwrap();
        assert!(refused.flush().is_err());
        assert_eq!(SAID.load(Ordering::Relaxed), 0);
        let receiver = std::net::UdpSocket::bind(to(0)).unwrap();
        let mut sent = announced(&crate::options::Output::default());
        for _ in 0..2 {
            sent.send(receiver.local_addr().unwrap(), b"x", 0).unwrap();
            sent.flush().unwrap();
            assert_eq!(SAID.load(Ordering::Relaxed), 1);
        }
    }

    #[test]
    fn changes_are_logged_with_the_name_of_their_source_and_not_for_each_live_segment() {
        let text = "link.rate_bps = 8_000_000\n[[source]]\npath = '/v/film'\nbase = 'http://h/v/'\n\
                    [[source]]\npath = '/v/live'\nbase = 'http://h/l/'\nreserved_bps = 1_000_000\n";
        let config = Config::parse(text, Path::new("/")).unwrap();
        let lines = config.sources.iter().map(|it| changed_line(it, UpdateCounts { added: 2, removed: 1 }));
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines, [Some("source film changed: 2 objects added, 1 removed".to_owned()), None]);
    }
}
