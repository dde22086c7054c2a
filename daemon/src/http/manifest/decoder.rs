//! Content codings of manifests, undone piece by piece.

use std::io::Write as _;

use flate2::write::{MultiGzDecoder, ZlibDecoder};

use super::Rewriting;

/// Undoes a content coding.
pub(super) enum Decoder {
    Identity,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zlib(Box<ZlibDecoder<Vec<u8>>>),
    Brotli(Box<brotli_decompressor::DecompressorWriter<Vec<u8>>>),
    /// Decoded at its end.
    Zstd(Vec<u8>),
}

/// Bytes of a zstd document that are gathered, and of what it becomes.
const MAX_ZSTD_BYTES: usize = 4 << 20;

impl Decoder {
    pub(super) fn of(coding: Option<&str>) -> Option<Self> {
        Some(match coding.map(|it| it.trim().to_ascii_lowercase()).as_deref() {
            None | Some("" | "identity") => Self::Identity,
            Some("gzip" | "x-gzip") => Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            Some("deflate") => Self::Zlib(Box::new(ZlibDecoder::new(Vec::new()))),
            Some("br") => {
                Self::Brotli(Box::new(brotli_decompressor::DecompressorWriter::new(Vec::new(), 4096)))
            }
            Some("zstd") => Self::Zstd(Vec::new()),
            Some(_) => return None,
        })
    }

    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Rewriting> {
        let failed = |_| Rewriting::Coding;
        match self {
            Self::Identity => out.extend_from_slice(bytes),
            Self::Gzip(decoder) => {
                decoder.write_all(bytes).map_err(failed)?;
                out.append(decoder.get_mut());
            }
            Self::Zlib(decoder) => {
                decoder.write_all(bytes).map_err(failed)?;
                out.append(decoder.get_mut());
            }
            Self::Brotli(decoder) => {
                decoder.write_all(bytes).map_err(failed)?;
                out.append(decoder.get_mut());
            }
            Self::Zstd(gathered) => {
                if gathered.len() + bytes.len() > MAX_ZSTD_BYTES {
                    return Err(Rewriting::Coding);
                }
                gathered.extend_from_slice(bytes);
            }
        }
        Ok(())
    }

    /// The end: a body that was cut is none.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Rewriting> {
        let failed = |_| Rewriting::Coding;
        match self {
            Self::Identity => {}
            Self::Gzip(decoder) => {
                decoder.try_finish().map_err(failed)?;
                out.append(decoder.get_mut());
            }
            Self::Zlib(decoder) => {
                decoder.try_finish().map_err(failed)?;
                out.append(decoder.get_mut());
            }
            Self::Brotli(decoder) => {
                decoder.close().map_err(failed)?;
                out.append(decoder.get_mut());
            }
            Self::Zstd(gathered) => {
                use std::io::Read as _;
                let decoder = ruzstd::decoding::StreamingDecoder::new(gathered.as_slice())
                    .map_err(|_| Rewriting::Coding)?;
                let before = out.len();
                decoder.take(MAX_ZSTD_BYTES as u64 + 1).read_to_end(out).map_err(failed)?;
                if out.len() - before > MAX_ZSTD_BYTES {
                    return Err(Rewriting::Coding);
                }
            }
        }
        Ok(())
    }
}
