//! Clocks of the process, and the steady time by which ages count. Other files that ask the system, for timers of tokio and for
//! measurements, are named in `packaging/xtask/src/clocks.rs`.
//!
//! The process has one [`Clocks`], the trait of both programs: the system's, unless others were installed before the first call, as
//! a test of the running daemon in virtual time does. State machines do not read it; they take time as an argument.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use carousel::time::{Clocks, EARLIEST_DATE, Instant, WallTime};

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

/// The date by the system's clock.
pub fn wall() -> WallTime {
    clocks().wall()
}

/// The date, or `None` while the system cannot know it (1970 at boot, until NTP): nothing expires until then.
pub fn trusted_wall() -> Option<WallTime> {
    clocks().trusted_wall()
}

/// Date from a broadcaster.
#[derive(Debug)]
struct BroadcastDate {
    /// The date at which the monotonic clock was 0, in milliseconds.
    base_ms: AtomicI64,
}

impl BroadcastDate {
    const fn new() -> Self {
        Self { base_ms: AtomicI64::new(NONE_MS) }
    }

    /// Documents arrive with a delay: the one with the least gives the latest base.
    fn learn(&self, date: WallTime, monotonic_ms: i64) {
        if date.unix_ms() >= EARLIEST_DATE.unix_ms() {
            let base_ms = date.unix_ms().saturating_sub(monotonic_ms);
            let before_ms = self.base_ms.load(Ordering::Acquire);
            // More than the delay of a document: its clock was set.
            let is_set = before_ms != NONE_MS && base_ms < before_ms - MOST_DELAY_MS;
            let next_ms = if is_set { base_ms } else { base_ms.max(before_ms) };
            self.base_ms.store(next_ms, Ordering::Release);
        }
    }

    fn date(&self, monotonic_ms: i64) -> Option<WallTime> {
        let base_ms = self.base_ms.load(Ordering::Acquire);
        (base_ms != NONE_MS).then(|| WallTime::from_unix_ms(base_ms.saturating_add(monotonic_ms)))
    }
}

/// Greatest delay of a document with the date. A date that is further back means that the sender's clock was set.
const MOST_DELAY_MS: i64 = 60_000;

static BROADCAST_DATE: BroadcastDate = BroadcastDate::new();

/// Learns the date from a broadcaster (TS 103 876, TimeOffsetFile).
pub fn learn(date: WallTime) {
    BROADCAST_DATE.learn(date, monotonic_ms());
}

/// The date for players: the system's, or a broadcaster's while that cannot be trusted.
pub fn date() -> Option<WallTime> {
    trusted_wall().or_else(|| BROADCAST_DATE.date(monotonic_ms()))
}

/// Waits for `duration`.
pub fn sleep(duration: Duration) {
    clocks().sleep(duration);
}

/// Times for ages and freshness. They run with the monotonic clock from the date that the system had first, so that a step of
/// that date makes nothing older or younger. A box that starts in 1970 counts on from there until the date can be trusted,
/// then from the date; [`Scale::current`] maps earlier times.
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
        // The first time, or the first that can be trusted. If two threads store it, one wins.
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

    /// Date of the monotonic clock's 0, if `since` is a date of an earlier run and that of this one cannot be trusted.
    fn start_for(&self, monotonic_ms: i64, since: WallTime) -> Option<i64> {
        let base_ms = self.base_ms.load(Ordering::Acquire);
        let is_known = base_ms == NONE_MS || base_ms.saturating_add(monotonic_ms) >= EARLIEST_DATE.unix_ms();
        (!is_known && since.unix_ms() >= EARLIEST_DATE.unix_ms()).then_some(base_ms)
    }

    fn age_ms(&self, monotonic_ms: i64, now: WallTime, since: WallTime) -> i64 {
        let start_ms = self.start_for(monotonic_ms, since);
        now.unix_ms().saturating_sub(start_ms.unwrap_or_else(|| self.current(since).unix_ms())).max(0)
    }

    fn left_ms(&self, monotonic_ms: i64, now: WallTime, since: WallTime, until: WallTime) -> i64 {
        let until_ms = match self.start_for(monotonic_ms, since) {
            Some(start_ms) => start_ms.saturating_add(until.unix_ms().saturating_sub(since.unix_ms())),
            None => self.current(until).unix_ms(),
        };
        until_ms.saturating_sub(now.unix_ms())
    }

    /// Converts a time of this scale, taken earlier in this run, to the current base.
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
    SCALE.now(monotonic_ms(), wall)
}

fn monotonic_ms() -> i64 {
    i64::try_from(now().as_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// Whether a time is a date, and not one of a clock that began in 1970.
pub fn is_date(time: WallTime) -> bool {
    time.unix_ms() >= EARLIEST_DATE.unix_ms()
}

/// Converts a steady time that was taken earlier in this run to the current base.
pub fn current(time: WallTime) -> WallTime {
    SCALE.current(time)
}

/// Milliseconds from a steady time until now; never negative. Of what an earlier run has received: from the start of this one,
/// while the date is unknown.
pub fn age_ms(since: WallTime) -> i64 {
    SCALE.age_ms(monotonic_ms(), steady(), since)
}

/// Milliseconds from now until a steady time; negative if it is past. `since` is when it began to count: of what an earlier run
/// has received it counts from the start of this one, while the date is unknown.
pub fn left_ms(since: WallTime, until: WallTime) -> i64 {
    SCALE.left_ms(monotonic_ms(), steady(), since, until)
}

/// A date from outside, as a steady time. While the date is unknown it stays a date: nothing expires by it until then.
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

/// Whether a time from an earlier run is meaningless, since the date was not known then.
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

    #[test]
    fn a_broadcaster_tells_the_date_with_the_least_delay() {
        const TODAY_MS: i64 = 1_795_000_000_000;
        let broadcast = BroadcastDate::new();
        let at = |ms: i64| WallTime::from_unix_ms(TODAY_MS + ms);
        assert_eq!(broadcast.date(5), None);
        broadcast.learn(WallTime::from_unix_ms(60_000), 10);
        assert_eq!(broadcast.date(10), None, "a sender that does not know it either");
        broadcast.learn(at(0), 1000);
        assert_eq!(broadcast.date(1000), Some(at(0)));
        broadcast.learn(at(100), 2000);
        assert_eq!(broadcast.date(2000), Some(at(1000)), "this document was 0.9 s longer under way");
        broadcast.learn(at(2100), 3000);
        assert_eq!(broadcast.date(3000), Some(at(2100)), "this one was faster");
        broadcast.learn(at(-3_600_000), 4000);
        assert_eq!(broadcast.date(4000), Some(at(-3_600_000)), "the sender's clock was set");
    }

    #[test]
    fn what_an_earlier_run_has_received_counts_from_the_start_until_the_date_is_known() {
        const BOOT_MS: i64 = 60_000;
        const TODAY_MS: i64 = 1_795_000_000_000;
        let scale = Scale::new();
        let (since, until) =
            (WallTime::from_unix_ms(TODAY_MS - 10_000), WallTime::from_unix_ms(TODAY_MS + 50_000));
        let at = |monotonic_ms, wall_ms| {
            let now = scale.now(monotonic_ms, || WallTime::from_unix_ms(wall_ms));
            (scale.age_ms(monotonic_ms, now, since), scale.left_ms(monotonic_ms, now, since, until))
        };
        assert_eq!(at(0, BOOT_MS), (0, 60_000));
        assert_eq!(at(20_000, BOOT_MS + 20_000), (20_000, 40_000));
        assert_eq!(at(70_000, BOOT_MS + 70_000), (70_000, -10_000), "it does not stay fresh forever");
        assert_eq!(at(80_000, TODAY_MS), (10_000, 50_000), "the date says");
    }
}
