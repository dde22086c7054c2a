//! Counters of responses to players: one set for each worker on its own cache lines, added up when read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::request::Parts;
use http::{Method, StatusCode, header};

use super::manifest::Rewriting;

/// Upper bounds of the histogram of time to the head, in microseconds.
pub const BUCKETS_US: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000,
];
carousel::reasons! {
    /// Why a request was refused before it was looked up.
    pub enum Refusal in "http_refused_requests" by "reason" {
        /// Its head is not HTTP, or contradicts itself.
        BadRequest = "bad_request",
        /// Its head is larger than a head may be.
        HeadTooLarge = "head_too_large",
        /// Its URI is longer than a name may be.
        UriTooLong = "uri_too_long",
        /// Its URI can be no object's name.
        BadName = "bad_name",
        /// CONNECT or TRACE, or a method that its route does not pass on.
        Method = "method",
        /// The page is asked for by a `Host` that is not a name of the box.
        Host = "host",
        /// It has come through this cache before.
        Loop = "loop",
        /// A TLS handshake on the port without TLS.
        TlsOnPlainPort = "tls_on_plain_port",
        /// A TLS or QUIC handshake that failed, or something else than one on the port with TLS.
        Handshake = "tls_handshake",
        /// A request in early data that may not be repeated.
        EarlyData = "early_data",
        /// Frames of HTTP/2 or HTTP/3 against their rules.
        BadFrames = "bad_frames",
        /// Frames of HTTP/2 or HTTP/3 without end: requests taken back, heads that go on, frames that mean nothing.
        Flood = "flood",
    }
}

carousel::reasons! {
    /// Why a request was not served from the cache.
    pub enum MissCause in "http_misses" by "cause" {
        /// The object was not held: it has not come yet, was evicted, or exists nowhere.
        Content = "content",
        /// Something failed or was full: no origin answered, the player was sent to a CDN, there was no room to keep the object.
        Health = "health",
        /// Rules forbid it: fields of origin or player, the configuration, access of the player.
        Policy = "policy",
    }
}

impl MissCause {
    /// Cause by the response; `None`: it is not a miss of an object. `how`: the box's line of `Cache-Status`.
    pub(super) fn of(request: &Parts, status: StatusCode, served: Served, how: &str) -> Option<Self> {
        let path = request.uri.path();
        let is_lookup = matches!(request.method, Method::GET | Method::HEAD);
        if !is_lookup || path == "/" || path.starts_with("/-/") || path.starts_with("/dvb-i/") {
            return None;
        }
        let control = request.headers.get_all(header::CACHE_CONTROL).iter();
        let only_if_cached =
            || control.filter_map(|it| it.to_str().ok()).any(|it| it.contains("only-if-cached"));
        match (served, status) {
            (Served::Hit | Served::Stale | Served::Revalidated | Served::InFlight, _) => None,
            (Served::Own, StatusCode::GATEWAY_TIMEOUT) if only_if_cached() => Some(Self::Policy),
            (_, status) if status.is_server_error() => Some(Self::Health),
            (Served::Own, StatusCode::TEMPORARY_REDIRECT) => Some(Self::Health),
            (Served::Own, StatusCode::FORBIDDEN) => Some(Self::Policy),
            (Served::Own, StatusCode::NOT_FOUND) => Some(Self::Content),
            (Served::Own, _) => None,
            (Served::Miss, _) if how.contains("detail=not-kept-no-room") => Some(Self::Health),
            (Served::Miss, _) if how.contains("detail=not-kept-") => Some(Self::Policy),
            (Served::Miss, _) if how.contains("stored=?0") => Some(Self::Health),
            (Served::Miss, _) => Some(Self::Content),
        }
    }
}

carousel::limits! {
    /// Routes that metrics tell apart, `other` included.
    const MAX_ROUTES: usize = 32, "routes" {
        why: "A configuration has a handful; each has a dozen time series.",
        full: "The others are counted together as `other`.",
        free: "Holds for the configuration.",
        test: "routes_beyond_the_limit_are_counted_together",
    }
}

/// Source of the answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Served {
    /// From the cache.
    Hit,
    /// From the cache, though stale.
    Stale,
    /// From the cache, after revalidation by the origin.
    Revalidated,
    /// While it arrived by the carousel.
    InFlight,
    /// From an origin.
    Miss,
    /// By the box itself: the page, an error, `OPTIONS`.
    Own,
}

impl Served {
    /// Every variant, in the order of their numbers, for metrics.
    pub const ALL: [Self; 6] =
        [Self::Hit, Self::Stale, Self::Revalidated, Self::InFlight, Self::Miss, Self::Own];

    /// Name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::InFlight => "in_flight",
            Self::Miss => "miss",
            Self::Own => "own",
        }
    }

    /// Derives it from the parameters of `Cache-Status`.
    pub(super) fn of(cache_status: &str) -> Self {
        let Some(how) = cache_status.strip_prefix("skycache; ") else { return Self::Own };
        if how.contains("detail=stale") {
            Self::Stale
        } else if how.contains("detail=in-flight") {
            Self::InFlight
        } else if how.contains("detail=error-") {
            Self::Own
        } else if how.contains("fwd-status=304") {
            Self::Revalidated
        } else if how.starts_with("hit") {
            Self::Hit
        } else {
            Self::Miss
        }
    }
}

/// Counters of one route.
#[derive(Debug, Default)]
pub struct RouteStats {
    /// In the order of [`Served::ALL`].
    pub served: [AtomicU64; Served::ALL.len()],
    /// Bytes of bodies.
    pub bytes: AtomicU64,
    /// Times to the head, by bucket; the last one is unbounded.
    pub buckets: [AtomicU64; BUCKETS_US.len() + 1],
    /// Their sum.
    pub sum_us: AtomicU64,
}

/// Counters of one worker, or the sum of all.
#[derive(Debug, Default)]
pub struct HttpStats {
    /// Responses by the hundreds of their status, 1xx to 5xx.
    pub responses: [AtomicU64; 5],
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Connections closed at once because there were too many.
    pub refused: AtomicU64,
    /// Connections closed because their client was too slow: a head that does not end, a body that is not read.
    pub too_slow: AtomicU64,
    /// Lines of the access log that were dropped because the disk was too slow.
    pub unlogged: AtomicU64,
    /// Requests refused before they were looked up, in the order of [`Refusal::ALL`].
    pub refusals: [AtomicU64; Refusal::ALL.len()],
    /// Requests that were not served from the cache, in the order of [`MissCause::ALL`].
    pub misses: [AtomicU64; MissCause::ALL.len()],
    /// Manifests with URLs of a route's origin by result of the rewriting, in the order of [`Rewriting::ALL`].
    pub manifests: [AtomicU64; Rewriting::ALL.len()],
    /// In the order of [`route_names`].
    pub routes: Vec<RouteStats>,
}

/// Names of routes in metrics: their paths, then `other`.
pub fn route_names(routes: &[crate::origin::Route]) -> Vec<String> {
    let paths = routes.iter().take(MAX_ROUTES - 1).map(|route| route.path.clone());
    paths.chain(["other".to_owned()]).collect()
}

impl HttpStats {
    /// Counters for this number of routes.
    pub(super) fn new(routes: usize) -> Self {
        Self { routes: (0..routes).map(|_| RouteStats::default()).collect(), ..Self::default() }
    }

    /// Number of responses from the cache.
    pub fn hits(&self) -> u64 {
        let hits = |route: &RouteStats| {
            let [hit, stale, revalidated, in_flight, ..] = &route.served;
            [hit, stale, revalidated, in_flight].iter().map(|it| it.load(Relaxed)).sum::<u64>()
        };
        self.routes.iter().map(hits).sum()
    }

    /// Counts a refused request.
    pub(super) fn refuse(&self, why: Refusal) {
        self.refusals[why as usize].fetch_add(1, Relaxed);
    }

    /// Counts the result of rewriting a manifest.
    pub(super) fn manifest(&self, rewriting: Option<Rewriting>) {
        if let Some(rewriting) = rewriting {
            self.manifests[rewriting as usize].fetch_add(1, Relaxed);
        }
    }

    /// Counts a request that was not served from the cache.
    pub(super) fn miss(&self, cause: Option<MissCause>) {
        if let Some(cause) = cause {
            self.misses[cause as usize].fetch_add(1, Relaxed);
        }
    }

    /// Counts a response whose head is ready.
    pub(super) fn head(&self, route: usize, status: StatusCode, served: Served, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5);
        self.responses[class - 1].fetch_add(1, Relaxed);
        let Some(route) = self.routes.get(route) else { return };
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        route.served[served as usize].fetch_add(1, Relaxed);
        route.buckets[BUCKETS_US.partition_point(|&end| end < us)].fetch_add(1, Relaxed);
        route.sum_us.fetch_add(us, Relaxed);
    }

    /// Adds the counters of another set.
    pub(super) fn add(&mut self, other: &Self) {
        let add = |to: &AtomicU64, from: &AtomicU64| {
            to.fetch_add(from.load(Relaxed), Relaxed);
        };
        self.responses.iter().zip(&other.responses).for_each(|(to, from)| add(to, from));
        add(&self.connections, &other.connections);
        add(&self.refused, &other.refused);
        add(&self.too_slow, &other.too_slow);
        add(&self.unlogged, &other.unlogged);
        self.manifests.iter().zip(&other.manifests).for_each(|(to, from)| add(to, from));
        self.refusals.iter().zip(&other.refusals).for_each(|(to, from)| add(to, from));
        self.misses.iter().zip(&other.misses).for_each(|(to, from)| add(to, from));
        for (to, from) in self.routes.iter().zip(&other.routes) {
            to.served.iter().zip(&from.served).for_each(|(to, from)| add(to, from));
            to.buckets.iter().zip(&from.buckets).for_each(|(to, from)| add(to, from));
            add(&to.bytes, &from.bytes);
            add(&to.sum_us, &from.sum_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cache_status_says_is_what_is_counted() {
        for (status, served) in [
            ("skycache; hit; ttl=5", Served::Hit),
            ("skycache; hit; detail=stale-if-error; ttl=-5", Served::Stale),
            ("skycache; hit; fwd=stale; fwd-status=304; ttl=5", Served::Revalidated),
            ("skycache; hit; detail=in-flight", Served::InFlight),
            ("skycache; fwd=miss", Served::Miss),
            ("skycache; fwd=stale", Served::Miss),
            ("skycache; fwd=miss; detail=error-origin-timeout", Served::Own),
            ("skycache; detail=error-no-place", Served::Own),
            ("", Served::Own),
        ] {
            assert_eq!(Served::of(status), served, "{status}");
        }
        let stats = HttpStats::new(1);
        stats.head(0, StatusCode::OK, Served::Hit, Duration::from_micros(100));
        stats.head(0, StatusCode::OK, Served::Hit, Duration::from_secs(9));
        let mut all = HttpStats::new(1);
        all.add(&stats);
        assert_eq!((all.hits(), all.responses[1].load(Relaxed)), (2, 2));
        assert_eq!(all.routes[0].buckets[0].load(Relaxed), 1);
        assert_eq!(all.routes[0].buckets[BUCKETS_US.len()].load(Relaxed), 1);
    }

    #[test]
    fn routes_beyond_the_limit_are_counted_together() {
        let route =
            |number: usize| crate::origin::Route { path: format!("/{number}/"), ..Default::default() };
        let names = route_names(&(0..MAX_ROUTES + 5).map(route).collect::<Vec<_>>());
        assert_eq!((names.len(), names[MAX_ROUTES - 2].as_str()), (MAX_ROUTES, "/30/"));
        assert_eq!(names.last().unwrap(), "other");
    }

    #[test]
    fn each_miss_has_a_cause() {
        let request = |method: &str, path: &str, control: &str| {
            let request = http::Request::builder().method(method).uri(path);
            request.header("cache-control", control).body(()).unwrap().into_parts().0
        };
        let (content, health, policy) =
            (Some(MissCause::Content), Some(MissCause::Health), Some(MissCause::Policy));
        for (status, how, cause) in [
            (200, "skycache; hit; ttl=5", None),
            (200, "skycache; hit; detail=in-flight", None),
            (200, "skycache; hit; detail=stale-if-error; ttl=-5", None),
            (200, "skycache; fwd=miss", content),
            (404, "skycache; fwd=miss", content),
            (200, "skycache; fwd=miss; stored=?0", health),
            (503, "skycache; fwd=miss; stored=?0; detail=not-kept-status", health),
            (200, "skycache; fwd=miss; stored=?0; detail=not-kept-no-store", policy),
            (200, "skycache; fwd=miss; stored=?0; detail=not-kept-purged", policy),
            (200, "skycache; fwd=miss; stored=?0; detail=not-kept-no-room", health),
            (502, "", health),
            (307, "", health),
            (403, "", policy),
            (404, "", content),
            (304, "", None),
            (416, "", None),
        ] {
            let of = |request: &Parts| {
                let status = StatusCode::from_u16(status).unwrap();
                MissCause::of(request, status, Served::of(how), how)
            };
            assert_eq!(of(&request("GET", "/vod/a", "no-cache")), cause, "{status} {how}");
            for other in ["/", "/-/health", "/dvb-i/query"] {
                assert_eq!(of(&request("GET", other, "")), None, "{status} {how} {other}");
            }
            assert_eq!(of(&request("POST", "/vod/a", "")), None, "{status} {how}");
        }
        let asked = request("GET", "/vod/a", "only-if-cached");
        assert_eq!(MissCause::of(&asked, StatusCode::GATEWAY_TIMEOUT, Served::Own, ""), policy);
    }
}
