//! A film in a bucket of a foreign store: on the air, replaced, withdrawn. No faster ring shows that such a store accepts our
//! signatures, and that changes in it reach receivers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use skycache_tests::programs::{program, python_with_packages};
use skycache_tests::{Story, get, media};

const PATIENCE: Duration = Duration::from_secs(90);
pub(super) const SECRET: &str = "secret of the story";

/// moto, with a bucket.
pub(super) struct Store {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub(super) url: String,
}

impl Store {
    /// `None`: it is not available, and the story is skipped.
    pub(super) fn start() -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("buckets");
        let python = python_with_packages(&folder)?;
        let mut command = Command::new(python);
        command
            .arg(folder.join("store.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut url = String::new();
        output.read_line(&mut url).unwrap();
        assert!(url.starts_with("http://127.0.0.1:"), "moto has not started: {url:?}");
        Some(Self { child, input, output, url: url.trim().to_owned() })
    }

    /// Runs a command of `store.py`.
    pub(super) fn run(&mut self, words: &[&str]) {
        assert_eq!(self.ask(words), "done\n", "{words:?}");
    }

    fn ask(&mut self, words: &[&str]) -> String {
        writeln!(self.input, "{}", words.join("\t")).unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        answer
    }

    /// Events since the last call, as the store has written them.
    pub(super) fn events(&mut self) -> Vec<String> {
        serde_json::from_str(&self.ask(&["events"])).unwrap()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_film_in_a_bucket_is_sent_replaced_and_withdrawn() {
    let Some(mut store) = Store::start() else { return };
    let ladder = media::files(&media::ladder());
    for (name, file) in &ladder {
        store.run(&["put", &format!("vod/a film+1 100%/{name}"), file.to_str().unwrap()]);
    }
    for key in ["vod/a film+1 100%/../up.m3u8", "vod/a film+1 100%/", "vod/a film+1 100%/unnamed.ts"] {
        store.run(&["put", key, "/dev/null"]);
    }
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let mut story = Story::of(&copy);
    let credentials = story.dir().join("s3.credentials");
    let text = format!("[default]\naws_access_key_id = story\naws_secret_access_key = {SECRET}\n");
    std::fs::write(&credentials, text).unwrap();
    story.headend_extra = format!(
        "pull = \"s3://films/vod/a film+1 100%/\"\n[source.s3]\nendpoint = \"{}\"\ncredentials_file = {credentials:?}\nlist_every_s = 1\n",
        store.url
    );
    let said = |verb: &str, story: &Story| {
        let output = program("headend").args([verb, "-c"]).arg(story.headend_config()).output().unwrap();
        let both = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&both).into_owned())
    };
    let (code, text) = said("plan", &story);
    assert!(code == Some(1) && text.contains("`headend pull -c"), "{text}");
    let keys = format!("s3://films/vod/a film+1 100%/: {} keys", ladder.len() + 3);
    let (code, text) = said("check", &story);
    assert!(code == Some(0) && text.contains(&keys), "{text}");
    let (code, text) = said("pull", &story);
    assert!(code == Some(0) && text.contains(&format!("{} files of", ladder.len())), "{text}");
    assert!(text.contains("1 unsafe (vod/a film+1 100%/../up.m3u8)"), "{text}");
    assert!(said("plan", &story).0 == Some(0) && !copy.join("unnamed.ts").exists());
    for (name, file) in &ladder {
        assert!(std::fs::read(copy.join(name)).unwrap() == std::fs::read(file).unwrap(), "{name}");
    }

    // On the air; then another version under the same name and of the same length; then none.
    let (name, file) = ladder.iter().find(|(name, _)| name == "1-003.m4s").unwrap();
    let mut bytes = std::fs::read(file).unwrap();
    story.start_daemon();
    story.start_headend(false);
    let has = |story: &Story, bytes: &[u8]| {
        get(story.http, &Story::path_of(name), &[]).is_ok_and(|it| it.status == 200 && it.body == bytes)
    };
    story.until("the film is there", PATIENCE, |story| has(story, &bytes));
    *bytes.last_mut().unwrap() ^= 1;
    let changed = folder.path().join("changed.m4s");
    std::fs::write(&changed, &bytes).unwrap();
    store.run(&["put", &format!("vod/a film+1 100%/{name}"), changed.to_str().unwrap()]);
    story.until("its new version is there", PATIENCE, |story| has(story, &bytes));
    store.run(&["delete", &format!("vod/a film+1 100%/{name}")]);
    story.until("it has left the folder", PATIENCE, |_| !copy.join(name).exists());
    let headend = story.headend.take().unwrap();
    let log = headend.stop();
    assert!(!log.contains(SECRET) && !log.contains("X-Amz"), "{log}");
}
