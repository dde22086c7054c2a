//! Altered inputs without an engine, for a few seconds of each target in an ordinary test. Seeded; libFuzzer, which
//! measures coverage, finds more.

use fastrand::Rng;

use crate::Target;

/// Numbers at which lengths and counters break.
const NUMBERS: [u32; 12] =
    [0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0xffff_ffff];

/// Makes inputs out of others.
#[derive(Debug)]
pub struct Mutator {
    random: Rng,
    words: Vec<Vec<u8>>,
    longest: usize,
}

impl Mutator {
    /// For a target; the same seed gives the same inputs.
    pub fn new(target: &Target, seed: u64) -> Self {
        let bytes = |word: &&str| word.chars().map(|it| it as u32 as u8).collect();
        Self {
            random: Rng::with_seed(seed),
            words: target.words.iter().map(bytes).collect(),
            longest: target.longest,
        }
    }

    /// An input made of one of `seeds` and parts of others.
    pub fn next(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.one_of(seeds);
        for _ in 0..self.random.usize(1..8) {
            self.alter(&mut bytes, seeds);
        }
        bytes.truncate(self.longest);
        bytes
    }

    fn one_of(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let at = self.random.usize(..seeds.len().max(1));
        seeds.get(at).cloned().unwrap_or_default()
    }

    /// A part of at most this number of bytes.
    fn part(&mut self, length: usize, most: usize) -> std::ops::Range<usize> {
        let start = self.random.usize(..=length);
        let end = self.random.usize(start..=length.min(start + most));
        start..end
    }

    fn alter(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.random.usize(..=bytes.len());
        match self.random.u8(..9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.random.u8(..8),
            1 if at < bytes.len() => bytes[at] = self.random.u8(..),
            2 if !self.words.is_empty() => {
                let word = self.words[self.random.usize(..self.words.len())].clone();
                bytes.splice(at..at, word);
            }
            3 => {
                let number = NUMBERS[self.random.usize(..NUMBERS.len())].to_be_bytes();
                let width = self.random.usize(1..=4);
                let end = bytes.len().min(at + width);
                bytes.splice(at..end, number[4 - width..].iter().copied());
            }
            4 => drop(bytes.drain(self.part(bytes.len(), 64))),
            5 => {
                let copy = bytes[self.part(bytes.len(), 256)].to_vec();
                bytes.splice(at..at, copy);
            }
            6 => {
                let other = self.one_of(seeds);
                let piece = other[self.part(other.len(), 512)].to_vec();
                bytes.splice(at..at, piece);
            }
            7 => bytes.truncate(at),
            _ => bytes.insert(at, self.random.u8(..)),
        }
    }
}
