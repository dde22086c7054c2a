//! `cargo xtask tryout fleet`: three edges, two shields, an origin and a broker of Kafka, each in a network namespace of its own.
//! The test is `packaging/tryout/fleet.py`; this module prepares its programs, and the namespaces in which everything ends with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use skycache_tests::programs::{find, python_with_packages};

use crate::{cargo, run, target_dir};

/// Options of `tryout fleet`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of fleet")]
pub(crate) struct FleetArguments {
    /// Seed of players and faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds for which a node is away
    #[arg(long, default_value_t = 75)]
    seconds: u32,
    /// Purges whose times are measured
    #[arg(long, default_value_t = 1000)]
    purges: u32,
    /// Instead: players at 80 % of what they reach, for these seconds, with a fault every 30 s
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    soak: u32,
    /// Faults of the soak instead of all: `link:origin`, or several with commas; kinds are kill, link and stop
    #[arg(long, value_name = "KIND:NODE", requires = "soak")]
    fault: Option<String>,
    /// File for the figures, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A program that was built with `--features kafka`, instead of that of cargo's dev profile
    #[arg(long, value_name = "FILE")]
    skycached: Option<PathBuf>,
}

/// Runs it, or says why not.
pub(crate) fn try_out(workspace: &Path, arguments: &FleetArguments) -> Result<(), String> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !is_root {
        println!("SKIPPED: fleet needs root, for its network namespaces");
        return Ok(());
    }
    if let Some(missing) = ["ip", "unshare", "nsenter"].into_iter().find(|name| find(name).is_none()) {
        println!("SKIPPED: fleet needs {missing} (iproute2, util-linux)");
        return Ok(());
    }
    // It says itself why it has none.
    let Some(python) = python_with_packages(&workspace.join("tests/brokers")) else { return Ok(()) };
    let skycached = match &arguments.skycached {
        Some(file) => file.canonicalize().map_err(|err| format!("{}: {err}", file.display()))?,
        None => {
            run(cargo().args([
                "build",
                "--quiet",
                "-p",
                "skycache",
                "--features",
                "kafka",
                "--bin",
                "skycached",
            ]))?;
            target_dir().join("debug/skycached")
        }
    };
    let folder = tempfile::tempdir().map_err(|err| format!("a temporary folder: {err}"))?;
    // Namespaces and processes end with the script, however it ends.
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]).arg(python);
    command.arg(workspace.join("packaging/tryout/fleet.py")).arg("run");
    command.arg("--skycached").arg(skycached).arg("--folder").arg(folder.path());
    let numbers = [
        ("--seed", arguments.seed),
        ("--seconds", arguments.seconds.into()),
        ("--purges", arguments.purges.into()),
        ("--soak", arguments.soak.into()),
    ];
    for (name, number) in numbers {
        command.args([name, &number.to_string()]);
    }
    if let Some(faults) = &arguments.fault {
        command.arg("--fault").arg(faults);
    }
    if let Some(file) = &arguments.json {
        command.arg("--json").arg(file);
    }
    let result = run(&mut command);
    if result.is_err() {
        println!("logs are kept in {}", folder.keep().display());
    }
    result
}
