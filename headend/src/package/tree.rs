//! Files of a source: a bounded walk without hidden and temporary files, special files, and links that lead out of the
//! source.
//!
//! Found paths have no symbolic links: a link is resolved once, here, and its target is checked. `sys::open_source_file`
//! then refuses a path with a new link, so the sent file is the checked one.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{MAX_OBJECTS, Problem};

carousel::limits! {
    /// Nesting of folders of a source.
    const MAX_DEPTH: usize = 16, "folders" {
        why: "Packagers use three or four.",
        full: "Folders further down are not walked.",
        free: "When the files lie higher up.",
        test: "long_manifests_and_deep_folders_are_left_out",
    }

    /// Problems of a source that are listed.
    pub(super) const MAX_PROBLEMS: usize = 1000, "problems" {
        why: "A manifest with a thousand missing segments has one cause.",
        full: "Further ones are not listed; what is left out is counted all the same.",
        free: "With the next reading.",
        test: "problems_are_listed_up_to_a_bound",
    }
}

/// Files by their path below the source's folder, as in the file system.
pub type Files = BTreeMap<String, FileOnDisk>;

/// A file on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOnDisk {
    /// Path of the file, without symbolic links.
    pub file: PathBuf,
    /// Bytes.
    pub length: u64,
    /// Modification time, nanoseconds since 1970.
    pub modified_ns: i128,
    /// Its writer has closed it, as far as known.
    pub is_finished: bool,
}

/// A folder of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Path of the folder.
    pub path: PathBuf,
    /// Path below the source's folder; empty or with a trailing slash.
    pub prefix: String,
    /// Its depth within the source.
    pub depth: usize,
    /// Permitted targets of links.
    pub bounds: Arc<Bounds>,
}

impl Folder {
    /// The root folder of a source; links in it may also lead to `links_to`.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn root(path: &Path, links_to: &[PathBuf]) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let others = links_to.iter().filter_map(|it| it.canonicalize().ok());
        let bounds = Bounds(std::iter::once(path.clone()).chain(others).collect());
        Ok(Self { path, prefix: String::new(), depth: 0, bounds: Arc::new(bounds) })
    }
}

/// Permitted folders of the files of a source.
#[derive(Debug, PartialEq, Eq)]
pub struct Bounds(Vec<PathBuf>);

/// Target of a name in a folder.
enum DirectoryEntry {
    Folder(PathBuf, std::fs::Metadata),
    File(FileOnDisk),
    /// Left out, and why.
    LeftOut(&'static str, &'static str),
    Nothing,
}

impl Bounds {
    fn hold(&self, path: &Path) -> bool {
        self.0.iter().any(|folder| path.starts_with(folder))
    }

    fn find(&self, path: PathBuf) -> DirectoryEntry {
        let Ok(mut metadata) = std::fs::symlink_metadata(&path) else { return DirectoryEntry::Nothing };
        let mut path = path;
        if metadata.is_symlink() {
            // A dangling link counts as a missing file.
            let Ok(target) = path.canonicalize() else { return DirectoryEntry::Nothing };
            if !self.hold(&target) {
                let fix = "name the folder in follow_links_to of the source, or copy the file";
                return DirectoryEntry::LeftOut("a link that leads out of the source is left out", fix);
            }
            let Ok(of_target) = std::fs::symlink_metadata(&target) else { return DirectoryEntry::Nothing };
            (path, metadata) = (target, of_target);
        }
        let kind = metadata.file_type();
        let fix = "remove it: a source has files and folders";
        if kind.is_dir() {
            DirectoryEntry::Folder(path, metadata)
        } else if kind.is_file() {
            let modified_ns =
                i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
            DirectoryEntry::File(FileOnDisk {
                file: path,
                length: metadata.len(),
                modified_ns,
                is_finished: true,
            })
        } else if kind.is_fifo() {
            DirectoryEntry::LeftOut("a FIFO is left out", fix)
        } else if kind.is_socket() {
            DirectoryEntry::LeftOut("a socket is left out", fix)
        } else if kind.is_block_device() || kind.is_char_device() {
            DirectoryEntry::LeftOut("a device is left out", fix)
        } else {
            DirectoryEntry::LeftOut("what is neither file nor folder is left out", fix)
        }
    }
}

/// Suffixes of temporary file names.
const TEMPORARY: [&str; 6] = [".tmp", ".part", ".temp", ".swp", ".filepart", ".crdownload"];

/// Whether a file of this name is hidden or temporary.
pub fn is_temporary(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    name.starts_with('.') || TEMPORARY.iter().any(|end| lower.ends_with(end))
}

/// The final name of a temporary file; `None` if it is hidden.
pub fn name_later(name: &str) -> Option<&str> {
    let lower = name.to_ascii_lowercase();
    let end = TEMPORARY.iter().find(|end| lower.ends_with(*end))?;
    name.get(..name.len() - end.len()).filter(|later| !is_temporary(later) && !later.is_empty())
}

/// The file at `path`, if it is a regular file within `bounds`.
pub fn look(path: &Path, bounds: &Bounds) -> Option<FileOnDisk> {
    match bounds.find(path.to_owned()) {
        DirectoryEntry::File(file) => Some(file),
        DirectoryEntry::Folder(..) | DirectoryEntry::LeftOut(..) | DirectoryEntry::Nothing => None,
    }
}

/// All files below `start`, and their folders. Hidden, temporary and special files are left out. Symbolic links are
/// followed within the bounds; no folder is walked twice, so loops are harmless.
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
            // A live packager may remove folders.
            Err(_) => continue,
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                let what = "a file whose name is not UTF-8 is left out".to_owned();
                problems.push(Problem { place: folder.path.display().to_string(), what, fix: "rename it" });
                continue;
            };
            if is_temporary(name) {
                continue;
            }
            let path = format!("{}{name}", folder.prefix);
            match folder.bounds.find(folder.path.join(name)) {
                DirectoryEntry::Folder(found, metadata) => {
                    if folder.depth < MAX_DEPTH && seen.insert((metadata.dev(), metadata.ino())) {
                        folders.push(Folder {
                            path: found,
                            prefix: format!("{path}/"),
                            depth: folder.depth + 1,
                            bounds: Arc::clone(&folder.bounds),
                        });
                    }
                }
                DirectoryEntry::File(file) => {
                    if files.len() >= MAX_OBJECTS {
                        let what = format!("more than {MAX_OBJECTS} files; the rest is left out");
                        problems.push(Problem { place, what, fix: "split the source" });
                        return Ok((files, walked));
                    }
                    files.insert(path, file);
                }
                DirectoryEntry::LeftOut(what, fix) if problems.len() < MAX_PROBLEMS => {
                    problems.push(Problem { place: path, what: what.to_owned(), fix });
                }
                DirectoryEntry::LeftOut(..) | DirectoryEntry::Nothing => {}
            }
        }
        walked.push(folder);
    }
    Ok((files, walked))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_leads_out_or_is_no_file_is_named_and_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["source/media", "elsewhere", "shared"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        for name in ["source/media/1.m4s", "elsewhere/secret", "shared/2.m4s"] {
            std::fs::write(at(name), name).unwrap();
        }
        symlink("media/1.m4s", at("source/inside")).unwrap();
        symlink("media", at("source/folder")).unwrap();
        symlink("../elsewhere/secret", at("source/secret")).unwrap();
        symlink(at("elsewhere"), at("source/out")).unwrap();
        symlink(at("shared"), at("source/shared")).unwrap();
        symlink("/proc/self/environ", at("source/environ")).unwrap();
        symlink("nowhere", at("source/nowhere")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at("source/fifo")).status().unwrap().success());
        std::os::unix::net::UnixListener::bind(at("source/socket")).unwrap();
        let walked = |links_to: &[PathBuf]| {
            let mut problems = Vec::new();
            let start = Folder::root(&at("source"), links_to).unwrap();
            let (files, _) = walk(start, &mut problems).unwrap();
            let mut places: Vec<String> = problems.into_iter().map(|it| it.place).collect();
            places.sort();
            (files.into_keys().collect::<Vec<_>>(), places)
        };
        let (files, left_out) = walked(&[]);
        // A folder is walked once, by one of its names.
        assert_eq!(files.len(), 2, "{files:?}");
        assert!(files.contains(&"inside".to_owned()), "{files:?}");
        assert_eq!(left_out, ["environ", "fifo", "out", "secret", "shared", "socket"]);
        let (files, left_out) = walked(&[at("shared")]);
        assert!(files.contains(&"shared/2.m4s".to_owned()), "{files:?}");
        assert_eq!(left_out, ["environ", "fifo", "out", "secret", "socket"]);
        let root = Folder::root(&at("source"), &[]).unwrap();
        assert!(look(&root.path.join("secret"), &root.bounds).is_none());
        let inside = look(&root.path.join("inside"), &root.bounds).unwrap();
        assert!(inside.file.ends_with("source/media/1.m4s"));
    }
}
