//! Packets inside an object go from the datagram into the store without an allocation: through the state machine of delivery, and
//! into the memory of arriving bodies or a file.
//!
//! A binary of its own, because its allocator counts.

#[path = "../../carousel/tests/counting/mod.rs"]
mod counting;

use std::sync::Arc;

use carousel::flute::{SendFile, Sender, SenderProfile};
use carousel::lct::Tsi;
use carousel::time::{Instant, WallTime};
use skycache::delivery::{Options, SessionFilter};
use skycache::receive::{FinishSink, Intake, ReceiveContext};
use skycache::signalling::Document;
use skycache::store::{Store, StoreConfig};

const SYMBOL_BYTES: usize = 1000;
/// Packets of one read of a socket.
const BATCH: usize = 32;
const START: WallTime = WallTime::from_unix_ms(1_795_219_200_000);

struct Nothing;

impl FinishSink for Nothing {
    fn document(&mut self, _: Document) {}
}

/// Allocations for the packets of an object after its first two batches, before its last packet.
fn allocations(direct_io: bool, symbols: usize) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    let config = StoreConfig { path, reserve_bytes: 0, direct_io, ..StoreConfig::default() };
    let (store, _) = Store::open(&config).unwrap();
    let context = ReceiveContext::new(store.clone());
    let mut intake = Intake::new(context, Options::without_repairs(), Arc::default(), None).without_date();
    let body: Vec<u8> = (0..symbols * SYMBOL_BYTES).map(|at| (at % 251) as u8).collect();
    let profile = SenderProfile { symbol_length: SYMBOL_BYTES as u16, ..SenderProfile::default() };
    let mut sender = Sender::new(Tsi(1), profile, 1, 1);
    let toi = sender.add(SendFile::of("http://h/film.mp4".to_owned(), &body)).unwrap();
    sender.refresh_fdt(START).unwrap();
    let mut packet = Vec::new();
    let (source, destination) = ("10.0.0.1:5000".parse().unwrap(), "239.0.0.1:6000".parse().unwrap());
    let filter = SessionFilter::all();
    let now = Instant::from_nanos(1_000_000_000);
    assert!(sender.write_fdt(sender.page_of(toi).unwrap(), 0, &mut packet));
    intake.datagram(now, source, destination, &filter, &packet);
    let packets: Vec<Vec<u8>> = (0..)
        .zip(body.chunks(SYMBOL_BYTES))
        .map(|(symbol, bytes)| {
            assert!(sender.write_packet(toi, symbol, bytes, false, &mut packet));
            packet.clone()
        })
        .collect();
    let mut give = |packets: &[Vec<u8>]| {
        for batch in packets.chunks(BATCH) {
            for packet in batch {
                intake.datagram(now, source, destination, &filter, packet);
            }
            intake.end_batch();
        }
    };
    // Tables and buffers reach their size.
    let (first, rest) = packets.split_at(2 * BATCH);
    let (rest, last) = rest.split_at(rest.len() - 1);
    give(first);
    let before = counting::allocations();
    give(rest);
    let count = counting::allocations() - before;
    give(last);
    assert_eq!(intake.finish_here(now, &mut Nothing), 0);
    let object = store.get("h/film.mp4").expect("it is held");
    assert_eq!(object.bytes(0..body.len() as u64).as_deref(), Some(body.as_slice()));
    count
}

#[test]
fn packets_inside_an_object_reach_the_store_without_an_allocation() {
    for (place, direct_io, symbols) in
        [("memory of arriving bodies", true, 1000), ("a file", false, 1000), ("a long file", true, 12_000)]
    {
        assert_eq!(allocations(direct_io, symbols), 0, "{place}, {symbols} packets");
    }
}
