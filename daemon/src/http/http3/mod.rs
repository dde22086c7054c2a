//! HTTP/3: requests and end of one QUIC connection.
//!
//! Requests are answered as those of HTTP/2 ([`Worker::answer`]): routing, ranges, log and counters are the same code. Specific
//! to HTTP/3 are streams, early data, and the end of a connection.
//!
//! Early data (0-RTT) may be replayed by any observer. So only GET and HEAD without a body are accepted in it; others are
//! answered 425 (RFC 8470 section 5.2), and an origin is asked only after the handshake ([`super::serve::ObjectRequest::confirmed`]).

mod listener;
mod transport;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use h3::error::{Code, ConnectionError, StreamError};
use h3::server::{Connection, RequestResolver, RequestStream};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::answer::Logged;
use super::connection::{HANDSHAKE_TIMEOUT, HEAD_TIMEOUT, Health, LOOK, Link, MAX_HEAD_BYTES};
use super::serve::EarlyData;
use super::stats::Refusal;
use super::streams::Streams;
use super::workers::Worker;
use crate::origin::RequestBody;
use crate::{caching, clock};

pub(super) use listener::Listener;
use transport::{ReceiveHalf, SendHalf, StreamState, Transport};

/// Pieces of a request's body queued for the origin.
const PIECES: usize = 2;

/// Connection-specific fields, which HTTP/3 forbids.
const CONNECTION_FIELDS: [&str; 5] =
    ["connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection"];

/// Serves a connection until it ends, or after `stop` until the current responses have ended.
pub(super) async fn serve(worker: &Rc<Worker>, incoming: quinn::Incoming, stop: watch::Receiver<bool>) {
    let peer = incoming.remote_address().ip();
    let Some((connection, confirmed)) = shake_hands(worker, incoming, peer) else { return };
    let link = Link::multiplexed(peer);
    let latest: Rc<RefCell<Option<StreamState>>> = Rc::default();
    let is_over = Rc::new(Cell::new(false));
    let transport = Transport::new(connection.clone(), Rc::clone(&latest), Rc::clone(&is_over));
    let mut builder = h3::server::builder();
    builder.max_field_section_size(MAX_HEAD_BYTES as u64);
    let mut http = match builder.build(transport).await {
        Ok(http) => http,
        Err(err) => return note_end(worker, &link, &err, is_over.get()),
    };
    let (code, reason) = match answer_all(worker, &link, &mut http, &latest, &confirmed, stop).await {
        End::Done => (Code::H3_NO_ERROR, "done"),
        End::Slow => {
            worker.stats.too_slow.fetch_add(1, Ordering::Relaxed);
            (Code::H3_EXCESSIVE_LOAD, "too slow")
        }
        End::Flood => {
            worker.refuse_frames(&link, Refusal::Flood, "HTTP/3: requests are taken back without end");
            (Code::H3_EXCESSIVE_LOAD, "too many requests were taken back")
        }
        End::Failed(err) => {
            note_end(worker, &link, &err, is_over.get());
            (Code::H3_EXCESSIVE_LOAD, "")
        }
    };
    // After an error h3 has sent the reason already.
    connection.close(quinn::VarInt::from_u32(u32::try_from(code.value()).unwrap_or(0)), reason.as_bytes());
    // The connection's task sends the close when it runs next; let it run before the worker ends.
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Accepts a connection. Data sent before the end of the handshake is early; the receiver signals that end.
fn shake_hands(
    worker: &Rc<Worker>,
    incoming: quinn::Incoming,
    peer: IpAddr,
) -> Option<(quinn::Connection, watch::Receiver<bool>)> {
    let connecting =
        incoming.accept().inspect_err(|err| worker.refuse_handshake(peer, &format!("QUIC: {err}"))).ok()?;
    // Never fails for a server, which may always send before the client's last message.
    let (connection, over) = connecting.into_0rtt().ok()?;
    let (confirm, confirmed) = watch::channel(false);
    worker.server.handshakes.fetch_add(1, Ordering::Relaxed);
    let (worker, shaken) = (Rc::clone(worker), connection.clone());
    tokio::task::spawn_local(async move {
        // The result tells whether early data was accepted; a failed handshake has a close reason.
        let is_in_time = tokio::time::timeout(HANDSHAKE_TIMEOUT, over).await.is_ok();
        worker.server.handshakes.fetch_sub(1, Ordering::Relaxed);
        if is_in_time && shaken.close_reason().is_none() {
            let _ = confirm.send(true);
            return;
        }
        let why = shaken.close_reason().map_or_else(|| "timed out".to_owned(), |err| err.to_string());
        worker.refuse_handshake(peer, &format!("QUIC: {why}"));
        shaken.close(quinn::VarInt::from_u32(0), b"");
    });
    Some((connection, confirmed))
}

/// Reason for the end of a connection.
enum End {
    Done,
    Slow,
    Flood,
    Failed(ConnectionError),
}

async fn answer_all(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    http: &mut Connection<Transport, Bytes>,
    latest: &RefCell<Option<StreamState>>,
    confirmed: &watch::Receiver<bool>,
    mut stop: watch::Receiver<bool>,
) -> End {
    let mut stopped = std::pin::pin!(stop.wait_for(|stop| *stop));
    let mut is_last = false;
    let mut requests = JoinSet::new();
    let mut streams = Streams::default();
    loop {
        tokio::select! {
            accepted = http.accept() => match accepted {
                Ok(Some(resolver)) => {
                    let Some(arrival) = latest.borrow_mut().take() else { continue };
                    let early = arrival.is_early.then(|| EarlyData(confirmed.clone()));
                    let (worker, link) = (Rc::clone(worker), Rc::clone(link));
                    requests.spawn_local(async move { answer(&worker, &link, resolver, arrival, early).await });
                }
                Ok(None) => return End::Done,
                Err(err) => return End::Failed(err),
            },
            Some(_) = requests.join_next() => {
                if is_last && requests.is_empty() {
                    return End::Done;
                }
            }
            _ = &mut stopped, if !is_last => {
                is_last = true;
                // Requests that arrive now are rejected unread, so that clients repeat them elsewhere.
                if http.shutdown(0).await.is_err() || requests.is_empty() {
                    return End::Done;
                }
            }
            () = tokio::time::sleep(LOOK) => match streams.check_health(link, worker.server.is_crowded(link.peer)) {
                Health::Gone => return End::Done,
                Health::Slow => return End::Slow,
                Health::Well | Health::Idle | Health::Paused(_) => {}
            },
        }
        if link.is_flooded() {
            return End::Flood;
        }
    }
}

/// Reads one request, and sends its response.
async fn answer(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    resolver: RequestResolver<Transport, Bytes>,
    mut arrival: StreamState,
    early: Option<EarlyData>,
) {
    let resolved = tokio::time::timeout(HEAD_TIMEOUT, resolver.resolve_request()).await;
    let (mut request, stream) = match resolved {
        Ok(Ok(resolved)) => resolved,
        Ok(Err(err)) => return refuse(worker, link, &err),
        Err(_) => {
            worker.stats.too_slow.fetch_add(1, Ordering::Relaxed);
            return link.cancels();
        }
    };
    arrival.unread.is_read();
    if has_fields_of_a_connection(request.headers()) {
        worker.refuse_frames(link, Refusal::BadRequest, "HTTP/3: a request with fields of a connection");
        let mut stream = stream;
        stream.stop_stream(Code::H3_MESSAGE_ERROR);
        stream.stop_sending(Code::H3_MESSAGE_ERROR);
        return;
    }
    if let Some(early) = early {
        request.extensions_mut().insert(early);
    }
    let method = request.method().clone();
    let (mut send, recv) = stream.split();
    let (malformed, is_malformed) = oneshot::channel();
    let (body, recv) = body_of(&request, recv, &arrival, malformed).await;
    let answered = tokio::select! {
        biased;
        Ok(()) = is_malformed => {
            worker.refuse_frames(link, Refusal::BadRequest, "HTTP/3: a body of another length than the head says");
            return send.stop_stream(Code::H3_MESSAGE_ERROR);
        }
        Ok(response) = worker.answer(request.map(|()| body), link) => response,
        // The client is gone, or has cancelled its request.
        () = &mut arrival.stopped => return,
    };
    let sent = send_response(answered, &method, &mut send, &mut arrival).await;
    if sent.is_none() {
        send.stop_stream(Code::H3_INTERNAL_ERROR);
    }
    // The rest of the request is no longer needed (RFC 9114 section 4.1).
    if let Some(mut recv) = recv {
        recv.stop_sending(Code::H3_NO_ERROR);
    }
}

/// Whether a request has forbidden fields (RFC 9114 section 4.2); for HTTP/2 the parser checks this.
fn has_fields_of_a_connection(fields: &HeaderMap) -> bool {
    CONNECTION_FIELDS.iter().any(|name| fields.contains_key(*name))
        || fields.get_all(header::TE).iter().any(|it| it != "trailers")
}

/// Counts a request that could not be read. Heads that are too large have been answered.
fn refuse(worker: &Worker, link: &Link, err: &StreamError) {
    match err {
        StreamError::HeaderTooBig { .. } => {
            worker.refuse_frames(link, Refusal::HeadTooLarge, "HTTP/3: a head that is too large");
        }
        StreamError::StreamError { .. } => {
            worker.refuse_frames(link, Refusal::BadRequest, &format!("HTTP/3: {err}"));
        }
        _ => {}
    }
    link.cancels();
}

type Received = RequestStream<ReceiveHalf, Bytes>;

/// The body of a request, and its stream if the body is complete.
async fn body_of(
    request: &Request<()>,
    mut recv: Received,
    arrival: &StreamState,
    malformed: oneshot::Sender<()>,
) -> (RequestBody, Option<Received>) {
    let length: Option<u64> =
        request.headers().get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
    let mut first = None;
    match what_has_come(&mut recv).await {
        Some(Ok(None)) => return (RequestBody::None, Some(recv)),
        Some(Ok(Some(piece))) => first = Some(piece),
        Some(Err(_)) => return (RequestBody::None, Some(recv)),
        // The end of the stream may come in a separate packet.
        None if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
            && length.is_none() =>
        {
            return (RequestBody::None, Some(recv));
        }
        None => {}
    }
    let (sender, pieces) = mpsc::channel(PIECES);
    let unread = Rc::clone(&arrival.unread);
    tokio::task::spawn_local(async move {
        // A body of another length than its head says is malformed (RFC 9114 section 4.1.2).
        let mut received_bytes = 0;
        let is_too_long = |piece: &Bytes, received_bytes: &mut u64| {
            *received_bytes += piece.len() as u64;
            length.is_some_and(|length| *received_bytes > length)
        };
        if let Some(first) = first {
            unread.is_read();
            if is_too_long(&first, &mut received_bytes) {
                return refuse_body(malformed, &sender, &mut recv).await;
            }
            if sender.send(Ok(first)).await.is_err() {
                return;
            }
        }
        loop {
            let received = tokio::select! {
                received = recv.recv_data() => received,
                () = sender.closed() => break,
            };
            unread.is_read();
            let piece = match received {
                Ok(None) if length.is_some_and(|length| received_bytes < length) => {
                    return refuse_body(malformed, &sender, &mut recv).await;
                }
                Ok(None) => return,
                Ok(Some(mut piece)) => Ok(piece.copy_to_bytes(piece.remaining())),
                Err(err) => Err(io::Error::other(err.to_string())),
            };
            if piece.as_ref().is_ok_and(|piece| is_too_long(piece, &mut received_bytes)) {
                return refuse_body(malformed, &sender, &mut recv).await;
            }
            let is_over = piece.is_err();
            if sender.send(piece).await.is_err() || is_over {
                break;
            }
        }
        recv.stop_sending(Code::H3_NO_ERROR);
    });
    (RequestBody::Pieces { pieces, left: length }, None)
}

/// Ends a request whose body has another length than its head says.
async fn refuse_body(
    malformed: oneshot::Sender<()>,
    sender: &mpsc::Sender<io::Result<Bytes>>,
    recv: &mut Received,
) {
    recv.stop_sending(Code::H3_MESSAGE_ERROR);
    // The response is given up first, so that it does not tell of a failure of the origin.
    let _ = malformed.send(());
    let _ = sender.send(Err(io::ErrorKind::InvalidData.into())).await;
}

/// The part of a request's body that has arrived already. `None`: nothing yet, and it has not ended.
async fn what_has_come(recv: &mut Received) -> Option<Result<Option<Bytes>, StreamError>> {
    poll_fn(|cx| {
        Poll::Ready(match recv.poll_recv_data(cx) {
            Poll::Pending => None,
            Poll::Ready(Err(err)) => Some(Err(err)),
            Poll::Ready(Ok(piece)) => Some(Ok(piece.map(|mut piece| piece.copy_to_bytes(piece.remaining())))),
        })
    })
    .await
}

/// Sends a complete response. `None`: it was cut.
async fn send_response(
    response: Response<Logged>,
    method: &Method,
    send: &mut RequestStream<SendHalf, Bytes>,
    arrival: &mut StreamState,
) -> Option<()> {
    let (mut head, body) = response.into_parts();
    complete(&mut head.headers, head.status, method, body.size_hint().exact());
    send.send_response(Response::from_parts(head, ())).await.ok()?;
    let mut body = std::pin::pin!(body);
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = &mut arrival.stopped => return None,
        };
        let Some(frame) = frame else { break };
        let Ok(bytes) = frame.ok()?.into_data() else { continue };
        if bytes.is_empty() {
            continue;
        }
        *arrival.piece.borrow_mut() = bytes.clone();
        send.send_data(bytes).await.ok()?;
    }
    send.finish().await.ok()
}

/// Adds the fields that hyper adds for HTTP/2.
fn complete(fields: &mut HeaderMap, status: StatusCode, method: &Method, length: Option<u64>) {
    for name in CONNECTION_FIELDS {
        fields.remove(name);
    }
    let has_body = method != Method::HEAD && !matches!(status.as_u16(), 204 | 304);
    if let Some(length) = length.filter(|_| has_body && !fields.contains_key(header::CONTENT_LENGTH)) {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if !fields.contains_key(header::DATE)
        && let Some(now) = clock::trusted_wall()
        && let Ok(date) = HeaderValue::from_str(&caching::write_date(now))
    {
        fields.insert(header::DATE, date);
    }
}

/// Counts an end that is the client's fault.
fn note_end(worker: &Worker, link: &Link, err: &ConnectionError, is_over: bool) {
    let line = format!("HTTP/3: {err}");
    match err {
        _ if is_over => worker.refuse_frames(link, Refusal::Flood, &line),
        ConnectionError::Local { .. } if !err.is_h3_no_error() => {
            worker.refuse_frames(link, Refusal::BadFrames, &line);
        }
        _ => tracing::trace!(peer = %link.peer, %err, "an HTTP/3 connection ended"),
    }
}
