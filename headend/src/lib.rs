//! Puts packaged HLS and DASH on a one-way link. Each verb of the command line is a thin sentence over these rooms.
//!
//! | room | what it is for |
//! |---|---|
//! | [`package`] | reads HLS and DASH from disk into an inventory |
//! | [`plan`], [`schedule`] | which object how often, and which one next: pure |
//! | [`air`] | sessions, objects, the next packet |
//! | [`broadcast`] | configuration and packages → what is on the air, kept up to date |
//! | [`follow`] | reads what has changed and makes it ready, beside the air |
//! | [`announce`] | the documents by which receivers find everything |
//! | [`catalog`] | what televisions find: programme guides |
//! | [`multiplex`] | a transport stream around all that: tables, IP in sections, a DSM-CC carousel |
//! | [`forward`] | other people's multicast into that stream |
//! | [`line`] | what leaves: bare IP packets, transport stream, baseband frames |
//! | [`pace`], [`sink`] | when a packet may go, and where to |
//! | [`transmit`] | `send` and `build`: the loops around the rooms above |
//! | [`forecast`], [`chart`] | what a catalogue asks of a link; the plan as a page |
//! | [`simulate`] | a million receivers against the plan, before the launch |
//! | [`cli`] | the command line |
//! | [`scan`], [`inspect`] | what is there, and what is on the air |
//!
//! # Floors
//! A room imports rooms of lower floors, and of its own floor where that closes no circle (tested in `packaging/xtask`).
//!
//! ```text
//! floor 0: pace, schedule, sys
//! floor 1: package, plan
//! floor 2: forecast, scan, sink
//! floor 3: air, catalog, announce
//! floor 4: broadcast, config, follow, forward, inspect, line, multiplex, simulate
//! floor 5: chart, cli, main, transmit
//! ```

pub mod air;
pub mod announce;
pub mod broadcast;
pub mod catalog;
pub mod chart;
pub mod cli;
pub mod config;
pub mod follow;
pub mod forecast;
pub mod forward;
pub mod inspect;
pub mod line;
pub mod multiplex;
pub mod pace;
pub mod package;
pub mod plan;
pub mod scan;
pub mod schedule;
pub mod simulate;
pub mod sink;
mod sys;
pub mod transmit;
mod watch;
