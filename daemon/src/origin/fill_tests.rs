//! Who begins a fetch, who waits for it, and who asks alone.

use super::super::testing::{filler, key, put, sent};
use super::*;
use crate::caching::from_pairs;
use crate::delivery::Sent;
use crate::store::{Placement, ResponseMeta};

fn begun(filler: &Arc<Filler>, name: &str) -> Arc<Slot> {
    match filler.turn(&key(name), &Ask::default()) {
        Turn::Begin(slot) => slot,
        Turn::Wait(_) => panic!("{name} is fetched already"),
        Turn::Done(result) => panic!("{name}: {result:?}"),
    }
}

#[tokio::test]
async fn one_fetches_and_others_wait_until_it_is_known_whose_the_response_is() {
    let tested = filler();
    let slot = begun(&tested.filler, "h/a");
    let turn = || tested.filler.turn(&key("h/a"), &Ask::default());
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
    let ask = |held: Option<&Arc<StoredObject>>| Ask { held: held.cloned(), ..Ask::default() };
    let turn = |ask: &Ask| tested.filler.turn(&key("h/a"), ask);
    assert!(matches!(turn(&ask(None)), Turn::Done(FillResult::Held)));
    let new = put(store, "h/a", b"new", 0);
    assert!(matches!(turn(&ask(Some(&old))), Turn::Done(FillResult::Held)));
    let own = Ask { is_our_own: true, ..ask(None) };
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
