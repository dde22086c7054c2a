//! Faster verification with a key that signs often: multiples of the key are computed once and kept.
//!
//! A signature (R, s) of a key A is valid if `[s]B − [k]A = R`. Both scalars are written with digits of width 5 (non-adjacent form:
//! odd, below 16, 4 of 5 of them zero). For each of 16 positions that are 16 bits apart, the odd multiples of B and of −A are known, so
//! that the sum needs 15 doublings instead of 253. [`PublicKey::verify`] also decompresses A and R each time.
//!
//! The result is that of [`PublicKey::verify`] for all inputs. Everything is public, so nothing here takes constant time.

use std::sync::LazyLock;

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{Identity as _, IsIdentity as _};
use sha2::{Digest as _, Sha512};

use super::keys::PublicKey;

/// Bits between two positions whose multiples are known.
const SPACING: usize = 16;
/// Those positions in a scalar of 256 bits.
const POSITIONS: usize = 256 / SPACING;
/// Width of a digit in bits, with its sign.
const WIDTH: usize = 5;
/// Odd multiples of a position: 1, 3, … 15 times.
const MULTIPLES: usize = 1 << (WIDTH - 2);

/// Multiples of the base point, of all keys.
static BASE: LazyLock<Multiples> = LazyLock::new(|| Multiples::new(ED25519_BASEPOINT_POINT));

/// Odd multiples of a point times powers of two.
struct Multiples(Vec<[EdwardsPoint; MULTIPLES]>);

impl Multiples {
    fn new(point: EdwardsPoint) -> Self {
        let mut at_position = point;
        let mut all = Vec::with_capacity(POSITIONS);
        for _ in 0..POSITIONS {
            let twice = at_position + at_position;
            let mut odd = [at_position; MULTIPLES];
            for number in 1..MULTIPLES {
                odd[number] = odd[number - 1] + twice;
            }
            all.push(odd);
            for _ in 0..SPACING {
                at_position += at_position;
            }
        }
        Self(all)
    }

    /// Adds the digits of a scalar that stand `bit` above the positions.
    fn add_to(&self, sum: &mut EdwardsPoint, digits: &[i8; 256], bit: usize) {
        for (odd, digit) in self.0.iter().zip(digits.iter().skip(bit).step_by(SPACING)) {
            let multiple = &odd[usize::from(digit.unsigned_abs() / 2) % MULTIPLES];
            match digit.signum() {
                1 => *sum += multiple,
                -1 => *sum -= multiple,
                _ => {}
            }
        }
    }
}

/// Digits of a scalar, the least significant first. Each is 0 or odd and between −15 and 15; those above the 254th are 0.
fn digits(scalar: &Scalar) -> [i8; 256] {
    const FULL: i8 = 1 << WIDTH;
    let bytes = scalar.as_bytes();
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| (byte >> (at % 8) & 1) as i8);
    let mut digits = [0; 256];
    let (mut at, mut carry) = (0, 0);
    while at < digits.len() {
        if bit(at) == carry {
            at += 1;
            continue;
        }
        let window = carry + (0..WIDTH).map(|it| bit(at + it) << it).sum::<i8>();
        carry = i8::from(window >= FULL / 2);
        digits[at] = window - carry * FULL;
        at += WIDTH;
    }
    digits
}

/// A public key and its multiples, 20 KiB.
pub(super) struct PreparedKey {
    key: PublicKey,
    /// Of −A.
    multiples: Multiples,
}

impl PreparedKey {
    /// `None` if no signature of this key is valid: it is not a point, or one of small order.
    pub(super) fn new(key: PublicKey) -> Option<Self> {
        let point = CompressedEdwardsY(key.0).decompress().filter(|point| !point.is_small_order())?;
        Some(Self { key, multiples: Multiples::new(-point) })
    }

    pub(super) const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// As [`PublicKey::verify`].
    pub(super) fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let (r, s) = (&signature[..32], signature[32..].try_into().unwrap_or([0xff; 32]));
        let Some(s) = Option::<Scalar>::from(Scalar::from_canonical_bytes(s)) else { return false };
        let hash = Sha512::new().chain_update(r).chain_update(self.key.0).chain_update(message).finalize();
        let k = Scalar::from_bytes_mod_order_wide(&hash.into());
        let (of_base, of_key) = (digits(&s), digits(&k));
        let mut sum = EdwardsPoint::identity();
        for bit in (0..SPACING).rev() {
            if !sum.is_identity() {
                sum += sum;
            }
            BASE.add_to(&mut sum, &of_base, bit);
            self.multiples.add_to(&mut sum, &of_key, bit);
        }
        // R is the encoding of `sum` then, so that it is of small order if `sum` is.
        sum.compress().as_bytes() == r && !sum.is_small_order()
    }
}

impl std::fmt::Debug for PreparedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PreparedKey({})", self.key)
    }
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;
    use proptest::prelude::*;

    use super::super::keys::SecretKey;
    use super::*;

    /// The signature of a key for which R may have a part of small order, made without the checks of a signer.
    fn sign_with(
        secret: Scalar,
        key: EdwardsPoint,
        r_part: EdwardsPoint,
        message: &[u8],
    ) -> (PublicKey, [u8; 64]) {
        let nonce = Scalar::from(7_u64);
        let r = (EdwardsPoint::mul_base(&nonce) + r_part).compress();
        let key = PublicKey(key.compress().0);
        let hash = Sha512::new().chain_update(r.0).chain_update(key.0).chain_update(message).finalize();
        let s = nonce + Scalar::from_bytes_mod_order_wide(&hash.into()) * secret;
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r.0);
        signature[32..].copy_from_slice(s.as_bytes());
        (key, signature)
    }

    #[test]
    fn keys_and_nonces_of_small_order_are_judged_as_the_library_does() {
        let secret = Scalar::from(5_u64);
        let mut valid = 0;
        for part in EIGHT_TORSION {
            for r_part in EIGHT_TORSION {
                for number in 0..16_u8 {
                    let key = EdwardsPoint::mul_base(&secret) + part;
                    let (key, signature) = sign_with(secret, key, r_part, &[number]);
                    let expected = key.verify(&[number], &signature);
                    valid += usize::from(expected);
                    assert_eq!(PreparedKey::new(key).unwrap().verify(&[number], &signature), expected);
                }
            }
            assert!(PreparedKey::new(PublicKey(part.compress().0)).is_none(), "no key: of small order");
        }
        assert!((100..900).contains(&valid), "{valid}: signatures of both kinds");
        // R of small order: s = k·a, and R is the identity or another of the eight points.
        for r in EIGHT_TORSION {
            let (key, message) = (EdwardsPoint::mul_base(&secret).compress(), b"m");
            let r = r.compress();
            let hash = Sha512::new().chain_update(r.0).chain_update(key.0).chain_update(message).finalize();
            let s = Scalar::from_bytes_mod_order_wide(&hash.into()) * secret;
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&r.0);
            signature[32..].copy_from_slice(s.as_bytes());
            let key = PublicKey(key.0);
            assert!(!key.verify(message, &signature));
            assert!(!PreparedKey::new(key).unwrap().verify(message, &signature));
        }
    }

    #[test]
    fn digits_are_the_scalar() {
        let most = -Scalar::ONE;
        for scalar in [Scalar::ZERO, Scalar::ONE, most, Scalar::from(u64::MAX), Scalar::from(0x8421_u64)] {
            let digits = digits(&scalar);
            assert!(digits.iter().all(|it| *it == 0 || (it % 2 != 0 && it.unsigned_abs() < 16)));
            let value = digits.iter().rev().fold(Scalar::ZERO, |value, digit| {
                let size = Scalar::from(digit.unsigned_abs());
                value + value + if *digit < 0 { -size } else { size }
            });
            assert_eq!(value, scalar);
        }
    }

    proptest! {
        #[test]
        fn signatures_are_judged_as_the_library_does(
            seed in any::<[u8; 32]>(),
            message in proptest::collection::vec(any::<u8>(), 0..200),
            change in proptest::option::of((0..64_usize, 1..=255_u8)),
            adds_order in any::<bool>(),
        ) {
            let secret = SecretKey::from_seed(&seed);
            let (key, mut signature) = (secret.public(), secret.sign(&message));
            if let Some((at, bits)) = change {
                signature[at] ^= bits;
            }
            if adds_order {
                // The order of the group: s is then not canonical, in the same class.
                let order: [u8; 32] = [
                    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
                    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
                ];
                let mut carry = 0;
                for (byte, more) in signature[32..].iter_mut().zip(order) {
                    let sum = u16::from(*byte) + u16::from(more) + carry;
                    (*byte, carry) = (sum as u8, sum >> 8);
                }
            }
            let prepared = PreparedKey::new(key).unwrap();
            prop_assert_eq!(prepared.verify(&message, &signature), key.verify(&message, &signature));
            prop_assert_eq!(prepared.verify(&message, &secret.sign(&message)), true);
        }
    }
}
