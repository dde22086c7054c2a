//! What was found: plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

/// What there is.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// The directory that paths are relative to.
    pub root: PathBuf,
    /// One for each multivariant playlist, MPD, and media playlist that nothing else refers to.
    pub presentations: Vec<Presentation>,
    /// Every object to carry, by path.
    pub objects: BTreeMap<String, ObjectSource>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Files that no manifest refers to and that are not carried.
    pub unreferenced: usize,
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

/// What a rung carries.
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

/// One manifest and what it offers.
#[derive(Debug, Clone)]
pub struct Presentation {
    /// HLS or DASH.
    pub kind: Kind,
    /// Path of the manifest.
    pub manifest: String,
    /// Whether more segments are to come.
    pub live: bool,
    /// Duration, where the manifest gives it.
    pub duration_s: Option<f64>,
    /// Its rungs in the order of the manifest.
    pub rungs: Vec<Rung>,
}

/// One quality of one track.
#[derive(Debug, Clone)]
pub struct Rung {
    /// Representation id, or the path of the media playlist.
    pub id: String,
    /// What it carries.
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
    /// Paths of media segments and of what else only this rung needs, each once.
    pub segments: Vec<String>,
    /// Duration of the listed segments.
    pub duration_s: f64,
}

/// What an object is to a manifest.
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

/// One file that is to be carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectSource {
    /// Path relative to the root, as a URI has it (percent-encoding kept).
    pub path: String,
    /// The file.
    pub file: PathBuf,
    /// Bytes.
    pub length: u64,
    /// Modification time, nanoseconds since 1970.
    pub modified_ns: i128,
    /// MIME type.
    pub content_type: &'static str,
    /// What it is.
    pub role: Role,
}

/// Something that is wrong with the package, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, and line or element.
    pub place: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub mend: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.what, self.mend)
    }
}

impl Inventory {
    /// Leaves out the media behind the first `seconds` of each rung. Segments of a rung are taken to be of equal length; a
    /// rung in one file stays whole.
    pub fn keep_prefix(&mut self, seconds: f64) {
        let (mut kept, mut dropped) = (BTreeSet::new(), BTreeSet::new());
        for rung in self.presentations.iter_mut().flat_map(|it| &mut it.rungs) {
            let part = if rung.duration_s > 0.0 { (seconds / rung.duration_s).min(1.0) } else { 1.0 };
            // What else only this rung needs (playlists, keys) is among its segments, and is no media.
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
