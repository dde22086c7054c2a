//! Test fixtures: a filler with its own cache, and scripted origins on the loopback interface.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};

use carousel::flute::SessionKey;
use carousel::lct::{Toi, Tsi};
use carousel::name::ObjectKey;

use super::{AddressPolicy, Client, FillContext, FillOptions, Filler, MAX_FILLS, OriginTimeouts};
use crate::clock;
use crate::delivery::{Flight, Flights, ObjectRef, Outcome, Sent};
use crate::store::testing::{carried, open};
use crate::store::{CameBy, Frozen, ObjectMeta, ResponseMeta, Store, StoredObject};

/// A filler and its cache.
pub(crate) struct Tested {
    pub(crate) filler: Arc<Filler>,
    pub(crate) client: Arc<Client>,
    pub(crate) context: FillContext,
    _folder: Option<tempfile::TempDir>,
}

/// A client with generous limits, for origins on the loopback interface.
pub(crate) fn client() -> Client {
    let policy = AddressPolicy::new(&[], &[], &["127.0.0.0/8:*".to_owned()], Vec::new());
    Client::new(Duration::from_secs(60), &OriginTimeouts::default(), &[], &[], policy)
}

/// A filler with an empty cache. Call inside a runtime.
pub(crate) fn filler() -> Tested {
    filler_with(MAX_FILLS)
}

/// A filler with an empty cache and this number of concurrent fills. Call inside a runtime.
pub(crate) fn filler_with(max_fills: usize) -> Tested {
    let folder = tempfile::tempdir().unwrap();
    let tested = limited(open(&folder), max_fills);
    Tested { _folder: Some(folder), ..tested }
}

/// A filler with this cache. Call inside a runtime.
pub(crate) fn filler_of(store: Store) -> Tested {
    limited(store, MAX_FILLS)
}

fn limited(store: Store, max_fills: usize) -> Tested {
    let context = FillContext { store, flights: Flights::new(), manifests: Arc::default() };
    let client = Arc::new(client());
    let options = FillOptions {
        segment_ttl_s: 60,
        manifest_ttl_s: 1,
        negative_ttl_s: 1,
        prefetch_object_bytes: 10,
        max_fills,
    };
    let runtime = tokio::runtime::Handle::current();
    let filler = Filler::new(Arc::clone(&client), context.clone(), options, runtime);
    Tested { filler, client, context, _folder: None }
}

/// A key.
pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::from_name(name, None).unwrap()
}

/// An object of a carousel.
pub(crate) fn object() -> ObjectRef {
    let destination = "239.0.0.1:6000".parse().unwrap();
    let session = SessionKey { source: "10.0.0.1".parse().unwrap(), destination, tsi: Tsi(1) };
    ObjectRef { session, toi: Toi(1) }
}

/// Stores an origin's object, fresh for `fresh_ms`.
pub(crate) fn put(store: &Store, name: &str, body: &[u8], fresh_ms: i64) -> Arc<StoredObject> {
    let (frozen, meta) = whole(store, name, body, fresh_ms);
    store.publish(&frozen, meta).unwrap()
}

/// As [`put`], through [`crate::manifests::Manifests::publish`]: it may be a manifest, or belong to a live service.
pub(crate) fn publish(context: &FillContext, name: &str, body: &[u8]) -> Arc<StoredObject> {
    let (frozen, meta) = whole(&context.store, name, body, 60_000);
    context.manifests.publish(&context.store, &frozen, meta).unwrap()
}

/// As [`publish`], for a carousel object.
pub(crate) fn carry(context: &FillContext, name: &str, body: &[u8]) -> Arc<StoredObject> {
    let (frozen, meta) = carried(&context.store, name, body);
    context.manifests.publish(&context.store, &frozen, meta).unwrap()
}

/// As [`carry`], sent with this TOI in the session of [`object`].
pub(crate) fn send(context: &FillContext, name: &str, body: &[u8], toi: u64) -> Arc<StoredObject> {
    let (frozen, meta) = carried(&context.store, name, body);
    let meta = ObjectMeta { version: toi, ..meta };
    context.manifests.publish_sent(&context.store, &frozen, meta, Some(object().session)).unwrap()
}

fn whole(store: &Store, name: &str, body: &[u8], fresh_ms: i64) -> (Frozen, ObjectMeta) {
    let (frozen, meta) = carried(store, name, body);
    let meta = ObjectMeta {
        expires: Some(meta.received_at.plus_ms(fresh_ms)),
        came_by: CameBy::Origin,
        response: Some(Box::new(ResponseMeta { status: 200, ..ResponseMeta::default() })),
        ..meta
    };
    (frozen, meta)
}

/// The head of a response, shared or not.
pub(crate) fn sent(is_shared: bool) -> Sent {
    let now = clock::steady();
    Sent {
        response: ResponseMeta { status: 200, ..ResponseMeta::default() },
        received_at: now,
        expires: now.plus_ms(60_000),
        is_shared,
        may_repeat: false,
        replaces_stale: false,
        not_kept: None,
    }
}

/// Starts an origin and returns its URL: `answer` maps the head of each request, in lower case, to everything sent before the
/// connection is closed.
pub(crate) fn origin<B: AsRef<[u8]>>(answer: impl Fn(&str) -> B + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || {
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let head: Vec<String> =
                    lines.take_while(|line| !line.is_empty()).map(|line| line.to_ascii_lowercase()).collect();
                if !head.is_empty() {
                    let _ = (&stream).write_all(answer(&head.join("\n")).as_ref());
                }
            });
        }
    });
    url
}

/// A response with these header lines and this body.
pub(crate) fn response(lines: &[&str], body: &str) -> String {
    format!("HTTP/1.1 {}\r\nConnection: close\r\n\r\n{body}", lines.join("\r\n"))
}

/// A response whose body is one chunk.
pub(crate) fn chunked(lines: &[&str], body: &str) -> String {
    let mut lines = lines.to_vec();
    lines.push("Transfer-Encoding: chunked");
    response(&lines, &format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()))
}

/// Waits for the outcome of a flight.
pub(crate) async fn ended(flight: &Flight) -> Outcome {
    loop {
        let changed = flight.listen();
        if let Some(outcome) = flight.outcome() {
            return outcome.clone();
        }
        changed.await;
    }
}

/// A body of `left` bytes in pieces of 16 KiB, which are counted as they are taken.
pub(crate) struct CountedBody<C> {
    pub(crate) left: usize,
    pub(crate) taken: C,
}

impl<C: Deref<Target = AtomicUsize> + Unpin> Body for CountedBody<C> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.left.min(16 << 10);
        self.left -= piece;
        self.taken.fetch_add(piece, Ordering::Relaxed);
        Poll::Ready((piece > 0).then(|| Ok(Frame::data(Bytes::from(vec![1; piece])))))
    }
}
