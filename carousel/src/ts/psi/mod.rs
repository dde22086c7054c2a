//! Programme and service tables, read and written (ISO/IEC 13818-1 clause 2.4.4; EN 300 468 clause 5.2; EN 301 192
//! clause 8.4 for the INT; TS 102 006 clauses 6.1 and 7.1 for system software updates).
//!
//! Tables here fit one section each: a data multiplex has a handful of services. Reading takes tables of any number of
//! sections, one section at a time.

mod network;
mod notification;
mod time;
mod update;

pub use network::{Nit, SatelliteDelivery};
pub use notification::Int;
pub use time::{read_time, write_tdt, write_tot};
pub use update::{
    Oui, OuiError, SOFTWARE_UPDATE, SoftwareUpdate, UpdateLink, UpdateType, read_updates, write_updates,
};

use super::descriptor::{self, find};
use super::section::SectionHead;
use super::{Pid, Section};
use crate::bytes::{Reader, WireError, Writer};

/// Program association section.
pub const PAT: u8 = 0x00;
/// Program map section.
pub const PMT: u8 = 0x02;
/// Network information section of the actual network.
pub const NIT: u8 = 0x40;
/// Service description section of the actual transport stream.
pub const SDT: u8 = 0x42;
/// IP/MAC notification section.
pub const INT: u8 = 0x4c;
/// Time and date section.
pub const TDT: u8 = 0x70;
/// Time offset section.
pub const TOT: u8 = 0x73;

/// Private sections: the INT.
pub const STREAM_TYPE_PRIVATE_SECTIONS: u8 = 0x05;
/// DSM-CC U-N messages: carousels.
pub const STREAM_TYPE_CAROUSEL: u8 = 0x0b;
/// DSM-CC sections: multiprotocol encapsulation.
pub const STREAM_TYPE_DSMCC_SECTIONS: u8 = 0x0d;

/// Service type of a data broadcast service (EN 300 468 table 89).
const SERVICE_TYPE_DATA: u8 = 0x0c;

/// Program association.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pat {
    /// transport_stream_id.
    pub transport_stream_id: u16,
    /// program_number and PID of its PMT; program_number 0 is the NIT's PID and left out.
    pub programs: Vec<(u16, Pid)>,
}

impl Pat {
    /// Reads a section of it.
    ///
    /// # Errors
    /// If it ends inside an entry.
    pub fn read(section: &Section<'_>) -> Result<Self, WireError> {
        let mut reader = section.reader();
        let mut programs = Vec::with_capacity(reader.remaining() / 4);
        while reader.remaining() > 0 {
            let (number, pid) = (reader.u16("program_number")?, reader.u16("PMT PID")?);
            if number != 0 {
                programs.push((number, Pid::new(pid)));
            }
        }
        Ok(Self { transport_stream_id: section.extension, programs })
    }

    /// Writes it.
    ///
    /// # Errors
    /// If it does not fit one section.
    pub fn write(&self, out: &mut Vec<u8>, version: u8) -> Result<(), WireError> {
        head(PAT, false, self.transport_stream_id, version).write(out, |out| {
            let mut writer = Writer::new(out);
            writer.u16(0).u16(0xe000 | Pid::NIT.get());
            for (number, pid) in &self.programs {
                writer.u16(*number).u16(0xe000 | pid.get());
            }
            Ok(())
        })
    }
}

/// One elementary stream of a programme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// stream_type.
    pub stream_type: u8,
    /// Its PID.
    pub pid: Pid,
    /// Its descriptors, as they are.
    pub descriptors: Vec<u8>,
}

impl Stream {
    /// component_tag of the stream_identifier_descriptor.
    pub fn component_tag(&self) -> Option<u8> {
        find(&self.descriptors, descriptor::STREAM_IDENTIFIER)?.first().copied()
    }

    /// data_broadcast_id of the data_broadcast_id_descriptor.
    pub fn data_broadcast_id(&self) -> Option<u16> {
        Reader::new(find(&self.descriptors, descriptor::DATA_BROADCAST_ID)?).u16("data_broadcast_id").ok()
    }

    /// Makers whose receivers find system software updates in it, by the PMT (TS 102 006 clause 7.1); empty if it is no such
    /// stream, or one whose descriptor cannot be read.
    pub fn software_updates(&self) -> Vec<SoftwareUpdate> {
        let ids = descriptor::descriptors(&self.descriptors)
            .filter(|(tag, _)| *tag == descriptor::DATA_BROADCAST_ID)
            .filter_map(|(_, data)| data.split_first_chunk::<2>())
            .filter(|(id, _)| u16::from_be_bytes(**id) == SOFTWARE_UPDATE);
        ids.flat_map(|(_, selector)| read_updates(selector).unwrap_or_default()).collect()
    }

    /// carousel_id of the carousel_identifier_descriptor.
    pub fn carousel_id(&self) -> Option<u32> {
        Reader::new(find(&self.descriptors, descriptor::CAROUSEL_IDENTIFIER)?).u32("carousel_id").ok()
    }
}

/// Program map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pmt {
    /// program_number; the service_id.
    pub service_id: u16,
    /// PID with the programme's clock; [`Pid::NULL`] where it has none.
    pub pcr_pid: Pid,
    /// Its elementary streams.
    pub streams: Vec<Stream>,
}

impl Pmt {
    /// Reads a section of it.
    ///
    /// # Errors
    /// If a length leads out of it.
    pub fn read(section: &Section<'_>) -> Result<Self, WireError> {
        let mut reader = section.reader();
        let pcr_pid = Pid::new(reader.u16("PCR_PID")?);
        length12(&mut reader, "program_info_length")?;
        let mut streams = Vec::new();
        while reader.remaining() > 0 {
            let stream_type = reader.u8("stream_type")?;
            let pid = Pid::new(reader.u16("elementary_PID")?);
            let descriptors = length12(&mut reader, "ES_info_length")?.to_vec();
            streams.push(Stream { stream_type, pid, descriptors });
        }
        Ok(Self { service_id: section.extension, pcr_pid, streams })
    }

    /// Writes it.
    ///
    /// # Errors
    /// If it does not fit one section.
    pub fn write(&self, out: &mut Vec<u8>, version: u8) -> Result<(), WireError> {
        head(PMT, false, self.service_id, version).write(out, |out| {
            Writer::new(out).u16(0xe000 | self.pcr_pid.get()).u16(0xf000);
            for stream in &self.streams {
                Writer::new(out).u8(stream.stream_type).u16(0xe000 | stream.pid.get());
                with_length12(out, |out| {
                    out.extend_from_slice(&stream.descriptors);
                    Ok(())
                })?;
            }
            Ok(())
        })
    }
}

/// A service as the SDT describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// service_id.
    pub service_id: u16,
    /// service_provider_name.
    pub provider: String,
    /// service_name.
    pub name: String,
}

/// Service description.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sdt {
    /// transport_stream_id.
    pub transport_stream_id: u16,
    /// original_network_id.
    pub original_network_id: u16,
    /// Its services.
    pub services: Vec<Service>,
}

impl Sdt {
    /// Reads a section of it.
    ///
    /// # Errors
    /// If a length leads out of it.
    pub fn read(section: &Section<'_>) -> Result<Self, WireError> {
        let mut reader = section.reader();
        let original_network_id = reader.u16("original_network_id")?;
        reader.u8("reserved")?;
        let mut services = Vec::new();
        while reader.remaining() > 0 {
            let service_id = reader.u16("service_id")?;
            reader.u8("EIT flags")?;
            let descriptors = length12(&mut reader, "descriptors_loop_length")?;
            let mut names = Reader::new(find(descriptors, descriptor::SERVICE).unwrap_or_default());
            let _ = names.u8("service_type");
            let mut name = || {
                let length = names.u8("name length").unwrap_or(0);
                descriptor::read_text(names.take(usize::from(length), "name").unwrap_or_default())
            };
            services.push(Service { service_id, provider: name(), name: name() });
        }
        Ok(Self { transport_stream_id: section.extension, original_network_id, services })
    }

    /// Writes it, all services as data broadcast services.
    ///
    /// # Errors
    /// If it does not fit one section.
    pub fn write(&self, out: &mut Vec<u8>, version: u8) -> Result<(), WireError> {
        head(SDT, true, self.transport_stream_id, version).write(out, |out| {
            Writer::new(out).u16(self.original_network_id).u8(0xff);
            for service in &self.services {
                Writer::new(out).u16(service.service_id).u8(0xfc);
                let start = out.len();
                with_length12(out, |out| {
                    let (provider, name) =
                        (descriptor::text(&service.provider, 120), descriptor::text(&service.name, 120));
                    let mut data = vec![SERVICE_TYPE_DATA, provider.len() as u8];
                    data.extend_from_slice(&provider);
                    data.push(name.len() as u8);
                    data.extend_from_slice(&name);
                    descriptor::write(out, descriptor::SERVICE, &data)
                })?;
                // running_status 4: running; not scrambled.
                out[start] = out[start] & 0x0f | 0x80;
            }
            Ok(())
        })
    }
}

fn bcd(value: u32) -> u32 {
    (0..8).map(|digit| (value / 10_u32.pow(digit) % 10) << (4 * digit)).sum()
}

fn from_bcd(value: u32) -> u32 {
    // Digits above 9 occur only in what is wrong anyway; they must not overflow.
    (0..8).rev().fold(0, |sum: u32, digit| sum.wrapping_mul(10).wrapping_add(value >> (4 * digit) & 15))
}

const fn head(table_id: u8, is_si: bool, extension: u16, version: u8) -> SectionHead {
    SectionHead { table_id, private: is_si, extension, version, number: 0, last_number: 0 }
}

/// A loop behind 4 reserved bits and 12 of length.
fn length12<'a>(reader: &mut Reader<'a>, what: &'static str) -> Result<&'a [u8], WireError> {
    let length = reader.u16(what)? & 0x0fff;
    reader.take(usize::from(length), what)
}

fn with_length12(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let start = out.len();
    out.extend_from_slice(&[0, 0]);
    write(out)?;
    let length = out.len() - start - 2;
    if length > 0x0fff {
        return Err(WireError::Illegal { what: "loop length", value: length as u64, clause: "EN 300 468" });
    }
    out[start..start + 2].copy_from_slice(&(0xf000 | length as u16).to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::WallTime;
    use proptest::prelude::*;

    fn carrier() -> SatelliteDelivery {
        SatelliteDelivery {
            frequency_10khz: 1_172_750,
            orbital_position_tenths: 192,
            is_east: true,
            polarization: 1,
            roll_off: 2,
            is_s2: true,
            modulation: 2,
            symbol_rate_100: 275_000,
            fec_inner: SatelliteDelivery::fec_inner_of("3/4"),
        }
    }

    #[test]
    fn tables_go_both_ways() {
        let mut out = Vec::new();
        let pat = Pat { transport_stream_id: 1001, programs: vec![(5001, Pid::new(0x100))] };
        pat.write(&mut out, 3).unwrap();
        assert_eq!(Pat::read(&Section::parse(&out).unwrap()).unwrap(), pat);

        out.clear();
        let stream = Stream { stream_type: 0x0b, pid: Pid::new(0x200), descriptors: vec![0x52, 1, 0x0b] };
        let pmt = Pmt { service_id: 5001, pcr_pid: Pid::NULL, streams: vec![stream] };
        pmt.write(&mut out, 0).unwrap();
        let read = Pmt::read(&Section::parse(&out).unwrap()).unwrap();
        assert_eq!((read.streams[0].component_tag(), &read), (Some(0x0b), &pmt));

        out.clear();
        let service = Service { service_id: 5001, provider: "Example".into(), name: "Süd".into() };
        let sdt = Sdt { transport_stream_id: 1001, original_network_id: 1, services: vec![service] };
        sdt.write(&mut out, 0).unwrap();
        assert_eq!(Sdt::read(&Section::parse(&out).unwrap()).unwrap(), sdt);

        out.clear();
        let nit = Nit {
            network_id: 1,
            name: "Example".into(),
            transport_stream_id: 1001,
            original_network_id: 1,
            services: vec![5001],
            delivery: Some(carrier()),
            ip_platform: None,
            updates: vec![UpdateLink {
                location: [1001, 1, 5001],
                makers: vec![(Oui::new(0x15_0a00), vec![7])],
            }],
        };
        nit.write(&mut out, 0).unwrap();
        assert_eq!(Nit::read(&Section::parse(&out).unwrap()).unwrap(), nit);

        out.clear();
        let int = Int {
            platform_id: 0x00_1234,
            platform_name: "Skycache".into(),
            targets: vec!["224.0.23.14".parse().unwrap(), "ff15::12d".parse().unwrap()],
            location: [1, 1, 1001, 5001],
            component_tag: 0x20,
        };
        int.write(&mut out, 0).unwrap();
        assert_eq!(Int::read(&Section::parse(&out).unwrap()).unwrap(), int);
    }

    #[test]
    fn the_delivery_descriptor_has_the_bytes_of_en_300_468() {
        let mut out = Vec::new();
        carrier().write(&mut out).unwrap();
        assert_eq!(out, [0x43, 11, 0x01, 0x17, 0x27, 0x50, 0x01, 0x92, 0xb6, 0x02, 0x75, 0x00, 0x03]);
    }

    #[test]
    fn time_is_that_of_annex_c() {
        // The example of EN 300 468: 93/10/13 12:45:00 is 0xC079124500.
        let mut out = Vec::new();
        let example = WallTime::from_unix_ms(750_516_300_000);
        write_tdt(&mut out, example);
        assert_eq!(out, [0x70, 0x70, 5, 0xc0, 0x79, 0x12, 0x45, 0x00]);
        assert_eq!(read_time(&out), Some(example));
        out.clear();
        write_tot(&mut out, example).unwrap();
        assert_eq!(read_time(&out), Some(example));
        out[5] ^= 1;
        assert_eq!(read_time(&out), None);
    }

    proptest! {
        #[test]
        fn no_table_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            head(PMT, false, 1, 0).write(&mut out, |out| { out.extend_from_slice(&body); Ok(()) }).unwrap();
            let section = Section::parse(&out).unwrap();
            let _ = (Pat::read(&section), Pmt::read(&section), Sdt::read(&section), Nit::read(&section), Int::read(&section));
            let _ = read_time(&body);
        }
    }
}
