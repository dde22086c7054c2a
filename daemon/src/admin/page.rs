//! The operator's page: its parts, and the samples of its charts. The parts contain no data, so they are served without a
//! credential; the page prompts for the token itself.

use http::{Method, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::page::assets;

/// Scripts, styles and data only from this listener.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A part of the page, if the request is for one; compressed for clients that take gzip.
pub(super) fn part(method: &Method, path: &str, takes_gzip: bool) -> Option<Response<Full<Bytes>>> {
    let name = match path {
        "/" => "admin.html",
        // Players of media are for viewers.
        "/-/hls.js" | "/-/dash.js" | "/-/main.js" | "/-/index.html" => return None,
        _ => path.strip_prefix("/-/")?,
    };
    let asset = assets::find(name).filter(|_| matches!(*method, Method::GET | Method::HEAD))?;
    let body = if takes_gzip { Bytes::from_static(asset.gzip) } else { asset.plain().into() };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::OK;
    let fields = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, asset.content_type),
        (header::VARY, "Accept-Encoding"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ] {
        fields.insert(name, http::HeaderValue::from_static(value));
    }
    if takes_gzip {
        fields.insert(header::CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
    }
    Some(response)
}

/// Samples after `since_ms`, and the state of the last five seconds.
pub(super) fn samples(live: &crate::page::Live, since_ms: i64) -> Value {
    let (samples, state) = live.since(since_ms);
    json!({ "schema": 1, "samples": samples, "state": state })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_compressed_for_those_who_take_it() {
        for takes_gzip in [true, false] {
            let Some(part) = part(&Method::GET, "/", takes_gzip) else { panic!("no page") };
            assert_eq!(part.headers().contains_key(header::CONTENT_ENCODING), takes_gzip);
            assert_eq!(part.headers()[header::VARY], "Accept-Encoding");
        }
    }
}
