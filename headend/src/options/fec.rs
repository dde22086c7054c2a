//! `[fec]`: forward error correction of media, by class.

use carousel::config::Mistake;
use carousel::fec::{EncodingId, Protection};
use serde::{Deserialize, Serialize};

use super::carousel::SYMBOL_LENGTHS;
use super::{Class, Mistakes};

/// `[fec]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct FecClasses {
    /// Sources of class high.
    pub high: Option<Fec>,
    /// Sources of class medium.
    pub medium: Option<Fec>,
    /// Sources of class low.
    pub low: Option<Fec>,
}

/// `[fec.high]` and so on. Receivers that know no FEC (GPAC) pass protected objects over.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fec {
    /// The scheme.
    pub code: Code,
    /// Repair symbols for each hundred source symbols.
    #[serde(default = "Fec::default_overhead")]
    pub overhead_percent: f64,
    /// Repair symbols of a source block at least: small objects take more than their share.
    #[serde(default = "Fec::default_least")]
    pub least_repair: u32,
    /// Most bytes of a source block; receivers hold a block in memory to decode it.
    #[serde(default = "Fec::default_block")]
    pub block_bytes: u32,
    /// Encoding symbol length; the carousel's if left out.
    #[serde(default)]
    pub symbol_length_bytes: u16,
}

/// FEC schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// None: FEC Encoding ID 0.
    NoCode,
    /// RFC 6330: FEC Encoding ID 6.
    Raptorq,
    /// RFC 5053: FEC Encoding ID 1.
    Raptor,
    /// RFC 5510: FEC Encoding ID 5.
    ReedSolomon,
}

impl Fec {
    const fn default_overhead() -> f64 {
        10.0
    }
    const fn default_least() -> u32 {
        3
    }
    const fn default_block() -> u32 {
        1 << 20
    }
}

impl FecClasses {
    /// The protection of media of a class.
    pub fn protection(&self, class: Class) -> Protection {
        let fec = match class {
            Class::High => &self.high,
            Class::Medium => &self.medium,
            Class::Low => &self.low,
            Class::Signalling => &None,
        };
        let Some(fec) = fec else { return Protection::NONE };
        let id = match fec.code {
            Code::NoCode => return Protection::NONE,
            Code::Raptorq => EncodingId::RAPTORQ,
            Code::Raptor => EncodingId::RAPTOR,
            Code::ReedSolomon => EncodingId::RS_GF28,
        };
        Protection {
            id,
            symbol_length: fec.symbol_length_bytes,
            overhead: fec.overhead_percent / 100.0,
            least_repair: fec.least_repair,
            burst_packets: 0,
            block_bytes: fec.block_bytes,
        }
    }

    /// Whether any class has a table.
    pub(crate) const fn is_configured(&self) -> bool {
        self.high.is_some() || self.medium.is_some() || self.low.is_some()
    }

    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Mistakes::of("fec");
        for (class, fec) in [("high", &self.high), ("medium", &self.medium), ("low", &self.low)] {
            let Some(fec) = fec else { continue };
            let key = |name: &str| format!("{class}.{name}");
            if !(0.0..=200.0).contains(&fec.overhead_percent) {
                let what = format!("{} % of repair symbols is out of range", fec.overhead_percent);
                mistakes.add(&key("overhead_percent"), what, "0 to 200; 10 is usual");
            }
            if fec.symbol_length_bytes != 0 && !SYMBOL_LENGTHS.contains(&fec.symbol_length_bytes) {
                let what = format!("{} bytes is out of range", fec.symbol_length_bytes);
                mistakes.add(&key("symbol_length_bytes"), what, "64 to 8000, or leave it out");
            }
            if !(10_000..=64 << 20).contains(&fec.block_bytes) {
                let what = format!("{} bytes is out of range", fec.block_bytes);
                mistakes.add(
                    &key("block_bytes"),
                    what,
                    "10_000 to 67_108_864; 1_000_000 to 2_000_000 suit a set-top box",
                );
            }
        }
        mistakes.found
    }
}
