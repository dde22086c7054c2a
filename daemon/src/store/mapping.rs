//! Memory mappings of object files.
#![allow(unsafe_code)] // mmap, mincore, fstat; the invariant is on the type

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;

use super::sigbus::Guard;

/// The smallest page there is. Where pages are larger `mincore` refuses odd addresses, and everything counts as cold.
const PAGE_BYTES: usize = 4096;

/// An entire file, mapped for reading.
///
/// Invariant: the daemon does not write to the file while a `Mapping` of it exists. Only published files, which are never
/// opened for writing again, and unnamed ones whose writer is dropped are mapped. Changes by other programs are detected by
/// [`Mapping::is_backed`], and where that comes too late by [`super::sigbus`].
#[derive(Debug)]
pub(super) struct Mapping {
    // Before the map: the guard must go first.
    guard: Guard,
    map: memmap2::Mmap,
    file: OwnedFd,
}

impl Mapping {
    /// Maps `length` bytes of a file that has at least as many.
    pub(super) fn read_only(file: &File, length: usize) -> io::Result<Self> {
        if file.metadata()?.len() < length as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: by the type's invariant the file is not written to while the map exists.
        let map = unsafe { memmap2::MmapOptions::new().len(length).map(file)? };
        Ok(Self { guard: Guard::new(&map), map, file: file.try_clone()?.into() })
    }

    /// The file.
    pub(super) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Whether the pages of `range` are in memory: sending them does not wait for the disk.
    pub(super) fn is_resident(&self, range: Range<usize>) -> bool {
        let start = range.start & !(PAGE_BYTES - 1);
        let end = range.end.min(self.map.len());
        let Some(length) = end.checked_sub(start).filter(|&it| it > 0) else { return true };
        let mut pages = vec![0_u8; length.div_ceil(PAGE_BYTES)];
        let address = self.map.as_ptr().wrapping_add(start);
        // SAFETY: the range lies in the mapping, whose start is a page's; there is a byte for each of its pages.
        let result = unsafe { libc::mincore(address.cast_mut().cast(), length, pages.as_mut_ptr().cast()) };
        // If the kernel does not answer, assume that reading waits.
        result == 0 && pages.iter().all(|page| page & 1 == 1)
    }

    /// The entire mapping.
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.map
    }

    /// A part that keeps the mapping alive; `None` if it is outside.
    pub(super) fn slice(self: &Arc<Self>, range: Range<usize>) -> Option<Bytes> {
        struct Slice(Arc<Mapping>, Range<usize>);
        impl AsRef<[u8]> for Slice {
            fn as_ref(&self) -> &[u8] {
                &self.0.as_slice()[self.1.clone()]
            }
        }
        self.as_slice().get(range.clone())?;
        Some(Bytes::from_owner(Slice(Arc::clone(self), range)))
    }

    /// Whether the file still has the mapped length, and every page that was touched could be read.
    pub(super) fn is_backed(&self) -> bool {
        // SAFETY: all-zero is a valid stat, which the call then fills.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open, the struct is writable and outlives the call.
        let result = unsafe { libc::fstat(self.file.as_raw_fd(), &raw mut stat) };
        result == 0
            && !self.guard.is_poisoned()
            && u64::try_from(stat.st_size).is_ok_and(|size| size >= self.map.len() as u64)
    }
}
