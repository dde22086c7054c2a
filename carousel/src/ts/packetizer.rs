//! Sections into the packets of one PID (ISO/IEC 13818-1 clause 2.4.4).

use std::collections::VecDeque;

use super::{PACKET_BYTES, Pid, SYNC_BYTE};

/// Bytes of a packet after its header.
const PAYLOAD_BYTES: usize = PACKET_BYTES - 4;
/// A section begins in a packet only if at least this many bytes of it fit: some receivers (Wireshark among them) lose a
/// section whose header is split. Stuffing costs one part in a thousand.
const LEAST_HEAD_BYTES: usize = 8;

/// Packs the sections of one PID, one behind the other.
#[derive(Debug)]
pub struct Packetizer {
    pid: Pid,
    continuity: u8,
    pending: Vec<u8>,
    /// Offset of the next packet's payload in `pending`.
    at: usize,
    /// Offsets of sections in `pending`.
    starts: VecDeque<usize>,
    is_spread: bool,
}

impl Packetizer {
    /// Packets of this PID.
    pub const fn new(pid: Pid) -> Self {
        Self { pid, continuity: 0, pending: Vec::new(), at: 0, starts: VecDeque::new(), is_spread: false }
    }

    /// At most one section begins in a packet: receivers are about that see no second one. For sections that are longer
    /// than a packet as a rule, it costs nothing.
    #[must_use]
    pub const fn spread(mut self) -> Self {
        self.is_spread = true;
        self
    }

    /// The PID.
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// Adds a section behind those that wait.
    #[inline]
    pub fn push(&mut self, section: &[u8]) {
        self.push_with(|out| out.extend_from_slice(section));
    }

    /// Adds the section that `write` appends, without a copy; nothing if it appends nothing.
    #[inline]
    pub fn push_with<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        if self.at == self.pending.len() {
            self.pending.clear();
            self.at = 0;
        } else if self.at > 64 << 10 {
            self.pending.drain(..self.at);
            for start in &mut self.starts {
                *start -= self.at;
            }
            self.at = 0;
        }
        let start = self.pending.len();
        let result = write(&mut self.pending);
        if self.pending.len() > start {
            self.starts.push_back(start);
        }
        result
    }

    /// Bytes of sections that no packet has taken yet.
    pub const fn waiting(&self) -> usize {
        self.pending.len() - self.at
    }

    /// Writes the next packet. False if there is nothing to send, or, without `flush`, no full packet: the next section
    /// then begins in the same packet. `flush` fills up with stuffing.
    #[inline]
    pub fn next(&mut self, packet: &mut [u8; PACKET_BYTES], flush: bool) -> bool {
        let waiting = self.waiting();
        if waiting == 0 || (!flush && waiting < PAYLOAD_BYTES) {
            return false;
        }
        // A packet in which a section begins loses a byte to the pointer.
        let (at, latest) = (self.at, PAYLOAD_BYTES - LEAST_HEAD_BYTES);
        let start = self.starts.front().map(|start| start - at).filter(|start| *start < latest);
        let [high, low] = self.pid.get().to_be_bytes();
        packet[0] = SYNC_BYTE;
        packet[1] = high | if start.is_some() { 0x40 } else { 0 };
        packet[2] = low;
        packet[3] = 0x10 | self.continuity;
        let mut begin = 4;
        if let Some(pointer) = start {
            packet[4] = pointer as u8;
            begin = 5;
        }
        let is_barred = |index: usize, start: usize| start >= latest || (self.is_spread && index > 0);
        let mut starts = self.starts.iter().map(|start| start - at).enumerate();
        let barred = starts.find(|&(index, start)| is_barred(index, start));
        let end = barred.map_or(waiting, |(_, start)| start);
        let count = end.min(PACKET_BYTES - begin);
        packet[begin..begin + count].copy_from_slice(&self.pending[self.at..self.at + count]);
        packet[begin + count..].fill(0xff);
        self.at += count;
        self.continuity = (self.continuity + 1) & 0x0f;
        while self.starts.front().is_some_and(|&start| start < self.at) {
            self.starts.pop_front();
        }
        true
    }
}
