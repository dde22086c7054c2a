//! Interface of the DSM-CC receiver: storage for modules, complete files, and reasons for drops.

use std::ops::Range;
use std::sync::Arc;

use super::describe::Description;
use crate::reasons;

/// Storage for the bytes of modules under reassembly.
pub trait ModuleStorage {
    /// A module under reassembly.
    type Buf: std::fmt::Debug;
    /// A complete module.
    type Module: AsRef<[u8]> + std::fmt::Debug;

    /// Opens storage for a module of `bytes`; `None`: no room now, called again at the next block. `alone`: it seems to
    /// hold only one file.
    fn open(&mut self, bytes: u32, alone: Option<SoleFile<'_>>) -> Option<Self::Buf>;
    /// Opens storage for what a module of which all bytes are here is inflated to. `None`: no room.
    fn open_inflated(&mut self, bytes: u32) -> Option<Self::Buf> {
        self.open(bytes, None)
    }
    /// Writes bytes; offset and length are within the requested size.
    fn write(&mut self, buf: &mut Self::Buf, offset: u32, bytes: &[u8]);
    /// Closes a complete module. `None` if its bytes cannot be read back: it is received again.
    fn close(&mut self, buf: Self::Buf) -> Option<Self::Module>;
    /// Whether a file of this name and description is wanted; called before its module is received.
    fn wants(&mut self, path: &str, description: &Description) -> bool;
}

/// The only file of a module according to its directory: the module's last `length` bytes, if the directory is correct.
#[derive(Debug, Clone, Copy)]
pub struct SoleFile<'a> {
    /// Its path.
    pub path: &'a str,
    /// Its description.
    pub description: &'a Description,
    /// Its bytes; less than the module's.
    pub length: u32,
}

/// Storage in memory that accepts every file.
#[derive(Debug, Clone, Copy, Default)]
pub struct InMemory;

impl ModuleStorage for InMemory {
    type Buf = Vec<u8>;
    type Module = Vec<u8>;

    fn open(&mut self, bytes: u32, _: Option<SoleFile<'_>>) -> Option<Vec<u8>> {
        Some(vec![0; bytes as usize])
    }

    fn write(&mut self, buf: &mut Vec<u8>, offset: u32, bytes: &[u8]) {
        buf[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn close(&mut self, buf: Vec<u8>) -> Option<Vec<u8>> {
        Some(buf)
    }

    fn wants(&mut self, _: &str, _: &Description) -> bool {
        true
    }
}

/// A run of bytes of a file.
#[derive(Debug)]
pub struct Piece<W> {
    pub(super) content: Arc<W>,
    pub(super) range: Range<usize>,
}

impl<W> Clone for Piece<W> {
    fn clone(&self) -> Self {
        Self { content: Arc::clone(&self.content), range: self.range.clone() }
    }
}

impl<W: AsRef<[u8]>> Piece<W> {
    /// The module of the bytes, and their range in it.
    pub fn place(&self) -> (&W, Range<usize>) {
        (&self.content, self.range.clone())
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        (*self.content).as_ref().get(self.range.clone()).unwrap_or_default()
    }
}

/// Event of a carousel.
#[derive(Debug)]
pub enum Event<W> {
    /// A complete file.
    File(CarouselFile<W>),
    /// The gateway, its groups, or the first DII without them has been received.
    Found {
        /// downloadId of the carousel.
        download_id: u32,
        /// Whether it has a service gateway.
        is_object_carousel: bool,
    },
}

/// A complete file of a carousel.
#[derive(Debug)]
pub struct CarouselFile<W> {
    /// Its path without a leading slash, or the paths of all its parts; at least one. No segment is empty, `.` or `..`.
    pub paths: Vec<Arc<str>>,
    /// Its description.
    pub description: Description,
    /// Its bytes in consecutive pieces.
    pub pieces: Vec<Piece<W>>,
    /// The module that brought it, or the last of several.
    pub module_id: u16,
    /// Version of that module.
    pub module_version: u8,
}

impl<W: AsRef<[u8]>> CarouselFile<W> {
    /// Its path, or that of its first part.
    pub fn path(&self) -> &str {
        self.paths.first().map_or("", AsRef::as_ref)
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.range.len() as u64).sum()
    }
}

/// One module, for a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModuleState {
    /// downloadId and moduleId.
    pub id: (u32, u16),
    /// moduleVersion.
    pub version: u8,
    /// moduleSize.
    pub size: u32,
    /// Size after zlib, if it is compressed.
    pub original_size: Option<u32>,
    /// Number of its blocks.
    pub blocks: u32,
    /// Number of missing blocks; 0 for a complete module.
    pub missing: u32,
}

reasons! {
    /// Why a part of a DSM-CC carousel is dropped.
    pub enum CarouselDrop in "transport_dropped" by "reason" {
        /// The message does not follow ISO/IEC 13818-6.
        Message = "message",
        /// A block arrived before the DII that describes its module, beyond the bytes kept for such blocks.
        EarlyBlock = "early_block",
        /// The block belongs to another version of the module than the DII describes.
        OtherVersion = "other_version",
        /// The block has a number or a length that its module does not have.
        BlockLength = "block_length",
        /// The DII was the least recently repeated one when the limit on DIIs or on modules was reached.
        TooManyInfos = "too_many_infos",
        /// The carousel has more modules than the limit.
        TooManyModules = "too_many_modules",
        /// The module needs more blocks than blockNumber can count.
        ModuleSize = "module_size",
        /// Storage has no room for the module, or too many modules are being reassembled.
        NoRoom = "no_room",
        /// The module was no longer sent, and its place was needed.
        Idle = "idle",
        /// The CRC_32 of the complete module is wrong.
        ModuleCrc = "module_crc",
        /// The module is not a zlib stream of the size that its DII gives.
        Inflate = "inflate",
        /// The BIOP message does not follow ISO/IEC 13818-6.
        Biop = "biop",
        /// The name cannot be part of a path.
        BadName = "bad_name",
        /// The directory contains itself, or is nested too deeply.
        Loop = "loop",
        /// The carousel has more files or directory entries than the limit.
        TooManyNames = "too_many_names",
        /// The object is part of another carousel.
        Elsewhere = "elsewhere",
        /// The parts of the object do not add up to the object they describe.
        Parts = "parts",
        /// The complete module waited too long for the directory that names its files.
        HeldTooLong = "held_too_long",
        /// Signatures are asked for, and no signed list names the message, directories or file.
        Unsigned = "unsigned",
        /// The module with directories is not the one of the signed list.
        Forged = "forged",
    }
}
