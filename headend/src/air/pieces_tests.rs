use crate::object::Repeat;
use carousel::alc::Packet;
use carousel::fec::EncodingId;
use carousel::flute::{
    Event, Joined, Joiner, MemoryStorage, Receiver, ReceiverConfig, SenderProfile, verify,
};
use carousel::lct::Tsi;
use carousel::route;
use carousel::time::{Instant, WallTime};

use super::super::{AirConfig, LiveTiming};
use super::*;
use crate::object::SharedRepair;

const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);
const SEGMENT: &str = "https://h/v/2.m4s";
const PROTECTION: Protection = Protection {
    id: EncodingId::RAPTORQ,
    symbol_length: 0,
    overhead: 0.3,
    least_repair: 2,
    burst_packets: 0,
    block_bytes: 1 << 20,
};

/// As of a source with a reserve.
const LIVE: Protection = Protection { burst_packets: 16, ..PROTECTION };

fn air() -> Air {
    Air::new(AirConfig {
        rate_bps: 8_000_000,
        fdt_interval_ms: 100,
        reserved_bps: 8_000_000,
        first_toi: 1,
        ..AirConfig::default()
    })
}

fn object() -> AirObject {
    AirObject {
        protection: PROTECTION,
        ..AirObject::of_bytes(SEGMENT, &[], Repeat::Live(LiveTiming::of(0, None)))
    }
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

/// Adds `bytes` in pieces that end at `ends`.
fn add(air: &mut Air, growing: &mut GrowingObject, bytes: &[u8], ends: &[usize], is_whole: bool) {
    let mut start = growing.pieces.len().checked_sub(1).map_or(0, |_| ends[0]);
    for &end in &ends[usize::from(start > 0)..] {
        let piece: Arc<[u8]> = bytes[start..end].into();
        let repair = match growing.whole {
            None => {
                let oti = PROTECTION.oti(piece.len() as u64, 1400, 65_535);
                RepairSymbols::make(&Body::Memory(Arc::clone(&piece)), &oti, &PROTECTION).unwrap()
            }
            Some(_) => None,
        };
        let is_last = is_whole && end == bytes.len();
        air.add_piece(growing, Piece { offset: start as u64, bytes: piece, is_last, repair }).unwrap();
        start = end;
    }
}

/// All packets that are sent in `ms` from `from_ms` on.
fn packets(air: &mut Air, from_ms: u64, ms: u64) -> Vec<Vec<u8>> {
    let (mut now_ns, mut out, mut all) = (from_ms * 1_000_000, Vec::new(), Vec::new());
    while now_ns < (from_ms + ms) * 1_000_000 {
        if air.next_packet(now_ns, WALL, &mut out).is_some() {
            all.push(out.clone());
        }
        now_ns += 1_000_000;
    }
    all
}

/// Objects that a receiver of FLUTE joins, as (name, bytes), and the bytes of a segment it has shown before that.
fn join(packets: &[Vec<u8>]) -> (Vec<(String, Vec<u8>)>, u64) {
    let (mut receiver, mut joiner) = (Receiver::new(ReceiverConfig::default()), Joiner::default());
    let (mut whole, mut shown) = (Vec::new(), 0);
    for bytes in packets {
        let packet = Packet::parse(bytes).unwrap();
        receiver.handle_packet(Instant::from_nanos(1), Some(WALL), &packet, bytes, &mut MemoryStorage);
        while let Some(event) = receiver.poll_event() {
            if let Event::Complete { file, buf, .. } = event {
                verify(&file, &buf.bytes).unwrap();
                joiner.chunk(Instant::from_nanos(1), &file, &buf.bytes);
            }
        }
        joiner.grown(|_, offset, bytes| shown = shown.max(offset + bytes.len() as u64));
        while let Some(event) = joiner.poll_event() {
            if let Joined::Complete { file, bytes, .. } = event {
                whole.push((file.content_location.clone(), bytes));
            }
        }
    }
    (whole, shown)
}

#[test]
fn pieces_of_flute_are_chunks_that_are_joined_and_forgotten() {
    let mut air = air();
    let session = air.open_session("239.1.1.1:5000".parse().unwrap(), Tsi(10), SenderProfile::default());
    let bytes = body(60_000);
    let mut growing = air.begin_growing(session, object()).unwrap();
    add(&mut air, &mut growing, &bytes, &[20_024, 40_000], false);
    let mut sent = packets(&mut air, 0, 100);
    assert_eq!(join(&sent), (vec![], 40_000), "what is there is shown before the rest is made");
    assert!(!air.is_growing_pending(&growing));
    let mut rest = Vec::new();
    air.add_piece(
        &mut growing,
        Piece { offset: 40_000, bytes: bytes[40_000..].into(), is_last: true, repair: None },
    )
    .unwrap();
    assert!(air.is_growing_pending(&growing));
    rest.extend(packets(&mut air, 100, 100));
    sent.extend(rest);
    assert!(join(&sent).0 == [(SEGMENT.to_owned(), bytes)]);
    assert_eq!(air.objects().count(), 3);
    air.forget(&growing);
    assert_eq!(air.objects().count(), 0);
}

/// Parts of a piece of few packets follow 60 ms apart: that is their price where nothing is lost, and twice as much where one part is.
#[test]
fn a_short_piece_costs_sixty_milliseconds_and_outlasts_a_burst() {
    for (lost, expected_ms) in [(0..0, 60), (0..7, 120), (7..13, 120)] {
        let mut air = air();
        let session = air.open_session("239.1.1.1:5000".parse().unwrap(), Tsi(10), SenderProfile::default());
        let bytes = body(13 * 1400);
        let mut growing = air.begin_growing(session, object()).unwrap();
        let oti = LIVE.oti(bytes.len() as u64, 1400, 65_535);
        let repair = RepairSymbols::make(&Body::Memory(bytes.as_slice().into()), &oti, &LIVE).unwrap();
        let piece = Piece { offset: 0, bytes: bytes.as_slice().into(), is_last: false, repair };
        air.add_piece(&mut growing, piece).unwrap();
        let (mut receiver, mut now_ns, mut at) = (Receiver::new(ReceiverConfig::default()), 0, 0);
        let (mut out, mut whole_ms) = (Vec::new(), None);
        while whole_ms.is_none() && now_ns < 400_000_000 {
            if air.next_packet(now_ns, WALL, &mut out).is_some() {
                let packet = Packet::parse(&out).unwrap();
                let is_lost = packet.fdt.is_none() && lost.contains(&at);
                at += usize::from(packet.fdt.is_none());
                if !is_lost {
                    receiver.handle_packet(
                        Instant::from_nanos(1),
                        Some(WALL),
                        &packet,
                        &out,
                        &mut MemoryStorage,
                    );
                }
                while let Some(event) = receiver.poll_event() {
                    let is_whole = matches!(event, Event::Complete { .. } | Event::BlockReady { .. });
                    whole_ms = whole_ms.or_else(|| is_whole.then_some(now_ns / 1_000_000));
                }
            }
            now_ns += 1_000_000;
        }
        let whole_ms = whole_ms.expect("it has enough");
        assert!((expected_ms..expected_ms + 40).contains(&whole_ms), "{lost:?}: {whole_ms} ms");
    }
}

/// Bytes that a receiver of ROUTE has of the segment after these packets, and whether that is all.
fn receive(packets: &[Vec<u8>]) -> (Vec<u8>, bool) {
    let group = "239.1.1.1:5000".parse().unwrap();
    let mut receiver = route::Receiver::new(route::ReceiverConfig::default(), group);
    let (mut shown, mut is_whole) = (Vec::new(), false);
    for bytes in packets {
        let packet = Packet::parse(bytes).unwrap();
        receiver.handle_packet(Instant::from_nanos(1), &packet, bytes.len());
        receiver.grown(|_, file, offset, bytes| {
            assert_eq!(file.content_location, SEGMENT);
            assert_eq!(offset, shown.len() as u64);
            shown.extend_from_slice(bytes);
        });
        while let Some(event) = receiver.poll_event() {
            match event {
                route::Event::BlockReady { tsi, toi, block } => {
                    let lost = receiver.repair_job(tsi, toi, block).and_then(route::RepairJob::run);
                    receiver.repaired(tsi, toi, block, lost.as_deref());
                }
                route::Event::Complete { file, bytes, .. } if file.content_location == SEGMENT => {
                    (shown, is_whole) = (bytes, true);
                }
                _ => {}
            }
        }
    }
    (shown, is_whole)
}

#[test]
fn pieces_of_route_are_one_object_whose_losses_are_repaired_at_its_end() {
    let mut air = air();
    let address = "239.1.1.1:5000".parse().unwrap();
    let session = air.open_route_session(address, Tsi(10), SenderProfile::default());
    let bytes = body(60_000);
    let mut growing = air.begin_growing(session, object()).unwrap();
    add(&mut air, &mut growing, &bytes, &[20_024, 40_000], false);
    let first = packets(&mut air, 0, 100);
    assert!(receive(&first) == (bytes[..40_000].to_vec(), false));
    let source = |packet: &&Vec<u8>| {
        let packet = Packet::parse(packet).unwrap();
        packet.lct.tsi == Some(Tsi(10))
    };
    let offsets: Vec<u32> = first
        .iter()
        .filter(source)
        .map(|it| {
            let packet = Packet::parse(it).unwrap();
            u32::from_be_bytes(*packet.body.first_chunk::<4>().unwrap())
        })
        .collect();
    assert!(offsets.contains(&20_024), "a packet never spans two pieces: {offsets:?}");
    add(&mut air, &mut growing, &bytes, &[40_000, 60_000], true);
    let profile = SenderProfile::default();
    let repair: SharedRepair =
        RepairSymbols::make_route(&Body::Memory(bytes.clone().into()), &profile, &PROTECTION)
            .unwrap()
            .map(Arc::new);
    air.add_repair(&mut growing, 60_000, Arc::into_inner(repair.unwrap()).unwrap()).unwrap();
    let all: Vec<Vec<u8>> = first.into_iter().chain(packets(&mut air, 100, 150)).collect();
    assert!(receive(&all) == (bytes.clone(), true));
    // Every ninth packet of the segment is lost, the last one too.
    let mut number = 0;
    let lossy: Vec<Vec<u8>> = all
        .iter()
        .filter(|it| {
            let is_source = source(it);
            number += usize::from(is_source);
            !(is_source && (number.is_multiple_of(9) || is_last(it)))
        })
        .cloned()
        .collect();
    assert!(receive(&lossy) == (bytes, true));
    air.forget(&growing);
    assert_eq!(air.objects().count(), 0);
}

fn is_last(packet: &[u8]) -> bool {
    Packet::parse(packet).unwrap().lct.close_object
}
