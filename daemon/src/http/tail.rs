//! Continuation of live segments from the origin, when the carousel breaks them off while a player reads them.
//!
//! The player has the beginning of a response of unknown length. The response continues seamlessly, or is cut; it never ends
//! early as if it were complete. The request to the origin overlaps the end of the bytes sent: these must be equal, otherwise
//! its segment is another one. An origin that does not have the segment yet is asked again until the deadline, while the
//! carousel may still bring the rest.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carousel::reason::Counts;
use http::{HeaderMap, StatusCode, header};
use tokio::sync::mpsc;

use super::head::put;
use crate::caching;
use crate::clock;
use crate::delivery::{FailReason, Flight, Outcome};
use crate::origin::{Filler, Passed, Question, parse_content_range};

/// Bytes at the end of what was sent that the origin must repeat.
pub(super) const OVERLAP_BYTES: usize = 1024;
/// Interval between requests for a segment that the origin does not have yet.
const AGAIN: Duration = Duration::from_millis(300);
/// Deadline in target durations after the bytes stopped.
const DEADLINE_TARGETS: u64 = 2;

carousel::reasons! {
    /// End of a live segment that the carousel broke off while a player read it.
    pub enum TailEnd in "live_broken_off_segments" by "end" {
        /// The origin has brought the rest.
        Continued = "continued",
        /// The carousel has gone on after all.
        Resumed = "resumed",
        /// The origin has another segment of this name: the response was cut.
        Differs = "differs",
        /// The bytes of the carousel proved wrong: the response was cut.
        Wrong = "wrong",
        /// The origin did not have it before its deadline, or broke off too: the response was cut.
        Unavailable = "unavailable",
    }
}

/// Source of the rest of a segment.
#[derive(Debug)]
pub(super) struct Tail {
    filler: Arc<Filler>,
    url: String,
    headers: HeaderMap,
    target_ms: u64,
    ends: Arc<Counts<TailEnd>>,
}

/// Reason for which the origin's part cannot be used.
enum Unusable {
    /// The origin does not have it yet.
    NotYet,
    /// The origin has another segment.
    Differs,
}

impl Tail {
    pub(super) const fn new(
        filler: Arc<Filler>,
        url: String,
        headers: HeaderMap,
        target_ms: u64,
        ends: Arc<Counts<TailEnd>>,
    ) -> Self {
        Self { filler, url, headers, target_ms, ends }
    }

    /// Time for which the carousel may be silent within a segment.
    pub(super) const fn patience(&self) -> Duration {
        Duration::from_millis(self.target_ms / 2)
    }

    /// Sends the bytes from `offset` on. `last`: the bytes before it. False: the carousel has resumed.
    ///
    /// # Errors
    /// The response must be cut; `None`: for the reason for which the carousel was given up.
    pub(super) async fn rest(
        &self,
        flight: &Arc<Flight>,
        offset: u64,
        last: &Bytes,
        sender: &mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<bool, Option<io::Error>> {
        if matches!(flight.outcome(), Some(Outcome::Failed(FailReason::Verify))) {
            self.ends.add(TailEnd::Wrong);
            return Err(None);
        }
        let deadline = tokio::time::Instant::now() + Duration::from_millis(DEADLINE_TARGETS * self.target_ms);
        loop {
            match self.ask(offset, last).await {
                Ok((first, passed)) => {
                    tracing::debug!(key = %flight.key, offset, "a live segment was broken off: the origin has the rest");
                    let sent = forward(first, passed, sender).await;
                    self.ends.add(if sent.is_ok() { TailEnd::Continued } else { TailEnd::Unavailable });
                    return sent.map(|()| true).map_err(Some);
                }
                Err(Unusable::Differs) => {
                    self.ends.add(TailEnd::Differs);
                    return Err(None);
                }
                Err(Unusable::NotYet) => {}
            }
            if flight.available_from(offset) > offset
                || matches!(flight.outcome(), Some(Outcome::Complete(_)))
            {
                self.ends.add(TailEnd::Resumed);
                return Ok(false);
            }
            let is_over = flight.is_lost(clock::now()) && self.filler.is_left_alone(&self.url);
            if is_over || tokio::time::Instant::now() >= deadline {
                self.ends.add(TailEnd::Unavailable);
                return Err(None);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The origin's response after comparison of the bytes before `offset`, and the part of the rest that arrived with
    /// them.
    async fn ask(&self, offset: u64, last: &Bytes) -> Result<(Bytes, Passed), Unusable> {
        let begin = offset - last.len() as u64;
        let mut headers = self.headers.clone();
        for condition in [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_RANGE] {
            headers.remove(condition);
        }
        put(&mut headers, header::ACCEPT_ENCODING, "identity");
        put(&mut headers, header::RANGE, &format!("bytes={begin}-"));
        let question = Question::get(headers, true);
        let mut passed = self.filler.pass(&self.url, question).await.map_err(|_| Unusable::NotYet)?;
        let encoding = caching::text(&passed.headers, header::CONTENT_ENCODING);
        if encoding.is_some_and(|it| !it.eq_ignore_ascii_case("identity")) {
            return Err(Unusable::Differs);
        }
        // Bytes of the response before the compared ones.
        let before = match passed.reply.status {
            StatusCode::PARTIAL_CONTENT => {
                let range =
                    caching::text(&passed.headers, header::CONTENT_RANGE).and_then(parse_content_range);
                if range.is_none_or(|it| it.start != begin) {
                    return Err(Unusable::Differs);
                }
                0
            }
            StatusCode::OK => begin,
            _ => return Err(Unusable::NotYet),
        };
        let mut overlap = Overlap { before, left: last.clone() };
        while !overlap.is_over() {
            let Ok(Some(piece)) = passed.reply.next().await else { return Err(Unusable::NotYet) };
            let rest = overlap.passed(piece).ok_or(Unusable::Differs)?;
            if !rest.is_empty() {
                return Ok((rest, passed));
            }
        }
        Ok((Bytes::new(), passed))
    }
}

/// The beginning of the origin's response: bytes to skip, and bytes that must equal those sent.
struct Overlap {
    before: u64,
    left: Bytes,
}

impl Overlap {
    const fn is_over(&self) -> bool {
        self.before == 0 && self.left.is_empty()
    }

    /// Bytes of the next piece after the compared ones. `None`: it differs.
    fn passed(&mut self, mut piece: Bytes) -> Option<Bytes> {
        let left_out = usize::try_from(self.before).unwrap_or(usize::MAX).min(piece.len());
        drop(piece.split_to(left_out));
        self.before -= left_out as u64;
        let same = self.left.split_to(piece.len().min(self.left.len()));
        (piece.split_to(same.len()) == same).then_some(piece)
    }
}

async fn forward(
    first: Bytes,
    mut passed: Passed,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let mut next = Some(first);
    while let Some(piece) = next {
        if !piece.is_empty() && sender.send(Ok(piece)).await.is_err() {
            return Ok(());
        }
        next = passed.reply.next().await.map_err(|err| io::Error::other(err.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_goes_on_behind_what_was_sent_or_differs() {
        let whole = b"0123456789";
        for length in 1..=whole.len() {
            for before in [0, 3] {
                let mut overlap = Overlap { before, left: Bytes::from_static(&whole[before as usize..6]) };
                let mut rest = Vec::new();
                for piece in whole.chunks(length) {
                    rest.extend_from_slice(&overlap.passed(Bytes::from_static(piece)).unwrap());
                }
                assert!(overlap.is_over() && rest == b"6789", "{length} {before} {rest:?}");
                let mut other = Overlap { before, left: Bytes::from_static(b"45x") };
                let differs = whole.chunks(length).any(|it| other.passed(Bytes::from_static(it)).is_none());
                assert!(differs, "{length} {before}");
            }
        }
        assert!(Overlap { before: 0, left: Bytes::new() }.is_over(), "nothing was sent");
    }
}
