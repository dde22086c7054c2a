//! The program `skycached`: arguments, calls into the library, output.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use carousel::route::lls::ServiceDirectory;
use clap::{CommandFactory as _, Parser as _};
use http::Method;
use sd_notify::NotifyState;
use serde_json::{Value, json};
use skycache::cli::{self, AdminTarget, Cli, CommonArgs, FirmwareAction, TrustAction, Verb};
use skycache::config::Config;
use skycache::listen::Listening;
use skycache::receive::ReceiveContext;
use skycache::replay::{Directories, replay};
use skycache::running::Daemon;
use skycache::store::Store;
use skycache::{admin, doctor, firmware as slots, logs, screen};
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
        Verb::Run { config, print_config: true } => print_config(&config),
        Verb::Run { config, print_config: false } => serve(&config),
        Verb::Check { common, print_config: true, .. } => print_config(&common.config),
        Verb::Check { common, seconds, deep, .. } => check(&common, seconds, deep),
        Verb::Replay { recording, config } => replay_recording(&recording, config.as_deref()),
        Verb::Status { target, watch } => status(&target, watch),
        Verb::Ls { target, listing } => {
            let mut value = ask(&target, Method::GET, "/api/v1/objects", &[])?;
            screen::select(&mut value, &listing);
            let now = skycache::clock::wall();
            if target.common.json { print(&pretty(&value)) } else { print(&screen::objects(&value, now)) }
        }
        Verb::Pin(it) => change(&it.target, "pin", &[("key", &it.key)]),
        Verb::Unpin(it) => change(&it.target, "unpin", &[("key", &it.key)]),
        Verb::Purge(it) => change(&it.target, "purge", &it.parameters()),
        Verb::Ban { pattern, soft, yes, target } => {
            let mut parameters = vec![("pattern", pattern.as_str())];
            parameters.extend(cli::flags(soft, yes));
            change(&target, "ban", &parameters)
        }
        Verb::Trust { action: TrustAction::List { target } } => {
            let value = ask(&target, Method::GET, "/api/v1/trust", &[])?;
            if target.common.json { print(&pretty(&value)) } else { print(&screen::trust(&value)) }
        }
        Verb::Trust { action: TrustAction::Confirm(it) } => {
            change(&it.target, "trust/confirm", &[("key", &it.key)])
        }
        Verb::Trust { action: TrustAction::Forget(it) } => {
            change(&it.target, "trust/forget", &[("key", &it.key)])
        }
        #[cfg(feature = "demo")]
        Verb::Demo(arguments) => {
            let mut config = Config::default();
            config.log.level = "error".to_owned();
            let _set_level = start_log(&config)?;
            skycache::raise_open_files();
            runtime()?.block_on(skycache::demo::run(&arguments)).map(|()| ExitCode::SUCCESS)
        }
        Verb::Firmware { action } => firmware(action),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "skycached", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn print_config(path: &Path) -> Result<ExitCode, String> {
    let text = Config::load(path)?.to_toml()?;
    print(&format!("# {}, with every default\n{text}", path.display()))
}

/// Once, or every `watch` seconds until interrupted.
fn status(target: &AdminTarget, watch: Option<u64>) -> Result<ExitCode, String> {
    loop {
        let value = ask(target, Method::GET, "/api/v1/status", &[])?;
        let text = if target.common.json { pretty(&value) } else { screen::status(&value) };
        let Some(seconds) = watch else { return print(&text) };
        // Home, and nothing below: a terminal shows one table that changes.
        let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
        print(&format!("{clear}{text}"))?;
        std::thread::sleep(Duration::from_secs(seconds.max(1)));
    }
}

/// Whether output to a terminal may have colours (no-color.org).
fn may_colour(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}

type Reload = Box<dyn Fn(&str) -> Result<(), String>>;

/// Logs to stderr, and to the memory of the newest lines; under systemd without times, which the journal adds. The result changes the level.
fn start_log(config: &Config) -> Result<Reload, String> {
    let filter = |level: &str| {
        let wrong = |err| format!("[log] level = {level:?}: {err}; give error, warn, info, debug or trace");
        // The audit log is on at every level; `skycache::audit=off` turns it off. The Kafka client logs each of its attempts;
        // this program logs those that matter.
        EnvFilter::builder().parse(format!("{}=info,rskafka=off,{level}", admin::AUDIT)).map_err(wrong)
    };
    let (layer, handle) = tracing_subscriber::reload::Layer::new(filter(&config.log.level)?);
    let format = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(may_colour(std::io::stderr().is_terminal()));
    let format = if std::env::var_os("JOURNAL_STREAM").is_some() {
        format.without_time().boxed()
    } else {
        format.boxed()
    };
    // A second start in one process is a test's; the first one's log stands.
    let _ = tracing_subscriber::registry().with(layer).with(format).with(logs::recorder()).try_init();
    Ok(Box::new(move |level| handle.reload(filter(level)?).map_err(|err| err.to_string())))
}

fn notify(states: &[NotifyState<'_>]) {
    // Without systemd there is no receiver of these messages.
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
    let listen: Vec<String> = config.http.listen.iter().map(ToString::to_string).collect();
    let listen = listen.join(", ");
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
        let is_terminated = loop {
            tokio::select! {
                _ = term.recv() => break true,
                _ = interrupt.recv() => break false,
                _ = hangup.recv() => reload(&mut daemon, path, &set_level),
                _ = pulse.tick() => {
                    let usage = daemon.parts().store.usage();
                    let stand = daemon.parts().vitals.standing_still(skycache::clock::now());
                    if stand.is_empty() {
                        let status =
                            format!(
                                "serving {}, {} MB",
                                screen::counted(usage.objects, "object"),
                                usage.bytes / 1_000_000
                            );
                        notify(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
                    } else {
                        // Without a word from us the watchdog ends this.
                        let stand = stand.join(", ");
                        tracing::error!(threads = stand, "stalled threads");
                        notify(&[NotifyState::Status(&format!("stalled: {stand}"))]);
                    }
                }
            }
        };
        notify(&[NotifyState::Stopping]);
        let delay = daemon.drain();
        if is_terminated && !delay.is_zero() {
            tracing::info!(
                seconds = delay.as_secs_f64(),
                "draining: /readyz and /-/health answer 503, and players are still accepted"
            );
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        tracing::info!("stopping");
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

fn check(common: &CommonArgs, seconds: u64, deep: bool) -> Result<ExitCode, String> {
    let config = match Config::load(&common.config) {
        Ok(config) => config,
        Err(why) if common.json => {
            let findings: Vec<Value> = why
                .lines()
                .map(|line| json!({ "about": "configuration", "severity": "error", "what": line, "fix": "" }))
                .collect();
            print(&pretty(&json!({ "schema": 1, "healthy": false, "findings": findings })))?;
            return Ok(ExitCode::FAILURE);
        }
        Err(why) => return Err(why),
    };
    let is_running = std::os::unix::net::UnixStream::connect(&config.admin.socket).is_ok();
    let report = doctor::examine(&config, is_running, deep, Duration::from_secs(seconds.clamp(1, 600)));
    print(&if common.json {
        pretty(&doctor::to_json(&report))
    } else {
        let has_colours = may_colour(std::io::stdout().is_terminal());
        report.to_text(&common.config.display().to_string(), has_colours)
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
        let trust = skycache::trust::recalled(&config.trust, &config.store.path)?;
        let context = ReceiveContext { trust, ..ReceiveContext::new(store.clone()) };
        let sessions = carousel::mabr::Directory::new(config.session_options().join_policy(), Vec::new());
        let base = config.transport_streams.first().and_then(|it| it.base.clone());
        let mut groups = config.receive.lls.clone();
        groups.push(carousel::route::lls::GROUP);
        let mut directories = Directories { sessions, atsc: ServiceDirectory::default(), groups };
        let summary = replay(recording, base, &context, &mut directories);
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
    target: &AdminTarget,
    method: Method,
    path: &str,
    parameters: &[(&str, &str)],
) -> Result<Value, String> {
    let access = match &target.admin {
        Some(url) => admin::Access::to_url(url, target.token_file.as_deref(), target.ca.as_deref())?,
        None => admin::Access::Socket(Config::load(&target.common.config)?.admin.socket),
    };
    runtime()?.block_on(admin::call(&access, method, path, parameters))
}

fn change(target: &AdminTarget, action: &str, parameters: &[(&str, &str)]) -> Result<ExitCode, String> {
    let value = ask(target, Method::POST, &format!("/api/v1/{action}"), parameters)?;
    if target.common.json {
        return print(&pretty(&value));
    }
    if value["lasts"] == false {
        eprintln!(
            "skycached: the disk took no note of it: the next start may bring back what is on it; see `skycached status`"
        );
    }
    for name in value["missing"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("skycached: {name} is not in the cache; `skycached ls --filter NAME` lists what is");
    }
    if let Some(hint) = value["hint"].as_str() {
        eprintln!("skycached: {hint}");
    }
    match value["purged"].as_u64().filter(|_| value["key"].is_null()) {
        Some(1) => print("1 object purged\n"),
        Some(count) => print(&format!("{count} objects purged\n")),
        None => print(&format!("{action}: {}\n", value["key"].as_str().unwrap_or_default())),
    }
}

fn firmware(action: FirmwareAction) -> Result<ExitCode, String> {
    let paths = slots::Paths::default();
    let done = firmware_action(&paths, action);
    // After success or failure, the daemon shows the current slots.
    slots::publish(&paths);
    done
}

/// Slots of an appliance, and what a running daemon says of offers.
fn firmware_status(paths: &slots::Paths, target: &AdminTarget) -> Result<Value, String> {
    let answer = ask(target, Method::GET, "/api/v1/firmware", &[]);
    let is_appliance = slots::is_appliance(paths);
    let (mut value, error) = match (slots::status(paths), answer) {
        (Ok(mut value), Ok(mut answer)) => {
            value["offered"] = answer["offered"].take();
            (value, None)
        }
        (Ok(value), Err(err)) => (value, Some(err)),
        // Without the right to read the EFI partition, slots are shown as root's last command has left them.
        (Err(_), Ok(answer)) => (answer, None),
        (Err(why), Err(err)) if is_appliance => return Err(format!("{why}; {err}")),
        (Err(_), Err(err)) => {
            return Err(format!("this is not an appliance, and no daemon says what is offered: {err}"));
        }
    };
    value["appliance"] = is_appliance.into();
    value["error"] = error.into();
    Ok(value)
}

fn firmware_action(paths: &slots::Paths, action: FirmwareAction) -> Result<ExitCode, String> {
    let (value, as_json) = match action {
        FirmwareAction::Status { target } => (firmware_status(paths, &target)?, target.common.json),
        FirmwareAction::Check { bundle: None, target } => {
            let offered = ask(&target, Method::GET, "/api/v1/firmware", &[])?["offered"].take();
            (json!({ "schema": 1, "offered": offered }), target.common.json)
        }
        FirmwareAction::HandOver { bundle } => {
            slots::hand_over(paths, &bundle)?;
            return Ok(ExitCode::SUCCESS);
        }
        FirmwareAction::Take => {
            slots::take(paths)?;
            return Ok(ExitCode::SUCCESS);
        }
        FirmwareAction::Check { bundle: Some(bundle), target } => {
            let json = target.common.json;
            let value = slots::check_bundle(paths, &bundle)?;
            let code = if value["accepted"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            print(&if json { pretty(&value) } else { screen::firmware(&value) })?;
            return Ok(code);
        }
        FirmwareAction::Install { bundle, json } => (slots::install(paths, &bundle)?, json),
        FirmwareAction::Rollback { json } => (slots::rollback(paths)?, json),
        FirmwareAction::MarkGood { common, wait } => {
            let listen = Config::load(&common.config)?.http.listen;
            let listen = *listen.first().ok_or("[http] listen names no address")?;
            (slots::mark_good(paths, listen, Duration::from_secs(wait))?, common.json)
        }
        FirmwareAction::Backend { arguments } => return print(&slots::backend(paths, &arguments)?),
    };
    print(&if as_json { pretty(&value) } else { screen::firmware(&value) })
}

fn pretty(document: &Value) -> String {
    format!("{document:#}\n")
}

/// Prints to stdout; a reader that has gone away (`| head`) is not a failure.
fn print(text: &str) -> Result<ExitCode, String> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(err) if err.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("stdout: {err}")),
        _ => Ok(ExitCode::SUCCESS),
    }
}
