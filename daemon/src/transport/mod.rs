//! Transport streams and baseband frames: from a tuner, a network or a recording to objects in the cache.
//!
//! ```text
//! input: UDP, RTP, SAT>IP, DVB adapter, file
//!   │ packets or frames (one thread a stream)
//! Feed: Multiplex ─┬ carousel sections ─ dsmcc::Receiver ─ whole files ─▶ store
//!                  └ IP packets (MPE, GSE) ─ batches ─▶ the shards that have their groups
//! ```
//!
//! What travels as IP goes the way of all IP: the same sessions, receivers, repair. What travels as modules is put together
//! here and published when whole; there is no way to ask for part of a module, so that players wait for it, or for the
//! origin.
//!
//! | file | what |
//! |---|---|
//! | `options` | `[[transport_stream]]` |
//! | `feed` | packets to datagrams and files: no I/O but the store's |
//! | `modules` | where modules lie while they come |
//! | `forward` | datagrams to the shards |
//! | `thread` | opening, reading, and opening again |
//! | `stats` | what status and metrics say |
//! | `input` | where packets come from |

mod feed;
#[cfg(test)]
mod feed_tests;
mod forward;
pub mod input;
mod modules;
pub mod options;
mod stats;
mod thread;

pub use feed::{Feed, StreamOutput};
pub use forward::Forward;
pub use input::Signal;
pub use options::{Carrier, TransportStream};
pub use stats::{StreamState, TransportStats};
pub use thread::{TransportContext, TransportThread};
