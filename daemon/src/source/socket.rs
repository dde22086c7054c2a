//! A receive socket of one group.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use super::{GroupSpec, SourceError, sys};

/// Interfaces that a message names.
const SHOWN_INTERFACES: usize = 16;

/// A socket that has joined its group.
#[derive(Debug)]
pub struct ReceiveSocket {
    socket: Socket,
    group: GroupSpec,
    buffer_bytes: usize,
}

impl ReceiveSocket {
    /// Opens a socket, binds it to the group's address (which excludes other groups on the port), and joins the group.
    ///
    /// # Errors
    /// [`SourceError`] names the step.
    pub fn open(group: &GroupSpec, buffer_bytes: usize) -> Result<Self, SourceError> {
        let at = |step| move |error| SourceError { group: group.clone(), step, error };
        let domain = if group.address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket =
            Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP)).map_err(at("socket"))?;
        socket.set_reuse_address(true).map_err(at("SO_REUSEADDR"))?;
        // With CAP_NET_ADMIN beyond net.core.rmem_max, otherwise up to it; `skycached check` reports if that is too
        // little.
        if sys::force_receive_buffer(&socket, buffer_bytes).is_err() {
            let _ = socket.set_recv_buffer_size(buffer_bytes);
        }
        socket.bind(&group.address.into()).map_err(at("bind"))?;
        join(&socket, group).map_err(at("join"))?;
        // Both are optional: older kernels lack one or the other.
        let _ = sys::enable_gro(&socket);
        let _ = sys::count_drops(&socket);
        // The kernel reports twice the usable size.
        let buffer_bytes = socket.recv_buffer_size().unwrap_or(0) / 2;
        Ok(Self { socket, group: group.clone(), buffer_bytes })
    }

    /// The group that it receives.
    pub const fn group(&self) -> &GroupSpec {
        &self.group
    }

    /// Buffer that the kernel granted.
    pub const fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }
}

impl AsRawFd for ReceiveSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn join(socket: &Socket, group: &GroupSpec) -> io::Result<()> {
    let address = group.address.ip();
    if !address.is_multicast() {
        return Ok(());
    }
    let by_address = group.interface.parse::<Ipv4Addr>().ok();
    let index = match (&by_address, group.interface.as_str()) {
        (Some(_), _) | (None, "") => 0,
        (None, name) => interface_index(name)?,
    };
    match (address, group.source) {
        (IpAddr::V4(v4), None) if index > 0 => {
            socket.join_multicast_v4_n(&v4, &InterfaceIndexOrAddress::Index(index))?;
        }
        // The older request, which suffices here; emulators of 64-bit machines misread the newer one.
        (IpAddr::V4(v4), None) => {
            socket.join_multicast_v4(&v4, &by_address.unwrap_or(Ipv4Addr::UNSPECIFIED))?;
        }
        (IpAddr::V4(v4), Some(IpAddr::V4(source))) if by_address.is_some() || index == 0 => {
            socket.join_ssm_v4(&source, &v4, &by_address.unwrap_or(Ipv4Addr::UNSPECIFIED))?;
        }
        (IpAddr::V6(v6), None) => {
            let index =
                if by_address.is_some_and(|it| it.is_loopback()) { interface_index("lo")? } else { index };
            socket.join_multicast_v6(&v6, index)?;
        }
        (_, Some(source)) => sys::join_source_group(socket, address, source, index)?,
    }
    // Without this the kernel delivers to every socket on a port the packets of all groups that any process has joined.
    // Old kernels do not support it for IPv6, emulators not at all; there the bound address excludes other groups, but
    // not other sources.
    let own_alone = match address {
        IpAddr::V4(_) => socket.set_multicast_all_v4(false),
        IpAddr::V6(_) => socket.set_multicast_all_v6(false),
    };
    own_alone.or_else(|err| if err.raw_os_error() == Some(libc::ENOPROTOOPT) { Ok(()) } else { Err(err) })
}

/// Names of at most [`SHOWN_INTERFACES`] interfaces of this machine, in the order of their numbers.
pub fn interface_names() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let names = entries.filter_map(|it| it.file_name().into_string().ok());
    let mut all: Vec<(u32, String)> =
        names.filter_map(|name| Some((interface_index(&name).ok()?, name))).collect();
    all.sort_unstable();
    all.into_iter().map(|(_, name)| name).take(SHOWN_INTERFACES).collect()
}

/// The index of an interface by its name.
///
/// # Errors
/// `ENODEV` if there is none.
pub fn interface_index(name: &str) -> io::Result<u32> {
    let text = if name.contains('/') {
        None
    } else {
        std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()
    };
    text.and_then(|text| text.trim().parse().ok()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}
