//! Live services on the air: arrivals of their objects, segments that are absent or no longer come.

use std::hash::BuildHasher as _;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use carousel::flute::SessionKey;
use carousel::manifest::ManifestKind;
use carousel::name::ObjectKey;
use carousel::time::Instant;

use super::content::{EDGE, edges, successors};
use super::loss::SentUpTo;
use super::names::{folder_of, numbered_after, pattern_of};
use super::{ManifestRecord, Manifests};
use crate::clock;
use crate::delivery::ObjectRef;
use crate::live_services::{LiveEdge, LiveReport, ObjectSource};
use crate::store::{CameBy, Store, StoredObject};

carousel::limits! {
    /// Patterns of live objects whose last arrival is remembered, and patterns of one session whose last TOI is.
    pub(super) const MAX_ARRIVALS: usize = 1024, "patterns" {
        why: "Thirty services with twenty names each; an entry takes 50 to 100 bytes.",
        full: "The pattern that was used longest ago is forgotten: its service counts as silent, and its lost segments are waited for, until an object of it arrives.",
        free: "When an object of another pattern arrives.",
        test: "a_service_is_on_the_air_for_three_targets_after_an_arrival",
    }
}

/// Maximum manifests read to find the segments after another.
const LISTINGS_READ: usize = 2;

/// Target durations after its last object for which a live service counts as on the air.
pub(super) const ALIVE_TARGETS: u64 = 3;

impl Manifests {
    /// Lookup, by service name, of the time since which its groups are joined.
    pub(crate) fn joined_at(&self) -> impl Fn(&str) -> Option<Instant> + use<> {
        let (services, on_link) = (self.services.all(), self.live.on_link());
        move |name| match services.iter().find(|it| it.id == name) {
            Some(service) => service.joined_at(),
            // Groups that no document assigns to services are joined from the start. A playlist of an origin alone has none.
            None => on_link.iter().any(|it| it == name).then(|| Instant::from_nanos(0)),
        }
    }

    /// Reception of all live services.
    pub fn live_reports(&self) -> Vec<LiveReport> {
        self.live.reports(clock::now(), clock::date(), self.joined_at())
    }

    /// Records a live object from the carousel.
    pub(super) fn arrived(&self, key: &ObjectKey, now: Instant) {
        let pattern = self.pattern(key.as_str());
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).put(pattern, now);
    }

    /// Records that `session` has delivered the live object `toi` completely.
    pub(super) fn note_sent(
        &self,
        key: &ObjectKey,
        session: SessionKey,
        toi: u64,
        target_ms: u64,
        now: Instant,
    ) {
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
        let folder = folder_of(key);
        let is_of_service = |it: &ObjectKey, known: &ManifestRecord| {
            known.facts.is_live && !folder.is_empty() && it.as_str().starts_with(folder)
        };
        let known = self.known();
        let of_service: Vec<(u64, Arc<ManifestRecord>)> = known
            .iter()
            .filter(|(it, known)| is_of_service(it, known))
            .map(|(it, known)| (self.pattern(it.as_str()), Arc::clone(known)))
            .collect();
        drop(known);
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let is_alive = |own: u64, known: &ManifestRecord| {
            let most = Duration::from_millis(ALIVE_TARGETS * known.facts.target_ms);
            let came = |pattern: &u64| arrivals.peek(pattern).is_some_and(|at| now.since(*at) <= most);
            came(&own) || known.patterns.iter().any(came)
        };
        let any = of_service.iter().any(|(own, known)| is_alive(*own, known));
        (!of_service.is_empty()).then_some(any)
    }

    /// Records the arrival of an object for its service. For a refused manifest, `object` is the one held, which has arrived
    /// before.
    pub(super) fn note(&self, store: &Store, object: &Arc<StoredObject>, is_carried: bool, now: Instant) {
        let meta = object.meta();
        let key = &meta.key;
        if meta.status() != 200 || meta.response.is_none() != is_carried {
            return;
        }
        let Some(target_ms) = self.live_target_ms(key) else { return };
        let Some(service) = self.service_of(key) else { return };
        if !is_carried {
            self.live.arrived(now, &service, target_ms, key, ObjectSource::FromOrigin);
        } else if object.live().is_none() {
            let is_repaired = meta.came_by == CameBy::CarouselRepaired;
            self.live.arrived(now, &service, target_ms, key, ObjectSource::Segment { is_repaired });
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
    pub(super) fn missing(
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
    pub(super) fn service_of(&self, key: &ObjectKey) -> Option<String> {
        if let Some(service) = self.services.of(key) {
            return Some(service.id.clone());
        }
        let playlist =
            if self.facts(key).is_some() { None } else { Some(self.listing(key).into_iter().next()?) };
        let (folder, _) = playlist.as_ref().unwrap_or(key).as_str().rsplit_once('/')?;
        Some(folder.to_owned())
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
}
