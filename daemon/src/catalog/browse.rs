//! The page's guide and search: programmes of many channels in a span of time, and programmes by name.

use carousel::dvbi::guide::Guide;
use carousel::name::ObjectKey;
use carousel::time::WallTime;
use serde_json::{Value, json};

use super::Snapshot;
use super::titles::{Title, event_json, language_of};

/// Programmes of one channel in an answer; more are shorter than a remote control can select.
const MAX_EVENTS: usize = 200;
/// Programmes that a search answers.
const MAX_FOUND: usize = 60;

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
