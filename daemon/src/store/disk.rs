//! State of the disk. While the disk fails, objects go to memory; it is retried every few seconds, and each change of
//! state is logged once.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use carousel::time::Instant;

use crate::clock;

/// Interval between attempts to use a disk that failed.
const RETRY: Duration = Duration::from_secs(5);

/// State of the disk at its last use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskState {
    /// Writes succeed.
    Fine,
    /// No space left, or less than the reserve.
    Full,
    /// Mounted read-only.
    ReadOnly,
    /// Any other I/O error.
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

    /// Whether to try writing: the last write succeeded, or the retry interval has passed.
    pub(super) fn is_usable(&self) -> bool {
        self.state() == DiskState::Fine
            || clock::now() >= Instant::from_nanos(self.retry_ns.load(Ordering::Relaxed))
    }

    /// Records a successful write.
    pub(super) fn worked(&self) {
        if self.state() != DiskState::Fine {
            self.state.store(DiskState::Fine as u8, Ordering::Relaxed);
            tracing::info!(folder = %self.folder.display(), "the disk accepts writes again");
        }
    }

    /// Records a failed write.
    pub(super) fn failed(&self, err: &io::Error) {
        let state = DiskState::of(err);
        let fix = match state {
            DiskState::Full => "free some space, or lower [store] quota_bytes",
            DiskState::ReadOnly => "remount it for writing; the kernel's log says why it is not",
            DiskState::Fine | DiskState::Failing => "read the kernel's log; the disk may need replacement",
        };
        self.set(state, &err.to_string(), fix);
    }

    /// Less than the reserve is free.
    pub(super) fn is_short(&self, reserve_bytes: u64) {
        if reserve_bytes == 0 {
            return self.set(DiskState::Full, "no space is free", "free some, or lower [store] quota_bytes");
        }
        let fix = "free some space, or lower [store] reserve_bytes";
        self.set(DiskState::Full, "less than [store] reserve_bytes is free", fix);
    }

    fn set(&self, state: DiskState, why: &str, fix: &str) {
        self.retry_ns.store((clock::now() + RETRY).as_nanos(), Ordering::Relaxed);
        if self.state.swap(state as u8, Ordering::Relaxed) != state as u8 {
            tracing::warn!(
                folder = %self.folder.display(), why, fix,
                "the disk cannot be written: new objects are kept in memory until it can"
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
