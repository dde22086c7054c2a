//! Heads of responses: validators, conditionals, ranges, caching.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use carousel::digest::Digest;
use carousel::time::WallTime;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};

use super::body::{Piece, PlayerBody};
use super::mime;
use super::range::{self, Wanted};

/// What is known of an object when its response begins.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) key: &'a str,
    pub(super) content_type: Option<&'a str>,
    /// `None`: its end will tell.
    pub(super) length: Option<u64>,
    pub(super) digest: Option<Digest>,
    /// When it got here.
    pub(super) received_at: Option<WallTime>,
    pub(super) expires: Option<WallTime>,
    pub(super) now: WallTime,
    /// Kept from its origin, lower-case names.
    pub(super) headers: &'a [(String, String)],
    /// `Cache-Status` (RFC 9211) after `skycache; `.
    pub(super) cache_status: &'a str,
}

/// What to send.
#[derive(Debug)]
pub(super) enum Send {
    /// No body: HEAD, 304, 416.
    Nothing,
    /// These pieces.
    Pieces(Vec<Piece>),
    /// All of an object whose length nobody knows.
    Everything,
}

/// The strong validator of bytes with this digest.
pub(super) fn etag(digest: &Digest) -> String {
    format!("\"{}\"", &digest.to_hex()[..32])
}

fn http_date(time: WallTime) -> String {
    let ms = u64::try_from(time.unix_ms()).unwrap_or(0);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(ms))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Seconds since 1970 of an HTTP date; all three forms.
fn seconds(date: &str) -> Option<u64> {
    let time = httpdate::parse_http_date(date).ok()?;
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

impl Facts<'_> {
    fn etag(&self) -> Option<String> {
        self.digest.as_ref().map(etag)
    }

    /// What the origin said, else when it got here: nothing older is known of what came over the air.
    fn last_modified(&self) -> Option<String> {
        let kept =
            self.headers.iter().find(|(name, _)| name == "last-modified").map(|(_, value)| value.clone());
        kept.filter(|date| seconds(date).is_some()).or_else(|| self.received_at.map(http_date))
    }

    /// RFC 9110 section 13.2.2: `If-Match`, `If-Unmodified-Since`, `If-None-Match`, `If-Modified-Since`, in this order.
    fn precondition(&self, request: &HeaderMap) -> Option<StatusCode> {
        let etag = self.etag();
        let modified = self.last_modified().as_deref().and_then(seconds);
        let listed = |list: &str, weak: bool| {
            list.trim() == "*"
                || list.split(',').map(str::trim).any(|tag| {
                    let tag = if weak { tag.strip_prefix("W/").unwrap_or(tag) } else { tag };
                    Some(tag) == etag.as_deref()
                })
        };
        if let Some(list) = text(request, &header::IF_MATCH) {
            if !listed(list, false) {
                return Some(StatusCode::PRECONDITION_FAILED);
            }
        } else if let (Some(since), Some(modified)) =
            (text(request, &header::IF_UNMODIFIED_SINCE).and_then(seconds), modified)
            && modified > since
        {
            return Some(StatusCode::PRECONDITION_FAILED);
        }
        if let Some(list) = text(request, &header::IF_NONE_MATCH) {
            return listed(list, true).then_some(StatusCode::NOT_MODIFIED);
        }
        match (text(request, &header::IF_MODIFIED_SINCE).and_then(seconds), modified) {
            (Some(since), Some(modified)) if modified <= since => Some(StatusCode::NOT_MODIFIED),
            _ => None,
        }
    }

    /// Whether `If-Range` lets `Range` count (section 13.1.5): strong comparison, exact date.
    fn range_counts(&self, request: &HeaderMap) -> bool {
        let Some(validator) = text(request, &header::IF_RANGE).map(str::trim) else { return true };
        if validator.starts_with('"') {
            return self.etag().as_deref() == Some(validator);
        }
        let modified = self.last_modified().as_deref().and_then(seconds);
        modified.is_some() && seconds(validator) == modified
    }

    fn cache_control(&self) -> String {
        if let Some((_, value)) = self.headers.iter().find(|(name, _)| name == "cache-control") {
            return value.clone();
        }
        let path = self.key.split('?').next().unwrap_or_default().to_ascii_lowercase();
        match self.expires {
            Some(expires) => {
                let left_ms = expires.unix_ms().saturating_sub(self.now.unix_ms());
                if left_ms <= 0 { "no-cache".to_owned() } else { format!("max-age={}", left_ms / 1000) }
            }
            // A manifest may change with the next turn of the carousel.
            None if path.ends_with(".m3u8") || path.ends_with(".mpd") => "no-cache".to_owned(),
            None => "max-age=3600".to_owned(),
        }
    }

    /// The head of the response, and what is to be sent after it.
    pub(super) fn respond(&self, method: &Method, request: &HeaderMap) -> (http::response::Builder, Send) {
        let mut reply = Response::builder()
            .header("cache-status", format!("skycache; {}", self.cache_status))
            .header(header::CACHE_CONTROL, self.cache_control());
        if let Some(etag) = self.etag() {
            reply = reply.header(header::ETAG, etag);
        }
        if let Some(date) = self.last_modified() {
            reply = reply.header(header::LAST_MODIFIED, date);
        }
        if let Some(received_at) = self.received_at {
            let age_ms = self.now.unix_ms().saturating_sub(received_at.unix_ms()).max(0);
            reply = reply.header(header::AGE, age_ms / 1000);
        }
        let others =
            self.headers.iter().filter(|(name, _)| name != "cache-control" && name != "last-modified");
        for (name, value) in others {
            if let Ok(value) = HeaderValue::from_str(value) {
                reply = reply.header(name.as_str(), value);
            }
        }
        if let Some(status) = self.precondition(request) {
            return (reply.status(status), Send::Nothing);
        }
        let content_type = self.content_type.unwrap_or_else(|| mime::of(self.key));
        let Some(length) = self.length else {
            let send = if method == Method::HEAD { Send::Nothing } else { Send::Everything };
            return (reply.header(header::CONTENT_TYPE, content_type), send);
        };
        reply = reply.header(header::ACCEPT_RANGES, "bytes");
        // Range is defined for GET alone (section 14.2).
        let header_range =
            text(request, &header::RANGE).filter(|_| method == Method::GET && self.range_counts(request));
        let (reply, pieces) = match range::parse(header_range, length) {
            Wanted::Whole => {
                (reply.header(header::CONTENT_TYPE, content_type), vec![Piece::Range(0..length)])
            }
            Wanted::Unsatisfiable => {
                let reply = reply.status(StatusCode::RANGE_NOT_SATISFIABLE);
                return (reply.header(header::CONTENT_RANGE, format!("bytes */{length}")), Send::Nothing);
            }
            Wanted::Ranges(ranges) => {
                let reply = reply.status(StatusCode::PARTIAL_CONTENT);
                match ranges.as_slice() {
                    [one] => {
                        let value = format!("bytes {}-{}/{length}", one.start, one.end - 1);
                        let reply = reply
                            .header(header::CONTENT_RANGE, value)
                            .header(header::CONTENT_TYPE, content_type);
                        (reply, vec![Piece::Range(one.clone())])
                    }
                    many => multipart(reply, many, content_type, length, self.digest.as_ref()),
                }
            }
        };
        if method == Method::HEAD {
            return (reply.header(header::CONTENT_LENGTH, length), Send::Nothing);
        }
        (reply, Send::Pieces(pieces))
    }
}

/// `multipart/byteranges` (section 14.6).
fn multipart(
    reply: http::response::Builder,
    ranges: &[std::ops::Range<u64>],
    content_type: &str,
    length: u64,
    digest: Option<&Digest>,
) -> (http::response::Builder, Vec<Piece>) {
    // Parts are framed by their lengths as much as by the boundary; 48 bits of a digest do not turn up by chance.
    let boundary = format!(
        "skycache-{}",
        digest.map_or_else(|| "0123456789ab".to_owned(), |it| it.to_hex()[40..52].to_owned())
    );
    let mut pieces = Vec::with_capacity(ranges.len() * 2 + 1);
    for range in ranges {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: bytes {}-{}/{length}\r\n\r\n",
            range.start,
            range.end - 1
        );
        pieces.push(Piece::Bytes(Bytes::from(head)));
        pieces.push(Piece::Range(range.clone()));
    }
    pieces.push(Piece::Bytes(Bytes::from(format!("\r\n--{boundary}--\r\n"))));
    (reply.header(header::CONTENT_TYPE, format!("multipart/byteranges; boundary={boundary}")), pieces)
}

/// A response that is no object: a status, and one line for people.
pub(super) fn plain(status: StatusCode, line: &str) -> Response<PlayerBody> {
    let mut response = Response::new(PlayerBody::of(format!("{line}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// What players in browsers need to read anything at all (hls.js, dash.js, Shaka).
pub(super) fn allow_everyone(headers: &mut HeaderMap) {
    let names = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            "Accept-Ranges, Age, Cache-Status, Content-Length, Content-Range, Date, ETag",
        ),
        (HeaderName::from_static("timing-allow-origin"), "*"),
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    ];
    for (name, value) in names {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// The answer to OPTIONS, preflight or not.
pub(super) fn options() -> Response<PlayerBody> {
    let mut response = Response::new(PlayerBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let names = [
        (header::ALLOW, super::METHODS),
        (header::ACCESS_CONTROL_ALLOW_METHODS, super::METHODS),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "*, Authorization, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status, If-Match, If-Modified-Since, If-None-Match, If-Range, If-Unmodified-Since, Range",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    for (name, value) in names {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
