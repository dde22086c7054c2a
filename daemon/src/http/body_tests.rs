//! Bodies of objects that end otherwise than their readers expect, and of those that end well.

use std::sync::atomic::{AtomicUsize, Ordering};

use carousel::fec::{Oti, Partition, SymbolMap};

use super::super::testing::{partial, read};
use super::*;
use crate::clock;
use crate::delivery::{CarouselSource, FailReason};
use crate::origin::testing::{Tested, filler, key, object, put, sent};

const WAITS: Waits = Waits { haste: Duration::from_millis(1), patience: Duration::from_millis(50) };

/// Of an origin; `has_digest`: it is withheld until it is verified.
fn of_prefix(tested: &Tested, length: Option<u64>, has_digest: bool) -> Arc<Flight> {
    Arc::new(Flight::of_prefix(key("h/a"), None, length, sent(true), partial(tested, b"right"), has_digest))
}

fn body(tested: &Tested, flight: &Arc<Flight>, range: Range<u64>) -> PlayerBody {
    let pieces = vec![Piece::Range(range)];
    PlayerBody::flight(Arc::clone(flight), Arc::clone(&tested.context.flights), pieces, WAITS, None)
}

async fn next(body: &mut PlayerBody) -> Option<io::Result<Bytes>> {
    let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap()))
}

#[tokio::test]
async fn the_last_byte_comes_with_the_verification_and_not_before() {
    let tested = filler();
    for is_right in [true, false] {
        let flight = of_prefix(&tested, Some(5), true);
        let mut body = body(&tested, &flight, 0..5);
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(5), false));
        flight.advance(5);
        assert_eq!(next(&mut body).await.unwrap().unwrap(), "righ");
        let early = tokio::time::timeout(Duration::from_millis(30), next(&mut body)).await;
        assert!(early.is_err(), "{early:?}");
        let outcome = match is_right {
            true => Outcome::Complete(put(&tested.context.store, "h/a", b"right", 1000)),
            false => Outcome::Failed(FailReason::Verify),
        };
        flight.end(outcome);
        match next(&mut body).await.unwrap() {
            Ok(last) => assert_eq!((last, is_right, body.is_end_stream()), (Bytes::from("t"), true, true)),
            Err(err) => {
                assert_eq!(
                    (err.to_string().as_str(), is_right, body.is_end_stream()),
                    ("verify", false, false)
                );
            }
        }
        assert!(next(&mut body).await.is_none());
    }
}

#[tokio::test]
async fn a_body_without_a_known_end_stops_at_the_end() {
    let tested = filler();
    let whole = || Outcome::Complete(put(&tested.context.store, "h/a", b"right", 1000));
    for (range, expected) in [(0..u64::MAX, "right"), (2..u64::MAX, "ght"), (2..4, "gh"), (4..9, "t")] {
        for outcome in [whole(), Outcome::Passed(5)] {
            let flight = of_prefix(&tested, None, true);
            flight.end(outcome);
            let body = body(&tested, &flight, range.clone());
            let known = (range.end < u64::MAX).then_some(range.end - range.start);
            assert_eq!(body.size_hint().exact(), known);
            let (bytes, end) = read(body).await;
            assert_eq!(
                (String::from_utf8(bytes).unwrap().as_str(), end.is_ok()),
                (expected, true),
                "{range:?}"
            );
        }
    }
    for start in [5, 6] {
        for outcome in [whole(), Outcome::Passed(5)] {
            let flight = of_prefix(&tested, None, true);
            flight.end(outcome);
            let (bytes, end) = read(body(&tested, &flight, start..u64::MAX)).await;
            assert!(bytes.is_empty() && end.is_ok(), "{start}");
        }
    }
}

#[tokio::test]
async fn what_the_carousel_does_not_bring_is_asked_for_once_and_cut() {
    let tested = filler();
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    tested.context.flights.pass_requests(move |_| counter.fetch_add(1, Ordering::Relaxed) < 100);
    let carried = CarouselSource { object: object(), file: Arc::default() };
    let map = Arc::new(SymbolMap::new(&Partition::new(&Oti::no_code(5, 2, 5)).unwrap()));
    let flight =
        Arc::new(Flight::of_symbols(key("h/a"), carried, partial(&tested, b"right"), Arc::clone(&map)));
    map.set(0);
    let (bytes, end) = read(body(&tested, &flight, 0..5)).await;
    assert_eq!((bytes.as_slice(), end.unwrap_err().kind()), (&b"ri"[..], io::ErrorKind::TimedOut));
    assert_eq!(requests.load(Ordering::Relaxed), 1);
    // Of an origin the origin's own limits decide.
    let flight = of_prefix(&tested, Some(5), false);
    let mut body = body(&tested, &flight, 0..5);
    let early = tokio::time::timeout(Duration::from_millis(150), next(&mut body)).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_range_that_nobody_fetches_any_more_is_cut() {
    let tested = filler();
    let flight = Flight::of_spans(
        key("h/a"),
        None,
        5,
        "http://h/a",
        sent(true),
        partial(&tested, b"right"),
        clock::now(),
    );
    let flight = Arc::new(flight);
    let spans = flight.spans().unwrap();
    let claimed = spans.claim(0..5).unwrap();
    spans.arrive(0..3);
    let mut body = body(&tested, &flight, 0..5);
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "rig");
    spans.release(&claimed);
    flight.progress();
    assert!(next(&mut body).await.unwrap().is_err());
    assert!(!body.is_end_stream());
}

#[tokio::test]
async fn parts_come_in_the_order_asked_for_and_a_player_that_leaves_is_no_reader() {
    let tested = filler();
    let flight = of_prefix(&tested, Some(5), false);
    flight.advance(5);
    let pieces =
        vec![Piece::Bytes("<".into()), Piece::Range(3..5), Piece::Bytes("|".into()), Piece::Range(0..1)];
    let body = PlayerBody::flight(
        Arc::clone(&flight),
        Arc::clone(&tested.context.flights),
        pieces.clone(),
        WAITS,
        None,
    );
    assert_eq!(body.size_hint().exact(), Some(5));
    assert_eq!(flight.partial().readers_now_and_ever(), (1, true));
    assert_eq!(read(body).await.0, b"<ht|r");
    let stored = put(&tested.context.store, "h/a", b"right", 1000);
    let body = PlayerBody::stored(stored, pieces.clone());
    assert_eq!(body.size_hint().exact(), Some(5));
    assert_eq!(read(body).await.0, b"<ht|r");
    let bytes = Bytes::from("right");
    assert_eq!(read(PlayerBody::of_pieces(&bytes, &pieces)).await.0, b"<ht|r");
    assert_eq!(read(PlayerBody::of_pieces(&bytes, &pieces[1..2])).await.0, b"ht");

    let waiting = of_prefix(&tested, Some(5), false);
    let body = self::body(&tested, &waiting, 0..5);
    assert_eq!(waiting.partial().readers_now_and_ever().0, 1);
    drop(body);
    while waiting.partial().readers_now_and_ever().0 > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_object_whose_file_was_cut_is_no_body() {
    let tested = filler();
    let stored = put(&tested.context.store, "h/a", b"right", 1000);
    let (bytes, end) = read(PlayerBody::stored(Arc::clone(&stored), vec![Piece::Range(0..6)])).await;
    assert_eq!((bytes.len(), end.unwrap_err().kind()), (0, io::ErrorKind::NotFound));
    let body = PlayerBody::stored(stored, vec![Piece::Range(1..3)]);
    assert!(matches!(&body, PlayerBody::Stored(it) if !it.is_better_sent_from_file()));
    assert_eq!(read(body).await.0, b"ig");
    let mut empty = PlayerBody::empty();
    assert_eq!((empty.is_end_stream(), empty.size_hint().exact()), (true, Some(0)));
    assert!(next(&mut empty).await.is_none());
}
