//! Short objects of our own in a bucket: read, written on condition of the current version, removed.
//!
//! A request is sent once, with the caller's timeout. Without an answer it is not known whether a write was done.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT_ENCODING, ETAG, HeaderMap, IF_MATCH, IF_NONE_MATCH, USER_AGENT};
use hyper::{Method, Request, StatusCode};

use super::credentials::environment;
use super::refusal::{Refusal, refusal};
use super::{AGENT, Body, Bucket, SIGNED_FOR_S, now, refusal_text};
use crate::options::{S3, S3Location};
use crate::pull::client::innermost_cause;
use crate::pull::stats::{Failed, OriginKind, PullFailure};

/// A prefix of a bucket for such objects.
#[derive(Debug)]
pub struct SmallStore(Bucket);

/// Condition of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition<'a> {
    /// Unconditionally.
    Always,
    /// Only if the object does not exist.
    Absent,
    /// Only if the current version has this ETag.
    Version(&'a str),
}

/// Outcome of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Done, under this ETag.
    Done(String),
    /// The condition does not hold.
    Refused,
}

/// Why there was no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFailed {
    /// Label of a [`PullFailure`].
    pub reason: PullFailure,
    /// Message of the store or the system.
    pub what: String,
    /// The remedy.
    pub fix: String,
}

impl From<Failed> for StoreFailed {
    fn from(failed: Failed) -> Self {
        let fix = match failed.why {
            PullFailure::Denied => {
                "allow the access key s3:GetObject, s3:PutObject and s3:DeleteObject below the prefix, and s3:ListBucket on the bucket"
            }
            why => why.fix(OriginKind::Bucket),
        };
        // The words are those of sources.
        let ours = |text: &str| text.replace("[source.s3]", "[lease.s3]").replace("`pull`", "`url`");
        Self { reason: failed.why, what: ours(&failed.to_string()), fix: ours(fix) }
    }
}

impl SmallStore {
    /// Below the prefix of a location.
    ///
    /// # Errors
    /// One line: an endpoint that is not a URL.
    pub fn new(location: S3Location, options: &S3) -> Result<Self, String> {
        Ok(Self(Bucket::new(location, options, environment)?))
    }

    /// Name of an object, for messages.
    pub fn shown(&self, name: &str) -> String {
        let location = self.0.location();
        location.shown(&format!("{}{name}", location.prefix))
    }

    /// ETag and content of an object, if it exists.
    ///
    /// # Errors
    /// [`StoreFailed`]; `TooLong` if it has more than `most` bytes.
    pub async fn read(
        &self,
        name: &str,
        most: usize,
        patience: Duration,
    ) -> Result<Option<(String, Vec<u8>)>, StoreFailed> {
        let reading = async {
            let (status, headers, mut body) =
                match self.ask(Method::GET, name, Condition::Always, Bytes::new()).await {
                    Ok(answer) => answer,
                    Err(failed) if failed.why == PullFailure::NotFound => return Ok(None),
                    Err(failed) => return Err(failed),
                };
            let mut bytes = Vec::new();
            while let Some(data) = body.next().await? {
                if bytes.len() + data.len() > most {
                    return Err(Failed::new(PullFailure::TooLong, format!("more than {most} bytes")));
                }
                bytes.extend_from_slice(&data);
            }
            Ok(Some((etag(status, &headers)?, bytes)))
        };
        within(patience, reading).await
    }

    /// Writes an object.
    ///
    /// # Errors
    /// [`StoreFailed`]: it may have been written or not.
    pub async fn write(
        &self,
        name: &str,
        content: Vec<u8>,
        condition: Condition<'_>,
        patience: Duration,
    ) -> Result<WriteOutcome, StoreFailed> {
        let writing = async {
            match self.ask(Method::PUT, name, condition, Bytes::from(content)).await {
                Ok((status, headers, mut body)) => {
                    while body.next().await?.is_some() {}
                    Ok(WriteOutcome::Done(etag(status, &headers)?))
                }
                Err(failed) => match (failed.why, condition) {
                    // 404: `If-Match` of an object that is gone. Without one it is the bucket that is.
                    (PullFailure::Changed, Condition::Absent | Condition::Version(_))
                    | (PullFailure::NotFound, Condition::Version(_)) => Ok(WriteOutcome::Refused),
                    _ => Err(failed),
                },
            }
        };
        within(patience, writing).await
    }

    /// Removes an object. Succeeds if it does not exist.
    ///
    /// # Errors
    /// [`StoreFailed`].
    pub async fn remove(&self, name: &str, patience: Duration) -> Result<(), StoreFailed> {
        let removing = async {
            match self.ask(Method::DELETE, name, Condition::Always, Bytes::new()).await {
                Err(failed) if failed.why != PullFailure::NotFound => Err(failed),
                _ => Ok(()),
            }
        };
        within(patience, removing).await
    }

    /// Sends a request, once.
    async fn ask(
        &self,
        method: Method,
        name: &str,
        condition: Condition<'_>,
        content: Bytes,
    ) -> Result<(StatusCode, HeaderMap, Body), Failed> {
        let bucket = &self.0;
        let credentials = bucket.keyring.credentials()?;
        let of_signature = match method {
            Method::PUT => rusty_s3::Method::Put,
            Method::DELETE => rusty_s3::Method::Delete,
            _ => rusty_s3::Method::Get,
        };
        let key = format!("{}{name}", bucket.location.prefix);
        let at = now();
        let url = bucket.signed_for(of_signature, &key, &[], credentials.as_ref(), (at, SIGNED_FOR_S));
        let url = url.ok_or(PullFailure::BadPath)?;
        let request = Request::builder().method(method).uri(url.as_str()).header(USER_AGENT, AGENT);
        let request = match condition {
            Condition::Always => request.header(ACCEPT_ENCODING, "identity"),
            Condition::Absent => request.header(IF_NONE_MATCH, "*"),
            Condition::Version(etag) => request.header(IF_MATCH, etag),
        };
        let request = request.body(Full::new(content)).map_err(|_| PullFailure::BadPath)?;
        let response = bucket.http.request(request).await;
        let response = response.map_err(|err| Failed::new(PullFailure::Connect, innermost_cause(&err)))?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_success() {
            return Ok((status, headers, Body::of(response.into_body())));
        }
        let text = refusal_text(response).await;
        Err(match refusal(status, &headers, &text, at, &bucket.region) {
            Refusal::Final(failed) | Refusal::Expired(failed) | Refusal::Again(failed) => failed,
        })
    }
}

fn etag(status: StatusCode, headers: &HeaderMap) -> Result<String, Failed> {
    let etag = headers.get(ETAG).and_then(|it| it.to_str().ok()).map(str::to_owned);
    etag.ok_or_else(|| Failed::new(PullFailure::Status, format!("{} without an ETag", status.as_str())))
}

async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Failed>>,
) -> Result<T, StoreFailed> {
    let silent = |_| Failed::new(PullFailure::Timeout, format!("no answer for {} ms", patience.as_millis()));
    Ok(tokio::time::timeout(patience, work).await.map_err(silent).and_then(|it| it)?)
}
