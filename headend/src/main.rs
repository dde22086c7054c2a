//! `headend`: parse, call, print. Everything else is in the library.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use carousel::dvbi::Edition;
use clap::Parser as _;
use headend::cli::{Cli, Plan, Verb};
use headend::config::Config;
use headend::inspect::{self, Extractor, Inspector, Source};
use headend::multiplex::Rotation;
use headend::package::{self, Options};
use headend::{chart, forecast, scan, simulate, transmit};

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("headend: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<(), String> {
    match verb {
        Verb::Scan { source, json, include_unreferenced, base } => {
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
        Verb::Plan(arguments) => plan(&arguments),
        Verb::Build { config, out, seconds } => transmit::build(Config::load(&config)?, &out, seconds),
        Verb::Send { config, once } => transmit::send(Config::load(&config)?, once, &stop_on_signals()?),
        Verb::Catalog { config, out, edition, json } => catalog(Config::load(&config)?, &out, edition, json),
        Verb::Inspect { source, json, extract, seconds, interface, rate_bps } => {
            let source: Source = source.parse()?;
            let extractor = extract.as_deref().map(Extractor::new).transpose()?;
            let inspector = Inspector::new(extractor);
            let stop = stop_on_signals()?;
            let report = inspect::run(&source, inspector, &interface, seconds, rate_bps, &stop)?;
            if json { print(&pretty(&inspect::to_json(&report))) } else { print(&inspect::to_table(&report)) }
        }
    }
}

/// What the carousel will do, what forecasts come to, and what a simulation says. Fails if a promise cannot be kept.
fn plan(arguments: &Plan) -> Result<(), String> {
    let mut config = Config::load(&arguments.config)?;
    config.simulation.receivers = arguments.receivers.unwrap_or(config.simulation.receivers);
    config.simulation.seed = arguments.seed.unwrap_or(config.simulation.seed);
    // What tables and headers of a transport stream take is no longer there.
    let rate_bps = config.payload_rate_bps();
    let asked = forecast::feasibility(&config.forecasts, rate_bps, config.receiver.cache_bytes);
    let planned = if config.sources.is_empty() {
        None
    } else {
        let mut broadcast = transmit::open(config.clone(), false, true)?;
        Some(match &config.multiplex {
            Some(multiplex) if multiplex.is_carousel() => {
                Rotation::new(&config, multiplex, false).planned(&broadcast)
            }
            _ => broadcast.air.planned(transmit::wall_now()),
        })
    };
    let plan = planned.as_ref().map(|(objects, taken)| headend::plan::plan(objects, rate_bps, taken));
    let simulated = arguments.simulate.then(|| {
        let bar = transmit::bar("simulating {bar:30} {percent} % {eta}", config.simulation.duration_s * 2);
        let mut played = 0;
        let report = simulate::run(
            &config,
            planned.as_ref().map(|(objects, taken)| (&objects[..], taken)),
            |second| {
                // Two runs: with FEC and without.
                played = if second < played % config.simulation.duration_s {
                    config.simulation.duration_s
                } else {
                    played
                };
                played = played.max(second);
                bar.set_position(played);
            },
        );
        bar.finish_and_clear();
        report
    });
    let refusal = plan.as_ref().and_then(headend::plan::Plan::refusal).or_else(|| asked.refusal());
    if let Some(path) = &arguments.html {
        let page = chart::page(plan.as_ref(), &asked, simulated.as_ref());
        std::fs::write(path, page).map_err(|err| format!("{}: {err}", path.display()))?;
        eprintln!("{}: written", path.display());
    } else if arguments.json {
        let to_json =
            |result: Result<serde_json::Value, serde_json::Error>| result.map_err(|err| err.to_string());
        let mut document = match &plan {
            Some(plan) => to_json(serde_json::to_value(plan))?,
            None => to_json(serde_json::to_value(&asked))?,
        };
        document["forecasts"] = to_json(serde_json::to_value(&asked.forecasts))?;
        if let Some(report) = &simulated {
            document["simulation"] = to_json(serde_json::to_value(report))?;
        }
        print(&pretty(&document))?;
    } else {
        let mut texts: Vec<String> = plan.iter().map(headend::plan::Plan::to_table).collect();
        if plan.is_none() || !asked.forecasts.is_empty() {
            texts.push(asked.to_text());
        }
        texts.extend(simulated.iter().map(simulate::Report::to_text));
        print(&texts.join("\n"))?;
    }
    refusal.map_or(Ok(()), Err)
}

/// Writes the announcement documents and the catalogue, whether or not the latter goes on the air.
fn catalog(mut config: Config, out: &Path, edition: Option<Edition>, json: bool) -> Result<(), String> {
    config.catalog.edition = edition.unwrap_or(config.catalog.edition);
    config.dvb_i.get_or_insert_default();
    let broadcast = transmit::open(config, false, true)?;
    let catalog = broadcast.catalog();
    let announced = broadcast.announcements(transmit::wall_now());
    let mut written = Vec::new();
    for document in announced.iter().chain(&catalog.documents).chain(&catalog.files) {
        let path = out.join(&document.file);
        let failed = |err: std::io::Error| format!("{}: {err}", path.display());
        std::fs::create_dir_all(path.parent().unwrap_or(out)).map_err(failed)?;
        std::fs::write(&path, &document.bytes).map_err(failed)?;
        eprintln!("{}: {}", path.display(), document.uri);
        written.push(serde_json::json!({
            "file": document.file, "uri": document.uri, "content_type": document.content_type,
            "length": document.bytes.len(),
        }));
    }
    if json {
        let problems: Vec<String> = catalog.problems.iter().map(ToString::to_string).collect();
        print(&pretty(&serde_json::json!({
            "schema": 1, "documents": written, "problems": problems, "guide_faults": catalog.guide_faults,
        })))?;
    }
    match catalog.guide_faults {
        0 => Ok(()),
        faults => {
            Err(format!("{faults} parts of programme guides are missing: see above; the rest is written"))
        }
    }
}

/// A flag that SIGINT and SIGTERM set; a second signal ends the program at once.
fn stop_on_signals() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|err| format!("cannot handle signals: {err}"))?;
    }
    Ok(stop)
}

fn pretty(document: &serde_json::Value) -> String {
    format!("{document:#}\n")
}

/// Prints to stdout; a reader that has gone away (`| head`) is no failure.
fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(err) if err.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("stdout: {err}")),
        _ => Ok(()),
    }
}
