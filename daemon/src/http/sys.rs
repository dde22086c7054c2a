//! System calls without a safe wrapper that avoids copying: `sendmsg` with `MSG_MORE`, `sendfile`, and registration of a
//! socket with epoll.
#![allow(unsafe_code)] // two system calls, which touch what is borrowed for their duration; one registration

use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use tokio::io::unix::AsyncFd;

/// Registers a non-blocking socket with the runtime.
pub(super) fn watch(stream: TcpStream) -> io::Result<AsyncFd<TcpStream>> {
    // SAFETY: a TcpStream is one descriptor, the same one each time it is asked for, and open until it is dropped.
    unsafe { AsyncFd::register(stream) }.map_err(|err| err.into_parts().1)
}

/// Sends as much of `bufs` as fits without waiting. `more`: more data follows at once, so the kernel holds back a partial
/// segment.
pub(super) fn send(socket: BorrowedFd<'_>, bufs: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
    // SAFETY: all-zero is a valid msghdr: no name, no buffers, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // IoSlice has the layout of iovec; the call only reads through it.
    message.msg_iov = bufs.as_ptr().cast_mut().cast();
    // The field's type differs between C libraries.
    message.msg_iovlen = bufs.len().min(1024) as _;
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | if more { libc::MSG_MORE } else { 0 };
    // SAFETY: the socket is open for as long as it is borrowed, and so are the buffers.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Sends `count` bytes of a file from `offset` without waiting for the socket.
pub(super) fn send_file(
    socket: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    count: usize,
) -> io::Result<usize> {
    let mut offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: both descriptors are open for as long as they are borrowed; the offset is ours.
    let sent = unsafe { libc::sendfile64(socket.as_raw_fd(), file.as_raw_fd(), &raw mut offset, count) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
