//! The link of the demo: sends the datagrams of groups from one loopback address to the same groups from another, except those
//! that it drops in bursts.
//!
//! Source-specific multicast separates both sides on one interface.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::mixed;

/// Source address of the sender's packets.
const UPLINK: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
/// Source address of the packets that the link let through.
pub(super) const DOWNLINK: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Packets of a burst of losses, on average.
const BURST: f64 = 8.0;

/// Losses in bursts: the Gilbert model, of which the bad state lets nothing through.
#[derive(Debug)]
struct Losses {
    random: u64,
    is_bad: bool,
    /// Probability of going from the good state to the bad one.
    begins: f64,
}

impl Losses {
    fn new(seed: u64, loss: f64) -> Self {
        Self { random: seed, is_bad: false, begins: loss / (1.0 - loss) / BURST }
    }

    fn chance(&mut self, probability: f64) -> bool {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mixed(self.random) >> 11) as f64 / (1_u64 << 53) as f64 <= probability
    }

    /// Whether the next packet is lost.
    fn next(&mut self) -> bool {
        let probability = if self.is_bad { 1.0 / BURST } else { self.begins };
        self.is_bad ^= self.chance(probability);
        self.is_bad
    }
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    lost: AtomicU64,
    stop: AtomicBool,
}

/// The link, until it is dropped.
#[derive(Debug)]
pub(super) struct Link {
    counters: Arc<Counters>,
    threads: Vec<JoinHandle<()>>,
}

impl Link {
    /// Carries `groups`; `loss` is a share below 1.
    ///
    /// # Errors
    /// If a socket cannot be bound or join its group, or a thread cannot start.
    pub(super) fn start(groups: &[SocketAddrV4], seed: u64, loss: f64) -> io::Result<Self> {
        let mut link = Self { counters: Arc::default(), threads: Vec::new() };
        for (number, &group) in groups.iter().enumerate() {
            let (from, to) = (receiving(group)?, sending()?);
            let counters = Arc::clone(&link.counters);
            let mut losses = Losses::new(seed.wrapping_add(number as u64), loss);
            let carry = move || {
                let mut buffer = vec![0; 65_536];
                while !counters.stop.load(Ordering::Relaxed) {
                    let Ok(length) = from.recv(&mut buffer) else { continue };
                    counters.sent.fetch_add(1, Ordering::Relaxed);
                    if losses.next() {
                        counters.lost.fetch_add(1, Ordering::Relaxed);
                    } else {
                        let _ = to.send_to(&buffer[..length], SocketAddr::from(group));
                    }
                }
            };
            link.threads.push(std::thread::Builder::new().name("link".to_owned()).spawn(carry)?);
        }
        Ok(link)
    }

    /// Packets sent, and those of them that were lost.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.counters.sent.load(Ordering::Relaxed), self.counters.lost.load(Ordering::Relaxed))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.counters.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn receiving(group: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    let _ = socket.set_recv_buffer_size(8 << 20);
    socket.bind(&SocketAddr::from(group).into())?;
    socket.join_ssm_v4(&UPLINK, group.ip(), &UPLINK)?;
    socket.set_multicast_all_v4(false)?;
    let socket = UdpSocket::from(socket);
    // Long enough to sleep, short enough to end.
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(socket)
}

fn sending() -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_multicast_if_v4(&DOWNLINK)?;
    socket.bind(&SocketAddr::from((DOWNLINK, 0)).into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_as_many_as_asked_for_and_come_in_bursts() {
        for wanted in [0.0, 0.05, 0.5] {
            let mut losses = Losses::new(1, wanted);
            let lost: Vec<bool> = (0..200_000).map(|_| losses.next()).collect();
            let share = lost.iter().filter(|it| **it).count() as f64 / lost.len() as f64;
            assert!((share - wanted).abs() <= wanted / 5.0, "{share} for {wanted}");
            let bursts = lost.windows(2).filter(|it| !it[0] && it[1]).count().max(1) as f64;
            let mean = share * lost.len() as f64 / bursts;
            assert!(wanted == 0.0 || (6.0..=10.0).contains(&mean), "{mean}");
        }
    }
}
