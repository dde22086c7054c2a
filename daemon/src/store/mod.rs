//! Object store: one self-describing file per object, published only when complete and verified.
//!
//! `DESIGN.md` beside this file has the byte picture, the invariants and the order of steps.
//!
//! | file | content |
//! |---|---|
//! | `format.rs` | the header page |
//! | `file.rs` | anonymous files, files in memory, linking, preallocation |
//! | `mapping.rs`, `sigbus.rs` | memory mappings, and handling of pages that cannot be read |
//! | `object.rs` | a published object, on either tier |
//! | `partial.rs`, `resume.rs` | an object being written; its state across a power cut |
//! | `arriving.rs`, `returning.rs` | reservations that grow with the received bytes; objects evicted for room, to be received again |
//! | `arena.rs`, `direct.rs` | memory in which arriving bodies are assembled; writes past the page cache |
//! | `growing.rs` | bodies of unknown length |
//! | `index.rs` | lookup by key; eviction order is [`carousel::eviction`]'s |
//! | `recover.rs`, `snapshot.rs` | rebuilding the index at start |
//! | `audit.rs` | verification of every invariant |
//! | `disk.rs`, `ledger.rs` | state of the disk; bytes written to flash |
//! | `purge.rs` | purges of one object or many |
//! | `variants.rs` | several objects of one name (`Vary`); metadata updates by a 304 |
//! | `keeper.rs` | background thread: promotion, verification |

mod arena;
mod arriving;
mod audit;
mod direct;
mod disk;
mod error;
mod file;
mod format;
mod growing;
mod index;
mod keeper;
mod ledger;
mod mapping;
mod object;
mod options;
mod partial;
mod purge;
mod recover;
mod resume;
mod returning;
mod sigbus;
mod snapshot;
mod variants;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use carousel::digest::Digest;
use carousel::fec::SymbolMap;
use carousel::time::WallTime;

pub use arena::PageCacheReason;
pub use arriving::Arrival;
pub use audit::Audit;
pub use disk::DiskState;
pub use error::{EvictReason, StoreError};
pub use format::{CameBy, Class, ObjectMeta, ObjectUri, ResponseMeta, fields_fit_page};
pub use growing::Grown;
pub use keeper::Keeper;
pub use ledger::FlashWear;
pub use object::{LiveFacts, StoredObject, Tier, View};
pub use options::{ClassRule, Placement, StoreConfig};
pub use partial::{BODY_AT, Frozen, Pace, Partial, Reader};
pub use purge::{PurgeMode, Purged, Selection};
pub use recover::RecoveryReport;
pub use variants::variants_of;

use crate::clock;
use arena::Arena;
use arriving::{Arriving, Share, Shares};
use disk::Disk;
use ledger::Ledger;
use object::Root;

use format::HEADER_BYTES;
use index::Index;

/// Divisor of the quota: partials together take at most this share, so that a sender of objects that never complete cannot
/// empty the cache. A single partial may be larger.
const PARTIAL_SHARE: u64 = 2;
/// Divisor of the quota: room beyond it for short objects, which are complete with their first packets.
const SHORT_SHARE: u64 = 8;
/// Divisor of the quota: undescribed objects together take at most this share.
pub const UNNAMED_SHARE: u64 = 16;

/// Hits after which an object in memory is promoted to the disk.
const PROMOTE_USES: u32 = 2;
/// Objects queued for promotion.
const PROMOTIONS: usize = 64;

/// Origin of a request for room.
#[derive(Debug, Clone, Copy)]
enum Claim {
    /// An FDT or an origin has named the object.
    Named,
    /// No description has arrived.
    Unnamed,
    /// Evicts nothing: the object comes from an origin with an unknown length, or was itself evicted for room.
    Free,
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
    /// Bytes of partials, on both tiers.
    pub partial_bytes: u64,
    /// The quota of the disk.
    pub quota_bytes: u64,
    /// The quota of memory.
    pub memory_quota_bytes: u64,
    /// Bytes written to the disk since the start.
    pub written_bytes: u64,
    /// State of the disk.
    pub disk: DiskState,
    /// Bytes written to flash.
    pub wear: FlashWear,
    /// Objects promoted from memory to the disk.
    pub promoted: u64,
    /// Objects not verified since an unclean stop.
    pub unverified: u64,
    /// Evictions since the start, in the order of [`EvictReason::ALL`].
    pub evicted: [u64; EvictReason::ALL.len()],
    /// Memory taken by arriving bodies, and by published ones until others need it.
    pub arena_bytes: u64,
    /// Bodies written past the page cache since the start.
    pub direct: u64,
    /// Arriving bodies that went through it, in the order of [`PageCacheReason::ALL`].
    pub page_cache: [u64; PageCacheReason::ALL.len()],
    /// Mapped files that made room for others since the start.
    pub dropped_mappings: u64,
    /// Mappings that were not guarded against pages that cannot be read, since the start.
    pub unguarded_mappings: u64,
}

struct Inner {
    config: StoreConfig,
    root: Arc<Root>,
    /// Holds the folder's lock while the store exists.
    _lock: File,
    index: Mutex<Index>,
    /// Names of firmware bundles, which are pinned.
    kept: RwLock<Vec<String>>,
    /// Held while a file is linked or unlinked and the index is updated, so that the file of a newer version is never
    /// unlinked. Lookups never wait for it.
    names: Mutex<()>,
    /// Bytes of partials, by tier.
    partial_bytes: [AtomicU64; Tier::ALL.len()],
    /// Arriving objects. Locked after the index.
    arriving: Mutex<Shares>,
    /// Bytes of bodies of unknown length in memory.
    growing_bytes: AtomicU64,
    /// Bytes of partials of an earlier run that have not been resumed.
    leftover_bytes: AtomicU64,
    written_before: u64,
    promotions: SyncSender<Arc<StoredObject>>,
    to_promote: Mutex<Receiver<Arc<StoredObject>>>,
    promoted: AtomicU64,
    unverified: AtomicU64,
    purges: purge::Purges,
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
    /// Opens the cache in its folder, creating it if necessary, and rebuilds the index.
    ///
    /// # Errors
    /// `Locked` if another daemon uses the folder, `Folder` if it is not usable.
    pub fn open(config: &StoreConfig) -> Result<(Self, RecoveryReport), StoreError> {
        let folder = &config.path;
        let failed = |err| StoreError::Folder(folder.clone(), err);
        let lock =
            file::lock_folder(folder).map_err(failed)?.ok_or_else(|| StoreError::Locked(folder.clone()))?;
        let ledger = Ledger::open(folder, config.write_budget_bytes_per_day, config.flash_endurance_bytes);
        let written_before = ledger.wear().total_bytes;
        let arena = Arena::new(if config.direct_io { config.memory_bytes } else { 0 });
        let root = Arc::new(Root::new(folder.clone(), Disk::new(folder.clone()), ledger, arena));
        let (index, report) = recover::recover(&root, config).map_err(failed)?;
        let (promotions, to_promote) = sync_channel(PROMOTIONS);
        let inner = Inner {
            config: config.clone(),
            root,
            _lock: lock,
            index: Mutex::new(index),
            kept: RwLock::default(),
            names: Mutex::new(()),
            partial_bytes: Default::default(),
            arriving: Mutex::default(),
            growing_bytes: AtomicU64::new(0),
            leftover_bytes: AtomicU64::new(report.partial_bytes),
            written_before,
            promotions,
            to_promote: Mutex::new(to_promote),
            promoted: AtomicU64::new(0),
            unverified: AtomicU64::new(if report.clean { 0 } else { report.objects }),
            purges: purge::Purges::open(folder),
        };
        Ok((Self(Arc::new(inner)), report))
    }

    /// Checks that no other daemon uses the store in this folder. Writes nothing.
    ///
    /// # Errors
    /// If one has, or the folder cannot be read.
    pub fn is_free(folder: &Path) -> Result<(), StoreError> {
        match file::is_locked(folder) {
            Ok(false) => Ok(()),
            Ok(true) => Err(StoreError::Locked(folder.to_path_buf())),
            Err(err) => Err(StoreError::Folder(folder.to_path_buf(), err)),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0.config.path
    }

    /// Looks up an object and counts a use. After an unclean stop its digest is verified at its first use and a corrupt object
    /// is evicted, which reads the entire object: call this where waiting for the disk is allowed.
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
            // Queue full: the next hit tries again.
            let _ = self.0.promotions.try_send(Arc::clone(&object));
        }
        Some(object)
    }

    /// Verifies an object that has not been verified since an unclean stop; evicts it if it is corrupt.
    fn verify(&self, object: &Arc<StoredObject>, pause: impl FnMut(usize)) -> bool {
        if object.verified.load(Ordering::Acquire) {
            return true;
        }
        let matches = object.matches_digest(pause).unwrap_or_else(|err| {
            tracing::warn!(key = %object.meta.key, %err, "cannot read an object; evicted");
            false
        });
        if matches {
            self.verified(object);
        } else {
            self.remove_exactly(object, EvictReason::Corrupt);
        }
        matches
    }

    /// Marks the object as verified.
    fn verified(&self, object: &StoredObject) {
        if !object.verified.swap(true, Ordering::AcqRel) {
            self.0.unverified.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether the cache holds this key; does not count as a use.
    pub fn contains(&self, key: &str) -> bool {
        self.index().peek(key).is_some()
    }

    /// Whether the object of this key was signed by a trusted key.
    pub fn is_signed(&self, key: &str) -> bool {
        self.index().peek(key).is_some_and(|object| object.meta.signed_by.is_some())
    }

    /// Whether the object of this key came by a carousel.
    pub fn is_carried(&self, key: &str) -> bool {
        self.index().peek(key).is_some_and(|object| object.meta.came_by != CameBy::Origin)
    }

    /// Whether the object of this key is the same for all values of these query parameters.
    pub fn ignores_query(&self, key: &str, names: &[&str]) -> bool {
        let index = self.index();
        index
            .peek(key)
            .is_some_and(|object| names.iter().all(|name| object.meta().ignored_query.ignores(name)))
    }

    /// Whether [`Store::get`] would have to verify the object first.
    pub fn needs_check(&self, key: &str) -> bool {
        self.index().peek(key).is_some_and(|object| !object.verified.load(Ordering::Acquire))
    }

    /// The object of this key; does not access its file or count a use.
    pub fn peek(&self, key: &str) -> Option<Arc<StoredObject>> {
        self.index().peek(key).map(Arc::clone)
    }

    /// Whether the object of this key has this digest (or, where the sender gives none, this length and version); does
    /// not count as a use. Lets a receiver skip repeats of objects that are held.
    pub fn holds(&self, key: &str, digest: Option<Digest>, length: u64, version: u64) -> bool {
        let index = self.index();
        index.peek(key).is_some_and(|object| match digest {
            Some(digest) => object.meta.digest == digest,
            None => object.meta.length == length && object.meta.version == version,
        })
    }

    /// Records that a session offers a held object again: for live content, bytes of an earlier run may be those of this
    /// one.
    pub fn offered(&self, key: &str, at: WallTime) {
        if let Some(object) = self.index().peek(key).filter(|it| it.is_live()) {
            object.offer(at);
        }
    }

    /// Creates a partial for an object of `length` bytes, on the tier that suits it.
    ///
    /// # Errors
    /// If there is no room, even after evicting everything evictable.
    pub fn create(&self, length: u64, placement: Placement) -> Result<Partial, StoreError> {
        self.begin(length, placement, |tier| self.allocate(tier, length))
    }

    fn allocate(&self, tier: Tier, length: u64) -> Result<Partial, StoreError> {
        let room = self.reserve(tier, length, Claim::Named)?;
        Ok(Partial::anonymous(&self.0.root, tier, length, room)?)
    }

    /// Creates a partial for `length` bytes that arrive from the network: it reserves room as they are written, and can lose it
    /// to others ([`Partial::is_lost`]).
    ///
    /// # Errors
    /// If there is no room for its beginning, or never would be for all of it.
    pub fn create_arriving(&self, length: u64, arrival: Arrival) -> Result<Partial, StoreError> {
        self.begin(length, arrival.placement, |tier| self.arriving(tier, length, (arrival.claim(), arrival)))
    }

    fn arriving(&self, tier: Tier, length: u64, claim: (Claim, Arrival)) -> Result<Partial, StoreError> {
        let room = Arriving::open(self, tier, length, 0, claim)?;
        Ok(Partial::arriving(&self.0.root, tier, length, room)?)
    }

    /// Creates a partial of unknown length, to be appended to after [`Partial::grow`]. `keep`: it is published when it is
    /// complete.
    ///
    /// # Errors
    /// If there is no room for one more.
    pub fn create_growing(&self, placement: Placement, keep: bool) -> Result<Partial, StoreError> {
        let growth = growing::Growth::new(self, placement, keep)?.ok_or(StoreError::NoRoom)?;
        Ok(Partial::growing(&self.0.root, growth)?)
    }

    /// Gives the bytes of a body of unknown length, which has ended, the room of an object of its length.
    ///
    /// # Errors
    /// If there is no room, or the disk fails.
    pub fn settle(
        &self,
        partial: &Arc<Partial>,
        length: u64,
        placement: Placement,
    ) -> Result<Arc<Partial>, StoreError> {
        if partial.tier() == Tier::Flash || !partial.is_growing() {
            return Ok(Arc::clone(partial));
        }
        let settled = self.create(length, placement)?;
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        while at < length {
            let count = buffer.len().min(usize::try_from(length - at).unwrap_or(buffer.len()));
            partial.read_at(at, &mut buffer[..count])?;
            settled.write_at(at, &buffer[..count])?;
            at += count as u64;
        }
        Ok(Arc::new(settled))
    }

    fn root(&self) -> &Arc<Root> {
        &self.0.root
    }

    fn begin(
        &self,
        length: u64,
        placement: Placement,
        on: impl Fn(Tier) -> Result<Partial, StoreError>,
    ) -> Result<Partial, StoreError> {
        let mut why = None;
        for tier in self.tiers(length, placement) {
            match self.begin_on(tier, &on) {
                Ok(partial) => return Ok(partial),
                // Report the disk's error: it is the one that an operator can fix.
                Err(err) if tier == Tier::Flash || why.is_none() => why = Some(err),
                Err(_) => {}
            }
        }
        Err(why.unwrap_or(StoreError::NoRoom))
    }

    /// The tiers that an object may be placed on, preferred first.
    fn tiers(&self, bytes: u64, placement: Placement) -> impl Iterator<Item = Tier> {
        let prefers_memory = placement.is_short_lived || placement.class == Class::Low;
        let flash = self.takes_on_disk(bytes).then_some(Tier::Flash);
        let [first, second] =
            if prefers_memory { [Some(Tier::Memory), flash] } else { [flash, Some(Tier::Memory)] };
        first.into_iter().chain(second)
    }

    fn begin_on(
        &self,
        tier: Tier,
        on: impl Fn(Tier) -> Result<Partial, StoreError>,
    ) -> Result<Partial, StoreError> {
        let begun = on(tier);
        if tier == Tier::Flash {
            match &begun {
                Ok(partial) if partial.has_file() => self.0.root.disk.worked(),
                Err(StoreError::Io(err)) => self.0.root.disk.failed(err),
                Ok(_) | Err(_) => {}
            }
        }
        begun
    }

    /// As [`Store::create_arriving`], for an object without a description: uses free room only and evicts nothing, since any sender
    /// can invent objects.
    ///
    /// # Errors
    /// If there is no free room, or [`UNNAMED_SHARE`] is used up.
    pub fn create_unnamed(&self, length: u64) -> Result<Partial, StoreError> {
        let on = |tier| self.arriving(tier, length, (Claim::Unnamed, Arrival::default()));
        // The documents that say what to join come so: a full disk must not keep them out.
        let flash = self.0.root.disk.is_usable().then(|| self.begin_on(Tier::Flash, on));
        match flash {
            Some(Ok(partial)) => Ok(partial),
            Some(Err(err)) if !matches!(err, StoreError::DiskFull | StoreError::Io(_)) => Err(err),
            // What does not fit there in any case is tried again, or received when it is described.
            _ if length.saturating_add(HEADER_BYTES as u64) > self.quota(Tier::Memory) / UNNAMED_SHARE => {
                Err(StoreError::DiskFull)
            }
            None | Some(Err(_)) => self.begin_on(Tier::Memory, on),
        }
    }

    /// As [`Store::create_arriving`], for an object that may take hours: its partial survives a restart under its `identity`. `map`
    /// receives the symbols of an earlier run. Short objects, those that belong in memory, and those of an identity whose partial is
    /// open, as that of another session may be, are created as usual.
    ///
    /// # Errors
    /// As for [`Store::create_arriving`].
    pub fn create_resumable(
        &self,
        identity: &Digest,
        map: &SymbolMap,
        arrival: Arrival,
    ) -> Result<Partial, StoreError> {
        let (length, root) = (map.length(), &self.0.root);
        let on_flash = self.tiers(length, arrival.placement).next() == Some(Tier::Flash);
        if length < self.0.config.resume_bytes || !on_flash {
            return self.create_arriving(length, arrival);
        }
        let name = resume::path_of(&root.folder, identity);
        if !root.take_name(&name) {
            return self.create_arriving(length, arrival);
        }
        let opened = self.open_resumable(&name, map, arrival);
        if opened.is_err() {
            root.give_name_back(&name);
        }
        opened
    }

    fn open_resumable(&self, name: &Path, map: &SymbolMap, arrival: Arrival) -> Result<Partial, StoreError> {
        let (length, root) = (map.length(), &self.0.root);
        // A resumed partial was counted among the leftovers.
        let leftover = std::fs::metadata(name).map_or(0, |it| it.len());
        // Read before the file is created: an existing one has the symbols of an earlier run.
        let arrived = leftover.saturating_sub(HEADER_BYTES as u64).min(length);
        let room = Arriving::open(self, Tier::Flash, length, arrived, (arrival.claim(), arrival))?;
        let partial = Partial::resumable(root, name.to_owned(), length, map, room)
            .inspect_err(|err| root.disk.failed(err))?;
        let _ = self
            .0
            .leftover_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| Some(bytes.saturating_sub(leftover)));
        if map.received() > 0 {
            let (received, symbols) = (map.received(), map.symbols());
            tracing::info!(received, symbols, "resuming a partial object of an earlier run");
        }
        Ok(partial)
    }

    /// Reserves bytes that are about to be written, evicting until they fit.
    fn reserve(&self, tier: Tier, length: u64, claim: Claim) -> Result<partial::Room, StoreError> {
        let bytes = length.saturating_add(HEADER_BYTES as u64);
        if bytes > self.quota(tier) {
            return Err(StoreError::LargerThanQuota { length });
        }
        self.claim(tier, bytes, claim, None)?;
        let inner = Arc::clone(&self.0);
        Ok(partial::Room::new(bytes, move |bytes| {
            inner.partial_bytes[tier as usize].fetch_sub(bytes, Ordering::Relaxed);
        }))
    }

    /// Checks that an object of this length could be held; its room is reserved later, as it arrives.
    fn could_hold(&self, tier: Tier, length: u64, claim: Claim) -> Result<(), StoreError> {
        let bytes = length.saturating_add(HEADER_BYTES as u64);
        let quota = self.quota(tier);
        if bytes > quota {
            return Err(StoreError::LargerThanQuota { length });
        }
        if bytes > quota / PARTIAL_SHARE && self.0.partial_bytes[tier as usize].load(Ordering::Relaxed) > 0 {
            return Err(StoreError::NoRoom);
        }
        if tier == Tier::Flash {
            let evictable = if matches!(claim, Claim::Named) { self.index().bytes(tier) } else { 0 };
            let there = file::free_bytes(self.path())?.saturating_add(evictable);
            if there < self.0.config.reserve_bytes.saturating_add(bytes) {
                // A length that any sender can invent says nothing about the disk.
                if matches!(claim, Claim::Named) || there < self.0.config.reserve_bytes {
                    self.0.root.disk.is_short(self.0.config.reserve_bytes);
                }
                return Err(StoreError::DiskFull);
            }
        }
        Ok(())
    }

    /// Adds bytes to the total of partials and to `share`, evicting until they fit.
    fn claim(&self, tier: Tier, bytes: u64, claim: Claim, share: Option<&Share>) -> Result<(), StoreError> {
        let quota = self.quota(tier);
        if tier == Tier::Flash
            && file::free_bytes(self.path())? < self.0.config.reserve_bytes.saturating_add(bytes)
            && (!matches!(claim, Claim::Named) || !self.make_disk_room(bytes)?)
        {
            if matches!(claim, Claim::Named) {
                self.0.root.disk.is_short(self.0.config.reserve_bytes);
            }
            return Err(StoreError::DiskFull);
        }
        let partial = &self.0.partial_bytes[tier as usize];
        let is_short = share.is_some_and(Share::is_small);
        let most = match claim {
            Claim::Unnamed => quota / UNNAMED_SHARE,
            Claim::Named if is_short => quota / PARTIAL_SHARE + quota / SHORT_SHARE,
            Claim::Named | Claim::Free => quota / PARTIAL_SHARE,
        };
        let evicted = {
            // The index's lock makes the check and the claim one step.
            let mut index = self.index();
            let all = loop {
                let now = partial.load(Ordering::Relaxed);
                let all = now.saturating_add(bytes);
                let is_alone = matches!(claim, Claim::Named) && now <= share.map_or(0, Share::reserved);
                if all <= most || is_alone {
                    break all;
                }
                let arriving = self.0.arriving.lock().unwrap_or_else(PoisonError::into_inner);
                let share = share.filter(|_| matches!(claim, Claim::Named));
                let taken = share.and_then(|share| arriving.take_from_least(share));
                partial.fetch_sub(taken.ok_or(StoreError::NoRoom)?, Ordering::Relaxed);
            };
            let most = quota.saturating_sub(all).saturating_sub(self.leftover(tier));
            let (evicted, is_enough) = match claim {
                Claim::Named => index.shrink(tier, most, Some(clock::steady())),
                Claim::Unnamed | Claim::Free => (Vec::new(), index.bytes(tier) <= most),
            };
            if !is_enough || share.is_some_and(|share| !share.add(bytes)) {
                drop(index);
                self.unlink(&evicted);
                return Err(StoreError::NoRoom);
            }
            // Reservations are released without the lock: add to the current value.
            partial.fetch_add(bytes, Ordering::Relaxed);
            evicted
        };
        self.unlink(&evicted);
        Ok(())
    }

    /// Evicts until `bytes` and the reserve are free on the file system, regardless of the quota. False if they are not.
    fn make_disk_room(&self, bytes: u64) -> Result<bool, StoreError> {
        let wanted = self.0.config.reserve_bytes.saturating_add(bytes);
        let missing = wanted.saturating_sub(file::free_bytes(self.path())?);
        let evicted = {
            let mut index = self.index();
            let held = index.bytes(Tier::Flash);
            if held < missing {
                return Ok(false);
            }
            index.shrink(Tier::Flash, held - missing, Some(clock::steady())).0
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

    /// Publishes a complete and verified object under its key: header, link, index. Replaces an older version, whose readers
    /// keep it. `frozen` must hold exactly `meta.length` bytes whose SHA-256 is `meta.digest`.
    ///
    /// # Errors
    /// If the metadata do not fit, the object was purged after it was requested, or the disk fails; nothing is published then.
    pub fn publish(&self, frozen: &Frozen, meta: ObjectMeta) -> Result<Arc<StoredObject>, StoreError> {
        self.publish_with(frozen, meta, |_| {})
    }

    /// As [`Store::publish`]; `before` is called with the object before it is visible to others.
    ///
    /// # Errors
    /// As for [`Store::publish`].
    pub fn publish_with(
        &self,
        frozen: &Frozen,
        meta: ObjectMeta,
        before: impl FnOnce(&Arc<StoredObject>),
    ) -> Result<Arc<StoredObject>, StoreError> {
        self.publish_if(frozen, meta, |_| true, before)
    }

    /// As [`Store::publish_with`], if `may_replace` accepts the metadata of the object held under the key, atomically with that
    /// check; otherwise returns the held object. Without a held object `may_replace` is not called.
    ///
    /// # Errors
    /// As for [`Store::publish`].
    pub fn publish_if(
        &self,
        frozen: &Frozen,
        meta: ObjectMeta,
        may_replace: impl FnOnce(&ObjectMeta) -> bool,
        before: impl FnOnce(&Arc<StoredObject>),
    ) -> Result<Arc<StoredObject>, StoreError> {
        let header = match format::encode(&meta) {
            Some(header) => header,
            // In memory there is no page that they have to fit.
            None if frozen.tier() == Tier::Memory && format::fits_memory(&meta) => Vec::new(),
            None => return Err(StoreError::MetaTooLarge),
        };
        let root = &self.0.root;
        let path = file::object_path(&root.folder, meta.key.as_str());
        // May wait for the disk: before the lock.
        let has_header = frozen.write_out(&header).inspect_err(|err| root.disk.failed(err))?;
        let names = self.names();
        // Its replacement may exist already.
        if self.is_purged(&meta, meta.received_at) {
            return Err(StoreError::Purged);
        }
        let held = self.index().peek(meta.key.as_str()).map(Arc::clone);
        if let Some(held) = held.filter(|_| !may_replace(&meta)) {
            return Ok(held);
        }
        let mapping = frozen.publish(&header, has_header, &path).inspect_err(|err| root.disk.failed(err))?;
        let object = StoredObject::published(meta, frozen.tier(), root, mapping);
        before(&object);
        let old = self.index().insert(Arc::clone(&object));
        drop(names);
        // A purge came between the two checks.
        if self.is_purged(object.meta(), object.meta().received_at) {
            self.remove_exactly(&object, EvictReason::Purged);
        }
        // Linking a new file replaces the old one; a successor in memory does not, so unlink it here.
        if let Some(old) = old.filter(|_| object.tier() == Tier::Memory) {
            self.unlink(&[old]);
        }
        Ok(object)
    }

    /// Unlinks the files of objects removed from the index. Open readers keep theirs. If a newer version has taken the name, the
    /// old file is unlinked already and the new one stays.
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

    /// Whether an object expires too soon to be written to flash.
    fn is_short_lived(&self, object: &StoredObject) -> bool {
        self.is_short(object.meta.received_at, object.meta.expires)
    }

    /// Whether the disk works, and today's write budget has these bytes.
    pub fn takes_on_disk(&self, bytes: u64) -> bool {
        self.0.root.disk.is_usable() && self.0.root.ledger.allows(bytes)
    }

    /// Whether memory has so little free room that a further object will soon evict another one.
    pub fn is_memory_full(&self) -> bool {
        let quota = self.quota(Tier::Memory);
        let arriving = self.0.partial_bytes[Tier::Memory as usize].load(Ordering::Relaxed);
        self.index().bytes(Tier::Memory).saturating_add(arriving) > quota - quota / 8
    }

    /// Whether an object that arrives at `now` and expires at `expires` belongs in memory.
    pub fn is_short(&self, now: WallTime, expires: Option<WallTime>) -> bool {
        let short_ms = i64::try_from(self.0.config.short_lived_s * 1000).unwrap_or(i64::MAX);
        expires.is_some_and(|expires| expires.unix_ms().saturating_sub(now.unix_ms()) <= short_ms)
    }

    /// Replaces the names that are pinned from the first byte on, regardless of the configuration: those of firmware.
    pub fn hold_on_to(&self, keys: Vec<String>) {
        *self.0.kept.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// The class that the configuration gives this name.
    pub fn class_of(&self, key: &str) -> Class {
        if self.0.kept.read().unwrap_or_else(PoisonError::into_inner).iter().any(|it| it == key) {
            return Class::Pinned;
        }
        let rules = self.0.config.classes.iter().filter(|rule| key.starts_with(rule.key_prefix()));
        rules.max_by_key(|rule| rule.key_prefix().len()).map_or(Class::Medium, |rule| rule.class)
    }

    /// Removes an object. Open readers keep it.
    pub fn remove(&self, key: &str, reason: EvictReason) -> bool {
        let removed = self.index().remove(key, reason);
        removed.inspect(|object| self.unlink(std::slice::from_ref(object))).is_some()
    }

    /// Removes exactly this object; a newer version of the same name stays.
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

    /// A number that changes when the carousel should deliver objects again: some were purged, corrupt or vanished, or there is
    /// room for what was evicted for room.
    pub fn losses(&self) -> u64 {
        let mut index = self.index();
        let lost = index.evicted_for(&[EvictReason::Purged, EvictReason::Corrupt, EvictReason::Vanished]);
        let taken = self.0.partial_bytes[Tier::Flash as usize].load(Ordering::Relaxed);
        let quota = self.quota(Tier::Flash);
        let used = index.bytes(Tier::Flash).saturating_add(taken).saturating_add(self.leftover(Tier::Flash));
        lost + index.returning.invitations(quota.saturating_sub(used), quota)
    }

    /// Whether this version of an object was evicted for room and has not come back.
    pub fn returns(&self, key: &str, digest: Option<Digest>) -> bool {
        digest.is_some_and(|digest| self.index().returning.has(key, &digest))
    }

    /// Pins or unpins an object in memory: pinned ones are never evicted to make room. Lasts until the next start.
    pub fn pin(&self, key: &str, pinned: bool) -> bool {
        self.index().pin(key, pinned)
    }

    /// Every object, the most recently used first.
    pub fn list(&self) -> Vec<Arc<StoredObject>> {
        self.index().list().into_iter().map(|(object, _)| object).collect()
    }

    /// As [`list`](Self::list), each with whether it is pinned.
    pub fn list_with_pins(&self) -> Vec<(Arc<StoredObject>, bool)> {
        self.index().list()
    }

    /// A counter that changes with every insertion and removal; an unchanged value means an unchanged list.
    pub fn changes(&self) -> u64 {
        self.index().changes()
    }

    /// Whether the disk is assumed to accept writes: not for some seconds after a failed write.
    pub fn takes_writes(&self) -> bool {
        self.0.root.disk.is_usable()
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
            dropped_mappings: inner.root.dropped_mappings(),
            unguarded_mappings: sigbus::unguarded(),
            evicted: index.evicted(),
            arena_bytes: inner.root.arena.taken_bytes(),
            direct: inner.root.arena.direct.load(Ordering::Relaxed),
            page_cache: PageCacheReason::ALL.map(|why| inner.root.arena.page_cache.get(why)),
        }
    }

    /// Prepares for a stop: partials are kept from now on, to be resumed at the next start.
    pub fn closing(&self) {
        self.0.root.is_closing.store(true, Ordering::Release);
    }

    /// Marks a clean stop: the next start trusts the snapshot. Resumable partials are kept.
    pub fn close(&self) {
        self.closing();
        self.finish_purges();
        self.0.root.ledger.close();
        let objects = self.list();
        // Some objects are unverified since an unclean stop, so the next start must verify them too.
        if objects.iter().any(|object| !object.verified.load(Ordering::Acquire)) {
            return;
        }
        if let Err(err) = snapshot::write(self.path(), &objects) {
            tracing::warn!(%err, "cannot write the index snapshot; the next start reads every header");
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // A panic while the index was locked leaves a consistent map: each method changes it last.
        self.0.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes free to us on the file system of `folder`.
///
/// # Errors
/// If `folder` does not exist or cannot be read (`statvfs`).
pub fn free_bytes(folder: &Path) -> std::io::Result<u64> {
    file::free_bytes(folder)
}

/// A panic in between leaves a consistent value: each change under the lock is one assignment, insertion or removal.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod arena_tests;
#[cfg(test)]
mod guard_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
