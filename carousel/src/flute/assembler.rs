//! Reassembly of FDT Instances from packets of TOI 0. Carousels repeat them endlessly; an instance that was received before
//! is recognised cheaply and not reported again.
//!
//! Instance IDs jump, repeat and restart on real carousels (Eutelsat numbers them like the newest object's TOI), so an
//! ID only says which packets belong together. An instance is new if its bytes are new.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::receiver::DropReason;
use crate::alc::Packet;
use crate::fec::{EncodingId, Oti, Partition, PayloadId, SymbolKind, SymbolMap};
use crate::lct::ext::{Fdt, het};
use crate::limits::{MAX_FDT_BYTES, MAX_FDT_INSTANCES_KEPT, MAX_FDT_INSTANCES_OPEN};
use crate::time::Instant;

/// One FDT Instance under reassembly.
#[derive(Debug)]
struct Assembly {
    instance_id: u32,
    encoding: u8,
    oti: Oti,
    partition: Partition,
    received: SymbolMap,
    bytes: Vec<u8>,
    /// Time of the last packet.
    at: Instant,
}

/// Assembler of the FDT Instances of one session.
#[derive(Debug, Default)]
pub struct FdtAssembler {
    /// Least recently used first; at most [`MAX_FDT_INSTANCES_OPEN`].
    open: VecDeque<Assembly>,
    /// Instances already reported, oldest first; at most [`MAX_FDT_INSTANCES_KEPT`].
    seen: VecDeque<ReportedInstance>,
}

/// A reported instance.
#[derive(Debug)]
struct ReportedInstance {
    instance_id: u32,
    fingerprint: u64,
    /// Time of the last packet.
    at: Instant,
}

/// A complete instance that differs from the last one of its ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssembledFdt {
    /// FLUTE version of EXT_FDT.
    pub version: u8,
    /// FDT Instance ID.
    pub instance_id: u32,
    /// Content encoding algorithm of EXT_CENC: 0 none, 1 zlib, 2 deflate, 3 gzip.
    pub encoding: u8,
    /// The transported bytes.
    pub bytes: Vec<u8>,
}

impl FdtAssembler {
    /// Processes a packet of TOI 0. `Ok(Some(_))` when an instance is complete and new.
    ///
    /// # Errors
    /// [`DropReason`] if the packet was not used.
    pub fn push(&mut self, now: Instant, packet: &Packet<'_>) -> Result<Option<AssembledFdt>, DropReason> {
        let fdt = packet.fdt.and_then(|body| Fdt::parse(body).ok()).ok_or(DropReason::FdtNoExtFdt)?;
        let fti = packet.fti.ok_or(DropReason::FdtNoExtFti)?;
        if packet.lct.codepoint != EncodingId::NO_CODE.0 {
            return Err(DropReason::FdtFec);
        }
        let oti = Oti::parse_fti(EncodingId::NO_CODE, fti).map_err(|_| DropReason::FdtBadLength)?;
        let encoding = packet.extension(het::CENC).and_then(|body| body.first().copied()).unwrap_or(0);
        let (payload_id, symbols) =
            PayloadId::split(EncodingId::NO_CODE, 8, packet.body).map_err(|_| DropReason::FdtBadLength)?;
        let index = self.find_or_open(now, fdt.instance_id, encoding, &oti, (payload_id, symbols.len()))?;
        let assembly = &mut self.open[index];
        let (first, start) = place(&assembly.partition, &oti, payload_id, symbols.len())?;
        let target = assembly.bytes.get_mut(start..start + symbols.len()).ok_or(DropReason::FdtBadLength)?;
        target.copy_from_slice(symbols);
        let count = (symbols.len() as u64).div_ceil(u64::from(oti.symbol_length));
        let mut new = false;
        for symbol in first..first + count {
            new |= assembly.received.set(symbol);
        }
        if !new {
            return Err(DropReason::FdtDuplicate);
        }
        if !assembly.received.is_complete() {
            return Ok(None);
        }
        let hash = fingerprint(encoding, &assembly.bytes);
        assembly.received.clear();
        let same = |it: &&mut ReportedInstance| it.instance_id == fdt.instance_id && it.fingerprint == hash;
        if let Some(seen) = self.seen.iter_mut().find(same) {
            seen.at = now;
            return Ok(None);
        }
        self.seen.retain(|it| it.instance_id != fdt.instance_id);
        if self.seen.len() >= MAX_FDT_INSTANCES_KEPT {
            self.seen.pop_front();
        }
        self.seen.push_back(ReportedInstance { instance_id: fdt.instance_id, fingerprint: hash, at: now });
        let bytes = assembly.bytes.clone();
        Ok(Some(AssembledFdt { version: fdt.version, instance_id: fdt.instance_id, encoding, bytes }))
    }

    /// Time of the last packet of an instance of this ID.
    pub fn heard(&self, instance_id: u32) -> Option<Instant> {
        self.seen.iter().find(|it| it.instance_id == instance_id).map(|it| it.at)
    }

    /// Forgets the instance of this ID, so that it counts as new when it is repeated.
    pub fn forget(&mut self, instance_id: u32) {
        self.seen.retain(|it| it.instance_id != instance_id);
    }

    /// Forgets instances that were not received since `before`, so that they count as new when they are repeated: their
    /// descriptions may have expired.
    pub fn expire(&mut self, before: Instant) {
        self.seen.retain(|it| it.at >= before);
        self.open.retain(|it| it.at >= before);
    }

    /// Memory of the instances under reassembly, and of the remembered ones.
    pub(in crate::flute) fn held_bytes(&self) -> usize {
        let open = self.open.iter().map(|it| it.bytes.capacity() + it.received.held_bytes());
        open.sum::<usize>() + self.seen.len() * size_of::<ReportedInstance>()
    }

    /// Whether dropping it would lose nothing.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Index of the assembly for these packets, which is moved to the end; the least recently used one makes room for a
    /// new one, if the symbols have a place in that.
    fn find_or_open(
        &mut self,
        now: Instant,
        instance_id: u32,
        encoding: u8,
        oti: &Oti,
        (payload_id, length): (PayloadId, usize),
    ) -> Result<usize, DropReason> {
        let same = |open: &Assembly| {
            open.instance_id == instance_id && open.encoding == encoding && open.oti == *oti
        };
        if let Some(index) = self.open.iter().position(same) {
            self.open[index].at = now;
            let last = self.open.len() - 1;
            self.open.make_contiguous()[index..].rotate_left(1);
            return Ok(last);
        }
        if oti.transfer_length == 0 || oti.transfer_length > MAX_FDT_BYTES {
            return Err(DropReason::FdtBadLength);
        }
        let partition = Partition::new(oti).map_err(|_| DropReason::FdtBadLength)?;
        place(&partition, oti, payload_id, length)?;
        if self.open.len() >= MAX_FDT_INSTANCES_OPEN {
            self.open.pop_front();
        }
        let bytes = vec![0; oti.transfer_length as usize];
        let received = SymbolMap::new(&partition);
        self.open.push_back(Assembly {
            instance_id,
            encoding,
            oti: *oti,
            partition,
            received,
            bytes,
            at: now,
        });
        Ok(self.open.len() - 1)
    }
}

/// Number of the first of these symbols, and the offset of its bytes.
fn place(
    partition: &Partition,
    oti: &Oti,
    payload_id: PayloadId,
    length: usize,
) -> Result<(u64, usize), DropReason> {
    let SymbolKind::Source(first) = partition.place(EncodingId::NO_CODE, payload_id) else {
        return Err(DropReason::FdtBadLength);
    };
    let start = partition.byte_range(first).start;
    let rest = oti.transfer_length.saturating_sub(start);
    let are_whole = length.is_multiple_of(usize::from(oti.symbol_length));
    let fits = length as u64 == rest || are_whole && length as u64 <= rest;
    if fits { Ok((first, start as usize)) } else { Err(DropReason::FdtBadLength) }
}

fn fingerprint(encoding: u8, bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (encoding, bytes).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of TOI 0 with one symbol of an instance; symbols have 4 bytes.
    fn packet(instance_id: u32, length: u64, symbol: u16, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = crate::bytes::Writer::new(&mut out);
        // V = 1, O = 1 (32-bit TOI), S = 1; 7 words: flags, CCI, TSI, TOI, EXT_FDT, EXT_FTI of 4 words.
        writer.u8(0x10).u8(0xa0).u8(4 + 1 + 4).u8(0).u32(0).u32(1).u32(0);
        writer.u32(192 << 24 | 2 << 20 | instance_id);
        writer.u8(64).u8(4).u16((length >> 32) as u16).u32(length as u32).u16(0).u16(4).u32(65_535);
        writer.u16(0).u16(symbol).bytes(bytes);
        out
    }

    fn push(assembler: &mut FdtAssembler, bytes: &[u8]) -> Result<Option<AssembledFdt>, DropReason> {
        assembler.push(Instant::from_nanos(0), &Packet::parse(bytes).unwrap())
    }

    #[test]
    fn an_instance_beyond_the_limit_is_dropped_and_the_next_is_read() {
        let mut assembler = FdtAssembler::default();
        for length in [0, MAX_FDT_BYTES + 1, 1 << 40] {
            assert_eq!(
                push(&mut assembler, &packet(1, length, 0, &[1; 4])),
                Err(DropReason::FdtBadLength),
                "{length}"
            );
        }
        assert_eq!(push(&mut assembler, &packet(1, MAX_FDT_BYTES, 0, &[1; 4])), Ok(None));
        let complete = push(&mut assembler, &packet(1, 4, 0, &[1; 4])).unwrap().unwrap();
        assert_eq!((complete.instance_id, complete.version, complete.bytes), (1, 2, vec![1; 4]));
    }

    #[test]
    fn more_open_instances_than_the_limit_replace_the_one_fed_longest_ago() {
        let mut assembler = FdtAssembler::default();
        for id in 0..=MAX_FDT_INSTANCES_OPEN as u32 {
            assert_eq!(push(&mut assembler, &packet(id, 8, 0, &[id as u8; 4])), Ok(None));
            // The first is fed between the others, so that it stays.
            assert_eq!(push(&mut assembler, &packet(0, 8, 0, &[0; 4])), Err(DropReason::FdtDuplicate));
        }
        assert_eq!(assembler.open.len(), MAX_FDT_INSTANCES_OPEN);
        let mut end =
            |id: u32| push(&mut assembler, &packet(id, 8, 1, &[id as u8; 4])).unwrap().map(|it| it.bytes);
        assert_eq!(end(0), Some(vec![0; 8]), "fed last");
        assert_eq!(end(MAX_FDT_INSTANCES_OPEN as u32), Some(vec![MAX_FDT_INSTANCES_OPEN as u8; 8]));
        assert_eq!(end(1), None, "it made room");
        assert_eq!(push(&mut assembler, &packet(1, 8, 0, &[1; 4])).unwrap().unwrap().bytes, [1; 8]);
    }

    #[test]
    fn memory_of_open_instances_is_counted_and_ages() {
        let mut assembler = FdtAssembler::default();
        let open = MAX_FDT_INSTANCES_OPEN as u32;
        for id in 0..open {
            assert_eq!(push(&mut assembler, &packet(id, MAX_FDT_BYTES, 0, &[1; 4])), Ok(None));
        }
        assert!(assembler.held_bytes() as u64 >= u64::from(open) * MAX_FDT_BYTES);
        // Packets without a place in theirs open none.
        assert_eq!(push(&mut assembler, &packet(open, 8, 7, &[1; 4])), Err(DropReason::FdtBadLength));
        assert!(assembler.open.iter().all(|it| it.instance_id < open));
        // Short ones take the places, and not the memory.
        for id in open..2 * open {
            assert_eq!(push(&mut assembler, &packet(id, 8, 0, &[1; 4])), Ok(None));
        }
        assert!(assembler.held_bytes() < 10_000, "{}", assembler.held_bytes());
        assembler.expire(Instant::from_nanos(1));
        assert_eq!(assembler.held_bytes(), 0);
    }

    #[test]
    fn fingerprints_beyond_the_limit_age_and_their_instances_are_read_again() {
        let mut assembler = FdtAssembler::default();
        let one = |id: u32| packet(id, 4, 0, &id.to_be_bytes());
        for id in 0..=MAX_FDT_INSTANCES_KEPT as u32 {
            assert!(push(&mut assembler, &one(id)).unwrap().is_some());
        }
        assert_eq!(assembler.seen.len(), MAX_FDT_INSTANCES_KEPT);
        assert_eq!(push(&mut assembler, &one(1)), Ok(None), "a repeat");
        assert!(push(&mut assembler, &one(0)).unwrap().is_some(), "its fingerprint has made room");
        assert_eq!(assembler.seen.len(), MAX_FDT_INSTANCES_KEPT);
    }

    #[test]
    fn what_is_no_part_of_an_instance_is_dropped_by_reason() {
        let mut assembler = FdtAssembler::default();
        let good = packet(1, 8, 0, &[1; 4]);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        // Another extension in the place of EXT_FDT and of EXT_FTI; FLUTE version 3; FEC.
        assert_eq!(push(&mut assembler, &with(16, 199)), Err(DropReason::FdtNoExtFdt));
        assert_eq!(push(&mut assembler, &with(17, 3 << 4)), Err(DropReason::FdtNoExtFdt));
        assert_eq!(push(&mut assembler, &with(20, 63)), Err(DropReason::FdtNoExtFti));
        assert_eq!(push(&mut assembler, &with(3, 6)), Err(DropReason::FdtFec));
        // Symbols outside the instance, of no length, and one and a half of them.
        for (symbol, bytes) in [(2, &[1; 4][..]), (1, &[1; 8]), (0, &[1; 6]), (0, &[1; 12])] {
            assert_eq!(
                push(&mut assembler, &packet(1, 8, symbol, bytes)),
                Err(DropReason::FdtBadLength),
                "{symbol} {bytes:?}"
            );
        }
        assert_eq!(push(&mut assembler, &good), Ok(None));
        assert_eq!(push(&mut assembler, &good), Err(DropReason::FdtDuplicate));
        // The last symbol may be short, and several symbols may come in one packet.
        assert_eq!(push(&mut assembler, &packet(2, 6, 0, &[1; 6])).unwrap().unwrap().bytes, [1; 6]);
        assert_eq!(
            push(&mut assembler, &packet(1, 8, 1, &[2; 4])).unwrap().unwrap().bytes,
            [1, 1, 1, 1, 2, 2, 2, 2]
        );
        assert_eq!(push(&mut assembler, &packet(1, 8, 0, &[1, 1, 1, 1, 2, 2, 2, 2])), Ok(None), "a repeat");
    }

    fn push_at(assembler: &mut FdtAssembler, s: u64, bytes: &[u8]) -> Option<AssembledFdt> {
        assembler.push(Instant::from_nanos(s * 1_000_000_000), &Packet::parse(bytes).unwrap()).unwrap()
    }

    #[test]
    fn fingerprints_expire_by_the_time_of_their_last_repeat() {
        let mut assembler = FdtAssembler::default();
        let at = |s: u64| Instant::from_nanos(s * 1_000_000_000);
        for id in [1, 2] {
            assert!(push_at(&mut assembler, 10, &packet(id, 4, 0, &[1; 4])).is_some());
        }
        assert_eq!(push_at(&mut assembler, 20, &packet(1, 4, 0, &[1; 4])), None);
        assert_eq!(
            (assembler.heard(1), assembler.heard(2), assembler.heard(3)),
            (Some(at(20)), Some(at(10)), None)
        );
        assembler.expire(at(10));
        assert_eq!(assembler.heard(2), Some(at(10)), "not before");
        assembler.expire(at(11));
        assert_eq!((assembler.heard(1), assembler.heard(2)), (Some(at(20)), None));
        assert!(!assembler.is_empty());
        assert!(push_at(&mut assembler, 20, &packet(2, 4, 0, &[1; 4])).is_some(), "it counts as new");
        assembler.expire(at(21));
        assert!(assembler.is_empty());
    }

    #[test]
    fn an_instance_in_the_buffer_of_another_has_none_of_its_bytes() {
        let mut assembler = FdtAssembler::default();
        for id in 0..MAX_FDT_INSTANCES_OPEN as u32 {
            assert_eq!(push(&mut assembler, &packet(id, 12, 0, &[9; 4])), Ok(None));
        }
        // The buffer of the oldest is taken; its first four bytes were written.
        assert_eq!(push(&mut assembler, &packet(100, 12, 1, &[1; 4])), Ok(None));
        assert_eq!(assembler.open.back().unwrap().bytes, [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn the_same_bytes_in_another_encoding_are_another_instance() {
        assert_ne!(fingerprint(0, b"x"), fingerprint(3, b"x"));
        assert_ne!(fingerprint(0, b"x"), fingerprint(0, b"y"));
        assert_eq!(fingerprint(3, b"x"), fingerprint(3, b"x"));
    }
}
