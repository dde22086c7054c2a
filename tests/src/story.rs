//! One end-to-end delivery: headend, link, daemon, origin, and the comparison of what a player gets.

use std::collections::HashSet;
use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use linksim::Profile;
use serde_json::Value;
use tempfile::TempDir;

use crate::origin::Origin;
use crate::programs::{Program, program};
use crate::relay::{DOWNLINK, Relay};
use crate::{client, media};

/// Bits a second of a story's link: a film takes seconds, and a busy machine keeps up.
pub const RATE_BPS: u64 = 10_000_000;
/// Requests of [`Story::compare`] at a time: a page of a browser has as many towards one host.
const PLAYERS: usize = 6;

/// Programs, link and folders of one delivery. Fields may be changed before the programs start.
#[derive(Debug)]
pub struct Story {
    /// Folder that is sent.
    pub folder: PathBuf,
    /// Lines put at the end of the headend's configuration.
    pub headend_extra: String,
    /// Lines put at the end of the daemon's configuration.
    pub daemon_extra: String,
    /// Environment variables of the daemon.
    pub daemon_env: Vec<(String, String)>,
    /// The origin, if it is up.
    pub origin: Option<Origin>,
    /// The link, if there is one between the programs.
    pub relay: Option<Relay>,
    /// The sender, when it runs.
    pub headend: Option<Program>,
    /// The receiver, when it runs.
    pub daemon: Option<Program>,
    /// Announcement, configuration, media.
    pub groups: [SocketAddrV4; 3],
    /// The players' listener.
    pub http: SocketAddr,
    /// The admin interface's TCP listener, and the file with its token; none if left out.
    pub admin: Option<(SocketAddr, PathBuf)>,
    dir: TempDir,
    rate_bps: u64,
}

impl Story {
    /// The committed ladder, no origin, no losses.
    ///
    /// # Panics
    /// If there is no temporary folder.
    pub fn new() -> Self {
        Self::of(&media::ladder())
    }

    /// As [`Story::new`], with another folder.
    ///
    /// # Panics
    /// If there is no temporary folder.
    pub fn of(folder: &Path) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // 239.B.C.D: B from the process number, C and D from the story's.
        let [_, _, _, process] = std::process::id().to_be_bytes();
        let group = |last: u32| {
            let [_, _, c, d] = (number * 4 + last).to_be_bytes();
            SocketAddrV4::new(Ipv4Addr::new(239, process, c, d), free_udp_port())
        };
        Self {
            folder: folder.to_path_buf(),
            headend_extra: String::new(),
            daemon_extra: String::new(),
            daemon_env: Vec::new(),
            origin: None,
            relay: None,
            headend: None,
            daemon: None,
            groups: [group(1), group(2), group(3)],
            http: free_tcp_port(),
            admin: None,
            dir: TempDir::new().expect("a temporary folder"),
            rate_bps: RATE_BPS,
        }
    }

    /// Another link rate.
    #[must_use]
    pub const fn at(mut self, rate_bps: u64) -> Self {
        self.rate_bps = rate_bps;
        self
    }

    /// With an origin that has the folder.
    #[must_use]
    pub fn with_origin(mut self) -> Self {
        self.origin = Some(Origin::start(&self.folder, "/vod/film/"));
        self
    }

    /// With a lossy link.
    ///
    /// # Panics
    /// If the groups cannot be joined.
    #[must_use]
    pub fn with_link(mut self, seed: u64, profile: Profile) -> Self {
        println!("link: losses of seed {seed}");
        self.relay = Some(Relay::start(&self.groups, seed, profile).expect("a relay on loopback"));
        self
    }

    /// The story's own folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Folder of the daemon's objects.
    pub fn cache(&self) -> PathBuf {
        self.dir().join("cache")
    }

    /// Writes the headend's configuration and names it.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn headend_config(&self) -> PathBuf {
        let [announcement, configuration, media] = self.groups;
        let source = if self.relay.is_some() { format!("source = \"{DOWNLINK}\"\n") } else { String::new() };
        let text = format!(
            "[link]\nrate_bps = {}\n[output]\ninterface = \"127.0.0.1\"\n[sessions]\nannouncement = \"{announcement}\"\n\
             configuration = \"{configuration}\"\nmedia = \"{media}\"\n{source}[carousel]\n\
             announcement_interval_ms = 200\nmanifest_interval_ms = 500\nfdt_interval_ms = 250\n[[source]]\npath = {:?}\nbase = \"{}\"\n{}\n",
            self.rate_bps,
            self.folder.display().to_string(),
            media::BASE,
            self.headend_extra,
        );
        let path = self.dir().join("headend.toml");
        std::fs::write(&path, text).expect("headend.toml");
        path
    }

    /// One cycle of the carousel as a recording, made by `headend build`.
    ///
    /// # Panics
    /// If it cannot be built.
    pub fn build(&self) -> PathBuf {
        let pcap = self.dir().join("x.pcap");
        let mut command = program("headend");
        command.args(["build", "-c"]).arg(self.headend_config()).arg("--out").arg(&pcap);
        assert!(command.status().expect("headend").success(), "headend build failed");
        pcap
    }

    /// Writes the daemon's configuration and names it.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn daemon_config(&self) -> PathBuf {
        let announcement = self.groups[0];
        let listen = if self.relay.is_some() {
            format!(
                "announcement = []\n[[session]]\naddress = \"{announcement}\"\nsource = \"{DOWNLINK}\"\ntsi = 0\n"
            )
        } else {
            format!("announcement = [\"{announcement}\"]\n")
        };
        let origin = self.origin.as_ref().map(|origin| {
            format!("[[origin]]\nhost = \"cdn.example.com\"\nurl = \"http://{}\"\n", origin.address())
        });
        let text = format!(
            "[receive]\ninterface = \"127.0.0.1\"\n{listen}[store]\npath = {:?}\nreserve_bytes = 0\n\
             [http]\nlisten = \"{}\"\nwait_ms = 1500\n[admin]\nsocket = {:?}\nlisten = [{}]\n{}\
             [repair]\nreception_timeout_ms = 500\nrandom_back_off_ms = 100\n{}{}\n",
            self.cache().display().to_string(),
            self.http,
            self.dir().join("admin.sock").display().to_string(),
            self.admin.as_ref().map(|(it, _)| format!("\"{it}\"")).unwrap_or_default(),
            self.admin.as_ref().map(|(_, it)| format!("token_file = {it:?}\n")).unwrap_or_default(),
            origin.unwrap_or_default(),
            self.daemon_extra,
        );
        // `STORY_LOG=debug cargo test …` shows more when a story fails.
        let text = match std::env::var("STORY_LOG") {
            Ok(level) => format!("{text}[log]\nlevel = {level:?}\n"),
            Err(_) => text,
        };
        let path = self.dir().join("skycached.toml");
        std::fs::write(&path, text).expect("skycached.toml");
        path
    }

    /// Lines in a file of `conf.d`, which count over those of the daemon's configuration.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn drop_in(&self, lines: &str) {
        let folder = self.dir().join("conf.d");
        std::fs::create_dir_all(&folder).expect("conf.d");
        std::fs::write(folder.join("50-story.toml"), lines).expect("50-story.toml");
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Panics
    /// If it does not come up in 20 s.
    pub fn start_daemon(&mut self) {
        let mut command = program("skycached");
        command.arg("run").arg("-c").arg(self.daemon_config());
        command.envs(self.daemon_env.iter().map(|(name, value)| (name, value)));
        self.daemon = Some(Program::start(command, &self.dir().join("skycached.log")).expect("skycached"));
        self.until("skycached is up", Duration::from_secs(20), |story| story.status().is_some());
        // Groups are joined by a thread of their own.
        self.until("the announcement group is joined", Duration::from_secs(5), |story| {
            story.status().is_some_and(|status| !status["receive"]["groups"][0].is_null())
        });
    }

    /// Starts the headend: one pass, or on and on.
    ///
    /// # Panics
    /// If there is no such program.
    pub fn start_headend(&mut self, once: bool) {
        let mut command = program("headend");
        command.arg("send").arg("-c").arg(self.headend_config());
        if once {
            command.arg("--once");
        }
        self.headend = Some(Program::start(command, &self.dir().join("headend.log")).expect("headend"));
    }

    /// Sends one pass and waits for its end.
    ///
    /// # Panics
    /// If it fails, or takes more than two minutes.
    pub fn send_once(&mut self) {
        self.start_headend(true);
        let headend = self.headend.as_mut().expect("just started");
        let status = headend.wait(Duration::from_secs(120));
        assert!(status.is_some_and(|status| status.success()), "{status:?}: {}", headend.log());
        self.headend = None;
    }

    /// A verb of `skycached` that talks to this daemon.
    pub fn skycached(&self, verb: &str) -> Command {
        let mut command = program("skycached");
        command.arg(verb).arg("-c").arg(self.dir().join("skycached.toml"));
        command
    }

    /// `skycached status --json`, if the daemon answers.
    pub fn status(&self) -> Option<Value> {
        let output = self.skycached("status").arg("--json").output().ok()?;
        serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
    }

    /// Response of the admin socket to a GET of `target`, with its head.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn admin_answers(&self, target: &str) -> String {
        let mut admin = UnixStream::connect(self.dir().join("admin.sock")).expect("admin.sock");
        write!(admin, "GET {target} HTTP/1.0\r\n\r\n").expect("a request");
        let mut text = String::new();
        admin.read_to_string(&mut text).expect("a response");
        text
    }

    /// The value of a metric with its labels, such as `http_hits_total`.
    ///
    /// # Panics
    /// If the daemon does not answer, or has no such metric.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.admin_answers("/metrics");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("skycache_")?.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("an integer")
    }

    /// `skycached ls --json`: the objects of the cache.
    pub fn list(&self) -> Vec<Value> {
        let output = self.skycached("ls").arg("--json").output().ok();
        let value: Option<Value> = output.and_then(|output| serde_json::from_slice(&output.stdout).ok());
        value.and_then(|value| value["objects"].as_array().cloned()).unwrap_or_default()
    }

    /// Waits until `done` says yes.
    ///
    /// # Panics
    /// With `what` and both logs if it does not in `timeout`.
    pub fn until(&mut self, what: &str, timeout: Duration, mut done: impl FnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !done(self) {
            let log = |program: &Option<Program>| program.as_ref().map(Program::log).unwrap_or_default();
            let ended = self.daemon.as_mut().and_then(Program::ended);
            assert!(
                begin.elapsed() < timeout && ended.is_none(),
                "{what}: not in {timeout:?} (skycached ended: {ended:?})\nskycached:\n{}\nheadend:\n{}\nstatus: {:#}",
                log(&self.daemon),
                log(&self.headend),
                self.status().unwrap_or_default(),
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the cache has every file.
    ///
    /// # Panics
    /// If it has not in `timeout`.
    pub fn until_complete(&mut self, timeout: Duration) {
        let wanted = media::files(&self.folder).len();
        self.until("the cache has everything", timeout, |story| story.held() == wanted);
    }

    /// Number of the sender's files in the cache. By name: what an origin does not have is remembered as an object too,
    /// and a catalogue has its own.
    pub fn held(&self) -> usize {
        let objects = self.list();
        let held: HashSet<&str> = objects.iter().filter_map(|object| object["key"].as_str()).collect();
        let paths = media::files(&self.folder).into_iter().map(|(relative, _)| Self::path_of(&relative));
        paths.filter(|path| held.contains(path.trim_start_matches('/'))).count()
    }

    /// Path of a file at the players' listener.
    pub fn path_of(relative: &str) -> String {
        format!("/{}{relative}", media::BASE.trim_start_matches("https://"))
    }

    /// Asks for every file as a player does, [`PLAYERS`] at a time, and compares every byte.
    ///
    /// Several at a time, since a file whose origin does not answer takes as long as the daemon waits for it.
    pub fn compare(&self) -> Comparison {
        let files = media::files(&self.folder);
        let (next, result) = (AtomicUsize::new(0), Mutex::new(Comparison::default()));
        std::thread::scope(|scope| {
            for _ in 0..PLAYERS {
                scope.spawn(|| {
                    while let Some((relative, path)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let response = client::get(self.http, &Self::path_of(relative), &[]);
                        let want = std::fs::read(path).unwrap_or_default();
                        result.lock().expect("no thread panics with it").add(relative, &want, response);
                    }
                });
            }
        });
        let mut result = result.into_inner().expect("no thread panics with it");
        result.missing.sort_unstable();
        result.wrong.sort_unstable();
        result
    }
}

impl Default for Story {
    fn default() -> Self {
        Self::new()
    }
}

/// The files that a player gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Files that came byte for byte.
    pub exact: u64,
    /// Those of them that were in the cache.
    pub hits: u64,
    /// Files that did not come, or not to their end, each with what came instead.
    pub missing: Vec<String>,
    /// Files that came with other bytes: never.
    pub wrong: Vec<String>,
}

impl Comparison {
    /// Counts what came instead of the bytes `want` of a file.
    fn add(&mut self, relative: &str, want: &[u8], response: Result<client::Response, String>) {
        match response {
            Ok(response) if response.status == 200 && response.whole => {
                if response.body == want {
                    self.exact += 1;
                    self.hits += u64::from(response.header("cache-status").contains("hit"));
                } else {
                    self.wrong.push(relative.to_owned());
                }
            }
            Ok(response) => {
                let said = String::from_utf8_lossy(&response.body[..response.body.len().min(120)]);
                let why = if response.whole { said.trim() } else { "cut" };
                self.missing.push(format!("{relative}: {} {why}", response.status));
            }
            Err(why) => self.missing.push(format!("{relative}: {why}")),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} exact ({} from the cache), {} missing {:?}, {} wrong {:?}",
            self.exact,
            self.hits,
            self.missing.len(),
            self.missing,
            self.wrong.len(),
            self.wrong
        )
    }
}

/// An address of this machine with a free TCP port.
///
/// # Panics
/// If there is none.
pub fn free_tcp_port() -> SocketAddr {
    let free = ports().find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    free.expect("a TCP port").local_addr().expect("its address")
}

fn free_udp_port() -> u16 {
    let free = ports().find_map(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok());
    free.expect("a UDP port").local_addr().expect("its address").port()
}

/// Ports to try, each named once in this process until all have been. They are below those that Linux gives to outgoing connections
/// (32768 to 60999): one of those can be taken between the moment at which it was found free and the one at which a program
/// listens on it.
fn ports() -> impl Iterator<Item = u16> {
    const FIRST: u32 = 10_240;
    const PORTS: u32 = 22_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test programs that run beside each other begin at other places.
    let begin = std::process::id().wrapping_mul(2_654_435_761) % PORTS;
    (0..PORTS).map(move |_| {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        u16::try_from(FIRST + begin.wrapping_add(next) % PORTS).expect("ports are below 65,536")
    })
}
