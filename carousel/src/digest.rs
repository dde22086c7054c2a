//! SHA-256 and MD5 as FDT Instances carry them.
//!
//! `Content-Digest` and `Repr-Digest` (TS 103 769 Annex F, syntax of RFC 9530: `sha-256=:<base64>:`) are what we
//! send and trust; `Content-MD5` (RFC 6726 section 3.4.2) is what deployed senders still carry.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use md5::Md5;
use sha2::{Digest as _, Sha256};

const PADDED_OR_NOT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A SHA-256 value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A hasher for bytes that come in pieces; `finish` gives the value.
    pub fn hasher() -> DigestHasher {
        DigestHasher(Sha256::new())
    }

    /// Lower-case hexadecimal, 64 characters.
    pub fn to_hex(self) -> String {
        to_hex(&self.0)
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        from_hex(text)?.try_into().ok().map(Self)
    }

    /// The structured-field dictionary member of RFC 9530: `sha-256=:<base64>:`.
    pub fn to_field(self) -> String {
        format!("sha-256=:{}:", STANDARD.encode(self.0))
    }

    /// Finds `sha-256` among the members of a `Content-Digest` or `Repr-Digest` value; skips others, and parameters. The last of several
    /// counts, and padding may be missing (RFC 9651 sections 4.2.2 and 4.2.7).
    pub fn from_field(text: &str) -> Option<Self> {
        let member = text.split(',').rev().find_map(|member| {
            let (name, value) = member.trim().split_once('=')?;
            name.eq_ignore_ascii_case("sha-256").then_some(value)
        })?;
        let (value, behind) = member.strip_prefix(':')?.split_once(':')?;
        let bytes =
            (behind.is_empty() || behind.starts_with(';')).then(|| PADDED_OR_NOT.decode(value).ok())??;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.to_hex())
    }
}

/// Running SHA-256.
#[derive(Clone)]
pub struct DigestHasher(Sha256);

impl DigestHasher {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The value over everything added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// SHA-256 and MD5 in one pass, for senders.
#[derive(Default)]
pub struct ObjectHasher {
    sha256: Sha256,
    md5: Md5,
}

impl ObjectHasher {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.md5.update(bytes);
    }

    /// Both values over everything added.
    pub fn finish(self) -> (Digest, [u8; 16]) {
        (Digest(self.sha256.finalize().into()), self.md5.finalize().into())
    }
}

/// A [`Digest`] of bytes that come in pieces.
#[derive(Debug, Clone, Default)]
pub struct StreamDigest(Sha256);

impl StreamDigest {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The value over everything added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// MD5 of `bytes`, for `Content-MD5` only: it detects accidents, not attacks.
pub fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// `Content-MD5` text to bytes: base64, or the hexadecimal digits that `md5sum` prints.
pub(crate) fn md5_from_text(text: &str) -> Option<[u8; 16]> {
    let text = text.trim();
    if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes);
    }
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// Bytes to the base64 of an XML attribute.
pub fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Base64 of an XML attribute to bytes.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.trim()).ok()
}

/// Lower-case hexadecimal, two digits a byte.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// Reads hexadecimal digits of either case, two a byte. `None` if there is anything else.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8; 2]| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8);
    rest.is_empty().then(|| pairs.iter().map(byte).collect()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_in_base64_or_in_hexadecimal_digits() {
        let of = md5(b"abc");
        assert_eq!(md5_from_text(" kAFQmDzST7DWlj99KOF/cg== "), Some(of));
        assert_eq!(md5_from_text("900150983cd24fb0d6963f7d28e17f72"), Some(of));
        assert_eq!(md5_from_text("900150983CD24FB0D6963F7D28E17F72"), Some(of));
        for none in ["", "900150983cd24fb0d6963f7d28e17f7", "+00150983cd24fb0d6963f7d28e17f72", "kAFQ"] {
            assert_eq!(md5_from_text(none), None, "{none}");
        }
    }

    #[test]
    fn known_answer_and_both_spellings() {
        let abc = Digest::of(b"abc");
        assert_eq!(abc.to_hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Digest::from_hex(&abc.to_hex()), Some(abc));
        assert_eq!(abc.to_field(), "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:");
        assert_eq!(Digest::from_field(&format!("md5=:AA==:, {}", abc.to_field())), Some(abc));
        let value = abc.to_field();
        let bare = value.replace("=:,", ":").replace("=:", ":").replacen("sha-256:", "sha-256=:", 1);
        assert!(bare.ends_with(':') && !bare.ends_with("=:"), "{bare}");
        for good in [bare, format!("{value};a=1"), format!("{}, {value}", Digest::of(b"x").to_field())] {
            assert_eq!(Digest::from_field(&good), Some(abc), "{good}");
        }
        for bad in
            ["", "sha-256=", "sha-256=:AA==:", "sha-512=:AA==:", "sha-256=ungWv48Bz", &format!("{value}x")]
        {
            assert_eq!(Digest::from_field(bad), None);
        }
        assert_eq!(Digest::from_hex(&"é".repeat(32)), None);
    }
}
