//! MIME types by extension, for objects without a type from an FDT or origin.

const TYPES: [(&str, &str); 27] = [
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("mpd", "application/dash+xml"),
    ("m4s", "video/iso.segment"),
    ("mp4", "video/mp4"),
    ("m4v", "video/mp4"),
    ("cmfv", "video/mp4"),
    ("m4a", "audio/mp4"),
    ("cmfa", "audio/mp4"),
    ("cmft", "application/mp4"),
    ("ts", "video/mp2t"),
    ("aac", "audio/aac"),
    ("ac3", "audio/ac3"),
    ("ec3", "audio/eac3"),
    ("mp3", "audio/mpeg"),
    ("vtt", "text/vtt"),
    ("ttml", "application/ttml+xml"),
    ("webm", "video/webm"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("webp", "image/webp"),
    ("html", "text/html; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("json", "application/json"),
    ("xml", "application/xml"),
];

/// The type of an object of this key.
pub(super) fn of(key: &str) -> &'static str {
    let path = key.split(['?', '#']).next().unwrap_or_default();
    let extension = path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |(_, it)| it);
    let found = TYPES.iter().find(|(have, _)| extension.eq_ignore_ascii_case(have));
    found.map_or("application/octet-stream", |(_, mime)| mime)
}

#[cfg(test)]
mod tests {
    #[test]
    fn by_the_end_of_the_path() {
        assert_eq!(super::of("h/a/b.M4S?x=y.mpd"), "video/iso.segment");
        assert_eq!(super::of("h.mpd/x"), "application/octet-stream");
    }
}
