//! MPEG-2 transport streams (ISO/IEC 13818-1) as far as data needs them: packets, sections, programme tables.
//!
//! ```text
//! 188 bytes ─ Packet ─ Demux (a SectionAssembler for each PID that is wanted) ─ Section ─┬ psi: what is in the stream
//!                                                                                        ├ dsmcc: carousels
//! section ─ Packetizer ─ 188 bytes                                                       └ mpe: IP
//! ```
//!
//! | file | what | standard |
//! |---|---|---|
//! | [`section`] | sections out of packets, their header and CRC | ISO/IEC 13818-1 clause 2.4.4 |
//! | [`packetizer`] | packets out of sections | the same |
//! | [`demux`] | which PIDs are looked into; counts of all | |
//! | [`psi`], [`descriptor`] | PAT, PMT, SDT, NIT, TDT, TOT | EN 300 468 |
//! | [`stream`] | where packets begin in recordings and datagrams | |
//! | [`rtp`] | order and losses of TS over RTP | RFC 2250, SMPTE ST 2022-2 |
//!
//! Left out: audio, video and their timing (PES), conditional access.

pub mod demux;
pub mod descriptor;
pub mod packetizer;
pub mod psi;
pub mod rtp;
pub mod section;
pub mod stream;

use crate::reasons;
use std::fmt;

pub use demux::Demux;
pub use packetizer::Packetizer;
pub use section::{Section, SectionAssembler, SectionDrop};

/// Bytes of a packet.
pub const PACKET_BYTES: usize = 188;
/// Its first byte.
pub const SYNC_BYTE: u8 = 0x47;
/// Values that a PID can have.
pub const PIDS: usize = 8192;
/// Packets of one UDP datagram: as many as fit Ethernet, and what every receiver expects.
pub const PACKETS_PER_DATAGRAM: usize = 7;

/// Packet identifier, 13 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(u16);

impl Pid {
    /// Program association table.
    pub const PAT: Self = Self(0);
    /// Network information table.
    pub const NIT: Self = Self(0x10);
    /// Service description table, bouquet association table.
    pub const SDT: Self = Self(0x11);
    /// Time and date table, time offset table.
    pub const TDT: Self = Self(0x14);
    /// Stuffing.
    pub const NULL: Self = Self(0x1fff);

    /// The PID of the low 13 bits.
    pub const fn new(value: u16) -> Self {
        Self(value & 0x1fff)
    }

    /// Its value.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Its value, below [`PIDS`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pid({:#x})", self.0)
    }
}

reasons! {
    /// Why a packet of a transport stream is dropped.
    pub enum PacketDrop in "transport_dropped" by "reason" {
        /// The first byte is not the sync byte 0x47.
        NoSync = "no_sync",
        /// The demodulator marked the packet as erroneous (transport_error_indicator).
        TransportError = "transport_error",
        /// The adaptation field is longer than the packet.
        AdaptationField = "adaptation_field",
    }
}

/// One packet (ISO/IEC 13818-1 clause 2.4.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Packet identifier.
    pub pid: Pid,
    /// A section or PES packet begins in it.
    pub payload_unit_start: bool,
    /// `transport_scrambling_control` is not 0.
    pub scrambled: bool,
    /// Continuity counter, 0 to 15.
    pub continuity: u8,
    /// A gap of the counter is meant here.
    pub discontinuity: bool,
    /// Programme clock reference, in units of 27 MHz.
    pub pcr: Option<u64>,
    /// Whether it has a payload; without one the counter does not change.
    pub has_payload: bool,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a packet.
    ///
    /// # Errors
    /// [`PacketDrop`].
    #[inline]
    pub fn parse(bytes: &'a [u8; PACKET_BYTES]) -> Result<Self, PacketDrop> {
        if bytes[0] != SYNC_BYTE {
            return Err(PacketDrop::NoSync);
        }
        if bytes[1] & 0x80 != 0 {
            return Err(PacketDrop::TransportError);
        }
        let mut packet = Packet {
            pid: Pid::new(u16::from_be_bytes([bytes[1], bytes[2]])),
            payload_unit_start: bytes[1] & 0x40 != 0,
            scrambled: bytes[3] & 0xc0 != 0,
            continuity: bytes[3] & 0x0f,
            discontinuity: false,
            pcr: None,
            has_payload: bytes[3] & 0x10 != 0,
            payload: &bytes[4..],
        };
        if bytes[3] & 0x20 != 0 {
            let length = usize::from(bytes[4]);
            // 183 is a packet that is all adaptation field.
            let field = bytes.get(5..5 + length).ok_or(PacketDrop::AdaptationField)?;
            packet.payload = &bytes[5 + length..];
            if let Some(&flags) = field.first() {
                packet.discontinuity = flags & 0x80 != 0;
                if flags & 0x10 != 0
                    && let Some(&[a, b, c, d, e, f]) = field.get(1..7)
                {
                    let base = u64::from(u32::from_be_bytes([a, b, c, d])) << 1 | u64::from(e >> 7);
                    packet.pcr = Some(base * 300 + (u64::from(e & 1) << 8 | u64::from(f)));
                }
            }
        }
        if !packet.has_payload {
            packet.payload = &[];
        }
        Ok(packet)
    }
}

/// Writes a null packet (clause 2.4.1: PID 0x1FFF).
pub fn null_packet() -> [u8; PACKET_BYTES] {
    let mut packet = [0xff; PACKET_BYTES];
    packet[..4].copy_from_slice(&[SYNC_BYTE, 0x1f, 0xff, 0x10]);
    packet
}

/// Bits of a PCR wrap after this many units: 2^33 · 300.
pub const PCR_MODULUS: u64 = (1 << 33) * 300;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_packet_with_a_clock_reference() {
        let mut bytes = [0xff; PACKET_BYTES];
        bytes[..12].copy_from_slice(&[0x47, 0x41, 0x00, 0x37, 7, 0x90, 0, 0, 0, 2, 0x81, 5]);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.pid, packet.payload_unit_start, packet.continuity), (Pid::new(0x100), true, 7));
        assert_eq!((packet.pcr, packet.discontinuity), (Some(5 * 300 + 256 + 5), true));
        assert_eq!(packet.payload.len(), 176);
    }

    #[test]
    fn what_is_no_packet_says_why() {
        let with = |at: usize, value: u8| {
            let mut bytes = null_packet();
            bytes[3] = 0x30;
            bytes[4] = 0;
            bytes[at] = value;
            bytes
        };
        assert_eq!(Packet::parse(&with(0, 0)), Err(PacketDrop::NoSync));
        assert_eq!(Packet::parse(&with(1, 0x80)), Err(PacketDrop::TransportError));
        assert_eq!(Packet::parse(&with(4, 184)), Err(PacketDrop::AdaptationField));
        assert!(Packet::parse(&with(4, 183)).unwrap().payload.is_empty());
        assert_eq!(Packet::parse(&null_packet()).unwrap().pid, Pid::NULL);
    }

    proptest! {
        #[test]
        fn no_packet_panics(mut bytes in proptest::array::uniform32(any::<u8>())) {
            bytes[0] = SYNC_BYTE;
            let mut packet = [0; PACKET_BYTES];
            packet[..32].copy_from_slice(&bytes);
            let _ = Packet::parse(&packet);
        }
    }
}
