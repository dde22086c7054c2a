use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use super::files::{ATTEMPTS, MAX_MOVED};
use super::*;

/// A request as the origin sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct ReceivedRequest {
    pub(super) target: String,
    pub(super) headers: HashMap<String, String>,
}

/// Its response.
#[derive(Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Bytes after which the connection ends.
    pub(super) cut_at: Option<usize>,
}

impl Reply {
    pub(super) fn of(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), cut_at: None }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

type Answering = dyn Fn(&ReceivedRequest) -> Reply + Send + Sync;

/// An origin on loopback.
pub(super) struct Origin {
    pub(super) url: String,
    pub(super) asked: Arc<Mutex<Vec<ReceivedRequest>>>,
    pub(super) most_at_once: Arc<AtomicUsize>,
}

impl Origin {
    pub(super) fn new(answer: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let [at_once, most] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let highest = Arc::clone(&most);
        // A client that has its response may ask again before this thread continues.
        let answer: Arc<Answering> = Arc::new(move |asked: &ReceivedRequest| {
            highest.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let reply = answer(asked);
            at_once.fetch_sub(1, Ordering::SeqCst);
            reply
        });
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                std::thread::spawn(move || serve(stream.unwrap(), &*answer, &log));
            }
        });
        Self { url, asked, most_at_once: most }
    }

    fn asked(&self, target: &str) -> Vec<ReceivedRequest> {
        self.asked.lock().unwrap().iter().filter(|it| it.target == target).cloned().collect()
    }
}

fn serve(mut stream: TcpStream, answer: &Answering, log: &Mutex<Vec<ReceivedRequest>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let mut asked =
        ReceivedRequest { target: first.split(' ').nth(1).unwrap().to_owned(), headers: HashMap::new() };
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        asked.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    log.lock().unwrap().push(asked.clone());
    let reply = answer(&asked);
    let mut head = format!(
        "HTTP/1.1 {} -\r\nContent-Length: {}\r\nConnection: close\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let _ = stream.write_all(&reply.body[..reply.cut_at.unwrap_or(reply.body.len())]);
}

/// Packets of a transport stream.
pub(super) fn segment(number: u8, packets: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for at in 0..packets {
        let mut packet = [number; 188];
        packet[..4].copy_from_slice(&[0x47, 0x1f, 0xff, 0x10 | (at % 16) as u8]);
        bytes.extend_from_slice(&packet);
    }
    bytes
}

pub(super) fn playlist(names: &[&str], is_ended: bool) -> String {
    let segments: String = names.iter().map(|name| format!("#EXTINF:4,\n{name}\n")).collect();
    let end = if is_ended { "#EXT-X-ENDLIST\n" } else { "" };
    format!("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n{segments}{end}")
}

fn config(dir: &Path, url: &str, more: &str) -> Config {
    let text = format!(
        "[link]\nrate_bps = 8_000_000\n[[source]]\npath = 'pulled'\nbase = 'https://cdn.example.com/film/'\npull = \"{url}\"\n{more}\n"
    );
    Config::parse(&text, dir).unwrap_or_else(|why| panic!("{why:?}"))
}

/// Does `work` with the only pulled source of `config`.
pub(super) fn with_puller(config: &Config, stats: &Arc<PullStats>, work: impl AsyncFnOnce(&mut Puller)) {
    let mut puller = pullers(config, stats).unwrap().remove(0);
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime().unwrap(), async { work(&mut puller).await });
}

pub(super) fn failed(stats: &PullStats, why: PullFailure) -> u64 {
    stats.failed.get(why)
}

#[test]
fn a_failure_is_told_without_what_opens_the_origin() {
    for (url, told) in [
        ("https://u:secret@a.example/x@y/1.ts?key=secret", "https://a.example/x@y/1.ts: not_found"),
        ("https://a.example?key=secret#x", "https://a.example: not_found"),
        ("low/1.ts?key=secret", "low/1.ts: not_found"),
    ] {
        let stats = PullStats::default();
        stats.fail(url, PullFailure::NotFound);
        assert_eq!(stats.newest_failure().as_deref(), Some(told));
        assert!(!stats.to_text().contains("secret"));
    }
}

const MASTER: &str = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000000\nlow/index.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2000000\nhigh/index.m3u8\n";

#[test]
fn a_film_is_pulled_whole_and_what_breaks_off_is_continued() {
    let long = segment(9, 2000);
    let body = long.clone();
    let origin = Origin::new(move |asked| {
        std::thread::sleep(Duration::from_millis(5));
        match asked.target.as_str() {
            "/film/master.m3u8" => Reply::of(200, MASTER).with("ETag", "\"m\""),
            "/film/low/index.m3u8" => {
                let names: Vec<String> = (0..20).map(|at| format!("{at}.ts")).collect();
                Reply::of(200, playlist(&names.iter().map(String::as_str).collect::<Vec<_>>(), true))
            }
            "/film/high/index.m3u8" => Reply::of(200, playlist(&["long%20one.ts"], true)),
            "/film/high/long%20one.ts" => match asked.headers.get("range") {
                None => {
                    Reply { cut_at: Some(100_000), ..Reply::of(200, body.clone()).with("ETag", "\"v1\"") }
                }
                Some(range) => {
                    assert_eq!(asked.headers["if-range"], "\"v1\"");
                    let from: usize = range["bytes=".len()..range.len() - 1].parse().unwrap();
                    let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
                    Reply::of(206, &body[from..]).with("Content-Range", range).with("ETag", "\"v1\"")
                }
            },
            target => match target.strip_prefix("/film/low/").and_then(|it| it.strip_suffix(".ts")) {
                Some(number) => Reply::of(200, segment(number.parse().unwrap(), 10)),
                None => Reply::of(404, ""),
            },
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &format!("{}film/master.m3u8", origin.url), "");
    let pulled = complete(&config, |_, _| {}).unwrap();
    assert_eq!((pulled[0].files, pulled[0].missing.len()), (24, 0), "{pulled:?}");
    let root = dir.path().join("pulled");
    assert_eq!(fs::read(root.join("high/long one.ts")).unwrap(), long);
    assert_eq!(fs::read(root.join("low/17.ts")).unwrap(), segment(17, 10));
    assert_eq!(origin.asked("/film/high/long%20one.ts").len(), 2);
    let most = origin.most_at_once.load(Ordering::SeqCst);
    assert!((2..=MAX_FETCHES).contains(&most), "{most} at once");
    // Again: nothing is fetched but the manifests that have no validator.
    let again = complete(&config, |_, _| {}).unwrap();
    assert_eq!((again[0].files, again[0].missing.len()), (0, 0), "{again:?}");
    assert_eq!(origin.asked("/film/low/3.ts").len(), 1);
    let names: Vec<_> = fs::read_dir(root.join("high")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "temporary files are gone: {names:?}");
}

#[test]
fn a_shorter_part_than_was_asked_for_is_no_end() {
    let long = segment(9, 2000);
    let body = long.clone();
    let origin = Origin::new(move |asked| match (asked.target.as_str(), asked.headers.get("range")) {
        ("/index.m3u8", _) => Reply::of(200, playlist(&["a.ts"], true)),
        (_, None) => Reply { cut_at: Some(100_000), ..Reply::of(200, body.clone()).with("ETag", "\"v1\"") },
        (_, Some(range)) => {
            let from: usize = range["bytes=".len()..range.len() - 1].parse().unwrap();
            let end = body.len().min(from + 90_000);
            let range = format!("bytes {from}-{}/{}", end - 1, body.len());
            Reply::of(206, &body[from..end]).with("Content-Range", range).with("ETag", "\"v1\"")
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let pulled = complete(&config(dir.path(), &format!("{}index.m3u8", origin.url), ""), |_, _| {}).unwrap();
    assert_eq!((pulled[0].files, pulled[0].missing.len()), (2, 0), "{pulled:?}");
    assert_eq!(fs::read(dir.path().join("pulled/a.ts")).unwrap(), long);
    // 276,000 bytes behind the first 100,000.
    assert_eq!(origin.asked("/a.ts").len(), 5);
}

#[test]
fn what_a_manifest_names_is_where_redirects_led_for_it() {
    let moves = Arc::new(AtomicUsize::new(0));
    let number = Arc::clone(&moves);
    let origin = Origin::new(move |asked| {
        let cdn = number.load(Ordering::SeqCst);
        let to = |path: &str| Reply::of(302, "").with("Location", path);
        let target = asked.target.as_str();
        match target.strip_prefix(&format!("/cdn{cdn}/")) {
            Some("master.m3u8?token=t") if asked.headers.contains_key("if-none-match") => Reply::of(304, ""),
            Some("master.m3u8?token=t") => Reply::of(200, MASTER).with("ETag", "\"m\""),
            // The playlist of one rendition has moved again.
            Some("low/index.m3u8") => to("/other/low.m3u8"),
            Some("high/index.m3u8") => Reply::of(200, playlist(&["h.ts"], true)),
            Some("high/h.ts") => Reply::of(200, segment(1, 10)),
            _ => match target {
                "/film/master.m3u8" => to(&format!("/cdn{cdn}/master.m3u8?token=t")),
                "/other/low.m3u8" => Reply::of(200, playlist(&["l.ts"], true)),
                "/other/l.ts" => Reply::of(200, segment(2, 10)),
                _ => Reply::of(404, ""),
            },
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &format!("{}film/master.m3u8", origin.url), "");
    let pulled = complete(&config, |_, _| {}).unwrap();
    assert_eq!((pulled[0].files, pulled[0].missing.len()), (5, 0), "{pulled:?}");
    let root = dir.path().join("pulled");
    assert_eq!(fs::read(root.join("high/h.ts")).unwrap(), segment(1, 10));
    assert_eq!(fs::read(root.join("low/l.ts")).unwrap(), segment(2, 10));
    // Another address the next time, as behind a load balancer.
    moves.store(1, Ordering::SeqCst);
    fs::remove_file(root.join("high/h.ts")).unwrap();
    let again = complete(&config, |_, _| {}).unwrap();
    assert_eq!((again[0].files, again[0].missing.len()), (1, 0), "{again:?}");
    assert_eq!(origin.asked("/cdn1/high/h.ts").len(), 1);
    assert_eq!(origin.asked("/film/low/index.m3u8").len(), 0);
}

#[test]
fn redirects_that_are_remembered_are_bounded_and_forgotten_with_their_manifest() {
    let round = Arc::new(AtomicUsize::new(0));
    let number = Arc::clone(&round);
    let origin = Origin::new(move |asked| {
        let at = number.load(Ordering::SeqCst);
        match asked.target.as_str() {
            "/film/master.m3u8" => {
                Reply::of(200, format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000000\nlow/{at}.m3u8\n"))
            }
            target if target.starts_with("/film/low/") => {
                Reply::of(302, "").with("Location", target.replace("/film/", "/cdn/"))
            }
            target if target.ends_with(".m3u8") => Reply::of(200, playlist(&["l.ts"], false)),
            "/cdn/low/l.ts" => Reply::of(200, segment(1, 10)),
            _ => Reply::of(404, ""),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &format!("{}film/master.m3u8", origin.url), "");
    let stats = Arc::default();
    with_puller(&config, &stats, async |puller| {
        for at in 0..3 {
            round.store(at, Ordering::SeqCst);
            let done = puller.round().await;
            puller.remove_unnamed(&done.inventory.unwrap(), &done.missing);
            let moved: Vec<String> = puller.files.moved.lock().unwrap().keys().cloned().collect();
            assert_eq!(moved, [format!("low/{at}.m3u8")], "of the playlist that is named now");
        }
        let files = Arc::clone(&puller.files);
        for at in 0..MAX_MOVED {
            let _ = files.came_from(&format!("{at}.m3u8"), Some("http://cdn.example/".to_owned()));
        }
        assert_eq!(files.moved.lock().unwrap().len(), MAX_MOVED);
        round.store(3, Ordering::SeqCst);
        let done = puller.round().await;
        assert!(
            failed(&stats, PullFailure::Full) > 0,
            "the playlist is refused: {:?}",
            stats.newest_failure()
        );
        assert!(!dir.path().join("pulled/low/3.m3u8").exists());
        assert!(
            files.came_from("0.m3u8", Some("http://other.example/".to_owned())).is_ok(),
            "it has its place"
        );
        assert!(files.came_from("0.m3u8", None).is_ok());
        assert!(files.came_from("4096.m3u8", Some("http://cdn.example/".to_owned())).is_ok(), "one is free");
        puller.remove_unnamed(&done.inventory.unwrap(), &done.missing);
        assert!(files.moved.lock().unwrap().is_empty());
    });
}

#[test]
fn a_version_that_changed_in_between_is_fetched_from_the_start() {
    let origin = Origin::new(|asked| match asked.target.as_str() {
        "/index.m3u8" => Reply::of(200, playlist(&["a.ts"], true)),
        _ if asked.headers.contains_key("range") => Reply::of(200, segment(2, 50)).with("ETag", "\"v2\""),
        _ => Reply { cut_at: Some(5000), ..Reply::of(200, segment(1, 50)).with("ETag", "\"v1\"") },
    });
    let dir = tempfile::tempdir().unwrap();
    // Room for the second version, not for what came of the first as well.
    let config = config(dir.path(), &format!("{}index.m3u8", origin.url), "pull_bytes = 12_000");
    complete(&config, |_, _| {}).unwrap();
    assert_eq!(fs::read(dir.path().join("pulled/a.ts")).unwrap(), segment(2, 50));
}

/// As h2o does, which does not read If-Range.
#[test]
fn the_rest_of_another_version_is_not_put_behind_what_came_of_the_first() {
    for etag in [Some("\"v2\""), None] {
        let has_broken_off = Arc::new(AtomicUsize::new(0));
        let origin = Origin::new(move |asked| match asked.target.as_str() {
            "/index.m3u8" => Reply::of(200, playlist(&["a.ts"], true)),
            _ if asked.headers.contains_key("range") => {
                let all = segment(2, 50);
                let part = Reply::of(206, &all[5000..]).with("Content-Range", "bytes 5000-9399/9400");
                match etag {
                    Some(etag) => part.with("ETag", etag),
                    None => part,
                }
            }
            _ if has_broken_off.fetch_add(1, Ordering::SeqCst) > 0 => {
                Reply::of(200, segment(2, 50)).with("ETag", "\"v2\"")
            }
            _ => Reply { cut_at: Some(5000), ..Reply::of(200, segment(1, 50)).with("ETag", "\"v1\"") },
        });
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), &format!("{}index.m3u8", origin.url), "");
        complete(&config, |_, _| {}).unwrap();
        assert!(fs::read(dir.path().join("pulled/a.ts")).unwrap() == segment(2, 50));
        assert_eq!(origin.asked("/a.ts").len(), 3);
    }
}

#[test]
fn a_part_that_begins_elsewhere_or_was_not_asked_for_is_never_put_in() {
    let origin = Origin::new(|asked| match asked.target.as_str() {
        "/index.m3u8" => Reply::of(200, playlist(&["a.ts", "b.ts"], true)),
        "/b.ts" => Reply::of(206, segment(2, 50)).with("Content-Range", "bytes 0-9399/9400"),
        _ if asked.headers.contains_key("range") => {
            let all = segment(1, 50);
            Reply::of(206, &all[4000..]).with("Content-Range", "bytes 4000-9399/9400").with("ETag", "\"v1\"")
        }
        _ => Reply { cut_at: Some(5000), ..Reply::of(200, segment(1, 50)).with("ETag", "\"v1\"") },
    });
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &format!("{}index.m3u8", origin.url), "");
    let stats = Arc::default();
    with_puller(&config, &stats, async |puller| {
        puller.round().await;
    });
    assert_eq!(failed(&stats, PullFailure::Status), 2, "{:?}", stats.newest_failure());
    for name in ["a.ts", "b.ts"] {
        assert!(!dir.path().join("pulled").join(name).exists(), "{name}");
    }
}

#[test]
fn a_live_window_is_followed_and_what_leaves_it_is_removed() {
    let step = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&step);
    let origin = Origin::new(move |asked| match asked.target.as_str() {
        "/live/index.m3u8" => {
            let at = now.load(Ordering::SeqCst);
            let etag = format!("\"{at}\"");
            if asked.headers.get("if-none-match") == Some(&etag) {
                return Reply::of(304, "");
            }
            let names: Vec<String> = (at..at + 3).map(|it| format!("{it}.ts")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let text = playlist(&names, false).replace("SEQUENCE:0", &format!("SEQUENCE:{at}"));
            Reply::of(200, text).with("ETag", etag)
        }
        _ => Reply::of(200, segment(1, 4)),
    });
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &format!("{}live/index.m3u8", origin.url), "reserved_bps = 1_000_000");
    let stats = Arc::default();
    with_puller(&config, &stats, async |puller| {
        let round = puller.round().await;
        let inventory = round.inventory.unwrap();
        assert_eq!((stats.counts()[0], round.missing.len()), (4, 0));
        assert_eq!(puller.look_again(&inventory), Duration::from_secs(2), "half a target duration");
        puller.round().await;
        assert_eq!(stats.counts()[2], 1, "not modified");
        step.store(2, Ordering::SeqCst);
        let inventory = puller.round().await.inventory.unwrap();
        assert_eq!(stats.counts()[0], 4 + 1 + 2);
        puller.remove_unnamed(&inventory, &[]);
        assert!(dir.path().join("pulled/0.ts").exists(), "receivers may be behind");
        for since in puller.unnamed.values_mut() {
            *since -= KEEP;
        }
        puller.remove_unnamed(&inventory, &[]);
    });
    assert_eq!(stats.counts()[3], 2);
    // After a restart the same goes for what was pulled before, and not for files of others.
    let pulled_before = |config: &Config| pullers(config, &Arc::default()).unwrap().remove(0).pulled.len();
    assert_eq!(pulled_before(&config), 4);
    fs::remove_file(dir.path().join("pulled").join(MARK)).unwrap();
    assert_eq!(pulled_before(&config), 0);
    let names = |name: &str| dir.path().join("pulled").join(name).exists();
    assert!(!names("0.ts") && !names("1.ts") && names("2.ts") && names("4.ts") && names("index.m3u8"));
}

#[test]
fn pulled_bytes_are_bounded_and_room_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let first = dir.path().join("pulled/0.ts");
    let step = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&step);
    let origin = Origin::new(move |asked| match (asked.target.as_str(), now.load(Ordering::SeqCst)) {
        ("/index.m3u8", 0) => Reply::of(200, playlist(&["0.ts", "1.ts"], false)),
        ("/index.m3u8", _) => Reply::of(200, playlist(&["2.ts"], false).replace("SEQUENCE:0", "SEQUENCE:2")),
        (target, _) => {
            // Both are asked for at once: the second has its turn when the first is stored.
            while target == "/1.ts" && !first.exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
            Reply::of(200, segment(1, 100))
        }
    });
    let more = "reserved_bps = 1_000_000\npull_bytes = 30_000";
    let config = config(dir.path(), &format!("{}index.m3u8", origin.url), more);
    let stats = Arc::default();
    with_puller(&config, &stats, async |puller| {
        let round = puller.round().await;
        assert_eq!(
            (round.missing.as_slice(), failed(&stats, PullFailure::Full)),
            (&["1.ts".to_owned()][..], 1)
        );
        step.store(1, Ordering::SeqCst);
        puller.failing.clear();
        let inventory = puller.round().await.inventory.unwrap();
        assert_eq!(failed(&stats, PullFailure::Full), 2, "0.ts is still there");
        puller.remove_unnamed(&inventory, &[]);
        for since in puller.unnamed.values_mut() {
            *since -= KEEP;
        }
        puller.remove_unnamed(&inventory, &[]);
        let round = puller.round().await;
        assert!(round.missing.is_empty(), "{:?}", round.missing);
    });
    assert!(dir.path().join("pulled/2.ts").exists());
}

#[test]
fn what_an_origin_must_not_do_is_refused_and_counted() {
    let answer = |asked: &ReceivedRequest| match asked.target.as_str() {
        "/film/index.m3u8" => Reply::of(
            200,
            playlist(
                &["gone.ts", "coded.ts", "round.ts", "away.ts", ".hidden.ts", "cut.ts", "../out.ts"],
                true,
            ),
        ),
        "/film/coded.ts" => Reply::of(200, "x").with("Content-Encoding", "gzip"),
        "/film/round.ts" => Reply::of(302, "").with("Location", "/film/round.ts"),
        "/film/away.ts" => Reply::of(302, "").with("Location", "file:///etc/hostname"),
        "/film/cut.ts" => Reply { cut_at: Some(4), ..Reply::of(200, segment(1, 3)) },
        "/film/long.m3u8" => Reply::of(200, vec![b'#'; MAX_MANIFEST_BYTES as usize + 1]),
        "/film/gone.ts" => Reply::of(404, ""),
        "/film/nobody.m3u8" => Reply::of(302, "").with("Location", "http://127.0.0.1:9/y.m3u8"),
        "/film/moved.m3u8" => Reply::of(302, "").with("Location", "/film/gone.ts"),
        _ => Reply::of(500, ""),
    };
    let origin = Origin::new(answer);
    let dir = tempfile::tempdir().unwrap();
    let folder = config(dir.path(), &format!("{}film/index.m3u8", origin.url), "");
    let stats = Arc::default();
    with_puller(&folder, &stats, async |puller| {
        puller.round().await;
    });
    let expected = [
        (PullFailure::NotFound, 1),
        (PullFailure::Encoded, 1),
        (PullFailure::Redirect, 2),
        (PullFailure::BadPath, 1),
        (PullFailure::Cut, 1),
        (PullFailure::Status, 0),
    ];
    for (why, count) in expected {
        assert_eq!(failed(&stats, why), count, "{why}: {:?}", stats.newest_failure());
    }
    assert!(origin.asked("/out.ts").is_empty() && origin.asked("/film/.hidden.ts").is_empty());
    assert_eq!(origin.asked("/film/cut.ts").len(), ATTEMPTS as usize);
    assert_eq!(fs::read_dir(dir.path().join("pulled")).unwrap().count(), 2, "the manifest and the mark");
    let pulled = complete(&folder, |_, _| {}).unwrap().remove(0);
    let told = |name: &str| &pulled.missing.iter().find(|it| it.name == name).unwrap().detail;
    assert_eq!(told("cut.ts"), "the response ended after 4 of 564 bytes, at attempt 3");
    assert_eq!(told("coded.ts"), "Content-Encoding: gzip");
    let last = format!("more than 5 redirects in succession, the last to {}film/round.ts", origin.url);
    assert_eq!(*told("round.ts"), last);
    assert_eq!(told("away.ts"), "302 to file:///etc/hostname, which is not an http or https URL");

    let long = config(dir.path(), &format!("{}film/long.m3u8", origin.url), "");
    let why = refusal(&long);
    assert!(why.contains("long.m3u8: too_long (more than 16777216 bytes)"), "{why}");
    let nobody = config(dir.path(), "http://127.0.0.1:9/x.m3u8", "");
    let why = refusal(&nobody);
    assert!(why.contains("http://127.0.0.1:9/x.m3u8: connect (Connection refused)"), "{why}");
    // Behind a redirect the URL that failed is another one.
    for (name, said) in [
        (
            "nobody",
            "nobody.m3u8: connect (redirected to http://127.0.0.1:9/y.m3u8: Connection refused)".to_owned(),
        ),
        ("moved", format!("moved.m3u8: not_found (redirected to {}film/gone.ts: 404)", origin.url)),
    ] {
        let why = refusal(&config(dir.path(), &format!("{}film/{name}.m3u8", origin.url), ""));
        assert!(why.contains(&said), "{why}");
    }
}

/// Why the only source does not come.
pub(super) fn refusal(config: &Config) -> String {
    complete(config, |_, _| {}).unwrap().remove(0).refusal.unwrap().to_string()
}

#[test]
fn every_source_is_tried_whatever_happens_to_others() {
    let origin = Origin::new(|asked| match asked.target.as_str() {
        "/film/index.m3u8" => Reply::of(200, playlist(&["a.ts", "gone.ts"], true)),
        "/film/a.ts" => Reply::of(200, segment(1, 3)),
        "/page/index.m3u8" => Reply::of(200, "<html>"),
        "/shut/index.m3u8" => Reply::of(403, ""),
        _ => Reply::of(404, ""),
    });
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "in the way of a folder").unwrap();
    let source = |name: &str, path: &str| {
        format!(
            "[[source]]\npath = '{path}'\nname = '{name}'\nbase = 'https://h/{name}/'\npull = '{}{name}/index.m3u8'\n",
            origin.url
        )
    };
    let names = ["none", "file", "page", "shut", "film"];
    let sources: String =
        names.iter().map(|name| source(name, if *name == "file" { "file/x" } else { name })).collect();
    let config = Config::parse(&format!("link.rate_bps = 8_000_000\n{sources}"), dir.path()).unwrap();
    let mut seen = (0, 0);
    let pulled = complete(&config, |files, bytes| seen = (files, bytes)).unwrap();
    assert_eq!(pulled.iter().map(|it| it.source.as_str()).collect::<Vec<_>>(), names);
    let reasons: Vec<_> = pulled.iter().map(|it| it.refusal.as_ref().map(|it| it.reason)).collect();
    assert_eq!(reasons, [Some("not_found"), Some("io"), Some("no_package"), Some("denied"), None]);
    let shut = pulled[3].refusal.as_ref().unwrap().to_string();
    assert!(shut.contains("pull_authorization_file") && !shut.contains("bucket"), "{shut}");
    let [.., film] = &pulled[..] else { panic!() };
    assert_eq!((film.files, film.missing.len(), film.missing[0].reason), (2, 1, "not_found"));
    assert!(dir.path().join("film/a.ts").exists());
}

#[test]
fn every_source_that_cannot_be_followed_is_named_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "in the way of a folder").unwrap();
    let source = |name: &str, more: &str| {
        format!(
            "[[source]]\nname = '{name}'\nbase = 'https://h/{name}/'\npull = 'http://127.0.0.1:9/a.m3u8'\n{more}\n"
        )
    };
    let sources = source("one", "path = 'file/x'")
        + &source("two", "path = 'two'")
        + &source("three", "path = 'three'\npull_authorization_file = 'none'");
    let config = Config::parse(&format!("link.rate_bps = 8_000_000\n{sources}"), dir.path()).unwrap();
    let why = start(&config).unwrap_err();
    let lines: Vec<_> = why.lines().collect();
    assert_eq!(lines.len(), 2, "{why}");
    assert!(
        lines[0].starts_with("source one: io (") && lines[1].contains("none: there is no such file"),
        "{why}"
    );
}

#[test]
fn check_asks_web_servers_for_their_manifests() {
    let origin = Origin::new(|asked| match asked.target.as_str() {
        "/film/index.m3u8?key=secret" => Reply::of(200, playlist(&["a.ts"], true)),
        "/page/index.m3u8" => Reply::of(200, "<html>"),
        _ => Reply::of(404, ""),
    });
    let dir = tempfile::tempdir().unwrap();
    let probed = |path: &str| {
        let config = config(dir.path(), &format!("{}{path}", origin.url), "");
        let (name, kind, probed) = probe(&config).remove(0);
        assert_eq!((name.as_str(), kind), ("pulled", OriginKind::Web));
        probed
    };
    let length = playlist(&["a.ts"], true).len();
    let fine = format!("{}film/index.m3u8: a manifest of {length} bytes", origin.url);
    assert_eq!(probed("film/index.m3u8?key=secret"), Probed::Fine(fine));
    for (path, why) in [
        ("page/index.m3u8", "no_package (neither an HLS playlist nor a DASH MPD)"),
        ("gone/index.m3u8", "not_found (404)"),
    ] {
        let Probed::Wrong { what, fix } = probed(path) else { panic!("{path}") };
        assert!(what == format!("{}{path}: {why}", origin.url) && !fix.is_empty(), "{what}; {fix}");
    }
    for (answer, why) in [
        (&b""[..], "ended the connection without an answer"),
        (&b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..], "does not use HTTP"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a.m3u8", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            assert!(lines.map_while(Result::ok).any(|line| line.is_empty()), "the end of the request");
            stream.write_all(answer).unwrap();
        });
        let Probed::Wrong { what, .. } = probe(&config(dir.path(), &url, "")).remove(0).2 else { panic!() };
        assert!(what.contains(why), "{what}");
    }
    // Nothing is written: `pull` alone makes the folder.
    assert!(!dir.path().join("pulled").exists());
}

#[test]
fn credentials_go_to_the_manifests_host_alone() {
    let other = Origin::new(|_| Reply::of(200, segment(1, 3)));
    let elsewhere = format!("{}a.ts", other.url);
    let origin = Origin::new(move |asked| match asked.target.as_str() {
        "/index.m3u8?key=1" => Reply::of(200, playlist(&["a.ts", "b.ts"], true)),
        "/a.ts" => Reply::of(307, "").with("Location", elsewhere.clone()),
        _ => Reply::of(200, segment(1, 3)),
    });
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("token"), "Bearer secret-of-the-origin\n").unwrap();
    let config =
        config(dir.path(), &format!("{}index.m3u8?key=1", origin.url), "pull_authorization_file = 'token'");
    complete(&config, |_, _| {}).unwrap();
    for target in ["/index.m3u8?key=1", "/a.ts", "/b.ts"] {
        assert_eq!(origin.asked(target)[0].headers["authorization"], "Bearer secret-of-the-origin");
    }
    assert!(!other.asked("/a.ts")[0].headers.contains_key("authorization"));
    assert!(dir.path().join("pulled/a.ts").exists());
}

#[test]
fn mistakes_are_told_with_what_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let text_of = |more: &str| {
        format!("[link]\nrate_bps = 1_000_000\n[[source]]\npath = 'a'\nbase = 'https://h/a/'\n{more}\n")
    };
    let wrong = |more: &str| {
        let mistakes = Config::parse(&text_of(more), dir.path()).unwrap_err();
        format!("{mistakes:?}")
    };
    assert!(wrong("pull = 'ftp://host/a.m3u8'").contains("https://host/path/master.m3u8"));
    for url in [
        "http://u:p4ss@h/a.m3u8",
        "https://p4ss@h/a.mpd",
        "https://u:p4ss@h",
        "ftp://u:p4ss@h/a.m3u8",
        "https://u:p4ss@h/a.mpd?x=y@z",
    ] {
        let told = wrong(&format!("pull = '{url}'"));
        assert!(told.contains("user or password") && !told.contains("p4ss"), "{url}: {told}");
    }
    assert!(Config::parse(&text_of("pull = 'https://h/a@b/c.mpd?u=x@y'"), dir.path()).is_ok());
    assert!(wrong("pull = 's3://bucket/film'").contains("slash at its end"));
    let secret = wrong("pull = 's3://AKIA:secret@bucket/film/'");
    assert!(secret.contains("credentials") && !secret.contains("secret@"), "{secret}");
    assert!(wrong("[source.s3]\nregion = 'x'").contains("nothing is pulled"));
    let bucket = "pull = 's3://bucket/film/'";
    assert!(wrong(&format!("{bucket}\npull_authorization_file = 'x'")).contains("signed"));
    assert!(wrong(&format!("{bucket}\n[source.s3]\nendpoint = 'minio:9000'")).contains("s3.endpoint"));
    let secret = wrong(&format!("{bucket}\n[source.s3]\nendpoint = 'https://u:secret@minio'"));
    assert!(secret.contains("credentials_file") && !secret.contains("secret@"), "{secret}");
    let both = format!("{bucket}\n[source.s3]\nanonymous = true\nprofile = 'x'");
    assert!(wrong(&both).contains("s3.anonymous"));
    assert!(wrong("pull = 'https://h/a.mpd'\n[source.s3]\nregion = 'x'").contains("pull is not a bucket"));
    assert!(wrong("pull = 'https://h/folder/'").contains("is not a URL of a manifest"));
    assert!(wrong("pull_authorization_file = 'x'").contains("nothing is pulled"));
    assert!(wrong("pull_ca = 'x'").contains("nothing is pulled"));
    assert!(wrong("pull = 'https://h/a.mpd'\npull_bytes = 0").contains("must be greater than 0"));
}

#[test]
fn the_next_round_is_due_whatever_is_overdue() {
    let now = Instant::now() + Duration::from_secs(100);
    let ms = |ms: u64| Duration::from_millis(ms);
    let at = |offset_ms: i64| now + ms(100_000 + offset_ms as u64) - ms(100_000);
    let before = |offset_ms: u64| now - ms(offset_ms);
    for (fresh_ms, listing, retry, expected) in [
        (None, None, None, LOOK),
        (Some(2000), None, None, ms(2000)),
        (Some(1), None, None, ms(250)),
        (Some(60_000), None, None, ms(10_000)),
        (None, Some(at(7000)), None, ms(7000)),
        (None, None, Some(at(3000)), ms(3000)),
        // A file that failed is asked for no sooner than a live manifest would be.
        (None, None, Some(before(5000)), ms(250)),
        (Some(2000), None, Some(at(8000)), ms(2000)),
        // The bucket is to be listed in less than that, or has been due for long, and a file is missing.
        (None, Some(at(100)), Some(at(3000)), ms(100)),
        (None, Some(at(100)), Some(before(1)), ms(100)),
        (Some(2000), Some(before(9000)), Some(at(64_000)), ms(0)),
    ] {
        let found = until_next_round(now, fresh_ms, listing, retry);
        assert_eq!(found, expected, "{fresh_ms:?} {listing:?} {retry:?}");
    }
}

#[test]
fn a_source_whose_task_panics_is_counted_told_and_followed_again() {
    let stats = PullStats::default();
    let runs = std::cell::Cell::new(0);
    let tasks = tokio::task::LocalSet::new();
    let again = || {
        runs.set(runs.get() + 1);
        Ok(runs.get())
    };
    let follow = async |run: u32| -> Infallible {
        assert!(run > 0, "the first run fails");
        std::future::pending().await
    };
    tasks.block_on(&runtime().unwrap(), async {
        let followed = keep_following("film", 0, again, follow, &stats);
        let has_restarted = async {
            while runs.get() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = followed => panic!("it ends never"),
            () = has_restarted => {}
        }
    });
    assert_eq!((runs.get(), failed(&stats, PullFailure::Internal)), (1, 1));
    let told = stats.newest_failure().unwrap();
    assert_eq!(told, "source film: internal (the first run fails)");
}

#[test]
fn what_does_not_come_has_its_reason_also_where_an_old_copy_is_there() {
    let is_gone = Arc::new(AtomicUsize::new(0));
    let gone = Arc::clone(&is_gone);
    let origin = Origin::new(move |asked| match asked.target.as_str() {
        "/index.m3u8" if gone.load(Ordering::SeqCst) == 1 => Reply::of(404, ""),
        "/index.m3u8" => Reply::of(200, playlist(&["a.ts", "b.ts", ".c.ts", "d.ts"], true)),
        "/d.ts" => Reply::of(401, ""),
        _ => Reply::of(200, segment(1, 100)),
    });
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &format!("{}index.m3u8", origin.url), "pull_bytes = 30_000");
    let told = |config: &Config| {
        let missing = complete(config, |_, _| {}).unwrap().remove(0).missing;
        missing.into_iter().map(|it| (it.name, it.reason, it.detail)).collect::<Vec<_>>()
    };
    let reasons: Vec<_> = told(&config).into_iter().map(|it| (it.1, it.2)).collect();
    let full = ("full", String::new());
    let denied = ("denied", "401".to_owned());
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons.contains(&full) && reasons.contains(&denied), "{reasons:?}");
    assert!(reasons.contains(&("bad_path", String::new())), "{reasons:?}");
    is_gone.store(1, Ordering::SeqCst);
    let index = ("index.m3u8".to_owned(), "not_found", "404".to_owned());
    assert!(told(&config).contains(&index), "the old copy does not stand for the manifest");
}

#[test]
fn every_reason_of_a_bucket_has_a_fix_of_its_own_and_is_in_the_guide() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/start/bucket.md");
    let guide = fs::read_to_string(guide).unwrap();
    let mut fixes = HashSet::new();
    for why in PullFailure::ALL {
        assert!(guide.contains(&format!("\n| `{why}` |")), "{why}");
        let of_both = HashSet::from([OriginKind::Web, OriginKind::Bucket].map(|kind| why.fix(kind)));
        for fix in of_both {
            assert!(fixes.insert(fix), "{why} has the fix of another reason");
        }
    }
}
