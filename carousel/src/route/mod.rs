//! ROUTE (RFC 9223; ATSC A/331 Annex A; TS 103 769 Annex H): objects with start offsets, described by an S-TSID.
//!
//! ```text
//! datagram ─ alc::Packet ─┬ TSI 0 ─ package ─ S-TSID (names, repair flows), MPD and other documents
//!                         ├ source packets ─ start_offset ─ Growing ─┬─ Event::Begun, grown(), Event::Complete
//!                         └ repair packets ─ RepairJob (RaptorQ) ────┘
//! object ─ Sender ─ datagram
//! ```
//!
//! [`Receiver`] is the state machine of one session: one source, group and port with all its channels (TSIs). The length of
//! an object is in EXT_TOL, EXT_FTI or the B flag, and sometimes unknown: see `DESIGN.md` beside this file.

mod codepoint;
mod entity;
mod evidence;
pub mod lls;
pub mod package;
mod receiver;
mod sender;
mod stsid;
mod template;

use crate::fec::Oti;

pub use codepoint::{Codepoint, Format};
pub use entity::{Entity, unchunk};
pub use evidence::{Evidence, Recognizer, evidence};
pub use receiver::{
    ChannelState, Event, GrowingState, Receiver, ReceiverConfig, RepairJob, RouteDrop, RouteFailure,
    RouteStats, Verdict,
};
pub use sender::{Sender, SenderError};
pub use stsid::{Channel, Payload, Protected, RepairFlow, RouteSession, STSID_TYPE, SourceFlow, Stsid};
pub use template::FileTemplate;

/// TSI of the channel that carries signalling.
pub const SIGNALLING_TSI: u64 = 0;

/// Bytes of the object's length after its padding: repair symbols protect both with the object (RFC 9223 section 5.3).
const LENGTH_BYTES: u64 = 4;

/// The OTI of the protected data of an object of `length` bytes: object, padding and length, in full symbols.
fn protected_oti(flow: &Oti, length: u64) -> Oti {
    let symbol_length = u64::from(flow.symbol_length.max(1));
    let symbols = (length + LENGTH_BYTES).div_ceil(symbol_length);
    Oti { transfer_length: symbols * symbol_length, ..*flow }
}
