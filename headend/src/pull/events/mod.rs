//! Events of a bucket, which its store writes to a topic of Kafka: their keys are checked immediately, not only when the bucket
//! is listed.
//!
//! ```text
//! topic ─ reader (one for each partition) ─▶ Shared: pending keys ─▶ Puller::rest: look at each, fetch, remove
//!                                                     │ what may have been missed
//!                                                     └▶ a listing, at the short interval
//! ```
//!
//! | module | content |
//! |---|---|
//! | `message` | events in messages, in all their forms |
//! | `pending` | keys that wait, repeated events |
//! | `place` | offsets in the topic, kept over restarts |
//! | `looks` | requests for the keys |
//! | `reader` | the connection; behind the feature `kafka` |
//!
//! The bucket is still listed, at a long interval while events arrive: listings find changes without events.

// Without the connection, nothing calls the functions that handle events.
#![cfg_attr(not(feature = "kafka"), allow(dead_code))]

mod looks;
mod message;
mod pending;
mod place;
#[cfg(feature = "kafka")]
mod reader;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use carousel::reason::Counts;
use skycache_kafka::{KafkaError, LinkStats};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::s3::listing::place as place_of;
#[cfg(feature = "kafka")]
use super::stats::PullStats;
use crate::options::{Events as Options, S3Location};
#[cfg(test)]
pub(super) use message::tests::amazon;
pub use message::try_read;
use pending::{Pending, Waiting};
use place::TopicOffsets;
#[cfg(feature = "kafka")]
pub(super) use reader::probe;

/// Whether this program speaks Kafka's protocol.
pub(super) const HAS_KAFKA: bool = cfg!(feature = "kafka");
/// Message of a program without it about `[source.events]`, and the fix.
pub(super) const MISSING: (&str, &str) = (
    "[source.events]: this program is built without Kafka",
    "install the package for servers, build with --features kafka, or leave [source.events] out",
);
/// Interval at which messages that are skipped for one reason are logged.
const LOG_EVERY: Duration = Duration::from_secs(300);

carousel::reasons! {
    /// Outcome of an event of a bucket, or of a message that is not an event.
    pub enum EventOutcome {
        /// The object is new, or another version, and was fetched.
        Fetched = "fetched",
        /// The folder has the object in this version.
        Unchanged = "unchanged",
        /// The object is gone, and so is its file.
        Removed = "removed",
        /// The store has no such object any more, or the folder had none.
        Absent = "absent",
        /// No manifest names the object.
        Unneeded = "unneeded",
        /// The object could not be looked at or fetched: the bucket is listed.
        Failed = "failed",
        /// The event came before.
        Repeated = "repeated",
        /// Another event of a key that waits: it is looked at once.
        Merged = "merged",
        /// Too many keys waited: a listing of the bucket takes their place.
        Replaced = "replaced",
        /// It is of another bucket.
        OtherBucket = "other_bucket",
        /// Its key is below another prefix.
        OtherPrefix = "other_prefix",
        /// Its key is left out, as it is of a list: a folder, a hidden file, no plain path.
        LeftOut = "left_out",
        /// It concerns tags, rights or readers, and not content.
        OtherEvent = "other_event",
        /// A store tries whether it may write to the topic.
        Test = "test",
        /// The message is not JSON: the bucket is listed.
        NoJson = "no_json",
        /// The message, or a record of it, is not an event of a bucket.
        NoEvent = "no_event",
        /// The message is longer than 1 MiB: the bucket is listed.
        TooLong = "too_long",
        /// The event has no key that an object can have: the bucket is listed.
        BadKey = "bad_key",
    }
}

impl EventOutcome {
    /// Whether the skipped message may have reported a change.
    const fn may_hide_a_change(self) -> bool {
        matches!(self, Self::NoJson | Self::TooLong | Self::BadKey)
    }

    /// Consequence of a skipped message, and its remedy, for the log.
    fn advice(self) -> String {
        let listed = if self.may_hide_a_change() {
            "the bucket is listed, should it have been an event; "
        } else {
            ""
        };
        format!("{self}; {listed}fix: {}", self.fix())
    }

    /// Remedy for a skipped message; empty if none is needed.
    const fn fix(self) -> &'static str {
        match self {
            Self::NoJson | Self::NoEvent => {
                "have the store write events to a topic of their own, as JSON in the form of S3"
            }
            Self::TooLong | Self::BadKey => "look at what writes to the topic: no store writes such events",
            _ => "",
        }
    }
}

/// Counters of the events of one source.
#[derive(Debug, Default)]
pub struct EventStats {
    topic: String,
    outcomes: Counts<EventOutcome>,
    /// Failures of connections; messages that are not read.
    links: Arc<LinkStats>,
    pending: AtomicUsize,
    is_connected: AtomicBool,
}

impl EventStats {
    pub(super) fn of(topic: &str) -> Self {
        Self { topic: topic.to_owned(), ..Self::default() }
    }

    /// Name of the topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Events and messages, by what became of them.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.outcomes.labelled()
    }

    /// Failures of connections and of reading, by reason.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.links.errors.labelled()
    }

    /// Messages of the topic that are not read.
    pub fn lag(&self) -> u64 {
        self.links.lag()
    }

    /// Keys that wait for a request.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Whether all partitions of the topic are read.
    pub fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }
}

/// Events of one source.
pub(super) struct Events {
    /// Interval of listings while events arrive.
    list_every: Duration,
    shared: Arc<Shared>,
    place: TopicOffsets,
    #[cfg(feature = "kafka")]
    options: Options,
}

/// State that the readers of a topic and the follower of its source share.
struct Shared {
    source: String,
    location: S3Location,
    stats: Arc<EventStats>,
    state: Mutex<State>,
    /// Keys wait, or a listing may be due earlier or later.
    woken: Notify,
}

#[derive(Default)]
struct State {
    pending: Pending,
    /// The next message of each partition.
    offsets: BTreeMap<i32, i64>,
    /// Whether the reader of each partition is connected.
    connected: BTreeMap<i32, bool>,
    /// Messages of each partition that were skipped at its newest offset, if that could not be read.
    steps: BTreeMap<i32, i64>,
    /// Something may have been missed since the newest listing began.
    is_list_wanted: bool,
    /// Time of the last log line about skipped messages, by reason.
    logged: BTreeMap<EventOutcome, Instant>,
}

/// Keys to request, and the offsets in the topic to store afterwards.
struct Batch {
    keys: BTreeMap<String, Waiting>,
    offsets: BTreeMap<i32, i64>,
}

impl Events {
    /// # Errors
    /// A file with places that cannot be read.
    pub(super) fn open(
        source: &str,
        location: &S3Location,
        options: &Options,
        root: &Path,
        stats: Arc<EventStats>,
    ) -> io::Result<Self> {
        let place = TopicOffsets::open(root, &options.topic)?;
        let state = State { offsets: place.offsets().clone(), ..State::default() };
        let shared = Shared {
            source: source.to_owned(),
            location: location.clone(),
            stats,
            state: Mutex::new(state),
            woken: Notify::new(),
        };
        Ok(Self {
            list_every: Duration::from_secs(options.list_every_s.max(1)),
            shared: Arc::new(shared),
            place,
            #[cfg(feature = "kafka")]
            options: options.clone(),
        })
    }

    /// Begins to read the topic, until the returned set is dropped.
    #[cfg(feature = "kafka")]
    pub(super) fn start(&self, short: Duration, pulled: Arc<PullStats>) -> tokio::task::JoinSet<()> {
        let (shared, options) = (Arc::clone(&self.shared), self.options.clone());
        let read = move || reader::read(Arc::clone(&shared), options.clone(), short);
        let mut reading = tokio::task::JoinSet::new();
        reading.spawn_local(reader::keep_reading(Arc::clone(&self.shared), pulled, read));
        reading
    }

    /// Interval of listings now.
    pub(super) fn list_every(&self, short: Duration) -> Duration {
        let state = self.shared.state();
        if state.is_list_wanted || !state.is_connected() { short } else { self.list_every.max(short) }
    }

    /// Handles a message as if it had been read.
    #[cfg(test)]
    pub(super) fn take(&self, offset: i64, message: &str) {
        self.shared.take(0, offset, message.as_bytes());
    }

    /// As if its topic were read.
    #[cfg(test)]
    pub(super) fn connected(&self) {
        self.shared.note_connected(0, true);
    }

    /// Schedules a listing of the bucket after the short interval.
    pub(super) fn want_list(&self) {
        self.shared.want_list();
    }

    /// Records that a listing begins, which finds all changes that were missed until now.
    pub(super) fn list_begins(&self) {
        self.shared.state().is_list_wanted = false;
    }
}

impl State {
    fn is_connected(&self) -> bool {
        !self.connected.is_empty() && self.connected.values().all(|it| *it)
    }
}

impl Shared {
    /// Each change is complete in itself, so a panic elsewhere leaves it usable.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, outcome: EventOutcome) {
        self.stats.outcomes.add(outcome);
    }

    /// Schedules a listing of the bucket after the short interval: something may have been missed.
    fn want_list(&self) {
        self.state().is_list_wanted = true;
        self.woken.notify_one();
    }

    /// Handles the events of a message.
    fn take(&self, partition: i32, offset: i64, value: &[u8]) {
        let now = Instant::now();
        // First, so that a message that causes a panic is not read again.
        self.state().offsets.insert(partition, offset + 1);
        for read in message::read(value) {
            if let Err(why) = read.and_then(|event| self.take_event(&event, now)) {
                self.count(why);
                if why.may_hide_a_change() {
                    self.want_list();
                }
                self.log(why, partition, offset, now);
            }
        }
    }

    /// # Errors
    /// The event is skipped.
    fn take_event(&self, event: &message::Event, now: Instant) -> Result<(), EventOutcome> {
        if event.bucket != self.location.bucket {
            return Err(EventOutcome::OtherBucket);
        }
        if event.keys.is_empty() {
            return Err(EventOutcome::BadKey);
        }
        let below: Vec<&String> =
            event.keys.iter().filter(|key| key.starts_with(&self.location.prefix)).collect();
        if below.is_empty() {
            return Err(EventOutcome::OtherPrefix);
        }
        let is_path = |key: &&&String| place_of(&key[self.location.prefix.len()..]).is_ok();
        let keys: Vec<&String> = below.iter().filter(is_path).copied().collect();
        if keys.is_empty() {
            return Err(EventOutcome::LeftOut);
        }
        let mut state = self.state();
        for key in keys {
            match state.pending.take(key, event, now) {
                Some(outcome) => {
                    self.count(outcome);
                    if outcome == EventOutcome::Replaced {
                        state.is_list_wanted = true;
                        self.woken.notify_one();
                    }
                }
                None => self.woken.notify_one(),
            }
        }
        self.stats.pending.store(state.pending.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Logs a message that is skipped, at most once in [`LOG_EVERY`] for each reason.
    fn log(&self, why: EventOutcome, partition: i32, offset: i64, now: Instant) {
        if why.fix().is_empty() {
            return;
        }
        let mut state = self.state();
        if state.logged.get(&why).is_some_and(|at| now.duration_since(*at) < LOG_EVERY) {
            return;
        }
        state.logged.insert(why, now);
        let (source, topic) = (&self.source, &self.stats.topic);
        eprintln!(
            "headend: source {source}: topic {topic}, partition {partition}, offset {offset} is skipped, and others of its kind are \
             counted: {}",
            why.advice()
        );
    }

    /// Records whether a reader is connected to its partition.
    fn note_connected(&self, partition: i32, is_connected: bool) {
        let mut state = self.state();
        if state.connected.insert(partition, is_connected) != Some(is_connected) {
            self.stats.is_connected.store(state.is_connected(), Ordering::Relaxed);
            self.woken.notify_one();
        }
    }

    /// Keys to request.
    fn batch(&self) -> Batch {
        let mut state = self.state();
        self.stats.pending.store(0, Ordering::Relaxed);
        Batch { keys: state.pending.drain(), offsets: state.offsets.clone() }
    }

    /// Records that messages were removed from the topic before they were read.
    fn missed(&self, partition: i32, first: i64) {
        self.stats.links.errors.add(KafkaError::Missed);
        let (source, topic) = (&self.source, &self.stats.topic);
        eprintln!(
            "headend: source {source}: events of topic {topic}, partition {partition}, were removed before they were read, up to offset \
             {first}: the bucket is listed; fix: keep messages of the topic for longer than this headend is ever away"
        );
        self.want_list();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// State of a source at `s3://films/vod/`.
    pub(super) fn shared() -> Shared {
        Shared {
            source: "vod".to_owned(),
            location: S3Location::of("s3://films/vod/").unwrap().unwrap(),
            stats: Arc::default(),
            state: Mutex::default(),
            woken: Notify::new(),
        }
    }

    #[test]
    fn events_of_the_prefix_wait_and_others_are_counted() {
        let shared = shared();
        let put = |bucket: &str, key: &str| amazon("ObjectCreated:Put", bucket, key, "e", "01");
        for (offset, text) in [
            put("films", "vod%2Fa%2Fmaster.m3u8"),
            put("films", "vod/a/master.m3u8"),
            put("films", "vodka/a.ts"),
            put("other", "vod/a.ts"),
            put("other", "%FF"),
            put("films", "vod/a/"),
            put("films", "vod/../a.ts"),
            "{}".to_owned(),
        ]
        .iter()
        .enumerate()
        {
            shared.take(3, offset as i64, text.as_bytes());
        }
        let counted: Vec<_> = shared.stats.outcomes().filter(|it| it.1 > 0).collect();
        assert_eq!(
            counted,
            [("repeated", 1), ("other_bucket", 2), ("other_prefix", 1), ("left_out", 2), ("no_event", 1)]
        );
        assert!(!shared.state().is_list_wanted, "none of them hides a change");
        assert_eq!(shared.stats.pending(), 1);
        let batch = shared.batch();
        assert_eq!(batch.keys.into_keys().collect::<Vec<_>>(), ["vod/a/master.m3u8"]);
        assert_eq!((batch.offsets, shared.stats.pending()), (BTreeMap::from([(3, 8)]), 0));
        for message in [&b"\0"[..], put("films", "%FF").as_bytes()] {
            shared.state().is_list_wanted = false;
            shared.take(3, 8, message);
            assert!(shared.state().is_list_wanted);
        }
    }

    #[test]
    fn what_is_skipped_is_told_with_what_comes_of_it() {
        let text = EventOutcome::NoEvent.advice();
        assert!(text.starts_with("no_event; fix: have the store "), "{text}");
        let text = EventOutcome::NoJson.advice();
        assert!(
            text.starts_with("no_json; the bucket is listed, should it have been an event; fix: "),
            "{text}"
        );
    }

    #[test]
    fn the_bucket_is_listed_often_while_events_do_not_come() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { list_every_s: 600, ..Options::default() };
        let location = shared().location;
        let events = Events::open("vod", &location, &options, folder.path(), Arc::default()).unwrap();
        let every_s = || events.list_every(Duration::from_secs(60)).as_secs();
        assert_eq!(every_s(), 60, "no partition is known");
        events.shared.note_connected(0, true);
        assert_eq!((every_s(), events.shared.stats.is_connected()), (600, true));
        events.shared.note_connected(1, false);
        assert_eq!((every_s(), events.shared.stats.is_connected()), (60, false));
        events.shared.note_connected(1, true);
        events.shared.missed(1, 5);
        assert_eq!(every_s(), 60, "something was missed");
        events.list_begins();
        assert_eq!(every_s(), 600);
    }
}
