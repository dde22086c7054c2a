//! Assembly of the daemon: order of start, reload, order of stop.
//!
//! ```text
//! store ─ flights ─ shards ─ finishing ─ session thread ─ transport streams   (threads)
//!            └───── repair ─ players ─ admin                (tokio)
//! ```

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use carousel::reason::Counts;
use carousel::repair::BackOff;
use carousel::trust::Trust;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::access::Access;
use crate::admin::{self, updates::UpdateContext};
use crate::certificates::Certificates;
use crate::clock;
use crate::commands::Commands;
use crate::config::Config;
use crate::delivery::{Options, RuleBook};
use crate::firmware::{self, Updates};
use crate::http::{self, HttpContext, HttpServer, Workers};
use crate::kafka::{self, KafkaStats};
use crate::listen::Listening;
use crate::origin::{AddressPolicy, Client, FillContext, Filler, Origins};
use crate::qoe::Qoe;
use crate::receive::{Command, Finishing, ReceiveContext, Shard, ShardHandle, shard_of};
use crate::repair::{RepairContext, Repairer};
use crate::sampler;
use crate::session::{SessionContext, SessionQueue, SessionThread};
use crate::signalling::Documents;
use crate::status::Parts;
use crate::store::{Keeper, RecoveryReport, Store};
use crate::transport::{TransportContext, TransportStats, TransportThread};
use crate::trust::TrustKeeper;
use crate::vitals::{self, Vitals};

/// Repair requests between shards and repair. When it is full, they wait in their shard.
const REPAIR_REQUESTS: usize = 16;

/// Settings of delivery, with a seed of its own for each shard and start.
fn delivery_options(config: &Config) -> Options {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let repair = &config.repair;
    Options {
        reception_timeout: Duration::from_millis(repair.reception_timeout_ms),
        repairs: repair.enabled,
        back_off: BackOff {
            fixed: Duration::from_millis(repair.fixed_back_off_ms),
            random: Duration::from_millis(repair.random_back_off_ms),
        },
        carousel_wait: Duration::from_millis(repair.carousel_wait_ms),
        client_patience: Duration::from_millis(config.http.wait_ms),
        seed: RandomState::new().build_hasher().finish(),
    }
}

/// Sockets on which requests are accepted.
struct Listeners {
    players: Vec<TcpListener>,
    tls: Option<http::Secured>,
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
        let open_all = |listening: &mut Listening, addresses: &[SocketAddr], key: &str| {
            addresses.iter().map(|address| listening.open(*address, key)).collect::<Result<Vec<_>, _>>()
        };
        let players = open_all(listening, &config.http.listen, "[http] listen")?;
        let tls = match &config.http.tls {
            Some(tls) => Some(http::Secured {
                listeners: open_all(listening, &tls.listen, "[http.tls] listen")?,
                datagrams: tls
                    .listen
                    .iter()
                    .filter(|_| tls.http3 && http::HAS_HTTP3)
                    .map(|address| listening.open_datagrams(*address, "[http.tls] http3"))
                    .collect::<Result<_, _>>()?,
                acceptor: http::acceptor(tls, certificates)?,
            }),
            None => None,
        };
        let operators = admin::listen(&config.admin, listening, certificates)?;
        for address in listening.left() {
            tracing::warn!(%address, "a socket was handed over that the configuration does not name: nobody listens there");
        }
        Ok(Self { players, tls, operators })
    }
}

/// Identifier of this start of the machine.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The client of origins and parents.
fn origin_client(config: &Config) -> Client {
    Client::new(
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
    )
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    parts: Arc<Parts>,
    origins: Arc<Origins>,
    client: Arc<Client>,
    session: SessionThread,
    transport: TransportThread,
    shards: Vec<ShardHandle>,
    keeper: Keeper,
    trust_keeper: TrustKeeper,
    finishing: Finishing,
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
    workers: Workers,
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
        // What can be refused comes first, so that a second daemon on the same cache or port changes nothing.
        let access = Arc::new(Access::new(&config.access).map_err(|why| format!("[[access]] {why}"))?);
        let certificates = Arc::<Certificates>::default();
        let Listeners { players, tls, operators } = Listeners::open(&config, &mut listening, &certificates)?;
        let (store, report) = Store::open(&config.store).map_err(|err| err.to_string())?;
        let trust = Arc::new(Trust::new(config.trust.policy()?));
        let commands = Arc::new(Commands::open(config.commands.clone(), store.path())?);
        let groups = config.commands.groups.clone();
        let own = firmware::Paths::default().own();
        let updates = Updates::open(config.firmware.clone(), groups, own, store.path(), boot_id())?;
        let updates = Arc::new(updates);
        let receive = ReceiveContext { trust: Arc::clone(&trust), ..ReceiveContext::new(store) };
        let ReceiveContext { store, flights, names, manifests, stats, .. } = &receive;
        let (documents, vitals) = (Arc::<Documents>::default(), Arc::<Vitals>::default());
        let services = Arc::clone(manifests.services());
        let origins = Arc::new(Origins::new(config.origins.clone(), config.routes.clone()));
        let client = Arc::new(origin_client(&config));
        let runtime = tokio::runtime::Handle::current();
        let filler = Filler::new(
            Arc::clone(&client),
            FillContext {
                store: store.clone(),
                flights: Arc::clone(flights),
                manifests: Arc::clone(manifests),
            },
            config.http.fill_options(),
            runtime.clone(),
        );
        let rules = Arc::new(RuleBook::default());

        let failed = |err: std::io::Error| format!("cannot start a thread: {err}");
        let queue = SessionQueue::default();
        let keeper = Keeper::start(store.clone(), &vitals).map_err(failed)?;
        let trust_keeper = TrustKeeper::start(Arc::clone(&trust), store.path(), &vitals).map_err(failed)?;
        let finishing = Finishing::start(&receive, &queue.commands(), &vitals).map_err(failed)?;
        let (repairs, repair_requests) = mpsc::channel(REPAIR_REQUESTS);
        let shards = (0..config.receive.threads())
            .map(|number| {
                let options = delivery_options(&config);
                let (receive, rules) = (receive.clone(), Arc::clone(&rules));
                Shard::start(number, receive, &vitals, options, rules, &finishing, repairs.clone())
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        let senders = || shards.iter().map(ShardHandle::sender).collect::<Vec<_>>();
        let requests = senders();
        flights.pass_requests(move |object| {
            let shard = shard_of(&object.session.destination, requests.len());
            requests[shard].try_send(Command::Request(object))
        });
        let context = SessionContext {
            names: Arc::clone(names),
            documents: Arc::clone(&documents),
            origins: Arc::clone(&origins),
            rules: Arc::clone(&rules),
            trust: Arc::clone(&trust),
            commands: Arc::clone(&commands),
            updates: Arc::clone(&updates),
            services: Arc::clone(&services),
            flights: Arc::clone(flights),
            receive: Arc::clone(stats),
        };
        let session = queue.start(&config.session_options(), senders(), context, &vitals).map_err(failed)?;

        let transport_stats = Arc::<TransportStats>::default();
        let context = TransportContext {
            store: store.clone(),
            manifests: Arc::clone(manifests),
            receive_stats: Arc::clone(stats),
            trust: Arc::clone(&trust),
            stats: Arc::clone(&transport_stats),
            vitals: Arc::clone(&vitals),
            shards: senders(),
            interface: config.receive.interface.clone(),
            socket_buffer_bytes: config.receive.socket_buffer_bytes,
        };
        let transport = TransportThread::start(context, &config.transport_streams).map_err(failed)?;

        let context = RepairContext {
            store: store.clone(),
            flights: Arc::clone(flights),
            names: Arc::clone(names),
            origins: Arc::clone(&origins),
            client: Arc::clone(&client),
            filler: Arc::clone(&filler),
            rules,
            shards: senders(),
        };
        let repairer = Repairer::new(config.repair.concurrent_fetches, context);
        tokio::spawn(Arc::clone(&filler).forget_idle());
        let kafka_stats = Arc::<KafkaStats>::default();
        let kafka = config.kafka.clone().map(Arc::new);
        let measured = kafka.as_ref().filter(|it| !it.qoe_topic.is_empty());
        let qoe = measured
            .map(|it| Qoe::start(store.path(), it.qoe_spool_bytes, it.node(), &it.qoe_columns, &vitals))
            .transpose()?;
        vitals::essential_task("access", Arc::clone(&access).keep_looking());
        let server = HttpServer::new(
            config.http.clone(),
            &config.routes,
            HttpContext {
                store: store.clone(),
                flights: Arc::clone(flights),
                documents: Arc::clone(&documents),
                manifests: Arc::clone(manifests),
                vitals: Arc::clone(&vitals),
                qoe,
                access,
            },
            Arc::clone(&origins),
            Arc::clone(&filler),
            runtime,
        );
        vitals::essential_task(
            "catalog",
            Arc::clone(server.catalog()).keep_looking(store.clone(), documents),
        );
        let groups = Arc::clone(session.groups());
        let parts = Arc::new(Parts {
            store: store.clone(),
            flights: Arc::clone(flights),
            receive: Arc::clone(stats),
            transport: transport_stats,
            vitals,
            trust,
            commands,
            updates,
            groups,
            repairer: Arc::clone(&repairer),
            client: Arc::clone(&client),
            server: Arc::clone(&server),
            admin: Counts::default(),
            kafka: kafka_stats,
            certificates,
        });
        #[cfg(feature = "kafka")]
        if let Some(kafka) = kafka {
            join_fleet(&kafka, &parts);
        }
        let (live, catalog) = (Arc::clone(server.live()), Arc::clone(server.catalog()));
        let sampler = sampler::run(live, Arc::clone(&parts), catalog, config.http.name.clone());
        vitals::essential_task("sampler", sampler);
        vitals::essential_task("runtime", give_signs(Arc::clone(&parts)));
        let (stop, stopped) = watch::channel(false);
        vitals::essential_task("repair", repairer.run(repair_requests));
        if config.repair.health_check_interval_ms > 0 {
            let interval = Duration::from_millis(config.repair.health_check_interval_ms);
            let client = Arc::clone(&client);
            vitals::essential_task("origins", async move { client.watch_health(interval).await });
        }
        let workers = Workers::start(&server, &players, tls, &stopped)?;
        vitals::essential_task("commands", admin::broadcast::run(Arc::clone(&parts)));
        let context = UpdateContext { parts: Arc::clone(&parts), filler, origins: Arc::clone(&origins) };
        vitals::essential_task("firmware", admin::updates::run(context));
        let servers =
            vec![vitals::essential_task("admin", admin::run(operators, Arc::clone(&parts), stopped))];
        Ok((
            Self {
                parts,
                origins,
                client,
                session,
                transport,
                shards,
                keeper,
                trust_keeper,
                finishing,
                stop,
                servers,
                workers,
                config,
            },
            report,
        ))
    }

    /// Parts that status and metrics are made from.
    pub const fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }

    /// Takes over a new configuration; gives back the names of tables that have changed and count only from the next
    /// start.
    pub fn reload(&mut self, config: Config) -> Vec<&'static str> {
        self.origins.configure(config.origins.clone(), config.routes.clone());
        self.client.configure(
            Duration::from_millis(config.http.origin_timeout_ms),
            &config.http.origin_timeouts,
            &config.routes,
            &config.parents,
        );
        self.client.policy().configure(&config.asked_origins(), &config.routes, &config.http.allow_origins);
        match config.trust.policy() {
            Ok(policy) => self.parts.trust.configure(policy),
            Err(err) => tracing::error!(%err, "[trust] stays as it was"),
        }
        if let Err(why) = self.parts.server.access().configure(&config.access) {
            tracing::error!(why, "[[access]] stays as it was");
        }
        self.parts.commands.configure(config.commands.clone());
        let groups = config.commands.groups.clone();
        self.parts.updates.configure(config.firmware.clone(), groups, firmware::Paths::default().own());
        self.session.reload(&config.session_options());
        if let Err(err) = self.transport.set(&config.transport_streams) {
            tracing::error!(%err, "a transport stream's thread cannot be started");
        }
        let (old, new) = (&self.config, &config);
        let later = [
            ("[store]", old.store != new.store),
            ("[http]", !old.http.differs_in_origins_only(&new.http)),
            ("[repair]", old.repair != new.repair),
            ("[admin]", old.admin != new.admin),
            ("[kafka]", old.kafka != new.kafka),
            ("[receive] threads", old.receive.threads != new.receive.threads),
        ];
        let later = later.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name).collect();
        self.config = config;
        later
    }

    /// Ends: no new connections, responses finish, threads stop, the store is left in order.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        // The streams of the page's viewers would keep a worker from ending.
        self.parts.server.live().close();
        let workers = self.workers;
        let _ = tokio::task::spawn_blocking(move || workers.join()).await;
        for server in self.servers {
            let _ = server.await;
        }
        self.parts.store.closing();
        let (session, transport) = (self.session, self.transport);
        let (shards, keeper, finishing) = (self.shards, (self.keeper, self.trust_keeper), self.finishing);
        let _ = tokio::task::spawn_blocking(move || {
            transport.stop();
            session.stop();
            for shard in shards {
                shard.stop();
            }
            // What the shards have given to it is finished.
            drop(finishing);
            drop(keeper);
        })
        .await;
        self.parts.store.close();
    }
}

/// Starts what is read from Kafka and written to it.
#[cfg(feature = "kafka")]
fn join_fleet(options: &Arc<kafka::Kafka>, parts: &Arc<Parts>) {
    if !options.purge_topic.is_empty() {
        let purges = admin::fleet::run(Arc::clone(parts), Arc::clone(options), Arc::clone(&parts.kafka));
        vitals::essential_task("purges", purges);
    }
    if let Some(qoe) = parts.server.qoe() {
        let link = kafka::Link::new(options, &options.qoe_topic, &parts.kafka);
        vitals::essential_task("measurements", kafka::send_measurements(Arc::clone(qoe), link));
    }
}

/// Signs of life of the runtime, in which repairs, the admin interface and the catalogue run.
async fn give_signs(parts: Arc<Parts>) {
    let sign = parts.vitals.watch("runtime".to_owned(), clock::now());
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    loop {
        beat.tick().await;
        sign.give(clock::now());
    }
}
