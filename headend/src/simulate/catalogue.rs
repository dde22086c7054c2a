//! Simulated objects with their sizes and weights, and the titles to which they belong.

use std::ops::Range;

use carousel::fec::{Partition, Protection};

use crate::options::{Class, Forecast, Viewing};
use crate::overhead;
use crate::plan::Planned;

/// An object on the air.
#[derive(Debug, Clone)]
pub(super) struct OnAir {
    /// Its number in [`Catalogue::sizes`].
    pub(super) object: u32,
    pub(super) weight: f64,
    pub(super) air_bytes: u64,
    pub(super) protection: Protection,
}

/// A title: objects in the order in which they are played.
#[derive(Debug, Clone)]
pub(super) struct Title {
    pub(super) segments: Range<u32>,
    pub(super) duration_s: f64,
}

/// Everything there is.
#[derive(Debug, Clone, Default)]
pub(super) struct Catalogue {
    /// Bytes of every object, on the air or only at the origin.
    pub(super) sizes: Vec<u64>,
    pub(super) titles: Vec<Title>,
    pub(super) on_air: Vec<OnAir>,
}

/// Parameters by which forecasts are cut into objects.
#[derive(Debug, Clone, Copy)]
pub(super) struct ForecastCutting<'a> {
    /// Segments, prefixes, popularity.
    pub(super) viewing: &'a Viewing,
    /// Bytes on the air, filled with the most watched segments; `None`: prefixes are `viewing.prefix_s`.
    pub(super) most_bytes: Option<u64>,
    /// Bytes of a symbol.
    pub(super) symbol_length: u16,
}

/// Bytes on the air of an object in symbols of `symbol_length` bytes.
fn air_bytes(bytes: u64, symbol_length: u16, protection: &Protection) -> u64 {
    let oti = protection.oti(bytes, symbol_length, u32::from(u16::MAX));
    let of = |partition| overhead::air_bytes(bytes, &partition, &protection.sequence(&oti, partition));
    Partition::new(&oti).map_or(bytes, of)
}

impl Catalogue {
    /// The objects of a plan: a title for each, since nothing says which belong together.
    pub(super) fn of_plan(objects: &[Planned], protection: impl Fn(Class) -> Protection) -> Self {
        let scheduled = || objects.iter().filter(|object| object.max_period_s.is_none());
        let on_air = scheduled().zip(0..).map(|(planned, object)| OnAir {
            object,
            weight: planned.weight,
            air_bytes: planned.air_bytes,
            protection: protection(planned.class),
        });
        Self {
            sizes: scheduled().map(|it| it.length).collect(),
            titles: Vec::new(),
            on_air: on_air.collect(),
        }
    }

    /// Objects that forecasts promise: their titles in equal segments.
    pub(super) fn of_forecasts(
        forecasts: &[Forecast],
        cut: ForecastCutting<'_>,
        protection: impl Fn(Class) -> Protection,
    ) -> Self {
        let mut all = Self::default();
        // Every segment, with how much it is watched.
        let mut wanted: Vec<(f64, u32)> = Vec::new();
        let mut weights = Vec::new();
        let viewing = cut.viewing;
        for forecast in forecasts {
            let segments = forecast.title_bytes.div_ceil(viewing.segment_bytes.max(1)).max(1);
            let duration_s = forecast.title_duration_s.max(1) as f64;
            for rank in 0..forecast.titles {
                let first = all.sizes.len() as u32;
                let weight = (rank as f64 + 1.0).powf(-viewing.zipf);
                for number in 0..segments {
                    let begins_s = number as f64 / segments as f64 * duration_s;
                    if viewing.prefix_s.is_none_or(|prefix_s| begins_s < prefix_s as f64)
                        || cut.most_bytes.is_some()
                    {
                        let worth = weight * viewing.still_watching(begins_s, duration_s);
                        wanted.push((worth, all.sizes.len() as u32));
                    }
                    let left = forecast.title_bytes - number * viewing.segment_bytes;
                    all.sizes.push(left.min(viewing.segment_bytes));
                    weights.push(weight);
                }
                all.titles.push(Title { segments: first..all.sizes.len() as u32, duration_s });
            }
        }
        if let Some(most_bytes) = cut.most_bytes {
            wanted.sort_by(|a, b| b.0.total_cmp(&a.0));
            let mut bytes = 0;
            wanted.retain(|&(_, object)| {
                bytes += all.sizes[object as usize];
                bytes <= most_bytes
            });
            wanted.sort_by_key(|&(_, object)| object);
        }
        let protection = protection(Class::High);
        all.on_air = wanted
            .into_iter()
            .map(|(_, object)| OnAir {
                object,
                weight: weights[object as usize],
                air_bytes: air_bytes(all.sizes[object as usize], cut.symbol_length, &protection),
                protection,
            })
            .collect();
        all
    }

    /// Seconds on the air of the first title, the middle one and the last.
    pub(super) fn prefixes_s(&self) -> [f64; 3] {
        let of = |at: usize| {
            self.titles.get(at).map_or(0.0, |title| {
                let on_air = self.on_air.iter().filter(|it| title.segments.contains(&it.object)).count();
                title.duration_s * on_air as f64 / f64::from(title.segments.end - title.segments.start)
            })
        };
        let count = self.titles.len();
        [of(0), of(count / 2), of(count.saturating_sub(1))]
    }
}
