//! Forwarding of a stream's datagrams to the shards of their groups.
//!
//! Datagrams are gathered into one buffer for each shard, which is sent when it is full or the read ends; if a shard is
//! busy, its batch is dropped and counted, so that the tuner is not delayed.

use std::net::SocketAddr;

use super::feed::StreamOutput;
use crate::receive::{AirDatagrams, Command, ShardSender, shard_of};

/// Bytes of a batch: 40 packets.
const BATCH_BYTES: usize = 64 << 10;

/// Sender of datagrams to the shards.
#[derive(Debug)]
pub struct Forward {
    shards: Vec<ShardSender>,
    batches: Vec<AirDatagrams>,
    lost: u64,
}

impl Forward {
    /// A sender to these shards, at least one.
    pub fn new(shards: Vec<ShardSender>) -> Self {
        let batches = shards.iter().map(|_| AirDatagrams::default()).collect();
        Self { shards, batches, lost: 0 }
    }

    /// Sends the gathered datagrams at the end of a read.
    pub fn flush(&mut self) {
        for at in 0..self.shards.len() {
            self.send(at);
        }
    }

    fn send(&mut self, at: usize) {
        let batch = std::mem::take(&mut self.batches[at]);
        let count = batch.len() as u64;
        if count > 0 && !self.shards[at].try_send(Command::Air(batch)) {
            self.lost += count;
        }
    }

    /// Datagrams dropped because shards had no room.
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

impl StreamOutput for Forward {
    fn datagram(&mut self, source: SocketAddr, destination: SocketAddr, payload: &[u8]) {
        let at = shard_of(&destination, self.shards.len());
        let batch = &mut self.batches[at];
        batch.push(source, destination, payload);
        if batch.payload_bytes() >= BATCH_BYTES {
            self.send(at);
        }
    }
}
