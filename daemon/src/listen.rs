//! Listening sockets: those that a service manager hands over (`LISTEN_FDS`, sd_listen_fds(3)), else our own.
//!
//! While the daemon restarts, a socket of the manager accepts connections, which wait in its queue. A socket is
//! recognised by its address; `skycached check` reports a unit and a configuration that differ.
#![allow(unsafe_code)] // descriptors that were opened for us, by another program, are taken over

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// Inherited sockets that were not opened yet.
#[derive(Debug, Default)]
pub struct Listening {
    handed: Vec<TcpListener>,
    datagrams: Vec<UdpSocket>,
}

impl Listening {
    /// Those of this process, once.
    ///
    /// # Errors
    /// If what was handed over are not listening TCP sockets, and no UDP sockets; if they were taken before.
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

    /// The listeners at the addresses of one key: those that were handed over, of which one for both IP versions may be two, and
    /// our own.
    ///
    /// # Errors
    /// One line that names the address and the fix. `key` is where the configuration says it.
    pub fn open_all(&mut self, addresses: &[SocketAddr], key: &str) -> Result<Vec<TcpListener>, String> {
        open_all(&mut self.handed, addresses, bind).map_err(|(address, err)| {
            format!("cannot listen on {address} ({key}): {}", refusal(&err, address.port(), key))
        })
    }

    /// The same for datagrams.
    ///
    /// # Errors
    /// As of [`Listening::open_all`].
    pub fn open_all_datagrams(
        &mut self,
        addresses: &[SocketAddr],
        key: &str,
    ) -> Result<Vec<UdpSocket>, String> {
        open_all(&mut self.datagrams, addresses, bind_datagrams).map_err(|(address, err)| {
            format!("cannot listen on {address}, UDP ({key}): {}", refusal(&err, address.port(), key))
        })
    }

    /// Inherited addresses that the configuration does not name.
    pub fn left(&self) -> Vec<SocketAddr> {
        let datagrams = self.datagrams.iter().filter_map(|it| it.local_addr().ok());
        self.handed.iter().filter_map(|it| it.local_addr().ok()).chain(datagrams).collect()
    }
}

/// Why the listener of `key` cannot be opened, and behind a semicolon what to do.
pub fn refusal(err: &io::Error, port: u16, key: &str) -> String {
    match err.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program has this port, or another skycached; `ss -lntup 'sport = {port}'` names it: stop it, or give {key} \
             another port"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine has no such address; give {key} one that `ip address` shows")
        }
        io::ErrorKind::PermissionDenied => {
            "Permission denied; ports below 1024 need CAP_NET_BIND_SERVICE, or a socket unit that has them"
                .to_owned()
        }
        _ => format!("{}; give {key} another address", carousel::config::without_numbers(err)),
    }
}

/// Opens a listener as [`Listening::open_all`] does for one of `all` addresses, and closes it again.
///
/// # Errors
/// If the address is taken, not of this machine, or a port below 1024 without the right to it.
pub fn try_listen(address: SocketAddr, all: &[SocketAddr]) -> io::Result<()> {
    bind(address, is_for_one_version(address, all)).map(drop)
}

/// The same for datagrams.
///
/// # Errors
/// As for [`try_listen`].
pub fn try_datagrams(address: SocketAddr, all: &[SocketAddr]) -> io::Result<()> {
    bind_datagrams(address, is_for_one_version(address, all)).map(drop)
}

/// A socket for each address: one that was handed over, one that an earlier address has and that is for this one too, or a new one.
fn open_all<T: AsFd>(
    handed: &mut Vec<T>,
    addresses: &[SocketAddr],
    bind: impl Fn(SocketAddr, bool) -> io::Result<T>,
) -> Result<Vec<T>, (SocketAddr, io::Error)> {
    let mut all: Vec<T> = Vec::with_capacity(addresses.len());
    for &address in addresses {
        let exact = handed.iter().position(|it| local(it) == Some(address));
        let of_handed = exact.or_else(|| handed.iter().position(|it| is_for(it, address)));
        match of_handed {
            Some(at) => all.push(handed.swap_remove(at)),
            None if all.iter().any(|it| is_for(it, address)) => {}
            None => {
                let socket = bind(address, is_for_one_version(address, addresses));
                all.push(socket.map_err(|err| (address, err))?);
            }
        }
    }
    Ok(all)
}

/// Whether a socket at `address` must leave IPv4 alone, since another of these addresses asks for that port of it. `[::]` alone is for
/// both versions, as the system has it.
fn is_for_one_version(address: SocketAddr, all: &[SocketAddr]) -> bool {
    address.is_ipv6() && all.iter().any(|it| it.is_ipv4() && it.port() == address.port())
}

fn local(socket: &impl AsFd) -> Option<SocketAddr> {
    socket2::SockRef::from(socket).local_addr().ok()?.as_socket()
}

/// Whether a socket does what is asked of one at `address`.
fn is_for(socket: &impl AsFd, address: SocketAddr) -> bool {
    // If the option cannot be read, it is not a socket of IPv6.
    let is_for_one_version = socket2::SockRef::from(socket).only_v6().unwrap_or(true);
    local(socket).is_some_and(|it| covers(it, is_for_one_version, address))
}

/// Whether a socket at `have` is what `want` asks for; a unit's `ListenStream=8080` is `[::]:8080` for both IP versions.
fn covers(have: SocketAddr, is_for_one_version: bool, want: SocketAddr) -> bool {
    let is_for_both = have.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !is_for_one_version;
    have.port() == want.port() && (have.ip() == want.ip() || is_for_both && want.ip().is_unspecified())
}

fn bind(address: SocketAddr, is_for_one_version: bool) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    if is_for_one_version {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Without `SO_REUSEADDR`, by which another program could take the datagrams of the port.
fn bind_datagrams(address: SocketAddr, is_for_one_version: bool) -> io::Result<UdpSocket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM.nonblocking(), None)?;
    if is_for_one_version {
        socket.set_only_v6(true)?;
    }
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

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_was_handed_over_is_taken_and_the_rest_is_opened() {
        let free = bind(at("127.0.0.1:0"), false).unwrap();
        let address = free.local_addr().unwrap();
        let refused = Listening::default().open_all(&[address], "[admin] listen").unwrap_err();
        // What the system calls it adds nothing.
        let parts = ["another program", "another skycached", "; `ss ", "give [admin] listen another port"];
        assert!(parts.iter().all(|it| refused.contains(it)) && !refused.contains("in use"), "{refused}");
        let mut listening = Listening { handed: vec![free], datagrams: Vec::new() };
        assert_eq!(listening.left(), [address]);
        assert_eq!(listening.open_all(&[address], "x").unwrap()[0].local_addr().unwrap(), address);
        assert_eq!(listening.left(), []);
        let free = bind_datagrams(at("127.0.0.1:0"), false).unwrap();
        let address = free.local_addr().unwrap();
        assert!(listening.open_all_datagrams(&[address], "x").unwrap_err().contains("UDP (x)"));
        listening.datagrams.push(free);
        let taken = listening.open_all_datagrams(&[address], "x").unwrap();
        assert_eq!(taken[0].local_addr().unwrap(), address);
    }

    #[test]
    fn both_ip_versions_have_a_listener_each_or_one_that_was_handed_over() {
        // A port that is free for both.
        let Ok(both) = bind(at("[::]:0"), false) else {
            eprintln!("SKIPPED: this machine has no IPv6");
            return;
        };
        let port = both.local_addr().unwrap().port();
        let wanted = [at(&format!("0.0.0.0:{port}")), at(&format!("[::]:{port}"))];
        let mut listening = Listening { handed: vec![both], datagrams: Vec::new() };
        assert_eq!(listening.open_all(&wanted, "x").unwrap().len(), 1, "one for both, handed over");
        for order in [wanted, [wanted[1], wanted[0]]] {
            let own = Listening::default().open_all(&order, "x").unwrap();
            assert_eq!(own.iter().filter_map(local).collect::<Vec<_>>(), order);
            drop(own);
            let own = Listening::default().open_all_datagrams(&order, "x").unwrap();
            assert_eq!(own.iter().filter_map(local).collect::<Vec<_>>(), order);
            drop(own);
            for one in order {
                try_listen(one, &order).unwrap();
            }
        }
        // Alone it is for both.
        let alone = Listening::default().open_all(&wanted[1..], "x").unwrap();
        assert!(!socket2::SockRef::from(&alone[0]).only_v6().unwrap());
    }

    #[test]
    fn a_unit_without_an_address_is_every_address() {
        let covers = |have: &str, one_version, want: &str| covers(at(have), one_version, at(want));
        assert!(covers("[::]:80", false, "0.0.0.0:80") && covers("0.0.0.0:80", true, "0.0.0.0:80"));
        assert!(!covers("[::]:80", false, "127.0.0.1:80") && !covers("0.0.0.0:80", true, "0.0.0.0:81"));
        assert!(!covers("[::]:80", true, "0.0.0.0:80") && !covers("0.0.0.0:80", true, "[::]:80"));
    }
}
