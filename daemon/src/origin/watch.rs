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
/// Time after which an inactive reader of a pass-through body no longer delays the others.
const PATIENCE: Duration = Duration::from_secs(10);
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
}

impl<'a> Watch<'a> {
    pub(super) fn new(audience: Audience, partial: &'a Arc<Partial>, flight: &Flight) -> Self {
        Self { audience, partial, length: flight.length, unread_since: Instant::now() }
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

    /// Waits until the byte before `end` of a pass-through body may be written. False: it has no reader left.
    pub(super) async fn let_pass(&mut self, end: u64) -> bool {
        let begun = Instant::now();
        loop {
            let read_on = self.partial.listen_readers();
            match self.partial.slowest() {
                Some(slowest) if slowest.saturating_add(BEHIND_BYTES) >= end => return true,
                Some(_) if begun.elapsed() >= PATIENCE && self.partial.readers_now_and_ever().0 > 1 => {
                    return true;
                }
                Some(_) => {}
                // A body that cannot be stored is useless for later requests.
                None if self.audience != Audience::Players => return false,
                None if self.unread_since.elapsed() >= GRACE && self.is_over(end) => return false,
                None => {}
            }
            let _ = tokio::time::timeout(LOOK, read_on).await;
            if self.partial.slowest().is_some() {
                self.unread_since = Instant::now();
            }
        }
    }
}
