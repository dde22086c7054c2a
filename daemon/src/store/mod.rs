//! The store: one self-describing file per object, published only when whole and verified.
//!
//! `DESIGN.md` beside this file has the byte picture, the invariants and the order of steps.
//!
//! | file | what it is for |
//! |---|---|
//! | `format.rs` | the header page |
//! | `file.rs` | anonymous files, linking, preallocation |
//! | `mapping.rs` | the mappings; all `unsafe` of the store |
//! | `partial.rs` | an object on its way in: one writer, many readers |
//! | `index.rs` | what is there, in LRU order, by bytes |
//! | `recover.rs` | the index from the files, after a start |
//!
//! Left for later: the RAM tier, write budgets, snapshots of the index, resumable partials.

mod file;
mod format;
mod index;
mod mapping;
mod partial;
mod recover;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use carousel::digest::Digest;
use serde::Deserialize;

pub use format::{CameBy, Class, ObjectMeta};
pub use partial::{Frozen, Partial};
pub use recover::RecoveryReport;

use format::HEADER_BYTES;
use index::Index;
use mapping::Mapping;

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Folder of the cache.
    pub path: PathBuf,
    /// Most bytes that objects may take, headers included.
    pub quota_bytes: u64,
    /// Free space that is left to others on the same file system.
    pub reserve_bytes: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/var/cache/skycache"),
            quota_bytes: 10_000_000_000,
            reserve_bytes: 256 << 20,
        }
    }
}

/// Why the store could not do something.
#[derive(Debug)]
pub enum StoreError {
    /// Another daemon has the folder.
    Locked(PathBuf),
    /// The folder cannot be made or read.
    Folder(PathBuf, std::io::Error),
    /// The object is larger than the quota.
    LargerThanQuota {
        /// Its bytes.
        length: u64,
    },
    /// Everything that could be evicted is in use or pinned.
    NoRoom,
    /// Less than the reserve is free on the file system.
    DiskFull,
    /// The object's name and headers do not fit the header page.
    MetaTooLarge,
    /// The disk failed.
    Io(std::io::Error),
}

impl StoreError {
    /// Name in metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Locked(_) => "locked",
            Self::Folder(..) => "folder",
            Self::LargerThanQuota { .. } => "larger_than_quota",
            Self::NoRoom => "no_room",
            Self::DiskFull => "disk_full",
            Self::MetaTooLarge => "meta_too_large",
            Self::Io(_) => "io",
        }
    }
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Locked(path) => {
                write!(
                    f,
                    "{}: another skycached uses this cache; stop it, or give [store] path another folder",
                    path.display()
                )
            }
            Self::Folder(path, err) => {
                write!(f, "{}: {err}; [store] path must be a folder that skycached may write", path.display())
            }
            Self::LargerThanQuota { length } => {
                write!(f, "an object of {length} bytes is larger than [store] quota_bytes")
            }
            Self::NoRoom => f.write_str("the cache is full of objects that are pinned or in use"),
            Self::DiskFull => f.write_str("the disk is full; make room, or lower [store] reserve_bytes"),
            Self::MetaTooLarge => f.write_str("the object's name and headers are larger than a header page"),
            Self::Io(err) => write!(f, "disk: {err}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<std::io::Error> for StoreError {
    fn from(err: std::io::Error) -> Self {
        match err.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io(err),
        }
    }
}

/// Why an object left the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EvictReason {
    /// To make room.
    Room,
    /// A newer version took its name.
    Replaced,
    /// Somebody asked for it.
    Purged,
    /// Its bytes are not what its header says.
    Corrupt,
    /// Its file is gone.
    Vanished,
}

impl EvictReason {
    /// Every variant, for metrics.
    pub const ALL: [Self; 5] = [Self::Room, Self::Replaced, Self::Purged, Self::Corrupt, Self::Vanished];

    /// Name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Replaced => "replaced",
            Self::Purged => "purged",
            Self::Corrupt => "corrupt",
            Self::Vanished => "vanished",
        }
    }
}

/// Objects on their way in take at most one part in so many of the quota, so that a sender of objects that never become
/// whole cannot empty the cache. A single one may be larger.
const PARTIAL_SHARE: u64 = 2;
/// Objects that nobody has described get into one part in so many of the quota at most.
pub const UNNAMED_SHARE: u64 = 16;

/// By what right room is asked for.
#[derive(Debug, Clone, Copy)]
enum Claim {
    /// An FDT or an origin has named the object.
    Named,
    /// Nobody has.
    Unnamed,
}

/// Space and counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Objects held.
    pub objects: u64,
    /// Bytes they take, headers included.
    pub bytes: u64,
    /// Bytes of objects on their way in.
    pub partial_bytes: u64,
    /// The quota.
    pub quota_bytes: u64,
    /// Bytes published since the start: what the flash was asked to write.
    pub written_bytes: u64,
    /// Evictions since the start, in the order of [`EvictReason::ALL`].
    pub evicted: [u64; EvictReason::ALL.len()],
}

/// A whole, verified object. Its bytes stay readable for as long as this is held, evicted or not.
#[derive(Debug)]
pub struct StoredObject {
    meta: ObjectMeta,
    path: PathBuf,
    mapping: OnceLock<Arc<Mapping>>,
    /// Set when the bytes are known to match the digest: published in this run, or checked after an unclean stop.
    verified: AtomicBool,
}

impl StoredObject {
    /// What is known of it.
    pub const fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    /// Bytes `[start, end)` of the body, without copying. `None` if the range is outside, or the file cannot be mapped.
    pub fn bytes(&self, range: std::ops::Range<u64>) -> Option<Bytes> {
        let mapping = self.mapping()?;
        let start = usize::try_from(range.start).ok()?.checked_add(HEADER_BYTES)?;
        let end = usize::try_from(range.end).ok()?.checked_add(HEADER_BYTES)?;
        mapping.slice(start..end)
    }

    fn mapping(&self) -> Option<&Arc<Mapping>> {
        if let Some(mapping) = self.mapping.get() {
            return Some(mapping);
        }
        let file = File::open(&self.path).ok()?;
        let length = usize::try_from(self.meta.length).ok()?.checked_add(HEADER_BYTES)?;
        let mapping = Mapping::read_only(&file, length).ok()?;
        let _ = self.mapping.set(Arc::new(mapping));
        self.mapping.get()
    }

    /// Whether the file is still as long as it was: a mapping beyond a file's end would end the process.
    fn is_intact(&self) -> bool {
        match self.mapping.get() {
            Some(mapping) => mapping.is_backed(),
            None => std::fs::metadata(&self.path)
                .is_ok_and(|it| it.len() == self.meta.length + HEADER_BYTES as u64),
        }
    }
}

struct Inner {
    config: StoreConfig,
    /// Holds the lock for as long as the store lives.
    _lock: File,
    index: Mutex<Index>,
    partial_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

/// The cache on disk. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.0.config.path).finish()
    }
}

impl Store {
    /// Opens the cache in its folder, which is made if need be, and finds what is there.
    ///
    /// # Errors
    /// `Locked` if another daemon has it, `Folder` if it cannot be used.
    pub fn open(config: &StoreConfig) -> Result<(Self, RecoveryReport), StoreError> {
        let failed = |err| StoreError::Folder(config.path.clone(), err);
        let lock = file::lock_folder(&config.path)
            .map_err(failed)?
            .ok_or_else(|| StoreError::Locked(config.path.clone()))?;
        let (index, report) = recover::recover(&config.path, config.quota_bytes).map_err(failed)?;
        let inner = Inner {
            config: config.clone(),
            _lock: lock,
            index: Mutex::new(index),
            partial_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
        };
        Ok((Self(Arc::new(inner)), report))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0.config.path
    }

    /// The object of this key, counted as used now. After an unclean stop its bytes are checked at its first use; a
    /// wrong one is evicted instead. That may read the whole object: call it where waiting for the disk is allowed.
    pub fn get(&self, key: &str) -> Option<Arc<StoredObject>> {
        let object = self.index().get(key)?;
        if !object.is_intact() {
            self.remove_exactly(&object, EvictReason::Vanished);
            return None;
        }
        if !object.verified.load(Ordering::Acquire) {
            let matches = object
                .bytes(0..object.meta.length)
                .is_some_and(|bytes| Digest::of(&bytes) == object.meta.digest);
            if !matches {
                self.remove_exactly(&object, EvictReason::Corrupt);
                return None;
            }
            object.verified.store(true, Ordering::Release);
        }
        Some(object)
    }

    /// Whether there is an object of this key; does not count as use.
    pub fn contains(&self, key: &str) -> bool {
        self.index().peek(key).is_some()
    }

    /// Whether [`Store::get`] would have to read the whole object first.
    pub fn needs_check(&self, key: &str) -> bool {
        self.index().peek(key).is_some_and(|object| !object.verified.load(Ordering::Acquire))
    }

    /// Whether the object of this key has this digest (or, where the sender gives none, this length and version); does
    /// not count as use. Lets a receiver pass over repeats of what is held.
    pub fn holds(&self, key: &str, digest: Option<Digest>, length: u64, version: u64) -> bool {
        let index = self.index();
        index.peek(key).is_some_and(|object| match digest {
            Some(digest) => object.meta.digest == digest,
            None => object.meta.length == length && object.meta.version == version,
        })
    }

    /// Room for an object of `length` bytes on its way in: anonymous, preallocated.
    ///
    /// # Errors
    /// If there is no room, even after evicting what may go.
    pub fn create(&self, length: u64) -> Result<Partial, StoreError> {
        let room = self.reserve(length, Claim::Named)?;
        Ok(Partial::preallocated(self.path(), length, room)?)
    }

    /// As [`Store::create`], for an object that nobody has described yet: it takes what is free and evicts nothing,
    /// since anybody can invent objects.
    ///
    /// # Errors
    /// If there is no free room, or [`UNNAMED_SHARE`] is used up.
    pub fn create_unnamed(&self, length: u64) -> Result<Partial, StoreError> {
        let room = self.reserve(length, Claim::Unnamed)?;
        Ok(Partial::preallocated(self.path(), length, room)?)
    }

    /// Room for an object whose length nobody knows yet; it is appended to.
    ///
    /// # Errors
    /// If there is no room.
    pub fn create_growing(&self) -> Result<Partial, StoreError> {
        let room = self.reserve(0, Claim::Named)?;
        Ok(Partial::growing(self.path(), room)?)
    }

    /// Counts bytes that are about to be written, evicting until they fit.
    fn reserve(&self, length: u64, claim: Claim) -> Result<partial::Room, StoreError> {
        let bytes = length.saturating_add(HEADER_BYTES as u64);
        let quota = self.0.config.quota_bytes;
        if bytes > quota {
            return Err(StoreError::LargerThanQuota { length });
        }
        if file::free_bytes(self.path())? < self.0.config.reserve_bytes.saturating_add(bytes) {
            return Err(StoreError::DiskFull);
        }
        let evicted = {
            // The index's lock makes the check and the claim one step.
            let mut index = self.index();
            let partial = self.0.partial_bytes.load(Ordering::Relaxed);
            let all = partial.saturating_add(bytes);
            let evicted = match claim {
                Claim::Named if partial > 0 && all > quota / PARTIAL_SHARE => return Err(StoreError::NoRoom),
                Claim::Named => index.shrink_to(quota.saturating_sub(all)).ok_or(StoreError::NoRoom)?,
                Claim::Unnamed if all > quota / UNNAMED_SHARE || index.bytes() > quota - all => {
                    return Err(StoreError::NoRoom);
                }
                Claim::Unnamed => Vec::new(),
            };
            self.0.partial_bytes.store(all, Ordering::Relaxed);
            evicted
        };
        for object in evicted {
            file::remove(&object.path);
        }
        let inner = Arc::clone(&self.0);
        Ok(partial::Room::new(bytes, move |bytes| {
            inner.partial_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }))
    }

    /// Publishes a whole and verified object under its key: header, link, index. An older version leaves; who reads it
    /// keeps it. `frozen` must hold exactly `meta.length` bytes whose SHA-256 is `meta.digest`.
    ///
    /// # Errors
    /// If the metadata do not fit, or the disk fails. Nothing is visible then.
    pub fn publish(&self, frozen: &Frozen, meta: ObjectMeta) -> Result<Arc<StoredObject>, StoreError> {
        let header = format::encode(&meta).ok_or(StoreError::MetaTooLarge)?;
        let path = file::object_path(self.path(), meta.key.as_str());
        let mapping = frozen.publish(&header, &path)?;
        let bytes = meta.length + HEADER_BYTES as u64;
        let object = Arc::new(StoredObject {
            meta,
            path,
            mapping: OnceLock::from(Arc::new(mapping)),
            verified: AtomicBool::new(true),
        });
        self.0.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.index().insert(Arc::clone(&object));
        Ok(object)
    }

    /// Takes an object out. Who reads it keeps it.
    pub fn remove(&self, key: &str, reason: EvictReason) -> bool {
        match self.index().remove(key, reason) {
            Some(object) => {
                file::remove(&object.path);
                true
            }
            None => false,
        }
    }

    /// Takes this very object out; a newer version of the same name stays.
    fn remove_exactly(&self, object: &Arc<StoredObject>, reason: EvictReason) {
        let mut index = self.index();
        if index.peek(object.meta.key.as_str()).is_some_and(|now| Arc::ptr_eq(now, object)) {
            index.remove(object.meta.key.as_str(), reason);
            drop(index);
            file::remove(&object.path);
        }
    }

    /// How often an object has left that the carousel should bring again: purged, corrupt or vanished, but not what made
    /// room for others.
    pub fn losses(&self) -> u64 {
        self.index().evicted_for(&[EvictReason::Purged, EvictReason::Corrupt, EvictReason::Vanished])
    }

    /// Pins or unpins an object in memory: pinned ones are never evicted to make room. Lasts until the next start.
    pub fn pin(&self, key: &str, pinned: bool) -> bool {
        self.index().pin(key, pinned)
    }

    /// Every object, the most recently used first.
    pub fn list(&self) -> Vec<Arc<StoredObject>> {
        self.index().list()
    }

    /// Space and counters.
    pub fn usage(&self) -> Usage {
        let index = self.index();
        Usage {
            objects: index.len() as u64,
            bytes: index.bytes(),
            partial_bytes: self.0.partial_bytes.load(Ordering::Relaxed),
            quota_bytes: self.0.config.quota_bytes,
            written_bytes: self.0.written_bytes.load(Ordering::Relaxed),
            evicted: index.evicted(),
        }
    }

    /// Notes that the store was left in order: the next start trusts the digests in the headers.
    pub fn close(&self) {
        file::mark_clean(self.path());
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // A panic while the index was locked leaves a map that is still consistent: each method changes it last.
        self.0.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes free to us on the file system of `folder`.
///
/// # Errors
/// What the system said.
pub fn free_bytes(folder: &Path) -> std::io::Result<u64> {
    file::free_bytes(folder)
}

#[cfg(test)]
mod tests;
