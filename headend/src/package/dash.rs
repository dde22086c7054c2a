//! DASH MPDs (ISO/IEC 23009-1): which URLs they mean. Inheritance Period → AdaptationSet → Representation, BaseURL at
//! every level, SegmentTemplate with timeline or duration, SegmentList, SegmentBase, several Periods.

use carousel::time::duration_from_xml;
use carousel::xml::Element;

use super::{MAX_OBJECTS, TrackKind};

/// A parsed MPD.
#[derive(Debug, Default)]
pub(super) struct Mpd {
    pub(super) live: bool,
    pub(super) duration_s: Option<f64>,
    pub(super) representations: Vec<Representation>,
    /// References beside the representations (PatchLocation is not one: it is the server's business).
    pub(super) others: Vec<String>,
    /// What is passed over.
    pub(super) notes: Vec<String>,
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
    pub(super) addressing: Addressing,
    pub(super) duration_s: f64,
    /// The number of segments was rounded up from a duration: the last one may be a rounding error.
    pub(super) last_may_be_missing: bool,
}

/// How segments are named.
#[derive(Debug, PartialEq)]
pub(super) enum Addressing {
    /// Each by its URL.
    List(Vec<String>),
    /// `before` digits `after`: a live template without timeline.
    Pattern { before: String, after: String },
}

/// Reads an MPD.
pub(super) fn parse(root: &Element) -> Result<Mpd, String> {
    if root.name != "MPD" {
        return Err(format!("the root is <{}>, not <MPD>", root.name));
    }
    let mut mpd = Mpd { live: root.attribute("type") == Some("dynamic"), ..Mpd::default() };
    mpd.duration_s = seconds(root, "mediaPresentationDuration");
    let base = join("", base_url(root));
    let periods: Vec<&Element> = root.all("Period").collect();
    for (at, period) in periods.iter().enumerate() {
        let start = seconds(period, "start");
        let next = periods.get(at + 1).and_then(|next| seconds(next, "start"));
        let duration_s = seconds(period, "duration")
            .or_else(|| Some(next? - start.unwrap_or(0.0)))
            .or_else(|| Some(mpd.duration_s? - start.unwrap_or(0.0)));
        if period.attributes.iter().any(|attribute| attribute.namespace == "http://www.w3.org/1999/xlink") {
            mpd.notes.push(format!("Period {} is remote (xlink) and is not followed", at + 1));
        }
        let id = period.attribute("id").map_or_else(|| at.to_string(), str::to_owned);
        read_period(&mut mpd, period, &id, &join(&base, base_url(period)), duration_s)?;
    }
    if mpd.representations.is_empty() && mpd.notes.is_empty() {
        return Err("no Representation: the MPD is cut off, or still being written".to_owned());
    }
    Ok(mpd)
}

fn read_period(
    mpd: &mut Mpd,
    period: &Element,
    id: &str,
    base: &str,
    duration_s: Option<f64>,
) -> Result<(), String> {
    for (at, set) in period.all("AdaptationSet").enumerate() {
        let set_base = join(base, base_url(set));
        let set_id = set.attribute("id").map_or_else(|| at.to_string(), str::to_owned);
        for representation in set.all("Representation") {
            let of = |name: &str| {
                representation.attribute(name).or_else(|| set.attribute(name)).unwrap_or_default()
            };
            let number = |name: &str| of(name).parse::<u32>().ok();
            let ids = [id.to_owned(), set_id.clone(), of("id").to_owned()];
            let own_base = join(&set_base, base_url(representation));
            let bandwidth_bps = of("bandwidth").parse().unwrap_or(0);
            let levels = [representation, set, period];
            let mut own = Representation {
                kind: kind_of(of("contentType"), of("mimeType"), of("codecs")),
                bandwidth_bps,
                codecs: of("codecs").to_owned(),
                resolution: number("width").zip(number("height")),
                language: of("lang").to_owned(),
                init: None,
                addressing: Addressing::List(Vec::new()),
                duration_s: duration_s.unwrap_or(0.0),
                last_may_be_missing: false,
                ids,
            };
            address(&mut own, &levels, &own_base, mpd.live, duration_s)?;
            mpd.representations.push(own);
        }
    }
    Ok(())
}

fn address(
    own: &mut Representation,
    levels: &[&Element; 3],
    base: &str,
    live: bool,
    duration_s: Option<f64>,
) -> Result<(), String> {
    let inherited =
        |name: &str| -> Vec<&Element> { levels.iter().filter_map(|level| level.find(name)).collect() };
    let templates = inherited("SegmentTemplate");
    if !templates.is_empty() {
        return address_template(own, &Inherited(templates), base, live, duration_s);
    }
    let lists = inherited("SegmentList");
    if !lists.is_empty() {
        let lists = Inherited(lists);
        let init = lists.child("Initialization").and_then(|init| init.attribute("sourceURL"));
        own.init = init.map(|uri| join(base, Some(uri)));
        let urls = lists.0.iter().find(|list| list.find("SegmentURL").is_some());
        let media =
            urls.iter().flat_map(|list| list.all("SegmentURL")).map(|url| join(base, url.attribute("media")));
        own.addressing = Addressing::List(media.filter(|uri| !uri.is_empty()).take(MAX_OBJECTS).collect());
        return Ok(());
    }
    // SegmentBase, or BaseURL alone: the whole file, in which players ask for ranges.
    let init = Inherited(inherited("SegmentBase"))
        .child("Initialization")
        .and_then(|init| init.attribute("sourceURL"));
    own.init = init.map(|uri| join(base, Some(uri)));
    if !base.is_empty() && !base.ends_with('/') {
        own.addressing = Addressing::List(vec![base.to_owned()]);
    }
    Ok(())
}

fn address_template(
    own: &mut Representation,
    template: &Inherited<'_>,
    base: &str,
    live: bool,
    duration_s: Option<f64>,
) -> Result<(), String> {
    let number = |name: &str| template.attribute(name).and_then(|text| text.parse::<u64>().ok());
    let fill = |text: &str, number, time| {
        let filled = fill_template(text, &own.ids[2], own.bandwidth_bps, number, time)?;
        Ok::<String, String>(join(base, Some(&filled)))
    };
    let own_init = template.attribute("initialization");
    let child_init = template.child("Initialization").and_then(|init| init.attribute("sourceURL"));
    let init = match own_init.or(child_init) {
        Some(text) => Some(fill(text, None, None)?),
        None => None,
    };
    let Some(media) = template.attribute("media") else {
        own.init = init;
        return Ok(());
    };
    let (timescale, start) = (number("timescale").unwrap_or(1).max(1), number("startNumber").unwrap_or(1));
    if let Some(timeline) = template.child("SegmentTimeline") {
        let entries = read_timeline(timeline, number("presentationTimeOffset"), duration_s, timescale)?;
        let total: u64 = entries.iter().map(|(_, duration)| duration).sum();
        let mut uris = Vec::with_capacity(entries.len());
        for (at, (time, _)) in entries.iter().enumerate() {
            uris.push(fill(media, Some(start + at as u64), Some(*time))?);
        }
        own.duration_s = total as f64 / timescale as f64;
        own.init = init;
        own.addressing = Addressing::List(uris);
        return Ok(());
    }
    let segment = number("duration").filter(|&duration| duration > 0);
    own.addressing = match (segment, duration_s, live) {
        (Some(segment), Some(period), false) => {
            let exact = period * timescale as f64 / segment as f64;
            if exact > MAX_OBJECTS as f64 {
                return Err(format!("SegmentTemplate means {exact:.0} segments"));
            }
            own.last_may_be_missing = exact.fract() > 0.0 && exact.fract() < 0.1;
            let count = exact.ceil() as u64;
            let end = number("endNumber")
                .map_or(count, |end| (end + 1).saturating_sub(start).min(MAX_OBJECTS as u64));
            let uris = (start..start + end).map(|at| fill(media, Some(at), Some((at - start) * segment)));
            Addressing::List(uris.collect::<Result<_, _>>()?)
        }
        _ => {
            // A marker that no name has stands for the number, and is then cut out.
            const MARK: u64 = 18_446_744_073_709_551_557;
            let filled = fill(media, Some(MARK), Some(MARK))?;
            let mark = MARK.to_string();
            match filled.split_once(&mark) {
                Some((before, after)) => {
                    Addressing::Pattern { before: before.to_owned(), after: after.to_owned() }
                }
                None => Addressing::List(vec![filled]),
            }
        }
    };
    own.init = init;
    Ok(())
}

/// Start and duration of each segment, in units of the timescale.
fn read_timeline(
    timeline: &Element,
    offset: Option<u64>,
    period_s: Option<f64>,
    timescale: u64,
) -> Result<Vec<(u64, u64)>, String> {
    let mut segments: Vec<(u64, u64)> = Vec::new();
    let mut time = 0_u64;
    let entries: Vec<&Element> = timeline.all("S").collect();
    for (at, entry) in entries.iter().enumerate() {
        let number = |name: &str| entry.attribute(name).and_then(|text| text.parse::<i64>().ok());
        let duration = number("d").filter(|&d| d > 0).ok_or("an S element without a usable @d")? as u64;
        if let Some(t) = number("t").filter(|&t| t >= 0) {
            time = t as u64;
        }
        let repeat = match number("r").unwrap_or(0) {
            // Until the next S, or the end of the Period.
            ..0 => {
                let next = entries.get(at + 1).and_then(|next| next.attribute("t")?.parse::<u64>().ok());
                let end = next.or_else(|| Some((period_s? * timescale as f64) as u64 + offset.unwrap_or(0)));
                end.map_or(0, |end| end.saturating_sub(time).div_ceil(duration).saturating_sub(1))
            }
            repeat => repeat as u64,
        };
        if segments.len() as u64 + repeat >= MAX_OBJECTS as u64 {
            return Err(format!("SegmentTimeline means more than {MAX_OBJECTS} segments"));
        }
        for _ in 0..=repeat {
            segments.push((time, duration));
            time = time.saturating_add(duration);
        }
    }
    Ok(segments)
}

/// Fills `$RepresentationID$`, `$Number%05d$`, `$Time$`, `$Bandwidth$`, `$$`.
fn fill_template(
    text: &str,
    id: &str,
    bandwidth: u64,
    number: Option<u64>,
    time: Option<u64>,
) -> Result<String, String> {
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
            "Number" => number,
            "Time" => time,
            other => return Err(format!("template {text:?} has an unknown ${other}$")),
        };
        let value =
            value.ok_or_else(|| format!("template {text:?} uses ${identifier}$ where there is none"))?;
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

fn base_url(element: &Element) -> Option<&str> {
    element.child_text("BaseURL")
}

fn seconds(element: &Element, name: &str) -> Option<f64> {
    element.attribute(name).and_then(duration_from_xml).map(|duration| duration.as_secs_f64())
}

/// Joins a reference to a base that may itself be relative (to the manifest).
fn join(base: &str, reference: Option<&str>) -> String {
    let Some(reference) = reference.map(str::trim).filter(|reference| !reference.is_empty()) else {
        return base.to_owned();
    };
    if reference.contains("://") || reference.starts_with('/') {
        return reference.to_owned();
    }
    let folder = base.rfind('/').map_or("", |at| &base[..=at]);
    format!("{folder}{reference}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use carousel::xml;
    use proptest::prelude::*;

    fn representations(text: &str) -> Vec<Representation> {
        parse(&xml::parse(text.as_bytes()).unwrap()).unwrap().representations
    }

    fn list(representation: &Representation) -> &[String] {
        match &representation.addressing {
            Addressing::List(uris) => uris,
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
        assert_eq!(all[0].init.as_deref(), Some("v/a/i.mp4"));
    }

    #[test]
    fn number_template_with_width_over_two_periods() {
        let all = representations(
            r#"<MPD mediaPresentationDuration="PT6S"><Period duration="PT4.05S"><AdaptationSet mimeType="audio/mp4">
            <SegmentTemplate duration="2" startNumber="7" media="p1-$Number%03d$-$$-$Bandwidth$.m4s"/><Representation id="x" bandwidth="5"/></AdaptationSet></Period>
            <Period start="PT4S"><AdaptationSet><Representation id="y"><SegmentTemplate duration="2" media="p2-$Number$.m4s"/></Representation></AdaptationSet></Period></MPD>"#,
        );
        assert_eq!(list(&all[0]), ["p1-007-$-5.m4s", "p1-008-$-5.m4s", "p1-009-$-5.m4s"]);
        assert!(all[0].last_may_be_missing);
        assert_eq!(list(&all[1]), ["p2-1.m4s"]);
        assert_eq!(all[0].kind, TrackKind::Audio);
    }

    #[test]
    fn live_number_template_takes_what_is_there() {
        let all = representations(
            r#"<MPD type="dynamic"><Period><AdaptationSet><SegmentTemplate duration="2" media="$RepresentationID$_$Number%05d$.m4s"/>
            <Representation id="1"/></AdaptationSet></Period></MPD>"#,
        );
        assert_eq!(all[0].addressing, Addressing::Pattern { before: "1_".into(), after: ".m4s".into() });
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
            (&["a/1.m4s".to_owned(), "a/2.m4s".to_owned()][..], Some("a/i.mp4"))
        );
        assert_eq!(list(&all[1]), ["a/film.mp4"]);
        assert_eq!(list(&all[2]), ["/abs/en.vtt"]);
        assert_eq!(all[2].kind, TrackKind::Subtitles);
    }

    #[test]
    fn hostile_counts_and_templates_are_errors() {
        for body in [
            r#"<SegmentTemplate media="$Number$" timescale="1"><SegmentTimeline><S d="1" r="1000000000"/></SegmentTimeline></SegmentTemplate>"#,
            r#"<SegmentTemplate media="$Number$" duration="1" timescale="1000000000"/>"#,
            r#"<SegmentTemplate media="$Number" duration="1"/>"#,
            r#"<SegmentTemplate media="$Nonsense$" duration="1"/>"#,
            r#"<SegmentTemplate media="$Time$"><SegmentTimeline><S d="0"/></SegmentTimeline></SegmentTemplate>"#,
        ] {
            let text = format!(
                r#"<MPD mediaPresentationDuration="PT10S"><Period><AdaptationSet>{body}<Representation id="1"/></AdaptationSet></Period></MPD>"#
            );
            assert!(parse(&xml::parse(text.as_bytes()).unwrap()).is_err(), "{body}");
        }
        assert!(parse(&xml::parse(b"<SmoothStreamingMedia/>").unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn no_template_panics(text in "[$%a-zA-Z0-9]{0,30}") {
            let _ = fill_template(&text, "id", 1, Some(2), Some(3));
        }
    }
}
