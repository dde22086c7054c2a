//! Requests to origins: redirects followed, timeouts kept, every failure a reason.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_RANGE, LOCATION, RANGE, USER_AGENT};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::mpsc;

use carousel::time::Instant;

use super::breaker::Breakers;
use crate::clock;

/// Redirects followed.
const MAX_REDIRECTS: usize = 5;
/// A body that comes slower than this, after the timeout, helps nobody and holds a place.
const MIN_BYTES_PER_S: u64 = 4096;
/// What origins see of us.
const AGENT: &str = concat!("skycached/", env!("CARGO_PKG_VERSION"));
/// Idle connections kept for each origin.
const MAX_IDLE: usize = 32;

/// Why an origin gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginError {
    /// The URL is none.
    BadUrl,
    /// No connection, or TLS failed.
    Connect(String),
    /// Nothing came in time.
    Timeout,
    /// A status that is no success.
    Status(u16),
    /// Redirects without end, or to nowhere.
    Redirect,
    /// Ranges were asked for and something else came.
    BadRange,
    /// The body ended early.
    Cut,
    /// The body trickles.
    TooSlow,
    /// It has failed so often that it is left alone for a while.
    CircuitOpen,
}

impl OriginError {
    /// Names of all variants, in the order of [`Client::failures`].
    pub const NAMES: [&'static str; 9] = [
        "bad_url",
        "connect",
        "timeout",
        "status",
        "redirect",
        "bad_range",
        "cut",
        "too_slow",
        "circuit_open",
    ];

    const fn index(&self) -> usize {
        match self {
            Self::BadUrl => 0,
            Self::Connect(_) => 1,
            Self::Timeout => 2,
            Self::Status(_) => 3,
            Self::Redirect => 4,
            Self::BadRange => 5,
            Self::Cut => 6,
            Self::TooSlow => 7,
            Self::CircuitOpen => 8,
        }
    }
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "no connection: {why}"),
            Self::Status(status) => write!(f, "status {status}"),
            other => f.write_str(Self::NAMES[other.index()]),
        }
    }
}

/// A response whose head has come.
#[derive(Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    body: Incoming,
    timeout: Duration,
    begun: Instant,
    received: u64,
}

impl Reply {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// `Timeout` if nothing comes for the client's timeout, `TooSlow` below [`MIN_BYTES_PER_S`], `Cut` if the connection
    /// breaks.
    pub async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        loop {
            match tokio::time::timeout(self.timeout, self.body.frame()).await {
                Err(_) => return Err(OriginError::Timeout),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(OriginError::Cut),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.received += data.len() as u64;
                        let allowed = self.timeout + Duration::from_secs(self.received / MIN_BYTES_PER_S);
                        if clock::now().since(self.begun) > allowed {
                            return Err(OriginError::TooSlow);
                        }
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// The HTTP client.
#[derive(Debug)]
pub struct Client {
    client: HyperClient<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    timeout: Duration,
    breakers: Breakers,
    requests: AtomicU64,
    bytes: AtomicU64,
    failures: [AtomicU64; OriginError::NAMES.len()],
}

impl Client {
    /// A client that gives an origin `timeout` for its head, and for each piece of its body.
    pub fn new(timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(timeout));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let builder = hyper_rustls::HttpsConnectorBuilder::new();
        let builder = match builder.with_native_roots() {
            Ok(builder) => builder,
            Err(err) => {
                // A box without certificates still repairs over http.
                tracing::warn!(%err, "no certificate authorities on this system: https origins will fail");
                let nobody = rustls::ClientConfig::builder()
                    .with_root_certificates(rustls::RootCertStore::empty())
                    .with_no_client_auth();
                hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(nobody)
            }
        };
        let connector = builder.https_or_http().enable_http1().wrap_connector(connector);
        let client = HyperClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(MAX_IDLE)
            .build(connector);
        Self {
            client,
            timeout,
            breakers: Breakers::default(),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failures: Default::default(),
        }
    }

    /// Asks for `url`, whole or in ranges of bytes (end exclusive).
    ///
    /// # Errors
    /// [`OriginError`]; 404 and other refusals are `Status`.
    pub async fn get(&self, url: &str, ranges: &[Range<u64>]) -> Result<Reply, OriginError> {
        if !self.breakers.admits(url, clock::now()) {
            return self.count(Err(OriginError::CircuitOpen));
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        // A caller that gives up in between counts as a failure: half-open circuits must not wait for it for ever.
        let pending = Pending { breakers: &self.breakers, url, is_well: false };
        let result = self.get_following(url, ranges).await;
        pending.ended(result.as_ref().map(|_| ()));
        self.count(result)
    }

    /// Fetches byte ranges and sends each piece on with its offset, in the order in which the origin sends them. An
    /// origin that answers 200 with everything is as good: only what was asked for is handed on.
    ///
    /// # Errors
    /// [`OriginError`]; pieces handed on before it stand.
    pub async fn get_ranges(
        &self,
        url: &str,
        ranges: &[Range<u64>],
        pieces: mpsc::Sender<(u64, Bytes)>,
    ) -> Result<(), OriginError> {
        let mut reply = self.get(url, ranges).await?;
        let result = self.read_ranges(&mut reply, ranges, &pieces).await;
        if result.is_err() {
            self.breakers.note(url, false, clock::now());
        }
        self.count(result)
    }

    /// Looks at origins that have failed every `interval`, for ever. Any answer to a HEAD of their root is health; only a
    /// request for an object can say more.
    pub async fn watch_health(&self, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            for url in self.breakers.troubled() {
                let Ok(request) = Request::head(&url).header(USER_AGENT, AGENT).body(Empty::new()) else {
                    continue;
                };
                let answer = tokio::time::timeout(self.timeout, self.client.request(request)).await;
                let is_well = matches!(&answer, Ok(Ok(response)) if !response.status().is_server_error());
                self.breakers.looked(&url, is_well, clock::now());
                tracing::debug!(url, is_well, "health of an origin that failed");
            }
        }
    }

    /// Requests made, bytes of bodies received, and failures in the order of [`OriginError::NAMES`].
    pub fn failures(&self) -> (u64, u64, [u64; OriginError::NAMES.len()]) {
        let failures = std::array::from_fn(|at| self.failures[at].load(Ordering::Relaxed));
        (self.requests.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed), failures)
    }

    /// Origins that are left alone for now.
    pub fn open_circuits(&self) -> Vec<String> {
        self.breakers.open(clock::now())
    }

    /// Notes bytes of a body.
    pub fn count_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn count<T>(&self, result: Result<T, OriginError>) -> Result<T, OriginError> {
        result.inspect_err(|err| {
            self.failures[err.index()].fetch_add(1, Ordering::Relaxed);
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
            let request = request.body(Empty::new()).map_err(|_| OriginError::BadUrl)?;
            let response = match tokio::time::timeout(self.timeout, self.client.request(request)).await {
                Err(_) => return Err(OriginError::Timeout),
                Ok(Err(err)) => {
                    let cause =
                        std::error::Error::source(&err).map_or_else(|| err.to_string(), ToString::to_string);
                    return Err(OriginError::Connect(cause));
                }
                Ok(Ok(response)) => response,
            };
            let (head, body) = response.into_parts();
            if head.status.is_redirection() && head.status != StatusCode::NOT_MODIFIED {
                let location = head
                    .headers
                    .get(LOCATION)
                    .and_then(|it| it.to_str().ok())
                    .ok_or(OriginError::Redirect)?;
                uri = join(&uri, location).ok_or(OriginError::Redirect)?;
                continue;
            }
            if !head.status.is_success() {
                return Err(OriginError::Status(head.status.as_u16()));
            }
            return Ok(Reply {
                status: head.status,
                headers: head.headers,
                body,
                timeout: self.timeout,
                begun: clock::now(),
                received: 0,
            });
        }
        Err(OriginError::Redirect)
    }

    async fn read_ranges(
        &self,
        reply: &mut Reply,
        ranges: &[Range<u64>],
        pieces: &mpsc::Sender<(u64, Bytes)>,
    ) -> Result<(), OriginError> {
        let text = |name| reply.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if reply.status == StatusCode::OK {
            return self.read_from(reply, 0, ranges, pieces).await;
        }
        if reply.status != StatusCode::PARTIAL_CONTENT {
            return Err(OriginError::BadRange);
        }
        if let Some(range) = parse_content_range(text(CONTENT_RANGE)) {
            // Some origins answer several ranges with one that covers them; none may go beyond.
            let (first, last) =
                (ranges.first().map_or(0, |it| it.start), ranges.last().map_or(0, |it| it.end));
            if range.start < first || range.end > last {
                return Err(OriginError::BadRange);
            }
            return self.read_from(reply, range.start, ranges, pieces).await;
        }
        let boundary = boundary_of(text(http::header::CONTENT_TYPE)).ok_or(OriginError::BadRange)?;
        self.read_multipart(reply, &boundary, ranges, pieces).await
    }

    /// A body whose first byte is at `offset`; hands on what lies in `wanted`.
    async fn read_from(
        &self,
        reply: &mut Reply,
        mut offset: u64,
        wanted: &[Range<u64>],
        pieces: &mpsc::Sender<(u64, Bytes)>,
    ) -> Result<(), OriginError> {
        // Ranges are in order. A body that is too short for them ends before.
        let last = wanted.last().map_or(0, |range| range.end);
        while offset < last {
            let Some(piece) = reply.next().await? else { return Err(OriginError::Cut) };
            self.count_bytes(piece.len());
            let end = offset + piece.len() as u64;
            for range in wanted {
                let (from, to) = (range.start.max(offset), range.end.min(end));
                if from < to {
                    hand_on(pieces, from, piece.slice((from - offset) as usize..(to - offset) as usize))
                        .await?;
                }
            }
            offset = end;
        }
        Ok(())
    }

    /// `multipart/byteranges` (RFC 9110 section 14.6). Parts are collected whole: each is at most what was asked for.
    async fn read_multipart(
        &self,
        reply: &mut Reply,
        boundary: &str,
        ranges: &[Range<u64>],
        pieces: &mpsc::Sender<(u64, Bytes)>,
    ) -> Result<(), OriginError> {
        let asked: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        let most = usize::try_from(asked).unwrap_or(usize::MAX).saturating_add(1024 * (ranges.len() + 1));
        let mut all = Vec::new();
        while let Some(piece) = reply.next().await? {
            self.count_bytes(piece.len());
            if all.len() + piece.len() > most {
                return Err(OriginError::BadRange);
            }
            all.extend_from_slice(&piece);
        }
        let all = Bytes::from(all);
        for (offset, part) in parse_multipart(&all, boundary) {
            let end = offset + part.len() as u64;
            if ranges.iter().any(|range| range.start <= offset && end <= range.end) {
                hand_on(pieces, offset, part).await?;
            }
        }
        Ok(())
    }
}

/// A request that somebody has been let make.
struct Pending<'a> {
    breakers: &'a Breakers,
    url: &'a str,
    is_well: bool,
}

impl Pending<'_> {
    fn ended(mut self, result: Result<(), &OriginError>) {
        // A refusal (404, 416) is an answer.
        self.is_well = match result {
            Ok(()) => true,
            Err(OriginError::Status(status)) => *status < 500,
            Err(_) => false,
        };
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.breakers.note(self.url, self.is_well, clock::now());
    }
}

/// Waits while whoever takes the pieces is behind.
async fn hand_on(pieces: &mpsc::Sender<(u64, Bytes)>, offset: u64, piece: Bytes) -> Result<(), OriginError> {
    pieces.send((offset, piece)).await.map_err(|_| OriginError::Cut)
}

/// `bytes 0-99/1000` to 0..100.
fn parse_content_range(text: &str) -> Option<Range<u64>> {
    let (range, _) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, last) = range.split_once('-')?;
    let (start, last): (u64, u64) = (start.trim().parse().ok()?, last.trim().parse().ok()?);
    (start <= last).then_some(start..last.checked_add(1)?)
}

fn boundary_of(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/byteranges") {
        return None;
    }
    let boundary =
        parameters.split(';').find_map(|it| it.trim().strip_prefix("boundary="))?.trim_matches('"');
    (!boundary.is_empty() && boundary.len() <= 200).then(|| boundary.to_owned())
}

/// Parts with their offsets; a part that lies about its length ends the walk.
fn parse_multipart(all: &Bytes, boundary: &str) -> Vec<(u64, Bytes)> {
    let delimiter = format!("--{boundary}");
    let find = |from: usize, needle: &[u8]| {
        all.get(from..)?.windows(needle.len()).position(|window| window == needle).map(|at| from + at)
    };
    let (mut parts, mut at) = (Vec::new(), 0);
    while let Some(start) = find(at, delimiter.as_bytes()) {
        let Some(body) = find(start, b"\r\n\r\n").map(|it| it + 4) else { break };
        let Some(range) = std::str::from_utf8(&all[start..body]).ok().and_then(|head| {
            head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.trim().eq_ignore_ascii_case("content-range").then(|| parse_content_range(value))?
            })
        }) else {
            break;
        };
        let Some(end) =
            usize::try_from(range.end - range.start).ok().and_then(|length| body.checked_add(length))
        else {
            break;
        };
        if end > all.len() {
            break;
        }
        parts.push((range.start, all.slice(body..end)));
        at = end;
    }
    parts
}

fn join(base: &Uri, location: &str) -> Option<Uri> {
    if location.contains("://") {
        return location.parse().ok().filter(|uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")));
    }
    let authority = format!("{}://{}", base.scheme_str()?, base.authority()?);
    if location.starts_with('/') {
        return format!("{authority}{location}").parse().ok();
    }
    let folder = base.path().rfind('/').map_or("/", |at| &base.path()[..=at]);
    format!("{authority}{folder}{location}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_and_multipart() {
        assert_eq!(parse_content_range("bytes 5-9/100"), Some(5..10));
        assert_eq!(parse_content_range("bytes 0-0/*"), Some(0..1));
        for bad in ["bytes 9-5/100", "bytes */100", "5-9/100", "", "bytes 0-18446744073709551615/1"] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
        assert_eq!(boundary_of("multipart/byteranges; boundary=\"x y\"").as_deref(), Some("x y"));
        let body = Bytes::from_static(b"--B\r\nContent-Type: a/b\r\nContent-Range: bytes 2-4/9\r\n\r\ncde\r\n--B\r\nContent-range: bytes 7-7/9\r\n\r\nh\r\n--B--\r\n");
        assert_eq!(
            parse_multipart(&body, "B"),
            [(2, Bytes::from_static(b"cde")), (7, Bytes::from_static(b"h"))]
        );
        let lying = Bytes::from_static(b"--B\r\nContent-Range: bytes 0-99/100\r\n\r\nabc\r\n--B--");
        assert!(parse_multipart(&lying, "B").is_empty());
    }

    #[test]
    fn redirects_resolve() {
        let base: Uri = "http://h:8/a/b?c".parse().unwrap();
        assert_eq!(join(&base, "d").unwrap(), "http://h:8/a/d");
        assert_eq!(join(&base, "/d").unwrap(), "http://h:8/d");
        assert_eq!(join(&base, "https://k/").unwrap(), "https://k/");
        assert_eq!(join(&base, "file:///etc/passwd"), None);
    }
}
