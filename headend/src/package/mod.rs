//! Packaged HLS and DASH on disk, read into an [`Inventory`]: presentations, their rungs, and all referenced objects.
//!
//! ```text
//! folder ─ tree ─▶ files ─┬ playlists ─ hls  ─┐
//!                         └ MPDs ────── dash ─┴─ reading ─ refer, check ─▶ Inventory { presentations, objects, left_out }
//! ```
//!
//! An unsupported manifest or part of one is left out with its reason; the rest is carried. Media are opaque except for
//! faults that make them unplayable (`check`); nothing is hashed here. `scan` prints an inventory, `air` sends it.
//! `DESIGN.md` explains the treatment of names, queries and unfinished files.

mod check;
mod dash;
mod hls;
mod inventory;
mod manifest_error;
pub mod media;
mod reading;
mod refer;
pub mod tree;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use carousel::query::IgnoredQuery;
use carousel::time::WallTime;

pub use inventory::{
    Inventory, Kind, LeftOut, LeftOutReason, ObjectSource, Presentation, Problem, Role, Rung, TrackKind,
};
use reading::Reading;
pub use refer::content_type;
pub(crate) use refer::{decode, encode};
use tree::{FileOnDisk, Files, Folder};

use crate::clock::{Clocks as _, SystemClocks};

carousel::limits! {
    /// Manifest of a source.
    const MAX_MANIFEST_BYTES: u64 = 16 << 20, "bytes" {
        why: "A day of 2-second segments in one playlist is 4 MB.",
        full: "The manifest is left out as `not_understood`; one that was read before stays in force.",
        free: "When the file is rewritten.",
        test: "long_manifests_and_deep_folders_are_left_out",
    }

    /// Most objects of one source, and files that are read.
    pub const MAX_OBJECTS: usize = 1_000_000, "objects" {
        why: "A season of an event in segments of 2 s, in ten renditions, has as many.",
        full: "Further files are left out; a Representation of more segments is left out.",
        free: "When files are removed.",
        test: "hostile_counts_and_templates_leave_their_representation_out",
    }
}

/// Error of reading a source.
#[derive(Debug)]
pub enum PackageError {
    /// The source does not exist or cannot be read.
    Io(PathBuf, std::io::Error),
    /// It has nothing to carry; the problems have the reasons.
    Nothing(PathBuf, Vec<Problem>),
    /// The file is not a manifest.
    NoManifest(PathBuf),
}

impl fmt::Display for PackageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, err) => {
                let fix = if err.kind() == std::io::ErrorKind::PermissionDenied {
                    "give this user the right to read it and the folders above"
                } else {
                    "give a directory with packaged HLS or DASH, or a manifest"
                };
                write!(f, "{}: {}; {fix}", path.display(), carousel::config::plain(err))
            }
            Self::NoManifest(path) => write!(
                f,
                "{}: it is not a manifest of HLS (.m3u8) or DASH (.mpd); give the folder or manifest that a packager has made of it, \
                 as `ffmpeg -i IN.mp4 -c copy -f hls -hls_playlist_type vod -hls_segment_type fmp4 DIR/film.m3u8` does",
                path.display()
            ),
            Self::Nothing(path, problems) => {
                write!(f, "{}: nothing to carry", path.display())?;
                if problems.is_empty() {
                    f.write_str(": it is empty; put packaged HLS or DASH into it, or name another folder")?;
                }
                problems.iter().take(5).try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for PackageError {}

/// Options for reading a source.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Also carry unreferenced files.
    pub include_unreferenced: bool,
    /// The URL of the directory: absolute references below it count as local.
    pub base: String,
    /// Query parameters that do not distinguish objects. `None`: derived from the manifests.
    pub ignored_query: Option<IgnoredQuery>,
    /// The time for live windows; `None` is now.
    pub now: Option<WallTime>,
    /// A live source: manifests that are half written or ahead of their segments are held.
    pub is_following: bool,
    /// Folders outside the source to which links in it may lead.
    pub links_to: Vec<PathBuf>,
    /// The folder is filled from an origin, by [`crate::pull`].
    pub is_pulled: bool,
}

/// Reads a directory, or for a manifest its directory with only that manifest and its references.
///
/// # Errors
/// [`PackageError`] if there is nothing to carry.
pub fn read(source: &Path, options: &Options) -> Result<Inventory, PackageError> {
    Reader::new(source, options.clone())?.read()
}

/// The last complete version of a manifest.
#[derive(Debug, Clone)]
struct GoodManifest {
    length: u64,
    modified_ns: i128,
    bytes: Arc<[u8]>,
}

/// Result of a check, valid while the file is unchanged.
#[derive(Debug, Clone)]
struct CheckResult {
    length: u64,
    modified_ns: i128,
    expected: check::DeclaredProperties,
    fault: Option<check::Fault>,
}

/// A file of which ranges are carried.
#[derive(Debug, Clone, Copy, Default)]
struct Growing {
    /// Its last length in bytes.
    length: u64,
    /// Number of times that it became shorter, because its packager restarted and its ranges have other bytes.
    beginnings: i128,
}

/// State kept between readings of a source.
#[derive(Debug, Default)]
struct Memory {
    manifests: HashMap<String, GoodManifest>,
    checks: HashMap<String, CheckResult>,
    /// Growing files by path. Kept when their presentation ends, so that ranges are not sent again as files.
    growing: HashMap<String, Growing>,
}

/// Repeated reader of one source: half-written manifests do not replace complete ones, and unchanged files are not
/// checked again.
#[derive(Debug)]
pub struct Reader {
    source: PathBuf,
    root: PathBuf,
    /// The name of the only manifest.
    only: Option<String>,
    options: Options,
    memory: Memory,
}

impl Reader {
    /// A reader of a directory or manifest.
    ///
    /// # Errors
    /// [`PackageError::Io`] if it is not there.
    pub fn new(source: &Path, options: Options) -> Result<Self, PackageError> {
        let metadata = std::fs::metadata(source).map_err(|err| PackageError::Io(source.to_owned(), err))?;
        let (root, only) = if metadata.is_dir() {
            (source.to_owned(), None)
        } else {
            let name = source.file_name().map(|name| name.to_string_lossy().into_owned());
            // The parent of a bare name is empty, which is invalid for system calls.
            let folder = source.parent().filter(|folder| !folder.as_os_str().is_empty());
            (folder.unwrap_or_else(|| Path::new(".")).to_owned(), name)
        };
        Ok(Self { source: source.to_owned(), root, only, options, memory: Memory::default() })
    }

    /// The folder of the source.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Folders outside the source to which links in it may lead.
    pub fn links_to(&self) -> &[PathBuf] {
        &self.options.links_to
    }

    /// Walks the folder and reads it.
    ///
    /// # Errors
    /// [`PackageError`] if there is nothing to carry.
    pub fn read(&mut self) -> Result<Inventory, PackageError> {
        let mut problems = Vec::new();
        let walked = Folder::root(&self.root, &self.options.links_to)
            .and_then(|start| tree::walk(start, &mut problems));
        let (files, _) = walked.map_err(|err| PackageError::Io(self.source.clone(), err))?;
        self.read_files(&files, problems)
    }

    /// Reads the files found by a walk.
    ///
    /// # Errors
    /// [`PackageError::Nothing`] if there is nothing to carry.
    pub fn read_files(&mut self, files: &Files, problems: Vec<Problem>) -> Result<Inventory, PackageError> {
        let now = self.options.now.unwrap_or_else(|| SystemClocks::new().wall());
        let inventory = Inventory { root: self.root.clone(), problems, ..Inventory::default() };
        let reading = Reading::new(files, &self.options, now, &mut self.memory, inventory);
        let inventory = reading.read(self.only.as_deref());
        self.memory.checks.retain(|path, _| files.contains_key(path));
        self.memory.manifests.retain(|path, _| files.contains_key(path));
        self.memory.growing.retain(|path, _| files.contains_key(path));
        if inventory.objects.is_empty() {
            if self.only.as_deref().is_some_and(|name| !crate::options::has_manifest_name(name)) {
                return Err(PackageError::NoManifest(self.source.clone()));
            }
            return Err(PackageError::Nothing(self.source.clone(), inventory.problems));
        }
        Ok(inventory)
    }
}

/// The newest segment of each live rendition, by the name parts before and after its last number. Later segments match
/// these parts.
pub(crate) fn live_patterns(inventory: &Inventory) -> HashMap<(String, String), String> {
    let segments = inventory.live_rungs().flat_map(|rung| &rung.segments);
    segments.filter_map(|path| Some((pattern(&decode(path))?, path.clone()))).collect()
}

/// Parts of a file's name before and after its last number.
pub(crate) fn pattern(path: &str) -> Option<(String, String)> {
    reading::numbered(path)
}

/// Changes between two readings of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// New or changed objects; segments and init segments before manifests, so that nothing is announced before it
    /// exists.
    pub added: Vec<ObjectSource>,
    /// Removed objects, or those replaced by one in `added`.
    pub removed: Vec<String>,
}

/// Compares by path, length and modification time.
pub fn changes(old: &Inventory, new: &Inventory) -> Changes {
    let mut changes = Changes::default();
    for (path, object) in &new.objects {
        match old.objects.get(path) {
            Some(before) if before == object => {}
            before => {
                if before.is_some() {
                    changes.removed.push(path.clone());
                }
                changes.added.push(object.clone());
            }
        }
    }
    changes.removed.extend(old.objects.keys().filter(|path| !new.objects.contains_key(*path)).cloned());
    let start = |object: &ObjectSource| object.range.as_ref().map_or(0, |range| range.start);
    changes.added.sort_by_key(|object| (object.role == Role::Manifest, object.modified_ns, start(object)));
    changes
}

impl FileOnDisk {
    fn object(&self, path: &str, role: Role) -> ObjectSource {
        ObjectSource {
            path: path.to_owned(),
            file: self.file.clone(),
            length: self.length,
            range: None,
            modified_ns: self.modified_ns,
            content_type: content_type(path),
            role,
            bytes: None,
        }
    }
}

#[cfg(test)]
mod tests;
