//! Storage, freshness and revalidation: rules of RFC 9111 and of live manifests.

use super::*;

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
        let body = format!("time {}", asked.time);
        // What has the name of a manifest and is none is not kept.
        let body = if name.ends_with(".mpd") { format!("<MPD>{body}</MPD>") } else { body };
        answer(200, case.says, body.as_bytes())
    });
    let story = before(&origin, "");
    let says = |body: &[u8], text: &str| String::from_utf8_lossy(body).contains(text);
    for case in &BOOK {
        let response = get(story.http, &format!("/o/{}", case.name), case.first).unwrap();
        assert!(response.status == 200 && says(&response.body, "time 1"), "{}", case.name);
    }
    sleep(Duration::from_millis(2100));
    for case in &BOOK {
        let response = get(story.http, &format!("/o/{}", case.name), case.then).unwrap();
        let is_new = says(&response.body, "time 2");
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
fn a_live_playlist_is_served_stale_after_a_target_duration_while_its_origin_hangs() {
    let playlist = |number: u32| {
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{number}\n#EXTINF:1,\n{number}.ts\n")
    };
    let origin = Scripted::start(move |asked: &Asked| {
        let max_age = if asked.time == 1 { "max-age=1" } else { "max-age=60" };
        let fields = [("Content-Type", "application/vnd.apple.mpegurl"), ("Cache-Control", max_age)];
        let sent = answer(200, &fields, playlist(asked.time as u32).as_bytes());
        let pause = if asked.time == 2 { 2500 } else { 0 };
        [vec![Step::Wait(Duration::from_millis(pause))], sent].concat()
    });
    let story = before(&origin, "");
    let number = |wanted: &str| {
        let response = get(story.http, "/o/live.m3u8", &[]).unwrap();
        let body = String::from_utf8(response.body.clone()).unwrap();
        assert!(response.status == 200 && body.contains(wanted), "{wanted}: {body} {:?}", response.headers);
        response.header("cache-status").to_owned()
    };
    number("1.ts");
    sleep(Duration::from_millis(1100));
    assert!(
        number("1.ts").contains("stale-while-waiting"),
        "the origin answers after 2.5 s, the target is 1 s"
    );
    sleep(Duration::from_millis(2000));
    number("2.ts");
    assert_eq!(origin.asked("/live.m3u8").len(), 2, "what came late is in the cache");
}

#[test]
fn a_stale_object_is_served_after_three_seconds_while_its_origin_hangs() {
    let origin = Scripted::start(move |asked: &Asked| {
        let (max_age, body) = match (asked.path.as_str(), asked.time) {
            ("/must.ts", 1) => ("max-age=1, must-revalidate", "old"),
            (_, 1) => ("max-age=1", "old"),
            _ => ("max-age=60", "new"),
        };
        let pause = if asked.time == 2 { 4500 } else { 0 };
        let sent =
            answer(200, &[("Content-Type", "video/mp2t"), ("Cache-Control", max_age)], body.as_bytes());
        [vec![Step::Wait(Duration::from_millis(pause))], sent].concat()
    });
    let story = before(&origin, "");
    let http = story.http;
    let body = move |path: &str| {
        let response = get(http, path, &[]).unwrap();
        assert_eq!(response.status, 200, "{path}");
        (String::from_utf8(response.body.clone()).unwrap(), response.header("cache-status").to_owned())
    };
    for path in ["/o/1.ts", "/o/must.ts"] {
        assert_eq!(body(path).0, "old");
    }
    sleep(Duration::from_millis(1200));
    let must = std::thread::spawn(move || body("/o/must.ts").0);
    let (stale, status) = body("/o/1.ts");
    assert!(stale == "old" && status.contains("stale-while-waiting"), "{stale}: {status}");
    assert_eq!(must.join().unwrap(), "new", "must-revalidate: it waits");
    sleep(Duration::from_millis(500));
    assert_eq!(
        (body("/o/1.ts").0.as_str(), origin.asked("/1.ts").len()),
        ("new", 2),
        "what came late is in the cache"
    );
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
        // Stale at once, and without a validator; and one that must not be kept.
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
        // Many origins compress what they serve to browsers.
        ("/coded.m3u8", time) => answer(
            200,
            &[("Content-Encoding", "gzip"), ("ETag", &format!("\"{time}\""))],
            &fed(Command::new("gzip").arg("-c"), playlist(1, time).as_bytes()).stdout,
        ),
        ("/live.m3u8", 1) => answer(200, &[("Cache-Control", "max-age=1")], playlist(1, 1).as_bytes()),
        _ => answer(503, &[("Retry-After", "7")], b"down"),
    });
    let story = before(&origin, "");
    let first = fetch(story.http, "/o/live.m3u8", &[]);
    fetch(story.http, "/o/channel", &[]);
    fetch(story.http, "/o/coded.m3u8", &[]);
    sleep(Duration::from_millis(600));
    let coded = fetch(story.http, "/o/coded.m3u8", &[]);
    assert!(coded.header("etag").starts_with("\"2"), "half a second is over");
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

#[test]
fn what_is_not_kept_says_why_and_a_purge_what_it_did() {
    let origin = Scripted::start(|asked: &Asked| match asked.path.as_str() {
        "/useless" => answer(200, &[("Cache-Control", "max-age=0")], b"x"),
        "/fails" => answer(500, &[], b"x"),
        _ => answer(200, &[("Cache-Control", "max-age=60")], b"x"),
    });
    let mut story = before(&origin, "");
    for (name, said) in [
        ("useless", "skycache; fwd=miss; stored=?0; detail=not-kept-useless"),
        ("fails", "skycache; fwd=miss; stored=?0; detail=not-kept-status"),
        ("kept", "skycache; fwd=miss"),
    ] {
        let response = get(story.http, &format!("/o/{name}"), &[]).unwrap();
        assert_eq!(response.header("cache-status"), said, "{name}");
    }
    story.until("it is kept", Duration::from_secs(5), |story| !story.list().is_empty());
    let admin = story.dir().join("admin.sock");
    let purge = |target: &str| {
        let mut stream = std::os::unix::net::UnixStream::connect(&admin).unwrap();
        write!(stream, "POST {target} HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n").unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        status_line(said.as_bytes())
    };
    assert!(purge("/cache/ban?pattern=(a%7Cb)").contains(" 400 "), "an expression that no pattern says");
    assert!(purge("/api/v1/purge?prefix=127.0.0.1&soft=true&yes=true&id=p1").contains(" 200 "));
    let log = std::fs::read_to_string(story.dir().join("skycached.log")).unwrap();
    let line = log.lines().find(|it| it.contains("skycache::audit") && it.contains("p1"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("soft=true") && line.contains("objects=1"), "{line}");
}
