//! Bodies assembled in memory and written past the page cache, beside those that go through it: what a packet costs the receive
//! thread and the process, the time until all objects are in the cache, and the first reader of each.
//!
//! Both get the same packets in turn, as fast as they take them, and no further than [`AHEAD`] objects ahead of what is in the cache,
//! as from a link that is slower than the disk. Memory that is used again and again has been used once before.

use std::path::Path;
use std::time::{Duration, Instant};

use skycache::store::PageCacheReason;

use crate::BATCH;
use crate::contenders::{Contender as _, Ours};
use crate::meter::{Cost, process_ns};
use crate::packets::Stream;

/// Objects that are not finished yet.
const AHEAD: usize = 8;
const CONTENDERS: [(&str, bool, usize); 4] = [
    ("behind a link: through the page cache", false, AHEAD),
    ("behind a link: assembled in memory, O_DIRECT", true, AHEAD),
    ("as fast as it goes: through the page cache", false, usize::MAX),
    ("as fast as it goes: assembled in memory, O_DIRECT", true, usize::MAX),
];
const FIGURES: [&str; 9] = [
    "receive thread, ns/packet",
    "of the page cache's",
    "process, ns/packet",
    "of the page cache's",
    "until all are in the cache, ms",
    "first hit of the last, us",
    "first hit of the first, us",
    "objects past the page cache",
    "through it: no place, or busy",
];

pub(crate) fn beside_the_page_cache(stream: &Stream, rounds: usize, folder: &Path) {
    let before = stream.other();
    let mut all: [[Vec<f64>; FIGURES.len()]; CONTENDERS.len()] = Default::default();
    for round in 0..rounds {
        let mut above = [0.0; 2];
        for (at, (_, is_direct, ahead)) in CONTENDERS.iter().enumerate() {
            let mut figures = measure(&before, stream, *is_direct, *ahead, folder);
            if !is_direct {
                above = [figures[0], figures[2]];
            }
            figures[1] = figures[0] / above[0];
            figures[3] = figures[2] / above[1];
            // The first round warms caches.
            if round > 0 || rounds == 1 {
                all[at].iter_mut().zip(figures).for_each(|(all, figure)| all.push(figure));
            }
        }
    }
    for ((name, ..), figures) in CONTENDERS.iter().zip(&mut all) {
        println!("{name}");
        for (figure, values) in FIGURES.iter().zip(figures) {
            values.sort_by(f64::total_cmp);
            let (middle, least, most) = (values[values.len() / 2], values[0], values[values.len() - 1]);
            println!("    {figure:<30} {middle:>9.2} ({least:.2}–{most:.2})");
        }
    }
    println!();
}

fn measure(
    before: &Stream,
    stream: &Stream,
    is_direct: bool,
    ahead: usize,
    folder: &Path,
) -> [f64; FIGURES.len()] {
    let mut ours = Ours::with_direct_io(before.objects() + stream.objects(), is_direct, folder);
    receive(&mut ours, before, AHEAD);
    wait_for(&mut ours, before.objects());
    let usage_before = ours.store().usage();

    let (begin, process) = (Instant::now(), process_ns());
    let receive_ns = receive(&mut ours, stream, ahead);
    assert_eq!(ours.whole(), before.objects() + stream.objects(), "not every object became whole");
    let (took, process) = (begin.elapsed(), process_ns() - process);
    let usage = ours.store().usage();
    let through =
        |why: PageCacheReason| usage.page_cache[why as usize] - usage_before.page_cache[why as usize];

    let read_us = |object: usize| {
        let key = format!("cdn.example.com/10/{object}.m4s");
        let object = ours.store().get(&key).expect("in the cache");
        let begin = Instant::now();
        let bytes = object.bytes(0..object.meta().length).expect("readable");
        std::hint::black_box(bytes.iter().step_by(64).fold(0_u64, |sum, byte| sum + u64::from(*byte)));
        begin.elapsed().as_secs_f64() * 1e6
    };
    let packets = stream.packets() as f64;
    [
        receive_ns as f64 / packets,
        0.0,
        process as f64 / packets,
        0.0,
        took.as_secs_f64() * 1e3,
        read_us(stream.objects() - 1),
        read_us(0),
        (usage.direct - usage_before.direct) as f64,
        (through(PageCacheReason::NoPlace) + through(PageCacheReason::Busy)) as f64,
    ]
}

/// Processor time of the receive thread for a stream that stays less than `ahead` objects ahead of the cache.
fn receive(ours: &mut Ours, stream: &Stream, ahead: usize) -> u64 {
    let (finished_before, mut ns, mut packets) = (ours.finished(), 0, 0);
    let mut batch: Vec<&[u8]> = Vec::with_capacity(BATCH);
    let packets_of_object = stream.packets() / stream.objects();
    stream.each(|packet| {
        batch.push(packet);
        packets += 1;
        if batch.len() < BATCH && packets < stream.packets() {
            return;
        }
        wait_for(ours, (finished_before + packets / packets_of_object).saturating_sub(ahead));
        let cost = Cost::of(|| {
            batch.drain(..).for_each(|packet| ours.packet(packet));
            ours.end_batch();
        });
        ns += cost.ns;
    });
    ns
}

fn wait_for(ours: &mut Ours, objects: usize) {
    let begin = Instant::now();
    while ours.finished() < objects {
        assert!(begin.elapsed() < Duration::from_secs(60), "not every object became whole");
        std::thread::sleep(Duration::from_micros(200));
        ours.end_batch();
    }
}
