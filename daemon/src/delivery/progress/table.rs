//! Tables of objects in flight and of announced objects, by key.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use carousel::digest::Digest;
use carousel::flute::File;
use carousel::name::ObjectKey;
use carousel::query::IgnoredQuery;
use carousel::reason::Counts;
use event_listener::{Event, EventListener};

use super::{FailReason, Flight, ObjectRef, Outcome, Rank};
use crate::bounded::BoundedMap;
use crate::memory::MAX_ANNOUNCED;
use crate::store::Store;

carousel::limits! {
    /// Incomplete objects from which players can be served.
    pub(super) const MAX_FLIGHTS: usize = 16_384, "objects" {
        why: "All sessions' objects in flight, and some hundred fills from origins.",
        full: "An object of the carousel is served when it is complete; a fill is passed through and not kept.",
        free: "When an object is complete or given up.",
        test: "objects_in_flight_beyond_the_limit_are_refused_and_counted_until_one_ends",
    }

    /// Flights of one object by further sessions, of which players see the first only.
    const MAX_RESERVE_FLIGHTS: usize = 4, "flights" {
        why: "A link has two senders while one takes over; anybody can repeat descriptions.",
        full: "One of lower rank makes room; else an object is received without players waiting for it, and they get it when it is published.",
        free: "When the object is complete, or the flight is given up.",
        test: "a_flight_of_a_session_that_has_brought_nothing_takes_no_players_from_another",
    }
}

/// An object that is described by an FDT and has not arrived yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announced {
    /// SHA-256 of the object, if the FDT has one that applies to what an origin would send.
    pub digest: Option<Digest>,
    /// Bytes of the object.
    pub length: Option<u64>,
    /// MIME type.
    pub content_type: Option<String>,
    /// Its TOI.
    pub version: u64,
    /// Query parameters that do not distinguish it.
    pub ignored_query: IgnoredQuery,
}

impl Announced {
    /// The FDT's description of an object, in the form in which an origin would send it.
    pub fn of(file: &File) -> Self {
        Self {
            digest: file.object_digest(),
            length: file.object_length(),
            content_type: file.content_type.clone(),
            version: file.version(),
            ignored_query: file.ignored_query.clone(),
        }
    }
}

#[derive(Debug)]
struct Tables {
    flights: HashMap<ObjectKey, Arc<Flight>>,
    /// Flights of the same object by other sessions, which take the place of the one in `flights` if that fails or stalls.
    reserve: HashMap<ObjectKey, Vec<Arc<Flight>>>,
    /// With the session that described it last, and whether another session described it before.
    announced: BoundedMap<ObjectKey, (ObjectRef, Announced, bool)>,
}

/// Passes a client's request to the shard that has the object; false if it is too busy.
type Requests = Box<dyn Fn(ObjectRef) -> bool + Send + Sync>;

/// All flights, and what is announced.
pub struct Flights {
    tables: Mutex<Tables>,
    appeared: Event,
    requests: OnceLock<Requests>,
    failed: Counts<FailReason>,
    refused: AtomicU64,
}

impl std::fmt::Debug for Flights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flights").field("tables", &self.tables).finish_non_exhaustive()
    }
}

impl Flights {
    /// An empty table.
    pub fn new() -> Arc<Self> {
        Self::within(MAX_ANNOUNCED)
    }

    /// An empty table for at most so many announced names, [`MAX_ANNOUNCED`] at most.
    pub fn within(most_announced: usize) -> Arc<Self> {
        let announced = BoundedMap::new(most_announced.min(MAX_ANNOUNCED));
        let tables = Tables { flights: HashMap::new(), reserve: HashMap::new(), announced };
        Arc::new(Self {
            tables: Mutex::new(tables),
            appeared: Event::new(),
            requests: OnceLock::new(),
            failed: Default::default(),
            refused: AtomicU64::new(0),
        })
    }

    /// Sets the receiver of clients' requests for objects in flight; only the first call counts.
    pub fn pass_requests(&self, requests: impl Fn(ObjectRef) -> bool + Send + Sync + 'static) {
        let _ = self.requests.set(Box::new(requests));
    }

    /// The flight of this key.
    pub fn get(&self, key: &str) -> Option<Arc<Flight>> {
        self.tables().flights.get(key).cloned()
    }

    /// Adds a flight. `Err` with the present one if its key is taken; `Err(None)` if the table is full.
    ///
    /// # Errors
    /// See above.
    pub fn add(&self, flight: Arc<Flight>) -> Result<(), Option<Arc<Flight>>> {
        let mut tables = self.tables();
        if let Some(taken) = tables.flights.get(&flight.key) {
            return Err(Some(Arc::clone(taken)));
        }
        if tables.flights.len() >= MAX_FLIGHTS {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(None);
        }
        tables.flights.insert(flight.key.clone(), flight);
        drop(tables);
        self.appeared.notify(usize::MAX);
        Ok(())
    }

    /// Adds a flight and ends the one with the same key: the carousel's newer version of an object replaces an older one.
    /// `None` if the table is full.
    pub fn replace(&self, flight: Arc<Flight>) -> Option<()> {
        self.put_first(self.tables(), flight)
    }

    fn put_first(&self, mut tables: MutexGuard<'_, Tables>, flight: Arc<Flight>) -> Option<()> {
        let taken = tables.flights.get(&flight.key).cloned();
        if taken.is_none() && tables.flights.len() >= MAX_FLIGHTS {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        // Those in reserve are of the object that is replaced, unless this is the same.
        tables.retain_reserve(&flight.key, |it| it.is_same_object(&flight));
        tables.flights.insert(flight.key.clone(), flight);
        drop(tables);
        if let Some(taken) = taken {
            self.end_replaced(&taken);
        }
        self.appeared.notify(usize::MAX);
        Some(())
    }

    /// Adds the flight of an object that a carousel brings. One of the same object by another session, which is under way and not of
    /// a lower rank, keeps its place, and this one is kept in reserve: anybody can repeat the description of an object. Any other
    /// with the same key is replaced. `None` if the table is full.
    pub fn offer(&self, flight: Arc<Flight>) -> Option<()> {
        let mut tables = self.tables();
        let taken = tables.flights.get(&flight.key);
        let keeps_place = taken.is_some_and(|taken| {
            let is_of_other =
                taken.received_as().map(|it| it.session) != flight.received_as().map(|it| it.session);
            let is_outranked = flight.rank() < taken.rank();
            let is_equal = flight.rank() == taken.rank() && taken.is_same_object(&flight);
            taken.symbols().is_some() && is_of_other && !taken.has_stalled() && (is_outranked || is_equal)
        });
        if !keeps_place {
            return self.put_first(tables, flight);
        }
        if taken.is_some_and(|taken| taken.is_same_object(&flight)) {
            let reserve = tables.reserve.entry(flight.key.clone()).or_default();
            if reserve.len() >= MAX_RESERVE_FLIGHTS
                && let Some(lowest) = (0..reserve.len()).min_by_key(|&at| reserve[at].rank())
                && reserve[lowest].rank() < flight.rank()
            {
                reserve.remove(lowest);
            }
            if reserve.len() < MAX_RESERVE_FLIGHTS {
                reserve.push(flight);
            }
        }
        Some(())
    }

    /// A flight has stalled: one in reserve that has not takes its place, for its readers too.
    pub fn stalled(&self, flight: &Arc<Flight>) {
        let mut tables = self.tables();
        let is_first = tables.flights.get(&flight.key).is_some_and(|have| Arc::ptr_eq(have, flight));
        if is_first && tables.promote(&flight.key, |it| !it.has_stalled()) {
            drop(tables);
            self.end_replaced(flight);
            self.appeared.notify(usize::MAX);
        }
    }

    fn end_replaced(&self, flight: &Flight) {
        self.failed.add(FailReason::Replaced);
        flight.end(Outcome::Failed(FailReason::Replaced));
    }

    /// Removes a flight from the table. Its readers keep it; new requests do not join it.
    pub fn withdraw(&self, flight: &Arc<Flight>) {
        let mut tables = self.tables();
        if tables.flights.get(&flight.key).is_some_and(|have| Arc::ptr_eq(have, flight)) {
            tables.flights.remove(&flight.key);
        }
    }

    /// Ends a flight and takes it out of the table.
    pub fn end(&self, flight: &Arc<Flight>, outcome: Outcome) {
        let mut tables = self.tables();
        tables.retain_reserve(&flight.key, |it| !std::ptr::eq(it, &raw const **flight));
        let (mut outcome, mut same) = (outcome, Vec::new());
        let is_first = tables.flights.get(&flight.key).is_some_and(|have| Arc::ptr_eq(have, flight));
        if is_first {
            tables.flights.remove(&flight.key);
        }
        // Another takes its place, or an object is held that had no flight in the table.
        let has_appeared = match &outcome {
            Outcome::Complete(_) => {
                tables.announced.remove(&flight.key);
                same = tables.take_same(flight);
                !is_first
            }
            Outcome::Passed(_) => false,
            Outcome::Failed(reason) => {
                self.failed.add(*reason);
                let has_next = is_first && tables.promote(&flight.key, |_| true);
                // Wrong bytes of a session that may only repeat what others describe say nothing about the object.
                let is_untold = *reason == FailReason::Verify && flight.rank() == Rank::Unproven;
                if has_next || is_untold {
                    outcome = Outcome::Failed(FailReason::Replaced);
                }
                has_next
            }
        };
        if tables.flights.capacity() > 4 * tables.flights.len() + 64 {
            tables.flights.shrink_to_fit();
        }
        drop(tables);
        for other in same {
            other.end(outcome.clone());
        }
        flight.end(outcome);
        if has_appeared {
            self.appeared.notify(usize::MAX);
        }
    }

    /// Records the FDT's description of an object.
    pub fn announce(&self, key: ObjectKey, object: ObjectRef, announced: Announced) {
        let mut tables = self.tables();
        let before = tables.announced.get(&key);
        let by_several = before.is_some_and(|(by, _, several)| *several || by.session != object.session);
        tables.announced.insert(key, (object, announced, by_several));
        drop(tables);
        self.appeared.notify(usize::MAX);
    }

    /// Removes the description of an object that is held, gone, or no longer described. An announcement by another
    /// session stays.
    pub fn retract(&self, key: &str, object: &ObjectRef) {
        let mut tables = self.tables();
        if tables.announced.get(key).is_some_and(|(by, ..)| by == object) {
            tables.announced.remove(key);
        }
    }

    /// Description of this key by an FDT.
    pub fn announced(&self, key: &str) -> Option<Announced> {
        self.tables().announced.get(key).map(|(_, announced, _)| announced.clone())
    }

    /// The object that an FDT describes under this key, and whether other sessions describe one too.
    pub fn announced_as(&self, key: &str) -> Option<(ObjectRef, bool)> {
        self.tables().announced.get(key).map(|(object, _, by_several)| (*object, *by_several))
    }

    /// Whether an object is in flight or held. Checked in the order in which objects move, so that none is missed in between.
    pub fn has_begun_or_is_in(&self, store: &Store, key: &str) -> bool {
        self.get(key).is_some() || store.contains(key)
    }

    /// Whether an object is announced, in flight or held; checked in this order, too.
    pub fn expects_or_is_in(&self, store: &Store, key: &str) -> bool {
        self.announced(key).is_some() || self.has_begun_or_is_in(store, key)
    }

    /// Completes when the next flight or announcement is added, or an object is held that had no flight in the table. Check the table after this call and before waiting.
    pub fn listen(&self) -> EventListener {
        self.appeared.listen()
    }

    /// Passes on a client's request: the flight is repaired without waiting for the carousel.
    pub fn request(&self, flight: &Arc<Flight>) {
        let (Some(requests), Some(object)) = (self.requests.get(), flight.received_as()) else { return };
        if !flight.is_requested.swap(true, Ordering::Relaxed) && !requests(object) {
            flight.request_seen();
        }
    }

    /// The current flights, in no order.
    pub fn list(&self) -> Vec<Arc<Flight>> {
        self.tables().flights.values().cloned().collect()
    }

    /// Number of announced objects that have not arrived.
    pub fn announced_count(&self) -> usize {
        self.tables().announced.len()
    }

    /// Failed flights by reason, and the number refused because the table was full.
    pub fn failures(&self) -> (&Counts<FailReason>, u64) {
        (&self.failed, self.refused.load(Ordering::Relaxed))
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Every change of the tables is one insertion or removal, so a panic elsewhere leaves them consistent.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// Puts the best flight in reserve that is `fit` in the first place of its key. False: there is none.
    fn promote(&mut self, key: &ObjectKey, fit: impl Fn(&Flight) -> bool) -> bool {
        let Some(reserve) = self.reserve.get_mut(key) else { return false };
        let fit = (0..reserve.len()).filter(|&at| fit(&reserve[at]));
        let best = fit
            .max_by_key(|&at| (reserve[at].rank(), !reserve[at].has_stalled(), reserve[at].received_bytes()));
        let Some(best) = best else { return false };
        let flight = reserve.swap_remove(best);
        if reserve.is_empty() {
            self.reserve.remove(key);
        }
        self.flights.insert(key.clone(), flight);
        true
    }

    /// Keeps in the reserve of a key what is `fit`.
    fn retain_reserve(&mut self, key: &ObjectKey, fit: impl Fn(&Flight) -> bool) {
        if let Some(reserve) = self.reserve.get_mut(key) {
            reserve.retain(|it| fit(it));
            if reserve.is_empty() {
                self.reserve.remove(key);
            }
        }
    }

    /// Takes out the flights of the same object by other sessions, which is complete.
    fn take_same(&mut self, flight: &Arc<Flight>) -> Vec<Arc<Flight>> {
        let reserve = self.reserve.remove(&flight.key).unwrap_or_default();
        // An older version may be complete only now.
        let (mut same, others): (Vec<_>, Vec<_>) =
            reserve.into_iter().partition(|it| it.is_same_object(flight));
        if !others.is_empty() {
            self.reserve.insert(flight.key.clone(), others);
        }
        if self.flights.get(&flight.key).is_some_and(|first| first.is_same_object(flight)) {
            same.extend(self.flights.remove(&flight.key));
        }
        same
    }
}

#[cfg(test)]
mod tests {
    use carousel::flute::SessionKey;
    use carousel::lct::{Toi, Tsi};

    use super::*;
    use crate::store::testing::carried;

    fn object(toi: u128) -> ObjectRef {
        let destination = "239.0.0.1:6000".parse().unwrap();
        let session = SessionKey { source: "10.0.0.1".parse().unwrap(), destination, tsi: Tsi(1) };
        ObjectRef { session, toi: Toi(toi) }
    }

    fn key(number: u64) -> ObjectKey {
        ObjectKey::from_name(&format!("http://h/{number}"), None).unwrap()
    }

    fn announced(version: u64) -> Announced {
        Announced {
            digest: None,
            length: None,
            content_type: None,
            version,
            ignored_query: Default::default(),
        }
    }

    #[test]
    fn announcements_come_and_go_and_the_oldest_makes_room() {
        let flights = Flights::new();
        let most = MAX_ANNOUNCED as u64;
        for number in 0..most + 10_000 {
            flights.announce(key(number), object(number.into()), announced(number));
        }
        assert_eq!(flights.announced_count(), MAX_ANNOUNCED);
        assert_eq!(flights.announced(key(9_999).as_str()), None);
        let last = most + 9_999;
        assert_eq!(flights.announced(key(last).as_str()), Some(announced(last)), "the last like the first");
        for number in 0..=last {
            flights.retract(key(number).as_str(), &object(number.into()));
        }
        assert_eq!(flights.announced_count(), 0);
        assert!(flights.tables().announced.capacity() < 1024);
    }

    #[test]
    fn an_object_that_moves_from_a_flight_to_the_cache_is_not_missed_between_two_looks() {
        let folder = tempfile::tempdir().unwrap();
        let (store, flights, key) = (crate::store::testing::open(&folder), Flights::new(), key(1));
        let partial = || Arc::new(store.create(4, Default::default()).unwrap());
        let flight = Arc::new(Flight::of_growing(key.clone(), None, object(7), partial()));
        for look in [Flights::has_begun_or_is_in, Flights::expects_or_is_in] {
            store.remove(key.as_str(), crate::store::EvictReason::Purged);
            flights.add(Arc::clone(&flight)).unwrap();
            let mut tables = flights.tables();
            let found = std::thread::scope(|scope| {
                let looking = scope.spawn(|| look(&flights, &store, key.as_str()));
                // It waits for the table; meanwhile the object moves.
                std::thread::sleep(std::time::Duration::from_millis(100));
                let (frozen, meta) = carried(&store, "http://h/1", b"body");
                store.publish(&frozen, meta).unwrap();
                tables.flights.remove(&key);
                drop(tables);
                looking.join().unwrap()
            });
            assert!(found);
        }
    }

    /// A flight of an object of 4 bytes by the session of this source.
    fn carried_by(store: &Store, source: u8, signed: bool, is_proven: bool) -> Arc<Flight> {
        version_by(store, source, signed, is_proven, b"body")
    }

    fn version_by(store: &Store, source: u8, signed: bool, is_proven: bool, body: &[u8]) -> Arc<Flight> {
        let mut object = object(7);
        object.session.source = std::net::Ipv4Addr::new(10, 0, 0, source).into();
        let by = carousel::trust::SignedBy {
            root: carousel::trust::SecretKey::from_seed(&[1; 32]).public().id(),
            key: carousel::trust::SecretKey::from_seed(&[2; 32]).public().id(),
            service: "tag:a".to_owned(),
            stream: "a".to_owned(),
            page: 0,
            order: (0, 1),
            wrong_objects: Default::default(),
        };
        let file = File {
            content_digest: Some(Digest::of(body)),
            signed_by: signed.then(|| Arc::new(by)),
            content_location: "http://h/1".to_owned(),
            ..File::default()
        };
        let partition = carousel::fec::Partition::new(&carousel::fec::Oti::no_code(4, 2, 64)).unwrap();
        let received = Arc::new(carousel::fec::SymbolMap::new(&partition));
        let partial = Arc::new(store.create(4, Default::default()).unwrap());
        let carried = super::super::CarouselSource { object, file: Arc::new(file) };
        Arc::new(Flight::of_symbols(key(1), carried, partial, received).proven(is_proven))
    }

    fn is_first(flights: &Flights, flight: &Arc<Flight>) -> bool {
        flights.get(key(1).as_str()).is_some_and(|it| Arc::ptr_eq(&it, flight))
    }

    #[test]
    fn a_flight_of_a_session_that_has_brought_nothing_takes_no_players_from_another() {
        let folder = tempfile::tempdir().unwrap();
        let (store, flights) = (crate::store::testing::open(&folder), Flights::new());
        let honest = carried_by(&store, 1, true, true);
        flights.offer(Arc::clone(&honest)).unwrap();
        // Untrusted senders that repeat its description stay behind, however many there are.
        let untrusted: Vec<_> = (2..20).map(|source| carried_by(&store, source, true, false)).collect();
        for flight in &untrusted {
            flights.offer(Arc::clone(flight)).unwrap();
            assert!(is_first(&flights, &honest) && honest.outcome().is_none());
        }
        assert_eq!(flights.tables().reserve[&key(1)].len(), MAX_RESERVE_FLIGHTS);
        flights.end(&untrusted[0], Outcome::Failed(FailReason::Verify));
        assert!(is_first(&flights, &honest));
        assert_eq!(flights.tables().reserve[&key(1)].len(), MAX_RESERVE_FLIGHTS - 1);
        // What any of them completes is the object: all that wait for it have it.
        let (frozen, meta) = carried(&store, "http://h/1", b"body");
        let stored = store.publish(&frozen, meta).unwrap();
        flights.end(&untrusted[10], Outcome::Complete(stored));
        for flight in [&honest, &untrusted[1], &untrusted[10]] {
            assert!(matches!(flight.outcome(), Some(Outcome::Complete(_))));
        }
        assert!(flights.tables().flights.is_empty() && flights.tables().reserve.is_empty());
    }

    #[test]
    fn a_flight_that_fails_stalls_or_has_brought_nothing_yields_to_another_of_the_same_object() {
        let folder = tempfile::tempdir().unwrap();
        let (store, flights) = (crate::store::testing::open(&folder), Flights::new());
        let replaced = |it: &Flight| matches!(it.outcome(), Some(Outcome::Failed(FailReason::Replaced)));
        let [unsigned, untrusted, honest] =
            [(3, false, false), (2, true, false), (1, true, true)].map(|(source, signed, is_proven)| {
                let flight = carried_by(&store, source, signed, is_proven);
                flights.offer(Arc::clone(&flight)).unwrap();
                assert!(is_first(&flights, &flight));
                flight
            });
        assert!(replaced(&unsigned) && replaced(&untrusted));
        flights.end(&honest, Outcome::Failed(FailReason::Expired));
        // Wrong bytes: requests look the object up again, and find the next one.
        let [untrusted, honest] = [2, 1].map(|source| carried_by(&store, source, true, false));
        for flight in [&untrusted, &honest] {
            flights.offer(Arc::clone(flight)).unwrap();
        }
        assert!(is_first(&flights, &untrusted));
        flights.end(&untrusted, Outcome::Failed(FailReason::Verify));
        assert!(is_first(&flights, &honest) && replaced(&untrusted) && honest.outcome().is_none());
        // It stalls, and another does not.
        let other = carried_by(&store, 4, true, false);
        flights.offer(Arc::clone(&other)).unwrap();
        assert!(is_first(&flights, &honest));
        honest.set_stalled(Some(carousel::time::Instant::from_nanos(1)));
        flights.stalled(&honest);
        assert!(is_first(&flights, &other) && replaced(&honest));
        flights.end(&other, Outcome::Failed(FailReason::Verify));
        assert!(replaced(&other), "nothing is known of the object itself");
    }

    #[test]
    fn a_newer_version_takes_the_place_though_the_older_one_has_others_in_reserve() {
        let folder = tempfile::tempdir().unwrap();
        let (store, flights) = (crate::store::testing::open(&folder), Flights::new());
        let versions = [&b"old."[..], b"new."];
        let [old, new] = versions.map(|body| version_by(&store, 1, true, true, body));
        let [old_of_other, new_of_other] = versions.map(|body| version_by(&store, 2, true, true, body));
        flights.offer(Arc::clone(&old)).unwrap();
        flights.offer(Arc::clone(&old_of_other)).unwrap();
        assert!(is_first(&flights, &old));
        flights.offer(Arc::clone(&new)).expect("no limit is reached");
        assert!(is_first(&flights, &new) && old.outcome().is_some());
        // What is left of the older version takes no place when the newer one fails, and takes none in reserve when it is complete.
        flights.offer(Arc::clone(&new_of_other)).unwrap();
        let (frozen, meta) = carried(&store, "http://h/1", b"old.");
        flights.end(&old, Outcome::Complete(store.publish(&frozen, meta).unwrap()));
        assert!(is_first(&flights, &new) && new_of_other.outcome().is_none());
        flights.end(&new, Outcome::Failed(FailReason::Verify));
        assert!(is_first(&flights, &new_of_other));
        flights.end(&new_of_other, Outcome::Failed(FailReason::Verify));
        assert!(flights.get(key(1).as_str()).is_none() && flights.tables().reserve.is_empty());
    }

    #[test]
    fn what_another_object_has_announced_is_not_withdrawn() {
        let flights = Flights::new();
        flights.announce(key(1), object(1), announced(1));
        flights.announce(key(1), object(2), announced(2));
        flights.retract(key(1).as_str(), &object(1));
        assert_eq!(flights.announced(key(1).as_str()), Some(announced(2)));
        flights.retract(key(1).as_str(), &object(2));
        assert_eq!(flights.announced(key(1).as_str()), None);
    }
}
