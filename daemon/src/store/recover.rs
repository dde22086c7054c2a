//! The index from the files, at a start.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use super::StoredObject;
use super::file::{self, LINKING, OBJECTS};
use super::format::{BadHeader, HEADER_BYTES, decode};
use super::index::Index;

/// What a start found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Objects taken into the index.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files removed: cut short, torn, or left between two steps of publishing.
    pub removed: u64,
    /// Files of a newer format, left alone.
    pub newer: u64,
    /// Whether the last run ended in order; if not, each object is verified at its first use.
    pub clean: bool,
}

impl std::fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { objects, bytes, removed, newer, clean } = self;
        let state = if *clean {
            "left in order"
        } else {
            "not left in order: each object is verified at its first use"
        };
        write!(
            f,
            "{objects} objects, {bytes} bytes, {removed} torn files removed, {newer} of a newer format, {state}"
        )
    }
}

/// Reads every header. Files are taken in the order of their modification, so that LRU order survives roughly.
pub(super) fn recover(folder: &Path, quota_bytes: u64) -> io::Result<(Index, RecoveryReport)> {
    let mut report = RecoveryReport { clean: file::take_clean_mark(folder), ..RecoveryReport::default() };
    let mut found = Vec::new();
    walk(&folder.join(OBJECTS), 0, &mut report, &mut found)?;
    found.sort_by_key(|(modified, ..)| *modified);
    let mut index = Index::new();
    for (_, path, meta) in found {
        report.objects += 1;
        report.bytes += meta.length + HEADER_BYTES as u64;
        index.insert(Arc::new(StoredObject {
            meta,
            path,
            mapping: OnceLock::new(),
            verified: AtomicBool::new(report.clean),
        }));
    }
    // The quota may have been lowered.
    for object in index.shrink_to(quota_bytes).unwrap_or_default() {
        file::remove(&object.path);
        report.objects -= 1;
    }
    Ok((index, report))
}

type Found = (std::time::SystemTime, PathBuf, super::ObjectMeta);

fn walk(folder: &Path, depth: u32, report: &mut RecoveryReport, found: &mut Vec<Found>) -> io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth < 2 {
            walk(&path, depth + 1, report, found)?;
        } else if kind.is_file() {
            match examine(&path) {
                Ok(one) if file::object_path(root_of(&path), one.1.key.as_str()) == path => {
                    found.push((one.0, path, one.1));
                }
                Err(BadHeader::Newer) => report.newer += 1,
                // A leftover, damage, or a file under a name that is not its own.
                Ok(_) | Err(BadHeader::Damaged) => {
                    file::remove(&path);
                    report.removed += 1;
                }
            }
        }
    }
    Ok(())
}

/// The store's folder, four levels above an object.
fn root_of(path: &Path) -> &Path {
    path.ancestors().nth(4).unwrap_or(path)
}

fn examine(path: &Path) -> Result<(std::time::SystemTime, super::ObjectMeta), BadHeader> {
    if path.to_string_lossy().ends_with(LINKING) {
        return Err(BadHeader::Damaged);
    }
    let damaged = |_| BadHeader::Damaged;
    let mut file = File::open(path).map_err(damaged)?;
    let metadata = file.metadata().map_err(damaged)?;
    let mut page = vec![0; HEADER_BYTES];
    file.read_exact(&mut page).map_err(damaged)?;
    let meta = decode(&page)?;
    let whole = meta.length.checked_add(HEADER_BYTES as u64) == Some(metadata.len());
    if whole { Ok((metadata.modified().map_err(damaged)?, meta)) } else { Err(BadHeader::Damaged) }
}
