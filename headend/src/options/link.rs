//! `[link]`, `[receiver]`, `[output]`: the one-way link, its receivers, and where packets leave.

use std::net::IpAddr;

use carousel::config::Mistake;
use serde::{Deserialize, Serialize};

use super::Mistakes;

/// `[link]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Bits a second of IP packets, IP and UDP headers included; with `[multiplex]` those of the transport stream. Left
    /// out: that of `dvb_s2`.
    #[serde(default)]
    pub rate_bps: u64,
    /// The carrier, which gives the rate where that is left out.
    #[serde(default)]
    pub dvb_s2: Option<DvbS2>,
    /// The file has no such table.
    #[serde(skip)]
    is_missing: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self { rate_bps: 0, dvb_s2: None, is_missing: true }
    }
}

impl Link {
    /// The smallest rate that is taken for a link.
    const MIN_RATE_BPS: u64 = 1000;

    /// Takes the rate from the carrier where the table has none.
    ///
    /// # Errors
    /// A carrier that DVB-S2 does not have.
    pub(crate) fn complete(&mut self) -> Result<(), Mistake> {
        if self.rate_bps == 0
            && let Some(carrier) = &self.dvb_s2
        {
            self.rate_bps = carrier.rate_bps().ok_or_else(|| {
                let what = format!("DVB-S2 has no {} with code rate {}", carrier.modulation, carrier.fec);
                Mistake::of_value("link.dvb_s2", &what, "such as 8PSK with 3/4; also QPSK, 16APSK and 32APSK")
            })?;
        }
        Ok(())
    }

    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        if self.is_missing {
            let fix = "add [link] with rate_bps = \"8 Mbit/s\", the rate of yours";
            return vec![Mistake::of_value("link", "missing", fix)];
        }
        let mut mistakes = Mistakes::of("link");
        if self.rate_bps < Self::MIN_RATE_BPS {
            let what = format!("{} bit/s is too low", self.rate_bps);
            mistakes.add(
                "rate_bps",
                what,
                "give the rate in bit/s, 1000 or more, such as 20_000_000, or [link.dvb_s2]",
            );
        }
        mistakes.found
    }
}

/// `[receiver]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Receiver {
    /// Bytes that its cache holds.
    pub cache_bytes: Option<u64>,
}

/// `[link.dvb_s2]`: a DVB-S2 carrier, normal FECFRAMEs, no pilots.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DvbS2 {
    /// `QPSK`, `8PSK`, `16APSK`, `32APSK`.
    pub modulation: String,
    /// Code rate, such as `3/4`.
    pub fec: String,
    /// Symbol rate in ksym/s.
    pub symbol_rate_ksps: u32,
}

/// Bits for each symbol (EN 302 307-1 table 13), in the order of MODCOD, which counts from 1.
const EFFICIENCY: [(&str, &str, f64); 28] = [
    ("QPSK", "1/4", 0.490_243),
    ("QPSK", "1/3", 0.656_448),
    ("QPSK", "2/5", 0.789_412),
    ("QPSK", "1/2", 0.988_858),
    ("QPSK", "3/5", 1.188_304),
    ("QPSK", "2/3", 1.322_253),
    ("QPSK", "3/4", 1.487_473),
    ("QPSK", "4/5", 1.587_196),
    ("QPSK", "5/6", 1.654_663),
    ("QPSK", "8/9", 1.766_451),
    ("QPSK", "9/10", 1.788_612),
    ("8PSK", "3/5", 1.779_991),
    ("8PSK", "2/3", 1.980_636),
    ("8PSK", "3/4", 2.228_124),
    ("8PSK", "5/6", 2.478_562),
    ("8PSK", "8/9", 2.646_012),
    ("8PSK", "9/10", 2.679_207),
    ("16APSK", "2/3", 2.637_201),
    ("16APSK", "3/4", 2.966_728),
    ("16APSK", "4/5", 3.165_623),
    ("16APSK", "5/6", 3.300_184),
    ("16APSK", "8/9", 3.523_143),
    ("16APSK", "9/10", 3.567_342),
    ("32APSK", "3/4", 3.703_295),
    ("32APSK", "4/5", 3.951_571),
    ("32APSK", "5/6", 4.119_540),
    ("32APSK", "8/9", 4.397_854),
    ("32APSK", "9/10", 4.453_027),
];

impl DvbS2 {
    /// Bits a second of the carrier; `None` for a combination that DVB-S2 does not have.
    pub fn rate_bps(&self) -> Option<u64> {
        let (_, _, efficiency) = EFFICIENCY[usize::from(self.modcod()?) - 1];
        Some((efficiency * f64::from(self.symbol_rate_ksps) * 1000.0) as u64)
    }

    /// MODCOD (EN 302 307-1 table 12); `None` for a combination that DVB-S2 does not have.
    pub fn modcod(&self) -> Option<u8> {
        let is_it =
            |known: &(&str, &str, f64)| self.modulation.eq_ignore_ascii_case(known.0) && self.fec == known.1;
        EFFICIENCY.iter().position(is_it).map(|at| at as u8 + 1)
    }
}

/// `[output]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Output {
    /// Interface that multicast leaves by: a name (`eth1`) or one of its addresses. Empty: the system's choice.
    pub interface: String,
    /// Source address of packets: one that this machine has on any interface. Receivers know a session by it: headends that take the
    /// place of each other have the same. Left out: the system's choice.
    pub source: Option<IpAddr>,
    /// IP TTL or hop limit.
    pub ttl: u8,
    /// Differentiated services code point, 0 to 63.
    pub dscp: u8,
    /// Let the kernel or the interface split one buffer into the datagrams that leave together, from 100 Mbit/s on. A capture on this machine
    /// shows the buffer as one datagram; `false` shows each.
    pub segmentation_offload: bool,
}

impl Default for Output {
    fn default() -> Self {
        Self { interface: String::new(), source: None, ttl: 8, dscp: 0, segmentation_offload: true }
    }
}

impl Output {
    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Mistakes::of("output");
        if self.dscp > 63 {
            let what = format!("{} is not a code point", self.dscp);
            mistakes.add("dscp", what, "0 to 63; 34 is AF41, for video");
        }
        if let Some(source) = self.source.filter(|it| it.is_multicast() || it.is_unspecified()) {
            mistakes.add("source", format!("{source} is not an address of a machine"), "such as 192.0.2.10");
        }
        mistakes.found
    }
}
