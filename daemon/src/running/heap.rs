//! Memory that is free goes back to the system: after the sessions of a flood are gone, and every ten minutes.

use std::time::Duration;

use carousel::budget::SessionBudget;
use carousel::time::Instant;

use crate::{clock, sys};

/// Fall of the memory of sessions after which the heap is trimmed.
const FALL_BYTES: usize = 16 << 20;
/// Least time between two trims: one takes the locks of all arenas for some milliseconds.
const LEAST_INTERVAL: Duration = Duration::from_secs(10);
/// Time after which the heap is trimmed in any case: connections, fills and documents come and go too.
const MOST_INTERVAL: Duration = Duration::from_secs(600);

/// Decides when the heap is trimmed.
#[derive(Debug)]
struct Trimming {
    last: Instant,
    /// Most memory of the sessions since then.
    most_bytes: usize,
}

impl Trimming {
    fn is_due(&mut self, now: Instant, held_bytes: usize) -> bool {
        self.most_bytes = self.most_bytes.max(held_bytes);
        let since = now.since(self.last);
        let has_fallen = self.most_bytes - held_bytes >= FALL_BYTES;
        let is_due = since >= MOST_INTERVAL || (has_fallen && since >= LEAST_INTERVAL);
        if is_due {
            (self.last, self.most_bytes) = (now, held_bytes);
        }
        is_due
    }
}

/// Trims the heap when memory of sessions has become free, until the runtime ends.
pub(super) async fn keep_small(budget: SessionBudget) {
    let mut trimming = Trimming { last: clock::now(), most_bytes: 0 };
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if trimming.is_due(clock::now(), budget.held_bytes()) {
            let _ = tokio::task::spawn_blocking(sys::trim_heap).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_is_trimmed_when_sessions_have_gone_and_now_and_then() {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let mut trimming = Trimming { last: at(0), most_bytes: 0 };
        for (second, held_mib, is_due) in [
            (1, 160, false),
            (11, 160, false), // all of it is in use
            (12, 145, false),
            (13, 144, true),
            (14, 0, false), // too soon
            (23, 0, true),
            (24, 0, false),
            (622, 0, false),
            (623, 0, true),
            (640, 15, false),
            (650, 0, false),
        ] {
            assert_eq!(trimming.is_due(at(second), held_mib << 20), is_due, "{second} s");
        }
    }

    /// What a flood of allocations between lasting ones leaves is given back.
    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn memory_below_what_is_still_in_use_is_given_back() {
        fn resident_bytes() -> u64 {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap();
            text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
        }
        // In a process of its own: the memory of tests beside it would count too.
        const ALONE: &str = "SKYCACHE_HEAP_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let module = module_path!().split_once("::").unwrap().1;
            let name = format!("{module}::memory_below_what_is_still_in_use_is_given_back");
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            let output = alone.args(["--exact", &name]).env(ALONE, "1").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        // In an arena of its own, as a receive thread has.
        let rest = std::thread::spawn(|| {
            let mut all: Vec<Vec<u8>> = (0..200_000).map(|_| vec![1; 400]).collect();
            let last = all.pop();
            drop(all);
            last
        })
        .join()
        .unwrap();
        let before = resident_bytes();
        sys::trim_heap();
        let after = resident_bytes();
        assert!(rest.is_some() && after + (40 << 20) < before, "{before} before, {after} after");
    }
}
