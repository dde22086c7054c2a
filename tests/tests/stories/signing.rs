//! A signed carousel with both programs: keys made by the command line, a box that requires them, an untrusted sender beside it, rotation,
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
    // An untrusted sender with the same groups and names.
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

/// Output of `headend command`.
fn command(story: &Story, arguments: &[&str]) -> serde_json::Value {
    let mut call = program("headend");
    call.args(["command", "--json", "-c"]).arg(story.dir().join("headend.toml")).args(arguments);
    let output = call.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_command_is_done_once_by_the_boxes_that_it_is_for() {
    let mut story = Story::new();
    let keys = story.dir().join("keys");
    let made = keygen(&keys, &[]);
    let rebooted = story.dir().join("rebooted");
    story.headend_extra = format!("[signing]\nkeys = \"{}\"\n", keys.display());
    story.daemon_extra = format!(
        "[trust]\nkeys = [{}]\n[commands]\ngroups = [\"north\"]\nreboot = [\"/bin/sh\", \"-c\", 'echo $1 >> {}', \"to\"]\n",
        made["root"]["key"],
        rebooted.display()
    );
    story.start_daemon();
    story.start_headend(false);
    story.until_complete(PATIENCE);
    let outcome = |story: &Story, name: &str| {
        story.status().and_then(|it| it["commands"]["outcomes"][name].as_u64()).unwrap_or(0)
    };
    for (id, arguments) in [
        ("south", ["reboot-to", "c", "--group", "south"]),
        ("north", ["reboot-to", "b", "--group", "north"]),
        ("words", ["message", "Maintenance tonight", "--group", "north"]),
        ("away", ["purge", "https://cdn.example.com/none.m4s", "--valid-s", "600"]),
    ] {
        let given = command(&story, &[&arguments[..], &["--id", id]].concat());
        assert_eq!(given["id"], id);
    }
    story.until("the commands", PATIENCE, |story| {
        (outcome(story, "done"), outcome(story, "nothing"), outcome(story, "other_group")) == (2, 1, 1)
    });
    assert_eq!(std::fs::read_to_string(&rebooted).unwrap(), "b\n");
    let messages =
        |story: &Story| story.status().map(|it| it["commands"]["messages"].clone()).unwrap_or_default();
    assert_eq!(messages(&story), serde_json::json!(["Maintenance tonight"]));
    assert_eq!(story.metric("commands_total{outcome=\"done\"}"), 2);
    // The box starts again while they are repeated: the message is back, nothing is done again.
    story.daemon.take().unwrap().stop();
    story.start_daemon();
    story.until("the message", PATIENCE, |story| {
        messages(story) == serde_json::json!(["Maintenance tonight"])
    });
    assert_eq!((outcome(&story, "done"), std::fs::read_to_string(&rebooted).unwrap().as_str()), (0, "b\n"));
    // One that is taken back is seen no more.
    command(&story, &["cancel", "words"]);
    story.until("no message", PATIENCE, |story| messages(story) == serde_json::json!([]));
    assert_eq!(command(&story, &["list"])["commands"].as_array().unwrap().len(), 3);
    // Another operator's keys.
    story.headend.take().unwrap().stop();
    let others = story.dir().join("others");
    keygen(&others, &[]);
    story.headend_extra = format!("[signing]\nkeys = \"{}\"\n", others.display());
    story.start_headend(false);
    command(&story, &["reboot-to", "evil"]);
    story.until("a refusal", PATIENCE, |story| refused(story, "unknown_key") > 0);
    assert_eq!(std::fs::read_to_string(&rebooted).unwrap(), "b\n");
}

/// A DSM-CC carousel whose list of modules is signed, and an untrusted one in the same stream.
#[test]
fn a_box_that_requires_signatures_takes_a_signed_carousel_of_modules_and_no_other() {
    let mut story = Story::new();
    let keys = story.dir().join("keys");
    let made = keygen(&keys, &[]);
    let to = story.groups[1];
    let multiplex = format!(
        "[multiplex]\ncarry = \"object-carousel\"\nto = \"udp://{}:{}\"\ncontrol_interval_ms = 100\n",
        to.ip(),
        to.port() + 1
    );
    story.daemon_extra = format!(
        "[trust]\nkeys = [{}]\n[[transport_stream]]\nfrom = \"udp://{}:{}\"\n",
        made["root"]["key"],
        to.ip(),
        to.port() + 1
    );
    story.headend_extra = multiplex.clone();
    story.start_daemon();
    story.start_headend(false);
    let dropped = |story: &Story| {
        let status = story.status().unwrap_or_default();
        status["receive"]["transport_streams"][0]["dropped"]["unsigned"].as_u64().unwrap_or(0)
    };
    story.until("refusals", PATIENCE, |story| dropped(story) > 20);
    assert_eq!(story.held(), 0);
    story.headend.take().unwrap().stop();
    story.headend_extra = format!("[signing]\nkeys = \"{}\"\n{multiplex}", keys.display());
    story.start_headend(false);
    story.until_complete(PATIENCE);
    let compared = story.compare();
    assert_eq!((compared.exact, compared.hits), (everything(), everything()), "{compared}");
    let id = made["root"]["id"].as_str().unwrap();
    assert!(story.list().iter().all(|it| it["signed_by"].as_str().is_some_and(|by| by.contains(id))));
    story.until("the signer in status", PATIENCE, |story| {
        let status = story.status().unwrap_or_default();
        let carousel = &status["receive"]["transport_streams"][0]["carousels"][0];
        carousel["signed_by"].as_str().is_some_and(|by| by.contains(id))
    });
}

#[test]
fn a_key_that_receivers_take_no_commands_of_gives_none() {
    let mut story = Story::new();
    let keys = story.dir().join("keys");
    keygen(&keys, &["--service", "announcement"]);
    story.headend_extra = format!("[signing]\nkeys = \"{}\"\n", keys.display());
    let config = story.headend_config();
    let given = || {
        let mut call = program("headend");
        call.args(["command", "-c"]).arg(&config).args(["purge", "https://cdn.example.com/a"]);
        call.output().unwrap()
    };
    let refused = given();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("--service commands"), "{said}");
    keygen(&keys, &["--rotate", "--service", "announcement", "--service", "commands"]);
    let taken = given();
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
}
