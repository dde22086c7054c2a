//! One object under reassembly: its symbols into their place.

use std::sync::Arc;

use super::super::fdt::File;
use super::{DropReason, Storage};
use crate::alc::Packet;
use crate::fec::{EncodingId, Oti, Partition, PayloadId, Place, SymbolMap};
use crate::lct::Toi;
use crate::time::Instant;

/// One object under reassembly.
#[derive(Debug)]
pub struct InFlight<B> {
    pub(super) toi: Toi,
    pub(super) file: Option<Arc<File>>,
    pub(super) oti: Oti,
    pub(super) partition: Partition,
    /// EXT_FTI as it came last, to compare without parsing.
    pub(super) fti: Option<([u8; 16], usize)>,
    pub(super) received: Arc<SymbolMap>,
    pub(super) buf: B,
    pub(super) last_packet: Instant,
    pub(super) repaired_symbols: u64,
    pub(super) stalled: bool,
}

impl<B> InFlight<B> {
    /// Its TOI.
    pub const fn toi(&self) -> Toi {
        self.toi
    }

    /// What the FDT says of it, if anything yet.
    pub const fn file(&self) -> Option<&Arc<File>> {
        self.file.as_ref()
    }

    /// Which symbols are there.
    pub const fn received(&self) -> &Arc<SymbolMap> {
        &self.received
    }

    /// Its storage.
    pub const fn buf(&self) -> &B {
        &self.buf
    }

    /// When its last packet came.
    pub const fn last_packet(&self) -> Instant {
        self.last_packet
    }
}

impl<B> InFlight<B> {
    /// Puts the symbols of `packet` where they belong; `Err` if there is nothing new in it.
    #[inline]
    pub(super) fn place<S: Storage<Buf = B>>(
        &mut self,
        packet: &Packet<'_>,
        storage: &mut S,
    ) -> Result<(), DropReason> {
        if let Some(fti) = packet.fti
            && self.fti.as_ref().is_none_or(|(bytes, length)| &bytes[..*length] != fti)
        {
            self.check_fti(packet, fti)?;
        }
        let id = self.oti.encoding_id;
        let (payload_id, symbols) =
            PayloadId::split(id, self.oti.field_bits(), packet.body).map_err(|_| DropReason::BadPayloadId)?;
        let first = match self.partition.place(id, payload_id) {
            Place::Source(symbol) => symbol,
            Place::Repair => return Err(DropReason::RepairSymbol),
            Place::Outside => return Err(DropReason::OutsideObject),
        };
        let range = self.partition.byte_range(first);
        if symbols.len() as u64 != range.end - range.start {
            return self.place_several(first, symbols, storage);
        }
        if self.received.has(first) {
            return Err(DropReason::Duplicate);
        }
        storage.write(&mut self.buf, range.start, symbols);
        self.received.set(first);
        Ok(())
    }

    /// An EXT_FTI that differs in its bytes from the last one: is it still the same object?
    #[cold]
    fn check_fti(&mut self, packet: &Packet<'_>, fti: &[u8]) -> Result<(), DropReason> {
        let oti = fti_of(packet).ok_or(DropReason::BadOti)?;
        if oti != self.oti {
            if self.received.received() > 0 || oti.transfer_length != self.oti.transfer_length {
                return Err(DropReason::OtiChanged);
            }
            // EXT_FTI goes before the FDT (RFC 6726 section 5); the length is the same, so the storage fits.
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

    /// Payloads of several symbols, and the last symbol padded to its full length.
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

/// The OTI of EXT_FTI, if the packet has one that can be read.
pub(super) fn fti_of(packet: &Packet<'_>) -> Option<Oti> {
    Oti::parse_fti(EncodingId(packet.lct.codepoint), packet.fti?).ok()
}
