//! Resolution of a manifest's references: to the URI that players request, and to a file of the source.

use std::cell::OnceCell;
use std::collections::HashMap;

use carousel::name::resolve;
use percent_encoding::percent_decode_str;
use unicode_normalization::UnicodeNormalization as _;

use super::dash::Nearness;
use super::tree::{FileOnDisk, Files};
use super::{IgnoredQuery, Role};

/// Base of a source without one: `scan` of a folder.
pub(super) const NO_BASE: &str = "https://source.invalid/";

/// Maximum files of the same name considered for the advice in a problem's text.
const MAX_NAMESAKES: usize = 100;

/// Target of a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReferenceTarget {
    /// Below the source's base.
    Local(Local),
    /// To another host, or another folder of the same one: the URI.
    Remote(String),
    /// Not a file: `data:`, `skd:`, empty.
    Opaque,
    /// Invalid: why it is not a URI.
    Bad(carousel::NameError),
}

/// A name below the source's base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Local {
    /// The URI below the base, without ignored query parameters: the name on the air.
    pub(super) path: String,
    /// Its file in the file system; `None` if it does not exist.
    pub(super) file: Option<String>,
    /// The query as spelled in the manifest.
    pub(super) query: String,
}

/// Resolver for the files of a source.
pub(super) struct Resolver<'a> {
    files: &'a Files,
    /// Normalised, with a trailing slash.
    base: String,
    has_base: bool,
    rule: Option<&'a IgnoredQuery>,
    /// Built when a file is missing.
    alike: OnceCell<SimilarNames<'a>>,
}

/// Lookup of similar names.
struct SimilarNames<'a> {
    /// Paths by their lower case.
    folded: HashMap<String, &'a str>,
    /// Paths with percent-encoding, by decoded form.
    decoded: HashMap<String, &'a str>,
    /// Paths by their last segment.
    named: HashMap<&'a str, Vec<&'a str>>,
}

impl<'a> SimilarNames<'a> {
    fn of(files: &'a Files) -> Self {
        let paths = || files.keys().map(String::as_str);
        let mut named: HashMap<&str, Vec<&str>> = HashMap::new();
        for path in paths() {
            let of_name = named.entry(path.rsplit('/').next().unwrap_or(path)).or_default();
            if of_name.len() < MAX_NAMESAKES {
                of_name.push(path);
            }
        }
        Self {
            folded: paths().map(|path| (path.to_lowercase(), path)).collect(),
            decoded: paths().map(|path| (decode(path), path)).filter(|(plain, path)| plain != path).collect(),
            named,
        }
    }
}

impl<'a> Resolver<'a> {
    pub(super) fn new(files: &'a Files, base: &str, rule: Option<&'a IgnoredQuery>) -> Self {
        let normalised = resolve(NO_BASE, base).unwrap_or_else(|_| base.to_owned());
        Self { files, base: normalised, has_base: !base.is_empty(), rule, alike: OnceCell::new() }
    }

    /// Paths of all files.
    pub(super) fn paths(&self) -> impl Iterator<Item = &'a str> {
        self.files.keys().map(String::as_str)
    }

    /// The URI of the object of this name.
    pub(super) fn uri_of(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Nearness of a normalised URI to the base.
    pub(super) fn nearness(&self, uri: &str) -> Nearness {
        let without_scheme = |uri: &str| uri.split_once("://").map(|(_, rest)| rest.to_owned());
        if self.below(uri).is_some() {
            return Nearness::Below;
        }
        let folder = uri.split('?').next().and_then(|uri| uri.rfind('/').map(|at| &uri[..=at]));
        let is_around = folder
            .and_then(without_scheme)
            .zip(without_scheme(&self.base))
            .is_some_and(|(folder, base)| base.starts_with(&folder));
        if is_around { Nearness::Around } else { Nearness::Elsewhere }
    }

    /// The part of an absolute, normalised URI below the base, independent of the scheme, since players use both.
    pub(super) fn below<'u>(&self, uri: &'u str) -> Option<&'u str> {
        let (scheme, name) =
            uri.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
        let base = self.base.split_once("://").map_or("", |(_, base)| base);
        if let Some(below) = name.strip_prefix(base) {
            return Some(below);
        }
        if self.has_base {
            return None;
        }
        // Without a base, the longest suffix of the path that is a file here.
        let path = name.split('?').next()?;
        let mut at = path.find('/')? + 1;
        loop {
            if self.files.contains_key(&decode(&path[at..])) {
                return Some(&uri[scheme.len() + 3 + at..]);
            }
            at += path[at..].find('/')? + 1;
        }
    }

    /// Paths that consist of `before`, digits and `after`, with the number. `before` and `after` are parts of a URI.
    pub(super) fn matching(&self, before: &str, after: &str) -> Vec<(u64, String)> {
        let Some(before) = self.below(before) else { return Vec::new() };
        let before = decode(before);
        let after = decode(after.split('?').next().unwrap_or_default());
        let range = self.files.range(before.clone()..);
        let with_prefix = range.take_while(|(path, _)| path.starts_with(&before));
        let numbered = |(path, _): (&String, &FileOnDisk)| {
            let digits = path[before.len()..].strip_suffix(after.as_str())?;
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.parse().ok()).flatten().map(|number| (number, path.clone()))
        };
        let mut found: Vec<(u64, String)> = with_prefix.filter_map(numbered).collect();
        found.sort_unstable();
        found
    }

    /// Resolves `reference` relative to the manifest of this name.
    pub(super) fn resolve(&self, manifest: &str, reference: &str) -> ReferenceTarget {
        if reference.trim().is_empty() {
            return ReferenceTarget::Opaque;
        }
        match resolve(&self.uri_of(manifest), reference) {
            Ok(uri) => {
                let is_absolute =
                    reference.trim_start().starts_with('/') && !reference.trim_start().starts_with("//");
                let below = uri.strip_prefix(&self.base).filter(|_| is_absolute);
                let local = below.and_then(|below| self.below_unknown_base(below));
                self.place(local.map_or(uri, |local| self.uri_of(&local)))
            }
            Err(err) => ReferenceTarget::Bad(err),
        }
    }

    /// Target of an absolute, normalised URI.
    pub(super) fn place(&self, uri: String) -> ReferenceTarget {
        let is_web = uri.starts_with("http://") || uri.starts_with("https://");
        if !is_web {
            return ReferenceTarget::Opaque;
        }
        let Some(below) = self.below(&uri) else { return ReferenceTarget::Remote(uri) };
        let (path, query) = below.split_once('?').unwrap_or((below, ""));
        let plain = decode(path);
        // Mirroring tools keep the query in the file name.
        let with_query = format!("{plain}?{}", decode(query));
        if !query.is_empty() && self.files.contains_key(&with_query) {
            return ReferenceTarget::Local(Local {
                path: below.to_owned(),
                file: Some(with_query),
                query: String::new(),
            });
        }
        let path = self.rule.map_or_else(|| path.to_owned(), |rule| rule.strip(below));
        let file = self.file_of(plain);
        ReferenceTarget::Local(Local { path, file, query: query.to_owned() })
    }

    /// The file of this decoded name. Tries both Unicode normalisation forms: macOS decomposes file names, manifests may
    /// not.
    fn file_of(&self, plain: String) -> Option<String> {
        if self.files.contains_key(&plain) {
            return Some(plain);
        }
        if plain.is_ascii() {
            return None;
        }
        let composed: String = plain.nfc().collect();
        let decomposed: String = plain.nfd().collect();
        [composed, decomposed].into_iter().find(|it| *it != plain && self.files.contains_key(it))
    }

    /// The base under which a foreign URI would be a file here: the URI without its longest suffix that is one. A name
    /// without a folder is too ambiguous, unless its host is the base's.
    pub(super) fn base_for(&self, uri: &str) -> Option<String> {
        if !self.has_base {
            return None;
        }
        let end = uri.find('?').unwrap_or(uri.len());
        let path = uri[..end].find("://").map(|at| at + 3)?;
        let mut at = path + uri[path..end].find('/')? + 1;
        let is_same_host = self.base.starts_with(&uri[..at]);
        loop {
            let name = &uri[at..end];
            if (is_same_host || name.contains('/')) && self.files.contains_key(&decode(name)) {
                return Some(uri[..at].to_owned());
            }
            at += uri[at..end].find('/')? + 1;
        }
    }

    /// The name of an absolute path if the folder's URL is unknown: its longest suffix that is a file here.
    fn below_unknown_base(&self, below: &str) -> Option<String> {
        let path = below.split('?').next()?;
        if self.has_base || self.files.contains_key(&decode(path)) {
            return None;
        }
        let mut at = 0;
        loop {
            at += path[at..].find('/')? + 1;
            if self.files.contains_key(&decode(&path[at..])) {
                return Some(below[at..].to_owned());
            }
        }
    }

    /// The probably intended file of a wrong reference, and the fix.
    pub(super) fn meant(&self, manifest: &str, reference: &str) -> Option<(String, &'static str)> {
        let folder = decode(&manifest[..manifest.rfind('/').map_or(0, |at| at + 1)]);
        let literal = format!("{folder}{reference}");
        if self.files.contains_key(&literal) {
            if reference.contains('#') {
                let what =
                    format!("the URI ends at the `#` of {reference:?}, so that players ask for another name");
                return Some((what, "write `%23` for a `#` of a file's name, or rename the file"));
            }
            if reference.contains('?') {
                let what =
                    format!("the `?` of {reference:?} begins a query, so that players ask for another name");
                return Some((what, "write `%3F` for a `?` of a file's name, or rename the file"));
            }
            if reference.contains('%') {
                let what = format!("{reference:?} is percent-encoded, and the file's name is so literally");
                return Some((what, "write `%25` for a `%` of a file's name, or rename the file"));
            }
        }
        let path = resolve(&self.uri_of(manifest), reference).ok()?;
        let plain = decode(self.below(&path)?.split('?').next()?);
        let alike = self.alike.get_or_init(|| SimilarNames::of(self.files));
        if let Some(other) = alike.decoded.get(&plain) {
            let what =
                format!("{plain} is missing; {other} is there, whose name is percent-encoded literally");
            return Some((what, "write `%25` for a `%` of a file's name, or rename the file"));
        }
        if let Some(other) = alike.folded.get(&plain.to_lowercase()).filter(|other| **other != plain) {
            let what = format!("{plain} is missing; {other} is there, which is another name in capitals");
            return Some((
                what,
                "spell the name as the file's: players and most servers distinguish capitals",
            ));
        }
        let (folder, name) = plain.rsplit_once('/').unwrap_or(("", &plain));
        let deeper = alike.named.get(name)?.iter().find(|other| {
            let rest = other.strip_prefix(folder).map(|rest| rest.strip_prefix('/').unwrap_or(rest));
            rest.is_some_and(|rest| rest.matches('/').count() == 1)
        })?;
        let what =
            format!("{plain} is missing; {deeper} is there, in a folder that the manifest does not name");
        Some((what, "with FFmpeg, give the folder by -hls_base_url too: it writes names alone"))
    }
}

/// Percent-decodes a text. An encoded slash separates folders, as on file servers.
pub(crate) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Encodes a path of the file system for a URI (RFC 3986 section 3.3).
pub(crate) fn encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Extension to MIME type and role. One table for both.
const TYPES: &[(&str, &str, Role)] = &[
    ("m3u8", "application/vnd.apple.mpegurl", Role::Manifest),
    ("m3u", "application/vnd.apple.mpegurl", Role::Manifest),
    ("mpd", "application/dash+xml", Role::Manifest),
    ("m4s", "video/mp4", Role::Segment),
    ("mp4", "video/mp4", Role::Segment),
    ("m4v", "video/mp4", Role::Segment),
    ("cmfv", "video/mp4", Role::Segment),
    ("m4i", "video/mp4", Role::Init),
    ("m4a", "audio/mp4", Role::Segment),
    ("cmfa", "audio/mp4", Role::Segment),
    ("cmft", "application/mp4", Role::Segment),
    ("ts", "video/mp2t", Role::Segment),
    ("m2ts", "video/mp2t", Role::Segment),
    ("aac", "audio/aac", Role::Segment),
    ("ac3", "audio/ac3", Role::Segment),
    ("ec3", "audio/eac3", Role::Segment),
    ("mp3", "audio/mpeg", Role::Segment),
    ("webm", "video/webm", Role::Segment),
    ("vtt", "text/vtt", Role::Segment),
    ("webvtt", "text/vtt", Role::Segment),
    ("ttml", "application/ttml+xml", Role::Segment),
    ("srt", "application/x-subrip", Role::Segment),
    ("key", "application/octet-stream", Role::Key),
    ("xml", "application/xml", Role::Other),
    ("json", "application/json", Role::Other),
    ("jpg", "image/jpeg", Role::Other),
    ("jpeg", "image/jpeg", Role::Other),
    ("png", "image/png", Role::Other),
    ("webp", "image/webp", Role::Other),
    ("svg", "image/svg+xml", Role::Other),
    ("html", "text/html", Role::Other),
    ("pdf", "application/pdf", Role::Other),
    ("txt", "text/plain", Role::Other),
];

fn row(path: &str) -> Option<&'static (&'static str, &'static str, Role)> {
    let of = |path: &str| {
        let extension = path.rsplit('/').next()?.rsplit_once('.')?.1;
        TYPES.iter().find(|(known, ..)| known.eq_ignore_ascii_case(extension))
    };
    // Behind the `?` of a URI stands a query; names of files may have one, and tools that mirror a site keep a query in them.
    of(path.split('?').next()?).or_else(|| of(path))
}

/// MIME type by extension; `application/octet-stream` if unknown.
pub fn content_type(path: &str) -> &'static str {
    row(path).map_or("application/octet-stream", |row| row.1)
}

/// Role by extension, for unreferenced files.
pub(super) fn role_of(path: &str) -> Role {
    row(path).map_or(Role::Other, |row| row.2)
}
