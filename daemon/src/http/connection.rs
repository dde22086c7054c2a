//! One connection, from its first byte to its last.
//!
//! ```text
//! parked ── a byte comes ──▶ served ── idle at a look ──▶ parked ── KEEP_ALIVE ──▶ closed
//!                               ├── a head that does not end ──▶ closed
//!                               └── a body that nobody reads ──▶ closed
//! ```
//!
//! While it is parked a connection is a socket and a timer: neither hyper nor its buffers. That is what ten thousand players
//! between two segments cost.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::answer::Logged;
use super::tls::Acceptor;
use super::wire::{Outbox, Wire};
use super::workers::Worker;

/// When a connection is first looked at after it was parked: one that is idle then is parked again. hyper's buffers take 16 KB,
/// so ten thousand that come at once must not keep them for long.
const FIRST_LOOK: Duration = Duration::from_millis(20);
/// One that is busy, or asks again soon after it was parked, is looked at half as often each time, down to this.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// Time for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between requests. Players ask every few seconds; those that pause may connect again.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that takes fewer bytes than this within [`SLOW_FOR`], and could have more, holds a place for nothing.
const SLOW_BYTES: u64 = 32 << 10;
const SLOW_FOR: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// Header fields of a request.
const MAX_HEADERS: usize = 64;
/// Requests of one HTTP/2 connection at a time.
const MAX_STREAMS: u32 = 128;

/// What a connection's requests share.
pub(super) struct Link {
    pub(super) peer: IpAddr,
    /// Of a plain connection: its socket sends files.
    pub(super) outbox: Option<Rc<Outbox>>,
    /// Requests that are being answered.
    pub(super) active: Cell<u32>,
    pub(super) is_tls: bool,
}

/// An answer: at once, or when it is there. hyper moves it about for each request, so the long way is boxed.
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

/// Serves a connection until it ends, or `stop` says so and what is being answered has ended.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    stream: std::net::TcpStream,
    peer: IpAddr,
    acceptor: Option<Acceptor>,
    stop: watch::Receiver<bool>,
) {
    match acceptor {
        None => plain(worker, stream, peer, stop).await,
        Some(acceptor) => {
            if let Ok(stream) = TcpStream::from_std(stream) {
                // Boxed: a plain connection must not be as large as this one.
                Box::pin(tls(worker, stream, peer, &acceptor, stop)).await;
            }
        }
    }
}

fn answer_by(worker: &Rc<Worker>, link: &Rc<Link>) -> impl Fn(Request<Incoming>) -> Answer + Clone + use<> {
    let (worker, link) = (Rc::clone(worker), Rc::clone(link));
    move |request| worker.answer(request, &link)
}

async fn plain(
    worker: &Rc<Worker>,
    stream: std::net::TcpStream,
    peer: IpAddr,
    mut stop: watch::Receiver<bool>,
) {
    let outbox = Rc::new(Outbox::default());
    let link = Rc::new(Link { peer, outbox: Some(Rc::clone(&outbox)), active: Cell::new(0), is_tls: false });
    let Ok(mut wire) = Wire::new(stream, Rc::clone(&outbox)) else { return };
    let mut look = Duration::ZERO;
    loop {
        // Parked.
        let since = Instant::now();
        tokio::select! {
            biased;
            readable = wire.readable() => if readable.is_err() { return },
            () = tokio::time::sleep(KEEP_ALIVE) => return,
            _ = stop.wait_for(|stop| *stop) => return,
        }
        // Boxed: what is parked must not keep its place.
        let mut connection = Box::new(
            http1::Builder::new()
                .max_buf_size(MAX_HEAD_BYTES)
                .max_headers(MAX_HEADERS)
                .serve_connection(wire, service_fn(answer_by(worker, &link))),
        );
        let mut pulse = Pulse::new(&outbox);
        // Whoever asks again so soon is busy, and is not worth parking at every look.
        look = if since.elapsed() < look * 4 { LAST_LOOK.min(look * 2) } else { FIRST_LOOK };
        loop {
            tokio::select! {
                biased;
                ended = &mut *connection => {
                    if let Err(err) = ended {
                        tracing::trace!(%err, "a connection ended");
                    }
                    return;
                }
                () = tokio::time::sleep(look) => look = LAST_LOOK.min(look * 2),
                _ = stop.wait_for(|stop| *stop) => {
                    Pin::new(&mut *connection).graceful_shutdown();
                    let _ = (*connection).await;
                    return;
                }
            }
            match pulse.look(&outbox, link.active.get()) {
                Health::Well => {}
                Health::Slow => {
                    worker.stats.too_slow.fetch_add(1, Ordering::Relaxed);
                    outbox.reset();
                    return;
                }
                Health::Idle => break,
            }
        }
        let parts = connection.into_parts();
        wire = parts.io;
        // Part of a head that came in this very moment.
        wire.put_back(&parts.read_buf);
    }
}

/// What a look at a connection finds.
#[derive(Debug, PartialEq, Eq)]
enum Health {
    Well,
    Slow,
    /// Nothing is asked, and nothing of a question has come.
    Idle,
}

/// What the last look has found.
#[derive(Debug)]
struct Pulse {
    /// Bytes taken by the client when it was last seen to be well.
    bytes_out: u64,
    well_at: Instant,
    head_since: Option<Instant>,
}

impl Pulse {
    fn new(outbox: &Outbox) -> Self {
        Self { bytes_out: outbox.bytes_out.get(), well_at: Instant::now(), head_since: None }
    }

    fn look(&mut self, outbox: &Outbox, active: u32) -> Health {
        let now = Instant::now();
        let has_begun = outbox.bytes_in.get() > outbox.bytes_in_at_request.get();
        if active > 0 || !outbox.is_clean() {
            self.head_since = None;
            let taken = outbox.bytes_out.get() - self.bytes_out;
            if !outbox.is_blocked.get() || taken >= SLOW_BYTES {
                (self.bytes_out, self.well_at) = (outbox.bytes_out.get(), now);
            } else if now - self.well_at >= SLOW_FOR {
                return Health::Slow;
            }
            return Health::Well;
        }
        (self.bytes_out, self.well_at) = (outbox.bytes_out.get(), now);
        if has_begun {
            let since = *self.head_since.get_or_insert(now);
            return if now - since >= HEAD_TIMEOUT { Health::Slow } else { Health::Well };
        }
        self.head_since = None;
        Health::Idle
    }
}

async fn tls(
    worker: &Rc<Worker>,
    stream: TcpStream,
    peer: IpAddr,
    acceptor: &Acceptor,
    stop: watch::Receiver<bool>,
) {
    let link = Rc::new(Link { peer, outbox: None, active: Cell::new(0), is_tls: true });
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else {
        return;
    };
    let speaks_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(answer_by(worker, &link));
    let stream = TokioIo::new(stream);
    if speaks_h2 {
        let connection = http2::Builder::new(Local)
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD_BYTES as u32)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(HEAD_TIMEOUT)
            .serve_connection(stream, service);
        drive(connection, stop, http2::Connection::graceful_shutdown).await;
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(KEEP_ALIVE)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(stream, service);
        drive(connection, stop, http1::Connection::graceful_shutdown).await;
    }
}

/// Lets a connection run to its end; when `stop` says so, after what `finish` leaves of it.
async fn drive<C: Future>(connection: C, mut stop: watch::Receiver<bool>, finish: impl FnOnce(Pin<&mut C>)) {
    let mut connection = std::pin::pin!(connection);
    // Ends of connections are no news: players leave as they please.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => finish(connection.as_mut()),
    }
    let _ = connection.await;
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
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_and_who_is_idle() {
        let outbox = Outbox::default();
        outbox.set_clean(true);
        let mut pulse = Pulse::new(&outbox);
        assert_eq!(pulse.look(&outbox, 0), Health::Idle);
        // Half a head.
        outbox.bytes_in.set(20);
        for second in 0..10 {
            assert_eq!(pulse.look(&outbox, 0), Health::Well, "{second}");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(pulse.look(&outbox, 0), Health::Slow);
        // A whole one, and a player who reads a little.
        outbox.bytes_in_at_request.set(20);
        outbox.is_blocked.set(true);
        let mut pulse = Pulse::new(&outbox);
        for second in 0..30 {
            assert_eq!(pulse.look(&outbox, 1), Health::Well, "{second}");
            outbox.bytes_out.set(outbox.bytes_out.get() + 1);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(pulse.look(&outbox, 1), Health::Slow);
        // One who waits for us is not slow, however long.
        outbox.is_blocked.set(false);
        assert_eq!(pulse.look(&outbox, 1), Health::Well);
    }
}
