//! Kinds of objects by name and type, which decide default freshness.

use carousel::manifest::MAX_MANIFEST_BYTES;
use carousel::name::ObjectKey;
use http::StatusCode;
use http::header::{self, HeaderMap};

use crate::caching::{self, NotKept};
use crate::coding;

/// Kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MediaKind {
    /// HLS playlist or DASH MPD.
    Manifest,
    /// Media.
    Segment,
    /// Anything else.
    Other,
}

/// Kind of an object of this key and type.
pub(super) fn media_kind(key: &ObjectKey, content_type: Option<&str>) -> MediaKind {
    const SEGMENTS: [&str; 12] =
        ["m4s", "mp4", "m4v", "m4a", "cmfv", "cmfa", "cmft", "ts", "aac", "ac3", "webm", "vtt"];
    let path = key.as_str().split(['?', '#']).next().unwrap_or_default();
    let extension = path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |(_, it)| it);
    let essence = content_type.and_then(|it| it.split(';').next()).unwrap_or_default().trim();
    let has_subtype = |name: &str| essence.rsplit('/').next().is_some_and(|it| it.eq_ignore_ascii_case(name));
    let is_manifest = ["m3u8", "m3u", "mpd"].iter().any(|it| extension.eq_ignore_ascii_case(it))
        || ["vnd.apple.mpegurl", "x-mpegurl", "mpegurl", "dash+xml"].iter().any(|it| has_subtype(it));
    // Lists of stations have types of media. A script's segments may have the type of a page: the body tells.
    let is_neither = has_subtype("x-scpls")
        || ["pls", "asx", "wax", "wvx"].iter().any(|it| extension.eq_ignore_ascii_case(it));
    let starts = |prefix: &str| essence.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix));
    if is_manifest {
        MediaKind::Manifest
    } else if is_neither {
        MediaKind::Other
    } else if SEGMENTS.iter().any(|it| extension.eq_ignore_ascii_case(it))
        || starts("video/")
        || starts("audio/")
    {
        MediaKind::Segment
    } else {
        MediaKind::Other
    }
}

/// Whether a response may repeat fields of its request: whatever is not media, by its name and its type. A name alone does not make a
/// page or an error media: a client chooses it.
pub(super) fn may_repeat(key: &ObjectKey, status: StatusCode, fields: &HeaderMap) -> bool {
    let content_type = caching::text(fields, header::CONTENT_TYPE);
    let essence =
        content_type.and_then(|it| it.split(';').next()).unwrap_or_default().trim().to_ascii_lowercase();
    let is_text = essence.starts_with("text/")
        || ["html", "xml", "json", "javascript", "ecmascript"].iter().any(|it| essence.ends_with(it));
    let is_object = matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT);
    is_text || !is_object || media_kind(key, content_type) != MediaKind::Segment
}

/// Whether a name can be that of media, of a manifest or of what a live manifest names beside segments (keys, pictures, captions): any
/// but those of pages, their parts, documents and programs. Packagers invent extensions.
pub(super) fn may_be_media(key: &ObjectKey) -> bool {
    const OTHERS: [&str; 38] = [
        "html",
        "htm",
        "xhtml",
        "shtml",
        "css",
        "js",
        "mjs",
        "map",
        "wasm",
        "ico",
        "svg",
        "woff",
        "woff2",
        "ttf",
        "otf",
        "eot",
        "webmanifest",
        "txt",
        "md",
        "csv",
        "pdf",
        "doc",
        "docx",
        "xls",
        "xlsx",
        "ppt",
        "pptx",
        "rss",
        "atom",
        "zip",
        "gz",
        "tgz",
        "xz",
        "7z",
        "rar",
        "tar",
        "apk",
        "exe",
    ];
    let path = key.as_str().split(['?', '#']).next().unwrap_or_default();
    let extension = path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|it| it.1);
    extension.is_none_or(|extension| !OTHERS.iter().any(|it| extension.eq_ignore_ascii_case(it)))
}

/// Whether a response that says nothing of its freshness may turn out to be a manifest by its content, though neither its type nor its
/// name says so: scripts and file servers leave neutral types.
pub(super) fn may_turn_out_manifest(key: &ObjectKey, fields: &HeaderMap) -> bool {
    let content_type = caching::text(fields, header::CONTENT_TYPE);
    let essence = content_type.and_then(|it| it.split(';').next()).unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    let is_neutral = essence.is_empty()
        || essence.starts_with("text/")
        || ["json", "xml", "octet-stream"].iter().any(|it| essence.ends_with(it));
    let length = caching::text(fields, header::CONTENT_LENGTH).and_then(|it| it.parse::<usize>().ok());
    is_neutral
        && length.is_none_or(|length| length > 0 && length <= MAX_MANIFEST_BYTES)
        && may_be_media(key)
        && media_kind(key, content_type) == MediaKind::Other
}

/// Why a body is not kept whose origin says nothing about its freshness, if it is not what its name and type promise. `is_manifest`: it
/// can be read as one.
pub(super) fn unlike_its_name(
    key: &ObjectKey,
    content_type: Option<&str>,
    coding: Option<&str>,
    body: &[u8],
    is_manifest: bool,
) -> Option<NotKept> {
    if body.is_empty() {
        return Some(NotKept::Incomplete);
    }
    match media_kind(key, content_type) {
        MediaKind::Manifest if body.len() <= MAX_MANIFEST_BYTES => {
            let is_known = coding::Decoder::of(coding).is_some();
            // Lists of stations may have no head.
            let is_list = || key.as_str().split('?').next().is_some_and(|it| it.ends_with(".m3u"));
            (is_known && !is_manifest && !is_list()).then_some(NotKept::NoManifest)
        }
        MediaKind::Segment if coding.is_none() && is_page(content_type, body) => Some(NotKept::NoMedia),
        MediaKind::Segment if coding.is_none() && is_cut(body) => Some(NotKept::Incomplete),
        _ => None,
    }
}

/// Whether a body is a page, by its type and its beginning.
fn is_page(content_type: Option<&str>, body: &[u8]) -> bool {
    let essence = content_type.and_then(|it| it.split(';').next()).unwrap_or_default().trim();
    let has_type = ["text/html", "application/xhtml+xml"].iter().any(|it| essence.eq_ignore_ascii_case(it));
    has_type && body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start().starts_with(b"<")
}

/// Whether a file of boxes (ISO/IEC 14496-12 clause 4.2) or of packets of a transport stream ends within one of them.
fn is_cut(body: &[u8]) -> bool {
    const FIRST: [&[u8]; 8] = [b"ftyp", b"styp", b"moof", b"moov", b"sidx", b"emsg", b"prft", b"ssix"];
    const PACKET: usize = 188;
    if body.first() == Some(&0x47) && body.get(PACKET) == Some(&0x47) {
        return !body.len().is_multiple_of(PACKET);
    }
    if body.get(4..8).is_none_or(|kind| !FIRST.contains(&kind)) {
        return false;
    }
    let mut rest = body;
    while let Some((head, _)) = rest.split_first_chunk::<4>() {
        let large = || rest.get(8..16).and_then(|it| it.try_into().ok()).map(u64::from_be_bytes);
        let length = match u32::from_be_bytes(*head) {
            // To the end of the file.
            0 => return false,
            1 => large(),
            length => Some(u64::from(length)),
        };
        match length.map(usize::try_from) {
            None => return true,
            // Not a box.
            Some(Ok(length)) if length < 8 => return false,
            Some(Ok(length)) if length <= rest.len() => rest = &rest[length..],
            _ => return true,
        }
    }
    !rest.is_empty()
}

#[cfg(test)]
mod tests {
    use carousel::manifest::Manifest;

    use http::HeaderValue;

    use super::*;
    use crate::manifests;

    #[test]
    fn kinds_by_name_or_type() {
        let of =
            |name: &str, content_type| media_kind(&ObjectKey::from_name(name, None).unwrap(), content_type);
        assert_eq!(of("h/a.m3u8?x=1.ts", None), MediaKind::Manifest);
        assert_eq!(of("h/a", Some("Application/DASH+xml; charset=utf-8")), MediaKind::Manifest);
        assert_eq!(of("h/seg1.M4S", Some("application/octet-stream")), MediaKind::Segment);
        assert_eq!(of("h/a", Some("video/mp4")), MediaKind::Segment);
        assert_eq!(of("h/a.ts/x", Some("text/plain")), MediaKind::Other);
        assert_eq!(
            of("h/a.ts", Some("text/html; charset=utf-8")),
            MediaKind::Segment,
            "scripts name their type so"
        );
        assert_eq!(of("h/a.m3u8", Some("text/html")), MediaKind::Manifest, "as do those of manifests");
        assert_eq!(of("h/a", Some("audio/x-mpegurl")), MediaKind::Manifest);
        let repeats = |name: &str, status: u16, content_type: Option<&'static str>| {
            let fields = content_type.map(|it| (header::CONTENT_TYPE, HeaderValue::from_static(it)));
            let status = StatusCode::from_u16(status).unwrap();
            may_repeat(&ObjectKey::from_name(name, None).unwrap(), status, &fields.into_iter().collect())
        };
        assert!(!repeats("h/a.ts", 200, None) && !repeats("h/a.ts", 206, Some("application/octet-stream")));
        assert!(!repeats("h/a", 200, Some("video/MP2T")) && !repeats("h/a.m4s", 200, Some("audio/mp4")));
        for (name, status, content_type) in [
            ("h/a.ts", 404, None),
            ("h/a.ts", 200, Some("text/html; charset=utf-8")),
            ("h/a.m4s", 200, Some("Application/XHTML+XML")),
            ("h/a.mp4", 200, Some("application/json")),
            ("h/a.vtt", 200, Some("text/vtt")),
            ("h/a", 200, None),
            ("h/a.m3u8", 200, None),
        ] {
            assert!(repeats(name, status, content_type), "{name} {status} {content_type:?}");
        }
        assert_eq!(of("h/radio.pls", Some("audio/x-scpls")), MediaKind::Other);
        assert_eq!(of("h/radio.asx", Some("video/x-ms-asf")), MediaKind::Other);
        let may = |name: &str| may_be_media(&ObjectKey::from_name(name, None).unwrap());
        assert!(may("h/a.ts") && may("h/a.m3u8?x=y.html") && may("h/QualityLevels(1)/Fragments(v=0)"));
        for name in
            "a.key 4.JPG t.png a.dash a.m4i a.mp4a a.cmfm a.opus a.m4f a.fmp4 a.chk a.imsc1 a.ismv 1.0.seg"
                .split(' ')
        {
            assert!(may(&format!("h/v1.2/{name}")), "{name}");
        }
        assert!(!may("h/a.html") && !may("h/v1.2/app.JS") && !may("favicon.host/a.ico?x=.ts"));
    }

    #[test]
    fn bodies_that_are_not_what_they_are_called() {
        let unlike = |name: &str, content_type: Option<&str>, coding: Option<&str>, body: &[u8]| {
            let text = manifests::plain(body, coding);
            let is_manifest = text.is_some_and(|text| Manifest::read(&text).is_some());
            let key = ObjectKey::from_name(name, None).unwrap();
            unlike_its_name(&key, content_type, coding, body, is_manifest)
        };
        let of = |name: &str, body: &[u8]| unlike(name, None, None, body);
        let (incomplete, none) = (Some(NotKept::Incomplete), Some(NotKept::NoManifest));
        for name in ["h/a.m3u8", "h/a.ts", "h/i.mp4", "h/a"] {
            assert_eq!(of(name, b""), incomplete, "{name}");
        }
        assert_eq!(of("h/a.m3u8", b"<html>"), none);
        assert_eq!(of("h/a.mpd", b"please wait"), none);
        assert_eq!(of("h/a.m3u8", b"#EXTM3U\n"), None);
        assert_eq!(of("h/a.mpd", b"<MPD/>"), None);
        let other_coding = unlike("h/a.m3u8", None, Some("compress"), b"\x28");
        assert_eq!(other_coding, None, "not to be read, so not to be judged");
        let utf16: Vec<u8> = "\u{feff}#EXTM3U\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!((of("h/a.m3u8", &utf16), of("h/radio.m3u", b"http://h/a.mp3\n")), (None, None));
        let typed = |body: &[u8]| unlike("h/a.ts", Some("text/html; x"), None, body);
        assert_eq!((typed(b"\n<!doctype html>"), typed(&[0x47; 188])), (Some(NotKept::NoMedia), None));

        let boxes: Vec<u8> =
            [b"\0\0\0\x0cstypiso6".as_slice(), b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x12xy", b"\0\0\0\x08free"]
                .concat();
        let ends = [12, 30, 38];
        for length in 1..=boxes.len() {
            let is_whole = ends.contains(&length) || length < 8;
            assert_eq!(of("h/s.m4s", &boxes[..length]), if is_whole { None } else { incomplete }, "{length}");
        }
        assert_eq!(of("h/s.mp4", b"\0\0\0\x08moof\0\0\0\0mdat and so on"), None, "to the end of the file");
        assert_eq!(of("h/s.mp4", b"\0\0\0\x08moof\0\0\0\x02what"), None, "no boxes");
        let mut packets = vec![0; 188 * 3];
        (packets[0], packets[188], packets[376]) = (0x47, 0x47, 0x47);
        assert_eq!(of("h/s.ts", &packets), None);
        assert_eq!(of("h/s.ts", &packets[..500]), incomplete);
        assert_eq!(of("h/s.ts", &packets[..100]), None, "no packet is whole: it may be anything");
    }
}
