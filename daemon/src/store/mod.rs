//! The store: one self-describing file per object, published only when whole and verified.
//!
//! `DESIGN.md` beside this file has the byte picture, the invariants and the order of steps.
//!
//! | file | what it is for |
//! |---|---|
//! | `format.rs` | the header page |
//! | `file.rs` | anonymous files, files in memory, linking, preallocation |
//! | `mapping.rs`, `sigbus.rs` | the mappings, and what becomes of a page that the disk cannot give |
//! | `object.rs` | a whole object, on either tier |
//! | `partial.rs`, `resume.rs` | an object on its way in; what of it outlives a power cut |
//! | `index.rs` | what is there; who leaves next is [`carousel::eviction`]'s |
//! | `recover.rs`, `snapshot.rs` | the index after a start |
//! | `audit.rs` | every invariant, looked at |
//! | `disk.rs`, `ledger.rs` | how the disk is, and what it was asked to write |
//! | `variants.rs` | several objects of one name, and what a 304 changes of one |
//! | `keeper.rs` | what is done when nothing else is to be done: promotion, verification |

mod audit;
mod config;
mod disk;
mod error;
mod file;
mod format;
mod index;
mod keeper;
mod ledger;
mod mapping;
mod object;
mod partial;
mod recover;
mod resume;
mod sigbus;
mod snapshot;
mod variants;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use carousel::digest::Digest;
use carousel::fec::SymbolMap;
use carousel::time::WallTime;

pub use audit::Audit;
pub use config::{ClassRule, StoreConfig, Wish};
pub use disk::DiskState;
pub use error::{EvictReason, StoreError};
pub use format::{CameBy, Class, ObjectMeta, ObjectUri, ResponseMeta};
pub use keeper::Keeper;
pub use ledger::FlashWear;
pub use object::{LiveFacts, StoredObject, Tier, View};
pub use partial::{Frozen, Partial};
pub use recover::RecoveryReport;

use crate::clock;
use disk::Disk;
use ledger::Ledger;
use object::Root;

use format::HEADER_BYTES;
use index::Index;

/// Objects on their way in take at most one part in so many of the quota, so that a sender of objects that never become
/// whole cannot empty the cache. A single one may be larger.
const PARTIAL_SHARE: u64 = 2;
/// Objects that nobody has described get into one part in so many of the quota at most.
pub const UNNAMED_SHARE: u64 = 16;

/// An object in memory that was asked for so often goes to the disk.
const PROMOTE_USES: u32 = 2;
/// Objects that wait for it.
const PROMOTIONS: usize = 64;

/// By what right room is asked for.
#[derive(Debug, Clone, Copy)]
enum Claim {
    /// An FDT or an origin has named the object.
    Named,
    /// Nobody has.
    Unnamed,
}

/// Space and counters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Objects held.
    pub objects: u64,
    /// Bytes they take on the disk, headers included.
    pub bytes: u64,
    /// Bytes they take in memory.
    pub memory_bytes: u64,
    /// Bytes of objects on their way in, on both tiers.
    pub partial_bytes: u64,
    /// The quota of the disk.
    pub quota_bytes: u64,
    /// The quota of memory.
    pub memory_quota_bytes: u64,
    /// Bytes written to the disk since the start.
    pub written_bytes: u64,
    /// How the disk is.
    pub disk: DiskState,
    /// What it was asked to write.
    pub wear: FlashWear,
    /// Objects that came to memory first and went to the disk because they were asked for.
    pub promoted: u64,
    /// Objects that were not verified yet since an unclean stop.
    pub unverified: u64,
    /// Evictions since the start, in the order of [`EvictReason::ALL`].
    pub evicted: [u64; EvictReason::ALL.len()],
}

struct Inner {
    config: StoreConfig,
    root: Arc<Root>,
    /// Holds the lock for as long as the store lives.
    _lock: File,
    index: Mutex<Index>,
    /// Held while a file gets its name or loses it, and the index learns of it: so that nobody takes away the file of a
    /// successor. Hits never wait for it.
    names: Mutex<()>,
    /// Bytes on their way in, by tier.
    partial_bytes: [AtomicU64; Tier::ALL.len()],
    /// Bytes of partials of an earlier run that nobody has gone on with yet.
    leftover_bytes: AtomicU64,
    written_before: u64,
    promotions: SyncSender<Arc<StoredObject>>,
    to_promote: Mutex<Receiver<Arc<StoredObject>>>,
    promoted: AtomicU64,
    unverified: AtomicU64,
}

/// The cache on disk and in memory. Cheap to clone.
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
        let folder = &config.path;
        let failed = |err| StoreError::Folder(folder.clone(), err);
        let lock =
            file::lock_folder(folder).map_err(failed)?.ok_or_else(|| StoreError::Locked(folder.clone()))?;
        let ledger = Ledger::open(folder, config.write_budget_bytes_per_day, config.flash_endurance_bytes);
        let written_before = ledger.wear().total_bytes;
        let root = Arc::new(Root::new(folder.clone(), Disk::new(folder.clone()), ledger));
        let (index, report) = recover::recover(&root, config).map_err(failed)?;
        let (promotions, to_promote) = sync_channel(PROMOTIONS);
        let inner = Inner {
            config: config.clone(),
            root,
            _lock: lock,
            index: Mutex::new(index),
            names: Mutex::new(()),
            partial_bytes: Default::default(),
            leftover_bytes: AtomicU64::new(report.partial_bytes),
            written_before,
            promotions,
            to_promote: Mutex::new(to_promote),
            promoted: AtomicU64::new(0),
            unverified: AtomicU64::new(if report.clean { 0 } else { report.objects }),
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
        if !self.verify(&object, |_| {}) {
            return None;
        }
        let uses = object.uses.fetch_add(1, Ordering::Relaxed) + 1;
        if uses == PROMOTE_USES
            && object.tier() == Tier::Memory
            && !object.is_live()
            && !self.is_short_lived(&object)
        {
            // Full: it is asked for again, or it was not worth it.
            let _ = self.0.promotions.try_send(Arc::clone(&object));
        }
        Some(object)
    }

    /// Checks an object that nobody has checked since an unclean stop; a wrong one is evicted.
    fn verify(&self, object: &Arc<StoredObject>, pause: impl FnMut(usize)) -> bool {
        if object.verified.load(Ordering::Acquire) {
            return true;
        }
        let matches = object.matches_digest(pause).unwrap_or_else(|err| {
            tracing::warn!(key = %object.meta.key, %err, "an object cannot be read: it is evicted");
            false
        });
        if matches {
            self.verified(object);
        } else {
            self.remove_exactly(object, EvictReason::Corrupt);
        }
        matches
    }

    /// Somebody has read the object and found it right.
    fn verified(&self, object: &StoredObject) {
        if !object.verified.swap(true, Ordering::AcqRel) {
            self.0.unverified.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether there is an object of this key; does not count as use.
    pub fn contains(&self, key: &str) -> bool {
        self.index().peek(key).is_some()
    }

    /// Whether the object of this key is the same whatever values these query parameters have.
    pub fn ignores_query(&self, key: &str, names: &[&str]) -> bool {
        let index = self.index();
        index
            .peek(key)
            .is_some_and(|object| names.iter().all(|name| object.meta().ignored_query.ignores(name)))
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

    /// Room for an object of `length` bytes on its way in, on the tier that suits it.
    ///
    /// # Errors
    /// If there is no room, even after evicting what may go.
    pub fn create(&self, length: u64, wish: Wish) -> Result<Partial, StoreError> {
        self.begin(Some(length), wish)
    }

    /// Room for an object whose length nobody knows yet; it is appended to.
    ///
    /// # Errors
    /// If there is no room.
    pub fn create_growing(&self, wish: Wish) -> Result<Partial, StoreError> {
        self.begin(None, wish)
    }

    fn begin(&self, length: Option<u64>, wish: Wish) -> Result<Partial, StoreError> {
        let bytes = length.unwrap_or(0);
        let mut why = None;
        for tier in self.tiers(bytes, wish) {
            match self.begin_on(tier, length, Claim::Named) {
                Ok(partial) => return Ok(partial),
                // What the disk says is what somebody can mend.
                Err(err) if tier == Tier::Flash || why.is_none() => why = Some(err),
                Err(_) => {}
            }
        }
        Err(why.unwrap_or(StoreError::NoRoom))
    }

    /// The tiers that an object may live on, the better one first.
    fn tiers(&self, bytes: u64, wish: Wish) -> impl Iterator<Item = Tier> {
        let root = &self.0.root;
        let has_disk = root.disk.is_usable();
        let is_affordable = root.ledger.allows(bytes);
        let prefers_memory = wish.is_short_lived || wish.class == Class::Low;
        let flash = (has_disk && is_affordable).then_some(Tier::Flash);
        let [first, second] =
            if prefers_memory { [Some(Tier::Memory), flash] } else { [flash, Some(Tier::Memory)] };
        first.into_iter().chain(second)
    }

    fn begin_on(&self, tier: Tier, length: Option<u64>, claim: Claim) -> Result<Partial, StoreError> {
        let root = &self.0.root;
        let room = self.reserve(tier, length.unwrap_or(0), claim)?;
        match Partial::anonymous(root, tier, length, room) {
            Ok(partial) => {
                if tier == Tier::Flash {
                    root.disk.worked();
                }
                Ok(partial)
            }
            Err(err) => {
                if tier == Tier::Flash {
                    root.disk.failed(&err);
                }
                Err(err.into())
            }
        }
    }

    /// As [`Store::create`], for an object that nobody has described yet: it takes what is free and evicts nothing,
    /// since anybody can invent objects.
    ///
    /// # Errors
    /// If there is no free room, or [`UNNAMED_SHARE`] is used up.
    pub fn create_unnamed(&self, length: u64) -> Result<Partial, StoreError> {
        self.begin_on(Tier::Flash, Some(length), Claim::Unnamed)
    }

    /// As [`Store::create`], for an object that may take hours: what has arrived of it outlives a restart, under its
    /// `identity`. `map` is told which symbols are there from an earlier run. A short object, or one that does not belong
    /// on the disk, is created as any other.
    ///
    /// # Errors
    /// As for [`Store::create`].
    pub fn create_resumable(
        &self,
        identity: &Digest,
        map: &SymbolMap,
        wish: Wish,
    ) -> Result<Partial, StoreError> {
        let (length, root) = (map.length(), &self.0.root);
        let on_flash = self.tiers(length, wish).next() == Some(Tier::Flash);
        if length < self.0.config.resume_bytes || !on_flash {
            return self.create(length, wish);
        }
        let name = resume::path_of(&root.folder, identity);
        // What is gone on with was counted as a leftover.
        let leftover = std::fs::metadata(&name).map_or(0, |it| it.len());
        let room = self.reserve(Tier::Flash, length, Claim::Named)?;
        let partial =
            Partial::resumable(root, name, length, map, room).inspect_err(|err| root.disk.failed(err))?;
        let _ = self
            .0
            .leftover_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| Some(bytes.saturating_sub(leftover)));
        if map.received() > 0 {
            let (received, symbols) = (map.received(), map.symbols());
            tracing::info!(received, symbols, "going on with an object of an earlier run");
        }
        Ok(partial)
    }

    /// Counts bytes that are about to be written, evicting until they fit.
    fn reserve(&self, tier: Tier, length: u64, claim: Claim) -> Result<partial::Room, StoreError> {
        let bytes = length.saturating_add(HEADER_BYTES as u64);
        let quota = self.quota(tier);
        if bytes > quota {
            return Err(StoreError::LargerThanQuota { length });
        }
        if tier == Tier::Flash
            && file::free_bytes(self.path())? < self.0.config.reserve_bytes.saturating_add(bytes)
            && !self.make_disk_room(bytes)?
        {
            self.0.root.disk.is_short();
            return Err(StoreError::DiskFull);
        }
        let partial = &self.0.partial_bytes[tier as usize];
        let evicted = {
            // The index's lock makes the check and the claim one step.
            let mut index = self.index();
            let (now, leftover) = (partial.load(Ordering::Relaxed), self.leftover(tier));
            let all = now.saturating_add(bytes);
            let evicted = match claim {
                Claim::Named if now > 0 && all > quota / PARTIAL_SHARE => return Err(StoreError::NoRoom),
                Claim::Named => {
                    let most = quota.saturating_sub(all).saturating_sub(leftover);
                    let (evicted, is_enough) = index.shrink(tier, most, clock::trusted_wall());
                    if !is_enough {
                        drop(index);
                        self.unlink(&evicted);
                        return Err(StoreError::NoRoom);
                    }
                    evicted
                }
                Claim::Unnamed if all > quota / UNNAMED_SHARE || index.bytes(tier) > quota - all => {
                    return Err(StoreError::NoRoom);
                }
                Claim::Unnamed => Vec::new(),
            };
            // Rooms are given back without the lock: add, whatever it is by now.
            partial.fetch_add(bytes, Ordering::Relaxed);
            evicted
        };
        self.unlink(&evicted);
        let inner = Arc::clone(&self.0);
        Ok(partial::Room::new(bytes, move |bytes| {
            inner.partial_bytes[tier as usize].fetch_sub(bytes, Ordering::Relaxed);
        }))
    }

    /// Evicts until `bytes` and the reserve are free on the file system, whatever the quota says. False if they are not.
    fn make_disk_room(&self, bytes: u64) -> Result<bool, StoreError> {
        let wanted = self.0.config.reserve_bytes.saturating_add(bytes);
        let missing = wanted.saturating_sub(file::free_bytes(self.path())?);
        let evicted = {
            let mut index = self.index();
            let held = index.bytes(Tier::Flash);
            if held < missing {
                return Ok(false);
            }
            index.shrink(Tier::Flash, held - missing, clock::trusted_wall()).0
        };
        self.unlink(&evicted);
        Ok(file::free_bytes(self.path())? >= wanted)
    }

    fn quota(&self, tier: Tier) -> u64 {
        match tier {
            Tier::Flash => self.0.config.quota_bytes,
            Tier::Memory => self.0.config.memory_bytes,
        }
    }

    fn leftover(&self, tier: Tier) -> u64 {
        if tier == Tier::Flash { self.0.leftover_bytes.load(Ordering::Relaxed) } else { 0 }
    }

    /// Publishes a whole and verified object under its key: header, link, index. An older version leaves; who reads it
    /// keeps it. `frozen` must hold exactly `meta.length` bytes whose SHA-256 is `meta.digest`.
    ///
    /// # Errors
    /// If the metadata do not fit, or the disk fails. Nothing is visible then.
    pub fn publish(&self, frozen: &Frozen, meta: ObjectMeta) -> Result<Arc<StoredObject>, StoreError> {
        self.publish_with(frozen, meta, |_| {})
    }

    /// As [`Store::publish`]; `before` is called with the object before anybody else can see it.
    ///
    /// # Errors
    /// As for [`Store::publish`].
    pub fn publish_with(
        &self,
        frozen: &Frozen,
        meta: ObjectMeta,
        before: impl FnOnce(&Arc<StoredObject>),
    ) -> Result<Arc<StoredObject>, StoreError> {
        let header = format::encode(&meta).ok_or(StoreError::MetaTooLarge)?;
        let root = &self.0.root;
        let path = file::object_path(&root.folder, meta.key.as_str());
        let names = self.names();
        let mapping = frozen.publish(&header, &path).inspect_err(|err| root.disk.failed(err))?;
        let object = StoredObject::published(meta, frozen.tier(), root, mapping);
        before(&object);
        let old = self.index().insert(Arc::clone(&object));
        drop(names);
        // A file is replaced by its successor's; where that is in memory, it must go by itself.
        if let Some(old) = old.filter(|_| object.tier() == Tier::Memory) {
            self.unlink(&[old]);
        }
        Ok(object)
    }

    /// Takes the files of objects away that have left the index. Who reads them keeps them; a file that has got a successor
    /// under its name meanwhile is gone already, and the successor's stays.
    fn unlink(&self, gone: &[Arc<StoredObject>]) {
        for object in gone.iter().filter(|object| object.tier() == Tier::Flash) {
            let _names = self.names();
            let has_successor = |now: &Arc<StoredObject>| now.tier() == Tier::Flash;
            if !self.index().peek(object.meta.key.as_str()).is_some_and(has_successor) {
                file::remove(&object.path());
            }
        }
    }

    fn names(&self) -> MutexGuard<'_, ()> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an object will be stale so soon that the flash need not see it.
    fn is_short_lived(&self, object: &StoredObject) -> bool {
        self.is_short(object.meta.received_at, object.meta.expires)
    }

    /// Whether what comes now and expires then is of the memory tier.
    pub fn is_short(&self, now: WallTime, expires: Option<WallTime>) -> bool {
        let short_ms = i64::try_from(self.0.config.short_lived_s * 1000).unwrap_or(i64::MAX);
        expires.is_some_and(|expires| expires.unix_ms().saturating_sub(now.unix_ms()) <= short_ms)
    }

    /// What the configuration says of objects of this name.
    pub fn class_of(&self, key: &str) -> Class {
        let rules = self.0.config.classes.iter().filter(|rule| key.starts_with(rule.key_prefix()));
        rules.max_by_key(|rule| rule.key_prefix().len()).map_or(Class::Medium, |rule| rule.class)
    }

    /// Takes an object out. Who reads it keeps it.
    pub fn remove(&self, key: &str, reason: EvictReason) -> bool {
        let removed = self.index().remove(key, reason);
        removed.inspect(|object| self.unlink(std::slice::from_ref(object))).is_some()
    }

    /// Takes this very object out; a newer version of the same name stays.
    fn remove_exactly(&self, object: &Arc<StoredObject>, reason: EvictReason) {
        let mut index = self.index();
        if index.peek(object.meta.key.as_str()).is_some_and(|now| Arc::ptr_eq(now, object)) {
            index.remove(object.meta.key.as_str(), reason);
            drop(index);
            self.unlink(std::slice::from_ref(object));
            if !object.verified.load(Ordering::Acquire) {
                self.0.unverified.fetch_sub(1, Ordering::Relaxed);
            }
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

    /// Grows with every object that comes or goes: who has read the list need not read it again while it stays.
    pub fn changes(&self) -> u64 {
        self.index().changes()
    }

    /// Space and counters.
    pub fn usage(&self) -> Usage {
        let inner = &self.0;
        let wear = inner.root.ledger.wear();
        let index = self.index();
        Usage {
            objects: index.len() as u64,
            bytes: index.bytes(Tier::Flash),
            memory_bytes: index.bytes(Tier::Memory),
            partial_bytes: inner.partial_bytes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum(),
            quota_bytes: inner.config.quota_bytes,
            memory_quota_bytes: inner.config.memory_bytes,
            written_bytes: wear.total_bytes - inner.written_before,
            disk: inner.root.disk.state(),
            wear,
            promoted: inner.promoted.load(Ordering::Relaxed),
            unverified: inner.unverified.load(Ordering::Relaxed),
            evicted: index.evicted(),
        }
    }

    /// Everything is about to stop: what is on its way in stays, to be gone on with at the next start.
    pub fn closing(&self) {
        self.0.root.is_closing.store(true, Ordering::Release);
    }

    /// Notes that the store was left in order: the next start trusts the snapshot. What is on its way in stays.
    pub fn close(&self) {
        self.closing();
        self.0.root.ledger.close();
        let objects = self.list();
        // Nothing was checked since an unclean stop, or not all: the next start must not trust what this one did not.
        if objects.iter().any(|object| !object.verified.load(Ordering::Acquire)) {
            return;
        }
        if let Err(err) = snapshot::write(self.path(), &objects) {
            tracing::warn!(%err, "no snapshot of the index: the next start reads every header");
        }
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
