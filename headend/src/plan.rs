//! Plan of a carousel: the period of each object, and the mean wait of receivers.
//!
//! With request probability pᵢ and transmission time sᵢ the mean wait is minimal if the period of object i is
//! √(sᵢ/pᵢ)·Σ√(pⱼsⱼ); it is then (Σ√(pᵢsᵢ))²/2, the bound (Vaidya and Hameed, "Scheduling data broadcast in asymmetric
//! communication environments", 1999). Objects with a hard maximum period (announcement, manifests) and the reserve for
//! live are excluded: their share of the link is deducted first. Objects whose period would exceed the promised cycle are
//! sent once per cycle, and the others share the rest.
//!
//! A pure function from objects and rates to times. [`crate::schedule`] is its online counterpart.

use std::fmt::Write as _;

use serde::Serialize;

pub use crate::options::Class;
use crate::units::human_seconds;

/// An object for the planner.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Its URI.
    pub uri: String,
    /// Bytes of the object.
    pub length: u64,
    /// Bytes of its packets, headers included.
    pub air_bytes: u64,
    /// Its class.
    pub class: Class,
    /// Relative request probability: its class's weight times its popularity.
    pub weight: f64,
    /// Hard maximum period; the share of such objects is deducted first.
    pub max_period_s: Option<f64>,
}

impl Planned {
    /// A scheduled object with the popularity of its class.
    pub const fn new(uri: String, length: u64, air_bytes: u64, class: Class) -> Self {
        Self { uri, length, air_bytes, class, weight: class.weight(), max_period_s: None }
    }
}

/// Rates deducted from the link before the schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DeductedRates {
    /// Rate of the FDT's repetition.
    pub fdt_bps: f64,
    /// Reserved for live.
    pub live_bps: u64,
    /// Reserved for firmware on offer.
    pub firmware_bps: u64,
    /// Every object is repeated at least this often.
    pub cycle_s: Option<f64>,
}

/// Plan of the carousel for one object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ObjectPlan {
    /// Its URI.
    pub uri: String,
    /// Bytes of the object.
    pub length: u64,
    /// Its class.
    pub class: &'static str,
    /// Seconds from one start to the next.
    pub period_s: f64,
    /// Part of the link's rate, 0 to 1.
    pub share: f64,
    /// Seconds from tuning in to complete reception, without loss.
    pub acquisition_s: Acquisition,
}

/// Percentiles over tuning in at a random moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Acquisition {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// A complete plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Version of this document.
    pub schema: u32,
    /// Rate of the link, IP packets included.
    pub rate_bps: u64,
    /// Part of it for FDT, announcement and manifests, 0 to 1; above 1 the plan cannot be kept.
    pub signalling_share: f64,
    /// Part of it reserved for live, 0 to 1.
    pub live_share: f64,
    /// Part of it for firmware, 0 to 1.
    pub firmware_share: f64,
    /// Seconds in which every scheduled object is sent at least once.
    pub cycle_s: f64,
    /// The promised cycle; `None`: nothing is promised.
    pub promised_cycle_s: Option<f64>,
    /// The shortest possible cycle: every object once.
    pub least_cycle_s: f64,
    /// Mean seconds from a request for an object (by class weight) to its next start.
    pub mean_wait_s: f64,
    /// Lower bound of that for any schedule of the same objects at the same rate.
    pub bound_s: f64,
    /// Per object.
    pub objects: Vec<ObjectPlan>,
}

/// Computes the plan. A promised cycle that cannot be kept is ignored; [`Plan::refusal`] reports it.
pub fn plan(objects: &[Planned], rate_bps: u64, taken: &DeductedRates) -> Plan {
    let rate = rate_bps.max(1) as f64;
    let seconds = |bytes: u64| bytes as f64 * 8.0 / rate;
    let signalling: f64 = objects
        .iter()
        .filter_map(|object| object.max_period_s.map(|period| seconds(object.air_bytes) / period.max(0.001)))
        .sum::<f64>()
        + taken.fdt_bps / rate;
    let live_share = taken.live_bps as f64 / rate;
    let firmware_share = taken.firmware_bps as f64 / rate;
    // Rate left for the schedule; a link that signalling alone overfills is reported, not divided by zero.
    let left = (1.0 - signalling - live_share - firmware_share).max(0.001);
    let scheduled: Vec<&Planned> = objects.iter().filter(|object| object.max_period_s.is_none()).collect();
    let total_weight: f64 = scheduled.iter().map(|object| object.weight).sum();
    let root = |object: &Planned| (object.weight / total_weight * seconds(object.air_bytes)).sqrt();
    let roots: f64 = scheduled.iter().map(|object| root(object)).sum();
    let least_cycle_s = scheduled.iter().map(|object| seconds(object.air_bytes)).sum::<f64>() / left;
    let kept = taken.cycle_s.filter(|&cycle_s| least_cycle_s <= cycle_s);
    let stretch = stretch(&scheduled, total_weight, rate, left, kept);
    let mut cycle_s: f64 = 0.0;
    let mut mean_wait_s = 0.0;
    let objects = objects
        .iter()
        .map(|object| {
            let own = seconds(object.air_bytes);
            let period_s = object.max_period_s.unwrap_or_else(|| {
                let probability = object.weight / total_weight;
                let period = ((own / probability).sqrt() * stretch).min(kept.unwrap_or(f64::INFINITY));
                mean_wait_s += probability * period / 2.0;
                cycle_s = cycle_s.max(period);
                period
            });
            // A receiver that tunes in during a transmission gets the rest now and the beginning in the next one.
            let quantile = |q: f64| (own + q * period_s).min(period_s.max(own));
            ObjectPlan {
                uri: object.uri.clone(),
                length: object.length,
                class: object.class.as_str(),
                period_s,
                share: own / period_s.max(f64::MIN_POSITIVE),
                acquisition_s: Acquisition { p50: quantile(0.50), p95: quantile(0.95), p99: quantile(0.99) },
            }
        })
        .collect();
    Plan {
        schema: 1,
        rate_bps,
        signalling_share: signalling,
        live_share,
        firmware_share,
        cycle_s,
        promised_cycle_s: taken.cycle_s,
        least_cycle_s,
        mean_wait_s,
        bound_s: roots * roots / left / 2.0,
        objects,
    }
}

/// The factor from √(sᵢ/pᵢ) to the period, if objects whose period would exceed `cycle_s` are sent once per cycle and the
/// others share the rest. Objects are excluded in the order of their √(sᵢ/pᵢ), longest first, until the rest keeps the
/// cycle.
fn stretch(scheduled: &[&Planned], total_weight: f64, rate: f64, left: f64, cycle_s: Option<f64>) -> f64 {
    let own = |object: &Planned| object.air_bytes as f64 * 8.0 / rate;
    let probability = |object: &Planned| object.weight / total_weight;
    let mut by_period: Vec<&Planned> = scheduled.to_vec();
    by_period.sort_by(|a, b| (own(b) / probability(b)).total_cmp(&(own(a) / probability(a))));
    let mut roots: f64 = by_period.iter().map(|object| (own(object) * probability(object)).sqrt()).sum();
    let mut left = left;
    let Some(cycle_s) = cycle_s else { return roots / left };
    for object in by_period {
        let period = (own(object) / probability(object)).sqrt() * roots / left;
        if period <= cycle_s {
            break;
        }
        roots -= (own(object) * probability(object)).sqrt();
        left -= own(object) / cycle_s;
    }
    // All objects at the cycle's length: rounding may leave a slightly negative rest.
    roots.max(0.0) / left.max(f64::MIN_POSITIVE)
}

impl Plan {
    /// Number of scheduled objects: all but signalling and live objects.
    pub fn scheduled(&self) -> usize {
        self.objects.iter().filter(|object| object.class != Class::Signalling.as_str()).count()
    }

    /// One line about why the plan cannot be kept, with the nearest possible one. `None` if it can.
    pub fn refusal(&self) -> Option<String> {
        if self.signalling_share >= 1.0 {
            return Some("FDT, announcement and manifests alone need more than the link; raise [link] rate_bps, or the intervals in [carousel]".to_owned());
        }
        if self.signalling_share + self.live_share + self.firmware_share >= 1.0 {
            let (firmware, lower) = match self.firmware_share {
                0.0 => (String::new(), "reserved_bps"),
                share => {
                    (format!(", firmware {:.0} %", share * 100.0), "reserved_bps or [firmware] rate_bps")
                }
            };
            return Some(format!(
                "what is reserved for live takes {:.0} % of the link{firmware} and signalling {:.1} %; nothing is left. Lower {lower}, or raise [link] rate_bps",
                self.live_share * 100.0,
                self.signalling_share * 100.0
            ));
        }
        let promised = self.promised_cycle_s.filter(|&promised| promised < self.least_cycle_s)?;
        Some(format!(
            "a cycle of {} cannot be kept; the nearest that can is {} ([carousel] cycle_s = {}; 0 promises nothing)",
            human_seconds(promised),
            human_seconds(self.least_cycle_s),
            self.least_cycle_s.ceil()
        ))
    }

    /// Description of the content of a carousel without scheduled objects.
    pub fn unscheduled(&self) -> &'static str {
        if self.live_share > 0.0 {
            "live media are sent once, the newest first, and what is not sent in time is dropped"
        } else {
            "there are no media yet, signalling alone is sent"
        }
    }

    /// The plan as a table: classes first, then the objects with the largest shares.
    pub fn to_table(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "link            {:.3} Mbit/s", self.rate_bps as f64 / 1e6);
        let _ = writeln!(out, "signalling      {:.1} % of it", self.signalling_share * 100.0);
        if self.live_share > 0.0 {
            let _ = writeln!(out, "live            {:.1} % of it, reserved", self.live_share * 100.0);
        }
        if self.firmware_share > 0.0 {
            let _ = writeln!(out, "firmware        {:.1} % of it", self.firmware_share * 100.0);
        }
        let promised = match self.promised_cycle_s {
            Some(promised) if promised < self.least_cycle_s => {
                format!(" ({} was promised)", human_seconds(promised))
            }
            _ => String::new(),
        };
        if self.scheduled() > 0 {
            let _ = writeln!(out, "cycle           {}{promised}", human_seconds(self.cycle_s));
            let _ = writeln!(
                out,
                "mean wait       {} (bound {})",
                human_seconds(self.mean_wait_s),
                human_seconds(self.bound_s)
            );
        } else {
            let _ = writeln!(out, "cycle           none: {}", self.unscheduled());
        }
        if let Some(refusal) = self.refusal() {
            let _ = writeln!(out, "\nRefused: {refusal}.");
        }
        let _ = writeln!(
            out,
            "\n{:<12} {:>8} {:>12} {:>10} {:>10}",
            "class", "objects", "bytes", "period", "p95"
        );
        for class in [Class::Signalling, Class::High, Class::Medium, Class::Low] {
            let of: Vec<&ObjectPlan> =
                self.objects.iter().filter(|object| object.class == class.as_str()).collect();
            let Some(longest) = of.iter().max_by(|a, b| a.period_s.total_cmp(&b.period_s)) else { continue };
            let bytes: u64 = of.iter().map(|object| object.length).sum();
            let (period, p95) = (human_seconds(longest.period_s), human_seconds(longest.acquisition_s.p95));
            let _ =
                writeln!(out, "{:<12} {:>8} {:>12} {period:>10} {p95:>10}", class.as_str(), of.len(), bytes);
        }
        let mut by_share: Vec<&ObjectPlan> = self.objects.iter().collect();
        by_share.sort_by(|a, b| b.share.total_cmp(&a.share));
        let _ = writeln!(out, "\n{:>7} {:>10} {:>10} {:>10}  object", "share", "bytes", "period", "p95");
        for object in by_share.iter().take(20) {
            let (period, p95) = (human_seconds(object.period_s), human_seconds(object.acquisition_s.p95));
            let (share, uri) = (object.share * 100.0, &object.uri);
            let _ = writeln!(out, "{share:>6.2}% {:>10} {period:>10} {p95:>10}  {uri}", object.length);
        }
        if by_share.len() > 20 {
            let _ = writeln!(out, "… and {} objects more; --json lists all", by_share.len() - 20);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(sizes: &[(u64, Class)]) -> Vec<Planned> {
        let planned = |(at, &(bytes, class)): (usize, &(u64, Class))| {
            Planned::new(format!("o{at}"), bytes, bytes, class)
        };
        sizes.iter().enumerate().map(planned).collect()
    }

    #[test]
    fn equal_objects_share_equally() {
        let plan = plan(&objects(&[(1_000_000, Class::Medium); 10]), 8_000_000, &DeductedRates::default());
        assert!((plan.cycle_s - 10.0).abs() < 1e-9);
        assert!((plan.mean_wait_s - 5.0).abs() < 1e-9 && (plan.bound_s - 5.0).abs() < 1e-9);
        assert!((plan.objects[3].share - 0.1).abs() < 1e-9);
        assert!((plan.objects[3].acquisition_s.p50 - 6.0).abs() < 1e-9);
        assert!((plan.objects[3].acquisition_s.p99 - 10.0).abs() < 1e-9);
    }

    #[test]
    fn shares_never_exceed_the_link() {
        let mut all = objects(&[(500_000, Class::High), (2_000_000, Class::Medium), (100_000, Class::Low)]);
        let manifest = Planned::new("m".into(), 1000, 1100, Class::Signalling);
        all.push(Planned { max_period_s: Some(1.0), ..manifest });
        let taken = DeductedRates { fdt_bps: 1000.0, ..DeductedRates::default() };
        let plan = plan(&all, 2_000_000, &taken);
        let total: f64 = plan.objects.iter().map(|object| object.share).sum();
        assert!(total < 1.0 && total > 0.99, "{total}");
        assert!(
            plan.objects[0].period_s < plan.objects[1].period_s
                && plan.objects[1].period_s < plan.objects[2].period_s * 2.0
        );
    }

    #[test]
    fn a_link_too_small_for_its_signalling_says_so() {
        let one = Planned::new("m".into(), 1000, 1000, Class::Signalling);
        let plan = plan(&[Planned { max_period_s: Some(0.1), ..one }], 10_000, &DeductedRates::default());
        assert!(plan.signalling_share > 1.0);
        assert!(plan.to_table().contains("need more than the link"));
    }

    #[test]
    fn a_cycle_is_promised_kept_or_refused_with_the_nearest() {
        let all = objects(&[(1_000_000, Class::High), (1_000_000, Class::Low)]);
        let with = |cycle_s| {
            plan(&all, 8_000_000, &DeductedRates { cycle_s: Some(cycle_s), ..DeductedRates::default() })
        };
        let free = plan(&all, 8_000_000, &DeductedRates::default());
        assert!(free.objects[1].period_s > 10.0 && free.refusal().is_none());
        let kept = with(4.0);
        assert!((kept.objects[1].period_s - 4.0).abs() < 1e-9, "{kept:?}");
        assert!(
            (kept.objects[0].period_s - 4.0 / 3.0).abs() < 1e-9,
            "three quarters of the link are left for it"
        );
        assert!(kept.mean_wait_s > kept.bound_s && kept.refusal().is_none());
        let broken = with(1.5);
        assert_eq!(broken.objects, free.objects);
        assert!(broken.refusal().unwrap().contains("1.50 s cannot be kept; the nearest that can is 2.00 s"));
        assert!(with(2.0).objects.iter().all(|it| (it.period_s - 2.0).abs() < 1e-6));
    }

    #[test]
    fn what_is_reserved_for_live_is_not_there_for_the_carousel() {
        let all = objects(&[(1_000_000, Class::Medium); 4]);
        let with = |live_bps| plan(&all, 8_000_000, &DeductedRates { live_bps, ..DeductedRates::default() });
        assert!((with(4_000_000).cycle_s - 8.0).abs() < 1e-9 && (with(0).cycle_s - 4.0).abs() < 1e-9);
        assert!(with(9_000_000).refusal().unwrap().contains("reserved for live takes 112 %"));
        let both = DeductedRates { live_bps: 4_000_000, firmware_bps: 2_000_000, ..DeductedRates::default() };
        let beside = plan(&all, 8_000_000, &both);
        assert!((beside.cycle_s - 16.0).abs() < 1e-9 && beside.refusal().is_none());
        let table = beside.to_table();
        assert!(
            table.contains("live            50.0 %") && table.contains("firmware        25.0 %"),
            "{table}"
        );
        let full =
            plan(&all, 8_000_000, &DeductedRates { firmware_bps: 4_000_000, ..both }).refusal().unwrap();
        assert!(
            full.contains("live takes 50 % of the link, firmware 50 %")
                && full.contains("[firmware] rate_bps"),
            "{full}"
        );
    }
}
