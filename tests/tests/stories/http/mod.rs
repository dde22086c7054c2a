//! HTTP between clients, daemon and a scripted origin. No faster ring shows which bytes are sent between the three, and when.

mod access;
mod bodies;
mod caching;
mod connections;
mod guards;
mod http3;
mod origins;
mod parents;
mod purges;
mod secure;
mod traces;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use hyper::Method;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use skycache_tests::client::{Response, raw, request};
use skycache_tests::programs::{fed, have};
use skycache_tests::{Asked, Scripted, Step, Story, answer, free_tcp_port, get};

/// A daemon before an origin.
fn before(origin: &Scripted, extra: &str) -> Story {
    let mut story = Story::new();
    let address = origin.address();
    story.daemon_extra =
        format!("[[route]]\npath = \"/o/\"\nbase = \"http://{address}/\"\nrewrite = true\n{extra}");
    story.start_daemon();
    story
}

fn status_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().next().unwrap_or("").to_owned()
}

/// A connection that gives up after five seconds without a byte.
fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A TLS connection that trusts `certificate`, a PEM file for `localhost`, and speaks HTTP/1.1.
fn connect_tls(server: SocketAddr, certificate: &Path) -> impl Read + Write {
    connect_tls_as(server, certificate, b"http/1.1")
}

/// The same for another protocol.
fn connect_tls_as(server: SocketAddr, certificate: &Path, protocol: &[u8]) -> impl Read + Write {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let session = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    rustls::StreamOwned::new(session, connect(server))
}

/// Makes a key and a certificate of its own for `localhost` in `folder`: the paths of both, and the lines of a
/// configuration that serve TLS with them at `listen`.
pub(super) fn certificate_in(folder: &Path, listen: SocketAddr) -> (PathBuf, String) {
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    openssl.args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    let made = openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let lines = format!("[http.tls]\nlisten = \"{listen}\"\ncertificate = {certificate:?}\nkey = {key:?}\n");
    (certificate, lines)
}

fn fetch(server: SocketAddr, path: &str, fields: &[(&str, &str)]) -> Response {
    get(server, path, fields).unwrap()
}

/// Answers a range of a body of this length.
fn ranged(asked: &Asked, length: usize, fields: &[(&str, &str)]) -> Vec<Step> {
    let body: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
    let Some((first, last)) = asked.field("range").strip_prefix("bytes=").and_then(|it| it.split_once('-'))
    else {
        return answer(200, fields, &body);
    };
    let first: usize = first.parse().unwrap();
    let last = last.parse::<usize>().unwrap_or(length - 1).min(length - 1);
    let range = format!("bytes {first}-{last}/{length}");
    answer(206, &[&[("Content-Range", range.as_str())], fields].concat(), &body[first..=last])
}
