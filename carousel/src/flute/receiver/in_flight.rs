//! One object under reassembly, and placement of its symbols.

use std::ops::Range;
use std::sync::Arc;

use super::super::fdt::File;
use super::recovery::{Recovery, RecoveryJob};
use super::{DropReason, Storage};
use crate::alc::Packet;
use crate::fec::{BlockCode, BlockId, EncodingId, Oti, Partition, PayloadId, SymbolKind, SymbolMap};
use crate::lct::Toi;
use crate::repair::longest;
use crate::time::Instant;

/// One object under reassembly.
#[derive(Debug)]
pub struct InFlight<B> {
    pub(super) toi: Toi,
    /// Its number among the objects that the receiver has opened.
    pub(super) serial: u64,
    pub(super) file: Option<Arc<File>>,
    pub(super) oti: Oti,
    pub(super) partition: Partition,
    /// The last EXT_FTI, for comparison without parsing.
    pub(super) fti: Option<([u8; 16], usize)>,
    pub(super) received: Arc<SymbolMap>,
    pub(super) buf: B,
    /// Memory of its bit map, and of its buffer if that is not in a file.
    pub(super) fixed_bytes: usize,
    /// Memory of its repair symbols' places, when last counted.
    pub(super) recovery_bytes: usize,
    /// Time of its first packet.
    pub(super) opened: Instant,
    pub(super) last_packet: Instant,
    /// Start of the current pass.
    pub(super) turn_began: Instant,
    pub(super) repaired_symbols: u64,
    pub(super) stalled: bool,
    pub(super) recovery: Recovery,
}

impl<B> InFlight<B> {
    /// Its TOI.
    pub const fn toi(&self) -> Toi {
        self.toi
    }

    /// Its description by the FDT, if there is one yet.
    pub const fn file(&self) -> Option<&Arc<File>> {
        self.file.as_ref()
    }

    /// The received symbols.
    pub const fn received(&self) -> &Arc<SymbolMap> {
        &self.received
    }

    /// Its storage.
    pub const fn buf(&self) -> &B {
        &self.buf
    }

    /// Approximate memory.
    pub const fn held_bytes(&self) -> usize {
        self.fixed_bytes + self.recovery_bytes
    }

    /// Takes its storage at the end of reception.
    pub fn into_buf(self) -> B {
        self.buf
    }

    /// Time of the last packet.
    pub const fn last_packet(&self) -> Instant {
        self.last_packet
    }

    /// Byte ranges, in order, that would complete it: for a block with repair symbols only as many missing source symbols as
    /// decoding needs.
    pub fn needed(&self) -> impl Iterator<Item = Range<u64>> {
        let of_block = |sbn: u32| {
            let runs: Vec<Range<u64>> =
                self.received.missing_symbols(self.partition.symbols_of(sbn)).collect();
            let missing = runs.iter().map(|run| run.end - run.start).sum();
            let code = BlockCode::new(&self.oti, self.partition.block_symbols(sbn)).ok();
            let wanted = code.and_then(|code| self.recovery.wanted(sbn, missing, &code));
            longest(runs, wanted.unwrap_or(missing))
        };
        let bytes = |run: Range<u64>| {
            self.partition.byte_range(run.start).start..self.partition.byte_range(run.end - 1).end
        };
        (0..self.partition.blocks).flat_map(of_block).map(bytes)
    }

    /// Whether a block of it is being decoded.
    pub fn is_being_decoded(&self) -> bool {
        self.recovery.is_at_work()
    }

    /// Whether its packets have stopped: see [`super::Event::Stalled`].
    pub const fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Whether every incomplete block is being decoded.
    pub(super) fn needs_no_more(&self) -> bool {
        (0..self.partition.blocks).all(|sbn| {
            let wanted = u64::from(self.partition.block_symbols(sbn));
            self.received_of(sbn) >= wanted || self.recovery.is_at_work_on(sbn)
        })
    }
}

impl<B> InFlight<B> {
    /// Places the symbols of `packet`; `Err` if none is new.
    #[inline]
    pub(super) fn place<S: Storage<Buf = B>>(
        &mut self,
        packet: &Packet<'_>,
        storage: &mut S,
    ) -> Result<Option<BlockId>, DropReason> {
        if let Some(fti) = packet.fti
            && self.fti.as_ref().is_none_or(|(bytes, length)| &bytes[..*length] != fti)
        {
            self.check_fti(packet, fti)?;
        }
        let id = self.oti.encoding_id;
        let (payload_id, symbols) =
            PayloadId::split(id, self.oti.field_bits(), packet.body).map_err(|_| DropReason::BadPayloadId)?;
        let first = match self.partition.place(id, payload_id) {
            SymbolKind::Source(symbol) => symbol,
            SymbolKind::Repair => return self.keep(payload_id, symbols, storage),
            SymbolKind::Outside => return Err(DropReason::OutsideObject),
        };
        let range = self.partition.byte_range(first);
        if symbols.len() as u64 != range.end - range.start {
            self.place_several(first, symbols, storage)?;
            return Ok(self.recoverable(payload_id.sbn));
        }
        if self.received.has(first) {
            return Err(DropReason::Duplicate);
        }
        storage.write(&mut self.buf, range.start, symbols);
        self.received.set(first);
        Ok(if self.recovery.is_empty() { None } else { self.recoverable(payload_id.sbn) })
    }

    /// Keeps a repair symbol until its block can be decoded.
    #[cold]
    fn keep<S: Storage<Buf = B>>(
        &mut self,
        payload_id: PayloadId,
        symbol: &[u8],
        storage: &mut S,
    ) -> Result<Option<BlockId>, DropReason> {
        let PayloadId { sbn, esi } = payload_id;
        let k = self.partition.block_symbols(sbn);
        let code = BlockCode::new(&self.oti, k).map_err(|_| DropReason::RepairSymbol)?;
        if !code.is_repair(esi) {
            return Err(DropReason::OutsideObject);
        }
        if symbol.len() != self.partition.symbol_length as usize {
            return Err(DropReason::BadSymbolLength);
        }
        // Half the number of source symbols: with higher loss, waiting for the next pass is better.
        let most_slots = self.partition.symbols / 2 + 64;
        let slot = self.recovery.claim(sbn, esi, self.received_of(sbn), &code, most_slots)?;
        if !storage.keep_repair(&mut self.buf, slot, symbol) {
            self.recovery.forget(sbn);
            return Err(DropReason::RepairSymbol);
        }
        Ok(self.recoverable(sbn))
    }

    /// Source symbols received of a block.
    pub(super) fn received_of(&self, sbn: u32) -> u64 {
        self.received.count(self.partition.symbols_of(sbn))
    }

    /// Returns the block of this number if it has become ready for decoding.
    pub(super) fn recoverable(&mut self, sbn: u32) -> Option<BlockId> {
        let code = BlockCode::new(&self.oti, self.partition.block_symbols(sbn)).ok()?;
        let received = self.received_of(sbn);
        self.recovery.ready(sbn, received, &code).then_some(BlockId { serial: self.serial, sbn })
    }

    /// The job of a block that is ready.
    pub(super) fn recovery_job(&self, block: BlockId) -> Option<RecoveryJob> {
        let code = BlockCode::new(&self.oti, self.partition.block_symbols(block.sbn)).ok()?;
        RecoveryJob::new(self.toi, block, code, self.partition, &self.received, &self.recovery)
    }

    fn contradicts_description(&self, oti: &Oti) -> bool {
        self.file.as_ref().is_some_and(|file| contradicts(file, oti))
    }

    /// Whether the object was opened as its description does not say, and `packet` is as it says.
    pub(super) fn is_contradicted_by(&self, packet: &Packet<'_>) -> bool {
        self.contradicts_description(&self.oti)
            && fti_of(packet).is_some_and(|oti| !self.contradicts_description(&oti))
    }

    /// Checks an EXT_FTI that differs in its bytes from the last one: it may still describe the same object.
    #[cold]
    fn check_fti(&mut self, packet: &Packet<'_>, fti: &[u8]) -> Result<(), DropReason> {
        let oti = fti_of(packet).ok_or(DropReason::BadOti)?;
        if !self.oti.agrees_with(&oti) {
            if self.contradicts_description(&oti) && !self.contradicts_description(&self.oti) {
                return Err(DropReason::OtiChanged);
            }
            if self.received.received() > 0 || oti.transfer_length != self.oti.transfer_length {
                return Err(DropReason::OtiChanged);
            }
            // EXT_FTI overrides the FDT (RFC 6726 section 5); the length is the same, so the storage fits.
            if oti.symbol_length != self.oti.symbol_length {
                return Err(DropReason::OtiChanged);
            }
            self.partition = Partition::new(&oti).map_err(|_| DropReason::BadOti)?;
            self.oti = oti;
        }
        let mut bytes = [0; 16];
        if let Some(target) = bytes.get_mut(..fti.len()) {
            target.copy_from_slice(fti);
            self.fti = Some((bytes, fti.len()));
        }
        Ok(())
    }

    /// Places payloads of several symbols, and a last symbol padded to its full length.
    fn place_several<S: Storage<Buf = B>>(
        &mut self,
        first: u64,
        symbols: &[u8],
        storage: &mut S,
    ) -> Result<(), DropReason> {
        let length = self.partition.symbol_length as usize;
        let start = self.partition.byte_range(first).start;
        let left = self.partition.length - start;
        let reaches_end = symbols.len() as u64 >= left;
        if symbols.is_empty()
            || (!symbols.len().is_multiple_of(length) && symbols.len() as u64 != left)
            || symbols.len() as u64 >= left + length as u64
        {
            return Err(DropReason::BadSymbolLength);
        }
        let useful = if reaches_end { &symbols[..left as usize] } else { symbols };
        let mut new = false;
        for (symbol, bytes) in (first..).zip(useful.chunks(length)) {
            if !self.received.has(symbol) {
                storage.write(&mut self.buf, self.partition.byte_range(symbol).start, bytes);
                new |= self.received.set(symbol);
            }
        }
        if new { Ok(()) } else { Err(DropReason::Duplicate) }
    }
}

/// Whether `oti` contradicts the OTI of a description, or its length where that is all that it has.
pub(super) fn contradicts(file: &File, oti: &Oti) -> bool {
    match file.oti() {
        Some(described) => !described.agrees_with(oti),
        None => file.on_air_length().is_some_and(|length| length != oti.transfer_length),
    }
}

/// The OTI of EXT_FTI, if the packet has a valid one.
pub(super) fn fti_of(packet: &Packet<'_>) -> Option<Oti> {
    Oti::parse_fti(EncodingId(packet.lct.codepoint), packet.fti?).ok()
}
