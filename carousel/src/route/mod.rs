//! ROUTE (RFC 9223, ATSC A/331 Annex A, TS 103 769 Annex H): what tells it from FLUTE.
//!
//! The standards say that the two cannot be told apart on the wire, only by `TransportProtocol`; senders do leave
//! traces, though, and a laboratory without a configuration has nothing else. [`evidence`] collects them.

use crate::alc::Packet;
use crate::lct::Toi;
use crate::lct::ext::het;

/// A trace that a packet leaves of its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Evidence {
    /// EXT_FDT: only FLUTE has it.
    ExtFdt,
    /// EXT_FTI with the layout of the codepoint's FEC scheme on an object: FLUTE senders do this.
    ExtFti,
    /// EXT_TOL: only ROUTE has it.
    ExtTol,
    /// Source packet indicator set: ROUTE demands it, FLUTE senders leave it 0.
    SourcePacketIndicator,
    /// 16-bit TSI and TOI: ROUTE demands 32.
    NarrowIdentifiers,
    /// Object packets with PSI 0 and without EXT_TOL: weak, but ROUTE senders do not look so.
    PlainAlc,
}

impl Evidence {
    /// Whether it speaks for ROUTE.
    pub const fn is_route(self) -> bool {
        matches!(self, Self::ExtTol | Self::SourcePacketIndicator)
    }

    /// The sentence for a person.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExtFdt => "EXT_FDT on TOI 0",
            Self::ExtFti => "EXT_FTI",
            Self::ExtTol => "EXT_TOL",
            Self::SourcePacketIndicator => "PSI 10 (source packet indicator)",
            Self::NarrowIdentifiers => "16-bit TSI and TOI",
            Self::PlainAlc => "PSI 00 and no EXT_TOL",
        }
    }
}

/// The strongest trace that `packet` leaves.
pub fn evidence(packet: &Packet<'_>) -> Evidence {
    if packet.fdt.is_some() && packet.lct.toi == Some(Toi::FDT) {
        Evidence::ExtFdt
    } else if packet.extension(het::TOL_24).is_some() || packet.extension(het::TOL_48).is_some() {
        Evidence::ExtTol
    } else if packet.lct.psi & 2 != 0 {
        Evidence::SourcePacketIndicator
    } else if packet.fti.is_some() {
        Evidence::ExtFti
    } else if packet.lct.widths.half_word {
        Evidence::NarrowIdentifiers
    } else {
        Evidence::PlainAlc
    }
}
