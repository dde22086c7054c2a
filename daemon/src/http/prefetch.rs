//! After a miss the player will ask for what comes next: the segments whose number follows are fetched before it does.

use std::sync::Arc;

use carousel::name::ObjectKey;

use super::Player;
use crate::origin::Ask;

/// Suffixes of media segments. Manifests and keys have numbers too, and no successors.
const SEGMENTS: [&str; 9] = [".m4s", ".ts", ".mp4", ".m4v", ".m4a", ".cmfv", ".cmfa", ".aac", ".vtt"];

impl Player {
    /// Fetches the segments after `key`, those that are held, on their way or announced left out: the carousel brings
    /// what it has announced.
    pub(super) fn prefetch(self: &Arc<Self>, key: &ObjectKey) {
        for name in successors(key.as_str(), self.config.prefetch_segments) {
            let Ok(next) = ObjectKey::from_name(&name, None) else { return };
            // Flights first: one ends after its object is in the cache.
            let is_known = self.shared.flights.get(next.as_str()).is_some()
                || self.shared.store.contains(next.as_str())
                || self.shared.flights.announced(next.as_str()).is_some();
            let Some(url) = self.origins.url_for(&next).filter(|_| !is_known) else { continue };
            let filler = Arc::clone(&self.filler);
            // Its end is of no interest here: past the last segment the origin says 404, which is remembered.
            let ask = Ask::default();
            self.runtime.spawn(async move { filler.fill(&next, url, ask).await });
        }
    }
}

/// The names that follow `name`: the last number in it, before a segment's suffix, counted on with its width kept.
fn successors(name: &str, count: usize) -> Vec<String> {
    let (path, query) = name.split_once('?').map_or((name, ""), |(path, _)| (path, &name[path.len()..]));
    let Some(suffix) = SEGMENTS.iter().find(|suffix| path.ends_with(**suffix)) else { return Vec::new() };
    let stem = &path[..path.len() - suffix.len()];
    let file = stem.rfind('/').map_or(0, |slash| slash + 1);
    let Some(end) = stem[file..].rfind(|c: char| c.is_ascii_digit()).map(|at| file + at + 1) else {
        return Vec::new();
    };
    let start = stem[..end].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1).max(file);
    let (digits, width) = (&stem[start..end], end - start);
    let Ok(number) = digits.parse::<u64>() else { return Vec::new() };
    (1..=count as u64)
        .map_while(|step| number.checked_add(step))
        .map(|next| format!("{}{next:0width$}{}{suffix}{query}", &stem[..start], &stem[end..]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_counts_on_with_its_width() {
        assert_eq!(successors("h/v/0-001.m4s", 2), ["h/v/0-002.m4s", "h/v/0-003.m4s"]);
        assert_eq!(successors("h/seg9.ts?t=1", 1), ["h/seg10.ts?t=1"]);
        assert_eq!(successors("h/seg_099_v2/chunk-99-hd.mp4", 1), ["h/seg_099_v2/chunk-100-hd.mp4"]);
    }

    #[test]
    fn what_is_no_numbered_segment_has_no_successors() {
        for name in [
            "h/2/init.mp4",
            "h/live_1.m3u8",
            "h/key1.bin",
            "h/99999999999999999999.ts",
            ".ts",
            "h/18446744073709551615.ts",
        ] {
            assert!(successors(name, 3).is_empty(), "{name}");
        }
        assert!(successors("h/1.ts", 0).is_empty());
    }
}
