//! Progress of objects in flight, from a carousel or an origin, shared by reception, repair, read-through and responses.
//!
//! A [`Flight`] is what these share of an object that is not in the cache yet: which bytes have arrived, and its outcome.
//! Its writer reports progress, its readers listen for it ([`Flight::listen`]; the choice of a runtime is theirs). There
//! is at most one flight for a key.

mod spans;
mod table;

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use carousel::fec::SymbolMap;
use carousel::flute::{Encoding, File, SessionKey};
use carousel::lct::Toi;
use carousel::name::ObjectKey;
use carousel::time::{Instant, WallTime};
use event_listener::{Event, EventListener};
use http::HeaderMap;

pub use spans::Spans;
pub use table::{Announced, Flights};

use crate::caching::NotKept;
use crate::store::{Partial, ResponseMeta, StoredObject};

/// Time allowed for reordered packets after the packets of an object have stopped.
const LATE_PACKETS: Duration = Duration::from_millis(300);

carousel::reasons! {
    /// Why an object in flight did not arrive.
    pub enum FailReason in "flights_failed" by "reason" {
        /// Its bytes are not what the FDT or the origin promised.
        Verify = "verify",
        /// The store could not publish it.
        Store = "store",
        /// The sender put another object in its place, or it is fetched another way.
        Replaced = "replaced",
        /// Its FDT entry expired, or nothing of it came for too long.
        Expired = "expired",
        /// It made room for another object in flight.
        Displaced = "displaced",
        /// Its session was closed here.
        SessionEnded = "session_ended",
        /// The origin ended early, or sent another length than it said.
        OriginCut = "origin_cut",
        /// Ranges of it had come, and no more were asked for.
        Abandoned = "abandoned",
    }
}

/// End of a flight.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Complete, verified, in the cache.
    Complete(Arc<StoredObject>),
    /// Complete for the requests that waited; it may not be kept (`no-store`). Its length.
    Passed(u64),
    /// It failed; another source may have it.
    Failed(FailReason),
}

/// Object and its session: identifies an object between a shard, the repairs and the finishers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    /// The session.
    pub session: SessionKey,
    /// The object.
    pub toi: Toi,
}

/// An object that a carousel carries.
#[derive(Debug, Clone)]
pub struct CarouselSource {
    /// Which.
    pub object: ObjectRef,
    /// Its description.
    pub file: Arc<File>,
}

/// Bytes that have arrived, by the kind of their source.
#[derive(Debug)]
enum ReceivedBytes {
    /// Symbols of a carousel.
    Symbols(CarouselSource, Arc<SymbolMap>),
    /// Everything up to this offset, from an origin.
    Prefix(AtomicU64),
    /// Ranges that players have requested, from an origin.
    Spans(Spans),
}

/// Head of the origin's response that brings an object.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Its response.
    pub response: ResponseMeta,
    /// Time at which its head came.
    pub received_at: WallTime,
    /// End of its freshness.
    pub expires: WallTime,
    /// Requests during the transfer may share it: it is cacheable and fresh.
    pub is_shared: bool,
    /// Its fields may repeat values that only the requesting client has sent.
    pub may_repeat: bool,
    /// It replaces a held object that is stale.
    pub replaces_stale: bool,
    /// Why it is not kept, as far as its head says.
    pub not_kept: Option<NotKept>,
}

/// Which of two sessions that bring an object comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Its description is not signed.
    Unsigned,
    /// Its session may only repeat a signed description of another.
    Unproven,
    /// Its session has brought an object whose signed digest was right.
    Proven,
}

/// One object in flight.
#[derive(Debug)]
pub struct Flight {
    /// Its key.
    pub key: ObjectKey,
    /// MIME type, as far as known.
    pub content_type: Option<String>,
    /// Bytes of the object as players get them; `None` while an origin has not said.
    pub length: Option<u64>,
    /// Whether the transported bytes are the object's: encoded objects cannot be served before they are complete.
    pub is_identity: bool,
    /// Head of an origin's response, if one sends it.
    pub sent: Option<Sent>,
    /// The last byte is withheld until the object is verified.
    withholds_last: bool,
    /// All bytes are withheld until then: packets are not signed, only the object is.
    withholds_all: bool,
    /// Its session has brought an object whose signed digest was right.
    is_proven: bool,
    partial: Arc<Partial>,
    arrival: ReceivedBytes,
    outcome: OnceLock<Outcome>,
    changed: Event,
    is_requested: AtomicBool,
    /// Its identity on the carousel, if its length is not known yet.
    grows_as: Option<ObjectRef>,
    /// Time at which it stalled, on the daemon's clock; 0: it makes progress.
    stalled_ns: AtomicU64,
    /// Start of the current gap at the read position, on the daemon's clock; 0: no gap.
    overtaken_ns: AtomicU64,
    /// The carousel sends it once.
    is_sent_once: AtomicBool,
    /// Expected start of the carousel's next pass, on the daemon's clock; 0: unknown.
    next_pass_ns: AtomicU64,
    /// Bytes, plus one, that had arrived from the origin when the carousel last offered the object; 0: it has not yet.
    at_offer: AtomicU64,
}

impl Flight {
    /// Whether the origin's transfer takes precedence over the carousel, which offers the object now: at the first offer,
    /// and as long as half of the object arrives between two offers.
    pub fn goes_before_carousel(&self) -> bool {
        let now = self.received_bytes();
        let before = self.at_offer.swap(now + 1, Ordering::Relaxed);
        let half = self.length.map_or(0, |length| length / 2);
        before == 0 || now > before - 1 + half
    }

    /// The flight of a carousel object.
    pub fn of_symbols(
        key: ObjectKey,
        carried: CarouselSource,
        partial: Arc<Partial>,
        received: Arc<SymbolMap>,
    ) -> Self {
        let length = Some(received.length());
        let content_type = carried.file.content_type.clone();
        let is_identity = carried.file.encoding == Encoding::Identity;
        let withholds_all = carried.file.signed_by.is_some();
        let arrival = ReceivedBytes::Symbols(carried, received);
        Self {
            withholds_last: true,
            withholds_all,
            is_identity,
            ..Self::new(key, content_type, length, partial, arrival)
        }
    }

    /// The flight with this mark of its session.
    #[must_use]
    pub fn proven(self, is_proven: bool) -> Self {
        Self { is_proven, ..self }
    }

    fn rank(&self) -> Rank {
        match self.carried() {
            Some(it) if it.file.signed_by.is_some() && self.is_proven => Rank::Proven,
            Some(it) if it.file.signed_by.is_some() => Rank::Unproven,
            _ => Rank::Unsigned,
        }
    }

    /// Whether a carousel brings the same bytes in both.
    fn is_same_object(&self, other: &Self) -> bool {
        let digest = |it: &Self| it.carried().and_then(|it| it.file.object_digest());
        digest(self).is_some_and(|own| digest(other) == Some(own))
    }

    /// Sets the expected start of the carousel's next pass; `None`: unknown.
    pub fn set_next_pass(&self, at: Option<Instant>) {
        self.next_pass_ns.store(at.map_or(0, Instant::as_nanos), Ordering::Relaxed);
    }

    /// Time until the expected start of the next pass; `None` if that is unknown or past.
    pub fn next_pass(&self, now: Instant) -> Option<Duration> {
        let at = Instant::from_nanos(self.next_pass_ns.load(Ordering::Relaxed));
        (at > now).then(|| at.since(now))
    }

    /// Sets the time since which it has stalled; an earlier time stands. `None`: it makes progress.
    pub fn set_stalled(&self, since: Option<Instant>) {
        self.set_since(&self.stalled_ns, since);
    }

    /// Later bytes have arrived since `since` while the next one is missing. Repair symbols may close the gap at the end of the
    /// object, an origin sooner. The first call of a gap counts. `None`: no gap.
    pub fn set_overtaken(&self, since: Option<Instant>) {
        self.set_since(&self.overtaken_ns, since);
    }

    fn set_since(&self, at: &AtomicU64, since: Option<Instant>) {
        let new = since.map_or(0, |it| it.as_nanos().max(1));
        let replace = |old: u64| ((old == 0) != (new == 0)).then_some(new);
        if at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, replace).is_ok() {
            self.progress();
        }
    }

    /// Marks it as sent once: its readers do not wait for a further pass when it stalls.
    pub fn set_sent_once(&self) {
        self.is_sent_once.store(true, Ordering::Relaxed);
    }

    /// Whether it has stalled.
    pub fn has_stalled(&self) -> bool {
        self.stalled_ns.load(Ordering::Relaxed) != 0
    }

    /// Time until a stalled flight without a known next pass counts as lost. `None`: it has not stalled.
    pub fn time_to_loss(&self, now: Instant) -> Option<Duration> {
        let since = self.stalled_ns.load(Ordering::Relaxed);
        if since == 0 || self.next_pass(now).is_some() {
            return None;
        }
        Some(LATE_PACKETS.saturating_sub(now.since(Instant::from_nanos(since))))
    }

    /// As [`Self::time_to_loss`], for readers: they wait for the next pass of a repeated object.
    pub fn time_to_give_up(&self, now: Instant) -> Option<Duration> {
        self.is_sent_once.load(Ordering::Relaxed).then(|| self.time_to_loss(now)).flatten()
    }

    /// Time until a reader that may use an origin should switch to it: it does not wait for repair symbols.
    pub fn time_to_origin(&self, now: Instant) -> Option<Duration> {
        let since = self.overtaken_ns.load(Ordering::Relaxed);
        let overtaken =
            (since != 0).then(|| LATE_PACKETS.saturating_sub(now.since(Instant::from_nanos(since))));
        overtaken.into_iter().chain(self.time_to_give_up(now)).min()
    }

    /// Whether the rest of it is not expected to arrive.
    pub fn is_lost(&self, now: Instant) -> bool {
        self.time_to_loss(now) == Some(Duration::ZERO)
    }

    /// The flight of an object that an origin sends from its first byte on. `has_digest`: an FDT has given its digest, so its
    /// end is withheld like that of a carousel's object until the digest is checked.
    pub fn of_prefix(
        key: ObjectKey,
        content_type: Option<String>,
        length: Option<u64>,
        sent: Sent,
        partial: Arc<Partial>,
        has_digest: bool,
    ) -> Self {
        let arrival = ReceivedBytes::Prefix(AtomicU64::new(0));
        let flight = Self::new(key, content_type, length, partial, arrival);
        Self { withholds_last: has_digest, sent: Some(sent), ..flight }
    }

    /// The flight of a carousel object whose length is not known yet, from its first byte on.
    pub fn of_growing(
        key: ObjectKey,
        content_type: Option<String>,
        object: ObjectRef,
        partial: Arc<Partial>,
    ) -> Self {
        let flight = Self::new(key, content_type, None, partial, ReceivedBytes::Prefix(AtomicU64::new(0)));
        Self { grows_as: Some(object), ..flight }
    }

    /// Its identity in the shard that receives it, for repair requests.
    pub fn received_as(&self) -> Option<ObjectRef> {
        self.carried().map(|it| it.object).or(self.grows_as)
    }

    /// Whether a carousel brings it.
    pub const fn is_carried(&self) -> bool {
        self.sent.is_none()
    }

    /// The flight of an object of `length` bytes of which an origin sends the requested ranges.
    pub fn of_spans(
        key: ObjectKey,
        content_type: Option<String>,
        length: u64,
        url: &str,
        sent: Sent,
        partial: Arc<Partial>,
        now: Instant,
    ) -> Self {
        let spans = Spans::new(url, now);
        let flight = Self::new(key, content_type, Some(length), partial, ReceivedBytes::Spans(spans));
        Self { sent: Some(sent), ..flight }
    }

    fn new(
        key: ObjectKey,
        content_type: Option<String>,
        length: Option<u64>,
        partial: Arc<Partial>,
        arrival: ReceivedBytes,
    ) -> Self {
        Self {
            key,
            content_type,
            length,
            is_identity: true,
            sent: None,
            withholds_last: false,
            withholds_all: false,
            is_proven: false,
            partial,
            arrival,
            outcome: OnceLock::new(),
            changed: Event::new(),
            is_requested: AtomicBool::new(false),
            grows_as: None,
            stalled_ns: AtomicU64::new(0),
            overtaken_ns: AtomicU64::new(0),
            is_sent_once: AtomicBool::new(false),
            next_pass_ns: AtomicU64::new(0),
            at_offer: AtomicU64::new(0),
        }
    }

    /// Whether a request with these fields may share it now.
    pub fn suits(&self, request: &HeaderMap) -> bool {
        self.sent.as_ref().is_none_or(|sent| sent.is_shared && sent.response.suits(request))
    }

    /// Its received and requested ranges, if it is fetched in ranges.
    pub const fn spans(&self) -> Option<&Spans> {
        match &self.arrival {
            ReceivedBytes::Spans(spans) => Some(spans),
            _ => None,
        }
    }

    /// The file that the bytes are in.
    pub const fn partial(&self) -> &Arc<Partial> {
        &self.partial
    }

    /// The symbols received, if a carousel brings it.
    pub const fn symbols(&self) -> Option<&Arc<SymbolMap>> {
        match &self.arrival {
            ReceivedBytes::Symbols(_, received) => Some(received),
            ReceivedBytes::Prefix(_) | ReceivedBytes::Spans(_) => None,
        }
    }

    /// Its identity and description on the carousel, if one brings it.
    pub const fn carried(&self) -> Option<&CarouselSource> {
        match &self.arrival {
            ReceivedBytes::Symbols(carried, _) => Some(carried),
            ReceivedBytes::Prefix(_) | ReceivedBytes::Spans(_) => None,
        }
    }

    /// End of the received bytes from `offset` on; `offset` if that byte is missing.
    ///
    /// The last byte of a carousel object counts as missing until the object is verified and published: a player never gets all
    /// bytes of an object that then proves wrong. All bytes of a signed object count as missing until then.
    pub fn available_from(&self, offset: u64) -> u64 {
        if self.withholds_all {
            return offset;
        }
        let end = match &self.arrival {
            // In this order; see `ReadLimit`.
            ReceivedBytes::Symbols(_, received) => {
                received.available_from(offset).min(self.partial.read_limit().get())
            }
            ReceivedBytes::Prefix(end) => end.load(Ordering::Acquire),
            ReceivedBytes::Spans(spans) => spans.available_from(offset),
        };
        let most = match self.length {
            Some(length) if self.withholds_last => length.saturating_sub(1),
            None if self.withholds_last => 0,
            _ => u64::MAX,
        };
        end.min(most).max(offset)
    }

    /// Number of bytes that have arrived.
    pub fn received_bytes(&self) -> u64 {
        match &self.arrival {
            ReceivedBytes::Symbols(_, received) => received.received_bytes(),
            ReceivedBytes::Prefix(end) => end.load(Ordering::Acquire),
            ReceivedBytes::Spans(spans) => spans.received_bytes(),
        }
    }

    /// Records that the bytes up to `end` are in the file (origins).
    pub fn advance(&self, end: u64) {
        if let ReceivedBytes::Prefix(prefix) = &self.arrival {
            prefix.store(end, Ordering::Release);
        }
        self.progress();
    }

    /// Acknowledges a client's request: the next one is passed on again.
    pub fn request_seen(&self) {
        self.is_requested.store(false, Ordering::Relaxed);
    }

    /// Wakes readers after bytes have arrived. Cheap without waiting readers.
    pub fn progress(&self) {
        self.changed.notify(usize::MAX);
    }

    /// Completes at the next progress or the end. Check the flight after this call and before waiting, so that no event
    /// is missed.
    pub fn listen(&self) -> EventListener {
        self.changed.listen()
    }

    /// Ends the flight; the first outcome stands.
    pub fn end(&self, outcome: Outcome) {
        let _ = self.outcome.set(outcome);
        self.changed.notify(usize::MAX);
    }

    /// The outcome of the flight, if it has ended.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    /// Reads bytes that have arrived.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut out =
            vec![0; usize::try_from(range.end - range.start).map_err(|_| io::ErrorKind::FileTooLarge)?];
        self.partial.read_at(range.start, &mut out)?;
        Ok(out)
    }

    /// Whether the byte at `offset`, of an object that comes in ranges, is no longer being fetched.
    pub fn is_given_up(&self, offset: u64) -> bool {
        self.spans().is_some_and(|spans| !spans.is_expected(offset))
    }
}

#[cfg(test)]
mod tests;
