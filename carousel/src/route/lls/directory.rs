//! Directory of ATSC services, from the tables of low-level signalling and the signalling of each listed service.
//!
//! Tables and documents go in as they arrive; sessions to join, names of objects and descriptions of channels come out. A new
//! version of a table replaces the services of the previous one. State of a service is kept while its table lists it with the
//! same address.
//!
//! Names in ROUTE are relative, and different services use the same names for their manifests. So each service has its own
//! base URL below [`BASE`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Content, GROUP, Service, ServiceList, SlsProtocol, SystemTime, tables};
use crate::limits;
use crate::mabr::{Protocol, ServiceSpec, SessionOrigin, SessionSpec};
use crate::reason::Counts;
use crate::route::{RouteSession, STSID_TYPE, Stsid};
use crate::time::Instant;
use crate::xml::{Element, parse};

/// MIME type under which a datagram of low-level signalling is passed on.
pub const LLS_TYPE: &str = "application/vnd.atsc-lls";
/// MIME type of a user service bundle description (A/331 section 7.1.3).
pub const USBD_TYPE: &str = "application/route-usd+xml";
/// Base URL of the names of all services, not defined by the standard. Followed by broadcast stream and service.
const BASE: &str = "http://atsc3.gw/";

limits! {
    /// Service list tables that are known at a time.
    const MAX_LISTS: usize = 16, "tables" {
        why: "One for each channel that is received and each broadcaster that shares it.",
        full: "A further table is left out and counted as `too_many_tables`.",
        free: "When a table has not been repeated for its time.",
        test: "tables_services_and_groups_are_bounded_and_places_come_back",
    }

    /// Services of all tables that are received at a time.
    const MAX_RECEIVED: usize = 64, "services" {
        why: "Six channels of ten services; each has a socket.",
        full: "Further services are listed, not received, and counted as `too_many_services`.",
        free: "When a service is listed no more.",
        test: "tables_services_and_groups_are_bounded_and_places_come_back",
    }

    /// Groups of one service beside that of its signalling.
    const MAX_GROUPS: usize = 8, "groups" {
        why: "Senders put a service into one session, or into one for each component.",
        full: "Sessions of further groups are left out and counted as `too_many_groups`.",
        free: "When the service's S-TSID names fewer.",
        test: "tables_services_and_groups_are_bounded_and_places_come_back",
    }

    /// Time for which a service list is in force after it was received last.
    const MAX_LIST_AGE: Duration = Duration::from_secs(300), "s" {
        why: "A/331 has it repeated every five seconds; a rain fade takes minutes.",
        full: "Its services are gone: their groups are left.",
        free: "At once; the next repetition is in force again.",
        test: "a_list_that_is_not_repeated_is_gone",
    }
}

crate::reasons! {
    /// Why something of ATSC signalling is not received.
    pub enum ServiceDrop in "atsc_left_out" by "reason" {
        /// The service is delivered by MMTP, which is not supported.
        Mmtp = "mmtp",
        /// The service's signalling has a protocol that is not known.
        Protocol = "protocol",
        /// The service has no signalling by broadcast.
        Broadband = "broadband",
        /// The address is not a group for media: not multicast, of the local network's own protocols, or without a port.
        BadAddress = "bad_address",
        /// The group is that of another service, of low-level signalling, or of the configuration.
        Taken = "taken",
        /// Another table has a service with its identifiers.
        Duplicate = "duplicate",
        /// There are too many services.
        TooManyServices = "too_many_services",
        /// The service has too many groups.
        TooManyGroups = "too_many_groups",
        /// The table cannot be read.
        BadTable = "bad_table",
        /// There are too many tables.
        TooManyTables = "too_many_tables",
        /// The service's signalling cannot be read.
        BadSignalling = "bad_signalling",
        /// Signatures that are checked are required, and this signalling has none.
        Unsigned = "unsigned",
    }
}

/// Source, destination and LLS_group_id of a table.
type ListKey = (IpAddr, SocketAddr, u8);

#[derive(Debug)]
struct List {
    /// Serial number of its first table: of two services that claim the same, the first keeps it.
    serial: u64,
    version: u8,
    heard: Instant,
    list: ServiceList,
    known: Vec<ServiceEntry>,
}

/// One service.
#[derive(Debug, Clone)]
struct ServiceEntry {
    service: Service,
    /// Why it is not received.
    dropped: Option<ServiceDrop>,
    /// `@fullMPDUri`.
    manifest: Option<String>,
    /// Sessions of its S-TSID at other addresses.
    elsewhere: Vec<RouteSession>,
    /// Sum of `@bw`.
    bandwidth_kbps: u64,
}

impl ServiceEntry {
    fn of(service: &Service) -> Self {
        Self {
            service: service.clone(),
            dropped: None,
            manifest: None,
            elsewhere: Vec::new(),
            bandwidth_kbps: 0,
        }
    }

    /// The group of its signalling, if it is received.
    fn address(&self) -> Option<SocketAddr> {
        self.service.address.filter(|_| self.dropped.is_none())
    }
}

/// A service, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceReport {
    /// Its entry in the table.
    pub service: Service,
    /// Its identifier, unique in the box.
    pub id: String,
    /// URL of its manifest, once that is known.
    pub manifest: Option<String>,
    /// Groups that it is sent to.
    pub groups: Vec<SocketAddr>,
    /// Why it is not received.
    pub dropped: Option<ServiceDrop>,
}

/// A service list, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListReport {
    /// Its sender.
    pub source: IpAddr,
    /// The group of low-level signalling.
    pub group: SocketAddr,
    /// Identifier of the broadcast stream.
    pub bsid: u32,
    /// Its version.
    pub version: u8,
    /// Its services.
    pub services: Vec<ServiceReport>,
}

/// Services, their sessions and descriptions, as far as the tables received so far give them.
#[derive(Debug, Default)]
pub struct ServiceDirectory {
    /// Configured groups, which services cannot use.
    taken: HashSet<SocketAddr>,
    lists: BTreeMap<ListKey, List>,
    times: BTreeMap<(IpAddr, SocketAddr), SystemTime>,
    serial: u64,
    tables: u64,
    left_out: Counts<ServiceDrop>,
}

/// Identifier of a service, unique in the box.
fn id_of(bsid: u32, service: u32) -> String {
    format!("atsc:{bsid}:{service}")
}

/// Base URL of a service's names.
fn base_of(bsid: u32, service: u32) -> String {
    format!("{BASE}{bsid}/{service}/")
}

/// Whether an address is valid for media: a group, except those of local network protocols (RFC 5771 section 4, RFC 4291 section
/// 2.7).
fn is_for_media(address: SocketAddr) -> bool {
    let is_group = match address.ip() {
        IpAddr::V4(ip) => ip.is_multicast() && ip.octets()[..3] != [224, 0, 0],
        IpAddr::V6(ip) => ip.is_multicast() && ip.segments()[0] & 0xf > 2,
    };
    is_group && address.port() != 0
}

impl ServiceDirectory {
    /// Sets the groups that services cannot use: those of low-level signalling and of the configuration. Returns whether the
    /// received services have changed.
    pub fn set_taken(&mut self, taken: impl IntoIterator<Item = SocketAddr>) -> bool {
        let taken = taken.into_iter().collect();
        if self.taken == taken {
            return false;
        }
        self.taken = taken;
        self.settle()
    }

    /// Processes a datagram of low-level signalling from `source` to the group `destination`. Returns whether sessions or
    /// reports have changed.
    pub fn datagram(
        &mut self,
        now: Instant,
        source: IpAddr,
        destination: SocketAddr,
        datagram: &[u8],
    ) -> bool {
        let Some(tables) = tables(datagram) else {
            self.left_out.add(ServiceDrop::BadTable);
            return false;
        };
        let mut has_changed = false;
        for table in tables {
            self.tables += 1;
            match table.content {
                Content::Services(list) => {
                    let key = (source, destination, table.group_id);
                    has_changed |= self.list(now, key, table.version, list);
                }
                Content::Time(time) => {
                    let key = (source, destination);
                    if self.times.len() < MAX_LISTS || self.times.contains_key(&key) {
                        has_changed |= self.times.insert(key, time.clone()) != Some(time);
                    }
                }
                Content::Other => {}
                Content::Bad => {
                    self.left_out.add(ServiceDrop::BadTable);
                }
            }
        }
        has_changed
    }

    fn list(&mut self, now: Instant, key: ListKey, version: u8, list: ServiceList) -> bool {
        let Some(before) = self.lists.get_mut(&key) else {
            if self.lists.len() >= MAX_LISTS {
                self.left_out.add(ServiceDrop::TooManyTables);
                return false;
            }
            self.serial += 1;
            self.left_out.add_many(ServiceDrop::TooManyServices, list.left_out);
            let known = list.services.iter().map(ServiceEntry::of).collect();
            self.lists.insert(key, List { serial: self.serial, version, heard: now, list, known });
            self.settle();
            return true;
        };
        before.heard = now;
        if before.list == list {
            before.version = version;
            return false;
        }
        self.left_out.add_many(ServiceDrop::TooManyServices, list.left_out);
        let is_same_stream = before.list.bsid == list.bsid;
        let old = std::mem::take(&mut before.known);
        let known = list.services.iter().map(|service| {
            let is_same =
                |it: &&ServiceEntry| it.service.id == service.id && it.service.address == service.address;
            match old.iter().find(is_same).filter(|_| is_same_stream) {
                Some(known) => ServiceEntry { service: service.clone(), ..known.clone() },
                None => ServiceEntry::of(service),
            }
        });
        before.known = known.collect();
        (before.version, before.list) = (version, list);
        self.settle();
        true
    }

    /// Decides which services are received. Of two services that claim an address or identifier, the first keeps it.
    /// Returns whether anything has changed.
    fn settle(&mut self) -> bool {
        let mut lists: Vec<&mut List> = self.lists.values_mut().collect();
        lists.sort_by_key(|it| it.serial);
        let (mut ids, mut addresses, mut received) = (HashSet::new(), HashSet::new(), 0);
        let mut has_changed = false;
        for List { list, known, .. } in &mut lists {
            for known in known {
                let service = &known.service;
                let address = service.address.filter(|it| is_for_media(*it));
                let dropped = match (service.protocol, address) {
                    (SlsProtocol::Mmtp, _) => Some(ServiceDrop::Mmtp),
                    (SlsProtocol::Other(_), _) => Some(ServiceDrop::Protocol),
                    (SlsProtocol::None, _) => Some(ServiceDrop::Broadband),
                    _ if !ids.insert((list.bsid, service.id)) => Some(ServiceDrop::Duplicate),
                    (_, None) => Some(ServiceDrop::BadAddress),
                    (_, Some(it)) if it == GROUP || self.taken.contains(&it) => Some(ServiceDrop::Taken),
                    _ if received >= MAX_RECEIVED => Some(ServiceDrop::TooManyServices),
                    (_, Some(it)) if !addresses.insert(it) => Some(ServiceDrop::Taken),
                    _ => None,
                };
                received += usize::from(dropped.is_none());
                if let Some(why) = dropped.filter(|_| known.dropped != dropped) {
                    self.left_out.add(why);
                }
                has_changed |= known.dropped != dropped;
                known.dropped = dropped;
            }
        }
        // Groups of tables take precedence over those of S-TSIDs.
        let mut claimed = HashSet::new();
        for List { known, .. } in lists {
            for known in known.iter_mut().filter(|it| it.dropped.is_none()) {
                let before = known.elsewhere.len();
                known.elsewhere.retain_mut(|session| {
                    let address = session.group.zip(session.port).map(SocketAddr::from);
                    let Some(address) =
                        address.filter(|it| !addresses.contains(it) && !self.taken.contains(it))
                    else {
                        return false;
                    };
                    session.channels.retain(|it| claimed.insert((address, it.tsi)));
                    !session.channels.is_empty()
                });
                let gone = before - known.elsewhere.len();
                self.left_out.add_many(ServiceDrop::Taken, gone as u64);
                has_changed |= gone > 0;
            }
        }
        has_changed
    }

    /// Processes a document of a service's signalling, from `source` to `destination` with TSI 0. Returns whether sessions or
    /// reports have changed.
    pub fn document(&mut self, source: IpAddr, destination: SocketAddr, kind: &str, bytes: &[u8]) -> bool {
        let all = self.lists.values_mut().flat_map(|it| &mut it.known);
        let Some(known) = all.into_iter().find(|it| it.address() == Some(destination)) else { return false };
        let before = (known.manifest.clone(), known.elsewhere.clone(), known.bandwidth_kbps);
        match kind {
            USBD_TYPE => match parse(bytes).ok().and_then(|it| manifest_of(&it)) {
                Some(manifest) => known.manifest = Some(manifest),
                None => {
                    self.left_out.add(ServiceDrop::BadSignalling);
                    return false;
                }
            },
            STSID_TYPE => {
                let Ok(stsid) = Stsid::parse(bytes) else {
                    self.left_out.add(ServiceDrop::BadSignalling);
                    return false;
                };
                let channels = stsid.sessions.iter().flat_map(|it| &it.channels);
                let bandwidths = channels.filter_map(|it| it.bandwidth_kbps);
                known.bandwidth_kbps = bandwidths.fold(0, u64::saturating_add);
                known.elsewhere = elsewhere(stsid, source, destination, &self.left_out);
            }
            _ => return false,
        }
        let (manifest, sessions, bandwidth_kbps) = before;
        if (&manifest, &sessions, bandwidth_kbps) == (&known.manifest, &known.elsewhere, known.bandwidth_kbps)
        {
            return false;
        }
        self.settle();
        true
    }

    /// Removes lists that were not repeated. Early or extra calls do nothing. Returns whether anything has changed.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let before = self.lists.len();
        self.lists.retain(|_, it| now.since(it.heard) < MAX_LIST_AGE);
        if self.lists.len() == before {
            return false;
        }
        let lists = &self.lists;
        self.times.retain(|(source, group), _| lists.keys().any(|it| (it.0, it.1) == (*source, *group)));
        self.settle();
        true
    }

    /// Removes lists received on other groups of low-level signalling than these.
    pub fn keep_groups(&mut self, groups: &[SocketAddr]) {
        self.lists.retain(|(_, group, _), _| groups.contains(group));
        self.times.retain(|(_, group), _| groups.contains(group));
        self.settle();
    }

    /// The received services, with the source and group of their table.
    fn received(&self) -> impl Iterator<Item = (&ListKey, u32, &ServiceEntry, SocketAddr)> {
        let lists = self.lists.iter();
        lists.flat_map(|(key, it)| {
            it.known.iter().filter_map(move |known| Some((key, it.list.bsid, known, known.address()?)))
        })
    }

    /// The sessions to join.
    pub fn sessions(&self) -> Vec<SessionSpec> {
        let mut sessions: Vec<SessionSpec> = Vec::new();
        for ((sender, ..), bsid, known, address) in self.received() {
            // A gateway may have replaced the source address.
            let source = known.service.source.filter(|it| it == sender);
            let mut average_bps = Some(known.bandwidth_kbps.saturating_mul(1000)).filter(|bps| *bps > 0);
            for address in std::iter::once(address).chain(addresses(&known.elsewhere)) {
                sessions.push(SessionSpec {
                    source,
                    address,
                    tsi: None,
                    protocol: Protocol::Route,
                    origin: SessionOrigin::ServiceList,
                    service: id_of(bsid, known.service.id),
                    repair: None,
                    average_bps: average_bps.take(),
                    maximum_bps: None,
                });
            }
        }
        sessions
    }

    /// The received services: their names, and the URLs by which players request them.
    pub fn services(&self) -> Vec<ServiceSpec> {
        let services = self.received().map(|(_, bsid, known, _)| ServiceSpec {
            id: id_of(bsid, known.service.id),
            manifests: manifest_url(bsid, known).into_iter().collect(),
            bases: vec![base_of(bsid, known.service.id)],
            path_patterns: Vec::new(),
        });
        services.collect()
    }

    /// Announced bit rate of a service.
    pub fn announced_bps(&self, service: &str) -> Option<u64> {
        let found = self.received().find(|(_, bsid, known, _)| id_of(*bsid, known.service.id) == service);
        found.map(|it| it.2.bandwidth_kbps.saturating_mul(1000)).filter(|bps| *bps > 0)
    }

    /// Base URLs of object names by group, and by TSI if several services share a group.
    pub fn bases(&self) -> HashMap<(SocketAddr, Option<u64>), String> {
        let mut bases = HashMap::new();
        for (_, bsid, known, address) in self.received() {
            let base = base_of(bsid, known.service.id);
            for session in &known.elsewhere {
                let Some(address) = session.group.zip(session.port).map(SocketAddr::from) else { continue };
                bases.extend(session.channels.iter().map(|it| ((address, Some(it.tsi)), base.clone())));
            }
            bases.insert((address, None), base);
        }
        bases
    }

    /// Descriptions of the channels of groups that have no signalling of their own.
    pub fn descriptions(&self) -> HashMap<SocketAddr, Vec<RouteSession>> {
        let mut all: HashMap<SocketAddr, Vec<RouteSession>> = HashMap::new();
        for (.., known, _) in self.received() {
            for session in &known.elsewhere {
                let Some(address) = session.group.zip(session.port).map(SocketAddr::from) else { continue };
                all.entry(address).or_default().push(session.clone());
            }
        }
        all
    }

    /// Whether a group carries the signalling of a received service.
    pub fn is_signalling(&self, address: SocketAddr) -> bool {
        self.received().any(|it| it.3 == address)
    }

    /// The lists, for status.
    pub fn report(&self) -> Vec<ListReport> {
        let lists = self.lists.iter().map(|((source, group, _), it)| ListReport {
            source: *source,
            group: *group,
            bsid: it.list.bsid,
            version: it.version,
            services: it.known.iter().map(|known| service_report(it.list.bsid, known)).collect(),
        });
        lists.collect()
    }

    /// System times, by sender.
    pub fn times(&self) -> impl Iterator<Item = (IpAddr, &SystemTime)> {
        self.times.iter().map(|((source, _), it)| (*source, it))
    }

    /// Number of received tables, including repeats.
    pub const fn tables(&self) -> u64 {
        self.tables
    }

    /// Services and tables that are not received.
    pub const fn left_out(&self) -> &Counts<ServiceDrop> {
        &self.left_out
    }
}

/// `@fullMPDUri`, in the spelling of any edition.
fn manifest_of(root: &Element) -> Option<String> {
    let is = |it: &Element, name: &str| it.name.eq_ignore_ascii_case(name);
    let description = root.children.iter().find(|it| is(it, "UserServiceDescription"))?;
    let manifest = description.attribute("fullMPDUri")?.trim();
    (!manifest.is_empty()).then(|| manifest.to_owned())
}

fn manifest_url(bsid: u32, known: &ServiceEntry) -> Option<String> {
    crate::name::resolve(&base_of(bsid, known.service.id), known.manifest.as_deref()?).ok()
}

fn addresses(sessions: &[RouteSession]) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> =
        sessions.iter().filter_map(|it| it.group.zip(it.port).map(SocketAddr::from)).collect();
    all.sort();
    all.dedup();
    all
}

/// The sessions of an S-TSID at other addresses than its own, with their addresses.
fn elsewhere(
    stsid: Stsid,
    source: IpAddr,
    destination: SocketAddr,
    left_out: &Counts<ServiceDrop>,
) -> Vec<RouteSession> {
    let mut sessions: Vec<RouteSession> = Vec::new();
    for mut session in stsid.sessions {
        let group = session.group.unwrap_or_else(|| destination.ip());
        let address = SocketAddr::new(group, session.port.unwrap_or_else(|| destination.port()));
        if address == destination {
            continue;
        }
        let known = addresses(&sessions);
        if !is_for_media(address) {
            left_out.add(ServiceDrop::BadAddress);
        } else if !known.contains(&address) && known.len() >= MAX_GROUPS {
            left_out.add(ServiceDrop::TooManyGroups);
        } else {
            (session.group, session.port, session.source) = (Some(group), Some(address.port()), Some(source));
            sessions.push(session);
        }
    }
    sessions
}

fn service_report(bsid: u32, known: &ServiceEntry) -> ServiceReport {
    let groups = known.service.address.into_iter().chain(addresses(&known.elsewhere));
    ServiceReport {
        service: known.service.clone(),
        id: id_of(bsid, known.service.id),
        manifest: manifest_url(bsid, known),
        groups: groups.collect(),
        dropped: known.dropped,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{gzip, service_of, slt};
    use super::*;
    use crate::route::Channel;

    fn at(s: u64) -> Instant {
        Instant::from_nanos(s * 1_000_000_000)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn group(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn offer(directory: &mut ServiceDirectory, version: u8, services: &[String]) -> bool {
        directory.datagram(at(1), ip("10.0.0.1"), GROUP, &slt(version, &services.concat()))
    }

    fn stsid(groups: &[&str], tsi: u64) -> Vec<u8> {
        let session = |it: &&str| RouteSession {
            group: Some(group(it).ip()),
            port: Some(group(it).port()),
            channels: vec![Channel { tsi, bandwidth_kbps: Some(500), ..Channel::default() }],
            ..RouteSession::default()
        };
        Stsid { sessions: groups.iter().map(session).collect(), left_out: 0 }.to_xml().into_bytes()
    }

    const USBD: &[u8] = b"<BundleDescriptionROUTE xmlns=\"tag:atsc.org,2016:XMLSchemas/ATSC3/Delivery/ROUTEUSD/1.0/\">\
        <UserServiceDescription serviceId=\"1\" fullMPDUri=\"v/live.mpd\" sTSIDUri=\"stsid.xml\"/></BundleDescriptionROUTE>";

    fn addresses_of(directory: &ServiceDirectory) -> Vec<String> {
        directory.sessions().iter().map(|it| it.address.to_string()).collect()
    }

    #[test]
    fn a_table_leads_to_a_service_and_its_signalling_to_its_other_groups() {
        let mut directory = ServiceDirectory::default();
        let listed = [service_of(1, 1, "239.1.0.1:8000"), service_of(2, 2, "239.1.0.2:8000")];
        assert!(offer(&mut directory, 1, &listed));
        assert!(!offer(&mut directory, 2, &listed), "the same again");
        let sessions = directory.sessions();
        assert_eq!((sessions.len(), sessions[0].address), (1, group("239.1.0.1:8000")));
        assert_eq!(
            (sessions[0].source, sessions[0].protocol.clone()),
            (Some(ip("10.0.0.1")), Protocol::Route)
        );
        assert_eq!(directory.left_out().get(ServiceDrop::Mmtp), 1);

        let sls = group("239.1.0.1:8000");
        let two = stsid(&["239.1.0.1:8000", "239.1.0.3:8001"], 10);
        assert!(directory.document(ip("10.0.0.1"), sls, STSID_TYPE, &two));
        assert!(!directory.document(ip("10.0.0.1"), sls, STSID_TYPE, &two));
        assert!(directory.document(ip("10.0.0.1"), sls, USBD_TYPE, USBD));
        assert!(!directory.document(ip("10.0.0.1"), group("239.1.0.2:8000"), USBD_TYPE, USBD), "MMTP");
        assert_eq!(addresses_of(&directory), ["239.1.0.1:8000", "239.1.0.3:8001"]);
        let spec = directory.services().remove(0);
        assert_eq!(
            (spec.id.as_str(), &spec.bases[..]),
            ("atsc:7:1", &["http://atsc3.gw/7/1/".to_owned()][..])
        );
        assert_eq!(spec.manifests, ["http://atsc3.gw/7/1/v/live.mpd"]);
        assert_eq!(directory.announced_bps("atsc:7:1"), Some(1_000_000));
        let bases = directory.bases();
        assert_eq!(bases[&(sls, None)], bases[&(group("239.1.0.3:8001"), Some(10))]);
        assert_eq!(directory.descriptions()[&group("239.1.0.3:8001")][0].channels[0].tsi, 10);
        assert!(directory.is_signalling(sls) && !directory.is_signalling(group("239.1.0.3:8001")));

        // A version without the service, then with it on another group: what was known of it is gone.
        assert!(offer(&mut directory, 3, &listed[1..]));
        assert!(directory.sessions().is_empty() && directory.bases().is_empty());
        assert!(offer(&mut directory, 4, &[service_of(1, 1, "239.1.0.9:8000")]));
        assert_eq!(addresses_of(&directory), ["239.1.0.9:8000"]);
        assert_eq!(directory.services()[0].manifests, Vec::<String>::new());
        let report = directory.report().remove(0);
        assert_eq!((report.bsid, report.version, report.services.len()), (7, 4, 1));
    }

    #[test]
    fn what_is_known_of_a_service_stays_when_another_one_comes() {
        let mut directory = ServiceDirectory::default();
        offer(&mut directory, 1, &[service_of(1, 1, "239.1.0.1:8000")]);
        directory.document(ip("10.0.0.1"), group("239.1.0.1:8000"), USBD_TYPE, USBD);
        offer(&mut directory, 2, &[service_of(2, 1, "239.1.0.2:8000"), service_of(1, 1, "239.1.0.1:8000")]);
        assert_eq!(directory.services()[1].manifests.len(), 1);
    }

    #[test]
    fn addresses_that_are_no_groups_for_media_are_refused_and_counted() {
        let mut directory = ServiceDirectory::default();
        directory.set_taken([group("239.9.9.9:3937")]);
        let bad =
            ["127.0.0.1:8080", "10.1.2.3:80", "224.0.0.251:5353", "[ff02::1]:80", "239.1.0.1:0", "[::1]:1"];
        let mut listed: Vec<String> = (1..).zip(bad).map(|(id, it)| service_of(id, 1, it)).collect();
        listed.extend([service_of(20, 1, "239.9.9.9:3937"), service_of(21, 1, "224.0.23.60:4937")]);
        listed.extend([
            service_of(22, 1, "239.1.0.5:1"),
            service_of(23, 1, "239.1.0.5:1"),
            service_of(22, 1, "239.1.0.6:1"),
        ]);
        listed.push(service_of(24, 1, "[ff0e::1]:8000"));
        offer(&mut directory, 1, &listed);
        assert_eq!(addresses_of(&directory), ["239.1.0.5:1", "[ff0e::1]:8000"]);
        let count = |why| directory.left_out().get(why);
        assert_eq!(count(ServiceDrop::BadAddress), bad.len() as u64);
        assert_eq!((count(ServiceDrop::Taken), count(ServiceDrop::Duplicate)), (3, 1));
        // S-TSIDs that name them, themselves and each other's groups.
        let loops =
            stsid(&["127.0.0.1:8080", "239.1.0.5:1", "[ff0e::1]:8000", "239.9.9.9:3937", "239.1.0.7:1"], 4);
        directory.document(ip("10.0.0.1"), group("239.1.0.5:1"), STSID_TYPE, &loops);
        let again = stsid(&["239.1.0.7:1"], 4);
        directory.document(ip("10.0.0.1"), group("[ff0e::1]:8000"), STSID_TYPE, &again);
        assert_eq!(addresses_of(&directory), ["239.1.0.5:1", "239.1.0.7:1", "[ff0e::1]:8000"]);
        let count = |why| directory.left_out().get(why);
        assert_eq!((count(ServiceDrop::BadAddress), count(ServiceDrop::Taken)), (bad.len() as u64 + 1, 6));
        assert_eq!(directory.bases()[&(group("239.1.0.7:1"), Some(4))], "http://atsc3.gw/7/22/");
    }

    /// The table says that 10.0.0.1 sends; a gateway on the way puts its own address into the packets.
    #[test]
    fn a_source_that_is_not_the_tables_sender_is_not_asked_for() {
        let table = slt(1, &service_of(1, 1, "239.1.0.1:8000"));
        for (sender, expected) in [("10.0.0.1", Some(ip("10.0.0.1"))), ("192.168.1.1", None)] {
            let mut directory = ServiceDirectory::default();
            directory.datagram(at(1), ip(sender), GROUP, &table);
            assert_eq!(directory.sessions()[0].source, expected, "{sender}");
        }
    }

    #[test]
    fn tables_services_and_groups_are_bounded_and_places_come_back() {
        let mut directory = ServiceDirectory::default();
        let many: Vec<String> = (0..200).map(|it| service_of(it, 1, &format!("239.1.0.{it}:8000"))).collect();
        offer(&mut directory, 1, &many);
        assert_eq!(directory.sessions().len(), MAX_RECEIVED);
        assert_eq!(directory.left_out().get(ServiceDrop::TooManyServices), 200 - MAX_RECEIVED as u64);
        let groups: Vec<String> = (0..50).map(|it| format!("239.2.0.{it}:1")).collect();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        directory.document(ip("10.0.0.1"), group("239.1.0.0:8000"), STSID_TYPE, &stsid(&groups, 1));
        assert_eq!(directory.sessions().len(), MAX_RECEIVED + MAX_GROUPS);
        assert_eq!(directory.left_out().get(ServiceDrop::TooManyGroups), 50 - MAX_GROUPS as u64);
        for sender in 2..=MAX_LISTS as u8 + 3 {
            let table = slt(1, &service_of(sender.into(), 1, "239.3.0.1:1"));
            directory.datagram(at(200), ip(&format!("10.0.0.{sender}")), GROUP, &table);
        }
        assert_eq!(directory.report().len(), MAX_LISTS);
        assert_eq!(directory.left_out().get(ServiceDrop::TooManyTables), 3);
        // The first table ages, and all its places are free.
        assert!(directory.handle_timeout(at(1) + MAX_LIST_AGE));
        assert_eq!((directory.report().len(), directory.sessions().len()), (MAX_LISTS - 1, 1));
        offer(&mut directory, 1, &many[100..103]);
        assert_eq!(directory.sessions().len(), 4);
    }

    #[test]
    fn a_list_that_is_not_repeated_is_gone() {
        let mut directory = ServiceDirectory::default();
        let table = slt(1, &service_of(1, 1, "239.1.0.1:8000"));
        let time = [&[3, 1, 0, 1][..], &gzip(b"<SystemTime currentUtcOffset=\"37\"/>")].concat();
        let source = ip("10.0.0.1");
        assert!(
            directory.datagram(at(0), source, GROUP, &table)
                && directory.datagram(at(0), source, GROUP, &time)
        );
        assert_eq!(directory.times().map(|it| it.1.utc_offset_s).collect::<Vec<_>>(), [37]);
        let almost = MAX_LIST_AGE - Duration::from_secs(1);
        assert!(!directory.datagram(at(0) + almost, source, GROUP, &table));
        assert!(!directory.handle_timeout(at(0) + almost + almost));
        assert!(directory.handle_timeout(at(0) + almost + MAX_LIST_AGE));
        assert!(directory.sessions().is_empty() && directory.times().next().is_none());
        assert!(directory.datagram(at(2000), source, GROUP, &table));
        assert_eq!(directory.tables(), 4);
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_changes_nothing() {
        let mut directory = ServiceDirectory::default();
        offer(&mut directory, 1, &[service_of(1, 1, "239.1.0.1:8000")]);
        assert!(!directory.datagram(at(2), ip("10.0.0.1"), GROUP, b"x"));
        assert!(!directory.datagram(at(2), ip("10.0.0.1"), GROUP, b"\x01\x01\x00\x05\x1f\x8bxxxx"));
        let sls = group("239.1.0.1:8000");
        assert!(!directory.document(ip("10.0.0.1"), sls, STSID_TYPE, b"<x/>"));
        assert!(!directory.document(ip("10.0.0.1"), sls, USBD_TYPE, b"<x/>"));
        assert_eq!(directory.left_out().get(ServiceDrop::BadTable), 2);
        assert_eq!(directory.left_out().get(ServiceDrop::BadSignalling), 2);
        assert_eq!(addresses_of(&directory), ["239.1.0.1:8000"]);
    }
}
