//! Back-off before repair requests and between their repetitions (TS 103 769).

use std::time::Duration;

/// Attempts to repair an object before it is left to the carousel: some eight minutes in all, in which an origin may be
/// restarted.
pub const ATTEMPTS: u32 = 12;
/// Shortest wait between two tries, doubled each time.
const RETRY: Duration = Duration::from_millis(500);
/// Longest wait between two tries, unless the random part alone is longer.
const MAX_RETRY: Duration = Duration::from_secs(60);

/// `fixedBackOffTime` and `randomBackOffTime`: a receiver waits for the first, and for a part of the second that it draws
/// again each time, so that a million receivers spread over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// Fixed part of each wait.
    pub fixed: Duration,
    /// Upper limit of the random part.
    pub random: Duration,
}

impl BackOff {
    /// The wait before try number `attempt`, the first being 0. `random` is drawn again for each.
    pub fn wait(&self, attempt: u32, random: u64) -> Duration {
        if attempt == 0 {
            return self.fixed + part(self.random, random);
        }
        let first = RETRY.max(self.random / 2);
        let retry = first.saturating_mul(1 << attempt.min(20)).min(MAX_RETRY.max(self.random));
        retry / 2 + part(retry / 2, random)
    }
}

/// The part of `most` that `random` draws.
fn part(most: Duration, random: u64) -> Duration {
    let most_ns = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    if most_ns == 0 { Duration::ZERO } else { Duration::from_nanos(random % most_ns) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_tries_spread_over_the_random_part_and_retries_grow_to_a_limit() {
        let ms = Duration::from_millis;
        let back_off = BackOff { fixed: ms(200), random: ms(1000) };
        assert_eq!(back_off.wait(0, 0), ms(200));
        assert_eq!(back_off.wait(0, 999_999_999), ms(1200) - Duration::from_nanos(1));
        assert_eq!(back_off.wait(1, 0), ms(500));
        assert_eq!(back_off.wait(2, 0), ms(1000));
        for attempt in 1..ATTEMPTS {
            assert!(back_off.wait(attempt, u64::MAX) <= MAX_RETRY, "{attempt}");
        }
        let nothing = BackOff { fixed: Duration::ZERO, random: Duration::ZERO };
        assert_eq!(nothing.wait(0, 7), Duration::ZERO);
        assert_eq!(nothing.wait(1, 0), RETRY);
        let wide = BackOff { fixed: Duration::ZERO, random: Duration::from_secs(600) };
        assert!(wide.wait(3, u64::MAX) <= Duration::from_secs(600), "retries stay within the window");
    }
}
