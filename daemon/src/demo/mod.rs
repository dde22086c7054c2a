//! `skycached demo`: a channel with a clock and two films over a link that loses packets, on this machine alone.
//!
//! ```text
//! programmes ─▶ package ─▶ folders ─▶ headend ─▶ link ─▶ the daemon of this process ─▶ page, players
//!                             └─────▶ origin ─ repair ─▶ ┘
//! ```
//!
//! Pictures, coded video, packages and posters are generated while the demo runs: it needs no file, no encoder and no network
//! except loopback. The sender is the program `headend`, and the receiver is the daemon as [`crate::running`] assembles it; only
//! the link and the origin belong to the demo.

mod link;
mod origin;
mod package;
mod picture;
mod poster;
mod programmes;

use std::fs::DirBuilder;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use carousel::config::quantity::{fraction_of_flag, of_flag};
use carousel::time::{Instant, WallTime};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use self::link::{DOWNLINK, Link};
use self::origin::Origin;
use self::package::{Channel, SEGMENT_S};
use self::programmes::Film;
use crate::admin::{self, Access};
use crate::config::Config;
use crate::listen::Listening;
use crate::running::Daemon;
use crate::{clock, sys};

/// Host by which players know the media; its origin is the demo's.
const HOST: &str = "cdn.example.com";
/// Upper bound of every step of the demo.
const PATIENCE: Duration = Duration::from_secs(120);
/// Time for the sender to end after the request.
const FAREWELL: Duration = Duration::from_secs(5);
/// Rate below which the channel's media and the signalling do not fit.
const LEAST_BPS: u64 = 2_000_000;
/// Segments of the channel at its start.
const HEAD_START: u64 = 3;

/// Content of the demo, and its losses.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// End when the films are in the cache; success only if every object served over HTTP equals its source
    #[arg(long)]
    once: bool,
    /// Packets lost on the link, in percent, in bursts of eight on average
    #[arg(long, default_value_t = 5.0, value_name = "PERCENT", value_parser = loss, allow_hyphen_values = true)]
    loss: f64,
    /// Seed of the losses
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rate of the link: bits a second, or as "4 Mbit/s"
    #[arg(long, default_value_t = 4_000_000, value_name = "BPS", value_parser = rate_bps)]
    rate_bps: u64,
    /// Address of the players' listener; the next free port if it is taken
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Open the page in the browser of this desktop
    #[arg(long)]
    open: bool,
    /// The program `headend`; left out: beside this one, or in PATH
    #[arg(long, value_name = "FILE")]
    headend: Option<PathBuf>,
}

fn loss(text: &str) -> Result<f64, String> {
    let percent = fraction_of_flag("loss_percent", text).ok().filter(|it| (0.0..=90.0).contains(it));
    percent.ok_or_else(|| "give 0 to 90 percent: 5, 5% or 0.5".to_owned())
}

fn rate_bps(text: &str) -> Result<u64, String> {
    match of_flag("rate_bps", text)? {
        slow @ ..LEAST_BPS => Err(format!("{slow} bit/s do not carry the demo; give \"2 Mbit/s\" or more")),
        rate_bps => Ok(rate_bps),
    }
}

/// Runs the demo until it is interrupted, or to its end with `--once`.
///
/// # Errors
/// For what could not be started, or was not as it was sent, with the fix.
pub async fn run(arguments: &Arguments) -> Result<(), String> {
    let failed = |err: io::Error| format!("cannot handle signals: {err}");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut term = signal(SignalKind::terminate()).map_err(failed)?;
    let program = sender(arguments.headend.as_deref())?;
    let folder = Folder::create()?;
    let stopped = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = term.recv() => {}
        }
    };
    show(arguments, &program, &folder.0, stopped).await
}

/// A folder that is removed when the demo ends.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("skycache-demo-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).map_err(|err| format!("{}: {err}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(err) = std::fs::remove_dir_all(&self.0) {
            eprintln!("skycached: {}: {err}", self.0.display());
        }
    }
}

/// The program `headend`.
fn sender(named: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(named) = named {
        let why = match std::fs::metadata(named) {
            Ok(it) if it.is_file() => return Ok(named.to_path_buf()),
            Ok(_) => "it is not a program".to_owned(),
            Err(err) => carousel::config::plain(&err),
        };
        let named = named.display();
        return Err(format!("--headend {named}: {why}; name the program headend, or leave the option out"));
    }
    let beside = std::env::current_exe().ok().map(|it| it.with_file_name("headend"));
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&paths).map(|it| it.join("headend"));
    let mut found = beside.into_iter().chain(installed);
    found.find(|it| it.is_file()).ok_or_else(|| {
        "the demo sends with the program headend, which is not here; install the package skycache-headend, or name it with --headend"
            .to_owned()
    })
}

/// The running sender; it is asked to end with this value.
struct Sender {
    child: Child,
    log: PathBuf,
}

impl Sender {
    fn start(program: &Path, config: &Path, log: PathBuf) -> io::Result<Self> {
        let out = std::fs::File::create(&log)?;
        let mut command = Command::new(program);
        // Its input ends with this process, also after a crash.
        command.args(["send", "--until-stdin-ends", "-c"]).arg(config);
        command.stdin(Stdio::piped()).stdout(out.try_clone()?).stderr(out);
        Ok(Self { child: command.spawn()?, log })
    }

    fn is_running(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            ended => {
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                Err(format!("headend ended ({ended:?}); it said:\n{said}"))
            }
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        sys::terminate(&mut self.child);
        let since = clock::now();
        while clock::now().since(since) < FAREWELL {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            clock::clocks().sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Names of the parts of the demo.
struct Stage {
    folder: PathBuf,
    /// Announcement, configuration, and media of each source.
    groups: Vec<SocketAddrV4>,
    listen: SocketAddr,
}

impl Stage {
    fn new(folder: &Path, listen: SocketAddr) -> Self {
        // Demos of one machine do not receive each other's packets.
        let [.., a, b] = std::process::id().to_be_bytes();
        let groups = (1..=5).map(|last| SocketAddrV4::new(Ipv4Addr::new(239, a, b, last), 49_001)).collect();
        let is_free = |address: &SocketAddr| TcpListener::bind(address).is_ok();
        let mut candidates = (listen.port()..=u16::MAX).map(|port| SocketAddr::new(listen.ip(), port));
        Self { folder: folder.to_path_buf(), groups, listen: candidates.find(is_free).unwrap_or(listen) }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<PathBuf, String> {
        let path = self.at(name);
        std::fs::write(&path, bytes).map_err(|err| format!("{}: {err}", path.display()))?;
        Ok(path)
    }

    /// URL at the players' listener of `path` at the origin.
    fn url(&self, path: &str) -> String {
        format!("http://{}/{HOST}/{path}", self.listen)
    }

    fn headend(&self, rate_bps: u64, films: &[Film]) -> String {
        let [announcement, configuration, media, ..] = self.groups[..] else { return String::new() };
        let origin = self.at("origin");
        let mut text = format!(
            "[link]\nrate_bps = {rate_bps}\n[output]\ninterface = \"127.0.0.1\"\n\
             [sessions]\nannouncement = \"{announcement}\"\nconfiguration = \"{configuration}\"\nmedia = \"{media}\"\nsource = \"{DOWNLINK}\"\n\
             [carousel]\nannouncement_interval_ms = 500\nmanifest_interval_ms = 1000\nfdt_interval_ms = 500\nrescan_interval_ms = 100\n\
             [repair]\nreception_timeout_ms = 300\nrandom_back_off_ms = 100\n[fec.high]\ncode = \"raptorq\"\noverhead_percent = 20\nleast_repair = 10\n\
             [dvb_i]\nnames = {{ en = \"The demo\", de = \"Die Vorführung\" }}\ninterval_ms = 1000\nguides = [\"guide.json\"]\n\
             [[source]]\npath = {:?}\nbase = \"https://{HOST}/live/clock/\"\nname = \"clock\"\nclass = \"high\"\nreserved_bps = 1_000_000\n\
             [source.service]\nnames = {{ en = \"The Clock\", de = \"Die Uhr\" }}\nbanner = \"clock.png\"\nchannel = 1\n",
            origin.join("live/clock").display().to_string(),
        );
        for (number, Film { name, titles: [(one, first), (other, second)], description, .. }) in
            films.iter().enumerate()
        {
            text += &format!(
                "[[source]]\npath = {:?}\nbase = \"https://{HOST}/vod/{name}/\"\nname = \"{name}\"\n\
                 [source.service]\nnames = {{ {one} = {first:?}, {other} = {second:?} }}\ndescriptions = {{ en = {description:?} }}\n\
                 genres = [\"Movies\"]\nbanner = \"{name}.png\"\nchannel = {}\n",
                origin.join("vod").join(name).display().to_string(),
                number + 2,
            );
        }
        text
    }

    fn skycached(&self, origin: SocketAddr) -> String {
        format!(
            "[receive]\ninterface = \"127.0.0.1\"\nannouncement = []\n\
             [[session]]\naddress = \"{}\"\nsource = \"{DOWNLINK}\"\ntsi = 0\n\
             [store]\npath = {:?}\nquota_bytes = 100_000_000\nreserve_bytes = 0\nmemory_bytes = 50_000_000\n\
             [http]\nlisten = \"{}\"\nname = \"The demo\"\n[admin]\nsocket = {:?}\nlisten = []\n\
             [repair]\ncarousel_wait_ms = 0\n\
             [[origin]]\nhost = \"{HOST}\"\nurl = \"http://{origin}\"\n",
            self.groups[0],
            self.at("cache").display().to_string(),
            self.listen,
            self.at("admin.sock").display().to_string(),
        )
    }
}

/// A date of seconds since 1970, in the form of XML.
fn date(unix_s: u64) -> String {
    WallTime::from_unix_ms(i64::try_from(unix_s * 1000).unwrap_or(i64::MAX)).to_xml()
}

/// A number that looks random, the same each time (the finaliser of SplitMix64).
const fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// Half hours of the channel, from an hour ago to six hours ahead.
fn guide(now_s: u64) -> String {
    let slot_s = 1800;
    let first = now_s / slot_s - 2;
    let at = |slot: u64| date(slot * slot_s);
    let programmes: Vec<Value> = (first..first + 14)
        .map(|slot| {
            let (start, stop) = (at(slot), at(slot + 1));
            let title = format!("{} UTC", start.get(11..16).unwrap_or_default());
            json!({
                "channel": "clock", "start": start, "stop": stop,
                "title": { "en": title },
                "synopsis": { "en": "Second by second." },
            })
        })
        .collect();
    json!({ "channels": [{ "id": "clock", "names": { "en": "The Clock", "de": "Die Uhr" } }], "programmes": programmes }).to_string()
}

fn unix_s() -> u64 {
    clock::wall().unix_seconds()
}

/// Packages the channel as time passes.
async fn broadcast(mut channel: Channel, mut next_s: u64) -> Result<(), String> {
    loop {
        let end_ms = i64::try_from((next_s + SEGMENT_S) * 1000).unwrap_or(i64::MAX);
        let wait_ms = end_ms - clock::wall().unix_ms();
        tokio::time::sleep(Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0))).await;
        let added = tokio::task::spawn_blocking(move || {
            channel.add(next_s, |number| programmes::clock(next_s, number)).map(|()| channel)
        });
        channel = match added.await {
            Ok(added) => added.map_err(|err| format!("the channel cannot be written: {err}"))?,
            Err(err) => return Err(format!("the channel: {err}")),
        };
        next_s += SEGMENT_S;
    }
}

/// Makes the initial files: films, posters, the guide, and the first segments of the channel. Returns the second at which
/// the channel continues.
fn produce(stage: &Stage) -> Result<(Channel, u64, Vec<Film>), String> {
    let failed = |err: io::Error| format!("{}: {err}", stage.folder.display());
    let origin = stage.at("origin");
    let films = Vec::from(programmes::films().map_err(failed)?);
    for film in &films {
        let picture = |number: u64| film.pictures[number as usize].clone();
        package::film(&origin.join("vod").join(film.name), film.seconds, picture).map_err(failed)?;
        stage.write(&format!("{}.png", film.name), &film.poster)?;
    }
    let mut channel = Channel::new(&origin.join("live/clock")).map_err(failed)?;
    let begin_s = unix_s() - HEAD_START * SEGMENT_S;
    stage.write("clock.png", poster::clock().map_err(failed)?)?;
    stage.write("guide.json", guide(begin_s))?;
    for number in 0..HEAD_START {
        let begin_s = begin_s + number * SEGMENT_S;
        channel.add(begin_s, |picture| programmes::clock(begin_s, picture)).map_err(failed)?;
    }
    Ok((channel, begin_s + HEAD_START * SEGMENT_S, films))
}

async fn show(
    arguments: &Arguments,
    program: &Path,
    folder: &Path,
    stopped: impl Future<Output = ()>,
) -> Result<(), String> {
    let begin = clock::now();
    let stage = Stage::new(folder, arguments.listen);
    let (stage, made) = tokio::task::spawn_blocking(move || {
        let made = produce(&stage);
        (stage, made)
    })
    .await
    .map_err(|err| err.to_string())?;
    let (channel, next_s, films) = made?;
    let origin = Origin::start(&stage.at("origin")).await.map_err(|err| format!("the origin: {err}"))?;
    let link = Link::start(&stage.groups, arguments.seed, arguments.loss / 100.0)
        .map_err(|err| format!("multicast on loopback: {err}; is the interface lo up?"))?;
    let config = stage.write("skycached.toml", stage.skycached(origin.address))?;
    let (daemon, _) = Daemon::start(Config::load(&config)?, Listening::default())?;
    println!(
        "a channel and {} films ─▶ headend ─▶ {} at {} Mbit/s ─▶ link that loses {} % ─▶ skycached ─▶ http://{}",
        films.len(),
        stage.groups[2],
        arguments.rate_bps as f64 / 1e6,
        arguments.loss,
        stage.listen
    );
    let config = stage.write("headend.toml", stage.headend(arguments.rate_bps, &films))?;
    let mut sender = Sender::start(program, &config, stage.at("headend.log"))
        .map_err(|err| format!("{}: {err}", program.display()))?;
    let told = watch(arguments, &stage, &films, (&link, &origin, &mut sender), begin);
    let result = tokio::select! {
        result = told => result,
        result = broadcast(channel, next_s) => result,
        () = stopped => {
            println!("\nending");
            Ok(())
        }
    };
    drop(sender);
    daemon.stop().await;
    result
}

/// Content of `status` and `ls`.
#[derive(Debug, Default)]
struct CacheStatus {
    /// Objects of the films that are in the cache.
    held: usize,
    from_origin: usize,
    repaired: u64,
    recovered: u64,
}

impl CacheStatus {
    async fn of(access: &Access) -> Option<Self> {
        let status = admin::call(access, Method::GET, "/api/v1/status", &[]).await.ok()?;
        let objects = admin::call(access, Method::GET, "/api/v1/objects", &[]).await.ok()?;
        let prefix = format!("{HOST}/vod/");
        let films: Vec<&Value> = objects["objects"]
            .as_array()?
            .iter()
            .filter(|it| it["key"].as_str().is_some_and(|key| key.starts_with(&prefix)))
            .collect();
        let sessions = status["receive"]["sessions"].as_array()?;
        Some(Self {
            held: films.len(),
            from_origin: films.iter().filter(|it| it["came_by"] == "origin").count(),
            repaired: status["receive"]["objects_repaired"].as_u64().unwrap_or(0),
            recovered: sessions.iter().filter_map(|it| it["recovered"].as_u64()).sum(),
        })
    }
}

/// Shows the progress; with `--once`, until the films are complete and compared.
async fn watch(
    arguments: &Arguments,
    stage: &Stage,
    films: &[Film],
    (link, origin, sender): (&Link, &Origin, &mut Sender),
    begin: Instant,
) -> Result<(), String> {
    let access = Access::Socket(stage.at("admin.sock"));
    let files = files(&stage.at("origin/vod")).map_err(|err| format!("{}: {err}", stage.folder.display()))?;
    let is_terminal = io::stdout().is_terminal();
    let (mut is_served, mut is_complete, mut lines) = (false, false, 0_u64);
    loop {
        tokio::time::sleep(Duration::from_millis(if is_served { 1000 } else { 100 })).await;
        sender.is_running()?;
        let elapsed = clock::now().since(begin);
        if !is_served {
            if live_segment(stage).await.is_none() {
                if elapsed > PATIENCE {
                    return Err(format!(
                        "no segment came in {} s; is multicast on loopback filtered?",
                        PATIENCE.as_secs()
                    ));
                }
                continue;
            }
            is_served = true;
            println!("the first segment was served after {:.1} s", elapsed.as_secs_f64());
            if !arguments.once {
                addresses(stage, films, arguments.open);
            }
        }
        let Some(seen) = CacheStatus::of(&access).await else { continue };
        let (sent, lost) = link.counts();
        let early = match lost == 0 && (seen.recovered > 0 || seen.repaired > 0) {
            true => " (sent before the box had joined)",
            false => "",
        };
        let line = format!(
            "{sent} packets, {lost} lost ({:.1} %); FEC brought back {}; {} objects repaired{early}, {} whole from the origin, {} kB; films {}/{}",
            100.0 * lost as f64 / sent.max(1) as f64,
            seen.recovered,
            seen.repaired,
            seen.from_origin,
            origin.served_bytes() / 1000,
            seen.held,
            files.len(),
        );
        if is_terminal {
            print!("\r\x1b[K{line}");
            let _ = io::stdout().flush();
        } else if lines.is_multiple_of(10) || seen.held == files.len() && !is_complete {
            println!("{line}");
        }
        lines += 1;
        is_complete = seen.held == files.len();
        if arguments.once && is_complete {
            println!();
            return compare(stage, &files).await;
        }
        if arguments.once && elapsed > PATIENCE {
            return Err(format!("only {} of {} objects in {} s", seen.held, files.len(), PATIENCE.as_secs()));
        }
    }
}

fn addresses(stage: &Stage, films: &[Film], open: bool) {
    let page = format!("http://{}/", stage.listen);
    println!("\nopen in a browser:  {page}");
    println!("the channel:        {}", stage.url("live/clock/master.m3u8"));
    for film in films {
        println!(
            "{:<20}{}",
            format!("{}:", film.titles[0].1),
            stage.url(&format!("vod/{}/master.m3u8", film.name))
        );
    }
    println!("what the box does:  skycached status --watch -c {}", stage.at("skycached.toml").display());
    println!("\nCtrl-C ends\n");
    if open {
        let opened = Command::new("xdg-open").arg(&page).stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        if let Err(err) = opened {
            eprintln!("skycached: xdg-open: {err}; open {page} yourself");
        }
    }
}

/// Paths below `folder`, of files.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

/// Fetches the newest segment of the channel's playlist as a player does.
async fn live_segment(stage: &Stage) -> Option<Bytes> {
    let list = get(stage, "live/clock/video.m3u8").await.ok()?;
    let name = std::str::from_utf8(&list).ok()?.lines().next_back()?.to_owned();
    get(stage, &format!("live/clock/{name}")).await.ok()
}

async fn compare(stage: &Stage, files: &[PathBuf]) -> Result<(), String> {
    let root = stage.at("origin");
    for path in files {
        let name = path.strip_prefix(&root).unwrap_or(path).display().to_string();
        let wanted = std::fs::read(path).map_err(|err| format!("{}: {err}", path.display()))?;
        let served = get(stage, &name).await.map_err(|why| format!("{name}: {why}"))?;
        if served != wanted {
            return Err(format!("{name}: other bytes were served than sent"));
        }
    }
    println!("served over HTTP, byte for byte: {} of {} objects", files.len(), files.len());
    Ok(())
}

/// Response of the players' listener.
async fn get(stage: &Stage, path: &str) -> Result<Bytes, String> {
    let said = |err: &dyn std::fmt::Display| err.to_string();
    let stream = tokio::net::TcpStream::connect(stage.listen).await.map_err(|err| said(&err))?;
    let (mut client, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|err| said(&err))?;
    let connection = tokio::spawn(connection);
    let request = Request::get(format!("/{HOST}/{path}")).header("host", stage.listen.to_string());
    let request = request.body(Empty::<Bytes>::new()).map_err(|err| said(&err))?;
    let response = client.send_request(request).await.map_err(|err| said(&err))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|err| said(&err))?.to_bytes();
    connection.abort();
    if status == StatusCode::OK { Ok(body) } else { Err(status.to_string()) }
}
