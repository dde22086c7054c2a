//! Token bucket of a reserved rate, for live objects and firmware.

/// Maximum credit, as time at the reserved rate.
const BURST_MS: u64 = 500;

/// The bucket.
#[derive(Debug)]
pub(super) struct Reserve {
    rate_bps: u64,
    credit_bits: i64,
    at_ns: u64,
}

impl Reserve {
    /// A full bucket.
    pub(super) const fn new(rate_bps: u64) -> Self {
        let mut this = Self { rate_bps, credit_bits: 0, at_ns: 0 };
        this.credit_bits = this.most_bits();
        this
    }

    const fn most_bits(&self) -> i64 {
        (self.rate_bps / 1000 * BURST_MS) as i64
    }

    /// Whether a packet may be sent within the reserve now.
    pub(super) fn has_credit(&mut self, now_ns: u64) -> bool {
        let earned =
            u128::from(now_ns.saturating_sub(self.at_ns)) * u128::from(self.rate_bps) / 1_000_000_000;
        // Whole bits only: the remaining time counts at the next call.
        if earned > 0 {
            self.at_ns = now_ns;
            let earned = i64::try_from(earned).unwrap_or(i64::MAX);
            self.credit_bits = self.credit_bits.saturating_add(earned).min(self.most_bits());
        }
        self.credit_bits > 0
    }

    /// Time of the next credit; `None`: never.
    pub(super) fn due_ns(&self) -> Option<u64> {
        let missing = u64::try_from(1 - self.credit_bits).unwrap_or(0);
        let wait_ns = (u128::from(missing) * 1_000_000_000).div_ceil(u128::from(self.rate_bps.max(1)));
        (self.rate_bps > 0).then(|| self.at_ns.saturating_add(u64::try_from(wait_ns).unwrap_or(u64::MAX)))
    }

    /// Charges a packet of `bytes`, sent within the reserve or at unused rate. Debt is bounded like credit.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.credit_bits = (self.credit_bits - bytes as i64 * 8).max(-self.most_bits());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_over_time_and_savings_are_bounded() {
        let mut reserve = Reserve::new(8_000_000);
        let mut sent = 0;
        for now_ms in 0..10_000_u64 {
            while reserve.has_credit(now_ms * 1_000_000) {
                reserve.spend(1000);
                sent += 1;
            }
        }
        // Ten seconds at 1000 packets a second, and the half second that was saved up.
        assert!((10_450..10_550).contains(&sent), "{sent}");
        assert!(!Reserve::new(0).has_credit(u64::MAX));
        assert!(reserve.has_credit(u64::MAX));
        assert!(reserve.credit_bits <= 4_000_000);
    }
}
