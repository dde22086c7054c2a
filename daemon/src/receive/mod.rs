//! From datagrams to objects in the cache.
//!
//! ```text
//! shard thread:  socket ─ Batch ─ Packet ─ Sessions ─ Receiver ─ symbols into place
//!                                                        │ Complete (bounded queue)
//! finisher:      digest, decode, publish ◀───────────────┘ ── signalling ──▶ session directory
//!                     │ wrong bytes: reject                                      │ sockets to open
//!                     └──────────────────────────▶ shard ◀───────────────────────┘
//! ```
//!
//! A socket belongs to one shard, so a session does too; shards share nothing but the store, the flights and the
//! queues. A shard never hashes, inflates, publishes or waits.

mod behind;
mod command;
mod finish;
mod intake;
mod replay;
mod shard;
mod shelf;
mod stats;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use carousel::flute::SessionKey;
use carousel::mabr::Aliases;
use carousel::name::{NameError, ObjectKey};

use crate::delivery::Flights;
use crate::manifests::Manifests;
use crate::store::Store;
use crate::transport::TransportStats;
use crate::vitals::Vitals;

pub use crate::delivery::ObjectRef;
pub use command::{Command, Listen};
pub use finish::{Aftermath, Document, FinishError, Finisher, Recovered, Wholes};
pub use intake::{Intake, Trouble};
pub use replay::{ReplaySummary, replay};
pub use shard::{Ear, Shard, ShardHandle, shard_of};
pub use stats::{LossCounters, ReceiveStats, SessionStats};

/// Signalling documents kept: a handful for each network.
const MAX_DOCUMENTS: usize = 256;

/// What every shard and the finisher share.
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
    documents: Mutex<BTreeMap<String, Arc<Document>>>,
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
            documents: Mutex::default(),
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

    /// Keeps a signalling document where players can ask for it.
    pub fn keep_document(&self, document: Document) {
        let Ok(key) = self.key_of(&document.object.session, &document.name) else { return };
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        if documents.len() < MAX_DOCUMENTS || documents.contains_key(key.as_str()) {
            documents.insert(key.as_str().to_owned(), Arc::new(document));
        }
    }

    /// The signalling document of this key.
    pub fn document(&self, key: &str) -> Option<Arc<Document>> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
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
