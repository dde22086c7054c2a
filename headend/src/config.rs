//! Configuration file of the headend: one typed tree, unknown keys refused, units in key names.
//!
//! `configs/headend.toml` is a commented example of all keys.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use carousel::config::{self, Mistake, Program};
use carousel::mpe;
use carousel::trust::Sealer;
use serde::{Deserialize, Serialize};

pub use crate::options::{
    Carousel, Carry, Class, DvbI, Fec, FecClasses, Firmware, Forecast, Ingest, Lease, Link, Metrics,
    Multiplex, Nip, Output, Profile, Receiver, Repair, Sessions, Signing, Simulation, Source,
    TransportProtocol,
};
use crate::overhead::PACKET_BYTES;

/// The whole file.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The one-way link.
    #[serde(default)]
    pub link: Link,
    /// Output of packets.
    #[serde(default)]
    pub output: Output,
    /// A transport stream (or baseband frames) instead of bare IP packets.
    #[serde(default)]
    pub multiplex: Option<Multiplex>,
    /// Groups and ports of the sessions.
    #[serde(default)]
    pub sessions: Sessions,
    /// Description of this NIP stream in the announcement channel.
    #[serde(default)]
    pub nip: Nip,
    /// Catalogue for televisions: with this table the catalogue is sent.
    #[serde(default)]
    pub dvb_i: Option<DvbI>,
    /// Settings of the carousel.
    #[serde(default)]
    pub carousel: Carousel,
    /// Signing of the carousel: with this table receivers can distinguish it from others.
    #[serde(default)]
    pub signing: Option<Signing>,
    /// Firmware updates for receivers, as `headend firmware` offers them. Needs `[signing]`.
    #[serde(default)]
    pub firmware: Option<Firmware>,
    /// Unicast repair, as it is announced to receivers.
    #[serde(default)]
    pub repair: Repair,
    /// Forward error correction of media, by class.
    #[serde(default)]
    pub fec: FecClasses,
    /// Packagers that upload what is sent.
    #[serde(default)]
    pub ingest: Option<Ingest>,
    /// Several headends with this configuration, of which one sends: with this table it does so only while it holds the lease.
    #[serde(default)]
    pub lease: Option<Lease>,
    /// A listener for Prometheus.
    #[serde(default)]
    pub metrics: Option<Metrics>,
    /// Sources that are meant to be sent one day: for `plan` alone.
    #[serde(rename = "forecast", default)]
    pub forecasts: Vec<Forecast>,
    /// Receivers as they are assumed: for `plan` alone.
    #[serde(default)]
    pub receiver: Receiver,
    /// Receivers, weather and viewing: for `plan --simulate` alone.
    #[serde(default)]
    pub simulation: Simulation,
    /// Sources.
    #[serde(rename = "source", default)]
    pub sources: Vec<Source>,
    /// `dvb_i`, or its defaults.
    #[serde(skip)]
    pub catalog: DvbI,
    /// Signing keys, once they have been read.
    #[serde(skip)]
    pub sealer: Option<Sealer>,
    /// Path of the file, if it was read from one.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

impl Config {
    /// Reads and checks a file. `path` of sources is relative to the file's folder.
    ///
    /// # Errors
    /// Every mistake at once, one line each, with its place and its fix.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|err| {
            format!("{}: {}; {}", path.display(), config::plain(&err), config::fix_of(&err))
        })?;
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        let mut config = Self::parse(&text, folder).map_err(|mistakes| {
            if let Some(why) = Program::Headend.refuses(&text) {
                return format!("{}: {why}", path.display());
            }
            let placed = mistakes.into_iter().map(|mistake| match config::locate(&[&text], &mistake.key) {
                Some((_, line, column)) if mistake.line == 0 => Mistake { line, column, ..mistake },
                _ => mistake,
            });
            let lines = placed.map(|mistake| format!("{}:{mistake}", path.display()));
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
        config.link.complete().map_err(|mistake| vec![mistake])?;
        for source in &mut config.sources {
            source.complete(folder);
        }
        if let Some(signing) = &mut config.signing {
            signing.settle(folder);
        }
        if let Some(firmware) = &mut config.firmware {
            firmware.settle(folder);
        }
        if let Some(ingest) = &mut config.ingest {
            ingest.complete(folder);
        }
        if let Some(lease) = &mut config.lease {
            lease.settle(folder);
        }
        config.catalog = config.dvb_i.clone().unwrap_or_default();
        config.catalog.settle(folder, &config.nip.provider);
        let mistakes = config.mistakes();
        if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
    }

    /// Mistakes in well-formed values.
    fn mistakes(&self) -> Vec<Mistake> {
        let mut all = self.link.mistakes();
        all.extend(self.carousel.mistakes());
        all.extend(self.fec.mistakes());
        all.extend(self.simulation.mistakes());
        if let Some(multiplex) = &self.multiplex {
            all.extend(multiplex.mistakes());
            all.extend(self.mistakes_beside(multiplex));
        }
        let services = self.sources.iter().map(|source| (source.name.clone(), &source.service));
        all.extend(self.catalog.mistakes(&services.collect::<Vec<_>>()));
        all.extend(self.output.mistakes());
        all.extend(self.sessions.mistakes());
        all.extend(self.mistakes_of_media_groups());
        if self.sources.is_empty() && self.forecasts.is_empty() {
            all.push(Mistake::of_value("source", "nothing to send", "add a [[source]] with path and base"));
        }
        for (at, source) in self.sources.iter().enumerate() {
            all.extend(source.mistakes(at));
        }
        all.extend(self.ingest.iter().flat_map(Ingest::mistakes));
        all.extend(self.mistakes_of_ingest());
        all.extend(self.mistakes_of_firmware());
        all.extend(self.lease.iter().flat_map(Lease::mistakes));
        all.extend(self.mistakes_of_lease());
        all
    }

    /// Media on the announcement channel, which every receiver joins.
    fn mistakes_of_media_groups(&self) -> Option<Mistake> {
        let announcement = self.sessions.announcement;
        let is_same = |at: &usize| self.media_address(*at) == announcement;
        let at = (0..self.sources.len()).find(is_same).filter(|_| self.sessions.announce)?;
        let what = format!(
            "{announcement} is the announcement channel, which every receiver joins: all of them would get the media of \
             source {}",
            self.sources[at].name
        );
        Some(Mistake::of_value("sessions.media", &what, "give the media a group of their own"))
    }

    /// Mistakes: settings that exclude `[lease]`, since another headend could not take over with them.
    fn mistakes_of_lease(&self) -> Vec<Mistake> {
        if self.lease.is_none() {
            return Vec::new();
        }
        let mut all = Vec::new();
        let mut wrong = |key: &str, what: &str, fix: &str| all.push(Mistake::of_value(key, what, fix));
        if self.multiplex.is_some() {
            let what = "a transport stream does not go with [lease]: packets that wait in it would be sent after a takeover, \
                        and versions of DSM-CC modules are not shared";
            wrong(
                "multiplex",
                what,
                "leave [multiplex] out and make it behind both headends, or leave [lease] out",
            );
        }
        if self.carousel.profile == Profile::Bits16 {
            let what = "TOIs of 16 bits do not go with [lease]: a takeover would use some twice";
            wrong("carousel.profile", what, "give \"compatible\" or \"strict\", or leave [lease] out");
        }
        for (at, source) in self.sources.iter().enumerate() {
            if source.protocol == TransportProtocol::Route {
                let what = "ROUTE does not go with [lease]: versions of its signalling are not set aside";
                wrong(&format!("source[{at}].protocol"), what, "give \"flute\", or leave [lease] out");
            }
            if source.chunk_ms.is_some() {
                let what = "pieces do not go with [lease]: a segment that is being sent at a takeover would be discarded";
                wrong(&format!("source[{at}].chunk_ms"), what, "leave chunk_ms out, or leave [lease] out");
            }
        }
        all
    }

    /// Mistakes in `[firmware]` and the tables that it needs.
    fn mistakes_of_firmware(&self) -> Vec<Mistake> {
        let Some(firmware) = &self.firmware else { return Vec::new() };
        let mut all = firmware.mistakes();
        let mut wrong = |key: &str, what: &str, fix: &str| all.push(Mistake::of_value(key, what, fix));
        if self.signing.is_none() {
            let fix = "make keys with `headend keygen --out DIR` and name their folder in [signing] keys";
            wrong("firmware", "receivers take only what is signed", fix);
        }
        if firmware.rate_bps + self.reserved_bps() >= self.payload_rate_bps() {
            let fix = "give it less: media, signalling and live sources share the rest of the link";
            wrong("firmware.rate_bps", "it leaves nothing of the link", fix);
        }
        if self.multiplex.as_ref().is_some_and(Multiplex::is_carousel) {
            wrong(
                "firmware",
                "bundles are not DSM-CC modules",
                "carry IP: [multiplex] carry = \"mpe\" or \"gse\"",
            );
        }
        all
    }

    /// Mistakes in uploaded sources.
    fn mistakes_of_ingest(&self) -> Vec<Mistake> {
        let mut all = Vec::new();
        let uploaded: Vec<(usize, &Source)> =
            self.sources.iter().enumerate().filter(|(_, source)| source.ingest).collect();
        for (at, source) in &uploaded {
            let key = format!("source[{at}].ingest");
            let has_namesake = uploaded.iter().any(|(other, it)| other < at && it.name == source.name);
            if self.ingest.is_none() {
                all.push(Mistake::of_value(&key, "no listener is configured", "add [ingest] with listen"));
            } else if source.name.is_empty() || source.name.contains('/') || has_namesake {
                let fix = "give it a name of its own without a slash";
                all.push(Mistake::of_value(&key, "its name is the beginning of a path", fix));
            }
        }
        if self.ingest.is_some() && uploaded.is_empty() {
            let fix = "give a [[source]] ingest = true, or leave [ingest] out";
            all.push(Mistake::of_value("ingest", "no source takes uploads", fix));
        }
        all
    }

    /// Mistakes: values of other tables that are incompatible with `[multiplex]`.
    fn mistakes_beside(&self, multiplex: &Multiplex) -> Vec<Mistake> {
        let mut all = Vec::new();
        if multiplex.carry == Carry::Gse && self.code_rate().is_none() {
            let fix = "give [link.dvb_s2] or [nip.carrier] with a code rate such as 3/4";
            all.push(Mistake::of_value(
                "multiplex.carry",
                "the size of baseband frames follows from the code rate, which is missing",
                fix,
            ));
        }
        let longest = mpe::MAX_DATAGRAM_BYTES - PACKET_BYTES as usize;
        if multiplex.carry == Carry::Mpe && usize::from(self.carousel.symbol_length_bytes) > longest {
            let what = format!("{} bytes do not fit a section", self.carousel.symbol_length_bytes);
            let fix = format!("{longest} at most with [multiplex] carry = \"mpe\"");
            all.push(Mistake::of_value("carousel.symbol_length_bytes", &what, &fix));
        }
        if multiplex.is_carousel() && self.fec.is_configured() {
            let fix = "leave [fec] out: DSM-CC modules have no FEC";
            all.push(Mistake::of_value("fec", "cannot be used with this [multiplex] carry", fix));
        }
        all
    }

    /// The configuration that is in force, with every default, as TOML.
    ///
    /// # Errors
    /// None for a configuration that was read.
    pub fn to_toml(&self) -> Result<String, String> {
        config::to_toml(self)
    }

    /// Bit rate available for IP packets, or for objects carried in modules.
    pub fn payload_rate_bps(&self) -> u64 {
        let share = self.multiplex.as_ref().map_or(1.0, Multiplex::payload_share);
        (self.link.rate_bps as f64 * share) as u64
    }

    /// The carrier's code rate, such as `3/4`.
    pub fn code_rate(&self) -> Option<&str> {
        let of_link = self.link.dvb_s2.as_ref().map(|it| it.fec.as_str());
        of_link.or_else(|| self.nip.carrier.as_ref().map(|it| it.fec.as_str()))
    }

    /// Arguments that select this configuration, ` -c FILE`, for messages.
    pub fn flag(&self) -> String {
        self.file.as_ref().map_or_else(String::new, |it| format!(" -c {}", it.display()))
    }

    /// Arguments that select the folder of keys, ` --out DIR`, for messages.
    pub fn keys_flag(&self) -> String {
        self.signing.as_ref().map_or_else(String::new, |it| format!(" --out {}", it.keys.display()))
    }

    /// Bit rate reserved for live sources.
    pub fn reserved_bps(&self) -> u64 {
        self.sources.iter().filter_map(|source| source.reserved_bps).sum()
    }

    /// Bit rate of firmware.
    pub fn share_bps(&self) -> u64 {
        self.firmware.as_ref().map_or(0, |it| it.rate_bps)
    }

    /// Group and port of the media sessions of source number `index`.
    pub fn media_address(&self, index: usize) -> SocketAddr {
        self.sessions.media_address(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_on_the_announcement_channel_are_refused() {
        let source =
            |name: &str| format!("[[source]]\nname = '{name}'\npath = '{name}'\nbase = 'http://h/{name}/'\n");
        let sources = source("one") + &source("two");
        let parse = |media: &str, more: &str| {
            let text = format!("link.rate_bps = 8_000_000\n[sessions]\nmedia = '{media}'\n{more}{sources}");
            Config::parse(&text, Path::new("/")).err().unwrap_or_default()
        };
        for (media, name) in [("224.0.23.14:3937", "one"), ("224.0.23.13:3937", "two")] {
            let mistakes = parse(media, "");
            assert_eq!((mistakes.len(), mistakes[0].key.as_str()), (1, "sessions.media"), "{mistakes:?}");
            assert!(mistakes[0].what.ends_with(&format!("source {name}")), "{mistakes:?}");
        }
        assert!(parse("224.0.23.14:3938", "").is_empty(), "another port");
        assert!(parse("224.0.23.14:3937", "announce = false\n").is_empty(), "nothing is announced");
    }

    #[test]
    fn a_missing_link_is_called_by_its_name_with_an_example() {
        let text = "output.interface = 'lo'\n[[source]]\npath = '/v'\nbase = 'https://h/'\n";
        let found = Config::parse(text, Path::new("/")).unwrap_err();
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(texts, [" link: missing; add [link] with rate_bps = \"8 Mbit/s\", the rate of yours"]);
    }

    #[test]
    fn what_a_takeover_could_not_go_on_with_is_refused_beside_a_lease() {
        let live = "[[source]]\npath = '/v'\nbase = 'https://h/'\nreserved_bps = 1_000_000\n";
        let keys = |rest: &str, lease: &str| {
            let text = format!("[link]\nrate_bps = 8_000_000\n{rest}{lease}");
            let found = Config::parse(&text, Path::new("/")).err().unwrap_or_default();
            found.into_iter().map(|it| it.key).collect::<Vec<_>>()
        };
        let lease = "\n[lease]\nurl = 's3://bkt/a/'\n";
        assert!(keys(live, lease).is_empty(), "{:?}", keys(live, lease));
        for (rest, key) in [
            (format!("{live}chunk_ms = 200"), "source[0].chunk_ms"),
            (format!("{live}protocol = 'route'"), "source[0].protocol"),
            (format!("[carousel]\nprofile = 'bits16'\n{live}"), "carousel.profile"),
            (format!("[multiplex]\ncarry = 'mpe'\n{live}"), "multiplex"),
            (format!("[multiplex]\ncarry = 'mpe'\nforward = ['239.9.9.9:5000']\n{live}"), "multiplex"),
            (format!("[multiplex]\ncarry = 'data-carousel'\n{live}"), "multiplex"),
        ] {
            assert_eq!(keys(&rest, lease), [key], "{rest}");
            assert!(keys(&rest, "").is_empty(), "{rest}: {:?}", keys(&rest, ""));
        }
    }

    #[test]
    fn the_example_loads_with_what_it_has_commented_out_too() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let uplinks = ["carousel-modulator", "mpe-modulator", "gse-modulator", "hub", "leo-gateway"];
        let uplinks = uplinks.map(|name| format!("uplink/{name}.toml"));
        let others = ["headend.toml", "live.toml", "several.toml", "feasibility.toml", "launch.toml"]
            .map(str::to_owned);
        for name in others.into_iter().chain(uplinks) {
            let path = folder.join(&name);
            Config::load(&path).unwrap_or_else(|why| panic!("{why}"));
            let own_folder = path.parent().unwrap();
            let text = config::uncommented(&std::fs::read_to_string(&path).unwrap());
            let mut mistakes = Config::parse(&text, own_folder).err().unwrap_or_default();
            // It has everything, also what goes beside no lease.
            mistakes.retain(|it| !it.what.contains("not go with [lease]"));
            assert!(mistakes.is_empty(), "{name}: {mistakes:?}");
        }
    }
}
