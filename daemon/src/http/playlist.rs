//! Adaptation of live media playlists: without segments that cannot be served, as delta updates, with reports of other
//! renditions.
//!
//! Pure: the player's playlist is a function of the received playlist and of the objects that the box holds. Clauses are those of
//! draft-pantos-hls-rfc8216bis-22 (1 May 2026).
//!
//! | part | clause |
//! |---|---|
//! | absent segments and parts are left out at the live edge, and marked `EXT-X-GAP` before it | 6.2.1, 4.4.4.7 |
//! | a delta update has `EXT-X-SKIP` in place of segments beyond the Skip Boundary | 6.2.5.1, 4.4.5.2 |
//! | rendition reports give the last segment and part that the box holds of the other rendition | 4.4.5.4 |

use std::fmt::Write as _;
use std::ops::Range;

use carousel::manifest::attribute;

/// The version of a playlist with `EXT-X-SKIP` (section 8).
const SKIP_VERSION: u64 = 9;
/// The version of a playlist with `EXT-X-GAP` (section 8).
const GAP_VERSION: u64 = 8;

/// Lookup of the objects that the references of a playlist name.
pub(super) trait ReferenceLookup {
    /// Whether a reference of the playlist, or this range of it, can be served: it is held or in flight.
    fn can_serve(&self, reference: &str, range: Option<Range<u64>>) -> bool;
    /// Extent of another rendition's playlist that the box holds.
    fn reach(&self, reference: &str) -> Option<PlaylistEnd>;
}

/// The last segment and part of a playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlaylistEnd {
    /// Media sequence number of the last segment, or of the one whose parts come after it.
    pub(super) sequence: u64,
    /// Its last part, if it has any.
    pub(super) part: Option<u64>,
}

/// Options of a request for a playlist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PlaylistOptions {
    /// Older segments may be left out.
    pub(super) skip: bool,
    /// Whether absent segments at the live edge may still arrive: then they are left out, not marked as missing.
    pub(super) is_young: bool,
}

/// Number of segments at the end of a list to leave out, given whether each can be served. 0 if none can: the box has just
/// joined, and an empty list would be useless.
pub(super) fn held_back(here: &[bool]) -> usize {
    here.iter().rposition(|it| *it).map_or(0, |last| here.len() - 1 - last)
}

/// A segment with the tags that belong to it.
#[derive(Debug, Default)]
struct Segment<'a> {
    lines: Vec<&'a str>,
    duration_s: f64,
    is_here: bool,
    has_gap: bool,
}

/// A live media playlist by its lines.
#[derive(Debug, Default)]
struct Playlist<'a> {
    head: Vec<&'a str>,
    segments: Vec<Segment<'a>>,
    /// Lines behind the last segment.
    tail: Vec<&'a str>,
    /// The first line in `tail` of a part that cannot be served.
    missing_part: Option<usize>,
    skip_until_s: Option<f64>,
}

impl<'a> Playlist<'a> {
    /// Parses a playlist. `None` if it has ended, is a delta update, or is not understood.
    fn read(text: &'a str, lookup: &impl ReferenceLookup) -> Option<Self> {
        let mut this = Self::default();
        let mut current = Segment::default();
        let (mut range, mut range_end, mut part_end) = (None, 0, 0);
        for line in text.lines() {
            let trimmed = line.trim();
            let (tag, value) = trimmed.split_once(':').unwrap_or((trimmed, ""));
            match tag {
                "#EXT-X-ENDLIST" | "#EXT-X-SKIP" => return None,
                "#EXT-X-SERVER-CONTROL" => {
                    this.skip_until_s =
                        attribute(value, "CAN-SKIP-UNTIL").and_then(|it| it.parse::<f64>().ok());
                }
                "#EXTINF" => current.duration_s = value.split(',').next()?.trim().parse().ok()?,
                "#EXT-X-BYTERANGE" => range = Some(byte_range(value, range_end)?),
                "#EXT-X-GAP" => current.has_gap = true,
                "#EXT-X-PART" => {
                    let uri = attribute(value, "URI")?;
                    let bytes = attribute(value, "BYTERANGE").and_then(|it| byte_range(it, part_end));
                    part_end = bytes.as_ref().map_or(0, |it| it.end);
                    let is_gap = attribute(value, "GAP") == Some("YES");
                    if !is_gap && !lookup.can_serve(uri, bytes) {
                        this.missing_part.get_or_insert(current.lines.len());
                    }
                }
                _ => {}
            }
            let is_uri = !trimmed.is_empty() && !trimmed.starts_with('#');
            if this.segments.is_empty() && current.lines.is_empty() && !is_uri && !is_of_segment(tag) {
                this.head.push(line);
                continue;
            }
            current.lines.push(line);
            if is_uri {
                current.is_here = current.has_gap || lookup.can_serve(trimmed, range.clone());
                range_end = range.take().map_or(0, |it| it.end);
                this.segments.push(std::mem::take(&mut current));
                this.missing_part = None;
            }
        }
        this.tail = current.lines;
        Some(this)
    }

    /// Leaves out absent segments and parts at the live edge. True if there were any.
    fn hold_back(&mut self, is_young: bool) -> bool {
        let here: Vec<bool> = self.segments.iter().map(|it| it.is_here).collect();
        let late = held_back(&here);
        if !here.contains(&true) {
            self.segments.iter_mut().for_each(|it| it.is_here = true);
        }
        if is_young && late > 0 {
            self.segments.truncate(here.len() - late);
            self.tail.retain(|line| is_of_playlist(line));
            true
        } else if let Some(first) = self.missing_part {
            let mut at = 0;
            self.tail.retain(|line| {
                at += 1;
                at <= first || is_of_playlist(line)
            });
            true
        } else {
            false
        }
    }

    /// Marks segments and parts that will not arrive. True if there were any.
    fn mark_gaps(&mut self) -> bool {
        let mut has_gaps = false;
        for segment in self.segments.iter_mut().filter(|it| !it.is_here) {
            let uri = segment.lines.len() - 1;
            segment.lines.insert(uri, "#EXT-X-GAP");
            has_gaps = true;
        }
        has_gaps
    }

    /// Writes the first lines, with at least this version; 0: unchanged.
    fn write_head(&self, out: &mut String, least_version: u64) {
        let mut has_version = least_version == 0;
        for line in &self.head {
            match line.trim().strip_prefix("#EXT-X-VERSION:").and_then(|it| it.trim().parse::<u64>().ok()) {
                Some(version) => {
                    has_version = true;
                    let _ = writeln!(out, "#EXT-X-VERSION:{}", version.max(least_version));
                }
                None => {
                    let _ = writeln!(out, "{line}");
                }
            }
        }
        if !has_version {
            let after = out.find('\n').map_or(out.len(), |at| at + 1);
            out.insert_str(after, &format!("#EXT-X-VERSION:{least_version}\n"));
        }
    }

    /// Writes the segments, without the first `skipped` ones.
    fn write_segments(&self, out: &mut String, skipped: usize) {
        if skipped > 0 {
            let _ = writeln!(out, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}");
        }
        for (number, segment) in self.segments.iter().enumerate() {
            for line in &segment.lines {
                // Tags of the playlist among those of a skipped segment are kept.
                if number >= skipped || is_of_playlist(line) {
                    let _ = writeln!(out, "{line}");
                }
            }
        }
    }

    /// Writes the last lines, with reports adapted to the held objects. True if they have changed.
    fn write_tail(&self, out: &mut String, lookup: &impl ReferenceLookup) -> bool {
        let mut is_changed = false;
        for line in &self.tail {
            let report = reported(line, lookup);
            is_changed |= report.is_some();
            let _ = writeln!(out, "{}", report.as_deref().unwrap_or(line));
        }
        is_changed
    }
}

/// The playlist to send; `None`: unchanged.
pub(super) fn shaped(text: &str, lookup: &impl ReferenceLookup, options: PlaylistOptions) -> Option<String> {
    let mut playlist = Playlist::read(text, lookup)?;
    let mut is_changed = playlist.hold_back(options.is_young);
    let has_gaps = playlist.mark_gaps();
    let boundary_s = playlist.skip_until_s.filter(|_| options.skip);
    let skipped = boundary_s.map_or(0, |boundary_s| beyond(&playlist.segments, boundary_s));
    let least_version = match (skipped > 0, has_gaps) {
        (true, _) => SKIP_VERSION,
        (false, true) => GAP_VERSION,
        (false, false) => 0,
    };
    is_changed |= least_version > 0;
    let mut out = String::with_capacity(text.len() + 64);
    playlist.write_head(&mut out, least_version);
    playlist.write_segments(&mut out, skipped);
    is_changed |= playlist.write_tail(&mut out, lookup);
    is_changed.then_some(out)
}

/// Number of leading segments that end before the Skip Boundary.
fn beyond(segments: &[Segment<'_>], boundary_s: f64) -> usize {
    let mut left_s = 0.0;
    for (at, segment) in segments.iter().enumerate().rev() {
        if left_s > boundary_s {
            return at + 1;
        }
        left_s += segment.duration_s;
    }
    0
}

/// An `EXT-X-RENDITION-REPORT` adapted to what the box holds of that rendition; `None`: unchanged.
fn reported(line: &str, lookup: &impl ReferenceLookup) -> Option<String> {
    let list = line.trim().strip_prefix("#EXT-X-RENDITION-REPORT:")?;
    let reach = lookup.reach(attribute(list, "URI")?)?;
    let mut out = format!("#EXT-X-RENDITION-REPORT:URI=\"{}\"", attribute(list, "URI")?);
    let _ = write!(out, ",LAST-MSN={}", reach.sequence);
    if let Some(part) = reach.part {
        let _ = write!(out, ",LAST-PART={part}");
    }
    (out != line.trim()).then_some(out)
}

/// Whether a line must be kept when its segment is left out.
fn is_of_playlist(line: &str) -> bool {
    const TAGS: [&str; 3] = ["#EXT-X-RENDITION-REPORT", "#EXT-X-DATERANGE", "#EXT-X-ENDLIST"];
    TAGS.iter().any(|tag| line.trim_start().starts_with(tag))
}

/// Tags that apply to one segment or to those that follow (section 4.4.4), and those of the live edge.
fn is_of_segment(tag: &str) -> bool {
    const TAGS: [&str; 12] = [
        "#EXTINF",
        "#EXT-X-BYTERANGE",
        "#EXT-X-DISCONTINUITY",
        "#EXT-X-KEY",
        "#EXT-X-MAP",
        "#EXT-X-PROGRAM-DATE-TIME",
        "#EXT-X-GAP",
        "#EXT-X-BITRATE",
        "#EXT-X-PART",
        "#EXT-X-PRELOAD-HINT",
        "#EXT-X-RENDITION-REPORT",
        "#EXT-X-DATERANGE",
    ];
    TAGS.contains(&tag)
}

/// Parses `length[@offset]`; the default offset is the end of the previous range.
fn byte_range(value: &str, next: u64) -> Option<Range<u64>> {
    let (length, offset) = match value.trim().split_once('@') {
        Some((length, offset)) => (length, offset.parse().ok()?),
        None => (value.trim(), next),
    };
    Some(offset..length.parse::<u64>().ok()?.checked_add(offset)?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// References that are here, with their bytes, and renditions.
    #[derive(Default)]
    struct Here(HashMap<&'static str, u64>, HashMap<&'static str, PlaylistEnd>);

    impl ReferenceLookup for Here {
        fn can_serve(&self, reference: &str, range: Option<Range<u64>>) -> bool {
            self.0.get(reference).is_some_and(|bytes| range.is_none_or(|range| range.end <= *bytes))
        }

        fn reach(&self, reference: &str) -> Option<PlaylistEnd> {
            self.1.get(reference).copied()
        }
    }

    const LIVE: &str = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-PART-INF:PART-TARGET=1\n\
                        #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=3,CAN-SKIP-UNTIL=5\n\
                        #EXT-X-MAP:URI=\"i.mp4\"\n#EXTINF:2,\n7.mp4\n#EXTINF:2,\n8.mp4\n#EXT-X-DATERANGE:ID=\"ad\",START-DATE=\"2026-11-29T00:00:00Z\"\n\
                        #EXTINF:2,\n9.mp4\n#EXT-X-PART:DURATION=1,URI=\"10.0.mp4\"\n#EXT-X-PART:DURATION=1,URI=\"10.1.mp4\"\n#EXTINF:2,\n10.mp4\n\
                        #EXT-X-PART:DURATION=1,URI=\"11.0.mp4\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"11.1.mp4\"\n\
                        #EXT-X-RENDITION-REPORT:URI=\"../a/live.m3u8\",LAST-MSN=10,LAST-PART=1\n";

    fn all() -> Here {
        let names = ["7.mp4", "8.mp4", "9.mp4", "10.0.mp4", "10.1.mp4", "10.mp4", "11.0.mp4"];
        Here(names.iter().map(|name| (*name, 100)).collect(), HashMap::new())
    }

    const PLAIN: PlaylistOptions = PlaylistOptions { skip: false, is_young: true };

    #[test]
    fn a_playlist_of_what_is_here_goes_out_as_it_is() {
        assert_eq!(shaped(LIVE, &all(), PLAIN), None);
        assert_eq!(shaped(LIVE, &all(), PlaylistOptions { is_young: false, ..PLAIN }), None);
        let ended = format!("{LIVE}#EXT-X-ENDLIST\n");
        assert_eq!(
            shaped(&ended, &Here::default(), PlaylistOptions { skip: true, ..PLAIN }),
            None,
            "6.2.5.1: ignored"
        );
    }

    #[test]
    fn the_live_edge_ends_where_the_box_can_serve() {
        let mut here = all();
        here.0.remove("11.0.mp4");
        let out = shaped(LIVE, &here, PLAIN).unwrap();
        assert!(out.contains("10.mp4") && !out.contains("11."), "neither the part nor the hint: {out}");
        assert!(out.ends_with("LAST-MSN=10,LAST-PART=1\n"));
        here.0.remove("10.mp4");
        let out = shaped(LIVE, &here, PLAIN).unwrap();
        assert!(out.contains("\n9.mp4\n") && !out.contains("10."), "{out}");
        assert!(out.contains("MEDIA-SEQUENCE:7\n") && out.contains("RENDITION-REPORT"), "{out}");
        // It has not come in a target duration: it never will, and what came after it can be played.
        here.0.insert("11.0.mp4", 1);
        let out = shaped(LIVE, &here, PlaylistOptions { is_young: false, ..PLAIN }).unwrap();
        assert!(
            out.contains("#EXTINF:2,\n#EXT-X-GAP\n10.mp4\n#EXT-X-PART:DURATION=1,URI=\"11.0.mp4\""),
            "{out}"
        );
        assert!(out.contains("#EXT-X-VERSION:8\n"), "{out}");
    }

    #[test]
    fn segments_from_before_the_box_began_are_gaps() {
        let mut here = all();
        here.0.remove("7.mp4");
        here.0.remove("8.mp4");
        let out = shaped(LIVE, &here, PLAIN).unwrap();
        assert!(
            out.contains(
                "#EXT-X-MAP:URI=\"i.mp4\"\n#EXTINF:2,\n#EXT-X-GAP\n7.mp4\n#EXTINF:2,\n#EXT-X-GAP\n8.mp4\n"
            ),
            "{out}"
        );
        assert_eq!(out.matches("GAP").count(), 2);
        // Marked by the packager: as it is.
        let marked = LIVE.replace("\n7.mp4", "\n#EXT-X-GAP\n7.mp4");
        here.0.insert("8.mp4", 1);
        assert_eq!(shaped(&marked, &here, PLAIN), None);
        let unversioned = LIVE.replace("#EXT-X-VERSION:6\n", "");
        here.0.remove("8.mp4");
        assert!(shaped(&unversioned, &here, PLAIN).unwrap().starts_with("#EXTM3U\n#EXT-X-VERSION:8\n"));
    }

    #[test]
    fn a_delta_update_skips_what_is_beyond_the_boundary() {
        let skip = PlaylistOptions { skip: true, is_young: true };
        let out = shaped(LIVE, &all(), skip).unwrap();
        // 10, 9 and 8 end within five seconds of the end; 7 ends six seconds before it.
        let expected = LIVE
            .replace("#EXT-X-VERSION:6", "#EXT-X-VERSION:9")
            .replace("#EXT-X-MAP:URI=\"i.mp4\"\n#EXTINF:2,\n7.mp4\n", "#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n");
        assert_eq!(out, expected);
        let short = LIVE.replace("CAN-SKIP-UNTIL=5", "CAN-SKIP-UNTIL=1");
        let out = shaped(&short, &all(), skip).unwrap();
        assert!(
            out.contains("SKIP:SKIPPED-SEGMENTS=3\n#EXT-X-DATERANGE") && out.contains("DATERANGE:ID=\"ad\""),
            "{out}"
        );
        assert!(!out.contains("9.mp4") && out.contains("10.mp4"));
        // Nothing to skip, nothing offered.
        assert_eq!(shaped(&LIVE.replace("UNTIL=5", "UNTIL=60"), &all(), skip), None);
        assert_eq!(shaped(&LIVE.replace(",CAN-SKIP-UNTIL=5", ""), &all(), skip), None);
    }

    #[test]
    fn parts_may_be_ranges_of_what_grows() {
        let ranges = LIVE
            .replace(
                "URI=\"11.0.mp4\"",
                "URI=\"11.mp4\",BYTERANGE=\"40@0\"\n#EXT-X-PART:DURATION=1,URI=\"11.mp4\",BYTERANGE=\"30\"",
            )
            .replace("URI=\"11.1.mp4\"", "URI=\"11.mp4\",BYTERANGE-START=70");
        let mut here = all();
        here.0.insert("11.mp4", 70);
        assert_eq!(shaped(&ranges, &here, PLAIN), None);
        here.0.insert("11.mp4", 69);
        let out = shaped(&ranges, &here, PLAIN).unwrap();
        assert!(
            out.contains("BYTERANGE=\"40@0\"") && !out.contains("BYTERANGE=\"30\"") && !out.contains("HINT"),
            "{out}"
        );
        assert_eq!(byte_range("30", 40), Some(40..70));
        assert_eq!(byte_range("18446744073709551615@1", 0), None);
    }

    #[test]
    fn reports_say_what_is_held_of_the_other_rendition() {
        let mut here = all();
        here.1.insert("../a/live.m3u8", PlaylistEnd { sequence: 11, part: Some(0) });
        let out = shaped(LIVE, &here, PLAIN).unwrap();
        assert!(out.ends_with("REPORT:URI=\"../a/live.m3u8\",LAST-MSN=11,LAST-PART=0\n"), "{out}");
        here.1.insert("../a/live.m3u8", PlaylistEnd { sequence: 10, part: Some(1) });
        assert_eq!(shaped(LIVE, &here, PLAIN), None);
    }

    #[test]
    fn nothing_panics() {
        for text in [
            "",
            "#EXTM3U",
            "a",
            "#EXTINF:x,\na\n",
            "#EXT-X-PART:\n",
            "#EXTM3U\n#EXT-X-BYTERANGE:x\na\n",
            "#EXTINF:1e999,\n\n",
        ] {
            let _ = shaped(text, &Here::default(), PlaylistOptions { skip: true, is_young: true });
        }
    }
}
