//! Reed–Solomon repair symbols of another implementation, the `flute` crate: it decodes ours, and we decode its own.
//!
//! RFC 5510 can be read in two ways (`carousel/src/fec/reed_solomon.rs`), and a test of our sender against our receiver passes with
//! either.

#![expect(clippy::disallowed_types, reason = "the crate takes SystemTime as its argument of time")]

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use carousel::alc::Packet;
use carousel::fec::{EncodingId, Protection};
use carousel::flute::{
    Event, MemoryStorage, Receiver, ReceiverConfig, SendFile, Sender, SenderProfile, verify,
};
use carousel::lct::{Toi, Tsi};
use carousel::time::{Instant, WallTime};
use flute::core::{Oti, UDPEndpoint};
use flute::receiver::writer::ObjectWriterBufferBuilder;
use flute::sender::{ObjectDesc, TransferConfig};

const NOW_MS: u64 = 1_795_219_200_000;
const SYMBOL_BYTES: usize = 100;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(NOW_MS)
}

fn endpoint() -> UDPEndpoint {
    UDPEndpoint::new(None, "239.1.1.1".to_owned(), 5000)
}

/// Packets of a session of the crate: the FDT without repair symbols, the object with what `oti` says.
fn theirs(oti: Oti, body: &[u8]) -> Vec<Vec<u8>> {
    let config = flute::sender::Config { interleave_blocks: 1, ..flute::sender::Config::default() };
    let mut sender = flute::sender::Sender::new(endpoint(), 1, &Oti::new_no_code(1400, 64), &config);
    let location = url::Url::parse("http://h/o").unwrap();
    let transfer = TransferConfig::builder().oti(oti).build();
    let object =
        ObjectDesc::create_from_buffer(body.to_vec(), "video/mp4", &location, true, transfer).unwrap();
    sender.add_object(0, object).unwrap();
    sender.publish(now()).unwrap();
    std::iter::from_fn(|| sender.read(now())).collect()
}

/// Object that we make of packets, and the number of symbols decoded.
fn receive(packets: &[Vec<u8>]) -> (Option<Vec<u8>>, u64) {
    let mut receiver = Receiver::new(ReceiverConfig::default());
    let mut whole = None;
    for bytes in packets {
        let packet = Packet::parse(bytes).unwrap();
        receiver.handle_packet(Instant::from_nanos(1), None, &packet, bytes, &mut MemoryStorage);
        while let Some(event) = receiver.poll_event() {
            match event {
                Event::BlockReady { toi, block } => {
                    let job = receiver.recovery_job(toi, block).unwrap();
                    let buf = receiver.object(toi).unwrap().buf();
                    let lost = job.run(|place, out| buf.read(place, out));
                    receiver.recovered(toi, block, lost.as_deref(), &mut MemoryStorage);
                }
                Event::Complete { file, buf, .. } => {
                    verify(&file, &buf.bytes).expect("decoded to the sender's bytes");
                    whole = Some(buf.bytes);
                }
                _ => {}
            }
        }
    }
    (whole, receiver.stats().recovered)
}

fn body() -> Vec<u8> {
    (0..5033_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Whether the packet belongs to the object and has one of the first four symbols of its block.
fn is_lost(bytes: &[u8]) -> bool {
    let packet = Packet::parse(bytes).unwrap();
    let esi = match packet.lct.codepoint {
        5 => packet.body[3],
        129 => packet.body[7],
        _ => return false,
    };
    packet.lct.toi != Some(Toi::FDT) && esi < 4
}

#[test]
fn their_repair_symbols_restore_an_object_here() {
    let length = SYMBOL_BYTES as u16;
    let schemes = [
        Oti::new_reed_solomon_rs28(length, 10, 4).unwrap(),
        Oti::new_reed_solomon_rs28_under_specified(length, 10, 4).unwrap(),
    ];
    for oti in schemes {
        let name = format!("{:?}", oti.fec_encoding_id);
        let packets = theirs(oti, &body());
        let arrived: Vec<_> = packets.iter().filter(|bytes| !is_lost(bytes)).cloned().collect();
        let lost = packets.len() - arrived.len();
        assert!(lost >= 20, "{lost} of {} lost", packets.len());
        let (whole, recovered) = receive(&arrived);
        assert!(whole.is_some_and(|it| it == body()), "{name}: {recovered} symbols decoded of {lost}");
        assert_eq!(recovered, lost as u64, "{name}");
    }
}

#[test]
fn our_repair_symbols_restore_an_object_there() {
    let body = body();
    let profile = SenderProfile { symbol_length: SYMBOL_BYTES as u16, ..SenderProfile::default() };
    let mut sender = Sender::new(Tsi(1), profile, 1, 1);
    let protection = Protection {
        id: EncodingId::RS_GF28,
        symbol_length: 0,
        overhead: 0.4,
        least_repair: 4,
        burst_packets: 0,
        block_bytes: 10 * SYMBOL_BYTES as u32,
    };
    let toi = sender.add_protected(SendFile::of("http://h/o", &body), &protection).unwrap();
    sender.refresh_fdt(WallTime::from_unix_ms(NOW_MS as i64)).unwrap();
    let (mut packets, mut out) = (Vec::new(), Vec::new());
    for packet in 0..sender.fdt_packets(0) {
        sender.write_fdt(0, packet, &mut out);
        packets.push(out.clone());
    }
    let (oti, partition) = (*sender.oti(toi).unwrap(), *sender.partition(toi).unwrap());
    for step in protection.sequence(&oti, partition) {
        let id = step.payload_id;
        let (first, k) = (partition.first_symbol(id.sbn), partition.block_symbols(id.sbn));
        let range = |symbol| {
            let range = partition.byte_range(symbol);
            range.start as usize..range.end as usize
        };
        match step.source {
            Some(symbol) => {
                assert!(sender.write_packet(toi, symbol, &body[range(symbol)], false, &mut out));
            }
            None => {
                let block = &body[range(first).start..range(first + u64::from(k) - 1).end];
                let repair = sender.block_code(toi, id.sbn).unwrap().encoder(block).repair(id.esi).unwrap();
                assert!(sender.write_repair(toi, id, &repair, false, &mut out));
            }
        }
        packets.push(out.clone());
    }
    let writer = Rc::new(ObjectWriterBufferBuilder::new(true));
    let mut receiver = flute::receiver::MultiReceiver::new(writer.clone(), None, false);
    let mut lost = 0;
    for bytes in &packets {
        if is_lost(bytes) {
            lost += 1;
        } else {
            receiver.push(&endpoint(), bytes, now()).unwrap();
        }
    }
    assert!(lost >= 20, "{lost} of {} lost", packets.len());
    let objects = writer.objects.borrow();
    let whole: Vec<_> = objects
        .iter()
        .map(|it| it.borrow())
        .filter(|it| it.complete && !it.error)
        .map(|it| it.data.clone())
        .collect();
    assert_eq!(whole, [body]);
}
