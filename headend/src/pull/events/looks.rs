//! Requests for the keys of bucket events. The store's answer decides, not the event: so late, repeated or reordered events do no
//! harm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::client::Validator;
use super::super::s3::listing::bare;
use super::super::s3::{Bucket, Conditions, ObjectResponse};
use super::super::stats::{Failed, PullFailure};
use super::super::{MAX_FETCHES, Origin, Puller};
use super::EventOutcome;
use super::message::Happened;
use super::pending::Waiting;
use crate::options::has_manifest_name;
use crate::package::encode;

/// Time in which further events of a burst are collected.
const GATHER: Duration = Duration::from_millis(50);

/// The store's answer about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoredVersion {
    /// The version that the folder has.
    Same,
    Other,
    Nothing,
}

impl Puller {
    /// Time of the next list of the bucket.
    pub(in crate::pull) fn list_due(&self) -> Option<Instant> {
        let listing = self.listing.as_ref()?;
        Some(match (&self.events, listing.listed_at) {
            (Some(events), Some(at)) if listing.failed == 0 => at + events.list_every(listing.every),
            _ => listing.due,
        })
    }

    /// Begins to read events, until the returned set is dropped.
    #[cfg(feature = "kafka")]
    pub(in crate::pull) fn start_reading(&self) -> Option<JoinSet<()>> {
        let (events, listing) = (self.events.as_ref()?, self.listing.as_ref()?);
        Some(events.start(listing.every, Arc::clone(&self.files.stats)))
    }

    /// Waits for the next round, which begins early if an event has changed something.
    pub(in crate::pull) async fn rest(&mut self, wait: Duration) {
        let Some(shared) = self.events.as_ref().map(|it| Arc::clone(&it.shared)) else {
            return tokio::time::sleep(wait).await;
        };
        let until = Instant::now() + wait;
        loop {
            let until = self.list_due().map_or(until, |due| due.min(until));
            tokio::select! {
                () = tokio::time::sleep_until(until) => {
                    // No key may wait, but the offsets in the topic have advanced: they are written.
                    self.look_at_pending().await;
                    return;
                }
                () = shared.woken.notified() => {}
            }
            tokio::time::sleep(GATHER).await;
            if self.look_at_pending().await {
                return;
            }
        }
    }

    /// Requests the waiting keys. True if something has changed in the folder.
    async fn look_at_pending(&mut self) -> bool {
        let Some(shared) = self.events.as_ref().map(|it| Arc::clone(&it.shared)) else { return false };
        let batch = shared.batch();
        let mut is_changed = false;
        let count = |outcome| shared.count(outcome);
        let mut changed: Vec<String> = Vec::new();
        for (name, happened, looked) in self.ask(batch.keys, count).await {
            match looked {
                Ok(StoredVersion::Same) => count(EventOutcome::Unchanged),
                Ok(StoredVersion::Other) => changed.push(encode(&name)),
                Ok(StoredVersion::Nothing) => {
                    let is_held = self.listing.as_ref().is_some_and(|it| it.held.get(&name).is_some());
                    if happened != Some(Happened::Created) && is_held && !self.is_on_air(&name) {
                        self.remove(&name);
                        count(EventOutcome::Removed);
                        is_changed = true;
                    } else {
                        count(EventOutcome::Absent);
                    }
                }
                Err(failed) => {
                    let url = self.files.url_of(&encode(&name)).unwrap_or(name);
                    self.files.stats.fail(&url, failed);
                    count(EventOutcome::Failed);
                    shared.want_list();
                }
            }
        }
        // Manifests last: what they name is there, or is fetched at once.
        let (manifests, media): (Vec<String>, Vec<String>) =
            changed.iter().cloned().partition(|path| has_manifest_name(path));
        self.fetch_all(media, &BTreeMap::new()).await;
        self.fetch_all(manifests, &BTreeMap::new()).await;
        for path in &changed {
            is_changed = true;
            if self.failing.contains_key(path) {
                count(EventOutcome::Failed);
                shared.want_list();
            } else {
                count(EventOutcome::Fetched);
            }
        }
        if let Some(Err(err)) = self.events.as_mut().map(|it| it.place.write(&batch.offsets)) {
            self.files.stats.fail(&self.files.shown(), Failed::from(err));
        }
        is_changed
    }

    /// Whether a live manifest names a file, as far as it has been read: origins remove segments while receivers still need them.
    /// The file is removed when no manifest names it any more, or when two listings lack it.
    fn is_on_air(&self, name: &str) -> bool {
        !has_manifest_name(name) && self.on_air.contains(&self.files.folder.root.join(name))
    }

    /// Requests the keys that concern the source, and counts the others. Returns what happened, if all events of a key agree.
    async fn ask(
        &self,
        keys: BTreeMap<String, Waiting>,
        count: impl Fn(EventOutcome),
    ) -> Vec<(String, Option<Happened>, Result<StoredVersion, Failed>)> {
        let (Origin::Bucket(bucket), Some(listing)) = (&self.origin, &self.listing) else {
            return Vec::new();
        };
        let mut asked = Vec::new();
        for (key, waiting) in keys {
            let name = key[bucket.location().prefix.len()..].to_owned();
            let held = listing.held.get(&name).map(|it| it.etag.clone());
            let is_manifest =
                || has_manifest_name(&name) && self.files.manifest.as_deref().is_none_or(|it| it == name);
            let is_wanted = || {
                (listing.takes_all && self.files.manifest.is_none())
                    || is_manifest()
                    || self.failing.contains_key(&encode(&name))
            };
            let (happened, etag) = match &waiting {
                Waiting::Alike(change) => (Some(change.happened), change.etag.as_ref()),
                Waiting::Mixed => (None, None),
            };
            match (happened, &held) {
                (Some(Happened::Created), Some(_)) if etag.is_some() && etag == held.as_ref() => {
                    count(EventOutcome::Unchanged);
                }
                (Some(Happened::Removed), None) => count(EventOutcome::Absent),
                (_, None) if !is_wanted() => count(EventOutcome::Unneeded),
                (happened, _) => asked.push((name, key, held, happened)),
            }
        }
        let mut asked = asked.into_iter();
        let (mut running, mut all) = (JoinSet::new(), Vec::new());
        loop {
            while running.len() < MAX_FETCHES
                && let Some((name, key, held, happened)) = asked.next()
            {
                let bucket = Arc::clone(bucket);
                running.spawn_local(async move {
                    let looked = look(&bucket, &key, held.as_deref()).await;
                    (name, happened, looked)
                });
            }
            match running.join_next().await {
                None => return all,
                Some(Ok(looked)) => all.push(looked),
                Some(Err(_)) => {
                    count(EventOutcome::Failed);
                    if let Some(events) = &self.events {
                        events.shared.want_list();
                    }
                }
            }
        }
    }
}

/// Requests the first byte of an object, unless it is the version that is held.
async fn look(bucket: &Bucket, key: &str, held: Option<&str>) -> Result<StoredVersion, Failed> {
    let known = held.filter(|etag| !etag.is_empty()).and_then(Validator::of_bare);
    let if_none_match = match &known {
        Some(Validator::Etag(value)) => Some(value),
        _ => None,
    };
    let conditions = Conditions { range: Some(0..1), if_none_match, ..Conditions::default() };
    match bucket.get(key, &conditions).await {
        Ok(ObjectResponse::Unchanged) => Ok(StoredVersion::Same),
        // Some stores ignore the condition of a range.
        Ok(
            ObjectResponse::Whole { etag: Some(etag), .. } | ObjectResponse::Part { etag: Some(etag), .. },
        ) if held.is_some_and(|held| etag.to_str().is_ok_and(|it| bare(it) == held)) => {
            Ok(StoredVersion::Same)
        }
        Ok(_) => Ok(StoredVersion::Other),
        Err(failed) if failed.why == PullFailure::NotFound => Ok(StoredVersion::Nothing),
        Err(failed) => Err(failed),
    }
}
