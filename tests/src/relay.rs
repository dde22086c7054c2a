//! Lossy relay between sockets: sends packets to a group from one source to the same group from another, except those that
//! `linksim` drops.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use linksim::{Link, LinkStats, Profile};
use socket2::{Domain, Protocol, Socket, Type};

/// Source of the headend's packets on loopback.
pub const UPLINK: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
/// Source of the packets that the link let through.
pub const DOWNLINK: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A link between the programs.
#[derive(Debug)]
pub struct Relay {
    links: Vec<Arc<Mutex<Link>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// One link for each of `groups`, of seeds that follow `seed`.
    ///
    /// # Errors
    /// The system's message.
    pub fn start(groups: &[SocketAddrV4], seed: u64, profile: Profile) -> io::Result<Self> {
        let mut relay = Self { links: Vec::new(), stop: Arc::default(), threads: Vec::new() };
        let clock = Instant::now();
        for (number, &group) in groups.iter().enumerate() {
            let (from, to) = (receiving(group)?, sending()?);
            let link = Arc::new(Mutex::new(Link::new(seed + number as u64, profile)));
            relay.links.push(Arc::clone(&link));
            let stop = Arc::clone(&relay.stop);
            let name = format!("link-{number}");
            let carry = move || carry(&from, &to, group.into(), &link, clock, &stop);
            relay.threads.push(std::thread::Builder::new().name(name).spawn(carry)?);
        }
        Ok(relay)
    }

    /// From now on the links are others.
    pub fn set_profile(&self, profile: Profile) {
        for link in &self.links {
            link.lock().unwrap_or_else(PoisonError::into_inner).set_profile(profile);
        }
    }

    /// The sum over the links.
    pub fn stats(&self) -> LinkStats {
        let mut sum = LinkStats::default();
        for link in &self.links {
            let stats = link.lock().unwrap_or_else(PoisonError::into_inner).stats();
            sum.sent += stats.sent;
            sum.lost += stats.lost;
            sum.duplicated += stats.duplicated;
            sum.reordered += stats.reordered;
            sum.corrupted += stats.corrupted;
        }
        sum
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn carry(
    from: &UdpSocket,
    to: &UdpSocket,
    group: SocketAddr,
    link: &Mutex<Link>,
    clock: Instant,
    stop: &AtomicBool,
) {
    let mut buffer = [0; 65536];
    while !stop.load(Ordering::SeqCst) {
        let received = from.recv(&mut buffer);
        let now = u64::try_from(clock.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut link = link.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(length) = received {
            link.send(now, &buffer[..length]);
        }
        while let Some(packet) = link.poll(now) {
            let _ = to.send_to(&packet, group);
        }
    }
}

/// A socket that gets what is sent to a group on loopback from [`UPLINK`]; reading waits 5 ms at most.
///
/// # Errors
/// The system's message.
pub fn receiving(group: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    let _ = socket.set_recv_buffer_size(8 << 20);
    socket.bind(&SocketAddr::from(group).into())?;
    socket.join_ssm_v4(&UPLINK, group.ip(), &UPLINK)?;
    socket.set_multicast_all_v4(false)?;
    let socket = UdpSocket::from(socket);
    // Long enough to sleep, short enough to end, and to let go what a link with a delay still holds.
    socket.set_read_timeout(Some(Duration::from_millis(5)))?;
    Ok(socket)
}

fn sending() -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_multicast_if_v4(&DOWNLINK)?;
    socket.bind(&SocketAddr::from((DOWNLINK, 0)).into())?;
    Ok(socket.into())
}
