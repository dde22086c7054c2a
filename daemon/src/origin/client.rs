//! HTTP client for requests to origins: redirects, timeouts, signatures, and a reason for every failure.
//!
//! | file | content |
//! |---|---|
//! | `message.rs` | requests and responses, with their bodies |
//! | `connections.rs` | pools of HTTP/1.1 and HTTP/2, and requests that are resent on a new connection |
//! | `error.rs` | failures, and the reasons by which they are counted |

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, LOCATION,
    RANGE, TRANSFER_ENCODING, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body_util::{BodyExt as _, Either, Empty};
use hyper::body::{Body as _, Incoming};

use carousel::reason::Counts;
use carousel::time::Instant;

use super::addresses::{AddressPolicy, Refused};
use super::breaker::{Asker, Breakers, RequestEnd};
use super::connections::{Connections, MAX_HEAD_BYTES, MAX_HEADERS, Pool, Unanswered, cause_of};
use super::error::{OriginError, OriginFailure};
use super::lock;
use super::loops::loop_id;
use super::message::{BadBody, IsOwn, Question, Reply, RequestBody, no_body};
use super::options::Route;
use super::parents::{GroupReport, ParentGroup, Parents};
use super::recovery::Recovery;
use super::signing::{MAX_REFUSAL_BYTES, SignatureRefusal, Signers};
use super::timeouts::{Limits, OriginTimeouts, Table};
use crate::traces::Span;
use crate::{caching, certificates, clock};

carousel::limits! {
    /// Redirects of one request that are followed.
    const MAX_REDIRECTS: usize = 5, "redirects" {
        why: "Origins redirect once or twice: to https, to a shard.",
        full: "The request fails as `redirect`.",
        free: "Holds for one request.",
        test: "an_origin_that_redirects_forever_is_counted_as_redirect",
    }
}

/// `User-Agent` of the box.
pub(super) const AGENT: &str = concat!("skycached/", env!("CARGO_PKG_VERSION"));
/// Least time between two log lines of one reason.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// The HTTP client.
#[derive(Debug)]
pub struct Client {
    connections: Connections,
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
        Self::with_tls(&tls, own, timeouts, routes, parents, policy)
    }

    /// Creates a client with these authorities, the time limit `own` for each step of the box's own requests, and the limits of
    /// routes for requests of players. It connects only to addresses that `policy` admits.
    pub fn with_tls(
        tls: &rustls::ClientConfig,
        own: Duration,
        timeouts: &OriginTimeouts,
        routes: &[Route],
        parents: &[ParentGroup],
        policy: Arc<AddressPolicy>,
    ) -> Self {
        Self {
            connections: Connections::new(tls, &policy, routes),
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
        self.connections.configure(routes);
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
        self.connections.pool()
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
        // A cancelled request counts as one that took too long, so that a half-open circuit does not wait for it forever.
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
        let answer = self.connections.respond(request, limits.connect);
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
        // A 101: nobody has asked for another protocol (RFC 9110 section 7.8), and what follows is not HTTP.
        if response.status().is_informational() {
            return Err(OriginError::NoAnswer(format!("status {}", response.status().as_u16())));
        }
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
        self.connections.resent()
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

/// Bytes of fields as HTTP/1.1 writes them.
fn length_of(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
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

fn join(base: &Uri, location: &str) -> Option<Uri> {
    let resolved = carousel::name::resolve(&base.to_string(), location).ok()?;
    resolved.parse().ok().filter(|uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")))
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
