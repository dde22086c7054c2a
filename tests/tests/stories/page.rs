//! The page in a browser, driven by remote control keys over a lossy link. Screenshots are kept in `tests/artefacts/page`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use linksim::Profile;
use skycache_tests::programs::{have, have_npm_packages};
use skycache_tests::{Story, Value, get, media};

const PATIENCE: Duration = Duration::from_secs(60);
/// Viewers at a time, as `daemon/src/page/live.rs` has it.
const VIEWERS: usize = 64;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The sources of the page with the packages that check and try it, below `target`. `None`, and told, where there is no Node
/// or no registry.
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

/// A link that loses packets, and three titles of the same film: one by both ways, one by HLS, one by DASH. The objects are
/// the first one's.
fn story() -> Story {
    let mut story = Story::new().with_origin().with_link(31, Profile::burst(0.02));
    let folder = media::ladder();
    let (folder, base) = (folder.display(), media::BASE);
    story.headend_extra = format!(
        "[source.service]\nnames = {{ en = \"The film\", de = \"Der Film\" }}\ndescriptions = {{ en = \"<b>Twelve</b> seconds.\" }}\n\
         kind = \"linear\"\ngenres = [\"News\"]\nchannel = 1\n\
         [[source]]\npath = \"{folder}/master.m3u8\"\nbase = \"{base}\"\nname = \"Only HLS\"\nservice_id = \"tag:example.com,2026:hls\"\n\
         [source.service]\nchannel = 2\n\
         [[source]]\npath = \"{folder}/manifest.mpd\"\nbase = \"{base}\"\nname = \"Only DASH\"\nservice_id = \"tag:example.com,2026:dash\"\n\
         [source.service]\nchannel = 3\n[dvb_i]\ninterval_ms = 1000\n"
    );
    story
}

#[test]
fn a_person_browses_plays_and_sees_what_the_box_does() {
    let Some(page) = page() else { return };
    if !have("chromium") {
        return;
    }
    let mut story = story();
    story.start_daemon();
    story.start_headend(false);
    story.until_complete(PATIENCE);
    story.until("all titles are there", PATIENCE, |story| {
        let titles: Option<Value> = get(story.http, "/-/titles.json", &[])
            .ok()
            .and_then(|response| serde_json::from_slice(&response.body).ok());
        titles.is_some_and(|it| it["total"] == 3)
    });
    let artefacts = workspace().join("tests/artefacts/page");
    let mut look = Command::new("node");
    look.arg(workspace().join("tests/page/page.mjs")).arg(format!("http://{}/", story.http)).arg(&artefacts);
    look.env("NODE_MODULES", page.join("node_modules"));
    let output = look.output().unwrap();
    let (found, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{found}{said}\nscreenshots: {}", artefacts.display());
    println!("{found}");
    let log = story.daemon.take().unwrap().stop();
    assert!(!log.contains("panicked"), "{log}");
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
    // Who leaves makes room, within the second in which something is told.
    drop(viewers.into_iter().next());
    story.until("there is room again", Duration::from_secs(10), |_| watch().1.starts_with("HTTP/1.1 200"));
    let begin = std::time::Instant::now();
    story.daemon.take().unwrap().stop();
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}
