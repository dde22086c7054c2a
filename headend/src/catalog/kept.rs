//! Last good programme guides, and the parts of them that outlive a worse one.
//!
//! A failing grabber writes a file that is empty or truncated, has other channels, or is missing. A good guide stays in use
//! even then, until its last event is over; so does the schedule of a single channel that the new file lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use carousel::dvbi::guide::Guide;
use carousel::time::WallTime;

use super::guide::{GuideError, GuideResult};
use super::{Stamp, stamp};
use crate::package::Problem;

/// A guide file as it was last read.
#[derive(Debug, Default)]
pub(super) struct LastGuide {
    stamp: Stamp,
    /// Guide that goes on the air.
    pub(super) guide: Guide,
    /// Problems of the file as it is now.
    pub(super) problems: Vec<Problem>,
    faults: u64,
}

/// The guide files of the configuration.
#[derive(Debug, Default)]
pub(super) struct Guides(BTreeMap<PathBuf, LastGuide>);

/// Reader of a guide file.
type Reading<'a> = dyn Fn(&Path) -> Result<GuideResult, GuideError> + 'a;

impl Guides {
    /// Reads the files that have changed; gives how many faults all of them have.
    pub(super) fn refresh(&mut self, paths: &[PathBuf], now: WallTime, read: &Reading<'_>) -> u64 {
        self.0.retain(|path, _| paths.contains(path));
        for path in paths {
            let stamp = stamp(path);
            match self.0.get_mut(path) {
                Some(known) if known.stamp == stamp => {}
                before => {
                    let before = before.map(std::mem::take).unwrap_or_default();
                    let known = LastGuide { stamp, ..before.replaced_by(path, read(path), now) };
                    self.0.insert(path.clone(), known);
                }
            }
        }
        self.0.values().map(|known| known.faults).sum()
    }

    /// Every file in the order of their names.
    pub(super) fn all(&self) -> impl Iterator<Item = &LastGuide> {
        self.0.values()
    }
}

impl LastGuide {
    /// Guide that stays, or that comes in its place.
    fn replaced_by(self, path: &Path, read: Result<GuideResult, GuideError>, now: WallTime) -> Self {
        let last = last_end(&self.guide, now);
        let stays = |last: WallTime| {
            format!("the guide that was read before stays on the air until {}", last.to_xml())
        };
        let mut read = match (read, last) {
            (Ok(read), Some(last)) if read.is_cut => {
                return self.stay(read.problems, read.faults, path, stays(last));
            }
            (Ok(read), _) => read,
            (Err(err), last) => {
                let problem = Problem {
                    place: "guide".to_owned(),
                    what: err.to_string(),
                    fix: "without it the catalogue has no guide, unless one was read before",
                };
                return match last {
                    Some(last) => self.stay(vec![problem], 1, path, stays(last)),
                    None => Self { problems: vec![problem], faults: 1, ..Self::default() },
                };
            }
        };
        let lacks = |service: &String| last_end_of(&read.guide, service, now).is_none();
        let services: Vec<String> = self.guide.schedules.keys().filter(|it| lacks(it)).cloned().collect();
        for service in services {
            let Some(last) = last_end_of(&self.guide, &service, now) else { continue };
            read.faults += 1;
            read.problems.push(Problem {
                place: path.display().to_string(),
                what: format!("no programme of service {service:?} any more: {}", stays(last)),
                fix: "see why the grabber has lost the channel; without it in the configuration its guide goes at once",
            });
            read.guide.schedules.remove(&service);
            read.guide.merge(only(&self.guide, &service));
        }
        Self { stamp: None, guide: read.guide, problems: read.problems, faults: read.faults }
    }

    /// The previous guide, with the problems of the new one.
    fn stay(mut self, problems: Vec<Problem>, faults: u64, path: &Path, what: String) -> Self {
        self.problems = problems;
        self.problems.push(Problem {
            place: path.display().to_string(),
            what,
            fix: "it is read again when it changes",
        });
        self.faults = faults.max(1);
        self
    }
}

/// End of the last event that is not over.
fn last_end(guide: &Guide, now: WallTime) -> Option<WallTime> {
    guide.schedules.keys().filter_map(|service| last_end_of(guide, service, now)).max()
}

fn last_end_of(guide: &Guide, service: &str, now: WallTime) -> Option<WallTime> {
    guide.schedules.get(service)?.iter().map(|event| event.end).filter(|end| *end > now).max()
}

/// The schedule of one service, and what its events refer to.
fn only(guide: &Guide, service: &str) -> Guide {
    let events = guide.schedules.get(service).cloned().unwrap_or_default();
    let shown: BTreeSet<&String> = events.iter().map(|event| &event.programme).collect();
    let mut out = Guide::default();
    for crid in shown {
        let Some(programme) = guide.programmes.get(crid) else { continue };
        if let Some(part) = &programme.part_of
            && let Some(group) = guide.groups.get(&part.group)
        {
            out.groups.insert(part.group.clone(), group.clone());
        }
        out.programmes.insert(crid.clone(), programme.clone());
    }
    out.schedules.insert(service.to_owned(), events);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::guide;

    fn at(hour: i64) -> WallTime {
        WallTime::from_xml("2026-11-21T00:00:00Z").unwrap().plus_ms(hour * 3_600_000)
    }

    struct Fixture {
        folder: tempfile::TempDir,
        guides: Guides,
        writes: u64,
    }

    impl Fixture {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), guides: Guides::default(), writes: 0 }
        }

        /// Writes the file, refreshes at an hour, and gives the titles of each service with the number of faults.
        fn write(&mut self, text: &str, hour: i64) -> (Vec<String>, u64) {
            let path = self.folder.path().join("g.xml");
            // Another length each time, since clocks of file systems are coarse.
            self.writes += 1;
            let text = if text.is_empty() {
                text.to_owned()
            } else {
                format!("{}{text}", "\n".repeat(self.writes as usize))
            };
            std::fs::write(&path, text).unwrap();
            self.look(hour)
        }

        fn look(&mut self, hour: i64) -> (Vec<String>, u64) {
            let path = self.folder.path().join("g.xml");
            let service = |channel: &str| Some(channel.to_owned());
            let faults =
                self.guides.refresh(&[path], at(hour), &|path| guide::read(path, "b.example", &service));
            let rows = self.guides.all().flat_map(|known| {
                known.guide.schedules.iter().flat_map(move |(service, events)| {
                    events.iter().map(move |event| {
                        format!("{service} {}", known.guide.programmes[&event.programme].titles[0].text)
                    })
                })
            });
            (rows.collect(), faults)
        }

        fn problems(&self) -> String {
            self.guides.all().flat_map(|it| &it.problems).map(|it| format!("{it}\n")).collect()
        }
    }

    fn xml(programmes: &[(&str, u8, &str)]) -> String {
        let entries: String = programmes
            .iter()
            .map(|(channel, hour, title)| {
                format!(
                    "<programme channel='{channel}' start='20261121{hour:02}0000 Z' stop='20261121{:02}0000 Z'><title>{title}</title></programme>\n",
                    hour + 1
                )
            })
            .collect();
        format!("<tv>{entries}</tv>")
    }

    #[test]
    fn what_goes_wrong_never_ends_a_good_guide() {
        let good = xml(&[("a", 10, "first"), ("a", 11, "second"), ("b", 10, "other")]);
        let rows = ["a first", "a second", "b other"];
        let cut = &good[..good.len() / 2];
        for bad in ["", "<tv></tv>", "not a guide", cut, "<html>503</html>", "BZh9", "\u{1f}\u{8b}"] {
            let mut fixture = Fixture::new();
            assert_eq!(fixture.write(&good, 9), (rows.map(str::to_owned).to_vec(), 0));
            let (left, faults) = fixture.write(bad, 9);
            assert_eq!(left, rows, "{bad:?}");
            assert!(
                faults > 0 && fixture.problems().contains("until 2026-11-21T1"),
                "{bad:?}: {}",
                fixture.problems()
            );
            // It says so again, and reads nothing again.
            assert_eq!(fixture.look(9), (left, faults));
            let next = xml(&[("a", 12, "next"), ("b", 12, "too")]);
            assert_eq!(fixture.write(&next, 10), (vec!["a next".to_owned(), "b too".to_owned()], 0));
        }
        let mut fixture = Fixture::new();
        fixture.write(&good, 9);
        std::fs::remove_file(fixture.folder.path().join("g.xml")).unwrap();
        assert_eq!(fixture.look(9).0, rows);
    }

    #[test]
    fn a_channel_that_falls_to_nothing_stays_until_its_last_event_is_over() {
        let mut fixture = Fixture::new();
        fixture.write(&xml(&[("a", 10, "first"), ("b", 10, "other"), ("b", 15, "late")]), 9);
        let without = xml(&[("a", 10, "first"), ("a", 11, "second")]);
        let (rows, faults) = fixture.write(&without, 9);
        assert_eq!((rows.join(", ").as_str(), faults), ("a first, a second, b other, b late", 1));
        assert!(
            fixture.problems().contains("\"b\"") && fixture.problems().contains("T16:00"),
            "{}",
            fixture.problems()
        );
        // Renamed: the new one comes beside it.
        let (rows, _) = fixture.write(&xml(&[("a", 10, "first"), ("b2", 10, "other")]), 9);
        assert!(rows.contains(&"b late".to_owned()) && rows.contains(&"b2 other".to_owned()), "{rows:?}");
        // Over: nothing is left to stay.
        let (rows, faults) = fixture.write(&without, 17);
        assert_eq!((rows.join(", ").as_str(), faults), ("a first, a second", 0));
    }

    #[test]
    fn without_one_before_half_is_better_than_none() {
        let mut fixture = Fixture::new();
        let good = xml(&[("a", 10, "first"), ("a", 11, "second")]);
        let (rows, faults) = fixture.write(&good[..good.len() - 20], 9);
        assert_eq!(rows, ["a first"]);
        assert!(faults > 0);
        assert_eq!(fixture.write("", 9).0, ["a first"]);
    }
}
