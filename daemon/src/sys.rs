//! Mapping a recording, and the limit of open files; everything else unsafe is in `source::sys`, `store` and `http::sys`.
#![allow(unsafe_code)] // three calls

use std::fs::File;
use std::io;

/// Raises the limit of open files as far as an ordinary process may: each connection, each fetch and each mapped object has one,
/// and the usual 1024 are from a time of `select`.
pub fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is ours, and the call fills it.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the call only reads the struct. If it fails, the limit stays as it was.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

/// Maps a recording for reading.
///
/// # Errors
/// What the system said.
pub(crate) fn map_file(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the map is only read, as plain bytes, for which every bit pattern is valid; whoever replays a recording
    // owns it, and what it holds is checked like anything from outside.
    unsafe { memmap2::Mmap::map(file) }
}
