//! Recognition of manifests: by type, by name, and by their first bytes.

use carousel::manifest::local_root;

use super::SNIFF_BYTES;

/// Formats of manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Format {
    Hls,
    Dash,
    Json,
}

/// Outcome of the mapping of a manifest's URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rewriting {
    /// Its URLs are those of the box.
    Done,
    /// `no-transform`.
    NoTransform,
    /// Its content coding cannot be decoded.
    Coding,
    /// Its character encoding cannot be read.
    Charset,
    /// Only a part of it has come.
    Partial,
}

impl Rewriting {
    /// Every variant, in the order of their numbers, for metrics.
    pub const ALL: [Self; 5] = [Self::Done, Self::NoTransform, Self::Coding, Self::Charset, Self::Partial];

    /// Name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "rewritten",
            Self::NoTransform => "no_transform",
            Self::Coding => "coding",
            Self::Charset => "charset",
            Self::Partial => "partial",
        }
    }

    /// The parameter of `Cache-Status` for one that was not rewritten.
    pub(in crate::http) const fn detail(self) -> &'static str {
        match self {
            Self::Done => "",
            Self::NoTransform => "; detail=not-rewritten-no-transform",
            Self::Coding => "; detail=not-rewritten-coding",
            Self::Charset => "; detail=not-rewritten-charset",
            Self::Partial => "; detail=not-rewritten-partial",
        }
    }
}

/// The format that a `Content-Type` names.
pub(in crate::http) fn format_of_type(content_type: &str) -> Option<Format> {
    match essence(content_type).to_ascii_lowercase().as_str() {
        "application/vnd.apple.mpegurl"
        | "application/x-mpegurl"
        | "application/mpegurl"
        | "audio/mpegurl"
        | "audio/x-mpegurl"
        | "audio/vnd.apple.mpegurl"
        | "video/mpegurl"
        | "video/x-mpegurl" => Some(Format::Hls),
        "application/dash+xml" | "video/vnd.mpeg.dash.mpd" | "application/dash-patch+xml" => {
            Some(Format::Dash)
        }
        "application/vnd.apple.steering-list" => Some(Format::Json),
        _ => None,
    }
}

/// The format that a name implies.
fn format_of_name(key: &str) -> Option<Format> {
    let path = key.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    if path.ends_with(".m3u8") || path.ends_with(".m3u") {
        Some(Format::Hls)
    } else if path.ends_with(".mpd") {
        Some(Format::Dash)
    } else {
        None
    }
}

/// Whether an object may be a manifest by its type and name, so that its first bytes must be examined.
pub(in crate::http) fn may_be(key: &str, content_type: Option<&str>) -> bool {
    let content_type = content_type.unwrap_or_default();
    if format_of_type(content_type).is_some() || format_of_name(key).is_some() {
        return true;
    }
    let essence = essence(content_type).to_ascii_lowercase();
    // Scripts that make manifests leave the type as it was: that of a page.
    let is_text = matches!(
        essence.as_str(),
        "text/plain" | "text/html" | "text/xml" | "application/json" | "application/xml"
    );
    let is_unknown = matches!(essence.as_str(), "" | "binary/octet-stream" | "application/octet-stream");
    // Without a type, the extension of a media file is trusted.
    const MEDIA: [&str; 16] = [
        ".ts", ".m4s", ".mp4", ".m4v", ".m4a", ".cmfv", ".cmfa", ".cmft", ".aac", ".ac3", ".webm", ".vtt",
        ".key", ".jpg", ".png", ".mp3",
    ];
    let path = key.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    is_text || is_unknown && !MEDIA.iter().any(|suffix| path.ends_with(suffix))
}

/// Whether an object is a manifest by its type or name.
pub(in crate::http) fn is_named(key: &str, content_type: Option<&str>) -> bool {
    format_of_type(content_type.unwrap_or_default()).is_some() || format_of_name(key).is_some()
}

/// Whether these bytes begin a manifest, without decoding.
pub(in crate::http) fn begins(bytes: &[u8]) -> bool {
    sniff(bytes).is_some()
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or("").trim()
}

/// Character encoding of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    /// Any superset of ASCII.
    Ascii,
    Utf16 {
        is_big: bool,
        has_mark: bool,
    },
}

/// Format and charset by the first bytes.
pub(super) fn sniff(bytes: &[u8]) -> Option<(Format, Charset)> {
    let (charset, text) = match bytes {
        [0xff, 0xfe, rest @ ..] => (Charset::Utf16 { is_big: false, has_mark: true }, narrow(rest, false)),
        [0xfe, 0xff, rest @ ..] => (Charset::Utf16 { is_big: true, has_mark: true }, narrow(rest, true)),
        [b'<' | b'#', 0, ..] => (Charset::Utf16 { is_big: false, has_mark: false }, narrow(bytes, false)),
        [0, b'<' | b'#', ..] => (Charset::Utf16 { is_big: true, has_mark: false }, narrow(bytes, true)),
        [0xef, 0xbb, 0xbf, rest @ ..] => (Charset::Ascii, rest.to_vec()),
        _ => (Charset::Ascii, bytes.to_vec()),
    };
    let text = text.trim_ascii_start();
    let format = if text.starts_with(b"#EXTM3U") {
        Format::Hls
    } else if text.starts_with(b"<") {
        if !matches!(local_root(text)?, b"MPD" | b"Patch" | b"Period") {
            return None;
        }
        Format::Dash
    } else if text.starts_with(b"{") || text.starts_with(b"[") {
        const KEYS: [&[u8]; 4] =
            [b"\"RELOAD-URI\"", b"\"PATHWAY-PRIORITY\"", b"\"PATHWAY-CLONES\"", b"\"ASSETS\""];
        let has = |key: &[u8]| text.windows(key.len()).any(|it| it == key);
        if !KEYS.iter().any(|key| has(key)) {
            return None;
        }
        Format::Json
    } else {
        return None;
    };
    Some((format, charset))
}

/// Whether more bytes cannot change the result of [`sniff`]: live documents must not be held until their end.
pub(super) fn is_decisive(start: &[u8]) -> bool {
    const OPENINGS: [u8; 8] = [b'#', b'<', b'{', b'[', 0xef, 0xff, 0xfe, 0];
    let text = start.trim_ascii_start();
    // The second of two bytes for a character may be missing.
    let is_wide = matches!(start, [0xff | 0xfe, ..]) || start.iter().take(2).any(|&byte| byte == 0);
    if is_wide {
        return start.len() >= SNIFF_BYTES;
    }
    start.len() >= SNIFF_BYTES
        || text.first().is_some_and(|byte| !OPENINGS.contains(byte))
        || text.starts_with(b"#EXTM3U")
        || text.starts_with(b"#") && text.len() > 8
        || text.starts_with(b"<") && local_root(text).is_some()
}

/// The ASCII of UTF-16.
fn narrow(bytes: &[u8], is_big: bool) -> Vec<u8> {
    let unit = |pair: &[u8]| if is_big { (pair[0], pair[1]) } else { (pair[1], pair[0]) };
    bytes.chunks_exact(2).map(unit).map(|(high, low)| if high == 0 { low } else { b'?' }).collect()
}
