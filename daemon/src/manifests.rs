//! Facts of the manifests in the cache: update intervals of live ones, the names that they list, and the segments that
//! follow another.
//!
//! Names are remembered as patterns, with a placeholder for every run of digits in the last path segment: a live window
//! moves, the pattern of its names stays. Segments are read from the manifest itself when needed.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use carousel::flute::SessionKey;
use carousel::manifest::{self, MAX_MANIFEST_BYTES, Manifest, ManifestKind, VersionOrder};
use carousel::name::ObjectKey;
use carousel::reason::Counts;
use carousel::time::{Instant, WallTime};
use event_listener::{Event, EventListener};
use lru::LruCache;

use crate::delivery::ObjectRef;
use crate::live_services::{Arrival, LiveEdge, LiveReport, LiveServices};
use crate::services::Services;
use crate::store::{CameBy, EvictReason, Frozen, LiveFacts, ObjectMeta, Store, StoreError, StoredObject};
use crate::{clock, coding};

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

    /// Patterns of live objects whose last arrival is remembered, and patterns of one session whose last TOI is.
    const MAX_ARRIVALS: usize = 1024, "patterns" {
        why: "Thirty services with twenty names each; an entry takes 50 to 100 bytes.",
        full: "The pattern that was used longest ago is forgotten: its service counts as silent, and its lost segments are waited for, until an object of it arrives.",
        free: "When an object of another pattern arrives.",
        test: "a_service_is_on_the_air_for_three_targets_after_an_arrival",
    }
}

/// Session and version in which a manifest was sent: versions (TOIs) rise within one session; those of two sessions
/// cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    session: SessionKey,
    version: u64,
}

#[derive(Debug)]
struct Known {
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

/// Target durations after the last advance of a live manifest during which older versions are refused. After that they
/// are accepted: the service has restarted with lower numbers, or its newer source has ended.
const LATE_TARGETS: u64 = 3;

carousel::reasons! {
    /// Source of a live manifest that was refused because it does not go as far as the one held.
    pub enum LateManifest in "live_manifests_refused" by "from" {
        /// The carousel: the origin has a newer one.
        Carousel = "carousel",
        /// The origin: the carousel has brought a newer one.
        Origin = "origin",
    }
}

/// Maximum manifests read to find the segments after another.
const LISTINGS_READ: usize = 2;
/// Sequence numbers searched after a missing segment: covers a link outage of 30 s with one-second segments.
const NUMBERS_AFTER: u64 = 32;

/// Segments at the end of each list that are checked: older ones have arrived, or will not.
const EDGE: usize = 8;

/// Target durations after its last object for which a live service counts as on the air.
const ALIVE_TARGETS: u64 = 3;

/// Time by which objects sent interleaved have all begun.
const IN_TURNS: Duration = Duration::from_millis(250);

/// Maximum difference of two current TOIs of one session: those of 16 bits wrap around to 1, so that a low one may be later than
/// a high one.
const MOST_APART: u64 = 1 << 15;

/// Objects that must arrive in the order of their TOIs before a session counts as ordered.
const IN_ORDER: u8 = 4;

/// Transmission progress of one session for the objects of one name pattern.
#[derive(Debug, Clone, Copy)]
struct SentUpTo {
    /// The first TOI of this run.
    first: u64,
    /// The highest received TOI, and its time. Lower ones soon after it belong to the initial window of a sender, which is sent
    /// newest first.
    last: u64,
    at: Instant,
    /// Objects received in order, up to [`IN_ORDER`]. A lower TOI more than a target duration later begins a new run: the sender
    /// has restarted, repeats objects, or sends them in another order.
    in_order: u8,
    target_ms: u64,
}

impl SentUpTo {
    const fn new(toi: u64, at: Instant, target_ms: u64) -> Self {
        Self { first: toi, last: toi, at, in_order: 0, target_ms }
    }

    fn push(&mut self, toi: u64, at: Instant, target_ms: u64) {
        let is_late = || at.since(self.at) > Duration::from_millis(target_ms);
        if toi > self.last && toi - self.last <= MOST_APART {
            let in_order = self.in_order.saturating_add(1).min(IN_ORDER);
            *self = Self { last: toi, at, in_order, target_ms, ..*self };
        } else if toi.abs_diff(self.last) > MOST_APART || (toi < self.last && is_late()) {
            *self = Self::new(toi, at, target_ms);
        }
    }

    /// Time until the object with this TOI counts as lost, if nothing of it has been received.
    fn time_to_loss(&self, toi: u128, now: Instant) -> Option<Duration> {
        let is_between = u128::from(self.first) < toi && toi < u128::from(self.last);
        let since = now.since(self.at);
        let is_on_air = since <= Duration::from_millis(ALIVE_TARGETS * self.target_ms);
        (is_between && is_on_air && self.in_order == IN_ORDER).then(|| IN_TURNS.saturating_sub(since))
    }
}

/// Facts of the manifests in the cache.
#[derive(Debug)]
pub struct Manifests {
    known: Mutex<LruCache<ObjectKey, Arc<Known>>>,
    /// Time at which the carousel last brought a live object of this pattern.
    arrivals: Mutex<LruCache<u64, Instant>>,
    /// Keyed by the hash of a pattern and a session.
    sent: Mutex<LruCache<u64, SentUpTo>>,
    refused: Counts<LateManifest>,
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

    /// Lookup, by service name, of the time since which its groups are joined.
    pub(crate) fn joined_at(&self) -> impl Fn(&str) -> Option<Instant> + use<> {
        let services = self.services.all();
        move |name| match services.iter().find(|it| it.id == name) {
            Some(service) => service.joined_at(),
            // Groups that no document assigns to services are joined from the start.
            None => Some(Instant::from_nanos(0)),
        }
    }

    /// Reception of all live services.
    pub fn live_reports(&self) -> Vec<LiveReport> {
        self.live.reports(clock::now(), clock::date(), self.joined_at())
    }

    /// Records a live object from the carousel.
    fn arrived(&self, key: &ObjectKey, now: Instant) {
        let pattern = self.pattern(key.as_str());
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).put(pattern, now);
    }

    /// Records that `session` has delivered the live object `toi` completely.
    fn note_sent(&self, key: &ObjectKey, session: SessionKey, toi: u64, target_ms: u64, now: Instant) {
        let pattern = self.hasher.hash_one((pattern_of(key.as_str()), session));
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.get_or_insert_mut(pattern, || SentUpTo::new(toi, now, target_ms)).push(toi, now, target_ms);
    }

    /// Time until `object`, of which nothing has been received, counts as lost: live objects are sent once, in the order of TOIs,
    /// and an earlier and a later one of its session and name pattern have arrived. Zero: it is lost; `None`: it may still come.
    pub fn time_to_loss(&self, key: &ObjectKey, object: &ObjectRef, now: Instant) -> Option<Duration> {
        let pattern = self.hasher.hash_one((pattern_of(key.as_str()), object.session));
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.peek(&pattern)?.time_to_loss(object.toi.0, now)
    }

    /// Target duration, in milliseconds, of the live service with this name pattern, if the carousel has brought an object
    /// of it recently, so that further ones may come.
    pub fn on_air_target_ms(&self, key: &ObjectKey, now: Instant) -> Option<u64> {
        let target_ms = self.live_target_ms(key)?;
        let pattern = self.pattern(key.as_str());
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let silence = now.since(*arrivals.peek(&pattern)?);
        (silence <= Duration::from_millis(ALIVE_TARGETS * target_ms)).then_some(target_ms)
    }

    /// Whether the live service of a manifest is on the air: judged by the manifest itself, and by those below its folder, as
    /// media playlists are. `None`: it belongs to no known live service.
    pub fn is_on_air(&self, key: &ObjectKey, now: Instant) -> Option<bool> {
        let path = key.as_str().split('?').next().unwrap_or_default();
        let folder = &path[..path.rfind('/').map_or(0, |at| at + 1)];
        let is_of_service = |it: &ObjectKey, known: &Known| {
            known.facts.is_live && !folder.is_empty() && it.as_str().starts_with(folder)
        };
        let known = self.known();
        let of_service: Vec<(u64, Arc<Known>)> = known
            .iter()
            .filter(|(it, known)| is_of_service(it, known))
            .map(|(it, known)| (self.pattern(it.as_str()), Arc::clone(known)))
            .collect();
        drop(known);
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let is_alive = |own: u64, known: &Known| {
            let most = Duration::from_millis(ALIVE_TARGETS * known.facts.target_ms);
            let came = |pattern: &u64| arrivals.peek(pattern).is_some_and(|at| now.since(*at) <= most);
            came(&own) || known.patterns.iter().any(came)
        };
        let any = of_service.iter().any(|(own, known)| is_alive(*own, known));
        (!of_service.is_empty()).then_some(any)
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
        let before = self.known().peek(&meta.key).filter(|it| it.is_carried).cloned();
        let held = store.peek(meta.key.as_str()).filter(|it| is_carried && it.meta().response.is_none());
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
        if object.is_live() {
            self.advanced.notify(usize::MAX);
            self.note(store, &object, is_carried, clock::now());
        }
        Ok(object)
    }

    /// Removes the segments of a packager's earlier run if the manifest of this key now belongs to a new run, which reuses their
    /// names. A manifest comes after its segments, so objects that arrived after the last manifest of the earlier run, `before`,
    /// belong to the new run.
    fn end_run(&self, store: &Store, key: &ObjectKey, before: &Known) {
        let Some(known) = self.known().peek(key).cloned() else { return };
        let has_restarted = match known.facts.kind {
            ManifestKind::Dash => known.start_ms.zip(before.start_ms).is_some_and(|(now, then)| now != then),
            _ => match known.facts.compare_version(&before.facts) {
                VersionOrder::MuchOlder => true,
                // Another sender that lags behind lists the same segments.
                VersionOrder::Older => self.lists_changed(store, key, before),
                VersionOrder::Newer | VersionOrder::Same | VersionOrder::Unknown => false,
            },
        };
        if !has_restarted || !known.is_carried {
            return;
        }
        let (mut objects, folder) = (0_u64, key.as_str().rfind('/').map_or("", |at| &key.as_str()[..=at]));
        for object in store.list() {
            let meta = object.meta();
            let is_of_it = meta.response.is_none()
                && object.last_offered() <= before.received_at
                && meta.key.as_str().starts_with(folder)
                && self.facts(&meta.key).is_none()
                && known.patterns.contains(&self.pattern(meta.key.as_str()));
            if is_of_it {
                store.remove(meta.key.as_str(), EvictReason::Replaced);
                objects += 1;
            }
        }
        tracing::info!(manifest = %key, objects, "the packager has restarted: segments of its earlier run are removed");
    }

    /// Whether the manifest of this key lists a segment that arrived after the version `before` and replaced other bytes of the
    /// same name.
    fn lists_changed(&self, store: &Store, key: &ObjectKey, before: &Known) -> bool {
        let Some(manifest) = store.peek(key.as_str()) else { return false };
        let bytes = manifest.bytes(0..manifest.meta().length);
        let Some(text) = bytes.as_ref().and_then(|bytes| plain(bytes, coding_of(manifest.meta()))) else {
            return false;
        };
        let mut is_any = false;
        manifest::segments(&text, &url_of(key), &mut |segment| {
            let name = ObjectKey::from_name(segment.url, None).ok();
            let object = name.and_then(|name| store.peek(name.as_str()));
            is_any = object.is_some_and(|it| it.has_changed() && it.meta().received_at > before.received_at);
            !is_any
        });
        is_any
    }

    /// Whether a received object may replace the one held under its key: not if it is an older version of a live manifest that
    /// still advances. Counts refusals.
    fn may_replace(
        &self,
        meta: &ObjectMeta,
        session: Option<SessionKey>,
        bytes: &[u8],
        now: Instant,
    ) -> bool {
        if !may_be_manifest(meta) {
            return true;
        }
        let Some(held) = self.known().peek(&meta.key).filter(|it| it.facts.is_live).cloned() else {
            return true;
        };
        let facts = plain(bytes, coding_of(meta)).and_then(|text| Manifest::read(&text));
        let Some(facts) = facts else { return true };
        let is_carried = meta.response.is_none();
        let sent = session.map(|session| Sent { session, version: meta.version });
        let is_late = held.is_ahead_of(&facts, is_carried, sent, now);
        if is_late {
            let from = if is_carried { LateManifest::Carousel } else { LateManifest::Origin };
            self.refused.add(from);
            tracing::debug!(key = %meta.key, %from, "a live manifest does not go as far as the one held: refused");
        }
        !is_late
    }

    /// Completes at the next arrival of a live manifest or of an object of a live service.
    pub fn listen(&self) -> EventListener {
        self.advanced.listen()
    }

    /// Records the arrival of an object for its service. For a refused manifest, `object` is the one held, which has arrived
    /// before.
    fn note(&self, store: &Store, object: &Arc<StoredObject>, is_carried: bool, now: Instant) {
        let meta = object.meta();
        let key = &meta.key;
        if meta.status() != 200 || meta.response.is_none() != is_carried {
            return;
        }
        let Some(target_ms) = self.live_target_ms(key) else { return };
        let Some(service) = self.service_of(key) else { return };
        if !is_carried {
            self.live.arrived(now, &service, target_ms, key, Arrival::FromOrigin);
        } else if object.live().is_none() {
            let is_repaired = meta.came_by == CameBy::CarouselRepaired;
            self.live.arrived(now, &service, target_ms, key, Arrival::Segment { is_repaired });
        }
        let facts = self.facts(key).filter(|it| it.is_live && it.kind != ManifestKind::Steering);
        let Some(facts) = facts.filter(|_| object.live().is_some()) else { return };
        if let Some((folder, _)) = key.as_str().rsplit_once('/').filter(|it| it.0 != service) {
            self.live.merged(folder, &service);
        }
        let bytes = is_carried.then(|| object.bytes(0..meta.length)).flatten();
        let missing = bytes.map(|bytes| self.missing(&bytes, key, &|key| store.contains(key.as_str())));
        let edge = LiveEdge { target_ms: facts.target_ms, end_ms: facts.end_ms };
        self.live.listed(now, &service, edge, missing.unwrap_or_default());
    }

    /// Absent segments at the end of each list of a manifest, counted from the first present one, for lists of name patterns that
    /// the carousel brings: a box that has just joined the service does not get earlier ones.
    fn missing(
        &self,
        bytes: &[u8],
        manifest: &ObjectKey,
        is_here: &dyn Fn(&ObjectKey) -> bool,
    ) -> Vec<ObjectKey> {
        let mut missing = Vec::new();
        for edge in edges(bytes, manifest) {
            let keys = edge.into_iter().map(|key| (is_here(&key), key));
            missing.extend(keys.skip_while(|it| !it.0).filter(|it| !it.0).map(|it| it.1));
        }
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        missing.retain(|key| arrivals.contains(&self.pattern(key.as_str())));
        missing
    }

    /// The service of a live object: its identifier, otherwise the folder of the playlist that lists it.
    fn service_of(&self, key: &ObjectKey) -> Option<String> {
        if let Some(service) = self.services.of(key) {
            return Some(service.id.clone());
        }
        let playlist =
            if self.facts(key).is_some() { None } else { Some(self.listing(key).into_iter().next()?) };
        let (folder, _) = playlist.as_ref().unwrap_or(key).as_str().rsplit_once('/')?;
        Some(folder.to_owned())
    }

    /// Reception of live services.
    pub const fn live(&self) -> &LiveServices {
        &self.live
    }

    /// The services that the objects belong to.
    pub const fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Live manifests that were refused.
    pub const fn refused(&self) -> &Counts<LateManifest> {
        &self.refused
    }

    /// Reads the facts of a manifest of this key, and remembers them. `None`: it is no manifest.
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
            Arc::new(Known {
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

    /// Whether a segment of a live service will no longer come: a later one is here, and live objects are sent once and in order.
    /// Later segments are those that follow it in a manifest, or in number where names have only a number.
    pub fn is_passed(&self, key: &ObjectKey, is_here: &dyn Fn(&str) -> bool, store: &Store) -> bool {
        let listing = self.listing(key);
        let manifests = listing.iter().take(LISTINGS_READ).filter_map(|it| store.get(it.as_str()));
        let live: Vec<_> = manifests.filter(|it| it.live().is_some()).collect();
        let is_listed = |it| successors(it, key, EDGE).iter().any(|it| is_here(it.as_str()));
        let is_numbered = |it| numbered_after(it, key).iter().any(|it| is_here(it));
        live.iter().any(is_listed) || live.iter().any(is_numbered)
    }

    /// Whether a segment of a live service on the air has passed, and no playlist can mark it as a gap: only MPDs list its
    /// pattern.
    pub fn is_lost_of_dash(
        &self,
        key: &ObjectKey,
        is_here: &dyn Fn(&str) -> bool,
        store: &Store,
        now: Instant,
    ) -> bool {
        let is_of_dash = || {
            let pattern = self.pattern(key.as_str());
            let known = self.known();
            let mut listing =
                known.iter().map(|it| it.1).filter(|it| it.patterns.contains(&pattern)).peekable();
            listing.peek().is_some()
                && listing.all(|it| it.facts.is_live && it.facts.kind == ManifestKind::Dash)
        };
        self.on_air_target_ms(key, now).is_some() && is_of_dash() && self.is_passed(key, is_here, store)
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

    fn pattern(&self, name: &str) -> u64 {
        self.hasher.hash_one(pattern_of(name))
    }

    fn known(&self) -> MutexGuard<'_, LruCache<ObjectKey, Arc<Known>>> {
        // Every change is one insertion, so a panic elsewhere leaves the table consistent.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Whether players should get this version and not one with these facts; `sent`: session and version of the latter. A jump
    /// far back by the same source is a restart, by another source a lag. A later transmission of the same session is never
    /// behind.
    fn is_ahead_of(&self, facts: &Manifest, is_carried: bool, sent: Option<Sent>, now: Instant) -> bool {
        let is_later = self
            .sent
            .zip(sent)
            .is_some_and(|(held, new)| new.session == held.session && new.version > held.version);
        let is_behind = match facts.compare_version(&self.facts) {
            VersionOrder::Older => !is_later,
            VersionOrder::MuchOlder => is_carried != self.is_carried,
            VersionOrder::Newer | VersionOrder::Same | VersionOrder::Unknown => false,
        };
        let late = Duration::from_millis(LATE_TARGETS * self.facts.target_ms);
        is_behind && now.since(self.advanced_at) <= late
    }
}

/// Whether a live manifest can be played: one of its last segments is here, or it lists none because their names follow
/// from the time.
pub fn is_playable(object: &Arc<StoredObject>, is_here: &dyn Fn(&str) -> bool) -> bool {
    let meta = object.meta();
    object.bytes(0..meta.length).is_none_or(|bytes| has_some(&bytes, &meta.key, is_here))
}

fn has_some(bytes: &[u8], manifest: &ObjectKey, is_here: &dyn Fn(&str) -> bool) -> bool {
    let edges = edges(bytes, manifest);
    edges.iter().all(Vec::is_empty) || edges.iter().flatten().any(|it| is_here(it.as_str()))
}

/// The last segments of each list of a manifest.
fn edges(bytes: &[u8], manifest: &ObjectKey) -> Vec<Vec<ObjectKey>> {
    let lists = manifest::last_segments(bytes, &url_of(manifest), EDGE, |it| !it.is_range);
    let key = |url: &String| ObjectKey::from_name(url, None).ok();
    lists.iter().map(|it| it.urls.iter().filter_map(key).collect()).collect()
}

/// The segments that follow `key` in the manifest `object`, at most `count`. Empty where the manifest does not list it, or
/// lists ranges of it.
pub fn successors(object: &Arc<StoredObject>, key: &ObjectKey, count: usize) -> Vec<ObjectKey> {
    let meta = object.meta();
    let Some(bytes) = object.bytes(0..meta.length) else { return Vec::new() };
    let text = plain(&bytes, coding_of(meta));
    text.map_or_else(Vec::new, |text| following(&text, &meta.key, key, count))
}

fn following(bytes: &[u8], manifest: &ObjectKey, key: &ObjectKey, count: usize) -> Vec<ObjectKey> {
    let last_part =
        |name: &str| name.split('?').next().and_then(|it| it.rsplit('/').next()).map(str::to_owned);
    let wanted = last_part(key.as_str());
    let (mut found, mut out) = (None, Vec::new());
    manifest::segments(bytes, &url_of(manifest), &mut |segment| {
        if let Some(list) = found {
            if segment.list != list || segment.is_range {
                return false;
            }
            // A name repeated in succession is one object.
            if let Ok(name) = ObjectKey::from_name(segment.url, None)
                && name != *key
                && out.last() != Some(&name)
            {
                out.push(name);
            }
            return out.len() < count;
        }
        let is_it = last_part(segment.url) == wanted
            && ObjectKey::from_name(segment.url, None).is_ok_and(|name| name == *key);
        if is_it && !segment.is_range {
            found = Some(segment.list);
        }
        count > 0
    });
    out
}

/// The decoded text of a manifest; `None`: it is not a manifest, or longer than [`MAX_MANIFEST_BYTES`].
pub fn plain<'a>(bytes: &'a [u8], coding: Option<&str>) -> Option<Cow<'a, [u8]>> {
    let may_begin_so = |bytes: &[u8]| {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
        matches!(bytes.first(), None | Some(b'#' | b'<' | b'{'))
    };
    coding::plain(bytes, coding, MAX_MANIFEST_BYTES, may_begin_so)
}

/// The content coding of an object from an origin; objects from a carousel are stored decoded.
fn coding_of(meta: &ObjectMeta) -> Option<&str> {
    let fields = &meta.response.as_ref()?.headers;
    fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-encoding")).map(|it| it.1.as_str())
}

/// Facts that the store keeps with a live manifest.
fn live_facts(facts: &Manifest) -> Option<LiveFacts> {
    let is_renewed = facts.update_period_ms.is_some();
    facts.fresh_ms().map(|fresh_ms| LiveFacts { fresh_ms, target_ms: facts.target_ms, is_renewed })
}

/// False for media and long objects.
fn may_be_manifest(meta: &ObjectMeta) -> bool {
    let is_media = meta.content_type.as_deref().is_some_and(|it| {
        ["video/", "audio/", "image/", "font/"]
            .iter()
            .any(|media| it.get(..media.len()).is_some_and(|it| it.eq_ignore_ascii_case(media)))
            && !it.to_ascii_lowercase().contains("mpegurl")
    });
    !is_media && meta.length > 0 && meta.length <= MAX_MANIFEST_BYTES as u64 && meta.status() == 200
}

fn url_of(key: &ObjectKey) -> String {
    format!("http://{key}")
}

/// A name without its query, with each run of digits in the last path segment replaced by `#`.
fn pattern_of(name: &str) -> String {
    let path = name.split('?').next().unwrap_or(name);
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let mut out = String::with_capacity(path.len() + 1);
    out.push_str(folder);
    out.push('/');
    let mut was_digit = false;
    for c in file.chars() {
        let is_digit = c.is_ascii_digit();
        if !is_digit {
            out.push(c);
        } else if !was_digit {
            out.push('#');
        }
        was_digit = is_digit;
    }
    out
}

/// The names of the [`NUMBERS_AFTER`] segments after `key` in a manifest that names its segments by number: `key` differs from
/// one of its names in one number only.
fn numbered_after(manifest: &Arc<StoredObject>, key: &ObjectKey) -> Vec<String> {
    let meta = manifest.meta();
    let Some(bytes) = manifest.bytes(0..meta.length) else { return Vec::new() };
    let Some(text) = plain(&bytes, coding_of(meta)) else { return Vec::new() };
    let (mut numbers, mut is_first) = (Vec::new(), false);
    manifest::names(&text, &url_of(&meta.key), &mut |segment| {
        // Segments of a timeline are found by [`successors`].
        if segment.timeline.is_none()
            && let Ok(name) = ObjectKey::from_name(segment.url, None)
        {
            is_first |= name == *key;
            numbers.extend(one_number_of(key.as_str(), name.as_str()));
            numbers.dedup();
        }
        !is_first && numbers.len() < 2
    });
    // The first segment of a rendition may also resemble those of other renditions.
    match numbers.as_slice() {
        [number] if !is_first => names_after(key.as_str(), number.clone()),
        _ => Vec::new(),
    }
}

/// The range of the number in which `name` differs from `other`, if that is the only difference.
fn one_number_of(name: &str, other: &str) -> Option<Range<usize>> {
    let is_digit = |it: &u8| it.is_ascii_digit();
    let same = |(a, b): &(u8, u8)| a == b;
    let pairs = || name.bytes().zip(other.bytes());
    let alike = pairs().take_while(same).count();
    // The number may begin with digits common to both.
    let start = alike - name.as_bytes()[..alike].iter().rev().take_while(|it| is_digit(it)).count();
    let end = start + name.as_bytes()[start..].iter().take_while(|it| is_digit(it)).count();
    let other_end = start + other.as_bytes()[start..].iter().take_while(|it| is_digit(it)).count();
    let is_number = start < end && start < other_end && name[start..end] != other[start..other_end];
    (is_number && name[end..] == other[other_end..]).then_some(start..end)
}

/// The name with the following numbers in place of the one at `number`, with the same width.
fn names_after(name: &str, number: Range<usize>) -> Vec<String> {
    let (width, value) = (number.len(), name[number.clone()].parse::<u64>());
    let next =
        value.into_iter().flat_map(|value| (1..=NUMBERS_AFTER).filter_map(move |it| value.checked_add(it)));
    next.map(|next| format!("{}{next:0width$}{}", &name[..number.start], &name[number.end..])).collect()
}

#[cfg(test)]
mod tests {
    use carousel::digest::Digest;

    use super::*;
    use crate::store::testing::{carried, open};
    use crate::store::{CameBy, Class, ObjectUri, ResponseMeta};

    fn key(name: &str) -> ObjectKey {
        ObjectKey::from_name(name, None).unwrap()
    }

    fn read(manifests: &Manifests, key: &ObjectKey, bytes: &[u8]) -> Option<Manifest> {
        manifests.read(key, bytes, (true, None), WallTime::from_unix_ms(0), Instant::from_nanos(0))
    }

    fn names(all: &[ObjectKey]) -> Vec<&str> {
        all.iter().map(ObjectKey::as_str).collect()
    }

    #[test]
    fn the_number_of_a_segment_is_where_its_manifest_has_one() {
        let after = |name: &str, other: &str| {
            let number = one_number_of(name, other)?;
            Some(names_after(name, number)[0].clone())
        };
        assert_eq!(after("h/s-9.m4s", "h/s-1.m4s").as_deref(), Some("h/s-10.m4s"));
        assert_eq!(after("h/s-00112.m4s", "h/s-00001.m4s").as_deref(), Some("h/s-00113.m4s"));
        assert_eq!(
            after("h/s-110.m4s", "h/s-1.m4s").as_deref(),
            Some("h/s-111.m4s"),
            "more digits, alike at first"
        );
        assert_eq!(
            after("h/12-v3.m4s?a=1", "h/1-v3.m4s?a=1").as_deref(),
            Some("h/13-v3.m4s?a=1"),
            "not the rendition's"
        );
        for (name, other) in [
            ("h/12-v3.m4s", "h/1-v4.m4s"),
            ("h/s-1.m4s", "h/s-1.m4s"),
            ("h/s-1.m4s", "h/s-1.mp4"),
            ("h/s-.m4s", "h/s-1.m4s"),
            ("h/s-1", "h/s-1x"),
            ("", ""),
        ] {
            assert_eq!(after(name, other), None, "{name} {other}");
        }
        assert_eq!(names_after("s99999999999999999999", 1..21), Vec::<String>::new(), "no number of 64 bits");
        assert_eq!(names_after("s9", 1..2).len() as u64, NUMBERS_AFTER);
    }

    /// Live is sent once, in the order of TOIs.
    #[test]
    fn what_a_session_has_sent_past_is_lost() {
        let manifests = Manifests::default();
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let session = |tsi| SessionKey {
            source: [10, 0, 0, 1].into(),
            destination: ([239, 1, 1, 1], 5000).into(),
            tsi: carousel::lct::Tsi(tsi),
        };
        let toi = |tsi, toi| ObjectRef { session: session(tsi), toi: carousel::lct::Toi(toi) };
        let left = |object: ObjectRef, ms| manifests.time_to_loss(&key("h/s1.ts"), &object, at(ms));
        let sent = |name: &str, toi, ms| manifests.note_sent(&key(name), session(1), toi, 2_000, at(ms));
        let wait = |ms| Some(Duration::from_millis(ms));
        assert_eq!(left(toi(1, 5), 0), None, "nothing has come");
        // The window of a start: the newest first.
        for (toi, ms) in [(4, 0), (3, 100), (5, 200), (2, 300), (1, 400)] {
            sent("h/s0.ts", toi, ms);
        }
        for (toi, ms) in [(6, 2_000), (7, 4_000)] {
            sent("h/s0.ts", toi, ms);
        }
        assert_eq!(left(toi(1, 5), 5_000), None, "too few came in order");
        sent("h/s0.ts", 9, 8_000);
        assert_eq!(left(toi(1, 8), 8_000), wait(250), "it may be sent in turns with the one that came");
        assert_eq!((left(toi(1, 8), 8_100), left(toi(1, 8), 8_250)), (wait(150), wait(0)));
        assert_eq!(left(toi(1, 8), 14_000), wait(0));
        assert_eq!(left(toi(1, 8), 14_001), None, "its service is silent");
        assert_eq!(left(toi(1, 10), 9_000), None, "it comes after");
        assert_eq!(left(toi(1, 3), 9_000), None, "of the window of the start, which may still come");
        assert_eq!(left(toi(2, 8), 9_000), None, "of another session");
        assert_eq!(manifests.time_to_loss(&key("h/v/s1.ts"), &toi(1, 8), at(9_000)), None, "of another name");
        // What is finished a little later is still in order; later than a target duration a new run begins.
        sent("h/s0.ts", 8, 9_900);
        assert_eq!(left(toi(1, 7), 9_950), wait(0));
        sent("h/s0.ts", 8, 10_100);
        assert_eq!(left(toi(1, 7), 10_100), None, "it may come round again");
        for (toi, ms) in [(10, 12_000), (11, 14_000), (12, 16_000), (14, 18_000)] {
            sent("h/s0.ts", toi, ms);
        }
        assert_eq!(left(toi(1, 13), 19_000), wait(0));
        // TOIs of 16 bits begin again, and so does a sender.
        for start in [65_530, 1] {
            for more in 0..6 {
                manifests.note_sent(&key("h/w/s0.ts"), session(1), start + more, 2_000, at(more));
            }
        }
        let wrapped = |number| manifests.time_to_loss(&key("h/w/s1.ts"), &toi(1, number), at(900));
        assert_eq!((wrapped(65_531), wrapped(3), wrapped(7)), (None, wait(0), None));
        for number in 0..MAX_ARRIVALS as u64 {
            manifests.note_sent(&key(&format!("h/{number}/s1.ts")), session(1), 1, 2_000, at(9_000));
        }
        assert_eq!(manifests.sent.lock().unwrap().len(), MAX_ARRIVALS);
        assert_eq!(left(toi(1, 13), 19_000), None, "forgotten: it is waited for");
    }

    const LIVE: &[u8] =
        b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nv/s8.ts\n#EXTINF:4,\nv/s9.ts\n#EXTINF:4,\nv/s10.ts\n";

    #[test]
    fn segments_of_an_earlier_run_of_a_packager_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let manifests = Manifests::default();
        let put = |name: &str, bytes: &[u8], at_ms: i64| {
            let (frozen, meta) = carried(&store, name, bytes);
            let meta = ObjectMeta {
                version: at_ms.unsigned_abs(),
                received_at: WallTime::from_unix_ms(at_ms),
                ..meta
            };
            manifests.publish(&store, &frozen, meta).unwrap();
        };
        let mpd = |start: &str, publish: &str| {
            format!(
                "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"dynamic\" availabilityStartTime=\"2026-11-29T{start}Z\" \
                 publishTime=\"2026-11-29T{publish}Z\" minimumUpdatePeriod=\"PT1S\"><Period><AdaptationSet><Representation id=\"a\" \
                 bandwidth=\"1\"><SegmentTemplate duration=\"1\" media=\"$RepresentationID$-$Number$.m4s\"/></Representation>\
                 </AdaptationSet></Period></MPD>"
            )
        };
        put("h/live/a.mpd", mpd("10:00:00", "10:00:00").as_bytes(), 500);
        put("h/other/a-5.m4s", b"another service", 900);
        for number in 1..=9 {
            put(&format!("h/live/a-{number}.m4s"), b"earlier run", 1000 * number);
            put("h/live/a.mpd", mpd("10:00:00", &format!("10:00:0{number}")).as_bytes(), 1000 * number + 1);
        }
        assert!(store.contains("h/live/a-9.m4s"), "one run");
        // Its packager ends in order.
        let ended =
            mpd("10:00:00", "10:00:10").replace("dynamic", "static").replace("availabilityStartTime", "id");
        put("h/live/a.mpd", ended.as_bytes(), 10_000);
        assert!(store.contains("h/live/a-9.m4s"), "it can be played still");
        // It begins again with the first number.
        put("h/live/a-1.m4s", b"this run", 20_000);
        // The second is the same again, and not received.
        store.offered("h/live/a-2.m4s", WallTime::from_unix_ms(20_000));
        put("h/live/a.mpd", mpd("10:00:20", "10:00:21").as_bytes(), 20_001);
        let held: Vec<i32> =
            (1..=9).filter(|number| store.contains(&format!("h/live/a-{number}.m4s"))).collect();
        assert_eq!(held, [1, 2]);
        assert!(store.contains("h/other/a-5.m4s") && store.contains("h/live/a.mpd"));
    }

    fn session(source: [u8; 4]) -> SessionKey {
        let tsi = carousel::lct::Tsi(1);
        SessionKey { source: source.into(), destination: ([239, 1, 1, 1], 5000).into(), tsi }
    }

    /// A playlist that ends with segment `end`.
    fn list(end: u64) -> String {
        let mut text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:1\n".to_owned();
        (1..=end).for_each(|number| text.push_str(&format!("#EXTINF:2,\ns{number}.ts\n")));
        text
    }

    /// Puts objects of a session into a store.
    struct Puts {
        _folder: tempfile::TempDir,
        store: Store,
        manifests: Manifests,
    }

    impl Puts {
        /// With five segments of a first run, of TOIs 10 to 51.
        fn new(sender: SessionKey) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let it = Self { store: open(&folder), _folder: folder, manifests: Manifests::default() };
            for number in 1..=5 {
                it.put(sender, &format!("h/s{number}.ts"), b"first run", 10 * number, 1000 * number as i64);
                it.put(
                    sender,
                    "h/a.m3u8",
                    list(number).as_bytes(),
                    10 * number + 1,
                    1000 * number as i64 + 1,
                );
            }
            it
        }

        fn put(&self, from: SessionKey, name: &str, bytes: &[u8], version: u64, at_ms: i64) {
            let (frozen, meta) = carried(&self.store, name, bytes);
            let meta = ObjectMeta { version, received_at: WallTime::from_unix_ms(at_ms), ..meta };
            self.manifests.publish_sent(&self.store, &frozen, meta, Some(from)).unwrap();
        }

        fn state(&self) -> (Option<u64>, Vec<u64>) {
            let held = (1..=5).filter(|it| self.store.contains(&format!("h/s{it}.ts"))).collect();
            (self.manifests.facts(&key("h/a.m3u8")).unwrap().last_sequence, held)
        }
    }

    /// A packager that dies early: the playlist of its next run overlaps with that of the first.
    #[test]
    fn a_playlist_that_its_sender_has_sent_later_may_go_back() {
        let sender = session([10, 0, 0, 1]);
        let it = Puts::new(sender);
        // It was repaired, and is late.
        it.put(sender, "h/a.m3u8", list(4).as_bytes(), 41, 5100);
        assert_eq!(it.state(), (Some(5), vec![1, 2, 3, 4, 5]));
        it.put(sender, "h/s1.ts", b"second run", 60, 6000);
        it.put(sender, "h/a.m3u8", list(1).as_bytes(), 61, 6001);
        assert_eq!(it.state(), (Some(1), vec![1]));
    }

    #[test]
    fn a_second_sender_that_is_behind_ends_no_run() {
        let (one, two) = (session([10, 0, 0, 1]), session([10, 0, 0, 2]));
        let it = Puts::new(one);
        it.put(two, "h/s4.ts", b"first run", 69_999, 5100);
        it.put(two, "h/a.m3u8", list(4).as_bytes(), 70_000, 5101);
        assert_eq!(it.state(), (Some(5), vec![1, 2, 3, 4, 5]));
        assert_eq!(it.manifests.refused().labelled().collect::<Vec<_>>(), [("carousel", 1), ("origin", 0)]);
        // One session that sends the same segments again, with an older playlist: another headend continues with its numbers.
        it.put(one, "h/s4.ts", b"first run", 60, 5200);
        it.put(one, "h/a.m3u8", list(4).as_bytes(), 61, 5201);
        assert_eq!(it.state(), (Some(4), vec![1, 2, 3, 4, 5]));
    }

    #[test]
    fn names_like_those_of_a_live_manifest_are_live() {
        let manifests = Manifests::default();
        assert_eq!(manifests.live_target_ms(&key("h/v/s9.ts")), None);
        read(&manifests, &key("h/a.m3u8"), LIVE).unwrap();
        for live in ["h/v/s9.ts", "h/v/s1234.ts", "h/v/s9.ts?token=x", "h/a.m3u8"] {
            assert_eq!(manifests.live_target_ms(&key(live)), Some(4000), "{live}");
        }
        for other in ["h/v/film9.ts", "h/w/s9.ts", "k/v/s9.ts", "h/v/s.ts"] {
            assert_eq!(manifests.live_target_ms(&key(other)), None, "{other}");
        }
        // The event is over.
        read(&manifests, &key("h/a.m3u8"), &[LIVE, b"#EXT-X-ENDLIST\n"].concat()).unwrap();
        assert_eq!(manifests.live_target_ms(&key("h/v/s9.ts")), None);
        assert_eq!(names(&manifests.listing(&key("h/v/s9.ts"))), ["h/a.m3u8"]);
    }

    #[test]
    fn segments_that_the_clock_names_are_live_too() {
        let manifests = Manifests::default();
        let mpd = b"<MPD type=\"dynamic\" availabilityStartTime=\"2026-11-29T00:00:00Z\"><Period><AdaptationSet><Representation id=\"0\">\
            <SegmentTemplate timescale=\"1\" duration=\"2\" availabilityTimeOffset=\"1.5\" media=\"c-$RepresentationID$-$Number%05d$.m4s\"/>\
            </Representation></AdaptationSet></Period></MPD>";
        read(&manifests, &key("h/live.mpd"), mpd).unwrap();
        assert_eq!(manifests.live_target_ms(&key("h/c-0-00317.m4s")), Some(2000));
        assert_eq!(manifests.live_target_ms(&key("h/d-0-00317.m4s")), None);
    }

    #[test]
    fn a_service_is_on_the_air_for_three_targets_after_an_arrival() {
        let manifests = Manifests::default();
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        read(&manifests, &key("h/a.m3u8"), LIVE).unwrap();
        let on_air = |manifests: &Manifests, name: &str, ms| manifests.on_air_target_ms(&key(name), at(ms));
        assert_eq!(on_air(&manifests, "h/v/s11.ts", 0), None, "nothing has come");
        manifests.arrived(&key("h/v/s10.ts"), at(500));
        for (ms, target_ms) in [(500, Some(4000)), (12_500, Some(4000)), (12_501, None)] {
            assert_eq!(on_air(&manifests, "h/v/s11.ts", ms), target_ms, "{ms}");
        }
        assert_eq!(on_air(&manifests, "h/w/s11.ts", 500), None);
        for number in 0..2 * MAX_ARRIVALS {
            manifests.arrived(&key(&format!("h/{number}/s.ts")), at(0));
        }
        assert_eq!(manifests.arrivals.lock().unwrap().len(), MAX_ARRIVALS);
        assert_eq!(on_air(&manifests, "h/v/s11.ts", 500), None, "it made room");
        manifests.arrived(&key("h/v/s11.ts"), at(900));
        assert_eq!(on_air(&manifests, "h/v/s12.ts", 900), Some(4000));
    }

    #[test]
    fn what_is_missing_stands_behind_what_is_here_and_is_like_what_the_carousel_brings() {
        let manifests = Manifests::default();
        read(&manifests, &key("h/a.m3u8"), LIVE).unwrap();
        let missing = |here: &[&str]| {
            let is_here = |key: &ObjectKey| here.contains(&key.as_str());
            names(&manifests.missing(LIVE, &key("h/a.m3u8"), &is_here)).join(" ")
        };
        assert_eq!(missing(&["h/v/s8.ts"]), "", "the carousel has brought nothing like it");
        manifests.arrived(&key("h/v/s7.ts"), Instant::from_nanos(0));
        assert_eq!(missing(&["h/v/s8.ts"]), "h/v/s9.ts h/v/s10.ts");
        assert_eq!(missing(&["h/v/s9.ts"]), "h/v/s10.ts", "a box that has just joined");
        assert_eq!(missing(&["h/v/s8.ts", "h/v/s10.ts"]), "h/v/s9.ts");
        assert_eq!(missing(&[]), "");
        let has_some = |bytes: &[u8], here: &str| has_some(bytes, &key("h/a.m3u8"), &|it| it == here);
        assert!(has_some(LIVE, "h/v/s9.ts") && !has_some(LIVE, "h/v/s7.ts"));
        assert!(has_some(b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n", ""), "nothing is listed");
        // Only the end of a long list is looked at.
        let long: String = (0..20).map(|number| format!("#EXTINF:4,\nv/s{number}.ts\n")).collect();
        let long = format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n{long}");
        let missing = manifests.missing(long.as_bytes(), &key("h/a.m3u8"), &|it| it.as_str() == "h/v/s12.ts");
        assert_eq!(missing.len(), EDGE - 1);
    }

    #[test]
    fn a_live_object_belongs_to_a_service_or_to_the_folder_of_its_playlist() {
        let manifests = Manifests::default();
        read(&manifests, &key("h/a.m3u8"), LIVE).unwrap();
        let service_of = |name: &str| manifests.service_of(&key(name));
        assert_eq!(service_of("h/v/s11.ts").as_deref(), Some("h"));
        assert_eq!(service_of("h/a.m3u8").as_deref(), Some("h"));
        assert_eq!(service_of("h/w/s11.ts"), None);
        let spec = carousel::mabr::ServiceSpec {
            id: "one".to_owned(),
            manifests: vec!["http://h/a.m3u8".to_owned()],
            bases: Vec::new(),
            path_patterns: Vec::new(),
        };
        manifests.services().set(&[spec]);
        assert_eq!(service_of("h/v/s11.ts").as_deref(), Some("one"));
    }

    #[test]
    fn a_manifest_is_on_the_air_with_the_playlists_below_its_folder() {
        let manifests = Manifests::default();
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let on_air = |name: &str, ms| manifests.is_on_air(&key(name), at(ms));
        assert_eq!(on_air("h/one/main.m3u8", 0), None, "nothing is known of it");
        read(&manifests, &key("h/one/v/a.m3u8"), LIVE).unwrap();
        assert_eq!(on_air("h/one/main.m3u8", 0), Some(false), "nothing has come");
        manifests.arrived(&key("h/one/v/a.m3u8"), at(500));
        assert_eq!((on_air("h/one/main.m3u8", 600), on_air("h/one/v/a.m3u8", 600)), (Some(true), Some(true)));
        assert_eq!(on_air("h/one/main.m3u8?t=1", 600), Some(true));
        assert_eq!(on_air("h/one/main.m3u8", 60_000), Some(false), "silence");
        assert_eq!((on_air("h/two/main.m3u8", 600), on_air("x", 600)), (None, None));
    }

    #[test]
    fn a_version_that_does_not_go_as_far_is_refused_while_the_newer_one_advances() {
        let manifests = Manifests::default();
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let text = |first: u64| {
            let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
            (first..first + 3).for_each(|number| text.push_str(&format!("#EXTINF:2,\ns{number}.ts\n")));
            text
        };
        let meta = |is_carried: bool, length: usize| ObjectMeta {
            uri: ObjectUri::new("h/a.m3u8", &key("h/a.m3u8")),
            key: key("h/a.m3u8"),
            content_type: None,
            length: length as u64,
            digest: Digest::of(b""),
            version: 0,
            received_at: WallTime::from_unix_ms(0),
            expires: None,
            class: Class::Medium,
            came_by: CameBy::Origin,
            response: (!is_carried)
                .then(|| Box::new(ResponseMeta { status: 200, ..ResponseMeta::default() })),
            ignored_query: Default::default(),
            signed_by: None,
        };
        let (carousel, origin) = (true, false);
        // Takes it if it may.
        let comes = |from: bool, first: u64, ms: u64| {
            let text = text(first);
            let takes = manifests.may_replace(&meta(from, text.len()), None, text.as_bytes(), at(ms));
            if takes {
                manifests
                    .read(&key("h/a.m3u8"), text.as_bytes(), (from, None), WallTime::from_unix_ms(0), at(ms))
                    .unwrap();
            }
            takes
        };
        assert!(comes(carousel, 100, 0), "the first");
        assert!(!comes(origin, 99, 1000), "the origin is behind");
        assert!(comes(origin, 101, 1000), "the origin is ahead");
        assert!(!comes(carousel, 100, 1100), "so the carousel is late");
        assert!(comes(carousel, 101, 2000), "it goes as far");
        assert!(comes(carousel, 102, 3000));
        // The carousel stops: the same again is no advance, and what is behind is the best there is in the end.
        assert!(comes(carousel, 102, 8000));
        assert!(!comes(origin, 101, 9000));
        assert!(comes(origin, 101, 9001));
        // The packager restarts: at once where its own numbers fall, after three targets where another's are higher.
        assert!(comes(origin, 200, 20_000));
        assert!(!comes(carousel, 0, 20_100), "a source of its own numbers");
        assert!(comes(origin, 0, 20_200));
        assert!(comes(origin, 300, 30_000));
        assert!(!comes(carousel, 0, 36_000));
        assert!(comes(carousel, 0, 36_001));
        let refused: Vec<_> = manifests.refused().labelled().collect();
        assert_eq!(refused, [("carousel", 3), ("origin", 2)]);
        // An event that is over, and other objects, are replaced by anything.
        let ended = format!("{}#EXT-X-ENDLIST\n", text(500));
        manifests
            .read(&key("h/a.m3u8"), ended.as_bytes(), (true, None), WallTime::from_unix_ms(0), at(40_000))
            .unwrap();
        assert!(comes(origin, 1, 40_000));
        assert!(manifests.may_replace(&meta(origin, 4), None, b"text", at(40_000)));
    }

    #[test]
    fn what_follows_is_what_the_manifest_lists() {
        let manifest = key("h/a.m3u8");
        let after = |name: &str, count| {
            following(LIVE, &manifest, &key(name), count)
                .iter()
                .map(|it| it.as_str().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(after("h/v/s8.ts", 3), ["h/v/s9.ts", "h/v/s10.ts"]);
        assert_eq!(after("h/v/s8.ts", 1), ["h/v/s9.ts"]);
        assert!(after("h/v/s8.ts", 0).is_empty());
        for last_or_other in ["h/v/s10.ts", "h/v/s7.ts", "h/w/s8.ts"] {
            assert!(after(last_or_other, 3).is_empty(), "{last_or_other}");
        }
        let ranges = b"#EXTM3U\n#EXT-X-BYTERANGE:5@0\nall.ts\n#EXT-X-BYTERANGE:5@5\nall.ts\n";
        assert!(following(ranges, &manifest, &key("h/all.ts"), 3).is_empty());
    }

    #[test]
    fn the_table_and_each_manifest_are_bounded() {
        let manifests = Manifests::default();
        let mut text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n".to_owned();
        for at in 0..u32::from(u16::MAX) {
            text.push_str(&format!(
                "{}.ts\n",
                (0..6).map(|n| char::from(b'a' + (at >> (2 * n) & 7) as u8)).collect::<String>()
            ));
        }
        read(&manifests, &key("h/hashes.m3u8"), text.as_bytes()).unwrap();
        assert!(manifests.known().peek(&key("h/hashes.m3u8")).unwrap().patterns.len() <= MAX_PATTERNS);
        for number in 0..2 * MAX_MANIFESTS {
            read(&manifests, &key(&format!("h/{number}.m3u8")), LIVE).unwrap();
        }
        assert_eq!(manifests.known().len(), MAX_MANIFESTS);
    }
}
