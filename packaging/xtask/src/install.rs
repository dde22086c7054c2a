//! Installation of programs that the commands use: Debian packages, and programs of the Python registry below `target/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use skycache_tests::programs::find;

use crate::{run, workspace};

/// Installs the Debian packages of programs that are missing, when we are root and `apt-get` is there; says so either way.
pub(crate) fn install(needed: &[(&str, &str)]) {
    let missing = needed.iter().filter(|(program, _)| find(program).is_none());
    let packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return;
    }
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !is_root || find("apt-get").is_none() {
        println!(
            "not installed, so that something is skipped or fails: apt-get install {}",
            packages.join(" ")
        );
        return;
    }
    println!("installing {}", packages.join(" "));
    if apt(&packages).is_err() {
        println!("installing failed; what needs these programs is skipped, or fails");
    }
}

/// Installs Debian packages, from lists that are made new if the old ones do not have them.
pub(crate) fn apt(packages: &[&str]) -> Result<(), String> {
    // A service that a package would start has no business on a developer's machine.
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-qq", "-o", "Dpkg::Use-Pty=0"]).args(arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").stdout(Stdio::null());
        run(&mut command)
    };
    let install = [&["install", "-y", "--no-install-recommends"], packages].concat();
    apt(&install).or_else(|_| apt(&["update"]).and_then(|()| apt(&install)))
}

/// Installs a package of the Python registry, `NAME==VERSION`, in a virtual environment at `folder`, created from scratch.
pub(crate) fn python_package(folder: &Path, package: &str) -> Result<(), String> {
    let create = || run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder));
    // Debian's Python leaves this module out of its main package.
    let created = create().or_else(|_| apt(&["python3-venv"]).and_then(|()| create()));
    created.map_err(|err| format!("{err}; fix: as root, apt-get install python3-venv"))?;
    let mut pip = Command::new(folder.join("bin/pip"));
    run(pip.args(["install", "--quiet", "--disable-pip-version-check", package]))
}

/// The program `name` of a package of the Python registry, installed below `target/tools` unless it is there in this version.
pub(crate) fn python_program(name: &str, package: &str) -> Result<PathBuf, String> {
    let folder = workspace().join("target/tools").join(package);
    let program = folder.join("bin").join(name);
    if !program.exists() {
        println!("installing {package}");
        python_package(&folder, package)?;
    }
    if program.exists() { Ok(program) } else { Err(format!("{package} contains no {name}")) }
}
