//! Client of the admin interface, for `skycached status` and the other verbs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::net::UnixStream;
use url::Url;

use crate::certificates::{self, FailureKind};

/// Retries of a request when the daemon answers that there were too many.
const RETRIES: u32 = 10;
/// Longest wait before a retry, even if `Retry-After` is longer: an operator waits at the terminal.
const MAX_WAIT_S: u64 = 10;

/// Percent-encodes a value of a query.
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
        /// Certificates that are trusted.
        tls: Box<ClientConfig>,
        /// Whether they are those of `--ca`.
        has_ca: bool,
    },
}

impl Access {
    /// By a URL, with the token of a file. `ca`: the file of certificates that are trusted instead of the system's.
    ///
    /// # Errors
    /// One line.
    pub fn to_url(url: &str, token_file: Option<&Path>, ca: Option<&Path>) -> Result<Self, String> {
        let is_one = |it: Url| matches!(it.scheme(), "http" | "https") && it.has_host();
        if !Url::parse(url).is_ok_and(is_one) {
            return Err(format!(
                "{url:?} is not a URL: give --admin http://HOST:PORT, the address of [admin] listen"
            ));
        }
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
        let tls = Box::new(match ca {
            Some(path) if is_https(url) => {
                certificates::client_trusting(path).map_err(|why| format!("--ca {why}"))?
            }
            Some(_) => return Err(format!("--ca is for TLS, and {url} is without; give https://HOST:PORT")),
            None => certificates::client_trusting_system(
                is_https(url),
                "name those of the daemon with --ca FILE",
            )?,
        });
        Ok(Self::Url { url: url.trim_end_matches('/').to_owned(), token, tls, has_ca: ca.is_some() })
    }

    /// Reason why a request by URL has failed, and the fix.
    fn failed(&self, err: &hyper_util::client::legacy::Error) -> String {
        if let Some((about, what)) = certificates::failure_of(err) {
            let fix = match about {
                FailureKind::Trust if matches!(self, Self::Url { has_ca: true, .. }) => {
                    "; --ca names another, or not the authority that has signed it"
                }
                FailureKind::Trust => "; name it, or the authority that has signed it, with --ca FILE",
                FailureKind::Names => "; ask by one of its names, or have it made for this one too",
                FailureKind::OwnCertificate => "; ask by the socket on that machine, or with `curl --cert`",
                FailureKind::NoTls => "; give http://HOST:PORT, or set [admin.tls] there",
                FailureKind::Other => "",
            };
            return format!("{self}: {what}{fix}");
        }
        let cause = std::error::Error::source(err);
        let is_no_http = cause
            .and_then(|it| it.downcast_ref::<hyper::Error>())
            .is_some_and(|it| it.is_parse() || it.is_incomplete_message());
        if is_no_http {
            return format!(
                "{self}: the server does not use HTTP; give https://HOST:PORT where [admin.tls] is set"
            );
        }
        let cause = certificates::innermost_cause(err);
        format!("{self}: {cause}; is skycached running, with [admin] listen there?")
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
            Self::Url { url, token, tls, .. } => {
                let connector = hyper_rustls::HttpsConnectorBuilder::new()
                    .with_tls_config((**tls).clone())
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
                client.request(request).await.map_err(|err| self.failed(&err))
            }
        }
    }
}

fn is_https(url: &str) -> bool {
    url.get(..8).is_some_and(|it| it.eq_ignore_ascii_case("https://"))
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Url { url, .. } => f.write_str(url),
        }
    }
}

/// Sends a request to a daemon; `parameters` are names and values for the query. If it answers that there were too many
/// requests, retries when it says.
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
        let Ok(value) = serde_json::from_slice::<Value>(&body.to_bytes()) else {
            return Err(format!(
                "{access}: status {} and no JSON: that is not an admin interface; give the address of [admin] listen",
                status.as_u16()
            ));
        };
        if status.is_success() {
            return Ok(value);
        }
        return Err(value["error"].as_str().unwrap_or("the daemon refuses").to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::super::options::AdminTls;
    use super::super::tls;
    use super::*;
    use crate::certificates::tests::make;

    async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut head = [0; 1024];
        if stream.read(&mut head).await.is_ok_and(|it| it > 0) {
            let text = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\nconnection: close\r\n\r\n{\"schema\":1}";
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.flush().await;
        }
    }

    /// A daemon's listener, with TLS or without.
    async fn daemon(tls: Option<TlsAcceptor>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                match &tls {
                    None => answer(stream).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            answer(stream).await;
                        }
                    }
                }
            }
        });
        address
    }

    async fn ask(url: &str, ca: Option<&Path>) -> Result<Value, String> {
        let access = Access::to_url(url, None, ca)?;
        call(&access, Method::GET, "/api/v1/status", &[]).await
    }

    #[test]
    fn what_is_no_url_is_told_so() {
        for url in ["127.0.0.1:8181", "http://", "ftp://a", "http://a:99999", ""] {
            let err = Access::to_url(url, None, None).unwrap_err();
            assert!(err.ends_with("give --admin http://HOST:PORT, the address of [admin] listen"), "{err}");
        }
        assert!(Access::to_url("HTTP://[::1]:8081", None, None).is_ok());
    }

    #[tokio::test]
    async fn a_daemons_certificate_is_trusted_by_name_and_refusals_say_how() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let names = ["-addext", "subjectAltName=IP:127.0.0.1"];
        if !make(folder.path(), "own.pem", "own.key", &names)
            || !make(folder.path(), "other.pem", "o.key", &[])
        {
            return;
        }
        let options = |client_ca: Option<&str>| AdminTls {
            certificate: path("own.pem"),
            key: path("own.key"),
            client_ca: client_ca.map(path),
        };
        let open = |client_ca| tls::acceptor(&options(client_ca), &Arc::default()).unwrap();
        let port = daemon(Some(open(None))).await.port();
        let url = format!("https://127.0.0.1:{port}");
        let (own, other) = (path("own.pem"), path("other.pem"));
        assert_eq!(ask(&url, Some(&own)).await.unwrap()["schema"], 1);
        let why = ask(&url, Some(&other)).await.unwrap_err();
        assert!(
            why.contains("signed by itself")
                && why.ends_with("; --ca names another, or not the authority that has signed it"),
            "{why}"
        );
        let why = ask(&format!("https://localhost:{port}"), Some(&own)).await.unwrap_err();
        assert!(why.contains("the certificate is for 127.0.0.1, not for localhost; ask by"), "{why}");
        // A certificate that is not named is not trusted.
        let why = ask(&url, None).await.unwrap_err();
        assert!(why.contains("--ca FILE"), "{why}");
        let why = ask(&format!("http://127.0.0.1:{port}"), None).await.unwrap_err();
        assert!(why.contains("does not use HTTP; give https://"), "{why}");
        assert!(
            ask(&format!("http://127.0.0.1:{port}"), Some(&own))
                .await
                .unwrap_err()
                .starts_with("--ca is for TLS")
        );
        let why = ask(&url, Some(&path("none.pem"))).await.unwrap_err();
        assert!(why.starts_with("--ca ") && why.contains("there is no such file"), "{why}");
        let plain = daemon(None).await;
        let why = ask(&format!("https://{plain}"), Some(&own)).await.unwrap_err();
        assert!(why.contains("does not use TLS; give http://"), "{why}");
        assert_eq!(ask(&format!("http://{plain}"), None).await.unwrap()["schema"], 1);
        let mutual = daemon(Some(open(Some("other.pem")))).await;
        let why = ask(&format!("https://{mutual}"), Some(&own)).await.unwrap_err();
        assert!(why.contains("asks for a client certificate; ask by the socket"), "{why}");
    }
}
