//! Bit map of the symbols of an object that have been received.
//!
//! One bit a symbol, written by the one receiver that owns the object and read by anyone (a player's response that
//! waits for a range, the repair policy). A bit is set with `Release` after the symbol's bytes are in place, so who
//! sees the bit with `Acquire` sees the bytes.

use super::Partition;
use super::sync::{AtomicU64, Ordering};
use std::ops::Range;

/// Arrival map of one object. Share it by `Arc`; only the receiver that made it may call [`SymbolMap::set`].
#[derive(Debug)]
pub struct SymbolMap {
    words: Box<[AtomicU64]>,
    symbols: u64,
    symbol_length: u64,
    length: u64,
    received: AtomicU64,
}

impl SymbolMap {
    /// Nothing received yet of an object partitioned so.
    pub fn new(partition: &Partition) -> Self {
        let words = partition.symbols.div_ceil(64);
        Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            symbols: partition.symbols,
            symbol_length: u64::from(partition.symbol_length),
            length: partition.length,
            received: AtomicU64::new(0),
        }
    }

    /// Memory that the map takes.
    pub const fn held_bytes(&self) -> usize {
        self.words.len() * size_of::<AtomicU64>()
    }

    /// Source symbols of the object.
    pub const fn symbols(&self) -> u64 {
        self.symbols
    }

    /// Transfer length in bytes.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Source symbols received.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// Bytes received; exact also when the short last symbol is among them.
    pub fn received_bytes(&self) -> u64 {
        let last = self.symbols.checked_sub(1);
        let short = match last {
            Some(last) if self.has(last) => self.symbols * self.symbol_length - self.length,
            _ => 0,
        };
        self.received() * self.symbol_length - short
    }

    /// Number of these symbols that are there.
    pub fn count(&self, symbols: Range<u64>) -> u64 {
        let end = symbols.end.min(self.symbols);
        let mut at = symbols.start;
        let mut count = 0;
        while at < end {
            let next = (at / 64 + 1) * 64;
            let mut word = self.word(at / 64) >> (at % 64);
            if next > end {
                word &= (1 << (end - at)) - 1;
            }
            count += u64::from(word.count_ones());
            at = next;
        }
        count
    }

    /// Whether every symbol is there.
    pub fn is_complete(&self) -> bool {
        self.received() == self.symbols
    }

    /// Whether symbol number `symbol` is there; false beyond the end.
    #[inline]
    pub fn has(&self, symbol: u64) -> bool {
        self.word(symbol / 64) >> (symbol % 64) & 1 == 1
    }

    /// Notes that `symbol` is in place. Returns false if it already was, or is beyond the end.
    ///
    /// Not a read-modify-write on purpose: there is one writer, and a locked instruction a packet is what we save.
    #[inline]
    pub fn set(&self, symbol: u64) -> bool {
        let Some(word) = self.words.get((symbol / 64) as usize).filter(|_| symbol < self.symbols) else {
            return false;
        };
        let (old, bit) = (word.load(Ordering::Relaxed), 1 << (symbol % 64));
        if old & bit != 0 {
            return false;
        }
        word.store(old | bit, Ordering::Release);
        self.received.store(self.received.load(Ordering::Relaxed) + 1, Ordering::Release);
        true
    }

    /// The bits as they are now, 64 symbols a word.
    pub fn words(&self) -> Vec<u64> {
        self.words.iter().map(|word| word.load(Ordering::Acquire)).collect()
    }

    /// Takes over bits of an earlier run, before any other symbol is set. A map that would make the object complete loses
    /// its last symbol: an object is completed by a packet. Bits beyond the end are skipped.
    pub fn restore(&self, words: &[u64]) {
        for symbol in 0..self.symbols {
            let word = words.get((symbol / 64) as usize).copied().unwrap_or(0);
            if word >> (symbol % 64) & 1 == 1 && self.received() + 1 < self.symbols {
                self.set(symbol);
            }
        }
    }

    /// Forgets everything received.
    pub fn clear(&self) {
        for word in &self.words {
            word.store(0, Ordering::Release);
        }
        self.received.store(0, Ordering::Release);
    }

    /// End of the run of received bytes that starts at `offset`; `offset` itself if that byte has not arrived.
    pub fn available_from(&self, offset: u64) -> u64 {
        if offset >= self.length {
            return offset;
        }
        let first = offset / self.symbol_length;
        let end = self.next_where(first..self.symbols, |word| !word).unwrap_or(self.symbols);
        if end == first { offset } else { (end * self.symbol_length).min(self.length) }
    }

    /// Bytes of every symbol but the last.
    pub const fn symbol_length(&self) -> u64 {
        self.symbol_length
    }

    /// Missing byte ranges in order; symbol-aligned, so adjacent missing symbols are one range.
    pub fn missing(&self) -> impl Iterator<Item = Range<u64>> {
        let bytes =
            |run: Range<u64>| run.start * self.symbol_length..(run.end * self.symbol_length).min(self.length);
        self.missing_symbols(0..self.symbols).map(bytes)
    }

    /// Runs of symbols that are missing of these, in order.
    pub fn missing_symbols(&self, symbols: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let end = symbols.end.min(self.symbols);
        let mut at = symbols.start;
        std::iter::from_fn(move || {
            let start = self.next_where(at..end, |word| !word)?;
            at = self.next_where(start..end, |word| word).unwrap_or(end);
            Some(start..at)
        })
    }

    /// Symbols that lie wholly inside the byte range `[start, end)` of the object.
    pub fn symbols_within(&self, bytes: Range<u64>) -> Range<u64> {
        let first = bytes.start.div_ceil(self.symbol_length);
        let end = if bytes.end >= self.length { self.symbols } else { bytes.end / self.symbol_length };
        first..end.max(first)
    }

    /// The first of these symbols whose bit is set in `map(word)`. Reads no word behind them.
    fn next_where(&self, within: Range<u64>, map: impl Fn(u64) -> u64) -> Option<u64> {
        let end = within.end.min(self.symbols);
        let mut index = within.start / 64;
        let mut word = map(self.word(index)) & u64::MAX.checked_shl((within.start % 64) as u32).unwrap_or(0);
        while index * 64 < end {
            if word != 0 {
                let symbol = index * 64 + u64::from(word.trailing_zeros());
                return (symbol < end).then_some(symbol);
            }
            index += 1;
            word = map(self.word(index));
        }
        None
    }

    fn word(&self, index: u64) -> u64 {
        self.words.get(index as usize).map_or(0, |word| word.load(Ordering::Acquire))
    }
}
