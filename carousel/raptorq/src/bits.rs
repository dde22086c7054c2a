//! Binary matrices: elimination, and their layout for sums by table.

/// Rows of bits.
#[derive(Debug, Clone)]
pub(super) struct BitMatrix {
    words: Vec<u64>,
    /// Words of a row.
    stride: usize,
    rows: usize,
}

impl BitMatrix {
    pub(super) fn new(rows: usize, columns: usize) -> Self {
        let stride = columns.div_ceil(64).max(1);
        Self { words: vec![0; rows * stride], stride, rows }
    }

    pub(super) fn get(&self, row: usize, column: usize) -> bool {
        self.words[row * self.stride + column / 64] >> (column % 64) & 1 == 1
    }

    pub(super) fn set(&mut self, row: usize, column: usize) {
        self.words[row * self.stride + column / 64] |= 1 << (column % 64);
    }

    pub(super) fn row(&self, row: usize) -> &[u64] {
        &self.words[row * self.stride..(row + 1) * self.stride]
    }

    pub(super) fn row_mut(&mut self, row: usize) -> &mut [u64] {
        &mut self.words[row * self.stride..(row + 1) * self.stride]
    }

    /// Adds another row of the matrix to a row.
    pub(super) fn add(&mut self, row: usize, other: usize) {
        let (row, other) = (row * self.stride, other * self.stride);
        for at in 0..self.stride {
            self.words[row + at] ^= self.words[other + at];
        }
    }

    /// Adds a row of a matrix that is not wider.
    pub(super) fn add_from(&mut self, row: usize, from: &Self, other: usize) {
        for (own, other) in self.row_mut(row).iter_mut().zip(from.row(other)) {
            *own ^= other;
        }
    }

    fn swap(&mut self, row: usize, other: usize) {
        if row != other {
            for at in 0..self.stride {
                self.words.swap(row * self.stride + at, other * self.stride + at);
            }
        }
    }

    /// Gauss and Jordan over the first `columns` columns, pivots from the left. Gives the pivot's column of each of the first
    /// rows; rows behind them are 0 there.
    pub(super) fn eliminate(&mut self, columns: usize) -> Vec<usize> {
        let mut pivots = Vec::new();
        for column in 0..columns {
            let at = pivots.len();
            let Some(found) = (at..self.rows).find(|row| self.get(*row, column)) else { continue };
            self.swap(at, found);
            let pivot = self.row(at).to_vec();
            let first = column / 64;
            for row in (0..self.rows).filter(|row| *row != at) {
                if self.get(row, column) {
                    for (own, other) in self.row_mut(row)[first..].iter_mut().zip(&pivot[first..]) {
                        *own ^= other;
                    }
                }
            }
            pivots.push(column);
            if pivots.len() == self.rows {
                break;
            }
        }
        pivots
    }
}

/// Inputs whose sums one table holds: 64 entries stay in the first-level cache.
pub(super) const GROUP: usize = 6;

/// A binary matrix for multiplication by tables (the method of the four Russians): for each group of six inputs the number of
/// the sum that each output takes.
#[derive(Debug, Clone, Default)]
pub(super) struct Codes {
    codes: Vec<u8>,
    outputs: usize,
}

impl Codes {
    pub(super) fn new(inputs: usize, outputs: usize, is_set: impl Fn(usize, usize) -> bool) -> Self {
        let groups = inputs.div_ceil(GROUP);
        let mut codes = Vec::with_capacity(groups * outputs);
        for group in 0..groups {
            for output in 0..outputs {
                let inputs = (group * GROUP..inputs.min((group + 1) * GROUP)).enumerate();
                codes
                    .push(inputs.fold(0, |code, (bit, input)| code | u8::from(is_set(output, input)) << bit));
            }
        }
        Self { codes, outputs }
    }

    /// For each group of inputs, the sums that outputs take.
    #[inline(always)]
    pub(super) fn groups(&self) -> impl Iterator<Item = &[u8]> {
        self.codes.chunks_exact(self.outputs.max(1))
    }

    pub(super) const fn outputs(&self) -> usize {
        self.outputs
    }

    pub(super) fn bytes(&self) -> usize {
        self.codes.len()
    }
}
