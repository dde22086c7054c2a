//! FLUTE (RFC 6726, and RFC 3926, which DVB-NIP, DVB-MABR and 3GPP senders use).
//!
//! ```text
//! datagram ─ alc::Packet ─┬ TOI 0 ─ FdtAssembler ─ inflate ─ FdtInstance ─ FdtTable (union of unexpired instances)
//!                         │                                                   │ names, OTI
//!                         └ TOI ≥ 1 ─ Receiver: place symbol ─ SymbolMap ─ Event::Complete
//! ```
//!
//! [`Receiver`] is the state machine of one session, [`Sessions`] keeps one for each (source, group, port, TSI).
//! [`Sender`] writes packets of one session; their order and timing are the headend's. Storage is lent through
//! [`Storage`]; the owner of the bytes verifies digests with [`fn@verify`].

mod assembler;
mod fdt;
mod read;
mod receiver;
mod sender;
mod sessions;
mod table;
mod verify;

pub use assembler::FdtAssembler;
pub use fdt::{CacheControl, Encoding, FdtInstance, FdtNamespace, File, OtiAttributes};
pub use receiver::{
    AbandonReason, DropReason, Event, InFlight, JoinFailure, Joined, Joiner, MemoryBuf, MemoryStorage,
    OpenRequest, Receiver, ReceiverConfig, ReceiverStats, RecoveryJob, Refusal, SessionTrust, Storage,
    SymbolPlace, Unfinished, Verdict,
};
pub use sender::{
    FDT_ROOT_BYTES, LARGE_PAGE_BYTES, SMALL_PAGES, SendFile, Sender, SenderError, SenderProfile,
};
pub use sessions::{SessionKey, Sessions};
pub use table::FdtTable;
pub use verify::{Content, Examined, VerifyError, decode, decode_to, examine, verify, verify_up_to};
