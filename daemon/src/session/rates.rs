//! Measurement of the bit rates of services, from the byte counters of their sessions.

use std::collections::HashMap;
use std::time::Duration;

use carousel::time::Instant;

/// Measurement window: longer than a segment, which is sent in one burst.
const WINDOW: Duration = Duration::from_secs(6);

#[derive(Debug)]
struct Rate {
    began: Instant,
    bytes: u64,
    /// Highest rate of a window since the service was joined.
    highest_bps: Option<u64>,
}

/// Rates of services that are joined; an entry for each.
#[derive(Debug, Default)]
pub(super) struct Rates(HashMap<String, Rate>);

impl Rates {
    /// Records the bytes that a service has received so far; returns the highest rate of its windows when one has ended.
    pub(super) fn sample(&mut self, now: Instant, id: &str, bytes: u64, is_joined: bool) -> Option<u64> {
        if !is_joined {
            self.0.remove(id);
            return None;
        }
        let Some(rate) = self.0.get_mut(id) else {
            self.0.insert(id.to_owned(), Rate { began: now, bytes, highest_bps: None });
            return None;
        };
        let elapsed_ms = u64::try_from(now.since(rate.began).as_millis()).unwrap_or(u64::MAX);
        if now.since(rate.began) < WINDOW {
            return None;
        }
        // The count falls when a session ends.
        let bps = bytes.saturating_sub(rate.bytes).saturating_mul(8000) / elapsed_ms;
        (rate.began, rate.bytes) = (now, bytes);
        // A silent window is not a measurement.
        rate.highest_bps = rate.highest_bps.max(Some(bps).filter(|bps| *bps > 0));
        rate.highest_bps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_window_since_a_service_was_joined_counts() {
        let mut rates = Rates::default();
        let mut sample = |s: u64, bytes, is_joined| {
            rates.sample(Instant::from_nanos(0) + Duration::from_secs(s), "a", bytes, is_joined)
        };
        assert_eq!(sample(0, 1000, true), None);
        assert_eq!(sample(5, 9000, true), None);
        assert_eq!(sample(8, 9000, true), Some(8000));
        assert_eq!(sample(16, 10_000, true), Some(8000));
        assert_eq!(sample(24, 0, true), Some(8000), "a session has ended");
        assert_eq!(sample(25, 0, false), None);
        assert_eq!(sample(26, 0, true), None);
        assert_eq!(sample(34, 0, true), None, "nothing has come");
    }
}
