//! `cargo xtask dist image`: a disk image that makes a bare machine an appliance, from Debian packages alone.
//!
//! ```text
//! Debian packages ─▶ root ─▶ squashfs ─▶ hash tree ─▶ root hash ─┐
//! packaging/image ──▶ │                                          ├─▶ kernel image ─▶ EFI partition ─▶ disk
//! kernel package ─────┴▶ modules ─▶ initial RAM disk ────────────┘
//!                                     root, hash tree, kernel image, description ─▶ signed bundle
//! ```
//!
//! The small files of `packaging/image` define the content of the image; these modules assemble it. All times are the commit's,
//! UUIDs and salts are derived from the version, so that two builds of a commit from the same packages are the same bytes.

mod bundle;
mod disk;
mod initrd;
mod kernel;
mod lists;
mod manifest;
#[cfg(test)]
mod pitfalls;
mod root;
mod slot;
mod uki;

use std::path::{Path, PathBuf};
use std::process::Command;

use super::target::{Cpu, Libc, Target};
use super::toolchain::Toolchain;
use super::{Format, Release};
use crate::install::install;
use crate::run;

/// Programs that make an image, and the Debian packages that have them.
const NEEDED: [(&str, &str); 11] = [
    ("mmdebstrap", "mmdebstrap"),
    ("mksquashfs", "squashfs-tools"),
    ("veritysetup", "cryptsetup-bin"),
    ("sfdisk", "fdisk"),
    ("mkfs.vfat", "dosfstools"),
    ("mcopy", "mtools"),
    ("mke2fs", "e2fsprogs"),
    ("objcopy", "binutils"),
    ("zstd", "zstd"),
    ("depmod", "kmod"),
    ("rauc", "rauc"),
];

/// The image's own options.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Image: the daemon of cargo's dev profile for this machine's processor, stripped, and light compression; for trials
    #[arg(long)]
    quick: bool,
    /// Image: Debian packages as they were unpacked by the last build, instead of unpacked again; for trials
    #[arg(long)]
    keep_packages: bool,
    /// Image: version, as the loader sorts it and updates compare it
    #[arg(long, value_name = "VERSION")]
    image_version: Option<String>,
    /// Image: certificates that sign updates (PEM); without them the image takes none
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Bundle: certificate of the key that signs it (PEM)
    #[arg(long, value_name = "FILE", requires = "sign_key")]
    sign_cert: Option<PathBuf>,
    /// Bundle: the private key (PEM), or a PKCS#11 URL
    #[arg(long, value_name = "FILE", requires = "sign_cert")]
    sign_key: Option<PathBuf>,
    /// Bundle: signed as a way back, so that boxes with a later version take it
    #[arg(long)]
    allow_downgrade: bool,
}

/// One build.
#[derive(Debug)]
struct Build<'a> {
    release: &'a Release,
    cpu: Cpu,
    version: String,
    /// `packaging/image`
    lists: PathBuf,
    /// Everything that is made on the way.
    work: PathBuf,
    /// Level of zstd.
    compression: &'static str,
}

impl Build<'_> {
    /// As RAUC compares it.
    fn compatible(&self) -> &'static str {
        match self.cpu {
            Cpu::X86_64 => "skycache-x86_64",
            Cpu::Aarch64 => "skycache-aarch64",
            Cpu::Armv7 => "skycache-armv7",
        }
    }

    /// File of the loader where firmware looks without an entry.
    fn loader(&self) -> &'static str {
        if self.cpu == Cpu::X86_64 { "BOOTX64.EFI" } else { "BOOTAA64.EFI" }
    }

    fn list(&self, name: &str) -> Result<Vec<String>, String> {
        let path = self.lists.join(name);
        let text = std::fs::read_to_string(&path).map_err(|err| format!("{}: {err}", path.display()))?;
        Ok(lists::lines(&text))
    }

    /// A program, with the commit's time.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("SOURCE_DATE_EPOCH", self.release.epoch_s.to_string())
            .env("LC_ALL", "C")
            .env("TZ", "UTC");
        command
    }
}

pub(super) fn write(
    release: &Release,
    cpus: &[Cpu],
    options: &Options,
    formats: &[Format],
) -> Result<(), String> {
    if formats.contains(&Format::Bundle) && options.sign_key.is_none() {
        return Err("a bundle is signed: give --sign-cert and --sign-key".to_owned());
    }
    for &cpu in cpus.iter().filter(|it| **it != Cpu::Armv7) {
        write_one(release, cpu, options, formats)?;
    }
    Ok(())
}

fn write_one(release: &Release, cpu: Cpu, options: &Options, formats: &[Format]) -> Result<(), String> {
    install(&NEEDED);
    let name = format!("image-{}", cpu.debian());
    let version = options.image_version.clone().unwrap_or_else(|| release.version.clone());
    if !lists::is_version(&version) {
        return Err(format!("--image-version {version:?}: give at most 32 of 0-9 a-z A-Z . - ~ ^"));
    }
    let build = Build {
        release,
        cpu,
        version,
        lists: release.workspace.join("packaging/image"),
        work: release.workspace.join("target/dist").join(name),
        compression: if options.quick { "3" } else { "19" },
    };
    std::fs::create_dir_all(&build.work).map_err(|err| format!("{}: {err}", build.work.display()))?;
    println!("== image {} of {}", build.version, build.compatible());
    let skycached = if options.quick { quick_daemon(&build)? } else { release_daemon(&build)? };
    let packages = root::unpack(&build, options.keep_packages)?;
    let kernel = kernel::unpack(&build, options.keep_packages)?;
    let kept = kernel::trim(&build, &kernel)?;
    let keyring = options.keyring.as_deref().map(read).transpose()?;
    root::compose(&build, &skycached, keyring.as_deref(), &kernel, &kept)?;
    let initrd = initrd::write(&build, &kernel)?;
    let slot = slot::write(&build)?;
    let uki = uki::write(&build, &kernel, &initrd, &slot)?;
    if formats.contains(&Format::Bundle) {
        bundle::write(&build, &slot, &uki, options)?;
    }
    if formats.contains(&Format::Image) {
        let image = disk::write(&build, &slot, &uki)?;
        manifest::write(&build, &packages, &kernel, &slot, &uki, &image)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|err| format!("{}: {err}", path.display()))
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let failed = |err: std::io::Error| format!("{}: {err}", path.display());
    path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
    std::fs::write(path, bytes).map_err(failed)
}

/// What leaves a folder of an earlier build behind is removed.
fn emptied(path: &Path) -> Result<(), String> {
    let failed = |err: std::io::Error| format!("{}: {err}", path.display());
    if path.exists() {
        std::fs::remove_dir_all(path).map_err(failed)?;
    }
    std::fs::create_dir_all(path).map_err(failed)
}

fn quick_daemon(build: &Build<'_>) -> Result<Vec<u8>, String> {
    if build.cpu.debian() != if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" } {
        return Err("--quick builds for this machine's processor alone".to_owned());
    }
    run(crate::cargo().args(["build", "--quiet", "-p", "skycache", "--bin", "skycached"]))?;
    let stripped = build.work.join("skycached");
    run(build
        .command("objcopy")
        .arg("--strip-all")
        .arg(crate::target_dir().join("debug/skycached"))
        .arg(&stripped))?;
    read(&stripped)
}

fn release_daemon(build: &Build<'_>) -> Result<Vec<u8>, String> {
    let toolchain = Toolchain::get(&build.release.workspace)?;
    Ok(toolchain.build(Target { cpu: build.cpu, libc: Libc::Gnu })?.skycached)
}
