//! Resources of the box itself: the page at `/` with its parts below `/-/`, and queries of televisions below `/dvb-i/`.
//! Neither can be an object's name: `-` and `dvb-i` are not valid public hosts.
//!
//! | path | answer |
//! |---|---|
//! | `/` | the page |
//! | `/-/main.js`, `style.css`, `lang/de.json` … | its parts, compressed |
//! | `/-/titles.json` | `?offset=&limit=`, with `kind=` and `q=`, `number=` or `id=`: the available titles |
//! | `/-/guide.json` | `?offset=&limit=&from_ms=&to_ms=`: channels with their programmes |
//! | `/-/programmes.json` | `?q=`: programmes of that name, from now on |
//! | `/-/schedule.json` | `?id=&from_ms=&to_ms=`: programmes of a channel |
//! | `/-/play.m3u` | `?id=`: a playlist for a player beside the browser |
//! | `/-/live` | server-sent events: activity of the box |
//! | `/-/time` | its date and time, for players of live streams (UTCTiming: `http-xsdate`, `http-iso`, and `http-head` by its
//! `Date`); 503 while the date is not known |
//! | `/-/health` | for parents' health checks and balancers: 200, and 503 with `draining` from the signal to stop on |
//! | `/-/rendezvous/…`, `/-/steering/…` | `rendezvous.rs`, as for `/-/mabr/…`, below which are objects |
//! | `/dvb-i/…` | `catalog/answer.rs` |

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use carousel::digest::Digest;
use carousel::time::WallTime;
use carousel::xml::escape;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::HttpServer;
use super::body::PlayerBody;
use super::head::{allow_everyone, put};
use super::rendezvous;
use super::reply::plain;
use super::shown::takes_gzip;
use crate::caching;
use crate::catalog::query::Pairs;
use crate::catalog::{Answer, AnswerContext, Client, Holdings, Snapshot, TitleSelector};
use crate::clock;
use crate::page::assets::{self, Asset};

/// Path of the time for players.
pub(super) const TIME_PATH: &str = "/-/time";
/// Path of health checks.
const HEALTH_PATH: &str = "/-/health";

carousel::limits! {
    /// Titles of one answer.
    const MAX_TITLES: usize = 200, "titles" {
        why: "A page of a television shows some 50.",
        full: "The answer is shorter than asked for, and says how many there are.",
        free: "Holds for one answer.",
        test: "answers_are_no_longer_than_their_limits",
    }

    /// Channels of one answer of the guide.
    const MAX_CHANNELS: usize = 50, "channels" {
        why: "Each comes with a day of programmes.",
        full: "The answer is shorter than asked for, and says how many there are.",
        free: "Holds for one answer.",
        test: "answers_are_no_longer_than_their_limits",
    }

    /// Span of an answer of the guide, and of a search.
    const MAX_SCHEDULE_MS: i64 = 8 * 86_400_000, "ms" {
        why: "A guide has a week.",
        full: "The span ends earlier than asked for.",
        free: "Holds for one answer.",
        test: "answers_are_no_longer_than_their_limits",
    }
}

/// Titles in the page itself, for browsers without scripts.
const PLAIN_TITLES: usize = 100;
/// Only scripts, styles and media of the box itself; media source extensions play from `blob:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

/// Whether a request is for one of our own paths.
pub(super) fn is_own(path: &str, has_page: bool) -> bool {
    (has_page && matches!(path, "/" | "/index.html"))
        || path.starts_with("/-/")
        || path.starts_with("/dvb-i/")
        || path == "/dvb-i"
}

/// Whether such a path shows data of the household: all except those that televisions, players of other sites
/// and balancers request.
pub(super) fn is_private(path: &str) -> bool {
    let is_for_all = path == TIME_PATH || path == HEALTH_PATH;
    !path.starts_with("/dvb-i") && !is_for_all && !rendezvous::is_for_players(path)
}

/// A document, or the reason for its absence.
type Listed = Result<serde_json::Value, (StatusCode, String)>;

const fn bad(why: String) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, why)
}

/// The requested part of a list: offset and length.
fn part_of(pairs: &Pairs, most: usize) -> Result<(usize, usize), (StatusCode, String)> {
    let number = |name, usual| {
        let number = pairs.number(name).map_err(bad)?;
        Ok(number.map_or(usual, |it| usize::try_from(it).unwrap_or(0)))
    };
    Ok((number("offset", 0)?, number("limit", 100)?.min(most)))
}

/// The requested time span; by default a day from now.
fn span_of(pairs: &Pairs, now: WallTime) -> Result<(WallTime, WallTime), (StatusCode, String)> {
    let time = |name| pairs.number(name).map(|it| it.map(WallTime::from_unix_ms)).map_err(bad);
    let from = time("from_ms")?.unwrap_or(now);
    let to = time("to_ms")?.unwrap_or_else(|| from.plus_ms(86_400_000));
    Ok((from, to.min(from.plus_ms(MAX_SCHEDULE_MS))))
}

impl HttpServer {
    /// Answers a GET or HEAD for one of our own paths.
    pub(super) async fn own(
        self: &Arc<Self>,
        head: &Parts,
        host: Option<&str>,
        peer: IpAddr,
        is_tls: bool,
    ) -> Response<PlayerBody> {
        let (path, query) = (head.uri.path(), head.uri.query());
        let Some(client) = Client::of(host, is_tls) else {
            return plain(StatusCode::BAD_REQUEST, "that Host is not a name of this box");
        };
        let answered = if let Some(answered) = self.rendezvous(head, &client, peer) {
            answered
        } else if let Some(rest) = path.strip_prefix("/dvb-i") {
            let mut answered = self.television(rest.trim_start_matches('/'), query, client, head).await;
            // Applications of televisions come from other sites.
            allow_everyone(answered.headers_mut());
            answered
        } else {
            let now = clock::wall();
            match path.strip_prefix("/-/") {
                Some(_) if !self.config.page && is_private(path) => {
                    plain(StatusCode::NOT_FOUND, "this box has no page: [http] page")
                }
                None => self.page(head, now),
                Some("live") => self.live_events(peer),
                Some("time") => time(clock::date()),
                Some("health") => health(self.is_draining()),
                Some("titles.json") => self.listing(Self::titles, query, head, now).await,
                Some("guide.json") => self.listing(Self::guide, query, head, now).await,
                Some("programmes.json") => self.listing(Self::programmes, query, head, now).await,
                Some("schedule.json") => self.listing(Self::schedule, query, head, now).await,
                Some("play.m3u") => self.playlist(&Pairs::of(query), &client, now),
                // The operator's page is on the admin interface alone.
                Some(name) => match assets::find(name).filter(|it| !it.is_for_operators()) {
                    Some(asset) => part(asset, head),
                    None => plain(StatusCode::NOT_FOUND, "the page has no such part"),
                },
            }
        };
        if head.method == Method::HEAD { without_body(answered) } else { answered }
    }

    fn holdings(&self) -> Holdings<'_> {
        Holdings { store: &self.shared.store, flights: &self.shared.flights, origins: &self.origins }
    }

    /// Answers queries of televisions on another thread, since lists may be long.
    async fn television(
        self: &Arc<Self>,
        path: &str,
        query: Option<&str>,
        client: Client,
        head: &Parts,
    ) -> Response<PlayerBody> {
        let (server, path, query) = (Arc::clone(self), path.to_owned(), query.map(str::to_owned));
        let answer = tokio::task::spawn_blocking(move || {
            let snapshot = server.catalog.current();
            let holdings = server.holdings();
            let asked = AnswerContext::new(&snapshot, holdings, &client, clock::wall());
            asked.answer(&path, query.as_deref())
        });
        match answer.await {
            Ok(Answer::Document(content_type, bytes)) => document(content_type, bytes, head),
            Ok(Answer::NotFound(why)) => plain(StatusCode::NOT_FOUND, &why),
            Ok(Answer::Bad(why)) => plain(StatusCode::BAD_REQUEST, &why),
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "that could not be answered"),
        }
    }

    fn page(&self, head: &Parts, now: WallTime) -> Response<PlayerBody> {
        let Some(asset) = assets::find("index.html") else {
            return plain(StatusCode::NOT_FOUND, "this build has no page");
        };
        let language = preferred_language(&head.headers);
        let text = String::from_utf8_lossy(&asset.plain()).into_owned();
        let html = text.replace("<!--titles-->", &plain_titles(&self.catalog.current(), &language, now));
        let mut response = document("text/html; charset=utf-8", html.into_bytes(), head);
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        fields.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        caching::vary_by(fields, "Accept-Language");
        response
    }

    /// Lists titles or programmes on another thread, since lists may be long and manifests are read.
    async fn listing(
        self: &Arc<Self>,
        list: fn(&Self, &Pairs, WallTime) -> Listed,
        query: Option<&str>,
        head: &Parts,
        now: WallTime,
    ) -> Response<PlayerBody> {
        let (server, query) = (Arc::clone(self), query.map(str::to_owned));
        let answer = tokio::task::spawn_blocking(move || list(&server, &Pairs::of(query.as_deref()), now));
        match answer.await {
            Ok(Ok(value)) => document("application/json", value.to_string().into_bytes(), head),
            Ok(Err((status, why))) => plain(status, &why),
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "that could not be answered"),
        }
    }

    fn titles(&self, pairs: &Pairs, now: WallTime) -> Listed {
        let sought = pairs.get("q").map(|it| it.trim().to_lowercase()).filter(|it| !it.is_empty());
        let wanted = match (pairs.get("id"), pairs.number("number").map_err(bad)?, sought) {
            (Some(id), ..) => TitleSelector::Id(id.to_owned()),
            (_, Some(number), _) => TitleSelector::Number(number),
            (.., Some(text)) => TitleSelector::Named(text),
            _ => TitleSelector::All,
        };
        let kinds: Vec<&str> = pairs.get("kind").map(|it| it.split(',').collect()).unwrap_or_default();
        let holdings = self.holdings();
        let mut titles = self.catalog.current().titles_json(
            (&wanted, &kinds),
            part_of(pairs, MAX_TITLES)?,
            now,
            |key| holdings.contains(key),
            |key| self.held.share(&self.shared.store, key),
        );
        titles["players"] = assets::HAS_PLAYERS.into();
        titles["name"] = self.config.name.as_str().into();
        Ok(titles)
    }

    fn guide(&self, pairs: &Pairs, now: WallTime) -> Listed {
        let holdings = self.holdings();
        let (offset, limit) = part_of(pairs, MAX_CHANNELS)?;
        let span = span_of(pairs, now)?;
        Ok(self.catalog.current().guide_json(offset, limit, span, |key| holdings.contains(key)))
    }

    fn programmes(&self, pairs: &Pairs, now: WallTime) -> Listed {
        let text = pairs.get("q").map(|it| it.trim().to_lowercase()).unwrap_or_default();
        if text.is_empty() {
            return Err((StatusCode::BAD_REQUEST, "there is nothing to look for: q=…".to_owned()));
        }
        let holdings = self.holdings();
        let span = (now, now.plus_ms(MAX_SCHEDULE_MS));
        Ok(self.catalog.current().programmes_json(&text, span, |key| holdings.contains(key)))
    }

    fn schedule(&self, pairs: &Pairs, now: WallTime) -> Listed {
        let holdings = self.holdings();
        let span = span_of(pairs, now)?;
        let snapshot = self.catalog.current();
        let events =
            pairs.get("id").and_then(|id| snapshot.schedule_json(id, span, |key| holdings.contains(key)));
        events.ok_or_else(|| (StatusCode::NOT_FOUND, "there is no such title: id=…".to_owned()))
    }

    /// A playlist with the first way to play a title, for a player beside the browser.
    fn playlist(&self, pairs: &Pairs, client: &Client, now: WallTime) -> Response<PlayerBody> {
        let snapshot = self.catalog.current();
        let title = pairs.get("id").and_then(|id| snapshot.title(id));
        let way = title.and_then(|it| Some((it, it.ways(now).next()?)));
        let Some((title, way)) = way else {
            return plain(
                StatusCode::NOT_FOUND,
                "there is no such title, or nothing to play of it now: id=…",
            );
        };
        // Received names may contain control characters; a name here is one line.
        let name: String = title.name("en").chars().filter(|it| !it.is_control()).collect();
        let text = format!("#EXTM3U\n#EXTINF:-1,{name}\n{}\n", client.url(&format!("/{}", way.key)));
        let mut response = Response::new(PlayerBody::of(text));
        let fields = response.headers_mut();
        put(fields, header::CONTENT_TYPE, "audio/x-mpegurl; charset=utf-8");
        put(fields, header::CONTENT_DISPOSITION, "attachment; filename=\"play.m3u\"");
        put(fields, header::CACHE_CONTROL, "no-store");
        response
    }

    fn live_events(&self, peer: IpAddr) -> Response<PlayerBody> {
        let Some(viewer) = self.live.join(peer) else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "too many are watching; come back in a moment");
        };
        let mut response = Response::new(PlayerBody::events(viewer));
        let fields = response.headers_mut();
        put(fields, header::CONTENT_TYPE, "text/event-stream");
        put(fields, header::CACHE_CONTROL, "no-store");
        // Tells a proxy not to buffer.
        put(fields, HeaderName::from_static("x-accel-buffering"), "no");
        response
    }
}

/// The first language of `Accept-Language` that titles may have.
fn preferred_language(fields: &HeaderMap) -> String {
    let accepted = fields.get(header::ACCEPT_LANGUAGE).and_then(|it| it.to_str().ok()).unwrap_or("en");
    let first = accepted.split([',', ';']).next().unwrap_or("en").trim();
    first.chars().take(35).collect()
}

/// Titles as HTML, for browsers without scripts.
fn plain_titles(snapshot: &Snapshot, language: &str, now: WallTime) -> String {
    let mut html = String::from("<ul class=\"plain\">");
    for title in snapshot.titles.iter().take(PLAIN_TITLES) {
        let number = title.number.map(|it| format!("{it} ")).unwrap_or_default();
        let name = escape(title.name(language));
        let _ = match title.ways(now).next() {
            Some(way) => {
                write!(html, "<li><a href=\"/{}\">{number}{name}</a></li>", escape(way.key.as_str()))
            }
            None => write!(html, "<li>{number}{name}</li>"),
        };
    }
    if snapshot.titles.is_empty() {
        html.push_str("<li>Nothing to play yet: no service list and no manifest has arrived.</li>");
    }
    html.push_str("</ul>");
    html
}

/// The date for players (ISO/IEC 23009-1 clause 5.8.4.11). A wrong date would make them request segments of another day.
fn time(now: Option<WallTime>) -> Response<PlayerBody> {
    let mut response = match now {
        Some(now) => {
            // Without a line end: clients parse the body as a date.
            let mut response = Response::new(PlayerBody::of(now.to_xml()));
            let fields = response.headers_mut();
            put(fields, header::CONTENT_TYPE, "text/plain; charset=utf-8");
            put(fields, header::CACHE_CONTROL, "no-store");
            put(fields, header::DATE, &caching::write_date(now));
            response
        }
        None => plain(StatusCode::SERVICE_UNAVAILABLE, "this box does not know the date yet"),
    };
    allow_everyone(response.headers_mut());
    response
}

/// Whether new requests should be sent here.
fn health(is_draining: bool) -> Response<PlayerBody> {
    match is_draining {
        true => plain(StatusCode::SERVICE_UNAVAILABLE, "draining"),
        false => plain(StatusCode::OK, "ready"),
    }
}

fn without_body(response: Response<PlayerBody>) -> Response<PlayerBody> {
    response.map(|body| {
        drop(body);
        PlayerBody::empty()
    })
}

/// A document generated for this request: with a validator, compressed for clients that accept it.
fn document(content_type: &'static str, bytes: Vec<u8>, head: &Parts) -> Response<PlayerBody> {
    let etag = format!("\"{}\"", &Digest::of(&bytes).to_hex()[..32]);
    answer(content_type, &etag, "no-cache", head, |takes_gzip| {
        let gzip =
            takes_gzip.then(|| super::shown::gzip(&bytes)).flatten().filter(|it| it.len() < bytes.len());
        gzip.map_or_else(|| (bytes.into(), false), |gzip| (gzip, true))
    })
}

/// A part of the page, stored compressed.
fn part(asset: &'static Asset, head: &Parts) -> Response<PlayerBody> {
    answer(asset.content_type, asset.etag, "no-cache", head, |takes_gzip| {
        if takes_gzip { (bytes::Bytes::from_static(asset.gzip), true) } else { (asset.plain().into(), false) }
    })
}

fn answer(
    content_type: &'static str,
    etag: &str,
    cache_control: &'static str,
    head: &Parts,
    body: impl FnOnce(bool) -> (bytes::Bytes, bool),
) -> Response<PlayerBody> {
    let takes_gzip = takes_gzip(&head.headers);
    let etag = if takes_gzip { format!("{}-gzip\"", etag.trim_end_matches('"')) } else { etag.to_owned() };
    let held = head.headers.get(header::IF_NONE_MATCH).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let is_held = held.split(',').any(|it| it.trim().trim_start_matches("W/") == etag);
    let mut response = Response::new(PlayerBody::empty());
    if is_held {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let fields = response.headers_mut();
    put(fields, header::ETAG, &etag);
    put(fields, header::CACHE_CONTROL, cache_control);
    put(fields, header::VARY, "Accept-Encoding");
    if is_held {
        return response;
    }
    put(fields, header::CONTENT_TYPE, content_type);
    put(fields, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    let (bytes, is_gzip) = body(takes_gzip);
    if is_gzip {
        put(fields, header::CONTENT_ENCODING, "gzip");
    }
    response.map(|_| PlayerBody::of(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn players_get_the_date_or_are_told_that_there_is_none() {
        let now = WallTime::from_unix_ms(1_795_946_430_500);
        let known = time(Some(now));
        assert_eq!(known.status(), StatusCode::OK);
        let fields = known.headers();
        assert_eq!(fields[header::DATE], "Sun, 29 Nov 2026 10:00:30 GMT");
        assert_eq!(
            (&fields[header::CACHE_CONTROL], &fields["access-control-allow-origin"]),
            (&"no-store".parse().unwrap(), &"*".parse().unwrap())
        );
        let PlayerBody::Bytes(Some(body)) = known.into_body() else { panic!("a body") };
        assert_eq!(body, "2026-11-29T10:00:30.500Z");
        let unknown = time(None);
        assert_eq!(unknown.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(unknown.headers().contains_key("access-control-allow-origin"));
    }

    #[test]
    fn without_a_page_its_paths_are_those_of_objects() {
        for path in ["/", "/index.html"] {
            assert!(is_own(path, true) && !is_own(path, false), "{path}");
        }
        for path in ["/-/health", "/-/main.js", "/dvb-i/x"] {
            assert!(is_own(path, true) && is_own(path, false), "{path}");
        }
        assert!(!is_own("/vod/a", true));
    }

    #[test]
    fn answers_are_no_longer_than_their_limits() {
        let pairs = Pairs::of(Some("offset=5&limit=100000&from_ms=1000&to_ms=999999999999"));
        for most in [MAX_TITLES, MAX_CHANNELS] {
            assert_eq!(part_of(&pairs, most).unwrap(), (5, most));
        }
        let now = WallTime::from_unix_ms(7);
        let (from, to) = span_of(&pairs, now).unwrap();
        assert_eq!((from.unix_ms(), to.unix_ms()), (1000, 1000 + MAX_SCHEDULE_MS));
        let less = Pairs::of(Some("limit=3&to_ms=9"));
        assert_eq!(part_of(&less, MAX_CHANNELS).unwrap(), (0, 3));
        assert_eq!(span_of(&less, now).unwrap(), (now, WallTime::from_unix_ms(9)));
    }
}
