//! Transmission of packaged HLS and DASH on a one-way link.
//!
//! | room | content |
//! |---|---|
//! | [`clock`], [`units`], [`overhead`], [`net`], `listen`, `encoding`, `tls` | time; sizes in print; bytes of headers; interfaces and groups; listeners; texts in other encodings than UTF-8; failures of TLS in words |
//! | [`options`], [`config`] | the tables of the configuration file, and the file |
//! | [`package`] | HLS and DASH on disk, read into an inventory |
//! | [`object`], [`document`] | objects: media, and documents made by the headend |
//! | [`signing`], [`spool`], [`releases`] | keys on disk, and the signer of a broadcast; commands to receivers; firmware on offer |
//! | [`plan`], [`schedule`] | periods of objects, and the next object: pure |
//! | [`lanes`] | queues that FLUTE and DSM-CC share: new, repeated, scheduled, in between |
//! | [`air`] | FLUTE sessions, objects, the next packet |
//! | [`multiplex`] | a transport stream: tables, IP in sections, a DSM-CC carousel |
//! | [`forward`] | forwarding of other senders' multicast |
//! | [`ingest`] | uploads of packagers by HTTP |
//! | [`pull`] | packages pulled from an origin |
//! | [`prepare`] | reading of sources, digests, repair symbols |
//! | [`announce`], [`catalog`] | signalling documents; service lists and programme guides |
//! | [`broadcast`] | all of the above from a configuration, updated while sources change |
//! | [`follow`], `watch`, [`condition`] | the thread that follows changes; file events; sources that are away or stalled |
//! | [`mod@line`], [`pace`], [`sink`] | framing for the link, pacing, output |
//! | [`transmit`] | the loop around all of it, for `send` and `build` |
//! | [`lease`] | the choice of the active headend among several with one carousel, and the state for a takeover |
//! | [`forecast`], [`simulate`], [`chart`] | feasibility, a simulated audience, the plan as a page |
//! | [`scan`], [`inspect`] | reports on a package, and on a recording or a link |
//! | [`check`], `claim`, [`mod@status`], [`metrics`] | checks of a configuration; claims of groups by another `send`; the current state, for `headend status` and Prometheus |
//! | [`cli`], [`commands`], [`progress`] | the command line |
//!
//! # Floors
//! A room imports rooms of lower floors, and of its own floor where that closes no circle (tested in `packaging/xtask`).
//!
//! ```text
//! floor 0: clock, units, overhead, sys, listen, encoding, tls
//! floor 1: options, net, progress
//! floor 2: config, package, document
//! floor 3: object, plan, forecast, scan, signing, spool, releases, ingest, pull, condition
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
pub mod condition;
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
mod tls;
pub mod transmit;
pub mod units;
mod watch;
