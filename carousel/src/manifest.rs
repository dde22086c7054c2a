//! Facts of a manifest: whether it is live, its update interval, and its segments in order.
//!
//! This is the part of HLS (RFC 8216 and its second edition), DASH (ISO/IEC 23009-1) and content steering (DASH-IF, HLS
//! section 7.2) that a cache needs. Kinds are recognised by content, since types and names often disagree. Parsing stops
//! at the limits below; entries beyond them are treated as not listed.

mod delay;
mod timeline;
mod title;

use std::borrow::Cow;
use std::collections::VecDeque;

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use crate::limits;
use crate::name;
use crate::time::{WallTime, duration_from_xml};

pub use delay::delayed;
pub use timeline::shortened;
pub use title::{map_of_playlist, title_of_init_segment, title_of_manifest};

limits! {
    /// One manifest that is read.
    pub const MAX_MANIFEST_BYTES: usize = 4 << 20, "bytes" {
        why: "A timeline of a day of two-second segments takes less.",
        full: "The manifest is stored without facts.",
        free: "Holds for one document.",
        test: "steering_manifests_are_live_and_other_texts_are_no_manifests",
    }
}

limits! {
    /// Segments visited in one manifest.
    const MAX_SEGMENTS: usize = 1 << 17, "segments" {
        why: "A day of two-second segments of one representation, or two hours of twenty.",
        full: "Further segments are not listed.",
        free: "Holds for one document.",
        test: "hostile_manifests_end",
    }
}

limits! {
    /// Nesting of elements in an MPD.
    const MAX_DEPTH: usize = 32, "levels" {
        why: "The schema needs eight.",
        full: "The manifest is stored without facts.",
        free: "Holds for one document.",
        test: "hostile_manifests_end",
    }
}

limits! {
    /// Entries of one SegmentTimeline or SegmentList.
    const MAX_TIMELINE: usize = 1 << 16, "entries" {
        why: "A day of two-second segments has 43,200.",
        full: "Further entries are ignored.",
        free: "Holds for one document.",
        test: "hostile_manifests_end",
    }
}

/// Default target duration of a live manifest, in milliseconds: the shortest in common use.
const DEFAULT_TARGET_MS: u64 = 2000;
/// Maximum target duration, in milliseconds: larger ones are capped, so that a wrong value cannot make a live manifest
/// fresh for long.
const MAX_TARGET_MS: u64 = 60_000;

/// Kinds of manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestKind {
    /// An HLS media playlist.
    HlsMedia,
    /// An HLS multivariant playlist.
    HlsMultivariant,
    /// A DASH MPD.
    Dash,
    /// A content steering manifest.
    Steering,
}

/// Facts that a manifest states about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its kind.
    pub kind: ManifestKind,
    /// It is updated during playback.
    pub is_live: bool,
    /// Duration of its segments, in milliseconds; of a steering manifest its `TTL`. Never 0.
    pub target_ms: u64,
    /// Duration of its partial segments (LL-HLS), in milliseconds.
    pub part_target_ms: Option<u64>,
    /// `MPD@minimumUpdatePeriod`, in milliseconds.
    pub update_period_ms: Option<u64>,
    /// Media sequence number of the first segment of an HLS media playlist.
    pub first_sequence: Option<u64>,
    /// Media sequence number of the last complete segment of an HLS media playlist.
    pub last_sequence: Option<u64>,
    /// Number of the last partial segment after it, from 0.
    pub last_part: Option<u64>,
    /// Number of listed partial segments of the last complete segment.
    pub parts_of_last: u64,
    /// Duration of the last complete segment of an HLS media playlist, in milliseconds.
    pub last_ms: Option<u64>,
    /// `MPD@publishTime`, in milliseconds since 1970.
    pub publish_time_ms: Option<i64>,
    /// `MPD@availabilityStartTime`, in milliseconds since 1970: it is constant during a run of the packager (ISO/IEC 23009-1
    /// clause 5.3.1.2).
    pub start_ms: Option<i64>,
    /// End date of the last listed segment of a live manifest, in milliseconds since 1970: by `EXT-X-PROGRAM-DATE-TIME`,
    /// or by `MPD@availabilityStartTime` and a `SegmentTimeline`.
    pub end_ms: Option<i64>,
}

/// Order of two versions of a live manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionOrder {
    /// It extends further.
    Newer,
    /// It extends as far.
    Same,
    /// It ends earlier, but overlaps with the other or nearly does: it is late.
    Older,
    /// It ends long before the other begins: the packager has restarted, or it is very late.
    MuchOlder,
    /// They cannot be compared.
    Unknown,
}

/// Bytes at the beginning and at the end of a long manifest that are read.
const SKIMMED_BYTES: usize = 64 << 10;
/// Difference of publish times, in target durations, from which an MPD counts as much older.
const FAR_BACK_TARGETS: i64 = 10;

impl Manifest {
    /// Parses the facts of a manifest. `None`: it is not a manifest, or longer than [`MAX_MANIFEST_BYTES`].
    pub fn read(bytes: &[u8]) -> Option<Self> {
        match kind_of(bytes)? {
            Format::Hls(text) => Some(hls(&text)),
            // The facts need no segment: their names cost more than all else, and a number of 64 bits says how many there are.
            Format::Dash(text) => dash(&text, "", false, &mut |_| false),
            Format::Steering(text) => steering(&text),
        }
    }

    /// Facts of a manifest that is longer than [`MAX_MANIFEST_BYTES`], by its beginning and end: whether it is live, and its times.
    /// Sequence numbers are unknown.
    pub fn skim(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
        let start = &bytes[..bytes.len().min(SKIMMED_BYTES)];
        let outline = if bytes.starts_with(b"#EXTM3U") {
            let whole_lines = start.iter().rposition(|&byte| byte == b'\n')?;
            let end = &bytes[bytes.len().saturating_sub(SKIMMED_BYTES).max(whole_lines)..];
            let first_line = end.iter().position(|&byte| byte == b'\n')?;
            [&start[..whole_lines], &end[first_line..]].concat()
        } else {
            let root = root_element(start)?;
            let tag = &root[..tag_length(root)?];
            let tag = tag.strip_suffix(b">")?;
            [tag.strip_suffix(b"/").unwrap_or(tag), b"/>"].concat()
        };
        let manifest = Self::read(&outline)?;
        let Self { kind, is_live, target_ms, part_target_ms, update_period_ms, .. } = manifest;
        Some(Self { kind, is_live, part_target_ms, update_period_ms, ..plain(target_ms) })
    }

    /// Order of this version and `other`, by media sequence numbers and parts (HLS second edition, sections 4.4.3.2 and
    /// 6.2.2: they never decrease) or by `MPD@publishTime` (ISO/IEC 23009-1 clause 5.3.1.2).
    pub fn compare_version(&self, other: &Self) -> VersionOrder {
        let by = |order: std::cmp::Ordering, is_far_back: bool| match order {
            std::cmp::Ordering::Greater => VersionOrder::Newer,
            std::cmp::Ordering::Equal => VersionOrder::Same,
            std::cmp::Ordering::Less if is_far_back => VersionOrder::MuchOlder,
            std::cmp::Ordering::Less => VersionOrder::Older,
        };
        match (self.kind, other.kind) {
            (ManifestKind::HlsMedia, ManifestKind::HlsMedia) => {
                let (Some(own), Some(others)) = (self.reach(), other.reach()) else {
                    return VersionOrder::Unknown;
                };
                let first = other.first_sequence.unwrap_or(0);
                let window = others.0.saturating_sub(first);
                by(own.cmp(&others), own.0.saturating_add(window) <= first)
            }
            (ManifestKind::Dash, ManifestKind::Dash) => {
                let (Some(own), Some(others)) = (self.publish_time_ms, other.publish_time_ms) else {
                    return VersionOrder::Unknown;
                };
                let target_ms = i64::try_from(self.target_ms).unwrap_or(i64::MAX);
                by(own.cmp(&others), others.saturating_sub(own) >= target_ms.saturating_mul(FAR_BACK_TARGETS))
            }
            _ => VersionOrder::Unknown,
        }
    }

    /// Media sequence number of the first incomplete segment of an HLS media playlist, and the number of its available parts.
    fn reach(&self) -> Option<(u64, u64)> {
        let next = self.last_sequence.map(|last| last.saturating_add(1)).or(self.first_sequence)?;
        Some((next, self.last_part.map_or(0, |last| last.saturating_add(1))))
    }

    /// Freshness of a live manifest in milliseconds: half of its update interval. `None`: it is not live.
    pub fn fresh_ms(&self) -> Option<u64> {
        let changes_after_ms = match (self.kind, self.update_period_ms) {
            (ManifestKind::Dash, Some(period_ms @ 1..)) => period_ms.min(MAX_TARGET_MS),
            _ => self.part_target_ms.unwrap_or(self.target_ms),
        };
        self.is_live.then_some(changes_after_ms / 2)
    }
}

/// A segment listed in a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Absolute URL.
    pub url: &'a str,
    /// The list that it belongs to; segments of one list follow each other.
    pub list: usize,
    /// It is a byte range of its resource.
    pub is_range: bool,
    /// Index of its `SegmentTimeline` in the text, from 0.
    pub timeline: Option<usize>,
}

/// A segment that an HLS media playlist lists, and its place there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedSegment {
    /// Absolute URL.
    pub url: String,
    /// Its media sequence number.
    pub sequence: u64,
    /// Absolute URL of the `EXT-X-MAP` that begins with it, behind an `EXT-X-DISCONTINUITY`, if that is an object of its own.
    pub begins: Option<String>,
}

/// The last segments of one list of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastSegments {
    /// See [`Segment::list`].
    pub list: usize,
    /// See [`Segment::timeline`]; that of the first segment.
    pub timeline: Option<usize>,
    /// Their absolute URLs, in order.
    pub urls: VecDeque<String>,
}

/// The last segments, at most `most`, of each list of a manifest at `url`. Only segments for which `counts` is true are
/// considered.
pub fn last_segments(
    bytes: &[u8],
    url: &str,
    most: usize,
    counts: impl Fn(&Segment<'_>) -> bool,
) -> Vec<LastSegments> {
    let mut lists: Vec<LastSegments> = Vec::new();
    segments(bytes, url, &mut |segment| {
        if counts(&segment) {
            if lists.last().is_none_or(|it| it.list != segment.list) {
                let (list, timeline) = (segment.list, segment.timeline);
                lists.push(LastSegments { list, timeline, urls: VecDeque::new() });
            }
            if let Some(LastSegments { urls, .. }) = lists.last_mut() {
                if urls.len() == most {
                    urls.pop_front();
                }
                urls.push_back(segment.url.to_owned());
            }
        }
        true
    });
    lists
}

/// Visits the segments that a manifest at `url` lists, in order, until `visit` returns false. Segments of a live MPD without
/// a timeline are not visited: their availability depends on the time.
pub fn segments(bytes: &[u8], url: &str, visit: &mut dyn FnMut(Segment<'_>) -> bool) {
    walk(bytes, url, false, visit);
}

/// The segments that an HLS media playlist at `url` lists, in order, but for ranges. Empty: it is not a media playlist.
pub fn placed_segments(bytes: &[u8], url: &str) -> Vec<PlacedSegment> {
    let Some(Format::Hls(text)) = kind_of(bytes) else { return Vec::new() };
    let mut placed = Vec::new();
    let (mut sequence, mut is_range, mut is_discontinuous, mut map_url) = (0_u64, false, false, None);
    for line in text.lines().map(str::trim) {
        if let Some(first) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
            sequence = first.trim().parse().unwrap_or(0);
        } else if let Some(skip) = line.strip_prefix("#EXT-X-SKIP:") {
            let skipped = attribute(skip, "SKIPPED-SEGMENTS").and_then(|it| it.parse().ok());
            sequence = sequence.saturating_add(skipped.unwrap_or(0));
        } else if line.starts_with("#EXT-X-BYTERANGE:") {
            is_range = true;
        } else if line == "#EXT-X-DISCONTINUITY" {
            is_discontinuous = true;
        } else if let Some(map) = line.strip_prefix("#EXT-X-MAP:") {
            let is_own = attribute(map, "BYTERANGE").is_none();
            map_url = attribute(map, "URI").filter(|_| is_own).map(|uri| resolve(url, uri));
        } else if line.starts_with("#EXT-X-STREAM-INF") || placed.len() == MAX_SEGMENTS {
            return placed;
        } else if !line.is_empty() && !line.starts_with('#') {
            if !is_range {
                let begins = if is_discontinuous { map_url.clone() } else { None };
                placed.push(PlacedSegment { url: resolve(url, line), sequence, begins });
            }
            sequence = sequence.saturating_add(1);
            (is_range, is_discontinuous) = (false, false);
        }
    }
    placed
}

/// As [`segments`]; for a live MPD without a timeline also an example name for each template, with the first number,
/// whether that segment exists or not.
pub fn names(bytes: &[u8], url: &str, visit: &mut dyn FnMut(Segment<'_>) -> bool) {
    walk(bytes, url, true, visit);
}

fn walk(bytes: &[u8], url: &str, examples: bool, visit: &mut dyn FnMut(Segment<'_>) -> bool) {
    let mut left = MAX_SEGMENTS;
    let mut visit = |segment: Segment<'_>| {
        left -= 1;
        visit(segment) && left > 0
    };
    match kind_of(bytes) {
        Some(Format::Hls(text)) => hls_segments(&text, url, &mut visit),
        Some(Format::Dash(text)) => {
            dash(&text, url, examples, &mut visit);
        }
        Some(Format::Steering(_)) | None => {}
    }
}

/// Resolves a reference; an invalid one is returned unchanged, and never matches a key.
fn resolve(base: &str, reference: &str) -> String {
    name::resolve(base, reference).unwrap_or_else(|_| reference.to_owned())
}

enum Format<'a> {
    Hls(Cow<'a, str>),
    Dash(Cow<'a, str>),
    Steering(Cow<'a, str>),
}

fn kind_of(bytes: &[u8]) -> Option<Format<'_>> {
    if bytes.len() > MAX_MANIFEST_BYTES {
        return None;
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    if !bytes.starts_with(b"#EXTM3U") && !bytes.starts_with(b"<") && !bytes.starts_with(b"{") {
        return None;
    }
    // Titles of radio programmes occur in Latin-1, and XML may be encoded so. The facts are ASCII in any case.
    let text = String::from_utf8_lossy(bytes);
    if text.starts_with('#') {
        return Some(Format::Hls(text));
    }
    if text.starts_with('{') {
        let is_steering = text.contains("\"TTL\"")
            && ["PATHWAY-PRIORITY", "SERVICE-LOCATION-PRIORITY", "RELOAD-URI"]
                .iter()
                .any(|it| text.contains(it));
        return is_steering.then_some(Format::Steering(text));
    }
    let is_mpd = local_root(text.as_bytes()) == Some(b"MPD");
    is_mpd.then_some(Format::Dash(text))
}

/// The local name of the root element of an XML document, given at least its beginning. Skips declaration, comments, processing
/// instructions and a document type with an internal subset. `None`: not found, or not received yet.
pub fn local_root(document: &[u8]) -> Option<&[u8]> {
    let name = root_element(document)?.strip_prefix(b"<")?;
    let end = name.iter().position(|&byte| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/'))?;
    name[..end].rsplit(|&byte| byte == b':').next()
}

/// The document from its root element on.
fn root_element(document: &[u8]) -> Option<&[u8]> {
    let mut text = document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document);
    loop {
        text = text.trim_ascii_start();
        let skip_to = |end: &[u8]| text.windows(end.len()).position(|it| it == end).map(|at| at + end.len());
        let skip = if text.starts_with(b"<?") {
            skip_to(b"?>")?
        } else if text.starts_with(b"<!--") {
            skip_to(b"-->")?
        } else if text.starts_with(b"<!") {
            document_type(text)?
        } else {
            break;
        };
        text = &text[skip..];
    }
    text.starts_with(b"<").then_some(text)
}

/// The length of a tag: `>` may occur in its quoted values.
fn tag_length(tag: &[u8]) -> Option<usize> {
    let mut quote = None;
    let end = tag.iter().position(|&byte| {
        match quote {
            Some(open) if open == byte => quote = None,
            Some(_) => {}
            None if matches!(byte, b'"' | b'\'') => quote = Some(byte),
            None => return byte == b'>',
        }
        false
    });
    end.map(|at| at + 1)
}

/// The length of a document type declaration (XML 1.0 section 2.8): its internal subset and strings may have a `>`.
fn document_type(text: &[u8]) -> Option<usize> {
    let (mut quote, mut is_inside) = (None, false);
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        let behind = |end: &[u8]| rest.windows(end.len()).position(|it| it == end).map(|it| it + end.len());
        match (quote, byte) {
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) => {}
            // Quotes in comments and instructions do not count.
            (None, b'<') if is_inside && rest.starts_with(b"<!--") => {
                at += behind(b"-->")?;
                continue;
            }
            (None, b'<') if is_inside && rest.starts_with(b"<?") => {
                at += behind(b"?>")?;
                continue;
            }
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'[') => is_inside = true,
            (None, b']') => is_inside = false,
            (None, b'>') if !is_inside => return Some(at + 1),
            (None, _) => {}
        }
        at += 1;
    }
    None
}

fn steering(text: &str) -> Option<Manifest> {
    let value = text.split_once("\"TTL\"")?.1.trim_start().strip_prefix(':')?.trim_start();
    let digits = value.find(|c: char| !c.is_ascii_digit()).map_or(value, |end| &value[..end]);
    let ttl_s: u64 = digits.parse().unwrap_or(0);
    let target_ms = ttl_s.saturating_mul(1000).clamp(1, 3_600_000);
    Some(Manifest { kind: ManifestKind::Steering, is_live: true, ..plain(target_ms) })
}

const fn plain(target_ms: u64) -> Manifest {
    Manifest {
        kind: ManifestKind::HlsMedia,
        is_live: false,
        target_ms,
        part_target_ms: None,
        update_period_ms: None,
        first_sequence: None,
        last_sequence: None,
        last_part: None,
        parts_of_last: 0,
        last_ms: None,
        publish_time_ms: None,
        start_ms: None,
        end_ms: None,
    }
}

/// The value of an attribute of an HLS tag (RFC 8216 section 4.2), without quotes.
pub fn attribute<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = list;
    while let Some((key, value)) = rest.split_once('=') {
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => value.split_at(value.find(',').unwrap_or(value.len())),
        };
        if key.trim_start_matches([',', ' ']).trim_end() == name {
            return Some(value.trim());
        }
        rest = after;
    }
    None
}

fn milliseconds(seconds: &str) -> Option<u64> {
    let seconds: f64 = seconds.trim().parse().ok()?;
    (seconds.is_finite() && seconds > 0.0).then(|| (seconds * 1000.0).round().clamp(1.0, 1e12) as u64)
}

fn hls(text: &str) -> Manifest {
    let (mut target_ms, mut longest_ms, mut last_ms, mut part_target_ms) = (None, None, None, None);
    let (mut sequence, mut segments, mut parts, mut parts_of_last) = (0_u64, 0_u64, 0_u64, 0_u64);
    let (mut is_multivariant, mut is_ended) = (false, false);
    let mut end_ms: Option<i64> = None;
    for line in text.lines().map(str::trim) {
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        match tag {
            "#EXT-X-TARGETDURATION" => target_ms = milliseconds(value),
            "#EXTINF" => {
                last_ms = milliseconds(value.split(',').next().unwrap_or(""));
                longest_ms = longest_ms.max(last_ms);
            }
            "#EXT-X-PART-INF" => part_target_ms = attribute(value, "PART-TARGET").and_then(milliseconds),
            "#EXT-X-MEDIA-SEQUENCE" => sequence = value.trim().parse().unwrap_or(0),
            "#EXT-X-SKIP" => {
                let skipped = attribute(value, "SKIPPED-SEGMENTS").and_then(|it| it.parse::<u64>().ok());
                segments = segments.saturating_add(skipped.unwrap_or(0));
            }
            "#EXT-X-PROGRAM-DATE-TIME" => end_ms = date_ms(value),
            "#EXT-X-PART" => parts += 1,
            "#EXT-X-ENDLIST" => is_ended = true,
            "#EXT-X-PLAYLIST-TYPE" => is_ended |= value.trim().eq_ignore_ascii_case("VOD"),
            "#EXT-X-STREAM-INF" | "#EXT-X-I-FRAME-STREAM-INF" | "#EXT-X-MEDIA" => is_multivariant = true,
            _ if !line.is_empty() && !line.starts_with('#') => {
                segments = segments.saturating_add(1);
                (parts_of_last, parts) = (parts, 0);
                end_ms = end_ms.map(|it| it.saturating_add_unsigned(last_ms.unwrap_or(0)));
            }
            _ => {}
        }
    }
    if is_multivariant {
        return Manifest { kind: ManifestKind::HlsMultivariant, ..plain(DEFAULT_TARGET_MS) };
    }
    Manifest {
        // An end without a segment is what proxies send of a live channel that they cannot reach.
        is_live: !is_ended || segments == 0,
        part_target_ms: part_target_ms.map(|it| it.min(MAX_TARGET_MS)),
        first_sequence: Some(sequence),
        last_sequence: segments.checked_sub(1).map(|last| sequence.saturating_add(last)),
        last_part: u64::checked_sub(parts, 1),
        parts_of_last,
        last_ms,
        end_ms: end_ms.filter(|_| !is_ended),
        ..plain(target_ms.or(longest_ms).unwrap_or(DEFAULT_TARGET_MS).min(MAX_TARGET_MS))
    }
}

/// Parses a date of a manifest, also with a time zone without a colon (FFmpeg).
fn date_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    let zone_at = text.len().checked_sub(5)?;
    let zone = text.get(zone_at..).filter(|it| it.is_ascii() && it.starts_with(['+', '-']));
    let with_colon = zone.map(|zone| format!("{}{}:{}", &text[..zone_at], &zone[..3], &zone[3..]));
    WallTime::from_xml(with_colon.as_deref().unwrap_or(text)).map(WallTime::unix_ms)
}

/// Visits the partial segments and hints of partial segments (HLS second edition, sections 4.4.4.9 and 4.4.5.3) that a playlist at
/// `url` lists, in order, until `visit` returns false.
pub fn parts(bytes: &[u8], url: &str, visit: &mut dyn FnMut(Segment<'_>) -> bool) {
    let Some(Format::Hls(text)) = kind_of(bytes) else { return };
    for line in text.lines().map(str::trim) {
        let (tag, list) = line.split_once(':').unwrap_or((line, ""));
        let is_part = tag == "#EXT-X-PART"
            || (tag == "#EXT-X-PRELOAD-HINT" && attribute(list, "TYPE").is_none_or(|it| it == "PART"));
        if let Some(uri) = attribute(list, "URI").filter(|_| is_part) {
            let is_range = ["BYTERANGE", "BYTERANGE-START"].iter().any(|it| attribute(list, it).is_some());
            if !visit(Segment { url: &resolve(url, uri), list: 0, is_range, timeline: None }) {
                return;
            }
        }
    }
}

fn hls_segments(text: &str, base: &str, visit: &mut dyn FnMut(Segment<'_>) -> bool) {
    let (mut is_range, mut is_variant) = (false, false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("#EXT-X-STREAM-INF") {
            is_variant = true;
        } else if line.starts_with("#EXT-X-BYTERANGE:") {
            is_range = true;
        } else if !line.is_empty() && !line.starts_with('#') {
            let goes_on =
                is_variant || visit(Segment { url: &resolve(base, line), list: 0, is_range, timeline: None });
            (is_range, is_variant) = (false, false);
            if !goes_on {
                return;
            }
        }
    }
}

/// `SegmentTemplate` with inherited attributes.
#[derive(Debug, Clone, Default)]
struct Template {
    media: Option<String>,
    timescale: u64,
    duration: u64,
    start_number: u64,
    end_number: Option<u64>,
    /// Timeline position of the start of the period, in units of the timescale.
    time_offset: u64,
    /// Start, duration and repetitions; −1: until the next one or the end of the period.
    timeline: Vec<(Option<u64>, u64, i64)>,
    has_timeline: bool,
    /// Index of its timeline in the text, from 0.
    timeline_number: usize,
}

impl Template {
    /// End of the last segment of the timeline, in milliseconds of its period; `None`: there is no timeline, or its end is open.
    fn end_ms(&self) -> Option<u64> {
        if self.timeline.len() >= MAX_TIMELINE {
            return None;
        }
        let mut time = 0_u64;
        for (start, length, repeat) in &self.timeline {
            let segments = u64::try_from(*repeat).ok()?.saturating_add(1);
            time = start.unwrap_or(time).saturating_add(length.saturating_mul(segments));
        }
        let ms = u128::from(time.saturating_sub(self.time_offset)) * 1000 / u128::from(self.timescale.max(1));
        (self.has_timeline && time > 0).then(|| u64::try_from(ms).unwrap_or(u64::MAX))
    }
}

/// Values of an open element of an MPD that its children inherit.
#[derive(Debug, Clone, Default)]
struct Level {
    base: String,
    has_base: bool,
    template: Option<Template>,
    id: String,
    bandwidth: String,
    /// `SegmentURL`s of a `SegmentList`, and whether they are ranges.
    listed: Vec<(String, bool)>,
}

/// Parses an MPD in one pass; segments are visited at the end of each Representation. `examples`: also visit an example name of
/// templates without a timeline.
fn dash(
    text: &str,
    url: &str,
    examples: bool,
    visit: &mut dyn FnMut(Segment<'_>) -> bool,
) -> Option<Manifest> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = false;
    let mut mpd = Mpd {
        manifest: Manifest { kind: ManifestKind::Dash, ..plain(DEFAULT_TARGET_MS) },
        has_root: false,
        timelines: 0,
        longest_ms: None,
        total_ms: None,
        period_ms: None,
        has_period: false,
        period_start_ms: None,
        levels: vec![Level { base: url.to_owned(), ..Level::default() }],
        base: None,
        examples,
        list: 0,
        goes_on: true,
        visit,
    };
    let mut stack: Vec<Vec<u8>> = Vec::new();
    loop {
        let event = reader.read_event().ok()?;
        let (element, is_empty) = match &event {
            Event::Eof => return mpd.finish(),
            Event::Start(element) => (element, false),
            Event::Empty(element) => (element, true),
            Event::Text(part) => {
                mpd.text(part);
                continue;
            }
            Event::CData(part) => {
                mpd.text(part);
                continue;
            }
            Event::GeneralRef(entity) => {
                match entity.resolve_char_ref() {
                    Ok(Some(character)) => mpd.text(character.encode_utf8(&mut [0; 4])),
                    _ => mpd.text(resolve_predefined_entity(entity).unwrap_or_default()),
                }
                continue;
            }
            Event::End(_) => {
                if let Some(name) = stack.pop() {
                    mpd.end(&name)?;
                }
                continue;
            }
            _ => continue,
        };
        let name = element.local_name().as_ref().as_bytes().to_vec();
        mpd.attributes(&name, element, is_empty)?;
        if is_level(&name) {
            mpd.begin_level(&name, element, is_empty)?;
        }
        if !is_empty {
            if stack.len() >= MAX_DEPTH {
                return None;
            }
            stack.push(name);
        }
    }
}

/// State of parsing an MPD.
struct Mpd<'a> {
    manifest: Manifest,
    has_root: bool,
    /// Number of timelines so far.
    timelines: usize,
    /// Duration of the longest segment.
    longest_ms: Option<u64>,
    /// `mediaPresentationDuration`.
    total_ms: Option<u64>,
    /// Duration of the last Period.
    period_ms: Option<u64>,
    has_period: bool,
    /// Start date of the last Period.
    period_start_ms: Option<i64>,
    /// Open elements with inheritable values, outermost first.
    levels: Vec<Level>,
    /// Text of an open BaseURL.
    base: Option<String>,
    examples: bool,
    /// Number of completed Representations.
    list: usize,
    /// False: `visit` has stopped.
    goes_on: bool,
    visit: &'a mut dyn FnMut(Segment<'_>) -> bool,
}

impl Mpd<'_> {
    fn text(&mut self, part: &str) {
        if let Some(base) = &mut self.base {
            base.push_str(part);
        }
    }

    /// Processes the attributes of an element. `None`: this cannot be an MPD.
    fn attributes(&mut self, name: &[u8], element: &BytesStart<'_>, is_empty: bool) -> Option<()> {
        let get = |name: &str| value(element, name);
        let number = |name: &str| get(name).and_then(|it| it.trim().parse::<u64>().ok());
        let duration = |name: &str| duration_ms(element, name);
        match name {
            b"MPD" if !self.has_root => {
                self.has_root = true;
                self.manifest.is_live = get("type").as_deref() == Some("dynamic");
                self.manifest.update_period_ms = duration("minimumUpdatePeriod");
                self.manifest.publish_time_ms =
                    get("publishTime").and_then(|it| WallTime::from_xml(&it)).map(WallTime::unix_ms);
                self.manifest.start_ms = get("availabilityStartTime").and_then(|it| date_ms(&it));
                self.total_ms = duration("mediaPresentationDuration");
                self.longest_ms = duration("maxSegmentDuration");
            }
            b"Period" => {
                self.period_ms = duration("duration");
                // Only for the first Period is the default start 0.
                let is_first = !std::mem::replace(&mut self.has_period, true);
                let begin_ms = duration("start").or_else(|| is_first.then_some(0));
                self.period_start_ms = self
                    .manifest
                    .start_ms
                    .zip(begin_ms)
                    .map(|(start, begin)| start.saturating_add_unsigned(begin));
            }
            b"SegmentTemplate" => {
                let level = self.levels.last_mut()?;
                let template = level.template.get_or_insert_with(|| Template {
                    timescale: 1,
                    start_number: 1,
                    ..Template::default()
                });
                template.media = get("media").or_else(|| template.media.take());
                template.timescale = number("timescale").unwrap_or(template.timescale).max(1);
                template.duration = number("duration").unwrap_or(template.duration);
                template.start_number = number("startNumber").unwrap_or(template.start_number);
                template.end_number = number("endNumber").or(template.end_number);
                template.time_offset = number("presentationTimeOffset").unwrap_or(template.time_offset);
                if template.duration > 0 {
                    let ms = template.duration.saturating_mul(1000) / template.timescale;
                    self.longest_ms = self.longest_ms.max(Some(ms));
                }
            }
            b"SegmentTimeline" => {
                let number = self.timelines;
                self.timelines += 1;
                if let Some(template) = self.levels.last_mut()?.template.as_mut() {
                    template.has_timeline = true;
                    template.timeline_number = number;
                    template.timeline.clear();
                }
            }
            b"S" => {
                if let Some(template) = self.levels.last_mut()?.template.as_mut() {
                    let length = number("d").unwrap_or(0);
                    let repeat = get("r").and_then(|it| it.trim().parse::<i64>().ok()).unwrap_or(0);
                    let ms = length.saturating_mul(1000) / template.timescale;
                    self.longest_ms = self.longest_ms.max(Some(ms));
                    if template.timeline.len() < MAX_TIMELINE {
                        template.timeline.push((number("t"), length, repeat));
                    }
                }
            }
            b"SegmentURL" => {
                let level = self.levels.last_mut()?;
                if level.listed.len() < MAX_TIMELINE
                    && let Some(media) = get("media")
                {
                    level.listed.push((media, get("mediaRange").is_some()));
                }
            }
            b"BaseURL" if !is_empty => self.base = Some(String::new()),
            _ => {}
        }
        Some(())
    }

    /// Begins a level, which inherits from the enclosing one; an empty element ends at once.
    fn begin_level(&mut self, name: &[u8], element: &BytesStart<'_>, is_empty: bool) -> Option<()> {
        let mut level = self.levels.last()?.clone();
        level.has_base = false;
        if name == b"Representation" {
            level.id = value(element, "id").unwrap_or_default();
            level.bandwidth = value(element, "bandwidth").unwrap_or_default();
        }
        if !is_empty {
            self.levels.push(level);
        } else if name == b"Representation" {
            self.end_representation(&level);
        }
        Some(())
    }

    /// Ends an element.
    fn end(&mut self, name: &[u8]) -> Option<()> {
        if let Some(text) = self.base.take() {
            let level = self.levels.last_mut()?;
            // Only the first counts; the others are alternatives.
            if !level.has_base {
                level.base = resolve(&level.base, &text);
                level.has_base = true;
            }
        }
        if is_level(name) && self.levels.len() > 1 {
            let level = self.levels.pop()?;
            if name == b"Representation" {
                self.end_representation(&level);
            }
        }
        Some(())
    }

    fn end_representation(&mut self, level: &Level) {
        let period_ms = self.period_ms.or(self.total_ms);
        if self.manifest.is_live
            && let Some(begin_ms) = self.period_start_ms
            && let Some(end_ms) = level.template.as_ref().and_then(Template::end_ms)
        {
            let end_ms = begin_ms.saturating_add_unsigned(end_ms);
            self.manifest.end_ms = self.manifest.end_ms.max(Some(end_ms));
        }
        self.goes_on = self.goes_on
            && representation(
                level,
                self.manifest.is_live,
                self.examples,
                period_ms,
                self.list,
                &mut *self.visit,
            );
        self.list += 1;
    }

    fn finish(self) -> Option<Manifest> {
        let mut manifest = self.manifest;
        let target_ms = self.longest_ms.filter(|it| *it > 0).unwrap_or(DEFAULT_TARGET_MS).min(MAX_TARGET_MS);
        manifest.target_ms = target_ms;
        // A timeline lists its segments, so it changes with each of them, regardless of the period.
        if self.timelines > 0 && manifest.update_period_ms.is_some_and(|period_ms| period_ms > target_ms) {
            manifest.update_period_ms = Some(target_ms);
        }
        self.has_root.then_some(manifest)
    }
}

fn is_level(name: &[u8]) -> bool {
    matches!(name, b"Period" | b"AdaptationSet" | b"Representation")
}

fn value(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = element.try_get_attribute(name).ok()??;
    Some(attribute.normalized_value(quick_xml::XmlVersion::Implicit1_0).ok()?.into_owned())
}

/// A duration attribute, in milliseconds.
fn duration_ms(element: &BytesStart<'_>, name: &str) -> Option<u64> {
    value(element, name).and_then(|it| duration_from_xml(&it)).map(|it| it.as_millis() as u64)
}

/// Visits the segments of one Representation.
fn representation(
    level: &Level,
    is_live: bool,
    examples: bool,
    period_ms: Option<u64>,
    list: usize,
    visit: &mut dyn FnMut(Segment<'_>) -> bool,
) -> bool {
    for (media, is_range) in &level.listed {
        let url = resolve(&level.base, media);
        if !visit(Segment { url: &url, list, is_range: *is_range, timeline: None }) {
            return false;
        }
    }
    let Some(template) = level.template.as_ref() else { return true };
    let Some(media) = template.media.as_deref() else { return true };
    let mut number = template.start_number;
    let mut go = |number: u64, time: u64| {
        let name = expand(media, &level.id, &level.bandwidth, number, time);
        let timeline = template.has_timeline.then_some(template.timeline_number);
        visit(Segment { url: &resolve(&level.base, &name), list, is_range: false, timeline })
    };
    if template.has_timeline {
        let mut time = 0_u64;
        for (at, (start, length, repeat)) in template.timeline.iter().enumerate() {
            time = start.unwrap_or(time);
            let until = template.timeline.get(at + 1).and_then(|next| next.0);
            let until = until.or_else(|| {
                let period_ms = period_ms.filter(|_| !is_live)?;
                let length = period_ms.saturating_mul(template.timescale) / 1000;
                Some(length.saturating_add(template.time_offset))
            });
            let repeat = match (u64::try_from(*repeat), until) {
                (Ok(repeat), _) => repeat,
                (Err(_), Some(until)) if *length > 0 => {
                    until.saturating_sub(time).div_ceil(*length).max(1) - 1
                }
                (Err(_), _) => 0,
            };
            for _ in 0..=repeat {
                if !go(number, time) {
                    return false;
                }
                number = number.saturating_add(1);
                time = time.saturating_add(*length);
            }
        }
        return true;
    }
    if is_live && examples {
        return go(template.start_number, 0);
    }
    if is_live || template.duration == 0 {
        return true;
    }
    let by_period = period_ms.map(|period_ms| {
        let count =
            period_ms.saturating_mul(template.timescale).div_ceil(template.duration.saturating_mul(1000));
        template.start_number.saturating_add(count.max(1)) - 1
    });
    let Some(last) = template.end_number.or(by_period) else { return true };
    for number in template.start_number..=last {
        if !go(number, (number - template.start_number).saturating_mul(template.duration)) {
            return false;
        }
    }
    true
}

/// A media template with its identifiers replaced (ISO/IEC 23009-1 clause 5.3.9.4.4).
fn expand(media: &str, id: &str, bandwidth: &str, number: u64, time: u64) -> String {
    let mut out = String::with_capacity(media.len() + 16);
    let mut rest = media;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let Some((name, after)) = after.split_once('$') else {
            out.push('$');
            rest = after;
            continue;
        };
        let (name, format) = name.split_once('%').unwrap_or((name, ""));
        let width =
            format.trim_start_matches('0').trim_end_matches('d').parse::<usize>().unwrap_or(1).min(20);
        match name {
            "" => out.push('$'),
            "RepresentationID" => out.push_str(id),
            "Bandwidth" => out.push_str(&format!("{bandwidth:0>width$}")),
            "Number" => out.push_str(&format!("{number:0width$}")),
            "Time" => out.push_str(&format!("{time:0width$}")),
            _ => {}
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
