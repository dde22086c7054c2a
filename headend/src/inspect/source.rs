//! Inputs of `inspect`: a recording, or the network.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use carousel::capture::{Datagrams, Records};
use carousel::ts::PACKET_BYTES;
use carousel::ts::stream::Packets;

use super::stream::rate_of;
use super::{Inspector, Report};
use crate::net::join;
use crate::sys;

/// Input to inspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A pcap or pcapng file, or one of transport stream packets.
    File(PathBuf),
    /// `udp://GROUP:PORT`; `rtp://GROUP:PORT` is the same.
    Udp(SocketAddr),
}

impl std::str::FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("udp://").or_else(|| text.strip_prefix("rtp://")) {
            Some(address) => {
                let address = address.trim_start_matches('@').trim_end_matches('/');
                address
                    .parse()
                    .map(Self::Udp)
                    .map_err(|_| format!("{text}: give udp://GROUP:PORT, such as udp://224.0.23.14:3937"))
            }
            None => Ok(Self::File(PathBuf::from(text))),
        }
    }
}

/// Watches `source` to its end (`rate_bps` is what a file of packets was sent at, where it does not say itself), for `seconds` (0: until `stop`), or until `stop` is set.
///
/// # Errors
/// A file that is not a recording, a group that cannot be joined, files that cannot be written.
pub fn run(
    source: &Source,
    inspector: Inspector,
    interface: &str,
    seconds: u64,
    rate_bps: Option<u64>,
    stop: &Arc<AtomicBool>,
) -> Result<Report, String> {
    match source {
        Source::File(path) => read_file(path, rate_bps, inspector),
        Source::Udp(address) => listen(*address, inspector, interface, seconds, stop),
    }
}

fn read_file(path: &Path, rate_bps: Option<u64>, mut inspector: Inspector) -> Result<Report, String> {
    let failed = |err: std::io::Error| {
        let why = carousel::config::plain(&err);
        format!(
            "{}: {why}; name a recording (pcap, pcapng, transport stream), or udp://GROUP:PORT",
            path.display()
        )
    };
    let file = File::open(path).map_err(failed)?;
    let map = sys::map_file(&file).map_err(failed)?;
    if let Some(packets) = Packets::new(&map).filter(|_| Records::new(&map).is_err()) {
        return read_packets(
            packets,
            rate_bps.map(|rate| rate as f64).or_else(|| Packets::new(&map).and_then(rate_of)),
            inspector,
        );
    }
    let wrong = |err| format!("{}: {err}, and no transport stream", path.display());
    // Services are known before their signalling, which a recording may begin with.
    let mut datagrams = Datagrams::new(Records::new(&map).map_err(wrong)?);
    while let Some((_, datagram)) = datagrams.next_datagram() {
        inspector.lls(datagram.source, datagram.destination, datagram.payload);
    }
    let records = Records::new(&map).map_err(wrong)?;
    let mut datagrams = Datagrams::new(records);
    while let Some((time_ns, datagram)) = datagrams.next_datagram() {
        inspector.datagram(time_ns, datagram.source, datagram.destination, datagram.payload)?;
    }
    let mut report = inspector.finish()?;
    report.truncated = datagrams.is_truncated();
    Ok(report)
}

/// A file of transport stream packets: what has no rate has no times.
fn read_packets(
    mut packets: Packets<'_>,
    rate_bps: Option<f64>,
    mut inspector: Inspector,
) -> Result<Report, String> {
    inspector.set_rate(rate_bps);
    let packet_ns = rate_bps.map_or(0.0, |rate| PACKET_BYTES as f64 * 8e9 / rate);
    for (at, packet) in packets.by_ref().enumerate() {
        inspector.ts_packet((at as f64 * packet_ns) as u64, packet)?;
    }
    let mut report = inspector.finish()?;
    report.truncated = packets.remaining() > 0;
    Ok(report)
}

fn listen(
    address: SocketAddr,
    mut inspector: Inspector,
    interface: &str,
    seconds: u64,
    stop: &Arc<AtomicBool>,
) -> Result<Report, String> {
    let socket = join(address, interface).map_err(|err| {
        let why = carousel::config::without_numbers(&err);
        format!("{address}: {why}; name an interface that is up with --interface, or check with `ip addr`")
    })?;
    let start = Instant::now();
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) && (seconds == 0 || start.elapsed() < Duration::from_secs(seconds)) {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                inspector.datagram(since.as_nanos() as u64, from, address, &buffer[..length])?;
            }
            Err(err)
                if matches!(
                    err.kind(),
                    std::io::ErrorKind::WouldBlock
                        | std::io::ErrorKind::TimedOut
                        | std::io::ErrorKind::Interrupted
                ) => {}
            Err(err) => {
                return Err(format!("{address}: {}", carousel::config::without_numbers(&err)));
            }
        }
    }
    inspector.finish()
}
