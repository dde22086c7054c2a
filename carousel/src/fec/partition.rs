//! Block partitioning (RFC 5052 section 9.1, RFC 6330 section 4.4.1.2): which bytes a symbol is.
//!
//! Both algorithms give some blocks of `large` symbols followed by blocks of `small`, so one shape serves all
//! schemes. Symbols are consecutive in the object: symbol number n of the whole object starts at byte n·E.

use super::{EncodingId, Oti, PayloadId};
use crate::bytes::WireError;
use crate::limits::{MAX_OBJECT_BYTES, MAX_OBJECT_SYMBOLS};

/// Partition of an object of a certain length into source blocks and symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Transfer length in bytes.
    pub length: u64,
    /// Encoding symbol length in bytes; never 0.
    pub symbol_length: u32,
    /// Source symbols of the whole object.
    pub symbols: u64,
    /// Source blocks.
    pub blocks: u32,
    /// Symbols in each of the first `large_blocks` blocks.
    pub large: u32,
    /// Symbols in each block after them.
    pub small: u32,
    /// Number of large blocks.
    pub large_blocks: u32,
}

/// Kind of a symbol, by its FEC Payload ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SymbolKind {
    /// Source symbol with this number in the whole object.
    Source(u64),
    /// A repair symbol of an existing block.
    Repair,
    /// No such block, or no such symbol in a scheme without repair symbols.
    Outside,
}

impl Partition {
    /// Partitions by what the OTI says.
    ///
    /// # Errors
    /// `Illegal` if the OTI contradicts itself (no symbol length, no block length, more blocks than the payload ID can
    /// number) or exceeds [`mod@crate::limits`].
    pub fn new(oti: &Oti) -> Result<Self, WireError> {
        let illegal = |what, value| WireError::Illegal { what, value, clause: "RFC 5052 section 9.1" };
        let length = oti.transfer_length;
        if length > MAX_OBJECT_BYTES {
            return Err(illegal("transfer length", length));
        }
        if oti.symbol_length == 0 {
            return Err(illegal("encoding symbol length", 0));
        }
        let symbols = length.div_ceil(u64::from(oti.symbol_length));
        if symbols > MAX_OBJECT_SYMBOLS {
            return Err(illegal("number of symbols", symbols));
        }
        let blocks = match oti.source_blocks() {
            Some(0) if symbols > 0 => return Err(illegal("number of source blocks", 0)),
            Some(blocks) => u64::from(blocks),
            None if oti.max_source_block_length == 0 && symbols > 0 => {
                return Err(illegal("maximum source block length", 0));
            }
            None => symbols.div_ceil(u64::from(oti.max_source_block_length.max(1))),
        };
        if blocks > symbols || blocks > oti.encoding_id.max_blocks() {
            return Err(illegal("number of source blocks", blocks));
        }
        let (small, large_blocks) = match blocks {
            0 => (0, 0),
            _ => (symbols / blocks, symbols % blocks),
        };
        Ok(Self {
            length,
            symbol_length: u32::from(oti.symbol_length),
            symbols,
            blocks: blocks as u32,
            large: (small + u64::from(large_blocks > 0)) as u32,
            small: small as u32,
            large_blocks: large_blocks as u32,
        })
    }

    /// Symbols in block `sbn`; 0 if there is no such block.
    #[inline]
    pub const fn block_symbols(&self, sbn: u32) -> u32 {
        if sbn < self.large_blocks {
            self.large
        } else if sbn < self.blocks {
            self.small
        } else {
            0
        }
    }

    /// Number of the first symbol of block `sbn` in the whole object.
    #[inline]
    pub const fn first_symbol(&self, sbn: u32) -> u64 {
        let (sbn, large_blocks) = (sbn as u64, self.large_blocks as u64);
        if sbn < large_blocks {
            sbn * self.large as u64
        } else {
            large_blocks * self.large as u64 + (sbn - large_blocks) * self.small as u64
        }
    }

    /// The source symbols of a block, numbered through the object.
    pub fn symbols_of(&self, sbn: u32) -> std::ops::Range<u64> {
        let first = self.first_symbol(sbn);
        first..first + u64::from(self.block_symbols(sbn))
    }

    /// Kind of a symbol, by its FEC Payload ID.
    #[inline]
    pub fn place(&self, id: EncodingId, payload_id: PayloadId) -> SymbolKind {
        let in_block = self.block_symbols(payload_id.sbn);
        if payload_id.esi < in_block {
            SymbolKind::Source(self.first_symbol(payload_id.sbn) + u64::from(payload_id.esi))
        } else if in_block > 0 && id != EncodingId::NO_CODE {
            SymbolKind::Repair
        } else {
            SymbolKind::Outside
        }
    }

    /// Block and symbol ID of source symbol number `symbol`, which must be less than `symbols`.
    pub fn payload_id(&self, symbol: u64) -> PayloadId {
        let in_large = u64::from(self.large_blocks) * u64::from(self.large);
        let (sbn, esi) = if symbol < in_large {
            (symbol / u64::from(self.large), symbol % u64::from(self.large))
        } else {
            let after = symbol - in_large;
            let small = u64::from(self.small.max(1));
            (u64::from(self.large_blocks) + after / small, after % small)
        };
        PayloadId { sbn: sbn as u32, esi: esi as u32 }
    }

    /// Bytes `[start, end)` of symbol number `symbol`; only the last symbol is shorter than E.
    #[inline]
    pub fn byte_range(&self, symbol: u64) -> std::ops::Range<u64> {
        let start = symbol * u64::from(self.symbol_length);
        start..(start + u64::from(self.symbol_length)).min(self.length)
    }
}

impl EncodingId {
    /// Most source blocks that the scheme's payload ID can number.
    const fn max_blocks(self) -> u64 {
        match self.0 {
            6 => 1 << 8,
            0 | 1 | 130 => 1 << 16,
            _ => 1 << 24,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn no_code(length: u64, symbol: u16, block: u32) -> Result<Partition, WireError> {
        Partition::new(&Oti::no_code(length, symbol, block))
    }

    #[test]
    fn rt_libflute_700000_bytes_in_blocks_of_64() {
        let partition = no_code(700_000, 1436, 64).unwrap();
        assert_eq!((partition.symbols, partition.blocks, partition.large, partition.small), (488, 8, 61, 61));
        assert_eq!(
            partition.place(EncodingId::NO_CODE, PayloadId { sbn: 7, esi: 60 }),
            SymbolKind::Source(487)
        );
        assert_eq!(partition.byte_range(487), 699_332..700_000);
        assert_eq!(partition.place(EncodingId::NO_CODE, PayloadId { sbn: 7, esi: 61 }), SymbolKind::Outside);
        assert_eq!(partition.place(EncodingId::RAPTORQ, PayloadId { sbn: 7, esi: 61 }), SymbolKind::Repair);
        assert_eq!(partition.place(EncodingId::RAPTORQ, PayloadId { sbn: 8, esi: 0 }), SymbolKind::Outside);
    }

    #[test]
    fn an_empty_object_has_no_blocks() {
        assert_eq!(no_code(0, 1400, 0).unwrap().blocks, 0);
    }

    #[test]
    fn oti_that_contradicts_itself_is_refused() {
        assert!(no_code(1, 0, 1).is_err());
        assert!(no_code(1, 1, 0).is_err());
        assert!(no_code(70_000, 1, 1).is_err(), "65,536 blocks at most");
        assert!(no_code(MAX_OBJECT_BYTES + 1, 65_535, u32::MAX).is_err());
        assert!(no_code(MAX_OBJECT_BYTES, 65_535, 65_535).is_ok(), "the limit itself");
        assert!(no_code(MAX_OBJECT_BYTES, 1, u32::MAX).is_err(), "too many symbols");
        assert_eq!(no_code(MAX_OBJECT_SYMBOLS, 1, 65_535).map(|it| it.symbols), Ok(MAX_OBJECT_SYMBOLS));
        assert!(no_code(MAX_OBJECT_SYMBOLS + 1, 1, 65_535).is_err());
        let raptorq = |z| Oti {
            encoding_id: EncodingId::RAPTORQ,
            scheme: super::super::SchemeInfo::RaptorQ { source_blocks: z, sub_blocks: 1, alignment: 4 },
            ..Oti::no_code(10_000, 1000, 0)
        };
        assert!(Partition::new(&raptorq(0)).is_err());
        assert!(Partition::new(&raptorq(11)).is_err());
        assert_eq!(Partition::new(&raptorq(3)).unwrap().large, 4);
    }

    proptest! {
        #[test]
        fn blocks_tile_the_object(length in 0_u64..5_000_000, symbol in 64_u16..2000, block in 1_u32..9000) {
            let Ok(partition) = no_code(length, symbol, block) else { return Ok(()) };
            let mut next = 0;
            for sbn in 0..partition.blocks {
                prop_assert_eq!(partition.first_symbol(sbn), next);
                prop_assert!(partition.block_symbols(sbn) >= 1 && partition.block_symbols(sbn) <= block);
                next += u64::from(partition.block_symbols(sbn));
            }
            prop_assert_eq!(next, partition.symbols);
            for symbol in [0, partition.symbols / 2, partition.symbols.saturating_sub(1)] {
                if symbol < partition.symbols {
                    let id = partition.payload_id(symbol);
                    prop_assert_eq!(partition.place(EncodingId::NO_CODE, id), SymbolKind::Source(symbol));
                }
            }
            if partition.symbols > 0 {
                prop_assert_eq!(partition.byte_range(partition.symbols - 1).end, length);
            }
        }
    }
}
