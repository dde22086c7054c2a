//! Versions of the files that the folder has of a bucket, kept in a file beside them, so that a restart fetches only what has changed.
//!
//! The file has a line of JSON for each added or removed file. It is rewritten when most of its lines are obsolete. A
//! missing or torn line costs a request.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Name of the file.
const NAME: &str = ".bucket.jsonl";
/// Obsolete lines before the file is rewritten.
const OLD_LINES: usize = 10_000;

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Version {
    /// ETag with which it came, without quotes; empty if there was none.
    pub(in super::super) etag: String,
    /// Version in the newest list; empty if it was in none.
    listed: String,
    bytes: u64,
    /// Number of the newest list that has it.
    seen: u32,
}

#[derive(Serialize, Deserialize)]
struct Line {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    etag: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    listed: String,
}

/// Files of the folder, by path.
#[derive(Debug)]
pub(in super::super) struct ObjectVersions {
    path: PathBuf,
    journal: Option<File>,
    lines: usize,
    files: HashMap<String, Version>,
}

impl ObjectVersions {
    /// Versions of the files that still exist according to `bytes_of`.
    pub(in super::super) fn open(root: &Path, bytes_of: impl Fn(&str) -> Option<u64>) -> io::Result<Self> {
        let path = root.join(NAME);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(err) => return Err(err),
        };
        let mut files = HashMap::new();
        let mut lines = 0;
        for line in text.split(|it| *it == b'\n') {
            let Ok(line) = serde_json::from_slice::<Line>(line) else { continue };
            lines += 1;
            match line.bytes {
                Some(bytes) => {
                    let version = Version { etag: line.etag, listed: line.listed, bytes, seen: 0 };
                    files.insert(line.name, version);
                }
                None => {
                    files.remove(&line.name);
                }
            }
        }
        files.retain(|name, version| bytes_of(name) == Some(version.bytes));
        let mut held = Self { path, journal: None, lines, files };
        // A torn line at its end would spoil the next.
        held.rewrite()?;
        Ok(held)
    }

    pub(in super::super) fn get(&self, name: &str) -> Option<&Version> {
        self.files.get(name)
    }

    pub(in super::super) fn names(&self) -> impl Iterator<Item = &String> {
        self.files.keys()
    }

    /// Whether a file is the version in a list, whose number is `list`.
    pub(in super::super) fn is_current(
        &mut self,
        name: &str,
        listed: &str,
        bytes: Option<u64>,
        list: u32,
    ) -> Option<bool> {
        let version = self.files.get_mut(name)?;
        version.seen = list;
        let is_same = if !version.listed.is_empty() {
            version.listed == listed
        } else if version.etag.is_empty() || listed.contains(' ') {
            // The store gives ETags in only one of both, or in none.
            bytes == Some(version.bytes)
        } else {
            version.etag == listed
        };
        if is_same && version.listed.is_empty() {
            version.listed = listed.to_owned();
        }
        Some(is_same)
    }

    /// Records a fetched file. `listed` is empty if it was not fetched for a list.
    pub(in super::super) fn came(&mut self, name: &str, etag: String, listed: String, bytes: u64, list: u32) {
        let line =
            Line { name: name.to_owned(), bytes: Some(bytes), etag: etag.clone(), listed: listed.clone() };
        self.files.insert(name.to_owned(), Version { etag, listed, bytes, seen: list });
        self.note(&line);
    }

    /// Records a removed file.
    pub(in super::super) fn went(&mut self, name: &str) {
        if self.files.remove(name).is_some() {
            self.note(&Line {
                name: name.to_owned(),
                bytes: None,
                etag: String::new(),
                listed: String::new(),
            });
        }
    }

    /// Files that are neither in list number `list` nor in the one before.
    pub(in super::super) fn gone(&self, list: u32) -> Vec<String> {
        let gone = self.files.iter().filter(|(_, version)| version.seen + 1 < list);
        gone.map(|(name, _)| name.clone()).collect()
    }

    /// A file whose line cannot be written is fetched again after a restart.
    fn note(&mut self, line: &Line) {
        self.lines += 1;
        if self.lines > 2 * self.files.len() + OLD_LINES {
            let _ = self.rewrite();
            return;
        }
        if let (Some(journal), Ok(mut text)) = (&mut self.journal, serde_json::to_vec(line)) {
            text.push(b'\n');
            let _ = journal.write_all(&text);
        }
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        let mut file = tempfile::Builder::new().prefix(".").suffix(".tmp").tempfile_in(folder)?;
        let mut writer = BufWriter::new(file.as_file_mut());
        for (name, version) in &self.files {
            let Version { etag, listed, bytes, .. } = version.clone();
            serde_json::to_writer(
                &mut writer,
                &Line { name: name.clone(), bytes: Some(bytes), etag, listed },
            )?;
            writer.write_all(b"\n")?;
        }
        writer.flush()?;
        drop(writer);
        self.journal = Some(file.persist(&self.path).map_err(|err| err.error)?);
        self.lines = self.files.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_known_after_a_restart_and_those_of_files_that_are_gone_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let open =
            |gone: &str| ObjectVersions::open(folder.path(), |name| (name != gone).then_some(3)).unwrap();
        let mut held = open("");
        for name in ["a", "b\"\n", "c", "d"] {
            held.came(name, format!("e{name}"), String::new(), 3, 1);
        }
        held.went("c");
        held.came("longer", "e".to_owned(), String::new(), 4, 1);
        drop(held);
        // A power cut while a line was written.
        File::options()
            .append(true)
            .open(folder.path().join(NAME))
            .unwrap()
            .write_all(b"{\"name\":\"z\",\"by")
            .unwrap();
        let mut held = open("d");
        let mut names: Vec<_> = held.names().cloned().collect();
        names.sort();
        assert_eq!(names, ["a", "b\"\n"], "longer has another length");
        held.came("e", "e".to_owned(), "l".to_owned(), 3, 1);
        drop(held);
        assert_eq!(open("").get("e").unwrap().listed, "l");
    }

    #[test]
    fn a_file_is_current_by_its_etag_or_by_what_the_list_has_instead() {
        let folder = tempfile::tempdir().unwrap();
        let mut held = ObjectVersions::open(folder.path(), |_| None).unwrap();
        held.came("a", "e1".to_owned(), String::new(), 3, 1);
        assert_eq!(held.is_current("a", "e1", Some(3), 1), Some(true));
        assert_eq!(held.is_current("a", "e2", Some(3), 1), Some(false));
        assert_eq!(held.is_current("b", "e2", Some(3), 1), None);
        // A list that has another ETag than the response had is compared with lists alone.
        held.came("a", "of-response".to_owned(), "of-list".to_owned(), 3, 1);
        assert_eq!(held.is_current("a", "of-list", Some(3), 1), Some(true));
        held.came("c", "e".to_owned(), String::new(), 3, 1);
        assert_eq!(held.is_current("c", "3 monday", Some(3), 1), Some(true));
        assert_eq!(held.is_current("c", "3 tuesday", Some(3), 1), Some(false));
    }

    #[test]
    fn a_file_that_two_lists_lack_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut held = ObjectVersions::open(folder.path(), |_| None).unwrap();
        held.came("a", String::new(), String::new(), 1, 1);
        held.came("b", String::new(), String::new(), 1, 1);
        held.is_current("a", "", Some(1), 2);
        assert!(held.gone(2).is_empty());
        held.is_current("a", "", Some(1), 3);
        assert_eq!(held.gone(3), ["b"]);
    }

    #[test]
    fn the_file_of_versions_does_not_grow_forever() {
        let folder = tempfile::tempdir().unwrap();
        let mut held = ObjectVersions::open(folder.path(), |_| Some(1)).unwrap();
        for at in 0..2 * OLD_LINES {
            held.came("live", format!("e{at}"), String::new(), 1, 1);
        }
        let lines = std::fs::read_to_string(folder.path().join(NAME)).unwrap().lines().count();
        assert!(lines <= OLD_LINES + 3, "{lines}");
        drop(held);
        assert_eq!(
            ObjectVersions::open(folder.path(), |_| Some(1)).unwrap().get("live").unwrap().etag,
            format!("e{}", 2 * OLD_LINES - 1)
        );
    }
}
