//! Several objects of one name (`Vary`), and what a 304 changes of one.
//!
//! The first object of a name has the name as its key; others that requests choose instead have a number behind it
//! ([`ObjectKey::variant`]). They are looked for only where the first one was selected by something.

use std::sync::Arc;

use carousel::name::ObjectKey;
use http::HeaderMap;

use super::{EvictReason, ObjectMeta, Store, StoredObject};

/// Objects of one name. Origins that vary by more make caches useless, and anybody can invent fields.
const MAX_VARIANTS: u8 = 8;

impl Store {
    /// As [`Store::get`], of several objects of this name the one that a request with these fields means. Of two that it
    /// could mean the one that came last (RFC 9111 section 4.1).
    pub fn select(&self, key: &ObjectKey, request: &HeaderMap) -> Option<Arc<StoredObject>> {
        let chosen = self.chosen(key, request)?;
        self.get(chosen.meta.key.as_str())
    }

    /// As [`Store::select`], not counted as use and not looked at.
    pub fn chosen(&self, key: &ObjectKey, request: &HeaderMap) -> Option<Arc<StoredObject>> {
        let index = self.index();
        let first = index.peek(key.as_str())?;
        if first.meta.selecting().is_empty() {
            return Some(Arc::clone(first));
        }
        let all = (0..MAX_VARIANTS).filter_map(|number| index.peek(key.variant(number).as_str()));
        all.filter(|object| object.meta.suits(request)).max_by_key(|object| object.meta.received_at).cloned()
    }

    /// The key under which an object that was selected by `selecting` is kept: that of the one that it replaces, else a
    /// free one, else the oldest one's.
    pub fn place_of(&self, key: &ObjectKey, selecting: &[(String, Option<String>)]) -> ObjectKey {
        let index = self.index();
        let is_first = index.peek(key.as_str()).is_none_or(|first| first.meta.selecting().is_empty());
        if is_first || selecting.is_empty() {
            return key.clone();
        }
        let mut oldest = None;
        for key in (0..MAX_VARIANTS).map(|number| key.variant(number)) {
            let Some(held) = index.peek(key.as_str()) else { return key };
            if held.meta.selecting() == selecting {
                return key;
            }
            let age = held.meta.received_at;
            if oldest.as_ref().is_none_or(|(_, least)| age < *least) {
                oldest = Some((key, age));
            }
        }
        oldest.map_or_else(|| key.clone(), |(key, _)| key)
    }

    /// Takes out the further objects of a name whose response no longer varies.
    pub fn forget_variants(&self, key: &ObjectKey) {
        for number in 1..MAX_VARIANTS {
            self.remove(key.variant(number).as_str(), EvictReason::Replaced);
        }
    }

    /// Takes out every object of this name. Who reads one keeps it.
    pub fn remove_all(&self, key: &ObjectKey, reason: EvictReason) -> bool {
        let keys = (0..MAX_VARIANTS).map(|number| key.variant(number));
        keys.fold(false, |any, key| self.remove(key.as_str(), reason) | any)
    }

    /// Puts other metadata on the bytes of an object: what a 304 says. `None` if the object has left, or the metadata do not
    /// fit a header page. The header of a file stays as it is: after an unclean stop the origin is asked once more, which
    /// costs less than a page of flash for each 304.
    pub fn freshen(&self, object: &Arc<StoredObject>, meta: ObjectMeta) -> Option<Arc<StoredObject>> {
        super::format::encode(&meta)?;
        let fresh = object.with_meta(meta);
        self.index().swap(object, Arc::clone(&fresh)).then_some(fresh)
    }
}
