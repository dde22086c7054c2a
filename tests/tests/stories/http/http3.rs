//! HTTP/3 with a client of the same libraries, and with a foreign one (`aioquic`) if Python has it.

use std::future::Future;

use bytes::{Buf as _, Bytes};
use quinn::crypto::rustls::QuicClientConfig;
use tokio::time::timeout;

use super::*;

pub(super) type Requests = h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>;

/// A response: status, fields, body.
pub(super) type Answer = (u16, http::HeaderMap, Vec<u8>);

pub(super) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(Duration::from_secs(60), work).await.expect("done in a minute") })
}

/// A client that trusts `certificate`, remembers sessions and sends early data.
pub(super) fn client(certificate: &Path) -> quinn::Endpoint {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    tls.enable_early_data = true;
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let crypto = QuicClientConfig::try_from(tls).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    endpoint
}

/// HTTP/3 on a connection. Its driver runs for as long as the runtime does.
pub(super) async fn speak(connection: quinn::Connection) -> Requests {
    let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(connection)).await.unwrap();
    tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
    requests
}

pub(super) async fn ask(
    requests: &mut Requests,
    method: Method,
    path: &str,
    fields: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer, h3::error::StreamError> {
    let mut request = http::Request::builder().method(method).uri(format!("https://localhost{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let mut stream = requests.send_request(request.body(()).unwrap()).await?;
    if !body.is_empty() {
        stream.send_data(Bytes::copy_from_slice(body)).await?;
    }
    stream.finish().await?;
    let response = stream.recv_response().await?;
    let mut all = Vec::new();
    while let Some(mut piece) = stream.recv_data().await? {
        all.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
    }
    Ok((response.status().as_u16(), response.headers().clone(), all))
}

/// A daemon with TLS, HTTP/3 and a log, its certificate, and where it listens.
pub(super) struct Secured {
    pub(super) story: Story,
    folder: tempfile::TempDir,
    pub(super) certificate: PathBuf,
    pub(super) address: SocketAddr,
}

impl Secured {
    pub(super) fn before(origin: &Scripted, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = free_tcp_port();
        let (certificate, tls) = certificate_in(folder.path(), address);
        let log = folder.path().join("access.log");
        let story = before(origin, &format!("{tls}{more}[http.access_log]\npath = {log:?}\n"));
        Self { story, folder, certificate, address }
    }

    pub(super) async fn connect(&self, client: &quinn::Endpoint) -> quinn::Connection {
        client.connect(self.address, "localhost").unwrap().await.unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("access.log")).unwrap()
    }
}

#[test]
fn http3_is_another_door_to_the_same_cache() {
    if !have("openssl") {
        return;
    }
    let origin = Scripted::start(|asked: &Asked| match asked.method.as_str() {
        "POST" => answer(200, &[], &asked.body),
        _ => ranged(asked, 3_000_000, &[("Cache-Control", "max-age=60"), ("Alt-Svc", "h3=\":1\"")]),
    });
    let mut secured = Secured::before(&origin, "");
    let body: Vec<u8> = (0..3_000_000).map(|at| (at / 7) as u8).collect();
    block_on(async {
        let client = client(&secured.certificate);
        let mut requests = speak(secured.connect(&client).await).await;
        for time in 0..3 {
            let (status, fields, got) = ask(&mut requests, Method::GET, "/o/1.m4s", &[], b"").await.unwrap();
            assert!(status == 200 && got == body, "{time}: {status} {}", got.len());
            assert!(!fields.contains_key("alt-svc"), "the origin's own, of another port: {fields:?}");
            assert!(fields.contains_key("date") && fields["content-length"] == "3000000", "{fields:?}");
        }
        let range = [("range", "bytes=1000000-1999999")];
        let (status, _, got) = ask(&mut requests, Method::GET, "/o/1.m4s", &range, b"").await.unwrap();
        assert!(status == 206 && got == body[1_000_000..2_000_000]);
        let (status, fields, got) = ask(&mut requests, Method::HEAD, "/o/1.m4s", &[], b"").await.unwrap();
        assert_eq!((status, &fields["content-length"], got.len()), (200, &"3000000".parse().unwrap(), 0));
        let (status, _, got) =
            ask(&mut requests, Method::POST, "/o/form", &[("content-length", "500000")], &body[..500_000])
                .await
                .unwrap();
        assert!(status == 200 && got == body[..500_000], "{status} {}", got.len());
        for length in ["2", "4"] {
            let fields = [("content-length", length)];
            assert!(
                ask(&mut requests, Method::POST, "/o/form", &fields, b"abc").await.is_err(),
                "RFC 9114 section 4.1.2: {length}"
            );
        }
        let (status, ..) = ask(&mut requests, Method::GET, "/none.example/x", &[], b"").await.unwrap();
        assert_eq!(status, 404);
        let hop = [("connection", "close")];
        assert!(
            ask(&mut requests, Method::GET, "/o/1.m4s", &hop, b"").await.is_err(),
            "RFC 9114 section 4.2"
        );
        // A hundred at once.
        let mut all = tokio::task::JoinSet::new();
        for number in 0..100 {
            let mut requests = requests.clone();
            let range = format!("bytes={number}-{}", number * 20_000);
            all.spawn(async move {
                let got =
                    ask(&mut requests, Method::GET, "/o/1.m4s", &[("range", &range)], b"").await.unwrap();
                (number, got)
            });
        }
        while let Some(got) = all.join_next().await {
            let (number, (status, _, got)) = got.unwrap();
            if number > 0 {
                assert!(status == 206 && got == body[number..=number * 20_000], "{number}");
            }
        }
    });
    assert_eq!(origin.asked("/1.m4s").len(), 1);
    // HTTP/1.1 over TLS says where it is, over TCP without TLS it does not.
    let line = format!("alt-svc: h3=\":{}\"; ma=86400\r\n", secured.address.port());
    for _ in 0..3 {
        let mut stream = connect_tls(secured.address, &secured.certificate);
        stream.write_all(b"GET /o/1.m4s HTTP/1.1\r\nHost: b\r\nRange: bytes=0-9\r\n\r\n").unwrap();
        let (mut head, mut piece) = (Vec::new(), [0; 4096]);
        while !head.windows(4).any(|it| it == b"\r\n\r\n") {
            let count = stream.read(&mut piece).unwrap();
            head.extend_from_slice(&piece[..count]);
        }
        assert!(String::from_utf8_lossy(&head).contains(&line), "{}", String::from_utf8_lossy(&head));
    }
    let plain = get(secured.story.http, "/o/1.m4s", &[("range", "bytes=0-9")]).unwrap();
    assert_eq!(plain.header("alt-svc"), "");
    sleep(Duration::from_millis(1200));
    let log = secured.log();
    assert!(log.contains("\"GET /o/1.m4s HTTP/3.0\" 206 1000000 "), "{log}");
    // A stop says so.
    block_on(async {
        let client = client(&secured.certificate);
        let connection = secured.connect(&client).await;
        let mut requests = speak(connection.clone()).await;
        ask(&mut requests, Method::GET, "/o/1.m4s", &[("range", "bytes=0-9")], b"").await.unwrap();
        secured.story.daemon.take().unwrap().stop();
        let end = connection.closed().await;
        assert!(end.to_string().contains("done") || end.to_string().contains("256"), "{end}");
    });
}

#[test]
fn early_data_is_for_reading_alone_and_asks_no_origin() {
    if !have("openssl") {
        return;
    }
    let origin = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], b"x"));
    let secured = Secured::before(&origin, "");
    block_on(async {
        let client = client(&secured.certificate);
        let mut requests = speak(secured.connect(&client).await).await;
        assert_eq!(ask(&mut requests, Method::GET, "/o/held", &[], b"").await.unwrap().0, 200);
        // Tickets come behind the handshake.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let connecting = client.connect(secured.address, "localhost").unwrap();
        let (connection, is_taken) = connecting.into_0rtt().expect("a ticket for early data");
        let mut requests = speak(connection.clone()).await;
        let mut others = [requests.clone(), requests.clone()];
        let [posts, misses] = &mut others;
        let (held, posted, missed, is_taken) = tokio::join!(
            ask(&mut requests, Method::GET, "/o/held", &[], b""),
            ask(posts, Method::POST, "/o/order", &[], b""),
            ask(misses, Method::GET, "/o/missed", &[], b""),
            is_taken,
        );
        assert!(is_taken, "early data is taken");
        assert_eq!(held.unwrap().0, 200);
        assert_eq!(posted.unwrap().0, 425, "RFC 8470 section 5.2");
        assert_eq!(missed.unwrap().0, 200, "after the handshake");
        assert_eq!(ask(&mut requests, Method::POST, "/o/order", &[], b"").await.unwrap().0, 200);
    });
    assert_eq!(origin.asked("/order").len(), 1);
    assert_eq!(secured.story.metric("http_refused_requests_total{reason=\"early_data\"}"), 1);
}

#[test]
fn floods_of_streams_and_of_frames_end_their_own_connection() {
    if !have("openssl") {
        return;
    }
    let origin = Scripted::start(|asked: &Asked| match asked.path.as_str() {
        "/slow" => vec![Step::Wait(Duration::from_secs(20))],
        _ => answer(200, &[("Cache-Control", "max-age=60")], &[5; 50_000]),
    });
    let secured = Secured::before(&origin, "");
    block_on(async {
        let client = client(&secured.certificate);
        let mut honest = speak(secured.connect(&client).await).await;
        let mut check = async || {
            let (status, _, body) = ask(&mut honest, Method::GET, "/o/1.m4s", &[], b"").await.unwrap();
            assert_eq!((status, body.len()), (200, 50_000));
        };
        check().await;
        // Requests that are taken back as fast as they are made.
        let connection = secured.connect(&client).await;
        let mut requests = speak(connection.clone()).await;
        let mut made = 0;
        while connection.close_reason().is_none() && made < 5000 {
            let request = http::Request::get("https://localhost/o/slow").body(()).unwrap();
            let Ok(mut stream) = requests.send_request(request).await else { break };
            stream.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED);
            stream.stop_stream(h3::error::Code::H3_REQUEST_CANCELLED);
            made += 1;
        }
        let end = timeout(Duration::from_secs(5), connection.closed()).await.expect("it is closed");
        assert!(end.to_string().contains("taken back"), "{end} after {made}");
        assert!(made < 2000, "{made}");
        check().await;
        // Frames without end, on a stream of requests and on that of control: type 0x21 has no meaning.
        let mut frame = vec![0x21, 0xc0, 0, 0, 0, 0x40, 0, 0, 0];
        frame.resize(9 + 200_000, 7);
        let connection = secured.connect(&client).await;
        let mut control = connection.open_uni().await.unwrap();
        let _ = control.write_all(&[&[0, 4, 0], frame.as_slice()].concat()).await;
        timeout(Duration::from_secs(5), connection.closed()).await.expect("a control stream is needed");
        let connection = secured.connect(&client).await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        let refused = async {
            let _ = send.write_all(&frame).await;
            let mut byte = [0; 1];
            recv.read(&mut byte).await
        };
        let refused = timeout(Duration::from_secs(5), refused).await.expect("an end");
        assert!(!matches!(refused, Ok(Some(_))), "{refused:?}");
        check().await;
    });
    assert!(secured.story.metric("http_refused_requests_total{reason=\"flood\"}") >= 2);
    sleep(Duration::from_millis(1200));
    assert!(secured.log().contains("taken back without end"), "{}", secured.log());
}

/// Asks by aioquic: prints status, length and sum of each body.
const AIOQUIC: &str = r#"
import asyncio, ssl, sys
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration

class Client(QuicConnectionProtocol):
    def __init__(self, *args, **named):
        super().__init__(*args, **named)
        self.http, self.waiting = H3Connection(self._quic), {}

    def quic_event_received(self, event):
        for event in self.http.handle_event(event):
            if not isinstance(event, (DataReceived, HeadersReceived)):
                continue
            done, status, body = self.waiting[event.stream_id]
            if isinstance(event, HeadersReceived):
                status.append(dict(event.headers)[b":status"].decode())
            else:
                body.append(event.data)
            if event.stream_ended and not done.done():
                done.set_result((status[0], b"".join(body)))

    def ask(self, path, fields=()):
        stream = self._quic.get_next_available_stream_id()
        done = asyncio.get_event_loop().create_future()
        self.waiting[stream] = (done, [], [])
        head = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path), *fields]
        self.http.send_headers(stream, [(name.encode(), value.encode()) for name, value in head], end_stream=True)
        self.transmit()
        return asyncio.wait_for(done, 20)

async def main():
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name="localhost", verify_mode=ssl.CERT_NONE)
    async with connect("127.0.0.1", int(sys.argv[1]), configuration=configuration, create_protocol=Client) as client:
        for fields in [(), (("range", "bytes=5-99999"),)]:
            status, body = await client.ask("/o/1.m4s", fields)
            print(status, len(body), sum(body))

asyncio.run(main())
"#;

#[test]
fn another_client_understands_it() {
    let python = std::env::var_os("AIOQUIC_PYTHON").unwrap_or_else(|| "python3".into());
    let has_it = Command::new(&python).args(["-c", "import aioquic"]).output();
    if !have("openssl") || !has_it.is_ok_and(|it| it.status.success()) {
        println!("SKIPPED: no aioquic (pip install aioquic; AIOQUIC_PYTHON names the Python that has it)");
        return;
    }
    let origin = Scripted::start(|_: &Asked| answer(200, &[("Cache-Control", "max-age=60")], &[3; 400_000]));
    let secured = Secured::before(&origin, "");
    let port = secured.address.port().to_string();
    let output = Command::new(&python).args(["-c", AIOQUIC, &port]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "200 400000 1200000\n206 99995 299985\n", "{}", String::from_utf8_lossy(&output.stderr));
}
