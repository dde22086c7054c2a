//! TLS on a client's socket, with the interface of a plain one for the HTTP/1.1 loop and hyper.
//!
//! A [`Secure`] counts plaintext in its own [`Outbox`]: bytes received, bytes taken by the client, and whether it is
//! blocked. So a TLS connection is parked, answered without hyper and watched for slow clients like a plain one. Bodies
//! are sent from memory, since the kernel cannot encrypt files that it sends.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::wire::{Channel, Outbox, Wire};

/// TLS on one socket.
pub(super) struct Secure {
    stream: TlsStream<TokioIo<Wire>>,
    /// Plaintext bytes read and written.
    counted: Rc<Outbox>,
    /// The socket's outbox, which counts encrypted bytes.
    socket: Rc<Outbox>,
    /// Bytes that were read and put back.
    again: Bytes,
}

impl Drop for Secure {
    fn drop(&mut self) {
        if self.counted.is_reset() {
            self.socket.reset();
        }
    }
}

impl Secure {
    /// Wraps a socket with the outbox `socket` after its handshake.
    pub(super) fn new(stream: TlsStream<TokioIo<Wire>>, counted: Rc<Outbox>, socket: Rc<Outbox>) -> Self {
        counted.set_clean(true);
        counted.observes(&socket);
        Self { stream, counted, socket, again: Bytes::new() }
    }

    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.counted.is_blocked.set(polled.is_pending());
        if let Poll::Ready(Ok(count)) = &polled {
            self.counted.bytes_out.set(self.counted.bytes_out.get() + *count as u64);
        }
        polled
    }
}

impl Channel for Secure {
    fn poll_bytes(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(bytes);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
        let count = buf.filled().len();
        self.counted.bytes_in.set(self.counted.bytes_in.get() + count as u64);
        Poll::Ready(Ok(count))
    }

    fn again(&mut self) -> &mut Bytes {
        &mut self.again
    }

    fn counted(&self) -> &Outbox {
        &self.counted
    }
}

impl Read for Secure {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_copied(cx, &mut buf)
    }
}

impl Write for Secure {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.counted.set_clean(false);
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.counted.is_blocked.set(flushed.is_pending());
        self.counted.set_clean(flushed.is_ready());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
