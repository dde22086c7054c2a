//! The one place that asks the operating system what time it is.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use carousel::time::{Instant, WallTime};

/// Dates before this are no dates: the box has not been told the time yet (2025-01-01).
const BEFORE_ANY_CLOCK_MS: i64 = 1_735_689_600_000;

/// Monotonic time since the first call.
pub fn now() -> Instant {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    let elapsed = START.get_or_init(std::time::Instant::now).elapsed();
    Instant::from_nanos(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}

/// What the system says the date is.
pub fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The date, or `None` while the system cannot know it (1970 at boot, until NTP): nothing expires until then.
pub fn trusted_wall() -> Option<WallTime> {
    Some(wall()).filter(|wall| wall.unix_ms() >= BEFORE_ANY_CLOCK_MS)
}
