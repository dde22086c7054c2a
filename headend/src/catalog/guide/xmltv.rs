//! XMLTV, as `xmltv.dtd` has it and as grabbers write it.
//!
//! Read are channels with their names, and of programmes what a content guide has room for: times, titles, synopses,
//! credits, categories, keywords, year, picture, episode numbers, ratings, first showing. Left out are technical
//! particulars (video, audio, subtitles: the service list tells them), reviews, star ratings, lengths, VCR times.
//!
//! The reader of `carousel::xml` refuses document type declarations, and every XMLTV file has one. It is blanked here if
//! it only refers to the DTD; one that declares anything itself is refused.

use carousel::dvbi::Text;
use carousel::dvbi::guide::{Credit, NO_END, Role};
use carousel::xml::{self, Element};

use super::Refusal;
use super::collect::Collector;
use super::problems::quoted;
use super::showing::{
    self, MAX_CREDITS, MAX_NAME_CHARS, MAX_SYNOPSIS_CHARS, MAX_TITLE_CHARS, Series, Showing, add_text,
    add_word, clean, place,
};
use super::{date, episode, rating};

/// What Windows-1252 has where Latin-1 has control characters; files that say Latin-1 mean it.
const WINDOWS_1252: &[char; 32] = &[
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Reads a file into `into`.
pub(super) fn read(bytes: Vec<u8>, into: &mut Collector<'_>) -> Result<(), Refusal> {
    let mut bytes = to_utf8(bytes)?;
    blank_document_type(&mut bytes)?;
    let mut number = 0;
    let root = xml::parse_each(&bytes, 1, |within, element| {
        if within.iter().any(|root| root.name != "tv") {
            return;
        }
        match element.name.as_str() {
            "channel" => {
                if let Some(id) = element.attribute("id") {
                    into.channel(id.trim(), texts(&element, "display-name", MAX_NAME_CHARS));
                }
            }
            "programme" => {
                number += 1;
                programme(&element, number, into);
            }
            _ => {}
        }
    })
    .map_err(Refusal::Xml)?;
    if root.name == "tv" { Ok(()) } else { Err(Refusal::Foreign) }
}

fn programme(element: &Element, number: u64, into: &mut Collector<'_>) {
    let channel = element.attribute("channel").unwrap_or_default().trim();
    if channel.is_empty() {
        let what = || "it names no channel: left out".to_owned();
        into.problems.tell(|| place(number, ""), what, "write the channel attribute of each programme");
        return;
    }
    let Some(service) = into.service(channel) else { return };
    let mut showing =
        Showing { number, channel: channel.to_owned(), service, end: NO_END, ..Showing::default() };
    let time = |what: &str, into: &mut Collector<'_>| {
        let text = element.attribute(what).filter(|text| !text.trim().is_empty());
        let time = text.and_then(date::parse);
        if let (Some(text), None) = (text, time) {
            into.problems.tell(
                || place(number, channel),
                || format!("{what} {} is no time", quoted(text)),
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
            into.problems.tell(|| place(number, channel), what, "write the start of each programme");
            return;
        }
    }
    if let (Some(end), _) = time("stop", into) {
        showing.end = end;
    }
    showing.titles = texts(element, "title", MAX_TITLE_CHARS);
    if showing.titles.is_empty() {
        let what = || "it has no title: left out".to_owned();
        into.problems.tell(|| place(number, channel), what, "write a title for each programme");
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
        None => into.problems.tell(
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
        // SH is a series in general: all its episodes that nobody has described.
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

/// Bytes of XML in UTF-8, from the encoding that the declaration names.
fn to_utf8(bytes: Vec<u8>) -> Result<Vec<u8>, Refusal> {
    let head = &bytes[..bytes.len().min(256)];
    let declared = head
        .starts_with(b"<?xml")
        .then(|| head.windows(2).position(|pair| pair == b"?>"))
        .flatten()
        .map(|end| String::from_utf8_lossy(&head[..end]).into_owned());
    let name = declared.as_deref().and_then(|declaration| {
        let value = declaration.split_once("encoding")?.1.trim_start().strip_prefix('=')?.trim_start();
        value.get(1..)?.split(['"', '\'']).next()
    });
    match name.map(str::to_ascii_lowercase).as_deref() {
        None | Some("utf-8" | "utf8" | "us-ascii" | "ascii") => Ok(bytes),
        Some(
            "iso-8859-1" | "iso8859-1" | "iso_8859-1" | "latin1" | "latin-1" | "windows-1252" | "cp1252",
        ) => {
            let text: String = bytes
                .iter()
                .map(|&byte| match byte {
                    0x80..=0x9f => WINDOWS_1252[usize::from(byte) - 0x80],
                    _ => char::from(byte),
                })
                .collect();
            Ok(text.into_bytes())
        }
        Some(other) => Err(Refusal::Encoding(other.to_owned())),
    }
}

/// Writes blanks over a document type declaration that declares nothing itself; places stay where they are.
fn blank_document_type(bytes: &mut [u8]) -> Result<(), Refusal> {
    let mut at = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let end_of = |from: usize, end: &[u8]| {
        bytes[from..]
            .windows(end.len())
            .position(|window| window == end)
            .map(|found| from + found + end.len())
    };
    while let Some(rest) = bytes.get(at..) {
        let next = match rest {
            [first, ..] if first.is_ascii_whitespace() => Some(at + 1),
            [b'<', b'?', ..] => end_of(at, b"?>"),
            [b'<', b'!', b'-', b'-', ..] => end_of(at + 4, b"-->"),
            _ if rest.starts_with(b"<!DOCTYPE") => break,
            _ => return Ok(()),
        };
        let Some(next) = next else { return Ok(()) };
        at = next;
    }
    let mut quote = None;
    for end in at..bytes.len() {
        match (bytes[end], quote) {
            (b'>', None) => {
                bytes[at..=end].fill(b' ');
                return Ok(());
            }
            (b'[', None) => return Err(Refusal::InternalSubset),
            (byte @ (b'"' | b'\''), None) => quote = Some(byte),
            (byte, Some(open)) if byte == open => quote = None,
            _ => {}
        }
    }
    Ok(())
}
