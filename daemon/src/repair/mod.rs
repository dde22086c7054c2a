//! What the link lost is asked of the origins: just the missing bytes, and not at the same moment as a million others.
//!
//! ```text
//! shard ── Stalled / Unseen ──▶ wait (fixed + random back-off) ──▶ ranges ──▶ origin ──▶ Repair(bytes) ──▶ shard
//! player ── wish ─────────────▶ no wait                     └─ whole (encoded, unseen) ──▶ Filler ── Hold ─▶ shard
//! ```
//!
//! Bytes from an origin go through the same reassembly and the same digest as those from the air. When the origin
//! cannot be had, the object stays in flight and the carousel's next pass brings just what is missing.

mod budget;
mod options;
mod rules;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use carousel::flute::File;
use carousel::name::ObjectKey;
use carousel::repair::{ATTEMPTS, Gather, MAX_MISSING, holes, requests};
use tokio::sync::{Notify, Semaphore, mpsc};

pub use options::Repair;
pub use rules::RuleBook;

use budget::RetryBudget;

use crate::clock;
use crate::delivery::{Announced, Carried, FailReason, Flight, ObjectRef, Outcome};
use crate::origin::{Ask, Client, FillResult, Filler, OriginError, Origins};
use crate::receive::{Command, Ear, Shared, Trouble, shard_of};

/// Objects waiting for their repair. Beyond it the carousel's next pass must do.
const MAX_PENDING: usize = 4096;
/// How long the shard and the finisher may take with what was fetched.
const SETTLE: Duration = Duration::from_secs(10);
/// Pieces of an answer between the connection and the shard.
const PIECES: usize = 16;
/// How long to look whether the carousel is bringing an object that a player waits for.
const LOOK: Duration = Duration::from_millis(100);
/// A player waits so long for the carousel's next pass rather than trouble an origin: about what asking takes.
const PLAYER_PATIENCE: Duration = Duration::from_millis(250);

/// How a repair ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RepairOutcome {
    /// The object is whole and verified.
    Repaired,
    /// The carousel completed it, or put another in its place, before the origin was asked.
    NotNeeded,
    /// Nobody has named an origin for it.
    NoOrigin,
    /// The origin could not be had, or broke off, each time.
    OriginFailed,
    /// The origin does not have it.
    Refused,
    /// With the origin's bytes the object is not what the FDT describes: they are of another version.
    Mismatch,
    /// Too many wait already.
    TooMany,
}

impl RepairOutcome {
    /// Every variant, for metrics.
    pub const ALL: [Self; 7] = [
        Self::Repaired,
        Self::NotNeeded,
        Self::NoOrigin,
        Self::OriginFailed,
        Self::Refused,
        Self::Mismatch,
        Self::TooMany,
    ];

    /// Name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Repaired => "repaired",
            Self::NotNeeded => "not_needed",
            Self::NoOrigin => "no_origin",
            Self::OriginFailed => "origin_failed",
            Self::Refused => "refused",
            Self::Mismatch => "mismatch",
            Self::TooMany => "too_many",
        }
    }
}

/// Counters of repair.
#[derive(Debug, Default)]
pub struct RepairStats {
    outcomes: [AtomicU64; RepairOutcome::ALL.len()],
    bytes: AtomicU64,
    requests: AtomicU64,
}

impl RepairStats {
    /// How many repairs ended so.
    pub fn outcome(&self, outcome: RepairOutcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }

    /// Bytes that origins sent for missing ranges, and the requests for them.
    pub fn fetched(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.requests.load(Ordering::Relaxed))
    }

    fn count(&self, outcome: RepairOutcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Everything repair works with.
#[derive(Debug)]
pub struct Repairer {
    config: Repair,
    shared: Arc<Shared>,
    origins: Arc<Origins>,
    client: Arc<Client>,
    filler: Arc<Filler>,
    rules: Arc<RuleBook>,
    shards: Vec<Ear>,
    slots: Semaphore,
    pending: Mutex<HashMap<ObjectRef, Arc<Notify>>>,
    budget: RetryBudget,
    stats: RepairStats,
}

/// What others lend to a [`Repairer`].
#[derive(Debug)]
pub struct Lent {
    /// Cache and flights.
    pub shared: Arc<Shared>,
    /// Where bytes are to be had.
    pub origins: Arc<Origins>,
    /// Who asks for ranges.
    pub client: Arc<Client>,
    /// Who fetches whole objects.
    pub filler: Arc<Filler>,
    /// What senders say.
    pub rules: Arc<RuleBook>,
    /// Where bytes go.
    pub shards: Vec<Ear>,
}

impl Repairer {
    /// A repairer that does nothing until [`Repairer::run`].
    pub fn new(config: Repair, lent: Lent) -> Arc<Self> {
        let Lent { shared, origins, client, filler, rules, shards } = lent;
        let slots = Semaphore::new(config.concurrent_fetches);
        let (pending, budget, stats) = (Mutex::default(), RetryBudget::default(), RepairStats::default());
        Arc::new(Self {
            config,
            shared,
            origins,
            client,
            filler,
            rules,
            shards,
            slots,
            pending,
            budget,
            stats,
        })
    }

    /// The counters.
    pub const fn stats(&self) -> &RepairStats {
        &self.stats
    }

    /// Repairs until both ends are gone.
    pub async fn run(
        self: Arc<Self>,
        mut troubles: mpsc::Receiver<Trouble>,
        mut wishes: mpsc::Receiver<Arc<Flight>>,
    ) {
        loop {
            tokio::select! {
                trouble = troubles.recv() => match trouble {
                    Some(_) if !self.config.enabled => {}
                    Some(Trouble::Stalled(flight)) => self.begin(Job::Ranges(flight), false),
                    Some(Trouble::Unseen(carried)) => self.begin(Job::Whole(carried), false),
                    None => return,
                },
                wish = wishes.recv() => match wish {
                    Some(flight) => self.wished(flight),
                    None => return,
                },
            }
        }
    }

    /// A player waits.
    fn wished(self: &Arc<Self>, flight: Arc<Flight>) {
        let Some(carried) = flight.carried().filter(|_| self.config.enabled) else { return };
        if let Some(waiting) = self.pending().get(&carried.object) {
            waiting.notify_one();
            self.shared.flights.wish_seen(&flight);
            return;
        }
        self.begin(Job::Ranges(flight), true);
    }

    fn begin(self: &Arc<Self>, job: Job, in_haste: bool) {
        let object = job.carried().object;
        let hurry = Arc::new(Notify::new());
        {
            let mut pending = self.pending();
            if pending.contains_key(&object) {
                return;
            }
            if pending.len() >= MAX_PENDING {
                self.stats.count(RepairOutcome::TooMany);
                return;
            }
            pending.insert(object, Arc::clone(&hurry));
        }
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = this.work(&job, &hurry, in_haste).await;
            this.pending().remove(&object);
            if let Job::Ranges(flight) = &job {
                this.shared.flights.wish_seen(flight);
            }
            if let Some(outcome) = outcome {
                this.stats.count(outcome);
                tracing::debug!(
                    uri = job.carried().file.content_location,
                    outcome = outcome.as_str(),
                    "repair"
                );
            }
        });
    }

    /// Tries until it is done or hopeless. `None`: the carousel is at it, nothing was to be done for a player in haste.
    async fn work(&self, job: &Job, hurry: &Notify, in_haste: bool) -> Option<RepairOutcome> {
        let carried = job.carried();
        let rule = self.rules.get(&carried.object.session);
        let back_off = rules::back_off(rule.as_deref(), &self.config);
        if let Some(next_pass) = self.worth_waiting(job, in_haste) {
            // A player's wish ends this wait too.
            let _ = tokio::time::timeout(next_pass, hurry.notified()).await;
        }
        for attempt in 0..ATTEMPTS {
            let wait =
                if attempt == 0 && in_haste { Duration::ZERO } else { back_off.wait(attempt, random()) };
            // A player's wish ends the wait.
            let _ = tokio::time::timeout(wait, hurry.notified()).await;
            if attempt == 0 {
                self.budget.earn();
            } else if !self.budget.spend() {
                continue;
            }
            let _slot = self.slots.acquire().await.ok()?;
            match self.attempt(job, in_haste && attempt == 0).await {
                Ok(outcome) => return outcome,
                Err(OriginError::Status(404 | 410 | 403)) => return Some(RepairOutcome::Refused),
                Err(err) => {
                    if attempt > 0 && matches!(err, OriginError::CircuitOpen) {
                        self.budget.give_back();
                    }
                    // The circuit breaker says once that an origin fails.
                    tracing::debug!(uri = carried.file.content_location, %err, attempt, "repair: the origin cannot be had");
                }
            }
        }
        Some(RepairOutcome::OriginFailed)
    }

    /// How long the carousel will need to come round with the object, if that is soon enough to wait for it.
    fn worth_waiting(&self, job: &Job, in_haste: bool) -> Option<Duration> {
        let Job::Ranges(flight) = job else { return None };
        let until_begin = flight.next_pass(clock::now())?;
        if in_haste {
            return (until_begin <= PLAYER_PATIENCE).then_some(until_begin);
        }
        // Begun is not complete: it gets as long again as it takes to notice that nothing comes.
        let timeout = Duration::from_millis(self.config.reception_timeout_ms);
        (until_begin <= Duration::from_millis(self.config.carousel_wait_ms)).then(|| until_begin + timeout)
    }

    async fn attempt(&self, job: &Job, in_haste: bool) -> Result<Option<RepairOutcome>, OriginError> {
        let flight = match job {
            Job::Ranges(flight) if flight.is_identity => flight,
            Job::Ranges(_) | Job::Whole(_) => return self.fetch_whole(job).await.map(Some),
        };
        let Some(received) = flight.symbols().filter(|_| flight.outcome().is_none()) else {
            return Ok(Some(RepairOutcome::NotNeeded));
        };
        let mut missing = received.missing(MAX_MISSING);
        if in_haste {
            let before = received.received_bytes();
            tokio::time::sleep(LOOK).await;
            missing = received.missing(MAX_MISSING);
            if received.received_bytes() != before {
                // It is coming: only what it has passed by.
                missing = holes(missing, received.length());
                if missing.is_empty() {
                    return Ok(None);
                }
            }
        }
        let carried = job.carried();
        let urls = self.urls(carried);
        let Some(first) = urls.first() else { return Ok(Some(RepairOutcome::NoOrigin)) };
        let wanted = requests(&missing, received.length());
        let mut result = self.fetch_ranges(flight, carried.object, first, &wanted).await;
        for url in &urls[1..] {
            if result.is_ok() || flight.outcome().is_some() {
                break;
            }
            let wanted = requests(&received.missing(MAX_MISSING), received.length());
            result = self.fetch_ranges(flight, carried.object, url, &wanted).await;
        }
        result?;
        if in_haste && !received.is_complete() {
            return Ok(None);
        }
        // Past the shard's and the finisher's queues.
        flight.wait_for(u64::MAX, SETTLE).await;
        Ok(Some(match flight.outcome() {
            Some(Outcome::Failed(FailReason::Verify)) => RepairOutcome::Mismatch,
            Some(Outcome::Failed(_)) => RepairOutcome::NotNeeded,
            Some(Outcome::Whole(_) | Outcome::Passed(_)) => RepairOutcome::Repaired,
            None => return Err(OriginError::Cut),
        }))
    }

    async fn fetch_ranges(
        &self,
        flight: &Flight,
        object: ObjectRef,
        url: &str,
        requests: &[Vec<std::ops::Range<u64>>],
    ) -> Result<(), OriginError> {
        let Some(received) = flight.symbols() else { return Ok(()) };
        for ranges in requests {
            if flight.outcome().is_some() {
                return Ok(());
            }
            self.stats.requests.fetch_add(1, Ordering::Relaxed);
            let (pieces, mut arrived) = mpsc::channel::<(u64, bytes::Bytes)>(PIECES);
            let patch = async {
                let mut gather = Gather::new(received.symbol_length());
                while let Some((offset, bytes)) = arrived.recv().await {
                    self.stats.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    if let Some((offset, piece)) = gather.push(offset, &bytes) {
                        self.tell(Command::Repair(object, offset, piece)).await;
                    }
                }
                // What came before a failure is as good.
                if let Some((offset, piece)) = gather.finish() {
                    self.tell(Command::Repair(object, offset, piece)).await;
                }
            };
            let (result, ()) = tokio::join!(self.client.get_ranges(url, ranges, pieces), patch);
            result?;
        }
        Ok(())
    }

    /// Encoded objects, of which an origin has no bytes to patch in, and those of which nothing has come.
    async fn fetch_whole(&self, job: &Job) -> Result<RepairOutcome, OriginError> {
        let carried = job.carried();
        let Ok(key) = self.key(carried) else { return Ok(RepairOutcome::NoOrigin) };
        let announced = announced(&carried.file);
        let length = announced.length.unwrap_or(0);
        if self.shared.store.holds(key.as_str(), announced.digest, length, announced.version) {
            return Ok(RepairOutcome::NotNeeded);
        }
        let Some(url) = self.urls(carried).into_iter().next() else { return Ok(RepairOutcome::NoOrigin) };
        if let Job::Ranges(flight) = job {
            if flight.outcome().is_some() {
                return Ok(RepairOutcome::NotNeeded);
            }
            // Its place in the table is needed; players who wait look again and find the fill.
            self.shared.flights.end(flight, Outcome::Failed(FailReason::Replaced));
        }
        let ask = Ask { announced: Some(announced), is_our_own: true, ..Ask::default() };
        match self.filler.fill(&key, url, ask).await {
            FillResult::Flight(fill) => {
                while fill.outcome().is_none() && fill.wait_for(u64::MAX, SETTLE).await {}
                match fill.outcome() {
                    Some(Outcome::Whole(_) | Outcome::Passed(_)) => {
                        self.tell(Command::Hold(carried.object)).await;
                        Ok(RepairOutcome::Repaired)
                    }
                    Some(Outcome::Failed(FailReason::Verify)) => Ok(RepairOutcome::Mismatch),
                    Some(Outcome::Failed(FailReason::Replaced)) => Ok(RepairOutcome::NotNeeded),
                    _ => Err(OriginError::Cut),
                }
            }
            FillResult::Refused(status) => Err(OriginError::Status(status)),
            FillResult::Failed(err) => Err(err),
            _ => Err(OriginError::Timeout),
        }
    }

    fn key(&self, carried: &Carried) -> Result<ObjectKey, carousel::name::NameError> {
        self.shared.key_of(&carried.object.session, &carried.file.content_location)
    }

    /// Where its bytes are to be had, best first: an `[[origin]]` of our own, what the sender says, its own URI.
    fn urls(&self, carried: &Carried) -> Vec<String> {
        let name = &carried.file.content_location;
        let mut urls: Vec<String> = Vec::new();
        let Ok(key) = self.key(carried) else { return urls };
        urls.extend(self.origins.configured_url(&key));
        if let Some(rule) = self.rules.get(&carried.object.session) {
            urls.extend(rules::signalled_urls(&rule, name, random()));
        }
        urls.extend(
            self.origins.url_for_announced(&key, self.shared.url_of(name).as_deref().unwrap_or(name)),
        );
        let mut seen = Vec::with_capacity(urls.len());
        urls.retain(|url| {
            !seen.contains(url) && {
                seen.push(url.clone());
                true
            }
        });
        urls
    }

    /// Tells the object's shard, waiting elsewhere than on a thread that serves players.
    async fn tell(&self, command: Command) {
        let (Command::Repair(object, ..) | Command::Hold(object) | Command::Reject(object)) = &command else {
            return;
        };
        let ear = self.shards[shard_of(&object.session.destination, self.shards.len())].clone();
        let _ = tokio::task::spawn_blocking(move || ear.tell(command)).await;
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<ObjectRef, Arc<Notify>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be repaired.
#[derive(Debug)]
enum Job {
    /// Missing ranges of an object in flight.
    Ranges(Arc<Flight>),
    /// An object of which nothing has come.
    Whole(Carried),
}

impl Job {
    fn carried(&self) -> &Carried {
        match self {
            Self::Whole(carried) => carried,
            Self::Ranges(flight) => flight.carried().expect("only carousel flights are repaired"),
        }
    }
}

/// What the FDT says of the object as an origin would send it.
fn announced(file: &File) -> Announced {
    let (digest, length) = (file.object_digest(), file.object_length());
    let (content_type, version) = (file.content_type.clone(), file.version());
    Announced { digest, length, content_type, version, ignored_query: file.ignored_query.clone() }
}

/// Good enough to spread boxes over a second; no secret depends on it.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
