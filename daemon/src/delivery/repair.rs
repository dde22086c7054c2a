//! Repair policy: choice, time and end of requests to origins.
//!
//! ```text
//!          stalled / unseen                  timer                    slot                       done
//! (none) ──────────────────▶ waiting ─────────────────▶ due ─────────────────▶ fetching ─────────────────▶ outcome
//!          a client waits ──▶ looking (100 ms) ────────▶                │ failed, attempts left
//!                              waiting ◀──────── back-off ──────────────┘
//! ```
//!
//! Everything here is arithmetic on times that are passed in; requests are made elsewhere.

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
/// Time in which packets show whether the carousel is bringing an object that a client waits for.
pub(super) const LOOK: Duration = Duration::from_millis(100);
/// A client waits so long for the carousel's next pass before an origin is asked: about what asking takes.
pub(super) const CLIENT_PATIENCE: Duration = Duration::from_millis(250);
/// A fetch that has not been reported on counts as failed. Fetches have time limits of their own; this one keeps an object
/// from waiting forever.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(600);

/// Patience with the decoding of blocks whose symbols have come: milliseconds each, behind others'.
pub(super) const DECODING: Duration = Duration::from_secs(5);

/// Kind of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Missing ranges of an object in flight.
    Ranges,
    /// All of an object of which nothing has come.
    Unseen,
}

/// Phase of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Until its timer: back-off, or patience with the carousel.
    Waiting,
    /// Until its timer: whether bytes come, of which there were so many.
    Looking(u64),
    /// For a slot; only ranges that the carousel has passed, or all.
    Due { only_holes: bool },
    /// For the origin, until its timer at most.
    Fetching,
    /// For blocks that are being decoded with what came, until its timer: then the rest is asked for, too.
    Decoding,
    /// All bytes are there: for verification.
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
    /// A client has asked since: the next wait is skipped.
    pub(super) skips_wait: bool,
    pub(super) needed_by: Option<Instant>,
    timer: Option<(Instant, u64)>,
    /// Its place among those that wait for a slot.
    place: Option<Place>,
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
            place: None,
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
    /// Bytes of it that are wanted.
    pub wanted: Wanted,
    /// Failed attempts before this one.
    pub attempt: u32,
    /// A client waits for it until then.
    pub needed_by: Option<Instant>,
}

/// Bytes that an origin is asked for.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Merged ranges, one list for each request. The map says what has come meanwhile.
    Ranges(Vec<Vec<Range<u64>>>, Arc<SymbolMap>),
    /// The complete object as clients get it: it is encoded on the air, or nothing of it has come.
    Complete,
}

/// Order of the objects that wait for a slot: those that a client waits for first, the latest of them before the others; then
/// the rest as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Hurried(std::cmp::Reverse<u64>),
    Usual(u64),
}

/// Timers, queue, budget and outcomes of the repairs of one shard.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    timers: BTreeMap<(Instant, u64), ObjectRef>,
    serial: u64,
    /// Only of tasks that are due: a task that ends takes its place along.
    due: BTreeMap<Place, ObjectRef>,
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

    /// An object whose timer has run out.
    pub(super) fn expired(&mut self, now: Instant) -> Option<ObjectRef> {
        let entry = self.timers.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    /// The object waits for a slot; before others if a client waits for it.
    pub(super) fn push_due(&mut self, object: ObjectRef, task: &mut Task) {
        self.clear_place(task);
        self.serial += 1;
        let place = if task.needed_by.is_some() {
            Place::Hurried(std::cmp::Reverse(self.serial))
        } else {
            Place::Usual(self.serial)
        };
        task.place = Some(place);
        self.due.insert(place, object);
    }

    pub(super) fn pop_due(&mut self) -> Option<ObjectRef> {
        self.due.pop_first().map(|(_, object)| object)
    }

    fn clear_place(&mut self, task: &mut Task) {
        if let Some(place) = task.place.take() {
            self.due.remove(&place);
        }
    }

    #[cfg(test)]
    pub(super) fn due_count(&self) -> usize {
        self.due.len()
    }

    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// The task is over.
    pub(super) fn end(&mut self, mut task: Task, outcome: Option<RepairOutcome>) {
        self.clear_timer(&mut task);
        self.clear_place(&mut task);
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
