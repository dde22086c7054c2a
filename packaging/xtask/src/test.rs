//! `cargo xtask test`: formatting, lints, then every ring of the pyramid, and one line that sums it up.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::install::install;
use crate::{cargo, run as run_command};

/// Programs that stories need, and the Debian packages that have them.
pub(crate) const NEEDED: [(&str, &str); 5] = [
    ("ffmpeg", "ffmpeg"),
    ("nginx", "nginx-light"),
    ("tshark", "tshark"),
    ("xmllint", "libxml2-utils"),
    ("chromium", "chromium"),
];

/// What the lines of a test run add up to.
#[derive(Debug, Default)]
struct Sum {
    passed: u64,
    failed: u64,
    skipped: Vec<String>,
}

impl Sum {
    fn add(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            for count in counts.split(['.', ';']) {
                match count.trim().split_once(' ') {
                    Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                    Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                    _ => {}
                }
            }
        } else if let Some(what) = line.trim().strip_prefix("SKIPPED: ")
            && !self.skipped.iter().any(|have| have == what)
        {
            self.skipped.push(what.to_owned());
        }
    }
}

pub(crate) fn run() -> Result<(), String> {
    install(&NEEDED);
    println!("== formatting");
    run_command(cargo().args(["fmt", "--all", "--check"]))
        .map_err(|err| format!("{err}; `cargo fmt` mends it"))?;
    println!("== lints");
    run_command(cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    println!("== unit tests, properties, simulations, stories");
    let sum = tests()?;
    for what in &sum.skipped {
        println!("skipped: {what}");
    }
    println!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped.len());
    if sum.failed > 0 { Err("tests failed".to_owned()) } else { Ok(()) }
}

/// Runs all tests, passing on what a person wants to see: what passing tests print stays out, but what they skipped.
fn tests() -> Result<Sum, String> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast", "--", "--show-output"]).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|err| format!("cargo test: {err}"))?;
    let mut sum = Sum::default();
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
    Ok(sum)
}
