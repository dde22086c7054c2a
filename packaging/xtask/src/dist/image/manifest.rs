//! `skycache-VERSION-ARCH.manifest.json`: contents of an image, with sizes and package URLs, from which an SBOM is made.

use std::path::Path;

use serde_json::json;

use super::kernel::Kernel;
use super::root::{self, Installed};
use super::slot::Slot;
use super::{Build, lists, read};
use crate::dist::oci::sha256_hex;

pub(super) fn write(
    build: &Build<'_>,
    packages: &[Installed],
    kernel: &Kernel,
    slot: &Slot,
    uki: &Path,
    image: &Path,
) -> Result<(), String> {
    let about = |path: &Path| {
        let bytes = read(path)?;
        Ok::<_, String>(json!({ "bytes": bytes.len(), "sha256": sha256_hex(&bytes) }))
    };
    let document = json!({
        "schema": 1,
        "version": build.version,
        "compatible": build.compatible(),
        "epoch_s": build.release.epoch_s,
        "root_hash": slot.root_hash,
        "files": { "disk": about(image)?, "root": about(&slot.data)?, "hash": about(&slot.tree)?, "kernel_image": about(uki)? },
        "kernel": { "package": kernel.package, "release": kernel.release },
        "packages": root::to_json(packages, build.cpu.debian()),
        "removed_paths": build.list("drop.txt")?,
        "list_sha256": lists::hex(&lists::sha256(&[&build.list("packages.txt")?.join("\n")])),
    });
    let name = format!("skycache-{}-{}.manifest.json", build.version, build.cpu.debian());
    build.release.write(&name, format!("{document:#}\n").as_bytes())?;
    println!(
        "{}  {:>9} bytes  {}",
        document["files"]["disk"]["sha256"].as_str().unwrap_or_default(),
        document["files"]["disk"]["bytes"],
        image.display()
    );
    println!(
        "   root {} of {} bytes, kernel image {}",
        slot.data_bytes, 110_000_000, document["files"]["kernel_image"]["bytes"]
    );
    Ok(())
}
