//! FEC recovery of one object: its repair symbols, and the source blocks that they restore (RFC 9223 section 5.3, A/331
//! Annex A.4).
//!
//! The protected data are the object's F bytes, then zeros, then F in four bytes; the zeros pad it to full symbols of T
//! bytes. Zeros and length are never sent. The receiver itself does not decode: a [`RepairJob`] contains the complete input
//! of a decoder.

use std::collections::BTreeMap;

use crate::bytes::Reader;
use crate::fec::{BlockCode, BlockId, Oti, Partition};
use crate::growing::Growing;
use crate::limits;

use super::verdict::RouteDrop;
use crate::route::{LENGTH_BYTES, protected_oti};

limits! {
    /// Repair symbols kept of an object whose length is not known.
    const MAX_EARLY_REPAIR: usize = 512, "symbols" {
        why: "A fifth of a segment of 3 MB; longer ones have their length first.",
        full: "Further symbols are dropped as `repair_not_needed`.",
        free: "When the length is known, or the object ends.",
        test: "floods_of_repair_symbols_are_bounded",
    }

    /// Failed attempts to decode one block.
    const MAX_ATTEMPTS: u32 = 8, "attempts" {
        why: "Two surplus symbols fail once in a million; each attempt takes the whole decoder.",
        full: "Further repair symbols of the block are dropped as `repair_not_needed`.",
        free: "When the object ends.",
        test: "floods_of_repair_symbols_are_bounded",
    }
}

#[derive(Debug, Default)]
struct Block {
    /// Symbols by ESI.
    kept: BTreeMap<u32, Vec<u8>>,
    surplus: u32,
    attempts: u32,
    at_work: bool,
    /// Left until the next [`Repair::resume`].
    is_postponed: bool,
}

/// The repair symbols of one object.
#[derive(Debug, Default)]
pub(super) struct Repair {
    blocks: BTreeMap<u32, Block>,
    early: usize,
    /// Symbols of all blocks, and their bytes.
    kept: usize,
    kept_bytes: u64,
}

/// Approximate memory of a block, and of a symbol in addition to its bytes.
const BLOCK_BYTES: usize = 128;
const SYMBOL_BYTES: usize = 48;

/// Parameters of the protection of an object of known length.
#[derive(Debug, Clone, Copy)]
struct Shape {
    length: u64,
    oti: Oti,
    partition: Partition,
}

impl Shape {
    fn new(flow: &Oti, length: u64) -> Option<Self> {
        if u64::from(flow.symbol_length) <= LENGTH_BYTES || u32::try_from(length).is_err() {
            return None;
        }
        let oti = protected_oti(flow, length);
        Some(Self { length, oti, partition: Partition::new(&oti).ok()? })
    }

    /// Source symbol number `symbol`, if all its bytes are known.
    fn symbol(&self, bytes: &Growing, symbol: u64) -> Option<Vec<u8>> {
        let range = self.partition.byte_range(symbol);
        let of_object = range.start.min(self.length)..range.end.min(self.length);
        let mut out = Vec::with_capacity((range.end - range.start) as usize);
        if !of_object.is_empty() {
            out.extend_from_slice(bytes.get(of_object)?);
        }
        out.resize((range.end - range.start) as usize, 0);
        if range.end == self.oti.transfer_length {
            let at = out.len() - LENGTH_BYTES as usize;
            out.get_mut(at..)?.copy_from_slice(&(self.length as u32).to_be_bytes());
        }
        Some(out)
    }

    /// Number of received source symbols of a block: by runs of bytes, since a block has up to 56,403 symbols and each repair
    /// packet asks.
    fn received(&self, bytes: &Growing, sbn: u32) -> u64 {
        let symbol_length = u64::from(self.oti.symbol_length);
        let symbols = self.partition.symbols_of(sbn);
        // Symbols with bytes of the object; those behind it are padding, which is known.
        let end = symbols.end.min(self.length.div_ceil(symbol_length)).max(symbols.start);
        let range = symbols.start * symbol_length..(end * symbol_length).min(self.length);
        let complete = bytes.runs_within(range).map(|run| {
            let first = run.start.div_ceil(symbol_length);
            // The last symbol of the object is complete with its last byte.
            let last = if run.end == self.length { end } else { run.end / symbol_length };
            last.saturating_sub(first)
        });
        complete.sum::<u64>() + (symbols.end - end)
    }
}

impl Repair {
    /// Processes a repair packet: its FEC Payload ID (SBN 8 bits, ESI 24 bits, RFC 6330 section 3.2) and symbols.
    pub(super) fn take(
        &mut self,
        flow: &Oti,
        body: &[u8],
        bytes: &Growing,
        length: Option<u64>,
    ) -> Result<(), RouteDrop> {
        let mut reader = Reader::new(body);
        let sbn = u32::from(reader.u8("SBN").map_err(|_| RouteDrop::Malformed)?);
        let first = reader.uint::<3>("ESI").map_err(|_| RouteDrop::Malformed)? as u32;
        let (symbols, symbol_length) = (reader.rest(), usize::from(flow.symbol_length));
        if symbol_length == 0 || symbols.is_empty() || !symbols.len().is_multiple_of(symbol_length) {
            return Err(RouteDrop::Malformed);
        }
        let block = match length.and_then(|length| Shape::new(flow, length)) {
            Some(shape) => {
                let k = shape.partition.block_symbols(sbn);
                let code = BlockCode::new(&shape.oti, k).map_err(|_| RouteDrop::UnknownRepair)?;
                Some((code, u64::from(k), shape.received(bytes, sbn)))
            }
            None => None,
        };
        let mut is_taken = false;
        for (esi, symbol) in (first..).zip(symbols.chunks(symbol_length)) {
            if let Some((code, k, received)) = &block {
                let block = self.blocks.entry(sbn).or_default();
                let wanted = k + u64::from(code.surplus() + block.surplus);
                let enough = received + block.kept.len() as u64 >= wanted;
                if !code.is_repair(esi) || enough || received >= k {
                    continue;
                }
            } else {
                if self.early >= MAX_EARLY_REPAIR {
                    continue;
                }
                self.early += 1;
            }
            let block = self.blocks.entry(sbn).or_default();
            if block.attempts < MAX_ATTEMPTS && !block.kept.contains_key(&esi) {
                block.kept.insert(esi, symbol.to_vec());
                self.kept += 1;
                self.kept_bytes += symbol.len() as u64;
                is_taken = true;
            }
        }
        if is_taken { Ok(()) } else { Err(RouteDrop::RepairNotNeeded) }
    }

    /// Bytes of the kept symbols.
    pub(super) const fn held_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Approximate memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES + self.kept * SYMBOL_BYTES + self.kept_bytes as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Takes a block with enough symbols that is not being decoded, once the length is known, and marks it as being
    /// decoded.
    pub(super) fn ready(&mut self, flow: &Oti, bytes: &Growing) -> Option<u32> {
        let shape = Shape::new(flow, bytes.length()?)?;
        let may_be_tried =
            |block: &Block| !block.at_work && !block.is_postponed && block.attempts < MAX_ATTEMPTS;
        let found = self.blocks.iter_mut().filter(|(_, block)| may_be_tried(block)).find(|(sbn, block)| {
            let k = u64::from(shape.partition.block_symbols(**sbn));
            let received = shape.received(bytes, **sbn);
            let enough = received + block.kept.len() as u64 >= k + u64::from(block.surplus);
            k > 0 && received < k && enough
        });
        let (sbn, block) = found?;
        block.at_work = true;
        Some(*sbn)
    }

    /// Memory of the symbols of [`Repair::job`], without copying them.
    pub(super) fn job_bytes(&self, flow: &Oti, bytes: &Growing, sbn: u32) -> Option<usize> {
        let shape = Shape::new(flow, bytes.length()?)?;
        let symbols = shape.received(bytes, sbn) as usize + self.blocks.get(&sbn)?.kept.len();
        Some(symbols * (SYMBOL_BYTES + usize::from(shape.oti.symbol_length)))
    }

    /// Maximum memory of running [`Repair::job`].
    pub(super) fn decoding_bytes(&self, flow: &Oti, bytes: &Growing, sbn: u32) -> Option<u64> {
        let shape = Shape::new(flow, bytes.length()?)?;
        BlockCode::new(&shape.oti, shape.partition.block_symbols(sbn)).ok().map(|code| code.memory_bytes())
    }

    pub(super) fn job(&self, flow: &Oti, bytes: &Growing, block: BlockId) -> Option<RepairJob> {
        let sbn = block.sbn;
        let shape = Shape::new(flow, bytes.length()?)?;
        let k = shape.partition.block_symbols(sbn);
        let code = BlockCode::new(&shape.oti, k).ok()?;
        let first = shape.partition.first_symbol(sbn);
        let source = (0..k).filter_map(|esi| Some((esi, shape.symbol(bytes, first + u64::from(esi))?)));
        let have =
            source.chain(self.blocks.get(&sbn)?.kept.iter().map(|(esi, it)| (*esi, it.clone()))).collect();
        Some(RepairJob { block, code, shape, have })
    }

    /// Records a failed attempt: the next needs one symbol more.
    pub(super) fn failed(&mut self, sbn: u32) {
        if let Some(block) = self.blocks.get_mut(&sbn) {
            block.attempts += 1;
            block.surplus += 1;
            block.at_work = false;
        }
    }

    /// Puts off the decoding of a block until [`Repair::resume`]: its symbols are copied for each attempt.
    pub(super) fn postpone(&mut self, sbn: u32) {
        if let Some(block) = self.blocks.get_mut(&sbn) {
            (block.at_work, block.is_postponed) = (false, true);
        }
    }

    /// Makes postponed blocks ready again.
    pub(super) fn resume(&mut self) {
        self.blocks.values_mut().for_each(|block| block.is_postponed = false);
    }

    pub(super) fn forget(&mut self, sbn: u32) {
        if let Some(block) = self.blocks.remove(&sbn) {
            self.kept -= block.kept.len();
            self.kept_bytes -= block.kept.values().map(|symbol| symbol.len() as u64).sum::<u64>();
        }
    }
}

/// Decoding job of a source block of a ROUTE object, with all received symbols.
#[derive(Debug)]
pub struct RepairJob {
    /// The block.
    pub block: BlockId,
    code: BlockCode,
    shape: Shape,
    have: Vec<(u32, Vec<u8>)>,
}

impl RepairJob {
    /// Maximum memory of [`RepairJob::run`].
    pub const fn memory_bytes(&self) -> u64 {
        self.code.memory_bytes()
    }

    /// Approximate memory of its symbols.
    pub fn held_bytes(&self) -> usize {
        self.have.iter().map(|(_, symbol)| SYMBOL_BYTES + symbol.len()).sum()
    }

    /// Decodes the block. Returns the lost bytes with their offsets in the object; `None` if the symbols do not suffice, or
    /// contradict the object's length.
    pub fn run(self) -> Option<Vec<(u64, Vec<u8>)>> {
        let first = self.shape.partition.first_symbol(self.block.sbn);
        let length = self.shape.length;
        let mut lost = Vec::new();
        for (esi, mut symbol) in self.code.decode(self.have)? {
            let range = self.shape.partition.byte_range(first + u64::from(esi));
            if range.end == self.shape.oti.transfer_length
                && !symbol.ends_with(&(length as u32).to_be_bytes())
            {
                return None;
            }
            symbol.truncate(length.saturating_sub(range.start) as usize);
            if !symbol.is_empty() {
                lost.push((range.start, symbol));
            }
        }
        Some(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fec::{EncodingId, SchemeInfo};

    /// By asking for each symbol.
    fn one_by_one(shape: &Shape, bytes: &Growing, sbn: u32) -> u64 {
        shape.partition.symbols_of(sbn).filter(|&it| shape.symbol(bytes, it).is_some()).count() as u64
    }

    #[test]
    fn symbols_are_counted_by_runs_as_one_by_one() {
        let flow = Oti {
            encoding_id: EncodingId::RAPTORQ,
            scheme: SchemeInfo::RaptorQ { source_blocks: 3, sub_blocks: 1, alignment: 4 },
            ..Oti::no_code(0, 16, 0)
        };
        for length in [29, 34, 44, 45, 48, 100, 158, 1000] {
            let shape = Shape::new(&flow, length).unwrap();
            let mut state = length;
            for _ in 0..60 {
                let mut bytes = Growing::default();
                bytes.set_length(length).unwrap();
                for _ in 0..6 {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let start = (state >> 33) % length;
                    let end = (start + 1 + (state >> 50) % 70).min(length);
                    let _ = bytes.insert(start, &vec![7; (end - start) as usize]);
                    for sbn in 0..shape.partition.blocks + 1 {
                        let counted = shape.received(&bytes, sbn);
                        assert_eq!(counted, one_by_one(&shape, &bytes, sbn), "{length} {sbn} {start}..{end}");
                    }
                }
            }
        }
    }
}
