//! The endpoints of the admin interface: path, methods, answer and a sentence for each. Routing, `Allow`, the text of a 404 and the
//! checks of `docs/openapi.json` and `docs/api.md` read this table. Beside it there are only the operator's page and `PURGE`,
//! whose path is the name of an object.

use std::path::Path;

use http::{Method, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::json;

use super::{AdminServer, Verb, document, error, logs, page, parameter, state, text};
use crate::clock;
use crate::metrics;
use crate::status::{status_json, trust_json};

/// Answer of an endpoint.
type Handler = fn(&AdminServer, &Uri) -> Response<Full<Bytes>>;

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// Path.
    pub path: &'static str,
    /// Methods, as `Allow` has them.
    pub methods: &'static str,
    /// Its answer or effect.
    pub about: &'static str,
    /// `None` for purges, which [`super::purge`] recognises and answers.
    handler: Option<Handler>,
}

const READ: &str = "GET, HEAD";

/// Every endpoint.
pub const ENDPOINTS: [Endpoint; 17] = [
    read("/metrics", "OpenMetrics text", |server, _| match metrics::encode(&server.registry) {
        Ok(body) => text(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", body),
        Err(err) => error(StatusCode::INTERNAL_SERVER_ERROR, &err.to_string()),
    }),
    read(
        "/healthz",
        "200 while receivers and workers make progress, else 503 with those that do not",
        |server, _| state("ok\n", &server.parts.vitals.standing_still(clock::now())),
    ),
    read(
        "/readyz",
        "200 while no wanted group fails, every thread makes progress and no stop has begun, else 503 with what fails",
        |server, _| state("ready\n", &server.failing()),
    ),
    read("/api/v1/status", "the state of everything, as JSON", |server, _| {
        document(StatusCode::OK, &status_json(&server.parts))
    }),
    read("/api/v1/objects", "objects held and in flight", |server, _| {
        document(StatusCode::OK, &server.objects())
    }),
    read("/api/v1/samples", "samples of the last ten minutes, for charts (`since_ms=`)", |server, uri| {
        let since_ms = parameter(uri, "since_ms").map_or(Ok(0), |it| it.parse());
        let Some(since_ms) = since_ms.ok().filter(|it| (0..1 << 53).contains(it)) else {
            return error(StatusCode::BAD_REQUEST, "since_ms: give whole milliseconds since 1970");
        };
        document(StatusCode::OK, &page::samples(server.parts.server.live(), since_ms))
    }),
    read("/api/v1/logs", "the newest lines of the log (`level=`, `since=`, `limit=`)", |_, uri| {
        match logs::answer(uri) {
            Ok(lines) => document(StatusCode::OK, &lines),
            Err(why) => error(StatusCode::BAD_REQUEST, &why),
        }
    }),
    read(
        "/api/v1/firmware",
        "slots of an appliance, bundles, and the updates that are offered",
        |server, _| {
            let slots = crate::firmware::report(Path::new(crate::firmware::RUN));
            let mut value = slots.unwrap_or_else(|| json!({ "schema": 1 }));
            value["offered"] = server.parts.updates.to_json();
            document(StatusCode::OK, &value)
        },
    ),
    read("/api/v1/trust", "keys that sign what is received, and what was refused", |server, _| {
        let refused = server.parts.receive.losses().unsigned_protocol;
        let mut value = trust_json(&server.parts.trust, refused);
        value["schema"] = 1.into();
        document(StatusCode::OK, &value)
    }),
    change("/api/v1/trust/confirm", "keep trusting an enrolled root key (`key=`)", |server, uri| {
        server.trust(true, parameter(uri, "key").as_deref().unwrap_or_default())
    }),
    change("/api/v1/trust/forget", "trust an enrolled root key no longer (`key=`)", |server, uri| {
        server.trust(false, parameter(uri, "key").as_deref().unwrap_or_default())
    }),
    change("/api/v1/pin", "keep an object from eviction (`key=`)", |server, uri| server.pin(Verb::Pin, uri)),
    change("/api/v1/unpin", "let an object be evicted again (`key=`)", |server, uri| {
        server.pin(Verb::Unpin, uri)
    }),
    purge("/api/v1/purge", "POST", "remove objects, or make them stale"),
    purge("/api/v1/ban", "POST", "remove every object whose key matches (`pattern=`)"),
    purge("/cache/purge", "GET, POST", "the same by the path of common cache sidecars (`url=`)"),
    purge("/cache/ban", "GET, POST", "the same by the path of common cache sidecars (`pattern=`)"),
];

const fn read(path: &'static str, about: &'static str, handler: Handler) -> Endpoint {
    Endpoint { path, methods: READ, about, handler: Some(handler) }
}

const fn change(path: &'static str, about: &'static str, handler: Handler) -> Endpoint {
    Endpoint { path, methods: "POST", about, handler: Some(handler) }
}

const fn purge(path: &'static str, methods: &'static str, about: &'static str) -> Endpoint {
    Endpoint { path, methods, about, handler: None }
}

/// Answers a request that is not a purge.
pub(super) fn answer(server: &AdminServer, method: &Method, uri: &Uri) -> Response<Full<Bytes>> {
    let Some(endpoint) = ENDPOINTS.iter().find(|it| it.path == uri.path()) else {
        let paths = ENDPOINTS.map(|it| it.path).join(", ");
        return error(StatusCode::NOT_FOUND, &format!("there is no such endpoint; there are {paths}"));
    };
    match endpoint.handler {
        Some(handler) if endpoint.methods.split(", ").any(|it| it == method.as_str()) => handler(server, uri),
        _ => {
            let line = format!("{method} is not for {}; it takes {}", endpoint.path, endpoint.methods);
            let mut response = error(StatusCode::METHOD_NOT_ALLOWED, &line);
            let allowed = http::HeaderValue::from_static(endpoint.methods);
            response.headers_mut().insert(http::header::ALLOW, allowed);
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::purge::PurgeRequest;
    use super::*;

    #[test]
    fn purges_and_no_others_are_left_to_the_room_of_purges() {
        for endpoint in &ENDPOINTS {
            for method in ["GET", "HEAD", "POST", "DELETE"] {
                let request = http::Request::builder().method(method).uri(endpoint.path).body(()).unwrap();
                let is_purge = PurgeRequest::of(&request.into_parts().0).is_some();
                let takes = endpoint.methods.split(", ").any(|it| it == method);
                assert_eq!(is_purge, takes && endpoint.handler.is_none(), "{method} {}", endpoint.path);
            }
        }
    }

    #[test]
    fn paths_are_there_once_and_about_is_said() {
        let mut paths = ENDPOINTS.map(|it| it.path).to_vec();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), ENDPOINTS.len());
        assert!(ENDPOINTS.iter().all(|it| !it.about.is_empty() && it.path.starts_with('/')));
    }
}
