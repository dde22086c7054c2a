//! Configuration of transport streams, `[[transport_stream]]`: source and tuning.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use carousel::config::Mistake;
use carousel::ts::psi::Oui;
use serde::{Deserialize, Deserializer, Serialize};

/// `[[transport_stream]]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TransportStream {
    /// Source of the stream: `udp://GROUP:PORT` or `rtp://` (packets in datagrams), `bbframe://GROUP:PORT` (baseband frames),
    /// `satip://HOST`, `dvb://ADAPTER[/FRONTEND]`, `file:///PATH`.
    pub from: From,
    /// URL under which files of carousels are known that do not say their own. Left out: `dvb://` with original network,
    /// transport stream, service and component tag (TS 102 851).
    #[serde(default)]
    pub base: Option<String>,
    /// Carrier that a tuner is tuned to: needed for `dvb://` and `satip://`.
    #[serde(default)]
    pub carrier: Option<Carrier>,
    /// Makers (OUI, `"00-15-0A"`) whose system software updates (TS 102 006) are received. Updates for receivers of other makers,
    /// which a multiplex may carry by the hundred megabytes, are left out.
    #[serde(default)]
    pub software_updates: Vec<Oui>,
}

/// Source of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// `udp://GROUP:PORT` or `rtp://GROUP:PORT`: packets in datagrams, with RTP headers or without.
    Udp(SocketAddr),
    /// `bbframe://GROUP:PORT`: baseband frames with GSE in datagrams, one each.
    Frames(SocketAddr),
    /// `satip://HOST[:PORT]`: a SAT>IP server.
    SatIp {
        /// Host and port.
        server: String,
    },
    /// `dvb://ADAPTER[/FRONTEND]`: a Linux DVB adapter.
    Dvb {
        /// Number of the adapter.
        adapter: u32,
        /// Number of its frontend, and of demux.
        frontend: u32,
    },
    /// `file:///PATH`: a recording, as fast as it can be read, once.
    File(PathBuf),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is none of udp://GROUP:PORT, rtp://GROUP:PORT, bbframe://GROUP:PORT, satip://HOST, dvb://ADAPTER, file:///PATH"
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let bare = rest.trim_start_matches('@').trim_end_matches('/');
        let address = || bare.parse().map_err(|_| wrong());
        match scheme {
            "udp" | "rtp" => Ok(Self::Udp(address()?)),
            "bbframe" => Ok(Self::Frames(address()?)),
            "satip" if !bare.is_empty() => {
                let has_port = bare.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
                Ok(Self::SatIp { server: if has_port { bare.to_owned() } else { format!("{bare}:554") } })
            }
            "dvb" => {
                let (adapter, frontend) = bare.split_once('/').unwrap_or((bare, "0"));
                let number = |text: &str| text.parse().map_err(|_| wrong());
                Ok(Self::Dvb { adapter: number(adapter)?, frontend: number(frontend)? })
            }
            "file" if !rest.is_empty() => Ok(Self::File(PathBuf::from(rest))),
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for From {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Frames(address) => write!(f, "bbframe://{address}"),
            Self::SatIp { server } => write!(f, "satip://{server}"),
            Self::Dvb { adapter, frontend } => write!(f, "dvb://{adapter}/{frontend}"),
            Self::File(path) => write!(f, "file://{}", path.display()),
        }
    }
}

impl Serialize for From {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for From {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// `[transport_stream.carrier]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Carrier {
    /// Delivery system.
    #[serde(default)]
    pub system: System,
    /// Frequency on the satellite's downlink, in kHz: 11_727_500 is 11727.5 MHz.
    pub frequency_khz: u32,
    /// Polarization.
    pub polarization: Polarization,
    /// Symbols a second, in thousands.
    pub symbol_rate_ksps: u32,
    /// `QPSK`, `8PSK`, `16APSK`, `32APSK`; left out: the demodulator finds out.
    #[serde(default)]
    pub modulation: Option<Modulation>,
    /// Code rate such as `3/4`; left out: the demodulator finds out.
    #[serde(default)]
    pub code_rate: Option<String>,
    /// `0.35`, `0.25`, `0.20`; left out: the demodulator finds out. DVB-S2X's others have no value in Linux: leave it out.
    #[serde(default)]
    pub roll_off: Option<String>,
    /// Whether a DVB-S2 carrier has pilots; left out: the demodulator finds out.
    #[serde(default)]
    pub pilots: Option<bool>,
    /// Input stream identifier of a carrier with several streams.
    #[serde(default)]
    pub stream_id: Option<u8>,
    /// Position of a DiSEqC 1.0 switch, 1 to 4 (A to D); `src` of SAT>IP. 0: there is no switch.
    #[serde(default)]
    pub satellite: u8,
    /// The LNB.
    #[serde(default)]
    pub lnb: Lnb,
}

/// Delivery systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
pub enum System {
    /// DVB-S.
    #[serde(rename = "DVB-S")]
    DvbS,
    /// DVB-S2.
    #[default]
    #[serde(rename = "DVB-S2")]
    DvbS2,
    /// DVB-S2X: for Linux and SAT>IP the same as DVB-S2.
    #[serde(rename = "DVB-S2X")]
    DvbS2x,
}

/// Polarizations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Polarization {
    /// Linear, 18 V.
    Horizontal,
    /// Linear, 13 V.
    Vertical,
    /// Circular, 18 V.
    Left,
    /// Circular, 13 V.
    Right,
}

/// Modulations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Modulation {
    /// Two bits a symbol.
    #[serde(rename = "QPSK")]
    Qpsk,
    /// Three.
    #[serde(rename = "8PSK")]
    Psk8,
    /// Four.
    #[serde(rename = "16APSK")]
    Apsk16,
    /// Five.
    #[serde(rename = "32APSK")]
    Apsk32,
}

/// Equipment before the tuner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lnb {
    /// Local oscillator of the low band.
    pub low_mhz: u32,
    /// Local oscillator of the high band; 0: there is none.
    pub high_mhz: u32,
    /// From here on the high band is used.
    pub switch_mhz: u32,
}

impl Default for Lnb {
    fn default() -> Self {
        // The universal LNB for Ku band.
        Self { low_mhz: 9750, high_mhz: 10_600, switch_mhz: 11_700 }
    }
}

impl TransportStream {
    /// Mistakes in well-formed values; `key` is their place in the configuration.
    pub fn mistakes(&self, key: &str) -> Vec<Mistake> {
        let mut all = Vec::new();
        let mut wrong = |name: &str, what: String, fix: &str| {
            all.push(Mistake::of_value(&format!("{key}.{name}"), &what, fix));
        };
        if let From::Udp(address) | From::Frames(address) = &self.from
            && (address.port() == 0 || address.ip().is_unspecified())
        {
            wrong(
                "from",
                format!("{address} can receive nothing"),
                "give a group or own address, and a port",
            );
        }
        if self.base.as_ref().is_some_and(|base| !base.contains("://") || !base.ends_with('/')) {
            wrong("base", format!("{:?}", self.base), "give http://host/path/ with the last /");
        }
        let makers = &self.software_updates;
        if let Some((_, oui)) = makers.iter().enumerate().find(|(at, it)| makers[..*at].contains(it)) {
            wrong("software_updates", format!("{oui} is there twice"), "remove one");
        }
        let needs_carrier = matches!(self.from, From::SatIp { .. } | From::Dvb { .. });
        match &self.carrier {
            None if needs_carrier => {
                let fix =
                    "add frequency_khz, polarization, symbol_rate_ksps under [transport_stream.carrier]";
                wrong("carrier", "a tuner does not know what to tune to".to_owned(), fix);
            }
            Some(_) if !needs_carrier => {
                wrong("carrier", format!("{} has no tuner", self.from), "leave it out");
            }
            Some(carrier) => {
                let rate = carrier.symbol_rate_ksps;
                if !(100..=100_000).contains(&rate) {
                    wrong("carrier.symbol_rate_ksps", format!("{rate} ksym/s"), "27_500 is usual");
                }
                let lnb = carrier.lnb;
                if carrier.intermediate_khz().is_none_or(|khz| !(900_000..=2_200_000).contains(&khz)) {
                    let what = format!("{} kHz is not a frequency of this LNB", carrier.frequency_khz);
                    let fix = format!(
                        "its oscillators are at {} and {} MHz; the frequency is the satellite's, such as 11_727_500",
                        lnb.low_mhz, lnb.high_mhz
                    );
                    wrong("carrier.frequency_khz", what, &fix);
                }
                if carrier.satellite > 4 {
                    wrong(
                        "carrier.satellite",
                        format!("{}", carrier.satellite),
                        "1 to 4, or 0 without a switch",
                    );
                }
                if carrier.code_rate.as_ref().is_some_and(|it| !CODE_RATES.iter().any(|(name, _)| name == it))
                {
                    let what = format!("{:?}", carrier.code_rate);
                    wrong("carrier.code_rate", what, "1/2, 2/3, 3/4, 4/5, 5/6, 7/8, 8/9, 3/5, 9/10");
                }
                let offs = ["0.35", "0.25", "0.20"];
                if carrier.roll_off.as_ref().is_some_and(|it| !offs.contains(&it.as_str())) {
                    wrong(
                        "carrier.roll_off",
                        format!("{:?}", carrier.roll_off),
                        "0.35, 0.25, 0.20, or leave it out",
                    );
                }
            }
            None => {}
        }
        all
    }
}

/// Code rates with their number in Linux (`enum fe_code_rate`).
pub(crate) const CODE_RATES: [(&str, u32); 11] = [
    ("1/2", 1),
    ("2/3", 2),
    ("3/4", 3),
    ("4/5", 4),
    ("5/6", 5),
    ("6/7", 6),
    ("7/8", 7),
    ("8/9", 8),
    ("3/5", 10),
    ("9/10", 11),
    ("2/5", 12),
];

impl Carrier {
    /// Whether it is in the LNB's high band.
    pub const fn is_high_band(&self) -> bool {
        self.lnb.high_mhz > 0 && self.frequency_khz >= self.lnb.switch_mhz * 1000
    }

    /// Intermediate frequency after the LNB; `None` if the LNB does not cover it.
    pub const fn intermediate_khz(&self) -> Option<u32> {
        let oscillator_khz = if self.is_high_band() { self.lnb.high_mhz } else { self.lnb.low_mhz } * 1000;
        // The oscillator of C band LNBs is above the signal.
        Some(self.frequency_khz.abs_diff(oscillator_khz))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_written() {
        for text in [
            "udp://239.1.1.1:5004",
            "bbframe://[ff15::1]:5004",
            "satip://10.0.0.9:554",
            "dvb://0/1",
            "file:///a b.ts",
        ] {
            assert_eq!(text.parse::<From>().unwrap().to_string(), text);
        }
        assert_eq!("rtp://@239.1.1.1:5004/".parse::<From>().unwrap().to_string(), "udp://239.1.1.1:5004");
        assert_eq!("satip://box".parse::<From>().unwrap().to_string(), "satip://box:554");
        for text in ["udp://239.1.1.1", "dvb://x", "http://h", "satip://", "file://"] {
            assert!(text.parse::<From>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_tuner_cannot_be_tuned_to_is_named() {
        let parse = |text: &str| {
            let stream: TransportStream = carousel::config::load(text).unwrap();
            stream.mistakes("t").into_iter().map(|it| it.key).collect::<Vec<_>>()
        };
        assert_eq!(parse("from = 'dvb://0'"), ["t.carrier"]);
        let updates =
            |makers: &str| parse(&format!("from = 'udp://239.1.1.1:1'\nsoftware_updates = [{makers}]"));
        assert_eq!(updates("'00-15-0A', '00-01-5A'"), Vec::<String>::new());
        // However it is written: one mistake.
        assert_eq!(updates("'00-15-0A', '00:15:0a', '00150A'"), ["t.software_updates"]);
        assert!(
            carousel::config::load::<TransportStream>("from = 'dvb://0'\nsoftware_updates = ['00-00-00']")
                .is_err()
        );
        let good = "frequency_khz = 11727500\npolarization = 'vertical'\nsymbol_rate_ksps = 27500\n";
        assert_eq!(parse(&format!("from = 'dvb://0'\n[carrier]\n{good}")), Vec::<String>::new());
        assert_eq!(parse(&format!("from = 'udp://239.1.1.1:1'\n[carrier]\n{good}")), ["t.carrier"]);
        let bad = "frequency_khz = 1172750\npolarization = 'left'\nsymbol_rate_ksps = 27\nsatellite = 5\ncode_rate = '1/9'\nroll_off = '0.1'\n";
        assert_eq!(parse(&format!("from = 'satip://h'\n[carrier]\n{bad}")).len(), 5);
    }
}
