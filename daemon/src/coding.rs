//! Decoding of manifests' content codings (RFC 9110 section 8.4.1, RFC 8878), piece by piece.

use std::borrow::Cow;
use std::io::{self, Read as _, Write};

use brotli_decompressor::DecompressorWriter;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// Bytes pushed at a time until the beginning of a text is there to be judged: deflate makes 1 MiB of them at most.
const PIECE_BYTES: usize = 1024;
/// Bytes pushed at a time if only a limit stops the decoder.
const LONG_PIECE_BYTES: usize = 64 << 10;
/// Window of a frame in zstd, which the decoder holds: what RFC 9659 section 3 allows for a content coding.
const ZSTD_WINDOW_BYTES: u64 = 8 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undecodable {
    /// An unknown coding, or invalid bytes.
    Invalid,
    /// There is more than the caller's limit, or than [`MAX_ZSTD_BYTES`]. What is in `out` is right, and has as many bytes as may
    /// be.
    TooLong,
}

/// Output of a decoder. At its limit it fails, which stops the decoder within what it decodes at a time: 32 KiB, of brotli a
/// window of up to 16 MiB. A few bytes of input can become any number.
#[derive(Debug, Default)]
pub struct Bounded {
    bytes: Vec<u8>,
    room: usize,
    is_over: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.room);
        if taken == 0 && !bytes.is_empty() {
            self.is_over = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(&bytes[..taken]);
        self.room -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decoder of one body.
pub enum Decoder {
    Identity,
    /// RFC 1952, of one or more members.
    Gzip(Box<MultiGzDecoder<Bounded>>),
    /// By the name `deflate`; the first byte decides.
    Deflate(Option<u8>),
    /// RFC 1950.
    Zlib(Box<ZlibDecoder<Bounded>>),
    /// Raw RFC 1951, which some servers send as `deflate` and browsers accept (RFC 9110 section 8.4.1.2).
    Raw(Box<DeflateDecoder<Bounded>>),
    /// RFC 7932.
    Brotli(Box<DecompressorWriter<Bounded>>),
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

    /// Decoded length of one piece of 4 KiB of a compressed document.
    pub const MAX_STEP_BYTES: usize = 8 << 20, "bytes" {
        why: "Deflate makes 4 MiB of it at most. Brotli makes 16 MiB of 13 bytes.",
        full: "The document is passed on as it is; of a manifest that leads to a route it is counted as `coding`.",
        free: "With the next piece.",
        test: "what_one_piece_of_a_document_becomes_is_bounded",
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
            Some("gzip" | "x-gzip") => Self::Gzip(Box::new(MultiGzDecoder::new(Bounded::default()))),
            Some("deflate") => Self::Deflate(None),
            Some("br") => Self::Brotli(Box::new(DecompressorWriter::new(Bounded::default(), 4096))),
            Some("zstd") => Self::Zstd(Vec::new()),
            Some(_) => return None,
        })
    }

    /// Takes a piece, and adds what is decoded to `out`, until that has `most` bytes: not necessarily all that it could.
    ///
    /// # Errors
    /// If it cannot be decoded, or becomes too long; what is in `out` is right so far.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>, most: usize) -> Result<(), Undecodable> {
        match self {
            Self::Identity => {
                let taken = bytes.len().min(most.saturating_sub(out.len()));
                out.extend_from_slice(&bytes[..taken]);
                if taken < bytes.len() {
                    return Err(Undecodable::TooLong);
                }
            }
            Self::Gzip(it) => step(&mut **it, MultiGzDecoder::get_mut, |it| it.write_all(bytes), out, most)?,
            Self::Deflate(first) => {
                let all: Vec<u8> = first.iter().copied().chain(bytes.iter().copied()).collect();
                let &[one, two, ..] = &all[..] else {
                    *first = all.first().copied();
                    return Ok(());
                };
                // Compression method 8, and a sum of the two bytes that 31 divides (RFC 1950 section 2.2).
                let is_zlib = one & 15 == 8 && u16::from_be_bytes([one, two]).is_multiple_of(31);
                *self = if is_zlib {
                    Self::Zlib(Box::new(ZlibDecoder::new(Bounded::default())))
                } else {
                    Self::Raw(Box::new(DeflateDecoder::new(Bounded::default())))
                };
                return self.push(&all, out, most);
            }
            Self::Zlib(it) => step(&mut **it, ZlibDecoder::get_mut, |it| it.write_all(bytes), out, most)?,
            Self::Raw(it) => step(&mut **it, DeflateDecoder::get_mut, |it| it.write_all(bytes), out, most)?,
            Self::Brotli(it) => {
                step(&mut **it, DecompressorWriter::get_mut, |it| it.write_all(bytes), out, most)?;
            }
            Self::Zstd(gathered) => {
                if gathered.len() + bytes.len() > MAX_ZSTD_BYTES {
                    return Err(Undecodable::TooLong);
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
    pub fn finish(&mut self, out: &mut Vec<u8>, most: usize) -> Result<(), Undecodable> {
        match self {
            Self::Identity => Ok(()),
            Self::Gzip(it) => step(&mut **it, MultiGzDecoder::get_mut, MultiGzDecoder::try_finish, out, most),
            Self::Deflate(_) => Err(Undecodable::Invalid),
            Self::Zlib(it) => {
                let end = |it: &mut ZlibDecoder<Bounded>| expect_whole(it).and_then(|()| it.try_finish());
                step(&mut **it, ZlibDecoder::get_mut, end, out, most)
            }
            Self::Raw(it) => {
                let end = |it: &mut DeflateDecoder<Bounded>| expect_whole(it).and_then(|()| it.try_finish());
                step(&mut **it, DeflateDecoder::get_mut, end, out, most)
            }
            Self::Brotli(it) => {
                step(&mut **it, DecompressorWriter::get_mut, DecompressorWriter::close, out, most)
            }
            Self::Zstd(gathered) => {
                let most = most.min(out.len().saturating_add(MAX_ZSTD_BYTES));
                unpack_zstd(&mut gathered.as_slice(), out, most)
            }
        }
    }
}

/// A step of a decoder, whose output is moved to `out`, up to `most` bytes there, if it has succeeded or stopped at the limit.
fn step<D>(
    decoder: &mut D,
    output: impl Fn(&mut D) -> &mut Bounded,
    work: impl FnOnce(&mut D) -> io::Result<()>,
    out: &mut Vec<u8>,
    most: usize,
) -> Result<(), Undecodable> {
    output(decoder).room = most.saturating_sub(out.len());
    let done = work(decoder);
    let output = output(decoder);
    // The decoder is given up at an error, and writes what it holds when it is dropped.
    output.room = 0;
    match done {
        Ok(()) => out.append(&mut output.bytes),
        Err(_) if output.is_over => {
            out.append(&mut output.bytes);
            return Err(Undecodable::TooLong);
        }
        Err(_) => return Err(Undecodable::Invalid),
    }
    Ok(())
}

/// An error unless a stream of deflate is complete: its decoder accepts nothing behind the end. The decoder itself does not report
/// a truncated stream.
fn expect_whole(decoder: &mut impl Write) -> io::Result<()> {
    if decoder.write(&[0])? == 0 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Decodes frames of zstd until `out` has `most` bytes. The decoder is a window and a block ahead: what it has decoded is bounded by
/// `most` and some 8 MiB.
fn unpack_zstd(frames: &mut &[u8], out: &mut Vec<u8>, most: usize) -> Result<(), Undecodable> {
    let mut decoder = ruzstd::decoding::FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW_BYTES);
    let mut has_one = false;
    loop {
        // Skippable frames (RFC 8878 section 3.1.2).
        while let [0x50..=0x5f, 0x2a, 0x4d, 0x18, one, two, three, four, rest @ ..] = *frames {
            let length = u32::from_le_bytes([*one, *two, *three, *four]) as usize;
            *frames = rest.get(length..).ok_or(Undecodable::Invalid)?;
        }
        if has_one && frames.is_empty() {
            return Ok(());
        }
        has_one = true;
        let frame = ruzstd::decoding::StreamingDecoder::new_with_decoder(&mut *frames, &mut decoder);
        let room = (most.saturating_sub(out.len()) as u64).saturating_add(1);
        let read = frame.map_err(|_| Undecodable::Invalid)?.take(room).read_to_end(out);
        read.map_err(|_| Undecodable::Invalid)?;
        if out.len() > most {
            out.truncate(most);
            return Err(Undecodable::TooLong);
        }
    }
}

/// The beginning of a body, decoded: its first `most` bytes.
///
/// # Errors
/// `Invalid`: its coding is unknown, or it cannot be decoded.
pub fn beginning<'a>(
    bytes: &'a [u8],
    coding: Option<&str>,
    most: usize,
) -> Result<Cow<'a, [u8]>, Undecodable> {
    let mut out = Vec::new();
    let decoded = match Decoder::of(coding).ok_or(Undecodable::Invalid)? {
        Decoder::Identity => return Ok(Cow::Borrowed(&bytes[..bytes.len().min(most)])),
        Decoder::Zstd(_) => unpack_zstd(&mut { bytes }, &mut out, most),
        mut decoder => bytes
            .chunks(LONG_PIECE_BYTES)
            .try_for_each(|piece| decoder.push(piece, &mut out, most))
            .and_then(|()| decoder.finish(&mut out, most)),
    };
    match decoded {
        Ok(()) | Err(Undecodable::TooLong) => Ok(Cow::Owned(out)),
        Err(Undecodable::Invalid) => Err(Undecodable::Invalid),
    }
}

/// The decoded bytes of a text, in UTF-8 if it is in UTF-16 by its mark or its first character. `None`: it cannot be decoded, or has more
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
        decoder.push(piece, &mut out, most).ok()?;
        if !is_sniffed && out.len() >= 16 {
            is_sniffed = true;
            if utf16_order(&out).is_none() && !is_likely(&out) {
                return None;
            }
        }
    }
    decoder.finish(&mut out, most).ok()?;
    let text = utf8(Cow::Owned(out))?;
    (text.len() <= most && is_likely(&text)).then_some(text)
}

/// Whether a text is in UTF-16, and its order (true: big-endian), by its mark or by its first character, which is ASCII in manifests
/// (XML 1.0 appendix F). `None`: it is not.
fn utf16_order(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [0xfe, 0xff, ..] | [0, b'#' | b'<' | b'{', 0, ..] => Some(true),
        [0xff, 0xfe, ..] | [b'#' | b'<' | b'{', 0, _, 0, ..] => Some(false),
        _ => None,
    }
}

fn utf8(bytes: Cow<'_, [u8]>) -> Option<Cow<'_, [u8]>> {
    let Some(is_big) = utf16_order(&bytes) else { return Some(bytes) };
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
    use flate2::Compression;
    use flate2::read::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::bombs::{ZSTD_BLOCK_BYTES, bombs, zstd};
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
            bytes.iter().for_each(|byte| decoder.push(&[*byte], &mut out, 1000).unwrap());
            decoder.finish(&mut out, 1000).unwrap();
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
                decoder.push(&bytes[..cut], &mut out, 1000).unwrap();
                assert_eq!(
                    decoder.finish(&mut out, 1000),
                    Err(Undecodable::Invalid),
                    "{coding}: {cut} bytes"
                );
            }
            let (mut decoder, mut out) = (Decoder::of(Some(coding)).unwrap(), Vec::new());
            for piece in bytes.chunks(7) {
                decoder.push(piece, &mut out, 1000).unwrap();
            }
            decoder.finish(&mut out, 1000).unwrap();
            assert_eq!(out, text, "{coding}");
        }
    }

    #[test]
    fn a_zstd_document_is_gathered_up_to_its_limit() {
        let mut decoder = Decoder::of(Some(" ZSTD ")).unwrap();
        let mut out = Vec::new();
        decoder.push(&vec![0; MAX_ZSTD_BYTES - 1], &mut out, 1000).unwrap();
        decoder.push(b"0", &mut out, 1000).unwrap();
        assert_eq!(decoder.push(b"0", &mut out, 1000), Err(Undecodable::TooLong));
        assert!(out.is_empty() && decoder.finish(&mut out, 1000).is_err());
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

    #[test]
    fn bombs_stop_at_the_limit_in_every_coding() {
        const MOST: usize = 100_000;
        let small = gzip(b"as it is");
        assert_eq!(beginning(&small, Some("gzip"), 8).unwrap(), &b"as it is"[..]);
        assert_eq!(beginning(&small, Some("gzip"), 5).unwrap(), &b"as it"[..]);
        assert_eq!(beginning(b"as it is", None, 5).unwrap(), &b"as it"[..]);
        assert_eq!(beginning(&small[..9], Some("gzip"), 5), Err(Undecodable::Invalid));
        for (coding, bytes) in bombs() {
            assert_eq!(beginning(&bytes, Some(coding), MOST).unwrap().len(), MOST, "{coding}");
            assert_eq!(plain(&bytes, Some(coding), MOST, |_| true), None, "{coding}");
            let (mut decoder, mut out) = (Decoder::of(Some(coding)).unwrap(), b"before".to_vec());
            let pushed = bytes.chunks(4096).try_for_each(|piece| decoder.push(piece, &mut out, MOST));
            let done = pushed.and_then(|()| decoder.finish(&mut out, MOST));
            assert_eq!((done, out.len()), (Err(Undecodable::TooLong), MOST), "{coding}");
            let held = match &mut decoder {
                Decoder::Gzip(it) => it.get_mut().bytes.capacity(),
                Decoder::Zlib(it) => it.get_mut().bytes.capacity(),
                Decoder::Raw(it) => it.get_mut().bytes.capacity(),
                Decoder::Brotli(it) => it.get_mut().bytes.capacity(),
                Decoder::Zstd(gathered) => gathered.capacity(),
                Decoder::Identity | Decoder::Deflate(_) => panic!("{coding}"),
            };
            assert!(held <= MOST * 2, "{coding}: {held} bytes held");
        }
    }

    #[test]
    fn frames_of_zstd_are_read_one_after_the_other_up_to_the_limit() {
        let (one, two) = (zstd(3, 0x68), zstd(2, 0x50));
        let skipped = [0x5a, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 7, 7];
        let both = [&skipped[..], &one, &skipped, &two].concat();
        let noted = [&both[..], &skipped].concat();
        assert_eq!(beginning(&noted, Some("zstd"), usize::MAX), beginning(&both, Some("zstd"), usize::MAX));
        let whole = beginning(&both, Some("zstd"), usize::MAX).unwrap().into_owned();
        assert_eq!(whole.len(), 5 * ZSTD_BLOCK_BYTES);
        assert_eq!(beginning(&both[..both.len() - 1], Some("zstd"), usize::MAX), Err(Undecodable::Invalid));
        // What the decoder has read of a bomb tells how much it has decoded: 4 bytes of the source are 128 KiB.
        let bomb = zstd(10_000, 0x68);
        let (mut rest, mut out) = (bomb.as_slice(), Vec::new());
        assert_eq!(unpack_zstd(&mut rest, &mut out, 1 << 20), Err(Undecodable::TooLong));
        let decoded = (bomb.len() - rest.len()) / 4 * ZSTD_BLOCK_BYTES;
        assert!(decoded <= (10 << 20) && out.len() == 1 << 20, "{decoded} bytes decoded");
        // A window of 16 MiB.
        assert_eq!(beginning(&zstd(1, 0x70), Some("zstd"), 10), Err(Undecodable::Invalid));
    }
}

/// Short bodies that become very long.
#[cfg(test)]
pub(crate) mod bombs {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    pub(crate) const ZSTD_BLOCK_BYTES: usize = 128 << 10;

    /// Codings, and bodies that become at least 60 MiB.
    pub(crate) fn bombs() -> Vec<(&'static str, Vec<u8>)> {
        let zeros = vec![0; 64 << 20];
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&zeros).unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(&zeros).unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(&zeros).unwrap();
        vec![
            ("gzip", gzip.finish().unwrap()),
            ("deflate", zlib.finish().unwrap()),
            ("deflate", raw.finish().unwrap()),
            ("br", brotli(4)),
            ("zstd", zstd(500, 0x68)),
        ]
    }

    /// A frame of blocks of the letter z (RFC 8878 section 3.1.1), each a run of 128 KiB in 4 bytes.
    pub(crate) fn zstd(blocks: u32, window: u8) -> Vec<u8> {
        let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0, window];
        for index in 1..=blocks {
            let header = (128u32 << 10) << 3 | 1 << 1 | u32::from(index == blocks);
            out.extend_from_slice(&header.to_le_bytes()[..3]);
            out.push(b'z');
        }
        out
    }

    /// Meta-blocks of 16 MiB of the letter z (RFC 7932 section 9.2), each in 13 bytes.
    pub(crate) fn brotli(blocks: usize) -> Vec<u8> {
        const BLOCK_BYTES: u64 = 16 << 20;
        let (mut out, mut held, mut count) = (Vec::new(), 0u64, 0);
        let mut put = |bits: u32, value: u64| {
            held |= value << count;
            count += bits;
            while count >= 8 {
                out.push(held as u8);
                held >>= 8;
                count -= 8;
            }
        };
        put(4, 0b1111); // window of 16 MiB
        for _ in 0..blocks {
            put(1, 0); // not the last one
            put(2, 2); // length in six nibbles
            put(24, BLOCK_BYTES - 1);
            put(1, 0); // compressed
            put(3, 0); // one type of block of literals, of commands, of distances
            put(6, 0); // no postfix, no direct distances
            put(2, 0); // context mode
            put(2, 0); // one tree for literals, one for distances
            // Simple prefix codes of one symbol, which takes no bits.
            put(4, 1);
            put(8, u64::from(b'z'));
            put(4, 1);
            put(10, 431); // inserts 5 literals, copies 2118 bytes and more
            put(4, 1);
            put(6, 0); // the last distance: 4 at the beginning
            put(24, BLOCK_BYTES - 5 - 2118);
        }
        put(2, 0b11); // the last one, empty
        put(6, 0);
        out
    }
}
