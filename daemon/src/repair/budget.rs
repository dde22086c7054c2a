//! How many retries an origin is troubled with: a fraction of the first tries, so that retries cannot multiply the load
//! of an origin that is failing under it.

use std::sync::atomic::{AtomicU32, Ordering};

/// Retries that each first try earns, in tenths.
const EARNED: u32 = 2;
/// Retries that may be saved up, in tenths; also what there is at the start.
const MOST: u32 = 200;
/// One retry, in tenths.
const PRICE: u32 = 10;

/// Retries that may be made now.
#[derive(Debug)]
pub(super) struct RetryBudget(AtomicU32);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(AtomicU32::new(MOST))
    }
}

impl RetryBudget {
    /// A first try is made.
    pub(super) fn earn(&self) {
        let add = |tenths: u32| Some((tenths + EARNED).min(MOST));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// A retry that was paid for asked nobody: the circuit was open.
    pub(super) fn give_back(&self) {
        let add = |tenths: u32| Some((tenths + PRICE).min(MOST));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Whether a retry may be made; it is then paid for.
    pub(super) fn spend(&self) -> bool {
        let pay = |tenths: u32| tenths.checked_sub(PRICE);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_fifth_of_first_tries_once_the_savings_are_spent() {
        let budget = RetryBudget::default();
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 20);
        budget.give_back();
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 1, "what asked nobody costs nothing");
        let retries = (0..100).filter(|_| {
            budget.earn();
            budget.spend()
        });
        assert_eq!(retries.count(), 20);
        for _ in 0..10_000 {
            budget.earn();
        }
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 20, "savings are bounded");
    }
}
