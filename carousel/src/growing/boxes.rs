//! Top-level boxes of a segment in the ISO base media file format: their end, and the number of fragments.

/// Summary of the top-level boxes of some bytes (ISO/IEC 14496-12 clause 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Boxes {
    /// Movie fragments (`moof`).
    pub fragments: u32,
    /// Media data behind the last of them.
    pub ends_with_media: bool,
}

/// Boxes that a segment may have at its top level.
const KNOWN: [&[u8; 4]; 14] = [
    b"styp", b"ftyp", b"moov", b"moof", b"mdat", b"sidx", b"ssix", b"emsg", b"prft", b"free", b"skip",
    b"meta", b"mfra", b"uuid",
];

impl Boxes {
    /// Reads the boxes. `None` if the bytes do not begin like a segment, or do not end with a box.
    pub fn read(mut bytes: &[u8]) -> Option<Self> {
        let mut boxes = Self::default();
        if bytes.is_empty() {
            return None;
        }
        while let Some((head, rest)) = bytes.split_first_chunk::<8>() {
            let (size, kind) = head.split_at(4);
            if !KNOWN.iter().any(|known| &known[..] == kind) {
                return None;
            }
            let size = u64::from(u32::from_be_bytes(size.try_into().ok()?));
            let size = match size {
                1 => u64::from_be_bytes(*rest.first_chunk::<8>()?).max(16),
                // A box to the end of the file, which is not known.
                0 => return None,
                size => size,
            };
            if size < 8 {
                return None;
            }
            bytes = bytes.get(usize::try_from(size).ok()?..)?;
            boxes.fragments += u32::from(kind == b"moof");
            boxes.ends_with_media = kind == b"mdat";
        }
        bytes.is_empty().then_some(boxes)
    }

    /// Whether a segment may end here: a fragment with its media data.
    pub const fn may_end(&self) -> bool {
        self.fragments > 0 && self.ends_with_media
    }
}

/// Number of fragments in the segments of one representation, if it is steady.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FragmentCount {
    last: Option<u32>,
    /// Segments in a row with this number.
    same: u32,
    has_differed: bool,
}

/// Segments in a row with as many fragments, after others that had another number, until that is steady.
const STEADY: u32 = 4;

impl FragmentCount {
    /// Learns the number of fragments of a segment that is certainly complete.
    pub fn learn(&mut self, fragments: u32) {
        if self.last == Some(fragments) {
            self.same = self.same.saturating_add(1);
        } else {
            self.has_differed = self.last.is_some();
            (self.last, self.same) = (Some(fragments), 1);
        }
    }

    /// Number of the next one; `None` while it is not known, or the number varies.
    pub fn expected(&self) -> Option<u32> {
        self.last.filter(|_| !self.has_differed || self.same >= STEADY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment() -> Vec<u8> {
        let mut out = Vec::new();
        for (kind, length) in [(b"styp", 24_u32), (b"moof", 100), (b"mdat", 300), (b"moof", 90), (b"mdat", 8)]
        {
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(kind);
            out.resize(out.len() + length as usize - 8, 5);
        }
        out
    }

    #[test]
    fn a_segment_ends_behind_the_media_data_of_a_fragment() {
        let all = segment();
        for cut in 0..=all.len() {
            let boxes = Boxes::read(&all[..cut]);
            let whole = [24, 124, 424, 514, 522].contains(&cut);
            assert_eq!(boxes.is_some(), whole, "{cut}");
            assert_eq!(boxes.is_some_and(|it| it.may_end()), cut == 424 || cut == 522, "{cut}");
        }
        assert_eq!(Boxes::read(&all).unwrap().fragments, 2);
        for other in [&b"#EXTM3U\n#EXT"[..], &[0x47; 188], &[0, 0, 0, 0, b'm', b'd', b'a', b't']] {
            assert_eq!(Boxes::read(other), None);
        }
    }

    #[test]
    fn a_number_that_varies_tells_nothing() {
        let mut count = FragmentCount::default();
        let mut after = |fragments| {
            count.learn(fragments);
            count.expected()
        };
        assert_eq!((after(4), after(4), after(5)), (Some(4), Some(4), None));
        assert_eq!((after(5), after(5), after(5)), (None, None, Some(5)));
        assert_eq!(FragmentCount::default().expected(), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), size in any::<u64>()) {
            let _ = Boxes::read(&bytes);
            let mut large = vec![0, 0, 0, 1, b'm', b'd', b'a', b't'];
            large.extend_from_slice(&size.to_be_bytes());
            large.extend_from_slice(&bytes);
            let _ = Boxes::read(&large);
        }
    }
}
