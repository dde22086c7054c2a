//! Options of a connection to brokers, with their mistakes.

use std::path::{Path, PathBuf};

use carousel::config::Mistake;
use serde::{Deserialize, Serialize};

/// A connection to brokers, as a table of the configuration describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Brokers {
    /// The table, for messages.
    pub table: String,
    /// Brokers that are asked first, each with its port.
    pub brokers: Vec<String>,
    /// Name by which brokers know this client.
    pub client_id: String,
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

/// TLS towards brokers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaTls {
    /// Authorities of the brokers' certificates, PEM. None: those of the system.
    pub ca: Option<PathBuf>,
    /// Certificate chain of this machine, PEM, where brokers ask for one.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
}

/// Name and password for brokers.
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

impl Brokers {
    /// Every mistake; `prefix` is the path of the table in the configuration.
    pub fn mistakes(&self, prefix: &str) -> Vec<Mistake> {
        let mut all = Vec::new();
        let mut wrong = |key: &str, what: String, fix: &str| {
            all.push(Mistake::of_value(&format!("{prefix}.{key}"), &what, fix));
        };
        if self.brokers.is_empty() {
            wrong("brokers", "it is empty".to_owned(), "name at least one, such as \"kafka-1:9092\"");
        }
        for broker in &self.brokers {
            let is_good = broker.rsplit_once(':').is_some_and(|(host, port)| {
                let is_host = !host.is_empty() && !host.contains(['/', ' ']);
                is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
            if !is_good {
                let what = format!("{broker:?} is not a host with a port");
                wrong("brokers", what, "give it as \"kafka-1:9092\"");
            }
        }
        if self.tls.as_ref().is_some_and(|tls| tls.certificate.is_some() != tls.key.is_some()) {
            wrong("tls.key", "certificate and key go together".to_owned(), "give both, or neither");
        }
        if self.sasl.as_ref().is_some_and(|sasl| sasl.mechanism == Mechanism::Plain) && self.tls.is_none() {
            let fix = format!("add [{}.tls], or use scram-sha-512", self.table);
            wrong("sasl.mechanism", "plain sends the password for all to read".to_owned(), &fix);
        }
        all
    }

    /// Relative paths begin at `folder`.
    pub fn complete(&mut self, folder: &Path) {
        let tls = self.tls.iter_mut().flat_map(|it| [&mut it.ca, &mut it.certificate, &mut it.key]).flatten();
        for file in tls.chain(self.sasl.iter_mut().map(|it| &mut it.password_file)) {
            if file.is_relative() {
                *file = folder.join(&*file);
            }
        }
    }
}

/// Mistake and fix of a name that no topic can have, by Kafka's own rule.
pub fn topic_mistake(topic: &str) -> Option<(String, &'static str)> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let is_wrong = topic.len() > 249 || !topic.bytes().all(is_name) || matches!(topic, "." | "..");
    is_wrong.then(|| {
        (format!("{topic:?} is not a name of a topic"), "letters, digits, '.', '_' and '-', at most 249")
    })
}
