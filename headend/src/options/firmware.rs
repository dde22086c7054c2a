//! `[firmware]`: firmware updates that receivers are offered.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use carousel::config::Mistake;
use carousel::config::url::{self, has_credentials};
use carousel::fec::{EncodingId, Protection};
use serde::{Deserialize, Serialize};

use super::{Mistakes, settle_url};

/// `[firmware]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// URL of the folder in which an origin has the bundles; ends with `/`. Receivers that have missed something repair from there.
    pub base: String,
    /// Rate at which bundles are sent, IP and UDP headers included. Media do not get it while a bundle is on offer.
    #[serde(default = "Firmware::default_rate")]
    pub rate_bps: u64,
    /// Group and port of their sessions.
    #[serde(default = "Firmware::default_group")]
    pub group: SocketAddr,
    /// Folder of the offers, which `headend firmware` writes. Left out: `firmware` in the folder of the keys.
    #[serde(default)]
    pub folder: Option<PathBuf>,
    /// Repair symbols (RaptorQ) for each hundred source symbols.
    #[serde(default = "Firmware::default_overhead")]
    pub overhead_percent: f64,
}

impl Firmware {
    const fn default_rate() -> u64 {
        2_000_000
    }

    const fn default_group() -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(239, 192, 49, 2)), 49003)
    }

    const fn default_overhead() -> f64 {
        10.0
    }

    pub(crate) fn settle(&mut self, folder: &Path) {
        settle_url(&mut self.base);
        self.folder = self.folder.as_ref().map(|it| folder.join(it));
    }

    /// The protection of bundles: blocks of a megabyte, which any receiver decodes in memory.
    pub fn protection(&self) -> Protection {
        Protection {
            id: EncodingId::RAPTORQ,
            symbol_length: 0,
            overhead: self.overhead_percent / 100.0,
            least_repair: 3,
            burst_packets: 0,
            block_bytes: 1 << 20,
        }
    }

    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Mistakes::of("firmware");
        if has_credentials(&self.base) {
            let what = "it has a user or password, which would go on the air".to_owned();
            mistakes.add("base", what, "the URL without: boxes have credentials of their own");
        } else if !carousel::firmware::is_url(&self.base) || !self.base.ends_with('/') {
            let what = format!("{:?} is not a URL of a folder", self.base);
            mistakes.add("base", what, "https://host/path/, with the slash at its end");
        } else if let Some(fault) = url::faults(&self.base).into_iter().next() {
            mistakes.add("base", fault.what, &fault.fix);
        }
        if self.rate_bps < 10_000 {
            let what = format!("{} bit/s is out of range", self.rate_bps);
            mistakes.add("rate_bps", what, "10_000 at least; at 2_000_000 150 MB take eleven minutes");
        }
        if !self.group.ip().is_multicast() || self.group.port() == 0 {
            mistakes.add("group", format!("{} is not a group with a port", self.group), "239.192.49.2:49003");
        }
        if !(0.0..=200.0).contains(&self.overhead_percent) {
            let what = format!("{} % of repair symbols is out of range", self.overhead_percent);
            mistakes.add("overhead_percent", what, "0 to 200; 10 is usual");
        }
        mistakes.found
    }
}
