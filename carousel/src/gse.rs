//! Generic Stream Encapsulation and the baseband frames that carry it (ETSI TS 102 606-1; EN 302 307-1 clause 5.1.6).
//!
//! ```text
//! IP ─ Encapsulator ─ GSE packets, fragmented where a frame ends ─ BBFRAME: header, data field
//! BBFRAME ─ frame::parse ─ Deframer (label re-use, fragments, CRC_32) ─ IP
//! ```
//!
//! Frames of GS type 00/01 (each begins with a GSE packet) are written; GSE-HEM of DVB-S2X, in which packets are sliced
//! across frames, is left out, as are extension headers beyond passing over them.

use std::collections::BTreeMap;

use crate::bytes::{Reader, WireError, Writer};
use crate::ts::section::crc32;
use crate::{limits, reasons};

/// Bytes of a baseband header.
pub const BBHEADER_BYTES: usize = 10;
/// Kbch of code rate 9/10 without the header (EN 302 307-1 table 5a).
const MAX_DATA_FIELD_BITS: u16 = 58_192 - 80;
/// The largest PDU: total_length has 16 bits, of which 8 bytes may be protocol type and label.
const MAX_PDU_BYTES: usize = 65_535 - 8;
/// GSE_Length has 12 bits.
const MAX_GSE_LENGTH: usize = 4095;
/// A fragment shorter than this is not worth its header.
const LEAST_FRAGMENT_BYTES: usize = 16;

limits! {
    /// Frames within which a fragmented PDU must be complete. At most 256 PDUs are open, by their fragment ids, with up to
    /// 64 KiB each.
    const MAX_FRAMES: u64 = 256, "frames" {
        why: "A PDU of 64 KiB takes nine frames of 7 KB; others are interleaved.",
        full: "The PDU is dropped as `timed_out`.",
        free: "At once: the fragment id can be used again.",
        test: "a_pdu_that_is_never_whole_is_given_up",
    }

    /// Extension headers before a PDU.
    const MAX_EXTENSIONS: usize = 8, "headers" {
        why: "Deployed modulators send none or one.",
        full: "The PDU is dropped as `not_ip`.",
        free: "Holds for one PDU.",
        test: "labels_and_extension_headers_are_skipped",
    }
}

/// CRC-8 of EN 302 307-1 clause 5.1.4 over the header's first nine bytes.
pub fn crc8(bytes: &[u8]) -> u8 {
    static CRC: crc::Crc<u8> = crc::Crc::<u8>::new(&crc::CRC_8_DVB_S2);
    CRC.checksum(bytes)
}

/// A baseband frame's header and data field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// TS/GS: 0 packetised, 1 continuous, 2 GSE-HEM, 3 transport stream.
    pub stream_format: u8,
    /// Input stream identifier, where there are several.
    pub isi: Option<u8>,
    /// Bits before the first packet that begins here; only packetised streams have them.
    pub sync_distance_bits: u16,
    /// The data field, without padding.
    pub data: &'a [u8],
}

/// Reads a frame that begins at its header.
///
/// # Errors
/// `Illegal` if the header's CRC-8 is wrong, `Short` if the data field is longer than the rest.
pub fn parse_frame(bytes: &[u8]) -> Result<Frame<'_>, WireError> {
    let mut reader = Reader::new(bytes);
    let header: [u8; BBHEADER_BYTES] = reader.array("BBHEADER")?;
    let crc = crc8(&header[..9]);
    if crc != header[9] {
        return Err(WireError::Illegal {
            what: "CRC-8",
            value: u64::from(header[9]),
            clause: "EN 302 307-1 5.1.4",
        });
    }
    let data_bits = u16::from_be_bytes([header[4], header[5]]);
    let data = reader.take(usize::from(data_bits / 8), "data field")?;
    Ok(Frame {
        stream_format: header[0] >> 6,
        isi: (header[0] & 0x20 == 0).then_some(header[1]),
        sync_distance_bits: u16::from_be_bytes([header[7], header[8]]),
        data,
    })
}

/// Whether the fields of a header agree with each other (EN 302 307-1 clause 5.1.6): a data field of entire bytes that fits
/// the longest frame, packets of a length where the stream has packets, and a first packet that begins inside. The CRC-8 alone
/// is right by chance in one of 256 headers.
pub fn is_plausible_header(bytes: &[u8]) -> bool {
    let Some(&[matype, _, upl_high, upl_low, dfl_high, dfl_low, sync, sync_high, sync_low]) =
        bytes.first_chunk()
    else {
        return false;
    };
    let number = |high, low| u16::from_be_bytes([high, low]);
    let (packet_bits, data_bits) = (number(upl_high, upl_low), number(dfl_high, dfl_low));
    let distance_bits = number(sync_high, sync_low);
    let is_stream = match matype >> 6 {
        // Generic packetised: their length is known, or they are continuous.
        0 => packet_bits > 0,
        // Transport stream: 188 bytes with their sync byte; with HEM of DVB-S2X neither is sent.
        3 => (packet_bits == 1504 && sync == 0x47) || packet_bits == 0,
        _ => true,
    };
    // 65535: no packet begins in this frame.
    let begins = distance_bits < data_bits || distance_bits == u16::MAX || distance_bits == 0;
    is_stream && data_bits.is_multiple_of(8) && data_bits <= MAX_DATA_FIELD_BITS && begins
}

/// Parameters of the frames that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameProfile {
    /// Bytes of a data field: Kbch/8 − 10 of the carrier's code.
    pub data_bytes: usize,
    /// Input stream identifier of one of several streams.
    pub isi: Option<u8>,
    /// RO: 0 for 0.35, 1 for 0.25, 2 for 0.20.
    pub roll_off: u8,
}

/// Kbch in bits of a normal FECFRAME with this code rate (EN 302 307-1 table 5a).
pub fn kbch_bits(code_rate: &str) -> Option<usize> {
    Some(match code_rate {
        "1/4" => 16_008,
        "1/3" => 21_408,
        "2/5" => 25_728,
        "1/2" => 32_208,
        "3/5" => 38_688,
        "2/3" => 43_040,
        "3/4" => 48_408,
        "4/5" => 51_648,
        "5/6" => 53_840,
        "8/9" => 57_472,
        "9/10" => 58_192,
        _ => return None,
    })
}

/// Fills frames with IP packets.
#[derive(Debug)]
pub struct Encapsulator {
    profile: FrameProfile,
    data: Vec<u8>,
    /// The PDU that continues in the next frame: its bytes from protocol type on, how many are out, its fragment id.
    rest: Option<(Vec<u8>, usize, u8)>,
    fragment_id: u8,
}

/// Bytes of the header of a PDU's first fragment: length, id, total length, protocol type.
const FIRST_HEADER: usize = 7;

impl Encapsulator {
    /// With an empty frame.
    pub const fn new(profile: FrameProfile) -> Self {
        Self { profile, data: Vec::new(), rest: None, fragment_id: 0 }
    }

    /// Bytes that still fit the frame.
    const fn room(&self) -> usize {
        self.profile.data_bytes - self.data.len()
    }

    /// Takes an IP packet (no label: broadcast to all). `frame` gets every frame that is full.
    ///
    /// # Errors
    /// `Unsupported` if it is not IP, `Illegal` if it is too long.
    pub fn push(&mut self, packet: &[u8], mut frame: impl FnMut(&[u8])) -> Result<(), WireError> {
        let protocol = match packet.first().map(|first| first >> 4) {
            Some(4) => 0x0800_u16,
            Some(6) => 0x86dd,
            version => {
                let value = u64::from(version.unwrap_or(0));
                return Err(WireError::Unsupported { what: "IP version", value });
            }
        };
        if packet.len() > MAX_PDU_BYTES {
            let value = packet.len() as u64;
            return Err(WireError::Illegal { what: "PDU length", value, clause: "TS 102 606-1 clause 4.2" });
        }
        if self.room() < FIRST_HEADER + LEAST_FRAGMENT_BYTES {
            self.flush(&mut frame);
        }
        let length = packet.len() + 2;
        if length + 2 <= self.room() && length <= MAX_GSE_LENGTH {
            // S, E, broadcast: a whole packet.
            Writer::new(&mut self.data).u16(0xe000 | length as u16).u16(protocol).bytes(packet);
            return Ok(());
        }
        let mut pdu = Vec::with_capacity(length + 2);
        Writer::new(&mut pdu).u16(length as u16).u16(protocol).bytes(packet);
        let crc = crc32(&pdu);
        pdu.extend_from_slice(&crc.to_be_bytes());
        let count = (self.room() - 3).min(MAX_GSE_LENGTH - 1).min(pdu.len() - 5);
        Writer::new(&mut self.data)
            .u16(0xa000 | (count + 1) as u16)
            .u8(self.fragment_id)
            .bytes(&pdu[..count]);
        self.rest = Some((pdu, count, self.fragment_id));
        self.fragment_id = self.fragment_id.wrapping_add(1);
        while self.rest.is_some() {
            if self.room() < 3 + LEAST_FRAGMENT_BYTES {
                self.flush(&mut frame);
            }
            self.go_on();
        }
        Ok(())
    }

    /// Writes the next fragment of the PDU that was begun.
    fn go_on(&mut self) {
        let Some((pdu, at, id)) = self.rest.take() else { return };
        let left = pdu.len() - at;
        let room = (self.room() - 3).min(MAX_GSE_LENGTH - 1);
        let (flags, count) = if left <= room {
            (0x7000, left)
        } else {
            // CRC_32 is never torn: the last fragment has all of it and a byte of data.
            (0x3000, room.min(left - 5))
        };
        Writer::new(&mut self.data).u16(flags | (count + 1) as u16).u8(id).bytes(&pdu[at..at + count]);
        if count < left {
            self.rest = Some((pdu, at + count, id));
        }
    }

    /// Sends the frame as it is, if there is anything in it.
    pub fn flush(&mut self, mut frame: impl FnMut(&[u8])) {
        if self.data.is_empty() {
            return;
        }
        let mut out = Vec::with_capacity(BBHEADER_BYTES + self.data.len());
        // Continuous generic stream, CCM.
        let single = if self.profile.isi.is_none() { 0x20 } else { 0 };
        Writer::new(&mut out)
            .u8(0x40 | single | 0x10 | self.profile.roll_off & 3)
            .u8(self.profile.isi.unwrap_or(0))
            .u16(0)
            .u16((self.data.len() * 8) as u16)
            .u8(0)
            .u16(0);
        let crc = crc8(&out);
        out.push(crc);
        out.append(&mut self.data);
        frame(&out);
    }
}

reasons! {
    /// Why a baseband frame or a GSE packet is dropped.
    pub enum GseDrop in "transport_dropped" by "reason" {
        /// The header of the baseband frame is wrong, or the frame is truncated.
        Frame = "frame",
        /// The frame carries a transport stream or GSE-HEM instead of GSE.
        Format = "format",
        /// The lengths inside a GSE packet contradict each other.
        Length = "length",
        /// The start of the fragmented PDU was not received.
        Gap = "gap",
        /// The CRC_32 of a reassembled PDU is wrong.
        Crc = "crc",
        /// The PDU was not complete within 256 frames.
        TimedOut = "timed_out",
        /// The PDU is not a whole packet of IPv4 or IPv6.
        NotIp = "not_ip",
    }
}

#[derive(Debug)]
struct OpenPdu {
    /// From total_length on.
    bytes: Vec<u8>,
    total: usize,
    begun_frame: u64,
}

/// Gets IP packets out of frames of one stream.
#[derive(Debug, Default)]
pub struct Deframer {
    frames: u64,
    /// By fragment id: at most 256, and each at most [`MAX_FRAMES`] old.
    open: BTreeMap<u8, OpenPdu>,
    dropped: [u64; GseDrop::ALL.len()],
}

impl Deframer {
    /// Takes a frame that begins at its header; `each` gets every IP packet that ends in it.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        self.frames += 1;
        let frame = match parse_frame(bytes) {
            Ok(frame) if frame.stream_format <= 1 => frame,
            Ok(_) => return self.count(GseDrop::Format),
            Err(_) => return self.count(GseDrop::Frame),
        };
        let before = self.open.len();
        let oldest = self.frames.saturating_sub(MAX_FRAMES);
        self.open.retain(|_, pdu| pdu.begun_frame > oldest);
        self.dropped[GseDrop::TimedOut as usize] += (before - self.open.len()) as u64;
        let mut reader = Reader::new(frame.data);
        while reader.remaining() >= 2 {
            match self.packet(&mut reader, &mut each) {
                Ok(true) => {}
                // Padding: nothing follows.
                Ok(false) => return,
                Err(drop) => {
                    self.count(drop);
                    if drop == GseDrop::Length {
                        return;
                    }
                }
            }
        }
    }

    /// Reads one GSE packet. False at padding.
    fn packet(&mut self, reader: &mut Reader<'_>, each: &mut impl FnMut(&[u8])) -> Result<bool, GseDrop> {
        let short = |_| GseDrop::Length;
        let word = reader.u16("GSE header").map_err(short)?;
        let (start, end, label) = (word & 0x8000 != 0, word & 0x4000 != 0, word >> 12 & 3);
        if !start && !end && label == 0 {
            return Ok(false);
        }
        let mut packet = Reader::new(reader.take(usize::from(word & 0x0fff), "GSE packet").map_err(short)?);
        if start && end {
            let (protocol, pdu) = unwrap(&mut packet, label)?;
            return hand_on(protocol, pdu, each).map(|()| true);
        }
        let id = packet.u8("frag_id").map_err(short)?;
        if start {
            let data = packet.rest();
            let total = usize::from(u16::from_be_bytes(*data.first_chunk().ok_or(GseDrop::Length)?));
            // The label's type is kept in front, until the PDU is complete.
            let mut bytes = vec![label as u8];
            bytes.extend_from_slice(data);
            let pdu = OpenPdu { bytes, total, begun_frame: self.frames };
            if self.open.insert(id, pdu).is_some() {
                return Err(GseDrop::Gap);
            }
            return Ok(true);
        }
        let pdu = self.open.get_mut(&id).ok_or(GseDrop::Gap)?;
        pdu.bytes.extend_from_slice(packet.rest());
        // total_length counts from behind itself; CRC_32 comes on top.
        let whole = 1 + 2 + pdu.total + 4;
        if !end {
            if pdu.bytes.len() > whole {
                self.open.remove(&id);
                return Err(GseDrop::Length);
            }
            return Ok(true);
        }
        let Some(pdu) = self.open.remove(&id) else { return Err(GseDrop::Gap) };
        // Some modulators count total_length wrongly: CRC_32 decides.
        if pdu.bytes.len() < 1 + 2 + 2 + 4 || crc32(&pdu.bytes[1..]) != 0 {
            return Err(GseDrop::Crc);
        }
        let mut inner = Reader::new(&pdu.bytes[3..pdu.bytes.len() - 4]);
        let (protocol, bytes) = unwrap(&mut inner, u16::from(pdu.bytes[0]))?;
        hand_on(protocol, bytes, each).map(|()| true)
    }

    #[cold]
    fn count(&mut self, drop: GseDrop) {
        self.dropped[drop as usize] += 1;
    }

    /// Data that gave no PDU, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (GseDrop, u64)> {
        GseDrop::ALL.iter().map(|&drop| (drop, self.dropped[drop as usize]))
    }
}

/// Protocol type and PDU behind label and extension headers.
fn unwrap<'a>(packet: &mut Reader<'a>, label: u16) -> Result<(u16, &'a [u8]), GseDrop> {
    let short = |_| GseDrop::Length;
    let mut protocol = packet.u16("protocol type").map_err(short)?;
    let label_bytes = match label {
        0 => 6,
        1 => 3,
        _ => 0,
    };
    packet.take(label_bytes, "label").map_err(short)?;
    for _ in 0..MAX_EXTENSIONS {
        if protocol >= 0x0600 {
            break;
        }
        // H-LEN counts words of two bytes with the next type (RFC 4326 section 5); 0 is a mandatory extension.
        let words = usize::from(protocol >> 8 & 7);
        if words == 0 {
            return Err(GseDrop::NotIp);
        }
        packet.take((words - 1) * 2, "extension header").map_err(short)?;
        protocol = packet.u16("protocol type").map_err(short)?;
    }
    Ok((protocol, packet.rest()))
}

fn hand_on(protocol: u16, pdu: &[u8], each: &mut impl FnMut(&[u8])) -> Result<(), GseDrop> {
    if !is_whole_packet(protocol, pdu) {
        return Err(GseDrop::NotIp);
    }
    each(pdu);
    Ok(())
}

/// Whether a PDU has a whole packet of the version that its protocol type names (RFC 791 section 3.1, RFC 8200 section 3). The header
/// of a GSE packet is covered by no CRC: one wrong bit in it makes a fragment a PDU, or the beginning of a PDU a label.
fn is_whole_packet(protocol: u16, pdu: &[u8]) -> bool {
    let word =
        |at: usize| pdu.get(at..at + 2).map_or(usize::MAX, |it| usize::from(it[0]) << 8 | usize::from(it[1]));
    let length = match (protocol, pdu.first().map(|it| it >> 4)) {
        (0x0800, Some(4)) => word(2),
        (0x86dd, Some(6)) => word(4).saturating_add(40),
        _ => return false,
    };
    length <= pdu.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn profile(data_bytes: usize) -> FrameProfile {
        FrameProfile { data_bytes, isi: None, roll_off: 2 }
    }

    fn packet(length: usize) -> Vec<u8> {
        let mut packet = vec![0x45; length.max(20)];
        for (at, byte) in packet.iter_mut().enumerate().skip(1) {
            *byte = at as u8;
        }
        let length = packet.len() as u16;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet
    }

    fn frames(packets: &[Vec<u8>], data_bytes: usize) -> Vec<Vec<u8>> {
        let mut encapsulator = Encapsulator::new(profile(data_bytes));
        let mut frames = Vec::new();
        for packet in packets {
            encapsulator.push(packet, |frame| frames.push(frame.to_vec())).unwrap();
        }
        encapsulator.flush(|frame| frames.push(frame.to_vec()));
        frames
    }

    fn receive(frames: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<(GseDrop, u64)>) {
        let mut deframer = Deframer::default();
        let mut packets = Vec::new();
        for frame in frames {
            deframer.push(frame, |packet| packets.push(packet.to_vec()));
        }
        (packets, deframer.dropped().filter(|it| it.1 > 0).collect())
    }

    #[test]
    fn the_header_is_that_of_en_302_307() {
        let frame = &frames(&[packet(40)], 6041)[0];
        // GS continuous, single, CCM, roll-off 0.20; 44 bytes of data.
        assert_eq!(frame[..9], [0x72, 0, 0, 0, 1, 0x60, 0, 0, 0]);
        assert_eq!(frame[10..14], [0xe0, 42, 0x08, 0x00]);
        assert_eq!(crc8(b"123456789"), 0xbc, "the catalogue's check of CRC-8/DVB-S2");
    }

    #[test]
    fn a_lost_frame_costs_the_packets_in_it() {
        let packets: Vec<_> = (0..40).map(|at| packet(500 + at * 37)).collect();
        let mut all = frames(&packets, 1000);
        all.remove(5);
        let (received, dropped) = receive(&all);
        assert!(received.iter().all(|it| packets.contains(it)) && received.len() >= 36, "{}", received.len());
        assert!(!dropped.is_empty());
    }

    #[test]
    fn a_pdu_that_is_never_whole_is_given_up() {
        let first = frames(&[packet(3000)], 1000)[0].clone();
        let mut all = vec![first];
        all.extend(std::iter::repeat_n(frames(&[packet(30)], 1000)[0].clone(), 300));
        assert_eq!(receive(&all).1, [(GseDrop::TimedOut, 1)]);
    }

    #[test]
    fn labels_and_extension_headers_are_skipped() {
        let mut data = Vec::new();
        // Six-byte label, one optional extension of two words.
        Writer::new(&mut data)
            .u16(0xc000 | (2 + 6 + 2 + 2 + 20))
            .u16(0x0242)
            .bytes(&[1; 6])
            .u16(7)
            .u16(0x0800)
            .bytes(&packet(20));
        let mut frame = vec![0x72, 0, 0, 0];
        Writer::new(&mut frame).u16(data.len() as u16 * 8).u8(0).u16(0);
        let crc = crc8(&frame);
        frame.push(crc);
        frame.extend_from_slice(&data);
        assert_eq!(receive(&[frame]).0, [packet(20)]);
        // As many extensions as are read, and one more.
        for (extensions, received) in [(MAX_EXTENSIONS, 1), (MAX_EXTENSIONS + 1, 0)] {
            let mut data = Vec::new();
            let mut writer = Writer::new(&mut data);
            writer.u16(0xe000 | (2 + extensions * 2 + 20) as u16);
            for _ in 0..extensions {
                writer.u16(0x0100);
            }
            writer.u16(0x0800).bytes(&packet(20));
            let mut frame = vec![0x72, 0, 0, 0];
            Writer::new(&mut frame).u16(data.len() as u16 * 8).u8(0).u16(0);
            frame.push(crc8(&frame));
            frame.extend_from_slice(&data);
            assert_eq!(receive(&[frame]).0.len(), received, "{extensions}");
        }
    }

    #[test]
    fn a_frame_with_a_wrong_header_checksum_gives_nothing() {
        let mut frame = frames(&[packet(40)], 6041).remove(0);
        frame[9] ^= 1;
        assert_eq!(receive(&[frame.clone()]), (vec![], vec![(GseDrop::Frame, 1)]));
        frame[9] ^= 1;
        assert_eq!(receive(&[frame]).0.len(), 1);
    }

    #[test]
    fn a_pdu_may_be_so_many_frames_old() {
        let all = frames(&[packet(1500)], 1000);
        let other = frames(&[packet(30)], 1000).remove(0);
        assert_eq!(all.len(), 2);
        for (between, whole) in [(MAX_FRAMES as usize - 2, true), (MAX_FRAMES as usize - 1, false)] {
            let mut sent = vec![all[0].clone()];
            sent.extend(std::iter::repeat_n(other.clone(), between));
            sent.push(all[1].clone());
            let (packets, dropped) = receive(&sent);
            assert_eq!(packets.last() == Some(&packet(1500)), whole, "{between}");
            assert_eq!(dropped.contains(&(GseDrop::TimedOut, 1)), !whole, "{dropped:?}");
        }
    }

    /// A frame with these GSE packets.
    fn frame_of(data: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x72, 0, 0, 0];
        Writer::new(&mut frame).u16(data.len() as u16 * 8).u8(0).u16(0);
        frame.push(crc8(&frame));
        frame.extend_from_slice(data);
        frame
    }

    #[test]
    fn a_fragmented_pdu_with_a_wrong_byte_is_dropped_by_its_crc() {
        let mut all = frames(&[packet(3000)], 1000);
        *all[1].last_mut().unwrap() ^= 1;
        let (packets, dropped) = receive(&all);
        assert_eq!((packets, dropped), (vec![], vec![(GseDrop::Crc, 1)]));
    }

    #[test]
    fn a_wrong_bit_in_the_header_of_a_packet_makes_no_other_packet() {
        let frames = frames(&[packet(3000)], 700);
        for (at, bit) in (0..frames.len()).flat_map(|at| (0..32).map(move |bit| (at, bit))) {
            let mut wrong = frames.clone();
            wrong[at][BBHEADER_BYTES + bit / 8] ^= 0x80 >> (bit % 8);
            assert!(receive(&wrong).0.iter().all(|it| *it == packet(3000)), "frame {at}, bit {bit}");
        }
        let whole = packet(100);
        assert!(is_whole_packet(0x0800, &whole) && is_whole_packet(0x0800, &[&whole[..], &[0]].concat()));
        assert!(!is_whole_packet(0x0800, &whole[..99]) && !is_whole_packet(0x86dd, &whole));
        let six = [&[0x60, 0, 0, 0, 0, 8][..], &[0; 42]].concat();
        assert!(is_whole_packet(0x86dd, &six) && !is_whole_packet(0x86dd, &six[..47]));
        assert!(!is_whole_packet(0x0800, &[]) && !is_whole_packet(0x0800, &[0x45]));
    }

    #[test]
    fn a_pdu_of_more_fragments_than_its_length_is_dropped_when_that_shows() {
        let mut start = Vec::new();
        // First fragment: id 7, total length 100, IPv4, 20 bytes.
        Writer::new(&mut start).u16(0xa000 | 25).u8(7).u16(100).u16(0x0800).bytes(&packet(20));
        let mut middle = Vec::new();
        Writer::new(&mut middle).u16(0x3000 | 51).u8(7).bytes(&[1; 50]);
        let sent = [&start, &middle, &middle, &middle].map(|data| frame_of(data));
        let mut deframer = Deframer::default();
        let mut open = Vec::new();
        for frame in &sent {
            deframer.push(frame, |_| panic!("no packet is complete"));
            open.push(deframer.open.len());
        }
        assert_eq!(open, [1, 1, 0, 0]);
        let dropped: Vec<_> = deframer.dropped().filter(|it| it.1 > 0).collect();
        assert_eq!(dropped, [(GseDrop::Length, 1), (GseDrop::Gap, 1)]);
    }

    proptest! {
        #[test]
        fn every_packet_comes_out_whatever_the_frames(lengths in proptest::collection::vec(20_usize..9000, 1..20), data_bytes in 200_usize..7300) {
            let packets: Vec<_> = lengths.iter().map(|&it| packet(it)).collect();
            let frames = frames(&packets, data_bytes);
            prop_assert!(frames.iter().all(|it| it.len() <= data_bytes + BBHEADER_BYTES));
            prop_assert_eq!(receive(&frames), (packets, vec![]));
        }

        #[test]
        fn wrong_bits_give_no_wrong_fragmented_packet(flip: usize, bit in 0_u8..8) {
            let packets = vec![packet(3000)];
            let mut frames = frames(&packets, 700);
            let at = flip % frames.len();
            let index = flip % frames[at].len();
            frames[at][index] ^= 1 << bit;
            prop_assert!(receive(&frames).0.iter().all(|it| packets.contains(it)));
        }

        #[test]
        fn no_frame_panics(data in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut frame = vec![0x72, 0, 0, 0];
            Writer::new(&mut frame).u16(data.len() as u16 * 8).u8(0).u16(0);
            let crc = crc8(&frame);
            frame.push(crc);
            frame.extend_from_slice(&data);
            receive(&[frame]);
        }
    }
}
