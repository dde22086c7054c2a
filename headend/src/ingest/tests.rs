use std::io::Read as _;
use std::net::TcpStream;

use super::*;

struct Headend {
    dir: tempfile::TempDir,
    ingest: Ingest,
}

impl Headend {
    fn new(extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = |name: &str, more: &str| {
            format!(
                "[[source]]\npath = \"{name}\"\nbase = \"https://cdn.example.com/{name}/\"\nname = \"{name}\"\nreserved_bps = 1000\n{more}\n"
            )
        };
        let text = format!(
            "[link]\nrate_bps = 8_000_000\n[ingest]\nlisten = \"127.0.0.1:0\"\n{extra}\n{}{}{}",
            source("one", "ingest = true"),
            source("two", "ingest = true"),
            source("closed", "")
        );
        let config = Config::parse(&text, dir.path()).unwrap_or_else(|why| panic!("{why:?}"));
        let ingest = Ingest::start(&config).unwrap().unwrap();
        Self { dir, ingest }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.ingest.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends bytes, ends the sending, and returns the status of the response; 0 if there is none.
    fn send(&self, bytes: &[u8]) -> u16 {
        let mut stream = self.connect();
        // The answer may come before all has been sent.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        status(&mut stream)
    }

    fn put(&self, path: &str, body: &[u8]) -> u16 {
        self.send(&[head("PUT", path, &format!("Content-Length: {}", body.len())), body.to_vec()].concat())
    }

    fn file(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.dir.path().join(path)).ok()
    }

    /// Names of files in the folder of a source.
    fn names(&self, source: &str) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join(source)).unwrap();
        let mut names: Vec<String> =
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn refused(&self, why: IngestRefusal) -> u64 {
        self.ingest.stats().refused(why)
    }
}

fn head(method: &str, path: &str, field: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{field}\r\n\r\n").into_bytes()
}

fn status(stream: &mut TcpStream) -> u16 {
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    let text = String::from_utf8_lossy(&response);
    text.lines().next().and_then(|line| line.split(' ').nth(1)).and_then(|it| it.parse().ok()).unwrap_or(0)
}

const CHUNKED: &str = "Transfer-Encoding: chunked";

#[test]
fn files_are_put_replaced_and_deleted() {
    let headend = Headend::new("");
    assert_eq!(headend.put("/one/v/1.m4s", b"first"), 201);
    assert_eq!(headend.put("/one/v/1.m4s", b"second"), 200);
    assert_eq!(headend.file("one/v/1.m4s").unwrap(), b"second");
    let body = [&head("POST", "/one/a%20b.m4s", CHUNKED)[..], b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"].concat();
    assert_eq!(headend.send(&body), 201);
    assert_eq!(headend.file("one/a b.m4s").unwrap(), b"abcde");
    assert_eq!(headend.send(&head("DELETE", "/one/v/1.m4s", "")), 200);
    assert_eq!(headend.send(&head("DELETE", "/one/v/1.m4s", "")), 404);
    assert_eq!(headend.file("one/v/1.m4s"), None);
    assert_eq!(headend.put("/one/look", b""), 200, "somebody listens");
    assert_eq!(headend.names("one"), ["a b.m4s", "v"]);
    assert!(headend.ingest.stats().to_text().starts_with("ingest: 3 files of 16 bytes, 1 removed"));
}

#[test]
fn what_breaks_off_or_lies_about_its_length_leaves_what_was_there() {
    let headend = Headend::new("silence_ms = 300");
    headend.put("/one/1.m4s", b"good");
    headend.send(&[&head("PUT", "/one/1.m4s", "Content-Length: 10")[..], b"short"].concat());
    headend.send(&[&head("PUT", "/one/1.m4s", CHUNKED)[..], b"5\r\nabcde\r\n"].concat());
    headend.send(&[&head("PUT", "/one/1.m4s", CHUNKED)[..], b"5\r\nabcdefgh\r\n0\r\n\r\n"].concat());
    // Never ends.
    let mut stream = headend.connect();
    stream.write_all(&[&head("PUT", "/one/1.m4s", CHUNKED)[..], b"5\r\nabcde\r\n"].concat()).unwrap();
    assert_eq!(status(&mut stream), 400);
    assert_eq!(headend.refused(IngestRefusal::BrokenOff), 4);
    assert_eq!(headend.names("one"), ["1.m4s"], "nothing is left over");
    assert_eq!(headend.file("one/1.m4s").unwrap(), b"good");
    // Bytes beyond the length are a request of their own, and a malformed one.
    let long = [&head("PUT", "/one/2.m4s", "Content-Length: 3")[..], b"abcdef"].concat();
    headend.send(&long);
    assert_eq!(headend.file("one/2.m4s").unwrap(), b"abc");
    assert_eq!(headend.put("/two/1.m4s", b"beside"), 201);
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    let headend = Headend::new("");
    std::os::unix::fs::symlink("/tmp", headend.dir.path().join("one/link")).unwrap();
    let deep = format!("/one/{}x", "a/".repeat(MAX_DEPTH));
    let long = format!("/one/{}", "x".repeat(MAX_PATH_BYTES + 1));
    let long_name = format!("/one/{}", "x".repeat(LONGEST_NAME_BYTES + 1));
    assert_eq!(headend.put(&long_name[..long_name.len() - 1], b"x"), 201);
    let bad = [
        "/one/../two/1.m4s",
        "/one/%2e%2e/two/1.m4s",
        "/one/..%2Ftwo%2F1.m4s",
        "/one//1.m4s",
        "/one/.hidden",
        "/one/1.m4s.tmp",
        "/one/a%00b",
        "/one/a%5Cb",
        "/one/a%0Ab",
        "/one/",
        "/one/%FF",
        "/one/link/1.m4s",
        &deep,
        &long,
        &long_name,
    ];
    for path in bad {
        assert_eq!(headend.put(path, b"x"), 403, "{path}");
    }
    assert_eq!(headend.refused(IngestRefusal::BadPath), bad.len() as u64);
    for path in ["/closed/1.m4s", "/other/1.m4s", "/1.m4s"] {
        assert_eq!(headend.put(path, b"x"), 404, "{path}");
    }
    assert_eq!(headend.send(&head("GET", "/one/1.m4s", "")), 405);
    assert_eq!(
        (headend.names("one"), headend.names("two").len()),
        (vec!["link".to_owned(), "x".repeat(LONGEST_NAME_BYTES)], 0)
    );
}

#[test]
fn a_token_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, "0123456789abcdef\n").unwrap();
    let headend = Headend::new(&format!("token_file = {:?}", file.display()));
    assert_eq!(headend.put("/one/1.m4s", b"x"), 401);
    for wrong in ["Bearer 0123456789abcdeX", "Bearer 0123456789abcdef0", "Basic 0123456789abcdef", "Bearer "]
    {
        let head = head("PUT", "/one/1.m4s", &format!("Authorization: {wrong}\r\nContent-Length: 1"));
        assert_eq!(headend.send(&[&head[..], b"x"].concat()), 401, "{wrong}");
    }
    let head = head("PUT", "/one/1.m4s", "Authorization: Bearer 0123456789abcdef\r\nContent-Length: 1");
    assert_eq!(headend.send(&[&head[..], b"x"].concat()), 201);
    fs::write(&file, "short").unwrap();
    assert!(read_token(&file).unwrap_err().contains("16 characters"));
    let open = "[link]\nrate_bps = 8_000_000\n[ingest]\nlisten = \"0.0.0.0:0\"\n[[source]]\npath = \"a\"\nbase = \"http://h/\"\n";
    let mistakes = Config::parse(open, dir.path()).unwrap_err();
    assert!(mistakes.iter().any(|it| it.key == "ingest.listen"), "{mistakes:?}");
}

#[test]
fn bytes_and_files_are_bounded_and_a_channel_beside_loses_nothing() {
    let headend = Headend::new("file_bytes = 1000\nsource_bytes = 5000\nsource_files = 20");
    let long = [b'x'; 1001];
    assert_eq!(headend.put("/one/long.m4s", &long), 413);
    let chunked = [&head("PUT", "/one/long.m4s", CHUNKED)[..], b"3e9\r\n", &long, b"\r\n0\r\n\r\n"].concat();
    assert_eq!(headend.send(&chunked), 413, "without saying so");
    let mut answers = std::collections::BTreeMap::new();
    for at in 0..10_000 {
        *answers.entry(headend.put(&format!("/one/{at}.m4s"), b"0123456789")).or_insert(0) += 1;
    }
    assert_eq!(answers, [(201, 20), (507, 9980)].into());
    assert_eq!((headend.refused(IngestRefusal::Full), headend.names("one").len()), (9980, 20));
    assert_eq!(headend.put("/two/1.m4s", b"beside"), 201);
    // Room comes back.
    assert_eq!(headend.put("/one/7.m4s", b"again"), 200);
    assert_eq!(headend.send(&head("DELETE", "/one/7.m4s", "")), 200);
    assert_eq!(headend.put("/one/new.m4s", &[b'x'; 1000]), 201);
    for at in 0..4 {
        headend.send(&head("DELETE", &format!("/one/{at}.m4s"), ""));
        let wanted = if at < 3 { 201 } else { 507 };
        assert_eq!(
            headend.put(&format!("/one/big{at}.m4s"), &[b'x'; 1000]),
            wanted,
            "{at}: 5,000 bytes in all"
        );
    }
}

#[test]
fn of_two_packagers_the_first_brings_a_segment_and_the_other_stands_in_for_it() {
    let headend = Headend::new("");
    let begin = |path: &str, bytes: &[u8]| {
        let mut stream = headend.connect();
        let size = format!("{:x}\r\n", bytes.len()).into_bytes();
        stream.write_all(&[&head("PUT", path, CHUNKED)[..], &size, bytes, b"\r\n"].concat()).unwrap();
        stream
    };
    let end = |mut stream: TcpStream| {
        stream.write_all(b"0\r\n\r\n").unwrap();
        status(&mut stream)
    };
    let until = |names: &[&str]| {
        let began = std::time::Instant::now();
        while headend.names("one").len() < names.len() && began.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let names_now = headend.names("one");
        assert!(names.iter().all(|name| names_now.iter().any(|it| it.contains(name))), "{names_now:?}");
    };
    // Both write: the first has the name that is followed.
    let first = begin("/one/1.m4s", b"first");
    until(&["1.m4s.tmp"]);
    let second = begin("/one/1.m4s", b"other");
    until(&["1.m4s.tmp", ".1.m4s."]);
    assert_eq!((end(second), end(first)), (200, 201));
    assert_eq!(headend.file("one/1.m4s").unwrap(), b"first");
    // The first breaks off.
    let first = begin("/one/2.m4s", b"first");
    until(&["1.m4s", "2.m4s.tmp"]);
    let second = begin("/one/2.m4s", b"other");
    until(&["1.m4s", "2.m4s.tmp", ".2.m4s."]);
    drop(first);
    let began = std::time::Instant::now();
    while headend.names("one").contains(&"2.m4s.tmp".to_owned()) && began.elapsed() < Duration::from_secs(10)
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(end(second), 201);
    assert_eq!(headend.file("one/2.m4s").unwrap(), b"other");
    assert_eq!(headend.names("one"), ["1.m4s", "2.m4s"]);
}

#[test]
fn connections_beyond_the_limit_wait() {
    let headend = Headend::new("silence_ms = 1000");
    let idle: Vec<TcpStream> = (0..MAX_CONNECTIONS).map(|_| headend.connect()).collect();
    // Its turn comes when the idle ones have been closed.
    assert_eq!(headend.put("/one/1.m4s", b"x"), 201);
    drop(idle);
}
