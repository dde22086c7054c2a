//! Cursors over wire bytes, which check every length from outside.
//!
//! [`Reader`] and [`Writer`] are used by every format in this crate; nothing else indexes into a datagram.
//! All integers on the wires that we speak are big-endian.

use std::fmt;

/// Why bytes from outside are not what a standard says they should be.
///
/// Small, `Copy` and comparable, so that a receiver can count millions of them. Never logged where made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the variants name their fields
pub enum WireError {
    /// The input ends inside `what`: `need` bytes were promised, `have` are there.
    Short { what: &'static str, need: usize, have: usize },
    /// `what` holds a value that the named clause forbids.
    Illegal { what: &'static str, value: u64, clause: &'static str },
    /// `what` is legal but names something that this library does not speak.
    Unsupported { what: &'static str, value: u64 },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { what, need, have } => write!(f, "{what}: needs {need} bytes, {have} are there"),
            Self::Illegal { what, value, clause } => write!(f, "{what}: {value} is not allowed by {clause}"),
            Self::Unsupported { what, value } => write!(f, "{what}: {value} is not supported"),
        }
    }
}

impl std::error::Error for WireError {}

/// Reads forward through borrowed bytes. Every method either advances by what it returns or changes nothing.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not yet read.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Everything not yet read; the reader is then empty.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// `Short` if fewer are left.
    #[inline]
    pub fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let Some((head, tail)) = self.rest.split_at_checked(count) else {
            return Err(WireError::Short { what, need: count, have: self.rest.len() });
        };
        self.rest = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// `Short` if fewer are left.
    #[inline]
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let Some((head, tail)) = self.rest.split_first_chunk::<N>() else {
            return Err(WireError::Short { what, need: N, have: self.rest.len() });
        };
        self.rest = tail;
        Ok(*head)
    }

    /// An unsigned integer of `N` bytes (1 to 8), big-endian.
    ///
    /// # Errors
    /// `Short` if fewer bytes are left.
    #[inline]
    pub fn uint<const N: usize>(&mut self, what: &'static str) -> Result<u64, WireError> {
        const { assert!(N >= 1 && N <= 8) };
        Ok(self.array::<N>(what)?.iter().fold(0, |value, &byte| (value << 8) | u64::from(byte)))
    }

    /// One byte. # Errors: `Short` at the end.
    #[inline]
    pub fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        Ok(self.array::<1>(what)?[0])
    }

    /// 16 bits. # Errors: `Short` at the end.
    #[inline]
    pub fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    /// 32 bits. # Errors: `Short` at the end.
    #[inline]
    pub fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }
}

/// Appends wire bytes to a buffer that its caller owns and reuses.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Appends after what `out` already holds.
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Appends `bytes` as they are.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    /// Appends one byte.
    #[inline]
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    /// Appends 16 bits.
    #[inline]
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends 32 bits.
    #[inline]
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends the low `N` bytes of `value` (1 to 8); higher ones are dropped, so the caller has checked them.
    #[inline]
    pub fn uint<const N: usize>(&mut self, value: u64) -> &mut Self {
        const { assert!(N >= 1 && N <= 8) };
        self.bytes(&value.to_be_bytes()[8 - N..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote_and_stops_at_the_end() {
        let mut out = Vec::new();
        Writer::new(&mut out).u8(1).u16(0x0203).u32(0x0405_0607).uint::<6>(0x0809_0a0b_0c0d);
        assert_eq!(out, (1..=13).collect::<Vec<u8>>());
        let mut reader = Reader::new(&out);
        assert_eq!(reader.u8("a"), Ok(1));
        assert_eq!(reader.u16("b"), Ok(0x0203));
        assert_eq!(reader.u32("c"), Ok(0x0405_0607));
        assert_eq!(reader.uint::<6>("d"), Ok(0x0809_0a0b_0c0d));
        assert_eq!(reader.u8("e"), Err(WireError::Short { what: "e", need: 1, have: 0 }));
    }

    #[test]
    fn a_failed_read_changes_nothing() {
        let mut reader = Reader::new(&[7, 8]);
        assert!(reader.u32("word").is_err());
        assert!(reader.take(3, "three").is_err());
        assert_eq!(reader.rest(), [7, 8]);
    }
}
