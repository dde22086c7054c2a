//! System calls without a safe wrapper: `sendmsg` with `MSG_MORE` and `sendfile`, which avoid copying, the state of a TCP connection,
//! and registration of a socket with epoll.
#![allow(unsafe_code)] // three system calls, which touch what is borrowed for their duration; one registration

use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

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

/// Bytes of `struct tcp_info` up to the time of the last acknowledgement; later fields differ between kernels.
const TCP_INFO_BYTES: usize = 60;

/// Unanswered window probes after which a client does not answer: single ones may be lost.
const LOST_PROBES: u8 = 3;

/// State of the client of a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClientState {
    /// Time since it has acknowledged anything, if it does not answer what is sent to it. A client that does not read answers the
    /// probes of its closed window.
    pub(super) silent_for: Option<Duration>,
    /// It has closed its side, and may still read (`TCP_CLOSE_WAIT`).
    pub(super) has_finished: bool,
}

/// The state of a client; `None`: the kernel does not say.
pub(super) fn client_state(socket: BorrowedFd<'_>) -> Option<ClientState> {
    const CLOSE_WAIT: u8 = 8;
    let mut info = [0_u8; TCP_INFO_BYTES];
    let mut length = TCP_INFO_BYTES as libc::socklen_t;
    // SAFETY: the socket is open for as long as it is borrowed; the kernel writes at most `length` bytes, all of which are ours.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 || length as usize != TCP_INFO_BYTES {
        return None;
    }
    // tcpi_retransmits and tcpi_probes: both are 0 after an acknowledgement. tcpi_last_ack_recv, in milliseconds.
    let (state, retransmits, probes) = (info[0], info[2], info[3]);
    let silent_ms = u32::from_ne_bytes([info[56], info[57], info[58], info[59]]);
    let is_silent = retransmits > 0 || probes >= LOST_PROBES;
    Some(ClientState {
        silent_for: is_silent.then(|| Duration::from_millis(u64::from(silent_ms))),
        has_finished: state == CLOSE_WAIT,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::os::fd::AsFd as _;
    use std::time::Instant;

    use super::*;

    /// A connection whose client reads nothing, with a full socket.
    fn paused() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        while server.write(&[7; 65536]).is_ok() {}
        (server, client)
    }

    #[test]
    fn a_client_that_does_not_read_answers_and_one_that_is_gone_does_not() {
        let (waits, mut client) = paused();
        let (lost, gone) = paused();
        // Drops whatever arrives for it, as a client without power does.
        let nothing = socket2::SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);
        socket2::SockRef::from(&gone).attach_filter(&[nothing]).unwrap();
        let silence = |socket: &TcpStream| client_state(socket.as_fd()).unwrap().silent_for;
        let begun = Instant::now();
        while silence(&lost).is_none_or(|it| it < Duration::from_secs(2)) {
            assert!(begun.elapsed() < Duration::from_secs(20), "three probes take 1.4 s at least");
            assert_eq!(silence(&waits), None);
            std::thread::sleep(Duration::from_millis(100));
        }
        // It reads again.
        let mut bytes = vec![0; 1 << 20];
        assert!(client.read(&mut bytes).unwrap() > 0);
        assert_eq!(silence(&waits), None);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(client_state(waits.as_fd()).unwrap().has_finished);
        assert!(!client_state(lost.as_fd()).unwrap().has_finished);
    }
}
