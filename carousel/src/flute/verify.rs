//! Verification of received objects: digests, lengths and content encoding.
//!
//! Kept apart from the receiver, because hashing and inflating megabytes must not hold up a receive thread.

use std::io::Read as _;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::fdt::{Encoding, File};
use crate::digest::{Digest, md5};
use crate::limits::{MAX_FDT_BYTES, MAX_INFLATE_RATIO, MAX_OBJECT_BYTES};
use crate::reasons;

reasons! {
    /// Why transported bytes are not the object that the FDT describes.
    pub enum VerifyError {
        /// The SHA-256 of `Content-Digest` or `Repr-Digest` differs.
        DigestMismatch = "digest_mismatch",
        /// `Content-MD5` differs from the MD5 of the transported bytes and of the decoded bytes.
        Md5Mismatch = "md5_mismatch",
        /// The content encoding cannot be decoded.
        BadEncoding = "bad_encoding",
        /// The decoded length differs from `Content-Length`.
        LengthMismatch = "length_mismatch",
        /// The decoded object would exceed the limits.
        TooLarge = "too_large",
    }
}

impl std::error::Error for VerifyError {}

/// A verified object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The decoded bytes, or `None` if nothing was encoded and the transported bytes are the object.
    pub decoded: Option<Vec<u8>>,
    /// SHA-256 of the object (decoded).
    pub digest: Digest,
    /// Whether the FDT carried any digest that was checked; SHA-256 or MD5.
    pub checked: bool,
}

/// Checks `transported` against every digest and length in `file`, and undoes the content encoding.
///
/// # Errors
/// [`VerifyError`]; nothing of such an object may be served.
pub fn verify(file: &File, transported: &[u8]) -> Result<Content, VerifyError> {
    let transported_digest = Digest::of(transported);
    if file.content_digest.is_some_and(|digest| digest != transported_digest) {
        return Err(VerifyError::DigestMismatch);
    }
    let content_length = decoded_length(&file.encoding, transported, file.content_length);
    let decoded = decode(&file.encoding, transported, content_length)?;
    let object = decoded.as_deref().unwrap_or(transported);
    if content_length.is_some_and(|length| length != object.len() as u64) {
        return Err(VerifyError::LengthMismatch);
    }
    let digest = if decoded.is_some() { Digest::of(object) } else { transported_digest };
    if file.repr_digest.is_some_and(|expected| expected != digest) {
        return Err(VerifyError::DigestMismatch);
    }
    // rt-libflute hashes the decoded file, RFC 6726 means the transported bytes; a stronger digest makes MD5 idle.
    if let Some(expected) = file.content_md5.filter(|_| file.content_digest.is_none())
        && md5(transported) != expected
        && decoded.as_deref().map(md5) != Some(expected)
    {
        return Err(VerifyError::Md5Mismatch);
    }
    let checked = file.content_digest.or(file.repr_digest).is_some() || file.content_md5.is_some();
    Ok(Content { decoded, digest, checked })
}

/// What a sender says of the decoded length. By HTTP's meaning of the word `Content-Length` is that of the encoded bytes, and some
/// senders write so; gzip and zlib tell by their own checksums whether all is there.
fn decoded_length(encoding: &Encoding, transported: &[u8], content_length: Option<u64>) -> Option<u64> {
    let has_checksum = matches!(encoding, Encoding::Gzip | Encoding::Zlib);
    content_length.filter(|&length| !has_checksum || length != transported.len() as u64)
}

/// Undoes a content encoding; `None` for identity. At most `content_length` bytes come out, or
/// [`MAX_INFLATE_RATIO`] times the input where that is not known.
///
/// # Errors
/// `BadEncoding`, `TooLarge`.
pub fn decode(
    encoding: &Encoding,
    bytes: &[u8],
    content_length: Option<u64>,
) -> Result<Option<Vec<u8>>, VerifyError> {
    let by_ratio = (bytes.len() as u64).saturating_mul(MAX_INFLATE_RATIO);
    let most = content_length.unwrap_or(by_ratio).min(MAX_OBJECT_BYTES).min(by_ratio.max(1024));
    let decoded = match encoding {
        Encoding::Identity => return Ok(None),
        Encoding::Gzip => inflate(MultiGzDecoder::new(bytes), most),
        Encoding::Zlib => inflate(ZlibDecoder::new(bytes), most),
        // HTTP means zlib by "deflate", RFC 6726 raw deflate; zlib's header tells them apart.
        Encoding::Deflate => {
            inflate(ZlibDecoder::new(bytes), most).or_else(|_| inflate(DeflateDecoder::new(bytes), most))
        }
        Encoding::Other(_) => return Err(VerifyError::BadEncoding),
    };
    decoded.map(Some)
}

/// Undoes EXT_CENC of an FDT Instance (0 none, 1 zlib, 2 deflate, 3 gzip).
pub(super) fn inflate_fdt(algorithm: u8, bytes: Vec<u8>) -> Option<Vec<u8>> {
    match algorithm {
        0 => Some(bytes),
        1 => inflate(ZlibDecoder::new(&bytes[..]), MAX_FDT_BYTES).ok(),
        2 => inflate(DeflateDecoder::new(&bytes[..]), MAX_FDT_BYTES).ok(),
        3 => inflate(MultiGzDecoder::new(&bytes[..]), MAX_FDT_BYTES).ok(),
        _ => None,
    }
}

fn inflate(decoder: impl std::io::Read, most: u64) -> Result<Vec<u8>, VerifyError> {
    let mut out = Vec::new();
    decoder.take(most + 1).read_to_end(&mut out).map_err(|_| VerifyError::BadEncoding)?;
    if out.len() as u64 > most { Err(VerifyError::TooLarge) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use std::io::Write as _;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_digest_is_checked() {
        let good =
            File { content_digest: Some(Digest::of(b"abc")), content_length: Some(3), ..File::default() };
        assert_eq!(verify(&good, b"abc").map(|content| content.checked), Ok(true));
        assert_eq!(verify(&good, b"abd"), Err(VerifyError::DigestMismatch));
        let md5_only = File { content_md5: Some(md5(b"abc")), ..File::default() };
        assert!(verify(&md5_only, b"abc").is_ok());
        assert_eq!(verify(&md5_only, b"abd"), Err(VerifyError::Md5Mismatch));
        assert_eq!(verify(&File::default(), b"x").map(|content| content.checked), Ok(false));
        let short = File { content_length: Some(4), ..File::default() };
        assert_eq!(verify(&short, b"abc"), Err(VerifyError::LengthMismatch));
    }

    #[test]
    fn md5_of_a_gzipped_file_may_be_of_either_form() {
        let zipped = gzip(b"hello hello hello");
        for of in [&zipped[..], b"hello hello hello"] {
            let file = File {
                encoding: Encoding::Gzip,
                content_md5: Some(md5(of)),
                content_length: Some(17),
                ..File::default()
            };
            assert_eq!(verify(&file, &zipped).unwrap().decoded.unwrap(), b"hello hello hello");
        }
    }

    #[test]
    fn content_length_against_transfer_length_under_gzip() {
        let zipped = gzip(&[7; 5000]);
        let file = |content_length| File {
            encoding: Encoding::Gzip,
            content_length: Some(content_length),
            transfer_length: Some(zipped.len() as u64),
            ..File::default()
        };
        assert_eq!(verify(&file(5000), &zipped).unwrap().digest, Digest::of(&[7; 5000]));
        assert_eq!(verify(&file(4999), &zipped), Err(VerifyError::TooLarge));
        assert_eq!(verify(&file(5001), &zipped), Err(VerifyError::LengthMismatch));
        // As in HTTP, the length of the encoded bytes: the checksum of gzip tells what is whole.
        let as_http = file(zipped.len() as u64);
        assert_eq!(verify(&as_http, &zipped).unwrap().digest, Digest::of(&[7; 5000]));
        let mut damaged = zipped.clone();
        damaged[12] ^= 0x55;
        assert_eq!(verify(&as_http, &damaged), Err(VerifyError::BadEncoding));
        let raw = File { encoding: Encoding::Deflate, ..file(3) };
        assert!(verify(&raw, b"abc").is_err(), "without a checksum the length counts");
    }

    #[test]
    fn a_bomb_without_content_length_stops_at_the_ratio() {
        let bomb = gzip(&vec![0; 4 << 20]);
        let nested = File { encoding: Encoding::Gzip, ..File::default() };
        assert!(verify(&nested, &bomb).is_ok(), "gzip's own ratio is below the limit");
        assert_eq!(decode(&Encoding::Gzip, &bomb, Some(100)), Err(VerifyError::TooLarge));
        assert_eq!(inflate_fdt(3, gzip(&vec![b' '; 2 << 20])), None);
    }

    #[test]
    fn bombs_are_refused_and_the_next_object_is_decoded() {
        // gzip's own ratio stays below the limit; 20 members of nothing but a header do not matter.
        let small = gzip(&[0; 500]);
        let most = small.len() as u64 * MAX_INFLATE_RATIO;
        assert!(most < 1 << 20);
        let bomb = gzip(&vec![0; 1 << 20]);
        let by_ratio = bomb.len() as u64 * MAX_INFLATE_RATIO;
        assert!(by_ratio > 1 << 20);
        assert_eq!(inflate(&vec![0_u8; 1025][..], 1024), Err(VerifyError::TooLarge));
        assert_eq!(inflate(&vec![0_u8; 1024][..], 1024).map(|it| it.len()), Ok(1024));
        // A Content-Length beyond what the bytes can give does not widen the limit.
        let claimed = decode(&Encoding::Gzip, &small, Some(u64::MAX)).unwrap().unwrap();
        assert_eq!(claimed.len(), 500);
        assert_eq!(decode(&Encoding::Gzip, &bomb, Some((1 << 20) - 1)), Err(VerifyError::TooLarge));
        assert_eq!(decode(&Encoding::Gzip, &bomb, Some(1 << 20)).unwrap().unwrap().len(), 1 << 20);
    }

    #[test]
    fn deflate_means_two_things() {
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(b"abc").unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(b"abc").unwrap();
        for bytes in [raw.finish().unwrap(), zlib.finish().unwrap()] {
            assert_eq!(decode(&Encoding::Deflate, &bytes, Some(3)).unwrap().unwrap(), b"abc");
        }
        assert_eq!(decode(&Encoding::Other("br".into()), b"", None), Err(VerifyError::BadEncoding));
        assert_eq!(decode(&Encoding::Gzip, b"no gzip", None), Err(VerifyError::BadEncoding));
    }

    #[test]
    fn a_digest_of_the_object_is_checked_beside_one_of_the_transported_bytes() {
        let zipped = gzip(b"abc");
        let file = |repr: &[u8]| File {
            encoding: Encoding::Gzip,
            content_digest: Some(Digest::of(&zipped)),
            repr_digest: Some(Digest::of(repr)),
            ..File::default()
        };
        assert_eq!(verify(&file(b"abc"), &zipped).map(|it| it.digest), Ok(Digest::of(b"abc")));
        assert_eq!(verify(&file(b"abd"), &zipped), Err(VerifyError::DigestMismatch));
    }

    #[test]
    fn md5_decides_only_where_there_is_no_sha_256_of_the_same_bytes() {
        let file = File {
            content_digest: Some(Digest::of(b"abc")),
            content_md5: Some(md5(b"of something else")),
            ..File::default()
        };
        assert_eq!(verify(&file, b"abc").map(|it| it.checked), Ok(true));
        let by_md5 = File { content_md5: Some(md5(b"abc")), ..File::default() };
        assert_eq!(verify(&by_md5, b"abc").map(|it| it.checked), Ok(true));
        let by_repr = File { repr_digest: Some(Digest::of(b"abc")), ..File::default() };
        assert_eq!(verify(&by_repr, b"abc").map(|it| it.checked), Ok(true));
    }

    #[test]
    fn instances_of_every_encoding_are_bounded() {
        let long = vec![b' '; MAX_FDT_BYTES as usize + 1];
        for length in [MAX_FDT_BYTES as usize, MAX_FDT_BYTES as usize + 1] {
            let text = &long[..length];
            let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
            zlib.write_all(text).unwrap();
            let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
            raw.write_all(text).unwrap();
            for (algorithm, bytes) in
                [(1, zlib.finish().unwrap()), (2, raw.finish().unwrap()), (3, gzip(text))]
            {
                let inflated = inflate_fdt(algorithm, bytes).map(|it| it.len());
                assert_eq!(inflated, (length <= MAX_FDT_BYTES as usize).then_some(length), "{algorithm}");
            }
        }
        assert_eq!(inflate_fdt(0, b"x".to_vec()).as_deref(), Some(&b"x"[..]));
        assert_eq!(inflate_fdt(4, b"x".to_vec()), None);
    }
}
