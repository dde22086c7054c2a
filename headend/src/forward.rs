//! Forwarding of other senders' multicast into a multiplex: sessions of another encoder, or of a headend without
//! transport streams.
//!
//! Packets keep their source and destination and have priority over our own, since their sender paces them. Packets
//! without room in the stream are dropped here and counted. The sockets are those of [`crate::line`].

use std::collections::VecDeque;
use std::net::SocketAddr;

use carousel::ip::write_udp;

carousel::limits! {
    /// Packets of other senders that wait for their place in the stream.
    pub const MAX_WAITING: usize = 1_000, "packets" {
        why: "100 ms of 100 Mbit/s.",
        full: "The packet is dropped and counted: the link is too slow for what it should carry along.",
        free: "When a packet is sent.",
        test: "a_full_queue_drops_and_counts_and_takes_packets_again_when_it_has_room",
    }
}

/// Buffers that are kept: as many as wait while the stream keeps up.
const SPARE: usize = 64;
/// Capacity of a buffer that is kept; packets of video have 1,500 bytes.
const SPARE_BYTES: usize = 4_096;

/// TTL inside the stream.
const TTL: u8 = 8;

/// Queue of packets to forward.
#[derive(Debug, Default)]
pub struct Forward {
    waiting: VecDeque<Vec<u8>>,
    /// Buffers of packets that were sent, for the next ones.
    spare: Vec<Vec<u8>>,
    /// Packets carried.
    pub carried: u64,
    /// Packets for which the stream had no room.
    pub dropped: u64,
}

impl Forward {
    /// Queues a datagram of `source` to `group`, or drops it if the queue is full.
    pub fn push(&mut self, source: SocketAddr, group: SocketAddr, payload: &[u8]) {
        if self.waiting.len() >= MAX_WAITING {
            self.dropped += 1;
            return;
        }
        let mut packet = self.spare.pop().unwrap_or_default();
        packet.clear();
        write_udp(&mut packet, source, group, TTL, payload);
        self.waiting.push_back(packet);
    }

    /// The next packet, IP header first.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let packet = self.waiting.pop_front();
        self.carried += u64::from(packet.is_some());
        packet
    }

    /// Returns the buffer of a packet from [`Forward::take`], so that the next packet allocates none.
    pub fn give_back(&mut self, packet: Vec<u8>) {
        if self.spare.len() < SPARE && packet.capacity() <= SPARE_BYTES {
            self.spare.push(packet);
        }
    }

    /// Counts a packet from [`Forward::take`] that did not fit.
    pub const fn refuse(&mut self) {
        self.carried -= 1;
        self.dropped += 1;
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_and_counts_and_takes_packets_again_when_it_has_room() {
        let mut forward = Forward::default();
        let [source, group] = ["198.51.100.1:4000", "239.5.5.5:5555"].map(|it| it.parse().unwrap());
        for at in 0..MAX_WAITING + 3 {
            forward.push(source, group, &(at as u32).to_be_bytes());
        }
        assert_eq!((forward.dropped, forward.carried), (3, 0));
        let first = forward.take().unwrap();
        assert_eq!(
            (&first[12..16], &first[16..20], &first[28..]),
            (&[198, 51, 100, 1][..], &[239, 5, 5, 5][..], &[0; 4][..])
        );
        forward.push(source, group, b"last");
        let rest: Vec<_> = std::iter::from_fn(|| forward.take()).collect();
        assert_eq!((rest.len(), &rest[MAX_WAITING - 1][28..]), (MAX_WAITING, &b"last"[..]));
        forward.refuse();
        assert_eq!((forward.dropped, forward.carried, forward.is_empty()), (4, MAX_WAITING as u64, true));
    }

    #[test]
    fn buffers_of_sent_packets_serve_the_next_ones_within_a_bound() {
        let mut forward = Forward::default();
        let [source, group] = ["198.51.100.1:4000", "239.5.5.5:5555"].map(|it| it.parse().unwrap());
        forward.push(source, group, &[7; 1400]);
        let first = forward.take().unwrap();
        let place = first.as_ptr();
        forward.give_back(first);
        forward.push(source, group, b"shorter");
        let second = forward.take().unwrap();
        assert_eq!((second.as_ptr(), &second[28..]), (place, &b"shorter"[..]));
        forward.give_back(vec![0; SPARE_BYTES + 1]);
        assert!(forward.spare.is_empty(), "long ones are freed");
        (0..SPARE + 9).for_each(|_| forward.give_back(vec![0; 100]));
        assert_eq!(forward.spare.len(), SPARE);
    }
}
