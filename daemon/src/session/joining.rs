//! Choice of the services whose groups are joined: by policy, by requests of players, and within a bit rate limit.
//!
//! Pure: requests, rates and time go in; decisions and changes come out. In order of precedence:
//!
//! | precedence | service | why |
//! |---|---|---|
//! | 1 | joined, and asked for within [`WATCHED`] | it is being watched: nothing displaces it |
//! | 2 | not joined, and asked for within [`WAITED`] | a player waits for it |
//! | 3 | joined, and asked for within the grace time | a player may come back |
//! | 4 | `all` | as they are listed |
//! | 5 | neighbours of 1 to 3 | likely next channels; those of the service asked for last come first |
//!
//! A service for which the limit leaves no room is refused; smaller ones behind it may still fit.

use std::collections::VecDeque;
use std::time::Duration;

use carousel::time::Instant;

use super::options::Join;

/// Time after a request during which a service counts as watched: players of live services request at least once per
/// segment.
pub(super) const WATCHED: Duration = Duration::from_secs(6);
/// Time for which a player waits for a service without room (`[http] wait_ms` is 10 s).
pub(super) const WAITED: Duration = Duration::from_secs(10);

/// The policy of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JoinOptions {
    /// Number on each side, for [`Join::Neighbours`].
    pub(super) neighbours: usize,
    /// Grace time.
    pub(super) leave_after: Duration,
    /// Maximum bit rate of all services together; 0: no limit.
    pub(super) limit_bps: u64,
}

/// A service and its policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: String,
    pub(super) join: Join,
    /// Configured or announced bit rate.
    pub(super) rate_bps: Option<u64>,
}

carousel::reasons! {
    /// Why the groups of a service were joined.
    pub enum JoinReason in "services_joined" by "reason" {
        /// Its policy is `all`.
        Always = "always",
        /// A player has asked for it.
        Asked = "asked",
        /// A player has asked for a service beside it.
        Neighbour = "neighbour",
    }
}

carousel::reasons! {
    /// Why the groups of a service were left.
    pub enum LeaveReason in "services_left" by "reason" {
        /// Neither it nor a neighbour was requested during the grace time.
        Unasked = "unasked",
        /// Another service that is asked for needs its share of `[receive] joined_bps`.
        Displaced = "displaced",
        /// It is announced no more, or its policy has changed.
        Ended = "ended",
    }
}

carousel::reasons! {
    /// Why the groups of a service were not joined.
    pub enum JoinRefusal in "services_refused" by "reason" {
        /// Those that are watched leave no room for it within `[receive] joined_bps`.
        LimitAsked = "limit_asked",
        /// Its policy is `all`, and there is no room for it within `[receive] joined_bps`.
        LimitAlways = "limit_always",
        /// It is a neighbour, and there is no room for it within `[receive] joined_bps`.
        LimitNeighbour = "limit_neighbour",
    }
}

/// Change for one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Joined(String, JoinReason),
    Left(String, LeaveReason),
    Refused(String, JoinRefusal),
}

#[derive(Debug)]
struct Service {
    candidate: Candidate,
    /// Time of the last request.
    asked_at: Option<Instant>,
    /// It was left since: its players no longer wait.
    is_over: bool,
    /// Measured rate of its sessions.
    measured_bps: Option<u64>,
    joined: Option<JoinReason>,
    refused: Option<JoinRefusal>,
}

impl Service {
    fn rate_bps(&self) -> u64 {
        self.measured_bps.or(self.candidate.rate_bps).unwrap_or(0)
    }

    fn asked_within(&self, now: Instant, time: Duration) -> bool {
        !self.is_over && self.asked_at.is_some_and(|at| now.since(at) < time)
    }
}

/// A wanted service.
#[derive(Debug)]
struct DesiredService {
    at: usize,
    why: JoinReason,
    /// It stays joined regardless of the limit.
    is_watched: bool,
    /// Refusal if there is no room for it.
    refusal: Option<JoinRefusal>,
}

/// Requests, policy and rates from which the set of joined services follows.
#[derive(Debug)]
pub(super) struct Joining {
    options: JoinOptions,
    /// In the order of the list of channels.
    services: Vec<Service>,
    events: VecDeque<Event>,
}

impl Joining {
    pub(super) const fn new(options: JoinOptions) -> Self {
        Self { options, services: Vec::new(), events: VecDeque::new() }
    }

    /// Applies options and services, in the order of the list of channels. State of services that stay is preserved.
    pub(super) fn configure(&mut self, now: Instant, options: JoinOptions, candidates: Vec<Candidate>) {
        self.options = options;
        let mut before = std::mem::take(&mut self.services);
        self.services = candidates
            .into_iter()
            .map(|candidate| match before.iter().position(|it| it.candidate.id == candidate.id) {
                Some(at) => Service { candidate, ..before.swap_remove(at) },
                None => Service {
                    candidate,
                    asked_at: None,
                    is_over: false,
                    measured_bps: None,
                    joined: None,
                    refused: None,
                },
            })
            .collect();
        for gone in before.into_iter().filter(|it| it.joined.is_some()) {
            self.events.push_back(Event::Left(gone.candidate.id, LeaveReason::Ended));
        }
        self.decide(now);
    }

    /// Records a player's request for an object of a service at `at`. Repeated reports have no effect.
    pub(super) fn asked(&mut self, now: Instant, id: &str, at: Instant) {
        let Some(service) = self.services.iter_mut().find(|it| it.candidate.id == id) else { return };
        if service.asked_at < Some(at) {
            (service.asked_at, service.is_over) = (Some(at), false);
            self.decide(now);
        }
    }

    /// Records the measured bit rate of a service. It applies to the next decision: a peak displaces no joined service.
    pub(super) fn measured(&mut self, id: &str, bps: u64) {
        if let Some(service) = self.services.iter_mut().find(|it| it.candidate.id == id) {
            service.measured_bps = Some(bps);
        }
    }

    /// Leaves services without requests, and joins those for which there is room now. Early or extra calls do nothing.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.decide(now);
    }

    /// Changes since the last call.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether the groups of a service are to be joined; true for undeclared services.
    pub(super) fn is_joined(&self, id: &str) -> bool {
        self.services.iter().find(|it| it.candidate.id == id).is_none_or(|it| it.joined.is_some())
    }

    /// Why a wanted service is not joined.
    pub(super) fn refusal(&self, id: &str) -> Option<JoinRefusal> {
        self.services.iter().find(|it| it.candidate.id == id)?.refused
    }

    /// Assumed bit rate of a service: measured, otherwise configured or announced.
    pub(super) fn rate_bps(&self, id: &str) -> u64 {
        self.services.iter().find(|it| it.candidate.id == id).map_or(0, Service::rate_bps)
    }

    /// Wanted services by precedence; of equal precedence the most recently requested first.
    fn wanted(&self, now: Instant) -> Vec<DesiredService> {
        let grace = self.options.leave_after;
        let mut asked: Vec<(u8, Instant, usize)> = Vec::new();
        for (at, service) in self.services.iter().enumerate() {
            let Some(asked_at) = service.asked_at else { continue };
            let is_joined = service.joined.is_some();
            let precedence = if is_joined && service.asked_within(now, WATCHED.min(grace)) {
                1
            } else if !is_joined && service.asked_within(now, WAITED.min(grace)) {
                2
            } else if is_joined && service.asked_within(now, grace) {
                3
            } else {
                continue;
            };
            asked.push((precedence, asked_at, at));
        }
        asked.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        let mut wanted: Vec<DesiredService> = asked
            .iter()
            .map(|&(precedence, _, at)| DesiredService {
                at,
                why: JoinReason::Asked,
                is_watched: precedence == 1,
                refusal: Some(JoinRefusal::LimitAsked).filter(|_| precedence != 3),
            })
            .collect();
        let mut add = |at: usize, why, refusal| {
            if !wanted.iter().any(|it| it.at == at) {
                wanted.push(DesiredService { at, why, is_watched: false, refusal: Some(refusal) });
            }
        };
        for (at, service) in self.services.iter().enumerate() {
            if service.candidate.join == Join::All {
                add(at, JoinReason::Always, JoinRefusal::LimitAlways);
            }
        }
        asked.sort_by_key(|it| std::cmp::Reverse(it.1));
        for distance in 1..=self.options.neighbours {
            for &(_, _, at) in &asked {
                for beside in [at.checked_add(distance), at.checked_sub(distance)].into_iter().flatten() {
                    let service = self.services.get(beside);
                    if service.is_some_and(|it| it.candidate.join == Join::Neighbours) {
                        add(beside, JoinReason::Neighbour, JoinRefusal::LimitNeighbour);
                    }
                }
            }
        }
        wanted
    }

    fn decide(&mut self, now: Instant) {
        let limit_bps = self.options.limit_bps;
        let wanted = self.wanted(now);
        let mut joined: Vec<Option<JoinReason>> = vec![None; self.services.len()];
        let mut taken_bps = 0_u64;
        for DesiredService { at, why, is_watched, .. } in &wanted {
            let sum_bps = taken_bps.saturating_add(self.services[*at].rate_bps());
            if limit_bps == 0 || sum_bps <= limit_bps || *is_watched {
                (taken_bps, joined[*at]) = (sum_bps, Some(*why));
            }
        }
        for (at, (service, joined)) in self.services.iter_mut().zip(joined).enumerate() {
            let id = &service.candidate.id;
            let wanted = wanted.iter().find(|it| it.at == at);
            match (service.joined, joined) {
                (None, Some(why)) => self.events.push_back(Event::Joined(id.clone(), why)),
                (Some(_), None) => {
                    let why = if wanted.is_none() { LeaveReason::Unasked } else { LeaveReason::Displaced };
                    self.events.push_back(Event::Left(id.clone(), why));
                    service.is_over = true;
                }
                _ => {}
            }
            let refused = wanted.and_then(|it| it.refusal).filter(|_| joined.is_none());
            if let Some(why) = refused.filter(|_| service.refused != refused) {
                self.events.push_back(Event::Refused(id.clone(), why));
            }
            (service.joined, service.refused) = (joined, refused);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: JoinOptions =
        JoinOptions { neighbours: 1, leave_after: Duration::from_secs(30), limit_bps: 0 };

    fn at(s: u64) -> Instant {
        Instant::from_nanos(0) + Duration::from_secs(s)
    }

    fn services(join: Join, rate_bps: u64) -> Vec<Candidate> {
        let ids = ["a", "b", "c", "d", "e"].into_iter();
        ids.map(|id| Candidate { id: id.to_owned(), join, rate_bps: Some(rate_bps) }).collect()
    }

    struct Tested(Joining);

    impl Tested {
        fn new(options: JoinOptions, services: Vec<Candidate>) -> Self {
            let mut joining = Joining::new(options);
            joining.configure(at(0), options, services);
            Self(joining)
        }

        fn joined(&self) -> String {
            ["a", "b", "c", "d", "e"].into_iter().filter(|id| self.0.is_joined(id)).collect()
        }

        fn asked(&mut self, s: u64, id: &str) -> String {
            self.0.asked(at(s), id, at(s));
            self.joined()
        }

        fn later(&mut self, s: u64) -> String {
            self.0.handle_timeout(at(s));
            self.joined()
        }

        fn events(&mut self) -> Vec<String> {
            std::iter::from_fn(|| self.0.poll_event())
                .map(|event| match event {
                    Event::Joined(id, why) => format!("+{id} {why}"),
                    Event::Left(id, why) => format!("-{id} {why}"),
                    Event::Refused(id, why) => format!("!{id} {why}"),
                })
                .collect()
        }
    }

    #[test]
    fn all_are_joined_from_the_start_and_stay() {
        let mut tested = Tested::new(OPTIONS, services(Join::All, 4));
        assert_eq!(tested.joined(), "abcde");
        assert_eq!(tested.events().len(), 5);
        assert_eq!(tested.later(10_000), "abcde");
        assert_eq!(tested.events(), [""; 0]);
    }

    #[test]
    fn on_demand_joins_what_is_asked_for_and_leaves_it_after_the_grace_time() {
        let mut tested = Tested::new(OPTIONS, services(Join::OnDemand, 4));
        assert_eq!(tested.joined(), "");
        assert_eq!(tested.asked(5, "b"), "b");
        assert_eq!(tested.asked(20, "b"), "b");
        assert_eq!(tested.later(49), "b");
        assert_eq!(tested.later(50), "");
        assert_eq!(tested.events(), ["+b asked", "-b unasked"]);
        // Requests that are not later than those known change nothing.
        tested.0.asked(at(60), "b", at(10));
        assert_eq!(tested.joined(), "");
        assert_eq!(tested.asked(61, "b"), "b");
        assert!(tested.0.is_joined("what nobody has named"));
    }

    #[test]
    fn neighbours_follow_the_channel() {
        let mut tested = Tested::new(OPTIONS, services(Join::Neighbours, 4));
        assert_eq!(tested.asked(0, "b"), "abc");
        assert_eq!(tested.asked(10, "c"), "abcd");
        // Of b only the grace time is left, and it takes its neighbours along.
        assert_eq!(tested.later(31), "bcd");
        assert_eq!(tested.later(40), "");
        // At the end of the list there is one neighbour.
        assert_eq!(tested.asked(50, "e"), "de");
        // Only those that have this policy.
        let mut mixed = services(Join::OnDemand, 4);
        mixed[2].join = Join::Neighbours;
        let mut tested = Tested::new(OPTIONS, mixed);
        assert_eq!(tested.asked(0, "b"), "bc");
    }

    #[test]
    fn nothing_is_joined_beyond_the_limit_and_nobody_who_watches_is_pushed_out() {
        let options = JoinOptions { limit_bps: 10, ..OPTIONS };
        let mut tested = Tested::new(options, services(Join::OnDemand, 4));
        assert_eq!(tested.asked(0, "a"), "a");
        assert_eq!(tested.asked(1, "b"), "ab");
        assert_eq!(tested.asked(2, "c"), "ab");
        assert_eq!(tested.0.refusal("c"), Some(JoinRefusal::LimitAsked));
        assert_eq!(tested.asked(3, "c"), "ab");
        assert_eq!(tested.events(), ["+a asked", "+b asked", "!c limit_asked"], "said once");
        // Service a is no longer requested: its grace time ends for the waiting players.
        assert_eq!(tested.asked(5, "b"), "ab");
        assert_eq!(tested.later(6), "bc");
        assert_eq!(tested.events(), ["-a displaced", "+c asked"].map(str::to_owned));
        assert_eq!(tested.0.refusal("c"), None);
        // The session thread reports all last requests each second, also that one.
        tested.0.asked(at(7), "a", at(0));
        assert_eq!((tested.later(7), tested.0.refusal("a")), ("bc".to_owned(), None));
        // Both are watched: a player of a third one changes nothing, however often it asks.
        for s in 7..40 {
            tested.asked(s, "b");
            tested.asked(s, "c");
            assert_eq!(tested.asked(s, "d"), "bc", "{s}");
        }
        assert_eq!(tested.events(), ["!d limit_asked"]);
        // It gives up; the refusal goes with it.
        assert_eq!(tested.later(50), "bc");
        assert_eq!(tested.0.refusal("d"), None);
    }

    #[test]
    fn what_is_asked_for_comes_before_neighbours_and_before_all() {
        let options = JoinOptions { limit_bps: 8, ..OPTIONS };
        let mut tested = Tested::new(options, services(Join::All, 4));
        assert_eq!(tested.joined(), "ab");
        assert_eq!(tested.asked(1, "d"), "ad");
        assert_eq!(tested.later(60), "ab");
        let options = JoinOptions { limit_bps: 12, ..OPTIONS };
        let mut tested = Tested::new(options, services(Join::Neighbours, 4));
        assert_eq!(tested.asked(0, "c"), "bcd");
        assert_eq!(tested.asked(1, "a"), "abc", "the neighbours of the one asked for last come first");
    }

    #[test]
    fn a_rate_that_was_measured_counts_instead_of_what_was_announced() {
        let options = JoinOptions { limit_bps: 10, ..OPTIONS };
        let mut tested = Tested::new(options, services(Join::OnDemand, 9));
        tested.asked(0, "a");
        assert_eq!(tested.asked(1, "b"), "a");
        tested.0.measured("a", 1);
        assert_eq!(tested.asked(2, "b"), "ab");
        // A peak ends no watched service, and counts for later ones.
        tested.0.measured("b", 20);
        assert_eq!(tested.asked(3, "c"), "ab");
        assert_eq!(tested.asked(4, "b"), "ab");
        assert_eq!((tested.0.rate_bps("a"), tested.0.rate_bps("c")), (1, 9));
    }

    #[test]
    fn services_come_and_go_with_the_configuration() {
        let mut tested = Tested::new(OPTIONS, services(Join::OnDemand, 4));
        tested.asked(0, "a");
        tested.asked(0, "b");
        tested.events();
        let mut fewer = services(Join::OnDemand, 4);
        fewer.remove(0);
        fewer.reverse();
        tested.0.configure(at(1), OPTIONS, fewer);
        assert_eq!(tested.events(), ["-a ended"]);
        assert!(tested.0.is_joined("b") && !tested.0.is_joined("c"));
    }
}
