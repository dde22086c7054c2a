//! Lookups: what may be answered from the cache, what is asked of an origin, and with which fields.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use carousel::query::IgnoredQuery;

use super::super::options::Http;
use super::super::testing::{field, get, head, partial, read, request, server, server_of, target};
use super::*;
use crate::delivery::{Announced, Flight, ObjectRef};
use crate::origin::testing::{carry, filler_with, key, object, origin, publish, put, response, send};
use crate::services::Membership;
use crate::store::{LiveFacts, ObjectMeta};

/// Announced objects have no waiting reader.
fn impatient() -> Http {
    Http { wait_ms: 1, ..Http::default() }
}

async fn status(server: &Arc<HttpServer>, name: &str, fields: &[(&str, &str)]) -> u16 {
    let (target, head) = (target(name), head("GET", "/", fields));
    // On the heap, as a connection has it: several of them are more than the stack of a test holds without optimisation.
    let request = request(server, &target, &head);
    let found = Box::pin(server.object(&request));
    match found.await {
        Outcome::Stored(..) | Outcome::Shaped(..) => 200,
        Outcome::Passed(response, _) | Outcome::Elsewhere(response) | Outcome::Response(response) => {
            response.status().as_u16()
        }
    }
}

fn announce(server: &HttpServer, name: &str, ignored_query: IgnoredQuery) {
    let announced =
        Announced { digest: None, length: Some(5), content_type: None, version: 1, ignored_query };
    server.shared.flights.announce(key(name), object(), announced);
}

/// Where nothing else can be served, a player whose origin has just returned gets the object instead of a 503.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_wait_a_moment_for_an_origin_that_returns() {
    let is_back = Arc::new(AtomicBool::new(false));
    let back = Arc::clone(&is_back);
    let url = origin(move |_| {
        let status = if back.load(Ordering::Relaxed) { "200 OK" } else { "503 No" };
        response(&[status, "Content-Length: 0"], "")
    });
    let tested = server(impatient(), &[], Some(url));
    let (server, client) = (&tested.server, Arc::clone(&tested.tested.client));
    for number in 0..5 {
        assert!(
            client.get(&server.origins.url_for(&key(&format!("h/{number}"))).unwrap(), &[]).await.is_err()
        );
    }
    let watch = tokio::spawn(async move { client.watch_health(Duration::from_secs(3600)).await });
    assert_eq!(status(server, "h/a.m4s", &[]).await, 503, "it is away");
    is_back.store(true, Ordering::Relaxed);
    let here = tokio::task::LocalSet::new();
    let ask = |number: usize| {
        let server = Arc::clone(server);
        here.spawn_local(async move { status(&server, &format!("h/{number}.m4s"), &[]).await })
    };
    let all: Vec<_> = (0..20).map(ask).collect();
    let found = here.run_until(async {
        for one in all {
            assert_eq!(one.await.unwrap(), 200);
        }
    });
    found.await;
    watch.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_if_cached_asks_nobody_and_a_failing_origin_leaves_what_is_stale() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let url = origin(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        response(&["503 No", "Content-Length: 0"], "")
    });
    let tested = server(impatient(), &[], Some(url));
    let (server, store) = (&tested.server, &tested.tested.context.store);
    let only = [("cache-control", "only-if-cached")];
    assert_eq!(status(server, "h/a.m4s", &only).await, 504);
    put(store, "h/a.m4s", b"right", 60_000);
    assert_eq!(status(server, "h/a.m4s", &only).await, 200);
    put(store, "h/b.m4s", b"right", -1000);
    assert_eq!(status(server, "h/b.m4s", &only).await, 504, "it is stale");
    assert_eq!(requests.load(Ordering::Relaxed), 0);
    assert_eq!(status(server, "h/b.m4s", &[]).await, 200);
    assert_eq!(requests.load(Ordering::Relaxed), 1);
    assert_eq!(status(server, "other/b.m4s", &[]).await, 404, "no origin is named for it");
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_version_that_breaks_off_leaves_the_one_before() {
    let url = origin(|_| response(&["200 OK", "Content-Length: 500"], ""));
    let tested = server(impatient(), &[], Some(url));
    let (server, store) = (&tested.server, &tested.tested.context.store);
    put(store, "h/a.m3u8", b"right", -1000);
    assert_eq!(status(server, "h/a.m3u8", &[]).await, 200, "the origin fails");
    assert_eq!(status(server, "h/c.m3u8", &[]).await, 502, "nothing is held");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_announced_and_does_not_come_is_no_404() {
    let tested = server(impatient(), &[], None);
    assert_eq!(status(&tested.server, "h/a.m4s", &[]).await, 404);
    announce(&tested.server, "h/a.m4s", IgnoredQuery::default());
    assert_eq!(status(&tested.server, "h/a.m4s", &[]).await, 504);
    // An origin that refuses what the carousel may bring yet is not believed at once, but in the end.
    let refusing = origin(|_| response(&["404 No", "Content-Length: 0"], ""));
    let tested = server(impatient(), &[], Some(refusing));
    announce(&tested.server, "h/a.m4s", IgnoredQuery::default());
    assert_eq!(status(&tested.server, "h/a.m4s", &[]).await, 404);
    assert!(!tested.tested.context.store.contains("h/a.m4s"), "nor is it remembered");
}

#[tokio::test]
async fn a_range_or_another_query_means_what_the_carousel_has_and_nothing_else() {
    let tested = server(impatient(), &[], None);
    let (server, store) = (&tested.server, &tested.tested.context.store);
    let likeliest = |name: &str, method: &str, fields: &[(&str, &str)]| {
        server.likeliest(vec![target(name)], &head(method, "/", fields)).key.as_str().to_owned()
    };
    let range = [("range", "bytes=2-4")];
    let part = name_of_range("h/a.mp4", &(2..5));
    assert_eq!(likeliest("h/a.mp4", "GET", &range), "h/a.mp4");
    put(store, &part, b"right", 60_000);
    assert_eq!(likeliest("h/a.mp4", "GET", &range), part);
    for (method, other) in
        [("GET", "bytes=2-3"), ("GET", "bytes=1-4"), ("GET", "bytes=2-"), ("HEAD", "bytes=2-4")]
    {
        assert_eq!(likeliest("h/a.mp4", method, &[("range", other)]), "h/a.mp4", "{method} {other}");
    }
    put(store, "h/a.mp4", b"right", 60_000);
    assert_eq!(likeliest("h/a.mp4", "GET", &range), "h/a.mp4", "the file itself goes before");

    assert_eq!(likeliest("h/b.mp4?t=1", "GET", &[]), "h/b.mp4?t=1");
    announce(server, "h/b.mp4", IgnoredQuery::default());
    assert_eq!(likeliest("h/b.mp4?t=1", "GET", &[]), "h/b.mp4?t=1", "the parameter matters");
    assert_eq!(likeliest("h/b.mp4", "GET", &[]), "h/b.mp4");
}

#[tokio::test]
async fn freshness_and_the_age_of_live_manifests_are_counted_to_their_limits() {
    let tested = server(impatient(), &[], None);
    let store = &tested.tested.context.store;
    assert!(is_fresh(&put(store, "h/a", b"x", 60_000)));
    let stored = put(store, "h/a", b"x", 0);
    assert!(!is_fresh(&stored), "its last instant is over");
    let aged = |age_ms: i64, of_carousel: bool, is_live: bool| {
        let meta = stored.meta();
        let response = meta.response.clone().filter(|_| !of_carousel);
        let received_at = clock::steady().plus_ms(-age_ms);
        let object = stored.with_meta(ObjectMeta { received_at, response, expires: None, ..meta.clone() });
        object.set_live(is_live.then_some(LiveFacts {
            target_ms: 10_000,
            fresh_ms: 5000,
            is_renewed: false,
        }));
        object
    };
    assert!(is_fresh(&aged(1_000_000, true, false)), "without an expiry it is never stale");
    for (age_ms, of_carousel, is_live, kept_up) in [
        (15_000, true, true, true),
        (25_000, true, true, false),
        (15_000, false, true, false),
        (15_000, true, false, false),
    ] {
        assert_eq!(is_kept_up(&aged(age_ms, of_carousel, is_live)), kept_up, "{age_ms}");
    }
    let now = clock::now();
    assert!(!is_from_before(&aged(0, true, true), Instant::from_nanos(0)));
    assert!(
        is_from_before(&aged(60_000, true, true), now) && !is_from_before(&aged(60_000, true, false), now)
    );
}

#[tokio::test]
async fn an_origin_sees_what_is_asked_and_not_what_the_player_holds() {
    let tested = server(impatient(), &[], None);
    let server = &tested.server;
    let target = target("h/a.m4s");
    let fields = [
        ("host", "box"),
        ("range", "bytes=0-1"),
        ("if-none-match", "\"a\""),
        ("if-range", "\"a\""),
        ("cmcd-object", "br=1"),
        ("accept-encoding", "br"),
        ("content-length", "0"),
        ("referer", "https://box/sktoken=a.b/x"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("x-own", "1"),
        ("accept-language", "de"),
    ];
    let head = head("GET", "/", &fields);
    let request = request(server, &target, &head);
    let sent = request.fields();
    for (name, _) in &fields[..10] {
        assert!(!sent.contains_key(*name), "{name}: {sent:?}");
    }
    assert!(sent["accept-language"] == "de" && sent["via"] == head::VIA);
    assert_eq!(request.range().unwrap(), "bytes=0-1");
    for range in ["bytes=0-1,3-4", "items=0-1", "bytes=", "bytes=3-1"] {
        let head = super::super::testing::head("GET", "/", &[("range", range)]);
        let range_of = super::super::testing::request(server, &target, &head).range();
        assert_eq!(range_of, None, "{range}");
    }
}

#[tokio::test]
async fn an_origin_is_asked_when_the_handshake_is_over_and_never_if_it_fails() {
    let tested = server(impatient(), &[], None);
    let (target, mut head) = (target("h/a.m4s"), get("/"));
    let (over, is_over) = watch::channel(false);
    head.extensions.insert(EarlyData(is_over));
    let request = request(&tested.server, &target, &head);
    let soon = Duration::from_millis(30);
    assert!(tokio::time::timeout(soon, request.confirmed()).await.is_err());
    over.send(true).unwrap();
    request.confirmed().await;
    over.send(false).unwrap();
    drop(over);
    assert!(tokio::time::timeout(soon, request.confirmed()).await.is_err(), "the connection ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_that_has_just_joined_waits_for_no_earlier_segment() {
    let tested = server(Http { wait_ms: 60_000, ..Http::default() }, &[], None);
    let (server, context) = (&tested.server, &tested.tested.context);
    let manifests = &context.manifests;
    let spec = carousel::mabr::ServiceSpec {
        id: "one".to_owned(),
        manifests: vec!["http://h/a.m3u8".to_owned()],
        bases: vec!["http://h/".to_owned()],
        path_patterns: Vec::new(),
    };
    manifests.services().set(&[spec]);
    manifests.services().all()[0].set_membership(clock::now(), Membership::Joined);
    let lines = [
        "#EXTM3U",
        "#EXT-X-TARGETDURATION:2",
        "#EXTINF:2,",
        "s1.ts",
        "#EXTINF:2,",
        "s2.ts",
        "#EXTINF:2,",
        "s3.ts",
    ];
    publish(context, "h/a.m3u8", format!("{}\n", lines.join("\n")).as_bytes());
    let found = async |name: &str| {
        let (target, head) = (target(name), head("GET", "/", &[]));
        server.find(&request(server, &target, &head)).await.map(|_| ())
    };
    // While one waits, the one after it comes.
    let (found, ()) = tokio::join!(found("h/s1.ts"), async {
        publish(context, "h/s2.ts", b"segment");
    });
    assert!(matches!(found, Err(Missing::NotYet)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_segment_that_its_origin_does_not_have_is_waited_for() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let url = origin(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        response(&["404 No", "Content-Length: 0"], "")
    });
    let tested = server(Http { wait_ms: 3000, ..Http::default() }, &[], Some(url));
    let (server, context) = (&tested.server, &tested.tested.context);
    let lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:1,", "s1.ts", "#EXTINF:1,", "s2.ts"];
    publish(context, "h/a.m3u8", format!("{}\n", lines.join("\n")).as_bytes());
    let begin = |name: &str| {
        let flight =
            Arc::new(Flight::of_growing(key(name), None, object(), partial(&tested.tested, b"right")));
        context.flights.add(Arc::clone(&flight)).unwrap();
        flight
    };
    // Half a second after the request the origin is asked, which refuses; its first symbols come a little later.
    let flight = begin("h/s1.ts");
    let (found, ()) = tokio::join!(status(server, "h/s1.ts", &[]), async {
        tokio::time::sleep(Duration::from_millis(900)).await;
        flight.advance(5);
    });
    assert_eq!((found, requests.load(Ordering::Relaxed)), (200, 1));
    // What does not come at all is missing when the time of a player is over, and not after twice that.
    let _never = begin("h/s2.ts");
    let found = tokio::time::timeout(Duration::from_secs(5), status(server, "h/s2.ts", &[])).await;
    assert_eq!((found, requests.load(Ordering::Relaxed)), (Ok(504), 2));
}

/// Nothing brings the rest of a segment: it has stalled, and there is no origin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_segment_that_is_lost_is_marked_as_a_gap_and_not_waited_for() {
    let tested = server(Http { wait_ms: 20_000, ..Http::default() }, &[], None);
    let (server, context) = (&tested.server, &tested.tested.context);
    let lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:1,", "s1.ts", "#EXTINF:1,", "s2.ts"];
    carry(context, "h/a.m3u8", format!("{}\n", lines.join("\n")).as_bytes());
    carry(context, "h/s2.ts", b"later");
    let flight =
        Arc::new(Flight::of_growing(key("h/s1.ts"), None, object(), partial(&tested.tested, b"right")));
    context.flights.add(Arc::clone(&flight)).unwrap();
    let playlist = || async {
        let (target, head) = (target("h/a.m3u8"), head("GET", "/", &[]));
        match server.as_sent(server.object(&request(server, &target, &head)).await, &key("h/a.m3u8")) {
            Outcome::Shaped(_, text, _) => String::from_utf8(text.to_vec()).unwrap(),
            Outcome::Stored(..) => lines.join("\n"),
            _ => panic!("it is held"),
        }
    };
    assert!(!playlist().await.contains("GAP"), "it is on its way");
    let waiting = tokio::time::timeout(Duration::from_secs(5), status(server, "h/s1.ts", &[]));
    let (found, ()) = tokio::join!(waiting, async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        flight.set_stalled(Some(clock::now()));
    });
    assert_eq!(found, Ok(504));
    let lost = playlist().await;
    assert!(lost.contains("#EXT-X-GAP\ns1.ts"), "{lost}");
    // Its packets come again.
    flight.set_stalled(None);
    assert!(!playlist().await.contains("GAP"));
}

/// A player has the beginning of a segment when the link loses what comes next: the origin is asked for the rest, long before half of a
/// target duration is over; without an origin the response is cut when nothing can bring it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_link_loses_in_the_middle_of_a_live_segment_comes_from_the_origin_at_once() {
    let url = origin(|head| {
        let from = head.lines().find_map(|it| it.strip_prefix("range: bytes=")).unwrap();
        let from: usize = from.trim_end_matches('-').parse().unwrap();
        let range = format!("Content-Range: bytes {from}-9/10");
        let length = format!("Content-Length: {}", 10 - from);
        response(&["206 Part", &range, &length], &"right-rest"[from..])
    });
    for (origin, expected) in [(Some(url), "right-rest"), (None, "right")] {
        let tested = server(Http { wait_ms: 20_000, ..Http::default() }, &[], origin.clone());
        let (server, context) = (&tested.server, &tested.tested.context);
        let lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:20", "#EXTINF:20,", "s1.ts", "#EXTINF:20,", "s2.ts"];
        carry(context, "h/a.m3u8", format!("{}\n", lines.join("\n")).as_bytes());
        let flight =
            Arc::new(Flight::of_growing(key("h/s1.ts"), None, object(), partial(&tested.tested, b"right")));
        context.flights.add(Arc::clone(&flight)).unwrap();
        flight.advance(5);
        let (target, head) = (target("h/s1.ts"), get("/"));
        let Outcome::Response(answer) = server.object(&request(server, &target, &head)).await else {
            panic!("it is on its way")
        };
        match origin.is_some() {
            // Repair symbols may bring it at the segment's end: an origin has it now.
            true => flight.set_overtaken(Some(clock::now())),
            false => flight.set_stalled(Some(clock::now())),
        }
        let (bytes, end) =
            tokio::time::timeout(Duration::from_secs(5), read(answer.into_body())).await.unwrap();
        assert_eq!((String::from_utf8(bytes).unwrap().as_str(), end.is_ok()), (expected, origin.is_some()));
        if origin.is_none() {
            assert_eq!(status(server, "h/s1.ts", &[]).await, 504, "no response that is known to be cut");
            assert_eq!(status(server, "h/s1.ts", &[("range", "bytes=0-2")]).await, 206, "that is there");
        }
    }
}

/// An MPD that numbers its segments cannot say which of them are missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn players_of_dash_pass_over_a_segment_that_is_lost() {
    let tested = server(Http { wait_ms: 300, ..Http::default() }, &[], None);
    let (server, context) = (&tested.server, &tested.tested.context);
    let mpd = r#"<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic" minimumUpdatePeriod="PT1S"
        availabilityStartTime="2026-01-01T00:00:00Z"><Period id="0"><AdaptationSet><Representation id="a" bandwidth="1">
        <SegmentTemplate duration="1" media="$RepresentationID$-$Number$.m4s"/></Representation></AdaptationSet></Period></MPD>"#;
    carry(context, "h/a.mpd", mpd.as_bytes());
    for name in ["h/a-1.m4s", "h/a-3.m4s"] {
        carry(context, name, b"segment");
    }
    assert_eq!(status(server, "h/a-2.m4s", &[]).await, 204);
    assert_eq!(status(server, "h/a-4.m4s", &[]).await, 404, "it has not been sent yet");
    assert_eq!(server.lost_segments(), 1);
    announce(server, "h/a-2.m4s", IgnoredQuery::default());
    assert_eq!(
        status(server, "h/a-2.m4s", &[]).await,
        504,
        "it is described, and may come behind newer ones"
    );
    context.flights.retract("h/a-2.m4s", &object());
    // It comes after all.
    let flight =
        Arc::new(Flight::of_growing(key("h/a-2.m4s"), None, object(), partial(&tested.tested, b"right")));
    context.flights.add(Arc::clone(&flight)).unwrap();
    flight.advance(5);
    assert_eq!(status(server, "h/a-2.m4s", &[]).await, 200);
    context.flights.end(&flight, crate::delivery::Outcome::Failed(crate::delivery::FailReason::Expired));
    // A playlist that lists the same segments marks it, and players of HLS take an answer without content for a broken segment.
    let lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:1,", "a-2.m4s", "#EXTINF:1,", "a-3.m4s"];
    carry(context, "h/a.m3u8", format!("{}\n", lines.join("\n")).as_bytes());
    assert_eq!((status(server, "h/a-2.m4s", &[]).await, server.lost_segments()), (404, 1));
}

/// The link was cut: segments are described, nothing of them has come, and later ones of their session have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_described_and_has_passed_is_a_gap_and_not_waited_for() {
    let tested = server(Http { wait_ms: 20_000, ..Http::default() }, &[], None);
    let (server, context) = (&tested.server, &tested.tested.context);
    let lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:10", "#EXTINF:10,", "s1.ts", "#EXTINF:10,", "s2.ts"];
    let text = format!("{}\n", lines.join("\n"));
    let mpd = r#"<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic" minimumUpdatePeriod="PT10S"
        availabilityStartTime="2026-01-01T00:00:00Z"><Period id="0"><AdaptationSet><Representation id="a" bandwidth="1">
        <SegmentTemplate duration="10" media="$RepresentationID$-$Number$.m4s"/></Representation></AdaptationSet></Period></MPD>"#;
    send(context, "h/a.m3u8", text.as_bytes(), 1);
    send(context, "d/a.mpd", mpd.as_bytes(), 1);
    for toi in 2..8 {
        send(context, "h/s0.ts", b"before", toi);
        send(context, "d/a-4.m4s", b"before", toi);
    }
    let described = |toi| ObjectRef { toi: carousel::lct::Toi(toi), ..object() };
    let announced = || Announced { version: 8, length: Some(5), ..Announced::default() };
    for name in ["h/s1.ts", "d/a-5.m4s"] {
        context.flights.announce(key(name), described(8), announced());
    }
    let has_gap = || {
        let held = context.store.get("h/a.m3u8").unwrap();
        match server.as_sent(Outcome::Stored(held, "hit"), &key("h/a.m3u8")) {
            Outcome::Shaped(_, text, _) => String::from_utf8_lossy(&text).contains("#EXT-X-GAP\ns1.ts"),
            _ => false,
        }
    };
    assert!(!has_gap(), "it may come");
    let waiting = |name| tokio::time::timeout(Duration::from_secs(5), status(server, name, &[]));
    let (hls, dash, ()) = tokio::join!(waiting("h/s1.ts"), waiting("d/a-5.m4s"), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        // A clock names the segments of DASH: this one is twenty later.
        send(context, "h/s2.ts", b"later", 9);
        send(context, "d/a-25.m4s", b"later", 9);
    });
    assert_eq!((hls, dash), (Ok(504), Ok(204)), "not waited for until its deadline");
    assert!(has_gap());
    // Described with a later TOI, it is still to come.
    context.flights.announce(key("h/s1.ts"), described(10), announced());
    assert!(!has_gap());
}

/// Static file servers answer ranges with an open end with 416, or beyond the file (`findings/open-ranges-of-static-servers.sh`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_ranges_that_an_origin_misreads_are_answered_from_the_file() {
    let asked_for = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&asked_for);
    let url = origin(move |head| {
        let range =
            head.lines().find_map(|it| it.strip_prefix("range: ").or_else(|| it.strip_prefix("Range: ")));
        log.lock().unwrap().push(range.map(str::to_owned));
        match range {
            Some("bytes=-3") => response(&["416 No", "Content-Length: 0"], ""),
            Some("bytes=-9") => response(&["416 No", "Content-Range: bytes */7", "Content-Length: 0"], ""),
            Some("bytes=0-") => response(
                &["206 Part", "Content-Range: bytes 0-6/7", "Content-Length: 7", "ETag: \"a\""],
                "the end",
            ),
            Some("bytes=4-500") => {
                response(&["206 Part", "Content-Range: bytes 4-500/7", "Content-Length: 3"], "end")
            }
            _ => response(&["200 OK", "Content-Length: 7", "ETag: \"a\""], "the end"),
        }
    });
    let tested = server(Http::default(), &[], Some(url));
    let answer = async |name: &str, range: &str| {
        let (target, head) = (target(name), head("GET", "/", &[("range", range)]));
        let (status, fields) = match tested.server.object(&request(&tested.server, &target, &head)).await {
            Outcome::Passed(response, _) | Outcome::Response(response) => {
                (response.status(), response.headers().clone())
            }
            Outcome::Stored(object, _) => {
                let (status, fields, _) = Head::of_stored(&object).respond(&head.method, &head.headers);
                (status, fields)
            }
            _ => panic!("it is fetched"),
        };
        (status.as_u16(), fields[header::CONTENT_RANGE].to_str().unwrap().to_owned())
    };
    assert_eq!(answer("h/a.mp4", "bytes=-3").await, (206, "bytes 4-6/7".to_owned()));
    assert_eq!(answer("h/b.mp4", "bytes=4-500").await, (206, "bytes 4-6/7".to_owned()));
    assert_eq!(answer("h/c.mp4", "bytes=-9").await, (206, "bytes 0-6/7".to_owned()));
    let asked_for: Vec<_> =
        asked_for.lock().unwrap().iter().map(|it| it.clone().unwrap_or_default()).collect();
    assert_eq!(asked_for, ["bytes=-3", "", "bytes=4-500", "bytes=-9", "bytes=0-"]);
}

/// RFC 9111 section 4.3.2: `If-Match` is not for a cache to judge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_another_version_than_the_one_held_asks_the_origin() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let url = origin(move |_| {
        let etag = if counter.fetch_add(1, Ordering::Relaxed) == 0 { "ETag: \"a\"" } else { "ETag: \"b\"" };
        response(&["200 OK", etag, "Cache-Control: max-age=1000", "Content-Length: 5"], "right")
    });
    let tested = server(Http::default(), &[], Some(url));
    let request = async |fields: &[(&str, &str)]| {
        let (target, head) = (target("h/a.mp4"), head("GET", "/", fields));
        let status = match tested.server.object(&request(&tested.server, &target, &head)).await {
            Outcome::Stored(object, _) => Head::of_stored(&object).respond(&head.method, &head.headers).0,
            Outcome::Response(response) => response.status(),
            _ => panic!("it is passed on"),
        };
        (status.as_u16(), requests.load(Ordering::Relaxed))
    };
    // Until the version is in the cache, and no longer on its way.
    let is_held = async |etag: &str| {
        let context = &tested.tested.context;
        let of = |it: Arc<StoredObject>| it.meta().fields().get(header::ETAG).cloned();
        while context.flights.get("h/a.mp4").is_some()
            || context.store.get("h/a.mp4").and_then(of).is_none_or(|it| it != etag)
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert_eq!(request(&[]).await, (200, 1));
    is_held("\"a\"").await;
    assert_eq!(request(&[("if-match", "\"b\"")]).await, (412, 1), "it has just said what it has");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(request(&[("if-match", "\"a\"")]).await, (200, 1), "it is held");
    assert_eq!(request(&[("if-match", "\"b\"")]).await, (200, 2), "the origin has it now");
    is_held("\"b\"").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for _ in 0..3 {
        assert_eq!(
            request(&[("if-match", "\"a\"")]).await,
            (412, 3),
            "the origin has it no more, and is asked once"
        );
        is_held("\"b\"").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_an_origin_has_to_answer_have_places() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let url = origin(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(600));
        response(&["200 OK", "Content-Length: 5"], "")
    });
    let tested = server_of(filler_with(2), Http::default(), &[], Some(url));
    let ask = async |name: &str, after_ms: u64| {
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        let (target, head) = (target(name), head("HEAD", "/", &[]));
        match tested.server.object(&request(&tested.server, &target, &head)).await {
            Outcome::Passed(response, _) | Outcome::Response(response) => response.status().as_u16(),
            _ => panic!("nothing is held"),
        }
    };
    // On the heap: without optimisation three of them are more than the stack of a test.
    let [one, two, third] =
        [("h/a.mp4", 0), ("h/b.mp4", 0), ("h/c.mp4", 200)].map(|it| Box::pin(ask(it.0, it.1)));
    let found = tokio::join!(one, two, third);
    assert_eq!((found, requests.load(Ordering::Relaxed)), ((200, 200, 503), 2));
    assert_eq!(ask("h/c.mp4", 0).await, 200, "places are free again");
}

/// An origin's response is selected by the fields that it was sent, not by those of the player.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variants_are_chosen_by_the_fields_that_the_origin_was_sent() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let url = origin(move |head| {
        counter.fetch_add(1, Ordering::Relaxed);
        let (_, name) = head.split_once('/').unwrap();
        let vary = format!("Vary: {}", name.split('.').next().unwrap());
        response(&["200 OK", "Content-Length: 1", "Cache-Control: max-age=60", "ETag: \"1\"", &vary], "x")
    });
    let tested = server(impatient(), &[], Some(url));
    let asked = async |name: &str, values: [&str; 4]| {
        let before = requests.load(Ordering::Relaxed);
        for value in values {
            let fields = [(name, value)];
            let fields = if value.is_empty() { &[][..] } else { &fields[..] };
            assert_eq!(
                status(&tested.server, &format!("h/{name}.m4s"), fields).await,
                200,
                "{name}: {value}"
            );
        }
        requests.load(Ordering::Relaxed) - before
    };
    for name in [
        "host",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "forwarded",
        "x-real-ip",
        "connection",
        "te",
        "keep-alive",
        "proxy-authorization",
        "expect",
        "cmcd-object",
        "cmcd-request",
        "cmcd-session",
        "cmcd-status",
        "x-http-method-override",
        "x-original-url",
        "accept-encoding",
    ] {
        assert_eq!(asked(name, ["one", "", "two", "one"]).await, 1, "{name} is not passed on");
    }
    for (name, value) in [
        ("range", "bytes=0-"),
        ("if-range", "\"2\""),
        ("if-none-match", "\"2\""),
        ("if-modified-since", "Sat, 01 Nov 2025 00:00:00 GMT"),
    ] {
        let status_of =
            async |fields: &[(&str, &str)]| status(&tested.server, &format!("h/{name}.m4s"), fields).await;
        let before = requests.load(Ordering::Relaxed);
        for fields in [&[][..], &[(name, value)], &[]] {
            assert!(matches!(status_of(fields).await, 200 | 206 | 304), "{name}");
        }
        assert_eq!(requests.load(Ordering::Relaxed) - before, 1, "{name} does not select");
    }
    for name in ["accept-language", "origin", "user-agent", "x-own", "via", "cookie"] {
        assert_eq!(asked(name, ["one", "two", "one", "two"]).await, 2, "{name} is passed on");
    }
}

/// As many requests at the origin as for GET, and no more bytes than of a prefetch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_fill_the_cache_with_what_is_short_and_may_be_kept() {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let url = origin(move |head| {
        log.lock().unwrap().push(head.lines().next().unwrap().to_owned());
        // The filler of the tests prefetches up to 10 bytes.
        let (caching, length) = match head {
            _ if head.contains("/private") => ("private", 5),
            _ if head.contains("/long") => ("max-age=60", 11),
            _ => ("max-age=60", 5),
        };
        let lines = [format!("Cache-Control: {caching}"), format!("Content-Length: {length}")];
        let body = if head.starts_with("get") { "x".repeat(length) } else { String::new() };
        response(&["200 OK", &lines[0], &lines[1]], &body)
    });
    let tested = server(impatient(), &[], Some(url));
    for (name, methods, expected) in [
        ("short", ["HEAD", "HEAD", "GET"], &["get"][..]),
        ("long", ["HEAD", "HEAD", "GET"], &["get", "get", "get"]),
        ("private", ["HEAD", "HEAD", "GET"], &["get", "head", "get"]),
    ] {
        asked.lock().unwrap().clear();
        for method in methods {
            let (target, head) = (target(&format!("h/{name}.m4s")), head(method, "/", &[]));
            let request = request(&tested.server, &target, &head);
            let response = match Box::pin(tested.server.object(&request)).await {
                Outcome::Passed(response, _) | Outcome::Response(response) => response,
                Outcome::Stored(object, how) => {
                    let known = Head::of_stored(&object).stamped(how);
                    let (status, fields, send) = known.respond(&head.method, &head.headers);
                    head::response(status, fields, send.of_object(object, None))
                }
                _ => panic!("{name} {method}"),
            };
            assert_eq!(response.status(), 200, "{name} {method}");
            let length = if name == "long" { 11 } else { 5 };
            if method == "HEAD" {
                assert_eq!(field(&response, "content-length"), length.to_string(), "{name}");
            }
            let body = read(response.into_body()).await.0;
            assert_eq!(body.len(), if method == "HEAD" { 0 } else { length }, "{name} {method}");
        }
        let methods: Vec<_> =
            asked.lock().unwrap().iter().map(|it| it.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(methods, expected, "{name}");
    }
}
