//! Fast path of hits: the most common requests are answered without hyper.
//!
//! ```text
//! bytes ─▶ Plain ─▶ hot ─▶ Reply ─▶ wire
//!            │       │
//!            └───────┴─ anything else ─▶ hyper, with the same bytes
//! ```
//!
//! Only one form is accepted: the complete head of a GET in origin form with nothing after it, one Host, at most one
//! range, and no field that needs more. Responses come from what the full path has remembered for the same request, so no
//! decision is made here: names, freshness, selection and refusals stay in their modules.

use std::future::poll_fn;
use std::io::{self, IoSlice, Write as _};
use std::ops::Range;
use std::pin::Pin;

use bytes::Buf as _;
use http_body::Body as _;

use super::answer::Logged;
use super::connection::MAX_QUICK_HEADERS;
use super::head::{Head, write_lines};
use super::range::{self, RequestedRange};
use super::shown::accepts_gzip;
use super::wire::Channel;

/// A parsed request of this form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plain<'a> {
    pub(super) target: &'a str,
    pub(super) host: &'a str,
    pub(super) takes_gzip: bool,
    /// It has trace context.
    pub(super) is_traced: bool,
    range: Option<&'a str>,
}

impl<'a> Plain<'a> {
    /// Parses received bytes. `None`: the request is left to hyper.
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_QUICK_HEADERS];
        let mut request = httparse::Request::new(&mut fields);
        let is_all = request.parse(bytes).ok()? == httparse::Status::Complete(bytes.len());
        let target = request.path.filter(|it| it.starts_with('/'))?;
        if !is_all || request.method != Some("GET") || request.version != Some(1) {
            return None;
        }
        let (mut host, mut range, mut codings) = (None, None, None);
        let (mut is_of_a_script, mut has_credentials, mut is_traced) = (false, false, false);
        for field in &*request.headers {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            // Each of these at most once.
            let place = match field.name.len() {
                4 if is("host") => &mut host,
                5 if is("range") => &mut range,
                15 if is("accept-encoding") => &mut codings,
                10 if is("connection") && field.value.eq_ignore_ascii_case(b"keep-alive") => continue,
                6 if is("origin") => {
                    is_of_a_script = true;
                    continue;
                }
                6 if is("cookie") => {
                    has_credentials = true;
                    continue;
                }
                11 if is("traceparent") => {
                    is_traced = true;
                    continue;
                }
                13 if is("authorization") => {
                    has_credentials = true;
                    continue;
                }
                6 if is("expect") => return None,
                7 if is("upgrade") => return None,
                10 if is("connection") => return None,
                13 if is("server-timing") => return None,
                14 if is("content-length") => return None,
                17 if is("transfer-encoding") => return None,
                // Conditional requests.
                _ if field.name.get(..3).is_some_and(|it| it.eq_ignore_ascii_case("if-")) => return None,
                _ => continue,
            };
            if place.replace(std::str::from_utf8(field.value).ok()?).is_some() {
                return None;
            }
        }
        // Its response has to name the script's site.
        if is_of_a_script && has_credentials {
            return None;
        }
        // Not a host: it is refused.
        if host?.contains([' ', '\t', '/', '@']) {
            return None;
        }
        let takes_gzip = codings.is_some_and(|it| accepts_gzip([it]));
        Some(Self { target, host: host?, takes_gzip, is_traced, range })
    }

    /// The requested range of an object of `length`, or all of it (`Some(None)`). `None`: left to hyper.
    pub(super) fn range(&self, length: u64) -> Option<Option<Range<u64>>> {
        let Some(range) = self.range else { return Some(None) };
        match range::parse(Some(range), length) {
            RequestedRange::Ranges(ranges) if ranges.len() == 1 => Some(ranges.into_iter().next()),
            _ => None,
        }
    }
}

impl Head {
    /// Its fields in wire format; empty if its responses are left to hyper.
    pub(super) fn lines(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        if self.has_ranges() && self.fields.contains_key(http::header::DATE) {
            write_lines(&mut lines, &self.fields);
        }
        lines
    }
}

/// The head of a response with these lines, for a part of an object of `length` bytes, or for all of it.
pub(super) fn head(lines: &[u8], part: Option<&Range<u64>>, length: u64) -> Vec<u8> {
    let mut head = Vec::with_capacity(lines.len() + 128);
    // Writing to memory does not fail.
    let _ = match part {
        Some(part) => {
            head.extend_from_slice(b"HTTP/1.1 206 Partial Content\r\n");
            head.extend_from_slice(lines);
            let (start, last, count) = (part.start, part.end - 1, part.end - part.start);
            write!(head, "content-range: bytes {start}-{last}/{length}\r\ncontent-length: {count}\r\n\r\n")
        }
        None => {
            head.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
            head.extend_from_slice(lines);
            write!(head, "content-length: {length}\r\n\r\n")
        }
    };
    head
}

/// Adds a field to a head in wire format.
pub(super) fn add_line(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    head.truncate(head.len() - b"\r\n".len());
    for part in [name.as_bytes(), b": ", value, b"\r\n\r\n"] {
        head.extend_from_slice(part);
    }
}

/// A response that is ready to send.
pub(super) struct Reply {
    pub(super) head: Vec<u8>,
    pub(super) body: Logged,
}

impl Reply {
    /// Sends the response. Takes a reference, so that the future of a parked connection holds it once, not three times.
    ///
    /// # Errors
    /// If the response was cut: the connection cannot be used further.
    pub(super) async fn send(&mut self, wire: &mut impl Channel) -> io::Result<()> {
        let Self { head, body } = self;
        let mut head = head.as_slice();
        loop {
            let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await.transpose()?;
            let is_last = frame.is_none();
            let mut bytes = frame.and_then(|it| it.into_data().ok()).unwrap_or_default();
            while !head.is_empty() || !bytes.is_empty() {
                let bufs = [IoSlice::new(head), IoSlice::new(&bytes)];
                let sent = poll_fn(|cx| Pin::new(&mut *wire).poll_write_vectored(cx, &bufs)).await?;
                let of_head = sent.min(head.len());
                head = &head[of_head..];
                bytes.advance(sent - of_head);
            }
            if is_last {
                break;
            }
        }
        poll_fn(|cx| Pin::new(&mut *wire).poll_flush(cx)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &str) -> Option<(String, Option<String>, bool)> {
        let head = format!("GET /v/1.m4s?a=1 HTTP/1.1\r\n{fields}\r\n");
        let plain = Plain::of(head.as_bytes())?;
        assert_eq!(plain.target, "/v/1.m4s?a=1");
        Some((plain.host.to_owned(), plain.range.map(str::to_owned), plain.takes_gzip))
    }

    #[test]
    fn what_players_ask_most_is_understood() {
        assert_eq!(of("Host: box\r\n"), Some(("box".into(), None, false)));
        let many = "User-Agent: x\r\nhost:  box:8080 \r\nACCEPT-ENCODING: br, gzip\r\nConnection: keep-alive\r\n\
                    Range: bytes=0-5\r\nOrigin: http://a.example\r\n";
        assert_eq!(of(many), Some(("box:8080".into(), Some("bytes=0-5".into()), true)));
    }

    #[test]
    fn anything_else_is_left_to_hyper() {
        for fields in [
            "",
            "Host: a\r\nHost: a\r\n",
            "Host: a\r\nRange: bytes=0-1\r\nRange: bytes=0-1\r\n",
            "Host: a\r\nConnection: close\r\n",
            "Host: a\r\nConnection: keep-alive, upgrade\r\n",
            "Host: a\r\nContent-Length: 0\r\n",
            "Host: a\r\nTransfer-Encoding: chunked\r\n",
            "Host: a\r\nExpect: 100-continue\r\n",
            "Host: a\r\nUpgrade: h2c\r\n",
            "Host: a\r\nOrigin: https://a\r\nCookie: s=1\r\n",
            "Host: a\r\nAuthorization: Basic x\r\nOrigin: https://a\r\n",
            "Host: a\r\nIf-None-Match: \"x\"\r\n",
            "Host: a\r\nif-range: \"x\"\r\n",
            "Host: a\r\nServer-Timing: 1\r\n",
            "Host: a\r\n folded: x\r\n",
            "Host : a\r\n",
            "Host: a\0\r\n",
        ] {
            assert_eq!(of(fields), None, "{fields:?}");
        }
        let more = |count: usize| format!("Host: a\r\n{}", "X: 1\r\n".repeat(count - 1));
        assert!(of(&more(MAX_QUICK_HEADERS)).is_some() && of(&more(MAX_QUICK_HEADERS + 1)).is_none());
        for head in [
            "GET http://a/v HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /v HTTP/1.0\r\nHost: a\r\n\r\n",
            "HEAD /v HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /v HTTP/1.1\r\nHost: a\r\n",
            "GET /v HTTP/1.1\r\nHost: a\r\n\r\nG",
            "",
        ] {
            assert_eq!(Plain::of(head.as_bytes()), None, "{head:?}");
        }
        let plain = Plain::of(b"GET /v HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1,3-4\r\n\r\n").unwrap();
        assert_eq!(plain.range(10), None);
        let plain = Plain::of(b"GET /v HTTP/1.1\r\nHost: a\r\nRange: bytes=10-\r\n\r\n").unwrap();
        assert_eq!((plain.range(10), plain.range(11).is_some()), (None, true));
    }

    #[test]
    fn heads_are_those_of_rfc_9112() {
        let text = |head: Vec<u8>| String::from_utf8(head).unwrap();
        assert_eq!(text(head(b"a: b\r\n", None, 7)), "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 7\r\n\r\n");
        assert_eq!(
            text(head(b"", Some(&(2..5)), 7)),
            "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 2-4/7\r\ncontent-length: 3\r\n\r\n"
        );
        let mut longer = head(b"", None, 7);
        add_line(&mut longer, "alt-svc", b"clear");
        assert_eq!(text(longer), "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nalt-svc: clear\r\n\r\n");
    }
}
