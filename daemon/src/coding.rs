//! Decoding of manifests' content codings (RFC 9110 section 8.4.1, RFC 8878), piece by piece.

use std::borrow::Cow;
use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// Bytes pushed at a time if the result is bounded: deflate expands up to a thousand times.
const PIECE_BYTES: usize = 1024;

/// An unknown coding, invalid bytes, or too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undecodable;

/// Decoder of one body.
pub enum Decoder {
    Identity,
    /// RFC 1952, of one or more members.
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    /// By the name `deflate`; the first byte decides.
    Deflate(Option<u8>),
    /// RFC 1950.
    Zlib(Box<ZlibDecoder<Vec<u8>>>),
    /// Raw RFC 1951, which some servers send as `deflate` and browsers accept (RFC 9110 section 8.4.1.2).
    Raw(Box<DeflateDecoder<Vec<u8>>>),
    /// RFC 7932.
    Brotli(Box<brotli_decompressor::DecompressorWriter<Vec<u8>>>),
    /// RFC 8878, decoded at its end.
    Zstd(Vec<u8>),
}

carousel::limits! {
    /// Document in zstd: its bytes, and what it becomes.
    const MAX_ZSTD_BYTES: usize = 4 << 20, "bytes" {
        why: "It is decoded as a whole; manifests have some 100 KB.",
        full: "The document is passed on as it is; of a manifest that leads to a route it is counted as `coding`.",
        free: "Holds for one document.",
        test: "documents_that_are_converted_as_a_whole_are_bounded",
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}

impl Decoder {
    /// Decoder of a `Content-Encoding`, if it is known. Combinations are not.
    pub fn of(coding: Option<&str>) -> Option<Self> {
        Some(match coding.map(|it| it.trim().to_ascii_lowercase()).as_deref() {
            None | Some("" | "identity") => Self::Identity,
            Some("gzip" | "x-gzip") => Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            Some("deflate") => Self::Deflate(None),
            Some("br") => {
                Self::Brotli(Box::new(brotli_decompressor::DecompressorWriter::new(Vec::new(), 4096)))
            }
            Some("zstd") => Self::Zstd(Vec::new()),
            Some(_) => return None,
        })
    }

    /// Takes a piece, and adds what is decoded to `out`: not necessarily all that it could.
    ///
    /// # Errors
    /// If it cannot be decoded; what is in `out` is right so far.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Undecodable> {
        match self {
            Self::Identity => out.extend_from_slice(bytes),
            Self::Gzip(decoder) => moved(decoder.write_all(bytes), decoder.get_mut(), out)?,
            Self::Deflate(first) => {
                let all: Vec<u8> = first.iter().copied().chain(bytes.iter().copied()).collect();
                let &[one, two, ..] = &all[..] else {
                    *first = all.first().copied();
                    return Ok(());
                };
                // Compression method 8, and a sum of the two bytes that 31 divides (RFC 1950 section 2.2).
                let is_zlib = one & 15 == 8 && u16::from_be_bytes([one, two]).is_multiple_of(31);
                *self = if is_zlib {
                    Self::Zlib(Box::new(ZlibDecoder::new(Vec::new())))
                } else {
                    Self::Raw(Box::new(DeflateDecoder::new(Vec::new())))
                };
                return self.push(&all, out);
            }
            Self::Zlib(decoder) => moved(decoder.write_all(bytes), decoder.get_mut(), out)?,
            Self::Raw(decoder) => moved(decoder.write_all(bytes), decoder.get_mut(), out)?,
            Self::Brotli(decoder) => moved(decoder.write_all(bytes), decoder.get_mut(), out)?,
            Self::Zstd(gathered) => {
                if gathered.len() + bytes.len() > MAX_ZSTD_BYTES {
                    return Err(Undecodable);
                }
                gathered.extend_from_slice(bytes);
            }
        }
        Ok(())
    }

    /// Takes the end.
    ///
    /// # Errors
    /// As [`Decoder::push`]; also of a body that was cut.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Undecodable> {
        let failed = |_| Undecodable;
        match self {
            Self::Identity => {}
            Self::Gzip(decoder) => moved(decoder.try_finish(), decoder.get_mut(), out)?,
            Self::Deflate(_) => return Err(Undecodable),
            Self::Zlib(decoder) => {
                let is_over = is_over(decoder)?;
                moved(decoder.try_finish(), decoder.get_mut(), out)?;
                is_over.then_some(()).ok_or(Undecodable)?;
            }
            Self::Raw(decoder) => {
                let is_over = is_over(decoder)?;
                moved(decoder.try_finish(), decoder.get_mut(), out)?;
                is_over.then_some(()).ok_or(Undecodable)?;
            }
            Self::Brotli(decoder) => moved(decoder.close(), decoder.get_mut(), out)?,
            Self::Zstd(gathered) => {
                use std::io::Read as _;
                let decoder =
                    ruzstd::decoding::StreamingDecoder::new(gathered.as_slice()).map_err(|_| Undecodable)?;
                let before = out.len();
                decoder.take(MAX_ZSTD_BYTES as u64 + 1).read_to_end(out).map_err(failed)?;
                if out.len() - before > MAX_ZSTD_BYTES {
                    return Err(Undecodable);
                }
            }
        }
        Ok(())
    }
}

/// Moves the output of a step to `out`, if the step has succeeded.
fn moved(step: io::Result<()>, decoded: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), Undecodable> {
    step.map_err(|_| Undecodable)?;
    out.append(decoded);
    Ok(())
}

/// Whether a stream of deflate is complete: its decoder accepts nothing behind the end. The decoder itself does not report a
/// truncated stream.
fn is_over(decoder: &mut impl Write) -> Result<bool, Undecodable> {
    decoder.write(&[0]).map(|taken| taken == 0).map_err(|_| Undecodable)
}

/// The decoded bytes of a text, in UTF-8 if a byte order mark says that it is in UTF-16. `None`: it cannot be decoded, or has more
/// than `most` bytes, or does not begin as `is_likely` wants it, which is asked as soon as 16 bytes are there.
pub fn plain<'a>(
    bytes: &'a [u8],
    coding: Option<&str>,
    most: usize,
    is_likely: impl Fn(&[u8]) -> bool,
) -> Option<Cow<'a, [u8]>> {
    let mut decoder = Decoder::of(coding)?;
    if matches!(decoder, Decoder::Identity) {
        let text = utf8(Cow::Borrowed(bytes))?;
        return (text.len() <= most && is_likely(&text)).then_some(text);
    }
    let mut out = Vec::new();
    let mut is_sniffed = false;
    for piece in bytes.chunks(PIECE_BYTES) {
        decoder.push(piece, &mut out).ok()?;
        if out.len() > most {
            return None;
        }
        if !is_sniffed && out.len() >= 16 {
            is_sniffed = true;
            if !has_utf16_mark(&out) && !is_likely(&out) {
                return None;
            }
        }
    }
    decoder.finish(&mut out).ok()?;
    let text = utf8(Cow::Owned(out))?;
    (text.len() <= most && is_likely(&text)).then_some(text)
}

fn has_utf16_mark(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff")
}

fn utf8(bytes: Cow<'_, [u8]>) -> Option<Cow<'_, [u8]>> {
    if !has_utf16_mark(&bytes) {
        return Some(bytes);
    }
    let is_big = bytes.starts_with(b"\xfe\xff");
    Some(Cow::Owned(from_utf16(&bytes, is_big)?.trim_start_matches('\u{feff}').as_bytes().to_vec()))
}

/// A text in UTF-16, byte order mark included; `None`: it is not UTF-16.
pub fn from_utf16(bytes: &[u8], is_big: bool) -> Option<String> {
    let (pairs, []) = bytes.as_chunks::<2>() else { return None };
    let unit = |pair: &[u8; 2]| if is_big { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) };
    char::decode_utf16(pairs.iter().map(unit)).collect::<Result<String, _>>().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::Compression;
    use flate2::read::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        GzEncoder::new(text, Compression::best()).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn texts_are_plain_whatever_their_coding() {
        let text = b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na.ts\n";
        let is_likely = |text: &[u8]| text.starts_with(b"#EXTM3U");
        let of = |bytes: &[u8], coding| plain(bytes, coding, 1000, is_likely).map(Cow::into_owned);
        let mut zlib = Vec::new();
        ZlibEncoder::new(&text[..], Compression::fast()).read_to_end(&mut zlib).unwrap();
        let mut raw = Vec::new();
        DeflateEncoder::new(&text[..], Compression::fast()).read_to_end(&mut raw).unwrap();
        // Two members are one text (RFC 1952 section 2.2).
        let two = [gzip(&text[..9]), gzip(&text[9..])].concat();
        let utf16: Vec<u8> = std::iter::once(0xfeff)
            .chain(text.iter().map(|it| u16::from(*it)))
            .flat_map(u16::to_be_bytes)
            .collect();
        for (bytes, coding) in [
            (text.to_vec(), None),
            (text.to_vec(), Some("identity")),
            (gzip(text), Some("gzip")),
            (gzip(text), Some(" X-GZIP")),
            (two, Some("gzip")),
            (zlib, Some("deflate")),
            (raw, Some("Deflate")),
            (utf16.clone(), None),
            (gzip(&utf16), Some("gzip")),
        ] {
            assert_eq!(of(&bytes, coding).as_deref(), Some(&text[..]), "{coding:?}");
        }
        let by_bytes = |coding| {
            let (mut decoder, mut out) = (Decoder::of(Some(coding)).unwrap(), Vec::new());
            let mut bytes = Vec::new();
            ZlibEncoder::new(&text[..], Compression::fast()).read_to_end(&mut bytes).unwrap();
            bytes.iter().for_each(|byte| decoder.push(&[*byte], &mut out).unwrap());
            decoder.finish(&mut out).unwrap();
            out
        };
        assert_eq!(by_bytes("deflate"), text);
        let whole = gzip(text);
        for (bytes, coding) in [
            (text.to_vec(), Some("gzip")),
            (whole[..whole.len() - 1].to_vec(), Some("gzip")),
            (whole, Some("compress")),
            (vec![0x78], Some("deflate")),
            (gzip(b"{}"), Some("gzip")),
            (gzip(&[&text[..], &[b'\n'; 1000]].concat()), Some("gzip")),
            ([&text[..], &[b'\n'; 1000]].concat(), None),
            (utf16[..utf16.len() - 1].to_vec(), None),
        ] {
            assert_eq!(of(&bytes, coding), None, "{coding:?}");
        }
    }

    #[test]
    fn a_body_that_was_cut_is_not_decoded() {
        let text = b"#EXTM3U\n".repeat(100);
        let mut zlib = Vec::new();
        ZlibEncoder::new(&text[..], Compression::fast()).read_to_end(&mut zlib).unwrap();
        let mut raw = Vec::new();
        DeflateEncoder::new(&text[..], Compression::fast()).read_to_end(&mut raw).unwrap();
        for (coding, bytes) in [("gzip", gzip(&text)), ("deflate", zlib), ("deflate", raw)] {
            for cut in 0..bytes.len() {
                let (mut decoder, mut out) = (Decoder::of(Some(coding)).unwrap(), Vec::new());
                decoder.push(&bytes[..cut], &mut out).unwrap();
                assert_eq!(decoder.finish(&mut out), Err(Undecodable), "{coding}: {cut} bytes");
            }
            let (mut decoder, mut out) = (Decoder::of(Some(coding)).unwrap(), Vec::new());
            for piece in bytes.chunks(7) {
                decoder.push(piece, &mut out).unwrap();
            }
            decoder.finish(&mut out).unwrap();
            assert_eq!(out, text, "{coding}");
        }
    }

    #[test]
    fn a_zstd_document_is_gathered_up_to_its_limit() {
        let mut decoder = Decoder::of(Some(" ZSTD ")).unwrap();
        let mut out = Vec::new();
        decoder.push(&vec![0; MAX_ZSTD_BYTES - 1], &mut out).unwrap();
        decoder.push(b"0", &mut out).unwrap();
        assert_eq!(decoder.push(b"0", &mut out), Err(Undecodable));
        assert!(out.is_empty() && decoder.finish(&mut out).is_err());
    }

    #[test]
    fn what_is_no_such_text_is_not_decoded_to_its_end() {
        let bytes = gzip(&vec![b'{'; 64 << 20]);
        let asked = std::cell::Cell::new(0);
        let is_likely = |text: &[u8]| {
            asked.set(text.len());
            false
        };
        assert_eq!(plain(&bytes, Some("gzip"), usize::MAX, is_likely), None);
        assert!((16..4 << 20).contains(&asked.get()), "{}", asked.get());
    }
}
