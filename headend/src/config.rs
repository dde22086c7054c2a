//! The headend's configuration file: one typed tree, unknown keys refused, units in key names.
//!
//! `configs/headend.toml` is a commented example of all of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use carousel::config::{self, Mistake};
use carousel::fec::{EncodingId, Protection};
use carousel::flute::{FDT_ROOT_BYTES, FdtNamespace, SenderProfile};
use carousel::lct::Widths;
use carousel::mpe;
use carousel::nip::DeliveryParameters;
use carousel::query::{IgnoredQuery, MAX_PARAMETERS};
use serde::Deserialize;

use crate::air::PACKET_BYTES;
use crate::catalog::config::{DvbI, ServiceConfig, tag_of};
use crate::forecast::{DvbS2, Forecast};
use crate::multiplex::config::{Carry, Multiplex};
use crate::plan::Class;
use crate::simulate::Simulation;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The one-way link.
    pub link: Link,
    /// Where packets go out.
    #[serde(default)]
    pub output: Output,
    /// A transport stream (or baseband frames) instead of bare IP packets.
    #[serde(default)]
    pub multiplex: Option<Multiplex>,
    /// Groups and ports of the sessions.
    #[serde(default)]
    pub sessions: Sessions,
    /// What the announcement channel says of this NIP stream.
    #[serde(default)]
    pub nip: Nip,
    /// What televisions are told: with this table the catalogue goes on the air.
    #[serde(default)]
    pub dvb_i: Option<DvbI>,
    /// How the carousel turns.
    #[serde(default)]
    pub carousel: Carousel,
    /// What receivers are told about unicast repair.
    #[serde(default)]
    pub repair: Repair,
    /// Forward error correction of media, by class.
    #[serde(default)]
    pub fec: FecClasses,
    /// What is meant to be sent one day: for `plan` alone.
    #[serde(rename = "forecast", default)]
    pub forecasts: Vec<Forecast>,
    /// What receivers are like: for `plan` alone.
    #[serde(default)]
    pub receiver: Receiver,
    /// Receivers, weather and viewing: for `plan --simulate` alone.
    #[serde(default)]
    pub simulation: Simulation,
    /// What is sent.
    #[serde(rename = "source", default)]
    pub sources: Vec<Source>,
    /// `dvb_i`, or what it would be if it were there.
    #[serde(skip)]
    pub catalog: DvbI,
    /// The file itself, where it was one.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

/// `[link]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Bits a second of IP packets, IP and UDP headers included; with `[multiplex]` those of the transport stream. Left
    /// out: that of `dvb_s2`.
    #[serde(default)]
    pub rate_bps: u64,
    /// The carrier, which gives the rate where that is left out.
    #[serde(default)]
    pub dvb_s2: Option<DvbS2>,
}

/// `[receiver]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Receiver {
    /// Bytes that its cache holds.
    pub cache_bytes: Option<u64>,
}

/// `[output]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Output {
    /// Interface that multicast leaves by: a name (`eth1`) or one of its addresses. Empty: the system's choice.
    pub interface: String,
    /// IP TTL or hop limit.
    pub ttl: u8,
    /// Differentiated services code point, 0 to 63.
    pub dscp: u8,
}

impl Default for Output {
    fn default() -> Self {
        Self { interface: String::new(), ttl: 8, dscp: 0 }
    }
}

/// `[sessions]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// Whether the DVB-NIP announcement channel is sent.
    pub announce: bool,
    /// Group and port of the announcement channel. TS 103 876 fixes it; change it only in a laboratory.
    pub announcement: SocketAddr,
    /// Session with the gateway configuration, manifests and init segments. TSI 1.
    pub configuration: SocketAddr,
    /// First media session group and port; each source has a group of its own, counted up from here.
    pub media: SocketAddr,
    /// Address that packets come from, as receivers see it: they join source-specific then. Left out: any source.
    pub source: Option<IpAddr>,
}

impl Default for Sessions {
    fn default() -> Self {
        let v4 = |a, b, c, d, port| SocketAddr::from((Ipv4Addr::new(a, b, c, d), port));
        Self {
            announce: true,
            announcement: v4(224, 0, 23, 14, 3937),
            configuration: v4(239, 192, 49, 1, 49001),
            media: v4(239, 192, 50, 1, 49002),
            source: None,
        }
    }
}

/// `[nip]`: who and where this stream is (TS 103 876 clauses 8.1.4.2 and 8.4.2).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nip {
    /// NIPNetworkProviderName and NIPStreamProviderName.
    pub provider: String,
    /// NetworkName.
    pub network_name: String,
    /// NIPNetworkID, 1 to 65280.
    pub network_id: u16,
    /// NIPCarrierID.
    pub carrier_id: u16,
    /// NIPLinkID.
    pub link_id: u16,
    /// NIPServiceID.
    pub service_id: u16,
    /// Satellite carrier, if there is one: goes into the NetworkInformationFile so that receivers can tune.
    pub carrier: Option<Carrier>,
    /// DVB-I service lists to announce (service list entry points). The lists themselves are objects of a source.
    pub service_lists: Vec<ServiceList>,
}

/// `[nip.carrier]`: a DVB-S2 carrier.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carrier {
    /// Frequency in units of 10 kHz: 1172750 is 11727.5 MHz.
    pub frequency_10khz: u32,
    /// `horizontal`, `vertical`, `left circular`, `right circular`.
    pub polarization: String,
    /// `QPSK`, `8PSK`, …
    pub modulation: String,
    /// `0.35`, `0.25`, `0.20`.
    pub roll_off: String,
    /// Symbol rate in ksym/s.
    pub symbol_rate_ksps: u32,
    /// Inner code rate, such as `3/4`.
    pub fec: String,
    /// Degrees of the satellite, east positive.
    #[serde(default)]
    pub orbital_position: Option<f64>,
}

/// `[[nip.service_lists]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceList {
    /// Name for people.
    pub name: String,
    /// URI of the list.
    pub uri: String,
}

impl Nip {
    /// Delivery parameters for the NetworkInformationFile.
    pub fn delivery(&self) -> Option<DeliveryParameters> {
        self.carrier.as_ref().map(|it| {
            let (rate, fec) = (it.symbol_rate_ksps, &it.fec);
            DeliveryParameters::dvb_s2(
                it.frequency_10khz,
                &it.polarization,
                &it.modulation,
                &it.roll_off,
                rate,
                fec,
            )
        })
    }
}

impl Default for Nip {
    fn default() -> Self {
        Self {
            provider: "Skycache".to_owned(),
            network_name: "Skycache".to_owned(),
            network_id: 1,
            carrier_id: 1001,
            link_id: 0,
            service_id: 5001,
            carrier: None,
            service_lists: Vec::new(),
        }
    }
}

/// `[carousel]`
#[derive(Debug, Clone, Deserialize)]
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
    /// How often followed directories are read again.
    pub rescan_interval_ms: u64,
    /// Promise: every object comes round at least this often. What the link cannot carry so fast is refused by `plan`,
    /// and sent as well as it can be. 0 promises nothing.
    pub cycle_s: u64,
    /// How often the announcement documents are made anew although nothing has changed: their dates are never older.
    pub refresh_s: u64,
    /// How long caches may take an object for fresh after its last description; 0 says nothing.
    pub expiry_s: u32,
    /// The same for guides and metadata: XML and JSON that are no manifests.
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
            guide_expiry_s: 3600,
        }
    }
}

/// What packets look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
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
}

/// `[repair]`: UnicastRepairParameters of TS 103 769. The base URLs are the sources' own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Repair {
    /// Whether receivers are told to repair from the sources' base URLs.
    pub enabled: bool,
    /// Silence after which an object counts as lost in part.
    pub reception_timeout_ms: u64,
    /// Wait before repair begins.
    pub fixed_back_off_ms: u64,
    /// Further wait, drawn anew by each receiver between 0 and this.
    pub random_back_off_ms: u64,
}

impl Default for Repair {
    fn default() -> Self {
        Self { enabled: true, reception_timeout_ms: 2000, fixed_back_off_ms: 0, random_back_off_ms: 1000 }
    }
}

/// `[fec]`
#[derive(Debug, Clone, Default, Deserialize)]
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
#[derive(Debug, Clone, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
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
            block_bytes: fec.block_bytes,
        }
    }
}

/// `[[source]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Directory with packaged HLS or DASH, or one manifest.
    pub path: PathBuf,
    /// URL under which players and the CDN know that directory; ends with `/`.
    pub base: String,
    /// A name for people; the last part of `path` if left out.
    #[serde(default)]
    pub name: String,
    /// Identifier in the gateway configuration, equal to the DVB-I UniqueIdentifier: a tag URI. Left out: made of the base
    /// URL, `tag:cdn.example.com,2026:vod/film` for `https://cdn.example.com/vod/film/`.
    #[serde(default)]
    pub service_id: String,
    /// How much it is wanted.
    #[serde(default)]
    pub class: Class,
    /// How much it is asked for beside others of its class.
    #[serde(default = "Source::default_popularity")]
    pub popularity: f64,
    /// Live: its media go out at once, once, within this rate, which the carousel does not get. Left out: the carousel
    /// repeats them for as long as a manifest refers to them.
    #[serde(default)]
    pub reserved_bps: Option<u64>,
    /// Only the first so many seconds of media are carried; the rest comes from the origin. Segments of a rung are taken
    /// to be of equal length.
    #[serde(default)]
    pub prefix_s: Option<u64>,
    /// How long caches may take its objects for fresh, instead of `carousel.expiry_s`.
    #[serde(default)]
    pub expiry_s: Option<u32>,
    /// Also send files that no manifest refers to.
    #[serde(default)]
    pub include_unreferenced: bool,
    /// Query parameters of its URIs that do not distinguish objects: `true` for all, `false` for none, or a list of names.
    /// Left out: those that its manifests have, such as session identifiers and version hashes. Receivers are told.
    #[serde(default)]
    pub ignore_query: Option<IgnoreQuery>,
    /// What televisions are told of it.
    #[serde(default)]
    pub service: ServiceConfig,
}

/// `ignore_query` of a source.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum IgnoreQuery {
    /// All parameters, or none.
    All(bool),
    /// These.
    Names(Vec<String>),
}

impl Source {
    /// The rule of `ignore_query`; `None`: made from the manifests.
    pub fn ignored_query(&self) -> Option<IgnoredQuery> {
        self.ignore_query.as_ref().map(|rule| match rule {
            IgnoreQuery::All(true) => IgnoredQuery::All,
            IgnoreQuery::All(false) => IgnoredQuery::Nothing,
            IgnoreQuery::Names(names) if names.is_empty() => IgnoredQuery::Nothing,
            IgnoreQuery::Names(names) => IgnoredQuery::Names(names.clone()),
        })
    }

    const fn default_popularity() -> f64 {
        1.0
    }
}

impl Config {
    /// Reads and checks a file. `path` of sources is relative to the file's folder.
    ///
    /// # Errors
    /// Every mistake at once, one line each, with its place and its mend.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|err| format!("{}: {err}; name the configuration with -c FILE", path.display()))?;
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        let mut config = Self::parse(&text, folder).map_err(|mistakes| {
            let lines = mistakes.iter().map(|mistake| format!("{}:{mistake}", path.display()));
            lines.collect::<Vec<_>>().join("\n")
        })?;
        config.file = Some(path.to_owned());
        Ok(config)
    }

    /// Reads and checks the text of a file that lies in `folder`.
    ///
    /// # Errors
    /// Every mistake that was found.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Vec<Mistake>> {
        let mut config: Self = config::load(text)?;
        if config.link.rate_bps == 0
            && let Some(carrier) = &config.link.dvb_s2
        {
            config.link.rate_bps = carrier.rate_bps().ok_or_else(|| {
                let what = format!("DVB-S2 has no {} {}", carrier.modulation, carrier.fec);
                vec![Mistake::of_value(
                    "link.dvb_s2",
                    &what,
                    "8PSK with 3/4 is one; QPSK, 16APSK, 32APSK are others",
                )]
            })?;
        }
        for source in &mut config.sources {
            if source.path.is_relative() {
                source.path = folder.join(&source.path);
            }
            if source.name.is_empty() {
                let last = source.path.file_name().map(|name| name.to_string_lossy().into_owned());
                source.name = last.unwrap_or_else(|| "source".to_owned());
            }
            if source.service_id.is_empty() {
                source.service_id = tag_of(&source.base);
            }
            source.service.settle(folder);
        }
        config.catalog = config.dvb_i.clone().unwrap_or_default();
        config.catalog.settle(folder, &config.nip.provider);
        let mistakes = config.mistakes();
        if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
    }

    /// What is well-formed but makes no sense.
    fn mistakes(&self) -> Vec<Mistake> {
        let mut all = Vec::new();
        let mut wrong = |key: &str, what: String, mend: &str| all.push(Mistake::of_value(key, &what, mend));
        if self.link.rate_bps < 1000 {
            wrong(
                "link.rate_bps",
                format!("{} bits a second is no link", self.link.rate_bps),
                "give the rate in bit/s, such as 20_000_000, or [link.dvb_s2]",
            );
        }
        if !(64..=8000).contains(&self.carousel.symbol_length_bytes) {
            wrong(
                "carousel.symbol_length_bytes",
                "must be 64 to 8000".to_owned(),
                "1400 fits every Ethernet",
            );
        }
        for (key, value) in [
            ("carousel.fdt_interval_ms", self.carousel.fdt_interval_ms),
            ("carousel.announcement_interval_ms", self.carousel.announcement_interval_ms),
            ("carousel.manifest_interval_ms", self.carousel.manifest_interval_ms),
            ("carousel.rescan_interval_ms", self.carousel.rescan_interval_ms),
        ] {
            if value < 10 {
                wrong(key, format!("{value} ms is too often"), "10 or more");
            }
        }
        if self.carousel.refresh_s == 0 {
            wrong("carousel.refresh_s", "0 is always".to_owned(), "900 is usual");
        }
        for (key, fec) in
            [("fec.high", &self.fec.high), ("fec.medium", &self.fec.medium), ("fec.low", &self.fec.low)]
        {
            let Some(fec) = fec else { continue };
            if !(0.0..=200.0).contains(&fec.overhead_percent) {
                let what = format!("{} % of repair symbols", fec.overhead_percent);
                wrong(&format!("{key}.overhead_percent"), what, "0 to 200; 10 is usual");
            }
            if fec.symbol_length_bytes != 0 && !(64..=8000).contains(&fec.symbol_length_bytes) {
                wrong(&format!("{key}.symbol_length_bytes"), "must be 64 to 8000".to_owned(), "leave it out");
            }
            if !(10_000..=64 << 20).contains(&fec.block_bytes) {
                let what = format!("{} bytes", fec.block_bytes);
                wrong(&format!("{key}.block_bytes"), what, "1_000_000 to 2_000_000 suit a set-top box");
            }
        }
        let simulation = &self.simulation;
        if !(0.0..=0.9).contains(&simulation.loss) {
            wrong(
                "simulation.loss",
                format!("{} is out of range", simulation.loss),
                "0 to 0.9; 0.01 is a hundredth",
            );
        }
        if !(1..=10_000_000).contains(&simulation.receivers) {
            wrong("simulation.receivers", format!("{} receivers", simulation.receivers), "1 to 10_000_000");
        }
        if !(1..=30 * 86_400).contains(&simulation.duration_s) {
            wrong("simulation.duration_s", format!("{} s", simulation.duration_s), "up to 30 days");
        }
        if !(1..=1000).contains(&simulation.regions) {
            wrong("simulation.regions", format!("{} regions", simulation.regions), "1 to 1000");
        }
        for region in simulation.fades.iter().flat_map(|fade| &fade.regions) {
            if *region >= simulation.regions {
                wrong("simulation.fade.regions", format!("there is no region {region}"), "count from 0");
            }
        }
        if simulation.viewing.as_ref().is_some_and(|viewing| viewing.segment_bytes < 1000) {
            wrong("simulation.viewing.segment_bytes", "too short".to_owned(), "2_000_000 is usual");
        }
        if let Some(multiplex) = &self.multiplex {
            all.extend(multiplex.mistakes());
            if multiplex.carry == Carry::Gse && self.code_rate().is_none() {
                let mend = "give [link.dvb_s2] or [nip.carrier] with a code rate such as 3/4";
                all.push(Mistake::of_value(
                    "multiplex.carry",
                    "the size of baseband frames is not known",
                    mend,
                ));
            }
            let has_fec = [&self.fec.high, &self.fec.medium, &self.fec.low].iter().any(|it| it.is_some());
            let longest = mpe::MAX_DATAGRAM_BYTES - PACKET_BYTES as usize;
            if multiplex.carry == Carry::Mpe && usize::from(self.carousel.symbol_length_bytes) > longest {
                let what = format!("{} bytes do not fit a section", self.carousel.symbol_length_bytes);
                let mend = format!("{longest} at most with [multiplex] carry = \"mpe\"");
                all.push(Mistake::of_value("carousel.symbol_length_bytes", &what, &mend));
            }
            if multiplex.is_carousel() && has_fec {
                let mend = "a carousel of modules has no FEC: leave [fec] out";
                all.push(Mistake::of_value("fec", "has no use here", mend));
            }
        }
        let services = self.sources.iter().map(|source| (source.name.clone(), &source.service));
        all.extend(self.catalog.mistakes(&services.collect::<Vec<_>>()));
        let mut wrong = |key: &str, what: String, mend: &str| all.push(Mistake::of_value(key, &what, mend));
        if self.output.dscp > 63 {
            wrong(
                "output.dscp",
                format!("{} is no code point", self.output.dscp),
                "0 to 63; 34 is AF41, for video",
            );
        }
        let addresses = [
            ("sessions.announcement", self.sessions.announcement),
            ("sessions.configuration", self.sessions.configuration),
            ("sessions.media", self.sessions.media),
        ];
        for (key, address) in addresses {
            if address.port() == 0 {
                wrong(key, "port 0".to_owned(), "a port from 1 to 65535");
            }
            if address.ip().is_unspecified() {
                wrong(
                    key,
                    format!("{} is no destination", address.ip()),
                    "a multicast group or a host's address",
                );
            }
        }
        if self.sources.is_empty() && self.forecasts.is_empty() {
            wrong("source", "nothing to send".to_owned(), "add a [[source]] with path and base");
        }
        for (at, source) in self.sources.iter().enumerate() {
            let key = |name: &str| format!("source[{at}].{name}");
            if !source.base.starts_with("http://") && !source.base.starts_with("https://") {
                wrong(
                    &key("base"),
                    format!("{:?} is no URL", source.base),
                    "http://host/path/ or https://host/path/",
                );
            } else if !source.base.ends_with('/') {
                wrong(
                    &key("base"),
                    "must end with /".to_owned(),
                    "add the slash: it is the URL of the directory",
                );
            }
            if !(1e-6..=1e6).contains(&source.popularity) {
                wrong(
                    &key("popularity"),
                    format!("{} is out of range", source.popularity),
                    "0.000001 to 1000000; 1 is the middle of its class",
                );
            }
            if source.reserved_bps == Some(0) {
                wrong(&key("reserved_bps"), "0 reserves nothing".to_owned(), "leave it out, or give a rate");
            }
            if let Some(IgnoreQuery::Names(names)) = &source.ignore_query
                && names.len() > MAX_PARAMETERS
            {
                let what = format!("{} names are more than {MAX_PARAMETERS}", names.len());
                wrong(&key("ignore_query"), what, "true ignores all");
            }
            if source.prefix_s == Some(0) {
                wrong(&key("prefix_s"), "0 carries nothing".to_owned(), "leave it out, or give seconds");
            }
            if !source.path.exists() {
                wrong(
                    &key("path"),
                    format!("{} is not there", source.path.display()),
                    "name a directory or a manifest",
                );
            }
        }
        all
    }

    /// Bits a second that are left for IP packets, or for objects where modules carry them.
    pub fn payload_rate_bps(&self) -> u64 {
        let share = self.multiplex.as_ref().map_or(1.0, Multiplex::payload_share);
        (self.link.rate_bps as f64 * share) as u64
    }

    /// The carrier's code rate, such as `3/4`.
    pub fn code_rate(&self) -> Option<&str> {
        let of_link = self.link.dvb_s2.as_ref().map(|it| it.fec.as_str());
        of_link.or_else(|| self.nip.carrier.as_ref().map(|it| it.fec.as_str()))
    }

    /// Bits a second that are reserved for live sources.
    pub fn reserved_bps(&self) -> u64 {
        self.sources.iter().filter_map(|source| source.reserved_bps).sum()
    }

    /// Group and port of the media sessions of source number `index`.
    pub fn media_address(&self, index: usize) -> SocketAddr {
        let offset = index as u32;
        let ip = match self.sessions.media.ip() {
            IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits().wrapping_add(offset))),
            IpAddr::V6(ip) => {
                IpAddr::V6(std::net::Ipv6Addr::from_bits(ip.to_bits().wrapping_add(u128::from(offset))))
            }
        };
        SocketAddr::new(ip, self.sessions.media.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_loads_with_what_it_has_commented_out_too() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let uplinks = ["carousel-modulator", "mpe-modulator", "gse-modulator", "hub", "leo-gateway"];
        let uplinks = uplinks.map(|name| format!("uplink/{name}.toml"));
        let others = ["headend.toml", "feasibility.toml", "launch.toml"].map(str::to_owned);
        for name in others.into_iter().chain(uplinks) {
            let path = folder.join(&name);
            Config::load(&path).unwrap_or_else(|why| panic!("{why}"));
            let own_folder = path.parent().unwrap();
            let text = config::uncommented(&std::fs::read_to_string(&path).unwrap());
            Config::parse(&text, own_folder).unwrap_or_else(|why| panic!("{name}: {why:?}"));
        }
    }
}
