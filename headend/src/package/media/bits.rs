//! Bits and Exp-Golomb codes (ISO/IEC 14496-10 and 23008-2 clause 9; AV1 specification clause 4.10).

/// Sequential bit reader; `None` at the end.
#[derive(Debug, Clone)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits already read.
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn bit(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// An unsigned integer of at most 32 bits.
    pub(super) fn bits(&mut self, count: u32) -> Option<u32> {
        debug_assert!(count <= 32);
        (0..count).try_fold(0, |value, _| Some(value << 1 | u32::from(self.bit()?)))
    }

    /// An unsigned integer of 8 bits.
    pub(super) fn byte(&mut self) -> Option<u8> {
        Some(self.bits(8)? as u8)
    }

    pub(super) fn skip(&mut self, count: usize) -> Option<()> {
        let at = self.at.checked_add(count).filter(|&at| at <= self.bytes.len() * 8)?;
        self.at = at;
        Some(())
    }

    /// `ue(v)`, and AV1's `uvlc()`.
    pub(super) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None; // 2^32 - 1 stands for nothing that is read here
            }
        }
        Some((1 << zeros) - 1 + self.bits(zeros)?)
    }

    /// `se(v)`.
    pub(super) fn se(&mut self) -> Option<i32> {
        let code = self.ue()?;
        let magnitude = (code / 2 + code % 2) as i32; // of at most 2^31 - 1
        Some(if code % 2 == 1 { magnitude } else { -magnitude })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_standards_tables() {
        // Table 9-2 of ISO/IEC 14496-10: 1, 010, 011, 00100, 00101 are 0, 1, 2, 3, 4
        let codes = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut bits = Bits::new(&codes);
        assert_eq!([(); 5].map(|()| bits.ue()), [Some(0), Some(1), Some(2), Some(3), Some(4)]);
        let mut bits = Bits::new(&codes);
        assert_eq!([(); 5].map(|()| bits.se()), [Some(0), Some(1), Some(-1), Some(2), Some(-2)]);
    }

    #[test]
    fn the_end_and_codes_too_long_are_none() {
        assert_eq!(Bits::new(&[0; 8]).ue(), None);
        assert_eq!(Bits::new(&[0]).ue(), None);
        assert_eq!(Bits::new(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]).ue(), Some(u32::MAX - 1));
        assert_eq!(Bits::new(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe]).se(), Some(-(i32::MAX)));
        let mut bits = Bits::new(&[0xab, 0xcd]);
        assert_eq!(
            (bits.skip(4), bits.byte(), bits.skip(5), bits.skip(4)),
            (Some(()), Some(0xbc), None, Some(()))
        );
        assert_eq!((bits.bit(), bits.bits(0)), (None, Some(0)));
    }
}
