//! FEC recovery of one object: its repair symbols, and the blocks that they restore.
//!
//! Source symbols are placed as they arrive; repair symbols are kept in slots of the storage, until a block has enough of
//! both. Then its owner gets a [`RecoveryJob`], runs it on any thread, and returns the lost symbols with
//! [`super::Receiver::recovered`]. The receiver itself never decodes, since that takes milliseconds.

use std::collections::BTreeMap;

use super::{DropReason, SymbolPlace};
use crate::fec::{BlockCode, BlockId, Partition, SymbolMap};
use crate::lct::Toi;
use crate::limits;

limits! {
    /// Failed attempts to decode one block.
    const MAX_ATTEMPTS: u32 = 8, "attempts" {
        why: "Two surplus symbols fail once in a million; each attempt takes the whole decoder.",
        full: "Further repair symbols of the block are dropped.",
        free: "When the block is complete, or its object is abandoned.",
        test: "wrong_repair_symbols_cost_a_digest_and_floods_of_them_are_bounded",
    }
}

/// Repair symbols kept of one source block.
#[derive(Debug, Default)]
struct Block {
    /// ESI and slot.
    kept: Vec<(u32, u32)>,
    /// Symbols beyond k required for the next attempt.
    surplus: u32,
    attempts: u32,
    at_work: bool,
    /// Number of symbols of the attempt in progress.
    tried: u64,
}

/// The kept repair symbols of one object.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    blocks: BTreeMap<u32, Block>,
    used: u32,
    free: Vec<u32>,
}

/// Approximate memory of a block without its slots, and of a slot.
const BLOCK_BYTES: usize = 128;
const SLOT_BYTES: usize = 16;

impl Recovery {
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Approximate memory; the symbols themselves are in storage.
    pub(super) fn held_bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES + self.used as usize * SLOT_BYTES
    }

    /// Reserves a slot for repair symbol `esi` of block `sbn`, which has `received` of its k source symbols.
    ///
    /// # Errors
    /// Reason for which the symbol is not kept.
    pub(super) fn claim(
        &mut self,
        sbn: u32,
        esi: u32,
        received: u64,
        code: &BlockCode,
        most_slots: u64,
    ) -> Result<u32, DropReason> {
        let k = u64::from(code.k());
        let block = self.blocks.entry(sbn).or_default();
        let enough = received + block.kept.len() as u64 >= k + u64::from(code.surplus() + block.surplus);
        if received >= k
            || enough
            || block.attempts >= MAX_ATTEMPTS
            || block.kept.iter().any(|&(have, _)| have == esi)
        {
            return Err(DropReason::Duplicate);
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if u64::from(self.used) >= most_slots => return Err(DropReason::NoRoom),
            None => {
                self.used += 1;
                self.used - 1
            }
        };
        block.kept.push((esi, slot));
        Ok(slot)
    }

    /// Whether the block can be decoded now; it then counts as in progress. Reed–Solomon needs k symbols; the other codes
    /// are tried with k as well, since the surplus may never arrive.
    pub(super) fn ready(&mut self, sbn: u32, received: u64, code: &BlockCode) -> bool {
        let k = u64::from(code.k());
        let Some(block) = self.blocks.get_mut(&sbn) else { return false };
        if received >= k {
            self.forget(sbn);
            return false;
        }
        let symbols = received + block.kept.len() as u64;
        let enough = symbols >= k + u64::from(block.surplus);
        if enough && !block.at_work {
            (block.at_work, block.tried) = (true, symbols);
            return true;
        }
        false
    }

    /// Frees the slots of a block's repair symbols.
    pub(super) fn forget(&mut self, sbn: u32) {
        if let Some(block) = self.blocks.remove(&sbn) {
            // Given out again from the end: in the order in which they lie in storage, so that writes of the next block join.
            self.free.extend(block.kept.into_iter().rev().map(|(_, slot)| slot));
        }
    }

    /// Records a failed attempt: the next needs one symbol more than this one had, which may have arrived meanwhile.
    pub(super) fn failed(&mut self, sbn: u32, k: u32) {
        if let Some(block) = self.blocks.get_mut(&sbn) {
            block.attempts += 1;
            block.surplus = (block.tried + 1).saturating_sub(u64::from(k)) as u32;
            block.at_work = false;
        }
    }

    /// Number of the `missing` source symbols of a block that suffice together with its repair symbols, with the surplus that
    /// makes decoding nearly certain ([`BlockCode::surplus`]); `None`: all of them.
    pub(super) fn wanted(&self, sbn: u32, missing: u64, code: &BlockCode) -> Option<u64> {
        let block = self.blocks.get(&sbn).filter(|block| block.attempts < MAX_ATTEMPTS)?;
        let surplus = u64::from(code.surplus().max(block.surplus));
        Some((missing + surplus).saturating_sub(block.kept.len() as u64))
    }

    /// Whether a block is being decoded.
    pub(super) fn is_at_work(&self) -> bool {
        self.blocks.values().any(|block| block.at_work)
    }

    /// Whether this block is being decoded.
    pub(super) fn is_at_work_on(&self, sbn: u32) -> bool {
        self.blocks.get(&sbn).is_some_and(|block| block.at_work)
    }

    fn kept(&self, sbn: u32) -> Option<&[(u32, u32)]> {
        self.blocks.get(&sbn).map(|block| block.kept.as_slice())
    }
}

/// Decoding job of a block with enough symbols.
#[derive(Debug, Clone)]
pub struct RecoveryJob {
    /// The object.
    pub toi: Toi,
    /// The block.
    pub block: BlockId,
    code: BlockCode,
    partition: Partition,
    /// Whether each source symbol of the block had been received when the job was made. The map may have more by now, whose bytes
    /// are still on their way into storage.
    received: Vec<bool>,
    repair: Vec<(u32, u32)>,
}

impl RecoveryJob {
    pub(super) fn new(
        toi: Toi,
        block: BlockId,
        code: BlockCode,
        partition: Partition,
        received: &SymbolMap,
        recovery: &Recovery,
    ) -> Option<Self> {
        let repair = recovery.kept(block.sbn)?.to_vec();
        let received = partition.symbols_of(block.sbn).map(|symbol| received.has(symbol)).collect();
        Some(Self { toi, block, code, partition, received, repair })
    }

    /// Maximum memory of [`RecoveryJob::run`].
    pub const fn memory_bytes(&self) -> u64 {
        self.code.memory_bytes()
    }

    /// Reads the block's symbols with `read` (which fills its buffer, with several source symbols at once, or returns false)
    /// and decodes it. Returns the lost source symbols with their offsets in the object; `None` if the symbols do not
    /// suffice.
    ///
    /// Holds up to [`RecoveryJob::memory_bytes`] in memory.
    pub fn run(&self, read: impl FnMut(SymbolPlace, &mut [u8]) -> bool) -> Option<Vec<(u64, Vec<u8>)>> {
        self.run_in(&mut Vec::new(), read)
    }

    /// As [`Self::run`], in a buffer that is reused for several jobs, so that its pages are not allocated again: it grows
    /// to the size of the block and its repair symbols.
    pub fn run_in(
        &self,
        buffer: &mut Vec<u8>,
        mut read: impl FnMut(SymbolPlace, &mut [u8]) -> bool,
    ) -> Option<Vec<(u64, Vec<u8>)>> {
        let first = self.partition.first_symbol(self.block.sbn);
        let symbol_length = self.partition.symbol_length as usize;
        let k = self.code.k();
        let needed = (k as usize + self.repair.len()) * symbol_length;
        if buffer.len() < needed {
            buffer.resize(needed, 0);
        }
        let (source, repair) = buffer[..needed].split_at_mut(k as usize * symbol_length);
        let has = |esi: u32| self.received.get(esi as usize).is_some_and(|it| *it);
        let mut esi = 0;
        while let Some(start) = (esi..k).find(|esi| has(*esi)) {
            let end = (start + 1..k).find(|esi| !has(*esi)).unwrap_or(k);
            let (from, to) = (
                self.partition.byte_range(first + u64::from(start)).start,
                self.partition.byte_range(first + u64::from(end) - 1).end,
            );
            let run = &mut source[start as usize * symbol_length..end as usize * symbol_length];
            // The last symbol of the object may be shorter: for the code it is padded with zeros.
            let (bytes, padding) = run.split_at_mut((to - from) as usize);
            padding.fill(0);
            if !read(SymbolPlace::Offset(from), bytes) {
                return None;
            }
            esi = end;
        }
        for (&(_, slot), symbol) in self.repair.iter().zip(repair.chunks_exact_mut(symbol_length)) {
            if !read(SymbolPlace::Slot(slot), symbol) {
                return None;
            }
        }
        let received = (0..k).zip(source.chunks_exact(symbol_length)).filter(|(esi, _)| has(*esi));
        let repair = self.repair.iter().map(|(esi, _)| *esi).zip(repair.chunks_exact(symbol_length));
        let have: Vec<(u32, &[u8])> = received.chain(repair).collect();
        let lost = self.code.decode_borrowed(&have)?;
        let placed = lost.into_iter().map(|(esi, mut symbol)| {
            let range = self.partition.byte_range(first + u64::from(esi));
            symbol.truncate((range.end - range.start) as usize);
            (range.start, symbol)
        });
        Some(placed.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alc::Packet;
    use crate::fec::{EncodingId, PayloadId, Protection};
    use crate::flute::{
        Event, MemoryBuf, MemoryStorage, Receiver, ReceiverConfig, SendFile, Sender, SenderProfile, Verdict,
        verify,
    };
    use crate::lct::Tsi;
    use crate::time::{Instant, WallTime};
    use linksim::{Link, Profile};

    #[test]
    fn slots_of_a_block_that_is_done_are_given_out_in_their_order() {
        let protection =
            Protection { id: EncodingId::RAPTORQ, overhead: 0.5, block_bytes: 8000, ..Protection::NONE };
        let code = BlockCode::new(&protection.oti(8000, 1000, 8), 8).unwrap();
        let mut recovery = Recovery::default();
        let claim = |recovery: &mut Recovery, sbn| -> Vec<u32> {
            (8..12).map(|esi| recovery.claim(sbn, esi, 0, &code, 100).unwrap()).collect()
        };
        assert_eq!(claim(&mut recovery, 0), [0, 1, 2, 3]);
        recovery.forget(0);
        assert_eq!(claim(&mut recovery, 1), [0, 1, 2, 3]);
        assert_eq!(claim(&mut recovery, 2), [4, 5, 6, 7]);
    }

    /// One pass of one object over a link; the bytes if it is complete, and the receiver.
    fn one_pass(
        protection: &Protection,
        body: &[u8],
        link: &mut Link,
    ) -> (Option<Vec<u8>>, Receiver<MemoryBuf>) {
        let mut sender =
            Sender::new(Tsi(1), SenderProfile { symbol_length: 100, ..SenderProfile::default() }, 1, 1);
        let file = SendFile::of("http://h/o", body);
        let toi = sender.add_protected(file, protection).unwrap();
        sender.refresh_fdt(WallTime::from_unix_ms(1_795_219_200_000)).unwrap();
        let mut packets: Vec<Vec<u8>> = Vec::new();
        let mut out = Vec::new();
        for packet in 0..sender.fdt_packets(0) {
            sender.write_fdt(0, packet, &mut out);
            packets.push(out.clone());
        }
        let fdt_packets = packets.len();
        let (oti, partition) = (*sender.oti(toi).unwrap(), *sender.partition(toi).unwrap());
        let range = |symbol: u64| {
            let range = partition.byte_range(symbol);
            range.start as usize..range.end as usize
        };
        let mut encoders: Vec<_> = (0..partition.blocks)
            .map(|sbn| {
                let (first, k) = (partition.first_symbol(sbn), partition.block_symbols(sbn));
                let block = &body[range(first).start..range(first + u64::from(k) - 1).end];
                sender.block_code(toi, sbn).map(|code| code.encoder(block))
            })
            .collect();
        for step in protection.sequence(&oti, partition) {
            let PayloadId { sbn, esi } = step.payload_id;
            match step.source {
                Some(symbol) => {
                    assert!(sender.write_packet(toi, symbol, &body[range(symbol)], false, &mut out));
                }
                None => {
                    let repair = encoders[sbn as usize].as_mut().unwrap().repair(esi).unwrap();
                    assert!(sender.write_repair(toi, step.payload_id, &repair, false, &mut out));
                }
            }
            packets.push(out.clone());
        }
        let mut receiver = Receiver::new(ReceiverConfig::default());
        let mut whole = None;
        for (at, packet) in packets.iter().enumerate() {
            let arrived = if at < fdt_packets {
                vec![packet.clone()]
            } else {
                link.send(0, packet);
                std::iter::from_fn(|| link.poll(0)).collect()
            };
            for bytes in arrived {
                let packet = Packet::parse(&bytes).unwrap();
                receiver.handle_packet(Instant::from_nanos(1), None, &packet, &bytes, &mut MemoryStorage);
                while let Some(event) = receiver.poll_event() {
                    match event {
                        Event::BlockReady { toi, block } => recover(&mut receiver, toi, block),
                        Event::Complete { file, buf, .. } => {
                            verify(&file, &buf.bytes).unwrap();
                            whole = Some(buf.bytes);
                        }
                        _ => {}
                    }
                }
            }
        }
        while let Some(event) = receiver.poll_event() {
            if let Event::Complete { buf, .. } = event {
                whole = Some(buf.bytes);
            }
        }
        (whole, receiver)
    }

    fn recover(receiver: &mut Receiver<MemoryBuf>, toi: Toi, block: BlockId) {
        // Further symbols may have made it whole.
        let Some(job) = receiver.recovery_job(toi, block) else { return };
        let buf = receiver.object(toi).unwrap().buf();
        // A buffer in which another block has been.
        let lost = job.run_in(&mut vec![0xa5; 4 << 20], |place, out| buf.read(place, out));
        receiver.recovered(toi, block, lost.as_deref(), &mut MemoryStorage);
    }

    fn protection(id: EncodingId) -> Protection {
        Protection {
            id,
            symbol_length: 0,
            overhead: 0.25,
            least_repair: 3,
            burst_packets: 0,
            block_bytes: 6000,
        }
    }

    #[test]
    fn one_pass_over_a_lossy_link_is_enough_with_every_code() {
        let body: Vec<u8> = (0..50_033_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for id in [EncodingId::RAPTORQ, EncodingId::RAPTOR, EncodingId::RS_GF28, EncodingId::SMALL_SYSTEMATIC]
        {
            let mut whole = 0;
            for seed in 0..10 {
                let mut link = Link::new(seed, Profile::burst(0.05));
                let (got, receiver) = one_pass(&protection(id), &body, &mut link);
                if let Some(got) = got {
                    assert!(got == body, "{id:?}, seed {seed}");
                    assert!(receiver.stats().recovered > 0 || link.stats().lost == 0);
                    whole += 1;
                }
            }
            assert!(whole >= 9, "{id:?}: {whole} of 10");
        }
    }

    /// Answers what is needed, whole or in pieces, and gives back the bytes that were asked for.
    fn repair(receiver: &mut Receiver<MemoryBuf>, body: &[u8]) -> (u64, Option<Vec<u8>>) {
        let needed: Vec<_> = receiver.object(Toi(1)).unwrap().needed().collect();
        let bytes = needed.iter().map(|it| it.end - it.start).sum();
        for range in needed {
            let piece = &body[range.start as usize..range.end as usize];
            receiver.repair(Toi(1), range.start, piece, &mut MemoryStorage);
        }
        let mut whole = None;
        while let Some(event) = receiver.poll_event() {
            match event {
                Event::BlockReady { toi, block } => recover(receiver, toi, block),
                Event::Complete { file, buf, .. } => {
                    verify(&file, &buf.bytes).unwrap();
                    whole = Some(buf.bytes);
                }
                _ => {}
            }
        }
        (bytes, whole)
    }

    #[test]
    fn what_is_needed_makes_the_object_complete_and_is_less_than_what_is_missing() {
        let body: Vec<u8> = (0..50_033_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for id in [EncodingId::RAPTORQ, EncodingId::RAPTOR, EncodingId::RS_GF28] {
            let (mut before, mut asked, mut objects) = (0, 0, 0);
            for seed in 0..40 {
                // More than the repair symbols bring back.
                let mut link = Link::new(seed, Profile::burst(0.3));
                let (None, mut receiver) = one_pass(&protection(id), &body, &mut link) else { continue };
                let Some(object) = receiver.object(Toi(1)) else { continue };
                let missing: u64 = object.received().missing().map(|it| it.end - it.start).sum();
                let (bytes, whole) = repair(&mut receiver, &body);
                assert!(bytes <= missing, "{id:?}, seed {seed}: {bytes} of {missing}");
                assert!(whole.is_some_and(|it| it == body), "{id:?}, seed {seed}");
                (before, asked, objects) = (before + missing, asked + bytes, objects + 1);
            }
            println!("{id:?}: {objects} objects of 50,033 bytes: {before} bytes before, {asked} after");
            assert!(objects > 20 && asked < before, "{id:?}: {asked} of {before}");
        }
    }

    #[test]
    fn a_block_that_failed_asks_for_one_more_and_at_last_for_all() {
        let oti = crate::fec::Oti {
            encoding_id: EncodingId::RAPTORQ,
            scheme: crate::fec::SchemeInfo::RaptorQ { source_blocks: 1, sub_blocks: 1, alignment: 4 },
            ..crate::fec::Oti::no_code(1000, 100, 10)
        };
        let (mut recovery, code) = (Recovery::default(), BlockCode::new(&oti, 10).unwrap());
        assert_eq!(recovery.wanted(0, 5, &code), None, "no repair symbols");
        for esi in 10..13 {
            recovery.claim(0, esi, 5, &code, 99).unwrap();
        }
        // Of 5 missing ones and 3 repair symbols: 2, and the surplus of RaptorQ.
        assert_eq!(recovery.wanted(0, 5, &code), Some(4));
        assert!(recovery.ready(0, 9, &code));
        recovery.failed(0, 10);
        assert_eq!(recovery.wanted(0, 1, &code), Some(1), "12 symbols failed");
        recovery.blocks.get_mut(&0).unwrap().attempts = MAX_ATTEMPTS;
        assert_eq!(recovery.wanted(0, 1, &code), None);
    }

    #[test]
    fn without_a_code_a_pass_over_such_a_link_is_never_enough() {
        let body = vec![7; 50_033];
        let whole = (0..10)
            .filter(|&seed| {
                one_pass(&Protection::NONE, &body, &mut Link::new(seed, Profile::burst(0.05))).0.is_some()
            })
            .count();
        assert_eq!(whole, 0);
    }

    #[test]
    fn wrong_repair_symbols_cost_a_digest_and_floods_of_them_are_bounded() {
        let body = vec![9; 6000];
        let (_, mut receiver) =
            one_pass(&protection(EncodingId::RAPTORQ), &body, &mut Link::new(1, Profile::burst(0.9)));
        assert!(receiver.object(Toi(1)).is_some(), "not whole");
        let mut sender =
            Sender::new(Tsi(1), SenderProfile { symbol_length: 100, ..SenderProfile::default() }, 1, 1);
        let file = SendFile::of("http://h/o", &body);
        let toi = sender.add_protected(file, &protection(EncodingId::RAPTORQ)).unwrap();
        let (mut stored, mut out) = (0, Vec::new());
        for esi in 1000..3000 {
            sender.write_repair(toi, PayloadId { sbn: 0, esi }, &[esi as u8; 100], false, &mut out);
            let packet = Packet::parse(&out).unwrap();
            let verdict =
                receiver.handle_packet(Instant::from_nanos(1), None, &packet, &out, &mut MemoryStorage);
            stored += usize::from(verdict == Verdict::Stored);
            while let Some(event) = receiver.poll_event() {
                if let Event::Complete { file, buf, .. } = event {
                    assert!(verify(&file, &buf.bytes).is_err(), "never taken for right");
                }
            }
        }
        assert!(stored <= 70, "{stored} of 2000 kept for a block of 60");
    }

    /// A code of ten source symbols and four repair symbols.
    fn solomon() -> BlockCode {
        let oti = crate::fec::Oti {
            encoding_id: EncodingId::RS_GF28,
            scheme: crate::fec::SchemeInfo::ReedSolomon { max_n: 14, m: 8, group: 1 },
            ..crate::fec::Oti::no_code(100, 10, 10)
        };
        BlockCode::new(&oti, 10).unwrap()
    }

    #[test]
    fn slots_are_bounded_and_used_again_when_their_block_is_done() {
        let (mut recovery, code) = (Recovery::default(), solomon());
        assert_eq!(recovery.claim(0, 10, 7, &code, 3), Ok(0));
        assert_eq!(recovery.claim(0, 10, 7, &code, 3), Err(DropReason::Duplicate), "the same symbol");
        assert_eq!(recovery.claim(0, 11, 7, &code, 3), Ok(1));
        assert_eq!(recovery.claim(1, 10, 7, &code, 3), Ok(2));
        assert_eq!(recovery.claim(1, 11, 7, &code, 3), Err(DropReason::NoRoom));
        recovery.forget(0);
        let again =
            [recovery.claim(1, 11, 7, &code, 3).unwrap(), recovery.claim(1, 12, 7, &code, 3).unwrap()];
        assert!(again.contains(&0) && again.contains(&1), "{again:?}");
        assert_eq!(recovery.claim(1, 13, 7, &code, 3), Err(DropReason::Duplicate), "enough for the block");
        assert_eq!(recovery.claim(2, 10, 10, &code, 9), Err(DropReason::Duplicate), "the block is complete");
    }

    #[test]
    fn a_block_is_tried_so_often_and_not_more() {
        let (mut recovery, code) = (Recovery::default(), solomon());
        for esi in 10..13 {
            recovery.claim(0, esi, 7, &code, 99).unwrap();
        }
        for attempt in 0..MAX_ATTEMPTS {
            let received = 7 + u64::from(attempt.min(2));
            assert!(recovery.ready(0, received, &code) || attempt > 2, "{attempt}");
            assert!(!recovery.ready(0, received, &code), "at work");
            recovery.failed(0, 10);
        }
        recovery.blocks.get_mut(&0).unwrap().surplus = 0;
        recovery.blocks.get_mut(&0).unwrap().kept.truncate(1);
        assert_eq!(recovery.claim(0, 13, 7, &code, 99), Err(DropReason::Duplicate), "no attempt is left");
        recovery.forget(0);
        assert!(recovery.claim(0, 13, 7, &code, 99).is_ok());
    }
}
