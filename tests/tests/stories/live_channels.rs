//! Channel change: groups of a service are joined when a player requests it and left after a grace time. Unit tests cover the
//! policy; only this shows that a request reaches it, that sockets follow, and that the picture begins meanwhile from the origin.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use skycache_tests::Story;
use skycache_tests::client::get;
use skycache_tests::origin::Origin;

const PATIENCE: Duration = Duration::from_secs(40);
const SEGMENT_TIME: Duration = Duration::from_millis(500);
const SEGMENT_BYTES: usize = 20_000;
/// The folder of the second channel at the origin, and in its URLs.
const TWO: &str = "/vod/two/";

/// A packager of segments of half a second, until it is dropped.
pub(super) struct Packager {
    pub(super) folder: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn segment(number: u64) -> Vec<u8> {
    let mut bytes = b"\0\0\0\x18stypmsdh\0\0\0\0msdhmsix".to_vec();
    bytes.extend_from_slice(&(SEGMENT_BYTES as u32 + 8).to_be_bytes());
    bytes.extend_from_slice(b"mdat");
    bytes.extend((0..SEGMENT_BYTES).map(|at| (at * 7 + number as usize) as u8));
    bytes
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(folder.join("new.tmp"), bytes).unwrap();
    std::fs::rename(folder.join("new.tmp"), folder.join(name)).unwrap();
}

impl Packager {
    pub(super) fn start(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        write(folder, "init.mp4", b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov");
        let (stop, own) = (Arc::new(AtomicBool::new(false)), folder.to_owned());
        let stopped = Arc::clone(&stop);
        let add = move |next: u64| {
            write(&own, &format!("v{next}.m4s"), &segment(next));
            let first = next.saturating_sub(5).max(1);
            let mut list = format!(
                "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n#EXT-X-MAP:URI=\"init.mp4\"\n"
            );
            (first..=next).for_each(|number| list.push_str(&format!("#EXTINF:0.5,\nv{number}.m4s\n")));
            write(&own, "live.m3u8", list.as_bytes());
        };
        (1..4).for_each(&add);
        let thread = std::thread::spawn(move || {
            for next in 4.. {
                std::thread::sleep(SEGMENT_TIME);
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                add(next);
            }
        });
        Self { folder: folder.to_owned(), stop, thread: Some(thread) }
    }
}

impl Drop for Packager {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A headend with two channels, each on a group of its own, and a box that joins by this policy.
fn start(dir: &Path, receive: &str) -> (Story, [Packager; 2]) {
    let packagers = ["film", "two"].map(|name| Packager::start(&dir.join(name)));
    let mut story = Story::of(&packagers[0].folder);
    if receive.contains("joined_bps") {
        // It has both folders.
        story.origin = Some(Origin::start(dir, "/vod/"));
    }
    let live = "reserved_bps = 2_000_000\nclass = \"high\"\n";
    story.headend_extra = format!(
        "{live}[[source]]\npath = {:?}\nbase = \"https://cdn.example.com{TWO}\"\n{live}",
        packagers[1].folder.display().to_string()
    );
    story.drop_in(&format!("[receive]\nleave_after_ms = \"3 s\"\n{receive}"));
    story.start_daemon();
    story.start_headend(false);
    story.until("both services are announced", PATIENCE, |story| services(story).len() == 2);
    (story, packagers)
}

fn services(story: &Story) -> Vec<Value> {
    let status = story.status().unwrap_or_default();
    status["services"].as_array().cloned().unwrap_or_default()
}

/// Those of the two services that are joined, by their groups and by what is said of them. These differ for a moment when one is left.
fn joined(story: &Story) -> [bool; 2] {
    let first = story.groups[2].ip().to_bits();
    let began = Instant::now();
    loop {
        let status = story.status().unwrap_or_default();
        let groups = status["receive"]["groups"].as_array().cloned().unwrap_or_default();
        let by_groups = [0, 1].map(|at| {
            let ip = std::net::Ipv4Addr::from_bits(first + at).to_string();
            groups.iter().any(|it| it["group"] == ip.as_str() && it["joined"] == true)
        });
        if [0, 1].map(|at| status["services"][at]["joined"] == true) == by_groups {
            return by_groups;
        }
        assert!(began.elapsed() < PATIENCE, "{status:#}");
    }
}

/// The segments that a channel's playlist lists now, without gaps.
fn listed(story: &Story, folder: &str) -> Vec<u64> {
    let response = get(story.http, &format!("/cdn.example.com{folder}live.m3u8"), &[]);
    let text = response.ok().filter(|it| it.status == 200).and_then(|it| String::from_utf8(it.body).ok());
    let text = text.unwrap_or_default();
    let number = |line: &str| line.strip_prefix('v')?.strip_suffix(".m4s")?.parse().ok();
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines.windows(2).filter(|pair| pair[0] != "#EXT-X-GAP");
    pairs.filter_map(|pair| number(pair[1])).collect()
}

/// Plays a channel as players do: from the last but one segment of its playlist on, one after the other. Gives the time to the first
/// one, and how many came from the origin.
fn play(story: &Story, folder: &str, segments: usize) -> (Duration, usize) {
    let began = Instant::now();
    let (mut first, mut seen, mut played, mut by_origin) = (None, 0, 0, 0);
    while played < segments {
        assert!(
            began.elapsed() < PATIENCE,
            "{folder}: {played} segments\n{:#}",
            story.status().unwrap_or_default()
        );
        let mut listed = listed(story, folder);
        if seen == 0 {
            listed.drain(..listed.len().saturating_sub(2));
        }
        for number in listed.into_iter().filter(|number| *number > seen).collect::<Vec<_>>() {
            let response = get(story.http, &format!("/cdn.example.com{folder}v{number}.m4s"), &[]).unwrap();
            if response.status == 200 {
                assert!(response.whole && response.body == segment(number), "{folder} {number}");
                assert!(seen == 0 || number == seen + 1, "{folder}: {number} after {seen}");
                by_origin += usize::from(response.header("cache-status").contains("fwd=miss"));
                first.get_or_insert_with(|| began.elapsed());
                (seen, played) = (number, played + 1);
            } else {
                println!(
                    "{folder} {number} after {:.1?}: {} {}",
                    began.elapsed(),
                    response.status,
                    String::from_utf8_lossy(&response.body)
                );
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    (first.unwrap(), by_origin)
}

#[test]
fn a_channel_is_joined_when_it_is_asked_for_and_left_after_the_grace_time() {
    let dir = tempfile::tempdir().unwrap();
    let (mut story, _packagers) = start(dir.path(), "join = \"on_demand\"\n");
    assert_eq!(joined(&story), [false, false], "nobody has asked");
    let (first, _) = play(&story, "/vod/film/", 8);
    println!("satellite alone: the first segment after {first:.1?}");
    assert_eq!(joined(&story), [true, false]);
    let (first, _) = play(&story, TWO, 4);
    println!("the other channel: the first segment after {first:.1?}");
    story.until("the first channel is left after the grace time", PATIENCE, |story| {
        joined(story) == [false, false] || {
            listed(story, TWO);
            joined(story) == [false, true]
        }
    });
    story.until("and the second", PATIENCE, |story| joined(story) == [false, false]);
    assert_eq!(story.metric("services_joined_total{reason=\"asked\"}"), 2);
    assert_eq!(story.metric("services_left_total{reason=\"unasked\"}"), 2);
    // Back again: with the playlist of now, not of then.
    play(&story, "/vod/film/", 3);
}

#[test]
fn a_channel_begins_from_the_origin_and_goes_on_by_satellite() {
    let dir = tempfile::tempdir().unwrap();
    // There is room for one of the two, at any measured rate of the first.
    let (mut story, _packagers) = start(dir.path(), "join = \"on_demand\"\njoined_bps = \"2.1 Mbit/s\"\n");
    let (first, by_origin) = play(&story, "/vod/film/", 8);
    println!("with an origin: the first segment after {first:.1?}, {by_origin} of 8 from the origin");
    assert!((1..8).contains(&by_origin), "{by_origin}");
    assert_eq!(joined(&story), [true, false]);
    // The other channel comes from the origin as long as the first one is watched.
    let (is_over, http) = (Arc::new(AtomicBool::new(false)), story.http);
    let over = Arc::clone(&is_over);
    let watching = std::thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            let _ = get(http, "/cdn.example.com/vod/film/live.m3u8", &[]);
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    let (_, by_origin) = play(&story, TWO, 2);
    // What follows the first one may have been fetched with it.
    assert!(by_origin >= 1);
    story.until("it is refused", PATIENCE, |story| services(story)[1]["refused"] == "limit_asked");
    assert_eq!(joined(&story), [true, false]);
    assert_eq!(story.metric("services_refused_total{reason=\"limit_asked\"}"), 1);
    is_over.store(true, Ordering::Relaxed);
    watching.join().unwrap();
    story.until(
        "the other channel is joined when nobody watches the first one any more",
        PATIENCE,
        |story| {
            listed(story, TWO);
            joined(story) == [false, true]
        },
    );
    // Whichever came first: the end of its grace time, or the need of the other.
    let left =
        ["displaced", "unasked"].map(|why| story.metric(&format!("services_left_total{{reason=\"{why}\"}}")));
    assert_eq!(left.iter().sum::<u64>(), 1, "{left:?}");
}
