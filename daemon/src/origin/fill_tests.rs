//! Turns of requests: those that begin a fetch, that wait for another's, and that ask alone; and the limits of all.

use super::super::testing::{filler, filler_with, key, origin, put, response, sent};
use super::*;
use crate::caching::from_pairs;
use crate::delivery::Sent;
use crate::store::{Placement, ResponseMeta};

/// A URL of no scheme that is asked: its fetch fails at once.
const NOWHERE: &str = "none://h/a";

fn numbered(number: usize) -> ObjectKey {
    key(&format!("h/{number}"))
}

fn begun(filler: &Arc<Filler>, name: &str) -> Arc<Slot> {
    match filler.turn(&key(name), &FillRequest::default()) {
        Turn::Begin(slot) => slot,
        Turn::Wait(_) => panic!("{name} is fetched already"),
        Turn::Done(result) => panic!("{name}: {result:?}"),
    }
}

#[tokio::test]
async fn one_fetches_and_others_wait_until_it_is_known_whose_the_response_is() {
    let tested = filler();
    let slot = begun(&tested.filler, "h/a");
    let turn = || tested.filler.turn(&key("h/a"), &FillRequest::default());
    assert!(matches!(turn(), Turn::Wait(it) if Arc::ptr_eq(&it, &slot)));
    slot.join_result.set(JoinResult::Alone).unwrap();
    let Turn::Begin(second) = turn() else { panic!("the response of the first is not theirs") };
    assert!(!Arc::ptr_eq(&second, &slot));
    assert!(matches!(turn(), Turn::Wait(it) if Arc::ptr_eq(&it, &second)));
}

#[tokio::test]
async fn what_became_held_meanwhile_is_not_fetched() {
    let tested = filler();
    let store = &tested.context.store;
    let old = put(store, "h/a", b"old", 0);
    let ask =
        |held: Option<&Arc<StoredObject>>| FillRequest { held: held.cloned(), ..FillRequest::default() };
    let turn = |ask: &FillRequest| tested.filler.turn(&key("h/a"), ask);
    assert!(matches!(turn(&ask(None)), Turn::Done(FillResult::Held)));
    let new = put(store, "h/a", b"new", 0);
    assert!(matches!(turn(&ask(Some(&old))), Turn::Done(FillResult::Held)));
    let own = FillRequest { is_our_own: true, ..ask(None) };
    assert!(
        matches!(turn(&own), Turn::Begin(slot) if slot.join_result.set(JoinResult::Again).is_ok()),
        "a repair goes on"
    );
    assert!(
        matches!(turn(&ask(Some(&new))), Turn::Begin(slot) if slot.join_result.set(JoinResult::Again).is_ok())
    );
    store.remove("h/a", crate::store::EvictReason::Purged);
    assert!(matches!(turn(&ask(Some(&new))), Turn::Begin(_)));
}

#[tokio::test]
async fn a_response_is_for_those_whose_requests_select_it() {
    let tested = filler();
    let flight = |sent: Sent| {
        let partial = Arc::new(tested.context.store.create(4, Placement::default()).unwrap());
        Flight::of_prefix(key("h/a"), None, Some(4), sent, partial, false)
    };
    let selecting = vec![("accept-language".to_owned(), Some("de".to_owned()))];
    let varying =
        Sent { response: ResponseMeta { status: 200, selecting, ..ResponseMeta::default() }, ..sent(true) };
    let language = |it: &'static str| from_pairs([("accept-language", it)]);
    let varying = flight(varying);
    assert!(selects(&varying, &language("de")));
    assert!(!selects(&varying, &language("en")) && !selects(&varying, &HeaderMap::new()));
    assert!(selects(&flight(sent(false)), &HeaderMap::new()), "those who waited may have what is not kept");
    assert!(may_repeat(&flight(Sent { may_repeat: true, ..sent(true) })) && !may_repeat(&flight(sent(true))));
    for (status, is_shared, refusal) in
        [(404, false, true), (400, false, true), (404, true, false), (399, false, false)]
    {
        let response = ResponseMeta { status, ..ResponseMeta::default() };
        assert_eq!(
            is_refusal(&flight(Sent { response, ..sent(is_shared) })),
            refusal,
            "{status} {is_shared}"
        );
    }
}

#[test]
fn cookies_are_taken_out_of_the_response_and_given_to_their_player_once() {
    let own = OwnFields::default();
    let mut response = from_pairs([("set-cookie", "a=1"), ("set-cookie", "b=2"), ("etag", "\"x\"")]);
    own.take_from(&mut response);
    assert_eq!((response.len(), response.contains_key(header::SET_COOKIE)), (1, false));
    own.append_to(&mut response);
    own.append_to(&mut response);
    assert_eq!(response.get_all(header::SET_COOKIE).iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
    own.take_from(&mut HeaderMap::new());
    let mut other = HeaderMap::new();
    own.append_to(&mut other);
    assert!(other.is_empty(), "a later response has its own");
}

/// A request of a client.
fn of_client(address: &str) -> FillRequest {
    FillRequest { client: Some(address.parse().unwrap()), ..FillRequest::default() }
}

#[tokio::test]
async fn fills_are_bounded_and_a_place_comes_back() {
    let filler = &filler().filler;
    // Of many clients, so that none has more than its share.
    let client = |number: usize| of_client(&format!("10.0.{}.{}", number / 256, number % 256));
    let begun: Vec<_> = (0..MAX_FILLS)
        .map(|number| match filler.turn(&numbered(number), &client(number)) {
            Turn::Begin(slot) => slot,
            _ => panic!("{number} has a place"),
        })
        .collect();
    let further = || filler.turn(&numbered(MAX_FILLS), &client(MAX_FILLS));
    assert!(matches!(further(), Turn::Done(FillResult::NoPlace(NoPlace::Places))));
    assert!(matches!(filler.turn(&numbered(0), &client(1)), Turn::Wait(_)), "it is on its way");
    let ended = Arc::clone(&begun[0]);
    Arc::clone(filler).run(numbered(0), NOWHERE.to_owned(), client(0), &ended).await;
    assert!(matches!(further(), Turn::Begin(_)));
    assert_eq!(filler.no_place().get(NoPlace::Places), 1);
}

/// An origin that takes connections and never answers, by its URL.
fn silent_origin() -> (std::net::TcpListener, String) {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    (silent, url)
}

#[tokio::test]
async fn one_client_leaves_places_for_the_misses_of_others() {
    let tested = filler_with(40);
    let filler = &tested.filler;
    let (_silent, slow) = silent_origin();
    let prompt = origin(|_| "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncache-control: max-age=9\r\n\r\nx");
    let greedy = |number: usize| {
        let (filler, url) = (Arc::clone(filler), format!("{slow}{number}"));
        tokio::spawn(async move { filler.fill(&numbered(number), url, of_client("10.0.0.1")).await })
    };
    let waiting: Vec<_> = (0..1000).map(greedy).collect();
    // All but its share come back at once: three quarters of the places.
    while filler.no_place().get(NoPlace::Share) < 970 {
        tokio::task::yield_now().await;
    }
    assert_eq!(filler.places.taken_now(), 30);
    let ask = |number: usize, client: FillRequest| {
        let (filler, url) = (Arc::clone(filler), format!("{prompt}{number}"));
        async move { filler.fill(&numbered(number), url, client).await }
    };
    for (number, client) in
        [of_client("10.0.0.2"), of_client("::ffff:10.0.0.3"), FillRequest::default()].into_iter().enumerate()
    {
        let result = ask(2000 + number, client).await;
        assert!(matches!(result, FillResult::Flight(_)), "{result:?}");
    }
    let same = ask(3000, of_client("10.0.0.1")).await;
    assert!(matches!(same, FillResult::NoPlace(NoPlace::Share)), "{same:?}");
    assert_eq!(filler.no_place().get(NoPlace::Places), 0);
    drop(waiting);
}

#[tokio::test]
async fn a_client_that_had_its_share_gets_places_again() {
    let tested = filler_with(4);
    let filler = &tested.filler;
    let client = || of_client("10.0.0.1");
    let begun: Vec<_> = (0..3)
        .map(|number| match filler.turn(&numbered(number), &client()) {
            Turn::Begin(slot) => slot,
            _ => panic!("{number} has a place"),
        })
        .collect();
    let further = || filler.turn(&numbered(9), &client());
    assert!(matches!(further(), Turn::Done(FillResult::NoPlace(NoPlace::Share))));
    Arc::clone(filler).run(numbered(0), NOWHERE.to_owned(), client(), &begun[0]).await;
    assert!(matches!(further(), Turn::Begin(_)));
}

#[tokio::test]
async fn requests_for_what_is_not_shared_take_places_too() {
    let tested = filler_with(4);
    let filler = &tested.filler;
    let (_silent, url) = silent_origin();
    let name = numbered(0);
    lock(&filler.unshared).put(name.clone(), clock::now());
    let ask = || {
        let (filler, name, url) = (Arc::clone(filler), name.clone(), url.clone());
        tokio::spawn(async move { filler.fill(&name, url, of_client("10.0.0.1")).await })
    };
    let waiting: Vec<_> = (0..3).map(|_| ask()).collect();
    while filler.places_taken() < 3 {
        tokio::task::yield_now().await;
    }
    let fourth = ask().await.unwrap();
    assert!(matches!(fourth, FillResult::NoPlace(NoPlace::Share)), "{fourth:?}");
    drop(waiting);
    // A place comes back with its response.
    let tested = filler_with(1);
    let filler = &tested.filler;
    lock(&filler.unshared).put(name.clone(), clock::now());
    for _ in 0..2 {
        let result = filler.fill(&name, NOWHERE.to_owned(), of_client("10.0.0.1")).await;
        assert!(matches!(result, FillResult::Failed(_)), "{result:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_origin_refuses_in_one_spelling_is_not_for_others() {
    for status in ["404 No", "403 No", "302 Found", "503 No"] {
        let url = origin(move |head| {
            let line = if head.contains("%7e") { status } else { "200 OK" };
            response(&[line, "Cache-Control: max-age=60", "Location: /x", "Content-Length: 2"], "ok")
        });
        let tested = filler();
        let filler = &tested.filler;
        let name = key(&format!("{url}~x"));
        let other = FillRequest { is_respelled: true, ..FillRequest::default() };
        let refused = filler.fill(&name, format!("{url}%7ex"), other).await;
        assert!(matches!(refused, FillResult::Passed(_)), "{status}: {refused:?}");
        let found = filler.fill(&name, format!("{url}~x"), FillRequest::default()).await;
        let FillResult::Flight(flight) = found else { panic!("{status}: {found:?}") };
        assert_eq!(flight.sent.as_ref().unwrap().response.status, 200, "{status}");
    }
}

#[tokio::test]
async fn prefetches_are_bounded_and_a_place_comes_back() {
    let filler = &filler().filler;
    let (_silent, url) = silent_origin();
    let prefetch = |number: usize| {
        let (filler, url) = (Arc::clone(filler), format!("{url}{number}"));
        async move { filler.prefetch(&numbered(number), url, FillRequest::default()).await }
    };
    let waiting: Vec<_> = (0..MAX_PREFETCHES).map(|number| tokio::spawn(prefetch(number))).collect();
    while filler.prefetching.load(Ordering::Relaxed) < MAX_PREFETCHES {
        tokio::task::yield_now().await;
    }
    assert_eq!(prefetch(MAX_PREFETCHES).await, PrefetchEnd::Busy);
    assert_eq!(filler.prefetching.load(Ordering::Relaxed), MAX_PREFETCHES, "its place is free");
    drop(waiting);
}

#[tokio::test]
async fn a_request_waits_for_a_bounded_number_of_fills_of_others() {
    let filler = &filler().filler;
    let (name, own) = (numbered(0), FillRequest::default());
    let mut fields = HeaderMap::new();
    fields.insert(header::ACCEPT, HeaderValue::from_static("x/y"));
    let waits = {
        let (filler, ask) = (Arc::clone(filler), FillRequest { headers: fields, ..FillRequest::default() });
        let (name, url) = (name.clone(), NOWHERE.to_owned());
        tokio::spawn(async move { filler.fill(&name, url, ask).await })
    };
    // One after the other comes to nothing that is the request's.
    for number in 0..MAX_FILLS_OF_A_NAME as u64 {
        let Turn::Begin(slot) = filler.turn(&name, &own) else { panic!("nothing is on its way") };
        while filler.joined().0 <= number {
            tokio::task::yield_now().await;
        }
        let _ = slot.join_result.set(JoinResult::Again);
        lock(&filler.slots).by_key.clear();
        slot.changed.notify_waiters();
    }
    let Turn::Begin(_) = filler.turn(&name, &own) else { panic!("nothing is on its way") };
    assert!(matches!(waits.await.unwrap(), FillResult::Failed(_)), "it asks for itself");
    assert_eq!(filler.joined().0, MAX_FILLS_OF_A_NAME as u64);
}

#[tokio::test]
async fn names_that_are_remembered_are_bounded() {
    let filler = &filler().filler;
    for number in 0..=MAX_REMEMBERED {
        filler.fetch_whole(&numbered(number), 1);
    }
    assert_eq!(lock(&filler.whole).len(), MAX_REMEMBERED);
    assert!(!filler.is_fetched_whole(&numbered(0)) && filler.is_fetched_whole(&numbered(MAX_REMEMBERED)));
}

#[tokio::test]
async fn only_short_objects_are_fetched_whole() {
    let filler = &filler().filler;
    filler.fetch_whole(&numbered(0), MAX_WHOLE_BYTES);
    filler.fetch_whole(&numbered(1), MAX_WHOLE_BYTES + 1);
    assert!(filler.is_fetched_whole(&numbered(0)) && !filler.is_fetched_whole(&numbered(1)));
}

#[tokio::test]
async fn flights_in_ranges_are_bounded_and_a_place_comes_back() {
    use super::super::spans::{MAX_IN_RANGES, Part};
    use crate::caching::Keep;
    use crate::delivery::{FailReason, Outcome};

    let filler = &filler().filler;
    let fields = from_pairs([("content-range", "bytes 0-4/10"), ("etag", "\"1\"")]);
    let part = Part::of(&fields).unwrap();
    let keep = Keep {
        expires: carousel::time::WallTime::from_unix_ms(i64::MAX),
        initial_age_s: 0,
        implicit_age_s: None,
        selecting: Default::default(),
        without: Vec::new(),
    };
    let open = |number: usize| {
        filler.open_spans(
            &numbered(number),
            NOWHERE,
            &fields,
            &part,
            keep.clone(),
            SurrogateFields::default(),
        )
    };
    for number in 0..MAX_IN_RANGES {
        assert!(open(number).is_some(), "{number}");
    }
    assert!(open(MAX_IN_RANGES).is_none());
    let first = filler.shared.flights.get(numbered(0).as_str()).unwrap();
    filler.shared.flights.end(&first, Outcome::Failed(FailReason::Abandoned));
    assert!(open(MAX_IN_RANGES).is_some());
}
