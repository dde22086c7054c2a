//! Demultiplexing of one transport stream by its tables: DSM-CC carousels and IP. [`wrapping`] takes the stream out of
//! datagrams.
//!
//! PIDs whose PMT announces DSM-CC sections are opened; so are PIDs that no PMT names, or that it names as something else,
//! when such sections begin in them: recordings of one PID have no tables, and the tables of some senders lack the
//! carousel's descriptors. Such PIDs are *undeclared*.

pub mod wrapping;

use std::collections::BTreeMap;

use crate::dsmcc::message::{TABLE_CONTROL, TABLE_DATA};
use crate::dsmcc::signed::TABLE_SIGNED;
use crate::limits;
use crate::limits::{MAX_PDU_BYTES_OPEN, MAX_PROGRAMS, MAX_UNDECLARED_PIDS};
use crate::mpe::{self, MpeDrop};
use crate::time::WallTime;
use crate::ts::demux::Demux;
use crate::ts::psi::{self, Nit, Pat, Pmt, Sdt, Service, SoftwareUpdate, Stream};
use crate::ts::section::{Section, SectionDrop};
use crate::ts::{PACKET_BYTES, Packet, Pid};

/// The lowest PID that is not reserved for tables.
const FIRST_FREE_PID: u16 = 0x20;
/// Sections with our tables on PIDs without a place after which PIDs that have been silent lose theirs.
const SILENCE_SECTIONS: u32 = 1_024;

limits! {
    /// Services of one transport stream with their names.
    const MAX_SERVICES: usize = 4_096, "services" {
        why: "256 sections of an SDT hold about 4,000 short names.",
        full: "Further services have no name; counted as `too_many_services`.",
        free: "When the transport stream changes.",
        test: "services_beyond_the_limit_are_counted_until_the_stream_changes",
    }
}

/// A PID with sections of ours that no PMT names.
#[derive(Debug, Clone, Copy, Default)]
struct Undeclared {
    /// A correct section of ours has arrived.
    is_right: bool,
    /// Packets of the PID when it was last examined for silence.
    packets: u64,
}

/// Output of a stream.
#[derive(Debug)]
pub enum Delivery<'a> {
    /// A section of a carousel: DSI, DII or DDB.
    Carousel(Pid, &'a Section<'a>),
    /// An IP packet.
    Ip(Pid, &'a [u8]),
    /// The tables no longer announce this PID, or announce something else on it.
    Gone(Pid),
}

/// A stream of a programme that carries data for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Its PID.
    pub pid: Pid,
    /// Service that it belongs to; `None` if no PMT names it.
    pub service_id: Option<u16>,
    /// stream_type of the PMT.
    pub stream_type: Option<u8>,
    /// component_tag.
    pub component_tag: Option<u8>,
    /// carousel_id.
    pub carousel_id: Option<u32>,
    /// data_broadcast_id.
    pub data_broadcast_id: Option<u16>,
    /// Makers whose receivers find system software updates in it; empty for all other streams.
    pub software_updates: Vec<SoftwareUpdate>,
}

impl Component {
    /// Whether the PMT has the descriptors that make a carousel or IP stream known to receivers.
    pub const fn is_declared(&self) -> bool {
        self.carousel_id.is_some() || self.data_broadcast_id.is_some()
    }

    fn of(service_id: u16, stream: &Stream) -> Self {
        Self {
            pid: stream.pid,
            service_id: Some(service_id),
            stream_type: Some(stream.stream_type),
            component_tag: stream.component_tag(),
            carousel_id: stream.carousel_id(),
            data_broadcast_id: stream.data_broadcast_id(),
            software_updates: stream.software_updates(),
        }
    }
}

/// One programme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// PID of its PMT.
    pub pmt_pid: Pid,
    /// The PMT, once it has come.
    pub pmt: Option<Pmt>,
}

/// Tables of the stream.
#[derive(Debug, Default)]
pub struct Tables {
    /// transport_stream_id.
    pub transport_stream_id: Option<u16>,
    /// original_network_id.
    pub original_network_id: Option<u16>,
    /// Programmes by service_id.
    pub programs: BTreeMap<u16, Program>,
    /// Names by service_id.
    pub services: BTreeMap<u16, Service>,
    /// The network, its first transport stream.
    pub network: Option<Nit>,
    /// The time that the stream says it is.
    pub time: Option<WallTime>,
    pat_version: Option<u8>,
    /// PIDs with sections of ours that no PMT names as such, and whether a right one has come.
    undeclared: BTreeMap<Pid, Undeclared>,
    /// Sections of further PIDs since silent ones were looked for.
    without_place: u32,
    changes: Vec<Change>,
    generation: u64,
    too_many_pids: u64,
    too_many_programs: u64,
    too_many_services: u64,
    bad_tables: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Open(Pid),
    Close(Pid),
}

impl Tables {
    /// The component with this PID.
    pub fn component(&self, pid: Pid) -> Option<Component> {
        let of = |(service_id, stream): (u16, &Stream)| Component::of(service_id, stream);
        self.streams().find(|(_, stream)| stream.pid == pid).map(of).or_else(|| {
            self.undeclared.get(&pid).filter(|it| it.is_right).map(|_| Component {
                pid,
                service_id: None,
                stream_type: None,
                component_tag: None,
                carousel_id: None,
                data_broadcast_id: None,
                software_updates: Vec::new(),
            })
        })
    }

    /// A number that changes with the streams of programmes.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Every stream of every programme.
    pub fn streams(&self) -> impl Iterator<Item = (u16, &Stream)> {
        self.programs.iter().flat_map(|(service_id, program)| {
            program.pmt.iter().flat_map(|pmt| &pmt.streams).map(move |stream| (*service_id, stream))
        })
    }

    /// PIDs that were not looked into for want of room, programmes left out, tables that could not be read.
    pub const fn refused(&self) -> [(&'static str, u64); 4] {
        [
            ("too_many_pids", self.too_many_pids),
            ("too_many_programs", self.too_many_programs),
            ("too_many_services", self.too_many_services),
            ("bad_table", self.bad_tables),
        ]
    }

    #[cold]
    fn pat(&mut self, section: &Section<'_>) {
        let Ok(pat) = Pat::read(section) else {
            self.bad_tables += 1;
            return;
        };
        if self.pat_version.replace(section.version) != Some(section.version)
            || self.transport_stream_id != Some(pat.transport_stream_id)
        {
            if self.transport_stream_id.replace(pat.transport_stream_id) != Some(pat.transport_stream_id) {
                self.services.clear();
            }
            self.generation += 1;
            for program in std::mem::take(&mut self.programs).into_values() {
                self.changes.push(Change::Close(program.pmt_pid));
                self.changes.extend(data_pids(program.pmt.as_ref()).map(Change::Close));
            }
        }
        for (service_id, pmt_pid) in pat.programs {
            if self.programs.contains_key(&service_id) {
                continue;
            }
            if self.programs.len() >= MAX_PROGRAMS {
                self.too_many_programs += 1;
                continue;
            }
            self.programs.insert(service_id, Program { pmt_pid, pmt: None });
            self.changes.push(Change::Open(pmt_pid));
        }
    }

    #[cold]
    fn pmt(&mut self, pid: Pid, section: &Section<'_>) {
        let Some(program) = self.programs.get_mut(&section.extension).filter(|it| it.pmt_pid == pid) else {
            return;
        };
        let Ok(pmt) = Pmt::read(section) else {
            self.bad_tables += 1;
            return;
        };
        if program.pmt.as_ref() == Some(&pmt) {
            return;
        }
        let gone = data_pids(program.pmt.as_ref()).filter(|pid| !data_pids(Some(&pmt)).any(|it| it == *pid));
        self.changes.extend(gone.map(Change::Close));
        self.changes.extend(data_pids(Some(&pmt)).map(Change::Open));
        for pid in data_pids(Some(&pmt)) {
            self.undeclared.remove(&pid);
        }
        program.pmt = Some(pmt);
        self.generation += 1;
    }

    #[cold]
    fn si(&mut self, pid: Pid, section: &Section<'_>) {
        match (pid, section.table_id) {
            (Pid::SDT, psi::SDT) => match Sdt::read(section) {
                Ok(sdt) => {
                    self.original_network_id = Some(sdt.original_network_id);
                    for service in sdt.services {
                        if self.services.len() < MAX_SERVICES
                            || self.services.contains_key(&service.service_id)
                        {
                            self.services.insert(service.service_id, service);
                        } else {
                            self.too_many_services += 1;
                        }
                    }
                }
                Err(_) => self.bad_tables += 1,
            },
            (Pid::NIT, psi::NIT) => match Nit::read(section) {
                Ok(nit) => self.network = Some(nit),
                Err(_) => self.bad_tables += 1,
            },
            _ => {}
        }
    }

    /// Whether this PID carries a PMT.
    fn has_pmt(&self, pid: Pid) -> bool {
        self.programs.values().any(|it| it.pmt_pid == pid)
    }
}

/// PIDs of a programme that may carry sections of ours.
fn data_pids(pmt: Option<&Pmt>) -> impl Iterator<Item = Pid> {
    let streams = pmt.into_iter().flat_map(|pmt| &pmt.streams);
    streams
        .filter(|stream| {
            matches!(stream.stream_type, psi::STREAM_TYPE_CAROUSEL | psi::STREAM_TYPE_DSMCC_SECTIONS)
                || stream.carousel_id().is_some()
                || stream.data_broadcast_id().is_some()
        })
        .map(|stream| stream.pid)
        .filter(|pid| pid.get() >= FIRST_FREE_PID && *pid != Pid::NULL)
}

/// The demultiplexer of one transport stream: packets of 188 bytes in; sections of carousels and IP datagrams out.
#[derive(Debug)]
pub struct Multiplex {
    demux: Demux,
    tables: Tables,
    mpe: BTreeMap<Pid, mpe::Reassembly>,
    /// Sections without a datagram of PIDs that are closed, so that counters never fall.
    mpe_dropped_before: [u64; MpeDrop::ALL.len()],
}

impl Default for Multiplex {
    fn default() -> Self {
        let mut demux = Demux::default();
        for pid in [Pid::PAT, Pid::NIT, Pid::SDT, Pid::TDT] {
            demux.open(pid);
        }
        Self {
            demux,
            tables: Tables::default(),
            mpe: BTreeMap::new(),
            mpe_dropped_before: Default::default(),
        }
    }
}

impl Multiplex {
    /// Takes a packet; `each` gets what ends in it.
    #[inline]
    pub fn push(&mut self, bytes: &[u8; PACKET_BYTES], mut each: impl FnMut(Delivery<'_>)) {
        if bytes[1] & 0x40 != 0 && !self.demux.is_open(Pid::new(u16::from_be_bytes([bytes[1], bytes[2]]))) {
            self.examine_undeclared(bytes);
        }
        let Self { demux, tables, mpe, .. } = self;
        demux.push(bytes, |pid, section| match section {
            Ok(section) => match section.table_id {
                TABLE_CONTROL | TABLE_DATA | TABLE_SIGNED => {
                    if let Some(undeclared) = tables.undeclared.get_mut(&pid) {
                        undeclared.is_right = true;
                    }
                    each(Delivery::Carousel(pid, &section));
                }
                mpe::TABLE_DATAGRAM => {
                    if let Some(undeclared) = tables.undeclared.get_mut(&pid) {
                        undeclared.is_right = true;
                    }
                    if section.last_number > 0 {
                        make_room(mpe, section.body.len());
                    }
                    if let Some(packet) = mpe.entry(pid).or_default().push(&section) {
                        each(Delivery::Ip(pid, packet));
                    }
                }
                _ if !section.current => {}
                psi::PAT if pid == Pid::PAT => tables.pat(&section),
                psi::PMT => tables.pmt(pid, &section),
                _ => tables.si(pid, &section),
            },
            Err((SectionDrop::NoCrc, bytes)) if pid == Pid::TDT => tables.time = psi::read_time(bytes),
            Err(_) => {
                if tables.undeclared.get(&pid).is_some_and(|it| !it.is_right) {
                    tables.changes.push(Change::Close(pid));
                }
            }
        });
        if !self.tables.changes.is_empty() {
            self.apply(&mut each);
        }
    }

    /// A payload unit begins on a PID that is not open: opens the PID if the unit may be a section that we read.
    #[cold]
    fn examine_undeclared(&mut self, bytes: &[u8; PACKET_BYTES]) {
        let Ok(packet) = Packet::parse(bytes) else { return };
        let Some((&pointer, rest)) = packet.payload.split_first() else { return };
        let Some(&[table_id, flags, ..]) = rest.get(usize::from(pointer)..) else { return };
        let is_ours = matches!(table_id, TABLE_CONTROL | TABLE_DATA | mpe::TABLE_DATAGRAM)
            // With CRC_32, or with a checksum and the private_indicator that is its complement then.
            && (flags & 0xb0 == 0xb0 || flags & 0xf0 == 0x70)
            && packet.pid.get() >= FIRST_FREE_PID
            && !packet.scrambled;
        if !is_ours {
            return;
        }
        if self.tables.undeclared.len() >= MAX_UNDECLARED_PIDS || !self.demux.open(packet.pid) {
            self.tables.too_many_pids += 1;
            self.close_silent_pids();
        } else {
            self.tables.undeclared.insert(packet.pid, Undeclared::default());
        }
    }

    /// Closes PIDs without a packet since this was last due.
    fn close_silent_pids(&mut self) {
        self.tables.without_place += 1;
        if self.tables.without_place < SILENCE_SECTIONS {
            return;
        }
        self.tables.without_place = 0;
        for (pid, undeclared) in &mut self.tables.undeclared {
            let packets = self.demux.count(*pid).packets;
            if packets == undeclared.packets {
                self.tables.changes.push(Change::Close(*pid));
            }
            undeclared.packets = packets;
        }
    }

    #[cold]
    fn apply(&mut self, each: &mut impl FnMut(Delivery<'_>)) {
        for change in std::mem::take(&mut self.tables.changes) {
            match change {
                Change::Open(pid) => {
                    if !self.demux.open(pid) {
                        self.tables.too_many_pids += 1;
                    }
                }
                Change::Close(pid) => {
                    // Another programme may have it still.
                    let is_used = self.tables.has_pmt(pid)
                        || self
                            .tables
                            .programs
                            .values()
                            .any(|it| data_pids(it.pmt.as_ref()).any(|it| it == pid));
                    if !is_used && pid.get() >= FIRST_FREE_PID {
                        self.demux.close(pid);
                        for (why, count) in self.mpe.remove(&pid).iter().flat_map(mpe::Reassembly::dropped) {
                            self.mpe_dropped_before[why as usize] += count;
                        }
                        self.tables.undeclared.remove(&pid);
                        each(Delivery::Gone(pid));
                    }
                }
            }
        }
    }

    /// Packets, sections, datagrams and tables dropped, by the names of their metrics; a name may come more than
    /// once.
    pub fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let packets = self.demux.dropped().map(|(why, count)| (why.as_str(), count));
        let sections = self.demux.sections_dropped().map(|(why, count)| (why.as_str(), count));
        let before = MpeDrop::ALL.iter().map(|&why| (why, self.mpe_dropped_before[why as usize]));
        let datagrams = self.mpe.values().flat_map(mpe::Reassembly::dropped).chain(before);
        let datagrams = datagrams.map(|(why, count)| (why.as_str(), count));
        packets.chain(sections).chain(datagrams).chain(self.tables.refused())
    }

    /// Tables of the stream.
    pub const fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Counts of PIDs, packets and sections.
    pub const fn demux(&self) -> &Demux {
        &self.demux
    }

    /// PIDs with IP, with what gave no datagram there.
    pub fn mpe(&self) -> impl Iterator<Item = (Pid, &mpe::Reassembly)> {
        self.mpe.iter().map(|(pid, it)| (*pid, it))
    }

    /// Forgets begun sections, as after a change of channel or a loss of lock; tables and counts stay.
    pub fn reset(&mut self) {
        self.demux.reset();
    }
}

/// Drops datagrams under reassembly until `bytes` more are within the limit: of the PID that has the most, so that a flood on some PIDs
/// costs the others nothing.
#[cold]
fn make_room(mpe: &mut BTreeMap<Pid, mpe::Reassembly>, bytes: usize) {
    while mpe.values().map(mpe::Reassembly::open_bytes).sum::<usize>() + bytes > MAX_PDU_BYTES_OPEN {
        let largest = mpe.values_mut().max_by_key(|it| it.open_bytes());
        if !largest.is_some_and(mpe::Reassembly::drop_oldest) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ts::Packetizer;
    use crate::ts::section::SectionHead;

    fn packets(pid: u16, section: &[u8]) -> Vec<[u8; PACKET_BYTES]> {
        let mut packetizer = Packetizer::new(Pid::new(pid));
        packetizer.push(section);
        let (mut packet, mut all) = ([0; PACKET_BYTES], Vec::new());
        while packetizer.next(&mut packet, true) {
            all.push(packet);
        }
        all
    }

    /// A sender that numbers the packets of each PID.
    #[derive(Default)]
    struct Air {
        multiplex: Multiplex,
        counters: BTreeMap<u16, u8>,
    }

    impl Air {
        fn play(&mut self, all: &[(u16, Vec<u8>)]) -> Vec<String> {
            let mut out = Vec::new();
            for (pid, section) in all {
                for mut packet in packets(*pid, section) {
                    let counter = self.counters.entry(*pid).or_default();
                    packet[3] = packet[3] & 0xf0 | *counter & 0x0f;
                    *counter = counter.wrapping_add(1);
                    self.multiplex.push(&packet, |delivery| {
                        out.push(match delivery {
                            Delivery::Carousel(pid, section) => format!("{pid}:{:x}", section.table_id),
                            Delivery::Ip(pid, _) => format!("{pid}:ip"),
                            Delivery::Gone(pid) => format!("{pid}:gone"),
                        });
                    });
                }
            }
            out
        }
    }

    fn section(table_id: u8) -> Vec<u8> {
        let head =
            SectionHead { table_id, private: false, extension: 1, version: 0, number: 0, last_number: 0 };
        let mut out = Vec::new();
        head.write(&mut out, |out| {
            out.extend_from_slice(&[0; 20]);
            Ok(())
        })
        .unwrap();
        out
    }

    fn part_of_a_datagram(mac: u16, number: u8) -> Vec<u8> {
        let table_id = mpe::TABLE_DATAGRAM;
        let head =
            SectionHead { table_id, private: false, extension: mac, version: 0, number, last_number: 1 };
        let mut datagram = vec![0; 8000];
        datagram[..4].copy_from_slice(&[0x45, 0, 0x1f, 0x40]);
        let mut out = Vec::new();
        head.write(&mut out, |out| {
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&datagram[usize::from(number) * 4000..][..4000]);
            Ok(())
        })
        .unwrap();
        out
    }

    #[test]
    fn datagrams_begun_on_many_pids_are_bounded_in_memory() {
        let mut air = Air::default();
        let open = |air: &Air| air.multiplex.mpe().map(|(_, it)| it.open_bytes()).sum::<usize>();
        let dropped = |air: &Air| {
            air.multiplex.dropped().filter(|it| it.0 == "too_many_open").map(|it| it.1).sum::<u64>()
        };
        air.play(&[(0x40, part_of_a_datagram(7, 0))]);
        // A flood on other PIDs costs the honest one nothing.
        for mac in 0..200 {
            air.play(&[0x41, 0x42, 0x43, 0x44].map(|pid| (pid, part_of_a_datagram(mac, 0))));
            assert!(open(&air) <= MAX_PDU_BYTES_OPEN);
        }
        assert!(open(&air) + 4000 > MAX_PDU_BYTES_OPEN);
        assert_eq!(dropped(&air), 801 - MAX_PDU_BYTES_OPEN as u64 / 4000);
        assert_eq!(air.play(&[(0x40, part_of_a_datagram(7, 1))]), ["64:ip"]);
        // What is complete frees its room.
        assert_eq!(air.play(&[(0x41, part_of_a_datagram(199, 1))]), ["65:ip"]);
        assert!(open(&air) + 2 * 4000 <= MAX_PDU_BYTES_OPEN);
    }

    fn pat(version: u8, programs: &[(u16, u16)]) -> (u16, Vec<u8>) {
        let programs = programs.iter().map(|(id, pid)| (*id, Pid::new(*pid))).collect();
        let mut out = Vec::new();
        Pat { transport_stream_id: 1, programs }.write(&mut out, version).unwrap();
        (0, out)
    }

    fn pmt(service_id: u16, pid: u16, streams: &[(u16, u8)]) -> (u16, Vec<u8>) {
        let stream = |(pid, stream_type): &(u16, u8)| Stream {
            stream_type: *stream_type,
            pid: Pid::new(*pid),
            descriptors: Vec::new(),
        };
        let mut out = Vec::new();
        let pmt = Pmt { service_id, pcr_pid: Pid::NULL, streams: streams.iter().map(stream).collect() };
        pmt.write(&mut out, 0).unwrap();
        (pid, out)
    }

    #[test]
    fn declared_or_not_carousels_are_found_and_roles_change() {
        let mut air = Air::default();
        let carousel = |pid| (pid, section(TABLE_DATA));
        let seen = air.play(&[
            carousel(0x300),
            pat(0, &[(5, 0x100)]),
            pmt(5, 0x100, &[(0x200, 0x0b)]),
            carousel(0x200),
        ]);
        assert_eq!(seen, ["768:3c", "512:3c"]);
        let component = air.multiplex.tables().component(Pid::new(0x200)).unwrap();
        assert_eq!((component.service_id, component.is_declared()), (Some(5), false));
        assert_eq!(air.multiplex.tables().component(Pid::new(0x300)).unwrap().service_id, None);
        // The programme's stream becomes video, another PID the carousel.
        let seen = air.play(&[pmt(5, 0x100, &[(0x200, 0x1b), (0x201, 0x0d)])]);
        assert_eq!(seen, ["512:gone"]);
        let seen = air.play(&[pat(1, &[(6, 0x101)])]);
        assert_eq!(seen, ["256:gone", "513:gone"]);
    }

    #[test]
    fn all_pids_at_once_are_bounded_and_counted() {
        let mut air = Air::default();
        let undeclared = 1_000;
        let all: Vec<_> =
            (FIRST_FREE_PID..FIRST_FREE_PID + undeclared).map(|pid| (pid, section(TABLE_DATA))).collect();
        let seen = air.play(&all);
        assert_eq!(seen.len(), MAX_UNDECLARED_PIDS);
        let refused: u64 = air.multiplex.tables().refused().iter().map(|it| it.1).sum();
        assert_eq!(refused, u64::from(undeclared) - MAX_UNDECLARED_PIDS as u64);
        // PIDs that have gone silent make room for those that are sent now.
        let late = 0x1800_u16;
        let seen: Vec<String> =
            (0..2 * SILENCE_SECTIONS + 8).flat_map(|_| air.play(&[(late, section(TABLE_DATA))])).collect();
        assert!(seen.contains(&"6144:3c".to_owned()) && seen.contains(&"32:gone".to_owned()), "{seen:?}");
        // A programme that the tables name finds room all the same.
        let seen = air.play(&[
            pat(0, &[(5, 0x100)]),
            pmt(5, 0x100, &[(0x1000, 0x0b)]),
            (0x1000, section(TABLE_DATA)),
        ]);
        assert_eq!(seen, ["4096:3c"]);
        let programs: Vec<_> = (1..250).map(|id| (id, 0x400 + id)).collect();
        air.play(&[pat(1, &programs)]);
        assert_eq!(air.multiplex.tables().programs.len(), MAX_PROGRAMS);
        air.play(&[pat(2, &[(5, 0x100)])]);
        assert_eq!(air.multiplex.tables().programs.len(), 1, "the places are free again");
    }

    #[test]
    fn services_beyond_the_limit_are_counted_until_the_stream_changes() {
        let mut tables = Tables::default();
        let sdt = |from: u16| {
            let services = (from..from + 50).map(|service_id| Service {
                service_id,
                provider: String::new(),
                name: "x".to_owned(),
            });
            let sdt = Sdt { transport_stream_id: 1, original_network_id: 1, services: services.collect() };
            let mut out = Vec::new();
            sdt.write(&mut out, 0).unwrap();
            out
        };
        for from in 0..100 {
            tables.si(Pid::SDT, &Section::parse(&sdt(from * 50)).unwrap());
        }
        assert_eq!(tables.services.len(), MAX_SERVICES);
        assert_eq!(tables.refused()[2], ("too_many_services", 5000 - MAX_SERVICES as u64));
        let pat = |transport_stream_id| {
            let mut out = Vec::new();
            Pat { transport_stream_id, programs: vec![] }.write(&mut out, 0).unwrap();
            out
        };
        for id in [7, 8] {
            tables.pat(&Section::parse(&pat(id)).unwrap());
        }
        tables.si(Pid::SDT, &Section::parse(&sdt(20_000)).unwrap());
        assert_eq!(tables.services.len(), 50);
    }
}
