//! Sockets of the groups that a multiplex forwards.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use crate::forward::Forward;
use crate::net::join;

/// Datagrams read from one group at a time, so that a busy group does not starve the others.
const DATAGRAMS_PER_TURN: usize = 32;
/// The largest datagram.
const DATAGRAM_BYTES: usize = 65_536;

/// Joined groups.
#[derive(Debug)]
pub(super) struct Groups {
    joined: Vec<(SocketAddr, UdpSocket)>,
    buffer: Vec<u8>,
}

impl Groups {
    /// Joins groups on an interface.
    ///
    /// # Errors
    /// A group that cannot be joined.
    pub(super) fn join(groups: &[SocketAddr], interface: &str) -> Result<Self, String> {
        let joined = groups.iter().map(|&group| {
            let failed = |err: std::io::Error| {
                format!("[multiplex] forward: {group}: {}", carousel::config::without_numbers(&err))
            };
            let socket = join(group, interface).map_err(failed)?;
            socket.set_nonblocking(true).map_err(failed)?;
            Ok((group, socket))
        });
        Ok(Self { joined: joined.collect::<Result<_, String>>()?, buffer: vec![0; DATAGRAM_BYTES] })
    }

    /// Addresses of the sockets.
    #[cfg(test)]
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.joined.iter().map(|(_, socket)| socket.local_addr().unwrap()).collect()
    }

    /// Reads what has arrived into `forward`.
    ///
    /// # Errors
    /// A socket that fails.
    pub(super) fn read(&mut self, forward: &mut Forward) -> Result<(), String> {
        for (group, socket) in &self.joined {
            for _ in 0..DATAGRAMS_PER_TURN {
                match socket.recv_from(&mut self.buffer) {
                    Ok((length, source)) => forward.push(source, *group, &self.buffer[..length]),
                    Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => break,
                    Err(err) => {
                        return Err(format!(
                            "[multiplex] forward: {group}: {}",
                            carousel::config::without_numbers(&err)
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}
