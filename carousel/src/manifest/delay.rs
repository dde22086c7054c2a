//! Presentation delay of live MPDs: the distance from the live edge at which players begin.
//!
//! A packager that writes one segment as `MPD@suggestedPresentationDelay` (FFmpeg does) makes players begin where the next
//! segment is still being made: dash.js and Shaka Player stall for some seconds after the start until they have fallen back
//! far enough.

use quick_xml::events::Event;
use quick_xml::reader::Reader;

use super::duration_ms;
use super::timeline::with_attribute;

/// Margin beyond segment and update: the request, and the transfer of the segment to the box.
const MARGIN_MS: u64 = 500;

/// Raises the suggested delay of a live MPD to the minimum for playback without stalls: one segment, which is being sent; with
/// a `SegmentTimeline` also one update, after which the segment is listed; and [`MARGIN_MS`]. At most half the window.
///
/// `segment_ms`: duration of its segments; `update_ms`: `MPD@minimumUpdatePeriod`, with which a player learns of segments.
///
/// `None`: no change is needed. That is the case if its delay is long enough, if it suggests none (players default to three
/// segments or more), and for low latency, where the delay is intended (`Latency`, `@availabilityTimeOffset`).
pub fn delayed(text: &str, segment_ms: u64, update_ms: u64) -> Option<String> {
    const DELAY: &str = "suggestedPresentationDelay";
    if !text.contains(DELAY) || text.contains("availabilityTimeOffset") || text.contains("Latency") {
        return None;
    }
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = false;
    let (begin, root, end) = loop {
        let begin = usize::try_from(reader.buffer_position()).ok()?;
        match reader.read_event().ok()? {
            Event::Start(it) => break (begin, it, usize::try_from(reader.buffer_position()).ok()?),
            Event::Eof | Event::Empty(_) => return None,
            _ => {}
        }
    };
    let ms = |name: &str| duration_ms(&root, name);
    let (delay_ms, window_ms) = (ms(DELAY)?, ms("timeShiftBufferDepth"));
    let update_ms = if text.contains("SegmentTimeline") { update_ms } else { 0 };
    let needed_ms = segment_ms.saturating_add(update_ms).saturating_add(MARGIN_MS);
    let needed_ms = window_ms.map_or(needed_ms, |window_ms| needed_ms.min(window_ms / 2));
    if root.local_name().as_ref() != "MPD" || delay_ms >= needed_ms {
        return None;
    }
    let delay = format!("PT{}.{:03}S", needed_ms / 1000, needed_ms % 1000);
    let root = with_attribute(text.get(begin..end)?, DELAY, &delay)?;
    Some([text.get(..begin)?, &root, text.get(end..)?].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mpd(attributes: &str, inner: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<!-- MPD suggestedPresentationDelay=\"PT1S\" -->\n<MPD type=\"dynamic\" {attributes}>{inner}</MPD>"
        )
    }

    const TIMELINE: &str = "<SegmentTimeline><S d='2'/></SegmentTimeline>";

    #[test]
    fn a_delay_of_one_segment_becomes_long_enough_and_nothing_else_changes() {
        // As FFmpeg writes it.
        const WINDOW_S: u64 = 20;
        let of = |delay: &str| {
            let window = format!("timeShiftBufferDepth='PT{WINDOW_S}.0S'");
            mpd(&format!("suggestedPresentationDelay=\"{delay}\" {window}"), TIMELINE)
        };
        assert_eq!(delayed(&of("PT2S"), 2000, 2000), Some(of("PT4.500S")));
        assert_eq!(delayed(&of("PT4.499S"), 2000, 2000), Some(of("PT4.500S")));
        assert_eq!(delayed(&of("PT4.5S"), 2000, 2000), None);
        assert_eq!(delayed(&of("PT1M"), 2000, 2000), None);
        // No more than half the window.
        let half = format!("PT{}.000S", WINDOW_S / 2);
        assert_eq!(delayed(&of("PT2S"), 8000, 8000), Some(of(&half)));
        // Segments follow from the clock: no update is waited for.
        let clock = |delay: &str| mpd(&format!("suggestedPresentationDelay='{delay}'"), "");
        assert_eq!(delayed(&clock("PT2S"), 2000, 2000), Some(clock("PT2.500S")));
    }

    #[test]
    fn low_latency_and_defaults_of_players_stay() {
        let delay = "suggestedPresentationDelay=\"PT2S\"";
        assert_eq!(delayed(&mpd("", TIMELINE), 2000, 2000), None);
        assert_eq!(
            delayed(
                &mpd(delay, "<ServiceDescription><Latency target=\"2000\"/></ServiceDescription>"),
                2000,
                2000
            ),
            None
        );
        assert_eq!(
            delayed(&mpd(delay, "<SegmentTemplate availabilityTimeOffset=\"1.8\"/>"), 2000, 2000),
            None
        );
        assert!(
            delayed(&mpd(delay, "<ServiceDescription id=\"0\"></ServiceDescription>"), 2000, 2000).is_some()
        );
        for text in [
            "",
            "suggestedPresentationDelay",
            "<MPD suggestedPresentationDelay=\"x\">",
            "<A suggestedPresentationDelay='PT1S'></A>",
        ] {
            assert_eq!(delayed(text, 2000, 2000), None, "{text}");
        }
    }
}
