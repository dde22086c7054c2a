//! System calls without a safe wrapper: one socket option, and mapping a file.
#![allow(unsafe_code)] // two calls; each SAFETY comment says what makes it sound

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use socket2::Socket;

/// Chooses the interface that IPv4 multicast leaves by, by index.
///
/// # Errors
/// What the system said.
pub(crate) fn set_multicast_if_index_v4(socket: &Socket, index: u32) -> io::Result<()> {
    let request = libc::ip_mreqn {
        imr_multiaddr: libc::in_addr { s_addr: 0 },
        imr_address: libc::in_addr { s_addr: 0 },
        imr_ifindex: i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?,
    };
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the kernel reads exactly
    // `size_of::<ip_mreqn>()` bytes of `request`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MULTICAST_IF,
            std::ptr::from_ref(&request).cast(),
            size_of::<libc::ip_mreqn>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Maps a recording for reading. A recording that another program cuts short while it is read ends this one
/// (SIGBUS); the file's owner is who runs `inspect`.
///
/// # Errors
/// What the system said.
pub(crate) fn map_file(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the map is only read, as plain bytes, for which every bit pattern is valid; that the bytes may change
    // under a reader is accepted for recordings, whose content is checked like anything from outside.
    unsafe { memmap2::Mmap::map(file) }
}
