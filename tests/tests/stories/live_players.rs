//! Live in real players: hls.js, dash.js and Shaka in a browser on a channel that FFmpeg packages at this moment, over a lossy
//! link, with the settings of the guide and the programs. No faster ring shows that foreign players keep playing at the live
//! edge.
//!
//! `LIVE_SECONDS=300` plays longer, `LIVE_ONLY=ts,dash,llroute` other channels, `LIVE_ORIGIN=1` with an origin, `LIVE_LOSS=0.1` with
//! more losses than the protection is designed for, and `LIVE_LOG=FOLDER` keeps logs and each player's output.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use linksim::Profile;
use serde_json::Value;
use skycache_tests::programs::{Program, find, have, program};
use skycache_tests::relay::{DOWNLINK, Relay};
use skycache_tests::{Origin, Story, get};

use super::packages::{modules, scripts};

const PATIENCE: Duration = Duration::from_secs(60);
const LOSS: f64 = 0.02;
/// Part of the time in which a picture moves, on a machine that other tests keep busy. A segment that is lost stops it for ten
/// seconds.
const LEAST_SHOWN: f64 = 0.5;
/// Seconds of a segment.
pub(super) const SEGMENT_S: u64 = 2;

/// A channel: its folder, its manifest, and the players that play it.
pub(super) struct Channel {
    pub(super) name: &'static str,
    pub(super) manifest: &'static str,
    /// FFmpeg's options, the manifest left out.
    output: &'static str,
    /// Of its source, behind the guide's.
    extra: &'static str,
    pub(super) players: &'static [&'static str],
}

/// DASH with low latency.
const LOW_LATENCY: &str = "-f dash -seg_duration 2 -frag_duration 0.2 -ldash 1 -streaming 1 -window_size 10 -extra_window_size 5 \
                           -use_template 1 -use_timeline 0 -target_latency 2 -write_prft 1 \
                           -utc_timing_url http://127.0.0.1:%PORT%/ %SETS% %FOLDER%/live.mpd";

/// The guide's segment mode in each format, and its low latency by both protocols.
const CHANNELS: &[Channel] = &[
    Channel {
        name: "fmp4",
        manifest: "master.m3u8",
        output: "-f hls -hls_time 2 -hls_list_size 10 -hls_flags delete_segments+temp_file+independent_segments \
                 -hls_segment_type fmp4 -master_pl_name master.m3u8 -hls_segment_filename %FOLDER%/%v-%05d.m4s %MAP% \
                 %FOLDER%/%v.m3u8",
        extra: "",
        players: &["hls.js", "shaka"],
    },
    Channel {
        name: "ts",
        manifest: "master.m3u8",
        output: "-f hls -hls_time 2 -hls_list_size 10 -hls_flags delete_segments+temp_file+independent_segments \
                 -master_pl_name master.m3u8 -hls_segment_filename %FOLDER%/%v-%05d.ts %MAP% %FOLDER%/%v.m3u8",
        extra: "",
        players: &["hls.js"],
    },
    Channel {
        name: "dash",
        manifest: "live.mpd",
        output: "-f dash -seg_duration 2 -window_size 10 -extra_window_size 5 -use_template 1 -use_timeline 1 \
                 %SETS% %FOLDER%/live.mpd",
        extra: "",
        players: &["dash.js", "shaka"],
    },
    Channel {
        name: "lldash",
        manifest: "live.mpd",
        output: LOW_LATENCY,
        extra: "chunk_ms = \"200 ms\"\n",
        players: &["dash.js", "shaka"],
    },
    Channel {
        name: "llroute",
        manifest: "live.mpd",
        output: LOW_LATENCY,
        extra: "chunk_ms = \"200 ms\"\nprotocol = \"route\"\n",
        players: &["dash.js", "shaka"],
    },
];

const ENCODER: &str = "-map 0 -map 1 -map 2 -map 3 -c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 50 \
                       -keyint_min 50 -sc_threshold 0 -b:v:0 500k -b:v:1 300k -b:v:2 150k -c:a aac -ac 2 -b:a 64k";
const RENDITIONS: &str = "a:0,agroup:a,default:yes v:0,agroup:a v:1,agroup:a v:2,agroup:a";

/// The guide's protection, which is that of its low latency for all.
const FEC: &str = "[fec.high]\ncode = \"raptorq\"\noverhead_percent = \"30 %\"\nleast_repair = 12\n";

/// The channels with these names, or those that `LIVE_ONLY` names.
pub(super) fn channels(names: &[&str]) -> Vec<&'static Channel> {
    let only = std::env::var("LIVE_ONLY").ok();
    let is_wanted = |channel: &&Channel| match &only {
        Some(only) => only.split(',').any(|it| it == channel.name),
        None => names.contains(&channel.name),
    };
    CHANNELS.iter().filter(is_wanted).collect()
}

/// FFmpeg as packager of all channels: three rungs and sound, encoded for each, in real time.
pub(super) fn packager(folder: &Path, channels: &[&Channel], port: u16, log: &Path) -> Program {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "warning"]);
    for size in ["320x180", "256x144", "192x108"] {
        command.args(["-re", "-f", "lavfi", "-i", &format!("testsrc2=size={size}:rate=25")]);
    }
    command.args(["-re", "-f", "lavfi", "-i", "sine=440:sample_rate=48000"]);
    for channel in channels {
        let folder = folder.join(channel.name);
        std::fs::create_dir_all(&folder).unwrap();
        command.args(ENCODER.split_whitespace());
        for word in channel.output.split_whitespace() {
            let word =
                word.replace("%FOLDER%", folder.to_str().unwrap()).replace("%PORT%", &port.to_string());
            match word.as_str() {
                "%MAP%" => command.args(["-var_stream_map", RENDITIONS]),
                "%SETS%" => command.args(["-adaptation_sets", "id=0,streams=v id=1,streams=a"]),
                _ => command.arg(word),
            };
        }
    }
    Program::start(command, log).expect("ffmpeg")
}

/// The guide's configuration, with a source for each channel.
fn headend_config(story: &Story, folder: &Path, channels: &[&Channel]) -> PathBuf {
    let [announcement, configuration, media] = story.groups;
    let mut text = format!(
        "[link]\nrate_bps = \"20 Mbit/s\"\n[output]\ninterface = \"127.0.0.1\"\n[sessions]\nannouncement = \"{announcement}\"\n\
         configuration = \"{configuration}\"\nmedia = \"{media}\"\nsource = \"{DOWNLINK}\"\n{FEC}"
    );
    for channel in channels {
        text += &format!(
            "[[source]]\npath = {:?}\nbase = \"{}\"\nname = \"{}\"\nclass = \"high\"\nreserved_bps = \"3 Mbit/s\"\n{}",
            folder.join(channel.name).display().to_string(),
            url(channel, ""),
            channel.name,
            channel.extra,
        );
    }
    let path = story.dir().join("headend.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn url(channel: &Channel, name: &str) -> String {
    format!("{}{}/{name}", skycache_tests::media::BASE, channel.name)
}

fn path(channel: &Channel, name: &str) -> String {
    Story::path_of(&format!("{}/{name}", channel.name))
}

/// The box's shipped settings, where the harness has others.
const SHIPPED: &str =
    "[http]\nwait_ms = 10_000\n[repair]\nreception_timeout_ms = 2000\nrandom_back_off_ms = 1000\n";

/// From a segment's last byte on the packager's disk until the box has it whole, milliseconds, in order of size. And
/// the longest time between two segments of the packager, which a busy machine delays, too.
fn delays(story: &Story, folder: &Path, channel: &Channel, until: SystemTime) -> (Vec<f64>, Duration) {
    let (mut all, mut seen) = (Vec::new(), std::collections::HashSet::new());
    let (mut last, mut pause) = (None, Duration::ZERO);
    for entry in std::fs::read_dir(folder.join(channel.name)).unwrap().flatten() {
        seen.insert(entry.file_name());
    }
    while SystemTime::now() < until {
        std::thread::sleep(Duration::from_millis(5));
        for entry in std::fs::read_dir(folder.join(channel.name)).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let is_segment = name.ends_with(".ts") || name.ends_with(".m4s");
            // Of one rung: requests for all of them in turn would measure the others.
            let is_first_rung = name.starts_with("1-") || name.starts_with("chunk-stream0-");
            if !is_segment || !is_first_rung || !seen.insert(entry.file_name()) {
                continue;
            }
            let Ok(response) = get(story.http, &path(channel, &name), &[]) else { continue };
            let Ok(written) = entry.metadata().and_then(|it| it.modified()) else { continue };
            let since = last.replace(written).and_then(|last| written.duration_since(last).ok());
            pause = pause.max(since.unwrap_or_default());
            if response.status == 200 && response.whole {
                all.push(written.elapsed().unwrap_or_default().as_secs_f64() * 1000.0);
            }
        }
    }
    all.sort_by(f64::total_cmp);
    (all, pause)
}

/// Players in a browser, each for some seconds.
pub(super) struct Players {
    pub(super) seconds: u64,
    command: Command,
}

impl Players {
    /// None yet; for `seconds`, or as long as `LIVE_SECONDS` says. `None`: the browser or its players are not there.
    pub(super) fn of(seconds: u64) -> Option<Self> {
        let chromium = std::env::var_os("CHROMIUM").map(PathBuf::from).or_else(|| find("chromium"));
        let Some(chromium) = chromium else {
            eprintln!("SKIPPED: chromium is not installed");
            return None;
        };
        let given = std::env::var_os("NODE_MODULES").map(PathBuf::from);
        let modules = given.or_else(|| modules().map(Path::to_owned))?;
        let seconds = std::env::var("LIVE_SECONDS").ok().and_then(|it| it.parse().ok()).unwrap_or(seconds);
        let mut command = Command::new("node");
        command.arg(scripts().join("live.mjs")).args(["--seconds", &seconds.to_string()]);
        command.env("NODE_MODULES", modules).env("CHROMIUM", chromium);
        Some(Self { seconds, command })
    }

    pub(super) fn add(&mut self, player: &str, url: &str) {
        self.command.args([player, url]);
    }

    /// The findings of each.
    pub(super) fn play(&mut self) -> Value {
        let output = self.command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|err| panic!("{err}: {said}"))
    }
}

/// One line of what a player has found.
pub(super) fn print_found(found: &Value) {
    println!(
        "{} {}: first frame after {} ms, {:.1} s shown, live edge {}, {} standstills {}, {} jumps {}, {} errors, refused {}",
        found["player"].as_str().unwrap(),
        found["url"].as_str().unwrap().rsplit('/').nth(1).unwrap(),
        found["first_ms"].as_f64().unwrap_or(f64::NAN).round(),
        found["shown_s"].as_f64().unwrap_or(0.0),
        found["edge_s"],
        found["still"].as_array().unwrap().len(),
        found["still"],
        found["jumps"].as_array().unwrap().len(),
        found["jumps"],
        found["errors"],
        found["refused"],
    );
}

/// Whether a player has shown its picture for at least so many seconds, without an error.
pub(super) fn is_shown(found: &Value, least_s: f64) -> bool {
    found["shown_s"].as_f64().unwrap_or(0.0) >= least_s && found["errors"] == Value::Array(Vec::new())
}

/// The value below which a part of 100 of values in order of size lie.
pub(super) fn quantile(values: &[f64], part: usize) -> f64 {
    values.get(values.len() * part / 100).copied().unwrap_or(f64::NAN)
}

fn play(with_origin: bool, names: &[&str], seed: u64) {
    if !have("ffmpeg") {
        return;
    }
    let Some(mut players) = Players::of(12) else { return };
    let seconds = players.seconds;
    let dir = tempfile::tempdir().unwrap();
    let loss = std::env::var("LIVE_LOSS").ok().and_then(|it| it.parse().ok()).unwrap_or(LOSS);
    let channels = channels(names);
    let folder = dir.path().join("live");
    let mut story = Story::of(&folder);
    let [announcement, configuration, media] = story.groups;
    let mut groups = vec![announcement, configuration];
    let first = u32::from(*media.ip());
    let media = |index| SocketAddrV4::new(Ipv4Addr::from(first + index as u32), media.port());
    groups.extend((0..channels.len()).map(media));
    story.relay = Some(Relay::start(&groups, seed, Profile::burst(loss)).unwrap());
    if with_origin {
        story.origin = Some(Origin::start(&folder, "/vod/film/"));
    }
    let log = std::env::var("LIVE_LOG").unwrap_or_default();
    if !log.is_empty() {
        story.drop_in(&format!(
            "{SHIPPED}[http.access_log]\npath = \"{log}/access.log\"\nformat = \"json\"\n"
        ));
    } else {
        story.drop_in(SHIPPED);
    }
    story.start_daemon();
    let mut command = program("headend");
    command.arg("send").arg("-c").arg(headend_config(&story, &folder, &channels));
    story.headend = Some(Program::start(command, &story.dir().join("headend.log")).unwrap());
    let mut packager = packager(&folder, &channels, story.http.port(), &dir.path().join("ffmpeg.log"));
    for channel in &channels {
        let path = path(channel, channel.manifest);
        story.until("the manifest is there", PATIENCE, |story| {
            get(story.http, &path, &[]).is_ok_and(|it| it.status == 200)
        });
    }
    // A box that knows the channel, as one does that was there before the viewer.
    std::thread::sleep(Duration::from_secs(3 * SEGMENT_S));
    for channel in &channels {
        let url = format!("http://{}{}", story.http, path(channel, channel.manifest));
        channel.players.iter().for_each(|player| players.add(player, &url));
    }
    let until = SystemTime::now() + Duration::from_secs(seconds);
    let (all, delays) = std::thread::scope(|scope| {
        let measuring: Vec<_> =
            channels.iter().map(|channel| scope.spawn(|| delays(&story, &folder, channel, until))).collect();
        let all = players.play();
        (all, measuring.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>())
    });
    for (channel, (delays, pause)) in channels.iter().zip(&delays) {
        println!(
            "{}: {:.0} ms p50, {:.0} ms p95, {:.0} ms greatest, from the packager's disk to whole at the box, {} segments, at most {pause:.1?} \
             between two of the packager",
            channel.name,
            quantile(delays, 50),
            quantile(delays, 95),
            delays.last().copied().unwrap_or(f64::NAN),
            delays.len()
        );
    }
    if !log.is_empty() {
        std::fs::write(format!("{log}/players.json"), format!("{all:#}")).unwrap();
        for (name, text) in [
            ("headend.log", story.headend.as_ref().unwrap().log()),
            ("skycached.log", story.daemon.as_ref().unwrap().log()),
            ("ffmpeg.log", packager.log()),
            ("status.json", format!("{:#}", story.status().unwrap_or_default())),
        ] {
            std::fs::write(format!("{log}/{name}"), text).unwrap();
        }
    }
    assert!(packager.ended().is_none(), "{}", packager.log());
    let mut wrong = Vec::new();
    for found in all.as_array().unwrap() {
        print_found(found);
        if !is_shown(found, seconds as f64 * LEAST_SHOWN) {
            wrong.push(found);
        }
    }
    let pause = delays.iter().map(|(_, pause)| *pause).max().unwrap_or_default();
    if pause > Duration::from_secs(SEGMENT_S) * 2 {
        eprintln!(
            "SKIPPED: this machine is too busy to package in real time: {pause:.1?} between two segments"
        );
        return;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn players_play_live_at_the_edge_over_a_lossy_link() {
    play(std::env::var_os("LIVE_ORIGIN").is_some(), &["fmp4", "lldash"], 41);
}
