//! Caches between the box and an origin: one for each object, others when it fails or is silent.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// A cache or origin that says its name, unless `answers` says otherwise.
fn named(
    name: &'static str,
    answers: impl Fn(&Asked) -> Option<Vec<Step>> + Send + Sync + 'static,
) -> Scripted {
    Scripted::start(move |asked: &Asked| {
        answers(asked).unwrap_or_else(|| {
            let says = [("Cache-Control", "max-age=600"), ("ETag", "\"v\"")];
            answer(200, &says, format!("{name} {}", asked.path).as_bytes())
        })
    })
}

fn with(parents: &[&Scripted], more: &str, origin: &Scripted) -> Story {
    let members: String =
        parents.iter().map(|it| format!("[[parent.member]]\nurl = \"http://{}\"\n", it.address())).collect();
    before(origin, &format!("parents = \"shields\"\n[[parent]]\nname = \"shields\"\n{more}{members}"))
}

fn body(story: &Story, path: &str) -> String {
    let response = get(story.http, path, &[]).unwrap();
    assert_eq!(response.status, 200, "{path}");
    String::from_utf8(response.body).unwrap()
}

#[test]
fn each_object_comes_from_its_own_parent_and_from_another_one_when_that_fails() {
    let gone = [Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false))];
    let fails = |at: usize| {
        let gone = Arc::clone(&gone[at]);
        move |asked: &Asked| match asked.path.contains("/bad") {
            // Connections end without an answer.
            _ if gone.load(Ordering::Relaxed) => Some(vec![Step::Close]),
            true => Some(answer(503, &[], b"busy")),
            false => None,
        }
    };
    let (one, two) = (named("one", fails(0)), named("two", fails(1)));
    let origin = named("origin", |_: &Asked| None);
    let mut story = with(&[&one, &two], "timeout_ms = 500\n", &origin);
    let mut counts = [0; 2];
    for number in 0..40 {
        let text = body(&story, &format!("/o/{number}.m4s"));
        let name = ["one", "two"].iter().position(|it| text == format!("{it} /o/{number}.m4s"));
        counts[name.unwrap_or_else(|| panic!("{text}: the origin need not be asked"))] += 1;
    }
    assert!(counts.iter().all(|it| *it >= 8), "{counts:?}");
    assert_eq!(origin.asked("/1.m4s").len(), 0);
    // A refusal is an answer; an error of both parents is not.
    assert_eq!(body(&story, "/o/bad.m4s"), "origin /bad.m4s");
    assert_eq!((one.asked("/o/bad.m4s").len(), two.asked("/o/bad.m4s").len()), (1, 1));
    // Ranges and the rest of an object go the same way.
    let range = get(story.http, "/o/range.m4s", &[("Range", "bytes=0-2")]).unwrap();
    assert!(["one", "two"].contains(&std::str::from_utf8(&range.body[..3]).unwrap()));
    let failed_over = story.metric("parent_failovers_total{group=\"shields\"}");
    assert_eq!(failed_over, 2);
    // One goes away: its objects come from the other one, without an error at a player.
    gone[0].store(true, Ordering::Relaxed);
    for number in 100..130 {
        assert_eq!(body(&story, &format!("/o/{number}.m4s")), format!("two /o/{number}.m4s"));
    }
    let address = story.status().unwrap()["origin"]["parents"][0]["members"][0]["url"].clone();
    story.until("the loss is seen", Duration::from_secs(30), |story| {
        story.metric(&format!("parent_up{{group=\"shields\",parent={address}}}")) == 0
    });
    gone[1].store(true, Ordering::Relaxed);
    assert_eq!(body(&story, "/o/200.m4s"), "origin /200.m4s");
    // What has no parents that answer is not lost either where the origin is the last resort; what changes things goes there.
    let post = request(Method::POST, story.http, "/o/licence", &[]).unwrap();
    assert_eq!(post.body, b"origin /licence");
}

#[test]
fn a_parent_that_is_silent_costs_its_patience_and_no_more() {
    let hangs = |asked: &Asked| {
        asked
            .path
            .contains("/slow")
            .then(|| vec![Step::Wait(Duration::from_secs(20)), Step::Send(b"late".to_vec())])
    };
    let (one, two) = (named("one", hangs), named("two", |_: &Asked| None));
    let origin = named("origin", |_: &Asked| None);
    let story = with(&[&one, &two], "", &origin);
    for number in 0..6 {
        assert_eq!(body(&story, &format!("/o/slow{number}.m4s")), format!("two /o/slow{number}.m4s"));
    }
    let silent =
        (0..6).filter(|number| !one.asked(&format!("/o/slow{number}.m4s")).is_empty()).count() as u64;
    assert_eq!(story.metric("parent_hedged_requests_total{group=\"shields\"}"), silent);
    assert!(origin.asked("/slow0.m4s").is_empty());
}

#[test]
fn a_group_that_is_left_out_is_not_asked() {
    let one = named("one", |_: &Asked| None);
    let origin = named("origin", |_: &Asked| None);
    let story = with(&[&one], "enabled = false\n", &origin);
    assert_eq!(body(&story, "/o/a.m4s"), "origin /a.m4s");
    assert!(one.asked("/o/a.m4s").is_empty());
}

#[test]
fn what_a_parent_cuts_comes_from_others_and_it_is_left_out() {
    const LENGTH: usize = 200_000;
    let whole: Vec<u8> = (0..LENGTH).map(|at| (at % 251) as u8).collect();
    let cache = |cuts: bool| {
        let whole = whole.clone();
        Scripted::start(move |asked: &Asked| {
            let range = asked.field("range").strip_prefix("bytes=").and_then(|it| it.split_once('-'));
            let from = range.map_or(0, |(from, _)| from.parse::<usize>().unwrap());
            let content_range = format!("bytes {from}-{}/{LENGTH}", LENGTH - 1);
            let mut says = vec![("Cache-Control", "max-age=600"), ("ETag", "\"v\"")];
            if range.is_some() {
                says.push(("Content-Range", &content_range));
            }
            let mut steps = answer(if range.is_some() { 206 } else { 200 }, &says, &whole[from..]);
            if let (true, Some(Step::Send(bytes))) = (cuts, steps.first_mut()) {
                bytes.truncate(LENGTH / 2);
                steps.push(Step::Close);
            }
            steps
        })
    };
    let (bad, good, origin) = (cache(true), cache(false), cache(false));
    let mut story = with(&[&bad, &good], "hedge = false\n", &origin);
    for number in 0..20 {
        let response = get(story.http, &format!("/o/{number}.m4s"), &[]).unwrap();
        assert!(response.status == 200 && response.body == whole, "{number}: {}", response.body.len());
    }
    let count = |cache: &Scripted| {
        (0..20).map(|number| cache.asked(&format!("/o/{number}.m4s")).len()).sum::<usize>()
    };
    // Left out for a second, then for two, then for four …
    assert!((1..10).contains(&count(&bad)) && count(&good) == 20, "{} {}", count(&bad), count(&good));
    assert!((0..20).all(|number| origin.asked(&format!("/{number}.m4s")).is_empty()));
    let url = format!("{{group=\"shields\",parent=\"http://{}\"}}", bad.address());
    assert_eq!(story.metric(&format!("parent_failures_total{url}")), count(&bad) as u64);
    let mut number = 100;
    story.until("it is seen to be left out", Duration::from_secs(30), |story| {
        number += 1;
        assert_eq!(get(story.http, &format!("/o/{number}.m4s"), &[]).unwrap().body, whole);
        story.metric(&format!("parent_up{url}")) == 0
    });
    // Where all cut, the origin has the rest.
    let alone = with(&[&bad], "hedge = false\n", &origin);
    assert_eq!(get(alone.http, "/o/a.m4s", &[]).unwrap().body, whole);
    assert_eq!(origin.asked("/a.m4s")[0].field("if-range"), "\"v\"");
}

#[test]
fn a_shield_that_drains_is_left_out_before_its_listeners_close() {
    let origin = named("origin", |_: &Asked| None);
    let mut shield = Story::new();
    shield.daemon_extra =
        format!("[[route]]\npath = \"/o/\"\nbase = \"http://{}/shield/\"\n", origin.address());
    shield.drop_in("[http]\nshutdown_delay_ms = 30_000\n");
    shield.start_daemon();
    let mut edge = Story::new();
    edge.daemon_extra = format!(
        "[[route]]\npath = \"/o/\"\nbase = \"http://{}/\"\nparents = \"shields\"\n[[parent]]\nname = \"shields\"\n\
         [[parent.member]]\nurl = \"http://{}\"\n",
        origin.address(),
        shield.http
    );
    edge.drop_in("[repair]\nhealth_check_interval_ms = 200\n");
    edge.start_daemon();
    assert_eq!(body(&edge, "/o/a.m4s"), "origin /shield/a.m4s");
    // Balancers ask under any name.
    let health = |story: &Story| {
        let answer = get(story.http, "/-/health", &[("Host", "shield-1.example.com")]).unwrap();
        (answer.status, String::from_utf8(answer.body).unwrap())
    };
    assert_eq!(health(&shield), (200, "ready\n".to_owned()));
    assert_eq!(shield.status().unwrap()["draining"], false);
    shield.daemon.as_ref().unwrap().signal("TERM");
    edge.until("the edge leaves the shield out", Duration::from_secs(10), |edge| {
        edge.status().unwrap()["origin"]["parents"][0]["members"][0]["up"] == false
    });
    assert_eq!(body(&edge, "/o/b.m4s"), "origin /b.m4s", "the shield is not asked");
    // Everything else is served: what edges without health checks send, and the page.
    assert_eq!(health(&shield), (503, "draining\n".to_owned()));
    assert_eq!(shield.status().unwrap()["draining"], true);
    assert_eq!(body(&shield, "/o/c.m4s"), "origin /shield/c.m4s");
    assert_eq!(get(shield.http, "/", &[]).unwrap().status, 200);
}
