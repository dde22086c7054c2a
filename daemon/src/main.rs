//! The program `skycached`: arguments, calls into the library, output.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use http::Method;
use sd_notify::NotifyState;
use serde_json::{Value, json};
use skycache::cli::{Cli, Common, Verb};
use skycache::config::Config;
use skycache::listen::Listening;
use skycache::receive::ReceiveContext;
use skycache::replay::replay;
use skycache::running::Daemon;
use skycache::store::Store;
use skycache::{admin, doctor};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(code) => code,
        Err(why) => {
            for line in why.lines() {
                eprintln!("skycached: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode, String> {
    match verb {
        Verb::Run { config } => serve(&config),
        Verb::Check { common, seconds, deep } => check(&common, seconds, deep),
        Verb::Replay { recording, config } => replay_recording(&recording, config.as_deref()),
        Verb::Status(common) => {
            let value = ask(&common, Method::GET, "/api/v1/status", None)?;
            if common.json { print(&pretty(&value)) } else { print(&status_table(&value)) }
        }
        Verb::Ls(common) => {
            let value = ask(&common, Method::GET, "/api/v1/objects", None)?;
            if common.json { print(&pretty(&value)) } else { print(&object_table(&value)) }
        }
        Verb::Pin(it) => change(&it.common, "pin", ("key", &it.key)),
        Verb::Unpin(it) => change(&it.common, "unpin", ("key", &it.key)),
        Verb::Purge(it) => change(&it.common, "purge", ("key", &it.key)),
        Verb::Ban { pattern, common } => change(&common, "ban", ("pattern", &pattern)),
    }
}

type Reload = Box<dyn Fn(&str) -> Result<(), String>>;

/// Logs to stderr; under systemd without times, which the journal adds. The result changes the level.
fn start_log(config: &Config) -> Result<Reload, String> {
    let filter = |level: &str| {
        let wrong = |err| format!("[log] level = {level:?}: {err}; give error, warn, info, debug or trace");
        EnvFilter::builder().parse(level).map_err(wrong)
    };
    let (layer, handle) = tracing_subscriber::reload::Layer::new(filter(&config.log.level)?);
    let format = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let format = if std::env::var_os("JOURNAL_STREAM").is_some() {
        format.without_time().boxed()
    } else {
        format.boxed()
    };
    // A second start in one process is a test's; the first one's log stands.
    let _ = tracing_subscriber::registry().with(layer).with(format).try_init();
    Ok(Box::new(move |level| handle.reload(filter(level)?).map_err(|err| err.to_string())))
}

fn notify(states: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(states);
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|err| format!("cannot start: {err}"))
}

fn serve(path: &Path) -> Result<ExitCode, String> {
    let config = Config::load(path)?;
    let listening = Listening::from_environment()?;
    let set_level = start_log(&config)?;
    skycache::raise_open_files();
    let socket = config.admin.socket.clone();
    let listen = config.http.listen;
    runtime()?.block_on(async {
        let failed = |err: std::io::Error| format!("cannot handle signals: {err}");
        let mut term = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
        let (mut daemon, report) = Daemon::start(config, listening)?;
        tracing::info!(%listen, store = %daemon.parts().store.path().display(), %report, "serving");
        notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
        let period = sd_notify::watchdog_enabled().map_or(Duration::from_secs(30), |it| it / 2);
        let mut pulse = tokio::time::interval(period);
        loop {
            tokio::select! {
                _ = term.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => reload(&mut daemon, path, &set_level),
                _ = pulse.tick() => {
                    let usage = daemon.parts().store.usage();
                    let stand = daemon.parts().vitals.standing_still(skycache::clock::now());
                    if stand.is_empty() {
                        let status =
                            format!("serving {} objects, {} MB", usage.objects, usage.bytes / 1_000_000);
                        notify(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
                    } else {
                        // Without a word from us the watchdog ends this.
                        let stand = stand.join(", ");
                        tracing::error!(threads = stand, "stalled threads");
                        notify(&[NotifyState::Status(&format!("stalled: {stand}"))]);
                    }
                }
            }
        }
        tracing::info!("stopping");
        notify(&[NotifyState::Stopping]);
        daemon.stop().await;
        admin::forget(&socket);
        Ok(ExitCode::SUCCESS)
    })
}

fn reload(daemon: &mut Daemon, path: &Path, set_level: &Reload) {
    let mut states = vec![NotifyState::Reloading];
    states.extend(NotifyState::monotonic_usec_now());
    notify(&states);
    match Config::load(path) {
        Ok(config) => {
            if let Err(err) = set_level(&config.log.level) {
                tracing::error!("{err}");
            }
            let later = daemon.reload(config);
            if later.is_empty() {
                tracing::info!("configuration reloaded");
            } else {
                tracing::warn!(
                    tables = later.join(", "),
                    "configuration reloaded; these tables take effect at the next start"
                );
            }
        }
        Err(why) => {
            for line in why.lines() {
                tracing::error!("{line}");
            }
            tracing::error!("the configuration has mistakes; the previous one stays in force");
        }
    }
    notify(&[NotifyState::Ready]);
}

fn check(common: &Common, seconds: u64, deep: bool) -> Result<ExitCode, String> {
    let config = match Config::load(&common.config) {
        Ok(config) => config,
        Err(why) if common.json => {
            let findings: Vec<Value> = why
                .lines()
                .map(
                    |line| json!({ "about": "configuration", "severity": "error", "what": line, "mend": "" }),
                )
                .collect();
            print(&pretty(&json!({ "schema": 1, "healthy": false, "findings": findings })))?;
            return Ok(ExitCode::FAILURE);
        }
        Err(why) => return Err(why),
    };
    let is_running = std::os::unix::net::UnixStream::connect(&config.admin.socket).is_ok();
    let report = doctor::examine(&config, is_running, deep, Duration::from_secs(seconds.clamp(1, 600)));
    print(&if common.json {
        pretty(&report.to_json())
    } else {
        format!("{}: no mistakes\n{report}\n", common.config.display())
    })?;
    Ok(if report.is_healthy() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn replay_recording(recording: &Path, config: Option<&Path>) -> Result<ExitCode, String> {
    let mut own_folder = None;
    let config = match config {
        Some(path) => {
            let mut config = Config::load(path)?;
            // Memory ends with this process: what is replayed is for the daemon that starts on the store later.
            config.store.memory_bytes = 0;
            config
        }
        None => {
            let folder = std::env::temp_dir().join(format!("skycached-replay-{}", std::process::id()));
            let mut config = Config::default();
            config.store.path.clone_from(&folder);
            config.store.reserve_bytes = 0;
            config.log.level = "warn".to_owned();
            own_folder = Some(folder);
            config
        }
    };
    let _set_level = start_log(&config)?;
    let summary = skycache::as_owner_of(&config.store.path, || {
        let (store, _) = Store::open(&config.store).map_err(|err| err.to_string())?;
        let context = ReceiveContext::new(store.clone());
        let mut directory =
            carousel::mabr::Directory::new(config.session_options().join_policy(), Vec::new());
        let base = config.transport_streams.first().and_then(|it| it.base.clone());
        let summary = replay(recording, base, &context, &mut directory);
        if own_folder.is_none() {
            store.close();
        }
        summary
    });
    if let Some(folder) = own_folder
        && let Err(err) = std::fs::remove_dir_all(&folder)
    {
        eprintln!("skycached: {}: {err}", folder.display());
    }
    print(&pretty(&summary?.0))
}

fn ask(
    common: &Common,
    method: Method,
    path: &str,
    parameter: Option<(&str, &str)>,
) -> Result<Value, String> {
    let socket = Config::load(&common.config)?.admin.socket;
    runtime()?.block_on(admin::call(&socket, method, path, parameter))
}

fn change(common: &Common, action: &str, parameter: (&str, &str)) -> Result<ExitCode, String> {
    let value = ask(common, Method::POST, &format!("/api/v1/{action}"), Some(parameter))?;
    if common.json {
        return print(&pretty(&value));
    }
    match value["purged"].as_u64() {
        Some(count) => print(&format!("{count} objects purged\n")),
        None => print(&format!("{action}: {}\n", value["key"].as_str().unwrap_or_default())),
    }
}

fn megabytes(value: &Value) -> String {
    let bytes = value.as_u64().unwrap_or(0);
    format!("{}.{:02} MB", bytes / 1_000_000, bytes % 1_000_000 / 10_000)
}

/// `name: count, …` of an object with counters; `none` if there are none.
fn listed(value: &Value) -> String {
    let all: Vec<String> =
        value.as_object().into_iter().flatten().map(|(name, count)| format!("{name} {count}")).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// Bytes written to flash, and the estimate of its life.
fn flash(store: &Value) -> String {
    let flash = &store["flash"];
    let mut text = format!("{} written today", megabytes(&flash["today_bytes"]));
    if flash["budget_bytes_per_day"].as_u64() > Some(0) {
        text.push_str(&format!(" of {} a day", megabytes(&flash["budget_bytes_per_day"])));
    }
    text.push_str(&format!(", {} in total", megabytes(&flash["total_bytes"])));
    if let Some(days) = flash["life_days"].as_f64() {
        text.push_str(&format!("; expected life {:.1} years", days / 365.25));
    }
    if store["disk"] != "fine" {
        text.push_str(&format!(
            "; THE DISK IS {}",
            store["disk"].as_str().unwrap_or_default().to_uppercase()
        ));
    }
    if store["unverified"].as_u64() > Some(0) {
        text.push_str(&format!("; {} objects not verified yet", store["unverified"]));
    }
    text
}

fn status_table(status: &Value) -> String {
    let (store, receive, flights) = (&status["store"], &status["receive"], &status["flights"]);
    let (repair, origin, http) = (&status["repair"], &status["origin"], &status["http"]);
    let mut out = String::new();
    let mut row = |name: &str, text: String| out.push_str(&format!("{name:<10} {text}\n"));
    row(
        "cache",
        format!(
            "{} objects, {} of {} in {}; evicted: {}",
            store["objects"],
            megabytes(&store["bytes"]),
            megabytes(&store["quota_bytes"]),
            store["path"].as_str().unwrap_or_default(),
            listed(&store["evicted"])
        ),
    );
    row(
        "memory",
        format!("{} of {}", megabytes(&store["memory_bytes"]), megabytes(&store["memory_quota_bytes"])),
    );
    row("flash", flash(store));
    row(
        "received",
        format!(
            "{} objects, {} of them repaired; {} packets, {}; lost {}, dropped by the kernel {}",
            receive["objects"],
            receive["objects_repaired"],
            receive["datagrams"],
            megabytes(&receive["bytes"]),
            receive["lost"],
            receive["kernel_drops"]
        ),
    );
    row(
        "in flight",
        format!(
            "{}, announced {}; failed: {}",
            flights["now"].as_array().map_or(0, Vec::len),
            flights["announced"],
            listed(&flights["failed"])
        ),
    );
    row(
        "repair",
        format!(
            "{} in {} requests; {}",
            megabytes(&repair["bytes"]),
            repair["requests"],
            listed(&repair["outcomes"])
        ),
    );
    row(
        "origin",
        format!(
            "{} requests, {}; failures: {}",
            origin["requests"],
            megabytes(&origin["bytes"]),
            listed(&origin["failures"])
        ),
    );
    row(
        "players",
        format!(
            "{} connections; responses: {}; hits {}",
            http["connections"],
            listed(&http["responses"]),
            http["hits"]
        ),
    );
    let catalog = &status["catalog"];
    row(
        "catalogue",
        format!(
            "lists {}, titles {}, entries of the guide {}; left out: {}",
            catalog["lists"],
            catalog["titles"],
            catalog["guide_entries"],
            listed(&catalog["left_out"])
        ),
    );
    for group in receive["groups"].as_array().into_iter().flatten() {
        let text = |name: &str| group[name].as_str().unwrap_or_default().to_owned();
        let state = if group["error"].is_null() { text("why") } else { text("error") };
        row("group", format!("{}:{} {state}", text("group"), group["port"]));
    }
    for stream in receive["transport_streams"].as_array().into_iter().flatten() {
        let text = |name: &str| stream[name].as_str().unwrap_or_default().to_owned();
        let signal = &stream["signal"];
        let measured = |name: &str, unit: &str| {
            signal[name].as_f64().map_or_else(String::new, |value| format!(", {value:.1} {unit}"))
        };
        let lock = match signal["locked"].as_bool() {
            Some(true) => ", lock",
            Some(false) => ", NO LOCK",
            None => "",
        };
        let split = match stream["split_packets"].as_u64() {
            None | Some(0) => String::new(),
            Some(count) => format!("; {count} packets split between datagrams: send multiples of 188 bytes"),
        };
        let state = if stream["error"].is_null() {
            format!(
                "{} packets, {} frames{lock}{}{}{}{}; {} gaps; {} datagrams, {} files; dropped: {}{split}",
                stream["packets"],
                stream["frames"],
                measured("strength_dbm", "dBm"),
                measured("strength_percent", "% strength"),
                measured("snr_db", "dB C/N"),
                measured("quality_percent", "% quality"),
                stream["continuity_errors"],
                stream["datagrams"],
                stream["files"],
                listed(&stream["dropped"])
            )
        } else {
            text("error")
        };
        row("stream", format!("{} {state}", text("from")));
        for carousel in stream["carousels"].as_array().into_iter().flatten() {
            row(
                "carousel",
                format!(
                    "PID {}: {} of {} modules whole, {} files under {}",
                    carousel["pid"],
                    carousel["modules_whole"],
                    carousel["modules"],
                    carousel["files"],
                    carousel["base"].as_str().unwrap_or_default()
                ),
            );
        }
    }
    for session in receive["sessions"].as_array().into_iter().flatten() {
        let text = |name: &str| session[name].as_str().unwrap_or_default().to_owned();
        row(
            "session",
            format!(
                "{}:{} from {} TSI {}: {} packets, {}, lost {}{}; {} described, {} in flight; dropped: {}",
                text("group"),
                session["port"],
                text("source"),
                session["tsi"],
                session["packets"],
                megabytes(&session["bytes"]),
                session["lost"],
                match session["recovered"].as_u64() {
                    None | Some(0) => String::new(),
                    Some(symbols) => format!(", {symbols} symbols recovered"),
                },
                session["described"],
                session["in_flight"],
                listed(&session["dropped"])
            ),
        );
    }
    out
}

fn object_table(objects: &Value) -> String {
    let mut out = format!("{:>12}  {:<17} {:<20} key\n", "bytes", "came by", "received");
    for object in objects["objects"].as_array().into_iter().flatten() {
        let text = |name: &str| object[name].as_str().unwrap_or_default();
        out.push_str(&format!(
            "{:>12}  {:<17} {:<20} {}\n",
            object["length"].to_string(),
            text("came_by"),
            text("received_at").get(..19).unwrap_or_default(),
            text("key")
        ));
    }
    for flight in objects["in_flight"].as_array().into_iter().flatten() {
        let text = |name: &str| flight[name].as_str().unwrap_or_default();
        let share = format!("{}/{}", flight["received_bytes"], flight["length"]);
        out.push_str(&format!("{share:>12}  {:<17} {:<20} {}\n", "on its way", text("from"), text("key")));
    }
    out
}

fn pretty(document: &Value) -> String {
    format!("{document:#}\n")
}

/// Prints to stdout; a reader that has gone away (`| head`) is no failure.
fn print(text: &str) -> Result<ExitCode, String> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(err) if err.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("stdout: {err}")),
        _ => Ok(ExitCode::SUCCESS),
    }
}
