//! Batched reads: many datagrams with one system call, passed on without copy or allocation.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use super::sys::Messages;

/// Messages of one system call. With GRO each holds up to some forty packets: 32 are a batch of 1,300 packets, 15 ms of
/// 1 Gbit/s.
pub const MAX_BATCH: usize = 32;
/// Maximum bytes that GRO puts into one message: the largest UDP length.
const MESSAGE_BYTES: usize = 65_536;

/// Buffers for reading one socket after the other.
pub struct Batch {
    messages: Messages,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self { messages: Messages::new(MAX_BATCH, MESSAGE_BYTES) }
    }
}

/// Result of one read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// Datagrams.
    pub datagrams: usize,
    /// Whether the socket may hold more.
    pub more: bool,
    /// Datagrams that the kernel has dropped on this socket in total; `None` if not reported.
    pub dropped: Option<u32>,
}

impl Batch {
    /// Reads available messages, at most [`MAX_BATCH`], and calls `each` with sender and payload of every datagram.
    ///
    /// # Errors
    /// Those of the system; an empty socket is not an error.
    pub fn read(
        &mut self,
        socket: &impl AsRawFd,
        mut each: impl FnMut(SocketAddr, &[u8]),
    ) -> io::Result<Received> {
        let count = match self.messages.receive(socket.as_raw_fd()) {
            Ok(count) => count,
            Err(err) if matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(err) => return Err(err),
        };
        let mut received = Received { more: count == MAX_BATCH, ..Received::default() };
        for at in 0..count {
            let message = self.messages.get(at);
            received.dropped = message.dropped.or(received.dropped);
            let Some(source) = message.source else { continue };
            let segment_bytes = message.segment_bytes.unwrap_or(message.bytes.len()).max(1);
            for datagram in message.bytes.chunks(segment_bytes) {
                received.datagrams += 1;
                each(source, datagram);
            }
        }
        Ok(received)
    }
}
