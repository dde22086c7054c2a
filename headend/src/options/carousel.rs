//! `[carousel]`: packets, intervals and expiry of the FLUTE carousel.

use ::carousel::config::Mistake;
use ::carousel::flute::{FDT_ROOT_BYTES, FdtNamespace, SenderProfile};
use ::carousel::lct::Widths;
use serde::{Deserialize, Serialize};

use super::Mistakes;

/// Encoding symbols that packets of every link can carry, bytes.
pub(super) const SYMBOL_LENGTHS: std::ops::RangeInclusive<u16> = 64..=8000;
/// The shortest interval at which something can be repeated.
pub(super) const MIN_INTERVAL_MS: u64 = 10;

/// `[carousel]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Carousel {
    /// `compatible`: what every known receiver takes; `strict`: TS 103 769 Annex F by the letter; `bits16`: 16-bit TSI
    /// and TOI.
    pub profile: Profile,
    /// Encoding symbol length E in bytes.
    pub symbol_length_bytes: u16,
    /// An FDT Instance is repeated this often, and sent right before an object that it describes if it was not sent for
    /// so long. Repeating all of a large FDT takes longer: it never takes more than a twentieth of the link.
    pub fdt_interval_ms: u64,
    /// Most bytes of an FDT Instance. While all files of a session fit, one instance describes them: receivers are about
    /// that forget a session's files with every further instance (GPAC). Above, the FDT is split and a receiver must take
    /// the union, as RFC 6726 says. 1400 gives instances of one packet each, of which no loss can take a part.
    pub fdt_instance_bytes: usize,
    /// Hard maximum between two repeats of each announcement object.
    pub announcement_interval_ms: u64,
    /// Hard maximum between two repeats of the gateway configuration, each manifest and init segment.
    pub manifest_interval_ms: u64,
    /// Validity of an FDT Instance.
    pub fdt_lifetime_s: u32,
    /// Interval at which followed directories are read again.
    pub rescan_interval_ms: u64,
    /// Promise: every object is repeated at least this often. A cycle that the link cannot carry is refused by `plan`, and
    /// sent as well as it can be. 0 promises nothing.
    pub cycle_s: u64,
    /// Interval at which the announcement documents are made again although nothing has changed: their dates are never older.
    pub refresh_s: u64,
    /// Time for which caches may take an object for fresh after its last description; 0 says nothing.
    pub expiry_s: u32,
    /// The same for manifests of live sources (those with `reserved_bps`), whatever `expiry_s` of the source says.
    pub live_manifest_expiry_s: u32,
    /// The same for guides and metadata: XML and JSON that are not manifests.
    pub guide_expiry_s: u32,
}

impl Default for Carousel {
    fn default() -> Self {
        Self {
            profile: Profile::Compatible,
            symbol_length_bytes: 1400,
            fdt_interval_ms: 1000,
            fdt_instance_bytes: 256 << 10,
            announcement_interval_ms: 1000,
            manifest_interval_ms: 2000,
            fdt_lifetime_s: 3600,
            rescan_interval_ms: 500,
            cycle_s: 3600,
            refresh_s: 900,
            expiry_s: 86_400,
            live_manifest_expiry_s: 1,
            guide_expiry_s: 3600,
        }
    }
}

/// Profile of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// 2005 namespace, 32-bit TSI and TOI, EXT_FTI everywhere.
    Compatible,
    /// 3GPP 2022 namespace, EXT_FTI on FDT packets only.
    Strict,
    /// As compatible, with 16-bit TSI and TOI.
    Bits16,
}

impl Carousel {
    /// The sender's profile.
    pub fn sender_profile(&self) -> SenderProfile {
        let base = SenderProfile {
            symbol_length: self.symbol_length_bytes,
            fdt_lifetime_s: self.fdt_lifetime_s,
            fdt_page_bytes: self.fdt_instance_bytes.saturating_sub(FDT_ROOT_BYTES).max(64),
            ..SenderProfile::default()
        };
        match self.profile {
            Profile::Compatible => base,
            Profile::Strict => {
                SenderProfile { fti_everywhere: false, namespace: FdtNamespace::ThreeGpp2022, ..base }
            }
            Profile::Bits16 => SenderProfile { widths: Widths::BITS_16, ..base },
        }
    }

    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Mistakes::of("carousel");
        if !SYMBOL_LENGTHS.contains(&self.symbol_length_bytes) {
            let what = format!("{} bytes is out of range", self.symbol_length_bytes);
            mistakes.add("symbol_length_bytes", what, "64 to 8000; 1400 fits every Ethernet");
        }
        for (key, value) in [
            ("fdt_interval_ms", self.fdt_interval_ms),
            ("announcement_interval_ms", self.announcement_interval_ms),
            ("manifest_interval_ms", self.manifest_interval_ms),
            ("rescan_interval_ms", self.rescan_interval_ms),
        ] {
            if value < MIN_INTERVAL_MS {
                mistakes.add(key, format!("{value} ms is too short"), "10 or more");
            }
        }
        if self.refresh_s == 0 {
            mistakes.add("refresh_s", "must be greater than 0".to_owned(), "900 is usual");
        }
        mistakes.found
    }
}
