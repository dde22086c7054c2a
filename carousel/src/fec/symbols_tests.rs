//! Tests of [`SymbolMap`]. Not in its own file, which `tests/interleavings.rs` builds once more with loom's atomics.

use super::{Oti, Partition, SymbolMap};
use proptest::prelude::*;

fn map(length: u64, symbol_length: u16) -> SymbolMap {
    SymbolMap::new(&Partition::new(&Oti::no_code(length, symbol_length, 10_000)).unwrap())
}

#[test]
fn a_run_ends_where_a_symbol_is_missing() {
    let map = map(1050, 100);
    for symbol in [0, 1, 3, 10] {
        assert!(map.set(symbol));
    }
    assert!(!map.set(3), "a duplicate");
    assert!(!map.set(11), "beyond the end");
    assert_eq!(map.available_from(0), 200);
    assert_eq!(map.available_from(150), 200);
    assert_eq!(map.available_from(200), 200);
    assert_eq!(map.available_from(1000), 1050);
    assert_eq!(map.available_from(2000), 2000);
    assert!(map.missing().eq([200..300, 400..1000]));
    assert!(map.missing_symbols(1..6).eq([2..3, 4..6]));
    assert!(map.missing_symbols(9..99).eq(std::iter::once(9..10)));
    assert_eq!(map.received_bytes(), 350);
    assert_eq!(map.symbols_within(150..450), 2..4);
    assert_eq!(map.symbols_within(1000..1050), 10..11);
}

#[test]
fn an_empty_object_is_complete_at_once() {
    let map = map(0, 100);
    assert!(map.is_complete() && map.missing().next().is_none());
    assert_eq!(map.received_bytes(), 0);
}

#[test]
fn a_map_of_an_earlier_run_is_never_complete() {
    let earlier = map(1050, 100);
    for symbol in [0, 3, 10] {
        earlier.set(symbol);
    }
    let restored = map(1050, 100);
    restored.restore(&earlier.words());
    assert_eq!((restored.words(), restored.received()), (earlier.words(), 3));
    // All symbols, and bits beyond the end.
    let complete = map(1050, 100);
    complete.restore(&[u64::MAX, u64::MAX]);
    assert_eq!((complete.received(), complete.is_complete()), (10, false));
    assert!(complete.missing().eq(std::iter::once(1000..1050)), "the last one completes it");
    let empty = map(0, 100);
    empty.restore(&[u64::MAX]);
    assert_eq!(empty.received(), 0);
}

proptest! {
    #[test]
    fn missing_is_the_complement_of_received(symbols in 1_u64..300, set in proptest::collection::vec(0_u64..300, 0..300)) {
        let map = map(symbols * 10 - 3, 10);
        let mut model = vec![false; symbols as usize];
        for symbol in set {
            let new = model.get_mut(symbol as usize).is_some_and(|have| !std::mem::replace(have, true));
            prop_assert_eq!(map.set(symbol), new);
        }
        let mut from_ranges = vec![true; symbols as usize];
        for range in map.missing() {
            for symbol in range.start / 10..range.end.div_ceil(10) { from_ranges[symbol as usize] = false; }
        }
        prop_assert_eq!(&from_ranges, &model);
        prop_assert_eq!(map.is_complete(), model.iter().all(|&have| have));
    }
}
