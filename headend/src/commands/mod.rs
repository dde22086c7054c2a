//! The commands: one function for each verb of the command line.

mod catalog;
mod check;
mod command;
mod firmware;
mod keygen;
mod plan;
mod pull;
mod transmit;

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::carousel::time::WallTime;
use clap::CommandFactory as _;

use crate::broadcast::Broadcast;
use crate::cli::{Cli, Verb};
use crate::clock::Clocks;
use crate::config::{Config, Profile};
use crate::inspect::{self, Extractor, Inspector, Source};
use crate::package::{self, Inventory, Options, Problem};
use crate::progress::{Preparation, say};
use crate::{scan, signing, status};

/// Runs a command.
///
/// # Errors
/// Text to print: what failed, and how to fix it.
pub fn run(verb: Verb) -> Result<(), String> {
    match verb {
        Verb::Scan { source, json, include_unreferenced, base } => {
            if let Some(why) = refuse_url(&source) {
                return Err(why);
            }
            let options = Options { include_unreferenced, base, ..Options::default() };
            let inventory = package::read(&source, &options).map_err(|err| err.to_string())?;
            if json {
                print(&pretty(&scan::to_json(&inventory)))?;
            } else {
                print(&scan::to_table(&inventory))?;
            }
            match inventory.faults() {
                0 => Ok(()),
                faults => Err(format!(
                    "{}: {faults} of what the manifests name cannot be carried; the problems say what to do",
                    source.display()
                )),
            }
        }
        Verb::Plan(arguments) => plan::plan(&arguments),
        Verb::Build { config, out, seconds } => transmit::build(Config::load(&config)?, &out, seconds),
        Verb::Send { config, print_config: true, .. } | Verb::Check { config, print_config: true, .. } => {
            let text = Config::load(&config)?.to_toml()?;
            print(&format!("# {}, with every default\n{text}", config.display()))
        }
        Verb::Send { config, once, alongside, until_stdin_ends, .. } => {
            let stop = stop_on_signals()?;
            if until_stdin_ends {
                stop_with_stdin(&stop)?;
            }
            transmit::send(Config::load(&config)?, once, alongside, &stop)
        }
        Verb::Check { config, json, .. } => check::check(Config::load(&config)?, json),
        Verb::Status { config, json } => {
            let value = status::ask(&config)?;
            if json { print(&pretty(&value)) } else { print(&status::to_table(&value)) }
        }
        Verb::Pull { config, json } => pull::pull(&Config::load(&config)?, json),
        Verb::Keygen(arguments) => keygen::keygen(arguments),
        Verb::Command(order) => command::command(order),
        Verb::Firmware { action } => firmware::firmware(action),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "headend", &mut std::io::stdout());
            Ok(())
        }
        Verb::Catalog { config, out, edition, json } => {
            catalog::catalog(Config::load(&config)?, &out, edition, json)
        }
        Verb::Inspect { source, json, extract, seconds, interface, rate_bps } => {
            let source: Source = source.parse()?;
            let extractor = extract.as_deref().map(Extractor::new).transpose()?;
            let inspector = Inspector::new(extractor);
            let stop = stop_on_signals()?;
            let report = inspect::run(&source, inspector, &interface, seconds, rate_bps, &stop)?;
            if let (Source::Udp(group), true) = (&source, report.is_empty()) {
                eprintln!(
                    "headend: nothing arrived on {group} within {seconds} s; is the sender on the air, and is --interface the \
                     one that it arrives on? `skycached check` looks at every interface, filter and membership"
                );
            }
            if json { print(&pretty(&inspect::to_json(&report))) } else { print(&inspect::to_table(&report)) }
        }
    }
}

/// Why a URL is not a source, with what to do instead.
fn refuse_url(source: &Path) -> Option<String> {
    let text = source.to_string_lossy();
    text.contains("://").then(|| format!("{text}: {}", crate::options::NO_URL_SOURCES))
}

/// First TOIs and FDT Instance IDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    /// The same at every run: for documents and recordings.
    Stable,
    /// Different from one start to the next, so that receivers do not take new objects for old ones.
    Fresh,
}

/// The first TOI at `wall`: 22 bits of seconds (48 days), 256 objects a second.
fn first_toi(config: &Config, wall: WallTime) -> u32 {
    let seconds = wall.unix_ms() / 1000;
    match config.carousel.profile {
        Profile::Bits16 => 1 + (seconds & 0x7fff) as u32,
        Profile::Compatible | Profile::Strict => ((seconds & 0x3f_ffff) as u32) << 8 | 1,
    }
}

/// Whether changes of the sources are followed. A single pass, a plan or a recording takes the files that exist.
fn is_followed(once: bool, identity: Identity) -> bool {
    !once && identity == Identity::Fresh
}

/// Reads the sources, shows how far that is, and prints what is wrong with them.
fn open(
    config: Config,
    once: bool,
    identity: Identity,
    clocks: &dyn Clocks,
    progress: &Preparation,
) -> Result<Broadcast, String> {
    let mut broadcast = open_unreported(config, once, identity, clocks, progress)?;
    report(&mut broadcast);
    let is_followed = is_followed(once, identity);
    for (source, (_, inventory)) in broadcast.config().sources.iter().zip(broadcast.named_inventories()) {
        // A packager may just have begun: the follower reports a live source after some target durations.
        let is_waited_for = is_followed && source.reserved_bps.is_some();
        if let Some((what, fix)) = inventory.without_media().filter(|_| !is_waited_for) {
            eprintln!("{}: {what}; {fix}", source.name);
        }
    }
    Ok(broadcast)
}

/// Reads the sources, and shows how far that is.
fn open_unreported(
    mut config: Config,
    once: bool,
    identity: Identity,
    clocks: &dyn Clocks,
    progress: &Preparation,
) -> Result<Broadcast, String> {
    let wall = clocks.wall();
    config.sealer = signing::sealer(&config, wall)?;
    let first_toi = match identity {
        Identity::Stable => 1,
        Identity::Fresh => first_toi(&config, wall),
    };
    progress.show(|| Broadcast::open(config, once, is_followed(once, identity), first_toi, wall, progress))
}

/// Prints what is wrong with the sources and the catalogue.
fn report(broadcast: &mut Broadcast) {
    for warning in broadcast.take_warnings() {
        eprintln!("{warning}");
    }
    for (source, problem) in broadcast.problems() {
        if problem.place.is_empty() {
            eprintln!("{problem}");
        } else {
            eprintln!("{source}: {problem}");
        }
    }
    for (source, inventory) in broadcast.named_inventories() {
        let counts = inventory.left_out_by_reason();
        if !counts.is_empty() {
            eprintln!("{source}: not carried: {}", Inventory::left_out_text(&counts));
        }
    }
    print_problems(&broadcast.catalog().problems);
}

/// Prints what is wrong with the catalogue.
fn print_problems(problems: &[Problem]) {
    for problem in problems {
        say(&format!("catalogue: {problem}"));
    }
}

/// A flag that SIGINT, SIGTERM and SIGHUP (a closed terminal) set; a second signal ends the program at once. SIGHUP that the
/// program was started to ignore, as by nohup, stays ignored.
fn stop_on_signals() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in stopping_signals() {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|err| format!("cannot handle signals: {err}"))?;
    }
    Ok(stop)
}

/// A flag while which the signals of [`stop_on_signals`] end the program at once, with success: until something is on the air there
/// is nothing to close, and hashing a film takes minutes.
fn end_on_signals() -> Result<Arc<AtomicBool>, String> {
    let is_opening = Arc::new(AtomicBool::new(true));
    for signal in stopping_signals() {
        signal_hook::flag::register_conditional_shutdown(signal, 0, Arc::clone(&is_opening))
            .map_err(|err| format!("cannot handle signals: {err}"))?;
    }
    Ok(is_opening)
}

/// SIGINT, SIGTERM, and SIGHUP unless it is ignored.
fn stopping_signals() -> impl Iterator<Item = i32> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let hangup = (!crate::sys::is_ignored(SIGHUP)).then_some(SIGHUP);
    [SIGINT, SIGTERM].into_iter().chain(hangup)
}

/// Sets a flag when standard input ends. Its content is ignored.
fn stop_with_stdin(stop: &Arc<AtomicBool>) -> Result<(), String> {
    let stop = Arc::clone(stop);
    let wait = move || {
        // An input that cannot be read has ended, too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        stop.store(true, Ordering::Relaxed);
    };
    let started = std::thread::Builder::new().name("stdin".to_owned()).spawn(wait);
    started.map(|_| ()).map_err(|err| format!("cannot start a thread: {err}"))
}

fn pretty(document: &serde_json::Value) -> String {
    format!("{document:#}\n")
}

/// Prints to stdout. A closed pipe (`| head`) is not an error.
fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(err) if err.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("stdout: {}", ::carousel::config::without_numbers(&err)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a program of its own, which the signal ends.
    #[test]
    fn a_signal_while_sources_are_read_ends_the_program_in_order() {
        const CHILD: &str = "HEADEND_TEST_SIGNAL";
        if let Ok(what) = std::env::var(CHILD) {
            let stop = stop_on_signals().unwrap();
            let is_opening = end_on_signals().unwrap();
            is_opening.store(what == "opening", Ordering::Relaxed);
            signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
            std::process::exit(if stop.load(Ordering::Relaxed) { 7 } else { 8 });
        }
        for (what, status) in [("opening", 0), ("sending", 7)] {
            let name = "commands::tests::a_signal_while_sources_are_read_ends_the_program_in_order";
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            let output = child.args(["--exact", name]).env(CHILD, what).output().unwrap();
            assert_eq!(output.status.code(), Some(status), "{what}");
        }
    }

    /// Without a handler SIGHUP would end the tests.
    #[test]
    fn a_closed_terminal_ends_a_transmission_in_order() {
        let hangup = signal_hook::consts::SIGHUP;
        if crate::sys::is_ignored(hangup) {
            eprintln!("SKIPPED: SIGHUP is ignored, as by nohup");
            return;
        }
        let stop = stop_on_signals().unwrap();
        assert!(!stop.load(Ordering::Relaxed));
        signal_hook::low_level::raise(hangup).unwrap();
        assert!(stop.load(Ordering::Relaxed));
    }
}
