//! Input as foreign senders write it: FLUTE sessions, repair symbols, documents and object carousels.
//!
//! All of it is made here, by generators of our own after what recordings show, so that a clone without the recordings tests
//! the same readers: header forms, extensions, FDT and partition; namespaces, prefixes and attributes; layout of BIOP messages.

mod documents;
mod object_carousel;
mod reed_solomon;

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use carousel::alc::Packet;
use carousel::digest::md5;
use carousel::flute::{DropReason, Event, MemoryStorage, Receiver, ReceiverConfig, verify};
use carousel::time::Instant;

fn body(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| ((at * 31 + at / 251) as u8).wrapping_add(seed)).collect()
}

fn word(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// A packet with 16-bit TSI and TOI (H = 1, S = O = 0), and Compact No-Code's FEC Payload ID.
fn packet(tsi: u16, toi: u16, extensions: &[u32], (sbn, esi): (u16, u16), symbol: &[u8]) -> Vec<u8> {
    let mut out = vec![0x10, 0x10, 3 + extensions.len() as u8, 0];
    word(&mut out, 0); // CCI
    word(&mut out, u32::from(tsi) << 16 | u32::from(toi));
    extensions.iter().for_each(|it| word(&mut out, *it));
    word(&mut out, u32::from(sbn) << 16 | u32::from(esi));
    out.extend_from_slice(symbol);
    out
}

/// Completed objects in order, and the receiver.
fn receive(packets: &[Vec<u8>]) -> (Vec<(String, Vec<u8>)>, Receiver<carousel::flute::MemoryBuf>) {
    let mut receiver = Receiver::new(ReceiverConfig::default());
    let mut objects = Vec::new();
    for (at, bytes) in packets.iter().enumerate() {
        let now = Instant::from_nanos(at as u64 * 1_000_000);
        let packet = Packet::parse(bytes).expect("the vectors are packets");
        receiver.handle_packet(now, None, &packet, bytes, &mut MemoryStorage);
        while let Some(event) = receiver.poll_event() {
            if let Event::Complete { file, buf, .. } = event {
                verify(&file, &buf.bytes).expect("the digests are right");
                objects.push((file.content_location.clone(), buf.bytes));
            }
        }
    }
    (objects, receiver)
}

/// GPAC 26.08-dev, `mabr://`: FDT version 1 in the namespace of 2005, every packet of it with EXT_FTI and EXT_TIME;
/// objects without any extension, in one source block of 1416-byte symbols; OTI on every File.
mod gpac {
    use super::*;

    const SYMBOL_BYTES: usize = 1416;

    pub(super) fn fdt(instance_id: u32, files: &[(u16, &str, &[u8])]) -> Vec<Vec<u8>> {
        let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"no\" ?>\n<FDT-Instance Expires=\"4294944000\" \
                       xmlns=\"urn:IETF:metadata:2005:FLUTE:FDT\">\n"
            .to_owned();
        for (toi, name, body) in files {
            let _ = writeln!(
                xml,
                "<File FEC-OTI-FEC-Encoding-ID=\"0\" FEC-OTI-Maximum-Source-Block-Length=\"65535\" Content-Length=\"{0}\" \
                 Transfer-Length=\"{0}\" Content-Location=\"{name}\" Content-Type=\"video/mp4\" \
                 FEC-OTI-Encoding-Symbol-Length=\"1416\" TOI=\"{toi}\" Content-MD5=\"{1}\"/>",
                body.len(),
                BASE64.encode(md5(body)),
            );
        }
        xml.push_str("</FDT-Instance>");
        let extensions = [
            192 << 24 | 1 << 20 | instance_id,
            0x4004_0000,
            xml.len() as u32,
            SYMBOL_BYTES as u32,
            0x5c0, // the maximum source block length is that of no block of GPAC's
            0x0203_c000,
            0xeeab_5b84,
            0xa279_67ca,
        ];
        let symbols = xml.as_bytes().chunks(SYMBOL_BYTES).enumerate();
        symbols.map(|(esi, symbol)| packet(1, 0, &extensions, (0, esi as u16), symbol)).collect()
    }

    pub(super) fn object(toi: u16, body: &[u8]) -> Vec<Vec<u8>> {
        let symbols = body.chunks(SYMBOL_BYTES).enumerate();
        symbols.map(|(esi, symbol)| packet(1, toi, &[], (0, esi as u16), symbol)).collect()
    }
}

/// rt-libflute 0.12.3: OTI on the FDT-Instance only, symbols of 1436 bytes in blocks of at most 64.
mod rt_libflute {
    use super::*;

    const SYMBOL_BYTES: usize = 1436;
    const MAX_BLOCK: usize = 64;

    pub(super) fn fdt(instance_id: u32, toi: u16, name: &str, body: &[u8]) -> Vec<u8> {
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<FDT-Instance xmlns=\"urn:IETF:metadata:2005:FLUTE:FDT\" \
             Expires=\"4004208917\" FEC-OTI-FEC-Encoding-ID=\"0\" FEC-OTI-Maximum-Source-Block-Length=\"64\" \
             FEC-OTI-Encoding-Symbol-Length=\"1436\" xmlns:mbms2007=\"urn:3GPP:metadata:2007:MBMS:FLUTE:FDT\" \
             xmlns:mbms2012=\"urn:3GPP:metadata:2012:MBMS:FLUTE:FDT\">\n    <File TOI=\"{toi}\" Content-Location=\"{name}\" \
             Content-Length=\"{0}\" Transfer-Length=\"{0}\" Content-MD5=\"{1}\" \
             Content-Type=\"application/octet-stream\"/>\n</FDT-Instance>\n",
            body.len(),
            BASE64.encode(md5(body)),
        );
        let extensions = [
            192 << 24 | 1 << 20 | instance_id,
            0x4004_0000,
            xml.len() as u32,
            SYMBOL_BYTES as u32,
            MAX_BLOCK as u32,
        ];
        packet(16, 0, &extensions, (0, 0), xml.as_bytes())
    }

    /// The partition of RFC 5052 section 9.1, written out once more.
    pub(super) fn object(toi: u16, body: &[u8]) -> Vec<Vec<u8>> {
        let symbols: Vec<&[u8]> = body.chunks(SYMBOL_BYTES).collect();
        let blocks = symbols.len().div_ceil(MAX_BLOCK);
        let (large, small) = (symbols.len().div_ceil(blocks), symbols.len() / blocks);
        let larges = symbols.len() - small * blocks;
        let mut out = Vec::new();
        let mut rest = &symbols[..];
        for sbn in 0..blocks {
            let (block, others) = rest.split_at(if sbn < larges { large } else { small });
            rest = others;
            let all = block.iter().enumerate();
            out.extend(all.map(|(esi, symbol)| packet(16, toi, &[], (sbn as u16, esi as u16), symbol)));
        }
        assert!(rest.is_empty());
        out
    }
}

#[test]
fn a_live_session_of_gpac() {
    let configuration = body(5298, 1);
    let init = body(949, 2);
    let segment = body(36_582, 3);
    let files =
        [(1, "urn:dvb:config", &configuration[..]), (2, "tag:mabr.gpac.io.2025/1_init.mp4", &init[..])];
    let mut packets = gpac::fdt(1, &files);
    assert_eq!(packets[0][..12], [0x10, 0x10, 0x0b, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
    packets.extend(gpac::object(1, &configuration));
    packets.extend(gpac::object(2, &init));
    // The next instance describes the segment alone: what the first one said still stands.
    let first = packets.clone();
    packets.extend(gpac::fdt(2, &[(3, "tag:mabr.gpac.io.2025/1_1.m4s", &segment)]));
    packets.extend(gpac::object(3, &segment));
    packets.extend(first);
    let (objects, receiver) = receive(&packets);
    let expected = [
        ("urn:dvb:config".to_owned(), configuration),
        ("tag:mabr.gpac.io.2025/1_init.mp4".to_owned(), init),
        ("tag:mabr.gpac.io.2025/1_1.m4s".to_owned(), segment),
    ];
    assert_eq!(objects, expected);
    assert_eq!(receiver.stats().dropped(DropReason::Repeat), 4 + 1, "the carousel's next cycle");
}

#[test]
fn objects_of_several_blocks_as_rt_libflute_sends_them() {
    // 488 symbols in 8 blocks of 61, 65 symbols in blocks of 33 and 32, one byte, and symbols that fill their blocks.
    for (length, blocks) in [(700_000, 8), (64 * 1436 + 1, 2), (1, 1), (2 * 64 * 1436, 2)] {
        let bytes = body(length, 4);
        let packets = rt_libflute::object(2, &bytes);
        let last = packets.last().expect("there is a packet");
        assert_eq!(last[12..14], [0, blocks - 1]);
        let mut all = vec![rt_libflute::fdt(4, 2, "r.bin", &bytes)];
        all.extend(packets.iter().rev().cloned());
        let (objects, _) = receive(&all);
        assert_eq!(objects, [("r.bin".to_owned(), bytes.clone())], "{length}");
        // Packets before the FDT are kept for it; a loss is made up by the next cycle.
        let mut late: Vec<_> = packets.iter().skip(1).cloned().collect();
        late.truncate(900);
        late.push(rt_libflute::fdt(4, 2, "r.bin", &bytes));
        late.extend(packets.iter().cloned());
        assert_eq!(receive(&late).0.len(), 1, "{length}");
    }
}

#[test]
fn a_foreign_object_with_a_wrong_byte_is_not_verified() {
    let bytes = body(5000, 9);
    let mut packets = vec![rt_libflute::fdt(4, 2, "r.bin", &bytes)];
    packets.extend(rt_libflute::object(2, &bytes));
    let last = packets.last_mut().expect("there is a packet");
    *last.last_mut().expect("it has bytes") ^= 1;
    let mut receiver = Receiver::new(ReceiverConfig::default());
    let mut verdicts = Vec::new();
    for bytes in &packets {
        let packet = Packet::parse(bytes).expect("the vectors are packets");
        receiver.handle_packet(Instant::from_nanos(0), None, &packet, bytes, &mut MemoryStorage);
        while let Some(event) = receiver.poll_event() {
            if let Event::Complete { file, buf, .. } = event {
                verdicts.push(verify(&file, &buf.bytes).map(|it| it.digest));
            }
        }
    }
    assert_eq!(verdicts.len(), 1);
    assert!(verdicts[0].is_err());
}
