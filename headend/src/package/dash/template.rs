//! SegmentTemplate (clause 5.3.9.4): names from numbers and times.

use carousel::xml::Element;

use super::super::MAX_OBJECTS;
use super::super::manifest_error::MpdError;
use super::timeline::{Timeline, read_timeline};
use super::{
    Addressing, Clock, Period, Representation, SegmentUrl, Window, initialization, join, source_url,
};

carousel::limits! {
    /// Partial segments of one segment.
    pub(super) const MAX_PARTS: u64 = 1000, "parts" {
        why: "Low latency has a hundred at most.",
        full: "The Representation is left out, or has as many.",
        free: "Holds for one segment.",
        test: "hostile_counts_and_templates_leave_their_representation_out",
    }
}

/// Parses the addressing of a Representation with a SegmentTemplate.
///
/// # Errors
/// One line: the invalid part, or more segments than [`MAX_OBJECTS`].
pub(super) fn address_template(
    own: &mut Representation,
    template: &InheritedElements<'_>,
    base: &str,
    of: &Period<'_>,
) -> Result<(), MpdError> {
    let (id, bandwidth_bps) = (own.ids[2].clone(), own.bandwidth_bps);
    let fill = |text: &str| join(base, &fill_template(text, &id, bandwidth_bps, TemplateValues::default())?);
    own.init = match template.attribute("initialization") {
        Some(text) => Some(SegmentUrl { uri: fill(text)?, range: None, is_optional: false }),
        None => initialization(template, base)?,
    };
    if let Some(text) = template.attribute("bitstreamSwitching") {
        own.others.push(fill(text)?);
    }
    for name in ["RepresentationIndex", "BitstreamSwitching"] {
        own.others.extend(source_url(template, name, base)?);
    }
    let Some(media) = template.attribute("media") else {
        return if own.init.is_some() { Ok(()) } else { Err(MpdError::NoMedia) };
    };
    let index = template.attribute("index");
    let others = &mut own.others;
    let mut names = Names { media, index, base, id: &id, bandwidth_bps, others, listed: Vec::new() };
    let open = match template.child("SegmentTimeline") {
        Some(timeline) => names.add_timeline(template, timeline, of, &mut own.duration_s)?,
        None => names.add_by_duration(template, of)?,
    };
    own.addressing = match open {
        Some(open) => names.into_pattern(&open)?,
        None => Addressing::List(names.listed),
    };
    Ok(())
}

/// Segments with an open end, which are not listed individually.
struct Open {
    /// Number or time of the first one.
    first: u64,
    /// Difference between consecutive ones.
    step: u64,
    /// First and last available at the current time, counted from 0.
    available: Option<(u64, u64)>,
    /// Segments in the window, if it has an end.
    most: Option<u64>,
    /// Partial segments of each.
    parts: Option<u64>,
}

/// Names of one Representation's segments.
struct Names<'a> {
    media: &'a str,
    index: Option<&'a str>,
    base: &'a str,
    id: &'a str,
    bandwidth_bps: u64,
    /// Index segments.
    others: &'a mut Vec<String>,
    listed: Vec<SegmentUrl>,
}

impl Names<'_> {
    fn fill(&self, text: &str, place: TemplateValues) -> Result<String, MpdError> {
        join(self.base, &fill_template(text, self.id, self.bandwidth_bps, place)?)
    }

    fn uses_time(&self) -> bool {
        self.media.contains("$Time")
    }

    /// Adds a segment, or its partial segments.
    fn add(&mut self, number: u64, time: u64, parts: u64, is_optional: bool) -> Result<(), MpdError> {
        let place = TemplateValues { number: Some(number), time: Some(time), sub_number: None };
        if let Some(index) = self.index {
            let uri = self.fill(index, place)?;
            if self.others.last() != Some(&uri) {
                self.others.push(uri);
            }
        }
        if !self.media.contains("$SubNumber") {
            let uri = self.fill(self.media, place)?;
            self.listed.push(SegmentUrl { uri, range: None, is_optional });
            return Ok(());
        }
        // Counted from 0 (clause 5.3.9.6.5), by some packagers from 1: the first and the one after the last may be missing.
        for part in 0..=parts {
            let uri = self.fill(self.media, TemplateValues { sub_number: Some(part), ..place })?;
            let is_optional = is_optional || part == 0 || part == parts;
            self.listed.push(SegmentUrl { uri, range: None, is_optional });
        }
        Ok(())
    }

    /// Adds the segments of a SegmentTimeline; returns its last entry if that is open.
    fn add_timeline(
        &mut self,
        template: &InheritedElements<'_>,
        timeline: &Element,
        of: &Period<'_>,
        duration_s: &mut f64,
    ) -> Result<Option<Open>, MpdError> {
        let (timescale, start) = (template.timescale(), template.start_number());
        let offset = template.number("presentationTimeOffset").unwrap_or(0);
        let period_end = of.duration_s.map(|seconds| (seconds * timescale as f64) as u64 + offset);
        let Timeline { segments, open } =
            read_timeline(timeline, period_end, template.number("endNumber"), start)?;
        let total: u64 = segments.iter().map(|segment| segment.duration).sum();
        for (at, segment) in segments.iter().enumerate() {
            self.add(start + at as u64, segment.time, segment.parts, false)?;
        }
        *duration_s = total as f64 / timescale as f64;
        let Some(open) = open else { return Ok(None) };
        let segment_s = open.duration as f64 / timescale as f64;
        let clock = of.clock.map(|clock| {
            let offset_s = open.time as f64 / timescale as f64 - offset as f64 / timescale as f64;
            Clock { elapsed_s: clock.elapsed_s - offset_s, ..clock }
        });
        let next = start + segments.len() as u64;
        let (first, step) = if self.uses_time() { (open.time, open.duration) } else { (next, 1) };
        Ok(Some(Open {
            first,
            step,
            available: clock.map(|clock| clock.segments(segment_s)),
            most: clock.and_then(|clock| clock.most(segment_s)),
            parts: Some(open.parts),
        }))
    }

    /// Adds the segments of a Period with a known end, by their `@duration`; otherwise returns them as open.
    fn add_by_duration(
        &mut self,
        template: &InheritedElements<'_>,
        of: &Period<'_>,
    ) -> Result<Option<Open>, MpdError> {
        let (timescale, start) = (template.timescale(), template.start_number());
        let parts = template.number("k");
        let Some(segment) = template.number("duration").filter(|&duration| duration > 0) else {
            // Without a duration, one segment for the Representation (clause 5.3.9.6.1), or the existing files.
            return Ok(Some(Open { first: start, step: 1, available: None, most: None, parts }));
        };
        if let Some(period) = of.duration_s
            && (!of.live || of.clock.is_none())
        {
            let exact = period * timescale as f64 / segment as f64;
            if exact > MAX_OBJECTS as f64 {
                return Err(MpdError::Count(exact as u64));
            }
            // The number is rounded up: the last segment may be a rounding error.
            let may_be_missing = exact.fract() > 0.0 && exact.fract() < 0.1;
            let count = exact.ceil() as u64;
            let end = template
                .number("endNumber")
                .map_or(count, |end| (end + 1).saturating_sub(start).min(MAX_OBJECTS as u64));
            for at in 0..end {
                let is_optional = may_be_missing && at + 1 == end;
                self.add(start + at, at * segment, parts.unwrap_or(1), is_optional)?;
            }
            return Ok(None);
        }
        let segment_s = segment as f64 / timescale as f64;
        let (first, step) = if self.uses_time() { (0, segment) } else { (start, 1) };
        Ok(Some(Open {
            first,
            step,
            available: of.clock.map(|clock| clock.segments(segment_s)),
            most: of.clock.and_then(|clock| clock.most(segment_s)),
            parts,
        }))
    }

    /// Converts names to the parts before and after the number, for finding existing files.
    fn into_pattern(mut self, open: &Open) -> Result<Addressing, MpdError> {
        // A unique marker in place of the number, which is then removed.
        const MARK: u64 = 18_446_744_073_709_551_557;
        let &Open { first, step, .. } = open;
        // Partial segments are counted from 0 (clause 5.3.9.6.5), by some packagers from 1.
        let parts = open.parts.unwrap_or(1).clamp(1, MAX_PARTS);
        let parts = if self.media.contains("$SubNumber") { parts } else { 0 };
        let mut affixes = Vec::new();
        for part in 0..=parts {
            let place = TemplateValues { number: Some(MARK), time: Some(MARK), sub_number: Some(part) };
            let filled = self.fill(self.media, place)?;
            match filled.split_once(&MARK.to_string()) {
                Some((before, after)) => affixes.push((before.to_owned(), after.to_owned())),
                None => self.listed.push(SegmentUrl { uri: filled, range: None, is_optional: part != 0 }),
            }
        }
        if affixes.is_empty() {
            return Ok(Addressing::List(self.listed));
        }
        let nth = |at: u64| first.saturating_add(at.saturating_mul(step));
        let window = Window {
            first,
            step: step.max(1),
            available: open.available.map(|(from, to)| (nth(from), nth(to))),
            most: open.most.map(|most| most as usize),
        };
        Ok(Addressing::Pattern { listed: self.listed, affixes, window })
    }
}

/// Values of a template's identifiers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TemplateValues {
    pub(super) number: Option<u64>,
    pub(super) time: Option<u64>,
    pub(super) sub_number: Option<u64>,
}

/// Fills `$RepresentationID$`, `$Number%05d$`, `$SubNumber$`, `$Time$`, `$Bandwidth$`, `$$`.
pub(super) fn fill_template(
    text: &str,
    id: &str,
    bandwidth: u64,
    place: TemplateValues,
) -> Result<String, MpdError> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, tail) = after.split_once('$').ok_or_else(|| MpdError::Dollars(text.to_owned()))?;
        rest = tail;
        let (identifier, format) = name.split_once('%').unwrap_or((name, "01d"));
        let width: usize = format.trim_end_matches('d').trim_start_matches('0').parse().unwrap_or(1);
        let value = match identifier {
            "" => {
                out.push('$');
                continue;
            }
            "RepresentationID" => {
                out.push_str(id);
                continue;
            }
            "Bandwidth" => Some(bandwidth),
            "Number" => place.number,
            "SubNumber" => place.sub_number,
            "Time" => place.time,
            other => return Err(MpdError::UnknownIdentifier(text.to_owned(), other.to_owned())),
        };
        let value = value.ok_or_else(|| MpdError::NoIdentifier(text.to_owned(), identifier.to_owned()))?;
        out.push_str(&format!("{value:0width$}", width = width.min(32)));
    }
    out.push_str(rest);
    Ok(out)
}

/// Elements of one name, nearest level first.
pub(super) struct InheritedElements<'a>(pub(super) Vec<&'a Element>);

impl<'a> InheritedElements<'a> {
    pub(super) fn attribute(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find_map(|element| element.attribute(name))
    }

    pub(super) fn child(&self, name: &str) -> Option<&'a Element> {
        self.0.iter().find_map(|element| element.find(name))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.attribute(name).and_then(|text| text.parse().ok())
    }

    /// Timescale: units per second.
    fn timescale(&self) -> u64 {
        self.number("timescale").unwrap_or(1).max(1)
    }

    fn start_number(&self) -> u64 {
        self.number("startNumber").unwrap_or(1)
    }
}
