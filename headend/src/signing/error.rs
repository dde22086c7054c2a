//! Errors of keys on disk, each with its fix.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use carousel::config::plain;
use carousel::trust::KeyId;

/// Why keys cannot be made, or nothing can be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SigningError {
    /// A file or folder, and what the system says.
    Io(PathBuf, String),
    /// A folder has a root key already.
    RootExists(PathBuf),
    /// The file of the root key is not there.
    NoRoot(PathBuf),
    /// Not the id of a key.
    BadKeyId(String),
    /// A folder has no online key of this id, but others.
    UnknownKey {
        /// The id.
        id: String,
        /// The folder.
        folder: PathBuf,
        /// Those that it has.
        known: Vec<KeyId>,
    },
    /// The folder of `[signing] keys` is unusable.
    Folder(PathBuf, FolderFault),
    /// No online key of the folder is usable.
    NoKey {
        /// The folder.
        folder: PathBuf,
        /// Why the oldest one is not.
        why: KeyFault,
        /// The folder has a root key.
        has_root: bool,
    },
    /// The key of this file, its certificate and the revocation list are not of one root.
    Roots(PathBuf),
    /// A file is there already.
    Exists(PathBuf),
    /// Others may read a secret.
    Readable(PathBuf),
    /// A file has no line of this word that can be read.
    NoLine(PathBuf, String),
    /// Versions of signatures cannot be set aside.
    Versions(PathBuf, String),
}

/// Why a folder is unusable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderFault {
    /// It is something else.
    NotAFolder,
    /// It is not there.
    Missing,
    /// The system's message.
    Io(String),
}

/// Why a key is unusable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyFault {
    /// There is none.
    Missing,
    /// It is revoked.
    Revoked(KeyId),
    /// It is valid from one day to another.
    NotValid(KeyId, String, String),
}

impl SigningError {
    /// An error of the system with a file or folder.
    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |err| Self::Io(path.clone(), plain(&err))
    }
}

impl fmt::Display for SigningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, why) => write!(f, "{}: {why}", path.display()),
            Self::RootExists(folder) => write!(
                f,
                "{}: there is a root key already; --rotate adds an online key, --revoke ID takes one back",
                folder.display()
            ),
            Self::NoRoot(file) => {
                write!(f, "{}: there is no root key; name its file with --root", file.display())
            }
            Self::BadKeyId(id) => write!(f, "{id}: no key; key ids have 16 hexadecimal digits"),
            Self::UnknownKey { id, folder, known } => {
                let known: Vec<String> = known.iter().map(ToString::to_string).collect();
                write!(f, "{id}: {} has no such online key, but {}", folder.display(), known.join(", "))
            }
            Self::Folder(folder, why) => {
                let folder = folder.display();
                write!(f, "[signing] keys: {folder}: ")?;
                match why {
                    FolderFault::NotAFolder => f.write_str("it is not a folder")?,
                    FolderFault::Missing => f.write_str("there is no such folder")?,
                    FolderFault::Io(why) => f.write_str(why)?,
                }
                write!(f, "; `headend keygen --out {folder}` makes it, with keys")
            }
            Self::NoKey { folder, why, has_root } => {
                let folder = folder.display();
                write!(f, "[signing] keys: {folder}: ")?;
                match why {
                    KeyFault::Missing => f.write_str("there is no online key")?,
                    KeyFault::Revoked(id) => write!(f, "key {id} is revoked")?,
                    KeyFault::NotValid(id, from, until) => {
                        write!(f, "key {id} is valid from {from} to {until}")?;
                    }
                }
                // The first call makes the root key, too.
                let rotate = if *has_root { " --rotate" } else { "" };
                write!(f, "; `headend keygen --out {folder}{rotate}` makes one")
            }
            Self::Roots(file) => {
                write!(f, "{}: key, certificate and revocation list are not of one root", file.display())
            }
            Self::Exists(file) => {
                write!(f, "{}: is there already, and is not overwritten", file.display())
            }
            Self::Readable(file) => {
                write!(f, "{}: others may read this secret; chmod 600 {0}", file.display())
            }
            Self::NoLine(file, word) => {
                write!(f, "{}: has no line `{word}` that can be read", file.display())
            }
            Self::Versions(file, why) => {
                write!(f, "{}: {why}; versions of signatures are kept there", file.display())
            }
        }
    }
}

impl std::error::Error for SigningError {}

/// Commands end with one line.
impl From<SigningError> for String {
    fn from(err: SigningError) -> Self {
        err.to_string()
    }
}
