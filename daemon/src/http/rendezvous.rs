//! Rendezvous service (TS 103 769 clause 7): redirects of players to this box, and back to the content's own host when the
//! box cannot serve; and content steering, which does the same during playback.
//!
//! | path | reference point | answer |
//! |---|---|---|
//! | `/-/rendezvous/PATH?Ori=HOST` | B | 307 to the path below, or to the host |
//! | `/-/mabr/SESSION/PATH` | L | the object of that path at the host; 307 to the host where the box cannot serve it |
//! | `/-/steering/HOST/PATH` | | steering manifest of that manifest's service |
//!
//! Sessions have no state: their identifier is in the path, and relative references of manifests preserve it. Players are sent
//! only to hosts of `[http.rendezvous] hosts`, and never in a loop: a request with `MGstatus=0` is not sent to the box.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use carousel::name::ObjectKey;
use carousel::reason::Counts;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, Uri, header};
use serde_json::json;

use super::HttpServer;
use super::body::PlayerBody;
use super::head::{allow_everyone, put};
use super::missing::Missing;
use super::options::{Rendezvous, scheme_and_authority};
use super::reply::plain;
use super::target::{Form, Target};
use crate::catalog::Client;
use crate::clock;
use crate::origin::Route;
use crate::services::Membership;

/// Path of reference point B.
const RENDEZVOUS: &str = "/-/rendezvous/";
/// Path of reference point L for redirected players: the `redirect-base-url` of this gateway.
pub(super) const GATEWAY: &str = "/-/mabr/";
/// Path of steering manifests.
pub(super) const STEERING: &str = "/-/steering/";
/// Parameters of requests at B and of redirects to L, which are not part of the manifest's URL.
const PARAMETERS: [&str; 6] = ["AToken", "MGstatus", "MGid", "MGhost", "Ori", "conf"];
/// Gateway status that excludes this box.
const INACTIVE: &str = "MGstatus=0";
/// Characters of a session identifier. A longer one is ignored.
const SESSION_CHARS: usize = 64;

carousel::reasons! {
    /// Why a player was sent to the content's own host.
    pub enum ReturnReason in "rendezvous_returned" by "reason" {
        /// The request says that the gateway is not to be used.
        Inactive = "inactive",
        /// Nothing of the service has come lately, and the manifest is not in the cache.
        NotOnAir = "not_on_air",
        /// The groups of its service are not joined, for want of room.
        NoRoom = "no_room",
        /// The box has few places for connections left, too many fetches wait, or its disk cannot be written.
        Overload = "overload",
        /// The object was asked for here, and the box could not serve it.
        Failed = "failed",
    }
}

/// Counters of rendezvous and steering.
#[derive(Debug, Default)]
pub struct RendezvousStats {
    /// Players that were sent to the host.
    pub returned: Counts<ReturnReason>,
    /// Players that were sent to the box.
    pub accepted: AtomicU64,
    /// Steering manifests that prefer the satellite, and those that prefer the CDN.
    pub steered: [AtomicU64; 2],
}

/// A request at L.
#[derive(Debug)]
pub(super) struct GatewayRequest {
    /// The object.
    pub(super) target: Target,
    /// Its URL at the host.
    pub(super) url: String,
}

/// The query without these parameters, with the `?` before it; empty if nothing is left.
fn without_parameters(query: Option<&str>) -> String {
    let is_ours = |it: &&str| PARAMETERS.contains(&it.split('=').next().unwrap_or_default());
    let left: Vec<&str> =
        query.unwrap_or_default().split('&').filter(|it| !it.is_empty() && !is_ours(it)).collect();
    if left.is_empty() { String::new() } else { format!("?{}", left.join("&")) }
}

fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?.split('&').find_map(|it| it.strip_prefix(name)?.strip_prefix('='))
}

impl Rendezvous {
    /// Scheme and authority of each host.
    pub(super) fn origins(&self) -> impl Iterator<Item = (&str, &str)> {
        self.hosts.iter().map(|it| scheme_and_authority(it))
    }

    /// The URL at the host, marked so that the player is not sent to the gateway again.
    fn marked(&self, url: &str) -> String {
        if !self.mark_returned {
            return url.to_owned();
        }
        let separator = if url.contains('?') { '&' } else { '?' };
        format!("{url}{separator}{INACTIVE}")
    }
}

/// Whether a path is for players of any site.
pub(super) fn is_for_players(path: &str) -> bool {
    [RENDEZVOUS, GATEWAY, STEERING].iter().any(|it| path.starts_with(it))
}

fn is_session(text: &str) -> bool {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.' | '~');
    (1..=SESSION_CHARS).contains(&text.len()) && text.chars().all(is_plain) && text != "." && text != ".."
}

/// A redirect that is not cacheable, since it depends on the current state.
pub(super) fn redirect(location: &str) -> Response<PlayerBody> {
    let mut response = Response::new(PlayerBody::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let fields = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(location) {
        fields.insert(header::LOCATION, location);
    }
    put(fields, header::CACHE_CONTROL, "no-store");
    put(fields, header::REFERRER_POLICY, "no-referrer");
    allow_everyone(fields);
    response
}

fn refused(status: StatusCode, why: &str) -> Response<PlayerBody> {
    let mut response = plain(status, why);
    allow_everyone(response.headers_mut());
    response
}

impl HttpServer {
    /// Whether the box can serve a manifest and its segments from the satellite.
    fn serves(&self, key: &ObjectKey, peer: IpAddr) -> Result<(), ReturnReason> {
        let super::HttpContext { store, flights, manifests, .. } = &self.shared;
        if self.is_crowded(peer) {
            return Err(ReturnReason::Overload);
        }
        let service = manifests.services().of(key);
        let membership = service.map(|it| it.membership());
        if membership == Some(Membership::Refused) {
            return Err(ReturnReason::NoRoom);
        }
        // Its groups are joined on request.
        let is_on_demand = membership == Some(Membership::Left);
        let is_there = match manifests.is_on_air(key, clock::now()) {
            Some(is_on_air) => is_on_air,
            None => flights.expects_or_is_in(store, key.as_str()),
        };
        if is_there || is_on_demand { Ok(()) } else { Err(ReturnReason::NotOnAir) }
    }

    /// Answers below `/-/rendezvous/` and `/-/steering/`; `None`: the path is another.
    pub(super) fn rendezvous(
        &self,
        head: &Parts,
        client: &Client,
        peer: IpAddr,
    ) -> Option<Response<PlayerBody>> {
        let path = head.uri.path();
        if let Some(manifest) = path.strip_prefix(STEERING) {
            return Some(self.steer(manifest, peer));
        }
        let path = path.strip_prefix(RENDEZVOUS)?;
        let Some(options) = &self.config.rendezvous else {
            return Some(refused(StatusCode::NOT_FOUND, "there is no [http.rendezvous] here"));
        };
        let query = head.uri.query();
        let asked = parameter(query, "Ori");
        let is_asked = |it: &(&str, &str)| {
            let bare = it.1.rsplit_once(':').map_or(it.1, |(host, _)| host);
            asked.is_none_or(|asked| asked.eq_ignore_ascii_case(it.1) || asked.eq_ignore_ascii_case(bare))
        };
        let Some((scheme, host)) = options.origins().find(is_asked) else {
            return Some(refused(StatusCode::NOT_FOUND, "that host is not in [http.rendezvous] hosts"));
        };
        let rest = without_parameters(query);
        let Ok(key) = ObjectKey::from_name(&format!("{scheme}://{host}/{path}{rest}"), None) else {
            return Some(refused(StatusCode::BAD_REQUEST, "that is not a path of a manifest"));
        };
        let url = format!("{scheme}://{key}");
        let is_inactive = parameter(query, "MGstatus") == Some("0");
        let served = if is_inactive { Err(ReturnReason::Inactive) } else { self.serves(&key, peer) };
        let location = match served {
            Ok(()) => {
                self.rendezvous.accepted.fetch_add(1, Ordering::Relaxed);
                let session =
                    if options.session_ids { format!("{:016x}/", new_session()) } else { String::new() };
                let path = key.as_str().split_once('/').map_or("", |(_, path)| path);
                client.url(&format!("{GATEWAY}{session}{path}"))
            }
            Err(why) => {
                self.rendezvous.returned.add(why);
                tracing::debug!(%key, %why, "a player is sent to the content's host");
                options.marked(&url)
            }
        };
        Some(redirect(&location))
    }

    /// The target of a request below `/-/mabr/`; `None`: its path is another.
    pub(super) fn at_gateway(&self, uri: &Uri) -> Option<Result<GatewayRequest, Response<PlayerBody>>> {
        let below = uri.path().strip_prefix(GATEWAY)?;
        let Some(options) = &self.config.rendezvous else {
            return Some(Err(refused(StatusCode::NOT_FOUND, "there is no [http.rendezvous] here")));
        };
        let (session, path) = match below.split_once('/') {
            Some((session, path)) if options.session_ids && is_session(session) => {
                (format!("{session}/"), path)
            }
            _ if options.session_ids => {
                return Some(Err(refused(StatusCode::NOT_FOUND, "a session identifier begins the path")));
            }
            _ => (String::new(), below),
        };
        let rest = without_parameters(uri.query());
        let keys = options.origins().filter_map(|(scheme, host)| {
            let url = format!("{scheme}://{host}/{path}{rest}");
            let key = ObjectKey::from_name(&url, None).ok()?;
            // Dot segments stay below the host; a key has no default port.
            let below = ObjectKey::from_name(&format!("{scheme}://{host}/"), None).ok()?;
            key.as_str().starts_with(below.as_str()).then_some((scheme, host, key))
        });
        let keys: Vec<_> = keys.collect();
        // The path alone does not determine the host.
        let services = self.shared.manifests.services();
        let is_known = |key: &ObjectKey| self.is_here(key.as_str()) || services.of(key).is_some();
        let Some((scheme, host, key)) = keys.iter().find(|it| is_known(&it.2)).or_else(|| keys.first())
        else {
            return Some(Err(refused(StatusCode::BAD_REQUEST, "that is not an object's name")));
        };
        let route = Route {
            path: format!("{GATEWAY}{session}"),
            base: format!("{scheme}://{host}/"),
            ..Route::default()
        };
        let form = Form::Route(Arc::from([route]), 0);
        let target = Target::new(key.clone(), form);
        Some(Ok(GatewayRequest { target, url: format!("{scheme}://{key}") }))
    }

    /// Redirect to `url` of a player whose object the box cannot serve, if that host may have it.
    pub(super) fn sent_back(&self, url: Option<&str>, why: &Missing) -> Option<Response<PlayerBody>> {
        let options = self.config.rendezvous.as_ref()?;
        let is_final = matches!(
            why,
            Missing::Refused(..=499) | Missing::Directive(_) | Missing::OnlyIfCached | Missing::NotYet
        );
        let url = url.filter(|_| !is_final)?;
        let why = match why {
            Missing::NotJoined => ReturnReason::NoRoom,
            Missing::Busy | Missing::NoPlace(_) | Missing::Overloaded(_) => ReturnReason::Overload,
            _ => ReturnReason::Failed,
        };
        self.rendezvous.returned.add(why);
        Some(redirect(&options.marked(url)))
    }

    /// The steering manifest of a manifest's service (RFC 8216bis section 7.1; ETSI TS 103 998 clause 5).
    fn steer(&self, manifest: &str, peer: IpAddr) -> Response<PlayerBody> {
        let Some(options) = &self.config.steering else {
            return refused(StatusCode::NOT_FOUND, "there is no [http.steering] here");
        };
        let Ok(key) = ObjectKey::from_request_path(&format!("/{manifest}")) else {
            return refused(StatusCode::BAD_REQUEST, "that is not a manifest's name");
        };
        let is_served = self.serves(&key, peer).is_ok();
        self.rendezvous.steered[usize::from(!is_served)].fetch_add(1, Ordering::Relaxed);
        let mut priority = [&options.satellite, &options.cdn];
        if !is_served {
            priority.swap(0, 1);
        }
        let body = json!({ "VERSION": 1, "TTL": options.ttl_s, "PATHWAY-PRIORITY": priority });
        let mut response = Response::new(PlayerBody::of(body.to_string()));
        let fields = response.headers_mut();
        put(fields, header::CONTENT_TYPE, "application/json");
        put(fields, header::CACHE_CONTROL, "no-store");
        allow_everyone(fields);
        response
    }

    /// Counters of rendezvous and steering.
    pub const fn rendezvous_stats(&self) -> &RendezvousStats {
        &self.rendezvous
    }
}

/// An unguessable session identifier.
fn new_session() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    RandomState::new().hash_one(NUMBER.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use http::Request;

    use super::*;
    use crate::http::connection::Link;
    use crate::http::options::{Http, Steering};
    use crate::http::testing::{field, link, read, server, worker};
    use crate::http::workers::Worker;
    use crate::origin::no_body;
    use crate::origin::testing::put;

    fn options() -> Http {
        let hosts = vec!["cdn.example.com".to_owned(), "http://other.example:8080".to_owned()];
        Http {
            wait_ms: 1,
            rendezvous: Some(Rendezvous { hosts, session_ids: true, mark_returned: true }),
            steering: Some(Steering::default()),
            ..Http::default()
        }
    }

    /// Status, `Location`, and the body.
    async fn ask(worker: &Rc<Worker>, link: &Rc<Link>, path: &str) -> (u16, String, String) {
        let request =
            Request::get(path).header("host", "box.local:8080").header("origin", "https://a.example");
        let response = worker.answer(request.body(no_body()).unwrap(), link).await.unwrap();
        assert_eq!(field(&response, "access-control-allow-origin"), "*", "{path}");
        let (status, location) = (response.status().as_u16(), field(&response, "location").to_owned());
        if status == 307 {
            assert_eq!(field(&response, "cache-control"), "no-store");
        }
        let (body, _) = read(response.into_body()).await;
        (status, location, String::from_utf8(body).unwrap())
    }

    #[tokio::test]
    async fn players_are_sent_to_the_box_with_a_session_and_back_without_loops() {
        let tested = server(options(), &[], None);
        let (worker, link, store) = (worker(&tested.server), link(), &tested.tested.context.store);
        let to_cdn = |path: &str| format!("https://cdn.example.com/{path}");
        // Nothing has come: to where the content is, with the player's own parameters.
        let (status, location, _) =
            ask(&worker, &link, "/-/rendezvous/live/a.mpd?AToken=x&t=1&Ori=cdn.example.com").await;
        assert_eq!((status, location), (307, to_cdn("live/a.mpd?t=1&MGstatus=0")));
        put(store, "cdn.example.com/live/a.mpd", b"<MPD/>", 60_000);
        let (status, first, _) = ask(&worker, &link, "/-/rendezvous/live/a.mpd?MGstatus=1").await;
        let (_, second, _) = ask(&worker, &link, "/-/rendezvous/live/a.mpd").await;
        assert!(status == 307 && first != second, "each has a session of its own");
        let path = first.strip_prefix("http://box.local:8080").unwrap();
        assert!(path.starts_with(GATEWAY) && path.ends_with("/live/a.mpd"), "{path}");
        assert_eq!(ask(&worker, &link, path).await, (200, String::new(), "<MPD/>".to_owned()));
        // A gateway that is not to be used, though it could.
        let (_, location, _) = ask(&worker, &link, "/-/rendezvous/live/a.mpd?MGstatus=0").await;
        assert_eq!(location, to_cdn("live/a.mpd?MGstatus=0"));
        let counts = &tested.server.rendezvous.returned;
        assert_eq!((counts.get(ReturnReason::NotOnAir), counts.get(ReturnReason::Inactive)), (1, 1));
        assert_eq!(tested.server.rendezvous.accepted.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn what_the_box_lacks_is_at_the_host_and_no_other() {
        // A route does not map the URL to the box again.
        let base = "https://cdn.example.com/".to_owned();
        let route = Route { path: "/cdn/".to_owned(), base, rewrite: true, ..Route::default() };
        let tested = server(options(), &[route], None);
        let (worker, link) = (worker(&tested.server), link());
        let (status, location, _) = ask(&worker, &link, "/-/mabr/s-1/live/7.m4s?conf=H4sI&t=2").await;
        assert_eq!((status, location.as_str()), (307, "https://cdn.example.com/live/7.m4s?t=2&MGstatus=0"));
        assert_eq!(tested.server.rendezvous.returned.get(ReturnReason::Failed), 1);
        let (_, location, _) = ask(&worker, &link, "/-/rendezvous/b.m3u8?Ori=OTHER.example").await;
        assert_eq!(location, "http://other.example:8080/b.m3u8?MGstatus=0");
        for path in
            ["/-/rendezvous/a.mpd?Ori=evil.example", "/-/mabr/a.mpd", "/-/mabr//a.mpd", "/-/mabr/s%20/a.mpd"]
        {
            assert_eq!(ask(&worker, &link, path).await.0, 404, "{path}");
        }
        let long = format!("/-/mabr/{}/a.mpd", "s".repeat(SESSION_CHARS + 1));
        assert_eq!(ask(&worker, &link, &long).await.0, 404);
        for path in [
            "/-/rendezvous/%2e%2e/%2e%2e/evil.example/a",
            "/-/rendezvous//evil.example/a",
            "/-/rendezvous/@evil.example",
        ] {
            let (status, location, _) = ask(&worker, &link, path).await;
            let is_safe = location.is_empty() || location.starts_with("https://cdn.example.com/");
            assert!(is_safe, "{path}: {status} {location}");
        }
    }

    #[tokio::test]
    async fn urls_of_manifests_stay_in_their_session() {
        let base = "https://cdn.example.com/live/".to_owned();
        let route = Route { path: "/cdn/".to_owned(), base, rewrite: true, ..Route::default() };
        let tested = server(options(), &[route], None);
        let (worker, link, store) = (worker(&tested.server), link(), &tested.tested.context.store);
        let text = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttps://cdn.example.com/live/v.m3u8\n/live/w.m3u8\nx.m3u8\n";
        put(store, "cdn.example.com/live/a.m3u8", text.as_bytes(), 60_000);
        for session in ["one", "two"] {
            let (_, _, body) = ask(&worker, &link, &format!("/-/mabr/{session}/live/a.m3u8")).await;
            let lines: Vec<&str> = body.lines().skip(2).collect();
            let below = |name: &str| format!("/-/mabr/{session}/live/{name}");
            assert_eq!(lines, [below("v.m3u8"), below("w.m3u8"), "x.m3u8".to_owned()]);
        }
    }

    #[tokio::test]
    async fn the_satellite_comes_first_while_the_service_is_there() {
        let tested = server(options(), &[], None);
        let (worker, link, store) = (worker(&tested.server), link(), &tested.tested.context.store);
        let path = "/-/steering/cdn.example.com/vod/a.m3u8?_HLS_pathway=cdn&_HLS_throughput=5";
        let priority = |body: &str| {
            let value: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!((&value["VERSION"], &value["TTL"]), (&1.into(), &10.into()));
            value["PATHWAY-PRIORITY"].clone()
        };
        let (status, _, body) = ask(&worker, &link, path).await;
        assert_eq!((status, priority(&body)), (200, json!(["cdn", "satellite"])));
        let held = put(store, "cdn.example.com/vod/a.m3u8", b"#EXTM3U\n", 60_000);
        assert_eq!(priority(&ask(&worker, &link, path).await.2), json!(["satellite", "cdn"]));
        drop(held);
        let steered = tested.server.rendezvous.steered.each_ref().map(|it| it.load(Ordering::Relaxed));
        assert_eq!(steered, [1, 1]);
    }

    #[tokio::test]
    async fn steering_leads_to_the_box_and_urls_of_the_cdn_stay() {
        let mut options = options();
        options.rendezvous = None;
        let route = Route {
            path: "/vod/".into(),
            base: "https://cdn.example.com/v/".into(),
            rewrite: true,
            ..Route::default()
        };
        let tested = server(options, &[route], None);
        let (worker, link, store) = (worker(&tested.server), link(), &tested.tested.context.store);
        let text = "#EXTM3U\n#EXT-X-CONTENT-STEERING:SERVER-URI=\"https://steer.example/s\",PATHWAY-ID=\"satellite\"\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a\",PATHWAY-ID=\"cdn\",URI=\"https://cdn.example.com/v/a.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1,PATHWAY-ID=\"cdn\"\nhttps://cdn.example.com/v/v.m3u8\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1,PATHWAY-ID=\"satellite\"\nhttps://cdn.example.com/v/v.m3u8\n";
        put(store, "cdn.example.com/v/main.m3u8", text.as_bytes(), 60_000);
        let (_, _, body) = ask(&worker, &link, "/vod/main.m3u8").await;
        let expected = text
            .replace(
                "https://steer.example/s",
                "http://box.local:8080/-/steering/cdn.example.com/v/main.m3u8",
            )
            .replace("=\"satellite\"\nhttps://cdn.example.com/v/v.m3u8", "=\"satellite\"\n/vod/v.m3u8");
        assert_eq!(body, expected);
        let mpd = "<MPD><ContentSteering defaultServiceLocation=\"satellite\">https://steer.example/d</ContentSteering>\
            <BaseURL serviceLocation=\"satellite\">https://cdn.example.com/v/</BaseURL>\
            <BaseURL serviceLocation=\"cdn\">https://cdn.example.com/v/</BaseURL></MPD>";
        put(store, "cdn.example.com/v/a.mpd", mpd.as_bytes(), 60_000);
        // By its own path nothing but the steering is another.
        for (path, satellite) in [("/vod/a.mpd", "/vod/"), ("/cdn.example.com/v/a.mpd", "/vod/")] {
            let (_, _, body) = ask(&worker, &link, path).await;
            let expected = mpd
                .replace(
                    "https://steer.example/d",
                    "http://box.local:8080/-/steering/cdn.example.com/v/a.mpd",
                )
                .replacen("https://cdn.example.com/v/", satellite, 1);
            assert_eq!(body, expected, "{path}");
        }
        assert_eq!(ask(&worker, &link, "/-/mabr/s/a.mpd").await.0, 404, "there is no rendezvous here");
    }

    #[test]
    fn mistakes_are_named() {
        let text =
            "[http.rendezvous]\nhosts = ['ftp://x', 'a@b']\n[http.steering]\ncdn = 'satellite'\nttl_s = 0\n";
        let mistakes = crate::config::Config::parse(text).unwrap_err();
        let keys: Vec<&str> = mistakes.iter().map(|it| it.key.as_str()).collect();
        let hosts = "http.rendezvous.hosts";
        assert_eq!(keys, [hosts, hosts, "http.steering", "http.steering.ttl_s"]);
        assert!(crate::config::Config::parse("[http.rendezvous]\nhosts = []\n").is_err());
        let parse = |host: &str| {
            crate::config::Config::parse(&format!("[http.rendezvous]\nhosts = [{host:?}]\n")).err()
        };
        for wrong in [
            "",
            "*",
            "*.x",
            "a b",
            "a..b",
            "-a.b",
            "a/b",
            "a?b",
            "a:0",
            "a:x",
            "a:70000",
            "a:",
            "[::1",
            "::1",
            "https://",
            "https://a/b",
            "münchen.example",
            "a\tb",
        ] {
            let mistakes = parse(wrong).unwrap_or_else(|| panic!("{wrong:?} is taken"));
            assert!(mistakes.len() == 1 && mistakes[0].key == hosts, "{wrong:?}: {mistakes:?}");
        }
        let said = |list: &str| {
            let text = format!("[http.rendezvous]\nhosts = [{list}]\n");
            let mistakes = crate::config::Config::parse(&text).unwrap_err();
            assert!(mistakes.len() == 1 && mistakes[0].key == hosts, "{mistakes:?}");
            format!("{}; {}", mistakes[0].what, mistakes[0].fix)
        };
        let usual = "give cdn.example.com, or http://cdn.lan:8080";
        let four = "four numbers from 0 to 255 are one";
        let once = "remove one: requests name the host alone";
        let other = "which would send players to itself; give the host that the content comes from";
        for (list, wanted) in [
            ("'a b'", format!("\"a b\" is not a host; {usual}")),
            ("'http://a b'", format!("\"http://a b\" is not a host; {usual}")),
            ("'999.1.1.1'", format!("\"999.1.1.1\" is not an address; {four}")),
            ("'http://10.1:80'", format!("\"10.1\" is not an address; {four}")),
            ("'cdn.0x7F'", format!("\"cdn.0x7F\" is not an address; {four}")),
            (
                "'http://cdn.lan/a'",
                "\"http://cdn.lan/a\" has a path, and is to be a host; give http://cdn.lan".to_owned(),
            ),
            ("'bücher.example'", "\"bücher.example\" is not in ASCII; give xn--bcher-kva.example".to_owned()),
            (
                "'http://bücher.example:81'",
                "\"http://bücher.example:81\" is not in ASCII; give http://xn--bcher-kva.example:81"
                    .to_owned(),
            ),
            ("'a.example', 'a.example'", format!("\"a.example\" is there twice; {once}")),
            ("'a.example', 'A.example'", format!("\"A.example\" is the host of \"a.example\"; {once}")),
            (
                "'a.example', 'http://a.example:80'",
                format!("\"http://a.example:80\" is the host of \"a.example\"; {once}"),
            ),
            ("'http://127.0.0.1:8080'", format!("\"http://127.0.0.1:8080\" is this box, {other}")),
            ("'http://localhost:8080'", format!("\"http://localhost:8080\" is this box, {other}")),
        ] {
            assert_eq!(said(list), wanted, "{list}");
        }
        for right in [
            "cdn",
            "cdn.example.com",
            "CDN.example.com:8443",
            "http://10.0.0.1:8080",
            "[::1]",
            "https://[fd00::1]:444",
            "a_b.lan",
            "http://127.0.0.1:8000",
            "4.cdn.example",
        ] {
            assert!(parse(right).is_none(), "{right:?}: {:?}", parse(right));
        }
    }
}
