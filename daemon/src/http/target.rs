//! Resolution of a request's target to the objects that it may name.

use std::borrow::Cow;
use std::sync::Arc;

use carousel::name::{NameError, ObjectKey};
use http::{HeaderMap, HeaderValue, Uri, header};

use super::HttpServer;
use crate::access;
use crate::origin::Route;

/// The host that DVB-NIP reserves for objects received over the air.
const NIP_HOST: &str = "dvb.gw";

/// Whether an authority is the host of DVB-NIP, with any port.
pub(super) fn is_nip_host(authority: &str) -> bool {
    authority.rsplit_once(':').map_or(authority, |(host, _)| host).eq_ignore_ascii_case(NIP_HOST)
}

/// An object that a request may name.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Key in the cache.
    pub(super) key: ObjectKey,
    /// The key with the query parameters that `key` excludes, for origins.
    pub(super) full: ObjectKey,
    /// Form of its name in the request.
    pub(super) form: Form,
    /// The end of `full`, and the player's spelling of it, if they differ.
    pub(super) spelled: Option<(String, String)>,
}

/// Form of an object's name in a request.
#[derive(Debug, Clone)]
pub(super) enum Form {
    /// By the path of a route, with its index.
    Route(Arc<[Route]>, usize),
    /// By `/authority/path`.
    Path,
    /// By its own URL: through `Host`, or in a proxy request.
    Url,
}

impl Target {
    pub(super) fn new(full: ObjectKey, form: Form) -> Self {
        Self { key: full.clone(), full, form, spelled: None }
    }

    /// Records the player's spelling of the end of its URL: signatures cover the written form (`%2f` in a token of Akamai's, RFC
    /// 9110 section 7.7), not an equivalent.
    fn spelled(mut self, end: &str) -> Self {
        // A backslash is a slash for some servers only.
        self.spelled = carousel::name::respelled(end)
            .ok()
            .filter(|it| it != end && !end.contains('\\') && self.full.as_str().ends_with(it.as_str()))
            .map(|it| (it, end.to_owned()));
        self
    }

    /// A URL of `full` in the player's own spelling.
    pub(super) fn as_spelled(&self, url: String) -> String {
        let Some((end, spelled)) = &self.spelled else { return url };
        match url.strip_suffix(end.as_str()) {
            Some(before) => format!("{before}{spelled}"),
            None => url,
        }
    }

    /// Whether the player's spelling differs from the key.
    pub(super) const fn is_respelled(&self) -> bool {
        self.spelled.is_some()
    }

    /// The route by whose path it was requested.
    pub(super) fn route(&self) -> Option<&Route> {
        match &self.form {
            Form::Route(routes, number) => routes.get(*number),
            Form::Path | Form::Url => None,
        }
    }
}

/// The authority that a request names: that of its URI, else its `Host` (RFC 9112 section 3.3, RFC 9113 section 8.3.1).
pub(super) fn authority<'a>(uri: &'a Uri, fields: &'a HeaderMap) -> Option<&'a str> {
    let of_uri = uri.authority().map(http::uri::Authority::as_str);
    of_uri.or_else(|| fields.get(header::HOST)?.to_str().ok())
}

/// Whether a `Host` is valid (RFC 9110 section 7.2): empty, or a host with or without a port.
pub(super) fn is_host(value: &HeaderValue) -> bool {
    // Some clients send names that are not encoded.
    let host: Vec<u8> =
        value.as_bytes().iter().map(|byte| if byte.is_ascii() { *byte } else { b'x' }).collect();
    host.is_empty() || (!host.contains(&b'@') && http::uri::Authority::try_from(&host[..]).is_ok())
}

/// The first character of a path, and the length of its spelling: that of an unreserved character may be percent-encoded (RFC 3986
/// section 6.2.2.2).
fn first_character(path: &[u8]) -> Option<(u8, usize)> {
    let digit = |at: usize| path.get(at).and_then(|it| char::from(*it).to_digit(16));
    if path.first() == Some(&b'%')
        && let (Some(high), Some(low)) = (digit(1), digit(2))
        && let Ok(byte) = u8::try_from(high * 16 + low)
        && (byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    {
        return Some((byte, 3));
    }
    path.first().map(|byte| (*byte, 1))
}

/// The part of a path below a folder, as it is spelled.
pub(super) fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    // Nearly all are spelled alike.
    if let Some(rest) = path.strip_prefix(folder) {
        return Some(rest);
    }
    if !path.contains('%') && !folder.contains('%') {
        return None;
    }
    let (mut path_at, mut folder_at) = (0, 0);
    while let Some((wanted, length)) = first_character(&folder.as_bytes()[folder_at..]) {
        let (found, spelled) = first_character(&path.as_bytes()[path_at..])?;
        if found != wanted {
            return None;
        }
        (path_at, folder_at) = (path_at + spelled, folder_at + length);
    }
    path.get(path_at..)
}

/// The path of a route whose last slash a request leaves out, with its query.
pub(super) fn folder_of(uri: &Uri, routes: &[Route]) -> Option<String> {
    let path = uri.path();
    if path.ends_with('/') {
        return None;
    }
    let is_folder =
        |route: &&Route| route.path.strip_suffix('/').is_some_and(|folder| below(path, folder) == Some(""));
    let route = routes.iter().find(is_folder)?;
    let query = uri.query().map(|it| format!("?{it}")).unwrap_or_default();
    Some(format!("{}{query}", route.path))
}

/// The objects that a request may name, the most likely first: by the `[[route]]` with the longest matching path, then by
/// `/authority/path`, then by its `Host`, for players directed here in place of the CDN.
///
/// # Errors
/// The reason, if it names no valid object.
pub(super) fn targets(
    uri: &Uri,
    host: Option<&str>,
    routes: &Arc<[Route]>,
    is_origin_form: bool,
) -> Result<Vec<Target>, NameError> {
    let path = &without_cmcd(uri.path_and_query().map_or("/", |it| it.as_str()));
    // A player that uses the box as a proxy sends the complete URL.
    let authority = uri.authority().map(http::uri::Authority::as_str).or(host);
    let by_host = |host: &str| {
        let key = ObjectKey::from_name(&format!("http://{host}{path}"), None)?;
        Ok::<_, NameError>(Target::new(key, Form::Url).spelled(path))
    };
    if authority.is_some_and(is_nip_host) {
        return Ok(vec![by_host(NIP_HOST)?]);
    }
    // The target of a proxy request (RFC 9112 section 3.2.2) is on another host, even if that path exists here.
    if let Some(authority) = uri.authority().filter(|_| !is_origin_form) {
        return Ok(vec![by_host(authority.as_str())?]);
    }
    let mut targets = Vec::new();
    // Routes are sorted by path length, longest first.
    let longest = routes.iter().enumerate();
    let longest = longest.filter_map(|(number, route)| Some((number, below(path, &route.path)?))).next();
    if let Some((number, rest)) = longest {
        let route = &routes[number];
        let full = ObjectKey::from_name(&format!("{}{rest}", route.base), None)?;
        // Dot segments may lead out of the route.
        let base = || ObjectKey::from_name(&route.base, None);
        let is_below = !rest.contains("..") && !rest.contains('%')
            || base().is_ok_and(|base| full.as_str().starts_with(base.as_str()));
        if is_below {
            let rule = route.query_rule();
            let key = if rule.is_empty() {
                full.clone()
            } else {
                ObjectKey::from_name(&rule.strip(full.as_str()), None)?
            };
            let form = Form::Route(Arc::clone(routes), number);
            targets.push(Target { key, ..Target::new(full, form).spelled(rest) });
        }
    }
    let of_path = ObjectKey::from_request_path(path)?;
    let below_host = path.get(1..).and_then(|it| it.find('/').map(|at| &it[at..])).unwrap_or_default();
    let by_path = |key| Target::new(key, Form::Path).spelled(below_host);
    targets.extend(ObjectKey::from_international_path(path).map(by_path));
    targets.push(by_path(of_path));
    targets.extend(authority.and_then(|host| by_host(host).ok()));
    Ok(targets)
}

/// The access rules of an object, independent of the name by which it is requested. Its names are its key, the key as an origin
/// may read it, and both forms of the requested URL (`asked`, where an `[[origin]]` replaces its host). For each name, the
/// route with the longest base above it counts.
pub(super) fn access_rules<'a>(
    target: &Target,
    routes: &'a [Route],
    asked: impl FnOnce() -> Option<String>,
) -> Vec<&'a str> {
    let guarded: Vec<_> = routes
        .iter()
        .filter_map(|route| {
            let rule = route.access.as_deref()?;
            let base = ObjectKey::from_name(&route.base, None).ok()?;
            Some((as_read(base.as_str()), base, rule))
        })
        .collect();
    let mut rules = Vec::new();
    if guarded.is_empty() {
        return rules;
    }
    let asked = asked().and_then(|url| ObjectKey::from_name(&url, None).ok());
    for key in [Some(&target.full), asked.as_ref().filter(|it| **it != target.full)].into_iter().flatten() {
        let read = as_read(key.as_str());
        let by_key = guarded.iter().filter(|(_, base, _)| key.as_str().starts_with(base.as_str()));
        let by_read = guarded.iter().filter(|(base, _, _)| read.starts_with(base.as_str()));
        let longest = [
            by_key.max_by_key(|(_, base, _)| base.as_str().len()),
            by_read.max_by_key(|(_, base, _)| base.as_str().len()),
        ];
        for (_, _, rule) in longest.into_iter().flatten() {
            if !rules.contains(rule) {
                rules.push(*rule);
            }
        }
    }
    rules
}

/// The path of a key as many servers interpret it: encoded slashes and backslashes are slashes, repeated ones are merged, segment
/// parameters (`a;x=1`) are removed. Ends with a slash.
fn as_read(key: &str) -> String {
    let path = key.split('?').next().unwrap_or_default();
    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split(['/', '\\']) {
        match part.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/") + "/"
}

impl HttpServer {
    /// The URI of a request without its playback token, and the token.
    pub(super) fn token_of<'a>(&self, uri: &'a Uri) -> (Cow<'a, Uri>, Option<String>) {
        let target = uri.path_and_query().map_or("/", |it| it.as_str());
        let found = self.shared.access.has_tokens().then(|| access::without_token(target)).flatten();
        let Some((target, token)) = found else { return (Cow::Borrowed(uri), None) };
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = target.parse().ok();
        match Uri::from_parts(parts) {
            Ok(without) => (Cow::Owned(without), Some(token)),
            Err(_) => (Cow::Borrowed(uri), None),
        }
    }
}

/// Removes Common Media Client Data (CTA-5004), which describes the player, not the object, and is not part of the key.
fn without_cmcd(path: &str) -> Cow<'_, str> {
    carousel::query::without(path, "CMCD=")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Arc<[Route]> {
        let route =
            |path: &str, base: &str| Route { path: path.into(), base: base.into(), ..Route::default() };
        let mut routes =
            vec![route("/vod/", "https://cdn.example.com/v/"), route("/vod/live/", "https://live.example/")];
        routes[0].ignore_query = Some(carousel::query::IgnoreQuery::Names(vec!["tok*".into()]));
        crate::origin::by_longest_path(&mut routes);
        routes.into()
    }

    #[test]
    fn routes_have_one_path_in_every_spelling_of_it() {
        let http = |uri: &str| of(uri, "box")[0].clone();
        for uri in ["/vod/x.m4s", "/%76od/x.m4s", "/v%6Fd/x.m4s", "/%76%6f%64/x.m4s"] {
            assert_eq!(http(uri), "cdn.example.com/v/x.m4s", "{uri}");
        }
        assert_eq!(http("/vod/%6cive/x.m4s"), "live.example/x.m4s", "the longest one");
        for uri in ["/vod%2fx.m4s", "/%2576od/x.m4s", "/%7/x.m4s", "/VOD/x.m4s"] {
            assert_ne!(http(uri), "cdn.example.com/v/x.m4s", "{uri}");
        }
        // The rest goes to the origin as it is spelled.
        let [target, ..] = &targets(&"/%76od/%41".parse().unwrap(), None, &routes(), true).unwrap()[..]
        else {
            panic!("a target")
        };
        assert_eq!(target.as_spelled("https://cdn.example.com/v/A".into()), "https://cdn.example.com/v/%41");
        let folder = |uri: &str| folder_of(&uri.parse().unwrap(), &routes());
        assert_eq!(folder("/vod").as_deref(), Some("/vod/"));
        assert_eq!(folder("/v%6fd/live?a=b").as_deref(), Some("/vod/live/?a=b"));
        for uri in ["/vod/", "/vo", "/vod/x", "/", "/vodx"] {
            assert_eq!(folder(uri), None, "{uri}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        let is_host = |it: &str| is_host(&HeaderValue::from_str(it).unwrap());
        for host in ["", "box", "box:8080", "my_box", "10.0.0.1:80", "[::1]", "[2001:db8::1]:8080"] {
            assert!(is_host(host), "{host}");
        }
        assert!(super::is_host(&HeaderValue::from_bytes("b\u{fc}cher.de".as_bytes()).unwrap()));
        for host in ["a b", "a/b", "user@a", "[::1", "a,b c", "a?b", "a#b"] {
            assert!(!is_host(host), "{host}");
        }
    }

    fn of(uri: &str, host: &str) -> Vec<String> {
        let targets = targets(&uri.parse().unwrap(), Some(host), &routes(), false).unwrap();
        targets.iter().map(|target| target.key.as_str().to_owned()).collect()
    }

    #[test]
    fn every_way_to_name_an_object() {
        assert_eq!(of("/op/x.mpd?a=1", "DVB.gw:8080"), ["dvb.gw/op/x.mpd?a=1"]);
        assert_eq!(of("/vod/a/1.m4s", "box:8080")[0], "cdn.example.com/v/a/1.m4s");
        assert_eq!(of("/cdn.example.com/v/1.m4s", "10.0.0.1:8080")[0], "cdn.example.com/v/1.m4s");
        assert_eq!(of("/v/1.m4s", "cdn.example.com").last().unwrap(), "cdn.example.com/v/1.m4s");
        // Another host's, though a route has that path; or the box itself is meant.
        assert_eq!(of("http://h.example/vod/1.m4s", "x"), ["h.example/vod/1.m4s"]);
        let whole = "http://box:8080/vod/1.m4s".parse().unwrap();
        assert_eq!(
            targets(&whole, None, &routes(), true).unwrap()[0].key.as_str(),
            "cdn.example.com/v/1.m4s"
        );
        assert_eq!(of("http://cdn.example.com/a/../../1.m4s", "x"), ["cdn.example.com/1.m4s"]);
        assert_eq!(of("http://dvb.gw/x", "y"), ["dvb.gw/x"]);
        let international = of("/b%C3%BCcher.example/v/1.m4s", "box");
        assert_eq!(international[..2], ["xn--bcher-kva.example/v/1.m4s", "b%C3%BCcher.example/v/1.m4s"]);
    }

    #[test]
    fn origins_are_asked_in_the_spelling_of_the_player() {
        let asked = |uri: &str, host: &str, at: usize| {
            let target = targets(&uri.parse().unwrap(), Some(host), &routes(), false).unwrap().remove(at);
            target.as_spelled(format!("https://{}", target.full))
        };
        let token = "1.m4s?hdnts=acl=%2fv%2f*~hmac=0a&u=%7e|[1]%";
        assert_eq!(asked(&format!("/vod/{token}"), "box", 0), format!("https://cdn.example.com/v/{token}"));
        assert_eq!(asked("/vod/%c3%a4%2Db?CMCD=x", "box", 0), "https://cdn.example.com/v/%c3%a4%2Db");
        assert_eq!(asked("/a.example/%7ex", "box", 0), "https://a.example/%7ex");
        assert_eq!(asked("/b%c3%bccher.example/%7ex", "box", 0), "https://xn--bcher-kva.example/%7ex");
        assert_eq!(asked("http://a.example/%7ex", "box", 0), "https://a.example/%7ex");
        // Where it leads is decided by the key.
        assert_eq!(asked("/vod/a/%2e%2e/%7ex", "box", 0), "https://cdn.example.com/v/~x");
        assert_eq!(asked("/vod/a\\%7ex", "box", 0), "https://cdn.example.com/v/a/~x");
    }

    #[test]
    fn the_longest_path_of_a_route_counts() {
        assert_eq!(of("/vod/live/a.m3u8", "box")[..2], ["live.example/a.m3u8", "vod/live/a.m3u8"]);
        assert_eq!(of("/vod/livery/a.m3u8", "box")[0], "cdn.example.com/v/livery/a.m3u8");
    }

    #[test]
    fn parameters_that_a_route_ignores_go_to_the_origin_all_the_same() {
        let uri = "/vod/1.ts?token=x&t=1".parse().unwrap();
        let target = &targets(&uri, Some("box"), &routes(), false).unwrap()[0];
        assert_eq!(target.key.as_str(), "cdn.example.com/v/1.ts?t=1");
        assert_eq!(target.full.as_str(), "cdn.example.com/v/1.ts?token=x&t=1");
        assert_eq!(of("/vod/live/1.ts?token=x", "box")[0], "live.example/1.ts?token=x");
    }

    #[test]
    fn what_a_player_says_of_itself_is_no_part_of_the_name() {
        for path in ["/a.example/1.m4s?CMCD=bl%3D2500", "http://a.example/1.m4s?CMCD=x"] {
            assert_eq!(of(path, "box")[0], "a.example/1.m4s", "{path}");
        }
        assert_eq!(of("/a.example/1.m4s?t=1&CMCD=x&u=2", "box")[0], "a.example/1.m4s?t=1&u=2");
    }

    #[test]
    fn an_object_is_guarded_by_whatever_name_it_is_asked_for() {
        let mut routes: Vec<Route> = routes().to_vec();
        let at = routes.iter().position(|route| route.path == "/vod/").unwrap();
        routes[at].access = Some("paid".to_owned());
        let routes: Arc<[Route]> = routes.into();
        for (uri, host, rule) in [
            ("/vod/a/1.m4s?tok=5", "box", Some("paid")),
            ("/cdn.example.com/v/a/1.m4s", "box", Some("paid")),
            ("/CDN.example.com:443/v/a/../1.m4s", "box", Some("paid")),
            ("http://cdn.example.com/v/1.m4s", "x", Some("paid")),
            ("/vod/live/1.m4s", "box", None),
            ("/cdn.example.com/w/1.m4s", "box", None),
            // Names that servers read as one below the base.
            ("/cdn.example.com//v/1.m4s", "box", Some("paid")),
            ("/cdn.example.com/v%2F1.m4s", "box", Some("paid")),
            ("/cdn.example.com/v%2f%2f1.m4s", "box", Some("paid")),
            ("/cdn.example.com/v%5C1.m4s", "box", Some("paid")),
            ("/cdn.example.com/w/..;/v/1.m4s", "box", Some("paid")),
            ("/cdn.example.com/v;a=1/1.m4s", "box", Some("paid")),
            ("/cdn.example.com/w/1.m4s?x=/../v/", "box", None),
            ("/cdn.example.com/vw/1.m4s", "box", None),
        ] {
            let targets = targets(&uri.parse().unwrap(), Some(host), &routes, false).unwrap();
            let rules = access_rules(&targets[0], &routes, || None);
            assert_eq!(rules, Vec::from_iter(rule), "{uri}");
        }
        let by_host = targets(&"/v/1.m4s".parse().unwrap(), Some("cdn.example.com"), &routes, false).unwrap();
        assert_eq!(access_rules(by_host.last().unwrap(), &routes, || None), ["paid"]);
    }

    #[test]
    fn an_object_is_guarded_by_the_url_that_it_is_asked_by() {
        let route = |base: &str, access: &str| Route {
            base: base.into(),
            access: Some(access.into()),
            ..Route::default()
        };
        let routes = [
            route("https://cdn.example.com/v/", "all"),
            route("https://cdn.example.com/v/a/", "some"),
            route("https://films.example/", "more"),
        ];
        let rules = |name: &str, asked: &str| {
            let target = Target::new(ObjectKey::from_name(name, None).unwrap(), Form::Path);
            access_rules(&target, &routes, || Some(asked.to_owned()))
        };
        let other = "other.example/1.m4s";
        assert_eq!(rules(other, "https://cdn.example.com/v/1.m4s"), ["all"], "an [[origin]] stands for it");
        assert_eq!(rules(other, "https://elsewhere.example/1.m4s"), [""; 0]);
        assert_eq!(rules("films.example/1.m4s", "https://cdn.example.com/v/1.m4s"), ["more", "all"]);
        let by_both = "cdn.example.com/v/a/..;/1.m4s";
        assert_eq!(rules(by_both, &format!("https://{by_both}")), ["some", "all"], "each reading");
    }

    #[test]
    fn dot_segments_stay_within_their_route() {
        assert_eq!(of("/vod/a/../1.m4s", "box")[0], "cdn.example.com/v/1.m4s");
        assert_eq!(of("/vod/../x", "box")[0], "x");
        assert_eq!(of("/vod/%2e%2e/x", "box")[0], "x");
    }

    #[test]
    fn what_would_escape_is_refused() {
        for path in ["/a.example/../../etc/passwd", "/vod/../../x", "/a.example/..%2fx"] {
            assert!(targets(&path.parse().unwrap(), Some("box"), &routes(), false).is_err(), "{path}");
        }
    }
}
