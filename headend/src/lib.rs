//! Transmission of packaged HLS and DASH on a one-way link.
//!
//! | room | content |
//! |---|---|
//! | [`clock`], [`units`], [`overhead`], [`net`], `listen`, `encoding` | time; sizes in print; bytes of headers; interfaces and groups; listeners; texts that are no UTF-8 |
//! | [`options`], [`config`] | the tables of the configuration file, and the file |
//! | [`package`] | HLS and DASH on disk, read into an inventory |
//! | [`object`], [`document`] | what can be sent: media, and documents that the headend makes |
//! | [`signing`], [`spool`], [`releases`] | keys on disk, and what signs a broadcast; commands to receivers; firmware on offer |
//! | [`plan`], [`schedule`] | periods of objects, and the next object: pure |
//! | [`lanes`] | queues that FLUTE and DSM-CC share: new, repeated, scheduled, in between |
//! | [`air`] | FLUTE sessions, objects, the next packet |
//! | [`multiplex`] | a transport stream around that: tables, IP in sections, a DSM-CC carousel |
//! | [`forward`] | multicast of other senders that is carried along |
//! | [`ingest`] | uploads of packagers by HTTP |
//! | [`pull`] | packages that are pulled from an origin |
//! | [`prepare`] | reading of sources, digests, repair symbols |
//! | [`announce`], [`catalog`] | signalling documents; service lists and programme guides |
//! | [`broadcast`] | all of the above from a configuration, updated while sources change |
//! | [`follow`], `watch` | the thread that follows changes; file events |
//! | [`mod@line`], [`pace`], [`sink`] | framing for the link, pacing, output |
//! | [`transmit`] | the loop around all of it, for `send` and `build` |
//! | [`lease`] | of several headends with one carousel, the one that sends, and what the others need to continue |
//! | [`forecast`], [`simulate`], [`chart`] | feasibility, a simulated audience, the plan as a page |
//! | [`scan`], [`inspect`] | reports on a package, and on a recording or a link |
//! | [`check`], `claim`, [`mod@status`], [`metrics`] | what would keep a configuration off the air; groups that another `send` has; what is on the air now, for `headend status` and Prometheus |
//! | [`cli`], [`commands`], [`progress`] | the command line |
//!
//! # Floors
//! A room imports rooms of lower floors, and of its own floor where that closes no circle (tested in `packaging/xtask`).
//!
//! ```text
//! floor 0: clock, units, overhead, sys, listen, encoding
//! floor 1: options, net, progress
//! floor 2: config, package, document
//! floor 3: object, plan, forecast, scan, signing, spool, releases, ingest, pull
//! floor 4: schedule, watch
//! floor 5: lanes, catalog
//! floor 6: air, simulate, prepare, announce, forward, pace
//! floor 7: multiplex, broadcast, chart
//! floor 8: line, sink, follow, inspect, lease
//! floor 9: check, claim, status, metrics, transmit
//! floor 10: cli, commands
//! floor 11: main
//! ```

pub mod air;
pub mod announce;
pub mod broadcast;
pub mod catalog;
pub mod chart;
pub mod check;
mod claim;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod document;
mod encoding;
pub mod follow;
pub mod forecast;
pub mod forward;
pub mod ingest;
pub mod inspect;
pub mod lanes;
pub mod lease;
pub mod line;
mod listen;
pub mod metrics;
pub mod multiplex;
pub mod net;
pub mod object;
pub mod options;
pub mod overhead;
pub mod pace;
pub mod package;
pub mod plan;
pub mod prepare;
pub mod progress;
pub mod pull;
pub mod releases;
pub mod scan;
pub mod schedule;
pub mod signing;
pub mod simulate;
pub mod sink;
pub mod spool;
pub mod status;
mod sys;
pub mod transmit;
pub mod units;
mod watch;
