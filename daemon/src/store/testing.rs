//! A store for tests, of this room and of others.

use super::{Store, StoreConfig};

/// Opens the cache in a folder, whatever room the disk has.
pub(crate) fn open(folder: &tempfile::TempDir) -> Store {
    let config =
        StoreConfig { path: folder.path().join("cache"), reserve_bytes: 0, ..StoreConfig::default() };
    Store::open(&config).unwrap().0
}
