//! Live objects of which nothing has been received: lost as soon as their session has sent past them.

use std::time::Duration;

use carousel::time::Instant;

use super::air::ALIVE_TARGETS;

/// Time by which objects sent interleaved have all begun.
const IN_TURNS: Duration = Duration::from_millis(250);

/// Maximum difference of two current TOIs of one session: those of 16 bits wrap around to 1, so that a low one may be later than
/// a high one.
const MOST_APART: u64 = 1 << 15;

/// Objects that must arrive in the order of their TOIs before a session counts as ordered.
const IN_ORDER: u8 = 4;

/// Transmission progress of one session for the objects of one name pattern.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentUpTo {
    /// The first TOI of this run.
    first: u64,
    /// The highest received TOI, and its time. Lower ones soon after it belong to the initial window of a sender, which is sent
    /// newest first.
    last: u64,
    at: Instant,
    /// Objects received in order, up to [`IN_ORDER`]. A lower TOI more than a target duration later begins a new run: the sender
    /// has restarted, repeats objects, or sends them in another order.
    in_order: u8,
    target_ms: u64,
}

impl SentUpTo {
    pub(super) const fn new(toi: u64, at: Instant, target_ms: u64) -> Self {
        Self { first: toi, last: toi, at, in_order: 0, target_ms }
    }

    pub(super) fn push(&mut self, toi: u64, at: Instant, target_ms: u64) {
        let is_late = || at.since(self.at) > Duration::from_millis(target_ms);
        if toi > self.last && toi - self.last <= MOST_APART {
            let in_order = self.in_order.saturating_add(1).min(IN_ORDER);
            *self = Self { last: toi, at, in_order, target_ms, ..*self };
        } else if toi.abs_diff(self.last) > MOST_APART || (toi < self.last && is_late()) {
            *self = Self::new(toi, at, target_ms);
        }
    }

    /// Time until the object with this TOI counts as lost, if nothing of it has been received.
    pub(super) fn time_to_loss(&self, toi: u128, now: Instant) -> Option<Duration> {
        let is_between = u128::from(self.first) < toi && toi < u128::from(self.last);
        let since = now.since(self.at);
        let is_on_air = since <= Duration::from_millis(ALIVE_TARGETS * self.target_ms);
        (is_between && is_on_air && self.in_order == IN_ORDER).then(|| IN_TURNS.saturating_sub(since))
    }
}
