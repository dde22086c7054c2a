//! An object on its way in: one writer, many readers, invisible in the cache until it is published.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use carousel::digest::Digest;
use carousel::flute::ObjectBuf;

use super::file;
use super::format::HEADER_BYTES;
use super::mapping::{Mapping, WriteMapping};

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
    _room: Room,
}

impl Partial {
    pub(super) fn preallocated(folder: &Path, length: u64, room: Room) -> io::Result<Self> {
        let file = file::anonymous(folder)?;
        file::preallocate(&file, length + HEADER_BYTES as u64)?;
        Ok(Self { file, _room: room })
    }

    pub(super) fn growing(folder: &Path, room: Room) -> io::Result<Self> {
        let file = file::anonymous(folder)?;
        file.set_len(HEADER_BYTES as u64)?;
        Ok(Self { file, _room: room })
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

/// The right to write to a preallocated [`Partial`] through its mapping. There is one for each.
#[derive(Debug)]
pub struct PartialWriter {
    partial: Arc<Partial>,
    map: Option<WriteMapping>,
}

impl PartialWriter {
    pub(super) fn new(partial: Partial) -> Self {
        let length = partial.file.metadata().map_or(0, |metadata| metadata.len());
        // Without address space left (32-bit boxes) writing goes through the descriptor.
        let map =
            usize::try_from(length).ok().and_then(|length| WriteMapping::new(&partial.file, length).ok());
        Self { partial: Arc::new(partial), map }
    }

    /// For readers.
    pub const fn partial(&self) -> &Arc<Partial> {
        &self.partial
    }

    /// Gives the right to write up.
    pub fn into_partial(self) -> Arc<Partial> {
        self.partial
    }
}

impl ObjectBuf for PartialWriter {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) {
        let at = usize::try_from(offset).ok().and_then(|offset| offset.checked_add(HEADER_BYTES));
        let mapped = self.map.as_ref().zip(at).is_some_and(|(map, at)| map.write(at, bytes));
        if !mapped {
            // What fails here fails the digest later: the object is then received again.
            let _ = self.partial.write_at(offset, bytes);
        }
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
