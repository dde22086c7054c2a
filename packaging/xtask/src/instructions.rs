//! Instruction counts of benchmarks by callgrind, which do not vary on a busy machine.

use std::process::Command;

use crate::cargo;

/// Runs a benchmark's `--instructions NAME` for each name, and prints instructions for each packet that it says to have
/// handled: those of the work alone, what the benchmark does before is taken off. Says so where valgrind is not.
pub(crate) fn count(package: &str, bench: &str, names: &[&str]) -> Result<(), String> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("\ninstructions a packet are not counted: valgrind is not installed");
        return Ok(());
    }
    let output = cargo()
        .args(["bench", "-p", package, "--bench", bench, "--no-run"])
        .output()
        .map_err(|err| format!("cargo: {err}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let program = said.rsplit_once('(').and_then(|(_, rest)| rest.split(')').next()).map(str::to_owned);
    let program = program.ok_or_else(|| format!("cargo names no program:\n{said}"))?;
    let before = callgrind(&program, "nothing")?.0;
    println!("\n{:<34} {:>7}", "", "instructions a packet");
    for name in names {
        let (instructions, packets) = callgrind(&program, name)?;
        println!("{name:<34} {:>7.1}", instructions.saturating_sub(before) as f64 / packets.max(1) as f64);
    }
    Ok(())
}

/// Instructions of a run, and packets that it handled.
fn callgrind(program: &str, name: &str) -> Result<(u64, u64), String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", program, "--instructions", name])
        .current_dir(crate::workspace())
        .output()
        .map_err(|err| format!("valgrind: {err}"))?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let number = |label: &str| {
        let line = said.lines().find_map(|line| line.split_once(label).map(|(_, rest)| rest))?;
        line.split_whitespace().next()?.replace(',', "").parse().ok()
    };
    let wrong = || format!("callgrind says no instructions:\n{said}");
    Ok((number("Collected :").ok_or_else(wrong)?, number("packets ").unwrap_or(0)))
}
