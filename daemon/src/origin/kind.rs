//! Kinds of objects by name and type, which decide default freshness.

use carousel::name::ObjectKey;

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
    let is = |name: &str| essence.eq_ignore_ascii_case(name);
    let is_manifest = extension.eq_ignore_ascii_case("m3u8")
        || extension.eq_ignore_ascii_case("mpd")
        || is("application/vnd.apple.mpegurl")
        || is("application/x-mpegurl")
        || is("application/dash+xml");
    let starts = |prefix: &str| essence.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix));
    if is_manifest {
        MediaKind::Manifest
    } else if SEGMENTS.iter().any(|it| extension.eq_ignore_ascii_case(it))
        || starts("video/")
        || starts("audio/")
    {
        MediaKind::Segment
    } else {
        MediaKind::Other
    }
}

/// Whether a name may be that of media or a manifest; true without an extension.
pub(super) fn may_be_media(key: &ObjectKey) -> bool {
    let path = key.as_str().split(['?', '#']).next().unwrap_or_default();
    let has_extension = path.rsplit('/').next().is_some_and(|name| name.contains('.'));
    !has_extension || media_kind(key, None) != MediaKind::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_name_or_type() {
        let of =
            |name: &str, content_type| media_kind(&ObjectKey::from_name(name, None).unwrap(), content_type);
        assert_eq!(of("h/a.m3u8?x=1.ts", None), MediaKind::Manifest);
        assert_eq!(of("h/a", Some("Application/DASH+xml; charset=utf-8")), MediaKind::Manifest);
        assert_eq!(of("h/seg1.M4S", Some("application/octet-stream")), MediaKind::Segment);
        assert_eq!(of("h/a", Some("video/mp4")), MediaKind::Segment);
        assert_eq!(of("h/a.ts/x", Some("text/plain")), MediaKind::Other);
        let may = |name: &str| may_be_media(&ObjectKey::from_name(name, None).unwrap());
        assert!(may("h/a.ts") && may("h/a.m3u8?x=y.html") && may("h/QualityLevels(1)/Fragments(v=0)"));
        assert!(!may("h/a.html") && !may("h/v1.2/a.png"));
    }
}
