//! Batch of datagrams from a transport stream, for the shard of their groups.

use std::net::SocketAddr;

/// Datagrams in one buffer.
#[derive(Debug, Default)]
pub struct AirDatagrams {
    bytes: Vec<u8>,
    /// Source, destination, and end of the payload in `bytes`.
    entries: Vec<(SocketAddr, SocketAddr, usize)>,
}

impl AirDatagrams {
    /// Appends a datagram.
    pub fn push(&mut self, source: SocketAddr, destination: SocketAddr, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.entries.push((source, destination, self.bytes.len()));
    }

    /// Iterates over source, destination and payload of each datagram.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr, &[u8])> {
        let mut start = 0;
        self.entries.iter().map(move |&(source, destination, end)| {
            let payload = &self.bytes[start..end];
            start = end;
            (source, destination, payload)
        })
    }

    /// Number of datagrams.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all payloads.
    pub const fn payload_bytes(&self) -> usize {
        self.bytes.len()
    }
}
