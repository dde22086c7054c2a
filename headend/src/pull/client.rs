//! Requests to the origin of a pulled source: conditions, ranges, redirects, timeouts.

use std::net::IpAddr;
use std::time::Duration;

use carousel::name::resolve;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
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

use super::s3::listing::bare;
use super::stats::{Failed, PullFailure};

/// Silence after which a request is given up: until the head comes, and between two pieces of the body.
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

/// Our name for origins.
pub(super) const AGENT: &str = concat!("skycache-headend/", env!("CARGO_PKG_VERSION"));

/// Validator of a version of a file, as the origin gives it.
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

    /// Of an ETag without its quotes.
    pub(super) fn of_bare(etag: &str) -> Option<Self> {
        let value = HeaderValue::try_from(format!("\"{etag}\"")).ok();
        value.filter(|_| !etag.is_empty()).map(Self::Etag)
    }

    /// Whether it tells versions apart byte by byte, as `If-Range` needs (RFC 9110 section 13.1.5). A date may be that of two
    /// versions.
    fn is_strong(&self) -> bool {
        matches!(self, Self::Etag(value) if !value.as_bytes().starts_with(b"W/"))
    }
}

/// Answer of an origin.
pub(super) enum Answer {
    /// The version that was named is the newest.
    Unchanged,
    /// A body.
    Body {
        /// It is the rest of what was asked for from an offset on.
        continues: bool,
        /// Validator of this version.
        validator: Option<Validator>,
        body: Body,
    },
}

/// A body as it comes.
pub(super) struct Body {
    body: Incoming,
    /// Place among the requests of its source, where these are bounded.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Body {
    pub(super) const fn of(body: Incoming) -> Self {
        Self { body, _permit: None }
    }

    /// One that holds its place until it is dropped.
    pub(super) const fn held(body: Incoming, permit: OwnedSemaphorePermit) -> Self {
        Self { body, _permit: Some(permit) }
    }

    /// The next bytes; `None` at its end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, PullFailure> {
        loop {
            let frame =
                tokio::time::timeout(SILENCE, self.body.frame()).await.map_err(|_| PullFailure::Timeout)?;
            match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(PullFailure::Cut),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// A pool of connections.
pub(super) type Http = HyperClient<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// A client with the system's authorities.
pub(super) fn http() -> Http {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(SILENCE));
    let builder = hyper_rustls::HttpsConnectorBuilder::new();
    // Without certificates of the system https fails, which requests tell; http goes on.
    let builder = match builder.with_native_roots() {
        Ok(builder) => builder,
        Err(_) => hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(
            rustls::ClientConfig::builder()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
        ),
    };
    HyperClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(SILENCE)
        .build(builder.https_or_http().enable_http1().wrap_connector(connector))
}

/// A client of one origin.
pub(super) struct Client {
    client: Http,
    /// The URL of the manifest: its authority alone is sent `authorization`.
    own: String,
    authorization: Option<HeaderValue>,
}

impl Client {
    pub(super) fn new(url: &str, authorization: Option<String>) -> Self {
        let authorization = authorization.and_then(|it| HeaderValue::from_str(&it).ok()).map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Self { client: http(), own: url.to_owned(), authorization }
    }

    /// Asks for `url`: only if it is not `known`; from an offset on, if it is still of a version.
    pub(super) async fn get(
        &self,
        url: &str,
        known: Option<&Validator>,
        from: Option<(u64, &Validator)>,
    ) -> Result<Answer, Failed> {
        let mut url = url.to_owned();
        let from = from.filter(|(_, validator)| validator.is_strong());
        for _ in 0..=MAX_REDIRECTS {
            let uri: Uri = url.parse().map_err(|_| PullFailure::BadPath)?;
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
            let request = request.body(Empty::new()).map_err(|_| PullFailure::BadPath)?;
            let response = tokio::time::timeout(SILENCE, self.client.request(request))
                .await
                .map_err(|_| PullFailure::Timeout)?
                .map_err(|err| Failed::new(PullFailure::Connect, innermost_cause(&err)))?;
            let (status, headers) = (response.status(), response.headers());
            if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
                let location = headers.get(LOCATION).and_then(|it| it.to_str().ok());
                let next = location.and_then(|it| resolve(&url, it).ok());
                let is_http = |it: &String| it.starts_with("http://") || it.starts_with("https://");
                url = next
                    .filter(is_http)
                    .ok_or_else(|| Failed::new(PullFailure::Redirect, status.as_str()))?;
                // What this machine tells itself alone would go on the air.
                if leads_inward(&url).await && !leads_inward(&self.own).await {
                    return Err(Failed::new(PullFailure::Redirect, "to this machine itself"));
                }
                continue;
            }
            return answer(response, known.is_some(), from.map(|(offset, _)| offset));
        }
        Err(Failed::new(PullFailure::Redirect, format!("more than {MAX_REDIRECTS}")))
    }
}

fn answer(
    response: hyper::Response<Incoming>,
    is_conditional: bool,
    from: Option<u64>,
) -> Result<Answer, Failed> {
    let (status, headers) = (response.status(), response.headers());
    let validator = Validator::of(headers);
    let is_encoded = headers.get(CONTENT_ENCODING).is_some_and(|it| it != "identity");
    let continues = match status {
        StatusCode::NOT_MODIFIED if is_conditional => return Ok(Answer::Unchanged),
        StatusCode::OK => false,
        StatusCode::PARTIAL_CONTENT => {
            let range = headers.get(CONTENT_RANGE).and_then(|it| it.to_str().ok()).unwrap_or_default();
            let begins = from.is_some_and(|from| range.starts_with(&format!("bytes {from}-")));
            if !begins {
                return Err(Failed::new(PullFailure::Status, format!("206, {range}")));
            }
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
    if is_encoded {
        return Err(PullFailure::Encoded.into());
    }
    Ok(Answer::Body { continues, validator, body: Body::of(response.into_body()) })
}

/// Whether what is secret between us and `own` may be sent to `url`: to the same authority, and not in clear if it was not so before.
fn may_have_secret(own: &str, url: &str) -> bool {
    let parts = |url: &str| {
        let url: Uri = url.parse().ok()?;
        let authority = url.authority()?.as_str().to_ascii_lowercase();
        Some((authority, url.scheme() == Some(&Scheme::HTTPS)))
    };
    match (parts(own), parts(url)) {
        (Some((own, was_tls)), Some((authority, is_tls))) => own == authority && (is_tls || !was_tls),
        _ => false,
    }
}

/// Whether a URL's host is this machine, or on its link only: loopback, no address, or those that services of clouds give secrets at.
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

/// The innermost cause of an error, which tells most.
pub(super) fn innermost_cause(err: &dyn std::error::Error) -> String {
    let mut cause = err;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

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
