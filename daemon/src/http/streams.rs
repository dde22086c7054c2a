//! Concurrent requests of one HTTP/2 or HTTP/3 connection: stalled streams and cancelled requests.
//!
//! A client may request more than it reads. A stream with a closed window holds a piece of a body, so streams count as places
//! ([`super::HttpServer::is_crowded`]), and the connection ends when one stalls for too long. A client that cancels requests
//! as fast as it makes them (Rapid Reset, CVE-2023-44487) causes work without reading results: its allowance of cancellations
//! grows with each completed request.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::{Health, KEEP_ALIVE, Link, PAUSE};
use super::workers::Worker;
use crate::traces::Span;

/// Time without progress after which a stream counts as stalled: less than 9 kbit/s for the pending piece.
const STALLED_FOR: Duration = Duration::from_secs(240);
/// Cancellations allowed per second.
const TAKEN_BACK_PER_S: u32 = 20;

carousel::limits! {
    /// Requests that a client may cancel at once on one connection.
    const MAX_TAKEN_BACK: u32 = 200, "requests" {
        why: "Players that seek cancel a few; a flood of cancelled requests is an attack (CVE-2023-44487).",
        full: "The connection is closed.",
        free: "20 a second, and one for each response that has gone out complete.",
        test: "what_may_be_taken_back_grows_with_time_and_with_what_ends",
    }
}

/// Progress of one response.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Time since which a piece waits for the client; `None`: the client waits for the box.
    waits_since: Cell<Option<Instant>>,
}

impl Pace {
    /// Records that a piece of the body was polled, and whether it was ready.
    pub(super) fn took(&self, is_there: bool) {
        self.waits_since.set(is_there.then(Instant::now));
    }

    fn stalled_for(&self, now: Instant) -> Duration {
        self.waits_since.get().map_or(Duration::ZERO, |since| now - since)
    }
}

/// State of all concurrent requests of a connection.
#[derive(Debug)]
pub(super) struct Multiplexed {
    paces: RefCell<Vec<Rc<Pace>>>,
    /// Remaining allowance of cancellations at `since`.
    allowed: Cell<u32>,
    counted_at: Cell<Instant>,
    is_flooded: Cell<bool>,
}

impl Default for Multiplexed {
    fn default() -> Self {
        Self {
            paces: RefCell::default(),
            allowed: Cell::new(MAX_TAKEN_BACK),
            counted_at: Cell::new(Instant::now()),
            is_flooded: Cell::new(false),
        }
    }
}

impl Multiplexed {
    /// Counts a request that was cancelled, or abandoned during its response.
    pub(super) fn takes_back(&self) {
        let now = Instant::now();
        let seconds = u32::try_from((now - self.counted_at.get()).as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 {
            self.counted_at.set(now);
            self.allow(seconds.saturating_mul(TAKEN_BACK_PER_S));
        }
        match self.allowed.get().checked_sub(1) {
            Some(left) => self.allowed.set(left),
            None => self.is_flooded.set(true),
        }
    }

    fn allow(&self, more: u32) {
        self.allowed.set(self.allowed.get().saturating_add(more).min(MAX_TAKEN_BACK));
    }

    /// Whether the allowance is exceeded.
    pub(super) const fn is_flooded(&self) -> bool {
        self.is_flooded.get()
    }

    fn longest_stall(&self) -> Duration {
        let now = Instant::now();
        self.paces.borrow().iter().map(|pace| pace.stalled_for(now)).max().unwrap_or_default()
    }
}

/// Lifetime of one request and its response, from the request's head to the last byte or the cut.
pub(super) struct Exchange {
    pub(super) worker: Rc<Worker>,
    pub(super) link: Rc<Link>,
    pub(super) pace: Option<Rc<Pace>>,
    /// The response was sent completely.
    pub(super) is_whole: bool,
    /// It counts as a place.
    is_counted: bool,
    /// Its trace span, which ends with it.
    pub(super) span: Span,
}

impl Exchange {
    pub(super) fn begin(worker: &Rc<Worker>, link: &Rc<Link>) -> Self {
        let is_counted = link.multiplexed.is_some() && link.active() > 0;
        link.begins();
        if is_counted {
            worker.server.streams.fetch_add(1, Relaxed);
        }
        let pace = link.multiplexed.as_ref().map(|streams| {
            let pace = Rc::<Pace>::default();
            streams.paces.borrow_mut().push(Rc::clone(&pace));
            pace
        });
        let (worker, link) = (Rc::clone(worker), Rc::clone(link));
        Self { worker, link, pace, is_whole: false, is_counted, span: Span::default() }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.link.ends();
        if self.is_counted {
            self.worker.server.streams.fetch_sub(1, Relaxed);
        }
        if let (Some(streams), Some(pace)) = (&self.link.multiplexed, &self.pace) {
            streams.paces.borrow_mut().retain(|it| !Rc::ptr_eq(it, pace));
            if self.is_whole { streams.allow(1) } else { streams.takes_back() }
        }
    }
}

/// State of the periodic checks of a connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Time since which no request is in progress.
    idle_since: Option<Instant>,
}

impl Streams {
    /// Checks a connection of HTTP/2 or HTTP/3. `is_crowded`: few places are left.
    pub(super) fn check_health(&mut self, link: &Link, is_crowded: bool) -> Health {
        let may_take = |patience: Duration| if is_crowded { patience } else { PAUSE };
        if link.active() == 0 {
            let idle_for = self.idle_since.get_or_insert_with(Instant::now).elapsed();
            return if idle_for >= may_take(KEEP_ALIVE) { Health::Gone } else { Health::Idle };
        }
        self.idle_since = None;
        let stall = link.multiplexed.as_ref().map_or(Duration::ZERO, |it| it.longest_stall());
        if stall >= may_take(STALLED_FOR) { Health::Slow } else { Health::Well }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_may_be_taken_back_grows_with_time_and_with_what_ends() {
        let streams = Multiplexed::default();
        (0..MAX_TAKEN_BACK).for_each(|_| streams.takes_back());
        assert!(!streams.is_flooded());
        streams.allow(1);
        streams.takes_back();
        tokio::time::advance(Duration::from_secs(1)).await;
        (0..TAKEN_BACK_PER_S).for_each(|_| streams.takes_back());
        assert!(!streams.is_flooded());
        streams.takes_back();
        assert!(streams.is_flooded());
        // No patience is saved up.
        let streams = Multiplexed::default();
        streams.allow(MAX_TAKEN_BACK);
        (0..MAX_TAKEN_BACK).for_each(|_| streams.takes_back());
        assert!(!streams.is_flooded());
        streams.takes_back();
        assert!(streams.is_flooded());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_stands_still_ends_its_connection_when_places_are_few_or_after_the_longest_pause() {
        let link = Link::multiplexed("127.0.0.1".parse().unwrap());
        let paces = &link.multiplexed.as_ref().unwrap().paces;
        let [still, waiting] = [Rc::<Pace>::default(), Rc::default()];
        paces.borrow_mut().extend([Rc::clone(&still), Rc::clone(&waiting)]);
        let mut streams = Streams::default();
        assert_eq!(streams.check_health(&link, true), Health::Idle);
        link.begins();
        still.took(true);
        waiting.took(true);
        waiting.took(false);
        tokio::time::advance(STALLED_FOR - Duration::from_secs(1)).await;
        assert_eq!(streams.check_health(&link, true), Health::Well);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(
            (streams.check_health(&link, true), streams.check_health(&link, false)),
            (Health::Slow, Health::Well)
        );
        // It continues.
        still.took(true);
        assert_eq!(streams.check_health(&link, true), Health::Well);
        tokio::time::advance(PAUSE).await;
        assert_eq!(streams.check_health(&link, false), Health::Slow);
        still.took(false);
        assert_eq!(streams.check_health(&link, false), Health::Well, "who waits for us is not slow");
        link.ends();
        assert_eq!(streams.check_health(&link, true), Health::Idle);
        tokio::time::advance(KEEP_ALIVE).await;
        assert_eq!(
            (streams.check_health(&link, true), streams.check_health(&link, false)),
            (Health::Gone, Health::Idle)
        );
    }
}
