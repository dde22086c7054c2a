//! ROUTE (RFC 9223; ATSC A/331 Annex A; TS 103 769 Annex H): objects with start offsets, described by an S-TSID.
//!
//! ```text
//! datagram ─ alc::Packet ─┬ TSI 0 ─ package ─ S-TSID (names, repair flows), MPD and other documents
//!                         ├ source packets ─ start_offset ─ Growing ─┬─ Event::Begun, grown(), Event::Complete
//!                         └ repair packets ─ RepairJob (RaptorQ) ────┘
//! object ─ Sender ─ datagram
//! ```
//!
//! [`Receiver`] is the state machine of one session: one source, group and port with all its channels (TSIs). An object has
//! no length until EXT_TOL, EXT_FTI or the B flag tell it, and sometimes nothing does: `DESIGN.md` beside this file.

mod codepoint;
mod entity;
mod evidence;
pub mod lls;
pub mod package;
mod receiver;
mod sender;
mod stsid;
mod template;

pub use codepoint::{Codepoint, Format};
pub use entity::{Entity, unchunk};
pub use evidence::{Evidence, Recognizer, evidence};
pub use receiver::{
    ChannelState, Event, Receiver, ReceiverConfig, RepairJob, RouteDrop, RouteFailure, RouteStats, Verdict,
};
pub use sender::{Sender, SenderError};
pub use stsid::{Channel, Payload, Protected, RepairFlow, RouteSession, STSID_TYPE, SourceFlow, Stsid};
pub use template::FileTemplate;

/// TSI of the channel that carries signalling.
pub const SIGNALLING_TSI: u64 = 0;
