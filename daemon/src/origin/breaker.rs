//! A circuit breaker for each origin: after repeated failures an origin is not requested for [`OPEN`], so that players do
//! not wait for its timeouts and a struggling origin is not loaded further.
//!
//! ```text
//! closed ── FAILURES in a row ──▶ open ── OPEN ──▶ half open: one request ── fails ──▶ open
//!    ▲                                                     │ succeeds
//!    └─────────────────────────────────────────────────────┘
//! ```
//!
//! An origin that has failed is probed every few seconds ([`Breakers::failing`]), so that the circuit opens before
//! players have waited for five timeouts, and is half open as soon as the origin answers again. Healthy origins are not
//! probed: probes by a million boxes every five seconds would be their heaviest load.
//!
//! A player chooses the fields and addresses that it requests, and can make an origin fail by them. So failures after the
//! request was sent count up to [`FAILURES_OF_ONE`] for each player: alone it opens no circuit. The box's own requests and
//! probes, and failures to connect whoever asks, count without that limit.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use carousel::time::Instant;

use super::lock;
use crate::clients;

/// Failures in a row that open the circuit.
const FAILURES: usize = 5;

/// Failures of requests of one player that count: two probes have to fail as well, or the requests of another player.
const FAILURES_OF_ONE: usize = 3;

/// Time for which it stays open.
const OPEN: Duration = Duration::from_secs(60);

carousel::limits! {
    /// Origins whose failures are counted.
    const MAX_ORIGINS: usize = 256, "origins" {
        why: "A box has a handful; an entry holds an authority and up to five URLs.",
        full: "The origin with the fewest failures is forgotten, and starts with none.",
        free: "When an origin answers.",
        test: "a_success_in_between_starts_the_count_again_and_the_table_is_bounded",
    }
}

/// End of a request to an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestEnd {
    /// The origin answered normally; a refusal counts as such.
    Well,
    /// No connection.
    Unreachable,
    /// The connection broke after the request was sent, or had no usable response.
    Broken,
    /// A server error.
    ServerError,
    /// It took too long, or the client left: possibly normal for the resource.
    Slow,
}

impl RequestEnd {
    /// The end of a request with this status.
    pub(super) const fn of_status(status: u16) -> Self {
        // 501 and 505 concern the request, not the origin.
        match status {
            501 | 505 => Self::Well,
            500..=599 => Self::ServerError,
            _ => Self::Well,
        }
    }
}

/// On whose behalf a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// The box itself: no player has chosen the fields.
    Own,
    /// A player.
    Player(IpAddr),
    /// Players that share a fetch; its fields are those of one of them.
    Shared,
}

impl Asker {
    /// The player of this address; `None`: the box itself.
    pub(super) fn of(client: Option<IpAddr>) -> Self {
        client.map_or(Self::Own, Self::Player)
    }

    /// Players of one network of IPv6 are one player.
    fn network(self) -> Self {
        match self {
            Self::Player(address) => Self::Player(clients::network_of(address)),
            it => it,
        }
    }
}

/// State of one origin.
#[derive(Debug, Clone, Default)]
struct Circuit {
    failures: usize,
    /// Players with their failures that count, up to [`FAILURES_OF_ONE`] each. Each has one at least, so that there are at most
    /// [`FAILURES`].
    askers: Vec<(Asker, usize)>,
    /// Resources that have failed with a status: each counts once, since one broken resource does not make the origin
    /// broken.
    broken: Vec<String>,
    /// End of the open state.
    until: Option<Instant>,
    /// The one request of a half-open circuit is in progress.
    is_probed: bool,
    /// Its URL scheme is https.
    is_tls: bool,
}

impl Circuit {
    /// Whether it permits a request: it is closed, or half open and the one request is not in progress.
    fn admits(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until && !self.is_probed)
    }

    /// URL of the health check of its origin.
    fn check_url(&self, authority: &str) -> String {
        format!("{}://{authority}/", if self.is_tls { "https" } else { "http" })
    }

    /// Whether a failure counts.
    fn counts(&mut self, asker: Asker, ended: RequestEnd) -> bool {
        if asker == Asker::Own || ended == RequestEnd::Unreachable {
            return true;
        }
        let asker = asker.network();
        let Some((_, count)) = self.askers.iter_mut().find(|(it, _)| *it == asker) else {
            if self.askers.len() < FAILURES {
                self.askers.push((asker, 1));
            }
            return true;
        };
        let is_within = *count < FAILURES_OF_ONE;
        *count += usize::from(is_within);
        is_within
    }
}

/// The circuits of all origins, by authority.
#[derive(Debug, Default)]
pub(super) struct Breakers(Mutex<HashMap<String, Circuit>>);

impl Breakers {
    /// Whether a request to this origin is permitted now.
    pub(super) fn admits(&self, url: &str, now: Instant) -> bool {
        let authority = authority_of(url);
        let mut circuits = self.circuits();
        let Some(circuit) = circuits.get_mut(authority) else { return true };
        let admits = circuit.admits(now);
        circuit.is_probed |= admits && circuit.until.is_some();
        admits
    }

    /// Whether [`Self::admits`] would permit a request.
    pub(super) fn would_admit(&self, url: &str, now: Instant) -> bool {
        self.circuits().get(authority_of(url)).is_none_or(|it| it.admits(now))
    }

    /// Records the end of a request.
    pub(super) fn note(&self, url: &str, asker: Asker, ended: RequestEnd, now: Instant) {
        let authority = authority_of(url);
        let mut circuits = self.circuits();
        match ended {
            RequestEnd::Well => {
                if circuits.remove(authority).is_some_and(|it| it.until.is_some()) {
                    tracing::info!(origin = authority, "answers again: the circuit is closed");
                }
                return;
            }
            RequestEnd::Slow => {
                // A half-open circuit lets another request decide.
                if let Some(circuit) = circuits.get_mut(authority) {
                    circuit.is_probed = false;
                }
                return;
            }
            RequestEnd::Unreachable | RequestEnd::Broken | RequestEnd::ServerError => {}
        }
        if circuits.len() >= MAX_ORIGINS && !circuits.contains_key(authority) {
            let least = circuits.iter().min_by_key(|(_, it)| it.failures).map(|(name, _)| name.clone());
            if let Some(least) = least {
                circuits.remove(&least);
            }
        }
        let circuit = circuits.entry(authority.to_owned()).or_default();
        if ended == RequestEnd::ServerError {
            let resource = url.split('?').next().unwrap_or(url);
            let is_known = circuit.broken.iter().any(|it| it == resource);
            if !is_known && circuit.broken.len() < FAILURES {
                circuit.broken.push(resource.to_owned());
            }
            circuit.is_probed = false;
            if is_known && circuit.until.is_none() {
                return;
            }
        }
        circuit.is_tls = url.starts_with("https:");
        circuit.is_probed = false;
        if !circuit.counts(asker, ended) {
            return;
        }
        circuit.failures = circuit.failures.saturating_add(1);
        if circuit.failures >= FAILURES {
            if circuit.until.is_none() {
                tracing::warn!(
                    origin = authority,
                    "fails repeatedly: requests are sent there again when it answers a health check (the circuit is open)"
                );
            }
            circuit.until = Some(now + OPEN);
        }
    }

    /// URLs of origins that have failed and not recovered since, for health checks.
    pub(super) fn failing(&self) -> Vec<String> {
        self.circuits().iter().map(|(name, circuit)| circuit.check_url(name)).collect()
    }

    /// URL of the health check of this URL's origin, if that has failed.
    pub(super) fn check_of(&self, url: &str) -> Option<String> {
        let authority = authority_of(url);
        self.circuits().get(authority).map(|circuit| circuit.check_url(authority))
    }

    /// Records the result of a health check of a failing origin. If it answers, the next request is permitted and
    /// decides.
    pub(super) fn looked(&self, url: &str, ended: RequestEnd, now: Instant) {
        if ended != RequestEnd::Well {
            return self.note(url, Asker::Own, ended, now);
        }
        if let Some(circuit) = self.circuits().get_mut(authority_of(url)) {
            circuit.until = circuit.until.map(|until| until.min(now));
        }
    }

    /// Whether the circuit of this URL's origin is open.
    pub(super) fn is_open(&self, url: &str, now: Instant) -> bool {
        self.circuits().get(authority_of(url)).is_some_and(|it| it.until.is_some_and(|until| now < until))
    }

    /// Origins with an open circuit.
    pub(super) fn open(&self, now: Instant) -> Vec<String> {
        let circuits = self.circuits();
        let open = circuits.iter().filter(|(_, it)| it.until.is_some_and(|until| now < until));
        open.map(|(name, _)| name.clone()).collect()
    }

    fn circuits(&self) -> MutexGuard<'_, HashMap<String, Circuit>> {
        lock(&self.0)
    }
}

/// Host and port of a URL.
fn authority_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubled_origins_are_looked_at_and_asked_again_as_soon_as_they_answer() {
        let breakers = Breakers::default();
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        breakers.note("https://cdn:8443/film/1.m4s", Asker::Own, RequestEnd::Unreachable, at(1));
        breakers.note("http://well/film/1.m4s", Asker::Own, RequestEnd::Well, at(1));
        assert_eq!(breakers.failing(), ["https://cdn:8443/"]);
        for look in 0..4 {
            breakers.looked("https://cdn:8443/", RequestEnd::Unreachable, at(5 + 5 * look));
        }
        assert!(
            !breakers.admits("https://cdn:8443/x", at(21)),
            "open before any player has waited five times"
        );
        breakers.looked("https://cdn:8443/", RequestEnd::Well, at(25));
        assert!(
            breakers.admits("https://cdn:8443/x", at(25)) && !breakers.admits("https://cdn:8443/x", at(25))
        );
        breakers.note("https://cdn:8443/x", Asker::Own, RequestEnd::Well, at(26));
        assert!(breakers.failing().is_empty());
    }

    #[test]
    fn five_failures_open_it_and_one_request_after_a_minute_decides() {
        let breakers = Breakers::default();
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        for second in 0..5 {
            assert!(breakers.admits("cdn", at(second)), "{second}");
            breakers.note("cdn", Asker::Own, RequestEnd::Unreachable, at(second));
        }
        assert!(!breakers.admits("cdn", at(5)) && !breakers.admits("cdn", at(63)));
        assert_eq!(breakers.open(at(5)), ["cdn"]);
        assert!(breakers.admits("other", at(5)));
        assert!(breakers.admits("cdn", at(65)), "half open");
        assert!(!breakers.admits("cdn", at(65)), "for one");
        breakers.note("cdn", Asker::Own, RequestEnd::Unreachable, at(66));
        assert!(!breakers.admits("cdn", at(100)));
        assert!(breakers.admits("cdn", at(127)));
        breakers.note("cdn", Asker::Own, RequestEnd::Well, at(127));
        assert!(breakers.admits("cdn", at(128)) && breakers.open(at(128)).is_empty());
    }

    #[test]
    fn a_success_in_between_starts_the_count_again_and_the_table_is_bounded() {
        let breakers = Breakers::default();
        let now = Instant::from_nanos(1);
        for _ in 0..4 {
            breakers.note("a", Asker::Own, RequestEnd::Unreachable, now);
        }
        breakers.note("a", Asker::Own, RequestEnd::Well, now);
        breakers.note("a", Asker::Own, RequestEnd::Unreachable, now);
        assert!(breakers.admits("a", now));
        for number in 0..1000 {
            breakers.note(&number.to_string(), Asker::Own, RequestEnd::Unreachable, now);
        }
        assert!(breakers.circuits().len() <= MAX_ORIGINS);
    }

    #[test]
    fn neither_a_slow_resource_nor_a_broken_one_is_a_broken_origin() {
        let breakers = Breakers::default();
        let now = Instant::from_nanos(1);
        for _ in 0..100 {
            breakers.note("http://o/live.m3u8?_HLS_msn=1", Asker::Own, RequestEnd::Slow, now);
            breakers.note("http://o/broken.ts", Asker::Own, RequestEnd::ServerError, now);
        }
        assert!(breakers.admits("http://o/x", now));
        for number in 0..4 {
            breakers.note(&format!("http://o/{number}.ts"), Asker::Own, RequestEnd::ServerError, now);
        }
        assert!(!breakers.admits("http://o/x", now), "five resources fail");
    }

    const ALL_ENDS: [RequestEnd; 2] = [RequestEnd::ServerError, RequestEnd::Broken];

    /// A player whose fields are too long for an origin, or that knows what it fails at.
    #[test]
    fn one_player_alone_opens_no_circuit_by_what_it_requests() {
        let now = Instant::from_nanos(1);
        for ended in ALL_ENDS {
            let breakers = Breakers::default();
            // Addresses of one network of IPv6 are one player.
            for number in 0..100 {
                let one = Asker::Player(format!("2001:db8::{number:x}").parse().unwrap());
                breakers.note(&format!("http://o/{number}.ts"), one, ended, now);
            }
            assert!(breakers.admits("http://o/x", now), "{ended:?}");
            // The origin fails at a plain request too.
            breakers.looked("http://o/", RequestEnd::Unreachable, now);
            assert!(breakers.admits("http://o/x", now), "{ended:?}: once is not enough");
            breakers.looked("http://o/", RequestEnd::Unreachable, now);
            assert!(!breakers.admits("http://o/x", now), "{ended:?}");
            // Half open: it decides nothing for others.
            breakers.looked("http://o/", RequestEnd::Well, now);
            assert!(breakers.admits("http://o/1.ts", now));
            breakers.note("http://o/1.ts", Asker::Player("2001:db8::1".parse().unwrap()), ended, now);
            assert!(breakers.admits("http://o/x", now), "{ended:?}: the next request decides");
        }
    }

    #[test]
    fn an_origin_that_fails_for_several_players_or_takes_no_connection_is_open_for_all() {
        let now = Instant::from_nanos(1);
        let player = |number: usize| Asker::Player(std::net::Ipv4Addr::new(10, 0, 0, number as u8).into());
        for ended in ALL_ENDS {
            let breakers = Breakers::default();
            for number in 0..FAILURES {
                assert!(breakers.admits("http://o/x", now));
                breakers.note(&format!("http://o/{number}.ts"), player(number % 2), ended, now);
            }
            assert!(!breakers.admits("http://o/x", now), "{ended:?} of two players");
            let breakers = Breakers::default();
            for number in 0..FAILURES {
                breakers.note(&format!("http://o/{number}.ts"), Asker::Own, ended, now);
            }
            assert!(!breakers.admits("http://o/x", now), "{ended:?} of the box itself");
        }
        let breakers = Breakers::default();
        for _ in 0..FAILURES {
            breakers.note("http://o/x", player(1), RequestEnd::Unreachable, now);
        }
        assert!(!breakers.admits("http://o/x", now), "the only player of a box");
    }
}
