//! Lifecycle of one TCP connection.
//!
//! ```text
//!    ┌──────────────── it is sent ────────────────┐
//!    ▼                                            │
//! parked ── a plain request comes, a hit ──▶ quick reply ── it is not read ──▶ closed
//!    │▲
//!    │└──────────── nothing is asked ─────────────┐
//!    ├──────────── anything else comes ────────▶ hyper ── a body is not read, a head does not end ──▶ closed
//!    └── KEEP_ALIVE ──▶ closed
//! ```
//!
//! A parked connection is a socket and a timer, without hyper and its buffers: that keeps ten thousand players between two
//! segments cheap.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::time::Instant;

use super::answer::Logged;
use super::secure::Secure;
use super::stats::Refusal;
use super::streams::{Multiplexed, Streams};
use super::tls::Acceptor;
use super::wire::{Channel, Lengths, Outbox, Wire};
use super::workers::Worker;
use crate::clock;
use crate::origin::RequestBody;

/// Interval of checks of a connection that is not parked.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// Time for which a client that has closed its side of the connection is waited for without sending it a byte: usually it is gone.
const FINISHED_PATIENCE: Duration = Duration::from_secs(5);
/// Time without an answer to what was sent after which a client counts as gone.
const LOST_AFTER: Duration = Duration::from_secs(30);
/// Interval of checks whether the client of such a connection still answers.
const ANSWER_LOOK: Duration = Duration::from_secs(10);
/// Time for a request's head.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between requests. Players request every few seconds; after a pause they can connect again.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Time for which a paused player keeps its connection while places are left: between two requests, and within a body.
pub(super) const PAUSE: Duration = Duration::from_secs(900);
/// Time after the announced end for a request that was sent before it. Its response announces the end again.
const LAST_REQUEST: Duration = Duration::from_millis(500);
/// The same for a client that has just connected, and is about to send its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(2);
/// Time for a TLS handshake.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that takes fewer bytes than this within [`SLOW_FOR`], although more are ready, is too slow for its place.
const SLOW_BYTES: u64 = 32 << 10;
const SLOW_FOR: Duration = Duration::from_secs(30);

carousel::limits! {
    /// Head of a request: its target and fields.
    pub(super) const MAX_HEAD_BYTES: usize = 48 << 10, "bytes" {
        why: "Cookies of a site have up to 32 KB.",
        full: "The request is answered with 431, and the connection ends.",
        free: "With the next request.",
        test: "what_no_honest_client_sends_harms_nobody",
    }

    /// Header fields of a request.
    const MAX_HEADERS: usize = 256, "fields" {
        why: "Browsers send some 20.",
        full: "The request is answered with 431, and the connection ends.",
        free: "With the next request.",
        test: "what_no_honest_client_sends_harms_nobody",
    }

    /// Header fields of a request that is answered without hyper.
    pub(super) const MAX_QUICK_HEADERS: usize = 64, "fields" {
        why: "Players send some ten; their table stands on the stack.",
        full: "The request is answered by hyper.",
        free: "With the next request.",
        test: "anything_else_is_left_to_hyper",
    }

    /// Requests of one HTTP/2 or HTTP/3 connection at a time.
    pub(super) const MAX_STREAMS: u32 = 128, "requests" {
        why: "A browser has some tens at a time; RFC 9113 section 6.5.2 advises 100 at least.",
        full: "The stream is refused as `REFUSED_STREAM`.",
        free: "When a response has ended.",
        test: "floods_of_http2_frames_end_their_own_connection",
    }

    /// Streams of an HTTP/2 connection that its client has reset before they were accepted (Rapid Reset, CVE-2023-44487).
    const MAX_RESET_STREAMS: usize = 20, "streams" {
        why: "Players take back a request now and then.",
        full: "The connection ends; counted as `flood`.",
        free: "When a stream is accepted.",
        test: "floods_of_http2_frames_end_their_own_connection",
    }

    /// Streams of an HTTP/2 connection that were reset because of errors of its client.
    const MAX_ERROR_RESETS: usize = 256, "streams" {
        why: "Honest clients make none.",
        full: "The connection ends; counted as `flood`.",
        free: "Holds for one connection.",
        test: "floods_of_http2_frames_end_their_own_connection",
    }

    /// Bytes of one HTTP/2 response queued for the client's socket.
    const MAX_SEND_BUFFER_BYTES: usize = 512 << 10, "bytes" {
        why: "40 ms at 100 Mbit/s; 128 streams of a client that reads nothing take 64 MiB.",
        full: "The body is not read on.",
        free: "When the client reads.",
        test: "a_response_over_http2_is_read_no_further_than_its_client_reads",
    }

    /// Flow-control window of one HTTP/2 connection for the bodies of its requests, and of each of them.
    const MAX_UPLOAD_WINDOW_BYTES: u32 = 1 << 20, "bytes" {
        why: "80 Mbit/s at 100 ms, as hyper has it; a client could fill it on each of its connections.",
        full: "The client may send no more (RFC 9113 section 5.2).",
        free: "When the origin takes the body.",
        test: "a_request_over_http2_sends_no_more_than_its_window",
    }
}

/// State shared by the requests of a connection.
pub(super) struct Link {
    pub(super) peer: IpAddr,
    /// Outbox of a plain connection, whose socket sends files.
    pub(super) outbox: Option<Rc<Outbox>>,
    /// Bytes read and written, at the level of HTTP.
    counted: Rc<Outbox>,
    /// Requests that are being answered.
    active: Cell<u32>,
    /// A request had a body, which hyper may not have read completely when the response is sent.
    pub(super) has_had_body: Cell<bool>,
    pub(super) is_tls: bool,
    /// Concurrent requests of HTTP/2 and HTTP/3.
    pub(super) multiplexed: Option<Box<Multiplexed>>,
}

impl Link {
    /// Whether hyper has no pending work and no buffered bytes, so that the connection can continue without it. Never after a
    /// request with a body: the rest of the body must not be taken for a request.
    fn is_idle(&self, outbox: &Outbox) -> bool {
        self.active.get() == 0 && outbox.is_clean() && !outbox.has_begun() && !self.has_had_body.get()
    }

    pub(super) fn new(peer: IpAddr, counted: &Rc<Outbox>, is_tls: bool) -> Rc<Self> {
        let counted = Rc::clone(counted);
        let outbox = (!is_tls).then(|| Rc::clone(&counted));
        let has_had_body = Cell::new(false);
        let active = Cell::new(0);
        Rc::new(Self { peer, outbox, counted, active, has_had_body, is_tls, multiplexed: None })
    }

    /// Creates the link of a connection of HTTP/2 over TLS, or of HTTP/3.
    pub(super) fn multiplexed(peer: IpAddr) -> Rc<Self> {
        Rc::new(Self {
            peer,
            outbox: None,
            counted: Rc::default(),
            active: Cell::new(0),
            has_had_body: Cell::new(false),
            is_tls: true,
            multiplexed: Some(Box::default()),
        })
    }

    /// Requests that are being answered.
    pub(super) const fn active(&self) -> u32 {
        self.active.get()
    }

    /// Records a request that was cancelled before it was read.
    #[cfg(feature = "http3")]
    pub(super) fn cancels(&self) {
        if let Some(streams) = &self.multiplexed {
            streams.takes_back();
        }
    }

    /// Whether the client cancels more requests than it may.
    pub(super) fn is_flooded(&self) -> bool {
        self.multiplexed.as_ref().is_some_and(|it| it.is_flooded())
    }

    /// Records a request that has been read.
    pub(super) fn begins(&self) {
        self.active.set(self.active.get() + 1);
        self.has_read();
    }

    /// Records the end of a response, complete or not.
    pub(super) fn ends(&self) {
        self.active.set(self.active.get() - 1);
        // The bytes received since were the request's body.
        if self.has_had_body.get() {
            self.has_read();
        }
    }

    /// Whether a request gives its length in two ways (RFC 9112 section 6.3). hyper removes the one that does not count, so the
    /// received bytes are searched.
    pub(super) fn has_two_lengths(&self, fields: &http::HeaderMap) -> bool {
        let is_chunked = fields.contains_key(http::header::TRANSFER_ENCODING);
        let has_length = fields.contains_key(http::header::CONTENT_LENGTH);
        self.multiplexed.is_none() && self.counted.lengths.borrow_mut().account(is_chunked, has_length)
    }

    fn has_read(&self) {
        self.counted.bytes_in_at_request.set(self.counted.bytes_in.get());
    }
}

/// An answer: ready, or a future. hyper moves it for each request, so the future is boxed.
#[allow(clippy::large_enum_variant)] // boxing what is ready would cost a hit an allocation
pub(super) enum Answer {
    Ready(Option<Response<Logged>>),
    Later(Pin<Box<dyn Future<Output = Response<Logged>>>>),
}

impl Future for Answer {
    type Output = Result<Response<Logged>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Ready(response) => response.take().map_or(Poll::Pending, |it| Poll::Ready(Ok(it))),
            Self::Later(answer) => answer.as_mut().poll(cx).map(Ok),
        }
    }
}

/// Serves a connection until it ends, or after `stop` until the current responses have ended.
pub(super) async fn plain(
    worker: &Rc<Worker>,
    stream: std::net::TcpStream,
    peer: IpAddr,
    stop: watch::Receiver<bool>,
) {
    let outbox = Rc::new(Outbox::default());
    let Ok(wire) = Wire::new(stream, Rc::clone(&outbox)) else { return };
    let link = Link::new(peer, &outbox, false);
    http1(worker, wire, &link, &outbox, stop).await;
}

/// hyper's service for the requests of one connection.
struct Requests {
    worker: Rc<Worker>,
    link: Rc<Link>,
}

impl Requests {
    fn of(worker: &Rc<Worker>, link: &Rc<Link>) -> Self {
        Self { worker: Rc::clone(worker), link: Rc::clone(link) }
    }
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<Logged>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        self.worker.answer(request.map(RequestBody::Incoming), &self.link)
    }
}

/// Serves HTTP/1.1 on a socket, or on the TLS that it carries.
async fn http1<W: Channel + 'static>(
    worker: &Rc<Worker>,
    mut wire: W,
    link: &Rc<Link>,
    outbox: &Rc<Outbox>,
    mut stop: watch::Receiver<bool>,
) {
    let mut stopped = std::pin::pin!(stop.wait_for(|stop| *stop));
    // Reset only when it expires, about once a minute, and not for each request.
    let mut timer = std::pin::pin!(tokio::time::sleep(KEEP_ALIVE));
    let mut parked_since = Instant::now();
    let mut contact = Contact::default();
    let mut is_last = false;
    loop {
        let understand = |bytes: &[u8]| if is_last { None } else { worker.quick(bytes, link) };
        let come = tokio::select! {
            biased;
            come = poll_fn(|cx| wire.poll_understood(cx, understand)) => come,
            () = &mut timer => match next_look(parked_since, worker, link).filter(|_| !is_last) {
                Some(_) if contact.is_lost(outbox) => return outbox.reset(),
                Some(check_health) => {
                    timer.as_mut().reset(check_health);
                    continue;
                }
                None => return end(&mut wire).await,
            },
            _ = &mut stopped, if !is_last => {
                is_last = true;
                let patience = if outbox.bytes_in.get() == 0 { FIRST_REQUEST } else { LAST_REQUEST };
                timer.as_mut().reset(Instant::now() + patience);
                continue;
            }
        };
        match come {
            Err(_) => return,
            Ok(Some(mut reply)) => match watched(reply.send(&mut wire), worker, link, outbox).await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return,
            },
            Ok(None) => {
                let start = wire.unread();
                *outbox.lengths.borrow_mut() = Lengths::default();
                let mut connection = http1_connection(wire, worker, link, is_last);
                let ended = tokio::select! {
                    biased;
                    ended = watched(until_idle(&mut connection, link, outbox), worker, link, outbox) => ended,
                    _ = &mut stopped, if !is_last => {
                        Pin::new(&mut *connection).graceful_shutdown();
                        let _ = (*connection).await;
                        return;
                    }
                };
                match ended {
                    Some(None) => {}
                    Some(Some(ended)) => return note_http1_end(worker, link, ended, &start),
                    None => return,
                }
                let parts = connection.into_parts();
                wire = parts.io;
                // The beginning of a head that arrived in the meantime.
                wire.put_back(&parts.read_buf);
            }
        }
        parked_since = Instant::now();
    }
}

/// Time of the next check of a parked connection: after each [`KEEP_ALIVE`], in case places have become scarce. `None`: it has
/// been parked for the maximum time.
fn next_look(parked_since: Instant, worker: &Worker, link: &Link) -> Option<Instant> {
    let parked_for = parked_since.elapsed();
    let most = if worker.server.is_crowded(link.peer) { KEEP_ALIVE } else { PAUSE };
    let looks = parked_for.as_secs() / KEEP_ALIVE.as_secs() + 1;
    (parked_for < most).then(|| parked_since + KEEP_ALIVE * u32::try_from(looks).unwrap_or(1))
}

/// Ends a parked connection. TLS sends a close notification, which shows that nothing was truncated.
async fn end<W: Channel>(wire: &mut W) {
    let end = poll_fn(|cx| Pin::new(&mut *wire).poll_shutdown(cx));
    let _ = tokio::time::timeout(LOOK, end).await;
}

/// hyper on a connection. Boxed, so that a parked connection does not keep the memory for it.
fn http1_connection<W: Channel + 'static>(
    wire: W,
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    is_last: bool,
) -> Box<http1::Connection<W, Requests>> {
    Box::new(
        http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .auto_date_header(clock::trusted_wall().is_some())
            .keep_alive(!is_last)
            // A client may close its side and wait for the response; see `Contact`.
            .half_close(true)
            .serve_connection(wire, Requests::of(worker, link)),
    )
}

/// Drives hyper until the connection can be served without it; `Some`: the connection has ended.
fn until_idle<W: Channel + 'static>(
    connection: &mut http1::Connection<W, Requests>,
    link: &Link,
    outbox: &Outbox,
) -> impl Future<Output = Option<hyper::Result<()>>> {
    poll_fn(|cx| match Pin::new(&mut *connection).poll(cx) {
        Poll::Pending if link.is_idle(outbox) => Poll::Ready(None),
        polled => polled.map(Some),
    })
}

/// Counts an end that is the client's fault. `start`: the first bytes of its request.
fn note_http1_end(worker: &Worker, link: &Link, ended: hyper::Result<()>, start: &[u8]) {
    match ended {
        Err(err) if err.is_parse() => worker.refuse_connection(link, &err, start),
        Err(err) => tracing::trace!(%err, "a connection ended"),
        Ok(()) => {}
    }
}

/// Runs `work` unless the client becomes too slow; `None`: it was too slow, or is gone.
async fn watched<T>(
    work: impl Future<Output = T>,
    worker: &Worker,
    link: &Link,
    outbox: &Outbox,
) -> Option<T> {
    let mut work = std::pin::pin!(work);
    let (mut pulse, mut contact) = (Pulse::new(outbox), Contact::default());
    loop {
        tokio::select! {
            biased;
            done = work.as_mut() => return Some(done),
            () = tokio::time::sleep(LOOK) => {}
        }
        if contact.is_lost(outbox) || contact.has_left(outbox) {
            outbox.reset();
            return None;
        }
        match pulse.check_health(outbox, link.active.get()) {
            Health::Well | Health::Idle => {}
            Health::Paused(time) if time < PAUSE && !worker.server.is_crowded(link.peer) => {}
            Health::Slow | Health::Paused(_) => {
                worker.stats.too_slow.fetch_add(1, Ordering::Relaxed);
                outbox.reset();
                return None;
            }
            Health::Gone => return None,
        }
    }
}

/// State of a connection at a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Health {
    Well,
    Slow,
    /// The client has taken too little of a body for this time.
    Paused(Duration),
    /// No request is in progress, and no byte of a next one has arrived.
    Idle,
    /// Idle for longer than [`KEEP_ALIVE`].
    Gone,
}

/// Checks whether a client still answers. The kernel's own limit (`TCP_USER_TIMEOUT`) would also end the connection of a player that
/// pauses: it counts the time of a closed window, whose probes are answered.
#[derive(Debug)]
struct Contact {
    checked_at: Instant,
    /// Begin of its silence, as far as it was observed: before, nothing may have been sent to it.
    silent_since: Option<Instant>,
    /// Time since which it has sent its end, and was sent nothing; and the bytes that it had got then.
    finished: Option<(Instant, u64)>,
}

impl Default for Contact {
    fn default() -> Self {
        Self { checked_at: Instant::now(), silent_since: None, finished: None }
    }
}

impl Contact {
    fn is_lost(&mut self, socket: &Outbox) -> bool {
        let now = Instant::now();
        if now - self.checked_at < ANSWER_LOOK {
            return false;
        }
        self.checked_at = now;
        self.is_silent_too_long(socket.client_silence(), now)
    }

    fn is_silent_too_long(&mut self, silence: Option<Duration>, now: Instant) -> bool {
        let observed = self.silent_since.map_or(Duration::ZERO, |since| now - since);
        self.silent_since = silence.map(|silence| now - silence.min(observed));
        self.silent_since.is_some_and(|since| now - since >= LOST_AFTER)
    }

    /// Whether a client that has closed its side is no longer waited for.
    fn has_left(&mut self, outbox: &Outbox) -> bool {
        if !outbox.has_client_finished() {
            return false;
        }
        let (now, sent) = (Instant::now(), outbox.bytes_out.get());
        let (since, before) = *self.finished.get_or_insert((now, sent));
        if sent != before {
            self.finished = Some((now, sent));
        }
        sent == before && now - since >= FINISHED_PATIENCE
    }
}

/// State at the last check.
#[derive(Debug)]
struct Pulse {
    /// Bytes taken by the client at the last check that found it fast enough.
    bytes_out: u64,
    well_at: Instant,
    head_since: Option<Instant>,
    /// Time since which no request is in progress.
    idle_since: Option<Instant>,
}

impl Pulse {
    fn new(outbox: &Outbox) -> Self {
        Self {
            bytes_out: outbox.bytes_out.get(),
            well_at: Instant::now(),
            head_since: None,
            idle_since: None,
        }
    }

    fn check_health(&mut self, outbox: &Outbox, active: u32) -> Health {
        let now = Instant::now();
        if active > 0 || !outbox.is_clean() {
            (self.head_since, self.idle_since) = (None, None);
            let taken = outbox.bytes_out.get() - self.bytes_out;
            if !outbox.is_blocked.get() || taken >= SLOW_BYTES {
                (self.bytes_out, self.well_at) = (outbox.bytes_out.get(), now);
            } else if now - self.well_at >= SLOW_FOR {
                return Health::Paused(now - self.well_at);
            }
            return Health::Well;
        }
        (self.bytes_out, self.well_at) = (outbox.bytes_out.get(), now);
        if outbox.has_begun() {
            let since = *self.head_since.get_or_insert(now);
            return if now - since >= HEAD_TIMEOUT { Health::Slow } else { Health::Well };
        }
        self.head_since = None;
        let since = *self.idle_since.get_or_insert(now);
        if now - since >= KEEP_ALIVE { Health::Gone } else { Health::Idle }
    }
}

/// As [`plain`], with TLS.
pub(super) async fn secure(
    worker: &Rc<Worker>,
    stream: std::net::TcpStream,
    peer: IpAddr,
    acceptor: &Acceptor,
    stop: watch::Receiver<bool>,
) {
    let sent = Rc::new(Outbox::default());
    let Ok(wire) = Wire::new(stream, Rc::clone(&sent)) else { return };
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(TokioIo::new(wire))).await {
        Ok(Ok(stream)) => stream,
        // A client that connects and sends nothing (a health check) is not a failure.
        Ok(Err(_)) if sent.bytes_in.get() == 0 => return,
        Ok(Err(err)) => return worker.refuse_handshake(peer, &format!("TLS: {err}")),
        Err(_) => return worker.refuse_handshake(peer, "TLS: timed out"),
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let link = Link::multiplexed(peer);
        let connection = http2_builder()
            .auto_date_header(clock::trusted_wall().is_some())
            .serve_connection(TokioIo::new(stream), Requests::of(worker, &link));
        http2(worker, &link, &sent, connection, http2::Connection::graceful_shutdown, stop).await;
    } else {
        let counted = Rc::new(Outbox::default());
        let link = Link::new(peer, &counted, true);
        http1(worker, Secure::new(stream, Rc::clone(&counted), sent), &link, &counted, stop).await;
    }
}

/// HTTP/2 with its limits.
fn http2_builder() -> http2::Builder<Local> {
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .max_send_buf_size(MAX_SEND_BUFFER_BYTES)
        .initial_stream_window_size(MAX_UPLOAD_WINDOW_BYTES)
        .initial_connection_window_size(MAX_UPLOAD_WINDOW_BYTES)
        .keep_alive_interval(KEEP_ALIVE)
        // A player that pauses reads no ping either; one that is gone does not acknowledge it, which is seen sooner.
        .keep_alive_timeout(PAUSE);
    builder
}

/// Serves HTTP/2 until the connection ends; after `stop`, until the graceful shutdown by `finish` is complete.
async fn http2<C: Future<Output = hyper::Result<()>>>(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    socket: &Outbox,
    connection: C,
    finish: impl Fn(Pin<&mut C>),
    mut stop: watch::Receiver<bool>,
) {
    let mut connection = std::pin::pin!(connection);
    let mut stopped = std::pin::pin!(stop.wait_for(|stop| *stop));
    let mut is_last = false;
    let (mut streams, mut contact) = (Streams::default(), Contact::default());
    loop {
        let ended = poll_fn(|cx| match connection.as_mut().poll(cx) {
            Poll::Pending if link.is_flooded() => Poll::Ready(None),
            polled => polled.map(Some),
        });
        let ended = tokio::select! {
            biased;
            ended = ended => ended,
            _ = &mut stopped, if !is_last => {
                is_last = true;
                finish(connection.as_mut());
                continue;
            }
            () = tokio::time::sleep(LOOK) => {
                if contact.is_lost(socket) {
                    socket.reset();
                    return;
                }
                match streams.check_health(link, worker.server.is_crowded(link.peer)) {
                    Health::Well | Health::Idle | Health::Paused(_) => {}
                    Health::Gone if !is_last => {
                        is_last = true;
                        finish(connection.as_mut());
                    }
                    Health::Gone => return,
                    Health::Slow => {
                        worker.stats.too_slow.fetch_add(1, Ordering::Relaxed);
                        socket.reset();
                        return;
                    }
                }
                continue;
            }
        };
        match ended {
            Some(Ok(())) => {}
            Some(Err(err)) => note_http2_end(worker, link, &err),
            None => {
                worker.refuse_frames(link, Refusal::Flood, "HTTP/2: requests are taken back without end");
                socket.reset();
            }
        }
        return;
    }
}

/// Counts an end that is the client's fault.
fn note_http2_end(worker: &Worker, link: &Link, err: &hyper::Error) {
    let source = std::error::Error::source(err).and_then(|it| it.downcast_ref::<h2::Error>());
    let fault =
        source.filter(|it| it.is_library() && (it.is_go_away() || it.is_reset())).and_then(h2::Error::reason);
    match fault {
        None | Some(h2::Reason::NO_ERROR) => tracing::trace!(%err, "a connection ended"),
        Some(h2::Reason::ENHANCE_YOUR_CALM) => {
            worker.refuse_frames(link, Refusal::Flood, "HTTP/2: frames without end");
        }
        Some(reason) => worker.refuse_frames(link, Refusal::BadFrames, &format!("HTTP/2: {reason}")),
    }
}

/// Runs the streams of an HTTP/2 connection on its worker.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use bytes::Bytes;
    use http_body_util::BodyExt as _;
    use hyper::service::service_fn;

    use super::*;
    use crate::origin::testing::CountedBody;

    /// Bytes that a connection of the tests takes without a reader.
    const SOCKET_BYTES: usize = 64 << 10;

    /// An HTTP/2 connection to the builder of players. A request is answered when `reads` says so. The answer to a GET has a body
    /// of `length` bytes in pieces of 16 KiB, which are counted as hyper takes them; of a POST the body is read, and counted.
    fn http2_pair(
        length: usize,
        taken: &Arc<AtomicUsize>,
        reads: &Arc<tokio::sync::Notify>,
    ) -> tokio::io::DuplexStream {
        let (near, far) = tokio::io::duplex(SOCKET_BYTES);
        let (taken, reads) = (Arc::clone(taken), Arc::clone(reads));
        let service = service_fn(move |request: Request<Incoming>| {
            let (taken, reads) = (Arc::clone(&taken), Arc::clone(&reads));
            async move {
                let mut left = length;
                reads.notified().await;
                if request.method() == http::Method::POST {
                    let body = request.into_body().collect().await.unwrap();
                    (left, _) = (0, taken.fetch_add(body.to_bytes().len(), Ordering::Relaxed));
                }
                Ok::<_, Infallible>(Response::new(CountedBody { left, taken }))
            }
        });
        tokio::task::spawn_local(http2_builder().serve_connection(TokioIo::new(far), service));
        near
    }

    /// The count once nothing has changed for a while.
    async fn settled(count: impl Fn() -> usize) -> usize {
        loop {
            let before = count();
            tokio::time::sleep(Duration::from_millis(50)).await;
            if count() == before && before > 0 {
                return before;
            }
        }
    }

    #[tokio::test]
    async fn a_response_over_http2_is_read_no_further_than_its_client_reads() {
        const LENGTH: usize = 4 << 20;
        let (taken, reads) = (Arc::default(), Arc::default());
        let local = tokio::task::LocalSet::new();
        let all = local.run_until(async {
            let stream = http2_pair(LENGTH, &taken, &reads);
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(2 * LENGTH as u32).initial_connection_window_size(2 * LENGTH as u32);
            let (mut client, mut connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
            let (response, _) = client.send_request(Request::new(()), true).unwrap();
            // The request is sent; from then on nothing reads the socket.
            let sending = tokio::time::timeout(Duration::from_millis(200), &mut connection);
            assert!(sending.await.is_err(), "the answer waits");
            reads.notify_one();
            let held = settled(|| taken.load(Ordering::Relaxed)).await;
            let most = MAX_SEND_BUFFER_BYTES + SOCKET_BYTES + (64 << 10);
            assert!((MAX_SEND_BUFFER_BYTES..=most).contains(&held), "{held}");
            tokio::task::spawn_local(connection);
            let mut body = response.await.unwrap().into_body();
            let mut received = 0;
            while let Some(piece) = body.data().await {
                received += piece.unwrap().len();
            }
            received
        });
        assert_eq!(all.await, LENGTH, "the rest comes when it is read");
    }

    #[tokio::test]
    async fn a_request_over_http2_sends_no_more_than_its_window() {
        const LENGTH: usize = 3 << 20;
        let (taken, reads) = (Arc::<AtomicUsize>::default(), Arc::<tokio::sync::Notify>::default());
        let local = tokio::task::LocalSet::new();
        let sent = local.run_until(async {
            let stream = http2_pair(0, &taken, &reads);
            let (client, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::task::spawn_local(connection);
            let mut client = client.ready().await.unwrap();
            let mut request = Request::new(());
            *request.method_mut() = http::Method::POST;
            let (response, mut body) = client.send_request(request, false).unwrap();
            let mut sent = 0;
            while sent < LENGTH {
                body.reserve_capacity(LENGTH - sent);
                let room = poll_fn(|cx| body.poll_capacity(cx));
                let Ok(room) = tokio::time::timeout(Duration::from_millis(500), room).await else {
                    assert_eq!(sent, MAX_UPLOAD_WINDOW_BYTES as usize, "nobody reads it");
                    reads.notify_one();
                    continue;
                };
                let room = room.unwrap().unwrap();
                sent += room;
                body.send_data(Bytes::from(vec![1; room]), sent == LENGTH).unwrap();
            }
            response.await.unwrap();
            sent
        });
        assert_eq!((sent.await, taken.load(Ordering::Relaxed)), (LENGTH, LENGTH));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_lost_that_does_not_answer_for_long_enough() {
        let mut contact = Contact::default();
        let mut look = async |after_s: u64, silent_s: Option<u64>| {
            tokio::time::advance(Duration::from_secs(after_s)).await;
            contact.is_silent_too_long(silent_s.map(Duration::from_secs), Instant::now())
        };
        // Nothing was sent to it for a minute, and the first packet is lost.
        assert!(!look(10, Some(60)).await && !look(10, Some(70)).await && !look(10, Some(80)).await);
        assert!(look(10, Some(90)).await);
        // It has answered in between, twice.
        assert!(!look(10, Some(9)).await && !look(10, Some(19)).await && !look(10, Some(29)).await);
        assert!(!look(10, None).await);
        assert!(!look(30, Some(60)).await, "it was heard of at the last look");
        assert!(look(30, Some(90)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_and_who_is_idle() {
        let outbox = Outbox::default();
        outbox.set_clean(true);
        let mut pulse = Pulse::new(&outbox);
        assert_eq!(pulse.check_health(&outbox, 0), Health::Idle);
        // Half a head.
        outbox.bytes_in.set(20);
        for second in 0..10 {
            assert_eq!(pulse.check_health(&outbox, 0), Health::Well, "{second}");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(pulse.check_health(&outbox, 0), Health::Slow);
        // A whole one, and a player who reads a little.
        outbox.bytes_in_at_request.set(20);
        outbox.is_blocked.set(true);
        let mut pulse = Pulse::new(&outbox);
        for second in 0..30 {
            assert_eq!(pulse.check_health(&outbox, 1), Health::Well, "{second}");
            outbox.bytes_out.set(outbox.bytes_out.get() + 1);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(pulse.check_health(&outbox, 1), Health::Paused(SLOW_FOR));
        // A client that waits for the box is not slow, however long.
        outbox.is_blocked.set(false);
        assert_eq!(pulse.check_health(&outbox, 1), Health::Well);
    }
}
