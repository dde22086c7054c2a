//! Reading of live segments while their packager writes them.
//!
//! A file counts as such a segment if its name matches that of the segments of a rendition on the air, except the last
//! number. Bytes are taken up to the end of a movie fragment (`moof` and `mdat`) or transport stream packet; the rest when
//! its writer has closed or renamed it. Other files, and files that are complete when first seen, are sent as finished
//! segments. The bytes sent in pieces are compared with the finished file by its digest: if it differs, the file is sent as
//! well.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use carousel::Digest;
use carousel::digest::DigestHasher;
use carousel::growing::MAX_GROWING_BYTES;
use carousel::ts::{PACKET_BYTES, SYNC_BYTE};

use crate::config::Config;
use crate::package::{Inventory, content_type, decode, encode, live_patterns, pattern};
use crate::prepare::{PreparedPiece, Update, prepare_piece};
use crate::sys::open_source_file;
use crate::watch::Watch;

carousel::limits! {
    /// Segments of one source that are read while they are written.
    const MAX_FILES: usize = 64, "files" {
        why: "A ladder writes one for each rendition.",
        full: "Further segments are sent when they are finished.",
        free: "When a segment is finished, removed, or has not grown for half a minute.",
        test: "segments_beyond_the_limit_wait_until_they_are_finished",
    }

    /// Segments of one source whose digests are remembered, so that they are not sent again when a manifest lists them.
    const MAX_SENT: usize = 1_024, "segments" {
        why: "Ten minutes of a ladder of three renditions in segments of two seconds.",
        full: "The oldest is forgotten: it is sent again if a manifest lists it only then.",
        free: "When a further segment is finished.",
        test: "digests_of_sent_segments_are_bounded",
    }
}

/// Time without growth after which a file is given up.
const STALLED_NS: u64 = 30_000_000_000;
/// Boxes before a fragment; a file that begins with none of them is not a segment.
const BOXES: [&[u8; 4]; 11] =
    [b"styp", b"ftyp", b"moof", b"mdat", b"sidx", b"ssix", b"emsg", b"prft", b"free", b"skip", b"uuid"];

/// A segment that is being read.
struct Growing {
    file: File,
    /// A segment of the same rendition.
    like: String,
    taken_bytes: u64,
    hasher: DigestHasher,
    /// Length at the last check, and time of its last change.
    length: u64,
    grown_ns: u64,
    /// Time when bytes were last taken.
    taken_ns: u64,
}

/// Growing segments of one source.
#[derive(Default)]
pub(super) struct Growth {
    patterns: HashMap<(String, String), String>,
    growing: HashMap<String, Growing>,
    /// Files being written that cannot be sent in pieces.
    skipped: Vec<String>,
    sent: VecDeque<(String, Digest)>,
}

/// Progress of a segment.
enum Step {
    Nothing,
    /// The next bytes.
    Piece(Vec<u8>),
    /// The last bytes, from this offset on.
    Last(u64, Vec<u8>),
    /// It is not, or no longer, sent in pieces.
    GivenUp,
}

impl Growth {
    /// Updates the name patterns of segments.
    pub(super) fn learn(&mut self, known: &Inventory) {
        self.patterns = live_patterns(known);
    }

    /// Whether a finished file was sent in pieces, byte for byte. Reads it only if there were pieces of that name.
    pub(super) fn has_sent(&self, path: &str, digest: impl FnOnce() -> Option<Digest>) -> bool {
        let sent = self.sent.iter().rev().find(|(name, _)| name == path);
        sent.is_some_and(|(_, sent)| digest().as_ref() == Some(sent))
    }

    /// Reads new bytes, and calls `each` with the pieces.
    pub(super) fn look(
        &mut self,
        (config, source): (&Config, usize),
        watch: &Watch,
        known: &Inventory,
        now_ns: u64,
        mut each: impl FnMut(Update) -> Option<()>,
    ) -> Option<()> {
        let Some(chunk_ms) = config.sources[source].chunk_ms else { return Some(()) };
        self.open_new(watch, known, now_ns);
        let mut paths: Vec<String> = self.growing.keys().cloned().collect();
        paths.sort();
        for path in paths {
            let Some(growing) = self.growing.get_mut(&path) else { continue };
            let has_begun = growing.taken_bytes > 0;
            let symbol_bytes = u64::from(config.carousel.symbol_length_bytes);
            let step = growing.step(&path, watch, now_ns, chunk_ms * 1_000_000, symbol_bytes);
            let uri = encode(&path);
            let (offset, bytes, is_last) = match step {
                Step::Nothing => continue,
                Step::Piece(bytes) => (growing.taken_bytes - bytes.len() as u64, bytes, false),
                Step::Last(offset, bytes) => (offset, bytes, true),
                Step::GivenUp => {
                    self.growing.remove(&path);
                    self.skipped.push(path);
                    if has_begun {
                        each(Update::Abandoned { source, path: uri })?;
                    }
                    continue;
                }
            };
            let whole = || {
                let mut bytes = vec![0; usize::try_from(growing.taken_bytes).ok()?];
                growing.file.read_exact_at(&mut bytes, 0).ok().map(|()| bytes)
            };
            let (piece, whole_repair) = prepare_piece(config, source, (offset, bytes, is_last), whole);
            let piece = PreparedPiece {
                path: uri.clone(),
                like: growing.like.clone(),
                content_type: content_type(&path),
                piece,
                whole_repair,
            };
            if is_last && let Some(growing) = self.growing.remove(&path) {
                self.remember(uri, growing.hasher.finish());
            }
            each(Update::Piece { source, piece: Box::new(piece) })?;
        }
        Some(())
    }

    fn remember(&mut self, path: String, digest: Digest) {
        if self.sent.len() >= MAX_SENT {
            self.sent.pop_front();
        }
        self.sent.push_back((path, digest));
    }

    /// Opens segments that were begun since the last call.
    fn open_new(&mut self, watch: &Watch, known: &Inventory, now_ns: u64) {
        let skipped = std::mem::take(&mut self.skipped);
        for (path, file) in watch.being_written() {
            if skipped.iter().any(|it| it == path) {
                self.skipped.push(path.to_owned());
                continue;
            }
            if self.growing.contains_key(path) || self.growing.len() >= MAX_FILES {
                continue;
            }
            let Some(like) = pattern(path).and_then(|pattern| self.patterns.get(&pattern)) else { continue };
            // The object on the air under this name stays until its successor is finished.
            if decode(like) == path || known.objects.contains_key(&encode(path)) {
                continue;
            }
            // A link or a FIFO: checked again when it has its final name.
            let Ok(opened) = open_source_file(file) else {
                self.skipped.push(path.to_owned());
                continue;
            };
            let growing = Growing {
                file: opened,
                like: like.clone(),
                taken_bytes: 0,
                hasher: Digest::hasher(),
                length: 0,
                grown_ns: now_ns,
                taken_ns: 0,
            };
            self.growing.insert(path.to_owned(), growing);
        }
    }
}

impl Growing {
    fn step(&mut self, path: &str, watch: &Watch, now_ns: u64, chunk_ns: u64, symbol_bytes: u64) -> Step {
        let finished = watch.files().get(path).filter(|it| it.is_finished);
        let is_written = watch.being_written().any(|(written, _)| written == path);
        let Ok(metadata) = self.file.metadata() else { return Step::GivenUp };
        let length = metadata.len();
        if length != self.length {
            (self.length, self.grown_ns) = (length, now_ns);
        }
        if length < self.taken_bytes || length > MAX_GROWING_BYTES {
            return Step::GivenUp;
        }
        match finished {
            // The file was replaced, or none of it has been sent: it is sent as a finished segment.
            Some(file) if !is_same(&file.file, &metadata) || self.taken_bytes == 0 => Step::GivenUp,
            Some(_) => self.rest(length, symbol_bytes),
            None if !is_written || now_ns.saturating_sub(self.grown_ns) >= STALLED_NS => Step::GivenUp,
            None => {
                let is_due = self.taken_bytes == 0 || now_ns.saturating_sub(self.taken_ns) >= chunk_ns;
                if !is_due || length == self.taken_bytes {
                    return Step::Nothing;
                }
                self.next(path, length, now_ns)
            }
        }
    }

    /// Complete fragments or packets after the bytes taken so far.
    fn next(&mut self, path: &str, length: u64, now_ns: u64) -> Step {
        let Some(mut bytes) = self.read(self.taken_bytes, length) else { return Step::GivenUp };
        let is_ts = path.ends_with(".ts") && (self.taken_bytes > 0 || bytes.first() == Some(&SYNC_BYTE));
        let end =
            if is_ts { Some(bytes.len() - bytes.len() % PACKET_BYTES) } else { end_of_fragments(&bytes) };
        match end {
            None => Step::GivenUp,
            Some(0) => Step::Nothing,
            Some(end) => {
                bytes.truncate(end);
                self.take(&bytes);
                self.taken_ns = now_ns;
                Step::Piece(bytes)
            }
        }
    }

    /// The last bytes. If all have been sent, some are repeated, since the end must be marked on a piece.
    fn rest(&mut self, length: u64, symbol_bytes: u64) -> Step {
        let start =
            if length == self.taken_bytes { length.saturating_sub(symbol_bytes) } else { self.taken_bytes };
        let Some(bytes) = self.read(start, length) else { return Step::GivenUp };
        if start == self.taken_bytes {
            self.take(&bytes);
        }
        Step::Last(start, bytes)
    }

    fn take(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.taken_bytes += bytes.len() as u64;
    }

    fn read(&self, start: u64, end: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(end - start).ok()?];
        self.file.read_exact_at(&mut bytes, start).ok().map(|()| bytes)
    }
}

fn is_same(path: &Path, opened: &std::fs::Metadata) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|it| (it.dev(), it.ino()) == (opened.dev(), opened.ino()))
}

/// End of the last complete `mdat`, in bytes that begin with a box; 0 if there is none yet. `None`: not fragments.
fn end_of_fragments(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut end) = (0, 0);
    while let Some(head) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let (size, kind) = head.split_at(4);
        if !BOXES.iter().any(|known| &known[..] == kind) {
            return None;
        }
        let size = match u64::from(u32::from_be_bytes(size.try_into().ok()?)) {
            1 => match bytes.get(at + 8..).and_then(|rest| rest.first_chunk::<8>()) {
                Some(large) => u64::from_be_bytes(*large).max(16),
                None => break,
            },
            // A box that extends to the end of the file.
            0 => break,
            size => size,
        };
        if !(8..=MAX_GROWING_BYTES).contains(&size) {
            return None;
        }
        at += usize::try_from(size).ok()?;
        if at > bytes.len() {
            break;
        }
        if kind == b"mdat" {
            end = at;
        }
    }
    Some(end)
}

#[cfg(test)]
mod tests;
