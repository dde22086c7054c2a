//! Requests of delivery, executed against an origin on the loopback interface.

use std::sync::mpsc::Receiver;

use carousel::Digest;
use carousel::fec::{Oti, Partition};
use carousel::lct::Toi;
use carousel::mabr::RepairParameters;

use super::*;
use crate::delivery::{CarouselSource, Flight};
use crate::origin::testing::object;
use crate::origin::{Origin, testing};
use crate::receive::channel;
use crate::store::Placement;

const SYMBOL_BYTES: usize = 100;

/// Answer of the origin: status, and whether its `Content-Range` is the one that was asked for.
#[derive(Clone, Copy)]
struct Answers(u16, bool);

fn body() -> Vec<u8> {
    (0..1000_u32).map(|at| (at * 7 % 251) as u8).collect()
}

/// An origin that has [`body`] under every path; its URL.
fn origin(answers: Answers) -> String {
    let Answers(status, is_right) = answers;
    testing::origin(move |head| {
        let range = head.lines().find_map(|it| it.strip_prefix("range: bytes=")?.split_once('-'));
        let range =
            range.and_then(|(first, last)| first.parse::<usize>().ok().zip(last.parse::<usize>().ok()));
        let all = body();
        let (fields, body) = match range.filter(|_| status == 206) {
            Some((first, last)) => {
                let shown = if is_right { first } else { first + 1 };
                (
                    format!("Content-Range: bytes {shown}-{}/1000\r\n", shown + last - first),
                    &all[first..=last],
                )
            }
            None => (String::new(), &all[..]),
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n{fields}\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    })
}

struct Tested {
    repairer: Arc<Repairer>,
    commands: Receiver<Command>,
    rules: Arc<RuleBook>,
    _filler: testing::Tested,
}

fn repairer(origins: Vec<Origin>) -> Tested {
    let tested = testing::filler();
    let (shard, commands) = channel();
    let rules = Arc::<RuleBook>::default();
    let context = RepairContext {
        store: tested.context.store.clone(),
        flights: Arc::clone(&tested.context.flights),
        names: Arc::default(),
        origins: Arc::new(Origins::new(origins, Vec::new())),
        client: Arc::clone(&tested.client),
        filler: Arc::clone(&tested.filler),
        rules: Arc::clone(&rules),
        shards: vec![shard],
    };
    Tested { repairer: Repairer::new(2, context), commands, rules, _filler: tested }
}

fn file(name: &str) -> Arc<File> {
    Arc::new(File {
        content_location: name.to_owned(),
        toi: Toi(1),
        content_length: Some(1000),
        transfer_length: Some(1000),
        content_digest: Some(Digest::of(&body())),
        ..File::default()
    })
}

/// A request for symbols 2 and 3, of an object of which all others have come.
fn request(name: &str) -> RepairRequest {
    let map = SymbolMap::new(&Partition::new(&Oti::no_code(1000, SYMBOL_BYTES as u16, 1000)).unwrap());
    (0..10).filter(|symbol| !matches!(symbol, 2 | 3)).for_each(|symbol| _ = map.set(symbol));
    assert!(map.missing().eq(std::iter::once(200..400)));
    let requested = RequestedBytes::Ranges(requests(map.missing(), 1000), Arc::new(map));
    RepairRequest { object: object(), file: file(name), requested, attempt: 0, needed_by: None }
}

/// Runs one request; the bytes that came for the shard, with their offset, and the result.
async fn run(tested: &Tested, request: RepairRequest) -> (Vec<(u64, Vec<u8>)>, Result<(), RepairError>) {
    let (sender, receiver) = mpsc::channel(1);
    let running = tokio::spawn(Arc::clone(&tested.repairer).run(receiver));
    sender.send(request).await.unwrap();
    let mut pieces = Vec::new();
    let result = loop {
        match tested.commands.try_recv() {
            Ok(Command::Repair(of, offset, bytes)) => {
                assert_eq!(of, object());
                pieces.push((offset, bytes));
            }
            Ok(Command::RepairDone(of, result)) => {
                assert_eq!(of, object());
                break result;
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    drop(sender);
    running.await.unwrap();
    (pieces, result)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_ranges_come_from_the_origin_and_are_counted() {
    let url = origin(Answers(206, true));
    let tested = repairer(vec![Origin { host: "h".into(), url }]);
    let (pieces, result) = run(&tested, request("http://h/a")).await;
    assert_eq!(result, Ok(()));
    let (first, bytes) = (pieces[0].0, pieces.iter().flat_map(|it| it.1.clone()).collect::<Vec<_>>());
    assert_eq!((first, bytes), (200, body()[200..400].to_vec()));
    assert_eq!(tested.repairer.stats().fetched(), (200, 1));
}

/// A chunk of a segment (TS 103 769 Annex F) begins in the middle of the origin's file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_ranges_of_a_chunk_come_from_its_place_in_the_segment() {
    for name in ["http://h/a#300", "http://h/a?isLast#300"] {
        let url = origin(Answers(206, true));
        let tested = repairer(vec![Origin { host: "h".into(), url: url.clone() }]);
        let (pieces, result) = run(&tested, request(name)).await;
        assert_eq!(result, Ok(()), "{name}");
        let (first, bytes) = (pieces[0].0, pieces.iter().flat_map(|it| it.1.clone()).collect::<Vec<_>>());
        assert_eq!((first, bytes), (200, body()[500..700].to_vec()), "{name}");
        assert_eq!(tested.repairer.urls(object(), &file(name)), [format!("{}/a", url.trim_end_matches('/'))]);
        // No origin has a chunk under its own name.
        let whole = RepairRequest { requested: RequestedBytes::Complete, ..request(name) };
        assert_eq!(run(&tested, whole).await.1, Err(RepairError::NoOrigin), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_sends_everything_gives_only_what_is_missing() {
    let url = origin(Answers(200, true));
    let tested = repairer(vec![Origin { host: "h".into(), url }]);
    let (pieces, result) = run(&tested, request("http://h/a")).await;
    assert_eq!(result, Ok(()));
    let bytes: Vec<u8> = pieces.iter().flat_map(|it| it.1.clone()).collect();
    assert_eq!((pieces[0].0, bytes), (200, body()[200..400].to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_without_the_object_refuses_and_wrong_ranges_fail() {
    for (answers, expected) in [
        (Answers(404, true), RepairError::Refused),
        (Answers(410, true), RepairError::Refused),
        (Answers(206, false), RepairError::Failed),
        (Answers(503, true), RepairError::Failed),
    ] {
        let url = origin(answers);
        let tested = repairer(vec![Origin { host: "h".into(), url }]);
        let (pieces, result) = run(&tested, request("http://h/a")).await;
        assert_eq!((pieces, result), (Vec::new(), Err(expected)), "{}", answers.0);
    }
    let tested = repairer(Vec::new());
    let (pieces, result) = run(&tested, request("tag:nowhere/a")).await;
    assert_eq!((pieces, result), (Vec::new(), Err(RepairError::NoOrigin)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entire_object_is_verified_before_it_is_held() {
    let url = origin(Answers(200, true));
    let tested = repairer(vec![Origin { host: "h".into(), url }]);
    let whole = |name: &str| RepairRequest { requested: RequestedBytes::Complete, ..request(name) };
    let (_, result) = run(&tested, whole("http://h/a")).await;
    let store = &tested.repairer.context.store;
    assert_eq!((result, store.contains("h/a")), (Ok(()), true));
    assert_eq!(run(&tested, whole("http://h/a")).await.1, Err(RepairError::NotNeeded), "it is held");
    let mut other = whole("http://h/b");
    other.file =
        Arc::new(File { content_digest: Some(Digest::of(b"other")), ..(*file("http://h/b")).clone() });
    assert_eq!(run(&tested, other).await.1, Err(RepairError::Mismatch));
    assert!(!store.contains("h/b"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_flight_of_an_object_that_is_fetched_whole_makes_room_and_that_of_another_goes_on() {
    for (toi, is_its_own) in [(1, true), (2, false)] {
        let url = origin(Answers(200, true));
        let tested = repairer(vec![Origin { host: "h".into(), url }]);
        let RepairContext { store, flights, .. } = &tested.repairer.context;
        let partial = Arc::new(store.create(1000, Placement::default()).unwrap());
        let map = SymbolMap::new(&Partition::new(&Oti::no_code(1000, 100, 1000)).unwrap());
        let carried =
            CarouselSource { object: ObjectRef { toi: Toi(toi), ..object() }, file: file("http://h/a") };
        let key = tested.repairer.key(carried.object, &carried.file).unwrap();
        let flight = Arc::new(Flight::of_symbols(key, carried, partial, Arc::new(map)));
        flights.add(Arc::clone(&flight)).unwrap();
        let fetching =
            run(&tested, RepairRequest { requested: RequestedBytes::Complete, ..request("http://h/a") });
        // The flight of another is waited for, since players read it.
        let other_ends = async {
            if !is_its_own {
                tokio::time::sleep(Duration::from_millis(100)).await;
                flight.end(Outcome::Failed(FailReason::SessionEnded));
            }
        };
        let ((_, result), ()) = tokio::join!(fetching, other_ends);
        assert_eq!(result.is_ok(), is_its_own, "{result:?}");
        let is_replaced = matches!(flight.outcome(), Some(Outcome::Failed(FailReason::Replaced)));
        assert_eq!(is_replaced, is_its_own);
    }
}

#[tokio::test]
async fn configured_origins_go_before_signalled_ones_and_the_objects_own() {
    let rule = Origin { host: "h".into(), url: "http://own.example/o".into() };
    let tested = repairer(vec![rule]);
    let signalled = RepairParameters {
        base_urls: vec![("http://h/".into(), 1), ("http://off.example/".into(), 0)],
        transport_object_base_uri: Some("http://h/".into()),
        ..RepairParameters::default()
    };
    tested.rules.set([(object().session.destination, None, signalled)].into_iter());
    let urls = tested.repairer.urls(object(), &file("http://h/a"));
    // The object's own URL is the signalled one: it is asked once.
    assert_eq!(urls, ["http://own.example/o/a", "http://h/a"]);
    let urls = repairer(Vec::new()).repairer.urls(object(), &file("http://h/a#2"));
    assert_eq!(urls, ["http://h/a"]);
    assert!(tested.repairer.urls(object(), &file("a://")).is_empty());
}
