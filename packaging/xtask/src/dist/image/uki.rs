//! The unified kernel image: systemd's stub with kernel, initial RAM disk, command line and version as sections.

use std::path::{Path, PathBuf};

use super::kernel::Kernel;
use super::slot::Slot;
use super::{Build, put, read, root};
use crate::run;

/// Addresses of sections in memory. The stub ends below the first; the kernel has 16 MiB.
const OSREL: u64 = 0x20000;
const CMDLINE: u64 = 0x30000;
const LINUX: u64 = 0x200_0000;
const INITRD: u64 = 0x300_0000;

pub(super) fn write(
    build: &Build<'_>,
    kernel: &Kernel,
    initrd: &Path,
    slot: &Slot,
) -> Result<PathBuf, String> {
    let image = read(&kernel.image)?;
    if image.len() as u64 > INITRD - LINUX {
        return Err(format!("the kernel has {} bytes, and its section {}", image.len(), INITRD - LINUX));
    }
    let (osrel, cmdline) = (build.work.join("osrel"), build.work.join("cmdline"));
    put(&osrel, root::os_release(build).as_bytes())?;
    put(
        &cmdline,
        format!("skycache.verity={} {}", slot.root_hash, build.list("cmdline.txt")?.join(" ")).as_bytes(),
    )?;
    let stub = boot_file(
        build,
        if build.cpu.debian() == "amd64" { "linuxx64.efi.stub" } else { "linuxaa64.efi.stub" },
    )?;
    let uki = build.work.join("uki.efi");
    let mut command = build.command("objcopy");
    let sections = [
        (".osrel", osrel.as_path(), OSREL),
        (".cmdline", &cmdline, CMDLINE),
        (".linux", &kernel.image, LINUX),
        (".initrd", initrd, INITRD),
    ];
    for (name, file, at) in sections {
        command.arg("--add-section").arg(format!("{name}={}", file.display()));
        command.arg("--change-section-vma").arg(format!("{name}={at:#x}"));
    }
    run(command.arg(stub).arg(&uki))?;
    Ok(uki)
}

/// A file of the package systemd-boot-efi, installed here or fetched for another processor.
pub(super) fn boot_file(build: &Build<'_>, name: &str) -> Result<PathBuf, String> {
    let folder = build.work.join("systemd-boot");
    let path = folder.join("usr/lib/systemd/boot/efi").join(name);
    if !path.exists() {
        super::emptied(&folder)?;
        let package = format!("systemd-boot-efi:{}", build.cpu.debian());
        run(std::process::Command::new("apt-get").args(["-qq", "download", &package]).current_dir(&folder))?;
        let entries = std::fs::read_dir(&folder).map_err(|err| format!("{}: {err}", folder.display()))?;
        for deb in entries.filter_map(Result::ok).map(|it| it.path()).filter(|it| it.is_file()) {
            run(std::process::Command::new("dpkg-deb").arg("-x").arg(deb).arg(&folder))?;
        }
    }
    Ok(path)
}
