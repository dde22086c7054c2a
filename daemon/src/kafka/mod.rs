//! Kafka: purges for all boxes, their results, and measurements of players. Behind the feature `kafka`.
//!
//! ```text
//! cdn-purge ─▶ Follower (one for each partition) ─▶ admin::fleet ─▶ store
//!                                                        └─ Results ─▶ cdn-purge-results
//! qoe::Spool ─▶ Measurements ─▶ qoe-metrics
//! ```
//!
//! Each box takes every message of the purge topic, so it needs no consumer group, whose members would share them: it keeps its
//! place in each partition itself ([`Place`]), and continues from there. Brokers that are away, topics that are not there, and messages
//! that cannot be read are counted, logged once while they last, and never stop anything.

mod options;
mod place;

#[cfg(feature = "kafka")]
mod link;
#[cfg(feature = "kafka")]
mod measurements;
#[cfg(feature = "kafka")]
mod results;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use carousel::reason::Counts;

pub use options::{Compression, Kafka, KafkaSasl, KafkaTls, Mechanism};
pub use place::Place;

#[cfg(feature = "kafka")]
pub use link::{Fetched, Follower, Link};
#[cfg(feature = "kafka")]
pub use measurements::send as send_measurements;
#[cfg(feature = "kafka")]
pub use results::Results;

/// Whether this program speaks Kafka's protocol.
pub const HAS_KAFKA: bool = cfg!(feature = "kafka");
/// Message of a program without it of a configuration with `[kafka]`.
pub const MISSING: &str = "[kafka]: this program is built without Kafka; fix: install the package for servers, or build with --features kafka";

carousel::reasons! {
    /// Why Kafka did not do what it was asked.
    pub enum KafkaError in "kafka_errors" by "reason" {
        /// No broker answers, or the connection broke off.
        Unreachable = "unreachable",
        /// Brokers refuse the name, the password or the certificate, or the box cannot read its own.
        Credentials = "credentials",
        /// The topic is not there, or this box may not use it.
        NoTopic = "no_topic",
        /// A broker answers with another error.
        Broker = "broker",
        /// A message on the topic cannot be read: it is passed over.
        Unreadable = "unreadable",
        /// Purges were removed from the topic before this box had read them: everything held was made stale.
        Missed = "missed",
    }
}

carousel::reasons! {
    /// Outcome of a message of the purge topic.
    pub enum PurgeOutcome in "kafka_purges" by "outcome" {
        /// Objects were purged.
        Done = "done",
        /// Nothing that it means was held.
        Nothing = "nothing",
        /// Its id was done before.
        Repeated = "repeated",
        /// It is no purge, or one that is not allowed: the log and the result say why.
        Refused = "refused",
        /// The disk took no note of it: it is gone for players, and could come back with the next start.
        Failed = "failed",
    }
}

/// Counters.
#[derive(Debug, Default)]
pub struct KafkaStats {
    /// Failures.
    pub errors: Counts<KafkaError>,
    /// Messages of the purge topic.
    pub purges: Counts<PurgeOutcome>,
    /// Results written.
    pub results_sent: AtomicU64,
    /// Results dropped, since too many waited.
    pub results_dropped: AtomicU64,
    /// Messages of the purge topic that are not done, by partition.
    lag: Mutex<BTreeMap<i32, u64>>,
}

impl KafkaStats {
    /// Messages that are not done.
    pub fn lag(&self) -> u64 {
        self.lag.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// Notes how many messages of a partition are not done.
    pub fn note_lag(&self, partition: i32, messages: u64) {
        self.lag.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, messages);
    }
}
