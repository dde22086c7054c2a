//! Sections that identify a unified kernel image: `.osrel` and `.cmdline`.
//!
//! Reads only the section table and the raw data of sections (Microsoft, "PE Format").

use std::io::{Read, Seek, SeekFrom};

carousel::limits! {
    /// Section of a kernel image that is read.
    const MAX_SECTION: usize = 64 * 1024, "bytes" {
        why: "`.osrel` and `.cmdline` have some hundred.",
        full: "The bundle is refused as `image`.",
        free: "Holds for one image.",
        test: "an_image_says_its_version_and_its_slots_hash",
    }

    /// Sections of a kernel image.
    const MAX_SECTIONS: usize = 96, "sections" {
        why: "Stub and kernel image have about ten.",
        full: "The bundle is refused as `image`.",
        free: "Holds for one image.",
        test: "an_image_says_its_version_and_its_slots_hash",
    }
}

/// Identity of an image, from its sections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// `IMAGE_VERSION`, which the loader sorts by.
    pub version: String,
    /// Root hash of the slot that it opens, 64 digits.
    pub root_hash: String,
}

/// Reads both sections.
///
/// # Errors
/// One line: no PE image, or without what the loader and the initial RAM disk need.
pub(super) fn read(image: &mut (impl Read + Seek)) -> Result<Image, String> {
    let (mut osrel, mut cmdline) = (None, None);
    let no_image = |_| "the kernel image is not a PE file, or cut off".to_owned();
    let mut at = |offset: u64, bytes: &mut [u8]| {
        image.seek(SeekFrom::Start(offset)).and_then(|_| image.read_exact(bytes)).map_err(no_image)
    };
    let mut dos = [0; 64];
    at(0, &mut dos)?;
    let pe = u64::from(u32_at(&dos, 60));
    let mut head = [0; 24];
    at(pe, &mut head)?;
    if &dos[..2] != b"MZ" || &head[..4] != b"PE\0\0" {
        return Err("the kernel image is not a PE file".to_owned());
    }
    let sections = usize::from(u16::from_le_bytes([head[6], head[7]]));
    let optional = u64::from(u16::from_le_bytes([head[20], head[21]]));
    if sections > MAX_SECTIONS {
        return Err(format!("the kernel image has {sections} sections"));
    }
    let mut table = vec![0; sections * 40];
    at(pe + 24 + optional, &mut table)?;
    for section in table.chunks_exact(40) {
        let slot = match &section[..8] {
            b".osrel\0\0" => &mut osrel,
            b".cmdline" => &mut cmdline,
            _ => continue,
        };
        // The size in memory: the one in the file is rounded up.
        let size = (u32_at(section, 8) as usize).min(u32_at(section, 16) as usize);
        if size > MAX_SECTION {
            return Err("a section of the kernel image is too long".to_owned());
        }
        let mut bytes = vec![0; size];
        at(u64::from(u32_at(section, 20)), &mut bytes)?;
        let text =
            String::from_utf8(bytes).map_err(|_| "a section of the kernel image is not text".to_owned())?;
        *slot = Some(text.trim_end_matches(['\0', '\n']).to_owned());
    }
    let osrel = osrel.ok_or("the kernel image has no .osrel: the loader would not list it")?;
    let cmdline = cmdline.ok_or("the kernel image has no .cmdline")?;
    let version = osrel
        .lines()
        .find_map(|line| line.strip_prefix("IMAGE_VERSION="))
        .map(|value| value.trim_matches(['"', '\'']).to_owned())
        .ok_or("the kernel image has no IMAGE_VERSION: the loader could not sort it")?;
    let root_hash = cmdline
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("skycache.verity="))
        .filter(|hash| hash.len() == 64 && hash.bytes().all(|it| it.is_ascii_hexdigit()))
        .ok_or("the kernel image has no skycache.verity= with 64 digits")?;
    Ok(Image { version, root_hash: root_hash.to_ascii_lowercase() })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// A PE file with the sections that are read, for tests.
#[cfg(test)]
pub(super) fn write(sections: &[(&str, &str)]) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..2].copy_from_slice(b"MZ");
    file[60] = 64;
    file.extend(b"PE\0\0\x64\x86");
    file.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
    file.resize(64 + 24, 0);
    let mut data_at = file.len() + sections.len() * 40;
    let mut data = Vec::new();
    for (name, text) in sections {
        let mut entry = [0_u8; 40];
        entry[..name.len()].copy_from_slice(name.as_bytes());
        let size = u32::try_from(text.len()).unwrap().to_le_bytes();
        entry[8..12].copy_from_slice(&size);
        entry[16..20].copy_from_slice(&size);
        entry[20..24].copy_from_slice(&u32::try_from(data_at).unwrap().to_le_bytes());
        file.extend(entry);
        data.extend(text.bytes());
        data_at += text.len();
    }
    file.extend(data);
    file
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn an_image_says_its_version_and_its_slots_hash() {
        let hash = "ab".repeat(32);
        let cmdline = format!("ro skycache.verity={hash} panic=10");
        let bytes = write(&[
            (".osrel", "ID=skycache\nIMAGE_VERSION=\"1.5\"\n"),
            (".cmdline", &cmdline),
            (".linux", "x"),
        ]);
        let image = read(&mut Cursor::new(&bytes)).unwrap();
        assert_eq!(image, Image { version: "1.5".to_owned(), root_hash: hash.clone() });
        for length in 0..bytes.len() - 1 {
            assert!(read(&mut Cursor::new(&bytes[..length])).is_err(), "cut off at {length}");
        }
        for sections in [
            &[(".cmdline", cmdline.as_str())][..],
            &[(".osrel", "IMAGE_VERSION=1")],
            &[(".osrel", "VERSION=1"), (".cmdline", &cmdline)],
            &[(".osrel", "IMAGE_VERSION=1"), (".cmdline", "skycache.verity=12")],
        ] {
            assert!(read(&mut Cursor::new(&write(sections))).is_err(), "{sections:?}");
        }
        let osrel = |length: usize| format!("IMAGE_VERSION=1\n{}", "#".repeat(length - 16));
        let read_with = |osrel: &str, others: usize| {
            let mut sections = vec![(".osrel", osrel), (".cmdline", cmdline.as_str())];
            sections.resize(2 + others, (".linux", "x"));
            read(&mut Cursor::new(&write(&sections)))
        };
        assert!(read_with(&osrel(MAX_SECTION), MAX_SECTIONS - 2).is_ok());
        assert!(read_with(&osrel(MAX_SECTION + 1), 0).unwrap_err().contains("too long"));
        assert!(read_with(&osrel(100), MAX_SECTIONS - 1).unwrap_err().contains("97 sections"));
    }
}
