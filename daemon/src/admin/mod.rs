//! Admin interface on a Unix socket and a loopback listener, never on the players' port.
//!
//! | request | answer |
//! |---|---|
//! | `GET /metrics` | OpenMetrics text |
//! | `GET /healthz` | 200 while receivers and workers turn, else 503 with those that stand still |
//! | `GET /readyz` | 200 when no group that it wants is failing, else 503 with what is |
//! | `GET /api/v1/status` | everything, as JSON |
//! | `GET /api/v1/objects` | objects held and in flight |
//! | `POST /api/v1/purge?key=`, `pin?key=`, `unpin?key=` | one object, by key, URL, or a player's URL; 404 if it is not there |
//! | `POST /api/v1/ban?pattern=` | every object whose key matches (`*`, `?`) is purged |
//! | `PURGE /authority/path` | as `purge` |

mod client;
mod options;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};

pub use client::call;
pub use options::Admin;

use crate::clock;
use crate::listen::Listening;
use crate::metrics;
use crate::status::Parts;
use crate::status::{flight_json, object_json, status_json};
use crate::store::EvictReason;

/// Operators' connections at a time.
const MAX_CONNECTIONS: usize = 64;

/// The listeners.
#[derive(Debug)]
pub struct Listeners {
    unix: UnixListener,
    tcp: Vec<TcpListener>,
}

/// Opens the socket and the listeners.
///
/// # Errors
/// One line with what to do.
pub fn listen(config: &Admin, listening: &mut Listening) -> Result<Listeners, String> {
    let path = &config.socket;
    let failed = |err: io::Error| {
        format!(
            "cannot make the admin socket {}: {}; give [admin] socket a folder that skycached may write",
            path.display(),
            carousel::config::without_numbers(&err.to_string())
        )
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    // A socket that nobody answers is left over from a crash; one that answers is another daemon's.
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(format!(
            "{}: another skycached answers here; stop it, or give [admin] socket another path",
            path.display()
        ));
    }
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(failed(err)),
        _ => {}
    }
    let unix = UnixListener::bind(path).map_err(failed)?;
    // Only its own user and group purge.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    let open = |address: &SocketAddr| {
        let listener = listening.open(*address, "[admin] listen")?;
        TcpListener::from_std(listener).map_err(|err| format!("cannot listen on {address}: {err}"))
    };
    Ok(Listeners { unix, tcp: config.listen.iter().map(open).collect::<Result<_, _>>()? })
}

struct Admins {
    parts: Arc<Parts>,
    registry: Registry,
}

/// Serves until `stop` says so.
pub async fn run(listeners: Listeners, parts: Arc<Parts>, stop: watch::Receiver<bool>) {
    let admins = Arc::new(Admins { registry: metrics::registry(Arc::clone(&parts)), parts });
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners.tcp {
        let (admins, slots) = (Arc::clone(&admins), Arc::clone(&slots));
        tasks.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => serve(stream, &admins, &slots),
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
                }
            }
        });
    }
    let unix = listeners.unix;
    tasks.spawn(async move {
        loop {
            match unix.accept().await {
                Ok((stream, _)) => serve(stream, &admins, &slots),
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            }
        }
    });
    let mut stop = stop;
    let _ = stop.wait_for(|stop| *stop).await;
}

fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    admins: &Arc<Admins>,
    slots: &Arc<Semaphore>,
) {
    let Ok(slot) = Arc::clone(slots).try_acquire_owned() else { return };
    let admins = Arc::clone(admins);
    tokio::spawn(async move {
        let _slot = slot;
        let service = service_fn(|request: Request<hyper::body::Incoming>| {
            let response = admins.answer(request.method(), request.uri());
            async move { Ok::<_, std::convert::Infallible>(response) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(std::time::Duration::from_secs(30))
            .serve_connection(TokioIo::new(stream), service);
        // An operator's client that breaks off is no news.
        let _ = connection.await;
    });
}

fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

fn document(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    text(status, "application/json", format!("{value}\n"))
}

fn error(status: StatusCode, what: &str) -> Response<Full<Bytes>> {
    document(status, &json!({ "schema": 1, "error": what }))
}

impl Admins {
    fn answer(&self, method: &Method, uri: &http::Uri) -> Response<Full<Bytes>> {
        let store = &self.parts.store;
        let path = uri.path();
        if method.as_str() == "PURGE" {
            let name = uri.path_and_query().map_or("", |it| it.as_str()).trim_start_matches('/');
            return self.change("purge", name);
        }
        let action = path.strip_prefix("/api/v1/");
        if let (Some(action @ ("purge" | "pin" | "unpin" | "ban")), &Method::POST) = (action, method) {
            let wanted = if action == "ban" { "pattern" } else { "key" };
            let Some(value) = parameter(uri, wanted) else {
                return error(StatusCode::BAD_REQUEST, &format!("give ?{wanted}="));
            };
            return self.change(action, &value);
        }
        if *method != Method::GET && *method != Method::HEAD {
            return error(StatusCode::METHOD_NOT_ALLOWED, "GET reads; POST purges, pins, unpins and bans");
        }
        match path {
            "/metrics" => match metrics::encode(&self.registry) {
                Ok(body) => {
                    text(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", body)
                }
                Err(err) => error(StatusCode::INTERNAL_SERVER_ERROR, &err.to_string()),
            },
            "/healthz" => {
                let stand = self.parts.vitals.standing_still(clock::now());
                if stand.is_empty() {
                    text(StatusCode::OK, "text/plain", "ok\n")
                } else {
                    text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", stand.join("\n") + "\n")
                }
            }
            "/readyz" => {
                let failing: Vec<String> =
                    self.parts.groups.all().into_iter().filter_map(|it| it.error).collect();
                if failing.is_empty() {
                    text(StatusCode::OK, "text/plain", "ready\n")
                } else {
                    text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", failing.join("\n") + "\n")
                }
            }
            "/api/v1/status" => document(StatusCode::OK, &status_json(&self.parts)),
            "/api/v1/objects" => {
                let objects: Vec<Value> = store.list().iter().map(|it| object_json(it)).collect();
                let flights: Vec<Value> =
                    self.parts.flights.list().iter().map(|it| flight_json(it)).collect();
                document(StatusCode::OK, &json!({ "schema": 1, "objects": objects, "in_flight": flights }))
            }
            _ => error(
                StatusCode::NOT_FOUND,
                "there is /metrics, /healthz, /readyz, /api/v1/status and /api/v1/objects",
            ),
        }
    }

    fn change(&self, action: &str, name: &str) -> Response<Full<Bytes>> {
        let store = &self.parts.store;
        if action == "ban" {
            // Further objects of a name (`#1` …) are meant with it.
            let matching = |key: &str| {
                let name_of_all = key.split('#').next().unwrap_or(key);
                carousel::mabr::playback_path_matches(name, name_of_all)
            };
            let keys: Vec<String> = store
                .list()
                .iter()
                .map(|it| it.meta().key.as_str().to_owned())
                .filter(|key| matching(key))
                .collect();
            let gone = keys.iter().filter(|key| store.remove(key, EvictReason::Purged)).count();
            tracing::info!(pattern = name, gone, "banned");
            return document(StatusCode::OK, &json!({ "schema": 1, "purged": gone }));
        }
        // A URL is as good as the key that it has, and that by which a player asks for it is as good as either.
        let key = match carousel::name::ObjectKey::from_name(name, None) {
            Ok(key) => key,
            Err(err) => return error(StatusCode::BAD_REQUEST, &format!("{name}: {}", err.as_str())),
        };
        let done =
            std::iter::once(key.clone()).chain(self.parts.player.keys_of(name)).find(|key| match action {
                "purge" => store.remove_all(key, EvictReason::Purged),
                pin => store.pin(key.as_str(), pin == "pin"),
            });
        let Some(key) = done else {
            return error(
                StatusCode::NOT_FOUND,
                &format!("{key} is not in the cache; `skycached ls --filter NAME` lists what is"),
            );
        };
        tracing::info!(%key, action, "by an operator");
        document(StatusCode::OK, &json!({ "schema": 1, "key": key.as_str(), "done": action }))
    }
}

/// The value of a parameter of the query, percent-decoded.
fn parameter(uri: &http::Uri, name: &str) -> Option<String> {
    let raw = uri.query()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// Removes the socket when the daemon has ended.
pub fn forget(socket: &Path) {
    // Gone already is as good.
    let _ = std::fs::remove_file(socket);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let uri: http::Uri = "/x?a=1&key=h%2Fa%3Fb%253D&keys=2".parse().unwrap();
        assert_eq!(parameter(&uri, "key").as_deref(), Some("h/a?b%3D"));
        assert_eq!(parameter(&uri, "none"), None);
        assert_eq!(parameter(&"/x?key=%zz".parse().unwrap(), "key"), None);
    }
}
