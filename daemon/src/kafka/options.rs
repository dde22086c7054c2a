//! Options of Kafka: `[kafka]` of the configuration.

use std::collections::BTreeMap;

use carousel::config::Mistake;
use serde::{Deserialize, Serialize};
use skycache_kafka::options::topic_mistake;
use skycache_kafka::{Brokers, Compression, KafkaSasl, KafkaTls};

use crate::qoe::COLUMNS;

/// `[kafka]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kafka {
    /// Brokers that are asked first, each with its port.
    pub brokers: Vec<String>,
    /// Name of this box in results and measurements. Empty: the machine's own.
    pub node: String,
    /// Topic of purges; this box takes all of its messages. Empty: none.
    pub purge_topic: String,
    /// Topic to which this box sends the results of purges. Empty: none.
    pub results_topic: String,
    /// Topic to which measurements of players (CMCD) are written, one row a message. Empty: none are made.
    pub qoe_topic: String,
    /// Rows that wait on disk while the broker is away: beyond that the oldest are dropped.
    pub qoe_spool_bytes: u64,
    /// Other names for columns of `qoe_raw`, for a table that calls them so; an empty name leaves the column out.
    pub qoe_columns: BTreeMap<String, String>,
    /// Compression of what is written.
    pub compression: Compression,
    /// TLS towards the brokers.
    pub tls: Option<KafkaTls>,
    /// Name and password for the brokers.
    pub sasl: Option<KafkaSasl>,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            node: String::new(),
            purge_topic: "cdn-purge".to_owned(),
            results_topic: "cdn-purge-results".to_owned(),
            qoe_topic: "qoe-metrics".to_owned(),
            qoe_spool_bytes: 256 << 20,
            qoe_columns: BTreeMap::new(),
            compression: Compression::default(),
            tls: None,
            sasl: None,
        }
    }
}

impl Kafka {
    /// The name of this box.
    pub fn node(&self) -> String {
        if self.node.is_empty() { crate::sys::hostname() } else { self.node.clone() }
    }

    /// The connection that it describes.
    pub fn connection(&self) -> Brokers {
        Brokers {
            table: "kafka".to_owned(),
            brokers: self.brokers.clone(),
            client_id: format!("skycache-{}", self.node()),
            compression: self.compression,
            tls: self.tls.clone(),
            sasl: self.sasl.clone(),
        }
    }

    /// Every mistake.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut all = self.connection().mistakes("kafka");
        let mut wrong = |key: &str, what: String, fix: &str| all.push(Mistake::of_value(key, &what, fix));
        let topics = [
            ("kafka.purge_topic", &self.purge_topic),
            ("kafka.results_topic", &self.results_topic),
            ("kafka.qoe_topic", &self.qoe_topic),
        ];
        for (at, (key, topic)) in topics.iter().enumerate() {
            if let Some((what, fix)) = topic_mistake(topic) {
                wrong(key, what, fix);
            }
            if !topic.is_empty() && topics[..at].iter().any(|(_, other)| other == topic) {
                wrong(key, format!("{topic:?} is there twice"), "give each a topic of its own");
            }
        }
        if topics.iter().all(|(_, topic)| topic.is_empty()) {
            wrong(
                "kafka.purge_topic",
                "nothing is read or written".to_owned(),
                "name a topic, or remove [kafka]",
            );
        }
        if self.qoe_spool_bytes < 1 << 20 {
            wrong(
                "kafka.qoe_spool_bytes",
                format!("{} bytes hold no minute", self.qoe_spool_bytes),
                "give at least \"1 MB\"",
            );
        }
        for name in self.qoe_columns.keys().filter(|name| !COLUMNS.iter().any(|it| it.0 == name.as_str())) {
            let fix = format!("the columns are {}", COLUMNS.map(|it| it.0).join(", "));
            wrong("kafka.qoe_columns", format!("{name} is not a column"), &fix);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let keys = |text: &str| -> Vec<String> {
            let kafka: Kafka = toml::from_str(text).unwrap();
            kafka.mistakes().into_iter().map(|it| it.key).collect()
        };
        assert_eq!(keys("brokers = ['a:9092', '[::1]:9092']"), Vec::<String>::new());
        assert_eq!(keys(""), ["kafka.brokers"]);
        assert_eq!(keys("brokers = ['a', 'b:0', 'kafka://c:1']"), ["kafka.brokers"; 3]);
        assert_eq!(
            keys("brokers = ['a:1']\npurge_topic = 'a b'\nqoe_topic = 'x'\nresults_topic = 'x'"),
            ["kafka.purge_topic", "kafka.qoe_topic"]
        );
        assert_eq!(
            keys("brokers = ['a:1']\npurge_topic = ''\nqoe_topic = ''\nresults_topic = ''"),
            ["kafka.purge_topic"]
        );
        assert_eq!(
            keys("brokers = ['a:1']\nqoe_spool_bytes = 5\n[qoe_columns]\nnone = 'x'\nnode = ''"),
            ["kafka.qoe_spool_bytes", "kafka.qoe_columns"]
        );
        assert_eq!(
            keys("brokers = ['a:1']\n[sasl]\nmechanism = 'plain'\nuser = 'u'\npassword_file = '/x'"),
            ["kafka.sasl.mechanism"]
        );
        assert_eq!(
            keys(
                "brokers = ['a:1']\n[tls]\nkey = '/x'\n[sasl]\nmechanism = 'plain'\nuser = 'u'\npassword_file = '/x'"
            ),
            ["kafka.tls.key"]
        );
    }
}
