//! Options of reception from the network: `[receive]` and `[[session]]` of the configuration.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use carousel::config::{Mistake, one_or_many, url};
use carousel::mabr::{JoinPolicy, Protocol, ServiceSpec, SessionOrigin, SessionSpec};
use serde::{Deserialize, Serialize};

use super::joining::JoinOptions;
use crate::trust::SignatureMode;

/// Condition for joining the groups of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Join {
    /// Always.
    #[default]
    All,
    /// While players ask for it.
    #[serde(rename = "on_demand")]
    OnDemand,
    /// While players ask for it, or for one beside it in the list of channels.
    Neighbours,
}

impl Join {
    /// Name in the configuration and in status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::OnDemand => "on_demand",
            Self::Neighbours => "neighbours",
        }
    }
}

/// Greatest number of neighbours on each side that a configuration may have; more is nearly every channel, which has a value of
/// its own.
const MAX_NEIGHBOURS: usize = 16;

/// `[receive]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Receive {
    /// Interface (name or IPv4 address) that groups are joined on. Empty: the system's choice by its routes.
    pub interface: String,
    /// Join groups on the network. False where everything comes inside `[[transport_stream]]`s.
    pub multicast: bool,
    /// Announcement channels. Empty: only `[[session]]`s are listened to.
    #[serde(deserialize_with = "one_or_many::addresses")]
    pub announcement: Vec<SocketAddr>,
    /// Groups of ATSC 3.0 low-level signalling, `"224.0.23.60:4937"` by A/331: the services that they list are joined. Empty: none.
    #[serde(deserialize_with = "one_or_many::addresses")]
    pub lls: Vec<SocketAddr>,
    /// Receive threads; 0: one for each core, at most four.
    pub threads: usize,
    /// Memory that all that is received may fill: sessions, blocks under decoding, signalling, the catalogue. 0: three quarters of what
    /// the control group or the machine has beside `store.memory_bytes` and the program.
    pub memory_bytes: u64,
    /// Socket buffer asked of the kernel, for each group.
    pub socket_buffer_bytes: usize,
    /// Condition for joining the groups of services: `all` from the start, `on_demand` when a player asks for the service,
    /// `neighbours` also when one asks for a service beside it in the list of channels.
    pub join: Join,
    /// Neighbours on each side that `neighbours` joins.
    pub neighbours: usize,
    /// Grace time: groups are left when their service was not requested for so long.
    pub leave_after_ms: u64,
    /// Bits a second of all services whose groups are joined; 0: no limit. Each counts with the greatest rate that its sessions were
    /// seen to take within 6 s, before that with what is configured or announced: services that take turns on a link, as those of a
    /// carousel do, add up to more than the link has. A service that players ask for comes before those that are joined for another
    /// reason.
    pub joined_bps: u64,
    /// Join guide sessions.
    pub join_guides: bool,
    /// Join sessions with logos and banners.
    pub join_related_material: bool,
    /// Join sessions with files for offline use.
    pub join_private_data: bool,
    /// Join sessions with HbbTV applications.
    pub join_applications: bool,
}

impl Default for Receive {
    fn default() -> Self {
        Self {
            interface: String::new(),
            multicast: true,
            announcement: vec![SocketAddr::from((
                carousel::nip::ANNOUNCEMENT_V4,
                carousel::nip::ANNOUNCEMENT_PORT,
            ))],
            lls: Vec::new(),
            threads: 0,
            memory_bytes: 0,
            socket_buffer_bytes: 8 << 20,
            join: Join::All,
            neighbours: 1,
            leave_after_ms: 30_000,
            joined_bps: 0,
            join_guides: true,
            join_related_material: true,
            join_private_data: true,
            join_applications: true,
        }
    }
}

/// `[[session]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Group (or own unicast address) and port.
    pub address: SocketAddr,
    /// Only packets of this source (source-specific multicast).
    #[serde(default)]
    pub source: Option<IpAddr>,
    /// Only this TSI.
    #[serde(default)]
    pub tsi: Option<u64>,
    /// The `id` of the `[[service]]` that it belongs to. Left out: it is joined from the start.
    #[serde(default)]
    pub service: String,
    /// Trust that is required: `require`, `prefer` or `off`. Left out: as `[trust]` has it.
    #[serde(default)]
    pub trust: Option<SignatureMode>,
}

/// `[[service]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceOptions {
    /// `serviceIdentifier` of the gateway configuration, or any name for `[[session]]`s to refer to.
    pub id: String,
    /// URLs below which players ask for it, beside those of the gateway configuration.
    #[serde(default)]
    pub urls: Vec<String>,
    /// Condition for joining its groups. Left out: that of `[receive] join`.
    #[serde(default)]
    pub join: Option<Join>,
    /// Bits a second that it takes. Left out: as announced.
    #[serde(default)]
    pub rate_bps: Option<u64>,
}

/// `[receive]`, `[[session]]` and `[[service]]` together.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// `[receive]`
    pub receive: Receive,
    /// `[[session]]`
    pub sessions: Vec<Session>,
    /// `[[service]]`
    pub services: Vec<ServiceOptions>,
}

impl SessionOptions {
    /// Classes of announced sessions that are joined.
    pub const fn join_policy(&self) -> JoinPolicy {
        JoinPolicy {
            guides: self.receive.join_guides,
            related_material: self.receive.join_related_material,
            private_data: self.receive.join_private_data,
            applications: self.receive.join_applications,
        }
    }

    pub(super) const fn join_options(&self) -> JoinOptions {
        JoinOptions {
            neighbours: self.receive.neighbours,
            leave_after: Duration::from_millis(self.receive.leave_after_ms),
            limit_bps: self.receive.joined_bps,
        }
    }

    /// Condition for joining the groups of a service, and its configured bit rate.
    pub(super) fn policy_of(&self, service: &str) -> (Join, Option<u64>) {
        let own = self.services.iter().find(|it| it.id == service);
        (own.and_then(|it| it.join).unwrap_or(self.receive.join), own.and_then(|it| it.rate_bps))
    }

    /// The services of the configuration, then those that are `announced`; entries for one service are merged.
    pub(super) fn with_announced(&self, announced: Vec<ServiceSpec>) -> Vec<ServiceSpec> {
        let own = self.services.iter().map(|it| ServiceSpec {
            id: it.id.clone(),
            // Without a final slash a URL would name a file.
            bases: it.urls.iter().map(|url| format!("{}/", url.trim_end_matches('/'))).collect(),
            ..ServiceSpec::default()
        });
        let mut all: Vec<ServiceSpec> = own.collect();
        for service in announced {
            match all.iter_mut().find(|it| it.id == service.id) {
                Some(own) => {
                    own.manifests = service.manifests;
                    own.bases.extend(service.bases);
                    own.path_patterns = service.path_patterns;
                }
                None => all.push(service),
            }
        }
        all
    }

    /// Mistakes in the groups of low-level signalling.
    pub(crate) fn lls_mistakes(&self) -> Vec<Mistake> {
        let mut all = Vec::new();
        let mut wrong = |what: String, fix: &str| all.push(Mistake::of_value("receive.lls", &what, fix));
        let lls = &self.receive.lls;
        for (at, address) in lls.iter().enumerate() {
            let usual = "give a group and a port; A/331 has 224.0.23.60:4937";
            if address.port() == 0 {
                wrong(format!("{address} has no port"), usual);
            } else if !address.ip().is_multicast() {
                wrong(format!("{address} is not a multicast group"), usual);
            } else if is_of_the_link(address.ip()) {
                let what = format!(
                    "{address} is of the block for control of the local network, which routers do not forward"
                );
                wrong(what, usual);
            } else if lls[..at].contains(address) {
                wrong(format!("{address} is there twice"), "remove one");
            } else if self.receive.announcement.contains(address) {
                let fix = "each needs a group and port of its own: 224.0.23.60:4937 for lls, 224.0.23.14:3937 for announcement";
                wrong(format!("{address} is in receive.announcement, too"), fix);
            } else if self.sessions.iter().any(|it| it.address == *address) {
                let fix =
                    "name it in one of both: services that the tables list are joined without a [[session]]";
                wrong(format!("{address} is a [[session]], too"), fix);
            }
        }
        all
    }

    /// Mistakes in the configuration of services.
    pub fn service_mistakes(&self) -> Vec<Mistake> {
        let mut all = Vec::new();
        let mut wrong = |key: String, what: &str, fix: &str| all.push(Mistake::of_value(&key, what, fix));
        for (at, service) in self.services.iter().enumerate() {
            if service.id.is_empty() {
                wrong(
                    format!("service[{at}].id"),
                    "a service needs a name",
                    "give the serviceIdentifier of the gateway configuration",
                );
            }
            if self.services[..at].iter().any(|it| it.id == service.id) {
                wrong(format!("service[{at}].id"), &format!("{:?} is there twice", service.id), "remove one");
            }
            for url in
                service.urls.iter().filter(|it| !it.starts_with("http://") && !it.starts_with("https://"))
            {
                let fix = "give the URL of its folder, such as https://cdn.example.com/live/one/";
                wrong(format!("service[{at}].urls"), &format!("{url:?} is not a URL of the web"), fix);
            }
            // All spellings of a name are one key, so more is accepted here than for a URL that is requested.
            for fault in service.urls.iter().filter(|it| url::is_web(it)).flat_map(|it| url::of_address(it)) {
                wrong(format!("service[{at}].urls"), &fault.what, &fault.fix);
            }
        }
        for (at, session) in self.sessions.iter().enumerate() {
            if !session.service.is_empty() && !self.services.iter().any(|it| it.id == session.service) {
                let what = format!("there is no [[service]] with id = {:?}", session.service);
                wrong(
                    format!("session[{at}].service"),
                    &what,
                    "add one with the urls by which players ask for it",
                );
            }
        }
        if self.receive.neighbours > MAX_NEIGHBOURS {
            let what = format!("{} channels on each side", self.receive.neighbours);
            wrong("receive.neighbours".to_owned(), &what, "1 is usual; join = \"all\" joins every one");
        }
        if self.receive.leave_after_ms < 1000 {
            let what = format!("{} ms are shorter than a segment", self.receive.leave_after_ms);
            wrong("receive.leave_after_ms".to_owned(), &what, "30 s is usual");
        }
        all
    }

    /// Sessions known from the start: the announcement channels, then the static ones.
    pub fn fixed_sessions(&self) -> Vec<SessionSpec> {
        let spec = |address, source, tsi, service: &str| SessionSpec {
            source,
            address,
            tsi,
            protocol: Protocol::Flute,
            origin: SessionOrigin::Static,
            service: service.to_owned(),
            repair: None,
            average_bps: None,
            maximum_bps: None,
        };
        let announced = self.receive.announcement.iter().map(|&address| spec(address, None, None, ""));
        announced
            .chain(self.sessions.iter().map(|it| spec(it.address, it.source, it.tsi, &it.service)))
            .collect()
    }
}

/// Whether a group is in 224.0.0.0/24 (RFC 5771 section 4), or of link-local or smaller scope (RFC 4291 section 2.7).
const fn is_of_the_link(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(it) => matches!(it.octets(), [224, 0, 0, _]),
        IpAddr::V6(it) => it.octets()[1] & 0xf <= 2,
    }
}

impl Receive {
    /// Receive threads to start.
    pub fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(4),
            threads => threads,
        }
    }
}
