//! Writer of `.ipk` packages: a compressed tar of three members (opkg-build of opkg-utils, ipkg-build of OpenWrt up to 24.10).

use super::Release;
use super::package::{LICENSE, MAINTAINER, Package};
use super::tree::{Tree, append, gzip};

/// Writes `DISTRIBUTION/NAME_VERSION_ARCH.ipk`.
pub(crate) fn write(release: &Release, package: &Package, distribution: &str) -> Result<(), String> {
    let Package { name, version, architecture, .. } = package;
    release.write(&format!("{distribution}/{name}_{version}_{architecture}.ipk"), &bytes(release, package))
}

fn bytes(release: &Release, package: &Package) -> Vec<u8> {
    let mut about = Tree::default();
    about.add_file("control", 0o644, control(release, package));
    if !package.conffiles.is_empty() {
        let lines: String = package.conffiles.iter().map(|path| format!("{path}\n")).collect();
        about.add_file("conffiles", 0o644, lines);
    }
    for (name, text) in &package.scripts {
        about.add_file(name, 0o755, text.as_str());
    }
    let archive = |tree: &Tree| gzip(&tree.to_tar("./", release.epoch_s));
    let mut outer = tar::Builder::new(Vec::new());
    // In this order: the version of the format comes first.
    let members = [
        ("./debian-binary", b"2.0\n".to_vec()),
        ("./data.tar.gz", archive(&package.tree)),
        ("./control.tar.gz", archive(&about)),
    ];
    for (name, bytes) in members {
        append(&mut outer, name, tar::EntryType::Regular, 0o644, &bytes, release.epoch_s);
    }
    gzip(&outer.into_inner().unwrap_or_default())
}

fn control(release: &Release, package: &Package) -> String {
    let Package { name, version, architecture, summary, .. } = package;
    let description: String = package.description.iter().map(|line| format!(" {line}\n")).collect();
    let depends = package.depends.join(", ");
    let depends = if depends.is_empty() { String::new() } else { format!("Depends: {depends}\n") };
    format!(
        "Package: {name}\nVersion: {version}\n{depends}Source: skycache\nSourceDateEpoch: {}\nLicense: {LICENSE}\nSection: net\nPriority: optional\nMaintainer: {MAINTAINER}\nArchitecture: {architecture}\nInstalled-Size: {}\nRequire-User: skycache:skycache\nDescription: {summary}\n{description}",
        release.epoch_s,
        package.tree.bytes(),
    )
}
