//! Variants: several objects of one name (`Vary`), and metadata updates by a 304.
//!
//! The first object of a name has the name as its key; others that requests choose instead have a number behind it
//! ([`ObjectKey::variant`]). They are looked up unless the first object is held and does not vary.

use std::sync::Arc;

use carousel::name::ObjectKey;
use http::HeaderMap;

use super::{EvictReason, ObjectMeta, Store, StoredObject};

carousel::limits! {
    /// Variants of one name.
    const MAX_VARIANTS: u8 = 8, "variants" {
        why: "More would make caching useless, and clients can invent field values.",
        full: "A further variant replaces the one received longest ago.",
        free: "When a variant is evicted, purged or replaced.",
        test: "objects_of_one_name_are_told_apart_replaced_and_bounded",
    }
}

/// Keys of all objects that a name can have, the first one's in front.
pub fn variants_of(key: &ObjectKey) -> impl Iterator<Item = ObjectKey> {
    (0..MAX_VARIANTS).map(|number| key.variant(number))
}

impl Store {
    /// The only object of a name that is held, if it does not vary. Does not count as a use and does not verify.
    pub fn sole(&self, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        self.index().peek(key.as_str()).filter(|first| first.meta.selecting().is_empty()).cloned()
    }

    /// The variant that matches a request with these fields, the newest if several do (RFC 9111 section 4.1). Does not count
    /// as a use and does not verify.
    pub fn chosen(&self, key: &ObjectKey, request: &HeaderMap) -> Option<Arc<StoredObject>> {
        let index = self.index();
        if let Some(first) = index.peek(key.as_str())
            && first.meta.selecting().is_empty()
        {
            return Some(Arc::clone(first));
        }
        let all = variants_of(key).filter_map(|key| index.peek(key.as_str()));
        all.filter(|object| object.meta.suits(request)).max_by_key(|object| object.meta.received_at).cloned()
    }

    /// The key for storing a variant selected by `selecting`: that of the variant it replaces, else the first that is free, else
    /// the oldest one's. `is_taken`: another object is being received under this key.
    pub fn place_of(
        &self,
        key: &ObjectKey,
        selecting: &[(String, Option<String>)],
        is_taken: impl Fn(&ObjectKey) -> bool,
    ) -> ObjectKey {
        let index = self.index();
        let is_alone = index.peek(key.as_str()).is_some_and(|first| first.meta.selecting().is_empty());
        if is_alone || selecting.is_empty() {
            return key.clone();
        }
        let (mut free, mut oldest) = (None, None);
        for key in variants_of(key) {
            let Some(held) = index.peek(key.as_str()) else {
                if free.is_none() && !is_taken(&key) {
                    free = Some(key);
                }
                continue;
            };
            if held.meta.selecting() == selecting {
                return key;
            }
            let age = held.meta.received_at;
            if oldest.as_ref().is_none_or(|(_, least)| age < *least) {
                oldest = Some((key, age));
            }
        }
        free.or_else(|| oldest.map(|(key, _)| key)).unwrap_or_else(|| key.clone())
    }

    /// Keys of other possible variants of a name, held or being received.
    pub fn other_places_of(&self, key: &ObjectKey) -> Vec<ObjectKey> {
        let is_alone = self.index().peek(key.as_str()).is_some_and(|first| first.meta.selecting().is_empty());
        if is_alone { Vec::new() } else { variants_of(key).skip(1).collect() }
    }

    /// Removes the other variants of a name whose response no longer varies.
    pub fn forget_variants(&self, key: &ObjectKey) {
        for other in variants_of(key).skip(1) {
            self.remove(other.as_str(), EvictReason::Replaced);
        }
    }

    /// Removes every variant of this name. Open readers keep theirs.
    pub fn remove_all(&self, key: &ObjectKey, reason: EvictReason) -> bool {
        variants_of(key).fold(false, |any, key| self.remove(key.as_str(), reason) | any)
    }

    /// Replaces the metadata of an object, as a 304 does. `None` if the object is not in the index any more, or the metadata do
    /// not fit a header page. The header in the file is not rewritten: after an unclean stop the origin is asked once more,
    /// which costs less than writing a page of flash for each 304.
    pub fn freshen(&self, object: &Arc<StoredObject>, meta: ObjectMeta) -> Option<Arc<StoredObject>> {
        if object.tier() == super::Tier::Flash || !super::format::fits_memory(&meta) {
            super::format::encode(&meta)?;
        }
        let fresh = object.with_meta(meta);
        self.index().swap(object, Arc::clone(&fresh)).then_some(fresh)
    }
}

#[cfg(test)]
mod tests {
    use carousel::digest::Digest;
    use carousel::time::WallTime;

    use super::super::testing::open;
    use super::super::{CameBy, Class, ObjectUri, Placement, ResponseMeta};
    use super::*;
    use crate::caching::from_pairs;

    /// Keeps `body` as the answer to requests with `foo`.
    fn put(store: &Store, foo: &str, body: &[u8], at_ms: i64) -> Arc<StoredObject> {
        let name = ObjectKey::from_name("h/a", None).unwrap();
        let selecting = vec![("foo".to_owned(), Some(foo.to_owned()))];
        let key = store.place_of(&name, &selecting, |_| false);
        let partial = Arc::new(store.create(body.len() as u64, Placement::default()).unwrap());
        partial.write_at(0, body).unwrap();
        let response = ResponseMeta { status: 200, selecting, ..ResponseMeta::default() };
        let meta = ObjectMeta {
            uri: ObjectUri::new("http://h/a", &key),
            key,
            content_type: None,
            length: body.len() as u64,
            digest: Digest::of(body),
            version: 0,
            received_at: WallTime::from_unix_ms(at_ms),
            expires: None,
            class: Class::Medium,
            came_by: CameBy::Origin,
            ignored_query: Default::default(),
            signed_by: None,
            response: Some(Box::new(response)),
        };
        store.publish(&partial.freeze(body.len() as u64).unwrap(), meta).unwrap()
    }

    fn asked(store: &Store, foo: &str) -> Option<Vec<u8>> {
        let name = ObjectKey::from_name("h/a", None).unwrap();
        let object = store.chosen(&name, &from_pairs([("foo", foo)]))?;
        object.bytes(0..object.meta().length).map(|bytes| bytes.to_vec())
    }

    #[test]
    fn variants_are_found_without_the_first_and_leave_keys_that_something_comes_to() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let name = ObjectKey::from_name("h/a", None).unwrap();
        put(&store, "a", b"a", 0);
        put(&store, "b", b"b", 1);
        assert!(store.remove(name.as_str(), EvictReason::Room));
        assert_eq!((asked(&store, "a"), asked(&store, "b")), (None, Some(b"b".to_vec())));
        let selecting = |foo: &str| vec![("foo".to_owned(), Some(foo.to_owned()))];
        assert_eq!(store.place_of(&name, &selecting("b"), |_| true), name.variant(1));
        assert_eq!(store.place_of(&name, &selecting("c"), |_| false), name);
        assert_eq!(store.place_of(&name, &selecting("c"), |it| *it == name), name.variant(2));
        assert_eq!(store.place_of(&name, &[], |_| true), name);
        assert_eq!(store.other_places_of(&name).len(), usize::from(MAX_VARIANTS) - 1);
    }

    #[test]
    fn objects_of_one_name_are_told_apart_replaced_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        for number in 0..MAX_VARIANTS {
            put(&store, &number.to_string(), &[number], i64::from(number));
        }
        assert_eq!(
            (asked(&store, "0"), asked(&store, "7"), asked(&store, "x")),
            (Some(vec![0]), Some(vec![7]), None)
        );
        put(&store, "3", b"new", 100);
        assert_eq!(
            (asked(&store, "3"), store.usage().objects),
            (Some(b"new".to_vec()), u64::from(MAX_VARIANTS))
        );
        assert_eq!(asked(&store, "0"), Some(vec![0]), "a variant replaces itself");
        // A further variant replaces the oldest.
        put(&store, "9", b"nine", 101);
        assert_eq!((asked(&store, "9"), asked(&store, "0")), (Some(b"nine".to_vec()), None));
        assert_eq!(store.usage().objects, u64::from(MAX_VARIANTS));
        // Variants are distinguished after a restart, too.
        store.close();
        drop(store);
        let store = open(&folder);
        assert_eq!((asked(&store, "5"), asked(&store, "9")), (Some(vec![5]), Some(b"nine".to_vec())));
        assert!(store.remove_all(&ObjectKey::from_name("h/a", None).unwrap(), EvictReason::Purged));
        assert_eq!((store.usage().objects, asked(&store, "5")), (0, None));
    }

    #[test]
    fn fresh_metadata_go_on_the_same_bytes_unless_they_have_left() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let old = put(&store, "1", b"body", 1);
        let meta = ObjectMeta { received_at: WallTime::from_unix_ms(50), ..old.meta().clone() };
        let fresh = store.freshen(&old, meta.clone()).unwrap();
        assert!(fresh.is_current() && !old.is_current());
        assert_eq!(
            (asked(&store, "1"), fresh.meta().received_at),
            (Some(b"body".to_vec()), meta.received_at)
        );
        assert!(store.freshen(&old, meta).is_none(), "it has been replaced");
        store.remove("h/a", EvictReason::Purged);
        assert!(!fresh.is_current());
    }
}
