//! Two headends with one carousel and a lease in a bucket: effects on a receiver when the active one is killed, suspended, or
//! ends. Properties of the lease are tested in virtual time; only this shows that packets of two processes are one carousel for a
//! box, and that a suspended process sends not a single packet more.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use carousel::alc::Packet;
use carousel::lct::ext::Fdt;
use serde_json::Value;
use skycache_tests::programs::{Program, program};
use skycache_tests::relay::receiving;
use skycache_tests::{Story, get, media};

use super::buckets::{SECRET, Store};
use super::live_channels::Packager;

const PATIENCE: Duration = Duration::from_secs(60);
/// A takeover, on a machine that has much else to do. It is measured and printed; two seconds are promised.
const TAKEOVER: Duration = Duration::from_secs(8);

/// Group and TSI.
type Session = (SocketAddrV4, u64);
/// Symbols of an FDT Instance by number.
type Symbols = BTreeMap<u16, Vec<u8>>;

/// A packet as any receiver gets it.
struct Seen {
    at: Instant,
    /// Port of the sender: one for each process.
    port: u16,
    session: Session,
    toi: u128,
    /// Number of the symbol in its block.
    symbol: u16,
    /// Of a packet of an FDT Instance: its ID.
    instance: Option<u32>,
    body: Vec<u8>,
}

/// Everything that is sent to some groups.
struct Capture {
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Capture {
    fn start(groups: &[SocketAddrV4]) -> Self {
        let (seen, stop) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<AtomicBool>::default());
        let threads = groups.iter().map(|&group| {
            let socket = receiving(group).unwrap();
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut buffer = [0; 2048];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                    let packet = Packet::parse(&buffer[..length]).unwrap();
                    assert!(
                        !packet.lct.close_session,
                        "a session is closed though another headend goes on with it"
                    );
                    let (tsi, toi) = (packet.lct.tsi.unwrap().0, packet.lct.toi.unwrap().0);
                    let instance = packet.fdt.map(|fdt| Fdt::parse(fdt).unwrap().instance_id);
                    let symbol = packet.body.get(2..4).map_or(0, |it| u16::from_be_bytes([it[0], it[1]]));
                    let (at, port, body) = (Instant::now(), from.port(), packet.body.to_vec());
                    let session = (group, tsi);
                    seen.lock().unwrap().push(Seen { at, port, session, toi, symbol, instance, body });
                }
            })
        });
        let threads = threads.collect();
        Self { seen, stop, threads }
    }

    /// Ports of the senders, in the order in which each sent first.
    fn senders(&self) -> Vec<u16> {
        let mut ports = Vec::new();
        for it in self.seen.lock().unwrap().iter() {
            if !ports.contains(&it.port) {
                ports.push(it.port);
            }
        }
        ports
    }

    /// First and last packet of a sender.
    fn span(&self, port: u16) -> (Instant, Instant) {
        let seen = self.seen.lock().unwrap();
        let mut own = seen.iter().filter(|it| it.port == port).map(|it| it.at);
        let first = own.next().unwrap();
        (first, own.next_back().unwrap_or(first))
    }

    fn stop(mut self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|it| it.join().unwrap());
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// Names and digests of the files in each FDT Instance, by session and TOI, are the same in all of them; the instances' IDs only
/// grow. Counts the objects.
fn is_one_carousel(seen: &[Seen]) -> usize {
    let mut last: HashMap<Session, u32> = HashMap::new();
    let mut open: HashMap<(Session, u32), Symbols> = HashMap::new();
    for it in seen {
        let Some(id) = it.instance else { continue };
        let highest = last.entry(it.session).or_insert(id);
        // Pages are repeated under their IDs; a new one is above all before.
        let is_known = open.contains_key(&(it.session, id));
        assert!(is_known || id >= *highest, "{:?}: FDT Instance {id} after {highest}", it.session);
        *highest = id.max(*highest);
        let symbols = open.entry((it.session, id)).or_default();
        let symbol = symbols.entry(it.symbol).or_insert_with(|| it.body[4..].to_vec());
        assert_eq!(*symbol, it.body[4..], "{:?}: two FDT Instances {id}", it.session);
    }
    let mut files: BTreeMap<(Session, String), String> = BTreeMap::new();
    for ((session, _), symbols) in open {
        let text = String::from_utf8(symbols.into_values().flatten().collect()).unwrap();
        for file in text.split("<File ").skip(1) {
            let of =
                |name: &str| file.split(&format!("{name}=\"")).nth(1).and_then(|it| it.split('"').next());
            let (Some(toi), Some(location), Some(md5)) =
                (of("TOI"), of("Content-Location"), of("Content-MD5"))
            else {
                continue;
            };
            let what = format!("{location} {md5}");
            let known = files.entry((session, toi.to_owned())).or_insert_with(|| what.clone());
            assert_eq!(*known, what, "TOI {toi} of {session:?} is two objects");
        }
    }
    files.len()
}

/// A headend with a configuration of its own.
struct Node {
    name: &'static str,
    config: PathBuf,
    program: Program,
}

impl Node {
    fn start(name: &'static str, text: &str, dir: &Path, number: u32) -> Self {
        let config = dir.join(format!("{name}.toml"));
        std::fs::write(&config, text.replace("NODE", name)).unwrap();
        let mut command = program("headend");
        command.args(["send", "-c"]).arg(&config);
        let log = dir.join(format!("{name}-{number}.log"));
        Self { name, config, program: Program::start(command, &log).unwrap() }
    }

    fn lease(&self) -> Value {
        let output = program("headend").args(["status", "--json", "-c"]).arg(&self.config).output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        status["lease"].clone()
    }

    fn until(&self, role: &str) {
        let begin = Instant::now();
        while self.lease()["role"] != role {
            assert!(begin.elapsed() < PATIENCE, "{} is not {role}: {}", self.name, self.program.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn wait_until(what: &str, mut is_done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_done() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_box_sees_one_carousel_when_the_active_headend_is_killed_stopped_or_ended() {
    let Some(store) = Store::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let film = folder.path().join("films");
    std::fs::create_dir(&film).unwrap();
    // Each takes the link four seconds.
    media::many(&film, 5, 4_000_000);
    let packager = Packager::start(&folder.path().join("live"));
    let mut story = Story::of(&film);
    let credentials = story.dir().join("s3.credentials");
    std::fs::write(
        &credentials,
        format!("[default]\naws_access_key_id = story\naws_secret_access_key = {SECRET}\n"),
    )
    .unwrap();
    story.headend_extra = format!(
        "[[source]]\npath = {:?}\nbase = \"https://cdn.example.com/vod/live/\"\nreserved_bps = 2_000_000\n\
         [lease]\nurl = \"s3://films/lease/\"\nnode = \"NODE\"\n[lease.s3]\nendpoint = \"{}\"\ncredentials_file = {credentials:?}\n",
        packager.folder.display().to_string(),
        store.url,
    );
    let text = std::fs::read_to_string(story.headend_config()).unwrap();
    let [announcement, configuration, media_group] = story.groups;
    let live_group =
        SocketAddrV4::new(Ipv4Addr::from_bits(media_group.ip().to_bits() + 1), media_group.port());
    let capture = Capture::start(&[announcement, configuration, media_group, live_group]);
    let dir = story.dir().to_path_buf();

    let a = Node::start("a", &text, &dir, 1);
    a.until("active");
    let check = program("headend").args(["check", "-c"]).arg(&a.config).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains("s3://films/lease/ keeps the conditions of writes; this headend is a"), "{said}");
    story.start_daemon();
    let b = Node::start("b", &text, &dir, 1);
    wait_until("b sees a", || b.lease()["holder"] == "a");
    assert_eq!((b.lease()["role"].as_str(), capture.senders().len()), (Some("standby"), 1));
    let first_port = capture.senders()[0];
    story.until("a film has come", PATIENCE, |story| story.held() > 1);

    // Killed while films and a live channel are on the air.
    let killed = Instant::now();
    a.program.signal("KILL");
    wait_until("b sends", || capture.senders().len() > 1);
    let second_port = capture.senders()[1];
    let (_, last_of_a) = capture.span(first_port);
    let (first_of_b, _) = capture.span(second_port);
    println!(
        "killed: {:?} from the kill to the first packet of the other, {:?} without a packet",
        first_of_b - killed,
        first_of_b - last_of_a
    );
    assert!(first_of_b - killed < TAKEOVER && first_of_b > last_of_a);
    {
        let is_film = |it: &&Seen| it.session.0 == media_group && it.instance.is_none();
        let has_film = || {
            let seen = capture.seen.lock().unwrap();
            seen.iter().filter(is_film).any(|it| it.port == second_port)
        };
        wait_until("b sends films", has_film);
        let seen = capture.seen.lock().unwrap();
        let of_a: Vec<&Seen> = seen.iter().filter(is_film).filter(|it| it.port == first_port).collect();
        let of_b = seen.iter().filter(is_film).find(|it| it.port == second_port).unwrap();
        // What it begins with follows on a packet of the other one, as far back as the state was old.
        let is_before =
            |it: &&Seen| (it.session, it.toi, it.symbol + 1) == (of_b.session, of_b.toi, of_b.symbol);
        let back = of_a.iter().rev().position(is_before);
        let back =
            back.unwrap_or_else(|| panic!("TOI {}, symbol {} follows on nothing", of_b.toi, of_b.symbol));
        println!("killed: films go on {back} packets before the end of the other");
        assert!(back < 600, "what is sent between two renewals is less, a film is 2,900");
    }
    b.until("active");
    assert_eq!(b.lease()["generation"], 2);
    story.until("every film has come", PATIENCE, |story| story.held() == media::files(&film).len());

    // Stands still for longer than its lease lasts.
    let a = Node::start("a", &text, &dir, 2);
    wait_until("a sees b", || a.lease()["holder"] == "b");
    let stopped = Instant::now();
    b.program.signal("STOP");
    wait_until("a sends", || capture.senders().len() > 2);
    let third_port = capture.senders()[2];
    let (first_of_a, _) = capture.span(third_port);
    println!("stopped: {:?} to the first packet of the other", first_of_a - stopped);
    b.program.signal("CONT");
    b.until("standby");
    wait_until("b has seen a", || b.lease()["holder"] == "a");
    std::thread::sleep(Duration::from_secs(1));
    let (_, last_of_b) = capture.span(second_port);
    assert!(last_of_b < first_of_a, "it sent {:?} after the other had begun", last_of_b - first_of_a);

    // Ends, and gives its lease back.
    let ended = Instant::now();
    let log = a.program.stop();
    wait_until("b sends again", || capture.span(second_port).1 > ended);
    let gap = {
        let seen = capture.seen.lock().unwrap();
        seen.iter().find(|it| it.port == second_port && it.at > ended).unwrap().at - ended
    };
    println!("ended: {gap:?} to the first packet of the other");
    assert!(!log.contains(SECRET), "{log}");

    // The newest live segment is there, and each film is what it was.
    let playlist = |story: &Story| {
        let answer = get(story.http, "/cdn.example.com/vod/live/live.m3u8", &[]);
        answer.ok().filter(|it| it.status == 200).map(|it| String::from_utf8(it.body).unwrap())
    };
    let number = |text: &str| {
        text.lines().filter_map(|it| it.strip_prefix('v')?.strip_suffix(".m4s")?.parse().ok()).max()
    };
    let newest: u64 = playlist(&story).as_deref().and_then(number).unwrap();
    story.until("live goes on", PATIENCE, |story| {
        let now: Option<u64> = playlist(story).as_deref().and_then(number);
        now.is_some_and(|now| {
            let segment = get(story.http, &format!("/cdn.example.com/vod/live/v{now}.m4s"), &[]);
            now > newest + 3 && segment.is_ok_and(|it| it.status == 200)
        })
    });
    let comparison = story.compare();
    assert!(comparison.wrong.is_empty() && comparison.missing.is_empty(), "{comparison}");
    for reason in ["oti_changed", "outdated", "fdt_unreadable", "bad_payload_id", "outside_object"] {
        let name = format!("receive_dropped_packets_total{{reason=\"{reason}\"}}");
        assert_eq!(story.metric(&name), 0, "{reason}");
    }
    let objects = is_one_carousel(&capture.stop());
    assert!(objects > 20, "{objects} objects");
}
