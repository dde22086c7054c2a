//! Repair policy: choice, time and end of requests to origins.
//!
//! ```text
//!          stalled / unseen                  timer                    slot                       done
//! (none) ──────────────────▶ waiting ─────────────────▶ due ─────────────────▶ fetching ─────────────────▶ outcome
//!          a client waits ──▶ looking (100 ms) ────────▶                │ failed, attempts left
//!                              waiting ◀──────── back-off ──────────────┘
//! ```
//!
//! Pure: times are arguments, and requests are made elsewhere.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use carousel::fec::SymbolMap;
use carousel::flute::File;
use carousel::repair::BackOff;
use carousel::time::Instant;

use super::ObjectRef;
use super::budget::RetryBudget;
use super::reasons::RepairOutcome;

carousel::limits! {
    /// Objects of one shard that wait for their repair.
    pub const MAX_PENDING: usize = 4096, "objects" {
        why: "More than a link interrupted for a minute leaves incomplete; some 100 bytes each.",
        full: "The repair ends as `too_many`, and the carousel's next pass must do.",
        free: "When a repair ends, at the latest when its fetch counts as failed after 600 s.",
        test: "repairs_beyond_the_limit_are_counted_and_their_places_come_free",
    }
}
/// Observation time for an object that a client waits for: if its packets come, the carousel is sending it now.
pub(super) const LOOK: Duration = Duration::from_millis(100);
/// Longest wait of a client for the carousel's next pass before an origin is asked: about the duration of a request.
pub(super) const CLIENT_PATIENCE: Duration = Duration::from_millis(250);
/// A fetch without a result after this time counts as failed. Fetches have their own time limits; this one covers lost
/// results.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(600);

/// Time limit for decoding blocks whose symbols have arrived: each takes milliseconds, after those queued before.
pub(super) const DECODING: Duration = Duration::from_secs(5);

/// Kind of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Missing ranges of an object in flight.
    Ranges,
    /// An object of which nothing has been received.
    Unseen,
}

/// Phase of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for its timer: back-off, or the carousel's next pass.
    Waiting,
    /// Waits for its timer to see whether bytes arrive; holds the number of bytes received at the start.
    Looking(u64),
    /// Waits for a slot. `only_holes`: only ranges that the carousel has already passed are requested.
    Due { only_holes: bool },
    /// Waits for the origin, until its timer at most.
    Fetching,
    /// Waits for blocks that are being decoded; at its timer the remaining ranges are requested as well.
    Decoding,
    /// All bytes are there; waits for verification.
    Settling,
}

/// The repair of one object.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) kind: Kind,
    pub(super) phase: Phase,
    pub(super) attempt: u32,
    /// A client waited when it began.
    pub(super) is_hurried: bool,
    /// A client has requested the object since: the next wait is skipped.
    pub(super) skips_wait: bool,
    pub(super) needed_by: Option<Instant>,
    timer: Option<(Instant, u64)>,
    /// Its position in the queue for a slot.
    position: Option<QueuePosition>,
}

impl Task {
    pub(super) const fn new(kind: Kind, needed_by: Option<Instant>) -> Self {
        Self {
            kind,
            phase: Phase::Waiting,
            attempt: 0,
            is_hurried: needed_by.is_some(),
            skips_wait: false,
            needed_by,
            timer: None,
            position: None,
        }
    }
}

/// Request to an origin.
#[derive(Debug, Clone)]
pub struct RepairRequest {
    /// The object.
    pub object: ObjectRef,
    /// Its description.
    pub file: Arc<File>,
    /// The bytes to request.
    pub requested: RequestedBytes,
    /// Failed attempts before this one.
    pub attempt: u32,
    /// Deadline of the client that waits for it, if any.
    pub needed_by: Option<Instant>,
}

/// Bytes to request from an origin.
#[derive(Debug, Clone)]
pub enum RequestedBytes {
    /// Merged ranges, one list for each request. The map shows what has been received since.
    Ranges(Vec<Vec<Range<u64>>>, Arc<SymbolMap>),
    /// The complete object as clients get it: it is content-encoded on the link, or nothing of it has been received.
    Complete,
}

/// Order of objects that wait for a slot: first those that a client waits for, newest first; then the rest in order of
/// arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum QueuePosition {
    Urgent(std::cmp::Reverse<u64>),
    Normal(u64),
}

/// Timers, queue, budget and outcomes of the repairs of one shard.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    timers: BTreeMap<(Instant, u64), ObjectRef>,
    serial: u64,
    /// Tasks that are due, in order; a task that ends removes its entry.
    due: BTreeMap<QueuePosition, ObjectRef>,
    pub(super) tasks: usize,
    pub(super) budget: RetryBudget,
    pub(super) outcomes: [u64; RepairOutcome::ALL.len()],
}

impl Repairs {
    pub(super) fn set_timer(&mut self, object: ObjectRef, task: &mut Task, at: Instant) {
        self.clear_timer(task);
        self.serial += 1;
        task.timer = Some((at, self.serial));
        self.timers.insert((at, self.serial), object);
    }

    pub(super) fn clear_timer(&mut self, task: &mut Task) {
        if let Some(timer) = task.timer.take() {
            self.timers.remove(&timer);
        }
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes an object whose timer has expired.
    pub(super) fn expired(&mut self, now: Instant) -> Option<ObjectRef> {
        let entry = self.timers.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    /// Queues the object for a slot; before others if a client waits for it.
    pub(super) fn push_due(&mut self, object: ObjectRef, task: &mut Task) {
        self.clear_position(task);
        self.serial += 1;
        let position = if task.needed_by.is_some() {
            QueuePosition::Urgent(std::cmp::Reverse(self.serial))
        } else {
            QueuePosition::Normal(self.serial)
        };
        task.position = Some(position);
        self.due.insert(position, object);
    }

    pub(super) fn pop_due(&mut self) -> Option<ObjectRef> {
        self.due.pop_first().map(|(_, object)| object)
    }

    fn clear_position(&mut self, task: &mut Task) {
        if let Some(position) = task.position.take() {
            self.due.remove(&position);
        }
    }

    #[cfg(test)]
    pub(super) fn due_count(&self) -> usize {
        self.due.len()
    }

    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Removes the task and counts its outcome.
    pub(super) fn end(&mut self, mut task: Task, outcome: Option<RepairOutcome>) {
        self.clear_timer(&mut task);
        self.clear_position(&mut task);
        self.tasks -= 1;
        if let Some(outcome) = outcome {
            self.count(outcome);
        }
    }

    pub(super) const fn count(&mut self, outcome: RepairOutcome) {
        self.outcomes[outcome as usize] += 1;
    }
}

/// The wait before attempt number `attempt`.
pub(super) fn wait(task: &mut Task, back_off: BackOff, random: u64) -> Duration {
    let is_skipped = std::mem::take(&mut task.skips_wait) || (task.attempt == 0 && task.is_hurried);
    if is_skipped { Duration::ZERO } else { back_off.wait(task.attempt, random) }
}
