//! Waits of tokio tasks for objects in flight, with a deadline.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::delivery::{Flight, Flights};

impl Flight {
    /// Waits until the byte at `offset` is there, or given up, or the flight has ended; false if nothing happened to the
    /// flight for `patience`, or nothing can happen to it any more.
    pub async fn wait_for(&self, offset: u64, patience: Duration) -> bool {
        self.wait(offset, patience, |it| it.time_to_give_up(clock::now())).await
    }

    /// As [`Flight::wait_for`], for readers that may use an origin instead.
    pub async fn wait_or_turn(&self, offset: u64, patience: Duration) -> bool {
        self.wait(offset, patience, |it| it.time_to_origin(clock::now())).await
    }

    async fn wait(
        &self,
        offset: u64,
        patience: Duration,
        time_left: impl Fn(&Self) -> Option<Duration>,
    ) -> bool {
        let mut before = self.received_bytes();
        loop {
            let changed = self.listen();
            if self.outcome().is_some() || self.available_from(offset) > offset || self.is_given_up(offset) {
                return true;
            }
            let left = time_left(self);
            if left == Some(Duration::ZERO) {
                return false;
            }
            let patience = left.map_or(patience, |it| it.min(patience));
            if tokio::time::timeout(patience, changed).await.is_err() && left.is_none() {
                let now = self.received_bytes();
                if now == before {
                    return false;
                }
                before = now;
            }
        }
    }
}

/// Time for which a client waits for the answer whether lost data can be repaired.
const ASKED: Duration = Duration::from_millis(100);

impl Flights {
    /// Requests repair of a flight on behalf of a waiting client. For lost data, waits for the answer.
    pub async fn expedite(&self, flight: &Arc<Flight>) {
        let changed = flight.listen();
        self.request(flight);
        if flight.is_lost(clock::now()) {
            let _ = tokio::time::timeout(ASKED, changed).await;
        }
    }

    /// Waits until there is a flight of this key, `done` says that waiting is over, or `patience` is.
    pub async fn wait_for(
        &self,
        key: &str,
        patience: Duration,
        done: impl Fn() -> bool,
    ) -> Option<Arc<Flight>> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let appeared = self.listen();
            if let Some(flight) = self.get(key) {
                return Some(flight);
            }
            if done() || tokio::time::timeout_at(deadline, appeared).await.is_err() {
                return None;
            }
        }
    }
}
