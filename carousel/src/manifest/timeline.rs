//! Removal of the last segments of `SegmentTimeline`s, for MPDs without segments that cannot be served yet.
//!
//! The timeline is changed at its end alone (ISO/IEC 23009-1 clause 5.3.9.6): the last `S` elements are shortened or removed, every other
//! byte stays.

use std::ops::Range;

use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

/// An `S` element: ranges of its start tag and of the complete element, and its number of segments.
#[derive(Debug, Clone)]
struct Entry {
    tag: Range<usize>,
    all: Range<usize>,
    segments: u64,
}

/// Removes the last segments of timelines: `cuts` are the timelines, numbered from 0 in the order of the text, with the
/// number of segments. Timelines with an open end (`@r` below 0) or with too many entries are not changed. `None`: the MPD
/// cannot be parsed.
pub fn shortened(text: &str, cuts: &[(usize, u64)]) -> Option<String> {
    let timelines = timelines(text)?;
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for &(timeline, mut cut) in cuts {
        let Some(entries) = timelines.get(timeline).and_then(Option::as_ref) else { continue };
        for entry in entries.iter().rev() {
            if cut == 0 {
                break;
            }
            if cut >= entry.segments {
                edits.push((entry.all.clone(), String::new()));
                cut -= entry.segments;
            } else {
                let repeats = entry.segments - cut - 1;
                let tag = text.get(entry.tag.clone())?;
                edits.push((entry.tag.clone(), with_attribute(tag, "r", &repeats.to_string())?));
                cut = 0;
            }
        }
    }
    edits.sort_by_key(|it| it.0.start);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (range, replacement) in edits {
        out.push_str(text.get(at..range.start)?);
        out.push_str(&replacement);
        at = range.end;
    }
    out.push_str(text.get(at..)?);
    Some(out)
}

/// The `S` elements of each `SegmentTimeline`, in order; `None` for one that is not changed.
fn timelines(text: &str) -> Option<Vec<Option<Vec<Entry>>>> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = false;
    let mut all: Vec<Option<Vec<Entry>>> = Vec::new();
    loop {
        let begin = usize::try_from(reader.buffer_position()).ok()?;
        let event = reader.read_event().ok()?;
        let end = usize::try_from(reader.buffer_position()).ok()?;
        match &event {
            Event::Eof => return Some(all),
            Event::Start(it) | Event::Empty(it) if is_named(it, "SegmentTimeline") => {
                all.push(Some(Vec::new()));
            }
            Event::Start(it) | Event::Empty(it) if is_named(it, "S") => {
                let repeats = it.try_get_attribute("r").ok()?;
                let repeats = repeats.map_or(Some(0), |it| it.value.trim().parse::<i64>().ok())?;
                let Some(timeline) = all.last_mut() else { continue };
                let segments = u64::try_from(repeats).map(|it| it.saturating_add(1));
                match (timeline.as_mut(), segments) {
                    (Some(entries), Ok(segments)) if entries.len() < super::MAX_TIMELINE => {
                        entries.push(Entry { tag: begin..end, all: begin..end, segments });
                    }
                    _ => *timeline = None,
                }
            }
            // `<S …></S>`
            Event::End(it) if it.local_name().as_ref() == "S" => {
                if let Some(entry) = all.last_mut().and_then(Option::as_mut).and_then(|it| it.last_mut()) {
                    entry.all.end = end;
                }
            }
            _ => {}
        }
    }
}

fn is_named(element: &BytesStart<'_>, name: &str) -> bool {
    element.local_name().as_ref() == name
}

/// A start tag with a new value of an existing attribute.
pub(super) fn with_attribute(tag: &str, name: &str, new: &str) -> Option<String> {
    let mut from = 0;
    let at = loop {
        let at = from + tag.get(from..)?.find(name)?;
        let before = tag[..at].chars().next_back()?;
        let after = tag[at + name.len()..].trim_start();
        if before.is_whitespace() && after.starts_with('=') {
            break at;
        }
        from = at + name.len();
    };
    let open = at + tag[at..].find(['"', '\''])?;
    let quote = tag[open..].chars().next()?;
    let close = open + 1 + tag[open + 1..].find(quote)?;
    Some(format!("{}{new}{}", &tag[..=open], &tag[close..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_segments_of_a_timeline_are_left_out() {
        let first = "<MPD><SegmentTimeline><S d='1' r='9'/></SegmentTimeline>";
        let text = |inner: &str| format!("{first}<x:SegmentTimeline>{inner}</x:SegmentTimeline></MPD>");
        let own = "<x:S t='0' d=\"2\" r = \"2\"/>\n<x:S d='3'></x:S><x:S d='2'/>";
        for (cut, expected) in [
            (0, own),
            (1, "<x:S t='0' d=\"2\" r = \"2\"/>\n<x:S d='3'></x:S>"),
            (2, "<x:S t='0' d=\"2\" r = \"2\"/>\n"),
            (3, "<x:S t='0' d=\"2\" r = \"1\"/>\n"),
            (4, "<x:S t='0' d=\"2\" r = \"0\"/>\n"),
            (5, "\n"),
            (u64::MAX, "\n"),
        ] {
            assert_eq!(shortened(&text(own), &[(1, cut), (7, 1)]).unwrap(), text(expected), "{cut}");
        }
        let clock = text("<S d='1'/><S d='2' r='-1'/>");
        assert_eq!(shortened(&clock, &[(1, 1)]).unwrap(), clock);
        assert_eq!(shortened(&clock, &[(0, 4)]).unwrap(), clock.replace("r='9'", "r='5'"));
        assert_eq!(shortened("<S d='1' r='x'/>", &[(0, 1)]), None);
        let long = text(&"<S d='1'/>".repeat(super::super::MAX_TIMELINE + 1));
        assert_eq!(shortened(&long, &[(1, 1)]).unwrap(), long);
    }

    #[test]
    fn the_attribute_of_repeats_is_found() {
        assert_eq!(
            with_attribute("<x:S xr=\"1\" r = '7' d=\"1\"/>", "r", "3").as_deref(),
            Some("<x:S xr=\"1\" r = '3' d=\"1\"/>")
        );
        assert_eq!(with_attribute("<S d=\"1\"/>", "r", "3"), None);
        assert_eq!(with_attribute("<S r", "r", "3"), None);
        assert_eq!(with_attribute("<S r=7", "r", "3"), None);
    }
}
