//! Layered Coding Transport: the header under ALC, FLUTE and ROUTE (RFC 5651 section 5.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |   V   | C |PSI|S| O |H|Res|A|B|   HDR_LEN     | Codepoint (CP)|
//! | CCI: 32 (C+1) bits            | TSI: 32 S + 16 H bits         |
//! | TOI: 32 O + 16 H bits         | [SCT] [ERT] of RFC 3451       |
//! | header extensions up to 4 HDR_LEN bytes                       |
//! ```
//!
//! [`LctHeader::split`] checks every length once; what it returns can be read and written again byte for byte.
//! Extensions are in [`ext`]. What the fields mean to FLUTE or ROUTE is those rooms' business.

pub mod ext;

use crate::bytes::{Reader, WireError, Writer};

/// Transport Session Identifier: 0 to 48 bits. Unique per source address only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tsi(pub u64);

/// Transport Object Identifier: 0 to 112 bits. 0 is the FDT in FLUTE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Toi(pub u128);

impl Toi {
    /// The TOI that carries FDT Instances (RFC 6726 section 3.4).
    pub const FDT: Self = Self(0);
}

impl std::fmt::Display for Tsi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for Toi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Widths of TSI and TOI on the wire: the S, O and H flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Widths {
    /// S: 32 bits of TSI.
    pub tsi_words: u8,
    /// O: 0 to 3 words of 32 bits of TOI.
    pub toi_words: u8,
    /// H: 16 bits more for both.
    pub half_word: bool,
}

impl Widths {
    /// 32-bit TSI and TOI: what every known receiver takes, and the only one for ROUTE.
    pub const BITS_32: Self = Self { tsi_words: 1, toi_words: 1, half_word: false };
    /// 16-bit TSI and TOI, as GPAC and rt-libflute send.
    pub const BITS_16: Self = Self { tsi_words: 0, toi_words: 0, half_word: true };

    /// Bytes of TSI: 0, 2, 4 or 6.
    pub const fn tsi_bytes(self) -> usize {
        4 * self.tsi_words as usize + 2 * self.half_word as usize
    }

    /// Bytes of TOI: 0 to 14, even.
    pub const fn toi_bytes(self) -> usize {
        4 * self.toi_words as usize + 2 * self.half_word as usize
    }
}

/// One LCT header, checked. Borrows the datagram; copies nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LctHeader<'a> {
    /// Protocol-specific indication, 2 bits. ALC: bit 1 is the source packet indicator.
    pub psi: u8,
    /// Widths of TSI and TOI.
    pub widths: Widths,
    /// A: the session is ending.
    pub close_session: bool,
    /// B: no more packets for this object.
    pub close_object: bool,
    /// CP. FLUTE: the FEC Encoding ID. ROUTE: the kind of delivery object.
    pub codepoint: u8,
    /// Congestion control information: 4, 8, 12 or 16 bytes.
    pub cci: &'a [u8],
    /// `None` if S = H = 0.
    pub tsi: Option<Tsi>,
    /// `None` if O = H = 0.
    pub toi: Option<Toi>,
    /// Sender Current Time, if the T bit of RFC 3451 is set (that RFC's users set it where RFC 5651 reserves it).
    pub sct: Option<u32>,
    /// Expected Residual Time, if the R bit of RFC 3451 is set.
    pub ert: Option<u32>,
    /// Header extensions as they are; a multiple of 4 bytes.
    pub extensions: &'a [u8],
}

const CLAUSE: &str = "RFC 5651 section 5.1";
/// HDR_LEN is 8 bits of 32-bit words.
const MAX_HEADER_BYTES: usize = 255 * 4;

impl<'a> LctHeader<'a> {
    /// A header with 32-bit TSI and TOI, no flags and no extensions.
    pub const fn new(tsi: Tsi, toi: Toi) -> Self {
        Self {
            psi: 0,
            widths: Widths::BITS_32,
            close_session: false,
            close_object: false,
            codepoint: 0,
            cci: &[0; 4],
            tsi: Some(tsi),
            toi: Some(toi),
            sct: None,
            ert: None,
            extensions: &[],
        }
    }

    /// Splits `datagram` into its LCT header and what follows.
    ///
    /// # Errors
    /// `Unsupported` if V is not 1; `Short` if the datagram ends inside the header; `Illegal` if HDR_LEN cannot hold
    /// the fields that the header's own flags promise.
    #[inline]
    pub fn split(datagram: &'a [u8]) -> Result<(Self, &'a [u8]), WireError> {
        let [first, flags, hdr_len, codepoint] = Reader::new(datagram).array("LCT header")?;
        if first >> 4 != 1 {
            return Err(WireError::Unsupported { what: "LCT version", value: u64::from(first >> 4) });
        }
        let header_bytes = usize::from(hdr_len) * 4;
        let Some((header, rest)) = datagram.split_at_checked(header_bytes) else {
            return Err(WireError::Short { what: "LCT header", need: header_bytes, have: datagram.len() });
        };
        let illegal = WireError::Illegal { what: "HDR_LEN", value: u64::from(hdr_len), clause: CLAUSE };
        let mut fields = Reader::new(header.get(4..).ok_or(illegal)?);
        let widths =
            Widths { tsi_words: flags >> 7, toi_words: flags >> 5 & 3, half_word: flags >> 4 & 1 == 1 };
        let cci = fields.take(4 * (usize::from(first >> 2 & 3) + 1), "CCI").map_err(|_| illegal)?;
        let tsi = fields.take(widths.tsi_bytes(), "TSI").map_err(|_| illegal)?;
        let toi = fields.take(widths.toi_bytes(), "TOI").map_err(|_| illegal)?;
        let sct = if flags & 8 != 0 { Some(fields.u32("SCT").map_err(|_| illegal)?) } else { None };
        let ert = if flags & 4 != 0 { Some(fields.u32("ERT").map_err(|_| illegal)?) } else { None };
        let extensions = fields.rest();
        if !extensions.len().is_multiple_of(4) {
            // H = 1 with S = O = 0 gives 2 + 2 bytes; any other sum is a multiple of four only by these flags.
            return Err(illegal);
        }
        let header = Self {
            psi: first & 3,
            widths,
            close_session: flags & 2 != 0,
            close_object: flags & 1 != 0,
            codepoint,
            cci,
            tsi: (!tsi.is_empty()).then(|| Tsi(number(tsi) as u64)),
            toi: (!toi.is_empty()).then(|| Toi(number(toi))),
            sct,
            ert,
            extensions,
        };
        Ok((header, rest))
    }

    /// Appends the header to `out`.
    ///
    /// # Errors
    /// `Illegal` if a value does not fit its width, the CCI or the extensions are not whole words, or the header
    /// would be longer than 1020 bytes. `out` is then as it was.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let illegal = |what, value| WireError::Illegal { what, value, clause: CLAUSE };
        let (tsi_bytes, toi_bytes) = (self.widths.tsi_bytes(), self.widths.toi_bytes());
        let (tsi, toi) = (self.tsi.unwrap_or_default().0, self.toi.unwrap_or_default().0);
        if self.tsi.is_some() != (tsi_bytes > 0) || tsi.checked_shr(tsi_bytes as u32 * 8).unwrap_or(0) != 0 {
            return Err(illegal("TSI", tsi));
        }
        if self.toi.is_some() != (toi_bytes > 0) || toi.checked_shr(toi_bytes as u32 * 8).unwrap_or(0) != 0 {
            return Err(illegal("TOI", toi as u64));
        }
        if self.widths.tsi_words > 1 || self.widths.toi_words > 3 {
            return Err(illegal("TOI width", u64::from(self.widths.toi_words)));
        }
        if !matches!(self.cci.len(), 4 | 8 | 12 | 16) {
            return Err(illegal("CCI length", self.cci.len() as u64));
        }
        let times = [self.sct, self.ert].into_iter().flatten();
        let length =
            4 + self.cci.len() + tsi_bytes + toi_bytes + 4 * times.clone().count() + self.extensions.len();
        if !length.is_multiple_of(4) || length > MAX_HEADER_BYTES {
            return Err(illegal("HDR_LEN", length as u64));
        }
        let mut writer = Writer::new(out);
        writer
            .u8(1 << 4 | ((self.cci.len() / 4 - 1) as u8) << 2 | self.psi & 3)
            .u8(self.widths.tsi_words << 7
                | self.widths.toi_words << 5
                | u8::from(self.widths.half_word) << 4
                | u8::from(self.sct.is_some()) << 3
                | u8::from(self.ert.is_some()) << 2
                | u8::from(self.close_session) << 1
                | u8::from(self.close_object))
            .u8((length / 4) as u8)
            .u8(self.codepoint)
            .bytes(self.cci)
            .bytes(&tsi.to_be_bytes()[8 - tsi_bytes..])
            .bytes(&toi.to_be_bytes()[16 - toi_bytes..]);
        for time in times {
            writer.u32(time);
        }
        writer.bytes(self.extensions);
        Ok(())
    }
}

/// A big-endian number of up to 16 bytes. The widths that senders use take no loop.
#[inline]
fn number(bytes: &[u8]) -> u128 {
    match *bytes {
        [a, b, c, d] => u128::from(u32::from_be_bytes([a, b, c, d])),
        [a, b] => u128::from(u16::from_be_bytes([a, b])),
        _ => bytes.iter().fold(0, |value, &byte| value << 8 | u128::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn gpac_header_with_16_bit_tsi_and_toi() {
        // GPAC 26.08-dev, routeout mabr://, media packet of TSI 20, TOI 1.
        let bytes = [0x10, 0x10, 0x03, 0x00, 0, 0, 0, 0, 0, 20, 0, 1, 0xaa];
        let (header, rest) = LctHeader::split(&bytes).unwrap();
        assert_eq!((header.tsi, header.toi, rest), (Some(Tsi(20)), Some(Toi(1)), &[0xaa][..]));
        assert_eq!(header.widths, Widths::BITS_16);
    }

    #[test]
    fn tsi_of_48_bits_and_toi_of_112() {
        let mut out = Vec::new();
        let header = LctHeader {
            widths: Widths { tsi_words: 1, toi_words: 3, half_word: true },
            tsi: Some(Tsi(0xffee_ddcc_bbaa)),
            toi: Some(Toi((1 << 112) - 2)),
            ..LctHeader::new(Tsi(0), Toi(0))
        };
        header.write(&mut out).unwrap();
        assert_eq!(out.len(), 4 + 4 + 6 + 14);
        assert_eq!(LctHeader::split(&out).unwrap(), (header, &[][..]));
    }

    #[test]
    fn residual_times_of_rfc_3451_are_not_extensions() {
        let bytes = [0x10, 0xac, 6, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4];
        let (header, _) = LctHeader::split(&bytes).unwrap();
        assert_eq!((header.sct, header.ert, header.extensions), (Some(3), Some(4), &[][..]));
    }

    #[test]
    fn rejects_hdr_len_smaller_than_flags() {
        for hdr_len in 0..4 {
            let bytes = [0x10, 0xa0, hdr_len, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
            assert!(
                matches!(LctHeader::split(&bytes), Err(WireError::Illegal { what: "HDR_LEN", .. })),
                "{hdr_len}"
            );
        }
        assert!(matches!(
            LctHeader::split(&[0x10, 0xa0, 5, 0, 0]),
            Err(WireError::Short { need: 20, have: 5, .. })
        ));
        assert!(matches!(LctHeader::split(&[0x20, 0, 1, 0]), Err(WireError::Unsupported { value: 2, .. })));
    }

    #[test]
    fn refuses_to_write_what_would_not_fit() {
        let mut out = Vec::new();
        let wide =
            LctHeader { tsi: Some(Tsi(1 << 16)), widths: Widths::BITS_16, ..LctHeader::new(Tsi(0), Toi(1)) };
        assert!(wide.write(&mut out).is_err());
        let long = LctHeader { extensions: &[0; 1024], ..LctHeader::new(Tsi(0), Toi(1)) };
        assert!(long.write(&mut out).is_err());
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_written_byte_for_byte(bytes in proptest::collection::vec(any::<u8>(), 0..96), first in 0x10_u8..0x20) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.first_mut() { *byte = first; }
            if let Some(length) = bytes.get_mut(2) { *length %= 26; }
            if let Ok((header, rest)) = LctHeader::split(&bytes) {
                let mut out = Vec::new();
                header.write(&mut out).unwrap();
                out.extend_from_slice(rest);
                prop_assert_eq!(out, bytes);
            }
        }
    }
}
