//! Names of kernel images: `skycache_VERSION_SLOT.efi`, with `+LEFT-DONE` before the suffix while the loader counts tries.

use std::fmt;
use std::str::FromStr;

/// One of the two slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// The first pair of partitions.
    A,
    /// The second pair.
    B,
}

impl Slot {
    pub(super) const ALL: [Self; 2] = [Self::A, Self::B];

    /// As in names, and RAUC's `bootname`.
    #[must_use]
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    #[must_use]
    pub(super) const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Slot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|it| it.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not a slot; give a or b"))
    }
}

carousel::limits! {
    /// Version of an image.
    pub(super) const MAX_VERSION: usize = 32, "characters" {
        why: "Names on a FAT file system end at 255 characters, screens long before.",
        full: "The bundle is refused as `version`; a file with such a name is not an image.",
        free: "Holds for one name.",
        test: "other_names_are_no_images",
    }
}

/// Whether a version can be part of a name, in which `_` and `+` are separators.
#[must_use]
pub(super) fn is_version(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'~' | b'^');
    (1..=MAX_VERSION).contains(&text.len()) && text.bytes().all(known)
}

/// Tries as the loader counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tries {
    pub left: u32,
    pub done: u32,
}

/// A kernel image's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageName {
    pub version: String,
    pub slot: Slot,
    /// `None`: it was healthy once.
    pub tries: Option<Tries>,
}

impl ImageName {
    /// `None` for other names, which are not touched.
    #[must_use]
    pub(super) fn parse(name: &str) -> Option<Self> {
        // FAT keeps the case of long names and compares without it.
        let lower = name.to_ascii_lowercase();
        let stem = &name[..lower.strip_suffix(".efi")?.len()];
        lower.strip_prefix("skycache_")?;
        let stem = stem.get("skycache_".len()..)?;
        let (stem, tries) = match stem.split_once('+') {
            None => (stem, None),
            Some((stem, counter)) => {
                let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
                let number = |text: &str| {
                    let is_number = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
                    is_number.then(|| text.parse().ok()).flatten()
                };
                (stem, Some(Tries { left: number(left)?, done: number(done)? }))
            }
        };
        let (version, slot) = stem.rsplit_once('_')?;
        let slot = slot.to_ascii_lowercase().parse().ok()?;
        is_version(version).then(|| Self { version: version.to_owned(), slot, tries })
    }

    /// Whether the loader starts it although there is another.
    #[must_use]
    pub(super) fn is_startable(&self) -> bool {
        self.tries.is_none_or(|it| it.left > 0)
    }

    /// Whether all its tries were used without becoming healthy.
    #[must_use]
    pub(super) fn has_failed(&self) -> bool {
        self.tries.is_some_and(|it| it.left == 0 && it.done > 0)
    }

    #[must_use]
    pub(super) fn with(&self, tries: Option<Tries>) -> Self {
        Self { tries, ..self.clone() }
    }

    /// Whether both names are of one image, apart from its counter.
    #[must_use]
    pub(super) fn is_same_image(&self, other: &Self) -> bool {
        self.version == other.version && self.slot == other.slot
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skycache_{}_{}", self.version, self.slot)?;
        match self.tries {
            None => {}
            Some(Tries { left, done: 0 }) => write!(f, "+{left}")?,
            Some(Tries { left, done }) => write!(f, "+{left}-{done}")?,
        }
        f.write_str(".efi")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in [
            "skycache_1.0_a.efi",
            "skycache_1.10~rc1_b+3.efi",
            "skycache_2-1_b+0-3.efi",
            "skycache_1_a+2-1.efi",
        ] {
            assert_eq!(ImageName::parse(name).unwrap().to_string(), name);
        }
        let counted = ImageName::parse("skycache_1.11_b+0-3.efi").unwrap();
        assert!(!counted.is_startable() && counted.has_failed());
        let refused = ImageName::parse("skycache_1.11_b+0.efi").unwrap();
        assert!(!refused.is_startable() && !refused.has_failed());
        assert!(counted.is_same_image(&ImageName::parse("SKYCACHE_1.11_B.EFI").unwrap()));
    }

    #[test]
    fn other_names_are_no_images() {
        for name in [
            "",
            ".efi",
            "skycache_.efi",
            "skycache_1.0.efi",
            "skycache_1.0_c.efi",
            "skycache__a.efi",
            "skycache_1_0_a+.efi",
            "skycache_1.0_a+x.efi",
            "skycache_1.0_a+1-.efi",
            "skycache_1.0_a+-1.efi",
            "skycache_1.0_a+3+3.efi",
            "skycache_1/0_a.efi",
            "skycache_1.0_a.efi.new",
            "linux.efi",
            "skycache_1.0_ä.efi",
            "skycache_123456789012345678901234567890123_a.efi",
        ] {
            assert_eq!(ImageName::parse(name), None, "{name}");
        }
    }
}
