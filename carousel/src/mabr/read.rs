//! Parser of session configurations.

use super::{
    CarouselEntry, Component, Configuration, Endpoint, EntryKind, ManifestLocator, MulticastSession,
    ObjectCarousel, Protocol, RepairParameters, TransportSession,
};
use crate::limits;
use crate::time::{WallTime, duration_from_xml};
use crate::xml::{self, Element, XmlError, value};

limits! {
    /// Sessions of both kinds in one session configuration.
    pub(super) const MAX_TRANSPORT_SESSIONS: usize = 8_192, "sessions" {
        why: "The largest seen has 8; an operator with 500 channels has 3,000 representations.",
        full: "The document is refused as too large; its predecessor stays in force.",
        free: "Holds for one document.",
        test: "sessions_of_a_hostile_configuration_are_bounded",
    }
}

impl Configuration {
    /// Parses a document.
    ///
    /// # Errors
    /// Malformed XML, another root, a session without a usable endpoint, too many sessions.
    pub fn parse(bytes: &[u8]) -> Result<Self, XmlError> {
        let root = xml::parse(bytes)?;
        let for_server = match root.name.as_str() {
            "MulticastGatewayConfiguration" => false,
            "MulticastServerConfiguration" => true,
            _ => {
                return Err(XmlError::Missing { what: "MulticastGatewayConfiguration", within: root.name });
            }
        };
        let own = |child: &Element| child.namespace == root.namespace;
        let mut configuration = Self { for_server, ..Self::default() };
        for attribute in &root.attributes {
            let text = &attribute.value;
            match attribute.name.as_str() {
                "schemaVersion" => configuration.schema_version = Some(text.clone()),
                "validUntil" if WallTime::from_xml(text).is_some() => {
                    configuration.valid_until = WallTime::from_xml(text);
                }
                "validityPeriod" if duration_from_xml(text).is_some() => {
                    configuration.validity_period = duration_from_xml(text);
                }
                _ => configuration.unknown_attributes.push(attribute.clone()),
            }
        }
        for child in &root.children {
            match child.name.as_str() {
                "MulticastGatewayConfigurationTransportSession" if own(child) => {
                    configuration.gateway_sessions.push(transport_session(child)?);
                }
                "MulticastSession" if own(child) => configuration.sessions.push(multicast_session(child)?),
                _ => configuration.unknown.push(child.clone()),
            }
            let media: usize =
                configuration.sessions.iter().map(|session| session.transport_sessions.len()).sum();
            if configuration.gateway_sessions.len() + media + configuration.sessions.len()
                > MAX_TRANSPORT_SESSIONS
            {
                return Err(XmlError::TooLarge("more than 8192 sessions in one configuration"));
            }
        }
        Ok(configuration)
    }
}

fn multicast_session(element: &Element) -> Result<MulticastSession, XmlError> {
    let mut session = MulticastSession {
        service_identifier: element.attribute("serviceIdentifier").unwrap_or_default().to_owned(),
        playback_offset: element.attribute("contentPlaybackAvailabilityOffset").and_then(duration_from_xml),
        ..MulticastSession::default()
    };
    for child in &element.children {
        match child.name.as_str() {
            "PresentationManifestLocator" => session.manifests.push(ManifestLocator {
                url: child.text.clone(),
                id: child.attribute("manifestId").unwrap_or_default().to_owned(),
                content_type: child.attribute("contentType").unwrap_or_default().to_owned(),
                transport_object_uri: child.attribute("transportObjectURI").map(str::to_owned),
                path_pattern: child.attribute("contentPlaybackPathPattern").map(str::to_owned),
            }),
            "MulticastTransportSession" => {
                session.transport_sessions.push(transport_session(child)?);
            }
            _ => session.unknown.push(child.clone()),
        }
    }
    Ok(session)
}

fn transport_session(element: &Element) -> Result<TransportSession, XmlError> {
    let mut session = TransportSession::default();
    for attribute in &element.attributes {
        let text = || attribute.value.clone();
        match attribute.name.as_str() {
            "id" => session.id = Some(text()),
            "serviceClass" => session.service_class = Some(text()),
            "tags" => session.tags = attribute.value.split_whitespace().map(str::to_owned).collect(),
            "transmissionMode" => session.chunked = attribute.value == "chunked",
            "transportSecurity" => session.transport_security = Some(text()),
            "sessionIdleTimeout" => session.idle_timeout_ms = attribute.value.trim().parse().ok(),
            _ => session.unknown_attributes.push(attribute.clone()),
        }
    }
    for child in &element.children {
        match child.name.as_str() {
            "TransportProtocol" => {
                session.protocol =
                    Protocol::from_identifier(child.attribute("protocolIdentifier").unwrap_or_default());
            }
            "EndpointAddress" => session.endpoints.push(endpoint(child)?),
            "BitRate" => {
                session.average_bps = child.attribute("average").and_then(|text| text.trim().parse().ok());
                session.maximum_bps = child.attribute("maximum").and_then(|text| text.trim().parse().ok());
            }
            "UnicastRepairParameters" => session.repair = Some(repair(child)),
            "ServiceComponentIdentifier" => session.components.push(component(child)),
            "ObjectCarousel" => session.carousel = Some(object_carousel(child)?),
            _ => session.unknown.push(child.clone()),
        }
    }
    if session.endpoints.is_empty() {
        return Err(XmlError::Missing { what: "EndpointAddress", within: element.name.clone() });
    }
    Ok(session)
}

fn endpoint(element: &Element) -> Result<Endpoint, XmlError> {
    let port: u16 = value("TransportDestinationPort", element.need("TransportDestinationPort")?)?;
    let optional = |name| element.child_text(name);
    Ok(Endpoint {
        source: optional("NetworkSourceAddress")
            .map(|text| value("NetworkSourceAddress", text))
            .transpose()?,
        group: value("NetworkDestinationGroupAddress", element.need("NetworkDestinationGroupAddress")?)?,
        port,
        tsi: optional("MediaTransportSessionIdentifier")
            .map(|text| value("MediaTransportSessionIdentifier", text))
            .transpose()?,
    })
}

fn repair(element: &Element) -> RepairParameters {
    let ms = |name| element.attribute(name).and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let weight = |url: &Element| {
        url.attribute("relativeWeight").and_then(|text| text.trim().parse().ok()).unwrap_or(1)
    };
    RepairParameters {
        transport_object_base_uri: element.attribute("transportObjectBaseURI").map(str::to_owned),
        reception_timeout_ms: ms("transportObjectReceptionTimeout"),
        fixed_back_off_ms: ms("fixedBackOffPeriod"),
        random_back_off_ms: ms("randomBackOffPeriod"),
        base_urls: element.all("BaseURL").map(|url| (url.text.clone(), weight(url))).collect(),
    }
}

fn component(element: &Element) -> Component {
    let text = |name| element.attribute(name).unwrap_or_default().to_owned();
    let manifest = text("manifestIdRef");
    // xsi:type may have any prefix; the attributes are more reliable.
    if element.attribute("representationIdentifier").is_some() {
        Component::Dash {
            manifest,
            period: text("periodIdentifier"),
            adaptation_set: text("adaptationSetIdentifier"),
            representation: text("representationIdentifier"),
        }
    } else if element.attribute("mediaPlaylistLocator").is_some() {
        Component::Hls { manifest, playlist: text("mediaPlaylistLocator") }
    } else {
        Component::Generic { manifest, component: text("componentIdentifier") }
    }
}

fn object_carousel(element: &Element) -> Result<ObjectCarousel, XmlError> {
    let size = |name| element.attribute(name).and_then(|text| text.trim().parse().ok());
    let mut carousel = ObjectCarousel {
        transport_bytes: size("aggregateTransportSize"),
        content_bytes: size("aggregateContentSize"),
        entries: Vec::new(),
    };
    for child in &element.children {
        let kind = match child.name.as_str() {
            "PresentationManifests" => EntryKind::Manifests,
            "InitSegments" => EntryKind::Inits,
            "ResourceLocator" => EntryKind::Resource,
            _ => continue,
        };
        carousel.entries.push(CarouselEntry {
            kind,
            uri: child.text.clone(),
            service: child.attribute("serviceIdRef").map(str::to_owned),
            latency: child.attribute("targetAcquisitionLatency").and_then(duration_from_xml),
        });
    }
    Ok(carousel)
}
