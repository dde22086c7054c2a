//! The players' side: objects over HTTP/1.1, whole or in ranges, in the cache or still on their way.
//!
//! | file | what lives there |
//! |---|---|
//! | `target.rs` | which object a request means |
//! | `serve.rs` | where it is: cache, in flight, announced, origin |
//! | `reply.rs` | heads: conditionals, ranges, caching, CORS |
//! | `body.rs` | bodies: mapped slices, objects as they arrive |
//! | `prefetch.rs` | what comes after a miss |
//! | `range.rs`, `mime.rs`, `page.rs` | `Range`, types by name, the page at `/` |
//!
//! Nothing is served as whole that is not whole and verified: an object in flight keeps its last byte back until it
//! is, and a response whose object fails is cut, which no HTTP client takes for its end.

mod body;
mod mime;
mod page;
mod prefetch;
mod range;
mod reply;
mod serve;
mod target;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Response;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::config::Config;
use crate::origin::{Filler, Origins};
use crate::receive::Shared;
use body::PlayerBody;

/// What is answered.
const METHODS: &str = "GET, HEAD, OPTIONS";
/// How long a player waits for a byte before repair is asked to hurry.
const HASTE: Duration = Duration::from_millis(300);
/// Time for a request's head, and between requests of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Unacknowledged bytes for so long end a connection: the player is gone or reads nothing.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's head, and of what a connection buffers.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// Header fields of a request.
const MAX_HEADERS: usize = 64;

/// How long players wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    haste: Duration,
    patience: Duration,
}

/// Responses and connections since the start.
#[derive(Debug, Default)]
pub struct HttpStats {
    /// Responses by the hundreds of their status, 1xx to 5xx.
    pub responses: [AtomicU64; 5],
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Connections closed at once because there were too many.
    pub refused: AtomicU64,
    /// Responses from the cache.
    pub hits: AtomicU64,
}

/// Answers players.
#[derive(Debug)]
pub struct Player {
    shared: Arc<Shared>,
    origins: Arc<Origins>,
    filler: Arc<Filler>,
    read_through: bool,
    prefetch_segments: usize,
    waits: Waits,
    max_connections: usize,
    stats: HttpStats,
}

impl Player {
    /// With what it serves from.
    pub fn new(
        config: &Config,
        shared: Arc<Shared>,
        origins: Arc<Origins>,
        filler: Arc<Filler>,
    ) -> Arc<Self> {
        Arc::new(Self {
            shared,
            origins,
            filler,
            read_through: config.http.read_through,
            prefetch_segments: config.http.prefetch_segments,
            waits: Waits::new(Duration::from_millis(config.http.wait_ms)),
            max_connections: config.http.max_connections,
            stats: HttpStats::default(),
        })
    }

    /// The counters.
    pub const fn stats(&self) -> &HttpStats {
        &self.stats
    }

    fn count(&self, response: &Response<PlayerBody>) {
        let class = usize::from(response.status().as_u16() / 100).clamp(1, 5);
        self.stats.responses[class - 1].fetch_add(1, Ordering::Relaxed);
        let is_hit = response
            .headers()
            .get("cache-status")
            .is_some_and(|it| it.as_bytes().starts_with(b"skycache; hit"));
        self.stats.hits.fetch_add(u64::from(is_hit), Ordering::Relaxed);
    }

    /// Serves until `stop` says so; then lets what is being answered end, for at most `drain`.
    pub async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        mut stop: watch::Receiver<bool>,
        drain: Duration,
    ) {
        let slots = Arc::new(Semaphore::new(self.max_connections));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
                Some(_) = connections.join_next() => continue,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(err) => {
                    // No descriptors left, mostly: accepting again at once would only burn the core.
                    tracing::warn!(%err, "accepting a connection failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            self.stats.connections.fetch_add(1, Ordering::Relaxed);
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                self.stats.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let _ = stream.set_nodelay(true);
            let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(USER_TIMEOUT));
            let (player, mut stop) = (Arc::clone(&self), stop.clone());
            connections.spawn(async move {
                let _slot = slot;
                let service = service_fn(|request| {
                    let player = Arc::clone(&player);
                    async move { Ok::<_, std::convert::Infallible>(player.answer(request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .max_buf_size(MAX_HEAD_BYTES)
                    .max_headers(MAX_HEADERS)
                    .serve_connection(TokioIo::new(stream), service);
                tokio::pin!(connection);
                tokio::select! {
                    ended = connection.as_mut() => {
                        if let Err(err) = ended {
                            tracing::trace!(%err, "a connection ended");
                        }
                        return;
                    }
                    _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
                }
                let _ = connection.await;
            });
        }
        drop(listener);
        let _ = tokio::time::timeout(drain, async { while connections.join_next().await.is_some() {} }).await;
    }
}

/// Opens a listener, with what to do if that fails.
///
/// # Errors
/// One line that names the address and the mend.
pub fn listen(address: SocketAddr, key: &str) -> Result<TcpListener, String> {
    let open = || -> io::Result<TcpListener> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM.nonblocking(), None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(4096)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|err| {
        let mend = match err.kind() {
            io::ErrorKind::AddrInUse => {
                "another program has this port; `ss -ltnp` names it, or choose another"
            }
            io::ErrorKind::AddrNotAvailable => "this machine has no such address",
            io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
            _ => "choose another address",
        };
        format!("cannot listen on {address} ({key}): {err}; {mend}")
    })
}
