//! Traces of OpenTelemetry: the path of a request from a player through the box to its origin. Behind the feature `otlp`.
//!
//! ```text
//! GET /vod/            SERVER    from the request's head to the last byte of its response
//! ├ wait for the link  INTERNAL  what the carousel is about to bring
//! └ fetch              INTERNAL  until the origin's answer is known; of several requests for one object the first one fetches,
//!   │                            and the others' spans are linked to its span
//!   └ GET              CLIENT    one for each attempt at a parent or an origin, to the last byte; its id is in `traceparent`
//! ```
//!
//! [`Tracer::begin`] decides whether a request is traced: as a trusted client's `traceparent` says, otherwise by chance. A
//! response from the cache that needs no other request is traced only as part of a trusted client's trace. Spans wait in a
//! bounded queue for the task of `export.rs`, which sends them; nothing waits for a collector, and spans that it does not take
//! are dropped and counted.
//!
//! Without the feature, types have no size and functions do nothing.

mod options;

#[cfg(feature = "otlp")]
mod export;
#[cfg(feature = "otlp")]
mod live;
#[cfg(not(feature = "otlp"))]
mod none;

use std::sync::atomic::AtomicU64;

use carousel::reason::Counts;
use http::Method;

#[cfg(feature = "otlp")]
pub use export::{ExportTask, check, start};
#[cfg(all(test, feature = "otlp"))]
pub(crate) use live::tests::tracer as testing_tracer;
#[cfg(feature = "otlp")]
pub use live::{Span, Trace, Tracer};
#[cfg(not(feature = "otlp"))]
pub use none::{ExportTask, Span, Trace, Tracer, check, start};
pub use options::Traces;

/// Why a collector would get no traces.
#[derive(Debug)]
pub struct Fault {
    /// Key of `[traces]`, with its value.
    pub about: String,
    /// Description.
    pub what: String,
    /// Fix.
    pub fix: String,
}

/// Whether this program can send traces.
pub const HAS_TRACES: bool = cfg!(feature = "otlp");
/// Message of a program without them of a configuration with `[traces]`.
pub const MISSING: &str = "[traces]: this program is built without OpenTelemetry; fix: install the package for servers, or build with --features otlp";

carousel::reasons! {
    /// Why spans did not get to the collector.
    pub enum SpanDrop in "traces_dropped" by "reason" {
        /// Too many waited.
        QueueFull = "queue_full",
        /// No answer came, several times.
        Unreachable = "unreachable",
        /// The collector answered with an error.
        Refused = "refused",
        /// The collector took a part of what was sent, and not these.
        Rejected = "rejected",
        /// `headers_file` or `ca` cannot be read.
        Credentials = "credentials",
        /// The daemon ended before the collector had taken it.
        Ended = "ended",
    }
}

/// A method as attributes have it: unregistered methods are one word.
pub fn known(method: &Method) -> &str {
    match method.as_str() {
        "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH" => {
            method.as_str()
        }
        _ => "_OTHER",
    }
}

/// Counters.
#[derive(Debug, Default)]
pub struct TraceStats {
    /// Spans that the collector has taken.
    pub sent: AtomicU64,
    /// Spans that were dropped.
    pub dropped: Counts<SpanDrop>,
}
