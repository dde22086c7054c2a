//! Ledger of bytes written to flash: today, in total, and the remaining life at that rate.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use carousel::time::{Instant, WallTime};
use serde::{Deserialize, Serialize};

use crate::clock;

const DAY_MS: i64 = 86_400_000;
/// Bytes between two saves of the ledger.
const NOTE_BYTES: u64 = 256 << 20;
/// Time between two saves while something is written: a kill or a power cut loses at most this much of the ledger. A save writes a
/// few kilobytes.
const NOTE_INTERVAL: Duration = Duration::from_secs(60);
const FILE: &str = "written.json";

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Page {
    /// Days since 1970; 0 while the date is unknown.
    day: i64,
    today_bytes: u64,
    total_bytes: u64,
    /// Start of the ledger.
    since_ms: i64,
}

/// Bytes written to the flash.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    budget_bytes: u64,
    endurance_bytes: u64,
    page: Mutex<Open>,
    /// Locked before `page`, while the file is written.
    saving: Mutex<()>,
}

/// The page that is written on.
#[derive(Debug)]
struct Open {
    page: Page,
    /// `total_bytes` and time of the newest save.
    noted_bytes: u64,
    noted_at: Instant,
}

/// Totals of the ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FlashWear {
    /// Bytes written since midnight, UTC.
    pub today_bytes: u64,
    /// Daily budget; 0: unlimited.
    pub budget_bytes: u64,
    /// Bytes written since the start of the ledger.
    pub total_bytes: u64,
    /// Days until the endurance is used up at the rate so far; `None` if it is unknown or nothing was written.
    pub life_days: Option<f64>,
}

impl Ledger {
    /// Continues the ledger of a folder. `budget_bytes` a day and `endurance_bytes` in all, 0: no limit known.
    pub(super) fn open(folder: &Path, budget_bytes: u64, endurance_bytes: u64) -> Self {
        let path = folder.join(FILE);
        let page: Option<Page> =
            std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let page = page.unwrap_or_else(|| Page { since_ms: clock::wall().unix_ms(), ..Page::default() });
        let open = Open { page, noted_bytes: page.total_bytes, noted_at: clock::now() };
        Self { path, budget_bytes, endurance_bytes, page: Mutex::new(open), saving: Mutex::new(()) }
    }

    /// Whether the budget allows `bytes` more today.
    pub(super) fn allows(&self, bytes: u64) -> bool {
        if self.budget_bytes == 0 {
            return true;
        }
        let mut open = self.page();
        turn(&mut open.page, clock::trusted_wall());
        open.page.today_bytes.saturating_add(bytes) <= self.budget_bytes
    }

    /// Records `bytes` written.
    pub(super) fn wrote(&self, bytes: u64) {
        let is_due = {
            let mut open = self.page();
            turn(&mut open.page, clock::trusted_wall());
            open.page.today_bytes += bytes;
            open.page.total_bytes += bytes;
            open.page.total_bytes - open.noted_bytes >= NOTE_BYTES
        };
        if is_due {
            self.note(clock::now());
        }
    }

    /// Saves what was written since the newest save, if that is [`NOTE_INTERVAL`] ago. Called every second or so.
    pub(super) fn keep(&self, now: Instant) {
        let is_due = {
            let open = self.page();
            open.page.total_bytes > open.noted_bytes && now.since(open.noted_at) >= NOTE_INTERVAL
        };
        if is_due {
            self.note(now);
        }
    }

    /// Saves the ledger.
    pub(super) fn close(&self) {
        self.note(clock::now());
    }

    fn note(&self, now: Instant) {
        // One at a time, each with the newest page.
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let page = {
            let mut open = self.page();
            (open.noted_bytes, open.noted_at) = (open.page.total_bytes, now);
            open.page
        };
        // A ledger that cannot be saved costs at most one day's budget.
        if let Ok(bytes) = serde_json::to_vec(&page) {
            let fresh = self.path.with_extension("new");
            let _ = std::fs::write(&fresh, bytes).and_then(|()| std::fs::rename(&fresh, &self.path));
        }
    }

    pub(super) fn wear(&self) -> FlashWear {
        let mut open = self.page();
        turn(&mut open.page, clock::trusted_wall());
        let page = open.page;
        let days = (clock::wall().unix_ms() - page.since_ms).max(DAY_MS / 24) as f64 / DAY_MS as f64;
        let left = self.endurance_bytes.saturating_sub(page.total_bytes) as f64;
        let rate = page.total_bytes as f64 / days;
        FlashWear {
            today_bytes: page.today_bytes,
            budget_bytes: self.budget_bytes,
            total_bytes: page.total_bytes,
            life_days: (self.endurance_bytes > 0 && rate > 0.0).then(|| left / rate),
        }
    }

    fn page(&self) -> MutexGuard<'_, Open> {
        // Numbers only, consistent after a panic elsewhere.
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a new day if the date has advanced. A clock that jumps back (a box without a battery) does not.
fn turn(page: &mut Page, now: Option<WallTime>) {
    let Some(today) = now.map(|now| now.unix_ms() / DAY_MS).filter(|&today| today > page.day) else { return };
    // The first date after a start without one is not a new day: what was written before it counts.
    if page.day > 0 {
        page.today_bytes = 0;
    }
    page.day = today;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_loses_a_minute_of_the_ledger_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let of_disk = || Ledger::open(folder.path(), 0, 0).wear().total_bytes;
        let ledger = Ledger::open(folder.path(), 0, 0);
        let begun = clock::now();
        ledger.wrote(600);
        ledger.keep(begun + NOTE_INTERVAL / 2);
        assert_eq!(of_disk(), 0, "not at every write");
        ledger.keep(begun + 2 * NOTE_INTERVAL);
        assert_eq!(of_disk(), 600);
        // Nothing is written where nothing has changed.
        std::fs::remove_file(folder.path().join(FILE)).unwrap();
        ledger.keep(begun + 4 * NOTE_INTERVAL);
        assert!(!folder.path().join(FILE).exists());
        ledger.wrote(NOTE_BYTES);
        assert_eq!(of_disk(), 600 + NOTE_BYTES, "much at once is noted at once");
    }

    #[test]
    fn a_budget_is_kept_over_restarts_and_days_turn_only_forwards() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path(), 1000, 0);
        ledger.wrote(600);
        assert!(ledger.allows(400) && !ledger.allows(401));
        ledger.close();
        let again = Ledger::open(folder.path(), 1000, 10_000);
        assert!(!again.allows(401));
        let wear = again.wear();
        assert_eq!((wear.today_bytes, wear.total_bytes), (600, 600));
        assert!(wear.life_days.is_some_and(|days| days > 0.0));
        assert!(Ledger::open(folder.path(), 0, 0).allows(u64::MAX));
        let day = |day: i64| Some(WallTime::from_unix_ms(day * DAY_MS + 5));
        let mut page = Page { day: 100, today_bytes: 7, ..Page::default() };
        for before in [None, day(0), day(99), day(100)] {
            turn(&mut page, before);
            assert_eq!(page.today_bytes, 7);
        }
        turn(&mut page, day(101));
        assert_eq!((page.day, page.today_bytes), (101, 0));
    }
}
