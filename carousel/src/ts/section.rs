//! Sections: assembled from packets, checked, taken apart (ISO/IEC 13818-1 clause 2.4.4; EN 300 468).

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

static CRC: crc::Crc<u32, crc::Table<16>> = crc::Crc::<u32, crc::Table<16>>::new(&crc::CRC_32_MPEG_2);

/// CRC_32 of ISO/IEC 13818-1 Annex A. Over a section with its own CRC_32 it is 0.
#[inline]
pub fn crc32(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
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
        /// The section has no CRC_32, so it cannot be checked.
        NoCrc = "no_crc",
        /// The packet is scrambled.
        Scrambled = "scrambled",
    }
}

/// A whole section whose CRC_32 is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section<'a> {
    /// What kind of table.
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
    /// What is between header and CRC_32.
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
        if flags & 0x80 == 0 {
            return Err(SectionDrop::NoCrc);
        }
        if bytes.len() < OVERHEAD_BYTES {
            return Err(SectionDrop::Length);
        }
        if crc32(bytes) != 0 {
            return Err(SectionDrop::Crc);
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
    /// What kind of table.
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
    /// What `write` says, or `Illegal` if the section gets longer than 4096 bytes; nothing is appended then.
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

/// Puts the sections of one PID together.
#[derive(Debug, Default)]
pub struct SectionAssembler {
    bytes: Vec<u8>,
    /// Whether `bytes` is the beginning of a section.
    in_section: bool,
    continuity: Option<u8>,
}

impl SectionAssembler {
    /// Takes a packet of the PID and hands every section that ends in it to `each`, unchecked.
    #[inline]
    pub fn push(&mut self, packet: &Packet<'_>, mut each: impl FnMut(Result<&[u8], SectionDrop>)) {
        if !packet.has_payload {
            return;
        }
        if packet.scrambled {
            self.in_section = false;
            each(Err(SectionDrop::Scrambled));
            return;
        }
        if let Some(last) = self.continuity {
            if packet.continuity == last && !packet.discontinuity {
                // A packet may be sent twice (clause 2.4.3.3).
                return;
            }
            if packet.continuity != (last + 1) & 0x0f && std::mem::replace(&mut self.in_section, false) {
                each(Err(SectionDrop::Discontinuity));
            }
        }
        self.continuity = Some(packet.continuity);
        if !packet.payload_unit_start {
            if self.in_section {
                self.take(packet.payload, &mut each);
            }
            return;
        }
        let Some((&pointer, rest)) = packet.payload.split_first() else { return };
        let Some((tail, mut rest)) = rest.split_at_checked(usize::from(pointer)) else {
            self.in_section = false;
            each(Err(SectionDrop::Pointer));
            return;
        };
        if self.in_section {
            self.take(tail, &mut each);
            if std::mem::replace(&mut self.in_section, false) {
                // The next section begins before this one has ended.
                each(Err(SectionDrop::Length));
            }
        }
        while let Some(&table_id) = rest.first() {
            if table_id == STUFFING_TABLE_ID {
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
            self.in_section = true;
            self.take(rest, &mut each);
            return;
        }
    }

    /// Forgets what was begun, as after a change of channel.
    pub fn reset(&mut self) {
        *self = Self { bytes: std::mem::take(&mut self.bytes), ..Self::default() };
    }

    /// Takes bytes of the section that was begun.
    fn take(&mut self, bytes: &[u8], each: &mut impl FnMut(Result<&[u8], SectionDrop>)) {
        let missing = LENGTH_HEADER.saturating_sub(self.bytes.len());
        let (head, rest) = bytes.split_at(missing.min(bytes.len()));
        self.bytes.extend_from_slice(head);
        let &[_, high, low, ..] = self.bytes.as_slice() else { return };
        let length = LENGTH_HEADER + (usize::from(high & 0x0f) << 8 | usize::from(low));
        if length > MAX_SECTION_BYTES {
            self.in_section = false;
            each(Err(SectionDrop::Length));
            return;
        }
        let wanted = length.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&rest[..wanted.min(rest.len())]);
        if self.bytes.len() >= length {
            self.in_section = false;
            each(Ok(&self.bytes));
        }
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
