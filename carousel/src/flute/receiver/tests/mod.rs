//! Tests of the receiver: behaviour of other senders that is easily mistaken, limits, expiry, deliveries over lossy links.

use super::*;
use crate::digest::Digest;
use crate::fec::{EncodingId, Oti, PayloadId, SchemeInfo};
use crate::flute::{Encoding, SendFile, Sender, SenderProfile, decode, verify};
use crate::lct::{LctHeader, Tsi, Widths};
use linksim::{Link, Profile};
use proptest::prelude::*;

mod counters;
mod deliveries;
mod description;
mod early;
mod events;
mod expiry;
mod limits;
mod symbols;
mod trusting;

/// Lends `Vec`s and keeps what was asked.
#[derive(Debug, Default)]
pub(crate) struct TestStorage {
    opened: Vec<(Toi, u64, bool)>,
    named: Vec<String>,
    refuse: Option<Refusal>,
    keeps_nothing: bool,
}

impl Storage for TestStorage {
    type Buf = Vec<u8>;
    fn open(&mut self, request: &OpenRequest<'_>) -> Result<Vec<u8>, Refusal> {
        if let Some(refusal) = self.refuse {
            return Err(refusal);
        }
        self.opened.push((request.toi, request.length, request.file.is_some()));
        Ok(vec![0xee; request.length as usize])
    }
    fn name(&mut self, _: &mut Vec<u8>, file: &Arc<File>) -> Result<(), Refusal> {
        self.named.push(file.content_location.clone());
        self.refuse.map_or(Ok(()), Err)
    }
    fn write(&mut self, buf: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
        buf[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    fn keep_repair(&mut self, _: &mut Vec<u8>, _: u32, _: &[u8]) -> bool {
        !self.keeps_nothing // what they are does not matter where nothing is decoded for its bytes
    }
}

/// A block of the object in flight with this TOI.
fn block_of(receiver: &Receiver<Vec<u8>>, toi: Toi, sbn: u32) -> BlockId {
    BlockId { serial: receiver.object(toi).unwrap().serial, sbn }
}

struct Bench {
    receiver: Receiver<Vec<u8>>,
    storage: TestStorage,
    now: Instant,
}

const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);

impl Bench {
    fn new() -> Self {
        Self {
            receiver: Receiver::new(ReceiverConfig::default()),
            storage: TestStorage::default(),
            now: Instant::default(),
        }
    }

    fn feed(&mut self, datagram: &[u8]) -> Verdict {
        self.now = self.now + Duration::from_micros(10);
        let packet = Packet::parse(datagram).expect("a packet that our own sender or the test made");
        self.receiver.handle_packet(self.now, Some(WALL), &packet, datagram, &mut self.storage)
    }

    fn feed_all(&mut self, datagrams: &[Vec<u8>]) {
        for datagram in datagrams {
            self.feed(datagram);
        }
    }

    fn events(&mut self) -> Vec<Event<Vec<u8>>> {
        std::iter::from_fn(|| self.receiver.poll_event()).collect()
    }

    /// Whole objects so far, verified and decoded: name and bytes.
    fn whole(&mut self) -> Vec<(String, Vec<u8>)> {
        let events = self.events();
        let complete = events.into_iter().filter_map(|event| match event {
            Event::Complete { file, buf, .. } => Some((file, buf)),
            _ => None,
        });
        complete
            .map(|(file, buf)| {
                let content = verify(&file, &buf).expect("whole objects are right");
                (file.content_location.clone(), content.decoded.unwrap_or(buf))
            })
            .collect()
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.receiver.stats().dropped(reason)
    }
}

fn body(seed: u8, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at as u32).wrapping_mul(2_654_435_761).wrapping_add(u32::from(seed)).to_be_bytes()[0])
        .collect()
}

/// A sender with one object: its FDT packets and its object packets.
fn one_object(profile: SenderProfile, name: &str, bytes: &[u8]) -> (Sender, Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut sender = Sender::new(Tsi(7), profile, 5, 99);
    let toi = sender.add(SendFile::of(name, bytes)).unwrap();
    let (fdt, data) = (fdt_packets(&mut sender), object_packets(&sender, toi, bytes));
    (sender, fdt, data)
}

fn fdt_packets(sender: &mut Sender) -> Vec<Vec<u8>> {
    sender.refresh_fdt(WALL).unwrap();
    let mut all = Vec::new();
    for page in 0..sender.fdt_pages() {
        for packet in 0..sender.fdt_packets(page) {
            let mut out = Vec::new();
            assert!(sender.write_fdt(page, packet, &mut out));
            all.push(out);
        }
    }
    all
}

fn object_packets(sender: &Sender, toi: Toi, bytes: &[u8]) -> Vec<Vec<u8>> {
    let partition = sender.partition(toi).unwrap();
    (0..partition.symbols)
        .map(|symbol| {
            let range = partition.byte_range(symbol);
            let mut out = Vec::new();
            assert!(sender.write_packet(
                toi,
                symbol,
                &bytes[range.start as usize..range.end as usize],
                false,
                &mut out
            ));
            out
        })
        .collect()
}

/// A data packet by hand: no-code, 32-bit TSI 7.
fn by_hand(
    toi: u128,
    fti: Option<&Oti>,
    sbn: u32,
    esi: u32,
    symbols: &[u8],
    flags: impl Fn(&mut LctHeader<'_>),
) -> Vec<u8> {
    let mut extensions = Vec::new();
    if let Some(oti) = fti {
        oti.write_fti(&mut extensions).unwrap();
    }
    let mut header = LctHeader { extensions: &extensions, ..LctHeader::new(Tsi(7), Toi(toi)) };
    flags(&mut header);
    let mut out = Vec::new();
    header.write(&mut out).unwrap();
    PayloadId { sbn, esi }.write_16_16(&mut out);
    out.extend_from_slice(symbols);
    out
}

/// FDT packets for XML by hand.
fn fdt_by_hand(instance_id: u32, xml: &str) -> Vec<u8> {
    let mut extensions = Vec::new();
    crate::lct::ext::Fdt { version: 1, instance_id }.write(&mut extensions);
    Oti::no_code(xml.len() as u64, 60_000, 1).write_fti(&mut extensions).unwrap();
    let mut out = Vec::new();
    LctHeader { extensions: &extensions, ..LctHeader::new(Tsi(7), Toi(0)) }.write(&mut out).unwrap();
    PayloadId { sbn: 0, esi: 0 }.write_16_16(&mut out);
    out.extend_from_slice(xml.as_bytes());
    out
}

fn describe(toi: u32, name: &str, more: &str) -> String {
    format!(
        "<FDT-Instance Expires=\"4294944000\"><File TOI=\"{toi}\" Content-Location=\"{name}\" {more}/></FDT-Instance>"
    )
}

impl Bench {
    /// Lets time pass, with a check every second as in the daemon.
    fn pass(&mut self, seconds: u64, wall: impl Fn(Instant) -> Option<WallTime>) -> Vec<Event<Vec<u8>>> {
        let mut events = Vec::new();
        for _ in 0..seconds {
            self.now = self.now + Duration::from_secs(1);
            self.receiver.handle_timeout(self.now, wall(self.now));
            events.extend(self.events());
        }
        events
    }

    fn feed_at(&mut self, wall: Option<WallTime>, datagram: &[u8]) -> Verdict {
        let packet = Packet::parse(datagram).unwrap();
        self.receiver.handle_packet(self.now, wall, &packet, datagram, &mut self.storage)
    }
}
