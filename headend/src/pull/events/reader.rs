//! Readers of the topic with events: one for each partition, from the offsets that are stored beside the folder.

use std::collections::BTreeSet;
use std::future::pending;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier;
use rustls::sign::CertifiedKey;
use skycache_kafka::{Fetched, Follower, KafkaError, Link, LinkError, LinkStats, Notice, Surroundings};
use tokio::task::JoinSet;

use tokio::time::Instant;

use super::super::authorities;
use super::super::stats::{Failed, PullFailure, PullStats};
use super::super::{back_off, panic_text};
use super::Shared;
use crate::options::Events as Options;
use crate::tls::pem::{self, PemError};

/// Interval at which new partitions are requested.
const LOOK: Duration = Duration::from_secs(60);

/// Longest step over messages of an unreadable batch.
const LONGEST_STEP: i64 = 1 << 16;

/// Begin of a partition that has not been read.
#[derive(Debug, Clone, Copy)]
enum Start {
    At(i64),
    /// Its first message: it is new.
    Beginning,
    /// Behind its newest message: a listing covers everything before.
    End,
}

/// Reads a topic for as long as it is polled. A reader that panics is counted as `internal` and logged; until all readers have
/// restarted, after a pause of 1 to 60 s, the bucket is listed at the short interval.
pub(super) async fn keep_reading<F: Future<Output = String> + 'static>(
    shared: Arc<Shared>,
    pulled: Arc<PullStats>,
    read: impl Fn() -> F,
) {
    let mut panics = 0;
    loop {
        let begun = Instant::now();
        // What it has begun ends with it.
        let mut reading = JoinSet::new();
        reading.spawn_local(read());
        let why = match reading.join_next().await {
            Some(Ok(why)) => why,
            Some(Err(ended)) if ended.is_panic() => panic_text(&*ended.into_panic()),
            // The program is ending.
            _ => return,
        };
        shared.note_unread();
        panics = if begun.elapsed() > LOOK { 1 } else { panics + 1 };
        let wait = back_off(panics);
        let (source, topic) = (&shared.source, &shared.stats.topic);
        let what = format!("source {source}, events of topic {topic}");
        pulled.fail(&what, Failed::new(PullFailure::Internal, why.clone()));
        eprintln!(
            "headend: source {source}: reading events of topic {topic} has failed by a fault of this program ({why}); it restarts in {} s, \
             and the bucket is listed; please report the message above",
            wait.as_secs()
        );
        tokio::time::sleep(wait).await;
    }
}

/// Waits until one of several tasks panics, and returns its message.
async fn first_panic(tasks: &mut JoinSet<()>) -> String {
    loop {
        match tasks.join_next().await {
            Some(Err(ended)) if ended.is_panic() => return panic_text(&*ended.into_panic()),
            Some(_) => {}
            None => pending().await,
        }
    }
}

/// Reads the topic until a reader panics; returns its message. `short` is the interval of listings without events.
pub(super) async fn read(shared: Arc<Shared>, options: Options, short: Duration) -> String {
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
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                why = first_panic(&mut readers) => return why,
            }
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
            Ok(Fetched::Unreadable) => {
                let end = follower.end().await.ok();
                next = Some(shared.pass_over(partition, next.unwrap_or(0), end));
            }
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
    /// Handles the messages that were fetched from `next` on. Returns the next offset.
    fn take_fetched(&self, partition: i32, next: Option<i64>, fetched: Fetched) -> Option<i64> {
        match fetched {
            Fetched::Messages(messages) => {
                let end = messages.last().map(|(offset, _)| offset + 1);
                if end.is_some() {
                    self.state().steps.remove(&partition);
                }
                for (offset, value) in messages {
                    self.take(partition, offset, &value);
                    self.stats.links.note_done(partition, 1);
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
            Fetched::Unreadable => Some(self.pass_over(partition, next.unwrap_or(0), None)),
        }
    }

    /// Skips unreadable messages at `next`: the end of their batch is not known, so each step in succession is twice the last, up
    /// to the end of the partition. A listing finds the readable ones among them. Returns the next offset.
    fn pass_over(&self, partition: i32, next: i64, end: Option<i64>) -> i64 {
        self.want_list();
        let mut state = self.state();
        let step = state.steps.get(&partition).map_or(1, |step| (step * 2).min(LONGEST_STEP));
        state.steps.insert(partition, step);
        // Behind the end the topic would count as one that was created again.
        let furthest = end.unwrap_or(0).max(next + 1);
        let to = (next + step).min(furthest);
        state.offsets.insert(partition, to);
        self.stats.links.note_lag(partition, u64::try_from(furthest - to).unwrap_or(0));
        to
    }

    /// Records that nothing is read any more.
    fn note_unread(&self) {
        self.state().connected.clear();
        self.stats.is_connected.store(false, Ordering::Relaxed);
        self.want_list();
    }
}

/// Requests the topic from the brokers once: its partitions, or the fault and the fix.
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

/// The headend's side of its links: lines on stderr, once for all partitions, and PEM files.
#[derive(Debug)]
struct Headend {
    source: String,
    /// Interval of listings while there are no events.
    short: Duration,
    /// The last logged fault.
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
                "headend: source {source}: topic {topic}, partition {partition}, offset {}: a message cannot be read, and is skipped; the \
                 bucket is listed: {line}",
                offset.unwrap_or(0)
            ),
        }
    }

    fn verifier(&self, table: &str, file: &Path) -> Result<Arc<dyn ServerCertVerifier>, String> {
        authorities::verifier(file).map_err(|why| format!("[{table}] ca {}: {why}", file.display()))
    }

    fn pair(&self, table: &str, certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, String> {
        let of = |file: &Path| {
            let file = file.display().to_string();
            move |why: PemError| format!("[{table}] {file}: {why}; {}", why.fix())
        };
        let chain = pem::read_chain(certificate).map_err(of(certificate))?;
        let private = pem::read_key(key).map_err(of(key))?;
        let provider = rustls::crypto::ring::default_provider();
        let read = CertifiedKey::from_der(chain, private, &provider);
        read.map(Arc::new).map_err(|err| of(key)(PemError::Unreadable(err.to_string())))
    }
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
    fn messages_that_have_not_been_taken_are_the_lag() {
        let shared = shared();
        // Two have come, and ten are behind them.
        shared.stats.links.note_lag(0, 12);
        let two = vec![(7, b"{}".to_vec()), (8, b"{}".to_vec())];
        shared.take_fetched(0, Some(7), Fetched::Messages(two));
        assert_eq!(shared.stats.lag(), 10);
    }

    #[test]
    fn a_batch_that_cannot_be_read_is_skipped_in_growing_steps() {
        let shared = shared();
        let mut next = 100;
        for (end, place) in
            [(Some(900), 101), (Some(900), 103), (Some(900), 107), (None, 108), (Some(900), 124)]
        {
            next = shared.pass_over(0, next, end);
            assert_eq!((next, shared.state().offsets[&0]), (place, place));
        }
        assert_eq!(shared.pass_over(0, next, Some(130)), 130, "not behind the end");
        assert!(shared.state().is_list_wanted);
        assert_eq!(shared.pass_over(1, 7, Some(900)), 8, "another partition");
        // What can be read ends that.
        shared.take_fetched(0, Some(130), Fetched::Messages(vec![(130, b"{}".to_vec())]));
        assert_eq!(shared.pass_over(0, 131, Some(900)), 132);
    }

    #[test]
    fn a_reader_that_panics_is_counted_told_and_begins_again() {
        let (shared, pulled) = (Arc::new(shared()), Arc::<PullStats>::default());
        shared.note_connected(0, true);
        let runs = Arc::new(Mutex::new(Vec::new()));
        let read = || {
            let (shared, runs) = (Arc::clone(&shared), Arc::clone(&runs));
            async move {
                let run = {
                    let mut runs = runs.lock().unwrap();
                    runs.push((shared.stats.is_connected(), shared.state().is_list_wanted));
                    runs.len()
                };
                let mut readers = JoinSet::new();
                readers.spawn_local(pending());
                readers.spawn_local(async move {
                    assert!(run > 1, "the first reader fails");
                    pending::<()>().await;
                });
                first_panic(&mut readers).await
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let begun_again = async {
                while runs.lock().unwrap().len() < 2 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                () = keep_reading(Arc::clone(&shared), Arc::clone(&pulled), read) => panic!("it ends never"),
                () = begun_again => {}
            }
        });
        assert_eq!(*runs.lock().unwrap(), [(true, false), (false, true)]);
        let told = pulled.newest_failure().unwrap();
        assert_eq!(told, "source vod, events of topic : internal (the first reader fails)");
    }

    #[test]
    fn files_of_tls_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let headend = Headend { source: String::new(), short: LOOK, said: Mutex::default() };
        let file = folder.path().join("ca.pem");
        let why = headend.verifier("source.events.tls", &file).unwrap_err();
        assert!(
            why.starts_with("[source.events.tls] ") && why.contains("ca.pem: there is no such file"),
            "{why}"
        );
        std::fs::write(&file, "").unwrap();
        let why = headend.verifier("source.events.tls", &file).unwrap_err();
        assert!(
            why.contains("it has no certificate")
                && why.contains("must be a PEM file with certificates of authorities"),
            "{why}"
        );
    }
}
