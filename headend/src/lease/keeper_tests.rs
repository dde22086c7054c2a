//! Keepers against a store on loopback: over sockets, in real time.

use std::collections::HashMap as Map;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::lease::core::Lease;
use crate::options::S3;

/// Objects by path: ETag and bytes.
type Objects = Arc<Mutex<Map<String, (u64, Vec<u8>)>>>;

/// With an object of this name it is not a store that answers, but some web server.
const GONE: &str = "gone";

/// A store that keeps conditions, or not. Its clients are served in turn, each by a thread.
struct FakeStore {
    address: SocketAddr,
    objects: Objects,
    /// Most tables that were asked for at the same time.
    most_at_once: Arc<AtomicUsize>,
}

impl FakeStore {
    fn start(keeps_conditions: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, objects) = (listener.local_addr().unwrap(), Objects::default());
        let shared = Arc::clone(&objects);
        let [at_once, most_at_once] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let highest = Arc::clone(&most_at_once);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (objects, at_once, highest) =
                    (Arc::clone(&shared), Arc::clone(&at_once), Arc::clone(&highest));
                let reads_table = move || {
                    highest.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(20));
                    at_once.fetch_sub(1, Ordering::SeqCst);
                };
                std::thread::spawn(move || serve(&stream, &objects, keeps_conditions, &reads_table));
            }
        });
        Self { address, objects, most_at_once }
    }

    fn options(&self, node: &str) -> Options {
        let s3 = S3 {
            endpoint: Some(format!("http://{}", self.address)),
            anonymous: true,
            list_every_s: 1,
            ..S3::default()
        };
        Options {
            url: "s3://bkt/l/".to_owned(),
            node: node.to_owned(),
            duration_ms: 1200,
            renewal_ms: 100,
            s3: Some(s3),
        }
    }

    fn put(&self, name: &str, bytes: Vec<u8>) {
        self.objects.lock().unwrap().insert(format!("/bkt/l/{name}"), (fastrand::u64(..), bytes));
    }

    fn names(&self) -> Vec<String> {
        let mut all: Vec<String> = self.objects.lock().unwrap().keys().cloned().collect();
        all.sort();
        all
    }
}

fn serve(stream: &TcpStream, objects: &Objects, keeps_conditions: bool, reads_table: &dyn Fn()) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let (mut condition, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "if-match" | "if-none-match" => condition = Some(value.to_owned()),
                _ => {}
            }
        }
        let mut content = vec![0; length];
        reader.read_exact(&mut content).unwrap();
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap().to_owned());
        if method == "GET" && path.contains("/tables/") {
            reads_table();
        }
        let mut objects = objects.lock().unwrap();
        let tag = objects.get(&path).map(|it| format!("\"{:x}\"", it.0));
        let holds = match condition.as_deref() {
            Some("*") => tag.is_none(),
            wanted => wanted.is_none() || tag.as_deref() == wanted,
        };
        let (status, body) = match method {
            "PUT" if objects.contains_key(&format!("/bkt/l/{GONE}")) => {
                ("404 Not Found", b"<html/>".to_vec())
            }
            "PUT" if !holds && keeps_conditions => ("412 Precondition Failed", Vec::new()),
            "PUT" => {
                objects.insert(path.clone(), (fastrand::u64(..), content));
                ("200 OK", Vec::new())
            }
            "DELETE" => {
                objects.remove(&path);
                ("204 No Content", Vec::new())
            }
            _ => match objects.get(&path) {
                Some((_, bytes)) => ("200 OK", bytes.clone()),
                None => ("404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
            },
        };
        let tag = objects.get(&path).map(|it| format!("ETag: \"{:x}\"\r\n", it.0)).unwrap_or_default();
        drop(objects);
        let head = format!("HTTP/1.1 {status}\r\n{tag}Content-Length: {}\r\n\r\n", body.len());
        let mut out = stream;
        if out.write_all(head.as_bytes()).and_then(|()| out.write_all(&body)).is_err() {
            return;
        }
    }
}

fn until(what: &str, is_done: impl Fn() -> bool) {
    let begin_ns = boot_ns();
    while !is_done() {
        assert!(boot_ns() - begin_ns < 30_000_000_000, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn state(name: &str, table: Option<&str>) -> State {
    let session = record::SessionState {
        name: name.to_owned(),
        table: table.map(str::to_owned),
        ..record::SessionState::default()
    };
    State { sessions: vec![session], ..State::default() }
}

#[test]
fn a_store_that_lets_two_writers_win_is_found_out() {
    let (good, bad) = (FakeStore::start(true), FakeStore::start(false));
    assert_eq!(look(&good.options("a")), StoreLook::Fine);
    assert!(good.names().is_empty(), "the look leaves nothing");
    let StoreLook::Unconditional(what) = look(&bad.options("a")) else { panic!() };
    assert!(what.contains("two writers win `If-None-Match: *`") && what.contains("s3://bkt/l/"), "{what}");
    let shared = start(&bad.options("a")).unwrap();
    until("it is found at a start", || shared.broken().is_some());
    assert!(shared.active().is_none());
    assert_eq!(shared.failures.get(LeaseFailure::Unconditional), 1);
    let away = Options {
        s3: Some(S3 { endpoint: Some("http://127.0.0.1:9".to_owned()), ..good.options("a").s3.unwrap() }),
        ..good.options("a")
    };
    assert!(
        matches!(look(&away), StoreLook::Failed { what, fix } if what.contains("s3://bkt/l/") && !fix.is_empty())
    );
}

#[test]
fn what_one_headend_has_told_the_next_one_finds_tables_included() {
    let store = FakeStore::start(true);
    let first = start(&store.options("a")).unwrap();
    until("a is active", || first.active() == Some(1));
    let found = first.found(1).unwrap();
    assert!(found.state.sessions.is_empty() && !first.may_send(), "nothing is adopted");
    for (adopted, may) in [(Some(2), false), (None, false), (Some(1), true)] {
        first.adopt(adopted);
        assert_eq!(first.may_send(), may);
    }
    for (number, table) in [(1, "tables/1-1"), (2, "tables/1-2")] {
        let content = format!("of table {number}");
        first.upload(Upload { session: 0, name: table.to_owned(), content });
        until("the table is written", || first.take_written() == [(0, table.to_owned())]);
        first.publish(number, 2, state("of another generation", None), true);
        std::thread::sleep(Duration::from_millis(150));
        assert_ne!(first.confirmed().map(|it| it.0), Some(number));
        first.publish(number, 1, state("s", Some(table)), true);
        until("the state is written", || first.confirmed().is_some_and(|it| it.0 == number));
    }
    until("the table before is removed", || store.names() == ["/bkt/l/lease.json", "/bkt/l/tables/1-2"]);
    let second = start(&store.options("b")).unwrap();
    until("b sees a", || second.view().holder.as_deref() == Some("a"));
    let view = second.view();
    assert_eq!((view.role, view.generation, view.takeovers), (LeaseRole::Standby, 1, 0));
    std::thread::sleep(Duration::from_millis(1500));
    assert!(first.may_send() && second.active().is_none(), "renewed, for longer than its duration");
    // With the last state the lease is given back.
    let last = State { wall_ms: 77, ..state("s", Some("tables/1-2")) };
    first.publish(3, 1, last.clone(), false);
    first.leave();
    assert!(!first.may_send() && first.active().is_none(), "at once");
    until("b is active", || second.active() == Some(2));
    let found = second.found(2).unwrap();
    assert_eq!(*found.state, last);
    assert_eq!(found.tables["tables/1-2"], "of table 2");
    until("a has ended", || first.has_left());
    assert_eq!(second.view().takeovers, 1);
}

#[test]
fn tables_that_wait_are_bounded_and_those_that_find_no_place_are_tried_again() {
    let (uploads, mut waiting) = channel(MAX_WAITING_TABLES);
    let shared = Shared::new("a", uploads);
    let upload = |session| shared.upload(Upload { session, name: "t".to_owned(), content: String::new() });
    (0..MAX_WAITING_TABLES).for_each(upload);
    assert!(shared.take_written().is_empty());
    upload(77);
    assert_eq!(shared.take_written(), [(77, String::new())], "as one that could not be written");
    assert_eq!(shared.failures.get(LeaseFailure::Table), 1);
    assert!(waiting.try_recv().is_ok());
    upload(78);
    assert!(shared.take_written().is_empty());
}

#[test]
fn a_standby_reads_more_tables_than_requests_may_run() {
    let store = FakeStore::start(true);
    let lease =
        Lease { holder: Some(Holder { node: "x".to_owned(), instance: 1 }), generation: 4, sequence: 9 };
    let names: Vec<String> = (0..=2 * MAX_TABLE_REQUESTS).map(|at| format!("tables/4-{at}")).collect();
    for name in &names {
        store.put(name, b"content".to_vec());
    }
    let sessions = names.iter().map(|name| state("s", Some(name)).sessions.remove(0)).collect();
    store.put("lease.json", record::write(&lease, &State { sessions, ..State::default() }));
    let shared = start(&store.options("a")).unwrap();
    until("it takes over", || shared.active() == Some(5));
    let found = shared.found(5).unwrap();
    assert!(names.iter().all(|name| found.tables.contains_key(name)), "{:?}", found.tables.keys());
    let most = store.most_at_once.load(Ordering::SeqCst);
    assert!((1..=MAX_TABLE_REQUESTS).contains(&most), "{most} at once");
}

#[test]
fn a_state_is_as_old_as_its_first_reading() {
    let store = FakeStore::start(true);
    let lease =
        Lease { holder: Some(Holder { node: "x".to_owned(), instance: 1 }), generation: 4, sequence: 9 };
    store.put("lease.json", record::write(&lease, &state("s", None)));
    let shared = start(&store.options("a")).unwrap();
    until("it takes over", || shared.active() == Some(5));
    let age_ms = (boot_ns() - shared.found(5).unwrap().read_ns) / 1_000_000;
    assert!(age_ms >= 1200, "{age_ms} ms: it has been read for the whole duration");
}

#[test]
fn an_endpoint_that_is_no_store_is_not_taken_for_one_without_conditions() {
    let store = FakeStore::start(true);
    store.put(GONE, Vec::new());
    let StoreLook::Failed { what, .. } = look(&store.options("a")) else {
        panic!("{:?}", look(&store.options("a")))
    };
    assert!(what.contains("s3://bkt/l/"), "{what}");
}

#[test]
fn a_document_or_table_that_is_too_long_is_not_read() {
    let store = FakeStore::start(true);
    store.put("lease.json", vec![b' '; MAX_DOCUMENT_BYTES + 1]);
    let shared = start(&store.options("a")).unwrap();
    until("it is refused", || shared.failures.get(LeaseFailure::Unreadable) > 0);
    store.put("lease.json", b"{}".to_vec());
    let before = shared.failures.get(LeaseFailure::Unreadable);
    until("so is what is not a lease", || shared.failures.get(LeaseFailure::Unreadable) > before + 1);
    assert!(shared.active().is_none());
    let other = Holder { node: "x".to_owned(), instance: 1 };
    let lease = Lease { holder: Some(other), generation: 4, sequence: 9 };
    store.put("tables/4-1", vec![b' '; MAX_TABLE_BYTES + 1]);
    store.put("lease.json", record::write(&lease, &state("s", Some("tables/4-1"))));
    until("the table is refused", || shared.failures.get(LeaseFailure::Table) > 0);
    until("it takes over without", || shared.active() == Some(5));
    assert!(shared.found(5).unwrap().tables.is_empty());
}
