//! HTTP workers: one thread for each core, which accepts and serves connections. A new connection is handed over once, to
//! the worker with the fewest. Workers share nothing on a hit but the object itself.

use std::cell::RefCell;
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};

use super::access::{self, Gatherer};
use super::hot::Hot;
use super::options::LogFormat;
use super::stats::HttpStats;
use super::tls::Acceptor;
use super::{HttpServer, connection};
use crate::clock;
use crate::vitals::{self, Sign};

/// Interval at which gathered lines of the access log are handed over.
pub(super) const BEAT: Duration = Duration::from_millis(250);
/// Interval at which a worker without an access log gives a sign of life.
const SIGN: Duration = Duration::from_secs(1);
/// Interval at which a worker without connections checks whether others still accept.
const LAST_LOOK: Duration = Duration::from_millis(5);
/// Threads of a worker for blocking disk access.
const BLOCKING_THREADS: usize = 16;

/// A connection that has been accepted.
enum IncomingConnection {
    Tcp {
        stream: TcpStream,
        peer: IpAddr,
        is_tls: bool,
    },
    /// A QUIC connection; the worker that serves it performs the handshake.
    #[cfg(feature = "http3")]
    Quic(Box<quinn::Incoming>),
}

impl IncomingConnection {
    fn peer(&self) -> IpAddr {
        match self {
            Self::Tcp { peer, .. } => *peer,
            #[cfg(feature = "http3")]
            Self::Quic(incoming) => incoming.remote_address().ip(),
        }
    }
}

/// Sockets of TLS and QUIC.
#[derive(Debug)]
pub struct SecureSockets {
    /// HTTP/1.1 and HTTP/2.
    pub listeners: Vec<TcpListener>,
    /// HTTP/3 on the same ports, if the program has it.
    pub datagrams: Vec<UdpSocket>,
    /// Certificates.
    pub acceptor: Acceptor,
}

/// Socket on which a worker accepts.
enum Listening {
    /// TCP; whether it is for TLS.
    Tcp(TcpListener, bool),
    #[cfg(feature = "http3")]
    Quic(super::http3::Listener),
}

/// State shared by the connections of a worker.
pub(super) struct Worker {
    pub(super) server: Arc<HttpServer>,
    pub(super) stats: Arc<HttpStats>,
    pub(super) hot: RefCell<Hot>,
    pub(super) log: Option<RefCell<Gatherer>>,
}

/// The place of a connection, freed when dropped.
struct ConnectionPermit {
    worker: Rc<Worker>,
    load: Arc<[AtomicU64]>,
    number: usize,
    peer: IpAddr,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.load[self.number].fetch_sub(1, Ordering::Relaxed);
        self.worker.server.places.give_back(self.peer);
    }
}

/// All workers.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
}

/// A worker's handle to all workers.
#[derive(Clone)]
struct Others {
    /// Number of workers that still accept: until it is 0, connections may be handed over.
    accepting: Arc<AtomicU64>,
    load: Arc<[AtomicU64]>,
    /// To each worker. A connection in a queue has a place among `max_connections`, so all queues together have no more.
    hands: Vec<mpsc::UnboundedSender<IncomingConnection>>,
}

impl Others {
    /// Takes a connection to the worker that has the fewest.
    fn give(&self, own: usize, accepted: IncomingConnection) {
        let load = |at: &usize| self.load[*at].load(Ordering::Relaxed);
        let least = (0..self.load.len()).min_by_key(|at| (load(at), *at != own)).unwrap_or(own);
        self.load[least].fetch_add(1, Ordering::Relaxed);
        // A worker that is gone is stopping; the client retries.
        let _ = self.hands[least].send(accepted);
    }
}

impl Workers {
    /// Starts the workers.
    ///
    /// # Errors
    /// If the access log cannot be written, or no thread started.
    pub fn start(
        server: &Arc<HttpServer>,
        plain: &[TcpListener],
        tls: Option<SecureSockets>,
        stop: &watch::Receiver<bool>,
    ) -> Result<Self, String> {
        let log = match &server.config.access_log {
            Some(log) => Some((log.format, access::open(&log.path, &server.shared.vitals)?)),
            None => None,
        };
        let count = server.stats.len();
        let (hands, taken): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        #[cfg(feature = "http3")]
        let quic = tls.as_ref().map_or_else(|| Ok(Vec::new()), |tls| open_quic(server, tls))?;
        #[cfg(feature = "http3")]
        let sockets = quic.len();
        #[cfg(not(feature = "http3"))]
        let sockets = 0;
        let listeners = count * (plain.len() + tls.as_ref().map_or(0, |tls| tls.listeners.len())) + sockets;
        let others = Others {
            accepting: Arc::new(AtomicU64::new(listeners as u64)),
            load: (0..count).map(|_| AtomicU64::new(0)).collect(),
            hands,
        };
        let failed = |err: std::io::Error| format!("cannot start a worker: {err}");
        let mut threads = Vec::new();
        for (number, taken) in taken.into_iter().enumerate() {
            let clone = |listener: &TcpListener| listener.try_clone().map_err(failed);
            let mut listeners = Vec::new();
            for listener in plain {
                listeners.push(Listening::Tcp(clone(listener)?, false));
            }
            for listener in tls.iter().flat_map(|tls| &tls.listeners) {
                listeners.push(Listening::Tcp(clone(listener)?, true));
            }
            // One worker accepts from each socket.
            #[cfg(feature = "http3")]
            listeners.extend(quic.iter().skip(number).step_by(count).cloned().map(Listening::Quic));
            let acceptor = tls.as_ref().map(|tls| tls.acceptor.clone());
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(BLOCKING_THREADS)
                .thread_keep_alive(Duration::from_secs(5))
                .build()
                .map_err(failed)?;
            let (server, stop) = (Arc::clone(server), stop.clone());
            let (others, log) = (others.clone(), log.clone());
            let work = move || {
                let log =
                    log.map(|(format, writer): (LogFormat, _)| RefCell::new(Gatherer::new(format, writer)));
                let stats = Arc::clone(&server.stats[number]);
                let worker = Rc::new(Worker { server, stats, hot: RefCell::default(), log });
                let tasks = JoinSet::new();
                let connections = Connections { worker, number, acceptor, others, stop, tasks };
                runtime.block_on(LocalSet::new().run_until(serve(connections, listeners, taken)));
                // Tasks blocked on an unresponsive disk must not delay the end of the program.
                runtime.shutdown_timeout(Duration::from_millis(100));
            };
            // A panic in a task ends only its connection; the worker itself continues.
            threads.push(vitals::start(&format!("http-{number}"), work).map_err(failed)?);
        }
        Ok(Self { threads })
    }

    /// Waits for their end.
    pub fn join(self) {
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// The connections of a worker.
struct Connections {
    worker: Rc<Worker>,
    number: usize,
    acceptor: Option<Acceptor>,
    others: Others,
    stop: watch::Receiver<bool>,
    tasks: JoinSet<()>,
}

impl Connections {
    /// Starts to serve a connection. Each kind is a separate task, so that idle connections do not take the size of the largest.
    fn begin(&mut self, accepted: IncomingConnection) {
        let (peer, stop) = (accepted.peer(), self.stop.clone());
        let (worker, load) = (Rc::clone(&self.worker), Arc::clone(&self.others.load));
        let place = ConnectionPermit { worker, load, number: self.number, peer };
        match accepted {
            IncomingConnection::Tcp { stream, is_tls, .. } => {
                match self.acceptor.clone().filter(|_| is_tls) {
                    None => self.tasks.spawn_local(async move {
                        connection::plain(&place.worker, stream, place.peer, stop).await;
                    }),
                    Some(acceptor) => self.tasks.spawn_local(async move {
                        connection::secure(&place.worker, stream, place.peer, &acceptor, stop).await;
                    }),
                }
            }
            #[cfg(feature = "http3")]
            IncomingConnection::Quic(incoming) => self.tasks.spawn_local(async move {
                super::http3::serve(&place.worker, *incoming, stop).await;
            }),
        };
    }

    /// Serves until the stop, and gives signs of life.
    async fn serve(&mut self, taken: &mut mpsc::UnboundedReceiver<IncomingConnection>, sign: &Sign) {
        let worker = Rc::clone(&self.worker);
        let mut stopped = self.stop.clone();
        let mut beat = tokio::time::interval(if worker.log.is_some() { BEAT } else { SIGN });
        loop {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return,
                Some(accepted) = taken.recv() => self.begin(accepted),
                Some(ended) = self.tasks.join_next() => {
                    if ended.is_err_and(|err| err.is_panic()) {
                        sign.survived();
                    }
                }
                _ = beat.tick() => {
                    sign.give(clock::now());
                    worker.write_log(Gatherer::flush);
                }
            }
        }
    }

    /// Serves the remaining connections after the stop until they end, including those handed over at the last moment.
    async fn finish(&mut self, taken: &mut mpsc::UnboundedReceiver<IncomingConnection>) {
        loop {
            // Load before checking the queue: connections handed over before the last worker stopped accepting are seen
            // then.
            let may_come = self.others.accepting.load(Ordering::Acquire) > 0;
            while let Ok(accepted) = taken.try_recv() {
                self.begin(accepted);
            }
            if self.tasks.is_empty() && !may_come {
                return;
            }
            tokio::select! {
                Some(_) = self.tasks.join_next() => {}
                () = tokio::time::sleep(LAST_LOOK), if may_come => {}
            }
        }
    }
}

/// Serves on a worker's thread until the stop, then the remaining connections for the configured time.
async fn serve(
    mut connections: Connections,
    listeners: Vec<Listening>,
    mut taken: mpsc::UnboundedReceiver<IncomingConnection>,
) {
    for listening in listeners {
        let (worker, others) = (Rc::clone(&connections.worker), connections.others.clone());
        let (number, stop) = (connections.number, connections.stop.clone());
        tokio::task::spawn_local(async move {
            listen(listening, &worker, number, &others, stop).await;
            others.accepting.fetch_sub(1, Ordering::Release);
        });
    }
    let worker = Rc::clone(&connections.worker);
    let sign = worker.server.shared.vitals.watch(format!("http-{}", connections.number), clock::now());
    connections.serve(&mut taken, &sign).await;
    let drain = Duration::from_millis(worker.server.config.drain_ms);
    let _ = tokio::time::timeout(drain, connections.finish(&mut taken)).await;
    worker.write_log(Gatherer::flush);
}

/// Accepts on a socket until the stop.
async fn listen(
    listening: Listening,
    worker: &Worker,
    number: usize,
    others: &Others,
    mut stop: watch::Receiver<bool>,
) {
    match listening {
        Listening::Tcp(listener, is_tls) => {
            if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                tokio::select! {
                    () = accept(worker, number, &listener, is_tls, others) => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            }
        }
        #[cfg(feature = "http3")]
        Listening::Quic(listener) => {
            tokio::select! {
                () = accept_quic(worker, number, &listener, others) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
            listener.close();
        }
    }
}

/// Accepts connections until the process ends.
async fn accept(
    worker: &Worker,
    number: usize,
    listener: &tokio::net::TcpListener,
    is_tls: bool,
    others: &Others,
) {
    let server = &worker.server;
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(err) => {
                // Usually no descriptors are left: an immediate retry would only use up the core.
                tracing::warn!(%err, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if !worker.takes_place(peer.ip()) {
            continue;
        }
        // Without it a response that ends in a short segment would wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        match stream.into_std() {
            Ok(stream) => others.give(number, IncomingConnection::Tcp { stream, peer: peer.ip(), is_tls }),
            Err(_) => server.places.give_back(peer.ip()),
        }
    }
}

/// Opens QUIC on the UDP sockets, and advertises it in responses over TLS.
#[cfg(feature = "http3")]
fn open_quic(server: &HttpServer, tls: &SecureSockets) -> Result<Vec<super::http3::Listener>, String> {
    let failed = |err: std::io::Error| format!("[http.tls] http3: {err}");
    let (mut listeners, mut ports) = (Vec::new(), Vec::new());
    for socket in &tls.datagrams {
        let port = socket.local_addr().map_err(failed)?.port();
        let socket = socket.try_clone().map_err(failed)?;
        listeners.push(super::http3::Listener::open(socket, &tls.acceptor, &server.runtime)?);
        let alternative = format!("h3=\":{port}\"; ma=86400");
        if !ports.contains(&alternative) {
            ports.push(alternative);
        }
    }
    if !ports.is_empty()
        && let Ok(value) = http::HeaderValue::from_str(&ports.join(", "))
    {
        let _ = server.alternative.set(value);
    }
    Ok(listeners)
}

/// Accepts QUIC connections until the process ends.
#[cfg(feature = "http3")]
async fn accept_quic(worker: &Worker, number: usize, listener: &super::http3::Listener, others: &Others) {
    let server = &worker.server;
    while let Some(incoming) = listener.accept().await {
        let handshakes = server.handshakes.load(Ordering::Relaxed);
        if super::http3::Listener::is_to_prove(&incoming, handshakes) {
            let _ = incoming.retry();
        } else if worker.takes_place(incoming.remote_address().ip()) {
            others.give(number, IncomingConnection::Quic(Box::new(incoming)));
        } else {
            incoming.refuse();
        }
    }
}

impl Worker {
    /// Counts a connection, and takes a place for it. False if no place is left for its client.
    fn takes_place(&self, peer: IpAddr) -> bool {
        self.stats.connections.fetch_add(1, Ordering::Relaxed);
        let is_free = self.server.places.take(peer);
        if !is_free {
            self.stats.refused.fetch_add(1, Ordering::Relaxed);
        }
        is_free
    }

    /// Writes to the access log, if there is one; `write` returns false if lines had to be dropped.
    pub(super) fn write_log(&self, write: impl FnOnce(&mut Gatherer) -> bool) {
        if let Some(log) = &self.log
            && !write(&mut log.borrow_mut())
        {
            self.stats.unlogged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::Http;
    use super::super::testing::{server, worker};
    use super::*;

    fn connection() -> IncomingConnection {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        IncomingConnection::Tcp { stream, peer: "192.0.2.1".parse().unwrap(), is_tls: false }
    }

    #[test]
    fn a_connection_goes_to_the_worker_with_the_fewest_and_stays_where_that_is_as_good() {
        let (hands, mut taken): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::unbounded_channel()).unzip();
        let load = (0..3).map(|_| AtomicU64::new(0)).collect();
        let others = Others { accepting: Arc::default(), load, hands };
        let mut given = |own| {
            others.give(own, connection());
            let counts: Vec<_> = others.load.iter().map(|it| it.load(Ordering::Relaxed)).collect();
            (taken.iter_mut().position(|it| it.try_recv().is_ok()), counts)
        };
        assert_eq!(given(1), (Some(1), vec![0, 1, 0]));
        assert_eq!(given(1), (Some(0), vec![1, 1, 0]));
        assert_eq!(given(0), (Some(2), vec![1, 1, 1]));
        assert_eq!(given(2), (Some(2), vec![1, 1, 2]));
    }

    #[tokio::test]
    async fn clients_beyond_their_share_get_no_place_until_one_is_given_back() {
        let tested = server(Http { max_connections: 4, ..Http::default() }, &[], None);
        let worker = worker(&tested.server);
        let [one, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|it| it.parse().unwrap());
        let taken = |peer| (0..9).take_while(|_| worker.takes_place(peer)).count();
        assert_eq!((taken(one), taken(other), taken(other)), (3, 1, 0));
        let counts =
            || [&worker.stats.connections, &worker.stats.refused].map(|it| it.load(Ordering::Relaxed));
        assert_eq!(counts(), [7, 3]);
        let load: Arc<[AtomicU64]> = [AtomicU64::new(1)].into();
        drop(ConnectionPermit { worker: Rc::clone(&worker), load: Arc::clone(&load), number: 0, peer: one });
        assert_eq!((load[0].load(Ordering::Relaxed), tested.server.open_connections()), (0, 3));
        assert!(worker.takes_place(other));
    }
}
