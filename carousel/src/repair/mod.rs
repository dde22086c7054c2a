//! Decisions of unicast repair (TS 103 769 clause 9.2), as arithmetic: when a receiver requests, and which bytes. The
//! daemon makes the requests; the headend's simulation adds up those of a million receivers. Both use this module.

mod back_off;
mod ranges;

pub use back_off::{ATTEMPTS, BackOff};
pub(crate) use ranges::longest;
pub use ranges::{Gather, holes, joined, requests};
