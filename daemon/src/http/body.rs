//! Response bodies: bytes in memory, slices of mapped objects, objects as they arrive.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Waits;
use super::manifest::{PIECE_BYTES, Rewriter};
use super::tail::{self, Tail};
use super::wire::Outbox;
use crate::delivery::{Flight, Flights, Outcome};
use crate::origin::Reply;
use crate::page::Viewer;
use crate::store::{Reader, StoredObject, View};

/// Bytes handed to a connection at a time.
const FRAME_BYTES: u64 = 256 << 10;
/// Bytes of a file handed to a socket at a time: they are not read here, so the cost does not grow with their number.
const FILE_FRAME_BYTES: u64 = 2 << 20;
/// Bodies up to this are copied into the socket.
const COPIED_BYTES: u64 = 16 << 10;
/// Bytes whose pages are checked together, and read together if they are not in memory.
const WARM_BYTES: u64 = 4 << 20;
/// Frames of an object in flight queued for a slow player.
const FRAMES: usize = 2;

/// One part of a body, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// These bytes.
    Bytes(Bytes),
    /// Bytes of the object.
    Range(Range<u64>),
}

impl Piece {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Range(range) => range.end - range.start,
        }
    }
}

/// A response body.
#[derive(Debug)]
pub(super) enum PlayerBody {
    /// Bytes in memory; none: an empty body.
    Bytes(Option<Bytes>),
    /// Parts of an object in the cache.
    Stored(Stored),
    /// Bytes that a task reads from an object in flight, or from an origin's response for this player alone. `left`:
    /// `None` while the length is not known.
    Frames { frames: mpsc::Receiver<io::Result<Bytes>>, left: Option<u64> },
}

/// Parts of an object in the cache that are being sent to one player.
#[derive(Debug)]
pub(super) struct Stored {
    object: Arc<StoredObject>,
    view: Option<View>,
    pieces: VecDeque<Piece>,
    left: u64,
    /// Queue of what the socket may send from the file; `None`: through memory.
    outbox: Option<Rc<Outbox>>,
    /// Pages that are being read.
    warming: Option<JoinHandle<io::Result<()>>>,
    /// End of the pages of the piece that were in memory at the last check.
    warm_to: u64,
}

impl PlayerBody {
    pub(super) const fn empty() -> Self {
        Self::Bytes(None)
    }

    pub(super) fn of(bytes: impl Into<Bytes>) -> Self {
        Self::Bytes(Some(bytes.into()))
    }

    /// Parts of bytes in memory.
    pub(super) fn of_pieces(bytes: &Bytes, pieces: &[Piece]) -> Self {
        let part = |range: &Range<u64>| bytes.slice(range.start as usize..range.end as usize);
        if let [Piece::Range(range)] = pieces {
            return Self::of(part(range));
        }
        let mut all = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => all.extend_from_slice(bytes),
                Piece::Range(range) => all.extend_from_slice(&part(range)),
            }
        }
        Self::of(all)
    }

    pub(super) fn stored(object: Arc<StoredObject>, pieces: Vec<Piece>) -> Self {
        let left = pieces.iter().map(Piece::length).sum();
        let view = object.view();
        let pieces = pieces.into();
        Self::Stored(Stored { object, view, pieces, left, outbox: None, warming: None, warm_to: 0 })
    }

    /// Lets the socket send from files where that is faster.
    pub(super) fn send_through(&mut self, outbox: &Rc<Outbox>) {
        if let Self::Stored(stored) = self
            && stored.is_better_sent_from_file()
        {
            stored.outbox = Some(Rc::clone(outbox));
        }
    }

    /// Streams `pieces` of an object in flight. A range up to `u64::MAX` extends to the object's end, which is not known yet.
    pub(super) fn flight(
        flight: Arc<Flight>,
        flights: Arc<Flights>,
        pieces: Vec<Piece>,
        waits: Waits,
        tail: Option<Tail>,
    ) -> Self {
        let is_open = |piece: &Piece| matches!(piece, Piece::Range(range) if range.end == u64::MAX);
        let left = (!pieces.iter().any(is_open)).then(|| pieces.iter().map(Piece::length).sum());
        let (sender, frames) = mpsc::channel(FRAMES);
        let first = pieces.iter().find_map(|piece| match piece {
            Piece::Range(range) => Some(range.start),
            Piece::Bytes(_) => None,
        });
        let reader = flight.partial().reader(first.unwrap_or(0));
        tokio::spawn(async move {
            if let Err(err) = stream(&flight, &flights, pieces, waits, tail, &sender, &reader).await {
                tracing::debug!(key = %flight.key, %err, "a response was cut");
                // The connection is closed before the end of the body, so that no player takes it for complete.
                let _ = sender.send(Err(err)).await;
            }
        });
        Self::Frames { frames, left }
    }

    /// A manifest of the cache, rewritten in pieces while it is sent.
    pub(super) fn rewritten(object: &Arc<StoredObject>, mut rewriter: Rewriter) -> Self {
        let (view, length) = (object.view(), object.meta().length);
        let (sender, frames) = mpsc::channel(FRAMES);
        tokio::spawn(async move {
            let mut at = 0;
            while at < length {
                let mut out = Vec::new();
                let end = length.min(at + PIECE_BYTES as u64 * 16);
                let piece = view.as_ref().and_then(|view| view.bytes(at..end));
                let pushed = match &piece {
                    Some(bytes) => push_all(&mut rewriter, bytes, &mut out),
                    None => Err(io::ErrorKind::NotFound.into()),
                };
                at = end;
                if send_rewritten(&sender, pushed, out).await.is_none() {
                    return;
                }
            }
            let mut out = Vec::new();
            let finished = rewriter.finish(&mut out).map_err(|why| io::Error::other(why.as_str()));
            send_rewritten(&sender, finished, out).await;
        });
        Self::Frames { frames, left: None }
    }

    /// Body of an origin, rewritten as it arrives. `first`: the part rewritten so far.
    pub(super) fn passed_rewritten(mut reply: Reply, mut rewriter: Rewriter, first: Vec<u8>) -> Self {
        let (sender, frames) = mpsc::channel(FRAMES);
        tokio::spawn(async move {
            let (mut out, mut pushed) = (first, Ok(()));
            loop {
                if send_rewritten(&sender, pushed, out).await.is_none() {
                    return;
                }
                out = Vec::new();
                pushed = match reply.next().await {
                    Ok(Some(piece)) => push_all(&mut rewriter, &piece, &mut out),
                    Ok(None) => break,
                    Err(err) => Err(io::Error::other(err.to_string())),
                };
            }
            let finished = rewriter.finish(&mut out).map_err(|why| io::Error::other(why.as_str()));
            send_rewritten(&sender, finished, out).await;
        });
        Self::Frames { frames, left: None }
    }

    /// Body of an origin whose first pieces have been read already.
    pub(super) fn passed_after(first: Vec<Bytes>, reply: Reply, left: Option<u64>) -> Self {
        let (sender, frames) = mpsc::channel(FRAMES);
        tokio::spawn(async move {
            for piece in first {
                if sender.send(Ok(piece)).await.is_err() {
                    return;
                }
            }
            relay(reply, sender).await;
        });
        Self::Frames { frames, left }
    }

    /// Events for a viewer of the page, until it disconnects.
    pub(super) fn events(viewer: Viewer) -> Self {
        let (sender, frames) = mpsc::channel(FRAMES);
        tokio::spawn(viewer.watch(sender));
        Self::Frames { frames, left: None }
    }

    /// Streams the body of an origin.
    pub(super) fn passed(reply: Reply) -> Self {
        let left = reply.body().size_hint().exact();
        let (sender, frames) = mpsc::channel(FRAMES);
        tokio::spawn(relay(reply, sender));
        Self::Frames { frames, left }
    }
}

/// Passes on an origin's body until it ends or fails, or the player has left.
async fn relay(mut reply: Reply, sender: mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let next = tokio::select! {
            next = reply.next() => next,
            () = sender.closed() => return,
        };
        let frame = match next {
            Ok(None) => return,
            Ok(Some(bytes)) => Ok(bytes),
            Err(err) => Err(io::Error::other(err.to_string())),
        };
        let is_over = frame.is_err();
        if sender.send(frame).await.is_err() || is_over {
            return;
        }
    }
}

impl Stored {
    /// Small bodies are copied, since `sendfile` costs a second system call. Larger ones are not read into the program.
    fn is_better_sent_from_file(&self) -> bool {
        self.left > COPIED_BYTES
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let Some(piece) = self.pieces.front_mut() else { return Poll::Ready(None) };
        let range = match piece {
            Piece::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                self.pieces.pop_front();
                self.left = self.left.saturating_sub(bytes.len() as u64);
                return Poll::Ready(Some(Ok(bytes)));
            }
            Piece::Range(range) => range,
        };
        let Some(view) = &self.view else { return Poll::Ready(Some(Err(io::ErrorKind::NotFound.into()))) };
        if self.warming.is_none() && range.start >= self.warm_to {
            self.warm_to = range.end.min(range.start + WARM_BYTES);
            let now = crate::clock::now();
            if !self.object.was_warm(now) {
                // All pages of a short object are checked, so that its next readers need not.
                let length = self.object.meta().length;
                let is_short = length <= WARM_BYTES;
                let ahead = range.start..self.warm_to;
                if !view.is_resident(if is_short { 0..length } else { ahead.clone() }) {
                    // The disk may be slow: other players of this core do not wait for it.
                    let view = view.clone();
                    self.warming = Some(tokio::task::spawn_blocking(move || view.warm(ahead)));
                } else if is_short {
                    self.object.is_warm(now);
                }
            }
        }
        if let Some(warming) = &mut self.warming {
            let read = ready!(Pin::new(warming).poll(cx));
            self.warming = None;
            if let Err(err) = read.map_err(io::Error::other).and_then(|read| read) {
                return Poll::Ready(Some(Err(err)));
            }
        }
        let most = if self.outbox.is_some() { FILE_FRAME_BYTES } else { FRAME_BYTES };
        let end = range.end.min(range.start + most).min(self.warm_to.max(range.start + 1));
        let Some(bytes) = view.bytes(range.start..end) else {
            return Poll::Ready(Some(Err(io::ErrorKind::NotFound.into())));
        };
        if let Some(outbox) = &self.outbox {
            outbox.expect(&bytes, view);
        }
        range.start = end;
        if range.start >= range.end {
            self.pieces.pop_front();
            self.warm_to = 0;
        }
        self.left = self.left.saturating_sub(bytes.len() as u64);
        Poll::Ready(Some(Ok(bytes)))
    }
}

/// Pushes a piece in parts: compressed input expands.
fn push_all(rewriter: &mut Rewriter, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    for part in bytes.chunks(PIECE_BYTES) {
        rewriter.push(part, out).map_err(|why| io::Error::other(why.as_str()))?;
    }
    Ok(())
}

/// Sends the rewritten bytes, then the error if there was one. `None`: the response has ended.
async fn send_rewritten(
    sender: &mpsc::Sender<io::Result<Bytes>>,
    pushed: io::Result<()>,
    out: Vec<u8>,
) -> Option<()> {
    if !out.is_empty() {
        sender.send(Ok(out.into())).await.ok()?;
    }
    if let Err(err) = pushed {
        let _ = sender.send(Err(err)).await;
        return None;
    }
    Some(())
}

/// Sends `pieces` as their bytes arrive. Returns without an error when the player has left.
async fn stream(
    flight: &Arc<Flight>,
    flights: &Flights,
    pieces: Vec<Piece>,
    waits: Waits,
    tail: Option<Tail>,
    sender: &mpsc::Sender<io::Result<Bytes>>,
    reader: &Reader,
) -> io::Result<()> {
    // The last bytes sent.
    let mut last = Bytes::new();
    let waits = tail.as_ref().map_or(waits, |tail| Waits { patience: tail.patience(), ..waits });
    for piece in pieces {
        let range = match piece {
            Piece::Bytes(bytes) => {
                if sender.send(Ok(bytes)).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            Piece::Range(range) => range,
        };
        let mut offset = range.start;
        while offset < range.end {
            let end = range.end.min(offset + FRAME_BYTES);
            reader.is_at(offset);
            // Notice at once a player that leaves while no bytes arrive: the origin may have no other reader.
            let frame = tokio::select! {
                frame = next(flight, flights, offset..end, waits, tail.is_some()) => frame,
                () = sender.closed() => return Ok(()),
            };
            let frame = match (frame, &tail) {
                (Err(err), Some(tail)) if range.end == u64::MAX => {
                    let rest = tokio::select! {
                        rest = tail.rest(flight, offset, &last, sender) => rest,
                        () = sender.closed() => return Ok(()),
                    };
                    if rest.map_err(|why| why.unwrap_or(err))? {
                        return Ok(());
                    }
                    continue;
                }
                (frame, _) => frame?,
            };
            let Some(frame) = frame else { break };
            offset += frame.len() as u64;
            last = frame.slice(frame.len().saturating_sub(tail::OVERLAP_BYTES)..);
            if sender.send(Ok(frame)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The next bytes from the start of `range`; `None` at the object's end.
async fn next(
    flight: &Arc<Flight>,
    flights: &Flights,
    range: Range<u64>,
    waits: Waits,
    has_tail: bool,
) -> io::Result<Option<Bytes>> {
    let wait = || async {
        if flight.sent.is_some() {
            return flight.wait_for(range.start, super::ORIGIN_PATIENCE).await;
        }
        if !flight.wait_for(range.start, waits.haste).await {
            flights.expedite(flight).await;
            return match has_tail {
                true => flight.wait_or_turn(range.start, waits.patience).await,
                false => flight.wait_for(range.start, waits.patience).await,
            };
        }
        true
    };
    loop {
        let available = flight.available_from(range.start).min(range.end);
        if available > range.start {
            let (flight, range) = (Arc::clone(flight), range.start..available);
            let read = tokio::task::spawn_blocking(move || flight.read(range)).await;
            return read.map_err(io::Error::other)?.map(|bytes| Some(bytes.into()));
        }
        match flight.outcome() {
            Some(Outcome::Complete(stored)) => {
                let end = range.end.min(stored.meta().length);
                if range.start >= end {
                    return Ok(None);
                }
                return stored
                    .bytes(range.start..end)
                    .map(Some)
                    .ok_or_else(|| io::ErrorKind::NotFound.into());
            }
            Some(Outcome::Passed(length)) => {
                let end = range.end.min(*length);
                if range.start >= end {
                    return Ok(None);
                }
                let flight = Arc::clone(flight);
                let read = tokio::task::spawn_blocking(move || flight.read(range.start..end)).await;
                return read.map_err(io::Error::other)?.map(|bytes| Some(bytes.into()));
            }
            Some(Outcome::Failed(reason)) => return Err(io::Error::other(reason.as_str())),
            None if flight.is_given_up(range.start) => {
                return Err(io::Error::other("the origin sends no more"));
            }
            None => {
                if !wait().await {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
    }
}

impl Waits {
    /// Derives the times from the configured patience.
    pub(super) const fn new(patience: Duration) -> Self {
        Self { haste: super::HASTE, patience }
    }
}

impl Body for PlayerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = match self.get_mut() {
            Self::Bytes(bytes) => Poll::Ready(bytes.take().map(Ok)),
            Self::Stored(stored) => stored.poll_frame(cx),
            Self::Frames { frames, left } => frames.poll_recv(cx).map(|frame| {
                if let (Some(left), Some(Ok(bytes))) = (left, &frame) {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                frame
            }),
        };
        polled.map(|frame| frame.map(|frame| frame.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_none(),
            Self::Stored(stored) => stored.pieces.is_empty(),
            Self::Frames { left, .. } => *left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stored(stored) => SizeHint::with_exact(stored.left),
            Self::Frames { left, .. } => left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
