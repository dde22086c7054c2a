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

mod air;
mod command;
mod finishing;
mod intake;
#[cfg(test)]
mod live_tests;
mod shard;
mod stats;
mod storage;
#[cfg(test)]
pub(crate) mod tests;
mod write_behind;

use std::sync::Arc;

use carousel::budget::SessionBudget;
use carousel::trust::Trust;

use crate::delivery::Flights;
use crate::manifests::Manifests;
use crate::memory::MemoryBudgets;
use crate::signalling::Names;
use crate::store::Store;

pub use air::AirDatagrams;
pub use command::Command;
pub use finishing::{FinishError, FinishQueue, FinishSink, Finishing};
pub use intake::{Incomplete, Intake};
#[cfg(test)]
pub(crate) use shard::channel;
pub use shard::{Shard, ShardHandle, ShardSender, shard_of};
pub use stats::ReceiveStats;

/// Parts of the daemon that reception uses. Clones share them.
#[derive(Debug, Clone)]
pub struct ReceiveContext {
    /// The cache.
    pub store: Store,
    /// Objects in flight.
    pub flights: Arc<Flights>,
    /// Names of objects, from the configurations received.
    pub names: Arc<Names>,
    /// Facts of the manifests in the cache.
    pub manifests: Arc<Manifests>,
    /// Counters.
    pub stats: Arc<ReceiveStats>,
    /// Keys, and the memory of versions.
    pub trust: Arc<Trust>,
    /// Memory budget of the sessions of all shards.
    pub budget: SessionBudget,
    /// Memory budgets of what is received.
    pub memory: MemoryBudgets,
}

impl ReceiveContext {
    /// A context with this cache and nothing received yet, where there is plenty of memory.
    pub fn new(store: Store) -> Self {
        Self::within(store, MemoryBudgets::default())
    }

    /// As [`Self::new`], within these budgets.
    pub fn within(store: Store, memory: MemoryBudgets) -> Self {
        Self {
            store,
            flights: Flights::within(memory.announced),
            names: Arc::default(),
            manifests: Arc::default(),
            stats: Arc::default(),
            trust: Arc::default(),
            budget: SessionBudget::of(memory.sessions_bytes),
            memory,
        }
    }
}
