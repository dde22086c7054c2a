//! The client against origins on the loopback interface.

use super::super::testing::{CountedBody, client, origin, response};
use super::*;
use crate::origin::connections::MAX_STREAM_WINDOW_BYTES;
use crate::origin::parents::MemberState;
use bytes::Bytes;
use hyper_util::rt::TokioExecutor;
use std::sync::atomic::AtomicUsize;

const LONG_BYTES: usize = 4 << 20;
/// Of one test: no other asks for `/long`.
static LONG_TAKEN: AtomicUsize = AtomicUsize::new(0);

#[test]
fn redirects_resolve() {
    let base: Uri = "http://h:8/a/b?c".parse().unwrap();
    assert_eq!(join(&base, "d").unwrap(), "http://h:8/a/d");
    assert_eq!(join(&base, "/d").unwrap(), "http://h:8/d");
    assert_eq!(join(&base, "//k:1/d").unwrap(), "http://k:1/d");
    assert_eq!(join(&base, "https://k/").unwrap(), "https://k/");
    assert_eq!(join(&base, "../d/./e f#g").unwrap(), "http://h:8/d/e%20f");
    assert_eq!(join(&base, "?d").unwrap(), "http://h:8/a/b?d");
    assert_eq!(join(&base, "//b\u{fc}cher.example/d").unwrap(), "http://xn--bcher-kva.example/d");
    assert_eq!(join(&base, "file:///etc/passwd"), None);
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_is_no_response() {
    let url = origin(|_| {
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhello".to_vec()
    });
    let failure = client().get(&format!("{url}x"), &[]).await.map(|_| ()).unwrap_err();
    assert_eq!(failure, OriginError::NoAnswer("status 101".to_owned()));
}

#[tokio::test]
async fn what_is_odd_about_a_head_does_not_cost_the_response() {
    let url = origin(|head| {
        let chunked = |lines: &str| {
            format!("HTTP/1.1 200 OK\r\n{lines}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
        };
        let lines = if head.contains("/length") {
            return chunked("Content-Length: 99\r\n").into_bytes();
        } else if head.contains("/blank") {
            "X-A : 1\r\n"
        } else if head.contains("/folded") {
            "X-A: 1\r\n \t1\r\n"
        } else {
            unreachable!("{head}")
        };
        format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\nok").into_bytes()
    });
    let client = client();
    for (path, expected) in [("length", None), ("blank", Some("1")), ("folded", Some("1 1"))] {
        let mut reply = client.get(&format!("{url}{path}"), &[]).await.unwrap();
        let field = caching::text(&reply.headers, "x-a")
            .map(|it| it.split_whitespace().collect::<Vec<_>>().join(" "));
        assert_eq!(field.as_deref(), expected, "{path}");
        let said = caching::text(&reply.headers, CONTENT_LENGTH).map(str::to_owned);
        assert_eq!(said.as_deref(), (path != "length").then_some("2"), "RFC 9112 section 6.3");
        let mut body = Vec::new();
        while let Some(piece) = reply.next().await.unwrap() {
            body.extend_from_slice(&piece);
        }
        assert_eq!(body, b"ok", "{path}");
    }
}

/// One request of the box, whose answer has a body that comes a byte at a time.
#[tokio::test]
async fn a_body_that_is_too_slow_counts_as_a_failure_of_its_parent() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/a", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 4096]);
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n");
        // Each byte within the limit of silence.
        while socket.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let policy = AddressPolicy::new(&[], &[], &["127.0.0.0/8:*".to_owned()], Vec::new());
    let limit = Duration::from_millis(500);
    let client = Client::new(limit, &OriginTimeouts::default(), &[], &[], policy);
    let mut reply = client.get(&url, &[]).await.unwrap();
    let member = Arc::<MemberState>::default();
    reply.came_from(&member, &url);
    let end = loop {
        match reply.next().await {
            Ok(Some(_)) => assert!(member.is_asked(clock::now()), "so far it is well"),
            end => break end,
        }
    };
    assert!(matches!(end, Err(OriginError::TooSlow)), "{end:?}");
    assert_eq!(member.failures.load(Ordering::Relaxed), 1);
    assert!(!member.is_asked(clock::now()), "others are asked for a while");
}

#[tokio::test]
async fn a_head_with_a_line_that_is_no_field_is_refused_whatever_it_would_decide() {
    for line in ["Cache-Control: private\x01", "Vary: *\x01", "Content-Encoding: gzip\x7f", "no field at all"]
    {
        let url =
            origin(move |_| format!("HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: 2\r\n\r\nok").into_bytes());
        assert!(client().get(&url, &[]).await.is_err(), "{line:?}");
    }
}

#[tokio::test]
async fn responses_with_too_many_fields_are_refused() {
    let url = origin(|head| {
        let count: usize = head.split(['/', ' ']).nth(2).and_then(|it| it.parse().ok()).unwrap_or(0);
        // Two are there already.
        response(&[&["200 OK", "Content-Length: 0"], &vec!["X: 1"; count - 2][..]].concat(), "")
    });
    let client = client();
    let ask = async |count: usize| client.get(&format!("{url}{count}"), &[]).await;
    assert!(ask(MAX_HEADERS).await.is_ok());
    let refused = ask(MAX_HEADERS + 1).await.unwrap_err();
    assert!(matches!(refused, OriginError::NoAnswer(_)), "{refused:?}");
    assert!(ask(MAX_HEADERS).await.is_ok(), "the next one is read");
}

#[tokio::test]
async fn heads_that_are_too_long_are_refused() {
    let url = origin(|head| {
        let length: usize = head.split(['/', ' ']).nth(2).and_then(|it| it.parse().ok()).unwrap_or(0);
        let keys = format!("Surrogate-Key: {}", "k".repeat(length));
        response(&["200 OK", "Content-Length: 0", &keys], "")
    });
    let client = client();
    assert!(client.get(&format!("{url}{}", MAX_HEAD_BYTES - 1000), &[]).await.is_ok());
    for length in [MAX_HEAD_BYTES, 1 << 20] {
        let refused = client.get(&format!("{url}{length}"), &[]).await.map(|reply| reply.status);
        assert!(matches!(refused, Err(OriginError::NoAnswer(_))), "{length}");
    }
}

/// An HTTPS origin for HTTP/2 and HTTP/1.1, and the authorities for it. Its answers say what was asked; a connection is ended
/// (GOAWAY) when `/last` was asked, and dropped by the first request for `/gone`. `/long` has a body of [`LONG_BYTES`], of which
/// `LONG_TAKEN` counts what hyper took to send. `None`: there is no OpenSSL here.
#[allow(clippy::too_many_lines)] // one story of an origin
async fn https_origin() -> Option<(String, rustls::ClientConfig, Arc<AtomicU64>)> {
    use hyper::service::service_fn;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject as _;

    let folder = tempfile::tempdir().unwrap();
    // Self-signed, and an authority: as `openssl req -x509` makes it.
    let extensions = ["-addext", "subjectAltName=IP:127.0.0.1"];
    if !certificates::tests::make(folder.path(), "cert.pem", "key.pem", &extensions) {
        return None;
    }
    let chain = certificates::chain("test", &folder.path().join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.path().join("key.pem")).unwrap();
    let trusting = certificates::client_for_origins(Some(&folder.path().join("cert.pem"))).unwrap();
    let mut tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&connections);
    let was_gone = Arc::new(std::sync::atomic::AtomicBool::new(false));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, counted) = (acceptor.clone(), Arc::clone(&counted));
            let was_gone = Arc::clone(&was_gone);
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                counted.fetch_add(1, Ordering::Relaxed);
                let last = Arc::new(tokio::sync::Notify::new());
                let gone = Arc::new(tokio::sync::Notify::new());
                let (ends, drops) = (Arc::clone(&last), Arc::clone(&gone));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (ends, drops, was_gone) =
                        (Arc::clone(&ends), Arc::clone(&drops), Arc::clone(&was_gone));
                    async move {
                        if request.uri().path() == "/gone" && !was_gone.swap(true, Ordering::Relaxed) {
                            drops.notify_one();
                            std::future::pending::<()>().await;
                        }
                        if request.uri().path() == "/last" {
                            ends.notify_one();
                        }
                        if request.uri().path() == "/slow" {
                            tokio::time::sleep(Duration::from_millis(100)).await;
                        }
                        let field = |name| caching::text(request.headers(), name).unwrap_or("-");
                        let says = format!(
                            "{:?} {} {} {} {} {}",
                            request.version(),
                            request.uri().authority().map_or("-", |it| it.as_str()),
                            field(HOST),
                            request.headers().get_all(COOKIE).iter().count(),
                            field(COOKIE),
                            field(RANGE)
                        );
                        let body = if request.uri().path() == "/long" {
                            Either::Left(CountedBody { left: LONG_BYTES, taken: &LONG_TAKEN })
                        } else {
                            Either::Right(http_body_util::Full::new(Bytes::from(says)))
                        };
                        Ok::<_, std::convert::Infallible>(http::Response::new(body))
                    }
                });
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let stream = hyper_util::rt::TokioIo::new(stream);
                if !is_http2 {
                    let builder = hyper::server::conn::http1::Builder::new();
                    let _ = builder.serve_connection(stream, service).await;
                    return;
                }
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let mut serving = std::pin::pin!(builder.serve_connection(stream, service));
                tokio::select! {
                    _ = serving.as_mut() => return,
                    () = gone.notified() => return,
                    () = last.notified() => serving.as_mut().graceful_shutdown(),
                }
                let _ = serving.await;
            });
        }
    });
    Some((url, trusting, connections))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn origins_are_asked_over_http2_where_they_offer_it() {
    let Some((url, tls, connections)) = https_origin().await else { return };
    let route = |path: &str, http2| Route {
        path: format!("/{path}"),
        base: format!("{url}{path}"),
        http2,
        ..Route::default()
    };
    let routes = [route("", true), route("one/", false), route("two/", true)];
    let policy = AddressPolicy::new(&[], &[], &["127.0.0.0/8:*".to_owned()], Vec::new());
    let wait = Duration::from_secs(60);
    let client = Arc::new(Client::with_tls(&tls, wait, &OriginTimeouts::default(), &routes, &[], policy));
    let get = async |path: &str, fields: &[(&'static str, &'static str)]| {
        let headers = fields
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut all = HeaderMap::new();
        headers.for_each(|(name, value)| _ = all.append(name, value));
        let mut reply = client.ask(&format!("{url}{path}"), Question::get(all, false)).await.unwrap();
        assert!(reply.is_framed);
        String::from_utf8(reply.next().await.unwrap().unwrap().to_vec()).unwrap()
    };
    let authority = url.trim_start_matches("https://").trim_end_matches('/');
    let cookies = [("cookie", "a=1"), ("cookie", "b=2"), ("range", "bytes=0-1")];
    let says = get("two/a", &cookies).await;
    assert_eq!(says, format!("HTTP/2.0 {authority} - 1 a=1; b=2 bytes=0-1"));
    // A Host of its own needs HTTP/1.1; so does a route without HTTP/2.
    let says = get("two/a", &[("host", "cdn.example.com")]).await;
    assert_eq!(says, "HTTP/1.1 - cdn.example.com 0 - -");
    assert_eq!(get("one/a", &[]).await, format!("HTTP/1.1 - {authority} 0 - -"));
    // The connection of HTTP/1.1 may not have been idle again yet: a second is begun, and comes later if it was idle by then.
    assert!((2..=3).contains(&connections.load(Ordering::Relaxed)));
    // Many requests, one connection.
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (client, url) = (Arc::clone(&client), url.clone());
        all.spawn(async move {
            let question = Question::get(HeaderMap::new(), false);
            client.ask(&format!("{url}slow"), question).await.unwrap().status
        });
    }
    assert!(all.join_all().await.iter().all(|it| *it == 200));
    let before = connections.load(Ordering::Relaxed);
    assert!((2..=3).contains(&before), "{before}");
    // A connection that the origin ends costs no request.
    for round in 0..5 {
        assert!(get("last", &[]).await.starts_with("HTTP/2.0"), "{round}");
        assert!(get("two/b", &[]).await.starts_with("HTTP/2.0"), "{round}");
    }
    assert!(connections.load(Ordering::Relaxed) > before);
    // Nor does one that is gone, since the request can be repeated.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(get("two/b", &[]).await.starts_with("HTTP/2.0"), "one that has carried a response");
    assert!(get("gone", &[]).await.starts_with("HTTP/2.0"));
    assert_eq!(client.resent(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_over_http2_fill_windows_of_their_own_alone() {
    let Some((url, tls, connections)) = https_origin().await else { return };
    let route = Route { path: "/".to_owned(), base: url.clone(), http2: true, ..Route::default() };
    let policy = AddressPolicy::new(&[], &[], &["127.0.0.0/8:*".to_owned()], Vec::new());
    let wait = Duration::from_secs(60);
    let client = Client::with_tls(&tls, wait, &OriginTimeouts::default(), &[route], &[], policy);
    let ask = async |path: &str| {
        client.ask(&format!("{url}{path}"), Question::get(HeaderMap::new(), false)).await.unwrap()
    };
    // Players who read nothing: together more than the window of a connection as hyper has it, 5 MiB.
    const SLOW: usize = 16;
    ask("short").await.next().await.unwrap();
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        slow.push(ask("long").await);
    }
    let taken = || LONG_TAKEN.load(Ordering::Relaxed);
    let mut before = 0;
    while taken() > before {
        before = taken();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // hyper's server queues 400 KiB of each, and takes one piece more.
    let least = SLOW * MAX_STREAM_WINDOW_BYTES as usize;
    assert!((least..=least + SLOW * (416 << 10)).contains(&taken()), "{}", taken());
    assert!(ask("short").await.next().await.unwrap().is_some(), "another player has its answer");
    let mut received = 0;
    while let Some(piece) = slow[0].next().await.unwrap() {
        received += piece.len();
    }
    assert_eq!(received, LONG_BYTES, "the rest comes when it is read");
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_has_its_innermost_cause() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = client().get(&format!("http://{free}/"), &[]).await.unwrap_err();
    assert_eq!(refused.to_string(), "no connection: Connection refused");
    let nowhere = client().get("http://nobody.invalid/", &[]).await.unwrap_err();
    assert!(nowhere.to_string().starts_with("no connection: the host has no address: "), "{nowhere}");
}

#[tokio::test]
async fn a_refused_signature_is_the_fault_of_the_box_and_no_document_is_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "wJalrXUtnFEMI").unwrap();
    let url = origin(|head| {
        let code = match head.split(['/', '?']).nth(2) {
            Some("skewed") => "RequestTimeTooSkewed",
            Some("wrong") => "SignatureDoesNotMatch",
            _ => "AccessDenied",
        };
        let body = format!("<Error><Code>{code}</Code><AWSAccessKeyId>AKIA1</AWSAccessKeyId></Error>");
        let length = format!("Content-Length: {}", body.len());
        response(&["403 Forbidden", "Content-Type: application/xml", &length], &body)
    });
    let text = format!(
        "path = '/s3/'\nbase = '{url}b/'\n[sign]\nform = 's3'\naccess_key = 'AKIA1'\nsecret_file = '{}'",
        secret.display()
    );
    let route: Route = toml::from_str(&text).unwrap();
    let policy = AddressPolicy::new(&[], &[], &["127.0.0.0/8:*".to_owned()], Vec::new());
    let client = Client::new(Duration::from_secs(60), &OriginTimeouts::default(), &[route], &[], policy);
    let ask = async |name: &str| {
        client.ask(&format!("{url}b/{name}"), Question::get(HeaderMap::new(), false)).await
    };
    let refused = |why| OriginError::Signature(why);
    assert_eq!(ask("skewed").await.unwrap_err(), refused(SignatureRefusal::Clock));
    assert_eq!(ask("wrong").await.unwrap_err(), refused(SignatureRefusal::Secret));
    let own = client.get(&format!("{url}b/wrong"), &[]).await.unwrap_err();
    assert_eq!(own, refused(SignatureRefusal::Secret));
    let count = |why| client.signatures_refused().get(why);
    assert_eq!([SignatureRefusal::Clock, SignatureRefusal::Secret].map(count), [1, 2]);
    assert_eq!(client.failures().get(OriginFailure::Signature), 3);
    let mut denied = ask("denied").await.unwrap();
    assert_eq!((denied.status.as_u16(), denied.is_framed), (403, true));
    assert_eq!(caching::text(&denied.headers, CONTENT_LENGTH), Some("0"));
    assert!(!denied.headers.contains_key(CONTENT_TYPE));
    assert_eq!(denied.next().await, Ok(None), "the store's document stays here");
    // Unsigned, the document is the origin's to players.
    let mut other =
        client.ask(&format!("{url}c/denied"), Question::get(HeaderMap::new(), false)).await.unwrap();
    assert!(other.next().await.unwrap().is_some());
}
