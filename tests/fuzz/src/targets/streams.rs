//! Transport streams, sections, carousels, baseband frames.

use std::sync::Arc;

use carousel::dsmcc::message::Message;
use carousel::dsmcc::signed::{ListAssembler, SignedList, TABLE_SIGNED};
use carousel::dsmcc::{Description, Event, ModuleStorage, Receiver, SignatureRequirement, SoleFile, biop};
use carousel::gse::{Deframer, crc8, parse_frame};
use carousel::ip::FragmentAssembler;
use carousel::mpe;
use carousel::multiplex::wrapping::{Recognizer, Unit, Unwrap};
use carousel::multiplex::{Delivery, Multiplex};
use carousel::ts::Section;
use carousel::ts::psi::{Int, Nit, Pat, Pmt, SatelliteDelivery, Sdt, read_time};
use carousel::ts::rtp::RtpPacket;
use carousel::ts::section::crc32;
use carousel::ts::stream::{Packets, is_transport_stream};

use crate::input::Input;

/// Datagrams of a stream.
pub(super) fn transport_stream(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let only_frames = input.byte() & 1 == 1;
    let mut unwrap = if only_frames { Unwrap::of_frames() } else { Unwrap::default() };
    let (mut multiplex, mut deframer, mut fragments) =
        (Multiplex::default(), Deframer::default(), FragmentAssembler::default());
    let mut carousel = Receiver::<Room>::default();
    let mut recognizer = Recognizer::default();
    let group = "239.0.0.1:6000".parse().unwrap_or_else(|_| unreachable!("an address"));
    while let Some((operation, datagram)) = input.record() {
        if operation == 1 {
            unwrap.idle(&mut |_| {});
            multiplex.reset();
            continue;
        }
        let _ = recognizer.wrapping(group, datagram);
        let _ = RtpPacket::parse(datagram);
        unwrap.datagram(datagram, &mut |unit| match unit {
            Unit::Packet(packet) => multiplex.push(packet, |delivery| match delivery {
                Delivery::Carousel(_, section) => carousel.section(section, &mut Room),
                Delivery::Ip(_, packet) => {
                    let _ = fragments.datagram(packet);
                }
                Delivery::Gone(_) => {}
            }),
            Unit::Frame(frame) => deframer.push(frame, |packet| {
                let _ = fragments.datagram(packet);
            }),
        });
    }
    let _ = is_transport_stream(bytes);
    if let Some(packets) = Packets::new(bytes) {
        for packet in packets {
            multiplex.push(packet, |_| {});
        }
    }
    let _ = (multiplex.tables().streams().count(), multiplex.dropped().count());
}

/// The section with its length and CRC_32 put right, and its syntax bit as it is.
pub(super) fn with_checksum(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut section = bytes.get(..bytes.len().min(4092))?.to_vec();
    let length = u16::try_from(section.len() + 4 - 3).ok()?;
    let [high, low] = length.to_be_bytes();
    *section.get_mut(1)? = section.get(1)? & 0xf0 | high & 0x0f;
    *section.get_mut(2)? = low;
    let crc = crc32(&section);
    section.extend_from_slice(&crc.to_be_bytes());
    Some(section)
}

/// One section, as it is and with the right CRC_32.
pub(super) fn sections(bytes: &[u8]) {
    for bytes in [Some(bytes.to_vec()), with_checksum(bytes)].into_iter().flatten() {
        let _ = read_time(&bytes);
        let Ok(section) = Section::parse(&bytes) else { continue };
        // What is written again is read as the same.
        let mut again = Vec::new();
        if let Ok(pat) = Pat::read(&section)
            && pat.write(&mut again, section.version).is_ok()
            && let Ok(section) = Section::parse(&again)
        {
            assert_eq!(Pat::read(&section).as_ref(), Ok(&pat));
        }
        again.clear();
        if let Ok(pmt) = Pmt::read(&section) {
            for stream in &pmt.streams {
                let _ = (stream.component_tag(), stream.data_broadcast_id(), stream.carousel_id());
            }
            let _ = pmt.write(&mut again, section.version);
        }
        again.clear();
        let _ = Sdt::read(&section).map(|it| it.write(&mut again, section.version));
        again.clear();
        let _ = Nit::read(&section).map(|it| it.write(&mut again, section.version));
        again.clear();
        let _ = Int::read(&section).map(|it| it.write(&mut again, section.version));
        let _ = mpe::Reassembly::default().push(&section);
        let _ = Message::read(&section);
    }
    let _ = SatelliteDelivery::read(bytes);
}

/// Frames with the right CRC-8.
pub(super) fn frames(bytes: &[u8]) {
    let mut deframer = Deframer::default();
    let mut input = Input::new(bytes);
    while let Some((_, frame)) = input.record() {
        let mut frame = frame.to_vec();
        if frame.len() >= 10 {
            frame[9] = crc8(&frame[..9]);
            if let Ok(parsed) = parse_frame(&frame) {
                assert!(parsed.data.len() <= frame.len());
            }
        }
        deframer.push(&frame, |packet| assert!(packet.len() <= 65_535 + 40));
    }
}

/// Room for modules: what the target lends in all.
const MOST_BYTES: usize = 8 << 20;

/// Storage that lends [`MOST_BYTES`] for one module.
#[derive(Debug)]
struct Room;

impl ModuleStorage for Room {
    type Buf = Vec<u8>;
    type Module = Vec<u8>;
    fn open(&mut self, bytes: u32, _: Option<SoleFile<'_>>) -> Option<Vec<u8>> {
        (bytes as usize <= MOST_BYTES).then(|| vec![0; bytes as usize])
    }
    fn write(&mut self, buf: &mut Vec<u8>, offset: u32, bytes: &[u8]) {
        buf[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    fn close(&mut self, buf: Vec<u8>) -> Option<Vec<u8>> {
        Some(buf)
    }
    fn wants(&mut self, path: &str, _: &Description) -> bool {
        assert_path(path);
        true
    }
}

fn assert_path(path: &str) {
    assert!(!path.is_empty());
    assert!(path.split('/').all(|it| !it.is_empty() && it != "." && it != ".."), "{path:?}");
}

/// Sequences of messages, and of lists that are taken for signed.
pub(super) fn dsm_cc(bytes: &[u8]) {
    let (mut receiver, mut lists) = (Receiver::<Room>::default(), ListAssembler::default());
    let mut is_asked = false;
    let mut input = Input::new(bytes);
    while let Some((operation, bytes)) = input.record() {
        match operation & 3 {
            0 | 1 => {
                let Some(bytes) = with_checksum(bytes) else { continue };
                let Ok(section) = Section::parse(&bytes) else { continue };
                if section.table_id != TABLE_SIGNED {
                    receiver.section(&section, &mut Room);
                } else if let Some(Ok(list)) = lists.push(&section).map(|it| SignedList::read(&it)) {
                    assert_eq!(SignedList::read(&list.to_bytes()).as_ref(), Ok(&list));
                    receiver.require(SignatureRequirement::Signed(Arc::new(list)));
                    is_asked = true;
                }
            }
            2 => receiver.forget_unless(|path| path.len() % 2 == 0),
            _ => {
                for message in biop::messages(bytes) {
                    if message.is_err() {
                        break;
                    }
                }
            }
        }
        while let Some(event) = receiver.poll_event() {
            if let Event::File(file) = event {
                assert!(!is_asked || file.description.digest.is_some(), "{:?} is not covered", file.paths);
                file.paths.iter().for_each(|path| assert_path(path));
                let length: usize = file.pieces.iter().map(|piece| piece.bytes().len()).sum();
                assert_eq!(length as u64, file.length());
                if operation & 4 != 0 {
                    receiver.reject(&file);
                }
            }
        }
    }
    let _ = (receiver.modules().count(), receiver.dropped().count());
}
