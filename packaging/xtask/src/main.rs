//! `cargo xtask`: tasks that take more than one cargo command.

#[cfg(test)]
mod clocks;
mod demo;
mod dist;
mod docs;
mod fleet;
#[cfg(test)]
mod floors;
mod fuzz;
#[cfg(test)]
mod helm;
mod install;
mod instructions;
#[cfg(test)]
mod monitoring;
mod reference;
mod test;
mod tryout;
#[cfg(test)]
mod words;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};

/// Skycache's workshop.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    door: Door,
}

#[derive(Debug, Subcommand)]
enum Door {
    /// The main job on this machine: a channel and two films over a lossy link into a cache, and the page to open in a browser.
    #[command(disable_help_flag = true)]
    Demo {
        /// Those of `skycached demo`: `--once`, `--loss PERCENT`, `--listen ADDRESS`, `--open` …
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Every test that this machine can run; installs what is missing when it may, and says what it skips.
    Test,
    /// Carousels and receivers in virtual time.
    Sim {
        #[command(subcommand)]
        what: Sim,
    },
    /// Packages for every box: cross-built programs, .deb, .ipk, .apk, an OCI image; fetches its toolchains.
    Dist(dist::Arguments),
    /// Indexes of packages for apt and opkg, signed with the keys of a repository's operator.
    Repository(dist::repository::Arguments),
    /// Tries the packages where they are for: clean Debian roots, systemd, 64 MB of memory, their own tools. Needs root.
    Tryout(tryout::Arguments),
    /// Takes the power away from the store, by kill and by cutting off its block device.
    Power {
        /// Seeded instants at which the store's process is killed
        #[arg(long, default_value_t = 2000)]
        kills: u64,
        /// Instants at which the block device is cut off
        #[arg(long, default_value_t = 200)]
        cuts: u64,
        /// The first seed
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Writes docs/reference from the code: limits, reasons, metrics.
    Reference,
    /// Builds the guide below docs into target/docs, with its generated pages, and checks its links.
    Docs(docs::Arguments),
    /// Targets of tests/fuzz under libFuzzer with AddressSanitizer: time for each, and a table of executions and coverage.
    Fuzz(fuzz::Arguments),
    /// Tests every interleaving of what threads share without a lock.
    Loom,
    /// Compares our RaptorQ with the `raptorq` crate over seeded blocks, and codes with every K' of RFC 6330. Takes minutes.
    Raptorq {
        /// Blocks
        #[arg(long, default_value_t = 100_000)]
        blocks: u64,
    },
    /// Measures beside a floor and a peer, in one run.
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
}

#[derive(Debug, Subcommand)]
enum Sim {
    /// What each protection is worth over each link; writes tests/sim-table.md. Takes some minutes.
    Table,
    /// When the boxes of a fleet have a firmware update, and what the origin has to send; writes tests/sim-rollout.md.
    Rollout,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// What a packet costs, from memory and from a socket, beside a bare loop and the `flute` crate.
    Receive {
        /// `memory`, `sockets`, `finishing`; all of them if none is named
        parts: Vec<String>,
    },
    /// What a packet of a FLUTE session costs without socket and store, beside a bare loop.
    Flute,
    /// What signatures cost a receiver: a live session with and without, a signed document; and in instructions, where valgrind is.
    Trust,
    /// What decoding and encoding a source block cost, beside the bare `raptorq` crate.
    Fec,
    /// Instructions a packet of hot paths, by callgrind, compared with those recorded: more than 5 % above is an error.
    Instructions {
        /// Record them.
        #[arg(long)]
        write: bool,
    },
    /// What making and taking apart a transport stream with a carousel costs, beside a copy and the CRC_32 alone; and in
    /// instructions a packet, where valgrind is.
    Ts,
    /// What the store costs beside the raw limit: ingest, lookup, memory, starts, purges by surrogate key.
    Store {
        /// `purge`: purges alone
        parts: Vec<String>,
    },
    /// What each order of leaving the cache is worth on the reference workload.
    Evict,
    /// Hits of the reference workload through skycached, with and without prefill by a carousel, beside Varnish and Traffic Server,
    /// which are installed if they may be. Takes minutes.
    Hitratio {
        /// Requests of each trace; the first third fills the cache
        #[arg(long, default_value_t = 45_000)]
        requests: u32,
    },
    /// Players' requests beside nginx, which is installed if it may be: manifests, segments, ranges, a trace of 1.4 GB.
    Http {
        /// Passed on: `--seconds S`, `--rounds N`, `--connections A,B`, `--disk`, `--only NAME`, `--beside PROGRAM`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// What an event of a player costs on its way to a row, and what becomes of rows while the broker is away.
    Qoe,
    /// What planning and one decision of the schedule cost, for 10 to 100,000 objects.
    Plan,
    /// What a Gbit costs `headend send` at three rates, beside bare loops, and how evenly packets leave.
    Send,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().door {
        Door::Demo { options } => Err(demo::run(Path::new(cargo().get_program()), &workspace(), &options)),
        Door::Test => test::run(),
        Door::Dist(arguments) => dist::run(&arguments),
        Door::Repository(arguments) => dist::repository::run_with(&arguments),
        Door::Tryout(arguments) => tryout::run_scripts(&arguments),
        Door::Sim { what: Sim::Table } => sim(&[], "tests/sim-table.md"),
        Door::Sim { what: Sim::Rollout } => sim(&["rollout"], "tests/sim-rollout.md"),
        Door::Power { kills, cuts, seed } => {
            let mut command = cargo();
            command.args([
                "test",
                "-p",
                "skycache",
                "--test",
                "power_cut",
                "--",
                "--nocapture",
                "--test-threads",
                "1",
            ]);
            command.env("POWER_KILLS", kills.to_string()).env("POWER_CUTS", cuts.to_string());
            run(command.env("POWER_SEED", seed.to_string()))
        }
        Door::Reference => {
            let mut limits = cargo();
            limits.args(["test", "--quiet", "-p", "skycache-carousel", "--test", "reference"]);
            run(limits.env("SKYCACHE_WRITE", "1")).and_then(|()| reference::write())
        }
        Door::Raptorq { blocks } => {
            let mut command = cargo();
            command.args(["test", "-p", "skycache-raptorq", "--test", "against_crate", "--"]);
            command.args(["--include-ignored", "--nocapture"]);
            run(command.env("SKYCACHE_RAPTORQ_BLOCKS", blocks.to_string()))
        }
        Door::Docs(arguments) => docs::run(&arguments),
        Door::Fuzz(arguments) => fuzz::run(&arguments),
        Door::Loom => test::loom(),
        Door::Bench { what: Bench::Fec } => run(&mut bench("skycache-carousel", "fec")),
        Door::Bench { what: Bench::Flute } => run(&mut bench("skycache-carousel", "flute")).and_then(|()| {
            let names = &["bare", "carousel", "bare-repeats", "repeats"];
            instructions::count("skycache-carousel", "flute", names)
        }),
        Door::Bench { what: Bench::Instructions { write } } => instructions::compare(write),
        Door::Bench { what: Bench::Ts } => run(&mut bench("skycache-carousel", "ts"))
            .and_then(|()| instructions::count("skycache-carousel", "ts", &["build", "demux", "receive"])),
        Door::Bench { what: Bench::Trust } => run(&mut bench("skycache-carousel", "trust")).and_then(|()| {
            instructions::count("skycache-carousel", "trust", &["judge", "repeat", "signed", "unsigned"])
        }),
        Door::Bench { what: Bench::Store { parts } } => run(bench("skycache", "store").arg("--").args(parts)),
        Door::Bench { what: Bench::Evict } => run(&mut bench("skycache", "evict")),
        Door::Bench { what: Bench::Hitratio { requests } } => hit_ratio(requests),
        Door::Bench { what: Bench::Http { options } } => {
            install::install(&test::NEEDED);
            run(bench("skycache", "http").arg("--").args(options))
        }
        Door::Bench { what: Bench::Qoe } => run(&mut bench("skycache", "qoe")),
        Door::Bench { what: Bench::Plan } => run(&mut bench("skycache-headend", "plan")),
        Door::Bench { what: Bench::Send } => run(&mut bench("skycache-headend", "send")),
        Door::Bench { what: Bench::Receive { parts } } if !parts.is_empty() => {
            run(bench("skycache", "receive").arg("--").args(parts))
        }
        Door::Bench { what: Bench::Receive { .. } } => run(&mut bench("skycache", "receive"))
            .and_then(|()| instructions::count("skycache", "receive", &["carousel", "repeats"])),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}

fn bench(package: &str, name: &str) -> Command {
    let mut command = cargo();
    command.args(["bench", "--quiet", "-p", package, "--bench", name]);
    command
}

/// Caches of others that `bench hitratio` runs beside ours, and the Debian packages that have them.
const CACHES: [(&str, &str); 3] =
    [("varnishd", "varnish"), ("traffic_server", "trafficserver"), ("setpriv", "util-linux")];

fn hit_ratio(requests: u32) -> Result<(), String> {
    install::install(&CACHES);
    run(cargo().args(["build", "--quiet", "--release", "-p", "skycache", "-p", "skycache-headend"]))?;
    let folder = tempfile::tempdir().map_err(|err| format!("a temporary folder: {err}"))?;
    // Traffic Server runs as a user of its own, and has its files there.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open)
        .map_err(|err| format!("{}: {err}", folder.path().display()))?;
    let mut command = Command::new("python3");
    command.arg("-B").arg(workspace().join("daemon/benches/hitratio.py"));
    for name in ["skycached", "headend"] {
        command.arg(format!("--{name}")).arg(target_dir().join("release").join(name));
    }
    run(command.arg("--folder").arg(folder.path()).arg("--requests").arg(requests.to_string()))
}

/// Runs a simulation in release, and writes what it prints.
fn sim(arguments: &[&str], file: &str) -> Result<(), String> {
    let output = cargo()
        .args(["run", "--release", "--quiet", "-p", "skycache-tests", "--bin", "sim", "--"])
        .args(arguments)
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|err| format!("cargo run: {err}"))?;
    if !output.status.success() {
        return Err(format!("sim: {}", output.status));
    }
    let path = workspace().join(file);
    std::fs::write(&path, &output.stdout).map_err(|err| format!("{}: {err}", path.display()))?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

/// The workspace's folder.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Folder of everything that is built.
fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Cargo, in the workspace.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// Runs a command to its end.
fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|err| format!("{command:?}: {err}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}")) }
}
