//! Writing of IP and UDP packets with their checksums, and of Ethernet frames for recordings.

use std::net::{IpAddr, SocketAddr};

use crate::bytes::Writer;

/// The MAC address of a multicast group (RFC 1112 section 6.4, RFC 2464 section 7); `None` for other addresses.
pub fn multicast_mac(group: IpAddr) -> Option<[u8; 6]> {
    match group {
        IpAddr::V4(ip) if ip.is_multicast() => {
            let [_, b, c, d] = ip.octets();
            Some([0x01, 0x00, 0x5e, b & 0x7f, c, d])
        }
        IpAddr::V6(ip) if ip.is_multicast() => {
            let [.., a, b, c, d] = ip.octets();
            Some([0x33, 0x33, a, b, c, d])
        }
        _ => None,
    }
}

/// Appends an Ethernet frame with one UDP datagram, as [`write_udp`] does.
pub fn write_ethernet_udp(
    out: &mut Vec<u8>,
    source: SocketAddr,
    destination: SocketAddr,
    ttl: u8,
    payload: &[u8],
) {
    let mac = multicast_mac(destination.ip()).unwrap_or([0x02, 0, 0, 0, 0, 2]);
    let ether_type = if destination.is_ipv4() { 0x0800 } else { 0x86dd };
    Writer::new(out).bytes(&mac).bytes(&[0x02, 0, 0, 0, 0, 1]).u16(ether_type);
    write_udp(out, source, destination, ttl, payload);
}

/// Appends an IP packet with one UDP datagram. Both addresses must be of one IP version, else the source is written as
/// unspecified.
pub fn write_udp(out: &mut Vec<u8>, source: SocketAddr, destination: SocketAddr, ttl: u8, payload: &[u8]) {
    let udp_length = (payload.len() + 8) as u16;
    let pseudo = match destination.ip() {
        IpAddr::V4(to) => {
            let from = match source.ip() {
                IpAddr::V4(from) => from,
                IpAddr::V6(_) => std::net::Ipv4Addr::UNSPECIFIED,
            };
            let start = out.len();
            let mut writer = Writer::new(out);
            writer.u8(0x45).u8(0).u16(udp_length + 20).u16(0).u16(0x4000).u8(ttl).u8(17).u16(0);
            writer.bytes(&from.octets()).bytes(&to.octets());
            let checksum = fold(sum(0, &out[start..]));
            out[start + 10..start + 12].copy_from_slice(&checksum.to_be_bytes());
            sum(sum(0, &from.octets()), &to.octets())
        }
        IpAddr::V6(to) => {
            let from = match source.ip() {
                IpAddr::V6(from) => from,
                IpAddr::V4(_) => std::net::Ipv6Addr::UNSPECIFIED,
            };
            let mut writer = Writer::new(out);
            writer.u32(6 << 28).u16(udp_length).u8(17).u8(ttl);
            writer.bytes(&from.octets()).bytes(&to.octets());
            sum(sum(0, &from.octets()), &to.octets())
        }
    };
    let start = out.len();
    let mut writer = Writer::new(out);
    writer.u16(source.port()).u16(destination.port()).u16(udp_length).u16(0).bytes(payload);
    let total = sum(pseudo + 17 + u64::from(udp_length), &out[start..]);
    // 0 would mean "no checksum" (RFC 768).
    let checksum = match fold(total) {
        0 => 0xffff,
        checksum => checksum,
    };
    out[start + 6..start + 8].copy_from_slice(&checksum.to_be_bytes());
}

/// Whether the checksum of a UDP datagram is right, or the sender has left it out (0).
pub(super) fn is_checksum_right(source: IpAddr, destination: IpAddr, datagram: &[u8]) -> bool {
    if datagram.get(6..8) == Some(&[0, 0]) {
        return true;
    }
    let of_address = |total, address| match address {
        IpAddr::V4(ip) => sum(total, &ip.octets()),
        IpAddr::V6(ip) => sum(total, &ip.octets()),
    };
    let pseudo = of_address(of_address(0, source), destination);
    // The length in the header counts; bytes behind it are padding.
    let length = datagram.get(4..6).map_or(0, |it| usize::from(u16::from_be_bytes([it[0], it[1]])));
    let length = if length == 0 { datagram.len() } else { length };
    datagram.get(..length).is_some_and(|it| fold(sum(pseudo + 17 + length as u64, it)) == 0)
}

fn sum(start: u64, bytes: &[u8]) -> u64 {
    let words = bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)));
    words.fold(start, |total, word| total + word)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
