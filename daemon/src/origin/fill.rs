//! Read-through: an object is fetched once into the cache, for all requests that wait for it.
//!
//! ```text
//! fill ── first request ──▶ slot ── exchange (fetch.rs) ──▶ flight │ stored │ passed │ failed
//!   └──── others ──▶ wait for the head ──▶ the same, if the response may be shared; otherwise fetch on their own
//! ```
//!
//! A slot exists until the response's head arrives. From then on the object is in the table of flights, and after that in the
//! cache: a lookup in the order slot, flight, cache finds it in one of the three.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use carousel::name::ObjectKey;
use carousel::reason::Counts;
use carousel::time::Instant;
use http::{HeaderMap, HeaderValue, header};
use lru::LruCache;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::lock;
use super::options::{SetCookie, SurrogateFields, VaryUserAgent};
use super::phase::Phases;
use super::{Client, FillOptions, OnInterim, OriginError, Question, Reply};
use crate::caching::NotKept;
use crate::clients::Places;
use crate::clock;
use crate::delivery::{Announced, Flight, Flights};
use crate::manifests::Manifests;
use crate::store::{Store, StoredObject};
use crate::traces::Trace;

carousel::reasons! {
    /// Why a request had no place among the fills.
    pub enum NoPlace in "origin_fills_refused" by "reason" {
        /// All places are taken.
        Places = "places",
        /// The client has its share of them: what is left is for others.
        Share = "share",
    }
}

carousel::limits! {
    /// Fills at a time, unless `[http] max_fills` says otherwise. One address (IPv6: one /64) gets at most three quarters of them, a
    /// second one three quarters of the rest, and so on; the box itself is one of them.
    pub const MAX_FILLS: usize = 1024, "fills" {
        why: "Each holds a connection and a file.",
        full: "The request is answered with 503, counted as `places` or, of a client that has its share, as `share`.",
        free: "When a fill has its response, or has failed, at the latest after the time that its origin has to begin.",
        test: "fills_are_bounded_and_a_place_comes_back",
    }

    /// Fills of one name that a request waits for, one after the other.
    const MAX_FILLS_OF_A_NAME: usize = 8, "fills" {
        why: "A name has up to as many variants.",
        full: "The request is sent to the origin for itself alone.",
        free: "Holds for one request.",
        test: "a_request_waits_for_a_bounded_number_of_fills_of_others",
    }

    /// Names that are remembered of each kind: not to be shared, failing, fetched whole.
    const MAX_REMEMBERED: usize = 4096, "names" {
        why: "They count for up to ten minutes; an entry has some 200 bytes.",
        full: "The name that was noted or noted again longest ago is forgotten.",
        free: "When another name is noted.",
        test: "names_that_are_remembered_are_bounded",
    }

    /// Prefetches at a time whose response has not begun.
    const MAX_PREFETCHES: usize = 32, "prefetches" {
        why: "Requests of players go first.",
        full: "The prefetch is counted as `busy`.",
        free: "When the response of one has begun, or it has failed.",
        test: "prefetches_are_bounded_and_a_place_comes_back",
    }

    /// Object that is fetched whole because its ranges cannot be put together.
    const MAX_WHOLE_BYTES: u64 = 64 << 20, "bytes" {
        why: "Segments have some 20 MB; of a film a player wants a part.",
        full: "Each range is passed on from the origin and not kept.",
        free: "Holds for one object.",
        test: "only_short_objects_are_fetched_whole",
    }
}

/// [`MAX_REMEMBERED`], in the type that the tables need.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(MAX_REMEMBERED).unwrap();
/// Time for which a name whose response could not be shared is fetched separately for each request.
const UNSHARED_FOR: Duration = Duration::from_secs(60);
/// Time for which a name whose ranges cannot be combined is fetched completely.
const WHOLE_FOR: Duration = Duration::from_secs(600);
/// Time for which a held object is not revalidated after its origin has failed for it.
const FAILING_FOR: Duration = Duration::from_secs(1);

/// Request for an object of an origin.
#[derive(Clone, Default)]
pub struct FillRequest {
    /// End-to-end fields of the player's request, without conditions and ranges.
    pub headers: HeaderMap,
    /// The requested range, if no more need be fetched.
    pub range: Option<HeaderValue>,
    /// `If-Range` of the player: the version that it already has a part of.
    pub if_range: Option<HeaderValue>,
    /// Stale held object to revalidate.
    pub held: Option<Arc<StoredObject>>,
    /// Its description by an FDT.
    pub announced: Option<Announced>,
    /// The carousel may bring it: an origin's failure is not stored as an object, and the request waits for the link.
    pub is_expected: bool,
    /// A prefetch: only a storable response is received, and refusals are not remembered.
    pub prefetch: bool,
    /// Only the head is wanted (HEAD): as much of a body is received as of a prefetch, for later requests.
    pub is_for_head: bool,
    /// A request of the box itself: redirects are followed, and refusals are not stored.
    pub is_our_own: bool,
    /// Receiver of interim responses.
    pub on_interim: Option<OnInterim>,
    /// Receives fields that are for this player alone.
    pub own_fields: Option<Arc<OwnFields>>,
    /// Follow redirects on behalf of the player.
    pub follows_redirects: bool,
    /// Treatment of a response that sets a cookie.
    pub set_cookie: SetCookie,
    /// Treatment of a response that depends on the player program.
    pub vary_user_agent: VaryUserAgent,
    /// Treatment of the fields that carry surrogate keys.
    pub surrogate_keys: SurrogateFields,
    /// Values of request fields that a shared response must not repeat.
    pub unusual: Vec<HeaderValue>,
    /// The spelling of the URL differs from the key: a refusal is not shared with requests in the key's spelling.
    pub is_respelled: bool,
    /// Address of the requesting client; `None`: the box itself.
    pub client: Option<IpAddr>,
    /// Parent of the trace spans of its requests.
    pub trace: Trace,
}

/// Response fields for the requesting player alone: `Set-Cookie`.
#[derive(Debug, Default)]
pub struct OwnFields(Mutex<HeaderMap>);

impl OwnFields {
    /// Removes them from a response and keeps them.
    pub(super) fn take_from(&self, response: &mut HeaderMap) {
        let mut own = lock(&self.0);
        own.clear();
        for value in response.get_all(header::SET_COOKIE) {
            own.append(header::SET_COOKIE, value.clone());
        }
        response.remove(header::SET_COOKIE);
    }

    /// Adds them to a response to the player, unless it has them.
    pub fn append_to(&self, response: &mut HeaderMap) {
        let own = lock(&self.0);
        if !response.contains_key(header::SET_COOKIE) {
            response.extend(own.clone());
        }
    }
}

/// Why a request went to an origin (RFC 9211 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardReason {
    /// Nothing suitable is held.
    Miss,
    /// What is held is stale.
    Stale,
    /// Its method.
    Method,
}

impl ForwardReason {
    /// Name in `Cache-Status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Method => "method",
        }
    }
}

/// A response for this request only.
#[derive(Debug)]
pub struct Passed {
    /// Its end-to-end fields.
    pub headers: HeaderMap,
    /// Its status, and its body to be read.
    pub reply: Reply,
    /// Why it is not stored, if the policy decided so.
    pub why: Option<NotKept>,
    /// Why the origin was asked.
    pub forwarded: ForwardReason,
}

/// Result of a fill, as soon as that is known.
#[derive(Debug)]
pub enum FillResult {
    /// In progress; stream from the flight.
    Flight(Arc<Flight>),
    /// The origin has confirmed the held object; here with updated metadata.
    Stored(Arc<StoredObject>),
    /// The origin fails, and the held object may be used stale.
    Stale,
    /// A response that is not shared.
    Passed(Box<Passed>),
    /// The origin refuses, with this status, a request of the box itself, or an object that the carousel may bring.
    Refused(u16),
    /// The origin is not available.
    Failed(OriginError),
    /// The fetch could not be started.
    Busy,
    /// Too many fetches are in progress.
    NoPlace(NoPlace),
    /// The cache has a newer object by now: look it up again.
    Held,
    /// A prefetch whose response was not received.
    Declined(PrefetchEnd),
}

impl FillResult {
    /// Name in traces.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Flight(_) => "receiving",
            Self::Stored(_) => "confirmed",
            Self::Stale => "stale",
            Self::Passed(_) => "not kept",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
            Self::Busy => "busy",
            Self::NoPlace(_) => "no place",
            Self::Held => "held meanwhile",
            Self::Declined(_) => "declined",
        }
    }
}

/// End of a prefetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrefetchEnd {
    /// The fetch was started.
    Begun,
    /// It is held or in flight already.
    Known,
    /// The origin has refused it.
    Refused,
    /// It could not be stored.
    NotKept,
    /// It is longer than `prefetch_object_bytes`.
    TooLong,
    /// Too many prefetches are in progress, or the origin fails.
    Busy,
}

impl PrefetchEnd {
    /// Every variant, in the order of their numbers, for metrics.
    pub const ALL: [Self; 6] =
        [Self::Begun, Self::Known, Self::Refused, Self::NotKept, Self::TooLong, Self::Busy];

    /// Name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Known => "known",
            Self::Refused => "refused",
            Self::NotKept => "not_kept",
            Self::TooLong => "too_long",
            Self::Busy => "busy",
        }
    }
}

/// Result for requests that joined another's fetch.
#[derive(Debug, Clone)]
enum JoinResult {
    Flight(Arc<Flight>),
    Stored(Arc<StoredObject>),
    Stale,
    Refused(u16),
    Failed(OriginError),
    Busy,
    Held,
    /// The response cannot be shared: fetch on their own.
    Alone,
    /// A prefetch was declined, or another spelling was refused: try again.
    Again,
}

impl JoinResult {
    fn of(result: &FillResult) -> Self {
        match result {
            FillResult::Flight(flight) => Self::Flight(Arc::clone(flight)),
            FillResult::Stored(object) => Self::Stored(Arc::clone(object)),
            FillResult::Stale => Self::Stale,
            FillResult::Passed(_) => Self::Alone,
            FillResult::Refused(status) => Self::Refused(*status),
            FillResult::Failed(err) => Self::Failed(err.clone()),
            FillResult::Busy | FillResult::NoPlace(_) => Self::Busy,
            FillResult::Held => Self::Held,
            FillResult::Declined(_) => Self::Again,
        }
    }
}

#[derive(Debug, Default)]
struct Slot {
    /// Fields of the request that started it.
    headers: HeaderMap,
    /// Parent of its trace spans.
    trace: Trace,
    join_result: OnceLock<JoinResult>,
    /// Result for the request that started it.
    result: Mutex<Option<FillResult>>,
    changed: Notify,
}

impl Slot {
    async fn wait(&self) -> JoinResult {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(join_result) = self.join_result.get() {
                return join_result.clone();
            }
            changed.await;
        }
    }
}

#[derive(Debug, Default)]
struct Slots {
    by_key: HashMap<ObjectKey, Vec<Arc<Slot>>>,
}

/// Address that stands for the box itself in the shares of places.
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Parts of the daemon that fills use. Clones share it.
#[derive(Debug, Clone)]
pub struct FillContext {
    /// The cache.
    pub store: Store,
    /// Objects in flight.
    pub flights: Arc<Flights>,
    /// Facts of the manifests in the cache.
    pub manifests: Arc<Manifests>,
}

/// Read-through fetcher of objects.
#[derive(Debug)]
pub struct Filler {
    pub(super) client: Arc<Client>,
    pub(super) shared: FillContext,
    pub(super) options: FillOptions,
    /// Fetches continue after their client has left, so they run on this runtime.
    pub(super) runtime: Handle,
    slots: Mutex<Slots>,
    /// Places of fills whose response has not begun.
    places: Places,
    no_place: Counts<NoPlace>,
    unshared: Mutex<LruCache<ObjectKey, Instant>>,
    failing: Mutex<LruCache<ObjectKey, Instant>>,
    /// Names whose ranges cannot be combined: they are fetched completely.
    whole: Mutex<LruCache<ObjectKey, Instant>>,
    not_kept: [AtomicU64; NotKept::ALL.len()],
    joined: AtomicU64,
    revalidated: AtomicU64,
    prefetched: [AtomicU64; PrefetchEnd::ALL.len()],
    passing: AtomicU64,
    pub(super) phases: Arc<Mutex<Phases>>,
    /// Prefetches whose response has not begun.
    pub(super) prefetching: AtomicUsize,
}

/// Result of a lookup in the slots.
enum Turn {
    Begin(Arc<Slot>),
    Wait(Arc<Slot>),
    Done(FillResult),
}

impl Filler {
    /// A filler with a client and a cache. Fetches run on `runtime`.
    pub fn new(client: Arc<Client>, shared: FillContext, options: FillOptions, runtime: Handle) -> Arc<Self> {
        Arc::new(Self {
            client,
            shared,
            options,
            runtime,
            slots: Mutex::default(),
            places: Places::new(options.max_fills),
            no_place: Counts::default(),
            phases: Arc::default(),
            unshared: Mutex::new(LruCache::new(REMEMBERED)),
            failing: Mutex::new(LruCache::new(REMEMBERED)),
            whole: Mutex::new(LruCache::new(REMEMBERED)),
            not_kept: Default::default(),
            joined: AtomicU64::new(0),
            revalidated: AtomicU64::new(0),
            prefetched: Default::default(),
            passing: AtomicU64::new(0),
            prefetching: AtomicUsize::new(0),
        })
    }

    /// Fetches `url` as `key`, or joins a fetch of it. Continues when its first client has left.
    pub async fn fill(self: &Arc<Self>, key: &ObjectKey, url: String, ask: FillRequest) -> FillResult {
        let may_be_stale = || ask.held.as_ref().is_some_and(|held| held.staleness(clock::steady()).if_error);
        if is_remembered(&self.failing, key, FAILING_FOR) && may_be_stale() {
            return FillResult::Stale;
        }
        if self.is_unshared(key) {
            return self.alone(key, url, ask).await;
        }
        // Each slot that was joined in vain had a response for other requests; their number is bounded by the variants of
        // a name.
        for _ in 0..MAX_FILLS_OF_A_NAME {
            match self.turn(key, &ask) {
                Turn::Done(result) => return result,
                Turn::Begin(slot) => {
                    let (filler, key, begun) = (Arc::clone(self), key.clone(), Arc::clone(&slot));
                    self.runtime.spawn(async move { filler.run(key, url, ask, &begun).await });
                    slot.wait().await;
                    return lock(&slot.result).take().unwrap_or(FillResult::Busy);
                }
                Turn::Wait(slot) => {
                    self.joined.fetch_add(1, Ordering::Relaxed);
                    ask.trace.joins(&slot.trace);
                    match slot.wait().await {
                        // A refusal applies to requests with the same fields.
                        JoinResult::Flight(flight)
                            if (is_refusal(&flight) || may_repeat(&flight))
                                && slot.headers != ask.headers => {}
                        JoinResult::Flight(flight) if selects(&flight, &ask.headers) => {
                            return FillResult::Flight(flight);
                        }
                        JoinResult::Stored(object) if object.meta().suits(&ask.headers) => {
                            return FillResult::Stored(object);
                        }
                        JoinResult::Again if ask.is_for_head => return self.alone(key, url, ask).await,
                        JoinResult::Flight(_) | JoinResult::Stored(_) | JoinResult::Again => {}
                        JoinResult::Alone => return self.alone(key, url, ask).await,
                        JoinResult::Stale if ask.held.is_some() => return FillResult::Stale,
                        JoinResult::Stale | JoinResult::Held => return FillResult::Held,
                        JoinResult::Refused(status) => return FillResult::Refused(status),
                        JoinResult::Failed(err) => return FillResult::Failed(err),
                        JoinResult::Busy => return FillResult::Busy,
                    }
                }
            }
        }
        self.alone(key, url, ask).await
    }

    /// Decides whether to start a fetch, join one, or neither. One step under one lock, in the order in which objects
    /// move: slot, flight, cache.
    fn turn(&self, key: &ObjectKey, ask: &FillRequest) -> Turn {
        let mut slots = lock(&self.slots);
        let waiting =
            slots.by_key.get(key).and_then(|all| all.iter().find(|slot| slot.join_result.get().is_none()));
        if let Some(slot) = waiting {
            return Turn::Wait(Arc::clone(slot));
        }
        if let Some(flight) = self.flight_of(key, &ask.headers) {
            return Turn::Done(FillResult::Flight(flight));
        }
        let now_held = self.shared.store.chosen(key, &ask.headers);
        let is_newer = match (&ask.held, &now_held) {
            (Some(was), Some(now)) => !Arc::ptr_eq(was, now),
            (None, now) => now.is_some(),
            (Some(_), None) => false,
        };
        if is_newer && !ask.is_our_own {
            return Turn::Done(FillResult::Held);
        }
        if let Err(why) = self.take_place(ask.client.unwrap_or(OWN)) {
            return Turn::Done(FillResult::NoPlace(why));
        }
        let (headers, trace) = (ask.headers.clone(), ask.trace.clone());
        let slot = Arc::new(Slot { headers, trace, ..Slot::default() });
        slots.by_key.entry(key.clone()).or_default().push(Arc::clone(&slot));
        Turn::Begin(slot)
    }

    fn take_place(&self, client: IpAddr) -> Result<(), NoPlace> {
        if self.places.take(client) {
            return Ok(());
        }
        let why = if self.places.are_all_taken() { NoPlace::Places } else { NoPlace::Share };
        self.no_place.add(why);
        Err(why)
    }

    /// Takes a place among requests to origins, for one that does not fill the cache.
    ///
    /// # Errors
    /// [`NoPlace`], counted.
    pub fn place(&self, client: IpAddr) -> Result<impl Drop + use<'_>, NoPlace> {
        self.take_place(client)?;
        Ok(FillPermit { of: self, client })
    }

    async fn run(self: Arc<Self>, key: ObjectKey, url: String, ask: FillRequest, slot: &Arc<Slot>) {
        let held = ask.held.is_some();
        let place = FillPermit { of: &self, client: ask.client.unwrap_or(OWN) };
        let (is_respelled, is_for_head) = (ask.is_respelled, ask.is_for_head);
        let result = self.exchange(&key, &url, ask).await;
        match &result {
            FillResult::Passed(passed) if passed.why.is_some_and(NotKept::is_for_one) => {
                lock(&self.unshared).put(key.clone(), clock::now());
            }
            FillResult::Stale | FillResult::Failed(_) if held => {
                lock(&self.failing).put(key.clone(), clock::now());
            }
            _ => {}
        }
        let join_result = match &result {
            FillResult::Refused(_) if is_respelled => JoinResult::Again,
            // A GET may receive what a HEAD has not.
            FillResult::Passed(passed) if is_for_head && passed.why.is_none() => JoinResult::Again,
            result => JoinResult::of(result),
        };
        *lock(&slot.result) = Some(result);
        let _ = slot.join_result.set(join_result);
        {
            let mut slots = lock(&self.slots);
            if let Some(all) = slots.by_key.get_mut(&key) {
                all.retain(|it| !Arc::ptr_eq(it, slot));
                if all.is_empty() {
                    slots.by_key.remove(&key);
                }
            }
        }
        drop(place);
        slot.changed.notify_waiters();
    }

    /// Fetches an object that a player will probably request next, with the fields of the request that caused it.
    pub async fn prefetch(self: &Arc<Self>, key: &ObjectKey, url: String, ask: FillRequest) -> PrefetchEnd {
        let end = if self.prefetching.fetch_add(1, Ordering::Relaxed) >= MAX_PREFETCHES {
            PrefetchEnd::Busy
        } else {
            match self.fill(key, url, FillRequest { prefetch: true, ..ask }).await {
                FillResult::Flight(_) => PrefetchEnd::Begun,
                FillResult::Stored(_) | FillResult::Held | FillResult::Stale => PrefetchEnd::Known,
                FillResult::Passed(_) => PrefetchEnd::NotKept,
                FillResult::Refused(_) => PrefetchEnd::Refused,
                FillResult::Failed(_) | FillResult::Busy | FillResult::NoPlace(_) => PrefetchEnd::Busy,
                FillResult::Declined(why) => why,
            }
        };
        self.prefetching.fetch_sub(1, Ordering::Relaxed);
        self.prefetched[end as usize].fetch_add(1, Ordering::Relaxed);
        end
    }

    /// Whether the response to a request of this name could not be shared lately.
    pub fn is_unshared(&self, key: &ObjectKey) -> bool {
        is_remembered(&self.unshared, key, UNSHARED_FOR)
    }

    /// Number of bodies of unknown length that were passed through for lack of room.
    pub fn passing(&self) -> u64 {
        self.passing.load(Ordering::Relaxed)
    }

    pub(super) fn count_passing(&self) {
        self.passing.fetch_add(1, Ordering::Relaxed);
    }

    /// Prefetches, in the order of [`PrefetchEnd::ALL`].
    pub fn prefetched(&self) -> [u64; PrefetchEnd::ALL.len()] {
        std::array::from_fn(|at| self.prefetched[at].load(Ordering::Relaxed))
    }

    /// Whether a request for this name is in progress whose response has not begun.
    pub fn is_fetching(&self, key: &ObjectKey) -> bool {
        lock(&self.slots).by_key.contains_key(key)
    }

    /// Flight of this name that suits a request with these fields.
    pub fn flight_of(&self, key: &ObjectKey, request: &HeaderMap) -> Option<Arc<Flight>> {
        let get = |key: &ObjectKey| self.shared.flights.get(key.as_str()).filter(|it| it.suits(request));
        get(key).or_else(|| self.shared.store.other_places_of(key).iter().find_map(get))
    }

    /// Fetches for one request alone.
    async fn alone(self: &Arc<Self>, key: &ObjectKey, url: String, ask: FillRequest) -> FillResult {
        let client = ask.client.unwrap_or(OWN);
        if let Err(why) = self.take_place(client) {
            return FillResult::NoPlace(why);
        }
        let (filler, key) = (Arc::clone(self), key.clone());
        let exchange = self.runtime.spawn(async move {
            let _place = FillPermit { of: &filler, client };
            filler.exchange(&key, &url, ask).await
        });
        exchange.await.unwrap_or(FillResult::Busy)
    }

    /// Makes a request that bypasses the cache.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn pass(&self, url: &str, question: Question) -> Result<Passed, OriginError> {
        let reply = self.client.ask(url, question).await?;
        let headers = super::fetch::dated(&reply.headers);
        Ok(Passed { headers, reply, why: None, forwarded: ForwardReason::Miss })
    }

    /// Whether the circuit of a URL's origin is open.
    pub fn is_left_alone(&self, url: &str) -> bool {
        self.client.is_left_alone(url)
    }

    /// Waits for an origin whose circuit is open, in a place of this client among requests to origins, until a moment after `begun`.
    /// False if the circuit is still open then, or there is no place.
    pub async fn wait_for_recovery(&self, url: &str, client: IpAddr, begun: tokio::time::Instant) -> bool {
        let Ok(_place) = self.place(client) else { return false };
        self.client.wait_for_recovery(url, begun).await
    }

    /// Records an object whose ranges cannot be combined: the next request fetches it completely, if it is not too long.
    pub(super) fn fetch_whole(&self, key: &ObjectKey, length: u64) {
        if length <= MAX_WHOLE_BYTES {
            lock(&self.whole).put(key.clone(), clock::now());
        }
    }

    pub(super) fn is_fetched_whole(&self, key: &ObjectKey) -> bool {
        is_remembered(&self.whole, key, WHOLE_FOR)
    }

    /// Number of requests that wait for the first byte of an origin.
    pub fn places_taken(&self) -> usize {
        self.places.taken_now()
    }

    /// Requests that got no place.
    pub const fn no_place(&self) -> &Counts<NoPlace> {
        &self.no_place
    }

    /// Number of requests that joined another's, and of responses that an origin has confirmed.
    pub fn joined(&self) -> (u64, u64) {
        (self.joined.load(Ordering::Relaxed), self.revalidated.load(Ordering::Relaxed))
    }

    /// Responses that were not stored, in the order of [`NotKept::ALL`].
    pub fn not_kept(&self) -> [u64; NotKept::ALL.len()] {
        std::array::from_fn(|at| self.not_kept[at].load(Ordering::Relaxed))
    }

    pub(super) fn count_not_kept(&self, why: NotKept) {
        self.not_kept[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_revalidated(&self) {
        self.revalidated.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether the response to another request also answers a request with these fields. Requests that waited for its head may
/// share it even if it may not be stored.
fn selects(flight: &Flight, request: &HeaderMap) -> bool {
    flight.sent.as_ref().is_none_or(|sent| sent.response.suits(request))
}

/// Whether it may repeat values that only its own client has sent.
fn may_repeat(flight: &Flight) -> bool {
    flight.sent.as_ref().is_some_and(|sent| sent.may_repeat)
}

/// Whether it is a refusal that is not stored.
fn is_refusal(flight: &Flight) -> bool {
    flight.sent.as_ref().is_some_and(|sent| sent.response.status >= 400 && !sent.is_shared)
}

fn is_remembered(names: &Mutex<LruCache<ObjectKey, Instant>>, key: &ObjectKey, lifetime: Duration) -> bool {
    lock(names).peek(key).is_some_and(|since| clock::now().since(*since) < lifetime)
}

/// A place, freed when dropped.
struct FillPermit<'a> {
    of: &'a Filler,
    client: IpAddr,
}

impl Drop for FillPermit<'_> {
    fn drop(&mut self) {
        self.of.places.give_back(self.client);
    }
}

#[cfg(test)]
#[path = "fill_tests.rs"]
mod tests;
