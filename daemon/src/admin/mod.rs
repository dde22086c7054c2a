//! Admin interface on a Unix socket and a TCP listener, never on the players' port. Access rules are in [`guard`].
//!
//! The table [`ENDPOINTS`] lists its endpoints, except the operator's page (`GET /`, `/-/…`, see [`page`]) and `PURGE` with the
//! name of an object (see [`purge`]).

pub mod broadcast;
mod client;
mod endpoints;
#[cfg(feature = "kafka")]
pub mod fleet;
mod guard;
mod logs;
mod options;
mod page;
pub mod probe;
mod purge;
mod tls;
pub mod updates;

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use http::request::Parts as Head;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

pub use client::{Access, call};
pub use endpoints::{ENDPOINTS, Endpoint};
pub use guard::check_token;
pub use options::{Admin, AdminTls};
pub(crate) use tls::client_verifier;

use guard::{Guard, Peer};
use purge::{NotDone, PurgeRequest};

use carousel::limits::cut;
use carousel::name::ObjectKey;
use carousel::trust::KeyId;

use crate::access::redacted;
use crate::admin_refusals::AdminRefusal;
use crate::certificates::Certificates;
use crate::clock;
use crate::http::takes_gzip;
use crate::listen::Listening;
use crate::metrics;
use crate::status::Parts;
use crate::status::{flight_json, object_json};

carousel::limits! {
    /// Connections of operators at a time, by the socket and by TCP each.
    const MAX_CONNECTIONS: usize = 64, "connections" {
        why: "Operators and scrapers are a handful; neither locks the other out.",
        full: "The connection is closed and counted as `places`.",
        free: "When a connection ends.",
        test: "there_are_as_many_admin_connections_as_places",
    }
}

/// Time for a TLS handshake.
const HANDSHAKE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// Bytes of a refused request's path in the log: a text that is cut.
const MAX_LOGGED_PATH: usize = 128;
/// Log target of the audit lines; shown at every level unless the configuration turns it off.
pub const AUDIT: &str = "skycache::audit";

/// The listeners.
pub struct Listeners {
    unix: UnixListener,
    tcp: Vec<TcpListener>,
    tls: Option<TlsAcceptor>,
    guard: Guard,
}

/// Checks that no other daemon has this configuration's socket. Called before its ports are tried: a taken port says less.
///
/// # Errors
/// One line with what to do.
pub fn check_free(config: &Admin) -> Result<(), String> {
    let path = &config.socket;
    if std::os::unix::net::UnixStream::connect(path).is_err() {
        return Ok(());
    }
    Err(format!(
        "{}: another skycached answers here; stop it, or give [admin] socket another path",
        path.display()
    ))
}

/// Opens the socket and the listeners.
///
/// # Errors
/// One line with what to do.
pub fn listen(
    config: &Admin,
    listening: &mut Listening,
    certificates: &Arc<Certificates>,
) -> Result<Listeners, String> {
    let path = &config.socket;
    let failed = |err: io::Error| {
        format!(
            "cannot make the admin socket {}: {}; give [admin] socket a folder that skycached may write",
            path.display(),
            carousel::config::without_numbers(&err)
        )
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    // A socket without a listener is left over from a crash; one with a listener is another daemon's.
    check_free(config)?;
    // Nothing else than a socket is removed: a mistaken path must not cost a file.
    if std::fs::symlink_metadata(path).is_ok_and(|it| !it.file_type().is_socket()) {
        return Err(format!("{}: this is not a socket; give [admin] socket another path", path.display()));
    }
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(failed(err)),
        _ => {}
    }
    let unix = UnixListener::bind(path).map_err(failed)?;
    // Only its own user and group purge.
    let mode = config.mode().unwrap_or(0o660);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    if !config.socket_group.is_empty() {
        let group = group_number(&config.socket_group)?;
        std::os::unix::fs::chown(path, None, Some(group)).map_err(|err| {
            format!(
                "cannot give {} to the group {}: {}; skycached must be a member of it",
                path.display(),
                config.socket_group,
                carousel::config::plain(&err)
            )
        })?;
    }
    let from_std = |listener| TcpListener::from_std(listener).map_err(|err| format!("[admin] listen: {err}"));
    let tcp = listening.open_all(&config.listen, "[admin] listen")?.into_iter().map(from_std);
    let tcp = tcp.collect::<Result<_, _>>()?;
    let tls = config.tls.as_ref().map(|tls| tls::acceptor(tls, certificates)).transpose()?;
    let guard = Guard::new(config)?;
    Ok(Listeners { unix, tcp, tls, guard })
}

/// The number of a group: `/etc/group` knows those of a box and of a server's packages.
fn group_number(name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let number = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    number.ok_or_else(|| {
        format!("[admin] socket_group = {name:?}: /etc/group has no such group; make it, or give its number")
    })
}

struct AdminServer {
    parts: Arc<Parts>,
    registry: Registry,
    guard: Guard,
}

/// Serves until `stop` says so.
pub async fn run(listeners: Listeners, parts: Arc<Parts>, stop: watch::Receiver<bool>) {
    let Listeners { unix, tcp, tls, guard } = listeners;
    let server = Arc::new(AdminServer { registry: metrics::registry(Arc::clone(&parts)), parts, guard });
    let slots = || Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (local, remote) = (slots(), slots());
    let mut tasks = tokio::task::JoinSet::new();
    let pause = || tokio::time::sleep(std::time::Duration::from_millis(100));
    for listener in tcp {
        let (server, slots, tls) = (Arc::clone(&server), Arc::clone(&remote), tls.clone());
        tasks.spawn(async move {
            loop {
                let Ok((stream, address)) = listener.accept().await else {
                    pause().await;
                    continue;
                };
                let Some(slot) = server.place(&slots) else { continue };
                let (server, tls) = (Arc::clone(&server), tls.clone());
                tokio::spawn(async move {
                    let _slot = slot;
                    let address = address.ip().to_canonical();
                    let on_loopback =
                        address.is_loopback() && stream.local_addr().is_ok_and(|it| is_loopback(it.ip()));
                    let Some(tls) = tls else {
                        let peer = Peer::Tcp { address, on_loopback, certificate: None };
                        return serve(stream, server, peer).await;
                    };
                    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await
                    else {
                        server.parts.admin.add(AdminRefusal::Credential);
                        tracing::debug!(%address, "admin: TLS handshake failed");
                        return;
                    };
                    let certificate = tls::fingerprint(stream.get_ref().1);
                    serve(stream, server, Peer::Tcp { address, on_loopback, certificate }).await;
                });
            }
        });
    }
    tasks.spawn(async move {
        loop {
            let Ok((stream, _)) = unix.accept().await else {
                pause().await;
                continue;
            };
            let Some(slot) = server.place(&local) else { continue };
            let credentials = stream.peer_cred().ok();
            let peer = Peer::Unix {
                uid: credentials.as_ref().map(tokio::net::unix::UCred::uid),
                pid: credentials.as_ref().and_then(tokio::net::unix::UCred::pid),
            };
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let _slot = slot;
                serve(stream, server, peer).await;
            });
        }
    });
    let mut stop = stop;
    let _ = stop.wait_for(|stop| *stop).await;
}

fn is_loopback(address: std::net::IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    server: Arc<AdminServer>,
    peer: Peer,
) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let (head, _) = request.into_parts();
        let (server, peer) = (Arc::clone(&server), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(server.respond(&peer, &head).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(std::time::Duration::from_secs(30))
        .serve_connection(TokioIo::new(stream), service);
    // An operator's client that disconnects is not an error.
    let _ = connection.await;
}

fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Health: `fine`, or what is not.
fn state(fine: &'static str, wrong: &[String]) -> Response<Full<Bytes>> {
    if wrong.is_empty() {
        return text(StatusCode::OK, "text/plain", fine);
    }
    text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", wrong.join("\n") + "\n")
}

fn document(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    text(status, "application/json", format!("{value}\n"))
}

fn error(status: StatusCode, what: &str) -> Response<Full<Bytes>> {
    document(status, &json!({ "schema": 1, "error": what }))
}

impl AdminServer {
    /// A place for one more connection.
    fn place(&self, slots: &Arc<Semaphore>) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let slot = Arc::clone(slots).try_acquire_owned().ok();
        if slot.is_none() {
            self.parts.admin.add(AdminRefusal::Places);
        }
        slot
    }

    /// Answers who may ask, and writes down who has changed what.
    async fn respond(&self, peer: &Peer, head: &Head) -> Response<Full<Bytes>> {
        let is_command = !matches!(head.method, Method::GET | Method::HEAD) || purge::is_sidecar(head);
        let (method, target) = (&head.method, &head.uri);
        if let Some(part) = page::part(method, target.path(), takes_gzip(&head.headers)) {
            return part;
        }
        let mut purge = PurgeRequest::of(head);
        let fans_out = matches!(&purge, Some(Ok(it)) if it.fans_out());
        let costs = if fans_out { purge::FAN_OUT_COSTS } else { 1.0 };
        match self.guard.admit(peer, head, costs, clock::now()) {
            Ok(by) => {
                let named = match &mut purge {
                    Some(Ok(purge)) => Some((purge.named(), purge.shown(), purge.is_soft())),
                    _ => None,
                };
                let response = match purge {
                    Some(Ok(purge)) => {
                        let parts = Arc::clone(&self.parts);
                        // A control plane bans the same at all of its caches, whatever each holds.
                        let asks = !purge::is_sidecar(head);
                        let done = tokio::task::spawn_blocking(move || purge.run(&parts, asks)).await;
                        done.unwrap_or_else(|err| error(StatusCode::INTERNAL_SERVER_ERROR, &err.to_string()))
                    }
                    Some(Err(line)) => error(StatusCode::BAD_REQUEST, &line),
                    None => endpoints::answer(self, method, target),
                };
                if is_command {
                    let status = response.status().as_u16();
                    let target = redacted(&target.to_string()).into_owned();
                    if let Some((id, selects, soft)) = named {
                        let objects =
                            response.extensions().get().map_or(0, |purge::PurgedObjects(count)| *count);
                        tracing::info!(target: AUDIT, client = %peer, by, %method, %target, id, selects, soft, objects, status, "command");
                    } else {
                        tracing::info!(target: AUDIT, client = %peer, by, %method, %target, status, "command");
                    }
                }
                response
            }
            Err(refused) => {
                self.parts.admin.add(refused.why);
                let reason = refused.why.as_str();
                let path = redacted(shortened(target.path()));
                let path = &*path;
                // Lines are bounded by the rate; what is beyond it is a counter.
                if refused.why != AdminRefusal::Rate
                    && (is_command || refused.why == AdminRefusal::Credential)
                {
                    tracing::warn!(target: AUDIT, client = %peer, reason, %method, path, "refused");
                } else {
                    tracing::debug!(client = %peer, reason, %method, path, "admin: refused");
                }
                let problem = json!({ "schema": 1, "error": refused.line, "reason": reason });
                let mut response = document(refused.status, &problem);
                let fields = response.headers_mut();
                if refused.status == StatusCode::UNAUTHORIZED {
                    fields.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                }
                if refused.why == AdminRefusal::BadRequest {
                    fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                if let Some(seconds) = refused.retry_after_s {
                    fields.insert(header::RETRY_AFTER, seconds.into());
                }
                response
            }
        }
    }

    /// Why no player should be sent here: the end of the program, groups that cannot be joined, threads that stand still.
    fn failing(&self) -> Vec<String> {
        if self.parts.server.is_draining() {
            return vec!["draining".to_owned()];
        }
        let groups = self.parts.groups.all().into_iter().filter_map(|it| it.error);
        let stalled = self.parts.vitals.standing_still(clock::now());
        groups.chain(stalled.into_iter().map(|name| format!("thread {name} is stalled"))).collect()
    }

    /// Objects in the cache, and those on their way.
    fn objects(&self) -> Value {
        let held = self.parts.store.list_with_pins();
        let objects = held.iter().map(|(it, is_pinned)| {
            let mut value = object_json(it);
            value["pinned"] = (*is_pinned).into();
            value
        });
        let flights = self.parts.flights.list();
        json!({
            "schema": 1,
            "objects": objects.collect::<Vec<_>>(),
            "in_flight": flights.iter().map(|it| flight_json(it)).collect::<Vec<_>>(),
        })
    }

    /// Pins or unpins the object of parameter `key`.
    fn pin(&self, verb: Verb, uri: &http::Uri) -> Response<Full<Bytes>> {
        let Some(name) = parameter(uri, "key") else {
            return error(StatusCode::BAD_REQUEST, "no object is named; give its key or URL (parameter key)");
        };
        match set_pinned(&self.parts, verb, &name) {
            Ok(key) => {
                let done = json!({ "schema": 1, "key": key.as_str(), "done": verb.as_str() });
                document(StatusCode::OK, &done)
            }
            Err(not_done) => refusal(&not_done),
        }
    }

    /// An operator confirms an enrolled key, or takes it back.
    fn trust(&self, confirms: bool, id: &str) -> Response<Full<Bytes>> {
        let Some(key) = KeyId::from_text(id) else {
            let what = format!(
                "{id:?} is not an id of a root key, which has 16 hexadecimal digits; `skycached trust list` shows those that there are"
            );
            return error(StatusCode::BAD_REQUEST, &what);
        };
        let trust = &self.parts.trust;
        let (done, word) = match confirms {
            true => (trust.confirm(key), "confirmed"),
            false => (trust.forget(key), "forgotten"),
        };
        if !done {
            let what = format!(
                "{id} is not an enrolled key; `skycached trust list` shows what is, pinned keys are the configuration's"
            );
            return error(StatusCode::NOT_FOUND, &what);
        }
        tracing::info!(%key, done = word, "the trust in a root key was changed by an operator");
        document(StatusCode::OK, &json!({ "schema": 1, "key": id, "done": word }))
    }
}

/// Whether an object is kept from eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Pin,
    Unpin,
}

impl Verb {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Unpin => "unpin",
        }
    }
}

/// Pins or unpins an object; gives back its key.
///
/// # Errors
/// If the name is malformed, or no object of this name is held.
fn set_pinned(parts: &Parts, verb: Verb, name: &str) -> Result<ObjectKey, NotDone> {
    check_scheme(name).map_err(NotDone::Wrong)?;
    // A URL is as good as the key that it has, and that by which a player asks for it is as good as either.
    let key = ObjectKey::from_name(name, None)
        .map_err(|err| NotDone::Wrong(format!("{name}: {}", err.as_str())))?;
    let keys: Vec<ObjectKey> = std::iter::once(key).chain(parts.server.keys_of(name)).collect();
    let found = keys.iter().find(|key| parts.store.pin(key.as_str(), verb == Verb::Pin));
    let key = found.cloned().ok_or_else(|| purge::not_held(name, keys.iter()))?;
    tracing::info!(%key, action = verb.as_str(), "an object was pinned or unpinned by an operator");
    Ok(key)
}

fn refusal(not_done: &NotDone) -> Response<Full<Bytes>> {
    match not_done {
        NotDone::Wrong(why) => error(StatusCode::BAD_REQUEST, why),
        NotDone::Nothing(why) => error(StatusCode::NOT_FOUND, why),
    }
}

/// Whether a name, prefix or pattern of an operator is a key, or a URL that objects are asked for by. Keys have no scheme, so that
/// any would do.
fn check_scheme(name: &str) -> Result<(), String> {
    let Some((scheme, rest)) = name.split_once("://") else { return Ok(()) };
    let is_scheme =
        !scheme.is_empty() && scheme.bytes().all(|it| it.is_ascii_alphanumeric() || b"+-.".contains(&it));
    if !is_scheme || ["http", "https", "file"].iter().any(|it| scheme.eq_ignore_ascii_case(it)) {
        return Ok(());
    }
    Err(format!(
        "{name}: objects have no URL of {scheme}://; give https://{rest}, or the key as `skycached ls` shows it"
    ))
}

/// A path of an unknown client as the log shows it.
fn shortened(path: &str) -> &str {
    cut(path, MAX_LOGGED_PATH)
}

/// The value of a parameter of the query, percent-decoded.
fn parameter(uri: &http::Uri, name: &str) -> Option<String> {
    parameters(uri, name)?.into_iter().next()
}

/// All values of a parameter of the query, percent-decoded; `None` if one cannot be.
fn parameters(uri: &http::Uri, name: &str) -> Option<Vec<String>> {
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs.filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(decoded).collect()
}

fn decoded(raw: &str) -> Option<String> {
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
    fn a_scheme_that_no_object_is_asked_for_by_is_refused() {
        for name in
            ["https://h/a", "HTTP://h/a", "h/a", "file:///out/a", "urn:dvb:x", "*://h/a", "h/a?u=x://y"]
        {
            assert_eq!(check_scheme(name), Ok(()), "{name}");
        }
        let why = check_scheme("nonsense://h/a").unwrap_err();
        assert!(why.contains("no URL of nonsense://; give https://h/a, or the key"), "{why}");
        assert!(check_scheme("htps://h/*").is_err());
    }

    #[test]
    fn parameters_are_decoded() {
        let uri: http::Uri = "/x?a=1&key=h%2Fa%3Fb%253D&keys=2".parse().unwrap();
        assert_eq!(parameter(&uri, "key").as_deref(), Some("h/a?b%3D"));
        assert_eq!(parameter(&uri, "none"), None);
        assert_eq!(parameter(&"/x?key=%zz".parse().unwrap(), "key"), None);
    }

    #[test]
    fn a_path_of_a_log_is_short_whatever_its_characters() {
        let uri: http::Uri = "/ä".repeat(1000).parse().unwrap();
        assert_eq!(shortened(uri.path()), "/ä".repeat(42) + "/");
        assert_eq!(shortened("/ä"), "/ä");
    }
}
