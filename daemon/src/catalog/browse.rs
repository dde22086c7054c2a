//! The page's guide and search: programmes of many channels in a span of time, and programmes by name.

use carousel::dvbi::guide::Guide;
use carousel::name::ObjectKey;
use carousel::time::WallTime;
use serde_json::{Value, json};

use super::Snapshot;
use super::titles::{Title, event_json, language_of};

carousel::limits! {
    /// Programmes of one channel in an answer.
    const MAX_EVENTS: usize = 200, "programmes" {
        why: "A day has some 50; more of them are shorter than a remote control can select.",
        full: "The later ones are left out.",
        free: "Holds for one answer.",
        test: "answers_have_a_bounded_number_of_programmes",
    }

    /// Programmes in the answer to a search.
    const MAX_FOUND: usize = 60, "programmes" {
        why: "A television shows some ten at a time, and the answer says how many there are.",
        full: "The later ones are left out.",
        free: "Holds for one answer.",
        test: "answers_have_a_bounded_number_of_programmes",
    }
}

impl Snapshot {
    /// A page of the channels, and what each shows between two times.
    pub fn guide_json(
        &self,
        offset: usize,
        limit: usize,
        (from, to): (WallTime, WallTime),
        shows: impl Fn(&ObjectKey) -> bool,
    ) -> Value {
        let channels = self.titles.iter().filter(|it| it.is_broadcast());
        let total = channels.clone().count();
        let rows = channels.skip(offset).take(limit).map(|title| {
            let events = self.guide.between(title.guide_id(), from, to).iter().take(MAX_EVENTS);
            let events = events.map(|it| event_json(&self.guide, it, language_of(title), &shows));
            let mut row = title.head_json(&shows);
            row["events"] = events.collect();
            row
        });
        json!({
            "schema": 1, "version": self.version, "total": total, "offset": offset,
            "channels": rows.collect::<Vec<_>>(),
        })
    }

    /// Programmes that are on or coming, with `text` (in lower case) in a title, in the order in which they begin.
    pub fn programmes_json(
        &self,
        text: &str,
        (from, to): (WallTime, WallTime),
        shows: impl Fn(&ObjectKey) -> bool,
    ) -> Value {
        let mut found: Vec<(&Title, &carousel::dvbi::guide::Event)> = Vec::new();
        let named = matching(&self.guide, text);
        if !named.is_empty() {
            for title in self.titles.iter().filter(|it| it.is_broadcast()) {
                let events = self.guide.between(title.guide_id(), from, to).iter();
                found.extend(events.filter(|it| named.contains(it.programme.as_str())).map(|it| (title, it)));
            }
        }
        found.sort_by_key(|(_, event)| event.start);
        let total = found.len();
        let programmes: Vec<Value> = found
            .into_iter()
            .take(MAX_FOUND)
            .map(|(title, event)| {
                json!({
                    "channel": title.head_json(&shows),
                    "event": event_json(&self.guide, event, language_of(title), &shows),
                })
            })
            .collect();
        json!({ "schema": 1, "version": self.version, "total": total, "programmes": programmes })
    }
}

/// Programmes with `text` in a title or an episode's title.
fn matching<'a>(guide: &'a Guide, text: &str) -> std::collections::HashSet<&'a str> {
    let programmes = guide.programmes.iter();
    let is_named = |it: &carousel::dvbi::guide::Programme| {
        it.titles.iter().chain(&it.episode_titles).any(|title| title.text.to_lowercase().contains(text))
    };
    programmes.filter(|(_, it)| is_named(it)).map(|(crid, _)| crid.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_a_bounded_number_of_programmes() {
        use std::collections::{BTreeMap, BTreeSet};

        use carousel::dvbi::guide::{Event, Programme};
        use carousel::dvbi::list::{Service, ServiceKind};
        use carousel::dvbi::{ServiceList, Text};

        let minute = |number: usize| WallTime::from_unix_ms(number as i64 * 60_000);
        let service = Service {
            id: "tag:example.com,2026:1".into(),
            kind: ServiceKind::Linear,
            guide_service: Some("one".into()),
            ..Service::default()
        };
        let list = ServiceList { services: vec![service], ..ServiceList::default() };
        let mut guide = Guide::default();
        let crid = "crid://example.com/1".to_owned();
        let titles = vec![Text::new("en", "Always on")];
        guide
            .programmes
            .insert(crid.clone(), Programme { crid: crid.clone(), titles, ..Programme::default() });
        let event = |number: usize| Event {
            programme: crid.clone(),
            start: minute(number),
            end: minute(number + 1),
            is_first_showing: false,
        };
        guide.schedules.insert("one".into(), (0..=MAX_EVENTS).map(event).collect());
        let key = ObjectKey::from_name("h/list.xml", None).unwrap();
        let lists = vec![super::super::List { key, list }];
        let titles = super::super::titles::titles(&lists, &guide, &BTreeSet::new(), &BTreeMap::new());
        let snapshot = Snapshot { titles, guide, ..Snapshot::default() };
        let span = (minute(0), minute(MAX_EVENTS + 1));
        let channels = snapshot.guide_json(0, 10, span, |_| false);
        assert_eq!(channels["channels"][0]["events"].as_array().unwrap().len(), MAX_EVENTS);
        let found = snapshot.programmes_json("always", span, |_| false);
        assert_eq!(found["programmes"].as_array().unwrap().len(), MAX_FOUND);
        assert_eq!(found["total"], MAX_EVENTS + 1, "all are counted");
        let fewer = snapshot.programmes_json("always", (minute(0), minute(MAX_FOUND)), |_| false);
        assert_eq!(fewer["programmes"].as_array().unwrap().len(), MAX_FOUND);
    }
}
