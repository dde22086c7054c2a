//! SegmentTemplate (clause 5.3.9.4): names from numbers and times.

use carousel::xml::Element;

use super::super::MAX_OBJECTS;
use super::timeline::{Timeline, read_timeline};
use super::{Addressing, Clock, Named, Period, Representation, Window, initialization, join, source_url};

/// Partial segments of one segment; low latency has a hundred at most.
pub(super) const MAX_PARTS: u64 = 1000;

pub(super) fn address_template(
    own: &mut Representation,
    template: &Inherited<'_>,
    base: &str,
    of: &Period<'_>,
) -> Result<(), String> {
    let number = |name: &str| template.attribute(name).and_then(|text| text.parse::<u64>().ok());
    let (id, bandwidth) = (own.ids[2].clone(), own.bandwidth_bps);
    let fill = |text: &str, place: Place| join(base, &fill_template(text, &id, bandwidth, place)?);
    own.init = match template.attribute("initialization") {
        Some(text) => Some(Named { uri: fill(text, Place::default())?, range: None, is_optional: false }),
        None => initialization(template, base)?,
    };
    if let Some(text) = template.attribute("bitstreamSwitching") {
        own.others.push(fill(text, Place::default())?);
    }
    for name in ["RepresentationIndex", "BitstreamSwitching"] {
        own.others.extend(source_url(template, name, base)?);
    }
    let Some(media) = template.attribute("media") else {
        return if own.init.is_some() { Ok(()) } else { Err("its template has no @media".to_owned()) };
    };
    let (timescale, start) = (number("timescale").unwrap_or(1).max(1), number("startNumber").unwrap_or(1));
    let index = template.attribute("index");
    let mut name = |named: &mut Vec<Named>, number: u64, time: u64, parts: u64, is_optional: bool| {
        if let Some(index) = index {
            let uri = fill(index, Place { number: Some(number), time: Some(time), sub_number: None })?;
            if own.others.last() != Some(&uri) {
                own.others.push(uri);
            }
        }
        if !media.contains("$SubNumber") {
            let uri = fill(media, Place { number: Some(number), time: Some(time), sub_number: None })?;
            named.push(Named { uri, range: None, is_optional });
            return Ok::<(), String>(());
        }
        // Counted from 0 (clause 5.3.9.6.5), by some packagers from 1: the first and the one behind the last may be missing.
        for part in 0..=parts {
            let uri = fill(media, Place { number: Some(number), time: Some(time), sub_number: Some(part) })?;
            let is_optional = is_optional || part == 0 || part == parts;
            named.push(Named { uri, range: None, is_optional });
        }
        Ok(())
    };
    let mut listed = Vec::new();
    let uses_time = media.contains("$Time");
    let period_end = of
        .duration_s
        .map(|seconds| (seconds * timescale as f64) as u64 + number("presentationTimeOffset").unwrap_or(0));
    let mut open_parts = None;
    let mut most = None;
    let (first, step, available) = if let Some(timeline) = template.child("SegmentTimeline") {
        let Timeline { segments, open } = read_timeline(timeline, period_end, number("endNumber"), start)?;
        let total: u64 = segments.iter().map(|segment| segment.duration).sum();
        for (at, segment) in segments.iter().enumerate() {
            name(&mut listed, start + at as u64, segment.time, segment.parts, false)?;
        }
        own.duration_s = total as f64 / timescale as f64;
        let Some(open) = open else {
            own.addressing = Addressing::List(listed);
            return Ok(());
        };
        open_parts = Some(open.parts);
        let next = start + segments.len() as u64;
        let available = of.clock.map(|clock| {
            let segment_s = open.duration as f64 / timescale as f64;
            let offset = open.time as f64 / timescale as f64
                - number("presentationTimeOffset").unwrap_or(0) as f64 / timescale as f64;
            let clock = Clock { elapsed_s: clock.elapsed_s - offset, ..clock };
            most = clock.most(segment_s);
            clock.segments(segment_s)
        });
        if uses_time { (open.time, open.duration, available) } else { (next, 1, available) }
    } else {
        let segment = number("duration").filter(|&duration| duration > 0);
        match (segment, of.duration_s) {
            (Some(segment), Some(period)) if !of.live || of.clock.is_none() => {
                let exact = period * timescale as f64 / segment as f64;
                if exact > MAX_OBJECTS as f64 {
                    return Err(format!("its template means {exact:.0} segments"));
                }
                // Rounded up from a duration: the last one may be a rounding error.
                let may_be_missing = exact.fract() > 0.0 && exact.fract() < 0.1;
                let count = exact.ceil() as u64;
                let end = number("endNumber")
                    .map_or(count, |end| (end + 1).saturating_sub(start).min(MAX_OBJECTS as u64));
                for at in 0..end {
                    let is_optional = may_be_missing && at + 1 == end;
                    name(&mut listed, start + at, at * segment, number("k").unwrap_or(1), is_optional)?;
                }
                own.addressing = Addressing::List(listed);
                return Ok(());
            }
            (Some(segment), _) => {
                let segment_s = segment as f64 / timescale as f64;
                let available = of.clock.map(|clock| clock.segments(segment_s));
                most = of.clock.and_then(|clock| clock.most(segment_s));
                if uses_time { (0, segment, available) } else { (start, 1, available) }
            }
            // Without a duration, one segment that is the Representation (clause 5.3.9.6.1), or whatever is there.
            (None, _) => (start, 1, None),
        }
    };
    let available = available.map(|(from, to)| {
        (first.saturating_add(from.saturating_mul(step)), first.saturating_add(to.saturating_mul(step)))
    });
    // A marker that no name has stands for the number, and is then cut out.
    const MARK: u64 = 18_446_744_073_709_551_557;
    // Partial segments are counted from 0 (clause 5.3.9.6.5), by some packagers from 1.
    let parts = open_parts.or_else(|| number("k")).unwrap_or(1).clamp(1, MAX_PARTS);
    let parts = if media.contains("$SubNumber") { parts } else { 0 };
    let mut affixes = Vec::new();
    for part in 0..=parts {
        let place = Place { number: Some(MARK), time: Some(MARK), sub_number: Some(part) };
        let filled = fill(media, place)?;
        match filled.split_once(&MARK.to_string()) {
            Some((before, after)) => affixes.push((before.to_owned(), after.to_owned())),
            None => listed.push(Named { uri: filled, range: None, is_optional: part != 0 }),
        }
    }
    own.addressing = if affixes.is_empty() {
        Addressing::List(listed)
    } else {
        Addressing::Pattern {
            listed,
            affixes,
            window: Window { first, step: step.max(1), available, most: most.map(|most| most as usize) },
        }
    };
    Ok(())
}

/// What a template's identifiers stand for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) number: Option<u64>,
    pub(super) time: Option<u64>,
    pub(super) sub_number: Option<u64>,
}

/// Fills `$RepresentationID$`, `$Number%05d$`, `$SubNumber$`, `$Time$`, `$Bandwidth$`, `$$`.
pub(super) fn fill_template(text: &str, id: &str, bandwidth: u64, place: Place) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, tail) =
            after.split_once('$').ok_or_else(|| format!("template {text:?} has an odd number of $"))?;
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
            other => return Err(format!("its template {text:?} has an unknown ${other}$")),
        };
        let value =
            value.ok_or_else(|| format!("its template {text:?} uses ${identifier}$ where there is none"))?;
        out.push_str(&format!("{value:0width$}", width = width.min(32)));
    }
    out.push_str(rest);
    Ok(out)
}

/// Elements of one name, nearest level first.
pub(super) struct Inherited<'a>(pub(super) Vec<&'a Element>);

impl<'a> Inherited<'a> {
    pub(super) fn attribute(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find_map(|element| element.attribute(name))
    }
    pub(super) fn child(&self, name: &str) -> Option<&'a Element> {
        self.0.iter().find_map(|element| element.find(name))
    }
}
