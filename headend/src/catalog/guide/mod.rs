//! A broadcaster's programme guide, read into the model of `carousel::dvbi::guide`.
//!
//! ```text
//! file ─ .gz? ─ bytes ─┬ < ─ xmltv ─┐
//!                      └ { ─ json  ─┴ Showing ─ collect ─▶ Read { guide, channels, problems }
//! ```
//!
//! | file | what lives there |
//! |---|---|
//! | `xmltv.rs` | XMLTV: encodings, the document type declaration, elements |
//! | `json.rs` | a form of our own for who writes guides with a script; its head has an example |
//! | `date.rs`, `episode.rs`, `rating.rs` | what XMLTV leaves to its writers: times, episode numbers, ages |
//! | `showing.rs` | one entry of either form, its texts cleaned and bounded |
//! | `collect.rs` | entries become programmes, events and series; the CRIDs |
//! | `problems.rs` | what is wrong, a few lines of each kind |
//!
//! A bad entry is a [`Problem`] and is left out. A file that is not well-formed is refused whole: most often it is still
//! being written, and the guide of before is better than half of a new one. What can be had on demand is not in these
//! files.

mod collect;
mod date;
mod episode;
mod json;
mod problems;
mod rating;
mod showing;
mod xmltv;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use carousel::dvbi::Text;
use carousel::dvbi::guide::Guide;
use carousel::limits::MAX_LONG_XML_BYTES;
use carousel::xml::XmlError;
use flate2::read::MultiGzDecoder;

use crate::package::Problem;
use collect::Collector;

/// Bytes of a guide, unpacked: a week of 300 channels has 40 MB as XMLTV.
pub const MAX_GUIDE_BYTES: usize = MAX_LONG_XML_BYTES;

/// What was read.
#[derive(Debug, Default)]
pub struct Read {
    /// Tidy; what no event refers to is left out.
    pub guide: Guide,
    /// What is wrong with the file, and what to do.
    pub problems: Vec<Problem>,
    /// Channels that the file declares, whether or not a service asks for them: id, and names by language.
    pub channels: Vec<(String, Vec<Text>)>,
}

/// A file that cannot be read as a guide.
#[derive(Debug)]
pub struct GuideError {
    /// The file.
    pub path: PathBuf,
    /// Why not.
    pub why: Refusal,
}

/// Why nothing is read.
#[derive(Debug)]
pub enum Refusal {
    /// The file is not there, cannot be read, or is no whole gzip.
    Io(io::Error),
    /// More than [`MAX_GUIDE_BYTES`] unpacked.
    TooLong,
    /// Neither XMLTV nor JSON.
    Foreign,
    /// XML in another encoding than UTF-8 and Latin-1; its name.
    Encoding(String),
    /// XML with declarations of its own: entities could grow without bound.
    InternalSubset,
    /// XML that is not well-formed or goes past a limit.
    Xml(XmlError),
    /// JSON that is not well-formed, or has something else where its lists belong.
    Json(serde_json::Error),
}

impl fmt::Display for GuideError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.why {
            Refusal::Io(err) => write!(f, "{err}; give a programme guide, XMLTV or JSON, also as .gz"),
            Refusal::TooLong => write!(
                f,
                "more than {} MiB unpacked; split the guide by channels or by days",
                MAX_GUIDE_BYTES >> 20
            ),
            Refusal::Foreign => f.write_str(
                "neither XMLTV (<tv>) nor JSON ({\"programmes\": […]}), in UTF-8; write the guide as one of them",
            ),
            Refusal::Encoding(name) => {
                write!(f, "encoding {name:?} is not known; write the guide in UTF-8 or ISO-8859-1")
            }
            Refusal::InternalSubset => f.write_str(
                "its document type has declarations of its own; write <!DOCTYPE tv SYSTEM \"xmltv.dtd\"> or none",
            ),
            Refusal::Xml(err) => write!(f, "{err}; it is read again when it changes"),
            Refusal::Json(err) => write!(f, "JSON refused: {err}; it is read again when it changes"),
        }
    }
}

impl std::error::Error for GuideError {}

/// Reads a guide. `authority` is the DNS name in the CRIDs; `services` tells the service that shows a channel of the file,
/// and what it does not know is left out.
///
/// A programme that is shown twice has one CRID: it is made of the authority and a digest of what identifies the programme,
/// so that it is the same tomorrow and on another machine.
///
/// # Errors
/// [`GuideError`] if nothing can be read. Anything less is a problem.
pub fn read(
    path: &Path,
    authority: &str,
    services: &dyn Fn(&str) -> Option<String>,
) -> Result<Read, GuideError> {
    let refused = |why| GuideError { path: path.to_owned(), why };
    let bytes = load(path).map_err(refused)?;
    let collector = Collector::new(path.display().to_string(), authority, services);
    read_bytes(bytes, collector).map_err(refused)
}

/// The bytes of a file, unpacked.
fn load(path: &Path) -> Result<Vec<u8>, Refusal> {
    let most = MAX_GUIDE_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(Refusal::Io)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = Vec::new();
        MultiGzDecoder::new(bytes.as_slice()).take(most).read_to_end(&mut unpacked).map_err(Refusal::Io)?;
        bytes = unpacked;
    }
    if bytes.len() > MAX_GUIDE_BYTES {
        return Err(Refusal::TooLong);
    }
    Ok(bytes)
}

fn read_bytes(bytes: Vec<u8>, mut collector: Collector<'_>) -> Result<Read, Refusal> {
    let bom = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    match bytes[bom..].iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'<') => xmltv::read(bytes, &mut collector)?,
        Some(b'{') => json::read(&bytes[bom..], &mut collector)?,
        _ => return Err(Refusal::Foreign),
    }
    Ok(collector.finish())
}

#[cfg(test)]
mod tests;
