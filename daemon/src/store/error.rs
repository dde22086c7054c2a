//! Errors of the store, and reasons for evictions.

use std::path::PathBuf;

/// Error of a store operation.
#[derive(Debug)]
pub enum StoreError {
    /// Another daemon uses the folder.
    Locked(PathBuf),
    /// The folder cannot be created or read.
    Folder(PathBuf, std::io::Error),
    /// The object is larger than the quota.
    LargerThanQuota {
        /// Its bytes.
        length: u64,
    },
    /// All remaining objects are in use or pinned.
    NoRoom,
    /// Less than the reserve is free on the file system.
    DiskFull,
    /// The object's name and headers do not fit the header page.
    MetaTooLarge,
    /// It was purged after it was requested.
    Purged,
    /// The disk failed.
    Io(std::io::Error),
}

impl StoreError {
    /// Name in metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Locked(_) => "locked",
            Self::Folder(..) => "folder",
            Self::LargerThanQuota { .. } => "larger_than_quota",
            Self::NoRoom => "no_room",
            Self::DiskFull => "disk_full",
            Self::MetaTooLarge => "meta_too_large",
            Self::Purged => "purged",
            Self::Io(_) => "io",
        }
    }
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Locked(path) => {
                write!(
                    f,
                    "{}: another skycached uses this cache; stop it, or give [store] path another folder",
                    path.display()
                )
            }
            Self::Folder(path, err) => {
                let why = carousel::config::without_numbers(err);
                write!(f, "{}: {why}; [store] path must be a folder that skycached may write", path.display())
            }
            Self::LargerThanQuota { length } => {
                write!(f, "an object of {length} bytes is larger than [store] quota_bytes")
            }
            Self::NoRoom => f.write_str("the cache is full of objects that are pinned or in use"),
            Self::DiskFull => f.write_str("the disk is full; make room, or lower [store] reserve_bytes"),
            Self::MetaTooLarge => f.write_str("the object's name and headers are larger than a header page"),
            Self::Purged => f.write_str("it was purged since it was asked for"),
            Self::Io(err) => write!(f, "disk: {err}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<std::io::Error> for StoreError {
    fn from(err: std::io::Error) -> Self {
        match err.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io(err),
        }
    }
}

carousel::reasons! {
    /// Why an object left the cache.
    pub enum EvictReason in "store_evicted_objects" by "reason" {
        /// To make room.
        Room = "room",
        /// To make room, and past its expiry.
        Stale = "stale",
        /// A newer version took its name, or it went to the other tier.
        Replaced = "replaced",
        /// An operator or a command asked for it.
        Purged = "purged",
        /// Its bytes are not what its header says.
        Corrupt = "corrupt",
        /// Its file is gone.
        Vanished = "vanished",
        /// A firmware update that is installed, or not wanted any more.
        Unwanted = "unwanted",
        /// It came by a carousel, and its signer is trusted no longer, or it is unsigned and signatures are required now.
        Untrusted = "untrusted",
    }
}
