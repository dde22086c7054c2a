//! Capture files: reading of pcap and pcapng, writing of pcap.
//!
//! Reading goes over a slice (a mapped file), so a capture of many gigabytes is never in memory. Parsing of the file
//! formats is the `pcap-parser` crate's; here are the walk, the clock's unit and the way down to UDP.

use pcap_parser::{
    Block, parse_block_be, parse_block_le, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_header,
};

use crate::ip::{Datagram, FragmentAssembler, IpDrop, LinkType, parse_ip, unwrap_link};
use crate::limits;

/// Why a file is not a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureError {
    /// Neither pcap nor pcapng.
    NotACapture,
}

impl std::fmt::Display for CaptureError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("neither pcap nor pcapng")
    }
}

impl std::error::Error for CaptureError {}

/// One captured frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// Format that `data` begins with.
    pub link: LinkType,
    /// The frame, perhaps cut by the capture's snapshot length.
    pub data: &'a [u8],
}

/// Walks the frames of a capture.
#[derive(Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    format: Format,
    truncated: bool,
}

#[derive(Debug)]
enum Format {
    Pcap { big_endian: bool, nanoseconds: bool, link: LinkType },
    PcapNg { big_endian: bool, interfaces: Vec<Interface> },
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    link: LinkType,
    units_per_s: u64,
    offset_s: i64,
}

limits! {
    /// Interfaces described in one section of a pcapng file.
    const MAX_INTERFACES: usize = 1_024, "interfaces" {
        why: "Real files have a handful; an entry has 24 bytes.",
        full: "Frames of further interfaces are skipped and counted as `link_type`.",
        free: "When the next section of the file begins.",
        test: "frames_of_interfaces_beyond_the_limit_are_counted_until_the_next_section",
    }
}

/// A link type that no capture has: frames of interfaces that are not described.
const UNKNOWN_LINK: LinkType = LinkType(u32::MAX);

impl<'a> Records<'a> {
    /// Starts at the head of a capture file.
    ///
    /// # Errors
    /// If it is not a capture file of a known format.
    pub fn new(bytes: &'a [u8]) -> Result<Self, CaptureError> {
        if bytes.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]) {
            let format = Format::PcapNg { big_endian: false, interfaces: Vec::new() };
            return Ok(Self { rest: bytes, format, truncated: false });
        }
        let (rest, header) = parse_pcap_header(bytes).map_err(|_| CaptureError::NotACapture)?;
        let format = Format::Pcap {
            big_endian: header.is_bigendian(),
            nanoseconds: header.is_nanosecond_precision(),
            link: LinkType(header.network.0 as u32 & 0xffff),
        };
        Ok(Self { rest, format, truncated: false })
    }

    /// Whether the file ended inside a frame, or held something unreadable.
    pub const fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Bytes not yet walked.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        while !self.rest.is_empty() {
            match &mut self.format {
                Format::Pcap { big_endian, nanoseconds, link } => {
                    let parsed = if *big_endian {
                        parse_pcap_frame_be(self.rest)
                    } else {
                        parse_pcap_frame(self.rest)
                    };
                    let Ok((rest, frame)) = parsed else { break };
                    self.rest = rest;
                    let unit_ns = if *nanoseconds { 1 } else { 1000 };
                    let time_ns =
                        u64::from(frame.ts_sec) * 1_000_000_000 + u64::from(frame.ts_usec) * unit_ns;
                    return Some(Record { time_ns, link: *link, data: frame.data });
                }
                Format::PcapNg { big_endian, interfaces } => {
                    if let Some(magic) =
                        self.rest.get(8..12).filter(|_| self.rest.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]))
                    {
                        *big_endian = magic == [0x1a, 0x2b, 0x3c, 0x4d];
                    }
                    let parsed =
                        if *big_endian { parse_block_be(self.rest) } else { parse_block_le(self.rest) };
                    let Ok((rest, block)) = parsed else { break };
                    if rest.len() == self.rest.len() {
                        break;
                    }
                    self.rest = rest;
                    if let Some(record) = pcapng_block(&block, interfaces) {
                        return Some(record);
                    }
                }
            }
        }
        self.truncated |= !self.rest.is_empty();
        self.rest = &[];
        None
    }
}

fn pcapng_block<'a>(block: &Block<'a>, interfaces: &mut Vec<Interface>) -> Option<Record<'a>> {
    match block {
        Block::SectionHeader(_) => interfaces.clear(),
        Block::InterfaceDescription(description) if interfaces.len() < MAX_INTERFACES => {
            interfaces.push(Interface {
                link: LinkType(description.linktype.0 as u32),
                units_per_s: description.ts_resolution().filter(|&units| units > 0).unwrap_or(1_000_000),
                offset_s: description.ts_offset(),
            });
        }
        Block::EnhancedPacket(packet) => {
            let unknown = Interface { link: UNKNOWN_LINK, units_per_s: 1_000_000, offset_s: 0 };
            let interface = interfaces.get(packet.if_id as usize).unwrap_or(&unknown);
            let units = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
            let ns = u128::from(units) * 1_000_000_000 / u128::from(interface.units_per_s);
            let offset_ns = i128::from(interface.offset_s) * 1_000_000_000;
            let time_ns = u64::try_from(ns as i128 + offset_ns).unwrap_or(0);
            let data = packet.data.get(..packet.caplen as usize).unwrap_or(packet.data);
            return Some(Record { time_ns, link: interface.link, data });
        }
        Block::SimplePacket(packet) => {
            let link = interfaces.first().map_or(UNKNOWN_LINK, |it| it.link);
            return Some(Record { time_ns: 0, link, data: packet.data });
        }
        _ => {}
    }
    None
}

/// Walks the UDP datagrams of a capture, fragments put together.
#[derive(Debug)]
pub struct Datagrams<'a> {
    records: Records<'a>,
    fragments: FragmentAssembler,
    /// Frames that gave no datagram, in the order of [`IpDrop::ALL`].
    pub dropped: [u64; IpDrop::ALL.len()],
}

impl<'a> Datagrams<'a> {
    /// Over the frames of `records`.
    pub fn new(records: Records<'a>) -> Self {
        Self { records, fragments: FragmentAssembler::default(), dropped: [0; IpDrop::ALL.len()] }
    }

    /// Hands out the next datagram with its time; lent, since a datagram made of fragments lives here.
    pub fn next_datagram(&mut self) -> Option<(u64, Datagram<'_>)> {
        // The borrow checker cannot see that a refused frame lends nothing, so the frame to return is found first.
        loop {
            let record = self.records.next()?;
            let packet = unwrap_link(record.link, record.data).and_then(parse_ip);
            let verdict = match &packet {
                Ok(packet) if packet.fragment.is_none() => match packet.udp() {
                    Ok(datagram) => return Some((record.time_ns, datagram)),
                    Err(drop) => drop,
                },
                Ok(packet) => match self.fragments.push(packet) {
                    Ok(_) => {
                        return self.fragments.last(packet).ok().map(|datagram| (record.time_ns, datagram));
                    }
                    Err(drop) => drop,
                },
                Err(drop) => *drop,
            };
            self.dropped[verdict as usize] += 1;
            self.dropped[IpDrop::FragmentExpired as usize] = self.fragments.expired();
        }
    }

    /// Whether the file ended inside a frame.
    pub const fn is_truncated(&self) -> bool {
        self.records.is_truncated()
    }

    /// Bytes of the file not yet walked.
    pub const fn remaining(&self) -> usize {
        self.records.remaining()
    }
}

/// Appends the header of a classic pcap file with microseconds and Ethernet frames.
pub fn write_pcap_header(out: &mut Vec<u8>) {
    for word in [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 262_144, LinkType::ETHERNET.0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

/// Appends one frame with its time in nanoseconds since 1970.
pub fn write_pcap_frame(out: &mut Vec<u8>, time_ns: u64, frame: &[u8]) {
    let length = frame.len() as u32;
    for word in [(time_ns / 1_000_000_000) as u32, (time_ns % 1_000_000_000 / 1000) as u32, length, length] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(frame);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::write_ethernet_udp;
    use proptest::prelude::*;

    fn capture(count: u64) -> Vec<u8> {
        let mut out = Vec::new();
        write_pcap_header(&mut out);
        for at in 0..count {
            let mut frame = Vec::new();
            write_ethernet_udp(
                &mut frame,
                "10.0.0.1:9".parse().unwrap(),
                "239.1.2.3:5000".parse().unwrap(),
                1,
                &[at as u8; 20],
            );
            write_pcap_frame(&mut out, 1_795_219_200_000_000_000 + at * 1000, &frame);
        }
        out
    }

    #[test]
    fn what_we_write_we_read() {
        let bytes = capture(3);
        let mut datagrams = Datagrams::new(Records::new(&bytes).unwrap());
        for at in 0..3 {
            let (time_ns, datagram) = datagrams.next_datagram().unwrap();
            assert_eq!(
                (time_ns, datagram.payload),
                (1_795_219_200_000_000_000 + at * 1000, &[at as u8; 20][..])
            );
        }
        assert!(datagrams.next_datagram().is_none() && !datagrams.is_truncated());
    }

    #[test]
    fn a_capture_cut_short_gives_what_is_whole() {
        let bytes = capture(3);
        let mut datagrams = Datagrams::new(Records::new(&bytes[..bytes.len() - 5]).unwrap());
        assert_eq!(std::iter::from_fn(|| datagrams.next_datagram().map(|_| ())).count(), 2);
        assert!(datagrams.is_truncated());
        assert_eq!(
            Records::new(b"no capture at all, but long enough to be one").unwrap_err(),
            CaptureError::NotACapture
        );
        assert!(Records::new(b"").is_err());
    }

    #[test]
    fn pcapng_with_its_own_clock() {
        let word = |value: u32| value.to_le_bytes();
        let mut out = Vec::new();
        let mut block = |kind: u32, body: &[u8]| {
            let length = body.len() as u32 + 12;
            for part in [&word(kind)[..], &word(length), body, &word(length)] {
                out.extend_from_slice(part);
            }
        };
        let mut section = word(0x1a2b_3c4d).to_vec();
        section.extend([1, 0, 0, 0]);
        section.extend([0xff; 8]);
        block(0x0a0d_0d0a, &section);
        // Ethernet, if_tsresol = 9: nanoseconds.
        block(1, &[1, 0, 0, 0, 0, 0, 4, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        let mut frame = Vec::new();
        write_ethernet_udp(
            &mut frame,
            "10.0.0.1:9".parse().unwrap(),
            "239.1.2.3:5000".parse().unwrap(),
            1,
            b"ab",
        );
        let mut packet =
            [word(0), word(1), word(7), word(frame.len() as u32), word(frame.len() as u32)].concat();
        packet.extend(&frame);
        block(6, &packet);
        let mut datagrams = Datagrams::new(Records::new(&out).unwrap());
        let (time_ns, datagram) = datagrams.next_datagram().unwrap();
        assert_eq!((time_ns, datagram.payload), ((1 << 32) + 7, &b"ab"[..]));
    }

    fn pcapng_block(out: &mut Vec<u8>, kind: u32, body: &[u8]) {
        let word = |value: u32| value.to_le_bytes();
        let length = body.len() as u32 + 12;
        for part in [&word(kind)[..], &word(length), body, &word(length)] {
            out.extend_from_slice(part);
        }
    }

    #[test]
    fn frames_of_interfaces_beyond_the_limit_are_counted_until_the_next_section() {
        let section = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
        let mut frame = Vec::new();
        let [from, to] = ["10.0.0.1:9", "239.1.2.3:5000"].map(|it| it.parse().unwrap());
        write_ethernet_udp(&mut frame, from, to, 1, b"ab");
        let mut out = Vec::new();
        for _ in 0..2 {
            pcapng_block(&mut out, 0x0a0d_0d0a, &section);
            for _ in 0..=MAX_INTERFACES {
                pcapng_block(&mut out, 1, &[1, 0, 0, 0, 0, 0, 4, 0]);
            }
            for interface in [0, MAX_INTERFACES as u32 - 1, MAX_INTERFACES as u32] {
                let length = frame.len() as u32;
                let mut packet = [interface, 0, 7, length, length].map(u32::to_le_bytes).concat();
                packet.extend(&frame);
                pcapng_block(&mut out, 6, &packet);
            }
        }
        let mut datagrams = Datagrams::new(Records::new(&out).unwrap());
        assert_eq!(std::iter::from_fn(|| datagrams.next_datagram().map(|_| ())).count(), 4);
        assert_eq!(datagrams.dropped[IpDrop::LinkType as usize], 2);
        assert!(!datagrams.is_truncated());
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_loop(mut bytes in proptest::collection::vec(any::<u8>(), 24..300), ng in any::<bool>()) {
            bytes[..4].copy_from_slice(if ng { &[0x0a, 0x0d, 0x0d, 0x0a] } else { &[0xd4, 0xc3, 0xb2, 0xa1] });
            if let Ok(records) = Records::new(&bytes) {
                let mut datagrams = Datagrams::new(records);
                while datagrams.next_datagram().is_some() {}
            }
        }
    }
}
