//! The disk: a GPT with the EFI partition, two slots and the configuration. The cache's partition is made at first boot, in the
//! rest of the disk.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::lists::{hex, sha256, uuid};
use super::slot::{DATA_BYTES, HASH_BYTES, Slot};
use super::{Build, put, uki};
use crate::run;

const MIB: u64 = 1 << 20;
/// Both images and one that is staged.
const ESP_BYTES: u64 = 256 * MIB;
const CONFIG_BYTES: u64 = 64 * MIB;
/// Alignment of partitions, and room for the table at both ends.
const ALIGNMENT: u64 = MIB;

/// Types of partitions (UAPI Group, "Discoverable Partitions Specification").
const ESP_TYPE: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
const LINUX_TYPE: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";
const ROOT_TYPES: [(&str, &str, &str); 2] = [
    ("amd64", "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"),
    ("arm64", "b921b045-1df0-41c3-af44-4c6f280d3fae", "df3300ce-d69f-4c92-978c-9bfb0f38d820"),
];

/// The loader's configuration. No `default`: it would take counting and rollback away.
const LOADER_CONF: &str = "timeout 0\neditor no\n";

#[derive(Debug)]
struct Partition {
    label: &'static str,
    kind: &'static str,
    bytes: u64,
    content: Option<PathBuf>,
}

pub(super) fn write(build: &Build<'_>, slot: &Slot, uki: &Path) -> Result<PathBuf, String> {
    let (_, root, verity) = ROOT_TYPES
        .into_iter()
        .find(|it| it.0 == build.cpu.debian())
        .ok_or("no partition types for this processor")?;
    let (esp, config) = (esp(build, uki)?, config(build)?);
    let of = |label, kind, bytes, content: Option<&Path>| Partition {
        label,
        kind,
        bytes,
        content: content.map(Into::into),
    };
    let partitions = [
        of("skycache_esp", ESP_TYPE, ESP_BYTES, Some(&esp)),
        of("skycache_root_a", root, DATA_BYTES, Some(&slot.data)),
        of("skycache_hash_a", verity, HASH_BYTES, Some(&slot.tree)),
        of("skycache_root_b", root, DATA_BYTES, None),
        of("skycache_hash_b", verity, HASH_BYTES, None),
        of("skycache_config", LINUX_TYPE, CONFIG_BYTES, Some(&config)),
    ];
    let image = build.release.out.join(format!("skycache-{}-{}.img", build.version, build.cpu.debian()));
    let failed = |err: std::io::Error| format!("{}: {err}", image.display());
    let _ = std::fs::remove_file(&image);
    let mut file = File::create(&image).map_err(failed)?;
    let (script, end) = table(&partitions);
    file.set_len(end + ALIGNMENT).map_err(failed)?;
    let mut sfdisk = build.command("sfdisk");
    sfdisk.arg("--quiet").arg(&image).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = sfdisk.spawn().map_err(|err| format!("sfdisk: {err}"))?;
    let mut stdin = child.stdin.take().ok_or("sfdisk: no stdin")?;
    stdin.write_all(script.as_bytes()).map_err(|err| format!("sfdisk: {err}"))?;
    drop(stdin);
    if !child.wait().map_err(|err| format!("sfdisk: {err}"))?.success() {
        return Err(format!("sfdisk refuses:\n{script}"));
    }
    let mut at = ALIGNMENT;
    for partition in &partitions {
        if let Some(content) = &partition.content {
            let bytes = super::read(content)?;
            if bytes.len() as u64 > partition.bytes {
                return Err(format!("{}: {} bytes do not fit", partition.label, bytes.len()));
            }
            file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(&bytes)).map_err(failed)?;
        }
        at += partition.bytes;
    }
    Ok(image)
}

/// Script of sfdisk, and where the last partition ends.
fn table(partitions: &[Partition]) -> (String, u64) {
    let mut script = format!("label: gpt\nlabel-id: {}\n", uuid(&["skycache", "disk"]));
    let mut at = ALIGNMENT;
    for it in partitions {
        script += &format!(
            "start={}, size={}, type={}, uuid={}, name={}\n",
            at / 512,
            it.bytes / 512,
            it.kind,
            uuid(&["skycache", it.label]),
            it.label
        );
        at += it.bytes;
    }
    (script, at)
}

/// The loader and one image, which was never on trial: the first start of a new box has nothing to go back to.
fn esp(build: &Build<'_>, uki: &Path) -> Result<PathBuf, String> {
    let tree = build.work.join("esp");
    super::emptied(&tree)?;
    let loader = uki::boot_file(
        build,
        &format!("systemd-boot{}", build.loader().trim_start_matches("BOOT").to_lowercase()),
    )?;
    put(&tree.join("EFI/BOOT").join(build.loader()), &super::read(&loader)?)?;
    put(&tree.join("loader/loader.conf"), LOADER_CONF.as_bytes())?;
    put(&tree.join(format!("EFI/Linux/skycache_{}_a.efi", build.version)), &super::read(uki)?)?;
    put(&tree.join("EFI/skycache/README"), b"Updates that are not complete yet. Leave it alone.\n")?;
    put(&tree.join("skycache/README"), &super::read(&build.lists.join("esp-readme.txt"))?)?;
    // Times of the commit: mtools takes a file's own.
    run(std::process::Command::new("find")
        .arg(&tree)
        .args(["-exec", "touch", "-h", "-d"])
        .arg(format!("@{}", build.release.epoch_s))
        .args(["{}", "+"]))?;
    let image = build.work.join("esp.img");
    let _ = std::fs::remove_file(&image);
    File::create(&image)
        .and_then(|it| it.set_len(ESP_BYTES))
        .map_err(|err| format!("{}: {err}", image.display()))?;
    let serial = hex(&sha256(&["skycache", "esp"])[..4]);
    run(build
        .command("mkfs.vfat")
        .args(["-F", "32", "-n", "SKYCACHE", "--invariant", "-i", &serial])
        .arg(&image)
        .stdout(Stdio::null()))?;
    let mut copy = build.command("mcopy");
    copy.args(["-s", "-m", "-Q", "-i"]).arg(&image);
    for name in ["EFI", "loader", "skycache"] {
        copy.arg(tree.join(name));
    }
    run(copy.arg("::/"))?;
    Ok(image)
}

/// Files that outlive updates: configuration, the clock's drift, RAUC's status.
fn config(build: &Build<'_>) -> Result<PathBuf, String> {
    let image = build.work.join("config.img");
    let _ = std::fs::remove_file(&image);
    let id = uuid(&["skycache", "config"]);
    let mut make = build.command("mke2fs");
    make.args([
        "-q",
        "-F",
        "-t",
        "ext4",
        "-L",
        "skycache_config",
        "-U",
        &id,
        "-E",
        &format!("hash_seed={id},lazy_itable_init=0,root_owner=0:0"),
    ]);
    make.env("E2FSPROGS_FAKE_TIME", build.release.epoch_s.to_string());
    run(make.arg(&image).arg(format!("{}k", CONFIG_BYTES / 1024)))?;
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_counts() {
        assert!(!LOADER_CONF.lines().any(|line| line.starts_with("default")));
    }

    #[test]
    fn partitions_follow_each_other_on_whole_mebibytes() {
        let of = |label, bytes| Partition { label, kind: LINUX_TYPE, bytes, content: None };
        let (script, end) = table(&[of("a", 4 * MIB), of("b", MIB)]);
        assert_eq!(end, 6 * MIB);
        assert!(
            script.contains("start=2048, size=8192,") && script.contains("start=10240, size=2048,"),
            "{script}"
        );
    }
}
