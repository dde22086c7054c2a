//! Decision which headend sends. Pure: time and answers of the store are arguments; the next request is the result.
//!
//! ```text
//!            unchanged for the duration, released, or absent for the duration
//!   standby ─────────────────────────────────────────────────────────────────▶ write over the version that was read
//!      ▲                                                                                │ written
//!      │ another holder was read                                                        ▼
//!      └──────────────────────────────────────────────────────────────────────────── active: renewed at each interval
//! ```
//!
//! No node trusts another's clock. The holder counts its duration, less a margin, from the *start* of the request that renewed it; the
//! others count the full duration from the *answer* in which they saw that version first. The former is always earlier than the
//! latter, as long as clocks run at the same rate within [`Timing::margin_ns`]; nothing else is assumed of networks, stores or
//! pauses.

use std::collections::VecDeque;

/// Writes of unknown outcome that are remembered; older ones are forgotten.
const REMEMBERED_ATTEMPTS: usize = 8;
/// Attempts to release the lease before the process ends without.
const RELEASE_REQUESTS: u32 = 3;

/// Times of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Time for which a lease that is not renewed excludes others.
    pub duration_ns: u64,
    /// Interval of the holder's renewals, and of the others' reads.
    pub renewal_ns: u64,
}

impl Timing {
    /// Of milliseconds.
    pub const fn of_ms(duration_ms: u64, renewal_ms: u64) -> Self {
        Self { duration_ns: duration_ms * 1_000_000, renewal_ns: renewal_ms * 1_000_000 }
    }

    /// Time by which the holder ends before others may begin: clocks that run 1 % fast and slow differ by 2 % of the duration;
    /// the rest is for the packet that is on its way into the kernel.
    pub const fn margin_ns(self) -> u64 {
        self.duration_ns / 10
    }
}

/// A process that may hold the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its name, for messages.
    pub node: String,
    /// A unique number: after a restart a node is another holder.
    pub instance: u64,
}

/// The lease as it is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// `None`: it was released.
    pub holder: Option<Holder>,
    /// Number of the holder, which grows with every takeover: the fencing token.
    pub generation: u64,
    /// Grows with every attempt to write.
    pub sequence: u64,
}

/// A request to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The lease, and the tag of its version.
    Read,
    /// Writes it, if the version is still that of the tag; without a tag, if there is no document.
    Write {
        /// The document that is written.
        lease: Lease,
        /// Tag of the version that is written over.
        over: Option<String>,
    },
}

/// The next action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Ask the store; its answer goes to [`Core::answered`].
    Ask(Request),
    /// Wait until this time, or for an answer.
    Wait {
        /// Nanoseconds.
        until_ns: u64,
    },
    /// The lease has been released, or was not held.
    Over,
}

/// Answer of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To a read: tag and lease, if there is one.
    Read(Option<(String, Lease)>),
    /// To a write: it was done, and the version has this tag.
    Written(String),
    /// To a write: the version is another one (412).
    Refused,
    /// There was no answer, or none that shows whether a write was done.
    Lost,
}

#[derive(Debug)]
struct ObservedLease {
    tag: Option<String>,
    lease: Option<Lease>,
    /// When an answer had this version for the first time.
    since_ns: u64,
}

#[derive(Debug)]
struct PendingRequest {
    started_ns: u64,
    write: Option<Lease>,
}

/// State of one node.
#[derive(Debug)]
pub struct Core {
    timing: Timing,
    me: Holder,
    seen: Option<ObservedLease>,
    /// The content of the store is not known: after a start, and after a write without an outcome.
    must_read: bool,
    asked: Option<PendingRequest>,
    /// Sequence and start of attempts to write without an outcome.
    attempts: VecDeque<(u64, u64)>,
    /// Highest sequence that was attempted.
    sequence: u64,
    /// Highest generation that was seen: after a removal of the lease, generations continue.
    generation: u64,
    next_ns: u64,
    /// While it holds the lease: until when it may send. May have passed.
    held: Option<OwnLease>,
    ending: Option<u32>,
    takeovers: u64,
}

#[derive(Debug, Clone, Copy)]
struct OwnLease {
    generation: u64,
    until_ns: u64,
    /// Start of the request that renewed it last.
    renewed_ns: u64,
}

impl Core {
    /// A node before its first request.
    pub const fn new(timing: Timing, me: Holder) -> Self {
        Self {
            timing,
            me,
            seen: None,
            must_read: true,
            asked: None,
            attempts: VecDeque::new(),
            sequence: 0,
            generation: 0,
            next_ns: 0,
            held: None,
            ending: None,
            takeovers: 0,
        }
    }

    /// Time up to which this node may send; 0: it may not. Between two calls of [`Core::answered`] it does not change.
    pub fn may_send_until_ns(&self) -> u64 {
        self.held.map_or(0, |held| held.until_ns)
    }

    /// Generation of the lease that it holds, even if its time is over.
    pub fn generation(&self) -> Option<u64> {
        self.held.map(|held| held.generation)
    }

    /// Start of the renewal in force, if it holds the lease.
    pub fn renewed_ns(&self) -> Option<u64> {
        self.held.map(|held| held.renewed_ns)
    }

    /// Arrival of the version that was seen last.
    pub fn seen_since_ns(&self) -> Option<u64> {
        self.seen.as_ref().map(|it| it.since_ns)
    }

    /// The lease as it was seen last.
    pub fn lease(&self) -> Option<&Lease> {
        self.seen.as_ref()?.lease.as_ref()
    }

    /// Number of times that this process took over an existing lease.
    pub const fn takeovers(&self) -> u64 {
        self.takeovers
    }

    /// Brings the next request forward: there is news to write.
    pub fn expedite(&mut self, now_ns: u64) {
        if self.held.is_some() {
            self.next_ns = self.next_ns.min(now_ns);
        }
    }

    /// Ends sending, and releases the lease.
    pub fn end(&mut self, now_ns: u64) {
        self.held = None;
        self.ending = self.ending.or(Some(0));
        self.next_ns = self.next_ns.min(now_ns);
    }

    /// The next action. A returned request counts as sent.
    pub fn next(&mut self, now_ns: u64) -> Next {
        if self.asked.is_some() {
            return Next::Wait { until_ns: u64::MAX };
        }
        if let Some(requests) = self.ending {
            let has_it = !self.attempts.is_empty() || self.seen.as_ref().is_some_and(|it| self.is_mine(it));
            if !has_it || requests >= RELEASE_REQUESTS {
                return Next::Over;
            }
            self.ending = Some(requests + 1);
        } else if now_ns < self.next_ns {
            return Next::Wait { until_ns: self.next_ns };
        }
        let request = match &self.seen {
            Some(seen) if !self.must_read => {
                if self.is_mine(seen) || (self.ending.is_none() && self.is_free(seen, now_ns)) {
                    self.write(seen)
                } else {
                    Request::Read
                }
            }
            _ => Request::Read,
        };
        let write = match &request {
            Request::Read => None,
            Request::Write { lease, .. } => Some(lease.clone()),
        };
        self.sequence = write.as_ref().map_or(self.sequence, |it| it.sequence);
        self.asked = Some(PendingRequest { started_ns: now_ns, write });
        Next::Ask(request)
    }

    /// Handles the answer to the last request.
    pub fn answered(&mut self, now_ns: u64, answer: Answer) {
        let Some(PendingRequest { started_ns, write }) = self.asked.take() else { return };
        match (write, answer) {
            (None, Answer::Read(found)) => self.read(now_ns, found),
            (None, _) => self.next_ns = now_ns.saturating_add(self.timing.renewal_ns),
            (Some(lease), Answer::Written(tag)) => {
                let (is_held, generation) = (lease.holder.is_some(), lease.generation);
                self.generation = self.generation.max(generation);
                self.seen = Some(ObservedLease { tag: Some(tag), lease: Some(lease), since_ns: now_ns });
                self.attempts.clear();
                self.must_read = false;
                if is_held {
                    self.hold(started_ns, generation);
                }
                self.next_ns = started_ns.saturating_add(self.timing.renewal_ns);
            }
            (Some(_), Answer::Refused) => {
                self.must_read = true;
                self.next_ns = now_ns;
            }
            (Some(lease), _) => {
                self.attempts.push_back((lease.sequence, started_ns));
                if self.attempts.len() > REMEMBERED_ATTEMPTS {
                    self.attempts.pop_front();
                }
                self.must_read = true;
                // A slow request is followed by the next one at once, a failed one only after a pause.
                let pause_ns = self.timing.renewal_ns / 4;
                self.next_ns = now_ns.max(started_ns.saturating_add(pause_ns));
            }
        }
    }

    fn read(&mut self, now_ns: u64, found: Option<(String, Lease)>) {
        self.must_read = false;
        let (tag, lease) = found.unzip();
        let is_new = self.seen.as_ref().is_none_or(|seen| seen.tag != tag);
        let attempts = if is_new { std::mem::take(&mut self.attempts) } else { VecDeque::new() };
        if is_new {
            self.seen = Some(ObservedLease { tag, lease, since_ns: now_ns });
        }
        let Some(seen) = &self.seen else { return };
        self.sequence = self.sequence.max(seen.lease.as_ref().map_or(0, |it| it.sequence));
        self.generation = self.generation.max(seen.lease.as_ref().map_or(0, |it| it.generation));
        if self.is_mine(seen) {
            let (sequence, generation) =
                seen.lease.as_ref().map_or((0, 0), |it| (it.sequence, it.generation));
            // One of the writes without an answer was done.
            if let Some((_, started_ns)) = attempts.into_iter().find(|it| it.0 == sequence) {
                self.hold(started_ns, generation);
            }
            self.next_ns = now_ns;
            return;
        }
        // A lease that vanished has no holder, but the former holder may not know yet.
        if seen.lease.is_some() {
            self.held = None;
        }
        let is_released = seen.lease.as_ref().is_some_and(|it| it.holder.is_none());
        let free_ns =
            if is_released { now_ns } else { seen.since_ns.saturating_add(self.timing.duration_ns) };
        self.next_ns = free_ns.min(now_ns.saturating_add(self.timing.renewal_ns));
        if free_ns <= now_ns {
            self.next_ns = now_ns;
        }
    }

    fn is_mine(&self, seen: &ObservedLease) -> bool {
        seen.lease.as_ref().is_some_and(|it| it.holder.as_ref() == Some(&self.me))
    }

    fn is_free(&self, seen: &ObservedLease, now_ns: u64) -> bool {
        let is_released = seen.lease.as_ref().is_some_and(|it| it.holder.is_none());
        is_released || now_ns.saturating_sub(seen.since_ns) >= self.timing.duration_ns
    }

    fn write(&self, seen: &ObservedLease) -> Request {
        let before = seen.lease.as_ref();
        let (generation, sequence) = before.map_or((0, 0), |it| (it.generation, it.sequence));
        let generation = generation.max(self.generation);
        let lease = Lease {
            holder: self.ending.is_none().then(|| self.me.clone()),
            generation: if self.is_mine(seen) { generation } else { generation + 1 },
            sequence: sequence.max(self.sequence) + 1,
        };
        Request::Write { lease, over: seen.tag.clone() }
    }

    /// Records that it was renewed by a request that began at `started_ns`.
    fn hold(&mut self, started_ns: u64, generation: u64) {
        if self.ending.is_some() {
            return;
        }
        let until_ns = started_ns + self.timing.duration_ns - self.timing.margin_ns();
        let before = self.held.filter(|it| it.generation == generation);
        // The very first lease, of generation 1, is not a takeover.
        if before.is_none() && generation > 1 {
            self.takeovers += 1;
        }
        self.held = Some(OwnLease {
            generation,
            until_ns: before.map_or(until_ns, |it| it.until_ns.max(until_ns)),
            renewed_ns: before.map_or(started_ns, |it| it.renewed_ns.max(started_ns)),
        });
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
