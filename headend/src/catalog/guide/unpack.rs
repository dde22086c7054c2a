//! Decompression of guide files (gzip, xz and zip, also nested), up to the limit of a guide.

use std::io::{self, Cursor, Read};

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use zip::ZipArchive;

use super::{MAX_GUIDE_BYTES, Refusal};

carousel::limits! {
    /// Packings inside each other.
    const MAX_LAYERS: usize = 4, "layers" {
        why: "A web server may compress what is compressed already: two are seen.",
        full: "The content is refused as neither XMLTV nor JSON.",
        free: "Holds for one file.",
        test: "every_packing_and_one_in_another",
    }
    /// Memory of one xz decoder, in KiB.
    const MAX_XZ_KIB: u32 = 70 << 10, "KiB" {
        why: "The strongest preset of xz has a dictionary of 64 MiB.",
        full: "The file is refused; the guide read before stays.",
        free: "Holds for one file.",
        test: "what_is_cut_is_too_much_or_not_known_says_so",
    }
    /// Members of a zip archive that are examined for a guide.
    const MAX_MEMBERS: usize = 1_000, "members" {
        why: "Archives of guides have one or two.",
        full: "Further members are not examined.",
        free: "Holds for one file.",
        test: "what_is_cut_is_too_much_or_not_known_says_so",
    }
}

/// Beginnings of files in packings that are not read, and their names.
const OTHERS: [(&[u8], &str); 7] = [
    (b"BZh", "bzip2"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (&[0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c], "7-Zip"),
    (b"Rar!", "RAR"),
    (&[0x1f, 0x9d], "compress"),
    (&[0x04, 0x22, 0x4d, 0x18], "LZ4"),
    (b"LZIP", "lzip"),
];

/// The bytes of a guide, unpacked as often as it is packed.
///
/// # Errors
/// [`Refusal`]: a packing that is not read, or that is cut or damaged, or too much in it.
pub(super) fn unpack(bytes: Vec<u8>) -> Result<Vec<u8>, Refusal> {
    unpack_within(bytes, MAX_GUIDE_BYTES)
}

fn unpack_within(mut bytes: Vec<u8>, most: usize) -> Result<Vec<u8>, Refusal> {
    for _ in 0..MAX_LAYERS {
        bytes = match bytes.as_slice() {
            [0x1f, 0x8b, ..] => read(MultiGzDecoder::new(bytes.as_slice()), "gzip", most)?,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
                read(XzReader::new_mem_limit(bytes.as_slice(), true, MAX_XZ_KIB), "xz", most)?
            }
            [b'P', b'K', 3, 4, ..] => member(&bytes, most)?,
            _ => break,
        };
    }
    let other = OTHERS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, name)| *name);
    let is_tar = bytes.get(257..262) == Some(b"ustar");
    match other.or_else(|| is_tar.then_some("tar")) {
        Some(name) => Err(Refusal::Packed(name)),
        None => Ok(bytes),
    }
}

fn read(from: impl Read, name: &'static str, most: usize) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    let damaged = |err: io::Error| Refusal::Damaged(name, err);
    from.take(most as u64 + 1).read_to_end(&mut bytes).map_err(damaged)?;
    if bytes.len() > most { Err(Refusal::TooLong) } else { Ok(bytes) }
}

/// The member of a zip archive that is the guide: the first one that is called like one, else the first file.
fn member(bytes: &[u8], most: usize) -> Result<Vec<u8>, Refusal> {
    let damaged = |err: zip::result::ZipError| Refusal::Damaged("zip", io::Error::other(err));
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    let names: Vec<(usize, String)> = (0..archive.len().min(MAX_MEMBERS))
        .filter_map(|at| Some((at, archive.name_for_index(at)?.ok()?.to_ascii_lowercase())))
        .filter(|(_, name)| !name.ends_with('/') && !name.contains("__macosx/"))
        .collect();
    let is_guide = |name: &str| [".xml", ".xmltv", ".json", ".xml.gz"].iter().any(|end| name.ends_with(end));
    let at = names.iter().find(|(_, name)| is_guide(name)).or_else(|| names.first()).map(|(at, _)| *at);
    let Some(at) = at else {
        return Err(Refusal::Damaged("zip", io::Error::other("no file in it")));
    };
    read(archive.by_index(at).map_err(damaged)?, "zip", most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let options = lzma_rust2::XzOptions::with_preset(1);
        let mut packer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut packer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            packer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            packer.write_all(bytes).unwrap();
        }
        packer.finish().unwrap().into_inner()
    }

    #[test]
    fn every_packing_and_one_in_another() {
        let guide = b"<tv></tv>".repeat(100);
        let zipped = zip(&[("readme.txt", b"no guide"), ("__MACOSX/._g.xml", b"x"), ("a/G.XML", &guide)]);
        let only = zip(&[("guide", &guide)]);
        for packed in
            [guide.clone(), gzip(&guide), xz(&guide), zipped, only, gzip(&gzip(&guide)), gzip(&xz(&guide))]
        {
            assert_eq!(unpack(packed).unwrap(), guide);
        }
    }

    #[test]
    fn what_is_cut_is_too_much_or_not_known_says_so() {
        let guide: Vec<u8> =
            (0..4000_u32).flat_map(|it| it.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for packed in [gzip(&guide), xz(&guide), zip(&[("g.xml", &guide)])] {
            let half = packed[..packed.len() / 2].to_vec();
            assert!(matches!(unpack(half), Err(Refusal::Damaged(..))));
        }
        let most = 100_000;
        let bomb = vec![b' '; most + 1];
        for packed in [gzip(&bomb), xz(&bomb), zip(&[("g.xml", &bomb)])] {
            assert!(matches!(unpack_within(packed, most), Err(Refusal::TooLong)));
        }
        let members: Vec<(String, &[u8])> =
            (0..MAX_MEMBERS).map(|at| (format!("{at}.txt"), &b"x"[..])).collect();
        let mut members: Vec<(&str, &[u8])> =
            members.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
        members.push(("late.xml", b"<tv/>"));
        assert_eq!(unpack(zip(&members)).unwrap(), b"x");
        assert_eq!(unpack(zip(&members[1..])).unwrap(), b"<tv/>");
        // A dictionary of 128 MiB, in the header of the block.
        let mut options = lzma_rust2::XzOptions::with_preset(0);
        options.lzma_options.dict_size = 128 << 20;
        options.lzma_options.mf = lzma_rust2::MfType::Hc4;
        let mut wide = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        wide.write_all(b"<tv/>").unwrap();
        assert!(matches!(unpack(wide.finish().unwrap()), Err(Refusal::Damaged("xz", _))));
        let mut layers = b"<tv/>".to_vec();
        for _ in 0..=MAX_LAYERS {
            layers = gzip(&layers);
        }
        assert!(unpack(layers).unwrap().starts_with(&[0x1f, 0x8b]));
        assert!(matches!(unpack(b"BZh91AY&SY".to_vec()), Err(Refusal::Packed("bzip2"))));
        assert!(matches!(unpack(gzip(b"BZh91AY&SY")), Err(Refusal::Packed("bzip2"))));
        assert!(matches!(unpack(zip(&[])), Err(Refusal::Damaged("zip", _)) | Ok(_)));
    }
}
