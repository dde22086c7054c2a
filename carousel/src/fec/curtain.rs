//! Offset from which on an object's bytes are still in a write buffer and must not be read.

use super::sync::{AtomicU64, Ordering};

/// Limit of readable bytes of an object in flight. [`super::SymbolMap`] says which symbols have arrived; those from this
/// offset on are in a buffer of the writer, not in the object's storage.
///
/// The writer hides before it sets symbols in the map, and shows when they are written. A reader looks at the map first and
/// at this then: a reader that sees a symbol in the map sees that it is hidden, or finds it written. One writer; any readers.
#[derive(Debug)]
pub struct Curtain(AtomicU64);

impl Default for Curtain {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Curtain {
    /// Nothing can be read from `offset` on, whatever the map says.
    pub fn hide_from(&self, offset: u64) {
        self.0.store(offset, Ordering::Release);
    }

    /// All that has arrived is written.
    pub fn open(&self) {
        self.0.store(u64::MAX, Ordering::Release);
    }

    /// What lies before can be read, if the map, looked at before, said that it has arrived.
    pub fn hidden_from(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
