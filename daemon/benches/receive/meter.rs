//! Processor time and allocations of one thread, and the table of them.
#![allow(unsafe_code)] // one clock call

use std::collections::BTreeMap;

use crate::counting::allocations;
use crate::packets::Stream;

/// Cost of something for this thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Processor time.
    pub(crate) ns: u64,
    /// Calls of the allocator.
    pub(crate) allocations: u64,
}

impl Cost {
    /// Of running `work`.
    pub(crate) fn of(work: impl FnOnce()) -> Self {
        let before = allocations();
        let start = thread_ns();
        work();
        Self { ns: thread_ns() - start, allocations: allocations() - before }
    }
}

/// Processor time of this thread.
fn thread_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Processor time of all threads.
pub(crate) fn process_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the struct is writable and outlives the call.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Rounds of several contenders.
pub(crate) struct Table {
    title: &'static str,
    /// The row that the others are compared with.
    floor: &'static str,
    order: Vec<String>,
    rows: BTreeMap<String, Vec<(f64, f64)>>,
    payload_bytes: f64,
}

impl Table {
    pub(crate) fn new(title: &'static str, floor: &'static str) -> Self {
        Self { title, floor, order: Vec::new(), rows: BTreeMap::new(), payload_bytes: 0.0 }
    }

    /// Notes one round; the first warms caches and is not counted when there are more.
    pub(crate) fn add(&mut self, name: &str, round: usize, cost: Cost, stream: &Stream) {
        let packets = stream.packets() as f64;
        self.payload_bytes = (stream.objects() * stream.object_bytes()) as f64 / packets;
        if !self.order.iter().any(|known| known == name) {
            self.order.push(name.to_owned());
        }
        let rounds = self.rows.entry(name.to_owned()).or_default();
        if round == 1 {
            rounds.clear();
        }
        rounds.push((cost.ns as f64 / packets, cost.allocations as f64 / packets));
    }

    /// Median, least and most of each row.
    pub(crate) fn print(&self) {
        let median = |name: &str| {
            let mut ns: Vec<f64> = self.rows[name].iter().map(|(ns, _)| *ns).collect();
            ns.sort_by(f64::total_cmp);
            (ns[ns.len() / 2], ns[0], ns[ns.len() - 1])
        };
        let (floor, ..) = median(self.floor);
        println!("{:<42} ns/packet (least–most)   ratio  allocations/packet  Gbit/s", self.title);
        for name in &self.order {
            let (middle, least, most) = median(name);
            let allocations = self.rows[name].iter().map(|(_, count)| *count).fold(f64::MAX, f64::min);
            println!(
                "{name:<42} {middle:>9.1} ({least:>6.1}–{most:>6.1}) {:>7.2} {allocations:>19.4} {:>7.1}",
                middle / floor,
                self.payload_bytes * 8.0 / middle
            );
        }
        println!();
    }
}
