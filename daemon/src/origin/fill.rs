//! Read-through: an unknown object is fetched once, for all who wait, into the cache.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use carousel::name::ObjectKey;
use carousel::time::WallTime;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use lru::LruCache;
use std::num::NonZeroUsize;
use tokio::sync::Notify;

use super::{Client, OriginError, Reply};
use crate::clock;
use crate::flight::{Announced, FailReason, Flight, Outcome};
use crate::receive::Shared;
use crate::store::{CameBy, ObjectMeta, ObjectUri, Partial, StoreError, StoredObject, Wish};

/// Fetches at a time. Each holds a connection and a file.
const MAX_FILLS: usize = 512;
/// Refusals remembered.
const MAX_NEGATIVE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// How long an origin's 404 or 410 stands.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// Freshness of what the origin leaves unsaid: manifests change, segments do not.
const MANIFEST_TTL_S: i64 = 60;
const OBJECT_TTL_S: i64 = 3600;
/// Headers of the origin that are kept and passed on.
const KEPT: [&str; 6] =
    ["cache-control", "last-modified", "content-encoding", "content-language", "vary", "expires"];

/// What a fill has come to, as soon as that is known.
#[derive(Debug, Clone)]
pub enum FillResult {
    /// It is being fetched; stream from the flight.
    Flight(Arc<Flight>),
    /// The origin refuses, with this status.
    Refused(u16),
    /// The origin cannot be had.
    Failed(OriginError),
    /// Too much is being fetched, or the disk is full.
    Busy,
    /// The cache has it by now.
    Held,
}

#[derive(Debug, Default)]
struct Slot {
    result: OnceLock<FillResult>,
    changed: Notify,
}

/// Fetches whole objects.
#[derive(Debug)]
pub struct Filler {
    client: Arc<Client>,
    shared: Arc<Shared>,
    slots: Mutex<HashMap<ObjectKey, Arc<Slot>>>,
    negative: Mutex<LruCache<ObjectKey, (u16, Instant)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Filler {
    /// With a client and a cache to fill.
    pub fn new(client: Arc<Client>, shared: Arc<Shared>) -> Arc<Self> {
        let negative = Mutex::new(LruCache::new(MAX_NEGATIVE));
        Arc::new(Self { client, shared, slots: Mutex::default(), negative })
    }

    /// Fetches `url` as `key`, or joins who does so already. Goes on when the first who asked has left.
    pub async fn fill(
        self: &Arc<Self>,
        key: &ObjectKey,
        url: String,
        announced: Option<Announced>,
    ) -> FillResult {
        self.begin(key, url, announced, false).await
    }

    /// As [`Filler::fill`], but only what the cache has not got: an object that another fill has just brought is not fetched
    /// again.
    pub async fn fill_missing(
        self: &Arc<Self>,
        key: &ObjectKey,
        url: String,
        announced: Option<Announced>,
    ) -> FillResult {
        self.begin(key, url, announced, true).await
    }

    async fn begin(
        self: &Arc<Self>,
        key: &ObjectKey,
        url: String,
        announced: Option<Announced>,
        only_missing: bool,
    ) -> FillResult {
        if let Some(&(status, until)) = lock(&self.negative).peek(key)
            && Instant::now() < until
        {
            return FillResult::Refused(status);
        }
        let slot = {
            let mut slots = lock(&self.slots);
            match slots.get(key) {
                Some(slot) => Arc::clone(slot),
                // A slot goes after its object is in the cache.
                None if only_missing && self.shared.store.contains(key.as_str()) => return FillResult::Held,
                None if slots.len() >= MAX_FILLS => return FillResult::Busy,
                None => {
                    let slot = Arc::new(Slot::default());
                    slots.insert(key.clone(), Arc::clone(&slot));
                    let (filler, key, slot2) = (Arc::clone(self), key.clone(), Arc::clone(&slot));
                    tokio::spawn(async move { filler.run(key, url, announced, &slot2).await });
                    slot
                }
            }
        };
        loop {
            let changed = slot.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(result) = slot.result.get() {
                return result.clone();
            }
            changed.await;
        }
    }

    async fn run(&self, key: ObjectKey, url: String, announced: Option<Announced>, slot: &Slot) {
        let tell = |result: FillResult| {
            let _ = slot.result.set(result);
            slot.changed.notify_waiters();
        };
        match self.client.get(&url, &[]).await {
            Err(OriginError::Status(status)) => {
                if matches!(status, 404 | 410) {
                    lock(&self.negative).put(key.clone(), (status, Instant::now() + NEGATIVE_TTL));
                }
                tell(FillResult::Refused(status));
            }
            Err(err) => {
                tracing::info!(%key, %err, "the origin cannot be had");
                tell(FillResult::Failed(err));
            }
            Ok(reply) => match self.open(&key, &reply, announced.as_ref()) {
                Err(err) => {
                    tracing::warn!(%key, %err, "no room for an object from an origin");
                    tell(FillResult::Busy);
                }
                Ok((flight, partial)) => match self.shared.flights.add(Arc::clone(&flight)) {
                    // The carousel was faster.
                    Err(Some(taken)) => tell(FillResult::Flight(taken)),
                    Err(None) => tell(FillResult::Busy),
                    Ok(()) => {
                        tell(FillResult::Flight(Arc::clone(&flight)));
                        let outcome =
                            self.receive(&key, &url, reply, &flight, partial, announced.as_ref()).await;
                        self.shared.flights.end(&flight, outcome);
                    }
                },
            },
        }
        lock(&self.slots).remove(&key);
    }

    fn open(
        &self,
        key: &ObjectKey,
        reply: &Reply,
        announced: Option<&Announced>,
    ) -> Result<(Arc<Flight>, Arc<Partial>), StoreError> {
        let length = text(&reply.headers, CONTENT_LENGTH.as_str()).and_then(|it| it.parse::<u64>().ok());
        let content_type = text(&reply.headers, CONTENT_TYPE.as_str()).map(str::to_owned);
        let headers = kept_headers(&reply.headers);
        let store = &self.shared.store;
        let wish = Wish {
            class: store.class_of(key.as_str()),
            is_short_lived: store.is_short(clock::wall(), Some(expires(key, &headers))),
        };
        let partial = Arc::new(match length {
            Some(length) => store.create(length, wish)?,
            None => store.create_growing(wish)?,
        });
        let has_digest =
            announced.is_some_and(|it| it.digest.is_some()) && reply.headers.get(CONTENT_ENCODING).is_none();
        let flight =
            Flight::of_prefix(key.clone(), content_type, length, headers, Arc::clone(&partial), has_digest);
        Ok((Arc::new(flight), partial))
    }

    async fn receive(
        &self,
        key: &ObjectKey,
        url: &str,
        mut reply: Reply,
        flight: &Flight,
        partial: Arc<Partial>,
        announced: Option<&Announced>,
    ) -> Outcome {
        let mut offset = 0;
        loop {
            match reply.next().await {
                Ok(None) => break,
                Ok(Some(piece)) => {
                    self.client.count_bytes(piece.len());
                    let end = offset + piece.len() as u64;
                    let too_long = flight.length.is_some_and(|length| end > length);
                    if too_long || partial.write_at(offset, &piece).is_err() {
                        return Outcome::Failed(if too_long {
                            FailReason::OriginCut
                        } else {
                            FailReason::Store
                        });
                    }
                    offset = end;
                    flight.advance(offset);
                }
                Err(err) => {
                    tracing::info!(%key, %err, offset, "the origin ended early");
                    return Outcome::Failed(FailReason::OriginCut);
                }
            }
        }
        if flight.length.is_some_and(|length| length != offset) {
            return Outcome::Failed(FailReason::OriginCut);
        }
        let (shared, meta) = (Arc::clone(&self.shared), self.meta(key, url, offset, flight));
        let keep = may_keep(&flight.headers);
        let expected = announced
            .and_then(|it| it.digest)
            .filter(|_| !flight.headers.iter().any(|(name, _)| name == "content-encoding"));
        // Hashing and linking wait for the disk: not on a thread that serves players.
        let published =
            tokio::task::spawn_blocking(move || publish(&shared, partial, meta, expected, keep)).await;
        match published {
            Ok(Ok(Some(stored))) => Outcome::Whole(stored),
            Ok(Ok(None)) => Outcome::Passed(offset),
            Ok(Err(reason)) => Outcome::Failed(reason),
            Err(_) => Outcome::Failed(FailReason::Store),
        }
    }

    fn meta(&self, key: &ObjectKey, url: &str, length: u64, flight: &Flight) -> ObjectMeta {
        ObjectMeta {
            key: key.clone(),
            uri: ObjectUri::new(url, key),
            content_type: flight.content_type.clone(),
            length,
            digest: carousel::digest::Digest([0; 32]), // known when the bytes are: `publish` sets it
            version: 0,
            received_at: clock::wall(),
            expires: Some(expires(key, &flight.headers)),
            class: self.shared.store.class_of(key.as_str()),
            came_by: CameBy::Origin,
            origin_headers: flight.headers.clone(),
        }
    }
}

/// When an object that comes now is stale.
fn expires(key: &ObjectKey, headers: &[(String, String)]) -> WallTime {
    let ttl_s =
        max_age(headers).unwrap_or_else(|| if is_manifest(key) { MANIFEST_TTL_S } else { OBJECT_TTL_S });
    WallTime::from_unix_ms(clock::wall().unix_ms().saturating_add(ttl_s.saturating_mul(1000)))
}

fn publish(
    shared: &Shared,
    partial: Arc<Partial>,
    meta: ObjectMeta,
    expected: Option<carousel::digest::Digest>,
    keep: bool,
) -> Result<Option<Arc<StoredObject>>, FailReason> {
    let frozen = partial.freeze(meta.length).map_err(|_| FailReason::Store)?;
    let digest = frozen.digest();
    if expected.is_some_and(|expected| expected != digest) {
        tracing::warn!(key = %meta.key, "the origin's object is not the one that the FDT describes");
        return Err(FailReason::Verify);
    }
    if !keep {
        return Ok(None);
    }
    shared.store.publish(&frozen, ObjectMeta { digest, ..meta }).map(Some).map_err(|_| FailReason::Store)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    KEPT.iter().filter_map(|&name| Some((name.to_owned(), text(headers, name)?.to_owned()))).collect()
}

fn directives(headers: &[(String, String)]) -> impl Iterator<Item = String> {
    let value =
        headers.iter().find(|(name, _)| name == "cache-control").map(|(_, value)| value.to_ascii_lowercase());
    value.unwrap_or_default().split(',').map(|it| it.trim().to_owned()).collect::<Vec<_>>().into_iter()
}

/// Whether a shared cache may keep the response (RFC 9111 section 3).
fn may_keep(headers: &[(String, String)]) -> bool {
    let varies = headers.iter().any(|(name, value)| name == "vary" && value.trim() == "*");
    !varies
        && !directives(headers).any(|it| it == "no-store" || it == "private" || it.starts_with("private="))
}

/// Freshness in seconds, if the origin gives it.
fn max_age(headers: &[(String, String)]) -> Option<i64> {
    let value = |name: &str| {
        directives(headers)
            .find_map(|it| it.strip_prefix(name)?.strip_prefix('=')?.trim_matches('"').parse::<i64>().ok())
    };
    if directives(headers).any(|it| it == "no-cache") {
        return Some(0);
    }
    value("s-maxage").or_else(|| value("max-age")).map(|seconds| seconds.max(0))
}

fn is_manifest(key: &ObjectKey) -> bool {
    let path = key.as_str().split('?').next().unwrap_or_default().to_ascii_lowercase();
    path.ends_with(".m3u8") || path.ends_with(".mpd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_kept_and_for_how_long() {
        let with = |value: &str| vec![("cache-control".to_owned(), value.to_owned())];
        assert!(may_keep(&with("public, max-age=5")) && may_keep(&[]));
        for value in ["no-store", "Private", "max-age=5, NO-STORE", "private=\"x\""] {
            assert!(!may_keep(&with(value)), "{value}");
        }
        assert_eq!(max_age(&with("max-age=5, s-maxage=\"7\"")), Some(7));
        assert_eq!(max_age(&with("no-cache")), Some(0));
        assert_eq!(max_age(&with("max-age=x")), None);
    }
}
