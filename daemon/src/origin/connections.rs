//! Connections to origins: pools of HTTP/1.1 and HTTP/2, their limits, and requests that find a kept connection closed.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use http::header::HOST;
use http::{Method, Request, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::{Connected, HttpInfo, capture_connection};
use hyper_util::client::legacy::{Client as HyperClient, Error as HyperError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use lru::LruCache;

use super::addresses::{AddressPolicy, Connector};
use super::icy;
use super::lock;
use super::message::{RequestBody, no_body};
use super::options::{ByBase, Route};

carousel::limits! {
    /// Header fields of a response of an origin.
    pub(super) const MAX_HEADERS: usize = 256, "fields" {
        why: "Origins behind several proxies send more than 100.",
        full: "The request fails as `no_answer`.",
        free: "Holds for one response.",
        test: "responses_with_too_many_fields_are_refused",
    }

    /// Bytes of the head of a response of an origin.
    pub(super) const MAX_HEAD_BYTES: usize = 400 << 10, "bytes" {
        why: "10,000 surrogate keys of 40 bytes; players get none of them.",
        full: "The request fails as `no_answer`.",
        free: "Holds for one response.",
        test: "heads_that_are_too_long_are_refused",
    }

    /// Connections remembered as having carried a response.
    const MAX_USED_CONNECTIONS: usize = 4096, "connections" {
        why: "A pool has tens; forgetting one costs the repetition of one request.",
        full: "The connection that was used longest ago is forgotten.",
        free: "When others are used.",
        test: "connections_that_are_remembered_are_bounded",
    }

    /// Flow-control window of a body over HTTP/2.
    pub(super) const MAX_STREAM_WINDOW_BYTES: u32 = 512 << 10, "bytes" {
        why: "40 Mbit/s at 100 ms. It is what may be under way to a player who reads slowly.",
        full: "The origin sends no more of this body (RFC 9113 section 5.2).",
        free: "When the body is read.",
        test: "bodies_over_http2_fill_windows_of_their_own_alone",
    }

    /// Flow-control window of a connection over HTTP/2.
    const MAX_CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1, "bytes" {
        why: "One connection has the bodies of all players, each with its own window; the largest window of RFC 9113 section 6.9.1.",
        full: "The origin sends no more of any body. 4,095 bodies with full windows reach it.",
        free: "When bodies are read.",
        test: "bodies_over_http2_fill_windows_of_their_own_alone",
    }
}

/// Interval of pings on HTTP/2 connections with requests, and the time for an answer.
const PING: Duration = Duration::from_secs(5);
/// Longest time to connect, regardless of routes: ends attempts without waiting requests.
const MAX_CONNECT: Duration = Duration::from_secs(60);
/// Idle connections that hyper's pool keeps for each origin, for 30 s: the usual number of concurrent requests of a box.
/// Further ones close after their response.
const MAX_IDLE: usize = 32;

pub(super) type Pool = HyperClient<HttpsConnector<icy::Connector>, RequestBody>;

/// Connections to all origins and parents.
#[derive(Debug)]
pub(super) struct Connections {
    /// HTTP/2 where an origin offers it by TLS.
    any: Pools,
    /// HTTP/1.1 for routes without HTTP/2, and for requests with a `Host` other than the URL's: `:authority` is that of the URL, by
    /// which connections are kept.
    http1: Pools,
    /// Routes without HTTP/2.
    http2: RwLock<Arc<ByBase<bool>>>,
    policy: Arc<AddressPolicy>,
    /// Both addresses of connections that have carried a response.
    used: Mutex<LruCache<(SocketAddr, SocketAddr), ()>>,
    resent: AtomicU64,
}

impl Connections {
    /// None yet. They lead only to addresses that `policy` admits.
    pub(super) fn new(tls: &rustls::ClientConfig, policy: &Arc<AddressPolicy>, routes: &[Route]) -> Self {
        // Limits of routes end a request earlier; this one ends requests without waiting clients.
        let connector = Connector { policy: Arc::clone(policy), connect_timeout: MAX_CONNECT };
        let connector = icy::Connector(connector);
        let builder =
            || hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
        let http1 = builder().enable_http1().wrap_connector(connector.clone());
        let any = builder().enable_http1().enable_http2().wrap_connector(connector);
        Self {
            any: Pools::new(&any),
            http1: Pools::new(&http1),
            http2: RwLock::new(http2_by_base(routes)),
            policy: Arc::clone(policy),
            used: Mutex::new(LruCache::new(const { NonZeroUsize::new(MAX_USED_CONNECTIONS).unwrap() })),
            resent: AtomicU64::new(0),
        }
    }

    /// Applies the routes of a new configuration to subsequent requests.
    pub(super) fn configure(&self, routes: &[Route]) {
        *self.http2.write().unwrap_or_else(PoisonError::into_inner) = http2_by_base(routes);
    }

    /// The pool for requests of the box itself.
    pub(super) const fn pool(&self) -> &Pool {
        &self.any.kept
    }

    /// The clients for a request. A `Host` that the URL gives as well is removed: HTTP/1.1 gets it back.
    fn pools(&self, request: &mut Request<RequestBody>) -> &Pools {
        let uri = request.uri();
        if uri.scheme_str() != Some("https") {
            return &self.any;
        }
        if let Some(host) = request.headers().get(HOST) {
            if uri.authority().is_none_or(|it| !host.as_bytes().eq_ignore_ascii_case(it.as_str().as_bytes()))
            {
                return &self.http1;
            }
            request.headers_mut().remove(HOST);
        }
        let by_route = self.http2.read().unwrap_or_else(PoisonError::into_inner);
        if by_route.of(&request.uri().to_string()).is_some_and(|(is_wanted, _)| *is_wanted) {
            &self.any
        } else {
            &self.http1
        }
    }

    /// The response to a request. A repeatable request that finds a kept connection closed is resent on a new connection:
    /// an origin may close an idle connection while a request is in transit (RFC 9112 section 9.3.1).
    pub(super) async fn respond(
        &self,
        mut request: Request<RequestBody>,
        connect: Duration,
    ) -> Result<http::Response<Incoming>, Unanswered> {
        let pools = self.pools(&mut request);
        let again = repeatable(&request);
        let result = connected(&pools.kept, request, connect, &self.policy).await;
        let err = match result {
            Ok(response) => {
                let ends = response.extensions().get::<HttpInfo>().map(ends);
                let was_used = ends.is_some_and(|ends| lock(&self.used).put(ends, ()).is_some());
                return match again {
                    // 408 concerns the idle connection that the origin closes, not this request (RFC 9110 section 15.5.9).
                    Some(again) if was_used && response.status() == StatusCode::REQUEST_TIMEOUT => {
                        self.resent.fetch_add(1, Ordering::Relaxed);
                        connected(&pools.unpooled, again, connect, &self.policy).await
                    }
                    _ => Ok(response),
                };
            }
            Err(Unanswered::Failed(err)) => err,
            Err(err) => return Err(err),
        };
        let was_used = err.connect_info().and_then(ends_of).is_some_and(|ends| {
            // It stays there: an HTTP/2 connection that ends has other requests, too.
            lock(&self.used).contains(&ends)
        });
        match again {
            Some(again) if was_used && is_closed(&err) => {
                self.resent.fetch_add(1, Ordering::Relaxed);
                connected(&pools.unpooled, again, connect, &self.policy).await
            }
            _ => Err(Unanswered::Failed(err)),
        }
    }

    /// Requests that found a kept connection closed and were resent.
    pub(super) fn resent(&self) -> u64 {
        self.resent.load(Ordering::Relaxed)
    }
}

/// Clients for one set of protocols.
#[derive(Debug)]
struct Pools {
    kept: Pool,
    /// As `kept`, without kept connections, for requests that found one closed.
    unpooled: Pool,
}

impl Pools {
    fn new(connector: &HttpsConnector<icy::Connector>) -> Self {
        let build = |max_idle| {
            HyperClient::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(Duration::from_secs(30))
                .pool_max_idle_per_host(max_idle)
                .http1_max_headers(MAX_HEADERS)
                .http1_max_buf_size(MAX_HEAD_BYTES)
                .http2_max_header_list_size(MAX_HEAD_BYTES as u32)
                .http2_initial_stream_window_size(MAX_STREAM_WINDOW_BYTES)
                .http2_initial_connection_window_size(MAX_CONNECTION_WINDOW_BYTES)
                // A connection whose peer is gone would take all requests of its origin with it.
                .http2_keep_alive_interval(PING)
                .http2_keep_alive_timeout(PING)
                // Header lines that a proxy must correct (RFC 9112 section 5.1) and may join (section 5.2). Invalid lines stay
                // an error: hyper would drop a Cache-Control or Transfer-Encoding with a control character, and its meaning
                // with it.
                .http1_allow_spaces_after_header_name_in_responses(true)
                .http1_allow_obsolete_multiline_headers_in_responses(true)
                .build(connector.clone())
        };
        Self { kept: build(MAX_IDLE), unpooled: build(0) }
    }
}

/// Failure before a response.
pub(super) enum Unanswered {
    /// No connection within this time.
    NoConnection(Duration),
    /// Name servers have not answered within this time.
    NoAddress(Duration),
    Failed(HyperError),
}

/// The response to a request, which must get a connection, kept or new, within `limit`.
async fn connected(
    client: &Pool,
    mut request: Request<RequestBody>,
    limit: Duration,
    policy: &AddressPolicy,
) -> Result<http::Response<Incoming>, Unanswered> {
    let mut connection = capture_connection(&mut request);
    let uri = request.uri().clone();
    let too_late = async {
        if tokio::time::timeout(limit, connection.wait_for_connection_metadata()).await.is_ok() {
            std::future::pending::<()>().await;
        }
        // The lookup ends with the request below.
        if policy.is_looked_up(&uri) { Unanswered::NoAddress(limit) } else { Unanswered::NoConnection(limit) }
    };
    tokio::select! {
        biased;
        response = client.request(request) => response.map_err(Unanswered::Failed),
        err = too_late => Err(err),
    }
}

/// A copy of a request, if it may be sent twice: its method is idempotent (RFC 9110 section 9.2.2) and it has no body.
fn repeatable(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let is_idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    );
    if !is_idempotent || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(no_body());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

/// The source chain of an error.
fn causes(err: &HyperError) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(err), |it| it.source())
}

/// The error of type `E` in the source chain.
pub(super) fn cause_of<E: std::error::Error + 'static>(err: &HyperError) -> Option<&E> {
    causes(err).find_map(|it| it.downcast_ref())
}

/// Whether the connection ended before the response's head.
fn is_closed(err: &HyperError) -> bool {
    for it in causes(err) {
        if let Some(hyper) = it.downcast_ref::<hyper::Error>()
            && (hyper.is_incomplete_message() || hyper.is_canceled() || hyper.is_closed())
        {
            return true;
        }
        if let Some(h2) = it.downcast_ref::<h2::Error>() {
            // The server has not processed the request (RFC 9113 section 8.7), or its connection is gone.
            let is_over = h2.is_go_away() && h2.reason() == Some(h2::Reason::NO_ERROR);
            if is_over || h2.reason() == Some(h2::Reason::REFUSED_STREAM) {
                return true;
            }
        }
        if let Some(io) = it.downcast_ref::<io::Error>() {
            use std::io::ErrorKind;
            return matches!(
                io.kind(),
                ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe
                    | ErrorKind::NotConnected
                    | ErrorKind::UnexpectedEof
            );
        }
    }
    false
}

fn ends(info: &HttpInfo) -> (SocketAddr, SocketAddr) {
    (info.local_addr(), info.remote_addr())
}

fn ends_of(connection: &Connected) -> Option<(SocketAddr, SocketAddr)> {
    let mut extras = http::Extensions::new();
    connection.get_extras(&mut extras);
    extras.get::<HttpInfo>().map(ends)
}

/// Whether the origin of a route is asked over HTTP/2, by its base. Where no route asks for it there are no bases.
fn http2_by_base(routes: &[Route]) -> Arc<ByBase<bool>> {
    let has_any = routes.iter().any(|it| it.http2);
    Arc::new(ByBase::new(routes, |it| has_any.then_some(it.http2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_are_remembered_are_bounded() {
        let tls = crate::certificates::client_for_origins(None).unwrap();
        let policy = AddressPolicy::new(&[], &[], &[], Vec::new());
        let connections = Connections::new(&tls, &policy, &[]);
        let ends = |number: usize| {
            let port = u16::try_from(number).unwrap();
            (SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([127, 0, 0, 1], 80)))
        };
        let mut used = connections.used.lock().unwrap();
        for number in 0..=MAX_USED_CONNECTIONS {
            used.put(ends(number), ());
        }
        assert_eq!(used.len(), MAX_USED_CONNECTIONS);
        assert!(!used.contains(&ends(0)) && used.contains(&ends(1)));
    }
}
