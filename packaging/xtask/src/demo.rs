//! `cargo xtask demo`: builds the programs of the demo with a separate profile, and becomes `skycached demo`.
//!
//! The profile compiles fast: no link-time optimisation, code generation in parallel, little optimisation. HTTP/3 is left out.
//! Without dependencies, so that [`door`](../bin/door.rs) has none.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// Builds, and runs `skycached demo` in the place of this process. Returns why it could not.
pub(crate) fn run(cargo: &Path, workspace: &Path, options: &[String]) -> String {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), Into::into);
    let program = target.join("demo/skycached");
    println!("building headend and skycached with the profile demo");
    let mut build = Command::new(cargo);
    build.current_dir(workspace).args(["build", "--profile", "demo"]);
    // The first time takes minutes, in which cargo says what it does.
    if program.exists() {
        build.arg("--quiet");
    }
    build.args([
        "-p",
        "skycache",
        "-p",
        "skycache-headend",
        "--no-default-features",
        "--features",
        "skycache/demo",
    ]);
    match build.status() {
        Ok(status) if status.success() => {}
        Ok(status) => return format!("{build:?}: {status}"),
        Err(err) => return format!("{build:?}: {err}"),
    }
    let err = Command::new(&program).arg("demo").args(options).exec();
    format!("{}: {err}", program.display())
}
