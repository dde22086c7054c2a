//! Resumable fetch of a long object with a known digest: received bytes survive connection failures and power cuts, and the fetch
//! continues after them.
//!
//! ```text
//! attempt ─ what a checkpoint has saved ─ Range, If-Range ─┬ 206: the rest ────┐
//!                                                          └ 200: all of it ───┴▶ digest ─┬ right: published
//!                                                                                         └ wrong: all of it is dropped
//! ```
//!
//! Bytes of two versions are never combined: `If-Range` names the version, and without a validator the digest decides at the
//! end. A checkpoint never claims bytes that are not on the disk.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use carousel::digest::Digest;
use carousel::fec::{Oti, Partition, SymbolMap};
use carousel::name::ObjectKey;
use carousel::time::Instant;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};

use super::breaker::Asker;
use super::error::OriginError;
use super::fill::Filler;
use super::lock;
use super::message::{Question, Reply};
use super::spans::Part;
use crate::caching::{self, Validators};
use crate::clock;
use crate::delivery::{FailReason, Flight, Outcome, Sent};
use crate::store::{
    Arrival, CameBy, ObjectMeta, ObjectUri, Partial, Placement, ResponseMeta, Store, StoredObject,
};

/// Granularity of the record of received bytes.
const UNIT_BYTES: u16 = 32 << 10;
/// Units of a source block, for the partition.
const BLOCK_UNITS: u32 = 65_535;
/// Bytes, and time, between two checkpoints.
const CHECKPOINT_BYTES: u64 = 8 << 20;
const CHECKPOINT: Duration = Duration::from_secs(10);
/// Nominal freshness of the received part, for status.
const SHOWN_FOR_MS: i64 = 86_400_000;

/// Reason for which an attempt did not complete the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfinished {
    /// The origin did not answer, or cut the body: received bytes are kept.
    Origin(OriginError),
    /// It has another length, or other bytes: nothing is kept.
    Other,
    /// There is no room, or the disk fails.
    Store,
    /// It is being received another way.
    Elsewhere,
}

/// The received part.
#[derive(Debug, Clone)]
struct ReceivedPart {
    partial: Arc<Partial>,
    received: Arc<SymbolMap>,
}

impl ReceivedPart {
    /// End of the received bytes, which are contiguous from the first on.
    fn end(&self) -> u64 {
        self.received.available_from(0)
    }

    /// Records that everything before `end` is in the file.
    fn note(&self, end: u64) {
        let unit = u64::from(UNIT_BYTES);
        let units = if end >= self.received.length() { self.received.symbols() } else { end / unit };
        (self.end() / unit..units).for_each(|it| _ = self.received.set(it));
    }

    /// Writes a checkpoint of the received bytes.
    async fn save(&self) {
        let Self { partial, received } = self.clone();
        let saved = tokio::task::spawn_blocking(move || partial.checkpoint(&received, &received.words()));
        if let Ok(Err(err)) = saved.await {
            tracing::warn!(%err, "a part of a long object cannot be saved: after a power cut it is fetched again");
        }
    }
}

/// Fetch of a long object, over any number of attempts. When dropped it is given up, unless the daemon is stopping.
#[derive(Debug)]
pub struct ResumedFetch {
    key: ObjectKey,
    url: String,
    digest: Digest,
    length: u64,
    /// `If-Range` value of the version of the received part.
    version: Mutex<Option<String>>,
    held: Mutex<Option<ReceivedPart>>,
}

/// A flight that ends with the attempt.
struct AttemptFlight<'a> {
    filler: &'a Filler,
    flight: Arc<Flight>,
}

impl Drop for AttemptFlight<'_> {
    fn drop(&mut self) {
        if self.flight.outcome().is_none() {
            self.filler.shared.flights.end(&self.flight, Outcome::Failed(FailReason::OriginCut));
        }
    }
}

impl ResumedFetch {
    /// Creates the fetch of an object; `version`: the value of [`ResumedFetch::version`] for the part that an earlier run has
    /// left.
    pub fn new(key: ObjectKey, url: String, digest: Digest, length: u64, version: Option<String>) -> Self {
        Self { key, url, digest, length, version: Mutex::new(version), held: Mutex::default() }
    }

    /// Name of the object.
    pub const fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Digest of the object.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Number of received bytes.
    pub fn received_bytes(&self) -> u64 {
        lock(&self.held).as_ref().map_or(0, ReceivedPart::end)
    }

    /// `If-Range` value of the version of the received part; to be stored with it.
    pub fn version(&self) -> Option<String> {
        lock(&self.version).clone()
    }

    /// Opens the received part, from this run or an earlier one.
    fn open(&self, store: &Store) -> Option<ReceivedPart> {
        let mut held = lock(&self.held);
        if let Some(held) = held.as_ref().filter(|it| !it.partial.is_lost()) {
            return Some(held.clone());
        }
        let partition = Partition::new(&Oti::no_code(self.length, UNIT_BYTES, BLOCK_UNITS)).ok()?;
        let received = Arc::new(SymbolMap::new(&partition));
        let mut identity = Digest::hasher();
        let length = self.length.to_le_bytes();
        let parts: [&[u8]; 4] = [b"origin", self.key.as_str().as_bytes(), &self.digest.0, &length];
        for part in parts {
            identity.update(part);
            identity.update(&[0]);
        }
        let placement = Placement { class: store.class_of(self.key.as_str()), is_short_lived: false };
        let arrival = Arrival { placement, is_signed: true, returns: false };
        let partial = Arc::new(store.create_resumable(&identity.finish(), &received, arrival).ok()?);
        *held = Some(ReceivedPart { partial, received });
        held.clone()
    }

    fn give_up_part(&self) {
        *lock(&self.held) = None;
        *lock(&self.version) = None;
    }

    /// Requests the missing bytes. `remember` is called with their version before they are stored.
    ///
    /// # Errors
    /// [`Unfinished`]; another attempt continues where this one ended.
    pub async fn attempt(
        self: Arc<Self>,
        filler: &Filler,
        remember: &(dyn Fn(Option<&str>) + Send + Sync),
    ) -> Result<Arc<StoredObject>, Unfinished> {
        let (this, store) = (Arc::clone(&self), filler.shared.store.clone());
        // Opening waits for the disk.
        let held = tokio::task::spawn_blocking(move || this.open(&store)).await.ok().flatten();
        let held = held.ok_or(Unfinished::Store)?;
        let asked_from = held.end();
        let mut reply = self.ask(filler, asked_from).await?;
        let Some(mut at) = self.begin_of(&reply, asked_from) else {
            self.give_up_part();
            return Err(Unfinished::Other);
        };
        if at < asked_from {
            tracing::info!(key = %self.key, asked_from, "the origin has another version: it is fetched from its beginning");
            // A power cut from here on must not leave bytes of both versions.
            held.received.clear();
            held.save().await;
        }
        let version = version_of(&reply.headers);
        if *lock(&self.version) != version {
            remember(version.as_deref());
            *lock(&self.version) = version;
        }
        let flight = Arc::new(self.flight(&reply.headers, &held));
        flight.advance(at);
        filler.shared.flights.add(Arc::clone(&flight)).map_err(|_| Unfinished::Elsewhere)?;
        let attempt = AttemptFlight { filler, flight };
        let came = self.receive(filler, &mut reply, &held, &attempt.flight, &mut at).await;
        if let Err(why) = came {
            match why {
                Unfinished::Origin(_) => held.save().await,
                _ => self.give_up_part(),
            }
            return Err(why);
        }
        drop(held);
        let stored = self.publish(filler).await?;
        filler.shared.flights.end(&attempt.flight, Outcome::Complete(Arc::clone(&stored)));
        Ok(stored)
    }

    async fn ask(&self, filler: &Filler, from: u64) -> Result<Reply, Unfinished> {
        let mut headers = HeaderMap::new();
        if from > 0 {
            let range = HeaderValue::from_str(&format!("bytes={from}-"));
            headers.insert(header::RANGE, range.map_err(|_| Unfinished::Other)?);
            if let Some(version) = self.version().and_then(|it| HeaderValue::from_str(&it).ok()) {
                headers.insert(header::IF_RANGE, version);
            }
        }
        let question = Question { asker: Asker::Own, ..Question::get(headers, true) };
        let reply = filler.client.ask(&self.url, question).await.map_err(Unfinished::Origin)?;
        match reply.status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(reply),
            // The received part is longer than the origin's object.
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.give_up_part();
                Err(Unfinished::Other)
            }
            status => Err(Unfinished::Origin(OriginError::Status(status.as_u16()))),
        }
    }

    /// Offset of the first byte of a body; `None`: it is not part of this object.
    fn begin_of(&self, reply: &Reply, asked_from: u64) -> Option<u64> {
        if reply.status == StatusCode::PARTIAL_CONTENT {
            let wanted = Part { span: asked_from..self.length, length: self.length };
            // Some origins ignore `If-Range`. A part has the validator of the complete object (RFC 9110 section 15.3.7);
            // a date may be missing.
            let came = version_of(&reply.headers);
            let is_same = self.version().is_none_or(|begun| came.is_none_or(|it| it == begun));
            return (is_same && Part::of(&reply.headers)? == wanted).then_some(asked_from);
        }
        let length = caching::text(&reply.headers, header::CONTENT_LENGTH);
        length.is_none_or(|it| it.trim().parse() == Ok(self.length)).then_some(0)
    }

    /// A flight for status and the carousel during the fetch; players are not served from it.
    fn flight(&self, fields: &HeaderMap, held: &ReceivedPart) -> Flight {
        let now = clock::steady();
        let sent = Sent {
            response: ResponseMeta { status: 200, ..ResponseMeta::default() },
            received_at: now,
            expires: now.plus_ms(SHOWN_FOR_MS),
            is_shared: false,
            may_repeat: false,
            replaces_stale: false,
            not_kept: None,
        };
        let content_type = caching::text(fields, header::CONTENT_TYPE).map(str::to_owned);
        let partial = Arc::clone(&held.partial);
        Flight::of_prefix(self.key.clone(), content_type, Some(self.length), sent, partial, true)
    }

    async fn receive(
        &self,
        filler: &Filler,
        reply: &mut Reply,
        held: &ReceivedPart,
        flight: &Flight,
        at: &mut u64,
    ) -> Result<(), Unfinished> {
        let (mut saved, mut saved_at): (u64, Instant) = (*at, clock::now());
        while let Some(piece) = reply.next().await.map_err(Unfinished::Origin)? {
            filler.client.count_bytes(piece.len());
            let end = *at + piece.len() as u64;
            if end > self.length {
                return Err(Unfinished::Other);
            }
            held.partial.write_at(*at, &piece).map_err(|_| Unfinished::Store)?;
            *at = end;
            held.note(end);
            flight.advance(end);
            if end - saved >= CHECKPOINT_BYTES || clock::now().since(saved_at) >= CHECKPOINT {
                held.save().await;
                (saved, saved_at) = (end, clock::now());
            }
        }
        if *at == self.length { Ok(()) } else { Err(Unfinished::Origin(OriginError::Cut)) }
    }

    /// Verifies the digest of the complete object and publishes it. Both wait for the disk.
    async fn publish(&self, filler: &Filler) -> Result<Arc<StoredObject>, Unfinished> {
        let held = lock(&self.held).take().ok_or(Unfinished::Store)?;
        let (shared, expected, length) = (filler.shared.clone(), self.digest, self.length);
        let meta = ObjectMeta {
            uri: ObjectUri::new(&self.url, &self.key),
            content_type: None,
            length,
            digest: expected,
            version: 0,
            received_at: clock::steady(),
            expires: None,
            class: shared.store.class_of(self.key.as_str()),
            came_by: CameBy::Origin,
            response: Some(Box::new(ResponseMeta { status: 200, ..ResponseMeta::default() })),
            ignored_query: Default::default(),
            signed_by: None,
            key: self.key.clone(),
        };
        let published = tokio::task::spawn_blocking(move || {
            let frozen = held.partial.freeze(length).map_err(|_| Unfinished::Store)?;
            if frozen.digest() != expected {
                return Err(Unfinished::Other);
            }
            shared.manifests.publish(&shared.store, &frozen, meta).map_err(|_| Unfinished::Store)
        });
        published.await.unwrap_or(Err(Unfinished::Store))
    }
}

/// The `If-Range` value of a response, if it has a validator.
fn version_of(fields: &HeaderMap) -> Option<String> {
    Validators::of(fields).if_range()?.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{filler_of, key, origin};
    use super::*;
    use crate::store::StoreConfig;

    const LENGTH: usize = 1_000_000;

    fn body() -> Vec<u8> {
        (0..LENGTH as u32).map(|at| ((at * 7) >> 3) as u8).collect()
    }

    /// An origin that cuts its first answer after `cut_at` bytes, and records the requested ranges.
    fn cutting(cut_at: usize, etags: [&'static str; 2], notes: Arc<Mutex<Vec<String>>>) -> String {
        origin(move |head| {
            let mut notes = lock(&notes);
            let field = |name: &str| {
                head.lines()
                    .find_map(|it| it.strip_prefix(name)?.strip_prefix(": "))
                    .unwrap_or("-")
                    .to_owned()
            };
            let etag = etags[usize::from(!notes.is_empty())];
            notes.push(format!("{} {}", field("range"), field("if-range")));
            let whole = body();
            let from =
                field("range").strip_prefix("bytes=").and_then(|it| it.strip_suffix('-')?.parse().ok());
            let from: usize = from.filter(|_| [etag, "-"].contains(&field("if-range").as_str())).unwrap_or(0);
            let (status, extra) = match from {
                0 => ("200 OK", String::new()),
                from => (
                    "206 Partial Content",
                    format!("Content-Range: bytes {from}-{}/{LENGTH}\r\n", LENGTH - 1),
                ),
            };
            let tag = if etag == "-" { String::new() } else { format!("ETag: {etag}\r\n") };
            let mut answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{tag}{extra}Connection: close\r\n\r\n",
                LENGTH - from
            )
            .into_bytes();
            let end = if notes.len() == 1 { cut_at } else { LENGTH };
            answer.extend_from_slice(&whole[from..end]);
            answer
        })
    }

    fn open(folder: &tempfile::TempDir) -> Store {
        let path = folder.path().join("cache");
        let config = StoreConfig { path, reserve_bytes: 0, resume_bytes: 100_000, ..StoreConfig::default() };
        Store::open(&config).unwrap().0
    }

    fn fetch(url: &str, version: Option<String>) -> Arc<ResumedFetch> {
        let digest = Digest::of(&body());
        Arc::new(ResumedFetch::new(key("h/1.5.raucb"), url.to_owned(), digest, LENGTH as u64, version))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_fetch_goes_on_where_a_power_cut_has_ended_it() {
        // By version, without a version, and with another one than before.
        for (etags, first, second) in [
            (["\"a\"", "\"a\""], "- -", "bytes=688128- \"a\""),
            (["-", "-"], "- -", "bytes=688128- -"),
            (["\"a\"", "\"b\""], "- -", "bytes=688128- \"a\""),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let notes = Arc::<Mutex<Vec<String>>>::default();
            let url = cutting(700_000, etags, Arc::clone(&notes));
            let remembered = Mutex::new(None);
            let remember = |it: Option<&str>| *lock(&remembered) = it.map(str::to_owned);
            {
                let tested = filler_of(open(&folder));
                let fetch = fetch(&url, None);
                let came = Arc::clone(&fetch).attempt(&tested.filler, &remember).await;
                assert_eq!(came.unwrap_err(), Unfinished::Origin(OriginError::Cut));
                assert!(tested.context.flights.get("h/1.5.raucb").is_none(), "nobody waits for it");
                // The power goes: nothing is dropped in order, the lock goes with the process.
                std::mem::forget(lock(&fetch.held).take());
                std::fs::remove_file(tested.context.store.path().join("lock")).unwrap();
            }
            let tested = filler_of(open(&folder));
            let version = lock(&remembered).clone();
            let stored = fetch(&url, version).attempt(&tested.filler, &remember).await.unwrap();
            assert_eq!(*lock(&notes), [first, second], "{etags:?}");
            assert_eq!(stored.bytes(0..LENGTH as u64).unwrap(), body(), "{etags:?}");
            assert!(tested.context.store.contains("h/1.5.raucb"));
            let left = std::fs::read_dir(tested.context.store.path().join("partial")).unwrap().count();
            assert_eq!(left, 0, "nothing is left over");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_not_the_object_is_dropped_and_fetched_from_the_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let tested = filler_of(open(&folder));
        let notes = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&notes);
        // Right length, other bytes; then another length; then what was promised.
        let url = origin(move |_| {
            let mut notes = lock(&noted);
            notes.push(String::new());
            let body = match notes.len() {
                1 => vec![0; LENGTH],
                2 => vec![0; LENGTH + 1],
                _ => body(),
            };
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            [head.into_bytes(), body].concat()
        });
        let fetch = fetch(&url, None);
        let attempt = || Arc::clone(&fetch).attempt(&tested.filler, &|_| {});
        assert_eq!(attempt().await.unwrap_err(), Unfinished::Other);
        assert_eq!(attempt().await.unwrap_err(), Unfinished::Other);
        assert!(!tested.context.store.contains("h/1.5.raucb"));
        attempt().await.unwrap();
        assert!(tested.context.store.contains("h/1.5.raucb"));
        assert_eq!(lock(&notes).len(), 3);
    }

    /// As h2o does, which does not read `If-Range`.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_rest_of_another_version_is_not_received() {
        let folder = tempfile::tempdir().unwrap();
        let tested = filler_of(open(&folder));
        let notes = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&notes);
        let url = origin(move |head| {
            let mut notes = lock(&noted);
            let range = head.lines().find_map(|it| it.strip_prefix("range: bytes=")?.strip_suffix('-'));
            notes.push(range.unwrap_or("-").to_owned());
            let from: usize = range.map_or(0, |it| it.parse().unwrap());
            let (status, tag) = if from > 0 { ("206 Partial Content", "b") } else { ("200 OK", "a") };
            let mut answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"{tag}\"\r\nContent-Range: bytes {from}-{}/{LENGTH}\r\n\
                 Connection: close\r\n\r\n",
                LENGTH - from,
                LENGTH - 1
            )
            .into_bytes();
            answer.extend_from_slice(&body()[from..if notes.len() == 1 { 700_000 } else { LENGTH }]);
            answer
        });
        let fetch = fetch(&url, None);
        let attempt = || Arc::clone(&fetch).attempt(&tested.filler, &|_| {});
        assert_eq!(attempt().await.unwrap_err(), Unfinished::Origin(OriginError::Cut));
        assert_eq!(attempt().await.unwrap_err(), Unfinished::Other, "before a byte of it");
        attempt().await.unwrap();
        let asked = lock(&notes).clone();
        assert!(asked.len() == 3 && asked[1] != "-" && asked[2] == "-", "{asked:?}");
    }
}
