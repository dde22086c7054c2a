//! Detection of changes to the interface on which groups are joined.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use crate::source::interface_index;

/// Identification of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Interface {
    /// Index of a named interface: one that is removed and added again gets another.
    Index(u32),
    /// Address of an interface chosen by address, or by the system's routes.
    Address(IpAddr),
}

impl Interface {
    /// The identification of `name`, if it exists. Empty: the interface of the multicast route.
    pub(super) fn of(name: &str) -> Option<Self> {
        if let Ok(address) = name.parse::<Ipv4Addr>() {
            return UdpSocket::bind((address, 0)).ok().map(|_| Self::Address(address.into()));
        }
        if !name.is_empty() {
            return interface_index(name).ok().map(Self::Index);
        }
        let towards = |any: IpAddr, group: IpAddr| {
            let socket = UdpSocket::bind((any, 0)).ok()?;
            // Sends nothing: the system chooses a source address.
            socket.connect((group, 9)).ok()?;
            socket.local_addr().ok().map(|it| Self::Address(it.ip()))
        };
        towards(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(224, 0, 23, 14).into()).or_else(|| {
            towards(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0x12d).into())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_known_by_name_and_address() {
        assert!(matches!(Interface::of("lo"), Some(Interface::Index(1..))));
        assert_eq!(Interface::of("127.0.0.1"), Some(Interface::Address([127, 0, 0, 1].into())));
        assert_eq!(Interface::of("none7"), None);
        assert_eq!(Interface::of("203.0.113.7"), None);
        assert_eq!(Interface::of(""), Interface::of(""), "asking changes nothing");
    }
}
