//! Token bucket for pacing: returns the wait before the next packet. Time is an argument.

/// Limits bytes to a rate, with bursts of a few milliseconds at most: a modulator's buffer is small.
#[derive(Debug, Clone, Copy)]
pub struct Pacer {
    rate_bps: u64,
    /// Time up to which the link is occupied.
    busy_until_ns: u64,
}

/// Maximum delay that a sender may make up in one burst: 50 packets at 100 Mbit/s, which modulators buffer.
const MAX_BURST_NS: u64 = 5_000_000;

impl Pacer {
    /// A pacer of `rate_bps` (at least 1) for a link that is free at `now_ns`.
    pub fn new(rate_bps: u64, now_ns: u64) -> Self {
        Self { rate_bps: rate_bps.max(1), busy_until_ns: now_ns }
    }

    /// The link's rate.
    pub const fn rate_bps(&self) -> u64 {
        self.rate_bps
    }

    /// Nanoseconds to wait before the next packet may go; 0 means now.
    pub const fn wait_ns(&self, now_ns: u64) -> u64 {
        self.busy_until_ns.saturating_sub(now_ns)
    }

    /// Records `bytes` (headers included) sent at `now_ns`.
    pub fn sent(&mut self, bytes: usize, now_ns: u64) {
        let start = self.busy_until_ns.max(now_ns.saturating_sub(MAX_BURST_NS));
        self.busy_until_ns = start + bytes as u64 * 8_000_000_000 / self.rate_bps;
    }

    /// Time at which the link will be free.
    pub const fn busy_until_ns(&self) -> u64 {
        self.busy_until_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_rate_over_time() {
        let mut pacer = Pacer::new(8_000_000, 0);
        let (mut now, mut bytes) = (0, 0_u64);
        while now < 1_000_000_000 {
            now += pacer.wait_ns(now);
            pacer.sent(1428, now);
            bytes += 1428;
        }
        assert!((999_000..1_003_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_sender_that_slept_catches_up_only_a_little() {
        let mut pacer = Pacer::new(8_000_000, 0);
        let now = 10_000_000_000;
        let mut burst = 0;
        while pacer.wait_ns(now) == 0 {
            pacer.sent(1000, now);
            burst += 1000;
        }
        assert!(burst <= 6000, "{burst} bytes at once");
    }
}
