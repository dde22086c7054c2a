//! The page in a browser, driven by remote control keys over a lossy link. Screenshots are kept in `tests/artefacts/page`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use linksim::Profile;
use skycache_tests::programs::{Program, have, have_npm_packages};
use skycache_tests::{Story, Value, get, media};

/// The token of the admin interface.
const TOKEN: &str = "0123456789abcdef0123";
const PATIENCE: Duration = Duration::from_secs(60);
/// Viewers at a time, as `daemon/src/page/live.rs` has it.
const VIEWERS: usize = 64;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The sources of the page with the packages that check and try it, below `target`. `None`, with a message, where there is
/// no Node or no registry.
fn page() -> Option<&'static Path> {
    static PAGE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let page = PAGE.get_or_init(|| {
        let (from, to) = (workspace().join("daemon/web"), workspace().join("target/page"));
        std::fs::create_dir_all(&to).ok()?;
        let mut copy = Command::new("sh");
        copy.args(["-c", "rm -rf \"$2/src\" && cd \"$1\" && cp -R package.json package-lock.json .npmrc tsconfig.json src \"$2\"", "-"]);
        assert!(copy.arg(&from).arg(&to).status().ok()?.success());
        have_npm_packages(&to, "packages for the page").then_some(to)
    });
    page.as_deref()
}

#[test]
fn the_modules_are_sound() {
    let Some(page) = page() else { return };
    let output = Command::new("npm").args(["run", "--silent", "check"]).current_dir(page).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Programmes of the story's channel: one that is on, and one that follows.
fn guide() -> String {
    use super::catalog::xmltv_time;
    let programme = |from_h, to_h, title, text| {
        format!(
            "<programme channel=\"film\" start=\"{}\" stop=\"{}\"><title lang=\"en\">{title}</title><desc lang=\"en\">{text}</desc></programme>",
            xmltv_time(from_h),
            xmltv_time(to_h)
        )
    };
    let shown = [
        programme(-1, 1, "The matinee", "In black and white."),
        programme(1, 3, "The evening", "What the day was."),
        programme(3, 6, "The night", "Music."),
    ];
    format!("<tv><channel id=\"film\"><display-name>Film</display-name></channel>{}</tv>", shown.concat())
}

/// A link that loses packets, and three titles of the same film: a channel with a guide by both ways, one by HLS with a
/// poster, one by DASH from 16 years. The objects are the first one's.
fn story() -> Story {
    let mut story = Story::new().with_origin().with_link(31, Profile::burst(0.02));
    std::fs::write(story.dir().join("guide.xml"), guide()).unwrap();
    std::fs::write(story.dir().join("poster.png"), super::catalog::PIXEL).unwrap();
    let folder = media::ladder();
    let (folder, base) = (folder.display(), media::BASE);
    story.headend_extra = format!(
        "[source.service]\nnames = {{ en = \"The film\", de = \"Der Film\" }}\ndescriptions = {{ en = \"<b>Twelve</b> seconds.\" }}\n\
         kind = \"linear\"\ngenres = [\"News\"]\nchannel = 1\nguide = \"film\"\n\
         [[source]]\npath = \"{folder}/master.m3u8\"\nbase = \"{base}\"\nname = \"Only HLS\"\nservice_id = \"tag:example.com,2026:hls\"\n\
         [source.service]\nchannel = 2\nbanner = \"poster.png\"\n\
         [[source]]\npath = \"{folder}/manifest.mpd\"\nbase = \"{base}\"\nname = \"Only DASH\"\nservice_id = \"tag:example.com,2026:dash\"\n\
         [source.service]\nchannel = 3\nminimum_age = 16\n[dvb_i]\ninterval_ms = 1000\nguides = [\"guide.xml\"]\n"
    );
    story
}

/// A story whose three titles and guide have come.
fn received() -> Story {
    received_by("")
}

/// The same by a daemon with these further tables.
fn received_by(tables: &str) -> Story {
    let mut story = story();
    story.daemon_extra += tables;
    std::fs::write(story.dir().join("token"), TOKEN).unwrap();
    story.admin = Some((skycache_tests::free_tcp_port(), story.dir().join("token")));
    story.start_daemon();
    story.start_headend(false);
    story.until_complete(PATIENCE);
    story.until("all titles are there", PATIENCE, |story| {
        let titles = json(story, "/-/titles.json").unwrap_or_default();
        titles["total"] == 3 && !titles["titles"][0]["now"].is_null()
    });
    story
}

fn json(story: &Story, path: &str) -> Option<Value> {
    get(story.http, path, &[]).ok().and_then(|response| serde_json::from_slice(&response.body).ok())
}

/// `page.mjs` at an address.
fn look(page: &Path, at: SocketAddr, mode: &[&str]) -> Command {
    let artefacts = workspace().join("tests/artefacts/page");
    let mut look = Command::new("node");
    look.arg(workspace().join("tests/page/page.mjs")).arg(format!("http://{at}/")).arg(&artefacts);
    look.args(mode).env("NODE_MODULES", page.join("node_modules"));
    look
}

#[test]
fn a_person_browses_plays_and_searches_by_keys_alone() {
    let Some(page) = page() else { return };
    if !have("chromium") {
        return;
    }
    let mut story = received();
    let output = look(page, story.http, &[]).output().unwrap();
    let (found, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{found}{said}\nscreenshots: tests/artefacts/page");
    println!("{found}");
    let log = story.daemon.take().unwrap().stop();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn the_page_says_what_is_wrong_with_the_box() {
    use std::io::{BufRead as _, BufReader, Write as _};
    let Some(page) = page() else { return };
    if !have("chromium") {
        return;
    }
    let mut story = received();
    let mut look = look(page, story.http, &["states"]);
    let mut child =
        look.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let (mut to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut said = String::new();
    for line in from.lines() {
        let line = line.unwrap();
        match line.as_str() {
            "stop the sender" => drop(story.headend.take().unwrap().stop()),
            "stop the box" => drop(story.daemon.take().unwrap().stop()),
            "start the box" => story.start_daemon(),
            _ => {
                said += &line;
                said.push('\n');
                continue;
            }
        }
        to.write_all(b"done\n").unwrap();
    }
    assert!(child.wait().unwrap().success(), "{said}");
    println!("{said}");
}

/// FFmpeg, which packages a test picture into `folder` at this moment.
fn packager(folder: &Path, output: &str) -> Program {
    std::fs::create_dir_all(folder).unwrap();
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(
        "-v error -re -f lavfi -i testsrc2=size=320x180:rate=25 -t 600 -c:v libx264 -preset ultrafast"
            .split(' '),
    );
    ffmpeg.args("-pix_fmt yuv420p -b:v 200k -g 50 -keyint_min 50 -sc_threshold 0".split(' '));
    ffmpeg.args(output.split(' ')).current_dir(folder);
    Program::start(ffmpeg, &folder.with_extension("log")).unwrap()
}

/// `LIVE_SECONDS=90` plays longer.
#[test]
#[ignore = "plays for minutes in a browser, which a machine with other work does not keep up with"]
fn live_channels_play_in_the_page_by_both_players() {
    let Some(page) = page() else { return };
    if !have("chromium") || !have("ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (hls, dash) = (dir.path().join("hls"), dir.path().join("dash"));
    let _packagers = [
        packager(
            &hls,
            "-f hls -hls_time 2 -hls_list_size 10 -hls_flags delete_segments+temp_file -hls_segment_type fmp4 live.m3u8",
        ),
        packager(
            &dash,
            "-f dash -seg_duration 2 -window_size 10 -extra_window_size 5 -use_template 1 -use_timeline 1 live.mpd",
        ),
    ];
    let mut story = Story::of(&hls);
    let of = |channel: u8| {
        format!("class = \"high\"\nreserved_bps = 1_500_000\n[source.service]\nchannel = {channel}\n")
    };
    story.headend_extra = format!(
        "name = \"hls\"\n{}[[source]]\npath = {:?}\nbase = \"https://cdn.example.com/live/dash/\"\nname = \"dash\"\n{}\
         [dvb_i]\ninterval_ms = 1000\n",
        of(1),
        dash.display().to_string(),
        of(2),
    );
    story.start_daemon();
    story.start_headend(false);
    story.until("both channels are there, with segments", PATIENCE, |story| {
        let names: Vec<String> =
            story.list().iter().filter_map(|it| it["key"].as_str().map(str::to_owned)).collect();
        let segments =
            |base: &str| names.iter().filter(|it| it.contains(base) && it.ends_with(".m4s")).count();
        json(story, "/-/titles.json").is_some_and(|it| it["total"] == 2)
            && segments("/vod/film/") >= 3
            && segments("/live/dash/") >= 3
    });
    let output = look(page, story.http, &["live"]).output().unwrap();
    let (found, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{found}{said}\nscreenshots: tests/artefacts/page");
    println!("{found}");
}

#[test]
fn an_operator_reads_charts_and_purges_behind_the_admin_interface() {
    let Some(page) = page() else { return };
    if !have("chromium") || !have("openssl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_, tls) = super::http::certificate_in(folder.path(), skycache_tests::free_tcp_port());
    let story = received_by(&tls);
    let (admin, _) = story.admin.clone().unwrap();
    // Players' port and operators' page do not know each other.
    for path in [
        "/-/admin.js",
        "/-/admin.html",
        "/-/admin.css",
        "/-/lang/admin-en.json",
        "/api/v1/samples",
        "/api/v1/logs",
    ] {
        assert_eq!(get(story.http, path, &[]).unwrap().status, 404, "{path}");
    }
    // A player plays meanwhile, so that every chart has something to show.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = get(story.http, &Story::path_of("manifest.mpd"), &[]);
                std::thread::sleep(Duration::from_millis(150));
            }
        });
        let output = look(page, admin, &["operator"]).env("TOKEN", TOKEN).output();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        output.unwrap()
    });
    let (found, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{found}{said}\nscreenshots: tests/artefacts/page");
    println!("{found}");
}

#[test]
fn the_guide_and_the_search_answer_pages_of_what_is_asked() {
    let mut story = received();
    let guide = json(&story, "/-/guide.json?limit=10").unwrap();
    assert_eq!((guide["total"].as_u64(), guide["channels"][0]["number"].as_u64()), (Some(1), Some(1)));
    let events = guide["channels"][0]["events"].as_array().unwrap();
    let titles: Vec<_> = events.iter().map(|it| it["title"]["en"].as_str().unwrap()).collect();
    assert_eq!(titles, ["The matinee", "The evening", "The night"]);
    let later = json(&story, "/-/guide.json?offset=1").unwrap();
    assert_eq!((later["total"].as_u64(), later["channels"].as_array().unwrap().len()), (Some(1), 0));
    let found = json(&story, "/-/programmes.json?q=EVEN").unwrap();
    assert_eq!(
        (found["total"].as_u64(), found["programmes"][0]["channel"]["number"].as_u64()),
        (Some(1), Some(1))
    );
    assert_eq!(json(&story, "/-/programmes.json?q=nobody").unwrap()["total"], 0);
    assert_eq!(get(story.http, "/-/programmes.json?q=", &[]).unwrap().status, 400);
    // Kinds, and the share of a film that the box holds.
    let films = json(&story, "/-/titles.json?kind=ondemand").unwrap();
    assert_eq!(films["total"], 2);
    for film in films["titles"].as_array().unwrap() {
        assert_eq!(film["held"], 1.0, "{film:#}");
    }
    assert_eq!(films["titles"][1]["minimum_age"], 16);
    let shown = json(&story, "/-/titles.json?kind=linear").unwrap();
    assert_eq!((shown["total"].as_u64(), &shown["titles"][0]["held"]), (Some(1), &Value::Null));
    // Objects that are purged while the headend is silent are missing from the share.
    let segments: Vec<String> = story
        .list()
        .iter()
        .filter_map(|it| it["key"].as_str().filter(|key| key.ends_with(".m4s")).map(str::to_owned))
        .collect();
    story.headend.take().unwrap().stop();
    for key in &segments[..segments.len() / 2] {
        let purged = story.skycached("purge").arg(key).output().unwrap();
        assert!(purged.status.success(), "{key}: {purged:?}");
    }
    let held = |story: &Story| {
        let films = json(story, "/-/titles.json?kind=ondemand").unwrap();
        films["titles"][0]["held"].as_f64().unwrap()
    };
    story.until("the share is less than whole", PATIENCE, |story| held(story) < 1.0);
    // The carousel brings it back.
    story.start_headend(false);
    story.until("the film is whole again", PATIENCE, |story| held(story) >= 1.0);
}

#[test]
fn viewers_are_bounded_and_do_not_keep_the_daemon_from_ending() {
    use std::io::{Read as _, Write as _};
    let mut story = Story::new();
    story.start_daemon();
    let http = story.http;
    let watch = || {
        let mut stream = std::net::TcpStream::connect(http).unwrap();
        stream.write_all(b"GET /-/live HTTP/1.1\r\nHost: box\r\n\r\n").unwrap();
        let mut head = [0; 15];
        stream.read_exact(&mut head).unwrap();
        (stream, String::from_utf8_lossy(&head).into_owned())
    };
    // One address gets three quarters of the places.
    let viewers: Vec<_> = (0..VIEWERS * 3 / 4).map(|_| watch()).collect();
    assert!(viewers.iter().all(|(_, head)| head.starts_with("HTTP/1.1 200")), "{:?}", viewers[0].1);
    assert!(watch().1.starts_with("HTTP/1.1 503"));
    // A viewer that leaves makes room, within the second in which something is sent.
    drop(viewers.into_iter().next());
    story.until("there is room again", Duration::from_secs(10), |_| watch().1.starts_with("HTTP/1.1 200"));
    let begin = std::time::Instant::now();
    story.daemon.take().unwrap().stop();
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}
