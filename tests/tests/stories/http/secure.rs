//! TLS, HTTP/2 and HTTP/3.

use super::*;

#[test]
fn http2_over_tls_and_a_new_certificate_without_a_restart() {
    if !have("openssl") || !have("curl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let make = |name: &str| {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj"])
            .arg(format!("/CN={name}"));
        let made = openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    make("first.example");
    let port = free_tcp_port();
    let origin = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], &[9; 300_000]));
    let tls = format!("[http.tls]\nlisten = \"{port}\"\ncertificate = {certificate:?}\nkey = {key:?}\n");
    let story = before(&origin, &tls);
    let curl = |more: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-sk", "-o", "/dev/null", "-w", "%{http_version} %{http_code} %{size_download}"])
            .args(more);
        String::from_utf8(curl.arg(format!("https://{port}/o/1.m4s")).output().unwrap().stdout).unwrap()
    };
    for _ in 0..2 {
        assert_eq!(curl(&["--http2"]), "2 200 300000");
        assert_eq!(curl(&["--http1.1"]), "1.1 200 300000");
    }
    assert_eq!(curl(&["--http2", "-r", "5-9"]), "2 206 5");
    assert_eq!(origin.asked("/1.m4s").len(), 1, "one cache behind both doors");
    let subject = || {
        let line = format!("echo | openssl s_client -connect {port} 2>/dev/null | grep ^subject");
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().replace([' ', '\n'], "")
    };
    assert!(subject().ends_with("CN=first.example"), "{}", subject());
    make("second.example");
    let until = Instant::now() + Duration::from_secs(30);
    while !subject().ends_with("CN=second.example") {
        assert!(Instant::now() < until, "{}", subject());
        sleep(Duration::from_millis(500));
    }
    // Operators see the one in force.
    let seen = &story.status().unwrap()["certificates"];
    assert_eq!(
        (&seen[0]["listener"], &seen[0]["subject"]),
        (&"http.tls".into(), &"CN=second.example".into()),
        "{seen:#}"
    );
    let days = seen[0]["days_left"].as_i64().unwrap();
    assert!((0..=2).contains(&days) && seen.as_array().unwrap().len() == 1, "{seen:#}");
    assert!(story.metric("certificate_expires_seconds{listener=\"http.tls\"}") > 1_700_000_000);
}

/// Frames of HTTP/2 on a TLS connection, written as they are.
pub(super) struct Frames<S> {
    pub(super) stream: S,
}

impl<S: Read + Write> Frames<S> {
    pub(super) fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame)
    }

    /// Reads on to the first RST_STREAM: its stream and its code.
    fn first_reset(&mut self) -> (u32, u32) {
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).expect("a frame");
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            self.stream.read_exact(&mut payload).expect("its payload");
            if head[3] == 3 {
                let word = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
                return (word(&head[5..]), word(&payload));
            }
        }
    }

    /// Code of the server's GOAWAY, if there was one.
    fn last_words(&mut self) -> Option<u32> {
        let (mut all, mut code) = (Vec::new(), None);
        let _ = self.stream.read_to_end(&mut all);
        let mut rest = all.as_slice();
        while let Some((head, more)) = rest.split_at_checked(9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let Some((payload, more)) = more.split_at_checked(length) else { break };
            if head[3] == 7 {
                code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
            rest = more;
        }
        code
    }
}

/// A connection on which HTTP/2 has begun.
pub(super) fn http2(server: SocketAddr, certificate: &Path) -> Frames<impl Read + Write> {
    let mut frames = Frames { stream: connect_tls_as(server, certificate, b"h2") };
    frames.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    frames.write(4, 0, 0, &[]).unwrap();
    frames
}

/// GET of a path, in HPACK without a dynamic table.
pub(super) fn get_of(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x87, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(b"\x01\x09localhost");
    block
}

#[test]
fn floods_of_http2_frames_end_their_own_connection() {
    if !have("openssl") || !have("curl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let secure = free_tcp_port();
    let (certificate, tls) = certificate_in(folder.path(), secure);
    let log = folder.path().join("access.log");
    let origin = Scripted::start(|asked: &Asked| match asked.path.as_str() {
        "/slow" => vec![Step::Wait(Duration::from_secs(20))],
        _ => answer(200, &[("Cache-Control", "max-age=60")], &[5; 50_000]),
    });
    let story = before(&origin, &format!("{tls}[http.access_log]\npath = {log:?}\n"));
    let check = || {
        let mut curl = Command::new("curl");
        curl.args(["-sk", "--http2", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"]);
        let output = curl.arg(format!("https://{secure}/o/1.m4s")).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "200 50000");
    };
    let floods = || story.metric("http_refused_requests_total{reason=\"flood\"}");
    check();
    // Requests that are taken back at once (Rapid Reset), and such that are taken back a moment later.
    for pause in [Duration::ZERO, Duration::from_millis(2)] {
        let before = floods();
        let mut frames = http2(secure, &certificate);
        for number in 0..3000_u32 {
            let id = number * 2 + 1;
            let mut sent = frames.write(1, 0x5, id, &get_of("/o/slow"));
            sleep(pause);
            sent = sent.and_then(|()| frames.write(3, 0, id, &8_u32.to_be_bytes()));
            if sent.is_err() {
                break;
            }
        }
        frames.last_words();
        assert!(floods() > before, "{pause:?}");
        check();
    }
    // A head without an end.
    let before = floods();
    let mut frames = http2(secure, &certificate);
    frames.write(1, 0x1, 1, &get_of("/o/1.m4s")).unwrap();
    let field = [&b"\x00\x01x\x7f\x81\x1f"[..], &[b'y'; 4096]].concat();
    let mut count = 0;
    while count < 2000 && frames.write(9, 0, 1, &field[..4000]).is_ok() {
        count += 1;
    }
    let code = frames.last_words();
    assert!(count < 2000 || code.is_some(), "it is not read to its end");
    assert!(floods() > before || story.metric("http_refused_requests_total{reason=\"bad_frames\"}") > 0);
    check();
    // More requests at a time than there may be: those beyond are refused one by one, and the connection continues.
    let mut frames = http2(secure, &certificate);
    for number in 0..200_u32 {
        frames.write(1, 0x5, number * 2 + 1, &get_of("/o/slow")).unwrap();
    }
    let (stream, code) = frames.first_reset();
    assert_eq!((stream, code), (128 * 2 + 1, 7), "REFUSED_STREAM");
    drop(frames);
    // Requests without a path, again and again: each stream is reset, until the connection ends.
    let before = floods();
    let mut frames = http2(secure, &certificate);
    let mut count = 0_u32;
    while count < 2000 && frames.write(1, 0x5, count * 2 + 1, &[0x82, 0x87]).is_ok() {
        count += 1;
    }
    frames.last_words();
    assert!(floods() > before, "after {count} requests");
    check();
    // Frames against the rules.
    let mut frames = http2(secure, &certificate);
    frames.write(0, 0, 0, b"data on the stream of the connection").unwrap();
    assert_eq!(frames.last_words(), Some(1), "PROTOCOL_ERROR");
    assert!(story.metric("http_refused_requests_total{reason=\"bad_frames\"}") > 0);
    // No TLS on the port of TLS; and nothing at all, as health checks do, is not an attempt.
    let handshakes = || story.metric("http_refused_requests_total{reason=\"tls_handshake\"}");
    let before = handshakes();
    drop(TcpStream::connect(secure).unwrap());
    raw(secure, b"GET / HTTP/1.1\r\nHost: b\r\n\r\n");
    assert_eq!(handshakes(), before + 1);
    sleep(Duration::from_millis(1200));
    let log = std::fs::read_to_string(&log).unwrap();
    for words in ["requests are taken back without end", "- TLS: ", "- HTTP/2: "] {
        assert!(log.contains(words), "{words}: {log}");
    }
}
