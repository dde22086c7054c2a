//! Memory in which bodies from the air are assembled. A verified body is written to its file with one O_DIRECT call, past the page
//! cache.
//!
//! ```text
//! Unclaimed ── first byte ──▶ Arriving ── all are there ──▶ Complete ── verified, written ──▶ InFile
//!      │ no place                │ another needs its place, and it is silent
//!      └─────────────────────────┴──▶ InFile: through the page cache from here on
//! ```
//!
//! Most of what a packet costs on its way into a file are fresh pages of the page cache. A body of [`MIN_BYTES`] to a quarter of the
//! arena is assembled in memory that is used again and again instead. A finishing worker verifies it there, and then writes header and
//! body with one call, for which the disk reads that memory (O_DIRECT). The bytes of a body are either all in memory or all in its file,
//! and readers get them from there; repair symbols, which lie behind the body, are always in the file. A published body stays in
//! memory until another needs the place: a hit soon after arrival does not wait for the disk.
//!
//! Bodies for which this is impossible go through the page cache, for a [`PageCacheReason`] that is counted.
#![allow(unsafe_code)] // parts of one region of memory; the invariant is on `Region`

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError, Weak};

use carousel::reason::Counts;
use carousel::time::Instant;

use super::arriving::SILENCE;
use super::direct;
use super::file::LateFile;
use super::format::HEADER_BYTES;
use super::lock;
use super::object::{Root, StoredObject};
use crate::clock;

carousel::limits! {
    /// Memory in which bodies are assembled.
    pub const MAX_ARENA_BYTES: u64 = 32 << 20, "bytes" {
        why: "Eight segments of 4 MiB at once. Half of `[store] memory_bytes` where that is less; beside it, not part of it.",
        full: "A published body gives its place up, then one that is silent for two seconds; else the new one goes through the page cache.",
        free: "When the body has been written and another needs the place.",
        test: "bodies_beyond_the_arena_go_through_the_page_cache_and_places_come_back",
    }
}
/// Divisor of `memory_bytes`.
const ARENA_SHARE: u64 = 2;
/// Divisor of the arena: longest body that is assembled in it.
const LONGEST_SHARE: usize = 4;
/// Shortest body that is. Shorter ones wait longer for the disk than their pages cost, and the page cache writes many of them at once.
const MIN_BYTES: u64 = 128 << 10;
/// The arena is given out in multiples of these.
const GRANULE_BYTES: usize = 64 << 10;
/// Bodies that are moved to their files for one claim, since the thread that receives waits for that.
const SPILLS_PER_CLAIM: usize = 2;

carousel::reasons! {
    /// Why an arriving body for the disk went through the page cache.
    pub enum PageCacheReason in "store_page_cache_objects" by "reason" {
        /// It is too short to wait for the disk.
        Short = "short",
        /// It is longer than a quarter of the memory for arriving bodies.
        Long = "long",
        /// Other bodies have the memory.
        NoPlace = "no_place",
        /// It was silent for two seconds while another needed its place.
        Silent = "silent",
        /// Bytes before it, or across its end, were written with it.
        Across = "across",
        /// The disk was busy with another body.
        Busy = "busy",
        /// The file system refuses O_DIRECT.
        Refused = "refused",
        /// A write with O_DIRECT failed.
        Failed = "failed",
    }
}

/// The memory. Invariant: a granule belongs to at most one [`Buffer`], from the claim that marks it as taken to the drop that unmarks
/// it, and only that buffer gives out references to its bytes.
#[derive(Debug)]
struct Region {
    start: *mut u8,
    taken: Mutex<Vec<bool>>,
    /// Owner of the memory; never dereferenced.
    _map: memmap2::MmapMut,
}

// SAFETY: `start` is only used by buffers, each of which has its own part of the memory by the type's invariant.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    fn new(bytes: usize) -> Option<Arc<Self>> {
        let granules = bytes / GRANULE_BYTES;
        let mut map = (granules > 0).then(|| memmap2::MmapMut::map_anon(granules * GRANULE_BYTES).ok())??;
        // The kernel takes memory for a write piece by piece: a third of the time with large pages. Without them it works too.
        let _ = map.advise(memmap2::Advice::HugePage);
        Some(Arc::new(Self { start: map.as_mut_ptr(), taken: Mutex::new(vec![false; granules]), _map: map }))
    }

    fn bytes(&self) -> usize {
        lock(&self.taken).len() * GRANULE_BYTES
    }

    fn claim(self: &Arc<Self>, length: usize) -> Option<Buffer> {
        let count = length.div_ceil(GRANULE_BYTES);
        let mut taken = lock(&self.taken);
        let mut free = 0;
        let end = (0..taken.len()).find(|&at| {
            free = if taken[at] { 0 } else { free + 1 };
            free == count
        })? + 1;
        taken[end - count..end].fill(true);
        Some(Buffer { region: Arc::clone(self), first: end - count, length })
    }
}

/// A part of the arena, aligned to a page.
#[derive(Debug)]
pub(super) struct Buffer {
    region: Arc<Region>,
    first: usize,
    length: usize,
}

impl Buffer {
    pub(super) fn as_slice(&self) -> &[u8] {
        // SAFETY: the granules are in the arena, are this buffer's alone, and outlive the borrow; zeros from the kernel at first.
        unsafe { std::slice::from_raw_parts(self.region.start.add(self.first * GRANULE_BYTES), self.length) }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the buffer is borrowed exclusively.
        unsafe {
            std::slice::from_raw_parts_mut(self.region.start.add(self.first * GRANULE_BYTES), self.length)
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        lock(&self.region.taken)[self.first..][..self.length.div_ceil(GRANULE_BYTES)].fill(false);
    }
}

/// The memory for bodies of one store.
#[derive(Debug, Default)]
pub(super) struct Arena {
    region: Option<Arc<Region>>,
    /// Bodies that are in it, oldest first.
    bodies: Mutex<VecDeque<Weak<Body>>>,
    /// Published objects that are in it, oldest first.
    kept: Mutex<VecDeque<Weak<StoredObject>>>,
    /// Held by the one that writes past the page cache.
    pub(super) disk: Mutex<()>,
    is_refused: AtomicBool,
    /// Bodies that were written past the page cache.
    pub(super) direct: AtomicU64,
    pub(super) page_cache: Counts<PageCacheReason>,
}

/// Size of the arena of a store with so much memory for objects.
pub(super) fn size_bytes(memory_bytes: u64) -> u64 {
    (memory_bytes / ARENA_SHARE).min(MAX_ARENA_BYTES)
}

impl Arena {
    /// Memory beside the `memory_bytes` of a store. Its pages are taken when they are first used.
    pub(super) fn new(memory_bytes: u64) -> Self {
        let bytes = size_bytes(memory_bytes);
        Self { region: Region::new(usize::try_from(bytes).unwrap_or(0)), ..Self::default() }
    }

    /// Whether a body of `length` bytes that is about to arrive is to be assembled here.
    fn takes(&self, length: u64) -> bool {
        let Some(region) = &self.region else { return false };
        let refused = match length {
            _ if self.is_refused.load(Ordering::Relaxed) => PageCacheReason::Refused,
            _ if length < MIN_BYTES => PageCacheReason::Short,
            _ if length > (region.bytes() / LONGEST_SHARE) as u64 => PageCacheReason::Long,
            _ => return true,
        };
        self.page_cache.add(refused);
        false
    }

    /// Memory for a body; others that need theirs less give it up.
    fn claim(&self, length: usize) -> Option<Buffer> {
        let region = self.region.as_ref()?;
        let mut spills = 0;
        loop {
            let claimed = region.claim(length);
            if claimed.is_some() {
                return claimed;
            }
            let kept = lock(&self.kept).pop_front();
            match kept {
                Some(object) => {
                    if let Some(object) = object.upgrade() {
                        object.leave_arena();
                    }
                }
                None if spills < SPILLS_PER_CLAIM => {
                    self.take_silent(clock::now())?.spill(PageCacheReason::Silent);
                    spills += 1;
                }
                None => return None,
            }
        }
    }

    /// Adds a body that is in the memory now. Those that are gone leave the list: it has at most an entry for each granule, and for
    /// each body in its file that still arrives.
    fn list(&self, body: &Arc<Body>) {
        let mut bodies = lock(&self.bodies);
        bodies.retain(|it| it.strong_count() > 0);
        bodies.push_back(Arc::downgrade(body));
    }

    /// The oldest body that has been silent for long. One whose state is locked is being written, read or spilled.
    pub(super) fn take_silent(&self, now: Instant) -> Option<Arc<Body>> {
        let mut bodies = lock(&self.bodies);
        bodies.retain(|it| it.strong_count() > 0);
        let is_silent = |it: &Arc<Body>| {
            let at = Instant::from_nanos(it.written_at.load(Ordering::Relaxed));
            let is_arriving = || it.state.try_lock().is_ok_and(|state| matches!(*state, State::Arriving(_)));
            now.since(at) >= SILENCE && is_arriving()
        };
        let at = bodies.iter().position(|it| it.upgrade().is_some_and(|it| is_silent(&it)))?;
        bodies.remove(at)?.upgrade()
    }

    /// Bodies in the list, with those that are gone.
    #[cfg(test)]
    pub(super) fn listed(&self) -> usize {
        lock(&self.bodies).len()
    }

    /// Remembers a published object whose body is still here.
    pub(super) fn keep(&self, object: &Arc<StoredObject>) {
        let mut kept = lock(&self.kept);
        kept.retain(|it| it.strong_count() > 0);
        kept.push_back(Arc::downgrade(object));
    }

    /// Bytes of the memory that are taken.
    pub(super) fn taken_bytes(&self) -> u64 {
        let taken =
            |region: &Arc<Region>| lock(&region.taken).iter().filter(|it| **it).count() * GRANULE_BYTES;
        self.region.as_ref().map_or(0, taken) as u64
    }

    /// Writes header and body to an empty file past the page cache, or says why that was not done.
    fn write(&self, file: &File, header: &[u8], body: &[u8]) -> Result<(), PageCacheReason> {
        let _disk = match self.disk.try_lock() {
            Ok(disk) => disk,
            Err(TryLockError::Poisoned(disk)) => disk.into_inner(),
            // The next worker does not wait behind a slow disk.
            Err(TryLockError::WouldBlock) => return Err(PageCacheReason::Busy),
        };
        direct::write(file, header, body).map_err(|err| {
            if !matches!(err.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) {
                tracing::debug!(%err, "a write with O_DIRECT failed");
                return PageCacheReason::Failed;
            }
            if !self.is_refused.swap(true, Ordering::Relaxed) {
                tracing::info!(%err, "the cache's file system refuses O_DIRECT: objects go through the page cache");
            }
            PageCacheReason::Refused
        })
    }
}

#[derive(Debug)]
enum State {
    Unclaimed,
    Arriving(Buffer),
    Complete(Arc<Buffer>),
    InFile,
}

/// Place of the bytes of a body.
#[derive(Debug)]
pub(super) struct Body {
    length: usize,
    /// Created when bytes go to it: a body that is never complete, or proves wrong, costs the disk nothing.
    file: Arc<LateFile>,
    root: Arc<Root>,
    state: Mutex<State>,
    written_at: AtomicU64,
    /// Bytes were lost on their way to the file.
    is_torn: AtomicBool,
}

impl Body {
    /// A body of `length` bytes that is about to arrive, if it is to be assembled in memory.
    pub(super) fn arriving(root: &Arc<Root>, length: u64) -> Option<Arc<Self>> {
        Self::with_file(root, length, || LateFile::new(root.folder.clone()))
    }

    pub(super) fn with_file(
        root: &Arc<Root>,
        length: u64,
        file: impl FnOnce() -> LateFile,
    ) -> Option<Arc<Self>> {
        root.arena.takes(length).then_some(())?;
        Some(Arc::new(Self {
            length: usize::try_from(length).ok()?,
            file: Arc::new(file()),
            root: Arc::clone(root),
            state: Mutex::new(State::Unclaimed),
            written_at: AtomicU64::new(0),
            is_torn: AtomicBool::new(false),
        }))
    }

    pub(super) const fn file(&self) -> &Arc<LateFile> {
        &self.file
    }

    pub(super) const fn length(&self) -> u64 {
        self.length as u64
    }

    pub(super) fn is_torn(&self) -> bool {
        self.is_torn.load(Ordering::Acquire)
    }

    /// Takes bytes of the body. False: they belong in the file.
    pub(super) fn write(self: &Arc<Self>, offset: u64, bytes: &[u8]) -> bool {
        let Some(start) = self.start(offset) else { return false };
        if bytes.len() > self.length - start {
            self.spill(PageCacheReason::Across);
            return false;
        }
        let mut state = lock(&self.state);
        if matches!(*state, State::Unclaimed) {
            let arena = &self.root.arena;
            *state = match arena.claim(self.length) {
                Some(buffer) => {
                    arena.list(self);
                    State::Arriving(buffer)
                }
                None => {
                    arena.page_cache.add(PageCacheReason::NoPlace);
                    State::InFile
                }
            };
        }
        let State::Arriving(buffer) = &mut *state else { return false };
        buffer.as_mut_slice()[start..][..bytes.len()].copy_from_slice(bytes);
        self.written_at.store(clock::now().as_nanos(), Ordering::Relaxed);
        true
    }

    /// Fills the beginning of `out` with what is in memory. Returns its length; the rest is in the file.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> usize {
        let Some(start) = self.start(offset) else { return 0 };
        let state = lock(&self.state);
        let buffer = match &*state {
            State::Arriving(buffer) => buffer,
            State::Complete(buffer) => buffer,
            State::Unclaimed | State::InFile => return 0,
        };
        let count = out.len().min(self.length - start);
        out[..count].copy_from_slice(&buffer.as_slice()[start..start + count]);
        count
    }

    /// `None`: behind the body.
    fn start(&self, offset: u64) -> Option<usize> {
        usize::try_from(offset).ok().filter(|start| *start < self.length)
    }

    /// Moves a body that is not complete to its file. Bytes that are missing are written to again before anybody reads them.
    pub(super) fn spill(&self, reason: PageCacheReason) {
        let mut state = lock(&self.state);
        match &*state {
            State::Arriving(buffer) => {
                let file = self.file.get();
                match file.and_then(|file| file.write_all_at(buffer.as_slice(), HEADER_BYTES as u64)) {
                    Ok(()) => self.root.ledger.wrote(self.length()),
                    Err(err) => {
                        self.is_torn.store(true, Ordering::Release);
                        self.root.disk.failed(&err);
                    }
                }
            }
            State::Unclaimed => {}
            State::Complete(_) | State::InFile => return,
        }
        self.root.arena.page_cache.add(reason);
        *state = State::InFile;
    }

    /// All bytes have arrived. `None`: they are in the file.
    pub(super) fn complete(&self) -> Option<Arc<Buffer>> {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut *state, State::InFile) {
            State::Arriving(buffer) => {
                let buffer = Arc::new(buffer);
                *state = State::Complete(Arc::clone(&buffer));
                Some(buffer)
            }
            State::Complete(buffer) => {
                *state = State::Complete(Arc::clone(&buffer));
                Some(buffer)
            }
            State::Unclaimed | State::InFile => None,
        }
    }

    /// Writes header and body to the file. False: the body is there already.
    pub(super) fn write_out(&self, header: &[u8]) -> io::Result<bool> {
        // Readers do not wait for the disk.
        let buffer = match &*lock(&self.state) {
            State::Complete(buffer) => Arc::clone(buffer),
            State::Unclaimed | State::Arriving(_) | State::InFile => return Ok(false),
        };
        let file = self.file.get()?;
        // Repair symbols, in pages that the last block of the body would share.
        if file.metadata()?.len() > 0 {
            file.set_len(0)?;
        }
        let arena = &self.root.arena;
        match arena.write(file, header, buffer.as_slice()) {
            Ok(()) => _ = arena.direct.fetch_add(1, Ordering::Relaxed),
            Err(reason) => {
                arena.page_cache.add(reason);
                file.write_all_at(header, 0)?;
                file.write_all_at(buffer.as_slice(), HEADER_BYTES as u64)?;
            }
        }
        self.root.ledger.wrote((HEADER_BYTES + self.length) as u64);
        *lock(&self.state) = State::InFile;
        Ok(true)
    }
}
