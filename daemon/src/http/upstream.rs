//! Request fields for origins: `Host`, `Forwarded` and its older forms, and the detection of loops.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::serve::ObjectRequest;
use super::target;
use crate::origin::Forwarded;
use crate::origin::loop_id;

/// Names of the client of a request.
const FORWARDED: [&str; 6] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-real-ip",
];

/// Fields in common use by players and origins. Any other could change an origin's response to one player that the cache then
/// serves to all (cache poisoning), unless the origin lists it in `Vary`: see [`unusual_values`].
const PASSED: [&str; 50] = [
    "accept",
    "accept-charset",
    "accept-language",
    "access-control-request-headers",
    "access-control-request-method",
    "authorization",
    "baggage",
    "cache-control",
    "cdn-loop",
    "content-type",
    "cookie",
    "device-memory",
    "dnt",
    "downlink",
    "dpr",
    "ect",
    "from",
    "getcontentfeatures.dlna.org",
    "icy-metadata",
    "last-event-id",
    "max-forwards",
    "origin",
    "pragma",
    "prefer",
    "priority",
    "purpose",
    "range-unit",
    "referer",
    "rtt",
    "save-data",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-gpc",
    "sec-purpose",
    "traceparent",
    "tracestate",
    "transfermode.dlna.org",
    "upgrade-insecure-requests",
    "user-agent",
    "via",
    "viewport-width",
    "want-content-digest",
    "want-digest",
    "want-repr-digest",
    "width",
    "x-correlation-id",
    "x-playback-session-id",
    "x-request-id",
    "x-requested-with",
];

/// Fields that change the method, URL, scheme or client that an origin reads from a request: never passed on,
/// unless the route names them.
const NEVER_PASSED: [&str; 36] = [
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "front-end-https",
    "proxy",
    "true-client-ip",
    "x-arr-ssl",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-forwarded-path",
    "x-forwarded-prefix",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-host",
    "x-http-destinationurl",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-invoke-path",
    "x-invoke-status",
    "x-method-override",
    "x-middleware-subrequest",
    "x-original-host",
    "x-original-scheme",
    "x-original-uri",
    "x-original-url",
    "x-originating-ip",
    "x-override-url",
    "x-proxyuser-ip",
    "x-requested-host",
    "x-rewrite-url",
    "x-scheme",
    "x-url-scheme",
];

/// Removes the fields of a request that are not passed to an origin. `is_shared`: other clients may get the response.
/// `extra`: the names that the route adds to the standard ones; `*` is all. Returns the number of removed fields.
pub(super) fn keep_passed(fields: &mut HeaderMap, is_shared: bool, extra: Option<&[String]>) -> u64 {
    let passes_all = !is_shared || extra.is_none_or(|extra| extra.iter().any(|it| it == "*"));
    let passes = |name: &HeaderName| {
        let name = name.as_str();
        let may_pass = passes_all || is_usual(name);
        is_among(name, extra) || (may_pass && !NEVER_PASSED.contains(&name))
    };
    let unpassed: Vec<HeaderName> = fields.keys().filter(|name| !passes(name)).cloned().collect();
    for name in &unpassed {
        fields.remove(name);
    }
    unpassed.len() as u64
}

fn is_usual(name: &str) -> bool {
    // Client hints, which browsers add on their own.
    PASSED.contains(&name) || FORWARDED.contains(&name) || name.starts_with("sec-ch-")
}

fn is_among(name: &str, extra: Option<&[String]>) -> bool {
    extra.is_some_and(|extra| extra.iter().any(|it| it.eq_ignore_ascii_case(name)))
}

/// Values of request fields that are neither standard nor listed by the route. A response that repeats one is for this player
/// alone.
pub(super) fn unusual_values(fields: &HeaderMap, extra: Option<&[String]>) -> Vec<HeaderValue> {
    let is_unusual = |name: &HeaderName| {
        !is_usual(name.as_str()) && !is_among(name.as_str(), extra) && *name != header::HOST
    };
    fields.iter().filter(|(name, _)| is_unusual(name)).map(|(_, value)| value.clone()).collect()
}

/// Adds the request fields that its route configures.
pub(super) fn add_fields(fields: &mut HeaderMap, request: &ObjectRequest<'_>) {
    let route = request.target.route();
    let host = request.head.headers.get(header::HOST);
    match route.and_then(|route| route.host_header.as_deref()) {
        None | Some("origin") => {}
        Some("player") => {
            let authority =
                request.head.uri.authority().and_then(|it| HeaderValue::from_str(it.as_str()).ok());
            if let Some(host) = authority.or_else(|| host.cloned()) {
                fields.insert(header::HOST, host);
            }
        }
        Some(name) => {
            if let Ok(name) = HeaderValue::from_str(name) {
                fields.insert(header::HOST, name);
            }
        }
    }
    let host = target::authority(&request.head.uri, &request.head.headers);
    let mode = route.map(|route| route.forwarded).unwrap_or_default();
    forward(fields, mode, request.peer, host, request.is_tls);
}

/// Sets `Forwarded` (RFC 7239) and its predecessors.
fn forward(fields: &mut HeaderMap, mode: Forwarded, peer: IpAddr, host: Option<&str>, is_tls: bool) {
    if mode != Forwarded::Trusted {
        for name in FORWARDED {
            fields.remove(name);
        }
    }
    if mode == Forwarded::Off {
        return;
    }
    let peer = peer.to_canonical();
    let proto = if is_tls { "https" } else { "http" };
    let node = if peer.is_ipv6() { format!("\"[{peer}]\"") } else { peer.to_string() };
    let mut element = format!("for={node};proto={proto}");
    if let Some(host) = host.filter(|it| !it.contains(['"', '\\'])) {
        element.push_str(&format!(";host=\"{host}\""));
    }
    append(fields, "forwarded", &element);
    append(fields, "x-forwarded-for", &peer.to_string());
    // The first of several proxies has seen the player's request.
    for (name, value) in [("x-forwarded-proto", Some(proto)), ("x-forwarded-host", host)] {
        let name = HeaderName::from_static(name);
        if let Some(value) = value.and_then(|it| HeaderValue::from_str(it).ok())
            && !fields.contains_key(&name)
        {
            fields.insert(name, value);
        }
    }
}

/// Adds a member to a list, in one field.
fn append(fields: &mut HeaderMap, name: &'static str, member: &str) {
    let mut lines: Vec<String> =
        fields.get_all(name).iter().filter_map(|it| it.to_str().ok().map(str::to_owned)).collect();
    lines.push(member.to_owned());
    if let Ok(value) = HeaderValue::from_str(&lines.join(", ")) {
        fields.insert(HeaderName::from_static(name), value);
    }
}

/// Whether a request has passed through this process before.
pub(super) fn is_loop(request: &HeaderMap) -> bool {
    let lines = request.get_all("cdn-loop").iter().filter_map(|it| it.to_str().ok());
    let mut ids = lines.flat_map(|line| line.split(',')).map(|it| it.split(';').next().unwrap_or("").trim());
    ids.any(|id| id == loop_id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caching::{from_pairs, text};

    #[test]
    fn the_player_is_named_as_the_route_says() {
        let forwarded = |mode| {
            let mut fields =
                from_pairs([("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4"), ("a", "b")]);
            forward(&mut fields, mode, "10.0.0.7".parse().unwrap(), Some("box:8080"), false);
            let of = |name: &str| text(&fields, name).map(str::to_owned);
            (of("forwarded"), of("x-forwarded-for"), of("x-forwarded-host"))
        };
        assert_eq!(forwarded(Forwarded::Off), (None, None, None));
        let own = "for=10.0.0.7;proto=http;host=\"box:8080\"";
        assert_eq!(
            forwarded(Forwarded::On),
            (Some(own.into()), Some("10.0.0.7".into()), Some("box:8080".into()))
        );
        assert_eq!(
            forwarded(Forwarded::Trusted),
            (Some(format!("for=1.2.3.4, {own}")), Some("1.2.3.4, 10.0.0.7".into()), Some("box:8080".into()))
        );
        let mut fields = HeaderMap::new();
        forward(&mut fields, Forwarded::On, "2001:db8::1".parse().unwrap(), None, true);
        assert_eq!(text(&fields, "forwarded"), Some("for=\"[2001:db8::1]\";proto=https"));
    }

    #[test]
    fn fields_that_could_poison_a_shared_response_stay_here() {
        let kept = |is_shared, extra: Option<&[&str]>| {
            let mut fields = from_pairs([
                ("accept-language", "de"),
                ("cookie", "a=b"),
                ("x-original-url", "/admin"),
                ("x-http-method-override", "DELETE"),
                ("x-api-key", "k"),
                ("sec-ch-ua-platform", "\"Linux\""),
            ]);
            let extra: Option<Vec<String>> = extra.map(|it| it.iter().map(|it| (*it).to_owned()).collect());
            let taken = keep_passed(&mut fields, is_shared, extra.as_deref());
            let mut names: Vec<String> = fields.keys().map(ToString::to_string).collect();
            names.sort();
            (names.join(" "), taken, unusual_values(&fields, extra.as_deref()).len())
        };
        assert_eq!(
            kept(true, None),
            ("accept-language cookie sec-ch-ua-platform x-api-key".into(), 2, 1),
            "as long as none is listed"
        );
        assert_eq!(kept(true, Some(&[])), ("accept-language cookie sec-ch-ua-platform".into(), 3, 0));
        assert_eq!(
            kept(true, Some(&["X-Api-Key"])),
            ("accept-language cookie sec-ch-ua-platform x-api-key".into(), 2, 0)
        );
        assert_eq!(
            kept(true, Some(&["*"])),
            ("accept-language cookie sec-ch-ua-platform x-api-key".into(), 2, 1)
        );
        assert_eq!(
            kept(false, Some(&[])),
            ("accept-language cookie sec-ch-ua-platform x-api-key".into(), 2, 1)
        );
        let named = kept(true, Some(&["x-original-url"]));
        assert_eq!(named, ("accept-language cookie sec-ch-ua-platform x-original-url".into(), 2, 0));
        assert!(PASSED.is_sorted() && NEVER_PASSED.is_sorted());
    }

    #[test]
    fn a_request_of_this_process_is_recognised() {
        assert!(!is_loop(&from_pairs([("cdn-loop", "skycache, fastly")])));
        let own = format!("fastly, {}; v=1", loop_id());
        assert!(is_loop(&from_pairs([("cdn-loop", own.as_str())])));
        assert!(is_loop(&from_pairs([("cdn-loop", "fastly"), ("cdn-loop", loop_id())])));
    }
}
