//! Recovery of origins that have failed: health checks, and requests that wait for an open circuit.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use http::header::USER_AGENT;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::breaker::RequestEnd;
use super::client::{AGENT, Client, no_body};
use crate::clock;

/// Maximum wait of a request for the circuit of its origin: nothing else can be served to this player, whose next attempt is a
/// second away or more.
const MOST_WAIT: Duration = Duration::from_millis(1500);
/// Interval of health checks of a failed origin while requests wait for it.
const SHORT_INTERVAL: Duration = Duration::from_millis(250);

/// Time after which a second check of an origin is begun beside one that has not ended.
const HANGING_AFTER: Duration = Duration::from_secs(1);
/// Time limit of a check: at most five of one origin are in progress.
const CHECK_LIMIT: Duration = Duration::from_secs(5);

/// Requests that wait for the circuits of their origins.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// Failed origins are checked ([`Client::watch_health`]).
    is_watched: AtomicBool,
    /// A request waits: the next check is due soon.
    wanted: Notify,
    /// A check has ended.
    checked: Notify,
}

impl Client {
    /// Checks failed origins and all parents every `interval`, forever, and failed origins every [`SHORT_INTERVAL`] while requests
    /// wait for one. Any answer to a HEAD of an origin's root counts as healthy; only a request for an object can show more.
    pub async fn watch_health(&self, interval: Duration) {
        let parents = async {
            loop {
                tokio::time::sleep(interval).await;
                self.check_parents().await;
            }
        };
        tokio::join!(self.watch_origins(interval), parents);
    }

    async fn watch_origins(&self, interval: Duration) {
        self.recovery().is_watched.store(true, Ordering::Relaxed);
        let mut checks: JoinSet<(String, RequestEnd)> = JoinSet::new();
        // Begin of the newest check of each origin that has not ended.
        let mut in_progress: HashMap<String, Instant> = HashMap::new();
        let mut checked_at = Instant::now();
        let mut next_at = checked_at + interval;
        loop {
            tokio::select! {
                () = sleep_until(next_at) => {}
                () = self.recovery().wanted.notified() => {
                    next_at = next_at.min(checked_at + SHORT_INTERVAL);
                    continue;
                }
                Some(checked) = checks.join_next() => {
                    match checked {
                        Ok((url, ended)) => {
                            tracing::debug!(url, ?ended, "health of an origin that failed");
                            in_progress.remove(&url);
                            self.breakers().looked(&url, ended, clock::now());
                            self.recovery().checked.notify_waiters();
                        }
                        Err(_) => in_progress.clear(),
                    }
                    continue;
                }
            }
            checked_at = Instant::now();
            next_at = checked_at + interval;
            for url in self.breakers().failing() {
                // One that hangs, as connections do that were begun while the link was down, delays no other for long.
                if in_progress.get(&url).is_some_and(|begun| begun.elapsed() < HANGING_AFTER) {
                    continue;
                }
                if let Ok(request) = Request::head(&url).header(USER_AGENT, AGENT).body(no_body()) {
                    in_progress.insert(url.clone(), checked_at);
                    let (pool, limit) = (self.pool().clone(), self.own_limit().min(CHECK_LIMIT));
                    checks.spawn(async move {
                        let ended = match timeout(limit, pool.request(request)).await {
                            Err(_) => RequestEnd::Slow,
                            Ok(Err(_)) => RequestEnd::Unreachable,
                            Ok(Ok(response)) => RequestEnd::of_status(response.status().as_u16()),
                        };
                        (url, ended)
                    });
                }
            }
        }
    }

    /// Waits until the circuit of this URL's origin permits a request, for at most [`MOST_WAIT`]. False: it does not, or the health
    /// of origins is not checked.
    pub(super) async fn wait_for_recovery(&self, url: &str) -> bool {
        let Recovery { is_watched, wanted, checked } = self.recovery();
        if !is_watched.load(Ordering::Relaxed) {
            return false;
        }
        let recovered = async {
            loop {
                let next = checked.notified();
                if self.breakers().would_admit(url, clock::now()) {
                    return;
                }
                wanted.notify_one();
                // The end of the request that a half-open circuit permits is not a check.
                let _ = timeout(SHORT_INTERVAL, next).await;
            }
        };
        timeout(MOST_WAIT, recovered).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::breaker::Asker;
    use super::super::testing::{origin, response};
    use super::super::{AddressPolicy, OriginTimeouts};
    use super::*;

    fn client() -> Arc<Client> {
        let policy = AddressPolicy::new(&[], &[], &["127.0.0.0/8:*".to_owned()], Vec::new());
        Arc::new(Client::new(Duration::from_secs(60), &OriginTimeouts::default(), &[], &[], policy))
    }

    fn open(client: &Client, url: &str) {
        for _ in 0..5 {
            client.breakers().note(url, Asker::Own, RequestEnd::Unreachable, clock::now());
        }
        assert!(client.breakers().is_open(url, clock::now()));
    }

    #[tokio::test]
    async fn a_request_that_waits_has_its_origin_checked_beside_one_that_hangs() {
        let client = client();
        let well = origin(|_| response(&["200 OK", "Content-Length: 0"], ""));
        // Connections are taken by the system, and nothing answers.
        let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let hanging = format!("http://{}/", hanging.local_addr().unwrap());
        open(&client, &well);
        open(&client, &hanging);
        assert!(!client.wait_for_recovery(&well).await, "nothing checks its health");
        let watch = tokio::spawn({
            let client = Arc::clone(&client);
            async move { client.watch_health(Duration::from_secs(3600)).await }
        });
        tokio::task::yield_now().await;
        assert!(!client.wait_for_recovery(&hanging).await);
        assert!(client.wait_for_recovery(&well).await, "long before the next check of all");
        assert!(client.breakers().admits(&well, clock::now()), "one request decides");
        assert!(!client.wait_for_recovery(&well).await, "it has not ended");
        client.breakers().note(&well, Asker::Own, RequestEnd::Well, clock::now());
        assert!(client.wait_for_recovery(&well).await);
        watch.abort();
    }
}
