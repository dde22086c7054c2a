//! Purges of the fleet: messages of the purge topic, executed as an operator's are, with a line of the audit log and a result
//! for each.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use super::AUDIT;
use super::purge::{NotDone, PurgeRequest};
use crate::clock;
use crate::kafka::{
    self, Fetched, Follower, Kafka, KafkaError, KafkaStats, PurgeOutcome, Results, TopicOffsets,
};
use crate::logs::LineLimit;
use crate::status::Parts;
use crate::vitals;

/// Interval at which new partitions are requested.
const LOOK: Duration = Duration::from_secs(60);

/// Follows the purge topic, until the runtime ends.
pub async fn run(parts: Arc<Parts>, options: Arc<Kafka>, stats: Arc<KafkaStats>) {
    let results = (!options.results_topic.is_empty()).then(|| {
        let link = kafka::link(&options, &options.results_topic, &stats);
        let (results, send) = Results::new(link, &stats);
        vitals::essential_task("purge-results", send);
        results
    });
    let place = TopicOffsets::open(parts.store.path(), &options.purge_topic);
    let mut link = kafka::link(&options, &options.purge_topic, &stats);
    let consumer = Arc::new(Consumer {
        parts,
        node: options.node(),
        place: Mutex::new(place),
        purging: Mutex::new(()),
        results,
        stats,
        lines: LineLimit::new(),
    });
    let mut known = Vec::new();
    let mut readers = JoinSet::new();
    loop {
        for follower in link.followers().await {
            if !known.contains(&follower.partition) {
                known.push(follower.partition);
                readers.spawn(follow(Arc::clone(&consumer), follower));
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

/// State that the readers of all partitions share.
struct Consumer {
    parts: Arc<Parts>,
    node: String,
    place: Mutex<TopicOffsets>,
    /// Held during the execution of a message, so that one id on two partitions is executed once.
    purging: Mutex<()>,
    results: Option<Results>,
    stats: Arc<KafkaStats>,
    /// Limit of the messages that are logged one by one.
    lines: LineLimit,
}

async fn follow(consumer: Arc<Consumer>, mut follower: Follower) {
    let partition = follower.partition;
    loop {
        let next = consumer.place().next(partition);
        let fetched = follower.fetch(next).await;
        let own = Arc::clone(&consumer);
        // It waits for the disk.
        let done = tokio::task::spawn_blocking(move || own.take(partition, next, fetched)).await;
        if done.is_err() {
            // A panic ends the thread's work on these messages; they are read again.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

impl Consumer {
    /// Each change is complete in itself, so a panic elsewhere leaves it usable.
    fn place(&self) -> MutexGuard<'_, TopicOffsets> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, partition: i32, next: Option<i64>, fetched: Fetched) {
        match fetched {
            Fetched::Messages(messages) if messages.is_empty() => return,
            Fetched::Messages(messages) => {
                for (offset, value) in messages {
                    self.place().begin(partition, offset);
                    self.message(partition, offset, &value);
                    self.place().advance(partition, offset + 1);
                    self.stats.links.note_done(partition, 1);
                }
            }
            Fetched::Recreated(first) => {
                if next.is_some() {
                    tracing::warn!(
                        partition,
                        first,
                        "the purge topic was made again: it is read from its beginning"
                    );
                }
                self.place().advance(partition, first);
            }
            Fetched::Missed(first) => {
                self.stats.links.errors.add(KafkaError::Missed);
                let fix = "keep messages of the topic for longer than a box is ever away";
                tracing::error!(
                    partition,
                    first,
                    "purges were removed from the topic before this box had read them: everything held is made stale; {fix}"
                );
                let request = PurgeRequest::of_everything_stale("missed");
                let _ = request.carry_out(&self.parts);
                tracing::info!(target: AUDIT, client = "kafka", by = "missed", partition, "command");
                self.place().advance(partition, first);
            }
            Fetched::Unreadable => self.place().advance(partition, next.unwrap_or(0) + 1),
        }
        if let Err(err) = self.place().write() {
            tracing::warn!(%err, "the place in the purge topic cannot be written: its last messages are read again after a restart");
        }
    }

    fn message(&self, partition: i32, offset: i64, value: &[u8]) {
        let _one_at_a_time = self.purging.lock().unwrap_or_else(PoisonError::into_inner);
        let read = PurgeRequest::of_message(value);
        let mut result = json!({ "schema": 1, "node": self.node, "partition": partition, "offset": offset });
        let asked = read.as_ref().ok().map(|(_, request)| (request.shown(), request.is_soft()));
        let (id, outcome, why) = match read {
            Err((id, why)) => (id, PurgeOutcome::Refused, Some(why)),
            Ok((id, _)) if self.place().knows(&id) => (Some(id), PurgeOutcome::Repeated, None),
            Ok((id, request)) => {
                let (outcome, why) = match request.carry_out(&self.parts) {
                    Ok(done) => {
                        result["purged"] = done.all.objects.into();
                        result["bytes"] = done.all.bytes.into();
                        result["took_ms"] = json!(done.took.as_micros() as f64 / 1000.0);
                        match (done.all.objects, done.all.is_forgotten_by_disk) {
                            (_, true) => {
                                (PurgeOutcome::Failed, Some("the purge could not be written to disk: the next start may bring objects back; see `skycached status`"
                                    .to_owned()))
                            }
                            (0, false) => (PurgeOutcome::Nothing, None),
                            (_, false) => (PurgeOutcome::Done, None),
                        }
                    }
                    Err(NotDone::Nothing(_)) => (PurgeOutcome::Nothing, None),
                    Err(NotDone::Wrong(why)) => (PurgeOutcome::Refused, Some(why)),
                };
                if outcome != PurgeOutcome::Refused {
                    self.place().remember(&id);
                }
                (Some(id), outcome, why)
            }
        };
        self.stats.purges.add(outcome);
        result["status"] = outcome.as_str().into();
        result["at"] = clock::wall().to_xml().into();
        let id = id.unwrap_or_default();
        if !id.is_empty() {
            result["id"] = id.as_str().into();
        }
        if self.may_log() {
            match &why {
                None => {
                    let (selects, soft) = asked.unwrap_or_default();
                    let objects = result["purged"].as_u64().unwrap_or(0);
                    tracing::info!(target: AUDIT, client = "kafka", by = "topic", id, partition, offset, selects, soft, objects, %outcome, "command");
                }
                Some(why) => {
                    tracing::warn!(target: AUDIT, client = "kafka", by = "topic", id, partition, offset, %outcome, why, "refused");
                }
            }
        }
        if let Some(why) = why {
            result["error"] = why.into();
        }
        if let Some(results) = &self.results {
            results.offer(&id, result.to_string().into_bytes());
        }
    }

    /// Whether one more message is logged in this second. The others are counted in one line; metrics count all.
    fn may_log(&self) -> bool {
        self.lines.admits(clock::now(), |count| {
            tracing::warn!(target: AUDIT, client = "kafka", count, "messages of the purge topic that are not listed");
        })
    }
}
