//! Serialisation of session configurations, in the element order of TS 103 769 Annex C.

use super::{
    Component, Configuration, Endpoint, EntryKind, MulticastSession, ObjectCarousel, RepairParameters,
    TransportSession,
};
use crate::time::duration_to_xml;
use crate::xml::{self, Element};

/// Namespace of schema version 2.
const NAMESPACE: &str = "urn:dvb:metadata:MulticastSessionConfiguration:2024";
const EXTENSIBILITY: &str = "urn:dvb:metadata:Extensibility:2024";
const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

impl Configuration {
    /// Writes the document in the namespace of schema version 2.
    pub fn to_xml(&self) -> String {
        let name =
            if self.for_server { "MulticastServerConfiguration" } else { "MulticastGatewayConfiguration" };
        let version = self.schema_version.as_deref().unwrap_or("2");
        let mut root = element(name).attr_ns(EXTENSIBILITY, "schemaVersion", version);
        root = root.attr_opt("validityPeriod", self.validity_period.map(duration_to_xml));
        root = root.attr_opt(
            "validUntil",
            self.valid_until.map(|time| time.to_xml().trim_end_matches('Z').replace('.', ":") + "F1000"),
        );
        root.attributes.extend(self.unknown_attributes.iter().cloned());
        let sessions = self
            .gateway_sessions
            .iter()
            .map(|session| transport_session("MulticastGatewayConfigurationTransportSession", session));
        root = root.extend(sessions).extend(self.sessions.iter().map(multicast_session));
        root = root.extend(self.unknown.iter().cloned());
        xml::write(&root, &[(EXTENSIBILITY, "ext"), (XSI, "xsi")])
    }
}

fn element(name: &str) -> Element {
    Element::new(NAMESPACE, name)
}

fn multicast_session(session: &MulticastSession) -> Element {
    let manifests = session.manifests.iter().map(|manifest| {
        element("PresentationManifestLocator")
            .attr("manifestId", &manifest.id)
            .attr("contentType", &manifest.content_type)
            .attr_opt("transportObjectURI", manifest.transport_object_uri.as_deref())
            .attr_opt("contentPlaybackPathPattern", manifest.path_pattern.as_deref())
            .with_text(&manifest.url)
    });
    let transports = session
        .transport_sessions
        .iter()
        .map(|transport| transport_session("MulticastTransportSession", transport));
    element("MulticastSession")
        .attr("serviceIdentifier", &session.service_identifier)
        .attr_opt("contentPlaybackAvailabilityOffset", session.playback_offset.map(duration_to_xml))
        .extend(manifests)
        .extend(transports)
        .extend(session.unknown.iter().cloned())
}

fn transport_session(name: &str, session: &TransportSession) -> Element {
    let mut out = element(name)
        .attr_opt("id", session.id.as_deref())
        .attr_opt("serviceClass", session.service_class.as_deref())
        .attr_opt("tags", (!session.tags.is_empty()).then(|| session.tags.join(" ")))
        .attr_opt("transmissionMode", session.chunked.then_some("chunked"))
        .attr_opt("transportSecurity", session.transport_security.as_deref())
        .attr_opt("sessionIdleTimeout", session.idle_timeout_ms.map(|ms| ms.to_string()));
    out.attributes.extend(session.unknown_attributes.iter().cloned());
    let protocol = element("TransportProtocol")
        .attr("protocolIdentifier", session.protocol.identifier())
        .attr("protocolVersion", "1");
    out = out.child(protocol).extend(session.endpoints.iter().map(endpoint));
    if session.average_bps.or(session.maximum_bps).is_some() {
        let rate = element("BitRate")
            .attr_opt("average", session.average_bps.map(|bps| bps.to_string()))
            .attr_opt("maximum", session.maximum_bps.map(|bps| bps.to_string()));
        out = out.child(rate);
    }
    // FEC parameters go before repair; other unknown elements go last.
    let (fec, others): (Vec<_>, Vec<_>) =
        session.unknown.iter().cloned().partition(|child| child.name == "ForwardErrorCorrectionParameters");
    out.extend(fec)
        .extend(session.repair.iter().map(repair))
        .extend(session.components.iter().map(component))
        .extend(session.carousel.iter().map(object_carousel))
        .extend(others)
}

fn endpoint(endpoint: &Endpoint) -> Element {
    let mut out = element("EndpointAddress");
    if let Some(source) = endpoint.source {
        out = out.text_child("NetworkSourceAddress", source.to_string());
    }
    out = out
        .text_child("NetworkDestinationGroupAddress", endpoint.group.to_string())
        .text_child("TransportDestinationPort", endpoint.port.to_string());
    match endpoint.tsi {
        Some(tsi) => out.text_child("MediaTransportSessionIdentifier", tsi.to_string()),
        None => out,
    }
}

fn repair(repair: &RepairParameters) -> Element {
    let urls = repair.base_urls.iter().map(|(url, weight)| {
        element("BaseURL")
            .attr_opt("relativeWeight", (*weight != 1).then(|| weight.to_string()))
            .with_text(url)
    });
    element("UnicastRepairParameters")
        .attr_opt("transportObjectBaseURI", repair.transport_object_base_uri.as_deref())
        .attr("transportObjectReceptionTimeout", repair.reception_timeout_ms.to_string())
        .attr("fixedBackOffPeriod", repair.fixed_back_off_ms.to_string())
        .attr("randomBackOffPeriod", repair.random_back_off_ms.to_string())
        .extend(urls)
}

fn component(component: &Component) -> Element {
    let out = element("ServiceComponentIdentifier");
    match component {
        Component::Dash { manifest, period, adaptation_set, representation } => out
            .attr_ns(XSI, "type", "DASHComponentIdentifierType")
            .attr("manifestIdRef", manifest)
            .attr("periodIdentifier", period)
            .attr("adaptationSetIdentifier", adaptation_set)
            .attr("representationIdentifier", representation),
        Component::Hls { manifest, playlist } => out
            .attr_ns(XSI, "type", "HLSComponentIdentifierType")
            .attr("manifestIdRef", manifest)
            .attr("mediaPlaylistLocator", playlist),
        Component::Generic { manifest, component } => out
            .attr_ns(XSI, "type", "GenericComponentIdentifierType")
            .attr("manifestIdRef", manifest)
            .attr("componentIdentifier", component),
    }
}

fn object_carousel(carousel: &ObjectCarousel) -> Element {
    let entries = carousel.entries.iter().map(|entry| {
        let name = match entry.kind {
            EntryKind::Manifests => "PresentationManifests",
            EntryKind::Inits => "InitSegments",
            EntryKind::Resource => "ResourceLocator",
        };
        element(name)
            .attr_opt("targetAcquisitionLatency", entry.latency.map(duration_to_xml))
            .attr_opt("serviceIdRef", entry.service.as_deref())
            .with_text(&entry.uri)
    });
    element("ObjectCarousel")
        .attr_opt("aggregateTransportSize", carousel.transport_bytes.map(|bytes| bytes.to_string()))
        .attr_opt("aggregateContentSize", carousel.content_bytes.map(|bytes| bytes.to_string()))
        .extend(entries)
}
