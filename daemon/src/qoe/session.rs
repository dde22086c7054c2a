//! Startup and stalls of a playback session, derived from its reports. No clock: times are arguments.
//!
//! | basis | startup | stalls |
//! |---|---|---|
//! | `reported` | `msd` | `bsd`: one for each duration |
//! | `states` | from `sta=s` (starting), or the first report, to `sta=p` (playing) | from `sta=r` (rebuffering) to the next other state |
//! | `flags` | from the first report to the first one without `su` | one for each `bs`; from it to the first report without `su` |
//!
//! The player's own figures take precedence. States are version 2's; version 1 has only flags, whose times are those of the
//! requests, so that durations are estimates.
//!
//! A player may report to this box twice, with its requests and by events. As soon as a session has sent an event, only its events
//! are counted. A repeated report (`sn`) is not counted again.

use crate::bounded::BoundedMap;

use super::cmcd::Report;

carousel::limits! {
    /// Sessions that are followed at a time.
    pub(super) const MAX_SESSIONS: usize = 100_000, "sessions" {
        why: "Each takes some 200 bytes; a PoP of 100 Gbit/s has about 20,000 viewers at a time.",
        full: "The session that began first is forgotten: its next report begins it again.",
        free: "A session is forgotten ten minutes after its last report.",
        test: "sessions_that_are_silent_are_forgotten_and_there_are_only_so_many",
    }
}

/// Time without a report after which a session is over.
const IDLE_MS: i64 = 600_000;
/// Interval at which such sessions are removed.
const SWEEP_MS: i64 = 60_000;
/// Longest stall or start that is a measurement: in a longer one the device slept, or its clock was set.
const MAX_SPAN_MS: i64 = 3_600_000;

/// Transport of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// With a request for an object.
    Request,
    /// By a POST of its own.
    Event,
}

impl Mode {
    /// Name in rows.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Event => "event",
        }
    }
}

/// Facts that one report adds to its session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Derived {
    /// Time from the wish to play to the first picture, once in a session.
    pub(super) startup_ms: Option<u32>,
    /// Begun stalls.
    pub(super) stall_count: u32,
    /// Time of ended stalls.
    pub(super) stall_ms: u32,
    /// Source of the facts; empty: nothing was added.
    pub(super) basis: &'static str,
    /// The report is a repeat.
    pub(super) is_repeat: bool,
}

#[derive(Debug)]
struct Session {
    heard_ms: i64,
    mode: Mode,
    /// Time of the wish to play; `None` if it has begun, or the time is not known.
    starts_at_ms: Option<i64>,
    has_started: bool,
    /// It sends states, so that flags do not count.
    has_states: bool,
    /// It sends durations of stalls.
    has_durations: bool,
    stalled_at_ms: Option<i64>,
    /// Highest `sn` of each mode, and which of the 64 up to it were received.
    seen: [(u64, u64); 2],
}

/// All sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    all: BoundedMap<String, Session>,
    swept_ms: i64,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { all: BoundedMap::new(MAX_SESSIONS), swept_ms: 0 }
    }
}

impl Sessions {
    /// Sessions now.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Handles a report of the session `id` about `at_ms`, in milliseconds since 1970.
    pub(super) fn take(&mut self, id: &str, report: &Report, mode: Mode, at_ms: i64, now_ms: i64) -> Derived {
        if now_ms.saturating_sub(self.swept_ms) >= SWEEP_MS {
            self.swept_ms = now_ms;
            self.all.retain(|_, it| now_ms.saturating_sub(it.heard_ms) < IDLE_MS);
        }
        if self.all.get(id).is_none() {
            self.all.insert(id.to_owned(), Session::new(mode, at_ms, now_ms));
        }
        let Some(session) = self.all.get_mut(id) else { return Derived::default() };
        session.heard_ms = now_ms;
        session.take(report, mode, at_ms)
    }
}

impl Session {
    const fn new(mode: Mode, at_ms: i64, now_ms: i64) -> Self {
        Self {
            heard_ms: now_ms,
            mode,
            starts_at_ms: Some(at_ms),
            has_started: false,
            has_states: false,
            has_durations: false,
            stalled_at_ms: None,
            seen: [(0, 0); 2],
        }
    }

    fn take(&mut self, report: &Report, mode: Mode, at_ms: i64) -> Derived {
        let number = report.number("sn").filter(|it| *it >= 0.0).map(|it| it as u64);
        if number.is_some_and(|number| is_seen(&mut self.seen[mode as usize], number)) {
            return Derived { is_repeat: true, ..Derived::default() };
        }
        if mode < self.mode {
            return Derived::default();
        }
        self.mode = mode;
        let mut derived = Derived::default();
        self.start(report, at_ms, &mut derived);
        self.stall(report, at_ms, &mut derived);
        derived
    }

    fn start(&mut self, report: &Report, at_ms: i64, derived: &mut Derived) {
        let state = report.text("sta");
        self.has_states |= state.is_some();
        if self.has_started {
            return;
        }
        let since = |start: Option<i64>| start.and_then(|start| span(start, at_ms));
        let (startup_ms, basis) = match (report.number("msd"), state.as_deref()) {
            (Some(delay), _) => (Some(whole(delay)), "reported"),
            (None, Some("p")) => (since(self.starts_at_ms), "states"),
            (None, Some("s")) => {
                self.starts_at_ms = Some(at_ms);
                return;
            }
            (None, Some(_)) => return,
            (None, None) if self.has_states || report.flag("su") => return,
            // The first report of a session that already plays says nothing about its start.
            (None, None) => (since(self.starts_at_ms).filter(|it| *it > 0), "flags"),
        };
        self.has_started = true;
        self.starts_at_ms = None;
        if startup_ms.is_some() {
            (derived.startup_ms, derived.basis) = (startup_ms, basis);
        }
    }

    fn stall(&mut self, report: &Report, at_ms: i64, derived: &mut Derived) {
        let (durations, sum) = report
            .numbers("bsd")
            .fold((0_u32, 0_u32), |(count, sum), ms| (count + 1, sum.saturating_add(whole(ms))));
        self.has_durations |= durations > 0;
        let state = report.text("sta");
        let is_stalled = match state.as_deref() {
            Some(state) => state == "r",
            None if self.has_states => self.stalled_at_ms.is_some(),
            None => report.flag("su") && (self.stalled_at_ms.is_some() || report.flag("bs")),
        };
        let basis = if self.has_states { "states" } else { "flags" };
        let begins = match self.has_states {
            true => is_stalled && self.stalled_at_ms.is_none(),
            // During a start an empty buffer is normal.
            false => report.flag("bs") && self.has_started,
        };
        if self.has_durations {
            // Players report durations at the end of a stall; if they do, nothing else is measured.
            (derived.stall_count, derived.stall_ms) = (durations, sum);
            if durations > 0 {
                derived.basis = "reported";
            }
            self.stalled_at_ms = None;
            return;
        }
        if let Some(start) = self.stalled_at_ms
            && !is_stalled
        {
            derived.stall_ms = span(start, at_ms).unwrap_or(0);
            derived.basis = basis;
            self.stalled_at_ms = None;
        }
        if begins {
            derived.stall_count = 1;
            derived.basis = basis;
            self.stalled_at_ms = is_stalled.then(|| self.stalled_at_ms.unwrap_or(at_ms));
        }
    }
}

/// Records a number of a sequence. True if it was recorded before. A number older than the last 64 begins a new sequence.
fn is_seen((highest, window): &mut (u64, u64), number: u64) -> bool {
    if *window == 0 || number > *highest {
        let by = number.saturating_sub(*highest);
        *window = if *window == 0 || by >= 64 { 1 } else { *window << by | 1 };
        *highest = number;
        return false;
    }
    let back = *highest - number;
    if back >= 64 {
        (*highest, *window) = (number, 1);
        return false;
    }
    let is_there = *window >> back & 1 == 1;
    *window |= 1 << back;
    is_there
}

fn span(from_ms: i64, to_ms: i64) -> Option<u32> {
    let span_ms = to_ms.saturating_sub(from_ms);
    (0..=MAX_SPAN_MS).contains(&span_ms).then(|| u32::try_from(span_ms).unwrap_or(u32::MAX))
}

/// A number of a report as an integer of a row: rounded, and within its range.
pub(super) fn whole(number: f64) -> u32 {
    number.round().clamp(0.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports of one session at these times.
    fn derive(mode: Mode, reports: &[(i64, &str)]) -> Vec<Derived> {
        let mut sessions = Sessions::default();
        reports.iter().map(|(at, text)| sessions.take("a", &Report::read(text), mode, *at, *at)).collect()
    }

    /// Startup, stalls and their time.
    fn sums(all: &[Derived]) -> (Option<u32>, u32, u32) {
        let startup = all.iter().filter_map(|it| it.startup_ms).sum::<u32>();
        let has_startup = all.iter().any(|it| it.startup_ms.is_some());
        let (count, ms) = (all.iter().map(|it| it.stall_count).sum(), all.iter().map(|it| it.stall_ms).sum());
        (has_startup.then_some(startup), count, ms)
    }

    #[test]
    fn states_tell_of_startup_and_stalls() {
        let all = derive(
            Mode::Event,
            &[
                (1000, "e=ps,sta=s"),
                (2500, "e=ps,sta=p"),
                (9000, "e=ps,sta=r"),
                (9100, "e=t"),
                (9700, "e=ps,sta=p"),
                (20_000, "e=ps,sta=a"),
                (30_000, "e=ps,sta=p"),
            ],
        );
        assert_eq!(sums(&all), (Some(1500), 1, 700));
        assert_eq!(
            (all[1].basis, all[2].basis, all[4].basis, all[6].basis),
            ("states", "states", "states", "")
        );
    }

    #[test]
    fn what_the_player_reports_itself_counts() {
        let all = derive(
            Mode::Event,
            &[
                (1000, "e=ps,sta=s"),
                (2500, "e=ps,sta=p,msd=1480"),
                (9000, "e=ps,sta=p,bsd=(120 80)"),
                (9900, "e=t,sta=p,msd=1480"),
            ],
        );
        assert_eq!((sums(&all), all[2].basis), ((Some(1480), 2, 200), "reported"));
    }

    #[test]
    fn flags_of_version_1_are_estimates() {
        let all = derive(
            Mode::Request,
            &[
                (0, "su,bs"),
                (400, "su"),
                (900, "bl=4000"),
                (5000, "bs,su"),
                (5600, "su"),
                (6200, "bl=2000"),
                (9000, "bs"),
            ],
        );
        assert_eq!(sums(&all), (Some(900), 2, 1200));
        // The start of a session that already plays is not known.
        assert_eq!(sums(&derive(Mode::Request, &[(0, "bl=4000"), (10, "bl=5000")])), (None, 0, 0));
    }

    #[test]
    fn who_reports_twice_is_counted_once() {
        let mut sessions = Sessions::default();
        let mut take = |text, mode, at| sessions.take("a", &Report::read(text), mode, at, at);
        take("sta=s,sn=1", Mode::Request, 0);
        take("e=ps,sta=s,sn=1", Mode::Event, 10);
        assert_eq!(take("e=ps,sta=p,sn=2", Mode::Event, 510).startup_ms, Some(500));
        assert_eq!(take("e=ps,sta=r,sn=3", Mode::Event, 900).stall_count, 1);
        assert_eq!(take("sta=r,bsd=(5),sn=2", Mode::Request, 950), Derived::default());
        assert!(take("e=ps,sta=r,sn=3", Mode::Event, 900).is_repeat);
        assert!(take("e=ps,sta=s,sn=1", Mode::Event, 10).is_repeat, "out of order is not out of mind");
        assert!(!take("e=ps,sta=p,sn=4", Mode::Event, 1000).is_repeat);
    }

    #[test]
    fn spans_that_are_none_are_not_counted() {
        // A clock that goes back, and a device that slept.
        assert_eq!(sums(&derive(Mode::Event, &[(5000, "sta=s"), (4000, "sta=p")])), (None, 0, 0));
        let slept = [(0, "sta=p"), (1000, "sta=r"), (1000 + MAX_SPAN_MS + 1, "sta=p")];
        assert_eq!(sums(&derive(Mode::Event, &slept)).2, 0);
        assert_eq!((whole(-5.0), whole(1e30), whole(2.5)), (0, u32::MAX, 3));
    }

    #[test]
    fn sessions_that_are_silent_are_forgotten_and_there_are_only_so_many() {
        let mut sessions = Sessions::default();
        let report = Report::read("bl=1");
        for number in 0..MAX_SESSIONS + 10 {
            sessions.take(&number.to_string(), &report, Mode::Request, 0, 1);
        }
        assert_eq!(sessions.count(), MAX_SESSIONS);
        sessions.take("new", &report, Mode::Request, 0, IDLE_MS + SWEEP_MS);
        assert_eq!(sessions.count(), 1);
    }
}
