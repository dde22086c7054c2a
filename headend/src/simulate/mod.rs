//! Simulation of a plan before the launch: a million receivers in virtual time, from a seed.
//!
//! ```text
//! catalogue ─▶ Schedule ─▶ passes ─┬─▶ crowd: losses (Gilbert–Elliott × Protection), fades, BackOff ─▶ tally
//!                                  └─▶ viewing: households' caches                            ─▶ hit ratio
//! ```
//!
//! The simulation runs the product's own code: [`crate::schedule::Schedule`] chooses the objects, [`Protection`] and its
//! block codes give the losses, [`carousel::repair::BackOff`] the times of requests. Receivers of a region that lack the
//! same are counted together, which is what makes a million of them a matter of seconds; `tests/` plays packets through the
//! real receiver and finds the same losses. Left out: retries of an origin that fails (its capacity is the question here),
//! and players that request objects before their box has them.

mod catalogue;
mod crowd;
mod loss;
mod tally;
mod viewing;

use std::fmt::Write as _;
use std::time::Duration;

use carousel::fec::Protection;
use carousel::repair::BackOff;
use serde::Serialize;

pub use loss::{Gilbert, Losses, PassLoss};

use crate::config::Config;
use crate::lanes::wave_symbols;
use crate::plan::{Class, DeductedRates, Planned};
use crate::schedule::Schedule;
use crate::units::{human_bps, human_bytes, human_seconds};
use catalogue::{Catalogue, ForecastCutting};
use crowd::{ReceiverPopulation, Spread};
use tally::Tally;

/// Fewer receivers than this count as 0.
const IDLE: f64 = 1e-9;
/// Points of the load curve in JSON and on the page.
const CURVE_POINTS: usize = 240;

/// Result of a simulation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of this document.
    pub schema: u32,
    /// Receivers.
    pub receivers: u64,
    /// The seed.
    pub seed: u64,
    /// Simulated seconds.
    pub duration_s: u64,
    /// Objects that are carried.
    pub objects: u64,
    /// Passes of objects that were sent.
    pub passes: u64,
    /// With the configuration's FEC, and with none.
    pub with_fec: Outcome,
    /// See `with_fec`.
    pub without_fec: Outcome,
    /// Viewing of households from their boxes; `None` if no viewing is configured.
    pub viewing: Option<ViewingOutcome>,
}

/// Reception and repair.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Part of all (receiver, object) pairs that were complete at the end.
    pub complete: f64,
    /// Seconds from switching on to having an object; `None` for quantiles that were never reached.
    pub acquisition_s: Quantiles,
    /// Bytes of all symbols that receivers asked an origin for.
    pub repair_bytes: f64,
    /// Requests for them.
    pub repair_requests: f64,
    /// The origin's busiest second, in bit/s.
    pub origin_peak_bps: f64,
    /// Bytes that fades took from receivers in the middle of objects, spread evenly over the window in which they ask (their
    /// random back-off): the busiest second if all shared the load fairly. 0 without fades.
    pub fair_share_bps: f64,
    /// Busiest second against the fair share; `None` without fades.
    pub peak_to_fair_share: Option<f64>,
    /// Load on the origin over time in bit/s, at equal distances.
    pub origin_load_bps: Vec<f64>,
}

/// Percentiles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half.
    pub p50: Option<f64>,
    /// 95 of 100.
    pub p95: Option<f64>,
    /// 99 of 100.
    pub p99: Option<f64>,
    /// 999 of 1000.
    pub p999: Option<f64>,
}

/// Hit ratio.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ViewingOutcome {
    /// Households that were played.
    pub boxes: u64,
    /// Views that counted: those of the second half, when caches have filled.
    pub views: u64,
    /// Popularity exponent.
    pub zipf: f64,
    /// Part of all watched bytes that the box had.
    pub hit_ratio: f64,
    /// Seconds on the air of the most popular title, of the middle one, and of the last.
    pub prefix_s: [f64; 3],
}

/// Plays `config`'s simulation. The catalogue is that of `planned`, the objects that sources have on the air, or else that
/// of the forecasts. `progress` gets the simulated second.
pub fn run(
    config: &Config,
    planned: Option<(&[Planned], &DeductedRates)>,
    mut progress: impl FnMut(u64),
) -> Report {
    let simulation = &config.simulation;
    let viewing = simulation.viewing.clone().unwrap_or_default();
    let protection = |class| config.fec.protection(class);
    let none = |_: Class| Protection::NONE;
    let cache_bytes = config.receiver.cache_bytes.unwrap_or(u64::MAX);
    let cut = ForecastCutting {
        viewing: &viewing,
        most_bytes: viewing.prefixes_fill_cache.then_some(cache_bytes / 10 * 9),
        symbol_length: config.carousel.symbol_length_bytes,
    };
    let catalogue = |protection: &dyn Fn(Class) -> Protection| match planned {
        Some((objects, _)) => Catalogue::of_plan(objects, protection),
        None => Catalogue::of_forecasts(&config.forecasts, cut, protection),
    };
    let taken = planned.map_or_else(DeductedRates::default, |(_, taken)| *taken);
    let left_bps = config.link.rate_bps as f64 - taken.fdt_bps - (taken.live_bps + taken.firmware_bps) as f64;
    let on_air = catalogue(&protection);
    let play = |catalogue: &Catalogue, progress: &mut dyn FnMut(u64)| {
        Play { config, catalogue, left_bps, taken }.run(progress)
    };
    let (with_fec, passes) = play(&on_air, &mut progress);
    let (without_fec, _) = play(&catalogue(&none), &mut progress);
    let watched = simulation.viewing.as_ref().map(|viewing| {
        let mut rng = fastrand::Rng::with_seed(simulation.seed ^ 0x5eed);
        let duration_s = simulation.duration_s as f64;
        let watched = viewing::watch(&on_air, &passes, viewing, cache_bytes, duration_s, &mut rng);
        ViewingOutcome {
            boxes: viewing.boxes,
            views: watched.views,
            zipf: viewing.zipf,
            hit_ratio: watched.hit_bytes as f64 / watched.bytes.max(1) as f64,
            prefix_s: on_air.prefixes_s(),
        }
    });
    Report {
        schema: 1,
        receivers: simulation.receivers,
        seed: simulation.seed,
        duration_s: simulation.duration_s,
        objects: on_air.on_air.len() as u64,
        passes: passes.len() as u64,
        with_fec,
        without_fec,
        viewing: watched,
    }
}

/// One run of the carousel.
struct Play<'a> {
    config: &'a Config,
    catalogue: &'a Catalogue,
    left_bps: f64,
    taken: DeductedRates,
}

impl Play<'_> {
    /// Plays it; also returns which object was complete at which time.
    fn run(&self, progress: &mut dyn FnMut(u64)) -> (Outcome, Vec<(f64, u32)>) {
        let (simulation, objects) = (&self.config.simulation, &self.catalogue.on_air);
        let wave = wave_symbols(self.config.link.rate_bps);
        let link = Gilbert::new(simulation.loss, simulation.burst_packets);
        let mut losses = Losses::new(link, self.config.carousel.symbol_length_bytes, wave);
        let repair = &self.config.repair;
        let ms = Duration::from_millis;
        let back_off = BackOff { fixed: ms(repair.fixed_back_off_ms), random: ms(repair.random_back_off_ms) };
        let mut crowd = ReceiverPopulation {
            receivers: simulation.receivers,
            join_s: simulation.join_s as f64,
            regions: simulation.regions.max(1),
            fades: &simulation.fades,
            back_off,
            timeout_s: repair.reception_timeout_ms as f64 / 1000.0,
            repairs: repair.enabled,
            rng: fastrand::Rng::with_seed(simulation.seed),
        };
        let mut schedule = Schedule::default();
        // Objects that were never sent go first, in order, as on the air.
        let mut fresh = 0..objects.len() as u64;
        let bytes: u64 = objects.iter().map(|object| object.air_bytes).sum();
        let pass_s = bytes as f64 * 8.0 / self.left_bps.max(1.0);
        let cycle_ns = self.taken.cycle_s.filter(|&cycle_s| pass_s <= cycle_s).map(|it| (it * 1e9) as u64);
        let mut spreads = vec![Spread::default(); objects.len()];
        let mut passes = Vec::new();
        let mut tally = Tally::new(simulation.duration_s as usize);
        let (end_s, mut now_s) = (simulation.duration_s as f64, 0.0);
        while now_s < end_s && !objects.is_empty() && self.left_bps > 1.0 {
            // Protected objects go out in waves, as on the air.
            let (mut batch, mut symbols, mut bytes) = (Vec::new(), 0, 0);
            let now_ns = (now_s * 1e9) as u64;
            while let Some(id) = fresh.next().or_else(|| schedule.next(now_ns, cycle_ns)) {
                let object = &objects[id as usize];
                schedule.add(id, object.weight, object.air_bytes, now_ns);
                let loss = losses.of(self.catalogue.sizes[object.object as usize], &object.protection);
                batch.push((id as usize, loss));
                symbols += u64::from(loss.symbols);
                bytes += object.air_bytes;
                if loss.spare == 0 || symbols >= wave || batch.len() >= objects.len() {
                    break;
                }
            }
            let done_s = now_s + (bytes as f64 * 8.0 / self.left_bps).max(1e-6);
            for (id, loss) in batch {
                crowd.pass(&mut spreads[id], now_s, done_s, &loss, &mut tally);
                passes.push((done_s, objects[id].object));
            }
            if now_s as u64 / 60 != done_s as u64 / 60 {
                progress(done_s as u64);
            }
            now_s = done_s;
        }
        let mut lacking = 0.0;
        for (spread, object) in spreads.iter_mut().zip(objects) {
            let loss = losses.of(self.catalogue.sizes[object.object as usize], &object.protection);
            crowd.settle(spread, end_s, f64::from(loss.symbol_bytes), &mut tally);
            lacking += crowd.without(spread);
        }
        (outcome(&tally, lacking), passes)
    }
}

fn outcome(tally: &Tally, lacking: f64) -> Outcome {
    let all = tally.total() + lacking;
    let quantile = |part| tally.quantile(part, all);
    let load = tally.load_bytes();
    let peak = load.iter().copied().fold(0.0, f64::max) * 8.0;
    let fair_share_bps = tally.fair_bytes().iter().copied().fold(0.0, f64::max) * 8.0;
    let step = load.len().div_ceil(CURVE_POINTS).max(1);
    Outcome {
        complete: if all > 0.0 { tally.total() / all } else { 1.0 },
        acquisition_s: Quantiles {
            p50: quantile(0.5),
            p95: quantile(0.95),
            p99: quantile(0.99),
            p999: quantile(0.999),
        },
        repair_bytes: load.iter().sum(),
        repair_requests: tally.requests(),
        origin_peak_bps: peak,
        fair_share_bps,
        peak_to_fair_share: (fair_share_bps > 0.0).then(|| peak / fair_share_bps),
        origin_load_bps: load
            .chunks(step)
            .map(|seconds| seconds.iter().copied().fold(0.0, f64::max) * 8.0)
            .collect(),
    }
}

impl Report {
    /// For a person.
    pub fn to_text(&self) -> String {
        let mut out = format!(
            "simulated       {} receivers, {}, {} objects, {} passes of them, seed {}\n\n{:<26} {:>14} {:>14}\n",
            self.receivers,
            human_seconds(self.duration_s as f64),
            self.objects,
            self.passes,
            self.seed,
            "",
            "with FEC",
            "without"
        );
        let mut row = |name: &str, of: &dyn Fn(&Outcome) -> String| {
            let _ = writeln!(out, "{name:<26} {:>14} {:>14}", of(&self.with_fec), of(&self.without_fec));
        };
        let time = |seconds: Option<f64>| seconds.map_or_else(|| "never".to_owned(), human_seconds);
        row("complete at the end", &|it| format!("{:.3} %", it.complete * 100.0));
        row("half have an object in", &|it| time(it.acquisition_s.p50));
        row("95 of 100", &|it| time(it.acquisition_s.p95));
        row("99 of 100", &|it| time(it.acquisition_s.p99));
        row("999 of 1000", &|it| time(it.acquisition_s.p999));
        row("asked of the origin", &|it| human_bytes(it.repair_bytes as u64));
        row("requests", &|it| format!("{:.0}", it.repair_requests));
        row("origin's busiest second", &|it| human_bps(it.origin_peak_bps));
        if self.with_fec.fair_share_bps > 0.0 {
            row("fair share of fades", &|it| human_bps(it.fair_share_bps));
            row("busiest to fair share", &|it| {
                it.peak_to_fair_share.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
            });
        }
        if let Some(viewing) = &self.viewing {
            let _ = writeln!(
                out,
                "\nhit ratio       {:.1} % of the bytes of {} views in {} households (Zipf {})",
                viewing.hit_ratio * 100.0,
                viewing.views,
                viewing.boxes,
                viewing.zipf
            );
            let [first, middle, last] = viewing.prefix_s.map(human_seconds);
            let _ = writeln!(
                out,
                "on the air      {first} of the first title, {middle} of the middle one, {last} of the last"
            );
        }
        out
    }
}

#[cfg(test)]
mod tests;
