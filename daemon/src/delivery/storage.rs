//! Storage interface of delivery: lookups in the cache and room for objects in flight.

use std::sync::Arc;

use carousel::flute::{File, SessionKey, Storage};
use carousel::time::Instant;

/// Result of the lookup of a described object in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// It holds this very object.
    Held,
    /// It does not.
    Missing,
    /// The object steers reception and is not kept for clients.
    Signalling,
    /// Its name cannot be used.
    Unusable,
    /// A signed object has its name, and it is not signed.
    Outranked,
}

/// Storage for objects in flight, and knowledge of those that are held. The daemon lends its store, tests lend memory.
pub trait ObjectStore: std::fmt::Debug {
    /// Storage of one object in flight.
    type Buf: std::fmt::Debug;
    /// Lends storage to the receiver of one session.
    type SessionStorage<'a>: Storage<Buf = Self::Buf>
    where
        Self: 'a;
    /// Reads the symbols of an object in flight, wherever a source block of it is decoded.
    type Reader: std::fmt::Debug;
    /// State that is written so that an object in flight survives a power cut.
    type Checkpoint: std::fmt::Debug;

    /// Storage for the objects of a session.
    fn session_storage(&mut self, session: SessionKey) -> Self::SessionStorage<'_>;
    /// Storage of an object whose length is not known, for players from its first byte on. `None`: there is no room for it,
    /// or its name cannot be used.
    fn begin(&mut self, _session: &SessionKey, _file: &Arc<File>) -> Option<Self::Buf> {
        None
    }
    /// Bytes at `offset` of an object that [`ObjectStore::begin`] was asked for, without a gap behind those before them.
    fn extend(&mut self, _buf: &mut Self::Buf, _offset: u64, _bytes: &[u8]) {}
    /// The bytes of a complete FLUTE chunk, which is no object of its own.
    fn chunk(&mut self, _buf: Self::Buf) -> Option<Vec<u8>> {
        None
    }
    /// Memory for a document that is passed on, and kept nowhere.
    fn document(&mut self, _bytes: Vec<u8>) -> Option<Self::Buf> {
        None
    }
    /// Whether the object is held.
    fn look_up(&self, session: &SessionKey, file: &File) -> Lookup;
    /// Whether an object that was held is still there, in whatever version.
    fn still_holds(&self, session: &SessionKey, file: &File) -> bool;
    /// Writes what was gathered of all objects, and wakes their readers.
    fn flush(&mut self);
    /// Writes what was gathered of one object.
    fn flush_object(&mut self, buf: &Self::Buf);
    /// For decoding; `None` if this object is not decoded.
    fn reader(&self, buf: &Self::Buf) -> Option<Self::Reader>;
    /// State that is to survive a power cut, if anything has come since the last time.
    fn checkpoint(&self, buf: &Self::Buf) -> Option<Self::Checkpoint>;
    /// Whether an object's room was needed for others, or bytes of it could not be written.
    fn is_lost(&self, _buf: &Self::Buf) -> bool {
        false
    }
    /// Wakes readers of an object: bytes of it came another way than by packets.
    fn progress(&self, buf: &Self::Buf);
    /// The carousel is likely to begin with the object again at `at`.
    fn expect(&self, buf: &Self::Buf, at: Option<Instant>);
    /// Nothing has brought more of the object since `since`: its packets have stopped, and no origin is asked. `None`:
    /// something does.
    fn set_stalled(&self, buf: &Self::Buf, since: Option<Instant>);
    /// Later bytes of a growing object have arrived since `since` while the next one is missing. Repair symbols may close the
    /// gap at the end of the object. `None`: no gap.
    fn set_overtaken(&self, _buf: &Self::Buf, _since: Option<Instant>) {}
    /// A client's request for the object was looked at: the next one counts again.
    fn request_seen(&self, buf: &Self::Buf);
}
