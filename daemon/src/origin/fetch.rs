//! One exchange with an origin: what its answer means for the cache, and the bytes into it.

use std::ops::Range;
use std::sync::Arc;

use carousel::digest::Digest;
use carousel::name::ObjectKey;
use carousel::time::WallTime;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use super::client::{OriginError, Question, Reply, no_body};
use super::fill::{Ask, FillResult, Filler, Passed};
use super::ranges::parse_content_range;
use crate::caching::{self, Exchange, Keep, NotKept, Staleness, Validators};
use crate::clock;
use crate::flight::{FailReason, Flight, Outcome, Sent};
use crate::receive::Shared;
use crate::store::{CameBy, EvictReason, ObjectMeta, ObjectUri, Partial, ResponseMeta, StoredObject, Wish};

/// Flights of which only ranges have come. Each holds room for its whole object.
const MAX_IN_RANGES: usize = 64;
/// Times that a range is asked for before those who wait for it are told that it does not come.
const ATTEMPTS: u32 = 3;

/// What is known of a response that is to be kept or shared.
struct Answer {
    key: ObjectKey,
    url: String,
    content_type: Option<String>,
    length: Option<u64>,
    sent: Sent,
    /// It goes into the cache when it is whole.
    keep: bool,
    expected: Option<Digest>,
}

/// End-to-end fields, with the date that a recipient adds where there is none (RFC 9110 section 6.6.1).
pub(super) fn dated(fields: &HeaderMap) -> HeaderMap {
    let mut fields = caching::end_to_end(fields);
    if !fields.contains_key(header::DATE)
        && let Ok(now) = HeaderValue::from_str(&caching::write_date(clock::wall()))
    {
        fields.insert(header::DATE, now);
    }
    fields
}

/// The conditions under which an origin need not send what is held.
fn add_conditions(request: &mut HeaderMap, held: &StoredObject) {
    let fields = caching::from_pairs(held.meta().headers().iter().map(|(name, value)| (name, value)));
    if let Some(etag) = fields.get(header::ETAG) {
        request.insert(header::IF_NONE_MATCH, etag.clone());
    }
    if let Some(modified) = fields.get(header::LAST_MODIFIED) {
        request.insert(header::IF_MODIFIED_SINCE, modified.clone());
    }
}

impl Filler {
    /// Asks, and begins to receive what is to be received.
    pub(super) async fn exchange(self: &Arc<Self>, key: &ObjectKey, url: &str, ask: Ask) -> FillResult {
        let reply = if ask.is_our_own {
            self.client.get(url, &[]).await
        } else {
            let mut headers = ask.headers.clone();
            if let Some(held) = &ask.held {
                add_conditions(&mut headers, held);
            } else if let Some(range) = &ask.range {
                headers.insert(header::RANGE, range.clone());
            }
            let on_interim = ask.on_interim.clone();
            self.client.ask(url, Question { method: Method::GET, headers, body: no_body(), on_interim }).await
        };
        let reply = match reply {
            Ok(reply) => reply,
            Err(OriginError::Status(status)) => return FillResult::Refused(status),
            Err(err) => {
                tracing::info!(%key, %err, "the origin cannot be had");
                return FillResult::Failed(err);
            }
        };
        let fields = dated(&reply.headers);
        let status = reply.status;
        if let Some(held) = &ask.held {
            if status == StatusCode::NOT_MODIFIED {
                self.count_revalidated();
                return FillResult::Stored(self.freshen(held, &ask, &fields, reply.requested_at));
            }
            if status.is_server_error() && may_serve_stale(held) {
                tracing::info!(%key, %status, "the origin fails: what is held is used stale");
                return FillResult::Stale;
            }
        }
        let is_announced = ask.announced.is_some();
        if (is_announced && status.as_u16() >= 400) || (ask.is_expected && status.is_server_error()) {
            return FillResult::Refused(status.as_u16());
        }
        let pass = |reply, headers, why| FillResult::Passed(Box::new(Passed { headers, reply, why }));
        // A 304 that nobody asked for, or part of something that cannot be put together.
        if status == StatusCode::NOT_MODIFIED {
            return pass(reply, fields, None);
        }
        let judged = caching::judge(&Exchange {
            request: &ask.headers,
            status: status.as_u16(),
            response: &fields,
            requested_at: reply.requested_at,
            received_at: clock::wall(),
            // What an FDT names is an object, whatever its type.
            default_s: self
                .default_s(key, status, &fields)
                .or_else(|| is_announced.then_some(self.config.segment_ttl_s)),
        });
        let keep = match judged {
            Ok(keep) => Ok(keep),
            Err(why) => {
                self.count_not_kept(why);
                match why {
                    // Those who wait for it now may have it; it is nobody's in particular.
                    NotKept::Status | NotKept::Useless => Err(why),
                    NotKept::NoStore | NotKept::Private | NotKept::Authorization | NotKept::Vary => {
                        return pass(reply, fields, Some(why));
                    }
                }
            }
        };
        if status == StatusCode::PARTIAL_CONTENT {
            return match keep.ok().and_then(|keep| self.open_spans(key, url, &fields, keep)) {
                Some((flight, partial, span)) => {
                    let filler = Arc::clone(self);
                    let receiving = Arc::clone(&flight);
                    self.runtime.spawn(async move {
                        filler.receive_span(reply, &receiving, &partial, span).await;
                    });
                    FillResult::Flight(flight)
                }
                None => pass(reply, fields, None),
            };
        }
        let answer = self.answer(key, url, &reply, &fields, keep.ok(), &ask);
        let Ok((flight, partial)) = self.open(&answer) else { return pass(reply, fields, None) };
        match self.shared.flights.add(Arc::clone(&flight)) {
            // The carousel was faster, or it is another of the same name.
            Err(Some(taken)) if taken.suits(&ask.headers) => return FillResult::Flight(taken),
            Err(_) => return pass(reply, fields, None),
            Ok(()) => {}
        }
        let (filler, receiving) = (Arc::clone(self), Arc::clone(&flight));
        self.runtime.spawn(async move {
            let outcome = filler.receive(answer, reply, &receiving, partial).await;
            filler.shared.flights.end(&receiving, outcome);
        });
        FillResult::Flight(flight)
    }

    /// Freshness in seconds of what an origin says nothing about: media do not change, manifests do, and what is not there
    /// may soon be.
    fn default_s(&self, key: &ObjectKey, status: StatusCode, fields: &HeaderMap) -> Option<u32> {
        match status.as_u16() {
            200 | 203 | 206 => match media_kind(key, caching::text(fields, header::CONTENT_TYPE)) {
                MediaKind::Segment => Some(self.config.segment_ttl_s),
                MediaKind::Manifest => Some(self.config.manifest_ttl_s),
                MediaKind::Other => None,
            },
            404 | 410 if !fields.contains_key(header::LAST_MODIFIED) => Some(self.config.negative_ttl_s),
            _ => None,
        }
    }

    fn answer(
        &self,
        key: &ObjectKey,
        url: &str,
        reply: &Reply,
        fields: &HeaderMap,
        keep: Option<Keep>,
        ask: &Ask,
    ) -> Answer {
        let length =
            caching::text(&reply.headers, header::CONTENT_LENGTH).and_then(|it| it.parse::<u64>().ok());
        let length = if matches!(reply.status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) {
            Some(0)
        } else {
            // Without chunks nor a length the end of the connection is the end: whole or not, nobody knows.
            length
        };
        let is_encoded = reply.headers.contains_key(header::CONTENT_ENCODING);
        let is_object = reply.status == StatusCode::OK;
        let expected = ask.announced.as_ref().and_then(|it| it.digest).filter(|_| !is_encoded && is_object);
        let (is_kept, sent) = sent(reply.status, fields, keep);
        let place = self.shared.store.place_of(key, &sent.response.selecting);
        let content_type = caching::text(fields, header::CONTENT_TYPE).map(str::to_owned);
        Answer { key: place, url: url.to_owned(), content_type, length, sent, keep: is_kept, expected }
    }

    fn open(&self, answer: &Answer) -> Result<(Arc<Flight>, Arc<Partial>), crate::store::StoreError> {
        let store = &self.shared.store;
        let wish = self.wish(&answer.key, answer.sent.expires, answer.keep);
        let partial = Arc::new(match answer.length {
            Some(length) => store.create(length, wish)?,
            None => store.create_growing(wish)?,
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

    fn wish(&self, key: &ObjectKey, expires: WallTime, keep: bool) -> Wish {
        let store = &self.shared.store;
        // What is not kept need not touch the flash.
        let is_short_lived = !keep || store.is_short(clock::wall(), Some(expires));
        Wish { class: store.class_of(key.as_str()), is_short_lived }
    }

    async fn receive(
        &self,
        answer: Answer,
        mut reply: Reply,
        flight: &Flight,
        partial: Arc<Partial>,
    ) -> Outcome {
        let mut offset = 0;
        loop {
            match reply.next().await {
                Ok(None) => break,
                Ok(Some(piece)) => {
                    self.client.count_bytes(piece.len());
                    let end = offset + piece.len() as u64;
                    if flight.length.is_some_and(|length| end > length) {
                        return Outcome::Failed(FailReason::OriginCut);
                    }
                    if partial.write_at(offset, &piece).is_err() {
                        return Outcome::Failed(FailReason::Store);
                    }
                    offset = end;
                    flight.advance(offset);
                }
                Err(err) => {
                    tracing::info!(key = %answer.key, %err, offset, "the origin ended early");
                    return Outcome::Failed(FailReason::OriginCut);
                }
            }
        }
        if flight.length.is_some_and(|length| length != offset) {
            return Outcome::Failed(FailReason::OriginCut);
        }
        self.publish(answer, offset, partial).await
    }

    /// What has arrived is whole. Hashing and linking wait for the disk: not on a thread that serves players.
    async fn publish(&self, answer: Answer, length: u64, partial: Arc<Partial>) -> Outcome {
        if !answer.keep && answer.expected.is_none() {
            return Outcome::Passed(length);
        }
        let shared = Arc::clone(&self.shared);
        let published = tokio::task::spawn_blocking(move || publish(&shared, answer, length, partial)).await;
        match published {
            Ok(Ok(Some(stored))) => Outcome::Whole(stored),
            Ok(Ok(None)) => Outcome::Passed(length),
            Ok(Err(reason)) => Outcome::Failed(reason),
            Err(_) => Outcome::Failed(FailReason::Store),
        }
    }

    /// Brings what is held up to date with a 304.
    fn freshen(
        &self,
        held: &Arc<StoredObject>,
        ask: &Ask,
        update: &HeaderMap,
        requested_at: WallTime,
    ) -> Arc<StoredObject> {
        let meta = held.meta();
        let mut fields = caching::from_pairs(meta.headers().iter().map(|(name, value)| (name, value)));
        caching::freshen(&mut fields, update);
        let status = StatusCode::from_u16(meta.status()).unwrap_or(StatusCode::OK);
        let judged = caching::judge(&Exchange {
            request: &ask.headers,
            status: meta.status(),
            response: &fields,
            requested_at,
            received_at: clock::wall(),
            default_s: self.default_s(&meta.key, status, &fields),
        });
        let is_kept = judged.is_ok();
        let (_, sent) = sent(status, &fields, judged.ok());
        let meta = ObjectMeta {
            received_at: clock::wall(),
            expires: Some(sent.expires),
            response: Some(Box::new(sent.response)),
            ..meta.clone()
        };
        if !is_kept {
            // From now on it is not to be kept; this once it is what the origin says it is.
            let fresh = held.with_meta(meta);
            self.shared.store.remove(fresh.meta().key.as_str(), EvictReason::Purged);
            return fresh;
        }
        self.shared.store.freshen(held, meta.clone()).unwrap_or_else(|| held.with_meta(meta))
    }

    /// An object of which an origin sends a range: room for all of it, and the range that comes now. `None` if what is
    /// missing could not be put beside it: no strong validator, no known length, too many.
    fn open_spans(
        &self,
        key: &ObjectKey,
        url: &str,
        fields: &HeaderMap,
        keep: Keep,
    ) -> Option<(Arc<Flight>, Arc<Partial>, Range<u64>)> {
        let range = caching::text(fields, header::CONTENT_RANGE)?;
        let length: u64 = range.rsplit_once('/')?.1.trim().parse().ok()?;
        let span = parse_content_range(range).filter(|span| span.end <= length)?;
        let is_strong = Validators::of(fields).etag.is_some_and(|etag| !etag.as_bytes().starts_with(b"W/"));
        let in_ranges = self.shared.flights.list().iter().filter(|it| it.spans().is_some()).count();
        if !is_strong || in_ranges >= MAX_IN_RANGES || !keep.selecting.is_empty() {
            return None;
        }
        let mut fields = fields.clone();
        fields.remove(header::CONTENT_RANGE);
        let (_, sent) = sent(StatusCode::OK, &fields, Some(keep));
        let wish = self.wish(key, sent.expires, true);
        let partial = Arc::new(self.shared.store.create(length, wish).ok()?);
        let content_type = caching::text(&fields, header::CONTENT_TYPE).map(str::to_owned);
        let flight = Flight::of_spans(key.clone(), content_type, length, url, sent, Arc::clone(&partial));
        let flight = Arc::new(flight);
        flight.spans()?.claim(span.clone())?;
        self.shared.flights.add(Arc::clone(&flight)).ok()?;
        Some((flight, partial, span))
    }

    /// Sees to it that `range` of an object that comes in ranges is fetched, unless it is.
    pub fn want(self: &Arc<Self>, flight: &Arc<Flight>, range: Range<u64>) {
        let Some(spans) = flight.spans() else { return };
        spans.touch(clock::now());
        while let Some(span) = spans.claim(range.clone()) {
            let (filler, flight) = (Arc::clone(self), Arc::clone(flight));
            self.runtime.spawn(async move { filler.fetch_span(&flight, span).await });
        }
    }

    async fn fetch_span(self: Arc<Self>, flight: &Arc<Flight>, span: Range<u64>) {
        let (Some(spans), Some(sent)) = (flight.spans(), &flight.sent) else { return };
        let fields = caching::from_pairs(sent.response.headers.iter().map(|(name, value)| (name, value)));
        let mut headers = HeaderMap::new();
        if let Ok(range) = HeaderValue::from_str(&format!("bytes={}-{}", span.start, span.end - 1)) {
            headers.insert(header::RANGE, range);
        }
        if let Some(etag) = fields.get(header::ETAG) {
            headers.insert(header::IF_RANGE, etag.clone());
        }
        for _ in 0..ATTEMPTS {
            let question =
                Question { method: Method::GET, headers: headers.clone(), body: no_body(), on_interim: None };
            let Ok(reply) = self.client.ask(spans.url(), question).await else { continue };
            let range = caching::text(&reply.headers, header::CONTENT_RANGE).and_then(parse_content_range);
            let is_same = reply.headers.get(header::ETAG) == fields.get(header::ETAG);
            if reply.status == StatusCode::PARTIAL_CONTENT && range.as_ref() == Some(&span) && is_same {
                let partial = Arc::clone(flight.partial());
                self.receive_span(reply, flight, &partial, span).await;
                return;
            }
            if reply.status.is_success() {
                // Another version by now: what has come of this one helps nobody.
                self.shared.flights.end(flight, Outcome::Failed(FailReason::Replaced));
                return;
            }
        }
        spans.give_up(&span);
        flight.progress();
    }

    /// Receives one range; the one that makes the object whole publishes it.
    async fn receive_span(
        &self,
        mut reply: Reply,
        flight: &Arc<Flight>,
        partial: &Arc<Partial>,
        span: Range<u64>,
    ) {
        let (Some(spans), Some(length)) = (flight.spans(), flight.length) else { return };
        let mut offset = span.start;
        let is_cut = loop {
            match reply.next().await {
                Ok(None) => break offset < span.end,
                Err(_) => break true,
                Ok(Some(piece)) => {
                    self.client.count_bytes(piece.len());
                    let end = offset + piece.len() as u64;
                    if end > span.end || partial.write_at(offset, &piece).is_err() {
                        break true;
                    }
                    spans.arrive(offset..end);
                    offset = end;
                    flight.progress();
                }
            }
        };
        if is_cut {
            spans.give_up(&span);
        } else {
            spans.release(&span);
        }
        flight.progress();
        if spans.is_whole(length)
            && spans.finish()
            && let Some(sent) = &flight.sent
        {
            let answer = Answer {
                key: flight.key.clone(),
                url: spans.url().to_owned(),
                content_type: flight.content_type.clone(),
                length: Some(length),
                sent: sent.clone(),
                keep: true,
                expected: None,
            };
            let outcome = self.publish(answer, length, Arc::clone(partial)).await;
            self.shared.flights.end(flight, outcome);
        }
    }

    /// Ends, for ever and every so often, what came in ranges and nobody has asked for since.
    pub async fn forget_idle(self: Arc<Self>) {
        loop {
            tokio::time::sleep(IDLE / 4).await;
            for flight in self.shared.flights.list() {
                let is_idle = flight.spans().is_some_and(|spans| clock::now().since(spans.touched()) > IDLE);
                let is_stale = flight.sent.as_ref().is_some_and(|sent| sent.expires < clock::wall());
                if flight.spans().is_some() && (is_idle || is_stale) {
                    self.shared.flights.end(&flight, Outcome::Failed(FailReason::Abandoned));
                }
            }
        }
    }
}

/// Ranges of an object that nobody has asked for since are given up after this time: they hold room.
const IDLE: std::time::Duration = std::time::Duration::from_secs(120);

/// Whether an origin that fails leaves what is held the best there is.
pub(super) fn may_serve_stale(held: &StoredObject) -> bool {
    let fields = caching::from_pairs(held.meta().headers().iter().map(|(name, value)| (name, value)));
    let expires = held.meta().expires.unwrap_or_else(clock::wall);
    Staleness::of(&fields, expires, clock::wall()).if_error
}

/// A response as it is kept and shared; whether it is kept.
fn sent(status: StatusCode, fields: &HeaderMap, keep: Option<Keep>) -> (bool, Sent) {
    let is_kept = keep.is_some();
    let age_s = caching::text(fields, header::AGE).and_then(|it| it.trim().parse().ok()).unwrap_or(0);
    let keep = keep.unwrap_or(Keep {
        expires: WallTime::from_unix_ms(0),
        initial_age_s: age_s,
        selecting: Vec::new(),
        without: Vec::new(),
    });
    let mut fields = fields.clone();
    // What these say is said by the object itself.
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
    };
    let is_shared = is_kept && keep.expires > clock::wall();
    (is_kept, Sent { response, received_at: clock::wall(), expires: keep.expires, is_shared })
}

fn publish(
    shared: &Shared,
    answer: Answer,
    length: u64,
    partial: Arc<Partial>,
) -> Result<Option<Arc<StoredObject>>, FailReason> {
    let frozen = partial.freeze(length).map_err(|_| FailReason::Store)?;
    let digest = frozen.digest();
    if answer.expected.is_some_and(|expected| expected != digest) {
        tracing::warn!(key = %answer.key, "the origin's object is not the one that the FDT describes");
        return Err(FailReason::Verify);
    }
    if !answer.keep {
        return Ok(None);
    }
    let store = &shared.store;
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
        expires: Some(answer.sent.expires),
        class: store.class_of(answer.key.as_str()),
        came_by: CameBy::Origin,
        response: Some(Box::new(answer.sent.response)),
        key: answer.key,
    };
    match store.publish(&frozen, meta) {
        Ok(stored) => Ok(Some(stored)),
        // Its fields are larger than a header page: those who wait have it all the same.
        Err(crate::store::StoreError::MetaTooLarge) => Ok(None),
        Err(_) => Err(FailReason::Store),
    }
}

/// What a name or a type says of how soon an object changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MediaKind {
    /// HLS playlist or DASH MPD.
    Manifest,
    /// Media.
    Segment,
    /// Anything else.
    Other,
}

/// Of an object of this key and type.
pub(super) fn media_kind(key: &ObjectKey, content_type: Option<&str>) -> MediaKind {
    const SEGMENTS: [&str; 12] =
        ["m4s", "mp4", "m4v", "m4a", "cmfv", "cmfa", "cmft", "ts", "aac", "ac3", "webm", "vtt"];
    let path = key.as_str().split(['?', '#']).next().unwrap_or_default();
    let extension = path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |(_, it)| it);
    let essence = content_type.and_then(|it| it.split(';').next()).unwrap_or_default().trim();
    let is = |name: &str| essence.eq_ignore_ascii_case(name);
    let is_manifest = extension.eq_ignore_ascii_case("m3u8")
        || extension.eq_ignore_ascii_case("mpd")
        || is("application/vnd.apple.mpegurl")
        || is("application/x-mpegurl")
        || is("application/dash+xml");
    let starts = |prefix: &str| essence.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix));
    if is_manifest {
        MediaKind::Manifest
    } else if SEGMENTS.iter().any(|it| extension.eq_ignore_ascii_case(it))
        || starts("video/")
        || starts("audio/")
    {
        MediaKind::Segment
    } else {
        MediaKind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_name_or_type() {
        let of =
            |name: &str, content_type| media_kind(&ObjectKey::from_name(name, None).unwrap(), content_type);
        assert_eq!(of("h/a.m3u8?x=1.ts", None), MediaKind::Manifest);
        assert_eq!(of("h/a", Some("Application/DASH+xml; charset=utf-8")), MediaKind::Manifest);
        assert_eq!(of("h/seg1.M4S", Some("application/octet-stream")), MediaKind::Segment);
        assert_eq!(of("h/a", Some("video/mp4")), MediaKind::Segment);
        assert_eq!(of("h/a.ts/x", Some("text/plain")), MediaKind::Other);
    }
}
