//! Options of Kafka: `[kafka]` of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use carousel::config::Mistake;
use serde::{Deserialize, Serialize};

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

/// Compression of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// The least work.
    Lz4,
    /// The fewest bytes.
    #[default]
    Zstd,
}

/// `[kafka.tls]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaTls {
    /// Authorities of the brokers' certificates, PEM. None: those of the system.
    pub ca: Option<PathBuf>,
    /// Certificate chain of this box, PEM, where brokers ask for one.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
}

/// `[kafka.sasl]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSasl {
    /// `scram-sha-512`, `scram-sha-256`, or `plain`, which wants TLS.
    pub mechanism: Mechanism,
    /// The name.
    pub user: String,
    /// File with the password. Read again for each connection.
    pub password_file: PathBuf,
}

/// Proof of name and password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// RFC 7677.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// As RFC 7677, with SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
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

    /// Every mistake.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut all = Vec::new();
        let mut wrong = |key: &str, what: String, fix: &str| all.push(Mistake::of_value(key, &what, fix));
        if self.brokers.is_empty() {
            wrong("kafka.brokers", "it is empty".to_owned(), "name at least one, such as \"kafka-1:9092\"");
        }
        for broker in &self.brokers {
            let is_good = broker.rsplit_once(':').is_some_and(|(host, port)| {
                let is_host = !host.is_empty() && !host.contains(['/', ' ']);
                is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
            if !is_good {
                wrong(
                    "kafka.brokers",
                    format!("{broker:?} is no host with a port"),
                    "give it as \"kafka-1:9092\"",
                );
            }
        }
        let topics = [
            ("kafka.purge_topic", &self.purge_topic),
            ("kafka.results_topic", &self.results_topic),
            ("kafka.qoe_topic", &self.qoe_topic),
        ];
        for (at, (key, topic)) in topics.iter().enumerate() {
            // Kafka's own rule for names.
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            if topic.len() > 249 || !topic.bytes().all(is_name) || matches!(topic.as_str(), "." | "..") {
                wrong(
                    key,
                    format!("{topic:?} is no name of a topic"),
                    "letters, digits, '.', '_' and '-', at most 249",
                );
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
            wrong("kafka.qoe_columns", format!("{name} is no column"), &fix);
        }
        if let Some(tls) = &self.tls
            && tls.certificate.is_some() != tls.key.is_some()
        {
            wrong("kafka.tls.key", "certificate and key go together".to_owned(), "give both, or neither");
        }
        if self.sasl.as_ref().is_some_and(|sasl| sasl.mechanism == Mechanism::Plain) && self.tls.is_none() {
            let fix = "add [kafka.tls], or use scram-sha-512";
            wrong("kafka.sasl.mechanism", "plain sends the password for all to read".to_owned(), fix);
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
