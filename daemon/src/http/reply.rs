//! Responses: conditionals, ranges, and messages in place of an object.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};

use super::body::{Piece, PlayerBody};
use super::cors;
use super::head::{Head, put};
use super::range::{self, RequestedRange};
use crate::caching::Precondition;
use crate::store::StoredObject;

/// Content to send.
#[derive(Debug)]
pub(super) enum Send {
    /// No body: HEAD, 304, 416.
    Nothing,
    /// These pieces.
    Pieces(Vec<Piece>),
    /// All of an object of unknown length.
    Everything,
}

impl Send {
    /// Converts to a body from the bytes of the object.
    pub(super) fn of_bytes(self, bytes: &Bytes) -> PlayerBody {
        match self {
            Self::Pieces(pieces) => PlayerBody::of_pieces(bytes, &pieces),
            Self::Nothing | Self::Everything => PlayerBody::empty(),
        }
    }

    /// Converts to a body from an object in the cache; from `bytes`, if it is sent in another form or they are in memory.
    pub(super) fn of_object(self, object: Arc<StoredObject>, bytes: Option<&Bytes>) -> PlayerBody {
        match (self, bytes) {
            (send, Some(bytes)) => send.of_bytes(bytes),
            (Self::Pieces(pieces), None) => PlayerBody::stored(object, pieces),
            (Self::Nothing | Self::Everything, None) => PlayerBody::empty(),
        }
    }
}

impl Head {
    /// The head of the response to this request, and the content to send.
    pub(super) fn respond(&self, method: &Method, request: &HeaderMap) -> (StatusCode, HeaderMap, Send) {
        let (status, fields, send) = self.choose(method, request);
        (status, self.opened(fields, request), send)
    }

    /// Fields of the response with a range of an object whose length is not known yet.
    pub(super) fn respond_growing(&self, range: &Range<u64>, request: &HeaderMap) -> HeaderMap {
        let fields = self.with_range(&format!("bytes {}-{}/*", range.start, range.end - 1));
        self.opened(fields, request)
    }

    fn opened(&self, mut fields: HeaderMap, request: &HeaderMap) -> HeaderMap {
        if self.is_open {
            cors::allow_credentials(&mut fields, request);
        }
        fields
    }

    fn choose(&self, method: &Method, request: &HeaderMap) -> (StatusCode, HeaderMap, Send) {
        if self.status == StatusCode::OK {
            let status = match self.validators.precondition(request) {
                Precondition::Holds => None,
                Precondition::NotModified => Some(StatusCode::NOT_MODIFIED),
                Precondition::Failed => Some(StatusCode::PRECONDITION_FAILED),
            };
            if let Some(status) = status {
                let mut fields = self.fields.clone();
                for name in [header::CONTENT_ENCODING, header::CONTENT_LANGUAGE, header::CONTENT_TYPE] {
                    fields.remove(name);
                }
                return (status, fields, Send::Nothing);
            }
        }
        let Some(length) = self.length else {
            let send = if method == Method::HEAD { Send::Nothing } else { Send::Everything };
            return (self.status, self.fields.clone(), send);
        };
        if method == Method::HEAD {
            let mut fields = self.fields.clone();
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            return (self.status, fields, Send::Nothing);
        }
        // Range is defined for GET alone (RFC 9110 section 14.2).
        let asked = request.get(header::RANGE);
        let asked = asked.filter(|_| self.has_ranges() && self.validators.range_counts(request));
        let requested = asked.map_or(RequestedRange::Whole, |it| range::parse(it.to_str().ok(), length));
        match requested {
            RequestedRange::Whole => {
                (self.status, self.fields.clone(), Send::Pieces(vec![Piece::Range(0..length)]))
            }
            RequestedRange::Unsatisfiable => {
                let mut fields = self.with_range(&format!("bytes */{length}"));
                fields.remove(header::CONTENT_TYPE);
                (StatusCode::RANGE_NOT_SATISFIABLE, fields, Send::Nothing)
            }
            RequestedRange::Ranges(ranges) => match ranges.as_slice() {
                [one] => {
                    let fields = self.with_range(&format!("bytes {}-{}/{length}", one.start, one.end - 1));
                    (StatusCode::PARTIAL_CONTENT, fields, Send::Pieces(vec![Piece::Range(one.clone())]))
                }
                many => {
                    let mut fields = self.fields.clone();
                    let (content_type, pieces) = self.multipart(many, length);
                    put(&mut fields, header::CONTENT_TYPE, &content_type);
                    (StatusCode::PARTIAL_CONTENT, fields, Send::Pieces(pieces))
                }
            },
        }
    }

    /// The fields with `Content-Range`, in one allocation.
    fn with_range(&self, range: &str) -> HeaderMap {
        let mut fields = HeaderMap::with_capacity(self.fields.len() + 1);
        for (name, value) in &self.fields {
            fields.append(name.clone(), value.clone());
        }
        put(&mut fields, header::CONTENT_RANGE, range);
        fields
    }

    /// `multipart/byteranges` (RFC 9110 section 14.6).
    fn multipart(&self, ranges: &[Range<u64>], length: u64) -> (String, Vec<Piece>) {
        // Parts also have lengths; 48 bits of a digest do not occur in a body by chance.
        let boundary = format!("skycache-{}", self.boundary);
        let content_type = self.fields.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let content_type = content_type.unwrap_or("application/octet-stream");
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
        (format!("multipart/byteranges; boundary={boundary}"), pieces)
    }
}

/// A response without an object: a status, and one line of text.
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

#[cfg(test)]
mod tests;
