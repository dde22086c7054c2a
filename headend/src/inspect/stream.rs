//! Inspection of transport streams and baseband frames: tables, contents of PIDs, carousels with their modules, and the
//! IP inside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use carousel::Digest;
use carousel::dsmcc::delivery::{CarouselFile, Event};
use carousel::dsmcc::message::{Message, TABLE_CONTROL};
use carousel::dsmcc::{Description, ModuleStorage, Receiver, SoleFile};
use carousel::gse::Deframer;
use carousel::ip::FragmentAssembler;
use carousel::limits::MAX_CAROUSELS;
use carousel::multiplex::wrapping::{DatagramDrop, Unit, Unwrap};
use carousel::multiplex::{Delivery, Multiplex};
use carousel::ts::rtp::RtpCounts;
use carousel::ts::stream::Packets;
use carousel::ts::{PACKET_BYTES, PCR_MODULUS, Packet, Pid, Section};

use super::Extractor;

carousel::limits! {
    /// Modules of one stream under reassembly, or waiting for their directory, at a time.
    const MAX_MODULE_BYTES: u64 = 4 << 30, "bytes" {
        why: "A large carousel has some hundred megabytes open.",
        full: "The module is not received: its blocks are listed as dropped, `no_room`.",
        free: "When a module is complete or given up.",
        test: "memory_for_modules_is_bounded_and_given_back",
    }
    /// DIIs and modules of a carousel whose repetition is measured.
    const MAX_WATCHED: usize = 100_000, "entries" {
        why: "A carousel has up to 65,536 modules; an entry has 48 bytes.",
        full: "Further ones are received, and their period is not in the report.",
        free: "Holds for one report.",
        test: "repetition_is_measured_of_so_many_modules",
    }
}
/// Packets from which a recording's bit rate is derived.
const RATE_LOOK_PACKETS: usize = 500_000;

/// Modules in memory, within a bound.
#[derive(Debug, Default, Clone)]
struct ModuleMemory(Arc<AtomicU64>);

/// A module that gives its bytes back to the bound when dropped.
#[derive(Debug)]
struct ModuleBuf {
    bytes: Vec<u8>,
    room: Arc<AtomicU64>,
}

impl Drop for ModuleBuf {
    fn drop(&mut self) {
        self.room.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for ModuleBuf {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl ModuleStorage for ModuleMemory {
    type Buf = ModuleBuf;
    type Module = ModuleBuf;

    fn open(&mut self, bytes: u32, _: Option<SoleFile<'_>>) -> Option<ModuleBuf> {
        if self.0.fetch_add(u64::from(bytes), Ordering::Relaxed) + u64::from(bytes) > MAX_MODULE_BYTES {
            self.0.fetch_sub(u64::from(bytes), Ordering::Relaxed);
            return None;
        }
        Some(ModuleBuf { bytes: vec![0; bytes as usize], room: Arc::clone(&self.0) })
    }

    fn write(&mut self, buf: &mut ModuleBuf, offset: u32, bytes: &[u8]) {
        buf.bytes[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn close(&mut self, buf: ModuleBuf) -> Option<ModuleBuf> {
        Some(buf)
    }

    fn wants(&mut self, _: &str, _: &Description) -> bool {
        true
    }
}

/// Repetition of a part of a carousel.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Repetition {
    /// Times seen.
    pub count: u64,
    first_s: f64,
    last_s: f64,
    /// Longest time between two, s.
    pub longest_s: f64,
}

impl Repetition {
    fn see(&mut self, now_s: f64) {
        if self.count == 0 {
            self.first_s = now_s;
        } else {
            self.longest_s = self.longest_s.max(now_s - self.last_s);
        }
        self.last_s = now_s;
        self.count += 1;
    }

    /// Mean time between two; `None` if it was seen once.
    pub fn period_s(&self) -> Option<f64> {
        (self.count > 1).then(|| (self.last_s - self.first_s) / (self.count - 1) as f64)
    }
}

/// Part of a carousel that is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Repeated {
    /// The DSI.
    Initiate,
    /// The DII of this identification.
    Info(u16),
    /// The module with this id, by its first block.
    Module(u32, u16),
}

/// One carousel in the report.
#[derive(Debug)]
pub struct CarouselReport {
    /// Its PID.
    pub pid: Pid,
    receiver: Receiver<ModuleMemory>,
    /// Repetition of its parts.
    pub repetitions: BTreeMap<Repeated, Repetition>,
    /// Whether it has a service gateway, once that is known.
    pub is_object_carousel: Option<bool>,
    /// downloadId.
    pub download_id: Option<u32>,
    /// Files received.
    pub files: u64,
}

impl CarouselReport {
    /// The modules as they stand.
    pub fn modules(&self) -> impl Iterator<Item = carousel::dsmcc::delivery::ModuleState> {
        self.receiver.modules()
    }

    /// Drops by reason, without zeros.
    pub fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.receiver.dropped().filter(|(_, count)| *count > 0).map(|(why, count)| (why.as_str(), count))
    }

    fn see(&mut self, section: &Section<'_>, now_s: f64) {
        let what = match Message::read(section) {
            Ok(Message::Initiate { .. }) => Repeated::Initiate,
            Ok(Message::Info(info)) => Repeated::Info(info.transaction.identification()),
            Ok(Message::Block(block)) if block.number == 0 => {
                Repeated::Module(block.download_id, block.module_id)
            }
            _ => return,
        };
        if self.repetitions.len() < MAX_WATCHED || self.repetitions.contains_key(&what) {
            self.repetitions.entry(what).or_default().see(now_s);
        }
    }
}

/// A complete file of a carousel in the report.
#[derive(Debug, Clone)]
pub struct FileReport {
    /// The stream's address; `None` for a file of packets.
    pub stream: Option<SocketAddr>,
    /// The carousel's PID.
    pub pid: Pid,
    /// Its path in the carousel.
    pub path: String,
    /// Its URI, where the carousel says one.
    pub uri: Option<String>,
    /// MIME type.
    pub content_type: Option<String>,
    /// Bytes.
    pub length: u64,
    /// SHA-256.
    pub digest: Digest,
    /// Whether the carousel's own digest was checked.
    pub checked: bool,
    /// Module and version that brought it.
    pub module: (u16, u8),
    /// Time of completion, seconds from the start.
    pub complete_s: f64,
    /// Path that it was extracted to.
    pub extracted: Option<PathBuf>,
}

/// One stream under inspection.
#[derive(Debug)]
pub struct StreamReport {
    /// Destination that it was sent to; `None` for a file of packets.
    pub address: Option<SocketAddr>,
    multiplex: Multiplex,
    carousels: BTreeMap<Pid, CarouselReport>,
    room: ModuleMemory,
    unwrap: Unwrap,
    deframer: Option<Deframer>,
    fragments: FragmentAssembler,
    frames: u64,
    packets: u64,
    start_s: Option<f64>,
    last_s: f64,
    /// Bits a second of a recording without times.
    pub rate_bps: Option<f64>,
    /// Carousels left out because there were too many.
    pub left_out: u64,
    /// Complete files whose digest is wrong.
    pub wrong: u64,
}

/// Content of a stream.
#[derive(Debug, Default)]
pub(super) struct StreamContent {
    pub(super) files: Vec<FileReport>,
    /// UDP datagrams of the IP inside.
    pub(super) datagrams: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
}

impl StreamReport {
    pub(super) fn new(address: Option<SocketAddr>) -> Self {
        Self {
            address,
            multiplex: Multiplex::default(),
            carousels: BTreeMap::new(),
            room: ModuleMemory::default(),
            unwrap: Unwrap::default(),
            deframer: None,
            fragments: FragmentAssembler::default(),
            frames: 0,
            packets: 0,
            start_s: None,
            last_s: 0.0,
            rate_bps: None,
            left_out: 0,
            wrong: 0,
        }
    }

    /// Takes a datagram.
    pub(super) fn datagram(
        &mut self,
        now_s: f64,
        payload: &[u8],
        extractor: Option<&mut Extractor>,
    ) -> Result<StreamContent, String> {
        let mut found = StreamContent::default();
        let mut extractor = extractor;
        let mut unwrap = std::mem::take(&mut self.unwrap);
        let mut result = Ok(());
        unwrap.datagram(payload, &mut |unit| match unit {
            Unit::Packet(packet) => {
                if result.is_ok() {
                    result = self.packet(packet, now_s, &mut found, extractor.as_deref_mut());
                }
            }
            Unit::Frame(frame) => {
                self.frames += 1;
                self.see(now_s);
                let (datagrams, fragments) = (&mut found.datagrams, &mut self.fragments);
                self.deframer
                    .get_or_insert_default()
                    .push(frame, |packet| take_ip(packet, fragments, datagrams));
            }
        });
        self.unwrap = unwrap;
        result.map(|()| found)
    }

    fn see(&mut self, now_s: f64) {
        self.start_s.get_or_insert(now_s);
        self.last_s = self.last_s.max(now_s);
    }

    /// Takes a packet.
    pub(super) fn packet(
        &mut self,
        bytes: &[u8; PACKET_BYTES],
        now_s: f64,
        found: &mut StreamContent,
        mut extractor: Option<&mut Extractor>,
    ) -> Result<(), String> {
        self.packets += 1;
        self.see(now_s);
        let (carousels, room, left_out) = (&mut self.carousels, &mut self.room, &mut self.left_out);
        let fragments = &mut self.fragments;
        self.multiplex.push(bytes, |delivery| match delivery {
            Delivery::Carousel(pid, section) => {
                if carousels.len() >= MAX_CAROUSELS && !carousels.contains_key(&pid) {
                    *left_out += 1;
                    return;
                }
                let carousel = carousels.entry(pid).or_insert_with(|| CarouselReport {
                    pid,
                    receiver: Receiver::default(),
                    repetitions: BTreeMap::new(),
                    is_object_carousel: None,
                    download_id: None,
                    files: 0,
                });
                if section.table_id == TABLE_CONTROL || section.number == 0 {
                    carousel.see(section, now_s);
                }
                carousel.receiver.section(section, room);
            }
            Delivery::Ip(_, packet) => take_ip(packet, fragments, &mut found.datagrams),
            Delivery::Gone(_) => {}
        });
        let address = self.address;
        for carousel in self.carousels.values_mut() {
            while let Some(event) = carousel.receiver.poll_event() {
                match event {
                    Event::Found { download_id, is_object_carousel } => {
                        carousel.download_id = Some(download_id);
                        carousel.is_object_carousel = Some(is_object_carousel);
                    }
                    Event::File(file) => {
                        carousel.files += 1;
                        match take_file(address, carousel.pid, &file, now_s, extractor.as_deref_mut())? {
                            Some(report) => found.files.push(report),
                            None => {
                                self.wrong += 1;
                                carousel.receiver.reject(&file);
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// From the first to the last packet, s.
    pub fn duration_s(&self) -> f64 {
        self.last_s - self.start_s.unwrap_or(self.last_s)
    }

    /// Packets of the stream.
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// Baseband frames.
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// Tables, and the counters of each PID.
    pub const fn multiplex(&self) -> &Multiplex {
        &self.multiplex
    }

    /// Whether packets have come in its datagrams, with RTP headers or without.
    pub(super) const fn is_certain(&self) -> bool {
        self.unwrap.is_certain()
    }

    /// Packets of which a part was in one datagram and the rest in the next.
    pub const fn split_packets(&self) -> u64 {
        self.unwrap.split_packets()
    }

    /// Datagrams that gave nothing, by reason.
    pub fn datagrams_dropped(&self) -> impl Iterator<Item = (DatagramDrop, u64)> {
        self.unwrap.dropped()
    }

    /// Order and losses of RTP, if it came so.
    pub fn rtp(&self) -> Option<RtpCounts> {
        self.unwrap.rtp()
    }

    /// Deframer of baseband frames, with what gave no PDU.
    pub const fn deframer(&self) -> Option<&Deframer> {
        self.deframer.as_ref()
    }

    /// Its carousels.
    pub fn carousels(&self) -> impl Iterator<Item = &CarouselReport> {
        self.carousels.values()
    }

    /// Bits a second of `packets` packets of it; `None` where the recording has no times.
    pub fn bps(&self, packets: u64) -> Option<f64> {
        let share = packets as f64 / self.packets.max(1) as f64;
        let seconds = self.duration_s();
        let by_time = (seconds > 0.0).then(|| self.packets as f64 * PACKET_BYTES as f64 * 8.0 / seconds);
        self.rate_bps.or(by_time).map(|rate| rate * share)
    }
}

fn take_ip(
    packet: &[u8],
    fragments: &mut FragmentAssembler,
    datagrams: &mut Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
) {
    if let Ok(datagram) = fragments.datagram(packet) {
        datagrams.push((datagram.source, datagram.destination, datagram.payload.to_vec()));
    }
}

/// Checks and describes a file; `None` if its own digest is wrong.
fn take_file(
    stream: Option<SocketAddr>,
    pid: Pid,
    file: &CarouselFile<ModuleBuf>,
    now_s: f64,
    extractor: Option<&mut Extractor>,
) -> Result<Option<FileReport>, String> {
    let bytes: Vec<u8> = file.pieces.iter().flat_map(|piece| piece.bytes().iter().copied()).collect();
    let digest = Digest::of(&bytes);
    if file.description.digest.is_some_and(|own| own != digest) {
        return Ok(None);
    }
    let extracted = match (extractor, &file.description.uri) {
        (None, _) => None,
        (Some(extractor), Some(uri)) => extractor.write(uri, &bytes)?,
        (Some(extractor), None) => extractor.write_path(file.path(), &bytes)?,
    };
    Ok(Some(FileReport {
        stream,
        pid,
        path: file.path().to_owned(),
        uri: file.description.uri.clone(),
        content_type: file.description.content_type.clone(),
        length: bytes.len() as u64,
        digest,
        checked: file.description.digest.is_some(),
        module: (file.module_id, file.module_version),
        complete_s: now_s,
        extracted,
    }))
}

/// Bits a second of a recording: by its clock references, else by the times in its TDT.
pub(super) fn rate_of(packets: Packets<'_>) -> Option<f64> {
    let mut clock: Option<(Pid, usize, u64)> = None;
    let mut by_clock = None;
    let mut times: Vec<(usize, i64)> = Vec::new();
    let mut multiplex = Multiplex::default();
    for (at, bytes) in packets.take(RATE_LOOK_PACKETS).enumerate() {
        if let Ok(Packet { pid, pcr: Some(pcr), .. }) = Packet::parse(bytes) {
            match clock {
                None => clock = Some((pid, at, pcr)),
                Some((own, first, begin)) if own == pid => {
                    let ticks = (pcr + PCR_MODULUS - begin) % PCR_MODULUS;
                    let bits = (at - first) as f64 * PACKET_BYTES as f64 * 8.0;
                    // Longer than an hour in so few packets is a jump of the clock.
                    if ticks > 0 && ticks < 3600 * 27_000_000 {
                        by_clock = Some(bits * 27e6 / ticks as f64);
                    }
                }
                Some(_) => {}
            }
        }
        multiplex.push(bytes, |_| ());
        if let Some(time) = multiplex.tables().time.map(carousel::time::WallTime::unix_ms)
            && times.last().is_none_or(|(_, last)| *last != time)
        {
            times.push((at, time));
        }
    }
    // A second is a coarse clock: only several make a rate.
    let by_table = match (times.first(), times.last()) {
        (Some((first, begin)), Some((last, end))) if end - begin >= 4000 => {
            Some((last - first) as f64 * PACKET_BYTES as f64 * 8e3 / (end - begin) as f64)
        }
        _ => None,
    };
    by_clock.or(by_table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use carousel::dsmcc::{Builder, Profile};
    use carousel::limits::MAX_CAROUSELS;
    use carousel::ts::Packetizer;
    use carousel::ts::psi::{Pat, Pmt, STREAM_TYPE_CAROUSEL, Stream};

    /// A DSI of an empty object carousel.
    fn initiate() -> Vec<u8> {
        let mut builder = Builder::new(Profile::default());
        builder.commit(|_, _, _: &mut [u8]| Err(())).unwrap();
        let mut out = Vec::new();
        builder.write_initiate(&mut out).unwrap();
        out
    }

    #[test]
    fn memory_for_modules_is_bounded_and_given_back() {
        let mut room = ModuleMemory::default();
        let held = room.open(1000, None).unwrap();
        room.0.fetch_add(MAX_MODULE_BYTES - 3000, Ordering::Relaxed);
        assert!(room.open(2001, None).is_none());
        let more = room.open(2000, None).unwrap();
        assert_eq!(room.0.load(Ordering::Relaxed), MAX_MODULE_BYTES);
        drop((held, more));
        assert!(room.open(3000, None).is_some());
    }

    #[test]
    fn repetition_is_measured_of_so_many_modules() {
        let mut report = CarouselReport {
            pid: Pid::new(0x100),
            receiver: Receiver::default(),
            repetitions: BTreeMap::new(),
            is_object_carousel: None,
            download_id: None,
            files: 0,
        };
        let bytes = initiate();
        let section = Section::parse(&bytes).unwrap();
        report.repetitions =
            (0..MAX_WATCHED as u32).map(|at| (Repeated::Module(at, 1), Repetition::default())).collect();
        report.see(&section, 1.0);
        assert_eq!(report.repetitions.len(), MAX_WATCHED);
        assert!(!report.repetitions.contains_key(&Repeated::Initiate));
        report.repetitions.remove(&Repeated::Module(0, 1));
        report.see(&section, 2.0);
        report.see(&section, 5.0);
        assert_eq!(report.repetitions[&Repeated::Initiate].period_s(), Some(3.0));
    }

    #[test]
    fn carousels_beyond_the_limit_are_counted_and_the_others_received() {
        let pids: Vec<Pid> = (0..=MAX_CAROUSELS as u16).map(|at| Pid::new(0x200 + at)).collect();
        let pmt_pid = Pid::new(0x100);
        let pat = Pat { transport_stream_id: 1, programs: vec![(1, pmt_pid)] };
        let stream =
            |pid: &Pid| Stream { stream_type: STREAM_TYPE_CAROUSEL, pid: *pid, descriptors: Vec::new() };
        let pmt = Pmt { service_id: 1, pcr_pid: Pid::NULL, streams: pids.iter().map(stream).collect() };
        let mut sections = vec![(Pid::PAT, Vec::new()), (pmt_pid, Vec::new())];
        pat.write(&mut sections[0].1, 0).unwrap();
        pmt.write(&mut sections[1].1, 0).unwrap();
        sections.extend(pids.iter().map(|pid| (*pid, initiate())));
        // The first one again: it is known.
        sections.push((pids[0], initiate()));
        let (mut report, mut found) = (StreamReport::new(None), StreamContent::default());
        let mut packetizers: BTreeMap<Pid, Packetizer> = BTreeMap::new();
        for (pid, section) in sections {
            let packetizer = packetizers.entry(pid).or_insert_with(|| Packetizer::new(pid));
            packetizer.push(&section);
            let mut packet = [0; PACKET_BYTES];
            while packetizer.next(&mut packet, true) {
                report.packet(&packet, 0.0, &mut found, None).unwrap();
            }
        }
        assert_eq!((report.carousels.len(), report.left_out), (MAX_CAROUSELS, 1));
        assert_eq!(report.carousels[&pids[0]].repetitions[&Repeated::Initiate].count, 2);
    }
}
