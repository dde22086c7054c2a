//! Body of an object: in memory, or in a file that is checked for changes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sys::open_source_file;

/// The bytes of an object. Two in files are equal if they are the same range of the same unchanged file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Held in memory: our own documents, and manifests, which packagers rewrite in place.
    Memory(Arc<[u8]>),
    /// Read from its file for each transmission.
    File(FileBody),
}

/// A file, or a range of a growing one, with its state when it was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileBody {
    path: PathBuf,
    /// First byte.
    start: u64,
    length: u64,
    /// `None`: the file may grow.
    modified_ns: Option<i128>,
    inode: u64,
}

/// Why a body cannot be read as announced.
#[derive(Debug)]
pub enum BodyError {
    /// The file cannot be opened or read.
    Io(io::Error),
    /// The file is not the one that was hashed.
    Changed,
}

/// An opened body.
#[derive(Debug)]
pub enum OpenBody {
    /// From memory.
    Memory(Arc<[u8]>),
    /// From a file, from byte `start` on; the bytes of a replaced file stay readable while this is open.
    File {
        /// The file.
        file: File,
        /// Offset of the body's first byte.
        start: u64,
        /// Read-ahead buffer.
        ahead: Box<ReadAhead>,
    },
}

/// Bytes read at once for sequential reads: 46 symbols of 1400 bytes.
const AHEAD_BYTES: usize = 64 << 10;

/// Read-ahead buffer of a file.
#[derive(Debug, Default)]
pub struct ReadAhead {
    /// Offset of `bytes` in the body.
    start: u64,
    bytes: Vec<u8>,
    /// End of the last request.
    next: u64,
}

impl ReadAhead {
    fn copy(&mut self, offset: u64, out: &mut [u8]) -> bool {
        let at = offset.checked_sub(self.start).and_then(|it| usize::try_from(it).ok());
        let held = at.and_then(|at| self.bytes.get(at..)?.get(..out.len()));
        if let Some(held) = held {
            out.copy_from_slice(held);
            self.next = offset + out.len() as u64;
        }
        held.is_some()
    }

    /// Reads from `offset` on, up to [`AHEAD_BYTES`] or the end of the file.
    fn fill(&mut self, file: &File, start: u64, offset: u64) -> io::Result<()> {
        self.start = offset;
        self.bytes.resize(AHEAD_BYTES, 0);
        let mut filled = 0;
        let read = loop {
            match file.read_at(&mut self.bytes[filled..], start + offset + filled as u64) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) => break Ok(()),
                Ok(count) => filled += count,
                Err(err) => break Err(err),
            }
        };
        self.bytes.truncate(filled);
        read
    }
}

impl Body {
    /// A file with its current identity; also returns the open file, so that the caller hashes the same one.
    ///
    /// # Errors
    /// If it cannot be opened, or is not a regular file.
    pub fn file(path: &Path) -> io::Result<(Self, File)> {
        let file = open_source_file(path)?;
        let body = FileBody::of(path, &file)?;
        Ok((Self::File(body), file))
    }

    /// A range of a file that may grow.
    ///
    /// # Errors
    /// If it cannot be opened, is not a regular file, or does not have these bytes yet.
    pub fn range(path: &Path, range: &Range<u64>) -> io::Result<(Self, File)> {
        let file = open_source_file(path)?;
        let of_file = FileBody::of(path, &file)?;
        if of_file.length < range.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = range.end.saturating_sub(range.start);
        let body = FileBody { start: range.start, length, modified_ns: None, ..of_file };
        Ok((Self::File(body), file))
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(file) => file.length,
        }
    }

    /// Opens it for one transmission.
    ///
    /// # Errors
    /// [`BodyError::Changed`] if the file has changed since it was announced.
    pub fn open(&self) -> Result<OpenBody, BodyError> {
        match self {
            Self::Memory(bytes) => Ok(OpenBody::Memory(Arc::clone(bytes))),
            Self::File(body) => {
                let file = open_source_file(&body.path).map_err(BodyError::Io)?;
                let now = FileBody::of(&body.path, &file).map_err(BodyError::Io)?;
                let is_same = match body.modified_ns {
                    Some(_) => now == *body,
                    None => now.inode == body.inode && now.length >= body.start + body.length,
                };
                if is_same {
                    Ok(OpenBody::File { file, start: body.start, ahead: Box::default() })
                } else {
                    Err(BodyError::Changed)
                }
            }
        }
    }
}

impl FileBody {
    fn of(path: &Path, file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            path: path.to_owned(),
            start: 0,
            length: metadata.len(),
            modified_ns: Some(
                i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
            ),
            inode: metadata.ino(),
        })
    }
}

impl OpenBody {
    /// Fills `out` from `offset`.
    ///
    /// # Errors
    /// If the body ends before, or cannot be read.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File { file, start, .. } => file.read_exact_at(out, start + offset),
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let source = bytes.get(start..).and_then(|rest| rest.get(..out.len()));
                out.copy_from_slice(source.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    /// As [`read_at`](Self::read_at), with read-ahead for sequential reads of a file.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    pub fn read_on(&mut self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let Self::File { file, start, ahead } = self else { return self.read_at(offset, out) };
        if ahead.copy(offset, out) {
            return Ok(());
        }
        if offset == ahead.next && out.len() < AHEAD_BYTES {
            ahead.fill(file, *start, offset)?;
            return if ahead.copy(offset, out) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        ahead.next = offset + out.len() as u64;
        file.read_exact_at(out, *start + offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_that_follow_each_other_have_the_bytes_of_the_file_wherever_they_begin() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let bytes: Vec<u8> = (0..3 * AHEAD_BYTES + 777).map(|at| ((at * 131) >> 3) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        for range in [0..bytes.len(), 1000..bytes.len() - 500] {
            let body = Body::range(&path, &(range.start as u64..range.end as u64)).unwrap().0;
            let mut reading = body.open().unwrap();
            let own = &bytes[range];
            let mut out = [0; 1400];
            let mut check = |reading: &mut OpenBody, at: usize, length: usize| {
                let length = length.min(own.len() - at);
                reading.read_on(at as u64, &mut out[..length]).unwrap();
                assert_eq!(out[..length], own[at..at + length], "{at}");
            };
            for at in (0..own.len()).step_by(1400) {
                check(&mut reading, at, 1400);
            }
            // Blocks in turns, steps back, and over what was read ahead.
            for at in
                (0..20_000).step_by(700).flat_map(|at| [at, at + 100_000, at + 1400, at + AHEAD_BYTES - 3])
            {
                check(&mut reading, at, 1400);
            }
        }
        // The end of the file is not the end of the body.
        let mut reading = Body::file(&path).unwrap().0.open().unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(3000).unwrap();
        let mut out = [0; 1400];
        assert!(reading.read_on(0, &mut out).is_ok() && reading.read_on(1400, &mut out).is_ok());
        assert_eq!(reading.read_on(2800, &mut out).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
