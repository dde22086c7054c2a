//! Packet boundaries in a series of bytes: recordings and datagrams begin anywhere, have 188, 192, 204 or 208 bytes a packet,
//! and holes. [`Packets`] walks a recording, [`PacketSearch`] takes pieces as they come.

use super::{PACKET_BYTES, SYNC_BYTE};
use crate::limits;

/// Distances between packets: bare; with a time stamp of four bytes before each (M2TS); with the 16 bytes of
/// Reed-Solomon parity of DVB behind each, or the 20 of ATSC.
const STRIDES: [usize; 4] = [PACKET_BYTES, STAMPED_BYTES, 204, 208];
/// A packet with its time stamp.
const STAMPED_BYTES: usize = 192;
/// Sync bytes in a row that make a stream of bytes.
const CERTAIN: usize = 5;
/// Bytes in which the first packet is looked for.
const SEARCH_BYTES: usize = 64 << 10;

/// Whether a file is a transport stream, by its first bytes.
pub fn is_transport_stream(bytes: &[u8]) -> bool {
    alignment(&bytes[..bytes.len().min(SEARCH_BYTES)]).is_some()
}

/// Offset of the first packet and distance to the next.
fn alignment(bytes: &[u8]) -> Option<(usize, usize)> {
    let fits = |offset: usize, stride: usize| {
        let there = (offset..bytes.len()).step_by(stride).take(CERTAIN);
        // A file that is shorter must have sync bytes as far as it goes, whole packets, and more than one by chance.
        let enough = (bytes.len() - offset) / stride >= CERTAIN
            || ((bytes.len() - offset).is_multiple_of(stride) && offset == 0);
        enough && there.into_iter().all(|at| bytes[at] == SYNC_BYTE)
    };
    (0..bytes.len().min(SEARCH_BYTES))
        .filter(|&at| bytes[at] == SYNC_BYTE)
        .find_map(|at| STRIDES.iter().find(|&&stride| fits(at, stride)).map(|&stride| (at, stride)))
}

/// Sync bytes in a row by which a datagram of a stream is recognised: one of 40 million others has them by chance.
const CERTAIN_DATAGRAM: usize = 4;

/// Whether there are packets in a datagram, wherever the first one begins.
pub(crate) fn has_run(bytes: &[u8]) -> bool {
    run(bytes).is_some()
}

/// Offset of the first packet of a run that is too long for chance, and distance to the next.
fn run(bytes: &[u8]) -> Option<(usize, usize)> {
    let of = |stride: usize| {
        let span = (CERTAIN_DATAGRAM - 1) * stride;
        let offsets = stride.min(bytes.len().saturating_sub(span));
        (0..offsets)
            .find(|&at| bytes[at..=at + span].iter().step_by(stride).all(|&byte| byte == SYNC_BYTE))
            .map(|at| (at, stride))
    };
    STRIDES.iter().find_map(|&stride| of(stride))
}

limits! {
    /// Datagrams that are searched for packets while none have been found.
    const MAX_HELD_BYTES: usize = 16 << 10, "bytes" {
        why: "Four sync bytes in a row are found in 800 bytes of a stream, ten datagrams are ample.",
        full: "The datagrams held are dropped as `unaligned`.",
        free: "At once: the search continues with the next datagram.",
        test: "what_is_no_stream_is_counted_and_forgotten",
    }
}

/// Finds packets in pieces of a stream, such as datagrams, that may end inside a packet, be padded, or be missing.
#[derive(Debug, Default)]
pub struct PacketSearch {
    /// Distance between packets; 0: not known yet.
    stride: usize,
    /// The beginning of a packet; where the distance is not known, bytes that were searched without success.
    held: Vec<u8>,
    /// Bytes to pass over before the next packet, if nothing is held.
    skip: usize,
    split: u64,
    unaligned: u64,
    /// Pieces in `held` while the distance is not known.
    pieces: u64,
}

impl PacketSearch {
    /// Packets that were put together from two pieces or more.
    pub const fn split(&self) -> u64 {
        self.split
    }

    /// Pieces in which no packets were found, and ones that ended inside a packet whose rest never came.
    pub const fn unaligned(&self) -> u64 {
        self.unaligned
    }

    /// Bytes before the next packet begins.
    fn ahead(&self) -> usize {
        if self.held.is_empty() { self.skip } else { self.stride - self.held.len() }
    }

    /// Whether packets continue in `piece` from where the last one ended, or begin with it.
    pub(crate) fn goes_on(&self, piece: &[u8]) -> bool {
        self.stride > 0
            && (piece.is_empty()
                || has_packets(piece, self.ahead(), self.stride)
                || aligned_stride(piece).is_some())
    }

    /// Takes the next piece.
    #[inline]
    pub fn push(&mut self, piece: &[u8], each: &mut dyn FnMut(&[u8; PACKET_BYTES])) {
        if self.stride == PACKET_BYTES && self.held.is_empty() && self.skip == 0 && is_whole(piece) {
            for packet in piece.as_chunks::<PACKET_BYTES>().0 {
                each(packet);
            }
            return;
        }
        self.push_any(piece, each);
    }

    fn push_any(&mut self, piece: &[u8], each: &mut dyn FnMut(&[u8; PACKET_BYTES])) {
        if self.stride > 0 && has_packets(piece, self.ahead(), self.stride) {
            self.go_on(piece, each);
            return;
        }
        let aligned = aligned_stride(piece);
        if self.stride > 0 || (self.held.is_empty() && aligned.is_some()) {
            self.lose();
            self.stride = aligned.unwrap_or(0);
            if aligned.is_some() {
                self.walk(piece, each);
                return;
            }
        }
        if self.held.len() + piece.len() > MAX_HELD_BYTES {
            self.forget();
        }
        let before = self.held.len();
        self.held.extend_from_slice(piece);
        self.pieces += 1;
        let found = run(&self.held).or_else(|| aligned.map(|stride| (before, stride)));
        if let Some((offset, stride)) = found {
            let held = std::mem::take(&mut self.held);
            if offset >= before {
                self.unaligned += self.pieces - 1;
            } else {
                self.split += 1;
            }
            self.pieces = 0;
            self.stride = stride;
            self.walk(&held[offset..], each);
        } else if self.held.len() > MAX_HELD_BYTES {
            self.forget();
        }
    }

    /// Gives up what continues in a piece that never came.
    fn lose(&mut self) {
        if self.stride > 0 && !self.held.is_empty() {
            self.pieces = 1;
        }
        self.forget();
    }

    /// Gives up what is held.
    fn forget(&mut self) {
        self.unaligned += self.pieces;
        self.pieces = 0;
        self.held.clear();
        self.skip = 0;
    }

    /// Takes a piece in which packets continue.
    fn go_on(&mut self, piece: &[u8], each: &mut dyn FnMut(&[u8; PACKET_BYTES])) {
        let (own, rest) = piece.split_at(self.ahead().min(piece.len()));
        if self.held.is_empty() {
            self.skip -= own.len();
        } else {
            self.held.extend_from_slice(own);
            if self.held.len() >= PACKET_BYTES {
                if let Some(packet) = self.held.first_chunk() {
                    each(packet);
                    self.split += 1;
                }
                self.skip = self.stride - self.held.len();
                self.held.clear();
            }
        }
        if !rest.is_empty() {
            self.walk(rest, each);
        }
    }

    /// Hands on the packets of bytes that begin with one, and holds the beginning of the last.
    fn walk(&mut self, mut rest: &[u8], each: &mut dyn FnMut(&[u8; PACKET_BYTES])) {
        self.skip = 0;
        while let Some(packet) = rest.first_chunk::<PACKET_BYTES>() {
            if packet[0] != SYNC_BYTE && is_padding(rest) {
                return;
            }
            each(packet);
            let step = self.stride.min(rest.len());
            self.skip = self.stride - step;
            rest = &rest[step..];
        }
        // Anything else is padding.
        if rest.first() == Some(&SYNC_BYTE) {
            self.held.extend_from_slice(rest);
        }
    }
}

fn is_whole(piece: &[u8]) -> bool {
    piece.len().is_multiple_of(PACKET_BYTES)
        && piece.iter().step_by(PACKET_BYTES).all(|&byte| byte == SYNC_BYTE)
}

/// Whether packets begin at `first` and each `stride` bytes behind it: most have their sync byte, since one that is damaged
/// is a damaged packet.
fn has_packets(piece: &[u8], first: usize, stride: usize) -> bool {
    let (mut count, mut right) = (0, 0);
    for &byte in piece.iter().skip(first).step_by(stride) {
        count += 1;
        right += usize::from(byte == SYNC_BYTE);
    }
    count == 0 || right * 2 > count
}

/// Whether bytes behind the packets of a datagram are there only to fill it.
fn is_padding(bytes: &[u8]) -> bool {
    [0xff, 0].iter().any(|fill| bytes.iter().all(|byte| byte == fill))
}

/// Distance between packets of a piece that begins with one and holds whole ones, and perhaps padding or the beginning of
/// another.
pub(crate) fn aligned_stride(piece: &[u8]) -> Option<usize> {
    let fits = |stride: &&usize| {
        let stride = **stride;
        let count = piece.len() / stride;
        let right = piece.iter().step_by(stride).take(count).take_while(|&&byte| byte == SYNC_BYTE).count();
        if right == 0 {
            return false;
        }
        let is_padded = is_padding(&piece[right * stride..]);
        // One sync byte alone says nothing of what is behind its packet: 16 bytes of the next one are not parity.
        let is_next = stride > PACKET_BYTES && piece.get(PACKET_BYTES) == Some(&SYNC_BYTE);
        match count {
            1 => is_padded && !is_next,
            _ => is_padded || has_packets(&piece[..count * stride], 0, stride),
        }
    };
    // A time stamp comes before its packet: such a piece begins with none.
    let strides = || STRIDES.iter().filter(|stride| **stride != STAMPED_BYTES);
    let exact = strides().filter(|stride| piece.len().is_multiple_of(**stride)).find(fits);
    exact.or_else(|| strides().find(fits)).copied()
}

/// Walks the packets of a recording.
#[derive(Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
    stride: usize,
    /// Bytes skipped because no packet begins there.
    pub skipped_bytes: u64,
}

impl<'a> Packets<'a> {
    /// Over `bytes`; `None` if they are not a transport stream.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (offset, stride) = alignment(bytes)?;
        Some(Self { rest: &bytes[offset..], stride, skipped_bytes: offset as u64 })
    }

    /// Bytes not yet walked.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = &'a [u8; PACKET_BYTES];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8; PACKET_BYTES]> {
        loop {
            let packet = self.rest.first_chunk::<PACKET_BYTES>()?;
            if packet[0] == SYNC_BYTE {
                self.rest = &self.rest[self.stride.min(self.rest.len())..];
                return Some(packet);
            }
            let (offset, stride) = alignment(self.rest)?;
            self.skipped_bytes += offset as u64;
            (self.rest, self.stride) = (&self.rest[offset..], stride);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ts::null_packet;

    #[test]
    fn packets_are_found_with_what_lies_between_and_before_them() {
        for (before, between) in [(0, 0), (3, 4), (100, 16), (77, 0)] {
            let mut bytes = vec![0; before];
            for _ in 0..10 {
                bytes.extend(null_packet());
                bytes.extend(vec![1; between]);
            }
            let packets = Packets::new(&bytes).unwrap();
            assert_eq!(packets.count(), 10, "{before} before, {between} between");
        }
    }

    #[test]
    fn a_hole_costs_what_is_in_it() {
        let mut bytes = null_packet().repeat(20);
        bytes.drain(1000..1050);
        let mut packets = Packets::new(&bytes).unwrap();
        assert_eq!(packets.by_ref().count(), 19);
        assert_eq!(packets.skipped_bytes, 138);
        assert!(Packets::new(b"GGGGGGGG").is_none() && !is_transport_stream(&[]));
        assert!(is_transport_stream(&null_packet().repeat(2)));
    }
}
