//! Partial objects: one writer, many readers, invisible to lookups until published.
//!
//! It is written through the descriptor in runs, not through a mapping: see `DESIGN.md`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use carousel::digest::Digest;
use carousel::fec::{Curtain, SymbolMap};

use super::format::HEADER_BYTES;
use super::mapping::Mapping;
use super::object::{Root, Tier};
use super::{file, resume};

/// Bytes reserved in a quota until dropped.
pub(super) struct Room {
    bytes: u64,
    give_back: Box<dyn Fn(u64) + Send + Sync>,
}

impl Room {
    pub(super) fn new(bytes: u64, give_back: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self { bytes, give_back: Box::new(give_back) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        (self.give_back)(self.bytes);
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Room({})", self.bytes)
    }
}

/// The file of a partial object. Reads go through the descriptor and see everything written.
#[derive(Debug)]
pub struct Partial {
    file: File,
    tier: Tier,
    root: Arc<Root>,
    /// Its path while incomplete, if it survives a restart.
    name: Option<PathBuf>,
    curtain: Curtain,
    /// Set once its file has been published.
    is_published: AtomicBool,
    _room: Room,
}

impl Partial {
    /// Creates an unnamed file on either tier; allocates its blocks if the length is known.
    pub(super) fn anonymous(
        root: &Arc<Root>,
        tier: Tier,
        length: Option<u64>,
        room: Room,
    ) -> io::Result<Self> {
        let bytes = length.unwrap_or(0) + HEADER_BYTES as u64;
        let file = match tier {
            Tier::Memory => file::in_memory()?,
            Tier::Flash => file::anonymous(&root.folder)?,
        };
        match (tier, length) {
            // Allocate blocks now, so that a full disk is reported now.
            (Tier::Flash, Some(_)) => file::preallocate(&file, bytes)?,
            _ => file.set_len(bytes)?,
        }
        Ok(Self::new(file, tier, root, None, room))
    }

    /// Opens the file of an earlier run; `map` receives the symbols that it holds.
    pub(super) fn resumable(
        root: &Arc<Root>,
        name: PathBuf,
        length: u64,
        map: &SymbolMap,
        room: Room,
    ) -> io::Result<Self> {
        let file = resume::open(&name, length, map)?;
        Ok(Self::new(file, Tier::Flash, root, Some(name), room))
    }

    fn new(file: File, tier: Tier, root: &Arc<Root>, name: Option<PathBuf>, room: Room) -> Self {
        let root = Arc::clone(root);
        let (curtain, is_published) = (Curtain::default(), AtomicBool::new(false));
        Self { file, tier, root, name, curtain, is_published, _room: room }
    }

    /// Its tier.
    pub const fn tier(&self) -> Tier {
        self.tier
    }

    /// Whether [`Partial::checkpoint`] does anything.
    pub const fn is_resumable(&self) -> bool {
        self.name.is_some()
    }

    /// Makes the received symbols survive a power cut: `words` is `map` as it was when all its symbols were written here.
    ///
    /// # Errors
    /// What the disk said.
    pub fn checkpoint(&self, map: &SymbolMap, words: &[u64]) -> io::Result<()> {
        self.name.as_ref().map_or(Ok(()), |name| resume::checkpoint(name, &self.file, map, words))
    }

    /// Fills `out` from `offset` of the body.
    ///
    /// # Errors
    /// If the file is shorter, or cannot be read.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset + HEADER_BYTES as u64)
    }

    /// Writes into the body; extends one of unknown length.
    ///
    /// # Errors
    /// What the disk said.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_before(0, offset, bytes)
    }

    /// As [`Partial::write_at`], with `offset` counted from `before` bytes before the body: bytes before the body
    /// lie in the page that receives the header at publication. `before` is at most a page.
    ///
    /// # Errors
    /// What the disk said.
    pub fn write_before(&self, before: usize, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let body = HEADER_BYTES.checked_sub(before).ok_or(io::ErrorKind::InvalidInput)?;
        let result = self.file.write_all_at(bytes, offset + body as u64);
        if self.tier == Tier::Flash {
            match &result {
                Ok(()) => self.root.ledger.wrote(bytes.len() as u64),
                Err(err) => self.root.disk.failed(err),
            }
        }
        result
    }

    /// Hides symbols that have arrived and are not in the file yet.
    pub const fn curtain(&self) -> &Curtain {
        &self.curtain
    }

    /// Current capacity of the body.
    ///
    /// # Errors
    /// What the disk said.
    pub fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len().saturating_sub(HEADER_BYTES as u64))
    }

    /// Ends writing: the body has `length` bytes. The caller has dropped its writer.
    ///
    /// # Errors
    /// If the file cannot be mapped.
    pub fn freeze(self: Arc<Self>, length: u64) -> io::Result<Frozen> {
        let bytes = usize::try_from(length).ok().and_then(|it| it.checked_add(HEADER_BYTES));
        let bytes = bytes.ok_or(io::ErrorKind::FileTooLarge)?;
        let mapping = Mapping::read_only(&self.file, bytes)?;
        Ok(Frozen { partial: self, mapping })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Discard the file, unless it was published or the store is closing.
        if let Some(name) = &self.name
            && !self.is_published.load(Ordering::Acquire)
            && !self.root.is_closing.load(Ordering::Acquire)
        {
            resume::remove(name);
        }
    }
}

/// All bytes of an object, before publication.
#[derive(Debug)]
pub struct Frozen {
    partial: Arc<Partial>,
    mapping: Mapping,
}

impl Frozen {
    /// The body.
    pub fn as_slice(&self) -> &[u8] {
        &self.mapping.as_slice()[HEADER_BYTES..]
    }

    /// The body, and `before` bytes that were written in front of it, at most a page.
    pub fn slice_before(&self, before: usize) -> &[u8] {
        &self.mapping.as_slice()[HEADER_BYTES - before.min(HEADER_BYTES)..]
    }

    /// SHA-256 of the body.
    pub fn digest(&self) -> Digest {
        Digest::of(self.as_slice())
    }

    /// Its tier.
    pub(super) fn tier(&self) -> Tier {
        self.partial.tier
    }

    /// Writes the header and links the file; in memory there is neither.
    pub(super) fn publish(&self, header: &[u8], path: &Path) -> io::Result<Mapping> {
        let file = &self.partial.file;
        let length = self.mapping.as_slice().len();
        if self.partial.tier == Tier::Memory {
            return Mapping::read_only(file, length);
        }
        file.write_all_at(header, 0)?;
        // A growing file may have been preallocated in larger steps; repair symbols may lie behind the body.
        if file.metadata()?.len() != length as u64 {
            file.set_len(length as u64)?;
        }
        let mapping = Mapping::read_only(file, length)?;
        match &self.partial.name {
            Some(name) => {
                file::rename(name, path)?;
                self.partial.is_published.store(true, Ordering::Release);
                resume::forget_map(name);
            }
            None => file::link(file, path)?,
        }
        Ok(mapping)
    }
}
