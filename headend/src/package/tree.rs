//! The files of a source: a bounded walk that leaves out what is not finished.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{MAX_OBJECTS, ObjectSource, Problem, Role, content_type};

/// Nesting of folders; packagers use three or four.
const MAX_DEPTH: usize = 16;
/// Problems listed; a manifest with a thousand missing segments has one cause.
pub(super) const MAX_PROBLEMS: usize = 1000;

/// A file on disk.
#[derive(Debug, Clone)]
pub(super) struct FileOnDisk {
    pub(super) file: PathBuf,
    pub(super) length: u64,
    pub(super) modified_ns: i128,
}

impl FileOnDisk {
    pub(super) fn object(&self, path: &str, role: Role) -> ObjectSource {
        ObjectSource {
            path: path.to_owned(),
            file: self.file.clone(),
            length: self.length,
            modified_ns: self.modified_ns,
            content_type: content_type(path),
            role,
        }
    }
}

/// All files below `root` by their path as a URI has it. Hidden and temporary files, and what is no regular file, are
/// left out; symbolic links are followed to files only, so that no loop can be walked.
pub(super) fn walk(root: &Path, problems: &mut Vec<Problem>) -> io::Result<BTreeMap<String, FileOnDisk>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![(root.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(err) if depth == 0 => return Err(err),
            // A live packager removes folders too.
            Err(_) => continue,
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                let what = "a file whose name is not UTF-8 is left out".to_owned();
                problems.push(Problem { place: folder.display().to_string(), what, mend: "rename it" });
                continue;
            };
            let lower = name.to_ascii_lowercase();
            if name.starts_with('.')
                || [".tmp", ".part", ".temp", ".swp"].iter().any(|end| lower.ends_with(end))
            {
                continue;
            }
            let path = format!("{prefix}{}", encode(name));
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
            if metadata.is_dir() && !is_link {
                if depth < MAX_DEPTH {
                    folders.push((entry.path(), format!("{path}/"), depth + 1));
                }
            } else if metadata.is_file() {
                if files.len() >= MAX_OBJECTS {
                    let what = format!("more than {MAX_OBJECTS} files; the rest is left out");
                    problems.push(Problem {
                        place: root.display().to_string(),
                        what,
                        mend: "split the source",
                    });
                    return Ok(files);
                }
                let modified_ns =
                    i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
                files.insert(path, FileOnDisk { file: entry.path(), length: metadata.len(), modified_ns });
            }
        }
    }
    Ok(files)
}

/// A file name as a path segment of a URI (RFC 3986 section 3.3).
fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
