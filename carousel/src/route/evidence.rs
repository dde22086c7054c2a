//! Recognition of ROUTE and FLUTE by evidence in packets.
//!
//! By the standards only `TransportProtocol` distinguishes the two; packets of real senders have evidence, though, which
//! is all there is without a configuration. [`evidence`] extracts it, and [`Recognizer`] decides for each packet, since
//! GPAC sends FLUTE packets in ROUTE sessions.

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use crate::alc::Packet;
use crate::lct::ext::het;
use crate::lct::{Toi, Tsi};
use crate::limits;

/// Evidence of the protocol of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Evidence {
    /// EXT_FDT: only FLUTE has it.
    ExtFdt,
    /// EXT_FTI with the layout of the codepoint's FEC scheme on an object: FLUTE senders do this.
    ExtFti,
    /// EXT_TOL: only ROUTE has it.
    ExtTol,
    /// Source packet indicator set: required by ROUTE, 0 with FLUTE senders.
    SourcePacketIndicator,
    /// 16-bit TSI and TOI: ROUTE requires 32 bits.
    NarrowIdentifiers,
    /// Object packets with PSI 0 and without EXT_TOL: weak evidence, but atypical of ROUTE.
    PlainAlc,
}

impl Evidence {
    /// Whether it indicates ROUTE.
    pub const fn is_route(self) -> bool {
        matches!(self, Self::ExtTol | Self::SourcePacketIndicator)
    }

    /// Description for output.
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

/// The strongest evidence in `packet`.
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

limits! {
    /// Sessions of FLUTE that are remembered because their senders set the source packet indicator.
    const MAX_RECOGNIZED: usize = 4_096, "sessions" {
        why: "Eight times the sessions that are received; an entry takes 200 bytes.",
        full: "The session whose first FDT Instance came longest ago is forgotten: its next one is recognised again.",
        free: "When a further session is recognised.",
        test: "sessions_beyond_the_limit_push_out_the_oldest",
    }
}

/// Recogniser of ROUTE and FLUTE packets where the protocol is not declared.
#[derive(Debug, Default)]
pub struct Recognizer {
    /// FLUTE sessions whose senders set the source packet indicator, which only ROUTE requires.
    seen: HashSet<(IpAddr, SocketAddr, Tsi)>,
    /// The same, oldest first.
    order: VecDeque<(IpAddr, SocketAddr, Tsi)>,
}

impl Recognizer {
    /// Whether a packet is a ROUTE packet: it has the source packet indicator, and is not of a FLUTE session whose sender
    /// sets that as well. ROUTE repair packets look like FLUTE packets; only a description distinguishes them.
    #[inline]
    pub fn is_route(&mut self, source: IpAddr, destination: SocketAddr, packet: &Packet<'_>) -> bool {
        if packet.lct.psi & 2 == 0 {
            return false;
        }
        let key = (source, destination, packet.lct.tsi.unwrap_or_default());
        let is_flute = packet.fdt.is_some() && packet.lct.toi == Some(Toi::FDT);
        if is_flute && self.seen.insert(key) {
            self.order.push_back(key);
            if self.order.len() > MAX_RECOGNIZED
                && let Some(oldest) = self.order.pop_front()
            {
                self.seen.remove(&oldest);
            }
        }
        !is_flute && !self.seen.contains(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lct::LctHeader;
    use crate::lct::ext::Fdt;

    fn packet(tsi: u64, toi: u128, psi: u8, has_fdt: bool) -> Vec<u8> {
        let (mut extensions, mut out) = (Vec::new(), Vec::new());
        if has_fdt {
            Fdt { version: 1, instance_id: 1 }.write(&mut extensions);
        }
        let header = LctHeader { psi, extensions: &extensions, ..LctHeader::new(Tsi(tsi), Toi(toi)) };
        header.write(&mut out).unwrap();
        out.extend_from_slice(&[0; 20]);
        out
    }

    #[test]
    fn each_packet_is_told_by_itself_unless_its_session_has_fdt_instances() {
        let (source, group) = ("10.0.0.1".parse().unwrap(), "239.0.0.1:6000".parse().unwrap());
        let mut recognizer = Recognizer::default();
        let mut is_route = |tsi, toi, psi, has_fdt| {
            let bytes = packet(tsi, toi, psi, has_fdt);
            recognizer.is_route(source, group, &Packet::parse(&bytes).unwrap())
        };
        assert!(is_route(10, 1, 2, false));
        // GPAC: FDT Instances without the indicator between packets of ROUTE.
        assert!(!is_route(10, 0, 0, true));
        assert!(is_route(10, 2, 2, false));
        // A sender of FLUTE that sets it.
        assert!(!is_route(11, 0, 2, true) && !is_route(11, 1, 2, false) && is_route(12, 1, 2, false));
    }

    #[test]
    fn sessions_beyond_the_limit_push_out_the_oldest() {
        let (source, group) = ("10.0.0.1".parse().unwrap(), "239.0.0.1:6000".parse().unwrap());
        let mut recognizer = Recognizer::default();
        let mut is_route = |tsi: u64, toi: u128| {
            let bytes = packet(tsi, toi, 2, toi == 0);
            let is_route = recognizer.is_route(source, group, &Packet::parse(&bytes).unwrap());
            assert_eq!(recognizer.seen.len(), recognizer.order.len());
            assert!(recognizer.seen.len() <= MAX_RECOGNIZED);
            is_route
        };
        let count = MAX_RECOGNIZED as u64 + 10;
        for tsi in 0..count {
            // Those beyond the limit are recognised like the first.
            assert!(!is_route(tsi, 0) && !is_route(tsi, 1), "{tsi}");
            // A repeat takes no further place.
            assert!(!is_route(tsi, 0));
        }
        assert!((0..count).all(|tsi| is_route(tsi, 1) == (tsi < 10)));
        // One that was forgotten takes the place of another with its next FDT Instance.
        assert!(!is_route(0, 0) && !is_route(0, 1) && is_route(10, 1) && !is_route(11, 1));
    }
}
