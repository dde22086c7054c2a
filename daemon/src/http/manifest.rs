//! Manifests with their URLs mapped to the box: recognised by what they are, rewritten as they stream.
//!
//! HLS clients go by the name and by `#EXTM3U` (RFC 8216 section 4), and origins serve manifests as `text/plain`, `text/xml` or
//! `binary/octet-stream`: so the type decides only where it names one, and the first bytes everywhere else. Everything but a
//! URL that leads below a route stays byte for byte what it was, in any encoding in which ASCII is ASCII, and in UTF-16. What
//! cannot be rewritten is handed on as it is, and the reason is counted and said in `Cache-Status`.
//!
//! | format | references |
//! |---|---|
//! | HLS playlist | lines without `#`, quoted attributes of tags |
//! | MPD, patch of one | text and CDATA of elements, attributes; character references are read |
//! | steering manifest, list of interstitials | strings of JSON |

use std::io::Write as _;

use flate2::write::{MultiGzDecoder, ZlibDecoder};

use super::urls::UrlMap;

/// The longest token (line, element, string) that is looked at; a longer one is data, not a URL.
const MAX_TOKEN_BYTES: usize = 256 << 10;
/// Bytes of a document from which its format is told.
pub(super) const SNIFF_BYTES: usize = 4096;
/// Bytes that are pushed at a time: what is compressed becomes a thousand times as much.
pub(super) const PIECE_BYTES: usize = 4096;
/// A document in UTF-16 is rewritten up to this: it is converted as a whole.
const MAX_UTF16_BYTES: usize = 4 << 20;

/// Formats of manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Hls,
    Dash,
    Json,
}

/// What became of a manifest.
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
    pub(super) const fn detail(self) -> &'static str {
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
pub(super) fn format_of_type(content_type: &str) -> Option<Format> {
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

/// The format that a name promises.
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

/// Whether an object may be a manifest, by its type and name: then its first bytes decide.
pub(super) fn may_be(key: &str, content_type: Option<&str>) -> bool {
    let content_type = content_type.unwrap_or_default();
    if format_of_type(content_type).is_some() || format_of_name(key).is_some() {
        return true;
    }
    let essence = essence(content_type).to_ascii_lowercase();
    let is_text =
        matches!(essence.as_str(), "text/plain" | "text/xml" | "application/json" | "application/xml");
    let is_unknown = matches!(essence.as_str(), "" | "binary/octet-stream" | "application/octet-stream");
    // Of what has no type, names of media are believed.
    const MEDIA: [&str; 16] = [
        ".ts", ".m4s", ".mp4", ".m4v", ".m4a", ".cmfv", ".cmfa", ".cmft", ".aac", ".ac3", ".webm", ".vtt",
        ".key", ".jpg", ".png", ".mp3",
    ];
    let path = key.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    is_text || is_unknown && !MEDIA.iter().any(|suffix| path.ends_with(suffix))
}

/// Whether its type or its name says that an object is a manifest.
pub(super) fn is_named(key: &str, content_type: Option<&str>) -> bool {
    format_of_type(content_type.unwrap_or_default()).is_some() || format_of_name(key).is_some()
}

/// Whether these first bytes are of a manifest, before any coding is undone.
pub(super) fn begins(bytes: &[u8]) -> bool {
    sniff(bytes).is_some()
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or("").trim()
}

/// How a document's bytes stand for its characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charset {
    /// ASCII is ASCII, whatever the rest is.
    Ascii,
    Utf16 {
        is_big: bool,
        has_mark: bool,
    },
}

/// What the first bytes say.
fn sniff(bytes: &[u8]) -> Option<(Format, Charset)> {
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
        let root = root_of(text)?;
        let local = root.rsplit(|&byte| byte == b':').next().unwrap_or(root);
        if !matches!(local, b"MPD" | b"Patch" | b"Period") {
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

/// Whether more bytes would not change what [`sniff`] says: live documents must not wait for their ends.
fn is_decisive(start: &[u8]) -> bool {
    const OPENINGS: [u8; 8] = [b'#', b'<', b'{', b'[', 0xef, 0xff, 0xfe, 0];
    let text = start.trim_ascii_start();
    // Of two bytes for a character the second may be missing.
    let is_wide = matches!(start, [0xff | 0xfe, ..]) || start.iter().take(2).any(|&byte| byte == 0);
    if is_wide {
        return start.len() >= SNIFF_BYTES;
    }
    start.len() >= SNIFF_BYTES
        || text.first().is_some_and(|byte| !OPENINGS.contains(byte))
        || text.starts_with(b"#EXTM3U")
        || text.starts_with(b"#") && text.len() > 8
        || text.starts_with(b"<") && root_of(text).is_some()
}

/// The ASCII of UTF-16.
fn narrow(bytes: &[u8], is_big: bool) -> Vec<u8> {
    let unit = |pair: &[u8]| if is_big { (pair[0], pair[1]) } else { (pair[1], pair[0]) };
    bytes.chunks_exact(2).map(unit).map(|(high, low)| if high == 0 { low } else { b'?' }).collect()
}

/// The name of the root element: behind declarations, comments and instructions.
fn root_of(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = text.trim_ascii_start();
        let skip_to = |end: &[u8]| text.windows(end.len()).position(|it| it == end).map(|at| at + end.len());
        let skip = if text.starts_with(b"<?") {
            skip_to(b"?>")?
        } else if text.starts_with(b"<!--") {
            skip_to(b"-->")?
        } else if text.starts_with(b"<!") {
            skip_to(b">")?
        } else {
            break;
        };
        text = &text[skip..];
    }
    let name = text.strip_prefix(b"<")?;
    let end = name.iter().position(|&byte| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/'))?;
    Some(&name[..end])
}

/// Undoes a content coding.
enum Decoder {
    Identity,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zlib(Box<ZlibDecoder<Vec<u8>>>),
    Brotli(Box<brotli_decompressor::DecompressorWriter<Vec<u8>>>),
    /// Decoded at its end.
    Zstd(Vec<u8>),
}

/// Bytes of a zstd document that are gathered, and of what it becomes.
const MAX_ZSTD_BYTES: usize = 4 << 20;

impl Decoder {
    fn of(coding: Option<&str>) -> Option<Self> {
        Some(match coding.map(|it| it.trim().to_ascii_lowercase()).as_deref() {
            None | Some("" | "identity") => Self::Identity,
            Some("gzip" | "x-gzip") => Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            Some("deflate") => Self::Zlib(Box::new(ZlibDecoder::new(Vec::new()))),
            Some("br") => {
                Self::Brotli(Box::new(brotli_decompressor::DecompressorWriter::new(Vec::new(), 4096)))
            }
            Some("zstd") => Self::Zstd(Vec::new()),
            Some(_) => return None,
        })
    }

    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Rewriting> {
        let failed = |_| Rewriting::Coding;
        match self {
            Self::Identity => out.extend_from_slice(bytes),
            Self::Gzip(decoder) => {
                decoder.write_all(bytes).map_err(failed)?;
                out.append(decoder.get_mut());
            }
            Self::Zlib(decoder) => {
                decoder.write_all(bytes).map_err(failed)?;
                out.append(decoder.get_mut());
            }
            Self::Brotli(decoder) => {
                decoder.write_all(bytes).map_err(failed)?;
                out.append(decoder.get_mut());
            }
            Self::Zstd(gathered) => {
                if gathered.len() + bytes.len() > MAX_ZSTD_BYTES {
                    return Err(Rewriting::Coding);
                }
                gathered.extend_from_slice(bytes);
            }
        }
        Ok(())
    }

    /// The end: a body that was cut is none.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Rewriting> {
        let failed = |_| Rewriting::Coding;
        match self {
            Self::Identity => {}
            Self::Gzip(decoder) => {
                decoder.try_finish().map_err(failed)?;
                out.append(decoder.get_mut());
            }
            Self::Zlib(decoder) => {
                decoder.try_finish().map_err(failed)?;
                out.append(decoder.get_mut());
            }
            Self::Brotli(decoder) => {
                decoder.close().map_err(failed)?;
                out.append(decoder.get_mut());
            }
            Self::Zstd(gathered) => {
                use std::io::Read as _;
                let decoder = ruzstd::decoding::StreamingDecoder::new(gathered.as_slice())
                    .map_err(|_| Rewriting::Coding)?;
                let before = out.len();
                decoder.take(MAX_ZSTD_BYTES as u64 + 1).read_to_end(out).map_err(failed)?;
                if out.len() - before > MAX_ZSTD_BYTES {
                    return Err(Rewriting::Coding);
                }
            }
        }
        Ok(())
    }
}

/// Rewrites one document, whose bytes come in pieces.
pub(super) struct Rewriter {
    map: UrlMap,
    decoder: Decoder,
    /// Decoded and not looked at yet.
    pending: Vec<u8>,
    state: State,
}

enum State {
    /// Too little has come.
    Sniffing,
    Tokens(Format, Tokens),
    Utf16 {
        format: Format,
        is_big: bool,
        has_mark: bool,
    },
    /// It is no manifest.
    Verbatim,
}

impl std::fmt::Debug for Rewriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rewriter")
    }
}

impl Rewriter {
    /// For a document in this content coding.
    ///
    /// # Errors
    /// `Coding`, if it is unknown.
    pub(super) fn new(coding: Option<&str>, map: UrlMap) -> Result<Self, Rewriting> {
        let decoder = Decoder::of(coding).ok_or(Rewriting::Coding)?;
        Ok(Self { map, decoder, pending: Vec::new(), state: State::Sniffing })
    }

    /// Whether what has come so far is the beginning of a manifest; `None`: too little has come.
    pub(super) const fn is_manifest(&self) -> Option<bool> {
        match self.state {
            State::Sniffing => None,
            State::Tokens(..) | State::Utf16 { .. } => Some(true),
            State::Verbatim => Some(false),
        }
    }

    /// Takes a piece; what can go out is added to `out`.
    ///
    /// # Errors
    /// If it cannot be decoded; what is in `out` is right so far.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Rewriting> {
        self.decoder.push(bytes, &mut self.pending)?;
        if matches!(self.state, State::Sniffing) && is_decisive(&self.pending) {
            self.decide();
        }
        self.advance(out, false)
    }

    /// The end of the document.
    ///
    /// # Errors
    /// As [`Rewriter::push`].
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Rewriting> {
        self.decoder.finish(&mut self.pending)?;
        if matches!(self.state, State::Sniffing) {
            self.decide();
        }
        self.advance(out, true)
    }

    fn decide(&mut self) {
        let start = &self.pending[..self.pending.len().min(SNIFF_BYTES)];
        self.state = match sniff(start) {
            None => State::Verbatim,
            Some((format, Charset::Ascii)) => State::Tokens(format, Tokens::default()),
            Some((format, Charset::Utf16 { is_big, has_mark })) => State::Utf16 { format, is_big, has_mark },
        };
    }

    fn advance(&mut self, out: &mut Vec<u8>, is_end: bool) -> Result<(), Rewriting> {
        match &mut self.state {
            State::Sniffing => {}
            State::Verbatim => out.append(&mut self.pending),
            State::Tokens(format, tokens) => tokens.take(*format, &self.map, &mut self.pending, out, is_end),
            State::Utf16 { format, is_big, has_mark } => {
                if self.pending.len() > MAX_UTF16_BYTES {
                    return Err(Rewriting::Charset);
                }
                if is_end {
                    let mut text = decoded(&self.pending, *is_big).ok_or(Rewriting::Charset)?.into_bytes();
                    let mut rewritten = Vec::with_capacity(text.len());
                    let mut tokens = Tokens::default();
                    tokens.take(*format, &self.map, &mut text, &mut rewritten, true);
                    let text = String::from_utf8(rewritten).map_err(|_| Rewriting::Charset)?;
                    debug_assert!(!*has_mark || text.starts_with('\u{feff}'));
                    let bytes = |unit: u16| if *is_big { unit.to_be_bytes() } else { unit.to_le_bytes() };
                    out.extend(text.encode_utf16().flat_map(bytes));
                    self.pending.clear();
                }
            }
        }
        Ok(())
    }
}

fn decoded(bytes: &[u8], is_big: bool) -> Option<String> {
    let (pairs, []) = bytes.as_chunks::<2>() else { return None };
    let unit = |pair: &[u8; 2]| if is_big { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) };
    char::decode_utf16(pairs.iter().map(unit)).collect::<Result<String, _>>().ok()
}

/// The tokens of a document, one after the other.
#[derive(Debug, Default)]
struct Tokens {
    /// XML: the element whose text comes. JSON: the key whose value comes.
    name: Vec<u8>,
    /// JSON: the string before this place.
    last: Vec<u8>,
    /// In a token that is too long, which goes out as it is: how it ends.
    skipping: Option<&'static [u8]>,
}

impl Tokens {
    /// Takes whole tokens out of `pending` and adds them, rewritten, to `out`.
    fn take(&mut self, format: Format, map: &UrlMap, pending: &mut Vec<u8>, out: &mut Vec<u8>, is_end: bool) {
        let mut at = 0;
        loop {
            let rest = &pending[at..];
            if rest.is_empty() {
                break;
            }
            if let Some(end) = self.skipping {
                let Some(found) = find(rest, end) else {
                    // The end may begin in the last bytes.
                    let keep = if is_end { 0 } else { end.len() - 1 };
                    let count = rest.len().saturating_sub(keep);
                    out.extend_from_slice(&rest[..count]);
                    at += count;
                    break;
                };
                // What ends it is a token of its own where the next begins with it.
                let is_start = end == b"<" || end == b"\n";
                let count = if is_start { found } else { found + end.len() };
                out.extend_from_slice(&rest[..count]);
                at += count;
                self.skipping = None;
                continue;
            }
            let (length, end) = match format {
                Format::Hls => (find(rest, b"\n").map(|at| at + 1), &b"\n"[..]),
                Format::Dash => xml_token(rest),
                Format::Json => json_token(rest),
            };
            match length {
                Some(length) => {
                    let token = &rest[..length];
                    match format {
                        Format::Hls => hls_line(token, map, out),
                        Format::Dash => self.xml(token, map, out),
                        Format::Json => self.json(token, map, out),
                    }
                    at += length;
                }
                None if is_end => {
                    match format {
                        Format::Hls => hls_line(rest, map, out),
                        _ => out.extend_from_slice(rest),
                    }
                    at = pending.len();
                }
                None if rest.len() > MAX_TOKEN_BYTES => self.skipping = Some(end),
                None => break,
            }
        }
        pending.drain(..at);
    }

    fn xml(&mut self, token: &[u8], map: &UrlMap, out: &mut Vec<u8>) {
        if let Some(inner) = token.strip_prefix(b"<![CDATA[").and_then(|it| it.strip_suffix(b"]]>")) {
            match self.xml_text(inner, map, false) {
                Some(mapped) if !mapped.contains("]]>") => {
                    out.extend_from_slice(b"<![CDATA[");
                    replace_trimmed(inner, mapped.as_bytes(), out);
                    out.extend_from_slice(b"]]>");
                }
                _ => out.extend_from_slice(token),
            }
        } else if token.starts_with(b"<") {
            match token.get(1) {
                Some(b'!' | b'?') => out.extend_from_slice(token),
                Some(b'/') => {
                    self.name.clear();
                    out.extend_from_slice(token);
                }
                _ => {
                    let end = token[1..]
                        .iter()
                        .position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/'))
                        .map_or(token.len(), |at| at + 1);
                    let name = &token[1..end];
                    self.name.clear();
                    self.name.extend_from_slice(name.rsplit(|&byte| byte == b':').next().unwrap_or(name));
                    xml_tag(token, map, out);
                }
            }
        } else {
            match self.xml_text(token, map, true) {
                Some(mapped) => replace_trimmed(token, escaped(&mapped).as_bytes(), out),
                None => out.extend_from_slice(token),
            }
        }
    }

    /// What the text of the element becomes, if it is a URL that leads back.
    fn xml_text(&self, text: &[u8], map: &UrlMap, has_references: bool) -> Option<String> {
        const REFERENCES: [&[u8]; 8] = [
            b"BaseURL",
            b"Location",
            b"PatchLocation",
            b"ContentSteering",
            b"Laurl",
            b"laurl",
            b"ImportedMPD",
            b"add",
        ];
        let text = std::str::from_utf8(text).ok()?.trim();
        if text.is_empty() || text.len() > 8192 {
            return None;
        }
        let text = if has_references { unescaped(text)? } else { text.to_owned() };
        if REFERENCES.contains(&self.name.as_slice()) || self.name == b"replace" {
            map.map_reference(text.trim())
        } else {
            map.map(text.trim())
        }
    }

    fn json(&mut self, token: &[u8], map: &UrlMap, out: &mut Vec<u8>) {
        if !token.starts_with(b"\"") {
            if token.contains(&b':') {
                self.name = std::mem::take(&mut self.last);
            }
            if token.iter().any(|byte| matches!(byte, b'{' | b'}' | b',')) {
                self.last.clear();
                if !token.contains(&b':') {
                    self.name.clear();
                }
            }
            out.extend_from_slice(token);
            return;
        }
        let text = serde_json::from_slice::<String>(token).unwrap_or_default();
        let is_reference = self.name.ends_with(b"URI") || self.name == b"X-ASSET-LIST";
        let mapped = if is_reference { map.map_reference(&text) } else { map.map(&text) };
        match mapped.and_then(|it| serde_json::to_vec(&it).ok()) {
            Some(mapped) => out.extend_from_slice(&mapped),
            None => out.extend_from_slice(token),
        }
        self.last = text.into_bytes();
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|it| it == what)
}

/// `text` with what is not white space at its ends replaced.
fn replace_trimmed(text: &[u8], by: &[u8], out: &mut Vec<u8>) {
    let start = text.len() - text.trim_ascii_start().len();
    out.extend_from_slice(&text[..start]);
    out.extend_from_slice(by);
    out.extend_from_slice(&text[text.trim_ascii_end().len().max(start)..]);
}

/// The length of the token at the start, if its end is there; how it ends.
fn xml_token(rest: &[u8]) -> (Option<usize>, &'static [u8]) {
    let up_to = |end: &'static [u8]| (find(rest, end).map(|at| at + end.len()), end);
    const CDATA: &[u8] = b"<![CDATA[";
    if !rest.starts_with(b"<") {
        return (find(rest, b"<"), b"<");
    }
    if rest.starts_with(b"<!--") {
        return up_to(b"-->");
    }
    if rest.starts_with(CDATA) {
        return up_to(b"]]>");
    }
    if rest.starts_with(b"<?") {
        return up_to(b"?>");
    }
    // Too short to be told from a tag.
    if rest.len() < CDATA.len() && (CDATA.starts_with(rest) || b"<!--".starts_with(rest)) {
        return (None, b">");
    }
    let mut quote = None;
    for (at, &byte) in rest.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return (Some(at + 1), b">"),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    (None, b">")
}

/// A start tag with its attributes rewritten.
fn xml_tag(token: &[u8], map: &UrlMap, out: &mut Vec<u8>) {
    const REFERENCES: [&str; 10] = [
        "media",
        "initialization",
        "index",
        "bitstreamSwitching",
        "sourceURL",
        "href",
        "laurl",
        "licenseUrl",
        "Url",
        "proxyServerURL",
    ];
    let mut rest = token;
    while let Some(open) = rest.iter().position(|byte| matches!(byte, b'"' | b'\'')) {
        let Some(length) = rest[open + 1..].iter().position(|&byte| byte == rest[open]) else { break };
        let (before, value) = (&rest[..=open], &rest[open + 1..open + 1 + length]);
        out.extend_from_slice(before);
        let name = before[..before.len() - 1].trim_ascii_end();
        let name = name.strip_suffix(b"=").unwrap_or(name).trim_ascii_end();
        let name = name.rsplit(u8::is_ascii_whitespace).next().unwrap_or_default();
        let name = std::str::from_utf8(name).unwrap_or_default();
        let local = name.rsplit(':').next().unwrap_or_default();
        let text = if name.starts_with("xmlns") { None } else { std::str::from_utf8(value).ok() };
        let text = text.filter(|it| it.len() <= 8192).and_then(unescaped);
        let one = |reference: &str| {
            if REFERENCES.contains(&local) { map.map_reference(reference) } else { map.map(reference) }
        };
        let mapped = text.and_then(|text| {
            // `UTCTiming` has several in one value.
            let parts: Vec<(&str, Option<String>)> = text.split(' ').map(|part| (part, one(part))).collect();
            let any = parts.iter().any(|(_, mapped)| mapped.is_some());
            let parts = parts.into_iter().map(|(part, mapped)| mapped.unwrap_or_else(|| part.to_owned()));
            any.then(|| parts.collect::<Vec<_>>().join(" "))
        });
        match mapped {
            Some(mapped) => out.extend_from_slice(escaped(&mapped).as_bytes()),
            None => out.extend_from_slice(value),
        }
        out.push(rest[open]);
        rest = &rest[open + length + 2..];
    }
    out.extend_from_slice(rest);
}

/// Text with its references to characters and to the five entities of XML read; `None`: another is in it.
fn unescaped(text: &str) -> Option<String> {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let (name, after) = rest[at + 1..].split_once(';')?;
        let code = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => match name.strip_prefix('#')? {
                hex if hex.starts_with(['x', 'X']) => code(&hex[1..], 16)?,
                decimal => code(decimal, 10)?,
            },
        });
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

fn escaped(text: &str) -> String {
    // For values in single quotes too.
    carousel::xml::escape(text).replace('\'', "&#39;")
}

/// A string, or what is between two.
fn json_token(rest: &[u8]) -> (Option<usize>, &'static [u8]) {
    if !rest.starts_with(b"\"") {
        return (find(rest, b"\""), b"\"");
    }
    let mut is_escaped = false;
    for (at, &byte) in rest.iter().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return (Some(at + 1), b"\""),
            _ => {}
        }
    }
    (None, b"\"")
}

/// One line of a playlist, with its end.
fn hls_line(line: &[u8], map: &UrlMap, out: &mut Vec<u8>) {
    let mark = if line.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let text = &line[mark..];
    if text.starts_with(b"#") {
        out.extend_from_slice(&line[..mark]);
        return if text.starts_with(b"#EXT") { hls_tag(text, map, out) } else { out.extend_from_slice(text) };
    }
    let mapped = std::str::from_utf8(text.trim_ascii()).ok().and_then(|it| map.map_reference(it));
    match mapped {
        Some(mapped) => {
            out.extend_from_slice(&line[..mark]);
            replace_trimmed(text, mapped.as_bytes(), out);
        }
        None => out.extend_from_slice(line),
    }
}

/// A tag: its quoted attributes.
fn hls_tag(tag: &[u8], map: &UrlMap, out: &mut Vec<u8>) {
    let mut rest = tag;
    while let Some(open) = rest.iter().position(|&byte| byte == b'"') {
        let Some(length) = rest[open + 1..].iter().position(|&byte| byte == b'"') else { break };
        let (before, value) = (&rest[..=open], &rest[open + 1..open + 1 + length]);
        out.extend_from_slice(before);
        let name = before[..before.len() - 1].strip_suffix(b"=").unwrap_or_default();
        let name = name.rsplit(|byte| matches!(byte, b',' | b':' | b' ')).next().unwrap_or_default();
        let mapped = std::str::from_utf8(value).ok().and_then(|value| match name {
            b"VALUE" if tag.starts_with(b"#EXT-X-DEFINE") => map.map_folder(value),
            b"X-ASSET-LIST" => map.map_reference(value),
            name if name.ends_with(b"URI") || name.ends_with(b"URL") => map.map_reference(value),
            _ => map.map(value),
        });
        out.extend_from_slice(mapped.as_deref().map_or(value, str::as_bytes));
        out.push(b'"');
        rest = &rest[open + length + 2..];
    }
    out.extend_from_slice(rest);
}

/// A whole document, rewritten.
///
/// # Errors
/// If it is none that can be; `Ok(None)`: it is no manifest.
pub(super) fn rewritten(
    coding: Option<&str>,
    map: UrlMap,
    bytes: &[u8],
) -> Result<Option<Vec<u8>>, Rewriting> {
    let mut rewriter = Rewriter::new(coding, map)?;
    let mut out = Vec::with_capacity(bytes.len());
    for piece in bytes.chunks(PIECE_BYTES) {
        rewriter.push(piece, &mut out)?;
        if rewriter.is_manifest() == Some(false) {
            return Ok(None);
        }
    }
    rewriter.finish(&mut out)?;
    Ok((rewriter.is_manifest() == Some(true)).then_some(out))
}

#[cfg(test)]
mod tests;
