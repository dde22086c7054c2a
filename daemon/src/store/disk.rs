//! How the disk is: fine, or why not. While it is not, objects live in memory; it is tried again every few seconds, and
//! each change is said once.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use carousel::time::Instant;

use crate::clock;

/// A disk that failed is tried again after this.
const RETRY: Duration = Duration::from_secs(5);

/// What the disk was like when it was used last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskState {
    /// It takes what it is given.
    Fine,
    /// No space, or less than the reserve.
    Full,
    /// Mounted read-only.
    ReadOnly,
    /// Anything else that a disk answers.
    Failing,
}

impl DiskState {
    const ALL: [Self; 4] = [Self::Fine, Self::Full, Self::ReadOnly, Self::Failing];

    /// Name in status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Failing => "failing",
        }
    }

    fn of(err: &io::Error) -> Self {
        match err.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Failing,
        }
    }
}

/// The disk below the store's folder.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    state: AtomicU8,
    retry_ns: AtomicU64,
}

impl Disk {
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self { folder, state: AtomicU8::new(0), retry_ns: AtomicU64::new(0) }
    }

    pub(super) fn state(&self) -> DiskState {
        DiskState::ALL[usize::from(self.state.load(Ordering::Relaxed)) % DiskState::ALL.len()]
    }

    /// Whether it is worth trying: it is fine, or has had time to become so.
    pub(super) fn is_usable(&self) -> bool {
        self.state() == DiskState::Fine
            || clock::now() >= Instant::from_nanos(self.retry_ns.load(Ordering::Relaxed))
    }

    /// It took something.
    pub(super) fn worked(&self) {
        if self.state() != DiskState::Fine {
            self.state.store(DiskState::Fine as u8, Ordering::Relaxed);
            tracing::info!(folder = %self.folder.display(), "the disk takes objects again");
        }
    }

    /// It did not.
    pub(super) fn failed(&self, err: &io::Error) {
        self.set(DiskState::of(err), &err.to_string());
    }

    /// Less than the reserve is free.
    pub(super) fn is_short(&self) {
        self.set(DiskState::Full, "less than [store] reserve_bytes is free");
    }

    fn set(&self, state: DiskState, why: &str) {
        self.retry_ns.store((clock::now() + RETRY).as_nanos(), Ordering::Relaxed);
        if self.state.swap(state as u8, Ordering::Relaxed) != state as u8 {
            let mend = match state {
                DiskState::Full => "make room, or lower [store] quota_bytes",
                DiskState::ReadOnly => "remount it for writing; the kernel's log says why it is not",
                DiskState::Fine | DiskState::Failing => "look at the kernel's log, and think of replacing it",
            };
            tracing::warn!(
                folder = %self.folder.display(), why, mend,
                "the disk takes nothing: what comes is kept in memory until it does"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_told_apart_and_a_disk_that_works_is_fine_again() {
        let disk = Disk::new(PathBuf::from("/x"));
        assert!(disk.is_usable());
        for (errno, state) in [
            (libc::ENOSPC, DiskState::Full),
            (libc::EROFS, DiskState::ReadOnly),
            (libc::EIO, DiskState::Failing),
            (libc::EDQUOT, DiskState::Full),
        ] {
            disk.failed(&io::Error::from_raw_os_error(errno));
            assert_eq!(disk.state(), state);
            assert!(!disk.is_usable(), "not before it has had time");
        }
        disk.worked();
        assert!(disk.is_usable() && disk.state() == DiskState::Fine);
    }
}
