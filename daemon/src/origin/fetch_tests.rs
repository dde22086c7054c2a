//! Exchanges with origins that send something else than they say, or than was asked for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::super::testing::{chunked, ended, filler, filler_of, key, origin, response};
use super::super::{OriginTimeouts, PrefetchEnd, Route, SpanResult};
use super::*;
use crate::caching::from_pairs;
use crate::delivery::Announced;
use crate::store::{PurgeMode, Selection, Store, StoreConfig};

const OK: &str = "200 OK";

fn announced(body: &[u8]) -> FillRequest {
    let announced = Announced {
        digest: Some(Digest::of(body)),
        length: None,
        content_type: None,
        version: 1,
        ignored_query: Default::default(),
    };
    FillRequest { announced: Some(announced), ..FillRequest::default() }
}

fn part(range: &'static str) -> FillRequest {
    FillRequest { range: Some(HeaderValue::from_static(range)), ..FillRequest::default() }
}

fn flight_of(result: FillResult) -> Arc<Flight> {
    match result {
        FillResult::Flight(flight) => flight,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_another_length_than_its_head_says_is_not_kept() {
    for (answer, is_whole) in [
        (response(&[OK, "Content-Length: 5"], "12345"), true),
        (response(&[OK, "Content-Length: 6"], "12345"), false),
        (chunked(&[OK], "12345"), true),
        (chunked(&[OK, "Content-Length: 5"], "12345"), true),
        // Chunks say where it ends (RFC 9112 section 6.3).
        (chunked(&[OK, "Content-Length: 4"], "12345"), true),
        (chunked(&[OK, "Content-Length: 6"], "12345"), true),
    ] {
        let (tested, said) = (filler(), answer.clone());
        let url = origin(move |_| answer.clone());
        let flight = flight_of(tested.filler.fill(&key("h/a.m4s"), url, FillRequest::default()).await);
        let outcome = ended(&flight).await;
        assert_eq!(matches!(outcome, Outcome::Complete(_)), is_whole, "{said}: {outcome:?}");
        assert_eq!(matches!(outcome, Outcome::Failed(FailReason::OriginCut)), !is_whole, "{said}");
        assert_eq!(tested.context.store.contains("h/a.m4s"), is_whole, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_parent_has_held_since_before_a_purge_is_passed_on_and_not_kept() {
    let tested = filler();
    // Age and body of the shield, which is purged later than this cache.
    let held = Arc::new(Mutex::new((Some(5), "old")));
    let said = Arc::clone(&held);
    let shield = origin(move |head| {
        let (age, body) = *said.lock().unwrap();
        let age = age.map_or_else(|| "X: y".to_owned(), |age: u32| format!("Age: {age}"));
        let says = ["Cache-Control: max-age=600", "ETag: \"v\"", age.as_str()];
        if head.contains("if-none-match") && body == "old" {
            return response(&[&["304 Not Modified"], &says[..]].concat(), "");
        }
        response(&[&[OK, "Content-Length: 3"], &says[..]].concat(), body)
    });
    let base = "http://127.0.0.1:9/films/";
    let group =
        toml::from_str(&format!("name = 'shields'\n[[member]]\nurl = '{}'", shield.trim_end_matches('/')));
    let route =
        Route { path: "/f/".into(), base: base.into(), parents: Some("shields".into()), ..Route::default() };
    let wait = std::time::Duration::from_secs(60);
    tested.client.configure(wait, &OriginTimeouts::default(), &[route], &[group.unwrap()]);
    let name = key(&format!("{base}a.m4s"));
    let get = async |held: Option<Arc<StoredObject>>| {
        tested
            .filler
            .fill(&name, format!("{base}a.m4s"), FillRequest { held, ..FillRequest::default() })
            .await
    };
    let store = &tested.context.store;
    let purge = |mode| {
        store.purge(&[vec![Selection::Name(name.clone())]], mode);
        // What is requested in the same millisecond counts as requested before.
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    let not_kept = || tested.filler.not_kept()[NotKept::Purged as usize];
    assert!(matches!(ended(&flight_of(get(None).await)).await, Outcome::Complete(_)), "no purge");
    purge(PurgeMode::Hard);
    for at in 1..4 {
        assert!(matches!(ended(&flight_of(get(None).await)).await, Outcome::Passed(3)));
        assert_eq!((store.contains(name.as_str()), not_kept()), (false, at));
    }
    // The shield is purged: it has it new, and a second later that can be told from its Age.
    *held.lock().unwrap() = (None, "new");
    let Outcome::Complete(new) = ended(&flight_of(get(None).await)).await else { panic!("not kept") };
    purge(PurgeMode::Hard);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    *held.lock().unwrap() = (Some(0), "new");
    assert!(matches!(ended(&flight_of(get(None).await)).await, Outcome::Complete(_)));
    drop(new);
    // A shield that has to be purged yet confirms what is stale here.
    *held.lock().unwrap() = (Some(5), "old");
    purge(PurgeMode::Soft);
    let stale = store.chosen(&name, &HeaderMap::new()).unwrap();
    let FillResult::Stored(same) = get(Some(Arc::clone(&stale))).await else { panic!("it is replaced") };
    assert!(same.expires() <= Some(clock::steady()) && not_kept() == 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_the_announced_object_is_withheld_to_its_last_byte() {
    for (body, available) in [("right", 5), ("wrong", 4)] {
        let tested = filler();
        let url = origin(move |_| response(&[OK, "Content-Length: 5"], body));
        let flight = flight_of(tested.filler.fill(&key("h/a.m4s"), url, announced(b"right")).await);
        let outcome = ended(&flight).await;
        assert_eq!(flight.available_from(0), 4, "{body}");
        match outcome {
            Outcome::Complete(stored) => assert_eq!(stored.meta().length, available),
            Outcome::Failed(FailReason::Verify) => assert_eq!(body, "wrong"),
            other => panic!("{other:?}"),
        }
        assert_eq!(tested.context.store.contains("h/a.m4s"), body == "right");
    }
    // A coded body and a refusal are not what the digest is about.
    for lines in [&[OK, "Content-Encoding: gzip", "Content-Length: 5"][..], &["404 No", "Content-Length: 5"]]
    {
        let tested = filler();
        let answer = response(lines, "other");
        let url = origin(move |_| answer.clone());
        let flight = flight_of(tested.filler.fill(&key("h/a.m4s"), url, announced(b"right")).await);
        assert!(matches!(ended(&flight).await, Outcome::Complete(_)), "{lines:?}");
        assert_eq!(flight.available_from(0), 5);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_purged_since_it_was_asked_for_is_not_kept() {
    let tested = filler();
    let (go, gate) = mpsc::channel::<()>();
    let (gate, asked) = (Mutex::new(gate), Arc::new(tokio::sync::Notify::new()));
    let heard = Arc::clone(&asked);
    let url = origin(move |_| {
        heard.notify_one();
        let _ = gate.lock().unwrap().recv();
        response(&[OK, "Content-Length: 5"], "12345")
    });
    let filling = Arc::clone(&tested.filler);
    let filling =
        tokio::spawn(async move { filling.fill(&key("h/a.m4s"), url, FillRequest::default()).await });
    asked.notified().await;
    tested.context.store.purge(&[vec![Selection::Name(key("h/a.m4s"))]], PurgeMode::Hard);
    go.send(()).unwrap();
    let flight = flight_of(filling.await.unwrap());
    assert!(matches!(ended(&flight).await, Outcome::Passed(5)));
    assert!(!tested.context.store.contains("h/a.m4s"));
}

/// An origin that has 8 bytes of one version, and sends `second` to requests that do not ask for the first
/// four.
fn in_parts(second: String) -> String {
    origin(move |head| {
        if head.contains("range: bytes=0-3") {
            let lines = ["206 Part", "ETag: \"a\"", "Content-Range: bytes 0-3/8", "Content-Length: 4"];
            response(&lines, "1234")
        } else {
            assert!(head.contains("range: bytes=4-7") && head.contains("if-range: \"a\""), "{head}");
            second.clone()
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_other_versions_or_places_are_never_put_beside_each_other() {
    let second = |etag: &str, range: &str| {
        let lines = ["206 Part", &format!("ETag: {etag}"), &format!("Content-Range: bytes {range}")];
        chunked(&lines, "5678")
    };
    for (answer, is_right) in [
        (second("\"a\"", "4-7/8"), true),
        (second("\"b\"", "4-7/8"), false),
        (second("W/\"a\"", "4-7/8"), false),
        (second("\"a\"", "4-7/9"), false),
        (second("\"a\"", "0-3/8"), false),
        (second("\"a\"", "5-8/8"), false),
        (second("\"a\"", "4-8/8"), false),
        (second("\"a\"", "4-7/*"), false),
        (response(&[OK, "ETag: \"a\"", "Content-Length: 8"], "12345678"), false),
    ] {
        let (tested, said) = (filler(), answer.clone());
        let url = in_parts(answer);
        let flight = flight_of(tested.filler.fill(&key("h/a.m4s"), url, part("bytes=0-3")).await);
        assert_eq!((flight.length, flight.spans().is_some()), (Some(8), true));
        let wanted = tested.filler.want(&flight, 4..8, &HeaderMap::new()).await;
        assert!(matches!(wanted, SpanResult::Begun), "{wanted:?}");
        match ended(&flight).await {
            Outcome::Complete(stored) => {
                assert!(is_right, "{said}");
                assert_eq!(stored.bytes(0..8).unwrap(), "12345678");
            }
            Outcome::Failed(FailReason::Replaced) => assert!(!is_right, "{said}"),
            other => panic!("{said}: {other:?}"),
        }
        assert_eq!(tested.context.store.contains("h/a.m4s"), is_right, "{said}");
    }
}

/// Origins that limit a response, or send whole blocks, send another range than was requested (RFC 9110 section 15.3.7).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_that_are_shorter_or_longer_than_was_asked_make_a_whole_object() {
    const BODY: &str = "abcdefghijklmnopqrstuvwxyz";
    let range_of = |head: &str| {
        let (_, range) = head.split_once("range: bytes=").unwrap();
        let (start, end) = range.lines().next().unwrap().split_once('-').unwrap();
        (start.parse::<usize>().unwrap(), end.parse::<usize>().map_or(BODY.len(), |last| last + 1))
    };
    type Sent = fn(usize, usize) -> (usize, usize);
    let cases: [(&str, Sent, usize); 4] = [
        ("shorter", |start, end| (start, end.min(start + 5)), 6),
        ("blocks", |start, end| (start / 8 * 8, end.next_multiple_of(8).min(BODY.len())), 2),
        ("wider", |start, end| (start.saturating_sub(3), (end + 3).min(BODY.len())), 2),
        ("one block", |start, _| (start / 8 * 8, (start / 8 * 8 + 8).min(BODY.len())), 4),
    ];
    for (case, sent, requests) in cases {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let url = origin(move |head| {
            counter.fetch_add(1, Ordering::Relaxed);
            let (start, end) = range_of(head);
            let (start, end) = sent(start, end);
            let range = format!("Content-Range: bytes {start}-{}/{}", end - 1, BODY.len());
            let length = format!("Content-Length: {}", end - start);
            response(&["206 Part", "ETag: \"a\"", &range, &length], &BODY[start..end])
        });
        let tested = filler();
        let flight = flight_of(tested.filler.fill(&key("h/a.m4s"), url, part("bytes=0-3")).await);
        let wanted = tested.filler.want(&flight, 0..BODY.len() as u64, &HeaderMap::new()).await;
        assert!(matches!(wanted, SpanResult::Begun), "{case}: {wanted:?}");
        match ended(&flight).await {
            Outcome::Complete(stored) => {
                assert_eq!(stored.bytes(0..BODY.len() as u64).unwrap(), BODY, "{case}");
            }
            other => panic!("{case}: {other:?}"),
        }
        assert_eq!(asked.load(Ordering::Relaxed), requests, "{case}");
    }
}

/// RFC 9110 section 15.3.7.1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_is_passed_on_says_which_it_is() {
    for (caching, range, asked) in [
        ("private", "bytes 0-3/4", Some("bytes=0-")),
        ("no-store", "bytes 0-3/4", Some("bytes=0-3")),
        ("private", "bytes 0-3/8", Some("bytes=0-3")),
        ("private", "bytes 0-3/4", None),
    ] {
        let tested = filler();
        let fields = [format!("Cache-Control: {caching}"), format!("Content-Range: {range}")];
        let url = origin(move |_| {
            response(&["206 Part", "ETag: \"a\"", &fields[0], &fields[1], "Content-Length: 4"], "1234")
        });
        let ask = asked.map_or_else(FillRequest::default, part);
        match tested.filler.fill(&key("h/a.m4s"), url, ask).await {
            FillResult::Passed(passed) => {
                let said = passed.headers.get(header::CONTENT_RANGE).map(|it| it.to_str().unwrap());
                // What nobody has asked a part of is the whole.
                let expected = if asked.is_some() { (206, Some(range)) } else { (200, None) };
                assert_eq!((passed.reply.status.as_u16(), said), expected, "{caching} {asked:?}");
            }
            other => panic!("{caching} {asked:?}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_is_refused_or_longer_than_it_says_is_given_up() {
    let tested = filler();
    let url = in_parts(response(&["403 No", "Content-Length: 0"], ""));
    let flight = flight_of(tested.filler.fill(&key("h/a.m4s"), url, part("bytes=0-3")).await);
    let wanted = tested.filler.want(&flight, 4..8, &HeaderMap::new()).await;
    assert!(matches!(wanted, SpanResult::Refused(passed) if passed.reply.status == 403));
    assert!(flight.is_given_up(4) && flight.outcome().is_none());

    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let tested = filler();
    let url = origin(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        chunked(&["206 Part", "ETag: \"a\"", "Content-Range: bytes 0-3/8"], "123456")
    });
    let flight = flight_of(tested.filler.fill(&key("h/a.m4s"), url, part("bytes=0-3")).await);
    while !flight.is_given_up(0) {
        flight.listen().await;
    }
    // Nothing beyond the part was written, nor does a reader take it to be there.
    assert_eq!((flight.received_bytes(), flight.available_from(0), flight.available_from(4)), (0, 0, 4));
    assert_eq!(asked.load(Ordering::Relaxed), 3, "asked for again while there is hope");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_whose_parts_nobody_can_join_is_fetched_whole_the_next_time() {
    for (length, is_whole) in [("8", true), ("67108864", true), ("67108865", false)] {
        let tested = filler();
        let url = origin(move |head| {
            if head.contains("range:") {
                let range = format!("Content-Range: bytes 0-3/{length}");
                return response(&["206 Part", "ETag: W/\"a\"", &range, "Content-Length: 4"], "1234");
            }
            response(&[OK, "Content-Length: 8"], "12345678")
        });
        let name = key("h/a.m4s");
        let ask = || tested.filler.fill(&name, url.clone(), part("bytes=0-3"));
        assert!(matches!(ask().await, FillResult::Passed(passed) if passed.reply.status == 206));
        assert_eq!(tested.filler.is_fetched_whole(&key("h/a.m4s")), is_whole, "{length}");
        match ask().await {
            FillResult::Flight(flight) => assert_eq!((flight.length, is_whole), (Some(8), true)),
            FillResult::Passed(passed) => assert_eq!((passed.reply.status.as_u16(), is_whole), (206, false)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_about_one_request_are_passed_and_expected_refusals_are_not() {
    for (status, is_expected) in
        [("304 Same", false), ("416 No range", false), ("404 No", true), ("500 No", true)]
    {
        let tested = filler();
        let answer = response(&[status, "Content-Length: 0"], "");
        let url = origin(move |_| answer.clone());
        let ask = FillRequest { is_expected, ..FillRequest::default() };
        let said: u16 = status[..3].parse().unwrap();
        match tested.filler.fill(&key("h/a.m4s"), url, ask).await {
            FillResult::Passed(passed) => {
                assert_eq!((passed.reply.status.as_u16(), passed.why, is_expected), (said, None, false));
            }
            FillResult::Refused(status) => assert_eq!((status, is_expected), (said, true)),
            other => panic!("{status}: {other:?}"),
        }
        assert!(tested.context.flights.list().is_empty(), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefetches_that_are_long_refused_or_not_kept_are_declined_and_counted() {
    let most = ["Content-Length: 10", "Cache-Control: max-age=60"];
    for (lines, body, end) in [
        (vec![OK, most[0], most[1]], "0123456789", PrefetchEnd::Begun),
        (vec![OK, "Content-Length: 11", most[1]], "0123456789a", PrefetchEnd::TooLong),
        (vec!["404 No", most[0], most[1]], "0123456789", PrefetchEnd::Refused),
        (vec![OK, most[0], "Cache-Control: no-store"], "0123456789", PrefetchEnd::NotKept),
    ] {
        let tested = filler();
        let answer = response(&lines, body);
        let url = origin(move |_| answer.clone());
        assert_eq!(
            tested.filler.prefetch(&key("h/a.m4s"), url, FillRequest::default()).await,
            end,
            "{lines:?}"
        );
        assert_eq!(tested.filler.prefetched()[end as usize], 1);
        assert_eq!(tested.filler.prefetching.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_another_has_begun_there_is_one_request_and_what_is_held_then_is_not_fetched() {
    let (tested, asked) = (filler(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&asked);
    let url = origin(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        response(&[OK, "Content-Length: 5"], "12345")
    });
    let name = key("h/a.m4s");
    let fill = || tested.filler.fill(&name, url.clone(), FillRequest::default());
    let (first, second) = tokio::join!(fill(), fill());
    let (first, second) = (flight_of(first), second);
    assert!(matches!(ended(&first).await, Outcome::Complete(_)));
    assert!(
        matches!(&second, FillResult::Flight(it) if Arc::ptr_eq(it, &first))
            || matches!(&second, FillResult::Held),
        "{second:?}"
    );
    assert!(matches!(fill().await, FillResult::Held), "the cache has it");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[test]
fn the_rest_of_a_cut_body_is_of_its_version_and_nothing_else() {
    let fields = |etag: &str, range: &str| from_pairs([("etag", etag), ("content-range", range)]);
    let version = Validators::of(&fields("\"a\"", ""));
    let is_rest = |status, fields: &HeaderMap, version: &Validators, rest: std::ops::Range<u64>| {
        Part { length: rest.end, span: rest }.is_sent(status, fields, version)
    };
    let right = fields("\"a\"", "bytes 4-8/9");
    assert!(is_rest(StatusCode::PARTIAL_CONTENT, &right, &version, 4..9));
    assert!(!is_rest(StatusCode::OK, &right, &version, 4..9));
    assert!(!is_rest(StatusCode::PARTIAL_CONTENT, &right, &version, 3..9), "it begins later");
    for wrong in [
        fields("\"b\"", "bytes 4-8/9"),
        fields("W/\"a\"", "bytes 4-8/9"),
        fields("", "bytes 4-8/9"),
        fields("\"a\"", "bytes 4-7/9"),
        fields("\"a\"", "bytes 4-8/10"),
        fields("\"a\"", "bytes 4-8/*"),
        fields("\"a\"", ""),
    ] {
        assert!(!is_rest(StatusCode::PARTIAL_CONTENT, &wrong, &version, 4..9), "{wrong:?}");
    }
    let weak = fields("W/\"a\"", "bytes 4-8/9");
    assert!(!is_rest(StatusCode::PARTIAL_CONTENT, &weak, &Validators::of(&weak), 4..9), "no byte is sure");
}

#[test]
fn a_live_manifest_is_stale_after_its_lifetime_less_the_age_it_came_with() {
    let came = WallTime::from_unix_ms(1_000_000);
    for (fresh_ms, age_s, expires) in [(3000, 0, 1_003_000), (3000, 2, 1_001_000), (3000, 9, 1_000_000)] {
        assert_eq!(live_expiry(came, fresh_ms, age_s).unix_ms(), expires);
    }
    assert_eq!(live_expiry(came, u64::MAX, 0).unix_ms(), i64::MAX);
}

#[tokio::test]
async fn what_expires_in_minutes_goes_to_disk_while_memory_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        path: folder.path().join("cache"),
        reserve_bytes: 0,
        memory_bytes: 64 << 10,
        ..StoreConfig::default()
    };
    let tested = filler_of(Store::open(&config).unwrap().0);
    let is_short_lived = |fresh_ms: i64, keep: bool| {
        let expires = clock::steady().plus_ms(fresh_ms);
        tested.filler.placement(&key("h/b.m4s"), expires, keep).is_short_lived
    };
    assert!(is_short_lived(300_000, true) && !is_short_lived(3_600_000, true));
    let body = vec![1; 60 << 10];
    let placement = Placement { is_short_lived: true, ..Placement::default() };
    let partial = Arc::new(tested.context.store.create(body.len() as u64, placement).unwrap());
    partial.write_at(0, &body).unwrap();
    assert!(!is_short_lived(300_000, true), "memory is full");
    assert!(is_short_lived(LEAST_ON_DISK_MS / 2, true), "it is not worth a write");
    assert!(is_short_lived(300_000, false), "it is not kept");
    drop(partial);
    assert!(is_short_lived(300_000, true), "there is room again");
}

/// The stored object's freshness in milliseconds; `None`: it is not stored.
async fn freshness_of(tested: &super::super::testing::Tested, name: &str, answer: String) -> Option<i64> {
    let url = origin(move |_| answer.clone());
    let flight = flight_of(tested.filler.fill(&key(name), url, FillRequest::default()).await);
    match ended(&flight).await {
        Outcome::Complete(stored) => {
            let received_at = stored.meta().received_at;
            Some(stored.expires().unwrap().unix_ms() - received_at.unix_ms())
        }
        Outcome::Passed(_) => None,
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_of_neutral_types_are_known_by_their_content() {
    const LIVE: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na.ts\n";
    const STEERING: &str = "{\"VERSION\":1,\"TTL\":4,\"PATHWAY-PRIORITY\":[\"a\"]}";
    const MPD: &str = "<MPD type='dynamic' minimumUpdatePeriod='PT6S'/>";
    let marked = format!("\u{feff}{LIVE}");
    let tested = filler();
    let mut useless = 0;
    for (name, content_type, body, fresh_ms) in [
        ("h/none", "", LIVE, Some(2000)),
        ("h/plain", "text/plain", LIVE, Some(2000)),
        ("h/octet", "application/octet-stream", LIVE, Some(2000)),
        ("h/a.php", "text/html; charset=utf-8", LIVE, Some(2000)),
        ("h/marked", "text/plain", marked.as_str(), Some(2000)),
        ("h/steering", "application/json", STEERING, Some(2000)),
        ("h/mpd", "text/xml", MPD, Some(3000)),
        ("h/page", "text/html", "<html></html>", None),
        ("h/a.json", "application/json", "{}", None),
        ("h/a.html", "text/html", LIVE, None),
        ("h/picture", "image/png", LIVE, None),
    ] {
        let content_type =
            if content_type.is_empty() { "X: y".into() } else { format!("Content-Type: {content_type}") };
        let length = format!("Content-Length: {}", body.len());
        for (at, answer) in
            [response(&[OK, &content_type, &length], body), chunked(&[OK, &content_type], body)]
                .into_iter()
                .enumerate()
        {
            let name = format!("{name}-{at}");
            let name = if name.contains("html-") { format!("h/{at}.html") } else { name };
            assert_eq!(freshness_of(&tested, &name, answer).await, fresh_ms, "{name}");
            useless += u64::from(fresh_ms.is_none());
            assert_eq!(tested.filler.not_kept()[NotKept::Useless as usize], useless, "{name}");
        }
    }
    // What the origin says stands.
    for field in ["Cache-Control: max-age=0", "Cache-Control: no-cache", "Expires: 0"] {
        let answer = chunked(&[OK, "Content-Type: text/plain", field], LIVE);
        assert_eq!(freshness_of(&tested, "h/said", answer).await, None, "{field}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_manifests_that_are_too_long_to_be_read_are_fresh_for_a_moment() {
    let tested = filler();
    let default_ms = i64::from(tested.filler.options.manifest_ttl_s) * 1000;
    let segments = "#EXTINF:4,\nsegment-with-a-name.ts\n".repeat(MAX_MANIFEST_BYTES / 30);
    let head = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n";
    for (name, body, fresh_ms, unread) in [
        ("h/live.m3u8", format!("{head}{segments}"), 2000, 0),
        ("h/vod.m3u8", format!("{head}{segments}#EXT-X-ENDLIST\n"), default_ms, 0),
        ("h/unread.m3u8", format!("#EXTM3U{}", " ".repeat(MAX_MANIFEST_BYTES)), 1000, 1),
    ] {
        let answer = response(&[OK, &format!("Content-Length: {}", body.len())], &body);
        let of_this = freshness_of(&tested, name, answer).await.unwrap();
        // Its head has come a moment before it is judged.
        assert!((fresh_ms - 100..=fresh_ms).contains(&of_this), "{name}: {of_this}");
        assert_eq!(tested.context.manifests.unread(), unread, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_fields_are_kept_in_memory_and_longer_ones_are_not_kept() {
    let tested = filler();
    for (count, is_kept) in [(1, true), (40, true), (100, false)] {
        let lines: Vec<String> = (0..count).map(|at| format!("X-{at}: {}", "v".repeat(200))).collect();
        let mut all = vec![OK, "Content-Length: 1", "Cache-Control: max-age=60"];
        all.extend(lines.iter().map(String::as_str));
        let (name, answer) = (format!("h/{count}.mp4"), response(&all, "x"));
        let url = origin(move |_| answer.clone());
        let flight = flight_of(tested.filler.fill(&key(&name), url, FillRequest::default()).await);
        let why = flight.sent.as_ref().unwrap().not_kept;
        assert_eq!(why, (!is_kept).then_some(NotKept::FieldsTooLong), "{count}");
        let outcome = ended(&flight).await;
        assert_eq!(matches!(outcome, Outcome::Complete(_)), is_kept, "{count}: {outcome:?}");
        assert_eq!(tested.context.store.contains(&name), is_kept, "{count}");
    }
    assert_eq!(tested.filler.not_kept()[NotKept::FieldsTooLong as usize], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn later_viewers_of_a_body_that_goes_on_ask_on_their_own() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let head =
                    "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nTransfer-Encoding: chunked\r\n\r\n";
                let mut piece = head.as_bytes();
                while stream.write_all(piece).is_ok() {
                    std::thread::sleep(std::time::Duration::from_millis(100));
                    piece = b"1\r\nx\r\n";
                }
            });
        }
    });
    let tested = filler();
    let join = async || {
        flight_of(tested.filler.fill(&key("h/radio.aac"), url.clone(), FillRequest::default()).await)
    };
    let first = join().await;
    let _reader = first.partial().reader(0);
    assert!(Arc::ptr_eq(&first, &join().await), "a segment at the live edge is one for all");
    let later = std::time::Duration::from_millis(JOINED_FOR_MS.unsigned_abs() + 1500);
    tokio::time::sleep(later).await;
    let second = join().await;
    assert!(!Arc::ptr_eq(&first, &second), "a radio begins where it is now");
    assert!(first.received_bytes() > second.received_bytes() && first.outcome().is_none());
}
