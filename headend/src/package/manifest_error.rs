//! Errors of manifests that cannot be read, with the line of a playlist.

use std::fmt;

use carousel::name::NameError;
use carousel::xml::XmlError;

use super::MAX_OBJECTS;
use super::hls::MAX_LINES;
use crate::encoding::UnknownEncoding;

/// Error of an HLS playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PlaylistError {
    /// It has no line.
    Empty,
    /// It does not begin with `#EXTM3U`.
    NotAPlaylist,
    /// It has more than [`MAX_LINES`].
    TooLong,
    /// It has tags of multivariant and of media playlists.
    Mixed,
    /// It ends before a URI.
    CutOff,
    /// It has neither segments nor variants.
    NothingListed,
    /// A line is wrong.
    Line(usize, LineError),
    /// Its encoding is not known.
    Encoding(UnknownEncoding),
}

/// Error of a line of a playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LineError {
    /// `#EXTINF` without a duration.
    Duration(String),
    /// A URI that follows neither `#EXTINF` nor `#EXT-X-STREAM-INF`.
    StrayUri(String),
    /// `EXT-X-DEFINE` without `NAME`, `IMPORT` or `QUERYPARAM`.
    Define,
    /// `EXT-X-DEFINE` without `VALUE`.
    NoValue(String),
    /// A variable is imported where there is no multivariant playlist.
    NoMultivariant(String),
    /// A variable is imported that the multivariant playlist does not define.
    NotDefined(String),
    /// The playlist's own URI has no such query parameter.
    NoParameter(String),
    /// A variable is used that has no value.
    NoVariable(String),
}

impl PlaylistError {
    /// Whether a variable has no value where the playlist is read by itself; one that refers to it may give it.
    pub(super) const fn is_of_a_variable(&self) -> bool {
        use LineError::{NoMultivariant, NoParameter, NoValue, NoVariable, NotDefined};
        matches!(
            self,
            Self::Line(_, NoMultivariant(_) | NoParameter(_) | NoValue(_) | NoVariable(_) | NotDefined(_))
        )
    }
}

impl LineError {
    /// The error of a playlist whose line it is.
    pub(super) const fn at(self, number: usize) -> PlaylistError {
        PlaylistError::Line(number, self)
    }
}

impl fmt::Display for PlaylistError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the playlist is empty"),
            Self::NotAPlaylist => f.write_str("line 1 is not #EXTM3U"),
            Self::TooLong => write!(f, "more than {MAX_LINES} lines"),
            Self::Mixed => f.write_str("tags of multivariant and of media playlists are mixed"),
            Self::CutOff => f.write_str(
                "the playlist ends where a URI should follow: it is cut off, or still being written",
            ),
            Self::NothingListed => f.write_str("neither segments nor variants"),
            Self::Line(number, err) => write!(f, "line {number}: {err}"),
            Self::Encoding(err) => err.fmt(f),
        }
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duration(line) => write!(f, "{line:?} has no duration"),
            Self::StrayUri(line) => write!(f, "{line:?} follows neither #EXTINF nor #EXT-X-STREAM-INF"),
            Self::Define => f.write_str("EXT-X-DEFINE without NAME, IMPORT or QUERYPARAM"),
            Self::NoValue(name) => write!(f, "EXT-X-DEFINE gives the variable {name} no VALUE"),
            Self::NoMultivariant(name) => {
                write!(f, "the variable {name} is imported, and no multivariant playlist refers to this one")
            }
            Self::NotDefined(name) => {
                write!(f, "the multivariant playlist does not define the variable {name}")
            }
            Self::NoParameter(name) => write!(f, "the playlist's own URI has no query parameter {name}"),
            Self::NoVariable(name) => write!(f, "the variable {name} has no value"),
        }
    }
}

impl From<UnknownEncoding> for PlaylistError {
    fn from(err: UnknownEncoding) -> Self {
        Self::Encoding(err)
    }
}

/// Error of an MPD, or of one of its Representations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MpdError {
    /// Its encoding is not known.
    Encoding(UnknownEncoding),
    /// It is not XML.
    Xml(XmlError),
    /// Another root.
    Root(String),
    /// No Representation.
    NoRepresentation,
    /// No segments are named.
    NoSegments,
    /// A reference that cannot be resolved.
    Reference(String, NameError),
    /// A template without `@media`.
    NoMedia,
    /// A template with an odd number of `$`.
    Dollars(String),
    /// A template with an unknown identifier.
    UnknownIdentifier(String, String),
    /// A template with an identifier that has no value here.
    NoIdentifier(String, String),
    /// A template that means more than [`MAX_OBJECTS`].
    Count(u64),
    /// An `S` element without a usable `@d`.
    Duration,
    /// A timeline of more than [`MAX_OBJECTS`].
    LongTimeline,
}

impl fmt::Display for MpdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding(err) => err.fmt(f),
            Self::Xml(err) => err.fmt(f),
            Self::Root(name) => write!(f, "the root is <{name}>, not <MPD>"),
            Self::NoRepresentation => {
                f.write_str("no Representation: the MPD is cut off, or still being written")
            }
            Self::NoSegments => f.write_str("it names no segments"),
            Self::Reference(reference, err) => write!(f, "{reference:?}: {err}"),
            Self::NoMedia => f.write_str("its template has no @media"),
            Self::Dollars(text) => write!(f, "template {text:?} has an odd number of $"),
            Self::UnknownIdentifier(text, name) => {
                write!(f, "its template {text:?} has an unknown ${name}$")
            }
            Self::NoIdentifier(text, name) => {
                write!(f, "its template {text:?} uses ${name}$ where there is none")
            }
            Self::Count(count) => write!(f, "its template means {count} segments"),
            Self::Duration => f.write_str("an S element without a usable @d"),
            Self::LongTimeline => {
                write!(f, "its SegmentTimeline means more than {MAX_OBJECTS} segments")
            }
        }
    }
}

impl From<UnknownEncoding> for MpdError {
    fn from(err: UnknownEncoding) -> Self {
        Self::Encoding(err)
    }
}
