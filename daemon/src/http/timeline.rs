//! Adaptation of live MPDs with `SegmentTimeline`: without segments at the live edge that cannot be served.
//!
//! Pure, like `playlist.rs`, whose rule it shares ([`held_back`]). Segments that are left out come with the next MPD; so an MPD
//! without an update interval is not changed.

use carousel::manifest;

use super::playlist::{ReferenceLookup, held_back};

/// Segments at the end of a list that are checked: earlier ones have arrived, or will not.
const EDGE: usize = 8;

/// The MPD to send; `None`: unchanged. `url`: its own; `is_renewed`: it has an update interval.
pub(super) fn shaped(
    text: &str,
    url: &str,
    is_renewed: bool,
    lookup: &impl ReferenceLookup,
) -> Option<String> {
    if !is_renewed {
        return None;
    }
    let lists = manifest::last_segments(text.as_bytes(), url, EDGE, |it| it.timeline.is_some());
    // Representations that share a timeline have the same numbers: the one furthest behind decides, unless none of its segments
    // can be served.
    let mut cuts: Vec<(usize, u64)> = Vec::new();
    for list in &lists {
        let Some(timeline) = list.timeline else { continue };
        let here: Vec<bool> = list.urls.iter().map(|it| lookup.can_serve(it, None)).collect();
        let cut = held_back(&here) as u64;
        match cuts.iter_mut().find(|it| it.0 == timeline) {
            Some(known) => known.1 = known.1.max(cut),
            None => cuts.push((timeline, cut)),
        }
    }
    cuts.retain(|it| it.1 > 0);
    if cuts.is_empty() {
        return None;
    }
    manifest::shortened(text, &cuts)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::ops::Range;

    use super::super::playlist::PlaylistEnd;
    use super::*;

    struct Here(HashSet<String>);

    impl ReferenceLookup for Here {
        fn can_serve(&self, reference: &str, _: Option<Range<u64>>) -> bool {
            self.0.contains(reference.trim_start_matches("http://h/live/"))
        }

        fn reach(&self, _: &str) -> Option<PlaylistEnd> {
            None
        }
    }

    fn mpd(period: &str, timeline: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<MPD type=\"dynamic\" {period}><Period id=\"0\"><AdaptationSet>\
             <SegmentTemplate timescale=\"1\" media=\"$RepresentationID$-$Number$.m4s\" startNumber=\"5\">\
             <SegmentTimeline>{timeline}</SegmentTimeline></SegmentTemplate>\
             <Representation id=\"a\" bandwidth=\"1\"/><Representation id=\"b\" bandwidth=\"2\"/></AdaptationSet></Period></MPD>"
        )
    }

    fn sent(period: &str, timeline: &str, here: &[&str]) -> Option<String> {
        let text = mpd(period, timeline);
        let facts = manifest::Manifest::read(text.as_bytes()).unwrap();
        let here = Here(here.iter().map(|it| (*it).to_owned()).collect());
        let out = shaped(&text, "http://h/live/a.mpd", facts.update_period_ms.is_some(), &here)?;
        let (before, after) =
            mpd(period, "|").split_once('|').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let inner = out.strip_prefix(before.as_str()).and_then(|it| it.strip_suffix(after.as_str()));
        Some(inner.expect("nothing else has changed").to_owned())
    }

    const PERIOD: &str = "minimumUpdatePeriod=\"PT2S\"";

    #[test]
    fn segments_that_are_not_here_are_not_named_yet() {
        let timeline = "<S t='0' d=\"2\" r=\"2\"/>\n<S d='3'></S><S d='2'/>";
        let all = ["a-5.m4s", "a-6.m4s", "a-7.m4s", "a-8.m4s", "a-9.m4s"];
        assert_eq!(sent(PERIOD, timeline, &all), None, "b does not come at all");
        for (here, expected) in [
            (4, "<S t='0' d=\"2\" r=\"2\"/>\n<S d='3'></S>"),
            (3, "<S t='0' d=\"2\" r=\"2\"/>\n"),
            (2, "<S t='0' d=\"2\" r=\"1\"/>\n"),
            (1, "<S t='0' d=\"2\" r=\"0\"/>\n"),
        ] {
            assert_eq!(sent(PERIOD, timeline, &all[..here]).as_deref(), Some(expected), "{here}");
        }
        assert_eq!(sent(PERIOD, timeline, &[]), None, "the box has just begun");
        // One in the middle is for the player to step over.
        assert_eq!(sent(PERIOD, timeline, &["a-5.m4s", "a-9.m4s"]), None);
        // The slower of two that come decides.
        let both = ["a-5.m4s", "a-6.m4s", "a-7.m4s", "a-8.m4s", "b-5.m4s", "b-6.m4s"];
        assert_eq!(sent(PERIOD, timeline, &both).as_deref(), Some("<S t='0' d=\"2\" r=\"1\"/>\n"));
    }

    #[test]
    fn what_the_clock_decides_and_what_is_not_renewed_stays() {
        let here = ["a-5.m4s"];
        let timeline = "<S t='0' d='2'/><S d='2'/>";
        assert!(sent(PERIOD, timeline, &here).is_some());
        assert_eq!(sent("", timeline, &here), None);
        let clock = "<S t='0' d='2'/><S d='2'/><S d='2' r='-1'/>";
        assert_eq!(sent(PERIOD, clock, &here).as_deref(), Some(clock));
    }
}
