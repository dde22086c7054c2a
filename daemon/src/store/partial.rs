//! Partial objects: one writer, many readers, invisible to lookups until published.
//!
//! Bodies are written in runs through the descriptor, not through a mapping: see `DESIGN.md`.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use carousel::digest::Digest;
use carousel::fec::{ReadLimit, SymbolMap};
use event_listener::{Event, EventListener};

use super::arena::{Body, PageCacheReason};
use super::arriving::Arriving;
use super::disk::DiskState;
use super::file::{LateFile, UnnamedFile};
use super::format::HEADER_BYTES;
use super::growing::{Grown, Growth};
use super::mapping::Mapping;
use super::object::{Root, Tier};
use super::{file, resume};

/// Offset of the body in its file.
pub const BODY_AT: u64 = HEADER_BYTES as u64;

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
    file: Arc<LateFile>,
    /// Its body, if it is assembled in memory.
    body: Option<Arc<Body>>,
    tier: Tier,
    root: Arc<Root>,
    /// Its path while incomplete, if it survives a restart.
    name: Option<PathBuf>,
    read_limit: ReadLimit,
    /// Set once its file has been published.
    is_published: AtomicBool,
    _room: Option<Room>,
    /// The reservation of an arriving object.
    arriving: Option<Arriving>,
    /// A write failed: bytes are missing in the file.
    is_torn: AtomicBool,
    /// Writes under way, and [`FROZEN`].
    writes: AtomicUsize,
    /// State of a body of unknown length.
    growth: Option<Growth>,
    readers: Mutex<Readers>,
    /// A reader has come, gone, or continued.
    read_on: Event,
}

/// In [`Partial::writes`]: nothing is written any more.
const FROZEN: usize = 1 << (usize::BITS - 1);

/// Readers of a partial object, by number: the offset that each reads next.
#[derive(Debug, Default)]
struct Readers {
    offsets: HashMap<u64, u64>,
    next: u64,
}

/// Positions of the readers of a pass-through body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Offset of the one that is furthest behind.
    pub slowest: u64,
    /// One has read everything and waits.
    pub is_awaited: bool,
}

/// A reader of a partial object.
#[derive(Debug)]
pub struct Reader {
    partial: Arc<Partial>,
    number: u64,
}

impl Reader {
    /// Records the offset that it reads next.
    pub fn is_at(&self, offset: u64) {
        self.partial.readers().offsets.insert(self.number, offset);
        self.partial.read_on.notify(usize::MAX);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.partial.readers().offsets.remove(&self.number);
        self.partial.read_on.notify(usize::MAX);
    }
}

impl Partial {
    fn unnamed(root: &Arc<Root>, tier: Tier) -> io::Result<UnnamedFile> {
        match tier {
            Tier::Memory => file::in_memory().map(Into::into),
            Tier::Flash => file::anonymous(&root.folder),
        }
    }

    /// Creates an unnamed file on either tier, whose blocks are allocated when they are written. On flash the body is assembled in
    /// memory if [`arena`](super::arena) takes it, and the file is created when that is complete.
    pub(super) fn arriving(
        root: &Arc<Root>,
        tier: Tier,
        length: u64,
        arriving: Arriving,
    ) -> io::Result<Self> {
        // A disk that has failed is tried by creating a file at once.
        let is_for_disk = tier == Tier::Flash && root.disk.state() == DiskState::Fine;
        let body = if is_for_disk { Body::arriving(root, length) } else { None };
        let mut partial = match &body {
            Some(body) => Self::with_file(Arc::clone(body.file()), tier, root, None, None),
            None => {
                let file = Self::unnamed(root, tier)?;
                file.set_len(length + HEADER_BYTES as u64)?;
                Self::new(file, tier, root, None, None)
            }
        };
        partial.arriving = Some(arriving);
        partial.body = body;
        Ok(partial)
    }

    /// Creates an unnamed file on either tier and allocates its blocks.
    pub(super) fn anonymous(root: &Arc<Root>, tier: Tier, length: u64, room: Room) -> io::Result<Self> {
        let bytes = length + HEADER_BYTES as u64;
        let file = Self::unnamed(root, tier)?;
        match tier {
            // Allocate blocks now, so that a full disk is reported now.
            Tier::Flash => file::preallocate(&file, bytes)?,
            Tier::Memory => file.set_len(bytes)?,
        }
        Ok(Self::new(file, tier, root, None, Some(room)))
    }

    /// A file in memory for a body of unknown length.
    pub(super) fn growing(root: &Arc<Root>, growth: Growth) -> io::Result<Self> {
        let file = file::in_memory()?;
        file.set_len(HEADER_BYTES as u64)?;
        let mut partial = Self::new(file.into(), Tier::Memory, root, None, None);
        partial.growth = Some(growth);
        Ok(partial)
    }

    /// Whether its length is unknown.
    pub const fn is_growing(&self) -> bool {
        self.growth.is_some()
    }

    /// Makes room for a body of unknown length that has `written` bytes and is about to have `end`.
    pub fn grow(&self, written: u64, end: u64) -> Grown {
        let Some(growth) = &self.growth else { return Grown::Kept };
        self.file.get().map_or(Grown::Passing, |file| growth.grow(file, written, end))
    }

    /// The file that the bytes are in now.
    fn file(&self) -> io::Result<&UnnamedFile> {
        self.growth.as_ref().and_then(Growth::moved).map_or_else(|| self.file.get(), Ok)
    }

    /// Registers a reader at `offset`, until the value is dropped.
    pub fn reader(self: &Arc<Self>, offset: u64) -> Reader {
        let mut readers = self.readers();
        readers.next += 1;
        let number = readers.next;
        readers.offsets.insert(number, offset);
        drop(readers);
        Reader { partial: Arc::clone(self), number }
    }

    /// The readers of a pass-through body of which `written` bytes have come, without those that it has overrun. `None`: there
    /// are none.
    pub fn pace(&self, written: u64) -> Option<Pace> {
        let is_overrun = |at: u64| self.growth.as_ref().is_some_and(|growth| growth.is_overrun(at, written));
        let readers = self.readers();
        let offsets = || readers.offsets.values().copied().filter(|&at| !is_overrun(at));
        Some(Pace { slowest: offsets().min()?, is_awaited: offsets().any(|at| at >= written) })
    }

    /// Number of readers now, and whether there ever was one.
    pub fn readers_now_and_ever(&self) -> (usize, bool) {
        let readers = self.readers();
        (readers.offsets.len(), readers.next > 0)
    }

    /// Completes when a reader comes, goes, or continues. Check after this call and before waiting.
    pub fn listen_readers(&self) -> EventListener {
        self.read_on.listen()
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        // Each change is one insertion or removal, so a panic elsewhere leaves the table consistent.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the file of an earlier run; `map` receives the symbols that it holds.
    pub(super) fn resumable(
        root: &Arc<Root>,
        name: PathBuf,
        length: u64,
        map: &SymbolMap,
        arriving: Arriving,
    ) -> io::Result<Self> {
        let file = resume::open(&name, length, map)?;
        let mut partial = Self::new(file.into(), Tier::Flash, root, Some(name), None);
        partial.arriving = Some(arriving);
        Ok(partial)
    }

    /// Whether bytes are missing because its room was taken for others or a write failed. It cannot be read from then on.
    pub fn is_lost(&self) -> bool {
        self.is_torn.load(Ordering::Acquire)
            || self.body.as_ref().is_some_and(|body| body.is_torn())
            || self.arriving.as_ref().is_some_and(Arriving::is_lost)
    }

    fn new(
        file: UnnamedFile,
        tier: Tier,
        root: &Arc<Root>,
        name: Option<PathBuf>,
        room: Option<Room>,
    ) -> Self {
        Self::with_file(Arc::new(LateFile::of(file)), tier, root, name, room)
    }

    fn with_file(
        file: Arc<LateFile>,
        tier: Tier,
        root: &Arc<Root>,
        name: Option<PathBuf>,
        room: Option<Room>,
    ) -> Self {
        let root = Arc::clone(root);
        let (read_limit, is_published) = (ReadLimit::default(), AtomicBool::new(false));
        Self {
            file,
            body: None,
            tier,
            root,
            name,
            read_limit,
            is_published,
            _room: room,
            arriving: None,
            is_torn: AtomicBool::new(false),
            writes: AtomicUsize::new(0),
            growth: None,
            readers: Mutex::default(),
            read_on: Event::new(),
        }
    }

    /// Its tier.
    pub fn tier(&self) -> Tier {
        let has_moved = self.growth.as_ref().is_some_and(|growth| growth.moved().is_some());
        if has_moved { Tier::Flash } else { self.tier }
    }

    /// Whether its file exists: if not, the disk was not used yet.
    pub(super) fn has_file(&self) -> bool {
        self.file.exists()
    }

    /// Whether [`Partial::checkpoint`] does anything.
    pub const fn is_resumable(&self) -> bool {
        self.name.is_some()
    }

    /// Makes the received symbols survive a power cut: `words` is `map` as it was when all its symbols were written here.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn checkpoint(&self, map: &SymbolMap, words: &[u64]) -> io::Result<()> {
        self.name.as_ref().map_or(Ok(()), |name| resume::checkpoint(name, self.file.get()?, map, words))
    }

    /// Fills `out` from `offset` of the body.
    ///
    /// # Errors
    /// If the file is shorter, cannot be read, or is lost.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let read = self.read_anyway(offset, out);
        // Checked after the read: bytes that were announced and not written read as zeros.
        if self.is_lost() { Err(io::Error::other("the object is given up")) } else { read }
    }

    fn read_anyway(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = self.body.as_ref().map_or(0, |body| body.read(offset, out));
        let (offset, out) = (offset + there as u64, &mut out[there..]);
        if out.is_empty() {
            return Ok(());
        }
        let passing_from = self.growth.as_ref().map_or(u64::MAX, Growth::passing_from);
        let kept = usize::try_from(passing_from.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (before, behind) = out.split_at_mut(kept);
        self.file()?.read_exact_at(before, offset + HEADER_BYTES as u64)?;
        match &self.growth {
            Some(growth) if !behind.is_empty() => growth.read_passing(offset + kept as u64, behind),
            _ => Ok(()),
        }
    }

    /// Writes into the body; extends one of unknown length.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_before(0, offset, bytes)
    }

    /// As [`Partial::write_at`], with `offset` counted from `before` bytes before the body: bytes before the body
    /// lie in the page that receives the header at publication. `before` is at most a page.
    ///
    /// # Errors
    /// Those of the disk, and if writing was ended.
    pub fn write_before(&self, before: usize, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let body = HEADER_BYTES.checked_sub(before).ok_or(io::ErrorKind::InvalidInput)?;
        let _write = self.begin_write()?;
        if let Some(growth) = self.growth.as_ref().filter(|growth| growth.passing_from() <= offset) {
            return growth.pass(offset, bytes);
        }
        if let Some(arriving) = &self.arriving {
            arriving.take(bytes.len() as u64)?;
        }
        if let Some(body) = &self.body {
            if before > 0 {
                body.spill(PageCacheReason::Across);
            } else if body.write(offset, bytes) {
                return Ok(());
            }
        }
        let result = self.file().and_then(|file| file.write_all_at(bytes, offset + body as u64));
        if result.is_err() {
            self.is_torn.store(true, Ordering::Release);
        }
        if self.tier() == Tier::Flash {
            match &result {
                Ok(()) => self.root.ledger.wrote(bytes.len() as u64),
                Err(err) => self.root.disk.failed(err),
            }
        }
        result
    }

    /// Registers a write. Fails if the body is frozen; until the value is dropped, it is not frozen.
    pub(super) fn begin_write(&self) -> io::Result<Write<'_>> {
        let write = Write(&self.writes);
        if self.writes.fetch_add(1, Ordering::AcqRel) & FROZEN != 0 {
            return Err(io::Error::other("the object is complete: nothing is written to it any more"));
        }
        Ok(write)
    }

    /// The limit that hides received symbols that are not in the file yet.
    pub const fn read_limit(&self) -> &ReadLimit {
        &self.read_limit
    }

    /// Current capacity of the body.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn length(&self) -> io::Result<u64> {
        if let Some(body) = &self.body {
            return Ok(body.length());
        }
        Ok(self.file()?.metadata()?.len().saturating_sub(HEADER_BYTES as u64))
    }

    /// Ends writing: the body has `length` bytes. The caller has dropped its writer; writes are refused from here on.
    ///
    /// # Errors
    /// If the file cannot be mapped, is lost, or is being written to.
    pub fn freeze(self: Arc<Self>, length: u64) -> io::Result<Frozen> {
        self.freeze_with(length, |partial, length| {
            let buffer = partial.body.as_ref().and_then(|body| body.complete());
            // The file of a body in memory is created here: the first that the disk knows of it.
            let file = partial.file().inspect_err(|err| partial.root.disk.failed(err))?;
            match buffer {
                Some(buffer) => Mapping::of_buffer(file, buffer, length),
                None => Mapping::of_body(file, length),
            }
        })
    }

    /// As [`Partial::freeze`], with a copy of the `before` bytes that [`Partial::write_before`] has put before the body.
    ///
    /// # Errors
    /// As for [`Partial::freeze`].
    pub fn freeze_before(self: Arc<Self>, before: usize, length: u64) -> io::Result<Frozen> {
        self.freeze_with(length, |partial, length| {
            if let Some(body) = &partial.body {
                body.spill(PageCacheReason::Across);
            }
            Mapping::with_head(partial.file()?, before, length)
        })
    }

    fn freeze_with(
        self: Arc<Self>,
        length: u64,
        map: impl FnOnce(&Self, usize) -> io::Result<Mapping>,
    ) -> io::Result<Frozen> {
        if self.writes.fetch_or(FROZEN, Ordering::AcqRel) & !FROZEN != 0 {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let is_there = self.arriving.as_ref().is_none_or(Arriving::complete) && !self.is_lost();
        if !is_there {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mapping = map(&self, length)?;
        // Another thread may have failed meanwhile to move the body to its file.
        if self.is_lost() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(Frozen { partial: self, mapping })
    }
}

/// A write under way.
pub(super) struct Write<'a>(&'a AtomicUsize);

impl Drop for Write<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // A published one has given its name back.
        let Some(name) = self.name.as_ref().filter(|_| !self.is_published.load(Ordering::Acquire)) else {
            return;
        };
        // Discard the file, unless the store is closing.
        if !self.root.is_closing.load(Ordering::Acquire) {
            resume::remove(name);
        }
        self.root.give_name_back(name);
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
        self.mapping.as_slice()
    }

    /// The body, and what [`Partial::freeze_before`] has copied from before it.
    pub fn with_copied_head(&self) -> &[u8] {
        self.mapping.with_copied_head()
    }

    /// SHA-256 of the body.
    pub fn digest(&self) -> Digest {
        Digest::of(self.as_slice())
    }

    /// Its tier.
    pub(super) fn tier(&self) -> Tier {
        self.partial.tier()
    }

    /// Writes header and body to the file, if the body is in memory that it was assembled in. May wait for the disk. False: neither was
    /// written.
    pub(super) fn write_out(&self, header: &[u8]) -> io::Result<bool> {
        self.partial.body.as_ref().map_or(Ok(false), |body| body.write_out(header))
    }

    /// Writes the header, unless [`Frozen::write_out`] has, and links the file; in memory there is neither.
    pub(super) fn publish(&self, header: &[u8], has_header: bool, path: &Path) -> io::Result<Mapping> {
        let file = self.partial.file()?;
        let length = self.mapping.as_slice().len();
        if self.partial.tier() == Tier::Memory {
            return Mapping::of_body(file, length);
        }
        if !has_header {
            file.write_all_at(header, 0)?;
        }
        // A growing file may have been preallocated in larger steps; repair symbols may lie behind the body.
        let end = (length + HEADER_BYTES) as u64;
        if file.metadata()?.len() != end {
            file.set_len(end)?;
        }
        let mapping = self.mapping.of_written(file, length)?;
        match &self.partial.name {
            Some(name) => {
                file::rename(name, path)?;
                self.partial.is_published.store(true, Ordering::Release);
                resume::forget_map(name);
                self.partial.root.give_name_back(name);
            }
            None => file::link(file, path)?,
        }
        Ok(mapping)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Arrival;
    use super::super::testing::open;
    use super::*;

    #[test]
    fn a_body_that_is_lost_while_it_is_frozen_is_not_published() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let partial = Arc::new(store.create_arriving(1000, Arrival::default()).unwrap());
        partial.write_at(0, &[7; 1000]).unwrap();
        // As a thread does that fails to move the body to its file.
        let frozen = partial.freeze_with(1000, |partial, length| {
            partial.is_torn.store(true, Ordering::Release);
            Mapping::of_body(partial.file()?, length)
        });
        assert_eq!(frozen.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
