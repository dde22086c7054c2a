//! The small system of a block's missing symbols.
//!
//! Unknown are the missing source symbols and the H free intermediate ones. Each repair symbol is a binary equation, each dense row
//! one over GF(256). The binary ones are eliminated first; what they leave free, H unknowns or fewer, the dense rows give. The result
//! is once more a binary matrix: a product with GF(256) is eight planes of sums, added up by doubling.

use super::bits::{BitMatrix, Codes};
use super::lanes::{LANE_BYTES, Lane};

/// GF(256) by logarithms (RFC 6330 section 5.7).
#[derive(Debug)]
pub(super) struct Field {
    exponents: [u8; 510],
    logarithms: [u8; 256],
}

impl Field {
    pub(super) const fn new() -> Self {
        let (mut exponents, mut logarithms) = ([0; 510], [0; 256]);
        let (mut at, mut value) = (0, 1_u16);
        while at < 255 {
            exponents[at] = value as u8;
            exponents[at + 255] = value as u8;
            logarithms[value as usize] = at as u8;
            value <<= 1;
            if value > 255 {
                value ^= 0x11d;
            }
            at += 1;
        }
        Self { exponents, logarithms }
    }

    pub(super) const fn product(&self, a: u8, b: u8) -> u8 {
        if a == 0 || b == 0 {
            return 0;
        }
        self.exponents[self.logarithms[a as usize] as usize + self.logarithms[b as usize] as usize]
    }

    const fn inverse(&self, a: u8) -> u8 {
        self.exponents[255 - self.logarithms[a as usize] as usize]
    }

    /// Gauss and Jordan over the first `columns` columns; false if they are dependent. The first rows are the identity then.
    fn eliminate(&self, rows: &mut [Vec<u8>], columns: usize) -> bool {
        for column in 0..columns {
            let Some(found) = (column..rows.len()).find(|row| rows[*row][column] != 0) else { return false };
            rows.swap(column, found);
            let inverse = self.inverse(rows[column][column]);
            for value in &mut rows[column] {
                *value = self.product(*value, inverse);
            }
            let pivot = rows[column].clone();
            for (number, row) in rows.iter_mut().enumerate() {
                let factor = row[column];
                if number != column && factor != 0 {
                    for (own, other) in row.iter_mut().zip(&pivot) {
                        *own ^= self.product(factor, *other);
                    }
                }
            }
        }
        true
    }
}

pub(super) static FIELD: Field = Field::new();

/// Multiplies by α in planes of bits: plane 7 wraps to the bits of x^8 = x^4 + x^3 + x^2 + 1.
#[inline(always)]
fn double(planes: &mut [Lane; 8]) {
    planes.rotate_right(1);
    let top = planes[0];
    for at in [2, 3, 4] {
        planes[at].add(&top);
    }
}

/// Dense rows in terms of the unknowns: bytes of H rows, from intermediate symbols whose bits are their unknowns.
pub(super) fn dense_rows(
    intermediate: &[Vec<Lane>],
    hdpc: &[(u8, u8)],
    h: usize,
    unknowns: usize,
) -> Vec<Vec<u8>> {
    let mut rows = vec![vec![0; unknowns]; h];
    // One lane has bits of 1024 unknowns.
    for (lane, from) in intermediate.iter().zip((0..).step_by(8 * LANE_BYTES)) {
        let columns = hdpc.len();
        let mut planes = [Lane::ZERO; 8];
        let mut sums = vec![[Lane::ZERO; 8]; h];
        let next = |planes: &mut [Lane; 8], column: usize| {
            double(planes);
            planes[0].add(&lane[column]);
        };
        for (column, (a, b)) in hdpc.iter().enumerate() {
            next(&mut planes, column);
            for row in [a, b] {
                for (sum, plane) in sums[usize::from(*row)].iter_mut().zip(&planes) {
                    sum.add(plane);
                }
            }
        }
        next(&mut planes, columns);
        for (number, (row, sum)) in rows.iter_mut().zip(&mut sums).enumerate() {
            sum[0].add(&lane[columns + 1 + number]);
            for (sum, plane) in sum.iter_mut().zip(&planes) {
                sum.add(plane);
            }
            for (at, value) in row.iter_mut().skip(from).take(8 * LANE_BYTES).enumerate() {
                let bit = |plane: &Lane| plane.0[at / 8] >> (at % 8) & 1;
                *value = sum.iter().rev().fold(0, |value, plane| value << 1 | bit(plane));
            }
            double(&mut planes);
        }
    }
    rows
}

/// Derivation of the wanted unknowns from the equations' right sides, binary ones first.
#[derive(Debug)]
pub(super) struct Solution {
    /// Sums of right sides: first of the wanted pivots, then eight planes of each unknown that the binary equations leave free.
    pub(super) sums: Codes,
    /// Unknowns of the first outputs of `sums`.
    pub(super) pivots: Vec<usize>,
    /// Part of the free unknowns in those.
    pub(super) of_free: Codes,
    /// The free unknowns.
    pub(super) free: Vec<usize>,
}

/// Solves for the first `wanted` of the unknowns. `binary` has a row of bits for each binary equation, `dense` the H rows of bytes.
/// `None` if the equations are not enough.
pub(super) fn solve(
    mut binary: BitMatrix,
    equations: usize,
    dense: &[Vec<u8>],
    unknowns: usize,
    wanted: usize,
) -> Option<Solution> {
    for at in 0..equations {
        binary.set(at, unknowns + at);
    }
    let pivots = binary.eliminate(unknowns);
    let mut is_pivot = vec![false; unknowns];
    for pivot in &pivots {
        is_pivot[*pivot] = true;
    }
    let free: Vec<usize> = (0..unknowns).filter(|at| !is_pivot[*at]).collect();
    if free.len() > dense.len() {
        return None;
    }
    // Dense rows with the pivots put in: bytes of the free unknowns, of the binary right sides, and of their own.
    let width = free.len() + equations + dense.len();
    let mut rows: Vec<Vec<u8>> = Vec::with_capacity(dense.len());
    for (number, dense) in dense.iter().enumerate() {
        let mut row = vec![0; width];
        for plane in 0..8 {
            let mut sum = BitMatrix::new(1, unknowns + equations);
            for (at, pivot) in pivots.iter().enumerate() {
                if dense[*pivot] >> plane & 1 == 1 {
                    sum.add_from(0, &binary, at);
                }
            }
            for (value, column) in
                row.iter_mut().zip(free.iter().copied().chain(unknowns..unknowns + equations))
            {
                *value |= u8::from(sum.get(0, column)) << plane;
            }
        }
        for (value, column) in row.iter_mut().zip(&free) {
            *value ^= dense[*column];
        }
        row[free.len() + equations + number] = 1;
        rows.push(row);
    }
    if !FIELD.eliminate(&mut rows, free.len()) {
        return None;
    }
    let wanted_pivots: Vec<usize> = (0..pivots.len()).filter(|at| pivots[*at] < wanted).collect();
    let own = wanted_pivots.len();
    let sums = Codes::new(equations + dense.len(), own + 8 * free.len(), |output, input| {
        match output.checked_sub(own) {
            None => input < equations && binary.get(wanted_pivots[output], unknowns + input),
            Some(plane) => rows[plane / 8][free.len() + input] >> (plane % 8) & 1 == 1,
        }
    });
    let of_free = Codes::new(free.len(), own, |output, input| binary.get(wanted_pivots[output], free[input]));
    let pivots = wanted_pivots.iter().map(|at| pivots[*at]).collect();
    Some(Solution { sums, pivots, of_free, free })
}
