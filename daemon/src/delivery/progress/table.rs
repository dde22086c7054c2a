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

use super::{FailReason, Flight, ObjectRef, Outcome};
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
        let tables = Tables { flights: HashMap::new(), announced };
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
        if let Err(taken) = self.add(Arc::clone(&flight)) {
            self.end(&taken?, Outcome::Failed(FailReason::Replaced));
            return self.add(flight).ok();
        }
        Some(())
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
        if tables.flights.get(&flight.key).is_some_and(|have| Arc::ptr_eq(have, flight)) {
            tables.flights.remove(&flight.key);
            if tables.flights.capacity() > 4 * tables.flights.len() + 64 {
                tables.flights.shrink_to_fit();
            }
        }
        match &outcome {
            Outcome::Complete(_) => {
                tables.announced.remove(&flight.key);
            }
            Outcome::Passed(_) => {}
            Outcome::Failed(reason) => {
                self.failed.add(*reason);
            }
        }
        drop(tables);
        flight.end(outcome);
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

    /// Completes when the next flight or announcement is added. Check the table after this call and before waiting.
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
