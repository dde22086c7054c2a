//! Origin server for stories: files with ranges, and faults.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Length of a body from which it is long.
const LONG_BYTES: usize = 100_000;

/// Behaviour of the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// As it should.
    None = 0,
    /// 503 to everything.
    Unavailable,
    /// The whole object in answer to a range, as servers without range support do.
    IgnoresRanges,
    /// Ranges of the right length with wrong bytes.
    WrongBytes,
    /// The connection breaks after half of the body.
    Cut,
    /// The same for what is long alone.
    CutsLong,
    /// Nothing comes for a minute.
    Hangs,
    /// Ranges end before they should, and say so.
    Short,
    /// Ranges are longer than they say.
    Long,
    /// Ranges from elsewhere, honestly labelled.
    OtherRange,
    /// Another version: other length, other ETag, other bytes.
    OtherVersion,
    /// A byte a second.
    Trickles,
    /// A redirect to itself.
    RedirectLoop,
    /// A redirect to what is not a URL of ours.
    RedirectAway,
}

impl Fault {
    const ALL: [Self; 14] = [
        Self::None,
        Self::Unavailable,
        Self::IgnoresRanges,
        Self::WrongBytes,
        Self::Cut,
        Self::CutsLong,
        Self::Hangs,
        Self::Short,
        Self::Long,
        Self::OtherRange,
        Self::OtherVersion,
        Self::Trickles,
        Self::RedirectLoop,
        Self::RedirectAway,
    ];
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    prefix: String,
    fault: AtomicU8,
    delay_ms: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// A running origin.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
}

impl Origin {
    /// Serves `folder` under the URL path `prefix`, on a port of loopback that the system picks.
    ///
    /// # Panics
    /// If no port or thread is available.
    pub fn start(folder: &Path, prefix: &str) -> Self {
        let shared = Arc::new(Shared {
            folder: folder.to_path_buf(),
            prefix: prefix.to_owned(),
            fault: AtomicU8::new(0),
            delay_ms: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        });
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("nonblocking");
        let address = listener.local_addr().expect("address");
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("origin".to_owned())
            .spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
                runtime.block_on(async {
                    tokio::select! {
                        () = serve(TcpListener::from_std(listener).expect("listener"), serving) => {}
                        _ = stopped => {}
                    }
                });
            })
            .expect("a thread");
        Self { address, shared, stop: Some(stop) }
    }

    /// Its address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it behaves like this.
    pub fn set_fault(&self, fault: Fault) {
        self.shared.fault.store(fault as u8, Ordering::SeqCst);
    }

    /// From now on it is this far away: every answer comes so much later.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.delay_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
    }

    /// Requests and body bytes so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.requests.load(Ordering::SeqCst), self.shared.bytes.load(Ordering::SeqCst))
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(Arc::clone(&shared), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let fault = Fault::ALL[usize::from(shared.fault.load(Ordering::SeqCst))];
    tokio::time::sleep(Duration::from_millis(shared.delay_ms.load(Ordering::SeqCst))).await;
    let to = |location: &str| {
        let mut response = plain(StatusCode::FOUND);
        response.headers_mut().insert("location", location.parse().expect("a header"));
        response
    };
    match fault {
        Fault::RedirectLoop => return Ok(to(request.uri().path())),
        Fault::RedirectAway => return Ok(to("file:///etc/passwd")),
        Fault::Unavailable => return Ok(plain(StatusCode::SERVICE_UNAVAILABLE)),
        Fault::Hangs => tokio::time::sleep(Duration::from_secs(60)).await,
        _ => {}
    }
    let Some(mut bytes) = read(&shared, request.uri().path()) else {
        return Ok(plain(StatusCode::NOT_FOUND));
    };
    if fault == Fault::OtherVersion {
        bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
        bytes.extend_from_slice(b"and more");
    }
    let range = request.headers().get("range").and_then(|value| value.to_str().ok());
    let mut response = Response::builder().header("etag", format!("\"{:x}\"", bytes.len()));
    if let Some((mut start, mut end)) = range.and_then(|range| parse(range, bytes.len()))
        && fault != Fault::IgnoresRanges
    {
        let total = bytes.len();
        match fault {
            Fault::Short => end = start + (end - start).div_ceil(2),
            Fault::OtherRange => (start, end) = (0, total.min(1000)),
            _ => {}
        }
        bytes = bytes[start..end].to_vec();
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header("content-range", format!("bytes {start}-{}/{total}", end - 1));
    }
    if fault == Fault::WrongBytes {
        bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
    }
    if fault == Fault::Long {
        bytes.extend_from_slice(&[0xee; 5000]);
    }
    shared.bytes.fetch_add(bytes.len() as u64, Ordering::SeqCst);
    let response = response.header("content-length", bytes.len());
    let body = match fault {
        Fault::Cut => cut(bytes),
        Fault::CutsLong if bytes.len() >= LONG_BYTES => cut(bytes),
        Fault::Trickles => Trickle(Bytes::from(bytes), Box::pin(tokio::time::sleep(Duration::ZERO))).boxed(),
        _ => Full::new(Bytes::from(bytes)).map_err(never).boxed(),
    };
    Ok(response.body(body).expect("headers"))
}

fn cut(bytes: Vec<u8>) -> Body {
    let half = bytes.len() / 2;
    HalfBody(vec![Err(std::io::Error::other("cut")), Ok(Frame::data(Bytes::from(bytes).slice(..half)))])
        .boxed()
}

/// Frames, last one first, and an error among them.
struct HalfBody(Vec<Result<Frame<Bytes>, std::io::Error>>);

impl hyper::body::Body for HalfBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        std::task::Poll::Ready(self.0.pop())
    }
}

/// A byte a second.
struct Trickle(Bytes, std::pin::Pin<Box<tokio::time::Sleep>>);

impl hyper::body::Body for Trickle {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.0.is_empty() {
            return std::task::Poll::Ready(None);
        }
        std::task::ready!(self.1.as_mut().poll(context));
        self.1 = Box::pin(tokio::time::sleep(Duration::from_secs(1)));
        let byte = self.0.split_to(1);
        std::task::Poll::Ready(Some(Ok(Frame::data(byte))))
    }
}

fn plain(status: StatusCode) -> Response<Body> {
    let body = Full::new(Bytes::from(status.to_string())).map_err(never).boxed();
    Response::builder().status(status).body(body).expect("headers")
}

fn never(err: Infallible) -> std::io::Error {
    match err {}
}

fn read(shared: &Shared, path: &str) -> Option<Vec<u8>> {
    let relative = Path::new(path.strip_prefix(&shared.prefix)?);
    let inside = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if inside { std::fs::read(shared.folder.join(relative)).ok() } else { None }
}

/// A single range `bytes=a-b` or `bytes=a-`.
fn parse(range: &str, length: usize) -> Option<(usize, usize)> {
    let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
    let start: usize = start.parse().ok()?;
    let end = if end.is_empty() { length } else { end.parse::<usize>().ok()?.checked_add(1)?.min(length) };
    (start < end).then_some((start, end))
}
