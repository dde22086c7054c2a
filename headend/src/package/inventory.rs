//! Inventory of a source, as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use carousel::query::IgnoredQuery;

use crate::units::grouped;

/// Objects and presentations of a source.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// The directory that paths are relative to.
    pub root: PathBuf,
    /// One for each multivariant playlist, MPD, and unreferenced media playlist.
    pub presentations: Vec<Presentation>,
    /// Every object to carry, by path.
    pub objects: BTreeMap<String, ObjectSource>,
    /// Problems.
    pub problems: Vec<Problem>,
    /// Referenced files that are not carried; players get them from the origin.
    pub left_out: Vec<LeftOut>,
    /// A manifest is held until it is consistent: read again soon.
    pub is_unsettled: bool,
    /// Number of unreferenced files that are not carried.
    pub unreferenced: usize,
    /// Query parameters that do not distinguish its objects.
    pub ignored_query: IgnoredQuery,
}

/// The kind of manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// RFC 8216.
    Hls,
    /// ISO/IEC 23009-1.
    Dash,
}

impl Kind {
    /// Name in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hls => "HLS",
            Self::Dash => "DASH",
        }
    }
}

/// Kind of media in a rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TrackKind {
    /// Video, also multiplexed with audio.
    Video,
    /// Audio only.
    Audio,
    /// Subtitles and captions.
    Subtitles,
    /// I-frames for trick play.
    IFrames,
    /// Anything else.
    Other,
}

impl TrackKind {
    /// Name in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Subtitles => "subtitles",
            Self::IFrames => "i-frames",
            Self::Other => "other",
        }
    }
}

/// A manifest with its rungs.
#[derive(Debug, Clone)]
pub struct Presentation {
    /// HLS or DASH.
    pub kind: Kind,
    /// Path of the manifest.
    pub manifest: String,
    /// Whether more segments are to come.
    pub live: bool,
    /// Duration, if the manifest gives it.
    pub duration_s: Option<f64>,
    /// Its rungs in the order of the manifest.
    pub rungs: Vec<Rung>,
}

/// One quality of one track.
#[derive(Debug, Clone)]
pub struct Rung {
    /// Representation id, or the path of the media playlist.
    pub id: String,
    /// Kind of its media.
    pub kind: TrackKind,
    /// `@bandwidth` or BANDWIDTH; 0 if not given.
    pub bandwidth_bps: u64,
    /// RFC 6381 codecs.
    pub codecs: String,
    /// Picture size.
    pub resolution: Option<(u32, u32)>,
    /// RFC 5646 tag.
    pub language: String,
    /// HLS: path of the media playlist.
    pub playlist: Option<String>,
    /// DASH: Period id, AdaptationSet id (or index), Representation id.
    pub dash_ids: Option<[String; 3]>,
    /// Init segments.
    pub inits: Vec<String>,
    /// Paths of media segments and of other objects for this rung only, without duplicates.
    pub segments: Vec<String>,
    /// Duration of the listed segments.
    pub duration_s: f64,
}

/// Role of an object in a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Playlist or MPD.
    Manifest,
    /// Initialization segment.
    Init,
    /// Media.
    Segment,
    /// Decryption key, opaque.
    Key,
    /// Anything else.
    Other,
}

impl Role {
    /// Name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Init => "init",
            Self::Segment => "segment",
            Self::Key => "key",
            Self::Other => "other",
        }
    }
}

/// A file to carry, or a byte range of a growing one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectSource {
    /// Its URI below the source's base, normalised.
    pub path: String,
    /// The file.
    pub file: PathBuf,
    /// Bytes.
    pub length: u64,
    /// Byte range of a growing file. `path` is then the name of the range (`carousel::query`).
    pub range: Option<Range<u64>>,
    /// Modification time, nanoseconds since 1970; for a range, the number of restarts of its file.
    pub modified_ns: i128,
    /// MIME type.
    pub content_type: &'static str,
    /// Role of the object.
    pub role: Role,
    /// Content of a manifest as parsed, so that the sent manifest matches its segments.
    pub bytes: Option<Arc<[u8]>>,
}

carousel::reasons! {
    /// Why something that a manifest refers to is not carried.
    pub enum LeftOutReason {
        /// The file is not there.
        Missing = "missing",
        /// It is on another host, or in another folder than the source's.
        Elsewhere = "elsewhere",
        /// It is still being written.
        BeingWritten = "being_written",
        /// It has no bytes.
        Empty = "empty",
        /// It ends in the middle of a box, packet or document.
        Cut = "cut",
        /// It is another kind of file, such as an error page.
        NotMedia = "not_media",
        /// Its container is not the one that the manifest has.
        WrongContainer = "wrong_container",
        /// It does not decode from its start.
        NoRandomAccess = "no_random_access",
        /// A manifest, Period or Representation that is not understood.
        NotUnderstood = "not_understood",
        /// A segment of an earlier run, or outside the live window.
        OldSegment = "old_segment",
        /// One file with several values of a query parameter, which selects something that a file cannot be.
        QuerySelects = "query_selects",
        /// The name is not a URI.
        BadName = "bad_name",
        /// It is longer than receivers take.
        TooLong = "too_long",
        /// The file cannot be read.
        Unreadable = "unreadable",
    }
}

impl LeftOutReason {
    /// Whether players will miss it: listed in a manifest, and not available elsewhere.
    pub const fn is_fault(self) -> bool {
        !matches!(self, Self::Elsewhere | Self::OldSegment | Self::BeingWritten | Self::QuerySelects)
    }

    /// The text after a count.
    pub fn counted(self, count: usize) -> String {
        let is_thing = matches!(self, Self::OldSegment | Self::BadName);
        let plural = if is_thing && count != 1 { "s" } else { "" };
        format!("{}{plural}", self.as_str().replace('_', " "))
    }
}

/// A referenced file that is not carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Reason.
    pub reason: LeftOutReason,
    /// The manifest, and line or Representation.
    pub place: String,
    /// The file, Representation or Period; the first of several.
    pub name: String,
    /// Number of files.
    pub count: usize,
}

/// A problem of the package, with its fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, and line or element; empty if the description contains it.
    pub place: String,
    /// Description of the problem.
    pub what: String,
    /// Fix.
    pub fix: &'static str,
}

impl Problem {
    /// The problem with its place, without the fix.
    pub fn located(&self) -> String {
        match self.place.as_str() {
            "" => self.what.clone(),
            place => format!("{place}: {}", self.what),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.located(), self.fix)
    }
}

impl Rung {
    /// Mean duration of the listed segments, in milliseconds.
    pub fn segment_ms(&self) -> f64 {
        self.duration_s * 1000.0 / self.segments.len().max(1) as f64
    }
}

impl Inventory {
    /// Whether anything is live.
    pub fn is_live(&self) -> bool {
        self.presentations.iter().any(|it| it.live)
    }

    /// Rungs of live presentations.
    pub fn live_rungs(&self) -> impl Iterator<Item = &Rung> {
        self.presentations.iter().filter(|it| it.live).flat_map(|it| &it.rungs)
    }

    /// Number of files left out by reason; reasons that do not occur are not listed.
    pub fn left_out_by_reason(&self) -> BTreeMap<LeftOutReason, usize> {
        let mut counts = BTreeMap::new();
        for left_out in &self.left_out {
            *counts.entry(left_out.reason).or_default() += left_out.count;
        }
        counts
    }

    /// These counts in words: `3 missing, 1 cut`.
    pub fn left_out_text(counts: &BTreeMap<LeftOutReason, usize>) -> String {
        let each =
            counts.iter().map(|(reason, count)| format!("{} {}", grouped(*count), reason.counted(*count)));
        each.collect::<Vec<_>>().join(", ")
    }

    /// Why only manifests can be carried, and the fix; `None` if there are other files.
    pub fn without_media(&self) -> Option<(String, &'static str)> {
        if self.objects.is_empty() || self.objects.values().any(|object| object.role != Role::Manifest) {
            return None;
        }
        let counts = self.left_out_by_reason();
        let (reason, _) = counts.iter().max_by_key(|(_, count)| **count)?;
        let fix = match reason {
            LeftOutReason::Elsewhere => {
                "give the URL by which its manifests name the folder as base, or name the files in the folder"
            }
            LeftOutReason::BeingWritten | LeftOutReason::OldSegment => {
                "start its packager, or package it again"
            }
            LeftOutReason::Missing => "copy the files that its manifests name into the folder",
            _ => "correct what its problems say; `headend scan` lists them",
        };
        let counts = Self::left_out_text(&counts);
        Some((format!("nothing but its manifests can be carried: {counts}"), fix))
    }

    /// Number of listed objects that cannot be carried.
    pub fn faults(&self) -> usize {
        self.left_out.iter().filter(|it| it.reason.is_fault()).map(|it| it.count).sum()
    }

    /// Removes the media after the first `seconds` of each rung, assuming equal segment durations; a rung in one file is
    /// kept.
    pub fn keep_prefix(&mut self, seconds: f64) {
        let (mut kept, mut dropped) = (BTreeSet::new(), BTreeSet::new());
        for rung in self.presentations.iter_mut().flat_map(|it| &mut it.rungs) {
            let part = if rung.duration_s > 0.0 { (seconds / rung.duration_s).min(1.0) } else { 1.0 };
            // The list also has other objects of the rung (playlists, keys).
            let is_media =
                |path: &String| self.objects.get(path).is_some_and(|object| object.role == Role::Segment);
            let media: Vec<String> = rung.segments.iter().filter(|path| is_media(path)).cloned().collect();
            let most = (media.len() as f64 * part).ceil() as usize;
            kept.extend(media[..most].iter().cloned());
            dropped.extend(media[most..].iter().cloned());
            rung.duration_s = rung.duration_s.min(seconds);
        }
        let gone: BTreeSet<&String> = dropped.difference(&kept).collect();
        self.objects.retain(|path, _| !gone.contains(path));
        for rung in self.presentations.iter_mut().flat_map(|it| &mut it.rungs) {
            rung.segments.retain(|path| !gone.contains(path));
        }
    }
}
