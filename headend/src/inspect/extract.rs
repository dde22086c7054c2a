//! Extraction of complete objects to files, never outside of the folder.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use carousel::limits::cut;
use carousel::{Digest, ObjectKey};

carousel::limits! {
    /// Bytes that one run writes to files.
    pub(super) const MAX_EXTRACTED_BYTES: u64 = 256 << 30, "bytes" {
        why: "A transponder of 70 Mbit/s carries as much in eight hours; `--seconds 0` never ends.",
        full: "Further objects are not written; they are counted as `not_extracted`.",
        free: "Holds for one run.",
        test: "extracted_bytes_are_bounded",
    }
}

/// File systems allow 255 bytes of name.
const MAX_NAME_BYTES: usize = 240;

/// Writes objects below a folder: `DIR/<authority>/<path>`, other names as they are; later versions get `~2`, `~3`.
#[derive(Debug)]
pub struct Extractor {
    folder: PathBuf,
    versions: HashMap<PathBuf, u32>,
    /// Of [`MAX_EXTRACTED_BYTES`], those that are left.
    room_bytes: u64,
    /// Objects that found no room.
    pub not_extracted: u64,
}

impl Extractor {
    /// Creates the folder if need be.
    ///
    /// # Errors
    /// Those of the system, with the folder's name.
    pub fn new(folder: &Path) -> Result<Self, String> {
        fs::create_dir_all(folder)
            .map_err(|err| format!("{}: {}", folder.display(), carousel::config::without_numbers(&err)))?;
        Ok(Self {
            folder: folder.to_owned(),
            versions: HashMap::new(),
            room_bytes: MAX_EXTRACTED_BYTES,
            not_extracted: 0,
        })
    }

    /// Writes one object; returns the file. `None`: there is no room.
    ///
    /// # Errors
    /// Those of the system, with the file's name.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<Option<PathBuf>, String> {
        self.write_to(relative_path(name), bytes)
    }

    /// Writes a file of a carousel below the folder, by its path there: names are as they are, spaces and all. `None`: there is no room.
    ///
    /// # Errors
    /// Those of the system, with the file's name.
    pub fn write_path(&mut self, path: &str, bytes: &[u8]) -> Result<Option<PathBuf>, String> {
        let is_name = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains(['\0', '\\']);
        let is_safe = path.split('/').all(is_name);
        let relative = if is_safe { path.split('/').map(shortened).collect() } else { relative_path(path) };
        self.write_to(relative, bytes)
    }

    fn write_to(&mut self, relative: PathBuf, bytes: &[u8]) -> Result<Option<PathBuf>, String> {
        let Some(room_bytes) = self.room_bytes.checked_sub(bytes.len() as u64) else {
            self.not_extracted += 1;
            return Ok(None);
        };
        let version = self.versions.entry(relative.clone()).or_default();
        *version += 1;
        let mut path = self.folder.join(&relative);
        if *version > 1 {
            let mut file_name = path.file_name().unwrap_or_default().to_owned();
            file_name.push(format!("~{version}"));
            path.set_file_name(file_name);
        }
        let failed =
            |err: std::io::Error| format!("{}: {}", path.display(), carousel::config::without_numbers(&err));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        fs::write(&path, bytes).map_err(failed)?;
        self.room_bytes = room_bytes;
        Ok(Some(path))
    }
}

/// The path below the folder. A name that is not a key (it would escape, or hides bytes) becomes its own hash.
fn relative_path(name: &str) -> PathBuf {
    let Ok(key) = ObjectKey::from_name(name, None) else {
        return PathBuf::from(format!("unusable-name-{}", &Digest::of(name.as_bytes()).to_hex()[..16]));
    };
    let segments = key.as_str().split('/').filter(|segment| !segment.is_empty());
    let mut path: PathBuf = segments.map(shortened).collect();
    if key.as_str().ends_with('/') || path.as_os_str().is_empty() {
        path.push("index");
    }
    path
}

/// A segment that file systems take.
fn shortened(segment: &str) -> String {
    if segment.len() <= MAX_NAME_BYTES {
        return segment.to_owned();
    }
    let beginning = cut(segment, MAX_NAME_BYTES - 20);
    format!("{beginning}~{}", &Digest::of(segment.as_bytes()).to_hex()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths_that_stay_inside() {
        for (name, path) in [
            ("http://dvb.gw/a/b.m4s", "dvb.gw/a/b.m4s"),
            ("sub/file.bin", "sub/file.bin"),
            ("/abs/file.bin", "abs/file.bin"),
            ("tag:mabr.gpac.io/live.m3u8", "tag:mabr.gpac.io/live.m3u8"),
            ("http://h/dir/", "h/dir/index"),
        ] {
            assert_eq!(relative_path(name), Path::new(path), "{name}");
        }
        for name in ["../../etc/passwd", "http://h/..%2fx", "a\0b", ""] {
            assert!(relative_path(name).to_string_lossy().starts_with("unusable-name-"), "{name}");
        }
        assert!(relative_path(&format!("http://h/{}", "x".repeat(400))).file_name().unwrap().len() < 255);
    }

    #[test]
    fn extracted_bytes_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let mut extractor = Extractor::new(folder.path()).unwrap();
        extractor.room_bytes = 10;
        assert!(extractor.write("http://h/a", &[0; 6]).unwrap().is_some());
        assert_eq!(extractor.write("http://h/b", &[0; 5]).unwrap(), None);
        assert_eq!(extractor.write_path("c", &[0; 5]).unwrap(), None);
        assert!(extractor.write("http://h/d", &[0; 4]).unwrap().is_some(), "what fits is still written");
        assert_eq!((extractor.room_bytes, extractor.not_extracted), (0, 2));
        let names: Vec<_> =
            fs::read_dir(folder.path().join("h")).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn later_versions_are_numbered() {
        let folder = tempfile::tempdir().unwrap();
        let mut extractor = Extractor::new(folder.path()).unwrap();
        for text in ["1", "2", "3"] {
            extractor.write("http://h/live.m3u8", text.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.path().join("h").join(name)).unwrap();
        assert_eq!(
            (read("live.m3u8"), read("live.m3u8~2"), read("live.m3u8~3")),
            ("1".into(), "2".into(), "3".into())
        );
    }
}
