//! A broadcaster's programme guide, read into the model of `carousel::dvbi::guide`.
//!
//! ```text
//! file ─ unpack ─ encoding ─ text ─┬ < ─ pieces ─ repair ─ xmltv ─┐
//!                                  └ { ─ json ───────────────────┴ Showing ─ collect ─▶ GuideResult
//! ```
//!
//! | file | content |
//! |---|---|
//! | `unpack.rs`, `crate::encoding` | gzip, xz, zip; every encoding of the Encoding Standard |
//! | `pieces.rs`, `repair.rs` | XMLTV by its channels and programmes; what scripts write in place of XML |
//! | `xmltv.rs` | the elements of a channel and of a programme |
//! | `json.rs` | a form of our own for guides written by scripts; its head has an example |
//! | `date.rs`, `episode.rs`, `rating.rs` | what XMLTV leaves to its writers: times, episode numbers, ages |
//! | `showing.rs` | one entry of either form, its texts cleaned and bounded |
//! | `collect.rs` | entries become programmes, events and series; the CRIDs |
//! | `problems.rs` | what is wrong, a few lines of each kind |
//!
//! A bad entry is reported as a [`Problem`] with its line, and left out; the others are sent. A truncated file is marked
//! ([`GuideResult::is_cut`]): most often it is still being written, and the earlier guide is better than half of a new one. Titles
//! on demand are not in these files.

mod collect;
mod date;
mod episode;
mod json;
mod pieces;
mod problems;
mod rating;
mod repair;
mod showing;
mod unpack;
mod xmltv;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use carousel::dvbi::Text;
use carousel::dvbi::guide::Guide;
use carousel::limits::MAX_LONG_XML_BYTES;

use crate::encoding;
use crate::package::Problem;
use collect::Collector;
use problems::quoted;

carousel::limits! {
    /// One guide after unpacking.
    pub const MAX_GUIDE_BYTES: usize = MAX_LONG_XML_BYTES, "bytes" {
        why: "A week of 300 channels has 40 MB as XMLTV.",
        full: "The guide is refused; the one read before stays.",
        free: "Holds for one file.",
        test: "what_is_cut_is_too_much_or_not_known_says_so",
    }
}

/// Result of reading a guide.
#[derive(Debug, Default)]
pub struct GuideResult {
    /// Tidy; what no event refers to is left out.
    pub guide: Guide,
    /// Problems of the file, with their fixes.
    pub problems: Vec<Problem>,
    /// Channels that the file declares, whether or not a service asks for them: id, and names by language.
    pub channels: Vec<(String, Vec<Text>)>,
    /// Parts that are left out because they cannot be read: `problems` says which.
    pub faults: u64,
    /// Whether the file breaks off.
    pub is_cut: bool,
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
    /// The file is not there, or cannot be read.
    Io(io::Error),
    /// It has no bytes, or nothing but blanks.
    Empty,
    /// Packed with this, and cut or damaged.
    Damaged(&'static str, io::Error),
    /// Packed with something that is not read; its name.
    Packed(&'static str),
    /// More than [`MAX_GUIDE_BYTES`] unpacked.
    TooLong,
    /// Neither XMLTV nor JSON; how it begins.
    Foreign(String),
    /// An encoding that is not known; its name.
    Encoding(String),
    /// JSON that is not well-formed, or has something else where its lists belong.
    Json(serde_json::Error),
}

impl fmt::Display for GuideError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.why {
            Refusal::Io(err) => {
                let why = carousel::config::plain(err);
                write!(f, "{why}; give a programme guide, XMLTV or JSON, also as .gz, .xz or .zip")
            }
            Refusal::Empty => f.write_str("it is empty; see why the grabber writes nothing"),
            Refusal::Damaged(name, err) => {
                write!(f, "{name} is cut or damaged: {err}; it is read again when it changes")
            }
            Refusal::Packed(name) => {
                write!(
                    f,
                    "it is packed with {name}, which is not read; pack it with gzip, xz or zip, or not at all"
                )
            }
            Refusal::TooLong => write!(
                f,
                "more than {} MiB unpacked; split the guide by channels or by days",
                MAX_GUIDE_BYTES >> 20
            ),
            Refusal::Foreign(head) => write!(
                f,
                "neither XMLTV (<tv>) nor JSON ({{\"programmes\": […]}}), it begins with {head}; write the guide as one of them"
            ),
            Refusal::Encoding(name) => {
                write!(f, "encoding {name:?} is not known; write the guide in UTF-8")
            }
            Refusal::Json(err) => write!(f, "JSON refused: {err}; it is read again when it changes"),
        }
    }
}

impl std::error::Error for GuideError {}

/// Reads a guide. `authority` is the DNS name in the CRIDs; `services` gives the service that shows a channel of the file;
/// channels without a service are left out.
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
) -> Result<GuideResult, GuideError> {
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
    if bytes.len() > MAX_GUIDE_BYTES {
        return Err(Refusal::TooLong);
    }
    unpack::unpack(bytes)
}

fn read_bytes(bytes: Vec<u8>, mut collector: Collector<'_>) -> Result<GuideResult, Refusal> {
    let encoding::Decoded { text, wrong, encoding } =
        encoding::decode(bytes).map_err(|err| Refusal::Encoding(err.0))?;
    if let Some((count, line)) = wrong {
        let shown = text.lines().nth(usize::try_from(line - 1).unwrap_or(0)).unwrap_or_default();
        collector.problems.report(
            || format!("line {line}"),
            || format!("{count} bytes are not {encoding}, the first in {}", quoted(shown.trim())),
            "they are read as Windows-1252; name the encoding in the XML declaration, or write UTF-8",
        );
    }
    match text.trim_start().chars().next() {
        Some('<') => xmltv::read(&text, &mut collector)?,
        Some('{') => json::read(text.as_bytes(), &mut collector)?,
        Some(_) => return Err(foreign(&text)),
        None => return Err(Refusal::Empty),
    }
    Ok(collector.finish())
}

fn foreign(text: &str) -> Refusal {
    let head: String = text.trim_start().chars().take(40).collect();
    Refusal::Foreign(quoted(&head))
}

#[cfg(test)]
mod tests;
