//! A published object, on either tier.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use carousel::digest::StreamDigest;
use carousel::time::{Instant, WallTime};

use super::arena::Arena;
use super::disk::Disk;
use super::file;
use super::format::{self, HEADER_BYTES, ObjectMeta};
use super::ledger::Ledger;
use super::lock;
use super::mapping::Mapping;
use crate::caching::Staleness;
use crate::clock;

carousel::limits! {
    /// Mapped files of a store.
    const MAX_MAPPINGS: usize = 4_096, "mappings" {
        why: "Objects that are read at the same time; each takes addresses and a descriptor.",
        full: "The oldest mapping makes room, counted as `store_dropped_mappings`; its object is mapped again when it is read next.",
        free: "When an object leaves the cache, or its mapping makes room.",
        test: "mappings_are_bounded_and_come_back",
    }

    /// Mapped files of a store on a 32-bit machine.
    const MAX_MAPPINGS_32: usize = 256, "mappings" {
        why: "It has 3 GiB of addresses; segments have some 4 MiB.",
        full: "As for MAX_MAPPINGS.",
        free: "As for MAX_MAPPINGS.",
        test: "mappings_are_bounded_and_come_back",
    }
}
/// Mapped files of this machine.
pub(super) const MOST_MAPPINGS: usize = match () {
    // A test process has 1024 descriptors for everything.
    () if cfg!(test) => 512,
    () if cfg!(target_pointer_width = "64") => MAX_MAPPINGS,
    () => MAX_MAPPINGS_32,
};
/// Bytes read at a time to verify an object.
const READ_BYTES: usize = 256 << 10;

/// Time for which pages seen in memory are assumed to stay there.
const WARM_FOR: Duration = Duration::from_secs(1);

/// Location of an object's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// A file of the store's folder.
    Flash,
    /// A file in memory, lost with the process.
    Memory,
}

impl Tier {
    /// Both, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Flash, Self::Memory];

    /// Name in JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flash => "flash",
            Self::Memory => "memory",
        }
    }
}

/// State shared by all objects of a store.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) folder: PathBuf,
    pub(super) disk: Disk,
    pub(super) ledger: Ledger,
    pub(super) arena: Arena,
    /// Set before a stop: partials are kept, to be resumed at the next start.
    pub(super) is_closing: AtomicBool,
    mapped: Mutex<Mapped>,
    /// Files of resumable partials that are open. Each has one owner: a second one would write into what the first has verified.
    open_names: Mutex<BTreeSet<PathBuf>>,
}

/// Objects whose files are mapped, oldest mapping first.
#[derive(Debug)]
struct Mapped {
    objects: VecDeque<Weak<StoredObject>>,
    /// Number of entries at which those of dropped objects are removed: a weak reference keeps the memory of its object.
    sweep_at: usize,
    /// Mappings that made room for others.
    dropped: u64,
}

/// Minimum of `sweep_at`.
const LEAST_SWEPT: usize = 64;

impl Root {
    pub(super) fn new(folder: PathBuf, disk: Disk, ledger: Ledger, arena: Arena) -> Self {
        let mapped = Mutex::new(Mapped { objects: VecDeque::new(), sweep_at: LEAST_SWEPT, dropped: 0 });
        let open_names = Mutex::new(BTreeSet::new());
        Self { folder, disk, ledger, arena, is_closing: AtomicBool::new(false), mapped, open_names }
    }

    /// Takes the file of a resumable partial for its owner. False: another partial has it.
    pub(super) fn take_name(&self, name: &Path) -> bool {
        lock(&self.open_names).insert(name.to_owned())
    }

    /// Gives the file of a resumable partial back, which is closed or has another name by now.
    pub(super) fn give_name_back(&self, name: &Path) {
        lock(&self.open_names).remove(name);
    }

    /// Records a new mapping; the oldest beyond [`MOST_MAPPINGS`] is dropped. Slices in use keep theirs.
    fn mapped(&self, object: &Arc<StoredObject>) {
        let mut mapped = lock(&self.mapped);
        let Mapped { objects, sweep_at, dropped } = &mut *mapped;
        objects.push_back(Arc::downgrade(object));
        if objects.len() >= *sweep_at {
            objects.retain(|it| it.strong_count() > 0);
            *sweep_at = (2 * objects.len()).max(LEAST_SWEPT);
            objects.shrink_to(*sweep_at);
        }
        while objects.len() > MOST_MAPPINGS {
            if let Some(oldest) = objects.pop_front().and_then(|it| it.upgrade()) {
                *dropped += u64::from(lock(&oldest.mapping).take().is_some());
            }
        }
    }

    /// Mappings that made room for others since the start.
    pub(super) fn dropped_mappings(&self) -> u64 {
        lock(&self.mapped).dropped
    }
}

/// The mapped bytes of an object, and their file.
#[derive(Debug, Clone)]
pub struct View {
    mapping: Arc<Mapping>,
    tier: Tier,
}

impl View {
    /// Bytes of the body, without copying; `None` if the range is outside.
    pub fn bytes(&self, range: Range<u64>) -> Option<Bytes> {
        self.mapping.slice(in_memory(&range)?)
    }

    /// Offset in the file of a byte returned by [`View::bytes`], by its address.
    pub fn offset_of(&self, address: usize) -> Option<u64> {
        self.mapping.offset_in_file(address)
    }

    /// Whether these bytes can be sent without waiting for the disk.
    pub fn is_resident(&self, range: Range<u64>) -> bool {
        self.tier == Tier::Memory || in_memory(&range).is_some_and(|range| self.mapping.is_resident(range))
    }

    /// Reads these bytes into the page cache, waiting for the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn warm(&self, range: Range<u64>) -> io::Result<()> {
        let file = File::from(self.mapping.file().try_clone()?);
        read_pieces(&file, range, |_| {})
    }
}

impl AsFd for View {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mapping.file().as_fd()
    }
}

/// Reads a range of the body through the descriptor, piece by piece, so that read errors are reported.
fn read_pieces(file: &File, range: Range<u64>, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let (mut offset, end) = (range.start + HEADER_BYTES as u64, range.end + HEADER_BYTES as u64);
    while offset < end {
        let count = READ_BYTES.min(usize::try_from(end - offset).unwrap_or(READ_BYTES));
        file.read_exact_at(&mut buffer[..count], offset)?;
        take(&buffer[..count]);
        offset += count as u64;
    }
    Ok(())
}

/// A range of the body as one of the addresses' size.
fn in_memory(range: &Range<u64>) -> Option<Range<usize>> {
    Some(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

/// Update interval of a live manifest, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveFacts {
    /// Freshness where its origin gives none.
    pub fresh_ms: u64,
    /// Duration of its segments.
    pub target_ms: u64,
    /// The manifest signals its update interval (`MPD@minimumUpdatePeriod`).
    pub is_renewed: bool,
}

/// A complete, verified object. Its bytes stay readable while this value exists, evicted or not.
#[derive(Debug)]
pub struct StoredObject {
    pub(super) meta: ObjectMeta,
    tier: Tier,
    root: Arc<Root>,
    /// Always set for objects in memory; for objects on flash while among the most recently used.
    mapping: Mutex<Option<Arc<Mapping>>>,
    /// Set when the bytes are known to match the digest: published in this run, or checked after an unclean stop.
    pub(super) verified: AtomicBool,
    /// Number of uses.
    pub(super) uses: AtomicU32,
    /// Removed from the index, or replaced there.
    has_left: AtomicBool,
    /// When all its pages were last seen in memory, on the daemon's clock.
    warm_ns: AtomicU64,
    /// State of a live manifest.
    live: OnceLock<Option<LiveFacts>>,
    /// Somebody examines it for being a manifest.
    is_being_read: AtomicBool,
    /// It belongs to a live service, and is never promoted to the disk.
    is_live: AtomicBool,
    /// It has replaced other bytes under its key.
    has_changed: AtomicBool,
    /// Time at which a session last offered the same bytes again, in milliseconds since 1970; 0: never.
    offered_ms: AtomicI64,
}

impl StoredObject {
    /// An object whose file exists and is not mapped yet.
    pub(super) fn found(meta: ObjectMeta, root: &Arc<Root>, is_verified: bool) -> Arc<Self> {
        Arc::new(Self::new(meta, Tier::Flash, root, None, is_verified))
    }

    /// An object that was just published.
    pub(super) fn published(meta: ObjectMeta, tier: Tier, root: &Arc<Root>, mapping: Mapping) -> Arc<Self> {
        let is_in_arena = mapping.is_in_arena();
        let object = Arc::new(Self::new(meta, tier, root, Some(Arc::new(mapping)), true));
        if is_in_arena {
            root.arena.keep(&object);
        } else if tier == Tier::Flash {
            root.mapped(&object);
        }
        object
    }

    fn new(
        meta: ObjectMeta,
        tier: Tier,
        root: &Arc<Root>,
        mapping: Option<Arc<Mapping>>,
        is_verified: bool,
    ) -> Self {
        Self {
            meta,
            tier,
            root: Arc::clone(root),
            mapping: Mutex::new(mapping),
            verified: AtomicBool::new(is_verified),
            uses: AtomicU32::new(0),
            has_left: AtomicBool::new(false),
            warm_ns: AtomicU64::new(0),
            live: OnceLock::new(),
            is_being_read: AtomicBool::new(false),
            is_live: AtomicBool::new(false),
            has_changed: AtomicBool::new(false),
            offered_ms: AtomicI64::new(0),
        }
    }

    /// The same bytes with other metadata.
    pub fn with_meta(&self, meta: ObjectMeta) -> Arc<Self> {
        let is_verified = self.verified.load(Ordering::Acquire);
        let fresh = Self::new(meta, self.tier, &self.root, None, is_verified);
        let fresh = Self {
            mapping: Mutex::new(lock(&self.mapping).clone()),
            uses: AtomicU32::new(self.uses()),
            live: self.live.clone(),
            is_live: AtomicBool::new(self.is_live()),
            has_changed: AtomicBool::new(self.has_changed()),
            offered_ms: AtomicI64::new(self.offered_ms.load(Ordering::Relaxed)),
            ..fresh
        };
        let fresh = Arc::new(fresh);
        let is_in_arena = lock(&fresh.mapping).as_ref().map(|it| it.is_in_arena());
        match is_in_arena {
            Some(true) => fresh.root.arena.keep(&fresh),
            Some(false) if fresh.tier == Tier::Flash => fresh.root.mapped(&fresh),
            Some(false) | None => {}
        }
        fresh
    }

    /// Gives up the memory in which its body was assembled; from here on it is read from its file, which may have lost its name.
    pub(super) fn leave_arena(self: &Arc<Self>) {
        let assembled = lock(&self.mapping).clone().filter(|it| it.is_in_arena());
        let Some(assembled) = assembled else { return };
        let mapped = assembled.of_file().ok().map(Arc::new);
        let is_mapped = mapped.is_some();
        // Its pages are not in the page cache.
        self.warm_ns.store(0, Ordering::Relaxed);
        *lock(&self.mapping) = mapped;
        if is_mapped {
            self.root.mapped(self);
        }
    }

    /// Records whether the object is a live manifest.
    pub fn set_live(&self, live: Option<LiveFacts>) {
        let _ = self.live.set(live);
        if live.is_some() {
            self.is_live.store(true, Ordering::Relaxed);
        }
    }

    /// Records that a session offers the same bytes again, which are not received again.
    pub fn offer(&self, at: WallTime) {
        self.offered_ms.store(at.unix_ms(), Ordering::Relaxed);
    }

    /// Time at which it came, or was last offered.
    pub fn last_offered(&self) -> WallTime {
        self.meta.received_at.max(WallTime::from_unix_ms(self.offered_ms.load(Ordering::Relaxed)))
    }

    /// Marks the object as one that has replaced other bytes under its key.
    pub fn mark_changed(&self) {
        self.has_changed.store(true, Ordering::Relaxed);
    }

    /// Whether it has replaced other bytes under its key.
    pub fn has_changed(&self) -> bool {
        self.has_changed.load(Ordering::Relaxed)
    }

    /// Marks the object as part of a live service.
    pub fn mark_live(&self) {
        self.is_live.store(true, Ordering::Relaxed);
    }

    /// Whether it is part of a live service.
    pub fn is_live(&self) -> bool {
        self.is_live.load(Ordering::Relaxed)
    }

    /// Whether it has been examined for being a manifest.
    pub fn is_read(&self) -> bool {
        self.live.get().is_some()
    }

    /// Whether the caller is the one to examine it for being a manifest: true once, if it has not been.
    pub fn begin_reading(&self) -> bool {
        !self.is_read() && !self.is_being_read.swap(true, Ordering::Relaxed)
    }

    /// Update interval, if it is a live manifest.
    pub fn live(&self) -> Option<LiveFacts> {
        self.live.get().copied().flatten()
    }

    /// Time at which it becomes stale. A carousel's live manifest does after two target durations, regardless of its FDT:
    /// a newer one is due by then.
    pub fn expires(&self) -> Option<WallTime> {
        match (&self.meta.response, self.live()) {
            (None, Some(live)) => {
                let two_targets_ms = i64::try_from(live.target_ms.saturating_mul(2)).unwrap_or(i64::MAX);
                Some(WallTime::from_unix_ms(self.meta.received_at.unix_ms().saturating_add(two_targets_ms)))
            }
            _ => self.meta.expires,
        }
    }

    /// Permitted uses while it is stale.
    pub fn staleness(&self, now: WallTime) -> Staleness {
        let target_ms = self.live().map(|live| live.target_ms);
        Staleness::of(&self.meta.fields(), self.expires().map_or(now, clock::current), now, target_ms)
    }

    /// Marks it as removed from the index or replaced there.
    pub(super) fn leave(&self) {
        self.has_left.store(true, Ordering::Release);
    }

    /// Records that all its pages are in memory.
    pub fn is_warm(&self, now: Instant) {
        self.warm_ns.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// Whether they were recently: pages just used stay in memory.
    pub fn was_warm(&self, now: Instant) -> bool {
        let at = self.warm_ns.load(Ordering::Relaxed);
        at > 0 && now.as_nanos().saturating_sub(at) < WARM_FOR.as_nanos() as u64
    }

    /// Whether it is still in the index; to be checked before a remembered object is used again.
    pub fn is_current(&self) -> bool {
        !self.has_left.load(Ordering::Acquire)
    }

    /// Its metadata.
    pub const fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    /// Its tier.
    pub const fn tier(&self) -> Tier {
        self.tier
    }

    /// Uses since the start.
    pub fn uses(&self) -> u32 {
        self.uses.load(Ordering::Relaxed)
    }

    pub(super) fn path(&self) -> PathBuf {
        file::object_path(&self.root.folder, self.meta.key.as_str())
    }

    /// Unlinks its file, if it has one. Open readers keep it.
    pub(super) fn unlink(&self) {
        if self.tier == Tier::Flash {
            file::remove(&self.path());
        }
    }

    /// Bytes `[start, end)` of the body, without copying. `None` if the range is outside, or the file cannot be mapped.
    pub fn bytes(self: &Arc<Self>, range: Range<u64>) -> Option<Bytes> {
        self.view()?.bytes(range)
    }

    /// Its bytes for one response. `None` if the file cannot be mapped or was changed.
    pub fn view(self: &Arc<Self>) -> Option<View> {
        let mapping = self.mapping()?;
        // Beyond the end of the file a copy would raise SIGBUS, a system call fail with EFAULT.
        (self.tier == Tier::Memory || mapping.is_backed()).then_some(View { mapping, tier: self.tier })
    }

    fn mapping(self: &Arc<Self>) -> Option<Arc<Mapping>> {
        if let Some(mapping) = lock(&self.mapping).as_ref() {
            return Some(Arc::clone(mapping));
        }
        let file = File::open(self.path()).ok()?;
        let length = usize::try_from(self.meta.length).ok()?;
        // Another object may have taken its name.
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0).ok()?;
        let is_same = format::has_digest(&header, self.meta.digest);
        let mapping = Arc::new(is_same.then(|| Mapping::of_body(&file, length).ok())??);
        *lock(&self.mapping) = Some(Arc::clone(&mapping));
        self.root.mapped(self);
        Some(mapping)
    }

    /// Whether the file is still as long as it was.
    pub(super) fn is_intact(&self) -> bool {
        if self.tier == Tier::Memory {
            return true;
        }
        match lock(&self.mapping).as_ref() {
            Some(mapping) => mapping.is_backed(),
            None => std::fs::metadata(self.path())
                .is_ok_and(|it| it.len() == self.meta.length + HEADER_BYTES as u64),
        }
    }

    /// Reads the entire object through the descriptor, so that read errors are reported, and compares its digest. `pause` is
    /// called with the number of bytes read and may wait.
    pub(super) fn matches_digest(&self, mut pause: impl FnMut(usize)) -> io::Result<bool> {
        let file = File::open(self.path())?;
        let mut digest = StreamDigest::default();
        read_pieces(&file, 0..self.meta.length, |piece| {
            digest.update(piece);
            pause(piece.len());
        })?;
        Ok(digest.finish() == self.meta.digest)
    }
}
