//! HTTP client for stories: one request at a time, every byte of the response visible.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The response.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// As much of the body as came.
    pub body: Vec<u8>,
    /// Whether the body came to its end.
    pub whole: bool,
}

impl Response {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// GET with `Host` and further headers.
///
/// # Errors
/// If there is no connection, or no response within 60 s.
pub fn get(server: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Response, String> {
    request(Method::GET, server, path, headers)
}

/// As [`get`]; `each` gets what comes of the body as it comes.
///
/// # Errors
/// As for [`get`].
pub fn follow(
    server: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    each: impl FnMut(&[u8]),
) -> Result<Response, String> {
    exchange_within(exchange(Method::GET, server, path, headers, each), path)
}

/// Any method.
///
/// # Errors
/// As for [`get`].
pub fn request(
    method: Method,
    server: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Response, String> {
    exchange_within(exchange(method, server, path, headers, |_| ()), path)
}

/// Sends bytes as they are; gives what comes until the connection ends or nothing comes for a second.
///
/// # Panics
/// If there is no connection.
pub fn raw(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = std::net::TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a limit of time");
    stream.write_all(bytes).expect("a request");
    let mut out = Vec::new();
    let mut piece = [0; 65536];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        out.extend_from_slice(&piece[..count]);
    }
    out
}

fn exchange_within(
    exchange: impl Future<Output = Result<Response, String>>,
    path: &str,
) -> Result<Response, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(text)?;
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), exchange)
            .await
            .map_err(|_| format!("{path}: no response in 60 s"))?
    })
}

async fn exchange(
    method: Method,
    server: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    mut each: impl FnMut(&[u8]),
) -> Result<Response, String> {
    let stream = TcpStream::connect(server).await.map_err(text)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header("host", server.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(text)?;
    let response = sender.send_request(request).await.map_err(text)?;
    let (head, mut incoming) = response.into_parts();
    let (mut body, mut whole) = (Vec::new(), true);
    while let Some(frame) = incoming.frame().await {
        match frame {
            Ok(frame) => {
                let data = frame.data_ref().map_or(&[][..], |data| data);
                each(data);
                body.extend_from_slice(data);
            }
            Err(_) => {
                whole = false;
                break;
            }
        }
    }
    Ok(Response { status: head.status.as_u16(), headers: head.headers, body, whole })
}

fn text(err: impl std::fmt::Display) -> String {
    err.to_string()
}
