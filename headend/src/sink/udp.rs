//! Multicast and unicast UDP, IPv4 and IPv6.
//!
//! Datagrams of one destination and one length that leave in one go are handed to the kernel in one buffer, which it splits
//! (`UDP_SEGMENT`, Linux 4.18): a call for up to 64 datagrams, and one walk through its network stack. Where it does not, for want of an
//! interface that counts checksums or for a datagram beyond the MTU, each has a call of its own, as before.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use carousel::config::without_numbers;
use socket2::{Domain, InterfaceIndexOrAddress, MsgHdr, Protocol, SockAddr, Socket, Type};

use crate::net::{interface_index, no_route};
use crate::options::Output;
use crate::sys::splits_datagrams;

/// Asked of the kernel; a burst of 5 ms at 1 Gbit/s is 625 kB.
const SEND_BUFFER_BYTES: usize = 4 << 20;

/// Datagrams that the kernel makes of one buffer (`UDP_MAX_SEGMENTS`; 128 since Linux 6.9).
const SEGMENTS: usize = 64;
/// Bytes of such a buffer: the largest IPv4 packet without the headers of IP and UDP.
const SEGMENTED_BYTES: usize = 65_507;
/// Times that a datagram is tried which a receiver's ICMP message has kept from being sent.
const TRIES: usize = 2;

/// One socket for each IP version that is used.
#[derive(Debug)]
pub struct UdpSink {
    v4: Option<Socket>,
    v6: Option<Socket>,
    held: DatagramBatch,
    /// Datagrams leave only while it says yes.
    gate: Option<SendPermission>,
    /// Whether the kernel splits buffers, as far as it is known.
    splits: bool,
    #[cfg(test)]
    calls: u64,
}

/// A question that is asked before each call of the system.
struct SendPermission(Box<dyn Fn() -> bool>);

impl fmt::Debug for SendPermission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendPermission")
    }
}

/// Datagrams that wait for the next call: all of one destination and length, but for the last, which may be shorter.
#[derive(Debug)]
struct DatagramBatch {
    destination: SocketAddr,
    length: usize,
    bytes: Vec<u8>,
}

impl DatagramBatch {
    /// Whether a datagram may go with those that wait.
    fn takes(&self, destination: SocketAddr, payload: &[u8]) -> bool {
        let is_open = self.bytes.len().is_multiple_of(self.length.max(1));
        destination == self.destination
            && is_open
            && payload.len() <= self.length
            && self.bytes.len() < self.length * SEGMENTS
            && self.bytes.len() + payload.len() <= SEGMENTED_BYTES
    }
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
        let held =
            DatagramBatch { destination: SocketAddr::from(([0, 0, 0, 0], 0)), length: 0, bytes: Vec::new() };
        let can_split = [&v4, &v6].into_iter().flatten().all(splits_datagrams);
        Ok(Self {
            v4,
            v6,
            held,
            gate: None,
            splits: output.segmentation_offload && can_split,
            #[cfg(test)]
            calls: 0,
        })
    }

    /// From now on datagrams leave only while `may_send` says yes, which is asked right before; else they are dropped.
    pub fn only_while(&mut self, may_send: impl Fn() -> bool + 'static) {
        self.gate = Some(SendPermission(Box::new(may_send)));
    }

    /// Takes a datagram. It leaves with the next of another destination or length, or at [`flush`](Self::flush).
    ///
    /// # Errors
    /// Those of the system, with the destination; of datagrams before this one, too.
    pub fn send(&mut self, destination: SocketAddr, payload: &[u8]) -> io::Result<()> {
        let goes_along = self.splits && self.held.takes(destination, payload);
        if !goes_along {
            self.flush()?;
        }
        if self.held.bytes.is_empty() {
            (self.held.destination, self.held.length) = (destination, payload.len());
        }
        self.held.bytes.extend_from_slice(payload);
        Ok(())
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// Those of the system, with the destination.
    pub fn flush(&mut self) -> io::Result<()> {
        let DatagramBatch { destination, length, .. } = self.held;
        if self.held.bytes.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.held.bytes);
        let sent = match u16::try_from(length) {
            Ok(segment) if bytes.len() > length && self.splits => {
                match self.transmit(destination, &bytes, Some(segment)) {
                    Err(err) if is_of_splitting(&err) => {
                        self.splits = false;
                        self.one_by_one(destination, &bytes, length)
                    }
                    sent => sent,
                }
            }
            _ => self.one_by_one(destination, &bytes, length),
        };
        self.held.bytes = bytes;
        self.held.bytes.clear();
        sent.map_err(|err| of_destination(destination, &err))
    }

    fn one_by_one(&mut self, destination: SocketAddr, bytes: &[u8], length: usize) -> io::Result<()> {
        bytes.chunks(length.max(1)).try_for_each(|payload| self.transmit(destination, payload, None))
    }

    /// Hands a buffer to the kernel, which makes datagrams of `segment` bytes of it. A full queue is waited for, since the pace is kept
    /// elsewhere.
    fn transmit(&mut self, destination: SocketAddr, bytes: &[u8], segment: Option<u16>) -> io::Result<()> {
        let socket = if destination.is_ipv4() { &self.v4 } else { &self.v6 };
        let Some(socket) = socket else { return Err(io::ErrorKind::AddrNotAvailable.into()) };
        let (address, buffers) = (SockAddr::from(destination), [IoSlice::new(bytes)]);
        let control = segment.map(segment_message);
        let message = MsgHdr::new().with_addr(&address).with_buffers(&buffers);
        let message = match &control {
            Some(control) => message.with_control(control),
            None => message,
        };
        let mut tries = 0;
        loop {
            // This thread may have stood still since the datagrams were made.
            if self.gate.as_ref().is_some_and(|gate| !gate.0()) {
                return Ok(());
            }
            #[cfg(test)]
            {
                self.calls += 1;
            }
            match socket.sendmsg(&message, 0) {
                Ok(_) => return Ok(()),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                // A unicast test receiver that is not there yet has answered an earlier one with ICMP; this one has not been sent.
                Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => {
                    tries += 1;
                    if tries == TRIES {
                        return Ok(());
                    }
                }
                Err(err) if err.raw_os_error() == Some(libc::ENOBUFS) => {
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
                Err(err) => return Err(err),
            }
        }
    }
}

#[cfg(test)]
impl UdpSink {
    /// Calls of the system so far.
    pub(super) const fn calls(&self) -> u64 {
        self.calls
    }

    /// Whether buffers are split, as far as is known.
    pub(super) const fn splits(&self) -> bool {
        self.splits
    }

    /// As after a refusal of the kernel.
    pub(super) const fn do_not_split(&mut self) {
        self.splits = false;
    }
}

/// Whether the kernel or the interface does not split buffers, or not into datagrams of this length.
pub(super) fn is_of_splitting(err: &io::Error) -> bool {
    matches!(
        err.raw_os_error(),
        Some(libc::EIO | libc::EINVAL | libc::ENOPROTOOPT | libc::EOPNOTSUPP | libc::EMSGSIZE)
    )
}

/// A control message with the length of segments: `struct cmsghdr` and a `u16`, with the padding that ends it.
fn segment_message(segment: u16) -> [u8; CONTROL_BYTES] {
    let mut control = [0; CONTROL_BYTES];
    let (length, rest) = control.split_at_mut(size_of::<usize>());
    length.copy_from_slice(&(HEADER_BYTES + size_of::<u16>()).to_ne_bytes());
    rest[..4].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
    rest[4..8].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
    rest[8..10].copy_from_slice(&segment.to_ne_bytes());
    control
}

/// `struct cmsghdr` as the kernel has it: a length of the machine's word, level, type.
const HEADER_BYTES: usize = size_of::<usize>() + 8;
const CONTROL_BYTES: usize = HEADER_BYTES + size_of::<usize>();

fn of_destination(destination: SocketAddr, err: &io::Error) -> io::Error {
    let what = match err.kind() {
        io::ErrorKind::NetworkUnreachable => {
            format!("no route to {destination}; {}", no_route(destination))
        }
        io::ErrorKind::AddrNotAvailable if err.raw_os_error().is_none() => err.to_string(),
        _ => format!("sending to {destination}: {}", without_numbers(err)),
    };
    io::Error::new(err.kind(), what)
}

fn open_v4(output: &Output) -> Result<Socket, String> {
    let socket = new_socket(Domain::IPV4)?;
    let failed = |what: &str, err: io::Error| format!("[output] {what}: {}", without_numbers(&err));
    bind(&socket, output, true)?;
    socket.set_multicast_ttl_v4(u32::from(output.ttl)).map_err(|err| failed("ttl", err))?;
    socket.set_ttl_v4(u32::from(output.ttl.max(1))).map_err(|err| failed("ttl", err))?;
    socket.set_tos_v4(u32::from(output.dscp) << 2).map_err(|err| failed("dscp", err))?;
    if !output.interface.is_empty() {
        let by = match output.interface.parse::<Ipv4Addr>() {
            Ok(address) => InterfaceIndexOrAddress::Address(address),
            Err(_) => InterfaceIndexOrAddress::Index(interface_of(output)?),
        };
        match by {
            InterfaceIndexOrAddress::Address(address) => socket.set_multicast_if_v4(&address),
            // Linux takes an index only in an ip_mreqn; an address of 0.0.0.n is how BSD and socket2 spell it.
            InterfaceIndexOrAddress::Index(index) => crate::sys::set_multicast_if_index_v4(&socket, index),
        }
        .map_err(|err| refused_interface(output, &err))?;
    }
    Ok(socket)
}

fn open_v6(output: &Output) -> Result<Socket, String> {
    let socket = new_socket(Domain::IPV6)?;
    let failed = |what: &str, err: io::Error| format!("[output] {what}: {}", without_numbers(&err));
    bind(&socket, output, false)?;
    socket.set_multicast_hops_v6(u32::from(output.ttl)).map_err(|err| failed("ttl", err))?;
    socket.set_tclass_v6(u32::from(output.dscp) << 2).map_err(|err| failed("dscp", err))?;
    if !output.interface.is_empty() {
        let index = match output.interface.parse::<IpAddr>() {
            Ok(address) if address == IpAddr::V6(Ipv6Addr::LOCALHOST) || address.is_loopback() => {
                interface_index("lo").map_err(|why| format!("[output] interface: {why}"))?
            }
            Ok(address) => {
                return Err(format!(
                    "[output] interface: {address} is an address; for IPv6 groups name the interface that has it"
                ));
            }
            Err(_) => interface_of(output)?,
        };
        socket.set_multicast_if_v6(index).map_err(|err| refused_interface(output, &err))?;
    }
    Ok(socket)
}

/// Index of the interface of this name.
fn interface_of(output: &Output) -> Result<u32, String> {
    interface_index(&output.interface).map_err(|why| format!("[output] interface: {why}"))
}

fn refused_interface(output: &Output, err: &io::Error) -> String {
    let why = match err.raw_os_error() {
        Some(libc::EADDRNOTAVAIL | libc::ENODEV) => "this machine has no such address".to_owned(),
        _ => without_numbers(&err.to_string()),
    };
    let fix = "name an interface, or one of its addresses, as `ip address` shows them";
    format!("[output] interface {:?}: {why}; {fix}", output.interface)
}

/// Chooses the source address.
fn bind(socket: &Socket, output: &Output, is_v4: bool) -> Result<(), String> {
    let Some(source) = output.source.filter(|it| it.is_ipv4() == is_v4) else { return Ok(()) };
    socket.bind(&SocketAddr::new(source, 0).into()).map_err(|err| {
        let why = without_numbers(&err);
        format!(
            "[output] source {source}: {why}; `ip address add {source} dev lo` gives this machine the address"
        )
    })
}

fn new_socket(domain: Domain) -> Result<Socket, String> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))
        .map_err(|err| format!("UDP socket: {}", without_numbers(&err)))?;
    // Less than asked for is not a failure: the kernel caps it at net.core.wmem_max.
    let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_be_sent_any_more_is_dropped_where_it_waits() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let to = receiver.local_addr().unwrap();
        let mut sink = UdpSink::open(&Output::default(), &[to]).unwrap();
        let may_send = std::rc::Rc::new(std::cell::Cell::new(true));
        let asked = std::rc::Rc::clone(&may_send);
        sink.only_while(move || asked.get());
        for (payload, may) in [(b"a", true), (b"b", false), (b"c", true)] {
            sink.send(to, payload).unwrap();
            may_send.set(may);
            sink.flush().unwrap();
            may_send.set(true);
        }
        let mut all = [0; 2];
        for byte in &mut all {
            receiver.recv_from(std::slice::from_mut(byte)).unwrap();
        }
        assert_eq!(&all, b"ac");
    }

    #[test]
    fn packets_come_from_the_configured_address() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        let source = |text: &str| Output { source: Some(text.parse().unwrap()), ..Output::default() };
        let mut sink = UdpSink::open(&source("127.0.0.2"), &[to]).unwrap();
        sink.send(to, b"x").unwrap();
        sink.flush().unwrap();
        let (_, from) = receiver.recv_from(&mut [0; 2]).unwrap();
        assert_eq!(from.ip().to_string(), "127.0.0.2");
        let refused = UdpSink::open(&source("192.0.2.77"), &[to]).unwrap_err();
        assert!(
            refused.starts_with("[output] source 192.0.2.77: ") && refused.contains("ip address add"),
            "{refused}"
        );
    }

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
