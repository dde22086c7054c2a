//! System clocks of the process. Other files that ask the system are named in `packaging/xtask/src/clocks.rs`.
//!
//! Monotonic time schedules packets; UTC goes into documents and FDTs. Code that needs either takes a [`Clocks`], the trait of
//! both programs, so that tests run hours of transmission in virtual time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use carousel::time::{Clocks, VirtualClocks};
use carousel::time::{Instant, WallTime};

/// The system's clocks. Each program has its own implementation: `carousel`, which has the trait, asks no system, and the programs
/// do not know each other.
#[derive(Debug, Clone, Copy)]
pub struct SystemClocks {
    start: std::time::Instant,
}

impl SystemClocks {
    /// Clocks whose monotonic time begins now.
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Default for SystemClocks {
    fn default() -> Self {
        Self::new()
    }
}

impl Clocks for SystemClocks {
    fn now(&self) -> Instant {
        Instant::from_nanos(0) + self.start.elapsed()
    }

    fn wall(&self) -> WallTime {
        WallTime::from_unix(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// Nanoseconds since boot, including suspension: the time base of a lease.
pub fn boot_ns() -> u64 {
    crate::sys::boot_ns()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_of_the_system_begins_near_0_and_never_goes_back() {
        let clocks = SystemClocks::new();
        let first = clocks.now();
        assert!(first < Instant::from_nanos(60_000_000_000) && clocks.now() >= first);
        assert!(clocks.wall().unix_ms() > 1_700_000_000_000);
        let boot_ns = boot_ns();
        clocks.sleep(Duration::from_millis(2));
        assert!((2_000_000..60_000_000_000).contains(&(super::boot_ns() - boot_ns)));
    }
}
