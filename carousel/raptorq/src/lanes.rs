//! Sums of symbols, a slice of all of them at a time.
//!
//! All symbols of a block are a megabyte or more, and a plan touches each of them twenty times: slices of 128 bytes keep the work in
//! the first two levels of the cache, where whole symbols would go through memory. The code is written once, without intrinsics; the
//! compiler makes it for each set of vector instructions, and [`vectors::run`](super::vectors::run) chooses one when it is called.

use super::bits::{Codes, GROUP};
use super::plan::Plan;

/// Bytes of a symbol that are worked on at a time.
pub(super) const LANE_BYTES: usize = 128;

/// A slice of one symbol.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Lane(pub(super) [u8; LANE_BYTES]);

impl Lane {
    pub(super) const ZERO: Self = Self([0; LANE_BYTES]);

    #[inline(always)]
    pub(super) fn add(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own ^= other;
        }
    }

    /// Multiplies by α: a shift, reduced by x^8 + x^4 + x^3 + x^2 + 1 (RFC 6330 section 5.7.2).
    #[inline(always)]
    pub(super) fn double(&mut self) {
        for own in &mut self.0 {
            *own = *own << 1 ^ ((*own as i8 >> 7) as u8 & 0x1d);
        }
    }

    /// The sum of lanes of `all`.
    #[inline(always)]
    pub(super) fn add_all(&mut self, all: &[Self], terms: &[u16]) {
        let mut sum = *self;
        for term in terms {
            sum.add(&all[usize::from(*term)]);
        }
        *self = sum;
    }

    #[inline(always)]
    pub(super) fn load(&mut self, symbol: &[u8], at: usize) {
        match symbol.get(at..at + LANE_BYTES) {
            Some(bytes) => self.0.copy_from_slice(bytes),
            None => {
                let rest = symbol.get(at..).unwrap_or_default();
                self.0[..rest.len()].copy_from_slice(rest);
                self.0[rest.len()..].fill(0);
            }
        }
    }

    #[inline(always)]
    pub(super) fn store(&self, symbol: &mut [u8], at: usize) {
        let count = LANE_BYTES.min(symbol.len() - at);
        symbol[at..at + count].copy_from_slice(&self.0[..count]);
    }
}

/// Adds to each output the inputs that `codes` says.
#[inline(always)]
pub(super) fn multiply(codes: &Codes, inputs: &[Lane], outputs: &mut [Lane]) {
    let mut table = [Lane::ZERO; 1 << GROUP];
    for (inputs, codes) in inputs.chunks(GROUP).zip(codes.groups()) {
        for (bit, input) in inputs.iter().enumerate() {
            for low in 0..1 << bit {
                let mut sum = table[low];
                sum.add(input);
                table[low | 1 << bit] = sum;
            }
        }
        for (output, code) in outputs.iter_mut().zip(codes) {
            output.add(&table[usize::from(*code) % (1 << GROUP)]);
        }
    }
}

/// Lanes of one slice of a block.
pub(super) struct Work {
    /// Source symbols with padding.
    pub(super) source: Vec<Lane>,
    /// Intermediate symbols.
    pub(super) intermediate: Vec<Lane>,
    /// Rows that resolve no column, then columns set aside.
    rest: Vec<Lane>,
    solved: Vec<Lane>,
}

impl Work {
    pub(super) fn new(plan: &Plan) -> Self {
        let lanes = |count| vec![Lane::ZERO; count];
        Self {
            source: lanes(plan.params.k_padded),
            intermediate: lanes(plan.params.l()),
            rest: lanes(plan.rest.len()),
            solved: lanes(plan.solved.len()),
        }
    }

    /// Source symbols to intermediate ones, with the free ones as they are given.
    #[inline(always)]
    pub(super) fn run(&mut self, plan: &Plan, free: &[Lane]) {
        let Self { source, intermediate, rest, solved } = self;
        let s = plan.params.s;
        // LDPC rows come first; their sums are 0.
        let of_row = |row: u16| usize::from(row).checked_sub(s).map_or(Lane::ZERO, |row| source[row]);
        let mut terms = plan.terms.as_slice();
        for step in &plan.steps {
            let (own, after) = terms.split_at(usize::from(step.resolved) + usize::from(step.inactive));
            terms = after;
            let mut sum = of_row(step.row);
            sum.add_all(intermediate, &own[..usize::from(step.resolved)]);
            intermediate[usize::from(step.column)] = sum;
        }
        let mut terms = plan.rest_terms.as_slice();
        for ((row, count), sum) in plan.rest.iter().zip(rest.iter_mut()) {
            let (own, after) = terms.split_at(usize::from(*count));
            terms = after;
            *sum = of_row(*row);
            sum.add_all(intermediate, own);
        }
        solved.fill(Lane::ZERO);
        multiply(&plan.of_rest, rest, solved);
        multiply(&plan.of_free, free, solved);
        for (column, sum) in plan.solved.iter().zip(solved.iter()) {
            intermediate[usize::from(*column)] = *sum;
        }
        for (at, column) in plan.free.iter().enumerate() {
            intermediate[usize::from(*column)] = free.get(at).copied().unwrap_or(Lane::ZERO);
        }
        let mut terms = plan.terms.as_slice();
        for step in &plan.steps {
            let (own, after) = terms.split_at(usize::from(step.resolved) + usize::from(step.inactive));
            terms = after;
            let mut sum = of_row(step.row);
            sum.add_all(intermediate, own);
            intermediate[usize::from(step.column)] = sum;
        }
    }

    /// Sums of the dense rows (RFC 6330 section 5.3.3.3). GAMMA is a sum that is doubled from column to column, MT adds it to two
    /// rows. The exponents of α wrap at 255, which the RFC does not say.
    #[inline(always)]
    pub(super) fn dense(&self, plan: &Plan, out: &mut [Lane]) {
        let (columns, h) = (plan.hdpc.len(), plan.params.h);
        let (first, own) = self.intermediate.split_at(columns + 1);
        out[..h].copy_from_slice(&own[..h]);
        let mut sum = Lane::ZERO;
        for (lane, (a, b)) in first.iter().zip(&plan.hdpc) {
            sum.double();
            sum.add(lane);
            out[usize::from(*a)].add(&sum);
            out[usize::from(*b)].add(&sum);
        }
        sum.double();
        sum.add(&first[columns]);
        for out in &mut out[..h] {
            out.add(&sum);
            sum.double();
        }
    }
}

/// Adds up planes: output `at` is the sum of α^bit times plane 8·at + bit.
#[inline(always)]
pub(super) fn combine(planes: &[Lane], outputs: &mut [Lane]) {
    for (planes, output) in planes.chunks_exact(8).zip(outputs) {
        let mut sum = planes[7];
        for plane in planes[..7].iter().rev() {
            sum.double();
            sum.add(plane);
        }
        *output = sum;
    }
}
