//! Unicast repair over HTTP: executes the requests of [`crate::delivery`], which decides what is fetched and when.
//!
//! ```text
//! shard ── RepairRequest ──▶ ranges ──▶ origin ──▶ Repair(bytes), RepairDone ──▶ shard
//!                        └─ complete (encoded, unseen) ──▶ Filler ─ RepairDone ─▶ shard
//! ```
//!
//! Bytes from an origin go through the same reassembly and the same digest as those from the air.

mod options;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use carousel::fec::SymbolMap;
use carousel::flute::File;
use carousel::mabr::ChunkName;
use carousel::name::ObjectKey;
use carousel::query::range_of_name;
use carousel::repair::{Gather, requests};
use tokio::sync::{Semaphore, mpsc};

pub use options::Repair;

use crate::clock;
use crate::delivery::{
    Announced, FailReason, Flights, ObjectRef, Outcome, RepairError, RepairRequest, RequestedBytes, RuleBook,
    signalled_urls,
};
use crate::origin::{Client, FillRequest, FillResult, Filler, OriginError, Origins};
use crate::receive::{Command, ShardSender, shard_of};
use crate::signalling::Names;
use crate::store::Store;

/// Time for which a fill may make no progress.
const SETTLE: Duration = Duration::from_secs(10);
/// Queued pieces of a response between the connection and the shard.
const PIECES: usize = 16;

/// Upper bounds of the histogram of repair durations, in milliseconds.
const BUCKETS_MS: [u64; 12] = [10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000];

/// Counters of repair requests; outcomes of repairs are counted by delivery.
#[derive(Debug, Default)]
pub struct RepairStats {
    bytes: AtomicU64,
    requests: AtomicU64,
    /// Successful attempts by duration; the last bucket is unbounded.
    took: [AtomicU64; BUCKETS_MS.len() + 1],
    took_sum_us: AtomicU64,
}

impl RepairStats {
    /// Bytes received for missing ranges, and the number of requests.
    pub fn fetched(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.requests.load(Ordering::Relaxed))
    }

    /// Successful attempts by upper bound of their bucket in seconds, and the sum of their durations in seconds.
    pub fn took(&self) -> (Vec<(f64, u64)>, f64) {
        let ends = BUCKETS_MS.iter().map(|&ms| ms as f64 / 1e3).chain([f64::MAX]);
        let counts = self.took.iter().map(|it| it.load(Ordering::Relaxed));
        (ends.zip(counts).collect(), self.took_sum_us.load(Ordering::Relaxed) as f64 / 1e6)
    }

    fn succeeded(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.took[BUCKETS_MS.partition_point(|&end| end * 1000 < us)].fetch_add(1, Ordering::Relaxed);
        self.took_sum_us.fetch_add(us, Ordering::Relaxed);
    }
}

/// Executor of repair requests.
#[derive(Debug)]
pub struct Repairer {
    context: RepairContext,
    slots: Arc<Semaphore>,
    stats: RepairStats,
}

/// Parts of the daemon that a [`Repairer`] uses.
#[derive(Debug)]
pub struct RepairContext {
    /// The cache.
    pub store: Store,
    /// Objects in flight.
    pub flights: Arc<Flights>,
    /// Names of objects.
    pub names: Arc<Names>,
    /// URLs of objects.
    pub origins: Arc<Origins>,
    /// Fetches ranges.
    pub client: Arc<Client>,
    /// Fetches complete objects.
    pub filler: Arc<Filler>,
    /// Repair parameters that senders signal.
    pub rules: Arc<RuleBook>,
    /// The shards, by number.
    pub shards: Vec<ShardSender>,
}

impl Repairer {
    /// Creates a repairer for `concurrent_fetches` objects at a time; it starts with [`Repairer::run`].
    pub fn new(concurrent_fetches: usize, context: RepairContext) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(concurrent_fetches));
        Arc::new(Self { context, slots, stats: RepairStats::default() })
    }

    /// The counters.
    pub const fn stats(&self) -> &RepairStats {
        &self.stats
    }

    /// Executes requests until all shards have ended.
    pub async fn run(self: Arc<Self>, mut requests: mpsc::Receiver<RepairRequest>) {
        while let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await {
            let Some(request) = requests.recv().await else { return };
            let this = Arc::clone(&self);
            tokio::spawn(async move {
                let begun = clock::now();
                let result = this.execute(&request).await;
                drop(slot);
                match result {
                    Ok(()) => this.stats.succeeded(clock::now().since(begun)),
                    Err(err) => tracing::debug!(
                        uri = request.file.content_location,
                        ?err,
                        attempt = request.attempt,
                        "repair: an attempt failed"
                    ),
                }
                this.send(request.object, Command::RepairDone(request.object, result)).await;
            });
        }
    }

    async fn execute(&self, request: &RepairRequest) -> Result<(), RepairError> {
        let RepairRequest { object, file, requested, .. } = request;
        let result = match requested {
            RequestedBytes::Ranges(ranges, received) => {
                self.fetch_missing(*object, file, ranges, received).await
            }
            RequestedBytes::Complete => return self.fetch_complete(*object, file).await,
        };
        result?.map_err(|err| repair_error(&err))
    }

    /// Fetches missing ranges from the origins in order; bytes that one has delivered are not requested from the next.
    async fn fetch_missing(
        &self,
        object: ObjectRef,
        file: &File,
        ranges: &[Vec<Range<u64>>],
        received: &SymbolMap,
    ) -> Result<Result<(), OriginError>, RepairError> {
        let urls = self.urls(object, file);
        let first = urls.first().ok_or(RepairError::NoOrigin)?;
        let start = part_of(&file.content_location).map_or(0, |(_, start)| start);
        let mut result = self.fetch_ranges(object, received, first, ranges, start).await;
        for url in &urls[1..] {
            if result.is_ok() || received.is_complete() {
                break;
            }
            let requested = requests(received.missing(), received.length());
            result = self.fetch_ranges(object, received, url, &requested, start).await;
        }
        Ok(result)
    }

    async fn fetch_ranges(
        &self,
        object: ObjectRef,
        received: &SymbolMap,
        url: &str,
        requests: &[Vec<Range<u64>>],
        start: u64,
    ) -> Result<(), OriginError> {
        for ranges in requests {
            if received.is_complete() {
                return Ok(());
            }
            // A byte range that is an object of its own, or a chunk of a segment, is requested as a range of the origin's
            // file.
            let ranges: Vec<Range<u64>> =
                ranges.iter().map(|range| range.start + start..range.end + start).collect();
            self.stats.requests.fetch_add(1, Ordering::Relaxed);
            let (pieces, mut arrived) = mpsc::channel::<(u64, bytes::Bytes)>(PIECES);
            let patch = async {
                let mut gather = Gather::new(received.symbol_length());
                while let Some((offset, bytes)) = arrived.recv().await {
                    let offset = offset.saturating_sub(start);
                    self.stats.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    if let Some((offset, piece)) = gather.push(offset, &bytes) {
                        self.send(object, Command::Repair(object, offset, piece)).await;
                    }
                }
                // Bytes received before a failure are used as well.
                if let Some((offset, piece)) = gather.finish() {
                    self.send(object, Command::Repair(object, offset, piece)).await;
                }
            };
            let (result, ()) = tokio::join!(self.context.client.get_ranges(url, &ranges, pieces), patch);
            result?;
        }
        Ok(())
    }

    /// Fetches a complete object: one that is content-encoded on the link, for which an origin has no matching bytes, or
    /// one of which nothing has been received.
    async fn fetch_complete(&self, object: ObjectRef, file: &File) -> Result<(), RepairError> {
        if part_of(&file.content_location).is_some() {
            // No origin has it under this name; players request the range of the file, or read the segment.
            return Err(RepairError::NoOrigin);
        }
        let key = self.key(object, file).map_err(|_| RepairError::NoOrigin)?;
        let announced = Announced::of(file);
        let length = announced.length.unwrap_or(0);
        let RepairContext { store, flights, .. } = &self.context;
        if store.holds(key.as_str(), announced.digest, length, announced.version) {
            return Err(RepairError::NotNeeded);
        }
        let url = self.urls(object, file).into_iter().next().ok_or(RepairError::NoOrigin)?;
        let flight = flights.get(key.as_str());
        if let Some(flight) = flight.filter(|it| it.carried().is_some_and(|it| it.object == object)) {
            // The fill needs its place in the table; waiting clients look it up again and find the fill.
            flights.end(&flight, Outcome::Failed(FailReason::Replaced));
        }
        let ask = FillRequest { announced: Some(announced), is_our_own: true, ..FillRequest::default() };
        match self.context.filler.fill(&key, url, ask).await {
            FillResult::Flight(fill) => {
                while fill.outcome().is_none() && fill.wait_for(u64::MAX, SETTLE).await {}
                match fill.outcome() {
                    Some(Outcome::Complete(_) | Outcome::Passed(_)) => Ok(()),
                    Some(Outcome::Failed(FailReason::Verify)) => Err(RepairError::Mismatch),
                    Some(Outcome::Failed(FailReason::Replaced)) => Err(RepairError::NotNeeded),
                    _ => Err(RepairError::Failed),
                }
            }
            FillResult::Refused(status) => Err(repair_error(&OriginError::Status(status))),
            FillResult::Failed(err) => Err(repair_error(&err)),
            _ => Err(RepairError::Failed),
        }
    }

    fn key(&self, object: ObjectRef, file: &File) -> Result<ObjectKey, carousel::name::NameError> {
        self.context.names.key_of(&object.session, &file.content_location)
    }

    /// URLs of its bytes, best first: by `[[origin]]`, as signalled by the sender, its own URI.
    fn urls(&self, object: ObjectRef, file: &File) -> Vec<String> {
        let name = part_of(&file.content_location).map_or(&*file.content_location, |(whole, _)| whole);
        let RepairContext { names, origins, rules, .. } = &self.context;
        let mut urls: Vec<String> = Vec::new();
        let Ok(key) = names.key_of(&object.session, name) else { return urls };
        urls.extend(origins.configured_url(&key));
        if let Some(rule) = rules.get(&object.session) {
            urls.extend(signalled_urls(&rule, name, random()));
        }
        urls.extend(origins.url_for_announced(&key, names.url_of(name).as_deref().unwrap_or(name)));
        let mut seen = Vec::with_capacity(urls.len());
        urls.retain(|url| {
            !seen.contains(url) && {
                seen.push(url.clone());
                true
            }
        });
        urls
    }

    /// Sends a command to the object's shard; blocks only a thread that does not serve clients.
    async fn send(&self, object: ObjectRef, command: Command) {
        let shards = &self.context.shards;
        let shard = shards[shard_of(&object.session.destination, shards.len())].clone();
        let _ = tokio::task::spawn_blocking(move || shard.send(command)).await;
    }
}

/// If an object is a part of a file: the file's name, and the offset of the part.
fn part_of(name: &str) -> Option<(&str, u64)> {
    let chunk = || ChunkName::split(name).map(|it| (it.object, it.offset));
    range_of_name(name).map(|(whole, range)| (whole, range.start)).or_else(chunk)
}

const fn repair_error(err: &OriginError) -> RepairError {
    match err {
        OriginError::Status(403 | 404 | 410) | OriginError::Address(_) => RepairError::Refused,
        OriginError::CircuitOpen => RepairError::CircuitOpen,
        _ => RepairError::Failed,
    }
}

/// A random number that spreads boxes over origins; not for secrets.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod duration_tests;
#[cfg(test)]
mod tests;
