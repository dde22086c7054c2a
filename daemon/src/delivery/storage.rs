//! Storage interface of delivery: lookups in the cache and room for objects in flight.

use std::sync::Arc;

use carousel::flute::{File, SessionKey, Storage};
use carousel::time::Instant;

/// Result of the lookup of a described object in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The cache holds this version of the object.
    Held,
    /// The cache does not hold this version.
    Missing,
    /// A signalling document: it controls reception and is not kept for clients.
    Signalling,
    /// Its name cannot be used.
    Unusable,
    /// The cache holds a signed object of this name, and the offered one is not signed.
    Outranked,
}

/// Storage for objects in flight, and lookup of held ones. The daemon lends its store, tests lend memory.
pub trait ObjectStore: std::fmt::Debug {
    /// Storage of one object in flight.
    type Buf: std::fmt::Debug;
    /// Lends storage to the receiver of one session.
    type SessionStorage<'a>: Storage<Buf = Self::Buf>
    where
        Self: 'a;
    /// Reads the symbols of an object in flight, wherever a source block of it is decoded.
    type Reader: std::fmt::Debug;
    /// State to write so that an object in flight survives a power cut.
    type Checkpoint: std::fmt::Debug;

    /// Storage for the objects of a session.
    fn session_storage(&mut self, session: SessionKey) -> Self::SessionStorage<'_>;
    /// Opens storage for an object of unknown length, which players can read from its first byte on. `None`: no room, or an
    /// unusable name.
    fn begin(&mut self, _session: &SessionKey, _file: &Arc<File>) -> Option<Self::Buf> {
        None
    }
    /// Appends `bytes` at `offset` to an object that [`ObjectStore::begin`] has opened; they follow the previous ones
    /// without a gap.
    fn extend(&mut self, _buf: &mut Self::Buf, _offset: u64, _bytes: &[u8]) {}
    /// Takes the bytes of a complete FLUTE chunk, which is not an object of its own.
    fn chunk(&mut self, _buf: Self::Buf) -> Option<Vec<u8>> {
        None
    }
    /// A buffer for a document that is passed on and not stored.
    fn document(&mut self, _bytes: Vec<u8>) -> Option<Self::Buf> {
        None
    }
    /// Memory that an object's storage takes; none if its bytes are in files.
    fn memory_bytes(&self, _buf: &Self::Buf) -> usize {
        0
    }
    /// Whether the object is held.
    fn look_up(&self, session: &SessionKey, file: &File) -> Lookup;
    /// Whether any version of an object that was held is still there.
    fn still_holds(&self, session: &SessionKey, file: &File) -> bool;

    /// Whether other bytes of a carousel are held under the name of this object, which may take their place.
    fn holds_other(&self, session: &SessionKey, file: &File) -> bool;
    /// Writes the gathered bytes of all objects, and wakes their readers.
    fn flush(&mut self);
    /// Writes the gathered bytes of one object.
    fn flush_object(&mut self, buf: &Self::Buf);
    /// Reader for decoding; `None` if this object is not decoded.
    fn reader(&self, buf: &Self::Buf) -> Option<Self::Reader>;
    /// State that is to survive a power cut; `None` if nothing was received since the last call.
    fn checkpoint(&self, buf: &Self::Buf) -> Option<Self::Checkpoint>;
    /// Whether an object has lost its room to others, or a write of it failed.
    fn is_lost(&self, _buf: &Self::Buf) -> bool {
        false
    }
    /// Wakes the readers of an object that received bytes other than by packets.
    fn progress(&self, buf: &Self::Buf);
    /// Sets the expected start of the carousel's next pass over the object.
    fn expect(&self, buf: &Self::Buf, at: Option<Instant>);
    /// Sets since when the object has stalled: its packets have stopped, and no origin is asked. `None`: it makes
    /// progress.
    fn set_stalled(&self, buf: &Self::Buf, since: Option<Instant>);
    /// Later bytes of a growing object have arrived since `since` while the next one is missing. Repair symbols may close the
    /// gap at the end of the object. `None`: no gap.
    fn set_overtaken(&self, _buf: &Self::Buf, _since: Option<Instant>) {}
    /// Acknowledges a client's request for the object, so that the next one is passed on again.
    fn request_seen(&self, buf: &Self::Buf);
}
