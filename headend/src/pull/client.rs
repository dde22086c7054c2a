//! HTTP client for the origin of a pulled source: conditions, ranges, redirects, timeouts.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use carousel::config::without_numbers;
use carousel::name::resolve;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE, USER_AGENT,
};
use hyper::http::uri::Scheme;
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::OwnedSemaphorePermit;

use super::authorities;
use super::s3::listing::bare;
use super::stats::{Failed, PullFailure, without_secrets};
use crate::tls;

/// Silence after which a request is given up: before the head, and between two pieces of the body.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

carousel::limits! {
    /// Redirects of one request that are followed.
    const MAX_REDIRECTS: usize = 5, "redirects" {
        why: "Origins redirect once or twice: to https, to a shard.",
        full: "The request fails as `redirect`.",
        free: "Holds for one request.",
        test: "what_an_origin_must_not_do_is_refused_and_counted",
    }
}

/// `User-Agent` of the headend.
pub(super) const AGENT: &str = concat!("skycache-headend/", env!("CARGO_PKG_VERSION"));

/// Validator of a version of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Validator {
    /// RFC 9110 section 8.8.3.
    Etag(HeaderValue),
    /// RFC 9110 section 8.8.2.
    LastModified(HeaderValue),
}

impl Validator {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let etag = headers.get(ETAG).cloned().map(Self::Etag);
        etag.or_else(|| headers.get(LAST_MODIFIED).cloned().map(Self::LastModified))
    }

    /// An ETag without its quotes.
    pub(super) fn bare(&self) -> Option<String> {
        match self {
            Self::Etag(value) => Some(bare(value.to_str().ok()?).to_owned()),
            Self::LastModified(_) => None,
        }
    }

    /// A validator from an ETag without its quotes.
    pub(super) fn of_bare(etag: &str) -> Option<Self> {
        let value = HeaderValue::try_from(format!("\"{etag}\"")).ok();
        value.filter(|_| !etag.is_empty()).map(Self::Etag)
    }

    /// Whether it is strong, as `If-Range` requires (RFC 9110 section 13.1.5). Two versions may have the same date.
    fn is_strong(&self) -> bool {
        matches!(self, Self::Etag(value) if !value.as_bytes().starts_with(b"W/"))
    }
}

/// Answer of an origin.
pub(super) enum Answer {
    /// The known version is the newest.
    Unchanged {
        /// Final URL of redirects.
        moved_to: Option<String>,
    },
    /// The rest of another version: some origins ignore `If-Range`.
    OtherVersion,
    /// A body.
    Body {
        /// It is the rest from the requested offset.
        continues: bool,
        /// Length of the complete file, where the response is a part of it: the part may be shorter than was requested (RFC
        /// 9110 section 15.3.7).
        whole_bytes: Option<u64>,
        /// Validator of this version.
        validator: Option<Validator>,
        /// Final URL of redirects; `None`: the requested one.
        moved_to: Option<String>,
        body: Body,
    },
}

/// A streamed body.
pub(super) struct Body {
    body: Incoming,
    /// Bytes received.
    bytes: u64,
    /// Length announced by the response.
    length: Option<u64>,
    /// Permit of the concurrent requests of its source, if these are bounded.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Body {
    pub(super) fn of(body: Incoming) -> Self {
        let length = body.size_hint().exact();
        Self { body, bytes: 0, length, _permit: None }
    }

    /// A body that holds a permit until it is dropped.
    pub(super) fn held(body: Incoming, permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: Some(permit), ..Self::of(body) }
    }

    /// The next bytes; `None` at its end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failed> {
        loop {
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
            let silent = |_| {
                let what = format!("nothing came for {} s after {}", SILENCE.as_secs(), self.so_far());
                Failed::new(PullFailure::Timeout, what)
            };
            match frame.map_err(silent)? {
                None => return Ok(None),
                Some(Err(_)) => return Err(self.cut()),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.bytes += data.len() as u64;
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The error of a truncated body.
    pub(super) fn cut(&self) -> Failed {
        Failed::new(PullFailure::Cut, format!("the response ended after {}", self.so_far()))
    }

    fn so_far(&self) -> String {
        match self.length {
            Some(length) => format!("{} of {length} bytes", self.bytes),
            None => format!("{} bytes, before its end", self.bytes),
        }
    }
}

/// A pool of connections.
pub(super) type Http = HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A pool of connections with this TLS.
pub(super) fn http(tls: rustls::ClientConfig) -> Http {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(SILENCE));
    let builder = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls);
    HyperClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(SILENCE)
        .build(builder.https_or_http().enable_http1().wrap_connector(connector))
}

/// A client of one origin.
pub(super) struct Client {
    client: Http,
    /// The URL of the manifest: `authorization` is sent only to its authority.
    own: String,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// `ca`: authorities that count beside the system's.
    pub(super) fn new(url: &str, authorization: Option<String>, ca: Option<&Path>) -> Result<Self, Failed> {
        let authorization = authorization.and_then(|it| HeaderValue::from_str(&it).ok()).map(|mut value| {
            value.set_sensitive(true);
            value
        });
        let tls = match ca {
            None => authorities::of_system(),
            Some(ca) => authorities::of_system_and(ca)
                .map_err(|why| Failed::new(PullFailure::Configuration, why.to_string()))?,
        };
        Ok(Self { client: http(tls), own: url.to_owned(), authorization })
    }

    /// Requests `url`: conditionally if a version is `known`; from an offset, if the version is unchanged.
    pub(super) async fn get(
        &self,
        url: &str,
        known: Option<&Validator>,
        from: Option<(u64, &Validator)>,
    ) -> Result<Answer, Failed> {
        let asked = url;
        let mut url = url.to_owned();
        let from = from.filter(|(_, validator)| validator.is_strong());
        let mut redirected_by: Option<StatusCode> = None;
        for _ in 0..=MAX_REDIRECTS {
            let uri: Uri = url.parse().map_err(|_| PullFailure::BadPath)?;
            // Redirects must not lead to internal addresses, whose responses would be broadcast; this also applies to
            // remembered redirects.
            if !is_same_authority(&self.own, &url)
                && leads_inward(&url).await
                && !leads_inward(&self.own).await
            {
                let by = redirected_by.map_or_else(String::new, |status| format!("{} to ", status.as_str()));
                let what = format!(
                    "{by}{}, an address of this machine or its link alone, which is not asked",
                    without_secrets(&url)
                );
                return Err(Failed::new(PullFailure::Redirect, what));
            }
            let mut request = Request::get(uri).header(USER_AGENT, AGENT).header(ACCEPT_ENCODING, "identity");
            if let Some(value) = self.authorization.as_ref().filter(|_| may_have_secret(&self.own, &url)) {
                request = request.header(AUTHORIZATION, value);
            }
            request = match known {
                Some(Validator::Etag(value)) => request.header(IF_NONE_MATCH, value),
                Some(Validator::LastModified(value)) => request.header(IF_MODIFIED_SINCE, value),
                None => request,
            };
            if let Some((offset, Validator::Etag(value))) = from {
                request = request.header(RANGE, format!("bytes={offset}-")).header(IF_RANGE, value);
            }
            let request = request.body(Full::default()).map_err(|_| PullFailure::BadPath)?;
            let response = tokio::time::timeout(SILENCE, self.client.request(request))
                .await
                .map_err(|_| silent())?
                .map_err(|err| behind_redirect(asked, &url, innermost_cause(&err)))
                .map_err(|why| Failed::new(PullFailure::Connect, why))?;
            let (status, headers) = (response.status(), response.headers());
            if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
                let location = headers.get(LOCATION).and_then(|it| it.to_str().ok());
                let next = location.and_then(|it| resolve(&url, it).ok());
                let is_http = |it: &String| it.starts_with("http://") || it.starts_with("https://");
                let nowhere = || match location {
                    Some(to) => format!(
                        "{} to {}, which is not an http or https URL",
                        status.as_str(),
                        without_secrets(to)
                    ),
                    None => format!("{} without a Location", status.as_str()),
                };
                url = next.filter(is_http).ok_or_else(|| Failed::new(PullFailure::Redirect, nowhere()))?;
                redirected_by = Some(status);
                continue;
            }
            let moved_to = Some(url.clone()).filter(|it| it != asked);
            return answer(response, known.is_some(), from, moved_to)
                .map_err(|failed| Failed::new(failed.why, behind_redirect(asked, &url, failed.detail)));
        }
        let what = format!(
            "more than {MAX_REDIRECTS} redirects in succession, the last to {}",
            without_secrets(&url)
        );
        Err(Failed::new(PullFailure::Redirect, what))
    }
}

/// The error of a silent origin.
pub(super) fn silent() -> Failed {
    Failed::new(PullFailure::Timeout, format!("no answer for {} s", SILENCE.as_secs()))
}

fn answer(
    response: hyper::Response<Incoming>,
    is_conditional: bool,
    from: Option<(u64, &Validator)>,
    moved_to: Option<String>,
) -> Result<Answer, Failed> {
    let mut whole_bytes = None;
    let (status, headers) = (response.status(), response.headers());
    let validator = Validator::of(headers);
    let coding = headers.get(CONTENT_ENCODING).filter(|it| *it != "identity");
    let coding = coding.map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned());
    let continues = match status {
        StatusCode::NOT_MODIFIED if is_conditional => return Ok(Answer::Unchanged { moved_to }),
        StatusCode::OK => false,
        StatusCode::PARTIAL_CONTENT => {
            let range = headers.get(CONTENT_RANGE).and_then(|it| it.to_str().ok()).unwrap_or_default();
            let begins = from.is_some_and(|(offset, _)| range.starts_with(&format!("bytes {offset}-")));
            if !begins {
                return Err(Failed::new(PullFailure::Status, format!("206, {range}")));
            }
            // A part has the ETag of the complete file (RFC 9110 section 15.3.7).
            if from.is_some_and(|(_, begun)| validator.as_ref() != Some(begun)) {
                return Ok(Answer::OtherVersion);
            }
            whole_bytes = range.rsplit_once('/').and_then(|(_, it)| it.trim().parse().ok());
            true
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            return Err(Failed::new(PullFailure::NotFound, status.as_str()));
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(Failed::new(PullFailure::Denied, status.as_str()));
        }
        _ => return Err(Failed::new(PullFailure::Status, status.as_str())),
    };
    if let Some(coding) = coding {
        return Err(Failed::new(PullFailure::Encoded, format!("Content-Encoding: {coding}")));
    }
    Ok(Answer::Body { continues, whole_bytes, validator, moved_to, body: Body::of(response.into_body()) })
}

/// The error text of a URL, with the URL if redirects led to it.
fn behind_redirect(asked: &str, url: &str, why: String) -> String {
    if url == asked { why } else { format!("redirected to {}: {why}", without_secrets(url)) }
}

/// Authority of a URL, in lower case, and whether it is https.
fn authority_of(url: &str) -> Option<(String, bool)> {
    let url: Uri = url.parse().ok()?;
    let authority = url.authority()?.as_str().to_ascii_lowercase();
    Some((authority, url.scheme() == Some(&Scheme::HTTPS)))
}

fn is_same_authority(one: &str, other: &str) -> bool {
    authority_of(one).map(|it| it.0) == authority_of(other).map(|it| it.0)
}

/// Whether credentials for `own` may be sent to `url`: same authority, and no downgrade to http.
fn may_have_secret(own: &str, url: &str) -> bool {
    match (authority_of(own), authority_of(url)) {
        (Some((own, was_tls)), Some((authority, is_tls))) => own == authority && (is_tls || !was_tls),
        _ => false,
    }
}

/// Whether a URL's host is internal: loopback, unspecified, or link-local (metadata services of clouds).
async fn leads_inward(url: &str) -> bool {
    let Some(uri) = url.parse::<Uri>().ok() else { return false };
    let Some(host) = uri.host() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let Ok(addresses) = tokio::net::lookup_host((host, 80)).await else { return false };
    addresses.map(|it| it.ip().to_canonical()).any(|ip| match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local(),
    })
}

/// Text of the innermost cause of an error, which is the most specific.
pub(super) fn innermost_cause(err: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = err;
    loop {
        if let Some(tls) = cause.downcast_ref() {
            return tls::failure(tls);
        }
        match cause.downcast_ref::<hyper::Error>() {
            Some(http) if http.is_incomplete_message() => {
                return "the origin has ended the connection without an answer".to_owned();
            }
            Some(http) if http.is_parse() => return "the server at this port does not use HTTP".to_owned(),
            _ => {}
        }
        // The inner error of an `io::Error` is not its source.
        let inside = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match inside.map(|it| it as &(dyn std::error::Error + 'static)).or_else(|| cause.source()) {
            Some(inner) => cause = inner,
            None => {
                let text = without_numbers(cause);
                let looked_up = text.strip_prefix("failed to lookup address information: ");
                return looked_up
                    .map_or_else(|| text.clone(), |why| format!("the host has no address: {why}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_cause_of_an_error_is_told() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        let below = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));
        assert!(innermost_cause(&below).starts_with("the certificate of the origin has expired"));
        assert_eq!(innermost_cause(&io::Error::from_raw_os_error(libc::ECONNREFUSED)), "Connection refused");
    }

    #[test]
    fn credentials_stay_with_their_authority_and_its_encryption() {
        for (own, url, may) in [
            ("https://a.example/x", "https://A.example/y", true),
            ("http://a.example/x", "http://a.example/y", true),
            ("http://a.example/x", "https://a.example/y", true),
            ("https://a.example/x", "http://a.example/y", false),
            ("https://a.example/x", "https://a.example:444/y", false),
            ("https://a.example/x", "https://b.example/y", false),
            ("https://a.example/x", "y", false),
        ] {
            assert_eq!(may_have_secret(own, url), may, "{own} {url}");
        }
    }

    #[tokio::test]
    async fn addresses_of_this_machine_alone_are_known_however_they_are_written() {
        for url in [
            "http://127.0.0.1/",
            "http://127.1.2.3:9090/x",
            "http://0.0.0.0/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[fe80::1]/",
            "http://169.254.169.254/latest/meta-data/",
            "https://localhost/",
        ] {
            assert!(leads_inward(url).await, "{url}");
        }
        for url in ["http://192.0.2.1/", "http://10.0.0.1/", "http://[2001:db8::1]/"] {
            assert!(!leads_inward(url).await, "{url}");
        }
    }
}
