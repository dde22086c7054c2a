//! Encoding and decoding of one source block, for each FEC scheme.
//!
//! The mathematics of Raptor and RaptorQ are in crates, whose assertions must never see numbers from the network:
//! [`BlockCode::new`] refuses what they would not take. Blocks of RaptorQ with few symbols missing go through the plan of their K'
//! (`skycache-raptorq`), the others through the elimination of the `raptorq` crate. Symbols are passed at their full length; the short last symbol
//! of an object is padded with zeros for coding (RFC 5053 section 5.3.1.2, RFC 6330 section 4.4.1.2).

use std::fmt;

use raptorq::{EncodingPacket, ObjectTransmissionInformation, SourceBlockDecoder};

use super::{EncodingId, Oti, SchemeInfo};
use super::{plans, reed_solomon};
use crate::limits;

/// RFC 6330 section 5.1.2.
const MAX_RAPTORQ_SYMBOLS: u32 = 56_403;
/// RFC 5053 section 5.1.2 and 5.4.2.3.
const RAPTOR_SYMBOLS: std::ops::RangeInclusive<u32> = 4..=8192;

limits! {
    /// One source block in memory for encoding or decoding.
    pub const MAX_BLOCK_BYTES: u64 = 64 << 20, "bytes" {
        why: "Our own blocks have 1 to 2 MB, so that a set-top box can hold several.",
        full: "The block is not decoded: its repair symbols are dropped as `repair_symbol`.",
        free: "Holds for one block.",
        test: "what_the_mathematics_would_not_take_is_refused_before",
    }
}

/// Why a block cannot be coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeError {
    /// The scheme has no repair symbols, or none that we know.
    NoCode,
    /// The scheme defines no block of this number of symbols.
    Symbols(u32),
    /// Symbol length and alignment contradict each other, or the symbol length is 0.
    SymbolLength,
    /// Sub-blocks are not supported: no known sender uses them.
    SubBlocks,
    /// More than [`MAX_BLOCK_BYTES`].
    TooLarge,
}

impl fmt::Display for CodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCode => f.write_str("the scheme has no repair symbols"),
            Self::Symbols(count) => {
                write!(f, "a source block of {count} symbols is outside the scheme's limits")
            }
            Self::SymbolLength => f.write_str("symbol length and alignment contradict each other"),
            Self::SubBlocks => f.write_str("sub-blocks are not supported"),
            Self::TooLarge => write!(f, "a source block is larger than {MAX_BLOCK_BYTES} bytes"),
        }
    }
}

impl std::error::Error for CodeError {}

/// The code of one source block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockCode {
    id: EncodingId,
    /// Source symbols of the block.
    k: u32,
    /// Encoding symbols of the block, for the schemes that limit them.
    n: u32,
    /// Most encoding symbols that any block of the object may have: senders are seen to send as many repair symbols for a
    /// shorter block as for a full one (`flute` crate 1.11.7), and they decode.
    max_n: u32,
    symbol_length: u16,
    alignment: u8,
}

impl BlockCode {
    /// The code of a block of `k` source symbols of an object with this OTI.
    ///
    /// # Errors
    /// [`CodeError`]: only valid parameters are passed to the mathematics, even if the sender gives others.
    pub fn new(oti: &Oti, k: u32) -> Result<Self, CodeError> {
        if oti.symbol_length == 0 {
            return Err(CodeError::SymbolLength);
        }
        if u64::from(k) * u64::from(oti.symbol_length) > MAX_BLOCK_BYTES {
            return Err(CodeError::TooLarge);
        }
        let mut code = Self {
            id: oti.encoding_id,
            k,
            n: u32::MAX,
            max_n: 0,
            symbol_length: oti.symbol_length,
            alignment: 1,
        };
        match (oti.encoding_id, oti.scheme) {
            (EncodingId::RAPTORQ, SchemeInfo::RaptorQ { sub_blocks, alignment, .. }) => {
                code.aligned(u32::from(sub_blocks), alignment)?;
                code.limited(1..=MAX_RAPTORQ_SYMBOLS)
            }
            (EncodingId::RAPTOR, SchemeInfo::Raptor { sub_blocks, alignment, .. }) => {
                code.aligned(u32::from(sub_blocks), alignment)?;
                code.n = 1 << 16;
                code.limited(RAPTOR_SYMBOLS)
            }
            (
                EncodingId::RS_GF28 | EncodingId::SMALL_SYSTEMATIC,
                SchemeInfo::ReedSolomon { max_n, m: 8, group: 1 },
            ) => {
                // Section 8.3: shorter blocks have proportionally fewer encoding symbols.
                let b = oti.max_source_block_length.max(1);
                code.n = (u64::from(k) * u64::from(max_n) / u64::from(b)).min(255) as u32;
                code.max_n = u32::from(max_n).min(reed_solomon::MAX_SYMBOLS);
                code.limited(1..=reed_solomon::MAX_SYMBOLS)
            }
            _ => Err(CodeError::NoCode),
        }
    }

    fn aligned(&mut self, sub_blocks: u32, alignment: u8) -> Result<(), CodeError> {
        if sub_blocks != 1 {
            return Err(CodeError::SubBlocks);
        }
        if alignment == 0 || !self.symbol_length.is_multiple_of(u16::from(alignment)) {
            return Err(CodeError::SymbolLength);
        }
        self.alignment = alignment;
        Ok(())
    }

    fn limited(self, symbols: std::ops::RangeInclusive<u32>) -> Result<Self, CodeError> {
        if symbols.contains(&self.k) { Ok(self) } else { Err(CodeError::Symbols(self.k)) }
    }

    /// Source symbols of the block.
    pub const fn k(&self) -> u32 {
        self.k
    }

    /// Bytes of memory that [`BlockCode::decode_borrowed`] takes at most, with the symbols that it is given: five times the
    /// block.
    pub const fn memory_bytes(&self) -> u64 {
        5 * self.block_bytes()
    }

    const fn block_bytes(&self) -> u64 {
        self.k as u64 * self.symbol_length as u64
    }

    /// Whether `esi` is one of its repair symbols, or one that decodes as such.
    pub const fn is_repair(&self, esi: u32) -> bool {
        esi >= self.k && (esi < self.symbols() || esi < self.max_n)
    }

    /// Most encoding symbols of the block.
    const fn symbols(&self) -> u32 {
        if matches!(self.id, EncodingId::RAPTORQ) { 1 << 24 } else { self.n }
    }

    /// Most repair symbols of the block.
    pub const fn most_repair(&self) -> u32 {
        self.symbols().saturating_sub(self.k)
    }

    /// Encoding symbols that are enough to decode with a probability near 1, beyond k: none for Reed–Solomon, two for
    /// RaptorQ (10^-6, RFC 6330 section 1), more for Raptor.
    pub const fn surplus(&self) -> u32 {
        match self.id {
            EncodingId::RAPTORQ => 2,
            EncodingId::RAPTOR => 12,
            _ => 0,
        }
    }

    fn raptorq(&self) -> ObjectTransmissionInformation {
        ObjectTransmissionInformation::new(self.block_bytes(), self.symbol_length, 1, 1, self.alignment)
    }

    /// Prepares repair symbols of `block`: its k source symbols, the last padded or not.
    pub fn encoder(&self, block: &[u8]) -> BlockEncoder {
        let length = self.k as usize * usize::from(self.symbol_length);
        let mut block = block.to_vec();
        block.resize(length, 0);
        let state = match self.id {
            EncodingId::RAPTORQ => match plans::plan(self.k) {
                Some(plan) => State::Planned(skycache_raptorq::Encoder::new(
                    plan,
                    &block,
                    usize::from(self.symbol_length),
                )),
                // `new` has checked k.
                None => State::ReedSolomon(block),
            },
            EncodingId::RAPTOR => match raptor_code::SourceBlockEncoder::new(&block, self.k as usize) {
                Ok(encoder) => State::Raptor(Box::new(encoder)),
                // `new` has checked k; without repair symbols the object is still sent.
                Err(_) => State::ReedSolomon(block),
            },
            _ => State::ReedSolomon(block),
        };
        BlockEncoder { code: *self, state }
    }

    /// The missing source symbols, as (ESI, bytes of full length), from encoding symbols with their ESIs. `None` if they
    /// are not enough.
    pub fn decode(&self, mut have: Vec<(u32, Vec<u8>)>) -> Option<Vec<(u32, Vec<u8>)>> {
        let symbol_length = usize::from(self.symbol_length);
        have.retain(|(_, symbol)| symbol.len() <= symbol_length);
        for (_, symbol) in &mut have {
            symbol.resize(symbol_length, 0);
        }
        let have: Vec<(u32, &[u8])> = have.iter().map(|(esi, symbol)| (*esi, symbol.as_slice())).collect();
        self.decode_borrowed(&have)
    }

    /// The same from symbols of full length; others, and further ones of an ESI, are left aside. With `have` it takes
    /// [`BlockCode::memory_bytes`] at most.
    pub fn decode_borrowed(&self, have: &[(u32, &[u8])]) -> Option<Vec<(u32, Vec<u8>)>> {
        let symbol_length = usize::from(self.symbol_length);
        let mut seen = std::collections::HashSet::with_capacity(have.len());
        let usable = |(esi, symbol): &(u32, &[u8])| {
            (*esi < self.k || self.is_repair(*esi)) && symbol.len() == symbol_length && seen.insert(*esi)
        };
        let have: Vec<(u32, &[u8])> = have.iter().copied().filter(usable).collect();
        if have.len() < self.k as usize {
            return None;
        }
        let missing: Vec<u32> = (0..self.k).filter(|esi| !seen.contains(esi)).collect();
        let block = match self.id {
            EncodingId::RAPTORQ => {
                if let Some(plan) = plans::plan(self.k)
                    && plan.is_worth_while(missing.len(), 2 * self.block_bytes())
                {
                    return self.restore(&plan, &have);
                }
                let mut decoder = SourceBlockDecoder::new(0, &self.raptorq(), self.block_bytes());
                decoder.decode(have.into_iter().map(|(esi, symbol)| {
                    EncodingPacket::new(raptorq::PayloadId::new(0, esi), symbol.to_vec())
                }))?
            }
            EncodingId::RAPTOR => {
                let mut decoder = raptor_code::SourceBlockDecoder::new(self.k as usize);
                for (esi, symbol) in have {
                    decoder.push_encoding_symbol(symbol, esi);
                }
                if !decoder.fully_specified() {
                    return None;
                }
                decoder.decode(self.k as usize * symbol_length)?
            }
            _ => {
                let enough = &have[..self.k as usize];
                let symbol = |esi: u32| (esi, reed_solomon::interpolate(enough, esi, symbol_length));
                return Some(missing.into_iter().map(symbol).collect());
            }
        };
        let symbol = |esi: u32| {
            let start = esi as usize * symbol_length;
            block.get(start..start + symbol_length).map(|bytes| (esi, bytes.to_vec()))
        };
        missing.into_iter().map(symbol).collect()
    }
}

impl BlockCode {
    /// RaptorQ's missing symbols by the plan of its K'.
    fn restore(&self, plan: &skycache_raptorq::Plan, have: &[(u32, &[u8])]) -> Option<Vec<(u32, Vec<u8>)>> {
        let mut sources = vec![None; self.k as usize];
        let mut repair = Vec::new();
        for &(esi, symbol) in have {
            match sources.get_mut(esi as usize) {
                Some(source) => *source = Some(symbol),
                None => repair.push((esi, symbol)),
            }
        }
        plan.restore(&sources, &repair, usize::from(self.symbol_length))
    }
}

enum State {
    Planned(skycache_raptorq::Encoder),
    Raptor(Box<raptor_code::SourceBlockEncoder>),
    ReedSolomon(Vec<u8>),
}

/// Makes repair symbols of one source block. Holds about twice its bytes.
pub struct BlockEncoder {
    code: BlockCode,
    state: State,
}

impl fmt::Debug for BlockEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockEncoder({:?})", self.code)
    }
}

impl BlockEncoder {
    /// Repair symbol `esi`; `None` if the block has no such one.
    pub fn repair(&mut self, esi: u32) -> Option<Vec<u8>> {
        if !self.code.is_repair(esi) {
            return None;
        }
        let symbol_length = usize::from(self.code.symbol_length);
        match &mut self.state {
            State::Planned(encoder) => Some(encoder.symbol(esi)),
            State::Raptor(encoder) => Some(encoder.fountain(esi)),
            State::ReedSolomon(block) => {
                let have: Vec<(u32, &[u8])> = (0..).zip(block.chunks(symbol_length)).collect();
                Some(reed_solomon::interpolate(&have, esi, symbol_length))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn codes(k: u32, symbol_length: u16) -> Vec<Oti> {
        let base = Oti::no_code(u64::from(k) * u64::from(symbol_length) - 3, symbol_length, k);
        let raptorq = SchemeInfo::RaptorQ { source_blocks: 1, sub_blocks: 1, alignment: 4 };
        let raptor = SchemeInfo::Raptor { source_blocks: 1, sub_blocks: 1, alignment: 4 };
        let rs = SchemeInfo::ReedSolomon { max_n: 2 * k.min(127) as u16, m: 8, group: 1 };
        vec![
            Oti { encoding_id: EncodingId::RAPTORQ, scheme: raptorq, max_source_block_length: 0, ..base },
            Oti { encoding_id: EncodingId::RAPTOR, scheme: raptor, max_source_block_length: 0, ..base },
            Oti { encoding_id: EncodingId::RS_GF28, scheme: rs, ..base },
        ]
    }

    #[test]
    fn every_code_brings_back_what_was_lost_and_no_more_is_claimed() {
        for oti in codes(60, 64) {
            let code = BlockCode::new(&oti, 60).unwrap();
            let block: Vec<u8> = (0..60 * 64 - 3).map(|at| (at * 7 % 251) as u8).collect();
            let mut encoder = code.encoder(&block);
            let repair: Vec<(u32, Vec<u8>)> =
                (60..90).map(|esi| (esi, encoder.repair(esi).unwrap())).collect();
            let sources = (0..).zip(block.chunks(64).map(<[u8]>::to_vec));
            let mut have: Vec<(u32, Vec<u8>)> = sources.filter(|(esi, _)| esi % 4 != 1).collect();
            assert_eq!(have.len(), 45);
            assert!(code.decode(have.clone()).is_none(), "{:?}: too few", oti.encoding_id);
            have.extend(repair);
            let lost = code.decode(have).unwrap_or_else(|| panic!("{:?}", oti.encoding_id));
            assert_eq!(lost.len(), 15);
            for (esi, symbol) in lost {
                let start = esi as usize * 64;
                assert_eq!(symbol[..], block[start..start + 64], "{:?} {esi}", oti.encoding_id);
            }
        }
    }

    #[test]
    fn what_the_mathematics_would_not_take_is_refused_before() {
        let [raptorq, raptor, rs] = codes(60, 64).try_into().unwrap();
        assert_eq!(BlockCode::new(&raptorq, 56_404), Err(CodeError::Symbols(56_404)));
        assert_eq!(BlockCode::new(&raptorq, 0), Err(CodeError::Symbols(0)));
        assert_eq!(BlockCode::new(&raptor, 3), Err(CodeError::Symbols(3)));
        assert_eq!(BlockCode::new(&rs, 256), Err(CodeError::Symbols(256)));
        assert_eq!(BlockCode::new(&Oti { symbol_length: 0, ..raptorq }, 60), Err(CodeError::SymbolLength));
        assert_eq!(
            BlockCode::new(&Oti { symbol_length: 65_535, ..raptorq }, 60),
            Err(CodeError::SymbolLength)
        );
        let zero = SchemeInfo::RaptorQ { source_blocks: 1, sub_blocks: 1, alignment: 0 };
        assert_eq!(BlockCode::new(&Oti { scheme: zero, ..raptorq }, 60), Err(CodeError::SymbolLength));
        let subs = SchemeInfo::RaptorQ { source_blocks: 1, sub_blocks: 2, alignment: 4 };
        assert_eq!(BlockCode::new(&Oti { scheme: subs, ..raptorq }, 60), Err(CodeError::SubBlocks));
        let large = Oti { symbol_length: 65_532, ..raptorq };
        assert_eq!(BlockCode::new(&large, 56_403), Err(CodeError::TooLarge));
        assert_eq!(BlockCode::new(&Oti::no_code(100, 10, 10), 10), Err(CodeError::NoCode));
        let code = BlockCode::new(&rs, 60).unwrap();
        assert!(code.is_repair(119) && !code.is_repair(120) && !code.is_repair(59));
        let shorter = BlockCode::new(&rs, 30).unwrap();
        assert_eq!(shorter.most_repair(), 30, "what we send");
        assert!(shorter.is_repair(119) && !shorter.is_repair(120), "what we take");
    }

    #[test]
    fn few_losses_go_through_the_plan_and_many_through_the_elimination() {
        let (k, length) = (1200, 256);
        let code = BlockCode::new(&codes(k, length)[0], k).unwrap();
        let block: Vec<u8> =
            (0..k * u32::from(length)).map(|at| (at.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
        let mut encoder = code.encoder(&block);
        let plan = plans::plan(k).unwrap();
        for (lost, few) in [(20, true), (700, false)] {
            assert_eq!(plan.is_worth_while(lost as usize, 2 * code.block_bytes()), few);
            let source = (lost..k).zip(block.chunks(usize::from(length)).skip(lost as usize));
            let mut have: Vec<(u32, Vec<u8>)> = source.map(|(esi, symbol)| (esi, symbol.to_vec())).collect();
            have.extend((k..k + lost + 2).map(|esi| (esi, encoder.repair(esi).unwrap())));
            let restored = code.decode(have).unwrap();
            assert_eq!(restored.len(), lost as usize);
            for (esi, symbol) in restored {
                assert_eq!(symbol, block[esi as usize * usize::from(length)..][..usize::from(length)]);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_k_encoding_symbols_and_the_surplus_are_enough(k in 4_u32..120, seed: u64, which in 0_usize..3) {
            let oti = codes(k, 32)[which];
            let code = BlockCode::new(&oti, k).unwrap();
            let block: Vec<u8> = (0..k * 32).map(|at| (u64::from(at).wrapping_mul(seed | 1) >> 7) as u8).collect();
            let mut encoder = code.encoder(&block);
            let mut all: Vec<(u32, Vec<u8>)> = (0..).zip(block.chunks(32).map(<[u8]>::to_vec)).collect();
            all.extend((k..k + k / 2 + code.surplus()).filter_map(|esi| Some((esi, encoder.repair(esi)?))));
            let mut rng = linksim::Rng::new(seed);
            for at in (1..all.len()).rev() {
                all.swap(at, rng.below(at as u64 + 1) as usize);
            }
            all.truncate((k + code.surplus()) as usize);
            // Raptor may need more now and then (RFC 5053 promises no bound); the bytes are never wrong.
            let Some(lost) = code.decode(all) else {
                prop_assert!(oti.encoding_id != EncodingId::RS_GF28);
                return Ok(());
            };
            for (esi, symbol) in lost {
                prop_assert_eq!(&symbol[..], &block[esi as usize * 32..][..32]);
            }
        }
    }
}
