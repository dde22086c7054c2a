//! Hand-over of datagrams out of a stream to the shards of their groups.
//!
//! Gathered into one buffer a shard, handed over when that is full or the stream's read is over; a shard that is busy
//! loses the batch, counted, rather than holding up the tuner.

use std::net::SocketAddr;

use super::feed::StreamOutput;
use crate::receive::{AirDatagrams, Command, ShardSender, shard_of};

/// Bytes of a batch: 40 packets.
const BATCH_BYTES: usize = 64 << 10;

/// Hands datagrams to the shards.
#[derive(Debug)]
pub struct Forward {
    shards: Vec<ShardSender>,
    batches: Vec<AirDatagrams>,
    lost: u64,
}

impl Forward {
    /// To these shards, at least one.
    pub fn new(shards: Vec<ShardSender>) -> Self {
        let batches = shards.iter().map(|_| AirDatagrams::default()).collect();
        Self { shards, batches, lost: 0 }
    }

    /// The read is over: what was gathered goes to the shards.
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

    /// Datagrams for which the shards had no room.
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
