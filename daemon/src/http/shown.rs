//! An object as one kind of player gets it: as it is, with its absolute URLs turned to the box, compressed.
//!
//! What is kept is never encoded, so that ranges, digests and repair mean one thing. Text is compressed for those who take
//! it when it is first asked for, and remembered by [`super::hot`].

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{self, HeaderMap, HeaderValue};

use super::head::Head;
use crate::caching::Directives;
use crate::origin::Route;
use crate::store::StoredObject;

/// Text is transformed up to this; more is no manifest.
pub(super) const MAX_TEXT_BYTES: usize = 1 << 20;
/// Below, the head is the larger part.
const MIN_GZIP_BYTES: usize = 256;

/// An object as it is sent.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) head: Head,
    /// Its bytes, if they are not the object's own.
    pub(super) body: Option<Bytes>,
}

impl Shown {
    /// Of bytes that are not kept, with URLs turned.
    pub(super) fn of_bytes(head: Head, bytes: Bytes, routes: &[Route]) -> Self {
        let mut shown = Self { head, body: None };
        let bytes = turned_bytes(bytes, routes);
        shown.head.becomes(&bytes, "box");
        shown.body = Some(bytes);
        shown
    }

    /// `takes_gzip`: the player has said so.
    pub(super) fn of(object: &Arc<StoredObject>, routes: &[Route], takes_gzip: bool) -> Self {
        let mut shown = Self { head: Head::of_stored(object), body: None };
        let head = &mut shown.head;
        let is_plain = head.status == http::StatusCode::OK
            && !head.fields.contains_key(header::CONTENT_ENCODING)
            && !head.fields.contains_key(header::CONTENT_RANGE)
            && object.meta().length <= MAX_TEXT_BYTES as u64;
        let is_manifest = head.is_manifest();
        let rewritten: Vec<&Route> = routes.iter().filter(|route| route.rewrite && is_manifest).collect();
        let may_gzip = is_manifest || is_text(head.essence());
        if !is_plain || (rewritten.is_empty() && !may_gzip) || Directives::of(&head.fields).no_transform {
            return shown;
        }
        let Some(mut bytes) = object.view().and_then(|view| view.bytes(0..object.meta().length)) else {
            return shown;
        };
        if let (false, Ok(text)) = (rewritten.is_empty(), std::str::from_utf8(&bytes)) {
            let text = turned(text, &rewritten);
            if text.as_bytes() != bytes {
                bytes = text.into();
                head.becomes(&bytes, "box");
                shown.body = Some(bytes.clone());
            }
        }
        if may_gzip && bytes.len() >= MIN_GZIP_BYTES {
            let head = &mut shown.head;
            head.fields.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            if let Some(gzip) = takes_gzip.then(|| gzip(&bytes)).flatten().filter(|it| it.len() < bytes.len())
            {
                head.becomes(&gzip, "gzip");
                head.fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                shown.body = Some(gzip);
            }
        }
        shown
    }
}

impl Head {
    /// Type and subtype.
    fn essence(&self) -> &str {
        let content_type = self.fields.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        content_type.and_then(|it| it.split(';').next()).unwrap_or("").trim()
    }

    /// Whether it is an HLS playlist or a DASH MPD.
    pub(super) fn is_manifest(&self) -> bool {
        is_manifest(self.essence())
    }

    /// The object is sent in another form: other bytes need another validator (RFC 9110 section 8.8.3.3).
    fn becomes(&mut self, bytes: &Bytes, form: &str) {
        self.length = Some(bytes.len() as u64);
        self.fields.remove("content-md5");
        self.fields.remove("content-digest");
        let etag = self.validators.etag.take().and_then(|etag| {
            let text = etag.to_str().ok()?.strip_suffix('"')?.to_owned();
            HeaderValue::from_str(&format!("{text}-{form}\"")).ok()
        });
        match &etag {
            Some(etag) => self.fields.insert(header::ETAG, etag.clone()),
            None => self.fields.remove(header::ETAG),
        };
        self.validators.etag = etag;
    }
}

/// Whether a `Content-Type` is that of an HLS playlist or a DASH MPD.
pub(super) fn is_manifest(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("").trim();
    matches!(
        essence.to_ascii_lowercase().as_str(),
        "application/vnd.apple.mpegurl" | "application/x-mpegurl" | "audio/mpegurl" | "application/dash+xml"
    )
}

/// A manifest with its URLs turned; what is no text stays as it is.
pub(super) fn turned_bytes(bytes: Bytes, routes: &[Route]) -> Bytes {
    let rewritten: Vec<&Route> = routes.iter().filter(|route| route.rewrite).collect();
    std::str::from_utf8(&bytes).map(|text| turned(text, &rewritten).into()).unwrap_or(bytes)
}

/// Types that are worth compressing. Media are compressed already.
fn is_text(essence: &str) -> bool {
    const TYPES: [&str; 9] = [
        "text/vtt",
        "text/css",
        "text/html",
        "text/javascript",
        "application/json",
        "application/xml",
        "application/ttml+xml",
        "text/xml",
        "image/svg+xml",
    ];
    TYPES.iter().any(|it| essence.eq_ignore_ascii_case(it))
}

pub(super) fn gzip(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().map(Into::into)
}

/// Whether a player takes gzip: it names it, or everything, and not with a quality of 0 (RFC 9110 section 12.5.3).
pub(super) fn takes_gzip(request: &HeaderMap) -> bool {
    accepts_gzip(request.get_all(header::ACCEPT_ENCODING).iter().map(|line| line.to_str().unwrap_or("")))
}

/// Of the lines of `Accept-Encoding`.
pub(super) fn accepts_gzip<'a>(lines: impl IntoIterator<Item = &'a str>) -> bool {
    let mut any = false;
    for line in lines {
        for part in line.split(',') {
            let (coding, parameters) = part.split_once(';').unwrap_or((part, ""));
            let quality =
                parameters.trim().strip_prefix("q=").map_or(Some(1.0), |it| it.trim().parse::<f32>().ok());
            let is_wanted = quality.is_some_and(|it| it > 0.0);
            match coding.trim() {
                it if it.eq_ignore_ascii_case("gzip") || it.eq_ignore_ascii_case("x-gzip") => {
                    return is_wanted;
                }
                "*" => any = is_wanted,
                _ => {}
            }
        }
    }
    any
}

/// A manifest whose absolute URLs below the routes' bases are paths of the box.
fn turned(text: &str, routes: &[&Route]) -> String {
    let mut text = text.to_owned();
    for route in routes {
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        for (at, base) in text.match_indices(route.base.as_str()) {
            // At the start of a URL: not in the middle of another's query.
            let before = text[..at].chars().next_back();
            if before.is_none_or(|c| c.is_whitespace() || matches!(c, '"' | '\'' | '>' | ',')) {
                out.push_str(&text[done..at]);
                out.push_str(&route.path);
                done = at + base.len();
            }
        }
        out.push_str(&text[done..]);
        text = out;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_urls_become_paths_of_the_box() {
        let route = |path: &str, base: &str| Route { path: path.into(), base: base.into(), rewrite: true };
        let (vod, live) =
            (route("/vod/", "https://cdn.example.com/vod/"), route("/l/", "http://live.example/"));
        let hls = "#EXTM3U\n#EXT-X-MAP:URI=\"https://cdn.example.com/vod/i.mp4\"\nhttps://cdn.example.com/vod/1.m4s?u=https://cdn.example.com/vod/\nrel.m4s\nhttps://other.example/2.m4s\n";
        assert_eq!(
            turned(hls, &[&vod, &live]),
            "#EXTM3U\n#EXT-X-MAP:URI=\"/vod/i.mp4\"\n/vod/1.m4s?u=https://cdn.example.com/vod/\nrel.m4s\nhttps://other.example/2.m4s\n"
        );
        let dash = "<BaseURL>http://live.example/a/</BaseURL><S media='http://live.example/x'/>";
        assert_eq!(turned(dash, &[&vod, &live]), "<BaseURL>/l/a/</BaseURL><S media='/l/x'/>");
    }

    #[test]
    fn who_takes_gzip() {
        let takes = |value: &str| takes_gzip(&crate::caching::from_pairs([("accept-encoding", value)]));
        for yes in ["gzip", "br, GZIP;q=0.5", "*", "identity, x-gzip"] {
            assert!(takes(yes), "{yes}");
        }
        for no in ["", "br", "gzip;q=0", "*;q=0", "gzip;q=0, *", "identity"] {
            assert!(!takes(no), "{no}");
        }
    }
}
