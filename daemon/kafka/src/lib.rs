//! Kafka for both programs: the options of a connection, links to a topic, readers of its partitions.
//!
//! A separate crate, since the daemon and the headend do not depend on each other. The program around a link writes the
//! log and reads PEM files (`Surroundings`). Each reader of a topic keeps its own offsets.
//!
//! | module | content |
//! |---|---|
//! | [`options`] | brokers, TLS, name and password, with their mistakes |
//! | `link` | connections; behind the feature `client` |

#[cfg(feature = "client")]
pub mod link;
pub mod options;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use carousel::reason::Counts;

#[cfg(feature = "client")]
pub use link::{Fetched, Follower, Link, LinkError, Notice, Surroundings};
pub use options::{Brokers, Compression, KafkaSasl, KafkaTls, Mechanism};

carousel::reasons! {
    /// Why Kafka did not do what it was asked.
    pub enum KafkaError in "kafka_errors" by "reason" {
        /// No broker answers, or the connection broke off.
        Unreachable = "unreachable",
        /// Brokers refuse the name, the password or the certificate, or the program cannot read its own.
        Credentials = "credentials",
        /// The topic is not there, or this user may not use it.
        NoTopic = "no_topic",
        /// A broker answers with another error.
        Broker = "broker",
        /// A message on the topic cannot be read: it is skipped.
        Unreadable = "unreadable",
        /// Messages were removed from the topic before they were read: everything that is held counts as stale, or is compared again.
        Missed = "missed",
    }
}

/// Counters of the links of one program.
#[derive(Debug, Default)]
pub struct LinkStats {
    /// Failures.
    pub errors: Counts<KafkaError>,
    /// Messages of the topic that is read that are not done, by partition.
    lag: Mutex<BTreeMap<i32, u64>>,
}

impl LinkStats {
    /// Messages that are not done.
    pub fn lag(&self) -> u64 {
        self.lag.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// Notes that messages of a partition are done.
    pub fn note_done(&self, partition: i32, messages: u64) {
        let mut lag = self.lag.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = lag.get_mut(&partition) {
            *left = left.saturating_sub(messages);
        }
    }

    /// Notes how many messages of a partition are not done.
    pub fn note_lag(&self, partition: i32, messages: u64) {
        self.lag.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, messages);
    }
}
