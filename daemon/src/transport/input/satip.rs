//! A SAT>IP server (SAT>IP specification 1.2.2): tuned by RTSP, packets by RTP, signal by RTCP.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use carousel::time::Instant;
use carousel::ts::Pid;
use carousel::ts::rtp::RtpCounts;
use carousel::ts::wrapping::{Unit, Unwrap, Wrapping};

use super::rtsp::Rtsp;
use super::{Input, PATIENCE, Read, Signal};
use crate::clock;
use crate::transport::config::{Carrier, Modulation, Polarization, System};

/// A session ends after 60 s without a word, unless the server says otherwise.
const DEFAULT_TIMEOUT_S: u64 = 60;
/// PIDs that are asked for before any table has come.
const FIRST_PIDS: &str = "0,16,17,20";
/// PIDs in a request: servers have 16 to 64 filters; with more, all are asked for.
const MAX_PIDS: usize = 60;
/// Pairs of ports that are tried.
const PORT_TRIES: usize = 50;
/// Asked of the kernel.
const BUFFER_BYTES: usize = 4 << 20;
/// The largest datagram.
const DATAGRAM_BYTES: usize = 65_536;
/// Datagrams read before others have their turn.
const TURN: usize = 256;

/// A session with a server.
#[derive(Debug)]
pub(super) struct SatIp {
    rtsp: Rtsp,
    server: String,
    stream_url: String,
    packets: UdpSocket,
    reports: UdpSocket,
    server_ip: std::net::IpAddr,
    unwrap: Unwrap,
    buffer: Vec<u8>,
    signal: Option<Signal>,
    keep_alive: Duration,
    next_word: Instant,
    carrier: Carrier,
    pids: String,
}

impl SatIp {
    pub(super) fn open(server: &str, carrier: Carrier) -> Result<Self, String> {
        let at = |why: String| format!("satip://{server}: {why}");
        let mut rtsp = Rtsp::connect(server).map_err(at)?;
        let (packets, reports) = port_pair(rtsp.local_ip().map_err(at)?).map_err(at)?;
        let port = packets.local_addr().map_err(|err| at(err.to_string()))?.port();
        let url = format!("rtsp://{server}/?{}&pids={FIRST_PIDS}", query(&carrier));
        let transport = format!("RTP/AVP;unicast;client_port={port}-{}", port + 1);
        let answer = rtsp.ask("SETUP", &url, &[("Transport", &transport)]).map_err(at)?;
        let stream = answer.field("com.ses.streamID").unwrap_or("1").to_owned();
        let timeout_s = answer.field("Session").and_then(timeout_of).unwrap_or(DEFAULT_TIMEOUT_S);
        let stream_url = format!("rtsp://{server}/stream={stream}");
        rtsp.ask("PLAY", &stream_url, &[]).map_err(at)?;
        let keep_alive = Duration::from_secs((timeout_s / 2).max(1));
        let server_ip = rtsp.peer_ip().map_err(at)?;
        Ok(Self {
            rtsp,
            server: server.to_owned(),
            stream_url,
            packets,
            reports,
            server_ip,
            unwrap: Unwrap::default(),
            buffer: vec![0; DATAGRAM_BYTES],
            signal: None,
            keep_alive,
            next_word: clock::now() + keep_alive,
            carrier,
            pids: FIRST_PIDS.to_owned(),
        })
    }

    fn at(&self, why: &str) -> String {
        format!("satip://{}: {why}", self.server)
    }
}

impl Input for SatIp {
    fn read(&mut self, each: &mut dyn FnMut(Unit<'_>)) -> Result<Read, String> {
        if clock::now() >= self.next_word {
            self.next_word = clock::now() + self.keep_alive;
            let url = self.stream_url.clone();
            self.rtsp.ask("OPTIONS", &url, &[]).map_err(|why| self.at(&why))?;
        }
        for turn in 0..TURN {
            match self.packets.recv_from(&mut self.buffer) {
                // Anybody can send to an open port.
                Ok((length, from)) if from.ip() == self.server_ip => {
                    self.unwrap.datagram(Wrapping::Rtp, &self.buffer[..length], each);
                }
                Ok(_) => {}
                Err(err) if is_nothing(&err) => {
                    if turn == 0 {
                        self.unwrap.idle(each);
                    }
                    break;
                }
                Err(err) => return Err(self.at(&format!("reading failed: {err}"))),
            }
        }
        while let Ok((length, from)) = self.reports.recv_from(&mut self.buffer) {
            if from.ip() == self.server_ip {
                self.signal = signal_of(&self.buffer[..length]).or(self.signal);
            }
        }
        Ok(Read::More)
    }

    fn want(&mut self, pids: &[Pid]) -> Result<(), String> {
        let wanted = match pids.len() > MAX_PIDS {
            true => "all".to_owned(),
            false => pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        };
        if wanted == self.pids {
            return Ok(());
        }
        let url = format!("{}?pids={wanted}", self.stream_url);
        self.rtsp.ask("PLAY", &url, &[]).map_err(|why| self.at(&why))?;
        self.pids = wanted;
        Ok(())
    }

    fn signal(&mut self) -> Option<Signal> {
        self.signal
    }

    fn retune(&mut self) -> Result<(), String> {
        let url = format!("{}?{}&pids={}", self.stream_url, query(&self.carrier), self.pids);
        self.rtsp.ask("PLAY", &url, &[]).map(|_| ()).map_err(|why| self.at(&why))
    }

    fn rtp(&self) -> Option<RtpCounts> {
        self.unwrap.rtp()
    }
}

impl Drop for SatIp {
    fn drop(&mut self) {
        // Tuners are few: the server should not wait for the session to time out.
        let url = self.stream_url.clone();
        let _ = self.rtsp.ask("TEARDOWN", &url, &[]);
    }
}

fn is_nothing(err: &std::io::Error) -> bool {
    matches!(
        err.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut | std::io::ErrorKind::Interrupted
    )
}

/// Two sockets with an even port and the one behind it.
fn port_pair(own: std::net::IpAddr) -> Result<(UdpSocket, UdpSocket), String> {
    let failed = |err: std::io::Error| format!("no port for RTP: {err}");
    for _ in 0..PORT_TRIES {
        let packets = UdpSocket::bind(SocketAddr::new(own, 0)).map_err(failed)?;
        let port = packets.local_addr().map_err(failed)?.port();
        if port % 2 != 0 {
            continue;
        }
        let Ok(reports) = UdpSocket::bind(SocketAddr::new(own, port + 1)) else { continue };
        packets.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        reports.set_nonblocking(true).map_err(failed)?;
        let _ = socket2::SockRef::from(&packets).set_recv_buffer_size(BUFFER_BYTES);
        return Ok((packets, reports));
    }
    Err("no two ports that follow each other are free".to_owned())
}

/// What a carrier is in a request (clause 3.5.10).
fn query(carrier: &Carrier) -> String {
    let polarization = match carrier.polarization {
        Polarization::Horizontal => "h",
        Polarization::Vertical => "v",
        Polarization::Left => "l",
        Polarization::Right => "r",
    };
    let (mhz, khz) = (carrier.frequency_khz / 1000, carrier.frequency_khz % 1000);
    let frequency =
        if khz == 0 { mhz.to_string() } else { format!("{mhz}.{khz:03}").trim_end_matches('0').to_owned() };
    let is_s2 = carrier.system != System::DvbS;
    let mut query = format!(
        "src={}&freq={frequency}&pol={polarization}&msys={}&sr={}",
        carrier.satellite.max(1),
        if is_s2 { "dvbs2" } else { "dvbs" },
        carrier.symbol_rate_ksps
    );
    let modulation = carrier.modulation.map(|it| match it {
        Modulation::Qpsk => "qpsk",
        Modulation::Psk8 => "8psk",
        Modulation::Apsk16 => "16apsk",
        Modulation::Apsk32 => "32apsk",
    });
    if let Some(modulation) = modulation.filter(|_| is_s2) {
        query.push_str(&format!("&mtype={modulation}"));
    }
    if let Some(roll_off) = carrier.roll_off.as_ref().filter(|_| is_s2) {
        query.push_str(&format!("&ro={roll_off}"));
    }
    if let Some(code_rate) = &carrier.code_rate {
        query.push_str(&format!("&fec={}", code_rate.replace('/', "")));
    }
    if let Some(stream_id) = carrier.stream_id {
        query.push_str(&format!("&isi={stream_id}"));
    }
    query
}

/// `1234;timeout=30`.
fn timeout_of(session: &str) -> Option<u64> {
    session.split(';').find_map(|part| part.trim().strip_prefix("timeout=")).and_then(|it| it.parse().ok())
}

/// The signal in a compound RTCP packet: `tuner=<frontend>,<level>,<lock>,<quality>,…` in an APP packet called SES1
/// (clause 3.5.7).
fn signal_of(bytes: &[u8]) -> Option<Signal> {
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
