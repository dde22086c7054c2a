//! What trips other receivers, one test a trap; then whole lossy deliveries.

use super::*;
use crate::digest::Digest;
use crate::fec::{EncodingId, PayloadId, SchemeInfo};
use crate::flute::{Encoding, SendFile, Sender, SenderProfile, decode, verify};
use crate::lct::{LctHeader, Tsi, Widths};
use linksim::{Link, Profile};
use proptest::prelude::*;

/// Lends `Vec`s and keeps what was asked.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    opened: Vec<(Toi, u64, bool)>,
    named: Vec<String>,
    refuse: Option<Refusal>,
}

impl Storage for Shelf {
    type Buf = Vec<u8>;
    fn open(&mut self, request: &OpenRequest<'_>) -> Result<Vec<u8>, Refusal> {
        if let Some(refusal) = self.refuse {
            return Err(refusal);
        }
        self.opened.push((request.toi, request.length, request.file.is_some()));
        Ok(vec![0xee; request.length as usize])
    }
    fn name(&mut self, _: &mut Vec<u8>, file: &Arc<File>) -> Result<(), Refusal> {
        self.named.push(file.content_location.clone());
        self.refuse.map_or(Ok(()), Err)
    }
    fn write(&mut self, buf: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
        buf[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    fn keep_repair(&mut self, _: &mut Vec<u8>, _: u32, _: &[u8]) -> bool {
        true // what they are does not matter where nothing is decoded for its bytes
    }
}

struct Bench {
    receiver: Receiver<Vec<u8>>,
    shelf: Shelf,
    now: Instant,
}

const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);

impl Bench {
    fn new() -> Self {
        Self {
            receiver: Receiver::new(ReceiverConfig::default()),
            shelf: Shelf::default(),
            now: Instant::default(),
        }
    }

    fn feed(&mut self, datagram: &[u8]) -> Verdict {
        self.now = self.now + Duration::from_micros(10);
        let packet = Packet::parse(datagram).expect("a packet that our own sender or the test made");
        self.receiver.handle_packet(self.now, Some(WALL), &packet, datagram, &mut self.shelf)
    }

    fn feed_all(&mut self, datagrams: &[Vec<u8>]) {
        for datagram in datagrams {
            self.feed(datagram);
        }
    }

    fn events(&mut self) -> Vec<Event<Vec<u8>>> {
        std::iter::from_fn(|| self.receiver.poll_event()).collect()
    }

    /// Whole objects so far, verified and decoded: name and bytes.
    fn whole(&mut self) -> Vec<(String, Vec<u8>)> {
        let events = self.events();
        let complete = events.into_iter().filter_map(|event| match event {
            Event::Complete { file, buf, .. } => Some((file, buf)),
            _ => None,
        });
        complete
            .map(|(file, buf)| {
                let content = verify(&file, &buf).expect("whole objects are right");
                (file.content_location.clone(), content.decoded.unwrap_or(buf))
            })
            .collect()
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.receiver.stats().dropped(reason)
    }
}

fn body(seed: u8, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at as u32).wrapping_mul(2_654_435_761).wrapping_add(u32::from(seed)).to_be_bytes()[0])
        .collect()
}

pub(crate) fn send_file(name: &str, bytes: &[u8]) -> SendFile {
    SendFile {
        content_location: name.to_owned(),
        content_type: None,
        encoding: Encoding::Identity,
        content_length: bytes.len() as u64,
        transfer_length: bytes.len() as u64,
        content_digest: Digest::of(bytes),
        repr_digest: None,
        content_md5: None,
        expiry_s: None,
        ignored_query: Default::default(),
    }
}

/// A sender with one object: its FDT packets and its object packets.
fn one_object(profile: SenderProfile, name: &str, bytes: &[u8]) -> (Sender, Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut sender = Sender::new(Tsi(7), profile, 5, 99);
    let toi = sender.add(send_file(name, bytes)).unwrap();
    let (fdt, data) = (fdt_packets(&mut sender), object_packets(&sender, toi, bytes));
    (sender, fdt, data)
}

fn fdt_packets(sender: &mut Sender) -> Vec<Vec<u8>> {
    sender.refresh_fdt(WALL).unwrap();
    let mut all = Vec::new();
    for page in 0..sender.fdt_pages() {
        for packet in 0..sender.fdt_packets(page) {
            let mut out = Vec::new();
            assert!(sender.write_fdt(page, packet, &mut out));
            all.push(out);
        }
    }
    all
}

fn object_packets(sender: &Sender, toi: Toi, bytes: &[u8]) -> Vec<Vec<u8>> {
    let partition = sender.partition(toi).unwrap();
    (0..partition.symbols)
        .map(|symbol| {
            let range = partition.byte_range(symbol);
            let mut out = Vec::new();
            assert!(sender.write_packet(
                toi,
                symbol,
                &bytes[range.start as usize..range.end as usize],
                false,
                &mut out
            ));
            out
        })
        .collect()
}

#[test]
fn packets_before_their_fdt_with_ext_fti_go_straight_to_their_place() {
    let bytes = body(1, 10_000);
    let (_, fdt, data) = one_object(SenderProfile::default(), "http://h/a", &bytes);
    let mut bench = Bench::new();
    bench.feed_all(&data);
    assert!(bench.whole().is_empty(), "no name yet");
    bench.feed_all(&fdt);
    assert_eq!(bench.whole(), [("http://h/a".to_owned(), bytes)]);
    assert_eq!(bench.shelf.opened, [(Toi(5), 10_000, false)]);
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
fn fdt_ids_that_jump_or_repeat_are_only_ids() {
    let mut bench = Bench::new();
    let (a, b) = (body(1, 3000), body(2, 4000));
    let (_, fdt_a, data_a) = one_object(SenderProfile::default(), "a", &a);
    bench.feed_all(&fdt_a);
    bench.feed_all(&fdt_a);
    let new = |events: Vec<Event<Vec<u8>>>| {
        events.iter().filter(|event| matches!(event, Event::Fdt { .. })).count()
    };
    assert_eq!(new(bench.events()), 1, "a repeated instance is no news");
    // The same ID, other bytes: an instance of a sender that does not count.
    let mut other = Sender::new(Tsi(7), SenderProfile::default(), 6, 99);
    let toi = other.add(send_file("b", &b)).unwrap();
    let fdt_b = fdt_packets(&mut other);
    bench.feed_all(&fdt_b);
    bench.feed_all(&object_packets(&other, toi, &b));
    bench.feed_all(&data_a);
    let names: Vec<_> = bench.whole().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["b", "a"], "instances add up");
    // IDs far apart.
    let mut jump = Sender::new(Tsi(7), SenderProfile::default(), 900, 0xf_fff0);
    let toi = jump.add(send_file("c", &a)).unwrap();
    bench.feed_all(&fdt_packets(&mut jump));
    bench.feed_all(&object_packets(&jump, toi, &a));
    assert_eq!(bench.whole().len(), 1);
}

#[test]
fn widths_of_16_and_48_bits_and_long_tois() {
    for widths in [
        Widths::BITS_16,
        Widths { tsi_words: 1, toi_words: 1, half_word: true },
        Widths { tsi_words: 1, toi_words: 3, half_word: true },
        Widths { tsi_words: 1, toi_words: 2, half_word: false },
    ] {
        let bytes = body(3, 5000);
        let (_, fdt, data) = one_object(SenderProfile { widths, ..SenderProfile::default() }, "a", &bytes);
        let mut bench = Bench::new();
        bench.feed_all(&fdt);
        bench.feed_all(&data);
        assert_eq!(bench.whole().len(), 1, "{widths:?}");
    }
}

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

/// A data packet by hand: no-code, 32-bit TSI 7.
fn by_hand(
    toi: u128,
    fti: Option<&Oti>,
    sbn: u32,
    esi: u32,
    symbols: &[u8],
    flags: impl Fn(&mut LctHeader<'_>),
) -> Vec<u8> {
    let mut extensions = Vec::new();
    if let Some(oti) = fti {
        oti.write_fti(&mut extensions).unwrap();
    }
    let mut header = LctHeader { extensions: &extensions, ..LctHeader::new(Tsi(7), Toi(toi)) };
    flags(&mut header);
    let mut out = Vec::new();
    header.write(&mut out).unwrap();
    PayloadId { sbn, esi }.write_16_16(&mut out);
    out.extend_from_slice(symbols);
    out
}

/// FDT packets for XML by hand.
fn fdt_by_hand(instance_id: u32, xml: &str) -> Vec<u8> {
    let mut extensions = Vec::new();
    crate::lct::ext::Fdt { version: 1, instance_id }.write(&mut extensions);
    Oti::no_code(xml.len() as u64, 60_000, 1).write_fti(&mut extensions).unwrap();
    let mut out = Vec::new();
    LctHeader { extensions: &extensions, ..LctHeader::new(Tsi(7), Toi(0)) }.write(&mut out).unwrap();
    PayloadId { sbn: 0, esi: 0 }.write_16_16(&mut out);
    out.extend_from_slice(xml.as_bytes());
    out
}

fn describe(toi: u32, name: &str, more: &str) -> String {
    format!(
        "<FDT-Instance Expires=\"4294944000\"><File TOI=\"{toi}\" Content-Location=\"{name}\" {more}/></FDT-Instance>"
    )
}

#[test]
fn oti_only_on_the_fdt_instance() {
    let xml = "<FDT-Instance Expires=\"4294944000\" FEC-OTI-FEC-Encoding-ID=\"0\" FEC-OTI-Maximum-Source-Block-Length=\"2\" \
        FEC-OTI-Encoding-Symbol-Length=\"4\"><File TOI=\"1\" Content-Location=\"x\" Content-Length=\"10\"/></FDT-Instance>";
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, xml));
    bench.feed(&by_hand(1, None, 0, 0, b"0123", |_| {}));
    bench.feed(&by_hand(1, None, 0, 1, b"4567", |_| {}));
    bench.feed(&by_hand(1, None, 1, 0, b"89", |_| {}));
    assert_eq!(bench.whole(), [("x".to_owned(), b"0123456789".to_vec())]);
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
        ..send_file("g", &bytes)
    };
    let toi = sender.add(file).unwrap();
    let mut bench = Bench::new();
    bench.feed_all(&fdt_packets(&mut sender));
    bench.feed_all(&object_packets(&sender, toi, &zipped));
    assert_eq!(bench.whole(), [("g".to_owned(), bytes)]);
}

#[test]
fn a_session_restarted_without_a_close_flag_never_mixes_two_objects() {
    let (old, new) = (body(1, 30_000), body(2, 30_000));
    let (_, old_fdt, old_data) = one_object(SenderProfile::default(), "live/1.m4s", &old);
    let (_, new_fdt, new_data) = one_object(SenderProfile::default(), "live/9.m4s", &new);
    let mut bench = Bench::new();
    bench.feed_all(&old_fdt);
    bench.feed_all(&old_data[..15]);
    // The sender comes back and counts from the same TOI and instance ID.
    bench.feed_all(&new_fdt);
    bench.feed_all(&new_data[10..]);
    assert!(bench.whole().is_empty());
    bench.feed_all(&new_data[..10]);
    assert_eq!(bench.whole(), [("live/9.m4s".to_owned(), new)]);
    // And again after the object was whole.
    bench.feed_all(&old_fdt);
    bench.feed_all(&old_data);
    assert_eq!(bench.whole(), [("live/1.m4s".to_owned(), old)]);
}

#[test]
fn a_restart_with_another_length_is_seen_by_ext_fti_before_any_fdt() {
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"4\"")));
    bench.feed(&by_hand(1, Some(&Oti::no_code(4, 4, 1)), 0, 0, b"0123", |_| {}));
    assert_eq!(bench.whole().len(), 1);
    assert_eq!(bench.feed(&by_hand(1, Some(&Oti::no_code(8, 4, 2)), 0, 0, b"abcd", |_| {})), Verdict::Stored);
    bench.feed(&fdt_by_hand(1, &describe(1, "y", "Content-Length=\"8\"")));
    bench.feed(&by_hand(1, Some(&Oti::no_code(8, 4, 2)), 0, 0, b"abcd", |_| {}));
    bench.feed(&by_hand(1, Some(&Oti::no_code(8, 4, 2)), 0, 1, b"efgh", |_| {}));
    assert_eq!(bench.whole(), [("y".to_owned(), b"abcdefgh".to_vec())]);
}

#[test]
fn oti_that_changes_in_mid_object_is_dropped() {
    let mut bench = Bench::new();
    bench.feed(&by_hand(1, Some(&Oti::no_code(8, 4, 2)), 0, 0, b"abcd", |_| {}));
    for other in [Oti::no_code(12, 4, 2), Oti::no_code(8, 2, 4), Oti::no_code(8, 4, 1)] {
        let verdict = bench.feed(&by_hand(1, Some(&other), 0, 0, b"zzzz", |_| {}));
        assert_eq!(verdict, Verdict::Dropped(DropReason::OtiChanged));
    }
    assert_eq!(
        bench.feed(&by_hand(2, Some(&Oti::no_code(8, 0, 2)), 0, 0, b"zz", |_| {})),
        Verdict::Dropped(DropReason::BadOti)
    );
}

/// A packet of a FEC scheme with an EXT_FTI of these values, right or wrong.
fn coded(oti: &Oti, sbn: u32, esi: u32, symbol: &[u8]) -> Vec<u8> {
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
        assert!(bench.shelf.opened.is_empty(), "{what}");
    }
}

#[test]
fn a_code_that_we_would_not_dare_leaves_source_symbols_and_drops_repair_symbols() {
    // Alignment that does not divide the symbol, sub-blocks, a block of a gigabyte: repair symbols are of no use, source
    // symbols are what they always are.
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
fn close_flags_stall_what_is_incomplete_once() {
    let oti = Oti::no_code(8, 4, 2);
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"8\"")));
    bench.feed(&by_hand(1, Some(&oti), 0, 0, b"abcd", |header| header.close_object = true));
    let stalled = |events: &[Event<Vec<u8>>]| {
        events.iter().filter(|event| matches!(event, Event::Stalled { .. })).count()
    };
    assert_eq!(stalled(&bench.events()), 1);
    let mut close = Vec::new();
    Sender::new(Tsi(7), SenderProfile::default(), 1, 1).write_close(&mut close);
    assert_eq!(bench.feed(&close), Verdict::Control);
    assert_eq!(bench.feed(&close), Verdict::Control);
    let events = bench.events();
    assert!(matches!(events[..], [Event::SessionClosed]), "{events:?}");
    assert_eq!(
        bench.feed(&by_hand(1, Some(&oti), 0, 1, b"efgh", |_| {})),
        Verdict::Stored,
        "late packets still count"
    );
}

#[test]
fn an_object_that_stalled_before_it_had_a_name_is_told_of_when_it_gets_one() {
    let oti = Oti::no_code(8, 4, 2);
    let mut bench = Bench::new();
    bench.feed(&by_hand(1, Some(&oti), 0, 0, b"abcd", |header| header.close_object = true));
    assert!(
        !bench.receiver.object(Toi(1)).unwrap().stalled || bench.receiver.events.len() == 1,
        "nothing can repair it"
    );
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"8\"")));
    let events = bench.events();
    assert!(
        matches!(events[..], [Event::Opened { .. }, Event::Fdt { .. }, Event::Stalled { .. }]),
        "{events:?}"
    );
}

#[test]
fn a_session_that_falls_silent_is_told_of_once_and_again_after_it_spoke() {
    let mut bench = Bench::new();
    let silent = |bench: &mut Bench, second: u64| {
        bench.receiver.handle_timeout(Instant::from_nanos(second * 1_000_000_000), None);
        bench.events().iter().filter(|event| matches!(event, Event::SessionSilent)).count()
    };
    assert_eq!(silent(&mut bench, 100), 0, "nothing was ever heard");
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"8\"")));
    assert_eq!(bench.receiver.unseen().count(), 1);
    assert_eq!((silent(&mut bench, 4), silent(&mut bench, 6), silent(&mut bench, 7)), (0, 1, 0));
    bench.feed(&fdt_by_hand(2, &describe(1, "x", "Content-Length=\"8\"")));
    assert_eq!((silent(&mut bench, 4), silent(&mut bench, 6)), (0, 1));
}

#[test]
fn repair_fills_only_whole_symbols_that_are_missing() {
    let bytes = body(5, 10_500);
    let profile = SenderProfile { symbol_length: 1000, ..SenderProfile::default() };
    let (_, fdt, data) = one_object(profile, "a", &bytes);
    let mut bench = Bench::new();
    bench.feed_all(&fdt);
    for packet in
        data.iter().enumerate().filter(|(at, _)| ![0, 4, 5, 10].contains(at)).map(|(_, packet)| packet)
    {
        bench.feed(packet);
    }
    let object = bench.receiver.object(Toi(5)).unwrap();
    assert_eq!(object.received().missing(9), [0..1000, 4000..6000, 10_000..10_500]);
    assert_eq!(
        bench.receiver.repair(Toi(5), 3500, &bytes[3500..5999], &mut bench.shelf),
        Some(1),
        "a part of a symbol is of no use"
    );
    assert_eq!(bench.receiver.repair(Toi(5), 10_000, &bytes[10_000..], &mut bench.shelf), Some(1));
    assert_eq!(bench.receiver.repair(Toi(5), u64::MAX, b"x", &mut bench.shelf), Some(0));
    assert_eq!(bench.receiver.repair(Toi(5), 0, &bytes, &mut bench.shelf), Some(2));
    assert_eq!(bench.whole(), [("a".to_owned(), bytes)]);
    assert_eq!(bench.receiver.repair(Toi(5), 0, b"x", &mut bench.shelf), None);
}

#[test]
fn what_proved_wrong_is_received_again() {
    let bytes = body(6, 3000);
    let (_, fdt, mut data) = one_object(SenderProfile::default(), "a", &bytes);
    let mut bench = Bench::new();
    bench.feed_all(&fdt);
    let good = data[1].clone();
    *data[1].last_mut().unwrap() ^= 1;
    bench.feed_all(&data);
    let Some(Event::Complete { file, buf, .. }) = bench.events().pop() else { panic!("complete") };
    assert!(verify(&file, &buf).is_err());
    bench.receiver.reject(file.toi);
    data[1] = good;
    bench.feed_all(&data);
    assert_eq!(bench.whole().len(), 1);
}

#[test]
fn refusals_are_remembered_for_as_long_as_they_hold() {
    let bytes = body(7, 3000);
    let (_, fdt, data) = one_object(SenderProfile::default(), "a", &bytes);
    for (refusal, reason) in
        [(Refusal::Held, DropReason::Repeat), (Refusal::NotWanted, DropReason::NotWanted)]
    {
        let mut bench = Bench::new();
        bench.feed_all(&fdt);
        bench.shelf.refuse = Some(refusal);
        bench.feed_all(&data);
        bench.shelf.refuse = None;
        bench.now = bench.now + Duration::from_secs(3600);
        bench.feed_all(&data);
        assert_eq!(bench.drops(reason), 2 * data.len() as u64);
    }
    let mut bench = Bench::new();
    bench.feed_all(&fdt);
    bench.shelf.refuse = Some(Refusal::NoRoom);
    bench.feed_all(&data);
    bench.shelf.refuse = None;
    assert_eq!(bench.feed(&data[0]), Verdict::Dropped(DropReason::NoRoom));
    bench.now = bench.now + Duration::from_secs(6);
    bench.feed_all(&data);
    assert_eq!(bench.whole().len(), 1);
}

#[test]
fn a_hundred_thousand_invented_tois_leave_room_for_described_objects() {
    let oti = Oti::no_code(8, 4, 2);
    let mut bench = Bench::new();
    for toi in 0..100_000 {
        bench.feed(&by_hand(1_000_000 + toi, Some(&oti), 0, 0, b"abcd", |_| {}));
    }
    assert_eq!(bench.receiver.in_flight.len(), MAX_UNNAMED);
    assert_eq!(bench.drops(DropReason::TooManyObjects), 100_000 - MAX_UNNAMED as u64);
    let bytes = body(8, 3000);
    let (_, fdt, data) = one_object(SenderProfile::default(), "a", &bytes);
    bench.feed_all(&fdt);
    bench.feed_all(&data);
    assert_eq!(bench.whole().len(), 1);
    bench.now = bench.now + Duration::from_secs(60);
    bench.receiver.handle_timeout(bench.now, Some(WALL));
    assert_eq!(bench.receiver.in_flight.len(), 0, "those that never got a name are given up");
}

#[test]
fn described_objects_in_flight_are_bounded() {
    let mut bench = Bench::new();
    let files: String = (1..=3000)
        .map(|toi| format!("<File TOI=\"{toi}\" Content-Location=\"f{toi}\" Content-Length=\"8\"/>"))
        .collect();
    let xml = format!("<FDT-Instance Expires=\"4294944000\">{files}</FDT-Instance>");
    for chunk_start in [0] {
        let mut extensions = Vec::new();
        crate::lct::ext::Fdt { version: 1, instance_id: 1 }.write(&mut extensions);
        Oti::no_code(xml.len() as u64, 50_000, 9).write_fti(&mut extensions).unwrap();
        for (esi, part) in xml.as_bytes().chunks(50_000).enumerate() {
            let mut out = Vec::new();
            LctHeader { extensions: &extensions, ..LctHeader::new(Tsi(7), Toi(chunk_start)) }
                .write(&mut out)
                .unwrap();
            PayloadId { sbn: 0, esi: esi as u32 }.write_16_16(&mut out);
            out.extend_from_slice(part);
            bench.feed(&out);
        }
    }
    bench.events();
    let mut displaced = Vec::new();
    for toi in 1..=3000 {
        bench.feed(&by_hand(toi, Some(&Oti::no_code(8, 4, 2)), 0, 0, b"abcd", |_| {}));
        displaced.extend(bench.events().into_iter().filter_map(|event| match event {
            Event::Abandoned { toi, reason: AbandonReason::Displaced, .. } => Some(toi.0),
            _ => None,
        }));
    }
    assert_eq!(bench.receiver.in_flight.len(), MAX_OBJECTS_IN_FLIGHT);
    let expected: Vec<u128> = (1..=3000 - MAX_OBJECTS_IN_FLIGHT as u128).collect();
    assert!(displaced == expected, "the one heard longest ago makes room");
}

#[test]
fn events_that_nobody_polls_stop_the_intake_not_the_memory() {
    let mut bench = Bench::new();
    for id in 0..MAX_EVENTS as u32 + 100 {
        bench.feed(&fdt_by_hand(id, &describe(id + 1, "x", "Content-Length=\"4\"")));
    }
    assert_eq!(bench.receiver.events.len(), MAX_EVENTS);
    assert_eq!(bench.drops(DropReason::EventsFull), 100);
}

#[test]
fn fdts_that_lie_about_lengths() {
    let mut bench = Bench::new();
    // Content-Length says 100, EXT_FTI says 8: EXT_FTI goes first, the lie shows when the object is verified.
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"100\"")));
    let oti = Oti::no_code(8, 4, 2);
    bench.feed(&by_hand(1, Some(&oti), 0, 0, b"abcd", |_| {}));
    bench.feed(&by_hand(1, Some(&oti), 0, 1, b"efgh", |_| {}));
    let Some(Event::Complete { file, buf, .. }) = bench.events().pop() else { panic!("complete") };
    assert!(verify(&file, &buf).is_err());
    // Lengths that nobody can hold.
    for length in ["18446744073709551615", "17179869185"] {
        bench.feed(&fdt_by_hand(2, &describe(2, "y", &format!("Content-Length=\"{length}\" FEC-OTI-Encoding-Symbol-Length=\"4\" FEC-OTI-Maximum-Source-Block-Length=\"4\""))));
        assert_eq!(
            bench.feed(&by_hand(2, None, 0, 0, b"abcd", |_| {})),
            Verdict::Dropped(DropReason::BadOti)
        );
    }
    // An FDT Instance whose EXT_FTI promises a gigabyte.
    let mut extensions = Vec::new();
    crate::lct::ext::Fdt { version: 1, instance_id: 9 }.write(&mut extensions);
    Oti::no_code(1 << 30, 1400, 65_535).write_fti(&mut extensions).unwrap();
    let mut out = Vec::new();
    LctHeader { extensions: &extensions, ..LctHeader::new(Tsi(7), Toi(0)) }.write(&mut out).unwrap();
    out.extend_from_slice(&[0; 100]);
    assert_eq!(bench.feed(&out), Verdict::Dropped(DropReason::FdtBadLength));
}

#[test]
fn lengths_of_zero_say_nothing_where_packets_say_otherwise() {
    let oti = Oti::no_code(8, 4, 2);
    let packets = [b"abcd", b"efgh"].iter().enumerate();
    let packets: Vec<_> =
        packets.map(|(at, bytes)| by_hand(1, Some(&oti), 0, at as u32, &bytes[..], |_| {})).collect();
    let fdt = fdt_by_hand(1, &describe(1, "x", "Content-Length=\"0\" Transfer-Length=\"0\""));
    for order in [[0, 1, 2], [1, 0, 2], [1, 2, 0]] {
        let all = [&fdt, &packets[0], &packets[1]];
        let mut bench = Bench::new();
        for at in order {
            bench.feed(all[at]);
        }
        assert_eq!(bench.whole().last(), Some(&("x".to_owned(), b"abcdefgh".to_vec())), "{order:?}");
    }
}

#[test]
fn an_expired_instance_describes_nothing() {
    let mut bench = Bench::new();
    let past = WALL.plus_ms(-1000).ntp_seconds();
    let xml =
        format!("<FDT-Instance Expires=\"{past}\"><File TOI=\"1\" Content-Location=\"x\"/></FDT-Instance>");
    assert_eq!(bench.feed(&fdt_by_hand(1, &xml)), Verdict::Dropped(DropReason::FdtExpired));
    assert!(bench.receiver.table().is_empty());
}

#[test]
fn an_object_of_no_bytes_is_whole_when_it_has_a_name() {
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, &describe(1, "end", "Content-Length=\"0\"")));
    assert_eq!(bench.whole(), [("end".to_owned(), vec![])]);
    bench.feed(&fdt_by_hand(2, &describe(1, "end", "Content-Length=\"0\"")));
    assert!(bench.whole().is_empty(), "once");
}

#[test]
fn a_new_version_has_a_new_toi_and_both_arrive() {
    let (one, two) = (body(1, 4000), body(2, 4100));
    let mut sender = Sender::new(Tsi(7), SenderProfile::default(), 1, 1);
    let first = sender.add(send_file("m.m3u8", &one)).unwrap();
    let mut bench = Bench::new();
    bench.feed_all(&fdt_packets(&mut sender));
    bench.feed_all(&object_packets(&sender, first, &one));
    sender.withdraw(first);
    let second = sender.add(send_file("m.m3u8", &two)).unwrap();
    assert_ne!(first, second);
    bench.feed_all(&fdt_packets(&mut sender));
    bench.feed_all(&object_packets(&sender, second, &two));
    assert_eq!(bench.whole(), [("m.m3u8".to_owned(), one), ("m.m3u8".to_owned(), two)]);
}

/// A carousel of `count` objects over a lossy link until all are whole: passes needed.
fn lossy_delivery(seed: u64, loss: f64, count: usize) -> u32 {
    let bodies: Vec<Vec<u8>> = (0..count).map(|at| body(at as u8, 500 + at * 3777 % 60_000)).collect();
    let mut sender =
        Sender::new(Tsi(7), SenderProfile { fdt_page_bytes: 4000, ..SenderProfile::default() }, 1, 1);
    let tois: Vec<Toi> = bodies
        .iter()
        .enumerate()
        .map(|(at, bytes)| sender.add(send_file(&format!("o{at}"), bytes)).unwrap())
        .collect();
    let fdt = fdt_packets(&mut sender);
    assert!(sender.fdt_pages() > 1);
    let mut link = Link::new(seed, Profile::burst(loss));
    let mut bench = Bench::new();
    let mut whole = std::collections::BTreeMap::new();
    for pass in 1..=60 {
        let packets = fdt
            .iter()
            .cloned()
            .chain(tois.iter().zip(&bodies).flat_map(|(&toi, bytes)| object_packets(&sender, toi, bytes)));
        for packet in packets {
            link.send(0, &packet);
            while let Some(packet) = link.poll(0) {
                bench.feed(&packet);
            }
        }
        for (name, bytes) in bench.whole() {
            assert!(whole.insert(name, bytes).is_none(), "each object once");
        }
        if whole.len() == count {
            for (at, bytes) in bodies.iter().enumerate() {
                assert_eq!(whole[&format!("o{at}")], *bytes);
            }
            return pass;
        }
    }
    panic!("seed {seed}, loss {loss}: only {} of {count} objects in 60 passes", whole.len());
}

#[test]
fn complete_deliveries_over_lossy_links() {
    assert_eq!(lossy_delivery(1, 0.0, 40), 1);
    for seed in 0..8 {
        for loss in [0.01, 0.05, 0.2] {
            lossy_delivery(seed, loss, 20);
        }
    }
}

#[test]
fn decode_is_reachable_for_whoever_holds_the_bytes() {
    assert_eq!(decode(&Encoding::Identity, b"x", None), Ok(None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_order_any_duplicates_same_object(seed in any::<u64>(), length in 1_usize..40_000, symbol in 100_u16..1500, block in 1_u32..50) {
        let bytes = body(seed as u8, length);
        let profile = SenderProfile { symbol_length: symbol, max_source_block_length: block, ..SenderProfile::default() };
        let (_, fdt, data) = one_object(profile, "a", &bytes);
        let mut order: Vec<&Vec<u8>> = fdt.iter().chain(&data).chain(&data[..data.len() / 3]).collect();
        let mut state = seed | 1;
        for at in (1..order.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            order.swap(at, (state >> 33) as usize % (at + 1));
        }
        let mut bench = Bench::new();
        for packet in order { bench.feed(packet); }
        prop_assert_eq!(bench.whole(), vec![("a".to_owned(), bytes)]);
    }

    #[test]
    fn no_oti_of_any_scheme_panics_or_grows(
        scheme in 0_usize..7,
        fti in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(255), any::<u8>()], 16),
        ids in proptest::collection::vec((any::<u32>(), 0_usize..3000), 1..20),
    ) {
        let id = EncodingId([0, 1, 2, 5, 6, 129, 130][scheme]);
        // Objects short enough that some are opened.
        let mut fti = fti;
        fti[..4].fill(0);
        let mut bench = Bench::new();
        bench.feed(&fdt_by_hand(1, &describe(1, "x", "")));
        let Ok(oti) = Oti::parse_fti(id, &fti) else { return Ok(()) };
        prop_assume!(oti.transfer_length < 1 << 20);
        for (payload_id, length) in ids {
            let mut out = by_hand(1, None, 0, 0, &[], |header| header.codepoint = id.0);
            out.truncate(out.len() - 4);
            let length = if length % 2 == 0 { usize::from(oti.symbol_length) } else { length };
            if oti.write_fti(&mut Vec::new()).is_ok() {
                out = coded(&oti, 0, 0, &[]);
                out.truncate(out.len() - 4);
            }
            out.extend_from_slice(&payload_id.to_be_bytes());
            out.resize(out.len() + length, 0x5a);
            if Packet::parse(&out).is_ok() {
                bench.feed(&out);
            }
            for event in bench.events() {
                if let Event::BlockReady { toi, sbn } = event {
                    let job = bench.receiver.recovery_job(toi, sbn);
                    let lost = job.and_then(|job| job.run(|_, out| { out.fill(0x5a); true }));
                    bench.receiver.recovered(toi, sbn, lost.as_deref(), &mut bench.shelf);
                }
            }
        }
        prop_assert!(bench.shelf.opened.len() <= 20);
    }

    #[test]
    fn no_datagram_panics(mut bytes in proptest::collection::vec(any::<u8>(), 4..200), kind in 0_u8..4) {
        bytes[0] = 0x10;
        match kind { 0 => bytes[1] = 0x10, 1 => bytes[1] = 0xa0, _ => {} }
        bytes[2] %= 20;
        bytes[3] = [0, 1, 6, 128][usize::from(kind)];
        let mut bench = Bench::new();
        bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"9\"")));
        if Packet::parse(&bytes).is_ok() { bench.feed(&bytes); }
    }
}

impl Bench {
    /// Time passes, looked at every second as the daemon does.
    fn pass(&mut self, seconds: u64, wall: impl Fn(Instant) -> Option<WallTime>) -> Vec<Event<Vec<u8>>> {
        let mut events = Vec::new();
        for _ in 0..seconds {
            self.now = self.now + Duration::from_secs(1);
            self.receiver.handle_timeout(self.now, wall(self.now));
            events.extend(self.events());
        }
        events
    }

    fn feed_at(&mut self, wall: Option<WallTime>, datagram: &[u8]) -> Verdict {
        let packet = Packet::parse(datagram).unwrap();
        self.receiver.handle_packet(self.now, wall, &packet, datagram, &mut self.shelf)
    }
}

/// The date at `now` of a test that began at [`WALL`].
fn date(now: Instant) -> WallTime {
    WALL.plus_ms(i64::try_from(now.as_nanos() / 1_000_000).unwrap())
}

/// A live session: segments described for ten seconds, of each the second of two packets lost.
fn lossy_live(wall: impl Fn(Instant) -> Option<WallTime>) {
    let oti = Oti::no_code(8, 4, 2);
    let mut bench = Bench::new();
    let mut abandoned = 0;
    let mut count = |events: Vec<Event<Vec<u8>>>| {
        abandoned += events.iter().filter(|event| matches!(event, Event::Abandoned { .. })).count();
    };
    for toi in 1..=1100_u32 {
        let expires = date(bench.now).plus_ms(10_000).ntp_seconds();
        let xml = format!(
            "<FDT-Instance Expires=\"{expires}\"><File TOI=\"{toi}\" Content-Location=\"s{toi}\" Content-Length=\"8\"/></FDT-Instance>"
        );
        bench.feed_at(wall(bench.now), &fdt_by_hand(toi, &xml));
        bench.feed_at(wall(bench.now), &by_hand(toi.into(), Some(&oti), 0, 0, b"abcd", |_| {}));
        count(bench.pass(2, &wall));
        assert!(bench.receiver.in_flight.len() <= MAX_OBJECTS_IN_FLIGHT);
    }
    count(bench.pass(3600, &wall));
    assert_eq!((abandoned, bench.receiver.in_flight.len()), (1100, 0));
    assert!(bench.receiver.table().is_empty() && bench.receiver.is_spent());
    let expires = date(bench.now).plus_ms(10_000).ntp_seconds();
    let xml = describe(2000, "next", "Content-Length=\"8\"").replace("4294944000", &expires.to_string());
    bench.feed_at(wall(bench.now), &fdt_by_hand(2000, &xml));
    bench.feed_at(wall(bench.now), &by_hand(2000, Some(&oti), 0, 0, b"abcd", |_| {}));
    bench.feed_at(wall(bench.now), &by_hand(2000, Some(&oti), 0, 1, b"efgh", |_| {}));
    assert_eq!(bench.whole(), [("next".to_owned(), b"abcdefgh".to_vec())]);
}

#[test]
fn a_lossy_live_session_gives_up_what_has_expired() {
    lossy_live(|now| Some(date(now)));
}

#[test]
fn a_lossy_live_session_gives_up_what_is_old_while_the_date_is_not_known() {
    lossy_live(|_| None);
}

#[test]
fn an_expired_object_is_waited_for_while_its_packets_come() {
    let oti = Oti::no_code(8000, 4, 2000);
    let mut bench = Bench::new();
    let expires = date(bench.now).plus_ms(2_000).ntp_seconds();
    let xml = describe(1, "x", "Content-Length=\"8000\"").replace("4294944000", &expires.to_string());
    bench.feed_at(Some(WALL), &fdt_by_hand(1, &xml));
    for esi in 0..60 {
        bench.feed_at(None, &by_hand(1, Some(&oti), 0, esi, b"abcd", |_| {}));
        let events = bench.pass(1, |now| Some(date(now)));
        assert!(!events.iter().any(|event| matches!(event, Event::Abandoned { .. })), "{esi}");
    }
    let grace = EXPIRED_GRACE.as_secs();
    assert!(
        !bench.pass(grace - 2, |now| Some(date(now))).iter().any(|it| matches!(it, Event::Abandoned { .. }))
    );
    let events = bench.pass(3, |now| Some(date(now)));
    assert!(matches!(events[..], [Event::Abandoned { reason: AbandonReason::Expired, .. }]), "{events:?}");
}

#[test]
fn what_never_expires_is_given_up_after_a_day_and_a_half() {
    let oti = Oti::no_code(8, 4, 2);
    let mut bench = Bench::new();
    bench.feed(&fdt_by_hand(1, &describe(1, "x", "Content-Length=\"8\"")));
    bench.feed(&by_hand(1, Some(&oti), 0, 0, b"abcd", |_| {}));
    bench.events();
    bench.now = bench.now + (MAX_OBJECT_SILENCE - Duration::from_secs(5));
    assert!(!bench.pass(3, |now| Some(date(now))).iter().any(|it| matches!(it, Event::Abandoned { .. })));
    let events = bench.pass(10, |now| Some(date(now)));
    assert!(matches!(events[..], [Event::Abandoned { reason: AbandonReason::Silent, .. }]), "{events:?}");
}

#[test]
fn an_instance_that_expired_by_age_describes_again_when_it_comes_again() {
    let mut bench = Bench::new();
    let fdt = fdt_by_hand(1, &describe(1, "x", "Content-Length=\"8\""));
    bench.feed_at(None, &fdt);
    bench.pass(UNDATED_EXPIRY.as_secs() + 120, |_| None);
    assert!(bench.receiver.table().is_empty());
    bench.feed_at(None, &fdt);
    assert_eq!(bench.receiver.table().len(), 1);
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

#[test]
fn every_packet_is_counted_once() {
    let bytes = body(3, 30_000);
    let (_, fdt, data) = one_object(SenderProfile::default(), "a", &bytes);
    let (_, _, early) =
        one_object(SenderProfile { fti_everywhere: false, ..SenderProfile::default() }, "b", &bytes);
    let mut bench = Bench::new();
    let mut close = Vec::new();
    Sender::new(Tsi(7), SenderProfile::default(), 1, 1).write_close(&mut close);
    for packets in [&early[..3], &fdt, &data, &data, &fdt, &[close]] {
        bench.feed_all(packets);
    }
    let stats = bench.receiver.stats();
    let dropped: u64 = stats.dropped.iter().sum();
    assert_eq!(stats.packets, stats.stored + stats.fdt + stats.control + stats.early + dropped);
    assert!(
        stats.stored > 0 && stats.fdt > 0 && stats.control > 0 && stats.early > 0 && dropped > 0,
        "{stats:?}"
    );
    assert_eq!(stats.lost, 0, "{stats:?}");
}

#[test]
fn only_what_the_link_lost_is_counted_as_lost() {
    let (long, short) = (body(1, 400_000), body(2, 5_000));
    let mut sender = Sender::new(Tsi(7), SenderProfile::default(), 1, 1);
    let long_toi = sender.add(send_file("long", &long)).unwrap();
    let short_tois: Vec<Toi> =
        (0..20).map(|at| sender.add(send_file(&format!("s{at}"), &short)).unwrap()).collect();
    let fdt = fdt_packets(&mut sender);
    let mut packets = Vec::new();
    for (at, packet) in object_packets(&sender, long_toi, &long).into_iter().enumerate() {
        if at % 15 == 7 {
            packets.extend(object_packets(&sender, short_tois[at / 15], &short));
        }
        packets.push(packet);
    }
    for seed in [None, Some(1), Some(2)] {
        let mut bench = Bench::new();
        let mut link = Link::new(seed.unwrap_or(0), Profile::burst(if seed.is_some() { 0.02 } else { 0.0 }));
        bench.feed_all(&fdt);
        for _ in 0..4 {
            for packet in &packets {
                link.send(0, packet);
                while let Some(packet) = link.poll(0) {
                    bench.feed(&packet);
                }
            }
        }
        bench.pass(10, |_| None);
        let (counted, lost) = (bench.receiver.stats().lost, link.stats().lost);
        assert!(counted <= lost && counted * 2 >= lost, "{seed:?}: {counted} of {lost}");
    }
}
