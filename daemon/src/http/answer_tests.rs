//! Requests that are refused, and what is remembered of those that are answered.

use std::sync::atomic::AtomicU64;

use http::request::Builder;
use tokio::sync::watch;

use super::super::options::Http;
use super::super::testing::{field, get, head, link, read, server, worker};
use super::*;
use crate::origin::testing::{origin, put, response};
use crate::origin::{Route, loop_id, no_body};

fn refused(head: &Parts, is_whole: bool) -> Option<(Refusal, u16)> {
    refusal(head, is_whole).map(|(why, response)| (why, response.status().as_u16()))
}

#[test]
fn requests_that_no_honest_client_sends_are_refused() {
    let bad = Some((Refusal::BadRequest, 400));
    assert_eq!(refused(&get("/a"), true), None);
    assert_eq!(refused(&head("GET", "/a", &[]), true), bad, "no Host");
    assert_eq!(refused(&head("GET", "/a", &[("host", "a"), ("host", "b")]), true), bad);
    assert_eq!(refused(&head("GET", "/a", &[("host", "a"), ("host", "a")]), true), bad);
    assert_eq!(refused(&head("GET", "/a", &[("host", "a b")]), true), bad);
    for version in [Version::HTTP_10, Version::HTTP_2, Version::HTTP_3] {
        let mut plain = head("GET", "/a", &[]);
        plain.version = version;
        assert_eq!(refused(&plain, true), None, "{version:?}");
    }
    let coded = [("transfer-encoding", "chunked"), ("host", "a")];
    let mut old = head("POST", "/a", &coded);
    old.version = Version::HTTP_10;
    assert_eq!((refused(&old, false), refused(&head("POST", "/a", &coded), false)), (bad, None));
    for method in ["CONNECT", "TRACE"] {
        let (why, response) = refusal(&head(method, "/a", &[("host", "a")]), true).unwrap();
        assert_eq!((why, response.status().as_u16()), (Refusal::Method, 405));
        assert_eq!(field(&response, "allow"), METHODS);
    }
    let seen = format!("other; x=1, {}", loop_id());
    let seen = head("GET", "/a", &[("host", "a"), ("cdn-loop", &seen)]);
    assert_eq!(refused(&seen, true), Some((Refusal::Loop, 508)));
}

#[test]
fn early_data_has_nothing_that_may_not_be_repeated() {
    let (_over, is_over) = watch::channel(false);
    for (method, is_whole, is_refused) in [
        ("GET", true, false),
        ("HEAD", true, false),
        ("GET", false, true),
        ("POST", true, true),
        ("POST", false, true),
        ("OPTIONS", true, true),
    ] {
        let mut head = head(method, "/a", &[("host", "a")]);
        assert_eq!(refused(&head, is_whole), None, "{method} after the handshake");
        head.extensions.insert(EarlyData(is_over.clone()));
        let expected = is_refused.then_some((Refusal::EarlyData, 425));
        assert_eq!(refused(&head, is_whole), expected, "{method} {is_whole}");
    }
}

async fn ask(worker: &Rc<Worker>, link: &Rc<Link>, request: Builder) -> (Response<Logged>, bool) {
    let answer = worker.answer(request.body(no_body()).unwrap(), link);
    let is_at_once = matches!(answer, Answer::Ready(_));
    (answer.await.unwrap(), is_at_once)
}

#[tokio::test]
async fn a_repeated_hit_is_answered_at_once_unless_it_is_stale_or_gone() {
    let tested = server(Http::default(), &[], None);
    let (worker, link, store) = (worker(&tested.server), link(), &tested.tested.context.store);
    put(store, "h/a", b"right", 60_000);
    put(store, "h/stale", b"right", -1);
    let get = |path: &str| Request::get(path).header("host", "box");
    let (response, is_at_once) = ask(&worker, &link, get("/h/a")).await;
    assert_eq!((response.status().as_u16(), is_at_once), (200, false));
    assert_eq!(read(response.into_body()).await.0, b"right");
    let (response, is_at_once) = ask(&worker, &link, get("/h/a").header("range", "bytes=1-2")).await;
    assert_eq!((response.status().as_u16(), is_at_once), (206, true));
    assert_eq!(read(response.into_body()).await.0, b"ig");
    for _ in 0..2 {
        let (response, is_at_once) = ask(&worker, &link, get("/h/stale")).await;
        assert_eq!((response.status().as_u16(), is_at_once), (200, false));
    }
    store.remove("h/a", crate::store::EvictReason::Purged);
    let (response, is_at_once) = ask(&worker, &link, get("/h/a")).await;
    assert_eq!((response.status().as_u16(), is_at_once), (404, false));
    assert_eq!(link.active(), 1, "its body is not over");
    drop(response);
    assert_eq!(link.active(), 0);
    assert_eq!(worker.stats.routes[0].bytes.load(Relaxed), 7);
}

#[tokio::test]
async fn a_request_with_two_lengths_is_refused_and_ends_its_connection() {
    let tested = server(Http::default(), &[], None);
    let (worker, link) = (worker(&tested.server), link());
    put(&tested.tested.context.store, "h/a", b"right", 60_000);
    let get = || Request::get("/h/a").header("host", "box");
    ask(&worker, &link, get()).await;
    let two = get().header("transfer-encoding", "chunked").header("content-length", "5");
    let twice = get().header("transfer-encoding", "chunked, Chunked");
    let in_two_lines = get().header("transfer-encoding", "chunked").header("transfer-encoding", "chunked");
    for (number, request) in (1..).zip([two, twice, in_two_lines]) {
        let (response, _) = ask(&worker, &link, request).await;
        assert_eq!((response.status().as_u16(), field(&response, "connection")), (400, "close"));
        assert_eq!(worker.stats.refusals[Refusal::BadRequest as usize].load(Relaxed), number);
    }
    let once = get().header("transfer-encoding", "chunked");
    assert_eq!(ask(&worker, &link, once).await.0.status().as_u16(), 200);
}

#[tokio::test]
async fn names_that_are_none_and_methods_that_nobody_takes_are_refused_and_counted() {
    let route = |path: &str| Route {
        path: path.into(),
        base: "https://o.example/v/".into(),
        methods: vec!["POST".into()],
        ..Route::default()
    };
    let tested = server(Http::default(), &[route("/v/long/"), route("/v/")], None);
    let (worker, link) = (worker(&tested.server), link());
    let long = format!("/h/{}", "a".repeat(carousel::limits::MAX_URI_BYTES + 1));
    for (method, path, host, status, why) in [
        ("GET", "/h/%00", "box", 400, Some(Refusal::BadName)),
        ("GET", long.as_str(), "box", 414, Some(Refusal::UriTooLong)),
        ("GET", "/-/live", "evil.example", 421, Some(Refusal::Host)),
        ("DELETE", "/v/a", "box", 405, Some(Refusal::Method)),
        ("DELETE", "/h/a", "box", 405, None),
        ("GET", "/h/a", "box", 404, None),
    ] {
        let before = worker.stats.refusals.iter().map(|it| it.load(Relaxed)).sum::<u64>();
        let (response, _) =
            ask(&worker, &link, Request::builder().method(method).uri(path).header("host", host)).await;
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
        let after = worker.stats.refusals.iter().map(|it| it.load(Relaxed)).sum::<u64>();
        assert_eq!(after - before, u64::from(why.is_some()), "{method} {path}");
        if let Some(why) = why {
            assert_eq!(worker.stats.refusals[why as usize].load(Relaxed), 1, "{method} {path}");
        }
    }
    // It only begins as the host of DVB-NIP does, whose objects are the link's.
    let request = Request::get("/-/live").header("host", "dvb.gw.evil.example");
    assert_eq!(ask(&worker, &link, request).await.0.status().as_u16(), 421);
    let number = |path: &str| worker.route(&get(path));
    assert_eq!((number("/v/long/a"), number("/v/a"), number("/h/v/")), (0, 1, 2));
}

#[test]
fn interim_responses_wait_in_a_small_queue_and_only_where_they_can_be_sent() {
    let http1 = link();
    assert!(interims(Version::HTTP_10, &http1).0.is_none());
    assert!(interims(Version::HTTP_2, &Link::multiplexed(http1.peer)).0.is_none());
    let (on_interim, mut receiver) = interims(Version::HTTP_11, &http1);
    let on_interim = on_interim.unwrap();
    let fields = crate::caching::from_pairs([("link", "</a>"), ("connection", "x"), ("x", "1")]);
    (0..INTERIMS + 3).for_each(|_| on_interim(103, &fields));
    let first = String::from_utf8(receiver.try_recv().unwrap()).unwrap();
    assert!(first.starts_with("HTTP/1.1 103 Early Hints\r\n") && first.ends_with("\r\n\r\n"), "{first}");
    assert!(
        first.contains("link: </a>\r\n") && !first.contains("connection") && !first.contains("x: 1"),
        "{first}"
    );
    assert_eq!(std::iter::from_fn(|| receiver.try_recv().ok()).count(), INTERIMS - 1);
}

/// What a worker remembers is an answer to the same question, not to one about another version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_remembers_an_object_asks_about_another_version() {
    let requests = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&requests);
    let url = origin(move |_| {
        let etag = if counter.fetch_add(1, Relaxed) == 0 { "ETag: \"a\"" } else { "ETag: \"b\"" };
        response(&["200 OK", etag, "Cache-Control: max-age=1000", "Content-Length: 5"], "right")
    });
    let tested = server(Http::default(), &[], Some(url));
    let (worker, link) = (worker(&tested.server), link());
    let status = async |if_match: Option<&str>| {
        let request = if_match.into_iter().fold(Builder::new(), |request, it| request.header("if-match", it));
        ask(&worker, &link, request.uri("/h/a.mp4").header("host", "box")).await.0.status().as_u16()
    };
    for _ in 0..12 {
        assert_eq!(status(None).await, 200);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(requests.load(Relaxed), 1, "it is held, and remembered");
    assert_eq!((status(Some("\"b\"")).await, requests.load(Relaxed)), (200, 2));
}

#[cfg(feature = "otlp")]
#[tokio::test]
async fn spans_have_methods_of_standards_and_no_tokens_of_paths() {
    let tested = server(Http::default(), &[], None);
    let (worker, link) = (worker(&tested.server), link());
    let (tracer, mut spans, _) = crate::traces::testing_tracer(1.0);
    let mut described = |method: &str| {
        let head = head(method, "/exp=17~hmac=secret/1.ts?x=secret", &[("host", "box")]);
        let mut exchange = Exchange::begin(&worker, &link);
        exchange.span = tracer.begin(&head.headers, link.peer, Instant::now());
        worker.describe(&mut exchange, &head, 0, &Response::new(PlayerBody::empty()), Served::Miss);
        drop(exchange);
        let span = spans.try_recv().unwrap();
        let of =
            |key: &str| span.attributes.iter().find(|it| it.key.as_str() == key).unwrap().value.to_string();
        let method = span.name.split(' ').next().unwrap().to_owned();
        (method, of("http.request.method"), of("url.path"))
    };
    let of = |method: &str| (method.to_owned(), method.to_owned(), "/…/1.ts".to_owned());
    assert_eq!(described("PATCH"), of("PATCH"));
    assert_eq!(described("X1700000000SECRET"), of("_OTHER"));
}
