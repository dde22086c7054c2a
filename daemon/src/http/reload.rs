//! Blocking reloads of live playlists that a carousel brings (HLS second edition, section 6.2.5.2).

use std::time::Duration;

use carousel::name::ObjectKey;
use http::HeaderMap;

use super::Player;
use super::missing::Missing;
use super::serve::{Found, is_fresh};

/// How often it is looked whether a playlist has what a blocking reload waits for.
const RELOAD_LOOK: Duration = Duration::from_millis(50);

impl Player {
    /// Answers a blocking reload of a live playlist that the carousel brings: as soon as it has the segment asked for, after
    /// three target durations with an error. `None`: the carousel does not bring it, or not any more.
    pub(super) async fn reload(
        &self,
        reload: &Reload,
        request: &HeaderMap,
    ) -> Option<Result<Found, Missing>> {
        let held = self.held(&reload.playlist, request).await?;
        let target_ms = held.live().filter(|_| held.meta().response.is_none() && is_fresh(&held))?.target_ms;
        let deadline = tokio::time::Instant::now() + 3 * Duration::from_millis(target_ms);
        loop {
            let facts = self.shared.manifests.facts(&reload.playlist)?;
            if reload.is_answered_by(&facts) {
                let held = self.held(&reload.playlist, request).await?;
                return Some(Ok(Found::Stored(held, "hit")));
            }
            if tokio::time::Instant::now() >= deadline {
                return Some(Err(Missing::NotInTime));
            }
            tokio::time::sleep(RELOAD_LOOK).await;
        }
    }
}

/// Delivery directives of a playlist request (HLS second edition, section 6.2.5).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reload {
    /// The playlist without them.
    playlist: ObjectKey,
    /// The media sequence number, and the part, that it is to have.
    sequence: Option<u64>,
    part: Option<u64>,
}

impl Reload {
    pub(super) fn of(key: &ObjectKey) -> Option<Self> {
        let (path, query) = key.as_str().split_once('?')?;
        let (directives, others): (Vec<&str>, Vec<&str>) =
            query.split('&').partition(|it| it.starts_with("_HLS_"));
        if directives.is_empty() {
            return None;
        }
        let name = if others.is_empty() { path.to_owned() } else { format!("{path}?{}", others.join("&")) };
        let number = |name: &str| directives.iter().find_map(|it| it.strip_prefix(name)?.parse().ok());
        let playlist = ObjectKey::from_name(&name, None).ok()?;
        Some(Self { playlist, sequence: number("_HLS_msn="), part: number("_HLS_part=") })
    }

    /// Whether a playlist has what is waited for, or never will: what is further ahead than the segment after next is no
    /// question of waiting.
    fn is_answered_by(&self, playlist: &carousel::manifest::Manifest) -> bool {
        let (Some(wanted), Some(last)) = (self.sequence, playlist.last_sequence) else { return true };
        let has_part = || match (self.part, playlist.last_part) {
            (Some(wanted_part), Some(last_part)) => wanted == last + 1 && last_part >= wanted_part,
            _ => false,
        };
        last >= wanted || wanted > last.saturating_add(2) || has_part()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocking_reload_waits_for_the_next_segment_only() {
        let of = |name: &str| Reload::of(&ObjectKey::from_name(name, None).unwrap());
        assert_eq!(of("h/a.m3u8"), None);
        assert_eq!(of("h/a.m3u8?t=1"), None);
        let reload = of("h/a.m3u8?t=1&_HLS_msn=7&_HLS_part=1").unwrap();
        assert_eq!(reload.playlist.as_str(), "h/a.m3u8?t=1");
        let playlist = |first: u64, parts: usize| {
            let mut text =
                format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:{first}\n#EXTINF:4,\na\n");
            text.push_str(&"#EXT-X-PART:DURATION=1,URI=\"p\"\n".repeat(parts));
            carousel::manifest::Manifest::read(text.as_bytes()).unwrap()
        };
        for (first, parts, is_answered) in
            [(4, 0, true), (5, 0, false), (6, 0, false), (6, 1, false), (6, 2, true), (7, 0, true)]
        {
            assert_eq!(reload.is_answered_by(&playlist(first, parts)), is_answered, "{first} {parts}");
        }
        assert!(of("h/a.m3u8?_HLS_skip=YES").unwrap().is_answered_by(&playlist(1, 0)));
    }
}
