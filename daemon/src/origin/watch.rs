//! Readers of a fill: a fetch without readers ends, unless little of it is left.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fill::FillRequest;
use crate::delivery::Flight;
use crate::store::Partial;

/// Interval at which flights are checked for readers.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// Time for which a body of unknown length continues after its last reader has left: it may return, or another may come.
const GRACE: Duration = Duration::from_secs(1);
/// As [`GRACE`], for a flight without a reader so far: the request may be for its head, or a background refresh.
const UNREAD_GRACE: Duration = Duration::from_secs(10);
/// As [`GRACE`], for a prefetch.
const AHEAD_GRACE: Duration = Duration::from_secs(30);
/// Remaining bytes up to which a body of known length is completed without readers; a longer one is given up after a
/// grace period.
const WORTH_BYTES: u64 = 64 << 20;
const LONG_GRACE: Duration = Duration::from_secs(10);
/// Time for which readers of a pass-through body wait for slower ones, in all: then those are overrun, and cut.
const PATIENCE: Duration = Duration::from_secs(3);
/// Bytes that a reader of a pass-through body may lag: the size of the ring, less the current write.
const BEHIND_BYTES: u64 = 512 << 10;

/// The requester of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// Players have made the request.
    Players,
    /// Players will probably make it, or ask for its head: at most this number of bytes without readers.
    Ahead(u64),
    /// The box itself.
    Own,
}

impl Audience {
    pub(super) const fn of(ask: &FillRequest, prefetch_bytes: u64) -> Self {
        match (ask.is_our_own, ask.prefetch || ask.is_for_head) {
            (true, _) => Self::Own,
            (false, true) => Self::Ahead(prefetch_bytes),
            (false, false) => Self::Players,
        }
    }
}

/// Decides whether a fetch without readers continues.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    audience: Audience,
    partial: &'a Arc<Partial>,
    length: Option<u64>,
    /// Time since which it has had no reader.
    unread_since: Instant,
    /// Rest of [`PATIENCE`].
    patience: Duration,
}

impl<'a> Watch<'a> {
    pub(super) fn new(audience: Audience, partial: &'a Arc<Partial>, flight: &Flight) -> Self {
        Self { audience, partial, length: flight.length, unread_since: Instant::now(), patience: PATIENCE }
    }

    /// Whether the bytes after `offset` are no longer needed.
    pub(super) fn is_over(&mut self, offset: u64) -> bool {
        let (readers, was_read) = self.partial.readers_now_and_ever();
        if readers > 0 || self.audience == Audience::Own {
            self.unread_since = Instant::now();
            return false;
        }
        let grace = match (self.length, self.audience) {
            (Some(length), _) if length.saturating_sub(offset) > WORTH_BYTES => LONG_GRACE,
            (Some(_), _) => return false,
            (None, _) if was_read => GRACE,
            (None, Audience::Ahead(most)) if offset > most => return true,
            (None, Audience::Ahead(_)) => AHEAD_GRACE,
            (None, _) => UNREAD_GRACE,
        };
        self.unread_since.elapsed() >= grace
    }

    /// Waits until the byte before `end` of a pass-through body of `written` bytes may be written. False: it has no reader left.
    pub(super) async fn let_pass(&mut self, written: u64, end: u64) -> bool {
        loop {
            let read_on = self.partial.listen_readers();
            let pace = self.partial.pace(written);
            let is_awaited = pace.is_some_and(|pace| pace.is_awaited);
            match pace {
                Some(pace) if pace.slowest.saturating_add(BEHIND_BYTES) >= end => return true,
                Some(_) if is_awaited && self.patience.is_zero() => return true,
                Some(_) => {}
                // A body that cannot be stored is useless for later requests.
                None if self.audience != Audience::Players => return false,
                // Readers that were overrun get nothing more.
                None if self.unread_since.elapsed() >= GRACE
                    && (self.partial.readers_now_and_ever().0 > 0 || self.is_over(end)) =>
                {
                    return false;
                }
                None => {}
            }
            let begun = Instant::now();
            let wait = if is_awaited { LOOK.min(self.patience) } else { LOOK };
            let _ = tokio::time::timeout(wait, read_on).await;
            if is_awaited {
                self.patience = self.patience.saturating_sub(begun.elapsed());
            }
            if self.partial.pace(written).is_some() {
                self.unread_since = Instant::now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{key, sent};
    use super::*;
    use crate::store::{Grown, Placement, Store, StoreConfig};

    const PIECE: u64 = 256 << 10;

    /// A growing body in a store of 8 MiB of memory, and its flight.
    fn growing() -> (tempfile::TempDir, Arc<Partial>, Flight) {
        let folder = tempfile::tempdir().unwrap();
        let (path, memory_bytes) = (folder.path().join("cache"), 8 << 20);
        let config = StoreConfig { path, memory_bytes, reserve_bytes: 0, ..StoreConfig::default() };
        let (store, _) = Store::open(&config).unwrap();
        let partial = Arc::new(store.create_growing(Placement::default(), false).unwrap());
        let flight = Flight::of_prefix(key("h/a.ts"), None, None, sent(false), Arc::clone(&partial), false);
        (folder, partial, flight)
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_reader_delays_the_others_once() {
        let (_folder, partial, flight) = growing();
        let mut watch = Watch::new(Audience::Players, &partial, &flight);
        let (_paused, quick) = (partial.reader(0), partial.reader(0));
        let (begun, mut written, mut is_passing) = (Instant::now(), 0, false);
        for _ in 0..64 {
            let end = written + PIECE;
            is_passing = partial.grow(written, end) == Grown::Passing;
            assert!(!is_passing || watch.let_pass(written, end).await);
            partial.write_at(written, &[1; PIECE as usize]).unwrap();
            written = end;
            quick.is_at(written);
        }
        assert!(is_passing, "16 MB have no room");
        let delay = begun.elapsed();
        assert!(delay >= PATIENCE && delay < PATIENCE + LOOK, "{delay:?}");
        // The one that was overrun holds the origin no longer.
        drop(quick);
        assert!(!watch.let_pass(written, written + PIECE).await);
        assert!(begun.elapsed() < delay + GRACE + 2 * LOOK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_alone_may_pause() {
        let (_folder, partial, flight) = growing();
        let mut watch = Watch::new(Audience::Players, &partial, &flight);
        let _paused = partial.reader(0);
        let mut written = 0;
        while partial.grow(written, written + PIECE) == Grown::Kept {
            partial.write_at(written, &[1; PIECE as usize]).unwrap();
            written += PIECE;
        }
        let waiting =
            tokio::time::timeout(Duration::from_secs(600), watch.let_pass(written, written + PIECE));
        assert!(waiting.await.is_err(), "what it has not read stays");
    }
}
