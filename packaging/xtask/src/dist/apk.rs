//! Writer of `.apk` packages for apk-tools 3 (OpenWrt from 25.12), in the form of [`adb`]. No tool in the package registries
//! writes this format.
//!
//! ```text
//! "ADB." "pckg"
//!     block ADB:  what the package says of itself, its folders and files, its scripts
//!     block DATA: number of the folder, number of the file, its bytes        (one for each file that has any)
//! ```
//!
//! Packages are not signed one by one: the index of their repository has the digest of each and is signed ([`super::apk_index`]). A
//! single package is installed with `apk add --allow-untrusted`.

use std::collections::BTreeMap;

use carousel::digest::Digest;

use super::Release;
use super::adb::{self, BLOCK_ADB, BLOCK_DATA, Values, block};
use super::package::{HOMEPAGE, LICENSE, MAINTAINER, Package};
use super::tree::{Node, Tree};

/// Bytes of a package's identity.
const ID_BYTES: usize = 20;

/// Writes `openwrt/NAME_VERSION_ARCH.apk`.
pub(crate) fn write(release: &Release, package: &Package) -> Result<(), String> {
    let Package { name, version, architecture, .. } = package;
    release.write(&format!("openwrt/{name}-{version}_{architecture}.apk"), &bytes(release, package))
}

/// A folder with the files that lie in it.
#[derive(Debug, Default)]
struct Folder<'a> {
    mode: u32,
    files: Vec<(&'a str, u32, &'a [u8])>,
}

/// In the order of their names, the root first.
fn folders(tree: &Tree) -> BTreeMap<&str, Folder<'_>> {
    let mut folders = BTreeMap::from([("", Folder { mode: 0o755, files: Vec::new() })]);
    for (path, entry) in tree.iter() {
        match &entry.node {
            Node::Folder => folders.entry(path).or_default().mode = entry.mode,
            Node::File(bytes) => {
                let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
                folders.entry(folder).or_default().files.push((name, entry.mode, bytes));
            }
        }
    }
    folders
}

pub(super) fn bytes(release: &Release, package: &Package) -> Vec<u8> {
    let mut tree = package.tree.clone();
    // What OpenWrt's scripts look up: which init scripts there are to enable, and what an upgrade of the system keeps.
    let paths: String = package.tree.files().map(|(path, _)| format!("/{path}\n")).collect();
    let kept: String = package.conffiles.iter().map(|path| format!("{path}\n")).collect();
    let about = |kind: &str| format!("lib/apk/packages/{}.{kind}", package.name);
    tree.add_file(&about("list"), 0o644, paths);
    tree.add_file(&about("conffiles"), 0o644, kept);
    tree.add_file(&about("rusers"), 0o644, "skycache:skycache\n");

    let mut values = Values::new();
    let folders = folders(&tree);
    let info = info(&mut values, release, package, &tree);
    let paths = paths_of(&mut values, &folders, release.epoch_s);
    let scripts = scripts(&mut values, package);
    let root = values.object(&[(1, info), (2, paths), (3, scripts)]);
    let mut adb = values.finish(root);
    // The identity is the digest of everything else, its own place being zero.
    let id = Digest::of(&adb).0;
    if let Some(at) =
        adb.windows(ID_BYTES + 1).position(|it| it[0] as usize == ID_BYTES && it[1..].iter().all(|b| *b == 0))
    {
        adb[at + 1..=at + ID_BYTES].copy_from_slice(&id[..ID_BYTES]);
    }

    let mut file = b"ADB.pckg".to_vec();
    block(&mut file, BLOCK_ADB, &[&adb]);
    let place = |at: usize| u32::try_from(at + 1).unwrap_or(u32::MAX).to_le_bytes();
    for (number, folder) in folders.values().enumerate() {
        for (at, (_, _, bytes)) in folder.files.iter().enumerate().filter(|(_, file)| !file.2.is_empty()) {
            block(&mut file, BLOCK_DATA, &[&place(number), &place(at), bytes]);
        }
    }
    adb::compressed(&file)
}

fn info(values: &mut Values, release: &Release, package: &Package, tree: &Tree) -> u32 {
    let slots = [
        (1, values.text(package.name)),
        (2, values.text(&package.version)),
        (3, values.blob(&[0; ID_BYTES])),
        (4, values.text(package.summary)),
        (5, values.text(&package.architecture)),
        (6, values.text(LICENSE)),
        (7, values.text("skycache")),
        (8, values.text(MAINTAINER)),
        (9, values.text(HOMEPAGE)),
        (11, values.int(release.epoch_s)),
        (12, values.int(tree.bytes())),
        (15, dependencies(values, &package.depends)),
    ];
    values.object(&slots)
}

/// Names with relations, `name` or `name>=version`; only names are needed here.
fn dependencies(values: &mut Values, names: &[String]) -> u32 {
    let mut sorted = names.to_vec();
    sorted.sort();
    let each: Vec<u32> = sorted
        .iter()
        .map(|name| {
            let name = values.text(name);
            values.object(&[(1, name)])
        })
        .collect();
    values.array(&each)
}

fn paths_of(values: &mut Values, folders: &BTreeMap<&str, Folder<'_>>, epoch_s: u64) -> u32 {
    let mut all = Vec::new();
    for (path, folder) in folders {
        let mut list = Vec::new();
        for (name, mode, bytes) in &folder.files {
            let slots = [
                (1, values.text(name)),
                (2, owner(values, *mode)),
                (3, values.int(bytes.len() as u64)),
                (4, values.int(epoch_s)),
                (5, values.blob(&Digest::of(bytes).0)),
            ];
            list.push(values.object(&slots));
        }
        let slots = [(1, values.text(path)), (2, owner(values, folder.mode)), (3, values.array(&list))];
        all.push(values.object(&slots));
    }
    values.array(&all)
}

/// Mode, user, group.
fn owner(values: &mut Values, mode: u32) -> u32 {
    let root = values.text("root");
    let mode = values.int(u64::from(mode & 0o7777));
    values.object(&[(1, mode), (2, root), (3, root)])
}

fn scripts(values: &mut Values, package: &Package) -> u32 {
    let text = |name: &str| package.scripts.iter().find(|it| it.0 == name).map_or("", |it| it.1.as_str());
    // What OpenWrt's scripts go by: an upgrade enables nothing that has been disabled.
    let upgrade = text("postinst").replacen("#!/bin/sh\n", "#!/bin/sh\nexport PKG_UPGRADE=1\n", 1);
    let slots = [
        (3, values.text(text("postinst"))),
        (4, values.text(text("prerm"))),
        (5, values.text(text("postrm"))),
        (7, values.text(&upgrade)),
    ];
    values.object(&slots)
}
