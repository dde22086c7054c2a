//! The one door for everything that is more than one cargo command.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("test") => test(),
        other => {
            eprintln!("xtask: unknown door {other:?}; there is: test");
            ExitCode::from(2)
        }
    }
}

/// Every ring of the test pyramid that this machine can run.
fn test() -> ExitCode {
    let steps: [(&str, &[&str]); 3] = [
        ("formatting", &["fmt", "--check"]),
        ("lints", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        ("tests", &["test", "--workspace"]),
    ];
    for (what, args) in steps {
        println!("== {what}");
        match Command::new("cargo").args(args).status() {
            Ok(status) if status.success() => {}
            Ok(status) => {
                eprintln!("xtask: {what}: {status}");
                return ExitCode::FAILURE;
            }
            Err(err) => {
                eprintln!("xtask: cannot run cargo: {err}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
