//! Transport streams in datagrams: packets with or without RTP, baseband frames.
//!
//! A datagram need not begin with a packet: FFmpeg sends 1472 bytes by default, other senders pad datagrams or use packets
//! of 204 bytes. Packets are therefore read as a series of bytes and found by their sync bytes; each datagram is first
//! tried as the continuation of the one before. RTP is recognised by the packets behind its header, for any payload type:
//! dynamic ones are declared in session descriptions only.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::alc;
use crate::gse::{is_plausible_header, parse_frame};
use crate::ts::PACKET_BYTES;
use crate::ts::rtp::{HEADER_BYTES, Reorder, RtpCounts, RtpPacket};
use crate::ts::stream::{PacketSearch, aligned_stride, has_run};
use crate::{limits, reasons};

/// A mode adaptation header before a baseband frame: sync byte, ACM command, CNI, frame number.
const MODE_ADAPTATION_BYTES: usize = 4;
/// High nibble of an LCT header of version 1: objects may have packets in them, their session is not a stream.
const LCT_VERSION_NIBBLE: u8 = 1;

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

/// Unit in a datagram: a packet of a transport stream, or a baseband frame.
#[derive(Debug)]
pub enum Unit<'a> {
    /// A packet of a transport stream.
    Packet(&'a [u8; PACKET_BYTES]),
    /// A baseband frame, from its header on.
    Frame(&'a [u8]),
}

reasons! {
    /// Why a datagram of a transport stream is dropped.
    pub enum DatagramDrop in "transport_dropped" by "reason" {
        /// No packets are found in the datagram, or it ends inside a packet whose rest never comes.
        Unaligned = "unaligned",
        /// The other datagrams of the stream have RTP headers, this one has none, or is of a source without packets.
        NoRtp = "no_rtp",
    }
}

impl Wrapping {
    /// The wrapping of a datagram by itself; `None` if it holds no stream that is known by one datagram.
    ///
    /// A packet of ALC may look like a baseband frame: with TSI and TOI of 16 bits, bytes 4 to 13 of one object in 256 have
    /// the right CRC-8. [`Recognizer`] distinguishes them by the other datagrams to the same address.
    pub fn of(payload: &[u8]) -> Option<Self> {
        if are_packets(payload) {
            return Some(Self::Packets);
        }
        if rtp_of(payload).is_some() {
            return Some(Self::Rtp);
        }
        if frame_of(payload).is_some() {
            return Some(Self::Frame);
        }
        let is_lct = payload.first().is_some_and(|first| first >> 4 == LCT_VERSION_NIBBLE);
        (!is_lct && has_run(payload)).then_some(Self::Packets)
    }
}

limits! {
    /// Addresses whose datagrams are remembered as frames or packets of ALC.
    const MAX_RECOGNIZED: usize = 4_096, "addresses" {
        why: "A recording of a full multiplex has hundreds of groups; an entry takes 50 bytes.",
        full: "Datagrams to further addresses that look like both are packets of ALC.",
        free: "Holds for one recording or inspection.",
        test: "addresses_beyond_the_limit_are_recognized_by_each_datagram",
    }
}

/// Form of the datagrams to one address so far, of those that look like one thing only.
#[derive(Debug, Default, Clone, Copy)]
struct DatagramCounts {
    frames: u64,
    alc: u64,
}

/// Distinguishes streams from packets of ALC among the datagrams of unknown addresses, by the other datagrams to the same
/// address.
#[derive(Debug, Default)]
pub struct Recognizer {
    seen: HashMap<SocketAddr, DatagramCounts>,
}

impl Recognizer {
    /// Way in which the next datagram to `destination` holds a stream; `None` if it holds none, as far as its bytes show.
    ///
    /// A datagram that is a packet of ALC by its header and a baseband frame by its checksum is what the majority of the
    /// address's datagrams are that look like one of the two; with as many of each it is a packet.
    pub fn wrapping(&mut self, destination: SocketAddr, payload: &[u8]) -> Option<Wrapping> {
        let wrapping = Wrapping::of(payload);
        if matches!(wrapping, Some(Wrapping::Packets | Wrapping::Rtp)) {
            return wrapping;
        }
        let is_frame = wrapping.is_some();
        let is_alc = alc::Packet::parse(payload).is_ok();
        if !self.seen.contains_key(&destination) && self.seen.len() >= MAX_RECOGNIZED {
            return wrapping.filter(|_| !is_alc);
        }
        let seen = self.seen.entry(destination).or_default();
        match (is_frame, is_alc) {
            (true, true) => return wrapping.filter(|_| seen.frames > seen.alc),
            (true, false) => seen.frames += 1,
            (false, true) => seen.alc += 1,
            (false, false) => {}
        }
        wrapping
    }
}

fn are_packets(bytes: &[u8]) -> bool {
    aligned_stride(bytes).is_some_and(|stride| bytes.len().is_multiple_of(stride))
}

/// The RTP packet of a datagram, if packets of a transport stream are behind its header.
fn rtp_of(payload: &[u8]) -> Option<RtpPacket<'_>> {
    if payload.len() <= HEADER_BYTES || payload[0] >> 6 != 2 {
        return None;
    }
    // Packets of which one is anywhere are as likely those of a datagram that begins inside a packet.
    RtpPacket::parse(payload).ok().filter(|packet| aligned_stride(packet.payload).is_some())
}

/// Whether a datagram is RTCP on the port of RTP (RFC 5761 section 4).
fn is_rtcp(payload: &[u8]) -> bool {
    matches!(*payload, [first, 192..=223, ..] if first >> 6 == 2)
}

/// The baseband frame of a datagram, behind its mode adaptation header if there is one.
fn frame_of(payload: &[u8]) -> Option<&[u8]> {
    let is_frame = |bytes: &&[u8]| {
        is_plausible_header(bytes) && parse_frame(bytes).is_ok_and(|frame| !frame.data.is_empty())
    };
    Some(payload).filter(is_frame).or_else(|| payload.get(MODE_ADAPTATION_BYTES..).filter(is_frame))
}

/// Takes datagrams of one stream apart, and brings those of RTP into order.
#[derive(Debug, Default)]
pub struct Unwrap {
    kind: Option<Wrapping>,
    only_frames: bool,
    /// The last datagram was the first that looks like a frame.
    maybe_frames: bool,
    reorder: Reorder,
    packets: PacketSearch,
    no_rtp: u64,
}

impl Unwrap {
    /// For datagrams that are baseband frames, one each, and nothing else.
    pub fn of_frames() -> Self {
        Self { kind: Some(Wrapping::Frame), only_frames: true, ..Self::default() }
    }

    /// Takes the next datagram.
    #[inline]
    pub fn datagram(&mut self, payload: &[u8], each: &mut dyn FnMut(Unit<'_>)) {
        match self.wrapping(payload) {
            Wrapping::Frame => {
                each(Unit::Frame(frame_of(payload).unwrap_or(payload)));
                if self.kind != Some(Wrapping::Frame) {
                    self.packets.push(payload, &mut |packet| each(Unit::Packet(packet)));
                }
            }
            Wrapping::Packets => self.packets.push(payload, &mut |packet| each(Unit::Packet(packet))),
            Wrapping::Rtp => self.rtp_packet(payload, each),
        }
    }

    fn rtp_packet(&mut self, payload: &[u8], each: &mut dyn FnMut(Unit<'_>)) {
        if is_rtcp(payload) {
            return;
        }
        // Another source on the same port is a stream only if it has packets: it may be FEC.
        let packet = RtpPacket::parse(payload).ok();
        let packet = packet.filter(|it| self.reorder.ssrc() == Some(it.ssrc) || rtp_of(payload).is_some());
        let Some(packet) = packet else {
            self.no_rtp += 1;
            return;
        };
        let packets = &mut self.packets;
        self.reorder.push(&packet, |payload| {
            packets.push(payload, &mut |packet| each(Unit::Packet(packet)));
        });
    }

    /// Way in which the next datagram holds its stream: as those before, unless it looks otherwise for certain.
    #[inline]
    fn wrapping(&mut self, payload: &[u8]) -> Wrapping {
        let goes_on = match self.kind {
            None | Some(Wrapping::Packets) => self.packets.goes_on(payload),
            Some(Wrapping::Rtp) => payload.len() > HEADER_BYTES && payload[0] >> 6 == 2,
            Some(Wrapping::Frame) => self.only_frames || frame_of(payload).is_some(),
        };
        if goes_on { self.kind.unwrap_or(Wrapping::Packets) } else { self.wrapping_again(payload) }
    }

    #[cold]
    fn wrapping_again(&mut self, payload: &[u8]) -> Wrapping {
        let found = Wrapping::of(payload);
        let is_frame = found == Some(Wrapping::Frame);
        // A checksum of 8 bits makes a frame: a part of a packet has it by chance, two in a row have not.
        let is_certain = found.is_some() && (!is_frame || self.maybe_frames);
        self.maybe_frames = is_frame;
        if is_certain {
            self.kind = found;
        }
        found.or(self.kind).unwrap_or(Wrapping::Packets)
    }

    /// Nothing has come for a while: what waits for an earlier packet waits no longer.
    pub fn idle(&mut self, each: &mut dyn FnMut(Unit<'_>)) {
        let packets = &mut self.packets;
        self.reorder.flush(|payload| packets.push(payload, &mut |packet| each(Unit::Packet(packet))));
    }

    /// Whether packets have come, so that what follows is of the same stream even where it looks like nothing by itself.
    pub const fn is_certain(&self) -> bool {
        matches!(self.kind, Some(Wrapping::Packets | Wrapping::Rtp))
    }

    /// Order and losses, if there was RTP.
    pub fn rtp(&self) -> Option<RtpCounts> {
        (self.kind == Some(Wrapping::Rtp)).then(|| self.reorder.counts())
    }

    /// Packets of which a part was in one datagram and the rest in the next.
    pub const fn split_packets(&self) -> u64 {
        self.packets.split()
    }

    /// Datagrams that gave nothing, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (DatagramDrop, u64)> {
        [(DatagramDrop::Unaligned, self.packets.unaligned()), (DatagramDrop::NoRtp, self.no_rtp)].into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ts::{null_packet, rtp};
    use proptest::prelude::*;

    /// Packets that are distinguished by their payload, which has sync bytes in it here and there.
    fn stream(count: usize) -> Vec<[u8; PACKET_BYTES]> {
        let mut state = 1_u32;
        let mut packet = |_| {
            let mut packet = null_packet();
            for byte in &mut packet[4..] {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24) as u8;
            }
            packet
        };
        (0..count).map(&mut packet).collect()
    }

    fn unwrap<'a>(datagrams: impl IntoIterator<Item = &'a [u8]>) -> (Vec<[u8; PACKET_BYTES]>, Unwrap) {
        let (mut unwrap, mut out) = (Unwrap::default(), Vec::new());
        for datagram in datagrams {
            unwrap.datagram(datagram, &mut |unit| match unit {
                Unit::Packet(packet) => out.push(*packet),
                // A checksum of 8 bits is right by chance now and then.
                Unit::Frame(_) => {}
            });
        }
        (out, unwrap)
    }

    fn rtp(sequence: u16, payload_type: u8, ssrc: u32, payload: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::new();
        rtp::write_header(&mut datagram, sequence, 0, ssrc);
        datagram[1] = payload_type;
        datagram.extend_from_slice(payload);
        datagram
    }

    #[test]
    fn packets_come_out_of_every_wrapping() {
        let all = stream(28);
        let groups: Vec<Vec<u8>> = all.chunks(7).map(<[_]>::concat).collect();
        let plain = groups.iter().map(Vec::as_slice);
        assert_eq!(unwrap(plain).0, all);
        for (payload_type, ssrc) in [(33, 1), (96, 7), (0, 0), (33 | 0x80, 0)] {
            let order = [0, 2, 1, 3];
            let mut datagrams = order.map(|at| rtp(at as u16, payload_type, ssrc, &groups[at])).to_vec();
            // RTCP, and the FEC of SMPTE ST 2022-1, on the same port.
            datagrams.insert(1, rtp(700, 200, ssrc, &[1; 20]));
            datagrams.insert(2, rtp(700, 96, 5000, &[1; 1330]));
            let (out, unwrap) = unwrap(datagrams.iter().map(Vec::as_slice));
            let counts = unwrap.rtp().unwrap();
            assert_eq!((out, counts.reordered, counts.restarts), (all.clone(), 1, 0));
            assert_eq!(unwrap.dropped().collect::<Vec<_>>()[1], (DatagramDrop::NoRtp, 1));
        }
        for other in [&b"nothing of ours"[..], &[0x10, 0, 0, 0, 1, 2, 3, 4], &[], &[0x47; 187]] {
            assert_eq!(Wrapping::of(other), None);
        }
        // An ALC packet with packets of a segment in it.
        let mut alc = vec![0x10, 0x10, 3, 0];
        alc.extend_from_slice(&groups.concat());
        assert_eq!(Wrapping::of(&alc), None);
    }

    #[test]
    fn datagrams_need_not_begin_with_a_packet() {
        let all = stream(200);
        let bytes = all.concat();
        for size in [100, 187, 188, 189, 576, 1000, 1316, 1400, 1472, 8192] {
            let (out, unwrap) = unwrap(bytes.chunks(size));
            assert_eq!(out, all, "{size}");
            assert_eq!(unwrap.split_packets() > 0, !size.is_multiple_of(188), "{size}");
            assert_eq!(unwrap.dropped().find(|(_, count)| *count > 0), None, "{size}");
        }
        // A receiver that comes late, in the middle of a packet.
        for (from, size) in [(1000, 1472), (94, 1000), (1, 1316)] {
            let late = unwrap(bytes[from..].chunks(size)).0;
            assert_eq!(late, all[from.div_ceil(PACKET_BYTES)..], "{from} {size}");
        }
    }

    #[test]
    fn a_datagram_that_is_lost_costs_what_was_in_it() {
        let all = stream(200);
        let bytes = all.concat();
        let datagrams: Vec<&[u8]> = bytes.chunks(1472).collect();
        let lossy = datagrams.iter().enumerate().filter(|(at, _)| at % 5 != 4).map(|(_, it)| *it);
        let out = unwrap(lossy).0;
        assert!(out.iter().all(|packet| all.contains(packet)), "a wrong packet");
        // Five in 26 datagrams of 7.8 packets: each takes up to 9 packets with it.
        assert!(out.len() >= 200 - 5 * 9, "{}", out.len());
    }

    #[test]
    fn parity_padding_and_a_damaged_sync_byte() {
        let all = stream(56);
        let parity: Vec<Vec<u8>> = all.iter().map(|it| [&it[..], &[9; 16]].concat()).collect();
        for count in [1, 2, 7] {
            let datagrams: Vec<Vec<u8>> = parity.chunks(count).map(<[_]>::concat).collect();
            assert_eq!(unwrap(datagrams.iter().map(Vec::as_slice)).0, all, "204 bytes, {count} a datagram");
        }
        assert_eq!(unwrap(parity.concat().chunks(1472)).0, all, "204 bytes, split");
        let stamped: Vec<u8> = all.iter().flat_map(|it| [&[1, 2, 3, 4], &it[..]].concat()).collect();
        assert_eq!(unwrap(stamped.chunks(7 * 192)).0, all, "192 bytes");
        for fill in [0xff, 0] {
            let padded = |it: &[[u8; PACKET_BYTES]]| {
                let mut datagram = it.concat();
                datagram.resize(1400, fill);
                datagram
            };
            let datagrams: Vec<Vec<u8>> = all.chunks(7).chain([&all[..2]]).map(padded).collect();
            let all = [&all[..], &all[..2]].concat();
            assert_eq!(unwrap(datagrams.iter().map(Vec::as_slice)).0, all, "padded with {fill}");
        }
        // Its packet is handed on, to be counted by its parser.
        let mut damaged = all.concat();
        damaged[PACKET_BYTES * 10] = 0;
        assert_eq!(unwrap(damaged.chunks(1316)).0.len(), 56);
    }

    /// A packet as GPAC sends it, with 16-bit TSI and TOI and Compact No-Code's FEC Payload ID.
    fn narrow_alc(tsi: u16, toi: u16, symbol: u8) -> Vec<u8> {
        let mut out = vec![0x10, 0x10, 3, 0, 0, 0, 0, 0];
        for half in [tsi, toi, 0, 0] {
            out.extend_from_slice(&half.to_be_bytes());
        }
        out.extend_from_slice(&[symbol; 1416]);
        out
    }

    fn frames(count: usize) -> Vec<Vec<u8>> {
        let profile = crate::gse::FrameProfile { data_bytes: 1400, isi: None, roll_off: 0 };
        let mut encapsulator = crate::gse::Encapsulator::new(profile);
        let mut out = Vec::new();
        while out.len() < count {
            let packet = [&[0x45_u8][..], &[3; 700]].concat();
            encapsulator.push(&packet, |frame| out.push(frame.to_vec())).unwrap();
        }
        out
    }

    #[test]
    fn packets_of_alc_with_the_checksum_of_a_frame_are_packets_of_alc() {
        let destination = "239.0.0.1:6000".parse().unwrap();
        let mut recognizer = Recognizer::default();
        let mut with_checksum = 0;
        for tsi in [1, 10, 16, 20, 1024] {
            for toi in 0..2048 {
                let packet = narrow_alc(tsi, toi, 9);
                with_checksum += usize::from(parse_frame(&packet[MODE_ADAPTATION_BYTES..]).is_ok());
                for _ in 0..3 {
                    assert_eq!(recognizer.wrapping(destination, &packet), None, "TSI {tsi}, TOI {toi}");
                }
            }
        }
        assert!(with_checksum > 20, "the case that this test is about: {with_checksum}");
        // Frames to another address of the same recording are frames, even after other packets.
        let other = "239.0.0.2:6000".parse().unwrap();
        for frame in frames(20) {
            let adapted = [&[0xb8, 0, 0, 0][..], &frame].concat();
            assert_eq!(recognizer.wrapping(other, &frame), Some(Wrapping::Frame));
            assert_eq!(recognizer.wrapping(other, &adapted), Some(Wrapping::Frame));
        }
    }

    #[test]
    fn a_datagram_that_looks_like_both_is_what_its_neighbours_are() {
        let destination = "239.0.0.3:6000".parse().unwrap();
        let mut recognizer = Recognizer::default();
        let frame = &frames(1)[0];
        // A mode adaptation header that is an LCT header too, as far as lengths go.
        let both = [&[0x10, 0, 2, 0][..], frame].concat();
        assert!(alc::Packet::parse(&both).is_ok() && Wrapping::of(&both) == Some(Wrapping::Frame));
        assert_eq!(recognizer.wrapping(destination, &both), None, "nothing is known yet");
        assert_eq!(recognizer.wrapping(destination, frame), Some(Wrapping::Frame));
        assert_eq!(recognizer.wrapping(destination, &both), Some(Wrapping::Frame));
        for _ in 0..2 {
            recognizer.wrapping(destination, &narrow_alc(1, 1, 7));
        }
        assert_eq!(recognizer.wrapping(destination, &both), None);
    }

    #[test]
    fn addresses_beyond_the_limit_are_recognized_by_each_datagram() {
        let mut recognizer = Recognizer::default();
        let (frame, packet) = (&frames(1)[0], narrow_alc(10, 78, 1));
        let address = |at: usize| SocketAddr::from(([239, 0, (at >> 8) as u8, at as u8], 6000));
        for at in 0..MAX_RECOGNIZED + 100 {
            assert_eq!(recognizer.wrapping(address(at), frame), Some(Wrapping::Frame));
            assert_eq!(recognizer.wrapping(address(at), &packet), None);
        }
        assert_eq!(recognizer.seen.len(), MAX_RECOGNIZED);
    }

    #[test]
    fn what_is_no_stream_is_counted_and_forgotten() {
        let noise = vec![0x55; 1000];
        let all = stream(70);
        let groups: Vec<Vec<u8>> = all.chunks(7).map(<[_]>::concat).collect();
        let datagrams = std::iter::repeat_n(noise.as_slice(), 500).chain(groups.iter().map(Vec::as_slice));
        let (out, unwrap) = unwrap(datagrams);
        assert_eq!(out, all);
        assert_eq!(unwrap.dropped().collect::<Vec<_>>()[0], (DatagramDrop::Unaligned, 500));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_packets(sizes in proptest::collection::vec(1_usize..1500, 1..60)) {
            let all = stream(100);
            let bytes = all.concat();
            let (mut rest, mut datagrams) = (bytes.as_slice(), Vec::new());
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break; }
                let (datagram, after) = rest.split_at((*size).min(rest.len()));
                datagrams.push(datagram);
                rest = after;
            }
            prop_assert!(unwrap(datagrams).0 == all);
        }

        #[test]
        fn nothing_panics(datagrams in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(0x47_u8), any::<u8>()], 0..600), 0..20)) {
            let mut unwrap = Unwrap::default();
            for datagram in &datagrams { unwrap.datagram(datagram, &mut |_| ()); }
            unwrap.idle(&mut |_| ());
        }
    }
}
