//! Readers of a fill: a fetch without readers ends, unless little of it is left.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fill::Ask;
use crate::delivery::Flight;
use crate::store::Partial;

/// Interval at which flights are checked for readers.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// A body of unknown length continues for so long when its last reader has left: a player may come back, or another ask.
const GRACE: Duration = Duration::from_secs(1);
/// The same for a flight that had no reader yet: a request may be about its head, or a refresh for others.
const UNREAD_GRACE: Duration = Duration::from_secs(10);
/// The same for one that is fetched ahead of players.
const AHEAD_GRACE: Duration = Duration::from_secs(30);
/// Rest of a body of known length up to which it is fetched without readers; a longer one is given up after a while.
const WORTH_BYTES: u64 = 64 << 20;
const LONG_GRACE: Duration = Duration::from_secs(10);
/// A reader of what passes that takes nothing for so long does not hold up others.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that a reader of what passes may be behind: what the ring holds, less what is being written.
const BEHIND_BYTES: u64 = 512 << 10;

/// The requester of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// Players have asked.
    Players,
    /// Players will probably ask: at most so many bytes without readers.
    Ahead(u64),
    /// The box itself.
    Own,
}

impl Audience {
    pub(super) const fn of(ask: &Ask, prefetch_bytes: u64) -> Self {
        match (ask.is_our_own, ask.prefetch) {
            (true, _) => Self::Own,
            (false, true) => Self::Ahead(prefetch_bytes),
            (false, false) => Self::Players,
        }
    }
}

/// Looks whether a fetch is still worth its while.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    audience: Audience,
    partial: &'a Arc<Partial>,
    length: Option<u64>,
    /// Time since which it has no reader.
    unread_since: Instant,
}

impl<'a> Watch<'a> {
    pub(super) fn new(audience: Audience, partial: &'a Arc<Partial>, flight: &Flight) -> Self {
        Self { audience, partial, length: flight.length, unread_since: Instant::now() }
    }

    /// Whether the bytes after `offset` are not wanted.
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

    /// Waits until the byte before `end` of a pass-through body may be written. False: it has no reader any more.
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
                // A body that cannot be kept cannot serve later requests.
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
