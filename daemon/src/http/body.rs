//! Bodies: bytes in memory, slices of mapped objects, objects as they arrive.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::Waits;
use crate::flight::{Flight, Flights, Outcome};
use crate::store::StoredObject;

/// Bytes handed to a connection at a time.
const FRAME_BYTES: u64 = 256 << 10;
/// Frames of an object in flight that wait for a slow player.
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
    Stored { object: Arc<StoredObject>, pieces: VecDeque<Piece>, left: u64 },
    /// What a task reads of an object in flight. `left`: `None` while nobody knows its length.
    Flight { frames: mpsc::Receiver<io::Result<Bytes>>, left: Option<u64> },
}

impl PlayerBody {
    pub(super) const fn empty() -> Self {
        Self::Bytes(None)
    }

    pub(super) fn of(bytes: impl Into<Bytes>) -> Self {
        Self::Bytes(Some(bytes.into()))
    }

    pub(super) fn stored(object: Arc<StoredObject>, pieces: Vec<Piece>) -> Self {
        let left = pieces.iter().map(Piece::length).sum();
        Self::Stored { object, pieces: pieces.into(), left }
    }

    /// Streams `pieces` of an object on its way; `None`: all of it, whose length nobody knows.
    pub(super) fn flight(
        flight: Arc<Flight>,
        flights: Arc<Flights>,
        pieces: Option<Vec<Piece>>,
        waits: Waits,
    ) -> Self {
        let left = pieces.as_ref().map(|pieces| pieces.iter().map(Piece::length).sum());
        let (sender, frames) = mpsc::channel(FRAMES);
        let pieces = pieces.unwrap_or_else(|| vec![Piece::Range(0..u64::MAX)]);
        tokio::spawn(async move {
            if let Err(err) = stream(&flight, &flights, pieces, waits, &sender).await {
                tracing::debug!(key = %flight.key, %err, "a response was cut");
                // The connection ends without the body's end: no player takes it for whole.
                let _ = sender.send(Err(err)).await;
            }
        });
        Self::Flight { frames, left }
    }
}

/// Sends `pieces` as their bytes arrive. Ends quietly when the player has left.
async fn stream(
    flight: &Arc<Flight>,
    flights: &Flights,
    pieces: Vec<Piece>,
    waits: Waits,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
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
            let Some(frame) = next(flight, flights, offset..end, waits).await? else { break };
            offset += frame.len() as u64;
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
) -> io::Result<Option<Bytes>> {
    let wait = || async {
        if !flight.wait_for(range.start, waits.haste).await {
            flights.wish(flight);
            return flight.wait_for(range.start, waits.patience).await;
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
            Some(Outcome::Whole(stored)) => {
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
            None => {
                if !wait().await {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
    }
}

impl Waits {
    /// From the configured patience.
    pub(super) const fn new(patience: Duration) -> Self {
        Self { haste: super::HASTE, patience }
    }
}

impl Body for PlayerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Bytes(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stored { object, pieces, left } => {
                let Some(piece) = pieces.front_mut() else { return Poll::Ready(None) };
                let frame = match piece {
                    Piece::Bytes(bytes) => Some(std::mem::take(bytes)),
                    Piece::Range(range) => {
                        let end = range.end.min(range.start + FRAME_BYTES);
                        let bytes = object.bytes(range.start..end);
                        range.start = end;
                        bytes
                    }
                };
                if matches!(piece, Piece::Bytes(_)) || piece.length() == 0 {
                    pieces.pop_front();
                }
                let Some(frame) = frame else {
                    return Poll::Ready(Some(Err(io::ErrorKind::NotFound.into())));
                };
                *left = left.saturating_sub(frame.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(frame))))
            }
            Self::Flight { frames, left } => frames.poll_recv(cx).map(|frame| {
                frame.map(|frame| {
                    frame.map(|bytes| {
                        if let Some(left) = left {
                            *left = left.saturating_sub(bytes.len() as u64);
                        }
                        Frame::data(bytes)
                    })
                })
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_none(),
            Self::Stored { pieces, .. } => pieces.is_empty(),
            Self::Flight { left, .. } => *left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stored { left, .. } | Self::Flight { left: Some(left), .. } => SizeHint::with_exact(*left),
            Self::Flight { left: None, .. } => SizeHint::default(),
        }
    }
}
