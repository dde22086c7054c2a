//! Which object when: the broadcast-disk problem.
//!
//! With request probability pᵢ and transmission time sᵢ the mean wait is least when object i comes round every
//! √(sᵢ/pᵢ)·Σ√(pⱼsⱼ); it is then (Σ√(pᵢsᵢ))²/2, the bound (Vaidya and Hameed, "Scheduling data broadcast in
//! asymmetric communication environments", 1999). [`Schedule`] reaches for it on line: the next object is the one
//! with the greatest (time since its last start)²·pᵢ/sᵢ, so that objects may come and go at any moment.
//! Objects with a hard maximum period (announcement, manifests) are outside this: they go when due, and their share
//! of the link is taken off first.
//!
//! Pure: objects and rates in, times out. Reading files and sending packets are other rooms' work.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// How much an object is wanted, in broad strokes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Announcement, configuration, manifests, init segments: sent when due, at a hard maximum period.
    Signalling,
    /// The most watched.
    High,
    /// Everything that is not said otherwise.
    #[default]
    Medium,
    /// Promotion, back catalogue.
    Low,
}

impl Class {
    /// Relative request probability of one object of the class: high is asked for ten times as often as medium.
    pub const fn weight(self) -> f64 {
        match self {
            Self::Signalling | Self::High => 10.0,
            Self::Medium => 1.0,
            Self::Low => 0.1,
        }
    }

    /// Name as in configuration and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signalling => "signalling",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// Identifies an object to the schedule.
pub type ItemId = u64;

#[derive(Debug, Clone, Copy)]
struct Slot {
    id: ItemId,
    weight_per_byte: f64,
    last_start_ns: u64,
}

/// The on-line scheduler. See the module head.
#[derive(Debug, Default)]
pub struct Schedule {
    slots: Vec<Slot>,
    index: HashMap<ItemId, usize>,
}

impl Schedule {
    /// Adds an object of `bytes` on the air that was last started at `now_ns`.
    pub fn add(&mut self, id: ItemId, class: Class, bytes: u64, now_ns: u64) {
        let slot = Slot { id, weight_per_byte: class.weight() / bytes.max(1) as f64, last_start_ns: now_ns };
        match self.index.get(&id) {
            Some(&index) => self.slots[index] = slot,
            None => {
                self.index.insert(id, self.slots.len());
                self.slots.push(slot);
            }
        }
    }

    /// Takes an object out.
    pub fn remove(&mut self, id: ItemId) {
        let Some(index) = self.index.remove(&id) else { return };
        self.slots.swap_remove(index);
        if let Some(moved) = self.slots.get(index) {
            self.index.insert(moved.id, index);
        }
    }

    /// The object to start now. It counts as started.
    pub fn next(&mut self, now_ns: u64) -> Option<ItemId> {
        let urgency = |slot: &Slot| {
            let waited = now_ns.saturating_sub(slot.last_start_ns) as f64;
            waited * waited * slot.weight_per_byte
        };
        let best =
            self.slots.iter_mut().max_by(|a, b| urgency(a).total_cmp(&urgency(b)).then(b.id.cmp(&a.id)))?;
        best.last_start_ns = now_ns;
        Some(best.id)
    }

    /// Objects scheduled.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

/// An object as the planner sees it.
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
    /// Hard maximum period; such objects are taken off the link first.
    pub max_period_s: Option<f64>,
}

/// What the carousel will do, per object.
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
    /// Seconds from tuning in to having it whole, without loss.
    pub acquisition_s: Acquisition,
}

/// Percentiles over tuning in at a random moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Acquisition {
    /// Half of the receivers.
    pub p50: f64,
    /// 95 of 100.
    pub p95: f64,
    /// 99 of 100.
    pub p99: f64,
}

/// The whole plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Version of this document.
    pub schema: u32,
    /// Rate of the link, IP packets included.
    pub rate_bps: u64,
    /// Part of it that FDT, announcement and manifests take, 0 to 1; above 1 the plan cannot be kept.
    pub signalling_share: f64,
    /// Seconds in which every scheduled object is sent at least once.
    pub cycle_s: f64,
    /// Mean seconds from asking for an object (by class weight) to its next start.
    pub mean_wait_s: f64,
    /// The least that any schedule could reach for the same objects on the same rate.
    pub bound_s: f64,
    /// Per object.
    pub objects: Vec<ObjectPlan>,
}

/// Works out the plan. `fdt_bps` is what the FDT's repetition costs.
pub fn plan(objects: &[Planned], rate_bps: u64, fdt_bps: f64) -> Plan {
    let rate = rate_bps.max(1) as f64;
    let seconds = |bytes: u64| bytes as f64 * 8.0 / rate;
    let signalling: f64 = objects
        .iter()
        .filter_map(|object| object.max_period_s.map(|period| seconds(object.air_bytes) / period.max(0.001)))
        .sum::<f64>()
        + fdt_bps / rate;
    // What is left for the schedule; a link that signalling alone overfills is reported, not divided by zero.
    let left = (1.0 - signalling).max(0.001);
    let scheduled: Vec<&Planned> = objects.iter().filter(|object| object.max_period_s.is_none()).collect();
    let total_weight: f64 = scheduled.iter().map(|object| object.class.weight()).sum();
    let root =
        |object: &Planned| (object.class.weight() / total_weight * seconds(object.air_bytes) / left).sqrt();
    let roots: f64 = scheduled.iter().map(|object| root(object)).sum();
    let mut cycle_s: f64 = 0.0;
    let mut mean_wait_s = 0.0;
    let objects = objects
        .iter()
        .map(|object| {
            let own = seconds(object.air_bytes);
            let period_s = object.max_period_s.unwrap_or_else(|| {
                let probability = object.class.weight() / total_weight;
                let period = (own / left / probability).sqrt() * roots;
                mean_wait_s += probability * period / 2.0;
                cycle_s = cycle_s.max(period);
                period
            });
            // Who tunes in during a transmission takes its rest now and its beginning in the next one.
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
        cycle_s,
        mean_wait_s,
        bound_s: roots * roots / 2.0,
        objects,
    }
}

impl Plan {
    /// A table for a person: classes first, then the objects that take most of the link.
    pub fn to_table(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "link            {:.3} Mbit/s", self.rate_bps as f64 / 1e6);
        let _ = writeln!(out, "signalling      {:.1} % of it", self.signalling_share * 100.0);
        let _ = writeln!(out, "cycle           {}", human_seconds(self.cycle_s));
        let _ = writeln!(
            out,
            "mean wait       {} (bound {})",
            human_seconds(self.mean_wait_s),
            human_seconds(self.bound_s)
        );
        if self.signalling_share >= 1.0 {
            let _ = writeln!(
                out,
                "\nThis cannot be kept: FDT, announcement and manifests alone need more than the link."
            );
            let _ = writeln!(out, "Raise [link] rate_bps, or the intervals in [carousel].");
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

/// `0.52 s`, `3 min 20 s`, `4 h 34 min`.
pub fn human_seconds(seconds: f64) -> String {
    if !seconds.is_finite() {
        "never".to_owned()
    } else if seconds < 120.0 {
        format!("{seconds:.2} s")
    } else if seconds < 3600.0 {
        let whole = seconds.ceil() as u64;
        format!("{} min {} s", whole / 60, whole % 60)
    } else {
        // Up: who waits must not wait longer than told.
        let minutes = (seconds / 60.0).ceil() as u64;
        format!("{} h {} min", minutes / 60, minutes % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(sizes: &[(u64, Class)]) -> Vec<Planned> {
        let planned = |(at, &(bytes, class)): (usize, &(u64, Class))| Planned {
            uri: format!("o{at}"),
            length: bytes,
            air_bytes: bytes,
            class,
            max_period_s: None,
        };
        sizes.iter().enumerate().map(planned).collect()
    }

    #[test]
    fn equal_objects_share_equally() {
        let plan = plan(&objects(&[(1_000_000, Class::Medium); 10]), 8_000_000, 0.0);
        assert!((plan.cycle_s - 10.0).abs() < 1e-9);
        assert!((plan.mean_wait_s - 5.0).abs() < 1e-9 && (plan.bound_s - 5.0).abs() < 1e-9);
        assert!((plan.objects[3].share - 0.1).abs() < 1e-9);
        assert!((plan.objects[3].acquisition_s.p50 - 6.0).abs() < 1e-9);
        assert!((plan.objects[3].acquisition_s.p99 - 10.0).abs() < 1e-9);
    }

    #[test]
    fn shares_never_exceed_the_link() {
        let mut all = objects(&[(500_000, Class::High), (2_000_000, Class::Medium), (100_000, Class::Low)]);
        all.push(Planned {
            uri: "m".into(),
            length: 1000,
            air_bytes: 1100,
            class: Class::Signalling,
            max_period_s: Some(1.0),
        });
        let plan = plan(&all, 2_000_000, 1000.0);
        let total: f64 = plan.objects.iter().map(|object| object.share).sum();
        assert!(total < 1.0 && total > 0.99, "{total}");
        assert!(
            plan.objects[0].period_s < plan.objects[1].period_s
                && plan.objects[1].period_s < plan.objects[2].period_s * 2.0
        );
    }

    #[test]
    fn a_link_too_small_for_its_signalling_says_so() {
        let one = Planned {
            uri: "m".into(),
            length: 1000,
            air_bytes: 1000,
            class: Class::Signalling,
            max_period_s: Some(0.1),
        };
        let plan = plan(&[one], 10_000, 0.0);
        assert!(plan.signalling_share > 1.0);
        assert!(plan.to_table().contains("cannot be kept"));
    }

    /// Mean wait of what the on-line schedule really does, in seconds.
    fn simulate(objects: &[Planned], rate_bps: u64, starts: usize) -> f64 {
        let mut schedule = Schedule::default();
        for (id, object) in objects.iter().enumerate() {
            schedule.add(id as u64, object.class, object.air_bytes, 0);
        }
        let mut now_ns = 0;
        let mut last = vec![None; objects.len()];
        let (mut squares, mut spans) = (vec![0.0; objects.len()], vec![0.0; objects.len()]);
        for _ in 0..starts {
            let id = schedule.next(now_ns).unwrap() as usize;
            if let Some(before) = last[id].replace(now_ns) {
                let gap = (now_ns - before) as f64 / 1e9;
                squares[id] += gap * gap / 2.0;
                spans[id] += gap;
            }
            now_ns += objects[id].air_bytes * 8 * 1_000_000_000 / rate_bps;
        }
        let weight: f64 = objects.iter().map(|object| object.class.weight()).sum();
        objects
            .iter()
            .zip(squares.iter().zip(&spans))
            .map(|(object, (square, span))| object.class.weight() / weight * square / span)
            .sum()
    }

    #[test]
    fn the_schedule_stays_near_the_bound() {
        let sizes: Vec<(u64, Class)> = (0..100)
            .map(|at| {
                (
                    20_000 + at * at * 211,
                    [Class::High, Class::Medium, Class::Medium, Class::Low][at as usize % 4],
                )
            })
            .collect();
        let all = objects(&sizes);
        let bound = plan(&all, 10_000_000, 0.0).bound_s;
        let mean = simulate(&all, 10_000_000, 40_000);
        assert!(mean < bound * 1.05, "mean wait {mean}, bound {bound}");
    }

    #[test]
    fn nothing_starves_and_removed_objects_are_gone() {
        let mut schedule = Schedule::default();
        schedule.add(1, Class::High, 1000, 0);
        schedule.add(2, Class::Low, 1_000_000, 0);
        schedule.add(3, Class::Medium, 1000, 0);
        schedule.remove(3);
        let seen: Vec<ItemId> =
            (1..2_000_000).step_by(1000).map(|now| schedule.next(now * 1_000_000).unwrap()).collect();
        assert!(seen.contains(&2) && !seen.contains(&3));
        schedule.remove(1);
        schedule.remove(2);
        assert_eq!(schedule.next(0), None);
    }
}
