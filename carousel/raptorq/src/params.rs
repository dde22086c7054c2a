//! Parameters of a block and the pseudo-random structure of its symbols (RFC 6330 sections 5.3.3 and 5.3.5).

use super::tables::{PARAMETERS, V0, V1, V2, V3};

/// Degrees of the LT code: the smallest `d` with `v` below the entry (section 5.3.5.2).
const DEGREES: [u32; 31] = [
    0, 5243, 529_531, 704_294, 791_675, 844_104, 879_057, 904_023, 922_747, 937_311, 948_962, 958_494,
    966_438, 973_160, 978_921, 983_914, 988_283, 992_138, 995_565, 998_631, 1_001_391, 1_003_887, 1_006_157,
    1_008_229, 1_010_129, 1_011_876, 1_013_490, 1_014_983, 1_016_370, 1_017_662, 1_048_576,
];

/// Parameters of the blocks of K' symbols (section 5.3.3.3). Columns are intermediate symbols: `w` LT symbols, the last `s` of
/// them LDPC symbols, then `p` permanently inactivated symbols, the last `h` of them HDPC symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Params {
    pub(super) k_padded: usize,
    j: u32,
    pub(super) s: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) p: usize,
    p1: u32,
}

impl Params {
    /// Those of a block of `k` source symbols; `None` if it has more than 56,403.
    pub(super) fn new(k: u32) -> Option<Self> {
        let at = PARAMETERS.partition_point(|row| u32::from(row.0) < k);
        let &(k_padded, j, s, h, w) = PARAMETERS.get(at)?;
        let (k_padded, s, h, w) = (usize::from(k_padded), usize::from(s), usize::from(h), usize::from(w));
        let p = k_padded + s + h - w;
        let is_prime = |n: &u32| (2..*n).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
        let p1 = (p as u32..).find(is_prime)?;
        Some(Self { k_padded, j: u32::from(j), s, h, w, p, p1 })
    }

    /// Intermediate symbols.
    pub(super) const fn l(&self) -> usize {
        self.w + self.p
    }

    /// Intermediate symbols whose sum is the encoding symbol of this internal symbol ID (sections 5.3.5.3 and 5.3.5.4). None of
    /// them comes twice: W and P1 are primes.
    pub(super) fn lt_row(&self, isi: u32, out: &mut Vec<u16>) {
        let (w, p, p1) = (self.w as u32, self.p as u32, self.p1);
        let mut factor = 53_591 + self.j * 997;
        factor += u32::from(factor.is_multiple_of(2));
        let y = (10_267 * (self.j + 1)).wrapping_add(isi.wrapping_mul(factor));
        let v = rand(y, 0, 1 << 20);
        let degree = DEGREES.iter().position(|entry| v < *entry).unwrap_or(30).min(self.w - 2);
        let (a, mut b) = (1 + rand(y, 1, w - 1), rand(y, 2, w));
        let pi_degree = if degree < 4 { 2 + rand(isi, 3, 2) } else { 2 };
        let (a1, mut b1) = (1 + rand(isi, 4, p1 - 1), rand(isi, 5, p1));
        for _ in 0..degree {
            out.push(b as u16);
            b = (b + a) % w;
        }
        for _ in 0..pi_degree {
            while b1 >= p {
                b1 = (b1 + a1) % p1;
            }
            out.push((w + b1) as u16);
            b1 = (b1 + a1) % p1;
        }
    }

    /// Rows of the LDPC symbols: their sums are 0 (section 5.3.3.3).
    pub(super) fn ldpc_rows(&self) -> Vec<Vec<u16>> {
        let mut rows = vec![Vec::new(); self.s];
        let first = self.w - self.s;
        for column in 0..first {
            let step = 1 + column / self.s;
            for turn in 0..3 {
                rows[(column + turn * step) % self.s].push(column as u16);
            }
        }
        for (number, row) in rows.iter_mut().enumerate() {
            row.push((first + number) as u16);
            row.push((self.w + number % self.p) as u16);
            row.push((self.w + (number + 1) % self.p) as u16);
        }
        rows
    }

    /// The two HDPC rows in which column `column` of MT has a 1 (section 5.3.3.3); of the last column all rows have α^row.
    pub(super) fn hdpc_pair(&self, column: usize) -> (u8, u8) {
        let h = self.h as u32;
        let first = rand(column as u32 + 1, 6, h);
        let second = (first + rand(column as u32 + 1, 7, h - 1) + 1) % h;
        (first as u8, second as u8)
    }
}

/// Rand[y, i, m] (section 5.3.5.1).
fn rand(y: u32, i: u32, m: u32) -> u32 {
    let at = |shift: u32| ((y >> shift).wrapping_add(i) & 0xff) as usize;
    (V0[at(0)] ^ V1[at(8)] ^ V2[at(16)] ^ V3[at(24)]) % m
}
