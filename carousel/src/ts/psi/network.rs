//! Network information table and satellite carriers.

use super::{NIT, SERVICE_TYPE_DATA, UpdateLink, bcd, from_bcd, head, length12, with_length12};
use crate::bytes::{Reader, WireError, Writer};
use crate::ts::descriptor::{self, find};
use crate::ts::section::Section;

/// A satellite carrier (EN 300 468 clause 6.2.13.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SatelliteDelivery {
    /// Frequency in units of 10 kHz.
    pub frequency_10khz: u32,
    /// Orbital position in tenths of a degree.
    pub orbital_position_tenths: u16,
    /// East of Greenwich.
    pub is_east: bool,
    /// 0 linear horizontal, 1 linear vertical, 2 circular left, 3 circular right.
    pub polarization: u8,
    /// 0: 0.35, 1: 0.25, 2: 0.20.
    pub roll_off: u8,
    /// DVB-S2 rather than DVB-S.
    pub is_s2: bool,
    /// 1 QPSK, 2 8PSK, 3 16QAM; 0 automatic.
    pub modulation: u8,
    /// Symbols a second, in hundreds.
    pub symbol_rate_100: u32,
    /// 1 for 1/2, 2 for 2/3, 3 for 3/4, 4 for 5/6, 5 for 7/8, 6 for 8/9, 7 for 3/5, 8 for 4/5, 9 for 9/10; 0 unknown.
    pub fec_inner: u8,
}

impl SatelliteDelivery {
    /// FEC_inner of a code rate such as `3/4`; 0 if the table has no such.
    pub fn fec_inner_of(code_rate: &str) -> u8 {
        let rates = ["1/2", "2/3", "3/4", "5/6", "7/8", "8/9", "3/5", "4/5", "9/10"];
        rates.iter().position(|it| *it == code_rate).map_or(0, |at| at as u8 + 1)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let mut data = Vec::new();
        let system = u8::from(self.is_east) << 7
            | (self.polarization & 3) << 5
            | (if self.is_s2 { self.roll_off & 3 } else { 0 }) << 3
            | u8::from(self.is_s2) << 2
            | self.modulation & 3;
        Writer::new(&mut data)
            .u32(bcd(self.frequency_10khz))
            .u16(bcd(u32::from(self.orbital_position_tenths)) as u16)
            .u8(system)
            .u32(bcd(self.symbol_rate_100) << 4 | u32::from(self.fec_inner & 15));
        descriptor::write(out, descriptor::SATELLITE_DELIVERY, &data)
    }

    /// Reads the descriptor's data.
    ///
    /// # Errors
    /// If it is short.
    pub fn read(data: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(data);
        let (frequency, position) = (reader.u32("frequency")?, reader.u16("orbital_position")?);
        let (system, rate) = (reader.u8("modulation")?, reader.u32("symbol_rate")?);
        Ok(Self {
            frequency_10khz: from_bcd(frequency),
            orbital_position_tenths: from_bcd(u32::from(position)) as u16,
            is_east: system & 0x80 != 0,
            polarization: system >> 5 & 3,
            roll_off: system >> 3 & 3,
            is_s2: system & 4 != 0,
            modulation: system & 3,
            symbol_rate_100: from_bcd(rate >> 4),
            fec_inner: (rate & 15) as u8,
        })
    }
}

/// Network information of a network with one transport stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Nit {
    /// network_id.
    pub network_id: u16,
    /// network_name.
    pub name: String,
    /// transport_stream_id.
    pub transport_stream_id: u16,
    /// original_network_id.
    pub original_network_id: u16,
    /// Its services.
    pub services: Vec<u16>,
    /// Carrier of the stream; `None` where it goes over IP.
    pub delivery: Option<SatelliteDelivery>,
    /// Service and platform whose INT says where IP is; `None`: there is none.
    pub ip_platform: Option<(u16, u32)>,
    /// Services with system software updates.
    pub updates: Vec<UpdateLink>,
}

impl Nit {
    /// Reads the first transport stream of a section.
    ///
    /// # Errors
    /// If a length leads out of it.
    pub fn read(section: &Section<'_>) -> Result<Self, WireError> {
        let mut reader = section.reader();
        let network = length12(&mut reader, "network_descriptors_length")?;
        let name = descriptor::read_text(find(network, descriptor::NETWORK_NAME).unwrap_or_default());
        // A linkage that cannot be read is not a reason to do without the network.
        let updates = descriptor::descriptors(network)
            .filter(|(tag, _)| *tag == descriptor::LINKAGE)
            .filter_map(|(_, data)| UpdateLink::read(data).ok().flatten())
            .collect();
        let mut nit = Self { network_id: section.extension, name, updates, ..Self::default() };
        let mut streams = Reader::new(length12(&mut reader, "transport_stream_loop_length")?);
        if streams.remaining() == 0 {
            return Ok(nit);
        }
        nit.transport_stream_id = streams.u16("transport_stream_id")?;
        nit.original_network_id = streams.u16("original_network_id")?;
        let descriptors = length12(&mut streams, "transport_descriptors_length")?;
        nit.delivery =
            find(descriptors, descriptor::SATELLITE_DELIVERY).map(SatelliteDelivery::read).transpose()?;
        let list = find(descriptors, descriptor::SERVICE_LIST).unwrap_or_default();
        nit.services = list.as_chunks::<3>().0.iter().map(|it| u16::from_be_bytes([it[0], it[1]])).collect();
        Ok(nit)
    }

    /// Writes it.
    ///
    /// # Errors
    /// If it does not fit one section.
    pub fn write(&self, out: &mut Vec<u8>, version: u8) -> Result<(), WireError> {
        head(NIT, true, self.network_id, version).write(out, |out| {
            with_length12(out, |out| {
                descriptor::write(out, descriptor::NETWORK_NAME, &descriptor::text(&self.name, 255))?;
                for link in &self.updates {
                    descriptor::write(out, descriptor::LINKAGE, &link.data()?)?;
                }
                let Some((service_id, platform_id)) = self.ip_platform else { return Ok(()) };
                // Linkage type 0x0B: IP/MAC notification service (EN 301 192 clause 8.2.1).
                let mut link = Vec::new();
                Writer::new(&mut link)
                    .u16(self.transport_stream_id)
                    .u16(self.original_network_id)
                    .u16(service_id)
                    .u8(0x0b)
                    .u8(4)
                    .uint::<3>(u64::from(platform_id))
                    .u8(0);
                descriptor::write(out, descriptor::LINKAGE, &link)
            })?;
            with_length12(out, |out| {
                Writer::new(out).u16(self.transport_stream_id).u16(self.original_network_id);
                with_length12(out, |out| {
                    if let Some(delivery) = &self.delivery {
                        delivery.write(out)?;
                    }
                    let mut list = Vec::new();
                    for service in &self.services {
                        Writer::new(&mut list).u16(*service).u8(SERVICE_TYPE_DATA);
                    }
                    descriptor::write(out, descriptor::SERVICE_LIST, &list)
                })
            })
        })
    }
}
