//! RaptorQ (RFC 6330), optimised for blocks with few losses.
//!
//! The decoder of RFC 6330 section 5.4 eliminates a system of all symbols of a block, for every block. Here the system of the
//! source symbols is eliminated once for each K' ([`Plan`]), and a block with lost symbols is decoded in three steps:
//!
//! 1. The plan, with zeros in place of the missing symbols, gives intermediate symbols that are wrong by the missing symbols.
//! 2. Each received repair symbol differs from the one computed of these by a sum of missing symbols; the plan, applied to a
//!    unit matrix, says which.
//! 3. These sums are solved for the missing symbols: a system as large as their number, not as the block
//!    ([`mod@solve`]).
//!
//! All three run over slices of the symbols that stay in the cache ([`lanes`]). No product with an element of GF(256) but α is ever
//! formed with a symbol: the dense rows are a running sum that doubles, and the rest of GF(256) is planes of bits. So plain sums are
//! all that there is to accelerate, and shuffles (SSSE3, NEON) or GFNI would win nothing.
//!
//! With *m* missing of *K* symbols the small system costs *m*³/32 operations on words: [`Plan::is_worth_while`] says until where that is
//! less than a full elimination, for which the `raptorq` crate is good.
//!
//! # Where RFC 6330 is not enough
//! - Section 5.3.3.3: the exponents of α in GAMMA exceed 255, for which section 5.7.2 defines none. They count modulo 255; with the
//!   wrong reading the matrix is singular for 1698 and 8837 source symbols.
//! - Section 3.3.2: the largest transfer length is 942,574,504,275 (erratum 5548), which is the caller's to check.
//! - It publishes no vectors of encoding symbols. What it demands of its tables is that each K' makes a code that is systematic: encoding
//!   symbols below K' are the source symbols. `tests/against_crate.rs` holds that, and equality with the crate.

mod bits;
mod lanes;
mod params;
mod plan;
mod solve;
mod tables;
mod vectors;

use std::sync::Arc;

use bits::{BitMatrix, Codes};
use lanes::{LANE_BYTES, Lane, Work, combine, multiply};
pub use plan::Plan;
use solve::{Solution, dense_rows, solve};
use vectors::Vectorized;

/// Source symbols of the largest block (RFC 6330 section 5.1.2).
pub const MAX_SYMBOLS: u32 = 56_403;
/// Binary equations beyond the missing symbols that are tried first: fewer unknowns are left to the dense rows.
const FEW_MORE: usize = 4;
/// Binary equations beyond all unknowns that are tried when the first are not enough: still more would help one time in 2^40.
const MANY_MORE: usize = 40;
/// Cubes of missing symbols for each symbol of the block up to which the small system is the cheaper one. Measured: with 6,000 symbols
/// 1,000 missing ones take 0.7 of what the crate does.
const CUBES_PER_SYMBOL: u64 = 160_000;

/// K' of a block of `k` source symbols (RFC 6330 section 5.3.1); `None` if it has more than [`MAX_SYMBOLS`].
pub fn padded(k: u32) -> Option<usize> {
    params::Params::new(k).map(|params| params.k_padded)
}

impl Plan {
    /// Whether [`Plan::restore`] takes less time than a full elimination if `missing` symbols are missing, and at most
    /// `most_bytes` of memory besides symbols and result.
    pub fn is_worth_while(&self, missing: usize, most_bytes: u64) -> bool {
        (missing as u64).pow(3) <= CUBES_PER_SYMBOL * self.symbols() as u64
            && self.scratch_bytes(missing) <= most_bytes
    }

    /// Bytes of memory that [`Plan::restore`] takes at most beside symbols and result.
    pub fn scratch_bytes(&self, missing: usize) -> u64 {
        let (h, lane) = (self.params.h, LANE_BYTES as u64);
        let unknowns = missing + h;
        let rows = unknowns + MANY_MORE;
        let lanes = self.symbols() + self.params.l() * (1 + unknowns.div_ceil(8 * LANE_BYTES));
        let lanes = lanes + 2 * self.rest.len() + rows + missing + 20 * h + 8 * 2 * h;
        let bits =
            2 * rows * (unknowns + rows).div_ceil(8) + (rows + h).div_ceil(bits::GROUP) * (missing + 8 * h);
        lanes as u64 * lane + bits as u64 + (rows * 48 + h * (unknowns + rows)) as u64
    }

    /// The missing ones of a block's source symbols, from its repair symbols with their ESIs; `None` if those are not enough. Symbols
    /// that are shorter than `symbol_bytes` count as padded with zeros.
    ///
    /// # Panics
    /// If the plan is for another K'.
    pub fn restore(
        &self,
        sources: &[Option<&[u8]>],
        repair: &[(u32, &[u8])],
        symbol_bytes: usize,
    ) -> Option<Vec<(u32, Vec<u8>)>> {
        assert_eq!(padded(sources.len() as u32), Some(self.symbols()), "the plan of another K'");
        let missing: Vec<usize> = (0..sources.len()).filter(|at| sources[*at].is_none()).collect();
        let unknowns = missing.len() + self.params.h;
        let padding = (self.symbols() - sources.len()) as u32;
        let few = (missing.len() + FEW_MORE).min(repair.len());
        let many = (unknowns + MANY_MORE).min(repair.len());
        let row = |(esi, _): &(u32, &[u8])| {
            let mut row = Vec::new();
            self.params.lt_row(esi + padding, &mut row);
            row
        };
        let rows: Vec<Vec<u16>> = repair[..many].iter().map(row).collect();
        for count in [few, many] {
            let rows = &rows[..count];
            let mut solution = None;
            vectors::run(Solving { plan: self, missing: &missing, rows, solution: &mut solution });
            if let Some(solution) = &solution {
                let mut out = vec![vec![0; symbol_bytes]; missing.len()];
                let symbols = Symbols { sources, repair, symbol_bytes };
                vectors::run(Restoring { plan: self, symbols, rows, solution, out: &mut out });
                return Some(missing.iter().map(|at| *at as u32).zip(out).collect());
            }
            if count == many {
                break;
            }
        }
        None
    }
}

/// Sets up the small system and solves it.
struct Solving<'a> {
    plan: &'a Plan,
    missing: &'a [usize],
    /// Intermediate symbols of each repair symbol.
    rows: &'a [Vec<u16>],
    solution: &'a mut Option<Solution>,
}

impl Vectorized for Solving<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { plan, missing, rows, solution } = self;
        let h = plan.params.h;
        let unknowns = missing.len() + h;
        let mut binary = BitMatrix::new(rows.len(), unknowns + rows.len());
        let mut work = Work::new(plan);
        let mut intermediate = Vec::new();
        let mut free = vec![Lane::ZERO; h];
        // The unit matrix of the unknowns, a bit each.
        for from in (0..unknowns).step_by(8 * LANE_BYTES) {
            work.source.fill(Lane::ZERO);
            free.fill(Lane::ZERO);
            for at in from..unknowns.min(from + 8 * LANE_BYTES) {
                let lane = match missing.get(at) {
                    Some(source) => &mut work.source[*source],
                    None => &mut free[at - missing.len()],
                };
                lane.0[(at - from) / 8] |= 1 << (at % 8);
            }
            work.run(plan, &free);
            for (number, terms) in rows.iter().enumerate() {
                let mut sum = Lane::ZERO;
                sum.add_all(&work.intermediate, terms);
                let words = sum.0.as_chunks::<8>().0;
                for (own, word) in binary.row_mut(number)[from / 64..].iter_mut().zip(words) {
                    *own = u64::from_le_bytes(*word);
                }
            }
            intermediate.push(work.intermediate.clone());
        }
        let dense = dense_rows(&intermediate, &plan.hdpc, h, unknowns);
        *solution = solve(binary, rows.len(), &dense, unknowns, missing.len());
    }
}

#[derive(Clone, Copy)]
struct Symbols<'a> {
    sources: &'a [Option<&'a [u8]>],
    repair: &'a [(u32, &'a [u8])],
    symbol_bytes: usize,
}

/// Puts a block through the plan and the solution.
struct Restoring<'a> {
    plan: &'a Plan,
    symbols: Symbols<'a>,
    rows: &'a [Vec<u16>],
    solution: &'a Solution,
    /// The missing symbols in order.
    out: &'a mut [Vec<u8>],
}

impl Vectorized for Restoring<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { plan, symbols, rows, solution, out } = self;
        let mut work = Work::new(plan);
        let mut sides = vec![Lane::ZERO; rows.len() + plan.params.h];
        let mut sums = vec![Lane::ZERO; solution.sums.outputs()];
        let mut free = vec![Lane::ZERO; solution.free.len()];
        for at in (0..symbols.symbol_bytes).step_by(LANE_BYTES) {
            for (lane, source) in work.source.iter_mut().zip(symbols.sources) {
                if let Some(symbol) = source {
                    lane.load(symbol, at);
                }
            }
            work.run(plan, &[]);
            for ((side, terms), (_, symbol)) in sides.iter_mut().zip(rows).zip(symbols.repair) {
                side.load(symbol, at);
                side.add_all(&work.intermediate, terms);
            }
            work.dense(plan, &mut sides[rows.len()..]);
            sums.fill(Lane::ZERO);
            multiply(&solution.sums, &sides, &mut sums);
            let (own, planes) = sums.split_at_mut(solution.pivots.len());
            combine(planes, &mut free);
            multiply(&solution.of_free, &free, own);
            for (lane, unknown) in own.iter().zip(&solution.pivots).chain(free.iter().zip(&solution.free)) {
                if let Some(symbol) = out.get_mut(*unknown) {
                    lane.store(symbol, at);
                }
            }
        }
    }
}

/// Makes repair symbols of one block. Holds its intermediate symbols: K' + S + H symbols, a few per cent more than the block.
#[derive(Debug)]
pub struct Encoder {
    plan: Arc<Plan>,
    /// K' − K.
    padding: u32,
    symbol_bytes: usize,
    intermediate: Vec<u8>,
}

impl Encoder {
    /// Prepares repair symbols of `block`, whole symbols of `symbol_bytes`.
    ///
    /// # Panics
    /// If the plan is for another K'.
    pub fn new(plan: Arc<Plan>, block: &[u8], symbol_bytes: usize) -> Self {
        let k = block.len() / symbol_bytes;
        assert_eq!(padded(k as u32), Some(plan.symbols()), "the plan of another K'");
        let mut intermediate = vec![0; plan.params.l() * symbol_bytes];
        vectors::run(Encoding { plan: &plan, block, symbol_bytes, out: &mut intermediate });
        Self { padding: (plan.symbols() - k) as u32, plan, symbol_bytes, intermediate }
    }

    /// The encoding symbol with this ESI.
    pub fn symbol(&self, esi: u32) -> Vec<u8> {
        let mut terms = Vec::new();
        // Between K and K' are the padding's internal symbol IDs, which ESIs pass over.
        let is_source = esi as usize + (self.padding as usize) < self.plan.symbols();
        self.plan.params.lt_row(esi + if is_source { 0 } else { self.padding }, &mut terms);
        let mut out = vec![0; self.symbol_bytes];
        let symbols = terms.iter().map(|term| {
            let at = usize::from(*term) * self.symbol_bytes;
            &self.intermediate[at..at + self.symbol_bytes]
        });
        vectors::run(Adding { symbols, out: &mut out });
        out
    }
}

struct Encoding<'a> {
    plan: &'a Plan,
    block: &'a [u8],
    symbol_bytes: usize,
    /// Intermediate symbols.
    out: &'a mut [u8],
}

impl Vectorized for Encoding<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { plan, block, symbol_bytes, out } = self;
        let h = plan.params.h;
        let mut work = Work::new(plan);
        let mut dense = vec![Lane::ZERO; h];
        let mut planes = vec![Lane::ZERO; 8 * h];
        let mut free = vec![Lane::ZERO; h];
        for at in (0..symbol_bytes).step_by(LANE_BYTES) {
            for (lane, symbol) in work.source.iter_mut().zip(block.chunks_exact(symbol_bytes)) {
                lane.load(symbol, at);
            }
            work.run(plan, &[]);
            work.dense(plan, &mut dense);
            planes.fill(Lane::ZERO);
            multiply(&plan.free_of_dense, &dense, &mut planes);
            combine(&planes, &mut free);
            multiply(&plan.all_of_free, &free, &mut work.intermediate);
            for (symbol, lane) in out.chunks_exact_mut(symbol_bytes).zip(&work.intermediate) {
                lane.store(symbol, at);
            }
        }
    }
}

/// Adds whole symbols up.
struct Adding<'a, I> {
    symbols: I,
    out: &'a mut [u8],
}

impl<'a, I: Iterator<Item = &'a [u8]>> Vectorized for Adding<'_, I> {
    #[inline(always)]
    fn run(self) {
        for symbol in self.symbols {
            for (own, other) in self.out.iter_mut().zip(symbol) {
                *own ^= other;
            }
        }
    }
}

/// Derivation of the free symbols from the dense rows, and their part in all intermediate ones.
struct Freeing<'a> {
    plan: &'a Plan,
    out: &'a mut Option<(Codes, Codes)>,
}

impl Vectorized for Freeing<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { plan, out } = self;
        let h = plan.params.h;
        let mut work = Work::new(plan);
        let mut free = vec![Lane::ZERO; h];
        for (at, lane) in free.iter_mut().enumerate() {
            lane.0[at / 8] |= 1 << (at % 8);
        }
        work.run(plan, &free);
        let all_of_free = Codes::new(h, plan.params.l(), |output, input| {
            work.intermediate[output].0[input / 8] >> (input % 8) & 1 == 1
        });
        let dense = dense_rows(&[work.intermediate], &plan.hdpc, h, h);
        let solution = solve(BitMatrix::new(0, h), 0, &dense, h, 0);
        *out = solution.map(|solution| (solution.sums, all_of_free));
    }
}
