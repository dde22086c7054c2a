//! Honest sessions, and sequences of their packets.

use std::sync::OnceLock;

use carousel::fec::{EncodingId, Protection};
use carousel::flute::{Encoding, SendFile, Sender, SenderProfile};
use carousel::lct::{Toi, Tsi};
use carousel::route::{self, Channel, Payload, Protected, RepairFlow, RouteSession, SourceFlow};

use super::files::segment;
use super::gzip;
use crate::input;
use crate::targets::{START, operation};

/// An honest session: packets in the order in which they are sent, and objects by name.
#[derive(Debug, Default)]
pub(crate) struct Honest {
    pub(crate) packets: Vec<Vec<u8>>,
    pub(crate) bodies: Vec<(String, Vec<u8>)>,
}

const SYMBOL_BYTES: u16 = 100;

fn body(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(37).wrapping_add(seed) ^ (at >> 5) as u8).collect()
}

/// Objects of every kind: plain, gzipped, protected, two chunks of one segment, one of no bytes; and the FDT.
pub(crate) fn honest() -> &'static Honest {
    static HONEST: OnceLock<Honest> = OnceLock::new();
    HONEST.get_or_init(|| make().unwrap_or_else(|err| panic!("the honest session: {err}")))
}

fn make() -> Result<Honest, Box<dyn std::error::Error>> {
    let profile = SenderProfile { symbol_length: SYMBOL_BYTES, ..SenderProfile::default() };
    let mut sender = Sender::new(Tsi(7), profile, 1, 1);
    let mut honest = Honest::default();
    let chunk = segment(1, 60);
    let mut objects = vec![
        ("http://h/a.m4s".to_owned(), body(1, 450)),
        ("http://h/b.m4s".to_owned(), body(2, 100)),
        ("http://h/l/s1.m4s?hasRandomAccessPoint#0".to_owned(), chunk.clone()),
        (format!("http://h/l/s1.m4s?isLast#{}", chunk.len()), chunk),
        ("http://h/empty".to_owned(), Vec::new()),
    ];
    let mut numbers = Vec::new();
    for (name, body) in &objects {
        numbers.push(sender.add(SendFile::of(name.clone(), body))?);
    }
    let text = b"#EXTM3U\n".repeat(30);
    let packed = gzip(&text);
    let file = SendFile {
        encoding: Encoding::Gzip,
        content_length: text.len() as u64,
        repr_digest: Some(carousel::Digest::of(&text)),
        ..SendFile::of("http://h/m.m3u8", &packed)
    };
    numbers.push(sender.add(file)?);
    objects.push(("http://h/m.m3u8".to_owned(), packed));
    sender.refresh_fdt(START)?;
    for page in 0..sender.fdt_pages() {
        for packet in 0..sender.fdt_packets(page) {
            let mut out = Vec::new();
            if sender.write_fdt(page, packet, &mut out) {
                honest.packets.push(out);
            }
        }
    }
    for (&toi, (_, body)) in numbers.iter().zip(&objects) {
        for (at, bytes) in body.chunks(usize::from(SYMBOL_BYTES)).enumerate() {
            let mut out = Vec::new();
            sender.write_packet(toi, at as u64, bytes, false, &mut out);
            honest.packets.push(out);
        }
    }
    honest.bodies = objects;
    protected(&mut honest)?;
    Ok(honest)
}

/// A session of its own with repair symbols of each code.
fn protected(honest: &mut Honest) -> Result<(), Box<dyn std::error::Error>> {
    let codes = [EncodingId::RAPTOR, EncodingId::RAPTORQ, EncodingId::RS_GF28, EncodingId::SMALL_SYSTEMATIC];
    for (at, id) in codes.into_iter().enumerate() {
        let protection = Protection {
            id,
            symbol_length: 0,
            overhead: 0.2,
            least_repair: 2,
            burst_packets: 0,
            block_bytes: 1 << 20,
        };
        let profile = SenderProfile { symbol_length: SYMBOL_BYTES, ..SenderProfile::default() };
        let first = 100 + at as u32;
        let mut sender = Sender::new(Tsi(7), profile, first, first);
        let name = format!("http://h/p{at}.m4s");
        let body = body(at as u8, 600);
        let toi = sender.add_protected(SendFile::of(name.clone(), &body), &protection)?;
        sender.refresh_fdt(START)?;
        let mut out = Vec::new();
        if sender.write_fdt(0, 0, &mut out) {
            honest.packets.push(out);
        }
        let mut out = Vec::new();
        // The first symbols are lost; repair symbols stand for them.
        for (symbol, bytes) in body.chunks(usize::from(SYMBOL_BYTES)).enumerate().skip(1) {
            sender.write_packet(toi, symbol as u64, bytes, false, &mut out);
            honest.packets.push(out.clone());
        }
        if let Some(code) = sender.block_code(toi, 0) {
            let mut encoder = code.encoder(&body);
            for esi in 6..8 {
                if let Some(symbol) = encoder.repair(esi) {
                    let id = carousel::fec::PayloadId { sbn: 0, esi };
                    if sender.write_repair(toi, id, &symbol, false, &mut out) {
                        honest.packets.push(out.clone());
                    }
                }
            }
        }
        honest.bodies.push((name, body));
    }
    Ok(())
}

fn all_of(count: usize, order: impl Fn(usize) -> usize) -> Vec<u8> {
    input::records(operation::HONEST, (0..count).map(|at| [order(at) as u8]))
}

fn with_time(mut out: Vec<u8>, ms: u32) -> Vec<u8> {
    input::add(&mut out, operation::TIME, &ms.to_be_bytes());
    out
}

/// The honest session in several orders, with time, repairs and other fates.
pub(crate) fn flute() -> Vec<Vec<u8>> {
    let count = honest().packets.len();
    let mut seeds = vec![
        all_of(count, |at| at),
        all_of(count, |at| count - 1 - at),
        all_of(count, |at| at * 7 % count),
        with_time(all_of(6, |at| at), 5000),
        input::records(operation::PACKET, honest().packets.iter().take(8)),
    ];
    let mut repaired = with_time(all_of(5, |at| at), 3000);
    input::add(&mut repaired, operation::REPAIR, &[&[1, 0, 100][..], &honest().bodies[0].1[100..]].concat());
    for fate in 0..3 {
        input::add(&mut repaired, operation::FATE, &[1, fate]);
    }
    seeds.push(repaired);
    // One byte of each packet is another.
    let altered = (0..count).map(|at| [at as u8, 0, 20, 1, 0xff]);
    seeds.push(input::records(operation::HONEST, altered));
    seeds
}

pub(crate) fn honest_route() -> &'static Honest {
    static HONEST: OnceLock<Honest> = OnceLock::new();
    HONEST.get_or_init(|| make_route().unwrap_or_else(|err| panic!("the honest session: {err}")))
}

fn make_route() -> Result<Honest, Box<dyn std::error::Error>> {
    let init = carousel::flute::File {
        content_location: "init.mp4".to_owned(),
        toi: Toi(0xffff_ffff),
        ..carousel::flute::File::default()
    };
    let source = SourceFlow {
        is_real_time: true,
        template: Some("seg-$TOI%05d$.m4s".to_owned()),
        files: vec![init],
        payloads: vec![Payload { codepoint: 8, format: 1, fragmentation: 1, source_payload_id: Some(1) }],
        ..SourceFlow::default()
    };
    let repair = RepairFlow {
        oti: Some(route::Sender::repair_oti(SYMBOL_BYTES)),
        protected: vec![Protected { tsi: 10, x: 1, y: 0 }],
        ..RepairFlow::default()
    };
    let session = RouteSession {
        group: "239.0.0.1".parse().ok(),
        port: Some(6000),
        channels: vec![
            Channel { tsi: 10, source: Some(source), ..Channel::default() },
            Channel { tsi: 11, repair: Some(repair), ..Channel::default() },
        ],
        ..RouteSession::default()
    };
    let mut sender = route::Sender::new(usize::from(SYMBOL_BYTES));
    sender.set_signalling(session, &[("application/dash+xml", "live.mpd", b"<MPD/>")])?;
    let mut honest = Honest::default();
    sender.signalling(|packet| honest.packets.push(packet.to_vec()))?;
    for toi in 1..4_u8 {
        let body = segment(usize::from(toi) % 2 + 1, 60);
        let count = body.chunks(usize::from(SYMBOL_BYTES)).len();
        for (at, bytes) in body.chunks(usize::from(SYMBOL_BYTES)).enumerate() {
            let length = (toi != 2 && at + 1 == count).then_some(body.len() as u64);
            let mut out = Vec::new();
            let offset = (at * usize::from(SYMBOL_BYTES)) as u64;
            sender.write_source((10, Toi(toi.into())), 8, offset, length, bytes, &mut out)?;
            honest.packets.push(out);
        }
        let mut symbols = Vec::new();
        route::Sender::repair_symbols(&route::Sender::repair_oti(SYMBOL_BYTES), &body, 2, |id, symbol| {
            symbols.push((id, symbol.to_vec()));
        })?;
        for (id, symbol) in symbols {
            let mut out = Vec::new();
            sender.write_repair((11, Toi(toi.into())), body.len() as u64, id, &symbol, &mut out)?;
            honest.packets.push(out);
        }
        honest.bodies.push((format!("seg-{toi:05}.m4s"), body));
    }
    let mut out = Vec::new();
    sender.write_close(10, &mut out)?;
    honest.packets.push(out);
    Ok(honest)
}

pub(crate) fn route() -> Vec<Vec<u8>> {
    let count = honest_route().packets.len();
    vec![
        all_of(count, |at| at),
        all_of(count, |at| count - 1 - at),
        with_time(all_of(count / 2, |at| at), 5000),
        with_time(all_of(count, |at| at * 5 % count), 700_000),
        input::records(operation::PACKET, honest_route().packets.iter().take(6)),
    ]
}

/// Both honest sessions, alone and beside untrusted ones, with every kind of origin.
pub(crate) fn delivery() -> Vec<Vec<u8>> {
    let (flute, route) = (honest().packets.len(), honest_route().packets.len());
    let mut seeds = Vec::new();
    for mode in [0, 1, 2, 4, 12, 20, 22] {
        let mut out = vec![mode];
        out.extend(all_of(flute, |at| at * 7 % flute));
        for at in 0..route {
            input::add(&mut out, 5, &[at as u8]);
        }
        let mut out = with_time(out, 5000);
        for fate in 0..5 {
            input::add(&mut out, operation::FATE, &[1, fate]);
        }
        out.extend(all_of(flute, |at| at));
        seeds.push(out);
    }
    // Lost packets: stalled, then repaired or not.
    for mode in [4, 12, 20] {
        let mut out = vec![mode];
        out.extend(all_of(4, |at| at));
        let mut out = with_time(out, 2500);
        input::add(&mut out, operation::FATE, &[1, 0]);
        seeds.push(with_time(out, 60_000));
    }
    seeds
}

pub(crate) fn growing() -> Vec<Vec<u8>> {
    let body = segment(2, 20);
    let pieces = |order: &[usize]| {
        let mut out = Vec::new();
        for &at in order {
            let end = (at + 16).min(body.len());
            input::add(&mut out, 0, &[&[at as u8], &body[at..end]].concat());
        }
        input::add(&mut out, 1, &[body.len() as u8]);
        out
    };
    vec![pieces(&[0, 16, 32, 48, 64]), pieces(&[64, 32, 48, 0, 16]), pieces(&[0, 8, 24, 20])]
}
