//! DASH MPDs (ISO/IEC 23009-1): which URLs they mean. Inheritance Period → AdaptationSet → Representation, BaseURL with
//! alternatives at every level, SegmentTemplate with timeline or duration, SegmentList, SegmentBase, several Periods, xlink.
//!
//! All names are absolute URIs, resolved as players resolve them. A Representation that is not understood is left out with
//! its reason; the rest of the MPD is read.

use carousel::name::resolve;
use carousel::time::{WallTime, duration_from_xml};
use carousel::xml::Element;

use super::{MAX_OBJECTS, TrackKind};

/// BaseURL alternatives of one level that are tried.
const MAX_BASE_URLS: usize = 16;
/// Segments that a packager may have written ahead of the clock, and the clocks of packager and headend may differ by.
const AHEAD_SEGMENTS: u64 = 3;
/// Segments behind the window that are still carried: the MPD that players hold is older than the newest.
const BEHIND_SEGMENTS: u64 = 2;

/// A parsed MPD.
#[derive(Debug, Default)]
pub(super) struct Mpd {
    pub(super) live: bool,
    pub(super) duration_s: Option<f64>,
    pub(super) representations: Vec<Representation>,
    /// References beside the representations (PatchLocation is not one: it is the server's business).
    pub(super) others: Vec<String>,
    /// Representations and Periods that are left out: name and reason.
    pub(super) left_out: Vec<(String, String)>,
}

/// One Representation of one Period.
#[derive(Debug)]
pub(super) struct Representation {
    /// Period, AdaptationSet and Representation id.
    pub(super) ids: [String; 3],
    pub(super) kind: TrackKind,
    pub(super) bandwidth_bps: u64,
    pub(super) codecs: String,
    pub(super) resolution: Option<(u32, u32)>,
    pub(super) language: String,
    pub(super) init: Option<String>,
    /// Index segments, bitstream switching segments.
    pub(super) others: Vec<String>,
    pub(super) addressing: Addressing,
    pub(super) duration_s: f64,
    /// `@mimeType` names a container of boxes.
    pub(super) is_mp4: bool,
}

/// How segments are named.
#[derive(Debug, PartialEq)]
pub(super) enum Addressing {
    /// Each by its URL.
    List(Vec<Named>),
    /// Those listed, then `before` digits `after`: a live template, whose segments are those that exist.
    Pattern {
        listed: Vec<Named>,
        before: String,
        after: String,
        /// Numbers (or times) that the MPD means.
        window: Window,
    },
}

/// A segment by its URL.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) uri: String,
    /// It may be a rounding error, or one of the two ways to count sub-segments.
    pub(super) is_optional: bool,
}

/// Which values of a live template's number exist (clauses 5.3.1.2 and A.3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// The first of the template.
    pub(super) first: u64,
    /// From one to the next.
    pub(super) step: u64,
    /// What is available by the clock, if the MPD says; `first` to infinity otherwise.
    pub(super) available: Option<(u64, u64)>,
}

impl Window {
    /// Whether the template means this value at all.
    pub(super) const fn means(&self, value: u64) -> bool {
        value >= self.first && (value - self.first).is_multiple_of(self.step)
    }

    /// Whether it is available by the clock.
    pub(super) const fn is_available(&self, value: u64) -> bool {
        match self.available {
            Some((from, to)) => value >= from && value <= to,
            None => true,
        }
    }
}

/// What reading an MPD needs to know beside it.
pub(super) struct Surroundings<'a> {
    /// The MPD's own URI.
    pub(super) uri: &'a str,
    pub(super) now: WallTime,
    /// Whether a URI lies below the source's base: which alternative of several BaseURLs is read.
    pub(super) is_ours: &'a dyn Fn(&str) -> bool,
    /// The document of an xlink, where it is ours.
    pub(super) load: &'a dyn Fn(&str) -> Option<Element>,
}

/// Reads an MPD.
pub(super) fn parse(root: &Element, around: &Surroundings<'_>) -> Result<Mpd, String> {
    if root.name != "MPD" {
        return Err(format!("the root is <{}>, not <MPD>", root.name));
    }
    let mut mpd = Mpd { live: root.attribute("type") == Some("dynamic"), ..Mpd::default() };
    mpd.duration_s = seconds(root, "mediaPresentationDuration");
    let base = base_of(around.uri, root, around)?;
    let mut remote = Vec::new();
    let periods: Vec<&Element> = root.all("Period").collect();
    for (at, period) in periods.iter().enumerate() {
        if let Some(href) = xlink(period) {
            remote.push((at, linked(&mut mpd, &base, href, around, &format!("Period {}", at + 1))));
        }
    }
    let period_of = |at: usize| -> &Element {
        let linked = remote.iter().find(|(of, _)| *of == at).and_then(|(_, linked)| linked.as_ref());
        linked.filter(|linked| linked.name == "Period").unwrap_or(periods[at])
    };
    let mut next_start = Some(0.0);
    for at in 0..periods.len() {
        let period = period_of(at);
        // PeriodStart (clause 5.3.2.1): its own, or the end of the Period before.
        let start = seconds(period, "start").or(next_start);
        let next = (at + 1 < periods.len()).then(|| seconds(period_of(at + 1), "start")).flatten();
        let end = if at + 1 == periods.len() { mpd.duration_s } else { None };
        let until = |end: f64| start.map(|start| (end - start).max(0.0));
        let duration_s =
            seconds(period, "duration").or_else(|| next.and_then(until)).or_else(|| end.and_then(until));
        next_start = start.zip(duration_s).map(|(start, duration)| start + duration);
        let id = period.attribute("id").map_or_else(|| at.to_string(), str::to_owned);
        let Ok(period_base) = base_of(&base, period, around) else { continue };
        let clock = Clock::of(root, start, around.now).filter(|_| mpd.live);
        let of =
            Period { id: &id, mpd_uri: around.uri, base: &period_base, duration_s, clock, live: mpd.live };
        read_period(&mut mpd, period, &of, around);
    }
    if mpd.representations.is_empty() && mpd.left_out.is_empty() {
        return Err("no Representation: the MPD is cut off, or still being written".to_owned());
    }
    Ok(mpd)
}

/// The attribute that puts an element elsewhere.
fn xlink(element: &Element) -> Option<&str> {
    let is_href =
        |it: &&carousel::xml::Attribute| it.namespace == "http://www.w3.org/1999/xlink" && it.name == "href";
    element.attributes.iter().find(is_href).map(|it| it.value.as_str())
}

fn linked(mpd: &mut Mpd, base: &str, href: &str, around: &Surroundings<'_>, name: &str) -> Option<Element> {
    if href.starts_with("urn:mpeg:dash:resolve-to-zero") {
        return None;
    }
    let uri = resolve(base, href).ok()?;
    let element = (around.load)(&uri);
    match &element {
        Some(_) => mpd.others.push(uri),
        None => mpd.left_out.push((name.to_owned(), format!("it is remote (xlink to {href})"))),
    }
    element
}

/// One Period.
struct Period<'a> {
    id: &'a str,
    mpd_uri: &'a str,
    base: &'a str,
    duration_s: Option<f64>,
    clock: Option<Clock>,
    live: bool,
}

/// The time that a live Period has run, and how much of it is kept.
#[derive(Debug, Clone, Copy)]
struct Clock {
    elapsed_s: f64,
    depth_s: Option<f64>,
}

impl Clock {
    fn of(root: &Element, start_s: Option<f64>, now: WallTime) -> Option<Self> {
        let began = WallTime::from_xml(root.attribute("availabilityStartTime")?)?;
        let elapsed_s = (now.unix_ms() - began.unix_ms()) as f64 / 1000.0 - start_s?;
        Some(Self { elapsed_s, depth_s: seconds(root, "timeShiftBufferDepth") })
    }

    /// First and last segment that are available, counted from 0, of `segment_s` each.
    fn segments(&self, segment_s: f64) -> (u64, u64) {
        let edge = (self.elapsed_s / segment_s).floor().max(0.0) as u64;
        let kept = self.depth_s.map_or(u64::MAX, |depth| (depth / segment_s).ceil() as u64 + BEHIND_SEGMENTS);
        // Number `edge` is being written; those before it are there.
        (edge.saturating_sub(kept), edge.saturating_add(AHEAD_SEGMENTS))
    }
}

fn read_period(mpd: &mut Mpd, period: &Element, of: &Period<'_>, around: &Surroundings<'_>) {
    for (at, set) in period.all("AdaptationSet").enumerate() {
        let name = || format!("AdaptationSet {}", at + 1);
        let remote = xlink(set).and_then(|href| linked(mpd, of.base, href, around, &name()));
        let set = remote.as_ref().filter(|it| it.name == "AdaptationSet").unwrap_or(set);
        let Ok(set_base) = base_of(of.base, set, around) else { continue };
        let set_id = set.attribute("id").map_or_else(|| at.to_string(), str::to_owned);
        for representation in set.all("Representation") {
            let attribute = |name: &str| {
                representation.attribute(name).or_else(|| set.attribute(name)).unwrap_or_default()
            };
            let number = |name: &str| attribute(name).parse::<u32>().ok();
            let bandwidth_bps = attribute("bandwidth").parse().unwrap_or(0);
            let mut own = Representation {
                ids: [of.id.to_owned(), set_id.clone(), attribute("id").to_owned()],
                kind: kind_of(attribute("contentType"), attribute("mimeType"), attribute("codecs")),
                bandwidth_bps,
                codecs: attribute("codecs").to_owned(),
                resolution: number("width").zip(number("height")),
                language: attribute("lang").to_owned(),
                init: None,
                others: Vec::new(),
                addressing: Addressing::List(Vec::new()),
                duration_s: of.duration_s.unwrap_or(0.0),
                is_mp4: attribute("mimeType").ends_with("/mp4"),
            };
            let levels = [representation, set, period];
            let read = base_of(&set_base, representation, around)
                .and_then(|base| address(&mut own, &levels, &base, of));
            match read {
                Ok(()) => mpd.representations.push(own),
                Err(why) => mpd.left_out.push((format!("Representation {}", own.ids[2]), why)),
            }
        }
    }
}

fn address(
    own: &mut Representation,
    levels: &[&Element; 3],
    base: &str,
    of: &Period<'_>,
) -> Result<(), String> {
    let inherited =
        |name: &str| -> Vec<&Element> { levels.iter().filter_map(|level| level.find(name)).collect() };
    let templates = inherited("SegmentTemplate");
    if !templates.is_empty() {
        return address_template(own, &Inherited(templates), base, of);
    }
    let lists = inherited("SegmentList");
    let others = ["RepresentationIndex", "BitstreamSwitching"];
    if !lists.is_empty() {
        let lists = Inherited(lists);
        own.init = source_url(&lists, "Initialization", base)?;
        for name in others {
            own.others.extend(source_url(&lists, name, base)?);
        }
        let Some(urls) = lists.0.iter().find(|list| list.find("SegmentURL").is_some()) else { return Ok(()) };
        let mut named = Vec::new();
        for url in urls.all("SegmentURL").take(MAX_OBJECTS) {
            // Without @media it is a range of the BaseURL.
            named.push(Named {
                uri: join(base, url.attribute("media").unwrap_or_default())?,
                is_optional: false,
            });
            if let Some(index) = url.attribute("index") {
                own.others.push(join(base, index)?);
            }
        }
        named.dedup();
        own.addressing = Addressing::List(named);
        return Ok(());
    }
    // SegmentBase, or BaseURL alone: the whole file, in which players ask for ranges.
    let bases = Inherited(inherited("SegmentBase"));
    own.init = source_url(&bases, "Initialization", base)?;
    own.others.extend(source_url(&bases, "RepresentationIndex", base)?);
    if base != of.mpd_uri && !base.split('?').next().unwrap_or_default().ends_with('/') {
        own.addressing = Addressing::List(vec![Named { uri: base.to_owned(), is_optional: false }]);
    } else {
        return Err("it names no segments".to_owned());
    }
    Ok(())
}

fn source_url(inherited: &Inherited<'_>, name: &str, base: &str) -> Result<Option<String>, String> {
    let url = inherited.child(name).and_then(|element| element.attribute("sourceURL"));
    url.map(|url| join(base, url)).transpose()
}

fn address_template(
    own: &mut Representation,
    template: &Inherited<'_>,
    base: &str,
    of: &Period<'_>,
) -> Result<(), String> {
    let number = |name: &str| template.attribute(name).and_then(|text| text.parse::<u64>().ok());
    let (id, bandwidth) = (own.ids[2].clone(), own.bandwidth_bps);
    let fill = |text: &str, place: Place| join(base, &fill_template(text, &id, bandwidth, place)?);
    own.init = match template.attribute("initialization") {
        Some(text) => Some(fill(text, Place::default())?),
        None => source_url(template, "Initialization", base)?,
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
            named.push(Named { uri, is_optional });
            return Ok::<(), String>(());
        }
        // Counted from 0 (clause 5.3.9.6.5), by some packagers from 1: the first and the one behind the last may be missing.
        for part in 0..=parts {
            let uri = fill(media, Place { number: Some(number), time: Some(time), sub_number: Some(part) })?;
            named.push(Named { uri, is_optional: is_optional || part == 0 || part == parts });
        }
        Ok(())
    };
    let mut listed = Vec::new();
    let uses_time = media.contains("$Time");
    let period_end = of
        .duration_s
        .map(|seconds| (seconds * timescale as f64) as u64 + number("presentationTimeOffset").unwrap_or(0));
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
        let number = start + segments.len() as u64;
        let available = of.clock.map(|clock| {
            let segment_s = open.duration as f64 / timescale as f64;
            let offset = open.time as f64 / timescale as f64
                - self::number(template, "presentationTimeOffset").unwrap_or(0) as f64 / timescale as f64;
            let clock = Clock { elapsed_s: clock.elapsed_s - offset, ..clock };
            clock.segments(segment_s)
        });
        if uses_time { (open.time, open.duration, available) } else { (number, 1, available) }
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
                let available = of.clock.map(|clock| clock.segments(segment as f64 / timescale as f64));
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
    let filled = fill(media, Place { number: Some(MARK), time: Some(MARK), sub_number: Some(0) })?;
    own.addressing = match filled.split_once(&MARK.to_string()) {
        Some((before, after)) => Addressing::Pattern {
            listed,
            before: before.to_owned(),
            after: after.to_owned(),
            window: Window { first, step: step.max(1), available },
        },
        None => {
            listed.push(Named { uri: filled, is_optional: false });
            Addressing::List(listed)
        }
    };
    Ok(())
}

fn number(template: &Inherited<'_>, name: &str) -> Option<u64> {
    template.attribute(name).and_then(|text| text.parse().ok())
}

/// A segment of a timeline, in units of the timescale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TimelineSegment {
    time: u64,
    duration: u64,
    /// `S@k`: partial segments.
    parts: u64,
}

/// What a SegmentTimeline means.
struct Timeline {
    segments: Vec<TimelineSegment>,
    /// The first of those that go on to the live edge: a last `S` with a negative `@r` whose Period has no end.
    open: Option<TimelineSegment>,
}

fn read_timeline(
    timeline: &Element,
    period_end: Option<u64>,
    end_number: Option<u64>,
    start: u64,
) -> Result<Timeline, String> {
    let mut segments: Vec<TimelineSegment> = Vec::new();
    let mut time = 0_u64;
    let entries: Vec<&Element> = timeline.all("S").collect();
    for (at, entry) in entries.iter().enumerate() {
        let number = |name: &str| entry.attribute(name).and_then(|text| text.parse::<i64>().ok());
        let duration = number("d").filter(|&d| d > 0).ok_or("an S element without a usable @d")? as u64;
        let parts = number("k").filter(|&k| k > 0).unwrap_or(1) as u64;
        if let Some(t) = number("t").filter(|&t| t >= 0) {
            time = t as u64;
        }
        let repeat = match number("r").unwrap_or(0) {
            // Until the next S, or the end of the Period, or the live edge (clause 5.3.9.6.1).
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
        if (segments.len() as u64).saturating_add(repeat) >= MAX_OBJECTS as u64 || parts > 1000 {
            return Err(format!("its SegmentTimeline means more than {MAX_OBJECTS} segments"));
        }
        for _ in 0..=repeat {
            segments.push(TimelineSegment { time, duration, parts });
            time = time.saturating_add(duration);
        }
    }
    Ok(Timeline { segments, open: None })
}

/// What a template's identifiers stand for.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    number: Option<u64>,
    time: Option<u64>,
    sub_number: Option<u64>,
}

/// Fills `$RepresentationID$`, `$Number%05d$`, `$SubNumber$`, `$Time$`, `$Bandwidth$`, `$$`.
fn fill_template(text: &str, id: &str, bandwidth: u64, place: Place) -> Result<String, String> {
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
struct Inherited<'a>(Vec<&'a Element>);

impl<'a> Inherited<'a> {
    fn attribute(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find_map(|element| element.attribute(name))
    }
    fn child(&self, name: &str) -> Option<&'a Element> {
        self.0.iter().find_map(|element| element.find(name))
    }
}

fn kind_of(content_type: &str, mime: &str, codecs: &str) -> TrackKind {
    let main =
        if content_type.is_empty() { mime.split('/').next().unwrap_or_default() } else { content_type };
    match main {
        "video" => TrackKind::Video,
        "audio" => TrackKind::Audio,
        "text" => TrackKind::Subtitles,
        _ if codecs.starts_with("stpp") || codecs.starts_with("wvtt") || mime.contains("ttml") => {
            TrackKind::Subtitles
        }
        _ => TrackKind::Other,
    }
}

fn seconds(element: &Element, name: &str) -> Option<f64> {
    element.attribute(name).and_then(duration_from_xml).map(|duration| duration.as_secs_f64())
}

/// The base of a level: of several BaseURLs, which are alternatives with identical segments (clause 5.6.5), the one that is
/// below the source's own base.
fn base_of(base: &str, element: &Element, around: &Surroundings<'_>) -> Result<String, String> {
    let mut alternatives = Vec::new();
    for url in element.all("BaseURL").take(MAX_BASE_URLS) {
        alternatives.push(join(base, &url.text)?);
    }
    let ours = alternatives.iter().position(|uri| (around.is_ours)(uri)).unwrap_or(0);
    if alternatives.is_empty() { Ok(base.to_owned()) } else { Ok(alternatives.swap_remove(ours)) }
}

fn join(base: &str, reference: &str) -> Result<String, String> {
    resolve(base, reference).map_err(|err| format!("{reference:?}: {err}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use carousel::xml;
    use proptest::prelude::*;

    fn representations(text: &str) -> Vec<Representation> {
        mpd(text).unwrap().representations
    }

    fn mpd(text: &str) -> Result<Mpd, String> {
        let around = Surroundings {
            uri: "http://h/x.mpd",
            now: WallTime::from_unix_ms(1_800_000_000_000),
            is_ours: &|uri| uri.starts_with("http://h/"),
            load: &|uri| {
                let text = "<Period duration='PT2S'><AdaptationSet><Representation id='r'><BaseURL>r.mp4</BaseURL></Representation></AdaptationSet></Period>";
                uri.ends_with("/remote.xml").then(|| xml::parse(text.as_bytes()).unwrap())
            },
        };
        parse(&xml::parse(text.as_bytes()).unwrap(), &around)
    }

    fn list(representation: &Representation) -> Vec<&str> {
        match &representation.addressing {
            Addressing::List(named) => {
                named.iter().map(|it| it.uri.strip_prefix("http://h/").unwrap()).collect()
            }
            Addressing::Pattern { .. } => panic!("a list"),
        }
    }

    #[test]
    fn timeline_template_with_time_and_negative_repeat() {
        let all = representations(
            r#"<MPD type="static" mediaPresentationDuration="PT10S"><BaseURL>v/</BaseURL><Period>
            <AdaptationSet contentType="video"><SegmentTemplate timescale="10" media="$RepresentationID$/$Time$.m4s" initialization="$RepresentationID$/i.mp4">
            <SegmentTimeline><S t="5" d="20"/><S d="20" r="1"/><S d="10" r="-1"/></SegmentTimeline></SegmentTemplate>
            <Representation id="a" bandwidth="9"/></AdaptationSet></Period></MPD>"#,
        );
        assert_eq!(
            list(&all[0]),
            ["v/a/5.m4s", "v/a/25.m4s", "v/a/45.m4s", "v/a/65.m4s", "v/a/75.m4s", "v/a/85.m4s", "v/a/95.m4s"]
        );
        assert_eq!(all[0].init.as_deref(), Some("http://h/v/a/i.mp4"));
    }

    #[test]
    fn number_template_with_width_over_two_periods() {
        let all = representations(
            r#"<MPD mediaPresentationDuration="PT6S"><Period duration="PT4.05S"><AdaptationSet mimeType="audio/mp4">
            <SegmentTemplate duration="2" startNumber="7" media="p1-$Number%03d$-$$-$Bandwidth$.m4s"/><Representation id="x" bandwidth="5"/></AdaptationSet></Period>
            <Period start="PT4S"><AdaptationSet><Representation id="y"><SegmentTemplate duration="2" media="p2-$Number$.m4s"/></Representation></AdaptationSet></Period></MPD>"#,
        );
        assert_eq!(list(&all[0]), ["p1-007-$-5.m4s", "p1-008-$-5.m4s", "p1-009-$-5.m4s"]);
        let Addressing::List(named) = &all[0].addressing else { panic!("a list") };
        assert_eq!(named.iter().map(|it| it.is_optional).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!(list(&all[1]), ["p2-1.m4s"]);
        assert_eq!(all[0].kind, TrackKind::Audio);
    }

    #[test]
    fn live_number_template_takes_what_is_there() {
        let all = representations(
            r#"<MPD type="dynamic"><Period><AdaptationSet><SegmentTemplate duration="2" media="$RepresentationID$_$Number%05d$.m4s"/>
            <Representation id="1"/></AdaptationSet></Period></MPD>"#,
        );
        let window = Window { first: 1, step: 1, available: None };
        let (before, after) = ("http://h/1_".into(), ".m4s".into());
        assert_eq!(all[0].addressing, Addressing::Pattern { listed: vec![], before, after, window });
    }

    #[test]
    fn lists_single_files_and_bases() {
        let all = representations(
            r#"<MPD><Period><BaseURL>a/</BaseURL><AdaptationSet><Representation id="l"><SegmentList><Initialization sourceURL="i.mp4"/>
            <SegmentURL media="1.m4s"/><SegmentURL media="2.m4s"/></SegmentList></Representation>
            <Representation id="b"><BaseURL>film.mp4</BaseURL><SegmentBase indexRange="0-99"/></Representation></AdaptationSet>
            <AdaptationSet mimeType="text/vtt"><Representation id="t"><BaseURL>/abs/en.vtt</BaseURL></Representation></AdaptationSet></Period></MPD>"#,
        );
        assert_eq!(
            (list(&all[0]), all[0].init.as_deref()),
            (vec!["a/1.m4s", "a/2.m4s"], Some("http://h/a/i.mp4"))
        );
        assert_eq!(list(&all[1]), ["a/film.mp4"]);
        assert_eq!(list(&all[2]), ["abs/en.vtt"]);
        assert_eq!(all[2].kind, TrackKind::Subtitles);
    }

    #[test]
    fn hostile_counts_and_templates_leave_their_representation_out() {
        for body in [
            r#"<SegmentTemplate media="$Number$" timescale="1"><SegmentTimeline><S d="1" r="1000000000"/></SegmentTimeline></SegmentTemplate>"#,
            r#"<SegmentTemplate media="$Number$" duration="1" timescale="1000000000"/>"#,
            r#"<SegmentTemplate media="$Number" duration="1"/>"#,
            r#"<SegmentTemplate media="$Nonsense$" duration="1"/>"#,
            r#"<SegmentTemplate media="$Time$"><SegmentTimeline><S d="0"/></SegmentTimeline></SegmentTemplate>"#,
        ] {
            let text = format!(
                r#"<MPD mediaPresentationDuration="PT10S"><Period><AdaptationSet>{body}<Representation id="1"/></AdaptationSet>
                <AdaptationSet><Representation id="2"><BaseURL>a.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"#
            );
            let mpd = mpd(&text).unwrap();
            assert_eq!((mpd.left_out.len(), mpd.representations.len()), (1, 1), "{body}");
            assert_eq!(mpd.left_out[0].0, "Representation 1");
        }
        assert!(mpd("<SmoothStreamingMedia/>").is_err());
    }

    #[test]
    fn periods_begin_where_the_one_before_ends() {
        let all = representations(
            r#"<MPD mediaPresentationDuration="PT8S"><Period duration="PT4S"><AdaptationSet><SegmentTemplate duration="2" media="$Number$"/><Representation id="a"/></AdaptationSet></Period>
            <Period><AdaptationSet><SegmentTemplate duration="2" media="$Number$" startNumber="3"/><Representation id="a"/></AdaptationSet></Period></MPD>"#,
        );
        assert_eq!((list(&all[0]), list(&all[1])), (vec!["1", "2"], vec!["3", "4"]));
    }

    #[test]
    fn of_several_bases_ours_is_read() {
        let all = representations(
            r#"<MPD><BaseURL>https://cdn-a.example.net/v/</BaseURL><BaseURL>HTTP://H:80/x/../</BaseURL><Period><AdaptationSet>
            <Representation id="a"><BaseURL>a%2fb.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"#,
        );
        assert_eq!(list(&all[0]), ["a%2Fb.mp4"]);
    }

    /// 1,800,000,000 s is 2027-01-15T08:00:00Z.
    #[test]
    fn live_windows_follow_the_clock() {
        let window = |attributes: &str, template: &str| {
            let text = format!(
                r#"<MPD type="dynamic" availabilityStartTime="2027-01-15T07:00:00Z" {attributes}><Period start="PT0S"><AdaptationSet>
                {template}<Representation id="1"/></AdaptationSet></Period></MPD>"#
            );
            match &representations(&text)[0].addressing {
                Addressing::Pattern { listed, window, .. } => (listed.len(), *window),
                Addressing::List(_) => panic!("a pattern"),
            }
        };
        let numbers = r#"<SegmentTemplate duration="2" media="$Number$"/>"#;
        let (_, by_number) = window(r#"timeShiftBufferDepth="PT30S""#, numbers);
        assert_eq!(by_number.available, Some((1784, 1804)));
        assert!(by_number.means(1) && !by_number.means(0) && !by_number.is_available(90_001));
        assert_eq!(window("", numbers).1.available, Some((1, 1804)));
        let times = r#"<SegmentTemplate timescale="10" media="$Time$"><SegmentTimeline><S t="0" d="20" r="1"/><S d="20" r="-1"/></SegmentTimeline></SegmentTemplate>"#;
        let (listed, by_time) = window(r#"timeShiftBufferDepth="PT30S""#, times);
        assert_eq!((listed, by_time.first, by_time.step), (2, 40, 20));
        assert!(
            by_time.means(60)
                && !by_time.means(61)
                && by_time.is_available(36_000)
                && !by_time.is_available(60)
        );
    }

    #[test]
    fn sub_segments_indexes_and_links() {
        let text = r#"<MPD mediaPresentationDuration="PT8S" xmlns:xlink="http://www.w3.org/1999/xlink"><Period duration="PT8S"><AdaptationSet>
            <SegmentTemplate media="$Number$.$SubNumber$" index="$Number$.sidx" bitstreamSwitching="bs.mp4"><SegmentTimeline><S t="0" d="4" r="1" k="2"/></SegmentTimeline></SegmentTemplate>
            <Representation id="a"/></AdaptationSet></Period><Period xlink:href="remote.xml"/><Period xlink:href="gone.xml"/></MPD>"#;
        let mpd = mpd(text).unwrap();
        let Addressing::List(named) = &mpd.representations[0].addressing else { panic!("a list") };
        let named: Vec<_> =
            named.iter().map(|it| (it.uri.trim_start_matches("http://h/"), it.is_optional)).collect();
        assert_eq!(
            named,
            [("1.0", true), ("1.1", false), ("1.2", true), ("2.0", true), ("2.1", false), ("2.2", true)]
        );
        assert_eq!(mpd.representations[0].others, ["http://h/bs.mp4", "http://h/1.sidx", "http://h/2.sidx"]);
        assert_eq!(list(&mpd.representations[1]), ["r.mp4"]);
        assert_eq!(mpd.others, ["http://h/remote.xml"]);
        assert_eq!(mpd.left_out, [("Period 3".to_owned(), "it is remote (xlink to gone.xml)".to_owned())]);
    }

    proptest! {
        #[test]
        fn no_template_panics(text in "[$%a-zA-Z0-9]{0,30}") {
            let _ = fill_template(&text, "id", 1, Place { number: Some(2), time: Some(3), sub_number: None });
        }
    }
}
