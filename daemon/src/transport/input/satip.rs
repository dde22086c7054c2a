//! Client of a SAT>IP server (SAT>IP specification 1.2.2): tuning by RTSP, packets by RTP, signal by RTCP.
//!
//! Requests have every parameter that clause 3.5.10 defines for the system: some servers refuse a DVB-S2 request without
//! `ro`, `mtype`, `plts` and `fec`, although their demodulators detect these. Parameters missing in the configuration are
//! assumed ([`ASSUMED`]); after a refusal or without lock, the next attempt uses the next assumption.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use carousel::multiplex::wrapping::{Unit, Unwrap};
use carousel::time::Instant;
use carousel::ts::Pid;

use super::rtsp::{Response, Rtsp, RtspError, is_word};
use super::{Input, InputError, PATIENCE, Read, Signal};
use crate::clock;
use crate::source::{Batch, Poll};
use crate::transport::options::{Carrier, Modulation, Polarization, System};

/// A session ends after 60 s without a request, unless the server says otherwise (RFC 2326 section 12.37).
const DEFAULT_TIMEOUT_S: u64 = 60;
/// Longest session timeout accepted from a server (RFC 2326 section 12.37).
pub(super) const MAX_TIMEOUT_S: u64 = 3600;
/// PIDs requested before the first table has been received.
const FIRST_PIDS: &str = "0,16,17,20";
/// Maximum PIDs in a request: servers have 16 to 64 filters. With more, all are requested.
const MAX_PIDS: usize = 60;
/// Attempts to find a free pair of ports.
const PORT_TRIES: usize = 50;
/// Requested receive buffer.
const BUFFER_BYTES: usize = 4 << 20;
/// The largest datagram.
const DATAGRAM_BYTES: usize = 65_536;
/// Batches in one read.
const TURN: usize = 8;
/// Requests to keep a session alive, in order of preference; the first that the server supports is used. OPTIONS is that
/// of clause 3.5.9; any request with the session suffices.
const KEEP_ALIVE: [&str; 3] = ["OPTIONS", "GET_PARAMETER", "PLAY"];

/// Assumptions about a DVB-S2 carrier that is not fully configured.
#[derive(Debug, Clone, Copy)]
struct CarrierDefaults {
    modulation: &'static str,
    roll_off: &'static str,
    pilots: &'static str,
    code_rate: &'static str,
}

/// In order of the attempts: the most common parameters of television carriers first.
const ASSUMED: [CarrierDefaults; 4] = [
    CarrierDefaults { modulation: "8psk", roll_off: "0.35", pilots: "on", code_rate: "34" },
    CarrierDefaults { modulation: "8psk", roll_off: "0.20", pilots: "off", code_rate: "23" },
    CarrierDefaults { modulation: "qpsk", roll_off: "0.35", pilots: "off", code_rate: "34" },
    CarrierDefaults { modulation: "8psk", roll_off: "0.25", pilots: "off", code_rate: "56" },
];

/// A session with a server.
#[derive(Debug)]
pub(super) struct SatIp {
    rtsp: Rtsp,
    server: String,
    stream_url: String,
    packets: UdpSocket,
    poll: Poll,
    batch: Batch,
    reports: UdpSocket,
    /// Accepted source addresses of packets: the server's, and the one that it announces.
    sources: [std::net::IpAddr; 2],
    unwrap: Unwrap,
    buffer: Vec<u8>,
    signal: Option<Signal>,
    keep_alive: Duration,
    /// Index into [`KEEP_ALIVE`].
    keep_alive_by: usize,
    next_word: Instant,
    /// Queries for the carrier, with different assumptions.
    queries: Vec<String>,
    /// Index into `queries`.
    attempt: usize,
    pids: String,
}

impl SatIp {
    pub(super) fn open(server: &str, carrier: &Carrier) -> Result<Self, InputError> {
        let at = |why: String| InputError::Server { server: server.to_owned(), why };
        let mut rtsp = Rtsp::connect(server).map_err(|err| at(err.into()))?;
        let (packets, reports) = port_pair(rtsp.local_ip())?;
        let poll = Poll::new().map_err(no_port)?;
        poll.add(&packets, 0).map_err(no_port)?;
        let port = packets.local_addr().map_err(no_port)?.port();
        let transport = format!("RTP/AVP;unicast;client_port={port}-{}", port + 1);
        let queries = queries(carrier);
        let mut attempt = 0;
        let answer = loop {
            let url = format!("rtsp://{server}/?{}&pids={FIRST_PIDS}", queries[attempt]);
            match rtsp.ask("SETUP", &url, &[("Transport", &transport)]) {
                Ok(answer) => break answer,
                // Other parameters may be accepted; no free tuner (404, 503) is retried later with the same ones.
                Err(RtspError::Refused { status: 400 | 403 | 406 | 451 | 500, .. })
                    if attempt + 1 < queries.len() =>
                {
                    attempt += 1;
                }
                Err(err) => return Err(at(err.into())),
            }
        };
        let Setup { stream, timeout_s, source } = Setup::of(&answer);
        let stream_url = format!("rtsp://{server}/stream={stream}");
        let peer = rtsp.peer_ip();
        let source = source.unwrap_or(peer);
        rtsp.ask("PLAY", &stream_url, &[]).map_err(|err| at(err.into()))?;
        let keep_alive = Duration::from_secs((timeout_s / 2).max(1));
        Ok(Self {
            rtsp,
            server: server.to_owned(),
            stream_url,
            packets,
            poll,
            batch: Batch::default(),
            reports,
            sources: [peer, source],
            unwrap: Unwrap::default(),
            buffer: vec![0; DATAGRAM_BYTES],
            signal: None,
            keep_alive,
            keep_alive_by: 0,
            next_word: clock::now() + keep_alive,
            queries,
            attempt,
            pids: FIRST_PIDS.to_owned(),
        })
    }

    fn at(&self, why: impl Into<String>) -> InputError {
        InputError::Server { server: self.server.clone(), why: why.into() }
    }

    fn play(&mut self, query: &str) -> Result<(), InputError> {
        let url = format!("{}{query}", self.stream_url);
        self.rtsp.ask("PLAY", &url, &[]).map(|_| ()).map_err(|err| self.at(err))
    }

    /// Keeps the session alive, by a request that the server knows.
    fn keep_alive(&mut self) -> Result<(), InputError> {
        loop {
            let method = KEEP_ALIVE[self.keep_alive_by];
            match self.rtsp.ask(method, &self.stream_url, &[]) {
                Ok(_) => return Ok(()),
                // The server does not support the request, or not for a session. If the session is gone (454), no other
                // request helps.
                Err(RtspError::Refused { status: 400 | 404 | 405 | 455 | 500 | 501 | 551, .. })
                    if self.keep_alive_by + 1 < KEEP_ALIVE.len() =>
                {
                    self.keep_alive_by += 1;
                }
                Err(err) => return Err(self.at(err)),
            }
        }
    }
}

impl Input for SatIp {
    fn read(&mut self, each: &mut dyn FnMut(Unit<'_>)) -> Result<Read, InputError> {
        if clock::now() >= self.next_word {
            self.next_word = clock::now() + self.keep_alive;
            self.keep_alive()?;
        }
        let is_idle = match self.poll.wait(PATIENCE) {
            Ok(ready) => ready.is_empty(),
            Err(err) => return Err(self.at(format!("waiting failed: {err}"))),
        };
        if is_idle {
            self.unwrap.idle(each);
        }
        for _ in 0..if is_idle { 0 } else { TURN } {
            let (sources, unwrap) = (&self.sources, &mut self.unwrap);
            let read = self.batch.read(&self.packets, |from, payload| {
                // Any host can send to an open port.
                if sources.contains(&from.ip()) {
                    unwrap.datagram(payload, each);
                }
            });
            match read {
                Ok(received) if received.more => {}
                Ok(_) => break,
                Err(err) => return Err(self.at(format!("reading failed: {err}"))),
            }
        }
        while let Ok((length, from)) = self.reports.recv_from(&mut self.buffer) {
            if self.sources.contains(&from.ip()) {
                self.signal = signal_of(&self.buffer[..length]).or(self.signal);
            }
        }
        Ok(Read::More)
    }

    fn want(&mut self, pids: &[Pid]) -> Result<(), InputError> {
        let wanted = match pids.len() > MAX_PIDS {
            true => "all".to_owned(),
            false => pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        };
        if wanted == self.pids {
            return Ok(());
        }
        self.play(&format!("?pids={wanted}"))?;
        self.pids = wanted;
        Ok(())
    }

    fn signal(&mut self) -> Option<Signal> {
        self.signal
    }

    fn retune(&mut self) -> Result<(), InputError> {
        self.attempt = (self.attempt + 1) % self.queries.len();
        self.play(&format!("?{}&pids={}", self.queries[self.attempt], self.pids))
    }

    fn unwrap(&self) -> Option<&Unwrap> {
        Some(&self.unwrap)
    }
}

impl Drop for SatIp {
    fn drop(&mut self) {
        // Tuners are scarce: free it without waiting for the session timeout.
        let url = self.stream_url.clone();
        let _ = self.rtsp.ask_last("TEARDOWN", &url);
    }
}

/// Content of a response to SETUP.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) stream: String,
    pub(super) timeout_s: u64,
    /// Source address of packets, if it is not the server's.
    pub(super) source: Option<std::net::IpAddr>,
}

impl Setup {
    pub(super) fn of(answer: &Response) -> Self {
        let stream = answer.field("com.ses.streamID").and_then(|it| it.split(';').next()).map(str::trim);
        Self {
            // Part of the URLs of further requests; digits according to clause 3.5.2.
            stream: stream.filter(|it| is_word(it)).unwrap_or("1").to_owned(),
            timeout_s: answer.field("Session").and_then(timeout_of).unwrap_or(DEFAULT_TIMEOUT_S),
            source: answer.field("Transport").and_then(source_of),
        }
    }
}

fn no_port(err: std::io::Error) -> InputError {
    InputError::local("no port for RTP".to_owned(), err)
}

/// Two sockets: an even port and the next one.
fn port_pair(own: std::net::IpAddr) -> Result<(UdpSocket, UdpSocket), InputError> {
    for _ in 0..PORT_TRIES {
        let packets = UdpSocket::bind(SocketAddr::new(own, 0)).map_err(no_port)?;
        let port = packets.local_addr().map_err(no_port)?.port();
        if port % 2 != 0 {
            continue;
        }
        let Ok(reports) = UdpSocket::bind(SocketAddr::new(own, port + 1)) else { continue };
        reports.set_nonblocking(true).map_err(no_port)?;
        let _ = socket2::SockRef::from(&packets).set_recv_buffer_size(BUFFER_BYTES);
        return Ok((packets, reports));
    }
    Err(no_port(std::io::Error::other("no two ports that follow each other are free")))
}

/// The queries for a carrier: one if it is fully configured.
fn queries(carrier: &Carrier) -> Vec<String> {
    let mut queries = Vec::with_capacity(ASSUMED.len());
    for attempt in 0..ASSUMED.len() {
        let query = query(carrier, attempt);
        if !queries.contains(&query) {
            queries.push(query);
        }
    }
    queries
}

/// Query for a carrier (clause 3.5.10), with the assumptions of one attempt.
fn query(carrier: &Carrier, attempt: usize) -> String {
    let polarization = match carrier.polarization {
        Polarization::Horizontal => "h",
        Polarization::Vertical => "v",
        Polarization::Left => "l",
        Polarization::Right => "r",
    };
    let (mhz, khz) = (carrier.frequency_khz / 1000, carrier.frequency_khz % 1000);
    let frequency =
        if khz == 0 { mhz.to_string() } else { format!("{mhz}.{khz:03}").trim_end_matches('0').to_owned() };
    let assumed = ASSUMED[attempt];
    let is_s2 = carrier.system != System::DvbS;
    let mut query = format!("src={}&freq={frequency}&pol={polarization}", carrier.satellite.max(1));
    let code_rate = carrier.code_rate.as_ref().map(|it| it.replace('/', ""));
    if is_s2 {
        let modulation = carrier.modulation.map_or(assumed.modulation, |it| match it {
            Modulation::Qpsk => "qpsk",
            Modulation::Psk8 => "8psk",
            Modulation::Apsk16 => "16apsk",
            Modulation::Apsk32 => "32apsk",
        });
        let roll_off = carrier.roll_off.as_deref().unwrap_or(assumed.roll_off);
        let pilots = carrier.pilots.map_or(assumed.pilots, |it| if it { "on" } else { "off" });
        query.push_str(&format!("&ro={roll_off}&msys=dvbs2&mtype={modulation}&plts={pilots}"));
    } else {
        query.push_str("&msys=dvbs");
    }
    query.push_str(&format!("&sr={}", carrier.symbol_rate_ksps));
    match code_rate {
        Some(code_rate) => query.push_str(&format!("&fec={code_rate}")),
        // DVB-S demodulators detect the code rate; it is sent only after a refusal.
        None if is_s2 || attempt > 0 => query.push_str(&format!("&fec={}", assumed.code_rate)),
        None => {}
    }
    if let Some(stream_id) = carrier.stream_id {
        query.push_str(&format!("&isi={stream_id}"));
    }
    query
}

/// Seconds of `1234;timeout=30`; `None` if the server gives none, or an invalid one.
fn timeout_of(session: &str) -> Option<u64> {
    let parameters = session.split(';').filter_map(|part| part.split_once('='));
    let mut timeout = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"));
    let seconds = timeout.next_back()?.1.trim().trim_matches('"').parse::<u64>().ok()?;
    (seconds > 0).then_some(seconds.min(MAX_TIMEOUT_S))
}

/// The source address announced by a server: `RTP/AVP;unicast;source=192.0.2.1;client_port=…`.
fn source_of(transport: &str) -> Option<std::net::IpAddr> {
    let source = transport.split(';').find_map(|part| part.trim().strip_prefix("source="))?;
    source.trim().trim_matches('"').parse().ok()
}

/// The signal in a compound RTCP packet: `tuner=<frontend>,<level>,<lock>,<quality>,…` in an APP packet called SES1
/// (clause 3.5.7).
pub(super) fn signal_of(bytes: &[u8]) -> Option<Signal> {
    let mut rest = bytes;
    while let [first, kind, high, low, ..] = *rest {
        let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        let packet = rest.get(..length)?;
        rest = &rest[length..];
        if first >> 6 != 2 || kind != 204 || packet.get(8..12) != Some(b"SES1") {
            continue;
        }
        let count = usize::from(u16::from_be_bytes(*packet.get(14..)?.first_chunk()?));
        let text = std::str::from_utf8(packet.get(16..16 + count)?).ok()?;
        let tuner = text.split(';').find_map(|part| part.trim().strip_prefix("tuner="))?;
        let mut values = tuner.split(',').skip(1).map(str::trim);
        let level: f64 = values.next()?.parse().ok()?;
        let lock = values.next()?;
        let quality: f64 = values.next()?.parse().ok()?;
        return Some(Signal {
            locked: lock == "1",
            strength_percent: Some(level.clamp(0.0, 255.0) / 2.55),
            quality_percent: Some(quality.clamp(0.0, 15.0) / 0.15),
            ..Signal::default()
        });
    }
    None
}

#[cfg(test)]
#[path = "satip_tests.rs"]
mod tests;
