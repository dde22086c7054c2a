//! Requests over TLS: HTTP/1.1, HTTP/2 and HTTP/3 of the same objects, with one cipher.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use http::HeaderValue;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    Http3,
}

impl Protocol {
    pub(crate) const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Http3];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "h1",
            Self::Http2 => "h2",
            Self::Http3 => "h3",
        }
    }

    const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
            Self::Http3 => b"h3",
        }
    }
}

/// Requests and bytes of all connections.
#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// Requests a second, bytes, and seconds.
pub(crate) struct Got {
    pub(crate) requests: f64,
    pub(crate) bytes: f64,
    pub(crate) seconds: f64,
}

fn config(certificate: &Path, protocol: Protocol) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).expect("a certificate")).expect("a root");
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|it| it.suite() == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.alpn().to_vec()];
    config
}

/// Requests `path` of `length` bytes over several connections, one request after the other on each.
pub(crate) fn load(
    server: SocketAddr,
    certificate: &Path,
    protocol: Protocol,
    (path, length): (&str, u64),
    connections: usize,
    time: Duration,
) -> Got {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (counts, tls) = (Arc::new(Counts::default()), config(certificate, protocol));
    let url = format!("https://localhost{path}");
    let seconds = runtime.block_on(async {
        let endpoint = (protocol == Protocol::Http3).then(|| quic(tls.clone()));
        let tls = TlsConnector::from(Arc::new(tls));
        let mut all = tokio::task::JoinSet::new();
        let begin = Arc::new(tokio::sync::Barrier::new(connections + 1));
        let until = Arc::new(std::sync::OnceLock::new());
        for _ in 0..connections {
            let (tls, endpoint, url) = (tls.clone(), endpoint.clone(), url.clone());
            let (begin, until, counts) = (Arc::clone(&begin), Arc::clone(&until), Arc::clone(&counts));
            all.spawn(async move {
                let request = || hyper::Request::get(url.as_str());
                let run = Run { begin, until, counts, length };
                match (protocol, endpoint) {
                    (Protocol::Http3, Some(endpoint)) => {
                        let connection =
                            endpoint.connect(server, "localhost").expect("a name").await.expect("connected");
                        let (mut driver, requests) =
                            h3::client::new(h3_quinn::Connection::new(connection)).await.expect("HTTP/3");
                        tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
                        run.all(|| {
                            let mut requests = requests.clone();
                            let request = request().body(()).expect("a request");
                            async move {
                                let mut stream = requests.send_request(request).await.expect("asked");
                                stream.finish().await.expect("asked");
                                stream.recv_response().await.expect("a response");
                                let mut bytes = 0;
                                while let Some(piece) = stream.recv_data().await.expect("a body") {
                                    bytes += piece.remaining() as u64;
                                }
                                bytes
                            }
                        })
                        .await;
                    }
                    _ => {
                        let stream = TcpStream::connect(server).await.expect("connected");
                        stream.set_nodelay(true).expect("an option");
                        let name = "localhost".try_into().expect("a name");
                        let io = TokioIo::new(tls.connect(name, stream).await.expect("TLS"));
                        let bare = || request().body(Empty::<Bytes>::new()).expect("a request");
                        if protocol == Protocol::Http1 {
                            let (sender, connection) = http1::handshake(io).await.expect("HTTP/1.1");
                            tokio::spawn(connection);
                            let sender = Arc::new(tokio::sync::Mutex::new(sender));
                            run.all(|| {
                                let (sender, mut request) = (Arc::clone(&sender), bare());
                                // HTTP/2 has the authority for it: nginx answers 400 to both.
                                request.headers_mut().insert("host", HeaderValue::from_static("localhost"));
                                *request.uri_mut() = request.uri().path().parse().expect("a path");
                                async move {
                                    let mut sender = sender.lock().await;
                                    sender.ready().await.expect("alive");
                                    drain(sender.send_request(request).await.expect("a response")).await
                                }
                            })
                            .await;
                        } else {
                            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                                .initial_stream_window_size(4 << 20)
                                .initial_connection_window_size(16 << 20)
                                .handshake(io)
                                .await
                                .expect("HTTP/2");
                            tokio::spawn(connection);
                            run.all(|| {
                                    let (mut sender, request) = (sender.clone(), bare());
                                    async move {
                                        drain(sender.send_request(request).await.expect("a response")).await
                                    }
                                })
                                .await;
                        }
                    }
                }
            });
        }
        begin.wait().await;
        let started = Instant::now();
        let _ = until.set(started + time);
        while all.join_next().await.transpose().expect("no errors").is_some() {}
        started.elapsed().as_secs_f64()
    });
    Got { requests: counts.requests.load(Relaxed) as f64, bytes: counts.bytes.load(Relaxed) as f64, seconds }
}

struct Run {
    begin: Arc<tokio::sync::Barrier>,
    until: Arc<std::sync::OnceLock<Instant>>,
    counts: Arc<Counts>,
    length: u64,
}

impl Run {
    /// Asks again and again until time is up.
    async fn all<F: Future<Output = u64>>(&self, ask: impl Fn() -> F) {
        // Connections are there before anybody asks.
        self.begin.wait().await;
        while self.until.get().is_none_or(|until| Instant::now() < *until) {
            let bytes = ask().await;
            assert_eq!(bytes, self.length, "a whole body");
            self.counts.requests.fetch_add(1, Relaxed);
            self.counts.bytes.fetch_add(bytes, Relaxed);
        }
    }
}

async fn drain(response: hyper::Response<hyper::body::Incoming>) -> u64 {
    let (mut body, mut bytes) = (response.into_body(), 0);
    while let Some(frame) = body.frame().await {
        bytes += frame.expect("a body").data_ref().map_or(0, |data| data.len() as u64);
    }
    bytes
}

fn quic(tls: rustls::ClientConfig) -> quinn::Endpoint {
    let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a socket");
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("a cipher for QUIC");
    let mut client = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window((4_u32 << 20).into()).receive_window((16_u32 << 20).into());
    client.transport_config(Arc::new(transport));
    endpoint.set_default_client_config(client);
    endpoint
}
