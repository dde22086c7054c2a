//! Requests and responses of the client, with the bodies of both.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::AGE;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, Either, Empty};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::mpsc;

use carousel::time::{Instant, WallTime};

use super::breaker::Asker;
use super::error::OriginError;
use super::parents::MemberState;
use crate::traces::{Span, Trace};
use crate::{caching, clock};

/// Minimum rate, after the timeout, of a body for the box itself; a slower one is given up to free its place.
const MIN_BYTES_PER_S: u64 = 4096;

/// A response whose head has been received.
#[derive(Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Time of the request.
    pub requested_at: WallTime,
    /// The end of its body can be distinguished from a broken connection: by length, by chunks, or by HTTP/2 (RFC 9112
    /// section 6.3).
    pub is_framed: bool,
    pub(super) body: ReplyBody,
    pub(super) between_bytes: Duration,
    /// No player has made the request: a slow body is given up.
    pub(super) is_own: bool,
    pub(super) begun: Instant,
    pub(super) received: u64,
    /// The parent that sent it, and its URL there.
    pub(super) parent: Option<(Arc<MemberState>, String)>,
    /// Trace span, which ends with the body.
    pub(super) span: Span,
}

/// Body of a response, or none for refusals of signed requests.
pub(super) type ReplyBody = Either<Incoming, Empty<Bytes>>;

impl Reply {
    /// Records the parent that sent it.
    pub(super) fn came_from(&mut self, member: &Arc<MemberState>, url: &str) {
        self.parent = Some((Arc::clone(member), url.to_owned()));
    }

    /// Drops the body unread, for a player that asks for the head alone.
    pub fn drop_body(&mut self) {
        self.body = Either::Right(Empty::new());
    }

    /// Whether a parent sent it, so that the rest may be requested from others.
    pub(super) const fn is_of_parent(&self) -> bool {
        self.parent.is_some()
    }

    /// Earliest time at which a parent may have received it, by its `Age` in whole seconds; `None`: no parent sent it, or it
    /// has not been held.
    pub(super) fn made_at(&self) -> Option<WallTime> {
        let age_s: i64 = caching::text(&self.headers, AGE)?.trim().parse().ok()?;
        let requested_at = clock::current(self.requested_at);
        self.is_of_parent().then(|| requested_at.plus_ms(age_s.saturating_add(1).saturating_mul(-1000)))
    }

    /// Records the end of the body for its parent.
    fn ended(&self, is_whole: bool) {
        let Some((member, url)) = &self.parent else { return };
        if is_whole {
            member.whole();
        } else if let Some(time) = member.cut(clock::now()) {
            tracing::warn!(
                url,
                left_out_s = time.as_secs(),
                "a body of the parent broke off: others are asked for a while"
            );
        }
    }

    /// The rest of the body.
    pub(crate) const fn body(&self) -> &impl Body {
        &self.body
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// `Timeout` if nothing arrives within the limit of its route, `Cut` if the connection breaks; `TooSlow` below
    /// [`MIN_BYTES_PER_S`] if no player has made the request.
    pub async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        loop {
            match tokio::time::timeout(self.between_bytes, self.body.frame()).await {
                Err(_) => {
                    self.span.fail(|| OriginError::Timeout.to_string());
                    self.ended(false);
                    return Err(OriginError::Timeout);
                }
                Ok(None) => {
                    self.span.number("http.response.body.size", i64::try_from(self.received).unwrap_or(0));
                    self.span = Span::default();
                    self.ended(true);
                    return Ok(None);
                }
                Ok(Some(Err(_))) => {
                    self.span.fail(|| OriginError::Cut.to_string());
                    self.ended(false);
                    return Err(OriginError::Cut);
                }
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.received += data.len() as u64;
                        let allowed =
                            self.between_bytes + Duration::from_secs(self.received / MIN_BYTES_PER_S);
                        if self.is_own && clock::now().since(self.begun) > allowed {
                            self.span.fail(|| OriginError::TooSlow.to_string());
                            self.ended(false);
                            return Err(OriginError::TooSlow);
                        }
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// The body of a request.
#[derive(Debug)]
pub enum RequestBody {
    /// None.
    None,
    /// A body of HTTP/1.1 or HTTP/2.
    Incoming(Incoming),
    /// A body in pieces.
    Pieces {
        /// Its pieces, until an error or the end.
        pieces: mpsc::Receiver<io::Result<Bytes>>,
        /// Remaining bytes, if known.
        left: Option<u64>,
    },
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::Incoming(body) => {
                Pin::new(body).poll_frame(cx).map_err(|err| BadBody(Box::new(err)).into())
            }
            Self::Pieces { pieces, left } => pieces.poll_recv(cx).map(|piece| match piece? {
                Ok(bytes) => {
                    if let Some(left) = left {
                        *left = left.saturating_sub(bytes.len() as u64);
                    }
                    Some(Ok(Frame::data(bytes)))
                }
                Err(err) => Some(Err(BadBody(Box::new(err)).into())),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Incoming(body) => body.is_end_stream(),
            Self::Pieces { left, .. } => *left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Incoming(body) => body.size_hint(),
            Self::Pieces { left, .. } => left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

/// Error of a request's body, which is the player's fault regardless of the origin's reaction.
#[derive(Debug)]
pub(super) struct BadBody(Box<dyn std::error::Error + Send + Sync>);

impl fmt::Display for BadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request's body: {}", self.0)
    }
}

impl std::error::Error for BadBody {}

/// Callback for interim responses, with status and fields.
pub type OnInterim = Arc<dyn Fn(u16, &HeaderMap) + Send + Sync>;

/// Request to an origin on behalf of a player.
pub struct Question {
    /// Method.
    pub method: Method,
    /// End-to-end fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: RequestBody,
    /// Receiver of interim responses.
    pub on_interim: Option<OnInterim>,
    /// Follow redirects on behalf of the player, if it has sent no body.
    pub follows_redirects: bool,
    /// Parent of the trace spans of its requests.
    pub trace: Trace,
    /// On whose behalf it is asked.
    pub asker: Asker,
}

impl Question {
    /// A GET with these fields of a player; interim responses are dropped.
    pub fn get(headers: HeaderMap, follows_redirects: bool) -> Self {
        let (method, body, trace, asker) = (Method::GET, no_body(), Trace::default(), Asker::Shared);
        Self { method, headers, body, on_interim: None, follows_redirects, trace, asker }
    }
}

/// Marker of a request that no player has made.
#[derive(Debug, Clone, Copy)]
pub(super) struct IsOwn;

/// An empty request body.
pub const fn no_body() -> RequestBody {
    RequestBody::None
}
