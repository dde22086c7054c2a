//! `headend plan`: prints the plan of a carousel ([`crate::plan`]), its forecast and simulation, or writes
//! them as a report ([`crate::chart`]).

use super::check::is_empty;
use super::{Identity, open, pretty, print};
use crate::clock::{Clocks as _, SystemClocks};
use crate::config::Config;
use crate::multiplex::Rotation;
use crate::plan::{self, Plan};
use crate::progress::bar;
use crate::{chart, cli, forecast, simulate};

/// Prints the plan of the carousel, of forecasts and of a simulation. Fails if a promise cannot be kept.
pub(super) fn plan(arguments: &cli::Plan) -> Result<(), String> {
    let clocks = SystemClocks::new();
    let mut config = Config::load(&arguments.config)?;
    config.simulation.receivers = arguments.receivers.unwrap_or(config.simulation.receivers);
    config.simulation.seed = arguments.seed.unwrap_or(config.simulation.seed);
    // The overhead of a transport stream's tables and headers is taken off already.
    let rate_bps = config.payload_rate_bps();
    let asked = forecast::feasibility(&config.forecasts, rate_bps, config.receiver.cache_bytes);
    let empty = config.sources.iter().filter(|it| it.pull.is_some() && is_empty(&it.path));
    let empty: Vec<_> = empty.map(|it| format!("source {}: {}", it.name, it.path.display())).collect();
    if !empty.is_empty() {
        return Err(format!(
            "{}: nothing has been pulled there yet; `headend pull -c {}` does it",
            empty.join(", "),
            arguments.config.display()
        ));
    }
    let planned = if config.sources.is_empty() {
        None
    } else {
        let mut broadcast =
            open(config.clone(), false, Identity::Stable, &clocks, &super::Preparation::default())?;
        Some(match &config.multiplex {
            Some(multiplex) if multiplex.is_carousel() => {
                Rotation::new(&config, multiplex, false).planned(&broadcast.air)
            }
            _ => broadcast.air.planned(clocks.wall()),
        })
    };
    let plan = planned.as_ref().map(|(objects, taken)| plan::plan(objects, rate_bps, taken));
    let simulated = arguments.simulate.then(|| {
        let bar = bar("simulating {bar:30} {percent} % {eta}", config.simulation.duration_s * 2);
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
    let refusal = plan.as_ref().and_then(Plan::refusal).or_else(|| asked.refusal());
    if let Some(path) = &arguments.html {
        let page = chart::page(&config, clocks.wall(), plan.as_ref(), &asked, simulated.as_ref());
        std::fs::write(path, page)
            .map_err(|err| format!("{}: {}", path.display(), carousel::config::without_numbers(&err)))?;
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
        let mut texts: Vec<String> = plan.iter().map(Plan::to_table).collect();
        if plan.is_none() || !asked.forecasts.is_empty() {
            texts.push(asked.to_text());
        }
        texts.extend(simulated.iter().map(simulate::Report::to_text));
        print(&texts.join("\n"))?;
    }
    refusal.map_or(Ok(()), Err)
}
