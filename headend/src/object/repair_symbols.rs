//! Repair symbols of an object, made once and sent in every pass.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use carousel::fec::{BlockCode, Oti, Partition, PayloadId, Protection, Sequence};

use super::body::{Body, BodyError, Reading};

/// Repair symbols of one object that are kept in memory; more go to a file without a name.
const IN_MEMORY_BYTES: u64 = 4 << 20;

/// The repair symbols of one object: block after block.
#[derive(Debug)]
pub struct RepairSymbols {
    bytes: Reading,
    sequence: Sequence,
    symbol_length: u64,
}

/// Where symbols are written until all are there.
enum Spool {
    Memory(Vec<u8>),
    File(File),
}

impl RepairSymbols {
    /// Makes those of an object whose bytes are `body`. `None` if it has no code. Reads the body once, a source block at a
    /// time.
    ///
    /// # Errors
    /// A body that is no longer what it was, or no room for the symbols.
    pub fn make(body: &Body, oti: &Oti, protection: &Protection) -> Result<Option<Self>, BodyError> {
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
            block.resize((end - start) as usize, 0);
            reading.read_at(start, &mut block).map_err(BodyError::Io)?;
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
            Spool::Memory(memory) => Reading::Memory(memory.into()),
            Spool::File(file) => Reading::File { file, start: 0 },
        };
        Ok(Some(Self { bytes, sequence, symbol_length }))
    }

    /// The order in which source and repair symbols go out.
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
