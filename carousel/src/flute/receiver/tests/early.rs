//! Packets before the description of their object.

use super::*;

#[test]
fn packets_before_their_fdt_with_ext_fti_go_straight_to_their_place() {
    let bytes = body(1, 10_000);
    let (_, fdt, data) = one_object(SenderProfile::default(), "http://h/a", &bytes);
    let mut bench = Bench::new();
    bench.feed_all(&data);
    assert!(bench.whole().is_empty(), "no name yet");
    bench.feed_all(&fdt);
    assert_eq!(bench.whole(), [("http://h/a".to_owned(), bytes)]);
    assert_eq!(bench.storage.opened, [(Toi(5), 10_000, false)]);
}

#[test]
fn packets_before_their_fdt_without_ext_fti_are_kept() {
    let bytes = body(1, 10_000);
    let (_, fdt, data) =
        one_object(SenderProfile { fti_everywhere: false, ..SenderProfile::default() }, "a", &bytes);
    let mut bench = Bench::new();
    assert_eq!(bench.feed(&data[0]), Verdict::Early);
    bench.feed_all(&data[1..]);
    bench.feed_all(&fdt);
    assert_eq!(bench.whole().len(), 1);
}

#[test]
fn early_packets_are_bounded_and_the_oldest_go() {
    let bytes = body(1, MAX_EARLY_BYTES * 2);
    let (_, fdt, data) =
        one_object(SenderProfile { fti_everywhere: false, ..SenderProfile::default() }, "a", &bytes);
    let mut bench = Bench::new();
    bench.feed_all(&data);
    assert!(bench.receiver.early_bytes <= MAX_EARLY_BYTES);
    assert!(bench.receiver.stats().early_evicted > 0);
    bench.feed_all(&fdt);
    bench.feed_all(&data);
    assert_eq!(bench.whole().len(), 1, "the next pass fills what was not kept");
}

#[test]
fn late_join_in_mid_carousel_completes_in_the_next_pass() {
    let bytes = body(2, 50_000);
    let (_, fdt, data) = one_object(SenderProfile::default(), "a", &bytes);
    let mut bench = Bench::new();
    bench.feed_all(&data[20..]);
    bench.feed_all(&fdt);
    bench.feed_all(&data[..20]);
    assert_eq!(bench.whole(), [("a".to_owned(), bytes)]);
    assert_eq!(bench.drops(DropReason::Duplicate), 0);
    bench.feed_all(&data);
    assert_eq!(bench.drops(DropReason::Repeat), data.len() as u64, "a repeat of what is held costs nothing");
}

#[test]
fn early_packets_age() {
    let mut bench = Bench::new();
    for toi in 1..50 {
        assert_eq!(bench.feed(&by_hand(toi, None, 0, 0, b"abcd", |_| {})), Verdict::Early);
    }
    bench.pass(29, |_| None);
    assert_eq!(bench.receiver.early.len(), 49);
    bench.pass(2, |_| None);
    assert_eq!((bench.receiver.early.len(), bench.receiver.early_bytes), (0, 0));
    assert_eq!(bench.receiver.stats().early_evicted, 49);
}
