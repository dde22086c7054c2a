//! Interface of the receiver to the storage of objects.

use std::sync::Arc;

use super::super::fdt::File;
use crate::fec::SymbolMap;
use crate::lct::Toi;

/// Request for the storage of an object.
#[derive(Debug)]
pub struct OpenRequest<'a> {
    /// Its TOI.
    pub toi: Toi,
    /// Transfer length in bytes.
    pub length: u64,
    /// Its description by the FDT; `None` if the object is opened by EXT_FTI before it has a name.
    pub file: Option<&'a Arc<File>>,
    /// The session has brought objects whose signed digests were right. Until then its sender may be one that repeats the signed
    /// descriptions of another, with bytes of its own.
    pub is_proven: bool,
    /// Received symbols; the receiver writes it, other threads may read it.
    pub received: &'a Arc<SymbolMap>,
}

/// Reasons for which an object gets no storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// This version of the object is held already: its packets are not needed.
    Held,
    /// There is no room now; retried after [`super::ReceiverConfig::refused_retry`].
    NoRoom,
    /// The object will never be wanted: unusable name, too large, filtered.
    NotWanted,
}

/// Lends storage to objects under reassembly.
pub trait Storage {
    /// The storage of one object.
    type Buf;

    /// Lends storage of `request.length` bytes.
    ///
    /// # Errors
    /// [`Refusal`], which determines how long the object's packets are dropped.
    fn open(&mut self, request: &OpenRequest<'_>) -> Result<Self::Buf, Refusal>;

    /// Names an object that was opened without a name.
    ///
    /// # Errors
    /// As for [`Storage::open`]; the storage is then dropped.
    fn name(&mut self, buf: &mut Self::Buf, file: &Arc<File>) -> Result<(), Refusal>;

    /// Writes symbols at `offset`, inside the requested length. Storage may buffer writes, if readers do not rely on the
    /// [`SymbolMap`] for bytes that are not written yet.
    fn write(&mut self, buf: &mut Self::Buf, offset: u64, bytes: &[u8]);

    /// Memory of an object's storage; 0 if its bytes are in files.
    fn memory_bytes(&self, _buf: &Self::Buf) -> usize {
        0
    }

    /// Stores a repair symbol in slot `slot` of the object, replacing an older one. False if this storage does not keep
    /// repair symbols.
    fn keep_repair(&mut self, _buf: &mut Self::Buf, _slot: u32, _bytes: &[u8]) -> bool {
        false
    }
}

/// Location of the bytes of a symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SymbolPlace {
    /// In the object, from this offset on.
    Offset(u64),
    /// In this slot of [`Storage::keep_repair`].
    Slot(u32),
}

/// Storage that accepts every object into memory: for simulations and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemoryStorage;

impl Storage for MemoryStorage {
    type Buf = MemoryBuf;

    fn open(&mut self, request: &OpenRequest<'_>) -> Result<MemoryBuf, Refusal> {
        Ok(MemoryBuf::new(request.length))
    }

    fn name(&mut self, _: &mut MemoryBuf, _: &Arc<File>) -> Result<(), Refusal> {
        Ok(())
    }

    fn write(&mut self, buf: &mut MemoryBuf, offset: u64, bytes: &[u8]) {
        buf.write(offset, bytes);
    }

    fn memory_bytes(&self, buf: &MemoryBuf) -> usize {
        buf.bytes.len()
    }

    fn keep_repair(&mut self, buf: &mut MemoryBuf, slot: u32, bytes: &[u8]) -> bool {
        buf.keep_repair(slot, bytes)
    }
}

/// An object in memory with its repair symbols.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryBuf {
    /// The object.
    pub bytes: Vec<u8>,
    repair: Vec<Vec<u8>>,
}

impl MemoryBuf {
    /// Creates storage for `length` bytes.
    pub fn new(length: u64) -> Self {
        Self { bytes: vec![0; length as usize], repair: Vec::new() }
    }

    /// See [`Storage::write`].
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.bytes[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    /// See [`Storage::keep_repair`].
    pub fn keep_repair(&mut self, slot: u32, bytes: &[u8]) -> bool {
        let slot = slot as usize;
        if self.repair.len() <= slot {
            self.repair.resize_with(slot + 1, Vec::new);
        }
        self.repair[slot] = bytes.to_vec();
        true
    }

    /// Fills `out` with a symbol, for [`super::RecoveryJob::run`]. False if it is absent.
    pub fn read(&self, place: SymbolPlace, out: &mut [u8]) -> bool {
        let bytes = match place {
            SymbolPlace::Offset(at) => self.bytes.get(at as usize..at as usize + out.len()),
            SymbolPlace::Slot(slot) => self.repair.get(slot as usize).and_then(|it| it.get(..out.len())),
        };
        bytes.map(|bytes| out.copy_from_slice(bytes)).is_some()
    }
}
