//! Other people's multicast on its way into a multiplex: sessions of another encoder, or of a headend that knows no
//! transport streams.
//!
//! Packets go in as they came, with their source and destination, before packets of our own: whoever sends them paces
//! them. What the stream has no room for is dropped here and counted.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};

use carousel::ip::write_udp;

use crate::inspect::join;

/// Packets that wait: 100 ms of 100 Mbit/s.
const MAX_WAITING: usize = 1000;
/// Datagrams read of one group before others have their turn.
const TURN: usize = 32;
/// The largest datagram.
const DATAGRAM_BYTES: usize = 65_536;
/// TTL inside the stream.
const TTL: u8 = 8;

/// Groups that are carried along.
#[derive(Debug)]
pub struct Forward {
    groups: Vec<(SocketAddr, UdpSocket)>,
    waiting: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
    /// Packets carried.
    pub carried: u64,
    /// Packets for which the stream had no room.
    pub dropped: u64,
}

impl Forward {
    /// Joins the groups.
    ///
    /// # Errors
    /// A group that cannot be joined.
    pub fn open(groups: &[SocketAddr], interface: &str) -> Result<Self, String> {
        let joined = groups.iter().map(|&group| {
            let failed = |err: std::io::Error| format!("[multiplex] forward: {group}: {err}");
            let socket = join(group, interface).map_err(failed)?;
            socket.set_nonblocking(true).map_err(failed)?;
            Ok((group, socket))
        });
        Ok(Self {
            groups: joined.collect::<Result<_, String>>()?,
            waiting: VecDeque::new(),
            buffer: vec![0; DATAGRAM_BYTES],
            carried: 0,
            dropped: 0,
        })
    }

    /// The next packet, IP header first.
    ///
    /// # Errors
    /// A socket that fails.
    pub fn take(&mut self) -> Result<Option<Vec<u8>>, String> {
        if self.waiting.is_empty() {
            self.read()?;
        }
        let packet = self.waiting.pop_front();
        self.carried += u64::from(packet.is_some());
        Ok(packet)
    }

    fn read(&mut self) -> Result<(), String> {
        for (group, socket) in &self.groups {
            for _ in 0..TURN {
                match socket.recv_from(&mut self.buffer) {
                    Ok((length, from)) => {
                        if self.waiting.len() >= MAX_WAITING {
                            self.dropped += 1;
                            continue;
                        }
                        let mut packet = Vec::with_capacity(length + 48);
                        write_udp(&mut packet, from, *group, TTL, &self.buffer[..length]);
                        self.waiting.push_back(packet);
                    }
                    Err(err)
                        if matches!(
                            err.kind(),
                            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
                        ) =>
                    {
                        break;
                    }
                    Err(err) => return Err(format!("[multiplex] forward: {group}: {err}")),
                }
            }
        }
        Ok(())
    }

    /// A packet that came out of [`Forward::take`] and did not fit.
    pub const fn refuse(&mut self) {
        self.carried -= 1;
        self.dropped += 1;
    }
}
