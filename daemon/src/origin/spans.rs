//! Objects of which players have asked for ranges only: no more is fetched than they need, and what was fetched is kept.
//!
//! What has come is in [`crate::delivery::Spans`]; here is who fetches what is missing, and who publishes the whole.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use carousel::name::ObjectKey;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use super::client::{Question, Reply, no_body};
use super::fetch::{Answer, sent};
use super::fill::Filler;
use super::ranges::parse_content_range;
use crate::caching::{self, Keep, Validators};
use crate::clock;
use crate::delivery::{FailReason, Flight, Outcome};

/// Flights of which only ranges have come. Each holds room for its whole object.
const MAX_IN_RANGES: usize = 64;
/// Times that a range is asked for before those who wait for it are told that it does not come.
const ATTEMPTS: u32 = 3;

/// Ranges of an object that nobody has asked for since are given up after this time: they hold room.
const IDLE: Duration = Duration::from_secs(120);

impl Filler {
    /// An object of which an origin sends a range: room for all of it, and the range that comes now. `None` if what is
    /// missing could not be put beside it: no strong validator, no known length, too many.
    pub(super) fn open_spans(
        &self,
        key: &ObjectKey,
        url: &str,
        fields: &HeaderMap,
        keep: Keep,
    ) -> Option<(Arc<Flight>, Range<u64>)> {
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
        let flight = Flight::of_spans(key.clone(), content_type, length, url, sent, partial, clock::now());
        let flight = Arc::new(flight);
        flight.spans()?.claim(span.clone())?;
        self.shared.flights.add(Arc::clone(&flight)).ok()?;
        Some((flight, span))
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
        let fields = sent.response.fields();
        let mut headers = HeaderMap::new();
        if let Ok(range) = HeaderValue::from_str(&format!("bytes={}-{}", span.start, span.end - 1)) {
            headers.insert(header::RANGE, range);
        }
        if let Some(etag) = fields.get(header::ETAG) {
            headers.insert(header::IF_RANGE, etag.clone());
        }
        for _ in 0..ATTEMPTS {
            let question = Question {
                method: Method::GET,
                headers: headers.clone(),
                body: no_body(),
                on_interim: None,
                follows_redirects: false,
            };
            let Ok(reply) = self.client.ask(spans.url(), question).await else { continue };
            let range = caching::text(&reply.headers, header::CONTENT_RANGE).and_then(parse_content_range);
            let is_same = reply.headers.get(header::ETAG) == fields.get(header::ETAG);
            if reply.status == StatusCode::PARTIAL_CONTENT && range.as_ref() == Some(&span) && is_same {
                self.receive_span(reply, flight, span).await;
                return;
            }
            if reply.status.is_success() {
                // Another version by now: what has come of this one helps nobody.
                self.shared.flights.end(flight, Outcome::Failed(FailReason::Replaced));
                return;
            }
        }
        spans.release(&span);
        flight.progress();
    }

    /// Receives one range; the one that makes the object whole publishes it.
    pub(super) async fn receive_span(&self, mut reply: Reply, flight: &Arc<Flight>, span: Range<u64>) {
        let (Some(spans), Some(length)) = (flight.spans(), flight.length) else { return };
        let mut offset = span.start;
        while let Ok(Some(piece)) = reply.next().await {
            self.client.count_bytes(piece.len());
            let end = offset + piece.len() as u64;
            if end > span.end || flight.partial().write_at(offset, &piece).is_err() {
                break;
            }
            spans.arrive(offset..end);
            offset = end;
            flight.progress();
        }
        spans.release(&span);
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
                implicit_age_s: None,
            };
            let outcome = self.publish(answer, length, Arc::clone(flight.partial())).await;
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
