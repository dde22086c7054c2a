//! Reasons for which objects leave delivery, and for which repair ends.

use carousel::flute::{AbandonReason, JoinFailure, Refusal};
use carousel::route::RouteFailure;

carousel::reasons! {
    /// Why an object left delivery without being held.
    pub enum GoneReason in "delivery_gone_objects" by "reason" {
        /// No FDT Instance has described it.
        NeverDescribed = "never_described",
        /// Its FDT entry expired, or made room for others, before it was complete.
        Expired = "expired",
        /// Nothing of it has come for a day and a half.
        Silent = "silent",
        /// It made room for another object in flight, being the one that was heard longest ago.
        Displaced = "displaced",
        /// Its name cannot be used, or it is too large for the cache.
        NotWanted = "not_wanted",
        /// The cache had no room for it when it got its name.
        NoRoom = "no_room",
        /// The sender put another object in its place.
        Replaced = "replaced",
        /// A live object: parts of it are missing, or there is no evidence of its end, and its sender has moved on.
        Incomplete = "incomplete",
        /// A live object: its packets or chunks trickle, and it was begun too long ago.
        TooOld = "too_old",
        /// A live object: its memory was needed, as all sessions together held too much.
        OverBudget = "over_budget",
        /// Its session was closed here: forgotten after silence, displaced, or no longer listened to.
        SessionEnded = "session_ended",
        /// It did not pass verification, or could not be published, and is no longer described.
        Rejected = "rejected",
    }
}

impl GoneReason {
    /// The reason for an object of ROUTE that was given up.
    pub(super) const fn of_route(why: RouteFailure) -> Self {
        match why {
            RouteFailure::TooOld => Self::TooOld,
            RouteFailure::OverBudget => Self::OverBudget,
            RouteFailure::Incomplete
            | RouteFailure::Unnamed
            | RouteFailure::Displaced
            | RouteFailure::Replaced
            | RouteFailure::BadEntity
            | RouteFailure::BadSignalling
            | RouteFailure::TooLong => Self::Incomplete,
        }
    }

    /// The reason for a segment that was not joined.
    pub(super) const fn of_joining(why: JoinFailure) -> Self {
        match why {
            JoinFailure::TooOld => Self::TooOld,
            JoinFailure::OverBudget => Self::OverBudget,
            JoinFailure::Incomplete
            | JoinFailure::Displaced
            | JoinFailure::Replaced
            | JoinFailure::TooLong
            | JoinFailure::TooManyChunks => Self::Incomplete,
        }
    }

    /// The reason for an object that the receiver gave up; `None` if it is held already.
    pub(super) const fn of(reason: AbandonReason) -> Option<Self> {
        Some(match reason {
            AbandonReason::NeverDescribed => Self::NeverDescribed,
            AbandonReason::Expired => Self::Expired,
            AbandonReason::Silent => Self::Silent,
            AbandonReason::Displaced => Self::Displaced,
            AbandonReason::Refused(Refusal::NotWanted) => Self::NotWanted,
            AbandonReason::Refused(Refusal::NoRoom) => Self::NoRoom,
            AbandonReason::Refused(Refusal::Held) => return None,
        })
    }
}

carousel::reasons! {
    /// Why a complete object was received again.
    pub enum RejectReason in "delivery_rejected_objects" by "reason" {
        /// Its bytes are not what the FDT describes.
        Verify = "verify",
        /// The store could not take it.
        Store = "store",
        /// The queue for verification was full.
        QueueFull = "queue_full",
        /// Verification did not answer in time.
        Lost = "lost",
    }
}

carousel::reasons! {
    /// Outcomes of repairs.
    pub enum RepairOutcome in "repair_objects" by "outcome" {
        /// The object is complete and verified.
        Repaired = "repaired",
        /// The carousel completed or replaced it, or it expired, before the origin was asked.
        NotNeeded = "not_needed",
        /// No origin is known for it.
        NoOrigin = "no_origin",
        /// The origin could not be reached, or broke off, at each attempt.
        OriginFailed = "origin_failed",
        /// The origin does not have it.
        Refused = "refused",
        /// With the origin's bytes the object is not what the FDT describes: they are of another version.
        Mismatch = "mismatch",
        /// Too many objects were waiting for repair.
        TooMany = "too_many",
    }
}

/// Why an attempt at a repair brought nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepairError {
    /// No origin is known for the object.
    NoOrigin,
    /// The origin does not have it.
    Refused,
    /// Bytes of the origin that are not those that the FDT describes.
    Mismatch,
    /// The object is held already, or another took its place.
    NotNeeded,
    /// The origin could not be reached, or broke off.
    Failed,
    /// The origin was not asked, because its circuit is open.
    CircuitOpen,
}
