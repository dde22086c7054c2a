//! Range fills: objects of which clients request only parts. Only the requested ranges are fetched, and they are stored.
//!
//! [`crate::delivery::Spans`] keeps which ranges have arrived; this module fetches missing ranges and publishes complete objects.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use carousel::name::ObjectKey;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};

use super::error::OriginError;
use super::fetch::{Answer, sent};
use super::fill::{Filler, ForwardReason, Passed};
use super::message::{Question, Reply};
use super::options::SurrogateFields;
use super::ranges::parse_content_range;
use super::watch::{Audience, Watch};
use crate::caching::{self, Keep, Validators};
use crate::clock;
use crate::delivery::{FailReason, Flight, Outcome};

carousel::limits! {
    /// Flights of which only ranges have come.
    pub(super) const MAX_IN_RANGES: usize = 64, "flights" {
        why: "Each holds room on the disk for its whole object.",
        full: "The range is passed on and not kept.",
        free: "When an object is complete, or was not requested for two minutes.",
        test: "flights_in_ranges_are_bounded_and_a_place_comes_back",
    }
}

/// Maximum attempts for a range whose body breaks off.
const ATTEMPTS: u32 = 3;
/// Maximum responses for a range, if each has less than was requested: parts of 64 KiB of a segment of 256 MiB.
const PARTS: u32 = 4096;
/// Bytes before the requested range that are received in vain if an origin sends whole blocks.
const SKIPPED_BYTES: u64 = 4 << 20;

/// Time without requests after which the ranges of an object are given up to free their room.
const IDLE: Duration = Duration::from_secs(120);

/// Result of a request for a range.
#[derive(Debug)]
pub enum SpanResult {
    /// The range is being received, or is no longer needed: check the flight.
    Begun,
    /// The object has too many ranges, or the flight has ended: the player's request is made separately.
    Full,
    /// The origin refuses it to this player, with this response.
    Refused(Box<Passed>),
    /// The origin did not answer.
    Failed(OriginError),
}

/// Range of a 206, and the complete length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) span: Range<u64>,
    pub(super) length: u64,
}

impl Part {
    /// Range of a 206. `None`: it is not one part of a known length, or contradicts itself (RFC 9110 section 14.4).
    pub(super) fn of(fields: &HeaderMap) -> Option<Self> {
        let range = caching::text(fields, header::CONTENT_RANGE)?;
        let length: u64 = range.rsplit_once('/')?.1.trim().parse().ok()?;
        let span = parse_content_range(range).filter(|span| span.end <= length)?;
        let is_right = match caching::text(fields, header::CONTENT_LENGTH) {
            Some(said) => said.trim().parse::<u64>().is_ok_and(|said| said == span.end - span.start),
            None => true,
        };
        is_right.then_some(Self { span, length })
    }

    /// Whether a response has exactly this part, and is certainly of this version.
    pub(super) fn is_sent(&self, status: StatusCode, fields: &HeaderMap, version: &Validators) -> bool {
        status == StatusCode::PARTIAL_CONTENT
            && Self::of(fields).as_ref() == Some(self)
            && version.same_version(&Validators::of(fields))
    }

    /// The range that a response has if it contains the first byte of this part, and is certainly of this version. An origin may
    /// send less than was requested, or more (RFC 9110 sections 14.2 and 15.3.7).
    pub(super) fn begin_is_sent(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        version: &Validators,
    ) -> Option<Range<u64>> {
        let sent = Self::of(fields).filter(|_| status == StatusCode::PARTIAL_CONTENT)?;
        let start = self.span.start;
        let is_usable = sent.length == self.length
            && sent.span.contains(&start)
            && start - sent.span.start <= SKIPPED_BYTES
            && version.same_version(&Validators::of(fields));
        is_usable.then_some(sent.span)
    }

    /// Whether it covers the complete object.
    pub(super) const fn is_whole(&self) -> bool {
        self.span.start == 0 && self.span.end == self.length
    }
}

impl Filler {
    /// Opens an object of which an origin sends a range: room for all of it, and a claim for this range. `None` if
    /// further ranges could not be combined with it: no strong validator, or too many such objects.
    pub(super) fn open_spans(
        &self,
        key: &ObjectKey,
        url: &str,
        fields: &HeaderMap,
        part: &Part,
        keep: Keep,
        surrogate_fields: SurrogateFields,
    ) -> Option<Arc<Flight>> {
        let in_ranges = self.shared.flights.list().iter().filter(|it| it.spans().is_some()).count();
        if in_ranges >= MAX_IN_RANGES {
            return None;
        }
        let mut fields = fields.clone();
        fields.remove(header::CONTENT_RANGE);
        let (_, sent) = sent(StatusCode::OK, &fields, Some(keep), surrogate_fields);
        let place = self.place_of(key, &sent.response.selecting);
        let placement = self.placement(&place, sent.expires, true);
        let partial = Arc::new(self.shared.store.create(part.length, placement).ok()?);
        let content_type = caching::text(&fields, header::CONTENT_TYPE).map(str::to_owned);
        let flight = Flight::of_spans(place, content_type, part.length, url, sent, partial, clock::now());
        let flight = Arc::new(flight);
        flight.spans()?.claim(part.span.clone())?;
        self.shared.flights.add(Arc::clone(&flight)).ok()?;
        Some(flight)
    }

    /// Ensures that `range` of an object in ranges is being fetched, with the fields of the request that needs it. Waits
    /// for the origin's answer if the beginning of the range is not in progress yet.
    pub async fn want(
        self: &Arc<Self>,
        flight: &Arc<Flight>,
        range: Range<u64>,
        fields: &HeaderMap,
    ) -> SpanResult {
        let Some(spans) = flight.spans() else { return SpanResult::Begun };
        spans.touch(clock::now());
        // Claim all before requesting any: a refusal releases its range, which must not be claimed here again.
        let claimed: Vec<_> = std::iter::from_fn(|| spans.claim(range.clone())).collect();
        let mut first = None;
        for span in claimed {
            let is_first = span.start == range.start;
            let (filler, flight, fields) = (Arc::clone(self), Arc::clone(flight), fields.clone());
            // Continues after the player has left.
            let begun = self.runtime.spawn(async move { filler.begin_span(flight, span, fields).await });
            if is_first {
                first = Some(begun);
            }
        }
        match first {
            Some(begun) => begun.await.unwrap_or(SpanResult::Begun),
            None if spans.is_expected(range.start) => SpanResult::Begun,
            None => SpanResult::Full,
        }
    }

    /// Requests a claimed range, and receives it in a separate task.
    async fn begin_span(
        self: Arc<Self>,
        flight: Arc<Flight>,
        span: Range<u64>,
        fields: HeaderMap,
    ) -> SpanResult {
        let Some(spans) = flight.spans() else { return SpanResult::Begun };
        let (reply, sent) = match self.ask_span(&flight, &span, &fields).await {
            Ok(sent) => sent,
            Err(result) => {
                spans.release(&span);
                flight.progress();
                return result;
            }
        };
        let (filler, receiving) = (Arc::clone(&self), Arc::clone(&flight));
        self.runtime.spawn(async move { filler.receive_span(reply, sent, &receiving, span, fields).await });
        SpanResult::Begun
    }

    /// Requests a range of the version received so far. Also returns the range that the origin sends, which contains the first byte.
    /// Another version ends the flight: versions are never mixed, and the ranges of this one are useless.
    async fn ask_span(
        &self,
        flight: &Arc<Flight>,
        span: &Range<u64>,
        fields: &HeaderMap,
    ) -> Result<(Reply, Range<u64>), SpanResult> {
        let (Some(spans), Some(sent), Some(length)) = (flight.spans(), &flight.sent, flight.length) else {
            return Err(SpanResult::Begun);
        };
        let version = Validators::of(&sent.response.fields());
        let mut headers = fields.clone();
        if let Ok(range) = HeaderValue::from_str(&format!("bytes={}-{}", span.start, span.end - 1)) {
            headers.insert(header::RANGE, range);
        }
        if let Some(validator) = version.if_range() {
            headers.insert(header::IF_RANGE, validator);
        }
        let question = Question::get(headers, false);
        let reply = self.client.ask(spans.url(), question).await.map_err(SpanResult::Failed)?;
        if !reply.status.is_success() {
            let headers = super::fetch::dated(&reply.headers);
            return Err(SpanResult::Refused(Box::new(Passed {
                headers,
                reply,
                why: None,
                forwarded: ForwardReason::Miss,
            })));
        }
        let wanted = Part { span: span.clone(), length };
        if let Some(sent) = wanted.begin_is_sent(reply.status, &reply.headers, &version) {
            return Ok((reply, sent));
        }
        self.shared.flights.end(flight, Outcome::Failed(FailReason::Replaced));
        Err(SpanResult::Begun)
    }

    /// Receives one range, of which the origin sends `sent`. Requests the rest if that is less, or its body breaks off. The range
    /// that completes the object publishes it.
    pub(super) async fn receive_span(
        &self,
        mut reply: Reply,
        mut sent: Range<u64>,
        flight: &Arc<Flight>,
        span: Range<u64>,
        fields: HeaderMap,
    ) {
        let (Some(spans), Some(length)) = (flight.spans(), flight.length) else { return };
        let mut watch = Watch::new(Audience::Players, flight.partial(), flight);
        let made_at = reply.made_at();
        let (mut offset, mut attempts) = (span.start, 0);
        for parts in 1.. {
            let part_end = sent.end.min(span.end);
            offset = self.receive_part(&mut reply, &sent, flight, offset..part_end, &mut watch).await;
            if offset < part_end {
                attempts += 1;
            }
            let is_over = flight.outcome().is_some() || watch.is_over(offset);
            if offset >= span.end || attempts >= ATTEMPTS || parts >= PARTS || is_over {
                break;
            }
            let Ok(next) = self.ask_span(flight, &(offset..span.end), &fields).await else { break };
            (reply, sent) = next;
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
                is_framed: true,
                expected: None,
                audience: Audience::Players,
                implicit_age_s: None,
                only_manifest: false,
                unusual: Vec::new(),
                requested_at: sent.received_at,
                made_at,
            };
            let outcome = self.publish(answer, length, Arc::clone(flight.partial())).await;
            self.shared.flights.end(flight, outcome);
        }
    }

    /// Receives bytes of a range from a body that has `sent`, until it is complete or the body ends; returns the end of the received
    /// bytes.
    async fn receive_part(
        &self,
        reply: &mut Reply,
        sent: &Range<u64>,
        flight: &Flight,
        span: Range<u64>,
        watch: &mut Watch<'_>,
    ) -> u64 {
        let (mut offset, mut position) = (span.start, sent.start);
        while offset < span.end
            && !watch.is_over(offset)
            && let Ok(Some(piece)) = reply.next().await
        {
            self.client.count_bytes(piece.len());
            let piece_at = position;
            position += piece.len() as u64;
            // A body that is longer than it says is not what it says.
            if position > sent.end {
                break;
            }
            let end = position.min(span.end);
            if end <= offset {
                continue;
            }
            let wanted = &piece[(offset - piece_at) as usize..(end - piece_at) as usize];
            if flight.partial().write_at(offset, wanted).is_err() {
                break;
            }
            if let Some(spans) = flight.spans() {
                spans.arrive(offset..end);
            }
            offset = end;
            flight.progress();
        }
        offset
    }

    /// Periodically ends objects in ranges that are no longer requested.
    pub async fn forget_idle(self: Arc<Self>) {
        loop {
            tokio::time::sleep(IDLE / 4).await;
            for flight in self.shared.flights.list() {
                let is_idle = flight.spans().is_some_and(|spans| clock::now().since(spans.touched()) > IDLE);
                let is_stale = flight
                    .sent
                    .as_ref()
                    .is_some_and(|sent| clock::left_ms(sent.received_at, sent.expires) < 0);
                if flight.spans().is_some() && (is_idle || is_stale) {
                    self.shared.flights.end(&flight, Outcome::Failed(FailReason::Abandoned));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_says_what_it_is_or_is_none() {
        let of = |range: &str, length: Option<&str>| {
            let mut fields = vec![("content-range", range)];
            fields.extend(length.map(|length| ("content-length", length)));
            Part::of(&caching::from_pairs(fields))
        };
        assert_eq!(of("bytes 2-4/9", Some("3")), Some(Part { span: 2..5, length: 9 }));
        assert!(of("bytes 0-8/9", None).unwrap().is_whole() && !of("bytes 0-7/9", None).unwrap().is_whole());
        for (range, length) in [
            ("bytes 2-4/*", None),
            ("bytes 2-9/9", None),
            ("bytes 4-2/9", None),
            ("bytes */9", None),
            ("items 2-4/9", None),
            ("bytes 2-4/9", Some("4")),
        ] {
            assert_eq!(of(range, length), None, "{range} {length:?}");
        }
    }
}
