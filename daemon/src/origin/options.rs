//! Options of the terrestrial path: `[[route]]` and `[[origin]]` of the configuration, and freshness where origins give none.

use carousel::config::{Mistake, url};
use carousel::query::{IgnoreQuery, QueryRule};
use serde::{Deserialize, Serialize};

use super::addresses::check_allowed;
use super::signing::Signing;
use super::timeouts::RouteTimeouts;

/// `[[route]]`. Of several whose path fits a request the longest counts, whichever file it is in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Path prefix at the players' listener; begins and ends with `/`.
    pub path: String,
    /// URL prefix that it stands for; ends with `/`.
    pub base: String,
    /// URLs in manifests that lead below `base` become paths below `path`, so that players stay at the box.
    #[serde(default)]
    pub rewrite: bool,
    /// Treatment of `Location`, `Content-Location` and `Link`.
    #[serde(default)]
    pub redirects: Redirects,
    /// `Host` in requests to the origin: `origin` (the host of `base`), `player` (as the player has sent it), or a name.
    #[serde(default)]
    pub host_header: Option<String>,
    /// Whether the origin gets to know the player's address.
    #[serde(default)]
    pub forwarded: Forwarded,
    /// Methods beside GET and HEAD that are passed on to the origin.
    #[serde(default = "Route::default_methods")]
    pub methods: Vec<String>,
    /// The only request fields that are passed to the origin beside the usual ones: names, or `*` for all. Without it all
    /// fields are passed that do not change the origin's reading of the request (method, URL), and a response that repeats the
    /// value of an unusual one is not kept.
    #[serde(default)]
    pub request_fields: Option<Vec<String>>,
    /// Query parameters that are not part of the cache key: `true` for all, or their names.
    #[serde(default)]
    pub ignore_query: Option<IgnoreQuery>,
    /// The only query parameters that are part of the cache key.
    #[serde(default)]
    pub keep_query: Option<Vec<String>>,
    /// Treatment of a response that sets a cookie.
    #[serde(default)]
    pub set_cookie: SetCookie,
    /// Treatment of a response with `Vary: User-Agent`.
    #[serde(default)]
    pub vary_user_agent: VaryUserAgent,
    /// Treatment of `Surrogate-Key` and `Cache-Tag` in responses to players; the box purges by them either way.
    #[serde(default)]
    pub surrogate_keys: SurrogateFields,
    /// Name of the `[[parent]]` group that is asked before the origin.
    #[serde(default)]
    pub parents: Option<String>,
    /// Ask the origin without the parents. A reload takes it over.
    #[serde(default)]
    pub skip_shield: bool,
    /// URL prefix at a CDN that stands for `path` too, and ends with `/`: players are sent there (307) for what the box does not hold
    /// while it is overloaded, or its origin fails. Left out: nowhere.
    #[serde(default)]
    pub cdn_base: Option<String>,
    /// Name of the `[[access]]` rule that says which players may have its objects. Empty: all may.
    #[serde(default)]
    pub access: Option<String>,
    /// HTTP/2 towards its origin, where the origin offers it by TLS (ALPN): one connection for all requests. `false`: HTTP/1.1.
    #[serde(default)]
    pub http2: bool,
    /// Signing of requests to its origin.
    #[serde(default)]
    pub sign: Option<Signing>,
    /// Time that its origin may take, where that differs from `[http.origin_timeouts]`.
    #[serde(default)]
    pub timeouts: RouteTimeouts,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            path: String::new(),
            base: String::new(),
            rewrite: false,
            redirects: Redirects::default(),
            host_header: None,
            forwarded: Forwarded::default(),
            methods: Self::default_methods(),
            request_fields: None,
            ignore_query: None,
            keep_query: None,
            set_cookie: SetCookie::default(),
            vary_user_agent: VaryUserAgent::default(),
            surrogate_keys: SurrogateFields::default(),
            parents: None,
            skip_shield: false,
            cdn_base: None,
            access: None,
            http2: false,
            sign: None,
            timeouts: RouteTimeouts::default(),
        }
    }
}

impl Route {
    /// Whether HTTP/2 is wanted of an origin that is asked without TLS, which agrees on it.
    pub fn has_http2_without_tls(&self) -> bool {
        self.http2 && self.base.starts_with("http://")
    }

    /// Methods of RFC 9110 and 5789 that players' licences, logs and applications use. PURGE, BAN and those of WebDAV operate
    /// on the origin itself, which may trust the box's address.
    pub fn default_methods() -> Vec<String> {
        ["OPTIONS", "POST", "PUT", "PATCH", "DELETE"].map(str::to_owned).into()
    }

    /// Rule for query parameters that a cache key leaves out.
    pub fn query_rule(&self) -> QueryRule {
        IgnoreQuery::rule(self.ignore_query.as_ref(), self.keep_query.as_deref())
    }
}

/// Treatment of URLs in response fields that lead back to the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Redirects {
    /// Those below the base of a route become paths of the box.
    #[default]
    Rewrite,
    /// As `rewrite`, and redirects of the origin to itself are followed on behalf of the player.
    Follow,
    /// They go to the player as they come.
    Pass,
}

/// Whether `Forwarded` and `X-Forwarded-*` name the player.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Forwarded {
    /// No: none is sent, and those of the request are dropped.
    #[default]
    Off,
    /// They name the player's connection; those of the request are dropped, since any client can write them.
    On,
    /// The player's connection is added to those of the request: a proxy in front of the box has written them.
    Trusted,
}

/// Treatment of a response with `Set-Cookie` and explicit freshness. Without explicit freshness it is never kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SetCookie {
    /// It is kept without the cookie, which only the player gets whose request it answers.
    #[default]
    Strip,
    /// It is kept with the cookie, for all.
    Keep,
    /// It is not kept.
    Pass,
}

/// Treatment of the fields that carry surrogate keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SurrogateFields {
    /// They are removed: only caches use them.
    #[default]
    Strip,
    /// They are passed on: behind the box are other caches that purge by them.
    Pass,
}

/// Treatment of a response with `Vary: User-Agent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VaryUserAgent {
    /// It is kept for exactly this player program.
    #[default]
    Exact,
    /// It is kept for player programs of the same products and platform, whatever their versions.
    Products,
    /// It is kept for all.
    Ignore,
    /// It is not kept.
    Refuse,
}

/// Settings of routes, by the URL that an origin is asked for: of several bases that it begins with the longest counts.
#[derive(Debug, Clone)]
pub(super) struct ByBase<T>(Vec<(String, T)>);

impl<T> Default for ByBase<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ByBase<T> {
    /// Of the routes that say anything.
    pub(super) fn new(routes: &[Route], of: impl Fn(&Route) -> Option<T>) -> Self {
        Self::of_bases(routes.iter().filter_map(|it| Some((it.base.clone(), of(it)?))))
    }

    /// Of base URLs.
    pub(super) fn of_bases(bases: impl Iterator<Item = (String, T)>) -> Self {
        let mut all: Vec<_> = bases.collect();
        all.sort_by_key(|(base, _)| std::cmp::Reverse(base.len()));
        Self(all)
    }

    /// Setting for `url`, and the part of `url` behind its base.
    pub(super) fn of<'a>(&'a self, url: &'a str) -> Option<(&'a T, &'a str)> {
        self.0.iter().find_map(|(base, it)| Some((it, url.strip_prefix(base.as_str())?)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Settings of all bases.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, it)| it)
    }
}

/// Sorts routes into the order in which they are tried: the longest path first.
pub fn by_longest_path(routes: &mut [Route]) {
    routes.sort_by_key(|route| std::cmp::Reverse(route.path.len()));
}

/// `[[origin]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Host (and port, if not the scheme's) as in the objects' URIs.
    pub host: String,
    /// URL that is asked instead: scheme, host, port; a path is put before the object's.
    pub url: String,
}

/// Rules for keeping responses: freshness where their origin gives none, and limits. Set in `[http]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FillOptions {
    /// Media segments.
    pub segment_ttl_s: u32,
    /// Manifests.
    pub manifest_ttl_s: u32,
    /// Responses 404 and 410.
    pub negative_ttl_s: u32,
    /// Longest object that is prefetched.
    pub prefetch_object_bytes: u64,
    /// Fills at a time whose response has not come.
    pub max_fills: usize,
}

/// Every mistake in routes and origins: what cannot be asked for, and what cannot mean what it says.
pub fn mistakes(routes: &[Route], origins: &[Origin], allowed: &[String]) -> Vec<Mistake> {
    let mut all = Vec::new();
    let mut wrong = |key: String, what: String, fix: &str| all.push(Mistake::of_value(&key, &what, fix));
    for (at, route) in routes.iter().enumerate() {
        let key = |name: &str| format!("route[{at}].{name}");
        path_mistakes(&route.path, &routes[..at], &key("path"), &mut wrong);
        method_mistakes(&route.methods, &key("methods"), &mut wrong);
        base_mistakes(route, key, &mut wrong);
        field_mistakes(route, key, &mut wrong);
        if let Some(what) = route.timeouts.connect_ms.and_then(connect_mistake) {
            wrong(key("timeouts.connect_ms"), what, CONNECT_FIX);
        }
    }
    for (at, origin) in origins.iter().enumerate() {
        let key = |name: &str| format!("origin[{at}].{name}");
        host_mistakes(&origin.host, &origins[..at], &key("host"), &mut wrong);
        url_mistakes(&origin.url, &key("url"), &mut wrong);
    }
    all.extend(routes.iter().enumerate().flat_map(|(at, route)| Signing::mistakes_of(route, at)));
    let mut wrong = |key: String, what: String, fix: &str| all.push(Mistake::of_value(&key, &what, fix));
    for what in allowed.iter().filter_map(|it| check_allowed(it).err()) {
        wrong("http.allow_origins".to_owned(), what, "give hosts, addresses and networks, without a scheme");
    }
    all
}

/// Mistakes of a route's path. `before`: the routes before it.
fn path_mistakes(path: &str, before: &[Route], key: &str, wrong: &mut impl FnMut(String, String, &str)) {
    let key = key.to_owned();
    if !path.starts_with('/') || !path.ends_with('/') {
        wrong(key, format!("{path:?}"), "begin and end it with /");
    } else if path == "/" {
        wrong(key, "\"/\" is the box's own page".to_owned(), "give it a folder, such as /vod/");
    } else if path.starts_with("/-/") || path.starts_with("/dvb-i/") {
        wrong(key, format!("{path:?} is a path of the box itself"), "give another folder");
    } else if path.contains(['?', '#', '\\', ' ']) || url::has_dot_segment(path) || path.contains("//") {
        wrong(key, format!("{path:?} is not a path that a player asks for"), "leave out ?, #, //, . and ..");
    } else if let Some(other) = before.iter().position(|other| other.path == path) {
        wrong(key, format!("{path:?} is there twice, in route[{other}] too"), "remove one");
    }
}

fn method_mistakes(methods: &[String], key: &str, wrong: &mut impl FnMut(String, String, &str)) {
    let is_name =
        |it: &str| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    for method in methods.iter().filter(|it| !is_name(it) || matches!(it.as_str(), "CONNECT" | "TRACE")) {
        wrong(key.to_owned(), format!("{method:?} cannot be passed on"), "give methods such as \"POST\"");
    }
}

/// Mistakes of the URLs that a route's paths are put behind.
fn base_mistakes(route: &Route, key: impl Fn(&str) -> String, wrong: &mut impl FnMut(String, String, &str)) {
    let base = &route.base;
    url_mistakes(base, &key("base"), wrong);
    if url::is_web(base) && !base.ends_with('/') {
        wrong(key("base"), format!("{base:?}"), "give http://host/path/ with the last /");
    }
    let Some(cdn_base) = &route.cdn_base else { return };
    url_mistakes(cdn_base, &key("cdn_base"), wrong);
    if url::is_web(cdn_base) && !cdn_base.ends_with('/') {
        wrong(key("cdn_base"), format!("{cdn_base:?}"), "give https://host/path/ with the last /");
    }
    if cdn_base == base {
        let what = format!("{cdn_base:?} is the base of the route, which the box fills from");
        wrong(key("cdn_base"), what, "give the CDN's own URL, or leave it out");
    }
}

/// Mistakes of what a route says of the requests for its origin.
fn field_mistakes(route: &Route, key: impl Fn(&str) -> String, wrong: &mut impl FnMut(String, String, &str)) {
    if let Some(name) = &route.host_header
        && (name.is_empty() || name.contains(['/', ' ', '@', '?']) || !name.is_ascii())
    {
        let fix = "give origin, player, or a name such as cdn.example.com";
        wrong(key("host_header"), format!("{name:?} is not a host"), fix);
    }
    if route.ignore_query == Some(IgnoreQuery::All(true)) && route.keep_query.is_some() {
        let what = "nothing is kept beside ignore_query = true".to_owned();
        wrong(key("keep_query"), what, "remove one of them");
    }
    let ignored = match &route.ignore_query {
        Some(IgnoreQuery::Names(names)) => names.as_slice(),
        _ => &[],
    };
    let kept = route.keep_query.as_deref().unwrap_or_default();
    for (name, names) in [("ignore_query", ignored), ("keep_query", kept)] {
        for pattern in names.iter().filter(|it| it.is_empty() || it.contains(['&', '=', '#', ' '])) {
            wrong(
                key(name),
                format!("{pattern:?} names no parameter"),
                "give names, or patterns such as utm_*",
            );
        }
    }
}

/// Longest time for a connection to an origin: players give up sooner.
const LONGEST_CONNECT_MS: u64 = 60_000;
/// Advice for a time that is out of its range.
pub(crate) const CONNECT_FIX: &str = "give 1 to 60000";

/// What is wrong with the time for a connection to an origin.
pub(crate) fn connect_mistake(connect_ms: u64) -> Option<String> {
    let is_right = (1..=LONGEST_CONNECT_MS).contains(&connect_ms);
    (!is_right).then(|| format!("{connect_ms} ms is not a time for a connection"))
}

/// Mistakes of an origin's host. `before`: the origins before it.
fn host_mistakes(host: &str, before: &[Origin], key: &str, wrong: &mut impl FnMut(String, String, &str)) {
    if host.is_empty() || host.contains(['/', '@', '?', ' ']) {
        wrong(key.to_owned(), format!("{host:?}"), "give the bare host of the objects' URIs");
    } else if let Some(other) = before.iter().position(|other| other.host.eq_ignore_ascii_case(host)) {
        wrong(key.to_owned(), format!("{host:?} is there twice, in origin[{other}] too"), "remove one");
    }
}

fn url_mistakes(written: &str, key: &str, wrong: &mut impl FnMut(String, String, &str)) {
    for fault in url::faults(written) {
        wrong(key.to_owned(), fault.what, &fault.fix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_mean_what_it_says_is_named() {
        let route =
            |path: &str, base: &str| Route { path: path.into(), base: base.into(), ..Route::default() };
        let of = |route: Route| -> Vec<String> {
            mistakes(&[route], &[], &[]).into_iter().map(|it| format!("{}: {}", it.key, it.what)).collect()
        };
        for base in
            ["https://cdn.example.com/", "http://[2001:db8::1]/", "http://[::1]:8080/", "http://a:65535/"]
        {
            assert_eq!(of(route("/vod/", base)), [""; 0]);
        }
        for (path, base, key) in [
            ("vod", "http://a/", "path"),
            ("/", "http://a/", "path"),
            ("/-/x/", "http://a/", "path"),
            ("/dvb-i/", "http://a/", "path"),
            ("/a/../b/", "http://a/", "path"),
            ("/a?b/", "http://a/", "path"),
            ("/vod/", "cdn", "base"),
            ("/vod/", "http://a/b", "base"),
            ("/vod/", "http://user:secret@a/", "base"),
            ("/vod/", "http://a/x?y/", "base"),
            ("/vod/", "http://a/%2E%2e/", "base"),
            ("/vod/", "http://a b/", "base"),
            ("/vod/", "http://a:99999/", "base"),
            ("/vod/", "http://[::1]:0/", "base"),
            ("/vod/", "http://999.1.1.1/", "base"),
            ("/vod/", "http://10.1:8080/", "base"),
        ] {
            let all = of(route(path, base));
            assert!(
                all.len() == 1 && all[0].starts_with(&format!("route[0].{key}")),
                "{path} {base}: {all:?}"
            );
        }
        assert!(!of(route("/vod/", "http://user:secret@a/"))[0].contains("secret"));
        let plain = route("/vod/", "http://a/");
        let keeps = |name: &str| Route { keep_query: Some(vec![name.into()]), ..plain.clone() };
        let ignores =
            |name: &str| Route { ignore_query: Some(IgnoreQuery::Names(vec![name.into()])), ..plain.clone() };
        for name in ["a", "utm_*", "*"] {
            assert_eq!((of(keeps(name)), of(ignores(name))), (vec![], vec![]), "{name}");
        }
        for name in ["", "a=1", "a&b"] {
            assert!(of(keeps(name))[0].starts_with("route[0].keep_query"), "{name}");
            assert!(of(ignores(name))[0].starts_with("route[0].ignore_query"), "{name}");
        }
        let connects = |connect_ms| {
            let timeouts = RouteTimeouts { connect_ms, ..RouteTimeouts::default() };
            of(Route { timeouts, ..plain.clone() }).len()
        };
        assert_eq!([None, Some(1), Some(60_000), Some(60_001), Some(0)].map(connects), [0, 0, 0, 1, 1]);
        let with_cdn = |url: &str| Route { cdn_base: Some(url.into()), ..route("/vod/", "http://a/") };
        assert!(of(with_cdn("https://cdn.example.com/vod/")).is_empty());
        for url in [
            "http://a/",
            "cdn.example.com/",
            "https://cdn.example.com/vod",
            "https://cdn.example.com/?x/",
            "",
        ] {
            let all = of(with_cdn(url));
            assert!(all.len() == 1 && all[0].starts_with("route[0].cdn_base"), "{url}: {all:?}");
        }
        let international = mistakes(&[route("/vod/", "https://b\u{fc}cher.example/v/")], &[], &[]);
        assert_eq!(international[0].fix, "give https://xn--bcher-kva.example/v/");
        let twice = [route("/vod/", "http://a/"), route("/vod/", "http://b/")];
        assert_eq!(mistakes(&twice, &[], &[])[0].key, "route[1].path");
        let origin = |host: &str| Origin { host: host.into(), url: "http://s/".into() };
        assert_eq!(mistakes(&[], &[origin("A"), origin("a")], &[])[0].key, "origin[1].host");
    }
}
