//! Entity mode: objects with leading HTTP header fields (RFC 9223 codepoints 2 and 9; TS 103 769 Annex H), and HTTP/1.1's
//! chunked transfer coding in them (RFC 9112 section 7.1).

use super::package::{field, fields};
use crate::digest::Digest;
use crate::flute::{Encoding, File};
use crate::lct::Toi;

/// An object in entity mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// Description by its fields.
    pub file: File,
    /// Offset of the body.
    pub body_at: usize,
    /// Whether the body is in chunked transfer coding.
    pub is_chunked: bool,
}

impl Entity {
    /// Parses the fields at the beginning of an object. `None` if they are incomplete or malformed.
    pub fn read(toi: Toi, bytes: &[u8]) -> Option<Self> {
        // Skip a status line.
        let status = bytes.starts_with(b"HTTP/").then(|| bytes.iter().position(|&byte| byte == b'\n'));
        let skipped = match status {
            Some(end) => end? + 1,
            None => 0,
        };
        let (fields, length) = fields(bytes.get(skipped..)?)?;
        let text = |name| field(&fields, name);
        let content_length = text("content-length").and_then(|it| it.parse().ok());
        let is_chunked = text("transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked"));
        let file = File {
            content_location: text("content-location").unwrap_or_default().to_owned(),
            toi,
            content_length: content_length.filter(|_| !is_chunked && text("content-encoding").is_none()),
            transfer_length: content_length.filter(|_| !is_chunked),
            content_type: text("content-type").map(str::to_owned),
            encoding: Encoding::from_attribute(text("content-encoding").unwrap_or_default()),
            content_digest: text("content-digest").and_then(Digest::from_field),
            repr_digest: text("repr-digest").and_then(Digest::from_field),
            etag: text("etag").map(str::to_owned),
            ..File::default()
        };
        Some(Self { file, body_at: skipped + length, is_chunked })
    }
}

/// Decodes chunked transfer coding. Returns the body, and the digest of a trailer if there is one. `None` if the coding is
/// damaged or incomplete.
pub fn unchunk(mut bytes: &[u8]) -> Option<(Vec<u8>, Option<Digest>)> {
    let mut body = Vec::with_capacity(bytes.len());
    loop {
        let end = bytes.iter().position(|&byte| byte == b'\n')?;
        let line = std::str::from_utf8(bytes.get(..end)?.trim_ascii_end()).ok()?;
        bytes = bytes.get(end + 1..)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            let trailer = fields(bytes).map(|(fields, _)| fields).unwrap_or_default();
            return Some((body, field(&trailer, "repr-digest").and_then(Digest::from_field)));
        }
        body.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size..)?;
        bytes = bytes.strip_prefix(b"\r\n").or_else(|| bytes.strip_prefix(b"\n"))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_describe_the_object() {
        let digest = Digest::of(b"hello");
        let text = format!(
            "Content-Location: http://h/a.m4s\r\nContent-Length: 5\r\nContent-Type: video/mp4\r\nRepr-Digest: {}\r\n\r\nhello",
            digest.to_field()
        );
        let entity = Entity::read(Toi(3), text.as_bytes()).unwrap();
        assert_eq!(&text.as_bytes()[entity.body_at..], b"hello");
        assert_eq!(
            (entity.file.content_location.as_str(), entity.file.content_length),
            ("http://h/a.m4s", Some(5))
        );
        assert_eq!((entity.file.repr_digest, entity.is_chunked), (Some(digest), false));
        let with_status = format!("HTTP/1.1 200 OK\r\n{text}");
        assert_eq!(Entity::read(Toi(3), with_status.as_bytes()).unwrap().file, entity.file);
        for cut in 0..entity.body_at {
            assert_eq!(Entity::read(Toi(3), &text.as_bytes()[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn chunked_coding_with_extensions_and_trailers() {
        let digest = Digest::of(b"hello world");
        let text =
            format!("5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nRepr-Digest: {}\r\n\r\n", digest.to_field());
        assert_eq!(unchunk(text.as_bytes()), Some((b"hello world".to_vec(), Some(digest))));
        for cut in 0..text.find("0\r\nRepr").unwrap() {
            assert_eq!(unchunk(&text.as_bytes()[..cut]), None, "{cut}");
        }
        assert_eq!(unchunk(b"ffffffffffffffff\r\nx"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in "[0-9a-f;\r\n:A-C]{0,60}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                let _ = (Entity::read(Toi(1), bytes), unchunk(bytes));
            }
        }
    }
}
