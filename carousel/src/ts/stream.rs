//! Where packets begin in a run of bytes: recordings begin anywhere, have 188, 192 or 204 bytes a packet, and holes.

use super::{PACKET_BYTES, SYNC_BYTE};

/// Distances between packets: bare; with a time stamp of four bytes before each (M2TS); with 16 bytes of Reed-Solomon
/// parity behind each.
const STRIDES: [usize; 3] = [PACKET_BYTES, 192, 204];
/// Sync bytes in a row that make a stream of bytes.
const CERTAIN: usize = 5;
/// Where the first packet is looked for.
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

/// Walks the packets of a recording.
#[derive(Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
    stride: usize,
    /// Bytes that were passed over because no packet begins there.
    pub skipped_bytes: u64,
}

impl<'a> Packets<'a> {
    /// Over `bytes`; `None` if they are no transport stream.
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
