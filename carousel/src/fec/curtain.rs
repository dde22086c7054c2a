//! Symbols that have arrived and are not yet readable.

use super::sync::{AtomicU64, Ordering};

/// Before an object's bytes, for as long as some of them are in somebody's buffer: [`super::SymbolMap`] says what has
/// arrived, this says from where on it cannot be read yet.
///
/// The writer hides before it sets symbols in the map, and shows when they are written. A reader looks at the map first and
/// at the curtain then: who sees a symbol in the map sees that it is hidden, or finds it written. One writer; any readers.
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

/// Every interleaving of a writer and a reader, and every value that the memory model allows them to see:
/// `cargo xtask loom`.
#[cfg(all(test, feature = "loom"))]
mod loom_tests {
    use super::*;
    use crate::fec::{Oti, Partition, SymbolMap};
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    const SYMBOLS: usize = 3;

    struct Object {
        map: SymbolMap,
        curtain: Curtain,
        /// A byte a symbol; the model notices who reads one while it is written, or before.
        bytes: [UnsafeCell<u8>; SYMBOLS],
    }

    #[allow(unsafe_code)] // the model's cells; what is shared is what is under test
    unsafe impl Sync for Object {}
    #[allow(unsafe_code)]
    unsafe impl Send for Object {}

    #[test]
    #[allow(unsafe_code)]
    fn who_sees_a_symbol_finds_its_byte() {
        loom::model(|| {
            let partition = Partition::new(&Oti::no_code(SYMBOLS as u64, 1, 64)).unwrap();
            let object = Arc::new(Object {
                map: SymbolMap::new(&partition),
                curtain: Curtain::default(),
                bytes: std::array::from_fn(|_| UnsafeCell::new(0)),
            });
            let write = |object: &Object, symbol: usize| {
                object.bytes[symbol].with_mut(|byte| unsafe { *byte = 7 });
            };
            let reader = Arc::clone(&object);
            let reading = loom::thread::spawn(move || {
                let end = reader.map.available_from(0).min(reader.curtain.hidden_from());
                for symbol in 0..(end as usize).min(SYMBOLS) {
                    let byte = reader.bytes[symbol].with(|byte| unsafe { *byte });
                    assert_eq!(byte, 7, "symbol {symbol} was shown before it was written");
                }
            });
            // A run of two, gathered and written together, and then a run of one.
            object.curtain.hide_from(0);
            object.map.set(0);
            object.map.set(1);
            write(&object, 0);
            write(&object, 1);
            object.curtain.open();
            object.curtain.hide_from(2);
            object.map.set(2);
            write(&object, 2);
            object.curtain.open();
            reading.join().unwrap();
        });
    }
}
