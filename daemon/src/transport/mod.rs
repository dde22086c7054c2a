//! Transport streams and baseband frames: from a tuner, a network or a recording to objects in the cache.
//!
//! ```text
//! input: UDP, RTP, SAT>IP, DVB adapter, file
//!   │ packets or frames (one thread a stream)
//! Feed: Multiplex ─┬ carousel sections ─ dsmcc::Receiver ─ complete files ▶ store
//!                  └ IP packets (MPE, GSE) ─ batches ─▶ the shards that have their groups
//! ```
//!
//! IP datagrams are handled like those from sockets: the same sessions, receivers and repair. Modules are assembled here
//! and published when complete; a part of a module cannot be requested, so players wait for the module, or for the
//! origin.
//!
//! | file | content |
//! |---|---|
//! | `options` | `[[transport_stream]]` |
//! | `feed` | packets to datagrams and files: no I/O but the store's |
//! | `modules` | storage of modules under reassembly |
//! | `forward` | datagrams to the shards |
//! | `thread` | opening, reading, and reopening of inputs |
//! | `stats` | state for status and metrics |
//! | `input` | sources of packets; their failures, and whether opening again can help |

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
pub use modules::ModuleMemory;
pub use options::{Carrier, TransportStream};
pub use stats::{StreamState, TransportStats};
pub use thread::{TransportContext, TransportThread};
