//! XMLTV, as `xmltv.dtd` defines it and as grabbers write it.
//!
//! Reads channels with their names, and the parts of programmes that a content guide has: times, titles, synopses,
//! credits, categories, keywords, year, picture, episode numbers, ratings, first showing. Ignores technical details
//! (video, audio, subtitles: they are in the service list), reviews, star ratings, lengths, VCR times.
//!
//! Channels and programmes are read one by one (`pieces.rs`), so that each has its line, and an error in one does not
//! affect the others: one that is not well-formed is repaired (`repair.rs`) or left out. Document type declarations are
//! skipped.

use carousel::dvbi::Text;
use carousel::dvbi::guide::{Credit, NO_END, Role};
use carousel::xml::{self, Element, XmlError};

use super::Refusal;
use super::collect::Collector;
use super::pieces::{Piece, Pieces};
use super::problems::quoted;
use super::repair::repair;
use super::showing::{
    self, MAX_CREDITS, MAX_NAME_CHARS, MAX_SYNOPSIS_CHARS, MAX_TITLE_CHARS, Series, Showing, add_text,
    add_word, clean, place,
};
use super::{date, episode, rating};

/// Reads a file into `into`.
pub(super) fn read(text: &str, into: &mut Collector<'_>) -> Result<(), Refusal> {
    let mut pieces = Pieces::new(text).ok_or_else(|| super::foreign(text))?;
    let mut number = 0;
    while let Some(piece) = pieces.next() {
        number += u64::from(piece.is_programme);
        let Some(element) = element(&piece, number, pieces.namespaces, into) else { continue };
        if piece.is_programme {
            programme(&element, number, piece.line, into);
        } else if let Some(id) = element.attribute("id") {
            into.channel(id.trim(), texts(&element, "display-name", MAX_NAME_CHARS));
        }
    }
    if !pieces.has_end() {
        let line = pieces.last_line();
        into.is_cut = true;
        into.problems.fault(
            || format!("line {line}, behind programme {number}"),
            || "the file breaks off: it has no </tv>".to_owned(),
            "it is read again when it changes; see that the grabber ends, and moves the file into place when it has",
        );
    }
    Ok(())
}

/// The element of a piece, repaired if need be; `None` if it is left out.
fn element(piece: &Piece<'_>, number: u64, namespaces: &str, into: &mut Collector<'_>) -> Option<Element> {
    let parse = |text: &str| match namespaces {
        "" => xml::parse(text.as_bytes()),
        // Prefixes are declared at the root.
        _ => xml::parse(format!("<tv {namespaces}>{text}</tv>").as_bytes()).and_then(|mut root| {
            root.children.pop().ok_or_else(|| XmlError::Missing { what: "element", within: "tv".into() })
        }),
    };
    // A part that is still being written is not there yet.
    let why = match parse(piece.text) {
        _ if !piece.is_closed => None,
        Ok(element) => return Some(element),
        Err(why) => Some(why),
    };
    let (repaired, repairs) = repair(piece.text);
    let place = || {
        let kind = if piece.is_programme { format!("programme {number}") } else { "a channel".to_owned() };
        format!("line {}, {kind}{}", line_within(piece, why.as_ref()), title(&repaired))
    };
    match parse(&repaired) {
        Ok(element) if piece.is_closed => {
            let repairs: Vec<&str> = repairs.into_iter().collect();
            let what = || format!("not well-formed XML ({}): repaired", repairs.join(", "));
            into.problems.report(place, what, "write texts by an XML library, or escape & and < in them");
            Some(element)
        }
        _ => {
            let what = match &why {
                None => "it has no end tag: left out".to_owned(),
                Some(why) => format!("{why}: left out"),
            };
            into.problems.fault(place, || what, "write texts by an XML library, and an end tag for each tag");
            None
        }
    }
}

/// The line in which a piece is wrong.
fn line_within(piece: &Piece<'_>, why: Option<&XmlError>) -> u64 {
    match why {
        Some(XmlError::Malformed { offset, .. }) => {
            let at = usize::try_from(*offset).unwrap_or(usize::MAX).min(piece.text.len());
            piece.line + piece.text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() as u64
        }
        _ => piece.line,
    }
}

/// The title of a programme that cannot be read, for a message.
fn title(text: &str) -> String {
    let title = text.split_once("<title").and_then(|(_, rest)| rest.split_once('>')?.1.split("</").next());
    title.map_or_else(String::new, |title| {
        let title = title.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        format!(", {}", quoted(&clean(&title, MAX_TITLE_CHARS)))
    })
}

fn programme(element: &Element, number: u64, line: u64, into: &mut Collector<'_>) {
    let channel = element.attribute("channel").unwrap_or_default().trim();
    if channel.is_empty() {
        let what = || "it names no channel: left out".to_owned();
        into.problems.fault(
            || place(number, "", line),
            what,
            "write the channel attribute of each programme",
        );
        return;
    }
    let Some(service) = into.service(channel) else { return };
    let mut showing =
        Showing { number, line, channel: channel.to_owned(), service, end: NO_END, ..Showing::default() };
    let place = || place(number, channel, line);
    let time = |what: &str, into: &mut Collector<'_>| {
        let text = element.attribute(what).filter(|text| !text.trim().is_empty());
        let time = text.and_then(date::parse);
        if let (Some(text), None) = (text, time) {
            let left_out =
                if what == "start" { "the programme is left out" } else { "it ends where the next begins" };
            into.problems.fault(
                place,
                || format!("{what} {} is not a time: {left_out}", quoted(text)),
                "write times as 20261121200000 +0100",
            );
        }
        into.zoneless += u64::from(time.is_some_and(|(_, has_zone)| !has_zone));
        (time.map(|(time, _)| time), text.is_some())
    };
    match time("start", into) {
        (Some(start), _) => showing.start = start,
        (None, true) => return,
        (None, false) => {
            let what = || "it has no start: left out".to_owned();
            into.problems.fault(place, what, "write the start of each programme");
            return;
        }
    }
    // Scripts write end for stop.
    let end = if element.attribute("stop").is_none_or(|it| it.trim().is_empty()) { "end" } else { "stop" };
    if let (Some(end), _) = time(end, into) {
        showing.end = end;
    }
    showing.titles = texts(element, "title", MAX_TITLE_CHARS);
    if showing.titles.is_empty() {
        let what = || "it has no title: left out".to_owned();
        into.problems.fault(place, what, "write a title for each programme");
        return;
    }
    showing.episode_titles = texts(element, "sub-title", MAX_TITLE_CHARS);
    showing.synopses = texts(element, "desc", MAX_SYNOPSIS_CHARS);
    let (mut is_repeat, mut is_new) = (false, false);
    for child in &element.children {
        let tag = child.attribute("lang").unwrap_or_default();
        match child.name.as_str() {
            "category" => add_word(&mut showing.genres, tag, &child.text),
            "keyword" => add_word(&mut showing.keywords, tag, &child.text),
            "credits" => credits(child, &mut showing.credits),
            "date" => {
                showing.year = child.text.get(..4).and_then(|text| text.parse().ok()).and_then(showing::year);
            }
            "icon" => showing.image = showing.image.or_else(|| showing::image(child.attribute("src")?)),
            "image" => showing.image = showing.image.or_else(|| showing::image(&child.text)),
            "rating" => age(child, &mut showing, into),
            "episode-num" => episode_number(child, &mut showing),
            "previously-shown" => is_repeat = true,
            "premiere" | "new" => is_new = true,
            _ => {}
        }
    }
    showing.is_first_showing = is_new && !is_repeat;
    into.showing(showing);
}

fn texts(element: &Element, name: &str, most_chars: usize) -> Vec<Text> {
    let mut texts = Vec::new();
    for child in element.all(name) {
        add_text(&mut texts, child.attribute("lang").unwrap_or_default(), &child.text, most_chars);
    }
    texts
}

fn credits(element: &Element, credits: &mut Vec<Credit>) {
    for child in &element.children {
        let role = match child.name.as_str() {
            "director" => Role::Director,
            "actor" => Role::Actor,
            "writer" | "adapter" => Role::Writer,
            "producer" => Role::Producer,
            "composer" => Role::Composer,
            "editor" => Role::Editor,
            "presenter" => Role::Presenter,
            "commentator" => Role::Commentator,
            "guest" => Role::Guest,
            _ => continue,
        };
        let name = clean(&child.text, MAX_NAME_CHARS);
        if name.is_empty() || credits.len() >= MAX_CREDITS {
            continue;
        }
        let character = child.attribute("role").map(|role| clean(role, MAX_NAME_CHARS));
        let character = character.filter(|character| !character.is_empty());
        credits.push(Credit { role, name, character });
    }
}

/// The highest age of all ratings counts: they are of different countries.
fn age(rating: &Element, showing: &mut Showing, into: &mut Collector<'_>) {
    let system = rating.attribute("system").unwrap_or_default();
    let value = rating.child_text("value").unwrap_or_default();
    if value.is_empty() || system.eq_ignore_ascii_case("advisory") {
        return; // what it is about, in words
    }
    match rating::age(value) {
        Some(age) => showing.minimum_age = showing.minimum_age.max(Some(age)),
        None => into.problems.report(
            || showing.place(),
            || format!("rating {} of {} has no age that is known: left out", quoted(value), quoted(system)),
            "write the age in years",
        ),
    }
}

fn episode_number(child: &Element, showing: &mut Showing) {
    let numbers = match child.attribute("system").unwrap_or("onscreen") {
        "xmltv_ns" => episode::xmltv_ns(&child.text),
        "onscreen" | "SxxExx" | "common" => episode::onscreen(&child.text),
        // SH is a series in general: all its episodes without a description of their own.
        "dd_progid" if !child.text.is_empty() && !child.text.starts_with("SH") => {
            showing.id = Some(clean(&child.text, MAX_NAME_CHARS));
            return;
        }
        _ => return,
    };
    if numbers != (None, None) {
        let series = showing.series.get_or_insert_with(Series::default);
        // xmltv_ns is exact; what is for the eye fills in.
        let is_exact = child.attribute("system") == Some("xmltv_ns");
        let choose = |old: Option<u32>, new: Option<u32>| if is_exact { new.or(old) } else { old.or(new) };
        series.season = choose(series.season, numbers.0);
        series.episode = choose(series.episode, numbers.1);
    }
}
