//! `cargo xtask bench http`: skycached beside nginx's `proxy_cache`, interleaved in one run, each with its access log on.
//!
//! Both sit before the same origin, on loopback, with their cache on the same file system; both are warmed through their own
//! cache. The client asks over keep-alive connections and lets the kernel drop the bodies (`MSG_TRUNC`), so that it is not
//! what is measured. Ratios are ours to nginx's: the median of those of rounds next to each other, with the least and most.
//!
//! Over TLS the same is measured for HTTP/1.1, HTTP/2 and HTTP/3 (nginx 1.22 has no HTTP/3), with one cipher and one key, by a
//! client of hyper and h3 that takes most of the machine: the server's CPU is what tells.
//!
//! `--beside PROGRAM` measures beside another build of skycached instead of nginx, which is the origin only.
//!
//! `--seconds S` a round (2), `--rounds N` (5), `--connections A,B` (64,512), `--disk` (else on tmpfs), `--only NAME` (`tls` for all over TLS).

mod load;
mod secure;
mod servers;

use std::path::PathBuf;
use std::time::Duration;

use load::{Load, Taken};
use servers::{Nginx, Server, Skycached, make_tree};

struct Options {
    seconds: f64,
    rounds: usize,
    connections: Vec<usize>,
    folder: PathBuf,
    only: Option<String>,
    beside: Option<PathBuf>,
}

fn options() -> Options {
    let mut options = Options {
        seconds: 2.0,
        rounds: 5,
        connections: vec![64, 512],
        folder: PathBuf::from("/dev/shm"),
        only: None,
        beside: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--seconds" => options.seconds = value().parse().expect("seconds"),
            "--rounds" => options.rounds = value().parse().expect("rounds"),
            "--connections" => {
                options.connections = value().split(',').map(|it| it.parse().expect("a number")).collect();
            }
            "--disk" => options.folder = std::env::temp_dir(),
            "--beside" => options.beside = Some(value().into()),
            "--only" => options.only = Some(value()),
            // What `cargo bench` passes.
            _ => {}
        }
    }
    options
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Of the ratios of rounds that ran one after the other: median, least and most. The machine's own ups and downs fall on both.
fn ratio(ours: &[f64], theirs: &[f64]) -> String {
    let mut ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    let middle = median(&mut ratios);
    format!("{middle:5.2} ({:.2}-{:.2})", ratios[0], ratios[ratios.len() - 1])
}

/// Whether this runs on a loopback of its own, with the frames of an Ethernet and a plain congestion control: a loopback of
/// 64 KiB frames hides what segments cost, and shows delays that no network has.
const ON_OWN_LOOPBACK: &str = "SKYCACHE_BENCH_OWN_LOOPBACK";

/// Begins again in a network namespace of our own. Comes back where that is not allowed.
fn move_to_own_loopback() {
    use std::os::unix::process::CommandExt as _;
    if std::env::var_os(ON_OWN_LOOPBACK).is_some() {
        return;
    }
    let prepare =
        "ip link set lo mtu 1500 up && sysctl -qw net.ipv4.tcp_congestion_control=reno; exec \"$0\" \"$@\"";
    let may =
        std::process::Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|it| it.success());
    if may && let Ok(program) = std::env::current_exe() {
        let mut again = std::process::Command::new("unshare");
        again.args(["--net", "sh", "-c", prepare]).arg(program).args(std::env::args().skip(1));
        let err = again.env(ON_OWN_LOOPBACK, "1").exec();
        eprintln!("unshare: {err}");
    }
    println!("no network namespace of our own (root is needed): loopback as it is");
}

fn main() {
    move_to_own_loopback();
    let options = options();
    let folder =
        tempfile::Builder::new().prefix("skycache-bench-").tempdir_in(&options.folder).expect("a folder");
    println!("making the tree and warming both caches below {}", folder.path().display());
    let tree = make_tree(&folder.path().join("www"));
    let nginx = Nginx::start(folder.path(), &tree.root);
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_skycached"));
    let ours = Skycached::start(program, "skycached", folder.path(), nginx.origin());
    let other =
        options.beside.as_ref().map(|it| Skycached::start(it, "beside", folder.path(), nginx.origin()));
    let theirs = other.as_ref().map_or(&nginx as &dyn Server, |it| it);
    let their_name = if other.is_some() { "other/s" } else { "nginx/s" };
    for server in [theirs, &ours] {
        load::warm(server.address(), &tree.all());
    }
    println!(
        "\n{:<16} {:>5} {:>9} {:>9}  {:<18} {:<18} {:<18} {:>9}",
        "what", "conns", their_name, "ours/s", "requests", "p99", "CPU s per GB", "ours MB/s"
    );
    for (name, paths, range) in tree.scenarios() {
        if options.only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        for &connections in &options.connections {
            let mut taken: [Vec<Taken>; 2] = Default::default();
            for round in 0..options.rounds {
                let servers: [&dyn Server; 2] = [theirs, &ours];
                for at in [round % 2, 1 - round % 2] {
                    let server = servers[at];
                    let load = Load {
                        address: server.address(),
                        paths: paths.clone(),
                        range,
                        connections,
                        time: Duration::from_secs_f64(options.seconds),
                        seed: round as u64,
                    };
                    let before = server.cpu_s();
                    let mut result = load.run();
                    result.cpu_s = server.cpu_s() - before;
                    assert_eq!(result.errors, 0, "{name}: {} responses were wrong", result.errors);
                    taken[at].push(result);
                }
            }
            let of = |at: usize, what: fn(&Taken) -> f64| taken[at].iter().map(what).collect::<Vec<f64>>();
            let rate = |it: &Taken| it.requests as f64 / it.seconds;
            let p99 = |it: &Taken| it.p99_us;
            let cpu = |it: &Taken| it.cpu_s / (it.bytes as f64 / 1e9);
            let megabytes = |it: &Taken| it.bytes as f64 / it.seconds / 1e6;
            println!(
                "{name:<16} {connections:>5} {:>9.0} {:>9.0}  {:<18} {:<18} {:<18} {:>9.0}",
                median(&mut of(0, rate)),
                median(&mut of(1, rate)),
                ratio(&of(1, rate), &of(0, rate)),
                ratio(&of(1, p99), &of(0, p99)),
                ratio(&of(1, cpu), &of(0, cpu)),
                median(&mut of(1, megabytes)),
            );
        }
    }
    secure(&options, theirs, their_name, &ours, &tree, folder.path());
}

/// Over TLS: ours beside the other where nginx has the protocol, and HTTP/3 beside our own HTTP/2.
fn secure(
    options: &Options,
    theirs: &dyn Server,
    their_name: &str,
    ours: &Skycached,
    tree: &servers::Tree,
    folder: &std::path::Path,
) {
    let [certificate, _] = servers::certificate(folder);
    println!(
        "\n{:<20} {:>5} {:>9} {:>9}  {:<18} {:<18} {:>11}",
        "over TLS", "conns", their_name, "ours/s", "requests", "CPU s per GB", "ours MB/s"
    );
    for (name, paths, range) in tree.scenarios() {
        let [(path, length)] = paths.as_slice() else { continue };
        if range.is_some() || options.only.as_ref().is_some_and(|only| only != name && only != "tls") {
            continue;
        }
        for &connections in &options.connections {
            let mut of_http2 = Vec::new();
            for protocol in secure::Protocol::ALL {
                let mut measured: [Vec<(f64, f64, f64)>; 2] = Default::default();
                for round in 0..options.rounds {
                    let servers: [&dyn Server; 2] = [theirs, ours];
                    for at in [round % 2, 1 - round % 2] {
                        if at == 0 && protocol == secure::Protocol::Http3 {
                            continue;
                        }
                        let before = servers[at].cpu_s();
                        let time = Duration::from_secs_f64(options.seconds);
                        let got = secure::load(
                            servers[at].secure(),
                            &certificate,
                            protocol,
                            (path, *length),
                            connections,
                            time,
                        );
                        let cpu_s = servers[at].cpu_s() - before;
                        measured[at].push((
                            got.requests / got.seconds,
                            cpu_s / (got.bytes / 1e9),
                            got.bytes / got.seconds / 1e6,
                        ));
                    }
                }
                let column = |at: usize, of: fn(&(f64, f64, f64)) -> f64| {
                    measured[at].iter().map(of).collect::<Vec<f64>>()
                };
                let (rate, cpu) = (column(1, |it| it.0), column(1, |it| it.1));
                let (other_rate, other_cpu, other) = if protocol == secure::Protocol::Http3 {
                    let of_http2: &Vec<(f64, f64, f64)> = &of_http2;
                    let column =
                        |of: fn(&(f64, f64, f64)) -> f64| of_http2.iter().map(of).collect::<Vec<f64>>();
                    (column(|it| it.0), column(|it| it.1), "our h2")
                } else {
                    (column(0, |it| it.0), column(0, |it| it.1), "")
                };
                println!(
                    "{:<20} {connections:>5} {:>9.0} {:>9.0}  {:<18} {:<18} {:>11.0} {}",
                    format!("{name} {}", protocol.as_str()),
                    median(&mut other_rate.clone()),
                    median(&mut rate.clone()),
                    ratio(&rate, &other_rate),
                    ratio(&cpu, &other_cpu),
                    median(&mut column(1, |it| it.2)),
                    if other.is_empty() { String::new() } else { format!("(beside {other})") },
                );
                if protocol == secure::Protocol::Http2 {
                    of_http2 = std::mem::take(&mut measured[1]);
                }
            }
        }
    }
}
