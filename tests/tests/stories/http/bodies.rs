//! Bodies in transfer: ranges, parts, slow and endless responses.

use super::*;

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
    // The first one leaves at once, and it continues.
    let mut first = TcpStream::connect(http).unwrap();
    first.write_all(b"GET /o/long.m4s HTTP/1.1\r\nHost: box\r\n\r\n").unwrap();
    let mut byte = [0; 1];
    first.read_exact(&mut byte).unwrap();
    drop(first);
    let early: Vec<_> = (0..25).map(|_| std::thread::spawn(play)).collect();
    sleep(Duration::from_millis(2000));
    let mut late = TcpStream::connect(http).unwrap();
    late.write_all(b"GET /o/long.m4s HTTP/1.1\r\nHost: box\r\n\r\n").unwrap();
    let mut head = [0; 4096];
    let count = late.read(&mut head).unwrap();
    assert!(count > 0 && early.iter().all(|it| !it.is_finished()), "it gets bytes while they still come");
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
    // Pages of other sites, and players that are not a page, have ranges of their own, which are kept beside.
    for (site, times) in [("https://a.example", 4), ("https://b.example", 6), ("https://a.example", 6)] {
        for range in ["bytes=0-1", "bytes=50000-50999"] {
            let (first, last) = range[6..].split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            let part = fetch(story.http, "/o/vary.mp4", &[("range", range), ("origin", site)]);
            assert!(part.status == 206 && part.body == body[first..=last], "{site} {range}");
        }
        assert_eq!(origin.asked("/vary.mp4").len(), times, "{site}");
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
            "one slow resource is not a broken origin"
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
        let all = String::from_utf8_lossy(&all).into_owned();
        // Without the head: its date has colons too.
        let body = all.split_once("\r\n\r\n").unwrap().1.to_owned();
        (stream, body)
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

#[test]
fn more_scattered_ranges_than_are_remembered_are_served_all_the_same() {
    const LENGTH: usize = 400_000;
    let fields = [("ETag", "\"v\""), ("Cache-Control", "max-age=60")];
    let origin = Scripted::start(move |asked| ranged(asked, LENGTH, &fields));
    let story = before(&origin, "");
    let piece = |at: usize| {
        let response = fetch(story.http, "/o/film.mp4", &[("range", &format!("bytes={at}-{}", at + 9))]);
        let whole: Vec<u8> = (at..at + 10).map(|it| (it / 7) as u8).collect();
        assert_eq!((response.status, response.body), (206, whole), "at {at}");
    };
    for number in 0..300 {
        piece(number * 1000);
    }
    let asked = origin.asked("/film.mp4");
    assert_eq!((asked.len(), asked[299].field("range")), (300, "bytes=299000-299009"));
    piece(1000);
    assert_eq!(origin.asked("/film.mp4").len(), 300, "what came first is kept");
}

#[test]
fn what_nothing_is_said_about_is_kept_if_its_end_is_told_and_it_is_no_broadcast() {
    let origin = Scripted::start(|asked: &Asked| {
        let head = |more: &str| {
            Step::Send(format!("HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n{more}\r\n").into_bytes())
        };
        let chunked = |more: &str, wait_ms: u64| {
            vec![
                head(&format!("{more}Transfer-Encoding: chunked\r\n")),
                Step::Send(b"3\r\nhel\r\n".to_vec()),
                Step::Wait(Duration::from_millis(wait_ms)),
                Step::Send(b"2\r\nlo\r\n0\r\n\r\n".to_vec()),
            ]
        };
        match asked.path.as_str() {
            "/list.m3u8" => answer(
                200,
                &[],
                b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nlisted1.ts\n#EXT-X-ENDLIST\n",
            ),
            "/closed.ts" => vec![head(""), Step::Send(b"hello".to_vec()), Step::Close],
            "/short.ts" => chunked("", 0),
            "/tagged.ts" => chunked("ETag: \"v\"\r\n", 2500),
            _ => chunked("", 2500),
        }
    });
    let story = before(&origin, "");
    fetch(story.http, "/o/list.m3u8", &[]);
    // A broadcast has ended, or a connection broken: the next viewer wants what is on then.
    for (path, times) in
        [("closed.ts", 2), ("channel.ts", 2), ("short.ts", 1), ("tagged.ts", 1), ("listed1.ts", 1)]
    {
        for _ in 0..2 {
            assert_eq!(fetch(story.http, &format!("/o/{path}"), &[]).body, b"hello", "{path}");
        }
        assert_eq!(origin.asked(&format!("/{path}")).len(), times, "{path}");
    }
}
