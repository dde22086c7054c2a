//! Sources of datagrams: multicast and unicast sockets, read in batches.
//!
//! One socket for each group, port and source; several sockets for one thread. Live
//! datagrams come this way; recordings are read by `replay`.

mod batch;
mod packet;
mod poll;
mod socket;
mod sys;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

pub use batch::{Batch, MAX_BATCH};
pub use packet::PacketSocket;
pub use poll::{Poll, Waker};
pub use socket::{ReceiveSocket, interface_index, interface_names};

/// A group to receive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupSpec {
    /// Group or own address, and port.
    pub address: SocketAddr,
    /// Only this source.
    pub source: Option<IpAddr>,
    /// Interface: name, IPv4 address, or empty.
    pub interface: String,
}

impl fmt::Display for GroupSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        if !self.interface.is_empty() {
            write!(f, " on {}", self.interface)?;
        }
        Ok(())
    }
}

/// Why a group cannot be received, and what to do.
#[derive(Debug)]
pub struct SourceError {
    /// The group.
    pub group: GroupSpec,
    /// The step that failed.
    pub step: &'static str,
    /// Error of the system.
    pub error: io::Error,
}

impl SourceError {
    fn fix(&self) -> &'static str {
        let is_group = self.group.address.ip().is_multicast();
        let by_address = self.group.interface.parse::<IpAddr>().is_ok();
        match self.error.raw_os_error() {
            Some(libc::EADDRNOTAVAIL) if !is_group => {
                "it is neither a multicast group nor an address of this machine; give the group, such as 224.0.23.14:3937"
            }
            Some(libc::ENODEV | libc::ENXIO | libc::EADDRNOTAVAIL) if by_address => {
                "no interface has this address; name an interface, or one of its addresses, as `ip address` shows them"
            }
            Some(libc::EADDRINUSE) => "another program has the port without sharing it; `ss -ulpn` names it",
            Some(libc::ENODEV | libc::ENXIO) => {
                "no route leads to the group; name an interface in [receive] interface"
            }
            Some(libc::ENOBUFS) if self.group.address.is_ipv4() => {
                "too many groups on one socket; raise net.ipv4.igmp_max_memberships"
            }
            Some(libc::ENOBUFS | libc::ENOMEM) => "too many groups; raise net.core.optmem_max",
            Some(libc::EADDRNOTAVAIL) => "the interface has no address; `ip address add` gives it one",
            Some(libc::EACCES | libc::EPERM) => {
                "this user may not; ports below 1024 need CAP_NET_BIND_SERVICE"
            }
            Some(libc::EINVAL) => {
                "it is not a multicast group that can be joined so; give the group, such as 224.0.23.14:3937"
            }
            _ => "`skycached check` looks further",
        }
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interface = self.group.interface.as_str();
        let is_name = !interface.is_empty() && interface.parse::<IpAddr>().is_err();
        if is_name && interface_index(interface).is_err() {
            let all = interface_names().join(", ");
            let fix = format!("give [receive] interface one of {all}");
            return write!(f, "cannot receive {}: there is no interface of this name; {fix}", self.group);
        }
        let error = carousel::config::without_numbers(&self.error);
        write!(f, "cannot receive {}: {}: {error}; {}", self.group, self.step, self.fix())
    }
}

impl std::error::Error for SourceError {}

#[cfg(test)]
mod tests;
