//! Assembly of the daemon: order of start, reload, order of stop.
//!
//! ```text
//! store ─ flights ─ shards ─ finishing ─ session thread ─ transport streams   (threads)
//!            └───── repair ─ players ─ admin                (tokio)
//! ```

mod heap;
mod threads;

use std::hash::{BuildHasher as _, RandomState};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use carousel::reason::Counts;
use carousel::trust::{Policy, Trust};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use self::threads::Threads;
use crate::access::Access;
use crate::admin::{self, updates::UpdateContext};
use crate::certificates::{self, Certificates, UnusableFile};
use crate::clock;
use crate::commands::Commands;
use crate::config::Config;
use crate::delivery::{RepairRequest, RuleBook};
use crate::firmware::{self, Updates};
use crate::http::{self, HttpContext, HttpServer, Workers};
use crate::kafka;
use crate::listen::Listening;
use crate::origin::{AddressPolicy, Client, FillContext, Filler, Origins};
use crate::qoe::Qoe;
use crate::receive::ReceiveContext;
use crate::repair::{RepairContext, Repairer};
use crate::sampler;
use crate::signalling::Documents;
use crate::status::Parts;
use crate::store::{RecoveryReport, Store};
use crate::traces::{self, TraceStats, Tracer};
use crate::transport::TransportStats;
use crate::vitals::{self, Vitals};

/// Sockets on which requests are accepted.
struct Listeners {
    players: Vec<TcpListener>,
    tls: Option<http::SecureSockets>,
    operators: admin::Listeners,
}

impl Listeners {
    /// Opens all of them, or takes over those that a service manager has opened.
    ///
    /// # Errors
    /// One line: the key of the configuration, what failed, and what to do.
    fn open(
        config: &Config,
        listening: &mut Listening,
        certificates: &Arc<Certificates>,
    ) -> Result<Self, String> {
        admin::check_free(&config.admin)?;
        let players = listening.open_all(&config.http.listen, "[http] listen")?;
        let tls = match &config.http.tls {
            Some(tls) => Some(http::SecureSockets {
                listeners: listening.open_all(&tls.listen, "[http.tls] listen")?,
                datagrams: if tls.http3 && http::HAS_HTTP3 {
                    listening.open_all_datagrams(&tls.listen, "[http.tls] http3")?
                } else {
                    Vec::new()
                },
                acceptor: http::acceptor(tls, certificates)?,
            }),
            None => None,
        };
        let operators = admin::listen(&config.admin, listening, certificates)?;
        for address in listening.left() {
            tracing::warn!(%address, "a socket was handed over that the configuration does not name: it is not used");
        }
        Ok(Self { players, tls, operators })
    }
}

/// Identifier of this start of the machine.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The client of origins and parents.
///
/// # Errors
/// Why the file of `[http] origin_ca` is unusable.
pub(crate) fn origin_client(config: &Config) -> Result<Client, UnusableFile> {
    Ok(Client::with_tls(
        &certificates::client_for_origins(config.http.origin_ca.as_deref())?,
        Duration::from_millis(config.http.origin_timeout_ms),
        &config.http.origin_timeouts,
        &config.routes,
        &config.parents,
        AddressPolicy::new(
            &config.asked_origins(),
            &config.routes,
            &config.http.allow_origins,
            config.listeners().map(|(_, address)| address).collect(),
        ),
    ))
}

/// Faults of the secrets that sign requests to origins and parents: key, file and fix.
fn unusable_secrets(config: &Config) -> impl Iterator<Item = String> + '_ {
    config.signed().filter_map(|(key, sign)| Some(format!("{key}: {}", sign.check().err()?)))
}

/// State that threads, tasks and listeners share.
struct Shared {
    receive: ReceiveContext,
    commands: Arc<Commands>,
    updates: Arc<Updates>,
    documents: Arc<Documents>,
    rules: Arc<RuleBook>,
    origins: Arc<Origins>,
    client: Arc<Client>,
    filler: Arc<Filler>,
    transport: Arc<TransportStats>,
    vitals: Arc<Vitals>,
}

/// The trust policy of a configuration.
fn policy(config: &Config) -> Result<Policy, String> {
    let has_exceptions = config.session_options().sessions.iter().any(|it| it.trust.is_some());
    Ok(Policy { has_exceptions, ..config.trust.policy()? })
}

impl Shared {
    /// Opens the store, and the state of earlier runs in its folder. Call inside a tokio runtime.
    ///
    /// # Errors
    /// One line: what failed, and what to do.
    fn open(config: &Config) -> Result<(Self, RecoveryReport), String> {
        let (store, report) = Store::open(&config.store).map_err(|err| err.to_string())?;
        let trust = Arc::new(Trust::new(policy(config)?));
        trust.salt(RandomState::new().hash_one(()));
        let commands = Arc::new(Commands::open(config.commands.clone(), store.path())?);
        let groups = config.commands.groups.clone();
        let own = firmware::Paths::default().own();
        let updates = Updates::open(config.firmware.clone(), groups, own, store.path(), boot_id())?;
        let memory = config.memory_budgets();
        let receive = ReceiveContext { trust, ..ReceiveContext::within(store, memory) };
        let client = origin_client(config).map_err(|why| {
            let file = config.http.origin_ca.as_deref().unwrap_or_else(|| Path::new(""));
            format!("[http] origin_ca {}: {why}", file.display())
        });
        let client = Arc::new(client?);
        let filler = Filler::new(
            Arc::clone(&client),
            FillContext {
                store: receive.store.clone(),
                flights: Arc::clone(&receive.flights),
                manifests: Arc::clone(&receive.manifests),
            },
            config.http.fill_options(),
            tokio::runtime::Handle::current(),
        );
        let shared = Self {
            receive,
            commands,
            updates: Arc::new(updates),
            documents: Arc::new(Documents::within(memory.documents_bytes)),
            rules: Arc::default(),
            origins: Arc::new(Origins::new(config.origins.clone(), config.routes.clone())),
            client,
            filler,
            transport: Arc::default(),
            vitals: Arc::default(),
        };
        Ok((shared, report))
    }

    fn repairer(&self, config: &Config, threads: &Threads) -> Arc<Repairer> {
        let context = RepairContext {
            store: self.receive.store.clone(),
            flights: Arc::clone(&self.receive.flights),
            names: Arc::clone(&self.receive.names),
            origins: Arc::clone(&self.origins),
            client: Arc::clone(&self.client),
            filler: Arc::clone(&self.filler),
            rules: Arc::clone(&self.rules),
            shards: threads.senders(),
        };
        Repairer::new(config.repair.concurrent_fetches, context)
    }

    /// Reports of players, if they are forwarded.
    ///
    /// # Errors
    /// One line: what failed, and what to do.
    fn measurements(&self, config: &Config) -> Result<Option<Arc<Qoe>>, String> {
        let measured = config.kafka.as_ref().filter(|it| !it.qoe_topic.is_empty());
        let folder = self.receive.store.path();
        measured
            .map(|it| Qoe::start(folder, it.qoe_spool_bytes, it.node(), &it.qoe_columns, &self.vitals))
            .transpose()
    }

    fn http_server(
        &self,
        config: &Config,
        access: Arc<Access>,
        qoe: Option<Arc<Qoe>>,
        tracer: Option<Arc<Tracer>>,
    ) -> Arc<HttpServer> {
        let context = HttpContext {
            store: self.receive.store.clone(),
            flights: Arc::clone(&self.receive.flights),
            documents: Arc::clone(&self.documents),
            manifests: Arc::clone(&self.receive.manifests),
            vitals: Arc::clone(&self.vitals),
            qoe,
            access,
            tracer,
        };
        HttpServer::new(
            config.http.clone(),
            &config.routes,
            context,
            Arc::clone(&self.origins),
            Arc::clone(&self.filler),
            tokio::runtime::Handle::current(),
        )
    }
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    parts: Arc<Parts>,
    origins: Arc<Origins>,
    client: Arc<Client>,
    threads: Threads,
    stop: watch::Sender<bool>,
    admin: JoinHandle<()>,
    stop_admin: watch::Sender<bool>,
    workers: Workers,
    exporting: Option<traces::ExportTask>,
    config: Config,
}

impl Daemon {
    /// Starts everything, with the sockets that were handed over. Call inside a tokio runtime.
    ///
    /// # Errors
    /// One line: what failed, and what to do.
    pub fn start(config: Config, mut listening: Listening) -> Result<(Self, RecoveryReport), String> {
        if config.kafka.is_some() && !kafka::HAS_KAFKA {
            return Err(kafka::MISSING.to_owned());
        }
        if config.traces.is_some() && !traces::HAS_TRACES {
            return Err(traces::MISSING.to_owned());
        }
        // Steps that can fail come first, so that a second daemon on the same cache or port changes nothing.
        for route in config.routes.iter().filter(|it| it.has_http2_without_tls()) {
            tracing::warn!(
                route = route.path,
                "[[route]] http2 has no effect: its base is http://, and HTTP/2 is agreed on by TLS"
            );
        }
        if let Some(why) = unusable_secrets(&config).next() {
            return Err(why);
        }
        let access = Arc::new(Access::new(&config.access).map_err(|why| format!("[[access]] {why}"))?);
        let certificates = Arc::<Certificates>::default();
        let Listeners { players, tls, operators } = Listeners::open(&config, &mut listening, &certificates)?;
        let (shared, report) = Shared::open(&config)?;
        let failed = |err: std::io::Error| format!("cannot start a thread: {err}");
        let (threads, repair_requests) = Threads::start(&config, &shared).map_err(failed)?;
        let repairer = shared.repairer(&config, &threads);
        let qoe = shared.measurements(&config)?;
        vitals::essential_task("access", Arc::clone(&access).keep_looking());
        let trace_stats = Arc::<TraceStats>::default();
        let started = config.traces.as_ref().map(|it| traces::start(it, &trace_stats)).transpose()?;
        let (tracer, exporting) = started.unzip();
        let server = shared.http_server(&config, access, qoe, tracer);
        let Shared {
            receive, commands, updates, documents, origins, client, filler, transport, vitals, ..
        } = shared;
        let parts = Arc::new(Parts {
            store: receive.store,
            flights: receive.flights,
            receive: receive.stats,
            memory: receive.memory,
            transport,
            vitals,
            trust: receive.trust,
            commands,
            updates,
            groups: Arc::clone(threads.session.groups()),
            repairer,
            client: Arc::clone(&client),
            server,
            admin: Counts::default(),
            kafka: Arc::default(),
            traces: trace_stats,
            certificates,
        });
        let (stop, stopped) = watch::channel(false);
        start_tasks(&config, &parts, documents, repair_requests);
        let workers = Workers::start(&parts.server, &players, tls, &stopped)?;
        vitals::essential_task("fills", Arc::clone(&filler).forget_idle());
        vitals::essential_task("heap", heap::keep_small(receive.budget));
        let context = UpdateContext { parts: Arc::clone(&parts), filler, origins: Arc::clone(&origins) };
        vitals::essential_task("firmware", admin::updates::run(context));
        let (stop_admin, admin_stopped) = watch::channel(false);
        let admin = vitals::essential_task("admin", admin::run(operators, Arc::clone(&parts), admin_stopped));
        let daemon =
            Self { parts, origins, client, threads, stop, admin, stop_admin, workers, exporting, config };
        Ok((daemon, report))
    }

    /// Parts that status and metrics are made from.
    pub const fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }

    /// Takes over a new configuration; returns the names of changed tables that take effect only at the next start.
    pub fn reload(&mut self, config: Config) -> Vec<&'static str> {
        self.origins.configure(config.origins.clone(), config.routes.clone());
        self.client.configure(
            Duration::from_millis(config.http.origin_timeout_ms),
            &config.http.origin_timeouts,
            &config.routes,
            &config.parents,
        );
        self.client.policy().configure(&config.asked_origins(), &config.routes, &config.http.allow_origins);
        match policy(&config) {
            Ok(policy) => self.parts.trust.configure(policy),
            Err(err) => tracing::error!(%err, "[trust] stays as it was"),
        }
        if let Err(why) = self.parts.server.access().configure(&config.access) {
            tracing::error!(%why, "[[access]] stays as it was");
        }
        self.parts.commands.configure(config.commands.clone());
        let groups = config.commands.groups.clone();
        self.parts.updates.configure(config.firmware.clone(), groups, firmware::Paths::default().own());
        self.threads.session.reload(&config.session_options());
        if let Err(err) = self.threads.transport.set(&config.transport_streams) {
            tracing::error!(%err, "a transport stream's thread cannot be started");
        }
        for why in unusable_secrets(&config) {
            tracing::error!("{why}");
        }
        let (old, new) = (&self.config, &config);
        let later = [
            ("[store]", old.store != new.store),
            ("[http]", !old.http.differs_in_origins_only(&new.http)),
            ("[repair]", old.repair != new.repair),
            ("[admin]", old.admin != new.admin),
            ("[kafka]", old.kafka != new.kafka),
            ("[traces]", old.traces != new.traces),
            ("[receive] threads", old.receive.threads != new.receive.threads),
            ("[receive] memory_bytes", old.receive.memory_bytes != new.receive.memory_bytes),
        ];
        let later = later.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name).collect();
        self.config = config;
        later
    }

    /// Makes `/readyz` and `/-/health` answer 503, so that balancers and edges send no new requests; returns the time to wait for them before
    /// [`Daemon::stop`].
    pub fn drain(&self) -> Duration {
        self.parts.server.drain();
        Duration::from_millis(self.config.http.shutdown_delay_ms)
    }

    /// Ends: no new connections, responses finish, threads stop, the store is left in order. The admin interface answers until
    /// the last response has ended.
    pub async fn stop(self) {
        self.parts.server.drain();
        let _ = self.stop.send(true);
        // Open streams of the page's viewers would prevent a worker from ending.
        self.parts.server.live().close();
        let workers = self.workers;
        let _ = tokio::task::spawn_blocking(move || workers.join()).await;
        if let Some(exporting) = self.exporting {
            exporting.end().await;
        }
        let _ = self.stop_admin.send(true);
        let _ = self.admin.await;
        self.parts.store.closing();
        let threads = self.threads;
        let _ = tokio::task::spawn_blocking(move || threads.stop()).await;
        self.parts.store.close();
    }
}

/// Starts the tasks of the runtime that end with it.
fn start_tasks(
    config: &Config,
    parts: &Arc<Parts>,
    documents: Arc<Documents>,
    repair_requests: mpsc::Receiver<RepairRequest>,
) {
    let server = &parts.server;
    let (live, catalog) = (Arc::clone(server.live()), Arc::clone(server.catalog()));
    let most_bytes = parts.memory.catalogue_bytes;
    let looks = Arc::clone(&catalog).keep_looking(parts.store.clone(), documents, most_bytes);
    vitals::essential_task("catalog", looks);
    #[cfg(feature = "kafka")]
    if let Some(kafka) = config.kafka.clone().map(Arc::new) {
        join_fleet(&kafka, parts);
    }
    let sampler = sampler::run(live, Arc::clone(parts), catalog, config.http.name.clone());
    vitals::essential_task("sampler", sampler);
    vitals::essential_task("runtime", give_signs(Arc::clone(parts)));
    vitals::essential_task("repair", Arc::clone(&parts.repairer).run(repair_requests));
    if config.repair.health_check_interval_ms > 0 {
        let interval = Duration::from_millis(config.repair.health_check_interval_ms);
        let client = Arc::clone(&parts.client);
        vitals::essential_task("origins", async move { client.watch_health(interval).await });
    }
    vitals::essential_task("commands", admin::broadcast::run(Arc::clone(parts)));
}

/// Starts the readers and writers of Kafka.
#[cfg(feature = "kafka")]
fn join_fleet(options: &Arc<kafka::Kafka>, parts: &Arc<Parts>) {
    if !options.purge_topic.is_empty() {
        let purges = admin::fleet::run(Arc::clone(parts), Arc::clone(options), Arc::clone(&parts.kafka));
        vitals::essential_task("purges", purges);
    }
    if let Some(qoe) = parts.server.qoe() {
        let link = kafka::link(options, &options.qoe_topic, &parts.kafka);
        vitals::essential_task("measurements", kafka::send_measurements(Arc::clone(qoe), link));
    }
}

/// Gives signs of life of the runtime, in which repairs, the admin interface and the catalogue run.
async fn give_signs(parts: Arc<Parts>) {
    let sign = parts.vitals.watch("runtime".to_owned(), clock::now());
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    loop {
        beat.tick().await;
        sign.give(clock::now());
    }
}
