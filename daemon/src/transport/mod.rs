//! Transport streams and baseband frames: from a tuner, a network or a recording to objects in the cache.
//!
//! ```text
//! input: UDP, RTP, SAT>IP, DVB adapter, file
//!   │ packets or frames (one thread a stream)
//! Feed: Multiplex ─┬ carousel sections ─ dsmcc::Receiver ─ whole files ─▶ store
//!                  └ IP packets (MPE, GSE) ─ batches ─▶ the shards that have their groups
//! ```
//!
//! IP datagrams go the way of all IP: the same sessions, receivers, repair. Modules are put together here and published
//! when complete; part of a module cannot be requested, so players wait for the module, or for the origin.
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
