//! Versions of live manifests: those that are refused because a newer one is held, and the end of a packager's run.

use std::time::Duration;

use carousel::flute::SessionKey;
use carousel::manifest::{self, Manifest, ManifestKind, VersionOrder};
use carousel::name::ObjectKey;
use carousel::time::Instant;

use super::content::{coding_of, may_be_manifest, plain};
use super::names::{folder_of, url_of};
use super::{ManifestRecord, Manifests};
use crate::store::{EvictReason, ObjectMeta, Store, StoredObject};

/// Session and version in which a manifest was sent: versions (TOIs) rise within one session; those of two sessions
/// cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) session: SessionKey,
    pub(super) version: u64,
}

/// Target durations after the last advance of a live manifest during which older versions are refused. After that they
/// are accepted: the service has restarted with lower numbers, or its newer source has ended.
pub(super) const LATE_TARGETS: u64 = 3;

carousel::reasons! {
    /// Source of a live manifest that was refused because it does not go as far as the one held.
    pub enum LateManifest in "live_manifests_refused" by "from" {
        /// The carousel: the origin has a newer one.
        Carousel = "carousel",
        /// The origin: the carousel has brought a newer one.
        Origin = "origin",
    }
}

impl Manifests {
    /// Removes the segments of a packager's earlier run if the manifest of this key now belongs to a new run, which reuses their
    /// names. A manifest comes after its segments, so objects that arrived after the last manifest of the earlier run, `before`,
    /// belong to the new run.
    pub(super) fn end_run(&self, store: &Store, key: &ObjectKey, before: &ManifestRecord) {
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
        let objects = self.remove_run(store, key, |object, _| {
            let meta = object.meta();
            meta.response.is_none()
                && object.last_offered() <= before.received_at
                && known.patterns.contains(&self.pattern(meta.key.as_str()))
        });
        tracing::info!(manifest = %key, objects, "the packager has restarted: segments of its earlier run are removed");
    }

    /// Removes objects of an earlier run below the folder of its manifest, but for manifests: those for which `is_of_it` is true, which
    /// gets the name below the folder too. Returns their number.
    pub(super) fn remove_run(
        &self,
        store: &Store,
        manifest: &ObjectKey,
        is_of_it: impl Fn(&StoredObject, &str) -> bool,
    ) -> u64 {
        let folder = folder_of(manifest);
        let mut objects = 0;
        for object in store.list() {
            let key = &object.meta().key;
            if let Some(name) = key.as_str().strip_prefix(folder)
                && is_of_it(&object, name)
                && self.facts(key).is_none()
            {
                store.remove(key.as_str(), EvictReason::Replaced);
                objects += 1;
            }
        }
        objects
    }

    /// Whether the manifest of this key lists a segment that arrived after the version `before` and replaced other bytes of the
    /// same name.
    fn lists_changed(&self, store: &Store, key: &ObjectKey, before: &ManifestRecord) -> bool {
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
    pub(super) fn may_replace(
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
}

impl ManifestRecord {
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
