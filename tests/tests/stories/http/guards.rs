//! Guards of the players' side: each was broken by hand, and no faster test failed (`tests/README.md`).

use super::*;

fn playlist(second: &str) -> String {
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n1.ts\n#EXTINF:2,\n{second}\n#EXT-X-ENDLIST\n")
}

#[test]
fn what_is_purged_is_not_served_from_memory() {
    const LENGTH: usize = 8_000_000;
    let origin = Scripted::start(|asked: &Asked| {
        answer(200, &[("Cache-Control", "max-age=60")], &vec![asked.time as u8; LENGTH])
    });
    let story = before(&origin, "");
    // Each worker remembers.
    for _ in 0..8 {
        assert_eq!(fetch(story.http, "/o/x", &[]).body[0], 1);
    }
    // A client in the middle of it holds it in memory.
    let mut reader = connect(story.http);
    reader.write_all(b"GET /o/x HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
    assert!(reader.read(&mut [0; 100]).unwrap() > 0);
    let purged = story.skycached("purge").arg(format!("http://{}/o/x", story.http)).output().unwrap();
    assert!(purged.status.success(), "{}", String::from_utf8_lossy(&purged.stderr));
    for _ in 0..8 {
        assert_eq!(fetch(story.http, "/o/x", &[]).body[0], 2);
    }
}

#[test]
fn what_was_on_its_way_before_a_change_is_not_kept() {
    let origin = Scripted::start(|asked: &Asked| {
        let head = [("Cache-Control", "max-age=60"), ("Content-Length", "1")];
        let mut steps = answer(200, &head, b"");
        if asked.method == "GET" && asked.time == 1 {
            steps.push(Step::Wait(Duration::from_millis(1500)));
        }
        steps.push(Step::Send(vec![b'0' + asked.time as u8]));
        steps
    });
    let story = before(&origin, "");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| get(story.http, "/o/x", &[]));
        sleep(Duration::from_millis(500));
        assert_eq!(request(Method::POST, story.http, "/o/x", &[]).unwrap().status, 200);
        let _ = first.join().unwrap();
    });
    assert_eq!(fetch(story.http, "/o/x", &[]).body, b"3");
}

/// A daemon before an origin, with these lines in a file of `conf.d`.
fn with_lines(origin: &Scripted, lines: &str) -> Story {
    let mut story = Story::new();
    story.daemon_extra = format!("[[route]]\npath = \"/o/\"\nbase = \"http://{}/\"\n", origin.address());
    story.drop_in(lines);
    story.start_daemon();
    story
}

#[test]
fn what_is_fetched_ahead_has_a_bound() {
    let origin = Scripted::start(|asked: &Asked| {
        ranged(asked, 100_000, &[("Cache-Control", "max-age=60"), ("ETag", "\"e\"")])
    });
    let story = with_lines(&origin, "[http]\nprefetch_object_bytes = 1000\n");
    let ask = |path: &str, next: &str| {
        let hint = format!("nrr=\"{next}\"");
        assert_eq!(fetch(story.http, path, &[("range", "bytes=0-99"), ("cmcd-request", &hint)]).status, 206);
        sleep(Duration::from_secs(1));
        origin.asked(path.strip_prefix("/o").unwrap()).len()
    };
    assert_eq!(ask("/o/a.mp4", "1000-5000"), 1, "more than the bound");
    assert_eq!(ask("/o/b.mp4", "1000-1500"), 2, "less");
}

#[test]
fn only_if_cached_asks_no_origin() {
    let origin = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], b"x"));
    let story = before(&origin, "");
    let only = [("cache-control", "only-if-cached")];
    for path in ["/o/a.ts", "/o/a.m3u8", "/o/a.ts?b=c"] {
        assert_eq!(fetch(story.http, path, &only).status, 504, "{path}");
        assert_eq!(get(story.http, path, &[only[0], ("range", "bytes=0-0")]).unwrap().status, 504, "{path}");
    }
    assert_eq!(origin.asked("/a.ts").len() + origin.asked("/a.m3u8").len(), 0);
    fetch(story.http, "/o/a.ts", &[]);
    assert_eq!(fetch(story.http, "/o/a.ts", &only).status, 200);
}

#[test]
fn nothing_is_fetched_ahead_at_another_host_or_after_a_part() {
    let other = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], b"o"));
    let elsewhere = format!("http://{}/2.ts", other.address());
    let origin = Scripted::start(move |asked: &Asked| match asked.path.as_str() {
        "/far.m3u8" => answer(200, &[("Cache-Control", "max-age=60")], playlist(&elsewhere).as_bytes()),
        "/near/near.m3u8" => answer(200, &[("Cache-Control", "max-age=60")], playlist("2.ts").as_bytes()),
        _ => ranged(asked, 5000, &[("Cache-Control", "max-age=60"), ("ETag", "\"e\"")]),
    });
    let route = format!("[[route]]\npath = \"/p/\"\nbase = \"http://{}/\"\n", other.address());
    let story = before(&origin, &route);
    assert_eq!(fetch(story.http, "/o/far.m3u8", &[]).status, 200);
    assert_eq!(fetch(story.http, "/o/1.ts", &[("cookie", "secret=1")]).status, 200);
    assert_eq!(fetch(story.http, "/o/near/near.m3u8", &[]).status, 200);
    assert_eq!(fetch(story.http, "/o/near/1.ts", &[("range", "bytes=10-19")]).status, 206);
    sleep(Duration::from_secs(1));
    assert_eq!((other.asked("/2.ts").len(), origin.asked("/near/2.ts").len()), (0, 0));
}

#[test]
fn a_change_empties_the_cache_of_its_own_host_alone() {
    let other = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], b"o"));
    let elsewhere = format!("http://{}/x", other.address());
    let origin = Scripted::start(move |_: &Asked| answer(201, &[("Location", &elsewhere)], b""));
    let route = format!("[[route]]\npath = \"/p/\"\nbase = \"http://{}/\"\n", other.address());
    let story = before(&origin, &route);
    assert_eq!(fetch(story.http, "/p/x", &[]).body, b"o");
    let changed = request(Method::POST, story.http, "/o/form", &[]).unwrap();
    assert_eq!(changed.status, 201);
    assert_eq!(fetch(story.http, "/p/x", &[]).body, b"o");
    assert_eq!(other.asked("/x").len(), 1);
}

#[test]
fn there_are_as_many_connections_as_places() {
    let origin = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], b"x"));
    let story = with_lines(&origin, "[http]\nmax_connections = 16\n");
    let ask = |stream: &mut TcpStream| {
        let _ = stream.write_all(b"GET /o/x HTTP/1.1\r\nHost: b\r\n\r\n");
        stream.read(&mut [0; 2048]).unwrap_or(0) > 0
    };
    // One address gets three quarters of them.
    let mut held: Vec<TcpStream> = (0..12).map(|_| connect(story.http)).collect();
    assert!(held.iter_mut().all(ask));
    assert!(!ask(&mut connect(story.http)), "no place");
    held.truncate(8);
    sleep(Duration::from_millis(500));
    assert!(ask(&mut connect(story.http)), "places become free");
}
