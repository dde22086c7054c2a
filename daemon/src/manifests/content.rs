//! Content of manifests in the cache: the decoded text, the segments that it lists, and those after another.

use std::borrow::Cow;
use std::sync::Arc;

use carousel::manifest::{self, MAX_MANIFEST_BYTES, Manifest};
use carousel::name::ObjectKey;

use super::names::url_of;
use crate::coding;
use crate::store::{LiveFacts, ObjectMeta, StoredObject};

/// Segments at the end of each list that are checked: older ones have arrived, or will not.
pub(super) const EDGE: usize = 8;

/// Whether a live manifest can be played: one of its last segments is here, or it lists none because their names follow
/// from the time.
pub fn is_playable(object: &Arc<StoredObject>, is_here: &dyn Fn(&str) -> bool) -> bool {
    let meta = object.meta();
    object.bytes(0..meta.length).is_none_or(|bytes| has_some(&bytes, &meta.key, is_here))
}

pub(super) fn has_some(bytes: &[u8], manifest: &ObjectKey, is_here: &dyn Fn(&str) -> bool) -> bool {
    let edges = edges(bytes, manifest);
    edges.iter().all(Vec::is_empty) || edges.iter().flatten().any(|it| is_here(it.as_str()))
}

/// The last segments of each list of a manifest.
pub(super) fn edges(bytes: &[u8], manifest: &ObjectKey) -> Vec<Vec<ObjectKey>> {
    let lists = manifest::last_segments(bytes, &url_of(manifest), EDGE, |it| !it.is_range);
    let key = |url: &String| ObjectKey::from_name(url, None).ok();
    lists.iter().map(|it| it.urls.iter().filter_map(key).collect()).collect()
}

/// The segments that follow `key` in the manifest `object`, at most `count`. Empty where the manifest does not list it, or
/// lists ranges of it.
pub fn successors(object: &Arc<StoredObject>, key: &ObjectKey, count: usize) -> Vec<ObjectKey> {
    let meta = object.meta();
    let Some(bytes) = object.bytes(0..meta.length) else { return Vec::new() };
    let text = plain(&bytes, coding_of(meta));
    text.map_or_else(Vec::new, |text| following(&text, &meta.key, key, count))
}

fn following(bytes: &[u8], manifest: &ObjectKey, key: &ObjectKey, count: usize) -> Vec<ObjectKey> {
    let last_part =
        |name: &str| name.split('?').next().and_then(|it| it.rsplit('/').next()).map(str::to_owned);
    let wanted = last_part(key.as_str());
    let (mut found, mut out) = (None, Vec::new());
    manifest::segments(bytes, &url_of(manifest), &mut |segment| {
        if let Some(list) = found {
            if segment.list != list || segment.is_range {
                return false;
            }
            // A name repeated in succession is one object.
            if let Ok(name) = ObjectKey::from_name(segment.url, None)
                && name != *key
                && out.last() != Some(&name)
            {
                out.push(name);
            }
            return out.len() < count;
        }
        let is_it = last_part(segment.url) == wanted
            && ObjectKey::from_name(segment.url, None).is_ok_and(|name| name == *key);
        if is_it && !segment.is_range {
            found = Some(segment.list);
        }
        count > 0
    });
    out
}

/// The decoded text of a manifest; `None`: it is not a manifest, or longer than [`MAX_MANIFEST_BYTES`].
pub fn plain<'a>(bytes: &'a [u8], coding: Option<&str>) -> Option<Cow<'a, [u8]>> {
    let may_begin_so = |bytes: &[u8]| {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
        matches!(bytes.first(), None | Some(b'#' | b'<' | b'{'))
    };
    coding::plain(bytes, coding, MAX_MANIFEST_BYTES, may_begin_so)
}

/// The decoded text of a manifest in the cache; `None` where [`plain`] has none, or the object cannot be read.
pub fn text_of(object: &Arc<StoredObject>) -> Option<Vec<u8>> {
    let meta = object.meta();
    let bytes = (meta.length <= MAX_MANIFEST_BYTES as u64).then(|| object.bytes(0..meta.length)).flatten()?;
    plain(&bytes, coding_of(meta)).map(Cow::into_owned)
}

/// The content coding of an object from an origin; objects from a carousel are stored decoded.
pub(super) fn coding_of(meta: &ObjectMeta) -> Option<&str> {
    let fields = &meta.response.as_ref()?.headers;
    fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-encoding")).map(|it| it.1.as_str())
}

/// Facts that the store keeps with a live manifest.
pub(super) fn live_facts(facts: &Manifest) -> Option<LiveFacts> {
    let is_renewed = facts.update_period_ms.is_some();
    facts.fresh_ms().map(|fresh_ms| LiveFacts { fresh_ms, target_ms: facts.target_ms, is_renewed })
}

/// False for media and long objects.
pub(super) fn may_be_manifest(meta: &ObjectMeta) -> bool {
    let is_media = meta.content_type.as_deref().is_some_and(|it| {
        ["video/", "audio/", "image/", "font/"]
            .iter()
            .any(|media| it.get(..media.len()).is_some_and(|it| it.eq_ignore_ascii_case(media)))
            && !it.to_ascii_lowercase().contains("mpegurl")
    });
    !is_media && meta.length > 0 && meta.length <= MAX_MANIFEST_BYTES as u64 && meta.status() == 200
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: &[u8] =
        b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nv/s8.ts\n#EXTINF:4,\nv/s9.ts\n#EXTINF:4,\nv/s10.ts\n";

    #[test]
    fn what_follows_is_what_the_manifest_lists() {
        let key = |name: &str| ObjectKey::from_name(name, None).unwrap();
        let manifest = key("h/a.m3u8");
        let after = |name: &str, count| {
            following(LIVE, &manifest, &key(name), count)
                .iter()
                .map(|it| it.as_str().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(after("h/v/s8.ts", 3), ["h/v/s9.ts", "h/v/s10.ts"]);
        assert_eq!(after("h/v/s8.ts", 1), ["h/v/s9.ts"]);
        assert!(after("h/v/s8.ts", 0).is_empty());
        for last_or_other in ["h/v/s10.ts", "h/v/s7.ts", "h/w/s8.ts"] {
            assert!(after(last_or_other, 3).is_empty(), "{last_or_other}");
        }
        let ranges = b"#EXTM3U\n#EXT-X-BYTERANGE:5@0\nall.ts\n#EXT-X-BYTERANGE:5@5\nall.ts\n";
        assert!(following(ranges, &manifest, &key("h/all.ts"), 3).is_empty());
    }
}
