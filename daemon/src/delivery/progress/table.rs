//! All objects on their way, by key, and what is announced.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use carousel::digest::Digest;
use carousel::name::ObjectKey;
use carousel::query::IgnoredQuery;
use event_listener::{Event, EventListener};
use tokio::sync::mpsc;

use super::{FailReason, Flight, Outcome};

/// Flights at a time: all sessions' objects in flight and some hundred fills.
const MAX_FLIGHTS: usize = 16_384;
/// Announced names that are remembered. A reference catalogue has 100,000 objects.
const MAX_ANNOUNCED: usize = 262_144;
/// Players' wishes that repair has not looked at yet. A wish that is lost is only a wish for haste.
const MAX_WISHES: usize = 1024;

/// An object that an FDT has named and that has not come yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// SHA-256 of the object, if the FDT has one that applies to what an origin would send.
    pub digest: Option<Digest>,
    /// Bytes of the object.
    pub length: Option<u64>,
    /// MIME type.
    pub content_type: Option<String>,
    /// Its TOI.
    pub version: u64,
    /// Query parameters under whose values a request means it.
    pub ignored_query: IgnoredQuery,
}

#[derive(Debug, Default)]
struct Tables {
    flights: HashMap<ObjectKey, Arc<Flight>>,
    announced: HashMap<ObjectKey, Announced>,
}

/// All flights, and what is announced.
#[derive(Debug)]
pub struct Flights {
    tables: Mutex<Tables>,
    appeared: Event,
    wishes: mpsc::Sender<Arc<Flight>>,
    failed: [AtomicU64; FailReason::ALL.len()],
    refused: AtomicU64,
}

impl Flights {
    /// An empty table, and the end at which repair hears what players wait for.
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Arc<Flight>>) {
        let (wishes, wished) = mpsc::channel(MAX_WISHES);
        let flights = Self {
            tables: Mutex::default(),
            appeared: Event::new(),
            wishes,
            failed: Default::default(),
            refused: AtomicU64::new(0),
        };
        (Arc::new(flights), wished)
    }

    /// The flight of this key.
    pub fn get(&self, key: &str) -> Option<Arc<Flight>> {
        self.tables().flights.get(key).cloned()
    }

    /// Adds a flight. `Err` with the one that is there already, if its key is taken; `Err(None)` if there are too many.
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

    /// Adds a flight, ending the one that has its key: the carousel's newer version of an object goes before an older
    /// one. `None` if there are too many.
    pub fn replace(&self, flight: Arc<Flight>) -> Option<()> {
        if let Err(taken) = self.add(Arc::clone(&flight)) {
            self.end(&taken?, Outcome::Failed(FailReason::Replaced));
            return self.add(flight).ok();
        }
        Some(())
    }

    /// Takes a flight out of the table that goes on for those who have it: nobody else may join it.
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
        }
        match &outcome {
            Outcome::Whole(_) => {
                tables.announced.remove(&flight.key);
            }
            Outcome::Passed(_) => {}
            Outcome::Failed(reason) => {
                if let Some(index) = FailReason::ALL.iter().position(|it| it == reason) {
                    self.failed[index].fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        drop(tables);
        flight.end(outcome);
    }

    /// An FDT has named an object.
    pub fn announce(&self, key: ObjectKey, announced: Announced) {
        let mut tables = self.tables();
        if tables.announced.len() < MAX_ANNOUNCED || tables.announced.contains_key(&key) {
            tables.announced.insert(key, announced);
            drop(tables);
            self.appeared.notify(usize::MAX);
        }
    }

    /// An announced object is there, or will not come.
    pub fn retract(&self, key: &str) {
        self.tables().announced.remove(key);
    }

    /// What an FDT has said of this key.
    pub fn announced(&self, key: &str) -> Option<Announced> {
        self.tables().announced.get(key).cloned()
    }

    /// Completes when the next flight or announcement is added. Look at the table after this call and before waiting.
    pub fn listen(&self) -> EventListener {
        self.appeared.listen()
    }

    /// A player waits for this flight: repair it without waiting for the carousel.
    pub fn wish(&self, flight: &Arc<Flight>) {
        if !flight.wished.swap(true, Ordering::Relaxed) && self.wishes.try_send(Arc::clone(flight)).is_err() {
            flight.wished.store(false, Ordering::Relaxed);
        }
    }

    /// Repair has looked at a wish: the next one counts again.
    pub fn wish_seen(&self, flight: &Flight) {
        flight.wished.store(false, Ordering::Relaxed);
    }

    /// Flights now, in no order.
    pub fn list(&self) -> Vec<Arc<Flight>> {
        self.tables().flights.values().cloned().collect()
    }

    /// Objects announced and not come.
    pub fn announced_count(&self) -> usize {
        self.tables().announced.len()
    }

    /// Flights that failed, in the order of [`FailReason::ALL`], and those refused because there were too many.
    pub fn failures(&self) -> ([u64; FailReason::ALL.len()], u64) {
        (
            std::array::from_fn(|at| self.failed[at].load(Ordering::Relaxed)),
            self.refused.load(Ordering::Relaxed),
        )
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Every change of the tables is one insertion or removal, so a panic elsewhere leaves them consistent.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
