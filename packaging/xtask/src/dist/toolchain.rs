//! Cross-build toolchain of fixed versions, fetched from package registries: Debian's Rust with the source of its standard
//! library, zig as C compiler and linker for every target, and any Node, which bundles the page.

use std::path::{Path, PathBuf};
use std::process::Command;

use skycache_tests::programs::find;

use super::target::{Libc, Target};
use crate::install::{apt, python_package};
use crate::run;

/// Debian's, whose packages are of one version with the source of the standard library. rustup's has no such source without
/// its own server.
pub(super) const RUST: &str = "1.96.0";
const RUST_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
/// From the Python registry.
pub(super) const ZIG: &str = "0.17.1";
/// From the Rust registry.
const ZIGBUILD: &str = "0.24.0";

/// Variable by which `daemon/build.rs` decides whether the page's players go in.
const PLAYERS: &str = "SKYCACHE_PLAYERS";

/// Ready to build.
#[derive(Debug)]
pub(crate) struct Toolchain {
    workspace: PathBuf,
    /// `target/dist`
    folder: PathBuf,
    zig: PathBuf,
}

/// The programs for one target.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) skycached: Vec<u8>,
    pub(crate) headend: Vec<u8>,
}

impl Built {
    pub(crate) fn programs(&self) -> [(&'static str, &[u8]); 2] {
        [("skycached", &self.skycached), ("headend", &self.headend)]
    }
}

impl Toolchain {
    /// Fetches what is missing.
    pub(crate) fn get(workspace: &Path) -> Result<Self, String> {
        let folder = workspace.join("target/dist");
        std::fs::create_dir_all(&folder).map_err(|err| format!("{}: {err}", folder.display()))?;
        get_rust()?;
        if std::env::var_os(PLAYERS).is_none_or(|wish| wish != "no") {
            get_node()?;
        }
        let zig = get_zig(&folder)?;
        if !folder.join("tools/bin/cargo-zigbuild").exists() {
            println!("== cargo-zigbuild {ZIGBUILD}");
            let mut install = crate::cargo();
            install.args([
                "install",
                "--locked",
                "--quiet",
                "--version",
                ZIGBUILD,
                "cargo-zigbuild",
                "--root",
            ]);
            run(install.arg(folder.join("tools")).env("CARGO_TARGET_DIR", folder.join("tools/target")))?;
        }
        Ok(Self { workspace: workspace.into(), folder, zig })
    }

    /// Builds both programs.
    pub(crate) fn build(&self, target: Target) -> Result<Built, String> {
        println!("== {} ({})", target.triple(), target.profile());
        let cargo_home = std::env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
        let mut flags = Vec::new();
        if target.libc == Libc::Musl {
            // zig brings musl's start files; Debian's Rust has none to look for.
            flags.push("-Clink-self-contained=no".to_owned());
        }
        // Paths of this machine must not be in the program.
        let mut remap = |from: &Path, to: &str| {
            flags.push(format!("--remap-path-prefix={}={to}", from.display()));
        };
        if let Some(home) = &cargo_home {
            remap(home, "/cargo");
        }
        remap(&self.workspace, "/skycache");
        // A release without the players would be one by accident.
        let players = std::env::var_os(PLAYERS).unwrap_or_else(|| "yes".into());
        let mut build = Command::new(self.folder.join("tools/bin/cargo-zigbuild"));
        build
            .args(["zigbuild", "--locked", "--profile", target.profile(), "-Zbuild-std=std,panic_abort"])
            .args(["--target", &target.zig_triple(), "-p", "skycache", "-p", "skycache-headend", "--bins"])
            .current_dir(&self.workspace)
            .env("CARGO", "/usr/bin/cargo")
            .env("RUSTC", "/usr/bin/rustc")
            // For -Zbuild-std alone; the program is stable Rust.
            .env("RUSTC_BOOTSTRAP", "1")
            .env(PLAYERS, players)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("CARGO_TARGET_DIR", self.folder.join("cargo"))
            .env("CARGO_ZIGBUILD_ZIG_PATH", &self.zig)
            .env("ZIG_GLOBAL_CACHE_DIR", self.folder.join("zig-cache"))
            .env("ZIG_LOCAL_CACHE_DIR", self.folder.join("zig-cache"));
        if target.is_for_boxes() {
            build.arg("--no-default-features");
            // Distributions have people who evaluate; feeds of boxes do not.
            if target.libc == Libc::Gnu {
                build.args(["--features", "skycache/demo"]);
            }
        } else {
            // Fleets of servers have a broker.
            build.args(["--features", "skycache/kafka,skycache/otlp,skycache-headend/kafka"]);
        }
        // Nothing in the programs has a time; a variable that changes with each commit would only build C code again.
        for name in
            ["RUSTFLAGS", "RUSTUP_TOOLCHAIN", "RUSTUP_HOME", "CARGO_MANIFEST_DIR", "SOURCE_DATE_EPOCH"]
        {
            build.env_remove(name);
        }
        run(&mut build)?;
        let folder = self.folder.join("cargo").join(target.triple()).join(target.profile());
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).map_err(|err| format!("{}: {err}", path.display()))
        };
        Ok(Built { skycached: read("skycached")?, headend: read("headend")? })
    }
}

fn get_rust() -> Result<(), String> {
    let version = || {
        let output = Command::new("/usr/bin/rustc").arg("--version").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).split(' ').nth(1)?.to_owned())
    };
    let has_source = || Path::new("/usr/lib/rustlib/src/rust/library/std").exists();
    if version().is_none() || !Path::new("/usr/bin/cargo").exists() || !has_source() {
        println!("== {}", RUST_PACKAGES.join(" "));
        apt(&RUST_PACKAGES).map_err(|err| {
            format!("{err}; as root on Debian 12: apt-get install {}", RUST_PACKAGES.join(" "))
        })?;
    }
    match version() {
        Some(version) if version == RUST => Ok(()),
        version => Err(format!(
            "rustc of Debian is {}, and {RUST} is what releases are built with; if Debian has moved on, change RUST in packaging/xtask/src/dist/toolchain.rs",
            version.as_deref().unwrap_or("absent")
        )),
    }
}

/// Any from version 18 on bundles to the same bytes: the bundler is fixed by the lock file.
fn get_node() -> Result<(), String> {
    let missing: Vec<&str> = [("node", "nodejs"), ("npm", "npm")]
        .into_iter()
        .filter(|(it, _)| find(it).is_none())
        .map(|it| it.1)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("== {}", missing.join(" "));
    apt(&missing).map_err(|err| {
        format!(
            "{err}; as root: apt-get install {}; or {PLAYERS}=no, for a page without players",
            missing.join(" ")
        )
    })
}

fn get_zig(folder: &Path) -> Result<PathBuf, String> {
    let venv = folder.join("tools/zig");
    let find = || {
        let lib = std::fs::read_dir(venv.join("lib")).ok()?;
        lib.filter_map(Result::ok)
            .map(|it| it.path().join("site-packages/ziglang/zig"))
            .find(|it| it.exists())
    };
    if find().is_none() {
        println!("== zig {ZIG}");
        python_package(&venv, &format!("ziglang=={ZIG}"))?;
    }
    find().ok_or_else(|| format!("no zig below {}", venv.display()))
}
