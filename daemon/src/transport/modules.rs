//! Where modules of carousels lie while they come: short ones in memory, long ones in an unnamed file of the store.

use std::sync::Arc;

use carousel::ObjectKey;
use carousel::dsmcc::{Description, ModuleStorage};

use crate::receive::Shared;
use crate::store::{Frozen, Partial};

/// Modules up to this are put together in memory.
const MAX_MEMORY_MODULE_BYTES: u32 = 1 << 20;
/// Bytes of such modules at a time, of one stream: a box has 512 MB for everything.
const MAX_MEMORY_BYTES: usize = 16 << 20;

/// Lends room for modules of one stream.
#[derive(Debug)]
pub(super) struct Modules {
    pub(super) shared: Arc<Shared>,
    /// URL before the paths of files that do not say their own, once that is known.
    pub(super) base: Option<String>,
    in_memory: Arc<std::sync::atomic::AtomicUsize>,
}

impl Modules {
    pub(super) fn new(shared: Arc<Shared>, base: Option<String>) -> Self {
        Self { shared, base, in_memory: Arc::default() }
    }

    /// Name of a file as players know it.
    pub(super) fn name_of(&self, path: &str, description: &Description) -> String {
        let base = self.base.as_deref().unwrap_or_default();
        description.uri.clone().unwrap_or_else(|| format!("{base}{}", encoded(path)))
    }

    /// Cache key of a file.
    pub(super) fn key_of(&self, path: &str, description: &Description) -> Option<ObjectKey> {
        ObjectKey::from_name(&self.name_of(path, description), None).ok()
    }
}

/// A path of names from a directory as the path of a URL (RFC 3986 section 3.3): what players ask for.
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

/// A module that is coming.
#[derive(Debug)]
pub(super) enum Room {
    Memory(Lent),
    File { partial: Arc<Partial>, bytes: u64 },
}

/// A module that is whole.
#[derive(Debug)]
pub(super) enum Whole {
    Memory(Lent),
    File(Frozen),
}

/// Memory that counts against the bound for as long as it is held.
#[derive(Debug)]
pub(super) struct Lent {
    bytes: Vec<u8>,
    in_memory: Arc<std::sync::atomic::AtomicUsize>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.in_memory.fetch_sub(self.bytes.len(), std::sync::atomic::Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Memory(lent) => &lent.bytes,
            Self::File(frozen) => frozen.as_slice(),
        }
    }
}

impl ModuleStorage for Modules {
    type Buf = Room;
    type Whole = Whole;

    fn open(&mut self, bytes: u32) -> Option<Room> {
        let length = bytes as usize;
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        if bytes <= MAX_MEMORY_MODULE_BYTES {
            if self.in_memory.fetch_add(length, relaxed) + length <= MAX_MEMORY_BYTES {
                let in_memory = Arc::clone(&self.in_memory);
                return Some(Room::Memory(Lent { bytes: vec![0; length], in_memory }));
            }
            self.in_memory.fetch_sub(length, relaxed);
        }
        let partial = self.shared.store.create_unnamed(u64::from(bytes)).ok()?;
        Some(Room::File { partial: Arc::new(partial), bytes: u64::from(bytes) })
    }

    fn write(&mut self, buf: &mut Room, offset: u32, bytes: &[u8]) {
        match buf {
            Room::Memory(lent) => lent.bytes[offset as usize..][..bytes.len()].copy_from_slice(bytes),
            Room::File { partial, .. } => {
                // What fails here fails the digest later.
                if let Err(err) = partial.write_at(u64::from(offset), bytes) {
                    tracing::debug!(%err, "writing a block failed");
                }
            }
        }
    }

    fn close(&mut self, buf: Room) -> Option<Whole> {
        match buf {
            Room::Memory(lent) => Some(Whole::Memory(lent)),
            Room::File { partial, bytes } => partial.freeze(bytes).ok().map(Whole::File),
        }
    }

    fn wants(&mut self, path: &str, description: &Description) -> bool {
        if self.base.is_none() && description.uri.is_none() {
            return true;
        }
        // A part is no object that could be held; what cannot be named cannot be kept.
        let Some(key) = self.key_of(path, description) else { return false };
        description.digest.is_none() || !self.shared.store.holds(key.as_str(), description.digest, 0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_people_become_paths_of_urls() {
        assert_eq!(encoded("a b/Süd#1?.html"), "a%20b/S%C3%BCd%231%3F.html");
        assert_eq!(encoded("100%"), "100%25");
    }
}
