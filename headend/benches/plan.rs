//! `cargo xtask bench plan`: planning, and one decision of the schedule, for 10 to 100,000 objects; beside a scan over
//! all objects, which is what a decision costs without the schedule's buckets.

use std::hint::black_box;
use std::time::Instant;

use headend::plan::{Class, DeductedRates, Planned, plan};
use headend::schedule::Schedule;

const RATE_BPS: u64 = 61_270_000;
const DECISIONS: u64 = 2000;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    let counts: &[u64] = if quick { &[10] } else { &[10, 100, 1000, 10_000, 100_000] };
    println!(
        "{:>8} {:>10} {:>16} {:>14} {:>14}",
        "objects", "plan ms", "with a cycle ms", "decision us", "plain scan us"
    );
    for &count in counts {
        let class = [Class::High, Class::Medium, Class::Medium, Class::Low];
        let objects: Vec<Planned> = (0..count)
            .map(|at| {
                let bytes = 20_000 * (1 + at.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 100);
                Planned::new(
                    format!("https://cdn.example.com/{at}.m4s"),
                    bytes,
                    bytes,
                    class[at as usize % 4],
                )
            })
            .collect();
        let begin = Instant::now();
        let free = black_box(plan(&objects, RATE_BPS, &DeductedRates::default()));
        let plan_ms = begin.elapsed().as_secs_f64() * 1e3;
        let promised = DeductedRates { cycle_s: Some(free.cycle_s / 2.0), ..DeductedRates::default() };
        let begin = Instant::now();
        black_box(plan(&objects, RATE_BPS, &promised));
        let cycle_ms = begin.elapsed().as_secs_f64() * 1e3;

        let mut schedule = Schedule::default();
        for (id, object) in (0..).zip(&objects) {
            schedule.add(id, object.weight, object.air_bytes, 0);
        }
        let begin = Instant::now();
        for now_ms in 1..=DECISIONS {
            black_box(schedule.next(now_ms * 100_000_000, None));
        }
        let decision_us = begin.elapsed().as_secs_f64() * 1e6 / DECISIONS as f64;

        let mut slots: Vec<(f64, u64)> =
            objects.iter().map(|object| (object.weight / object.air_bytes as f64, 0)).collect();
        let rounds = DECISIONS.min(20_000_000 / count);
        let begin = Instant::now();
        for now_ms in 1..=rounds {
            let urgency = |slot: &(f64, u64)| {
                let waited = (now_ms * 100_000_000 - slot.1) as f64;
                waited * waited * slot.0
            };
            let best = slots.iter_mut().max_by(|a, b| urgency(a).total_cmp(&urgency(b)));
            if let Some(slot) = best {
                slot.1 = now_ms * 100_000_000;
            }
            black_box(&slots);
        }
        let scan_us = begin.elapsed().as_secs_f64() * 1e6 / rounds as f64;
        println!("{count:>8} {plan_ms:>10.2} {cycle_ms:>16.2} {decision_us:>14.2} {scan_us:>14.2}");
    }
}
