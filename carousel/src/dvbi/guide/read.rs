//! Parser of TV-Anytime documents to a guide: any edition and prefix, by local names, lenient.
//!
//! A document is read in pieces (a day of 300 services has tens of megabytes); a faulty piece is counted and skipped.
//! Descriptions of instances, reviews, purchases and segments are ignored. A programme that is both an episode and a member
//! of a box set stays an episode. Cycles of groups are harmless, since members are looked up only one level down.

use std::collections::{BTreeMap, BTreeSet};

use super::terms::{
    LAST_MS, MAX_CREDITS, MAX_LANGUAGES, MAX_SYNOPSIS, NOW_NEXT, cut, is_crid, is_language, role,
};
use super::{
    Credit, Event, Group, GroupKind, Guide, MAX_EVENTS, MAX_PROGRAMMES, NO_END, OnDemand, Part, Programme,
    Role,
};
use crate::dvbi::{Image, Text};
use crate::limits;
use crate::limits::MAX_URI_BYTES;
use crate::reasons;
use crate::time::{WallTime, duration_from_xml};
use crate::xml::{self, Element, XmlError};

limits! {
    /// CRID, service identifier, or genre.
    const MAX_ID_BYTES: usize = 256, "bytes" {
        why: "CRIDs on air have some 60.",
        full: "The entry that it identifies is left out as `no_crid`, or ignored.",
        free: "Holds for one identifier.",
        test: "hostile_documents_are_bounded",
    }

    /// Title, name or keyword, in UTF-16 code units.
    const MAX_LINE: usize = 256, "units" {
        why: "TS 103 770 has 80.",
        full: "The text is cut.",
        free: "Holds for one text.",
        test: "hostile_documents_are_bounded",
    }

    /// Synopsis, in UTF-16 code units.
    const MAX_TEXT: usize = 4096, "units" {
        why: "TS 103 770 has 1,200.",
        full: "The text is cut.",
        free: "Holds for one text.",
        test: "hostile_documents_are_bounded",
    }

    /// Genres, keywords, locators of one programme.
    const MAX_OF_EACH: usize = 64, "elements" {
        why: "Guides have some five.",
        full: "Further ones are ignored.",
        free: "Holds for one programme.",
        test: "hostile_documents_are_bounded",
    }

    /// Services that one schedule is for.
    const MAX_SERVICES_AT_ONCE: usize = 4, "services" {
        why: "A service in two definitions; its events are held once for each.",
        full: "Further ones are ignored.",
        free: "Holds for one schedule.",
        test: "hostile_documents_are_bounded",
    }
}

reasons! {
    /// Why a part of a guide document is left out.
    pub enum LeftOut {
        /// The CRID is missing or invalid.
        NoCrid = "no_crid",
        /// Another programme or group has the same CRID; the first one is kept.
        Twice = "twice",
        /// The event has no start time, or one outside 1970 to 9999.
        NoTime = "no_time",
        /// The event belongs to no service.
        NoService = "no_service",
        /// The title on demand has no locator.
        NoLocator = "no_locator",
        /// The document has more entries than the limit.
        TooMany = "too_many",
    }
}

impl Guide {
    /// Parses a document; also returns the kinds and numbers of skipped parts. The guide is not tidy, and its events may
    /// refer to programmes of another document.
    ///
    /// # Errors
    /// Not XML, too large, or another root. Faults of single programmes are not errors.
    pub fn parse(bytes: &[u8]) -> Result<(Self, Vec<(LeftOut, u64)>), XmlError> {
        let mut reading = Reading::default();
        let root = xml::parse_taking(bytes, |within, element| reading.piece(within, element))?;
        if root.name != "TVAMain" {
            return Err(XmlError::Missing { what: "TVAMain", within: root.name });
        }
        reading.tell_kinds();
        Ok((reading.guide, reading.left_out.into_iter().collect()))
    }
}

#[derive(Default)]
struct Reading {
    guide: Guide,
    /// Events and titles on demand so far.
    events: usize,
    left_out: BTreeMap<LeftOut, u64>,
    /// Groups whose type does not determine their kind.
    untold: BTreeSet<String>,
    /// Groups with episodes.
    series: BTreeSet<String>,
}

/// Elements that are collected until they end. All others are only traversed.
const PIECES: [&str; 5] =
    ["ProgramInformation", "GroupInformation", "ScheduleEvent", "BroadcastEvent", "OnDemandProgram"];

impl Reading {
    fn leave_out(&mut self, why: LeftOut) {
        *self.left_out.entry(why).or_default() += 1;
    }

    fn piece(&mut self, within: &[Element], element: Element) -> Option<Element> {
        if within.first().is_none_or(|root| root.name != "TVAMain") {
            return None;
        }
        if within.iter().any(|parent| PIECES.contains(&parent.name.as_str())) {
            return Some(element);
        }
        let done = match element.name.as_str() {
            "ProgramInformation" => self.programme(within, &element),
            "GroupInformation" => self.group(within, &element),
            "ScheduleEvent" | "BroadcastEvent" => self.event(within, &element),
            "OnDemandProgram" => self.on_demand(within, &element),
            _ => Ok(()),
        };
        if let Err(why) = done {
            self.leave_out(why);
        }
        None
    }

    fn programme(&mut self, within: &[Element], element: &Element) -> Result<(), LeftOut> {
        let crid = crid(element.attribute("programId"))?;
        if self.guide.programmes.contains_key(&crid) {
            return Err(LeftOut::Twice);
        }
        if self.guide.programmes.len() >= MAX_PROGRAMMES {
            return Err(LeftOut::TooMany);
        }
        let mut programme = Programme { crid: crid.clone(), ..Programme::default() };
        let language = language(within.iter().chain([element]));
        if let Some(about) = element.find("BasicDescription") {
            describe(&mut programme, about, own_language(about, language));
        }
        let relation = |name| element.all(name).find_map(|it| part_of(it, &crid));
        let series = relation("EpisodeOf");
        self.series.extend(series.iter().map(|part| part.group.clone()));
        programme.part_of = series.or_else(|| relation("MemberOf"));
        self.guide.programmes.insert(crid, programme);
        Ok(())
    }

    fn group(&mut self, within: &[Element], element: &Element) -> Result<(), LeftOut> {
        let crid = crid(element.attribute("groupId"))?;
        if crid.starts_with(NOW_NEXT) {
            return Ok(());
        }
        if self.guide.groups.contains_key(&crid) {
            return Err(LeftOut::Twice);
        }
        if self.guide.groups.len() >= MAX_PROGRAMMES {
            return Err(LeftOut::TooMany);
        }
        let mut group = Group { crid: crid.clone(), ..Group::default() };
        let language = language(within.iter().chain([element]));
        if let Some(about) = element.find("BasicDescription") {
            let mut described = Programme::default();
            describe(&mut described, about, own_language(about, language));
            (group.titles, group.synopses, group.image) =
                (described.titles, described.synopses, described.image);
        }
        match element.find("GroupType").and_then(|kind| kind.attribute("value")) {
            Some("programCompilation") => group.kind = GroupKind::BoxSet,
            Some("otherChoice") => group.kind = GroupKind::Category,
            Some("otherCollection") | None => {
                self.untold.insert(crid.clone());
            }
            // Series, show, season, brand, ….
            Some(_) => group.kind = GroupKind::Series,
        }
        group.part_of = element.all("MemberOf").find_map(|it| part_of(it, &crid));
        self.guide.groups.insert(crid, group);
        Ok(())
    }

    fn event(&mut self, within: &[Element], element: &Element) -> Result<(), LeftOut> {
        let programme = crid(element.find("Program").and_then(|program| program.attribute("crid")))?;
        let start = moment(element, "PublishedStartTime").or_else(|| moment(element, "ActualStartTime"));
        let start = start.ok_or(LeftOut::NoTime)?;
        let end = moment(element, "PublishedEndTime")
            .or_else(|| Some(start.plus_ms(length_ms(element)?)))
            .map_or(NO_END, |end| end.min(WallTime::from_unix_ms(LAST_MS)));
        let is_first_showing = flag(element, "FirstShowing");
        let mut services = services(within, element).peekable();
        if services.peek().is_none() {
            return Err(LeftOut::NoService);
        }
        for service in services {
            if self.events >= MAX_EVENTS {
                return Err(LeftOut::TooMany);
            }
            self.events += 1;
            let event = Event { programme: programme.clone(), start, end, is_first_showing };
            match self.guide.schedules.get_mut(service) {
                Some(events) => events.push(event),
                None => {
                    self.guide.schedules.insert(service.to_owned(), vec![event]);
                }
            }
        }
        Ok(())
    }

    fn on_demand(&mut self, within: &[Element], element: &Element) -> Result<(), LeftOut> {
        let programme = crid(element.find("Program").and_then(|program| program.attribute("crid")))?;
        let urls = element.all("ProgramURL").chain(element.all("AuxiliaryURL"));
        let urls = urls.filter(|url| !url.text.is_empty() && url.text.len() <= MAX_URI_BYTES);
        let locators: Vec<(String, String)> = urls
            .take(MAX_OF_EACH)
            .map(|url| (url.text.clone(), cut(url.attribute("contentType").unwrap_or_default(), MAX_LINE)))
            .collect();
        if locators.is_empty() {
            return Err(LeftOut::NoLocator);
        }
        if self.events >= MAX_EVENTS {
            return Err(LeftOut::TooMany);
        }
        self.events += 1;
        let end = moment(element, "EndOfAvailability").filter(|end| end.unix_ms() < LAST_MS);
        self.guide.on_demand.push(OnDemand {
            programme,
            service: services(within, element).next().unwrap_or_default().to_owned(),
            locators,
            duration_ms: length_ms(element).unwrap_or(0),
            start: moment(element, "StartOfAvailability").unwrap_or_default(),
            end: end.unwrap_or(NO_END),
        });
        Ok(())
    }

    /// Derives the kinds of groups from their members: a series has episodes, a box set has programmes, a category has
    /// groups.
    fn tell_kinds(&mut self) {
        let parents = self.guide.groups.values().filter_map(|group| group.part_of.as_ref());
        let parents: BTreeSet<String> = parents.map(|part| part.group.clone()).collect();
        let with_programmes = self.guide.programmes.values().filter_map(|it| it.part_of.as_ref());
        let with_programmes: BTreeSet<String> = with_programmes.map(|part| part.group.clone()).collect();
        for crid in &self.untold {
            let Some(group) = self.guide.groups.get_mut(crid) else { continue };
            let is_in_box = group.part_of.is_some();
            if self.series.contains(crid) {
                group.kind = GroupKind::Series;
                continue;
            }
            group.kind = match (with_programmes.contains(crid), parents.contains(crid)) {
                (true, _) => GroupKind::BoxSet,
                (false, true) => GroupKind::Category,
                (false, false) if is_in_box => GroupKind::BoxSet,
                (false, false) => GroupKind::Category,
            };
        }
    }
}

/// Adds a BasicDescription to a new programme.
fn describe(programme: &mut Programme, about: &Element, language: &str) {
    for title in about.all("Title") {
        match title.attribute("type").unwrap_or("main") {
            "main" => push_text(&mut programme.titles, title, language, MAX_LINE),
            "secondary" | "episodeTitle" => {
                push_text(&mut programme.episode_titles, title, language, MAX_LINE);
            }
            _ => {}
        }
    }
    for synopsis in about.all("Synopsis") {
        let own = own_language(synopsis, language);
        let there = programme.synopses.iter().position(|text| text.language.eq_ignore_ascii_case(own));
        let length = |text: &str| text.chars().count();
        match there {
            // Of several lengths of one text keep the longest.
            Some(at) => {
                let line = cut(&synopsis.text, MAX_TEXT);
                if length(&line) > length(&programme.synopses[at].text) {
                    programme.synopses[at].text = line;
                }
            }
            None => push_text(&mut programme.synopses, synopsis, language, MAX_TEXT),
        }
    }
    // Some broadcasters repeat the title in place of a synopsis.
    let stand_in = |text: &Text| Text::new(text.language.clone(), cut(&text.text, MAX_SYNOPSIS[1]));
    let titles: Vec<Text> = programme.titles.iter().map(stand_in).collect();
    programme.synopses.retain(|synopsis| !titles.contains(synopsis));

    for keyword in about.all("Keyword").take(MAX_OF_EACH) {
        let mut one = Vec::new();
        push_text(&mut one, keyword, language, MAX_LINE);
        programme.keywords.extend(one);
    }
    let is_main = |genre: &&Element| matches!(genre.attribute("type"), None | Some("main"));
    let genres = about.all("Genre").filter(is_main).chain(about.all("Genre").filter(|it| !is_main(it)));
    let genres = genres.filter_map(|it| it.attribute("href").map(str::trim));
    let genres = genres.filter(|href| !href.is_empty() && href.len() <= MAX_ID_BYTES);
    programme.genres = genres.take(MAX_OF_EACH).map(str::to_owned).collect();
    let ages = about.all("ParentalGuidance").filter_map(|it| it.child_text("MinimumAge"));
    programme.minimum_age = ages.filter_map(|age| age.trim().parse().ok()).find_map(|age: u32| match age {
        4..=18 => u8::try_from(age).ok(),
        // 255: not stated.
        19..=254 => Some(18),
        _ => None,
    });
    let credits = about.find("CreditsList").into_iter().flat_map(|list| list.all("CreditsItem"));
    programme.credits = credits.filter_map(credit).take(MAX_CREDITS).collect();
    programme.image = about.all("RelatedMaterial").find_map(still);
    let released = about.all("ReleaseInformation").filter_map(|it| it.find("ReleaseDate"));
    let released = released.flat_map(|date| date.children.iter()).map(|date| date.text.as_str());
    let produced = about.find("ProductionDate").and_then(|date| date.child_text("TimePoint"));
    programme.year = released.chain(produced).find_map(|date| {
        let year = date.trim().get(..4)?.parse().ok()?;
        (1..=9999).contains(&year).then_some(year)
    });
}

/// Adds a text, unless it is empty or its language is present.
fn push_text(texts: &mut Vec<Text>, element: &Element, language: &str, most: usize) {
    let language = own_language(element, language);
    let line = cut(&element.text, most);
    let is_there = texts.iter().any(|text| text.language.eq_ignore_ascii_case(language));
    if !line.is_empty() && !is_there && texts.len() < MAX_LANGUAGES {
        texts.push(Text::new(language, line));
    }
}

fn credit(item: &Element) -> Option<Credit> {
    let role: Role = role(item.attribute("role")?)?;
    let name = match (item.find("PersonName"), item.find("OrganizationName")) {
        (Some(person), _) => person_name(person),
        (None, Some(organization)) => cut(&organization.text, MAX_LINE),
        (None, None) => return None,
    };
    let character = item.find("Character").map(person_name).filter(|name| !name.is_empty());
    (!name.is_empty()).then_some(Credit { role, name, character })
}

/// The parts of a name in order.
fn person_name(name: &Element) -> String {
    let parts =
        name.children.iter().filter(|part| part.name.ends_with("Name")).map(|part| part.text.as_str());
    let parts: Vec<&str> = parts.chain([name.text.as_str()]).take(8).collect();
    cut(&parts.join(" "), MAX_LINE)
}

/// A still of any edition of the scheme.
fn still(related: &Element) -> Option<Image> {
    let how = related.find("HowRelated")?.attribute("href")?.trim();
    let uri = related.find("MediaLocator")?.find("MediaUri")?;
    let is_still = how.contains("HowRelatedCS:") && how.ends_with(":19");
    let is_short = !uri.text.is_empty() && uri.text.len() <= MAX_URI_BYTES;
    (is_still && is_short).then(|| Image {
        uri: uri.text.clone(),
        content_type: cut(uri.attribute("contentType").unwrap_or_default(), MAX_LINE),
    })
}

fn crid(attribute: Option<&str>) -> Result<String, LeftOut> {
    let crid = attribute.map(str::trim).filter(|crid| is_crid(crid) && crid.len() <= MAX_ID_BYTES);
    crid.map(str::to_owned).ok_or(LeftOut::NoCrid)
}

/// The part described by an EpisodeOf or MemberOf of `own`; `None` for itself, and for the structural groups of answers.
fn part_of(relation: &Element, own: &str) -> Option<Part> {
    let group = crid(relation.attribute("crid")).ok()?;
    if group == own || group.starts_with(NOW_NEXT) {
        return None;
    }
    Some(Part { group, number: relation.attribute("index").and_then(|index| index.trim().parse().ok()) })
}

fn moment(element: &Element, name: &str) -> Option<WallTime> {
    WallTime::from_xml(element.child_text(name)?).filter(|time| (0..=LAST_MS).contains(&time.unix_ms()))
}

/// PublishedDuration in milliseconds; `None` if there is none, or a negative one.
fn length_ms(element: &Element) -> Option<i64> {
    let length = duration_from_xml(element.child_text("PublishedDuration")?)?;
    Some(i64::try_from(length.as_millis()).unwrap_or(LAST_MS).min(LAST_MS))
}

fn flag(element: &Element, name: &str) -> bool {
    let value = element.find(name).and_then(|flag| flag.attribute("value"));
    value.is_some_and(|value| matches!(value.trim(), "true" | "1"))
}

/// Services of an element or of its schedule.
fn services<'e>(within: &'e [Element], element: &'e Element) -> impl Iterator<Item = &'e str> {
    let own = within.iter().chain([element]).rev().find_map(|it| it.attribute("serviceIDRef"));
    let names = own.unwrap_or_default().split_whitespace().filter(|name| name.len() <= MAX_ID_BYTES);
    names.take(MAX_SERVICES_AT_ONCE)
}

/// The language of the innermost element that has one; empty if none has.
fn language<'e>(elements: impl DoubleEndedIterator<Item = &'e Element>) -> &'e str {
    elements.rev().find_map(|it| it.attribute("lang").filter(|tag| is_language(tag))).unwrap_or_default()
}

fn own_language<'e>(element: &'e Element, outer: &'e str) -> &'e str {
    element.attribute("lang").filter(|tag| is_language(tag)).unwrap_or(outer)
}
