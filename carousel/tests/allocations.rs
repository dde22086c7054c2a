//! Packets of objects in flight and of objects that are held are taken without an allocation.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod counting;

use std::sync::Arc;

use carousel::alc::Template;
use carousel::flute::{
    DropReason, Event, File, OpenRequest, Receiver, ReceiverConfig, Refusal, SendFile, Sender, SenderProfile,
    Storage, Verdict,
};
use carousel::lct::{Toi, Tsi};
use carousel::route::{self, Channel, Payload, SourceFlow};
use carousel::time::{Instant, WallTime};

/// Memory that was there before.
struct Warm(Vec<Vec<u8>>);

impl Storage for Warm {
    type Buf = Vec<u8>;
    fn open(&mut self, _: &OpenRequest<'_>) -> Result<Vec<u8>, Refusal> {
        self.0.pop().ok_or(Refusal::NoRoom)
    }
    fn write(&mut self, buf: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
        buf[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    fn name(&mut self, _: &mut Vec<u8>, _: &Arc<File>) -> Result<(), Refusal> {
        Ok(())
    }
}

#[test]
fn packets_are_placed_and_repeats_dropped_without_an_allocation() {
    const SYMBOL_BYTES: usize = 1000;
    let body = vec![7; 500 * SYMBOL_BYTES];
    let profile = SenderProfile { symbol_length: SYMBOL_BYTES as u16, ..SenderProfile::default() };
    let mut sender = Sender::new(Tsi(1), profile, 1, 1);
    let toi = sender.add(SendFile::of("http://a/b".to_owned(), &body)).unwrap();
    sender.refresh_fdt(WallTime::from_unix_ms(1_900_000_000_000)).unwrap();
    let mut packets = Vec::new();
    let mut out = Vec::new();
    assert!(sender.write_fdt(sender.page_of(toi).unwrap(), 0, &mut out));
    packets.push(out.clone());
    for (symbol, bytes) in body.chunks(SYMBOL_BYTES).enumerate() {
        assert!(sender.write_packet(toi, symbol as u64, bytes, false, &mut out));
        packets.push(out.clone());
    }
    let (mut receiver, mut template) = (Receiver::new(ReceiverConfig::default()), Template::default());
    let mut warm = Warm(vec![vec![0; body.len()]]);
    let mut take = |packet: &[u8]| {
        let parsed = template.parse(packet).unwrap();
        let verdict = receiver.handle_packet(Instant::from_nanos(1), None, &parsed, packet, &mut warm);
        (verdict, receiver.poll_event())
    };
    let count = counting::allocations;
    // The description and the first symbol make tables.
    assert_eq!(take(&packets[0]).0, Verdict::Fdt);
    assert_eq!(take(&packets[1]).0, Verdict::Stored);
    let before = count();
    for packet in &packets[2..packets.len() - 1] {
        assert_eq!(take(packet).0, Verdict::Stored);
    }
    assert_eq!(count() - before, 0, "allocations of {} packets", packets.len() - 3);
    let (_, mut event) = take(packets.last().unwrap());
    while !matches!(event, Some(Event::Complete { .. })) {
        assert!(event.is_some(), "not complete");
        event = take(&packets[1]).1;
    }
    let before = count();
    for packet in &packets[1..] {
        assert_eq!(take(packet).0, Verdict::Dropped(DropReason::Repeat));
    }
    assert_eq!(count() - before, 0, "allocations of repeats");
}

/// Objects of ROUTE are assembled in memory that doubles as it grows.
#[test]
fn packets_of_route_are_placed_without_an_allocation_but_for_growth() {
    const PAYLOAD_BYTES: usize = 1000;
    const COUNT: usize = 1000;
    let group = "239.0.0.1:6000".parse().unwrap();
    let init = File { content_location: "init.mp4".to_owned(), toi: Toi(0xffff_ffff), ..File::default() };
    let source = SourceFlow {
        is_real_time: true,
        template: Some("seg-$TOI%05d$.m4s".to_owned()),
        files: vec![init],
        payloads: vec![Payload { codepoint: 8, format: 1, fragmentation: 1, source_payload_id: Some(1) }],
        ..SourceFlow::default()
    };
    let mut receiver = route::Receiver::new(route::ReceiverConfig::default(), group);
    receiver.describe(vec![Channel { tsi: 10, source: Some(source), ..Channel::default() }]);
    let (sender, body) = (route::Sender::new(PAYLOAD_BYTES), vec![7; COUNT * PAYLOAD_BYTES]);
    let mut packets = Vec::new();
    for (at, payload) in body.chunks(PAYLOAD_BYTES).enumerate() {
        let length = (at + 1 == COUNT).then_some(body.len() as u64);
        let mut out = Vec::new();
        let offset = (at * PAYLOAD_BYTES) as u64;
        sender.write_source((10, Toi(1)), 8, offset, length, payload, &mut out).unwrap();
        packets.push(out);
    }
    let mut template = Template::default();
    let mut is_complete = false;
    let mut take = |packet: &[u8]| {
        let parsed = template.parse(packet).unwrap();
        receiver.handle_packet(Instant::from_nanos(1), &parsed, packet.len());
        while let Some(event) = receiver.poll_event() {
            is_complete |= matches!(event, route::Event::Complete { .. });
        }
    };
    let count = counting::allocations;
    packets[..10].iter().for_each(|it| take(it));
    let before = count();
    packets[10..COUNT - 1].iter().for_each(|it| take(it));
    // From 10 KB to 1 MB it doubles seven times.
    let allocations = count() - before;
    assert!(allocations <= 8, "{allocations} allocations of {} packets", COUNT - 11);
    take(&packets[COUNT - 1]);
    assert!(is_complete);
}
