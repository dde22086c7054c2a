//! One exchange with an origin: evaluation of its response for the cache, and transfer of the body into it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use carousel::digest::Digest;
use carousel::manifest::{MAX_MANIFEST_BYTES, Manifest};
use carousel::name::ObjectKey;
use carousel::time::WallTime;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use super::breaker::Asker;
use super::error::OriginError;
use super::fill::{FillContext, FillRequest, FillResult, Filler, ForwardReason, Passed, PrefetchEnd};
use super::kind::{self, MediaKind, may_be_media, may_turn_out_manifest, media_kind, unlike_its_name};
use super::lock;
use super::message::{Question, Reply, no_body};
use super::options::SurrogateFields;
use super::phase::{self, Observation, Phases};
use super::policy;
use super::ranges::end_within_length;
use super::spans::Part;
use super::watch::{Audience, LOOK, Watch};
use crate::caching::{self, Exchange, Keep, NotKept, SurrogateKeys, Validators};
use crate::clock;
use crate::delivery::{FailReason, Flight, Outcome, Sent};
use crate::manifests;
use crate::store::{
    CameBy, EvictReason, Grown, ObjectMeta, ObjectUri, Partial, Placement, ResponseMeta, StoreError,
    StoredObject, fields_fit_page,
};

/// Freshness of a 404 or 410 of a media name whose segments are of unknown duration, in milliseconds: a quarter of the
/// shortest segments in common use.
const NEGATIVE_MEDIA_MS: u64 = 250;

/// Freshness in milliseconds of a manifest whose facts cannot be read, and which may be live: half of a short target duration.
const UNREAD_MANIFEST_MS: u64 = 1000;

/// Time during which requests may join a possibly endless body, in milliseconds.
const YOUNG_MS: i64 = 2000;
/// As [`YOUNG_MS`], for a body of unknown length with freshness or a validator: nginx's `proxy_cache_lock_timeout`.
const JOINED_FOR_MS: i64 = 5000;
/// Bytes written at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Least remaining freshness of what is written to disk because memory is full: less is not worth the writing.
const LEAST_ON_DISK_MS: i64 = 60_000;
/// Least rest of today's write budget for a body without a length.
const LEAST_BUDGET_BYTES: u64 = 16 << 20;

/// Facts of a response that is to be stored or shared.
pub(super) struct Answer {
    pub(super) key: ObjectKey,
    pub(super) url: String,
    pub(super) content_type: Option<String>,
    pub(super) length: Option<u64>,
    pub(super) sent: Sent,
    /// It is stored when it is complete.
    pub(super) keep: bool,
    /// The end of its body can be distinguished from a broken connection.
    pub(super) is_framed: bool,
    pub(super) expected: Option<Digest>,
    /// The requester: a client, a refresh or a prefetch.
    pub(super) audience: Audience,
    /// See [`Keep::implicit_age_s`].
    pub(super) implicit_age_s: Option<u32>,
    /// It is stored only if its body is a manifest: its type and name say nothing.
    pub(super) only_manifest: bool,
    /// Values of the request that its body must not repeat if it is stored.
    pub(super) unusual: Vec<HeaderValue>,
    /// Time of the request: objects that were purged since are not stored.
    pub(super) requested_at: WallTime,
    /// See [`Reply::made_at`].
    pub(super) made_at: Option<WallTime>,
}

/// Use of a response.
enum Use {
    /// Its fields decide whether it is stored.
    Judged,
    /// It is for this request alone.
    ForOne,
    /// Its body is not received.
    Decided(FillResult),
}

/// Maximum sources asked for the rest of a body that a parent has cut: more than a player waits for.
const MAX_OTHERS: usize = 3;

/// End-to-end fields, with `Date` added if it is missing (RFC 9110 section 6.6.1).
pub(super) fn dated(fields: &HeaderMap) -> HeaderMap {
    let mut fields = caching::end_to_end(fields);
    if !fields.contains_key(header::DATE)
        && let Some(now) = clock::trusted_wall()
        && let Ok(now) = HeaderValue::from_str(&caching::write_date(now))
    {
        fields.insert(header::DATE, now);
    }
    fields
}

/// Adds validators of the held object, so that an origin need not send it again.
fn add_conditions(request: &mut HeaderMap, held: &StoredObject) {
    let fields = held.meta().fields();
    if let Some(etag) = fields.get(header::ETAG) {
        request.insert(header::IF_NONE_MATCH, etag.clone());
    }
    if let Some(modified) = fields.get(header::LAST_MODIFIED) {
        request.insert(header::IF_MODIFIED_SINCE, modified.clone());
    }
}

/// Replacement for a refused suffix range: the same bytes by position, or the complete file if its length is unknown. `None`: it
/// was not refused. Only for an empty file is a suffix range unsatisfiable (RFC 9110 section 14.1.2), but http-server refuses all
/// of them, and send (Express) those longer than the file.
fn instead_of_suffix(ask: &FillRequest, reply: &Reply) -> Option<Option<HeaderValue>> {
    if reply.status != StatusCode::RANGE_NOT_SATISFIABLE {
        return None;
    }
    let count: u64 = ask.range.as_ref()?.to_str().ok()?.strip_prefix("bytes=-")?.trim().parse().ok()?;
    let length = caching::text(&reply.headers, header::CONTENT_RANGE)
        .and_then(|it| it.trim().strip_prefix("bytes */")?.parse::<u64>().ok());
    match length {
        _ if count == 0 => None,
        Some(0) => None,
        Some(length) => Some(HeaderValue::from_str(&format!("bytes={}-", length.saturating_sub(count))).ok()),
        None => Some(None),
    }
}

impl Filler {
    /// Makes the request, and starts to receive the body if it is needed.
    pub(super) async fn exchange(
        self: &Arc<Self>,
        key: &ObjectKey,
        url: &str,
        mut ask: FillRequest,
    ) -> FillResult {
        let mut reply = self.request(key, url, &ask).await;
        if let Ok(refusal) = &reply
            && let Some(range) = instead_of_suffix(&ask, refusal)
        {
            ask.range = range;
            reply = self.request(key, url, &ask).await;
        }
        match reply {
            Ok(reply) => self.take(key, url, reply, ask),
            Err(OriginError::Status(status)) => FillResult::Refused(status),
            Err(err) => {
                // The breaker logs its changes, the client refused signatures; for each object of a live channel this would be a line every second.
                if matches!(err, OriginError::CircuitOpen | OriginError::Signature(_)) {
                    tracing::debug!(%key, %err, "the origin is not asked, or refuses the signature");
                } else {
                    tracing::info!(%key, %err, "a request to the origin failed");
                }
                FillResult::Failed(err)
            }
        }
    }

    /// Decides how a response is used, and starts to receive the body if it is needed.
    fn take(self: &Arc<Self>, key: &ObjectKey, url: &str, mut reply: Reply, ask: FillRequest) -> FillResult {
        let mut fields = dated(&reply.headers);
        if reply.status == StatusCode::PARTIAL_CONTENT {
            end_within_length(&mut fields);
        }
        let forwarded = if ask.held.is_some() { ForwardReason::Stale } else { ForwardReason::Miss };
        match self.use_of(&reply, &mut fields, &ask) {
            Use::Judged => {}
            Use::ForOne => {
                return FillResult::Passed(Box::new(Passed { headers: fields, reply, why: None, forwarded }));
            }
            Use::Decided(result) => return result,
        }
        let (mut status, mut whole_range) = (reply.status, None);
        let part = (status == StatusCode::PARTIAL_CONTENT).then(|| Part::of(&fields));
        if let Some(Some(part)) = &part
            && part.is_whole()
        {
            // A range that covers the complete object.
            status = StatusCode::OK;
            whole_range = fields.remove(header::CONTENT_RANGE).filter(|_| ask.range.is_some());
            if whole_range.is_none() {
                // It was not requested.
                reply.status = StatusCode::OK;
            }
        }
        // What is passed on keeps its status, and with it the field that a 206 must have (RFC 9110 section 15.3.7.1).
        let passed = |reply, mut headers: HeaderMap, why| {
            if let Some(range) = whole_range {
                headers.insert(header::CONTENT_RANGE, range);
            }
            Passed { headers, reply, why, forwarded }
        };
        let default_ms = self.default_ms(key, status, &fields);
        let mut judged = self.judge(&ask, &reply, status, &fields, default_ms);
        let only_manifest = matches!(judged, Err(NotKept::Useless))
            && !ask.prefetch
            && status == StatusCode::OK
            && may_turn_out_manifest(key, &fields);
        if only_manifest {
            judged = self.judge(&ask, &reply, status, &fields, Some(UNREAD_MANIFEST_MS));
        }
        let only_manifest = only_manifest && judged.is_ok();
        let mut not_kept = None;
        let keep = match policy::shareable(judged, &mut fields, &ask) {
            Ok(keep) => Some(keep),
            Err(_) if ask.prefetch => return FillResult::Declined(PrefetchEnd::NotKept),
            Err(why) => {
                self.count_not_kept(why);
                if why.is_for_one() {
                    return FillResult::Passed(Box::new(passed(reply, fields, Some(why))));
                }
                not_kept = Some(why);
                None
            }
        };
        let keep = keep.filter(|_| {
            let fit = fields_fit_page(&fields).is_some();
            if !fit {
                self.count_not_kept(NotKept::FieldsTooLong);
                not_kept = Some(NotKept::FieldsTooLong);
            }
            fit
        });
        if status == StatusCode::PARTIAL_CONTENT {
            return match (keep, part.flatten()) {
                (Some(keep), Some(part)) => {
                    self.take_part(key, url, passed(reply, fields, None), part, keep, ask)
                }
                _ => FillResult::Passed(Box::new(passed(reply, fields, not_kept))),
            };
        }
        let mut answer = Answer {
            requested_at: clock::current(reply.requested_at),
            made_at: reply.made_at(),
            is_framed: reply.is_framed,
            only_manifest,
            ..self.answer(key, url, status, &fields, keep, &ask)
        };
        answer.sent.not_kept = not_kept;
        answer.sent.replaces_stale = ask.held.is_some();
        answer.sent.is_shared &= !only_manifest;
        let is_long = answer.length.is_some_and(|length| length > self.options.prefetch_object_bytes);
        if ask.is_for_head && is_long {
            return FillResult::Passed(Box::new(passed(reply, fields, None)));
        }
        self.begin(answer, passed(reply, fields, not_kept), ask)
    }

    /// The use of a response, as far as it depends on the purpose of the request.
    fn use_of(&self, reply: &Reply, fields: &mut HeaderMap, ask: &FillRequest) -> Use {
        let status = reply.status;
        // An origin may distinguish spellings of one key (`%7e` and `~`): its refusal of one is neither stored nor shared.
        let is_of_spelling = ask.is_respelled
            && !ask.is_expected
            && status.as_u16() >= 300
            && status != StatusCode::NOT_MODIFIED;
        if is_of_spelling && !status.is_server_error() {
            return Use::ForOne;
        }
        if let Some(held) = &ask.held
            && let Some(result) = self.about_held(held, ask, reply, fields)
        {
            return Use::Decided(result);
        }
        // For an object that the carousel may still bring, the origin's refusal is neither passed on nor remembered.
        if ask.is_expected && status.as_u16() >= 400 {
            return Use::Decided(FillResult::Refused(status.as_u16()));
        }
        if ask.prefetch
            && let Some(why) = self.declined(reply)
        {
            return Use::Decided(FillResult::Declined(why));
        }
        // A 304 without a condition, or a refusal of one range.
        let is_of_request = matches!(status, StatusCode::NOT_MODIFIED | StatusCode::RANGE_NOT_SATISFIABLE);
        if is_of_spelling || is_of_request { Use::ForOne } else { Use::Judged }
    }

    /// Starts to receive an object, unless there is no room, or another of its name is in flight: then `passed` is for this
    /// player alone.
    fn begin(self: &Arc<Self>, answer: Answer, mut passed: Passed, ask: FillRequest) -> FillResult {
        let Ok((flight, partial)) = self.open(&answer) else {
            if answer.keep {
                self.count_not_kept(NotKept::NoRoom);
                passed.why = passed.why.or(Some(NotKept::NoRoom));
            }
            return FillResult::Passed(Box::new(passed));
        };
        match self.shared.flights.add(Arc::clone(&flight)) {
            // The carousel was faster, or it is a different object of the same name.
            Err(Some(taken)) if taken.suits(&ask.headers) => return FillResult::Flight(taken),
            Err(_) => return FillResult::Passed(Box::new(passed)),
            Ok(()) => {}
        }
        let (filler, receiving, reply) = (Arc::clone(self), Arc::clone(&flight), passed.reply);
        self.runtime.spawn(async move {
            let outcome = filler.receive(answer, reply, &receiving, partial, &ask.headers).await;
            filler.shared.flights.end(&receiving, outcome);
        });
        FillResult::Flight(flight)
    }

    /// Makes the request for `ask`.
    async fn request(&self, key: &ObjectKey, url: &str, ask: &FillRequest) -> Result<Reply, OriginError> {
        if ask.is_our_own {
            return self.client.get(url, &[]).await;
        }
        let mut headers = ask.headers.clone();
        if let Some(held) = &ask.held {
            add_conditions(&mut headers, held);
        } else if let Some(range) = ask.range.as_ref().filter(|_| !self.is_fetched_whole(key)) {
            headers.insert(header::RANGE, range.clone());
            if let Some(validator) = &ask.if_range {
                headers.insert(header::IF_RANGE, validator.clone());
            }
        }
        let on_interim = ask.on_interim.clone();
        let follows_redirects = ask.follows_redirects;
        let (method, body, trace) = (Method::GET, no_body(), ask.trace.clone());
        let asker = Asker::of(ask.client);
        let question = Question { method, headers, body, on_interim, follows_redirects, trace, asker };
        self.client.ask(url, question).await
    }

    /// Result of a revalidation: the held object is confirmed, or used although it is stale. `None`: it is replaced.
    fn about_held(
        &self,
        held: &Arc<StoredObject>,
        ask: &FillRequest,
        reply: &Reply,
        fields: &mut HeaderMap,
    ) -> Option<FillResult> {
        if reply.status == StatusCode::NOT_MODIFIED {
            let made_at = reply.made_at();
            if made_at.is_some_and(|at| self.shared.store.is_purged_lately(held.meta(), at)) {
                // What is held stays stale, and is asked about again.
                self.count_not_kept(NotKept::Purged);
                return Some(FillResult::Stored(Arc::clone(held)));
            }
            policy::take_own(fields, ask);
            self.count_revalidated();
            return Some(FillResult::Stored(self.freshen(held, ask, fields, reply.requested_at)));
        }
        if reply.status.is_server_error() && held.staleness(clock::steady()).if_error {
            tracing::info!(key = %held.meta().key, status = %reply.status, "the origin fails: what is held is used stale");
            return Some(FillResult::Stale);
        }
        None
    }

    /// Whether and how long a response may be stored. A part is fresh for as long as its object.
    fn judge(
        &self,
        ask: &FillRequest,
        reply: &Reply,
        status: StatusCode,
        fields: &HeaderMap,
        default_ms: Option<u64>,
    ) -> Result<Keep, NotKept> {
        let judged_status = if status == StatusCode::PARTIAL_CONTENT { StatusCode::OK } else { status };
        // An object described by an FDT gets the freshness of segments, regardless of its type.
        let announced_ms = ask.announced.is_some().then(|| u64::from(self.options.segment_ttl_s) * 1000);
        caching::judge(&Exchange {
            request: &ask.headers,
            status: judged_status.as_u16(),
            response: fields,
            requested_at: clock::current(reply.requested_at),
            date: clock::wall(),
            received_at: clock::steady(),
            default_ms: default_ms.or(announced_ms),
        })
    }

    /// Receives a part of a storable object, to be combined with others of the same version.
    fn take_part(
        self: &Arc<Self>,
        key: &ObjectKey,
        url: &str,
        sent: Passed,
        part: Part,
        keep: Keep,
        ask: FillRequest,
    ) -> FillResult {
        let flight = if !Validators::of(&sent.reply.headers).are_strong() {
            self.fetch_whole(key, part.length);
            None
        } else if !ask.unusual.is_empty() && kind::may_repeat(key, StatusCode::PARTIAL_CONTENT, &sent.headers)
        {
            // The object combines ranges of several requests, so repeated values of a single one cannot be detected.
            None
        } else {
            self.open_spans(key, url, &sent.headers, &part, keep, ask.surrogate_keys)
        };
        let Some(flight) = flight else { return FillResult::Passed(Box::new(sent)) };
        let (filler, receiving, headers) = (Arc::clone(self), Arc::clone(&flight), ask.headers);
        self.runtime.spawn(async move {
            filler.receive_span(sent.reply, part.span.clone(), &receiving, part.span, headers).await;
        });
        FillResult::Flight(flight)
    }

    /// Default freshness in milliseconds: media do not change, manifests do, and missing objects may appear soon.
    fn default_ms(&self, key: &ObjectKey, status: StatusCode, fields: &HeaderMap) -> Option<u64> {
        let ms = |seconds: u32| Some(u64::from(seconds) * 1000);
        match status.as_u16() {
            200 | 203 | 206 => match media_kind(key, caching::text(fields, header::CONTENT_TYPE)) {
                MediaKind::Segment => ms(self.options.segment_ttl_s),
                MediaKind::Manifest => ms(self.options.manifest_ttl_s),
                MediaKind::Other => None,
            },
            404 | 410 => {
                let target_ms = self.shared.manifests.live_target_ms(key);
                let is_media = target_ms.is_some() || may_be_media(key);
                if is_media {
                    // A segment may be requested a moment before it exists: later requests must not get the stored
                    // refusal.
                    let most_ms = target_ms.map_or(NEGATIVE_MEDIA_MS, |target_ms| target_ms / 4);
                    return ms(self.options.negative_ttl_s).map(|ms| ms.min(most_ms));
                }
                ms(self.options.negative_ttl_s).filter(|_| !fields.contains_key(header::LAST_MODIFIED))
            }
            _ => None,
        }
    }

    /// Reason not to receive the response to a prefetch.
    fn declined(&self, reply: &Reply) -> Option<PrefetchEnd> {
        let length =
            caching::text(&reply.headers, header::CONTENT_LENGTH).and_then(|it| it.parse::<u64>().ok());
        match reply.status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
            _ => return Some(PrefetchEnd::Refused),
        }
        (length.unwrap_or(0) > self.options.prefetch_object_bytes).then_some(PrefetchEnd::TooLong)
    }

    fn answer(
        &self,
        key: &ObjectKey,
        url: &str,
        status: StatusCode,
        fields: &HeaderMap,
        keep: Option<Keep>,
        ask: &FillRequest,
    ) -> Answer {
        let has_none = matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
        // Without chunks or a length the body ends with the connection, and may be incomplete.
        let said = || caching::text(fields, header::CONTENT_LENGTH)?.parse::<u64>().ok();
        let length = if has_none { Some(0) } else { said() };
        let is_encoded = fields.contains_key(header::CONTENT_ENCODING);
        let is_object = status == StatusCode::OK;
        let expected = ask.announced.as_ref().and_then(|it| it.digest).filter(|_| !is_encoded && is_object);
        let implicit_age_s = keep.as_ref().and_then(|keep| keep.implicit_age_s);
        let (is_kept, mut sent) = sent(status, fields, keep, ask.surrogate_keys);
        let place = self.place_of(key, &sent.response.selecting);
        let content_type = caching::text(fields, header::CONTENT_TYPE).map(str::to_owned);
        // Media do not repeat request fields; any other body is checked when it is complete.
        let unusual = if kind::may_repeat(key, status, fields) { ask.unusual.clone() } else { Vec::new() };
        sent.may_repeat = !unusual.is_empty();
        sent.is_shared &= !sent.may_repeat;
        Answer {
            key: place,
            url: url.to_owned(),
            content_type,
            length,
            sent,
            keep: is_kept,
            is_framed: true,
            expected,
            audience: Audience::of(ask, self.options.prefetch_object_bytes),
            implicit_age_s,
            only_manifest: false,
            unusual,
            requested_at: clock::steady(),
            made_at: None,
        }
    }

    /// The key for a response selected by these values; differs from the keys of variants for other values that are held or
    /// in flight.
    pub(super) fn place_of(&self, key: &ObjectKey, selecting: &[(String, Option<String>)]) -> ObjectKey {
        let is_taken = |place: &ObjectKey| {
            let flight = self.shared.flights.get(place.as_str());
            let sent = flight.as_ref().and_then(|it| it.sent.as_ref());
            sent.is_some_and(|sent| sent.response.selecting != selecting)
        };
        self.shared.store.place_of(key, selecting, is_taken)
    }

    fn open(&self, answer: &Answer) -> Result<(Arc<Flight>, Arc<Partial>), StoreError> {
        let store = &self.shared.store;
        let mut placement = self.placement(&answer.key, answer.sent.expires, answer.keep);
        placement.is_short_lived |= fields_fit_page(&answer.sent.response.fields()) != Some(true);
        let partial = Arc::new(match answer.length {
            Some(length) => store.create(length, placement)?,
            None => store.create_growing(placement, answer.keep && !answer.only_manifest)?,
        });
        let flight = Flight::of_prefix(
            answer.key.clone(),
            answer.content_type.clone(),
            answer.length,
            answer.sent.clone(),
            Arc::clone(&partial),
            answer.expected.is_some(),
        );
        Ok((Arc::new(flight), partial))
    }

    pub(super) fn placement(&self, key: &ObjectKey, expires: WallTime, keep: bool) -> Placement {
        let store = &self.shared.store;
        // A body that is not stored need not be written to flash.
        let is_live = self.shared.manifests.live_target_ms(key).is_some();
        let now = clock::steady();
        // What would evict from memory something that is asked for again within minutes goes to disk as any other object.
        let overflows = || {
            store.is_memory_full()
                && store.takes_on_disk(LEAST_BUDGET_BYTES)
                && expires.unix_ms() - now.unix_ms() >= LEAST_ON_DISK_MS
        };
        let is_short_lived = !keep || is_live || store.is_short(now, Some(expires)) && !overflows();
        Placement { class: store.class_of(key.as_str()), is_short_lived }
    }

    async fn receive(
        &self,
        mut answer: Answer,
        mut reply: Reply,
        flight: &Arc<Flight>,
        partial: Arc<Partial>,
        fields: &HeaderMap,
    ) -> Outcome {
        let mut offset = 0;
        let mut others = MAX_OTHERS;
        let mut watch = Watch::new(answer.audience, &partial, flight);
        loop {
            let Some(piece) = self.next_piece(&mut reply, &answer, flight, &mut watch, offset).await else {
                return Outcome::Failed(FailReason::Abandoned);
            };
            let piece = match piece {
                Ok(None) => break,
                Ok(Some(piece)) => piece,
                Err(err) => {
                    tracing::info!(key = %answer.key, %err, offset, "the origin ended early");
                    if reply.is_of_parent() && others > 0 {
                        others -= 1;
                        if let Some(rest) = self.rest(&answer, flight, offset, fields).await {
                            reply = rest;
                            continue;
                        }
                    }
                    return Outcome::Failed(FailReason::OriginCut);
                }
            };
            self.client.count_bytes(piece.len());
            if watch.is_over(offset) {
                return Outcome::Failed(FailReason::Abandoned);
            }
            self.withdraw_if_endless(&answer, flight);
            if flight.length.is_some_and(|length| offset + piece.len() as u64 > length) {
                return Outcome::Failed(FailReason::OriginCut);
            }
            for part in piece.chunks(PIECE_BYTES) {
                let end = offset + part.len() as u64;
                if flight.length.is_none() && partial.grow(offset, end) == Grown::Passing {
                    if answer.keep {
                        self.count_passing();
                        answer.keep = false;
                        tracing::debug!(key = %answer.key, offset, "a body of unknown length passes: there is no room to keep it");
                    }
                    // Later requests are made separately.
                    self.shared.flights.withdraw(flight);
                    if !watch.let_pass(offset, end).await {
                        return Outcome::Failed(FailReason::Abandoned);
                    }
                }
                if partial.write_at(offset, part).is_err() {
                    return Outcome::Failed(FailReason::Store);
                }
                offset = end;
                flight.advance(offset);
            }
        }
        if flight.length.is_some_and(|length| length != offset) {
            return Outcome::Failed(FailReason::OriginCut);
        }
        if flight.length.is_none() && answer.keep {
            return self.settle(answer, offset, partial).await;
        }
        self.publish(answer, offset, partial).await
    }

    /// The next piece of a body; `None` if it is no longer wanted.
    async fn next_piece(
        &self,
        reply: &mut Reply,
        answer: &Answer,
        flight: &Arc<Flight>,
        watch: &mut Watch<'_>,
        offset: u64,
    ) -> Option<Result<Option<Bytes>, OriginError>> {
        // The future is kept across checks of the watch, so that its own time limit continues.
        let mut next = std::pin::pin!(reply.next());
        loop {
            tokio::select! {
                biased;
                piece = next.as_mut() => return Some(piece),
                () = tokio::time::sleep(LOOK) => {}
            }
            if watch.is_over(offset) {
                return None;
            }
            self.withdraw_if_endless(answer, flight);
        }
    }

    /// Stores a body whose length is known only at its end, if there is room for it.
    async fn settle(&self, answer: Answer, length: u64, growing: Arc<Partial>) -> Outcome {
        let store = self.shared.store.clone();
        let placement = self.placement(&answer.key, answer.sent.expires, true);
        let settled = tokio::task::spawn_blocking(move || store.settle(&growing, length, placement)).await;
        match settled {
            Ok(Ok(settled)) => self.publish(answer, length, settled).await,
            // Readers are served even if there is no room to store it.
            _ if answer.expected.is_none() => Outcome::Passed(length),
            _ => Outcome::Failed(FailReason::Store),
        }
    }

    /// Requests the rest of a body that a parent has cut from the next member or the origin; only if it is certainly the same
    /// version.
    async fn rest(&self, answer: &Answer, flight: &Flight, offset: u64, fields: &HeaderMap) -> Option<Reply> {
        let (length, version) = (flight.length?, Validators::of(&answer.sent.response.fields()));
        let mut headers = fields.clone();
        headers.insert(header::IF_RANGE, version.if_range()?);
        headers.insert(header::RANGE, HeaderValue::from_str(&format!("bytes={offset}-{}", length - 1)).ok()?);
        let question = Question::get(headers, false);
        let reply = self.client.ask(&answer.url, question).await.ok()?;
        let rest = Part { span: offset..length, length };
        rest.is_sent(reply.status, &reply.headers, &version).then_some(reply)
    }

    /// Whether a body may have no end: it has neither length, freshness nor validator, and no manifest lists it as a segment.
    fn may_be_endless(&self, answer: &Answer) -> bool {
        answer.length.is_none()
            && (answer.implicit_age_s.is_some() || !answer.keep)
            && !Validators::any(&answer.sent.response.fields())
            && self.shared.manifests.listing(&answer.key).is_empty()
    }

    /// An endless body is not shared with later requests: they start at the live position. One that is only long they get from its
    /// beginning, as it comes from the origin for them.
    fn withdraw_if_endless(&self, answer: &Answer, flight: &Arc<Flight>) {
        let age_ms = clock::age_ms(answer.sent.received_at);
        let is_long = || {
            age_ms >= JOINED_FOR_MS
                && answer.length.is_none()
                && answer.expected.is_none()
                && self.shared.manifests.listing(&answer.key).is_empty()
        };
        if age_ms >= YOUNG_MS && (self.may_be_endless(answer) || is_long()) {
            self.shared.flights.withdraw(flight);
        }
    }

    /// Whether a response without freshness information is stored for a default time: not a broadcast that has ended, and
    /// not a body that ends with its connection, which may be incomplete.
    fn is_kept_unsaid(&self, answer: &Answer) -> bool {
        let is_short = clock::age_ms(answer.sent.received_at) < YOUNG_MS;
        answer.is_framed && (is_short || !self.may_be_endless(answer))
    }

    /// Publishes a complete body. Hashing and linking wait for the disk, so this runs outside threads that serve players.
    pub(super) async fn publish(&self, mut answer: Answer, length: u64, partial: Arc<Partial>) -> Outcome {
        answer.keep &= answer.implicit_age_s.is_none() || self.is_kept_unsaid(&answer);
        if !answer.keep && answer.expected.is_none() {
            return Outcome::Passed(length);
        }
        if answer.only_manifest && length > MAX_MANIFEST_BYTES as u64 {
            self.count_not_kept(NotKept::Useless);
            return Outcome::Passed(length);
        }
        let (shared, phases) = (self.shared.clone(), Arc::clone(&self.phases));
        let work = move || publish(&shared, &phases, answer, length, partial);
        let published = tokio::task::spawn_blocking(work).await;
        match published {
            Ok(Ok(Ok(stored))) => Outcome::Complete(stored),
            Ok(Ok(Err(why))) => {
                if let Some(why) = why {
                    self.count_not_kept(why);
                }
                Outcome::Passed(length)
            }
            Ok(Err(reason)) => Outcome::Failed(reason),
            Err(_) => Outcome::Failed(FailReason::Store),
        }
    }

    /// Updates the held object with a 304.
    fn freshen(
        &self,
        held: &Arc<StoredObject>,
        ask: &FillRequest,
        update: &HeaderMap,
        requested_at: WallTime,
    ) -> Arc<StoredObject> {
        let meta = held.meta();
        let mut fields = meta.fields();
        caching::freshen(&mut fields, update);
        let status = StatusCode::from_u16(meta.status()).unwrap_or(StatusCode::OK);
        let judged = caching::judge(&Exchange {
            request: &ask.headers,
            status: meta.status(),
            response: &fields,
            requested_at: clock::current(requested_at),
            date: clock::wall(),
            received_at: clock::steady(),
            default_ms: self.default_ms(&meta.key, status, &fields),
        });
        let repeats = update.values().any(|value| policy::repeats(value.as_bytes(), &ask.unusual));
        let is_kept = judged.is_ok() && !repeats;
        let implicit_age_s = judged.as_ref().ok().and_then(|keep| keep.implicit_age_s);
        let (_, mut sent) = sent(status, &fields, judged.ok(), ask.surrogate_keys);
        if sent.response.surrogate_keys.is_empty()
            && let Some(response) = &meta.response
        {
            // A 304 contains only changed fields.
            sent.response.surrogate_keys = response.surrogate_keys.clone();
        }
        if let (Some(live), Some(age_s)) = (held.live(), implicit_age_s) {
            let manifest = self.shared.manifests.facts(&meta.key);
            let fresh_ms = manifest.and_then(|manifest| {
                fresh_by_phase(&self.phases, &meta.key, &manifest, &fields, age_s, None)
            });
            sent.expires = live_expiry(sent.received_at, fresh_ms.unwrap_or(live.fresh_ms), age_s);
        }
        let meta = ObjectMeta {
            received_at: clock::steady(),
            expires: Some(sent.expires),
            response: Some(Box::new(sent.response)),
            ignored_query: Default::default(),
            signed_by: None,
            ..meta.clone()
        };
        if !is_kept {
            // It may no longer be stored, but this request may use it.
            let fresh = held.with_meta(meta);
            // Mapped while its file has its name.
            let _ = fresh.view();
            self.shared.store.remove(fresh.meta().key.as_str(), EvictReason::Purged);
            return fresh;
        }
        self.shared.store.freshen(held, meta.clone()).unwrap_or_else(|| held.with_meta(meta))
    }
}

/// The stored and shared form of a response.
pub(super) fn sent(
    status: StatusCode,
    fields: &HeaderMap,
    keep: Option<Keep>,
    surrogate_fields: SurrogateFields,
) -> (bool, Sent) {
    let is_kept = keep.is_some();
    let age_s = caching::text(fields, header::AGE).and_then(|it| it.trim().parse().ok()).unwrap_or(0);
    let keep = keep.unwrap_or(Keep {
        expires: WallTime::from_unix_ms(0),
        initial_age_s: age_s,
        implicit_age_s: None,
        selecting: Vec::new(),
        without: Vec::new(),
    });
    let mut fields = fields.clone();
    let surrogate_keys = SurrogateKeys::of(&fields);
    if surrogate_fields == SurrogateFields::Strip {
        caching::strip_surrogate_keys(&mut fields);
    }
    // These values come from the object itself.
    for name in [header::AGE, header::CONTENT_LENGTH, header::CONTENT_TYPE] {
        fields.remove(name);
    }
    for name in &keep.without {
        fields.remove(name.as_str());
    }
    let response = ResponseMeta {
        status: status.as_u16(),
        initial_age_s: keep.initial_age_s,
        headers: caching::to_pairs(&fields),
        selecting: keep.selecting,
        surrogate_keys,
    };
    let is_shared = is_kept && keep.expires > clock::steady();
    (
        is_kept,
        Sent {
            response,
            received_at: clock::steady(),
            expires: keep.expires,
            is_shared,
            may_repeat: false,
            replaces_stale: false,
            not_kept: None,
        },
    )
}

/// End of the default freshness of a live manifest: from its arrival, less its age from caches on the way. Independent of the
/// origin's clock.
fn live_expiry(received_at: WallTime, fresh_ms: u64, age_s: u32) -> WallTime {
    let left_ms = fresh_ms.saturating_sub(u64::from(age_s) * 1000);
    WallTime::from_unix_ms(received_at.unix_ms().saturating_add(i64::try_from(left_ms).unwrap_or(i64::MAX)))
}

/// Freshness of a live manifest that was just received or confirmed (`digest` is `None`), by the phase of its changes.
/// `None`: the phase is unknown, or it came from a cache on the way.
fn fresh_by_phase(
    phases: &Mutex<Phases>,
    key: &ObjectKey,
    manifest: &Manifest,
    fields: &HeaderMap,
    age_s: u32,
    digest: Option<Digest>,
) -> Option<u64> {
    let period_ms = phase::period_ms(manifest).filter(|_| age_s == 0)?;
    let date = |name| caching::text(fields, name).and_then(caching::parse_date).map(WallTime::unix_ms);
    let changed = date(header::DATE).zip(date(header::LAST_MODIFIED));
    let observation = Observation {
        now_ms: clock::steady().unix_ms(),
        digest,
        sequence: manifest.last_sequence,
        age_s: changed.map(|(sent_ms, changed_ms)| (sent_ms - changed_ms) / 1000),
        period_ms,
    };
    Some(lock(phases).fresh_ms(key.as_str(), &observation))
}

/// Stores a complete body; if that fails, the waiting requests still get it, and the reason is recorded.
fn publish(
    shared: &FillContext,
    phases: &Mutex<Phases>,
    answer: Answer,
    length: u64,
    partial: Arc<Partial>,
) -> Result<Result<Arc<StoredObject>, Option<NotKept>>, FailReason> {
    let frozen = partial.freeze(length).map_err(|_| FailReason::Store)?;
    let digest = frozen.digest();
    if answer.expected.is_some_and(|expected| expected != digest) {
        tracing::warn!(key = %answer.key, "the origin's object is not the one that the FDT describes");
        return Err(FailReason::Verify);
    }
    if !answer.keep {
        return Ok(Err(None));
    }
    let body = frozen.as_slice();
    let fields = answer.sent.response.fields();
    let coding = caching::text(&fields, header::CONTENT_ENCODING);
    if policy::body_repeats(body, coding, &answer.unusual) {
        return Ok(Err(Some(NotKept::Repeats)));
    }
    let may_be_manifest = answer.implicit_age_s.is_some() && body.len() <= MAX_MANIFEST_BYTES;
    let text = if may_be_manifest { manifests::plain(body, coding) } else { None };
    let manifest = text.and_then(|text| Manifest::read(&text));
    if answer.implicit_age_s.is_some()
        && answer.expected.is_none()
        && answer.sent.response.status == 200
        && let Some(why) =
            unlike_its_name(&answer.key, answer.content_type.as_deref(), coding, body, manifest.is_some())
    {
        return Ok(Err(Some(why)));
    }
    if answer.only_manifest && manifest.is_none() {
        return Ok(Err(Some(NotKept::Useless)));
    }
    let store = &shared.store;
    let mut expires = answer.sent.expires;
    if let Some(age_s) = answer.implicit_age_s {
        let is_long = || {
            body.len() > MAX_MANIFEST_BYTES
                && media_kind(&answer.key, answer.content_type.as_deref()) == MediaKind::Manifest
        };
        let fresh_ms = match &manifest {
            Some(manifest) => manifest.fresh_ms().map(|half_ms| {
                let by_phase = fresh_by_phase(phases, &answer.key, manifest, &fields, age_s, Some(digest));
                by_phase.unwrap_or(half_ms)
            }),
            None if is_long() => match Manifest::skim(body) {
                Some(manifest) => manifest.fresh_ms(),
                None => {
                    shared.manifests.count_unread();
                    Some(UNREAD_MANIFEST_MS)
                }
            },
            None => None,
        };
        // A manifest without a name is no more than fresh for a moment, if it is not live.
        if let Some(fresh_ms) = fresh_ms {
            expires = live_expiry(answer.sent.received_at, fresh_ms, age_s);
        }
    }
    if answer.sent.response.selecting.is_empty() {
        store.forget_variants(&answer.key);
    }
    let meta = ObjectMeta {
        uri: ObjectUri::new(&answer.url, &answer.key),
        content_type: answer.content_type,
        length,
        digest,
        version: 0,
        received_at: answer.sent.received_at,
        expires: Some(expires),
        class: store.class_of(answer.key.as_str()),
        came_by: CameBy::Origin,
        response: Some(Box::new(answer.sent.response)),
        ignored_query: Default::default(),
        signed_by: None,
        key: answer.key,
    };
    if store.is_purged(&meta, answer.requested_at) {
        return Ok(Err(None));
    }
    if answer.made_at.is_some_and(|at| store.is_purged_lately(&meta, at)) {
        return Ok(Err(Some(NotKept::Purged)));
    }
    match shared.manifests.publish(store, &frozen, meta) {
        Ok(stored) => Ok(Ok(stored)),
        Err(StoreError::MetaTooLarge) => Ok(Err(Some(NotKept::FieldsTooLong))),
        // It was purged meanwhile.
        Err(StoreError::Purged) => Ok(Err(None)),
        Err(_) => Err(FailReason::Store),
    }
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
