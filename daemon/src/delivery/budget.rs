//! Budget of retries: a fraction of the first attempts, so that retries cannot multiply the load of an origin that fails
//! under it.

/// Retries that each first attempt earns, in tenths.
const EARNED: u32 = 2;
/// Maximum balance, in tenths; also the initial one.
const MOST: u32 = 200;
/// One retry, in tenths.
const PRICE: u32 = 10;

/// Balance of retries, in tenths.
#[derive(Debug)]
pub struct RetryBudget(u32);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(MOST)
    }
}

impl RetryBudget {
    /// Credits a first attempt.
    pub fn earn(&mut self) {
        self.0 = (self.0 + EARNED).min(MOST);
    }

    /// Refunds a retry that sent no request: the circuit was open, or there was no connection.
    pub fn give_back(&mut self) {
        self.0 = (self.0 + PRICE).min(MOST);
    }

    /// Pays for one retry; false if the balance is too low.
    pub fn spend(&mut self) -> bool {
        let left = self.0.checked_sub(PRICE);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_fifth_of_first_attempts_once_the_savings_are_spent() {
        let mut budget = RetryBudget::default();
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 20);
        budget.give_back();
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 1, "what asked no origin costs nothing");
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
