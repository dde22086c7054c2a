//! Multiprotocol encapsulation: IP datagrams in sections (EN 301 192 clause 7).
//!
//! Left out: scrambled payloads and addresses, MPE-FEC and time slicing of DVB-H, whose sections are read as plain ones.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::bytes::WireError;
use crate::ip::multicast_mac;
use crate::limits::MAX_PDUS_OPEN;
use crate::reasons;
use crate::ts::Section;
use crate::ts::section::SectionHead;

/// table_id of a datagram_section.
pub const TABLE_DATAGRAM: u8 = 0x3e;
/// Bytes of a section beside its datagram.
pub const OVERHEAD_BYTES: usize = 16;
/// The largest datagram (clause 7.1).
pub const MAX_DATAGRAM_BYTES: usize = 4080;
/// Bytes of the MAC address that follow the section's header.
const MAC_BYTES: usize = 4;
/// LLC/SNAP of IPv4 and IPv6.
const LLC_SNAP: [u8; 6] = [0xaa, 0xaa, 3, 0, 0, 0];
/// Largest total length and payload length of IP.
const MAX_IP_BYTES: usize = 65_535;

/// Appends the section of an IP datagram.
///
/// # Errors
/// `Unsupported` if it is not IP, `Illegal` if it is longer than [`MAX_DATAGRAM_BYTES`].
pub fn write(out: &mut Vec<u8>, datagram: &[u8]) -> Result<(), WireError> {
    let destination: IpAddr = match datagram {
        [0x40..=0x4f, ..] => datagram.get(16..20).and_then(<[u8]>::first_chunk::<4>).map(|ip| (*ip).into()),
        [0x60..=0x6f, ..] => datagram.get(24..40).and_then(<[u8]>::first_chunk::<16>).map(|ip| (*ip).into()),
        _ => None,
    }
    .ok_or_else(|| WireError::Unsupported {
        what: "IP version",
        value: u64::from(datagram.first().copied().unwrap_or(0) >> 4),
    })?;
    let mac = multicast_mac(destination).unwrap_or([0xff; 6]);
    // The address stands the wrong way round, and its last two bytes where other tables have their extension.
    let head = SectionHead {
        table_id: TABLE_DATAGRAM,
        private: false,
        extension: u16::from_be_bytes([mac[5], mac[4]]),
        version: 0,
        number: 0,
        last_number: 0,
    };
    head.write(out, |out| {
        out.extend_from_slice(&[mac[3], mac[2], mac[1], mac[0]]);
        out.extend_from_slice(datagram);
        Ok(())
    })
}

reasons! {
    /// Why a datagram section gave no datagram.
    pub enum MpeDrop in "transport_dropped" by "reason" {
        /// The section is scrambled.
        Scrambled = "scrambled",
        /// The payload is not IP.
        NotIp = "not_ip",
        /// Earlier sections of the datagram are missing.
        Gap = "gap",
        /// The datagram received a section longest ago when a limit on datagrams under reassembly was reached.
        TooManyOpen = "too_many_open",
    }
}

/// A datagram whose last section has not arrived.
#[derive(Debug)]
struct OpenDatagram {
    /// section_number of the section received last.
    number: u8,
    bytes: Vec<u8>,
    /// [`Reassembly::parts`] when that section was received.
    fed_at: u64,
}

/// Puts datagrams of several sections together: those of one MAC address.
#[derive(Debug, Default)]
pub struct Reassembly {
    open: BTreeMap<[u8; 6], OpenDatagram>,
    /// Sum over `open`.
    open_bytes: usize,
    /// Parts received: the clock by which open datagrams age.
    parts: u64,
    whole: Vec<u8>,
    dropped: [u64; MpeDrop::ALL.len()],
}

impl Reassembly {
    /// Takes a datagram section; gives the IP packet that it completes, without the stuffing behind it.
    #[inline]
    pub fn push<'a>(&'a mut self, section: &Section<'a>) -> Option<&'a [u8]> {
        match self.take(section) {
            Ok(true) => ip_packet(&self.whole),
            Ok(false) => {
                if section.last_number > 0 {
                    return None;
                }
                let payload = payload(section).unwrap_or_default();
                let packet = ip_packet(payload);
                if packet.is_none() {
                    self.dropped[MpeDrop::NotIp as usize] += 1;
                }
                packet
            }
            Err(drop) => {
                self.dropped[drop as usize] += 1;
                None
            }
        }
    }

    /// Whether a datagram of several sections is complete now.
    #[inline]
    fn take(&mut self, section: &Section<'_>) -> Result<bool, MpeDrop> {
        let flags = section.bytes[5];
        // payload_scrambling_control and address_scrambling_control stand where other tables have their version.
        if flags & 0x3c != 0 {
            return Err(MpeDrop::Scrambled);
        }
        if section.last_number == 0 {
            return Ok(false);
        }
        self.take_part(section)
    }

    #[cold]
    fn take_part(&mut self, section: &Section<'_>) -> Result<bool, MpeDrop> {
        let payload = payload(section).ok_or(MpeDrop::NotIp)?;
        let [low, high] = section.extension.to_be_bytes();
        let &[d, c, b, a, ..] = section.body else { return Err(MpeDrop::NotIp) };
        let mac = [a, b, c, d, high, low];
        self.parts += 1;
        if section.number == 0 {
            if self.open.len() >= MAX_PDUS_OPEN && !self.open.contains_key(&mac) {
                self.drop_oldest();
            }
            if self.close(mac).is_some() {
                self.dropped[MpeDrop::Gap as usize] += 1;
            }
            self.open_bytes += payload.len();
            let datagram = OpenDatagram { number: 0, bytes: payload.to_vec(), fed_at: self.parts };
            self.open.insert(mac, datagram);
        } else {
            let Some(datagram) = self.open.get_mut(&mac) else { return Err(MpeDrop::Gap) };
            if section.number != datagram.number + 1 || datagram.bytes.len() + payload.len() > MAX_IP_BYTES {
                self.close(mac);
                return Err(MpeDrop::Gap);
            }
            datagram.number = section.number;
            datagram.fed_at = self.parts;
            datagram.bytes.extend_from_slice(payload);
            self.open_bytes += payload.len();
        }
        if section.number < section.last_number {
            return Ok(false);
        }
        let Some(datagram) = self.close(mac) else { return Err(MpeDrop::Gap) };
        self.whole = datagram.bytes;
        if ip_packet(&self.whole).is_some() { Ok(true) } else { Err(MpeDrop::NotIp) }
    }

    fn close(&mut self, mac: [u8; 6]) -> Option<OpenDatagram> {
        let datagram = self.open.remove(&mac)?;
        self.open_bytes -= datagram.bytes.len();
        Some(datagram)
    }

    /// Bytes of the datagrams under reassembly.
    pub const fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    /// Drops the datagram that received a section longest ago. False if there is none.
    pub fn drop_oldest(&mut self) -> bool {
        let oldest = self.open.iter().min_by_key(|(_, it)| it.fed_at).map(|(mac, _)| *mac);
        let is_dropped = oldest.and_then(|mac| self.close(mac)).is_some();
        self.dropped[MpeDrop::TooManyOpen as usize] += u64::from(is_dropped);
        is_dropped
    }

    /// Sections without a datagram, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (MpeDrop, u64)> {
        MpeDrop::ALL.iter().map(|&drop| (drop, self.dropped[drop as usize]))
    }
}

/// Bytes of the datagram in a section.
fn payload<'a>(section: &Section<'a>) -> Option<&'a [u8]> {
    let payload = section.body.get(MAC_BYTES..)?;
    let has_llc_snap = section.bytes[5] & 2 != 0;
    // LLC/SNAP stands before the datagram, which is in the first section.
    if has_llc_snap && section.number == 0 {
        payload.strip_prefix(&LLC_SNAP)?.get(2..)
    } else {
        Some(payload)
    }
}

/// The packet at the front of bytes that may have stuffing behind it.
fn ip_packet(bytes: &[u8]) -> Option<&[u8]> {
    let length = |at: usize| Some(usize::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?)));
    match bytes.first()? >> 4 {
        4 => bytes.get(..length(2)?),
        6 => bytes.get(..length(4)? + 40),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::{parse_ip, write_udp};
    use proptest::prelude::*;

    fn datagram(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_udp(&mut out, "10.0.0.1:9".parse().unwrap(), "224.0.23.14:3937".parse().unwrap(), 4, payload);
        out
    }

    fn section(number: u8, last_number: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let head = SectionHead {
            table_id: TABLE_DATAGRAM,
            private: false,
            extension: 0x0e17,
            version: 0,
            number,
            last_number,
        };
        let mut out = Vec::new();
        head.write(&mut out, |out| {
            out.extend_from_slice(&[0, 0x5e, 0, 1]);
            out.extend_from_slice(payload);
            Ok(())
        })
        .unwrap();
        out[5] |= flags;
        let end = out.len() - 4;
        let crc = crate::ts::section::crc32(&out[..end]);
        out[end..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    #[test]
    fn the_address_stands_as_clause_7_has_it() {
        let ip = datagram(b"hello");
        let mut out = Vec::new();
        write(&mut out, &ip).unwrap();
        // 224.0.23.14 is 01:00:5E:00:17:0E.
        assert_eq!((&out[3..5], &out[8..12]), (&[0x0e, 0x17][..], &[0x00, 0x5e, 0x00, 0x01][..]));
        let mut reassembly = Reassembly::default();
        assert_eq!(reassembly.push(&Section::parse(&out).unwrap()), Some(&ip[..]));
        assert!(write(&mut out, b"no IP").is_err() && write(&mut out, &datagram(&[0; 4081])).is_err());
    }

    #[test]
    fn stuffing_llc_snap_and_several_sections() {
        let ip = datagram(&[7; 900]);
        let push = |all: &[Vec<u8>]| {
            let mut reassembly = Reassembly::default();
            let mut whole = None;
            for section in all {
                whole = reassembly.push(&Section::parse(section).unwrap()).map(<[u8]>::to_vec).or(whole);
            }
            (whole, reassembly.dropped().find(|(_, count)| *count > 0).map(|(drop, _)| drop))
        };
        let mut stuffed = ip.clone();
        stuffed.extend_from_slice(&[0xff; 9]);
        assert_eq!(push(&[section(0, 0, 0, &stuffed)]).0, Some(ip.clone()));
        let snap = [&LLC_SNAP[..], &[8, 0], &ip].concat();
        assert_eq!(push(&[section(0, 0, 2, &snap)]).0, Some(ip.clone()));
        let parts: Vec<_> = ip.chunks(400).collect();
        let last = parts.len() as u8 - 1;
        let all: Vec<_> = parts.iter().enumerate().map(|(at, it)| section(at as u8, last, 0, it)).collect();
        assert_eq!(push(&all).0, Some(ip));
        assert_eq!(push(&[all[0].clone(), all[2].clone()]), (None, Some(MpeDrop::Gap)));
        assert_eq!(push(&[section(0, 0, 0x10, &[0x45])]), (None, Some(MpeDrop::Scrambled)));
        assert_eq!(push(&[section(0, 0, 0, b"abc")]), (None, Some(MpeDrop::NotIp)));
    }

    #[test]
    fn datagrams_begun_and_never_ended_make_room() {
        let part = |mac: u16, number, payload: &[u8]| {
            let head = SectionHead {
                table_id: TABLE_DATAGRAM,
                private: false,
                extension: mac,
                version: 0,
                number,
                last_number: 1,
            };
            let mut out = Vec::new();
            head.write(&mut out, |out| {
                out.extend_from_slice(&[0; MAC_BYTES]);
                out.extend_from_slice(payload);
                Ok(())
            })
            .unwrap();
            out
        };
        let mut reassembly = Reassembly::default();
        let ip = datagram(&[7; 400]);
        let (head, tail) = ip.split_at(300);
        for mac in 0..2 * MAX_PDUS_OPEN as u16 {
            assert_eq!(reassembly.push(&Section::parse(&part(mac, 0, head)).unwrap()), None);
        }
        assert_eq!((reassembly.open.len(), reassembly.open_bytes()), (MAX_PDUS_OPEN, MAX_PDUS_OPEN * 300));
        assert!(reassembly.dropped().any(|it| it == (MpeDrop::TooManyOpen, MAX_PDUS_OPEN as u64)));
        // The newest are there, the oldest are not.
        let mut end =
            |mac| reassembly.push(&Section::parse(&part(mac, 1, tail)).unwrap()).map(<[u8]>::to_vec);
        assert_eq!(end(2 * MAX_PDUS_OPEN as u16 - 1), Some(ip.clone()));
        assert_eq!(end(MAX_PDUS_OPEN as u16), Some(ip.clone()));
        assert_eq!(end(0), None);
        assert!(reassembly.dropped().any(|it| it == (MpeDrop::Gap, 1)));
    }

    #[test]
    fn scrambled_payloads_and_addresses_are_dropped() {
        let ip = datagram(b"hello");
        for (flags, count) in [(0x10, 1), (0x20, 1), (0x04, 1), (0x08, 1), (0xc1, 0)] {
            let mut reassembly = Reassembly::default();
            let bytes = section(0, 0, flags, &ip);
            assert_eq!(reassembly.push(&Section::parse(&bytes).unwrap()).is_none(), count == 1, "{flags:#x}");
            assert!(reassembly.dropped().any(|it| it == (MpeDrop::Scrambled, count)), "{flags:#x}");
        }
    }

    #[test]
    fn parts_come_in_order_and_no_datagram_grows_beyond_ip() {
        let ip = datagram(&[7; 900]);
        let mut reassembly = Reassembly::default();
        let mut push = |number: u8, last: u8, payload: &[u8]| {
            let bytes = section(number, last, 0, payload);
            reassembly.push(&Section::parse(&bytes).unwrap()).map(<[u8]>::to_vec)
        };
        let parts: Vec<&[u8]> = ip.chunks(400).collect();
        // The second part twice: what is after it would be at the wrong place.
        assert_eq!((push(0, 2, parts[0]), push(1, 2, parts[1]), push(1, 2, parts[1])), (None, None, None));
        assert_eq!(push(2, 2, parts[2]), None);
        for at in 0..=17 {
            assert_eq!(push(at, 255, &[0x45; 4000]), None);
        }
        assert_eq!(
            (reassembly.open.len(), reassembly.open_bytes()),
            (0, 0),
            "68,000 bytes are not an IP packet"
        );
        assert!(reassembly.dropped().any(|it| it.0 == MpeDrop::Gap && it.1 >= 3));
    }

    #[test]
    fn a_datagram_that_is_being_received_stays_when_others_make_room() {
        let ip = datagram(&[7; 900]);
        let parts: Vec<&[u8]> = ip.chunks(400).collect();
        let mut reassembly = Reassembly::default();
        let mut push = |mac: u16, number: u8, payload: &[u8]| {
            let mut bytes = section(number, 2, 0, payload);
            bytes[3..5].copy_from_slice(&mac.to_be_bytes());
            let end = bytes.len() - 4;
            let crc = crate::ts::section::crc32(&bytes[..end]);
            bytes[end..].copy_from_slice(&crc.to_be_bytes());
            reassembly.push(&Section::parse(&bytes).unwrap()).map(<[u8]>::to_vec)
        };
        push(0, 0, parts[0]);
        for mac in 1..MAX_PDUS_OPEN as u16 {
            push(mac, 0, parts[0]);
        }
        push(0, 1, parts[1]);
        push(999, 0, parts[0]);
        assert_eq!(push(0, 2, parts[2]), Some(ip.clone()), "the one that was fed longest ago went");
        assert_eq!(push(1, 1, parts[1]), None);
        assert!(reassembly.dropped().any(|it| it == (MpeDrop::TooManyOpen, 1)));
        assert!(reassembly.dropped().any(|it| it == (MpeDrop::Gap, 1)));
    }

    proptest! {
        #[test]
        fn no_section_panics(payload in proptest::collection::vec(any::<u8>(), 0..90), number: u8, last: u8, flags in 0_u8..64) {
            let mut reassembly = Reassembly::default();
            let bytes = section(number, last, flags, &payload);
            if let Some(packet) = reassembly.push(&Section::parse(&bytes).unwrap()) { let _ = parse_ip(packet); }
        }
    }
}
