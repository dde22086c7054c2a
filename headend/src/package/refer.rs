//! From a reference in a manifest to a file: relative resolution without ever leaving the source's directory.

use std::collections::{BTreeMap, HashMap};

use percent_encoding::percent_decode_str;

use super::Role;
use super::tree::FileOnDisk;

/// Where a reference leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Referred {
    /// To this path below the root; whether a file is there is another question.
    Local(String),
    /// To another host.
    Remote,
    /// Out of the directory.
    Escapes,
    /// To something that is no file: `data:`, `skd:`, nothing.
    Opaque,
}

/// Knows the files of a source.
pub(super) struct Resolver<'a> {
    files: &'a BTreeMap<String, FileOnDisk>,
    /// Decoded path to path as listed: manifests and we may encode differently.
    decoded: HashMap<String, &'a str>,
    base: &'a str,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(files: &'a BTreeMap<String, FileOnDisk>, base: &'a str) -> Self {
        let decoded = files.keys().map(|path| (decode(path), path.as_str())).collect();
        Self { files, decoded, base }
    }

    /// Paths of all manifests.
    pub(super) fn manifests(&self) -> impl Iterator<Item = String> {
        let is_manifest = |path: &&String| role_of(path) == Role::Manifest;
        self.files.keys().filter(is_manifest).cloned()
    }

    /// The file at `path`.
    pub(super) fn file(&self, path: &str) -> Option<&'a FileOnDisk> {
        self.files.get(path).or_else(|| self.files.get(*self.decoded.get(&decode(path))?))
    }

    /// Paths that begin with `before`, end with `after` and have only digits between.
    pub(super) fn matching(&self, before: &str, after: &str) -> Vec<String> {
        let range = self.files.range(before.to_owned()..);
        let with_prefix = range.take_while(|(path, _)| path.starts_with(before));
        let digits = |path: &&String| {
            let middle = path[before.len()..].strip_suffix(after);
            middle
                .is_some_and(|middle| !middle.is_empty() && middle.bytes().all(|byte| byte.is_ascii_digit()))
        };
        with_prefix.map(|(path, _)| path).filter(digits).cloned().collect()
    }

    /// Resolves `uri` as the manifest at path `manifest` means it.
    pub(super) fn resolve(&self, manifest: &str, uri: &str) -> Referred {
        let uri = uri.split(['?', '#']).next().unwrap_or_default().trim();
        if uri.is_empty() {
            return Referred::Opaque;
        }
        let (folder, relative) = match uri.strip_prefix(self.base).filter(|_| !self.base.is_empty()) {
            Some(below) => ("", below),
            None => (&manifest[..manifest.rfind('/').map_or(0, |at| at + 1)], uri),
        };
        if let Some((scheme, _)) = relative.split_once(':')
            && !scheme.contains('/')
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        {
            let web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
            return if web { Referred::Remote } else { Referred::Opaque };
        }
        if relative.starts_with("//") {
            return Referred::Remote;
        }
        if relative.starts_with('/') {
            // A path on the origin: local only if the source's URL has just that path before it.
            let origin_path = self.base.splitn(4, '/').nth(3).map(|path| format!("/{path}"));
            return match origin_path.and_then(|prefix| relative.strip_prefix(&prefix).map(str::to_owned)) {
                Some(below) => normalise("", &below),
                None => Referred::Escapes,
            };
        }
        normalise(folder, relative)
    }
}

/// Joins and takes `.` and `..` out; what would climb above the root escapes, also when encoded.
fn normalise(folder: &str, relative: &str) -> Referred {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').filter(|part| !part.is_empty()).chain(relative.split('/')) {
        match decode(part).as_str() {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Referred::Escapes;
                }
            }
            decoded if decoded.contains(['/', '\\', '\0']) => return Referred::Escapes,
            _ => parts.push(part),
        }
    }
    if parts.is_empty() { Referred::Opaque } else { Referred::Local(parts.join("/")) }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
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
    let extension = path.rsplit('/').next()?.rsplit_once('.')?.1;
    TYPES.iter().find(|(known, ..)| known.eq_ignore_ascii_case(extension))
}

/// MIME type by extension; `application/octet-stream` if unknown.
pub fn content_type(path: &str) -> &'static str {
    row(path).map_or("application/octet-stream", |row| row.1)
}

/// Role by extension, for files that a manifest says nothing about.
pub(super) fn role_of(path: &str) -> Role {
    row(path).map_or(Role::Other, |row| row.2)
}
