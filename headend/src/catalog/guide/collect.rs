//! Conversion of a guide file's entries to programmes, events and series.
//!
//! CRIDs are `crid://<authority>/p<16 hex digits>` for programmes and `…/s<16 hex digits>` for series. The digits are from
//! the SHA-256 of a programme database's id if there is one, else of titles, synopses and numbers. Of 262,144 programmes
//! two have the same CRID by chance once in 500 million guides. A season with a number is a separate group: episode
//! numbers restart in each.

use std::collections::{BTreeMap, HashMap, HashSet};

use carousel::Digest;
use carousel::dvbi::Text;
use carousel::dvbi::genre;
use carousel::dvbi::guide::{Event, EventRepair, Group, Guide, MAX_EVENTS, MAX_PROGRAMMES, Part, Programme};

use super::GuideResult;
use super::problems::{Problems, quoted};
use super::showing::{Series, Showing, add_word};

carousel::limits! {
    /// Channels of one guide.
    const MAX_CHANNELS: usize = 16_384, "channels" {
        why: "The largest guides of grabbers have some thousand.",
        full: "Programmes of further channels are left out and reported.",
        free: "Holds for one file.",
        test: "channels_beyond_the_limit_are_left_out_and_reported",
    }
    /// Names of genres of one guide that are remembered and counted.
    const MAX_GENRE_NAMES: usize = 4_096, "names" {
        why: "Broadcasters use some hundred; a hostile file has another one in each entry.",
        full: "Further names are looked up each time and not reported.",
        free: "Holds for one file.",
        test: "names_of_genres_are_remembered_up_to_a_limit",
    }
}

/// Genres of a programme that are carried: receivers show one or two.
const MAX_GENRES: usize = 8;
/// Ages below this are not a restriction.
const LOWEST_AGE: u8 = 4;

/// A guide that is being filled.
pub(super) struct Collector<'a> {
    authority: &'a str,
    services: &'a dyn Fn(&str) -> Option<String>,
    guide: Guide,
    events: usize,
    channels: Vec<(String, Vec<Text>)>,
    asked: HashMap<String, ChannelUse>,
    /// Term that is meant by a name, and the number of times that it has come.
    genres: HashMap<String, (Option<&'static str>, u64)>,
    pub(super) problems: Problems,
    /// Times without a zone.
    pub(super) zoneless: u64,
    /// Whether the file breaks off.
    pub(super) is_cut: bool,
    no_room: u64,
}

/// A channel of the file, once it is known who shows it.
struct ChannelUse {
    service: Option<String>,
    programmes: u64,
    is_declared: bool,
}

impl<'a> Collector<'a> {
    /// See [`super::read`]; `file` is how problems call it.
    pub(super) fn new(
        file: String,
        authority: &'a str,
        services: &'a dyn Fn(&str) -> Option<String>,
    ) -> Self {
        Self {
            authority,
            services,
            guide: Guide::default(),
            events: 0,
            channels: Vec::new(),
            asked: HashMap::new(),
            genres: HashMap::new(),
            problems: Problems::new(file),
            zoneless: 0,
            is_cut: false,
            no_room: 0,
        }
    }

    /// Takes a channel's declaration, the first of each.
    pub(super) fn channel(&mut self, id: &str, names: Vec<Text>) {
        if let Some(asked) = self.ask(id)
            && !std::mem::replace(&mut asked.is_declared, true)
        {
            self.channels.push((id.to_owned(), names));
        }
    }

    /// The service that shows a channel's programme; `None` if it is left out.
    pub(super) fn service(&mut self, channel: &str) -> Option<String> {
        let asked = self.ask(channel)?;
        asked.programmes += 1;
        asked.service.clone()
    }

    fn ask(&mut self, channel: &str) -> Option<&mut ChannelUse> {
        if !self.asked.contains_key(channel) {
            if self.asked.len() >= MAX_CHANNELS {
                self.problems.report(
                    String::new,
                    || format!("channel {} is one more than {MAX_CHANNELS}: left out", quoted(channel)),
                    "split the guide by channels",
                );
                return None;
            }
            let service = (self.services)(channel);
            self.asked.insert(channel.to_owned(), ChannelUse { service, programmes: 0, is_declared: false });
        }
        self.asked.get_mut(channel)
    }

    /// Takes an entry.
    pub(super) fn showing(&mut self, mut showing: Showing) {
        let crid = self.programme_crid(&showing);
        let is_new = !self.guide.programmes.contains_key(&crid);
        if self.events >= MAX_EVENTS || (is_new && self.guide.programmes.len() >= MAX_PROGRAMMES) {
            self.no_room += 1;
            return;
        }
        self.events += 1;
        let service = std::mem::take(&mut showing.service);
        let (start, end, is_first_showing) = (showing.start, showing.end, showing.is_first_showing);
        if is_new {
            let programme = self.programme(crid.clone(), showing);
            self.guide.programmes.insert(crid.clone(), programme);
        }
        let event = Event { programme: crid, start, end, is_first_showing };
        self.guide.schedules.entry(service).or_default().push(event);
    }

    fn programme(&mut self, crid: String, mut showing: Showing) -> Programme {
        let genres = self.hrefs(&showing.genres, &mut showing.keywords);
        let part_of = showing.series.take().map(|series| self.part(series, &showing.titles));
        Programme {
            crid,
            titles: showing.titles,
            episode_titles: showing.episode_titles,
            synopses: showing.synopses,
            genres,
            keywords: showing.keywords,
            minimum_age: showing.minimum_age.filter(|age| *age >= LOWEST_AGE).map(|age| age.min(18)),
            credits: showing.credits,
            image: showing.image,
            year: showing.year,
            part_of,
        }
    }

    /// Terms for names of genres; a name without a term becomes a keyword. Receivers show the first term, and can name
    /// those of DVB's own scheme: they come first.
    fn hrefs(&mut self, names: &[Text], keywords: &mut Vec<Text>) -> Vec<String> {
        let mut hrefs: Vec<String> = Vec::new();
        for name in names {
            let href = match self.genres.get_mut(&name.text) {
                Some((href, times)) => {
                    *times += 1;
                    *href
                }
                None => {
                    let href = genre::term(&name.text).map(|term| term.href);
                    if self.genres.len() < MAX_GENRE_NAMES {
                        self.genres.insert(name.text.clone(), (href, 1));
                    }
                    href
                }
            };
            match href {
                Some(href) if hrefs.len() < MAX_GENRES && hrefs.iter().all(|it| it != href) => {
                    hrefs.push(href.to_owned());
                }
                Some(_) => {}
                None => add_word(keywords, &name.language, &name.text),
            }
        }
        hrefs.sort_by_key(|href| !href.starts_with("urn:dvb:"));
        hrefs
    }

    fn part(&mut self, series: Series, titles: &[Text]) -> Part {
        let titles = if series.titles.is_empty() { titles.to_vec() } else { series.titles };
        let season = series.season.map(|season| season.to_string()).unwrap_or_default();
        let title = titles.first().map_or("", |title| title.text.as_str());
        let crid = self.crid('s', [title, season.as_str()]);
        self.guide.groups.entry(crid.clone()).or_insert_with(|| Group {
            crid: crid.clone(),
            titles,
            ..Group::default()
        });
        Part { group: crid, number: series.episode }
    }

    fn programme_crid(&self, showing: &Showing) -> String {
        if let Some(id) = &showing.id {
            return self.crid('p', ["id", id]);
        }
        let number = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
        let series = showing.series.as_ref();
        let numbers = [number(series.and_then(|it| it.season)), number(series.and_then(|it| it.episode))];
        let texts = [&showing.titles, &showing.episode_titles, &showing.synopses];
        let texts = texts.into_iter().chain(series.map(|it| &it.titles)).flat_map(|texts| {
            texts.iter().flat_map(|it| [it.language.as_str(), it.text.as_str()]).chain(["/"])
        });
        self.crid('p', numbers.iter().map(String::as_str).chain(texts))
    }

    fn crid<'s>(&self, kind: char, identity: impl IntoIterator<Item = &'s str>) -> String {
        let mut hasher = Digest::hasher();
        for part in identity {
            hasher.update(part.as_bytes());
            hasher.update(&[0xff]); // in no text, so that ("a", "bc") is not ("ab", "c")
        }
        let [a, b, c, d, e, f, g, h, ..] = hasher.finish().0;
        let short = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        format!("crid://{}/{kind}{short:016x}", self.authority)
    }

    /// Brings the guide into order and reports its faults.
    pub(super) fn finish(mut self) -> GuideResult {
        self.report_left_out();
        self.report_unknown_genres();
        let mut of_service: BTreeMap<(String, EventRepair), u64> = BTreeMap::new();
        for repair in self.guide.tidy() {
            *of_service.entry(repair).or_default() += 1;
        }
        for ((service, repair), times) in of_service {
            let (what, fix) = in_words(repair);
            self.problems.report(
                || format!("service {}", quoted(&service)),
                || format!("{times} × an entry {what}"),
                fix,
            );
        }
        self.drop_unused();
        let faults = self.problems.faults;
        let problems = self.problems.finish();
        GuideResult { guide: self.guide, problems, channels: self.channels, faults, is_cut: self.is_cut }
    }

    /// Drops what no event refers to any more.
    fn drop_unused(&mut self) {
        let Guide { programmes, schedules, groups, .. } = &mut self.guide;
        let shown: HashSet<&str> =
            schedules.values().flatten().map(|event| event.programme.as_str()).collect();
        programmes.retain(|crid, _| shown.contains(crid.as_str()));
        let parts: HashSet<&str> = programmes
            .values()
            .filter_map(|programme| programme.part_of.as_ref())
            .map(|part| part.group.as_str())
            .collect();
        groups.retain(|crid, _| parts.contains(crid.as_str()));
    }

    fn report_left_out(&mut self) {
        let mut unasked: Vec<_> = self.asked.iter().filter(|(_, asked)| asked.service.is_none()).collect();
        unasked.sort_by_key(|(id, asked)| (std::cmp::Reverse(asked.programmes), id.as_str()));
        if !unasked.is_empty() {
            let programmes: u64 = unasked.iter().map(|(_, asked)| asked.programmes).sum();
            let ids: Vec<String> = unasked.iter().take(5).map(|(id, _)| quoted(id)).collect();
            let more = if unasked.len() > ids.len() { ", …" } else { "" };
            let what = format!(
                "channels that no service asks for: {} with {programmes} programmes ({}{more}): left out",
                unasked.len(),
                ids.join(", ")
            );
            self.problems.report(
                String::new,
                || what,
                "name the channel at its service, if it is on the air",
            );
        }
        let (zoneless, no_room) = (self.zoneless, self.no_room);
        if zoneless > 0 {
            self.problems.report(
                String::new,
                || format!("{zoneless} times have no zone: taken as UTC"),
                "write the zone behind each time, such as +0000",
            );
        }
        if no_room > 0 {
            self.problems.report(
                String::new,
                || format!("{no_room} entries are more than a guide has room for: left out"),
                "split the guide by channels, or shorten it to fewer days",
            );
        }
        if self.events == 0 {
            let there: Vec<String> = self.channels.iter().take(5).map(|(id, _)| quoted(id)).collect();
            let more = if self.channels.len() > there.len() { ", …" } else { "" };
            let what = match there.is_empty() {
                true => "no programme that a service shows, and no channel".to_owned(),
                false => {
                    format!("no programme that a service shows; its channels are {}{more}", there.join(", "))
                }
            };
            self.problems.fault(
                String::new,
                || what,
                "see that the grabber has written all of it, and that services name its channels",
            );
        }
    }

    fn report_unknown_genres(&mut self) {
        let genres = std::mem::take(&mut self.genres);
        let mut unknown: Vec<(u64, String)> = genres
            .into_iter()
            .filter_map(|(name, (href, times))| href.is_none().then_some((times, name)))
            .collect();
        unknown.sort_by(|(a_times, a), (b_times, b)| b_times.cmp(a_times).then_with(|| a.cmp(b)));
        for (times, name) in unknown {
            self.problems.report(
                String::new,
                || format!("unknown genre {} ({times} programmes): kept as keyword", quoted(&name)),
                "known ones are the names and hrefs of DVB ContentSubject, TV-Anytime ContentCS and FormatCS, and usual \
                 words for them, such as News, Sports, Movie / Drama, Children, Documentary",
            );
        }
    }
}

/// Words for a mistake of a schedule's entry and its consequence, and the fix.
const fn in_words(repair: EventRepair) -> (&'static str, &'static str) {
    match repair {
        EventRepair::Overlaps => {
            ("overlaps the next one: it ends where that begins", "let each end where the next one begins")
        }
        EventRepair::Endless => (
            "has no end: it ends where the next one begins, the last one is left out",
            "write the end of each programme",
        ),
        EventRepair::TooLong => ("is longer than a day: cut", "see that start and end are of one day"),
        EventRepair::Empty => {
            ("ends before it begins, or within a second: left out", "write an end that is behind the start")
        }
        EventRepair::Twice => ("begins with another one: left out", "write each showing once"),
        EventRepair::NoProgramme => ("is of no programme: left out", "write the programme too"),
        EventRepair::TooMany => {
            ("is one more than there is room for: left out", "shorten the guide to fewer days")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(channel: &str) -> Option<String> {
        Some(format!("tag:b.example,2026:{channel}"))
    }

    #[test]
    fn channels_beyond_the_limit_are_left_out_and_reported() {
        let mut collector = Collector::new("guide".to_owned(), "b.example", &service);
        for at in 0..MAX_CHANNELS {
            assert!(collector.service(&at.to_string()).is_some());
        }
        assert_eq!((collector.service("one more"), collector.service("0")), (None, service("0")));
        let problems = collector.finish().problems;
        assert!(
            problems.iter().any(|it| it.what.contains("\"one more\" is one more than 16384")),
            "{problems:?}"
        );
        let mut next = Collector::new("guide".to_owned(), "b.example", &service);
        assert!(next.service("one more").is_some());
    }

    #[test]
    fn names_of_genres_are_remembered_up_to_a_limit() {
        let mut collector = Collector::new("guide".to_owned(), "b.example", &service);
        let mut hrefs = |name: &str| {
            let mut keywords = Vec::new();
            let hrefs = collector.hrefs(&[Text::new("en", name)], &mut keywords);
            (hrefs.len(), keywords.len(), collector.genres.len())
        };
        for at in 1..=MAX_GENRE_NAMES {
            assert_eq!(hrefs(&format!("invented {at}")), (0, 1, at));
        }
        assert_eq!(hrefs("invented 0"), (0, 1, MAX_GENRE_NAMES), "still a keyword");
        assert_eq!(hrefs("News"), (1, 0, MAX_GENRE_NAMES), "still a term");
    }
}
