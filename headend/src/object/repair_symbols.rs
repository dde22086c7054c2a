//! Repair symbols of an object, computed once and sent in every pass.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use carousel::fec::{BlockCode, EncodingId, Oti, Partition, PayloadId, Protection, Sequence};
use carousel::flute::SenderProfile;
use carousel::route::Sender;

use super::body::{Body, BodyError, OpenBody};

/// Bytes of repair symbols of one object kept in memory; larger ones go to an unnamed file.
const IN_MEMORY_BYTES: u64 = 4 << 20;

/// Bytes of the length that ROUTE protects with an object.
const ROUTE_LENGTH_BYTES: u64 = 4;

carousel::limits! {
    /// One object of a ROUTE session that has repair symbols.
    const MAX_ROUTE_BYTES: u64 = 16 << 20, "bytes" {
        why: "It is one source block, which receivers decode in memory; a segment of four seconds at 25 Mbit/s has 12 MB.",
        full: "The object is sent without repair symbols.",
        free: "Holds for one object.",
        test: "an_object_of_route_beyond_one_block_goes_without_repair_symbols",
    }
}

/// The OTI of an object of `length` bytes in a ROUTE session, including padding and length.
pub(crate) const fn route_oti(symbol_length: u16, length: u64) -> Oti {
    let symbols = (length + ROUTE_LENGTH_BYTES).div_ceil(symbol_length as u64);
    Oti { transfer_length: symbols * symbol_length as u64, ..Sender::repair_oti(symbol_length) }
}

/// The repair symbols of one object: block after block.
#[derive(Debug)]
pub struct RepairSymbols {
    bytes: OpenBody,
    sequence: Sequence,
    symbol_length: u64,
}

/// Destination of symbols until all are computed.
enum Spool {
    Memory(Vec<u8>),
    File(File),
}

impl RepairSymbols {
    /// Computes the repair symbols of an object with these bytes. `None` if it has no code. Reads the body once, one
    /// source block at a time.
    ///
    /// # Errors
    /// A body that has changed, or no room for the symbols.
    pub fn make(body: &Body, oti: &Oti, protection: &Protection) -> Result<Option<Self>, BodyError> {
        Self::make_of(body, oti, protection, &[])
    }

    /// Computes the repair symbols of an object in a ROUTE session: its code also protects padding and the object's length
    /// (A/331 Annex A.4). `None` if it has no code, or is too large for one block.
    ///
    /// # Errors
    /// As for [`RepairSymbols::make`].
    pub fn make_route(
        body: &Body,
        profile: &SenderProfile,
        protection: &Protection,
    ) -> Result<Option<Self>, BodyError> {
        let oti = route_oti(profile.symbol_length, body.length());
        let Ok(length) = u32::try_from(body.length()) else { return Ok(None) };
        if protection.id == EncodingId::NO_CODE || body.length() > MAX_ROUTE_BYTES {
            return Ok(None);
        }
        let behind = (oti.transfer_length - body.length()) as usize;
        let mut padding = vec![0; behind - ROUTE_LENGTH_BYTES as usize];
        padding.extend_from_slice(&length.to_be_bytes());
        Self::make_of(body, &oti, protection, &padding)
    }

    /// Computes the symbols of `body` followed by `behind`.
    fn make_of(
        body: &Body,
        oti: &Oti,
        protection: &Protection,
        behind: &[u8],
    ) -> Result<Option<Self>, BodyError> {
        let Ok(partition) = Partition::new(oti) else { return Ok(None) };
        let sequence = protection.sequence(oti, partition);
        let count = sequence.symbols() - partition.symbols;
        if count == 0 {
            return Ok(None);
        }
        let symbol_length = u64::from(partition.symbol_length);
        let mut spool = if count * symbol_length <= IN_MEMORY_BYTES {
            Spool::Memory(Vec::with_capacity((count * symbol_length) as usize))
        } else {
            Spool::File(tempfile::tempfile().map_err(BodyError::Io)?)
        };
        let reading = body.open()?;
        let mut block = Vec::new();
        for sbn in 0..partition.blocks {
            let Ok(code) = BlockCode::new(oti, partition.block_symbols(sbn)) else { return Ok(None) };
            let first = partition.first_symbol(sbn);
            let start = partition.byte_range(first).start;
            let end = partition.byte_range(first + u64::from(code.k()) - 1).end;
            let of_body = start.min(body.length())..end.min(body.length());
            block.resize((of_body.end - of_body.start) as usize, 0);
            reading.read_at(of_body.start, &mut block).map_err(BodyError::Io)?;
            let of_behind = start.max(body.length()) - body.length()..end.max(body.length()) - body.length();
            let more = behind.get(of_behind.start as usize..of_behind.end as usize);
            block.extend_from_slice(more.unwrap_or_default());
            let mut encoder = code.encoder(&block);
            for esi in code.k()..code.k() + sequence.repair_of(sbn) {
                let symbol = encoder.repair(esi).ok_or_else(|| BodyError::Io(io::Error::other("FEC")))?;
                match &mut spool {
                    Spool::Memory(memory) => memory.extend_from_slice(&symbol),
                    Spool::File(file) => file.write_all(&symbol).map_err(BodyError::Io)?,
                }
            }
        }
        let bytes = match spool {
            Spool::Memory(memory) => OpenBody::Memory(memory.into()),
            Spool::File(file) => OpenBody::File { file, start: 0, ahead: Box::default() },
        };
        Ok(Some(Self { bytes, sequence, symbol_length }))
    }

    /// Transmission order of source and repair symbols.
    pub fn sequence(&self) -> Sequence {
        self.sequence.clone()
    }

    /// Fills `out` with a repair symbol.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, payload_id: PayloadId, oti: &Oti, k: u32, out: &mut Vec<u8>) -> io::Result<()> {
        let number =
            self.sequence.repair_before(payload_id.sbn) + u64::from(payload_id.esi.saturating_sub(k));
        out.resize(usize::from(oti.symbol_length), 0);
        self.bytes.read_at(number * self.symbol_length, out)
    }
}

/// Shared by the item and the job that sends it.
pub(crate) type SharedRepair = Option<Arc<RepairSymbols>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_of_route_beyond_one_block_goes_without_repair_symbols() {
        let protection = Protection {
            id: EncodingId::RAPTORQ,
            symbol_length: 0,
            overhead: 0.01,
            least_repair: 1,
            burst_packets: 0,
            block_bytes: 1 << 20,
        };
        let profile = SenderProfile { symbol_length: 8_000, ..SenderProfile::default() };
        let make = |bytes: u64| {
            let body = Body::Memory(vec![7; bytes as usize].into());
            RepairSymbols::make_route(&body, &profile, &protection).unwrap().is_some()
        };
        assert!(!make(MAX_ROUTE_BYTES + 1));
        assert!(make(1 << 20) && make(0), "others have some");
    }
}
