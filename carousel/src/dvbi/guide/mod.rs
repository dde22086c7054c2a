//! Content guide: the model of programmes and schedules (TS 103 770 clause 6, TV-Anytime TS 102 822-3-1).
//!
//! A [`Guide`] is filled from a broadcaster's data (XMLTV, JSON) or from received documents, normalised by
//! [`Guide::tidy`], and queried. It is bounded when it is filled: [`MAX_PROGRAMMES`], [`MAX_EVENTS`].
//!
//! | file | content |
//! |---|---|
//! | `write.rs` | answers to queries, files for broadcast |
//! | `describe.rs` | elements of programmes, groups, titles on demand |
//! | `read.rs` | TV-Anytime documents of any edition to a guide |
//! | `terms.rs` | editions, classification terms, lengths |

mod describe;
#[cfg(test)]
mod document_tests;
mod read;
mod terms;
mod write;

use std::collections::BTreeMap;

use super::{Image, Text};
use crate::limits;
use crate::reasons;
use crate::time::WallTime;

pub use read::LeftOut;
pub use terms::{AIT_TYPE, Tva};
pub use write::{
    BOX_SETS, MAX_WINDOW, Options, Page, Showings, box_set_categories, box_set_contents, box_set_lists,
    library, more_episodes, now_next, programme, schedule, to_xml, window,
};

limits! {
    /// Programmes of a guide, and likewise groups.
    pub const MAX_PROGRAMMES: usize = 262_144, "programmes" {
        why: "300 channels for a week have some 100,000; about 1 kB each.",
        full: "Further ones are left out as `too_many`.",
        free: "When programmes are over and the guide is tidied.",
        test: "programmes_and_groups_beyond_the_limit_are_left_out_until_others_are_gone",
    }

    /// One event.
    pub const MAX_EVENT_MS: i64 = 24 * 3_600_000, "ms" {
        why: "A longer event is an error in the guide, or a channel without programmes.",
        full: "The event ends earlier; counted as `too_long`.",
        free: "Holds for one event.",
        test: "what_overlaps_has_no_end_or_comes_twice_is_brought_into_order",
    }
}

limits! {
    /// Events of a guide, and titles on demand.
    pub const MAX_EVENTS: usize = 524_288, "events" {
        why: "300 channels for a week have some 100,000.",
        full: "Further ones are left out as `too_many`.",
        free: "When events are over and the guide is tidied.",
        test: "hostile_documents_are_bounded",
    }
}

/// Shorter events are an error in the guide.
pub const MIN_EVENT_MS: i64 = 1000;

/// A content guide.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guide {
    /// Programmes by their CRID.
    pub programmes: BTreeMap<String, Programme>,
    /// Events by service (`ContentGuideServiceRef`, else `UniqueIdentifier`), in order of time after
    /// [`Guide::tidy`].
    pub schedules: BTreeMap<String, Vec<Event>>,
    /// Titles on demand.
    pub on_demand: Vec<OnDemand>,
    /// Series, seasons and box sets by their CRID.
    pub groups: BTreeMap<String, Group>,
}

/// A programme, independent of its showings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Programme {
    /// `crid://authority/data`.
    pub crid: String,
    /// Main titles, one for each language.
    pub titles: Vec<Text>,
    /// Secondary titles (episode titles), one for each language.
    pub episode_titles: Vec<Text>,
    /// Synopses, one for each language, of any length: cut to TV-Anytime's lengths when written.
    pub synopses: Vec<Text>,
    /// Hrefs of genre terms, the main one first.
    pub genres: Vec<String>,
    /// Keywords.
    pub keywords: Vec<Text>,
    /// Youngest viewer's age, 4 to 18.
    pub minimum_age: Option<u8>,
    /// People and organisations that made it.
    pub credits: Vec<Credit>,
    /// A still.
    pub image: Option<Image>,
    /// Year of production.
    pub year: Option<u16>,
    /// The series or box set that it belongs to.
    pub part_of: Option<Part>,
}

/// Place of a programme in a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    /// The group's CRID.
    pub group: String,
    /// Its number in the group, from 1.
    pub number: Option<u32>,
}

/// A person and the role in a programme.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credit {
    /// Role of the person.
    pub role: Role,
    /// Name.
    pub name: String,
    /// Character that is played.
    pub character: Option<String>,
}

/// Role of a person in a programme; the most common ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Role {
    /// Actor.
    #[default]
    Actor,
    /// Director.
    Director,
    /// Writer.
    Writer,
    /// Producer.
    Producer,
    /// Presenter.
    Presenter,
    /// Commentator.
    Commentator,
    /// Composer.
    Composer,
    /// Editor.
    Editor,
    /// Guest.
    Guest,
}

/// One showing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// CRID of the programme.
    pub programme: String,
    /// Published start.
    pub start: WallTime,
    /// Published end; after [`Guide::tidy`] it is later than the start.
    pub end: WallTime,
    /// Shown for the first time.
    pub is_first_showing: bool,
}

/// One title on demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnDemand {
    /// CRID of the programme.
    pub programme: String,
    /// The service that offers it.
    pub service: String,
    /// Its URLs with MIME types, the preferred one first.
    pub locators: Vec<(String, String)>,
    /// Duration.
    pub duration_ms: i64,
    /// Start of its availability.
    pub start: WallTime,
    /// End of its availability.
    pub end: WallTime,
}

/// A series, or a box set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// `crid://authority/data`.
    pub crid: String,
    /// Titles, one for each language.
    pub titles: Vec<Text>,
    /// Synopses.
    pub synopses: Vec<Text>,
    /// A still.
    pub image: Option<Image>,
    /// Whether it is a category of box sets, a box set, or a series of episodes.
    pub kind: GroupKind,
    /// The category that a box set is in.
    pub part_of: Option<Part>,
}

/// Kind of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GroupKind {
    /// Episodes.
    #[default]
    Series,
    /// Titles offered together.
    BoxSet,
    /// Box sets offered together.
    Category,
}

reasons! {
    /// Repairs of mistakes in the events of a schedule.
    pub enum EventRepair {
        /// The event overlaps the next one: it is cut.
        Overlaps = "overlaps",
        /// The event has no end: it ends where the next one begins, or is left out.
        Endless = "endless",
        /// The event is longer than a day: it is cut.
        TooLong = "too_long",
        /// The event ends before it begins, or is shorter than a second: it is left out.
        Empty = "empty",
        /// Another event begins at the same time: the later entry is left out.
        Twice = "twice",
        /// The programme of the event is not in the guide: the event is left out.
        NoProgramme = "no_programme",
        /// The guide has more events than the limit: the event is left out.
        TooMany = "too_many",
    }
}

/// End of an event whose end is unknown: [`Guide::tidy`] derives one, or removes the event.
pub const NO_END: WallTime = WallTime::from_unix_ms(i64::MAX);

impl Guide {
    /// Sorts every schedule by time and removes overlaps; gaps are kept. Returns the repairs, by service.
    pub fn tidy(&mut self) -> Vec<(String, EventRepair)> {
        let mut repairs = Vec::new();
        for (service, events) in &mut self.schedules {
            let mut tell = |repair| repairs.push((service.clone(), repair));
            events.retain(|event| {
                let is_known = self.programmes.contains_key(&event.programme);
                if !is_known {
                    tell(EventRepair::NoProgramme);
                }
                is_known
            });
            // An empty event must not displace another.
            let is_empty =
                |event: &Event| event.end != NO_END && event.end < event.start.plus_ms(MIN_EVENT_MS);
            events.sort_by_key(|event| (event.start, is_empty(event)));
            events.dedup_by(|later, earlier| {
                let is_twice = later.start == earlier.start;
                if is_twice {
                    tell(EventRepair::Twice);
                }
                is_twice
            });
            let mut is_reported = false;
            for at in 0..events.len() {
                let next = events.get(at + 1).map(|event| event.start);
                let event = &mut events[at];
                match next {
                    _ if event.end == NO_END => {
                        tell(EventRepair::Endless);
                        event.end = next.unwrap_or(event.start);
                        is_reported = next.is_none();
                    }
                    Some(next) if event.end > next => {
                        tell(EventRepair::Overlaps);
                        event.end = next;
                    }
                    _ => {}
                }
                if event.end.unix_ms().saturating_sub(event.start.unix_ms()) > MAX_EVENT_MS {
                    tell(EventRepair::TooLong);
                    event.end = event.start.plus_ms(MAX_EVENT_MS);
                }
            }
            if is_reported {
                events.pop();
            }
            events.retain(|event| {
                let is_something = !is_empty(event);
                if !is_something {
                    tell(EventRepair::Empty);
                }
                is_something
            });
        }
        self.schedules.retain(|_, events| !events.is_empty());
        repairs
    }

    /// Adds the parts of another guide. Parts beyond the limits are dropped and counted.
    pub fn merge(&mut self, other: Self) -> u64 {
        let mut left_out = 0;
        for (crid, programme) in other.programmes {
            if self.programmes.len() < MAX_PROGRAMMES || self.programmes.contains_key(&crid) {
                self.programmes.insert(crid, programme);
            } else {
                left_out += 1;
            }
        }
        for (crid, group) in other.groups {
            if self.groups.len() < MAX_PROGRAMMES || self.groups.contains_key(&crid) {
                self.groups.insert(crid, group);
            } else {
                left_out += 1;
            }
        }
        let mut room = MAX_EVENTS.saturating_sub(self.events());
        for (service, events) in other.schedules {
            left_out += events.len().saturating_sub(room) as u64;
            let taken = events.len().min(room);
            room -= taken;
            if taken > 0 {
                self.schedules.entry(service).or_default().extend(events.into_iter().take(taken));
            }
        }
        left_out += other.on_demand.len().saturating_sub(room) as u64;
        self.on_demand.extend(other.on_demand.into_iter().take(room));
        left_out
    }

    /// Number of events and titles on demand.
    pub fn events(&self) -> usize {
        self.schedules.values().map(Vec::len).sum::<usize>() + self.on_demand.len()
    }

    /// Events of a service at `now` and after it.
    pub fn now_next(&self, service: &str, now: WallTime) -> (Option<&Event>, Option<&Event>) {
        let events = self.schedules.get(service).map_or(&[][..], Vec::as_slice);
        let next = events.partition_point(|event| event.start <= now);
        let current = next.checked_sub(1).map(|at| &events[at]).filter(|event| event.end > now);
        (current, events.get(next))
    }

    /// Events of a service that overlap the interval between two times.
    pub fn between(&self, service: &str, from: WallTime, to: WallTime) -> &[Event] {
        let events = self.schedules.get(service).map_or(&[][..], Vec::as_slice);
        let first = events.partition_point(|event| event.end <= from);
        let end = events.partition_point(|event| event.start < to);
        &events[first.min(end)..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guide(events: &[(i64, i64)]) -> Guide {
        let mut guide = Guide::default();
        let programme = Programme { crid: "crid://a/p".into(), ..Programme::default() };
        guide.programmes.insert(programme.crid.clone(), programme);
        let event = |&(start, end): &(i64, i64)| Event {
            programme: "crid://a/p".to_owned(),
            start: WallTime::from_unix_ms(start * 1000),
            end: if end < 0 { NO_END } else { WallTime::from_unix_ms(end * 1000) },
            is_first_showing: false,
        };
        guide.schedules.insert("s".to_owned(), events.iter().map(event).collect());
        guide
    }

    fn times(guide: &Guide) -> Vec<(i64, i64)> {
        let events = guide.schedules.get("s").map_or(&[][..], Vec::as_slice);
        events.iter().map(|it| (it.start.unix_ms() / 1000, it.end.unix_ms() / 1000)).collect()
    }

    #[test]
    fn what_overlaps_has_no_end_or_comes_twice_is_brought_into_order() {
        let day = 86_400;
        let mut messy = guide(&[(200, 300), (0, 250), (0, 90), (300, -1), (500, 500), (600, 600 + 3 * day)]);
        messy.schedules.get_mut("s").unwrap().push(Event {
            programme: "crid://a/unknown".to_owned(),
            start: WallTime::from_unix_ms(5),
            end: WallTime::from_unix_ms(9000),
            is_first_showing: false,
        });
        let repairs: Vec<EventRepair> = messy.tidy().into_iter().map(|(_, repair)| repair).collect();
        assert_eq!(times(&messy), [(0, 200), (200, 300), (300, 500), (600, 600 + day)]);
        use EventRepair::{Empty, Endless, NoProgramme, Overlaps, TooLong, Twice};
        assert_eq!(repairs, [NoProgramme, Twice, Overlaps, Endless, TooLong, Empty]);
        assert_eq!(messy.tidy(), []);
        // The last one has no end, and nothing follows: nothing can be said of it.
        let mut endless = guide(&[(0, -1)]);
        assert_eq!(endless.tidy(), [("s".to_owned(), Endless)]);
        assert!(endless.schedules.is_empty());
        // One of no time begins with another, which is shown.
        let mut of_no_time = guide(&[(0, 0), (0, 100), (100, 100)]);
        assert_eq!(of_no_time.tidy().into_iter().map(|it| it.1).collect::<Vec<_>>(), [Twice, Empty]);
        assert_eq!(times(&of_no_time), [(0, 100)]);
    }

    #[test]
    fn now_next_and_windows() {
        let mut guide = guide(&[(0, 100), (100, 200), (300, 400)]);
        guide.tidy();
        let at = |s: i64| {
            let (now, next) = guide.now_next("s", WallTime::from_unix_ms(s * 1000));
            (now.map(|it| it.start.unix_ms() / 1000), next.map(|it| it.start.unix_ms() / 1000))
        };
        assert_eq!(at(-1), (None, Some(0)));
        assert_eq!(at(0), (Some(0), Some(100)));
        assert_eq!(at(199), (Some(100), Some(300)));
        assert_eq!(at(250), (None, Some(300)));
        assert_eq!(at(400), (None, None));
        let between = |from: i64, to: i64| {
            guide.between("s", WallTime::from_unix_ms(from * 1000), WallTime::from_unix_ms(to * 1000)).len()
        };
        assert_eq!((between(50, 150), between(200, 300), between(400, 0), between(0, 1000)), (2, 0, 0, 3));
        assert_eq!(guide.now_next("other", WallTime::from_unix_ms(0)), (None, None));
    }

    #[test]
    fn a_language_is_chosen_by_its_tag_then_by_its_primary_subtag() {
        let texts = [Text::new("en", "colour"), Text::new("de", "Farbe")];
        let choose = |language: &str| Text::choose(&texts, language).unwrap().text.as_str();
        assert_eq!(
            (choose("de"), choose("de-AT"), choose("fr"), choose("EN")),
            ("Farbe", "Farbe", "colour", "colour")
        );
        assert!(Text::choose(&[], "en").is_none());
    }
}
