//! Failures of the files that `[[access]]` names.

use std::fmt;
use std::io;
use std::path::PathBuf;

use carousel::config::plain;

/// Why a file of an access rule cannot be used.
#[derive(Debug)]
pub struct AccessFileError {
    /// The file.
    pub path: PathBuf,
    /// The fault.
    pub kind: FileFault,
}

/// Fault of a file.
#[derive(Debug)]
pub enum FileFault {
    /// It cannot be read: another attempt may succeed.
    Unreadable(io::Error),
    /// It is not a database of countries: it must be replaced.
    NotADatabase(String),
    /// Its keys are malformed: it must be corrected.
    Keys(KeysError),
}

/// Fault of a file of keys. Never shows a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysError {
    /// This line is not `ID SECRET`.
    NotAPair(usize),
    /// The secret in this line has fewer characters than the minimum.
    ShortSecret {
        /// The line, from 1.
        line: usize,
        /// Minimum number of characters.
        min: usize,
    },
    /// It has no key.
    Empty,
}

impl fmt::Display for AccessFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.kind)
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(err) => f.write_str(&plain(err)),
            Self::NotADatabase(why) => write!(f, "this is not a database in MaxMind's format: {why}"),
            Self::Keys(err) => err.fmt(f),
        }
    }
}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAPair(line) => write!(f, "line {line} is not ID SECRET"),
            Self::ShortSecret { line, min } => {
                write!(f, "line {line}: a secret has at least {min} characters: openssl rand -hex 32")
            }
            Self::Empty => f.write_str("there is no key in it"),
        }
    }
}

impl std::error::Error for AccessFileError {}
