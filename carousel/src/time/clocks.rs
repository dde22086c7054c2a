//! Clocks as programs hand them to their parts: the system's when they run, virtual ones in tests and for recordings.
//!
//! The trait is here because both programs share it. Its implementation over the system's clocks is theirs, since nothing in
//! this crate asks for the time.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::{Instant, WallTime};

/// Dates before 2025-01-01 are not trusted: the system has not been set since it started.
pub const EARLIEST_DATE: WallTime = WallTime::from_unix_ms(1_735_689_600_000);

/// A monotonic clock, UTC, and waiting.
pub trait Clocks: Debug + Send + Sync {
    /// Monotonic time since an origin of these clocks' own.
    fn now(&self) -> Instant;

    /// UTC as the system has it, whether or not it can be right.
    fn wall(&self) -> WallTime;

    /// UTC, or `None` while it is before [`EARLIEST_DATE`]: a box without a battery starts in 1970 and counts from there until
    /// NTP sets it.
    fn trusted_wall(&self) -> Option<WallTime> {
        Some(self.wall()).filter(|wall| *wall >= EARLIEST_DATE)
    }

    /// Waits for `duration`.
    fn sleep(&self, duration: Duration);
}

/// Virtual time: sleeping and [`VirtualClocks::advance`] advance it, nothing else does. Clones share the time.
#[derive(Debug, Clone)]
pub struct VirtualClocks {
    now_ns: Arc<AtomicU64>,
    /// UTC at monotonic time 0.
    start_ms: Arc<AtomicI64>,
}

impl VirtualClocks {
    /// Clocks at monotonic time 0 and UTC `start`.
    pub fn new(start: WallTime) -> Self {
        Self { now_ns: Arc::default(), start_ms: Arc::new(AtomicI64::new(start.unix_ms())) }
    }

    /// Advances both clocks.
    pub fn advance(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.now_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Sets UTC, as NTP does; monotonic time stays.
    pub fn set_wall(&self, wall: WallTime) {
        self.start_ms.store(wall.unix_ms() - self.elapsed_ms(), Ordering::Relaxed);
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.now_ns.load(Ordering::Relaxed) / 1_000_000).unwrap_or(i64::MAX)
    }
}

impl Clocks for VirtualClocks {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.now_ns.load(Ordering::Relaxed))
    }

    fn wall(&self) -> WallTime {
        WallTime::from_unix_ms(self.start_ms.load(Ordering::Relaxed)).plus_ms(self.elapsed_ms())
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_time_advances_by_sleeping_only() {
        let clocks = VirtualClocks::new(WallTime::from_unix_ms(5000));
        let other = clocks.clone();
        assert_eq!((clocks.now(), clocks.wall()), (Instant::default(), WallTime::from_unix_ms(5000)));
        other.sleep(Duration::from_millis(1500));
        let now = Instant::from_nanos(1_500_000_000);
        assert_eq!((clocks.now(), clocks.wall()), (now, WallTime::from_unix_ms(6500)));
    }

    #[test]
    fn a_date_is_trusted_from_2025_on_and_setting_it_leaves_monotonic_time() {
        let clocks = VirtualClocks::new(WallTime::from_unix_ms(0));
        clocks.advance(Duration::from_secs(60));
        assert_eq!(clocks.trusted_wall(), None);
        clocks.set_wall(EARLIEST_DATE.plus_ms(-1));
        assert_eq!(clocks.trusted_wall(), None);
        clocks.set_wall(EARLIEST_DATE);
        assert_eq!(clocks.trusted_wall(), Some(EARLIEST_DATE));
        assert_eq!(EARLIEST_DATE.to_xml(), "2025-01-01T00:00:00.000Z");
        clocks.advance(Duration::from_millis(7));
        assert_eq!(clocks.trusted_wall(), Some(EARLIEST_DATE.plus_ms(7)));
        assert_eq!(clocks.now(), Instant::from_nanos(60_007_000_000));
    }
}
