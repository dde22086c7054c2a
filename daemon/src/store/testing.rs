//! A store and objects for tests, of this room and of others.

use std::sync::Arc;

use carousel::digest::Digest;
use carousel::name::ObjectKey;

use super::{
    Arrival, CameBy, Class, Frozen, ObjectMeta, ObjectUri, Placement, Store, StoreConfig, StoredObject,
};
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
    (partial.freeze(length).unwrap(), meta(name, body))
}

/// Publishes an object that has arrived symbol by symbol.
pub(crate) fn publish_arrived(store: &Store, name: &str, body: &[u8]) -> Arc<StoredObject> {
    let length = body.len() as u64;
    let partial = Arc::new(store.create_arriving(length, Arrival::default()).unwrap());
    partial.write_at(0, body).unwrap();
    store.publish(&partial.freeze(length).unwrap(), meta(name, body)).unwrap()
}

fn meta(name: &str, body: &[u8]) -> ObjectMeta {
    let key = ObjectKey::from_name(name, None).unwrap();
    ObjectMeta {
        uri: ObjectUri::new("http://elsewhere/", &key),
        key,
        content_type: None,
        length: body.len() as u64,
        digest: Digest::of(body),
        version: 0,
        received_at: clock::steady(),
        expires: None,
        class: Class::Medium,
        came_by: CameBy::Carousel,
        response: None,
        ignored_query: Default::default(),
        signed_by: None,
    }
}
