//! Parser of DASH MPDs (ISO/IEC 23009-1) for the URLs of their segments. Inheritance Period → AdaptationSet →
//! Representation, BaseURL with alternatives at every level, SegmentTemplate with timeline or duration, SegmentList,
//! SegmentBase, several Periods, xlink.
//!
//! All names are absolute URIs, resolved like players do. An unsupported Representation is left out with its reason; the
//! rest of the MPD is used.

mod template;
mod timeline;

use std::ops::Range;

use carousel::name::resolve;
use carousel::time::{WallTime, duration_from_xml};
use carousel::xml::Element;

use super::manifest_error::MpdError;
use super::{MAX_OBJECTS, TrackKind};
use template::{InheritedElements, address_template};

carousel::limits! {
    /// BaseURL alternatives of one level of an MPD.
    const MAX_BASE_URLS: usize = 16, "URLs" {
        why: "One for each CDN.",
        full: "Further ones are not considered.",
        free: "Holds for one level.",
        test: "bases_of_every_level_may_be_alternatives",
    }
}

/// Segments that a packager may write ahead of the clock; also covers differences of the clocks of packager and headend.
const AHEAD_SEGMENTS: u64 = 3;
/// Segments before the window that are still carried: players may hold an older MPD.
const BEHIND_SEGMENTS: u64 = 2;

/// Rounding error of times in MPDs, some of which are whole seconds.
const ROUNDING_MS: i64 = 1000;

/// A parsed MPD.
#[derive(Debug, Default)]
pub(super) struct Mpd {
    pub(super) live: bool,
    pub(super) duration_s: Option<f64>,
    /// Start of a live run, on the clock of file times. Too early if the packager's clock is slow.
    pub(super) began: Option<WallTime>,
    pub(super) representations: Vec<Representation>,
    /// BaseURLs that are completely percent-encoded, which players take for a file name.
    pub(super) encoded_bases: Vec<String>,
    /// BaseURLs of the MPD itself, as spelled.
    pub(super) bases: Vec<String>,
    /// References outside representations (except PatchLocation, which is for servers).
    pub(super) others: Vec<String>,
    /// Representations and Periods left out: name and reason.
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
    pub(super) init: Option<SegmentUrl>,
    /// Index segments, bitstream switching segments.
    pub(super) others: Vec<String>,
    pub(super) addressing: Addressing,
    pub(super) duration_s: f64,
    /// `@mimeType` names a container of boxes.
    pub(super) is_mp4: bool,
}

/// Nearness of a URI to the source's base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Nearness {
    /// On another host, or in another folder.
    Elsewhere,
    /// A folder above the base: a BaseURL of a deeper level may lead below it.
    Around,
    /// The base, or below it.
    Below,
}

/// Addressing of segments.
#[derive(Debug, PartialEq)]
pub(super) enum Addressing {
    /// A list of URLs.
    List(Vec<SegmentUrl>),
    /// Listed segments, then names of the form `before` digits `after`: a live template, whose segments are the existing
    /// files. With partial segments there is one pair for each of them.
    Pattern {
        listed: Vec<SegmentUrl>,
        affixes: Vec<(String, String)>,
        /// Range of numbers (or times).
        window: Window,
    },
}

/// A segment by its URL.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SegmentUrl {
    pub(super) uri: String,
    /// `@mediaRange`, `@range`: bytes of a single file.
    pub(super) range: Option<Range<u64>>,
    /// It may not exist: a rounding error, or one of two ways to count sub-segments.
    pub(super) is_optional: bool,
}

/// Available values of a live template's number (clauses 5.3.1.2 and A.3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// The first of the template.
    pub(super) first: u64,
    /// Difference between consecutive values.
    pub(super) step: u64,
    /// Values available at the current time, if the MPD determines them; otherwise `first` to infinity.
    pub(super) available: Option<(u64, u64)>,
    /// Segments in the window, if it has an end.
    pub(super) most: Option<usize>,
}

impl Window {
    /// Whether this is a value of the template.
    pub(super) const fn means(&self, value: u64) -> bool {
        value >= self.first && (value - self.first).is_multiple_of(self.step)
    }

    /// Whether the packager has run for a few segments.
    pub(super) fn has_run(&self) -> bool {
        let least = self.first.saturating_add(2 * AHEAD_SEGMENTS * self.step);
        self.available.is_some_and(|(_, to)| to >= least)
    }

    /// Whether it is available at the current time.
    pub(super) const fn is_available(&self, value: u64) -> bool {
        match self.available {
            Some((from, to)) => value >= from && value <= to,
            None => true,
        }
    }
}

/// Context for parsing an MPD.
pub(super) struct ParseContext<'a> {
    /// The MPD's own URI.
    pub(super) uri: &'a str,
    pub(super) now: WallTime,
    /// Time at which the MPD was written, by its file's time.
    pub(super) written: Option<WallTime>,
    /// Nearness of a URI to the source's base, which selects among alternative BaseURLs.
    pub(super) nearness: &'a dyn Fn(&str) -> Nearness,
    /// Loads the document of an xlink, if it is in the source.
    pub(super) load: &'a dyn Fn(&str) -> Option<Element>,
}

/// Parses an MPD.
pub(super) fn parse(root: &Element, around: &ParseContext<'_>) -> Result<Mpd, MpdError> {
    if root.name != "MPD" {
        return Err(MpdError::Root(root.name.clone()));
    }
    let mut mpd = Mpd { live: root.attribute("type") == Some("dynamic"), ..Mpd::default() };
    mpd.duration_s = seconds(root, "mediaPresentationDuration");
    let time = |name: &str| WallTime::from_xml(root.attribute(name)?);
    // An MPD cannot be published after it was written: then the packager's clock is fast, and all its times are. One published
    // before may have been copied.
    let ahead_ms = time("publishTime")
        .zip(around.written)
        .map(|(published, written)| (published.unix_ms() - written.unix_ms()).max(0));
    let now = around.now.plus_ms(ahead_ms.filter(|&ahead_ms| ahead_ms > ROUNDING_MS).unwrap_or(0));
    mpd.began = ahead_ms
        .and_then(|ahead_ms| Some(time("availabilityStartTime")?.plus_ms(-ahead_ms)))
        .filter(|_| mpd.live);
    let base = base_of(around.uri, root, around)?;
    mpd.bases = root.all("BaseURL").map(|it| it.text.trim().to_owned()).collect();
    mpd.encoded_bases =
        root.all("BaseURL").map(|it| it.text.trim()).filter(|it| is_encoded(it)).map(str::to_owned).collect();
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
        // PeriodStart (clause 5.3.2.1): explicit, or the end of the previous Period.
        let start = seconds(period, "start").or(next_start);
        let next = (at + 1 < periods.len()).then(|| seconds(period_of(at + 1), "start")).flatten();
        let end = if at + 1 == periods.len() { mpd.duration_s } else { None };
        let until = |end: f64| start.map(|start| (end - start).max(0.0));
        let duration_s =
            seconds(period, "duration").or_else(|| next.and_then(until)).or_else(|| end.and_then(until));
        next_start = start.zip(duration_s).map(|(start, duration)| start + duration);
        let id = period.attribute("id").map_or_else(|| at.to_string(), str::to_owned);
        let Ok(period_base) = base_of(&base, period, around) else { continue };
        let clock = Clock::of(root, start, now).filter(|_| mpd.live);
        let of =
            Period { id: &id, mpd_uri: around.uri, base: &period_base, duration_s, clock, live: mpd.live };
        read_period(&mut mpd, period, &of, around);
    }
    if mpd.representations.is_empty() && mpd.left_out.is_empty() {
        return Err(MpdError::NoRepresentation);
    }
    Ok(mpd)
}

/// The xlink attribute of a remote element.
fn xlink(element: &Element) -> Option<&str> {
    let is_href =
        |it: &&carousel::xml::Attribute| it.namespace == "http://www.w3.org/1999/xlink" && it.name == "href";
    element.attributes.iter().find(is_href).map(|it| it.value.as_str())
}

fn linked(mpd: &mut Mpd, base: &str, href: &str, around: &ParseContext<'_>, name: &str) -> Option<Element> {
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

/// Elapsed time of a live Period, and its time-shift buffer.
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

    /// Number of segments in the time-shift buffer, if the MPD gives its depth.
    fn most(&self, segment_s: f64) -> Option<u64> {
        self.depth_s.map(|depth| (depth / segment_s).ceil() as u64 + BEHIND_SEGMENTS)
    }

    /// First and last available segment of `segment_s` each, counted from 0.
    fn segments(&self, segment_s: f64) -> (u64, u64) {
        let edge = (self.elapsed_s / segment_s).floor().max(0.0) as u64;
        let kept = self.most(segment_s).unwrap_or(u64::MAX);
        // Number `edge` is being written; earlier ones are complete.
        (edge.saturating_sub(kept), edge.saturating_add(AHEAD_SEGMENTS))
    }
}

fn read_period(mpd: &mut Mpd, period: &Element, of: &Period<'_>, around: &ParseContext<'_>) {
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
                Err(why) => mpd.left_out.push((format!("Representation {}", own.ids[2]), why.to_string())),
            }
        }
    }
}

fn address(
    own: &mut Representation,
    levels: &[&Element; 3],
    base: &str,
    of: &Period<'_>,
) -> Result<(), MpdError> {
    let inherited =
        |name: &str| -> Vec<&Element> { levels.iter().filter_map(|level| level.find(name)).collect() };
    let templates = inherited("SegmentTemplate");
    if !templates.is_empty() {
        return address_template(own, &InheritedElements(templates), base, of);
    }
    let lists = inherited("SegmentList");
    let others = ["RepresentationIndex", "BitstreamSwitching"];
    if !lists.is_empty() {
        let lists = InheritedElements(lists);
        own.init = initialization(&lists, base)?;
        for name in others {
            own.others.extend(source_url(&lists, name, base)?);
        }
        let Some(urls) = lists.0.iter().find(|list| list.find("SegmentURL").is_some()) else { return Ok(()) };
        let mut named = Vec::new();
        for url in urls.all("SegmentURL").take(MAX_OBJECTS) {
            // Without `@media` it is a range of the BaseURL.
            named.push(SegmentUrl {
                uri: join(base, url.attribute("media").unwrap_or_default())?,
                range: url.attribute("mediaRange").and_then(byte_range),
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
    // SegmentBase, or only BaseURL: the complete file, of which players request ranges.
    let bases = InheritedElements(inherited("SegmentBase"));
    own.init = initialization(&bases, base)?;
    own.others.extend(source_url(&bases, "RepresentationIndex", base)?);
    if base != of.mpd_uri && !is_folder(base) {
        own.addressing =
            Addressing::List(vec![SegmentUrl { uri: base.to_owned(), range: None, is_optional: false }]);
    } else {
        return Err(MpdError::NoSegments);
    }
    Ok(())
}

fn is_folder(base: &str) -> bool {
    base.split('?').next().unwrap_or_default().ends_with('/')
}

/// `first-last` of RFC 9110 section 14.1.2.
fn byte_range(text: &str) -> Option<Range<u64>> {
    let (first, last) = text.trim().split_once('-')?;
    let range = first.parse::<u64>().ok()?..last.parse::<u64>().ok()?.checked_add(1)?;
    (!range.is_empty()).then_some(range)
}

/// The init segment, which is the BaseURL's file if it has no URL.
fn initialization(inherited: &InheritedElements<'_>, base: &str) -> Result<Option<SegmentUrl>, MpdError> {
    let Some(element) = inherited.child("Initialization") else { return Ok(None) };
    let uri = match element.attribute("sourceURL") {
        Some(url) => join(base, url)?,
        None if is_folder(base) => return Ok(None),
        None => base.to_owned(),
    };
    let range = element.attribute("range").and_then(byte_range);
    Ok(Some(SegmentUrl { uri, range, is_optional: false }))
}

fn source_url(inherited: &InheritedElements<'_>, name: &str, base: &str) -> Result<Option<String>, MpdError> {
    let url = inherited.child(name).and_then(|element| element.attribute("sourceURL"));
    url.map(|url| join(base, url)).transpose()
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

/// The base of a level: of several BaseURLs, which are alternatives with identical segments (clause 5.6.5), one below the
/// source's base, otherwise one that may lead there.
fn base_of(base: &str, element: &Element, around: &ParseContext<'_>) -> Result<String, MpdError> {
    let mut alternatives = Vec::new();
    for url in element.all("BaseURL").take(MAX_BASE_URLS) {
        alternatives.push(join(base, &url.text)?);
    }
    // The first of equals, like players.
    let nearest = alternatives.iter().rev().max_by_key(|uri| (around.nearness)(uri));
    Ok(nearest.map_or_else(|| base.to_owned(), Clone::clone))
}

/// Whether a BaseURL has the form `https%3A%2F%2F…`, as written by Shaka Packager 3.8.
fn is_encoded(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["http", "https"].iter().any(|scheme| {
        text.strip_prefix(scheme)
            .is_some_and(|rest| rest.starts_with("%3a%2f%2f") || rest.starts_with(":%2f%2f"))
    })
}

fn join(base: &str, reference: &str) -> Result<String, MpdError> {
    resolve(base, reference).map_err(|err| MpdError::Reference(reference.to_owned(), err))
}

#[cfg(test)]
mod tests;
