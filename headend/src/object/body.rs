//! Bytes of an object: in memory, or in a file that is checked for changes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sys::open_source_file;

/// The bytes of an object. Two of files are equal if they are the same bytes of the same file as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Held in memory: documents that we made, and manifests, which packagers rewrite in place.
    Memory(Arc<[u8]>),
    /// Read from its file whenever it is sent.
    File(FileBody),
}

/// A file, or bytes of one that grows, as it was when it was hashed.
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
pub enum Reading {
    /// From memory.
    Memory(Arc<[u8]>),
    /// From a file, beginning with byte `start`; replaced files keep their bytes for as long as this is open.
    File {
        /// The file.
        file: File,
        /// Offset of the body's first byte.
        start: u64,
    },
}

impl Body {
    /// A file, with what identifies it now; returns the open file too, so that the caller hashes just this one.
    ///
    /// # Errors
    /// If it cannot be opened, or is no regular file.
    pub fn file(path: &Path) -> io::Result<(Self, File)> {
        let file = open_source_file(path)?;
        let body = FileBody::of(path, &file)?;
        Ok((Self::File(body), file))
    }

    /// Bytes of a file that may grow.
    ///
    /// # Errors
    /// If it cannot be opened, is no regular file, or does not have these bytes yet.
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
    /// [`BodyError::Changed`] if the file is no longer what was announced.
    pub fn open(&self) -> Result<Reading, BodyError> {
        match self {
            Self::Memory(bytes) => Ok(Reading::Memory(Arc::clone(bytes))),
            Self::File(body) => {
                let file = open_source_file(&body.path).map_err(BodyError::Io)?;
                let now = FileBody::of(&body.path, &file).map_err(BodyError::Io)?;
                let is_same = match body.modified_ns {
                    Some(_) => now == *body,
                    None => now.inode == body.inode && now.length >= body.start + body.length,
                };
                if is_same { Ok(Reading::File { file, start: body.start }) } else { Err(BodyError::Changed) }
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

impl Reading {
    /// Fills `out` from `offset`.
    ///
    /// # Errors
    /// If the body ends before, or cannot be read.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File { file, start } => file.read_exact_at(out, start + offset),
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let source = bytes.get(start..).and_then(|rest| rest.get(..out.len()));
                out.copy_from_slice(source.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}
