//! Cross-origin requests: preflights that the box answers itself.
//!
//! Scripts of any site may read what the box has (see [`super::head::allow_everyone`]); what an origin says goes before that.
//! A preflight of a GET or HEAD is answered here, so that players of carousels need no origin: with the site's name and the
//! fields that it asks about, since `*` does not count in requests with credentials. That lets the request be made; whether its
//! response may be read is for the response to say. A preflight of another method is for the origin.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::METHODS;
use super::body::PlayerBody;
use super::head::allow_everyone;

const ALLOWED_FIELDS: &str = "*, Authorization, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status, If-Match, \
                              If-Modified-Since, If-None-Match, If-Range, If-Unmodified-Since, Range";

/// Whether an OPTIONS request asks whether a method may be used that only the origin knows.
pub(super) fn is_preflight_for_origin(request: &HeaderMap) -> bool {
    let asked = request.get(header::ACCESS_CONTROL_REQUEST_METHOD).map(HeaderValue::as_bytes);
    asked.is_some_and(|method| method != b"GET" && method != b"HEAD")
}

/// The answer to OPTIONS, preflight or not.
pub(super) fn options(request: &HeaderMap) -> Response<PlayerBody> {
    let mut response = Response::new(PlayerBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let names = [
        (header::ALLOW, METHODS),
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_FIELDS),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    for (name, value) in names {
        headers.insert(name, HeaderValue::from_static(value));
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
    fn a_preflight_is_answered_for_requests_with_credentials_too() {
        let asked = from_pairs([
            ("origin", "https://a.example"),
            ("access-control-request-method", "GET"),
            ("access-control-request-headers", "x-token, range"),
        ]);
        assert!(!is_preflight_for_origin(&asked));
        let response = options(&asked);
        let of = |name: &str| text(response.headers(), name);
        assert_eq!(of("access-control-allow-origin"), Some("https://a.example"));
        assert_eq!(of("access-control-allow-credentials"), Some("true"));
        assert_eq!(of("access-control-allow-headers"), Some("x-token, range"));
        assert!(is_preflight_for_origin(&from_pairs([("access-control-request-method", "POST")])));
        assert_eq!(text(options(&HeaderMap::new()).headers(), "access-control-allow-origin"), Some("*"));
    }
}
