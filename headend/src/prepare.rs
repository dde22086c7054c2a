//! Preparation of objects: reads a source's package, hashes files, computes repair symbols.
//!
//! Takes seconds for a film: at the start before transmission, afterwards in the thread of [`crate::follow`], which passes
//! the results on as [`Update`]s.

mod parallel;

use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use carousel::Digest;
use carousel::command::Command;
use carousel::fec::{EncodingId, Protection};

use crate::catalog::CatalogDocuments;
use crate::condition::Condition;
use crate::config::{Config, Source};
use crate::object::{Body, Piece, RepairSymbols};
use crate::options::TransportProtocol;
use crate::package::{self, Inventory, ObjectSource, Options, Reader, Role};
use crate::progress::Preparation;
use crate::releases::Release;
use crate::sys::read_source_file;
use crate::watch::Watch;
pub(crate) use parallel::prepare_each;

/// Assumed length of a burst of losses in live media, in packets: twice the mean burst of a DVB-S2 frame error after MPE or GSE.
const LIVE_BURST_PACKETS: u32 = 16;

/// A change to apply, in order.
#[derive(Debug)]
pub enum Update {
    /// The source changed: vanished objects are removed, new representations get their sessions.
    Changed {
        /// Number of the source.
        source: usize,
        /// Inventory of the source.
        inventory: Inventory,
        /// Removed paths.
        removed: Vec<String>,
    },
    /// A new or changed object, ready for the air.
    Ready {
        /// Number of the source.
        source: usize,
        /// The object.
        prepared: Box<Prepared>,
    },
    /// Bytes of a segment that is still being written.
    Piece {
        /// Number of the source.
        source: usize,
        /// The bytes.
        piece: Box<PreparedPiece>,
    },
    /// A segment sent in pieces will not be completed: its file was removed or replaced.
    Abandoned {
        /// Number of the source.
        source: usize,
        /// Its URI below the source's base.
        path: String,
    },
    /// All changes of a source have been reported.
    Settled {
        /// Number of the source.
        source: usize,
    },
    /// The condition of a source is another.
    Condition {
        /// Number of the source.
        source: usize,
        /// Its condition.
        condition: Condition,
    },
    /// Firmware on offer changed: all offers, with the new bundles.
    Firmware(Vec<PreparedRelease>),
    /// The commands in force changed.
    Commands(Vec<Command>),
    /// The catalogue changed.
    Catalog(Box<CatalogDocuments>),
}

/// Reads the current content of a source.
pub(crate) fn read_source(source: &Source, is_live: bool) -> Result<Inventory, String> {
    let failed = |err: package::PackageError| err.to_string();
    let mut reader = Reader::new(&source.path, options(source)).map_err(failed)?;
    let mut inventory = if is_live {
        // A file being written is read after it was closed.
        let io =
            |err: std::io::Error| format!("{}: {}", source.path.display(), carousel::config::plain(&err));
        let watch = Watch::start(reader.root(), reader.links_to()).map_err(io)?;
        reader.read_files(watch.files(), Vec::new()).or_else(|_| reader.read()).map_err(failed)?
    } else {
        reader.read().map_err(failed)?
    };
    keep_prefix(&mut inventory, source);
    Ok(inventory)
}

/// Options for reading a source.
pub(crate) fn options(source: &Source) -> Options {
    Options {
        include_unreferenced: source.include_unreferenced,
        base: source.base.clone(),
        ignored_query: source.ignored_query(),
        links_to: source.follow_links_to.clone(),
        is_pulled: source.pull.is_some(),
        ..Options::default()
    }
}

/// Removes the media after `prefix_s`.
pub(crate) fn keep_prefix(inventory: &mut Inventory, source: &Source) {
    if let Some(seconds) = source.prefix_s {
        inventory.keep_prefix(seconds as f64);
    }
}

/// An object ready to send: hashed, with repair symbols.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) object: ObjectSource,
    pub(crate) body: Body,
    pub(crate) digest: Digest,
    pub(crate) md5: [u8; 16],
    pub(crate) repair: Option<RepairSymbols>,
}

/// Firmware on offer.
#[derive(Debug)]
pub struct PreparedRelease {
    pub(crate) release: Release,
    pub(crate) bundle: Bundle,
}

/// The bundle of a release.
#[derive(Debug)]
pub enum Bundle {
    /// Its file is unchanged since it was prepared.
    Same,
    /// It is new, or its file has changed.
    New(PreparedBundle),
    /// Its file differs from the offer, or cannot be read.
    Unusable,
}

/// A bundle ready to send.
#[derive(Debug)]
pub struct PreparedBundle {
    pub(crate) body: Body,
    pub(crate) md5: [u8; 16],
    pub(crate) repair: Option<RepairSymbols>,
}

/// Hashes a bundle and makes its repair symbols: seconds for a root file system.
pub(crate) fn prepare_bundle(config: &Config, release: &Release) -> Bundle {
    try_prepare_bundle(config, release).map_or(Bundle::Unusable, Bundle::New)
}

fn try_prepare_bundle(config: &Config, release: &Release) -> Option<PreparedBundle> {
    let (body, file) = Body::file(&release.path).ok()?;
    let (body, digest, md5) = hash(body, file.take(u64::MAX), &Preparation::default())?;
    if digest != release.offer.sha256 || body.length() != release.offer.length {
        return None;
    }
    let (protection, profile) = (config.firmware.as_ref()?.protection(), config.carousel.sender_profile());
    let oti = protection.oti(body.length(), profile.symbol_length, profile.max_source_block_length);
    let repair = RepairSymbols::make(&body, &oti, &protection).ok().flatten();
    Some(PreparedBundle { body, md5, repair })
}

/// A piece of a growing segment, ready to send.
#[derive(Debug)]
pub struct PreparedPiece {
    /// URI of the segment below the source's base.
    pub(crate) path: String,
    /// A segment of the same rendition.
    pub(crate) like: String,
    pub(crate) content_type: &'static str,
    pub(crate) piece: Piece,
    /// ROUTE: repair symbols of the complete segment, with its last piece.
    pub(crate) whole_repair: Option<RepairSymbols>,
}

/// Computes the repair symbols of a piece; in ROUTE, for the last piece those of the complete segment, which `whole`
/// reads.
pub(crate) fn prepare_piece(
    config: &Config,
    index: usize,
    (offset, bytes, is_last): (u64, Vec<u8>, bool),
    whole: impl FnOnce() -> Option<Vec<u8>>,
) -> (Piece, Option<RepairSymbols>) {
    let protection = protection(config, index, false);
    let profile = config.carousel.sender_profile();
    let bytes: Arc<[u8]> = bytes.into();
    let (mut repair, mut whole_repair) = (None, None);
    match config.sources[index].protocol {
        TransportProtocol::Flute => {
            let length = bytes.len() as u64;
            let oti = protection.oti(length, profile.symbol_length, profile.max_source_block_length);
            repair = RepairSymbols::make(&Body::Memory(Arc::clone(&bytes)), &oti, &protection).ok().flatten();
        }
        TransportProtocol::Route if is_last => {
            let whole = whole().map(|bytes| Body::Memory(bytes.into()));
            let make = |body| RepairSymbols::make_route(&body, &profile, &protection).ok().flatten();
            whole_repair = whole.and_then(make);
        }
        TransportProtocol::Route => {}
    }
    (Piece { offset, bytes, is_last, repair }, whole_repair)
}

/// The digest of an object's current file. `None` if it vanished.
pub(crate) fn digest_of(object: &ObjectSource) -> Option<Digest> {
    load(object, &Preparation::default()).map(|(_, digest, _)| digest)
}

pub(crate) const fn is_signalling(object: &ObjectSource) -> bool {
    matches!(object.role, Role::Manifest | Role::Init)
}

/// Hashes an object of source `index` and computes its repair symbols: seconds for a film. `None` if it vanished.
pub(crate) fn prepare(config: &Config, index: usize, object: &ObjectSource) -> Option<Prepared> {
    prepare_showing(config, index, object, &Preparation::default())
}

/// As [`prepare`]; counts the bytes in `progress` as they are read.
pub(crate) fn prepare_showing(
    config: &Config,
    index: usize,
    object: &ObjectSource,
    progress: &Preparation,
) -> Option<Prepared> {
    if object.bytes.is_some() || is_in_memory(object) {
        progress.read(object.length);
    }
    let (body, digest, md5) = match &object.bytes {
        // The parsed bytes, which match its segments even if the file has changed.
        Some(bytes) => (Body::Memory(Arc::clone(bytes)), Digest::of(bytes), carousel::digest::md5(bytes)),
        None if is_in_memory(object) => {
            let bytes = match &object.range {
                Some(range) => {
                    let (_, file) = Body::range(&object.file, range).ok()?;
                    let mut bytes = vec![0; usize::try_from(object.length).ok()?];
                    file.read_exact_at(&mut bytes, range.start).ok()?;
                    bytes
                }
                None => {
                    let bytes = read_source_file(&object.file, object.length).ok()?;
                    Some(bytes).filter(|bytes| bytes.len() as u64 == object.length)?
                }
            };
            let (digest, md5) = (Digest::of(&bytes), carousel::digest::md5(&bytes));
            (Body::Memory(bytes.into()), digest, md5)
        }
        None => load(object, progress)?,
    };
    let protection = protection(config, index, is_signalling(object));
    let profile = config.carousel.sender_profile();
    let repair = match config.sources[index].protocol {
        TransportProtocol::Route if !is_signalling(object) => {
            RepairSymbols::make_route(&body, &profile, &protection)
        }
        _ => {
            let oti = protection.oti(body.length(), profile.symbol_length, profile.max_source_block_length);
            RepairSymbols::make(&body, &oti, &protection)
        }
    };
    // It changed, or there is no room: it can be sent without repair symbols, and is checked again.
    let repair = repair.ok().flatten();
    Some(Prepared { object: object.clone(), body, digest, md5, repair })
}

carousel::limits! {
    /// Init segment or key that is held in memory, so that it stays on the air while its file is rewritten.
    const MAX_MEMORY_BYTES: u64 = 256 << 10, "bytes" {
        why: "Init segments have some kilobytes.",
        full: "The object is read from its file.",
        free: "Holds for one object.",
        test: "only_short_init_segments_and_keys_are_held_in_memory",
    }
}

/// Whether an object is held in memory.
pub(crate) fn is_in_memory(object: &ObjectSource) -> bool {
    matches!(object.role, Role::Init | Role::Key) && object.length <= MAX_MEMORY_BYTES
}

/// Opens and hashes a file. `None` if it cannot be read.
fn load(object: &ObjectSource, progress: &Preparation) -> Option<(Body, Digest, [u8; 16])> {
    let (body, mut file) = match &object.range {
        Some(range) => Body::range(&object.file, range).ok()?,
        None => Body::file(&object.file).ok()?,
    };
    file.seek(SeekFrom::Start(object.range.as_ref().map_or(0, |range| range.start))).ok()?;
    let limit = if object.range.is_some() { object.length } else { u64::MAX };
    hash(body, file.take(limit), progress)
}

/// Hashes a body's file. `None` if its length has changed.
fn hash(
    body: Body,
    mut file: impl std::io::Read,
    progress: &Preparation,
) -> Option<(Body, Digest, [u8; 16])> {
    let mut hasher = carousel::digest::ObjectHasher::default();
    let mut buffer = vec![0; 256 << 10];
    let mut length = 0;
    loop {
        let count = file.read(&mut buffer).ok()?;
        if count == 0 {
            break;
        }
        length += count as u64;
        progress.read(count as u64);
        hasher.update(&buffer[..count]);
    }
    let (digest, md5) = hasher.finish();
    // A file that grew meanwhile is read again later.
    (length == body.length()).then_some((body, digest, md5))
}

/// The protection of a source's object; none for signalling, which receivers without FEC need as well.
pub(crate) fn protection(config: &Config, source: usize, is_signalling: bool) -> Protection {
    if is_signalling {
        return Protection::NONE;
    }
    let source = &config.sources[source];
    let of_class = config.fec.protection(source.class);
    // An object that is sent once must survive a burst on its own.
    let is_protected = of_class.id != EncodingId::NO_CODE;
    let burst_packets = if source.reserved_bps.is_some() && is_protected { LIVE_BURST_PACKETS } else { 0 };
    Protection { burst_packets, ..of_class }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_init_segments_and_keys_are_held_in_memory() {
        let object = |role: Role, length: u64| ObjectSource {
            path: "v/init.mp4".to_owned(),
            file: "/v/init.mp4".into(),
            length,
            range: None,
            modified_ns: 0,
            content_type: "video/mp4",
            role,
            bytes: None,
        };
        for role in [Role::Init, Role::Key] {
            assert!(is_in_memory(&object(role, MAX_MEMORY_BYTES)));
            assert!(!is_in_memory(&object(role, MAX_MEMORY_BYTES + 1)));
        }
        assert!(!is_in_memory(&object(Role::Segment, 1)));
    }
}
