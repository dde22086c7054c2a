//! Simulation of viewing against the caches of boxes: the hit ratio before a launch.
//!
//! A box keeps objects that it receives or fetches, and evicts in the order of the store; a repeat of an object that is held
//! changes nothing. A view begins with the first segment and continues at playing speed until it is given up.

use carousel::eviction::{Eviction, Order};

use super::catalogue::Catalogue;
use crate::options::Viewing;

/// Views, and the bytes that they took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct ViewStats {
    pub(super) views: u64,
    pub(super) bytes: u64,
    pub(super) hit_bytes: u64,
}

/// A segment that will be requested.
#[derive(Debug, Clone, Copy, PartialEq)]
struct SegmentRequest {
    at_s: f64,
    object: u32,
}

/// One box: its cache, and what its household will ask for.
struct Household {
    order: Order,
    held: Vec<bool>,
    held_bytes: u64,
    asks: Vec<SegmentRequest>,
    next: usize,
}

/// Plays `boxes` households over a recording of the carousel: which object was complete at which time, in order.
pub(super) fn watch(
    catalogue: &Catalogue,
    passes: &[(f64, u32)],
    viewing: &Viewing,
    cache_bytes: u64,
    duration_s: f64,
    rng: &mut fastrand::Rng,
) -> ViewStats {
    let mut watched = ViewStats::default();
    let popularity = Popularity::new(catalogue, viewing.zipf);
    for _ in 0..viewing.boxes {
        let asks = household(catalogue, &popularity, viewing, duration_s, rng, &mut watched);
        let order = Order::new(Eviction::default());
        let held = vec![false; catalogue.sizes.len()];
        let mut home = Household { order, held, held_bytes: 0, asks, next: 0 };
        for &(at_s, object) in passes {
            home.ask_until(at_s, catalogue, cache_bytes, duration_s, &mut watched);
            if !home.held[object as usize] {
                home.keep(object, catalogue, cache_bytes);
            }
        }
        home.ask_until(f64::INFINITY, catalogue, cache_bytes, duration_s, &mut watched);
    }
    watched
}

impl Household {
    fn ask_until(
        &mut self,
        until_s: f64,
        catalogue: &Catalogue,
        cache_bytes: u64,
        duration_s: f64,
        watched: &mut ViewStats,
    ) {
        while let Some(ask) = self.asks.get(self.next).filter(|ask| ask.at_s < until_s) {
            let (bytes, object) = (catalogue.sizes[ask.object as usize], ask.object);
            let is_hit = self.held[object as usize];
            // The first half fills the caches and is not counted.
            if ask.at_s > duration_s / 2.0 {
                watched.bytes += bytes;
                watched.hit_bytes += if is_hit { bytes } else { 0 };
            }
            if is_hit {
                self.order.touch(object);
            } else {
                self.keep(object, catalogue, cache_bytes);
            }
            self.next += 1;
        }
    }

    fn keep(&mut self, object: u32, catalogue: &Catalogue, cache_bytes: u64) {
        let bytes = catalogue.sizes[object as usize];
        while self.held_bytes + bytes > cache_bytes {
            let Some(left) = self.order.evict(|_| true) else { return };
            self.held[left as usize] = false;
            self.held_bytes -= catalogue.sizes[left as usize];
        }
        self.order.insert(object, u64::from(object), bytes);
        self.held[object as usize] = true;
        self.held_bytes += bytes;
    }
}

/// Titles by how much they are asked for.
struct Popularity(Vec<f64>);

impl Popularity {
    fn new(catalogue: &Catalogue, zipf: f64) -> Self {
        let mut sum = 0.0;
        let add = |rank: usize| {
            sum += (rank as f64 + 1.0).powf(-zipf);
            sum
        };
        Self((0..catalogue.titles.len()).map(add).collect())
    }

    fn draw(&self, rng: &mut fastrand::Rng) -> usize {
        let at = rng.f64() * self.0.last().copied().unwrap_or(0.0);
        self.0.partition_point(|&sum| sum < at).min(self.0.len().saturating_sub(1))
    }
}

/// Everything that one household asks for, in order.
fn household(
    catalogue: &Catalogue,
    popularity: &Popularity,
    viewing: &Viewing,
    duration_s: f64,
    rng: &mut fastrand::Rng,
    watched: &mut ViewStats,
) -> Vec<SegmentRequest> {
    let mut asks = Vec::new();
    let gap_s = 86_400.0 / viewing.views_per_day.max(1e-6);
    let mut at_s = 0.0;
    while !catalogue.titles.is_empty() {
        at_s += -gap_s * rng.f64().max(1e-12).ln();
        if at_s >= duration_s {
            break;
        }
        watched.views += u64::from(at_s > duration_s / 2.0);
        let title = &catalogue.titles[popularity.draw(rng)];
        let ends_s = viewing.ends_after(rng.f64(), title.duration_s);
        let segment_s = title.duration_s / f64::from(title.segments.end - title.segments.start).max(1.0);
        for (number, object) in title.segments.clone().enumerate() {
            let into_s = number as f64 * segment_s;
            if into_s > ends_s {
                break;
            }
            asks.push(SegmentRequest { at_s: at_s + into_s, object });
        }
        // A household begins no other view before this one is over.
        at_s += ends_s;
    }
    asks
}
