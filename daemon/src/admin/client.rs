//! Client of the admin interface, for `skycached status` and the other verbs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::UnixStream;

/// Times that a request is sent again when the daemon says that there were too many.
const RETRIES: u32 = 10;
/// Longest wait before one of them, whatever `Retry-After` says: an operator waits at the terminal.
const MAX_WAIT_S: u64 = 10;

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

/// Access to a daemon.
#[derive(Debug)]
pub enum Access {
    /// By its socket on this machine.
    Socket(PathBuf),
    /// By its TCP listener.
    Url {
        /// `http://127.0.0.1:8081`
        url: String,
        /// The token of its `[admin]`.
        token: Option<String>,
    },
}

impl Access {
    /// By a URL, with the token of a file.
    ///
    /// # Errors
    /// One line.
    pub fn to_url(url: &str, token_file: Option<&Path>) -> Result<Self, String> {
        let token = match token_file {
            Some(path) => Some(
                std::fs::read_to_string(path)
                    .map_err(|err| {
                        let why = carousel::config::plain(&err);
                        format!("{}: {why}; --token-file names the file that that daemon has as [admin] token_file", path.display())
                    })?
                    .trim()
                    .to_owned(),
            ),
            None => None,
        };
        Ok(Self::Url { url: url.trim_end_matches('/').to_owned(), token })
    }

    async fn send(&self, method: &Method, target: &str) -> Result<http::Response<Incoming>, String> {
        let request = Request::builder().method(method);
        match self {
            Self::Socket(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(|err| {
                    let fix = match err.kind() {
                        std::io::ErrorKind::PermissionDenied => {
                            "ask as root or as a member of the socket's group"
                        }
                        _ => {
                            "is skycached running? `-c FILE` names the configuration with its [admin] socket"
                        }
                    };
                    format!("{self}: {}; {fix}", carousel::config::plain(&err))
                })?;
                let failed = |err: hyper::Error| format!("{self}: {err}");
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
                tokio::spawn(connection);
                let request = request.uri(target).header(header::HOST, "skycached");
                let request =
                    request.body(Empty::<Bytes>::new()).map_err(|err| format!("{target}: {err}"))?;
                sender.send_request(request).await.map_err(failed)
            }
            Self::Url { url, token } => {
                let connector = hyper_rustls::HttpsConnectorBuilder::new()
                    .with_native_roots()
                    .map_err(|err| format!("{self}: {err}"))?
                    .https_or_http()
                    .enable_http1()
                    .build();
                let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
                    .build::<_, Empty<Bytes>>(connector);
                let mut request = request.uri(format!("{url}{target}"));
                if let Some(token) = token {
                    request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
                }
                let request = request
                    .body(Empty::new())
                    .map_err(|err| format!("{self}: {err}; give --admin http://HOST:PORT"))?;
                client.request(request).await.map_err(|err| {
                    let cause = std::error::Error::source(&err).map(ToString::to_string);
                    format!(
                        "{self}: {}; is skycached running, with [admin] listen?",
                        cause.unwrap_or_else(|| err.to_string())
                    )
                })
            }
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Url { url, .. } => f.write_str(url),
        }
    }
}

/// Asks a daemon; `parameters` are names and values for the query. One that is asked too often is asked again when it says.
///
/// # Errors
/// One line: no daemon, no permission, or what the daemon answers.
pub async fn call(
    access: &Access,
    method: Method,
    path: &str,
    parameters: &[(&str, &str)],
) -> Result<Value, String> {
    let query: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) };
    let mut left = RETRIES;
    loop {
        let response = access.send(&method, &target).await?;
        let status = response.status();
        let after = response.headers().get(header::RETRY_AFTER);
        let after = after.and_then(|it| it.to_str().ok()?.parse::<u64>().ok());
        if let (StatusCode::TOO_MANY_REQUESTS, Some(seconds), 1..) = (status, after, left) {
            left -= 1;
            tokio::time::sleep(Duration::from_secs(seconds.min(MAX_WAIT_S))).await;
            continue;
        }
        let body = response.into_body().collect().await.map_err(|err| format!("{access}: {err}"))?;
        let value: Value =
            serde_json::from_slice(&body.to_bytes()).map_err(|err| format!("{access}: {err}"))?;
        if status.is_success() {
            return Ok(value);
        }
        return Err(value["error"].as_str().unwrap_or("the daemon refuses").to_owned());
    }
}
