//! DVB-MABR session configuration (ETSI TS 103 769 V1.2.1 clause 10).
//!
//! A `MulticastGatewayConfiguration` lists for a gateway the transport sessions, their content and the repair of
//! losses. Parsed by local name in any edition of the namespace; unknown elements and attributes are kept in `unknown`
//! and written back. [`Directory`] derives the sessions to receive, [`Aliases`] the URLs of objects for players.

mod aliases;
mod directory;
mod read;
mod write;

use std::net::IpAddr;
use std::time::Duration;

use crate::time::WallTime;
use crate::xml::{Attribute, Element};

pub use aliases::{Aliases, ChunkName};
pub use directory::{
    Directory, DirectoryChange, JoinPolicy, MAX_CONFIGURATIONS_BYTES, ServiceSpec, SessionOrigin, SessionSpec,
};

/// MIME type of a configuration.
pub const CONFIGURATION_TYPE: &str = "application/xml+dvb-mabr-session-configuration";
/// Object name of a gateway configuration that is delivered in band.
pub const CONFIGURATION_URI: &str =
    "urn:dvb:metadata:cs:MulticastTransportObjectTypeCS:2021:gateway-configuration";

/// `MulticastGatewayConfiguration` or `MulticastServerConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configuration {
    /// Whether the root is the server's.
    pub for_server: bool,
    /// `@schemaVersion`, qualified or not.
    pub schema_version: Option<String>,
    /// `@validUntil`.
    pub valid_until: Option<WallTime>,
    /// `@validityPeriod`.
    pub validity_period: Option<Duration>,
    /// `MulticastGatewayConfigurationTransportSession`s: for configurations and other non-media objects.
    pub gateway_sessions: Vec<TransportSession>,
    /// `MulticastSession`s: the media.
    pub sessions: Vec<MulticastSession>,
    /// Everything else at the top: macros, reporting, extensions.
    pub unknown: Vec<Element>,
    /// Unknown attributes of the root.
    pub unknown_attributes: Vec<Attribute>,
}

/// One linear or on-demand service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MulticastSession {
    /// `@serviceIdentifier`.
    pub service_identifier: String,
    /// `@contentPlaybackAvailabilityOffset`.
    pub playback_offset: Option<Duration>,
    /// Its manifests.
    pub manifests: Vec<ManifestLocator>,
    /// Its transport sessions.
    pub transport_sessions: Vec<TransportSession>,
    /// Unknown elements.
    pub unknown: Vec<Element>,
}

/// `PresentationManifestLocator`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ManifestLocator {
    /// URL for players; may be empty without unicast.
    pub url: String,
    /// `@manifestId`.
    pub id: String,
    /// `@contentType`.
    pub content_type: String,
    /// `@transportObjectURI`: its name in the carousel.
    pub transport_object_uri: Option<String>,
    /// `@contentPlaybackPathPattern`.
    pub path_pattern: Option<String>,
}

/// A transport session of either kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TransportSession {
    /// `@id`; only media sessions have one.
    pub id: Option<String>,
    /// `@serviceClass`.
    pub service_class: Option<String>,
    /// `@tags`, split at spaces.
    pub tags: Vec<String>,
    /// `@transmissionMode="chunked"`.
    pub chunked: bool,
    /// `@transportSecurity`.
    pub transport_security: Option<String>,
    /// `@sessionIdleTimeout`, ms.
    pub idle_timeout_ms: Option<u64>,
    /// `TransportProtocol/@protocolIdentifier`.
    pub protocol: Protocol,
    /// `EndpointAddress`es.
    pub endpoints: Vec<Endpoint>,
    /// `BitRate/@average`, bit/s.
    pub average_bps: Option<u64>,
    /// `BitRate/@maximum`, bit/s.
    pub maximum_bps: Option<u64>,
    /// `UnicastRepairParameters`.
    pub repair: Option<RepairParameters>,
    /// `ServiceComponentIdentifier`s.
    pub components: Vec<Component>,
    /// `ObjectCarousel`.
    pub carousel: Option<ObjectCarousel>,
    /// Unknown child elements, including FEC parameters.
    pub unknown: Vec<Element>,
    /// Unknown attributes.
    pub unknown_attributes: Vec<Attribute>,
}

/// Protocol of a session, which cannot be determined from the packets by the standard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Protocol {
    /// `…MulticastTransportProtocolCS:2019:FLUTE`.
    #[default]
    Flute,
    /// `…MulticastTransportProtocolCS:2019:ROUTE`.
    Route,
    /// Any other identifier, verbatim.
    Other(String),
}

impl Protocol {
    /// Parses an identifier by its last term, case-insensitively.
    pub fn from_identifier(text: &str) -> Self {
        match text.rsplit(':').next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "FLUTE" => Self::Flute,
            "ROUTE" => Self::Route,
            _ => Self::Other(text.to_owned()),
        }
    }

    /// The exact identifier, which GPAC compares literally.
    pub fn identifier(&self) -> &str {
        match self {
            Self::Flute => "urn:dvb:metadata:cs:MulticastTransportProtocolCS:2019:FLUTE",
            Self::Route => "urn:dvb:metadata:cs:MulticastTransportProtocolCS:2019:ROUTE",
            Self::Other(text) => text,
        }
    }
}

/// `EndpointAddress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// NetworkSourceAddress; `None`: any source.
    pub source: Option<IpAddr>,
    /// NetworkDestinationGroupAddress.
    pub group: IpAddr,
    /// TransportDestinationPort.
    pub port: u16,
    /// MediaTransportSessionIdentifier; `None`: every TSI on that group and port.
    pub tsi: Option<u64>,
}

/// `UnicastRepairParameters` (clause 9).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairParameters {
    /// `@transportObjectBaseURI`.
    pub transport_object_base_uri: Option<String>,
    /// `@transportObjectReceptionTimeout`, ms.
    pub reception_timeout_ms: u64,
    /// `@fixedBackOffPeriod`, ms.
    pub fixed_back_off_ms: u64,
    /// `@randomBackOffPeriod`, ms.
    pub random_back_off_ms: u64,
    /// `BaseURL`s with `@relativeWeight`; weight 0 is disabled.
    pub base_urls: Vec<(String, u32)>,
}

/// `ServiceComponentIdentifier`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Component {
    /// DASHComponentIdentifierType.
    Dash {
        /// `@manifestIdRef`.
        manifest: String,
        /// `@periodIdentifier`.
        period: String,
        /// `@adaptationSetIdentifier`.
        adaptation_set: String,
        /// `@representationIdentifier`.
        representation: String,
    },
    /// HLSComponentIdentifierType.
    Hls {
        /// `@manifestIdRef`.
        manifest: String,
        /// `@mediaPlaylistLocator`.
        playlist: String,
    },
    /// GenericComponentIdentifierType and unknown ones.
    Generic {
        /// `@manifestIdRef`.
        manifest: String,
        /// `@componentIdentifier`.
        component: String,
    },
}

/// `ObjectCarousel` (clause 10.2.3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectCarousel {
    /// `@aggregateTransportSize`, bytes.
    pub transport_bytes: Option<u64>,
    /// `@aggregateContentSize`, bytes.
    pub content_bytes: Option<u64>,
    /// `PresentationManifests`, `InitSegments` and `ResourceLocator`s.
    pub entries: Vec<CarouselEntry>,
}

/// Kind of objects of an entry of an object carousel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// `PresentationManifests`.
    Manifests,
    /// `InitSegments`.
    Inits,
    /// `ResourceLocator`.
    Resource,
}

/// One entry of an object carousel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarouselEntry {
    /// Kind of the element.
    pub kind: EntryKind,
    /// `ResourceLocator`: the object's URI.
    pub uri: String,
    /// `@serviceIdRef`.
    pub service: Option<String>,
    /// `@targetAcquisitionLatency`.
    pub latency: Option<Duration>,
}

/// Whether `path` (with its leading `/`) matches a `@contentPlaybackPathPattern`: `*` any run, `?` one character, `$`
/// takes the next one literally. Linear in the pattern for each character.
pub fn playback_path_matches(pattern: &str, path: &str) -> bool {
    #[derive(Clone, Copy)]
    enum Step {
        Any,
        One,
        Just(char),
    }
    let mut steps = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        steps.push(match c {
            '*' => Step::Any,
            '?' => Step::One,
            '$' => Step::Just(chars.next().unwrap_or('$')),
            c => Step::Just(c),
        });
    }
    let path: Vec<char> = path.chars().collect();
    // Greedy with a single backtracking point: sufficient for globs without classes, and never exponential.
    let (mut step, mut at, mut back) = (0, 0, None);
    while at < path.len() {
        match steps.get(step) {
            Some(Step::Any) => {
                back = Some((step + 1, at));
                step += 1;
            }
            Some(Step::One) => (step, at) = (step + 1, at + 1),
            Some(Step::Just(c)) if *c == path[at] => (step, at) = (step + 1, at + 1),
            _ => match back {
                Some((after, from)) => {
                    back = Some((after, from + 1));
                    (step, at) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    steps[step..].iter().all(|step| matches!(step, Step::Any))
}

#[cfg(test)]
mod tests;
