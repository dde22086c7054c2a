//! Packet socket: everything that an interface receives, before the kernel's filters. For `skycached check` only.

use std::io::{self, Read as _};

use socket2::{Domain, Socket, Type};

use super::sys;

/// A packet socket bound to one interface; it hands out IP packets without their link header.
#[derive(Debug)]
pub struct PacketSocket(Socket);

impl PacketSocket {
    /// Opens it. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, or if the interface does not exist.
    pub fn open(interface_index: u32) -> io::Result<Self> {
        // Protocol 0: nothing arrives before it is bound to its interface.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), None)?;
        sys::bind_packet_socket(&socket, interface_index)?;
        Ok(Self(socket))
    }

    /// Reads one packet; `None` if there is none now.
    ///
    /// # Errors
    /// If reading fails, such as when the interface goes down; no packet is not an error.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.0).read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(err) => Err(err),
        }
    }
}
