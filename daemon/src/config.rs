//! The daemon's configuration file: one typed tree, unknown keys refused, units in key names.
//!
//! `configs/stb.toml` is a commented example of all of it.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use carousel::config::{self, Mistake};
use carousel::mabr::{JoinPolicy, Protocol, SessionOrigin, SessionSpec};
use serde::Deserialize;

use crate::store::StoreConfig;
use crate::transport::TransportStream;

/// Where the configuration is unless `-c` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/skycache/skycached.toml";

/// The folder beside the configuration whose files count over it.
const DROP_INS: &str = "conf.d";

/// The whole file. Every table may be left out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is received, and on which interface.
    pub receive: Receive,
    /// Sessions that are listened to whatever the announcement channel says.
    #[serde(rename = "session")]
    pub sessions: Vec<Session>,
    /// Transport streams and baseband frames.
    #[serde(rename = "transport_stream")]
    pub transport_streams: Vec<TransportStream>,
    /// Where objects are kept.
    pub store: StoreConfig,
    /// The players' side.
    pub http: Http,
    /// Short paths for players.
    #[serde(rename = "route")]
    pub routes: Vec<Route>,
    /// Where the terrestrial path leads for a host.
    #[serde(rename = "origin")]
    pub origins: Vec<Origin>,
    /// How losses are made good.
    pub repair: Repair,
    /// The operator's side.
    pub admin: Admin,
    /// What is logged.
    pub log: Log,
}

/// `[receive]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Receive {
    /// Interface (name or IPv4 address) that groups are joined on. Empty: the system's choice by its routes.
    pub interface: String,
    /// Join groups on the network. False where everything comes inside `[[transport_stream]]`s.
    pub multicast: bool,
    /// Announcement channels. Empty: only `[[session]]`s are listened to.
    pub announcement: Vec<SocketAddr>,
    /// Receive threads; 0: one for each core, at most four.
    pub threads: usize,
    /// Socket buffer asked of the kernel, for each group.
    pub socket_buffer_bytes: usize,
    /// Join guide sessions.
    pub join_guides: bool,
    /// Join sessions with logos and banners.
    pub join_related_material: bool,
    /// Join sessions with files for offline use.
    pub join_private_data: bool,
    /// Join sessions with HbbTV applications.
    pub join_applications: bool,
}

impl Default for Receive {
    fn default() -> Self {
        Self {
            interface: String::new(),
            multicast: true,
            announcement: vec![SocketAddr::from((
                carousel::nip::ANNOUNCEMENT_V4,
                carousel::nip::ANNOUNCEMENT_PORT,
            ))],
            threads: 0,
            socket_buffer_bytes: 8 << 20,
            join_guides: true,
            join_related_material: true,
            join_private_data: true,
            join_applications: true,
        }
    }
}

/// `[[session]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Group (or own unicast address) and port.
    pub address: SocketAddr,
    /// Only packets of this source (source-specific multicast).
    #[serde(default)]
    pub source: Option<IpAddr>,
    /// Only this TSI.
    #[serde(default)]
    pub tsi: Option<u64>,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Players' listener.
    pub listen: SocketAddr,
    /// What the page calls the box.
    pub name: String,
    /// Connections at a time; more are closed at once.
    pub max_connections: usize,
    /// How long a player waits for an object that is on its way and does not come nearer.
    pub wait_ms: u64,
    /// Fetch unknown objects from origins: those that `[[origin]]`, `[[route]]` or a received configuration names.
    pub read_through: bool,
    /// Segments that follow a missed one and are fetched with it; 0: none.
    pub prefetch_segments: usize,
    /// A response that the origin does not begin within this time counts as failed.
    pub origin_timeout_ms: u64,
    /// Threads that serve players; 0: one for each core.
    pub workers: usize,
    /// HTTPS, with HTTP/2.
    pub tls: Option<Tls>,
    /// One line for each response.
    pub access_log: Option<AccessLog>,
    /// A request whose response's head took longer is logged; 0: none is.
    pub slow_request_ms: u64,
    /// Each response says in `Server-Timing` how it was served and how long its head took. Requests that have the field
    /// themselves get it anyway.
    pub server_timing: bool,
    /// Freshness of media segments that the origin says nothing about.
    pub segment_ttl_s: u32,
    /// Freshness of manifests that the origin says nothing about.
    pub manifest_ttl_s: u32,
    /// How long an origin's 404 or 410 stands that says nothing about it.
    pub negative_ttl_s: u32,
    /// How long responses may take to end when the daemon stops.
    pub drain_ms: u64,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            name: "Skycache".to_owned(),
            max_connections: 20_000,
            wait_ms: 10_000,
            read_through: true,
            prefetch_segments: 3,
            origin_timeout_ms: 5000,
            workers: 0,
            tls: None,
            access_log: None,
            slow_request_ms: 0,
            server_timing: false,
            segment_ttl_s: 3600,
            manifest_ttl_s: 60,
            negative_ttl_s: 5,
            drain_ms: 10_000,
        }
    }
}

impl Http {
    /// Threads to start.
    pub fn workers(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        }
    }
}

/// `[http.tls]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Listener.
    pub listen: SocketAddr,
    /// Certificate chain, PEM. Read again when it changes.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// `[http.access_log]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessLog {
    /// The file; it is opened again when somebody has moved it away.
    pub path: PathBuf,
    /// How a line looks.
    #[serde(default)]
    pub format: LogFormat,
}

/// Forms of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// As Apache and nginx write it.
    #[default]
    Combined,
    /// One JSON object a line, with how it was served, times and CMCD.
    Json,
}

/// `[[route]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Path prefix at the players' listener; begins and ends with `/`.
    pub path: String,
    /// URL prefix that it stands for; ends with `/`.
    pub base: String,
    /// Absolute URLs in manifests that begin with `base` are turned to `path`, so that players stay at the box.
    #[serde(default)]
    pub rewrite: bool,
}

/// `[[origin]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Host (and port, if not the scheme's) as in the objects' URIs.
    pub host: String,
    /// URL that is asked instead: scheme, host, port; a path is put before the object's.
    pub url: String,
}

/// `[repair]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Repair {
    /// Fetch missing byte ranges from origins.
    pub enabled: bool,
    /// Silence after which an object counts as lost in part, where the sender does not say.
    pub reception_timeout_ms: u64,
    /// Wait before repair begins, where the sender does not say.
    pub fixed_back_off_ms: u64,
    /// Further wait, drawn anew each time between 0 and this, where the sender does not say.
    pub random_back_off_ms: u64,
    /// An object that no player waits for and that the carousel brings again within this time is left to the carousel.
    /// How often things come round is learned from repeats of what is held. 0: origins are asked regardless.
    pub carousel_wait_ms: u64,
    /// Origins that have failed are looked at this often, so that no player has to find out; 0: never.
    pub health_check_interval_ms: u64,
    /// Objects repaired at a time.
    pub concurrent_fetches: usize,
}

impl Default for Repair {
    fn default() -> Self {
        Self {
            enabled: true,
            reception_timeout_ms: 2000,
            fixed_back_off_ms: 0,
            random_back_off_ms: 1000,
            carousel_wait_ms: 30_000,
            health_check_interval_ms: 5000,
            concurrent_fetches: 8,
        }
    }
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Unix socket of the admin interface.
    pub socket: PathBuf,
    /// TCP listener of the admin interface; keep it on loopback. Empty: none.
    pub listen: Vec<SocketAddr>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/run/skycache/admin.sock"),
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8081))],
        }
    }
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`; or directives such as `info,skycache::repair=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned() }
    }
}

impl Config {
    /// Reads and checks a file, and those in `conf.d` beside it, in the order of their names: each counts over those before
    /// it, and adds to their `[[session]]`s, `[[route]]`s, `[[origin]]`s and `[[store.class]]`es.
    ///
    /// # Errors
    /// Every mistake, one line each, with its place and its mend.
    pub fn load(path: &Path) -> Result<Self, String> {
        let said = |path: &Path, mistakes: Vec<Mistake>| {
            let lines = mistakes.iter().map(|mistake| format!("{}:{mistake}", path.display()));
            lines.collect::<Vec<_>>().join("\n")
        };
        let mut files = vec![path.to_path_buf()];
        files.extend(dropped_in(&path.with_file_name(DROP_INS)));
        let (mut texts, mut wrong) = (Vec::new(), Vec::new());
        for file in &files {
            let text = std::fs::read_to_string(file)
                .map_err(|err| format!("{}: {err}; name the configuration with -c FILE", file.display()))?;
            if let Err(mistakes) = config::load::<Self>(&text) {
                wrong.push(said(file, mistakes));
            }
            texts.push(text);
        }
        if !wrong.is_empty() {
            return Err(wrong.join("\n"));
        }
        let config: Self = config::overlaid(&texts).map_err(|mistake| said(path, vec![mistake]))?;
        config.checked().map_err(|mistakes| said(path, mistakes))
    }

    /// Reads and checks text.
    ///
    /// # Errors
    /// Every mistake.
    pub fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        config::load::<Self>(text)?.checked()
    }

    fn checked(self) -> Result<Self, Vec<Mistake>> {
        let mistakes = self.mistakes();
        if mistakes.is_empty() { Ok(self) } else { Err(mistakes) }
    }

    fn mistakes(&self) -> Vec<Mistake> {
        let mut all = Vec::new();
        let mut wrong = |key: &str, what: String, mend: &str| all.push(Mistake::of_value(key, &what, mend));
        if self.receive.announcement.is_empty()
            && self.sessions.is_empty()
            && self.transport_streams.is_empty()
        {
            let mend = "leave announcement out for 224.0.23.14:3937, or add a [[session]]";
            wrong("receive.announcement", "nothing is received".to_owned(), mend);
        }
        let announced = self.receive.announcement.iter().map(|address| ("receive.announcement", *address));
        let sessions = self.sessions.iter().map(|session| ("session.address", session.address));
        for (key, address) in announced.chain(sessions) {
            if address.port() == 0 || address.ip().is_unspecified() {
                wrong(
                    key,
                    format!("{address} can receive nothing"),
                    "give a group and a port, such as 239.1.2.3:5000",
                );
            }
        }
        for (at, session) in self.sessions.iter().enumerate() {
            if session.source.is_some_and(|source| source.is_ipv4() != session.address.is_ipv4()) {
                let what = "source and address are of different IP versions".to_owned();
                wrong(&format!("session[{at}].source"), what, "give both as IPv4 or both as IPv6");
            }
            if self.sessions[..at].contains(session) {
                wrong(&format!("session[{at}]"), format!("{} is there twice", session.address), "remove one");
            }
        }
        if !self.receive.multicast && self.transport_streams.is_empty() {
            let mend = "add a [[transport_stream]], or leave multicast out";
            wrong("receive.multicast", "nothing is received".to_owned(), mend);
        }
        for (at, stream) in self.transport_streams.iter().enumerate() {
            all.extend(stream.mistakes(&format!("transport_stream[{at}]")));
            if self.transport_streams[..at].iter().any(|other| other.from == stream.from) {
                let key = format!("transport_stream[{at}].from");
                all.push(Mistake::of_value(&key, &format!("{} is there twice", stream.from), "remove one"));
            }
        }
        let mut wrong = |key: &str, what: String, mend: &str| all.push(Mistake::of_value(key, &what, mend));
        if self.receive.threads > 64 {
            wrong("receive.threads", format!("{} threads", self.receive.threads), "0 is one for each core");
        }
        if self.store.quota_bytes < 1 << 20 {
            wrong(
                "store.quota_bytes",
                format!("{} bytes hold nothing", self.store.quota_bytes),
                "10_000_000_000 is 10 GB",
            );
        }
        for (at, route) in self.routes.iter().enumerate() {
            if !route.path.starts_with('/') || !route.path.ends_with('/') {
                wrong(&format!("route[{at}].path"), format!("{:?}", route.path), "begin and end it with /");
            }
            if !is_url(&route.base) || !route.base.ends_with('/') {
                wrong(
                    &format!("route[{at}].base"),
                    format!("{:?}", route.base),
                    "give http://host/path/ with the last /",
                );
            }
        }
        for (at, origin) in self.origins.iter().enumerate() {
            if origin.host.is_empty() || origin.host.contains('/') {
                wrong(
                    &format!("origin[{at}].host"),
                    format!("{:?}", origin.host),
                    "give the bare host of the objects' URIs",
                );
            }
            if !is_url(&origin.url) {
                wrong(
                    &format!("origin[{at}].url"),
                    format!("{:?}", origin.url),
                    "give http://host:port or https://host",
                );
            }
        }
        if self.http.prefetch_segments > 16 {
            let what = format!("{} segments ahead is a download", self.http.prefetch_segments);
            wrong("http.prefetch_segments", what, "3 is usual");
        }
        if self.http.workers > 256 {
            wrong("http.workers", format!("{} threads", self.http.workers), "0 is one for each core");
        }
        if self.http.tls.as_ref().is_some_and(|tls| tls.listen == self.http.listen) {
            wrong(
                "http.tls.listen",
                "the same as [http] listen".to_owned(),
                "give another port, such as 8443",
            );
        }
        if self.http.max_connections == 0 || self.repair.concurrent_fetches == 0 {
            wrong("http.max_connections", "0 serves nobody".to_owned(), "give at least 1");
        }
        for listen in self.admin.listen.iter().filter(|listen| !listen.ip().is_loopback()) {
            let what = format!("{listen} lets anybody purge the cache");
            wrong("admin.listen", what, "keep it on 127.0.0.1 or ::1; reach it from elsewhere through SSH");
        }
        all
    }

    /// Which classes of announced sessions are joined.
    pub const fn join_policy(&self) -> JoinPolicy {
        JoinPolicy {
            guides: self.receive.join_guides,
            related_material: self.receive.join_related_material,
            private_data: self.receive.join_private_data,
            applications: self.receive.join_applications,
        }
    }

    /// Sessions known from the start: the announcement channels, then the static ones.
    pub fn fixed_sessions(&self) -> Vec<SessionSpec> {
        let spec = |address, source, tsi| SessionSpec {
            source,
            address,
            tsi,
            protocol: Protocol::Flute,
            origin: SessionOrigin::Static,
            service: String::new(),
            repair: None,
            maximum_bps: None,
        };
        let announced = self.receive.announcement.iter().map(|&address| spec(address, None, None));
        announced.chain(self.sessions.iter().map(|it| spec(it.address, it.source, it.tsi))).collect()
    }

    /// Receive threads to start.
    pub fn receive_threads(&self) -> usize {
        match self.receive.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(4),
            threads => threads,
        }
    }
}

/// The `.toml` files of a folder by name; none, if there is none.
fn dropped_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let is_toml = |path: &PathBuf| path.extension().is_some_and(|it| it == "toml");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_toml).collect();
    files.sort();
    files
}

fn is_url(text: &str) -> bool {
    text.strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_a_working_set_top_box() {
        let config = Config::parse("").unwrap();
        assert_eq!(config.fixed_sessions()[0].address.to_string(), "224.0.23.14:3937");
        assert_eq!(config.http.listen.port(), 8080);
    }

    #[test]
    fn the_examples_load_with_what_they_have_commented_out_too() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        for name in ["stb.toml", "edge.toml"] {
            let path = folder.join(name);
            Config::load(&path).unwrap_or_else(|why| panic!("{why}"));
            let text = config::uncommented(&std::fs::read_to_string(path).unwrap());
            Config::parse(&text).unwrap_or_else(|why| panic!("{name}: {why:?}"));
        }
    }

    #[test]
    fn what_is_dropped_in_counts_over_the_file_and_adds_to_its_lists() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("skycached.toml");
        std::fs::create_dir(folder.path().join("conf.d")).unwrap();
        let drop_in =
            |name: &str, text: &str| std::fs::write(folder.path().join("conf.d").join(name), text).unwrap();
        let route = |path: &str| format!("[[route]]\npath = \"{path}\"\nbase = \"http://a/\"\n");
        std::fs::write(&file, format!("[http]\nworkers = 3\nwait_ms = 7\n{}", route("/a/"))).unwrap();
        drop_in("20.toml", "[http]\nworkers = 9\n");
        drop_in("10.toml", &format!("[http]\nworkers = 5\n{}", route("/b/")));
        drop_in("note.txt", "no TOML at all");
        let config = Config::load(&file).unwrap();
        assert_eq!((config.http.workers, config.http.wait_ms), (9, 7));
        assert_eq!(config.routes.iter().map(|it| it.path.as_str()).collect::<Vec<_>>(), ["/a/", "/b/"]);
        // A mistake is said with the file that it is in; so is one that only all together make.
        drop_in("30.toml", "[http]\nworker = 1\n");
        let why = Config::load(&file).unwrap_err();
        assert!(why.contains("conf.d/30.toml:2:1: http.worker: unknown key"), "{why}");
        drop_in("30.toml", "[receive]\nannouncement = []\n");
        assert!(Config::load(&file).unwrap_err().contains("nothing is received"));
    }

    #[test]
    fn typos_and_nonsense_are_named_with_their_mend() {
        let text = "[http]\nlisen = '0.0.0.0:1'\n[store]\nquota_byte = 1\n";
        let all: Vec<String> = Config::parse(text).unwrap_err().iter().map(ToString::to_string).collect();
        assert!(
            all[0].contains("did you mean `listen`?") && all[1].contains("did you mean `quota_bytes`?"),
            "{all:?}"
        );
        let text = "[admin]\nlisten = ['0.0.0.0:8081']\n[[route]]\npath = 'vod'\nbase = 'cdn'\n[[session]]\naddress = '239.1.1.1:0'\nsource = '::1'\n";
        let all: Vec<String> =
            Config::parse(text).unwrap_err().iter().map(|mistake| mistake.key.clone()).collect();
        assert_eq!(
            all,
            ["session.address", "session[0].source", "route[0].path", "route[0].base", "admin.listen"]
        );
    }
}
