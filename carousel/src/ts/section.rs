//! Sections: assembled from packets, checked, taken apart (ISO/IEC 13818-1 clause 2.4.4; EN 300 468).
//!
//! Read leniently, since senders on the air do all of this: sections that begin without payload_unit_start_indicator behind
//! one that has ended, DSM-CC and MPE sections with a checksum in place of CRC_32 (ISO/IEC 13818-6 clause 9.2.2; EN 301 192
//! clause 7.1), stuffing tables (EN 300 468 clause 5.2.8), zeros as stuffing, continuity counters that stand still.

use super::Packet;
use crate::bytes::{Reader, WireError};
use crate::reasons;

/// The largest private section (clause 2.4.4.10).
pub const MAX_SECTION_BYTES: usize = 4096;
/// Bytes of a section's header as far as its length.
const LENGTH_HEADER: usize = 3;
/// Header and CRC_32 of a section with the long syntax.
pub const OVERHEAD_BYTES: usize = 12;
/// Stuffing after the last section of a packet.
const STUFFING_TABLE_ID: u8 = 0xff;
/// table_ids of DSM-CC sections and of MPE, the only ones whose short syntax ends with a checksum.
const CHECKSUM_TABLE_IDS: std::ops::RangeInclusive<u8> = 0x38..=0x3f;
/// Bytes of the largest payload of a packet.
const MAX_PAYLOAD_BYTES: usize = 184;

/// CRC_32 of ISO/IEC 13818-1 Annex A. Over a section with its own CRC_32 it is 0.
#[inline]
pub fn crc32(bytes: &[u8]) -> u32 {
    // The CRC is 32 bits wide, the crate returns all widths in 64.
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Mpeg2, bytes) as u32
}

/// Checksum of a DSM-CC section without CRC_32 (ISO/IEC 13818-6 clause 9.2.2): the complement of the one's complement sum
/// of its 32-bit words, padded with zeros, with 0 in place of the checksum.
fn checksum(bytes_before: &[u8]) -> u32 {
    let (words, rest) = bytes_before.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let mut sum: u64 = words.iter().chain([&last]).map(|word| u64::from(u32::from_be_bytes(*word))).sum();
    while sum > u64::from(u32::MAX) {
        sum = (sum & u64::from(u32::MAX)) + (sum >> 32);
    }
    !(sum as u32)
}

reasons! {
    /// Why a section is dropped.
    pub enum SectionDrop in "transport_dropped" by "reason" {
        /// Packets inside the section are missing.
        Discontinuity = "discontinuity",
        /// The section claims more than 4096 bytes, or fewer than its header needs.
        Length = "length",
        /// The pointer_field of a packet points outside the packet.
        Pointer = "pointer",
        /// The CRC_32 is wrong.
        Crc = "crc",
        /// The checksum in place of CRC_32 is wrong.
        Checksum = "checksum",
        /// The section has neither CRC_32 nor a checksum, so it cannot be checked.
        NoCrc = "no_crc",
        /// The packet is scrambled.
        Scrambled = "scrambled",
    }
}

/// A complete section whose CRC_32 or checksum is right. A checksum of 0 means that the sender calculated none: what such
/// a section carries is verified by UDP, IP, FEC and digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section<'a> {
    /// Kind of table.
    pub table_id: u8,
    /// `table_id_extension`: transport_stream_id, program_number, module id and so on.
    pub extension: u16,
    /// 0 to 31.
    pub version: u8,
    /// Whether it is in force now.
    pub current: bool,
    /// Number of this section.
    pub number: u8,
    /// Number of the table's last section.
    pub last_number: u8,
    /// Bytes between header and CRC_32 or checksum.
    pub body: &'a [u8],
    /// All of it.
    pub bytes: &'a [u8],
}

impl<'a> Section<'a> {
    /// Checks and reads a section with the long syntax.
    ///
    /// # Errors
    /// [`SectionDrop`].
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SectionDrop> {
        let &[table_id, flags, low, ..] = bytes else { return Err(SectionDrop::Length) };
        let length = usize::from(flags & 0x0f) << 8 | usize::from(low);
        if bytes.len() != length + LENGTH_HEADER || bytes.len() > MAX_SECTION_BYTES {
            return Err(SectionDrop::Length);
        }
        let has_crc = flags & 0x80 != 0;
        if !has_crc && !CHECKSUM_TABLE_IDS.contains(&table_id) {
            return Err(SectionDrop::NoCrc);
        }
        let Some((before, &own)) =
            bytes.split_last_chunk::<4>().filter(|(before, _)| before.len() + 4 >= OVERHEAD_BYTES)
        else {
            return Err(SectionDrop::Length);
        };
        if has_crc && crc32(bytes) != 0 {
            return Err(SectionDrop::Crc);
        }
        if !has_crc {
            let own = u32::from_be_bytes(own);
            let right = checksum(before);
            // 0 is written as all ones, since 0 says that there is none.
            if own != 0 && own != right && !(right == 0 && own == u32::MAX) {
                return Err(SectionDrop::Checksum);
            }
        }
        Ok(Self {
            table_id,
            extension: u16::from_be_bytes([bytes[3], bytes[4]]),
            version: bytes[5] >> 1 & 0x1f,
            current: bytes[5] & 1 != 0,
            number: bytes[6],
            last_number: bytes[7],
            body: &bytes[8..bytes.len() - 4],
            bytes,
        })
    }

    /// Its body, read from the front.
    pub const fn reader(&self) -> Reader<'a> {
        Reader::new(self.body)
    }
}

/// Head of a section that is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionHead {
    /// Kind of table.
    pub table_id: u8,
    /// The `private_indicator` (DSM-CC: 0, the complement of the bit before) or reserved bit (SI of EN 300 468: 1).
    pub private: bool,
    /// `table_id_extension`.
    pub extension: u16,
    /// 0 to 31.
    pub version: u8,
    /// Number of this section.
    pub number: u8,
    /// Number of the last.
    pub last_number: u8,
}

impl SectionHead {
    /// Appends a section whose body `write` appends, with its CRC_32.
    ///
    /// # Errors
    /// Those of `write`, or `Illegal` if the section gets longer than 4096 bytes; nothing is appended then.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let start = out.len();
        let [high, low] = self.extension.to_be_bytes();
        let version = 0xc1 | (self.version & 0x1f) << 1;
        out.extend_from_slice(&[self.table_id, 0, 0, high, low, version, self.number, self.last_number]);
        let result = write(out).and_then(|()| {
            let bytes = out.len() + 4 - start;
            if bytes <= MAX_SECTION_BYTES {
                return Ok(bytes);
            }
            Err(WireError::Illegal { what: "section length", value: bytes as u64, clause: "clause 2.4.4.11" })
        });
        let bytes = result.inspect_err(|_| out.truncate(start))?;
        let flags = if self.private { 0xf0 } else { 0xb0 };
        let [high, low] = ((bytes - LENGTH_HEADER) as u16).to_be_bytes();
        out[start + 1] = flags | high;
        out[start + 2] = low;
        let crc = crc32(&out[start..]);
        out.extend_from_slice(&crc.to_be_bytes());
        Ok(())
    }
}

/// Place of the next packet's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Position {
    /// Anywhere: only a pointer_field leads to a section.
    #[default]
    Unknown,
    /// In the section that `bytes` is the beginning of.
    Inside,
    /// Behind the end of a section, with no packet missing since: at another section, or at stuffing.
    Between,
}

/// Puts the sections of one PID together.
#[derive(Debug, Default)]
pub struct SectionAssembler {
    bytes: Vec<u8>,
    position: Position,
    continuity: Option<u8>,
    /// Payload of the last packet, to distinguish a repeat of it from a counter that does not change, and from 15 lost
    /// packets.
    last: Vec<u8>,
}

impl SectionAssembler {
    /// Takes a packet of the PID and hands every section that ends in it to `each`, unchecked.
    #[inline]
    pub fn push(&mut self, packet: &Packet<'_>, mut each: impl FnMut(Result<&[u8], SectionDrop>)) {
        if !packet.has_payload {
            return;
        }
        if packet.scrambled {
            self.position = Position::Unknown;
            each(Err(SectionDrop::Scrambled));
            return;
        }
        if let Some(last) = self.continuity {
            if packet.continuity == last && !packet.discontinuity && packet.payload == self.last {
                // A packet may be sent twice (clause 2.4.3.3).
                return;
            }
            if packet.continuity != (last + 1) & 0x0f
                && std::mem::take(&mut self.position) == Position::Inside
            {
                each(Err(SectionDrop::Discontinuity));
            }
        }
        self.continuity = Some(packet.continuity);
        self.last.clear();
        self.last.extend_from_slice(&packet.payload[..packet.payload.len().min(MAX_PAYLOAD_BYTES)]);
        if !packet.payload_unit_start {
            let rest = match self.position {
                Position::Unknown => return,
                Position::Inside => self.take(packet.payload, &mut each),
                Position::Between => packet.payload,
            };
            // No start is marked here, so that garbage is to be expected as well as a section: its reserved bits are 1.
            if matches!(*rest, [first, high, ..] if first != STUFFING_TABLE_ID && high & 0x30 == 0x30) {
                self.sections(rest, &mut each);
            }
            return;
        }
        let Some((&pointer, rest)) = packet.payload.split_first() else { return };
        let Some((tail, rest)) = rest.split_at_checked(usize::from(pointer)) else {
            self.position = Position::Unknown;
            each(Err(SectionDrop::Pointer));
            return;
        };
        if self.position == Position::Inside {
            self.take(tail, &mut each);
            if self.position == Position::Inside {
                // The next section begins before this one has ended.
                each(Err(SectionDrop::Length));
            }
        }
        self.position = Position::Between;
        self.sections(rest, &mut each);
    }

    /// Forgets what was begun, as after a change of channel.
    pub fn reset(&mut self) {
        *self = Self {
            bytes: std::mem::take(&mut self.bytes),
            last: std::mem::take(&mut self.last),
            ..Self::default()
        };
    }

    /// Takes sections one behind the other, up to stuffing or the end of the packet.
    fn sections(&mut self, mut rest: &[u8], each: &mut impl FnMut(Result<&[u8], SectionDrop>)) {
        while let Some(&table_id) = rest.first() {
            // Zeros are not a section of any table: some multiplexers stuff with them.
            if table_id == STUFFING_TABLE_ID || matches!(*rest, [0, 0, 0, ..] | [0, 0] | [0]) {
                return;
            }
            if let [_, high, low, ..] = *rest
                && let Some((section, after)) =
                    rest.split_at_checked(LENGTH_HEADER + (usize::from(high & 0x0f) << 8 | usize::from(low)))
            {
                each(Ok(section));
                rest = after;
                continue;
            }
            self.bytes.clear();
            self.position = Position::Inside;
            self.take(rest, each);
            return;
        }
    }

    /// Takes bytes of the section that was begun; gives what is behind its end.
    fn take<'a>(&mut self, bytes: &'a [u8], each: &mut impl FnMut(Result<&[u8], SectionDrop>)) -> &'a [u8] {
        let missing = LENGTH_HEADER.saturating_sub(self.bytes.len());
        let (head, rest) = bytes.split_at(missing.min(bytes.len()));
        self.bytes.extend_from_slice(head);
        let &[_, high, low, ..] = self.bytes.as_slice() else { return &[] };
        let length = LENGTH_HEADER + (usize::from(high & 0x0f) << 8 | usize::from(low));
        if length > MAX_SECTION_BYTES {
            self.position = Position::Unknown;
            each(Err(SectionDrop::Length));
            return &[];
        }
        let wanted = length.saturating_sub(self.bytes.len());
        let (own, rest) = rest.split_at(wanted.min(rest.len()));
        self.bytes.extend_from_slice(own);
        if self.bytes.len() >= length {
            self.position = Position::Between;
            each(Ok(&self.bytes));
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ts::{PACKET_BYTES, Packetizer, Pid};
    use proptest::prelude::*;

    fn section(extension: u16, body: &[u8]) -> Vec<u8> {
        let head =
            SectionHead { table_id: 0x3c, private: false, extension, version: 3, number: 0, last_number: 0 };
        let mut out = Vec::new();
        head.write(&mut out, |out| {
            out.extend_from_slice(body);
            Ok(())
        })
        .unwrap();
        out
    }

    fn packets(sections: &[Vec<u8>]) -> Vec<[u8; PACKET_BYTES]> {
        let mut packetizer = Packetizer::new(Pid::new(0x100));
        for section in sections {
            packetizer.push(section);
        }
        let mut packets = Vec::new();
        let mut packet = [0; PACKET_BYTES];
        while packetizer.next(&mut packet, true) {
            packets.push(packet);
        }
        packets
    }

    fn assemble(packets: &[[u8; PACKET_BYTES]]) -> (Vec<Vec<u8>>, Vec<SectionDrop>) {
        let mut assembler = SectionAssembler::default();
        let (mut whole, mut dropped) = (Vec::new(), Vec::new());
        for packet in packets {
            let Ok(packet) = Packet::parse(packet) else { continue };
            assembler.push(&packet, |section| match section.and_then(Section::parse) {
                Ok(section) => whole.push(section.bytes.to_vec()),
                Err(drop) => dropped.push(drop),
            });
        }
        (whole, dropped)
    }

    #[test]
    fn the_crc_is_that_of_a_table_on_the_air() {
        // A PAT of a French multiplex, as in the documentation of dvbsnoop.
        let mut pat = vec![0x00, 0xb0, 0x0d, 0x00, 0x01, 0xc1, 0x00, 0x00, 0x00, 0x01, 0xe1, 0x00];
        let crc = crc32(&pat);
        pat.extend_from_slice(&crc.to_be_bytes());
        assert_eq!(crc32(&pat), 0);
        // "123456789" is the check of every catalogue of CRCs.
        assert_eq!(crc32(b"123456789"), 0x0376_e6e7);
        assert_eq!(Section::parse(&pat).unwrap().body.len(), 4);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Of every length, since folding, its rest and short inputs are different code.
        #[test]
        fn the_crc_is_the_remainder_of_annex_a(bytes in proptest::collection::vec(any::<u8>(), 0..1100), from in 0_usize..40) {
            let bytes = &bytes[from.min(bytes.len())..];
            let shifted = bytes.iter().fold(u32::MAX, |crc, byte| {
                (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 })
            });
            prop_assert_eq!(crc32(bytes), shifted);
        }
    }

    #[test]
    fn a_lost_packet_costs_the_sections_that_it_carried() {
        let sections: Vec<_> = (0..20).map(|at| section(at, &vec![at as u8; 1000])).collect();
        let mut packets = packets(&sections);
        packets.remove(30);
        let (whole, dropped) = assemble(&packets);
        assert_eq!((whole.len(), dropped), (19, vec![SectionDrop::Discontinuity]));
        assert!(whole.iter().all(|bytes| sections.contains(bytes)));
    }

    #[test]
    fn a_packet_sent_twice_counts_once() {
        let sections: Vec<_> = (0..3).map(|at| section(at, &[7; 500])).collect();
        let twice: Vec<_> = packets(&sections).into_iter().flat_map(|packet| [packet, packet]).collect();
        assert_eq!(assemble(&twice), (sections, vec![]));
    }

    /// Packets of a PID whose payloads are these, the first with a start indicator and a pointer_field of 0.
    fn run_on(payloads: &[&[u8]]) -> Vec<[u8; PACKET_BYTES]> {
        let packet = |(at, payload): (usize, &&[u8])| {
            let mut packet = [0xff; PACKET_BYTES];
            packet[..4].copy_from_slice(&[0x47, 0x01, 0x00, 0x10 | at as u8 & 0x0f]);
            packet[4..4 + payload.len()].copy_from_slice(payload);
            if at == 0 {
                packet[1] |= 0x40;
            }
            packet
        };
        payloads.iter().enumerate().map(packet).collect()
    }

    #[test]
    fn a_section_may_begin_without_a_start_indicator() {
        let (first, second, third) = (section(1, &[1; 171]), section(2, &[2; 30]), section(3, &[3; 200]));
        let begin = [&[0][..], &first].concat();
        let zeros = [0; 184];
        // The first one fills its packet; the second has stuffing behind it, the third comes a packet later.
        let packets = run_on(&[&begin, &second, &third[..184], &third[184..], &zeros, &second]);
        let all = vec![first.clone(), second.clone(), third.clone(), second.clone()];
        assert_eq!(assemble(&packets), (all, vec![]));
        // One ends inside a packet and the next follows at once.
        let both = [&third[184..], &second].concat();
        let begin = [&[0][..], &third[..183]].concat();
        let both = [&third[183..184], &both].concat();
        assert_eq!(assemble(&run_on(&[&begin, &both])), (vec![third, second.clone()], vec![]));
        // Behind missing packets the start of the next one is not known.
        let mut packets = run_on(&[&[&[0][..], &first].concat(), &second, &second]);
        packets.remove(1);
        assert_eq!(assemble(&packets), (vec![first], vec![]));
    }

    #[test]
    fn a_counter_that_stands_still_is_no_repeat() {
        let sections: Vec<_> = (0..3).map(|at| section(at, &[7; 100])).collect();
        let mut packets: Vec<_> = sections.iter().flat_map(|it| packets(std::slice::from_ref(it))).collect();
        packets.iter_mut().for_each(|packet| packet[3] &= 0xf0);
        assert_eq!(assemble(&packets), (sections, vec![]));
        // Fifteen packets are lost: the counter is the same again.
        let body: Vec<u8> = (0..4000_u16).map(|at| (at / 184) as u8).collect();
        let mut packets = self::packets(&[section(9, &body)]);
        packets.drain(2..17);
        assert_eq!(assemble(&packets).1, [SectionDrop::Discontinuity]);
    }

    #[test]
    fn zeros_are_stuffing_too() {
        let section = section(1, &[1; 20]);
        let mut packets = packets(std::slice::from_ref(&section));
        packets[0][5 + section.len()..].fill(0);
        assert_eq!(assemble(&packets), (vec![section], vec![]));
    }

    #[test]
    fn a_checksum_stands_in_for_the_crc_where_dsm_cc_has_one() {
        let with = |table_id: u8, body: &[u8], own: Option<u32>| {
            let mut bytes = section(5, body);
            bytes[0] = table_id;
            bytes[1] = bytes[1] & 0x0f | 0x70;
            let end = bytes.len() - 4;
            let sum = own.unwrap_or_else(|| checksum(&bytes[..end]));
            bytes[end..].copy_from_slice(&sum.to_be_bytes());
            bytes
        };
        // 0x3e700d00 + 0x05c70000 + 0x01020304, complemented.
        assert_eq!(with(0x3e, &[1, 2, 3, 4], None)[12..], (!0x4539_1004_u32).to_be_bytes());
        for length in 0..9 {
            let body = vec![0xf7; length];
            assert!(Section::parse(&with(0x3e, &body, None)).is_ok_and(|it| it.body == body), "{length}");
        }
        assert!(Section::parse(&with(0x3b, &[1], Some(0))).is_ok());
        assert_eq!(Section::parse(&with(0x3c, &[1], Some(5))), Err(SectionDrop::Checksum));
        assert_eq!(Section::parse(&with(0x02, &[1], None)), Err(SectionDrop::NoCrc));
        assert_eq!(Section::parse(&[0x3e, 0x70, 0x04, 0, 0, 0, 0]), Err(SectionDrop::Length));
    }

    #[test]
    fn lengths_and_pointers_that_lie() {
        let mut long = packets(&[section(1, &[1; 300])]);
        long[0][6] |= 0x0f;
        long[0][7] = 0xff;
        assert_eq!(assemble(&long).1, [SectionDrop::Length]);
        let mut pointer = packets(&[section(1, &[1; 10])]);
        pointer[0][4] = 200;
        assert_eq!(assemble(&pointer).1, [SectionDrop::Pointer]);
        let mut next_begins = packets(&[section(1, &[1; 300])]);
        let again = next_begins[0];
        next_begins[1] = again;
        next_begins[1][3] = again[3] + 1;
        assert_eq!(assemble(&next_begins).1, [SectionDrop::Length]);
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..4084), 1..20)) {
            let sections: Vec<_> = bodies.iter().map(|body| section(9, body)).collect();
            prop_assert_eq!(assemble(&packets(&sections)), (sections, vec![]));
        }

        #[test]
        fn wrong_bits_give_no_wrong_section(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..900), 1..9),
                                            flips in proptest::collection::vec((any::<usize>(), 0_u8..8), 0..9)) {
            let sections: Vec<_> = bodies.iter().map(|body| section(9, body)).collect();
            let mut packets = packets(&sections);
            for (at, bit) in flips {
                let at = at % (packets.len() * PACKET_BYTES);
                packets[at / PACKET_BYTES][at % PACKET_BYTES] ^= 1 << bit;
            }
            for whole in assemble(&packets).0 {
                prop_assert!(sections.contains(&whole));
            }
        }
    }
}
