//! Cross-origin requests (CORS): preflights that the box answers itself.
//!
//! Scripts of any site may read the objects of the box (see [`super::head::allow_everyone`]), unless an origin's response has
//! CORS fields of its own. A preflight of a GET or HEAD is answered here, so that players of carousels need no origin: with the
//! site's name and the fields that it asks for, since `*` is not valid in requests with credentials. That permits the request;
//! the response decides whether it may be read. A preflight of another method goes to the origin.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::METHODS;
use super::body::PlayerBody;
use super::head::{self, allow_everyone};
use crate::caching;

const ALLOWED_FIELDS: &str = "*, Authorization, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status, If-Match, \
                              If-Modified-Since, If-None-Match, If-Range, If-Unmodified-Since, Range";

/// Lets a script that has sent credentials read a response that is the same for all clients: browsers require the site's
/// name for that (Fetch Standard, CORS check). Nothing is disclosed, since the request without credentials has the same
/// response.
pub(super) fn allow_credentials(response: &mut HeaderMap, request: &HeaderMap) {
    let Some(site) = request.get(header::ORIGIN) else { return };
    if [header::COOKIE, header::AUTHORIZATION].iter().any(|name| request.contains_key(name)) {
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, site.clone());
        response.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        caching::vary_by(response, "Origin");
    }
}

/// Whether an OPTIONS request is a preflight for a method that only the origin supports.
pub(super) fn is_preflight_for_origin(request: &HeaderMap) -> bool {
    let asked = request.get(header::ACCESS_CONTROL_REQUEST_METHOD).map(HeaderValue::as_bytes);
    asked.is_some_and(|method| method != b"GET" && method != b"HEAD")
}

/// The answer to OPTIONS, preflight or not. `passed`: the methods that are passed on to an origin.
pub(super) fn options(request: &HeaderMap, passed: &[String]) -> Response<PlayerBody> {
    let mut methods = METHODS.to_owned();
    for method in passed.iter().filter(|it| !METHODS.split(", ").any(|own| own == *it)) {
        methods.push_str(", ");
        methods.push_str(method);
    }
    let mut response = Response::new(PlayerBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let names = [
        (header::ALLOW, methods.as_str()),
        (header::ACCESS_CONTROL_ALLOW_METHODS, methods.as_str()),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_FIELDS),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    for (name, value) in names {
        head::put(headers, name, value);
    }
    if let Some(origin) = request.get(header::ORIGIN) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(header::VARY, HeaderValue::from_static("Origin, Access-Control-Request-Headers"));
        if let Some(fields) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, fields.clone());
        }
        if request.contains_key("access-control-request-private-network") {
            let name = HeaderName::from_static("access-control-allow-private-network");
            headers.insert(name, HeaderValue::from_static("true"));
        }
    }
    allow_everyone(headers);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caching::{from_pairs, text};

    #[test]
    fn a_script_with_credentials_is_named_and_others_are_everyone() {
        let said = |request: &[(&str, &str)]| {
            let mut fields = HeaderMap::new();
            assert!(allow_everyone(&mut fields));
            allow_credentials(&mut fields, &from_pairs(request.iter().copied()));
            let of = |name| text(&fields, name).map(str::to_owned);
            (of("access-control-allow-origin"), of("access-control-allow-credentials"), of("vary"))
        };
        let site = ("origin", "https://a.example");
        let named = (Some(site.1.to_owned()), Some("true".to_owned()), Some("Origin".to_owned()));
        assert_eq!(said(&[site, ("cookie", "s=1")]), named);
        assert_eq!(said(&[site, ("authorization", "Basic eDp5")]), named);
        for request in [&[][..], &[site], &[("cookie", "s=1")]] {
            assert_eq!(said(request), (Some("*".to_owned()), None, None), "{request:?}");
        }
    }

    #[test]
    fn what_an_origin_says_of_scripts_stands() {
        let mut few = from_pairs([("cross-origin-resource-policy", "same-site")]);
        assert!(!allow_everyone(&mut few) && text(&few, "access-control-allow-origin").is_none());
        let mut one = from_pairs([("access-control-allow-origin", "https://a.example")]);
        assert!(!allow_everyone(&mut one));
        assert_eq!(text(&one, "access-control-allow-origin"), Some("https://a.example"));
        assert!(text(&one, "access-control-expose-headers").is_some_and(|it| it.contains("Date")));
        let mut timed = from_pairs([("timing-allow-origin", "https://a.example")]);
        assert!(allow_everyone(&mut timed));
        assert_eq!(text(&timed, "timing-allow-origin"), Some("https://a.example"));
    }

    #[test]
    fn names_that_an_origin_exposes_are_kept_and_those_that_players_read_are_added() {
        let exposed = |said: &[(&str, &str)]| {
            let mut fields = from_pairs(said.iter().copied());
            fields.insert("access-control-allow-origin", HeaderValue::from_static("*"));
            allow_everyone(&mut fields);
            let all = fields.get_all("access-control-expose-headers").iter();
            all.map(|it| it.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let name = "access-control-expose-headers";
        let [all] = exposed(&[]).try_into().unwrap();
        assert!(all.starts_with("Accept-Ranges, Age, ") && all.ends_with(", Server-Timing"), "{all}");
        let added = exposed(&[(name, "X-Own, date"), (name, "ETag")]);
        assert_eq!(added[..2], ["X-Own, date", "ETag"]);
        assert!(
            added[2].contains("Age") && !added[2].contains("Date") && !added[2].contains("ETag"),
            "{added:?}"
        );
        assert_eq!(exposed(&[(name, "*")]), ["*"]);
        assert_eq!(exposed(&[(name, &all)]), [all.as_str()]);
    }

    #[test]
    fn a_preflight_is_answered_for_requests_with_credentials_too() {
        let asked = from_pairs([
            ("origin", "https://a.example"),
            ("access-control-request-method", "GET"),
            ("access-control-request-headers", "x-token, range"),
        ]);
        assert!(!is_preflight_for_origin(&asked));
        let response = options(&asked, &[]);
        let of = |name: &str| text(response.headers(), name);
        assert_eq!(of("access-control-allow-origin"), Some("https://a.example"));
        assert_eq!(of("access-control-allow-credentials"), Some("true"));
        assert_eq!(of("access-control-allow-headers"), Some("x-token, range"));
        assert!(is_preflight_for_origin(&from_pairs([("access-control-request-method", "POST")])));
        assert_eq!(text(options(&HeaderMap::new(), &[]).headers(), "access-control-allow-origin"), Some("*"));
        let response = options(&HeaderMap::new(), &["OPTIONS".into(), "PUT".into()]);
        for name in ["allow", "access-control-allow-methods"] {
            assert_eq!(text(response.headers(), name), Some("GET, HEAD, OPTIONS, PUT"));
        }
    }
}
