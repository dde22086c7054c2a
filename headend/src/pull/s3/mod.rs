//! Buckets of S3 and compatible stores: signed requests, retries, refusals.
//!
//! A request is signed when it is sent, as a presigned URL that is valid for five minutes (AWS Signature Version 4, by
//! `rusty-s3`); messages and logs have `s3://bucket/key` instead. Redirects are not followed: a signature is for one host and
//! region, and the error says which they should be. A busy store delays all requests of the source.
//!
//! | module | content |
//! |---|---|
//! | `credentials` | access keys: files, environment |
//! | `listing` | pages of a bucket's list; places of keys |
//! | `fetch` | objects, in ranges at the same time, of one version |
//! | `held` | versions of the files that the folder has, also after a restart |
//! | `refusal` | what a store refuses, and why |
//! | `small` | objects of our own: read, written on a condition, removed |

pub(crate) mod credentials;
pub(super) mod fetch;
pub(super) mod held;
pub(super) mod listing;
mod refusal;
mod small;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use carousel::time::Clocks as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_MATCH, IF_NONE_MATCH, RANGE, RETRY_AFTER, USER_AGENT,
};
use hyper::{Request, Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use url::Url;

use super::authorities;
use super::client::{AGENT, Answer, Body, Http, SILENCE, Validator, http, innermost_cause, silent};
use super::stats::{Failed, PullFailure};
use crate::clock::SystemClocks;
use crate::options::{S3, S3Location};
use credentials::{Credentials, Environment, Keyring};
use listing::{Next, Page};
use refusal::{Refusal, refusal};
pub use small::{Condition, SmallStore, StoreFailed, WriteOutcome};

carousel::limits! {
    /// Requests of a source to its bucket at the same time.
    const MAX_REQUESTS: usize = 8, "requests" {
        why: "One connection to a store gives 50 to 100 MB/s; eight fill a disk.",
        full: "Further requests wait.",
        free: "When a response has come to its end.",
        test: "a_long_object_comes_in_ranges_of_one_version",
    }

    /// Bytes of a page of a bucket's list.
    const MAX_PAGE_BYTES: usize = 8 << 20, "bytes" {
        why: "1000 keys of 1024 bytes, percent-encoded, have 3.5 MB.",
        full: "The list fails as `listing`; files stay as they are.",
        free: "Holds for one response.",
        test: "lists_without_end_or_sense_are_given_up",
    }

    /// Pages of a bucket's list in succession that have no key.
    pub(super) const MAX_EMPTY_PAGES: usize = 100, "pages" {
        why: "Stores give empty pages while they pass deleted versions.",
        full: "The list fails as `listing`; files stay as they are.",
        free: "With a page that has a key.",
        test: "lists_without_end_or_sense_are_given_up",
    }
}

/// Lifetime of a signature, in seconds.
const SIGNED_FOR_S: u64 = 300;
/// Attempts of a request before it counts as failed.
const SENDINGS: u32 = 5;
/// Wait before a request is sent again; it doubles, and is up to half as long at random.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Longest wait that a store may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Bytes of a refusal that are read.
const REFUSAL_BYTES: usize = 64 << 10;
/// Characters that S3 leaves as they are in paths.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A bucket, or its beginning with one prefix.
pub(super) struct Bucket {
    http: Http,
    location: S3Location,
    /// URL of the bucket, with a slash at its end.
    base: String,
    region: String,
    keyring: Keyring,
    permits: Arc<Semaphore>,
    /// No request is sent before.
    quiet_until: Mutex<Option<Instant>>,
    first_wait: Duration,
    /// Attempts of a request before it counts as failed.
    sendings: u32,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("location", &self.location).finish_non_exhaustive()
    }
}

/// Response to a request for an object.
pub(super) enum ObjectResponse {
    /// The known version is the newest.
    Unchanged,
    /// All of it.
    Whole { etag: Option<HeaderValue>, bytes: Option<u64>, body: Body },
    /// From `from` on.
    Part { etag: Option<HeaderValue>, from: u64, bytes: u64, body: Body },
    /// It has no byte at that place.
    NoSuchRange,
}

/// Conditions of a request for an object.
#[derive(Default)]
pub(super) struct Conditions<'a> {
    pub(super) range: Option<Range<u64>>,
    pub(super) if_match: Option<&'a HeaderValue>,
    pub(super) if_none_match: Option<&'a HeaderValue>,
}

impl Bucket {
    /// # Errors
    /// One line: an endpoint that is not a URL.
    pub(super) fn new(location: S3Location, options: &S3, environment: Environment) -> Result<Self, String> {
        let region = credentials::region(options, environment);
        let given = options.endpoint.clone();
        let given =
            given.or_else(|| environment("AWS_ENDPOINT_URL_S3")).or_else(|| environment("AWS_ENDPOINT_URL"));
        let in_path = options.path_style.unwrap_or_else(|| given.is_some() || location.bucket.contains('.'));
        let base = base_url(given.as_deref(), &region, &location.bucket, in_path)?;
        Ok(Self {
            http: http(authorities::of_system()),
            location,
            base,
            region,
            keyring: Keyring::new(options, environment),
            permits: Arc::new(Semaphore::new(MAX_REQUESTS)),
            quiet_until: Mutex::default(),
            first_wait: FIRST_WAIT,
            sendings: SENDINGS,
        })
    }

    /// The same by another pool of connections.
    pub(super) fn by(self, http: Http) -> Self {
        Self { http, ..self }
    }

    /// The same without retries.
    pub(super) fn impatient(self) -> Self {
        Self { sendings: 1, ..self }
    }

    pub(super) const fn location(&self) -> &S3Location {
        &self.location
    }

    /// The next page of the list of what begins with the prefix.
    pub(super) async fn list(&self, from: Option<&Next>) -> Result<Page, Failed> {
        let mut query = Vec::with_capacity(4);
        // Sorted by name, as signatures want it.
        if let Some(Next::Token(token)) = from {
            query.push(("continuation-token", token.as_str()));
        }
        // Not `encoding-type=url`: s3s 0.14 says so and does not encode, and stores differ in blanks.
        query.extend([("list-type", "2"), ("prefix", &self.location.prefix)]);
        if let Some(Next::After(key)) = from {
            query.push(("start-after", key));
        }
        let (response, permit) = self.request("", &query, &[]).await?;
        let mut body = Body::held(response.into_body(), permit);
        let mut bytes = Vec::new();
        while let Some(data) = body.next().await? {
            if bytes.len() + data.len() > MAX_PAGE_BYTES {
                return Err(Failed::new(
                    PullFailure::Listing,
                    format!("a page has more than {MAX_PAGE_BYTES} bytes"),
                ));
            }
            bytes.extend_from_slice(&data);
        }
        listing::page(&bytes, &self.location.prefix)
    }

    /// An object, or a part of one.
    pub(super) async fn get(&self, key: &str, conditions: &Conditions<'_>) -> Result<ObjectResponse, Failed> {
        let mut fields = Vec::with_capacity(3);
        if let Some(range) = &conditions.range {
            let value = HeaderValue::try_from(format!("bytes={}-{}", range.start, range.end - 1));
            fields.extend(value.ok().map(|it| (RANGE, it)));
        }
        fields.extend(conditions.if_match.map(|it| (IF_MATCH, it.clone())));
        fields.extend(conditions.if_none_match.map(|it| (IF_NONE_MATCH, it.clone())));
        let (response, permit) = self.request(key, &[], &fields).await?;
        let (status, headers) = (response.status(), response.headers());
        if status == StatusCode::NOT_MODIFIED && conditions.if_none_match.is_some() {
            return Ok(ObjectResponse::Unchanged);
        }
        if status == StatusCode::RANGE_NOT_SATISFIABLE && conditions.range.is_some() {
            return Ok(ObjectResponse::NoSuchRange);
        }
        let coding = headers.get(CONTENT_ENCODING).and_then(|it| it.to_str().ok()).unwrap_or_default().trim();
        if !matches!(coding, "" | "identity") {
            return Err(Failed::new(PullFailure::Encoded, format!("stored with Content-Encoding: {coding}")));
        }
        let etag = headers.get(ETAG).cloned();
        match status {
            StatusCode::OK => {
                let bytes = headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
                Ok(ObjectResponse::Whole { etag, bytes, body: Body::held(response.into_body(), permit) })
            }
            StatusCode::PARTIAL_CONTENT => {
                let Some((from, bytes)) = content_range(headers) else {
                    return Err(Failed::new(
                        PullFailure::Status,
                        "206 without a Content-Range that has a length",
                    ));
                };
                Ok(ObjectResponse::Part { etag, from, bytes, body: Body::held(response.into_body(), permit) })
            }
            _ => Err(Failed::new(PullFailure::Status, status.as_str())),
        }
    }

    /// All of an object, if it is not `known`.
    pub(super) async fn look(&self, key: &str, known: Option<&Validator>) -> Result<Answer, Failed> {
        let if_none_match = match known {
            Some(Validator::Etag(value)) => Some(value),
            _ => None,
        };
        match self.get(key, &Conditions { if_none_match, ..Conditions::default() }).await? {
            ObjectResponse::Unchanged => Ok(Answer::Unchanged { moved_to: None }),
            ObjectResponse::Whole { etag, body, .. } => {
                let validator = etag.map(Validator::Etag);
                Ok(Answer::Body { continues: false, whole_bytes: None, validator, moved_to: None, body })
            }
            ObjectResponse::Part { .. } | ObjectResponse::NoSuchRange => {
                Err(Failed::new(PullFailure::Status, "206"))
            }
        }
    }

    /// Sends a request, with retries, until it is answered.
    async fn request(
        &self,
        key: &str,
        query: &[(&str, &str)],
        fields: &[(HeaderName, HeaderValue)],
    ) -> Result<(Response<Incoming>, OwnedSemaphorePermit), Failed> {
        let mut sendings = 0;
        loop {
            // Those who wait have no place.
            let quiet_until = *self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(until) = quiet_until.filter(|it| *it > Instant::now()) {
                tokio::time::sleep_until(until).await;
            }
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
                return Err(PullFailure::Connect.into());
            };
            let credentials = self.keyring.credentials()?;
            sendings += 1;
            let (why, wait) = match self.send(key, query, fields, credentials.as_ref()).await {
                Ok(response) => return Ok((response, permit)),
                Err((Refusal::Final(failed), _)) => return Err(failed),
                Err((Refusal::Expired(failed), _)) => {
                    if self.keyring.credentials()? == credentials {
                        return Err(failed);
                    }
                    (failed, None)
                }
                Err((Refusal::Again(failed), wait)) => (failed, wait),
            };
            drop(permit);
            if sendings >= self.sendings {
                return Err(why);
            }
            let wait = wait.unwrap_or_else(|| {
                let usual = self.first_wait * (1 << (sendings - 1));
                usual + usual.mul_f64(fastrand::f64() / 2.0)
            });
            let until = Instant::now() + wait.min(LONGEST_WAIT);
            let mut quiet = self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner);
            *quiet = (*quiet).max(Some(until));
        }
    }

    /// Sends a request once. A refusal may have a time to wait.
    async fn send(
        &self,
        key: &str,
        query: &[(&str, &str)],
        fields: &[(HeaderName, HeaderValue)],
        credentials: Option<&Credentials>,
    ) -> Result<Response<Incoming>, (Refusal, Option<Duration>)> {
        let now = now();
        let url = self
            .signed(key, query, credentials, now, SIGNED_FOR_S)
            .ok_or_else(|| (Refusal::Final(PullFailure::BadPath.into()), None))?;
        let mut request =
            Request::get(url.as_str()).header(USER_AGENT, AGENT).header(ACCEPT_ENCODING, "identity");
        for (name, value) in fields {
            request = request.header(name, value);
        }
        let request =
            request.body(Full::default()).map_err(|_| (Refusal::Final(PullFailure::BadPath.into()), None))?;
        let again = |failed: Failed| (Refusal::Again(failed), None);
        let response = tokio::time::timeout(SILENCE, self.http.request(request))
            .await
            .map_err(|_| again(silent()))?
            .map_err(|err| again(Failed::new(PullFailure::Connect, innermost_cause(&err))))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let is_answer = status.is_success()
            || status == StatusCode::NOT_MODIFIED
            || status == StatusCode::RANGE_NOT_SATISFIABLE;
        if is_answer {
            return Ok(response);
        }
        let body = refusal_text(response).await;
        let asked = headers.get(RETRY_AFTER).and_then(|it| it.to_str().ok()?.parse().ok());
        Err((refusal(status, &headers, &body, now, &self.region), asked.map(Duration::from_secs)))
    }

    /// URL of a request for an object, signed.
    fn signed(
        &self,
        key: &str,
        query: &[(&str, &str)],
        credentials: Option<&Credentials>,
        now: SystemTime,
        lifetime_s: u64,
    ) -> Option<Url> {
        self.signed_for(rusty_s3::Method::Get, key, query, credentials, (now, lifetime_s))
    }

    /// URL of a request, signed.
    fn signed_for(
        &self,
        method: rusty_s3::Method,
        key: &str,
        query: &[(&str, &str)],
        credentials: Option<&Credentials>,
        (now, lifetime_s): (SystemTime, u64),
    ) -> Option<Url> {
        let mut url: Url = format!("{}{}", self.base, utf8_percent_encode(key, PATH)).parse().ok()?;
        let Some(credentials) = credentials else {
            if !query.is_empty() {
                let pairs = query.iter().map(|(name, value)| {
                    let value = utf8_percent_encode(value, &UNRESERVED);
                    format!("{name}={value}")
                });
                url.set_query(Some(&pairs.collect::<Vec<_>>().join("&")));
            }
            return Some(url);
        };
        let since = now.duration_since(UNIX_EPOCH).ok()?;
        let at = jiff_of_s3::Timestamp::from_second(i64::try_from(since.as_secs()).ok()?).ok()?;
        Some(rusty_s3::signing::sign(
            &at,
            method,
            url,
            &credentials.key,
            &credentials.secret,
            credentials.token.as_deref(),
            &self.region,
            lifetime_s,
            query.iter().copied(),
            std::iter::empty(),
        ))
    }
}

/// Characters that stand for themselves in queries.
const UNRESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn now() -> SystemTime {
    let ms = SystemClocks::new().wall().unix_ms();
    UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// URL of a bucket, with a slash at its end.
fn base_url(endpoint: Option<&str>, region: &str, bucket: &str, in_path: bool) -> Result<String, String> {
    let amazon = || {
        let china = if region.starts_with("cn-") { ".cn" } else { "" };
        format!("https://s3.{region}.amazonaws.com{china}")
    };
    let endpoint = endpoint.map_or_else(amazon, str::to_owned);
    let url: Url = endpoint.parse().map_err(|_| "the endpoint of the bucket is not a URL".to_owned())?;
    let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https"));
    let host = host.ok_or_else(|| "the endpoint of the bucket is not a URL".to_owned())?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let (scheme, path) = (url.scheme(), url.path().trim_end_matches('/'));
    Ok(match in_path {
        true => format!("{scheme}://{host}{port}{path}/{bucket}/"),
        false => format!("{scheme}://{bucket}.{host}{port}{path}/"),
    })
}

/// First byte and length of all from `Content-Range`.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, bytes) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.trim().parse().ok()?, bytes.trim().parse().ok()?))
}

/// Body of a refusal, up to a limit.
async fn refusal_text(response: Response<Incoming>) -> Vec<u8> {
    let mut body = Body::of(response.into_body());
    let mut bytes: Vec<u8> = Vec::new();
    while let Ok(Some(data)) = body.next().await {
        let room = REFUSAL_BYTES - bytes.len();
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        if bytes.len() >= REFUSAL_BYTES {
            break;
        }
    }
    bytes
}

/// Whether an ETag distinguishes versions byte by byte.
pub(super) fn is_strong(etag: &HeaderValue) -> bool {
    !etag.is_empty() && !etag.as_bytes().starts_with(b"W/")
}

#[cfg(test)]
mod tests;
