//! `cargo xtask bench send`: cost of a Gbit in `headend send`, beside bare loops that send the same datagrams, with a call for
//! each and with buffers that the kernel splits; and the deviation of the gaps between packets. Over the loopback interface, to
//! a group without members: a packet passes the network stack up to the driver.

use std::fs;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use socket2::{Domain, InterfaceIndexOrAddress, MsgHdr, Protocol, SockAddr, Socket, Type};

/// Payload of a packet of media: symbols of 1400 bytes behind headers of LCT and FEC.
const PAYLOAD_BYTES: usize = 1420;
const SEGMENTS: usize = 44;
const GROUP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(239, 192, 49, 9)), 49_100);

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    let (seconds, rounds) = if quick { (0.2, 1) } else { (3.0, 5) };
    let folder = tempfile::tempdir().expect("a folder");
    let files = if quick { 2 } else { 24 };
    write_package(&folder.path().join("film"), files);
    println!("processor time, ms a Gbit of IP packets: median (least to greatest) of {rounds} rounds");
    println!(
        "{:>14} {:>26} {:>26} {:>26} {:>8}",
        "Mbit/s", "headend send", "bare, a call each", "bare, split", "reached"
    );
    for rate_bps in [60_000_000_u64, 1_000_000_000, 5_000_000_000] {
        let (mut ours, mut each, mut split, mut reached) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (cost, bps) = headend(folder.path(), rate_bps, seconds);
            ours.push(cost);
            reached.push(bps / rate_bps as f64);
            each.push(bare(seconds / 4.0, 1));
            split.push(bare(seconds / 4.0, SEGMENTS));
        }
        let reached = format!("{:.0} %", 100.0 * spread(&mut reached).1);
        println!(
            "{:>14} {:>26} {:>26} {:>26} {reached:>8}",
            rate_bps / 1_000_000,
            shown(&mut ours),
            shown(&mut each),
            shown(&mut split)
        );
    }
    println!("\ngap between two packets of media at 60 Mbit/s, off the rate by, us");
    println!("{:>14} {:>8} {:>8} {:>8}", "packets", "p50", "p99", "p99.9");
    let mut off_ns = gaps(folder.path(), 60_000_000, if quick { 50 } else { 20_000 });
    off_ns.sort_unstable();
    let quantile = |q: f64| off_ns[((off_ns.len() - 1) as f64 * q) as usize] as f64 / 1000.0;
    println!("{:>14} {:>8.1} {:>8.1} {:>8.1}", off_ns.len(), quantile(0.5), quantile(0.99), quantile(0.999));
}

/// Least, median, greatest.
fn spread(values: &mut [f64]) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}

fn shown(values: &mut [f64]) -> String {
    let (least, median, greatest) = spread(values);
    format!("{median:.1} ({least:.1} to {greatest:.1})")
}

fn write_package(folder: &Path, files: usize) {
    fs::create_dir_all(folder).expect("a folder");
    let mut playlist =
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n".to_owned();
    for number in 0..files {
        let bytes: Vec<u8> = (0..188 * 16_000_usize).map(|at| (at * 31 + number) as u8).collect();
        fs::write(folder.join(format!("{number}.ts")), bytes).expect("a segment");
        playlist.push_str(&format!("#EXTINF:4,\n{number}.ts\n"));
    }
    playlist.push_str("#EXT-X-ENDLIST\n");
    fs::write(folder.join("v.m3u8"), playlist).expect("a playlist");
}

/// A running `headend send`.
struct Sender {
    child: Child,
    config: PathBuf,
}

impl Sender {
    fn start(folder: &Path, rate_bps: u64) -> Self {
        let config = folder.join("headend.toml");
        let text = format!(
            "link.rate_bps = {rate_bps}\noutput.interface = 'lo'\n[sessions]\nmedia = '{GROUP}'\n\
             [[source]]\npath = 'film'\nbase = 'http://h/v/'\n"
        );
        fs::write(&config, text).expect("a configuration");
        let child = Command::new(env!("CARGO_BIN_EXE_headend"))
            .args(["send", "-c"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("headend");
        let sender = Self { child, config };
        let begin = Instant::now();
        while sender.bytes().is_none_or(|bytes| bytes == 0) {
            assert!(begin.elapsed() < Duration::from_secs(60), "headend does not send");
            std::thread::sleep(Duration::from_millis(20));
        }
        sender
    }

    /// Bytes of IP packets so far, as of the last second.
    fn bytes(&self) -> Option<u64> {
        let output = Command::new(env!("CARGO_BIN_EXE_headend"))
            .args(["status", "--json", "-c"])
            .arg(&self.config)
            .output()
            .ok()?;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        status["bytes"].as_u64()
    }

    /// Processor time of all its threads.
    fn cpu_ns(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("its threads");
        tasks.flatten().map(|task| run_ns(&task.path().join("schedstat"))).sum()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first number of a `schedstat`: nanoseconds on a processor.
fn run_ns(schedstat: &Path) -> u64 {
    let text = fs::read_to_string(schedstat).unwrap_or_default();
    text.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0)
}

/// Cost in ms a Gbit, and bits a second.
fn headend(folder: &Path, rate_bps: u64, seconds: f64) -> (f64, f64) {
    let sender = Sender::start(folder, rate_bps);
    // The state is written once a second: both looks are just after that.
    let next = |before: u64| loop {
        let bytes = sender.bytes().unwrap_or(0);
        if bytes != before {
            return (bytes, sender.cpu_ns(), Instant::now());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let first = next(sender.bytes().unwrap_or(0));
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let last = next(sender.bytes().unwrap_or(0));
    let bits = (last.0 - first.0) as f64 * 8.0;
    ((last.1 - first.1) as f64 / 1e6 / (bits / 1e9), bits / (last.2 - first.2).as_secs_f64())
}

fn socket() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).expect("a socket");
    socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).expect("the loopback interface");
    socket
}

/// Cost in ms a Gbit of a loop that sends `segments` datagrams with each call.
fn bare(seconds: f64, segments: usize) -> f64 {
    let socket = socket();
    let payload = vec![0x5a; PAYLOAD_BYTES * segments];
    let address = SockAddr::from(GROUP);
    let control = segment_message(PAYLOAD_BYTES as u16);
    let buffers = [IoSlice::new(&payload)];
    let message = MsgHdr::new().with_addr(&address).with_buffers(&buffers);
    let message = if segments > 1 { message.with_control(&control) } else { message };
    let own = Path::new("/proc/thread-self/schedstat");
    let (begin, cpu_ns, mut sent) = (Instant::now(), run_ns(own), 0_u64);
    while begin.elapsed().as_secs_f64() < seconds {
        for _ in 0..64 {
            match socket.sendmsg(&message, 0) {
                Ok(_) => sent += segments as u64,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(err) => panic!("{err}"),
            }
        }
    }
    let bits = sent as f64 * (PAYLOAD_BYTES + 28) as f64 * 8.0;
    (run_ns(own) - cpu_ns) as f64 / 1e6 / (bits / 1e9)
}

/// `struct cmsghdr` with `UDP_SEGMENT`, in the order of this machine.
fn segment_message(segment: u16) -> [u8; 24] {
    let mut control = [0; 24];
    control[..8].copy_from_slice(&18_u64.to_ne_bytes());
    control[8..12].copy_from_slice(&17_i32.to_ne_bytes());
    control[12..16].copy_from_slice(&103_i32.to_ne_bytes());
    control[16..18].copy_from_slice(&segment.to_ne_bytes());
    control
}

/// Differences between the gaps of packets of media and what their bytes take at the rate, in nanoseconds. The receiver never sleeps.
fn gaps(folder: &Path, rate_bps: u64, packets: usize) -> Vec<u64> {
    let receiver = socket();
    receiver.set_reuse_address(true).expect("an address for several");
    receiver.bind(&GROUP.into()).expect("a port");
    let SocketAddr::V4(group) = GROUP else { unreachable!("it is IPv4") };
    receiver
        .join_multicast_v4_n(group.ip(), &InterfaceIndexOrAddress::Address(Ipv4Addr::LOCALHOST))
        .expect("a group");
    let receiver = UdpSocket::from(receiver);
    receiver.set_nonblocking(true).expect("no waiting");
    let _sender = Sender::start(folder, rate_bps);
    let (mut buffer, mut before, mut off_ns) =
        ([0; 2048], None::<(Instant, usize)>, Vec::with_capacity(packets));
    while off_ns.len() < packets {
        let Ok(length) = receiver.recv(&mut buffer) else { continue };
        let now = Instant::now();
        if let Some((then, length_before)) = before {
            let due_ns = (length_before + 28) as u64 * 8_000_000_000 / rate_bps;
            off_ns.push((now - then).as_nanos().abs_diff(u128::from(due_ns)) as u64);
        }
        before = Some((now, length));
    }
    off_ns
}
