//! Answers of a guide: a TVAMain document for each query of TS 103 770 clause 6, and the files for broadcast.
//!
//! ```text
//! schedule       6.5   what services show between two times          also the file of a day, on the air
//! now_next       6.5   what services show now and next
//! window         6.5   the same with up to ten before and after
//! programme      6.6   full description of one programme
//! more_episodes  6.7   other available episodes of its series
//! box_set_…      6.8   categories, their box sets, their contents
//! library              every title on demand and every group, on the air
//! ```
//!
//! Sources are the schemas and a public validator, not the text of the clause; every answer passes both. By the clause,
//! titles on demand are played by an application named in an XML AIT, so ProgramURL is an AIT among the locators or that
//! of [`Options::player`]. Without either it is the first locator with its own type, which the schema allows and clients
//! that play DASH or HLS themselves understand, but the validator reports (`OD020-4`; `MB021` for box sets without an
//! application). The library has every locator, those after the first as AuxiliaryURL.
//!
//! Not supported: restart links, accessibility, images in several sizes, box sets without a category.

use std::collections::{BTreeMap, BTreeSet};

use super::describe::{ListedIn, Profile, Writing, number, time, uri};
use super::terms::{LAST_MS, MPEG7, NOW_NEXT, Tva, XSI, is_crid};
use super::{Event, Group, GroupKind, Guide, OnDemand, Programme};
use crate::dvbi::Text;
use crate::time::WallTime;
use crate::xml::{self, Element, XML_NAMESPACE};

/// Maximum events of a window before and after the present one.
pub const MAX_WINDOW: usize = 10;
/// Maximum showings of one programme in an answer.
const MAX_SHOWINGS: usize = 64;
/// The group of all categories of box sets.
pub const BOX_SETS: &str = "crid://dvb.gw/box-sets";

/// Options of a document.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The document's language; texts in others have theirs.
    pub language: &'a str,
    /// Edition of the schema.
    pub edition: Tva,
    /// URL of an XML AIT whose application plays titles on demand, with a programme's CRID added as `pid`; without it,
    /// the template of a box set.
    pub player: Option<&'a str>,
    /// Schedules have the full description of their programmes, for receivers that answer all queries themselves. The
    /// validator expects schedules for one query, and reports the additional elements.
    pub is_full: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { language: "en", edition: Tva::default(), player: None, is_full: false }
    }
}

/// One page of a long answer.
#[derive(Clone, Copy)]
pub struct Page<'a> {
    /// Number from 1; larger numbers mean the last page.
    pub number: usize,
    /// Items per page.
    pub items: usize,
    /// URL of the page with a given number.
    pub link: &'a dyn Fn(usize) -> String,
}

/// Selection of showings of episodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Showings {
    /// All.
    #[default]
    All,
    /// Upcoming ones in schedules.
    Scheduled,
    /// Available ones on demand.
    OnDemand,
}

/// The document as text.
pub fn to_xml(document: &Element) -> String {
    xml::write(document, &[(MPEG7, "mpeg7"), (XSI, "xsi")])
}

/// Programmes of services between two times. The schedule's start and end are extended to include partly overlapping
/// events. `None` if none of the services is known.
pub fn schedule(
    guide: &Guide,
    services: &[&str],
    from: WallTime,
    to: WallTime,
    options: &Options<'_>,
) -> Option<Element> {
    let writing = Writing { guide, options };
    let services = writing.known(services);
    let mut shown = BTreeSet::new();
    let mut schedules = Vec::new();
    for service in &services {
        let events = writing.events(guide.between(service, from, to));
        shown.extend(events.iter().map(|event| event.programme.as_str()));
        schedules.extend(writing.schedule(service, &events, from, to.max(from)));
    }
    if services.is_empty() {
        return None;
    }
    let profile = if options.is_full { Profile::FULL } else { Profile::SCHEDULE };
    let programmes = shown.iter().filter_map(|crid| guide.programmes.get(*crid)).map(|programme| {
        let relations =
            if options.is_full { writing.relations(programme) } else { writing.episode_of(programme) };
        writing.programme(programme, profile, relations)
    });
    Some(writing.document(Some(programmes.collect()), None, Some(schedules)))
}

/// Programmes of services now and next. The groups `now` and `later` exist for one service only; for several, the times
/// tell. `None` if none of the services is known.
pub fn now_next(guide: &Guide, services: &[&str], now: WallTime, options: &Options<'_>) -> Option<Element> {
    Writing { guide, options }.around(services, now, 0, 1)
}

/// Programmes of a service now, and up to ten events before and after it, with the groups `earlier` and `later` in order
/// of time. `None` if the service is not known.
pub fn window(
    guide: &Guide,
    service: &str,
    now: WallTime,
    earlier: usize,
    later: usize,
    options: &Options<'_>,
) -> Option<Element> {
    Writing { guide, options }.around(&[service], now, earlier.min(MAX_WINDOW), later.min(MAX_WINDOW))
}

/// The full description of a programme, with its availability on demand; from edition 2026 on also with upcoming
/// showings. `None` if it is not known.
pub fn programme(guide: &Guide, crid: &str, now: WallTime, options: &Options<'_>) -> Option<Element> {
    let writing = Writing { guide, options };
    let programme = guide.programmes.get(crid).filter(|programme| is_crid(&programme.crid))?;
    let mut locations = Vec::new();
    if options.edition.has_broadcast_events() {
        let wanted = BTreeSet::from([crid]);
        locations.extend(
            writing.showings(&wanted, now).map(|it| writing.broadcast(it.0, it.1)).take(MAX_SHOWINGS),
        );
    }
    let title = writing.titles_to_have(now).remove(crid);
    locations.extend(title.and_then(|title| writing.on_demand(title, ListedIn::Programme, now)));
    let about = writing.programme(programme, Profile::PROGRAMME, writing.episode_of(programme));
    Some(writing.document(Some(vec![about]), None, Some(locations)))
}

/// Episodes of a series in the order of their numbers; `crid` is the series or one of its episodes. Without `page` there
/// are not links, which the clause requires even for a single page. Before edition 2026 showings are those of one service,
/// that of the next showing. `None` if no episode is available.
pub fn more_episodes(
    guide: &Guide,
    crid: &str,
    showings: Showings,
    now: WallTime,
    page: Option<Page<'_>>,
    options: &Options<'_>,
) -> Option<Element> {
    let writing = Writing { guide, options };
    let part = guide.programmes.get(crid).and_then(|programme| programme.part_of.as_ref());
    let series = part.map_or(crid, |part| part.group.as_str());
    if !is_crid(series) {
        return None;
    }
    let is_in = |it: &&Programme| it.part_of.as_ref().is_some_and(|part| part.group == series);
    let mut episodes: Vec<&Programme> = guide.programmes.values().filter(is_in).collect();
    episodes.sort_by_key(|it| it.part_of.as_ref().and_then(number).unwrap_or(usize::MAX));
    let crids: BTreeSet<&str> = episodes.iter().map(|it| it.crid.as_str()).collect();

    let mut shown: Vec<(&str, &Event)> = Vec::new();
    if showings != Showings::OnDemand {
        shown.extend(writing.showings(&crids, now));
        if !options.edition.has_broadcast_events() {
            let next = shown.iter().min_by_key(|(_, event)| event.start).map(|(service, _)| *service);
            shown.retain(|(service, _)| Some(*service) == next);
        }
    }
    let titles = if showings == Showings::Scheduled { BTreeMap::new() } else { writing.titles_to_have(now) };
    episodes.retain(|it| {
        titles.contains_key(it.crid.as_str()) || shown.iter().any(|(_, event)| event.programme == it.crid)
    });
    if episodes.is_empty() {
        return None;
    }
    let (on_page, mut links) = cut_page(&episodes, page);
    if let (true, Some(page)) = (links.is_empty(), page) {
        links = vec![("first", (page.link)(1)), ("last", (page.link)(1))];
    }
    let is_here = |crid: &str| on_page.iter().any(|it| it.crid == crid);
    shown.retain(|(_, event)| is_here(&event.programme));
    let mut per_programme: BTreeMap<&str, usize> = BTreeMap::new();
    shown.retain(|(_, event)| {
        let count = per_programme.entry(&event.programme).or_default();
        *count += 1;
        *count <= MAX_SHOWINGS
    });
    let had: Vec<&OnDemand> = on_page.iter().filter_map(|it| titles.get(it.crid.as_str()).copied()).collect();

    let mut locations: Vec<Element> = Vec::new();
    if options.edition.has_broadcast_events() {
        locations.extend(shown.iter().map(|(service, event)| writing.broadcast(service, event)));
    } else {
        // A schedule is required, even if nothing is scheduled; but the schemas before 2024 do not permit an empty one.
        let service = shown.first().map(|it| it.0).or_else(|| had.first().map(|it| it.service.as_str()));
        let events: Vec<&Event> = shown.iter().map(|it| it.1).collect();
        locations.extend(writing.schedule(service.unwrap_or_default(), &events, now, now));
    }
    locations.extend(had.iter().filter_map(|title| writing.on_demand(title, ListedIn::Episodes, now)));
    let about = writing.tva("BasicDescription").extend(writing.links(&links));
    let group = writing.group(series, Some(episodes.len()), "otherCollection", about, None);
    let programmes = on_page.iter().map(|programme| {
        let number = programme.part_of.as_ref().and_then(number);
        let relation = writing.relation("EpisodeOf", series, number);
        writing.programme(programme, Profile::EPISODES, vec![relation])
    });
    Some(writing.document(Some(programmes.collect()), Some(vec![group]), Some(locations)))
}

/// The categories of box sets, in the group [`BOX_SETS`]. `None` if there are none.
pub fn box_set_categories(guide: &Guide, options: &Options<'_>) -> Option<Element> {
    let writing = Writing { guide, options };
    let categories = writing.groups_in(GroupKind::Category, None);
    if categories.is_empty() {
        return None;
    }
    let root = Group {
        crid: BOX_SETS.to_owned(),
        titles: vec![Text::new("en", "Box sets")],
        kind: GroupKind::Category,
        ..Group::default()
    };
    let members = categories.iter().enumerate().map(|(at, category)| {
        let about =
            writing.about_group(category, Some("short")).extend(writing.still(category.image.as_ref()));
        let relation = writing.relation("MemberOf", BOX_SETS, Some(at + 1));
        writing.group(&category.crid, None, "otherCollection", about, Some(relation))
    });
    let about = writing.about_group(&root, None);
    let root = writing.group(BOX_SETS, Some(categories.len()), "otherCollection", about, None);
    Some(writing.document(None, Some(std::iter::once(root).chain(members).collect()), None))
}

/// The box sets of a category. `None` if it is not known.
pub fn box_set_lists(guide: &Guide, category: &str, options: &Options<'_>) -> Option<Element> {
    let writing = Writing { guide, options };
    let category = writing.known_group(category, GroupKind::Category)?;
    let sets = writing.groups_in(GroupKind::BoxSet, Some(&category.crid));
    let members = sets.iter().enumerate().map(|(at, set)| {
        let about = writing
            .about_group(set, Some("medium"))
            .extend(writing.template_ait())
            .extend(writing.still(set.image.as_ref()));
        let relation = writing.relation("MemberOf", &category.crid, Some(at + 1));
        writing.group(&set.crid, None, "otherCollection", about, Some(relation))
    });
    let about = writing.about_group(category, None);
    let root = writing.group(&category.crid, Some(sets.len()), "otherCollection", about, None);
    Some(writing.document(None, Some(std::iter::once(root).chain(members).collect()), None))
}

/// Titles on demand of a box set, and of the series in it. `None` if it is not known.
pub fn box_set_contents(
    guide: &Guide,
    box_set: &str,
    now: WallTime,
    page: Option<Page<'_>>,
    options: &Options<'_>,
) -> Option<Element> {
    let writing = Writing { guide, options };
    let set = writing.known_group(box_set, GroupKind::BoxSet)?;
    let series = writing.groups_in(GroupKind::Series, Some(&set.crid));
    let place = |crid: &str| series.iter().position(|it| it.crid == crid);
    let titles = writing.titles_to_have(now);
    let mut items: Vec<((usize, usize), &Programme, &OnDemand)> = Vec::new();
    for (crid, title) in &titles {
        let Some(programme) = guide.programmes.get(*crid) else { continue };
        let Some(part) = &programme.part_of else { continue };
        let own = number(part).unwrap_or(usize::MAX);
        if part.group == set.crid {
            items.push(((0, own), programme, title));
        } else if let Some(at) = place(&part.group) {
            items.push(((at + 1, own), programme, title));
        }
    }
    items.sort_by_key(|it| it.0);
    let (on_page, links) = cut_page(&items, page);
    let offset = on_page.first().and_then(|first| items.iter().position(|it| std::ptr::eq(it, first)));

    let about = writing
        .about_group(set, Some("medium"))
        .extend(writing.still(set.image.as_ref()))
        .extend(writing.links(&links));
    let mut groups = vec![writing.group(&set.crid, Some(items.len()), "otherCollection", about, None)];
    for (at, it) in series.iter().enumerate() {
        if on_page.iter().any(|(place, _, _)| place.0 == at + 1) {
            let relation = writing.relation("MemberOf", &set.crid, Some(at + 1));
            let about = writing.about_group(it, None);
            groups.push(writing.group(&it.crid, None, "otherCollection", about, Some(relation)));
        }
    }
    let programmes = on_page.iter().enumerate().map(|(at, (place, programme, _))| {
        let number_in_set = offset.unwrap_or(0) + at + 1;
        let relation = match place.0.checked_sub(1).and_then(|at| series.get(at)) {
            Some(series) => {
                let number = programme.part_of.as_ref().and_then(number);
                writing.relation("EpisodeOf", &series.crid, number)
            }
            None => writing.relation("MemberOf", &set.crid, Some(number_in_set)),
        };
        writing.programme(programme, Profile::CONTENTS, vec![relation])
    });
    let locations = on_page.iter().filter_map(|it| writing.on_demand(it.2, ListedIn::BoxSet, now));
    Some(writing.document(Some(programmes.collect()), Some(groups), Some(locations.collect())))
}

/// Every title on demand with all its locators, and every group with its kind: the file that is sent in addition to the
/// schedules. No query has this answer, so only the schema applies.
pub fn library(guide: &Guide, options: &Options<'_>) -> Element {
    let writing = Writing { guide, options };
    let mut programmes = BTreeSet::new();
    let mut locations = Vec::new();
    for title in &guide.on_demand {
        let is_known = guide.programmes.contains_key(&title.programme) && is_crid(&title.programme);
        let element = is_known.then(|| writing.on_demand(title, ListedIn::Library, title.start)).flatten();
        if let Some(element) = element {
            programmes.insert(title.programme.as_str());
            locations.push(element);
        }
    }
    let programmes = programmes.iter().filter_map(|crid| guide.programmes.get(*crid));
    let programmes = programmes.map(|it| writing.programme(it, Profile::FULL, writing.relations(it)));
    let groups = guide.groups.values().filter(|group| is_crid(&group.crid)).map(|group| {
        let kind = match group.kind {
            GroupKind::Series => "series",
            GroupKind::BoxSet => "programCompilation",
            GroupKind::Category => "otherChoice",
        };
        let about = writing.about_group(group, Some("long")).extend(writing.still(group.image.as_ref()));
        let part = group.part_of.as_ref().filter(|part| is_crid(&part.group));
        let relation = part.map(|part| writing.relation("MemberOf", &part.group, number(part)));
        writing.group(&group.crid, None, kind, about, relation)
    });
    let (programmes, groups) = (programmes.collect(), groups.collect());
    writing.document(Some(programmes), Some(groups), Some(locations))
}

impl<'a> Writing<'a> {
    fn document(
        &self,
        programmes: Option<Vec<Element>>,
        groups: Option<Vec<Element>>,
        locations: Option<Vec<Element>>,
    ) -> Element {
        let tables = [
            ("ProgramInformationTable", programmes),
            ("GroupInformationTable", groups),
            ("ProgramLocationTable", locations),
        ];
        let tables = tables.into_iter().filter_map(|(name, rows)| Some(self.tva(name).extend(rows?)));
        self.tva("TVAMain")
            .attr_ns(XML_NAMESPACE, "lang", self.language())
            .child(self.tva("ProgramDescription").extend(tables))
    }

    /// The known services among those of the query, each once, in its order.
    fn known<'s>(&self, services: &[&'s str]) -> Vec<&'s str> {
        let mut known: Vec<&str> = Vec::new();
        let mut seen = BTreeSet::new();
        for service in services {
            if self.guide.schedules.contains_key(*service) && seen.insert(*service) {
                known.push(service);
            }
        }
        known
    }

    /// The events that fit a document.
    fn events<'e>(&self, events: &'e [Event]) -> Vec<&'e Event> {
        let can_be_told = |event: &&Event| {
            let is_known = self.guide.programmes.contains_key(&event.programme) && is_crid(&event.programme);
            let is_in_time = event.start.unix_ms() >= 0 && event.end.unix_ms() <= LAST_MS;
            is_known && is_in_time && event.start < event.end
        };
        events.iter().filter(can_be_told).collect()
    }

    /// A Schedule of these events; `None` if there are none and the edition's schema requires some.
    fn schedule(&self, service: &str, events: &[&Event], from: WallTime, to: WallTime) -> Option<Element> {
        if events.is_empty() && !self.options.edition.has_empty_schedules() {
            return None;
        }
        let start = events.iter().map(|event| event.start).fold(from, WallTime::min);
        let end = events.iter().map(|event| event.end).fold(to, WallTime::max);
        let schedule = self
            .tva("Schedule")
            .attr("serviceIDRef", uri(service))
            .attr("start", time(start))
            .attr("end", time(end));
        Some(schedule.extend(events.iter().map(|event| self.event("ScheduleEvent", event))))
    }

    fn broadcast(&self, service: &str, event: &Event) -> Element {
        self.event("BroadcastEvent", event).attr("serviceIDRef", uri(service))
    }

    fn around(&self, services: &[&str], now: WallTime, earlier: usize, later: usize) -> Option<Element> {
        let services = self.known(services);
        let mut members: BTreeMap<&str, Vec<Element>> = BTreeMap::new();
        let (mut schedules, mut groups) = (Vec::new(), Vec::new());
        for service in &services {
            let events = self.guide.schedules.get(*service).map_or(&[][..], Vec::as_slice);
            let next = events.partition_point(|event| event.start <= now);
            let first = events.partition_point(|event| event.end <= now).min(next);
            let before = self.events(&events[first.saturating_sub(earlier)..first]);
            let current = self.events(&events[first..next]);
            let after = self.events(&events[next..events.len().min(next + later)]);
            for (name, events) in [("earlier", &before), ("now", &current), ("later", &after)] {
                let crid = format!("{NOW_NEXT}/{name}");
                for (at, event) in events.iter().enumerate() {
                    let member = self.relation("MemberOf", &crid, Some(at + 1));
                    members.entry(&event.programme).or_default().push(member);
                }
                if !events.is_empty() && services.len() == 1 {
                    let about = self.tva("BasicDescription");
                    groups.push(self.group(&crid, Some(events.len()), "otherCollection", about, None));
                }
            }
            let around: Vec<&Event> = before.into_iter().chain(current).chain(after).collect();
            let start = around.first().map_or(now, |event| event.start);
            schedules.extend(self.schedule(service, &around, start, start));
        }
        if services.is_empty() {
            return None;
        }
        let programmes = members.into_iter().filter_map(|(crid, members)| {
            let programme = self.guide.programmes.get(crid)?;
            let members = if services.len() == 1 { members } else { Vec::new() };
            Some(self.programme(programme, Profile::SCHEDULE, members))
        });
        Some(self.document(Some(programmes.collect()), Some(groups), Some(schedules)))
    }

    /// Every relation of a programme, for broadcast files.
    fn relations(&self, programme: &Programme) -> Vec<Element> {
        let part = programme.part_of.as_ref().filter(|part| is_crid(&part.group));
        let relation = part.map(|part| {
            let name = if self.is_episode(part) { "EpisodeOf" } else { "MemberOf" };
            self.relation(name, &part.group, number(part))
        });
        relation.into_iter().collect()
    }

    /// Current and upcoming showings of programmes, by service.
    fn showings<'s>(
        &'s self,
        programmes: &'s BTreeSet<&str>,
        now: WallTime,
    ) -> impl Iterator<Item = (&'a str, &'a Event)> + 's {
        let guide = self.guide;
        guide.schedules.iter().flat_map(move |(service, events)| {
            let first = events.partition_point(|event| event.end <= now);
            let wanted = events[first..].iter().filter(|event| programmes.contains(event.programme.as_str()));
            let told = wanted.filter(|event| !self.events(std::slice::from_ref(*event)).is_empty());
            told.map(|event| (service.as_str(), event))
        })
    }

    /// The playable title on demand of each programme whose availability has not ended; of several, the first available.
    fn titles_to_have(&self, now: WallTime) -> BTreeMap<&'a str, &'a OnDemand> {
        let guide: &'a Guide = self.guide;
        let mut titles: BTreeMap<&str, &OnDemand> = BTreeMap::new();
        for title in &guide.on_demand {
            let is_located =
                self.options.player.is_some() || title.locators.iter().any(|it| !it.0.trim().is_empty());
            let is_known = guide.programmes.contains_key(&title.programme) && is_crid(&title.programme);
            if title.end <= now || !is_located || !is_known {
                continue;
            }
            let best = titles.entry(&title.programme).or_insert(title);
            if title.start < best.start {
                *best = title;
            }
        }
        titles
    }

    fn known_group(&self, crid: &str, kind: GroupKind) -> Option<&'a Group> {
        let guide: &'a Guide = self.guide;
        guide.groups.get(crid).filter(|group| group.kind == kind && is_crid(&group.crid))
    }

    /// Groups of a kind, in one group or in any, in the order of their numbers. One level only, so that cycles of groups
    /// are harmless.
    fn groups_in(&self, kind: GroupKind, within: Option<&str>) -> Vec<&'a Group> {
        let guide: &'a Guide = self.guide;
        let is_in = |group: &&Group| match (within, &group.part_of) {
            (None, _) => true,
            (Some(within), Some(part)) => part.group == within && group.crid != within,
            (Some(_), None) => false,
        };
        let of_kind = |group: &&Group| group.kind == kind && is_crid(&group.crid);
        let mut groups: Vec<&Group> = guide.groups.values().filter(of_kind).filter(is_in).collect();
        groups.sort_by_key(|group| group.part_of.as_ref().and_then(number).unwrap_or(usize::MAX));
        groups
    }
}

/// The items of a page, and links to other pages: none for a single page, two on the first and last, four in between.
fn cut_page<'i, T>(items: &'i [T], page: Option<Page<'_>>) -> (&'i [T], Vec<(&'static str, String)>) {
    let Some(page) = page else { return (items, Vec::new()) };
    let on_each = page.items.max(1);
    let last = items.len().div_ceil(on_each).max(1);
    let number = page.number.clamp(1, last);
    let first = (number - 1) * on_each;
    let mut links = Vec::new();
    if number > 1 {
        links.extend([("first", (page.link)(1)), ("prev", (page.link)(number - 1))]);
    }
    if number < last {
        links.extend([("next", (page.link)(number + 1)), ("last", (page.link)(last))]);
    }
    (&items[first..items.len().min(first.saturating_add(on_each))], links)
}
