//! HTTP between clients, daemon and a scripted origin. No faster ring shows which bytes go over the wire between the three, and
//! when.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use hyper::Method;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use skycache_tests::client::{Response, request};
use skycache_tests::programs::have;
use skycache_tests::{Asked, Scripted, Step, Story, answer, get};

/// A daemon before an origin.
fn before(origin: &Scripted, extra: &str) -> Story {
    let mut story = Story::new();
    let address = origin.address();
    story.daemon_extra =
        format!("[[route]]\npath = \"/o/\"\nbase = \"http://{address}/\"\nrewrite = true\n{extra}");
    story.start_daemon();
    story
}

fn status_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().next().unwrap_or("").to_owned()
}

/// Sends bytes as they are; gives what comes until the connection ends or nothing comes for a second.
fn raw(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut out = Vec::new();
    let mut piece = [0; 65536];
    while let Ok(count) = stream.read(&mut piece) {
        if count == 0 {
            break;
        }
        out.extend_from_slice(&piece[..count]);
    }
    out
}

/// One line of the book: what the origin says first, what is asked then, and whether the origin hears of it.
struct Case {
    name: &'static str,
    first: &'static [(&'static str, &'static str)],
    says: &'static [(&'static str, &'static str)],
    then: &'static [(&'static str, &'static str)],
    /// The second request reaches the origin.
    asks: bool,
    status: u16,
}

const fn case(name: &'static str, says: &'static [(&'static str, &'static str)], asks: bool) -> Case {
    Case { name, first: &[], says, then: &[], asks, status: 200 }
}

const BOOK: [Case; 24] = [
    case("fresh", &[("Cache-Control", "max-age=60")], false),
    case("stale-at-once", &[("Cache-Control", "max-age=0")], true),
    case("was-fresh", &[("Cache-Control", "max-age=1")], true),
    case("old-by-age", &[("Cache-Control", "max-age=60"), ("Age", "90")], true),
    case("shared", &[("Cache-Control", "max-age=0, s-maxage=60")], false),
    case("no-store", &[("Cache-Control", "max-age=60, no-store")], true),
    case("private", &[("Cache-Control", "private, max-age=60")], true),
    case("no-cache", &[("Cache-Control", "no-cache, max-age=60")], true),
    case("targeted", &[("Cache-Control", "no-store"), ("CDN-Cache-Control", "max-age=60")], false),
    case("expires", &[("Expires", "Thu, 18 Aug 2050 02:01:18 GMT")], false),
    case("expires-is-no-date", &[("Expires", "Thu, 18 Aug 2050 2:01:18 GMT")], true),
    case("nothing-said", &[], true),
    case("nothing-said.m4s", &[], false),
    case("nothing-said.mpd", &[], false),
    case("heuristic", &[("Last-Modified", "Tue, 01 Jan 2019 00:00:00 GMT")], false),
    case("vary-star", &[("Cache-Control", "max-age=60"), ("Vary", "Foo, *")], true),
    Case {
        name: "vary-same",
        first: &[("foo", "1")],
        says: &[("Cache-Control", "max-age=60"), ("Vary", "Foo")],
        then: &[("foo", "1"), ("other", "x")],
        asks: false,
        status: 200,
    },
    Case {
        name: "vary-other",
        first: &[("foo", "1")],
        says: &[("Cache-Control", "max-age=60"), ("Vary", "Foo")],
        then: &[("foo", "2")],
        asks: true,
        status: 200,
    },
    Case {
        name: "authorized",
        first: &[("authorization", "x")],
        says: &[("Cache-Control", "max-age=60")],
        then: &[],
        asks: true,
        status: 200,
    },
    Case {
        name: "authorized-for-all",
        first: &[("authorization", "x")],
        says: &[("Cache-Control", "max-age=60, public")],
        then: &[],
        asks: false,
        status: 200,
    },
    Case {
        name: "not-modified",
        first: &[],
        says: &[("Cache-Control", "max-age=60"), ("ETag", "\"e\"")],
        then: &[("if-none-match", "\"x\", W/\"e\"")],
        asks: false,
        status: 304,
    },
    Case {
        name: "part-of-whole",
        first: &[],
        says: &[("Cache-Control", "max-age=60")],
        then: &[("range", "bytes=1-2")],
        asks: false,
        status: 206,
    },
    Case {
        name: "beyond",
        first: &[],
        says: &[("Cache-Control", "max-age=60")],
        then: &[("range", "bytes=100-")],
        asks: false,
        status: 416,
    },
    case("while-revalidating", &[("Cache-Control", "max-age=1, stale-while-revalidate=60")], false),
];

#[test]
fn caching_by_the_book() {
    let origin = Scripted::start(|asked: &Asked| {
        let name = asked.path.trim_start_matches('/');
        let case = BOOK.iter().find(|case| case.name == name).expect("a case");
        answer(200, case.says, format!("time {}", asked.time).as_bytes())
    });
    let story = before(&origin, "");
    for case in &BOOK {
        let response = get(story.http, &format!("/o/{}", case.name), case.first).unwrap();
        assert_eq!((response.status, response.body.as_slice()), (200, &b"time 1"[..]), "{}", case.name);
    }
    sleep(Duration::from_millis(2100));
    for case in &BOOK {
        let response = get(story.http, &format!("/o/{}", case.name), case.then).unwrap();
        let is_new = response.body == b"time 2";
        assert_eq!(
            (response.status, is_new),
            (case.status, case.asks),
            "{}: {:?}",
            case.name,
            response.headers
        );
        if !case.asks {
            let age: u64 = response.header("age").parse().unwrap_or(0);
            assert!(age >= 2, "{}: a response out of the cache is as old as it is: {age}", case.name);
        }
    }
    sleep(Duration::from_millis(300));
    assert_eq!(origin.asked("/while-revalidating").len(), 2, "it was asked about meanwhile");
}

#[test]
fn what_is_stale_is_asked_about_and_a_304_brings_it_up_to_date() {
    let origin = Scripted::start(|asked: &Asked| match (asked.path.as_str(), asked.time) {
        ("/tag", 1) => {
            answer(200, &[("Cache-Control", "max-age=1"), ("ETag", "\"v1\""), ("X-Turn", "1")], b"body")
        }
        ("/tag", _) => {
            assert_eq!(asked.field("if-none-match"), "\"v1\"");
            answer(304, &[("Cache-Control", "max-age=60"), ("ETag", "\"v1\""), ("X-Turn", "2")], b"")
        }
        ("/ill", 1) => answer(200, &[("Cache-Control", "max-age=1")], b"body"),
        ("/must", 1) => answer(200, &[("Cache-Control", "max-age=1, must-revalidate")], b"body"),
        _ => answer(503, &[], b"ill"),
    });
    let story = before(&origin, "");
    for path in ["/o/tag", "/o/ill", "/o/must"] {
        assert_eq!(get(story.http, path, &[]).unwrap().body, b"body", "{path}");
    }
    sleep(Duration::from_millis(1200));
    for turn in 0..2 {
        let response = get(story.http, "/o/tag", &[]).unwrap();
        assert_eq!((response.body.as_slice(), response.header("x-turn")), (&b"body"[..], "2"), "{turn}");
    }
    assert_eq!(origin.asked("/tag").len(), 2, "after a 304 it is fresh again");
    let response = get(story.http, "/o/ill", &[]).unwrap();
    assert_eq!((response.status, response.body.as_slice()), (200, &b"body"[..]), "an origin that fails");
    assert!(response.header("cache-status").contains("stale-if-error"), "{:?}", response.headers);
    assert_eq!(get(story.http, "/o/must", &[]).unwrap().status, 503, "must-revalidate");
}

#[test]
fn two_hundred_players_of_a_cold_segment_are_one_request() {
    let body: Vec<u8> = (0..300_000_u32).map(|it| (it % 251) as u8).collect();
    let sent = body.clone();
    let origin = Scripted::start(move |_: &Asked| {
        let mut steps = vec![Step::Wait(Duration::from_millis(300))];
        steps.extend(answer(200, &[("Cache-Control", "max-age=60")], &sent));
        steps
    });
    let story = before(&origin, "");
    let (http, body) = (story.http, Arc::new(body));
    let players: Vec<_> = (0..200)
        .map(|_| {
            let body = Arc::clone(&body);
            std::thread::spawn(move || {
                let response = get(http, "/o/1.m4s", &[]).unwrap();
                assert!(response.status == 200 && response.whole && response.body == *body);
            })
        })
        .collect();
    players.into_iter().for_each(|it| it.join().unwrap());
    assert_eq!(origin.asked("/1.m4s").len(), 1);
}

#[test]
fn what_dribbles_is_fetched_once_and_who_joins_in_the_middle_is_streamed_to_at_once() {
    const PIECE: usize = 25_000;
    let origin = Scripted::start(|_: &Asked| {
        let mut steps = vec![Step::Send(
            format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {}\r\n\r\n", 40 * PIECE)
                .into(),
        )];
        for piece in 0..40_u8 {
            steps.push(Step::Send(vec![piece; PIECE]));
            steps.push(Step::Wait(Duration::from_millis(100)));
        }
        steps
    });
    let story = before(&origin, "");
    let http = story.http;
    let play = move || get(http, "/o/long.m4s", &[]).unwrap();
    // The first one leaves at once, and it goes on.
    let mut first = TcpStream::connect(http).unwrap();
    first.write_all(b"GET /o/long.m4s HTTP/1.1\r\nHost: box\r\n\r\n").unwrap();
    let mut byte = [0; 1];
    first.read_exact(&mut byte).unwrap();
    drop(first);
    let early: Vec<_> = (0..25).map(|_| std::thread::spawn(play)).collect();
    sleep(Duration::from_millis(2000));
    let began = Instant::now();
    let mut late = TcpStream::connect(http).unwrap();
    late.write_all(b"GET /o/long.m4s HTTP/1.1\r\nHost: box\r\n\r\n").unwrap();
    let mut head = [0; 4096];
    let count = late.read(&mut head).unwrap();
    assert!(count > 0 && began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    let others: Vec<_> = (0..25).map(|_| std::thread::spawn(play)).collect();
    for player in early.into_iter().chain(others) {
        let response: Response = player.join().unwrap();
        assert_eq!((response.status, response.whole, response.body.len()), (200, true, 40 * PIECE));
        assert!(response.body.iter().enumerate().all(|(at, &byte)| usize::from(byte) == at / PIECE));
    }
    assert_eq!(origin.asked("/long.m4s").len(), 1);
}

#[test]
fn a_cold_range_fetches_no_more_than_it_needs_and_what_was_fetched_is_kept() {
    let body: Arc<Vec<u8>> = Arc::new((0..2_000_000_u32).map(|it| (it * 7 % 253) as u8).collect());
    let sent = Arc::clone(&body);
    let origin = Scripted::start(move |asked: &Asked| {
        let says = [("Cache-Control", "max-age=60"), ("ETag", "\"v\"")];
        let range =
            asked.field("range").strip_prefix("bytes=").and_then(|it| it.split_once('-')).map(|(a, b)| {
                let length = sent.len();
                (a.parse::<usize>().unwrap(), b.parse::<usize>().unwrap_or(length - 1).min(length - 1))
            });
        match range {
            Some((first, last)) => {
                let range = format!("bytes {first}-{last}/{}", sent.len());
                let says = [says[0], says[1], ("Content-Range", range.as_str())];
                answer(206, &says, &sent[first..=last])
            }
            None => answer(200, &says, &sent),
        }
    });
    let story = before(&origin, "");
    let part = |range: &str, from: usize, to: usize| {
        let response = get(story.http, "/o/film.mp4", &[("range", range)]).unwrap();
        assert_eq!(
            (response.status, response.body == body[from..to]),
            (206, true),
            "{range}: {:?}",
            response.headers
        );
    };
    part("bytes=1000000-1000999", 1_000_000, 1_001_000);
    part("bytes=1000100-1000199", 1_000_100, 1_000_200);
    let asked = origin.asked("/film.mp4");
    assert_eq!((asked.len(), asked[0].field("range")), (1, "bytes=1000000-1000999"));
    part("bytes=1000500-1001499", 1_000_500, 1_001_500);
    assert_eq!(origin.asked("/film.mp4")[1].field("range"), "bytes=1001000-1001499", "only what is missing");
    let whole = get(story.http, "/o/film.mp4", &[]).unwrap();
    assert!(whole.status == 200 && whole.whole && whole.body == *body);
    let asked: Vec<String> =
        origin.asked("/film.mp4").iter().skip(2).map(|it| it.field("range").to_owned()).collect();
    assert_eq!(asked.len(), 2, "before and after what was there: {asked:?}");
    sleep(Duration::from_millis(500));
    assert!(get(story.http, "/o/film.mp4", &[]).unwrap().header("cache-status").contains("hit"));
    part("bytes=-5", 1_999_995, 2_000_000);
    assert_eq!(origin.asked("/film.mp4").len(), 4);
}

#[test]
fn what_changes_things_goes_to_the_origin_and_what_was_held_is_forgotten() {
    let origin = Scripted::start(|asked: &Asked| match asked.method.as_str() {
        "GET" => answer(200, &[("Cache-Control", "max-age=60")], format!("time {}", asked.time).as_bytes()),
        "DELETE" => answer(500, &[], b""),
        _ => answer(200, &[], &asked.body),
    });
    let story = before(&origin, "");
    let time = || get(story.http, "/o/x", &[]).unwrap().body;
    assert_eq!((time(), time()), (b"time 1".to_vec(), b"time 1".to_vec()));
    assert_eq!(request(Method::DELETE, story.http, "/o/x", &[]).unwrap().status, 500);
    assert_eq!(time(), b"time 1", "what fails changes nothing");
    let put = raw(
        story.http,
        b"PUT /o/x HTTP/1.1\r\nHost: box\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    );
    assert!(
        status_line(&put).contains("200") && put.ends_with(b"hello"),
        "{}",
        String::from_utf8_lossy(&put)
    );
    assert_eq!(time(), b"time 4");
    let nowhere = request(Method::POST, story.http, "/elsewhere.example/x", &[]).unwrap();
    assert_eq!(
        (nowhere.status, nowhere.header("allow")),
        (405, "GET, HEAD, OPTIONS"),
        "no origin was named for it"
    );
}

#[test]
fn manifests_are_turned_to_the_box_and_compressed_for_those_who_take_it() {
    let own = std::sync::OnceLock::new();
    let own = Arc::new(own);
    let address = Arc::clone(&own);
    let origin = Scripted::start(move |asked: &Asked| {
        let base: &SocketAddr = address.get().unwrap();
        let mut text = String::from("#EXTM3U\n");
        for number in 0..100 {
            text.push_str(&format!("#EXTINF:4,\nhttp://{base}/v/{number}.m4s\n"));
        }
        let kind = ("Content-Type", "application/vnd.apple.mpegurl");
        // Stale at once, and nothing to ask about it with; and one that nobody may keep.
        let says = match asked.path.as_str() {
            "/never-kept.m3u8" => ("Cache-Control", "max-age=0"),
            "/no-store.m3u8" => ("Cache-Control", "no-store"),
            _ => ("ETag", "\"m\""),
        };
        answer(200, &[kind, says], text.as_bytes())
    });
    own.set(origin.address()).unwrap();
    let story = before(&origin, "");
    for path in ["/o/live.m3u8", "/o/never-kept.m3u8", "/o/no-store.m3u8"] {
        let first = get(story.http, path, &[]).unwrap();
        assert!(
            String::from_utf8_lossy(&first.body).contains("\n/o/v/99.m4s\n"),
            "{path}: the first one too"
        );
    }
    sleep(Duration::from_millis(300));
    let plain = get(story.http, "/o/live.m3u8", &[]).unwrap();
    let text = String::from_utf8(plain.body.clone()).unwrap();
    assert!(text.contains("\n/o/v/99.m4s\n") && !text.contains("http://"), "{text}");
    assert_eq!((plain.header("vary"), plain.header("etag")), ("Accept-Encoding", "\"m-box\""));
    for turn in 0..2 {
        let gzip = get(story.http, "/o/live.m3u8", &[("accept-encoding", "br, gzip")]).unwrap();
        assert_eq!(
            (gzip.header("content-encoding"), gzip.header("etag")),
            ("gzip", "\"m-box-gzip\""),
            "{turn}"
        );
        assert!(gzip.body.len() < plain.body.len() / 4 && gzip.body.starts_with(&[0x1f, 0x8b]));
        let tagged = [("accept-encoding", "gzip"), ("if-none-match", "\"m-box-gzip\"")];
        assert_eq!(get(story.http, "/o/live.m3u8", &tagged).unwrap().status, 304);
    }
}

#[test]
fn what_no_honest_client_sends_harms_nobody() {
    let origin = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], &[7; 1000]));
    let story = before(&origin, "");
    let http = story.http;
    assert_eq!(get(http, "/o/1.m4s", &[]).unwrap().body.len(), 1000);
    for (what, bytes, statuses) in [
        (
            "two lengths",
            "POST /o/x HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            "400",
        ),
        (
            "length and chunks",
            "POST /o/x HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /o/smuggled HTTP/1.1\r\nHost: b\r\n\r\n",
            "400 200",
        ),
        (
            "chunks that are none",
            "POST /o/x HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        ("no host", "GET /o/1.m4s HTTP/1.1\r\n\r\n", "400"),
        ("two hosts", "GET /o/1.m4s HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("a folded field", "GET /o/1.m4s HTTP/1.1\r\nHost: b\r\nX: a\r\n b\r\n\r\n", "400"),
        ("space before a colon", "GET /o/1.m4s HTTP/1.1\r\nHost: b\r\nX : a\r\n\r\n", "400"),
        ("a way out", "GET /o/../../etc/passwd HTTP/1.1\r\nHost: b\r\n\r\n", "400"),
    ] {
        let response = raw(http, bytes.as_bytes());
        assert!(
            statuses.split(' ').any(|it| status_line(&response).contains(it)),
            "{what}: {}",
            status_line(&response)
        );
    }
    assert!(origin.asked("/smuggled").is_empty());
    let many = "X-Many: 1\r\n".repeat(2000);
    let long = format!("GET /o/1.m4s HTTP/1.1\r\nHost: b\r\n{many}\r\n");
    assert!(status_line(&raw(http, long.as_bytes())).contains("431"));
    let ranges: Vec<String> = (0..10_000).map(|at| format!("{at}-{at}")).collect();
    let ranged =
        format!("GET /o/1.m4s HTTP/1.1\r\nHost: b\r\nRange: bytes={}\r\n\r\n", &ranges.join(",")[..20_000]);
    let response = raw(http, ranged.as_bytes());
    assert!(
        status_line(&response).contains("200"),
        "so many ranges are the whole: {}",
        status_line(&response)
    );
    // Requests one behind the other are answered one behind the other.
    let one = "GET /o/1.m4s HTTP/1.1\r\nHost: b\r\n\r\n";
    let three = raw(http, one.repeat(3).as_bytes());
    assert_eq!(three.windows(12).filter(|it| it == b"HTTP/1.1 200").count(), 3);
    assert!(three.len() > 3000);
    // A player that breaks off in the middle, again and again.
    for _ in 0..200 {
        let mut stream = TcpStream::connect(http).unwrap();
        stream.write_all(one.as_bytes()).unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(get(http, "/o/1.m4s", &[]).unwrap().body.len(), 1000, "and all is well");
}

/// A connection that gives up after five seconds without a byte.
fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A TLS connection that trusts `certificate`, a PEM file for `localhost`, and speaks HTTP/1.1.
fn connect_tls(server: SocketAddr, certificate: &Path) -> impl Read + Write {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let session = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    rustls::StreamOwned::new(session, connect(server))
}

/// Makes a key and a certificate of its own for `localhost` in `folder`: the paths of both, and the lines of a
/// configuration that serve TLS with them at `listen`.
fn certificate_in(folder: &Path, listen: SocketAddr) -> (PathBuf, String) {
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    openssl.args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    let made = openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let lines = format!("[http.tls]\nlisten = \"{listen}\"\ncertificate = {certificate:?}\nkey = {key:?}\n");
    (certificate, lines)
}

fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The response to each of `requests`, over one connection: its head's lines without those that change with time, and its
/// body.
fn one_after_the_other(mut stream: impl Read + Write, requests: &[String]) -> Vec<(Vec<String>, Vec<u8>)> {
    let mut responses = Vec::new();
    for request in requests {
        // In two parts, as a network may deliver it.
        let (first, second) = request.as_bytes().split_at(request.len() * (responses.len() % 2) / 2);
        for part in [first, second] {
            stream.write_all(part).unwrap();
            stream.flush().unwrap();
            sleep(Duration::from_millis(10));
        }
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        let (head, length) = loop {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "{request}");
            bytes.extend_from_slice(&buffer[..count]);
            let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else { continue };
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let length = end + 4 + length.parse::<usize>().unwrap();
            if bytes.len() >= length {
                break (head, length - end - 4);
            }
        };
        let changes =
            |line: &&str| !["age:", "server-timing:", "cache-status:"].iter().any(|it| line.starts_with(it));
        let mut lines: Vec<String> = head.lines().filter(changes).map(str::to_owned).collect();
        lines.sort();
        responses.push((lines, bytes.split_off(bytes.len() - length)));
    }
    responses
}

#[test]
fn a_hit_says_the_same_whichever_way_it_is_answered() {
    if !have("openssl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let secure = free_port();
    let (certificate, tls) = certificate_in(folder.path(), secure);
    let manifest = format!("#EXTM3U\n{}", "#EXTINF:4,\nx.m4s\n".repeat(100));
    let origin = Scripted::start(move |asked: &Asked| {
        if asked.path.ends_with(".m3u8") {
            let fields = [("Cache-Control", "max-age=60"), ("Content-Type", "application/vnd.apple.mpegurl")];
            return answer(200, &fields, manifest.as_bytes());
        }
        answer(200, &[("Cache-Control", "max-age=60"), ("ETag", "\"e\"")], &[7; 100_000])
    });
    let story = before(&origin, &tls);
    let http = story.http;
    for (path, fields) in [
        ("/o/1.m4s", ""),
        ("/o/1.m4s", "Range: bytes=500-70000\r\n"),
        ("/o/1.m4s", "Range: bytes=-1\r\n"),
        ("/o/1.m4s", "Range: bytes=200000-\r\n"),
        ("/o/1.m4s", "Range: bytes=0-1,5-6\r\n"),
        ("/o/x.m3u8", ""),
        ("/o/x.m3u8", "Accept-Encoding: br, gzip\r\n"),
    ] {
        let ask = |more: &str| format!("GET {path} HTTP/1.1\r\nHost: b\r\n{fields}{more}\r\n");
        // The first is fetched, the second is what the cache says; a player who wants timings is never answered the short way.
        let (plain, timed) = (ask(""), ask("Server-Timing: 1\r\n"));
        let requests = [&plain, &plain, &plain, &timed, &plain, &timed, &timed, &plain].map(Clone::clone);
        let responses = one_after_the_other(connect(http), &requests);
        for (at, response) in responses.iter().enumerate().skip(2) {
            assert_eq!(response, &responses[1], "{path} {fields:?} {at}");
        }
        let over_tls = one_after_the_other(connect_tls(secure, &certificate), &requests);
        for (at, response) in over_tls.iter().enumerate() {
            assert_eq!(response, &responses[1], "over TLS: {path} {fields:?} {at}");
        }
    }
    assert_eq!(origin.asked("/1.m4s").len(), 1);
}

#[test]
fn what_is_left_of_a_body_is_no_request() {
    let origin = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], b"x"));
    let story = before(&origin, "");
    let smuggled = "GET /o/smuggled HTTP/1.1\r\nHost: b\r\n\r\n";
    // No origin takes it: the answer comes before the body.
    for path in ["/nowhere.example/x", "/o/x"] {
        let mut stream = TcpStream::connect(story.http).unwrap();
        let length = smuggled.len() + 5;
        let head = format!("POST {path} HTTP/1.1\r\nHost: b\r\nContent-Length: {length}\r\n\r\nhello");
        stream.write_all(head.as_bytes()).unwrap();
        sleep(Duration::from_millis(200));
        // By then it may have been told that nobody listens.
        let _ = stream.write_all(smuggled.as_bytes());
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        assert_eq!(
            all.windows(9).filter(|it| it == b"HTTP/1.1 ").count(),
            1,
            "{}",
            String::from_utf8_lossy(&all)
        );
    }
    assert!(origin.asked("/smuggled").is_empty());
}

#[test]
fn who_does_not_end_his_question_is_shut_out_and_the_idle_cost_little() {
    const IDLE: usize = 2000;
    if !have("openssl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let secure = free_port();
    let (certificate, tls) = certificate_in(folder.path(), secure);
    let origin = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], b"x"));
    let story = before(&origin, &tls);
    let http = story.http;
    let resident = || -> u64 {
        let pid = story.daemon.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    get(http, "/o/x", &[]).unwrap();
    let before = resident();
    let mut half = TcpStream::connect(http).unwrap();
    half.write_all(b"GET /o/x HTTP/1.1\r\nHo").unwrap();
    let mut half_over_tls = connect_tls(secure, &certificate);
    half_over_tls.write_all(b"GET /o/x HTTP/1.1\r\nHo").unwrap();
    let began = Instant::now();
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let Ok(mut stream) = TcpStream::connect(http) else { break };
        stream.write_all(b"GET /o/x HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
        let mut head = [0; 2048];
        assert!(stream.read(&mut head).unwrap() > 0);
        idle.push(stream);
    }
    sleep(Duration::from_secs(1));
    let each = resident().saturating_sub(before) / idle.len() as u64;
    println!("{} idle connections: {each} bytes each", idle.len());
    assert!(each < 4000, "{each} bytes for each idle connection");
    // They are still there.
    let last = idle.last_mut().unwrap();
    last.write_all(b"GET /o/x HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
    assert!(last.read(&mut [0; 2048]).unwrap() > 0);
    half.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert_eq!(half.read(&mut [0; 64]).unwrap_or(0), 0, "half a question is no question");
    assert_eq!(half_over_tls.read(&mut [0; 64]).unwrap_or(0), 0, "over TLS neither");
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
}

#[test]
fn http2_over_tls_and_a_new_certificate_without_a_restart() {
    if !have("openssl") || !have("curl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let make = |name: &str| {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj"])
            .arg(format!("/CN={name}"));
        let made = openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    make("first.example");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let origin = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], &[9; 300_000]));
    let tls = format!("[http.tls]\nlisten = \"{port}\"\ncertificate = {certificate:?}\nkey = {key:?}\n");
    let story = before(&origin, &tls);
    let curl = |more: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-sk", "-o", "/dev/null", "-w", "%{http_version} %{http_code} %{size_download}"])
            .args(more);
        String::from_utf8(curl.arg(format!("https://{port}/o/1.m4s")).output().unwrap().stdout).unwrap()
    };
    for _ in 0..2 {
        assert_eq!(curl(&["--http2"]), "2 200 300000");
        assert_eq!(curl(&["--http1.1"]), "1.1 200 300000");
    }
    assert_eq!(curl(&["--http2", "-r", "5-9"]), "2 206 5");
    assert_eq!(origin.asked("/1.m4s").len(), 1, "one cache behind both doors");
    let subject = || {
        let line = format!("echo | openssl s_client -connect {port} 2>/dev/null | grep ^subject");
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().replace([' ', '\n'], "")
    };
    assert!(subject().ends_with("CN=first.example"), "{}", subject());
    make("second.example");
    let until = Instant::now() + Duration::from_secs(30);
    while !subject().ends_with("CN=second.example") {
        assert!(Instant::now() < until, "{}", subject());
        sleep(Duration::from_millis(500));
    }
    drop(story);
}

#[test]
fn every_response_is_a_line_of_the_log_and_a_count_of_its_route() {
    let origin = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], &[1; 5000]));
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let story = before(&origin, &format!("[http.access_log]\npath = {log:?}\nformat = \"json\"\n"));
    let timed = get(story.http, "/o/1.m4s?CMCD=bl%3D2500", &[("server-timing", "")]).unwrap();
    assert!(timed.header("server-timing").contains("desc=\"miss\""), "{:?}", timed.headers);
    sleep(Duration::from_millis(1100));
    get(story.http, "/o/1.m4s?CMCD=bl%3D1200", &[("range", "bytes=0-99"), ("user-agent", "tv")]).unwrap();
    sleep(Duration::from_millis(1100));
    get(story.http, "/none.example/x", &[]).unwrap();
    let lines = |count: usize| -> Vec<serde_json::Value> {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if text.lines().count() >= count || Instant::now() > until {
                let mut all: Vec<serde_json::Value> =
                    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                // Each worker hands over its own lines.
                all.sort_by_key(|line| line["time"].to_string());
                return all;
            }
            sleep(Duration::from_millis(100));
        }
    };
    let all = lines(3);
    assert_eq!(all.len(), 3, "{all:?}");
    let of = |at: usize, name: &str| all[at][name].clone();
    assert_eq!(
        (of(0, "cache"), of(0, "bytes"), of(0, "cmcd")),
        ("miss".into(), 5000.into(), "bl=2500".into())
    );
    assert_eq!((of(1, "cache"), of(1, "bytes"), of(1, "status")), ("hit".into(), 100.into(), 206.into()));
    assert_eq!((of(1, "user_agent"), of(2, "status")), ("tv".into(), 404.into()));
    assert_eq!(origin.asked("/1.m4s").len(), 1, "what a player says of itself is no part of the key");
    // Moved away, as logrotate does.
    std::fs::rename(&log, folder.path().join("access.log.1")).unwrap();
    sleep(Duration::from_millis(1200));
    get(story.http, "/o/1.m4s", &[]).unwrap();
    assert_eq!(lines(1).len(), 1);
}

fn fetch(server: SocketAddr, path: &str, fields: &[(&str, &str)]) -> Response {
    get(server, path, fields).unwrap()
}

/// A playlist with three segments from `first` on.
fn playlist(target_s: u32, first: usize) -> String {
    let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:{target_s}\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
    for number in first..first + 3 {
        text.push_str(&format!("#EXTINF:{target_s},\nseg{number}.ts\n"));
    }
    text
}

#[test]
fn live_playlists_are_fresh_for_half_a_target_and_stale_for_three() {
    let origin = Scripted::start(|asked| match (asked.path.as_str(), asked.time) {
        // Behind a type that says nothing, and a name that says less.
        ("/channel", time) => answer(
            200,
            &[("Content-Type", "text/plain"), ("ETag", &format!("\"{time}\""))],
            playlist(1, time).as_bytes(),
        ),
        ("/live.m3u8", 1) => answer(200, &[("Cache-Control", "max-age=1")], playlist(1, 1).as_bytes()),
        _ => answer(503, &[("Retry-After", "7")], b"down"),
    });
    let story = before(&origin, "");
    let first = fetch(story.http, "/o/live.m3u8", &[]);
    fetch(story.http, "/o/channel", &[]);
    sleep(Duration::from_millis(600));
    let later = fetch(story.http, "/o/channel", &[]);
    assert!(String::from_utf8_lossy(&later.body).contains("SEQUENCE:2"), "half a second is over");
    sleep(Duration::from_millis(700));
    let stale = fetch(story.http, "/o/live.m3u8", &[]);
    assert_eq!((first.status, stale.status), (200, 200), "the origin has failed for a moment");
    sleep(Duration::from_millis(3200));
    let failed = fetch(story.http, "/o/live.m3u8", &[]);
    assert_eq!((failed.status, failed.header("retry-after")), (503, "7"));
}

#[test]
fn what_is_fetched_ahead_is_listed_carries_the_cookie_and_leaves_no_refusal() {
    let origin = Scripted::start(|asked| match asked.path.as_str() {
        "/s/live.m3u8" => answer(200, &[("Cache-Control", "max-age=60")], playlist(4, 1).as_bytes()),
        _ if asked.path.starts_with("/s/") && asked.field("cookie") != "token=good" => {
            answer(403, &[], b"no")
        }
        "/s/seg2.ts" if asked.time == 1 => answer(404, &[], b"not yet"),
        "/film-1.mp4" => {
            let range =
                [("Content-Range", "bytes 0-1/5000000"), ("ETag", "\"v\""), ("Cache-Control", "max-age=60")];
            answer(206, &range, b"ab")
        }
        _ => answer(200, &[("Cache-Control", "max-age=60")], b"segment"),
    });
    let mut story = before(&origin, "");
    let cookie = [("cookie", "token=good")];
    fetch(story.http, "/o/s/live.m3u8", &cookie);
    assert_eq!(fetch(story.http, "/o/s/seg1.ts", &cookie).status, 200);
    story.until("both that follow are asked for", Duration::from_secs(5), |_| {
        !origin.asked("/s/seg3.ts").is_empty()
    });
    let ahead = origin.asked("/s/seg2.ts");
    assert_eq!((ahead.len(), ahead[0].field("cookie")), (1, "token=good"));
    assert_eq!(
        fetch(story.http, "/o/s/seg2.ts", &cookie).status,
        200,
        "a 404 that no player asked for is not kept"
    );
    fetch(story.http, "/o/film-1.mp4", &[("range", "bytes=0-1")]);
    sleep(Duration::from_millis(200));
    for guessed in ["/s/seg4.ts", "/film-2.mp4"] {
        assert!(origin.asked(guessed).is_empty(), "{guessed} is listed nowhere");
    }
    assert_eq!(origin.asked("/film-1.mp4").len(), 1);
}

/// Answers a range of a body of so many bytes.
fn ranged(asked: &Asked, length: usize, fields: &[(&str, &str)]) -> Vec<Step> {
    let body: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
    let Some((first, last)) = asked.field("range").strip_prefix("bytes=").and_then(|it| it.split_once('-'))
    else {
        return answer(200, fields, &body);
    };
    let first: usize = first.parse().unwrap();
    let last = last.parse::<usize>().unwrap_or(length - 1).min(length - 1);
    let range = format!("bytes {first}-{last}/{length}");
    answer(206, &[&[("Content-Range", range.as_str())], fields].concat(), &body[first..=last])
}

#[test]
fn every_range_is_asked_with_its_own_fields_and_a_refusal_is_the_players() {
    let origin = Scripted::start(|asked| match asked.field("cookie") {
        "token=good" => ranged(asked, 300_000, &[("ETag", "\"v\""), ("Cache-Control", "max-age=60")]),
        _ => answer(403, &[("X-Why", "sign in")], b"sign in again"),
    });
    let story = before(&origin, "");
    let ask =
        |cookie: &str, range: &str| fetch(story.http, "/o/film.mp4", &[("cookie", cookie), ("range", range)]);
    assert_eq!(ask("token=good", "bytes=0-999").status, 206);
    let refused = ask("token=old", "bytes=200000-299999");
    assert_eq!((refused.status, refused.header("x-why")), (403, "sign in"));
    assert_eq!(origin.asked("/film.mp4").len(), 2, "it is asked once");
    let good = ask("token=good", "bytes=200000-299999");
    assert_eq!((good.status, good.body.len()), (206, 100_000));
    let asked = origin.asked("/film.mp4");
    assert_eq!((asked[2].field("cookie"), asked[2].field("if-range")), ("token=good", "\"v\""));
}

#[test]
fn first_ranges_are_kept_by_whatever_tells_versions_apart_and_two_are_never_mixed() {
    const MODIFIED: &str = "Sat, 01 Nov 2025 00:00:00 GMT";
    const DATE: &str = "Sat, 28 Nov 2026 00:00:00 GMT";
    let origin = Scripted::start(|asked| {
        let kept = ("Cache-Control", "max-age=86400000");
        match asked.path.as_str() {
            "/silent.mp4" => ranged(asked, 100_000, &[("ETag", "\"v\""), ("Last-Modified", MODIFIED)]),
            "/weak.mp4" => ranged(asked, 100_000, &[("ETag", "W/\"v\""), kept]),
            "/dated.mp4" => ranged(asked, 100_000, &[("Last-Modified", MODIFIED), ("Date", DATE), kept]),
            "/vary.mp4" => ranged(asked, 100_000, &[("ETag", "\"v\""), ("Vary", "Origin"), kept]),
            // Another version from the second request on.
            _ => ranged(
                asked,
                100_000 + asked.time.min(2),
                &[("ETag", &format!("\"{}\"", asked.time.min(2))), kept],
            ),
        }
    });
    let story = before(&origin, "");
    let body: Vec<u8> = (0..100_000).map(|at| (at / 7) as u8).collect();
    for name in ["silent", "weak", "dated", "vary"] {
        let path = format!("/o/{name}.mp4");
        for viewer in 0..3 {
            assert_eq!(
                fetch(story.http, &path, &[("range", "bytes=0-1")]).body,
                body[..2],
                "{name} {viewer}"
            );
            let all = fetch(story.http, &path, &[("range", "bytes=0-")]);
            assert!(all.status == 206 && all.body == body, "{name} {viewer}");
        }
        assert_eq!(origin.asked(&format!("/{name}.mp4")).len(), 2, "{name} crosses the line once");
    }
    let part = |range: &str| fetch(story.http, "/o/changes.mp4", &[("range", range)]);
    assert_eq!(part("bytes=0-999").header("etag"), "\"1\"");
    let second = part("bytes=50000-50999");
    assert_eq!((second.status, second.header("etag")), (206, "\"2\""));
    assert_eq!(second.header("content-range"), "bytes 50000-50999/100002");
    let first = part("bytes=0-999");
    assert_eq!(first.header("etag"), "\"2\"", "of the version that is there now");
}

#[test]
fn a_slow_resource_has_the_time_of_its_route_and_breaks_nothing_else() {
    let slow = |asked: &Asked| {
        let mut steps = vec![Step::Wait(Duration::from_millis(2000))];
        steps.extend(answer(200, &[("Cache-Control", "max-age=60")], asked.path.as_bytes()));
        steps
    };
    let origin = Scripted::start(move |asked| match asked.path.as_str() {
        path if path.contains("slow") => slow(asked),
        _ => answer(200, &[("Cache-Control", "max-age=60")], b"here"),
    });
    let address = origin.address();
    let hurried = format!(
        "[[route]]\npath = \"/hurried/\"\nbase = \"http://{address}/h/\"\ntimeouts = {{ first_byte_ms = 200 }}\n"
    );
    let story = before(&origin, &hurried);
    // Longer than `wait_ms`, which is for what carousels bring.
    let patient = std::thread::scope(|scope| {
        let patient = scope.spawn(|| fetch(story.http, "/o/slow.m3u8?_HLS_msn=7", &[]));
        for number in 0..6 {
            assert_eq!(fetch(story.http, &format!("/hurried/slow{number}.ts"), &[]).status, 504);
        }
        assert_eq!(
            fetch(story.http, "/o/other.ts", &[]).status,
            200,
            "one slow resource is no broken origin"
        );
        patient.join().unwrap()
    });
    assert_eq!((patient.status, patient.body.as_slice()), (200, b"/slow.m3u8?_HLS_msn=7".as_slice()));
}

#[test]
fn an_endless_body_begins_for_each_viewer_where_it_is_now() {
    let origin = Scripted::start(|asked| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut steps = vec![Step::Send(head.as_bytes().to_vec())];
        for number in 0..60 {
            let text = format!("{}:{number};", asked.time);
            steps.push(Step::Send(format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()));
            steps.push(Step::Wait(Duration::from_millis(100)));
        }
        steps.push(Step::Close);
        steps
    });
    let story = before(&origin, "");
    let begin = || {
        let mut stream = TcpStream::connect(story.http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(b"GET /o/channel.ts HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let (mut all, mut piece) = (Vec::new(), [0; 4096]);
        while !all.ends_with(b";\r\n") {
            let count = stream.read(&mut piece).unwrap();
            all.extend_from_slice(&piece[..count]);
        }
        (stream, String::from_utf8_lossy(&all).into_owned())
    };
    let (first, begins) = begin();
    assert!(begins.contains("1:0;"), "{begins}");
    let (joined, begins) = begin();
    assert!(begins.contains("1:0;"), "a moment later it may be a segment: {begins}");
    sleep(Duration::from_millis(2500));
    let (_later, begins) = begin();
    assert!(begins.contains("2:0;") && !begins.contains("1:"), "{begins}");
    drop((first, joined));
}
