//! `[simulation]`: receivers, weather and viewing, for `headend plan --simulate`.

use carousel::config::Mistake;
use serde::{Deserialize, Serialize};

use super::Mistakes;

/// `[simulation]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Simulation {
    /// Receivers.
    pub receivers: u64,
    /// The same seed gives the same figures.
    pub seed: u64,
    /// Simulated time.
    pub duration_s: u64,
    /// Receivers come on evenly over this time; 0: all are there from the beginning.
    pub join_s: u64,
    /// Regions that have their own weather.
    pub regions: usize,
    /// Part of all packets that is lost under a clear sky.
    pub loss: f64,
    /// Packets that are lost in a row, on average.
    pub burst_packets: f64,
    /// Times at which regions see nothing.
    #[serde(rename = "fade")]
    pub fades: Vec<Fade>,
    /// Viewing of households, of forecasts' titles.
    pub viewing: Option<Viewing>,
}

impl Default for Simulation {
    fn default() -> Self {
        Self {
            receivers: 1_000_000,
            seed: 1,
            duration_s: 4 * 3600,
            join_s: 0,
            regions: 3,
            loss: 0.01,
            burst_packets: 8.0,
            fades: Vec::new(),
            viewing: None,
        }
    }
}

impl Simulation {
    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Mistakes::of("simulation");
        if !(0.0..=0.9).contains(&self.loss) {
            mistakes.add("loss", format!("{} is out of range", self.loss), "0 to 0.9; 0.01 is 1 %");
        }
        if !(1..=10_000_000).contains(&self.receivers) {
            mistakes.add("receivers", format!("{} is out of range", self.receivers), "1 to 10_000_000");
        }
        if !(1..=30 * 86_400).contains(&self.duration_s) {
            let what = format!("{} s is out of range", self.duration_s);
            mistakes.add("duration_s", what, "1 to 2_592_000 (30 days)");
        }
        if !(1..=1000).contains(&self.regions) {
            mistakes.add("regions", format!("{} is out of range", self.regions), "1 to 1000");
        }
        for region in self.fades.iter().flat_map(|fade| &fade.regions) {
            if *region >= self.regions {
                let what = format!("region {region} does not exist");
                mistakes.add("fade.regions", what, "0 to simulation.regions - 1");
            }
        }
        if self.viewing.as_ref().is_some_and(|viewing| viewing.segment_bytes < 1000) {
            let what = "must be 1000 or more".to_owned();
            mistakes.add("viewing.segment_bytes", what, "2_000_000 is usual");
        }
        mistakes.found
    }
}

/// `[[simulation.fade]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fade {
    /// Regions, from 0.
    pub regions: Vec<usize>,
    /// Its start.
    pub begin_s: u64,
    /// Duration.
    pub lasts_s: u64,
}

/// `[simulation.viewing]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Viewing {
    /// Households that are played; they stand for all.
    pub boxes: u64,
    /// Titles are asked for in proportion to rank^-zipf.
    pub zipf: f64,
    /// Views that a household begins in a day.
    pub views_per_day: f64,
    /// Only the first so many seconds of each title are on the air; left out: all.
    pub prefix_s: Option<u64>,
    /// Instead of `prefix_s`: the segments that are watched most are on the air, as many as fill nine tenths of the cache.
    /// Popular titles get long prefixes then and rare ones short ones; the report says how long.
    pub prefixes_fill_cache: bool,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// When views are given up: after so many seconds, this part of them is over; the rest end anywhere up to the end. The
    /// figures left out are those of a video-on-demand service with 150,000 users (Yu et al., "Understanding user behavior
    /// in large-scale video-on-demand systems", EuroSys 2006): 37 % in five minutes, 53 % in ten, 75 % in twenty-five.
    pub given_up: Vec<(f64, f64)>,
}

impl Default for Viewing {
    fn default() -> Self {
        Self {
            boxes: 100,
            zipf: 1.0,
            views_per_day: 4.0,
            prefix_s: None,
            prefixes_fill_cache: false,
            segment_bytes: 2_000_000,
            given_up: vec![(300.0, 0.37), (600.0, 0.53), (1500.0, 0.75)],
        }
    }
}

impl Viewing {
    /// The part of all views that is still going on after `at_s` of a title of `duration_s`.
    pub(crate) fn still_watching(&self, at_s: f64, duration_s: f64) -> f64 {
        let (mut from_s, mut from_part) = (0.0, 0.0);
        let end = (duration_s, 1.0);
        for &(until_s, until_part) in self.given_up.iter().filter(|it| it.0 < duration_s).chain([&end]) {
            if at_s <= until_s {
                let within = (at_s - from_s) / (until_s - from_s).max(f64::MIN_POSITIVE);
                return 1.0 - from_part - (until_part - from_part) * within;
            }
            (from_s, from_part) = (until_s, until_part);
        }
        0.0
    }

    /// End of a view that draws `part` (0 to 1) of the title's `duration_s`.
    pub(crate) fn ends_after(&self, part: f64, duration_s: f64) -> f64 {
        let (mut from_s, mut from_part) = (0.0, 0.0);
        let end = (duration_s, 1.0);
        for &(until_s, until_part) in self.given_up.iter().filter(|it| it.0 < duration_s).chain([&end]) {
            if part <= until_part {
                let within = (part - from_part) / (until_part - from_part).max(f64::MIN_POSITIVE);
                return from_s + (until_s - from_s) * within;
            }
            (from_s, from_part) = (until_s, until_part);
        }
        duration_s
    }
}
