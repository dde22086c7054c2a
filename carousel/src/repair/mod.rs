//! Unicast repair as arithmetic (TS 103 769 clause 9.2): when a receiver asks, and for which bytes. Who asks, and over
//! what, is the daemon's; what a million of them come to, the headend's simulation: both use this.

mod back_off;
mod ranges;

pub use back_off::{ATTEMPTS, BackOff};
pub(crate) use ranges::longest;
pub use ranges::{Gather, holes, joined, requests};
