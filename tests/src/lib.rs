//! Harness of the end-to-end stories: the real programs, a real origin, a lossy link between them, a player's requests, and
//! the comparison of every byte. The stories are in `tests/tests/stories`.
//!
//! ```text
//! headend ─▶ 239.x (from 127.0.0.1) ─▶ Relay (linksim) ─▶ 239.x (from 127.0.0.2) ─▶ skycached ─▶ Client
//!                                                             Origin ─ repair, read-through ─▶ ┘
//! ```
//!
//! Source-specific multicast keeps both sides of the relay apart on one loopback interface. Every story has its own
//! groups, ports and folders, so that stories run in parallel.

pub mod client;
pub mod media;
pub mod origin;
pub mod programs;
pub mod relay;
pub mod rollout;
pub mod schema;
pub mod script;
pub mod sim;
pub mod story;

pub use client::{Response, get};
pub use origin::{Fault, Origin};
pub use programs::Program;
pub use relay::Relay;
pub use script::{Asked, Scripted, Step, answer};
pub use serde_json::Value;
pub use story::{Comparison, Story, free_tcp_port};
