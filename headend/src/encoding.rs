//! Conversion of guides and manifests in any encoding to UTF-8.
//!
//! Detection in this order: byte order mark, zero bytes of UTF-16 without one, XML declaration, UTF-8. A declaration of
//! UTF-16 in a file of single bytes was left unchanged by a converter. Invalid bytes in a UTF-8 file are read as
//! Windows-1252 one by one: grabbers combine texts of several sources in one file.

use std::borrow::Cow;
use std::fmt;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// Bytes searched for the XML declaration.
const DECLARATION_BYTES: usize = 256;

/// An encoding that is not known, by the name that a file declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnknownEncoding(pub(crate) String);

impl fmt::Display for UnknownEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "encoding {:?} is not known", self.0)
    }
}

/// A file's text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) text: String,
    /// Number of invalid places, and the line of the first one, from 1.
    pub(crate) wrong: Option<(u64, u64)>,
    pub(crate) encoding: &'static str,
}

/// Decodes a file.
///
/// # Errors
/// An unknown encoding.
pub(crate) fn decode(bytes: Vec<u8>) -> Result<Decoded, UnknownEncoding> {
    let encoding = encoding_of(&bytes)?;
    if encoding == UTF_8 {
        return Ok(utf8(bytes));
    }
    let (text, _, has_errors) = encoding.decode(&bytes);
    let wrong = has_errors.then(|| {
        let first = text.find('\u{fffd}').unwrap_or(0);
        (text.matches('\u{fffd}').count() as u64, line_of(&text, first))
    });
    Ok(Decoded { text: without_mark(text), wrong, encoding: encoding.name() })
}

/// Text of a manifest, which is nearly always UTF-8 already.
///
/// # Errors
/// An unknown encoding.
pub(crate) fn of_manifest(bytes: &[u8]) -> Result<Cow<'_, str>, UnknownEncoding> {
    let is_wide = bytes.iter().take(2).any(|&byte| byte == 0);
    match std::str::from_utf8(bytes) {
        Ok(text) if !is_wide => Ok(Cow::Borrowed(text)),
        _ => decode(bytes.to_vec()).map(|it| Cow::Owned(it.text)),
    }
}

fn without_mark(text: Cow<'_, str>) -> String {
    match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text.into_owned(),
    }
}

/// The line of a byte, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> u64 {
    1 + text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() as u64
}

fn encoding_of(bytes: &[u8]) -> Result<&'static Encoding, UnknownEncoding> {
    if let Some((encoding, _)) = Encoding::for_bom(bytes) {
        return Ok(encoding);
    }
    match bytes {
        [0, b'<' | b'{' | b'#', ..] => return Ok(UTF_16BE),
        [b'<' | b'{' | b'#', 0, ..] => return Ok(UTF_16LE),
        _ => {}
    }
    let head = &bytes[..bytes.len().min(DECLARATION_BYTES)];
    let declaration = head
        .trim_ascii_start()
        .strip_prefix(b"<?xml")
        .and_then(|rest| rest.windows(2).position(|pair| pair == b"?>").map(|end| &rest[..end]))
        .map(String::from_utf8_lossy);
    let name = declaration.as_deref().and_then(|declaration| {
        let value = declaration.split_once("encoding")?.1.trim_start().strip_prefix('=')?.trim_start();
        value.get(1..)?.split(['"', '\'']).next()
    });
    let Some(name) = name.map(str::trim).filter(|name| !name.is_empty()) else { return Ok(UTF_8) };
    match Encoding::for_label(name.as_bytes()) {
        Some(encoding) if encoding == UTF_16LE || encoding == UTF_16BE => Ok(UTF_8),
        Some(encoding) => Ok(encoding),
        // Unregistered names for UTF-8: "unicode", "utf8mb4".
        None if name.to_ascii_lowercase().contains("utf") || name.eq_ignore_ascii_case("unicode") => {
            Ok(UTF_8)
        }
        // Registered names that browsers do not support: "cp1250", "latin-2".
        None => {
            let short: String =
                name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
            let other = match short.split_at_checked(2) {
                Some(("cp", number)) => format!("windows-{number}"),
                _ => short.replace("latin", "l").replace("iso88590", "iso-8859-"),
            };
            Encoding::for_label(other.as_bytes()).ok_or_else(|| UnknownEncoding(name.to_owned()))
        }
    }
}

fn utf8(bytes: Vec<u8>) -> Decoded {
    let encoding = UTF_8.name();
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return Decoded { text: without_mark(text.into()), wrong: None, encoding },
        Err(err) => err.into_bytes(),
    };
    let (mut text, mut wrong) = (String::with_capacity(bytes.len() + bytes.len() / 8), None);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            let (count, _) = wrong.get_or_insert_with(|| (0, line_of(&text, text.len())));
            *count += 1;
            text.push_str(&WINDOWS_1252.decode_without_bom_handling(chunk.invalid()).0);
        }
    }
    Decoded { text: without_mark(text.into()), wrong, encoding }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> String {
        decode(bytes.to_vec()).unwrap().text
    }

    #[test]
    fn encodings_by_mark_by_zeros_and_by_declaration() {
        let utf16 = |text: &str, is_little: bool| -> Vec<u8> {
            text.encode_utf16()
                .flat_map(|it| if is_little { it.to_le_bytes() } else { it.to_be_bytes() })
                .collect()
        };
        let xml = "<?xml version=\"1.0\" encoding=\"utf-16\"?><tv>Zürich Łódź</tv>";
        for is_little in [true, false] {
            assert_eq!(text(&utf16(xml, is_little)), xml);
            assert_eq!(text(&utf16(&format!("\u{feff}{xml}"), is_little)), xml);
        }
        // A converter that forgot the declaration.
        assert_eq!(text(xml.as_bytes()), xml);
        assert_eq!(text(b"\xef\xbb\xbf<tv/>"), "<tv/>");
        let named = |name: &str, bytes: &[u8]| {
            let mut file = format!("<?xml version='1.0' encoding='{name}'?>").into_bytes();
            file.extend_from_slice(bytes);
            text(&file).split("?>").nth(1).unwrap().to_owned()
        };
        for (name, bytes, right) in [
            ("ISO-8859-1", &b"\x80 Z\xfcrich"[..], "€ Zürich"),
            ("iso-8859-2", b"\xa3\xf3d\xbc", "Łódź"),
            ("windows-1250", b"\xa3\xf3d\x9f", "Łódź"),
            ("cp1250", b"\xa3\xf3d\x9f", "Łódź"),
            ("ISO-8859-15", b"\xa4", "€"),
            ("latin2", b"\xa3", "Ł"),
            ("windows-1251", b"\xcf\xf0\xe8", "При"),
            ("KOI8-R", b"\xf0\xd2\xc9", "При"),
            ("Shift_JIS", b"\x83\x65", "テ"),
            ("Big5", b"\xa4\xa4", "中"),
            ("GB18030", b"\xd6\xd0", "中"),
            ("utf8", "ü".as_bytes(), "ü"),
            ("US-ASCII", b"a", "a"),
        ] {
            assert_eq!(named(name, bytes), right, "{name}");
        }
        assert_eq!(
            decode(b"<?xml version='1.0' encoding='klingon'?>".to_vec()),
            Err(UnknownEncoding("klingon".to_owned()))
        );
    }

    #[test]
    fn manifests_in_utf8_are_not_copied() {
        assert!(matches!(of_manifest("#EXTM3U é".as_bytes()), Ok(Cow::Borrowed("#EXTM3U é"))));
        assert_eq!(of_manifest(b"#EXTM3U \xe9").unwrap(), "#EXTM3U é");
        // The declaration counts only for text that is not UTF-8.
        let xml = "<?xml version='1.0' encoding='ISO-8859-1'?><MPD/><!-- é -->";
        assert_eq!(of_manifest(xml.as_bytes()).unwrap(), xml);
        let wide: Vec<u8> = "#EXTM3U".bytes().flat_map(|byte| [byte, 0]).collect();
        assert_eq!(of_manifest(&wide).unwrap(), "#EXTM3U");
        assert!(of_manifest(b"<?xml version='1.0' encoding='klingon'?>\xe9").is_err());
    }

    #[test]
    fn single_bytes_in_utf8_are_read_and_counted() {
        let decoded = decode(b"<tv>\nZ\xc3\xbcrich\nLatin \xe9t\xe9</tv>".to_vec()).unwrap();
        assert_eq!((decoded.text.as_str(), decoded.wrong), ("<tv>\nZürich\nLatin été</tv>", Some((2, 3))));
    }
}
