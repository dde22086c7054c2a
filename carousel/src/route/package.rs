//! Signalling packages: `multipart/related` with S-TSID, MPD and others, compressed or not (RFC 2046 section 5.1, RFC 2387).

use std::ops::Range;

use crate::flute::{Encoding, decode};
use crate::limits;

limits! {
    /// One signalling package, unpacked.
    pub const MAX_PACKAGE_BYTES: u64 = 4 << 20, "bytes" {
        why: "An MPD of a day's timeline has 1 MB; those seen have 5 KB.",
        full: "The package is dropped as `bad_signalling`.",
        free: "Holds for one package.",
        test: "packages_are_bounded",
    }

    /// Parts of one signalling package.
    const MAX_PARTS: usize = 64, "parts" {
        why: "A/331 defines a dozen kinds of documents.",
        full: "Further parts are left out.",
        free: "Holds for one package.",
        test: "packages_are_bounded",
    }

    /// Header fields of a package, of a part of it, or of an object in entity mode.
    const MAX_HEAD_BYTES: usize = 8_192, "bytes" {
        why: "Those seen have 200 bytes; HTTP servers take as many.",
        full: "The package fails as `bad_signalling`, the object as `bad_entity`.",
        free: "Holds for one head.",
        test: "packages_are_bounded",
    }
}

/// One document of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Content-Type without parameters, in lower case.
    pub content_type: String,
    /// Content-Location; empty if there is none.
    pub location: String,
    /// Place of its bytes in the package.
    pub body: Range<usize>,
}

/// Decompresses a package; compression is recognised by its first bytes. `None` if it is damaged or too large.
pub fn unpack(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Some(bytes.to_vec()).filter(|it| it.len() as u64 <= MAX_PACKAGE_BYTES);
    }
    // One byte beyond the limit is an error as well.
    decode(&Encoding::Gzip, bytes, Some(MAX_PACKAGE_BYTES)).ok().flatten()
}

/// Parses the header fields at the beginning of `bytes`, with lower-case names; also returns the offset of the body.
pub(super) fn fields(bytes: &[u8]) -> Option<(Vec<(String, String)>, usize)> {
    let window = bytes.get(..bytes.len().min(MAX_HEAD_BYTES))?;
    let (mut fields, mut at) = (Vec::new(), 0);
    loop {
        let length = window.get(at..)?.iter().position(|&byte| byte == b'\n')?;
        let line = window.get(at..at + length)?.trim_ascii_end();
        at += length + 1;
        if line.is_empty() {
            return Some((fields, at));
        }
        let line = std::str::from_utf8(line).ok()?;
        let (name, value) = line.split_once(':')?;
        fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
}

pub(super) fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
}

/// The parameter of a field's value, without quotes.
fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    value.split(';').skip(1).find_map(|it| {
        let (key, value) = it.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// The parts of an unpacked package; a single document is a part without a name. `None` if it is not a package.
pub fn parts(bytes: &[u8]) -> Option<Vec<Part>> {
    if bytes.trim_ascii_start().starts_with(b"<") {
        return Some(vec![Part {
            content_type: String::new(),
            location: String::new(),
            body: 0..bytes.len(),
        }]);
    }
    let (head, start) = fields(bytes)?;
    let boundary = parameter(field(&head, "content-type")?, "boundary").filter(|it| !it.is_empty())?;
    let delimiter = [b"--", boundary.as_bytes()].concat();
    let find = |from: usize| {
        let rest = bytes.get(from..)?;
        rest.windows(delimiter.len()).position(|it| it == delimiter).map(|at| from + at)
    };
    let mut parts = Vec::new();
    let mut at = find(start)?;
    while parts.len() < MAX_PARTS {
        let behind = at + delimiter.len();
        let rest = bytes.get(behind..)?;
        if rest.starts_with(b"--") {
            break;
        }
        // Skip to the end of the delimiter's line.
        let begin = behind + rest.iter().position(|&byte| byte == b'\n')? + 1;
        let (head, length) = fields(bytes.get(begin..)?)?;
        let body = begin + length;
        let next = find(body)?;
        // The line end before a delimiter belongs to the delimiter.
        let text = bytes.get(body..next)?;
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let kind = field(&head, "content-type").unwrap_or_default();
        parts.push(Part {
            content_type: kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase(),
            location: field(&head, "content-location").unwrap_or_default().to_owned(),
            body: body..body + text.len(),
        });
        at = next;
    }
    Some(parts)
}

/// Writes a package: content type, location and bytes of each part. The boundary is one that none of them contains.
pub fn write(parts: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut number = 0_u32;
    let boundary = loop {
        let boundary = format!("part-boundary-{number}");
        let is_inside = |body: &[u8]| body.windows(boundary.len()).any(|it| it == boundary.as_bytes());
        if !parts.iter().any(|(_, _, body)| is_inside(body)) {
            break boundary;
        }
        number += 1;
    };
    let kind = parts.first().map_or("text/plain", |(kind, ..)| kind);
    let mut out =
        format!("Content-Type: multipart/related; type=\"{kind}\"; boundary=\"{boundary}\"\r\n\r\n")
            .into_bytes();
    for (kind, location, body) in parts {
        let head = format!("--{boundary}\r\nContent-Type: {kind}\r\nContent-Location: {location}\r\n\r\n");
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_package_as_gpac_writes_it() {
        // GPAC 26.08-dev: line feeds alone, a blank line before the closing delimiter.
        let text = "Content-Type: multipart/related; type=\"application/dash+xml\"; boundary=\"_B_.67\"\n\n--_B_.67\n\
                    Content-Type: application/dash+xml\nContent-Location: live.mpd\n\n<MPD/>\n\n--_B_.67\n\
                    Content-Type: application/route-s-tsid+xml\nContent-Location: stsid.xml\n\n<S-TSID/>\n\n--_B_.67--\n";
        let bytes = unpack(&gzip(text.as_bytes())).unwrap();
        let parts = parts(&bytes).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!(
            (parts[0].content_type.as_str(), parts[0].location.as_str()),
            ("application/dash+xml", "live.mpd")
        );
        assert_eq!(&bytes[parts[1].body.clone()], b"<S-TSID/>\n");
    }

    #[test]
    fn packages_are_bounded() {
        assert_eq!(unpack(&gzip(&vec![b' '; MAX_PACKAGE_BYTES as usize + 1])), None);
        assert!(unpack(&gzip(&vec![b' '; MAX_PACKAGE_BYTES as usize])).is_some());
        let body: &[u8] = b"x";
        let many = write(&vec![("text/plain", "a", body); MAX_PARTS + 10]);
        assert_eq!(parts(&many).unwrap().len(), MAX_PARTS);
        assert_eq!(fields(&vec![b'a'; 2 * MAX_HEAD_BYTES]), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..6)) {
            let all: Vec<(&str, &str, &[u8])> = bodies.iter().map(|it| ("a/b", "x.mpd", &it[..])).collect();
            let bytes = write(&all);
            let parts = parts(&bytes).unwrap();
            let got: Vec<&[u8]> = parts.iter().map(|it| &bytes[it.body.clone()]).collect();
            prop_assert_eq!(got, bodies.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "(Content-Type: a; boundary=b\n\n)?(--b(--)?\n|a: b\n|\n|x){0,20}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                let _ = unpack(bytes);
                for part in parts(bytes).unwrap_or_default() {
                    prop_assert!(bytes.get(part.body).is_some());
                }
            }
        }
    }
}
