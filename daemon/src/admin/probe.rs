//! Entry points for the targets of `tests/fuzz`: the functions that read requests at the admin interface.

use std::net::IpAddr;

use carousel::time::Instant;
use http::request::Parts as Head;

use super::Admin;
use super::guard::{Guard, Peer};
use super::purge::{self, PurgeRequest};

/// The guard of an admin interface, with its clients.
#[derive(Debug)]
pub struct Probe(Guard);

impl Probe {
    /// An interface with this configuration.
    ///
    /// # Errors
    /// If its token cannot be read.
    pub fn new(config: &Admin) -> Result<Self, String> {
        Guard::new(config).map(Self)
    }

    /// The right by which a request over TCP is admitted.
    ///
    /// # Errors
    /// The status.
    pub fn admit(
        &self,
        (address, on_loopback): (IpAddr, bool),
        head: &Head,
        now: Instant,
    ) -> Result<&'static str, u16> {
        let peer = Peer::Tcp { address, on_loopback, certificate: None };
        let costs = if fans_out(head) { purge::FAN_OUT_COSTS } else { 1.0 };
        self.0.admit(&peer, head, costs, now).map_err(|refused| refused.status.as_u16())
    }
}

fn fans_out(head: &Head) -> bool {
    matches!(PurgeRequest::of(head), Some(Ok(it)) if it.fans_out())
}

/// Whether a request is a purge, and whether it uses the paths of a sidecar; `None` if it cannot be understood.
pub fn purges(head: &Head) -> Option<(bool, bool)> {
    match PurgeRequest::of(head) {
        None => Some((false, false)),
        Some(Ok(_)) => Some((true, purge::is_sidecar(head))),
        Some(Err(_)) => None,
    }
}
