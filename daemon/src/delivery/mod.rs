//! Delivery of objects: from announcement over reassembly and repair to the cache.
//!
//! [`Delivery`] is one shard's state machine. It owns its objects and never blocks: datagrams, bytes from origins, results
//! and time go in; work, repair requests, changes and the next deadline come out. It has no socket, file, thread, clock or
//! runtime, so that complete lossy deliveries run in virtual time in unit tests. `DESIGN.md` beside this file has states,
//! deadlines, invariants and limits.

mod budget;
mod counters;
mod filter;
mod live;
mod lls;
mod machine;
mod memory;
mod object;
mod progress;
mod reasons;
mod repair;
mod rules;
mod storage;

#[cfg(test)]
mod tests;

pub use budget::RetryBudget;
pub use counters::{LossCounters, ObjectCounters, Totals};
pub use filter::SessionFilter;
pub use live::Described;
pub use machine::{
    Change, Decode, Decoded, Delivery, MAX_WORK, Options, Restore, SessionStats, VerificationId, Verify, Work,
};
pub use object::State;
pub use progress::{Announced, CarouselSource, FailReason, Flight, Flights, ObjectRef, Outcome, Sent, Spans};
pub use reasons::{GoneReason, RejectReason, RepairError, RepairOutcome};
pub use repair::{MAX_PENDING, RepairRequest, RequestedBytes};
pub use rules::{RuleBook, signalled_urls};
pub use storage::{Lookup, ObjectStore};
