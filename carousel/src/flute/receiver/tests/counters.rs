//! Counters.

use super::*;

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
    let long_toi = sender.add(SendFile::of("long", &long)).unwrap();
    let short_tois: Vec<Toi> =
        (0..20).map(|at| sender.add(SendFile::of(format!("s{at}"), &short)).unwrap()).collect();
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

#[test]
fn bytes_and_unusable_files_are_counted() {
    let mut bench = Bench::new();
    let xml = "<FDT-Instance Expires=\"4294944000\"><File TOI=\"1\"/><File TOI=\"2\" Content-Location=\"x\"/><File/></FDT-Instance>";
    let packets = [fdt_by_hand(1, xml), by_hand(9, None, 0, 0, b"abcd", |_| {})];
    bench.feed_all(&packets);
    let stats = bench.receiver.stats();
    assert_eq!(stats.bytes, packets.iter().map(|packet| packet.len() as u64).sum::<u64>());
    assert_eq!((stats.packets, stats.unusable_files), (2, 2));
}

#[test]
fn losses_at_the_end_of_a_session_are_counted_when_it_is_closed() {
    let bytes = body(3, 30_000);
    let (_, fdt, data) = one_object(SenderProfile::default(), "a", &bytes);
    let mut bench = Bench::new();
    bench.feed_all(&fdt);
    for (at, packet) in data.iter().enumerate().filter(|(at, _)| *at != 5) {
        assert!(at != 5);
        bench.feed(packet);
    }
    assert_eq!(bench.receiver.stats().lost, 0, "it may be late");
    let (in_flight, unseen, stats) = bench.receiver.close();
    assert_eq!((in_flight.len(), unseen.len(), stats.lost), (1, 0, 1));
}

#[test]
fn symbols_that_repair_or_decoding_brought_are_counted_once() {
    let bytes = body(4, 4000);
    let profile = SenderProfile { symbol_length: 1000, ..SenderProfile::default() };
    let (_, fdt, data) = one_object(profile, "a", &bytes);
    let mut bench = Bench::new();
    bench.feed_all(&fdt);
    bench.feed(&data[0]);
    assert_eq!(bench.receiver.repair(Toi(5), 0, &bytes[..2000], &mut bench.storage), Some(1), "one is there");
    let block = block_of(&bench.receiver, Toi(5), 0);
    // What is not a whole symbol at its place is not taken for one.
    let wrong = [(2000, vec![0xbb; 999]), (2500, vec![0xbb; 1000]), (9000, vec![0xbb; 1000])];
    bench.receiver.recovered(Toi(5), block, Some(&wrong), &mut bench.storage);
    let right = [(0, vec![0xbb; 1000]), (2000, bytes[2000..3000].to_vec())];
    bench.receiver.recovered(Toi(5), block, Some(&right), &mut bench.storage);
    assert_eq!(bench.receiver.stats().recovered, 1, "what is there stays");
    bench.receiver.recovered(Toi(5), block, None, &mut bench.storage);
    assert_eq!(bench.receiver.stats().recovery_failed, 1);
    bench.feed(&data[3]);
    let Some(Event::Complete { buf, repaired_symbols, .. }) = bench.events().pop() else {
        panic!("complete")
    };
    assert_eq!((buf, repaired_symbols), (bytes, 1));
}
