//! What must not hold up a receive thread: digest, decoding, publishing, and passing signalling on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use carousel::fec::SymbolMap;
use carousel::flute::{CacheControl, File, RecoveryJob, SessionKey, SymbolPlace, VerifyError, verify};
use carousel::time::WallTime;

use super::shelf::{ObjectSpace, is_signalling};
use super::{ObjectRef, Shared};
use crate::clock;
use crate::delivery::{FailReason, Outcome};
use crate::store::{CameBy, Class, ObjectMeta, ObjectUri, Partial, StoredObject, Wish};

/// Whole objects waiting for their digest. A shard completes a few hundred small objects in a burst.
const QUEUE: usize = 1024;

/// What the finisher does.
#[derive(Debug)]
pub(super) enum Work {
    /// An object to verify and publish.
    Whole(Whole),
    /// A source block to decode.
    Block(Block),
    /// What has arrived of a large object is to survive a power cut.
    Checkpoint(Checkpoint),
}

/// What has arrived of an object, all of it in its file.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) partial: Arc<Partial>,
    pub(super) received: Arc<SymbolMap>,
    pub(super) words: Vec<u64>,
}

/// A source block with enough encoding symbols.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) session: SessionKey,
    pub(super) job: RecoveryJob,
    pub(super) partial: Arc<Partial>,
    /// Transfer length: the slots of repair symbols begin there.
    pub(super) length: u64,
}

/// Lost symbols with their offsets; nothing if they could not be brought back.
pub type Recovered = Option<Vec<(u64, Vec<u8>)>>;

/// A whole object, not yet verified.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) session: SessionKey,
    pub(super) file: Arc<File>,
    pub(super) space: ObjectSpace,
    pub(super) repaired_symbols: u64,
}

/// A signalling document for the session directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The session and TOI that brought it.
    pub object: ObjectRef,
    /// Its name.
    pub name: String,
    /// MIME type.
    pub content_type: Option<String>,
    /// Its bytes, decoded.
    pub bytes: Vec<u8>,
}

/// What the finisher tells others.
pub trait Aftermath: Send {
    /// Wrong bytes: receive it again.
    fn reject(&mut self, object: ObjectRef, why: FinishError);
    /// A signalling document has come.
    fn document(&mut self, document: Document);
    /// A block was decoded, or could not be.
    fn recovered(&mut self, object: ObjectRef, sbn: u32, lost: Recovered);
    /// An object is in the cache.
    fn stored(&mut self, _object: ObjectRef, _stored: &StoredObject) {}
}

/// Why a whole object did not get into the cache.
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

/// Where whole objects go, and blocks to decode.
#[derive(Debug, Clone)]
pub struct Wholes(pub(super) SyncSender<Work>);

/// The finisher's queue and thread.
#[derive(Debug)]
pub struct Finisher {
    queue: SyncSender<Work>,
}

impl Finisher {
    /// Starts the thread; it ends when the last clone of the queue is gone.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(shared: Arc<Shared>, mut aftermath: impl Aftermath + 'static) -> std::io::Result<Self> {
        let (queue, work): (_, Receiver<Work>) = sync_channel(QUEUE);
        std::thread::Builder::new().name("finisher".to_owned()).spawn(move || {
            while let Ok(work) = work.recv() {
                finish(&shared, work, &mut aftermath);
            }
        })?;
        Ok(Self { queue })
    }

    /// The way in.
    pub fn queue(&self) -> Wholes {
        Wholes(self.queue.clone())
    }
}

/// Does one piece of work.
pub(super) fn finish(shared: &Shared, work: Work, aftermath: &mut dyn Aftermath) {
    match work {
        Work::Whole(whole) => finish_whole(shared, whole, aftermath),
        Work::Block(block) => decode(&block, aftermath),
        Work::Checkpoint(Checkpoint { partial, received, words }) => {
            if let Err(err) = partial.checkpoint(&received, &words) {
                tracing::debug!(%err, "a checkpoint could not be written");
            }
        }
    }
}

fn decode(block: &Block, aftermath: &mut dyn Aftermath) {
    let lost = block.job.run(|place, out| {
        let offset = match place {
            SymbolPlace::Offset(offset) => offset,
            SymbolPlace::Slot(slot) => block.length + u64::from(slot) * out.len() as u64,
        };
        block.partial.read_at(offset, out).is_ok()
    });
    let object = ObjectRef { session: block.session, toi: block.job.toi };
    aftermath.recovered(object, block.job.sbn, lost);
}

/// Verifies, decodes, and publishes or passes on one object.
fn finish_whole(shared: &Shared, whole: Whole, aftermath: &mut dyn Aftermath) {
    let Whole { session, file, space, repaired_symbols } = whole;
    let object = ObjectRef { session, toi: file.toi };
    let (partial, flight) = match space {
        ObjectSpace::Memory(bytes) => {
            match verify(&file, &bytes) {
                Ok(content) => pass_on(object, &file, content.decoded.unwrap_or(bytes), aftermath),
                Err(err) => aftermath.reject(object, FinishError::Verify(err)),
            }
            return;
        }
        ObjectSpace::File(space) => space.into_parts(),
    };
    let result = publish(shared, session, &file, partial, repaired_symbols, aftermath);
    match result {
        Ok(stored) => {
            // Signalling that had no name when it was begun is no object for players.
            let Some(stored) = stored else { return };
            shared.received.fetch_add(1, Ordering::Relaxed);
            if repaired_symbols > 0 {
                shared.repaired.fetch_add(1, Ordering::Relaxed);
            }
            aftermath.stored(object, &stored);
            if let Some(flight) = flight {
                shared.flights.end(&flight, Outcome::Whole(stored));
            }
        }
        Err(err) => {
            let reason = match err {
                FinishError::Verify(_) => FailReason::Verify,
                FinishError::Store(_) => FailReason::Store,
            };
            if let Some(flight) = flight {
                shared.flights.end(&flight, Outcome::Failed(reason));
            }
            aftermath.reject(object, err);
        }
    }
}

fn pass_on(object: ObjectRef, file: &File, bytes: Vec<u8>, aftermath: &mut dyn Aftermath) {
    let (name, content_type) = (file.content_location.clone(), file.content_type.clone());
    aftermath.document(Document { object, name, content_type, bytes });
}

fn publish(
    shared: &Shared,
    session: SessionKey,
    file: &File,
    partial: Arc<Partial>,
    repaired_symbols: u64,
    aftermath: &mut dyn Aftermath,
) -> Result<Option<Arc<StoredObject>>, FinishError> {
    let io = |err: std::io::Error| FinishError::Store(err.into());
    let length = file.on_air_length();
    let length = match length {
        Some(length) => length,
        None => partial.length().map_err(io)?,
    };
    let frozen = partial.freeze(length).map_err(io)?;
    let content = verify(file, frozen.as_slice()).map_err(FinishError::Verify)?;
    if is_signalling(file) {
        // It was opened before it had a name.
        pass_on(
            ObjectRef { session, toi: file.toi },
            file,
            content.decoded.unwrap_or_else(|| frozen.as_slice().to_vec()),
            aftermath,
        );
        return Ok(None);
    }
    let frozen = match &content.decoded {
        None => frozen,
        Some(decoded) => {
            let wish = wish(shared, session, file);
            let partial = shared.store.create(decoded.len() as u64, wish).map_err(FinishError::Store)?;
            let partial = Arc::new(partial);
            partial.write_at(0, decoded).map_err(io)?;
            partial.freeze(decoded.len() as u64).map_err(io)?
        }
    };
    let key = shared
        .key_of(&session, &file.content_location)
        .map_err(|_| FinishError::Store(crate::store::StoreError::MetaTooLarge))?;
    let now = clock::steady();
    let class = shared.store.class_of(key.as_str());
    let uri = shared.url_of(&file.content_location);
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
    };
    let stored = shared.store.publish_with(&frozen, meta, |object| shared.manifests.learn(object));
    stored.map(Some).map_err(FinishError::Store)
}

/// When an object that comes now is stale, if its FDT says so.
fn expires(file: &File, now: WallTime) -> Option<WallTime> {
    match file.cache_control {
        Some(CacheControl::NoCache) => Some(now),
        Some(CacheControl::Expires(ntp)) => {
            Some(clock::steady_of(WallTime::from_ntp_seconds(ntp, clock::wall())))
        }
        Some(CacheControl::MaxStale) | None => None,
    }
}

/// Where an object wants to live.
pub(super) fn wish(shared: &Shared, session: SessionKey, file: &File) -> Wish {
    let now = clock::steady();
    let key = shared.key_of(&session, &file.content_location).ok();
    let is_live = key.as_ref().is_some_and(|key| shared.manifests.live_target_ms(key).is_some());
    Wish {
        class: key.map_or(Class::Medium, |key| shared.store.class_of(key.as_str())),
        is_short_lived: is_live || shared.store.is_short(now, expires(file, now)),
    }
}

/// How long a shard waits for stragglers when it ends.
pub(super) const LAST_TICK: Duration = Duration::from_millis(10);
