//! Time limits towards origins, and slow bodies, by every version of HTTP.

use bytes::Buf as _;

use super::http3::{Secured, ask, block_on, client, speak};
use super::*;

/// An address at which connections are begun and never there: the queue of its listener is full.
fn unreachable() -> (SocketAddr, Vec<socket2::Socket>) {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut all = vec![listener];
    for _ in 0..4 {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        let _ = filler.connect(&address);
        all.push(filler);
    }
    sleep(Duration::from_millis(100));
    (address.as_socket().unwrap(), all)
}

#[test]
fn a_route_has_its_own_time_to_connect_and_takes_over_another() {
    let origin = Scripted::start(|_: &Asked| answer(200, &[], b"here"));
    let (address, _full) = unreachable();
    let lines = |connect_ms: u32| {
        format!(
            "[[route]]\npath = \"/far/\"\nbase = \"http://{address}/\"\ntimeouts = {{ connect_ms = {connect_ms} }}\n"
        )
    };
    let mut story = before(&origin, &lines(300));
    let took = |story: &Story, path: &str| {
        let began = Instant::now();
        let response = fetch(story.http, path, &[]);
        assert!(matches!(response.status, 502 | 504), "{}", response.status);
        began.elapsed()
    };
    let first = took(&story, "/far/1.ts");
    assert!(first >= Duration::from_millis(300), "{first:?}");
    assert_eq!(fetch(story.http, "/o/1.ts", &[]).status, 200);
    story.daemon_extra = story.daemon_extra.replace(&lines(300), &lines(2500));
    story.daemon_config();
    story.daemon.as_ref().unwrap().signal("HUP");
    // After five failures its circuit would be open.
    let mut later = Duration::ZERO;
    for number in 2..5 {
        sleep(Duration::from_millis(500));
        later = took(&story, &format!("/far/{number}.ts"));
        if later >= Duration::from_millis(2500) {
            break;
        }
    }
    assert!(later >= Duration::from_millis(2500), "{later:?}, and {first:?} before");
}

/// Six pieces of a body, one each half a second.
fn slow_stream() -> Vec<Step> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut steps = vec![Step::Send(head.as_bytes().to_vec())];
    for number in 0..6 {
        steps.push(Step::Send(format!("3\r\n{number};\n\r\n").into_bytes()));
        steps.push(Step::Wait(Duration::from_millis(500)));
    }
    steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
    steps
}

#[test]
fn a_slow_stream_comes_piece_by_piece_in_http2_and_http3() {
    if !have("openssl") || !have("curl") {
        return;
    }
    let origin = Scripted::start(|_: &Asked| slow_stream());
    let secured = Secured::before(&origin, "");
    // The first piece is there long before the last one.
    let mut curl = Command::new("curl");
    curl.args(["-sk", "--http2", "-w", " %{http_version} %{time_starttransfer} %{time_total}"]);
    let output = curl.arg(format!("https://{}/o/events", secured.address)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, figures) = text.rsplit_once("\n ").unwrap();
    assert_eq!(body, "0;\n1;\n2;\n3;\n4;\n5;");
    let figures: Vec<f64> = figures.split(' ').map(|it| it.parse().unwrap()).collect();
    assert!(figures[0] > 1.5 && figures[2] >= 2.5 && figures[1] + 1.5 < figures[2], "{figures:?}");

    block_on(async {
        let client = client(&secured.certificate);
        let mut requests = speak(secured.connect(&client).await).await;
        let request = http::Request::get("https://localhost/o/more-events").body(()).unwrap();
        let mut stream = requests.send_request(request).await.unwrap();
        stream.finish().await.unwrap();
        let began = Instant::now();
        assert_eq!(stream.recv_response().await.unwrap().status(), 200);
        let (mut all, mut first) = (Vec::new(), None);
        while let Some(mut piece) = stream.recv_data().await.unwrap() {
            first.get_or_insert_with(|| began.elapsed());
            all.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
        }
        let (first, last) = (first.unwrap(), began.elapsed());
        assert_eq!(all, b"0;\n1;\n2;\n3;\n4;\n5;\n");
        assert!(last >= Duration::from_millis(2500) && first + Duration::from_millis(1500) < last);
    });
}

#[test]
fn http3_is_spoken_at_every_address_of_tls() {
    if !have("openssl") {
        return;
    }
    let origin = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], b"x"));
    let folder = tempfile::tempdir().unwrap();
    let addresses = [free_tcp_port(), free_tcp_port(), free_tcp_port()];
    let (certificate, tls) = certificate_in(folder.path(), addresses[0]);
    let list = addresses.map(|it| format!("\"{it}\"")).join(", ");
    let tls = tls.replace(&format!("\"{}\"", addresses[0]), &format!("[{list}]"));
    let _story = before(&origin, &tls);
    block_on(async {
        let client = client(&certificate);
        for address in addresses {
            let connection = client.connect(address, "localhost").unwrap().await.unwrap();
            let mut requests = speak(connection).await;
            let (status, fields, body) = ask(&mut requests, Method::GET, "/o/x", &[], b"").await.unwrap();
            assert_eq!((status, body.as_slice()), (200, b"x".as_slice()), "{address}");
            assert!(!fields.contains_key("alt-svc"), "who is here knows");
        }
    });
    let mut stream = connect_tls(addresses[1], &certificate);
    stream.write_all(b"GET /o/x HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n").unwrap();
    let mut head = String::new();
    let _ = stream.read_to_string(&mut head);
    let ports = addresses.map(|it| format!("h3=\":{}\"; ma=86400", it.port())).join(", ");
    assert!(head.contains(&format!("alt-svc: {ports}\r\n")), "{head}");
}

#[test]
fn what_an_origin_says_of_an_idle_connection_is_not_of_the_request() {
    let origin = Scripted::start(|asked: &Asked| match (asked.path.as_str(), asked.time) {
        ("/late", 1) => {
            let mut steps = answer(408, &[("Connection", "close")], b"");
            steps.push(Step::Close);
            steps
        }
        ("/always", _) => answer(408, &[], b"too slow"),
        _ => answer(200, &[("Cache-Control", "no-store")], b"here"),
    });
    let story = before(&origin, "");
    assert_eq!(fetch(story.http, "/o/first", &[]).status, 200);
    let again = fetch(story.http, "/o/late", &[]);
    assert_eq!((again.status, again.body.as_slice()), (200, b"here".as_slice()));
    assert_eq!(origin.asked("/late").len(), 2);
    // What it says a second time is meant.
    assert_eq!(fetch(story.http, "/o/always", &[]).status, 408);
}

#[test]
fn radio_servers_answer_in_a_version_of_their_own() {
    let origin = Scripted::start(|_: &Asked| {
        let head = b"ICY 200 OK\r\nicy-name: Radio\r\nicy-metaint: 8192\r\nContent-Type: audio/mpeg\r\n\r\n";
        vec![Step::Send(head.to_vec()), Step::Send(vec![7; 5000]), Step::Close]
    });
    let story = before(&origin, "");
    for _ in 0..2 {
        let heard = fetch(story.http, "/o/radio", &[("icy-metadata", "1")]);
        assert_eq!((heard.status, heard.body.len()), (200, 5000));
        assert_eq!((heard.header("icy-name"), heard.header("content-type")), ("Radio", "audio/mpeg"));
    }
}

#[test]
fn an_international_host_is_one_in_every_spelling() {
    let origin = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], b"x"));
    let address = origin.address();
    let mut story = Story::new();
    story.daemon_extra =
        format!("[[origin]]\nhost = \"xn--bcher-kva.example\"\nurl = \"http://{address}\"\n");
    story.start_daemon();
    for path in [
        "/b%C3%BCcher.example/v/1.ts",
        "/xn--bcher-kva.example/v/1.ts",
        "/XN--BCHER-KVA.example/v/1.ts",
        "/B%c3%9ccher.example:443/v/1.ts",
    ] {
        assert_eq!(fetch(story.http, path, &[]).status, 200, "{path}");
    }
    assert_eq!(origin.asked("/v/1.ts").len(), 1);
}
