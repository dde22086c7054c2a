//! Protection of an object: FEC scheme, source blocks, and number of repair symbols.

use super::{BlockCode, EncodingId, Oti, Partition, SchemeInfo, Sequence};

/// Symbol alignment Al of Raptor and RaptorQ; every processor that we run on reads words of four bytes.
const ALIGNMENT: u16 = 4;

/// A block may be lost to chance this often when as much is lost as planned for.
const MAX_FAILURE: f64 = 2e-4;

/// Repair symbols beyond those that a burst takes: RaptorQ hardly ever fails with two symbols more than the block has, and of a
/// long block two other losses are borne.
const BEYOND_BURST: u32 = 2;

/// The probability that more than `most` of `count` symbols are lost, each with probability `loss`.
fn loses_more(count: u32, most: u32, loss: f64) -> f64 {
    // P(0), then P(i + 1) from P(i); the tail is what is left.
    let mut probability = (1.0 - loss).powi(count as i32);
    let mut sum = probability;
    for lost in 0..most.min(count) {
        probability *= f64::from(count - lost) / f64::from(lost + 1) * loss / (1.0 - loss);
        sum += probability;
    }
    1.0 - sum
}

/// A protection for a class of objects.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Protection {
    /// The scheme; [`EncodingId::NO_CODE`] for none.
    pub id: EncodingId,
    /// Encoding symbol length in bytes; 0 for the session's.
    pub symbol_length: u16,
    /// Repair symbols for each source symbol that a large block takes, such as 0.1. Half of it is the loss that is
    /// planned for; the other half is what chance may add.
    pub overhead: f64,
    /// Repair symbols of a block at least: a small object takes more than its share.
    pub least_repair: u32,
    /// Packets of a block that one burst of losses may take, for objects that are sent once: a block has two repair symbols
    /// more than this, or, if it is shorter, two more than source symbols, so that its repair symbols alone are enough. 0
    /// for repeated objects.
    pub burst_packets: u32,
    /// Bytes of a source block at most. A receiver holds a block in memory to decode it.
    pub block_bytes: u32,
}

impl Protection {
    /// None.
    pub const NONE: Self = Self {
        id: EncodingId::NO_CODE,
        symbol_length: 0,
        overhead: 0.0,
        least_repair: 0,
        burst_packets: 0,
        block_bytes: 0,
    };

    /// The OTI of an object of `transfer_length` bytes in symbols of `symbol_length`. An object that the scheme cannot
    /// take (too small for Raptor, empty) goes without a code.
    pub fn oti(&self, transfer_length: u64, symbol_length: u16, max_source_block_length: u32) -> Oti {
        let symbol_length = if self.symbol_length > 0 { self.symbol_length } else { symbol_length };
        let plain = Oti::no_code(transfer_length, symbol_length, max_source_block_length);
        let aligned = symbol_length / ALIGNMENT * ALIGNMENT;
        let symbols = |length: u16| transfer_length.div_ceil(u64::from(length.max(1)));
        let in_block = |length: u16| u64::from((self.block_bytes / u32::from(length.max(1))).max(1));
        // Raptor and RaptorQ give the number of blocks, not their length.
        let with_blocks = |symbol_length: u16, scheme: SchemeInfo| Oti {
            encoding_id: self.id,
            symbol_length,
            max_source_block_length: 0,
            scheme,
            ..plain
        };
        let oti = match self.id {
            EncodingId::RAPTORQ => {
                let blocks = symbols(aligned).div_ceil(in_block(aligned)).clamp(1, 255) as u8;
                let scheme =
                    SchemeInfo::RaptorQ { source_blocks: blocks, sub_blocks: 1, alignment: ALIGNMENT as u8 };
                with_blocks(aligned, scheme)
            }
            EncodingId::RAPTOR => {
                // Raptor takes no block of fewer than four symbols: small objects get shorter ones.
                let fourth = u16::try_from(transfer_length / 4).unwrap_or(u16::MAX) / ALIGNMENT * ALIGNMENT;
                let aligned = if symbols(aligned) < 4 { fourth } else { aligned };
                let blocks = symbols(aligned).div_ceil(in_block(aligned).min(8192)).clamp(1, 65_535) as u16;
                let scheme =
                    SchemeInfo::Raptor { source_blocks: blocks, sub_blocks: 1, alignment: ALIGNMENT as u8 };
                with_blocks(aligned, scheme)
            }
            EncodingId::RS_GF28 | EncodingId::SMALL_SYSTEMATIC => {
                // As many source symbols as leave room for their repair symbols below 255.
                let most = (255.0 / (1.0 + self.overhead)) as u64;
                let burst = if self.burst_packets > 0 { self.burst_packets + BEYOND_BURST } else { 0 };
                let least = self.least_repair.max(burst);
                let most = most.min(u64::from(255_u32.saturating_sub(least))).max(1);
                let b = in_block(symbol_length).min(most).min(symbols(symbol_length).max(1)) as u32;
                let max_n = (b + self.wanted(b)).min(255) as u16;
                let scheme = SchemeInfo::ReedSolomon { max_n, m: 8, group: 1 };
                Oti { encoding_id: self.id, max_source_block_length: b, scheme, ..plain }
            }
            _ => plain,
        };
        let fits = Partition::new(&oti).is_ok_and(|partition| {
            (0..partition.blocks).all(|sbn| BlockCode::new(&oti, partition.block_symbols(sbn)).is_ok())
        });
        if fits && transfer_length > 0 { oti } else { plain }
    }

    /// Repair symbols that a block of `k` needs: its share, or more where the block is so small that chance weighs more
    /// than the mean.
    fn wanted(&self, k: u32) -> u32 {
        let share = (f64::from(k) * self.overhead).ceil() as u32;
        let loss = self.overhead / 2.0;
        let burst = if self.burst_packets > 0 { k.min(self.burst_packets) + BEYOND_BURST } else { 0 };
        let mut repair = share.max(self.least_repair).max(burst);
        while repair < k && loss > 0.0 && loses_more(k + repair, repair, loss) > MAX_FAILURE {
            repair += 1;
        }
        repair
    }

    /// The order of one transmission of an object with this OTI.
    pub fn sequence(&self, oti: &Oti, partition: Partition) -> Sequence {
        let repair = |sbn: u32| {
            BlockCode::new(oti, partition.block_symbols(sbn)).map_or(0, |code| self.repair_symbols(&code))
        };
        match partition.blocks {
            0 => Sequence::plain(partition),
            blocks => Sequence::protected(partition, repair(0), repair(blocks - 1)),
        }
    }

    /// Repair symbols of a block with this code.
    pub fn repair_symbols(&self, code: &BlockCode) -> u32 {
        self.wanted(code.k()).min(code.most_repair())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_as_large_as_allowed_and_small_objects_get_the_least() {
        let protection = Protection {
            id: EncodingId::RAPTORQ,
            symbol_length: 0,
            overhead: 0.1,
            least_repair: 3,
            burst_packets: 0,
            block_bytes: 1 << 20,
        };
        let oti = protection.oti(290_000_000, 1402, 65_535);
        assert_eq!(oti.symbol_length, 1400);
        assert_eq!(oti.source_blocks(), Some(255), "290 blocks do not fit 8 bits");
        let oti = protection.oti(3_000_000, 1400, 65_535);
        let partition = Partition::new(&oti).unwrap();
        assert_eq!((partition.blocks, partition.large), (3, 715));
        let code = BlockCode::new(&oti, 715).unwrap();
        assert_eq!(protection.repair_symbols(&code), 72);
        let small = protection.oti(5000, 1400, 65_535);
        assert_eq!(protection.repair_symbols(&BlockCode::new(&small, 4).unwrap()), 3);
        let audio = protection.oti(30_000, 1400, 65_535);
        assert_eq!(
            protection.repair_symbols(&BlockCode::new(&audio, 22).unwrap()),
            7,
            "a third, against chance"
        );
    }

    #[test]
    fn repair_symbols_of_live_outnumber_a_burst() {
        let live = Protection {
            id: EncodingId::RAPTORQ,
            symbol_length: 0,
            overhead: 0.3,
            least_repair: 3,
            burst_packets: 16,
            block_bytes: 1 << 20,
        };
        let of = |k: u32| {
            let oti = live.oti(u64::from(k) * 1400, 1400, 65_535);
            live.repair_symbols(&BlockCode::new(&oti, k).unwrap())
        };
        assert_eq!([1, 5, 13, 16].map(of), [3, 7, 15, 18], "alone enough");
        assert_eq!([20, 30].map(of), [18, 18], "a burst of 16, and two");
        assert_eq!(of(200), 61, "the share, and chance, are more");
    }

    /// A block of Reed-Solomon has 255 symbols at most: with little overhead it must be shorter, so that its repair symbols fit.
    #[test]
    fn blocks_of_reed_solomon_leave_room_for_the_repair_symbols_of_a_burst() {
        for (overhead, burst_packets, expected) in
            [(0.02, 16, (237, 18)), (0.05, 16, (237, 18)), (0.05, 0, (242, 13)), (0.2, 16, (212, 43))]
        {
            let live = Protection {
                id: EncodingId::RS_GF28,
                symbol_length: 0,
                overhead,
                least_repair: 3,
                burst_packets,
                block_bytes: 1 << 20,
            };
            let oti = live.oti(237 * 212 * 242 * 1400, 1400, 65_535);
            let k = oti.max_source_block_length;
            let code = BlockCode::new(&oti, k).unwrap();
            assert_eq!((k, live.repair_symbols(&code)), expected, "{overhead}, {burst_packets}");
        }
    }

    #[test]
    fn what_a_scheme_cannot_take_goes_without() {
        let with = |id| Protection {
            id,
            symbol_length: 0,
            overhead: 0.2,
            least_repair: 2,
            burst_packets: 0,
            block_bytes: 1 << 20,
        };
        assert_eq!(
            with(EncodingId::RAPTOR).oti(15, 1400, 9).encoding_id,
            EncodingId::NO_CODE,
            "four of four bytes"
        );
        let small = with(EncodingId::RAPTOR).oti(789, 1400, 9);
        assert_eq!((small.encoding_id, small.symbol_length), (EncodingId::RAPTOR, 196));
        assert_eq!(with(EncodingId::RAPTOR).oti(8000, 1400, 9).encoding_id, EncodingId::RAPTOR);
        assert_eq!(with(EncodingId::RAPTORQ).oti(0, 1400, 9).encoding_id, EncodingId::NO_CODE);
        let rs = with(EncodingId::RS_GF28).oti(10_000_000, 1400, 65_535);
        assert_eq!((rs.encoding_id, rs.max_source_block_length), (EncodingId::RS_GF28, 212));
        let code = BlockCode::new(&rs, 212).unwrap();
        assert_eq!(with(EncodingId::RS_GF28).repair_symbols(&code), 43);
    }
}
