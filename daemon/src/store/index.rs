//! What is in the cache, in the order of last use, bounded by bytes.

use std::collections::HashSet;
use std::sync::Arc;

use carousel::name::ObjectKey;
use lru::LruCache;

use super::format::{Class, HEADER_BYTES};
use super::{EvictReason, StoredObject};

/// The index. Every operation is O(1) but `list` and a `shrink_to` that meets pinned objects.
pub(super) struct Index {
    objects: LruCache<ObjectKey, Arc<StoredObject>>,
    pinned: HashSet<ObjectKey>,
    bytes: u64,
    evicted: [u64; EvictReason::ALL.len()],
}

impl Index {
    pub(super) fn new() -> Self {
        Self { objects: LruCache::unbounded(), pinned: HashSet::new(), bytes: 0, evicted: Default::default() }
    }

    pub(super) fn get(&mut self, key: &str) -> Option<Arc<StoredObject>> {
        self.objects.get(key).cloned()
    }

    pub(super) fn peek(&self, key: &str) -> Option<&Arc<StoredObject>> {
        self.objects.peek(key)
    }

    pub(super) fn insert(&mut self, object: Arc<StoredObject>) {
        self.bytes += size(&object);
        let key = object.meta.key.clone();
        if object.meta.class == Class::Pinned {
            self.pinned.insert(key.clone());
        }
        if let Some(old) = self.objects.put(key, object) {
            self.bytes -= size(&old);
            self.count(EvictReason::Replaced);
        }
    }

    pub(super) fn remove(&mut self, key: &str, reason: EvictReason) -> Option<Arc<StoredObject>> {
        let object = self.objects.pop(key)?;
        self.pinned.remove(key);
        self.bytes -= size(&object);
        self.count(reason);
        Some(object)
    }

    /// Evicts the least recently used until at most `most` bytes are held. `None` if pinned objects alone are more;
    /// nothing is evicted then.
    pub(super) fn shrink_to(&mut self, most: u64) -> Option<Vec<Arc<StoredObject>>> {
        let mut evicted = Vec::new();
        let pinned: u64 = self.pinned.iter().filter_map(|key| self.objects.peek(key)).map(size).sum();
        if self.bytes > most && pinned > most {
            return None;
        }
        while self.bytes > most {
            let oldest = self.objects.peek_lru().map(|(key, _)| key.clone())?;
            if self.pinned.contains(&oldest) {
                self.objects.promote(&oldest);
                continue;
            }
            evicted.extend(self.remove(oldest.as_str(), EvictReason::Room));
        }
        Some(evicted)
    }

    pub(super) fn pin(&mut self, key: &str, pinned: bool) -> bool {
        let Some(object) = self.objects.peek(key) else { return false };
        let key = object.meta.key.clone();
        if pinned {
            self.pinned.insert(key);
        } else {
            self.pinned.remove(&key);
        }
        true
    }

    pub(super) fn list(&self) -> Vec<Arc<StoredObject>> {
        self.objects.iter().map(|(_, object)| Arc::clone(object)).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) const fn evicted(&self) -> [u64; EvictReason::ALL.len()] {
        self.evicted
    }

    /// The sum over `reasons`.
    pub(super) fn evicted_for(&self, reasons: &[EvictReason]) -> u64 {
        EvictReason::ALL
            .iter()
            .zip(self.evicted)
            .filter(|(it, _)| reasons.contains(it))
            .map(|(_, count)| count)
            .sum()
    }

    fn count(&mut self, reason: EvictReason) {
        if let Some(index) = EvictReason::ALL.iter().position(|&it| it == reason) {
            self.evicted[index] += 1;
        }
    }
}

fn size(object: &Arc<StoredObject>) -> u64 {
    object.meta.length + HEADER_BYTES as u64
}
