//! A bucket whose store reports changes by Kafka, with a foreign store and broker: the events are the store's own (moto's: keys
//! with `+` and `%2F`, no sequencer, two events for an upload in parts, a test event). No faster ring shows that they are
//! understood, and that nothing is lost while the broker or the topic is unavailable.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use skycache_tests::programs::program;
use skycache_tests::{Story, media};

use super::buckets::{SECRET, Store};
use super::kafka::Broker;

const PATIENCE: Duration = Duration::from_secs(60);
const TOPIC: &str = "s3-events";
const PREFIX: &str = "vod/a film+1 100%/";

/// A headend whose source is a film in a bucket.
struct Headend {
    story: Story,
    store: Store,
    broker: Broker,
    copy: PathBuf,
    /// The configuration, which is not written again while a headend reads it.
    config: PathBuf,
    _folder: tempfile::TempDir,
}

impl Headend {
    /// `None`: something is missing, and the story is skipped.
    fn new(list_every_s: u32) -> Option<Self> {
        let broker = Broker::start(None)?;
        let store = Store::start()?;
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        let mut story = Story::of(&copy);
        let credentials = story.dir().join("s3.credentials");
        let text = format!("[default]\naws_access_key_id = story\naws_secret_access_key = {SECRET}\n");
        fs::write(&credentials, text).unwrap();
        let brokers: Vec<String> = broker.address.split(',').map(|it| format!("{it:?}")).collect();
        story.headend_extra = format!(
            "name = \"bucket\"\npull = \"s3://films/{PREFIX}\"\n[source.s3]\nendpoint = \"{}\"\ncredentials_file = {credentials:?}\n\
            list_every_s = {list_every_s}\n[source.events]\nbrokers = [{}]\ntopic = \"{TOPIC}\"\nlist_every_s = 3600\n",
            store.url,
            brokers.join(", ")
        );
        let config = story.headend_config();
        let mut headend = Self { story, store, broker, copy, config, _folder: folder };
        let (_, text) = headend.says("check");
        if text.contains("built without Kafka") {
            eprintln!(
                "SKIPPED: headend is built without Kafka (cargo build -p skycache-headend --features kafka)"
            );
            return None;
        }
        for (name, file) in media::files(&media::ladder()) {
            headend.put(&name, &file);
        }
        Some(headend)
    }

    fn put(&mut self, name: &str, file: &Path) {
        self.store.run(&["put", &format!("{PREFIX}{name}"), file.to_str().unwrap()]);
    }

    fn says(&self, verb: &str) -> (Option<i32>, String) {
        let output = program("headend").args([verb, "-c"]).arg(&self.config).output().unwrap();
        let both = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&both).into_owned())
    }

    /// Writes the events of the store to the topic.
    fn tell(&mut self) -> usize {
        let events = self.store.events();
        self.write(&events);
        events.len()
    }

    fn write(&self, messages: &[String]) {
        let one_line = |it: &String| it.replace('\n', " ") + "\n";
        self.broker.client("produce", &[TOPIC], &messages.iter().map(one_line).collect::<String>());
    }

    /// `events` of `headend status`; `None` while it does not answer.
    fn events(&self) -> Option<Value> {
        let output = program("headend").args(["status", "--json", "-c"]).arg(&self.config).output();
        let status: Value = serde_json::from_slice(&output.unwrap().stdout).ok()?;
        Some(status["events"][0].clone())
    }

    fn counted(&self, what: &str) -> u64 {
        self.events().map_or(0, |it| it["outcomes"][what].as_u64().unwrap())
    }

    fn is_connected(&self) -> bool {
        self.events().is_some_and(|it| it["connected"] == true)
    }

    fn has(&self, name: &str, bytes: &[u8]) -> bool {
        fs::read(self.copy.join(name)).is_ok_and(|it| it == bytes)
    }

    /// Waits for something, and says how long that took.
    fn until(&self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Duration {
        let start = Instant::now();
        while !done(self) {
            let log = || {
                self.story.headend.as_ref().map(skycache_tests::programs::Program::log).unwrap_or_default()
            };
            assert!(start.elapsed() < PATIENCE, "{what} does not happen; {:?}\n{}", self.events(), log());
            std::thread::sleep(Duration::from_millis(20));
        }
        start.elapsed()
    }

    fn start(&mut self) {
        self.story.start_headend(false);
        self.until("the topic is read", Self::is_connected);
    }

    fn stop(&mut self) -> String {
        self.story.headend.take().unwrap().stop()
    }
}

/// A file with other bytes, of the same length.
fn changed(headend: &Headend, name: &str, salt: u8) -> (PathBuf, Vec<u8>) {
    let ladder = media::files(&media::ladder());
    let (_, file) = ladder.iter().find(|(it, _)| it == name).unwrap();
    let mut bytes = fs::read(file).unwrap();
    *bytes.last_mut().unwrap() ^= salt;
    let file = headend.story.dir().join(format!("changed-{salt}"));
    fs::write(&file, &bytes).unwrap();
    (file, bytes)
}

#[test]
fn what_events_tell_of_is_fetched_and_removed_without_a_list() {
    // No list but the first would come within the story.
    let Some(mut headend) = Headend::new(3600) else { return };
    headend.broker.client("create", &[TOPIC], "");
    let (code, text) = headend.says("check");
    assert!(code == Some(0) && text.contains("events of bucket: topic s3-events with "), "{text}");
    let ladder = media::files(&media::ladder());
    headend.start();
    headend.until("the film is there", |it| {
        ladder.iter().all(|(name, file)| it.has(name, &fs::read(file).unwrap()))
    });
    // Events of what the list has found already, and the test event, change nothing.
    let count = headend.tell() as u64;
    headend.until("all are read", |it| it.counted("unchanged") + it.counted("unneeded") == count - 1);
    assert_eq!(headend.counted("test"), 1);

    let (file, bytes) = changed(&headend, "1-003.m4s", 1);
    headend.put("1-003.m4s", &file);
    headend.tell();
    let took = headend.until("its new version is there", |it| it.has("1-003.m4s", &bytes));
    println!("a new version is there {} ms after its event was written", took.as_millis());

    // Another film, whose longest file comes in parts; what is not an event in between.
    let long = headend.story.dir().join("long");
    let mut media = fs::read(&ladder.iter().find(|it| it.0 == "1-001.m4s").unwrap().1).unwrap();
    media.extend_from_slice(&(11_u32 << 20).to_be_bytes());
    media.extend_from_slice(b"free");
    media.resize(media.len() + (11 << 20) - 8, 0);
    fs::write(&long, &media).unwrap();
    let playlist = headend.story.dir().join("playlist");
    let text = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-MAP:URI=\"../init-1.mp4\"\n\
        #EXTINF:4,\nb+c%20d.m4s\n#EXT-X-ENDLIST\n";
    fs::write(&playlist, text).unwrap();
    headend.put("2/index.m3u8", &playlist);
    headend.tell();
    headend.until("its playlist is there", |it| it.has("2/index.m3u8", text.as_bytes()));
    headend.write(&[
        String::new(),
        "\0\0".to_owned(),
        "{\"id\":\"p-1\",\"surrogate_key\":\"film\"}".to_owned(),
        format!("{{\"Records\":[{{\"s3\":{{\"object\":{{\"key\":\"{}\"}}}}}}]}}", "k".repeat(10 << 20)),
    ]);
    headend.store.run(&["parts", &format!("{PREFIX}2/b+c d.m4s"), long.to_str().unwrap()]);
    assert_eq!(headend.tell(), 2);
    let took = headend.until("its media are there", |it| it.has("2/b+c d.m4s", &media));
    println!("11 MiB in parts are there {} ms after their events were written", took.as_millis());
    let of = |what| headend.counted(what);
    assert_eq!((of("no_json"), of("no_event"), of("too_long")), (2, 1, 1), "{:?}", headend.events());

    headend.store.run(&["delete", &format!("{PREFIX}2/index.m3u8")]);
    headend.tell();
    headend.until("it has left the folder", |it| !it.copy.join("2/index.m3u8").exists());

    // Events during an absence of the headend are read on its return: one list would not remove deleted files.
    let log = headend.stop();
    let lines = |what: &str| log.lines().filter(|it| it.contains(what)).count();
    assert_eq!((lines(": no_json; "), lines(": no_event; "), lines(": too_long; ")), (1, 1, 1), "{log}");
    assert!(!log.contains(SECRET), "{log}");
    headend.store.run(&["delete", &format!("{PREFIX}2/b+c d.m4s")]);
    let (file, bytes) = changed(&headend, "1-004.m4s", 2);
    headend.put("1-004.m4s", &file);
    headend.tell();
    headend.start();
    headend.until("both are done", |it| it.has("1-004.m4s", &bytes) && !it.copy.join("2/b+c d.m4s").exists());
    assert_eq!(headend.counted("too_long"), 0, "it goes on where it was");
}

#[test]
fn a_topic_that_is_not_there_is_told_once_and_the_bucket_is_listed() {
    let Some(mut headend) = Headend::new(1) else { return };
    let (code, text) = headend.says("check");
    assert!(
        code == Some(1) && text.contains("there is no topic s3-events") && text.contains("create it"),
        "{text}"
    );
    headend.story.start_headend(false);
    headend.until("it is on the air", |it| it.events().is_some());
    let (file, bytes) = changed(&headend, "1-003.m4s", 1);
    headend.put("1-003.m4s", &file);
    headend.until("a list has found the new version", |it| it.has("1-003.m4s", &bytes));
    let events = headend.events().unwrap();
    assert!(events["connected"] == false && events["errors"]["no_topic"].as_u64() > Some(0), "{events}");
    let (_, text) = headend.says("status");
    assert!(
        text.contains("events     bucket: topic s3-events is away: the bucket is listed instead"),
        "{text}"
    );
    headend.broker.client("create", &[TOPIC], "");
    headend.until("the topic is read", Headend::is_connected);
    let (file, bytes) = changed(&headend, "1-004.m4s", 2);
    headend.put("1-004.m4s", &file);
    headend.tell();
    headend.until("an event has told of the new version", |it| it.has("1-004.m4s", &bytes));
    let log = headend.stop();
    let lines = |what: &str| log.lines().filter(|it| it.contains(what)).count();
    assert_eq!((lines("there is no topic s3-events"), lines("come again")), (1, 1), "{log}");
}
