//! Transmission order of the symbols of an object.
//!
//! Without a code: block after block, so that a receiver fills the object from its beginning. With one: a symbol of each
//! block in turn, source symbols before repair symbols, so that a burst hits many blocks lightly instead of one hard.

use super::{Partition, PayloadId};

/// One packet's symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Block and symbol.
    pub payload_id: PayloadId,
    /// Number of the source symbol in the object; `None` for a repair symbol.
    pub source: Option<u64>,
}

/// Walks through one transmission of an object.
#[derive(Debug, Clone)]
pub struct Sequence {
    partition: Partition,
    /// Repair symbols of the larger and of the smaller blocks.
    repair: [u32; 2],
    next: PayloadId,
}

impl Sequence {
    /// Of an object without repair symbols.
    pub const fn plain(partition: Partition) -> Self {
        Self { partition, repair: [0, 0], next: PayloadId { sbn: 0, esi: 0 } }
    }

    /// With `large` repair symbols for each of the larger blocks and `small` for the others.
    pub const fn protected(partition: Partition, large: u32, small: u32) -> Self {
        Self { partition, repair: [large, small], next: PayloadId { sbn: 0, esi: 0 } }
    }

    /// Repair symbols of block `sbn`.
    pub const fn repair_of(&self, sbn: u32) -> u32 {
        self.repair[(sbn >= self.partition.large_blocks) as usize]
    }

    /// Repair symbols of all blocks before `sbn`.
    pub const fn repair_before(&self, sbn: u32) -> u64 {
        let large = if sbn < self.partition.large_blocks { sbn } else { self.partition.large_blocks };
        large as u64 * self.repair[0] as u64 + (sbn - large) as u64 * self.repair[1] as u64
    }

    /// Symbols of the whole transmission.
    pub const fn symbols(&self) -> u64 {
        self.partition.symbols + self.repair_before(self.partition.blocks)
    }

    /// Bytes of a symbol.
    pub fn symbol_length(&self) -> u64 {
        u64::from(self.partition.symbol_length)
    }

    const fn all_of(&self, sbn: u32) -> u32 {
        self.partition.block_symbols(sbn) + self.repair_of(sbn)
    }

    const fn is_protected(&self) -> bool {
        self.repair[0] + self.repair[1] > 0
    }
}

impl Iterator for Sequence {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let blocks = self.partition.blocks;
        let longest = if blocks == 0 { 0 } else { self.all_of(0).max(self.all_of(blocks - 1)) };
        loop {
            let payload_id = self.next;
            if self.is_protected() {
                if payload_id.esi >= longest {
                    return None;
                }
                self.next.sbn += 1;
                if self.next.sbn >= blocks {
                    self.next = PayloadId { sbn: 0, esi: payload_id.esi + 1 };
                }
            } else {
                if payload_id.sbn >= blocks {
                    return None;
                }
                self.next.esi += 1;
                if self.next.esi >= self.all_of(payload_id.sbn) {
                    self.next = PayloadId { sbn: payload_id.sbn + 1, esi: 0 };
                }
            }
            if payload_id.esi < self.all_of(payload_id.sbn) {
                let is_source = payload_id.esi < self.partition.block_symbols(payload_id.sbn);
                let symbol = self.partition.first_symbol(payload_id.sbn) + u64::from(payload_id.esi);
                return Some(Step { payload_id, source: is_source.then_some(symbol) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fec::Oti;

    #[test]
    fn every_symbol_goes_out_once_and_neighbours_are_of_different_blocks() {
        let partition = Partition::new(&Oti::no_code(23 * 10, 10, 8)).unwrap();
        assert_eq!(
            (partition.blocks, partition.large, partition.small, partition.large_blocks),
            (3, 8, 7, 2)
        );
        let plain: Vec<Option<u64>> = Sequence::plain(partition).map(|step| step.source).collect();
        assert_eq!(plain, (0..23).map(Some).collect::<Vec<_>>());
        let sequence = Sequence::protected(partition, 2, 1);
        assert_eq!((sequence.symbols(), sequence.repair_before(3), sequence.repair_before(2)), (28, 5, 4));
        let steps: Vec<Step> = sequence.collect();
        assert_eq!(steps.len(), 28);
        let mut sources: Vec<u64> = steps.iter().filter_map(|step| step.source).collect();
        sources.sort_unstable();
        assert_eq!(sources, (0..23).collect::<Vec<_>>());
        assert!(
            steps.windows(2).filter(|pair| pair[0].payload_id.sbn == pair[1].payload_id.sbn).count() <= 1
        );
        assert_eq!(Sequence::plain(Partition::new(&Oti::no_code(0, 10, 8)).unwrap()).count(), 0);
    }
}
