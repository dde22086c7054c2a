//! Redirects of players to the CDN of their route, while the box would have to ask an origin and is overloaded, or the origin fails.
//!
//! ```text
//! held, in flight, being fetched, or on the air ──▶ served at any load
//! anything else ──▶ overloaded? ──yes──▶ 307 to `cdn_base` of the route
//!                       │no
//!                       ▼
//!                    origin ──fails──▶ 307 to `cdn_base` of the route
//! ```
//!
//! A redirect costs one short response; a miss costs a connection to the origin, room in the store, and a place for the duration
//! of the transfer. Requests of other caches (`Via`) are not redirected: they can ask other parents, and players behind them
//! would get the redirect.

use http::uri::Authority;
use http::{HeaderValue, Response, Version, header};

use super::HttpServer;
use super::body::PlayerBody;
use super::missing::Missing;
use super::rendezvous::redirect;
use super::serve::{ObjectLocation, ObjectRequest};
use super::target;
use crate::origin::{rest_below, route_of};

carousel::reasons! {
    /// Why a player was sent to the CDN of its route.
    pub enum SentToCdn in "http_sent_to_cdn" by "reason" {
        /// Few places for connections are left, for all or for this client.
        Connections = "connections",
        /// As many fetches from origins, or blocking reloads, wait as may, of all or of this client.
        Fetches = "fetches",
        /// The disk cannot be written: what is fetched could be kept in memory only.
        Disk = "disk",
        /// The groups of its service are not joined, for want of room.
        NoRoom = "no_room",
        /// The origin fails, or does not answer.
        Origin = "origin",
    }
}

/// Whether this status is a failure of the origin.
const fn is_failure(status: u16) -> bool {
    matches!(status, 500 | 502..=504)
}

impl Missing {
    /// Reason to send the player to the CDN of the route; `None`: the CDN would answer the same, or the request excludes other
    /// sources.
    const fn for_cdn(&self) -> Option<SentToCdn> {
        match self {
            Self::Overloaded(why) => Some(*why),
            Self::Busy | Self::NoPlace(_) => Some(SentToCdn::Fetches),
            Self::NotJoined => Some(SentToCdn::NoRoom),
            Self::Refused(status) if is_failure(*status) => Some(SentToCdn::Origin),
            Self::Origin(err) if !err.is_a_mistake() => Some(SentToCdn::Origin),
            Self::Unknown
            | Self::Origin(_)
            | Self::Refused(_)
            | Self::NotInTime
            | Self::NotYet
            | Self::NotAdvanced
            | Self::Directive(_)
            | Self::Broken
            | Self::Lost
            | Self::OnlyIfCached
            | Self::Again => None,
        }
    }
}

impl HttpServer {
    /// Reason not to send this request to an origin now, if it can be redirected. `is_live`: it belongs to a live service, which
    /// is kept in memory anyway.
    pub(super) fn overload(&self, request: &ObjectRequest<'_>, is_live: bool) -> Option<SentToCdn> {
        let why = if self.is_crowded(request.peer) {
            SentToCdn::Connections
        } else if !is_live && !self.shared.store.takes_writes() {
            SentToCdn::Disk
        } else {
            return None;
        };
        // Joining a fetch in progress costs nothing.
        (self.has_elsewhere(request) && !self.filler.is_fetching(request.key)).then_some(why)
    }

    /// Status of an origin's failure response, if the request can be redirected.
    pub(super) fn failed_with(&self, found: &ObjectLocation, request: &ObjectRequest<'_>) -> Option<u16> {
        let status = match found {
            ObjectLocation::Passed(passed) => passed.reply.status.as_u16(),
            ObjectLocation::Flight(flight) => flight.sent.as_ref()?.response.status,
            // An error may be stored while it is fresh.
            ObjectLocation::Stored(object, _) => object.meta().response.as_ref()?.status,
            ObjectLocation::Document(_) => return None,
        };
        (is_failure(status) && self.has_elsewhere(request)).then_some(status)
    }

    /// Whether the player can be redirected for this object.
    fn has_elsewhere(&self, request: &ObjectRequest<'_>) -> bool {
        request.elsewhere.is_some() || self.cdn_url(request).is_some()
    }

    /// Redirect of a player whose object the box cannot serve at present.
    pub(super) fn sent_to_cdn(
        &self,
        request: &ObjectRequest<'_>,
        missing: &Missing,
    ) -> Option<Response<PlayerBody>> {
        let why = missing.for_cdn()?;
        let mut response = redirect(&self.cdn_url(request)?);
        self.sent_to_cdn.add(why);
        tracing::debug!(key = %request.key, %why, "a player is sent to the CDN");
        // Close the connection to free its place; HTTP/2 and HTTP/3 have no such field.
        if why == SentToCdn::Connections && request.head.version <= Version::HTTP_11 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Some(response)
    }

    /// URL of an object at the CDN of the route by which it was requested, or whose base its own URL is below.
    pub(super) fn cdn_url(&self, request: &ObjectRequest<'_>) -> Option<String> {
        if request.head.headers.contains_key(header::VIA) {
            return None;
        }
        let (full, routes) = (&request.target.full, self.origins.routes());
        let (route, rest) = match request.target.route() {
            Some(route) => (route, rest_below(&route.base, full)?),
            None => route_of(&routes, full)?,
        };
        let cdn_base = route.cdn_base.as_ref()?;
        // Where the box serves under the CDN's name, a redirect would lead back to the box.
        (!is_same_host(cdn_base, request)).then(|| {
            let url = format!("{cdn_base}{rest}");
            Some(request.target.as_spelled(url.clone())).filter(|it| is_uri(it)).unwrap_or(url)
        })
    }
}

/// Whether a text has only characters of a URI (RFC 3986 section 2).
fn is_uri(text: &str) -> bool {
    let is_one = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte);
    let is_escape = |part: &str| {
        part.as_bytes().first_chunk::<2>().is_some_and(|it| it.iter().all(u8::is_ascii_hexdigit))
    };
    text.bytes().all(is_one) && text.split('%').skip(1).all(is_escape)
}

/// Whether a URL is of the host that a request names. Ports distinguish two servers where both are given.
fn is_same_host(url: &str, request: &ObjectRequest<'_>) -> bool {
    let of_url =
        url.split_once("://").and_then(|(_, rest)| rest.split('/').next()?.parse::<Authority>().ok());
    let named = target::authority(&request.head.uri, &request.head.headers);
    let named = named.and_then(|it| it.parse::<Authority>().ok());
    let (Some(of_url), Some(named)) = (of_url, named) else { return false };
    let are_two = of_url.port().is_some() && named.port().is_some() && of_url.port() != named.port();
    of_url.host().eq_ignore_ascii_case(named.host()) && !are_two
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::Request;

    use super::*;
    use crate::http::connection::Link;
    use crate::http::options::Http;
    use crate::http::testing::{TestedServer, field, get, link, request, server, server_of, target, worker};
    use crate::http::workers::Worker;
    use crate::origin::testing::{filler_of, filler_with, origin, put, response};
    use crate::origin::{NoPlace, OriginError, OriginRefusal, Route, no_body};
    use crate::store::{Placement, Store, StoreConfig};

    /// Places of the box: nine that are taken are many.
    const PLACES: usize = 10;

    fn options() -> Http {
        Http { wait_ms: 1, max_connections: PLACES, prefetch_segments: 0, ..Http::default() }
    }

    /// Routes to an origin that answers with this status, with a CDN and without.
    fn routes(status: &'static str) -> (Vec<Route>, String, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let url = origin(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            response(&[status, "Cache-Control: max-age=60", "Content-Length: 4"], "body")
        });
        let route = |path: &str, base: String, cdn_base: Option<&str>| Route {
            path: path.into(),
            base,
            cdn_base: cdn_base.map(str::to_owned),
            ..Route::default()
        };
        let all = vec![
            route("/vod/", format!("{url}vod/"), Some("https://cdn.example.com/v/")),
            route("/own/", format!("{url}own/"), None),
        ];
        (all, url, count)
    }

    /// Status and `Location`.
    async fn ask(
        worker: &Rc<Worker>,
        link: &Rc<Link>,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        if fields.iter().all(|it| it.0 != "host") {
            request = request.header("host", "box.local:8080");
        }
        let response = worker.answer(request.body(no_body()).unwrap(), link).await.unwrap();
        if response.status() == 307 {
            assert_eq!(field(&response, "cache-control"), "no-store");
            assert_eq!(field(&response, "access-control-allow-origin"), "*");
        }
        (response.status().as_u16(), field(&response, "location").to_owned())
    }

    fn counts(tested: &TestedServer) -> Vec<(&'static str, u64)> {
        tested.server.sent_to_cdn.labelled().filter(|it| it.1 > 0).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_crowded_box_serves_what_it_holds_and_sends_players_to_the_cdn_for_the_rest() {
        let (routes, url, requests) = routes("200 OK");
        let tested = server(options(), &routes, None);
        let (worker, link) = (worker(&tested.server), link());
        let own = format!("/{}vod/2.m4s", url.trim_start_matches("http://"));
        assert_eq!(ask(&worker, &link, "GET", "/vod/1.m4s", &[]).await.0, 200);
        let other = |at: usize| format!("198.51.100.{at}").parse().unwrap();
        (1..PLACES).for_each(|at| assert!(tested.server.places.take(other(at))));
        let before = requests.load(Ordering::Relaxed);
        let cdn = |rest: &str| (307, format!("https://cdn.example.com/v/{rest}"));
        for method in ["GET", "HEAD"] {
            assert_eq!(ask(&worker, &link, method, "/vod/1.m4s", &[]).await.0, 200, "it is held");
            let path = "/vod/a%20b/2.m4s?CMCD=br%3D1&t=1";
            assert_eq!(ask(&worker, &link, method, path, &[]).await, cdn("a%20b/2.m4s?t=1"));
            assert_eq!(ask(&worker, &link, method, &own, &[]).await, cdn("2.m4s"), "by its own URL");
        }
        assert_eq!(requests.load(Ordering::Relaxed), before, "no origin was asked");
        assert_eq!(counts(&tested), [("connections", 4)]);
        // In the player's own spelling where that is a URL.
        for (path, rest) in [("%7e%2f", "%7e%2f"), ("a%", "a%25"), ("a%22|", "a%22%7C")] {
            assert_eq!(ask(&worker, &link, "GET", &format!("/vod/{path}"), &[]).await, cdn(rest), "{path}");
        }
        // Players are not redirected in a circle, and caches have other parents.
        let at_cdn = [("host", "CDN.example.com")];
        assert_eq!(ask(&worker, &link, "GET", "/vod/3.m4s", &at_cdn).await.0, 200);
        assert_eq!(ask(&worker, &link, "GET", "/vod/4.m4s", &[("via", "1.1 edge")]).await.0, 200);
        assert_eq!(ask(&worker, &link, "GET", "/own/5.m4s", &[]).await.0, 200, "a route without a CDN");
        assert_eq!(ask(&worker, &link, "POST", "/vod/6", &[]).await.0, 200);
        // A stale object is held, and validated.
        let name = format!("{}vod/7.m4s", url.trim_start_matches("http://"));
        put(&tested.tested.context.store, &name, b"stale", -1000);
        assert_eq!(ask(&worker, &link, "GET", "/vod/7.m4s", &[]).await.0, 200);
        assert_eq!(requests.load(Ordering::Relaxed), before + 5);
        tested.server.places.give_back(other(1));
        assert_eq!(ask(&worker, &link, "GET", "/vod/2.m4s", &[]).await.0, 200, "places are free again");
        assert_eq!(counts(&tested), [("connections", 7)]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_being_fetched_for_another_is_waited_for() {
        let url = origin(|_| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            response(&["200 OK", "Cache-Control: max-age=60", "Content-Length: 4"], "body")
        });
        let cdn_base = Some("https://cdn.example.com/v/".to_owned());
        let route = Route { path: "/vod/".into(), base: url.clone(), cdn_base, ..Route::default() };
        let tested = server(options(), &[route], None);
        let (worker, link) = (worker(&tested.server), link());
        let key = crate::origin::testing::key(&format!("{url}1.m4s"));
        let second = async {
            while !tested.server.filler.is_fetching(&key) {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            (1..PLACES).for_each(|at| {
                assert!(tested.server.places.take(format!("198.51.100.{at}").parse().unwrap()));
            });
            ask(&worker, &link, "GET", "/vod/1.m4s", &[]).await.0
        };
        let first = ask(&worker, &link, "GET", "/vod/1.m4s", &[]);
        let (first, second) = tokio::join!(first, second);
        assert_eq!((first.0, second), (200, 200));
        assert_eq!(ask(&worker, &link, "GET", "/vod/2.m4s", &[]).await.0, 307);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_disk_that_takes_nothing_is_spared_misses_until_it_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            path: folder.path().join("cache"),
            reserve_bytes: 1 << 60,
            ..StoreConfig::default()
        };
        let store = Store::open(&config).unwrap().0;
        let (routes, url, requests) = routes("200 OK");
        let tested = server_of(filler_of(store.clone()), options(), &routes, None);
        let (worker, link) = (worker(&tested.server), link());
        assert!(store.takes_writes());
        drop(store.create(5, Placement::default()));
        assert!(!store.takes_writes(), "the reserve is not free");
        put(&store, &format!("{}vod/1.m4s", url.trim_start_matches("http://")), b"held", 60_000);
        assert_eq!(ask(&worker, &link, "GET", "/vod/1.m4s", &[]).await.0, 200);
        assert_eq!(ask(&worker, &link, "GET", "/vod/2.m4s", &[]).await.0, 307);
        assert_eq!(ask(&worker, &link, "GET", "/own/2.m4s", &[]).await.0, 200);
        assert_eq!((requests.load(Ordering::Relaxed), counts(&tested)), (1, vec![("disk", 1)]));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_origin_that_fails_sends_players_to_the_cdn_and_one_that_refuses_does_not() {
        for (status, expected) in [("503 No", 307), ("500 No", 307), ("404 No", 404), ("403 No", 403)] {
            let (routes, ..) = routes(status);
            let tested = server(options(), &routes, None);
            let (worker, link) = (worker(&tested.server), link());
            // The second time from what was kept of the first.
            for _ in 0..2 {
                assert_eq!(ask(&worker, &link, "GET", "/vod/1.m4s", &[]).await.0, expected, "{status}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            let sent = if expected == 307 { vec![("origin", 2)] } else { Vec::new() };
            assert_eq!(counts(&tested), sent, "{status}");
            // Without a CDN the origin's own word counts.
            let own = ask(&worker, &link, "GET", "/own/1.m4s", &[]).await.0;
            assert_eq!(own.to_string(), status[..3], "{status}");
        }
        let (mut routes, ..) = routes("200 OK");
        routes[0].base = "http://127.0.0.1:1/".into();
        let tested = server(options(), &routes, None);
        let (worker, link) = (worker(&tested.server), link());
        assert_eq!(ask(&worker, &link, "GET", "/vod/1.m4s", &[]).await.0, 307, "nobody listens there");
        assert_eq!(counts(&tested), [("origin", 1)]);
        // Errors that only the player can correct, and responses that it does not need, stay responses of the box.
        let only = [("cache-control", "only-if-cached")];
        assert_eq!(ask(&worker, &link, "GET", "/vod/2.m4s", &only).await.0, 504);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whatever_an_origin_is_asked_for_has_a_place_until_it_answers() {
        let (routes, _, requests) = routes("200 OK");
        let tested = server_of(filler_with(1), options(), &routes, None);
        let (worker, link) = (worker(&tested.server), link());
        let place = tested.server.filler.place("198.51.100.1".parse().unwrap()).unwrap();
        let methods = ["GET", "HEAD", "POST"];
        for method in methods {
            assert_eq!(ask(&worker, &link, method, "/own/1.m4s", &[]).await.0, 503, "{method}");
        }
        assert_eq!(requests.load(Ordering::Relaxed), 0);
        drop(place);
        for method in methods {
            assert_eq!(ask(&worker, &link, method, "/own/1.m4s", &[]).await.0, 200, "{method}");
        }
        assert_eq!(tested.server.filler.places_taken(), 0);
    }

    #[tokio::test]
    async fn each_reason_is_counted_as_its_own() {
        let (routes, ..) = routes("200 OK");
        let tested = server(options(), &routes, None);
        let name = routes[0].base.trim_start_matches("http://").to_owned() + "1.m4s";
        let (target, head) = (target(&name), get("/"));
        let request = request(&tested.server, &target, &head);
        for (missing, label) in [
            (Missing::Busy, Some("fetches")),
            (Missing::NoPlace(NoPlace::Share), Some("fetches")),
            (Missing::NotJoined, Some("no_room")),
            (Missing::Origin(OriginError::CircuitOpen), Some("origin")),
            (Missing::Origin(OriginError::Address(OriginRefusal::Loop)), None),
            (Missing::Unknown, None),
            (Missing::NotYet, None),
        ] {
            let before = counts(&tested);
            let sent = tested.server.sent_to_cdn(&request, &missing);
            assert_eq!(sent.is_some(), label.is_some());
            let now = counts(&tested);
            let fresh: Vec<_> = now.iter().filter(|it| !before.contains(it)).map(|it| it.0).collect();
            assert_eq!(fresh, label.into_iter().collect::<Vec<_>>());
        }
    }
}
