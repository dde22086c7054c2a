//! Listening sockets: those that a service manager hands over (`LISTEN_FDS`, sd_listen_fds(3)), else our own.
//!
//! A socket that stays with the manager accepts connections during a restart of the daemon: they wait in its queue. A
//! socket is recognised by its address; `skycached check` reports a unit and a configuration that differ.
#![allow(unsafe_code)] // descriptors that were opened for us, by another program, are taken over

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// Sockets that were handed over and not asked for yet.
#[derive(Debug, Default)]
pub struct Listening {
    handed: Vec<TcpListener>,
    datagrams: Vec<UdpSocket>,
}

impl Listening {
    /// Those of this process, once.
    ///
    /// # Errors
    /// If what was handed over are no listening TCP sockets, and no UDP sockets; if they were taken before.
    pub fn from_environment() -> Result<Self, String> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Err("the sockets of the service manager were taken before".to_owned());
        }
        let failed = |err: io::Error| format!("the sockets of the service manager: {err}");
        let (mut handed, mut datagrams) = (Vec::new(), Vec::new());
        for number in sd_notify::listen_fds().map_err(failed)? {
            // SAFETY: LISTEN_PID is this process, so the manager opened the descriptor for it: no call of ours was given its number. This
            // is the only place that makes an owner of it, and comes here once.
            let owned = unsafe { OwnedFd::from_raw_fd(number) };
            let socket = socket2::Socket::from(owned);
            socket.set_nonblocking(true).map_err(failed)?;
            if socket.r#type().is_ok_and(|it| it == socket2::Type::DGRAM) {
                datagrams.push(UdpSocket::from(socket));
                continue;
            }
            let listener = TcpListener::from(socket);
            listener.local_addr().map_err(|err| {
                format!("descriptor {number} of the socket unit: {err}; give ListenStream=ADDRESS:PORT there")
            })?;
            handed.push(listener);
        }
        Ok(Self { handed, datagrams })
    }

    /// The listener at an address: the one that was handed over, or one of our own.
    ///
    /// # Errors
    /// One line that names the address and the fix. `key` is where the configuration says it.
    pub fn open(&mut self, address: SocketAddr, key: &str) -> Result<TcpListener, String> {
        let is_it = |listener: &TcpListener| listener.local_addr().is_ok_and(|it| covers(it, address));
        if let Some(at) = self.handed.iter().position(is_it) {
            return Ok(self.handed.swap_remove(at));
        }
        bind(address).map_err(|err| {
            let why = carousel::config::without_numbers(&err);
            format!("cannot listen on {address} ({key}): {why}; {}", advice(&err))
        })
    }

    /// The same for datagrams.
    ///
    /// # Errors
    /// One line that names the address and the fix.
    pub fn open_datagrams(&mut self, address: SocketAddr, key: &str) -> Result<UdpSocket, String> {
        let is_it = |socket: &UdpSocket| socket.local_addr().is_ok_and(|it| covers(it, address));
        if let Some(at) = self.datagrams.iter().position(is_it) {
            return Ok(self.datagrams.swap_remove(at));
        }
        bind_datagrams(address)
            .map_err(|err| format!("cannot listen on {address}, UDP ({key}): {err}; {}", advice(&err)))
    }

    /// Addresses that were handed over and that the configuration does not name.
    pub fn left(&self) -> Vec<SocketAddr> {
        let datagrams = self.datagrams.iter().filter_map(|it| it.local_addr().ok());
        self.handed.iter().filter_map(|it| it.local_addr().ok()).chain(datagrams).collect()
    }
}

/// Advice for a listener that cannot be opened.
pub fn advice(err: &io::Error) -> &'static str {
    match err.kind() {
        io::ErrorKind::AddrInUse => "another program has this port; `ss -lntup` names it, or choose another",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE, or a socket unit that has them"
        }
        _ => "choose another address",
    }
}

/// Opens a listener as [`Listening::open`] does, and closes it again.
///
/// # Errors
/// Those of the system.
pub fn try_listen(address: SocketAddr) -> io::Result<()> {
    bind(address).map(drop)
}

/// The same for datagrams.
///
/// # Errors
/// Those of the system.
pub fn try_datagrams(address: SocketAddr) -> io::Result<()> {
    bind_datagrams(address).map(drop)
}

/// Whether a socket at `have` is what `want` asks for; a unit's `ListenStream=8080` is `[::]:8080` for both IP versions.
fn covers(have: SocketAddr, want: SocketAddr) -> bool {
    let is_any = |ip: IpAddr| ip.is_unspecified();
    have.port() == want.port() && (have.ip() == want.ip() || is_any(have.ip()) && is_any(want.ip()))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Without `SO_REUSEADDR`, by which another program could take the datagrams of the port.
fn bind_datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM.nonblocking(), None)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_handed_over_has_one_owner() {
        assert!(Listening::from_environment().is_ok() && Listening::from_environment().is_err());
    }

    #[test]
    fn what_was_handed_over_is_taken_and_the_rest_is_opened() {
        let free = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = free.local_addr().unwrap();
        assert!(Listening::default().open(address, "x").unwrap_err().contains("another program"));
        let mut listening = Listening { handed: vec![free], datagrams: Vec::new() };
        assert_eq!(listening.left(), [address]);
        assert_eq!(listening.open(address, "x").unwrap().local_addr().unwrap(), address);
        assert_eq!(listening.left(), []);
        let free = bind_datagrams("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = free.local_addr().unwrap();
        assert!(listening.open_datagrams(address, "x").unwrap_err().contains("UDP (x)"));
        listening.datagrams.push(free);
        assert_eq!(listening.open_datagrams(address, "x").unwrap().local_addr().unwrap(), address);
    }

    #[test]
    fn a_unit_without_an_address_is_every_address() {
        let covers = |have: &str, want: &str| covers(have.parse().unwrap(), want.parse().unwrap());
        assert!(covers("[::]:80", "0.0.0.0:80") && covers("0.0.0.0:80", "0.0.0.0:80"));
        assert!(!covers("[::]:80", "127.0.0.1:80") && !covers("0.0.0.0:80", "0.0.0.0:81"));
    }
}
