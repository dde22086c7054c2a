//! DVB-NIP signalling (ETSI TS 103 876 V1.1.1): the announcement channel's names and documents.
//!
//! The session configurations on the channel are [`crate::mabr`]'s, the service list entry points [`crate::dvbi`]'s. Here are
//! the NetworkInformationFile, the ServiceInformationFile, the TimeOffsetFile and the content guide manifest, matched by local
//! name in either namespace that is on air (`…nativeip:2023`, `…nativeip:2024`). The text of the standard was not at hand;
//! what real broadcasters send is what is understood, and what is not understood is kept.

mod files;
mod guide_manifest;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use files::{
    BroadcastNetwork, DeliveryParameters, MediaStream, NetworkInformationFile, NipStream,
    ServiceInformationFile, TimeOffsetFile,
};
pub use guide_manifest::{GuideManifest, GuideSchedule, GuideSession};

/// Group of the announcement channel in IPv4 (clause 8.2.2).
pub const ANNOUNCEMENT_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 23, 14);
/// Group of the announcement channel in IPv6 with link-local scope; any scope is legal.
pub const ANNOUNCEMENT_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12d);
/// UDP port of the announcement channel.
pub const ANNOUNCEMENT_PORT: u16 = 3937;
/// TSI of the announcement channel.
pub const ANNOUNCEMENT_TSI: u64 = 0;
/// Relative names are read against this, and players ask for it by this host.
pub const BASE: &str = "http://dvb.gw/";

/// Whether `address` is the announcement group of either IP version, in any IPv6 scope.
pub fn is_announcement_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4 == ANNOUNCEMENT_V4,
        IpAddr::V6(v6) => {
            let mut segments = v6.segments();
            segments[0] = segments[0] & 0xfff0 | 2;
            Ipv6Addr::from(segments) == ANNOUNCEMENT_V6
        }
    }
}

/// The documents of the announcement channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Document {
    /// Gateway configuration with the sessions of this NIP stream.
    Bootstrap,
    /// Networks and their streams.
    NetworkInformation,
    /// Streams and the URIs that they carry.
    ServiceInformation,
    /// Broadcast time.
    TimeOffset,
    /// DVB-I service list entry points.
    ServiceListEntryPoints,
    /// Private data.
    PrivateDataSignalling,
    /// Service guide manifest.
    ServiceGuide,
}

/// Name, MIME type and meaning: one table.
const DOCUMENTS: [(Document, &str, &str); 7] = [
    (
        Document::Bootstrap,
        "urn:dvb:metadata:cs:NativeIPMulticastTransportObjectTypeCS:2023:bootstrap",
        "application/xml+dvb-mabr-session-configuration",
    ),
    (
        Document::NetworkInformation,
        "urn:dvb:metadata:nativeip:NetworkInformationFile",
        "application/xml+dvb-nip-nif",
    ),
    (
        Document::ServiceInformation,
        "urn:dvb:metadata:nativeip:ServiceInformationFile",
        "application/xml+dvb-nip-sif",
    ),
    (Document::TimeOffset, "urn:dvb:metadata:nativeip:TimeOffsetFile", "application/xml+dvb-nip-tof"),
    (Document::ServiceListEntryPoints, "urn:dvb:metadata:nativeip:dvb-i-slep", "application/xml+dvb-i-slep"),
    (
        Document::PrivateDataSignalling,
        "urn:dvb:metadata:nativeip:PrivateDataSignalling",
        "application/xml+dvb-nip-pds",
    ),
    (Document::ServiceGuide, "urn:dvb:metadata:nativeip:ServiceGuide", "application/xml+dvb-nip-sgm"),
];

impl Document {
    /// By `Content-Location`, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        DOCUMENTS.iter().find(|row| row.1.eq_ignore_ascii_case(name.trim())).map(|row| row.0)
    }

    /// Its reserved name.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Its MIME type.
    pub fn content_type(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> &'static (Self, &'static str, &'static str) {
        &DOCUMENTS[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (document, name, _) in DOCUMENTS {
            assert_eq!(document.name(), name);
            assert_eq!(Document::from_name(&name.to_ascii_uppercase()), Some(document));
        }
        assert_eq!(Document::from_name("http://dvb.gw/x"), None);
    }

    #[test]
    fn the_announcement_group_in_any_scope() {
        for (address, is) in [
            ("224.0.23.14", true),
            ("ff02::12d", true),
            ("ff0e::12d", true),
            ("ff05::12d", true),
            ("ff15::12d", false),
            ("224.0.23.15", false),
        ] {
            assert_eq!(is_announcement_group(address.parse().unwrap()), is, "{address}");
        }
    }
}
