//! Reassembly of fragmented IP datagrams (RFC 791 section 3.2, RFC 8200 section 4.5). Some senders use symbols larger than their MTU.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::{Datagram, IpDrop, IpPacket, is_checksum_right, parse_ip, udp};
use crate::limits;

limits! {
    /// Fragmented datagrams under reassembly at a time.
    const MAX_OPEN: usize = 64, "datagrams" {
        why: "A sender fragments one datagram after the other; each costs up to 64 KiB.",
        full: "The datagram that received a fragment longest ago is dropped: `fragment_expired`.",
        free: "When a datagram is complete, contradicted, or has had none of the last 4,096 fragments.",
        test: "datagrams_that_are_never_complete_make_room",
    }

    /// Fragments of one datagram.
    const MAX_FRAGMENTS: usize = 128, "fragments" {
        why: "64 KiB in fragments of 512 bytes.",
        full: "The datagram is dropped: `fragment_dropped`.",
        free: "At once: the next datagram is reassembled.",
        test: "a_datagram_of_too_many_fragments_is_dropped_and_the_next_is_complete",
    }

    /// Fragments of other datagrams after which an incomplete one is dropped. Identifications of 16 bits repeat: a fragment
    /// must not be joined with one of a datagram 65,536 later.
    const MAX_FRAGMENT_AGE: u64 = 4_096, "fragments" {
        why: "Fragments of one datagram follow each other; a reordering link shifts them by tens.",
        full: "The datagram is dropped: `fragment_expired`.",
        free: "At once: the identification can be used again.",
        test: "fragments_of_an_earlier_datagram_with_the_same_identification_are_not_used",
    }
}

/// Largest value of IP's lengths.
const IP_BYTES: usize = 65_535;

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
    /// [`FragmentAssembler::fragments`] when a fragment was added last.
    fed_at: u64,
}

/// Keeps fragments until their datagram is complete.
#[derive(Debug, Default)]
pub struct FragmentAssembler {
    /// Fed longest ago first; at most [`MAX_OPEN`].
    open: VecDeque<Open>,
    whole: Vec<u8>,
    /// Fragments received: the clock by which open datagrams age.
    fragments: u64,
    expired: u64,
}

impl FragmentAssembler {
    /// Takes the bytes of an IP packet, as [`FragmentAssembler::push`] does.
    ///
    /// # Errors
    /// As for it, and for [`parse_ip`].
    pub fn datagram<'a>(&'a mut self, packet: &'a [u8]) -> Result<Datagram<'a>, IpDrop> {
        self.push(&parse_ip(packet)?)
    }

    /// Takes an IP packet and gives its datagram: at once if it is not fragmented, or when its last fragment has come.
    ///
    /// # Errors
    /// [`IpDrop::FragmentKept`] while others are missing; other reasons as for whole packets.
    pub fn push<'a>(&'a mut self, packet: &IpPacket<'a>) -> Result<Datagram<'a>, IpDrop> {
        let Some(fragment) = packet.fragment else { return packet.udp() };
        let end = fragment.offset + packet.payload.len();
        if packet.payload.is_empty()
            || end > IP_BYTES
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
        self.fragments += 1;
        let found = self.open.iter().position(same);
        let mut open = found.and_then(|at| self.open.remove(at)).filter(|it| {
            let is_fresh = self.fragments - it.fed_at <= MAX_FRAGMENT_AGE;
            self.expired += u64::from(!is_fresh);
            is_fresh
        });
        let datagram = open.get_or_insert_with(|| Open {
            source: packet.source,
            destination: packet.destination,
            id: fragment.id,
            protocol: packet.protocol,
            bytes: Vec::new(),
            pieces: Vec::new(),
            total: None,
            fed_at: 0,
        });
        datagram.fed_at = self.fragments;
        if !datagram.add(fragment.offset, packet.payload, fragment.more) {
            // Overlaps are how fragments are abused (RFC 5722 section 4): the datagram is dropped.
            return Err(IpDrop::FragmentDropped);
        }
        if !datagram.is_whole() {
            while self.open.len() >= MAX_OPEN
                || self.open.front().is_some_and(|it| self.fragments - it.fed_at > MAX_FRAGMENT_AGE)
            {
                self.open.pop_front();
                self.expired += 1;
            }
            self.open.extend(open);
            return Err(IpDrop::FragmentKept);
        }
        self.whole = std::mem::take(&mut datagram.bytes);
        self.last(packet)
    }

    /// Datagrams dropped because their other fragments did not arrive in time, or others needed the room.
    pub const fn expired(&self) -> u64 {
        self.expired
    }

    /// The datagram that [`FragmentAssembler::push`] last completed, again; `packet` was its last fragment.
    pub(crate) fn last(&self, packet: &IpPacket<'_>) -> Result<Datagram<'_>, IpDrop> {
        let datagram = udp(packet.source, packet.destination, packet.ttl, packet.protocol, &self.whole)?;
        // Fragments of two datagrams with one identification make one whose checksum is wrong.
        if is_checksum_right(packet.source, packet.destination, &self.whole) {
            Ok(datagram)
        } else {
            Err(IpDrop::Checksum)
        }
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

    /// A UDP datagram without a checksum.
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
    fn overlaps_are_refused() {
        let bytes = datagram(100);
        let mut assembler = FragmentAssembler::default();
        let _ = assembler.push(&piece(1, 0, true, &bytes[..64]));
        assert_eq!(assembler.push(&piece(1, 56, false, &bytes[56..])), Err(IpDrop::FragmentDropped));
        assert_eq!(assembler.push(&piece(1, 65_528, true, &bytes[..8])), Err(IpDrop::FragmentDropped));
    }

    #[test]
    fn datagrams_that_are_never_complete_make_room() {
        let bytes = datagram(100);
        let mut assembler = FragmentAssembler::default();
        for id in 0..1000 {
            let _ = assembler.push(&piece(id, 64, false, &bytes[64..]));
        }
        assert_eq!((assembler.open.len(), assembler.expired()), (MAX_OPEN, 1000 - MAX_OPEN as u64));
        assert!(assembler.push(&piece(999, 0, true, &bytes[..64])).is_ok());
        // One that is fed stays, however many others begin.
        let _ = assembler.push(&piece(7, 0, true, &bytes[..32]));
        for id in 2000..2063 {
            let _ = assembler.push(&piece(id, 64, false, &bytes[64..]));
        }
        let _ = assembler.push(&piece(7, 32, true, &bytes[32..64]));
        let _ = assembler.push(&piece(3000, 64, false, &bytes[64..]));
        assert_eq!(assembler.push(&piece(7, 64, false, &bytes[64..])).unwrap().payload, &bytes[8..]);
    }

    #[test]
    fn a_datagram_of_too_many_fragments_is_dropped_and_the_next_is_complete() {
        let bytes = datagram(8 * MAX_FRAGMENTS);
        let mut assembler = FragmentAssembler::default();
        let fragments: Vec<_> = bytes.chunks(8).enumerate().collect();
        let last = fragments.len() - 1;
        let verdicts: Vec<_> = fragments
            .iter()
            .map(|(at, it)| assembler.push(&piece(1, at * 8, *at < last, it)).map(|_| ()))
            .collect();
        assert_eq!(verdicts[MAX_FRAGMENTS], Err(IpDrop::FragmentDropped));
        assert!(verdicts.iter().all(Result::is_err));
        let _ = assembler.push(&piece(1, 0, true, &bytes[..512]));
        assert_eq!(assembler.push(&piece(1, 512, false, &bytes[512..])).unwrap().payload, &bytes[8..]);
    }

    #[test]
    fn fragments_of_an_earlier_datagram_with_the_same_identification_are_not_used() {
        let (old, new) = (datagram(100), datagram(101));
        let mut assembler = FragmentAssembler::default();
        let _ = assembler.push(&piece(7, 0, true, &old[..64]));
        for id in 0..MAX_FRAGMENT_AGE as u32 / 2 {
            for (offset, more) in [(0, true), (64, false)] {
                let end = if more { 64 } else { old.len() };
                let _ = assembler.push(&piece(100 + id, offset, more, &old[offset..end]));
            }
        }
        assert_eq!(assembler.push(&piece(7, 64, false, &new[64..])), Err(IpDrop::FragmentKept));
        assert_eq!(assembler.expired(), 1);
        assert_eq!(assembler.push(&piece(7, 0, true, &new[..64])).unwrap().payload, &new[8..]);
    }

    #[test]
    fn fragments_of_two_datagrams_do_not_make_one() {
        let datagram = |fill: u8| {
            let mut packet = Vec::new();
            let [from, to] = ["10.0.0.1:9", "239.0.0.1:10"].map(|it| it.parse().unwrap());
            crate::ip::write_udp(&mut packet, from, to, 1, &[fill; 100]);
            packet.split_off(20)
        };
        let (old, new) = (datagram(1), datagram(2));
        let mut assembler = FragmentAssembler::default();
        let _ = assembler.push(&piece(7, 0, true, &old[..64]));
        assert_eq!(assembler.push(&piece(7, 64, false, &new[64..])), Err(IpDrop::Checksum));
        let _ = assembler.push(&piece(7, 0, true, &new[..64]));
        assert_eq!(assembler.push(&piece(7, 64, false, &new[64..])).unwrap().payload, [2; 100]);
    }
}
