//! Names of live segments that are used again: by packagers with a ring of names, and by packagers that have restarted.
//!
//! A segment that its origin says nothing about is kept for long, since segments do not change. But `seg0.ts` of a ring of ten names is
//! another segment every ten. The playlist says so: a name that it lists again is that of a segment that is new.

use std::collections::HashMap;
use std::sync::Arc;

use carousel::manifest::{self, ManifestKind, PlacedSegment, VersionOrder};
use carousel::name::ObjectKey;
use carousel::time::WallTime;

use super::content::{coding_of, plain};
use super::names::url_of;
use super::versions::LATE_TARGETS;
use super::{ManifestRecord, Manifests};
use crate::caching;
use crate::store::{EvictReason, ObjectMeta, Store, StoredObject};

impl Manifests {
    /// Removes what is held under names that `manifest`, which an origin has just sent, lists for other segments than those that are
    /// held. `earlier`: the version before; `before`: what was known of it. What its origin has given a freshness stays.
    pub(super) fn end_earlier_uses(
        &self,
        store: &Store,
        manifest: &Arc<StoredObject>,
        earlier: Option<&Arc<StoredObject>>,
        before: Option<&ManifestRecord>,
    ) {
        let key = &manifest.meta().key;
        let is_same = earlier.is_some_and(|it| it.meta().digest == manifest.meta().digest);
        let Some(facts) = self.facts(key).filter(|it| it.is_live && !is_same) else { return };
        let order = before.map(|before| facts.compare_version(&before.facts));
        let has_restarted = before.is_some_and(|before| match facts.kind {
            // A start that moves a little is a packager's arithmetic.
            ManifestKind::Dash => facts
                .start_ms
                .zip(before.start_ms)
                .is_some_and(|(now, then)| now.abs_diff(then) >= facts.target_ms.max(before.facts.target_ms)),
            _ => order == Some(VersionOrder::MuchOlder),
        });
        if let (Some(earlier), Some(before)) = (earlier.filter(|_| has_restarted), before) {
            self.end_run_of_origin(store, key, earlier.meta().received_at, before);
        }
        // Names of other manifests are in no order.
        if facts.kind != ManifestKind::HlsMedia {
            return;
        }
        // A playlist that goes back a little has been refused for as long as a replica may be behind: its packager has restarted,
        // before the first window was full or with a list that only grows.
        let goes_back = has_restarted || order == Some(VersionOrder::Older);
        let earlier = PreviousVersion { manifest: earlier, goes_back };
        for name in used_again(manifest, &earlier, facts.target_ms, &|name| held_unsaid(store, name)) {
            tracing::debug!(manifest = %key, %name, "a live playlist lists a name again: the segment that was held under it is removed");
            store.remove(name.as_str(), EvictReason::Replaced);
        }
    }

    /// Removes what the packager of a manifest has written before it restarted: its names are used again, those of init segments too.
    /// These are objects of the patterns that it lists, and others of its own folder that no other manifest lists.
    fn end_run_of_origin(
        &self,
        store: &Store,
        manifest: &ObjectKey,
        until: WallTime,
        before: &ManifestRecord,
    ) {
        let now = self.known().peek(manifest).cloned();
        let objects = self.remove_run(store, manifest, |object, name| {
            let meta = object.meta();
            if meta.received_at >= until || !is_unsaid(meta) {
                return false;
            }
            let pattern = self.pattern(meta.key.as_str());
            let is_listed = before.patterns.contains(&pattern)
                || now.as_ref().is_some_and(|it| it.patterns.contains(&pattern));
            is_listed || !name.contains('/') && self.listing(&meta.key).is_empty()
        });
        tracing::info!(%manifest, objects, "the packager behind an origin has restarted: what its earlier run has written is removed");
    }
}

/// Time at which the object of this name came, if an origin sent it without a freshness.
fn held_unsaid(store: &Store, name: &ObjectKey) -> Option<WallTime> {
    let object = store.peek(name.as_str())?;
    is_unsaid(object.meta()).then_some(object.meta().received_at)
}

/// Whether an object came from an origin that gave it no freshness.
fn is_unsaid(meta: &ObjectMeta) -> bool {
    meta.response.is_some() && !caching::has_lifetime(&meta.fields())
}

/// The version before.
struct PreviousVersion<'a> {
    manifest: Option<&'a Arc<StoredObject>>,
    /// Its numbers say nothing about those of the next.
    goes_back: bool,
}

/// Time at which the origin sent a manifest, to this cache or to one before it.
fn sent_at(manifest: &Arc<StoredObject>) -> WallTime {
    let meta = manifest.meta();
    let age_s = caching::text(&meta.fields(), "age").and_then(|it| it.trim().parse::<u32>().ok());
    WallTime::from_unix_ms(meta.received_at.unix_ms() - 1000 * i64::from(age_s.unwrap_or(0)))
}

/// Names that a live playlist lists for segments that are newer than what is held under them. `held_at`: when that came.
fn used_again(
    playlist: &Arc<StoredObject>,
    earlier: &PreviousVersion<'_>,
    target_ms: u64,
    held_at: &dyn Fn(&ObjectKey) -> Option<WallTime>,
) -> Vec<ObjectKey> {
    let before = earlier.manifest.filter(|_| !earlier.goes_back).map(placed).unwrap_or_default();
    let (now, earlier) = (placed(playlist), earlier.manifest);
    let places: HashMap<&str, u64> = before.iter().map(|it| (it.url.as_str(), it.sequence)).collect();
    let listed_at = earlier.map(sent_at);
    let came_at = playlist.meta().received_at;
    let mut again = Vec::new();
    for (place, segment) in now.iter().enumerate() {
        if places.get(segment.url.as_str()) == Some(&segment.sequence) {
            continue;
        }
        // It cannot be older than all that follows it, and three targets for a playlist that came late.
        let most_ms = ((now.len() - place) as u64).saturating_add(LATE_TARGETS).saturating_mul(target_ms);
        let is_of_before = |held_at: WallTime| {
            let age_ms = came_at.unix_ms().saturating_sub(held_at.unix_ms());
            listed_at.is_some_and(|listed_at| held_at < listed_at)
                || u64::try_from(age_ms).is_ok_and(|it| it > most_ms)
        };
        let begins = segment.begins.as_deref().filter(|_| earlier.is_some());
        for url in [Some(segment.url.as_str()), begins].into_iter().flatten() {
            if let Ok(name) = ObjectKey::from_name(url, None)
                && held_at(&name).is_some_and(is_of_before)
                && !again.contains(&name)
            {
                again.push(name);
            }
        }
    }
    again
}

fn placed(playlist: &Arc<StoredObject>) -> Vec<PlacedSegment> {
    let meta = playlist.meta();
    let Some(bytes) = playlist.bytes(0..meta.length) else { return Vec::new() };
    plain(&bytes, coding_of(meta))
        .map_or_else(Vec::new, |text| manifest::placed_segments(&text, &url_of(&meta.key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::store::ResponseMeta;
    use crate::store::testing::{carried, open};

    /// A store that an origin fills.
    struct Cache {
        _folder: tempfile::TempDir,
        store: Store,
        manifests: Manifests,
    }

    impl Cache {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { store: open(&folder), _folder: folder, manifests: Manifests::default() }
        }

        fn put_with(&self, name: &str, fields: &[(&str, &str)], bytes: &[u8], at_ms: i64) {
            let (frozen, meta) = carried(&self.store, name, bytes);
            let headers =
                fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let response = ResponseMeta { status: 200, headers, ..ResponseMeta::default() };
            let meta = ObjectMeta {
                received_at: WallTime::from_unix_ms(at_ms),
                response: Some(Box::new(response)),
                ..meta
            };
            self.manifests.publish(&self.store, &frozen, meta).unwrap();
        }

        fn put(&self, name: &str, at_ms: i64) {
            self.put_with(name, &[], name.as_bytes(), at_ms);
        }

        /// A playlist of four segments of a second, the last of which has this number, in a ring of six names.
        fn ring(&self, last: u64, at_ms: i64) {
            let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{}\n", last - 3);
            (last - 3..=last)
                .for_each(|number| text.push_str(&format!("#EXTINF:1,\nseg{}.ts\n", number % 6)));
            self.put_with("h/live/a.m3u8", &[], text.as_bytes(), at_ms);
        }

        fn held(&self) -> Vec<u64> {
            (0..6).filter(|it| self.store.contains(&format!("h/live/seg{it}.ts"))).collect()
        }
    }

    #[test]
    fn names_of_a_ring_are_of_new_segments_when_they_are_listed_again() {
        let cache = Cache::new();
        for number in 3..=5 {
            cache.ring(number, 1000 * number as i64);
            cache.put(&format!("h/live/seg{number}.ts"), 1000 * number as i64 + 100);
        }
        assert_eq!(cache.held(), [3, 4, 5]);
        cache.put("h/live/seg0.ts", 2000);
        cache.ring(6, 6000);
        assert_eq!(cache.held(), [3, 4, 5], "0 is a new one; the others are listed as before");
        cache.put("h/live/seg0.ts", 6100);
        cache.ring(7, 7000);
        assert_eq!(cache.held(), [0, 3, 4, 5]);
        // Nobody has watched for a while: of the names of before, all but what came since is of other segments.
        cache.put("h/live/seg1.ts", 59_500);
        cache.ring(62, 60_000);
        assert_eq!(cache.held(), [1, 3, 4], "3 and 4 are not listed");
    }

    #[test]
    fn a_playlist_that_is_new_here_tells_by_the_age_of_what_is_held() {
        let cache = Cache::new();
        cache.put("h/live/seg0.ts", 1000);
        cache.put("h/live/seg3.ts", 1001);
        cache.put("h/live/seg5.ts", 9000);
        cache.ring(9, 9000);
        // 0 is the first of four: it may be seven seconds old, and is eight. 3 is the last, and 5 is not listed.
        cache.put_with("h/live/b.m3u8", &[], b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nseg0.ts\n", 1);
        assert_eq!(cache.held(), [5]);
    }

    #[test]
    fn what_an_origin_has_given_a_freshness_or_a_carousel_has_brought_stays() {
        let cache = Cache::new();
        cache.put_with("h/live/seg0.ts", &[("Cache-Control", "max-age=60")], b"0", 1);
        cache.put_with("h/live/seg1.ts", &[("Expires", "Thu, 01 Jan 2037 00:00:00 GMT")], b"1", 1);
        let (frozen, meta) = carried(&cache.store, "h/live/seg2.ts", b"2");
        cache.manifests.publish(&cache.store, &frozen, meta).unwrap();
        cache.put_with("h/live/seg3.ts", &[("Cache-Control", "public")], b"3", 1);
        cache.ring(3, 100_000);
        assert_eq!(cache.held(), [0, 1, 2]);
    }

    #[test]
    fn the_init_segment_behind_a_discontinuity_is_asked_for_again() {
        let cache = Cache::new();
        let list = |number: u64, discontinuity: &str, at_ms: i64| {
            let text = format!(
                "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{number}\n#EXT-X-MAP:URI=\"init.mp4\"\n\
                 #EXTINF:1,\ns{number}.m4s\n{discontinuity}#EXTINF:1,\ns{}.m4s\n",
                number + 1
            );
            cache.put_with("h/live/a.m3u8", &[], text.as_bytes(), at_ms);
            cache.store.contains("h/live/init.mp4")
        };
        list(1, "", 1000);
        cache.put("h/live/init.mp4", 1100);
        assert!(list(2, "", 2000));
        assert!(!list(3, "#EXT-X-DISCONTINUITY\n", 3000), "of the encoder of before");
        cache.put("h/live/init.mp4", 3100);
        assert!(list(4, "", 4000));
    }

    /// An event that begins again with the names of the one before.
    #[test]
    fn a_playlist_that_only_grows_begins_again() {
        let list = |last: u64, end: &str| {
            let mut text =
                "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-MEDIA-SEQUENCE:0\n"
                    .to_owned();
            (0..=last).for_each(|number| text.push_str(&format!("#EXTINF:1,\nseg{number}.ts\n")));
            text + end
        };
        for end in ["#EXT-X-ENDLIST\n", ""] {
            let cache = Cache::new();
            let now_ms = clock::now().as_nanos() as i64 / 1_000_000;
            let put = |last, end: &str, at_ms| {
                cache.put_with("h/live/a.m3u8", &[], list(last, end).as_bytes(), now_ms + at_ms);
            };
            for last in 0..=3 {
                put(last, "", 1000 * last as i64);
                cache.put(&format!("h/live/seg{last}.ts"), now_ms + 1000 * last as i64 + 100);
            }
            put(3, end, 4000);
            assert_eq!(cache.held(), [0, 1, 2, 3]);
            // Refused for three targets, if it has no end.
            cache.manifests.forget_advance(&ObjectKey::from_name("h/live/a.m3u8", None).unwrap());
            put(1, "", 60_000);
            assert_eq!(cache.held(), [2, 3], "{end}: 0 and 1 are new ones");
        }
    }

    #[test]
    fn delta_updates_keep_their_numbers() {
        let cache = Cache::new();
        let list = |last: u64, at_ms: i64| {
            let skipped = last - 2;
            let mut text = format!(
                "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n"
            );
            (skipped..=last).for_each(|number| text.push_str(&format!("#EXTINF:1,\nseg{number}.ts\n")));
            cache.put_with("h/live/a.m3u8", &[], text.as_bytes(), at_ms);
        };
        list(3, 3000);
        for number in 1..=3 {
            cache.put(&format!("h/live/seg{number}.ts"), 2500);
        }
        list(4, 4000);
        assert_eq!(cache.held(), [1, 2, 3]);
    }

    #[test]
    fn what_a_packager_wrote_before_it_restarted_is_removed() {
        let cache = Cache::new();
        let mpd = |start: &str, publish: u32, at_ms: i64| {
            let text = format!(
                "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"dynamic\" availabilityStartTime=\"2026-11-29T{start}Z\" \
                 publishTime=\"2026-11-29T10:00:{publish}Z\" minimumUpdatePeriod=\"PT1S\"><Period><AdaptationSet><Representation \
                 id=\"a\" bandwidth=\"1\"><SegmentTemplate duration=\"1\" media=\"a-$Number$.m4s\"/></Representation>\
                 </AdaptationSet></Period></MPD>"
            );
            cache.put_with("h/live/a.mpd", &[], text.as_bytes(), at_ms);
            let is_held = |name: &&str| cache.store.contains(&format!("h/{name}"));
            ["live/i.mp4", "live/a-1.m4s", "live/a-2.m4s", "film.mp4"]
                .into_iter()
                .filter(is_held)
                .collect::<Vec<_>>()
        };
        mpd("10:00:00", 10, 1000);
        for (name, at_ms) in [("h/live/i.mp4", 1100), ("h/live/a-1.m4s", 1200), ("h/film.mp4", 1300)] {
            cache.put(name, at_ms);
        }
        let all = ["live/i.mp4", "live/a-1.m4s", "film.mp4"];
        assert_eq!(mpd("10:00:00", 11, 2000), all);
        assert_eq!(mpd("10:00:00.400", 12, 3000), all, "a start that moves a little");
        cache.put("h/live/a-2.m4s", 3100);
        // Another channel and a film, below its folder.
        cache.put_with(
            "h/live/b/b.m3u8",
            &[],
            b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nb-1.m4s\n#EXTINF:1,\n../b-2.m4s\n",
            1200,
        );
        let others = ["h/live/b/b-1.m4s", "h/live/b-2.m4s", "h/live/vod/film.mp4"];
        others.iter().for_each(|name| cache.put(name, 1300));
        assert_eq!(mpd("10:00:13", 13, 4000), ["live/a-2.m4s", "film.mp4"]);
        assert!(others.iter().all(|name| cache.store.contains(name)));
    }
}
