//! Snapshot of the index, for a quick start after a clean stop.
//!
//! ```text
//!    0   8  "SKYINDEX"
//!    8   4  version, little-endian: 1
//!   12   4  number of objects
//!   16  32  SHA-256 of what follows
//!   48   …  for each object, in eviction order: length (4 bytes) and metadata, as in its header
//! ```
//!
//! It exists only after a clean stop: a start removes it before anything else may change.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use carousel::digest::Digest;

use super::format::{self, ObjectMeta};
use super::{StoredObject, Tier};

const FILE: &str = "index.snapshot";
const MAGIC: &[u8; 8] = b"SKYINDEX";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 48;

carousel::limits! {
    /// Snapshot of the index.
    const MAX_BYTES: u64 = 1 << 30, "bytes" {
        why: "A million objects of 400 bytes take less than half.",
        full: "The snapshot is removed unread; the folders are walked instead.",
        free: "With the next snapshot.",
        test: "a_snapshot_beyond_the_limit_is_removed_unread",
    }
}

/// Writes the objects of the flash tier, given in the order of [`super::index::Index::list`].
pub(super) fn write(folder: &Path, objects: &[Arc<StoredObject>]) -> io::Result<()> {
    let fresh = folder.join("index.new");
    let mut body = Vec::new();
    let mut count = 0_u32;
    for object in objects.iter().rev().filter(|object| object.tier() == Tier::Flash) {
        let Some(metadata) = format::metadata(object.meta()) else { continue };
        body.extend_from_slice(&(metadata.len() as u32).to_le_bytes());
        body.extend_from_slice(&metadata);
        count += 1;
    }
    let mut file = fs::File::create(&fresh)?;
    file.write_all(MAGIC)?;
    file.write_all(&VERSION.to_le_bytes())?;
    file.write_all(&count.to_le_bytes())?;
    file.write_all(&Digest::of(&body).0)?;
    file.write_all(&body)?;
    // The snapshot will be trusted: sync its bytes before linking its name.
    file.sync_all()?;
    fs::rename(&fresh, folder.join(FILE))
}

/// Reads the snapshot and removes it: from here on a stop without `close` is unclean. `None` if absent or damaged.
pub(super) fn take(folder: &Path) -> Option<Vec<ObjectMeta>> {
    let path = folder.join(FILE);
    let length = fs::metadata(&path).ok()?.len();
    let bytes = if length <= MAX_BYTES { fs::read(&path).ok() } else { None };
    fs::remove_file(&path).ok()?;
    read(&bytes?)
}

fn read(bytes: &[u8]) -> Option<Vec<ObjectMeta>> {
    let (head, mut body) = bytes.split_at_checked(HEAD_BYTES)?;
    let word =
        |at: usize| head.get(at..).and_then(|it| it.first_chunk::<4>()).map(|it| u32::from_le_bytes(*it));
    if &head[..8] != MAGIC || word(8)? != VERSION || head[16..48] != Digest::of(body).0 {
        return None;
    }
    let mut objects = Vec::with_capacity((word(12)? as usize).min(body.len() / 100));
    while !body.is_empty() {
        let (length, rest) = body.split_first_chunk::<4>()?;
        let (metadata, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        objects.push(format::parse_metadata(metadata)?);
        body = rest;
    }
    (objects.len() == word(12)? as usize).then_some(objects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), good in any::<bool>()) {
            if good && bytes.len() > HEAD_BYTES {
                bytes[..8].copy_from_slice(MAGIC);
                bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
                let digest = Digest::of(&bytes[HEAD_BYTES..]);
                bytes[16..48].copy_from_slice(&digest.0);
            }
            let _ = read(&bytes);
        }
    }

    #[test]
    fn a_snapshot_beyond_the_limit_is_removed_unread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        write(folder.path(), &[]).unwrap();
        // Holes: no bytes of the disk.
        fs::File::options().append(true).open(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(take(folder.path()).is_none());
        assert!(!path.exists());
        write(folder.path(), &[]).unwrap();
        assert!(take(folder.path()).unwrap().is_empty());
    }
}
