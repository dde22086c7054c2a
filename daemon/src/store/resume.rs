//! Checkpoints of large partial objects, which survive a power cut: a named file, and a map of the symbols in it.
//!
//! ```text
//! partial/<40 hex digits>       header page (empty), body with holes
//! partial/<40 hex digits>.map   0  8 "SKYPARTL" │ 8  4 version: 1 │ 12  4 symbol length │ 16  8 length
//!                               24 32 SHA-256 of the bit map │ 56 … bit map, a bit a symbol, little-endian words
//! ```
//!
//! Order of steps: write symbols to the file, `fdatasync`, write the map beside it by rename. A map never claims symbols that
//! are not on the disk; if it did, the object's digest would not match.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use carousel::digest::Digest;
use carousel::fec::SymbolMap;

use super::format::HEADER_BYTES;

/// Folder below the store's.
pub(super) const PARTIALS: &str = "partial";
const MAP: &str = "map";
const MAGIC: &[u8; 8] = b"SKYPARTL";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 56;
/// Partials without progress for this long are discarded: no carousel's cycle takes two days.
const MOST_AGE: Duration = Duration::from_secs(2 * 86_400);

/// Path of the partial of this identity.
pub(super) fn path_of(folder: &Path, identity: &Digest) -> PathBuf {
    folder.join(PARTIALS).join(&identity.to_hex()[..40])
}

/// Opens the partial of an object and fills `map` with its symbols, or creates it.
pub(super) fn open(path: &Path, length: u64, map: &SymbolMap) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let bytes = length + HEADER_BYTES as u64;
    if let Some(words) = read_map(path, map)
        && let Ok(file) = OpenOptions::new().read(true).write(true).open(path)
        && file.metadata()?.len() >= bytes
    {
        map.restore(&words);
        return Ok(file);
    }
    let _ = fs::remove_file(path.with_extension(MAP));
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // Sparse: symbols that never arrive take no room.
    file.set_len(bytes)?;
    Ok(file)
}

/// Writes a checkpoint of the file: `words` is the map as it was when all its symbols were written.
pub(super) fn checkpoint(path: &Path, file: &File, map: &SymbolMap, words: &[u64]) -> io::Result<()> {
    file.sync_data()?;
    let bits: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut bytes = Vec::with_capacity(HEAD_BYTES + bits.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(map.symbol_length() as u32).to_le_bytes());
    bytes.extend_from_slice(&map.length().to_le_bytes());
    bytes.extend_from_slice(&Digest::of(&bits).0);
    bytes.extend_from_slice(&bits);
    let fresh = path.with_extension("new");
    fs::write(&fresh, bytes)?;
    fs::rename(fresh, path.with_extension(MAP))
}

/// The map beside a file, if it belongs to this object.
fn read_map(path: &Path, map: &SymbolMap) -> Option<Vec<u64>> {
    let bytes = fs::read(path.with_extension(MAP)).ok()?;
    let (head, bits) = bytes.split_at_checked(HEAD_BYTES)?;
    let is_ours = &head[..8] == MAGIC
        && head[8..12] == VERSION.to_le_bytes()
        && head[12..16] == (map.symbol_length() as u32).to_le_bytes()
        && head[16..24] == map.length().to_le_bytes()
        && head[24..56] == Digest::of(bits).0
        && bits.len() as u64 == map.symbols().div_ceil(64) * 8;
    is_ours.then(|| bits.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
}

/// Removes a partial.
pub(super) fn remove(path: &Path) {
    let _ = fs::remove_file(path.with_extension(MAP));
    let _ = fs::remove_file(path);
}

/// Removes the map of an object that is complete.
pub(super) fn forget_map(path: &Path) {
    let _ = fs::remove_file(path.with_extension(MAP));
}

/// Partials without a map, and maps without a partial.
pub(super) fn torn(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder.join(PARTIALS)) else { return 0 };
    let is_torn = |path: &PathBuf| {
        let other =
            if path.extension().is_some() { path.with_extension("") } else { path.with_extension(MAP) };
        !other.exists()
    };
    entries.flatten().map(|entry| entry.path()).filter(is_torn).count() as u64
}

/// Removes partials at start that are old, have no map, or exceed `most_bytes`, oldest first. Returns the bytes kept and the
/// number of files removed.
pub(super) fn sweep(folder: &Path, most_bytes: u64) -> (u64, u64) {
    let Ok(entries) = fs::read_dir(folder.join(PARTIALS)) else { return (0, 0) };
    let (mut kept, mut removed) = (Vec::new(), 0);
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_some() {
            // A map without its partial, or an incomplete map.
            if !path.with_extension("").exists() || path.extension().is_some_and(|it| it != MAP) {
                removed += u64::from(fs::remove_file(&path).is_ok());
            }
            continue;
        }
        let Ok(metadata) = entry.metadata() else { continue };
        let is_old = metadata.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > MOST_AGE));
        if is_old || !path.with_extension(MAP).exists() {
            remove(&path);
            removed += 1;
        } else {
            kept.push((metadata.modified().ok(), metadata.len(), path));
        }
    }
    kept.sort();
    let mut bytes: u64 = kept.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in kept {
        if bytes <= most_bytes {
            break;
        }
        remove(&path);
        (bytes, removed) = (bytes - length, removed + 1);
    }
    (bytes, removed)
}
