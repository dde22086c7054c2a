//! Client of the admin socket, for `skycached status` and the other verbs.

use std::path::Path;

use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// Characters of a value in a query that stand for themselves.
fn encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:*".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Asks the daemon behind `socket`; `parameter` is a name and a value for the query.
///
/// # Errors
/// One line: no daemon, no permission, or what the daemon answers.
pub async fn call(
    socket: &Path,
    method: Method,
    path: &str,
    parameter: Option<(&str, &str)>,
) -> Result<Value, String> {
    let stream = UnixStream::connect(socket).await.map_err(|err| {
        let fix = match err.kind() {
            std::io::ErrorKind::PermissionDenied => "ask as root or as a member of the socket's group",
            _ => "is skycached running? `-c FILE` names the configuration with its [admin] socket",
        };
        format!("{}: {}; {fix}", socket.display(), carousel::config::plain(&err))
    })?;
    let failed = |err: hyper::Error| format!("{}: {err}", socket.display());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(connection);
    let target = match parameter {
        Some((name, value)) => format!("{path}?{name}={}", encode(value)),
        None => path.to_owned(),
    };
    let request = Request::builder().method(method).uri(&target).header(header::HOST, "skycached");
    let request = request.body(Empty::<Bytes>::new()).map_err(|err| format!("{target}: {err}"))?;
    let response = sender.send_request(request).await.map_err(failed)?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(failed)?.to_bytes();
    let value: Value = serde_json::from_slice(&body).map_err(|err| format!("{}: {err}", socket.display()))?;
    if status.is_success() {
        return Ok(value);
    }
    Err(value["error"].as_str().unwrap_or("the daemon refuses").to_owned())
}
