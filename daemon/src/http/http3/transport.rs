//! Adapter from quinn's QUIC streams to the traits of `h3`; bodies are copied only once, into their packets.
//!
//! `h3` returns a frame as bytes to be read. [`SendHalf`] passes quinn a reference where those bytes lie in the body's memory,
//! and a copy of the rest: heads, and frame headers. `h3` buffers a frame of any length until it is complete; [`UnreadBytes`]
//! bounds the bytes that a stream may send without completing a frame.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h3::error::Code;
use h3::quic::{
    self, ConnectionErrorIncoming, OpenStreams, RecvStream, SendStream, StreamErrorIncoming, StreamId,
    WriteBuf,
};
use quinn::VarInt;

use crate::http::connection::MAX_HEAD_BYTES;

/// Bytes read from a stream at a time.
const READ_BYTES: usize = 16 << 10;

carousel::limits! {
    /// Bytes of an HTTP/3 request stream that are neither read as a head nor handed on as a body.
    const MAX_UNREAD_BYTES: u64 = MAX_HEAD_BYTES as u64 + (32 << 10), "bytes" {
        why: "A head, and two reads of 16 KiB; further frames mean nothing.",
        full: "The connection ends; counted as `flood`.",
        free: "When the head, or a piece of the body, is read.",
        test: "floods_of_streams_and_of_frames_end_their_own_connection",
    }

    /// Bytes of all unidirectional streams of an HTTP/3 connection together; each request adds 256.
    const MAX_CONTROL_BYTES: u64 = 64 << 10, "bytes" {
        why: "Settings, and what QPACK says without a dynamic table.",
        full: "The connection ends; counted as `flood`.",
        free: "Holds for one connection.",
        test: "floods_of_streams_and_of_frames_end_their_own_connection",
    }
}

/// Added for each request: browsers send a priority with it, and another when it changes.
const CONTROL_BYTES_PER_REQUEST: u64 = 256;

type Streams = (quinn::SendStream, quinn::RecvStream);
type Waiting<T> = Option<Pin<Box<dyn Future<Output = Result<T, quinn::ConnectionError>>>>>;

/// Polls the pending future of a stream of `connection`, which `begin` creates if there is none.
fn poll_stream<T, F: Future<Output = Result<T, quinn::ConnectionError>> + 'static>(
    waiting: &mut Waiting<T>,
    connection: &quinn::Connection,
    begin: impl FnOnce(quinn::Connection) -> F,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    let stream = ready!(waiting.get_or_insert_with(|| Box::pin(begin(connection.clone()))).as_mut().poll(cx));
    *waiting = None;
    Poll::Ready(stream)
}

/// Bytes received on a stream that do not complete a frame yet.
#[derive(Debug)]
pub(super) struct UnreadBytes {
    bytes: Cell<u64>,
    most: Cell<u64>,
    /// Set when a limit of the connection is exceeded.
    is_over: Rc<Cell<bool>>,
}

impl UnreadBytes {
    fn new(most: u64, is_over: &Rc<Cell<bool>>) -> Rc<Self> {
        Rc::new(Self { bytes: Cell::new(0), most: Cell::new(most), is_over: Rc::clone(is_over) })
    }

    /// Resets the count: a head, or a piece of a body, was read.
    pub(super) fn is_read(&self) {
        self.bytes.set(0);
    }

    fn add(&self, count: usize) -> Result<(), StreamErrorIncoming> {
        self.bytes.set(self.bytes.get() + count as u64);
        if self.bytes.get() <= self.most.get() {
            return Ok(());
        }
        self.is_over.set(true);
        Err(StreamErrorIncoming::Unknown("frames without end".into()))
    }
}

/// State of a request stream other than its bytes.
pub(super) struct StreamState {
    /// Its first bytes arrived before the end of the handshake: they may be a replay.
    pub(super) is_early: bool,
    /// Completes when the client stops reading the response.
    pub(super) stopped: Pin<Box<dyn Future<Output = ()>>>,
    /// The memory of the piece of a body that is being sent.
    pub(super) piece: Rc<RefCell<Bytes>>,
    pub(super) unread: Rc<UnreadBytes>,
}

/// One connection.
pub(super) struct Transport {
    accepting_bi: Waiting<Streams>,
    accepting_uni: Waiting<quinn::RecvStream>,
    opener: Opener,
    latest: Rc<RefCell<Option<StreamState>>>,
    control: Rc<UnreadBytes>,
    is_over: Rc<Cell<bool>>,
}

impl Transport {
    /// `latest`: receives the state of the last accepted request stream. `is_over`: set when a limit is exceeded.
    pub(super) fn new(
        connection: quinn::Connection,
        latest: Rc<RefCell<Option<StreamState>>>,
        is_over: Rc<Cell<bool>>,
    ) -> Self {
        let opener = Opener::new(connection);
        let control = UnreadBytes::new(MAX_CONTROL_BYTES, &is_over);
        Self { accepting_bi: None, accepting_uni: None, opener, latest, control, is_over }
    }
}

impl quic::Connection<Bytes> for Transport {
    type RecvStream = ReceiveHalf;
    type OpenStreams = Opener;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::RecvStream, ConnectionErrorIncoming>> {
        let accept = |connection: quinn::Connection| async move { connection.accept_uni().await };
        let connection = &self.opener.connection;
        Poll::Ready(match ready!(poll_stream(&mut self.accepting_uni, connection, accept, cx)) {
            Ok(stream) => Ok(ReceiveHalf { stream, unread: Rc::clone(&self.control) }),
            Err(err) => Err(connection_error(err)),
        })
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::BidiStream, ConnectionErrorIncoming>> {
        let accept = |connection: quinn::Connection| async move { connection.accept_bi().await };
        let connection = &self.opener.connection;
        let (send, recv) = match ready!(poll_stream(&mut self.accepting_bi, connection, accept, cx)) {
            Ok(both) => both,
            Err(err) => return Poll::Ready(Err(connection_error(err))),
        };
        self.control.most.set(self.control.most.get() + CONTROL_BYTES_PER_REQUEST);
        let unread = UnreadBytes::new(MAX_UNREAD_BYTES, &self.is_over);
        let stopped = send.stopped();
        let stopped = Box::pin(async move {
            // `None` means that everything was acknowledged: not a cancellation, the response has ended.
            if let Ok(None) = stopped.await {
                std::future::pending::<()>().await;
            }
        });
        let piece = Rc::default();
        *self.latest.borrow_mut() = Some(StreamState {
            is_early: recv.is_0rtt(),
            stopped,
            piece: Rc::clone(&piece),
            unread: Rc::clone(&unread),
        });
        Poll::Ready(Ok(RequestStream {
            send: SendHalf::new(send, piece),
            recv: ReceiveHalf { stream: recv, unread },
        }))
    }

    fn opener(&self) -> Self::OpenStreams {
        Opener::new(self.opener.connection.clone())
    }
}

impl OpenStreams<Bytes> for Transport {
    type BidiStream = RequestStream;
    type SendStream = SendHalf;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::BidiStream, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.opener.close(code, reason);
    }
}

/// Opener of the server's own streams.
pub(super) struct Opener {
    connection: quinn::Connection,
    bi: Waiting<Streams>,
    uni: Waiting<quinn::SendStream>,
}

impl Opener {
    const fn new(connection: quinn::Connection) -> Self {
        Self { connection, bi: None, uni: None }
    }
}

impl OpenStreams<Bytes> for Opener {
    type BidiStream = RequestStream;
    type SendStream = SendHalf;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::BidiStream, StreamErrorIncoming>> {
        let open = |connection: quinn::Connection| async move { connection.open_bi().await };
        Poll::Ready(match ready!(poll_stream(&mut self.bi, &self.connection, open, cx)) {
            Ok((send, stream)) => {
                let unread = UnreadBytes::new(MAX_UNREAD_BYTES, &Rc::default());
                Ok(RequestStream {
                    send: SendHalf::new(send, Rc::default()),
                    recv: ReceiveHalf { stream, unread },
                })
            }
            Err(err) => Err(of_connection(err)),
        })
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        let open = |connection: quinn::Connection| async move { connection.open_uni().await };
        let opened = ready!(poll_stream(&mut self.uni, &self.connection, open, cx));
        Poll::Ready(opened.map(|stream| SendHalf::new(stream, Rc::default())).map_err(of_connection))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(code_of(code.value()), reason);
    }
}

/// The sending side of a stream.
pub(super) struct SendHalf {
    stream: quinn::SendStream,
    writing: Option<WriteBuf<Bytes>>,
    piece: Rc<RefCell<Bytes>>,
    is_ended: bool,
}

impl SendHalf {
    const fn new(stream: quinn::SendStream, piece: Rc<RefCell<Bytes>>) -> Self {
        Self { stream, writing: None, piece, is_ended: false }
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        // Dropping it, quinn would end the stream as if it were complete.
        if !self.is_ended {
            let _ = self.stream.reset(code_of(Code::H3_INTERNAL_ERROR.value()));
        }
    }
}

impl SendStream<Bytes> for SendHalf {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        while let Some(data) = self.writing.as_mut().filter(bytes::Buf::has_remaining) {
            let chunk = data.chunk();
            let own = part_of(&self.piece.borrow(), chunk);
            let mut parts = [own.unwrap_or_else(|| Bytes::copy_from_slice(chunk))];
            // A pending write has written nothing, and its stream keeps the waker.
            let written = ready!(pin!(self.stream.write_chunks(&mut parts)).poll(cx)).map_err(write_error)?;
            data.advance(written.bytes);
        }
        self.writing = None;
        *self.piece.borrow_mut() = Bytes::new();
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            return Err(StreamErrorIncoming::Unknown("a frame is still on its way".into()));
        }
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.is_ended = true;
        Poll::Ready(self.stream.finish().map_err(|err| StreamErrorIncoming::Unknown(err.into())))
    }

    fn reset(&mut self, reset_code: u64) {
        self.is_ended = true;
        let _ = self.stream.reset(code_of(reset_code));
    }

    fn send_id(&self) -> StreamId {
        id_of(self.stream.id())
    }
}

/// The receiving side of a stream.
pub(super) struct ReceiveHalf {
    stream: quinn::RecvStream,
    unread: Rc<UnreadBytes>,
}

impl RecvStream for ReceiveHalf {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Self::Buf>, StreamErrorIncoming>> {
        // A pending read has consumed nothing.
        match ready!(pin!(self.stream.read_chunk(READ_BYTES, true)).poll(cx)) {
            Ok(Some(chunk)) => Poll::Ready(self.unread.add(chunk.bytes.len()).map(|()| Some(chunk.bytes))),
            Ok(None) => Poll::Ready(Ok(None)),
            Err(err) => Poll::Ready(Err(read_error(err))),
        }
    }

    fn stop_sending(&mut self, error_code: u64) {
        let _ = self.stream.stop(code_of(error_code));
    }

    fn recv_id(&self) -> StreamId {
        id_of(self.stream.id())
    }
}

/// A bidirectional stream: request and response.
pub(super) struct RequestStream {
    send: SendHalf,
    recv: ReceiveHalf,
}

impl SendStream<Bytes> for RequestStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, reset_code: u64) {
        self.send.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

impl RecvStream for RequestStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Self::Buf>, StreamErrorIncoming>> {
        self.recv.poll_data(cx)
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.recv.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.recv_id()
    }
}

impl quic::BidiStream<Bytes> for RequestStream {
    type SendStream = SendHalf;
    type RecvStream = ReceiveHalf;

    fn split(self) -> (SendHalf, ReceiveHalf) {
        (self.send, self.recv)
    }
}

/// `part` as a reference into `whole`, if it lies in it.
fn part_of(whole: &Bytes, part: &[u8]) -> Option<Bytes> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let is_inside = !part.is_empty() && start.checked_add(part.len())? <= whole.len();
    is_inside.then(|| whole.slice(start..start + part.len()))
}

fn id_of(id: quinn::StreamId) -> StreamId {
    let number: u64 = VarInt::from(id).into_inner();
    number.try_into().expect("a number below 2^62, as that of every stream")
}

fn code_of(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

fn connection_error(err: quinn::ConnectionError) -> ConnectionErrorIncoming {
    match err {
        quinn::ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() }
        }
        quinn::ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}

fn of_connection(err: quinn::ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error: connection_error(err) }
}

fn write_error(err: quinn::WriteError) -> StreamErrorIncoming {
    match err {
        quinn::WriteError::Stopped(code) => {
            StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }
        }
        quinn::WriteError::ConnectionLost(err) => of_connection(err),
        other => StreamErrorIncoming::Unknown(other.into()),
    }
}

fn read_error(err: quinn::ReadError) -> StreamErrorIncoming {
    match err {
        quinn::ReadError::Reset(code) => {
            StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }
        }
        quinn::ReadError::ConnectionLost(err) => of_connection(err),
        other => StreamErrorIncoming::Unknown(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_sent_from_its_own_memory() {
        let whole = Bytes::from(vec![7; 100]);
        let part = part_of(&whole, &whole[10..60]).unwrap();
        assert_eq!((part.as_ptr(), part.len()), (whole[10..].as_ptr(), 50));
        let other = Bytes::from(vec![7; 100]);
        assert!(part_of(&whole, &other).is_none() && part_of(&whole, &[]).is_none());
        assert!(part_of(&whole.slice(0..50), &whole[10..60]).is_none());
    }

    #[test]
    fn frames_that_nothing_is_made_of_have_a_bound() {
        let is_over = Rc::default();
        let unread = UnreadBytes::new(100, &is_over);
        assert!(unread.add(60).is_ok());
        unread.is_read();
        assert!(unread.add(100).is_ok() && !is_over.get());
        assert!(unread.add(1).is_err() && is_over.get());
    }
}
