//! Reception: threads, sockets and workers around the state machine of [`crate::delivery`].
//!
//! ```text
//! shard thread:  socket ─ Batch ─▶ Delivery ─ symbols into place
//!                                   │  ▲ work (bounded by bytes)
//! finishing:     digest, decode ◀───┘  │ verified, decoded
//!                publish ──────────────┘ ── signalling ──▶ session directory ── sockets to open ──▶ shard
//! ```
//!
//! A socket belongs to one shard, so a session does too; shards share nothing but the store, the flights and the
//! queues. A shard never hashes, inflates, publishes or waits.

mod command;
mod finishing;
mod intake;
#[cfg(test)]
mod live_tests;
mod replay;
mod shard;
mod stats;
mod storage;
#[cfg(test)]
mod tests;
mod write_behind;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use carousel::flute::SessionKey;
use carousel::mabr::Aliases;
use carousel::name::{NameError, ObjectKey};
use carousel::time::Instant;

use crate::bounded::BoundedMap;
use crate::delivery::Flights;
use crate::manifests::Manifests;
use crate::store::Store;
use crate::transport::TransportStats;
use crate::vitals::Vitals;

pub use crate::delivery::{LossCounters, ObjectRef, SessionStats};
pub use command::Command;
pub use finishing::{Document, FinishError, FinishQueue, FinishSink, Finishing, MAX_FINISHING_BYTES};
pub use intake::Intake;
pub use replay::{ReplaySummary, replay};
pub use shard::{Shard, ShardHandle, ShardSender, shard_of};
pub use stats::ReceiveStats;

/// Signalling documents kept: a handful for each network. The one that came longest ago makes room.
const MAX_DOCUMENTS: usize = 256;
/// A document that has not come again for so long is forgotten: senders repeat theirs every few seconds.
const DOCUMENT_LIFE: Duration = Duration::from_secs(36 * 3600);

/// What shards, finishing, repair and responses share.
#[derive(Debug)]
pub struct Shared {
    /// The cache.
    pub store: Store,
    /// Objects on their way.
    pub flights: Arc<Flights>,
    /// Names on the air to URLs, from the configurations received.
    aliases: RwLock<Arc<Aliases>>,
    /// Counters.
    pub stats: ReceiveStats,
    /// Signalling documents by key, for players and status.
    documents: Mutex<BoundedMap<String, (Instant, Arc<Document>)>>,
    /// Objects that became whole by the carousel, and those of them with repaired parts.
    pub received: AtomicU64,
    /// See `received`.
    pub repaired: AtomicU64,
    /// Whether receivers and workers turn.
    pub vitals: Vitals,
    /// Transport streams.
    pub transport: TransportStats,
    /// What the manifests in the cache say.
    pub manifests: Manifests,
}

impl Shared {
    /// With nothing received yet.
    pub fn new(store: Store, flights: Arc<Flights>) -> Arc<Self> {
        Arc::new(Self {
            store,
            flights,
            aliases: RwLock::default(),
            documents: Mutex::new(BoundedMap::new(MAX_DOCUMENTS)),
            stats: ReceiveStats::default(),
            vitals: Vitals::default(),
            transport: TransportStats::default(),
            manifests: Manifests::default(),
            received: AtomicU64::new(0),
            repaired: AtomicU64::new(0),
        })
    }

    /// The URL under which players know the object of this name.
    pub fn url_of(&self, name: &str) -> Option<String> {
        // A poisoned lock still holds the last whole set of aliases: it is only ever swapped.
        let aliases = self.aliases.read().unwrap_or_else(PoisonError::into_inner);
        aliases.url_of(name)
    }

    /// Takes new aliases.
    pub fn set_aliases(&self, aliases: Aliases) {
        *self.aliases.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(aliases);
    }

    /// Keeps a signalling document where clients can ask for it. Those that have not come for long are forgotten.
    pub fn keep_document(&self, now: Instant, document: Document) {
        let Ok(key) = self.key_of(&document.object.session, &document.name) else { return };
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        documents.retain(|_, (came, _)| now.since(*came) < DOCUMENT_LIFE);
        documents.insert(key.as_str().to_owned(), (now, Arc::new(document)));
    }

    /// The signalling document of this key.
    pub fn document(&self, key: &str) -> Option<Arc<Document>> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner).get(key).map(|(_, it)| Arc::clone(it))
    }

    /// The cache key of an object of this name in this session.
    ///
    /// # Errors
    /// If the name cannot be used.
    pub fn key_of(&self, session: &SessionKey, name: &str) -> Result<ObjectKey, NameError> {
        let base =
            carousel::nip::is_announcement_group(session.destination.ip()).then_some(carousel::nip::BASE);
        ObjectKey::from_name(self.url_of(name).as_deref().unwrap_or(name), base)
    }
}
