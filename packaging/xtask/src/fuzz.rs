//! `cargo xtask fuzz`: targets of `tests/fuzz` under libFuzzer with AddressSanitizer.
//!
//! Coverage and the sanitizer are unstable options of the compiler, and `RUSTC_BOOTSTRAP` admits them on the toolchain of
//! all other builds. Everything is below `target/fuzz`: the build, the inputs found by TARGET in `found/TARGET`, failing
//! inputs in `failed`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;
use skycache_fuzz::{TARGETS, Target, target};

use crate::install::install;
use crate::{cargo, run as run_command, target_dir, workspace};

/// libFuzzer is C++.
const NEEDED: [(&str, &str); 1] = [("c++", "g++")];

/// Flags that show the engine where an input leads, with the checks of an ordinary build.
const FLAGS: &str = "--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=16 -Cdebug-assertions -Coverflow-checks";

/// Seconds after which an input is a failure.
const LONGEST_S: u32 = 10;
/// Memory of one process at most, with the sanitizer's own.
const MEMORY_MB: u32 = 2048;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The target; all of them if it is left out
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Run one input and stop
    #[arg(long, requires = "target")]
    input: Option<PathBuf>,
    /// Keep the fewest of the inputs found that reach everything, in tests/fuzz/corpus
    #[arg(long)]
    keep: bool,
    /// List the targets
    #[arg(long)]
    list: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let targets: Vec<&Target> = match &arguments.target {
        Some(name) => vec![target(name).ok_or_else(|| {
            let names: Vec<&str> = TARGETS.iter().map(|it| it.name).collect();
            format!("no target {name:?}; there are {}", names.join(", "))
        })?],
        None => TARGETS.iter().collect(),
    };
    if arguments.list {
        targets.iter().for_each(|it| println!("{}: {}", it.name, it.covers));
        return Ok(());
    }
    install(&NEEDED);
    let program = build()?;
    if let (Some(input), Some(target)) = (&arguments.input, targets.first()) {
        return run_command(engine(&program, target).arg(input));
    }
    let mut failed = Vec::new();
    println!(
        "| target | seconds | executions | executions a second | edges | inputs | memory, MB | failures |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for target in targets {
        let start = Instant::now();
        let outcome = fuzz(&program, target, arguments.seconds)?;
        println!(
            "| `{}` | {} | {} | {} | {} | {} | {} | {} |",
            target.name,
            start.elapsed().as_secs(),
            outcome.executions,
            outcome.executions / start.elapsed().as_secs().max(1),
            outcome.edges,
            outcome.inputs,
            outcome.memory_mb,
            if outcome.is_good { "none" } else { "yes" }
        );
        if !outcome.is_good {
            failed.push(target.name);
        }
        if arguments.keep {
            keep(&program, target)?;
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("{} failed; see {}", failed.join(", "), folder().join("failed").display()))
}

fn folder() -> PathBuf {
    target_dir().join("fuzz")
}

fn create(path: &Path) -> Result<(), String> {
    std::fs::create_dir_all(path).map_err(|err| format!("{}: {err}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes).map_err(|err| format!("{}: {err}", path.display()))
}

/// The triple of this machine: with `--target`, build scripts and macros are built without the flags.
fn host() -> Result<String, String> {
    let output = Command::new("rustc").arg("-vV").output().map_err(|err| format!("rustc: {err}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not name its host".to_owned())
}

fn build() -> Result<PathBuf, String> {
    let host = host()?;
    let mut command = cargo();
    command.args(["build", "--quiet", "-p", "skycache-fuzz", "--features", "engine", "--target", &host]);
    command.arg("--target-dir").arg(folder());
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", FLAGS).env("CARGO_PROFILE_DEV_OPT_LEVEL", "2");
    run_command(&mut command)?;
    Ok(folder().join(host).join("debug/skycache-fuzz"))
}

fn engine(program: &Path, target: &Target) -> Command {
    let mut command = Command::new(program);
    command.env("SKYCACHE_FUZZ_TARGET", target.name);
    command.arg(format!("-timeout={LONGEST_S}")).arg(format!("-rss_limit_mb={MEMORY_MB}"));
    command.args(["-report_slow_units=1", "-malloc_limit_mb=512"]);
    command.arg(format!("-max_len={}", target.longest));
    command
}

#[derive(Debug, Default)]
struct Outcome {
    executions: u64,
    edges: u64,
    inputs: u64,
    memory_mb: u64,
    is_good: bool,
}

/// Reads the engine's report.
fn outcome(log: &str) -> Outcome {
    let number = |text: &str| text.trim().parse().unwrap_or(0);
    let stat = |name: &str| {
        log.lines()
            .rev()
            .find_map(|line| line.strip_prefix(name))
            .map_or(0, |rest| number(rest.trim_start_matches(':')))
    };
    let after = |line: &str, name: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != name).skip(1);
        words.next().map_or(0, |word| number(word.split('/').next().unwrap_or(word)))
    };
    let last =
        log.lines().rev().find(|line| line.starts_with('#') && line.contains(" cov: ")).unwrap_or_default();
    Outcome {
        executions: stat("stat::number_of_executed_units"),
        edges: after(last, "cov:"),
        inputs: after(last, "corp:"),
        memory_mb: stat("stat::peak_rss_mb"),
        is_good: false,
    }
}

fn fuzz(program: &Path, target: &Target, seconds: u64) -> Result<Outcome, String> {
    let (found, failed) = (folder().join("found").join(target.name), folder().join("failed"));
    let seeds = folder().join("seeds").join(target.name);
    for it in [&found, &failed, &seeds] {
        create(it)?;
    }
    for (at, bytes) in (target.seeds)().iter().enumerate() {
        write(&seeds.join(at.to_string()), bytes)?;
    }
    let dictionary = folder().join(format!("{}.dict", target.name));
    write(&dictionary, target.dictionary().as_bytes())?;
    let log = folder().join(format!("{}.log", target.name));
    let file = std::fs::File::create(&log).map_err(|err| format!("{}: {err}", log.display()))?;
    let mut command = engine(program, target);
    command.arg(format!("-max_total_time={seconds}")).arg("-print_final_stats=1");
    command.arg(format!("-dict={}", dictionary.display()));
    command.arg(format!("-artifact_prefix={}/{}-", failed.display(), target.name));
    command.arg(&found).arg(&seeds);
    let kept = kept(target);
    if kept.is_dir() {
        command.arg(&kept);
    }
    command.stdout(Stdio::null()).stderr(file);
    let status = command.status().map_err(|err| format!("{}: {err}", program.display()))?;
    let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    Ok(Outcome { is_good: status.success() && !text.contains("slow-unit-"), ..outcome(&text) })
}

fn kept(target: &Target) -> PathBuf {
    workspace().join("tests/fuzz/corpus").join(target.name)
}

/// Leaves the fewest inputs that reach everything that is reached without them but the seeds.
fn keep(program: &Path, target: &Target) -> Result<(), String> {
    let (kept, old) = (kept(target), folder().join("kept-before").join(target.name));
    create(&kept)?;
    let _ = std::fs::remove_dir_all(&old);
    create(&old)?;
    for file in std::fs::read_dir(&kept).map_err(|err| format!("{}: {err}", kept.display()))?.flatten() {
        std::fs::rename(file.path(), old.join(file.file_name())).map_err(|err| err.to_string())?;
    }
    let mut command = engine(program, target);
    command.arg("-set_cover_merge=1").arg(&kept).arg(folder().join("found").join(target.name)).arg(&old);
    run_command(command.stdout(Stdio::null()).stderr(Stdio::null()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_report_is_read() {
        let log = "#5\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 40Mb\n\
                   #900\tDONE   cov: 4321 ft: 99 corp: 210/31Kb lim: 4096 exec/s: 30 rss: 90Mb\n\
                   stat::number_of_executed_units: 900\nstat::average_exec_per_sec:     30\nstat::peak_rss_mb:              91\n";
        let Outcome { executions, edges, inputs, memory_mb, .. } = outcome(log);
        assert_eq!((executions, edges, inputs, memory_mb), (900, 4321, 210, 91));
    }

    #[test]
    fn names_of_targets_are_names_of_folders_and_of_no_two() {
        let mut names: Vec<&str> = TARGETS.iter().map(|it| it.name).collect();
        assert!(names.iter().all(|name| name.bytes().all(|it| it.is_ascii_lowercase() || it == b'-')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TARGETS.len());
    }
}
