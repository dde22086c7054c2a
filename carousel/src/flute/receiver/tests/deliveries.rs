//! Entire deliveries: loss, order, hostile input.

use super::symbols::coded;
use super::*;

/// A carousel of `count` objects over a lossy link until all are complete: passes needed.
fn lossy_delivery(seed: u64, loss: f64, count: usize) -> u32 {
    let bodies: Vec<Vec<u8>> = (0..count).map(|at| body(at as u8, 500 + at * 3777 % 60_000)).collect();
    let mut sender =
        Sender::new(Tsi(7), SenderProfile { fdt_page_bytes: 4000, ..SenderProfile::default() }, 1, 1);
    let tois: Vec<Toi> = bodies
        .iter()
        .enumerate()
        .map(|(at, bytes)| sender.add(SendFile::of(format!("o{at}"), bytes)).unwrap())
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
                if let Event::BlockReady { toi, block } = event {
                    let job = bench.receiver.recovery_job(toi, block);
                    let lost = job.and_then(|job| job.run(|_, out| { out.fill(0x5a); true }));
                    bench.receiver.recovered(toi, block, lost.as_deref(), &mut bench.storage);
                }
            }
        }
        prop_assert!(bench.storage.opened.len() <= 20);
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

#[test]
fn what_another_session_has_replaced_is_received_again_in_its_newest_version() {
    let (old, new) = (body(1, 3000), body(2, 3000));
    let mut sender = Sender::new(Tsi(7), SenderProfile::default(), 5, 99);
    let mut bench = Bench::new();
    let mut passes = Vec::new();
    for bytes in [&old, &new] {
        let toi = sender.add(SendFile::of("a", bytes)).unwrap();
        bench.feed_all(&fdt_packets(&mut sender));
        let data = object_packets(&sender, toi, bytes);
        bench.feed_all(&data);
        passes.push(data);
    }
    assert_eq!(bench.whole().len(), 2);
    assert_eq!(bench.receiver.forget_replaced(|_| false), 0);
    assert_eq!(bench.receiver.forget_replaced(|_| true), 1);
    passes.iter().for_each(|data| bench.feed_all(data));
    assert_eq!(bench.whole(), [("a".to_owned(), new)], "the older one does not come back");
}
