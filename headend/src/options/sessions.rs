//! `[sessions]`, `[nip]`, `[repair]`: what is announced, and where.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use carousel::config::Mistake;
use carousel::nip::DeliveryParameters;
use serde::{Deserialize, Serialize};

use super::Mistakes;

/// `[sessions]`
#[derive(Debug, Clone, Deserialize, Serialize)]
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

impl Sessions {
    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Mistakes::of("sessions");
        let addresses = [
            ("announcement", self.announcement),
            ("configuration", self.configuration),
            ("media", self.media),
        ];
        for (key, address) in addresses {
            if address.port() == 0 {
                mistakes.add(key, "port 0 cannot be sent to".to_owned(), "a port from 1 to 65535");
            }
            if address.ip().is_unspecified() {
                let what = format!("{} is not a destination", address.ip());
                mistakes.add(key, what, "a multicast group or a host's address");
            }
        }
        mistakes.found
    }

    /// Group and port of the media sessions of source number `index`.
    pub(crate) fn media_address(&self, index: usize) -> SocketAddr {
        let offset = index as u32;
        let ip = match self.media.ip() {
            IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits().wrapping_add(offset))),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits().wrapping_add(u128::from(offset)))),
        };
        SocketAddr::new(ip, self.media.port())
    }
}

/// `[nip]`: name and place of this stream (TS 103 876 clauses 8.1.4.2 and 8.4.2).
#[derive(Debug, Clone, Deserialize, Serialize)]
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
#[derive(Debug, Clone, Deserialize, Serialize)]
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
#[derive(Debug, Clone, Deserialize, Serialize)]
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

/// `[repair]`: UnicastRepairParameters of TS 103 769. The base URLs are the sources' own.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Repair {
    /// Whether the gateway configuration names the sources' base URLs for repair.
    pub enabled: bool,
    /// Silence after which an object counts as lost in part.
    pub reception_timeout_ms: u64,
    /// Wait before repair begins.
    pub fixed_back_off_ms: u64,
    /// Further wait, between 0 and this, that each receiver draws for each repair.
    pub random_back_off_ms: u64,
}

impl Default for Repair {
    fn default() -> Self {
        Self { enabled: true, reception_timeout_ms: 2000, fixed_back_off_ms: 0, random_back_off_ms: 1000 }
    }
}
