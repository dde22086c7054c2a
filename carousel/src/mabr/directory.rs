//! Directory of the sessions to receive: from static entries, the announcement channel's bootstrap, and the gateway
//! configurations that it leads to (TS 103 876 clause 8.2: two steps).
//!
//! Documents go in as they arrive, a set of sessions comes out. A new version of a document replaces the sessions of its
//! predecessor; sessions that no document names are removed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::{Aliases, Configuration, Protocol, RepairParameters, TransportSession};
use crate::limits;
use crate::limits::MAX_SESSIONS;
use crate::xml::XmlError;

/// Classes of sessions in the bootstrap that are joined (`@serviceClass`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinPolicy {
    /// `urn:dvb:metadata:nativeip:ContentGuide` and `:ServiceGuide`.
    pub guides: bool,
    /// `urn:dvb:metadata:nativeip:dvb-i-slep-sl-related-material`: logos and banners.
    pub related_material: bool,
    /// `urn:dvb:metadata:nativeip:PrivateDataManifest`: files for offline use, up to hundreds of megabytes.
    pub private_data: bool,
    /// `urn:dvb:metadata:nativeip:HbbTVApplication`.
    pub applications: bool,
}

impl Default for JoinPolicy {
    fn default() -> Self {
        Self { guides: true, related_material: true, private_data: true, applications: true }
    }
}

impl JoinPolicy {
    /// Whether a session of this class is joined. False for undefined classes.
    pub fn joins(&self, service_class: Option<&str>) -> bool {
        let Some(class) = service_class else { return true };
        match class.rsplit(':').next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "contentguide" | "serviceguide" => self.guides,
            "dvb-i-slep-sl-related-material" => self.related_material,
            "privatedatamanifest" => self.private_data,
            "hbbtvapplication" => self.applications,
            _ => false,
        }
    }
}

/// Origin of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SessionOrigin {
    /// The receiver's own configuration.
    Static,
    /// A bootstrap document, or a configuration's own transport session.
    Bootstrap,
    /// A multicast session of a gateway configuration.
    Configuration,
    /// A service list of ATSC signalling.
    ServiceList,
    /// A firmware update that concerns this receiver.
    Firmware,
}

impl SessionOrigin {
    /// Name in status and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Bootstrap => "bootstrap",
            Self::Configuration => "configuration",
            Self::ServiceList => "service_list",
            Self::Firmware => "firmware",
        }
    }
}

/// A session to receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSpec {
    /// Only this source; `None`: any source.
    pub source: Option<IpAddr>,
    /// Group and port.
    pub address: SocketAddr,
    /// Only this TSI; `None`: every one.
    pub tsi: Option<u64>,
    /// FLUTE or ROUTE.
    pub protocol: Protocol,
    /// Its origin.
    pub origin: SessionOrigin,
    /// The service it belongs to; empty if none.
    pub service: String,
    /// Parameters of unicast repair, if the sender signals them.
    pub repair: Option<RepairParameters>,
    /// Announced average bit rate.
    pub average_bps: Option<u64>,
    /// Announced maximum bit rate.
    pub maximum_bps: Option<u64>,
}

/// A service of a gateway configuration: its name, and the URLs by which players request it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceSpec {
    /// `@serviceIdentifier`.
    pub id: String,
    /// URLs of its manifests.
    pub manifests: Vec<String>,
    /// Base URLs of its objects, from `UnicastRepairParameters`.
    pub bases: Vec<String>,
    /// `@contentPlaybackPathPattern`s of its manifests.
    pub path_patterns: Vec<String>,
}

/// Effect of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectoryChange {
    /// The set of sessions is unchanged.
    Same,
    /// Sessions were added or removed.
    Sessions,
}

limits! {
    /// Session configurations in force: one for each name and source.
    const MAX_DOCUMENTS: usize = 256, "documents" {
        why: "A broadcaster announces one to three.",
        full: "Of the source with the most documents, the one received longest ago makes room; counted as evicted.",
        free: "When a document is replaced by its next version, or makes room.",
        test: "documents_come_and_go_and_the_last_is_in_force_like_the_first",
    }

    /// Bytes of the documents of all session configurations in force, where there is plenty of memory.
    pub const MAX_CONFIGURATIONS_BYTES: usize = 32 << 20, "bytes" {
        why: "A network's have 200 KB; what is kept of one takes about its length.",
        full: "Of the source with the most bytes, the one received longest ago makes room; counted as evicted.",
        free: "When a document is replaced by its next version, or makes room.",
        test: "documents_are_bounded_in_bytes_and_an_untrusted_source_displaces_its_own",
    }
}

/// A session configuration in force.
#[derive(Debug)]
struct Document {
    configuration: Configuration,
    /// Bytes of the document.
    bytes: usize,
    /// [`Directory::received`] at its last reception.
    received_at: u64,
}

/// The sessions that are known, by where each was learnt, and the ones to join under the [`JoinPolicy`].
#[derive(Debug)]
pub struct Directory {
    /// Most bytes of documents.
    most_bytes: usize,
    policy: JoinPolicy,
    fixed: Vec<SessionSpec>,
    documents: BTreeMap<(IpAddr, String), Document>,
    /// Documents received: the time base for their ageing.
    received: u64,
    evicted: u64,
    sessions: Vec<SessionSpec>,
    aliases: Aliases,
    refused: u64,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            most_bytes: MAX_CONFIGURATIONS_BYTES,
            policy: JoinPolicy::default(),
            fixed: Vec::new(),
            documents: BTreeMap::new(),
            received: 0,
            evicted: 0,
            sessions: Vec::new(),
            aliases: Aliases::default(),
            refused: 0,
        }
    }
}

impl Directory {
    /// A directory with the receiver's own sessions.
    pub fn new(policy: JoinPolicy, fixed: Vec<SessionSpec>) -> Self {
        let mut directory = Self { policy, fixed, ..Self::default() };
        directory.rebuild();
        directory
    }

    /// The directory with a limit of the bytes of its documents, [`MAX_CONFIGURATIONS_BYTES`] at most.
    #[must_use]
    pub fn within(mut self, most_bytes: usize) -> Self {
        self.most_bytes = most_bytes.min(MAX_CONFIGURATIONS_BYTES);
        self
    }

    /// Applies a changed configuration: another policy and other own sessions, with the same documents.
    #[must_use]
    pub fn with_fixed(mut self, policy: JoinPolicy, fixed: Vec<SessionSpec>) -> Self {
        (self.policy, self.fixed) = (policy, fixed);
        self.rebuild();
        self
    }

    /// Processes a session configuration named `name` from `source`.
    ///
    /// # Errors
    /// If it cannot be parsed; its predecessor stays in force.
    pub fn document(
        &mut self,
        source: IpAddr,
        name: &str,
        bytes: &[u8],
    ) -> Result<DirectoryChange, XmlError> {
        let configuration = Configuration::parse(bytes)?;
        let key = (source, name.to_ascii_lowercase());
        self.received += 1;
        if let Some(document) = self.documents.get_mut(&key) {
            document.received_at = self.received;
            if document.configuration == configuration {
                return Ok(DirectoryChange::Same);
            }
        } else if self.documents.len() >= MAX_DOCUMENTS {
            self.evict(|_| 1);
        }
        self.documents.remove(&key);
        while !self.documents.is_empty() && self.held_bytes() + bytes.len() > self.most_bytes {
            self.evict(|it| it.bytes);
        }
        let document = Document { configuration, bytes: bytes.len(), received_at: self.received };
        self.documents.insert(key, document);
        let before = std::mem::take(&mut self.sessions);
        self.rebuild();
        Ok(if before == self.sessions { DirectoryChange::Same } else { DirectoryChange::Sessions })
    }

    /// The sessions to receive, without duplicates, at most [`MAX_SESSIONS`].
    pub fn sessions(&self) -> &[SessionSpec] {
        &self.sessions
    }

    /// Map from names on the link to URLs.
    pub const fn aliases(&self) -> &Aliases {
        &self.aliases
    }

    /// Configurations in force.
    pub fn configurations(&self) -> impl Iterator<Item = &Configuration> {
        self.documents.values().map(|it| &it.configuration)
    }

    /// The services of the configurations in force that have a name and sessions, in the order of their documents. Parts of one
    /// service in several documents are merged.
    pub fn services(&self) -> Vec<ServiceSpec> {
        let mut services: Vec<ServiceSpec> = Vec::new();
        for session in self.configurations().flat_map(|it| &it.sessions) {
            let id = &session.service_identifier;
            if id.is_empty() || !self.sessions.iter().any(|it| it.service == *id) {
                continue;
            }
            let at = services.iter().position(|it| it.id == *id).unwrap_or_else(|| {
                services.push(ServiceSpec { id: id.clone(), ..ServiceSpec::default() });
                services.len() - 1
            });
            let service = &mut services[at];
            let manifests = session.manifests.iter();
            service.manifests.extend(manifests.clone().map(|it| it.url.clone()).filter(|it| !it.is_empty()));
            service.path_patterns.extend(manifests.filter_map(|it| it.path_pattern.clone()));
            let repairs = session.transport_sessions.iter().filter_map(|it| it.repair.as_ref());
            let bases = repairs.flat_map(|it| &it.base_urls).filter(|(_, weight)| *weight > 0);
            service.bases.extend(bases.map(|(url, _)| url.clone()));
            service.bases.sort();
            service.bases.dedup();
        }
        services
    }

    /// Announced bit rate of a service: the sum of the average rates of its sessions, or of the maximum rates where no average is
    /// given. Sessions to one address with the same maximum rate are counted once, since renditions may share it.
    pub fn announced_bps(&self, service: &str) -> Option<u64> {
        let of_service = || self.sessions.iter().filter(|it| it.service == service);
        let sum =
            |rates: &mut dyn Iterator<Item = u64>| rates.reduce(u64::saturating_add).filter(|bps| *bps > 0);
        let maxima: BTreeSet<(SocketAddr, u64)> =
            of_service().filter_map(|it| Some((it.address, it.maximum_bps?))).collect();
        sum(&mut of_service().filter_map(|it| it.average_bps))
            .or_else(|| sum(&mut maxima.into_iter().map(|it| it.1)))
    }

    /// Number of documents that made room for others.
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Bytes of all documents.
    fn held_bytes(&self) -> usize {
        self.documents.values().map(|it| it.bytes).sum()
    }

    /// Removes a document to make room: one of the source with the most by `size`, so that a source that invents documents
    /// displaces only its own.
    fn evict(&mut self, size: impl Fn(&Document) -> usize) {
        let mut by_source: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for ((source, _), document) in &self.documents {
            *by_source.entry(*source).or_default() += size(document);
        }
        let Some((source, _)) = by_source.into_iter().max_by_key(|(_, size)| *size) else { return };
        let of_source = self.documents.iter().filter(|((of, _), _)| *of == source);
        let oldest = of_source.min_by_key(|(_, it)| it.received_at).map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            self.documents.remove(&key);
            self.evicted += 1;
        }
    }

    /// Number of sessions omitted because of the limit.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    fn rebuild(&mut self) {
        self.sessions = self.fixed.clone();
        self.aliases = Aliases::default();
        let documents = std::mem::take(&mut self.documents);
        for Document { configuration, .. } in documents.values() {
            self.aliases.add(configuration);
            for session in &configuration.gateway_sessions {
                if self.policy.joins(session.service_class.as_deref()) {
                    self.add(session, SessionOrigin::Bootstrap, "");
                }
            }
            for service in &configuration.sessions {
                for session in &service.transport_sessions {
                    if self.policy.joins(session.service_class.as_deref()) {
                        self.add(session, SessionOrigin::Configuration, &service.service_identifier);
                    }
                }
            }
        }
        self.documents = documents;
    }

    fn add(&mut self, session: &TransportSession, origin: SessionOrigin, service: &str) {
        for endpoint in &session.endpoints {
            let spec = SessionSpec {
                source: endpoint.source,
                address: SocketAddr::new(endpoint.group, endpoint.port),
                tsi: endpoint.tsi,
                protocol: session.protocol.clone(),
                origin,
                service: service.to_owned(),
                repair: session.repair.clone(),
                average_bps: session.average_bps,
                maximum_bps: session.maximum_bps,
            };
            let same = |have: &&mut SessionSpec| {
                have.address == spec.address && have.tsi == spec.tsi && have.source == spec.source
            };
            if let Some(have) = self.sessions.iter_mut().find(same) {
                // A static entry takes precedence; repair parameters of a document are added.
                if have.repair.is_none() {
                    have.repair.clone_from(&spec.repair);
                }
            } else if self.sessions.len() < MAX_SESSIONS {
                self.sessions.push(spec);
            } else {
                self.refused += 1;
            }
        }
    }
}
