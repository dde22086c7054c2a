//! Memory mappings of the bodies of object files.
#![allow(unsafe_code)] // mmap, mincore, fstat, sysconf; the invariant is on the type

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::arena::Buffer;
use super::format::HEADER_BYTES;
use super::sigbus::Guard;

/// The body of an object file, mapped for reading, and perhaps a copy of bytes before it.
///
/// Invariant: nothing that [`Memory::File`] covers is written to while it exists, and all references into it are to what it covers.
/// It covers the body, of which `Partial::write_before` refuses every write from `Partial::freeze` on, and which no other code writes
/// to: one that was assembled in memory is written to its file before that is mapped. It does not cover the header page, which is
/// written at publication and by soft purges: bytes of that page are in a private copy ([`Mapping::with_head`]). Changes by other
/// programs are detected by [`Mapping::is_backed`], and where that comes too late by [`super::sigbus`].
#[derive(Debug)]
pub(super) struct Mapping {
    memory: Memory,
    head: usize,
    file: OwnedFd,
}

/// Source of the bytes.
#[derive(Debug)]
enum Memory {
    /// The file, from `head` bytes before the body to its end. The guard must go first.
    File { guard: Guard, map: memmap2::Mmap },
    /// Memory in which the body was assembled, and its length.
    Arena(Arc<Buffer>, usize),
}

impl Mapping {
    /// Maps the first `length` bytes of the body of a file that has at least as many.
    pub(super) fn of_body(file: &File, length: usize) -> io::Result<Self> {
        check_length(file, length)?;
        let mut options = memmap2::MmapOptions::new();
        // SAFETY: by the type's invariant the body is not written to while the map exists; the header page is outside of it.
        let map = unsafe { options.offset(HEADER_BYTES as u64).len(length).map(file)? };
        let memory = Memory::File { guard: Guard::new(&map), map };
        Ok(Self { memory, head: 0, file: file.try_clone()?.into() })
    }

    /// The first `length` bytes of a body that was assembled in memory and goes, or went, to this file.
    pub(super) fn of_buffer(file: &File, buffer: Arc<Buffer>, length: usize) -> io::Result<Self> {
        if length > buffer.as_slice().len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self { memory: Memory::Arena(buffer, length), head: 0, file: file.try_clone()?.into() })
    }

    /// The mapping of a body after its file was written: the same memory, or the file.
    pub(super) fn of_written(&self, file: &File, length: usize) -> io::Result<Self> {
        match &self.memory {
            Memory::Arena(buffer, length) => Self::of_buffer(file, Arc::clone(buffer), *length),
            Memory::File { .. } => Self::of_body(file, length),
        }
    }

    /// The mapping of the same bytes of the file, once they are there.
    pub(super) fn of_file(&self) -> io::Result<Self> {
        let file = File::from(self.file.try_clone()?);
        Self::of_body(&file, self.as_slice().len())
    }

    /// Whether the bytes are in memory of ours, and not those of the file.
    pub(super) const fn is_in_arena(&self) -> bool {
        matches!(self.memory, Memory::Arena(..))
    }

    /// As [`Mapping::of_body`], behind a copy of the `head` bytes before the body. The page that they are in is one of our own from then
    /// on: what is written to the file's header page later is not seen here.
    pub(super) fn with_head(file: &File, head: usize, length: usize) -> io::Result<Self> {
        let start = HEADER_BYTES.checked_sub(head).ok_or(io::ErrorKind::InvalidInput)?;
        let bytes = head.checked_add(length).ok_or(io::ErrorKind::FileTooLarge)?;
        check_length(file, length)?;
        let mut copy = vec![0; head];
        file.read_exact_at(&mut copy, start as u64)?;
        let mut options = memmap2::MmapOptions::new();
        // Only one page of it is ever written to.
        options.offset(start as u64).len(bytes).no_reserve_swap();
        // SAFETY: as above for the body. Bytes before it are in the first page of the map, since the file's page of HEADER_BYTES lies in one
        // page of the system: the copy below makes that page private before anything else refers to it.
        let mut map = unsafe { options.map_copy(file)? };
        let guard = Guard::new(&map);
        map[..head].copy_from_slice(&copy);
        if guard.is_poisoned() {
            return Err(io::Error::other("a page that was just read cannot be read"));
        }
        let memory = Memory::File { guard, map: map.make_read_only()? };
        Ok(Self { memory, head, file: file.try_clone()?.into() })
    }

    /// The file.
    pub(super) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Whether the pages of a range of the body are in memory: sending them does not wait for the disk.
    pub(super) fn is_resident(&self, range: Range<usize>) -> bool {
        let body = self.as_slice();
        let end = range.end.min(body.len());
        if end <= range.start || self.is_in_arena() {
            return true;
        }
        let page = page_bytes();
        let first = body.as_ptr().wrapping_add(range.start);
        let address = first.wrapping_sub(first.addr() % page);
        let length = end - range.start + first.addr() % page;
        let mut pages = vec![0_u8; length.div_ceil(page)];
        // SAFETY: the range lies in pages of the mapping, from the start of one; there is a byte for each of them.
        let result = unsafe { libc::mincore(address.cast_mut().cast(), length, pages.as_mut_ptr().cast()) };
        // If the kernel does not answer, assume that reading waits.
        result == 0 && pages.iter().all(|page| page & 1 == 1)
    }

    /// The body.
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.with_copied_head()[self.head..]
    }

    /// The body, and the bytes that were copied from before it.
    pub(super) fn with_copied_head(&self) -> &[u8] {
        match &self.memory {
            Memory::File { map, .. } => &map[..],
            Memory::Arena(buffer, length) => &buffer.as_slice()[..*length],
        }
    }

    /// Offset in the file of a byte of the body, by its address. `None` if reading the file would not be reading these bytes.
    pub(super) fn offset_in_file(&self, address: usize) -> Option<u64> {
        if self.is_in_arena() {
            return None;
        }
        let body = self.as_slice();
        let offset = address.checked_sub(body.as_ptr().addr())?;
        (offset < body.len()).then_some((offset + HEADER_BYTES) as u64)
    }

    /// A part of the body that keeps the mapping alive; `None` if it is outside.
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
        let end = self.as_slice().len() as u64 + HEADER_BYTES as u64;
        let is_poisoned = matches!(&self.memory, Memory::File { guard, .. } if guard.is_poisoned());
        result == 0 && !is_poisoned && u64::try_from(stat.st_size).is_ok_and(|size| size >= end)
    }
}

fn check_length(file: &File, length: usize) -> io::Result<()> {
    let is_there = file.metadata()?.len() >= length as u64 + HEADER_BYTES as u64;
    if is_there { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Bytes of a page of the system: 4096, or 16 or 64 KiB on some ARM.
fn page_bytes() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    // SAFETY: reads a number.
    let ask = || usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    *BYTES.get_or_init(ask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: u8, body: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[header; HEADER_BYTES], 0).unwrap();
        file.write_all_at(body, HEADER_BYTES as u64).unwrap();
        file
    }

    #[test]
    fn no_reference_reaches_the_header_page_and_a_copied_head_does_not_change_with_it() {
        let body: Vec<u8> = (0..10_000_u32).map(|at| at as u8).collect();
        let file = file(1, &body);
        let plain = Arc::new(Mapping::of_body(&file, body.len()).unwrap());
        let headed = Mapping::with_head(&file, 100, body.len()).unwrap();
        let whole = Mapping::with_head(&file, HEADER_BYTES, 0).unwrap();
        let all = [&[1; 100], &body[..]].concat();
        assert_eq!((plain.with_copied_head(), headed.with_copied_head()), (&body[..], &all[..]));
        file.write_all_at(&[2; HEADER_BYTES], 0).unwrap();
        assert_eq!((plain.with_copied_head(), headed.with_copied_head()), (&body[..], &all[..]));
        assert!(whole.with_copied_head() == [1; HEADER_BYTES] && whole.as_slice().is_empty());
        assert_eq!((plain.as_slice(), headed.as_slice()), (&body[..], &body[..]));
        assert!(Mapping::with_head(&file, HEADER_BYTES + 1, 0).is_err());
        assert!(Mapping::of_body(&file, body.len() + 1).is_err());

        // Addresses are of the body alone, and offsets of the file.
        for mapping in [&*plain, &headed] {
            let first = mapping.as_slice().as_ptr().addr();
            let offset = |at: usize| mapping.offset_in_file(at);
            assert_eq!((offset(first - 1), offset(first)), (None, Some(HEADER_BYTES as u64)));
            assert_eq!(offset(first + 9999), Some(HEADER_BYTES as u64 + 9999));
            assert_eq!(offset(first + 10_000), None);
            assert!(mapping.is_resident(0..10_000) && mapping.is_resident(9000..20_000), "just written");
        }
        assert_eq!(plain.slice(9990..10_000).as_deref(), Some(&body[9990..]));
        assert_eq!(plain.slice(9990..10_001), None);
    }

    #[test]
    fn an_empty_body_is_mapped() {
        let mapping = Arc::new(Mapping::of_body(&file(1, &[]), 0).unwrap());
        assert!(mapping.as_slice().is_empty() && mapping.is_backed() && mapping.is_resident(0..0));
        assert_eq!(mapping.slice(0..0).as_deref(), Some(&[][..]));
    }
}
