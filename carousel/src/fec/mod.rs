//! FEC building block (RFC 5052): Object Transmission Information, block partitioning, FEC Payload IDs.
//!
//! Here is what every scheme shares and how each writes it. Source symbols of every systematic scheme go straight to
//! their place in the object; Compact No-Code (RFC 5445) has nothing but source symbols. What the others make of a
//! source block is behind [`BlockCode`]: repair symbols one way, lost source symbols the other.

mod code;
mod oti;
mod partition;
mod plans;
mod protection;
mod read_limit;
mod reed_solomon;
mod sequence;
mod symbols;
#[cfg(test)]
mod symbols_tests;

pub use code::{BlockCode, BlockEncoder, CodeError, MAX_BLOCK_BYTES};
pub use oti::{Oti, SchemeInfo};
pub use partition::{Partition, SymbolKind};
pub use protection::Protection;
pub use read_limit::ReadLimit;
pub use sequence::{Sequence, Step};
pub use symbols::SymbolMap;

use crate::bytes::{Reader, WireError};
use crate::time::Instant;

/// Atomics of the modules that `tests/interleavings.rs` builds once more with loom's.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
}

/// A source block of one object under reassembly. Senders use TOIs again: a decoded block belongs to the object that it was made
/// of, and not to the next one with its TOI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockId {
    /// Number that the receiver gave to the object when it was opened.
    pub serial: u64,
    /// Source block number.
    pub sbn: u32,
}

/// Serial numbers of the objects of one receiver.
#[derive(Debug, Default)]
pub(crate) struct Serials(u64);

impl Serials {
    /// The next one: later than those of an earlier receiver of the session, whose results may still come.
    pub(crate) fn next(&mut self, now: Instant) -> u64 {
        self.0 = (self.0 + 1).max(now.as_nanos());
        self.0
    }
}

/// FEC Encoding ID (RFC 5052 section 6.1; registry "Reliable Multicast Transport").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EncodingId(pub u8);

impl EncodingId {
    /// Compact No-Code, RFC 5445.
    pub const NO_CODE: Self = Self(0);
    /// Raptor, RFC 5053.
    pub const RAPTOR: Self = Self(1);
    /// Reed-Solomon over GF(2^m), RFC 5510.
    pub const RS_GF2M: Self = Self(2);
    /// Reed-Solomon over GF(2^8), RFC 5510.
    pub const RS_GF28: Self = Self(5);
    /// RaptorQ, RFC 6330.
    pub const RAPTORQ: Self = Self(6);
    /// Small Block, Large Block and Expandable FEC, RFC 5445.
    pub const SMALL_LARGE_EXPANDABLE: Self = Self(128);
    /// Small Block Systematic FEC, RFC 5445.
    pub const SMALL_SYSTEMATIC: Self = Self(129);
    /// Compact FEC, RFC 5445.
    pub const COMPACT_FEC: Self = Self(130);

    /// Whether the scheme's payload ID and OTI can be read from the bytes.
    pub const fn is_known(self) -> bool {
        matches!(self.0, 0 | 1 | 2 | 5 | 6 | 128 | 129 | 130)
    }
}

/// Source block number and encoding symbol ID of the first symbol in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PayloadId {
    /// Source Block Number.
    pub sbn: u32,
    /// Encoding Symbol ID.
    pub esi: u32,
}

impl PayloadId {
    /// Splits what follows the LCT header into FEC Payload ID and encoding symbols. `m` is the field size of
    /// [`EncodingId::RS_GF2M`] (8 unless signalled).
    ///
    /// # Errors
    /// `Short` if the payload ID is cut; `Unsupported` for a scheme that we do not know.
    #[inline]
    pub fn split(id: EncodingId, m: u8, after_lct: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let mut reader = Reader::new(after_lct);
        let word = reader.u32("FEC Payload ID")?;
        let halves = Self { sbn: word >> 16, esi: word & 0xffff };
        let payload_id = match id.0 {
            0 | 1 | 130 => halves,
            2 => {
                let m = u32::from(m.clamp(1, 16));
                Self { sbn: word >> m, esi: word & ((1 << m) - 1) }
            }
            5 => Self { sbn: word >> 8, esi: word & 0xff },
            6 => Self { sbn: word >> 24, esi: word & 0xff_ffff },
            128 => Self { sbn: word, esi: reader.u32("FEC Payload ID")? },
            129 => {
                reader.u16("source block length")?;
                Self { sbn: word, esi: u32::from(reader.u16("FEC Payload ID")?) }
            }
            other => return Err(WireError::Unsupported { what: "FEC Encoding ID", value: u64::from(other) }),
        };
        Ok((payload_id, reader.rest()))
    }

    /// Appends the four bytes of the schemes with 16-bit numbers (0, 1, 130).
    #[inline]
    pub fn write_16_16(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.sbn << 16 | self.esi & 0xffff).to_be_bytes());
    }

    /// Appends the payload ID of a scheme that we send: 0, 1, 5, 6, or 129 with its source block length in symbols.
    #[inline]
    pub fn write(self, id: EncodingId, block_symbols: u32, out: &mut Vec<u8>) {
        match id {
            EncodingId::RS_GF28 => out.extend_from_slice(&(self.sbn << 8 | self.esi & 0xff).to_be_bytes()),
            EncodingId::RAPTORQ => {
                out.extend_from_slice(&(self.sbn << 24 | self.esi & 0xff_ffff).to_be_bytes());
            }
            EncodingId::SMALL_SYSTEMATIC => {
                out.extend_from_slice(&self.sbn.to_be_bytes());
                out.extend_from_slice(&(block_symbols << 16 | self.esi & 0xffff).to_be_bytes());
            }
            _ => self.write_16_16(out),
        }
    }
}
