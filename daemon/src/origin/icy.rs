//! Support for the status line of SHOUTcast, `ICY 200 OK`, which radio servers still send in place of HTTP's.
//!
//! Only the first four bytes of a connection are checked: such a server closes it after one response.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Uri;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tower_service::Service;

use super::addresses;

const THEIRS: &[u8; 4] = b"ICY ";
const OURS: &[u8] = b"HTTP/1.0 ";

/// Connects by TCP, and translates an `ICY` status line to HTTP/1.0.
#[derive(Debug, Clone)]
pub(super) struct Connector(pub(super) addresses::Connector);

type Inner = <addresses::Connector as Service<Uri>>::Response;
type Connecting = <addresses::Connector as Service<Uri>>::Future;

impl Service<Uri> for Connector {
    type Response = Stream<Inner>;
    type Error = <addresses::Connector as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting: Connecting = self.0.call(uri);
        Box::pin(async move { Ok(Stream::new(connecting.await?)) })
    }
}

/// A connection whose first bytes are checked.
#[derive(Debug)]
pub(super) struct Stream<T> {
    inner: T,
    first: First,
}

/// The first bytes of a connection.
#[derive(Debug)]
enum First {
    /// Number of bytes of [`THEIRS`] received so far.
    Awaited(usize),
    /// Bytes to be read before anything else.
    Held {
        bytes: [u8; OURS.len()],
        from: usize,
        until: usize,
    },
    Over,
}

impl<T> Stream<T> {
    const fn new(inner: T) -> Self {
        Self { inner, first: First::Awaited(0) }
    }
}

impl First {
    fn held(parts: [&[u8]; 2]) -> Self {
        let mut bytes = [0; OURS.len()];
        let mut until = 0;
        for part in parts {
            bytes[until..until + part.len()].copy_from_slice(part);
            until += part.len();
        }
        Self::Held { bytes, from: 0, until }
    }
}

impl<T: Read + Unpin> Read for Stream<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.first {
                First::Over => return Pin::new(&mut this.inner).poll_read(cx, buf),
                First::Held { bytes, from, until } => {
                    let part = &bytes[*from..*until];
                    let part = &part[..part.len().min(buf.remaining())];
                    buf.put_slice(part);
                    *from += part.len();
                    if from == until {
                        this.first = First::Over;
                    }
                    return Poll::Ready(Ok(()));
                }
                First::Awaited(known) => {
                    let known = *known;
                    let mut space = [0; THEIRS.len()];
                    let mut own = ReadBuf::new(&mut space[known..]);
                    ready!(Pin::new(&mut this.inner).poll_read(cx, own.unfilled()))?;
                    let new = own.filled();
                    this.first = if new.is_empty() || !THEIRS[known..].starts_with(new) {
                        // At the end of the stream nothing is added; the next read reports it again.
                        match known + new.len() {
                            0 => First::Over,
                            _ => First::held([&THEIRS[..known], new]),
                        }
                    } else if known + new.len() == THEIRS.len() {
                        First::held([OURS, &[]])
                    } else {
                        First::Awaited(known + new.len())
                    };
                }
            }
        }
    }
}

impl<T: Write + Unpin> Write for Stream<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }
}

impl<T: Connection> Connection for Stream<T> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its pieces one by one, then the end.
    struct Pieces(Vec<&'static [u8]>);

    impl Read for Pieces {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            mut buf: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            let pieces = &mut self.get_mut().0;
            if let Some(piece) = pieces.first_mut() {
                let (now, later) = piece.split_at(piece.len().min(buf.remaining()));
                buf.put_slice(now);
                *piece = later;
                if later.is_empty() {
                    pieces.remove(0);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    fn read(pieces: &[&'static [u8]], room: usize) -> String {
        let mut stream = Stream::new(Pieces(pieces.to_vec()));
        let mut all = Vec::new();
        loop {
            let mut space = vec![0; room];
            let mut buf = ReadBuf::new(&mut space);
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(Pin::new(&mut stream).poll_read(&mut cx, buf.unfilled()).is_ready());
            if buf.filled().is_empty() {
                return String::from_utf8(all).unwrap();
            }
            all.extend_from_slice(buf.filled());
        }
    }

    #[test]
    fn only_the_first_bytes_are_another_version_of_http() {
        for room in [1, 3, 64] {
            assert_eq!(read(&[b"ICY 200 OK\r\nICY ", b"ICY "], room), "HTTP/1.0 200 OK\r\nICY ICY ");
            assert_eq!(read(&[b"I", b"CY", b" 200"], room), "HTTP/1.0 200");
            assert_eq!(read(&[b"HTTP/1.1 200 OK\r\n"], room), "HTTP/1.1 200 OK\r\n");
            assert_eq!(read(&[b"IC", b"E 200"], room), "ICE 200");
            assert_eq!((read(&[b"ICY"], room), read(&[], room)), ("ICY".to_owned(), String::new()));
        }
    }
}
