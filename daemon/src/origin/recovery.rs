//! Recovery of origins that have failed: health checks, and requests that wait for an open circuit.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use http::header::USER_AGENT;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::breaker::RequestEnd;
use super::client::{AGENT, Client};
use super::lock;
use super::message::no_body;
use crate::clock;

/// Maximum wait of a request for the circuit of its origin: nothing else can be served to this player, whose next attempt is a
/// second away or more.
const MOST_WAIT: Duration = Duration::from_secs(2);
/// Interval of health checks of a failed origin while requests wait for it. It doubles with each request that fails although the
/// check was answered, up to the usual interval.
const SHORT_INTERVAL: Duration = Duration::from_secs(1);
/// Time limit of a check. Connections that are begun while a link is down hang: a check of the same origin is begun beside them
/// after [`SHORT_INTERVAL`].
const CHECK_LIMIT: Duration = Duration::from_secs(5);
/// Interval at which a waiting request looks at the circuit: the end of the request that a half-open circuit permits is not
/// announced.
const LOOK: Duration = Duration::from_millis(250);

/// Requests that wait for the circuits of their origins.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// Failed origins are checked ([`Client::watch_health`]).
    is_watched: AtomicBool,
    /// URLs of health checks that requests wait for. Taken when checks are begun; at most the origins of [`Breakers`].
    ///
    /// [`Breakers`]: super::breaker::Breakers
    wanted: Mutex<HashSet<String>>,
    /// `wanted` has grown.
    is_wanted: Notify,
    /// A check has ended.
    checked: Notify,
}

/// Health checks of one failed origin.
#[derive(Debug)]
struct Checks {
    /// Begin of the newest one.
    begun: Instant,
    /// Answered ones since it failed.
    answered: u32,
}

impl Checks {
    /// Time at which the next check is due for requests that wait.
    fn due(&self, interval: Duration) -> Instant {
        self.begun + (SHORT_INTERVAL * (1 << self.answered.min(6))).min(interval.max(SHORT_INTERVAL))
    }
}

impl Client {
    /// Checks failed origins and all parents every `interval`, forever, and a failed origin every [`SHORT_INTERVAL`] while requests
    /// wait for it. Any answer to a HEAD of an origin's root counts as healthy; only a request for an object can show more.
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
        let mut running: JoinSet<(String, RequestEnd)> = JoinSet::new();
        let mut origins: HashMap<String, Checks> = HashMap::new();
        let mut all_at = Instant::now() + interval;
        let mut next_at = all_at;
        loop {
            tokio::select! {
                () = sleep_until(next_at) => {}
                () = self.recovery().is_wanted.notified() => {}
                Some(ended) = running.join_next() => {
                    if let Ok((url, ended)) = ended {
                        tracing::debug!(url, ?ended, "health of an origin that failed");
                        self.breakers().looked(&url, ended, clock::now());
                        if let Some(checks) = origins.get_mut(&url) {
                            checks.answered += u32::from(ended == RequestEnd::Well);
                        }
                        self.recovery().checked.notify_waiters();
                    }
                    continue;
                }
            }
            let now = Instant::now();
            let wanted = std::mem::take(&mut *lock(&self.recovery().wanted));
            let are_all_due = now >= all_at;
            if are_all_due {
                all_at = now + interval;
            }
            next_at = all_at;
            let failing = self.breakers().failing();
            origins.retain(|url, _| failing.contains(url));
            for url in failing {
                let is_wanted = wanted.contains(&url);
                let known = origins.get(&url);
                if let Some(due) = known.map(|it| it.due(interval)).filter(|due| *due > now)
                    && (is_wanted || are_all_due)
                {
                    if is_wanted {
                        next_at = next_at.min(due);
                        lock(&self.recovery().wanted).insert(url);
                    }
                    continue;
                }
                if !is_wanted && !are_all_due {
                    continue;
                }
                let Ok(request) = Request::head(&url).header(USER_AGENT, AGENT).body(no_body()) else {
                    continue;
                };
                let answered = known.map_or(0, |it| it.answered);
                origins.insert(url.clone(), Checks { begun: now, answered });
                let (pool, limit) = (self.pool().clone(), self.own_limit().min(CHECK_LIMIT));
                running.spawn(async move {
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

    /// Waits until the circuit of this URL's origin permits a request, for at most [`MOST_WAIT`] since `begun`. False: it does not, or
    /// the health of origins is not checked.
    pub(super) async fn wait_for_recovery(&self, url: &str, begun: Instant) -> bool {
        let Recovery { is_watched, wanted, is_wanted, checked } = self.recovery();
        if !is_watched.load(Ordering::Relaxed) {
            return false;
        }
        let recovered = async {
            loop {
                let next = checked.notified();
                if self.breakers().would_admit(url, clock::now()) {
                    return;
                }
                if let Some(check) = self.breakers().check_of(url)
                    && lock(wanted).insert(check)
                {
                    is_wanted.notify_one();
                }
                let _ = timeout(LOOK, next).await;
            }
        };
        timeout_at(begun + MOST_WAIT, recovered).await.is_ok()
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
        assert!(!client.wait_for_recovery(&well, Instant::now()).await, "nothing checks its health");
        let watch = tokio::spawn({
            let client = Arc::clone(&client);
            async move { client.watch_health(Duration::from_secs(3600)).await }
        });
        tokio::task::yield_now().await;
        assert!(!client.wait_for_recovery(&hanging, Instant::now()).await);
        assert!(client.wait_for_recovery(&well, Instant::now()).await, "long before the next check of all");
        assert!(client.breakers().admits(&well, clock::now()), "one request decides");
        assert!(!client.wait_for_recovery(&well, Instant::now()).await, "it has not ended");
        client.breakers().note(&well, Asker::Own, RequestEnd::Well, clock::now());
        assert!(client.wait_for_recovery(&well, Instant::now()).await);
        watch.abort();
    }

    /// An origin whose root answers while its objects fail is not asked more often than failed ones are checked.
    #[tokio::test]
    async fn checks_that_are_answered_in_vain_become_rarer() {
        let client = client();
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let url = origin(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            response(&["200 OK", "Content-Length: 0"], "")
        });
        open(&client, &url);
        let watch = tokio::spawn({
            let client = Arc::clone(&client);
            async move { client.watch_health(Duration::from_secs(3600)).await }
        });
        tokio::task::yield_now().await;
        let end = Instant::now() + Duration::from_secs(8);
        while Instant::now() < end {
            if client.wait_for_recovery(&url, Instant::now()).await {
                assert!(client.breakers().admits(&url, clock::now()));
                client.breakers().note(&url, Asker::Own, RequestEnd::Unreachable, clock::now());
            }
        }
        let checks = asked.load(Ordering::Relaxed);
        assert!((2..=4).contains(&checks), "at 0, 2 and 6 s: {checks}");
        watch.abort();
    }
}
