//! The binary form of apk-tools 3, for packages and indexes, as apk-v3(5) describes it.
//!
//! ```text
//! "ADBd" deflate( "ADB." schema
//!     block ADB:  header, then values: a tag word each, pointing backwards at what does not fit it
//!     block SIG:  version 0, digest 4 (SHA-512), id of the key (16 bytes), signature
//!     block DATA: contents of files
//! )
//! ```

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

/// Types of values, in the four high bits of their tag.
pub(super) const INT: u32 = 0x1000_0000;
pub(super) const INT_32: u32 = 0x2000_0000;
pub(super) const INT_64: u32 = 0x3000_0000;
pub(super) const BLOB_8: u32 = 0x8000_0000;
pub(super) const BLOB_16: u32 = 0x9000_0000;
pub(super) const BLOB_32: u32 = 0xa000_0000;
pub(super) const ARRAY: u32 = 0xd000_0000;
pub(super) const OBJECT: u32 = 0xe000_0000;
pub(super) const NULL: u32 = 0;
const TYPE: u32 = 0xf000_0000;

/// Types of blocks, in the two high bits of their size.
pub(super) const BLOCK_ADB: u32 = 0;
pub(super) const BLOCK_SIG: u32 = 1;
pub(super) const BLOCK_DATA: u32 = 2;

/// Longest inflated file that is read.
const MOST_BYTES: u64 = 256 << 20;
/// Deepest nesting of values that are copied.
const DEEPEST: u32 = 8;

/// Values as they are written: each where the one before ends, aligned, the same one once.
#[derive(Debug)]
pub(super) struct Values {
    bytes: Vec<u8>,
    written: BTreeMap<(usize, Vec<u8>), u32>,
}

impl Values {
    /// Eight bytes of header: versions, and the root, which is known last.
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; 8], written: BTreeMap::new() }
    }

    fn place(&mut self, bytes: &[u8], align: usize) -> u32 {
        if let Some(&at) = self.written.get(&(align, bytes.to_vec())) {
            return at;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(align), 0);
        let at = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(bytes);
        self.written.insert((align, bytes.to_vec()), at);
        at
    }

    pub(super) fn int(&mut self, value: u64) -> u32 {
        match u32::try_from(value) {
            Ok(small @ 0..0x1000_0000) => INT | small,
            Ok(value) => INT_32 | self.place(&value.to_le_bytes(), 4),
            Err(_) => INT_64 | self.place(&value.to_le_bytes(), 4),
        }
    }

    pub(super) fn blob(&mut self, value: &[u8]) -> u32 {
        let (kind, length, align) = match value.len() {
            0 => return NULL,
            n @ 1..=0xff => (BLOB_8, vec![n as u8], 1),
            n @ 0x100..=0xffff => (BLOB_16, (n as u16).to_le_bytes().to_vec(), 2),
            n => (BLOB_32, u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes().to_vec(), 4),
        };
        kind | self.place(&[&length, value].concat(), align)
    }

    pub(super) fn text(&mut self, value: &str) -> u32 {
        self.blob(value.as_bytes())
    }

    /// Slots by number from 1; what is left out between them is null.
    pub(super) fn object(&mut self, slots: &[(usize, u32)]) -> u32 {
        let last = slots.iter().filter(|(_, value)| *value != NULL).map(|(slot, _)| *slot).max().unwrap_or(0);
        let mut values = vec![NULL; last];
        for (slot, value) in slots.iter().filter(|(slot, _)| *slot <= last) {
            values[slot - 1] = *value;
        }
        self.slots(OBJECT, &values)
    }

    pub(super) fn array(&mut self, values: &[u32]) -> u32 {
        self.slots(ARRAY, values)
    }

    fn slots(&mut self, kind: u32, values: &[u32]) -> u32 {
        if values.is_empty() {
            return NULL;
        }
        let count = u32::try_from(values.len() + 1).unwrap_or(u32::MAX);
        let words: Vec<u8> =
            std::iter::once(&count).chain(values).flat_map(|word| word.to_le_bytes()).collect();
        kind | self.place(&words, 4)
    }

    /// The content of the block, with its root.
    pub(super) fn finish(mut self, root: u32) -> Vec<u8> {
        self.bytes[4..8].copy_from_slice(&root.to_le_bytes());
        self.bytes
    }

    /// Copies a value of another block, with all that it points at. `None` if that is none.
    pub(super) fn copy(&mut self, from: &Block<'_>, value: u32) -> Option<u32> {
        self.copy_within(from, value, DEEPEST)
    }

    fn copy_within(&mut self, from: &Block<'_>, value: u32, depth: u32) -> Option<u32> {
        match value & TYPE {
            NULL | INT => Some(value),
            INT_32 | INT_64 => from.int(value).map(|it| self.int(it)),
            BLOB_8 | BLOB_16 | BLOB_32 => from.blob(value).map(|it| self.blob(it)),
            kind @ (ARRAY | OBJECT) if depth > 0 => {
                let slots = from.slots(value)?;
                let copied: Option<Vec<u32>> =
                    slots.into_iter().map(|it| self.copy_within(from, it, depth - 1)).collect();
                Some(self.slots(kind, &copied?))
            }
            _ => None,
        }
    }
}

/// Content of a block ADB that is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a>(pub(super) &'a [u8]);

impl<'a> Block<'a> {
    fn at(&self, at: usize, length: usize) -> Option<&'a [u8]> {
        self.0.get(at..at.checked_add(length)?)
    }

    fn little_endian(&self, at: usize, length: usize) -> Option<u64> {
        Some(self.at(at, length)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn word(&self, at: usize) -> Option<u32> {
        u32::try_from(self.little_endian(at, 4)?).ok()
    }

    pub(super) fn root(&self) -> Option<u32> {
        self.word(4)
    }

    fn int(&self, value: u32) -> Option<u64> {
        let place = (value & !TYPE) as usize;
        match value & TYPE {
            INT => Some(place as u64),
            INT_32 => self.little_endian(place, 4),
            INT_64 => self.little_endian(place, 8),
            _ => None,
        }
    }

    pub(super) fn blob(&self, value: u32) -> Option<&'a [u8]> {
        let place = (value & !TYPE) as usize;
        let width = match value & TYPE {
            NULL => return Some(&[]),
            BLOB_8 => 1,
            BLOB_16 => 2,
            BLOB_32 => 4,
            _ => return None,
        };
        let length = usize::try_from(self.little_endian(place, width)?).ok()?;
        self.at(place + width, length)
    }

    /// Values of an array or object, from its first slot on.
    pub(super) fn slots(&self, value: u32) -> Option<Vec<u32>> {
        if !matches!(value & TYPE, ARRAY | OBJECT) {
            return None;
        }
        let place = (value & !TYPE) as usize;
        let count = (self.word(place)? as usize).checked_sub(1)?;
        let bytes = self.at(place + 4, count.checked_mul(4)?)?;
        Some((0..bytes.len() / 4).filter_map(|at| self.word(place + 4 + 4 * at)).collect())
    }
}

/// A block, and what fills it up to eight bytes.
pub(super) fn block(file: &mut Vec<u8>, kind: u32, parts: &[&[u8]]) {
    let length = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    file.extend_from_slice(&(kind << 30 | u32::try_from(length).unwrap_or(u32::MAX)).to_le_bytes());
    for part in parts {
        file.extend_from_slice(part);
    }
    file.resize(file.len().next_multiple_of(8), 0);
}

/// A file as it is written.
pub(super) fn compressed(file: &[u8]) -> Vec<u8> {
    let mut out = b"ADBd".to_vec();
    let mut encoder = flate2::write::DeflateEncoder::new(&mut out, flate2::Compression::best());
    // Writing to memory does not fail.
    let _ = encoder.write_all(file);
    let _ = encoder.finish();
    out
}

/// The content of the block ADB of a file of this schema; `None` if it is no such file.
pub(super) fn content(file: &[u8], schema: &[u8; 4]) -> Option<Vec<u8>> {
    let mut inflated = Vec::new();
    let inflater = flate2::read::DeflateDecoder::new(file.strip_prefix(b"ADBd")?);
    inflater.take(MOST_BYTES).read_to_end(&mut inflated).ok()?;
    let blocks = inflated.strip_prefix(b"ADB.")?.strip_prefix(schema)?;
    let tag = u32::from_le_bytes(blocks.get(..4)?.try_into().ok()?);
    let length = usize::try_from(tag & 0x3fff_ffff).ok()?;
    (tag >> 30 == BLOCK_ADB).then(|| blocks.get(4..length).map(<[u8]>::to_vec))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_tagged_words_that_point_backwards() {
        let mut values = Values::new();
        assert_eq!(values.int(7), 0x1000_0007);
        assert_eq!(values.int(0x1000_0000), 0x2000_0008);
        assert_eq!(values.text(""), NULL);
        let text = values.text("ab");
        assert_eq!((text, &values.bytes[12..15]), (0x8000_000c, &b"\x02ab"[..]));
        assert_eq!(values.text("ab"), text, "the same once");
        let object = values.object(&[(1, text), (3, NULL)]);
        assert_eq!(object, 0xe000_0010);
        assert_eq!(values.bytes[16..], [2, 0, 0, 0, 0x0c, 0, 0, 0x80]);
        assert_eq!((values.object(&[(1, NULL)]), values.array(&[])), (NULL, NULL));
    }

    #[test]
    fn values_are_copied_with_all_that_they_point_at() {
        let mut values = Values::new();
        let (small, large, huge) = (values.int(7), values.int(0x1000_0000), values.int(1 << 40));
        let (text, long) = (values.text("ab"), values.blob(&[5; 300]));
        let inner = values.object(&[(1, text), (3, large)]);
        let list = values.array(&[inner, inner]);
        let root = values.object(&[(1, small), (2, list), (4, huge), (5, long)]);
        let written = values.finish(root);
        let from = Block(&written);
        let mut copy = Values::new();
        let root = copy.copy(&from, from.root().unwrap()).unwrap();
        let copied = copy.finish(root);
        let (from, to) = (Block(&written), Block(&copied));
        let slots = |block: &Block<'_>| block.slots(block.root().unwrap()).unwrap();
        let (before, after) = (slots(&from), slots(&to));
        assert_eq!((before.len(), after[0], after[2]), (5, small, NULL));
        assert_eq!((to.int(after[3]), to.blob(after[4])), (Some(1 << 40), Some(&[5; 300][..])));
        let inner = to.slots(to.slots(after[1]).unwrap()[1]).unwrap();
        assert_eq!((to.blob(inner[0]), to.int(inner[2])), (Some(&b"ab"[..]), Some(0x1000_0000)));
        // What points beyond the block, or at itself, is none.
        for wrong in [OBJECT | 0x0fff_fff0, BLOB_8 | 0x0fff_ffff, 0x7000_0000] {
            assert_eq!(Values::new().copy(&from, wrong), None);
        }
        let mut circle = vec![0; 8];
        circle.extend_from_slice(&[2, 0, 0, 0, 8, 0, 0, 0xe0]);
        assert_eq!(Values::new().copy(&Block(&circle), OBJECT | 8), None);
    }

    #[test]
    fn blocks_end_on_eight_bytes() {
        let mut file = Vec::new();
        block(&mut file, BLOCK_DATA, &[b"abc", b"de"]);
        assert_eq!(file, *b"\x09\x00\x00\x80abcde\0\0\0\0\0\0\0");
    }
}
