//! Lookup of the object of a request: the cache, then objects in flight, then announced objects, then the origin.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use carousel::name::ObjectKey;
use carousel::query::{IgnoredQuery, candidates, name_of_range, range_of_name};
use carousel::time::Instant;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, header};
use tokio::sync::watch;

use super::body::PlayerBody;
use super::head::{self, Head};
use super::manifest::Rewriting;
use super::missing::Missing;
use super::prospects::Prospects;
use super::reload::Reload;
use super::target::Target;
use super::{HttpServer, range, upstream};
use crate::access;
use crate::caching::{self, Precondition, RequestDirectives};
use crate::clock;
use crate::delivery::Flight;
use crate::manifests;
use crate::origin::{
    FillRequest, FillResult, OnInterim, OriginError, Origins, OwnFields, Passed, Redirects, Route,
    SurrogateFields,
};
use crate::services::Demand;
use crate::signalling::Document;
use crate::store::StoredObject;
use crate::traces::{Span, Trace};

/// Maximum lookups of one request: it repeats them when the object that it waited for was replaced by another version.
const LOOKUP_ATTEMPTS: usize = 4;
/// Request fields about the player's own cache or playback, which do not affect the object.
const NOT_FOR_ORIGINS: [&str; 13] = [
    "host", // or as the route says
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "accept-encoding",
    "content-length",
    "cmcd-object",
    "cmcd-request",
    "cmcd-session",
    "cmcd-status",
];

/// Location of an object.
pub(super) enum ObjectLocation {
    /// In the cache; the text for `Cache-Status` after `skycache; `.
    Stored(Arc<StoredObject>, &'static str),
    Flight(Arc<Flight>),
    Document(Arc<Document>),
    /// An origin's response for this request alone.
    Passed(Box<Passed>),
}

/// Outcome of a request.
pub(super) enum Outcome {
    /// An object of the cache; the text for `Cache-Status` after `skycache; `.
    Stored(Arc<StoredObject>, &'static str),
    /// A live playlist of the cache, sent with this text.
    Shaped(Arc<StoredObject>, Bytes, &'static str),
    /// An origin's response for this player alone, and the result of rewriting if it is a manifest.
    Passed(Response<PlayerBody>, Option<Rewriting>),
    /// A redirect to the content's own host, whose `Location` is not mapped to the box.
    Elsewhere(Response<PlayerBody>),
    /// Anything else.
    Response(Response<PlayerBody>),
}

/// Marks a request in early data; signals the end of the handshake.
#[derive(Debug, Clone)]
pub(super) struct EarlyData(pub(super) watch::Receiver<bool>);

/// One player's request for one object.
pub(super) struct ObjectRequest<'a> {
    pub(super) key: &'a ObjectKey,
    /// The object and the form of its name in the request.
    pub(super) target: &'a Target,
    pub(super) head: &'a Parts,
    pub(super) on_interim: Option<OnInterim>,
    /// Address of the client.
    pub(super) peer: IpAddr,
    /// Access to it is restricted.
    pub(super) is_guarded: bool,
    /// Generation of the routes that resolved it.
    pub(super) generation: u64,
    pub(super) routes: &'a [Route],
    pub(super) is_tls: bool,
    /// URL at the content's own host, for players sent here by a rendezvous service.
    pub(super) elsewhere: Option<&'a str>,
    /// Fields of the origin's response that are for this request only.
    pub(super) own_fields: Arc<OwnFields>,
    /// Counts fields that are not passed on.
    pub(super) unpassed_fields: &'a AtomicU64,
    /// Parent of its trace spans.
    pub(super) trace: &'a Trace,
    /// Its `traceparent` is not forwarded: the client is not trusted to set it, or ours replaces it.
    pub(super) hides_trace: bool,
    /// See [`Self::sent_fields`].
    pub(super) sent_fields: OnceLock<HeaderMap>,
}

impl ObjectRequest<'_> {
    /// Fields to send to an origin. Variants are selected by them (`Vary`), since the origin has chosen its response by them.
    pub(super) fn sent_fields(&self) -> &HeaderMap {
        self.sent_fields.get_or_init(|| self.fields_to_send())
    }

    /// A copy of [`Self::sent_fields`].
    pub(super) fn fields(&self) -> HeaderMap {
        self.sent_fields().clone()
    }

    fn fields_to_send(&self) -> HeaderMap {
        let mut fields = caching::end_to_end(&self.head.headers);
        for name in NOT_FOR_ORIGINS {
            fields.remove(name);
        }
        if self.hides_trace {
            fields.remove("traceparent");
            fields.remove("tracestate");
        }
        // Browsers send the URL of a page or playlist that was requested with a token.
        if fields.get(header::REFERER).is_some_and(|it| access::has_token(it.as_bytes())) {
            fields.remove(header::REFERER);
        }
        let is_shared = matches!(self.head.method, Method::GET | Method::HEAD);
        let unpassed = upstream::keep_passed(&mut fields, is_shared, self.request_fields());
        self.unpassed_fields.fetch_add(unpassed, Ordering::Relaxed);
        fields.append(header::VIA, HeaderValue::from_static(head::VIA));
        upstream::add_fields(&mut fields, self);
        fields
    }

    /// Field names that its route adds to the standard ones; `None`: all are passed on.
    fn request_fields(&self) -> Option<&[String]> {
        self.target.route()?.request_fields.as_deref()
    }

    fn ask(&self) -> FillRequest {
        let route = self.target.route();
        let headers = self.fields();
        FillRequest {
            unusual: upstream::unusual_values(&headers, self.request_fields()),
            headers,
            on_interim: self.on_interim.clone(),
            own_fields: Some(Arc::clone(&self.own_fields)),
            follows_redirects: route.is_some_and(|route| route.redirects == Redirects::Follow),
            set_cookie: route.map(|route| route.set_cookie).unwrap_or_default(),
            vary_user_agent: route.map(|route| route.vary_user_agent).unwrap_or_default(),
            surrogate_keys: self.surrogate_fields(),
            is_respelled: self.target.is_respelled(),
            client: Some(self.peer),
            trace: self.trace.clone(),
            ..FillRequest::default()
        }
    }

    /// Removes the response fields that only caches read, unless its route passes them on.
    pub(super) fn for_player(&self, mut passed: Passed) -> Passed {
        if self.surrogate_fields() == SurrogateFields::Strip {
            caching::strip_surrogate_keys(&mut passed.headers);
        }
        passed
    }

    fn surrogate_fields(&self) -> SurrogateFields {
        self.target.route().map(|route| route.surrogate_keys).unwrap_or_default()
    }

    /// Waits for the end of the TLS handshake: 0-RTT requests may be replays, and an origin may act on them.
    async fn confirmed(&self) {
        let Some(EarlyData(is_over)) = self.head.extensions.get() else { return };
        if is_over.clone().wait_for(|is_over| *is_over).await.is_err() {
            // The handshake has failed, and the connection ends.
            std::future::pending::<()>().await;
        }
    }

    /// Its URL at an origin, if one is configured.
    pub(super) fn url(&self, origins: &Origins) -> Option<String> {
        // A route may exclude parameters from the key; the origin needs them.
        origins.url_for(&self.target.full).map(|url| self.target.as_spelled(url))
    }

    /// Its `Range` field, if it requests a single range.
    fn range(&self) -> Option<HeaderValue> {
        let headers = &self.head.headers;
        let value = headers.get(header::RANGE)?;
        value.to_str().ok().is_some_and(range::is_single).then(|| value.clone())
    }
}

/// If `key` names a byte range of a file, the key of that file.
fn whole_of(key: &ObjectKey) -> Option<ObjectKey> {
    let (whole, _) = range_of_name(key.as_str())?;
    ObjectKey::from_name(whole, None).ok()
}

/// Location of an object after a fetch; `how`: the text for `Cache-Status` if it is in the cache.
fn of_fill(filled: FillResult, how: &'static str) -> Result<ObjectLocation, Missing> {
    match filled {
        FillResult::Flight(flight) => Ok(ObjectLocation::Flight(flight)),
        FillResult::Stored(object) => Ok(ObjectLocation::Stored(object, how)),
        FillResult::Passed(passed) => Ok(ObjectLocation::Passed(passed)),
        FillResult::Held | FillResult::Stale | FillResult::Declined(_) => Err(Missing::Again),
        FillResult::Refused(status) => Err(Missing::Refused(status)),
        FillResult::Failed(err) => Err(Missing::Origin(err)),
        FillResult::Busy => Err(Missing::Busy),
        FillResult::NoPlace(why) => Err(Missing::NoPlace(why)),
    }
}

/// Records the result of a fetch in its span.
fn ends(span: &mut Span, filled: &FillResult) {
    span.text("skycache.result", || filled.as_str().to_owned());
    match filled {
        FillResult::Failed(err) => span.fail(|| err.reason().as_str().to_owned()),
        FillResult::Busy | FillResult::NoPlace(_) => span.fail(|| filled.as_str().to_owned()),
        _ => {}
    }
}

impl HttpServer {
    /// Answers a GET or HEAD for an object.
    pub(super) async fn object(self: &Arc<Self>, request: &ObjectRequest<'_>) -> Outcome {
        let mut outcome = self.find_or_wait(request).await;
        if let Err(Missing::Origin(OriginError::CircuitOpen)) = &outcome {
            // On the heap: it is rare, and as large as the lookup.
            outcome = Box::pin(self.after_recovery(request, outcome)).await;
        }
        // A range object that the carousel did not deliver completely can be requested from an origin as a range of the
        // file.
        if let Err(Missing::NotInTime | Missing::Broken | Missing::Unknown) = &outcome
            && let Some(whole) = whole_of(request.key)
        {
            let request = ObjectRequest {
                key: &whole,
                on_interim: request.on_interim.clone(),
                own_fields: Arc::clone(&request.own_fields),
                sent_fields: request.sent_fields.clone(),
                ..*request
            };
            return self.find_or_wait(&request).await.unwrap_or_else(|it| self.without(&request, &it));
        }
        match outcome {
            Ok(outcome) => self.as_sent(outcome, request.key),
            Err(missing) => self.without(request, &missing),
        }
    }

    /// The outcome of a request that has failed for an open circuit, if nothing else can answer and the circuit permits requests
    /// again in a moment; else `outcome`.
    async fn after_recovery(
        self: &Arc<Self>,
        request: &ObjectRequest<'_>,
        mut outcome: Result<Outcome, Missing>,
    ) -> Result<Outcome, Missing> {
        if request.elsewhere.is_some() || self.cdn_url(request).is_some() {
            return outcome;
        }
        let Some(url) = request.url(&self.origins) else { return outcome };
        let begun = tokio::time::Instant::now();
        for _ in 0..RECOVERY_ATTEMPTS {
            let is_open = matches!(outcome, Err(Missing::Origin(OriginError::CircuitOpen)));
            if !is_open || !self.filler.wait_for_recovery(&url, request.peer, begun).await {
                break;
            }
            outcome = self.find_or_wait(request).await;
        }
        outcome
    }

    /// Whether the link has lost a DASH segment: later ones are here, and no source is left.
    fn is_lost(&self, key: &ObjectKey) -> bool {
        let Self { shared, .. } = self;
        // It may have arrived since the last lookup.
        shared.manifests.is_lost_of_dash(key, &|it| self.is_here(it), &shared.store, clock::now())
            // An object that is still described may come after newer ones, as in the initial window of a sender.
            && !self.may_be_sent(key)
            && shared.flights.get(key.as_str()).is_none_or(|it| it.is_lost(clock::now()))
            && !shared.store.contains(key.as_str())
    }

    /// Whether an FDT describes an object, and its session has not sent later ones.
    pub(super) fn may_be_sent(&self, key: &ObjectKey) -> bool {
        self.described(key).is_some_and(|time_to_loss| time_to_loss != Some(Duration::ZERO))
    }

    /// As [`Self::time_to_loss`], of a described object; `None`: it is not described.
    fn described(&self, key: &ObjectKey) -> Option<Option<Duration>> {
        let (object, by_several) = self.shared.flights.announced_as(key.as_str())?;
        // Another sender may still deliver it.
        Some(if by_several { None } else { self.shared.manifests.time_to_loss(key, &object, clock::now()) })
    }

    /// Time until a described object counts as lost ([`Manifests::time_to_loss`]). `None`: it is not described, or may still
    /// arrive.
    ///
    /// [`Manifests::time_to_loss`]: crate::manifests::Manifests::time_to_loss
    fn time_to_loss(&self, key: &ObjectKey) -> Option<Duration> {
        self.described(key).flatten()
    }

    /// The response if no object can be served.
    fn without(&self, request: &ObjectRequest<'_>, missing: &Missing) -> Outcome {
        if let Some(response) = self.sent_to_cdn(request, missing) {
            return Outcome::Elsewhere(response);
        }
        let is_nowhere = match missing {
            Missing::NotYet | Missing::NotInTime | Missing::Refused(404 | 410) => true,
            Missing::Origin(err) => !err.is_a_mistake(),
            _ => false,
        };
        let missing = if is_nowhere && self.is_lost(request.key) { &Missing::Lost } else { missing };
        if let Some(response) = self.sent_back(request.elsewhere, missing) {
            return Outcome::Elsewhere(response);
        }
        if matches!(missing, Missing::Lost) {
            self.lost_segments.fetch_add(1, Ordering::Relaxed);
        }
        Outcome::Response(missing.response(request.key))
    }

    async fn find_or_wait(self: &Arc<Self>, request: &ObjectRequest<'_>) -> Result<Outcome, Missing> {
        let (method, headers) = (&request.head.method, &request.head.headers);
        for _ in 0..LOOKUP_ATTEMPTS {
            let found = self.find(request).await;
            if let Ok(found) = &found
                && let Some(status) = self.failed_with(found, request)
            {
                return Err(Missing::Refused(status));
            }
            let found = match found {
                Ok(ObjectLocation::Flight(flight)) => match self.flight(flight, request).await {
                    Err(missing @ Missing::Origin(_)) => self.stale_instead(request).await.ok_or(missing),
                    found => found,
                },
                Ok(ObjectLocation::Stored(object, how)) => return Ok(Outcome::Stored(object, how)),
                Ok(ObjectLocation::Document(document)) => {
                    Ok(Outcome::Response(signalling(&document, method, headers)))
                }
                Ok(ObjectLocation::Passed(passed)) => {
                    let (response, rewriting) = self.handed_on(*passed, request).await;
                    Ok(Outcome::Passed(response, rewriting))
                }
                Err(missing) => Err(missing),
            };
            match found {
                // The awaited object was replaced by a newer one: look it up again.
                Err(Missing::Again) => {}
                found => return found,
            }
        }
        Err(Missing::NotInTime)
    }

    /// The first of at least one target that is cached, in flight or announced, then that of the requested byte range; else the
    /// first that an origin could have.
    pub(super) fn likeliest(&self, mut targets: Vec<Target>, head: &Parts) -> Target {
        let has_query = targets[0].key.as_str().contains('?');
        let range = head.headers.get(header::RANGE).filter(|_| head.method == Method::GET);
        let range = range.and_then(|it| range::exact(it.to_str().ok()?));
        if targets.len() == 1 && !has_query && range.is_none() {
            return targets.swap_remove(0);
        }
        let known = |target: &Target| {
            let reload = Reload::of(&target.key);
            let name = reload.as_ref().map_or(&target.key, |it| &it.playlist).as_str();
            self.shared.flights.expects_or_is_in(&self.shared.store, name)
                || self.shared.documents.get(name).is_some()
        };
        if let Some(known) = targets.iter().position(known) {
            return targets.swap_remove(known);
        }
        if has_query
            && let Some(key) = targets.iter().find_map(|target| {
                let key = self.without_ignored_query(&target.key)?;
                Some(Target { key, ..target.clone() })
            })
        {
            return key;
        }
        if let Some(range) = range
            && let Some(part) = targets.iter().find_map(|target| self.range_of(target, &range))
        {
            return part;
        }
        let with_origin = targets.iter().position(|it| self.origins.url_for(&it.full).is_some());
        targets.swap_remove(with_origin.unwrap_or(0))
    }

    /// The object that consists of these bytes of a target, if it is held, in flight or announced.
    fn range_of(&self, target: &Target, range: &std::ops::Range<u64>) -> Option<Target> {
        let (store, flights) = (&self.shared.store, &self.shared.flights);
        let key = ObjectKey::from_name(&name_of_range(target.key.as_str(), range), None).ok()?;
        let has_origin = self.origins.url_for(&target.full).is_some();
        let name = key.as_str();
        let is_known =
            (!has_origin && flights.announced(name).is_some()) || flights.has_begun_or_is_in(store, name);
        let key = if is_known { Some(key) } else { self.without_ignored_query(&key) };
        Some(Target { key: key?, ..target.clone() })
    }

    /// The key of an existing object that `key` names with additional query parameters that do not distinguish it.
    pub(super) fn without_ignored_query(&self, key: &ObjectKey) -> Option<ObjectKey> {
        let (store, flights) = (&self.shared.store, &self.shared.flights);
        let is_meant = |key: &ObjectKey, left_out: &[&str]| {
            let suits = |rule: &IgnoredQuery| left_out.iter().all(|name| rule.ignores(name));
            let name = key.as_str();
            // In the order in which an object moves.
            flights.announced(name).is_some_and(|it| suits(&it.ignored_query))
                || flights
                    .get(name)
                    .is_some_and(|it| it.carried().is_some_and(|it| suits(&it.file.ignored_query)))
                || store.ignores_query(name, left_out)
        };
        candidates(key).into_iter().find(|(key, left_out)| is_meant(key, left_out)).map(|(key, _)| key)
    }

    async fn find(self: &Arc<Self>, request: &ObjectRequest<'_>) -> Result<ObjectLocation, Missing> {
        let demand = self.shared.manifests.services().asked(request.key, clock::now());
        let Some(reload) = Reload::of(request.key) else { return self.find_as_named(request, demand).await };
        if let Some(answer) = self.reload(&reload, request, true).await {
            return answer;
        }
        let found = self.find_as_named(request, demand).await;
        if matches!(found, Err(Missing::Origin(_)))
            // The carousel is late and the origin unavailable: the playlist may still arrive.
            && let Some(answer) = self.reload(&reload, request, false).await
        {
            return answer;
        }
        found
    }

    /// Finds an object by its own name: in the cache, in flight, at an origin, and finally on the link.
    async fn find_as_named(
        self: &Arc<Self>,
        request: &ObjectRequest<'_>,
        demand: Demand,
    ) -> Result<ObjectLocation, Missing> {
        // Origins do not have byte ranges as objects.
        let may_ask = self.config.read_through && whole_of(request.key).is_none();
        let url = request.url(&self.origins).filter(|_| may_ask);
        if let Some(object) = self.held_of_now(request, demand, url.is_some()).await {
            let Some(url) = url.filter(|_| is_to_be_confirmed(&object, &request.head.headers)) else {
                return Ok(ObjectLocation::Stored(object, "hit"));
            };
            request.confirmed().await;
            return self.revalidate(request, object, url).await;
        }
        if let Some(found) = self.found_elsewhere(request) {
            return Ok(found);
        }
        if RequestDirectives::of(&request.head.headers).only_if_cached {
            return Err(Missing::OnlyIfCached);
        }
        request.confirmed().await;
        let prospects = Prospects::of(self, request.key, demand, url.is_some());
        if let Some(missing) = self.missing_at_once(request, &prospects) {
            return Err(missing);
        }
        let refused = match url {
            None => None,
            Some(url) => match self.ask_origin(request, url, &prospects).await {
                Err(missing) if !matches!(missing, Missing::Again) => Some(missing),
                ended => return ended,
            },
        };
        let has_begun = clock::now().since(self.begun) > self.waits.patience;
        match prospects.patience_after(refused.as_ref(), self.waits.patience, has_begun) {
            Some(patience) => self.wait_for_link(request, &prospects, patience, refused).await,
            None => Err(refused.unwrap_or(Missing::Unknown)),
        }
    }

    /// The object, if the cache has it. A manifest received before its service was joined is given time to be replaced by a
    /// playable version, if no origin is available.
    async fn held_of_now(
        &self,
        request: &ObjectRequest<'_>,
        demand: Demand,
        has_origin: bool,
    ) -> Option<Arc<StoredObject>> {
        let key = request.key;
        let held = self.held(key, request).await?;
        match demand {
            Demand::Joining(since) if !has_origin && !self.is_of_now(&held, since) => {
                self.wait_for_next(key, since).await;
                self.held(key, request).await
            }
            _ => Some(held),
        }
    }

    /// An object in flight, or a signalling document.
    fn found_elsewhere(&self, request: &ObjectRequest<'_>) -> Option<ObjectLocation> {
        if let Some(flight) = self.filler.flight_of(request.key, request.sent_fields()) {
            return Some(ObjectLocation::Flight(flight));
        }
        self.shared.documents.get(request.key.as_str()).map(ObjectLocation::Document)
    }

    /// Reason to neither request an object nor wait for it.
    fn missing_at_once(&self, request: &ObjectRequest<'_>, prospects: &Prospects) -> Option<Missing> {
        if !prospects.has_origin && prospects.is_unjoined && !prospects.is_announced() {
            return Some(Missing::NotJoined);
        }
        if prospects.is_carried_alone() && self.is_lost(request.key) {
            return Some(Missing::Lost);
        }
        if prospects.has_origin && !prospects.is_expected {
            return self.overload(request, prospects.live_target_ms.is_some()).map(Missing::Overloaded);
        }
        None
    }

    /// Requests an absent object from the origin.
    async fn ask_origin(
        self: &Arc<Self>,
        request: &ObjectRequest<'_>,
        url: String,
        prospects: &Prospects,
    ) -> Result<ObjectLocation, Missing> {
        let is_head = request.head.method == Method::HEAD;
        if is_head && !prospects.is_expected && self.filler.is_unshared(request.key) {
            let _place = self.filler.place(request.peer).map_err(Missing::NoPlace)?;
            return self.pass(request, &url).await;
        }
        let mut span = request.trace.span("fetch");
        let fill = self.filler.fill(request.key, url, self.first_ask(request, prospects, span.trace()));
        // A segment of a service on the air is taken from the first source that delivers it.
        let is_race = prospects.on_air_ms.is_some() && !prospects.is_manifest;
        let filled = tokio::select! {
            biased;
            filled = fill => filled,
            Some(flight) = self.flight_within(request.key, prospects.patience(self.waits.patience)), if is_race => {
                FillResult::Flight(flight)
            }
        };
        ends(&mut span, &filled);
        span.end();
        if matches!(filled, FillResult::Flight(_)) && !is_head {
            self.prefetch(request);
        }
        let mut found = of_fill(filled, "hit");
        if let Ok(ObjectLocation::Passed(passed)) = &mut found
            && is_head
        {
            passed.reply.drop_body();
        }
        found
    }

    /// A fetch of an object that is not held.
    fn first_ask(&self, request: &ObjectRequest<'_>, prospects: &Prospects, trace: Trace) -> FillRequest {
        // The origin may have a newer version of a live manifest than the one that is announced.
        let is_live_manifest = prospects.live_target_ms.is_some() && prospects.is_manifest;
        // Parts of a manifest could not be rewritten.
        let is_rewritten = prospects.is_manifest && !self.manifest_map(request).is_empty();
        let is_for_head = request.head.method == Method::HEAD;
        FillRequest {
            announced: prospects.announced.clone().filter(|_| !is_live_manifest),
            // Range is defined for GET alone (RFC 9110 section 14.2).
            range: request.range().filter(|_| !prospects.is_expected && !is_rewritten && !is_for_head),
            is_for_head,
            if_range: request.head.headers.get(header::IF_RANGE).cloned(),
            is_expected: prospects.is_expected,
            trace,
            ..request.ask()
        }
    }

    /// Waits until the link brings an object. `refused`: the origin's answer, if it was asked.
    async fn wait_for_link(
        &self,
        request: &ObjectRequest<'_>,
        prospects: &Prospects,
        patience: Duration,
        refused: Option<Missing>,
    ) -> Result<ObjectLocation, Missing> {
        let key = request.key;
        let waiting = request.trace.span("wait for the link");
        let (flight, has_passed) = tokio::select! {
            biased;
            flight = self.flight_within(key, patience) => (flight, false),
            () = self.passed(key), if prospects.may_have_passed => (None, true),
            () = self.lost(key), if prospects.is_carried_alone() => (None, false),
        };
        waiting.trace().note("skycache.result", if flight.is_some() { "arrives" } else { "did not come" });
        waiting.end();
        if let Some(flight) = flight {
            return Ok(ObjectLocation::Flight(flight));
        }
        let held = self.held(key, request).await;
        let is_early = has_passed || (prospects.on_air_ms.is_some() && !prospects.is_announced());
        let missing = if is_early { Missing::NotYet } else { refused.unwrap_or(Missing::NotInTime) };
        held.map(|it| ObjectLocation::Stored(it, "hit")).ok_or(missing)
    }

    /// The flight of an object once it has begun; `None` if the object is complete by then, or did not begin within
    /// `patience`.
    async fn flight_within(&self, key: &ObjectKey, patience: Duration) -> Option<Arc<Flight>> {
        let done = || self.shared.store.contains(key.as_str());
        self.shared.flights.wait_for(key.as_str(), patience, done).await
    }

    /// Whether a live manifest arrived after its service was joined at `since`, and one of its segments is here. Otherwise a
    /// player would request segments that were sent before. True for other objects.
    fn is_of_now(&self, object: &Arc<StoredObject>, since: Instant) -> bool {
        let is_here = |name: &str| self.is_here(name);
        object.live().is_none()
            || (!is_from_before(object, since) && manifests::is_playable(object, &is_here))
    }

    /// Whether an object is in flight or held.
    pub(super) fn is_here(&self, name: &str) -> bool {
        self.shared.flights.has_begun_or_is_in(&self.shared.store, name)
    }

    /// Completes when a live segment of a recently joined service will no longer arrive: a later one is here, or the service has
    /// been on the air for a target duration.
    async fn passed(&self, key: &ObjectKey) {
        let (manifests, store) = (&self.shared.manifests, &self.shared.store);
        let is_here = |name: &str| self.is_here(name);
        let mut deadline = None;
        loop {
            let advanced = manifests.listen();
            if manifests.is_passed(key, &is_here, store) {
                return;
            }
            if let Some(target_ms) = manifests.on_air_target_ms(key, clock::now()) {
                let end = tokio::time::Instant::now() + Duration::from_millis(target_ms);
                deadline.get_or_insert(end);
            }
            match deadline {
                None => advanced.await,
                Some(deadline) if tokio::time::timeout_at(deadline, advanced).await.is_err() => return,
                Some(_) => {}
            }
        }
    }

    /// Completes when a described live segment counts as lost.
    async fn lost(&self, key: &ObjectKey) {
        loop {
            let advanced = self.shared.manifests.listen();
            match self.time_to_loss(key) {
                Some(Duration::ZERO) => return,
                Some(left) => tokio::time::sleep(left).await,
                None => advanced.await,
            }
        }
    }

    /// Waits, at most for the patience of a request, for a version of a live manifest that can be played after the join.
    async fn wait_for_next(&self, key: &ObjectKey, since: Instant) {
        let deadline = tokio::time::Instant::now() + self.waits.patience;
        loop {
            let advanced = self.shared.manifests.listen();
            let held = self.shared.store.get(key.as_str());
            let is_old = held.is_some_and(|it| !self.is_of_now(&it, since));
            if !is_old || tokio::time::timeout_at(deadline, advanced).await.is_err() {
                return;
            }
        }
    }

    /// Revalidates a stale object with the origin, before it is used or in the background. An origin that hangs is waited for during
    /// [`STALE_WAIT`] if the object may be used stale, for a live manifest during one target duration: players keep a buffer of a few of
    /// them.
    async fn revalidate(
        self: &Arc<Self>,
        request: &ObjectRequest<'_>,
        object: Arc<StoredObject>,
        url: String,
    ) -> Result<ObjectLocation, Missing> {
        // An origin that does not have a carousel object may not have it yet.
        let is_expected = object.meta().response.is_none();
        let mut span = request.trace.span("fetch");
        let ask = FillRequest {
            held: Some(Arc::clone(&object)),
            is_expected,
            trace: span.trace(),
            ..request.ask()
        };
        let (filler, key) = (Arc::clone(&self.filler), request.key.clone());
        let filling = async move {
            let filled = filler.fill(&key, url, ask).await;
            ends(&mut span, &filled);
            filled
        };
        let staleness = object.staleness(clock::steady());
        if staleness.while_revalidating && !contradicts(&object, &request.head.headers) {
            // The result goes into the cache.
            self.runtime.spawn(filling);
            return Ok(ObjectLocation::Stored(object, "hit; detail=stale-while-revalidate"));
        }
        if RequestDirectives::of(&request.head.headers).only_if_cached {
            return Err(Missing::OnlyIfCached);
        }
        let wait = object.live().map_or(STALE_WAIT, |live| Duration::from_millis(live.target_ms));
        let filled = if staleness.if_error {
            // The fetch goes on without the request; its result is for the players' next ones.
            let filling = self.runtime.spawn(filling);
            match tokio::time::timeout(wait, filling).await {
                Ok(Ok(filled)) => filled,
                Ok(Err(_)) => FillResult::Busy,
                Err(_) => return Ok(ObjectLocation::Stored(object, "hit; detail=stale-while-waiting")),
            }
        } else {
            filling.await
        };
        if matches!(filled, FillResult::Stale) {
            return Ok(ObjectLocation::Stored(object, "hit; detail=stale-if-error"));
        }
        let missing = match of_fill(filled, "hit; fwd=stale; fwd-status=304") {
            Err(missing) if !matches!(missing, Missing::Again) => missing,
            ended => return ended,
        };
        // If the origin fails, a stale object is the best response (RFC 9111 section 4.2.4), and a fresh one stays valid.
        if is_fresh(&object) {
            Ok(ObjectLocation::Stored(object, "hit"))
        } else if staleness.if_error {
            Ok(ObjectLocation::Stored(object, "hit; detail=stale-if-error"))
        } else {
            Err(missing)
        }
    }

    /// The held version of an object whose new version broke off before any of it was sent, if it may be used while its
    /// origin fails.
    async fn stale_instead(&self, request: &ObjectRequest<'_>) -> Option<Outcome> {
        let object = self.held(request.key, request).await?;
        let may_be_used = is_fresh(&object) || object.staleness(clock::steady()).if_error;
        may_be_used.then_some(Outcome::Stored(object, "hit; detail=stale-if-error"))
    }

    /// The object, if the cache has it. One that is unverified since an unclean stop is verified on another thread.
    pub(super) async fn held(
        &self,
        key: &ObjectKey,
        request: &ObjectRequest<'_>,
    ) -> Option<Arc<StoredObject>> {
        let store = &self.shared.store;
        // The fields are built only where there may be variants.
        let chosen = store.sole(key).or_else(|| store.chosen(key, request.sent_fields()))?.meta().key.clone();
        if !store.needs_check(chosen.as_str()) {
            return store.get(chosen.as_str());
        }
        let store = store.clone();
        tokio::task::spawn_blocking(move || store.get(chosen.as_str())).await.ok()?
    }
}

/// Time for which a hanging origin is waited for before a stale object is used: players give a request up after 8 to 20 s, and caches
/// whose parent this is after `timeout_ms`, 5 s.
const STALE_WAIT: Duration = Duration::from_secs(3);
/// Attempts of a request whose origin recovers: of all that wait, one is permitted and decides for the others.
const RECOVERY_ATTEMPTS: usize = 3;
/// Target durations after which a live manifest of the carousel counts as outdated.
const LEFT_BEHIND_TARGETS: u64 = 2;

/// Whether a held object must be revalidated. Not while the carousel may still bring the next version of a live manifest; after
/// that the origin's version replaces it, until the carousel brings another.
fn is_to_be_confirmed(object: &StoredObject, headers: &HeaderMap) -> bool {
    let is_usable = is_fresh(object) && !contradicts(object, headers);
    !is_usable && !is_kept_up(object)
}

/// Whether an object is a live manifest whose next version the carousel may still bring.
fn is_kept_up(object: &StoredObject) -> bool {
    let is_carried = object.meta().response.is_none();
    object.live().is_some_and(|live| {
        let age_ms = clock::age_ms(object.meta().received_at).unsigned_abs();
        is_carried && age_ms <= LEFT_BEHIND_TARGETS * live.target_ms
    })
}

/// Whether an object is a live manifest that arrived before `since`.
fn is_from_before(object: &StoredObject, since: Instant) -> bool {
    let since_ms = i64::try_from(clock::now().since(since).as_millis()).unwrap_or(i64::MAX);
    object.live().is_some() && clock::age_ms(object.meta().received_at) > since_ms
}

/// Minimum age of a response before a failed condition causes a revalidation: a client could request nonexistent versions
/// endlessly.
const CONFIRMED_FOR_MS: i64 = 1000;

/// Whether `If-Match` or `If-Unmodified-Since` of a request fails for an origin's stored response: the origin evaluates these
/// (RFC 9111 section 4.3.2), and may have that version now.
fn contradicts(object: &StoredObject, headers: &HeaderMap) -> bool {
    let is_conditional =
        [header::IF_MATCH, header::IF_UNMODIFIED_SINCE].iter().any(|it| headers.contains_key(it));
    is_conditional
        && object.meta().response.is_some()
        && clock::age_ms(object.meta().received_at) > CONFIRMED_FOR_MS
        && Head::of_stored(object).validators.precondition(headers) == Precondition::Failed
}

/// Whether an object may be used without revalidation.
pub(super) fn is_fresh(object: &StoredObject) -> bool {
    object.expires().is_none_or(|expires| clock::left_ms(object.meta().received_at, expires) > 0)
}

/// The response with a signalling document, which is kept in memory.
fn signalling(document: &Document, method: &Method, headers: &HeaderMap) -> Response<PlayerBody> {
    let (status, fields, send) = Head::of_document(document).stamped("hit").respond(method, headers);
    head::response(status, fields, send.of_bytes(&document.bytes.clone().into()))
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
