//! A guide in JSON, written by a broadcaster's script:
//!
//! ```json
//! {
//!   "channels": [{"id": "one", "names": {"en": "Channel One", "de": "Kanal Eins"}}, {"id": "two", "name": "Two"}],
//!   "programmes": [
//!     {
//!       "channel": "one",
//!       "start": "2026-11-21T20:00:00Z",
//!       "stop": "2026-11-21T21:30:00+01:00",
//!       "title": {"en": "Harbour Lights", "de": "Hafenlichter"},
//!       "episode_title": "The Pilot",
//!       "synopsis": {"en": "A pilot comes aboard."},
//!       "genres": ["Movie / Drama", "urn:tva:metadata:cs:ContentCS:2011:3.4.6.10"],
//!       "keywords": ["harbour"],
//!       "minimum_age": 12,
//!       "image": "https://pictures.example/harbour.jpg",
//!       "year": 2019,
//!       "series": {"title": "Harbour Lights", "season": 2, "episode": 1},
//!       "credits": [{"role": "actor", "name": "A. Person", "character": "The pilot"}],
//!       "first_showing": true
//!     },
//!     {"channel": "two", "start": 1795291200, "duration_s": 1800, "title": "News"}
//!   ]
//! }
//! ```
//!
//! `channel`, `start` and `title` are required. Times are dates with a zone, or seconds since 1970; texts are one string,
//! or one for each language; `role` is actor, director, writer, producer, presenter, commentator, composer, editor or
//! guest. Without `stop` and `duration_s` a programme ends where the next one begins. Other keys are ignored.
//!
//! Entries are read one by one from the text, never as a tree of the entire document: JSON of 64 MiB can take ten times
//! that in memory.

use std::fmt;
use std::marker::PhantomData;

use carousel::dvbi::Text;
use carousel::dvbi::guide::{Credit, NO_END, Role};
use carousel::time::WallTime;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Refusal;
use super::collect::Collector;
use super::problems::quoted;
use super::showing::{
    self, MAX_CREDITS, MAX_LANGUAGES, MAX_NAME_CHARS, MAX_SYNOPSIS_CHARS, MAX_TITLE_CHARS, MAX_WORDS, Series,
    Showing, add_text, add_word, clean,
};

/// Seconds since 1970 of the year 10000: a time beyond is in milliseconds, most likely.
const MAX_UNIX_S: f64 = 253_402_300_800.0;
/// Seconds of a programme; `Guide::tidy` cuts at a day.
const MAX_DURATION_S: f64 = 366.0 * 86_400.0;

/// Reads a file into `into`.
pub(super) fn read(bytes: &[u8], into: &mut Collector<'_>) -> Result<(), Refusal> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let document = Document { into, base: bytes.as_ptr() as usize };
    document.deserialize(&mut json).and_then(|()| json.end()).map_err(Refusal::Json)
}

#[derive(Deserialize)]
struct Channel {
    id: String,
    names: Option<LocalizedTexts>,
    name: Option<LocalizedTexts>,
}

#[derive(Deserialize)]
struct Entry {
    channel: String,
    start: UnparsedTime,
    stop: Option<UnparsedTime>,
    duration_s: Option<f64>,
    title: LocalizedTexts,
    episode_title: Option<LocalizedTexts>,
    synopsis: Option<LocalizedTexts>,
    genres: Option<List<String, MAX_WORDS>>,
    keywords: Option<List<String, MAX_WORDS>>,
    minimum_age: Option<u8>,
    image: Option<String>,
    year: Option<u16>,
    series: Option<SeriesEntry>,
    credits: Option<List<CreditEntry, MAX_CREDITS>>,
    first_showing: Option<bool>,
}

#[derive(Deserialize)]
struct SeriesEntry {
    title: Option<LocalizedTexts>,
    season: Option<u32>,
    episode: Option<u32>,
}

#[derive(Deserialize)]
struct CreditEntry {
    role: String,
    name: String,
    character: Option<String>,
}

/// The fault of an entry. Its place in the file is added elsewhere.
fn in_words(err: &serde_json::Error) -> String {
    let text = err.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(before, _)| before);
    let is = |start: &str| text.strip_prefix(start);
    if let Some(name) = is("missing field ") {
        return format!("{name} is missing");
    }
    if let Some(name) = is("duplicate field ") {
        return format!("{name} is there twice");
    }
    let other = is("invalid type: ").or_else(|| is("invalid value: "));
    match other.and_then(|it| it.split_once(", expected ")) {
        Some((found, wanted)) => {
            let wanted = if wanted.starts_with("struct ") { "an object" } else { wanted };
            format!("{found} where {wanted} belongs")
        }
        None => text.to_owned(),
    }
}

fn channel(number: u64, raw: &RawValue, at: usize, into: &mut Collector<'_>) {
    match serde_json::from_str::<Channel>(raw.get()) {
        Ok(channel) => {
            let names = channel.names.or(channel.name);
            into.channel(channel.id.trim(), texts(names, MAX_NAME_CHARS));
        }
        Err(err) => into.problems.report(
            || format!("channel {number} at byte {at}"),
            || format!("{}: left out", in_words(&err)),
            "write it as {\"id\": \"…\", \"name\": \"…\"}",
        ),
    }
}

fn programme(number: u64, raw: &RawValue, at: usize, into: &mut Collector<'_>) {
    const FIX: &str =
        "write it as {\"channel\": \"…\", \"start\": \"2026-11-21T20:00:00Z\", \"title\": \"…\"}";
    let entry = match serde_json::from_str::<Entry>(raw.get()) {
        Ok(entry) => entry,
        Err(err) => {
            let place = || format!("programme {number} at byte {at}");
            into.problems.fault(place, || format!("{}: left out", in_words(&err)), FIX);
            return;
        }
    };
    let Some(service) = into.service(entry.channel.trim()) else { return };
    let mut showing = Showing { number, service, end: NO_END, ..Showing::default() };
    entry.channel.trim().clone_into(&mut showing.channel);
    let Some(start) = entry.start.read("start", &showing, into) else { return };
    showing.start = start;
    match (entry.stop, entry.duration_s) {
        (Some(stop), _) => showing.end = stop.read("stop", &showing, into).unwrap_or(NO_END),
        (None, Some(s)) if (0.0..=MAX_DURATION_S).contains(&s) => {
            showing.end = start.plus_ms((s * 1000.0) as i64);
        }
        (None, Some(s)) => into.problems.report(
            || showing.place(),
            || format!("duration_s {s} is not a length of a programme"),
            "write the duration in seconds",
        ),
        (None, None) => {}
    }
    showing.titles = texts(Some(entry.title), MAX_TITLE_CHARS);
    if showing.titles.is_empty() {
        into.problems.fault(|| showing.place(), || "it has no title: left out".to_owned(), FIX);
        return;
    }
    showing.episode_titles = texts(entry.episode_title, MAX_TITLE_CHARS);
    showing.synopses = texts(entry.synopsis, MAX_SYNOPSIS_CHARS);
    for (words, into) in [(entry.genres, &mut showing.genres), (entry.keywords, &mut showing.keywords)] {
        for word in words.into_iter().flat_map(|words| words.0) {
            add_word(into, "", &word);
        }
    }
    showing.minimum_age = entry.minimum_age;
    showing.image = entry.image.as_deref().and_then(showing::image);
    showing.year = entry.year.and_then(showing::year);
    showing.series = entry.series.map(|series| Series {
        titles: texts(series.title, MAX_TITLE_CHARS),
        season: series.season,
        episode: series.episode,
    });
    for credit in entry.credits.into_iter().flat_map(|credits| credits.0) {
        let Some(role) = role(&credit.role) else {
            into.problems.report(
                || showing.place(),
                || format!("role {} is not known: left out", quoted(&credit.role)),
                "known roles are actor, director, writer, producer, presenter, commentator, composer, editor, guest",
            );
            continue;
        };
        let name = clean(&credit.name, MAX_NAME_CHARS);
        if !name.is_empty() {
            let character = credit.character.map(|it| clean(&it, MAX_NAME_CHARS)).filter(|it| !it.is_empty());
            showing.credits.push(Credit { role, name, character });
        }
    }
    showing.is_first_showing = entry.first_showing.unwrap_or(false);
    into.showing(showing);
}

fn role(name: &str) -> Option<Role> {
    Some(match name.trim().to_ascii_lowercase().as_str() {
        "actor" => Role::Actor,
        "director" => Role::Director,
        "writer" => Role::Writer,
        "producer" => Role::Producer,
        "presenter" => Role::Presenter,
        "commentator" => Role::Commentator,
        "composer" => Role::Composer,
        "editor" => Role::Editor,
        "guest" => Role::Guest,
        _ => return None,
    })
}

fn texts(words: Option<LocalizedTexts>, most_chars: usize) -> Vec<Text> {
    let mut texts = Vec::new();
    for (tag, text) in words.into_iter().flat_map(|words| words.0) {
        add_text(&mut texts, &tag, &text, most_chars);
    }
    texts
}

/// A time, not yet understood.
enum UnparsedTime {
    Date(String),
    UnixSeconds(f64),
}

impl UnparsedTime {
    fn read(self, what: &str, showing: &Showing, into: &mut Collector<'_>) -> Option<WallTime> {
        let (time, text) = match self {
            Self::UnixSeconds(s) => {
                let is_time = (0.0..MAX_UNIX_S).contains(&s);
                (is_time.then(|| WallTime::from_unix_ms((s * 1000.0) as i64)), s.to_string())
            }
            Self::Date(text) => {
                let clock = text.split_once('T').map_or("", |(_, clock)| clock);
                let has_zone = clock.contains(['Z', '+', '-']);
                let time = WallTime::from_xml(&text);
                into.zoneless += u64::from(time.is_some() && !has_zone);
                (time, text)
            }
        };
        if time.is_none() {
            into.problems.fault(
                || showing.place(),
                || format!("{what} {} is not a time", quoted(&text)),
                "write times as \"2026-11-21T20:00:00Z\", or in seconds since 1970",
            );
        }
        time
    }
}

impl<'de> Deserialize<'de> for UnparsedTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = UnparsedTime;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a date, or seconds since 1970")
            }
            fn visit_str<E>(self, text: &str) -> Result<UnparsedTime, E> {
                Ok(UnparsedTime::Date(text.chars().take(MAX_NAME_CHARS).collect()))
            }
            fn visit_i64<E>(self, s: i64) -> Result<UnparsedTime, E> {
                Ok(UnparsedTime::UnixSeconds(s as f64))
            }
            fn visit_u64<E>(self, s: u64) -> Result<UnparsedTime, E> {
                Ok(UnparsedTime::UnixSeconds(s as f64))
            }
            fn visit_f64<E>(self, s: f64) -> Result<UnparsedTime, E> {
                Ok(UnparsedTime::UnixSeconds(s))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// Texts by their languages.
struct LocalizedTexts(Vec<(String, String)>);

impl<'de> Deserialize<'de> for LocalizedTexts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = LocalizedTexts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or texts by language")
            }
            fn visit_str<E>(self, text: &str) -> Result<LocalizedTexts, E> {
                Ok(LocalizedTexts(vec![(String::new(), text.to_owned())]))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LocalizedTexts, A::Error> {
                let mut words = Vec::new();
                while words.len() < MAX_LANGUAGES {
                    let Some(word) = map.next_entry()? else { return Ok(LocalizedTexts(words)) };
                    words.push(word);
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(LocalizedTexts(words))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// The first `N` of a list; the rest is ignored.
struct List<T, const N: usize>(Vec<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for List<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Read<T, N> {
            type Value = List<T, N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T, N>, A::Error> {
                let mut list = Vec::new();
                while list.len() < N {
                    let Some(item) = seq.next_element()? else { return Ok(List(list)) };
                    list.push(item);
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(List(list))
            }
        }
        deserializer.deserialize_seq(Read(PhantomData))
    }
}

/// The whole file; `base` is where its bytes lie.
struct Document<'c, 'a> {
    into: &'c mut Collector<'a>,
    base: usize,
}

impl<'de> DeserializeSeed<'de> for Document<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with \"channels\" and \"programmes\"")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { into, base } = self;
        let mut has_programmes = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "channels" => map.next_value_seed(Entries { into: &mut *into, base, take: channel })?,
                "programmes" => {
                    has_programmes = true;
                    map.next_value_seed(Entries { into: &mut *into, base, take: programme })?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if has_programmes { Ok(()) } else { Err(A::Error::missing_field("programmes")) }
    }
}

/// A list whose entries are taken one by one, with their number and their place in the file.
struct Entries<'c, 'a> {
    into: &'c mut Collector<'a>,
    base: usize,
    take: fn(u64, &RawValue, usize, &mut Collector<'_>),
}

impl<'de> DeserializeSeed<'de> for Entries<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut number = 0;
        while let Some(raw) = seq.next_element::<&'de RawValue>()? {
            number += 1;
            let at = (raw.get().as_ptr() as usize).saturating_sub(self.base);
            (self.take)(number, raw, at, self.into);
        }
        Ok(())
    }
}
