//! Finishing of objects with losses by one worker and by two: RaptorQ decoding, digests, publishing.
//!
//! The workers wait until every packet has been taken, so that the receive thread does not take a core from them; from then
//! until the last object is in the cache the time is that of a clock on the wall.

use std::path::Path;
use std::time::Instant;

use crate::contenders::{Contender as _, Gate, Ours};
use crate::packets::Stream;

/// Bytes of an object, which is one source block.
const OBJECT_BYTES: usize = 4 << 20;
/// Source symbols that are lost, per cent.
const LOSS_PERCENT: usize = 5;

pub(crate) fn scaling(objects: usize, rounds: usize, folder: &Path) {
    let stream = Stream::with_loss(objects, OBJECT_BYTES, LOSS_PERCENT);
    let mut times_ms: [Vec<f64>; 2] = Default::default();
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let [one, two] = [1, 2].map(|workers| finish_ms(&stream, workers, folder));
        // The first round makes the plan of the block's size and warms caches.
        if round > 0 {
            times_ms[0].push(one);
            times_ms[1].push(two);
            ratios.push(one / two);
        }
    }
    let megabytes = (objects * OBJECT_BYTES) as f64 / 1e6;
    println!(
        "finishing of {objects} objects of 4 MiB, {LOSS_PERCENT} % lost, RaptorQ      ms (least–most)    MB/s"
    );
    for (name, times) in ["one worker", "two workers"].iter().zip(&mut times_ms) {
        let (middle, least, most) = spread(times);
        println!("{name:<55} {middle:>8.1} ({least:.1}–{most:.1}) {:>8.1}", megabytes / middle * 1e3);
    }
    let (middle, least, most) = spread(&mut ratios);
    println!("two workers finish at {middle:.2} ({least:.2}–{most:.2}) times the speed of one\n");
}

/// From the last packet until every object is in the cache.
fn finish_ms(stream: &Stream, workers: usize, folder: &Path) -> f64 {
    // An object for each worker, at which it waits.
    let plugs = Stream::new(workers, 4 << 10);
    let gate = Gate::default();
    gate.set_shut(true);
    let mut ours = Ours::with_workers(stream.objects() + workers, workers, &gate, folder);
    plugs.each(|packet| ours.packet(packet));
    ours.end_batch();
    stream.each(|packet| ours.packet(packet));
    ours.end_batch();
    let begin = Instant::now();
    gate.set_shut(false);
    assert_eq!(ours.whole(), stream.objects() + workers, "not every object became whole");
    begin.elapsed().as_secs_f64() * 1e3
}

/// Median, least and most.
fn spread(values: &mut [f64]) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}
