//! Share of a title that the box holds: segments of its manifest in the cache, of those that the manifest names.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use carousel::manifest::{self, MAX_MANIFEST_BYTES};
use carousel::name::ObjectKey;
use carousel::time::Instant;
use lru::LruCache;

use crate::clock;
use crate::store::Store;

carousel::limits! {
    /// Titles whose share is remembered.
    const MAX_KNOWN: usize = 512, "titles" {
        why: "A page has at most 200.",
        full: "The share that was asked for longest ago is forgotten, and is computed again when it is asked for.",
        free: "When another title is asked for.",
        test: "shares_are_remembered_of_a_bounded_number_of_titles",
    }

    /// Media playlists of one multivariant playlist that are read for its share.
    const MAX_PLAYLISTS: usize = 16, "playlists" {
        why: "Ladders have up to ten renditions; each playlist is read from the cache.",
        full: "The share is that of the first ones.",
        free: "Holds for one title.",
        test: "the_first_playlists_of_a_title_count",
    }
}

/// Time for which a share counts while the store changes: reading a manifest takes milliseconds.
const FRESH: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
struct CachedShare {
    share: Option<f64>,
    changes: u64,
    at: Instant,
}

/// Shares computed a moment ago.
#[derive(Debug)]
pub(crate) struct HeldShares {
    known: Mutex<LruCache<ObjectKey, CachedShare>>,
    hasher: RandomState,
}

impl Default for HeldShares {
    fn default() -> Self {
        Self {
            known: Mutex::new(LruCache::new(const { NonZeroUsize::new(MAX_KNOWN).unwrap() })),
            hasher: RandomState::new(),
        }
    }
}

impl HeldShares {
    /// Share of the segments of this manifest that `store` holds, 0 to 1. `None`: there is no manifest, or it names no
    /// segments (live MPDs without a timeline). May read the manifest: not for threads that must not wait.
    pub(crate) fn share(&self, store: &Store, manifest: &ObjectKey) -> Option<f64> {
        let (changes, now) = (store.changes(), clock::now());
        if let Some(known) = self.known().get(manifest)
            && (known.changes == changes || now.since(known.at) < FRESH)
        {
            return known.share;
        }
        let share = self.count(store, manifest);
        self.known().put(manifest.clone(), CachedShare { share, changes, at: now });
        share
    }

    fn count(&self, store: &Store, manifest: &ObjectKey) -> Option<f64> {
        let bytes = bytes_of(store, manifest)?;
        let (mut seen, mut held, mut absent) = (HashSet::new(), 0_usize, 0_usize);
        let mut visit = |segment: manifest::Segment<'_>| {
            if seen.insert(self.hasher.hash_one(segment.url)) {
                let key = ObjectKey::from_name(segment.url, None);
                held += usize::from(key.is_ok_and(|key| store.contains(key.as_str())));
            }
            true
        };
        let url = format!("http://{manifest}");
        manifest::segments(&bytes, &url, &mut visit);
        for playlist in playlists(&bytes, &url) {
            match bytes_of(store, &playlist) {
                Some(bytes) => manifest::segments(&bytes, &format!("http://{playlist}"), &mut visit),
                // Its segments are unknown: at least one is missing.
                None => absent += 1,
            }
        }
        let all = seen.len() + absent;
        (all > 0).then(|| held as f64 / all as f64)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, LruCache<ObjectKey, CachedShare>> {
        // Every change is one insertion, so a panic elsewhere leaves the table consistent.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes_of(store: &Store, key: &ObjectKey) -> Option<bytes::Bytes> {
    let object = store.get(key.as_str())?;
    let length = object.meta().length;
    (length <= MAX_MANIFEST_BYTES as u64).then(|| object.bytes(0..length)).flatten()
}

/// Media playlists that a multivariant playlist lists (RFC 8216 section 4.3.4.2).
fn playlists(bytes: &[u8], url: &str) -> Vec<ObjectKey> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Vec::new() };
    let mut found = Vec::new();
    let mut is_variant = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#EXT-X-STREAM-INF") {
            is_variant = true;
        } else if !line.is_empty() && !line.starts_with('#') {
            if is_variant && found.len() < MAX_PLAYLISTS {
                let resolved = carousel::name::resolve(url, line);
                found.extend(resolved.ok().and_then(|it| ObjectKey::from_name(&it, None).ok()));
            }
            is_variant = false;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::store;
    use super::*;

    #[test]
    fn shares_are_remembered_of_a_bounded_number_of_titles() {
        let folder = tempfile::tempdir().unwrap();
        let (store, shares) = (store(&folder), HeldShares::default());
        let key = |number: usize| ObjectKey::from_name(&format!("h/{number}.m3u8"), None).unwrap();
        for number in 0..=MAX_KNOWN {
            assert_eq!(shares.share(&store, &key(number)), None, "there is no such manifest");
        }
        assert_eq!(shares.known().len(), MAX_KNOWN);
        assert!(shares.known().peek(&key(0)).is_none() && shares.known().peek(&key(MAX_KNOWN)).is_some());
    }

    #[test]
    fn the_first_playlists_of_a_title_count() {
        let text: String = (0..=MAX_PLAYLISTS)
            .map(|number| format!("#EXT-X-STREAM-INF:BANDWIDTH=1\n{number}.m3u8\n"))
            .collect();
        let found = playlists(text.as_bytes(), "http://h/all.m3u8");
        assert_eq!((found.len(), found[MAX_PLAYLISTS - 1].as_str()), (MAX_PLAYLISTS, "h/15.m3u8"));
    }
}
