//! Mapping a recording; everything else unsafe is in `source::sys` and `store`.
#![allow(unsafe_code)] // one call

use std::fs::File;
use std::io;

/// Maps a recording for reading.
///
/// # Errors
/// What the system said.
pub(crate) fn map_file(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the map is only read, as plain bytes, for which every bit pattern is valid; whoever replays a recording
    // owns it, and what it holds is checked like anything from outside.
    unsafe { memmap2::Mmap::map(file) }
}
