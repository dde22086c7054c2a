//! `[multiplex]`: transport streams and baseband frames, for receivers without native IP.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use carousel::config::Mistake;
use carousel::digest::from_hex;
use carousel::dsmcc::message::{Compatible, CompatibleKind};
use carousel::dsmcc::{self, Profile, Shape};
use carousel::ts::Pid;
use carousel::ts::psi::{Oui, UpdateType};
use serde::{Deserialize, Deserializer, Serialize};

use super::Mistakes;

/// `[multiplex]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Multiplex {
    /// Content of the stream.
    pub carry: Carry,
    /// Destination of `send`: `udp://ADDRESS:PORT` or `rtp://ADDRESS:PORT`, multicast or unicast.
    pub to: Option<Destination>,
    /// Groups of others that are carried along, where IP is: joined on `output.interface`.
    pub forward: Vec<SocketAddr>,
    /// Null packets fill the stream up to `link.rate_bps`. Without, packets go when there is something to say.
    pub stuffing: bool,
    /// transport_stream_id.
    pub transport_stream_id: u16,
    /// original_network_id.
    pub original_network_id: u16,
    /// service_name; `nip.network_name` if left out.
    pub service_name: Option<String>,
    /// PID of the PMT.
    pub pmt_pid: u16,
    /// PID of carousel or IP.
    pub data_pid: u16,
    /// PID of the INT, where IP is carried.
    pub int_pid: u16,
    /// component_tag of the data stream, and its association_tag.
    pub component_tag: u8,
    /// platform_id of the INT.
    pub platform_id: u32,
    /// carouselId.
    pub carousel_id: u32,
    /// data_broadcast_id in the PMT; 0x0006 or 0x0007 by what is carried if left out. HbbTV wants 0x0123.
    pub data_broadcast_id: Option<u16>,
    /// blockSize.
    pub block_bytes: u16,
    /// Blocks of a module at most: 255 for HbbTV and MHP receivers.
    pub blocks_per_module: u32,
    /// Small objects share a module up to so many bytes.
    pub module_bytes: u32,
    /// Compress modules where it is worth while.
    pub compress: bool,
    /// DSI and DIIs are repeated this often.
    pub control_interval_ms: u64,
    /// The gateway and directories are repeated this often.
    pub directory_interval_ms: u64,
    /// Degrees east of Greenwich of the satellite in the NIT; west is negative.
    pub orbital_position_degrees: f64,
    /// GSE: a mode adaptation header (L.3) before each baseband frame, as some modulators want it.
    pub mode_adaptation: bool,
    /// GSE: input stream identifier of a carrier with several streams.
    pub isi: Option<u8>,
    /// The stream is announced as a system software update (TS 102 006, simple profile) to receivers of one maker. Left out: it is
    /// not.
    pub ssu: Option<SoftwareUpdates>,
}

/// `[multiplex.ssu]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SoftwareUpdates {
    /// OUI of the maker whose receivers it is for: `"00-15-0A"`.
    pub oui: Oui,
    /// Bytes whose meaning the maker defines, in hexadecimal: `"0102ff"`. They go into the NIT and the PMT.
    #[serde(default)]
    pub selector: String,
    /// update_version, 0 to 31: another one with each update. Left out: the PMT has no version.
    #[serde(default)]
    pub update_version: Option<u8>,
    /// Model of the hardware that the groups of a data carousel are for, as the maker numbers them.
    #[serde(default = "any")]
    pub model: u16,
    /// Version of that hardware.
    #[serde(default = "any")]
    pub hardware_version: u16,
    /// Version of the software that they bring.
    #[serde(default)]
    pub software_version: u16,
}

/// Model or version that makers take for any.
const fn any() -> u16 {
    0xffff
}

impl SoftwareUpdates {
    /// Selector bytes; `None` if they are not hexadecimal.
    pub fn selector_bytes(&self) -> Option<Vec<u8>> {
        from_hex(&self.selector)
    }
}

impl Default for Multiplex {
    fn default() -> Self {
        Self {
            carry: Carry::Mpe,
            to: None,
            forward: Vec::new(),
            stuffing: true,
            transport_stream_id: 1001,
            original_network_id: 1,
            service_name: None,
            pmt_pid: 0x100,
            data_pid: 0x200,
            int_pid: 0x101,
            component_tag: 0x0b,
            platform_id: 1,
            carousel_id: 1,
            data_broadcast_id: None,
            block_bytes: dsmcc::BLOCK_BYTES,
            blocks_per_module: 65_536,
            module_bytes: 64 << 10,
            compress: true,
            control_interval_ms: 250,
            directory_interval_ms: 1000,
            orbital_position_degrees: 0.0,
            mode_adaptation: false,
            isi: None,
            ssu: None,
        }
    }
}

/// Selector bytes of an update: what the linkage of the NIT leaves of a descriptor's 255 bytes, and some.
const LONGEST_SELECTOR_BYTES: usize = 240;

/// Content of a multiplex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carry {
    /// The FLUTE sessions in multiprotocol encapsulation (EN 301 192).
    Mpe,
    /// The objects in a DSM-CC object carousel.
    ObjectCarousel,
    /// The objects in a DSM-CC data carousel.
    DataCarousel,
    /// The FLUTE sessions in generic stream encapsulation: baseband frames instead of a transport stream.
    Gse,
}

/// Destination of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// Address and port.
    pub address: SocketAddr,
    /// Whether RTP headers go before the packets (SMPTE ST 2022-2).
    pub rtp: bool,
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a destination; give such as \"udp://239.10.0.1:5004\" or \"rtp://239.10.0.1:5004\""
            )
        };
        let Some((scheme, address)) = text.split_once("://") else {
            return Err(match text.parse::<SocketAddr>() {
                Ok(_) => format!("{text:?} has no scheme; give \"udp://{text}\" or \"rtp://{text}\""),
                Err(_) => wrong(),
            });
        };
        let address = address.trim_start_matches('@').trim_end_matches('/');
        if let Ok(ip) = address.trim_matches(['[', ']']).parse::<IpAddr>() {
            let example = SocketAddr::new(ip, 5004);
            return Err(format!("{text:?} has no port; give it, such as \"{scheme}://{example}\""));
        }
        let address: SocketAddr = address.parse().map_err(|_| wrong())?;
        if address.port() == 0 {
            return Err(format!("{text:?}: port 0 cannot be sent to; give a port from 1 to 65535"));
        }
        match scheme {
            "udp" => Ok(Self { address, rtp: false }),
            "rtp" => Ok(Self { address, rtp: true }),
            _ => Err(wrong()),
        }
    }
}

impl Serialize for Destination {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let scheme = if self.rtp { "rtp" } else { "udp" };
        serializer.collect_str(&format_args!("{scheme}://{}", self.address))
    }
}

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Multiplex {
    /// PID of carousel or IP.
    pub const fn data_pid(&self) -> Pid {
        Pid::new(self.data_pid)
    }

    /// Profile of the carousel.
    pub fn profile(&self) -> Profile {
        Profile {
            shape: if self.carry == Carry::DataCarousel { Shape::Data } else { Shape::Object },
            carousel_id: self.carousel_id,
            association_tag: u16::from(self.component_tag),
            block_bytes: self.block_bytes,
            most_blocks: self.blocks_per_module,
            module_bytes: self.module_bytes,
            compress: self.compress,
            compatibility: self.compatibility(),
            ..Profile::default()
        }
    }

    /// Receivers that the groups of a data carousel are for.
    fn compatibility(&self) -> Vec<Compatible> {
        let Some(ssu) = &self.ssu else { return Vec::new() };
        let of = |kind, version| Compatible { kind, oui: ssu.oui, model: ssu.model, version };
        vec![
            of(CompatibleKind::Hardware, ssu.hardware_version),
            of(CompatibleKind::Software, ssu.software_version),
        ]
    }

    /// Way in which an update travels: a data carousel is the standard's own, everything else is for our receivers.
    pub const fn update_type(&self) -> UpdateType {
        match self.carry {
            Carry::DataCarousel => UpdateType::Carousel,
            Carry::Mpe | Carry::ObjectCarousel | Carry::Gse => UpdateType::Proprietary,
        }
    }

    /// Whether objects travel as modules and not as FLUTE.
    pub const fn is_carousel(&self) -> bool {
        matches!(self.carry, Carry::ObjectCarousel | Carry::DataCarousel)
    }

    /// The part of the stream's rate that is left for IP packets or for objects: what sections, packets and tables take is
    /// off.
    pub const fn payload_share(&self) -> f64 {
        match self.carry {
            // 1428 of 1444 bytes, 184 of 188, and some 30 kbit/s of tables.
            Carry::Mpe => 0.965,
            // Blocks of 4066 bytes in sections of 4096, 184 of 188.
            Carry::ObjectCarousel | Carry::DataCarousel => 0.97,
            // GSE's header, and a baseband header every 6 kB.
            Carry::Gse => 0.995,
        }
    }

    /// Mistakes that are well-formed and make no sense.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Mistakes::of("multiplex");
        let mut wrong = |key: &str, what: String, fix: &str| mistakes.add(key, what, fix);
        let pids = [("pmt_pid", self.pmt_pid), ("data_pid", self.data_pid), ("int_pid", self.int_pid)];
        for (at, (key, pid)) in pids.iter().enumerate() {
            if !(0x20..=0x1ffa).contains(pid) {
                wrong(key, format!("{pid:#x} is not free for use"), "32 to 8186 (0x20 to 0x1ffa)");
            }
            if pids[..at].iter().any(|(_, other)| other == pid) {
                wrong(key, format!("{pid:#x} is there twice"), "give each stream a PID of its own");
            }
        }
        if !(256..=dsmcc::BLOCK_BYTES).contains(&self.block_bytes) {
            wrong("block_bytes", format!("{} bytes", self.block_bytes), "256 to 4066; 4066 is best");
        }
        if !(2..=65_536).contains(&self.blocks_per_module) {
            wrong(
                "blocks_per_module",
                format!("{} blocks", self.blocks_per_module),
                "2 to 65536; 255 for HbbTV",
            );
        }
        let most = u64::from(self.blocks_per_module) * u64::from(self.block_bytes);
        if !(4096..=1 << 20).contains(&self.module_bytes) || u64::from(self.module_bytes) > most {
            let what = format!("{} bytes", self.module_bytes);
            wrong(
                "module_bytes",
                what,
                "4096 to 1048576, and no more than blocks_per_module hold; 65536 is usual",
            );
        }
        for (key, ms) in [
            ("control_interval_ms", self.control_interval_ms),
            ("directory_interval_ms", self.directory_interval_ms),
        ] {
            if ms < 10 {
                wrong(key, format!("{ms} ms is too often"), "10 or more");
            }
        }
        if !(-180.0..=180.0).contains(&self.orbital_position_degrees) {
            let what = format!("{} degrees", self.orbital_position_degrees);
            wrong("orbital_position_degrees", what, "-180 to 180; 19.2 is Astra 1");
        }
        if let Some(to) = self.to
            && (to.address.port() == 0 || to.address.ip().is_unspecified())
        {
            wrong("to", format!("{} is not a destination", to.address), "udp://239.10.0.1:5004");
        }
        for group in &self.forward {
            if group.port() == 0 || group.ip().is_unspecified() {
                wrong("forward", format!("{group} can receive nothing"), "give a group and a port");
            }
        }
        if self.is_carousel() && !self.forward.is_empty() {
            let fix = "carry mpe or gse";
            wrong("forward", "a carousel of modules carries no IP".to_owned(), fix);
        }
        if self.carry == Carry::Gse && self.to.is_some_and(|to| to.rtp) {
            wrong("to", "baseband frames have no RTP payload format".to_owned(), "udp:// instead of rtp://");
        }
        mistakes.found.extend(self.mistakes_of_ssu());
        mistakes.found
    }

    /// Those of `[multiplex.ssu]`.
    fn mistakes_of_ssu(&self) -> Vec<Mistake> {
        let Some(ssu) = &self.ssu else { return Vec::new() };
        let mut mistakes = Mistakes::of("multiplex");
        let mut wrong = |key: &str, what: String, fix: &str| mistakes.add(key, what, fix);
        match ssu.selector_bytes() {
            None => {
                wrong("ssu.selector", format!("{:?}", ssu.selector), "an even number of hexadecimal digits");
            }
            Some(bytes) if bytes.len() > LONGEST_SELECTOR_BYTES => {
                wrong(
                    "ssu.selector",
                    format!("{} bytes", bytes.len()),
                    &format!("{LONGEST_SELECTOR_BYTES} bytes at most"),
                );
            }
            Some(_) => {}
        }
        if let Some(version) = ssu.update_version.filter(|it| *it > 31) {
            wrong("ssu.update_version", format!("{version}"), "0 to 31");
        }
        if self.carry == Carry::Gse {
            let fix = "carry mpe, data-carousel or object-carousel";
            wrong("ssu", "baseband frames have no tables that announce it".to_owned(), fix);
        }
        if self.data_broadcast_id.is_some() && self.carry == Carry::DataCarousel {
            let fix = "leave one of both out: the data_broadcast_id of an update is 0x000A";
            wrong("data_broadcast_id", "[multiplex.ssu] is there too".to_owned(), fix);
        }
        mistakes.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_that_cannot_be_announced_is_a_mistake() {
        let keys = |carry: &str, ssu: &str| {
            let text = format!("carry = '{carry}'\n[ssu]\noui = '00-15-0A'\n{ssu}");
            let multiplex: Multiplex = carousel::config::load(&text).unwrap();
            multiplex.mistakes().into_iter().map(|it| it.key).collect::<Vec<_>>()
        };
        let longest = format!("selector = '{}'", "0f".repeat(LONGEST_SELECTOR_BYTES));
        for right in ["", "selector = '00fF'", "update_version = 31", &longest] {
            assert_eq!(keys("data-carousel", right), Vec::<String>::new(), "{right}");
        }
        for wrong in ["selector = '0'", "selector = '0x'", &longest.replacen("0f", "0f0f", 1)] {
            assert_eq!(keys("data-carousel", wrong), ["multiplex.ssu.selector"], "{wrong}");
        }
        assert_eq!(keys("mpe", "update_version = 32"), ["multiplex.ssu.update_version"]);
        assert_eq!(keys("gse", ""), ["multiplex.ssu"]);
        let both = |carry: &str| {
            let text = format!("carry = '{carry}'\ndata_broadcast_id = 0x123\n[ssu]\noui = '00-15-0A'");
            carousel::config::load::<Multiplex>(&text).unwrap().mistakes().len()
        };
        assert_eq!((both("data-carousel"), both("object-carousel")), (1, 0));
        assert!(carousel::config::load::<Multiplex>("[ssu]\noui = '00-15'").is_err());
        for (text, told) in [
            ("[ssu]\noui = '00-00-00'", "names no maker"),
            ("[ssu]\noui = '00-15-0A'\n[ssu]\noui = '00-15-0B'", "the table ssu has begun before"),
        ] {
            let mistakes = carousel::config::load::<Multiplex>(text).unwrap_err();
            assert!(mistakes.len() == 1 && mistakes[0].what.contains(told), "{mistakes:?}");
        }
    }
}
