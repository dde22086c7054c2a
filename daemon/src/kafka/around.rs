//! The daemon's side of its links to Kafka: log lines, and PEM files.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::sign::CertifiedKey;
use skycache_kafka::link::{Record, record as record_at};
use skycache_kafka::{Link, Notice, Surroundings};

use super::{Kafka, KafkaStats};
use crate::{certificates, clock};

#[derive(Debug)]
struct Daemon;

impl Surroundings for Daemon {
    fn log(&self, topic: &str, notice: &Notice<'_>) {
        match notice {
            Notice::Failed { why, line } => {
                let reason = why.as_str();
                tracing::error!(topic, reason, "Kafka: {line}");
            }
            Notice::Answers => tracing::info!(topic, "Kafka answers again"),
            Notice::Unreadable { partition, offset, line } => {
                tracing::error!(
                    topic,
                    partition,
                    offset,
                    "Kafka: a message cannot be read, and is skipped: {line}"
                );
            }
        }
    }

    fn verifier(&self, table: &str, file: &Path) -> Result<Arc<dyn ServerCertVerifier>, String> {
        certificates::verifier_of_servers(file)
            .map_err(|why| format!("[{table}] ca {}: {why}", file.display()))
    }

    fn pair(&self, table: &str, certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, String> {
        Ok(certificates::read(table, certificate, key)?)
    }
}

/// A link to one topic. Nothing is connected yet.
pub fn link(options: &Kafka, topic: &str, stats: &KafkaStats) -> Link {
    let around: Arc<dyn Surroundings> = Arc::new(Daemon);
    Link::new(&Arc::new(options.connection()), topic, &stats.links, &around)
}

/// A message of now.
pub(super) fn record(key: Option<Vec<u8>>, value: Vec<u8>) -> Record {
    record_at(key, value, clock::wall())
}

#[cfg(test)]
mod tests {
    use skycache_kafka::KafkaTls;
    use skycache_kafka::link::tls_config;

    use super::*;
    use crate::certificates::tests::make;

    #[test]
    fn files_of_tls_that_cannot_be_used_are_named_with_their_fix() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(folder.path().join(name));
        let is_made = |certificate, key| make(folder.path(), certificate, key, &[]);
        if !is_made("ca.pem", "ca.key") || !is_made("own.pem", "own.key") {
            return;
        }
        let leaf = ["-CA", "ca.pem", "-CAkey", "ca.key", "-subj", "/CN=broker"];
        let leaf = [&leaf[..], &["-addext", "basicConstraints=CA:FALSE"]].concat();
        assert!(make(folder.path(), "leaf.pem", "leaf.key", &leaf));
        let of = |ca: &str, certificate: &str, key: &str| {
            let (ca, certificate, key) = (path(ca), path(certificate), path(key));
            tls_config("kafka", &KafkaTls { ca, certificate, key }, &Daemon).map(|_| ())
        };
        assert_eq!(of("ca.pem", "own.pem", "own.key"), Ok(()));
        for (files, said) in [
            (("leaf.pem", "own.pem", "own.key"), "is an authority's (CA:TRUE, and keyCertSign if"),
            (("none.pem", "own.pem", "own.key"), "there is no such file"),
            (("own.key", "own.pem", "own.key"), "it has no certificate; give a PEM file"),
            (("ca.pem", "own.pem", "ca.key"), "they do not belong together; give the key"),
            (("ca.pem", "own.pem", "own.pem"), "it has no private key"),
        ] {
            let why = of(files.0, files.1, files.2).unwrap_err();
            assert!(why.starts_with("[kafka.tls] ") && why.contains(said), "{files:?}: {why}");
        }
    }
}
