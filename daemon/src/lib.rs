//! Library of `skycached`, which receives carousels, stores their objects, serves them to players as the CDN would, and
//! repairs losses from origins. `main.rs` only parses and prints, so that tests, benchmarks and `replay` drive the same code.
//!
//! ```text
//! transport ─┐ datagrams                          ┌─ files of DSM-CC carousels
//! source ────┴──────────▶ receive ─ whole objects ─▶ store ─▶ http ─▶ players
//!                          │  ▲                              ▲
//!                 stalled  ▼  │ missing bytes                │ miss
//!                        repair ◀─────────── origin ─────────┘
//! ```
//!
//! [`running`] assembles the rooms. Objects in flight are shared through [`delivery`]; [`session`] decides which groups
//! are joined. Every format on the wire is in `carousel`.
//!
//! # Floors
//! A room imports rooms of lower floors, and of its own floor where that closes no circle (tested in `packaging/xtask`).
//!
//! ```text
//! floor 0: admin_refusals, bounded, caching, certificates, clients, clock, coding, listen, memory, signed_documents, sys, vitals
//! floor 1: access, commands, firmware, kafka, logs, qoe, store, traces, trust
//! floor 2: delivery, live_services, manifests, services, signalling
//! floor 3: origin, receive, repair, session, source, transport, waiting
//! floor 4: catalog, http, page
//! floor 5: admin, cli, config, demo, doctor, main, metrics, replay, running, sampler, screen, status
//! ```

pub mod access;
pub mod admin;
pub mod admin_refusals;
pub mod bounded;
pub mod caching;
pub mod catalog;
pub mod certificates;
pub mod cli;
pub mod clients;
pub mod clock;
pub mod coding;
pub mod commands;
pub mod config;
pub mod delivery;
#[cfg(feature = "demo")]
pub mod demo;
pub mod doctor;
pub mod firmware;
pub mod http;
pub mod kafka;
pub mod listen;
pub mod live_services;
pub mod logs;
pub mod manifests;
pub mod memory;
pub mod metrics;
pub mod origin;
pub mod page;
pub mod qoe;
pub mod receive;
pub mod repair;
pub mod replay;
pub mod running;
mod sampler;
pub mod screen;
pub mod services;
pub mod session;
pub mod signalling;
mod signed_documents;
pub mod source;
pub mod status;
pub mod store;
mod sys;
pub mod traces;
pub mod transport;
pub mod trust;
pub mod vitals;
mod waiting;

pub use sys::{as_owner_of, raise_open_files};
