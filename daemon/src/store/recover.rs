//! Rebuilding of the index from files at start.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use super::file::{self, LINKING, OBJECTS};
use super::format::{BadHeader, HEADER_BYTES, ObjectMeta, decode};
use super::index::Index;
use super::object::Root;
use super::{PARTIAL_SHARE, StoreConfig, StoredObject, Tier, purge, resume, snapshot};
use crate::clock;

/// Result of a recovery.
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
    /// Bytes of partials that can be resumed.
    pub partial_bytes: u64,
    /// Whether the last stop was clean; if not, each object is verified at its first use.
    pub clean: bool,
    /// Whether the index was read from a snapshot instead of the files.
    pub from_snapshot: bool,
}

impl std::fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { objects, bytes, removed, newer, clean, partial_bytes, .. } = self;
        let state = if *clean {
            "left in order"
        } else {
            "not left in order: each object is verified at its first use"
        };
        write!(
            f,
            "{objects} objects, {bytes} bytes, {removed} torn files removed, {newer} of a newer format, {partial_bytes} bytes to go on with, {state}"
        )
    }
}

/// The index from the snapshot after a clean stop, else from every header.
pub(super) fn recover(root: &Arc<Root>, config: &StoreConfig) -> io::Result<(Index, RecoveryReport)> {
    let folder = &root.folder;
    let mut report = RecoveryReport::default();
    let mut index = Index::new(config.eviction);
    let (partial_bytes, removed) = resume::sweep(folder, config.quota_bytes / PARTIAL_SHARE / 2);
    (report.partial_bytes, report.removed) = (partial_bytes, removed + purge::finish(folder));
    let metas = match snapshot::take(folder) {
        Some(metas) => {
            (report.clean, report.from_snapshot) = (true, true);
            metas
        }
        None => {
            let mut found = Vec::new();
            walk(&folder.join(OBJECTS), 0, &mut report, &mut found)?;
            // In the order of their modification, so that the order of use survives roughly.
            found.sort_by_key(|(modified, _)| *modified);
            // An empty folder cannot be inconsistent.
            report.clean = found.is_empty();
            found.into_iter().map(|(_, meta)| meta).collect()
        }
    };
    for mut meta in metas {
        // The date was not known when it came: its age is unknown.
        if clock::is_unknown(meta.received_at) {
            meta.received_at = clock::steady();
            meta.expires = meta.response.as_ref().map(|_| meta.received_at).or(meta.expires);
        }
        report.objects += 1;
        report.bytes += meta.length + HEADER_BYTES as u64;
        index.insert(StoredObject::found(meta, root, report.clean));
    }
    // The quota may have been lowered.
    for object in index.shrink(Tier::Flash, config.quota_bytes, None).0 {
        object.unlink();
        report.objects -= 1;
    }
    Ok((index, report))
}

type Found = (std::time::SystemTime, ObjectMeta);

fn walk(folder: &Path, depth: u32, report: &mut RecoveryReport, found: &mut Vec<Found>) -> io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth < 2 {
            walk(&path, depth + 1, report, found)?;
        } else if kind.is_file() {
            match examine(&path) {
                Ok(one) if file::object_path(root_of(&path), one.1.key.as_str()) == path => {
                    found.push(one);
                }
                Err(BadHeader::Newer) => report.newer += 1,
                // A leftover, a damaged file, or a file under the wrong name.
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

fn examine(path: &Path) -> Result<Found, BadHeader> {
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
