//! Multicast and unicast UDP, IPv4 and IPv6.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use carousel::config::without_numbers;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use crate::net::{interface_index, no_route};
use crate::options::Output;

/// Asked of the kernel; a burst of 5 ms at 1 Gbit/s is 625 kB.
const SEND_BUFFER_BYTES: usize = 4 << 20;

/// One socket for each IP version that is used.
#[derive(Debug)]
pub struct UdpSink {
    v4: Option<Socket>,
    v6: Option<Socket>,
    /// Packets that the kernel had no buffer for; they were tried again.
    pub retried: u64,
}

impl UdpSink {
    /// Opens sockets for the versions of `destinations`.
    ///
    /// # Errors
    /// Names the interface or option that the system refused.
    pub fn open(output: &Output, destinations: &[SocketAddr]) -> Result<Self, String> {
        let wants = |v4: bool| destinations.iter().any(|destination| destination.is_ipv4() == v4);
        let v4 = wants(true).then(|| open_v4(output)).transpose()?;
        let v6 = wants(false).then(|| open_v6(output)).transpose()?;
        Ok(Self { v4, v6, retried: 0 })
    }

    /// Sends one datagram. A full queue is waited for, since the pace is kept elsewhere.
    ///
    /// # Errors
    /// Those of the system, with the destination.
    pub fn send(&mut self, destination: SocketAddr, payload: &[u8]) -> io::Result<()> {
        let socket = if destination.is_ipv4() { &self.v4 } else { &self.v6 };
        let Some(socket) = socket else { return Err(io::ErrorKind::AddrNotAvailable.into()) };
        loop {
            match socket.send_to(payload, &destination.into()) {
                Ok(_) => return Ok(()),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                // A unicast test receiver that is not there yet answers with ICMP; the next packet may find it.
                Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => return Ok(()),
                Err(err) if err.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.retried += 1;
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
                Err(err) if err.kind() == io::ErrorKind::NetworkUnreachable => {
                    let what = format!("no route to {destination}; {}", no_route(destination));
                    return Err(io::Error::new(err.kind(), what));
                }
                Err(err) => {
                    return Err(io::Error::new(
                        err.kind(),
                        format!("sending to {destination}: {}", without_numbers(&err.to_string())),
                    ));
                }
            }
        }
    }
}

fn open_v4(output: &Output) -> Result<Socket, String> {
    let socket = new_socket(Domain::IPV4)?;
    let failed =
        |what: &str, err: io::Error| format!("[output] {what}: {}", without_numbers(&err.to_string()));
    socket.set_multicast_ttl_v4(u32::from(output.ttl)).map_err(|err| failed("ttl", err))?;
    socket.set_ttl_v4(u32::from(output.ttl.max(1))).map_err(|err| failed("ttl", err))?;
    socket.set_tos_v4(u32::from(output.dscp) << 2).map_err(|err| failed("dscp", err))?;
    if !output.interface.is_empty() {
        let by = match output.interface.parse::<Ipv4Addr>() {
            Ok(address) => InterfaceIndexOrAddress::Address(address),
            Err(_) => InterfaceIndexOrAddress::Index(interface_index(&output.interface)?),
        };
        match by {
            InterfaceIndexOrAddress::Address(address) => socket.set_multicast_if_v4(&address),
            // Linux takes an index only in an ip_mreqn; an address of 0.0.0.n is how BSD and socket2 spell it.
            InterfaceIndexOrAddress::Index(index) => crate::sys::set_multicast_if_index_v4(&socket, index),
        }
        .map_err(|err| failed(&format!("interface {:?}", output.interface), err))?;
    }
    Ok(socket)
}

fn open_v6(output: &Output) -> Result<Socket, String> {
    let socket = new_socket(Domain::IPV6)?;
    let failed =
        |what: &str, err: io::Error| format!("[output] {what}: {}", without_numbers(&err.to_string()));
    socket.set_multicast_hops_v6(u32::from(output.ttl)).map_err(|err| failed("ttl", err))?;
    socket.set_tclass_v6(u32::from(output.dscp) << 2).map_err(|err| failed("dscp", err))?;
    if !output.interface.is_empty() {
        let index = match output.interface.parse::<IpAddr>() {
            Ok(address) if address == IpAddr::V6(Ipv6Addr::LOCALHOST) || address.is_loopback() => {
                interface_index("lo")?
            }
            Ok(address) => {
                return Err(format!(
                    "[output] interface: name the interface instead of {address} for IPv6 groups"
                ));
            }
            Err(_) => interface_index(&output.interface)?,
        };
        socket.set_multicast_if_v6(index).map_err(|err| failed("interface", err))?;
    }
    Ok(socket)
}

fn new_socket(domain: Domain) -> Result<Socket, String> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))
        .map_err(|err| format!("UDP socket: {}", without_numbers(&err.to_string())))?;
    // Less than asked for is no failure: the kernel caps it at net.core.wmem_max.
    let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_carry_the_configured_ttl_and_code_point() {
        let output = Output { ttl: 3, dscp: 34, ..Output::default() };
        let [v4, v6] = ["239.1.1.1:5000", "[ff35::1]:5000"].map(|it| it.parse().unwrap());
        let sink = UdpSink::open(&output, &[v4]).unwrap();
        let socket = sink.v4.unwrap();
        assert_eq!((socket.multicast_ttl_v4().unwrap(), socket.ttl_v4().unwrap()), (3, 3));
        assert_eq!(socket.tos_v4().unwrap(), 34 << 2, "the two bits below are ECN's");
        assert!(sink.v6.is_none(), "no destination needs it");
        let Ok(UdpSink { v6: Some(socket), .. }) = UdpSink::open(&output, &[v6]) else {
            return eprintln!("SKIPPED: no IPv6 here");
        };
        assert_eq!((socket.multicast_hops_v6().unwrap(), socket.tclass_v6().unwrap()), (3, 34 << 2));
        // TTL 0 keeps multicast on the host; unicast needs one hop at least.
        let host = UdpSink::open(&Output { ttl: 0, ..Output::default() }, &[v4]).unwrap().v4.unwrap();
        assert_eq!((host.multicast_ttl_v4().unwrap(), host.ttl_v4().unwrap()), (0, 1));
    }
}
