//! Objects on their way: from the carousel or from an origin, asked for or not.
//!
//! A [`Flight`] is what receive threads, repair, read-through and players' responses share of an object that is not in
//! the cache yet. Whoever fills it says so; whoever waits is woken. There is at most one flight for a key.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use carousel::digest::Digest;
use carousel::fec::SymbolMap;
use carousel::flute::{Encoding, File, SessionKey};
use carousel::lct::Toi;
use carousel::name::ObjectKey;
use carousel::time::Instant;
use tokio::sync::{Notify, mpsc};

use crate::store::{Partial, StoredObject};

/// Flights at a time: all sessions' objects in flight and some hundred fills.
const MAX_FLIGHTS: usize = 16_384;
/// Announced names that are remembered. A reference catalogue has 100,000 objects.
const MAX_ANNOUNCED: usize = 262_144;
/// Players' wishes that repair has not looked at yet. A wish that is lost is only a wish for haste.
const MAX_WISHES: usize = 1024;

/// Why a flight ended without an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailReason {
    /// The bytes are not what the FDT or the origin promised.
    Verify,
    /// The store could not publish it.
    Store,
    /// The sender put another object in its place, or its session went away.
    Replaced,
    /// The origin ended early, or sent another length than it said.
    OriginCut,
}

impl FailReason {
    /// Every variant, for metrics.
    pub const ALL: [Self; 4] = [Self::Verify, Self::Store, Self::Replaced, Self::OriginCut];

    /// Name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Store => "store",
            Self::Replaced => "replaced",
            Self::OriginCut => "origin_cut",
        }
    }
}

/// How a flight ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Whole, verified, in the cache.
    Whole(Arc<StoredObject>),
    /// Every byte was there for those who waited; it may not be kept (`no-store`). Its length.
    Passed(u64),
    /// It will not come this way.
    Failed(FailReason),
}

/// Which object of which session: what repair and the finisher say to a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    /// The session.
    pub session: SessionKey,
    /// The object.
    pub toi: Toi,
}

/// An object that a carousel carries.
#[derive(Debug, Clone)]
pub struct Carried {
    /// Which.
    pub object: ObjectRef,
    /// Its description.
    pub file: Arc<File>,
}

/// Which bytes have arrived.
#[derive(Debug)]
enum Arrival {
    /// Symbols of a carousel.
    Symbols(Carried, Arc<SymbolMap>),
    /// Everything up to here, of an origin.
    Prefix(AtomicU64),
}

/// One object on its way.
#[derive(Debug)]
pub struct Flight {
    /// Its key.
    pub key: ObjectKey,
    /// MIME type, as far as known.
    pub content_type: Option<String>,
    /// Bytes of the object as players get them; `None` while an origin has not said.
    pub length: Option<u64>,
    /// Whether the transported bytes are the object's: encoded objects cannot be served before they are whole.
    pub is_identity: bool,
    /// `cache-control`, `etag` and such, from an origin.
    pub headers: Vec<(String, String)>,
    /// The last byte is withheld until the object is verified.
    withholds_last: bool,
    partial: Arc<Partial>,
    arrival: Arrival,
    outcome: OnceLock<Outcome>,
    waiters: AtomicUsize,
    changed: Notify,
    wished: AtomicBool,
    /// When the carousel is likely to begin with it again, on the daemon's clock; 0: not known.
    next_pass_ns: AtomicU64,
}

impl Flight {
    /// Of a carousel object.
    pub fn of_symbols(
        key: ObjectKey,
        carried: Carried,
        partial: Arc<Partial>,
        received: Arc<SymbolMap>,
    ) -> Self {
        let length = Some(received.length());
        let content_type = carried.file.content_type.clone();
        let is_identity = carried.file.encoding == Encoding::Identity;
        let arrival = Arrival::Symbols(carried, received);
        Self::new(key, content_type, length, is_identity, Vec::new(), partial, arrival, true)
    }

    /// The carousel is likely to begin with it again at `at`; `None`: nobody knows.
    pub fn set_next_pass(&self, at: Option<Instant>) {
        self.next_pass_ns.store(at.map_or(0, Instant::as_nanos), Ordering::Relaxed);
    }

    /// Time until the carousel is likely to begin with it again. `None` if nobody knows, or it should have come.
    pub fn next_pass(&self, now: Instant) -> Option<Duration> {
        let at = Instant::from_nanos(self.next_pass_ns.load(Ordering::Relaxed));
        (at > now).then(|| at.since(now))
    }

    /// Of an object that an origin sends from its first byte on. `has_digest`: an FDT has said what its digest must be,
    /// so it is withheld like a carousel's until that is checked.
    pub fn of_prefix(
        key: ObjectKey,
        content_type: Option<String>,
        length: Option<u64>,
        headers: Vec<(String, String)>,
        partial: Arc<Partial>,
        has_digest: bool,
    ) -> Self {
        let arrival = Arrival::Prefix(AtomicU64::new(0));
        Self::new(key, content_type, length, true, headers, partial, arrival, has_digest)
    }

    #[allow(clippy::too_many_arguments)] // private; the two constructors above give them names
    fn new(
        key: ObjectKey,
        content_type: Option<String>,
        length: Option<u64>,
        is_identity: bool,
        headers: Vec<(String, String)>,
        partial: Arc<Partial>,
        arrival: Arrival,
        withholds_last: bool,
    ) -> Self {
        Self {
            key,
            content_type,
            length,
            is_identity,
            headers,
            withholds_last,
            partial,
            arrival,
            outcome: OnceLock::new(),
            waiters: AtomicUsize::new(0),
            changed: Notify::new(),
            wished: AtomicBool::new(false),
            next_pass_ns: AtomicU64::new(0),
        }
    }

    /// The file that the bytes are in.
    pub const fn partial(&self) -> &Arc<Partial> {
        &self.partial
    }

    /// The symbols received, if a carousel brings it.
    pub const fn symbols(&self) -> Option<&Arc<SymbolMap>> {
        match &self.arrival {
            Arrival::Symbols(_, received) => Some(received),
            Arrival::Prefix(_) => None,
        }
    }

    /// Which object it is, if a carousel brings it.
    pub const fn carried(&self) -> Option<&Carried> {
        match &self.arrival {
            Arrival::Symbols(carried, _) => Some(carried),
            Arrival::Prefix(_) => None,
        }
    }

    /// End of the bytes that are there from `offset` on; `offset` if that byte is not.
    ///
    /// Of a carousel object the last byte counts as missing until the object is verified and published: a player never
    /// gets all bytes of something that then proves wrong.
    pub fn available_from(&self, offset: u64) -> u64 {
        let end = match &self.arrival {
            // In this order; see `Curtain`.
            Arrival::Symbols(_, received) => {
                received.available_from(offset).min(self.partial.curtain().hidden_from())
            }
            Arrival::Prefix(end) => end.load(Ordering::Acquire),
        };
        let most = match self.length {
            Some(length) if self.withholds_last => length.saturating_sub(1),
            None if self.withholds_last => 0,
            _ => u64::MAX,
        };
        end.min(most).max(offset)
    }

    /// Bytes that have arrived.
    pub fn received_bytes(&self) -> u64 {
        match &self.arrival {
            Arrival::Symbols(_, received) => received.received_bytes(),
            Arrival::Prefix(end) => end.load(Ordering::Acquire),
        }
    }

    /// Bytes up to `end` are in the file (origins).
    pub fn advance(&self, end: u64) {
        if let Arrival::Prefix(prefix) = &self.arrival {
            prefix.store(end, Ordering::Release);
        }
        self.progress();
    }

    /// Something arrived. Cheap while nobody waits.
    pub fn progress(&self) {
        if self.waiters.load(Ordering::SeqCst) > 0 {
            self.changed.notify_waiters();
        }
    }

    /// Ends the flight; the first outcome stands.
    pub fn end(&self, outcome: Outcome) {
        let _ = self.outcome.set(outcome);
        self.changed.notify_waiters();
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    /// Reads bytes that have arrived.
    ///
    /// # Errors
    /// What the disk said.
    pub fn read(&self, range: std::ops::Range<u64>) -> io::Result<Vec<u8>> {
        let mut out =
            vec![0; usize::try_from(range.end - range.start).map_err(|_| io::ErrorKind::FileTooLarge)?];
        self.partial.read_at(range.start, &mut out)?;
        Ok(out)
    }

    /// Waits until the byte at `offset` is there or the flight has ended; false if nothing happened to the flight for
    /// `patience`.
    pub async fn wait_for(&self, offset: u64, patience: Duration) -> bool {
        let _waiting = Waiting::new(&self.waiters);
        let mut before = self.received_bytes();
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that no wake-up falls between.
            changed.as_mut().enable();
            if self.outcome().is_some() || self.available_from(offset) > offset {
                return true;
            }
            if tokio::time::timeout(patience, changed).await.is_err() {
                let now = self.received_bytes();
                if now == before {
                    return false;
                }
                before = now;
            }
        }
    }
}

/// Counts a waiter for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiters: &'a AtomicUsize) -> Self {
        waiters.fetch_add(1, Ordering::SeqCst);
        Self(waiters)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

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
    appeared: Notify,
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
            appeared: Notify::new(),
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
        self.appeared.notify_waiters();
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
            self.appeared.notify_waiters();
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

    /// Waits until there is a flight of this key, `done` says that waiting is over, or `patience` is.
    pub async fn wait_for(
        &self,
        key: &str,
        patience: Duration,
        done: impl Fn() -> bool,
    ) -> Option<Arc<Flight>> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let appeared = self.appeared.notified();
            tokio::pin!(appeared);
            appeared.as_mut().enable();
            if let Some(flight) = self.get(key) {
                return Some(flight);
            }
            if done() || tokio::time::timeout_at(deadline, appeared).await.is_err() {
                return None;
            }
        }
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
