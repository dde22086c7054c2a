//! The plans of RaptorQ's K' that were used last.
//!
//! A plan costs as much as the decoding of a block or two, and is the same for all blocks of one K'. Objects of one carousel
//! have few different ones.

use std::sync::{Arc, Mutex, PoisonError};

use skycache_raptorq::{Plan, padded};

use crate::limits;

limits! {
    /// Plans by which blocks of RaptorQ are coded, kept for the next block of their size.
    const MAX_PLAN_BYTES: usize = 4 << 20, "bytes" {
        why: "A plan has 35 bytes for each source symbol: 26 KB for a block of 1 MB, 2 MB for the largest that RFC 6330 knows.",
        full: "The plan that was used longest ago is forgotten, and made again when it is wanted.",
        free: "At once, since the oldest gives way.",
        test: "plans_beyond_the_limit_are_forgotten_and_made_again",
    }
}

/// Plans in the order of their last use.
#[derive(Debug, Default)]
struct Plans(Vec<Arc<Plan>>);

static PLANS: Mutex<Plans> = Mutex::new(Plans(Vec::new()));

impl Plans {
    fn get(&mut self, symbols: usize) -> Option<Arc<Plan>> {
        let at = self.0.iter().position(|plan| plan.symbols() == symbols)?;
        let plan = self.0.remove(at);
        self.0.push(Arc::clone(&plan));
        Some(plan)
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|plan| plan.bytes()).sum()
    }

    fn keep(&mut self, plan: Arc<Plan>) {
        if self.get(plan.symbols()).is_none() {
            self.0.push(plan);
        }
        while self.bytes() > MAX_PLAN_BYTES && self.0.len() > 1 {
            self.0.remove(0);
        }
    }
}

/// The plan of blocks of `k` source symbols; `None` if RFC 6330 has none so large.
pub(super) fn plan(k: u32) -> Option<Arc<Plan>> {
    let plans = || PLANS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(plan) = plans().get(padded(k)?) {
        return Some(plan);
    }
    // Plans are made outside the lock; two threads may make the same one at a time.
    let plan = Arc::new(Plan::new(k)?);
    plans().keep(Arc::clone(&plan));
    Some(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_beyond_the_limit_are_forgotten_and_made_again() {
        let mut plans = Plans::default();
        let first = Arc::new(Plan::new(700).unwrap());
        plans.keep(Arc::clone(&first));
        let large: Vec<Arc<Plan>> = (0..40).map(|at| Arc::new(Plan::new(5000 + 60 * at).unwrap())).collect();
        for plan in &large {
            plans.keep(Arc::clone(plan));
            assert!(plans.bytes() <= MAX_PLAN_BYTES);
        }
        assert!(plans.bytes() > MAX_PLAN_BYTES * 3 / 4 && plans.get(first.symbols()).is_none());
        plans.keep(first);
        assert!(plans.get(padded(700).unwrap()).is_some() && plans.bytes() <= MAX_PLAN_BYTES);
        // The plan that was used last stays.
        assert!(plans.get(large.last().unwrap().symbols()).is_some());
    }

    #[test]
    fn a_plan_is_made_once() {
        let first = plan(701).unwrap();
        assert!(Arc::ptr_eq(&first, &plan(702).unwrap()) && plan(56_404).is_none());
    }
}
