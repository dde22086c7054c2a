//! The two parts of a slot: a squashfs and its hash tree.

use std::path::PathBuf;

use super::lists::{dashed, hex, sha256};
use super::{Build, root};
use crate::run;

/// Most bytes of the data, so that both slots fit the smallest flash and an update fits its share of a carousel.
const MAX_DATA_BYTES: u64 = 110_000_000;
/// Partition of a slot's data: room for versions to come.
pub(super) const DATA_BYTES: u64 = 160 << 20;
/// A hash of 32 bytes for each block of 4096, and those of the levels above.
pub(super) const HASH_BYTES: u64 = 4 << 20;

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) data: PathBuf,
    pub(super) tree: PathBuf,
    pub(super) root_hash: String,
    pub(super) data_bytes: u64,
}

pub(super) fn write(build: &Build<'_>) -> Result<Slot, String> {
    let (data, tree) = (build.work.join("root.img"), build.work.join("hash.img"));
    for file in [&data, &tree] {
        let _ = std::fs::remove_file(file);
    }
    println!("== squashfs");
    let mut squash = build.command("mksquashfs");
    squash.arg(root::folder(build)).arg(&data).args([
        "-comp",
        "zstd",
        "-Xcompression-level",
        build.compression,
        "-b",
        "256K",
    ]);
    run(squash.args(["-noappend", "-no-progress", "-quiet", "-no-xattrs"]))?;
    let data_bytes = std::fs::metadata(&data).map_err(|err| format!("{}: {err}", data.display()))?.len();
    if data_bytes > MAX_DATA_BYTES {
        return Err(format!(
            "the root is {data_bytes} bytes, more than {MAX_DATA_BYTES}: packages.txt, modules.txt, drop.txt"
        ));
    }
    let salt = hex(&sha256(&["skycache", &build.version, "salt"]));
    let format = |uuid: &str| {
        let mut command = build.command("veritysetup");
        command.args(["format", &format!("--salt={salt}"), &format!("--uuid={uuid}")]).arg(&data).arg(&tree);
        let output = command.output().map_err(|err| format!("veritysetup: {err}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let hash =
            text.lines().find_map(|line| line.strip_prefix("Root hash:")).map(|it| it.trim().to_owned());
        hash.ok_or_else(|| format!("veritysetup: {}", String::from_utf8_lossy(&output.stderr)))
    };
    // The root hash does not depend on the UUID, which is its first half: by it the initial RAM disk tells a slot.
    let root_hash = format("00000000-0000-4000-8000-000000000000")?;
    let again = format(&dashed(&root_hash[..32]))?;
    if again != root_hash {
        return Err("the root hash depends on the UUID".to_owned());
    }
    println!("   {data_bytes} bytes, root hash {root_hash}");
    Ok(Slot { data, tree, root_hash, data_bytes })
}
