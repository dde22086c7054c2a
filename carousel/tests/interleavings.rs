//! Every interleaving of the writer and a reader of an object in flight, and every value that the memory model allows them
//! to see: `cargo xtask loom`.
//!
//! The two modules under test are built here a second time, with loom's atomics in the place of the standard library's. So
//! neither the crate nor its dependencies are built again.

#[allow(unreachable_pub)] // what is public there is private here
#[path = "../src/fec/read_limit.rs"]
mod read_limit;
#[allow(dead_code, unreachable_pub)] // likewise; the test needs a part of it
#[path = "../src/fec/symbols.rs"]
mod symbols;

/// Types that both import from their parent.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
}

use carousel::fec::{Oti, Partition};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use read_limit::ReadLimit;
use symbols::SymbolMap;

const SYMBOLS: usize = 3;

struct Object {
    map: SymbolMap,
    read_limit: ReadLimit,
    /// A byte a symbol; the model notices who reads one while it is written, or before.
    bytes: [UnsafeCell<u8>; SYMBOLS],
}

#[allow(unsafe_code)] // the model's cells; what is shared is what is under test
// SAFETY: only the cells are not `Sync`; loom's check every access and fail the test on a race.
unsafe impl Sync for Object {}
#[allow(unsafe_code)]
// SAFETY: as above; nothing in it belongs to a thread.
unsafe impl Send for Object {}

#[test]
#[allow(unsafe_code)]
fn who_sees_a_symbol_finds_its_byte() {
    loom::model(|| {
        let partition = Partition::new(&Oti::no_code(SYMBOLS as u64, 1, 64)).unwrap();
        let object = Arc::new(Object {
            map: SymbolMap::new(&partition),
            read_limit: ReadLimit::default(),
            bytes: std::array::from_fn(|_| UnsafeCell::new(0)),
        });
        let write = |object: &Object, symbol: usize| {
            // SAFETY: the cell lends a valid pointer; loom fails the test if another access is going on.
            object.bytes[symbol].with_mut(|byte| unsafe { *byte = 7 });
        };
        let reader = Arc::clone(&object);
        let reading = loom::thread::spawn(move || {
            let end = reader.map.available_from(0).min(reader.read_limit.get());
            for symbol in 0..(end as usize).min(SYMBOLS) {
                // SAFETY: as above.
                let byte = reader.bytes[symbol].with(|byte| unsafe { *byte });
                assert_eq!(byte, 7, "symbol {symbol} was shown before it was written");
            }
        });
        // A run of two, gathered and written together, and then a run of one.
        object.read_limit.set(0);
        object.map.set(0);
        object.map.set(1);
        write(&object, 0);
        write(&object, 1);
        object.read_limit.clear();
        object.read_limit.set(2);
        object.map.set(2);
        write(&object, 2);
        object.read_limit.clear();
        reading.join().unwrap();
    });
}
