//! Finishing of objects, off the receive threads: digests, inflating, FEC decoding, publishing.
//!
//! A pool of workers, one for each core, two to [`MAX_WORKERS`]. At most one of them waits for the disk to take a body past the
//! page cache. The queue is bounded by the memory of the work, not by the number of jobs; a result counts until its shard has taken
//! it. Objects of one name are finished in sequence, so that an older version is never published over a newer one.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use carousel::digest::Digest;
use carousel::fec::{BlockId, SymbolMap};
use carousel::flute::{
    CacheControl, Encoding, Examined, File, SessionKey, SymbolPlace, VerifyError, decode_to, examine,
    verify_up_to,
};
use carousel::name::ObjectKey;
use carousel::time::WallTime;

use super::storage::{CacheStorage, ObjectSpace, SymbolReader, is_outranked, is_signalling};
use super::{Command, ReceiveContext};
use crate::clock;
use crate::delivery::{
    Decode, Decoded, FailReason, ObjectRef, Outcome, RejectReason, Restore, VerificationId, Verify, Work,
};
use crate::logs::LineLimit;
use crate::memory::MemoryBudgets;
use crate::signalling::Document;
use crate::store::{CameBy, Class, Frozen, ObjectMeta, ObjectUri, Partial, Placement, StoredObject};
use crate::trust::signer_text;
use crate::vitals::Vitals;

/// Overhead of a job in addition to its data.
const WORK_BYTES: u64 = 16 << 10;
/// Maximum number of workers: each may hold a source block of 64 MiB in memory.
const MAX_WORKERS: usize = 8;

/// Capacity of its block buffer that a worker keeps: allocating the pages again would cost more than decoding a small
/// block.
const KEPT_BUFFER_BYTES: usize = 8 << 20;

/// Work on the daemon's storage.
pub(super) type CacheWork = Work<CacheStorage>;

/// Received bytes of an object, all of which are in its file.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) partial: Arc<Partial>,
    pub(super) received: Arc<SymbolMap>,
    pub(super) words: Vec<u64>,
}

/// Receiver of results that are not for the shard.
pub trait FinishSink: Send {
    /// Receives a signalling document.
    fn document(&mut self, document: Document);
    /// Called when an object has been stored.
    fn stored(&mut self, _object: ObjectRef, _stored: &StoredObject) {}
}

/// Error of finishing a complete object.
#[derive(Debug)]
pub enum FinishError {
    /// It is not what the FDT describes.
    Verify(VerifyError),
    /// The store could not take it.
    Store(crate::store::StoreError),
}

impl std::fmt::Display for FinishError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Verify(err) => write!(f, "the bytes are not what the FDT describes: {err}"),
            Self::Store(err) => err.fmt(f),
        }
    }
}

/// Result of a job, for the shard.
#[derive(Debug)]
pub(super) enum Answer {
    /// An object was verified.
    Verified(ObjectRef, VerificationId, Result<(), RejectReason>),
    /// A source block of a FLUTE object was decoded.
    Decoded(ObjectRef, BlockId, Decoded),
    /// A source block of a ROUTE object was decoded.
    Restored(ObjectRef, BlockId, Decoded),
}

/// Callback for a result.
pub(super) type Reply = Arc<dyn Fn(Command) + Send + Sync>;

struct Job {
    work: CacheWork,
    claim: Claim,
    /// Hash of the object's name: objects with the same are finished in sequence.
    name: Option<u64>,
    reply: Reply,
}

impl Job {
    /// Command to its shard if the job fails.
    const fn given_up(&self) -> Option<Command> {
        match &self.work {
            Work::Verify(it) => Some(Command::Verified(it.object, it.id, Err(RejectReason::Verify))),
            Work::Decode(it) => Some(Command::Decoded(it.object, it.job.block, None, None)),
            Work::Restore(it) => Some(Command::Restored(it.object, it.job.block, None, None)),
            Work::Checkpoint(_) => None,
        }
    }
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Names of objects that workers are finishing.
    at_work: Vec<u64>,
    is_closed: bool,
}

struct Pool {
    /// Most memory of queued and running work, and of one decoded document.
    most_bytes: u64,
    most_document_bytes: u64,
    queue: Mutex<Queue>,
    ready: Condvar,
    bytes: Mutex<u64>,
}

impl Pool {
    fn within(memory: &MemoryBudgets) -> Self {
        Self {
            most_bytes: memory.finishing_bytes,
            most_document_bytes: memory.document_bytes as u64,
            queue: Mutex::default(),
            ready: Condvar::new(),
            bytes: Mutex::default(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Every change is one push or removal, so a panic elsewhere leaves it consistent.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes(&self) -> MutexGuard<'_, u64> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory reserved for a piece of work until dropped.
pub struct Claim {
    pool: Arc<Pool>,
    bytes: u64,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Claim({})", self.bytes)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut taken = self.pool.bytes();
        *taken = taken.saturating_sub(self.bytes);
    }
}

/// Handle by which shards queue work.
#[derive(Clone)]
pub struct FinishQueue(Arc<Pool>);

impl std::fmt::Debug for FinishQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FinishQueue({} bytes)", self.0.bytes())
    }
}

impl FinishQueue {
    /// Reserves memory for this work, if available.
    pub(super) fn claim(&self, work: &CacheWork) -> Option<Claim> {
        let bytes = memory_bytes(work, self.0.most_document_bytes);
        let mut taken = self.0.bytes();
        if *taken > 0 && taken.saturating_add(bytes) > self.0.most_bytes {
            return None;
        }
        // Only a piece that runs alone exceeds the limit, so the sum cannot saturate, and a claim returns what it took.
        *taken = taken.saturating_add(bytes);
        Some(Claim { pool: Arc::clone(&self.0), bytes })
    }

    /// Queues work.
    pub(super) fn push(&self, work: CacheWork, claim: Claim, reply: Reply) {
        let name = match &work {
            Work::Verify(Verify { file, .. }) => {
                let mut hasher = DefaultHasher::new();
                file.content_location.hash(&mut hasher);
                Some(hasher.finish())
            }
            Work::Decode(_) | Work::Restore(_) | Work::Checkpoint(_) => None,
        };
        self.0.queue().jobs.push_back(Job { work, claim, name, reply });
        self.0.ready.notify_one();
    }
}

/// The workers. When dropped, they finish the queued work and end.
pub struct Finishing {
    pool: Arc<Pool>,
    workers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Finishing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Finishing({} workers)", self.workers.len())
    }
}

impl Finishing {
    /// Starts a worker for each core, and two at least: one may wait for the disk.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(
        context: &ReceiveContext,
        sink: &(impl FinishSink + Clone + 'static),
        vitals: &Vitals,
    ) -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with_workers(cores.clamp(2, MAX_WORKERS), context, sink, vitals)
    }

    /// Starts a number of workers.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn with_workers(
        count: usize,
        context: &ReceiveContext,
        sink: &(impl FinishSink + Clone + 'static),
        vitals: &Vitals,
    ) -> std::io::Result<Self> {
        let pool = Arc::new(Pool::within(&context.memory));
        let mut workers = Vec::with_capacity(count);
        for number in 0..count {
            let (pool, context, mut sink) = (Arc::clone(&pool), context.clone(), sink.clone());
            let name = format!("finishing-{number}");
            let sign = vitals.show(name.clone(), clock::now());
            let worker = std::thread::Builder::new().name(name).spawn(move || {
                let mut buffer = Vec::new();
                while let Some(job) = next_job(&pool) {
                    sign.give(clock::now());
                    let name = job.name;
                    let (given_up, reply) = (job.given_up(), Arc::clone(&job.reply));
                    // Untrusted bytes are decoded here: a panic gives up only this object.
                    if sign.survive(|| run(&context, job, &mut sink, &mut buffer)).is_none()
                        && let Some(command) = given_up
                    {
                        reply(command);
                    }
                    sign.give(clock::now());
                    if name.is_some() {
                        pool.queue().at_work.retain(|it| Some(*it) != name);
                        pool.ready.notify_all();
                    }
                }
            })?;
            workers.push(worker);
        }
        Ok(Self { pool, workers })
    }

    /// A handle to the queue.
    pub fn queue(&self) -> FinishQueue {
        FinishQueue(Arc::clone(&self.pool))
    }
}

impl Drop for Finishing {
    fn drop(&mut self) {
        self.pool.queue().is_closed = true;
        self.pool.ready.notify_all();
        for worker in self.workers.drain(..) {
            // A panic was reported on stderr.
            let _ = worker.join();
        }
    }
}

/// Waits for a job whose name no other worker is finishing.
fn next_job(pool: &Pool) -> Option<Job> {
    let mut queue = pool.queue();
    loop {
        let at_work = &queue.at_work;
        let free = queue.jobs.iter().position(|job| job.name.is_none_or(|name| !at_work.contains(&name)));
        if let Some(job) = free.and_then(|at| queue.jobs.remove(at)) {
            queue.at_work.extend(job.name);
            return Some(job);
        }
        if queue.is_closed && queue.jobs.is_empty() {
            return None;
        }
        queue = pool.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

fn run(context: &ReceiveContext, job: Job, sink: &mut dyn FinishSink, buffer: &mut Vec<u8>) {
    let Job { work, claim, reply, .. } = job;
    match finish(context, work, sink, buffer) {
        Some(Answer::Verified(object, id, result)) => {
            drop(claim);
            reply(Command::Verified(object, id, result));
        }
        Some(Answer::Decoded(object, block, decoded)) => {
            reply(Command::Decoded(object, block, decoded, Some(claim)));
        }
        Some(Answer::Restored(object, block, decoded)) => {
            reply(Command::Restored(object, block, decoded, Some(claim)));
        }
        None => {}
    }
}

/// Memory that a job takes while it runs. That for the decoded bytes of a content-encoded object, whatever its sender announces: a
/// document is decoded in memory up to `most_document_bytes`, any other object in small pieces into its file.
fn memory_bytes(work: &CacheWork, most_document_bytes: u64) -> u64 {
    let bytes = match work {
        Work::Verify(Verify { buf: ObjectSpace::Memory(bytes), .. }) => bytes.len() as u64,
        Work::Verify(Verify { file, .. }) if file.encoding != Encoding::Identity => {
            file.content_length.map_or(most_document_bytes, |length| length.min(most_document_bytes))
        }
        Work::Verify(_) => 0,
        Work::Decode(decode) => decode.job.memory_bytes(),
        Work::Restore(restore) => restore.job.memory_bytes(),
        Work::Checkpoint(checkpoint) => (checkpoint.words.len() as u64).saturating_mul(8),
    };
    bytes.saturating_add(WORK_BYTES)
}

/// Executes one job and returns the result for its shard. `buffer` is scratch space for decoding.
pub(super) fn finish(
    context: &ReceiveContext,
    work: CacheWork,
    sink: &mut dyn FinishSink,
    buffer: &mut Vec<u8>,
) -> Option<Answer> {
    match work {
        Work::Verify(whole) => {
            let (object, id) = (whole.object, whole.id);
            Some(Answer::Verified(object, id, finish_object(context, whole, sink)))
        }
        Work::Decode(Decode { object, job, reader }) => {
            Some(Answer::Decoded(object, job.block, decode(&job, &reader, buffer)))
        }
        Work::Restore(Restore { object, job }) => {
            let block = job.block;
            Some(Answer::Restored(object, block, job.run()))
        }
        Work::Checkpoint(Checkpoint { partial, received, words }) => {
            if let Err(err) = partial.checkpoint(&received, &words) {
                tracing::debug!(%err, "a checkpoint could not be written");
            }
            None
        }
    }
}

fn decode(job: &carousel::flute::RecoveryJob, reader: &SymbolReader, buffer: &mut Vec<u8>) -> Decoded {
    let decoded = job.run_in(buffer, |place, out| {
        let offset = match place {
            SymbolPlace::Offset(offset) => offset,
            SymbolPlace::Slot(slot) => {
                reader.length.saturating_add(u64::from(slot).saturating_mul(out.len() as u64))
            }
        };
        reader.partial.read_at(offset, out).is_ok()
    });
    buffer.truncate(KEPT_BUFFER_BYTES);
    buffer.shrink_to(KEPT_BUFFER_BYTES);
    decoded
}

/// Verifies, decodes, and publishes or passes on one object.
fn finish_object(
    context: &ReceiveContext,
    whole: Verify<ObjectSpace>,
    sink: &mut dyn FinishSink,
) -> Result<(), RejectReason> {
    let Verify { object, file, buf, repaired_symbols, .. } = whole;
    let (partial, flight) = match buf {
        ObjectSpace::Memory(bytes) => match verify_up_to(&file, &bytes, context.memory.document_bytes as u64)
        {
            Ok(content) => {
                pass_on(object, &file, content.decoded.unwrap_or(bytes), sink);
                return Ok(());
            }
            Err(err) => return Err(rejected(object, &file, &FinishError::Verify(err))),
        },
        ObjectSpace::File(space) => space.into_parts(),
        ObjectSpace::Live(space) => {
            let (growing, flight) = space.into_parts();
            let length = file.on_air_length().unwrap_or(0);
            let key = context.names.key_of(&object.session, &file.content_location).ok();
            match context.store.settle(&growing, length, live_placement(context, key.as_ref(), &file)) {
                Ok(partial) => (partial, flight),
                Err(err) => {
                    let reason = rejected(object, &file, &FinishError::Store(err));
                    if let Some(flight) = flight {
                        context.flights.end(&flight, Outcome::Failed(FailReason::Store));
                    }
                    return Err(reason);
                }
            }
        }
    };
    match publish(context, object.session, &file, partial, repaired_symbols, sink) {
        Ok(stored) => {
            // Signalling whose name was unknown at its start is not an object for clients; neither is an outranked
            // object.
            let Some(stored) = stored else {
                if let Some(flight) = flight {
                    context.flights.end(&flight, Outcome::Failed(FailReason::Replaced));
                }
                return Ok(());
            };
            context.stats.count_object(repaired_symbols > 0);
            sink.stored(object, &stored);
            if let Some(flight) = flight {
                context.flights.end(&flight, Outcome::Complete(stored));
            }
            Ok(())
        }
        Err(err) => {
            let reason = rejected(object, &file, &err);
            if let Some(flight) = flight {
                let failed = match reason {
                    RejectReason::Verify => FailReason::Verify,
                    _ => FailReason::Store,
                };
                context.flights.end(&flight, Outcome::Failed(failed));
            }
            Err(reason)
        }
    }
}

pub(super) fn rejected(object: ObjectRef, file: &File, why: &FinishError) -> RejectReason {
    static LIMIT: LineLimit = LineLimit::new();
    let ObjectRef { session, toi } = object;
    let uri = file.content_location.escape_debug();
    if LIMIT.admits(clock::now(), |count| tracing::warn!(count, "further objects rejected")) {
        tracing::warn!(session = %session.destination, tsi = session.tsi.0, %toi, %uri, %why, "object rejected");
    }
    match why {
        FinishError::Verify(_) => RejectReason::Verify,
        FinishError::Store(_) => RejectReason::Store,
    }
}

fn pass_on(object: ObjectRef, file: &File, bytes: Vec<u8>, sink: &mut dyn FinishSink) {
    let (name, content_type) = (file.content_location.clone(), file.content_type.clone());
    sink.document(Document { object, name, content_type, bytes, is_signed: file.signed_by.is_some() });
}

pub(super) fn publish(
    context: &ReceiveContext,
    session: SessionKey,
    file: &File,
    partial: Arc<Partial>,
    repaired_symbols: u64,
    sink: &mut dyn FinishSink,
) -> Result<Option<Arc<StoredObject>>, FinishError> {
    let io = |err: std::io::Error| FinishError::Store(err.into());
    let length = file.on_air_length();
    let length = match length {
        Some(length) => length,
        None => partial.length().map_err(io)?,
    };
    let frozen = partial.freeze(length).map_err(io)?;
    if is_signalling(file) {
        // It was opened before its name was known.
        let most = context.memory.document_bytes as u64;
        if length > most {
            return Err(FinishError::Verify(VerifyError::TooLarge));
        }
        let content = verify_up_to(file, frozen.as_slice(), most).map_err(FinishError::Verify)?;
        let bytes = content.decoded.unwrap_or_else(|| frozen.as_slice().to_vec());
        pass_on(ObjectRef { session, toi: file.toi }, file, bytes, sink);
        return Ok(None);
    }
    let content = examine(file, frozen.as_slice()).map_err(FinishError::Verify)?;
    let key = context
        .names
        .key_of(&session, &file.content_location)
        .map_err(|_| FinishError::Store(crate::store::StoreError::MetaTooLarge))?;
    // A signed object of its name has arrived since it was opened.
    if is_outranked(context, key.as_str(), file) {
        return Ok(None);
    }
    let frozen = if content.is_encoded { decoded(context, file, &frozen, &key, &content)? } else { frozen };
    let now = clock::steady();
    let class = context.store.class_of(key.as_str());
    let uri = context.names.url_in(&session, &file.content_location);
    let meta = ObjectMeta {
        uri: ObjectUri::new(uri.as_deref().unwrap_or(&file.content_location), &key),
        key,
        content_type: file.content_type.clone(),
        length: frozen.as_slice().len() as u64,
        digest: content.digest,
        version: file.version(),
        received_at: now,
        expires: expires(file, now),
        class,
        came_by: if repaired_symbols > 0 { CameBy::CarouselRepaired } else { CameBy::Carousel },
        response: None,
        ignored_query: file.ignored_query.clone(),
        signed_by: file.signed_by.as_deref().map(signer_text),
    };
    context
        .manifests
        .publish_sent(&context.store, &frozen, meta, Some(session))
        .map(Some)
        .map_err(FinishError::Store)
}

/// Decodes a content-encoded object into a separate file. It is inflated twice, since room is reserved only when its length is
/// certain, and it is never completely in memory.
pub(super) fn decoded(
    context: &ReceiveContext,
    file: &File,
    encoded: &Frozen,
    key: &ObjectKey,
    content: &Examined,
) -> Result<Frozen, FinishError> {
    let placement = placement(context, Some(key), file);
    let partial = Arc::new(context.store.create(content.length, placement).map_err(FinishError::Store)?);
    let (mut offset, mut hasher, mut failure) = (0, Digest::hasher(), None);
    let inflated = decode_to(&file.encoding, encoded.as_slice(), Some(content.length), &mut |piece| {
        hasher.update(piece);
        match partial.write_at(offset, piece) {
            Ok(()) => offset += piece.len() as u64,
            Err(err) => failure = Some(err),
        }
        failure.is_none()
    });
    if let Some(err) = failure {
        return Err(FinishError::Store(err.into()));
    }
    inflated.map_err(FinishError::Verify)?;
    if offset != content.length || hasher.finish() != content.digest {
        return Err(FinishError::Verify(VerifyError::DigestMismatch));
    }
    partial.freeze(content.length).map_err(|err| FinishError::Store(err.into()))
}

/// Expiry by the FDT of an object received now.
fn expires(file: &File, now: WallTime) -> Option<WallTime> {
    match file.cache_control {
        Some(CacheControl::NoCache) => Some(now),
        Some(CacheControl::Expires(ntp)) => {
            Some(clock::steady_of(WallTime::from_ntp_seconds(ntp, clock::wall())))
        }
        Some(CacheControl::MaxStale) | None => None,
    }
}

/// Placement of a live object: in memory.
pub(super) fn live_placement(context: &ReceiveContext, key: Option<&ObjectKey>, file: &File) -> Placement {
    Placement { is_short_lived: true, ..placement(context, key, file) }
}

/// Placement of an object. `key`: `None` if its name is unusable.
pub(super) fn placement(context: &ReceiveContext, key: Option<&ObjectKey>, file: &File) -> Placement {
    let now = clock::steady();
    let is_live = key.is_some_and(|key| context.manifests.live_target_ms(key).is_some());
    Placement {
        class: key.map_or(Class::Medium, |key| context.store.class_of(key.as_str())),
        is_short_lived: is_live || context.store.is_short(now, expires(file, now)),
    }
}
