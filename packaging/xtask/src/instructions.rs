//! Instruction counts of hot paths by callgrind, which do not vary on a busy machine, and their comparison with those that are
//! recorded in `packaging/xtask/instructions.toml`.
//!
//! Callgrind's processor has AVX2 but not AVX-512, even if the machine's does, so that counts are the same on all machines of a
//! target. They depend on the compiler: a new one may need new records.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use crate::{cargo, workspace};

/// Package, benchmark, and what its `--instructions` can do.
type Bench = (&'static str, &'static str, &'static [&'static str]);

/// Hot paths with a record.
const RECORDED: [Bench; 4] = [
    ("skycache-carousel", "flute", &["carousel", "repeats"]),
    ("skycache-carousel", "ts", &["build", "demux", "receive"]),
    ("skycache-carousel", "trust", &["judge", "repeat", "signed", "unsigned"]),
    ("skycache-carousel", "fec", &["decode", "encode"]),
];

/// A count that is so much larger than its record is a mistake; one that is so much smaller is to be recorded.
const TOLERANCE: f64 = 0.05;

/// Counts a packet by `benchmark name`.
type Counts = BTreeMap<String, f64>;

/// Prints instructions for each packet that a benchmark's `--instructions NAME` says to have handled. Says so where valgrind is not.
pub(crate) fn count(
    package: &'static str,
    bench: &'static str,
    names: &'static [&'static str],
) -> Result<(), String> {
    if !is_available() {
        println!("\ninstructions a packet are not counted: valgrind is not installed");
        return Ok(());
    }
    println!("\n{:<34} {:>7}", "", "instructions a packet");
    for (name, count) in counts(&(package, bench, names))? {
        println!("{name:<34} {count:>7.1}");
    }
    Ok(())
}

/// Whether valgrind is installed.
pub(crate) fn is_available() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Compares all recorded hot paths with their records, or records them.
pub(crate) fn compare(write: bool) -> Result<(), String> {
    if !is_available() {
        return Err("valgrind is not installed: `apt install valgrind`".to_owned());
    }
    let mut found = Counts::new();
    for bench in &RECORDED {
        found.extend(counts(bench)?);
    }
    let mut all = records()?;
    let recorded = all.entry(target()).or_default();
    if write {
        *recorded = found;
        let path = path();
        std::fs::write(&path, page(&all)).map_err(|err| format!("{}: {err}", path.display()))?;
        println!("recorded for {} in {}", target(), path.display());
        return Ok(());
    }
    let (table, result) = verdict(recorded, &found);
    print!("{table}");
    result
}

/// A table, and whether no count is larger than its record allows.
fn verdict(recorded: &Counts, found: &Counts) -> (String, Result<(), String>) {
    let mut table = format!("{:<20} {:>9} {:>9}\n", "instructions/packet", "recorded", "now");
    let (mut more, mut less) = (Vec::new(), Vec::new());
    for (name, now) in found {
        let Some(record) = recorded.get(name) else {
            let _ = writeln!(table, "{name:<20} {:>9} {now:>9.1}", "–");
            less.push(name.as_str());
            continue;
        };
        let change = now / record - 1.0;
        let _ = writeln!(table, "{name:<20} {record:>9.1} {now:>9.1}  {:+.1} %", change * 100.0);
        if change > TOLERANCE {
            more.push(name.as_str());
        } else if change < -TOLERANCE {
            less.push(name.as_str());
        }
    }
    if !less.is_empty() {
        let _ = writeln!(
            table,
            "without a record or fewer than recorded: {}; `cargo xtask bench instructions --write`",
            less.join(", ")
        );
    }
    if more.is_empty() {
        return (table, Ok(()));
    }
    let wrong = format!(
        "more than {:.0} % above the record: {}; if that is meant: `cargo xtask bench instructions --write`",
        TOLERANCE * 100.0,
        more.join(", ")
    );
    (table, Err(wrong))
}

/// Machines that counts are recorded for: they differ between processors' instructions.
fn target() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

fn path() -> PathBuf {
    workspace().join("packaging/xtask/instructions.toml")
}

/// Records by target.
fn records() -> Result<BTreeMap<String, Counts>, String> {
    let path = path();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(err) => return Err(format!("{}: {err}", path.display())),
    };
    toml::from_str(&text).map_err(|err| format!("{}: {err}", path.display()))
}

fn page(all: &BTreeMap<String, Counts>) -> String {
    let mut page = "# Instructions a packet of hot paths, by target; of `fec`, a source symbol; of `trust judge` and\n\
        # `repeat`, a document. Compared by `cargo xtask bench instructions`, written by `cargo xtask bench instructions --write`.\n"
        .to_owned();
    for (target, counts) in all {
        let _ = writeln!(page, "\n[{target}]");
        for (name, count) in counts {
            let _ = writeln!(page, "\"{name}\" = {count:.1}");
        }
    }
    page
}

/// Instructions a packet; those of what the benchmark does before are taken off.
fn counts((package, bench, names): &Bench) -> Result<Vec<(String, f64)>, String> {
    let output = cargo()
        .args(["bench", "-p", package, "--bench", bench, "--no-run"])
        .output()
        .map_err(|err| format!("cargo: {err}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let program = said.rsplit_once('(').and_then(|(_, rest)| rest.split(')').next()).map(str::to_owned);
    let program = program.ok_or_else(|| format!("cargo names no program:\n{said}"))?;
    let before = callgrind(&program, "nothing")?.0;
    let mut counts = Vec::new();
    for name in *names {
        let (instructions, packets) = callgrind(&program, name)?;
        let count = instructions.saturating_sub(before) as f64 / packets.max(1) as f64;
        counts.push((format!("{bench} {name}"), count));
    }
    Ok(counts)
}

/// Instructions of a run, and packets that it handled.
fn callgrind(program: &str, name: &str) -> Result<(u64, u64), String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", program, "--instructions", name])
        .current_dir(workspace())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, f64)]) -> Counts {
        of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn counts_may_grow_by_a_twentieth_and_what_shrinks_is_to_be_recorded() {
        let recorded = counts(&[("ts build", 500.0), ("ts demux", 400.0)]);
        assert_eq!(verdict(&recorded, &counts(&[("ts build", 524.0), ("ts demux", 399.0)])).1, Ok(()));
        let (table, result) = verdict(&recorded, &counts(&[("ts build", 526.0), ("ts demux", 300.0)]));
        assert!(result.is_err_and(|err| err.contains("ts build") && !err.contains("ts demux")));
        assert!(
            table.contains("+5.2 %") && table.contains("-25.0 %") && table.contains("--write"),
            "{table}"
        );
        let (table, result) = verdict(&recorded, &counts(&[("flute carousel", 1.0)]));
        assert!(result.is_ok() && table.contains("–"), "no record is not a mistake: {table}");
    }

    #[test]
    fn records_are_read_as_they_are_written() {
        let all = BTreeMap::from([("x86_64-linux".to_owned(), counts(&[("ts build", 508.5)]))]);
        assert_eq!(toml::from_str::<BTreeMap<String, Counts>>(&page(&all)).unwrap(), all);
        // Every hot path has one for the target that CI runs on.
        let recorded = records().unwrap();
        for (_, bench, names) in RECORDED {
            for name in names {
                assert!(recorded["x86_64-linux"].contains_key(&format!("{bench} {name}")), "{bench} {name}");
            }
        }
    }
}
