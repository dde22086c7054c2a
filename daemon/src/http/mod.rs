//! HTTP server for players: objects over HTTP/1.1, HTTP/2 and HTTP/3, complete or in ranges, from the cache or in flight.
//!
//! | file | content |
//! |---|---|
//! | `workers.rs` | one thread for each core, which accepts and serves connections |
//! | `connection.rs` | lifecycle of one connection; detection of slow clients |
//! | `streams.rs` | concurrent requests on one connection of HTTP/2 or HTTP/3 |
//! | `http3` | QUIC connections |
//! | `wire.rs`, `sys.rs` | the socket: files are sent by `sendfile` |
//! | `tls.rs` | certificates, negotiation of the protocol |
//! | `answer.rs` | one request: repeated hit, object, page, another method |
//! | `target.rs` | the object that a request names |
//! | `hot.rs` | responses of the last seconds, for repeated hits |
//! | `quick.rs` | fast path of the most common requests, without hyper |
//! | `serve.rs` | lookup of an object: cache, in flight, announced, origin |
//! | `prospects.rs` | absent objects: whether the link may bring them, and how long to wait |
//! | `in_flight.rs` | objects in flight |
//! | `reload.rs`, `playlist.rs`, `timeline.rs` | live manifests: blocking reloads, delta updates, without segments that cannot be served |
//! | `tail.rs` | live segments that the carousel breaks off, continued from the origin |
//! | `missing.rs` | reasons for which no object can be served |
//! | `names.rs` | names of the box: values of `Host` with which the page is served |
//! | `forward.rs` | requests passed to the origin: other methods, and responses that are not shared |
//! | `upstream.rs` | request fields for origins: `Host`, `Forwarded`, and the detection of loops |
//! | `urls.rs` | `Location`, `Content-Location`, `Link`: URLs of origins as paths of the box |
//! | `cors.rs` | cross-origin requests: preflights, response fields for scripts of other sites |
//! | `head.rs`, `reply.rs` | heads of responses: the part that all clients share; conditionals and ranges |
//! | `body.rs` | bodies: mapped slices, objects as they arrive |
//! | `shown.rs` | the form in which an object is sent: rewritten, compressed |
//! | `manifest` | recognition of manifests, and streaming mapping of their URLs to the box |
//! | `rendezvous.rs` | players sent to the box and back, content steering |
//! | `measure.rs` | reports of players (CMCD), passed on to `qoe` |
//! | `prefetch.rs` | prefetch after a miss |
//! | `stats.rs`, `access.rs` | counters and access log |
//! | `own.rs` | the page at `/` and its parts, queries of televisions |
//! | `range.rs`, `mime.rs` | `Range`, types by name |
//!
//! No response ends regularly before its object is complete and verified: the last byte of an object in flight is withheld
//! until then, and a response whose object fails is cut, which HTTP clients detect as an error. `DESIGN.md` has the reasons
//! and the costs.

mod access;
mod answer;
mod body;
mod connection;
mod cors;
mod forward;
mod head;
mod hot;
#[cfg(feature = "http3")]
mod http3;
mod in_flight;
mod manifest;
mod measure;
mod mime;
mod missing;
mod names;
mod options;
mod overload;
mod own;
mod playlist;
mod prefetch;
#[doc(hidden)]
pub mod probe;
mod prospects;
mod quick;
mod range;
mod reload;
mod rendezvous;
mod reply;
mod secure;
mod serve;
mod shown;
mod stats;
mod streams;
mod sys;
mod tail;
mod target;
#[cfg(test)]
mod testing;
mod timeline;
mod tls;
mod upstream;
mod urls;
mod wire;
mod workers;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use carousel::name::ObjectKey;
use carousel::reason::Counts;
use carousel::time::Instant;
use http::HeaderValue;
use tokio::runtime::Handle;

use names::Names;
use reload::Reloads;

use crate::access::Access;
use crate::catalog::{Catalog, HeldShares};
use crate::certificates::Certificates;
use crate::clients::Places;
use crate::clock;
use crate::delivery::Flights;
use crate::manifests::Manifests;
use crate::origin::{Filler, Origins, Route};
use crate::page::Live;
use crate::qoe::Qoe;
use crate::signalling::Documents;
use crate::store::Store;
use crate::traces::Tracer;
use crate::vitals::Vitals;

pub use manifest::Rewriting;
pub use options::{AccessLog, Http, LogFormat, Rendezvous, Steering, Tls};
pub use overload::SentToCdn;
pub use reload::ReloadEnd;
pub use rendezvous::{RendezvousStats, ReturnReason};
pub(crate) use shown::takes_gzip;
pub use stats::{BUCKETS_US, HttpStats, MissCause, Refusal, RouteStats, Served, route_names};
pub use tail::TailEnd;
pub use tls::Acceptor;
pub use workers::{SecureSockets, Workers};

/// Whether this program speaks HTTP/3.
pub const HAS_HTTP3: bool = cfg!(feature = "http3");

/// Methods that are answered from the cache.
const METHODS: &str = "GET, HEAD, OPTIONS";
/// Time for which a player waits for a byte before repair is expedited.
const HASTE: Duration = Duration::from_millis(300);

/// Time for which a player waits for a byte from an origin: effectively unlimited, since fetches have their own time
/// limits.
const ORIGIN_PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Times for which players wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    haste: Duration,
    patience: Duration,
}

/// Parts of the daemon that the HTTP server uses.
#[derive(Debug)]
pub struct HttpContext {
    /// The cache.
    pub store: Store,
    /// Objects in flight.
    pub flights: Arc<Flights>,
    /// Signalling documents received.
    pub documents: Arc<Documents>,
    /// Facts of the manifests in the cache.
    pub manifests: Arc<Manifests>,
    /// Signs of life of workers.
    pub vitals: Arc<Vitals>,
    /// Receiver of measurements of players, if there is one.
    pub qoe: Option<Arc<Qoe>>,
    /// Rules of access.
    pub access: Arc<Access>,
    /// Decides which requests are traced; `None`: tracing is off.
    pub tracer: Option<Arc<Tracer>>,
}

/// State that all workers share.
#[derive(Debug)]
pub struct HttpServer {
    shared: HttpContext,
    origins: Arc<Origins>,
    filler: Arc<Filler>,
    /// Channels and titles.
    catalog: Arc<Catalog>,
    held: HeldShares,
    /// Live data of the page.
    live: Arc<Live>,
    config: Http,
    waits: Waits,
    /// Start of serving.
    begun: Instant,
    /// Runtime of tasks that outlive a connection.
    runtime: Handle,
    /// Names of routes, as in the statistics.
    route_names: Vec<String>,
    /// Counters, one set for each worker.
    stats: Vec<Arc<HttpStats>>,
    /// Connections.
    places: Places,
    /// Fields of requests that were not passed to origins.
    unpassed_fields: AtomicU64,
    /// Requests for live segments that the link has lost.
    lost_segments: AtomicU64,
    /// Names under which the page is served.
    names: Names,
    /// Blocking reloads of live playlists.
    reloads: Reloads,
    /// Live segments that the carousel broke off while players read them.
    tails: Arc<Counts<TailEnd>>,
    /// Counters of rendezvous and steering.
    rendezvous: RendezvousStats,
    /// Players that were sent to the CDN of their route.
    sent_to_cdn: Counts<SentToCdn>,
    /// Concurrent requests beyond the first of their connection.
    streams: AtomicU64,
    /// The daemon is about to end: it serves those that are there, and no balancer or edge should send others.
    draining: AtomicBool,
    /// QUIC handshakes in progress.
    #[cfg(feature = "http3")]
    handshakes: AtomicU64,
    /// `Alt-Svc`: addresses of HTTP/3.
    alternative: OnceLock<HeaderValue>,
}

impl HttpServer {
    /// Creates the state. `runtime` runs tasks that outlive a connection.
    pub fn new(
        config: Http,
        routes: &[Route],
        shared: HttpContext,
        origins: Arc<Origins>,
        filler: Arc<Filler>,
        runtime: Handle,
    ) -> Arc<Self> {
        let places = Places::new(config.max_connections);
        let (route_names, names) = (route_names(routes), Names::new(&config.names));
        let stats = (0..config.workers()).map(|_| Arc::new(HttpStats::new(route_names.len())));
        Arc::new(Self {
            shared,
            origins,
            filler,
            catalog: Arc::default(),
            held: HeldShares::default(),
            live: Arc::default(),
            waits: Waits::new(Duration::from_millis(config.wait_ms)),
            begun: clock::now(),
            config,
            runtime,
            stats: stats.collect(),
            route_names,
            places,
            unpassed_fields: AtomicU64::new(0),
            lost_segments: AtomicU64::new(0),
            names,
            reloads: Reloads::default(),
            tails: Arc::default(),
            rendezvous: RendezvousStats::default(),
            sent_to_cdn: Counts::default(),
            streams: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            #[cfg(feature = "http3")]
            handshakes: AtomicU64::new(0),
            alternative: OnceLock::new(),
        })
    }

    /// Makes health checks fail; everything else is served as before.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the daemon is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The counters of all workers.
    pub fn stats(&self) -> HttpStats {
        let mut all = HttpStats::new(self.route_names.len());
        self.stats.iter().for_each(|it| all.add(it));
        all
    }

    /// Live segments that the carousel broke off while players read them, by how they ended.
    pub fn tails(&self) -> &Counts<TailEnd> {
        &self.tails
    }

    /// Players that were sent to the CDN of their route.
    pub const fn sent_to_cdn_counts(&self) -> &Counts<SentToCdn> {
        &self.sent_to_cdn
    }

    /// Facts of the manifests in the cache.
    pub fn manifests(&self) -> &Manifests {
        &self.shared.manifests
    }

    /// Names of the routes in [`HttpStats::routes`].
    pub fn route_names(&self) -> &[String] {
        &self.route_names
    }

    /// Keys of the objects that a URL of this box may name, the most likely first.
    pub fn keys_of(&self, url: &str) -> Vec<ObjectKey> {
        let Ok(uri) = url.parse::<::http::Uri>() else { return Vec::new() };
        let meant = target::targets(&uri, None, &self.origins.routes(), true).unwrap_or_default();
        meant.into_iter().map(|it| it.key).collect()
    }

    /// Whether few places for connections are left for this client. Streams beyond the first of a connection count as
    /// well.
    fn is_crowded(&self, peer: IpAddr) -> bool {
        let streams = self.streams.load(Ordering::Relaxed);
        self.places.is_crowded(peer, usize::try_from(streams).unwrap_or(usize::MAX))
    }

    /// Current number of connections.
    pub fn open_connections(&self) -> u64 {
        self.places.taken_now() as u64
    }

    /// Fields of requests that were not passed to origins.
    pub fn unpassed_fields(&self) -> u64 {
        self.unpassed_fields.load(Ordering::Relaxed)
    }

    /// Requests for live segments that the link has lost.
    pub fn lost_segments(&self) -> u64 {
        self.lost_segments.load(Ordering::Relaxed)
    }

    /// Measurements of players, if they are configured.
    pub const fn qoe(&self) -> Option<&Arc<Qoe>> {
        self.shared.qoe.as_ref()
    }

    /// Rules of access.
    pub fn access(&self) -> &Access {
        &self.shared.access
    }

    /// Channels and titles.
    pub const fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Live data of the page.
    pub const fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Counters of fetches: requests that joined another's, responses that an origin confirmed, and responses that were
    /// not stored.
    pub fn filler(&self) -> &Filler {
        &self.filler
    }
}

/// Acceptor of TLS connections, with its certificate in `shown`. Call inside a tokio runtime, which looks after the certificates.
///
/// # Errors
/// If the files are not a certificate and key.
pub fn acceptor(config: &Tls, shown: &Arc<Certificates>) -> Result<Acceptor, String> {
    Acceptor::new(config, Arc::clone(shown))
}
