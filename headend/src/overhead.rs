//! Overhead of packets on the link.

use carousel::fec::{Partition, Sequence};

/// Bytes of IPv4 and UDP headers.
pub const IP_UDP_BYTES: usize = 28;
/// Bytes of a packet beyond its symbol: LCT 16, EXT_FTI 16, FEC Payload ID 4, and IP and UDP.
pub const PACKET_BYTES: u64 = 36 + IP_UDP_BYTES as u64;

/// Link bytes of one transmission of an object of `length` bytes, including repair symbols and headers.
pub fn air_bytes(length: u64, partition: &Partition, sequence: &Sequence) -> u64 {
    let symbols = sequence.symbols();
    length + (symbols - partition.symbols) * u64::from(partition.symbol_length) + symbols * PACKET_BYTES
}
