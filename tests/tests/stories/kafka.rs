//! Kafka: purges for all boxes, their results, and measurements of players, with foreign brokers and clients. No faster ring
//! shows that they understand us, and what happens while they are unavailable.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use skycache_tests::client::raw;
use skycache_tests::programs::{fed, program, python_with_packages};
use skycache_tests::{Asked, Scripted, Story, answer, free_tcp_port, get};

const PATIENCE: Duration = Duration::from_secs(30);
const TOPICS: [&str; 3] = ["cdn-purge", "cdn-purge-results", "qoe-metrics"];

/// Whether the daemon speaks Kafka's protocol.
fn has_kafka() -> bool {
    let story = Story::new();
    let config = story.dir().join("kafka.toml");
    std::fs::write(&config, "[kafka]\nbrokers = [\"127.0.0.1:9\"]\n").unwrap();
    let checked =
        program("skycached").args(["check", "--seconds", "1", "--json", "-c"]).arg(config).output().unwrap();
    let there = !String::from_utf8_lossy(&checked.stdout).contains("built without Kafka");
    if !there {
        eprintln!("SKIPPED: skycached is built without Kafka (cargo build -p skycache --features kafka)");
    }
    there
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("brokers/broker.py")
}

/// A broker that others wrote, and clients of it.
pub(super) struct Broker {
    python: PathBuf,
    pub(super) address: String,
    child: Option<Child>,
}

impl Broker {
    /// librdkafka's mock cluster, or Tansu at this address; `None`: it is not available, and the story is skipped.
    pub(super) fn start(tansu_at: Option<&str>) -> Option<Self> {
        if !has_kafka() {
            return None;
        }
        let python = python_with_packages(&Path::new(env!("CARGO_MANIFEST_DIR")).join("brokers"))?;
        let mut broker = Self { python, address: String::new(), child: None };
        match tansu_at {
            None => broker.launch(&["mock", "3"]),
            Some(address) => broker.launch(&["tansu", address.rsplit(':').next().unwrap()]),
        }
        Some(broker)
    }

    fn launch(&mut self, arguments: &[&str]) {
        let mut child = self.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.child = Some(child);
        self.address = line.trim().to_owned();
        assert!(self.address.contains(':'), "{line}");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(script()).args(arguments);
        command
    }

    /// Output of a client that reads `input`.
    pub(super) fn client(&self, verb: &str, arguments: &[&str], input: &str) -> String {
        let output =
            fed(&mut self.command(&[&[verb, self.address.as_str()], arguments].concat()), input.as_bytes());
        assert!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn create(&self) {
        self.client("create", &TOPICS, "");
    }

    fn purge(&self, messages: &[&str]) {
        self.client("produce", &["cdn-purge"], &format!("{}\n", messages.join("\n")));
    }

    fn consume(&self, topic: &str, count: usize) -> Vec<Value> {
        let text = self.client("consume", &[topic, &count.to_string()], "");
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A daemon with a broker, before an origin that says how often a path was asked for.
fn daemon(brokers: &str) -> (Story, Scripted) {
    let origin = Scripted::start(|asked: &Asked| {
        let path = asked.path.split('?').next().unwrap();
        let keys = path.trim_start_matches('/').split('/').next().unwrap();
        let says = [("Cache-Control", "max-age=6000"), ("Surrogate-Key", keys), ("ETag", "\"v\"")];
        answer(200, &says, format!("{path} {}", asked.time).as_bytes())
    });
    let brokers: Vec<String> = brokers.split(',').map(|it| format!("{it:?}")).collect();
    let mut story = Story::new();
    story.daemon_extra = format!(
        "[[route]]\npath = \"/o/\"\nbase = \"http://{}/\"\n[kafka]\nbrokers = [{}]\nnode = \"edge-1\"\n",
        origin.address(),
        brokers.join(", ")
    );
    story.start_daemon();
    (story, origin)
}

fn body(story: &Story, path: &str) -> String {
    String::from_utf8(get(story.http, path, &[]).unwrap().body).unwrap()
}

/// The counter of a purge's outcome.
fn purges(story: &Story, outcome: &str) -> u64 {
    story.metric(&format!("kafka_purges_total{{outcome=\"{outcome}\"}}"))
}

fn errors(story: &Story, reason: &str) -> u64 {
    story.metric(&format!("kafka_errors_total{{reason=\"{reason}\"}}"))
}

#[test]
fn purges_of_the_fleet_are_done_once_and_say_what_became_of_them() {
    let Some(broker) = Broker::start(None) else { return };
    broker.create();
    let (mut story, origin) = daemon(&broker.address);
    for path in ["/o/film/a", "/o/film/b", "/o/show/a", "/o/news/a"] {
        assert_eq!(body(&story, path), format!("{} 1", &path[2..]));
    }
    let host = origin.address().to_string();
    let poison = "\u{0}".repeat(5);
    broker.purge(&[
        r#"{"schema":1,"id":"p-1","surrogate_key":"film","issued_at":"2026-11-29T06:00:00Z"}"#,
        &format!(r#"{{"id":"p-2","url":["http://{host}/news/a","http://{host}/none"],"soft":true}}"#),
        "",
        &poison,
        r#"{"id":"p-3","pattern":"*"}"#,
        r#"{"id":"p-4","url":"h/a","sfot":true}"#,
        r#"{"id":"p-1","surrogate_key":"film"}"#,
        r#"{"id":"p-5","prefix":"nothing.example/"}"#,
    ]);
    story.until("all messages are done", PATIENCE, |story| purges(story, "nothing") == 1);
    assert_eq!([purges(&story, "done"), purges(&story, "refused"), purges(&story, "repeated")], [2, 4, 1]);
    assert_eq!(
        (body(&story, "/o/film/a"), body(&story, "/o/show/a")),
        ("/film/a 2".into(), "/show/a 1".into())
    );
    let results = broker.consume("cdn-purge-results", 8);
    let short = |it: &Value| {
        let text = |name: &str| it[name].as_str().unwrap_or("-").to_owned();
        (text("id"), text("status"), it["purged"].as_u64())
    };
    let mut said: Vec<_> = results.iter().map(short).collect();
    said.sort();
    let expected = [
        ("-", "refused", None),
        ("-", "refused", None),
        ("p-1", "done", Some(2)),
        ("p-1", "repeated", None),
        ("p-2", "done", Some(1)),
        ("p-3", "refused", None),
        ("p-4", "refused", None),
        ("p-5", "nothing", Some(0)),
    ];
    assert_eq!(said, expected.map(|(id, status, purged)| (id.to_owned(), status.to_owned(), purged)));
    assert!(results.iter().all(|it| it["node"] == "edge-1" && it["offset"].is_u64()), "{results:?}");
    let why = results.iter().find(|it| it["id"] == "p-3").unwrap();
    assert!(why["error"].as_str().unwrap().contains("matches everything"), "{why}");
    // A box that was away continues where it was, and does nothing twice.
    let ended = story.daemon.take().unwrap().stop();
    assert!(ended.contains("client=\"kafka\""), "{ended}");
    broker.purge(&[r#"{"id":"p-5","prefix":"nothing.example/"}"#, r#"{"id":"p-6","surrogate_key":"show"}"#]);
    story.start_daemon();
    story.until("it goes on", PATIENCE, |story| purges(story, "done") == 1);
    assert_eq!([purges(&story, "repeated"), purges(&story, "refused"), errors(&story, "missed")], [1, 0, 0]);
    assert_eq!(body(&story, "/o/show/a"), "/show/a 2");
}

#[test]
#[ignore = "takes minutes: the broker from the Python registry answers slowly while a machine is busy"]
fn a_broker_that_is_away_is_waited_for() {
    let address = free_tcp_port().to_string();
    let Some(mut broker) = Broker::start(Some(&address)) else { return };
    broker.stop();
    let (mut story, _origin) = daemon(&address);
    story.until("the broker is missed", PATIENCE, |story| errors(story, "unreachable") > 0);
    // Players notice nothing of that.
    let report = "?CMCD=br%3D3200%2Csid%3D%22s1%22%2Cot%3Dv";
    assert_eq!(body(&story, &format!("/o/a{report}")), "/a 1");
    assert_eq!(body(&story, &format!("/o/a{report}")), "/a 1");
    story.until("rows wait", PATIENCE, |story| story.metric("qoe_waiting_rows") == 2);
    let port = address.rsplit(':').next().unwrap();
    broker.launch(&["tansu", port]);
    story.until("topics are missed", PATIENCE, |story| errors(story, "no_topic") > 0);
    broker.create();
    broker.purge(&[r#"{"id":"p-1","surrogate_key":"a"}"#]);
    story.until("the purge is done", PATIENCE, |story| purges(story, "done") == 1);
    assert_eq!(body(&story, &format!("/o/a{report}")), "/a 2");
    story.until("rows are sent", PATIENCE, |story| story.metric("qoe_sent_rows_total") == 3);
    let rows = broker.consume("qoe-metrics", 3);
    let caches: Vec<&str> = rows.iter().map(|it| it["cache"].as_str().unwrap()).collect();
    assert_eq!(caches, ["miss", "hit", "miss"], "{rows:?}");
    // A broker in memory forgets everything when it ends: its topics are others then.
    broker.stop();
    broker.launch(&["tansu", port]);
    broker.create();
    broker.purge(&[r#"{"id":"p-2","surrogate_key":"a"}"#]);
    story.until("the purge of the new topic is done", PATIENCE, |story| purges(story, "done") == 2);
    let log = story.daemon.take().unwrap().stop();
    let lines = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert!((1..=6).contains(&lines("Kafka: there is no topic")), "{log}");
    assert!(lines("reason=\"unreachable\"") <= 9, "{log}");
}

/// The head of the response to a request with a body.
fn send(story: &Story, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> String {
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: box\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    fields.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    let response = raw(story.http, &[head.as_bytes(), b"\r\n", body].concat());
    String::from_utf8(response).unwrap().to_ascii_lowercase()
}

/// What players report, in all the ways that there are, with what they know of their own stalls and starts.
fn play(story: &Story) {
    // Version 1, in queries and in fields.
    let ask = |path: &str, fields: &[(&str, &str)]| {
        assert_eq!(get(story.http, path, fields).unwrap().status, 200);
        std::thread::sleep(Duration::from_millis(30));
    };
    for report in [
        r#"su,sid="v1",cid="film ä",ot=v,br=1200,bl=0"#,
        r#"sid="v1",cid="film ä",ot=v,br=3200,bl=4000,mtp=25400"#,
    ] {
        // As an HTML form encodes it.
        let encoded: String = report
            .bytes()
            .map(|b| match b {
                b' ' => "+".to_owned(),
                b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
                b => format!("%{b:02X}"),
            })
            .collect();
        ask(&format!("/o/film/a?CMCD={encoded}"), &[]);
    }
    let fields = [
        ("CMCD-Session", "sid=\"v1\",cid=\"film x\""),
        ("CMCD-Object", "ot=v,br=800"),
        ("CMCD-Status", "bs"),
    ];
    ask("/o/film/a", &fields);
    // Version 2, by events; one of its requests says the same again.
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let events = [
        ("e=ps,sta=s", 0),
        ("e=ps,sta=p", 1400),
        ("e=ps,sta=r", 9000),
        ("e=ps,sta=p", 9750),
        ("e=t,sta=p,bl=(4000;v 3900;a),br=(3200;v 128;a)", 10_000),
        ("e=rr,rc=200,ttfb=12,ttlb=40,url=\"https://cdn.example/v/1.m4s?token=secret\"", 10_100),
    ];
    let body: String = events
        .iter()
        .enumerate()
        .map(|(sn, (event, at))| format!("{event},cid=\"film\",sid=\"v2\",sn={sn},ts={},v=2\n", now_ms + at))
        .collect();
    for _ in 0..2 {
        // The second time is a player's own, which has got no answer.
        let fields = [("Content-Type", "application/cmcd"), ("User-Agent", "player/2")];
        let response = send(story, "POST", "/-/cmcd", &fields, body.as_bytes());
        assert!(response.starts_with("http/1.1 204"), "{response}");
    }
    let nobody = send(story, "POST", "/-/cmcd", &[], b"e=t,sta=r,v=2\ne=t,sta=r,v=2\n");
    assert!(nobody.starts_with("http/1.1 204"), "{nobody}");
}

/// Rows that [`play`] makes: three requests, six events, two without a session.
const ROWS: usize = 11;

#[test]
fn events_are_posted_by_players() {
    if !has_kafka() {
        return;
    }
    let (mut story, _origin) = daemon("127.0.0.1:9");
    play(&story);
    story.until("rows are made", PATIENCE, |story| story.metric("qoe_rows_total") == ROWS as u64);
    let lost = |story: &Story, reason: &str| story.metric(&format!("qoe_lost_total{{reason=\"{reason}\"}}"));
    assert_eq!([lost(&story, "repeat"), lost(&story, "no_session"), lost(&story, "unreadable")], [6, 2, 0]);
    let asks = [("Origin", "https://p.example"), ("Access-Control-Request-Method", "POST")];
    let preflight = send(&story, "OPTIONS", "/-/cmcd", &asks, b"");
    for part in
        ["http/1.1 204", "access-control-allow-methods: post, options", "access-control-allow-origin: *"]
    {
        assert!(preflight.contains(part), "{part}: {preflight}");
    }
    let long = send(&story, "POST", "/-/cmcd", &[], &vec![b'x'; (256 << 10) + 1]);
    assert!(long.starts_with("http/1.1 413"), "{long}");
    assert_eq!(lost(&story, "too_large"), 1);
    // What waits is sent after a restart too.
    story.until("rows wait", PATIENCE, |story| story.metric("qoe_waiting_rows") == ROWS as u64);
    drop(story.daemon.take());
    story.start_daemon();
    assert_eq!(story.metric("qoe_waiting_rows"), ROWS as u64);
}

#[test]
fn what_players_report_are_the_sums_of_clickhouse() {
    let Some(broker) = Broker::start(None) else { return };
    broker.create();
    let (mut story, _origin) = daemon(&broker.address);
    play(&story);
    story.until("rows are sent", PATIENCE, |story| story.metric("qoe_sent_rows_total") == ROWS as u64);
    let text = broker.client("consume", &["qoe-metrics", &ROWS.to_string()], "");
    assert!(!text.contains("MORE") && !text.contains("secret"), "{text}");
    let python = std::env::var_os("CHDB_PYTHON").unwrap_or_else(|| "python3".into());
    let has_it = Command::new(&python).args(["-c", "import chdb"]).output();
    if !has_it.is_ok_and(|it| it.status.success()) {
        println!("SKIPPED: no chdb (pip install chdb; CHDB_PYTHON names the Python that has it)");
        return;
    }
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/clickhouse/qoe_raw.sql");
    let query = "SELECT session_id, count(), sum(stall_count), sum(stall_ms), sum(startup_ms) > 0, max(content_id), \
                 sum(bytes) > 0, max(bitrate_kbps), max(buffer_ms), countIf(timestamp > now() + 86400) \
                 FROM qoe_raw FINAL GROUP BY session_id ORDER BY session_id";
    let mut chdb = Command::new(python);
    chdb.arg(script()).arg("chdb").arg(schema).arg(query);
    // Twice: what comes again is the same row.
    let output = fed(&mut chdb, format!("{text}{text}").as_bytes());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = "\t2\t0\t0\t0\t\t0\t0\t0\t0\nv1\t3\t1\t0\t1\tfilm ä\t1\t3200\t4000\t0\nv2\t6\t1\t750\t1\tfilm\t0\t3200\t4000\t0\n";
    assert_eq!(said.replace("\\N", "0"), expected, "{}", String::from_utf8_lossy(&output.stderr));
}
