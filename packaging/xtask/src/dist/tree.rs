//! File tree of a package: paths, modes, contents; sorted, owned by root, without timestamps.

use std::collections::BTreeMap;
use std::path::Path;

/// Kind of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Folder,
    File(Vec<u8>),
}

/// A node with its mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) mode: u32,
    pub(crate) node: Node,
}

/// Paths without a leading slash; every folder on the way is there too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    entries: BTreeMap<String, Entry>,
}

impl Tree {
    /// Adds everything below a folder of `sysroot/`. Scripts are recognised by their first two bytes.
    pub(crate) fn add_folder(&mut self, folder: &Path) -> Result<(), String> {
        self.walk(folder, "")
    }

    fn walk(&mut self, folder: &Path, below: &str) -> Result<(), String> {
        let failed = |err: std::io::Error| format!("{}: {err}", folder.display());
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().into_string().map_err(|name| format!("{name:?} is not text"))?;
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            if entry.file_type().map_err(failed)?.is_dir() {
                self.walk(&entry.path(), &path)?;
            } else {
                let bytes = std::fs::read(entry.path()).map_err(failed)?;
                let mode = if bytes.starts_with(b"#!") { 0o755 } else { 0o644 };
                self.add_file(&path, mode, bytes);
            }
        }
        Ok(())
    }

    pub(crate) fn add_file(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) {
        self.add_folders_to(path);
        self.entries.insert(path.to_owned(), Entry { mode, node: Node::File(bytes.into()) });
    }

    pub(crate) fn add_empty_folder(&mut self, path: &str, mode: u32) {
        self.add_folders_to(path);
        self.entries.insert(path.to_owned(), Entry { mode, node: Node::Folder });
    }

    fn add_folders_to(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            let folder = Entry { mode: 0o755, node: Node::Folder };
            self.entries.entry(path[..at].to_owned()).or_insert(folder);
        }
    }

    /// In the order of their paths: folders before what is in them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Files with their contents.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter().filter_map(|(path, entry)| match &entry.node {
            Node::File(bytes) => Some((path, bytes.as_slice())),
            Node::Folder => None,
        })
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// As a tar archive whose names begin with `prefix`; everything is root's, and as old as `epoch_s`.
    pub(crate) fn to_tar(&self, prefix: &str, epoch_s: u64) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        if prefix == "./" {
            append(&mut archive, "./", tar::EntryType::Directory, 0o755, &[], epoch_s);
        }
        for (path, entry) in self.iter() {
            let name = format!("{prefix}{path}");
            match &entry.node {
                Node::Folder => {
                    append(&mut archive, &(name + "/"), tar::EntryType::Directory, entry.mode, &[], epoch_s);
                }
                Node::File(bytes) => {
                    append(&mut archive, &name, tar::EntryType::Regular, entry.mode, bytes, epoch_s);
                }
            }
        }
        archive.into_inner().unwrap_or_default()
    }
}

/// Adds a member of root's. Its name stands as it is given: package tools want the `./` that the `tar` crate would take away.
pub(crate) fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    name: &str,
    kind: tar::EntryType,
    mode: u32,
    bytes: &[u8],
    epoch_s: u64,
) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    header.set_mtime(epoch_s);
    header.set_uid(0);
    header.set_gid(0);
    if let Some(gnu) = header.as_gnu_mut() {
        gnu.uname[..4].copy_from_slice(b"root");
        gnu.gname[..4].copy_from_slice(b"root");
        assert!(name.len() < gnu.name.len(), "{name}: a name that long needs an extension");
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
    }
    header.set_cksum();
    // Writing to memory does not fail.
    let _ = archive.append(&header, bytes);
}

/// As `gzip -9n` would.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::best());
    // Writing to memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_tree_is_the_same_bytes_whatever_the_order() {
        let (mut one, mut other) = (Tree::default(), Tree::default());
        one.add_file("a/b", 0o644, "x");
        one.add_empty_folder("a/c", 0o700);
        other.add_empty_folder("a/c", 0o700);
        other.add_file("a/b", 0o644, "x");
        assert_eq!(gzip(&one.to_tar("./", 7)), gzip(&other.to_tar("./", 7)));
        let tar = one.to_tar("./", 7);
        let mut archive = tar::Archive::new(tar.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|it| String::from_utf8(it.unwrap().path_bytes().into_owned()).unwrap())
            .collect();
        assert_eq!(names, ["./", "./a/", "./a/b", "./a/c/"]);
        assert_eq!(one.bytes(), 1);
    }
}
