//! Properties of a rendition, read from its media: codec, picture, colour, channels, languages. Service lists signal them
//! without configuration.
//!
//! ```text
//! file ─ at most 4 MB ─┬ boxes ─ mp4 ─┬ avc, hevc, av1, vp9: what is configured ─┐
//!                      │              └ audio, subtitles                         ├─ Facts
//!                      └ packets ─ ts ─ PES ─┬ avc, hevc: parameter sets, SEI ───┘
//!                                            └ audio: the first frame
//! ```
//!
//! | file | content | standard |
//! |---|---|---|
//! | `facts` | the model of properties | ISO/IEC 23091-2, RFC 6381 |
//! | `mp4`, `boxes` | init segments and files | ISO/IEC 14496-12, -14, -15, -30, 23001-7 |
//! | `ts` | segments of transport streams | ISO/IEC 13818-1 |
//! | `avc`, `hevc`, `usability` | parameter sets and their VUI | ISO/IEC 14496-10, 23008-2 |
//! | `nal`, `bits` | common syntax: NAL units, bits; SEI | their Annex B and clause 9 |
//! | `av1`, `vp9` | sequence headers and configurations | AV1 specification clause 5.5, VP codec ISO binding |
//! | `audio` | configurations and frame headers | ISO/IEC 14496-3, ETSI TS 102 366 |
//! | `codecs` | names of audio codecs in manifests | RFC 6381 |
//!
//! Files come from packagers, and from anyone who can write to a followed folder: every length is checked against the
//! available bytes, loops are bounded, and there is no recursion. Odd but readable media are accepted: a level that is
//! too low for the picture is the packager's mistake, and does not affect the service list.
//!
//! Not supported: parameter sets only in the samples (`avc3`, `hev1`: the size and other values come from the boxes),
//! MPEG-2 video, LATM, packed audio, DVB subtitles and teletext, completely encrypted segments.

mod audio;
mod av1;
mod avc;
mod bits;
pub(super) mod boxes;
mod codecs;
mod facts;
mod hevc;
mod mp4;
mod nal;
pub(super) mod ts;
mod usability;
mod vp9;

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

pub(super) use codecs::is_audio;
pub use facts::{Audio, Colour, Definition, Dynamic, Facts, Video};

use super::{Inventory, Role, Rung};
use crate::sys::open_source_file;

carousel::limits! {
    /// Bytes of a media file that are read for what it says of itself.
    const MAX_READ_BYTES: u64 = 4 << 20, "bytes" {
        why: "Of a transport stream it is a second; a `moov` of a film has some megabytes.",
        full: "Bytes behind it are not considered.",
        free: "Holds for one file.",
        test: "media_are_read_up_to_a_bound",
    }

    /// Boxes of a file in front of its `moov`.
    const MAX_LEADING_BOXES: usize = 64, "boxes" {
        why: "A film has two or three, fragments before it none.",
        full: "The file says nothing of itself.",
        free: "Holds for one file.",
        test: "media_are_read_up_to_a_bound",
    }
}

/// Why the properties of a file are unknown.
#[derive(Debug)]
pub enum Unreadable {
    /// It does not exist or cannot be read.
    Io(io::Error),
    /// Neither boxes nor packets.
    Unknown,
    /// A media segment without the init segment that describes it.
    NoInit,
    /// A transport stream without a programme.
    NoProgram,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(err) => f.write_str(&carousel::config::plain(err)),
            Self::Unknown => f.write_str("neither MP4 nor a transport stream; it may be encrypted whole"),
            Self::NoInit => f.write_str("a media segment does not describe itself; read its init segment"),
            Self::NoProgram => f.write_str("no PAT and PMT; a segment begins with them"),
        }
    }
}

impl std::error::Error for Unreadable {}

/// Reads an init segment, an MP4 file, a self-initialising segment or a segment of a transport stream, recognised by its
/// bytes.
///
/// # Errors
/// [`Unreadable`].
pub fn read(path: &Path) -> Result<Facts, Unreadable> {
    let mut file = open_source_file(path).map_err(Unreadable::Io)?;
    let start = start_of_description(&mut file).map_err(Unreadable::Io)?;
    file.seek(SeekFrom::Start(start)).map_err(Unreadable::Io)?;
    let mut bytes = Vec::new();
    file.take(MAX_READ_BYTES).read_to_end(&mut bytes).map_err(Unreadable::Io)?;
    facts(&bytes)
}

/// Facts of a rendition, from its init segment, or from its first segment if there is none. `None` if they have none.
pub fn facts_of(inventory: &Inventory, rung: &Rung) -> Option<Facts> {
    let mut objects =
        rung.inits.iter().chain(&rung.segments).filter_map(|path| inventory.objects.get(path.as_str()));
    let object = objects.find(|object| matches!(object.role, Role::Init | Role::Segment))?;
    read(&object.file).ok()
}

/// Offset of the `moov`; 0 if the file has no boxes. In files not made for streaming it follows gigabytes of media.
fn start_of_description(file: &mut File) -> io::Result<u64> {
    let mut at = 0;
    for _ in 0..MAX_LEADING_BOXES {
        file.seek(SeekFrom::Start(at))?;
        let mut head = Vec::with_capacity(16);
        Read::by_ref(file).take(16).read_to_end(&mut head)?;
        let Some((kind, length)) = boxes::head(&head) else { break };
        if kind == *b"moov" {
            return Ok(at);
        }
        let Some(next) =
            length.filter(|_| boxes::is_top_level(kind)).and_then(|length| at.checked_add(length))
        else {
            break;
        };
        at = next;
    }
    Ok(0)
}

/// Facts from the first bytes of a file.
fn facts(bytes: &[u8]) -> Result<Facts, Unreadable> {
    let is_boxes = boxes::head(bytes).is_some_and(|(kind, _)| boxes::is_top_level(kind));
    let mut facts = if is_boxes { mp4::read(bytes)? } else { ts::read(bytes)? };
    // A picture without a size is useless, and would cause a division by zero.
    facts.video = facts.video.filter(|video| video.width > 0 && video.height > 0);
    if let Some(video) = &mut facts.video {
        // Mastering metadata also occur with HLG, which is not HDR10.
        video.hdr10 &= video.dynamic() == Dynamic::Pq;
    }
    Ok(facts)
}

#[cfg(test)]
mod tests;
