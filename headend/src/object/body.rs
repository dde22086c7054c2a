//! Where an object's bytes come from while it is on the air.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The bytes of an object.
#[derive(Debug, Clone)]
pub enum Body {
    /// Held in memory: documents that we made, and manifests, which packagers rewrite in place.
    Memory(Arc<[u8]>),
    /// Read from its file whenever it is sent.
    File(FileBody),
}

/// A file as it was when it was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileBody {
    path: PathBuf,
    length: u64,
    modified_ns: i128,
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
    /// From a file; replaced files keep their bytes for as long as this is open.
    File(File),
}

impl Body {
    /// A file, with what identifies it now; returns the open file too, so that the caller hashes just this one.
    ///
    /// # Errors
    /// If it cannot be opened, or is no regular file.
    pub fn file(path: &Path) -> io::Result<(Self, File)> {
        let file = File::open(path)?;
        let body = FileBody::of(path, &file)?;
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
                let file = File::open(&body.path).map_err(BodyError::Io)?;
                let now = FileBody::of(&body.path, &file).map_err(BodyError::Io)?;
                if now == *body { Ok(Reading::File(file)) } else { Err(BodyError::Changed) }
            }
        }
    }
}

impl FileBody {
    fn of(path: &Path, file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Self {
            path: path.to_owned(),
            length: metadata.len(),
            modified_ns: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
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
            Self::File(file) => file.read_exact_at(out, offset),
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let source = bytes.get(start..).and_then(|rest| rest.get(..out.len()));
                out.copy_from_slice(source.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}
