//! Access to the admin interface: credentials, defences against web pages, rate limit.
//!
//! | client | may |
//! |---|---|
//! | of the Unix socket | everything: the socket's permissions have decided |
//! | of TCP, with the token or a client certificate | everything |
//! | of TCP on loopback, without | `GET /metrics`, `/healthz`, `/readyz` |
//! | of TCP elsewhere, without | nothing |
//!
//! Any page in a browser on the machine reaches loopback. Its requests are recognised by `Origin` and `Sec-Fetch-Site`; a name
//! that its owner has pointed at loopback (DNS rebinding) by `Host`.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use carousel::digest::Digest;
use carousel::time::Instant;
use http::request::Parts;
use http::{Method, StatusCode, header};
use lru::LruCache;

use super::options::Admin;
use crate::admin_refusals::AdminRefusal;
use crate::clients;

/// Requests that a client may make at once, and then each second.
const BURST: f64 = 1000.0;
const PER_SECOND: f64 = 100.0;
/// Cost of a wrong credential, in requests: five a second can be tried.
const WRONG_COSTS: f64 = 20.0;
/// The shortest token: 16 characters of a random one are out of reach at five tries a second.
const MIN_TOKEN_BYTES: usize = 16;

carousel::limits! {
    /// Clients whose rate of requests is known.
    const MAX_CLIENTS: usize = 1024, "clients" {
        why: "Operators and scrapers are a handful; an entry has 40 bytes.",
        full: "The client that was quiet for the longest is forgotten, and starts with a full allowance.",
        free: "When another client asks.",
        test: "rates_are_known_of_a_bounded_number_of_clients",
    }

    /// File of a token.
    const MAX_TOKEN_BYTES: u64 = 4096, "bytes" {
        why: "A random token of 64 digits, and a line feed.",
        full: "The file is refused; an earlier token stays in force.",
        free: "When the file is rewritten.",
        test: "the_token_opens_everything_and_can_be_changed_while_it_runs",
    }
}

/// Sender of a request.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    Unix {
        uid: Option<u32>,
        pid: Option<i32>,
    },
    Tcp {
        address: IpAddr,
        on_loopback: bool,
        /// Fingerprint of the client's certificate, which has been verified.
        certificate: Option<String>,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { uid, pid } => {
                write!(f, "uid {}", uid.map_or_else(|| "unknown".to_owned(), |it| it.to_string()))?;
                pid.map_or(Ok(()), |pid| write!(f, ", pid {pid}"))
            }
            Self::Tcp { address, certificate, .. } => {
                write!(f, "{address}")?;
                certificate.as_ref().map_or(Ok(()), |it| write!(f, ", certificate {it}"))
            }
        }
    }
}

/// Client of a rate limit: a user, an address, a network of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    User(Option<u32>),
    Address(IpAddr),
}

impl Client {
    fn of(peer: &Peer) -> Self {
        match peer {
            Peer::Unix { uid, .. } => Self::User(*uid),
            Peer::Tcp { address, .. } => Self::Address(clients::network_of(*address)),
        }
    }
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// The token of the file.
struct Token {
    path: PathBuf,
    known: Mutex<(Option<SystemTime>, Digest)>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.path.display())
    }
}

impl Token {
    fn open(path: PathBuf) -> Result<Self, String> {
        let read = Self::read(&path)?;
        Ok(Self { path, known: Mutex::new(read) })
    }

    fn read(path: &Path) -> Result<(Option<SystemTime>, Digest), String> {
        let failed = |err: std::io::Error| {
            let why = carousel::config::plain(&err);
            format!(
                "the token of [admin], {}: {why}; write one there with `openssl rand -hex 32`, for skycached to read",
                path.display()
            )
        };
        let about = std::fs::metadata(path).map_err(failed)?;
        if !about.is_file() || about.len() > MAX_TOKEN_BYTES {
            return Err(format!(
                "the token of [admin], {}: it is not a file of one line; give one, as `openssl rand -hex 32` prints",
                path.display()
            ));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let token = text.trim();
        if token.len() < MIN_TOKEN_BYTES || token.contains(char::is_whitespace) {
            return Err(format!(
                "the token of [admin], {}: it has no word of at least {MIN_TOKEN_BYTES} characters; give one, as `openssl rand -hex 32` prints",
                path.display()
            ));
        }
        Ok((about.modified().ok(), Digest::of(token.as_bytes())))
    }

    /// Whether a request has this token. If the file cannot be read any more, its last token stays valid.
    fn is(&self, given: &str) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = std::fs::metadata(&self.path).and_then(|it| it.modified()).ok();
        if changed.is_some() && changed != known.0 {
            match Self::read(&self.path) {
                Ok(read) => *known = read,
                Err(err) => {
                    known.0 = changed;
                    tracing::error!("{err}; the previous token stays in force");
                }
            }
        }
        is_same(&Digest::of(given.as_bytes()), &known.1)
    }
}

/// Compares digests in a time that does not depend on them.
fn is_same(one: &Digest, other: &Digest) -> bool {
    let difference = one.0.iter().zip(other.0).fold(0, |all, (one, other)| all | (one ^ other));
    std::hint::black_box(difference) == 0
}

/// Answer to a refused request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) why: AdminRefusal,
    pub(super) status: StatusCode,
    pub(super) line: &'static str,
    pub(super) retry_after_s: Option<u64>,
}

impl Refused {
    const fn new(why: AdminRefusal, status: StatusCode, line: &'static str) -> Self {
        Self { why, status, line, retry_after_s: None }
    }
}

/// The guard of all listeners.
#[derive(Debug)]
pub(super) struct Guard {
    token: Option<Token>,
    names: Vec<String>,
    buckets: Mutex<LruCache<Client, Bucket>>,
}

/// The folder of credentials that systemd gives a service (systemd.exec(5), `LoadCredential=`).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The file of the token that the configuration names.
///
/// # Errors
/// One line, if it is a credential and the service manager has given none.
fn token_path(config: &Admin) -> Result<Option<PathBuf>, String> {
    let Some(name) = config.token_credential.as_ref().filter(|_| config.token_file.is_none()) else {
        return Ok(config.token_file.clone());
    };
    let folder = std::env::var_os(CREDENTIALS).ok_or_else(|| {
        format!("[admin] token_credential = {name:?}: the service manager gave no credentials; add LoadCredential={name}:PATH to the unit")
    })?;
    Ok(Some(Path::new(&folder).join(name)))
}

/// Whether the token that the configuration names can be used. `None`: it is a credential of the service manager, which the service
/// alone is given, so that nothing can be said of it.
///
/// # Errors
/// One line.
pub fn check_token(config: &Admin) -> Result<Option<()>, String> {
    let is_elsewhere = config.token_file.is_none() && config.token_credential.is_some();
    if is_elsewhere && std::env::var_os(CREDENTIALS).is_none() {
        return Ok(None);
    }
    token_path(config)?.map(Token::open).transpose()?;
    Ok(Some(()))
}

impl Guard {
    /// A guard with the token of the configuration.
    ///
    /// # Errors
    /// One line, if it cannot be read.
    pub(super) fn new(config: &Admin) -> Result<Self, String> {
        Ok(Self {
            token: token_path(config)?.map(Token::open).transpose()?,
            names: config.names.iter().map(|it| it.to_ascii_lowercase()).collect(),
            buckets: Mutex::new(LruCache::new(const { NonZeroUsize::new(MAX_CLIENTS).unwrap() })),
        })
    }

    /// Admits a request that counts as `costs` requests. Returns the right by which it was admitted, for the audit log.
    pub(super) fn admit(
        &self,
        peer: &Peer,
        head: &Parts,
        costs: f64,
        now: Instant,
    ) -> Result<&'static str, Refused> {
        self.take(peer, costs, now)?;
        // The HTTP library removes a Content-Length beside it (RFC 9112 section 6.3); no request here has a body.
        if head.headers.contains_key(header::TRANSFER_ENCODING) {
            let line = "requests here have no body in chunks: leave Transfer-Encoding out";
            return Err(Refused::new(AdminRefusal::BadRequest, StatusCode::BAD_REQUEST, line));
        }
        // A body would be ignored: parameters that it has would seem to be in force.
        let has_body = head.headers.get(header::CONTENT_LENGTH).is_some_and(|it| it != "0");
        if has_body && !matches!(head.method, Method::GET | Method::HEAD) {
            let line = "requests here have no body: give parameters in the query, as in /api/v1/purge?key=cdn.example.com/film/1.m4s";
            return Err(Refused::new(AdminRefusal::BadRequest, StatusCode::BAD_REQUEST, line));
        }
        let Peer::Tcp { on_loopback, certificate, .. } = peer else { return Ok("socket") };
        if is_of_a_page(head) && !is_of_our_page(head) {
            let line =
                "requests of other web pages are refused: use this box's own page, `skycached` or curl";
            return Err(Refused::new(AdminRefusal::Page, StatusCode::FORBIDDEN, line));
        }
        if certificate.is_some() {
            return Ok("certificate");
        }
        if let Some(given) = head.headers.get(header::AUTHORIZATION) {
            let bearer = given.to_str().ok().and_then(|it| it.split_once(' '));
            let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            let is_right =
                self.token.as_ref().zip(bearer).is_some_and(|(token, (_, it))| token.is(it.trim()));
            if is_right {
                return Ok("token");
            }
            self.take(peer, WRONG_COSTS, now)?;
            let line = "that is not the token of [admin] token_file or token_credential";
            return Err(Refused::new(AdminRefusal::Credential, StatusCode::UNAUTHORIZED, line));
        }
        if !on_loopback {
            let line = "give the token: Authorization: Bearer TOKEN";
            return Err(Refused::new(AdminRefusal::Credential, StatusCode::UNAUTHORIZED, line));
        }
        if !self.is_named(head) {
            let line = "that Host is not a name of this listener: [admin] names can add it";
            return Err(Refused::new(AdminRefusal::Host, StatusCode::MISDIRECTED_REQUEST, line));
        }
        let is_read = matches!(head.method, Method::GET | Method::HEAD)
            && matches!(head.uri.path(), "/metrics" | "/healthz" | "/readyz");
        if !is_read {
            let line = "without a credential there is GET /metrics, /healthz and /readyz; the rest needs the token of [admin], or the socket";
            let status = if self.token.is_some() { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
            return Err(Refused::new(AdminRefusal::ReadOnly, status, line));
        }
        Ok("loopback")
    }

    /// Takes `count` requests from a client's allowance.
    fn take(&self, peer: &Peer, count: f64, now: Instant) -> Result<(), Refused> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.get_or_insert_mut(Client::of(peer), || Bucket { left: BURST, at: now });
        let since = now.since(bucket.at).as_secs_f64();
        (bucket.left, bucket.at) = ((bucket.left + since * PER_SECOND).min(BURST), now);
        if bucket.left >= count {
            bucket.left -= count;
            return Ok(());
        }
        let wait = Duration::from_secs_f64((count - bucket.left) / PER_SECOND);
        let line = "too many requests: wait as Retry-After says";
        let refused = Refused::new(AdminRefusal::Rate, StatusCode::TOO_MANY_REQUESTS, line);
        Err(Refused { retry_after_s: Some(wait.as_secs() + 1), ..refused })
    }

    /// Whether `Host` is an address, `localhost`, or a name of the configuration. An address cannot be pointed elsewhere.
    fn is_named(&self, head: &Parts) -> bool {
        let hosts: Vec<_> = head.headers.get_all(header::HOST).iter().collect();
        let [host] = hosts[..] else { return head.version == http::Version::HTTP_10 && hosts.is_empty() };
        let Some(host) = host.to_str().ok().and_then(clients::host_of) else { return false };
        host.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || self.names.iter().any(|it| it.eq_ignore_ascii_case(host))
    }
}

/// Whether a script or form of a web page has sent a request. `none` is an address that a person has typed.
fn is_of_a_page(head: &Parts) -> bool {
    let mut sites = head.headers.get_all("sec-fetch-site").iter();
    head.headers.contains_key(header::ORIGIN) || sites.any(|it| it.as_bytes() != b"none")
}

/// Whether the request comes from the operator's page of this listener. That page needs a credential as every client does,
/// and [`Guard::is_named`] refuses names that others have pointed at this host.
fn is_of_our_page(head: &Parts) -> bool {
    // A field that cannot be read, or comes several times, says nothing about this page.
    let field = |name: &str| {
        let mut values = head.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
            (Some(_), Some(_)) => Err(()),
        }
    };
    let is_here = match field("origin") {
        Ok(None) => true,
        Ok(Some(origin)) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_some() && field("host") == Ok(host)
        }
        Err(()) => false,
    };
    // Browsers leave Sec-Fetch-Site out where the address is not a secure one.
    is_here && matches!(field("sec-fetch-site"), Ok(None | Some("same-origin")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str, on_loopback: bool) -> Peer {
        Peer::Tcp { address: address.parse().unwrap(), on_loopback, certificate: None }
    }

    fn head(method: &str, path: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn with_token(text: &str) -> (Guard, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, text).unwrap();
        (Guard::new(&Admin { token_file: Some(path), ..Admin::default() }).unwrap(), folder)
    }

    const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

    fn why(guard: &Guard, peer: &Peer, head: &Parts) -> Result<&'static str, AdminRefusal> {
        guard.admit(peer, head, 1.0, NOW).map_err(|it| it.why)
    }

    #[test]
    fn loopback_reads_metrics_and_health_and_nothing_else_without_a_credential() {
        let guard = Guard::new(&Admin::default()).unwrap();
        let peer = tcp("127.0.0.1", true);
        let host = ("host", "127.0.0.1:8081");
        for path in ["/metrics", "/healthz", "/readyz"] {
            assert_eq!(why(&guard, &peer, &head("GET", path, &[host])), Ok("loopback"), "{path}");
        }
        for (method, path) in [
            ("POST", "/api/v1/purge?key=a"),
            ("PURGE", "/a/b"),
            ("GET", "/api/v1/status"),
            ("POST", "/metrics"),
            ("GET", "/api/v1/objects"),
        ] {
            assert_eq!(
                why(&guard, &peer, &head(method, path, &[host])),
                Err(AdminRefusal::ReadOnly),
                "{path}"
            );
        }
        let wrong = ("authorization", "Bearer x");
        assert_eq!(
            why(&guard, &peer, &head("GET", "/metrics", &[host, wrong])),
            Err(AdminRefusal::Credential)
        );
        let elsewhere = tcp("10.0.0.9", false);
        let asked = head("GET", "/metrics", &[("host", "10.0.0.1:8081")]);
        assert_eq!(why(&guard, &elsewhere, &asked), Err(AdminRefusal::Credential));
        let unix = Peer::Unix { uid: Some(0), pid: None };
        assert_eq!(why(&guard, &unix, &head("PURGE", "/a/b", &[])), Ok("socket"));
    }

    #[test]
    fn the_token_opens_everything_and_can_be_changed_while_it_runs() {
        let (guard, folder) = with_token("0123456789abcdef0123\n");
        let peer = tcp("10.0.0.9", false);
        let purge = |token: &str| {
            let value = format!("Bearer {token}");
            why(&guard, &peer, &head("POST", "/api/v1/purge?key=a", &[("authorization", &value)]))
        };
        assert_eq!(purge("0123456789abcdef0123"), Ok("token"));
        for wrong in ["0123456789abcdef0124", "0123456789abcdef012", "", "0123456789abcdef0123 x"] {
            assert_eq!(purge(wrong), Err(AdminRefusal::Credential), "{wrong}");
        }
        let basic = head("GET", "/metrics", &[("authorization", "Basic 0123456789abcdef0123")]);
        assert_eq!(why(&guard, &peer, &basic), Err(AdminRefusal::Credential));
        let path = folder.path().join("token");
        std::fs::write(&path, "fedcba9876543210fedc").unwrap();
        let later = SystemTime::now() + Duration::from_secs(5);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        assert_eq!(purge("0123456789abcdef0123"), Err(AdminRefusal::Credential));
        assert_eq!(purge("fedcba9876543210fedc"), Ok("token"));
        assert!(Token::open(folder.path().to_path_buf()).is_err(), "a folder");
        let longest = "x".repeat(MAX_TOKEN_BYTES as usize);
        std::fs::write(&path, &longest).unwrap();
        assert!(Token::open(path.clone()).is_ok());
        std::fs::write(&path, longest + "x").unwrap();
        assert!(Token::open(path.clone()).is_err(), "too long");
        std::fs::write(&path, "short").unwrap();
        assert!(Token::open(path).unwrap_err().contains("16"));
    }

    #[test]
    fn web_pages_and_names_that_lead_here_are_refused() {
        let (guard, _folder) = with_token("0123456789abcdef0123");
        let peer = tcp("127.0.0.1", true);
        let token = ("authorization", "Bearer 0123456789abcdef0123");
        for fields in [
            vec![("host", "127.0.0.1:8081"), ("origin", "https://evil.example")],
            vec![("host", "127.0.0.1:8081"), ("origin", "null")],
            vec![("host", "localhost:8081"), ("sec-fetch-site", "cross-site")],
            vec![("host", "localhost:8081"), ("sec-fetch-site", "same-site")],
            vec![token, ("origin", "https://evil.example")],
        ] {
            let asked = head("GET", "/metrics", &fields);
            assert_eq!(why(&guard, &peer, &asked), Err(AdminRefusal::Page), "{fields:?}");
        }
        // Fields that cannot be read, or come several times, are not of this page, in either order.
        let own = ("origin", "http://127.0.0.1:8081");
        for fields in [
            vec![("origin", "http://evil.ex\u{e4}mple")],
            vec![own, ("origin", "https://evil.example")],
            vec![("origin", "https://evil.example"), own],
            vec![own, own],
            vec![own, ("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
            vec![("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
        ] {
            let fields = [&[("host", "127.0.0.1:8081"), token][..], &fields].concat();
            assert_eq!(
                why(&guard, &peer, &head("GET", "/metrics", &fields)),
                Err(AdminRefusal::Page),
                "{fields:?}"
            );
        }
        for host in ["evil.example", "evil.example:8081", "127.0.0.1.evil.example", "localhost.evil"] {
            let asked = head("GET", "/metrics", &[("host", host)]);
            assert_eq!(why(&guard, &peer, &asked), Err(AdminRefusal::Host), "{host}");
        }
        // The operator's page is this listener's own: it has the token, or gets what has none.
        let own = [
            ("host", "10.0.0.1:8081"),
            ("origin", "http://10.0.0.1:8081"),
            ("sec-fetch-site", "same-origin"),
        ];
        let with_it = [own[0], own[1], own[2], token];
        let elsewhere = tcp("10.0.0.9", false);
        let purge = |fields: &[(&str, &str)]| head("POST", "/api/v1/purge?key=a", fields);
        assert_eq!(why(&guard, &elsewhere, &purge(&with_it)), Ok("token"));
        assert_eq!(why(&guard, &elsewhere, &purge(&own)), Err(AdminRefusal::Credential));
        assert_eq!(why(&guard, &peer, &purge(&own)), Err(AdminRefusal::ReadOnly));
        let rebound = [("host", "evil.example:8081"), ("origin", "http://evil.example:8081"), own[2]];
        assert_eq!(why(&guard, &peer, &purge(&rebound)), Err(AdminRefusal::Host));
        let typed = head("GET", "/metrics", &[("host", "[::1]:8081"), ("sec-fetch-site", "none")]);
        assert_eq!(why(&guard, &peer, &typed), Ok("loopback"));
    }

    #[test]
    fn a_body_is_refused_whoever_sends_it() {
        let (guard, _folder) = with_token("0123456789abcdef0123");
        let token = ("authorization", "Bearer 0123456789abcdef0123");
        let asked = |fields: &[(&str, &str)]| head("POST", "/api/v1/purge?key=a", fields);
        for peer in [tcp("127.0.0.1", true), Peer::Unix { uid: Some(0), pid: None }] {
            assert!(why(&guard, &peer, &asked(&[token, ("content-length", "0")])).is_ok());
            let scraped = head("GET", "/metrics", &[token, ("content-length", "3")]);
            assert!(why(&guard, &peer, &scraped).is_ok(), "a read has no parameters that could be in it");
            for fields in [
                vec![token, ("content-length", "3")],
                vec![token, ("content-length", "3"), ("content-type", "application/json")],
                vec![token, ("transfer-encoding", "chunked")],
                vec![token, ("content-length", "3"), ("transfer-encoding", "chunked")],
            ] {
                assert_eq!(why(&guard, &peer, &asked(&fields)), Err(AdminRefusal::BadRequest), "{fields:?}");
            }
        }
    }

    #[test]
    fn a_client_that_asks_too_often_waits_and_others_do_not() {
        let (guard, _folder) = with_token("0123456789abcdef0123");
        let (one, other) = (tcp("10.0.0.9", false), tcp("10.0.0.10", false));
        let wrong = head("GET", "/metrics", &[("authorization", "Bearer 0123456789abcdef9999")]);
        let mut refused = 0;
        let last = loop {
            match guard.admit(&one, &wrong, 1.0, NOW).unwrap_err() {
                it if it.why == AdminRefusal::Credential => refused += 1,
                it => break it,
            }
        };
        assert_eq!((refused, last.status), (47, StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(last.retry_after_s, Some(1));
        let right = head("GET", "/metrics", &[("authorization", "Bearer 0123456789abcdef0123")]);
        assert_eq!(why(&guard, &other, &right), Ok("token"));
        // A search of the index costs as much as ten requests.
        let many = tcp("10.0.0.11", false);
        let admitted = (0..1000).take_while(|_| guard.admit(&many, &right, 10.0, NOW).is_ok()).count();
        assert_eq!(admitted, 100);
        let later = NOW + Duration::from_secs(2);
        assert!(guard.admit(&one, &right, 1.0, later).is_ok(), "its allowance comes back");
    }

    #[test]
    fn rates_are_known_of_a_bounded_number_of_clients() {
        let (guard, _folder) = with_token("0123456789abcdef0123");
        let right = head("GET", "/metrics", &[("authorization", "Bearer 0123456789abcdef0123")]);
        let admitted = |peer: &Peer| guard.admit(peer, &right, BURST, NOW).is_ok();
        let peers: Vec<Peer> =
            (0..=MAX_CLIENTS).map(|at| tcp(&format!("10.1.{}.{}", at / 256, at % 256), false)).collect();
        assert!(peers[..MAX_CLIENTS].iter().all(&admitted));
        assert!(!peers[..MAX_CLIENTS].iter().any(&admitted), "all are known, and have used their allowance");
        assert!(admitted(&peers[MAX_CLIENTS]));
        assert_eq!(guard.buckets.lock().unwrap().len(), MAX_CLIENTS);
        assert!(!admitted(&peers[1]));
        assert!(admitted(&peers[0]), "forgotten, being quiet for the longest");
    }
}
