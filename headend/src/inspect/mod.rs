//! `headend inspect`: report on a broadcast, recorded or live. Built from the same views that the daemon trusts.

mod extract;
mod live;
mod report;
mod source;
mod stream;
mod stream_report;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use carousel::Digest;
use carousel::alc::Packet;
use carousel::fec::BlockId;
use carousel::flute::{
    Content, Event, File, MemoryBuf, OpenRequest, Receiver, ReceiverConfig, Refusal, SessionKey, Sessions,
    Storage, verify,
};
use carousel::growing::End;
use carousel::lct::{Toi, Tsi};
use carousel::mabr::ChunkName;
use carousel::multiplex::wrapping::Recognizer;
use carousel::route::lls::{self, ListReport, ServiceDirectory};
use carousel::route::{ChannelState, Evidence, evidence};
use carousel::time::Instant;

pub use extract::Extractor;
pub use report::{to_json, to_table};
pub use source::{Source, run};
use stream::StreamContent;
pub use stream::{CarouselReport, FileReport, Repeated, Repetition, StreamReport};

carousel::limits! {
    /// Objects of a recording under reassembly at a time.
    const MAX_OPEN_BYTES: u64 = 4 << 30, "bytes" {
        why: "A recording of a large carousel has a few objects of some hundred megabytes open.",
        full: "The object is not received: its packets are listed as dropped, `no_room`.",
        free: "When an object is complete or given up.",
        test: "memory_for_objects_is_bounded_and_given_back",
    }
    /// Sessions of a report.
    const MAX_REPORTS: usize = 4_096, "sessions" {
        why: "A multiplex has tens; a hostile recording has another TSI in each packet.",
        full: "Packets of further sessions are counted as left out.",
        free: "Holds for one report.",
        test: "a_recording_of_invented_sessions_has_a_bounded_report",
    }
    /// Transport streams of a report.
    const MAX_STREAMS: usize = 64, "streams" {
        why: "A recording of a headend's output has some ten; each has its tables and sections.",
        full: "Datagrams of further streams are counted as left out.",
        free: "Holds for one report.",
        test: "a_recording_of_many_streams_has_a_bounded_report",
    }
    /// Objects of a report, and likewise files of DSM-CC carousels.
    const MAX_OBJECTS: usize = 1 << 18, "objects" {
        why: "Two sessions with as many files as their FDTs can describe; an entry has some 300 bytes.",
        full: "Further ones are counted as left out.",
        free: "Holds for one report.",
        test: "objects_and_files_beyond_the_report_are_counted",
    }
}

/// One session in the report.
#[derive(Debug, Clone)]
pub struct SessionReport {
    /// Source address, group, port and TSI.
    pub key: SessionKey,
    /// Number of times that each trace of the protocol was seen.
    pub evidence: BTreeMap<Evidence, u64>,
    /// Packets.
    pub packets: u64,
    /// UDP payload bytes.
    pub bytes: u64,
    /// Packets missing by gaps in the sequence of symbols.
    pub lost: u64,
    /// Times of the first and last packet in seconds from the start.
    pub first_s: f64,
    /// See `first_s`.
    pub last_s: f64,
    /// FDT Instances that were new, and times between FDT packets.
    pub fdt_instances: u64,
    /// Longest time without a packet of TOI 0, s.
    pub fdt_gap_s: f64,
    /// Packets dropped, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Whether the A flag was seen.
    pub closed: bool,
    /// Packets of ROUTE. A session of ROUTE may carry packets of FLUTE, too.
    pub route_packets: u64,
    /// State of the channel by the receiver of ROUTE.
    pub route: Option<ChannelState>,
    fdt_last_s: Option<f64>,
}

impl SessionReport {
    /// `FLUTE` or `ROUTE`, and the evidence for it.
    pub fn protocol(&self) -> (&'static str, &'static str) {
        if self.route.as_ref().is_some_and(|it| !it.protects.is_empty()) {
            return ("ROUTE", "RepairFlow in the S-TSID");
        }
        let is_route = 2 * self.route_packets > self.packets;
        let strongest = self.evidence.keys().find(|it| it.is_route() == is_route);
        (if is_route { "ROUTE" } else { "FLUTE" }, strongest.map_or("no packets", |it| it.as_str()))
    }
}

/// One version of an object in the report.
#[derive(Debug, Clone)]
pub struct ObjectReport {
    /// Its session.
    pub key: SessionKey,
    /// Its TOI.
    pub toi: Toi,
    /// Its name; `None` if no FDT named it.
    pub uri: Option<String>,
    /// MIME type.
    pub content_type: Option<String>,
    /// Content encoding on the air.
    pub encoding: Option<String>,
    /// Bytes of the object, decoded.
    pub length: u64,
    /// Bytes on the air.
    pub transfer_length: u64,
    /// Bytes of `transfer_length` that arrived.
    pub received: u64,
    /// SHA-256 of the object, decoded; only when complete.
    pub digest: Option<Digest>,
    /// Whether the FDT's own digests were checked.
    pub checked: bool,
    /// Reason why a complete object is not valid: digest, length or encoding.
    pub wrong: Option<&'static str>,
    /// Time of completion, seconds from the start.
    pub complete_s: Option<f64>,
    /// Evidence of the end of an object that was sent while it was made.
    pub end: Option<End>,
    /// Segment and offset, of a chunk of FLUTE.
    pub chunk_of: Option<(String, u64)>,
    /// Path that it was extracted to.
    pub extracted: Option<PathBuf>,
}

/// Storage in memory, within a limit.
#[derive(Debug, Default)]
struct Memory {
    open_bytes: Arc<std::sync::atomic::AtomicU64>,
}

/// Buffer of an object; its bytes count against the limit until it is dropped.
#[derive(Debug)]
struct ObjectBuf {
    object: MemoryBuf,
    open_bytes: Arc<std::sync::atomic::AtomicU64>,
}

impl Drop for ObjectBuf {
    fn drop(&mut self) {
        self.open_bytes.fetch_sub(self.object.bytes.len() as u64, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Storage for Memory {
    type Buf = ObjectBuf;

    fn open(&mut self, request: &OpenRequest<'_>) -> Result<ObjectBuf, Refusal> {
        let before = self.open_bytes.fetch_add(request.length, std::sync::atomic::Ordering::Relaxed);
        if before + request.length > MAX_OPEN_BYTES {
            self.open_bytes.fetch_sub(request.length, std::sync::atomic::Ordering::Relaxed);
            return Err(Refusal::NoRoom);
        }
        Ok(ObjectBuf { object: MemoryBuf::new(request.length), open_bytes: Arc::clone(&self.open_bytes) })
    }

    fn name(&mut self, _: &mut ObjectBuf, _: &Arc<File>) -> Result<(), Refusal> {
        Ok(())
    }

    fn write(&mut self, buf: &mut ObjectBuf, offset: u64, bytes: &[u8]) {
        buf.object.write(offset, bytes);
    }

    fn keep_repair(&mut self, buf: &mut ObjectBuf, slot: u32, bytes: &[u8]) -> bool {
        buf.object.keep_repair(slot, bytes)
    }
}

/// Decodes a block at once.
fn recover(receiver: &mut Receiver<ObjectBuf>, toi: Toi, block: BlockId, memory: &mut Memory) {
    let lost = receiver.recovery_job(toi, block).and_then(|job| {
        let buf = receiver.object(toi)?.buf();
        job.run(|place, out| buf.object.read(place, out))
    });
    receiver.recovered(toi, block, lost.as_deref(), memory);
}

/// Analyses datagrams for a report.
#[derive(Debug)]
pub struct Inspector {
    sessions: Sessions<ObjectBuf>,
    memory: Memory,
    live: live::Live,
    /// Services of ATSC.
    atsc: ServiceDirectory,
    reports: BTreeMap<SessionKey, SessionReport>,
    objects: Vec<ObjectReport>,
    recognizer: Recognizer,
    /// By destination; `None` is a file of packets.
    streams: BTreeMap<Option<SocketAddr>, StreamReport>,
    files: Vec<FileReport>,
    seen: std::collections::HashSet<(SessionKey, String, Digest)>,
    extractor: Option<Extractor>,
    start_ns: Option<u64>,
    last_ns: u64,
    /// Datagrams that are not ALC packets.
    pub not_alc: u64,
    /// Entries left out because there were too many.
    pub left_out: u64,
}

impl Inspector {
    /// `extractor` writes complete objects to files.
    pub fn new(extractor: Option<Extractor>) -> Self {
        Self {
            sessions: Sessions::default(),
            memory: Memory::default(),
            live: live::Live::default(),
            atsc: ServiceDirectory::default(),
            reports: BTreeMap::new(),
            objects: Vec::new(),
            recognizer: Recognizer::default(),
            streams: BTreeMap::new(),
            files: Vec::new(),
            seen: std::collections::HashSet::new(),
            extractor,
            start_ns: None,
            last_ns: 0,
            not_alc: 0,
            left_out: 0,
        }
    }

    /// Takes one datagram: of FLUTE or ROUTE, or one with transport stream packets or a baseband frame.
    ///
    /// # Errors
    /// An extracted file that cannot be written.
    pub fn datagram(
        &mut self,
        time_ns: u64,
        source: SocketAddr,
        destination: SocketAddr,
        payload: &[u8],
    ) -> Result<(), String> {
        let key = Some(destination);
        let wrapping = self.recognizer.wrapping(destination, payload);
        if wrapping.is_none() && !self.streams.get(&key).is_some_and(StreamReport::is_certain) {
            return self.packet(time_ns, source, destination, payload);
        }
        let seconds = self.seconds(time_ns);
        if self.streams.len() >= MAX_STREAMS && !self.streams.contains_key(&key) {
            self.left_out += 1;
            return Ok(());
        }
        let stream = self.streams.entry(key).or_insert_with(|| StreamReport::new(key));
        let found = stream.datagram(seconds, payload, self.extractor.as_mut())?;
        self.take_found(time_ns, found)
    }

    /// Takes a datagram if it is one of low-level signalling, ahead of the others.
    pub fn lls(&mut self, source: SocketAddr, destination: SocketAddr, payload: &[u8]) {
        if destination == lls::GROUP {
            self.atsc.datagram(Instant::from_nanos(0), source.ip(), destination, payload);
        }
    }

    /// Takes one packet of a transport stream in a file.
    ///
    /// # Errors
    /// As for [`Inspector::datagram`].
    pub fn ts_packet(
        &mut self,
        time_ns: u64,
        packet: &[u8; carousel::ts::PACKET_BYTES],
    ) -> Result<(), String> {
        let seconds = self.seconds(time_ns);
        let stream = self.streams.entry(None).or_insert_with(|| StreamReport::new(None));
        let mut found = StreamContent::default();
        stream.packet(packet, seconds, &mut found, self.extractor.as_mut())?;
        self.take_found(time_ns, found)
    }

    /// Says what the bit rate of the file of packets is.
    pub fn set_rate(&mut self, rate_bps: Option<f64>) {
        self.streams.entry(None).or_insert_with(|| StreamReport::new(None)).rate_bps = rate_bps;
    }

    fn take_found(&mut self, time_ns: u64, found: StreamContent) -> Result<(), String> {
        for file in found.files {
            if self.files.len() < MAX_OBJECTS {
                self.files.push(file);
            } else {
                self.left_out += 1;
            }
        }
        for (source, destination, payload) in found.datagrams {
            self.packet(time_ns, source, destination, &payload)?;
        }
        Ok(())
    }

    /// Seconds from the start.
    fn seconds(&mut self, time_ns: u64) -> f64 {
        let start_ns = *self.start_ns.get_or_insert(time_ns);
        self.last_ns = self.last_ns.max(time_ns);
        time_ns.saturating_sub(start_ns) as f64 / 1e9
    }

    /// Takes one packet of FLUTE or ROUTE.
    fn packet(
        &mut self,
        time_ns: u64,
        source: SocketAddr,
        destination: SocketAddr,
        payload: &[u8],
    ) -> Result<(), String> {
        let seconds = self.seconds(time_ns);
        if destination == lls::GROUP {
            let now = Instant::from_nanos(time_ns.saturating_sub(self.start_ns.unwrap_or(time_ns)));
            if self.atsc.datagram(now, source.ip(), destination, payload) {
                return self.describe_routes(seconds);
            }
            return Ok(());
        }
        let Ok(packet) = Packet::parse(payload) else {
            self.not_alc += 1;
            return Ok(());
        };
        let tsi = packet.lct.tsi.unwrap_or(Tsi(0));
        let key = SessionKey { source: source.ip(), destination, tsi };
        if self.reports.len() >= MAX_REPORTS && !self.reports.contains_key(&key) {
            self.left_out += 1;
            return Ok(());
        }
        let is_route = self.live.is_route(&key, &packet);
        let report = self.reports.entry(key).or_insert_with(|| SessionReport {
            key,
            evidence: BTreeMap::new(),
            packets: 0,
            bytes: 0,
            lost: 0,
            first_s: seconds,
            last_s: seconds,
            fdt_instances: 0,
            fdt_gap_s: 0.0,
            dropped: BTreeMap::new(),
            closed: false,
            route_packets: 0,
            route: None,
            fdt_last_s: None,
        });
        report.packets += 1;
        report.bytes += payload.len() as u64;
        report.last_s = seconds;
        *report.evidence.entry(evidence(&packet)).or_default() += 1;
        if packet.lct.toi == Some(Toi::FDT) && packet.fdt.is_some() {
            let gap = seconds - report.fdt_last_s.replace(seconds).unwrap_or(seconds);
            report.fdt_gap_s = report.fdt_gap_s.max(gap);
        }
        report.route_packets += u64::from(is_route);
        let now = Instant::from_nanos(time_ns.saturating_sub(self.start_ns.unwrap_or(time_ns)));
        if is_route {
            return self.route_packet(now, key, seconds, &packet, payload.len());
        }
        let left_out = &mut self.left_out;
        let receiver = self.sessions.get_or_open(key, |_| ReceiverConfig::default(), |_, _| *left_out += 1);
        // A recording is history: nothing in it expires.
        receiver.handle_packet(now, None, &packet, payload, &mut self.memory);
        let mut events = Vec::new();
        while let Some(event) = receiver.poll_event() {
            match event {
                Event::BlockReady { toi, block } => recover(receiver, toi, block, &mut self.memory),
                event => events.push(event),
            }
        }
        for event in events {
            self.event(key, seconds, event)?;
        }
        Ok(())
    }

    fn event(&mut self, key: SessionKey, seconds: f64, event: Event<ObjectBuf>) -> Result<(), String> {
        match event {
            Event::Fdt { new_files, .. } => {
                self.report_mut(&key, |report| report.fdt_instances += 1);
                self.name_by_flute(key, seconds, &new_files)?;
            }
            Event::SessionClosed => self.report_mut(&key, |report| report.closed = true),
            Event::Complete { file, buf, .. } => {
                self.complete(key, seconds, &file, &buf.object.bytes)?;
                self.chunk(key, seconds, &file, &buf.object.bytes)?;
            }
            Event::Stalled { .. }
            | Event::Replaced { .. }
            | Event::Abandoned { .. }
            | Event::Opened { .. }
            | Event::Resumed { .. }
            | Event::Refused { .. }
            | Event::Expired { .. }
            | Event::BlockReady { .. }
            | Event::SessionSilent => {}
        }
        Ok(())
    }

    fn report_mut(&mut self, key: &SessionKey, change: impl FnOnce(&mut SessionReport)) {
        if let Some(report) = self.reports.get_mut(key) {
            change(report);
        }
    }

    fn complete(
        &mut self,
        key: SessionKey,
        seconds: f64,
        file: &File,
        transported: &[u8],
    ) -> Result<(), String> {
        let mut object = describe(key, file, transported.len() as u64);
        match verify(file, transported) {
            Ok(content) => {
                let version = (key, file.content_location.clone(), content.digest);
                if self.seen.contains(&version) {
                    return Ok(());
                }
                if self.objects.len() < MAX_OBJECTS {
                    self.seen.insert(version);
                }
                self.add_valid(object, seconds, transported, content)
            }
            Err(err) => {
                object.wrong = Some(err.as_str());
                // The next pass may bring it right.
                if let Some(receiver) = self.sessions.get_mut(&key) {
                    receiver.reject(file.toi);
                }
                self.add(object);
                Ok(())
            }
        }
    }

    /// Adds a complete object whose content is right, and extracts it. A chunk is extracted with its segment; what is left
    /// out of the report is not extracted either.
    fn add_valid(
        &mut self,
        mut object: ObjectReport,
        seconds: f64,
        transported: &[u8],
        content: Content,
    ) -> Result<(), String> {
        if self.objects.len() < MAX_OBJECTS {
            let bytes = content.decoded.as_deref().unwrap_or(transported);
            object.length = bytes.len() as u64;
            object.digest = Some(content.digest);
            object.checked = content.checked;
            object.complete_s = Some(seconds);
            if let Some(extractor) = self.extractor.as_mut().filter(|_| object.chunk_of.is_none()) {
                let name = object.uri.as_deref().unwrap_or_default();
                object.extracted = extractor.write(name, bytes)?;
            }
        }
        self.add(object);
        Ok(())
    }

    fn add(&mut self, object: ObjectReport) {
        if self.objects.len() < MAX_OBJECTS {
            self.objects.push(object);
        } else {
            self.left_out += 1;
        }
    }

    /// Ends the analysis; incomplete objects are reported too.
    ///
    /// # Errors
    /// An extracted file that cannot be written.
    pub fn finish(mut self) -> Result<Report, String> {
        let mut incomplete = self.finish_live()?;
        for (key, receiver) in self.sessions.iter() {
            if let Some(report) = self.reports.get_mut(key) {
                finish_session(report, receiver);
            }
            for object in receiver.in_flight() {
                let received = object.received();
                let unnamed = File { toi: object.toi(), ..File::default() };
                let mut entry =
                    describe(*key, object.file().map_or(&unnamed, |file| file), received.received_bytes());
                entry.transfer_length = received.length();
                incomplete.push(entry);
            }
            incomplete.extend(receiver.unseen().map(|file| describe(*key, file, 0)));
        }
        incomplete.sort_by_key(|object| (object.key, object.toi));
        for object in incomplete {
            self.add(object);
        }
        let duration_s = self.last_ns.saturating_sub(self.start_ns.unwrap_or(self.last_ns)) as f64 / 1e9;
        Ok(Report {
            sessions: self.reports.into_values().collect(),
            objects: self.objects,
            service_lists: self.atsc.report(),
            streams: self.streams.into_values().collect(),
            files: self.files,
            not_alc: self.not_alc,
            left_out: self.left_out,
            not_extracted: self.extractor.as_ref().map_or(0, |it| it.not_extracted),
            truncated: false,
            duration_s,
        })
    }
}

fn finish_session(report: &mut SessionReport, receiver: &Receiver<ObjectBuf>) {
    let stats = receiver.stats();
    report.lost = stats.lost;
    for (reason, count) in carousel::flute::DropReason::ALL.iter().zip(stats.dropped) {
        if count > 0 {
            report.dropped.insert(reason.as_str(), count);
        }
    }
}

fn describe(key: SessionKey, file: &File, received: u64) -> ObjectReport {
    let chunk = ChunkName::split(&file.content_location);
    ObjectReport {
        key,
        toi: file.toi,
        uri: Some(file.content_location.clone()).filter(|uri| !uri.is_empty()),
        content_type: file.content_type.clone(),
        encoding: file.encoding.as_attribute().map(str::to_owned),
        length: file.content_length.or(file.transfer_length).unwrap_or(0),
        transfer_length: file.on_air_length().unwrap_or(received),
        received,
        digest: None,
        checked: false,
        wrong: None,
        complete_s: None,
        end: None,
        chunk_of: chunk.map(|chunk| (chunk.object.to_owned(), chunk.offset)),
        extracted: None,
    }
}

/// Report on a recording or a link.
#[derive(Debug)]
pub struct Report {
    /// Sessions in the order of their addresses.
    pub sessions: Vec<SessionReport>,
    /// Objects: complete ones in the order of completion, then the others.
    pub objects: Vec<ObjectReport>,
    /// Transport streams and series of baseband frames.
    pub streams: Vec<StreamReport>,
    /// Complete files of their carousels.
    pub files: Vec<FileReport>,
    /// Service lists of ATSC low-level signalling.
    pub service_lists: Vec<ListReport>,
    /// Datagrams that are not ALC packets.
    pub not_alc: u64,
    /// Entries and packets left out because there were too many.
    pub left_out: u64,
    /// Objects that were not written to files, for lack of room.
    pub not_extracted: u64,
    /// Whether the recording ends inside a frame.
    pub truncated: bool,
    /// From the first to the last packet.
    pub duration_s: f64,
}

impl Report {
    /// Whether no packet of any kind has arrived.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
            && self.streams.is_empty()
            && self.service_lists.is_empty()
            && self.not_alc == 0
    }
}

#[cfg(test)]
mod tests;
