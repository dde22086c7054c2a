//! Reception of each live service: state, age of the newest segment, latency, segments that came after their playlist, after their
//! deadline, or by repair.
//!
//! Pure: arrivals, lists of manifests, and time are arguments. [`LiveServices::handle_timeout`] checks deadlines once a second
//! and returns the changes of state.
//!
//! | state | when |
//! |---|---|
//! | `idle` | its groups are not joined, and nothing has come from an origin lately |
//! | `joining` | its groups are joined, and nothing has come since, for at most [`JOINING`] |
//! | `live` | the carousel has brought a segment within three target durations |
//! | `origin` | it has not, and an origin has brought a manifest or segment within three target durations |
//! | `stalled` | neither has |

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use carousel::name::ObjectKey;
use carousel::time::{Instant, WallTime};

use crate::bounded::BoundedMap;

carousel::limits! {
    /// Live services whose reception is tracked.
    const MAX_LIVE_SERVICES: usize = 256, "services" {
        why: "A multiplex has thirty; of services that no document announces each folder of playlists is one. Each takes up to 16 KB.",
        full: "The service that was first seen longest ago makes room; its counters begin at 0 when it comes again.",
        free: "When a service makes room, or nothing has come of it for an hour.",
        test: "services_make_room_and_are_forgotten",
    }

    /// Segments of one service that a playlist lists and that have not come.
    const MAX_AWAITED: usize = 128, "segments" {
        why: "Ten renditions have eighty among their last eight segments.",
        full: "Further ones are not watched: neither their delay nor their absence is counted.",
        free: "When the segment comes, or three target durations after a playlist has listed it last.",
        test: "services_make_room_and_are_forgotten",
    }
}

/// Time after joining its groups within which a service is expected to deliver something.
const JOINING: Duration = Duration::from_secs(10);
/// The document that names a service comes within this time after its first objects, or there is none.
const UNNAMED: Duration = Duration::from_secs(10);
/// Target durations without an object after which a source is silent.
const SILENT_TARGETS: u64 = 3;
/// Target durations after the last playlist that lists a missed segment, after which it is forgotten.
const UNLISTED_TARGETS: u32 = 3;
/// Time without an object after which a service is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(3600);

carousel::reasons! {
    /// Reception of a live service.
    pub enum LiveState {
        /// Its groups are not joined.
        Idle = "idle",
        /// Its groups have just been joined.
        Joining = "joining",
        /// The carousel brings it.
        Live = "live",
        /// An origin brings it.
        Origin = "origin",
        /// Nothing of it comes.
        Stalled = "stalled",
    }
}

/// A received object of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectSource {
    /// A segment by the carousel.
    Segment {
        /// Parts of it came from an origin.
        is_repaired: bool,
    },
    /// A manifest or segment by an origin.
    FromOrigin,
}

/// The end of a received live manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LiveEdge {
    pub(crate) target_ms: u64,
    /// The date at which the last segment that it lists ends.
    pub(crate) end_ms: Option<i64>,
}

/// One service, for status and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveReport {
    /// Its identifier; of one that no document announces the folder of its playlists.
    pub service: String,
    /// Its reception.
    pub state: LiveState,
    /// Time in this state.
    pub since: Duration,
    /// Duration of its segments.
    pub target_ms: u64,
    /// Time since its newest segment came by the carousel.
    pub segment_age: Option<Duration>,
    /// Time from the end of the newest segment in its manifests, by their own dates, to now. Negative if a clock is wrong.
    pub latency_ms: Option<i64>,
    /// Whether its manifests have dates, without which the latency is not known.
    pub is_dated: bool,
    /// Counters of segments.
    pub counts: LiveCounts,
}

/// Counters of one service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveCounts {
    /// Segments that the carousel has brought.
    pub segments: u64,
    /// Manifests and segments that origins have brought.
    pub from_origin: u64,
    /// Segments that came after a playlist had listed them.
    pub listed_early: u64,
    /// The sum of the times from their listing to their arrival.
    pub listed_early_ms: u64,
    /// Segments that had not come a target duration after they were listed.
    pub deadline_misses: u64,
    /// Segments that came in time with parts from an origin.
    pub repaired: u64,
}

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveChange {
    /// The service.
    pub service: String,
    /// Its state before.
    pub from: LiveState,
    /// Its state now.
    pub to: LiveState,
}

/// A segment that a playlist lists and that was not received yet.
#[derive(Debug)]
struct ExpectedSegment {
    key: ObjectKey,
    /// Time of its first listing, and of its last.
    listed_at: Instant,
    last_at: Instant,
    /// Its deadline has passed, and is counted.
    is_missed: bool,
}

#[derive(Debug)]
struct Service {
    first_at: Instant,
    last_at: Instant,
    state: LiveState,
    state_at: Instant,
    target_ms: u64,
    end_ms: Option<i64>,
    segment_at: Option<Instant>,
    origin_at: Option<Instant>,
    awaited: Vec<ExpectedSegment>,
    counts: LiveCounts,
}

impl Service {
    const fn new(now: Instant, target_ms: u64) -> Self {
        Self {
            first_at: now,
            last_at: now,
            state: LiveState::Idle,
            state_at: now,
            target_ms,
            end_ms: None,
            segment_at: None,
            origin_at: None,
            awaited: Vec::new(),
            counts: LiveCounts {
                segments: 0,
                from_origin: 0,
                listed_early: 0,
                listed_early_ms: 0,
                deadline_misses: 0,
                repaired: 0,
            },
        }
    }

    const fn target(&self) -> Duration {
        Duration::from_millis(self.target_ms)
    }

    /// `joined_at`: since when its groups are joined; `None`: they are not.
    fn state_at(&self, now: Instant, joined_at: Option<Instant>) -> LiveState {
        let silent = Duration::from_millis(SILENT_TARGETS * self.target_ms);
        let is_recent = |at: Option<Instant>| at.is_some_and(|at| now.since(at) <= silent);
        if is_recent(self.segment_at) {
            return LiveState::Live;
        }
        if is_recent(self.origin_at) {
            return LiveState::Origin;
        }
        let Some(joined_at) = joined_at.map(|at| at.max(self.first_at)) else { return LiveState::Idle };
        let has_come = self.segment_at.is_some_and(|at| at >= joined_at);
        if !has_come && now.since(joined_at) < JOINING { LiveState::Joining } else { LiveState::Stalled }
    }

    /// Counts deadlines that have passed, and forgets segments that playlists no longer list.
    fn check_deadlines(&mut self, now: Instant) {
        let target = self.target();
        for it in &mut self.awaited {
            if !it.is_missed && now.since(it.listed_at) > target {
                it.is_missed = true;
                self.counts.deadline_misses += 1;
            }
        }
        self.awaited.retain(|it| !it.is_missed || now.since(it.last_at) <= UNLISTED_TARGETS * target);
    }

    /// Removes a received segment. True if it was received in time.
    fn has_come(&mut self, now: Instant, key: &ObjectKey, is_carried: bool) -> bool {
        let Some(at) = self.awaited.iter().position(|it| it.key == *key) else { return true };
        let awaited = self.awaited.swap_remove(at);
        let listed_for = now.since(awaited.listed_at);
        if is_carried {
            self.counts.listed_early += 1;
            self.counts.listed_early_ms += u64::try_from(listed_for.as_millis()).unwrap_or(0);
        }
        let is_late = listed_for > self.target();
        self.counts.deadline_misses += u64::from(is_late && !awaited.is_missed);
        !is_late
    }
}

/// State and delays of each live service, by its name.
#[derive(Debug)]
pub struct LiveServices(Mutex<BoundedMap<String, Service>>);

impl Default for LiveServices {
    fn default() -> Self {
        Self(Mutex::new(BoundedMap::new(MAX_LIVE_SERVICES)))
    }
}

impl LiveServices {
    /// Records a received object of a service.
    pub(crate) fn arrived(
        &self,
        now: Instant,
        service: &str,
        target_ms: u64,
        key: &ObjectKey,
        arrival: ObjectSource,
    ) {
        self.change(now, service, target_ms, |it| match arrival {
            ObjectSource::Segment { is_repaired } => {
                it.counts.segments += 1;
                it.segment_at = Some(now);
                let is_in_time = it.has_come(now, key, true);
                it.counts.repaired += u64::from(is_repaired && is_in_time);
            }
            ObjectSource::FromOrigin => {
                it.counts.from_origin += 1;
                it.origin_at = Some(now);
                it.has_come(now, key, false);
            }
        });
    }

    /// Records a received live manifest of a service; `missing` are segments at its end that were not received.
    pub(crate) fn listed(&self, now: Instant, service: &str, edge: LiveEdge, missing: Vec<ObjectKey>) {
        self.change(now, service, edge.target_ms, |it| {
            it.target_ms = edge.target_ms;
            it.end_ms = edge.end_ms.or(it.end_ms);
            for key in missing {
                if let Some(known) = it.awaited.iter_mut().find(|it| it.key == key) {
                    known.last_at = now;
                } else if it.awaited.len() < MAX_AWAITED {
                    it.awaited.push(ExpectedSegment { key, listed_at: now, last_at: now, is_missed: false });
                }
            }
        });
    }

    /// Names of the services that the link is expected to bring: all but those of which only origins have brought anything.
    pub(crate) fn on_link(&self) -> Vec<String> {
        let services = self.lock();
        let is_on_link = |it: &Service| it.segment_at.is_some() || it.origin_at.is_none();
        services.iter().filter(|(_, it)| is_on_link(it)).map(|(name, _)| name.clone()).collect()
    }

    /// Renames a service that was known by its folder to the name that a document gives it.
    pub(crate) fn merged(&self, from: &str, into: &str) {
        let mut services = self.lock();
        if let Some(it) = services.remove(from)
            && services.get(into).is_none()
        {
            services.insert(into.to_owned(), it);
        }
    }

    fn change(&self, now: Instant, service: &str, target_ms: u64, change: impl FnOnce(&mut Service)) {
        let mut services = self.lock();
        if services.get(service).is_none() {
            services.insert(service.to_owned(), Service::new(now, target_ms));
        }
        if let Some(it) = services.get_mut(service) {
            it.last_at = now;
            change(it);
        }
    }

    /// Evaluates deadlines and states. `joined_at` gives the time since which the groups of a service are joined, `is_announced`
    /// whether a document names it: the others are known by their folders, and are reported when no document has named them for
    /// a while. Early or extra calls change nothing.
    pub fn handle_timeout(
        &self,
        now: Instant,
        joined_at: impl Fn(&str) -> Option<Instant>,
        is_announced: impl Fn(&str) -> bool,
    ) -> Vec<LiveChange> {
        let mut services = self.lock();
        services.retain(|_, it| now.since(it.last_at) < FORGOTTEN);
        let mut changes = Vec::new();
        for (name, it) in services.iter_mut() {
            it.check_deadlines(now);
            if now.since(it.first_at) < UNNAMED && !is_announced(name) {
                continue;
            }
            let state = it.state_at(now, joined_at(name));
            if state != it.state {
                changes.push(LiveChange { service: name.clone(), from: it.state, to: state });
                (it.state, it.state_at) = (state, now);
            }
        }
        changes
    }

    /// All services, by name, as they are now. `joined_at` as for [`LiveServices::handle_timeout`].
    pub fn reports(
        &self,
        now: Instant,
        wall: Option<WallTime>,
        joined_at: impl Fn(&str) -> Option<Instant>,
    ) -> Vec<LiveReport> {
        let services = self.lock();
        let mut reports: Vec<LiveReport> = services
            .iter()
            .map(|(name, it)| (name, it, it.state_at(now, joined_at(name))))
            .map(|(name, it, state)| LiveReport {
                service: name.clone(),
                state,
                // A change that was not evaluated yet counts from now.
                since: if state == it.state { now.since(it.state_at) } else { Duration::ZERO },
                target_ms: it.target_ms,
                segment_age: it.segment_at.map(|at| now.since(at)),
                latency_ms: it.end_ms.and_then(|end_ms| Some(wall?.unix_ms().saturating_sub(end_ms))),
                is_dated: it.end_ms.is_some(),
                counts: it.counts,
            })
            .collect();
        reports.sort_by(|a, b| a.service.cmp(&b.service));
        reports
    }

    fn lock(&self) -> MutexGuard<'_, BoundedMap<String, Service>> {
        // Every change leaves a service consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(0) + Duration::from_millis(ms)
    }

    fn key(number: usize) -> ObjectKey {
        ObjectKey::from_name(&format!("http://h/{number}.m4s"), None).unwrap()
    }

    const EDGE: LiveEdge = LiveEdge { target_ms: 2000, end_ms: Some(10_000) };
    const WHOLE: ObjectSource = ObjectSource::Segment { is_repaired: false };
    const REPAIRED: ObjectSource = ObjectSource::Segment { is_repaired: true };

    fn only(services: &LiveServices, now: Instant) -> LiveReport {
        let mut reports = services.reports(now, Some(WallTime::from_unix_ms(10_700)), |_| None);
        assert_eq!(reports.len(), 1);
        reports.remove(0)
    }

    #[test]
    fn states_follow_arrivals_and_each_change_is_told_once() {
        let services = LiveServices::default();
        services.listed(at(0), "a", EDGE, Vec::new());
        let mut seen = Vec::new();
        let mut look = |ms: u64, joined: Option<u64>| {
            for change in services.handle_timeout(at(ms), |_| joined.map(at), |_| true) {
                seen.push(format!("{ms} {} to {}", change.from, change.to));
            }
        };
        look(0, None);
        look(100, Some(100));
        look(200, Some(100));
        services.arrived(at(300), "a", 2000, &key(1), WHOLE);
        look(300, Some(100));
        look(6300, Some(100));
        look(6301, Some(100));
        services.arrived(at(7000), "a", 2000, &key(2), ObjectSource::FromOrigin);
        look(7000, Some(100));
        look(13_001, Some(100));
        services.arrived(at(14_000), "a", 2000, &key(3), WHOLE);
        look(14_000, Some(100));
        look(20_001, None);
        // Joined again: what came before does not count.
        look(20_100, Some(20_100));
        look(30_100, Some(20_100));
        let expected = [
            "100 idle to joining",
            "300 joining to live",
            "6301 live to stalled",
            "7000 stalled to origin",
            "13001 origin to stalled",
            "14000 stalled to live",
            "20001 live to idle",
            "20100 idle to joining",
            "30100 joining to stalled",
        ];
        assert_eq!(seen, expected);
        // Joined long before it was seen first.
        services.listed(at(50_000), "b", EDGE, Vec::new());
        let change = services.handle_timeout(at(50_000), |name| (name == "b").then_some(at(0)), |_| true);
        assert!(change.iter().any(|it| it.service == "b" && it.to == LiveState::Joining), "{change:?}");
    }

    #[test]
    fn segments_after_their_playlist_are_measured_and_those_that_do_not_come_are_missed_once() {
        let services = LiveServices::default();
        services.listed(at(0), "a", EDGE, (1..=4).map(key).collect());
        services.listed(at(100), "a", EDGE, vec![key(1)]);
        services.arrived(at(400), "a", 2000, &key(1), REPAIRED);
        services.arrived(at(500), "a", 2000, &key(4), ObjectSource::FromOrigin);
        services.arrived(at(2001), "a", 2000, &key(2), REPAIRED);
        assert_eq!(only(&services, at(2001)).counts.deadline_misses, 1, "2");
        for ms in [2001, 3000, 4000] {
            services.handle_timeout(at(ms), |_| None, |_| true);
            services.listed(at(ms), "a", EDGE, vec![key(3)]);
        }
        assert_eq!(
            only(&services, at(4000)).counts.deadline_misses,
            2,
            "3 is listed for long, and missed once"
        );
        services.arrived(at(5000), "a", 2000, &key(3), REPAIRED);
        services.arrived(at(9000), "a", 2000, &key(5), REPAIRED);
        let report = only(&services, at(9500));
        let counts = report.counts;
        assert_eq!((counts.segments, counts.from_origin), (4, 1));
        assert_eq!((counts.listed_early, counts.listed_early_ms), (3, 400 + 2001 + 5000));
        assert_eq!(counts.deadline_misses, 2);
        assert_eq!(counts.repaired, 2, "1 in time, and 5 that no playlist had listed");
        assert_eq!((report.segment_age, report.latency_ms), (Some(Duration::from_millis(500)), Some(700)));
    }

    #[test]
    fn a_report_is_of_now_and_not_of_the_last_look() {
        let services = LiveServices::default();
        services.listed(at(0), "a", LiveEdge { end_ms: None, ..EDGE }, Vec::new());
        let report = |ms: u64| {
            let wall = Some(WallTime::from_unix_ms(10_700));
            services.reports(at(ms), wall, |_| Some(at(0))).remove(0)
        };
        // It was not evaluated since it was seen first.
        assert_eq!((report(500).state, report(500).since), (LiveState::Joining, Duration::ZERO));
        services.arrived(at(600), "a", 2000, &key(1), WHOLE);
        assert_eq!(report(600).state, LiveState::Live);
        services.handle_timeout(at(1000), |_| Some(at(0)), |_| true);
        assert_eq!(report(3000).since, Duration::from_secs(2));
        assert_eq!((report(3000).latency_ms, report(3000).is_dated), (None, false));
    }

    #[test]
    fn a_folder_that_a_document_assigns_to_a_service_becomes_it() {
        let services = LiveServices::default();
        services.arrived(at(0), "h/live", 2000, &key(1), WHOLE);
        services.arrived(at(0), "h/live/v", 2000, &key(1), WHOLE);
        services.merged("h/live", "one");
        services.merged("h/live/v", "one");
        services.merged("h/other", "one");
        let report = only(&services, at(0));
        assert_eq!((report.service.as_str(), report.counts.segments), ("one", 1));
    }

    #[test]
    fn a_channel_is_told_of_by_one_name() {
        let services = LiveServices::default();
        let changes = |ms: u64| {
            let all = services.handle_timeout(at(ms), |_| Some(at(0)), |name| name == "one");
            all.into_iter().map(|it| format!("{} {}", it.service, it.to)).collect::<Vec<_>>()
        };
        // Its playlist comes before the document that names it.
        services.listed(at(0), "h/live", EDGE, Vec::new());
        assert_eq!(changes(500), [""; 0]);
        services.arrived(at(1000), "one", 2000, &key(1), WHOLE);
        services.merged("h/live", "one");
        assert_eq!(changes(1500), ["one live"]);
        // One that no document names is reported as well.
        services.listed(at(2000), "h/other", EDGE, Vec::new());
        services.arrived(at(11_500), "h/other", 2000, &key(2), WHOLE);
        assert_eq!(changes(11_999), ["one stalled"]);
        assert_eq!(changes(12_000), ["h/other live"]);
    }

    #[test]
    fn services_make_room_and_are_forgotten() {
        let services = LiveServices::default();
        for number in 0..2 * MAX_LIVE_SERVICES {
            services.listed(at(0), &number.to_string(), EDGE, (0..2 * MAX_AWAITED).map(key).collect());
        }
        assert_eq!(services.reports(at(0), None, |_| None).len(), MAX_LIVE_SERVICES);
        services.handle_timeout(at(2001), |_| None, |_| true);
        let reports = services.reports(at(2001), None, |_| None);
        let misses: Vec<u64> = reports.iter().map(|it| it.counts.deadline_misses).collect();
        assert!(misses.iter().all(|it| *it == MAX_AWAITED as u64), "{misses:?}");
        let awaited = || services.lock().iter().map(|(_, it)| it.awaited.len()).sum::<usize>();
        services.handle_timeout(at(6001), |_| None, |_| true);
        assert_eq!(awaited(), 0, "playlists have ceased to list them");
        services.listed(at(7000), "511", EDGE, vec![key(0)]);
        assert_eq!(awaited(), 1);
        services.arrived(at(1_800_000), "new", 2000, &key(0), ObjectSource::FromOrigin);
        services.handle_timeout(at(3_600_000), |_| None, |_| true);
        assert_eq!(services.reports(at(3_600_000), None, |_| None).len(), 2);
    }
}
