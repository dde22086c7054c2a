//! Form in which an object is sent: unchanged, compressed, or with the URLs of a manifest mapped to the box.
//!
//! Objects are stored as received, so that ranges, digests and repair refer to the same bytes. Text is compressed at the
//! first request of a client that accepts it, and kept by [`super::hot`]; so are rewritten manifests. Longer manifests are
//! rewritten each time they are sent.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use carousel::digest::Digest;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{self, HeaderMap, HeaderValue};

use super::head::{self, Head};
use super::manifest::{self, PIECE_BYTES, Rewriter, Rewriting};
use super::urls::UrlMap;
use crate::caching::{self, Directives};
use crate::store::StoredObject;

/// Length up to which text is transformed in memory and kept. Longer manifests are rewritten while they are sent, and other
/// text is sent unchanged: nothing is refused.
const MAX_TEXT_BYTES: usize = 1 << 20;
/// Below this length the head is the larger part.
const MIN_GZIP_BYTES: usize = 256;

/// An object in the form in which it is sent.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) head: Head,
    /// Its bytes, if they differ from the object's.
    pub(super) body: Option<Bytes>,
    /// Rewriter of a manifest that is too long to be kept and is rewritten while it is sent.
    pub(super) rewriter: Option<Rewriter>,
    /// Result of rewriting a manifest that refers to a route's origin.
    pub(super) rewriting: Option<Rewriting>,
}

impl Shown {
    const fn new(head: Head) -> Self {
        Self { head, body: None, rewriter: None, rewriting: None }
    }

    /// The form of bytes that are not stored, with URLs mapped.
    pub(super) fn of_bytes(head: Head, bytes: Bytes, map: UrlMap) -> Self {
        let mut shown = Self::new(head);
        let coding = caching::text(&shown.head.fields, header::CONTENT_ENCODING).map(str::to_owned);
        match manifest::rewritten(coding.as_deref(), map, &bytes) {
            Ok(Some(rewritten)) => shown.becomes_rewritten(rewritten.into()),
            Ok(None) => shown.body = Some(bytes),
            Err(why) => {
                shown.body = Some(bytes);
                shown.rewriting = Some(why);
            }
        }
        shown
    }

    /// The form of a stored object. `text`: replaces its bytes; `map`: for URLs of manifests; `takes_gzip`: the client
    /// accepts it.
    pub(super) fn of(object: &Arc<StoredObject>, text: Option<Bytes>, map: UrlMap, takes_gzip: bool) -> Self {
        let mut shown = Self::new(Head::of_stored(object));
        if let Some(text) = text {
            shown.head.says(&text);
            if !map.is_empty() {
                shown = Self::of_bytes(shown.head, text, map);
            } else {
                shown.body = Some(text);
            }
        } else if shown.head.status == http::StatusCode::OK && !map.is_empty() {
            shown.rewrite(object, map);
        }
        if shown.rewriter.is_some() {
            return shown;
        }
        let head = &mut shown.head;
        let is_plain = head.status == http::StatusCode::OK
            && !head.fields.contains_key(header::CONTENT_ENCODING)
            && !head.fields.contains_key(header::CONTENT_RANGE)
            && (shown.body.is_some() || object.meta().length <= MAX_TEXT_BYTES as u64);
        let may_gzip = head.is_manifest() || is_text(head.essence());
        if !is_plain || !may_gzip || Directives::of(&head.fields).no_transform {
            return shown;
        }
        let own = || object.view().and_then(|view| view.bytes(0..object.meta().length));
        let Some(bytes) = shown.body.clone().or_else(own) else { return shown };
        if bytes.len() >= MIN_GZIP_BYTES {
            let head = &mut shown.head;
            caching::vary_by(&mut head.fields, "Accept-Encoding");
            if let Some(gzip) = takes_gzip.then(|| gzip(&bytes)).flatten().filter(|it| it.len() < bytes.len())
            {
                head.becomes(&gzip, "gzip");
                head.fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                shown.body = Some(gzip);
            }
        }
        shown
    }

    /// Rewrites the object, if it is a manifest.
    fn rewrite(&mut self, object: &Arc<StoredObject>, map: UrlMap) {
        let fields = &self.head.fields;
        let content_type = caching::text(fields, header::CONTENT_TYPE);
        let key = object.meta().key.as_str();
        if !manifest::may_be(key, content_type) {
            return;
        }
        let is_surely = manifest::is_named(key, content_type);
        if fields.contains_key(header::CONTENT_RANGE) {
            self.rewriting = is_surely.then_some(Rewriting::Partial);
            return;
        }
        let coding = caching::text(fields, header::CONTENT_ENCODING).map(str::to_owned);
        let no_transform = Directives::of(fields).no_transform;
        let Ok(mut rewriter) = Rewriter::new(coding.as_deref(), map.clone()) else {
            self.rewriting = is_surely.then_some(Rewriting::Coding);
            return;
        };
        let length = object.meta().length;
        let Some(view) = object.view() else { return };
        let (mut out, mut at) = (Vec::new(), 0);
        let rewritten = loop {
            if at == length {
                break rewriter.finish(&mut out);
            }
            let end = length.min(at + PIECE_BYTES as u64);
            let Some(piece) = view.bytes(at..end) else { return };
            if let Err(why) = rewriter.push(&piece, &mut out) {
                break Err(why);
            }
            at = end;
            match rewriter.is_manifest() {
                Some(false) => return,
                Some(true) if no_transform => break Ok(()),
                _ => {}
            }
            if out.len() > MAX_TEXT_BYTES {
                self.rewriter = Rewriter::new(coding.as_deref(), map).ok();
                break Ok(());
            }
        };
        if let Err(why) = rewritten {
            self.rewriting = is_surely.then_some(why);
        } else if rewriter.is_manifest() != Some(true) {
        } else if no_transform {
            self.rewriting = Some(Rewriting::NoTransform);
        } else if self.rewriter.is_some() {
            self.becomes_rewritten(Bytes::new());
            self.body = None;
            self.head.length = None;
            self.head.fields.remove(header::ACCEPT_RANGES);
        } else if coding.is_none() && view.bytes(0..length).is_some_and(|own| own == out) {
            self.rewriting = Some(Rewriting::Done);
        } else {
            self.becomes_rewritten(out.into());
        }
    }

    fn becomes_rewritten(&mut self, bytes: Bytes) {
        self.head.becomes(&bytes, "box");
        self.head.fields.remove(header::CONTENT_ENCODING);
        self.body = Some(bytes);
        self.rewriting = Some(Rewriting::Done);
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
        manifest::format_of_type(self.essence()).is_some()
    }

    /// Replaces the object's bytes; their digest becomes the validator.
    fn says(&mut self, text: &Bytes) {
        let etag = head::etag(&Digest::of(text));
        head::put(&mut self.fields, header::ETAG, &etag);
        self.validators.etag = HeaderValue::from_str(&etag).ok();
        self.length = Some(text.len() as u64);
    }

    /// Changes the form: other bytes need another validator (RFC 9110 section 8.8.3.3).
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

/// Whether a type is worth compressing. Media are compressed already.
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

/// Whether a client accepts gzip: listed, or by `*`, with a quality above 0 (RFC 9110 section 12.5.3).
pub(crate) fn takes_gzip(request: &HeaderMap) -> bool {
    accepts_gzip(request.get_all(header::ACCEPT_ENCODING).iter().map(|line| line.to_str().unwrap_or("")))
}

/// Whether the lines of `Accept-Encoding` allow gzip.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_gzip() {
        let takes = |value: &str| takes_gzip(&caching::from_pairs([("accept-encoding", value)]));
        for yes in ["gzip", "br, GZIP;q=0.5", "*", "identity, x-gzip"] {
            assert!(takes(yes), "{yes}");
        }
        for no in ["", "br", "gzip;q=0", "*;q=0", "gzip;q=0, *", "identity"] {
            assert!(!takes(no), "{no}");
        }
    }
}
