//! Purges by surrogate key, prefix and name, through the command and the admin interface.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Each path has been asked for so often, and says so; `Surrogate-Key` and `Cache-Tag` by its folders.
fn origin() -> Scripted {
    Scripted::start(|asked: &Asked| {
        let path = asked.path.trim_start_matches('/');
        let folder = path.split('/').next().unwrap_or_default();
        let keys = format!("all {folder}");
        let says = [
            ("Cache-Control", "max-age=6000, stale-if-error=600"),
            ("Surrogate-Key", keys.as_str()),
            ("Cache-Tag", "tenant 1,other"),
            ("ETag", "\"v\""),
        ];
        match path {
            "down/a" if asked.time > 1 => answer(503, &[], b"down"),
            "late/a" if asked.time == 1 => {
                let mut steps = vec![Step::Wait(Duration::from_secs(2))];
                steps.extend(answer(200, &says, b"late/a 1"));
                steps
            }
            "slow/a" if asked.time == 1 => {
                let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nSurrogate-Key: slow\r\nContent-Length: 10\r\n\r\nfirst";
                vec![
                    Step::Send(head.into()),
                    Step::Wait(Duration::from_secs(3)),
                    Step::Send(b" time".to_vec()),
                ]
            }
            _ => answer(200, &says, format!("{path} {}", asked.time).as_bytes()),
        }
    })
}

fn body(story: &Story, path: &str) -> String {
    String::from_utf8(get(story.http, path, &[]).unwrap().body).unwrap()
}

/// Output of `skycached`, as JSON.
fn command(story: &Story, verb: &str, arguments: &[&str]) -> serde_json::Value {
    let output = story.skycached(verb).args(arguments).arg("--json").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_an_origin_has_named_together_is_purged_together() {
    let origin = origin();
    let pass = format!(
        "[[route]]\npath = \"/shield/\"\nbase = \"http://{}/\"\nsurrogate_keys = \"pass\"\n",
        origin.address()
    );
    let mut story = before(&origin, &pass);
    for path in ["/o/film/a", "/o/film/b", "/o/show/a"] {
        let response = get(story.http, path, &[]).unwrap();
        assert_eq!((response.header("surrogate-key"), response.header("cache-tag")), ("", ""), "{path}");
        assert_eq!(body(&story, path), format!("{} 1", &path[3..]), "held");
    }
    // The same objects by a route for other caches: theirs are the fields that were not kept, so they are asked for again.
    let response = get(story.http, "/shield/news/a", &[]).unwrap();
    assert_eq!(
        (response.header("surrogate-key"), response.header("cache-tag")),
        ("all news", "tenant 1,other")
    );
    let purged = command(&story, "purge", &["--surrogate-key", "film"]);
    assert_eq!((&purged["purged"], &purged["done"]), (&2.into(), &"purge".into()), "{purged}");
    assert!(purged["id"].as_str().is_some_and(|it| !it.is_empty()), "{purged}");
    assert_eq!(
        (body(&story, "/o/film/a"), body(&story, "/o/film/b")),
        ("film/a 2".into(), "film/b 2".into())
    );
    assert_eq!(body(&story, "/o/show/a"), "show/a 1");
    // After a power cut nothing comes back, and the keys are known still.
    command(&story, "purge", &["--surrogate-key", "film"]);
    drop(story.daemon.take());
    story.start_daemon();
    assert_eq!(
        (body(&story, "/o/film/a"), body(&story, "/o/show/a")),
        ("film/a 3".into(), "show/a 1".into())
    );
    assert_eq!(command(&story, "purge", &["--surrogate-key", "tenant 1"])["purged"], 3);
    assert_eq!(body(&story, "/o/show/a"), "show/a 2");
    assert_eq!(command(&story, "purge", &["--surrogate-key", "nothing"])["purged"], 0);
    body(&story, "/o/film/a");
    let host = origin.address();
    assert_eq!(command(&story, "purge", &["--prefix", &format!("http://{host}/film/")])["purged"], 1);
    assert_eq!(
        command(&story, "purge", &["--prefix", &format!("http://{}/o/show/", story.http)])["purged"],
        1
    );
    // Everything only on purpose.
    let all = story.skycached("ban").arg("*").output().unwrap();
    let line = String::from_utf8(all.stderr).unwrap();
    assert!(!all.status.success() && line.contains("--yes"), "{line}");
    body(&story, "/o/film/a");
    assert_eq!(command(&story, "ban", &["*", "--yes"])["purged"], 1);
}

#[test]
fn a_purge_that_finds_nothing_says_what_was_looked_for() {
    let origin = origin();
    let story = before(&origin, "");
    let said = |verb: &str, arguments: &[&str]| {
        let output = story.skycached(verb).args(arguments).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    body(&story, "/o/film/a");
    for verb in ["purge", "pin"] {
        let text = said(verb, &["/o/film/b.m4s"]);
        let keys = format!("o/film/b.m4s, {}/film/b.m4s;", origin.address());
        assert!(text.contains(&keys) && text.contains("ls --filter b.m4s"), "{text}");
    }
    let text = said("ban", &["/o/film/"]);
    assert!(text.contains("0 objects purged") && text.contains("/o/film/* is all that begins so"), "{text}");
    let text = said("ban", &["/o/film/*"]);
    assert_eq!(text, "1 object purged\n");
    // A name that a route leaves as it is has one line in the memory of purges.
    assert_eq!(
        command(&story, "purge", &["--prefix", "/o/show/"])["hint"].as_str().map(|it| &it[..15]),
        Some("nothing matched")
    );
    let noted = std::fs::read_to_string(story.dir().join("cache/recent-purges")).unwrap();
    let prefixes: Vec<_> =
        noted.lines().filter_map(|it| it.split_once(" p ")).map(|(_, text)| text).collect();
    assert_eq!(prefixes, ["\"o/show/\"".to_owned(), format!("\"{}/show/\"", origin.address())]);
}

#[test]
fn a_soft_purge_asks_the_origin_and_serves_what_is_held_while_it_fails() {
    let origin = origin();
    let story = before(&origin, "");
    assert_eq!((body(&story, "/o/down/a"), body(&story, "/o/up/a")), ("down/a 1".into(), "up/a 1".into()));
    assert_eq!(command(&story, "purge", &["--surrogate-key", "all", "--soft"])["purged"], 2);
    assert_eq!((body(&story, "/o/down/a"), body(&story, "/o/up/a")), ("down/a 1".into(), "up/a 2".into()));
    assert_eq!(origin.asked("/down/a").len(), 2);
    assert_eq!(origin.asked("/up/a")[1].field("if-none-match"), "\"v\"");
}

#[test]
fn what_is_on_its_way_when_it_is_purged_is_for_those_alone_who_wait_for_it() {
    let origin = origin();
    let story = before(&origin, "");
    let http = story.http;
    let first = std::thread::spawn(move || get(http, "/o/slow/a", &[]).unwrap());
    while origin.asked("/slow/a").is_empty() {
        sleep(Duration::from_millis(20));
    }
    sleep(Duration::from_millis(300));
    assert_eq!(command(&story, "purge", &["--surrogate-key", "slow"])["purged"], 0);
    assert_eq!(body(&story, "/o/slow/a"), "slow/a 2", "nobody joins it");
    assert_eq!(first.join().unwrap().body, b"first time");
    sleep(Duration::from_millis(300));
    assert_eq!(body(&story, "/o/slow/a"), "slow/a 2", "nor does it come back");
    // The same before the origin has answered at all.
    let late = std::thread::spawn(move || get(http, "/o/late/a", &[]).unwrap());
    while origin.asked("/late/a").is_empty() {
        sleep(Duration::from_millis(20));
    }
    sleep(Duration::from_millis(100));
    assert_eq!(command(&story, "purge", &["--surrogate-key", "late"])["purged"], 0);
    assert_eq!(late.join().unwrap().body, b"late/a 1");
    sleep(Duration::from_millis(300));
    assert_eq!(body(&story, "/o/late/a"), "late/a 2");
}

#[test]
fn a_purge_is_known_after_a_kill_while_a_parent_lags_behind() {
    let is_purged_there = Arc::new(AtomicBool::new(false));
    let at_parent = Arc::clone(&is_purged_there);
    let parent = Scripted::start(move |_: &Asked| {
        let (age, text) = if at_parent.load(Ordering::Relaxed) { ("0", "new") } else { ("100", "old") };
        let says = [("Cache-Control", "max-age=6000"), ("Surrogate-Key", "film"), ("Age", age)];
        answer(200, &says, text.as_bytes())
    });
    let origin = origin();
    let group = format!(
        "parents = \"shields\"\n[[parent]]\nname = \"shields\"\n[[parent.member]]\nurl = \"http://{}\"\n",
        parent.address()
    );
    let mut story = before(&origin, &group);
    let asked = || parent.asked("/o/film/a").len();
    let two = |story: &Story| (body(story, "/o/film/a"), body(story, "/o/film/a"));
    assert_eq!(two(&story), ("old".into(), "old".into()));
    assert_eq!(asked(), 1, "kept");
    command(&story, "purge", &["--surrogate-key", "film"]);
    // What the parent has held since before the purge is passed on, and asked for again, also by the next process.
    for start in ["the first", "after a kill", "after another one"] {
        if start != "the first" {
            drop(story.daemon.take());
            story.start_daemon();
        }
        let before = asked();
        assert_eq!(two(&story), ("old".into(), "old".into()), "{start}");
        assert_eq!(asked(), before + 2, "{start}: not kept");
    }
    assert_eq!(story.metric("store_remembered_purges"), 1);
    is_purged_there.store(true, Ordering::Relaxed);
    // `Age` is in seconds, and purges of an earlier run count as made at the start of this one.
    sleep(Duration::from_millis(2200));
    let before = asked();
    assert_eq!(two(&story), ("new".into(), "new".into()));
    assert_eq!(asked(), before + 1, "kept");
}
