//! The files of a source: a bounded walk that leaves out what is hidden or temporary.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{MAX_OBJECTS, Problem};

/// Nesting of folders; packagers use three or four.
const MAX_DEPTH: usize = 16;
/// Problems listed; a manifest with a thousand missing segments has one cause.
pub(super) const MAX_PROBLEMS: usize = 1000;

/// Files by their path below the source's folder, as the file system has it.
pub type Files = BTreeMap<String, FileOnDisk>;

/// A file on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOnDisk {
    /// Where it is.
    pub file: PathBuf,
    /// Bytes.
    pub length: u64,
    /// Modification time, nanoseconds since 1970.
    pub modified_ns: i128,
    /// Its writer has closed it, as far as that can be known.
    pub is_finished: bool,
}

/// A folder of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// Path below the source's folder; empty or with a slash at its end.
    pub prefix: String,
    /// Folders above it within the source.
    pub depth: usize,
}

impl Folder {
    /// The folder that a source is.
    pub fn root(path: &Path) -> Self {
        Self { path: path.to_owned(), prefix: String::new(), depth: 0 }
    }
}

/// Ends of names that files have until they are finished.
const TEMPORARY: [&str; 6] = [".tmp", ".part", ".temp", ".swp", ".filepart", ".crdownload"];

/// Whether a file of this name is left out: hidden, or temporary until it is renamed.
pub fn is_temporary(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    name.starts_with('.') || TEMPORARY.iter().any(|end| lower.ends_with(end))
}

/// The name that a file with a temporary one gets; `None` if it is hidden.
pub fn name_later(name: &str) -> Option<&str> {
    let lower = name.to_ascii_lowercase();
    let end = TEMPORARY.iter().find(|end| lower.ends_with(*end))?;
    name.get(..name.len() - end.len()).filter(|later| !is_temporary(later) && !later.is_empty())
}

/// What is at `path`, if that is a regular file.
pub fn look(path: &Path) -> Option<FileOnDisk> {
    let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let modified_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    Some(FileOnDisk { file: path.to_owned(), length: metadata.len(), modified_ns, is_finished: true })
}

/// All files below `start`, and the folders that they are in. Hidden and temporary files, and what is no regular file, are
/// left out. Symbolic links are followed; a folder that was seen before is not walked again, so that no loop is.
///
/// # Errors
/// If `start` itself cannot be read.
pub fn walk(start: Folder, problems: &mut Vec<Problem>) -> io::Result<(Files, Vec<Folder>)> {
    let (mut files, mut seen, mut walked) = (BTreeMap::new(), HashSet::new(), Vec::new());
    let top = start.depth;
    let place = start.path.display().to_string();
    if let Ok(metadata) = std::fs::metadata(&start.path) {
        seen.insert((metadata.dev(), metadata.ino()));
    }
    let mut folders = vec![start];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder.path) {
            Ok(entries) => entries,
            Err(err) if folder.depth == top => return Err(err),
            // A live packager removes folders too.
            Err(_) => continue,
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                let what = "a file whose name is not UTF-8 is left out".to_owned();
                problems.push(Problem { place: folder.path.display().to_string(), what, mend: "rename it" });
                continue;
            };
            if is_temporary(name) {
                continue;
            }
            let path = format!("{}{name}", folder.prefix);
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() || (kind.is_symlink() && entry.path().is_dir()) {
                let identity = std::fs::metadata(entry.path()).map(|it| (it.dev(), it.ino()));
                if folder.depth < MAX_DEPTH && identity.is_ok_and(|identity| seen.insert(identity)) {
                    folders.push(Folder {
                        path: entry.path(),
                        prefix: format!("{path}/"),
                        depth: folder.depth + 1,
                    });
                }
            } else if let Some(file) = look(&entry.path()) {
                if files.len() >= MAX_OBJECTS {
                    let what = format!("more than {MAX_OBJECTS} files; the rest is left out");
                    problems.push(Problem { place, what, mend: "split the source" });
                    return Ok((files, walked));
                }
                files.insert(path, file);
            }
        }
        walked.push(folder);
    }
    Ok((files, walked))
}
