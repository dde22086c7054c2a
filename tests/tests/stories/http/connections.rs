//! Connections and requests as clients send them, honest or not; the access log.

use super::*;

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
            "400",
        ),
        (
            "chunks that are none",
            "POST /o/x HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        ("no host", "GET /o/1.m4s HTTP/1.1\r\n\r\n", "400"),
        ("a host that is none", "GET /o/1.m4s HTTP/1.1\r\nHost: a b\r\n\r\n", "400"),
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
    let one = |bytes: usize| {
        let field = "y".repeat(bytes);
        raw(http, format!("GET /o/1.m4s HTTP/1.1\r\nHost: b\r\nX-Long: {field}\r\n\r\n").as_bytes())
    };
    assert!(status_line(&one(32 << 10)).contains("200"));
    assert!(status_line(&one(64 << 10)).contains("431"));
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

/// Longer than the kernel waits for a client that does not answer, which this one does.
const LONG_PAUSE: Duration = Duration::from_secs(45);

#[test]
fn a_player_that_pauses_keeps_its_connection() {
    const LENGTH: usize = 40 << 20;
    let folder = tempfile::tempdir().unwrap();
    let secure = free_tcp_port();
    let (certificate, tls) =
        if have("openssl") { certificate_in(folder.path(), secure) } else { Default::default() };
    let origin = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=600")], &[7; LENGTH]));
    let story = before(&origin, &tls);
    let http = story.http;
    assert_eq!(fetch(http, "/o/held.mp4", &[]).body.len(), LENGTH);
    std::thread::scope(|scope| {
        scope.spawn(|| paused(connect(http), "/o/held.mp4", LENGTH));
        scope.spawn(|| paused(connect(http), "/o/new.mp4", LENGTH));
        if !tls.is_empty() {
            scope.spawn(|| paused(connect_tls(secure, &certificate), "/o/held.mp4", LENGTH));
        }
    });
}

/// Requests an object of this length, reads a little, and the rest after the pause.
fn paused(mut stream: impl Read + Write, path: &str, length: usize) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut piece = vec![0; 1 << 20];
    let mut count = stream.read(&mut piece[..4096]).unwrap();
    sleep(LONG_PAUSE);
    while let Ok(more @ 1..) = stream.read(&mut piece) {
        count += more;
    }
    assert!(count > length, "{path}: {count}");
}

#[test]
fn a_client_may_close_its_side_and_wait_for_the_response() {
    let origin = Scripted::start(|asked: &Asked| {
        if asked.path.contains("slow") {
            sleep(Duration::from_secs(2));
        }
        answer(200, &[("Cache-Control", "max-age=60")], &[7; 1000])
    });
    let story = before(&origin, "");
    for (path, version) in
        [("/o/new.txt", "1.1"), ("/o/new.txt", "1.1"), ("/o/slow.txt", "1.1"), ("/o/new.txt", "1.0")]
    {
        let mut stream = connect(story.http);
        stream.write_all(format!("GET {path} HTTP/{version}\r\nHost: b\r\n\r\n").as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response);
        assert!(status_line(&response).contains("200") && response.ends_with(&[7; 1000]), "{path} {version}");
    }
}

#[test]
fn a_route_is_found_by_each_spelling_and_says_what_it_passes_on() {
    let origin = Scripted::start(|asked: &Asked| answer(200, &[], asked.path.as_bytes()));
    let story = before(&origin, "");
    let http = story.http;
    for path in ["/o/a.txt", "/%6f/a.txt", "/%6F/a.txt"] {
        let got = fetch(http, path, &[]);
        assert_eq!((got.status, &got.body[..]), (200, &b"/a.txt"[..]), "{path}");
    }
    let got = fetch(http, "/o?a=b", &[]);
    assert_eq!((got.status, got.header("location")), (301, "/o/?a=b"));
    let options = request(Method::OPTIONS, http, "/o/a.txt", &[]).unwrap();
    for name in ["allow", "access-control-allow-methods"] {
        let methods = options.header(name);
        assert!(methods.starts_with("GET, HEAD, OPTIONS") && methods.contains("PUT"), "{name}: {methods}");
    }
    let elsewhere = request(Method::OPTIONS, http, "/none.example/a.txt", &[]).unwrap();
    assert_eq!(elsewhere.header("allow"), "GET, HEAD, OPTIONS");
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
        let changes = |line: &&str| {
            !["age:", "server-timing:", "cache-status:", "alt-svc:"].iter().any(|it| line.starts_with(it))
        };
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
    let secure = free_tcp_port();
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
        // By then it may have got a refused connection.
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
    /// Connections before the measurement: workers grow by what they need once.
    const FIRST: usize = 200;
    if !have("openssl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let secure = free_tcp_port();
    let (certificate, tls) = certificate_in(folder.path(), secure);
    let origin = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], b"x"));
    let story = before(&origin, &tls);
    let http = story.http;
    get(http, "/o/x", &[]).unwrap();
    let mut idle = Vec::new();
    let open_idle = |idle: &mut Vec<TcpStream>, count: usize| {
        while idle.len() < count {
            let Ok(mut stream) = TcpStream::connect(http) else { break };
            stream.write_all(b"GET /o/x HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
            let mut head = [0; 2048];
            assert!(stream.read(&mut head).unwrap() > 0);
            idle.push(stream);
        }
    };
    open_idle(&mut idle, FIRST);
    sleep(Duration::from_secs(1));
    let before = resident(&story);
    let mut half = TcpStream::connect(http).unwrap();
    half.write_all(b"GET /o/x HTTP/1.1\r\nHo").unwrap();
    let mut half_over_tls = connect_tls(secure, &certificate);
    half_over_tls.write_all(b"GET /o/x HTTP/1.1\r\nHo").unwrap();
    let began = Instant::now();
    open_idle(&mut idle, FIRST + IDLE);
    sleep(Duration::from_secs(1));
    let each = resident(&story).saturating_sub(before) / (idle.len() - FIRST) as u64;
    println!("{} idle connections: {each} bytes each", idle.len() - FIRST);
    assert!(each < 4000, "{each} bytes for each idle connection");
    // They are still there.
    let last = idle.last_mut().unwrap();
    last.write_all(b"GET /o/x HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
    assert!(last.read(&mut [0; 2048]).unwrap() > 0);
    half.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
    assert_eq!(half.read(&mut [0; 64]).unwrap_or(0), 0, "half a question is not a question");
    assert_eq!(half_over_tls.read(&mut [0; 64]).unwrap_or(0), 0, "over TLS neither");
    // An idle connection has fifteen minutes.
    assert!(began.elapsed() < Duration::from_secs(80), "{:?}", began.elapsed());
}

/// Resident memory of the daemon in bytes.
fn resident(story: &Story) -> u64 {
    let pid = story.daemon.as_ref().unwrap().id();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn idle_connections_of_http2_and_http3_cost_little() {
    use http3::{Secured, ask, block_on, client, speak};
    const IDLE: usize = 400;
    if !have("openssl") {
        return;
    }
    let origin = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], b"x"));
    let secured = Secured::before(&origin, "");
    get(secured.story.http, "/o/x", &[]).unwrap();
    let before = resident(&secured.story);
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let mut frames = secure::http2(secured.address, &secured.certificate);
        frames.write(1, 0x5, 1, &secure::get_of("/o/x")).unwrap();
        assert!(frames.stream.read(&mut [0; 4096]).unwrap() > 0);
        idle.push(frames);
    }
    sleep(Duration::from_secs(1));
    let each = resident(&secured.story).saturating_sub(before) / IDLE as u64;
    println!("{IDLE} idle connections of HTTP/2: {each} bytes each");
    assert!(each < 60_000, "{each} bytes for each idle connection of HTTP/2");
    // The last one is still served.
    let last = idle.last_mut().unwrap();
    last.write(1, 0x5, 3, &secure::get_of("/o/x")).unwrap();
    assert!(last.stream.read(&mut [0; 4096]).unwrap() > 0);
    drop(idle);
    block_on(async {
        let client = client(&secured.certificate);
        let before = resident(&secured.story);
        let mut idle = Vec::new();
        for _ in 0..IDLE {
            let mut requests = speak(secured.connect(&client).await).await;
            assert_eq!(ask(&mut requests, Method::GET, "/o/x", &[], b"").await.unwrap().0, 200);
            idle.push(requests);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let each = resident(&secured.story).saturating_sub(before) / IDLE as u64;
        println!("{IDLE} idle connections of HTTP/3: {each} bytes each");
        assert!(each < 120_000, "{each} bytes for each idle connection of HTTP/3");
        let last = idle.last_mut().unwrap();
        assert_eq!(ask(last, Method::GET, "/o/x", &[], b"").await.unwrap().0, 200);
    });
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
    assert_eq!(origin.asked("/1.m4s").len(), 1, "what a player says of itself is not part of the key");
    // Moved away, as logrotate does.
    std::fs::rename(&log, folder.path().join("access.log.1")).unwrap();
    sleep(Duration::from_millis(1200));
    get(story.http, "/o/1.m4s", &[]).unwrap();
    assert_eq!(lines(1).len(), 1);
}
