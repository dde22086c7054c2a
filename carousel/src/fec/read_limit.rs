//! Offset from which on an object's bytes are still in a write buffer and must not be read.

use super::sync::{AtomicU64, Ordering};

/// Limit of readable bytes of an object in flight. [`super::SymbolMap`] says which symbols have arrived; those from this
/// offset on are in a buffer of the writer, not in the object's storage.
///
/// The writer sets the limit before it sets symbols in the map, and clears it when they are written. A reader reads the map
/// first, then the limit: if it sees a symbol in the map, it sees the limit too, or the symbol is written. One writer; any
/// readers.
#[derive(Debug)]
pub struct ReadLimit(AtomicU64);

impl Default for ReadLimit {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl ReadLimit {
    /// Forbids reads from `offset` on, even of symbols in the map.
    pub fn set(&self, offset: u64) {
        self.0.store(offset, Ordering::Release);
    }

    /// Allows reads of everything in the map: it is written.
    pub fn clear(&self) {
        self.0.store(u64::MAX, Ordering::Release);
    }

    /// Offset before which bytes can be read, if the map, read before, said that they have arrived.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
