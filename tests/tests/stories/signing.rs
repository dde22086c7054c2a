//! A signed carousel with both programs: keys made by the command line, a box that requires them, an untrusted sender beside it, rotation,
//! revocation, restarts. No faster test has the files of both sides.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use skycache_tests::programs::{Program, clock_at, program};
use skycache_tests::{Story, client, media};

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

/// A player that asks for every object in turn, and knows the versions that the headend has sent.
#[derive(Debug)]
struct Player {
    is_over: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<Vec<String>>,
}

/// Versions of each object, by path at the box.
type Versions = Arc<Mutex<BTreeMap<String, HashSet<Vec<u8>>>>>;

impl Player {
    /// A player of what `versions` has now.
    fn start(http: SocketAddr, versions: &Versions) -> Self {
        let (is_over, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let paths: Vec<String> = versions.lock().unwrap().keys().cloned().collect();
        let (over, round, versions) = (Arc::clone(&is_over), Arc::clone(&rounds), Arc::clone(versions));
        let thread = std::thread::spawn(move || {
            let mut wrong = Vec::new();
            while !over.load(Ordering::SeqCst) {
                for path in &paths {
                    let why = match client::get(http, path, &[]) {
                        Ok(it) if it.status != 200 || !it.whole => format!("status {}", it.status),
                        Ok(it) if !it.header("cache-status").contains("hit") => "no hit".to_owned(),
                        Ok(it) if versions.lock().unwrap()[path].contains(&it.body) => continue,
                        Ok(it) => format!("{} bytes that the headend has not sent", it.body.len()),
                        Err(why) => why,
                    };
                    wrong.push(format!("{path}: {why}"));
                }
                round.fetch_add(1, Ordering::SeqCst);
            }
            wrong
        });
        Self { is_over, rounds, thread }
    }

    /// Ends after one more round; everything asked for has come, in a version of the headend.
    fn end(self, story: &mut Story) {
        let begun = self.rounds.load(Ordering::SeqCst);
        let rounds = Arc::clone(&self.rounds);
        story.until("the player's round", PATIENCE, |_| rounds.load(Ordering::SeqCst) > begun + 1);
        self.is_over.store(true, Ordering::SeqCst);
        assert_eq!(self.thread.join().unwrap(), [""; 0], "in {} rounds", rounds.load(Ordering::SeqCst));
    }
}

/// The next version of what the headend sends: a changed playlist, a replaced segment, a further segment. Files are whole when they
/// appear, as those of a packager.
fn change(folder: &Path, number: u32, versions: &Versions) {
    let playlist = std::fs::read_to_string(folder.join("media_0.m3u8")).unwrap();
    let files = [
        ("media_0.m3u8".to_owned(), (playlist + &format!("# version {number}\n")).into_bytes()),
        ("0-001.m4s".to_owned(), vec![number as u8; 40_000]),
        (format!("further-{number}.m4s"), vec![number as u8; 20_000]),
    ];
    for (name, bytes) in files {
        let path = Story::path_of(&name);
        versions.lock().unwrap().entry(path).or_default().insert(bytes.clone());
        let unfinished = folder.join("unfinished.tmp");
        std::fs::write(&unfinished, bytes).unwrap();
        std::fs::rename(unfinished, folder.join(name)).unwrap();
    }
}

fn note(folder: &Path, versions: &Versions) {
    let mut versions = versions.lock().unwrap();
    for (relative, path) in media::files(folder) {
        versions.entry(Story::path_of(&relative)).or_default().insert(std::fs::read(path).unwrap());
    }
}

/// In one run: the online key is rotated while both count, the old one is stolen and revoked, its thief sends on beside the headend in
/// the same groups and sessions, and the box restarts with a clock of 1970, where it first hears the thief alone.
#[test]
fn a_rotation_a_revocation_and_a_restart_in_1970_leave_no_gap_and_admit_nothing_of_the_revoked_key() {
    let Some(lost_clock) = clock_at("1970-01-01 00:01:00") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (sent, theirs) = (folder.path().join("sent"), folder.path().join("theirs"));
    for copy in [&sent, &theirs] {
        std::fs::create_dir(copy).unwrap();
        for (relative, path) in media::files(&media::ladder()) {
            std::fs::copy(path, copy.join(relative)).unwrap();
        }
    }
    // Every object of the thief has the name of one of the headend's and other bytes, but for one.
    for (relative, path) in media::files(&theirs) {
        let mut bytes = std::fs::read(&path).unwrap();
        if relative.contains('.') && !relative.ends_with(".mpd") && !relative.ends_with(".m3u8") {
            bytes.iter_mut().for_each(|it| *it ^= 0x55);
        } else if relative.ends_with(".m3u8") {
            bytes.extend_from_slice(b"# stolen\n");
        } else {
            bytes.extend_from_slice(b"<!-- stolen -->");
        }
        std::fs::write(path, bytes).unwrap();
    }
    std::fs::write(theirs.join("theirs.m4s"), vec![0x66; 30_000]).unwrap();
    let versions = Versions::default();
    note(&sent, &versions);

    let mut story = Story::of(&sent);
    let keys = story.dir().join("keys");
    let made = keygen(&keys, &[]);
    let root = made["root"]["key"].as_str().unwrap();
    let first = made["online"]["id"].as_str().unwrap().to_owned();
    let signing =
        |keys: &Path| format!("include_unreferenced = true\n[signing]\nkeys = \"{}\"\n", keys.display());
    story.daemon_extra = format!("[trust]\nkeys = [\"{root}\"]\n");
    story.headend_extra = signing(&keys);
    let restart_headend = |story: &mut Story| {
        if let Some(headend) = story.headend.take() {
            headend.stop();
        }
        story.start_headend(false);
    };
    // The newest version of everything has come, as players see it.
    let until_newest = |story: &mut Story, what: &str| {
        let all = media::files(&story.folder).len() as u64;
        story.until(what, PATIENCE, |story| story.held() as u64 == all && story.compare().exact == all);
    };
    let signers = |story: &Story| -> HashSet<String> {
        let by = |it: &serde_json::Value| it["signed_by"].as_str()?.split(' ').nth(1).map(str::to_owned);
        story.list().iter().filter_map(by).collect()
    };
    story.start_daemon();
    story.start_headend(false);
    until_newest(&mut story, "everything by the first key");
    let player = Player::start(story.http, &versions);

    // Rotation: the second key signs what is new, and what the first has signed stays.
    let second = keygen(&keys, &["--rotate"])["online"]["id"].as_str().unwrap().to_owned();
    change(&sent, 1, &versions);
    restart_headend(&mut story);
    until_newest(&mut story, "version 1");
    let both: HashSet<String> = [first.clone(), second.clone()].into();
    assert!(signers(&story).is_superset(&both), "{:?}", signers(&story));
    assert_eq!(refused(&story, "revoked"), 0);

    // Revocation: the first key is with a thief.
    let stolen = story.dir().join("stolen");
    std::fs::create_dir(&stolen).unwrap();
    for file in ["online-1.key", "versions"] {
        Command::new("cp").arg("-p").arg(keys.join(file)).arg(&stolen).status().unwrap();
    }
    keygen(&keys, &["--revoke", &first]);
    let third = keygen(&keys, &["--rotate"])["online"]["id"].as_str().unwrap().to_owned();
    change(&sent, 2, &versions);
    restart_headend(&mut story);
    story.until("the revocation list", PATIENCE, |story| {
        let status = story.status().unwrap_or_default();
        status["trust"]["keys"][0]["revoked"][0].as_str() == Some(&first)
    });
    let mut thief = Story::of(&theirs);
    thief.groups = story.groups;
    thief.headend_extra = signing(&stolen);
    thief.start_headend(false);
    until_newest(&mut story, "version 2");
    story.until("refusals of the thief", PATIENCE, |story| refused(story, "revoked") > 5);
    // Something new is received while the thief sends.
    change(&sent, 3, &versions);
    until_newest(&mut story, "version 3");
    player.end(&mut story);
    let nothing_stolen = |story: &Story| {
        assert!(signers(story).contains(&third));
        let stolen = |it: &serde_json::Value| it["key"].as_str().is_some_and(|key| key.contains("theirs"));
        assert!(!story.list().iter().any(stolen));
        let compared = story.compare();
        assert_eq!(
            (compared.exact, compared.hits),
            (media::files(&sent).len() as u64, compared.exact),
            "{compared}"
        );
    };
    nothing_stolen(&story);

    // The box restarts in 1970, and hears the thief alone.
    story.headend.take().unwrap().stop();
    story.daemon.take().unwrap().stop();
    story.daemon_env = lost_clock;
    story.start_daemon();
    let log = story.daemon.as_ref().map(Program::log).unwrap_or_default();
    assert!(log.contains("1970-01-01T00:0"), "its clock is not of 1970: {log}");
    let player = Player::start(story.http, &versions);
    story.until("refusals of the thief", PATIENCE, |story| refused(story, "revoked") > 5);
    nothing_stolen(&story);
    // The headend is back, with something new, while the thief goes on.
    change(&sent, 4, &versions);
    story.start_headend(false);
    until_newest(&mut story, "version 4");
    let before = refused(&story, "revoked");
    story.until("refusals of the thief", PATIENCE, |story| refused(story, "revoked") > before);
    assert!(thief.headend.as_mut().unwrap().ended().is_none(), "{}", thief.headend.as_ref().unwrap().log());
    player.end(&mut story);
    nothing_stolen(&story);
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
