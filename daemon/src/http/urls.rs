//! Mapping of an origin's URLs below a configured route to paths of this box.
//!
//! A route maps a path of the box to a URL at an origin. References in `Location`, `Content-Location`, `Link`, `Refresh` and
//! manifests are in the origin's terms: its own absolute URL, `//host/path`, or a path from its root, which at the box would name
//! another object or none (RFC 9110 section 10.2.2). References are compared by RFC 3986 sections 6.2.2.1 and 6.2.3: scheme and
//! host case-insensitively, without default ports.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::target::{Form, Target};
use crate::caching;
use crate::origin::{Redirects, Route};

/// A normalised URL, split at its authority.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Split<'a> {
    scheme: String,
    authority: String,
    /// The part from the `/` or `?` after the authority.
    path: &'a str,
}

impl<'a> Split<'a> {
    /// Splits `scheme://authority…`; with `scheme`, also `//authority…`.
    fn of(url: &'a str, scheme: Option<&str>) -> Option<Self> {
        let (scheme, rest) = match (url.strip_prefix("//"), scheme) {
            (Some(rest), Some(scheme)) => (scheme.to_owned(), rest),
            _ => {
                let (scheme, rest) = url.split_once("://")?;
                (scheme.to_ascii_lowercase(), rest)
            }
        };
        if scheme != "http" && scheme != "https" {
            return None;
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let authority = rest[..end].rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
        let default = if scheme == "https" { ":443" } else { ":80" };
        let authority = authority.strip_suffix(default).unwrap_or(&authority);
        let authority = authority.strip_suffix(':').unwrap_or(authority).to_owned();
        (!authority.is_empty()).then(|| Self { scheme, authority, path: &rest[end..] })
    }

    fn root(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }
}

/// A prefix of URLs and its replacement at the box.
#[derive(Debug, Clone)]
struct Prefix {
    scheme: String,
    authority: String,
    path: String,
    becomes: String,
}

/// Map from the references in one response to paths of the box.
#[derive(Debug, Clone, Default)]
pub(super) struct UrlMap {
    /// The longest first.
    prefixes: Vec<Prefix>,
    /// Scheme of the requested URL, for `//host/path`.
    scheme: Option<String>,
    /// Scheme and authority of the requested URL, for `/path`; `None`: paths need no mapping.
    root: Option<String>,
    /// Path of the requested URL up to its last `/`, for `../path`.
    folder: String,
    /// Path of the steering manifest, and the pathway whose URLs are not mapped.
    steering: Option<(String, String)>,
}

impl UrlMap {
    /// The map for a response to `url`. `routes`: those whose bases are mapped.
    pub(super) fn new<'a>(url: Option<&str>, routes: impl Iterator<Item = &'a Route>) -> Self {
        let mut map = Self::default();
        for route in routes {
            map.add(&route.base, &route.path);
        }
        if let Some(url) = url.and_then(|url| Split::of(url, None)) {
            map.root = Some(url.root());
            let path = url.path.split(['?', '#']).next().unwrap_or_default();
            map.folder = path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
            map.scheme = Some(url.scheme);
        }
        map
    }

    fn add(&mut self, base: &str, becomes: &str) {
        if let Some(Split { scheme, authority, path }) = Split::of(base, None) {
            let path = if path.is_empty() { "/" } else { path }.to_owned();
            self.prefixes.push(Prefix { scheme, authority, path, becomes: becomes.to_owned() });
            self.prefixes.sort_by_key(|it| std::cmp::Reverse(it.path.len()));
        }
    }

    /// Whether it maps nothing.
    pub(super) const fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && self.steering.is_none()
    }

    /// Sets the path of the steering manifest, and the pathway whose URLs are not mapped.
    pub(super) fn with_steering(self, steering: Option<(String, String)>) -> Self {
        Self { steering, ..self }
    }

    /// Path of the steering manifest, if content steering is enabled.
    pub(super) fn steering(&self) -> Option<&str> {
        self.steering.as_ref().map(|it| it.0.as_str())
    }

    /// Whether the URLs of this pathway are not mapped.
    pub(super) fn leaves(&self, pathway: &[u8]) -> bool {
        self.steering.as_ref().is_some_and(|it| it.1.as_bytes() == pathway)
    }

    /// Path at the box of an absolute reference, or of one that begins with `//`; `None`: it is outside all routes, or
    /// relative.
    pub(super) fn map(&self, reference: &str) -> Option<String> {
        let split = Split::of(reference, Some(self.scheme.as_deref().unwrap_or("http")))?;
        self.mapped(&split)
    }

    /// Whether a reference is to the host of a route's origin, below the route or not.
    pub(super) fn is_of_origin(&self, reference: &str) -> bool {
        let is_absolute = reference.contains("://") || reference.starts_with("//");
        let url = if is_absolute { Some(reference) } else { self.root.as_deref() };
        let split = url.and_then(|url| Split::of(url, Some(self.scheme.as_deref().unwrap_or("http"))));
        split.is_some_and(|split| self.prefixes.iter().any(|prefix| prefix.authority == split.authority))
    }

    /// As [`UrlMap::map`], where a path from the root is a reference as well.
    pub(super) fn map_reference(&self, reference: &str) -> Option<String> {
        if reference.starts_with('/') && !reference.starts_with("//") {
            let absolute = format!("{}{reference}", self.root.as_deref()?);
            return self.mapped(&Split::of(&absolute, None)?);
        }
        self.map(reference)
    }

    /// Maps a prefix of URLs without its last `/`, as a variable may contain it.
    pub(super) fn map_folder(&self, reference: &str) -> Option<String> {
        let folder = format!("{reference}/");
        let mapped = self.map(reference).or_else(|| self.map(&folder))?;
        // Also a host alone: the text after it begins with a `/`.
        let mapped = if reference.ends_with('/') { &mapped } else { mapped.trim_end_matches('/') };
        (!mapped.is_empty()).then(|| mapped.to_owned())
    }

    fn mapped(&self, url: &Split<'_>) -> Option<String> {
        let path = if url.path.starts_with('/') { url.path.to_owned() } else { format!("/{}", url.path) };
        self.prefixes.iter().find_map(|prefix| {
            if prefix.scheme != url.scheme || prefix.authority != url.authority {
                return None;
            }
            below(&path, &prefix.path).map(|rest| format!("{}{rest}", prefix.becomes))
        })
    }

    /// A reference in a response field: mapped, or made absolute at the origin.
    fn field_reference(&self, reference: &str) -> Option<String> {
        if reference.starts_with('/') && !reference.starts_with("//") {
            // Outside all routes: the path exists only at the origin.
            return self
                .map_reference(reference)
                .or_else(|| self.root.as_ref().map(|root| format!("{root}{reference}")));
        }
        if reference.starts_with("..") && !self.prefixes.is_empty() {
            // Within a route the folders of box and origin correspond; outside it they do not.
            let (path, rest) = reference.split_at(reference.find(['?', '#']).unwrap_or(reference.len()));
            let absolute = format!("{}{}{rest}", self.root.as_deref()?, joined(&self.folder, path)?);
            let Some(mapped) = self.mapped(&Split::of(&absolute, None)?) else { return Some(absolute) };
            // Above the route and back into it, by the origin's name of its folder.
            let folder =
                self.mapped(&Split::of(&format!("{}{}/", self.root.as_deref()?, self.folder), None)?)?;
            let at_the_box = joined(folder.trim_end_matches('/'), path)?;
            return (mapped != format!("{at_the_box}{rest}")).then_some(mapped);
        }
        self.map(reference)
    }
}

/// Maximum segments of a path that are normalised for the comparison with a prefix.
const MOST_SEGMENTS: usize = 32;

/// The remainder of `path` below `prefix`, compared after normalisation; `None` if it escapes the prefix.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    if let Some(rest) = path.strip_prefix(prefix).filter(|rest| !climbs(rest)) {
        return Some(rest);
    }
    let end = path.find(['?', '#']).unwrap_or(path.len());
    if !path[..end].contains('%') && !path[..end].contains("/.") {
        return None;
    }
    // Only the prefix part is parsed: the rest may contain template identifiers, such as `$Number%05d$`.
    let plain = |path: &str| carousel::name::resolve("http://h/", path).ok();
    let prefix = plain(prefix)?;
    let ends = path[..end].match_indices('/').map(|(at, _)| at + 1).take(MOST_SEGMENTS);
    ends.map(|at| path.split_at(at))
        .find(|(before, rest)| !climbs(rest) && plain(before).as_ref() == Some(&prefix))
        .map(|(_, rest)| rest)
}

/// Whether `..` in a relative path leads above its start.
fn climbs(path: &str) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut depth = 0_usize;
    path.split(['/', '\\']).any(|segment| {
        match segment.to_ascii_lowercase().replace("%2e", ".").as_str() {
            "." => {}
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            _ => depth += 1,
        }
        false
    })
}

/// A path with `.` and `..` behind a folder without a last `/` (RFC 3986 section 5.2.4). `None`: it has encoded dots.
fn joined(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').skip(1).collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    let out = format!("/{}", parts.join("/"));
    (!escapes(&out)).then_some(out)
}

fn escapes(path: &str) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    path.split('/')
        .any(|segment| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | ".."))
}

/// Maps `Location`, `Content-Location`, `Link` and `Refresh` of a response to `target`, which was asked for at `url`.
pub(super) fn map_fields(
    fields: &mut HeaderMap,
    target: &Target,
    url: Option<&str>,
    routes: &[Route],
    stand_ins: &[(String, String)],
) {
    const NAMES: [HeaderName; 4] =
        [header::LOCATION, header::CONTENT_LOCATION, header::LINK, header::REFRESH];
    if !NAMES.iter().any(|name| fields.contains_key(name)) {
        return;
    }
    let map = match &target.form {
        Form::Route(..) => {
            if target.route().is_some_and(|route| route.redirects == Redirects::Pass) {
                return;
            }
            let own = target.route();
            let mut map = UrlMap::new(url, routes.iter().filter(|route| route.redirects != Redirects::Pass));
            // Of two routes with one base, the one of the request.
            if let Some(own) = own {
                map.prefixes.retain(|prefix| {
                    prefix.becomes == own.path
                        || Split::of(&own.base, None).is_none_or(|base| {
                            (base.authority.as_str(), base.path) != (&*prefix.authority, &*prefix.path)
                        })
                });
            }
            map
        }
        Form::Path => {
            let mut map = UrlMap::new(url, std::iter::empty());
            let host = target.full.as_str().split('/').next().unwrap_or_default();
            let stand_in = stand_ins.iter().find(|(_, it)| it.eq_ignore_ascii_case(host));
            if let Some((url, _)) = stand_in {
                map.add(&format!("{}/", url.trim_end_matches('/')), &format!("/{host}/"));
            }
            for scheme in ["http", "https"] {
                map.add(&format!("{scheme}://{host}/"), &format!("/{host}/"));
            }
            map
        }
        // The player resolves it against the object's own URL, as at the origin.
        Form::Url => return,
    };
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        // Bytes beyond ASCII are not allowed in a URI, but in the field, and browsers take them.
        let reference = fields.get(&name).and_then(|it| std::str::from_utf8(it.as_bytes()).ok());
        let mapped = reference.and_then(|it| map.field_reference(it));
        if let Some(value) = mapped.and_then(|it| HeaderValue::from_bytes(it.as_bytes()).ok()) {
            fields.insert(name, value);
        }
    }
    let refreshed = caching::text(fields, header::REFRESH).and_then(|it| map_refresh(it, &map));
    if let Some(value) = refreshed.and_then(|it| HeaderValue::from_str(&it).ok()) {
        fields.insert(header::REFRESH, value);
    }
    let links: Vec<HeaderValue> = fields.get_all(header::LINK).iter().cloned().collect();
    if links.is_empty() {
        return;
    }
    fields.remove(header::LINK);
    for link in links {
        let mapped = link.to_str().ok().and_then(|it| HeaderValue::from_str(&map_links(it, &map)).ok());
        fields.append(header::LINK, mapped.unwrap_or(link));
    }
}

/// `Refresh` (HTML Living Standard, section 4.2.5.3): seconds, then `;` or `,` and a reference after `url=`.
fn map_refresh(value: &str, map: &UrlMap) -> Option<String> {
    let at = value.find([';', ','])? + 1;
    let rest = value[at..].trim_start();
    let is_named = rest.get(..3).is_some_and(|it| it.eq_ignore_ascii_case("url"));
    let named = if is_named { rest[3..].trim_start().strip_prefix('=').map(str::trim_start) } else { None };
    let reference = named.unwrap_or(rest).trim_end();
    let quote = reference.chars().next().filter(|it| matches!(it, '"' | '\''));
    let bare = quote.map_or(reference, |quote| reference[1..].split(quote).next().unwrap_or_default());
    let start = bare.as_ptr() as usize - value.as_ptr() as usize;
    let mapped = map.field_reference(bare)?;
    Some(format!("{}{mapped}{}", &value[..start], &value[start + bare.len()..]))
}

/// `Link` (RFC 8288 section 3): each `<reference>` outside quoted strings.
fn map_links(value: &str, map: &UrlMap) -> String {
    let (mut out, mut rest, mut quoted) = (String::with_capacity(value.len()), value, false);
    while let Some(at) = rest.find(['<', '"', '\\']) {
        let (before, found) = (&rest[..at], rest.as_bytes()[at]);
        out.push_str(before);
        rest = &rest[at..];
        match found {
            b'\\' if quoted => {
                let end = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                out.push_str(&rest[..end]);
                rest = &rest[end..];
                continue;
            }
            b'"' => quoted = !quoted,
            b'<' if !quoted => {
                if let Some(end) = rest.find('>') {
                    let reference = &rest[1..end];
                    let mapped = map.field_reference(reference);
                    out.push('<');
                    out.push_str(mapped.as_deref().unwrap_or(reference));
                    out.push('>');
                    rest = &rest[end + 1..];
                    continue;
                }
            }
            _ => {}
        }
        out.push_str(&rest[..1]);
        rest = &rest[1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use carousel::name::ObjectKey;

    use super::*;
    use crate::caching::from_pairs;

    fn routes() -> Arc<[Route]> {
        let route =
            |path: &str, base: &str| Route { path: path.into(), base: base.into(), ..Route::default() };
        let mut routes =
            vec![route("/vod/", "http://o.example:8080/hls/"), route("/s/", "https://s.example/")];
        routes.push(Route { redirects: Redirects::Pass, ..route("/as-is/", "http://p.example/") });
        routes.into()
    }

    fn target(form: Form, name: &str) -> Target {
        let key = ObjectKey::from_name(name, None).unwrap();
        Target::new(key, form)
    }

    fn location(form: Form, url: &str, reference: &str) -> String {
        let mut fields = from_pairs([("location", reference)]);
        let stand_ins = [("http://shield.example:9/x".to_owned(), "cdn.example".to_owned())];
        map_fields(&mut fields, &target(form, url), Some(url), &routes(), &stand_ins);
        String::from_utf8(fields["location"].as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_redirect_of_a_routes_origin_stays_at_the_box() {
        let by_route = |reference: &str| {
            location(Form::Route(routes(), 0), "http://o.example:8080/hls/a/b.m3u8", reference)
        };
        for (reference, expected) in [
            ("http://o.example:8080/hls/real/x.m3u8", "/vod/real/x.m3u8"),
            ("HTTP://O.Example:8080/hls/x?a=1#f", "/vod/x?a=1#f"),
            ("//o.example:8080/hls/x", "/vod/x"),
            ("/hls/x", "/vod/x"),
            ("x", "x"),
            ("../x", "../x"),
            ("../x?a=1", "../x?a=1"),
            ("../../x?a=1", "http://o.example:8080/x?a=1"),
            ("../../hls/x?a=1", "/vod/x?a=1"),
            ("http://o.example:8080/hls/Tr\u{c3}\u{a4}ume", "/vod/Tr\u{e4}ume"),
            ("../../../../x", "http://o.example:8080/x"),
            ("https://S.example:443/x", "/s/x"),
            ("https://elsewhere.example/x", "https://elsewhere.example/x"),
            ("http://o.example:8080/other", "http://o.example:8080/other"),
            ("/other", "http://o.example:8080/other"),
            ("http://o.example:8080/hls/../x", "http://o.example:8080/hls/../x"),
            ("http://o.example:8080/hls", "http://o.example:8080/hls"),
        ] {
            assert_eq!(by_route(reference), expected, "{reference}");
        }
        assert_eq!(
            location(Form::Route(routes(), 2), "http://p.example/a", "http://p.example/b"),
            "http://p.example/b"
        );
    }

    #[test]
    fn other_forms_of_requests_stay_what_they_are() {
        let by_path = |reference: &str| location(Form::Path, "http://cdn.example/v/a", reference);
        assert_eq!(by_path("https://cdn.example/v/b"), "/cdn.example/v/b");
        assert_eq!(by_path("/v/b"), "/cdn.example/v/b");
        assert_eq!(by_path("http://shield.example:9/x/v/b"), "/cdn.example/v/b");
        assert_eq!(location(Form::Url, "http://cdn.example/v/a", "/v/b"), "/v/b");
    }

    #[test]
    fn a_refresh_leads_back_too() {
        let map = UrlMap::new(Some("http://o.example:8080/hls/a"), routes().iter());
        for (value, mapped) in [
            ("5; url=http://o.example:8080/hls/x", Some("5; url=/vod/x")),
            ("0;URL = '/hls/x?a=1' ", Some("0;URL = '/vod/x?a=1' ")),
            ("3, \"/hls/x\"", Some("3, \"/vod/x\"")),
            ("5", None),
            ("5; url=x", None),
            ("5; url=http://elsewhere.example/x", None),
        ] {
            assert_eq!(map_refresh(value, &map).as_deref(), mapped, "{value}");
        }
    }

    #[test]
    fn links_are_mapped_outside_of_quoted_strings() {
        let map = UrlMap::new(Some("http://o.example:8080/hls/a"), routes().iter());
        assert_eq!(
            map_links(
                "<http://o.example:8080/hls/1.ts>; rel=preload; title=\"<\\\"/hls/>\", </hls/2.ts>; rel=next",
                &map
            ),
            "</vod/1.ts>; rel=preload; title=\"<\\\"/hls/>\", </vod/2.ts>; rel=next"
        );
        assert_eq!(map_links("<unended", &map), "<unended");
    }
}
