//! Fragmented datagrams put together (RFC 791, RFC 8200 section 4.5). Some senders use symbols larger than their MTU.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::{Datagram, IpDrop, IpPacket, parse_ip, udp};

/// Datagrams under reassembly at a time; the oldest gives way. 64 × 64 KiB is the most they can hold.
const MAX_OPEN: usize = 64;
/// Fragments of one datagram: 64 KiB in pieces of 512.
const MAX_FRAGMENTS: usize = 128;
/// IP's own limit.
const MAX_BYTES: usize = 65_535;

#[derive(Debug)]
struct Open {
    source: IpAddr,
    destination: IpAddr,
    id: u32,
    protocol: u8,
    bytes: Vec<u8>,
    /// Non-overlapping pieces received, sorted.
    pieces: Vec<(usize, usize)>,
    total: Option<usize>,
}

/// Keeps fragments until their datagram is whole.
#[derive(Debug, Default)]
pub struct FragmentAssembler {
    open: VecDeque<Open>,
    whole: Vec<u8>,
}

impl FragmentAssembler {
    /// Takes the bytes of an IP packet, as [`FragmentAssembler::push`] does.
    ///
    /// # Errors
    /// As for it, and for [`parse_ip`].
    pub fn datagram<'a>(&'a mut self, packet: &'a [u8]) -> Result<Datagram<'a>, IpDrop> {
        self.push(&parse_ip(packet)?)
    }

    /// Takes an IP packet and gives its datagram: at once if it is whole, or when its last fragment has come.
    ///
    /// # Errors
    /// [`IpDrop::FragmentKept`] while others are missing; other reasons as for whole packets.
    pub fn push<'a>(&'a mut self, packet: &IpPacket<'a>) -> Result<Datagram<'a>, IpDrop> {
        let Some(fragment) = packet.fragment else { return packet.udp() };
        let end = fragment.offset + packet.payload.len();
        if packet.payload.is_empty()
            || end > MAX_BYTES
            || (fragment.more && !packet.payload.len().is_multiple_of(8))
        {
            return Err(IpDrop::FragmentDropped);
        }
        let same = |open: &Open| {
            open.id == fragment.id
                && open.source == packet.source
                && open.destination == packet.destination
                && open.protocol == packet.protocol
        };
        let index = self.open.iter().position(same).unwrap_or_else(|| {
            if self.open.len() >= MAX_OPEN {
                self.open.pop_front();
            }
            self.open.push_back(Open {
                source: packet.source,
                destination: packet.destination,
                id: fragment.id,
                protocol: packet.protocol,
                bytes: Vec::new(),
                pieces: Vec::new(),
                total: None,
            });
            self.open.len() - 1
        });
        if !self.open[index].add(fragment.offset, packet.payload, fragment.more) {
            // Overlaps are how fragments are abused (RFC 5722): the whole datagram goes.
            self.open.remove(index);
            return Err(IpDrop::FragmentDropped);
        }
        if !self.open[index].is_whole() {
            return Err(IpDrop::FragmentKept);
        }
        let Some(done) = self.open.remove(index) else { return Err(IpDrop::FragmentDropped) };
        self.whole = done.bytes;
        self.last(packet)
    }

    /// The datagram that [`FragmentAssembler::push`] last completed, again; `packet` was its last fragment.
    pub(crate) fn last(&self, packet: &IpPacket<'_>) -> Result<Datagram<'_>, IpDrop> {
        udp(packet.source, packet.destination, packet.ttl, packet.protocol, &self.whole)
    }
}

impl Open {
    fn add(&mut self, offset: usize, payload: &[u8], more: bool) -> bool {
        let end = offset + payload.len();
        let at = self.pieces.partition_point(|&(start, _)| start < offset);
        if self.pieces.get(at) == Some(&(offset, end)) {
            return true;
        }
        let overlaps_next = self.pieces.get(at).is_some_and(|&(start, _)| start < end);
        let overlaps_last = at > 0 && self.pieces[at - 1].1 > offset;
        let contradicts = self.total.is_some_and(|total| end > total || (!more && end != total));
        if overlaps_next || overlaps_last || contradicts || self.pieces.len() >= MAX_FRAGMENTS {
            return false;
        }
        self.pieces.insert(at, (offset, end));
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(payload);
        if !more {
            self.total = Some(end);
        }
        true
    }

    fn is_whole(&self) -> bool {
        let received: usize = self.pieces.iter().map(|(start, end)| end - start).sum();
        self.total == Some(received) && self.bytes.len() == received
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::Fragment;

    fn piece(id: u32, offset: usize, more: bool, payload: &[u8]) -> IpPacket<'_> {
        IpPacket {
            source: "10.0.0.1".parse().unwrap(),
            destination: "239.0.0.1".parse().unwrap(),
            ttl: 1,
            protocol: 17,
            fragment: Some(Fragment { id, offset, more }),
            payload,
        }
    }

    fn datagram(length: usize) -> Vec<u8> {
        let mut bytes = vec![0, 9, 0, 10, 0, 0, 0, 0];
        bytes[4..6].copy_from_slice(&(length as u16 + 8).to_be_bytes());
        bytes.extend((0..length).map(|at| at as u8));
        bytes
    }

    #[test]
    fn fragments_in_any_order() {
        let bytes = datagram(100);
        let mut assembler = FragmentAssembler::default();
        assert_eq!(assembler.push(&piece(1, 64, false, &bytes[64..])), Err(IpDrop::FragmentKept));
        assert_eq!(
            assembler.push(&piece(2, 0, true, &bytes[..64])),
            Err(IpDrop::FragmentKept),
            "another datagram"
        );
        assert_eq!(
            assembler.push(&piece(1, 64, false, &bytes[64..])),
            Err(IpDrop::FragmentKept),
            "a duplicate"
        );
        let whole = assembler.push(&piece(1, 0, true, &bytes[..64])).unwrap();
        assert_eq!(whole.payload, &bytes[8..]);
    }

    #[test]
    fn overlaps_are_refused_and_memory_is_bounded() {
        let bytes = datagram(100);
        let mut assembler = FragmentAssembler::default();
        let _ = assembler.push(&piece(1, 0, true, &bytes[..64]));
        assert_eq!(assembler.push(&piece(1, 56, false, &bytes[56..])), Err(IpDrop::FragmentDropped));
        for id in 0..1000 {
            let _ = assembler.push(&piece(id, 65_528, false, &bytes[..4]));
        }
        assert!(assembler.open.len() <= MAX_OPEN);
        assert_eq!(assembler.push(&piece(1, 65_528, true, &bytes[..8])), Err(IpDrop::FragmentDropped));
    }
}
