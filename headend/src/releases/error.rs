//! Errors of firmware on offer, each with its fix.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use carousel::config::plain;
use carousel::firmware::{MAX_BUNDLE_BYTES, MAX_OFFERS};

/// Why a bundle is not offered, or an offer not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseError {
    /// Nothing is signed, or there is no `[firmware]`.
    NotConfigured,
    /// A file or folder, and what the system says.
    Io(PathBuf, String),
    /// The name of a file that no URL has.
    Name(OsString, NameFault),
    /// A file that is empty or too long.
    Length(PathBuf),
    /// An offer of this id is there already.
    OnOffer {
        /// The id.
        id: String,
        /// The flag by which commands find the configuration.
        flag: String,
    },
    /// There are [`MAX_OFFERS`].
    Full {
        /// As above.
        flag: String,
    },
    /// This offer's file has the same name.
    SameName(String),
    /// No offer has this id.
    NotOnOffer(String),
}

/// Fault of the name of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFault {
    /// It is not UTF-8.
    Encoding,
    /// It has a control character.
    Control,
    /// Its URL would be too long.
    TooLong,
}

impl ReleaseError {
    /// An error of the system with a file or folder.
    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |err| Self::Io(path.clone(), plain(&err))
    }
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConfigured => f.write_str("nothing is signed, or there is no [firmware]"),
            Self::Io(path, why) => write!(f, "{}: {why}", path.display()),
            Self::Name(name, fault) => {
                let what = match fault {
                    NameFault::Encoding => "the name of the file is not UTF-8",
                    NameFault::Control => "the name of the file has a control character",
                    NameFault::TooLong => "its URL would be too long",
                };
                write!(f, "{name:?}: {what}; the name is the end of the bundle's URL: rename the file")
            }
            Self::Length(file) => {
                write!(f, "{}: a bundle has 1 to {MAX_BUNDLE_BYTES} bytes", file.display())
            }
            Self::OnOffer { id, flag } => {
                write!(f, "{id}: on offer already; `headend firmware withdraw {id}{flag}` takes it back")
            }
            Self::Full { flag } => write!(
                f,
                "{MAX_OFFERS} bundles are on offer; `headend firmware withdraw ID{flag}` takes one back"
            ),
            Self::SameName(other) => {
                write!(f, "{other} has the same file name, and so the same URL; rename one")
            }
            Self::NotOnOffer(id) => write!(f, "{id}: not on offer; `headend firmware list` shows what is"),
        }
    }
}

impl std::error::Error for ReleaseError {}

/// Commands end with one line.
impl From<ReleaseError> for String {
    fn from(err: ReleaseError) -> Self {
        err.to_string()
    }
}
