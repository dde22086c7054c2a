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

/// A part of the page, if the request is for one.
pub(super) fn part(method: &Method, path: &str) -> Option<Response<Full<Bytes>>> {
    let name = match path {
        "/" => "admin.html",
        // Players of media are for viewers.
        "/-/hls.js" | "/-/dash.js" | "/-/main.js" | "/-/index.html" => return None,
        _ => path.strip_prefix("/-/")?,
    };
    let asset = assets::find(name).filter(|_| matches!(*method, Method::GET | Method::HEAD))?;
    let mut response = Response::new(Full::new(Bytes::from_static(asset.gzip)));
    *response.status_mut() = StatusCode::OK;
    let fields = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, asset.content_type),
        (header::CONTENT_ENCODING, "gzip"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ] {
        fields.insert(name, http::HeaderValue::from_static(value));
    }
    Some(response)
}

/// Samples after `since_ms`, and the state of the last five seconds.
pub(super) fn samples(live: &crate::page::Live, since_ms: i64) -> Value {
    let (samples, state) = live.since(since_ms);
    json!({ "schema": 1, "samples": samples, "state": state })
}
