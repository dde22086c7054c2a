//! Reed–Solomon over GF(2^8) (RFC 5510 section 8).
//!
//! The systematic generator matrix is the inverse of the first k columns of a Vandermonde matrix times that matrix. In terms of
//! polynomials: the k source symbols are the values of a polynomial of degree below k at the first k points, and encoding
//! symbol j is its value at point j. So encoding and decoding are the same operation: interpolation (Lagrange) from any k known
//! points to the unknown ones.
//!
//! The points are 0, α^0, α^1 …, those of Rizzo's implementation, with which the RFC's abstract says its schemes are compatible
//! and which zfec and the `flute` crate follow. Section 8.2 has α^0, α^1 … instead; the two codes cannot decode each other's
//! repair symbols, and no known sender uses the second (`findings/rfc5510-points.sh`).

/// x^8 + x^4 + x^3 + x^2 + 1 (RFC 5510 section 8.1).
const POLYNOMIAL: u16 = 0x11d;

/// Most encoding symbols of a block: max_n is an 8-bit number.
pub(super) const MAX_SYMBOLS: u32 = 255;

/// Powers of α (twice, so that sums of two logarithms need no reduction) and logarithms.
struct Field {
    exp: [u8; 510],
    log: [u8; 256],
}

const FIELD: Field = {
    let mut field = Field { exp: [0; 510], log: [0; 256] };
    let (mut x, mut power) = (1_u16, 0);
    while power < 255 {
        field.exp[power] = x as u8;
        field.exp[power + 255] = x as u8;
        field.log[x as usize] = power as u8;
        x <<= 1;
        if x & 0x100 != 0 {
            x ^= POLYNOMIAL;
        }
        power += 1;
    }
    field
};

fn log(x: u8) -> usize {
    usize::from(FIELD.log[usize::from(x)])
}

/// Adds `factor` times `from` to `to`.
fn add_product(to: &mut [u8], from: &[u8], factor: u8) {
    if factor == 0 {
        return;
    }
    // One row of the multiplication table: 256 steps once instead of two look-ups and a branch for each byte.
    let log_factor = log(factor);
    let mut row = [0; 256];
    for (x, product) in row.iter_mut().enumerate().skip(1) {
        *product = FIELD.exp[usize::from(FIELD.log[x]) + log_factor];
    }
    for (to, from) in to.iter_mut().zip(from) {
        *to ^= row[usize::from(*from)];
    }
}

/// Point at which the polynomial has the value of an encoding symbol: 0 for the first one, then the powers of α.
fn point(esi: u32) -> u8 {
    esi.checked_sub(1).map_or(0, |power| FIELD.exp[(power % 255) as usize])
}

/// The encoding symbol `wanted` of the block of which `have` are k encoding symbols with their ESIs, all different and
/// below 255. Symbols shorter than `length` count as padded with zeros.
pub(super) fn interpolate(have: &[(u32, &[u8])], wanted: u32, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    let at = point(wanted);
    for &(esi, symbol) in have {
        if esi == wanted {
            out[..symbol.len()].copy_from_slice(symbol);
            return out;
        }
    }
    // L_i(at) = Π (at − x_j) / (x_i − x_j), in logarithms; subtraction is XOR.
    let whole: usize = have.iter().map(|&(esi, _)| log(at ^ point(esi))).sum();
    for &(esi, symbol) in have {
        let own = point(esi);
        let below: usize =
            have.iter().filter(|(other, _)| *other != esi).map(|&(other, _)| log(own ^ point(other))).sum();
        let above = whole - log(at ^ own);
        let factor = FIELD.exp[(above % 255 + 255 - below % 255) % 255];
        add_product(&mut out, symbol, factor);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_that_of_rfc_5510() {
        assert_eq!(
            (FIELD.exp[0], FIELD.exp[1], FIELD.exp[8], FIELD.exp[254], FIELD.exp[255]),
            (1, 2, 0x1d, 0x8e, 1)
        );
    }

    /// Rows of repair symbols 4, 5 and 6 of 4 source symbols, as zfec 1.6.0 and the `flute` crate 1.11.7 calculate them.
    #[test]
    fn repair_symbols_are_those_of_other_implementations() {
        for (esi, coefficients) in [(4, [119, 64, 56, 14]), (5, [199, 167, 13, 108]), (6, [83, 2, 111, 63])] {
            for (source, expected) in coefficients.into_iter().enumerate() {
                let symbols: Vec<[u8; 1]> = (0..4).map(|at| [u8::from(at == source)]).collect();
                let have: Vec<(u32, &[u8])> = (0..).zip(symbols.iter().map(|symbol| &symbol[..])).collect();
                assert_eq!(
                    interpolate(&have, esi, 1),
                    [expected],
                    "repair symbol {esi}, source symbol {source}"
                );
            }
        }
    }

    /// Section 8.2 with Rizzo's points: y = s · V(k,k)^-1 · V(k,n), with the matrix inverted by elimination.
    #[test]
    fn repair_symbols_are_those_of_the_generator_matrix() {
        let multiply = |a: u8, b: u8| if a == 0 || b == 0 { 0 } else { FIELD.exp[log(a) + log(b)] };
        let (k, n) = (5_usize, 12_usize);
        let vandermonde = |i: usize, j: usize| match j {
            0 => u8::from(i == 0),
            _ => FIELD.exp[(i * (j - 1)) % 255],
        };
        let mut left: Vec<Vec<u8>> = (0..k).map(|i| (0..k).map(|j| vandermonde(i, j)).collect()).collect();
        let mut inverse: Vec<Vec<u8>> = (0..k).map(|i| (0..k).map(|j| u8::from(i == j)).collect()).collect();
        for column in 0..k {
            let pivot = (column..k).find(|&row| left[row][column] != 0).unwrap();
            left.swap(column, pivot);
            inverse.swap(column, pivot);
            let scale = FIELD.exp[255 - log(left[column][column])];
            for j in 0..k {
                left[column][j] = multiply(left[column][j], scale);
                inverse[column][j] = multiply(inverse[column][j], scale);
            }
            for row in (0..k).filter(|&row| row != column) {
                let factor = left[row][column];
                for j in 0..k {
                    left[row][j] ^= multiply(factor, left[column][j]);
                    inverse[row][j] ^= multiply(factor, inverse[column][j]);
                }
            }
        }
        let source: Vec<u8> = vec![7, 0, 255, 19, 128];
        let have: Vec<(u32, &[u8])> =
            source.iter().enumerate().map(|(esi, byte)| (esi as u32, std::slice::from_ref(byte))).collect();
        for column in 0..n {
            let generator =
                |row: usize| (0..k).fold(0, |sum, i| sum ^ multiply(inverse[row][i], vandermonde(i, column)));
            let expected = (0..k).fold(0, |sum, row| sum ^ multiply(source[row], generator(row)));
            assert_eq!(interpolate(&have, column as u32, 1), [expected], "column {column}");
        }
    }
}
