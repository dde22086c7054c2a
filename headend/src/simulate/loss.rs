//! Probability that a receiver loses an object: a Gilbert–Elliott channel over the symbols of its source blocks, with the
//! repair symbols of its [`Protection`]. Exact, while a simulation of packets would only sample.

use std::collections::HashMap;

use carousel::fec::{BlockCode, Partition, Protection};

/// A link that loses packets in bursts: in its bad state all, in its good state none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gilbert {
    good_to_bad: f64,
    bad_to_good: f64,
}

impl Gilbert {
    /// `loss` of all packets (0 to 0.9), in bursts of `burst_packets` on average.
    pub fn new(loss: f64, burst_packets: f64) -> Self {
        let (loss, bad_to_good) = (loss.clamp(0.0, 0.9), 1.0 / burst_packets.max(1.0));
        Self { good_to_bad: (bad_to_good * loss / (1.0 - loss)).min(1.0), bad_to_good }
    }

    /// Part of the packets that is lost in the long run.
    pub fn loss(&self) -> f64 {
        if self.good_to_bad == 0.0 { 0.0 } else { self.good_to_bad / (self.good_to_bad + self.bad_to_good) }
    }

    /// The link as a block sees it whose symbols are `spacing` packets apart.
    fn every(&self, spacing: u32) -> Self {
        // The second eigenvalue of the chain is what is left of its memory after a packet.
        let memory = (1.0 - self.good_to_bad - self.bad_to_good).powi(spacing as i32);
        Self { good_to_bad: self.loss() * (1.0 - memory), bad_to_good: (1.0 - self.loss()) * (1.0 - memory) }
    }

    /// Of `symbols` symbols: the probability that more than `most` are lost, and how many are lost on average then.
    fn loses_more(&self, symbols: u32, most: u32) -> (f64, f64) {
        let width = most as usize + 1;
        let loss = self.loss();
        // Probability of (state, lost so far), as long as not too many are lost.
        let (mut good, mut bad) = (vec![0.0; width], vec![0.0; width]);
        good[0] = 1.0 - loss;
        bad[0] = loss;
        for _ in 0..symbols {
            let mut next = (vec![0.0; width], vec![0.0; width]);
            for lost in 0..width {
                // The good state keeps the symbol, the bad one loses it; then the state may change.
                next.0[lost] += good[lost] * (1.0 - self.good_to_bad);
                next.1[lost] += good[lost] * self.good_to_bad;
                if lost + 1 < width {
                    next.0[lost + 1] += bad[lost] * self.bad_to_good;
                    next.1[lost + 1] += bad[lost] * (1.0 - self.bad_to_good);
                }
            }
            (good, bad) = next;
        }
        let few = |lost: usize| good[lost] + bad[lost];
        let failure = (1.0 - (0..width).map(few).sum::<f64>()).clamp(0.0, 1.0);
        let lost_with_few: f64 = (0..width).map(|lost| few(lost) * lost as f64).sum();
        let mean = (f64::from(symbols) * loss - lost_with_few).max(0.0);
        (failure, if failure > 1e-15 { mean / failure } else { 0.0 })
    }
}

/// Losses of a receiver in one pass of an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PassLoss {
    /// Probability that it is incomplete after a whole pass.
    pub failure: f64,
    /// Source symbols that are missing then, on average.
    pub missing: f64,
    /// Source symbols of the object.
    pub symbols: u32,
    /// Symbols that may be lost of each block without harm.
    pub spare: u32,
    /// Bytes of a symbol.
    pub symbol_bytes: u32,
}

/// Computes [`PassLoss`], each size once.
#[derive(Debug)]
pub struct Losses {
    link: Gilbert,
    symbol_length: u16,
    wave_symbols: u64,
    known: HashMap<(u64, bool), PassLoss>,
}

impl Losses {
    /// On this link, with symbols of `symbol_length` bytes; protected objects share waves of `wave_symbols`.
    pub fn new(link: Gilbert, symbol_length: u16, wave_symbols: u64) -> Self {
        Self { link, symbol_length, wave_symbols, known: HashMap::new() }
    }

    /// Losses that a pass of an object of `bytes` leaves a receiver with.
    pub fn of(&mut self, bytes: u64, protection: &Protection) -> PassLoss {
        let key = (bytes, *protection == Protection::NONE);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let loss = self.compute(bytes, protection);
        self.known.insert(key, loss);
        loss
    }

    fn compute(&self, bytes: u64, protection: &Protection) -> PassLoss {
        let oti = protection.oti(bytes, self.symbol_length, 65_535);
        let nothing = PassLoss { failure: 0.0, missing: 0.0, symbols: 0, spare: 0, symbol_bytes: 1 };
        let Ok(partition) = Partition::new(&oti) else { return nothing };
        let symbols = u32::try_from(partition.symbols).unwrap_or(u32::MAX);
        let symbol_bytes = partition.symbol_length;
        // Blocks are of two lengths that differ by one symbol; the larger stands for all.
        let k = if partition.blocks == 0 { 0 } else { partition.block_symbols(0) };
        let code = BlockCode::new(&oti, k).ok();
        let repair = code.as_ref().map_or(0, |code| protection.repair_symbols(code));
        let Some(code) = code.filter(|_| repair > 0) else {
            let (failure, missing) = self.link.loses_more(symbols, 0);
            return PassLoss { failure, missing, symbols, spare: 0, symbol_bytes };
        };
        let spare = repair.saturating_sub(code.surplus());
        let of_block = u64::from(k + repair);
        let spacing = (self.wave_symbols / of_block).clamp(u64::from(partition.blocks).max(1), 10_000);
        let (failure, lost) = self.link.every(spacing as u32).loses_more(k + repair, spare);
        let blocks = f64::from(partition.blocks);
        let all = 1.0 - (1.0 - failure).powf(blocks);
        let missing_of_block = lost * f64::from(k) / of_block as f64;
        let failed_blocks = if all > 0.0 { blocks * failure / all } else { 0.0 };
        PassLoss { failure: all, missing: missing_of_block * failed_blocks, symbols, spare, symbol_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use carousel::fec::EncodingId;

    #[test]
    fn without_a_code_an_object_is_whole_when_no_burst_begins_in_it() {
        let single = Gilbert::new(0.01, 1.0);
        let mut losses = Losses::new(single, 1400, 10_000);
        let loss = losses.of(1_400_000, &Protection::NONE);
        // Bursts of one packet: the chain leaves its bad state at once, so that losses are nearly independent.
        assert!((loss.failure - (1.0 - 0.99_f64.powi(1000))).abs() < 0.001, "{loss:?}");
        assert!((loss.missing - 10.0).abs() < 0.1, "{loss:?}");
        assert_eq!(losses.of(0, &Protection::NONE).failure, 0.0);
        let none = Losses::new(Gilbert::new(0.0, 8.0), 1400, 10_000).of(1_400_000, &Protection::NONE);
        assert!(none.failure < 1e-12, "{none:?}");
    }

    #[test]
    fn a_tenth_of_raptorq_against_five_percent_in_bursts() {
        let protection = Protection {
            id: EncodingId::RAPTORQ,
            symbol_length: 0,
            overhead: 0.1,
            least_repair: 3,
            burst_packets: 0,
            block_bytes: 1 << 20,
        };
        let loss = Losses::new(Gilbert::new(0.05, 8.0), 1400, 10_714).of(1_000_000, &protection);
        assert!(loss.failure < 1e-3 && loss.failure > 1e-9, "{loss:?}");
        let alone = Losses::new(Gilbert::new(0.05, 8.0), 1400, 1).of(1_000_000, &protection);
        assert!(alone.failure > 0.02, "without the wave bursts hit hard: {alone:?}");
    }
}
