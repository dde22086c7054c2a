//! Storage of carousel modules under reassembly: short ones in memory, long ones in an unnamed file of the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use carousel::ObjectKey;
use carousel::dsmcc::{Description, ModuleStorage, SoleFile};

use crate::memory::MAX_MODULES_BYTES;
use crate::store::{Arrival, Frozen, Partial, Store};

carousel::limits! {
    /// One module that is put together in memory.
    const MAX_MEMORY_MODULE_BYTES: u32 = 1 << 20, "bytes" {
        why: "Modules of applications have up to 64 KiB; one for each of the 256 that may be open would take too much.",
        full: "A longer one is put together in an unnamed file.",
        free: "Holds for one module.",
        test: "modules_in_memory_are_bounded_and_room_comes_back",
    }
}

/// Memory of the modules of all streams that are put together in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct ModuleMemory {
    most_bytes: usize,
    held_bytes: Arc<AtomicUsize>,
}

impl Default for ModuleMemory {
    fn default() -> Self {
        Self::of(MAX_MODULES_BYTES)
    }
}

impl ModuleMemory {
    /// None held yet, and at most `most_bytes`.
    pub fn of(most_bytes: usize) -> Self {
        Self { most_bytes, held_bytes: Arc::default() }
    }

    /// Bytes in memory, if there is room for them.
    fn claim(&self, length: usize) -> Option<BoundedBytes> {
        let is_full = self.held_bytes.fetch_add(length, Ordering::Relaxed) + length > self.most_bytes;
        if is_full {
            self.held_bytes.fetch_sub(length, Ordering::Relaxed);
            return None;
        }
        Some(BoundedBytes { bytes: vec![0; length], memory: self.clone() })
    }
}

/// Maximum BIOP bytes before a file that is written to its final place: one page, which the object file's header replaces
/// later.
const MAX_HEAD_BYTES: usize = 4096;

/// Storage for the modules of one stream.
#[derive(Debug)]
pub(super) struct Modules {
    store: Store,
    /// Base URL of files without their own, once it is known.
    pub(super) base: Option<String>,
    /// A signed list is in force: only modules that it covers are opened.
    pub(super) is_signed: bool,
    memory: ModuleMemory,
}

impl Modules {
    pub(super) const fn new(store: Store, base: Option<String>, memory: ModuleMemory) -> Self {
        Self { store, base, is_signed: false, memory }
    }

    fn open_in_memory(&self, bytes: u32) -> Option<Buffer> {
        self.memory.claim(bytes as usize).map(Buffer::Memory)
    }

    /// Name of a file for players.
    pub(super) fn name_of(&self, path: &str, description: &Description) -> String {
        let base = self.base.as_deref().unwrap_or_default();
        description.uri.clone().unwrap_or_else(|| format!("{base}{}", encoded(path)))
    }

    /// Cache key of a file.
    pub(super) fn key_of(&self, path: &str, description: &Description) -> Option<ObjectKey> {
        ObjectKey::from_name(&self.name_of(path, description), None).ok()
    }
}

/// Encodes a path of directory names as a URL path (RFC 3986 section 3.3), the form that players request.
fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Storage of a module under reassembly.
#[derive(Debug)]
pub(super) enum Buffer {
    Memory(BoundedBytes),
    /// `before` bytes precede the body of its only file, which has `bytes`.
    File {
        partial: Arc<Partial>,
        before: usize,
        bytes: u64,
    },
}

impl Buffer {
    fn in_file(partial: Partial, before: usize, bytes: u32) -> Self {
        Self::File { partial: Arc::new(partial), before, bytes: u64::from(bytes) }
    }
}

/// A complete module.
#[derive(Debug)]
pub(super) enum CompleteModule {
    Memory(BoundedBytes),
    File(ModuleFile),
}

/// A complete module in a file of the store.
#[derive(Debug)]
pub(super) struct ModuleFile {
    frozen: Frozen,
    before: usize,
    /// Whether its file has become an object's.
    is_taken: AtomicBool,
}

impl ModuleFile {
    /// Takes the body without a copy, if it consists of exactly these bytes of the module and was not taken yet.
    pub(super) fn take(&self, range: &std::ops::Range<usize>) -> Option<&Frozen> {
        let is_body =
            self.before > 0 && range.start == self.before && range.len() == self.frozen.as_slice().len();
        (is_body && !self.is_taken.swap(true, Ordering::Relaxed)).then_some(&self.frozen)
    }
}

/// Memory that counts against the limit until dropped.
#[derive(Debug)]
pub(super) struct BoundedBytes {
    bytes: Vec<u8>,
    memory: ModuleMemory,
}

impl Drop for BoundedBytes {
    fn drop(&mut self) {
        self.memory.held_bytes.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for CompleteModule {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Memory(bounded) => &bounded.bytes,
            Self::File(file) => file.frozen.with_copied_head(),
        }
    }
}

impl ModuleStorage for Modules {
    type Buf = Buffer;
    type Module = CompleteModule;

    fn open(&mut self, bytes: u32, alone: Option<SoleFile<'_>>) -> Option<Buffer> {
        if bytes <= MAX_MEMORY_MODULE_BYTES
            && let Some(buffer) = self.open_in_memory(bytes)
        {
            return Some(buffer);
        }
        // A described file is written to its final place; the BIOP bytes before it use the header's page meanwhile.
        if let Some(alone) =
            alone.filter(|it| it.description.digest.is_some() && it.description.part.is_none())
            && let Ok(before) = usize::try_from(bytes - alone.length)
            && before <= MAX_HEAD_BYTES
            && let Some(key) = self.key_of(alone.path, alone.description)
        {
            let (_, placement) = super::feed::fate(&self.store, key.as_str(), alone.description);
            let digest = alone.description.digest;
            let returns = self.store.returns(key.as_str(), digest);
            let arrival = Arrival { placement, is_signed: self.is_signed, returns };
            let partial = self.store.create_arriving(u64::from(alone.length), arrival).ok()?;
            return Some(Buffer::in_file(partial, before, alone.length));
        }
        self.store.create_unnamed(u64::from(bytes)).ok().map(|it| Buffer::in_file(it, 0, bytes))
    }

    /// Memory first: it is needed for as long as inflating takes, and a cache at its quota has no free room.
    fn open_inflated(&mut self, bytes: u32) -> Option<Buffer> {
        if let Some(buffer) = self.open_in_memory(bytes) {
            return Some(buffer);
        }
        let arrival = Arrival { is_signed: true, ..Arrival::default() };
        let partial = match self.is_signed {
            true => self.store.create_arriving(u64::from(bytes), arrival),
            false => self.store.create_unnamed(u64::from(bytes)),
        };
        partial.ok().map(|it| Buffer::in_file(it, 0, bytes))
    }

    fn write(&mut self, buf: &mut Buffer, offset: u32, bytes: &[u8]) {
        match buf {
            Buffer::Memory(bounded) => bounded.bytes[offset as usize..][..bytes.len()].copy_from_slice(bytes),
            Buffer::File { partial, before, .. } => {
                // After a failure the digest will not match.
                if let Err(err) = partial.write_before(*before, u64::from(offset), bytes) {
                    tracing::debug!(%err, "writing a block failed");
                }
            }
        }
    }

    fn close(&mut self, buf: Buffer) -> Option<CompleteModule> {
        match buf {
            Buffer::Memory(bounded) => Some(CompleteModule::Memory(bounded)),
            Buffer::File { partial, before, bytes } => {
                let frozen = partial.freeze_before(before, bytes).ok()?;
                Some(CompleteModule::File(ModuleFile { frozen, before, is_taken: AtomicBool::new(false) }))
            }
        }
    }

    fn wants(&mut self, path: &str, description: &Description) -> bool {
        if self.base.is_none() && description.uri.is_none() {
            return true;
        }
        // A part is not an object; a file without a valid name cannot be stored.
        let Some(key) = self.key_of(path, description) else { return false };
        description.digest.is_none() || !self.store.holds(key.as_str(), description.digest, 0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreConfig;
    use crate::store::testing::carried;

    #[test]
    fn names_of_people_become_paths_of_urls() {
        assert_eq!(encoded("a b/Süd#1?.html"), "a%20b/S%C3%BCd%231%3F.html");
        assert_eq!(encoded("100%"), "100%25");
    }

    #[test]
    fn modules_in_memory_are_bounded_and_room_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let (store, memory) = (crate::store::testing::open(&folder), ModuleMemory::default());
        // Two carousels, which share the memory.
        let mut modules: Vec<Modules> =
            (0..2).map(|_| Modules::new(store.clone(), None, memory.clone())).collect();
        let mut open = |at: usize| modules[at % 2].open(MAX_MEMORY_MODULE_BYTES, None).unwrap();
        let count = MAX_MODULES_BYTES / MAX_MEMORY_MODULE_BYTES as usize;
        let mut all: Vec<Buffer> = (0..count).map(&mut open).collect();
        assert!(all.iter().all(|it| matches!(it, Buffer::Memory(_))));
        assert!((0..2).all(|at| matches!(open(at), Buffer::File { .. })));
        all.pop();
        assert!(matches!(open(0), Buffer::Memory(_)));
        assert!(matches!(modules[0].open(MAX_MEMORY_MODULE_BYTES + 1, None), Some(Buffer::File { .. })));
    }

    #[test]
    fn a_long_module_is_received_by_a_cache_at_its_quota() {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            path: folder.path().join("cache"),
            reserve_bytes: 0,
            quota_bytes: 48 << 20,
            memory_bytes: 1 << 20,
            ..StoreConfig::default()
        };
        let store = Store::open(&config).unwrap().0;
        for number in 0..48 {
            let (frozen, meta) = carried(&store, &format!("h/{number}"), &vec![number; 1 << 20]);
            store.publish(&frozen, meta).unwrap();
        }
        let mut modules = Modules::new(store, None, ModuleMemory::default());
        let piece = vec![7; 1 << 20];
        let inflated = |modules: &mut Modules, pieces: u32| {
            let mut buffer = modules.open_inflated(pieces << 20)?;
            (0..pieces).for_each(|at| modules.write(&mut buffer, at << 20, &piece));
            modules.close(buffer)
        };
        let is_right = |module: CompleteModule| module.as_ref().iter().all(|it| *it == 7);
        assert!(inflated(&mut modules, 2).is_some_and(is_right));
        assert!(inflated(&mut modules, 17).is_none(), "what nobody has signed evicts nothing");
        modules.is_signed = true;
        assert!(inflated(&mut modules, 17).is_some_and(is_right));
    }
}
