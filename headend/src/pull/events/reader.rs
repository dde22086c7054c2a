//! Readers of the topic with events: one for each partition, from the places that are kept beside the folder.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use skycache_kafka::{Fetched, Follower, KafkaError, Link, LinkError, LinkStats, Notice, Surroundings};
use tokio::task::JoinSet;

use super::Shared;
use crate::options::Events as Options;

/// Interval at which new partitions are looked for.
const LOOK: Duration = Duration::from_secs(60);

/// Begin of a partition that has not been read.
#[derive(Debug, Clone, Copy)]
enum Start {
    At(i64),
    /// Its first message: it is new.
    Beginning,
    /// Behind its newest message: a listing tells of all before.
    End,
}

/// Reads the topic, for as long as it is polled. `short` is the interval of listings without events.
pub(super) async fn read(shared: Arc<Shared>, options: Options, short: Duration) {
    let connection = Arc::new(options.connection());
    let around: Arc<dyn Surroundings> =
        Arc::new(Headend { source: shared.source.clone(), short, said: Mutex::default() });
    let mut link = Link::new(&connection, &options.topic, &shared.stats.links, &around);
    let kept = shared.state().offsets.clone();
    let mut known = BTreeSet::new();
    let mut readers = JoinSet::new();
    loop {
        let is_first = kept.is_empty() && known.is_empty();
        for follower in link.followers().await {
            let start = match kept.get(&follower.partition) {
                Some(offset) => Start::At(*offset),
                None if is_first => Start::End,
                None => Start::Beginning,
            };
            if known.insert(follower.partition) {
                readers.spawn_local(follow(Arc::clone(&shared), follower, start));
            }
        }
        loop {
            tokio::time::sleep(LOOK).await;
            if link.partitions_now().await.iter().any(|number| !known.contains(number)) {
                break;
            }
        }
    }
}

async fn follow(shared: Arc<Shared>, mut follower: Follower, start: Start) {
    let partition = follower.partition;
    shared.note_connected(partition, false);
    let mut next = match start {
        Start::At(offset) => Some(offset),
        Start::Beginning => None,
        Start::End => {
            let end = loop {
                match follower.end().await {
                    Ok(end) => break end,
                    Err(error) => follower.failed(&error).await,
                }
            };
            shared.state().offsets.insert(partition, end);
            // The one at the start may have passed what was written before this moment.
            shared.want_list();
            Some(end)
        }
    };
    loop {
        match follower.fetch_once(next).await {
            Ok(fetched) => {
                next = shared.take_fetched(partition, next, fetched);
                shared.note_connected(partition, true);
            }
            Err(error) => {
                shared.note_connected(partition, false);
                follower.failed(&error).await;
            }
        }
    }
}

impl Shared {
    /// Takes what was fetched from `next` on. Gives the next place.
    fn take_fetched(&self, partition: i32, next: Option<i64>, fetched: Fetched) -> Option<i64> {
        match fetched {
            Fetched::Messages(messages) => {
                let end = messages.last().map(|(offset, _)| offset + 1);
                for (offset, value) in messages {
                    self.take(partition, offset, &value);
                }
                if end.is_some() {
                    self.stats.links.note_lag(partition, 0);
                }
                end.or(next)
            }
            Fetched::Recreated(first) => {
                if next.is_some() {
                    let (source, topic) = (&self.source, &self.stats.topic);
                    eprintln!(
                        "headend: source {source}: topic {topic}, partition {partition}, was created again: it is read from its beginning, and \
                         the bucket is listed"
                    );
                    self.want_list();
                }
                self.state().offsets.insert(partition, first);
                Some(first)
            }
            Fetched::Missed(first) => {
                self.missed(partition, first);
                self.state().offsets.insert(partition, first);
                Some(first)
            }
            Fetched::Unreadable => {
                self.want_list();
                let next = next.unwrap_or(0) + 1;
                self.state().offsets.insert(partition, next);
                Some(next)
            }
        }
    }
}

/// Asks the brokers for the topic, once: its partitions, or what is wrong and the fix.
pub(in crate::pull) async fn probe(options: &Options) -> Result<usize, (String, &'static str)> {
    let around: Arc<dyn Surroundings> =
        Arc::new(Headend { source: String::new(), short: LOOK, said: Mutex::default() });
    let stats = Arc::<LinkStats>::default();
    let connection = Arc::new(options.connection());
    let mut link = Link::new(&connection, &options.topic, &stats, &around);
    match link.try_followers().await {
        Ok(followers) => Ok(followers.len()),
        Err(error) => Err((what(&error, &options.topic), fix(error.why()))),
    }
}

fn what(error: &LinkError, topic: &str) -> String {
    match error.why() {
        KafkaError::NoTopic => format!("there is no topic {topic}, or this user may not read it"),
        _ => error.to_string(),
    }
}

const fn fix(why: KafkaError) -> &'static str {
    match why {
        KafkaError::Unreachable => {
            "correct `brokers`; look at firewalls, and at the names that brokers advertise: they are connected to after the first answer"
        }
        KafkaError::Credentials => {
            "correct user, password file and mechanism of [source.events.sasl], and `ca` of [source.events.tls]"
        }
        KafkaError::NoTopic => "create it, allow this user to read it, or correct `topic` in [source.events]",
        KafkaError::Broker | KafkaError::Unreadable | KafkaError::Missed => "look at the brokers' log",
    }
}

/// What the headend does for its links: lines on stderr, once for all partitions, and reading of PEM files.
#[derive(Debug)]
struct Headend {
    source: String,
    /// Interval of listings while there are no events.
    short: Duration,
    /// What is wrong, as far as that was said.
    said: Mutex<Option<KafkaError>>,
}

impl Surroundings for Headend {
    fn log(&self, topic: &str, notice: &Notice<'_>) {
        let Self { source, short, said } = self;
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        match notice {
            Notice::Failed { why, line } => {
                if said.replace(*why) != Some(*why) {
                    // It says so itself.
                    let fix = if *why == KafkaError::NoTopic { "" } else { fix(*why) };
                    let fix = if fix.is_empty() { String::new() } else { format!("; fix: {fix}") };
                    eprintln!(
                        "headend: source {source}: events of topic {topic}: {line}{fix}; until then the bucket is listed every {} s",
                        short.as_secs()
                    );
                }
            }
            Notice::Answers => {
                if said.take().is_some() {
                    eprintln!("headend: source {source}: events of topic {topic} come again");
                }
            }
            Notice::Unreadable { partition, offset, line } => eprintln!(
                "headend: source {source}: topic {topic}, partition {partition}, offset {}: a message cannot be read, and is passed over; the \
                 bucket is listed: {line}",
                offset.unwrap_or(0)
            ),
        }
    }

    fn chain(&self, table: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
        let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        match read {
            Ok(chain) if !chain.is_empty() => Ok(chain),
            Ok(_) => Err(unusable(table, file, "it has no certificate")),
            Err(err) => Err(unusable(table, file, &of_pem(err))),
        }
    }

    fn pair(&self, table: &str, certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, String> {
        let chain = self.chain(table, certificate)?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|err| unusable(table, key, &of_pem(err)))?;
        let provider = rustls::crypto::ring::default_provider();
        let read = CertifiedKey::from_der(chain, private, &provider);
        read.map(Arc::new).map_err(|err| unusable(table, key, &err.to_string()))
    }

    fn plain(&self, err: &rustls::Error) -> String {
        err.to_string()
    }
}

fn of_pem(err: rustls::pki_types::pem::Error) -> String {
    match err {
        rustls::pki_types::pem::Error::Io(err) => carousel::config::plain(&err),
        rustls::pki_types::pem::Error::NoItemsFound => {
            "it has none of what it should, or with a passphrase".to_owned()
        }
        err => err.to_string(),
    }
}

fn unusable(table: &str, file: &Path, why: &str) -> String {
    format!("[{table}] {}: {why}; give a PEM file that this user may read", file.display())
}

#[cfg(test)]
mod tests {
    use super::super::tests::shared;
    use super::*;

    #[test]
    fn what_was_missed_or_cannot_be_read_is_found_by_a_listing() {
        for (fetched, next, place, is_listed) in [
            (Fetched::Messages(Vec::new()), Some(7), Some(7), false),
            (Fetched::Messages(vec![(7, b"{}".to_vec()), (9, b"{}".to_vec())]), Some(7), Some(10), false),
            (Fetched::Messages(vec![(7, Vec::new())]), Some(7), Some(8), true),
            (Fetched::Recreated(3), None, Some(3), false),
            (Fetched::Recreated(0), Some(7), Some(0), true),
            (Fetched::Missed(9), Some(7), Some(9), true),
            (Fetched::Unreadable, Some(7), Some(8), true),
        ] {
            let shared = shared();
            let text = format!("{fetched:?}");
            assert_eq!(shared.take_fetched(0, next, fetched), place, "{text}");
            assert_eq!(shared.state().is_list_wanted, is_listed, "{text}");
        }
        let shared = shared();
        shared.take_fetched(0, Some(7), Fetched::Missed(9));
        assert_eq!(shared.stats.errors().find(|it| it.0 == "missed"), Some(("missed", 1)));
    }

    #[test]
    fn files_of_tls_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let headend = Headend { source: String::new(), short: LOOK, said: Mutex::default() };
        let file = folder.path().join("ca.pem");
        let why = headend.chain("source.events.tls", &file).unwrap_err();
        assert!(
            why.starts_with("[source.events.tls] ") && why.contains("ca.pem: there is no such file"),
            "{why}"
        );
        std::fs::write(&file, "").unwrap();
        let why = headend.chain("source.events.tls", &file).unwrap_err();
        assert!(why.contains("it has no certificate") && why.contains("give a PEM file"), "{why}");
    }
}
