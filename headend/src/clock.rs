//! Time: the one place that asks the system for it.
//!
//! Monotonic time schedules packets; UTC goes into documents and FDTs. Code that needs either takes a [`Clocks`], so that
//! tests run hours of transmission in virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use carousel::time::WallTime;

/// A monotonic clock, UTC, and waiting.
pub trait Clocks: Send + Sync {
    /// Nanoseconds since the clock was made.
    fn monotonic_ns(&self) -> u64;
    /// UTC.
    fn wall(&self) -> WallTime;
    /// Waits for so long.
    fn sleep(&self, duration: Duration);
}

/// The system's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClocks {
    start: Instant,
}

impl SystemClocks {
    /// Clocks whose monotonic time begins now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClocks {
    fn default() -> Self {
        Self::new()
    }
}

impl Clocks for SystemClocks {
    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime::from_unix_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// Virtual time for tests and recordings: sleeping advances it, nothing else does. Clones share the time.
#[derive(Debug, Clone)]
pub struct VirtualClocks {
    now_ns: Arc<AtomicU64>,
    start: WallTime,
}

impl VirtualClocks {
    /// Clocks at monotonic time 0 and UTC `start`.
    pub fn new(start: WallTime) -> Self {
        Self { now_ns: Arc::default(), start }
    }

    /// Advances both clocks.
    pub fn advance_ns(&self, ns: u64) {
        self.now_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

impl Clocks for VirtualClocks {
    fn monotonic_ns(&self) -> u64 {
        self.now_ns.load(Ordering::Relaxed)
    }

    fn wall(&self) -> WallTime {
        self.start.plus_ms((self.monotonic_ns() / 1_000_000) as i64)
    }

    fn sleep(&self, duration: Duration) {
        self.advance_ns(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_time_advances_by_sleeping_only() {
        let clocks = VirtualClocks::new(WallTime::from_unix_ms(5000));
        let other = clocks.clone();
        assert_eq!((clocks.monotonic_ns(), clocks.wall()), (0, WallTime::from_unix_ms(5000)));
        other.sleep(Duration::from_millis(1500));
        assert_eq!((clocks.monotonic_ns(), clocks.wall()), (1_500_000_000, WallTime::from_unix_ms(6500)));
    }

    #[test]
    fn monotonic_time_of_the_system_begins_near_0_and_never_goes_back() {
        let clocks = SystemClocks::new();
        let first = clocks.monotonic_ns();
        assert!(first < 60_000_000_000 && clocks.monotonic_ns() >= first);
        assert!(clocks.wall().unix_ms() > 1_700_000_000_000);
    }
}
