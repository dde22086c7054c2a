//! The plan by which source symbols become intermediate symbols: one straight line of sums for all blocks of one K'.
//!
//! The rows of the constraint matrix but the H dense ones (HDPC) are binary and independent, so that the intermediate symbols are
//! sums of source symbols and of H *free* intermediate symbols. The dense rows then give the free ones. Peeling finds
//! the order of the sums: a row with one unresolved column resolves it; where there is none, a column of the largest component of
//! rows with two is set aside (inactivated, as RFC 6330 section 5.4.2.2 does). Columns that were set aside are solved for by a
//! dense binary matrix, inverted here once.

use super::bits::{BitMatrix, Codes};
use super::params::Params;
use super::{Freeing, vectors};

/// One sum: the intermediate symbol `column` is the symbol of `row`, plus the next `resolved` and `inactive` of the plan's terms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) row: u16,
    pub(super) column: u16,
    pub(super) resolved: u16,
    pub(super) inactive: u16,
}

/// See the module head.
#[derive(Debug)]
pub struct Plan {
    pub(super) params: Params,
    pub(super) steps: Vec<Step>,
    /// Of the steps in turn: first the resolved, then the inactive columns of each.
    pub(super) terms: Vec<u16>,
    /// Rows that resolve no column: row and number of terms.
    pub(super) rest: Vec<(u16, u16)>,
    /// Of those rows in turn: resolved columns.
    pub(super) rest_terms: Vec<u16>,
    /// Columns set aside that the rows of `rest` give, in the order of `of_rest`'s outputs.
    pub(super) solved: Vec<u16>,
    /// Sums of the rows of `rest`.
    pub(super) of_rest: Codes,
    /// Columns set aside that the dense rows give.
    pub(super) free: Vec<u16>,
    /// Part of the free ones in the solved ones.
    pub(super) of_free: Codes,
    /// Rows of MT that each column enters.
    pub(super) hdpc: Vec<(u8, u8)>,
    /// Free columns from the sums of the dense rows, in eight planes each.
    pub(super) free_of_dense: Codes,
    /// Part of the free columns in all.
    pub(super) all_of_free: Codes,
}

/// Rows and columns while they are peeled.
struct Peeling {
    rows: Vec<Vec<u16>>,
    /// Active columns of each row that are not resolved.
    degree: Vec<u16>,
    rows_of: Vec<Vec<u16>>,
    is_used: Vec<bool>,
    state: Vec<State>,
    ready: Vec<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Active,
    Inactive,
    Resolved,
}

impl Peeling {
    fn leave(&mut self, column: usize, state: State) {
        self.state[column] = state;
        for at in 0..self.rows_of[column].len() {
            let row = self.rows_of[column][at];
            let degree = &mut self.degree[usize::from(row)];
            *degree -= 1;
            if *degree == 1 {
                self.ready.push(row);
            }
        }
    }

    fn active(&self, row: usize) -> impl Iterator<Item = usize> {
        self.rows[row].iter().map(|c| usize::from(*c)).filter(|c| self.state[*c] == State::Active)
    }

    /// The column to set aside: one of the largest component that rows with two columns join, or the one in most rows.
    fn to_set_aside(&self, active: usize) -> Option<usize> {
        let mut parent: Vec<u16> = (0..active as u16).collect();
        fn root(parent: &mut [u16], mut at: usize) -> usize {
            while usize::from(parent[at]) != at {
                parent[at] = parent[usize::from(parent[at])];
                at = usize::from(parent[at]);
            }
            at
        }
        let mut size = vec![1_u32; active];
        let mut largest = None;
        for row in 0..self.rows.len() {
            if self.is_used[row] || self.degree[row] != 2 {
                continue;
            }
            let mut two = self.active(row);
            let (Some(a), Some(b)) = (two.next(), two.next()) else { continue };
            let (a, b) = (root(&mut parent, a), root(&mut parent, b));
            if a != b {
                parent[b] = a as u16;
                size[a] += size[b];
            }
            if largest.is_none_or(|(most, _)| size[a] > most) {
                largest = Some((size[a], a));
            }
        }
        let count = |column: &usize| {
            self.rows_of[*column].iter().filter(|row| self.degree[usize::from(**row)] > 0).count()
        };
        let in_largest = |column: &usize| match largest {
            Some((_, top)) => {
                let mut at = *column;
                while usize::from(parent[at]) != at {
                    at = usize::from(parent[at]);
                }
                at == top
            }
            None => true,
        };
        (0..active).filter(|c| self.state[*c] == State::Active).filter(in_largest).max_by_key(count)
    }
}

impl Plan {
    /// The plan of the K' that a block of `k` source symbols has; `None` if it has more than
    /// [`MAX_SYMBOLS`](super::MAX_SYMBOLS): RFC 6330 chose the systematic indices so that the rows are independent for each K'.
    pub fn new(k: u32) -> Option<Self> {
        let params = Params::new(k)?;
        let l = params.l();
        let mut rows = params.ldpc_rows();
        for isi in 0..params.k_padded as u32 {
            let mut row = Vec::new();
            params.lt_row(isi, &mut row);
            rows.push(row);
        }
        let mut rows_of = vec![Vec::new(); params.w];
        let mut degree = vec![0; rows.len()];
        for (number, row) in rows.iter().enumerate() {
            for column in row.iter().map(|c| usize::from(*c)).filter(|c| *c < params.w) {
                rows_of[column].push(number as u16);
                degree[number] += 1;
            }
        }
        let mut state = vec![State::Active; params.w];
        state.resize(l, State::Inactive);
        let ready = (0..rows.len()).filter(|row| degree[*row] == 1).map(|row| row as u16).collect();
        let is_used = vec![false; rows.len()];
        let mut peeling = Peeling { rows, degree, rows_of, is_used, state, ready };
        let mut order = Vec::new();
        let mut left = params.w;
        while left > 0 {
            let Some(row) = peeling.ready.pop().map(usize::from) else {
                let column = peeling.to_set_aside(params.w)?;
                peeling.leave(column, State::Inactive);
                left -= 1;
                continue;
            };
            if peeling.degree[row] != 1 || peeling.is_used[row] {
                continue;
            }
            let column = peeling.active(row).next()?;
            peeling.is_used[row] = true;
            order.push((row, column));
            peeling.leave(column, State::Resolved);
            left -= 1;
        }
        Self::lay_out(params, &peeling, &order)
    }

    fn lay_out(params: Params, peeling: &Peeling, order: &[(usize, usize)]) -> Option<Self> {
        let l = params.l();
        let inactive: Vec<u16> =
            (0..l).filter(|c| peeling.state[*c] == State::Inactive).map(|c| c as u16).collect();
        let mut index = vec![0; l];
        for (at, column) in inactive.iter().enumerate() {
            index[usize::from(*column)] = at;
        }
        // What each column is of the inactive ones.
        let mut of_inactive = BitMatrix::new(l, inactive.len());
        for (at, column) in inactive.iter().enumerate() {
            of_inactive.set(usize::from(*column), at);
        }
        let (mut steps, mut terms) = (Vec::new(), Vec::new());
        for &(row, column) in order {
            let others = || peeling.rows[row].iter().filter(|c| usize::from(**c) != column);
            let before = terms.len();
            terms.extend(others().filter(|c| peeling.state[usize::from(**c)] == State::Resolved));
            let resolved = terms.len() - before;
            terms.extend(others().filter(|c| peeling.state[usize::from(**c)] == State::Inactive));
            for other in &terms[before..] {
                of_inactive.add(column, usize::from(*other));
            }
            let inactive = (terms.len() - before - resolved) as u16;
            steps.push(Step { row: row as u16, column: column as u16, resolved: resolved as u16, inactive });
        }
        let unused: Vec<usize> = (0..peeling.rows.len()).filter(|row| !peeling.is_used[*row]).collect();
        let mut system = BitMatrix::new(unused.len(), inactive.len() + unused.len());
        let (mut rest, mut rest_terms) = (Vec::new(), Vec::new());
        for (at, &row) in unused.iter().enumerate() {
            let before = rest_terms.len();
            for &column in &peeling.rows[row] {
                system.add_from(at, &of_inactive, usize::from(column));
                if peeling.state[usize::from(column)] == State::Resolved {
                    rest_terms.push(column);
                }
            }
            rest.push((row as u16, (rest_terms.len() - before) as u16));
            system.set(at, inactive.len() + at);
        }
        let pivots = system.eliminate(inactive.len());
        if pivots.len() != unused.len() {
            return None;
        }
        let free: Vec<usize> = (0..inactive.len()).filter(|at| pivots.binary_search(at).is_err()).collect();
        let of_rest = Codes::new(unused.len(), pivots.len(), |output, input| {
            system.get(output, inactive.len() + input)
        });
        let of_free = Codes::new(free.len(), pivots.len(), |output, input| system.get(output, free[input]));
        let columns = |from: &[usize]| from.iter().map(|at| inactive[*at]).collect();
        let hdpc = (0..params.k_padded + params.s - 1).map(|column| params.hdpc_pair(column)).collect();
        let mut plan = Self {
            params,
            steps,
            terms,
            rest,
            rest_terms,
            solved: columns(&pivots),
            of_rest,
            free: columns(&free),
            of_free,
            hdpc,
            free_of_dense: Codes::default(),
            all_of_free: Codes::default(),
        };
        let mut freeing = None;
        vectors::run(Freeing { plan: &plan, out: &mut freeing });
        (plan.free_of_dense, plan.all_of_free) = freeing?;
        Some(plan)
    }

    /// K'.
    pub const fn symbols(&self) -> usize {
        self.params.k_padded
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.steps.len() * size_of::<Step>()
            + 2 * (self.terms.len() + self.rest_terms.len() + 2 * self.rest.len())
            + self.of_rest.bytes()
            + self.of_free.bytes()
            + self.free_of_dense.bytes()
            + self.all_of_free.bytes()
            + 2 * self.hdpc.len()
    }
}
