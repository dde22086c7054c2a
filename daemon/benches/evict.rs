//! `cargo xtask bench evict`: what each order of leaving is worth on the reference workload, from one seed.
//!
//! 200 titles of 60 segments, watched from their beginning, two thirds given up in the first quarter; a carousel that brings
//! every segment of the prefixes again and again; promotion that is not watched. The cache holds a twelfth of the titles.
//! Repeats on the carousel of objects that are held do not count as uses, as in `skycached`.

use std::collections::HashMap;
use std::time::Instant;

use carousel::eviction::{Eviction, Order, Slot};
use linksim::Rng;

const TITLES: u64 = 200;
const SEGMENTS: u64 = 60;
/// Segments of each title that are on the air.
const PREFIX: u64 = 10;
const SEGMENT_BYTES: u64 = 2 << 20;
const CACHE_SEGMENTS: u64 = 1000;

/// One policy with its cache.
struct Cache {
    order: Order,
    slots: HashMap<u64, Slot>,
    names: Vec<u64>,
    free: Vec<Slot>,
    hits: u64,
    asked: u64,
}

impl Cache {
    fn new(eviction: Eviction) -> Self {
        Self {
            order: Order::new(eviction),
            slots: HashMap::new(),
            names: Vec::new(),
            free: Vec::new(),
            hits: 0,
            asked: 0,
        }
    }

    fn bring(&mut self, name: u64) {
        if self.slots.contains_key(&name) {
            return;
        }
        while self.slots.len() as u64 >= CACHE_SEGMENTS {
            let Some(slot) = self.order.evict(|_| true) else { return };
            self.slots.remove(&self.names[slot as usize]);
            self.free.push(slot);
        }
        let slot = self.free.pop().unwrap_or(self.names.len() as Slot);
        if slot as usize == self.names.len() {
            self.names.push(name);
        }
        self.names[slot as usize] = name;
        self.slots.insert(name, slot);
        self.order.insert(slot, name, SEGMENT_BYTES);
    }

    fn ask(&mut self, name: u64, counts: bool) {
        let held = self.slots.get(&name).copied();
        self.asked += u64::from(counts);
        self.hits += u64::from(counts && held.is_some());
        match held {
            Some(slot) => self.order.touch(slot),
            None => self.bring(name),
        }
    }
}

/// Steps, in order.
enum Step {
    Carried(u64),
    Asked(u64),
}

fn trace(zipf: f64, carousel: bool, promotion: bool, views: u64) -> Vec<Step> {
    let mut rng = Rng::new(7);
    let uniform = |rng: &mut Rng| rng.below(1 << 30) as f64 / f64::from(1 << 30);
    let sums: Vec<f64> = (1..=TITLES)
        .scan(0.0, |sum, rank| {
            *sum += (rank as f64).powf(-zipf);
            Some(*sum)
        })
        .collect();
    let (mut steps, mut passing, mut promoted) = (Vec::new(), 0, 0);
    for _ in 0..views {
        let at = uniform(&mut rng) * sums[sums.len() - 1];
        let title = sums.partition_point(|&sum| sum < at) as u64;
        let part = uniform(&mut rng);
        let watched = if part < 0.66 { part / 0.66 * 15.0 } else { 15.0 + (part - 0.66) / 0.34 * 45.0 };
        for segment in 0..=(watched as u64).min(SEGMENTS - 1) {
            steps.push(Step::Asked(title * SEGMENTS + segment));
            // While a segment plays, the carousel brings some of the prefixes, and promotion some more.
            for _ in 0..if carousel { 8 } else { 0 } {
                passing = (passing + 1) % (TITLES * PREFIX);
                steps.push(Step::Carried(passing / PREFIX * SEGMENTS + passing % PREFIX));
            }
            for _ in 0..u32::from(promotion) * 2 {
                promoted += 1;
                steps.push(Step::Carried((1 << 32) + promoted % 5000));
            }
        }
    }
    steps
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    let views = if quick { 50 } else { 20_000 };
    println!("{:<46} {:>8} {:>8} {:>8}", "hit ratio by bytes, %", "LRU", "SIEVE", "S3-FIFO");
    let mut ns = [0.0; 3];
    for zipf in [0.8, 1.0] {
        for (what, carousel, promotion) in [
            ("views alone", false, false),
            ("views, carousel of the prefixes", true, false),
            ("views, promotion that nobody watches", false, true),
            ("views, carousel and promotion", true, true),
        ] {
            let steps = trace(zipf, carousel, promotion, views);
            let mut ratios = Vec::new();
            for (at, eviction) in [Eviction::Lru, Eviction::Sieve, Eviction::S3Fifo].into_iter().enumerate() {
                let mut cache = Cache::new(eviction);
                let begin = Instant::now();
                for (number, step) in steps.iter().enumerate() {
                    match *step {
                        Step::Carried(name) => cache.bring(name),
                        // The first third fills the cache.
                        Step::Asked(name) => cache.ask(name, number > steps.len() / 3),
                    }
                }
                ns[at] = begin.elapsed().as_nanos() as f64 / steps.len() as f64;
                ratios.push(cache.hits as f64 * 100.0 / cache.asked.max(1) as f64);
            }
            let label = format!("Zipf {zipf}: {what}");
            println!("{label:<46} {:>8.1} {:>8.1} {:>8.1}", ratios[0], ratios[1], ratios[2]);
        }
    }
    println!("{:<46} {:>8.0} {:>8.0} {:>8.0}", "ns a step, its map included", ns[0], ns[1], ns[2]);
}
