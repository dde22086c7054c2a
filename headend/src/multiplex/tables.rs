//! Programme and service tables of the stream, each at its interval (TR 101 211 clause 4.4).

use carousel::bytes::{WireError, Writer};
use carousel::dsmcc;
use carousel::time::WallTime;
use carousel::ts::descriptor;
use carousel::ts::psi::{
    self, Int, Nit, Pat, Pmt, SOFTWARE_UPDATE, SatelliteDelivery, Sdt, Service, SoftwareUpdate, Stream,
    UpdateLink, write_updates,
};
use carousel::ts::{PACKET_BYTES, Packetizer, Pid};

use crate::config::Config;
use crate::options::{Carry, Multiplex};

/// PAT and PMT: TR 101 290 wants them every 500 ms, good practice every 100 ms.
const PROGRAM_INTERVAL_MS: u64 = 100;
/// SDT of the actual stream: every 2 s at least.
const SDT_INTERVAL_MS: u64 = 1000;
/// NIT: every 10 s at least.
const NIT_INTERVAL_MS: u64 = 5000;
/// TDT and TOT: every 30 s at least.
const TIME_INTERVAL_MS: u64 = 5000;
/// INT: every 30 s at least.
const INT_INTERVAL_MS: u64 = 2000;

/// Content of a table.
#[derive(Debug)]
enum Content {
    /// Always the same section.
    Fixed(Vec<u8>),
    /// Current time: TDT and TOT.
    Time,
}

/// One PID of tables.
#[derive(Debug)]
pub(super) struct Table {
    packetizer: Packetizer,
    content: Content,
    interval_ns: u64,
    due_ns: u64,
}

impl Table {
    fn new(pid: Pid, content: Content, interval_ms: u64) -> Self {
        Self {
            packetizer: Packetizer::new(pid).spread(),
            content,
            interval_ns: interval_ms * 1_000_000,
            due_ns: 0,
        }
    }

    /// Writes the next packet of a table that is due, or of one that was begun.
    pub(super) fn next_packet(&mut self, now_ns: u64, wall: WallTime, out: &mut [u8; PACKET_BYTES]) -> bool {
        if now_ns >= self.due_ns {
            // A sender that slept does not catch up.
            self.due_ns = (self.due_ns + self.interval_ns).max(now_ns);
            match &self.content {
                Content::Fixed(section) => self.packetizer.push(section),
                Content::Time => {
                    self.packetizer.push_with(|section| psi::write_tdt(section, wall));
                    // A TOT is as long as it is.
                    let _ = self.packetizer.push_with(|section| psi::write_tot(section, wall));
                }
            }
        }
        self.packetizer.next(out, true)
    }
}

/// The tables of a configuration. The version distinguishes one start from the next.
pub(super) fn tables(
    config: &Config,
    multiplex: &Multiplex,
    start: WallTime,
) -> Result<Vec<Table>, WireError> {
    let version = ((start.unix_ms() / 1000) & 0x1f) as u8;
    let (nip, ids) = (&config.nip, (multiplex.transport_stream_id, multiplex.original_network_id));
    let (pmt_pid, int_pid) = (Pid::new(multiplex.pmt_pid), Pid::new(multiplex.int_pid));
    let section = |write: &dyn Fn(&mut Vec<u8>) -> Result<(), WireError>| {
        let mut out = Vec::new();
        write(&mut out).map(|()| Content::Fixed(out))
    };
    let pat = Pat { transport_stream_id: ids.0, programs: vec![(nip.service_id, pmt_pid)] };
    let mut streams = vec![data_stream(multiplex)?];
    let has_int = multiplex.carry == Carry::Mpe;
    if has_int {
        streams.push(int_stream(multiplex, int_pid)?);
    }
    let pmt = Pmt { service_id: nip.service_id, pcr_pid: Pid::NULL, streams };
    let name = multiplex.service_name.as_ref().unwrap_or(&nip.network_name);
    let service = Service { service_id: nip.service_id, provider: nip.provider.clone(), name: name.clone() };
    let sdt = Sdt { transport_stream_id: ids.0, original_network_id: ids.1, services: vec![service] };
    let nit = Nit {
        network_id: nip.network_id,
        name: nip.network_name.clone(),
        transport_stream_id: ids.0,
        original_network_id: ids.1,
        services: vec![nip.service_id],
        delivery: delivery(config, multiplex),
        ip_platform: has_int.then_some((nip.service_id, multiplex.platform_id)),
        updates: multiplex
            .ssu
            .iter()
            .map(|ssu| UpdateLink {
                location: [ids.0, ids.1, nip.service_id],
                makers: vec![(ssu.oui, ssu.selector_bytes().unwrap_or_default())],
            })
            .collect(),
    };
    let mut tables = vec![
        Table::new(Pid::PAT, section(&|out| pat.write(out, version))?, PROGRAM_INTERVAL_MS),
        Table::new(pmt_pid, section(&|out| pmt.write(out, version))?, PROGRAM_INTERVAL_MS),
        Table::new(Pid::SDT, section(&|out| sdt.write(out, version))?, SDT_INTERVAL_MS),
        Table::new(Pid::NIT, section(&|out| nit.write(out, version))?, NIT_INTERVAL_MS),
        Table::new(Pid::TDT, Content::Time, TIME_INTERVAL_MS),
    ];
    if has_int {
        let mut targets = vec![config.sessions.announcement.ip(), config.sessions.configuration.ip()];
        targets.extend((0..config.sources.len()).map(|at| config.media_address(at).ip()));
        targets.sort();
        targets.dedup();
        let int = Int {
            platform_id: multiplex.platform_id,
            platform_name: nip.provider.clone(),
            targets,
            location: [nip.network_id, ids.1, ids.0, nip.service_id],
            component_tag: multiplex.component_tag,
        };
        tables.push(Table::new(int_pid, section(&|out| int.write(out, version))?, INT_INTERVAL_MS));
    }
    Ok(tables)
}

/// The stream with carousel or IP, and the descriptors that identify it (TR 101 202 clause 4.7.7; EN 301 192 clause 7.2).
fn data_stream(multiplex: &Multiplex) -> Result<Stream, WireError> {
    let mut descriptors = Vec::new();
    descriptor::write(&mut descriptors, descriptor::STREAM_IDENTIFIER, &[multiplex.component_tag])?;
    let carries = match multiplex.carry {
        Carry::Mpe | Carry::Gse => 0x0005,
        Carry::ObjectCarousel => multiplex.data_broadcast_id.unwrap_or(dsmcc::OBJECT_CAROUSEL),
        Carry::DataCarousel => multiplex.data_broadcast_id.unwrap_or(dsmcc::DATA_CAROUSEL),
    };
    if multiplex.is_carousel() {
        let mut carousel = Vec::new();
        // FormatID 0: no more than the id.
        Writer::new(&mut carousel).u32(multiplex.carousel_id).u8(0);
        descriptor::write(&mut descriptors, descriptor::CAROUSEL_IDENTIFIER, &carousel)?;
        // use 0: the DSI is here, whatever its transactionId; no timeout.
        let mut association = Vec::new();
        Writer::new(&mut association)
            .u16(u16::from(multiplex.component_tag))
            .u16(0)
            .u8(8)
            .u32(u32::MAX)
            .u32(u32::MAX);
        descriptor::write(&mut descriptors, descriptor::ASSOCIATION_TAG, &association)?;
    }
    let is_update_carousel = multiplex.ssu.is_some() && multiplex.carry == Carry::DataCarousel;
    if !is_update_carousel {
        let mut id = carries.to_be_bytes().to_vec();
        if multiplex.carry == Carry::DataCarousel {
            // Two-layer carousel; any transaction; timeouts of DSI and DII; leak rate not said.
            Writer::new(&mut id).u8(0xbf).u32(u32::MAX).u32(60_000).u32(60_000).u8(0xff).u8(0xff).u8(0xff);
        }
        descriptor::write(&mut descriptors, descriptor::DATA_BROADCAST_ID, &id)?;
    }
    if let Some(ssu) = &multiplex.ssu {
        let mut id = SOFTWARE_UPDATE.to_be_bytes().to_vec();
        let update = SoftwareUpdate {
            oui: ssu.oui,
            update_type: multiplex.update_type(),
            version: ssu.update_version,
            selector: ssu.selector_bytes().unwrap_or_default(),
        };
        write_updates(&mut id, &[update])?;
        descriptor::write(&mut descriptors, descriptor::DATA_BROADCAST_ID, &id)?;
    }
    Ok(Stream { stream_type: stream_type(multiplex), pid: multiplex.data_pid(), descriptors })
}

const fn stream_type(multiplex: &Multiplex) -> u8 {
    if multiplex.is_carousel() { psi::STREAM_TYPE_CAROUSEL } else { psi::STREAM_TYPE_DSMCC_SECTIONS }
}

/// The stream with the INT (EN 301 192 clause 8.2.3).
fn int_stream(multiplex: &Multiplex, pid: Pid) -> Result<Stream, WireError> {
    let mut id = 0x000b_u16.to_be_bytes().to_vec();
    Writer::new(&mut id).u8(5).uint::<3>(u64::from(multiplex.platform_id)).u8(0x01).u8(0xc0);
    let mut descriptors = Vec::new();
    descriptor::write(&mut descriptors, descriptor::DATA_BROADCAST_ID, &id)?;
    Ok(Stream { stream_type: psi::STREAM_TYPE_PRIVATE_SECTIONS, pid, descriptors })
}

/// The carrier of `[nip.carrier]`, for the NIT.
fn delivery(config: &Config, multiplex: &Multiplex) -> Option<SatelliteDelivery> {
    let carrier = config.nip.carrier.as_ref()?;
    let says = |word: &str| carrier.polarization.to_ascii_lowercase().contains(word);
    let polarization = match () {
        () if says("left") => 2,
        () if says("right") => 3,
        () if says("vertical") => 1,
        () => 0,
    };
    let position = multiplex.orbital_position_degrees;
    Some(SatelliteDelivery {
        frequency_10khz: carrier.frequency_10khz,
        orbital_position_tenths: (position.abs() * 10.0).round() as u16,
        is_east: position >= 0.0,
        polarization,
        roll_off: match carrier.roll_off.as_str() {
            "0.35" => 0,
            "0.25" => 1,
            _ => 2,
        },
        is_s2: true,
        modulation: match carrier.modulation.to_ascii_uppercase().as_str() {
            "QPSK" => 1,
            "8PSK" => 2,
            // 0, auto: receivers learn 16APSK and 32APSK from the PL header.
            _ => 0,
        },
        symbol_rate_100: carrier.symbol_rate_ksps * 10,
        fec_inner: SatelliteDelivery::fec_inner_of(&carrier.fec),
    })
}
