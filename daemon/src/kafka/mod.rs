//! Kafka: purges for all boxes, their results, and measurements of players. Behind the feature `kafka`.
//!
//! ```text
//! cdn-purge ─▶ Follower (one for each partition) ─▶ admin::fleet ─▶ store
//!                                                        └─ Results ─▶ cdn-purge-results
//! qoe::Spool ─▶ Measurements ─▶ qoe-metrics
//! ```
//!
//! Each box reads every message of the purge topic, so it needs no consumer group, whose members would share them: it keeps its
//! own offset in each partition ([`TopicOffsets`]), and continues from there. Unavailable brokers, missing topics and unreadable
//! messages are counted, logged once while they last, and never stop anything.

mod offsets;
mod options;

#[cfg(feature = "kafka")]
mod around;
#[cfg(feature = "kafka")]
mod measurements;
#[cfg(feature = "kafka")]
mod results;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use carousel::reason::Counts;

pub use offsets::TopicOffsets;
pub use options::Kafka;
pub use skycache_kafka::{Compression, KafkaError, KafkaSasl, KafkaTls, LinkStats, Mechanism};

#[cfg(feature = "kafka")]
pub use around::link;
#[cfg(feature = "kafka")]
pub use measurements::send as send_measurements;
#[cfg(feature = "kafka")]
pub use results::Results;
#[cfg(feature = "kafka")]
pub use skycache_kafka::{Fetched, Follower, Link};

/// Whether this program speaks Kafka's protocol.
pub const HAS_KAFKA: bool = cfg!(feature = "kafka");
/// Message of a program without it of a configuration with `[kafka]`.
pub const MISSING: &str = "[kafka]: this program is built without Kafka; fix: install the package for servers, or build with --features kafka";

carousel::reasons! {
    /// Outcome of a message of the purge topic.
    pub enum PurgeOutcome in "kafka_purges" by "outcome" {
        /// Objects were purged.
        Done = "done",
        /// Nothing that it means was held.
        Nothing = "nothing",
        /// Its id was done before.
        Repeated = "repeated",
        /// It is not a purge, or one that is not allowed: the log and the result say why.
        Refused = "refused",
        /// The disk took no note of it: it is gone for players, and could come back with the next start.
        Failed = "failed",
    }
}

/// Counters.
#[derive(Debug, Default)]
pub struct KafkaStats {
    /// Failures of links, and what is left to read.
    pub links: Arc<LinkStats>,
    /// Messages of the purge topic.
    pub purges: Counts<PurgeOutcome>,
    /// Results written.
    pub results_sent: AtomicU64,
    /// Results dropped, since too many waited.
    pub results_dropped: AtomicU64,
}
