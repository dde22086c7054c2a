//! As much of RTSP (RFC 2326) as a SAT>IP client needs: requests one after the other over one connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// A server answers within this.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Fields of a response, and bytes of a line.
const MAX_FIELDS: usize = 64;
const MAX_LINE_BYTES: u64 = 4096;
/// Bytes of a response's body: SDP is a few hundred.
const MAX_BODY_BYTES: usize = 64 << 10;

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Rtsp {
    stream: BufReader<TcpStream>,
    sequence: u32,
    session: Option<String>,
}

/// A response with status 200.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Response {
    fields: Vec<(String, String)>,
}

impl Response {
    /// The value of a field.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Rtsp {
    pub(super) fn connect(server: &str) -> Result<Self, String> {
        let failed = |err: std::io::Error| format!("{err}; is the server there, and is its port right?");
        let mut why = "the name has no address".to_owned();
        for address in server.to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
                    stream.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;
                    return Ok(Self { stream: BufReader::new(stream), sequence: 0, session: None });
                }
                Err(err) => why = failed(err),
            }
        }
        Err(why)
    }

    /// Own address as the server sees it.
    pub(super) fn local_ip(&self) -> Result<std::net::IpAddr, String> {
        self.stream.get_ref().local_addr().map(|it| it.ip()).map_err(|err| err.to_string())
    }

    /// The server's address.
    pub(super) fn peer_ip(&self) -> Result<std::net::IpAddr, String> {
        self.stream.get_ref().peer_addr().map(|it| it.ip()).map_err(|err| err.to_string())
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask(
        &mut self,
        method: &str,
        url: &str,
        fields: &[(&str, &str)],
    ) -> Result<Response, String> {
        self.sequence += 1;
        let mut request = format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\n", self.sequence);
        if let Some(session) = &self.session {
            request.push_str(&format!("Session: {session}\r\n"));
        }
        for (name, value) in fields {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let failed = |err: std::io::Error| format!("{method}: {err}");
        self.stream.get_mut().write_all(request.as_bytes()).map_err(failed)?;
        let response = self.answer(method)?;
        if let Some(session) = response.field("Session") {
            self.session = session.split(';').next().map(|it| it.trim().to_owned());
        }
        Ok(response)
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        let failed = |err: std::io::Error| format!("no answer: {err}");
        self.stream.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(failed)?;
        if line.last() != Some(&b'\n') {
            return Err("the server has hung up, or says a line without end".to_owned());
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn answer(&mut self, method: &str) -> Result<Response, String> {
        let status = self.line()?;
        let mut response = Response::default();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            if response.fields.len() >= MAX_FIELDS {
                return Err("the server's answer has no end".to_owned());
            }
            if let Some((name, value)) = line.split_once(':') {
                response.fields.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
        let length = response.field("Content-Length").and_then(|it| it.parse().ok()).unwrap_or(0_usize);
        if length > MAX_BODY_BYTES {
            return Err(format!("the server's answer has {length} bytes"));
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).map_err(|err| format!("no answer: {err}"))?;
        let mut words = status.split_whitespace();
        let is_rtsp = words.next().is_some_and(|it| it.starts_with("RTSP/"));
        match words.next() {
            Some("200") if is_rtsp => Ok(response),
            _ => {
                let body = String::from_utf8_lossy(&body).trim().to_owned();
                Err(format!("the server refuses {method}: {status} {body}").trim_end().to_owned())
            }
        }
    }
}
