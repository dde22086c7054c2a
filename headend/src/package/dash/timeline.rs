//! SegmentTimeline (clause 5.3.9.6).

use carousel::xml::Element;

use super::super::MAX_OBJECTS;
use super::super::manifest_error::MpdError;
use super::template::MAX_PARTS;

/// A segment of a timeline, in units of the timescale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimelineSegment {
    pub(super) time: u64,
    pub(super) duration: u64,
    /// `S@k`: partial segments.
    pub(super) parts: u64,
}

/// Segments of a SegmentTimeline.
pub(super) struct Timeline {
    pub(super) segments: Vec<TimelineSegment>,
    /// First of an open series up to the live edge: a last `S` with a negative `@r` in a Period without an end.
    pub(super) open: Option<TimelineSegment>,
}

pub(super) fn read_timeline(
    timeline: &Element,
    period_end: Option<u64>,
    end_number: Option<u64>,
    start: u64,
) -> Result<Timeline, MpdError> {
    let mut segments: Vec<TimelineSegment> = Vec::new();
    let mut time = 0_u64;
    let entries: Vec<&Element> = timeline.all("S").collect();
    for (at, entry) in entries.iter().enumerate() {
        let number = |name: &str| entry.attribute(name).and_then(|text| text.parse::<i64>().ok());
        let duration = number("d").filter(|&d| d > 0).ok_or(MpdError::Duration)? as u64;
        let parts = number("k").filter(|&k| k > 0).unwrap_or(1) as u64;
        if let Some(t) = number("t").filter(|&t| t >= 0) {
            time = t as u64;
        }
        let repeat = match number("r").unwrap_or(0) {
            // Repeats until the next S, the end of the Period, or the live edge (clause 5.3.9.6.1).
            ..0 => {
                let next = entries.get(at + 1).and_then(|next| next.attribute("t")?.parse::<u64>().ok());
                let by_number = end_number.filter(|_| at + 1 == entries.len()).map(|end| {
                    (end + 1).saturating_sub(start + segments.len() as u64).saturating_mul(duration) + time
                });
                match next.or(period_end).or(by_number) {
                    Some(end) => end.saturating_sub(time).div_ceil(duration).saturating_sub(1),
                    None => {
                        return Ok(Timeline {
                            segments,
                            open: Some(TimelineSegment { time, duration, parts }),
                        });
                    }
                }
            }
            repeat => repeat as u64,
        };
        if (segments.len() as u64).saturating_add(repeat) >= MAX_OBJECTS as u64 || parts > MAX_PARTS {
            return Err(MpdError::LongTimeline);
        }
        for _ in 0..=repeat {
            segments.push(TimelineSegment { time, duration, parts });
            time = time.saturating_add(duration);
        }
    }
    Ok(Timeline { segments, open: None })
}
