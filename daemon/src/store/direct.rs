//! Writes past the page cache.
#![allow(unsafe_code)] // fcntl and pwritev on a descriptor and buffers that we own

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;

use super::format::HEADER_BYTES;

/// Alignment of memory, offset and length: that of every file system that takes O_DIRECT, and a page of flash or more.
const BLOCK_BYTES: usize = 4096;

#[repr(align(4096))]
struct Page([u8; HEADER_BYTES]);

/// Switches O_DIRECT of a descriptor.
fn set_direct(file: &File, is_direct: bool) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    let flags = if is_direct { flags | libc::O_DIRECT } else { flags & !libc::O_DIRECT };
    // SAFETY: as above.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Writes header page and body to an empty file: complete blocks past the page cache, the rest of the last block through it.
/// `body` is aligned to a block. Nobody else uses the descriptor meanwhile.
pub(super) fn write(file: &File, header: &[u8], body: &[u8]) -> io::Result<()> {
    let mut page = Box::new(Page([0; HEADER_BYTES]));
    page.0[..header.len()].copy_from_slice(header);
    let (blocks, rest) = body.split_at(body.len() - body.len() % BLOCK_BYTES);
    set_direct(file, true)?;
    let written = write_vectored(file, &page.0, blocks);
    set_direct(file, false)?;
    if written? != HEADER_BYTES + blocks.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    file.write_all_at(rest, (HEADER_BYTES + blocks.len()) as u64)
}

fn write_vectored(file: &File, first: &[u8], second: &[u8]) -> io::Result<usize> {
    let part =
        |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let parts = [part(first), part(second)];
    // SAFETY: both parts are borrowed for the length of the call, which only reads them.
    let written = unsafe { libc::pwritev(file.as_raw_fd(), parts.as_ptr(), 2, 0) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}
