//! A circuit breaker for each origin: who fails again and again is left alone for a while, so that players do not wait
//! for its timeouts and a struggling origin is not beaten by a million boxes.
//!
//! ```text
//! closed ── FAILURES in a row ──▶ open ── OPEN ──▶ half open: one request ── fails ──▶ open
//!    ▲                                                     │ succeeds
//!    └─────────────────────────────────────────────────────┘
//! ```

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use carousel::time::Instant;

/// Failures in a row that open the circuit.
const FAILURES: u32 = 5;
/// How long it stays open.
const OPEN: Duration = Duration::from_secs(60);
/// Origins kept track of. A box has a handful; beyond, the one that is well is forgotten first.
const MAX_ORIGINS: usize = 256;

/// What is known of one origin.
#[derive(Debug, Clone, Copy, Default)]
struct Circuit {
    failures: u32,
    /// Open until then.
    until: Option<Instant>,
    /// The one request of a half-open circuit is on its way.
    is_probed: bool,
}

/// The circuits of all origins, by authority.
#[derive(Debug, Default)]
pub(super) struct Breakers(Mutex<HashMap<String, Circuit>>);

impl Breakers {
    /// Whether this origin may be asked now.
    pub(super) fn admits(&self, authority: &str, now: Instant) -> bool {
        let mut circuits = self.circuits();
        let Some(circuit) = circuits.get_mut(authority) else { return true };
        match circuit.until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => !std::mem::replace(&mut circuit.is_probed, true),
        }
    }

    /// Notes how a request ended. `is_well`: the origin answered as it should, a refusal included.
    pub(super) fn note(&self, authority: &str, is_well: bool, now: Instant) {
        let mut circuits = self.circuits();
        if is_well {
            circuits.remove(authority);
            return;
        }
        if circuits.len() >= MAX_ORIGINS && !circuits.contains_key(authority) {
            let least = circuits.iter().min_by_key(|(_, it)| it.failures).map(|(name, _)| name.clone());
            if let Some(least) = least {
                circuits.remove(&least);
            }
        }
        let circuit = circuits.entry(authority.to_owned()).or_default();
        circuit.failures += 1;
        circuit.is_probed = false;
        if circuit.failures >= FAILURES {
            if circuit.until.is_none() {
                tracing::warn!(origin = authority, "fails again and again: left alone for {OPEN:?}");
            }
            circuit.until = Some(now + OPEN);
        }
    }

    /// Origins that are left alone now.
    pub(super) fn open(&self, now: Instant) -> Vec<String> {
        let circuits = self.circuits();
        let open = circuits.iter().filter(|(_, it)| it.until.is_some_and(|until| now < until));
        open.map(|(name, _)| name.clone()).collect()
    }

    fn circuits(&self) -> MutexGuard<'_, HashMap<String, Circuit>> {
        // Every change is one entry, so a panic elsewhere leaves the map consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_open_it_and_one_request_after_a_minute_decides() {
        let breakers = Breakers::default();
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        for second in 0..5 {
            assert!(breakers.admits("cdn", at(second)), "{second}");
            breakers.note("cdn", false, at(second));
        }
        assert!(!breakers.admits("cdn", at(5)) && !breakers.admits("cdn", at(63)));
        assert_eq!(breakers.open(at(5)), ["cdn"]);
        assert!(breakers.admits("other", at(5)));
        assert!(breakers.admits("cdn", at(65)), "half open");
        assert!(!breakers.admits("cdn", at(65)), "for one");
        breakers.note("cdn", false, at(66));
        assert!(!breakers.admits("cdn", at(100)));
        assert!(breakers.admits("cdn", at(127)));
        breakers.note("cdn", true, at(127));
        assert!(breakers.admits("cdn", at(128)) && breakers.open(at(128)).is_empty());
    }

    #[test]
    fn a_success_in_between_starts_the_count_anew_and_the_table_is_bounded() {
        let breakers = Breakers::default();
        let now = Instant::from_nanos(1);
        for _ in 0..4 {
            breakers.note("a", false, now);
        }
        breakers.note("a", true, now);
        breakers.note("a", false, now);
        assert!(breakers.admits("a", now));
        for number in 0..1000 {
            breakers.note(&number.to_string(), false, now);
        }
        assert!(breakers.circuits().len() <= MAX_ORIGINS);
    }
}
