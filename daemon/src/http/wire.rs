//! A player's socket for hyper: writes from mapped files are sent by `sendfile`.
//!
//! hyper hands the head and slices of the body to `poll_write_vectored`. A slice that [`Outbox`] knows as part of a file is
//! sent by the kernel from the page cache without being read here; everything else is sent by `sendmsg`, with `MSG_MORE`
//! where a file follows. Interim responses, which hyper's server does not support, are sent between two responses.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::unix::AsyncFd;

use super::sys;
use crate::store::View;

/// Bytes read at a time.
const READ_BYTES: usize = 4096;

/// A part of a file that is being sent.
#[derive(Debug)]
struct FileSlice {
    /// Address of its first byte in the mapping.
    address: usize,
    length: usize,
    view: View,
}

/// Counts `Content-Length` lines in the bytes of a client, since hyper does not report all of them. Similar lines in a
/// body count as well: a chunked request after one on the same connection is refused needlessly, and its client connects
/// again.
#[derive(Debug, Default)]
pub(super) struct Lengths {
    /// Bytes of the name matched in the current line; `None`: another line.
    matched: Option<usize>,
    is_within_line: bool,
    /// Lines found that no request has accounted for.
    pending: usize,
}

impl Lengths {
    const NAME: &'static [u8] = b"content-length:";

    fn read(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if !self.is_within_line {
                (self.is_within_line, self.matched) = (true, Some(0));
            }
            if *byte == b'\n' {
                self.is_within_line = false;
            } else if let Some(matched) = self.matched {
                let fits = Self::NAME[matched] == byte.to_ascii_lowercase();
                self.matched = fits.then_some(matched + 1);
                if self.matched == Some(Self::NAME.len()) {
                    (self.matched, self.pending) = (None, self.pending + 1);
                }
            }
        }
    }

    /// Accounts for a request. True: it is chunked, and a length line is left that no earlier request had.
    pub(super) fn account(&mut self, is_chunked: bool, has_length: bool) -> bool {
        if has_length {
            self.pending = self.pending.saturating_sub(1);
        }
        is_chunked && (has_length || self.pending > 0)
    }
}

/// State shared by a connection's body and its socket.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) lengths: RefCell<Lengths>,
    slices: RefCell<VecDeque<FileSlice>>,
    /// Bytes of interim responses that did not fit into the socket; sent before anything else.
    pending: RefCell<Vec<u8>>,
    /// hyper has no pending writes.
    is_clean: Cell<bool>,
    /// The socket was full at the last write.
    pub(super) is_blocked: Cell<bool>,
    /// Bytes read from the client.
    pub(super) bytes_in: Cell<u64>,
    /// Value of `bytes_in` when the last request was read.
    pub(super) bytes_in_at_request: Cell<u64>,
    /// Bytes that the socket has taken.
    pub(super) bytes_out: Cell<u64>,
    /// Ends the connection with a reset, so that the kernel keeps no data of it.
    resets: Cell<bool>,
    stream: RefCell<Option<Rc<AsyncFd<TcpStream>>>>,
}

impl Outbox {
    pub(super) const fn is_clean(&self) -> bool {
        self.is_clean.get()
    }

    /// Whether bytes of an incomplete request have arrived.
    pub(super) const fn has_begun(&self) -> bool {
        self.bytes_in.get() > self.bytes_in_at_request.get()
    }

    pub(super) fn set_clean(&self, is_clean: bool) {
        self.is_clean.set(is_clean);
    }

    /// Requests an immediate end of the connection.
    pub(super) fn reset(&self) {
        self.resets.set(true);
    }

    pub(super) const fn is_reset(&self) -> bool {
        self.resets.get()
    }

    /// Uses the socket of another outbox to observe the client.
    pub(super) fn observes(&self, socket: &Self) {
        self.stream.borrow_mut().clone_from(&socket.stream.borrow());
    }

    /// See [`sys::ClientState::silent_for`].
    pub(super) fn client_silence(&self) -> Option<Duration> {
        self.client_state()?.silent_for
    }

    /// Whether the client has closed its side of the connection. It may wait for its response (RFC 9112 section 9.6), or be gone.
    pub(super) fn has_client_finished(&self) -> bool {
        self.client_state().is_some_and(|it| it.has_finished)
    }

    fn client_state(&self) -> Option<sys::ClientState> {
        sys::client_state(self.stream.borrow().as_ref()?.get_ref().as_fd())
    }

    /// Registers bytes of a mapping that are about to be written, to be sent from the file.
    pub(super) fn expect(&self, bytes: &[u8], view: &View) {
        // Memory that is not the file's: it is copied.
        if view.offset_of(bytes.as_ptr() as usize).is_none() {
            return;
        }
        let slice = FileSlice { address: bytes.as_ptr() as usize, length: bytes.len(), view: view.clone() };
        self.slices.borrow_mut().push_back(slice);
    }

    /// Sends an interim response now; dropped if an earlier response is still pending, which is permitted.
    pub(super) fn send_interim(&self, bytes: &[u8]) {
        let stream = self.stream.borrow();
        let Some(stream) =
            stream.as_ref().filter(|_| self.is_clean.get() && self.pending.borrow().is_empty())
        else {
            return;
        };
        let sent = sys::send(stream.get_ref().as_fd(), &[IoSlice::new(bytes)], false).unwrap_or(0);
        if sent > 0 {
            self.pending.borrow_mut().extend_from_slice(&bytes[sent..]);
        }
    }

    /// Index of the slice in which `buf` begins.
    fn slice_of(&self, buf: &[u8]) -> Option<usize> {
        let address = buf.as_ptr() as usize;
        let holds = |it: &FileSlice| (it.address..it.address + it.length).contains(&address);
        if buf.is_empty() { None } else { self.slices.borrow().iter().position(holds) }
    }

    /// Sends the start of `buf`, which begins in the slice `at`.
    fn send_file(&self, stream: &TcpStream, at: usize, buf: &[u8]) -> io::Result<usize> {
        let mut slices = self.slices.borrow_mut();
        let address = buf.as_ptr() as usize;
        let slice = &slices[at];
        let offset = slice.view.offset_of(address).ok_or(io::ErrorKind::InvalidInput)?;
        let sent = sys::send_file(stream.as_fd(), slice.view.as_fd(), offset, buf.len())?;
        if sent == 0 {
            // The file was truncated: the response cannot be completed.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if address + sent == slice.address + slice.length {
            slices.remove(at);
        }
        Ok(sent)
    }
}

/// Stream on which HTTP/1.1 is served: a socket, or TLS on one.
pub(super) trait Channel: Read + Write + Unpin {
    /// Reads available bytes and counts them; 0 at the end.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Bytes that were read and put back.
    fn again(&mut self) -> &mut Bytes;

    /// Counter of bytes.
    fn counted(&self) -> &Outbox;

    /// Reads available bytes and passes them to `understand`; bytes that it rejects are read again by hyper.
    fn poll_understood<T>(
        &mut self,
        cx: &mut Context<'_>,
        understand: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Poll<io::Result<Option<T>>> {
        if !self.again().is_empty() {
            return Poll::Ready(Ok(None));
        }
        let mut bytes = [0; READ_BYTES];
        let count = ready!(self.poll_bytes(cx, &mut bytes))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let understood = understand(&bytes[..count]);
        if understood.is_none() {
            *self.again() = Bytes::copy_from_slice(&bytes[..count]);
        }
        Poll::Ready(Ok(understood))
    }

    /// Takes the bytes that were read and not processed.
    fn unread(&mut self) -> Bytes {
        self.again().clone()
    }

    /// Puts back bytes of an incomplete request.
    fn put_back(&mut self, bytes: &Bytes) {
        // Copied (usually empty): a slice would keep the complete buffer alive.
        *self.again() = Bytes::copy_from_slice(bytes);
        let counted = self.counted();
        counted.bytes_in_at_request.set(counted.bytes_in.get() - bytes.len() as u64);
    }

    /// Reads for hyper. Heads are short: copying one costs less than reading into memory that hyper must zero first.
    fn poll_copied(&mut self, cx: &mut Context<'_>, buf: &mut ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.again().is_empty() {
            let count = self.again().len().min(buf.remaining());
            let again = self.again().split_to(count);
            self.counted().lengths.borrow_mut().read(&again);
            buf.put_slice(&again);
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [0; READ_BYTES];
        let most = READ_BYTES.min(buf.remaining());
        let count = ready!(self.poll_bytes(cx, &mut bytes[..most]))?;
        self.counted().lengths.borrow_mut().read(&bytes[..count]);
        buf.put_slice(&bytes[..count]);
        Poll::Ready(Ok(()))
    }
}

/// A player's socket.
pub(super) struct Wire {
    stream: Rc<AsyncFd<TcpStream>>,
    outbox: Rc<Outbox>,
    /// Bytes that were read and put back.
    again: Bytes,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.outbox.resets.get() {
            let _ = socket2::SockRef::from(self.stream.get_ref()).set_linger(Some(Duration::ZERO));
        }
    }
}

impl Wire {
    /// Wraps a non-blocking socket.
    pub(super) fn new(stream: TcpStream, outbox: Rc<Outbox>) -> io::Result<Self> {
        let stream = Rc::new(sys::watch(stream)?);
        outbox.is_clean.set(true);
        *outbox.stream.borrow_mut() = Some(Rc::clone(&stream));
        Ok(Self { stream, outbox, again: Bytes::new() })
    }

    /// Sends as much as fits, interim responses first. Returns the bytes sent of `bufs`, and whether the socket is full.
    fn send(stream: &TcpStream, outbox: &Outbox, bufs: &[IoSlice<'_>]) -> io::Result<(usize, bool)> {
        let mut pending = outbox.pending.borrow_mut();
        if !pending.is_empty() {
            let sent = sys::send(stream.as_fd(), &[IoSlice::new(&pending)], true)?;
            pending.drain(..sent);
            if !pending.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        let slice_of = |(number, buf): (usize, &IoSlice<'_>)| Some((number, outbox.slice_of(buf)?));
        let first_file = bufs.iter().enumerate().find_map(slice_of);
        let plain = &bufs[..first_file.map_or(bufs.len(), |(number, _)| number)];
        let wanted: usize = plain.iter().map(|buf| buf.len()).sum();
        let mut sent = 0;
        if wanted > 0 {
            sent = sys::send(stream.as_fd(), plain, first_file.is_some())?;
            if sent < wanted {
                return Ok((sent, true));
            }
        }
        let Some((number, at)) = first_file else { return Ok((sent, false)) };
        match outbox.send_file(stream, at, &bufs[number]) {
            Ok(more) => Ok((sent + more, more < bufs[number].len())),
            Err(err) if sent > 0 && err.kind() == io::ErrorKind::WouldBlock => Ok((sent, true)),
            Err(err) => Err(err),
        }
    }
}

impl Channel for Wire {
    fn poll_bytes(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.get_ref().read(bytes) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Poll::Ready(Err(err)),
                Ok(count) => {
                    // A short read: more would be a needless system call. An end shows at the next read.
                    if count > 0 && count < bytes.len() {
                        guard.clear_ready();
                    }
                    self.outbox.bytes_in.set(self.outbox.bytes_in.get() + count as u64);
                    return Poll::Ready(Ok(count));
                }
            }
        }
    }

    fn again(&mut self) -> &mut Bytes {
        &mut self.again
    }

    fn counted(&self) -> &Outbox {
        &self.outbox
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_copied(cx, &mut buf)
    }
}

impl Write for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.outbox.is_clean.set(false);
        loop {
            let Poll::Ready(guard) = self.stream.poll_write_ready(cx) else {
                self.outbox.is_blocked.set(true);
                return Poll::Pending;
            };
            let mut guard = guard?;
            match Self::send(self.stream.get_ref(), &self.outbox, bufs) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(err) => return Poll::Ready(Err(err)),
                Ok((sent, is_full)) => {
                    self.outbox.is_blocked.set(false);
                    self.outbox.bytes_out.set(self.outbox.bytes_out.get() + sent as u64);
                    // Wait until it is writable again.
                    if is_full {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(sent));
                }
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Called when hyper has written everything.
        self.outbox.is_clean.set(true);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(self.stream.get_ref()).shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{carried, open, publish_arrived};

    #[test]
    fn bytes_of_a_body_that_was_assembled_in_memory_are_not_sent_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let body = vec![7; 200_000];
        let (frozen, meta) = carried(&store, "http://h/a", &body);
        let in_file = store.publish(&frozen, meta).unwrap();
        let in_memory = publish_arrived(&store, "http://h/b", &body);
        assert_eq!(store.usage().arena_bytes, 256 << 10);
        for (object, slices) in [(in_file, 1), (in_memory, 0)] {
            let outbox = Outbox::default();
            let view = object.view().unwrap();
            let bytes = view.bytes(100..200_000).unwrap();
            outbox.expect(&bytes, &view);
            assert_eq!(outbox.slices.borrow().len(), slices);
            assert_eq!(outbox.slice_of(&bytes).is_some(), slices > 0);
        }
    }

    #[test]
    fn a_length_beside_chunks_is_seen_wherever_it_stands_and_however_it_comes() {
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n";
        let seen = |text: &str, at_once: usize| {
            let mut lengths = Lengths::default();
            text.as_bytes().chunks(at_once).for_each(|piece| lengths.read(piece));
            lengths
        };
        for at_once in [1, 3, 4096] {
            let both = format!("{chunked}cOnTent-LengTH: 5\r\n\r\n");
            assert!(seen(&both, at_once).account(true, false), "{at_once}");
            assert!(!seen(&format!("{chunked}X-Content-Length: 5\r\n\r\n"), at_once).account(true, false));
            assert!(!seen(&format!("{chunked}\r\n"), at_once).account(true, false));
            // In a request behind another that has come with it.
            let mut lengths = seen(&format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{both}"), at_once);
            assert!(!lengths.account(false, false) && lengths.account(true, false));
            let plain = "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx";
            let mut lengths = seen(&format!("{plain}{chunked}\r\n"), at_once);
            assert!(!lengths.account(false, true) && !lengths.account(true, false));
        }
    }
}
