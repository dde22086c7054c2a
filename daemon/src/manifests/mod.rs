//! Facts of the manifests in the cache: update intervals of live ones, the names that they list, and the segments that
//! follow another.
//!
//! Names are remembered as patterns, with a placeholder for every run of digits in the last path segment: a live window
//! moves, the pattern of its names stays. Segments are read from the manifest itself when needed.

mod air;
mod content;
mod loss;
mod names;
mod reuse;
#[cfg(test)]
mod tests;
mod versions;

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use carousel::flute::SessionKey;
use carousel::manifest::{self, Manifest, VersionOrder};
use carousel::name::ObjectKey;
use carousel::reason::Counts;
use carousel::time::{Instant, WallTime};
use event_listener::{Event, EventListener};
use lru::LruCache;

pub use self::content::{is_playable, plain, successors, text_of};
pub use self::versions::LateManifest;

use self::air::MAX_ARRIVALS;
use self::content::{coding_of, live_facts, may_be_manifest};
use self::loss::SentUpTo;
use self::names::{pattern_of, url_of};
use self::versions::Sent;
use crate::clock;
use crate::live_services::LiveServices;
use crate::services::Services;
use crate::store::{Frozen, ObjectMeta, Store, StoreError, StoredObject};

carousel::limits! {
    /// Manifests whose facts are remembered.
    const MAX_MANIFESTS: usize = 256, "manifests" {
        why: "Some thirty services with eight playlists each; each takes up to 3 KB.",
        full: "The manifest that was used longest ago is forgotten; segments that only it lists are no longer taken for live.",
        free: "When a newer manifest is read.",
        test: "the_table_and_each_manifest_are_bounded",
    }

    /// Patterns of names in one manifest.
    const MAX_PATTERNS: usize = 256, "patterns" {
        why: "Ladders have a dozen; names that are hashes have one for each segment.",
        full: "Names of further patterns are not known as this manifest's.",
        free: "When a newer version of the manifest is read.",
        test: "the_table_and_each_manifest_are_bounded",
    }
}

/// Facts of one manifest.
#[derive(Debug, Clone)]
struct ManifestRecord {
    facts: Manifest,
    patterns: HashSet<u64>,
    /// Patterns of partial segments that are objects of their own; also contained in `patterns`.
    parts: HashSet<u64>,
    /// It came from the carousel, not from an origin.
    is_carried: bool,
    /// Session and version, if it was received since the start.
    sent: Option<Sent>,
    received_at: WallTime,
    /// [`Manifest::start_ms`] of the last version that has one: a packager's final version has none.
    start_ms: Option<i64>,
    /// Arrival of the last version that advanced.
    advanced_at: Instant,
}

/// Facts of the manifests in the cache.
#[derive(Debug)]
pub struct Manifests {
    known: Mutex<LruCache<ObjectKey, Arc<ManifestRecord>>>,
    /// Time at which the carousel last brought a live object of this pattern.
    arrivals: Mutex<LruCache<u64, Instant>>,
    /// Keyed by the hash of a pattern and a session.
    sent: Mutex<LruCache<u64, SentUpTo>>,
    refused: Counts<LateManifest>,
    /// Manifests of origins whose freshness could not be read.
    unread: AtomicU64,
    /// Receives notice of the carousel's objects.
    services: Arc<Services>,
    live: LiveServices,
    /// Signals the arrival of a live manifest or an object of a live service.
    advanced: Event,
    hasher: RandomState,
}

impl Default for Manifests {
    fn default() -> Self {
        Self {
            known: Mutex::new(LruCache::new(const { NonZeroUsize::new(MAX_MANIFESTS).unwrap() })),
            arrivals: Mutex::new(LruCache::new(const { NonZeroUsize::new(MAX_ARRIVALS).unwrap() })),
            sent: Mutex::new(LruCache::new(const { NonZeroUsize::new(MAX_ARRIVALS).unwrap() })),
            refused: Counts::default(),
            unread: AtomicU64::new(0),
            services: Arc::default(),
            live: LiveServices::default(),
            advanced: Event::new(),
            hasher: RandomState::new(),
        }
    }
}

impl Manifests {
    /// Reads an object that is new in the cache, if it is a manifest, and marks it if it belongs to a live service. Reads the
    /// complete object: not for threads that must not wait for the disk.
    pub fn learn(&self, object: &Arc<StoredObject>) {
        self.learn_sent(object, None);
    }

    fn learn_sent(&self, object: &Arc<StoredObject>, session: Option<SessionKey>) {
        let meta = object.meta();
        let is_carried = meta.response.is_none();
        let facts = may_be_manifest(meta).then(|| object.bytes(0..meta.length)).flatten().and_then(|bytes| {
            let text = plain(&bytes, coding_of(meta))?;
            let sent = session.map(|session| Sent { session, version: meta.version });
            self.read(&meta.key, &text, (is_carried, sent), meta.received_at, clock::now())
        });
        object.set_live(facts.as_ref().and_then(live_facts));
        if let Some(target_ms) = self.live_target_ms(&meta.key) {
            object.mark_live();
            if meta.response.is_none() {
                self.arrived(&meta.key, clock::now());
            }
            if let Some(session) = session {
                self.note_sent(&meta.key, session, meta.version, target_ms, clock::now());
            }
        }
    }

    /// Publishes a received object, learns its facts, and wakes requests that wait for its service. Returns the object held
    /// under its key, which for a refused live manifest is the previous one.
    ///
    /// # Errors
    /// Those of [`Store::publish_if`].
    pub fn publish(
        &self,
        store: &Store,
        frozen: &Frozen,
        meta: ObjectMeta,
    ) -> Result<Arc<StoredObject>, StoreError> {
        self.publish_sent(store, frozen, meta, None)
    }

    /// As [`Manifests::publish`], for an object received in `session`.
    ///
    /// # Errors
    /// Those of [`Store::publish_if`].
    pub fn publish_sent(
        &self,
        store: &Store,
        frozen: &Frozen,
        meta: ObjectMeta,
        session: Option<SessionKey>,
    ) -> Result<Arc<StoredObject>, StoreError> {
        let may_replace =
            |meta: &ObjectMeta| self.may_replace(meta, session, frozen.as_slice(), clock::now());
        let is_carried = meta.response.is_none();
        let known_before = self.known().peek(&meta.key).cloned();
        let held_before = store.peek(meta.key.as_str());
        let before = known_before.clone().filter(|it| it.is_carried);
        let held = held_before.as_ref().filter(|it| is_carried && it.meta().response.is_none());
        let has_other_bytes = held.is_some_and(|it| it.meta().digest != meta.digest);
        let object = store.publish_if(frozen, meta, may_replace, |object| {
            if has_other_bytes {
                object.mark_changed();
            }
            self.learn_sent(object, session);
        })?;
        if let Some(before) = before {
            self.end_run(store, &object.meta().key, &before);
        }
        if !is_carried && object.live().is_some() {
            let earlier = held_before.filter(|it| it.meta().response.is_some());
            self.end_earlier_uses(store, &object, earlier.as_ref(), known_before.as_deref());
        }
        if object.is_live() {
            self.advanced.notify(usize::MAX);
            self.note(store, &object, is_carried, clock::now());
        }
        Ok(object)
    }

    /// Completes at the next arrival of a live manifest or of an object of a live service.
    pub fn listen(&self) -> EventListener {
        self.advanced.listen()
    }

    /// Reception of live services.
    pub const fn live(&self) -> &LiveServices {
        &self.live
    }

    /// The services that the objects belong to.
    pub const fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Counts a manifest of an origin that is too long to be read.
    pub(crate) fn count_unread(&self) {
        self.unread.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of manifests of origins that were too long to be read.
    pub fn unread(&self) -> u64 {
        self.unread.load(Ordering::Relaxed)
    }

    /// Live manifests that were refused.
    pub const fn refused(&self) -> &Counts<LateManifest> {
        &self.refused
    }

    /// Reads the facts of a manifest of this key, and remembers them. `None`: it is not a manifest.
    fn read(
        &self,
        key: &ObjectKey,
        bytes: &[u8],
        (is_carried, sent): (bool, Option<Sent>),
        received_at: WallTime,
        now: Instant,
    ) -> Option<Manifest> {
        let facts = Manifest::read(bytes)?;
        let mut patterns = HashSet::new();
        let (mut list, mut last) = (usize::MAX, 0);
        manifest::names(bytes, &url_of(key), &mut |segment| {
            if let Ok(name) = ObjectKey::from_name(segment.url, None) {
                let pattern = self.pattern(name.as_str());
                if (segment.list, pattern) != (list, last) {
                    (list, last) = (segment.list, pattern);
                    patterns.insert(pattern);
                }
            }
            patterns.len() < MAX_PATTERNS
        });
        let mut parts = HashSet::new();
        manifest::parts(bytes, &url_of(key), &mut |part| {
            if let Ok(name) = ObjectKey::from_name(part.url, None) {
                let pattern = self.pattern(name.as_str());
                patterns.insert(pattern);
                if !part.is_range {
                    parts.insert(pattern);
                }
            }
            patterns.len() < MAX_PATTERNS
        });
        let mut known = self.known();
        let same = known.peek(key).filter(|it| facts.compare_version(&it.facts) == VersionOrder::Same);
        let advanced_at = same.map_or(now, |it| it.advanced_at);
        let start_ms = facts.start_ms.or_else(|| known.peek(key)?.start_ms);
        known.put(
            key.clone(),
            Arc::new(ManifestRecord {
                facts: facts.clone(),
                patterns,
                parts,
                is_carried,
                sent,
                received_at,
                start_ms,
                advanced_at,
            }),
        );
        Some(facts)
    }

    /// The facts of the last version held of the manifest of this key.
    pub fn facts(&self, key: &ObjectKey) -> Option<Manifest> {
        self.known().peek(key).map(|known| known.facts.clone())
    }

    /// Target duration, in milliseconds, of a live manifest that has this name or lists its pattern.
    pub fn live_target_ms(&self, key: &ObjectKey) -> Option<u64> {
        let pattern = self.pattern(key.as_str());
        let known = self.known();
        let own = known.peek(key).filter(|it| it.facts.is_live);
        let lists =
            || known.iter().map(|it| it.1).find(|it| it.facts.is_live && it.patterns.contains(&pattern));
        own.or_else(lists).map(|it| it.facts.target_ms)
    }

    /// Whether a live playlist lists this name pattern as partial segments.
    pub fn is_part(&self, key: &ObjectKey) -> bool {
        let pattern = self.pattern(key.as_str());
        self.known().iter().any(|it| it.1.facts.is_live && it.1.parts.contains(&pattern))
    }

    /// Manifests that list this name pattern, the last learned first.
    pub fn listing(&self, key: &ObjectKey) -> Vec<ObjectKey> {
        let pattern = self.pattern(key.as_str());
        let known = self.known();
        known.iter().filter(|it| it.1.patterns.contains(&pattern)).map(|it| it.0.clone()).collect()
    }

    /// Lets a manifest count as one that has not advanced for long.
    #[cfg(test)]
    fn forget_advance(&self, key: &ObjectKey) {
        let mut known = self.known();
        if let Some(it) = known.get_mut(key) {
            let long_ago = Instant::from_nanos(0);
            *it = Arc::new(ManifestRecord { advanced_at: long_ago, ..ManifestRecord::clone(it) });
        }
    }

    fn pattern(&self, name: &str) -> u64 {
        self.hasher.hash_one(pattern_of(name))
    }

    fn known(&self) -> MutexGuard<'_, LruCache<ObjectKey, Arc<ManifestRecord>>> {
        // Every change is one insertion, so a panic elsewhere leaves the table consistent.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
