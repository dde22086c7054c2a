//! Every wire format that both ends of a Skycache carousel speak. Sans-IO: bytes to values and values to bytes; no
//! socket, file, clock, thread or async. Time, randomness and storage arrive as arguments.
//!
//! ```text
//! datagram ─ alc::Packet (lct, ext) ─ flute::Sessions ─ flute::Receiver ─ Event::Complete ─ flute::verify ─ object
//!                                                            │ FDT
//! object ─ flute::Sender ─ datagram                          └ mabr::Directory, nip: where other sessions are
//! ```
//!
//! | room | what | standard |
//! |---|---|---|
//! | [`bytes`] | cursors: the one place where lengths are checked | |
//! | [`lct`], [`alc`] | header, extensions, packet | RFC 5651, 5775 |
//! | [`fec`] | OTI, payload IDs, blocks, which symbols are there | RFC 5052, 5445 |
//! | [`flute`] | FDT, receiver, sender | RFC 6726, 3926 |
//! | [`mabr`], [`nip`] | gateway configurations, announcement documents | TS 103 769, TS 103 876 |
//! | [`dvbi`] | service lists, content guides | TS 103 770 |
//! | [`route`] | signalling, receiver, sender | RFC 9223, A/331, TS 103 769 |
//! | [`growing`] | bytes of objects whose length is not known yet | |
//! | [`budget`] | memory of all sessions, and which of them makes room | |
//! | [`ts`] | transport streams: packets, sections, tables | ISO/IEC 13818-1, EN 300 468 |
//! | [`dsmcc`] | data and object carousels | ISO/IEC 13818-6, TS 102 809 |
//! | [`manifest`] | facts of HLS, DASH and steering manifests | RFC 8216, ISO/IEC 23009-1 |
//! | [`mpe`], [`gse`] | IP in transport streams and in baseband frames | EN 301 192, TS 102 606 |
//! | [`multiplex`] | one transport stream by its tables: carousels and IP; its wrapping in datagrams | EN 300 468, RFC 2250 |
//! | [`ip`], [`capture`] | packets in recordings | |
//! | [`name`], [`digest`], [`time`], [`xml`] | keys, SHA-256 and MD5, instants and dates, documents | |
//! | [`query`] | query parameters that do not distinguish objects | |
//! | [`repair`] | times and ranges of unicast repair | TS 103 769 |
//! | [`eviction`] | eviction orders of a cache | |
//! | [`trust`] | signatures: keys, certificates, what counts | RFC 8032 |
//! | [`command`] | commands to receivers | |
//! | [`firmware`] | firmware updates that receivers are offered | |
//! | [`process`] | figures of a Linux process out of the texts of `/proc` | proc(5) |
//! | [`mod@limits`], [`reason`] | limits on what the network can fill, reasons for drops | |
//! | `config` | configuration files with every mistake located (feature `config`) | |
//!
//! Clauses are cited without their edition, which is one for each standard unless a sentence says otherwise: EN 301 192 V1.7.1,
//! EN 302 307-1 and -2 V1.4.1, TR 101 202 V1.2.1, TS 102 809 V1.3.1, TS 103 769 V1.2.1, TS 103 876 V1.1.1, A/331:2025-06. TS 103 770
//! is read in its editions r0 to r8, which [`dvbi`] distinguishes. RFCs have one edition.
//!
//! A delivery over a perfect link, both ends in one place:
//!
//! ```
//! use carousel::{alc::Packet, lct::Tsi, time::{Instant, WallTime}};
//! use carousel::flute::{Event, MemoryStorage, Receiver, ReceiverConfig, SendFile, Sender, SenderProfile, verify};
//!
//! let body = vec![7; 5000];
//! let mut sender = Sender::new(Tsi(1), SenderProfile::default(), 1, 1);
//! let toi = sender.add(SendFile {
//!     content_type: Some("video/mp4".to_owned()),
//!     ..SendFile::of("http://example.com/a.m4s", &body)
//! })?;
//! sender.refresh_fdt(WallTime::from_unix_ms(1_795_219_200_000))?;
//!
//! let mut packets = vec![Vec::new(); 5];
//! sender.write_fdt(0, 0, &mut packets[0]);
//! for (symbol, bytes) in body.chunks(1400).enumerate() {
//!     sender.write_packet(toi, symbol as u64, bytes, false, &mut packets[symbol + 1]);
//! }
//!
//! let mut receiver = Receiver::new(ReceiverConfig::default());
//! let mut received = None;
//! for bytes in &packets {
//!     receiver.handle_packet(Instant::from_nanos(0), None, &Packet::parse(bytes)?, bytes, &mut MemoryStorage);
//!     while let Some(event) = receiver.poll_event() {
//!         if let Event::Complete { file, buf, .. } = event {
//!             verify(&file, &buf.bytes)?;
//!             received = Some(buf.bytes);
//!         }
//!     }
//! }
//! assert_eq!(received, Some(body));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Floors
//! A module imports modules of lower floors, and of its own floor where that closes no circle (tested in `packaging/xtask`).
//!
//! ```text
//! floor 0: bytes, eviction, growing, limits, process, reason, repair, time
//! floor 1: budget, digest, ip, lct, manifest, name, xml
//! floor 2: alc, capture, config, fec, query, trust, ts
//! floor 3: command, dsmcc, dvbi, firmware, flute, gse, mabr, mpe, nip, route
//! floor 4: multiplex
//! ```
#![warn(missing_docs)]
// Tests read vectors and say what they skip; see clippy.toml for what the crate itself must not use.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros))]

pub mod alc;
pub mod budget;
pub mod bytes;
pub mod capture;
pub mod command;
#[cfg(feature = "config")]
pub mod config;
pub mod digest;
pub mod dsmcc;
pub mod dvbi;
pub mod eviction;
pub mod fec;
pub mod firmware;
pub mod flute;
pub mod growing;
pub mod gse;
pub mod ip;
pub mod lct;
pub mod limits;
pub mod mabr;
pub mod manifest;
pub mod mpe;
pub mod multiplex;
pub mod name;
pub mod nip;
pub mod process;
pub mod query;
pub mod reason;
pub mod repair;
pub mod route;
pub mod time;
pub mod trust;
pub mod ts;
pub mod xml;

pub use bytes::WireError;
pub use digest::Digest;
pub use name::{NameError, ObjectKey};
