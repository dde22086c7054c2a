//! Feasibility of a planned catalogue: its required rate compared with the rate of the link.
//!
//! Pure. [`crate::plan`] plans existing objects; this module is for intended ones: a number of titles with their sizes,
//! live ladders, a maximum cycle.

use std::fmt::Write as _;

use serde::Serialize;

use crate::options::Forecast;
use crate::units::human_seconds;

/// Result of one forecast.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Its name.
    pub name: String,
    /// Part of the link for its live content, 0 to 1.
    pub live_share: f64,
    /// Bytes of all titles.
    pub bytes: u64,
    /// Duration of one pass of all titles beside live, in seconds: the shortest possible promise.
    pub cycle_s: f64,
    /// Promised cycle; 0: none.
    pub promised_cycle_s: u64,
    /// Whether it can be kept.
    pub is_kept: bool,
    /// Titles that fit the promised cycle.
    pub titles_that_fit: u64,
    /// Bytes of each title that fit the promised cycle, from its beginning; the rest comes from the origin.
    pub prefix_bytes: u64,
    /// The same in seconds of playing time, where that is known.
    pub prefix_s: Option<u64>,
    /// Whether one rung of each title alone fits.
    pub one_rung_fits: bool,
    /// Complete titles that fit a receiver's cache.
    pub titles_in_cache: Option<u64>,
}

/// All forecasts on one link.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Feasibility {
    /// Version of this document.
    pub schema: u32,
    /// The link's rate.
    pub rate_bps: u64,
    /// Part of it for live, 0 to 1; above 1 it does not fit.
    pub live_share: f64,
    /// One by one.
    pub forecasts: Vec<Verdict>,
}

/// Evaluates `forecasts`. Titles of several forecasts share the rate left by live in proportion to their bytes.
pub fn feasibility(forecasts: &[Forecast], rate_bps: u64, cache_bytes: Option<u64>) -> Feasibility {
    let rate = rate_bps.max(1) as f64;
    let live_of = |it: &Forecast| it.live_bps.iter().sum::<u64>() as f64 / rate;
    let live_share: f64 = forecasts.iter().map(live_of).sum();
    let bytes_of = |it: &Forecast| it.titles.saturating_mul(it.title_bytes);
    let all_bytes: u64 = forecasts.iter().map(bytes_of).fold(0, u64::saturating_add);
    let verdict = |it: &Forecast| {
        let bytes = bytes_of(it);
        // Its part of the rate left by live.
        let own_rate = rate * (1.0 - live_share).max(0.0) * bytes as f64 / all_bytes.max(1) as f64;
        let seconds = |bytes: u64| if bytes == 0 { 0.0 } else { bytes as f64 * 8.0 / own_rate };
        let budget = own_rate * it.promised_cycle_s as f64 / 8.0;
        let prefix_bytes = ((budget / it.titles.max(1) as f64) as u64).min(it.title_bytes);
        let in_time = |bytes: u64| it.promised_cycle_s == 0 || seconds(bytes) <= it.promised_cycle_s as f64;
        Verdict {
            name: it.name.clone(),
            live_share: live_of(it),
            bytes,
            cycle_s: seconds(bytes),
            promised_cycle_s: it.promised_cycle_s,
            is_kept: in_time(bytes) && live_share <= 1.0,
            titles_that_fit: ((budget / it.title_bytes.max(1) as f64) as u64).min(it.titles),
            prefix_bytes,
            prefix_s: (it.title_duration_s > 0 && it.title_bytes > 0).then(|| {
                (u128::from(prefix_bytes) * u128::from(it.title_duration_s) / u128::from(it.title_bytes))
                    as u64
            }),
            one_rung_fits: it.rungs > 1 && in_time(bytes / it.rungs),
            titles_in_cache: cache_bytes.filter(|_| it.title_bytes > 0).map(|cache| cache / it.title_bytes),
        }
    };
    Feasibility { schema: 1, rate_bps, live_share, forecasts: forecasts.iter().map(verdict).collect() }
}

impl Feasibility {
    /// Whether every promise can be kept.
    pub fn is_kept(&self) -> bool {
        self.live_share <= 1.0 && self.forecasts.iter().all(|it| it.is_kept)
    }

    /// One line about the first promise that cannot be kept, with the nearest possible one.
    pub fn refusal(&self) -> Option<String> {
        if self.live_share > 1.0 {
            return Some(format!(
                "live alone takes {:.0} % of the link; carry fewer rungs, or take a larger link",
                self.live_share * 100.0
            ));
        }
        let broken = self.forecasts.iter().find(|it| !it.is_kept)?;
        Some(format!(
            "{}: a cycle of {} cannot be kept; the nearest that can is {}",
            broken.name,
            human_seconds(broken.promised_cycle_s as f64),
            human_seconds(broken.cycle_s)
        ))
    }

    /// The report as text.
    pub fn to_text(&self) -> String {
        let mut out = format!("link            {:.2} Mbit/s\n", self.rate_bps as f64 / 1e6);
        if self.live_share > 0.0 {
            let _ = writeln!(out, "live            {:.0} % of it", self.live_share * 100.0);
        }
        for it in &self.forecasts {
            let _ = writeln!(out, "\n{}", it.name);
            if it.live_share > 0.0 {
                let _ = writeln!(out, "  live          {:.1} % of the link", it.live_share * 100.0);
            }
            if it.bytes == 0 {
                continue;
            }
            let _ = writeln!(
                out,
                "  one pass      {} for {:.1} GB",
                human_seconds(it.cycle_s),
                it.bytes as f64 / 1e9
            );
            if let Some(titles) = it.titles_in_cache {
                let _ = writeln!(out, "  a box holds   {titles} whole titles");
            }
            if it.promised_cycle_s == 0 {
                continue;
            }
            let promised = human_seconds(it.promised_cycle_s as f64);
            if it.is_kept {
                let _ = writeln!(out, "  promise       {promised}: can be kept");
                continue;
            }
            let _ = writeln!(out, "  promise       {promised}: CANNOT be kept. What would work:");
            let _ = writeln!(out, "                a cycle of {}", human_seconds(it.cycle_s));
            let _ = writeln!(out, "                {} titles in {promised}", it.titles_that_fit);
            let minutes = it.prefix_s.map_or(String::new(), |s| format!(", {} min {} s", s / 60, s % 60));
            let _ = writeln!(
                out,
                "                the first {:.0} MB{minutes} of every title, the rest from the origin",
                it.prefix_bytes as f64 / 1e6
            );
            if it.one_rung_fits {
                let _ = writeln!(out, "                one rung of each title");
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::DvbS2;

    fn films(promised_cycle_s: u64) -> Forecast {
        Forecast {
            name: "films".to_owned(),
            titles: 200,
            title_bytes: 629_000_000,
            title_duration_s: 5400,
            rungs: 1,
            promised_cycle_s,
            live_bps: Vec::new(),
        }
    }

    const CARRIER: (&str, &str, u32) = ("8PSK", "3/4", 27_500);

    fn carrier() -> DvbS2 {
        let (modulation, fec, symbol_rate_ksps) = CARRIER;
        DvbS2 { modulation: modulation.to_owned(), fec: fec.to_owned(), symbol_rate_ksps }
    }

    #[test]
    fn two_hundred_films_do_not_come_round_in_an_hour() {
        let rate = carrier().rate_bps().unwrap();
        assert_eq!(rate / 10_000, 6127);
        let all = feasibility(&[films(3600)], rate, Some(10 << 30));
        let it = &all.forecasts[0];
        assert_eq!(human_seconds(it.cycle_s), "4 h 34 min");
        assert!(!all.is_kept());
        assert_eq!((it.titles_that_fit, it.titles_in_cache, it.prefix_s), (43, Some(17), Some(1183)));
        assert!(
            all.refusal().unwrap().starts_with("films: a cycle of 1 h 0 min cannot be kept; the nearest")
        );
        assert!(feasibility(&[films(5 * 3600)], rate, None).is_kept());
    }

    #[test]
    fn a_full_ladder_live_is_half_a_transponder_and_slows_the_films() {
        let rate = carrier().rate_bps().unwrap();
        let ladder = vec![12_000_000, 8_000_000, 5_000_000, 3_000_000, 1_600_000, 800_000];
        let channel =
            Forecast { titles: 0, title_bytes: 0, live_bps: ladder, name: "channel".to_owned(), ..films(0) };
        let all = feasibility(&[films(3600), channel.clone()], rate, None);
        assert!((0.49..0.51).contains(&all.live_share), "{}", all.live_share);
        assert!(all.forecasts[0].cycle_s > 32_000.0);
        let three = vec![channel.clone(), channel.clone(), channel];
        assert!(feasibility(&three, rate, None).refusal().unwrap().contains("live alone takes 149 %"));
    }

    #[test]
    fn nothing_and_nonsense_divide_nothing_by_zero() {
        let none = feasibility(&[], 0, Some(0));
        assert!(none.is_kept() && none.refusal().is_none());
        let empty = Forecast { titles: 0, title_bytes: 0, ..films(10) };
        assert!(feasibility(&[empty], 1, Some(0)).is_kept());
        let huge = Forecast { titles: u64::MAX, title_bytes: u64::MAX, ..films(1) };
        assert!(!feasibility(&[huge], 1, None).is_kept());
        assert_eq!(DvbS2 { fec: "7/8".to_owned(), ..carrier() }.rate_bps(), None);
    }
}
