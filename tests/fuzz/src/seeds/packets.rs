//! Seeds of packets and names.

use carousel::capture::{write_pcap_frame, write_pcap_header};
use carousel::fec::{EncodingId, Oti, SchemeInfo};
use carousel::ip::{write_ethernet_udp, write_udp};
use carousel::lct::ext::{Fdt, Time, het, write_fixed, write_variable};
use carousel::lct::{LctHeader, Toi, Tsi, Widths};
use carousel::time::WallTime;

use super::receivers::honest;
use super::texts;
use crate::input;

pub(crate) fn alc() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = honest().packets.iter().take(12).cloned().collect();
    for widths in [Widths::BITS_16, Widths::BITS_32] {
        let mut extensions = Vec::new();
        Fdt { version: 2, instance_id: 7 }.write(&mut extensions);
        Time::now(WallTime::from_unix_ms(1_795_219_200_000)).write(&mut extensions);
        write_fixed(&mut extensions, 194, 5000);
        let _ = write_variable(&mut extensions, 67, &[0, 0, 0, 0, 0x13, 0x88]);
        let _ = write_variable(&mut extensions, het::FTI, &[0; 14]);
        let header = LctHeader {
            widths,
            sct: Some(7),
            ert: Some(8),
            close_object: true,
            extensions: &extensions,
            ..LctHeader::new(Tsi(3), Toi::FDT)
        };
        let mut out = Vec::new();
        if header.write(&mut out).is_ok() {
            out.extend_from_slice(&[0, 0, 0, 1, 9, 9, 9, 9]);
            seeds.push(out);
        }
    }
    let schemes = [
        (EncodingId(0), SchemeInfo::None),
        (EncodingId(5), SchemeInfo::None),
        (EncodingId(129), SchemeInfo::None),
    ];
    for (id, scheme) in schemes {
        let oti = Oti { encoding_id: id, scheme, ..Oti::no_code(5000, 1000, 64) };
        let mut extensions = Vec::new();
        if oti.write_fti(&mut extensions).is_ok() {
            let header =
                LctHeader { codepoint: id.0, extensions: &extensions, ..LctHeader::new(Tsi(1), Toi(2)) };
            let mut out = Vec::new();
            if header.write(&mut out).is_ok() {
                out.extend_from_slice(&[0; 12]);
                seeds.push(out);
            }
        }
    }
    seeds
}

pub(crate) fn ip() -> Vec<Vec<u8>> {
    let address = |text: &str| text.parse().unwrap_or_else(|_| unreachable!("an address"));
    let pairs = [("10.0.0.1:5000", "239.0.0.1:6000"), ("[fe80::1]:5000", "[ff15::1]:6000")];
    let mut seeds = Vec::new();
    for (source, destination) in pairs {
        let mut frame = Vec::new();
        write_ethernet_udp(&mut frame, address(source), address(destination), 5, b"datagram");
        let mut capture = Vec::new();
        write_pcap_header(&mut capture);
        write_pcap_frame(&mut capture, 1, &frame);
        write_pcap_frame(&mut capture, 2, &frame);
        seeds.push(capture);
        seeds.push(frame);
        let mut packet = Vec::new();
        write_udp(&mut packet, address(source), address(destination), 5, &[7; 64]);
        seeds.push(input::records(0, [&packet]));
        seeds.push(packet);
    }
    seeds
}

pub(crate) fn names() -> Vec<Vec<u8>> {
    texts(&[
        "http://a.example/b/c.m4s?x=1&y=2\n../d/e.m4s",
        "/a.example/v/1%20%2f.m4s?CMCD=br%3D1&t=2",
        "a.example/v/1.m4s",
        "urn:dvb:metadata:x\nfile.mp4",
        "HTTP://User@A.Example:80/%7Eb/./c/../d#e",
        "params, except=(\"_HLS_msn\" \"_HLS_part\")\nhttp://h/p?_HLS_msn=1&a=2",
        "params=(\"a\" \"b\")\nhttp://h/p?a=1&b=2&c",
        "seg-$TOI%05d$-$$.m4s",
        "2026-11-28T20:00:00.5+01:00",
        "P1DT2H3M4.5S",
        "http://h/a?skycache-range=0-99",
    ])
}
