//! The packets of a session, in memory.

use carousel::fec::{EncodingId, PayloadId, Protection};
use carousel::flute::{SendFile, Sender, SenderProfile};
use carousel::lct::Tsi;

/// Encoding symbol length: one to a packet.
pub(crate) const SYMBOL_BYTES: usize = 1400;

/// Object by object, each page of the FDT before the first object that it describes.
pub(crate) struct Stream {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    fdt_packets: usize,
    objects: usize,
    object_bytes: usize,
}

impl Stream {
    /// `objects` of `object_bytes` each.
    pub(crate) fn new(objects: usize, object_bytes: usize) -> Self {
        Self::with_loss(objects, object_bytes, 0)
    }

    /// The same objects of another session.
    pub(crate) fn other(&self) -> Self {
        Self::of_session(12, self.objects, self.object_bytes, 0)
    }

    /// The same, of whose source symbols `percent` are lost; RaptorQ symbols for them come behind, one more than is lost.
    pub(crate) fn with_loss(objects: usize, object_bytes: usize, percent: usize) -> Self {
        Self::of_session(if percent == 0 { 10 } else { 11 }, objects, object_bytes, percent)
    }

    fn of_session(tsi: u64, objects: usize, object_bytes: usize, percent: usize) -> Self {
        let profile = SenderProfile { symbol_length: SYMBOL_BYTES as u16, ..SenderProfile::default() };
        let mut sender = Sender::new(Tsi(tsi), profile, 1, 1);
        let raptorq =
            Protection { id: EncodingId::RAPTORQ, overhead: 0.2, block_bytes: 64 << 20, ..Protection::NONE };
        let protection = if percent == 0 { Protection::NONE } else { raptorq };
        let bodies: Vec<Vec<u8>> = (0..objects)
            .map(|object| (0..object_bytes).map(|at| (at * 31 + object * 7 + (at >> 9)) as u8).collect())
            .collect();
        let tois: Vec<_> = bodies
            .iter()
            .enumerate()
            .map(|(at, body)| {
                let file = SendFile {
                    content_type: Some("video/mp4".to_owned()),
                    ..SendFile::of(format!("http://cdn.example.com/{tsi}/{at}.m4s"), body)
                };
                sender.add_protected(file, &protection).expect("fits")
            })
            .collect();
        sender.refresh_fdt(skycache::clock::wall()).expect("FDT");
        let mut stream = Self { bytes: Vec::new(), ends: Vec::new(), fdt_packets: 0, objects, object_bytes };
        let mut out = Vec::new();
        let mut described = None;
        for (toi, body) in tois.iter().zip(&bodies) {
            let page = sender.page_of(*toi).expect("described");
            if described.replace(page) != Some(page) {
                for packet in 0..sender.fdt_packets(page) {
                    assert!(sender.write_fdt(page, packet, &mut out));
                    stream.push(&out);
                    stream.fdt_packets += 1;
                }
            }
            let symbols = body.chunks(SYMBOL_BYTES).len();
            let mut lost = 0;
            for (symbol, bytes) in body.chunks(SYMBOL_BYTES).enumerate() {
                if (symbol + 1) * percent / 100 > symbol * percent / 100 {
                    lost += 1;
                    continue;
                }
                let mut bytes = bytes.to_vec();
                if percent > 0 {
                    bytes.resize(SYMBOL_BYTES, 0);
                }
                assert!(sender.write_packet(*toi, symbol as u64, &bytes, false, &mut out));
                stream.push(&out);
            }
            if lost > 0 {
                let mut encoder = sender.block_code(*toi, 0).expect("one block").encoder(body);
                for esi in (symbols as u32..).take(lost + 1) {
                    let repair = encoder.repair(esi).expect("repair symbol");
                    assert!(sender.write_repair(*toi, PayloadId { sbn: 0, esi }, &repair, false, &mut out));
                    stream.push(&out);
                }
            }
        }
        stream
    }

    fn push(&mut self, packet: &[u8]) {
        self.bytes.extend_from_slice(packet);
        self.ends.push(self.bytes.len());
    }

    /// Every packet in order.
    pub(crate) fn each<'a>(&'a self, mut take: impl FnMut(&'a [u8])) {
        let mut start = 0;
        for &end in &self.ends {
            take(&self.bytes[start..end]);
            start = end;
        }
    }

    /// Packets of objects.
    pub(crate) fn data_packets(&self) -> usize {
        self.ends.len() - self.fdt_packets
    }

    /// All packets.
    pub(crate) fn packets(&self) -> usize {
        self.ends.len()
    }

    /// Objects.
    pub(crate) fn objects(&self) -> usize {
        self.objects
    }

    /// Bytes of each.
    pub(crate) fn object_bytes(&self) -> usize {
        self.object_bytes
    }

    /// Packets in trains as a GSO sender takes them: of one length, but for the last, and 60 kB at most.
    pub(crate) fn trains(&self) -> Vec<(&[u8], usize)> {
        let mut trains = Vec::new();
        let (mut start, mut at) = (0, 0);
        while at < self.ends.len() {
            let length = self.ends[at] - start;
            let mut end = self.ends[at];
            at += 1;
            while at < self.ends.len() && self.ends[at] - start <= 60_000 {
                let next = self.ends[at] - end;
                if next > length {
                    break;
                }
                end = self.ends[at];
                at += 1;
                if next < length {
                    break;
                }
            }
            trains.push((&self.bytes[start..end], length));
            start = end;
        }
        trains
    }
}
