//! Object Transmission Information and its form in EXT_FTI, scheme by scheme.
//!
//! | ID | EXT_FTI after HET and HEL | clause |
//! |---|---|---|
//! | 0 | transfer length 48, reserved 16, E 16, B 32 | RFC 5445 section 3 |
//! | 1 | transfer length 48, reserved 16, T 16, Z 16, N 8, Al 8 | RFC 5053 section 3.2 |
//! | 2 | transfer length 48, m 8, G 8, E 16, B 16, max_n 16 | RFC 5510 section 4.2 |
//! | 5 | transfer length 48, E 16, B 8, max_n 8 | RFC 5510 section 5.2 |
//! | 6 | transfer length 40, reserved 8, T 16, Z 8, N 16, Al 8 | RFC 6330 section 3.3 |
//! | 128, 130 | transfer length 48, FEC Instance ID 16, E 16, B 32 | RFC 5445 sections 4 and 6 |
//! | 129 | transfer length 48, FEC Instance ID 16, E 16, B 16, max_n 16 | RFC 5445 section 5 |
//!
//! Raptor and RaptorQ differ in the width of the transfer length; at least one public implementation mixes them up.

use super::EncodingId;
use crate::bytes::{Reader, WireError, Writer};
use crate::lct::ext::{het, write_variable};

/// FEC OTI: all that is needed to place an object's symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Oti {
    /// The scheme.
    pub encoding_id: EncodingId,
    /// FEC Instance ID of the under-specified schemes (128–255); else 0.
    pub instance_id: u16,
    /// Bytes on the air, after content encoding.
    pub transfer_length: u64,
    /// E (T in RFC 5053 and 6330): bytes of an encoding symbol.
    pub symbol_length: u16,
    /// B: most source symbols in a block; 0 for the schemes that give the number of blocks instead.
    pub max_source_block_length: u32,
    /// Elements that only this scheme has.
    pub scheme: SchemeInfo,
}

/// Scheme-specific OTI elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the variants name their fields
pub enum SchemeInfo {
    /// Compact No-Code and the schemes without any.
    None,
    /// Reed-Solomon: most encoding symbols of a block, field size, symbols per group.
    ReedSolomon { max_n: u16, m: u8, group: u8 },
    /// Raptor: Z, N, Al.
    Raptor { source_blocks: u16, sub_blocks: u8, alignment: u8 },
    /// RaptorQ: Z, N, Al.
    RaptorQ { source_blocks: u8, sub_blocks: u16, alignment: u8 },
}

impl Oti {
    /// Compact No-Code.
    pub const fn no_code(transfer_length: u64, symbol_length: u16, max_source_block_length: u32) -> Self {
        Self {
            encoding_id: EncodingId::NO_CODE,
            instance_id: 0,
            transfer_length,
            symbol_length,
            max_source_block_length,
            scheme: SchemeInfo::None,
        }
    }

    /// The number of source blocks, where the scheme signals it.
    pub const fn source_blocks(&self) -> Option<u32> {
        match self.scheme {
            SchemeInfo::Raptor { source_blocks, .. } => Some(source_blocks as u32),
            SchemeInfo::RaptorQ { source_blocks, .. } => Some(source_blocks as u32),
            _ => None,
        }
    }

    /// Whether `other`, the EXT_FTI of a packet, places symbols as this OTI of a description does. What the description leaves out
    /// is not compared.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let has_same_scheme = match (self.scheme, other.scheme) {
            (
                SchemeInfo::ReedSolomon { max_n, m, group },
                SchemeInfo::ReedSolomon { max_n: other_n, m: other_m, group: other_group },
            ) => (max_n == 0 || max_n == other_n) && (m, group) == (other_m, other_group),
            (own, other) => own == other,
        };
        has_same_scheme
            && self.encoding_id == other.encoding_id
            && (self.instance_id == 0 || self.instance_id == other.instance_id)
            && self.transfer_length == other.transfer_length
            && self.symbol_length == other.symbol_length
            && (self.source_blocks().is_some()
                || self.max_source_block_length == other.max_source_block_length)
    }

    /// The field size m of Reed-Solomon payload IDs; 8 elsewhere.
    pub const fn field_bits(&self) -> u8 {
        match self.scheme {
            SchemeInfo::ReedSolomon { m, .. } if m > 0 => m,
            _ => 8,
        }
    }

    /// Reads the content of EXT_FTI of a packet whose scheme is `id`.
    ///
    /// # Errors
    /// `Short` if it is cut, `Unsupported` for an unknown scheme.
    pub fn parse_fti(id: EncodingId, body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let what = "EXT_FTI";
        let transfer_length =
            if id == EncodingId::RAPTORQ { reader.uint::<5>(what)? } else { reader.uint::<6>(what)? };
        let mut oti = Self { encoding_id: id, ..Self::no_code(transfer_length, 0, 0) };
        match id.0 {
            0 | 128 | 130 => {
                oti.instance_id = reader.u16(what)?;
                oti.symbol_length = reader.u16(what)?;
                oti.max_source_block_length = reader.u32(what)?;
                if id == EncodingId::NO_CODE {
                    oti.instance_id = 0; // reserved; RFC 3926 senders put anything there
                }
            }
            1 => {
                reader.u16(what)?;
                oti.symbol_length = reader.u16(what)?;
                oti.scheme = SchemeInfo::Raptor {
                    source_blocks: reader.u16(what)?,
                    sub_blocks: reader.u8(what)?,
                    alignment: reader.u8(what)?,
                };
            }
            2 => {
                let (m, group) = (reader.u8(what)?, reader.u8(what)?);
                oti.symbol_length = reader.u16(what)?;
                oti.max_source_block_length = u32::from(reader.u16(what)?);
                oti.scheme = SchemeInfo::ReedSolomon { max_n: reader.u16(what)?, m, group };
            }
            5 => {
                oti.symbol_length = reader.u16(what)?;
                oti.max_source_block_length = u32::from(reader.u8(what)?);
                oti.scheme = SchemeInfo::ReedSolomon { max_n: u16::from(reader.u8(what)?), m: 8, group: 1 };
            }
            6 => {
                reader.u8(what)?;
                oti.symbol_length = reader.u16(what)?;
                oti.scheme = SchemeInfo::RaptorQ {
                    source_blocks: reader.u8(what)?,
                    sub_blocks: reader.u16(what)?,
                    alignment: reader.u8(what)?,
                };
            }
            129 => {
                oti.instance_id = reader.u16(what)?;
                oti.symbol_length = reader.u16(what)?;
                oti.max_source_block_length = u32::from(reader.u16(what)?);
                oti.scheme = SchemeInfo::ReedSolomon { max_n: reader.u16(what)?, m: 8, group: 1 };
            }
            other => return Err(WireError::Unsupported { what: "FEC Encoding ID", value: u64::from(other) }),
        }
        Ok(oti)
    }

    /// Appends EXT_FTI, HET and HEL included.
    ///
    /// # Errors
    /// `Unsupported` if the scheme is unknown or [`SchemeInfo`] is not this scheme's; `Illegal` if a value is wider
    /// than its field.
    pub fn write_fti(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let bits = if self.encoding_id == EncodingId::RAPTORQ { 40 } else { 48 };
        if self.transfer_length >> bits != 0 {
            let value = self.transfer_length;
            return Err(WireError::Illegal {
                what: "transfer length",
                value,
                clause: "RFC 5052 section 6.2.1",
            });
        }
        let block_length = u16::try_from(self.max_source_block_length).map_err(|_| WireError::Illegal {
            what: "maximum source block length",
            value: u64::from(self.max_source_block_length),
            clause: "RFC 5445 section 5",
        });
        let mut body = Vec::with_capacity(16);
        let mut writer = Writer::new(&mut body);
        match (self.encoding_id.0, self.scheme) {
            (0 | 128 | 130, SchemeInfo::None) => {
                writer.uint::<6>(self.transfer_length).u16(self.instance_id);
                writer.u16(self.symbol_length).u32(self.max_source_block_length);
            }
            (1, SchemeInfo::Raptor { source_blocks, sub_blocks, alignment }) => {
                writer.uint::<6>(self.transfer_length).u16(0).u16(self.symbol_length);
                writer.u16(source_blocks).u8(sub_blocks).u8(alignment);
            }
            (2, SchemeInfo::ReedSolomon { max_n, m, group }) => {
                writer.uint::<6>(self.transfer_length).u8(m).u8(group);
                writer.u16(self.symbol_length).u16(block_length?).u16(max_n);
            }
            (5, SchemeInfo::ReedSolomon { max_n, .. }) => {
                writer.uint::<6>(self.transfer_length).u16(self.symbol_length);
                writer.u8(block_length?.min(255) as u8).u8(max_n.min(255) as u8);
            }
            (6, SchemeInfo::RaptorQ { source_blocks, sub_blocks, alignment }) => {
                writer.uint::<5>(self.transfer_length).u8(0).u16(self.symbol_length);
                writer.u8(source_blocks).u16(sub_blocks).u8(alignment);
            }
            (129, SchemeInfo::ReedSolomon { max_n, .. }) => {
                writer.uint::<6>(self.transfer_length).u16(self.instance_id);
                writer.u16(self.symbol_length).u16(block_length?).u16(max_n);
            }
            (other, _) => {
                return Err(WireError::Unsupported { what: "FEC Encoding ID", value: u64::from(other) });
            }
        }
        write_variable(out, het::FTI, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lct::ext::Extensions;

    #[test]
    fn no_code_as_gpac_sends_it() {
        // GPAC 26.08-dev: FDT of 419 bytes, symbols of 1416.
        let body = [0, 0, 0, 0, 0x01, 0xa3, 0, 0, 0x05, 0x88, 0, 0, 0xff, 0xff];
        let oti = Oti::parse_fti(EncodingId::NO_CODE, &body).unwrap();
        assert_eq!(oti, Oti::no_code(419, 1416, 65_535));
    }

    #[test]
    fn every_scheme_survives_the_trip_with_its_own_header_length() {
        let base = Oti::no_code(0x1_2345_6789, 1400, 200);
        let rs = |m| SchemeInfo::ReedSolomon { max_n: 250, m, group: 1 };
        let cases = [
            (base, 4),
            (Oti { encoding_id: EncodingId(128), instance_id: 7, ..base }, 4),
            (Oti { encoding_id: EncodingId(130), instance_id: 7, ..base }, 4),
            (Oti { encoding_id: EncodingId(2), scheme: rs(10), ..base }, 4),
            (Oti { encoding_id: EncodingId(5), scheme: rs(8), ..base }, 3),
            (Oti { encoding_id: EncodingId(129), instance_id: 3, scheme: rs(8), ..base }, 4),
            (
                Oti {
                    encoding_id: EncodingId(1),
                    max_source_block_length: 0,
                    scheme: SchemeInfo::Raptor { source_blocks: 300, sub_blocks: 1, alignment: 4 },
                    ..base
                },
                4,
            ),
            (
                Oti {
                    encoding_id: EncodingId(6),
                    max_source_block_length: 0,
                    scheme: SchemeInfo::RaptorQ { source_blocks: 30, sub_blocks: 1, alignment: 4 },
                    ..base
                },
                4,
            ),
        ];
        for (oti, words) in cases {
            let mut out = Vec::new();
            oti.write_fti(&mut out).unwrap();
            assert_eq!(out.len(), words * 4, "{:?}", oti.encoding_id);
            let extension = Extensions::new(&out).next().unwrap().unwrap();
            assert_eq!(Oti::parse_fti(oti.encoding_id, extension.body), Ok(oti));
        }
    }

    #[test]
    fn raptor_has_48_bits_of_length_and_raptorq_40() {
        let raptorq = [0, 0, 0, 0x10, 0, 0, 0x05, 0x78, 1, 0, 1, 4, 0, 0];
        assert_eq!(Oti::parse_fti(EncodingId::RAPTORQ, &raptorq).unwrap().transfer_length, 4096);
        let raptor = [0, 0, 0, 0, 0x10, 0, 0, 0, 0x05, 0x78, 0, 1, 1, 4];
        assert_eq!(Oti::parse_fti(EncodingId::RAPTOR, &raptor).unwrap().transfer_length, 4096);
    }

    #[test]
    fn lengths_that_their_field_cannot_hold_are_not_written() {
        let raptorq = |transfer_length| Oti {
            encoding_id: EncodingId::RAPTORQ,
            scheme: SchemeInfo::RaptorQ { source_blocks: 1, sub_blocks: 1, alignment: 4 },
            ..Oti::no_code(transfer_length, 1400, 0)
        };
        for (oti, fits) in [
            (Oti::no_code((1 << 48) - 1, 1400, 64), true),
            (Oti::no_code(1 << 48, 1400, 64), false),
            (raptorq((1 << 40) - 1), true),
            (raptorq(1 << 40), false),
        ] {
            let mut out = Vec::new();
            assert_eq!(oti.write_fti(&mut out).is_ok(), fits, "{oti:?}");
            assert_eq!(out.is_empty(), !fits);
        }
    }

    #[test]
    fn the_reserved_field_of_no_code_says_nothing() {
        let mut out = Vec::new();
        Oti { instance_id: 0x1234, ..Oti::no_code(1000, 100, 10) }.write_fti(&mut out).unwrap();
        let extension = Extensions::new(&out).next().unwrap().unwrap();
        assert_eq!(Oti::parse_fti(EncodingId::NO_CODE, extension.body), Ok(Oti::no_code(1000, 100, 10)));
        let kept = Oti::parse_fti(EncodingId::COMPACT_FEC, extension.body).unwrap();
        assert_eq!(kept.instance_id, 0x1234);
    }
}
