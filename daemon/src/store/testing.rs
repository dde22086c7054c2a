//! A store and objects for tests, of this room and of others.

use std::sync::Arc;

use carousel::digest::Digest;
use carousel::name::ObjectKey;

use super::{CameBy, Class, Frozen, ObjectMeta, ObjectUri, Placement, Store, StoreConfig};
use crate::clock;

/// Opens the cache in a folder, regardless of free disk space.
pub(crate) fn open(folder: &tempfile::TempDir) -> Store {
    let config =
        StoreConfig { path: folder.path().join("cache"), reserve_bytes: 0, ..StoreConfig::default() };
    Store::open(&config).unwrap().0
}

/// An object that a carousel has brought now, ready to be published.
pub(crate) fn carried(store: &Store, name: &str, body: &[u8]) -> (Frozen, ObjectMeta) {
    let length = body.len() as u64;
    let partial = Arc::new(store.create(length, Placement::default()).unwrap());
    partial.write_at(0, body).unwrap();
    let key = ObjectKey::from_name(name, None).unwrap();
    let meta = ObjectMeta {
        uri: ObjectUri::new("http://elsewhere/", &key),
        key,
        content_type: None,
        length,
        digest: Digest::of(body),
        version: 0,
        received_at: clock::steady(),
        expires: None,
        class: Class::Medium,
        came_by: CameBy::Carousel,
        response: None,
        ignored_query: Default::default(),
        signed_by: None,
    };
    (partial.freeze(length).unwrap(), meta)
}
