//! `skycache-VERSION-ARCH.raucb`: the signed update of a slot.
//!
//! Conditions that a box could only reject are checked here: names that RAUC takes for raw slots, versions that fit the name of
//! a kernel image, and that the bundle's own certificate verifies it. RAUC chooses a new salt for each bundle, so that two
//! bundles of the same content differ in their bytes; root, hash tree and kernel image in them are equal.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;

use super::slot::Slot;
use super::{Build, Options, emptied, put, read};
use crate::dist::oci::sha256_hex;
use crate::run;

/// File and name of a slot's class, as `system.conf` of the root has them. RAUC 1.8 takes `*.img` for a raw slot, and no
/// `*.erofs`.
pub(super) const IMAGES: [(&str, &str); 2] = [("root", "root.img"), ("hash", "hash.img")];

pub(super) fn write(build: &Build<'_>, slot: &Slot, uki: &Path, options: &Options) -> Result<(), String> {
    let (Some(cert), Some(key)) = (&options.sign_cert, &options.sign_key) else {
        return Err("a bundle is signed: give --sign-cert and --sign-key".to_owned());
    };
    let folder = build.work.join("bundle");
    emptied(&folder)?;
    for ((_, name), from) in IMAGES.iter().zip([&slot.data, &slot.tree]) {
        std::fs::hard_link(from, folder.join(name)).map_err(|err| format!("{}: {err}", from.display()))?;
    }
    let image = read(uki)?;
    put(&folder.join("uki.efi"), &image)?;
    let described = json!({
        "schema": 1,
        "compatible": build.compatible(),
        "version": build.version,
        "efi_sha256": sha256_hex(&image),
        "allow_downgrade": options.allow_downgrade,
    });
    put(&folder.join("firmware.json"), format!("{described:#}\n").as_bytes())?;
    put(&folder.join("manifest.raucm"), manifest(build.compatible(), &build.version).as_bytes())?;
    let name = format!("skycache-{}-{}.raucb", build.version, build.cpu.debian());
    let bundle: PathBuf = build.release.out.join(&name);
    let _ = std::fs::remove_file(&bundle);
    run(build
        .command("rauc")
        .arg("bundle")
        .arg("--cert")
        .arg(cert)
        .arg("--key")
        .arg(key)
        .arg(&folder)
        .arg(&bundle)
        .stdout(Stdio::null()))?;
    // A key that is not the certificate's makes a bundle that no box takes.
    run(build.command("rauc").arg("info").arg("--keyring").arg(cert).arg(&bundle).stdout(Stdio::null()))?;
    build.release.say(&name)
}

/// Of RAUC 1.8: `verity`, so that a box reads only blocks that are signed, and never a `plain` one.
fn manifest(compatible: &str, version: &str) -> String {
    let mut text =
        format!("[update]\ncompatible={compatible}\nversion={version}\n\n[bundle]\nformat=verity\n");
    for (class, name) in IMAGES {
        text += &format!("\n[image.{class}]\nfilename={name}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_names_what_rauc_writes_into_raw_slots() {
        let text = manifest("skycache-x86_64", "1.5");
        assert!(text.contains("compatible=skycache-x86_64\nversion=1.5\n"), "{text}");
        assert!(text.contains("format=verity"), "{text}");
        for (class, name) in IMAGES {
            assert!(text.contains(&format!("[image.{class}]\nfilename={name}\n")), "{text}");
            assert!(name.ends_with(".img"), "RAUC 1.8 has no handler for {name} in a raw slot");
        }
    }
}
