//! Byte ranges from origins: the request, and extraction of the ranges from any form of response.

use std::ops::Range;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderMap, StatusCode};
use tokio::sync::mpsc;

use super::client::Client;
use super::error::OriginError;
use super::message::Reply;

impl Client {
    /// Fetches byte ranges and passes on each piece with its offset, in the order in which the origin sends them. A 200
    /// with the complete object is accepted: only the requested ranges are passed on.
    ///
    /// # Errors
    /// [`OriginError`]; pieces passed on before it stay valid.
    pub async fn get_ranges(
        &self,
        url: &str,
        ranges: &[Range<u64>],
        pieces: mpsc::Sender<(u64, Bytes)>,
    ) -> Result<(), OriginError> {
        let mut reply = self.get(url, ranges).await?;
        let result = self.read_ranges(&mut reply, ranges, &pieces).await;
        self.note_body(url, result)
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
            // Some origins answer several ranges with one that covers them; it must not exceed their extent.
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

    /// Reads a body whose first byte is at `offset`, and passes on the bytes in `wanted`.
    async fn read_from(
        &self,
        reply: &mut Reply,
        mut offset: u64,
        wanted: &[Range<u64>],
        pieces: &mpsc::Sender<(u64, Bytes)>,
    ) -> Result<(), OriginError> {
        // Ranges are in order. A body that is too short ends before.
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

    /// `multipart/byteranges` (RFC 9110 section 14.6). The body is collected completely: its parts are at most the
    /// requested ranges.
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

/// Passes on a piece; waits while the receiver is busy.
async fn hand_on(pieces: &mpsc::Sender<(u64, Bytes)>, offset: u64, piece: Bytes) -> Result<(), OriginError> {
    pieces.send((offset, piece)).await.map_err(|_| OriginError::Cut)
}

/// Parses `bytes 0-99/1000` to 0..100.
pub(crate) fn parse_content_range(text: &str) -> Option<Range<u64>> {
    let (range, _) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, last) = range.split_once('-')?;
    let (start, last): (u64, u64) = (start.trim().parse().ok()?, last.trim().parse().ok()?);
    (start <= last).then_some(start..last.checked_add(1)?)
}

/// Corrects a `Content-Range` that ends beyond the complete length, which makes it invalid (RFC 9110 section 14.4), where
/// `Content-Length` says that the body ends with the object: Sanic repeats the requested end.
pub(super) fn end_within_length(fields: &mut HeaderMap) {
    let text = |name| fields.get(name).and_then(|it| it.to_str().ok());
    let corrected = || {
        let said = text(CONTENT_RANGE)?;
        let range = parse_content_range(said)?;
        let length: u64 = said.rsplit_once('/')?.1.trim().parse().ok()?;
        let body: u64 = text(CONTENT_LENGTH)?.trim().parse().ok()?;
        let is_beyond = range.end > length && range.start.checked_add(body) == Some(length) && body > 0;
        is_beyond.then(|| format!("bytes {}-{}/{length}", range.start, length - 1))
    };
    if let Some(corrected) = corrected().and_then(|it| it.parse().ok()) {
        fields.insert(CONTENT_RANGE, corrected);
    }
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

/// Parts with their offsets; stops at a part with a wrong length.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_beyond_the_file_ends_with_it() {
        for (said, body, expected) in [
            ("bytes 4-500/31", Some("27"), "bytes 4-30/31"),
            ("bytes 0-99/31", Some("31"), "bytes 0-30/31"),
            // It does not end with the file, or nothing says so.
            ("bytes 4-500/31", Some("26"), "bytes 4-500/31"),
            ("bytes 4-500/31", None, "bytes 4-500/31"),
            ("bytes 31-500/31", Some("0"), "bytes 31-500/31"),
            ("bytes 4-500/*", Some("27"), "bytes 4-500/*"),
            ("bytes 4-30/31", Some("27"), "bytes 4-30/31"),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(CONTENT_RANGE, said.parse().unwrap());
            if let Some(body) = body {
                fields.insert(CONTENT_LENGTH, body.parse().unwrap());
            }
            end_within_length(&mut fields);
            assert_eq!(fields[CONTENT_RANGE], expected, "{said} with {body:?}");
        }
    }

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
}
