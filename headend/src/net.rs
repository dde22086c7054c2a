//! Network interfaces and multicast groups.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// A socket that has joined a group.
pub(crate) fn join(address: SocketAddr, interface: &str) -> std::io::Result<std::net::UdpSocket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    // The kernel caps it at net.core.rmem_max.
    let _ = socket.set_recv_buffer_size(16 << 20);
    socket.bind(&address.into())?;
    let by_address = interface.is_empty() || interface.parse::<Ipv4Addr>().is_ok();
    let named = |why| std::io::Error::other(format!("--interface: {why}"));
    let index = if by_address { 0 } else { interface_index(interface).map_err(named)? };
    match address.ip() {
        IpAddr::V4(group) if group.is_multicast() => {
            match interface.parse::<Ipv4Addr>() {
                Ok(own) => socket.join_multicast_v4(&group, &own)?,
                Err(_) => {
                    socket.join_multicast_v4_n(&group, &socket2::InterfaceIndexOrAddress::Index(index))?;
                }
            }
            // Without this every socket on the port gets the packets of all groups that any process has joined.
            socket.set_multicast_all_v4(false)?;
        }
        IpAddr::V6(group) if group.is_multicast() => {
            socket.join_multicast_v6(&group, index)?;
            socket.set_multicast_all_v6(false)?;
        }
        _ => {}
    }
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    Ok(socket.into())
}

/// The index of an interface, by its name.
pub(crate) fn interface_index(name: &str) -> Result<u32, String> {
    let path = format!("/sys/class/net/{name}/ifindex");
    let text = if name.contains('/') { None } else { std::fs::read_to_string(path).ok() };
    text.and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
        let names = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
        let names: Vec<String> =
            names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        format!("there is no {name:?}; there are {}; name one of these", names.join(", "))
    })
}

/// Advice for a destination without a route.
pub(crate) fn no_route(destination: SocketAddr) -> String {
    match destination.ip() {
        IpAddr::V4(ip) if ip.is_multicast() => {
            "give [output] interface, or `ip route add 224.0.0.0/4 dev INTERFACE`".to_owned()
        }
        IpAddr::V6(ip) if ip.is_multicast() => {
            "give [output] interface, or `ip -6 route add ff00::/8 dev INTERFACE`".to_owned()
        }
        ip => format!("`ip route get {ip}` shows what is missing"),
    }
}
