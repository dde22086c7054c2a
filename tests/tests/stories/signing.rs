//! A signed carousel with both programs: keys made by the command line, a box that requires them, a stranger beside it, rotation,
//! revocation, restarts. No faster test has the files of both sides.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use skycache_tests::programs::program;
use skycache_tests::{Story, media};

const PATIENCE: Duration = Duration::from_secs(90);

fn everything() -> u64 {
    media::files(&media::ladder()).len() as u64
}

fn keygen(out: &Path, arguments: &[&str]) -> serde_json::Value {
    let output =
        program("headend").args(["keygen", "--json", "--out"]).arg(out).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(story: &Story, reason: &str) -> u64 {
    story.status().and_then(|it| it["trust"]["refused"][reason].as_u64()).unwrap_or(0)
}

#[test]
fn a_box_that_requires_signatures_takes_the_signed_carousel_and_no_other() {
    let mut story = Story::new();
    let keys = story.dir().join("keys");
    let made = keygen(&keys, &[]);
    let root = made["root"]["key"].as_str().unwrap();
    story.daemon_extra = format!("[trust]\nkeys = [\"{root}\"]\n");
    story.start_daemon();
    // A stranger with the same groups and names.
    story.start_headend(false);
    story.until("refusals", PATIENCE, |story| refused(story, "unsigned") > 0);
    story.headend.take().unwrap().stop();
    let status = story.status().unwrap();
    assert_eq!((story.held(), &status["receive"]["delivery"]["entered"]), (0, &0.into()), "{status:#}");
    assert_eq!(status["store"]["partial_bytes"], 0);
    // The headend, with the key that is pinned.
    story.headend_extra = format!("[signing]\nkeys = \"{}\"\n", keys.display());
    story.start_headend(false);
    story.until_complete(PATIENCE);
    let compared = story.compare();
    assert_eq!((compared.exact, compared.hits), (everything(), everything()), "{compared}");
    let objects = story.list();
    let signed = |it: &&serde_json::Value| {
        it["signed_by"].as_str().is_some_and(|by| by.contains(made["root"]["id"].as_str().unwrap()))
    };
    assert!(objects.iter().filter(signed).count() as u64 >= everything(), "{objects:?}");
    story.headend.take().unwrap().stop();
    // Both restart; the online key was stolen, is revoked and followed by the next.
    story.daemon.take().unwrap().stop();
    let old = made["online"]["id"].as_str().unwrap();
    let copy = story.dir().join("stolen");
    std::fs::create_dir(&copy).unwrap();
    for file in ["online-1.key", "versions"] {
        Command::new("cp").arg("-p").arg(keys.join(file)).arg(&copy).status().unwrap();
    }
    keygen(&keys, &["--revoke", old]);
    let second = keygen(&keys, &["--rotate"]);
    assert_eq!(second["online"]["epoch"], 1);
    story.start_daemon();
    story.start_headend(false);
    story.until("the new key", PATIENCE, |story| {
        let status = story.status().unwrap_or_default();
        status["trust"]["keys"][0]["revoked"][0].as_str() == Some(old)
    });
    story.headend.take().unwrap().stop();
    story.headend_extra = format!("[signing]\nkeys = \"{}\"\n", copy.display());
    story.start_headend(false);
    story.until("a refusal of the thief", PATIENCE, |story| refused(story, "revoked") > 0);
    let compared = story.compare();
    assert_eq!(compared.exact, everything(), "{compared}");
}
