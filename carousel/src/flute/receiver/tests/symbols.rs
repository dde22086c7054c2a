//! Placement of symbols, and OTI.

use super::*;

#[test]
fn several_source_blocks_in_any_order() {
    let bytes = body(4, 700_000);
    let profile =
        SenderProfile { max_source_block_length: 64, symbol_length: 1436, ..SenderProfile::default() };
    let (_, fdt, mut data) = one_object(profile, "a", &bytes);
    data.reverse();
    let mut bench = Bench::new();
    bench.feed_all(&fdt);
    bench.feed_all(&data);
    assert_eq!(bench.whole(), [("a".to_owned(), bytes)]);
}

#[test]
fn several_symbols_in_a_packet_and_a_padded_last_one() {
    let oti = Oti::no_code(10, 4, 100);
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"10\"")));
    assert_eq!(bench.feed(&by_hand(1, Some(&oti), 0, 0, b"01234567", |_| {})), Verdict::Stored);
    assert_eq!(
        bench.feed(&by_hand(1, Some(&oti), 0, 0, b"01234567", |_| {})),
        Verdict::Dropped(DropReason::Duplicate)
    );
    assert_eq!(bench.feed(&by_hand(1, Some(&oti), 0, 2, b"89\0\0", |_| {})), Verdict::Stored);
    assert_eq!(bench.whole(), [("x".to_owned(), b"0123456789".to_vec())]);
}

#[test]
fn payloads_that_are_no_whole_symbols_are_dropped() {
    let oti = Oti::no_code(10, 4, 100);
    let mut bench = Bench::new();
    for (esi, symbols) in [(0, &b"012"[..]), (0, b"01234"), (2, b"8"), (2, b"89\0\0\0\0\0"), (1, b"4567890")]
    {
        let verdict = bench.feed(&by_hand(1, Some(&oti), 0, esi, symbols, |_| {}));
        assert_eq!(verdict, Verdict::Dropped(DropReason::BadSymbolLength), "{esi} {symbols:?}");
    }
    assert_eq!(
        bench.feed(&by_hand(1, Some(&oti), 0, 3, b"0123", |_| {})),
        Verdict::Dropped(DropReason::OutsideObject)
    );
    assert_eq!(
        bench.feed(&by_hand(1, Some(&oti), 9, 0, b"0123", |_| {})),
        Verdict::Dropped(DropReason::OutsideObject)
    );
}

#[test]
fn content_length_and_transfer_length_under_gzip() {
    use std::io::Write as _;
    let bytes = body(0, 20_000).iter().map(|byte| byte & 3).collect::<Vec<_>>();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&bytes).unwrap();
    let zipped = encoder.finish().unwrap();
    let mut sender = Sender::new(Tsi(1), SenderProfile { fdt_gzip: true, ..SenderProfile::default() }, 1, 1);
    let file = SendFile {
        encoding: Encoding::Gzip,
        transfer_length: zipped.len() as u64,
        content_digest: Digest::of(&zipped),
        repr_digest: Some(Digest::of(&bytes)),
        ..SendFile::of("g", &bytes)
    };
    let toi = sender.add(file).unwrap();
    let mut bench = Bench::new();
    bench.feed_all(&fdt_packets(&mut sender));
    bench.feed_all(&object_packets(&sender, toi, &zipped));
    assert_eq!(bench.whole(), [("g".to_owned(), bytes)]);
}

#[test]
fn oti_that_changes_in_mid_object_is_dropped() {
    let mut bench = Bench::new();
    bench.feed(&by_hand(1, Some(&Oti::no_code(8, 4, 2)), 0, 0, b"abcd", |_| {}));
    for other in [Oti::no_code(12, 4, 2), Oti::no_code(8, 2, 4), Oti::no_code(8, 4, 1)] {
        let verdict = bench.feed(&by_hand(1, Some(&other), 0, 0, b"zzzz", |_| {}));
        assert_eq!(verdict, Verdict::Early, "its description will say");
    }
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "")));
    assert!(bench.receiver.early.is_empty());
    assert_eq!(
        bench.feed(&by_hand(2, Some(&Oti::no_code(8, 0, 2)), 0, 0, b"zz", |_| {})),
        Verdict::Dropped(DropReason::BadOti)
    );
}

/// A packet of a FEC scheme with an EXT_FTI of these values, right or wrong.
pub(super) fn coded(oti: &Oti, sbn: u32, esi: u32, symbol: &[u8]) -> Vec<u8> {
    let mut out = by_hand(1, Some(oti), 0, 0, &[], |header| header.codepoint = oti.encoding_id.0);
    out.truncate(out.len() - 4);
    PayloadId { sbn, esi }.write(oti.encoding_id, 100, &mut out);
    out.extend_from_slice(symbol);
    out
}

fn raptorq_oti(length: u64, symbol: u16, source_blocks: u8, sub_blocks: u16, alignment: u8) -> Oti {
    Oti {
        encoding_id: EncodingId::RAPTORQ,
        max_source_block_length: 0,
        scheme: SchemeInfo::RaptorQ { source_blocks, sub_blocks, alignment },
        ..Oti::no_code(length, symbol, 0)
    }
}

#[test]
fn fec_oti_that_contradicts_itself_opens_nothing() {
    let raptor = |length, symbol, source_blocks| Oti {
        encoding_id: EncodingId::RAPTOR,
        scheme: SchemeInfo::Raptor { source_blocks, sub_blocks: 1, alignment: 4 },
        ..raptorq_oti(length, symbol, 0, 1, 4)
    };
    let solomon = |length, symbol, block| Oti {
        encoding_id: EncodingId::RS_GF28,
        max_source_block_length: block,
        scheme: SchemeInfo::ReedSolomon { max_n: 255, m: 8, group: 1 },
        ..Oti::no_code(length, symbol, block)
    };
    for (what, oti) in [
        ("symbols of no bytes", raptorq_oti(10_000, 0, 1, 1, 4)),
        ("no blocks", raptorq_oti(10_000, 1000, 0, 1, 4)),
        ("more blocks than symbols", raptorq_oti(10_000, 1000, 11, 1, 4)),
        ("a terabyte", raptorq_oti((1 << 40) - 1, 65_535, 255, 1, 4)),
        ("a billion symbols", raptorq_oti(1 << 33, 4, 1, 1, 4)),
        ("symbols of no bytes", raptor(10_000, 0, 1)),
        ("more blocks than symbols", raptor(10_000, 1000, 65_535)),
        ("symbols of no bytes", solomon(10_000, 0, 10)),
        ("blocks of no symbols", solomon(10_000, 1000, 0)),
    ] {
        let mut bench = Bench::new();
        let verdict = bench.feed(&coded(&oti, 0, 0, &[7; 4]));
        assert_eq!(verdict, Verdict::Dropped(DropReason::BadOti), "{what}: {oti:?}");
        assert!(bench.storage.opened.is_empty(), "{what}");
    }
}

#[test]
fn a_code_that_we_would_not_dare_leaves_source_symbols_and_drops_repair_symbols() {
    // Alignment that does not divide the symbol, sub-blocks, a block of a gigabyte: repair symbols are not used, source
    // symbols as always.
    for oti in [
        raptorq_oti(3000, 1001, 1, 1, 4),
        raptorq_oti(3000, 1000, 1, 2, 4),
        raptorq_oti(3000, 1000, 1, 1, 0),
        raptorq_oti(196_605, 65_535, 1, 1, 4),
    ] {
        let mut bench = Bench::new();
        bench.feed(&fdt_by_hand(1, &describe(1, "a", "")));
        let bytes = body(3, oti.transfer_length as usize);
        let repair = vec![9; usize::from(oti.symbol_length)];
        for esi in [3, 1000, 0xff_ffff] {
            bench.feed(&coded(&oti, 0, esi, &repair));
        }
        assert!(bench.events().iter().all(|event| !matches!(event, Event::BlockReady { .. })), "{oti:?}");
        for (esi, symbol) in bytes.chunks(usize::from(oti.symbol_length)).enumerate() {
            bench.feed(&coded(&oti, 0, esi as u32, symbol));
        }
        assert_eq!(bench.whole(), [("a".to_owned(), bytes)], "{oti:?}");
    }
}

#[test]
fn fec_oti_that_changes_in_mid_object_is_dropped() {
    let oti = raptorq_oti(10_000, 1000, 1, 1, 4);
    let bytes = body(5, 10_000);
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, &describe(1, "a", "")));
    bench.feed(&coded(&oti, 0, 0, &bytes[..1000]));
    for other in [
        raptorq_oti(10_000, 1000, 2, 1, 4),
        raptorq_oti(10_000, 500, 1, 1, 4),
        raptorq_oti(9_000, 1000, 1, 1, 4),
        raptorq_oti(10_000, 1000, 1, 1, 8),
    ] {
        let symbol = vec![0xbb; usize::from(other.symbol_length)];
        assert_eq!(
            bench.feed(&coded(&other, 0, 1, &symbol)),
            Verdict::Dropped(DropReason::OtiChanged),
            "{other:?}"
        );
    }
    for (esi, symbol) in bytes.chunks(1000).enumerate().skip(1) {
        bench.feed(&coded(&oti, 0, esi as u32, symbol));
    }
    assert_eq!(bench.whole(), [("a".to_owned(), bytes)]);
}

#[test]
fn a_symbol_that_is_there_is_not_written_again() {
    let oti = Oti::no_code(8, 4, 2);
    let mut bench = Bench::new();
    assert_eq!(bench.feed(&by_hand(1, Some(&oti), 0, 0, b"abcd", |_| {})), Verdict::Stored);
    let duplicate = Verdict::Dropped(DropReason::Duplicate);
    assert_eq!(bench.feed(&by_hand(1, Some(&oti), 0, 0, b"wxyz", |_| {})), duplicate);
    assert_eq!(bench.receiver.object(Toi(1)).unwrap().buf()[..4], *b"abcd");
}

#[test]
fn padding_of_more_than_the_last_symbol_is_dropped() {
    let oti = Oti::no_code(10, 4, 100);
    let mut bench = Bench::new();
    let bad = Verdict::Dropped(DropReason::BadSymbolLength);
    assert_eq!(bench.feed(&by_hand(1, Some(&oti), 0, 2, b"89\0\0\0\0\0\0", |_| {})), bad);
    assert_eq!(bench.feed(&by_hand(1, Some(&oti), 0, 1, b"456789\0\0\0\0\0\0", |_| {})), bad);
    assert_eq!(bench.feed(&by_hand(1, Some(&oti), 0, 1, b"456789\0\0", |_| {})), Verdict::Stored);
}

#[test]
fn before_the_first_symbol_oti_may_change_but_not_lengths() {
    let changed = Verdict::Early;
    let open = |bench: &mut Bench| {
        let verdict = bench.feed(&by_hand(1, Some(&Oti::no_code(8, 4, 2)), 0, 0, b"abc", |_| {}));
        assert_eq!(verdict, Verdict::Dropped(DropReason::BadSymbolLength));
    };
    for (oti, symbol, verdict) in [
        (Oti::no_code(8, 4, 1), &b"abcd"[..], Verdict::Stored),
        (Oti::no_code(8, 2, 4), b"ab", changed),
        (Oti::no_code(12, 4, 3), b"abcd", changed),
    ] {
        let mut bench = Bench::new();
        open(&mut bench);
        assert_eq!(bench.feed(&by_hand(1, Some(&oti), 0, 0, symbol, |_| {})), verdict, "{oti:?}");
    }
}

fn solomon_oti() -> Oti {
    Oti {
        encoding_id: EncodingId::RS_GF28,
        scheme: SchemeInfo::ReedSolomon { max_n: 14, m: 8, group: 1 },
        ..Oti::no_code(100, 10, 10)
    }
}

#[test]
fn repair_symbols_have_their_length_and_a_number_of_the_code() {
    let mut bench = Bench::new();
    let oti = solomon_oti();
    for (esi, bytes, verdict) in [
        (10, 10, Verdict::Stored),
        (10, 10, Verdict::Dropped(DropReason::Duplicate)),
        (11, 9, Verdict::Dropped(DropReason::BadSymbolLength)),
        (11, 11, Verdict::Dropped(DropReason::BadSymbolLength)),
        (13, 10, Verdict::Stored),
        (14, 10, Verdict::Dropped(DropReason::OutsideObject)),
        (255, 10, Verdict::Dropped(DropReason::OutsideObject)),
    ] {
        assert_eq!(bench.feed(&coded(&oti, 0, esi, &vec![7; bytes])), verdict, "{esi}, {bytes} bytes");
    }
}

#[test]
fn storage_that_keeps_no_repair_symbols_makes_no_block_ready() {
    let mut bench = Bench::new();
    bench.storage.keeps_nothing = true;
    let oti = solomon_oti();
    for esi in 0..8 {
        bench.feed(&coded(&oti, 0, esi, &[7; 10]));
    }
    for esi in 10..14 {
        assert_eq!(bench.feed(&coded(&oti, 0, esi, &[7; 10])), Verdict::Dropped(DropReason::RepairSymbol));
    }
    let events = bench.events();
    assert!(!events.iter().any(|event| matches!(event, Event::BlockReady { .. })), "{events:?}");
}

#[test]
fn a_ready_block_is_told_once_and_again_after_a_failed_attempt() {
    let mut bench = Bench::new();
    let oti = solomon_oti();
    let ready = |bench: &mut Bench| {
        bench.events().iter().filter(|event| matches!(event, Event::BlockReady { .. })).count()
    };
    for esi in (0..7).chain(10..12) {
        bench.feed(&coded(&oti, 0, esi, &[7; 10]));
    }
    assert_eq!(ready(&mut bench), 0);
    bench.feed(&coded(&oti, 0, 12, &[7; 10]));
    assert_eq!(ready(&mut bench), 1);
    bench.feed(&coded(&oti, 0, 7, &[7; 10]));
    assert_eq!(ready(&mut bench), 0, "it is at work");
    let block = block_of(&bench.receiver, Toi(1), 0);
    bench.receiver.recovered(Toi(1), block, None, &mut bench.storage);
    bench.feed(&coded(&oti, 0, 8, &[7; 10]));
    assert_eq!(ready(&mut bench), 1, "with one symbol more");
}

#[test]
fn a_block_decoded_late_is_not_placed_in_the_next_object_of_its_toi() {
    let mut bench = Bench::new();
    let oti = solomon_oti();
    let symbol = |bench: &mut Bench| bench.feed(&coded(&oti, 0, 0, &[7; 10]));
    symbol(&mut bench);
    let first = block_of(&bench.receiver, Toi(1), 0);
    bench.receiver.hold(Toi(1));
    let lost = [(10, vec![9; 10])];
    assert!(!bench.receiver.recovered(Toi(1), first, Some(&lost), &mut bench.storage), "it has ended");
    bench.receiver.reject(Toi(1));
    symbol(&mut bench);
    let second = block_of(&bench.receiver, Toi(1), 0);
    assert!(!bench.receiver.recovered(Toi(1), first, Some(&lost), &mut bench.storage), "another has its TOI");
    assert!(bench.receiver.recovery_job(Toi(1), first).is_none());
    assert_eq!((bench.receiver.stats().recovered, bench.receiver.stats().recovery_failed), (0, 0));
    assert!(bench.receiver.recovered(Toi(1), second, Some(&lost), &mut bench.storage));
    assert_eq!(bench.receiver.stats().recovered, 1);
    // Nor in one of a later receiver of the same session.
    let mut later = Bench::new();
    later.now = bench.now;
    symbol(&mut later);
    assert!(![first, second].contains(&block_of(&later.receiver, Toi(1), 0)));
}

#[test]
fn repair_symbols_of_one_object_are_bounded_by_half_its_symbols() {
    // Four blocks of 100 symbols.
    let oti = raptorq_oti(400 * 4, 4, 4, 1, 4);
    let mut bench = Bench::new();
    let mut verdicts = Vec::new();
    for sbn in 0..4 {
        verdicts.extend((0..100).map(|at| bench.feed(&coded(&oti, sbn, 200 + at, &[7; 4]))));
    }
    let stored = verdicts.iter().filter(|verdict| **verdict == Verdict::Stored).count();
    assert_eq!((stored, verdicts[300]), (400 / 2 + 64, Verdict::Dropped(DropReason::NoRoom)));
}

#[test]
fn numbers_of_symbols_beyond_32_bits_are_not_followed() {
    let oti = Oti { encoding_id: EncodingId::SMALL_LARGE_EXPANDABLE, ..Oti::no_code(100, 4, 25) };
    let mut gaps = Gaps::default();
    let mut body = 0_u32.to_be_bytes().to_vec();
    body.extend_from_slice(&u32::MAX.to_be_bytes());
    body.extend_from_slice(&[0; 12]);
    assert_eq!(gaps.take(Toi(1), Coding::of(&oti), &body), 0);
    assert_eq!(gaps.end_all(), 0);
}
