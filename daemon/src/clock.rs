//! Time: the one place that asks the system for it, and the steady time by which ages count.
//!
//! The process has one [`Clocks`]: the system's, unless others were installed before the first call, as a test of the running
//! daemon in virtual time does. State machines ask nobody; they take time as an argument.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use carousel::time::{Clocks, EARLIEST_DATE, Instant, WallTime};

/// The system's clocks.
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
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime::from_unix_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

static CLOCKS: OnceLock<Box<dyn Clocks>> = OnceLock::new();

/// Makes these the clocks of the process.
///
/// # Errors
/// Gives them back if the time was asked for before, or other clocks were installed.
pub fn install(clocks: Box<dyn Clocks>) -> Result<(), Box<dyn Clocks>> {
    CLOCKS.set(clocks)
}

/// The clocks of the process.
pub fn clocks() -> &'static dyn Clocks {
    CLOCKS.get_or_init(|| Box::new(SystemClocks::new())).as_ref()
}

/// Monotonic time since the first call.
pub fn now() -> Instant {
    clocks().now()
}

/// What the system says the date is.
pub fn wall() -> WallTime {
    clocks().wall()
}

/// The date, or `None` while the system cannot know it (1970 at boot, until NTP): nothing expires until then.
pub fn trusted_wall() -> Option<WallTime> {
    clocks().trusted_wall()
}

/// Waits for so long.
pub fn sleep(duration: Duration) {
    clocks().sleep(duration);
}

/// Times for ages and freshness. They run with the monotonic clock from the date that the system had first, so that a step of
/// that date makes nothing older or younger. A box that starts in 1970 counts on from there until the date can be trusted,
/// then from the date; times of before are mapped by [`Scale::current`].
#[derive(Debug)]
struct Scale {
    /// The time at which the monotonic clock was 0.
    base_ms: AtomicI64,
    /// The same before the date could be trusted, if that was in this run.
    untrusted_base_ms: AtomicI64,
}

/// No base.
const NONE_MS: i64 = i64::MIN;

impl Scale {
    const fn new() -> Self {
        Self { base_ms: AtomicI64::new(NONE_MS), untrusted_base_ms: AtomicI64::new(NONE_MS) }
    }

    fn now(&self, monotonic_ms: i64, wall: impl Fn() -> WallTime) -> WallTime {
        let base_ms = self.base_ms.load(Ordering::Acquire);
        let time_ms = base_ms.saturating_add(monotonic_ms);
        if base_ms != NONE_MS && time_ms >= EARLIEST_DATE.unix_ms() {
            return WallTime::from_unix_ms(time_ms);
        }
        let wall_ms = wall().unix_ms();
        if base_ms != NONE_MS && wall_ms < EARLIEST_DATE.unix_ms() {
            return WallTime::from_unix_ms(time_ms);
        }
        // The first time, or the first that can be trusted. Of two threads one counts.
        if base_ms != NONE_MS {
            let _ = self.untrusted_base_ms.compare_exchange(
                NONE_MS,
                base_ms,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
        }
        let fresh_ms = wall_ms - monotonic_ms;
        let _ = self.base_ms.compare_exchange(base_ms, fresh_ms, Ordering::AcqRel, Ordering::Acquire);
        WallTime::from_unix_ms(self.base_ms.load(Ordering::Acquire).saturating_add(monotonic_ms))
    }

    /// A time of this scale, taken earlier in this run, as it is counted now.
    fn current(&self, time: WallTime) -> WallTime {
        let untrusted_ms = self.untrusted_base_ms.load(Ordering::Acquire);
        if untrusted_ms == NONE_MS || time.unix_ms() >= EARLIEST_DATE.unix_ms() {
            return time;
        }
        WallTime::from_unix_ms(time.unix_ms() - untrusted_ms + self.base_ms.load(Ordering::Acquire))
    }
}

static SCALE: Scale = Scale::new();

/// The time by which ages and freshness count: see [`Scale`].
pub fn steady() -> WallTime {
    SCALE.now(i64::try_from(now().as_nanos() / 1_000_000).unwrap_or(i64::MAX), wall)
}

/// A steady time that was taken earlier in this run, as it is counted now.
pub fn current(time: WallTime) -> WallTime {
    SCALE.current(time)
}

/// Milliseconds from a steady time until now; never negative.
pub fn age_ms(since: WallTime) -> i64 {
    steady().unix_ms().saturating_sub(current(since).unix_ms()).max(0)
}

/// Milliseconds from now until a steady time; negative if it is past.
pub fn left_ms(until: WallTime) -> i64 {
    current(until).unix_ms().saturating_sub(steady().unix_ms())
}

/// A date that somebody else has given, as a steady time. What comes while the date is unknown stays a date: nothing of it
/// expires until then.
pub fn steady_of(date: WallTime) -> WallTime {
    match trusted_wall() {
        Some(wall) => WallTime::from_unix_ms(date.unix_ms() + steady().unix_ms() - wall.unix_ms()),
        None => date,
    }
}

/// A steady time as a date, if the date is known.
pub fn date_of(time: WallTime) -> Option<WallTime> {
    let wall = trusted_wall()?;
    Some(WallTime::from_unix_ms(wall.unix_ms() - age_ms(time)))
}

/// Whether a time that was kept from an earlier run says nothing: the date was not known then.
pub const fn is_unknown(kept: WallTime) -> bool {
    kept.unix_ms() < EARLIEST_DATE.unix_ms()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_date_makes_nothing_older() {
        const BOOT_MS: i64 = 60_000;
        const TODAY_MS: i64 = 1_795_000_000_000;
        let scale = Scale::new();
        let at =
            |monotonic_ms, wall_ms| scale.now(monotonic_ms, || WallTime::from_unix_ms(wall_ms)).unix_ms();
        assert_eq!(at(0, BOOT_MS), BOOT_MS);
        assert_eq!(at(5000, BOOT_MS + 5000), BOOT_MS + 5000);
        let received = WallTime::from_unix_ms(BOOT_MS + 5000);
        assert_eq!(scale.current(received), received);
        // The date is put right ten seconds after the start: what came then is five seconds old.
        assert_eq!(at(10_000, TODAY_MS), TODAY_MS);
        assert_eq!(scale.current(received).unix_ms(), TODAY_MS - 5000);
        // Steps after that change nothing.
        assert_eq!(at(11_000, TODAY_MS - 3_600_000), TODAY_MS + 1000);
        assert_eq!(at(12_000, TODAY_MS + 86_400_000), TODAY_MS + 2000);
        assert_eq!(at(13_000, BOOT_MS), TODAY_MS + 3000);
    }
}
