//! Verification of received objects: digests, lengths and content encoding.
//!
//! Separate from the receiver, so that hashing and inflating megabytes do not delay receive threads.

use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use md5::{Digest as _, Md5};

use super::fdt::{Encoding, File};
use crate::digest::{Digest, md5};
use crate::limits::{
    MAX_FDT_BYTES, MAX_FDT_INFLATED_BYTES, MAX_INFLATED_BYTES, MAX_OBJECT_BYTES, most_inflated,
};
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
    /// The decoded bytes, or `None` without content encoding: the transported bytes are the object.
    pub decoded: Option<Vec<u8>>,
    /// SHA-256 of the object (decoded).
    pub digest: Digest,
    /// Whether a digest of the FDT was checked: SHA-256 or MD5.
    pub checked: bool,
}

/// Result of a verification that does not keep the decoded bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Examined {
    /// SHA-256 of the object (decoded).
    pub digest: Digest,
    /// Its bytes.
    pub length: u64,
    /// Whether a digest of the FDT was checked.
    pub checked: bool,
    /// Whether the transported bytes are encoded: [`decode_to`] gives the object.
    pub is_encoded: bool,
}

/// Verifies `transported` against every digest and length in `file`, and decodes the content encoding.
///
/// # Errors
/// [`VerifyError`]; such an object must not be served.
pub fn verify(file: &File, transported: &[u8]) -> Result<Content, VerifyError> {
    verify_up_to(file, transported, MAX_OBJECT_BYTES)
}

/// As [`verify`], for an object of at most `most` bytes.
///
/// # Errors
/// As for [`verify`].
pub fn verify_up_to(file: &File, transported: &[u8], most: u64) -> Result<Content, VerifyError> {
    let mut decoded = Vec::new();
    let examined = check(file, transported, most, &mut |piece| decoded.extend_from_slice(piece))?;
    let Examined { digest, checked, is_encoded, .. } = examined;
    Ok(Content { decoded: is_encoded.then_some(decoded), digest, checked })
}

/// As [`verify`], without holding the decoded object, which may be a thousand times as long as the transported bytes.
///
/// # Errors
/// As for [`verify`].
pub fn examine(file: &File, transported: &[u8]) -> Result<Examined, VerifyError> {
    check(file, transported, MAX_OBJECT_BYTES, &mut |_| {})
}

fn check(
    file: &File,
    transported: &[u8],
    most: u64,
    each: &mut dyn FnMut(&[u8]),
) -> Result<Examined, VerifyError> {
    let transported_digest = Digest::of(transported);
    if file.content_digest.is_some_and(|digest| digest != transported_digest) {
        return Err(VerifyError::DigestMismatch);
    }
    // rt-libflute hashes the decoded file, RFC 6726 specifies the transported bytes; MD5 is ignored if there is a
    // stronger digest.
    let md5_that_counts = file.content_md5.filter(|_| file.content_digest.is_none());
    let mut md5_of_object = md5_that_counts.filter(|it| md5(transported) != *it).map(|_| Md5::default());
    let mut hasher = Digest::hasher();
    let content_length = decoded_length(&file.encoding, transported, file.content_length);
    let decoded = decode_up_to(&file.encoding, transported, content_length, most, &mut |piece| {
        hasher.update(piece);
        if let Some(md5) = &mut md5_of_object {
            md5.update(piece);
        }
        each(piece);
        true
    })?;
    let length = decoded.unwrap_or(transported.len() as u64);
    if content_length.is_some_and(|announced| announced != length) {
        return Err(VerifyError::LengthMismatch);
    }
    let digest = if decoded.is_some() { hasher.finish() } else { transported_digest };
    if file.repr_digest.is_some_and(|expected| expected != digest) {
        return Err(VerifyError::DigestMismatch);
    }
    if let Some(md5) = md5_of_object
        && (decoded.is_none() || md5_that_counts != Some(md5.finalize().into()))
    {
        return Err(VerifyError::Md5Mismatch);
    }
    let checked = file.content_digest.or(file.repr_digest).is_some() || file.content_md5.is_some();
    Ok(Examined { digest, length, checked, is_encoded: decoded.is_some() })
}

/// Expected decoded length. In HTTP `Content-Length` is the length of the encoded bytes, which some senders write here; the
/// checksums of gzip and zlib then show whether the bytes are complete.
fn decoded_length(encoding: &Encoding, transported: &[u8], content_length: Option<u64>) -> Option<u64> {
    let has_checksum = matches!(encoding, Encoding::Gzip | Encoding::Zlib);
    content_length.filter(|&length| !has_checksum || length != transported.len() as u64)
}

/// Decodes a content encoding in pieces; `each` is called with each piece and returns whether to continue. Returns the
/// length; `None` for identity, for which `each` is not called.
///
/// At most `content_length` bytes come out, and [`MAX_INFLATE_RATIO`](crate::limits::MAX_INFLATE_RATIO) times the input where that is more than
/// [`MAX_INFLATED_BYTES`].
///
/// # Errors
/// `BadEncoding`, also if `each` has stopped; `TooLarge`.
pub fn decode_to(
    encoding: &Encoding,
    bytes: &[u8],
    content_length: Option<u64>,
    each: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<Option<u64>, VerifyError> {
    decode_up_to(encoding, bytes, content_length, MAX_OBJECT_BYTES, each)
}

fn decode_up_to(
    encoding: &Encoding,
    bytes: &[u8],
    content_length: Option<u64>,
    most: u64,
    each: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<Option<u64>, VerifyError> {
    let most = content_length.unwrap_or(most).min(most).min(most_inflated(bytes.len(), MAX_INFLATED_BYTES));
    let decoded = match encoding {
        Encoding::Identity => return Ok(None),
        Encoding::Gzip => inflate(MultiGzDecoder::new(bytes), most, each),
        Encoding::Zlib => inflate(ZlibDecoder::new(bytes), most, each),
        // "deflate" means zlib in HTTP and raw deflate in RFC 6726; zlib's header and checksum distinguish them.
        Encoding::Deflate => match inflate(ZlibDecoder::new(bytes), most, &mut |_| true) {
            Err(VerifyError::BadEncoding) => inflate(DeflateDecoder::new(bytes), most, each),
            Err(err) => Err(err),
            Ok(_) => inflate(ZlibDecoder::new(bytes), most, each),
        },
        Encoding::Other(_) => return Err(VerifyError::BadEncoding),
    };
    decoded.map(Some)
}

/// As [`decode_to`], into memory.
///
/// # Errors
/// `BadEncoding`, `TooLarge`.
pub fn decode(
    encoding: &Encoding,
    bytes: &[u8],
    content_length: Option<u64>,
) -> Result<Option<Vec<u8>>, VerifyError> {
    let mut out = Vec::new();
    let decoded = decode_to(encoding, bytes, content_length, &mut |piece| {
        out.extend_from_slice(piece);
        true
    })?;
    Ok(decoded.map(|_| out))
}

/// Content encoding algorithm of EXT_CENC for none.
pub(super) const PLAIN_FDT: u8 = 0;

/// Decodes an FDT Instance by EXT_CENC (0 none, 1 zlib, 2 deflate, 3 gzip). `goes_on` is asked about what has come out, after
/// each piece. Nothing if that says no, or what comes out is too long, in itself or for its transported bytes.
pub(super) fn inflate_fdt(
    algorithm: u8,
    bytes: Vec<u8>,
    goes_on: &mut dyn FnMut(&[u8]) -> bool,
) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut keep = |piece: &[u8]| {
        out.extend_from_slice(piece);
        goes_on(&out)
    };
    let most = MAX_FDT_BYTES.min(most_inflated(bytes.len(), MAX_FDT_INFLATED_BYTES));
    let piece = FDT_PIECE_BYTES;
    let inflated = match algorithm {
        PLAIN_FDT => return Some(bytes),
        1 => inflate_by(piece, ZlibDecoder::new(&bytes[..]), most, &mut keep),
        2 => inflate_by(piece, DeflateDecoder::new(&bytes[..]), most, &mut keep),
        3 => inflate_by(piece, MultiGzDecoder::new(&bytes[..]), most, &mut keep),
        _ => return None,
    };
    inflated.ok().map(|_| out)
}

/// Bytes inflated at a time.
const PIECE_BYTES: usize = 16 << 10;
/// Bytes of an FDT Instance inflated at a time: its seal mostly stands in the first.
const FDT_PIECE_BYTES: usize = 2 << 10;

fn inflate(decoder: impl Read, most: u64, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<u64, VerifyError> {
    inflate_by(PIECE_BYTES, decoder, most, each)
}

fn inflate_by(
    piece: usize,
    mut decoder: impl Read,
    most: u64,
    each: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<u64, VerifyError> {
    let (mut piece, mut length) = (vec![0; piece], 0);
    loop {
        let count = match decoder.read(&mut piece) {
            Ok(0) => return Ok(length),
            Ok(count) => count,
            Err(err) if err.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(VerifyError::BadEncoding),
        };
        length += count as u64;
        if length > most {
            return Err(VerifyError::TooLarge);
        }
        if !each(&piece[..count]) {
            return Err(VerifyError::BadEncoding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_INFLATE_RATIO;
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
        // As in HTTP, the length of the encoded bytes: the checksum of gzip shows whether they are complete.
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
        assert!(verify(&nested, &bomb).is_ok(), "short enough at any ratio");
        assert_eq!(decode(&Encoding::Gzip, &bomb, Some(100)), Err(VerifyError::TooLarge));
        assert_eq!(inflate_fdt(3, gzip(&vec![b' '; 2 << 20]), &mut |_| true), None);
    }

    #[test]
    fn bombs_are_refused_and_the_next_object_is_decoded() {
        let zeros = |bytes: u64| gzip(&vec![0; usize::try_from(bytes).unwrap()]);
        let (most, bomb) = (zeros(MAX_INFLATED_BYTES), zeros(MAX_INFLATED_BYTES + 1));
        assert!((bomb.len() as u64) * MAX_INFLATE_RATIO < MAX_INFLATED_BYTES, "the ratio alone is stricter");
        for announced in [None, Some(MAX_INFLATED_BYTES + 1), Some(u64::MAX)] {
            let mut given = 0;
            let decoded = decode_to(&Encoding::Gzip, &bomb, announced, &mut |piece| {
                given += piece.len() as u64;
                true
            });
            assert_eq!(decoded, Err(VerifyError::TooLarge), "{announced:?}");
            assert!(given <= MAX_INFLATED_BYTES, "nothing beyond the limit is given out");
        }
        assert_eq!(decode_to(&Encoding::Gzip, &most, None, &mut |_| true), Ok(Some(MAX_INFLATED_BYTES)));
        // The announced length is stricter.
        assert_eq!(decode(&Encoding::Gzip, &zeros(1 << 20), Some((1 << 20) - 1)), Err(VerifyError::TooLarge));
        assert_eq!(decode(&Encoding::Gzip, &zeros(1 << 20), Some(1 << 20)).unwrap().unwrap().len(), 1 << 20);
        // The caller's limit is stricter still.
        let file = File { encoding: Encoding::Gzip, ..File::default() };
        assert_eq!(verify_up_to(&file, &zeros(1001), 1000), Err(VerifyError::TooLarge));
        assert!(verify_up_to(&file, &zeros(1000), 1000).is_ok());
    }

    #[test]
    fn what_does_not_shrink_much_may_be_long() {
        // Every fourth byte is noise: gzip brings that to a third or so.
        let text: Vec<u8> = (0..(MAX_INFLATED_BYTES as u32 + 4096) / 4)
            .flat_map(|at| [b'a', b'b', b'c', (at.wrapping_mul(2_654_435_761) >> 13) as u8])
            .collect();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&text).unwrap();
        let zipped = encoder.finish().unwrap();
        let file = File {
            encoding: Encoding::Gzip,
            content_length: Some(text.len() as u64),
            content_md5: Some(md5(&text)),
            ..File::default()
        };
        let examined = examine(&file, &zipped).unwrap();
        assert_eq!((examined.digest, examined.length), (Digest::of(&text), text.len() as u64));
        assert!(examined.is_encoded && examined.checked);
        let wrong = File { content_md5: Some([1; 16]), ..file };
        assert_eq!(examine(&wrong, &zipped), Err(VerifyError::Md5Mismatch));
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
        // A ratio of about 100 at most.
        let long = b"<File TOI='1'/>".repeat(MAX_FDT_BYTES as usize / 12);
        let long: Vec<u8> = long
            .iter()
            .enumerate()
            .map(|(at, it)| if at % 64 == 0 { (at >> 6) as u8 } else { *it })
            .collect();
        for length in [MAX_FDT_BYTES as usize, MAX_FDT_BYTES as usize + 1] {
            let text = &long[..length];
            let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
            zlib.write_all(text).unwrap();
            let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
            raw.write_all(text).unwrap();
            for (algorithm, bytes) in
                [(1, zlib.finish().unwrap()), (2, raw.finish().unwrap()), (3, gzip(text))]
            {
                let inflated = inflate_fdt(algorithm, bytes, &mut |_| true).map(|it| it.len());
                assert_eq!(inflated, (length <= MAX_FDT_BYTES as usize).then_some(length), "{algorithm}");
            }
        }
        assert_eq!(inflate_fdt(0, b"x".to_vec(), &mut |_| true).as_deref(), Some(&b"x"[..]));
        assert_eq!(inflate_fdt(4, b"x".to_vec(), &mut |_| true), None);
    }

    #[test]
    fn an_fdt_instance_of_one_packet_is_inflated_to_a_part_of_the_limit() {
        for (length, is_inflated) in
            [(MAX_FDT_INFLATED_BYTES, true), (MAX_FDT_INFLATED_BYTES + 1, false), (MAX_FDT_BYTES, false)]
        {
            let bomb = gzip(&vec![b' '; length as usize]);
            assert!((bomb.len() as u64) < 1_200, "one packet");
            let (mut pieces, mut seen) = (0, 0);
            let inflated = inflate_fdt(3, bomb.clone(), &mut |start| {
                (pieces, seen) = (pieces + 1, start.len());
                true
            });
            assert_eq!(inflated.is_some(), is_inflated, "{length}");
            assert!(seen as u64 <= 128 * bomb.len() as u64 + MAX_FDT_INFLATED_BYTES);
            let stopped = inflate_fdt(3, bomb, &mut |start| {
                seen = start.len();
                false
            });
            assert_eq!((stopped, seen <= FDT_PIECE_BYTES), (None, true), "no more than the first piece");
        }
    }
}
