//! Delivery of objects: from announcement over reassembly and repair to the cache.

mod progress;

pub use progress::{Announced, Carried, FailReason, Flight, Flights, ObjectRef, Outcome, Sent, Spans};
