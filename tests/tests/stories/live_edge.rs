//! Live before an origin: ten players in browsers play what FFmpeg packages at this moment through `skycached` with the shortest
//! configuration of the guide, and nginx is the origin. No faster ring shows how many requests to the origin real players cause,
//! and how far behind it they are.
//!
//! `LIVE_SECONDS=300` plays longer, `LIVE_ONLY=fmp4,dash` other channels, `LIVE_DIRECT=1` connects the players to nginx itself
//! for comparison, and `LIVE_LOG=FOLDER` keeps the logs and each player's report.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use skycache_tests::programs::{Program, find, have};
use skycache_tests::{Story, free_tcp_port, get};

use super::live_players::{Channel, Players, SEGMENT_S, channels, is_shown, packager, print_found, quantile};

const PATIENCE: Duration = Duration::from_secs(60);
/// Players of each pair of a channel and a player: ten of the five pairs of `fmp4`, `ts` and `dash`.
const PLAYERS_OF_EACH: usize = 2;
/// Most time of a request at the origin, milliseconds, on a machine that plays and packages.
const REQUEST_MS: f64 = 100.0;
/// Between two requests of the observer for one playlist.
const LOOK: Duration = Duration::from_millis(250);

/// nginx with its defaults before a folder. Its log is `nginx/access.log` in `dir`: time, status and target of each request.
pub(super) fn nginx(dir: &Path, folder: &Path, port: u16) -> Program {
    let at = dir.join("nginx");
    std::fs::create_dir_all(&at).unwrap();
    let config = at.join("nginx.conf");
    let (at, folder) = (at.display(), folder.display());
    std::fs::write(
        &config,
        format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\nevents {{}}\nhttp {{\n\
             types {{ application/vnd.apple.mpegurl m3u8; application/dash+xml mpd; video/mp4 m4s mp4; video/mp2t ts; }}\n\
             log_format looked '$msec $status $request_uri';\naccess_log {at}/access.log looked; client_body_temp_path {at}/b;\n\
             proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
             add_header Access-Control-Allow-Origin *; server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n"
        ),
    )
    .unwrap();
    let program = find("nginx").expect("nginx");
    let mut command = Command::new(program);
    command.arg("-c").arg(&config).arg("-e").arg(dir.join("nginx/error.log"));
    Program::start(command, &dir.join("nginx/log")).expect("nginx")
}

/// The last segment that a media playlist names, or the whole of another manifest.
fn newest(manifest: &str) -> String {
    let last = manifest.lines().rev().find(|line| !line.is_empty() && !line.starts_with('#'));
    last.filter(|_| manifest.starts_with("#EXTM3U")).unwrap_or(manifest).to_owned()
}

/// For how long what the box serves has not been the newest of the origin, milliseconds, in order of size: each time that it is looked
/// at, the time since the version behind the served one was written.
fn lags(story: &Story, file: &Path, path: &str, until: SystemTime) -> Vec<f64> {
    let mut versions: Vec<(SystemTime, String)> = Vec::new();
    let mut all = Vec::new();
    let seen = |versions: &mut Vec<(SystemTime, String)>| {
        let written = std::fs::metadata(file).and_then(|it| it.modified());
        let (Ok(written), Ok(text)) = (written, std::fs::read_to_string(file)) else { return };
        let text = newest(&text);
        if !text.is_empty() && versions.last().is_none_or(|(_, last)| *last != text) {
            versions.push((written, text));
        }
    };
    while SystemTime::now() < until {
        seen(&mut versions);
        let asked = SystemTime::now();
        let Ok(response) = get(story.http, path, &[]) else { continue };
        let served = newest(&String::from_utf8_lossy(&response.body));
        // What was written after the request says nothing about it.
        let next = versions.iter().position(|(_, it)| *it == served).and_then(|at| versions.get(at + 1));
        let behind = next.map(|(written, _)| asked.duration_since(*written).unwrap_or_default());
        if versions.iter().any(|(_, it)| *it == served) {
            all.push(behind.unwrap_or_default().as_secs_f64() * 1000.0);
        }
        std::thread::sleep(LOOK);
    }
    all.sort_by(f64::total_cmp);
    all
}

/// Requests at the origin for each manifest between two times, from nginx's log.
fn asked(log: &str, from: SystemTime, until: SystemTime) -> BTreeMap<String, usize> {
    let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let mut all = BTreeMap::new();
    for line in log.lines() {
        let mut words = line.split(' ');
        let at: f64 = words.next().and_then(|it| it.parse().ok()).unwrap_or(0.0);
        let path = words.nth(1).unwrap_or_default();
        if at >= seconds(from) && at < seconds(until) {
            *all.entry(path.to_owned()).or_insert(0) += 1;
        }
    }
    all
}

/// The playlist of the first rung, or the manifest itself.
fn rung(channel: &Channel) -> &'static str {
    if channel.manifest.ends_with(".mpd") { channel.manifest } else { "1.m3u8" }
}

#[test]
#[ignore = "minutes of ten players in a browser, on a machine with nothing else to do"]
fn ten_players_before_an_origin_are_one_at_the_origin_and_half_a_segment_behind() {
    if !have("ffmpeg") || !have("nginx") {
        return;
    }
    let Some(mut players) = Players::of(60) else { return };
    let seconds = players.seconds;
    let is_direct = std::env::var_os("LIVE_DIRECT").is_some();
    let channels = channels(&["fmp4", "ts", "dash"]);
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("live");
    std::fs::create_dir_all(&folder).unwrap();
    let port = free_tcp_port().port();
    let mut story = Story::new();
    let log = std::env::var("LIVE_LOG").unwrap_or_default();
    story.daemon_extra = format!("[[route]]\npath = \"/live/\"\nbase = \"http://127.0.0.1:{port}/\"\n");
    if !log.is_empty() {
        story.drop_in(&format!("[http.access_log]\npath = \"{log}/access.log\"\nformat = \"json\"\n"));
    }
    let _nginx = nginx(dir.path(), &folder, port);
    story.start_daemon();
    let mut packager = packager(&folder, &channels, story.http.port(), &dir.path().join("ffmpeg.log"));
    let path = |channel: &Channel, name: &str| format!("/live/{}/{name}", channel.name);
    for channel in &channels {
        let path = path(channel, rung(channel));
        story.until("the manifest is there", PATIENCE, |story| {
            get(story.http, &path, &[]).is_ok_and(|it| it.status == 200)
        });
    }
    // The window of a channel that is on the air is full.
    std::thread::sleep(Duration::from_secs(5 * SEGMENT_S));
    for channel in &channels {
        for player in channel.players.iter().flat_map(|it| std::iter::repeat_n(it, PLAYERS_OF_EACH)) {
            let at_box = format!("http://{}{}", story.http, path(channel, channel.manifest));
            let at_origin = format!("http://127.0.0.1:{port}/{}/{}", channel.name, channel.manifest);
            players.add(player, if is_direct { &at_origin } else { &at_box });
        }
    }
    let until = SystemTime::now() + Duration::from_secs(seconds);
    let from = SystemTime::now() + Duration::from_secs(seconds.min(10));
    let (all, lags) = std::thread::scope(|scope| {
        let watched: Vec<_> = channels
            .iter()
            .map(|channel| {
                let (file, path) =
                    (folder.join(channel.name).join(rung(channel)), path(channel, rung(channel)));
                let story = &story;
                scope.spawn(move || lags(story, &file, &path, until))
            })
            .collect();
        let all = players.play();
        (all, watched.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>())
    });
    let at_origin = std::fs::read_to_string(dir.path().join("nginx/access.log")).unwrap();
    if !log.is_empty() {
        std::fs::write(format!("{log}/players.json"), format!("{all:#}")).unwrap();
        std::fs::write(format!("{log}/origin.log"), &at_origin).unwrap();
        std::fs::write(format!("{log}/skycached.log"), story.daemon.as_ref().unwrap().log()).unwrap();
        std::fs::write(format!("{log}/ffmpeg.log"), packager.log()).unwrap();
    }
    assert!(packager.ended().is_none(), "{}", packager.log());
    let mut wrong = Vec::new();
    for (channel, lags) in channels.iter().zip(&lags) {
        let at = |part| quantile(lags, part);
        println!(
            "{}: {:.0} ms p50, {:.0} ms p95, {:.0} ms p99, {:.0} ms greatest behind the origin, {} looks",
            channel.name,
            at(50),
            at(95),
            at(99),
            lags.last().copied().unwrap_or(f64::NAN),
            lags.len()
        );
        // A version is fresh from the answer on: the time of the request comes on top of half a segment.
        if at(99).is_nan() || at(99) > SEGMENT_S as f64 * 500.0 + REQUEST_MS {
            wrong.push(format!("{}: {} ms behind the origin", channel.name, at(99)));
        }
    }
    let targets = until.duration_since(from).unwrap().as_secs_f64() / SEGMENT_S as f64;
    for (path, count) in asked(&at_origin, from, until).into_iter().filter(|_| !is_direct) {
        if path.ends_with(".m3u8") || path.ends_with(".mpd") {
            let each = count as f64 / targets;
            println!("{path}: {each:.2} requests at the origin in each target duration");
            if each > 1.1 {
                wrong.push(format!("{path}: {each:.2} requests at the origin in each target duration"));
            }
        } else if count > 1 {
            wrong.push(format!("{path}: {count} requests at the origin"));
        }
    }
    for found in all.as_array().unwrap() {
        print_found(found);
        if !is_shown(found, (seconds - SEGMENT_S) as f64) {
            wrong.push(format!("{found:#}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
