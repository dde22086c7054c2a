//! Mapping of the URLs in manifests to the box: manifests are recognised by content and rewritten as a stream.
//!
//! HLS clients rely on the name and on `#EXTM3U` (RFC 8216 section 4), and origins serve manifests as `text/plain`, `text/xml`
//! or `binary/octet-stream`: so the type decides only where it names a manifest format, and otherwise the first bytes do.
//! Everything except URLs below a route is preserved byte for byte, in any encoding that is a superset of ASCII, and in UTF-16.
//! A manifest that cannot be rewritten is passed on unchanged; the reason is counted and stated in `Cache-Status`.
//!
//! | format | references |
//! |---|---|
//! | HLS playlist | lines without `#`, attributes of tags: quoted, and `URI=` without quotes; variables of EXT-X-DEFINE are substituted where the players' own substitution would not lead to the box |
//! | MPD, patch of one | text and CDATA of elements, attributes; character references are read |
//! | steering manifest, list of interstitials | strings of JSON |

mod recognise;
mod tokens;

pub use recognise::Rewriting;
use recognise::{Charset, is_decisive, sniff};
pub(super) use recognise::{Format, begins, format_of_type, is_named, may_be};
use tokens::Tokens;

use super::urls::UrlMap;
use crate::coding::{self, Decoder, MAX_STEP_BYTES};

carousel::limits! {
    /// One token of a manifest: a line, an element, a string.
    const MAX_TOKEN_BYTES: usize = 256 << 10, "bytes" {
        why: "URLs have up to 8 KB; a longer token is data, such as a key or a picture.",
        full: "The token is passed on as it is.",
        free: "With the next token.",
        test: "any_length_and_tokens_that_are_none",
    }

    /// Variables of EXT-X-DEFINE in one playlist.
    const MAX_VARIABLES: usize = 64, "variables" {
        why: "Playlists define a host and a token.",
        full: "URLs with further ones are passed on as they are.",
        free: "Holds for one document.",
        test: "urls_of_several_variables_lead_to_the_box",
    }

    /// A URL with the values of its variables put in; the name and value of one.
    const MAX_EXPANDED_BYTES: usize = carousel::limits::MAX_URI_BYTES, "bytes" {
        why: "As for the names of objects: a longer URL is refused with 414. A playlist of a few bytes a line could be made gigabytes.",
        full: "The URL is passed on as it is, with its variables; so are URLs with a longer variable.",
        free: "Holds for one URL.",
        test: "urls_with_their_variables_are_bounded",
    }

    /// Manifest in UTF-16.
    const MAX_UTF16_BYTES: usize = 4 << 20, "bytes" {
        why: "It is converted as a whole; manifests have some 100 KB.",
        full: "The manifest is passed on as it is, and counted as `charset`.",
        free: "Holds for one document.",
        test: "documents_that_are_converted_as_a_whole_are_bounded",
    }
}
/// Bytes at the start of a document by which its format is recognised.
pub(super) const SNIFF_BYTES: usize = 4096;
/// Bytes pushed at a time: compressed input may expand a thousandfold.
pub(super) const PIECE_BYTES: usize = 4096;

/// Streaming rewriter of one document.
pub(super) struct Rewriter {
    map: UrlMap,
    decoder: Decoder,
    /// Decoded bytes that are not processed yet.
    pending: Vec<u8>,
    state: State,
}

enum State {
    /// Too few bytes have arrived.
    Sniffing,
    Tokens(Format, Tokens),
    Utf16 {
        format: Format,
        is_big: bool,
        has_mark: bool,
    },
    /// It is not a manifest.
    Verbatim,
}

impl std::fmt::Debug for Rewriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rewriter")
    }
}

impl Rewriter {
    /// A rewriter for a document in this content coding.
    ///
    /// # Errors
    /// `Coding`, if it is unknown.
    pub(super) fn new(coding: Option<&str>, map: UrlMap) -> Result<Self, Rewriting> {
        let decoder = Decoder::of(coding).ok_or(Rewriting::Coding)?;
        Ok(Self { map, decoder, pending: Vec::new(), state: State::Sniffing })
    }

    /// Whether the document is a manifest; `None`: too few bytes have arrived.
    pub(super) const fn is_manifest(&self) -> Option<bool> {
        match self.state {
            State::Sniffing => None,
            State::Tokens(..) | State::Utf16 { .. } => Some(true),
            State::Verbatim => Some(false),
        }
    }

    /// Processes a piece; bytes that are ready are appended to `out`.
    ///
    /// # Errors
    /// If it cannot be decoded; `out` is valid up to there.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Rewriting> {
        let most = self.pending.len() + MAX_STEP_BYTES;
        self.decoder.push(bytes, &mut self.pending, most).map_err(|_| Rewriting::Coding)?;
        if matches!(self.state, State::Sniffing) && is_decisive(&self.pending) {
            self.decide();
        }
        self.advance(out, false)
    }

    /// Processes the end of the document.
    ///
    /// # Errors
    /// As [`Rewriter::push`].
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Rewriting> {
        let most = self.pending.len() + MAX_STEP_BYTES;
        self.decoder.finish(&mut self.pending, most).map_err(|_| Rewriting::Coding)?;
        if matches!(self.state, State::Sniffing) {
            self.decide();
        }
        self.advance(out, true)
    }

    fn decide(&mut self) {
        let start = &self.pending[..self.pending.len().min(SNIFF_BYTES)];
        self.state = match sniff(start) {
            None => State::Verbatim,
            Some((format, Charset::Ascii)) => State::Tokens(format, Tokens::default()),
            Some((format, Charset::Utf16 { is_big, has_mark })) => State::Utf16 { format, is_big, has_mark },
        };
    }

    fn advance(&mut self, out: &mut Vec<u8>, is_end: bool) -> Result<(), Rewriting> {
        match &mut self.state {
            State::Sniffing => {}
            State::Verbatim => out.append(&mut self.pending),
            State::Tokens(format, tokens) => tokens.take(*format, &self.map, &mut self.pending, out, is_end),
            State::Utf16 { format, is_big, has_mark } => {
                if self.pending.len() > MAX_UTF16_BYTES {
                    return Err(Rewriting::Charset);
                }
                if is_end {
                    let mut text =
                        coding::from_utf16(&self.pending, *is_big).ok_or(Rewriting::Charset)?.into_bytes();
                    let mut rewritten = Vec::with_capacity(text.len());
                    let mut tokens = Tokens::default();
                    tokens.take(*format, &self.map, &mut text, &mut rewritten, true);
                    let text = String::from_utf8(rewritten).map_err(|_| Rewriting::Charset)?;
                    debug_assert!(!*has_mark || text.starts_with('\u{feff}'));
                    let bytes = |unit: u16| if *is_big { unit.to_be_bytes() } else { unit.to_le_bytes() };
                    out.extend(text.encode_utf16().flat_map(bytes));
                    self.pending.clear();
                }
            }
        }
        Ok(())
    }
}

/// Rewrites a complete document.
///
/// # Errors
/// If it is a manifest that cannot be rewritten; `Ok(None)`: it is not a manifest.
pub(super) fn rewritten(
    coding: Option<&str>,
    map: UrlMap,
    bytes: &[u8],
) -> Result<Option<Vec<u8>>, Rewriting> {
    let mut rewriter = Rewriter::new(coding, map)?;
    let mut out = Vec::with_capacity(bytes.len());
    for piece in bytes.chunks(PIECE_BYTES) {
        rewriter.push(piece, &mut out)?;
        if rewriter.is_manifest() == Some(false) {
            return Ok(None);
        }
    }
    rewriter.finish(&mut out)?;
    Ok((rewriter.is_manifest() == Some(true)).then_some(out))
}

#[cfg(test)]
mod tests;
