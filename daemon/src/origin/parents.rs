//! Parents: caches between this one and an origin (shields), and other origins of the same objects.
//!
//! ```text
//! players ─▶ edge ─▶ parent of the object ──(fails)──▶ next parent ──▶ … ──▶ origin of the route
//! ```
//!
//! Members of a group are asked in the order of their cost; among those of equal cost, each object has its own order by weighted
//! rendezvous hashing, so that it is held once, and the loss of a member moves only its share. The hash is specified here, so
//! that processes, releases and word sizes agree:
//!
//! - *k* is FNV-1a (64 bits) over the bytes of the object's URL at the origin, *m* over those of the member's `url`.
//! - A member of weight *w* has the score max over *i* in 0…*w*-1 of mix(*k* xor rotate_left(*m*, 32) + *i* · 0x9e3779b97f4a7c15), where
//!   mix is the finalizer of SplitMix64 and sums are modulo 2^64.
//! - The highest score is the first; of equal ones the member listed first in the configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carousel::config::{Mistake, url};
use carousel::time::Instant;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::addresses::is_of_this_machine;
use super::breaker::Breakers;
use super::lock;
use super::options::{ByBase, Route};
use super::signing::Signing;
use crate::delivery::RetryBudget;

carousel::limits! {
    /// Members of one group.
    pub const MAX_MEMBERS: usize = 64, "members" {
        why: "Each costs a hash per weight and request, and a request for its health every five seconds.",
        full: "The configuration is refused.",
        free: "Holds for the configuration.",
        test: "mistakes_are_named",
    }

    /// Parents that fail one request before it goes to the origin, one after the other or by a hedge. A parent without a connection
    /// is none of them.
    pub(super) const MAX_TRIES: usize = 2, "parents" {
        why: "A player waits for all of them, and a request that has failed for two will fail for a third.",
        full: "The origin of the route is asked; with `origin_last = false` the remaining parents.",
        free: "Holds for one request.",
        test: "parents_without_a_connection_cost_no_try_and_those_that_fail_do",
    }
}

/// Consecutive failed health checks after which a member is not asked.
const FAILED_LOOKS: u32 = 2;
/// First exclusion of a member after a truncated body; doubles with each consecutive one.
const FIRST_LEFT_OUT: Duration = Duration::from_secs(1);
/// Longest exclusion: a repaired member is asked again within minutes.
const MAX_LEFT_OUT: Duration = Duration::from_secs(256);
/// Maximum configurable weight of a member: each unit costs a hash for each request.
const MAX_WEIGHT: u32 = 100;
/// Delay until a second parent is asked while the first one is silent: its default, and its limits.
const HEDGE_AT_FIRST: Duration = Duration::from_secs(1);
const HEDGE_LEAST: Duration = Duration::from_millis(20);
/// Responses needed for a meaningful 95th percentile.
const ENOUGH: u32 = 50;

/// `[[parent]]`: caches that are asked before the origins of routes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ParentGroup {
    /// By which `[[route]] parents` names the group.
    pub name: String,
    /// `false`: the group is not asked, and each route goes to its origin. For maintenance; a reload takes it over.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Ask the next member too if the first one is silent for longer than 95 of 100 responses of the route took.
    #[serde(default = "yes")]
    pub hedge: bool,
    /// Time for which a member may be silent before the request is passed to the next one or the origin. Blocking playlist
    /// reloads may take as long as the route gives origins.
    #[serde(default = "ParentGroup::default_timeout_ms")]
    pub timeout_ms: u64,
    /// Ask the origin of the route when no member answers. `false`: it is never asked, and every member is.
    #[serde(default = "yes")]
    pub origin_last: bool,
    /// Path of each member whose response shows its health: any answer below 500 is good. A Skycache answers its default with
    /// 503 while it drains.
    #[serde(default = "ParentGroup::default_health_path")]
    pub health_path: String,
    /// The caches.
    #[serde(rename = "member")]
    pub members: Vec<ParentMember>,
}

impl ParentGroup {
    const fn default_timeout_ms() -> u64 {
        5000
    }

    fn default_health_path() -> String {
        "/-/health".to_owned()
    }
}

/// `[[parent.member]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ParentMember {
    /// Scheme, host and port. It is asked as players ask this box: for the path of the route and what follows.
    pub url: String,
    /// Share of the objects among members of the same cost: 1 to 100.
    #[serde(default = "ParentMember::default_weight")]
    pub weight: u32,
    /// Members of a higher cost are asked when those of a lower one do not answer: any number, such as 0.085 for $ a gigabyte.
    #[serde(default)]
    pub cost: Cost,
    /// Signing of requests to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<Signing>,
}

/// Cost of a member, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cost(u64);

impl Cost {
    /// Of one.
    const MILLIONTHS: u64 = 1_000_000;
    /// Greatest cost that can be configured.
    const MOST: f64 = 1e9;
}

impl Serialize for Cost {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match (self.0 / Self::MILLIONTHS, self.0 % Self::MILLIONTHS) {
            (whole, 0) => to.serialize_u64(whole),
            _ => to.serialize_f64(self.0 as f64 / Self::MILLIONTHS as f64),
        }
    }
}

impl<'de> Deserialize<'de> for Cost {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        /// Integers and decimals.
        struct Number;

        impl de::Visitor<'_> for Number {
            type Value = Cost;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number from 0 to 1000000000, such as 1 or 0.085")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Cost, E> {
                self.visit_f64(number as f64)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Cost, E> {
                self.visit_f64(number as f64)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Cost, E> {
                if !(0.0..=Cost::MOST).contains(&number) {
                    return Err(E::invalid_value(
                        de::Unexpected::Other(&format!("the number {number}")),
                        &self,
                    ));
                }
                Ok(Cost((number * Cost::MILLIONTHS as f64).round() as u64))
            }
        }

        from.deserialize_any(Number)
    }
}

impl ParentMember {
    /// Its URL without a slash at the end: paths follow.
    fn base(&self) -> &str {
        self.url.trim_end_matches('/')
    }

    const fn default_weight() -> u32 {
        1
    }
}

const fn yes() -> bool {
    true
}

/// Base URLs that a member has for routes of its group, and their signing if they are signed.
pub(super) fn signed_bases<'a>(
    groups: &'a [ParentGroup],
) -> impl Iterator<Item = (String, &'a Signing)> + use<'a> {
    let members = groups.iter().flat_map(|it| &it.members);
    members.filter_map(|it| Some((format!("{}/", it.base()), it.sign.as_ref()?)))
}

/// State of a member, preserved across reloads.
#[derive(Debug, Default)]
pub(super) struct MemberState {
    failed_looks: AtomicU32,
    is_down: AtomicBool,
    /// Consecutive truncated bodies.
    cuts: AtomicU32,
    /// End of its exclusion after a truncated body; 0: not excluded.
    left_out_until_ns: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) failures: AtomicU64,
}

impl MemberState {
    /// Records a truncated body as a failed request. The member is excluded for a period that doubles with each consecutive
    /// truncation; simultaneous ones count once. Returns the period if it was changed.
    pub(super) fn cut(&self, now: Instant) -> Option<Duration> {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if self.is_left_out(now) {
            return None;
        }
        let before = self.cuts.fetch_add(1, Ordering::Relaxed).min(16);
        let time = (FIRST_LEFT_OUT * (1 << before)).min(MAX_LEFT_OUT);
        self.left_out_until_ns.store(
            now.as_nanos() + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2),
            Ordering::Relaxed,
        );
        Some(time)
    }

    /// Records a complete body.
    pub(super) fn whole(&self) {
        if self.cuts.load(Ordering::Relaxed) > 0 {
            self.cuts.store(0, Ordering::Relaxed);
        }
    }

    fn is_left_out(&self, now: Instant) -> bool {
        now.as_nanos() < self.left_out_until_ns.load(Ordering::Relaxed)
    }

    /// Whether it may be asked now.
    pub(super) fn is_asked(&self, now: Instant) -> bool {
        self.is_up() && !self.is_left_out(now)
    }

    /// Records the result of a health check; returns whether its state has changed.
    pub(super) fn looked(&self, is_well: bool) -> bool {
        if is_well {
            self.failed_looks.store(0, Ordering::Relaxed);
            return self.is_down.swap(false, Ordering::Relaxed);
        }
        let failed = self.failed_looks.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        failed >= FAILED_LOOKS && !self.is_down.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_up(&self) -> bool {
        !self.is_down.load(Ordering::Relaxed)
    }
}

/// State of a group, preserved across reloads.
#[derive(Debug, Default)]
pub(super) struct GroupState {
    /// Budget of additional requests: a failing group must not get twice the load.
    budget: Mutex<RetryBudget>,
    pub(super) hedged: AtomicU64,
    pub(super) failed_over: AtomicU64,
}

impl GroupState {
    /// Credits a first request.
    pub(super) fn earn(&self) {
        lock(&self.budget).earn();
    }

    /// Pays for one additional request; false if the budget is exhausted.
    pub(super) fn spend(&self) -> bool {
        lock(&self.budget).spend()
    }

    /// Refunds an additional request that found no connection.
    pub(super) fn give_back(&self) {
        lock(&self.budget).give_back();
    }
}

/// Times to the head of responses of one route, preserved across reloads: playlists that are made for each request, or films of a
/// slow store, have a 95th percentile of their own.
#[derive(Debug, Default)]
pub(super) struct RouteLatency(Mutex<Latency>);

impl RouteLatency {
    /// Records the time to the head of a response.
    pub(super) fn took(&self, time: Duration) {
        lock(&self.0).note(time);
    }

    /// Time for which the first parent may be silent before a hedge.
    pub(super) fn patience(&self) -> Duration {
        let latency = lock(&self.0);
        latency.p95().map_or(HEDGE_AT_FIRST, |it| it.max(HEDGE_LEAST))
    }
}

/// Histogram of recent response times, in steps of a quarter octave from 1 ms.
#[derive(Debug)]
struct Latency {
    counts: [u32; Self::STEPS],
}

impl Default for Latency {
    fn default() -> Self {
        Self { counts: [0; Self::STEPS] }
    }
}

impl Latency {
    /// Up to 65 s.
    const STEPS: usize = 64;
    /// Number of responses at which all counts are halved, so that recent ones weigh more.
    const MANY: u32 = 2000;

    fn note(&mut self, time: Duration) {
        let ms = time.as_secs_f64() * 1000.0;
        let step = if ms < 1.0 { 0 } else { (ms.log2() * 4.0) as usize };
        self.counts[step.min(Self::STEPS - 1)] += 1;
        if self.counts.iter().sum::<u32>() >= Self::MANY {
            self.counts.iter_mut().for_each(|it| *it /= 2);
        }
    }

    fn p95(&self) -> Option<Duration> {
        let total = self.counts.iter().sum::<u32>();
        let mut left = total / 20;
        let step = self.counts.iter().rposition(|&count| {
            let is_it = count > left;
            left = left.saturating_sub(count);
            is_it
        })?;
        let ms = 2_f64.powf((step + 1) as f64 / 4.0);
        (total >= ENOUGH).then(|| Duration::from_secs_f64(ms / 1000.0))
    }
}

/// A cache or origin that may be asked for an object.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) url: String,
    /// `None`: the origin of the route.
    pub(super) member: Option<Arc<MemberState>>,
}

/// Destinations of a request, in order; never empty.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) candidates: Vec<Candidate>,
    /// Members that seem well, and whose circuit is open: they are asked when everything else has failed.
    pub(super) left_out: Vec<Candidate>,
    pub(super) group: Arc<GroupState>,
    /// Of the route.
    pub(super) latency: Arc<RouteLatency>,
    pub(super) hedge: bool,
    /// Time for which a member may be silent.
    pub(super) timeout: Duration,
}

#[derive(Debug)]
struct Member {
    options: ParentMember,
    state: Arc<MemberState>,
}

#[derive(Debug)]
struct Group {
    options: ParentGroup,
    members: Vec<Member>,
    state: Arc<GroupState>,
}

/// Needs of a request of a route.
#[derive(Debug, Default)]
struct RouteParents {
    path: String,
    /// Name of its group, if it has one and does not skip it.
    group: Option<String>,
    latency: Arc<RouteLatency>,
}

/// All groups, and the routes that use them.
#[derive(Debug, Default)]
pub(super) struct Parents {
    groups: BTreeMap<String, Group>,
    routes: ByBase<RouteParents>,
    /// Latencies of routes by their base and path.
    latencies: BTreeMap<(String, String), Arc<RouteLatency>>,
}

impl Parents {
    /// Creates it from the configuration; state of unchanged members and groups is preserved.
    pub(super) fn new(groups: &[ParentGroup], routes: &[Route], before: &Self) -> Self {
        let named = |options: &ParentGroup| {
            let old = before.groups.get(&options.name);
            let member = |member: &ParentMember| {
                let known = old.and_then(|old| old.members.iter().find(|it| it.options.url == member.url));
                Member {
                    options: member.clone(),
                    state: known.map(|it| Arc::clone(&it.state)).unwrap_or_default(),
                }
            };
            let members = options.members.iter().map(member).collect();
            let state = old.map(|it| Arc::clone(&it.state)).unwrap_or_default();
            (options.name.clone(), Group { options: options.clone(), members, state })
        };
        let id = |route: &Route| (route.base.clone(), route.path.clone());
        let latency = |route: &Route| {
            let known = before.latencies.get(&id(route)).cloned();
            (id(route), known.unwrap_or_default())
        };
        let latencies: BTreeMap<_, _> =
            routes.iter().filter(|it| it.parents.is_some()).map(latency).collect();
        let routes = ByBase::new(routes, |route| {
            let group = route.parents.clone().filter(|_| !route.skip_shield);
            let latency = latencies.get(&id(route)).cloned().unwrap_or_default();
            Some(RouteParents { path: route.path.clone(), group, latency })
        });
        Self { groups: groups.iter().map(named).collect(), routes, latencies }
    }

    /// Order in which parents and the origin are asked for `url`; `None`: the origin alone. Members that are down, excluded, or
    /// whose circuit is open are left out, unless nothing else could be asked.
    pub(super) fn plan(&self, url: &str, breakers: &Breakers, now: Instant) -> Option<Plan> {
        let (RouteParents { path, group: name, latency }, rest) = self.routes.of(url)?;
        let group = self.groups.get(name.as_deref()?).filter(|it| it.options.enabled)?;
        let latency = Arc::clone(latency);
        let is_asked = |it: &Member| it.state.is_asked(now) && !breakers.is_open(&it.options.url, now);
        let has_origin = group.options.origin_last;
        let (asked, others): (Vec<&Member>, Vec<&Member>) =
            order(&group.members, url).into_iter().partition(|it| is_asked(it));
        let candidate = |it: &Member| Candidate {
            url: format!("{}{path}{rest}", it.options.base()),
            member: Some(Arc::clone(&it.state)),
        };
        let (chosen, others) = match asked.is_empty() && !has_origin {
            true => (others, Vec::new()),
            false => (asked, others),
        };
        let mut candidates: Vec<Candidate> = chosen.into_iter().map(candidate).collect();
        let left_out = others.into_iter().filter(|it| it.state.is_asked(now)).map(candidate).collect();
        if has_origin {
            candidates.push(Candidate { url: url.to_owned(), member: None });
        }
        let timeout = Duration::from_millis(group.options.timeout_ms);
        let (group, hedge) = (Arc::clone(&group.state), group.options.hedge);
        Some(Plan { candidates, left_out, group, latency, hedge, timeout })
    }

    /// URLs whose responses show the health of members, with the state of each.
    pub(super) fn health(&self) -> Vec<(String, Arc<MemberState>)> {
        let all = self.groups.values().filter(|group| group.options.enabled).flat_map(|group| {
            group.members.iter().map(|member| {
                (format!("{}{}", member.options.base(), group.options.health_path), Arc::clone(&member.state))
            })
        });
        all.collect()
    }

    /// The longest patience of the routes of a group, in milliseconds.
    fn patience_ms(&self, group: &str) -> u64 {
        let routes = self.routes.values().filter(|it| it.group.as_deref() == Some(group));
        let longest = routes.map(|it| it.latency.patience()).max().unwrap_or(HEDGE_AT_FIRST);
        u64::try_from(longest.as_millis()).unwrap_or(u64::MAX)
    }

    /// Counters and state of each member and group.
    pub(super) fn report(&self, now: Instant) -> Vec<GroupReport> {
        let groups = self.groups.values().map(|group| GroupReport {
            name: group.options.name.clone(),
            is_enabled: group.options.enabled,
            hedged: group.state.hedged.load(Ordering::Relaxed),
            failed_over: group.state.failed_over.load(Ordering::Relaxed),
            patience_ms: self.patience_ms(&group.options.name),
            members: group
                .members
                .iter()
                .map(|member| MemberReport {
                    url: member.options.url.clone(),
                    is_up: member.state.is_asked(now),
                    requests: member.state.requests.load(Ordering::Relaxed),
                    failures: member.state.failures.load(Ordering::Relaxed),
                })
                .collect(),
        });
        groups.collect()
    }
}

/// A group, for status and metrics.
#[derive(Debug, Clone)]
pub struct GroupReport {
    /// Its name.
    pub name: String,
    /// Whether it is asked.
    pub is_enabled: bool,
    /// Requests also sent to a second member, since the first was silent.
    pub hedged: u64,
    /// Requests sent to another member or the origin after a failure.
    pub failed_over: u64,
    /// Time for which a member may be silent before the next one is asked as well, in milliseconds: the longest of its routes.
    pub patience_ms: u64,
    /// Its members, in the order of the configuration.
    pub members: Vec<MemberReport>,
}

/// A member, for status and metrics.
#[derive(Debug, Clone)]
pub struct MemberReport {
    /// Its URL.
    pub url: String,
    /// Whether it is in use: health is checked every few seconds, and members with truncated bodies are excluded for a while.
    pub is_up: bool,
    /// Requests sent to it.
    pub requests: u64,
    /// Requests without an answer, with a server error, or with a truncated body.
    pub failures: u64,
}

/// Members in the order in which they are asked for an object.
fn order<'a>(members: &'a [Member], url: &str) -> Vec<&'a Member> {
    let key = fnv1a(url.as_bytes());
    let mut all: Vec<(Cost, u64, &Member)> =
        members.iter().map(|it| (it.options.cost, score(key, &it.options), it)).collect();
    // Stable sort: of equal scores the first listed.
    all.sort_by_key(|(cost, score, _)| (*cost, std::cmp::Reverse(*score)));
    all.into_iter().map(|(_, _, member)| member).collect()
}

fn score(key: u64, member: &ParentMember) -> u64 {
    let seed = key ^ fnv1a(member.url.as_bytes()).rotate_left(32);
    let of = |at: u32| mix(seed.wrapping_add(u64::from(at).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    (0..member.weight).map(of).max().unwrap_or(0)
}

const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

/// The finalizer of SplitMix64.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Every mistake in groups, and in routes that name them. `listeners`: those of this box for players.
pub fn mistakes(groups: &[ParentGroup], routes: &[Route], listeners: &[SocketAddr]) -> Vec<Mistake> {
    let mut all = Vec::new();
    let mut wrong = |key: String, what: String, fix: &str| all.push(Mistake::of_value(&key, &what, fix));
    for (at, group) in groups.iter().enumerate() {
        let key = |name: &str| format!("parent[{at}].{name}");
        if group.name.is_empty() || groups[..at].iter().any(|other| other.name == group.name) {
            wrong(key("name"), format!("{:?}", group.name), "give each group a name of its own");
        }
        if !group.health_path.starts_with('/') {
            wrong(key("health_path"), format!("{:?}", group.health_path), "begin it with /");
        }
        if group.timeout_ms == 0 {
            let fix = "give at least 1; 5000 is the default, and enabled = false leaves the group out";
            wrong(key("timeout_ms"), "no member could answer in 0 ms".to_owned(), fix);
        }
        if group.members.is_empty() || group.members.len() > MAX_MEMBERS {
            let what = format!("{} members", group.members.len());
            wrong(key("member"), what, &format!("give 1 to {MAX_MEMBERS} of [[parent.member]]"));
        }
        for (number, member) in group.members.iter().enumerate() {
            let key = |name: &str| format!("parent[{at}].member[{number}].{name}");
            let rest = ["http://", "https://"].iter().find_map(|it| member.url.strip_prefix(it));
            let is_bare = rest.is_some_and(|it| {
                let host = it.trim_end_matches('/');
                !host.is_empty() && !host.contains(['/', '?', '#', '@', ' '])
            });
            if !is_bare || member.url.parse::<http::Uri>().is_err() {
                let fix = "give scheme, host and port, such as http://shield-1.example.com:8080";
                wrong(key("url"), format!("{:?}", member.url), fix);
            } else if let Some(fault) = url::of_host(&member.url).into_iter().next() {
                wrong(key("url"), fault.what, &fault.fix);
            } else if group.members[..number].iter().any(|it| is_same(&it.url, &member.url)) {
                wrong(
                    key("url"),
                    format!("{:?} is there twice", member.url),
                    "remove one; weight gives it more",
                );
            }
            if is_own(&member.url, listeners) {
                let fix = "remove it: a box in its own group asks itself; give the address of another cache";
                wrong(key("url"), format!("{:?} is this box", member.url), fix);
            }
            if !(1..=MAX_WEIGHT).contains(&member.weight) {
                wrong(key("weight"), member.weight.to_string(), &format!("give 1 to {MAX_WEIGHT}"));
            }
            if let Some(signing) = &member.sign {
                let url = member.base();
                let used = routes.iter().filter(|it| it.parents.as_ref() == Some(&group.name));
                let bases: Vec<String> = used.map(|it| format!("{url}{}", it.path)).collect();
                signing.mistakes(&bases, |name, what, fix| wrong(key(name), what.to_owned(), fix));
            }
        }
    }
    for (at, route) in routes.iter().enumerate() {
        let way = |it: &Route| it.parents.clone().filter(|_| !it.skip_shield);
        let same = |other: &Route| other.base == route.base && way(other) != way(route);
        if let Some(other) = routes[..at].iter().position(same) {
            let what =
                format!("route[{other}] has the same base and other parents, or differs in skip_shield");
            wrong(
                format!("route[{at}].parents"),
                what,
                "give both the same: an object has one way to its origin",
            );
        }
        if let Some(name) = route.parents.as_ref().filter(|name| !groups.iter().any(|it| it.name == **name)) {
            let fix = "give the name of a [[parent]]";
            wrong(format!("route[{at}].parents"), format!("{name:?} is not a group"), fix);
        }
    }
    all
}

/// Whether two URLs name the same member, in any spelling.
fn is_same(a: &str, b: &str) -> bool {
    a.trim_end_matches('/').eq_ignore_ascii_case(b.trim_end_matches('/'))
}

/// Whether a URL leads to a listener of this box, by the configuration and the machine's own addresses. Names are not resolved.
pub(crate) fn is_own(url: &str, listeners: &[SocketAddr]) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or_else(|| if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let is_here = |ip: IpAddr| {
        listeners.iter().any(|own| {
            let is_ours = || ip.is_loopback() || ip.is_unspecified() || is_of_this_machine(ip);
            own.port() == port && (own.ip().to_canonical() == ip || (own.ip().is_unspecified() && is_ours()))
        })
    };
    match host.parse::<IpAddr>() {
        Ok(ip) => is_here(ip.to_canonical()),
        Err(_) if host.eq_ignore_ascii_case("localhost") => {
            is_here(Ipv4Addr::LOCALHOST.into()) || is_here(Ipv6Addr::LOCALHOST.into())
        }
        Err(_) => {
            let name = crate::sys::hostname();
            let is_name = !name.is_empty() && host.eq_ignore_ascii_case(&name);
            is_name && listeners.iter().any(|own| own.port() == port && own.ip().is_unspecified())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::super::breaker::{Asker, RequestEnd};
    use super::*;

    const NOW: Instant = Instant::from_nanos(0);

    #[test]
    fn an_address_of_an_interface_is_this_machines_and_others_are_not() {
        assert!(is_of_this_machine(Ipv4Addr::LOCALHOST.into()));
        assert!(!is_of_this_machine(Ipv4Addr::new(192, 0, 2, 7).into()), "TEST-NET-1");
        // The address from which this machine would ask another one, if it has one.
        let own = UdpSocket::bind("0.0.0.0:0").unwrap();
        if own.connect("192.0.2.7:9").is_ok() {
            let ip = own.local_addr().unwrap().ip();
            let listeners = ["0.0.0.0:8080".parse().unwrap()];
            assert!(is_own(&format!("http://{ip}:8080/"), &listeners), "{ip}");
            assert!(!is_own(&format!("http://{ip}:8081/"), &listeners), "another port");
        }
    }

    #[test]
    fn a_member_that_cuts_bodies_is_left_out_for_longer_and_longer() {
        let member = MemberState::default();
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        assert!(member.is_asked(at(0)));
        assert_eq!(member.cut(at(1)), Some(Duration::from_secs(1)));
        assert_eq!(member.cut(at(1)), None, "what was under way together");
        assert!(!member.is_asked(at(1)) && member.is_asked(at(2)));
        assert_eq!(member.cut(at(2)), Some(Duration::from_secs(2)));
        member.whole();
        assert!(!member.is_asked(at(3)) && member.is_asked(at(4)));
        assert_eq!(member.cut(at(4)), Some(Duration::from_secs(1)));
        for _ in 0..40 {
            member.left_out_until_ns.store(0, Ordering::Relaxed);
            assert!(member.cut(at(9)).is_some_and(|it| it <= MAX_LEFT_OUT));
        }
        assert_eq!(member.failures.load(Ordering::Relaxed), 44);
    }

    #[test]
    fn a_box_is_no_parent_of_its_own() {
        let listeners: Vec<SocketAddr> =
            ["0.0.0.0:8080", "10.0.0.7:443", "[::]:8080"].map(|it| it.parse().unwrap()).into();
        for (url, own) in [
            ("http://127.0.0.1:8080", true),
            ("http://127.0.0.1:8081", false),
            ("http://localhost:8080/", true),
            ("http://[::1]:8080", true),
            ("http://[::ffff:127.0.0.1]:8080", true),
            ("https://10.0.0.7", true),
            ("http://10.0.0.7:8080", false),
            ("https://10.0.0.8", false),
            ("http://shield-1.example.com:8080", false),
        ] {
            assert_eq!(is_own(url, &listeners), own, "{url}");
        }
        let shields = group(&[member("http://127.0.0.1:8080", 1, 0)]);
        let named = |group: &ParentGroup| {
            mistakes(std::slice::from_ref(group), &[], &listeners)
                .into_iter()
                .map(|it| it.key)
                .collect::<Vec<_>>()
        };
        assert_eq!(named(&shields), ["parent[0].member[0].url"]);
        let other = ParentGroup { timeout_ms: 0, ..group(&[member("http://10.0.0.8", 1, 0)]) };
        assert_eq!(named(&other), ["parent[0].timeout_ms"]);
    }

    fn member(url: &str, weight: u32, cost: u64) -> ParentMember {
        ParentMember { url: url.to_owned(), weight, cost: Cost(cost), sign: None }
    }

    fn group(members: &[ParentMember]) -> ParentGroup {
        ParentGroup {
            name: "shields".to_owned(),
            enabled: true,
            hedge: true,
            timeout_ms: 5000,
            origin_last: true,
            health_path: "/".to_owned(),
            members: members.to_vec(),
        }
    }

    fn parents(group: &ParentGroup) -> Parents {
        let route = Route {
            path: "/vod/".to_owned(),
            base: "https://origin.example/films/".to_owned(),
            parents: Some("shields".to_owned()),
            ..Route::default()
        };
        Parents::new(std::slice::from_ref(group), &[route], &Parents::default())
    }

    fn urls(parents: &Parents, name: &str) -> Vec<String> {
        let plan =
            parents.plan(&format!("https://origin.example/films/{name}"), &Breakers::default(), NOW).unwrap();
        plan.candidates.into_iter().map(|it| it.url).collect()
    }

    #[test]
    fn the_hash_is_the_one_that_is_written_down() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c, "a published vector of FNV-1a");
        assert_eq!(
            mix(0x9e37_79b9_7f4a_7c15),
            0xe220_a839_7b1d_cdaf,
            "the first number of SplitMix64 with seed 0"
        );
        let members = ["http://a:1", "http://b:1", "http://c:1"].map(|it| member(it, 1, 0));
        let parents = parents(&group(&members));
        let first = |name: &str| urls(&parents, name)[0].clone();
        let chosen: Vec<_> = (0..8).map(|at| first(&format!("{at}.m4s"))).collect();
        let host = |url: &String| url.as_bytes()[7] as char;
        assert_eq!(chosen.iter().map(host).collect::<String>(), PINNED);
        assert!(chosen[0].ends_with(":1/vod/0.m4s"), "{chosen:?}");
    }

    /// The first parent of `0.m4s` to `7.m4s`: a change moves what all caches hold.
    const PINNED: &str = "cbaacaaa";

    #[test]
    fn an_object_has_its_own_order_and_a_loss_moves_only_its_share() {
        let members: Vec<_> = (0..4).map(|at| member(&format!("http://s{at}:80"), 1 + at % 2, 0)).collect();
        let parents = parents(&group(&members));
        let names: Vec<String> = (0..6000).map(|at| format!("{at}.m4s")).collect();
        let share = |parents: &Parents| {
            let mut counts = BTreeMap::new();
            for name in &names {
                let all = urls(parents, name);
                assert_eq!(*all.last().unwrap(), format!("https://origin.example/films/{name}"));
                *counts.entry(all[0][..10].to_owned()).or_insert(0) += 1;
            }
            counts
        };
        let before = share(&parents);
        for (url, expected) in
            [("http://s0:", 1000), ("http://s1:", 2000), ("http://s2:", 1000), ("http://s3:", 2000)]
        {
            let got = before[url];
            assert!((expected * 9 / 10..expected * 11 / 10).contains(&got), "{url}: {got} of {expected}");
        }
        let old: Vec<String> = names.iter().map(|name| urls(&parents, name)[0].clone()).collect();
        let lost = &parents.groups["shields"].members[1].state;
        assert!(
            !lost.looked(false) && lost.looked(false) && !lost.looked(false),
            "down with the second look"
        );
        for (name, old) in names.iter().zip(&old) {
            let new = &urls(&parents, name)[0];
            assert!(new == old || old.starts_with("http://s1:"), "{name}: {old} {new}");
        }
        assert!(!share(&parents).contains_key("http://s1:"));
        assert!(lost.looked(true));
        assert_eq!(share(&parents), before);
        // An open circuit leaves it out as well, before the second look.
        let breakers = Breakers::default();
        for number in 0..5 {
            breakers.note(&format!("http://s1:80/vod/{number}"), Asker::Own, RequestEnd::Unreachable, NOW);
        }
        let plan = |name: &str| {
            parents.plan(&format!("https://origin.example/films/{name}"), &breakers, NOW).unwrap().candidates
        };
        for (name, old) in names.iter().zip(&old) {
            let new = &plan(name)[0].url;
            assert!(!new.starts_with("http://s1:") && (new == old || old.starts_with("http://s1:")), "{new}");
        }
    }

    #[test]
    fn what_costs_more_is_asked_later_and_a_group_can_be_left_out() {
        let members = [member("http://dear:1", 1, 85), member("http://cheap:1", 1, 10)];
        let options = group(&members);
        let all = urls(&parents(&options), "a");
        assert_eq!(all, ["http://cheap:1/vod/a", "http://dear:1/vod/a", "https://origin.example/films/a"]);
        let off = ParentGroup { enabled: false, ..options.clone() };
        assert!(parents(&off).plan("https://origin.example/films/a", &Breakers::default(), NOW).is_none());
        let alone = parents(&ParentGroup { origin_last: false, ..options.clone() });
        assert_eq!(urls(&alone, "a").len(), 2);
        let [dear, cheap] = [0, 1].map(|at| &alone.groups["shields"].members[at].state);
        cheap.is_down.store(true, Ordering::Relaxed);
        assert_eq!(urls(&alone, "a"), ["http://dear:1/vod/a"]);
        // None is known to be up: one of them may be, and the origin is not to be asked.
        dear.is_down.store(true, Ordering::Relaxed);
        assert_eq!(urls(&alone, "a"), ["http://cheap:1/vod/a", "http://dear:1/vod/a"]);
        assert!(parents(&options).plan("https://origin.example/other", &Breakers::default(), NOW).is_none());
        // A route with a longer base and no parents goes to its origin.
        let below = Route { base: "https://origin.example/films/own/".into(), ..Route::default() };
        let above = Route {
            base: "https://origin.example/films/".into(),
            parents: Some("shields".into()),
            ..Route::default()
        };
        let both = Parents::new(std::slice::from_ref(&options), &[below, above], &Parents::default());
        assert!(both.plan("https://origin.example/films/own/a", &Breakers::default(), NOW).is_none());
        assert!(both.plan("https://origin.example/films/a", &Breakers::default(), NOW).is_some());
        // Measurements outlive a reload.
        let before = parents(&options);
        before.groups["shields"].members[1].state.looked(false);
        before.groups["shields"].members[1].state.looked(false);
        let route = Route {
            base: "https://origin.example/films/".into(),
            parents: Some("shields".into()),
            ..Route::default()
        };
        let after = Parents::new(&[options], &[route], &before);
        assert_eq!(
            after.plan("https://origin.example/films/a", &Breakers::default(), NOW).unwrap().candidates.len(),
            2
        );
    }

    #[test]
    fn costs_are_decimals_in_their_order_and_members_are_signed_each_for_itself() {
        let text = "name = 'cdns'\norigin_last = false\n[[member]]\nurl = 'https://d1.cloudfront.net'\ncost = 0.085\n\
             [member.sign]\nform = 'cloudfront'\nkey_pair_id = 'K1'\nsecret_file = '/x'\nresource = 'https://d1.cloudfront.net/vod/*'\n\
             [[member]]\nurl = 'https://x.b-cdn.net/'\ncost = 0.01\n[member.sign]\nform = 'bunny'\nsecret_file = '/y'\n\
             [[member]]\nurl = 'http://far'\ncost = 1";
        let group: ParentGroup = toml::from_str(text).unwrap();
        let route = Route {
            path: "/vod/".into(),
            base: "https://origin.example/films/".into(),
            parents: Some("cdns".into()),
            ..Route::default()
        };
        let parents =
            Parents::new(std::slice::from_ref(&group), std::slice::from_ref(&route), &Parents::default());
        let all = ["https://x.b-cdn.net/vod/a", "https://d1.cloudfront.net/vod/a", "http://far/vod/a"];
        assert_eq!(urls(&parents, "a"), all);
        let written = toml::to_string(&group).unwrap();
        assert!(written.contains("cost = 0.085\n") && written.contains("cost = 1\n"), "{written}");
        assert_eq!(toml::from_str::<ParentGroup>(&written).unwrap(), group);
        for wrong in ["-1", "-0.1", "nan", "inf", "1e10", "'1'"] {
            let text = text.replace("cost = 0.01", &format!("cost = {wrong}"));
            let err = toml::from_str::<ParentGroup>(&text).unwrap_err().to_string();
            assert!(err.contains("a number from 0 to 1000000000, such as 1 or 0.085"), "{wrong}: {err}");
            assert!(wrong != "-1" || err.contains("invalid value: the number -1, expected"), "{err}");
        }
        let bases: Vec<_> = signed_bases(std::slice::from_ref(&group)).map(|it| it.0).collect();
        assert_eq!(bases, ["https://d1.cloudfront.net/", "https://x.b-cdn.net/"]);
        let named = |text: &str, routes: &[Route]| {
            let groups = [toml::from_str::<ParentGroup>(text).unwrap()];
            mistakes(&groups, routes, &[]).into_iter().map(|it| it.key).collect::<Vec<_>>()
        };
        assert!(named(text, std::slice::from_ref(&route)).is_empty());
        let other = Route { path: "/live/".into(), ..route };
        assert_eq!(named(text, &[other]), ["parent[0].member[0].sign.resource"]);
        let text = text.replace("key_pair_id = 'K1'", "");
        assert_eq!(named(&text, &[]), ["parent[0].member[0].sign.key_pair_id"]);
    }

    #[test]
    fn a_second_parent_is_asked_after_the_95th_percentile() {
        let (group, latency) = (GroupState::default(), RouteLatency::default());
        assert_eq!(latency.patience(), HEDGE_AT_FIRST);
        for at in 0..1000 {
            latency.took(Duration::from_millis(if at % 10 == 0 { 400 } else { 10 }));
        }
        let slow = latency.patience();
        assert!((Duration::from_millis(400)..Duration::from_millis(500)).contains(&slow), "{slow:?}");
        for _ in 0..20_000 {
            latency.took(Duration::from_millis(10));
        }
        assert_eq!(latency.patience(), HEDGE_LEAST);
        // Extra requests: a fifth of the first ones, once what was saved up is spent.
        assert_eq!((0..100).filter(|_| group.spend()).count(), 20);
        assert_eq!(
            (0..100)
                .filter(|_| {
                    group.earn();
                    group.spend()
                })
                .count(),
            20
        );
    }

    #[test]
    fn each_route_has_a_percentile_of_its_own_and_may_skip_its_parents() {
        let group = group(&[member("http://a:1", 1, 0), member("http://b:1", 1, 0)]);
        let route = |path: &str, skip_shield| Route {
            path: path.to_owned(),
            base: format!("https://origin.example{path}"),
            parents: Some("shields".into()),
            skip_shield,
            ..Route::default()
        };
        let of =
            |routes: &[Route], before: &Parents| Parents::new(std::slice::from_ref(&group), routes, before);
        let plan = |parents: &Parents, url: &str| {
            parents.plan(&format!("https://origin.example{url}"), &Breakers::default(), NOW)
        };
        let parents = of(&[route("/live/", false), route("/vod/", false)], &Parents::default());
        let patience = |parents: &Parents, url| plan(parents, url).unwrap().latency.patience();
        for _ in 0..100 {
            plan(&parents, "/live/1").unwrap().latency.took(Duration::from_millis(10));
            plan(&parents, "/vod/1").unwrap().latency.took(Duration::from_millis(300));
        }
        let is_slow = |it: Duration| (Duration::from_millis(300)..Duration::from_millis(400)).contains(&it);
        assert_eq!(patience(&parents, "/live/2"), HEDGE_LEAST);
        assert!(is_slow(patience(&parents, "/vod/2")));
        assert!(is_slow(Duration::from_millis(parents.report(NOW)[0].patience_ms)), "the longest is shown");
        // A reload keeps them, and may send one route past its parents.
        let parents = of(&[route("/live/", true), route("/vod/", false)], &parents);
        assert!(plan(&parents, "/live/2").is_none() && is_slow(patience(&parents, "/vod/2")));
        let parents = of(&[route("/live/", false), route("/vod/", false)], &parents);
        assert_eq!(patience(&parents, "/live/2"), HEDGE_LEAST);
    }

    #[test]
    fn mistakes_are_named() {
        let keys = |groups: &[ParentGroup], routes: &[Route]| {
            mistakes(groups, routes, &[]).into_iter().map(|it| it.key).collect::<Vec<_>>()
        };
        let good = group(&[member("http://a:1", 1, 0), member("https://b/", 100, 0)]);
        let route = Route { parents: Some("other".into()), ..Route::default() };
        assert_eq!(keys(std::slice::from_ref(&good), &[route]), ["route[0].parents"]);
        assert_eq!(keys(&[good.clone(), good.clone()], &[]), ["parent[1].name"]);
        for wrong in ["a:1", "http://a/b", "ftp://a", "http://", "http://u@a", "http://999.1.1.1:80/"] {
            let group = group(&[member(wrong, 1, 0)]);
            assert_eq!(keys(&[group], &[]), ["parent[0].member[0].url"], "{wrong}");
        }
        assert_eq!(keys(&[group(&[member("http://a", 0, 0), member("http://a", 101, 0)])], &[]).len(), 3);
        let twice = group(&[member("http://a", 1, 0), member("http://A/", 1, 0)]);
        assert_eq!(keys(&[twice], &[]), ["parent[0].member[1].url"]);
        let of = |base: &str, parents: Option<&str>| Route {
            base: base.into(),
            parents: parents.map(Into::into),
            ..Route::default()
        };
        let named = std::slice::from_ref(&good);
        assert_eq!(
            keys(named, &[of("http://o/", None), of("http://o/", Some("shields"))]),
            ["route[1].parents"]
        );
        assert!(keys(named, &[of("http://o/", None), of("http://o/a/", Some("shields"))]).is_empty());
        let skips = Route { skip_shield: true, ..of("http://o/", Some("shields")) };
        assert_eq!(keys(named, &[of("http://o/", Some("shields")), skips.clone()]), ["route[1].parents"]);
        assert!(keys(named, &[of("http://o/", None), skips]).is_empty());
        let many: Vec<_> = (0..=MAX_MEMBERS).map(|at| member(&format!("http://s{at}"), 1, 0)).collect();
        assert_eq!(keys(&[group(&many)], &[]), ["parent[0].member"]);
        assert!(keys(&[group(&many[1..])], &[]).is_empty());
    }
}
