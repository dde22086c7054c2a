//! Options of reception from the network: `[receive]` and `[[session]]` of the configuration.

use std::net::{IpAddr, SocketAddr};

use carousel::config::one_or_many;
use carousel::mabr::{JoinPolicy, Protocol, SessionOrigin, SessionSpec};
use serde::{Deserialize, Serialize};

use crate::trust::Asked;

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
    /// Receive threads; 0: one for each core, at most four.
    pub threads: usize,
    /// Socket buffer asked of the kernel, for each group.
    pub socket_buffer_bytes: usize,
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
            threads: 0,
            socket_buffer_bytes: 8 << 20,
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
    /// What is asked of it: `require`, `prefer` or `off`. Left out: what `[trust]` says.
    #[serde(default)]
    pub trust: Option<Asked>,
}

/// `[receive]` and `[[session]]` together.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// `[receive]`
    pub receive: Receive,
    /// `[[session]]`
    pub sessions: Vec<Session>,
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

    /// Sessions known from the start: the announcement channels, then the static ones.
    pub fn fixed_sessions(&self) -> Vec<SessionSpec> {
        let spec = |address, source, tsi| SessionSpec {
            source,
            address,
            tsi,
            protocol: Protocol::Flute,
            origin: SessionOrigin::Static,
            service: String::new(),
            repair: None,
            maximum_bps: None,
        };
        let announced = self.receive.announcement.iter().map(|&address| spec(address, None, None));
        announced.chain(self.sessions.iter().map(|it| spec(it.address, it.source, it.tsi))).collect()
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
