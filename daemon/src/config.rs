//! The daemon's configuration file: one typed tree, unknown keys refused, units in key names.
//!
//! The tables are the `options` of the rooms that read them; this file collects and checks them. `configs/stb.toml` is a
//! commented example of all of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use carousel::config::{self, Mistake, Program};
use serde::{Deserialize, Serialize};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::access::AccessRule;
use crate::admin::Admin;
use crate::commands::CommandOptions;
use crate::firmware::FirmwareOptions;
use crate::http::Http;
use crate::kafka::Kafka;
use crate::memory::{self, MemoryBudgets};
use crate::origin::{
    CONNECT_FIX, Origin, ParentGroup, Route, Signing, by_longest_path, connect_mistake, mistakes_of_parents,
};
use crate::repair::Repair;
use crate::session::{Receive, ServiceOptions, Session, SessionOptions};
use crate::store::StoreConfig;
use crate::traces::Traces;
use crate::transport::TransportStream;
use crate::trust::TrustOptions;

/// Path of the configuration unless `-c` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/skycache/skycached.toml";

/// The folder beside the configuration whose files count over it.
const DROP_INS: &str = "conf.d";

/// The whole file. Every table may be left out.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Sessions that are received, and the interface.
    pub receive: Receive,
    /// Sessions that are listened to whatever the announcement channel says.
    #[serde(rename = "session")]
    pub sessions: Vec<Session>,
    /// Services whose groups are joined otherwise than `[receive] join` says, or that no gateway configuration announces.
    #[serde(rename = "service")]
    pub services: Vec<ServiceOptions>,
    /// Keys that must have signed what is received.
    pub trust: TrustOptions,
    /// Commands that come with the carousel.
    pub commands: CommandOptions,
    /// Firmware updates that come with the carousel.
    pub firmware: FirmwareOptions,
    /// Transport streams and baseband frames.
    #[serde(rename = "transport_stream")]
    pub transport_streams: Vec<TransportStream>,
    /// Place of objects.
    pub store: StoreConfig,
    /// The players' side.
    pub http: Http,
    /// Short paths for players.
    #[serde(rename = "route")]
    pub routes: Vec<Route>,
    /// Caches that are asked before the origins of routes.
    #[serde(rename = "parent")]
    pub parents: Vec<ParentGroup>,
    /// Access to the objects of routes.
    pub access: Vec<AccessRule>,
    /// Origin of a host on the terrestrial path.
    #[serde(rename = "origin")]
    pub origins: Vec<Origin>,
    /// Repair of losses.
    pub repair: Repair,
    /// The operator's side.
    pub admin: Admin,
    /// Purges for all boxes and measurements of players through Kafka. Needs a program that was built with it.
    pub kafka: Option<Kafka>,
    /// Traces of requests to an OpenTelemetry collector. Needs a program that was built with them.
    pub traces: Option<Traces>,
    /// Logging.
    pub log: Log,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize, Serialize)]
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
    /// The signing of each route and parent that has one, and the key of its secret.
    pub(crate) fn signed(&self) -> impl Iterator<Item = (String, &Signing)> {
        let routes = self.routes.iter();
        let routes = routes.map(|it| (format!("[route.sign] secret_file of {}", it.path), &it.sign));
        let members = self.parents.iter().flat_map(|it| &it.members);
        let parents = members.map(|it| (format!("[parent.member.sign] secret_file of {}", it.url), &it.sign));
        routes.chain(parents).filter_map(|(key, sign)| Some((key, sign.as_ref()?)))
    }

    /// Reads and checks a file, and those in `conf.d` beside it, in the order of their names: each counts over those before
    /// it, and adds to their `[[session]]`s, `[[service]]`s, `[[route]]`s, `[[parent]]`s, `[[access]]`s, `[[origin]]`s and `[[store.class]]`es.
    ///
    /// # Errors
    /// Every mistake, one line each, with its place and its fix.
    pub fn load(path: &Path) -> Result<Self, String> {
        let said = |path: &Path, mistakes: Vec<Mistake>| {
            let lines = mistakes.iter().map(|mistake| format!("{}:{mistake}", path.display()));
            lines.collect::<Vec<_>>().join("\n")
        };
        let mut files = vec![path.to_path_buf()];
        files.extend(dropped_in(&path.with_file_name(DROP_INS)));
        let (mut texts, mut wrong) = (Vec::new(), Vec::new());
        for file in &files {
            let text = std::fs::read_to_string(file).map_err(|err| {
                format!("{}: {}; {}", file.display(), config::plain(&err), config::fix_of(&err))
            })?;
            if let Err(mistakes) = config::load::<Self>(&text) {
                if let Some(why) = Program::Skycached.refuses(&text) {
                    return Err(format!("{}: {why}", file.display()));
                }
                wrong.push(said(file, mistakes));
            }
            texts.push(text);
        }
        if !wrong.is_empty() {
            return Err(wrong.join("\n"));
        }
        let config: Self = config::overlaid(&texts).map_err(|mistake| said(path, vec![mistake]))?;
        config.checked().map_err(|mistakes| {
            let placed = mistakes.into_iter().map(|mistake| match config::locate(&texts, &mistake.key) {
                Some((number, line, column)) => said(
                    files.get(number).map_or(path, PathBuf::as_path),
                    vec![Mistake { line, column, ..mistake }],
                ),
                None => said(path, vec![mistake]),
            });
            placed.collect::<Vec<_>>().join("\n")
        })
    }

    /// Reads and checks text.
    ///
    /// # Errors
    /// Every mistake.
    pub fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        config::load::<Self>(text)?.checked()
    }

    /// The configuration that is in force, with every default, as TOML.
    ///
    /// # Errors
    /// None for what was read.
    pub fn to_toml(&self) -> Result<String, String> {
        config::to_toml(self)
    }

    /// `[receive]`, `[[session]]` and `[[service]]`, as the session thread takes them.
    pub fn session_options(&self) -> SessionOptions {
        SessionOptions {
            receive: self.receive.clone(),
            sessions: self.sessions.clone(),
            services: self.services.clone(),
        }
    }

    /// Memory of the store: objects in memory, and bodies under assembly.
    pub(crate) fn store_memory_bytes(&self) -> u64 {
        self.store.memory_bytes + self.store.arena_bytes()
    }

    /// Budgets of what is received, by `[receive] memory_bytes` or the memory that the process may use.
    pub fn memory_budgets(&self) -> MemoryBudgets {
        let received_bytes = match self.receive.memory_bytes {
            0 => memory::received_bytes(memory::available_bytes(), self.store_memory_bytes()),
            configured => configured,
        };
        MemoryBudgets::of(received_bytes, self.receive.threads())
    }

    /// Origins that the configuration names beside the bases of routes: `[[origin]]`, and the members of `[[parent]]`.
    pub fn asked_origins(&self) -> Vec<Origin> {
        let members = self.parents.iter().flat_map(|it| &it.members);
        let members = members.map(|it| Origin { host: String::new(), url: it.url.clone() });
        // Those of firmware are the operator's own.
        let firmware =
            [&self.firmware.url, &self.firmware.report_url].into_iter().filter(|it| !it.is_empty());
        let firmware = firmware.map(|url| Origin { host: String::new(), url: url.clone() });
        self.origins.iter().cloned().chain(members).chain(firmware).collect()
    }

    /// Key and address of every TCP listener.
    pub fn listeners(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let plain = self.http.listen.iter().map(|it| ("http.listen", *it));
        let tls = self.http.tls.iter().flat_map(|tls| &tls.listen).map(|it| ("http.tls.listen", *it));
        let admin = self.admin.listen.iter().map(|it| ("admin.listen", *it));
        plain.chain(tls).chain(admin)
    }

    fn access_mistakes(&self) -> Vec<Mistake> {
        let mut all = Vec::new();
        for (at, rule) in self.access.iter().enumerate() {
            all.extend(rule.mistakes(&format!("access[{at}]")));
            if self.access[..at].iter().any(|other| other.name == rule.name) {
                let what = format!("{:?} is there twice", rule.name);
                all.push(Mistake::of_value(
                    &format!("access[{at}].name"),
                    &what,
                    "give each a name of its own",
                ));
            }
        }
        for (at, route) in self.routes.iter().enumerate() {
            let mut wrong = |what: String, fix: &str| {
                all.push(Mistake::of_value(&format!("route[{at}].access"), &what, fix));
            };
            if let Some(name) =
                route.access.as_ref().filter(|name| !self.access.iter().any(|it| it.name == **name))
            {
                wrong(format!("{name:?} is not a rule"), "give the name of an [[access]]");
            }
            let same = |other: &Route| other.base == route.base && other.access != route.access;
            if let Some(other) = self.routes[..at].iter().position(same) {
                let fix = "give both the same: an object that is forbidden by one path must be forbidden by every path";
                wrong(format!("route[{other}] has the same base and another rule"), fix);
            }
        }
        all
    }

    fn checked(mut self) -> Result<Self, Vec<Mistake>> {
        let mistakes = self.mistakes();
        by_longest_path(&mut self.routes);
        if mistakes.is_empty() { Ok(self) } else { Err(mistakes) }
    }

    fn mistakes(&self) -> Vec<Mistake> {
        let mut all = self.reception_mistakes();
        let mut wrong = |key: &str, what: String, fix: &str| all.push(Mistake::of_value(key, &what, fix));
        if self.receive.threads > 64 {
            wrong("receive.threads", format!("{} threads", self.receive.threads), "0 is one for each core");
        }
        if (1..4 << 20).contains(&self.receive.memory_bytes) {
            let what = format!("{} bytes are too little", self.receive.memory_bytes);
            wrong("receive.memory_bytes", what, "give 4 MB at least, or 0 for what the machine has");
        }
        if self.store.quota_bytes < 1 << 20 {
            wrong(
                "store.quota_bytes",
                format!("{} bytes hold nothing", self.store.quota_bytes),
                "10_000_000_000 is 10 GB",
            );
        }
        all.extend(self.trust.mistakes());
        all.extend(self.commands.mistakes());
        all.extend(self.firmware.mistakes());
        all.extend(crate::origin::mistakes(&self.routes, &self.origins, &self.http.allow_origins));
        let players: Vec<SocketAddr> =
            self.listeners().filter(|(key, _)| key.starts_with("http")).map(|(_, address)| address).collect();
        all.extend(mistakes_of_parents(&self.parents, &self.routes, &players));
        all.extend(self.http_mistakes());
        let mut wrong = |key: &str, what: String, fix: &str| all.push(Mistake::of_value(key, &what, fix));
        // A filter takes any word as the name of a module, and logs nothing else.
        let is_level = |it: &str| it.parse::<LevelFilter>().is_ok();
        let is_directive = |it: &str| it.contains(['=', '[']) || it.contains("::") || is_level(it);
        let says_none = !self.log.level.split(',').map(str::trim).any(is_directive);
        if says_none || EnvFilter::builder().parse(&self.log.level).is_err() {
            let fix =
                "give error, warn, info, debug or trace, or directives such as info,skycache::repair=debug";
            wrong("log.level", format!("{:?} is not a level", self.log.level), fix);
        }
        all.extend(self.listener_mistakes());
        let mut wrong = |key: &str, what: String, fix: &str| all.push(Mistake::of_value(key, &what, fix));
        for (key, value) in [
            ("http.max_connections", self.http.max_connections),
            ("http.max_fills", self.http.max_fills),
            ("repair.concurrent_fetches", self.repair.concurrent_fetches),
        ] {
            if value == 0 {
                wrong(key, "must be greater than 0".to_owned(), "give at least 1");
            }
        }
        all.extend(self.admin.mistakes());
        all.extend(self.access_mistakes());
        all.extend(self.http.rendezvous_mistakes(&players));
        all.extend(self.kafka.iter().flat_map(Kafka::mistakes));
        all.extend(self.traces.iter().flat_map(Traces::mistakes));
        all
    }

    /// Whether players' requests lead to origins.
    pub(crate) const fn has_origins(&self) -> bool {
        !self.routes.is_empty() || !self.origins.is_empty()
    }

    /// Mistakes about groups, sessions and transport streams.
    fn reception_mistakes(&self) -> Vec<Mistake> {
        let mut all = Vec::new();
        let mut wrong = |key: &str, what: String, fix: &str| all.push(Mistake::of_value(key, &what, fix));
        // A PoP without a carousel is a reverse proxy.
        if !self.has_origins()
            && self.receive.announcement.is_empty()
            && self.receive.lls.is_empty()
            && self.sessions.is_empty()
            && self.transport_streams.is_empty()
        {
            let fix = "leave announcement out for 224.0.23.14:3937, or add a [[session]], or a [[route]] to an origin";
            wrong("receive.announcement", "nothing is received".to_owned(), fix);
        }
        let announced = self.receive.announcement.iter();
        let announced = announced.map(|address| ("receive.announcement".to_owned(), *address));
        let sessions = self.sessions.iter().enumerate();
        let sessions = sessions.map(|(at, session)| (format!("session[{at}].address"), session.address));
        for (key, address) in announced.chain(sessions) {
            let fix = "give a group and a port, such as 239.1.2.3:5000";
            if address.port() == 0 {
                wrong(&key, format!("{address} has no port"), fix);
            } else if address.ip().is_unspecified() {
                wrong(&key, format!("{address} is not a group, and no address of one interface"), fix);
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
        all.extend(self.session_options().lls_mistakes());
        all.extend(self.session_options().service_mistakes());
        let mut wrong = |key: &str, what: String, fix: &str| all.push(Mistake::of_value(key, &what, fix));
        if !self.has_origins() && !self.receive.multicast && self.transport_streams.is_empty() {
            let fix = "add a [[transport_stream]], or leave multicast out";
            wrong("receive.multicast", "nothing is received".to_owned(), fix);
        }
        for (at, stream) in self.transport_streams.iter().enumerate() {
            all.extend(stream.mistakes(&format!("transport_stream[{at}]")));
            if self.transport_streams[..at].iter().any(|other| other.from == stream.from) {
                let key = format!("transport_stream[{at}].from");
                all.push(Mistake::of_value(&key, &format!("{} is there twice", stream.from), "remove one"));
            }
        }
        all
    }

    fn http_mistakes(&self) -> Vec<Mistake> {
        let mut all = Vec::new();
        let mut wrong = |key: &str, what: String, fix: &str| all.push(Mistake::of_value(key, &what, fix));
        if self.http.prefetch_segments > 16 {
            let what = format!("{} segments ahead is a download", self.http.prefetch_segments);
            wrong("http.prefetch_segments", what, "3 is usual");
        }
        if let Some(what) = connect_mistake(self.http.origin_timeouts.connect_ms) {
            wrong("http.origin_timeouts.connect_ms", what, CONNECT_FIX);
        }
        if self.http.workers > 256 {
            wrong("http.workers", format!("{} threads", self.http.workers), "0 is one for each core");
        }
        if self.http.listen.is_empty() && self.http.tls.as_ref().is_none_or(|tls| tls.listen.is_empty()) {
            wrong(
                "http.listen",
                "players reach nothing".to_owned(),
                "give an address, such as \"0.0.0.0:8080\"",
            );
        }
        all
    }

    /// Addresses on which two would listen.
    fn listener_mistakes(&self) -> Vec<Mistake> {
        let mut all = Vec::new();
        let mut wrong = |key: &str, what: String, fix: &str| all.push(Mistake::of_value(key, &what, fix));
        let listeners: Vec<_> = self.listeners().collect();
        for (at, (key, address)) in listeners.iter().enumerate() {
            let is_same = |other: &SocketAddr| {
                address.port() != 0
                    && other.port() == address.port()
                    && (other.ip() == address.ip()
                        || other.ip().is_unspecified()
                        || address.ip().is_unspecified())
                    && other.is_ipv4() == address.is_ipv4()
            };
            if let Some((other, _)) = listeners[..at].iter().find(|(_, other)| is_same(other)) {
                wrong(key, format!("{address} is taken by {other}"), "give another port");
            }
        }
        all
    }
}

/// The `.toml` files of a folder by name; none if the folder does not exist.
fn dropped_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let is_toml = |path: &PathBuf| path.extension().is_some_and(|it| it == "toml");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_toml).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_a_working_set_top_box() {
        let config = Config::parse("").unwrap();
        assert_eq!(config.session_options().fixed_sessions()[0].address.to_string(), "224.0.23.14:3937");
        assert_eq!(config.http.listen[0].port(), 8080);
    }

    #[test]
    fn the_examples_load_with_what_they_have_commented_out_too() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        for name in ["stb.toml", "edge.toml", "shield.toml"] {
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
        drop_in("30.toml", "[http]\nlisten = []\n");
        let why = Config::load(&file).unwrap_err();
        assert!(why.contains("conf.d/30.toml:2:1: http.listen: players reach nothing"), "{why}");
        drop_in("30.toml", "[receive]\nannouncement = []\nlls = [\"224.0.23.60:4937\"]\n");
        assert!(Config::load(&file).is_ok());
        std::fs::write(&file, "[link]\nrate_bps = 1\n[output]\nttl = 1\n").unwrap();
        assert!(Config::load(&file).unwrap_err().contains("of headend"));
    }

    #[test]
    fn typos_and_nonsense_are_named_with_their_fix() {
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
            ["session[0].address", "session[0].source", "route[0].path", "route[0].base", "admin.listen"]
        );
        let of = |text: &str| -> Vec<String> {
            Config::parse(text).err().unwrap_or_default().iter().map(ToString::to_string).collect()
        };
        for (lls, said) in [
            ("['224.0.23.60:0']", "has no port"),
            ("['10.0.0.1:4937']", "is not a multicast group"),
            ("['224.0.0.5:4937']", "control of the local network"),
            ("['[ff02::5]:4937']", "control of the local network"),
            ("['224.0.23.60:4937', '224.0.23.60:4937']", "is there twice"),
            ("['224.0.23.14:3937']", "is in receive.announcement, too"),
            ("['239.1.1.1:5000']", "is a [[session]], too"),
        ] {
            let text = format!("[receive]\nlls = {lls}\n[[session]]\naddress = '239.1.1.1:5000'\n");
            let all = of(&text);
            assert!(
                all.len() == 1 && all[0].contains("receive.lls") && all[0].contains(said),
                "{lls}: {all:?}"
            );
        }
        assert!(of("[receive]\nlls = ['224.0.23.60:4937', '224.0.23.60:4938', '[ff05::5]:4937']").is_empty());
        let nothing = of("[receive]\nannouncement = []\n");
        assert!(nothing.len() == 1 && nothing[0].contains("nothing is received"), "{nothing:?}");
        assert!(of("[receive]\nannouncement = []\n[[route]]\npath = '/a/'\nbase = 'http://a/'\n").is_empty());
        assert_eq!(
            of("[receive]\nlls = ['239.1.1.1']"),
            ["2:8: receive.lls: \"239.1.1.1\" has no port; add it, e.g. \"239.1.1.1:5000\""]
        );
        for (text, key, example) in [
            ("[receive]\nlls = 7", "lls", "239.1.2.3:5000"),
            ("[receive]\nannouncement = ['x']", "announcement", "224.0.23.14:3937"),
            ("[[session]]\naddress = 'x'", "address", "239.1.2.3:5000"),
        ] {
            let all = of(text);
            assert!(all.len() == 1 && all[0].contains(key) && all[0].contains(example), "{all:?}");
        }
        let unspecified = of("[receive]\nannouncement = ['0.0.0.0:3937']");
        assert!(unspecified[0].contains("not a group"), "{unspecified:?}");
        assert_eq!(
            of("[repair]\nconcurrent_fetches = 0"),
            [" repair.concurrent_fetches: must be greater than 0; give at least 1"]
        );
        assert_eq!(
            of("[http]\nlisten = '0.0.0.0:8081'"),
            [" admin.listen: 127.0.0.1:8081 is taken by http.listen; give another port"]
        );
    }
}
