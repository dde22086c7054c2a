//! Surrogate keys: names that an origin gives to groups of responses, to purge them together. `Surrogate-Key` (separated by
//! blanks, as Fastly and Varnish's xkey read it) and `Cache-Tag` (separated by commas, as Cloudflare and Akamai read it). No
//! standard defines either.
//!
//! Kept as 24-bit hashes, three bytes a key and 24 bytes an object with up to seven: among 500,000 keys of a store, a purge meets
//! another key with the same hash in 3 of 100 cases, and then takes an object too many, which costs one request at its origin.

use carousel::digest::{Digest, from_hex, to_hex};
use http::HeaderMap;

/// Fields that carry them.
const SURROGATE_FIELDS: [&str; 2] = ["surrogate-key", "cache-tag"];

/// Bytes of a hash.
const HASH_BYTES: usize = 3;
/// Keys that need no memory of their own.
const INLINE_KEYS: usize = 7;

carousel::limits! {
    /// Surrogate keys of one object.
    const MAX_KEYS: usize = 128, "keys" {
        why: "They take 768 hexadecimal digits of the object's header page.",
        full: "The object belongs to every key, so that no purge misses it.",
        free: "Holds for one object.",
        test: "seven_keys_take_24_bytes_and_no_allocation",
    }
}

/// The hash of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SurrogateHash([u8; HASH_BYTES]);

impl SurrogateHash {
    /// Hash of a key, exactly as the origin spells it.
    pub fn of(key: &str) -> Self {
        let digest = Digest::of(key.as_bytes()).0;
        Self([digest[0], digest[1], digest[2]])
    }

    /// Six hexadecimal digits.
    pub fn to_text(self) -> String {
        to_hex(&self.0)
    }

    /// A hash that [`SurrogateHash::to_text`] wrote.
    pub fn from_text(text: &str) -> Option<Self> {
        from_hex(text)?.try_into().ok().map(Self)
    }
}

/// The surrogate keys of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurrogateKeys(Kept);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kept {
    Inline(u8, [u8; INLINE_KEYS * HASH_BYTES]),
    Boxed(Box<[u8]>),
    /// More than [`MAX_KEYS`].
    Every,
}

impl Default for SurrogateKeys {
    fn default() -> Self {
        Self(Kept::Inline(0, [0; INLINE_KEYS * HASH_BYTES]))
    }
}

impl SurrogateKeys {
    /// Those of a response.
    pub fn of(response: &HeaderMap) -> Self {
        let mut hashes = Vec::new();
        for (field, is_separator) in [
            (SURROGATE_FIELDS[0], char::is_whitespace as fn(char) -> bool),
            (SURROGATE_FIELDS[1], (|c| c == ',') as fn(char) -> bool),
        ] {
            for value in response.get_all(field) {
                let text = String::from_utf8_lossy(value.as_bytes());
                let keys = text.split(is_separator).map(str::trim).filter(|key| !key.is_empty());
                hashes.extend(keys.map(|key| SurrogateHash::of(key).0));
            }
        }
        hashes.sort_unstable();
        hashes.dedup();
        Self::from_hashes(hashes.as_flattened())
    }

    fn from_hashes(bytes: &[u8]) -> Self {
        let keys = bytes.len() / HASH_BYTES;
        Self(match u8::try_from(keys) {
            Ok(count) if keys <= INLINE_KEYS => {
                let mut inline = [0; INLINE_KEYS * HASH_BYTES];
                inline[..bytes.len()].copy_from_slice(bytes);
                Kept::Inline(count, inline)
            }
            Ok(_) if keys <= MAX_KEYS => Kept::Boxed(bytes.into()),
            _ => Kept::Every,
        })
    }

    fn bytes(&self) -> &[u8] {
        match &self.0 {
            Kept::Inline(count, inline) => &inline[..usize::from(*count) * HASH_BYTES],
            Kept::Boxed(bytes) => bytes,
            Kept::Every => &[],
        }
    }

    /// Whether the object has none.
    pub fn is_empty(&self) -> bool {
        self.0 != Kept::Every && self.bytes().is_empty()
    }

    /// Whether the object belongs to this key.
    pub fn contains(&self, key: SurrogateHash) -> bool {
        self.0 == Kept::Every || self.bytes().chunks_exact(HASH_BYTES).any(|it| it == key.0)
    }

    /// Hashes of the keys; `None`: the object belongs to every key.
    pub fn hashes(&self) -> Option<impl Iterator<Item = SurrogateHash>> {
        let hash = |it: &[u8]| SurrogateHash(std::array::from_fn(|at| it[at]));
        (self.0 != Kept::Every).then(|| self.bytes().chunks_exact(HASH_BYTES).map(hash))
    }

    /// Hexadecimal digits, six a key; `*` for every key.
    pub fn to_text(&self) -> String {
        if self.0 == Kept::Every { "*".to_owned() } else { to_hex(self.bytes()) }
    }

    /// Keys that [`SurrogateKeys::to_text`] wrote; of anything else, every key.
    pub fn from_text(text: &str) -> Self {
        match from_hex(text) {
            Some(bytes) if text.len().is_multiple_of(2 * HASH_BYTES) => Self::from_hashes(&bytes),
            _ => Self(Kept::Every),
        }
    }
}

/// Removes the fields that carry them: they are for caches, and may reveal an operator's database.
pub fn strip_surrogate_keys(fields: &mut HeaderMap) {
    for field in SURROGATE_FIELDS {
        fields.remove(field);
    }
}

#[cfg(test)]
mod tests {
    use super::super::from_pairs;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_fields_and_all_their_lines_count() {
        let keys = SurrogateKeys::of(&from_pairs([
            ("surrogate-key", "film-7  season/2,x"),
            ("surrogate-key", "all"),
            ("cache-tag", "tenant 1, Ä,,film-7"),
        ]));
        for key in ["film-7", "season/2,x", "all", "tenant 1", "Ä"] {
            let in_latin1 = SurrogateHash::of(key);
            // A field's bytes are Latin-1 here, and UTF-8 on the wire: the lossy reading of 0xc4 would match no key.
            assert_eq!(keys.contains(in_latin1), key != "Ä", "{key}");
        }
        for key in ["film", "season/2", "tenant", "ALL", "", "*"] {
            assert!(!keys.contains(SurrogateHash::of(key)), "{key}");
        }
        assert_eq!(keys.bytes().len(), 5 * HASH_BYTES);
        assert!(SurrogateKeys::of(&from_pairs([("surrogate-key", " "), ("cache-tag", ",")])).is_empty());
    }

    #[test]
    fn seven_keys_take_24_bytes_and_no_allocation() {
        assert_eq!(size_of::<SurrogateKeys>(), 24);
        let of = |count: usize| {
            let text: Vec<String> = (0..count).map(|at| format!("k{at}")).collect();
            SurrogateKeys::of(&from_pairs([("surrogate-key", text.join(" "))]))
        };
        assert!(matches!(of(7).0, Kept::Inline(7, _)) && matches!(of(8).0, Kept::Boxed(_)));
        assert!(!of(MAX_KEYS).contains(SurrogateHash::of("other")));
        assert!(of(MAX_KEYS).contains(SurrogateHash::of("k127")));
        assert!(of(MAX_KEYS + 1).contains(SurrogateHash::of("other")), "no purge may miss it");
    }

    proptest! {
        #[test]
        fn text_says_the_same(count in 0_usize..140) {
            let text: Vec<String> = (0..count).map(|at| format!("k{at}")).collect();
            let keys = SurrogateKeys::of(&from_pairs([("cache-tag", text.join(","))]));
            prop_assert_eq!(SurrogateKeys::from_text(&keys.to_text()), keys.clone());
            let has = |at: usize| keys.contains(SurrogateHash::of(&format!("k{at}")));
            prop_assert!((0..count).all(has));
        }

        #[test]
        fn other_text_is_every_key_or_some(text in "[0-9a-f*]{0,20}") {
            let keys = SurrogateKeys::from_text(&text);
            prop_assert!(keys.0 == Kept::Every || keys.to_text() == text);
        }
    }
}
