//! Signs of life of the threads on which reception and serving depend. The service manager's watchdog is reset only while all of
//! them give theirs: reset by a timer, it would not notice a thread that hangs.
//!
//! Threads that may wait for a disk give none: a slow disk delays the daemon and does not stop it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use carousel::time::Instant;

/// A thread that has given no sign for so long stands still. Each gives one a second or more.
const STANDSTILL: Duration = Duration::from_secs(10);

/// One thread's signs.
#[derive(Debug)]
pub struct Sign {
    name: String,
    last_ns: AtomicU64,
}

impl Sign {
    /// Records that the thread runs.
    pub fn give(&self, now: Instant) {
        self.last_ns.store(now.as_nanos(), Relaxed);
    }
}

/// All threads' signs.
#[derive(Debug, Default)]
pub struct Vitals {
    signs: Mutex<Vec<Arc<Sign>>>,
}

impl Vitals {
    /// Watches one more thread, from now on.
    pub fn watch(&self, name: String, now: Instant) -> Arc<Sign> {
        let sign = Arc::new(Sign { name, last_ns: AtomicU64::new(now.as_nanos()) });
        self.signs.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&sign));
        sign
    }

    /// Names of the threads that stand still.
    pub fn standing_still(&self, now: Instant) -> Vec<String> {
        let signs = self.signs.lock().unwrap_or_else(PoisonError::into_inner);
        let longest_ns = u64::try_from(STANDSTILL.as_nanos()).unwrap_or(u64::MAX);
        let stands = |it: &&Arc<Sign>| now.as_nanos().saturating_sub(it.last_ns.load(Relaxed)) > longest_ns;
        signs.iter().filter(stands).map(|it| it.name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_without_a_sign_are_named() {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let vitals = Vitals::default();
        let (one, _other) = (vitals.watch("one".into(), at(0)), vitals.watch("other".into(), at(0)));
        one.give(at(8));
        assert_eq!(vitals.standing_still(at(10)), Vec::<String>::new());
        assert_eq!(vitals.standing_still(at(11)), ["other"]);
    }
}
