//! PID filter: sections of the open PIDs, counters of all PIDs.

use super::section::{Section, SectionAssembler, SectionDrop};
use super::{PACKET_BYTES, PIDS, Packet, PacketDrop, Pid};
use crate::limits::MAX_SECTION_PIDS;

/// Counters of one PID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PidCount {
    /// Packets.
    pub packets: u64,
    /// Times that the continuity counter was not the expected one.
    pub discontinuities: u32,
    /// The last counter, and in the high bits whether there was one and whether packets are scrambled.
    state: u8,
}

/// table_id of a stuffing table.
const TABLE_STUFFING: u8 = 0x72;
const SEEN: u8 = 0x10;
const SCRAMBLED: u8 = 0x20;

impl PidCount {
    /// Whether packets of it were scrambled.
    pub const fn is_scrambled(&self) -> bool {
        self.state & SCRAMBLED != 0
    }
}

/// Sections of the open PIDs, and counters of all PIDs.
#[derive(Debug)]
pub struct Demux {
    /// Index into `open`, plus 1; 0: the PID is not open.
    slots: Box<[u8; PIDS]>,
    open: Vec<(Pid, SectionAssembler)>,
    counts: Box<[PidCount; PIDS]>,
    dropped: [u64; PacketDrop::ALL.len()],
    sections_dropped: [u64; SectionDrop::ALL.len()],
}

impl Default for Demux {
    fn default() -> Self {
        Self {
            slots: Box::new([0; PIDS]),
            open: Vec::new(),
            counts: Box::new([PidCount::default(); PIDS]),
            dropped: [0; PacketDrop::ALL.len()],
            sections_dropped: [0; SectionDrop::ALL.len()],
        }
    }
}

impl Demux {
    /// Looks into a PID from now on. False if too many are looked into already ([`MAX_SECTION_PIDS`]).
    pub fn open(&mut self, pid: Pid) -> bool {
        if self.is_open(pid) {
            return true;
        }
        if self.open.len() >= MAX_SECTION_PIDS {
            return false;
        }
        self.open.push((pid, SectionAssembler::default()));
        self.slots[pid.index()] = self.open.len() as u8;
        true
    }

    /// Looks into it no more.
    pub fn close(&mut self, pid: Pid) {
        let Some(at) = usize::from(self.slots[pid.index()]).checked_sub(1) else { return };
        self.slots[pid.index()] = 0;
        self.open.swap_remove(at);
        if let Some((moved, _)) = self.open.get(at) {
            self.slots[moved.index()] = at as u8 + 1;
        }
    }

    /// Whether it is looked into.
    pub fn is_open(&self, pid: Pid) -> bool {
        self.slots[pid.index()] != 0
    }

    /// PIDs that are looked into.
    pub fn open_pids(&self) -> impl Iterator<Item = Pid> {
        self.open.iter().map(|(pid, _)| *pid)
    }

    /// Takes a packet; `each` gets every section that ends in it: the right ones, and unread the others with what is
    /// wrong.
    #[inline]
    pub fn push(
        &mut self,
        bytes: &[u8; PACKET_BYTES],
        mut each: impl FnMut(Pid, Result<Section<'_>, (SectionDrop, &[u8])>),
    ) {
        let packet = match Packet::parse(bytes) {
            Ok(packet) => packet,
            Err(drop) => {
                self.dropped[drop as usize] += 1;
                return;
            }
        };
        let index = packet.pid.index();
        let count = &mut self.counts[index];
        count.packets += 1;
        if packet.has_payload && packet.pid != Pid::NULL {
            let last = count.state & 0x0f;
            if count.state & SEEN != 0
                && packet.continuity != last
                && packet.continuity != (last + 1) & 0x0f
                && !packet.discontinuity
            {
                count.discontinuities += 1;
            }
            let scrambled = if packet.scrambled { SCRAMBLED } else { 0 };
            count.state = count.state & SCRAMBLED | SEEN | scrambled | packet.continuity;
        }
        let Some((pid, assembler)) =
            usize::from(self.slots[index]).checked_sub(1).and_then(|at| self.open.get_mut(at))
        else {
            return;
        };
        let dropped = &mut self.sections_dropped;
        assembler.push(&packet, |section| {
            // A stuffing table has no CRC_32, even if it claims one, and no content (EN 300 468 clause 5.2.8).
            if section.is_ok_and(|it| it.first() == Some(&TABLE_STUFFING)) {
                return;
            }
            let (section, bytes) = match section {
                Ok(bytes) => (Section::parse(bytes), bytes),
                Err(drop) => (Err(drop), &[][..]),
            };
            match section {
                Ok(section) => each(*pid, Ok(section)),
                Err(drop) => {
                    // A TDT has no CRC_32: it is not an error, and the caller may read it.
                    if drop != SectionDrop::NoCrc || *pid != Pid::TDT {
                        dropped[drop as usize] += 1;
                    }
                    each(*pid, Err((drop, bytes)));
                }
            }
        });
    }

    /// Counters of a PID.
    pub fn count(&self, pid: Pid) -> PidCount {
        self.counts[pid.index()]
    }

    /// Every PID that has carried something.
    pub fn counts(&self) -> impl Iterator<Item = (Pid, PidCount)> {
        (0..PIDS as u16).map(Pid::new).map(|pid| (pid, self.count(pid))).filter(|(_, it)| it.packets > 0)
    }

    /// Packets dropped, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (PacketDrop, u64)> {
        PacketDrop::ALL.iter().map(|&drop| (drop, self.dropped[drop as usize]))
    }

    /// Sections dropped, by reason.
    pub fn sections_dropped(&self) -> impl Iterator<Item = (SectionDrop, u64)> {
        SectionDrop::ALL.iter().map(|&drop| (drop, self.sections_dropped[drop as usize]))
    }

    /// Forgets begun sections and counters' states, as after a change of channel; counts stay.
    pub fn reset(&mut self) {
        for (_, assembler) in &mut self.open {
            assembler.reset();
        }
        for count in self.counts.iter_mut() {
            count.state = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ts::null_packet;

    #[test]
    fn pids_are_opened_and_closed_in_any_order_up_to_the_limit() {
        let mut demux = Demux::default();
        for pid in 0..MAX_SECTION_PIDS as u16 {
            assert!(demux.open(Pid::new(pid)));
        }
        assert!(!demux.open(Pid::new(8000)));
        demux.close(Pid::new(3));
        demux.close(Pid::new(3));
        assert!(demux.open(Pid::new(8000)) && !demux.is_open(Pid::new(3)));
        for pid in (0..MAX_SECTION_PIDS as u16).rev() {
            demux.close(Pid::new(pid));
        }
        assert_eq!(demux.open_pids().collect::<Vec<_>>(), [Pid::new(8000)]);
    }

    #[test]
    fn gaps_of_the_counter_are_counted_for_every_pid_but_stuffing() {
        let mut demux = Demux::default();
        for (pid, counters) in [(0x100_u16, [0, 1, 1, 4]), (0x1fff, [0, 5, 9, 1])] {
            for counter in counters {
                let mut packet = null_packet();
                packet[1..3].copy_from_slice(&pid.to_be_bytes());
                packet[3] |= counter;
                demux.push(&packet, |_, _| ());
            }
        }
        let of = |pid| demux.count(Pid::new(pid));
        assert_eq!((of(0x100).packets, of(0x100).discontinuities), (4, 1));
        assert_eq!((of(0x1fff).packets, of(0x1fff).discontinuities), (4, 0));
    }
}
