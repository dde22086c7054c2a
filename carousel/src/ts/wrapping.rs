//! How datagrams hold a stream: packets, packets behind an RTP header, a baseband frame.

use super::rtp::{HEADER_BYTES, PAYLOAD_TYPE_MP2T, Reorder, RtpCounts, RtpPacket};
use super::{PACKET_BYTES, SYNC_BYTE};
use crate::gse::parse_frame;

/// A mode adaptation header before a baseband frame: sync byte, ACM command, CNI, frame number.
const MODE_ADAPTATION_BYTES: usize = 4;

/// A kind of wrapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrapping {
    /// Packets, one behind the other.
    Packets,
    /// RTP with packets (SMPTE ST 2022-2).
    Rtp,
    /// One baseband frame.
    Frame,
}

/// What a datagram holds.
#[derive(Debug)]
pub enum Unit<'a> {
    /// A packet of a transport stream.
    Packet(&'a [u8; PACKET_BYTES]),
    /// A baseband frame, from its header on.
    Frame(&'a [u8]),
}

impl Wrapping {
    /// That of a datagram; `None` if it holds no stream. No ALC packet looks so: its version would be 4, 7, 8 or 11.
    pub fn of(payload: &[u8]) -> Option<Self> {
        if are_packets(payload) {
            return Some(Self::Packets);
        }
        let is_rtp = payload.len() > HEADER_BYTES
            && payload[0] >> 6 == 2
            && payload[1] & 0x7f == PAYLOAD_TYPE_MP2T
            && RtpPacket::parse(payload).is_ok_and(|packet| are_packets(packet.payload));
        if is_rtp {
            return Some(Self::Rtp);
        }
        frame_of(payload).map(|_| Self::Frame)
    }
}

fn are_packets(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.len().is_multiple_of(PACKET_BYTES)
        && bytes.iter().step_by(PACKET_BYTES).all(|&byte| byte == SYNC_BYTE)
}

/// The baseband frame of a datagram, behind its mode adaptation header if there is one.
fn frame_of(payload: &[u8]) -> Option<&[u8]> {
    let is_frame = |bytes: &&[u8]| parse_frame(bytes).is_ok_and(|frame| !frame.data.is_empty());
    Some(payload).filter(is_frame).or_else(|| payload.get(MODE_ADAPTATION_BYTES..).filter(is_frame))
}

/// Takes datagrams of one stream apart, and brings those of RTP into order.
#[derive(Debug, Default)]
pub struct Unwrap {
    reorder: Reorder,
    has_rtp: bool,
}

impl Unwrap {
    /// Takes a datagram of a kind that is known.
    #[inline]
    pub fn datagram(&mut self, wrapping: Wrapping, payload: &[u8], each: &mut dyn FnMut(Unit<'_>)) {
        match wrapping {
            Wrapping::Packets => packets(payload, each),
            Wrapping::Frame => each(Unit::Frame(frame_of(payload).unwrap_or(payload))),
            Wrapping::Rtp => {
                if let Ok(packet) = RtpPacket::parse(payload) {
                    self.has_rtp = true;
                    self.reorder.push(&packet, |payload| packets(payload, each));
                }
            }
        }
    }

    /// Nothing has come for a while: what waits for an earlier packet waits no longer.
    pub fn idle(&mut self, each: &mut dyn FnMut(Unit<'_>)) {
        self.reorder.flush(|payload| packets(payload, each));
    }

    /// Order and losses, if there was RTP.
    pub fn rtp(&self) -> Option<RtpCounts> {
        self.has_rtp.then(|| self.reorder.counts())
    }
}

fn packets(payload: &[u8], each: &mut dyn FnMut(Unit<'_>)) {
    for packet in payload.as_chunks::<PACKET_BYTES>().0 {
        each(Unit::Packet(packet));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ts::{null_packet, rtp};

    #[test]
    fn packets_come_out_of_every_wrapping() {
        let mut unwrap = Unwrap::default();
        let mut count = 0;
        let mut take = |payload: &[u8]| {
            let wrapping = Wrapping::of(payload).unwrap();
            unwrap.datagram(wrapping, payload, &mut |unit| {
                assert!(matches!(unit, Unit::Packet(_)));
                count += 1;
            });
        };
        take(&null_packet().repeat(7));
        for sequence in [1, 3, 2] {
            let mut datagram = Vec::new();
            rtp::write_header(&mut datagram, sequence, 0, 1);
            datagram.extend_from_slice(&null_packet().repeat(7));
            take(&datagram);
        }
        assert_eq!((count, unwrap.rtp().unwrap().reordered), (28, 1));
        for other in [&b"nothing of ours"[..], &[0x10, 0, 0, 0, 1, 2, 3, 4], &[], &[0x47; 187]] {
            assert_eq!(Wrapping::of(other), None);
        }
    }
}
