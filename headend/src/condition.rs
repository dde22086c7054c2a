//! Condition of a followed source, as operators see it: in the log, `headend status` and `/metrics`.

use std::fmt::Write as _;

use crate::options::Source;
use crate::package::{Inventory, Rung};
use crate::units::counted;

/// Target durations without a new segment after which a live source counts as stalled.
const STALLED_SEGMENTS: f64 = 3.0;
/// Its minimum: file systems without events report a file some seconds after it was closed.
const STALLED_FROM_NS: u64 = 6_000_000_000;

/// Condition of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    /// It can be read; if it is live, new segments come.
    #[default]
    Available,
    /// Its folder is missing, or has nothing to carry. The text is the reason.
    Away(String),
    /// It is live, and no new segment has come for some target durations. The text has the time and the fix.
    Stalled(String),
    /// It was live, and its manifests say that the presentation is over: receivers take it for a film. The text has the fix.
    Ended(String),
}

impl Condition {
    /// Names of all conditions.
    pub const NAMES: [&'static str; 4] = ["available", "away", "stalled", "ended"];

    /// Condition of a source as it was first read.
    pub fn at_start(inventory: &Inventory) -> Self {
        if !inventory.objects.is_empty() {
            return Self::Available;
        }
        let why = inventory.problems.first().map_or("nothing to carry", |problem| &problem.what);
        Self::Away(first_line(why))
    }

    /// Name in `headend status` and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Away(_) => "away",
            Self::Stalled(_) => "stalled",
            Self::Ended(_) => "ended",
        }
    }

    /// The reason, if there is one.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Available => None,
            Self::Away(why) | Self::Stalled(why) | Self::Ended(why) => Some(why),
        }
    }

    /// A line for the log, about a change from the condition `before`.
    pub(crate) fn to_line(&self, before: &Self, source: &Source, objects: usize) -> String {
        let name = &source.name;
        match self {
            Self::Available if matches!(before, Self::Stalled(_) | Self::Ended(_)) => {
                format!("live source {name}: new segments come again")
            }
            Self::Available => format!("source {name} is available: {}", counted(objects, "object")),
            Self::Away(why) => format!(
                "source {name} is away: {why}. Its media leave the air as their turns come; they are sent again when it is back"
            ),
            Self::Stalled(why) | Self::Ended(why) => format!("live source {name}: {why}"),
        }
    }
}

/// Text of an error without the list that follows its first line.
pub(crate) fn first_line(why: &str) -> String {
    why.lines().next().unwrap_or_default().trim_end_matches(':').to_owned()
}

/// Meaning of the end of a live presentation.
pub(crate) const ENDED: &str = "its packager has ended it (EXT-X-ENDLIST, or an MPD of type static): players take it for a film now, and \
                                nothing new comes; start the packager again, or remove the source";

/// Arrival of a live source's segments.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// Time of the newest one, or of the first look.
    newest_ns: Option<u64>,
}

impl Arrivals {
    /// Notes a new segment.
    pub(crate) const fn note(&mut self, now_ns: u64) {
        self.newest_ns = Some(now_ns);
    }

    /// Why the source counts as stalled at `now_ns`, if it does.
    pub(crate) fn stalled(&mut self, source: &Source, inventory: &Inventory, now_ns: u64) -> Option<String> {
        let newest_ns = *self.newest_ns.get_or_insert(now_ns);
        let without_media = inventory.without_media();
        if source.reserved_bps.is_none() || !(inventory.is_live() || without_media.is_some()) {
            return None;
        }
        let segment_ms = inventory.live_rungs().map(Rung::segment_ms).fold(0.0, f64::max);
        let silence_ns = now_ns.saturating_sub(newest_ns);
        if silence_ns < STALLED_FROM_NS.max((segment_ms * STALLED_SEGMENTS * 1e6) as u64) {
            return None;
        }
        let silence_s = silence_ns / 1_000_000_000;
        let mut why = match without_media {
            Some((what, fix)) => format!("{what}, for {silence_s} s; {fix}"),
            None => format!("no new segment for {silence_s} s; look whether its packager runs"),
        };
        if segment_ms > 0.0 {
            let _ = write!(why, " (a segment has {:.1} s)", segment_ms / 1000.0);
        }
        Some(why)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    #[test]
    fn a_line_names_the_source_what_has_changed_and_why() {
        let text = "link.rate_bps = 8_000_000\n[[source]]\npath = '/v/film'\nbase = 'http://h/v/'\n";
        let config = Config::parse(text, Path::new("/")).unwrap();
        let line = |before: &Condition, now: &Condition| now.to_line(before, &config.sources[0], 3);
        let (away, stalled) =
            (Condition::Away("/v: gone".into()), Condition::Stalled("no new segment".into()));
        assert!(line(&Condition::Available, &away).starts_with("source film is away: /v: gone. "));
        assert_eq!(line(&away, &Condition::Available), "source film is available: 3 objects");
        assert_eq!(line(&Condition::Available, &stalled), "live source film: no new segment");
        assert_eq!(line(&stalled, &Condition::Available), "live source film: new segments come again");
        let ended = Condition::Ended(ENDED.to_owned());
        assert!(
            line(&Condition::Available, &ended).starts_with("live source film: its packager has ended it")
        );
        assert_eq!(line(&ended, &Condition::Available), "live source film: new segments come again");
        let all = [Condition::Available, away, stalled, ended];
        assert_eq!(all.each_ref().map(Condition::as_str), Condition::NAMES);
    }
}
