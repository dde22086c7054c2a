//! An object on its way in: one writer, many readers, invisible in the cache until it is published.
//!
//! It is written through the descriptor in runs, not through a mapping: see `DESIGN.md`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use carousel::digest::Digest;

use super::file;
use super::format::HEADER_BYTES;
use super::mapping::Mapping;

/// Bytes that are counted against the quota for as long as this lives.
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

/// The file of an object on its way in. Reading goes through the descriptor and sees whatever has been written.
#[derive(Debug)]
pub struct Partial {
    file: File,
    /// See [`Partial::hide_from`].
    hidden_from: AtomicU64,
    _room: Room,
}

impl Partial {
    pub(super) fn preallocated(folder: &Path, length: u64, room: Room) -> io::Result<Self> {
        let file = file::anonymous(folder)?;
        file::preallocate(&file, length + HEADER_BYTES as u64)?;
        Ok(Self { file, hidden_from: AtomicU64::new(u64::MAX), _room: room })
    }

    pub(super) fn growing(folder: &Path, room: Room) -> io::Result<Self> {
        let file = file::anonymous(folder)?;
        file.set_len(HEADER_BYTES as u64)?;
        Ok(Self { file, hidden_from: AtomicU64::new(u64::MAX), _room: room })
    }

    /// Fills `out` from `offset` of the body.
    ///
    /// # Errors
    /// If the file ends before, or cannot be read.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset + HEADER_BYTES as u64)
    }

    /// Writes into the body; a growing one becomes longer.
    ///
    /// # Errors
    /// What the disk said.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset + HEADER_BYTES as u64)
    }

    /// Bytes from `offset` on may be in somebody's buffer still, whatever a symbol map says. Called before the map is
    /// told; `u64::MAX` when they are written.
    pub fn hide_from(&self, offset: u64) {
        self.hidden_from.store(offset, Ordering::Release);
    }

    /// Bytes before this are in the file if they have arrived. Look at the symbol map first, then at this: who sees a
    /// symbol there sees here that it is hidden, or finds it in the file.
    pub fn hidden_from(&self) -> u64 {
        self.hidden_from.load(Ordering::Acquire)
    }

    /// Bytes that the body has room for now.
    ///
    /// # Errors
    /// What the disk said.
    pub fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len().saturating_sub(HEADER_BYTES as u64))
    }

    /// No more is written: `length` bytes are there. The caller holds no writer any more.
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

/// All bytes of an object, before it is published.
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

    /// SHA-256 of the body.
    pub fn digest(&self) -> Digest {
        Digest::of(self.as_slice())
    }

    pub(super) fn publish(&self, header: &[u8], path: &Path) -> io::Result<Mapping> {
        let file = &self.partial.file;
        file.write_all_at(header, 0)?;
        let length = self.mapping.as_slice().len();
        // A growing file may have been preallocated in larger steps.
        if file.metadata()?.len() != length as u64 {
            file.set_len(length as u64)?;
        }
        let mapping = Mapping::read_only(file, length)?;
        file::link(file, path)?;
        Ok(mapping)
    }
}
