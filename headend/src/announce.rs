//! Announcement documents: bootstrap, gateway configuration, NIF, SIF, time offset, service list entry points.
//!
//! Built from the configuration and the sessions of the broadcast, sent like other objects, and written to files by
//! `headend catalog`.

use std::net::SocketAddr;
use std::time::Duration;

use carousel::dvbi::Text;
use carousel::dvbi::entry_points::{DeliveryKind, EntryPoints, Offering, Provider};
use carousel::dvbi::list::LIST_TYPE;
use carousel::mabr::{
    CarouselEntry, Component, Configuration, Endpoint, EntryKind, ManifestLocator, MulticastSession,
    ObjectCarousel, Protocol, RepairParameters, TransportSession,
};
use carousel::nip::{
    BroadcastNetwork, Document, MediaStream, NetworkInformationFile, NipStream, ServiceInformationFile,
    TimeOffsetFile,
};
use carousel::time::WallTime;

use crate::catalog::guide_tag;
use crate::config::Config;
use crate::document::Announcement;
use crate::options::{Nip, TransportProtocol, tag_of};

/// A media session in the gateway configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaSession {
    /// `@id`: a name without spaces.
    pub id: String,
    /// Group and port.
    pub address: SocketAddr,
    /// TSI.
    pub tsi: u64,
    /// Its protocol.
    pub protocol: TransportProtocol,
    /// Whether segments are sent in chunks while they are written.
    pub is_chunked: bool,
    /// Its components.
    pub components: Vec<Component>,
    /// Maximum bit rate.
    pub maximum_bps: u64,
    /// Average bit rate, if known.
    pub average_bps: Option<u64>,
}

/// A service: one source with its manifests and media sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its URI.
    pub id: String,
    /// URL of its directory.
    pub base: String,
    /// Manifest URL and MIME type, presentations' own manifests only.
    pub manifests: Vec<(String, String)>,
    /// Its media sessions.
    pub sessions: Vec<MediaSession>,
}

fn flute_session(config: &Config, address: SocketAddr, tsi: u64, maximum_bps: u64) -> TransportSession {
    let source = config.sessions.source;
    TransportSession {
        transport_security: Some("integrity".to_owned()),
        protocol: Protocol::Flute,
        endpoints: vec![Endpoint { source, group: address.ip(), port: address.port(), tsi: Some(tsi) }],
        maximum_bps: Some(maximum_bps),
        ..TransportSession::default()
    }
}

/// TSI of the configuration session.
pub const CONFIGURATION_TSI: u64 = 1;

/// The gateway configuration: the configuration session itself, then every service.
pub fn gateway_configuration(config: &Config, services: &[Service]) -> Announcement {
    let sessions = services.iter().map(|service| MulticastSession {
        service_identifier: service.id.clone(),
        manifests: manifests(service),
        transport_sessions: service
            .sessions
            .iter()
            .map(|session| media_session(config, service, session))
            .collect(),
        ..MulticastSession::default()
    });
    let mut own =
        flute_session(config, config.sessions.configuration, CONFIGURATION_TSI, config.link.rate_bps);
    own.carousel = Some(configuration_carousel(config, services));
    let configuration = Configuration {
        gateway_sessions: vec![own],
        sessions: sessions.collect(),
        ..Configuration::default()
    };
    Announcement {
        file: "gateway-configuration.xml".to_owned(),
        uri: carousel::mabr::CONFIGURATION_URI.to_owned(),
        content_type: carousel::mabr::CONFIGURATION_TYPE.to_owned(),
        bytes: configuration.to_xml().into_bytes(),
    }
}

fn manifests(service: &Service) -> Vec<ManifestLocator> {
    let locator = |(at, (url, content_type)): (usize, &(String, String))| ManifestLocator {
        url: url.clone(),
        id: format!("m{at}"),
        content_type: content_type.clone(),
        transport_object_uri: Some(url.clone()),
        path_pattern: None,
    };
    service.manifests.iter().enumerate().map(locator).collect()
}

fn media_session(config: &Config, service: &Service, session: &MediaSession) -> TransportSession {
    let repair = config.repair.enabled.then(|| RepairParameters {
        transport_object_base_uri: Some(service.base.clone()),
        reception_timeout_ms: config.repair.reception_timeout_ms,
        fixed_back_off_ms: config.repair.fixed_back_off_ms,
        random_back_off_ms: config.repair.random_back_off_ms,
        base_urls: vec![(service.base.clone(), 1)],
    });
    TransportSession {
        id: Some(session.id.clone()),
        idle_timeout_ms: Some(60_000),
        repair,
        components: session.components.clone(),
        average_bps: session.average_bps,
        chunked: session.is_chunked,
        protocol: match session.protocol {
            TransportProtocol::Flute => Protocol::Flute,
            TransportProtocol::Route => Protocol::Route,
        },
        ..flute_session(config, session.address, session.tsi, session.maximum_bps)
    }
}

fn configuration_carousel(config: &Config, services: &[Service]) -> ObjectCarousel {
    let latency = Some(Duration::from_millis(config.carousel.manifest_interval_ms));
    let entry = |kind| {
        move |service: &Service| CarouselEntry {
            kind,
            uri: String::new(),
            service: Some(service.id.clone()),
            latency,
        }
    };
    let manifests = services.iter().map(entry(EntryKind::Manifests));
    ObjectCarousel {
        entries: manifests.chain(services.iter().map(entry(EntryKind::Inits))).collect(),
        ..ObjectCarousel::default()
    }
}

/// The entry points: our own list, if it is on the air, and those of the configuration.
fn entry_points(config: &Config, own: Option<&Offering>) -> EntryPoints {
    let provider = vec![Text::new("", &config.nip.provider)];
    let named = config.nip.service_lists.iter().map(|list| Offering {
        id: tag_of(&list.uri),
        names: vec![Text::new("", &list.name)],
        uris: vec![(list.uri.clone(), LIST_TYPE.to_owned())],
        delivery: vec![DeliveryKind::Dash],
        ..Offering::default()
    });
    EntryPoints {
        language: config.catalog.language.clone(),
        registry: provider.clone(),
        providers: vec![Provider { names: provider, lists: own.cloned().into_iter().chain(named).collect() }],
    }
}

/// Sessions of the announcement channel, which carries `documents`, and of the configuration.
fn bootstrap(
    config: &Config,
    services: &[Service],
    own: Option<&Offering>,
    documents: &[Document],
) -> Configuration {
    let interval = Some(Duration::from_millis(config.carousel.announcement_interval_ms));
    let entries = documents.iter().map(|document| CarouselEntry {
        kind: EntryKind::Resource,
        uri: document.name().to_owned(),
        service: None,
        latency: interval,
    });
    let mut channel = flute_session(
        config,
        config.sessions.announcement,
        carousel::nip::ANNOUNCEMENT_TSI,
        config.link.rate_bps,
    );
    if own.is_some() {
        channel.tags = vec![guide_tag(&config.catalog)];
    }
    channel.carousel = Some(ObjectCarousel { entries: entries.collect(), ..ObjectCarousel::default() });
    let mut configuration =
        flute_session(config, config.sessions.configuration, CONFIGURATION_TSI, config.link.rate_bps);
    configuration.carousel = Some(configuration_carousel(config, services));
    Configuration { gateway_sessions: vec![channel, configuration], ..Configuration::default() }
}

fn network_information(nip: &Nip, version_update: &str) -> NetworkInformationFile {
    let stream = NipStream {
        link_layer: "TS".to_owned(),
        provider: nip.provider.clone(),
        carrier_id: nip.carrier_id,
        link_id: nip.link_id,
        service_id: nip.service_id,
        bootstrap: Some(("Physical Network".to_owned(), "Active".to_owned())),
        delivery: nip.delivery(),
    };
    NetworkInformationFile {
        version_update: version_update.to_owned(),
        nif_type: "Physical Network".to_owned(),
        actual: BroadcastNetwork {
            network_type: "Satellite".to_owned(),
            name: nip.network_name.clone(),
            provider: nip.provider.clone(),
            satellite_position: None,
            network_id: nip.network_id,
            streams: vec![stream],
        },
        others: Vec::new(),
    }
}

fn service_information(
    nip: &Nip,
    version_update: &str,
    services: &[Service],
    points: &EntryPoints,
) -> ServiceInformationFile {
    let lists = points.lists().flat_map(|list| list.uris.iter().map(|(uri, _)| uri.clone()));
    let manifests = services.iter().flat_map(|service| service.manifests.iter().map(|(url, _)| url.clone()));
    ServiceInformationFile {
        version_update: version_update.to_owned(),
        provider: nip.provider.clone(),
        streams: vec![MediaStream {
            ids: [nip.network_id, nip.carrier_id, nip.link_id, nip.service_id],
            uris: manifests.chain(lists).collect(),
            applications: Vec::new(),
        }],
    }
}

/// The documents of the announcement channel. `own`: the offering of our own service list, if it is on the air.
pub fn announcement(
    config: &Config,
    services: &[Service],
    own: Option<&Offering>,
    now: WallTime,
) -> Vec<Announcement> {
    let version_update = now.to_xml();
    let points = entry_points(config, own);
    let mut documents = vec![
        Document::Bootstrap,
        Document::NetworkInformation,
        Document::ServiceInformation,
        Document::TimeOffset,
    ];
    if points.lists().next().is_some() {
        documents.push(Document::ServiceListEntryPoints);
    }
    let of = |document: &Document| {
        let (file, xml) = match document {
            Document::Bootstrap => ("bootstrap.xml", bootstrap(config, services, own, &documents).to_xml()),
            Document::NetworkInformation => {
                ("nif.xml", network_information(&config.nip, &version_update).to_xml())
            }
            Document::ServiceInformation => {
                ("sif.xml", service_information(&config.nip, &version_update, services, &points).to_xml())
            }
            Document::TimeOffset => ("tof.xml", TimeOffsetFile::now(now).to_xml()),
            _ => ("slep.xml", points.to_xml(config.catalog.edition)),
        };
        Announcement {
            file: file.to_owned(),
            uri: document.name().to_owned(),
            content_type: document.content_type().to_owned(),
            bytes: xml.into_bytes(),
        }
    };
    documents.iter().map(of).collect()
}

#[cfg(test)]
mod tests;
