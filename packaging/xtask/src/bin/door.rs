//! `cargo xtask`, as the alias of `.cargo/config.toml` runs it: without dependencies, so that the demo does not wait for those of
//! the other commands. It builds and runs the demo itself; everything else is the program `xtask`.

#[path = "../demo.rs"]
mod demo;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), Into::into);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let options: Vec<String> = std::env::args().skip(1).collect();
    let why = match options.split_first() {
        Some((name, options)) if name == "demo" => demo::run(&cargo, &workspace, options),
        _ => {
            let mut xtask = Command::new(&cargo);
            xtask.arg("run");
            // The first time takes minutes, in which cargo says what it does.
            let is_built = std::env::current_exe().is_ok_and(|it| it.with_file_name("xtask").exists());
            if is_built {
                xtask.arg("--quiet");
            }
            xtask.args(["--package", "xtask", "--bin", "xtask", "--"]).args(&options);
            format!("{}: {}", cargo.display(), xtask.exec())
        }
    };
    eprintln!("xtask: {why}");
    ExitCode::FAILURE
}
