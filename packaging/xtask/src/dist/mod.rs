//! `cargo xtask dist`: packages for every box, from one tree and one command.
//!
//! ```text
//! toolchain ─▶ binaries for each target ─┐
//! command lines ─▶ man, completions ─────┼─▶ tree ─▶ .deb  .ipk  .apk  OCI image
//! sysroot/ ──────────────────────────────┘
//! ```
//!
//! A package is a list of files with modes and owners ([`tree`]) and a few metadata; only the last step knows formats. Times
//! are those of the commit, and paths of the machine are removed, so that two builds of a commit are the same bytes.

mod adb;
mod apk;
mod apk_index;
mod deb;
mod image;
mod ipk;
mod manual;
mod oci;
mod package;
mod provenance;
pub(crate) mod repository;
mod sbom;
mod target;
mod toolchain;
mod tree;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

use self::package::Package;
use self::target::{Cpu, Libc, Target};
use self::toolchain::Toolchain;
use crate::workspace;

/// Kinds of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The programs alone
    Binaries,
    /// Debian and its kin: skycache and skycache-headend for amd64, arm64, armhf
    Deb,
    /// OpenWrt up to 24.10, OpenEmbedded and RDK
    Ipk,
    /// OpenWrt from 25.12
    Apk,
    /// An OCI image for container platforms
    Oci,
    /// A disk image of the appliance: only if it is named, as root, on Debian
    Image,
    /// A signed update of the appliance for RAUC: only if it is named, as `image`
    Bundle,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What to make; everything, if nothing is named
    formats: Vec<Format>,
    /// For these processors
    #[arg(long, value_delimiter = ',', default_values = ["x86_64", "aarch64", "armv7"])]
    cpu: Vec<Cpu>,
    /// Where packages go
    #[arg(long, value_name = "DIR", default_value = "target/dist/packages")]
    out: PathBuf,
    #[command(flatten)]
    image: image::Options,
}

/// Facts that all packages of a run share.
#[derive(Debug)]
pub(crate) struct Release {
    /// `0.1.0`
    version: String,
    /// Seconds since 1970 of the commit: the time of everything.
    epoch_s: u64,
    workspace: PathBuf,
    out: PathBuf,
    /// Name and SHA-256 of everything that was written.
    written: std::cell::RefCell<Vec<(String, String)>>,
}

/// Output of git about a repository; empty without one.
fn git(workspace: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("git").arg("-C").arg(workspace).args(arguments).output();
    let output = output.map_err(|err| format!("git: {err}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Release {
    fn of(workspace: &Path, out: &Path) -> Result<Self, String> {
        let epoch_s = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(epoch) => epoch,
            Err(_) => git(workspace, &["log", "-1", "--format=%ct"])?,
        };
        let epoch_s = epoch_s.parse().map_err(
            |_| "no time of a commit: build from a checkout, or set SOURCE_DATE_EPOCH to seconds since 1970",
        )?;
        let out = workspace.join(out);
        std::fs::create_dir_all(&out).map_err(|err| format!("{}: {err}", out.display()))?;
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch_s,
            workspace: workspace.into(),
            out,
            written: Default::default(),
        })
    }

    /// Writes a finished file, in a folder if its name says so, and says what it is.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let path = self.out.join(name);
        let failed = |err: std::io::Error| format!("{}: {err}", path.display());
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
        std::fs::write(&path, bytes).map_err(failed)?;
        self.say(name)
    }

    fn say(&self, name: &str) -> Result<(), String> {
        let path = self.out.join(name);
        let bytes = std::fs::read(&path).map_err(|err| format!("{}: {err}", path.display()))?;
        let digest = oci::sha256_hex(&bytes);
        println!("{digest}  {:>9} bytes  {}", bytes.len(), path.display());
        self.written.borrow_mut().push((name.to_owned(), digest));
        Ok(())
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let workspace = workspace().canonicalize().map_err(|err| format!("the workspace: {err}"))?;
    let release = Release::of(&workspace, &arguments.out)?;
    let (of_slots, others): (Vec<Format>, Vec<Format>) =
        arguments.formats.iter().partition(|it| matches!(it, Format::Image | Format::Bundle));
    if !of_slots.is_empty() {
        image::write(&release, &arguments.cpu, &arguments.image, &of_slots)?;
        if others.is_empty() {
            return Ok(());
        }
    }
    let wants = |format| arguments.formats.is_empty() || arguments.formats.contains(&format);
    let mut libcs = Vec::new();
    if wants(Format::Deb) || wants(Format::Binaries) {
        libcs.push(Libc::Gnu);
    }
    if wants(Format::Ipk) || wants(Format::Apk) || wants(Format::Oci) || wants(Format::Binaries) {
        libcs.push(Libc::Musl);
    }
    let toolchain = Toolchain::get(&workspace)?;
    let mut images = Vec::new();
    for &cpu in &arguments.cpu {
        for &libc in &libcs {
            let target = Target { cpu, libc };
            let built = toolchain.build(target)?;
            if wants(Format::Binaries) {
                for (name, bytes) in built.programs() {
                    let name = format!("{name}-{}-{}", release.version, target.triple());
                    release.write(&name, bytes)?;
                    let path = release.out.join(name);
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
                        .map_err(|err| format!("{}: {err}", path.display()))?;
                }
            }
            match libc {
                Libc::Gnu if wants(Format::Deb) => {
                    deb::write(&release, &Package::debian_daemon(&release, target, &built)?)?;
                    deb::write(&release, &Package::debian_headend(&release, target, &built)?)?;
                }
                Libc::Gnu => {}
                Libc::Musl => {
                    for package in Package::openwrt(&release, target, &built)? {
                        if wants(Format::Ipk) {
                            ipk::write(&release, &package, "openwrt")?;
                        }
                        if wants(Format::Apk) {
                            apk::write(&release, &package)?;
                        }
                    }
                    if wants(Format::Ipk) {
                        for package in Package::openembedded(&release, target, &built)? {
                            ipk::write(&release, &package, "oe")?;
                        }
                    }
                    if wants(Format::Oci) {
                        images.push((target, Package::image(&release, target, &built)?));
                    }
                }
            }
        }
    }
    if !images.is_empty() {
        oci::write(&release, &images)?;
    }
    provenance::write(&release, arguments)
}
