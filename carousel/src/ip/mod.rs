//! The IP headers around multicast datagrams: Ethernet and its relatives, IPv4 and IPv6, UDP.
//!
//! For captures and encapsulations; the live receive path gets its datagrams from the kernel. Header checksums are not
//! verified (capturing hosts often see them before the hardware fills them in); lengths are.

mod fragments;
mod write;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::bytes::{Reader, WireError};
use crate::reasons;

pub use fragments::FragmentAssembler;
use write::is_checksum_right;
pub use write::{multicast_mac, write_ethernet_udp, write_udp};

/// Link types of captures that we can unwrap (<https://www.tcpdump.org/linktypes.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkType(pub u32);

impl LinkType {
    /// BSD loopback: 4 bytes of address family in host order.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// Raw IP, as libpcap writes it.
    pub const RAW: Self = Self(101);
    /// OpenBSD loopback: 4 bytes of address family, big-endian.
    pub const LOOP: Self = Self(108);
    /// Linux cooked capture v1.
    pub const LINUX_SLL: Self = Self(113);
    /// Raw IPv4.
    pub const IPV4: Self = Self(228);
    /// Raw IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux cooked capture v2.
    pub const LINUX_SLL2: Self = Self(276);
}

reasons! {
    /// Why a frame or packet gave no datagram.
    pub enum IpDrop {
        /// The link type of the capture is unknown.
        LinkType = "link_type",
        /// The frame is neither IPv4 nor IPv6.
        NotIp = "not_ip",
        /// The packet is IP, but not UDP.
        NotUdp = "not_udp",
        /// The packet is truncated, or its lengths contradict each other.
        Malformed = "malformed",
        /// The fragment is kept until the other fragments arrive.
        FragmentKept = "fragment_kept",
        /// The fragment contradicts other fragments of its datagram.
        FragmentDropped = "fragment_dropped",
        /// The datagram was not complete in time, or others needed its room.
        FragmentExpired = "fragment_expired",
        /// The UDP checksum of a reassembled datagram is wrong.
        Checksum = "checksum",
    }
}

impl From<WireError> for IpDrop {
    fn from(_: WireError) -> Self {
        Self::Malformed
    }
}

/// One UDP datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Sender.
    pub source: SocketAddr,
    /// Group or host.
    pub destination: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// UDP payload.
    pub payload: &'a [u8],
}

/// An IP packet after its header: whole, or a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpPacket<'a> {
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Protocol of `payload`; 17 is UDP.
    pub protocol: u8,
    /// `None` for a whole packet.
    pub fragment: Option<Fragment>,
    /// Bytes behind the header.
    pub payload: &'a [u8],
}

/// Datagram and place of a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Identification: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// Offset in bytes.
    pub offset: usize,
    /// Whether others follow.
    pub more: bool,
}

/// The IP packet inside a captured frame.
///
/// # Errors
/// [`IpDrop`] if the frame contains no IP packet.
pub fn unwrap_link(link: LinkType, frame: &[u8]) -> Result<&[u8], IpDrop> {
    let mut reader = Reader::new(frame);
    let ether_type = match link {
        LinkType::ETHERNET => {
            reader.take(12, "Ethernet addresses")?;
            reader.u16("EtherType")?
        }
        LinkType::LINUX_SLL => {
            reader.take(14, "SLL")?;
            reader.u16("SLL protocol")?
        }
        LinkType::LINUX_SLL2 => {
            let protocol = reader.u16("SLL2 protocol")?;
            reader.take(18, "SLL2")?;
            protocol
        }
        LinkType::NULL | LinkType::LOOP => {
            reader.take(4, "address family")?;
            return Ok(reader.rest());
        }
        LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 | LinkType(12 | 14) => return Ok(frame),
        _ => return Err(IpDrop::LinkType),
    };
    let mut ether_type = ether_type;
    // 802.1Q, 802.1ad and the older QinQ types, at most a few deep.
    for _ in 0..4 {
        if !matches!(ether_type, 0x8100 | 0x88a8 | 0x9100) {
            break;
        }
        reader.u16("VLAN tag")?;
        ether_type = reader.u16("EtherType")?;
    }
    match ether_type {
        0x0800 | 0x86dd => Ok(reader.rest()),
        _ => Err(IpDrop::NotIp),
    }
}

/// Reads an IPv4 or IPv6 header. Padding behind the packet is cut off.
///
/// # Errors
/// `NotIp`, `Malformed`.
pub fn parse_ip(bytes: &[u8]) -> Result<IpPacket<'_>, IpDrop> {
    match bytes.first().map(|byte| byte >> 4) {
        Some(4) => parse_v4(bytes),
        Some(6) => parse_v6(bytes),
        _ => Err(IpDrop::NotIp),
    }
}

fn parse_v4(bytes: &[u8]) -> Result<IpPacket<'_>, IpDrop> {
    let mut reader = Reader::new(bytes);
    let header_bytes = usize::from(reader.u8("version")? & 0xf) * 4;
    reader.u8("TOS")?;
    let total = usize::from(reader.u16("total length")?);
    let id = u32::from(reader.u16("identification")?);
    let flags = reader.u16("fragment offset")?;
    let (ttl, protocol) = (reader.u8("TTL")?, reader.u8("protocol")?);
    reader.u16("checksum")?;
    let source = Ipv4Addr::from(reader.array::<4>("source")?);
    let destination = Ipv4Addr::from(reader.array::<4>("destination")?);
    // Segmentation offload leaves 0 in frames captured on the sending host.
    let total = if total == 0 { bytes.len() } else { total };
    if header_bytes < 20 {
        return Err(IpDrop::Malformed);
    }
    let payload = bytes.get(header_bytes..total).ok_or(IpDrop::Malformed)?;
    let fragment = Fragment { id, offset: usize::from(flags & 0x1fff) * 8, more: flags & 0x2000 != 0 };
    Ok(IpPacket {
        source: source.into(),
        destination: destination.into(),
        ttl,
        protocol,
        fragment: (fragment.more || fragment.offset > 0).then_some(fragment),
        payload,
    })
}

fn parse_v6(bytes: &[u8]) -> Result<IpPacket<'_>, IpDrop> {
    let mut reader = Reader::new(bytes);
    reader.u32("version")?;
    let length = usize::from(reader.u16("payload length")?);
    let (mut protocol, ttl) = (reader.u8("next header")?, reader.u8("hop limit")?);
    let source = Ipv6Addr::from(reader.array::<16>("source")?);
    let destination = Ipv6Addr::from(reader.array::<16>("destination")?);
    let rest = reader.rest();
    let mut reader = Reader::new(rest.get(..length).ok_or(IpDrop::Malformed)?);
    let mut fragment = None;
    // Hop-by-hop, routing, destination options and the fragment header, each at most once or twice.
    for _ in 0..6 {
        match protocol {
            0 | 43 | 60 => {
                protocol = reader.u8("next header")?;
                let words = usize::from(reader.u8("header length")?);
                reader.take(words * 8 + 6, "extension header")?;
            }
            44 => {
                protocol = reader.u8("next header")?;
                reader.u8("reserved")?;
                let offset = reader.u16("fragment offset")?;
                let id = reader.u32("identification")?;
                fragment = Some(Fragment { id, offset: usize::from(offset & 0xfff8), more: offset & 1 != 0 });
            }
            _ => break,
        }
    }
    // An atomic fragment (RFC 6946) is a complete datagram.
    let fragment = fragment.filter(|fragment| fragment.more || fragment.offset > 0);
    Ok(IpPacket {
        source: source.into(),
        destination: destination.into(),
        ttl,
        protocol,
        fragment,
        payload: reader.rest(),
    })
}

impl<'a> IpPacket<'a> {
    /// The UDP datagram inside a whole packet.
    ///
    /// # Errors
    /// `NotUdp`, or `Malformed` if the UDP length is more than there is.
    pub fn udp(&self) -> Result<Datagram<'a>, IpDrop> {
        udp(self.source, self.destination, self.ttl, self.protocol, self.payload)
    }
}

fn udp(
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    protocol: u8,
    bytes: &[u8],
) -> Result<Datagram<'_>, IpDrop> {
    if protocol != 17 {
        return Err(IpDrop::NotUdp);
    }
    let mut reader = Reader::new(bytes);
    let (from, to) = (reader.u16("source port")?, reader.u16("destination port")?);
    let length = usize::from(reader.u16("UDP length")?);
    reader.u16("UDP checksum")?;
    let rest = reader.rest();
    // A length of 0 is a jumbogram, or offload on the sending host: everything there is.
    let length = if length == 0 { rest.len() } else { length.checked_sub(8).ok_or(IpDrop::Malformed)? };
    let payload = rest.get(..length).ok_or(IpDrop::Malformed)?;
    Ok(Datagram {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
        ttl,
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_ethernet_udp(&mut out, source.parse().unwrap(), destination.parse().unwrap(), 4, payload);
        out
    }

    #[test]
    fn what_we_write_we_read_in_both_versions() {
        for (source, destination) in [("10.0.0.1:9", "239.1.2.3:5000"), ("[fe80::1]:9", "[ff15::12d]:3937")] {
            let frame = frame(source, destination, b"hello");
            let ip = parse_ip(unwrap_link(LinkType::ETHERNET, &frame).unwrap()).unwrap();
            let datagram = ip.udp().unwrap();
            assert_eq!(datagram.payload, b"hello");
            assert_eq!(
                (datagram.source.to_string(), datagram.destination.to_string()),
                (source.into(), destination.into())
            );
            assert_eq!(datagram.ttl, 4);
        }
    }

    #[test]
    fn vlan_tags_cooked_captures_and_padding() {
        let plain = frame("10.0.0.1:9", "239.1.2.3:5000", b"x");
        let mut tagged = plain[..12].to_vec();
        tagged.extend([0x88, 0xa8, 0, 1, 0x81, 0, 0, 2]);
        tagged.extend(&plain[12..]);
        tagged.extend([0; 18]);
        let mut cooked = vec![0; 14];
        cooked.extend([8, 0]);
        cooked.extend(&plain[14..]);
        for (link, frame) in [(LinkType::ETHERNET, &tagged), (LinkType::LINUX_SLL, &cooked)] {
            let ip = parse_ip(unwrap_link(link, frame).unwrap()).unwrap();
            assert_eq!(ip.udp().unwrap().payload, b"x");
        }
        assert_eq!(unwrap_link(LinkType(147), &plain), Err(IpDrop::LinkType));
        assert_eq!(unwrap_link(LinkType::ETHERNET, &[0; 14]), Err(IpDrop::NotIp));
    }

    #[test]
    fn lengths_that_lie_are_malformed() {
        let good = frame("10.0.0.1:9", "239.1.2.3:5000", b"hello");
        for (at, value) in [(14, 0x41), (17, 200), (39, 200), (39, 7)] {
            let mut bad = good.clone();
            bad[at] = value;
            let result = unwrap_link(LinkType::ETHERNET, &bad).and_then(parse_ip).and_then(|ip| ip.udp());
            assert_eq!(result, Err(IpDrop::Malformed), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), link in 0_u32..300) {
            if let Ok(ip) = unwrap_link(LinkType(link), &bytes).and_then(parse_ip) { let _ = ip.udp(); }
            let _ = parse_ip(&bytes).and_then(|ip| ip.udp());
        }
    }
}
