//! Rendezvous and content steering: a client that follows redirects gets the channel by the box while it is on the air, and by the
//! CDN when it is not. Unit tests cover each answer; only a client shows that they lead to the picture and not in a circle.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use skycache_tests::Story;
use skycache_tests::client::get;
use skycache_tests::origin::Origin;
use skycache_tests::programs::have;

use super::live_channels::Packager;

const PATIENCE: Duration = Duration::from_secs(60);
const PLAYLIST: &str = "/-/rendezvous/vod/film/live.m3u8?Ori=cdn.example.com&AToken=secret";
const STEERING: &str = "/-/steering/cdn.example.com/vod/film/live.m3u8";

/// A page's request that follows redirects: the last URL, the number of redirects, the status, and the body.
fn follow(story: &Story, cdn: &Origin, path: &str) -> (String, u32, u32, String) {
    let mut curl = Command::new("curl");
    curl.args(["-sSL", "--max-redirs", "5", "-m", "20", "-H", "Origin: https://portal.example"]);
    curl.args(["--connect-to", &format!("cdn.example.com:80:{}", cdn.address())]);
    curl.args(["-w", "\n%{url_effective} %{num_redirects} %{http_code}"]);
    let url = if path.starts_with("http") { path.to_owned() } else { format!("http://{}{path}", story.http) };
    let output = curl.arg(url).output().expect("curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, last) = text.rsplit_once('\n').unwrap_or_default();
    let mut words = last.split(' ');
    let mut next = || words.next().unwrap_or_default().to_owned();
    let (url, redirects, status) = (next(), next(), next());
    (url, redirects.parse().unwrap_or(99), status.parse().unwrap_or(0), body.to_owned())
}

fn first_pathway(story: &Story) -> String {
    let response = get(story.http, STEERING, &[]).ok();
    let value: Value = response.and_then(|it| serde_json::from_slice(&it.body).ok()).unwrap_or_default();
    value["PATHWAY-PRIORITY"][0].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_client_that_follows_redirects_is_at_the_box_while_the_channel_is_on_the_air() {
    if !have("curl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let packager = Packager::start(&folder.path().join("film"));
    let cdn = Origin::start(&packager.folder, "/vod/film/");
    let mut story = Story::of(&packager.folder);
    story.headend_extra = "reserved_bps = 2_000_000\nclass = \"high\"\n".to_owned();
    story.drop_in("[http.rendezvous]\nhosts = [\"http://cdn.example.com\"]\n[http.steering]\nttl_s = 1\n");
    story.start_daemon();

    // Off the air: one redirect to the CDN, marked, without what is for the rendezvous service alone.
    let marked = "http://cdn.example.com/vod/film/live.m3u8?MGstatus=0";
    let (url, redirects, status, body) = follow(&story, &cdn, PLAYLIST);
    assert_eq!((url.as_str(), redirects, status), (marked, 1, 200), "{body}");
    assert_eq!(first_pathway(&story), "cdn");

    for round in 0..2 {
        story.start_headend(false);
        story.until("the channel is on the air", PATIENCE, |story| first_pathway(story) == "satellite");
        let (url, redirects, status, body) = follow(&story, &cdn, PLAYLIST);
        assert_eq!((redirects, status), (1, 200), "{url} {body}");
        let at_box = format!("http://{}/-/mabr/", story.http);
        assert!(url.starts_with(&at_box) && body.starts_with("#EXTM3U"), "{url} {body}");
        // What the playlist names relative to itself stays in the session.
        let base = url.rsplit_once('/').expect("a path").0.to_owned();
        let (init, _, status, _) = follow(&story, &cdn, &format!("{base}/init.mp4"));
        assert_eq!((init, status), (format!("{base}/init.mp4"), 200));
        if round == 1 {
            break;
        }

        // The signal is gone. A session that has begun here goes on at the CDN, with one redirect for each object.
        story.headend = None;
        story.until("the channel is off the air", PATIENCE, |story| first_pathway(story) == "cdn");
        assert_eq!(follow(&story, &cdn, PLAYLIST).0, marked);
        let newest = || {
            let names = std::fs::read_dir(&packager.folder).unwrap().flatten();
            let names = names.filter_map(|it| it.file_name().into_string().ok());
            names.filter_map(|it| it.strip_prefix('v')?.strip_suffix(".m4s")?.parse::<u64>().ok()).max()
        };
        let segment = format!("{base}/v{}.m4s", newest().expect("segments") - 1);
        let (url, redirects, status, _) = follow(&story, &cdn, &segment);
        assert!(url.starts_with("http://cdn.example.com/vod/film/v"), "{url}");
        assert_eq!((redirects, status), (1, 200));
        assert!(story.metric("rendezvous_returned_total{reason=\"failed\"}") >= 1);
    }
    assert!(story.metric("rendezvous_returned_total{reason=\"not_on_air\"}") >= 2);
    assert_eq!(story.metric("rendezvous_accepted_total"), 2);
}
