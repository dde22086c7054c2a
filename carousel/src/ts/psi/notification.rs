//! IP/MAC notification table (EN 301 192 clause 8.4): the location of IP streams in a transport stream.

use super::{INT, head, length12, with_length12};
use crate::bytes::{Reader, WireError, Writer};
use crate::ts::descriptor::{self, find};
use crate::ts::section::Section;

/// Location of IP groups (EN 301 192 clause 8.4): all groups of one stream of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Int {
    /// platform_id, 24 bits.
    pub platform_id: u32,
    /// Its name.
    pub platform_name: String,
    /// Addresses.
    pub targets: Vec<std::net::IpAddr>,
    /// network_id, original_network_id, transport_stream_id, service_id.
    pub location: [u16; 4],
    /// component_tag of the stream.
    pub component_tag: u8,
}

impl Int {
    /// Writes it; targets beyond those that fit the section (some 500) are left out, and their streams found by the PMT.
    ///
    /// # Errors
    /// Never for names that fit a descriptor.
    pub fn write(&self, out: &mut Vec<u8>, version: u8) -> Result<(), WireError> {
        let [_, a, b, c] = self.platform_id.to_be_bytes();
        // action_type 1 and the platform's hash stand where other tables have their extension.
        let extension = 0x0100 | u16::from(a ^ b ^ c);
        head(INT, true, extension, version).write(out, |out| {
            Writer::new(out).uint::<3>(u64::from(self.platform_id)).u8(0);
            with_length12(out, |out| {
                let mut name = b"eng".to_vec();
                name.extend_from_slice(&descriptor::text(&self.platform_name, 200));
                descriptor::write(out, 0x0c, &name)
            })?;
            with_length12(out, |out| {
                for target in &self.targets {
                    if out.len() > 3800 {
                        break;
                    }
                    let mut data = Vec::new();
                    match target {
                        std::net::IpAddr::V4(ip) => {
                            Writer::new(&mut data).bytes(&ip.octets()).u8(32);
                            descriptor::write(out, 0x0f, &data)?;
                        }
                        std::net::IpAddr::V6(ip) => {
                            Writer::new(&mut data).bytes(&ip.octets()).u8(128);
                            descriptor::write(out, 0x11, &data)?;
                        }
                    }
                }
                Ok(())
            })?;
            with_length12(out, |out| {
                let mut data = Vec::new();
                for id in self.location {
                    Writer::new(&mut data).u16(id);
                }
                data.push(self.component_tag);
                descriptor::write(out, 0x13, &data)
            })
        })
    }

    /// Reads the first targets and their location.
    ///
    /// # Errors
    /// If a length leads out of it.
    pub fn read(section: &Section<'_>) -> Result<Self, WireError> {
        let mut reader = section.reader();
        let platform_id = reader.uint::<3>("platform_id")? as u32;
        reader.u8("processing_order")?;
        let platform = length12(&mut reader, "platform_descriptor_loop")?;
        let name = find(platform, 0x0c).and_then(|data| data.get(3..)).unwrap_or_default();
        let targets = length12(&mut reader, "target_descriptor_loop")?;
        let operational = length12(&mut reader, "operational_descriptor_loop")?;
        let targets = descriptor::descriptors(targets).filter_map(|(tag, data)| match tag {
            0x0f => data.first_chunk::<4>().map(|ip| (*ip).into()),
            0x11 => data.first_chunk::<16>().map(|ip| (*ip).into()),
            _ => None,
        });
        let targets = targets.collect();
        let mut place = Reader::new(find(operational, 0x13).unwrap_or_default());
        let mut location = [0; 4];
        for id in &mut location {
            *id = place.u16("IP/MAC_stream_location")?;
        }
        Ok(Self {
            platform_id,
            platform_name: descriptor::read_text(name),
            targets,
            location,
            component_tag: place.u8("component_tag")?,
        })
    }
}
