//! Responses from objects in flight: as their bytes arrive, or by a separate fetch of the requested range.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};

use super::HttpServer;
use super::body::{Piece, PlayerBody};
use super::head::{self, Head};
use super::manifest::{self, SNIFF_BYTES};
use super::missing::Missing;
use super::range;
use super::reply::Send;
use super::serve::{ObjectRequest, Outcome};
use super::shown::Shown;
use super::tail::Tail;
use super::urls::UrlMap;
use crate::caching::{self, NotKept};
use crate::clock;
use crate::delivery::{FailReason, Flight, Outcome as Ended};
use crate::origin::{OriginError, Question, SpanResult};

/// Distance in bytes and in milliseconds at the fill's present rate: a range further ahead than both is fetched separately.
const FAR_BYTES: u64 = 2 << 20;
const FAR_MS: u64 = 1500;

/// Offset to wait for where nothing is sent before the object has ended.
const LAST_BYTE: u64 = u64::MAX;

/// End of a wait for bytes of an object in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    /// The bytes have arrived, or the object has ended.
    There,
    /// They did not arrive within the player's patience.
    InVain,
    /// They did not arrive within half the duration of a live object: time to ask an origin, while they may still arrive.
    Turned,
}

impl HttpServer {
    /// Serves an object in flight as soon as its first requested byte has arrived.
    pub(super) async fn flight(
        self: &Arc<Self>,
        flight: Arc<Flight>,
        request: &ObjectRequest<'_>,
    ) -> Result<Outcome, Missing> {
        let (method, headers) = (&request.head.method, &request.head.headers);
        if flight.is_carried() && self.shared.manifests.live_target_ms(&flight.key).is_some() {
            flight.set_sent_once();
        }
        if self.is_broken_off(&flight, request) {
            return Err(Missing::NotInTime);
        }
        let how = how_of(&flight);
        let head = Head::of_flight(&flight).stamped(how);
        if let Some(range) = self.range_of_growing(&flight, &head, request) {
            let fields = head.respond_growing(&range, headers);
            return self.growing(flight, range, fields, how, request).await;
        }
        let map = self.map_of_flight(&flight, &head, request).await;
        let (status, fields, send) = head.respond(method, headers);
        let first = match &send {
            // A content encoding on the link, or URLs to map, need the complete object.
            _ if !flight.is_identity || map.is_some() || self.is_sent_whole(&flight) => LAST_BYTE,
            Send::Nothing => {
                return Ok(Outcome::Response(head::response(status, fields, PlayerBody::empty())));
            }
            Send::Everything => 0,
            Send::Pieces(pieces) => {
                if let Some(instead) = self.want_pieces(&flight, pieces, &head, request).await {
                    return instead;
                }
                first_byte(pieces)
            }
        };
        // A request that waits for the first byte counts as a reader, so that the fetch continues.
        let _reader = (first != LAST_BYTE).then(|| flight.partial().reader(first));
        // An empty object of an origin needs no wait; a carousel object counts as empty only after verification.
        let is_empty = flight.length == Some(0) && flight.sent.is_some();
        if !is_empty && let Some(instead) = self.wait_or_ask(&flight, first, request).await {
            return instead;
        }
        match flight.outcome() {
            // Another request's fetch of this range was refused or cut: look up again, and fetch it for this player.
            None if !is_empty && flight.is_given_up(first) => return Err(Missing::Again),
            None => {}
            Some(outcome) => {
                if let Some(ended) = ended(outcome, how) {
                    return ended;
                }
                if let (Ended::Passed(length), Some(map)) = (outcome, map) {
                    return rewritten(&flight, *length, head, map, request).await;
                }
            }
        }
        let pieces = match send {
            Send::Pieces(pieces) => pieces,
            _ => vec![Piece::Range(0..u64::MAX)],
        };
        Ok(Outcome::Response(head::response(status, fields, self.flight_body(flight, pieces, request))))
    }

    /// The bytes of an object as they arrive, continued from the origin if the carousel breaks off.
    fn flight_body(
        &self,
        flight: Arc<Flight>,
        pieces: Vec<Piece>,
        request: &ObjectRequest<'_>,
    ) -> PlayerBody {
        let tail = self.tail(&flight, request);
        PlayerBody::flight(flight, Arc::clone(&self.shared.flights), pieces, self.waits, tail)
    }

    /// URL map for an object in flight, if it is a manifest and the map is not empty.
    async fn map_of_flight(
        self: &Arc<Self>,
        flight: &Arc<Flight>,
        head: &Head,
        request: &ObjectRequest<'_>,
    ) -> Option<UrlMap> {
        let (key, content_type) = (flight.key.as_str(), caching::text(&head.fields, header::CONTENT_TYPE));
        let is_named = manifest::is_named(key, content_type);
        // The map is built only for manifests: most objects are segments.
        if !is_named && !manifest::may_be(key, content_type) {
            return None;
        }
        let map = self.manifest_map(request);
        (!map.is_empty() && (is_named || self.begins_as_manifest(flight).await)).then_some(map)
    }

    /// Requests these pieces of an object that is fetched in ranges. `Some`: the final response, if they cannot be served from
    /// the flight.
    async fn want_pieces(
        &self,
        flight: &Arc<Flight>,
        pieces: &[Piece],
        head: &Head,
        request: &ObjectRequest<'_>,
    ) -> Option<Result<Outcome, Missing>> {
        for piece in pieces {
            let Piece::Range(range) = piece else { continue };
            if self.is_far_behind(flight, range.start) {
                return Some(self.range_of_its_own(request, range, head).await);
            }
            match self.filler.want(flight, range.clone(), &request.fields()).await {
                SpanResult::Begun => {}
                SpanResult::Full => return Some(self.range_of_its_own(request, range, head).await),
                SpanResult::Refused(passed) => {
                    let (response, rewriting) = self.handed_on(*passed, request).await;
                    return Some(Ok(Outcome::Passed(response, rewriting)));
                }
                SpanResult::Failed(err) => return Some(Err(Missing::Origin(err))),
            }
        }
        None
    }

    /// Waits for a byte. `Some`: the response to send if it does not arrive in time.
    async fn wait_or_ask(
        &self,
        flight: &Arc<Flight>,
        offset: u64,
        request: &ObjectRequest<'_>,
    ) -> Option<Result<Outcome, Missing>> {
        let waited = self.wait_or_turn(flight, offset, request).await;
        if waited == Waited::There {
            return None;
        }
        match self.of_the_origin_instead(request).await {
            // The origin is unavailable or does not have it; the link may still bring it.
            Err(Missing::NotInTime) if waited == Waited::Turned && self.wait(flight, offset).await => None,
            instead => Some(instead),
        }
    }

    /// Whether no source brings the rest of an object, so that a response would be cut. Ranges that have arrived are still
    /// served.
    fn is_broken_off(&self, flight: &Flight, request: &ObjectRequest<'_>) -> bool {
        let is_over = flight.time_to_give_up(clock::now()) == Some(Duration::ZERO);
        is_over
            && !request.head.headers.contains_key(header::RANGE)
            && self.other_source(request).is_none_or(|url| self.filler.is_left_alone(&url))
    }

    /// Whether an object is sent only when it is complete: a version of a live manifest may turn out to be older than the one
    /// held, and a partial segment is sent only in one piece (HLS second edition, section 6.2.6).
    fn is_sent_whole(&self, flight: &Flight) -> bool {
        let manifests = &self.shared.manifests;
        manifests.facts(&flight.key).is_some_and(|it| it.is_live)
            || (flight.is_carried() && manifests.is_part(&flight.key))
    }

    /// The requested range of an object of unknown length, if it can be answered.
    fn range_of_growing(
        &self,
        flight: &Flight,
        head: &Head,
        request: &ObjectRequest<'_>,
    ) -> Option<Range<u64>> {
        let headers = &request.head.headers;
        let is_growing = flight.length.is_none() && flight.is_carried() && flight.is_identity;
        if !is_growing || request.head.method != Method::GET || !head.validators.range_counts(headers) {
            return None;
        }
        range::growing(headers.get(header::RANGE)?.to_str().ok()?)
    }

    /// Serves a range of a growing object: when it is complete (HLS second edition, section 6.2.6), or as it arrives if
    /// it extends to the object's end (RFC 8673 section 2).
    async fn growing(
        self: &Arc<Self>,
        flight: Arc<Flight>,
        range: Range<u64>,
        fields: HeaderMap,
        how: &'static str,
        request: &ObjectRequest<'_>,
    ) -> Result<Outcome, Missing> {
        let is_open = range.end == range::OPEN_END;
        let last = if is_open { range.start } else { range.end - 1 };
        let _reader = flight.partial().reader(range.start);
        if !self.wait(&flight, last).await {
            return Err(Missing::NotInTime);
        }
        if let Some(ended) = flight.outcome().and_then(|it| ended(it, how)) {
            return ended;
        }
        let pieces = vec![Piece::Range(if is_open { range.start..u64::MAX } else { range })];
        let body = self.flight_body(flight, pieces, request);
        Ok(Outcome::Response(head::response(StatusCode::PARTIAL_CONTENT, fields, body)))
    }

    /// As [`Self::wait`], but at most half the duration of a live object that an origin may have as well: by then the link has
    /// lost a part of it, or no longer sends it.
    async fn wait_or_turn(&self, flight: &Arc<Flight>, offset: u64, request: &ObjectRequest<'_>) -> Waited {
        let target_ms = self.shared.manifests.live_target_ms(&flight.key);
        let target_ms = target_ms.filter(|_| flight.is_carried() && self.other_source(request).is_some());
        let patience = target_ms.map(|it| self.waits.patience.min(Duration::from_millis(it / 2)));
        let wait = self.wait(flight, offset);
        let is_there = match patience {
            Some(patience) => tokio::time::timeout(patience, wait).await,
            None => Ok(wait.await),
        };
        match is_there {
            Ok(true) => Waited::There,
            Ok(false) => Waited::InVain,
            Err(_) => Waited::Turned,
        }
    }

    /// Source of the rest of a live segment, if the carousel breaks it off.
    fn tail(&self, flight: &Flight, request: &ObjectRequest<'_>) -> Option<Tail> {
        let is_growing = flight.is_carried() && flight.is_identity && flight.length.is_none();
        let url = self.other_source(request).filter(|_| is_growing && request.head.method == Method::GET)?;
        let target_ms = self.shared.manifests.live_target_ms(&flight.key)?;
        let question = Question { follows_redirects: true, ..request.question() };
        Some(Tail::new(Arc::clone(&self.filler), url, question.headers, target_ms, Arc::clone(&self.tails)))
    }

    /// URL at an origin of an object that the carousel does not deliver in time.
    fn other_source(&self, request: &ObjectRequest<'_>) -> Option<String> {
        let may_ask = self.config.read_through && matches!(request.head.method, Method::GET | Method::HEAD);
        request.url(&self.origins).filter(|_| may_ask)
    }

    /// Serves an object that the carousel does not deliver in time from an origin, for this player alone; the flight is left
    /// unchanged.
    async fn of_the_origin_instead(&self, request: &ObjectRequest<'_>) -> Result<Outcome, Missing> {
        let url = self.other_source(request).ok_or(Missing::NotInTime)?;
        let mut question = Question { follows_redirects: true, ..request.question() };
        if let Some(range) = request.head.headers.get(header::RANGE) {
            question.headers.insert(header::RANGE, range.clone());
        }
        let passed = self.filler.pass(&url, question).await.map_err(|_| Missing::NotInTime)?;
        if !passed.reply.status.is_success() {
            return Err(Missing::NotInTime);
        }
        let (response, rewriting) = self.handed_on(passed, request).await;
        Ok(Outcome::Passed(response, rewriting))
    }

    /// Whether a fill is still far from the byte at `offset`: see [`FAR_BYTES`].
    fn is_far_behind(&self, flight: &Flight, offset: u64) -> bool {
        let Some(sent) = flight.sent.as_ref().filter(|_| flight.spans().is_none()) else { return false };
        let (received, missing) = (flight.received_bytes(), offset.saturating_sub(flight.received_bytes()));
        let since_ms = clock::age_ms(sent.received_at).max(1);
        let rate_bytes_per_ms = received / since_ms.unsigned_abs();
        missing > FAR_BYTES && missing > rate_bytes_per_ms.saturating_mul(FAR_MS)
    }

    /// Fetches a range for one player, since the fill would reach it too late.
    async fn range_of_its_own(
        &self,
        request: &ObjectRequest<'_>,
        range: &Range<u64>,
        head: &Head,
    ) -> Result<Outcome, Missing> {
        let url = request.url(&self.origins).ok_or(Missing::Unknown)?;
        let mut question = request.question();
        head::put(&mut question.headers, header::RANGE, &format!("bytes={}-{}", range.start, range.end - 1));
        if let Some(validator) = head.validators.if_range() {
            question.headers.insert(header::IF_RANGE, validator);
        }
        let passed = self.filler.pass(&url, question).await.map_err(Missing::Origin)?;
        let (response, rewriting) = self.handed_on(passed, request).await;
        Ok(Outcome::Passed(response, rewriting))
    }

    /// Whether the first bytes of an object in flight are those of a manifest.
    async fn begins_as_manifest(self: &Arc<Self>, flight: &Arc<Flight>) -> bool {
        let wanted = flight.length.map_or(SNIFF_BYTES as u64, |length| length.min(SNIFF_BYTES as u64));
        if wanted == 0 || !self.wait(flight, 0).await {
            return false;
        }
        let (first, wanted) = (Arc::clone(flight), wanted.min(flight.available_from(0)));
        let read = tokio::task::spawn_blocking(move || first.read(0..wanted)).await;
        read.ok().and_then(Result::ok).is_some_and(|bytes| manifest::begins(&bytes))
    }

    /// Waits for the byte at `offset`, and requests repair when it does not arrive at once.
    async fn wait(&self, flight: &Arc<Flight>, offset: u64) -> bool {
        if flight.sent.is_some() {
            return flight.wait_for(offset, super::ORIGIN_PATIENCE).await;
        }
        if flight.wait_for(offset, self.waits.haste).await {
            return true;
        }
        self.shared.flights.expedite(flight).await;
        flight.wait_for(offset, self.waits.patience).await
    }
}

/// The first byte of an object among the pieces of a response.
fn first_byte(pieces: &[Piece]) -> u64 {
    let mut starts = pieces.iter().filter_map(|piece| match piece {
        Piece::Range(range) => Some(range.start),
        Piece::Bytes(_) => None,
    });
    starts.next().unwrap_or(0)
}

/// An origin's manifest of `length` bytes that is not stored, with its URLs mapped.
async fn rewritten(
    flight: &Arc<Flight>,
    length: u64,
    head: Head,
    map: UrlMap,
    request: &ObjectRequest<'_>,
) -> Result<Outcome, Missing> {
    let whole = Arc::clone(flight);
    let read = tokio::task::spawn_blocking(move || whole.read(0..length)).await;
    let bytes = read.ok().and_then(Result::ok).ok_or(Missing::Broken)?;
    let shown = Shown::of_bytes(head, bytes.into(), map);
    let (status, fields, send) = shown.head.respond(&request.head.method, &request.head.headers);
    let body = shown.body.map_or_else(PlayerBody::empty, |it| send.of_bytes(&it));
    Ok(Outcome::Passed(head::response(status, fields, body), shown.rewriting))
}

/// The text for `Cache-Status` of an object in flight.
fn how_of(flight: &Flight) -> &'static str {
    if flight.carried().is_some() {
        return "hit; detail=in-flight";
    }
    let Some(sent) = &flight.sent else { return "fwd=miss" };
    match (sent.replaces_stale, sent.not_kept) {
        (false, Some(NotKept::Useless)) => "fwd=miss; stored=?0; detail=not-kept-useless",
        (true, Some(NotKept::Useless)) => "fwd=stale; stored=?0; detail=not-kept-useless",
        (false, Some(NotKept::Status)) => "fwd=miss; stored=?0; detail=not-kept-status",
        (true, Some(NotKept::Status)) => "fwd=stale; stored=?0; detail=not-kept-status",
        (false, Some(NotKept::FieldsTooLong)) => "fwd=miss; stored=?0; detail=not-kept-fields-too-long",
        (true, Some(NotKept::FieldsTooLong)) => "fwd=stale; stored=?0; detail=not-kept-fields-too-long",
        // What its body decides is not known yet.
        (false, _) => "fwd=miss",
        (true, _) => "fwd=stale",
    }
}

/// Response after this end of a flight; `None`: serve the bytes that have arrived.
fn ended(outcome: &Ended, how: &'static str) -> Option<Result<Outcome, Missing>> {
    Some(match outcome {
        Ended::Complete(object) => Ok(Outcome::Stored(Arc::clone(object), how)),
        Ended::Failed(FailReason::Replaced | FailReason::Abandoned) => Err(Missing::Again),
        Ended::Failed(FailReason::OriginCut) => Err(Missing::Origin(OriginError::Cut)),
        Ended::Failed(_) => Err(Missing::Broken),
        Ended::Passed(_) => return None,
    })
}
