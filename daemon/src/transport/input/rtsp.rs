//! The subset of RTSP (RFC 2326) that a SAT>IP client needs: sequential requests.
//!
//! A session outlives its connection (section 1.3), and servers close idle connections, or each one after its answer: a
//! request that finds its connection closed is resent over a new one, in the same session.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// Time limit for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit at the end of a session: an unreachable server must not delay a stop.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);
carousel::limits! {
    /// Fields of one response.
    const MAX_FIELDS: usize = 64, "fields" {
        why: "Servers send five to ten.",
        full: "The connection is closed and the input opened again.",
        free: "Holds for one response.",
        test: "endless_answers_end",
    }
    /// One line of a response.
    const MAX_LINE_BYTES: u64 = 4_096, "bytes" {
        why: "The longest lines of servers have 200 bytes.",
        full: "The connection is closed and the input opened again.",
        free: "Holds for one line.",
        test: "endless_answers_end",
    }
    /// Body of one response.
    const MAX_BODY_BYTES: usize = 64 << 10, "bytes" {
        why: "An SDP has a few hundred bytes.",
        full: "The connection is closed and the input opened again.",
        free: "Holds for one response.",
        test: "endless_answers_end",
    }
    /// Binary blocks (section 10.12) and empty lines skipped before a response.
    const MAX_INTERLEAVED: usize = 10_000, "blocks" {
        why: "A server that interleaves RTP sends some 2,000 a second.",
        full: "The connection is closed and the input opened again.",
        free: "Holds for one response.",
        test: "endless_answers_end",
    }
}

/// A client of one server.
#[derive(Debug)]
pub(super) struct Rtsp {
    server: String,
    /// `None` after the server has closed it, or announced that it will.
    connection: Option<BufReader<TcpStream>>,
    local: SocketAddr,
    peer: SocketAddr,
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

/// Error of a request.
#[derive(Debug)]
pub(super) enum RtspError {
    /// The server answered with another status than 200; with its explanation.
    Refused { status: u16, why: String },
    /// The connection was closed before an answer began.
    Ended(String),
    /// No connection, or no answer.
    Failed(String),
}

impl From<RtspError> for String {
    fn from(err: RtspError) -> Self {
        match err {
            RtspError::Refused { why, .. } | RtspError::Ended(why) | RtspError::Failed(why) => why,
        }
    }
}

fn connect(server: &str, timeout: Duration) -> Result<BufReader<TcpStream>, RtspError> {
    let failed = |err: std::io::Error| {
        RtspError::Failed(format!("{err}; is the server running, and is its port right?"))
    };
    let mut why = RtspError::Failed("the name has no address".to_owned());
    for address in server.to_socket_addrs().map_err(failed)? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                stream.set_read_timeout(Some(timeout)).map_err(failed)?;
                stream.set_write_timeout(Some(timeout)).map_err(failed)?;
                return Ok(BufReader::new(stream));
            }
            Err(err) => why = failed(err),
        }
    }
    Err(why)
}

impl Rtsp {
    pub(super) fn connect(server: &str) -> Result<Self, RtspError> {
        let connection = connect(server, TIMEOUT)?;
        let failed = |err: std::io::Error| RtspError::Failed(err.to_string());
        let local = connection.get_ref().local_addr().map_err(failed)?;
        let peer = connection.get_ref().peer_addr().map_err(failed)?;
        let connection = Some(connection);
        Ok(Self { server: server.to_owned(), connection, local, peer, sequence: 0, session: None })
    }

    /// Own address towards the server.
    pub(super) const fn local_ip(&self) -> IpAddr {
        self.local.ip()
    }

    /// The server's address.
    pub(super) const fn peer_ip(&self) -> IpAddr {
        self.peer.ip()
    }

    /// Sends a request and waits for the response.
    pub(super) fn ask(
        &mut self,
        method: &str,
        url: &str,
        fields: &[(&str, &str)],
    ) -> Result<Response, RtspError> {
        self.ask_within(TIMEOUT, method, url, fields)
    }

    /// Sends the last request of a session.
    pub(super) fn ask_last(&mut self, method: &str, url: &str) -> Result<Response, RtspError> {
        if let Some(connection) = &self.connection {
            let _ = connection.get_ref().set_read_timeout(Some(LAST_TIMEOUT));
        }
        self.ask_within(LAST_TIMEOUT, method, url, &[])
    }

    fn ask_within(
        &mut self,
        timeout: Duration,
        method: &str,
        url: &str,
        fields: &[(&str, &str)],
    ) -> Result<Response, RtspError> {
        if let Some(connection) = self.connection.take() {
            match self.ask_over(connection, method, url, fields) {
                Err(RtspError::Ended(_)) => {}
                other => return other,
            }
        }
        let connection = connect(&self.server, timeout)?;
        self.ask_over(connection, method, url, fields)
    }

    fn ask_over(
        &mut self,
        mut connection: BufReader<TcpStream>,
        method: &str,
        url: &str,
        fields: &[(&str, &str)],
    ) -> Result<Response, RtspError> {
        self.sequence += 1;
        let mut request = format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\n", self.sequence);
        if let Some(session) = &self.session {
            request.push_str(&format!("Session: {session}\r\n"));
        }
        for (name, value) in fields {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let failed = |err: std::io::Error| match is_ended(&err) {
            true => RtspError::Ended(format!("{method}: {err}")),
            false => RtspError::Failed(format!("{method}: {err}")),
        };
        connection.get_mut().write_all(request.as_bytes()).map_err(failed)?;
        // Closed without an answer: the connection had ended before.
        if connection.fill_buf().map_err(failed)?.is_empty() {
            return Err(RtspError::Ended(format!("{method}: the server ends the connection")));
        }
        let answer = answer(&mut connection, method);
        if let Ok(response) = &answer {
            if let Some(session) = response.field("Session") {
                let session = session.split(';').next().map(str::trim).filter(|it| is_word(it));
                self.session = session.map(str::to_owned);
            }
            let closes = response.field("Connection").is_some_and(|it| it.eq_ignore_ascii_case("close"));
            self.connection = Some(connection).filter(|_| !closes);
        } else if matches!(answer, Err(RtspError::Refused { .. })) {
            self.connection = Some(connection);
        }
        answer
    }
}

/// Whether a server's text may be sent back to it: a control character could end a line of the request.
pub(super) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_graphic())
}

fn is_ended(err: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(err.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn no_answer(err: &std::io::Error) -> RtspError {
    RtspError::Failed(format!("no answer: {err}"))
}

fn line(connection: &mut impl BufRead) -> Result<String, RtspError> {
    let mut line = Vec::new();
    connection.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(|err| no_answer(&err))?;
    if line.last() != Some(&b'\n') {
        return Err(RtspError::Failed(
            "the server's answer ends inside a line, or has an endless one".to_owned(),
        ));
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// Skips data before a response: unrequested RTP blocks, empty lines.
fn pass_over(connection: &mut impl BufRead) -> Result<(), RtspError> {
    for _ in 0..MAX_INTERLEAVED {
        match connection.fill_buf().map_err(|err| no_answer(&err))?.first() {
            Some(b'$') => {
                let mut head = [0; 4];
                connection.read_exact(&mut head).map_err(|err| no_answer(&err))?;
                let length = u64::from(u16::from_be_bytes([head[2], head[3]]));
                std::io::copy(&mut connection.by_ref().take(length), &mut std::io::sink())
                    .map_err(|err| no_answer(&err))?;
            }
            Some(b'\r' | b'\n') => connection.consume(1),
            _ => return Ok(()),
        }
    }
    Err(RtspError::Failed("the server sends everything but an answer".to_owned()))
}

pub(super) fn answer(connection: &mut impl BufRead, method: &str) -> Result<Response, RtspError> {
    pass_over(connection)?;
    let status = line(connection)?;
    let mut response = Response::default();
    loop {
        let line = line(connection)?;
        if line.is_empty() {
            break;
        }
        if response.fields.len() >= MAX_FIELDS {
            return Err(RtspError::Failed("the server's answer has no end".to_owned()));
        }
        if let Some((name, value)) = line.split_once(':') {
            response.fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    let length = response.field("Content-Length").and_then(|it| it.parse().ok()).unwrap_or(0_usize);
    if length > MAX_BODY_BYTES {
        return Err(RtspError::Failed(format!("the server's answer has {length} bytes")));
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).map_err(|err| no_answer(&err))?;
    let mut words = status.split_whitespace();
    let is_rtsp = words.next().is_some_and(|it| it.starts_with("RTSP/"));
    match words.next().and_then(|it| it.parse().ok()) {
        Some(200) if is_rtsp => Ok(response),
        code => {
            // SAT>IP 1.2.2 clause 3.5.14 defines fields that name the rejected part of the request.
            let said = ["Check-Syntax", "Out-of-Range", "No-More"]
                .iter()
                .filter_map(|name| response.field(name).map(|value| format!("{name}: {value}")));
            let body = String::from_utf8_lossy(&body).trim().to_owned();
            let mut parts = vec![format!("the server refuses {method}: {status}")];
            parts.extend(said.chain([body]).filter(|part| !part.is_empty()));
            Err(RtspError::Refused { status: code.unwrap_or(0), why: parts.join(", ") })
        }
    }
}
