//! Services that players request: which one a URL belongs to, when it was requested last, and whether its groups are joined.
//!
//! The session thread writes the services and which of them are joined; responses record requests and read. A request costs
//! a hash for each length of URL prefix that services have, and only short locks.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use carousel::mabr::{ServiceSpec, playback_path_matches};
use carousel::name::ObjectKey;
use carousel::time::Instant;

/// Time after joining the groups of a service within which its objects are expected.
const JOINING: Duration = Duration::from_secs(10);

/// Whether the groups of a service are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Membership {
    /// They are not joined: the service is not requested.
    Left = 0,
    /// They are.
    Joined = 1,
    /// They are not joined, since the limit of bits a second leaves no room.
    Refused = 2,
}

/// One service.
#[derive(Debug)]
pub struct Service {
    /// Its identifier.
    pub id: String,
    /// Nanoseconds of the monotonic clock, plus one; 0: never.
    asked_at: AtomicU64,
    joined_at: AtomicU64,
    membership: AtomicU8,
}

fn store(at: &AtomicU64, now: Instant) {
    at.store(now.as_nanos().saturating_add(1), Ordering::Relaxed);
}

fn load(at: &AtomicU64) -> Option<Instant> {
    at.load(Ordering::Relaxed).checked_sub(1).map(Instant::from_nanos)
}

impl Service {
    fn new(id: String) -> Self {
        let [asked_at, joined_at] = [0; 2].map(AtomicU64::new);
        Self { id, asked_at, joined_at, membership: AtomicU8::new(Membership::Left as u8) }
    }

    /// Time of the last request of a player for it.
    pub fn asked_at(&self) -> Option<Instant> {
        load(&self.asked_at)
    }

    /// Whether its groups are joined.
    pub fn membership(&self) -> Membership {
        match self.membership.load(Ordering::Relaxed) {
            1 => Membership::Joined,
            2 => Membership::Refused,
            _ => Membership::Left,
        }
    }

    /// Sets whether its groups are joined from now on.
    pub fn set_membership(&self, now: Instant, membership: Membership) {
        if membership == Membership::Joined && self.membership() != Membership::Joined {
            store(&self.joined_at, now);
        }
        self.membership.store(membership as u8, Ordering::Relaxed);
    }

    /// Time since which its groups are joined.
    pub fn joined_at(&self) -> Option<Instant> {
        load(&self.joined_at).filter(|_| self.membership() == Membership::Joined)
    }
}

/// Result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// It has no known service, or its service has been received for a while.
    Usual,
    /// The groups of its service were just requested, or have been joined since this instant.
    Joining(Instant),
    /// The groups of its service cannot be joined: the limit leaves no room.
    Refused,
}

#[derive(Debug, Default)]
struct Table {
    services: Vec<Arc<Service>>,
    /// Beginnings of keys; those that two services share are left out.
    beginnings: HashMap<String, usize>,
    lengths: BTreeSet<usize>,
    patterns: Vec<(String, usize)>,
}

impl Table {
    fn find(&self, key: &str) -> Option<&Arc<Service>> {
        let beginnings = self.lengths.iter().rev().filter_map(|&length| key.get(..length));
        let by_beginning = || beginnings.into_iter().find_map(|it| self.beginnings.get(it));
        let by_pattern = || {
            let path = key.find('/').map(|at| &key[at..])?;
            let path = path.split('?').next().unwrap_or(path);
            self.patterns.iter().find(|(pattern, _)| playback_path_matches(pattern, path)).map(|(_, at)| at)
        };
        self.services.get(*by_beginning().or_else(by_pattern)?)
    }
}

/// Services with the times of their newest requests. As many as the directory of sessions and the configuration have.
#[derive(Default)]
pub struct Services {
    table: RwLock<Arc<Table>>,
    /// Manifests in the order of the list of channels, and whether the session thread knows them.
    order: Mutex<(Vec<ObjectKey>, bool)>,
    /// A service that is not joined was requested, and the session thread has not seen it yet.
    has_news: AtomicBool,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("table", &self.table()).finish_non_exhaustive()
    }
}

/// The folder of a URL as the beginning of keys; `None` if it is not a web URL.
fn beginning_of(url: &str) -> Option<String> {
    let url = url.split(['?', '#']).next().unwrap_or(url);
    let folder = &url[..=url.rfind('/')?];
    let key = ObjectKey::from_name(&format!("{folder}x"), None).ok()?;
    key.as_str().strip_suffix('x').map(str::to_owned)
}

impl Services {
    /// Wakes the session thread when a service is requested that is not joined.
    pub fn wake_by(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Replaces the services, and keeps the state of those that stay. A prefix or pattern of several services identifies
    /// none of them.
    pub fn set(&self, specs: &[ServiceSpec]) {
        let before = self.table();
        let mut table = Table::default();
        let mut owners: HashMap<String, Option<usize>> = HashMap::new();
        for (at, spec) in specs.iter().enumerate() {
            let known = before.services.iter().find(|it| it.id == spec.id).cloned();
            table.services.push(known.unwrap_or_else(|| Arc::new(Service::new(spec.id.clone()))));
            for beginning in spec.manifests.iter().chain(&spec.bases).filter_map(|it| beginning_of(it)) {
                let owner = owners.entry(beginning).or_insert(Some(at));
                *owner = owner.filter(|it| *it == at);
            }
            table.patterns.extend(spec.path_patterns.iter().map(|it| (it.clone(), at)));
        }
        let is_shared = |pattern: &str, at: usize| {
            specs
                .iter()
                .enumerate()
                .any(|(other, it)| other != at && it.path_patterns.iter().any(|it| it == pattern))
        };
        table.patterns.retain(|(pattern, at)| !is_shared(pattern, *at));
        table.beginnings = owners.into_iter().filter_map(|(it, owner)| Some((it, owner?))).collect();
        table.lengths = table.beginnings.keys().map(String::len).collect();
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }

    fn table(&self) -> Arc<Table> {
        // A poisoned lock still holds a complete table: it is only ever replaced.
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// All of them, in the order of the list of channels.
    pub fn all(&self) -> Vec<Arc<Service>> {
        self.table().services.clone()
    }

    /// The service of a key.
    pub fn of(&self, key: &ObjectKey) -> Option<Arc<Service>> {
        self.table().find(key.as_str()).cloned()
    }

    /// Records a player's request for this key, for which its service may be joined.
    pub fn asked(&self, key: &ObjectKey, now: Instant) -> Demand {
        let Some(service) = self.of(key) else { return Demand::Usual };
        store(&service.asked_at, now);
        match service.membership() {
            Membership::Joined => match service.joined_at() {
                Some(since) if now.since(since) < JOINING => Demand::Joining(since),
                _ => Demand::Usual,
            },
            membership => {
                self.notify();
                if membership == Membership::Refused { Demand::Refused } else { Demand::Joining(now) }
            }
        }
    }

    fn notify(&self) {
        if !self.has_news.swap(true, Ordering::AcqRel)
            && let Some(wake) = self.wake.get()
        {
            wake();
        }
    }

    /// Replaces the manifests of channels, in the order of the list of channels, which gives the neighbours of each.
    pub fn set_order(&self, manifests: Vec<ObjectKey>) {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if order.0 != manifests {
            *order = (manifests, true);
            drop(order);
            self.notify();
        }
    }

    /// Manifests in the order of the list of channels.
    pub fn order(&self) -> Vec<ObjectKey> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Called by the session thread when it reads the requests: later requests wake it again. True if the order has changed
    /// since its last call.
    pub fn looking(&self) -> bool {
        self.has_news.store(false, Ordering::Release);
        std::mem::take(&mut self.order.lock().unwrap_or_else(PoisonError::into_inner).1)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::from_name(name, None).unwrap()
    }

    fn spec(id: &str, manifests: &[&str], bases: &[&str], patterns: &[&str]) -> ServiceSpec {
        let owned = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect();
        ServiceSpec {
            id: id.to_owned(),
            manifests: owned(manifests),
            bases: owned(bases),
            path_patterns: owned(patterns),
        }
    }

    fn at(s: u64) -> Instant {
        Instant::from_nanos(0) + Duration::from_secs(s)
    }

    #[test]
    fn a_url_belongs_to_the_service_with_the_longest_beginning() {
        let services = Services::default();
        services.set(&[
            spec("one", &["https://cdn.example/live/one/a.mpd?x=1"], &["https://cdn.example/"], &[]),
            spec("two", &["https://cdn.example/live/two/a.m3u8"], &["https://cdn.example/"], &["/p/*"]),
            spec("deep", &["https://cdn.example/live/one/deep/a.m3u8"], &["no url"], &["/p/*", "/q/*"]),
        ]);
        let of = |name: &str| services.of(&key(name)).map(|it| it.id.clone());
        assert_eq!(of("http://cdn.example/live/one/v/7.m4s").as_deref(), Some("one"));
        assert_eq!(of("http://cdn.example/live/one/deep/7.m4s").as_deref(), Some("deep"));
        assert_eq!(of("http://cdn.example/live/two/7.m4s").as_deref(), Some("two"));
        assert_eq!(of("http://cdn.example/film/7.m4s"), None, "below a base that two services share");
        assert_eq!(
            (of("http://other.example/p/7"), of("http://other.example/q/7?a")),
            (None, Some("deep".into()))
        );
    }

    #[test]
    fn a_request_wakes_once_and_a_service_is_joining_for_a_while() {
        let services = Services::default();
        services.set(&[spec("one", &["http://h/one/a.mpd"], &[], &[])]);
        let woken = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&woken);
        services.wake_by(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let (asked, other) = (key("http://h/one/1.m4s"), key("http://h/two/1.m4s"));
        assert_eq!(services.asked(&other, at(1)), Demand::Usual);
        assert_eq!(services.asked(&asked, at(1)), Demand::Joining(at(1)));
        services.asked(&asked, at(1));
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        assert!(!services.looking());
        let one = services.all().remove(0);
        one.set_membership(at(2), Membership::Joined);
        assert_eq!(services.asked(&asked, at(5)), Demand::Joining(at(2)));
        assert_eq!(services.asked(&asked, at(12)), Demand::Usual);
        one.set_membership(at(13), Membership::Left);
        one.set_membership(at(15), Membership::Joined);
        one.set_membership(at(16), Membership::Joined);
        assert_eq!(services.asked(&asked, at(17)), Demand::Joining(at(15)));
        one.set_membership(at(20), Membership::Refused);
        assert_eq!(services.asked(&asked, at(21)), Demand::Refused);
        assert_eq!(woken.load(Ordering::Relaxed), 2, "room may have come");
        assert_eq!(one.asked_at(), Some(at(21)));
        services.set_order(vec![asked.clone()]);
        services.set_order(vec![asked.clone()]);
        assert!(services.looking() && !services.looking() && services.order() == [asked]);
        // The state of a service that stays is kept.
        services.set(&[spec("one", &["http://h/one/a.mpd"], &[], &[]), spec("two", &[], &[], &[])]);
        assert_eq!(services.all()[0].membership(), Membership::Refused);
    }
}
