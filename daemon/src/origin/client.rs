//! HTTP client for requests to origins: redirects, timeouts, and a reason for every failure.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AGE, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST,
    LOCATION, RANGE, TRANSFER_ENCODING, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body_util::{BodyExt as _, Either, Empty};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::{Connected, HttpInfo, capture_connection};
use hyper_util::client::legacy::{Client as HyperClient, Error as HyperError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use lru::LruCache;
use tokio::sync::mpsc;

use carousel::reason::Counts;
use carousel::time::{Instant, WallTime};

use super::addresses::{AddressPolicy, Connector, OriginRefusal, Refused};
pub use super::breaker::Asker;
use super::breaker::{Breakers, RequestEnd};
use super::icy;
use super::lock;
use super::loops::loop_id;
use super::options::{ByBase, Route};
use super::parents::{GroupReport, MemberState, ParentGroup, Parents};
use super::recovery::Recovery;
use super::signing::{MAX_REFUSAL_BYTES, SignatureRefusal, Signers};
use super::timeouts::{Limits, OriginTimeouts, Table};
use crate::traces::{Span, Trace};
use crate::{caching, certificates, clock};

carousel::limits! {
    /// Redirects of one request that are followed.
    const MAX_REDIRECTS: usize = 5, "redirects" {
        why: "Origins redirect once or twice: to https, to a shard.",
        full: "The request fails as `redirect`.",
        free: "Holds for one request.",
        test: "an_origin_that_redirects_forever_is_counted_as_redirect",
    }

    /// Header fields of a response of an origin.
    const MAX_HEADERS: usize = 256, "fields" {
        why: "Origins behind several proxies send more than 100.",
        full: "The request fails as `no_answer`.",
        free: "Holds for one response.",
        test: "responses_with_too_many_fields_are_refused",
    }

    /// Bytes of the head of a response of an origin.
    const MAX_HEAD_BYTES: usize = 400 << 10, "bytes" {
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
    const MAX_STREAM_WINDOW_BYTES: u32 = 512 << 10, "bytes" {
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

/// Minimum rate, after the timeout, of a body for the box itself; a slower one is given up to free its place.
const MIN_BYTES_PER_S: u64 = 4096;
/// `User-Agent` of the box.
pub(super) const AGENT: &str = concat!("skycached/", env!("CARGO_PKG_VERSION"));
/// Interval of pings on HTTP/2 connections with requests, and the time for an answer.
const PING: Duration = Duration::from_secs(5);
/// Least time between two log lines of one reason.
const BETWEEN_LINES: Duration = Duration::from_secs(60);
/// Longest time to connect, regardless of routes: ends attempts without waiting requests.
const MAX_CONNECT: Duration = Duration::from_secs(60);
/// Idle connections that hyper's pool keeps for each origin, for 30 s: the usual number of concurrent requests of a box.
/// Further ones close after their response.
const MAX_IDLE: usize = 32;

/// Error of a request to an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginError {
    /// The URL is malformed.
    BadUrl,
    /// No connection, or TLS failed: the request has not reached anything.
    Connect(String),
    /// The connection ended before the head of a response, or the head is malformed.
    NoAnswer(String),
    /// Nothing came in time.
    Timeout,
    /// A status other than success.
    Status(u16),
    /// Too many redirects, or an invalid one.
    Redirect,
    /// Ranges were asked for and something else came.
    BadRange,
    /// The body ended early.
    Cut,
    /// The body is slower than the minimum rate.
    TooSlow,
    /// The origin has failed repeatedly and is not requested for a while.
    CircuitOpen,
    /// The address policy refuses its address.
    Address(OriginRefusal),
    /// The player's body ended early, or was invalid.
    RequestBody,
    /// It cannot be signed.
    Unsigned,
    /// Its signature is refused.
    Signature(SignatureRefusal),
}

carousel::reasons! {
    /// Why a request to an origin came to nothing.
    pub enum OriginFailure in "origin_failures" by "reason" {
        /// The URL is malformed.
        BadUrl = "bad_url",
        /// No connection, or TLS failed.
        Connect = "connect",
        /// The connection ended before the head of a response, or the head is malformed.
        NoAnswer = "no_answer",
        /// Nothing came in time.
        Timeout = "timeout",
        /// The status is not one of success.
        Status = "status",
        /// Redirects lead nowhere, or have no end.
        Redirect = "redirect",
        /// Ranges were asked for and something else came.
        BadRange = "bad_range",
        /// The body ended early.
        Cut = "cut",
        /// The body came slower than the least rate.
        TooSlow = "too_slow",
        /// The origin has failed repeatedly and is not asked for a while.
        CircuitOpen = "circuit_open",
        /// The address policy refuses it.
        Address = "address",
        /// The player's body ended early, or was none.
        RequestBody = "request_body",
        /// The request cannot be signed.
        Unsigned = "unsigned",
        /// The signature of the request is refused.
        Signature = "signature",
    }
}

impl OriginError {
    /// Whether the configuration or the request is wrong, not the origin, so that an operator must be informed.
    pub const fn is_a_mistake(&self) -> bool {
        matches!(self, Self::BadUrl | Self::Address(_) | Self::RequestBody)
    }

    /// The reason for metrics.
    pub const fn reason(&self) -> OriginFailure {
        match self {
            Self::BadUrl => OriginFailure::BadUrl,
            Self::Connect(_) => OriginFailure::Connect,
            Self::NoAnswer(_) => OriginFailure::NoAnswer,
            Self::Timeout => OriginFailure::Timeout,
            Self::Status(_) => OriginFailure::Status,
            Self::Redirect => OriginFailure::Redirect,
            Self::BadRange => OriginFailure::BadRange,
            Self::Cut => OriginFailure::Cut,
            Self::TooSlow => OriginFailure::TooSlow,
            Self::CircuitOpen => OriginFailure::CircuitOpen,
            Self::Address(_) => OriginFailure::Address,
            Self::RequestBody => OriginFailure::RequestBody,
            Self::Unsigned => OriginFailure::Unsigned,
            Self::Signature(_) => OriginFailure::Signature,
        }
    }
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "no connection: {why}"),
            Self::NoAnswer(why) => write!(f, "no answer: {why}"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Unsigned => f.write_str("it cannot be signed: see sign.secret_file of its route or parent"),
            Self::Signature(why) => write!(f, "the signature of its request is refused ({})", why.as_str()),
            Self::Address(why) => write!(f, "not asked ({why}): [http] allow_origins can name it"),
            other => f.write_str(other.reason().as_str()),
        }
    }
}

/// A response whose head has been received.
#[derive(Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Time of the request.
    pub requested_at: WallTime,
    /// The end of its body can be distinguished from a broken connection: by length, by chunks, or by HTTP/2 (RFC 9112
    /// section 6.3).
    pub is_framed: bool,
    body: ReplyBody,
    between_bytes: Duration,
    /// No player has made the request: a slow body is given up.
    is_own: bool,
    begun: Instant,
    received: u64,
    /// The parent that sent it, and its URL there.
    parent: Option<(Arc<MemberState>, String)>,
    /// Trace span, which ends with the body.
    span: Span,
}

/// Body of a response, or none for refusals of signed requests.
type ReplyBody = Either<Incoming, Empty<Bytes>>;

impl Reply {
    /// Records the parent that sent it.
    pub(super) fn came_from(&mut self, member: &Arc<MemberState>, url: &str) {
        self.parent = Some((Arc::clone(member), url.to_owned()));
    }

    /// Whether a parent sent it, so that the rest may be requested from others.
    pub(super) const fn is_of_parent(&self) -> bool {
        self.parent.is_some()
    }

    /// Earliest time at which a parent may have received it, by its `Age` in whole seconds; `None`: no parent sent it, or it
    /// has not been held.
    pub(super) fn made_at(&self) -> Option<WallTime> {
        let age_s: i64 = caching::text(&self.headers, AGE)?.trim().parse().ok()?;
        let requested_at = clock::current(self.requested_at);
        self.is_of_parent().then(|| requested_at.plus_ms(age_s.saturating_add(1).saturating_mul(-1000)))
    }

    /// Records the end of the body for its parent.
    fn ended(&self, is_whole: bool) {
        let Some((member, url)) = &self.parent else { return };
        if is_whole {
            member.whole();
        } else if let Some(time) = member.cut(clock::now()) {
            tracing::warn!(
                url,
                left_out_s = time.as_secs(),
                "a body of the parent broke off: others are asked for a while"
            );
        }
    }

    /// The rest of the body.
    pub(crate) const fn body(&self) -> &impl Body {
        &self.body
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// `Timeout` if nothing arrives within the limit of its route, `Cut` if the connection breaks; `TooSlow` below
    /// [`MIN_BYTES_PER_S`] if no player has made the request.
    pub async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        loop {
            match tokio::time::timeout(self.between_bytes, self.body.frame()).await {
                Err(_) => {
                    self.span.fail(|| OriginError::Timeout.to_string());
                    self.ended(false);
                    return Err(OriginError::Timeout);
                }
                Ok(None) => {
                    self.span.number("http.response.body.size", i64::try_from(self.received).unwrap_or(0));
                    self.span = Span::default();
                    self.ended(true);
                    return Ok(None);
                }
                Ok(Some(Err(_))) => {
                    self.span.fail(|| OriginError::Cut.to_string());
                    self.ended(false);
                    return Err(OriginError::Cut);
                }
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.received += data.len() as u64;
                        let allowed =
                            self.between_bytes + Duration::from_secs(self.received / MIN_BYTES_PER_S);
                        if self.is_own && clock::now().since(self.begun) > allowed {
                            return Err(OriginError::TooSlow);
                        }
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// The body of a request.
#[derive(Debug)]
pub enum RequestBody {
    /// None.
    None,
    /// A body of HTTP/1.1 or HTTP/2.
    Incoming(Incoming),
    /// A body in pieces.
    Pieces {
        /// Its pieces, until an error or the end.
        pieces: mpsc::Receiver<io::Result<Bytes>>,
        /// Remaining bytes, if known.
        left: Option<u64>,
    },
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::Incoming(body) => {
                Pin::new(body).poll_frame(cx).map_err(|err| BadBody(Box::new(err)).into())
            }
            Self::Pieces { pieces, left } => pieces.poll_recv(cx).map(|piece| match piece? {
                Ok(bytes) => {
                    if let Some(left) = left {
                        *left = left.saturating_sub(bytes.len() as u64);
                    }
                    Some(Ok(Frame::data(bytes)))
                }
                Err(err) => Some(Err(BadBody(Box::new(err)).into())),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Incoming(body) => body.is_end_stream(),
            Self::Pieces { left, .. } => *left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Incoming(body) => body.size_hint(),
            Self::Pieces { left, .. } => left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

/// Error of a request's body, which is the player's fault regardless of the origin's reaction.
#[derive(Debug)]
struct BadBody(Box<dyn std::error::Error + Send + Sync>);

impl fmt::Display for BadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request's body: {}", self.0)
    }
}

impl std::error::Error for BadBody {}

/// Callback for interim responses, with status and fields.
pub type OnInterim = Arc<dyn Fn(u16, &HeaderMap) + Send + Sync>;

/// Request to an origin on behalf of a player.
pub struct Question {
    /// Method.
    pub method: Method,
    /// End-to-end fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: RequestBody,
    /// Receiver of interim responses.
    pub on_interim: Option<OnInterim>,
    /// Follow redirects on behalf of the player, if it has sent no body.
    pub follows_redirects: bool,
    /// Parent of the trace spans of its requests.
    pub trace: Trace,
    /// On whose behalf it is asked.
    pub asker: Asker,
}

impl Question {
    /// A GET with these fields of a player; interim responses are dropped.
    pub fn get(headers: HeaderMap, follows_redirects: bool) -> Self {
        let (method, body, trace, asker) = (Method::GET, no_body(), Trace::default(), Asker::Shared);
        Self { method, headers, body, on_interim: None, follows_redirects, trace, asker }
    }
}

/// Marker of a request that no player has made.
#[derive(Debug, Clone, Copy)]
struct IsOwn;

pub(super) type Pool = HyperClient<HttpsConnector<icy::Connector>, RequestBody>;

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

/// The HTTP client.
#[derive(Debug)]
pub struct Client {
    /// HTTP/2 where an origin offers it by TLS.
    any: Pools,
    /// HTTP/1.1 for routes without HTTP/2, and for requests with a `Host` other than the URL's: `:authority` is that of the URL, by
    /// which connections are kept.
    http1: Pools,
    /// Routes without HTTP/2.
    http2: RwLock<Arc<ByBase<bool>>>,
    /// Both addresses of connections that have carried a response.
    used: Mutex<LruCache<(SocketAddr, SocketAddr), ()>>,
    resent: AtomicU64,
    times: RwLock<Arc<Times>>,
    parents: RwLock<Arc<Parents>>,
    signers: RwLock<Arc<Signers>>,
    breakers: Breakers,
    recovery: Recovery,
    policy: Arc<AddressPolicy>,
    requests: AtomicU64,
    bytes: AtomicU64,
    failures: Counts<OriginFailure>,
    signatures_refused: Counts<SignatureRefusal>,
    /// Time of the last log line for each reason.
    refusals_logged: Mutex<[Option<Instant>; SignatureRefusal::ALL.len()]>,
}

/// Time limits.
#[derive(Debug)]
struct Times {
    /// Timeouts for requests of the box itself.
    own: Limits,
    /// Timeouts for requests of players.
    players: Table,
}

impl Times {
    fn new(own: Duration, timeouts: &OriginTimeouts, routes: &[Route]) -> Arc<Self> {
        Arc::new(Self { own: Limits::same(own), players: Table::new(timeouts, routes) })
    }
}

/// Failure before a response.
enum Unanswered {
    /// No connection within this time.
    NoConnection(Duration),
    /// Name servers have not answered within this time.
    NoAddress(Duration),
    Failed(HyperError),
}

impl Client {
    /// Creates a client with the time limit `own` for each step of the box's own requests, and the limits of routes for
    /// requests of players. It connects only to addresses that `policy` admits, and trusts the system's authorities.
    #[cfg(test)]
    pub fn new(
        own: Duration,
        timeouts: &OriginTimeouts,
        routes: &[Route],
        parents: &[ParentGroup],
        policy: Arc<AddressPolicy>,
    ) -> Self {
        let tls = certificates::client_for_origins(None).unwrap();
        Self::with_tls(tls, own, timeouts, routes, parents, policy)
    }

    /// Creates a client with these authorities, the time limit `own` for each step of the box's own requests, and the limits of
    /// routes for requests of players. It connects only to addresses that `policy` admits.
    pub fn with_tls(
        tls: rustls::ClientConfig,
        own: Duration,
        timeouts: &OriginTimeouts,
        routes: &[Route],
        parents: &[ParentGroup],
        policy: Arc<AddressPolicy>,
    ) -> Self {
        // Limits of routes end a request earlier; this one ends requests without waiting clients.
        let connector = Connector { policy: Arc::clone(&policy), connect_timeout: MAX_CONNECT };
        let connector = icy::Connector(connector);
        let builder =
            || hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
        let http1 = builder().enable_http1().wrap_connector(connector.clone());
        let any = builder().enable_http1().enable_http2().wrap_connector(connector);
        Self {
            any: Pools::new(&any),
            http1: Pools::new(&http1),
            http2: RwLock::new(http2_by_base(routes)),
            used: Mutex::new(LruCache::new(const { NonZeroUsize::new(MAX_USED_CONNECTIONS).unwrap() })),
            resent: AtomicU64::new(0),
            times: RwLock::new(Times::new(own, timeouts, routes)),
            parents: RwLock::new(Arc::new(Parents::new(parents, routes, &Parents::default()))),
            signers: RwLock::new(Arc::new(Signers::new(routes, parents))),
            breakers: Breakers::default(),
            recovery: Recovery::default(),
            policy,
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failures: Default::default(),
            signatures_refused: Default::default(),
            refusals_logged: Mutex::default(),
        }
    }

    /// Applies limits and parents of a new configuration to subsequent requests.
    pub fn configure(
        &self,
        own: Duration,
        timeouts: &OriginTimeouts,
        routes: &[Route],
        parents: &[ParentGroup],
    ) {
        let times = Times::new(own, timeouts, routes);
        *self.times.write().unwrap_or_else(PoisonError::into_inner) = times;
        *self.http2.write().unwrap_or_else(PoisonError::into_inner) = http2_by_base(routes);
        let signers = Arc::new(Signers::new(routes, parents));
        *self.signers.write().unwrap_or_else(PoisonError::into_inner) = signers;
        let parents = Arc::new(Parents::new(parents, routes, &self.parents()));
        *self.parents.write().unwrap_or_else(PoisonError::into_inner) = parents;
    }

    fn signers(&self) -> Arc<Signers> {
        Arc::clone(&self.signers.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn parents(&self) -> Arc<Parents> {
        Arc::clone(&self.parents.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counters and state of the parents.
    pub fn parents_report(&self) -> Vec<GroupReport> {
        self.parents().report(clock::now())
    }

    /// The address policy.
    pub const fn policy(&self) -> &Arc<AddressPolicy> {
        &self.policy
    }

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

    /// Time limit of the box's own requests.
    pub(super) fn own_limit(&self) -> Duration {
        self.times().own.first_byte
    }

    fn times(&self) -> Arc<Times> {
        Arc::clone(&self.times.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Requests `url`, complete or in byte ranges (end exclusive).
    ///
    /// # Errors
    /// [`OriginError`]; 404 and other refusals are `Status`.
    pub async fn get(&self, url: &str, ranges: &[Range<u64>]) -> Result<Reply, OriginError> {
        match self.parents().plan(url, &self.breakers, clock::now()) {
            Some(plan) => self.get_by(&plan, ranges).await,
            None => self.get_at(url, ranges, Circuit::Heeded).await,
        }
    }

    pub(super) async fn get_at(
        &self,
        url: &str,
        ranges: &[Range<u64>],
        circuit: Circuit,
    ) -> Result<Reply, OriginError> {
        self.admitted(url, Asker::Own, circuit, self.get_following(url, ranges)).await
    }

    /// Makes a player's request and returns any answer of the origin: redirects and refusals are answers.
    ///
    /// # Errors
    /// [`OriginError`] if there is no answer.
    pub async fn ask(&self, url: &str, question: Question) -> Result<Reply, OriginError> {
        let is_safe = matches!(question.method, Method::GET | Method::HEAD) && question.body.is_end_stream();
        match self.parents().plan(url, &self.breakers, clock::now()).filter(|_| is_safe) {
            Some(plan) => self.ask_by(&plan, url, &question).await,
            None => self.question(url, question, Circuit::Heeded).await,
        }
    }

    pub(super) async fn question(
        &self,
        url: &str,
        question: Question,
        circuit: Circuit,
    ) -> Result<Reply, OriginError> {
        self.admitted(url, question.asker, circuit, self.ask_once(url, question)).await
    }

    /// Makes a request if its origin's circuit permits it, and records its end.
    async fn admitted(
        &self,
        url: &str,
        asker: Asker,
        circuit: Circuit,
        request: impl Future<Output = Result<Reply, OriginError>>,
    ) -> Result<Reply, OriginError> {
        if circuit == Circuit::Heeded && !self.breakers.admits(url, clock::now()) {
            return self.count(Err(OriginError::CircuitOpen));
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        // A cancelled request counts as a failure, so that a half-open circuit does not wait for it forever.
        let pending = Pending { breakers: &self.breakers, url, asker, ended: RequestEnd::Slow };
        let result = request.await;
        pending.ended(result.as_ref().map(|reply| reply.status.as_u16()));
        self.count(result)
    }

    async fn ask_once(&self, url: &str, mut question: Question) -> Result<Reply, OriginError> {
        let mut uri: Uri = url.parse().map_err(|_| OriginError::BadUrl)?;
        if !question.follows_redirects || !question.body.is_end_stream() {
            return self.ask_at(uri, question).await;
        }
        for _ in 0..=MAX_REDIRECTS {
            let reply = self.ask_at(uri.clone(), question.again()).await?;
            if !matches!(reply.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(reply);
            }
            let location = reply.headers.get(LOCATION).and_then(|it| it.to_str().ok());
            let Some(next) = location.and_then(|it| join(&uri, it)) else { return Ok(reply) };
            if next.authority() != uri.authority() || next.scheme() != uri.scheme() {
                // These fields are only for the first host.
                for name in [AUTHORIZATION, COOKIE, HOST] {
                    question.headers.remove(name);
                }
            }
            uri = next;
        }
        Err(OriginError::Redirect)
    }

    /// Makes one request to one URL, without following redirects.
    async fn ask_at(&self, uri: Uri, question: Question) -> Result<Reply, OriginError> {
        let mut request = Request::new(question.body);
        *request.method_mut() = question.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = question.headers;
        caching::join_cookies(request.headers_mut());
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(on_interim) = question.on_interim {
            hyper::ext::on_informational(&mut request, move |interim| {
                on_interim(interim.status().as_u16(), interim.headers());
            });
        }
        let mut span = question.trace.client(request.method(), request.uri());
        span.inject(request.headers_mut());
        let result = self.send(request).await;
        match &result {
            Ok(reply) => {
                span.number("http.response.status_code", i64::from(reply.status.as_u16()));
                if reply.status.as_u16() >= 400 {
                    span.fail(|| reply.status.as_str().to_owned());
                }
            }
            Err(err) => span.fail(|| err.reason().as_str().to_owned()),
        }
        result.map(|reply| Reply { span, ..reply })
    }

    /// Sends one request and returns the head of its response.
    async fn send(&self, mut request: Request<RequestBody>) -> Result<Reply, OriginError> {
        request.headers_mut().append("cdn-loop", HeaderValue::from_static(loop_id()));
        let (requested_at, begun) = (clock::steady(), clock::now());
        let is_own = request.extensions().get::<IsOwn>().is_some();
        let times = self.times();
        let limits = if is_own { times.own } else { times.players.of(&request.uri().to_string()) };
        let signed = self.signers().sign(request.method(), request.uri(), clock::wall());
        let is_signed = signed.is_some();
        if let Some(signed) = signed {
            *request.uri_mut() = signed.map_err(|()| OriginError::Unsigned)?;
        }
        let authority = request.uri().authority().filter(|_| is_signed).cloned();
        let answer = self.respond(request, limits.connect);
        let response = match tokio::time::timeout(limits.first_byte, answer).await {
            Err(_) => return Err(OriginError::Timeout),
            Ok(Err(Unanswered::NoAddress(limit))) => {
                let what = format!(
                    "the host has no address: name servers did not answer in {} ms",
                    limit.as_millis()
                );
                return Err(OriginError::Connect(what));
            }
            Ok(Err(Unanswered::NoConnection(limit))) => {
                return Err(OriginError::Connect(format!("none in {} ms", limit.as_millis())));
            }
            Ok(Err(Unanswered::Failed(err))) => {
                if let Some(Refused(why)) = cause_of(&err) {
                    return Err(OriginError::Address(*why));
                }
                // Not the origin's fault: its circuit does not change.
                if cause_of::<BadBody>(&err).is_some() {
                    return Err(OriginError::RequestBody);
                }
                let why = certificates::innermost_cause(&err);
                return Err(if err.is_connect() {
                    OriginError::Connect(why)
                } else {
                    OriginError::NoAnswer(why)
                });
            }
            Ok(Ok(response)) => response,
        };
        let (mut head, mut body) = response.into_parts();
        if head.headers.len() > MAX_HEADERS || length_of(&head.headers) > MAX_HEAD_BYTES {
            return Err(OriginError::NoAnswer("its head is too long".to_owned()));
        }
        if head.version <= Version::HTTP_11 && head.headers.contains_key(TRANSFER_ENCODING) {
            // It is not the length of this body (RFC 9112 section 6.3).
            head.headers.remove(CONTENT_LENGTH);
        }
        let is_framed = head.version > Version::HTTP_11
            || [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|it| head.headers.contains_key(it));
        let mut is_framed = is_framed;
        let body = if is_signed && matches!(head.status.as_u16(), 400 | 401 | 403) {
            let document = begin_of(&mut body, limits.between_bytes).await;
            if let Some(why) = SignatureRefusal::of(&document) {
                self.note_refusal(why, authority.as_ref().map_or("", |it| it.as_str()));
                return Err(OriginError::Signature(why));
            }
            for name in [CONTENT_TYPE, CONTENT_ENCODING, TRANSFER_ENCODING] {
                head.headers.remove(name);
            }
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            is_framed = true;
            Either::Right(Empty::new())
        } else {
            Either::Left(body)
        };
        Ok(Reply {
            status: head.status,
            is_framed,
            headers: head.headers,
            requested_at,
            body,
            between_bytes: limits.between_bytes,
            is_own,
            begun,
            received: 0,
            parent: None,
            span: Span::default(),
        })
    }

    /// Counts a refused signature, and logs its fix once a minute.
    fn note_refusal(&self, why: SignatureRefusal, origin: &str) {
        self.signatures_refused.add(why);
        let now = clock::now();
        let mut logged = lock(&self.refusals_logged);
        let last = &mut logged[why as usize];
        if last.is_none_or(|at| now.since(at) >= BETWEEN_LINES) {
            *last = Some(now);
            drop(logged);
            let (reason, fix) = (why.as_str(), why.fix());
            tracing::warn!(origin, reason, fix, "the signature of requests is refused: players get 502");
        }
    }

    /// Refused signatures.
    pub const fn signatures_refused(&self) -> &Counts<SignatureRefusal> {
        &self.signatures_refused
    }

    /// The response to a request. A repeatable request that finds a kept connection closed is resent on a new connection:
    /// an origin may close an idle connection while a request is in transit (RFC 9112 section 9.3.1).
    async fn respond(
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

    /// The circuits of all origins and parents.
    pub(super) const fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    /// Requests that wait for open circuits.
    pub(super) const fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Requests that found a kept connection closed and were resent.
    pub fn resent(&self) -> u64 {
        self.resent.load(Ordering::Relaxed)
    }

    /// Whether requests for this URL are refused at present, since its origin's circuit is open and it has no parent.
    pub(super) fn is_left_alone(&self, url: &str) -> bool {
        let now = clock::now();
        self.breakers.is_open(url, now) && self.parents().plan(url, &self.breakers, now).is_none()
    }

    /// Records the end of a body.
    ///
    /// # Errors
    /// Those of `result`.
    pub(super) fn note_body<T>(&self, url: &str, result: Result<T, OriginError>) -> Result<T, OriginError> {
        if matches!(result, Err(OriginError::Cut)) {
            self.breakers.note(url, Asker::Own, RequestEnd::Broken, clock::now());
        }
        self.count(result)
    }

    /// Status of the answer to a HEAD of `url`. Where requests are signed it is a GET, since the document of a refusal says
    /// whether the signature is refused; S3 gets one for a name below a folder, which cannot be signed itself.
    ///
    /// # Errors
    /// [`OriginError`] if there is no answer.
    pub async fn probe(&self, url: &str) -> Result<u16, OriginError> {
        let own = |fields| Question { asker: Asker::Own, ..Question::get(fields, false) };
        let reply = match self.signers().probe_url(url) {
            None => {
                self.question(
                    url,
                    Question { method: Method::HEAD, ..own(HeaderMap::new()) },
                    Circuit::Heeded,
                )
                .await?
            }
            Some(url) => {
                let first = HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=0-0"))]);
                self.question(&url, own(first), Circuit::Heeded).await?
            }
        };
        Ok(reply.status.as_u16())
    }

    /// Number of requests, and bytes of received bodies.
    pub fn counts(&self) -> [u64; 2] {
        [&self.requests, &self.bytes].map(|it| it.load(Ordering::Relaxed))
    }

    /// Requests that failed.
    pub const fn failures(&self) -> &Counts<OriginFailure> {
        &self.failures
    }

    /// Origins with an open circuit.
    pub fn open_circuits(&self) -> Vec<String> {
        self.breakers.open(clock::now())
    }

    /// Counts bytes of a body.
    pub fn count_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn count<T>(&self, result: Result<T, OriginError>) -> Result<T, OriginError> {
        result.inspect_err(|err| {
            self.failures.add(err.reason());
        })
    }

    async fn get_following(&self, url: &str, ranges: &[Range<u64>]) -> Result<Reply, OriginError> {
        let mut uri: Uri = url.parse().map_err(|_| OriginError::BadUrl)?;
        for _ in 0..=MAX_REDIRECTS {
            let mut request =
                Request::get(&uri).header(USER_AGENT, AGENT).header(ACCEPT_ENCODING, "identity");
            if !ranges.is_empty() {
                let list: Vec<String> =
                    ranges.iter().map(|range| format!("{}-{}", range.start, range.end - 1)).collect();
                request = request.header(RANGE, format!("bytes={}", list.join(",")));
            }
            let request = request.extension(IsOwn).body(no_body()).map_err(|_| OriginError::BadUrl)?;
            let reply = self.send(request).await?;
            if reply.status.is_redirection() && reply.status != StatusCode::NOT_MODIFIED {
                let location = reply.headers.get(LOCATION).and_then(|it| it.to_str().ok());
                uri = join(&uri, location.ok_or(OriginError::Redirect)?).ok_or(OriginError::Redirect)?;
                continue;
            }
            if !reply.status.is_success() {
                return Err(OriginError::Status(reply.status.as_u16()));
            }
            return Ok(reply);
        }
        Err(OriginError::Redirect)
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
fn cause_of<E: std::error::Error + 'static>(err: &HyperError) -> Option<&E> {
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

/// Whether an open circuit refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Circuit {
    Heeded,
    /// It is the last that can be done for a player.
    Ignored,
}

/// A permitted request; records its end for the breaker when dropped.
struct Pending<'a> {
    breakers: &'a Breakers,
    url: &'a str,
    asker: Asker,
    ended: RequestEnd,
}

impl Pending<'_> {
    fn ended(mut self, result: Result<u16, &OriginError>) {
        self.ended = match result {
            Ok(status) | Err(&OriginError::Status(status)) => RequestEnd::of_status(status),
            Err(OriginError::Connect(_)) => RequestEnd::Unreachable,
            Err(OriginError::NoAnswer(_)) => RequestEnd::Broken,
            // A slow resource says nothing about others.
            Err(_) => RequestEnd::Slow,
        };
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.breakers.note(self.url, self.asker, self.ended, clock::now());
    }
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

/// Bytes of fields as HTTP/1.1 writes them.
fn length_of(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}

/// Whether the origin of a route is asked over HTTP/2, by its base. Where no route asks for it there are no bases.
fn http2_by_base(routes: &[Route]) -> Arc<ByBase<bool>> {
    let has_any = routes.iter().any(|it| it.http2);
    Arc::new(ByBase::new(routes, |it| has_any.then_some(it.http2)))
}

/// The first [`MAX_REFUSAL_BYTES`] of a body, or what came of them in time.
async fn begin_of(body: &mut Incoming, limit: Duration) -> Vec<u8> {
    let mut begin = Vec::new();
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            let data = frame.into_data().unwrap_or_default();
            begin.extend_from_slice(&data[..data.len().min(MAX_REFUSAL_BYTES - begin.len())]);
            if begin.len() >= MAX_REFUSAL_BYTES {
                break;
            }
        }
    };
    // A document that is late is of no known reason.
    let _ = tokio::time::timeout(limit, read).await;
    begin
}

/// An empty request body.
pub const fn no_body() -> RequestBody {
    RequestBody::None
}

fn join(base: &Uri, location: &str) -> Option<Uri> {
    let resolved = carousel::name::resolve(&base.to_string(), location).ok()?;
    resolved.parse().ok().filter(|uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CountedBody, client, origin, response};
    use super::*;
    use std::sync::atomic::AtomicUsize;

    const LONG_BYTES: usize = 4 << 20;
    /// Of one test: no other asks for `/long`.
    static LONG_TAKEN: AtomicUsize = AtomicUsize::new(0);

    #[test]
    fn redirects_resolve() {
        let base: Uri = "http://h:8/a/b?c".parse().unwrap();
        assert_eq!(join(&base, "d").unwrap(), "http://h:8/a/d");
        assert_eq!(join(&base, "/d").unwrap(), "http://h:8/d");
        assert_eq!(join(&base, "//k:1/d").unwrap(), "http://k:1/d");
        assert_eq!(join(&base, "https://k/").unwrap(), "https://k/");
        assert_eq!(join(&base, "../d/./e f#g").unwrap(), "http://h:8/d/e%20f");
        assert_eq!(join(&base, "?d").unwrap(), "http://h:8/a/b?d");
        assert_eq!(join(&base, "//b\u{fc}cher.example/d").unwrap(), "http://xn--bcher-kva.example/d");
        assert_eq!(join(&base, "file:///etc/passwd"), None);
    }

    #[tokio::test]
    async fn what_is_odd_about_a_head_does_not_cost_the_response() {
        let url = origin(|head| {
            let chunked = |lines: &str| {
                format!("HTTP/1.1 200 OK\r\n{lines}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
            };
            let lines = if head.contains("/length") {
                return chunked("Content-Length: 99\r\n").into_bytes();
            } else if head.contains("/blank") {
                "X-A : 1\r\n"
            } else if head.contains("/folded") {
                "X-A: 1\r\n \t1\r\n"
            } else {
                unreachable!("{head}")
            };
            format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\nok").into_bytes()
        });
        let client = client();
        for (path, expected) in [("length", None), ("blank", Some("1")), ("folded", Some("1 1"))] {
            let mut reply = client.get(&format!("{url}{path}"), &[]).await.unwrap();
            let field = caching::text(&reply.headers, "x-a")
                .map(|it| it.split_whitespace().collect::<Vec<_>>().join(" "));
            assert_eq!(field.as_deref(), expected, "{path}");
            let said = caching::text(&reply.headers, CONTENT_LENGTH).map(str::to_owned);
            assert_eq!(said.as_deref(), (path != "length").then_some("2"), "RFC 9112 section 6.3");
            let mut body = Vec::new();
            while let Some(piece) = reply.next().await.unwrap() {
                body.extend_from_slice(&piece);
            }
            assert_eq!(body, b"ok", "{path}");
        }
    }

    #[tokio::test]
    async fn a_head_with_a_line_that_is_no_field_is_refused_whatever_it_would_decide() {
        for line in
            ["Cache-Control: private\x01", "Vary: *\x01", "Content-Encoding: gzip\x7f", "no field at all"]
        {
            let url = origin(move |_| {
                format!("HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: 2\r\n\r\nok").into_bytes()
            });
            assert!(client().get(&url, &[]).await.is_err(), "{line:?}");
        }
    }

    #[tokio::test]
    async fn responses_with_too_many_fields_are_refused() {
        let url = origin(|head| {
            let count: usize = head.split(['/', ' ']).nth(2).and_then(|it| it.parse().ok()).unwrap_or(0);
            // Two are there already.
            response(&[&["200 OK", "Content-Length: 0"], &vec!["X: 1"; count - 2][..]].concat(), "")
        });
        let client = client();
        let ask = async |count: usize| client.get(&format!("{url}{count}"), &[]).await;
        assert!(ask(MAX_HEADERS).await.is_ok());
        let refused = ask(MAX_HEADERS + 1).await.unwrap_err();
        assert!(matches!(refused, OriginError::NoAnswer(_)), "{refused:?}");
        assert!(ask(MAX_HEADERS).await.is_ok(), "the next one is read");
    }

    #[tokio::test]
    async fn heads_that_are_too_long_are_refused() {
        let url = origin(|head| {
            let length: usize = head.split(['/', ' ']).nth(2).and_then(|it| it.parse().ok()).unwrap_or(0);
            let keys = format!("Surrogate-Key: {}", "k".repeat(length));
            response(&["200 OK", "Content-Length: 0", &keys], "")
        });
        let client = client();
        assert!(client.get(&format!("{url}{}", MAX_HEAD_BYTES - 1000), &[]).await.is_ok());
        for length in [MAX_HEAD_BYTES, 1 << 20] {
            let refused = client.get(&format!("{url}{length}"), &[]).await.map(|reply| reply.status);
            assert!(matches!(refused, Err(OriginError::NoAnswer(_))), "{length}");
        }
    }

    /// An HTTPS origin for HTTP/2 and HTTP/1.1, and the authorities for it. Its answers say what was asked; a connection is ended
    /// (GOAWAY) when `/last` was asked, and dropped by the first request for `/gone`. `/long` has a body of [`LONG_BYTES`], of which
    /// `LONG_TAKEN` counts what hyper took to send. `None`: there is no OpenSSL here.
    #[allow(clippy::too_many_lines)] // one story of an origin
    async fn https_origin() -> Option<(String, rustls::ClientConfig, Arc<AtomicU64>)> {
        use hyper::service::service_fn;
        use rustls::pki_types::PrivateKeyDer;
        use rustls::pki_types::pem::PemObject as _;

        let folder = tempfile::tempdir().unwrap();
        // Self-signed, and an authority: as `openssl req -x509` makes it.
        let extensions = ["-addext", "subjectAltName=IP:127.0.0.1"];
        if !certificates::tests::make(folder.path(), "cert.pem", "key.pem", &extensions) {
            return None;
        }
        let chain = certificates::chain("test", &folder.path().join("cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.path().join("key.pem")).unwrap();
        let trusting = certificates::client_for_origins(Some(&folder.path().join("cert.pem"))).unwrap();
        let mut tls =
            rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&connections);
        let was_gone = Arc::new(std::sync::atomic::AtomicBool::new(false));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, counted) = (acceptor.clone(), Arc::clone(&counted));
                let was_gone = Arc::clone(&was_gone);
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    counted.fetch_add(1, Ordering::Relaxed);
                    let last = Arc::new(tokio::sync::Notify::new());
                    let gone = Arc::new(tokio::sync::Notify::new());
                    let (ends, drops) = (Arc::clone(&last), Arc::clone(&gone));
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (ends, drops, was_gone) =
                            (Arc::clone(&ends), Arc::clone(&drops), Arc::clone(&was_gone));
                        async move {
                            if request.uri().path() == "/gone" && !was_gone.swap(true, Ordering::Relaxed) {
                                drops.notify_one();
                                std::future::pending::<()>().await;
                            }
                            if request.uri().path() == "/last" {
                                ends.notify_one();
                            }
                            if request.uri().path() == "/slow" {
                                tokio::time::sleep(Duration::from_millis(100)).await;
                            }
                            let field = |name| caching::text(request.headers(), name).unwrap_or("-");
                            let says = format!(
                                "{:?} {} {} {} {} {}",
                                request.version(),
                                request.uri().authority().map_or("-", |it| it.as_str()),
                                field(HOST),
                                request.headers().get_all(COOKIE).iter().count(),
                                field(COOKIE),
                                field(RANGE)
                            );
                            let body = if request.uri().path() == "/long" {
                                Either::Left(CountedBody { left: LONG_BYTES, taken: &LONG_TAKEN })
                            } else {
                                Either::Right(http_body_util::Full::new(Bytes::from(says)))
                            };
                            Ok::<_, std::convert::Infallible>(http::Response::new(body))
                        }
                    });
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let stream = hyper_util::rt::TokioIo::new(stream);
                    if !is_http2 {
                        let builder = hyper::server::conn::http1::Builder::new();
                        let _ = builder.serve_connection(stream, service).await;
                        return;
                    }
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let mut serving = std::pin::pin!(builder.serve_connection(stream, service));
                    tokio::select! {
                        _ = serving.as_mut() => return,
                        () = gone.notified() => return,
                        () = last.notified() => serving.as_mut().graceful_shutdown(),
                    }
                    let _ = serving.await;
                });
            }
        });
        Some((url, trusting, connections))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn origins_are_asked_over_http2_where_they_offer_it() {
        let Some((url, tls, connections)) = https_origin().await else { return };
        let route = |path: &str, http2| Route {
            path: format!("/{path}"),
            base: format!("{url}{path}"),
            http2,
            ..Route::default()
        };
        let routes = [route("", true), route("one/", false), route("two/", true)];
        let policy = AddressPolicy::new(&[], &[], &["127.0.0.0/8:*".to_owned()], Vec::new());
        let wait = Duration::from_secs(60);
        let client = Arc::new(Client::with_tls(tls, wait, &OriginTimeouts::default(), &routes, &[], policy));
        let get = async |path: &str, fields: &[(&'static str, &'static str)]| {
            let headers = fields
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
            let mut all = HeaderMap::new();
            headers.for_each(|(name, value)| _ = all.append(name, value));
            let mut reply = client.ask(&format!("{url}{path}"), Question::get(all, false)).await.unwrap();
            assert!(reply.is_framed);
            String::from_utf8(reply.next().await.unwrap().unwrap().to_vec()).unwrap()
        };
        let authority = url.trim_start_matches("https://").trim_end_matches('/');
        let cookies = [("cookie", "a=1"), ("cookie", "b=2"), ("range", "bytes=0-1")];
        let says = get("two/a", &cookies).await;
        assert_eq!(says, format!("HTTP/2.0 {authority} - 1 a=1; b=2 bytes=0-1"));
        // A Host of its own needs HTTP/1.1; so does a route without HTTP/2.
        let says = get("two/a", &[("host", "cdn.example.com")]).await;
        assert_eq!(says, "HTTP/1.1 - cdn.example.com 0 - -");
        assert_eq!(get("one/a", &[]).await, format!("HTTP/1.1 - {authority} 0 - -"));
        // The connection of HTTP/1.1 may not have been idle again yet: a second is begun, and comes later if it was idle by then.
        assert!((2..=3).contains(&connections.load(Ordering::Relaxed)));
        // Many requests, one connection.
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (client, url) = (Arc::clone(&client), url.clone());
            all.spawn(async move {
                let question = Question::get(HeaderMap::new(), false);
                client.ask(&format!("{url}slow"), question).await.unwrap().status
            });
        }
        assert!(all.join_all().await.iter().all(|it| *it == 200));
        let before = connections.load(Ordering::Relaxed);
        assert!((2..=3).contains(&before), "{before}");
        // A connection that the origin ends costs no request.
        for round in 0..5 {
            assert!(get("last", &[]).await.starts_with("HTTP/2.0"), "{round}");
            assert!(get("two/b", &[]).await.starts_with("HTTP/2.0"), "{round}");
        }
        assert!(connections.load(Ordering::Relaxed) > before);
        // Nor does one that is gone, since the request can be repeated.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(get("two/b", &[]).await.starts_with("HTTP/2.0"), "one that has carried a response");
        assert!(get("gone", &[]).await.starts_with("HTTP/2.0"));
        assert_eq!(client.resent(), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn bodies_over_http2_fill_windows_of_their_own_alone() {
        let Some((url, tls, connections)) = https_origin().await else { return };
        let route = Route { path: "/".to_owned(), base: url.clone(), http2: true, ..Route::default() };
        let policy = AddressPolicy::new(&[], &[], &["127.0.0.0/8:*".to_owned()], Vec::new());
        let wait = Duration::from_secs(60);
        let client = Client::with_tls(tls, wait, &OriginTimeouts::default(), &[route], &[], policy);
        let ask = async |path: &str| {
            client.ask(&format!("{url}{path}"), Question::get(HeaderMap::new(), false)).await.unwrap()
        };
        // Players who read nothing: together more than the window of a connection as hyper has it, 5 MiB.
        const SLOW: usize = 16;
        ask("short").await.next().await.unwrap();
        let mut slow = Vec::new();
        for _ in 0..SLOW {
            slow.push(ask("long").await);
        }
        let taken = || LONG_TAKEN.load(Ordering::Relaxed);
        let mut before = 0;
        while taken() > before {
            before = taken();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        // hyper's server queues 400 KiB of each, and takes one piece more.
        let least = SLOW * MAX_STREAM_WINDOW_BYTES as usize;
        assert!((least..=least + SLOW * (416 << 10)).contains(&taken()), "{}", taken());
        assert!(ask("short").await.next().await.unwrap().is_some(), "another player has its answer");
        let mut received = 0;
        while let Some(piece) = slow[0].next().await.unwrap() {
            received += piece.len();
        }
        assert_eq!(received, LONG_BYTES, "the rest comes when it is read");
        assert_eq!(connections.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_connection_that_does_not_come_about_has_its_innermost_cause() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = client().get(&format!("http://{free}/"), &[]).await.unwrap_err();
        assert_eq!(refused.to_string(), "no connection: Connection refused");
        let nowhere = client().get("http://nobody.invalid/", &[]).await.unwrap_err();
        assert!(nowhere.to_string().starts_with("no connection: the host has no address: "), "{nowhere}");
    }

    #[tokio::test]
    async fn a_refused_signature_is_the_fault_of_the_box_and_no_document_is_passed_on() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "wJalrXUtnFEMI").unwrap();
        let url = origin(|head| {
            let code = match head.split(['/', '?']).nth(2) {
                Some("skewed") => "RequestTimeTooSkewed",
                Some("wrong") => "SignatureDoesNotMatch",
                _ => "AccessDenied",
            };
            let body = format!("<Error><Code>{code}</Code><AWSAccessKeyId>AKIA1</AWSAccessKeyId></Error>");
            let length = format!("Content-Length: {}", body.len());
            response(&["403 Forbidden", "Content-Type: application/xml", &length], &body)
        });
        let text = format!(
            "path = '/s3/'\nbase = '{url}b/'\n[sign]\nform = 's3'\naccess_key = 'AKIA1'\nsecret_file = '{}'",
            secret.display()
        );
        let route: Route = toml::from_str(&text).unwrap();
        let policy = AddressPolicy::new(&[], &[], &["127.0.0.0/8:*".to_owned()], Vec::new());
        let client = Client::new(Duration::from_secs(60), &OriginTimeouts::default(), &[route], &[], policy);
        let ask = async |name: &str| {
            client.ask(&format!("{url}b/{name}"), Question::get(HeaderMap::new(), false)).await
        };
        let refused = |why| OriginError::Signature(why);
        assert_eq!(ask("skewed").await.unwrap_err(), refused(SignatureRefusal::Clock));
        assert_eq!(ask("wrong").await.unwrap_err(), refused(SignatureRefusal::Secret));
        let own = client.get(&format!("{url}b/wrong"), &[]).await.unwrap_err();
        assert_eq!(own, refused(SignatureRefusal::Secret));
        let count = |why| client.signatures_refused().get(why);
        assert_eq!([SignatureRefusal::Clock, SignatureRefusal::Secret].map(count), [1, 2]);
        assert_eq!(client.failures().get(OriginFailure::Signature), 3);
        let mut denied = ask("denied").await.unwrap();
        assert_eq!((denied.status.as_u16(), denied.is_framed), (403, true));
        assert_eq!(caching::text(&denied.headers, CONTENT_LENGTH), Some("0"));
        assert!(!denied.headers.contains_key(CONTENT_TYPE));
        assert_eq!(denied.next().await, Ok(None), "the store's document stays here");
        // Unsigned, the document is the origin's to players.
        let mut other =
            client.ask(&format!("{url}c/denied"), Question::get(HeaderMap::new(), false)).await.unwrap();
        assert!(other.next().await.unwrap().is_some());
    }

    #[tokio::test]
    async fn connections_that_are_remembered_are_bounded() {
        let client = client();
        let ends = |number: usize| {
            let port = u16::try_from(number).unwrap();
            (SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([127, 0, 0, 1], 80)))
        };
        let mut used = client.used.lock().unwrap();
        for number in 0..=MAX_USED_CONNECTIONS {
            used.put(ends(number), ());
        }
        assert_eq!(used.len(), MAX_USED_CONNECTIONS);
        assert!(!used.contains(&ends(0)) && used.contains(&ends(1)));
    }
}
