//! Writer of `.deb` packages, by dpkg-deb, which every machine that builds them has.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use md5::Digest as _;

use super::Release;
use super::package::{HOMEPAGE, MAINTAINER, Package};
use super::tree::{Node, Tree};
use crate::run;

/// Writes `NAME_VERSION_ARCH.deb`.
pub(crate) fn write(release: &Release, package: &Package) -> Result<(), String> {
    let file = format!("{}_{}_{}.deb", package.name, package.version, package.architecture);
    let folder = release.out.join(format!(".{file}.tree"));
    let failed = |err: std::io::Error| format!("{}: {err}", folder.display());
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(failed)?;
    }
    let mut tree = package.tree.clone();
    tree.add_file("DEBIAN/control", 0o644, control(package));
    tree.add_file("DEBIAN/md5sums", 0o644, md5sums(package)?);
    let lines: String = package.conffiles.iter().map(|path| format!("{path}\n")).collect();
    tree.add_file("DEBIAN/conffiles", 0o644, lines);
    for (name, text) in &package.scripts {
        tree.add_file(&format!("DEBIAN/{name}"), 0o755, text.as_str());
    }
    lay_out(&tree, &folder).map_err(failed)?;
    let mut command = Command::new("dpkg-deb");
    command.args(["--root-owner-group", "-Zxz", "--build"]).arg(&folder).arg(release.out.join(&file));
    command.env("SOURCE_DATE_EPOCH", release.epoch_s.to_string()).stdout(std::process::Stdio::null());
    run(&mut command).map_err(|err| format!("{err}; apt-get install dpkg"))?;
    std::fs::remove_dir_all(&folder).map_err(failed)?;
    release.say(&file)
}

fn lay_out(tree: &Tree, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    for (path, entry) in tree.iter() {
        let path = folder.join(path);
        match &entry.node {
            Node::Folder => std::fs::create_dir_all(&path)?,
            Node::File(bytes) => std::fs::write(&path, bytes)?,
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(entry.mode))?;
    }
    Ok(())
}

fn control(package: &Package) -> String {
    let Package { name, version, architecture, summary, .. } = package;
    let description: String = package.description.iter().map(|line| format!(" {line}\n")).collect();
    format!(
        "Package: {name}\nSource: skycache\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: {MAINTAINER}\nInstalled-Size: {}\nDepends: {}\nRecommends: ca-certificates\nSection: net\nPriority: optional\nHomepage: {HOMEPAGE}\nDescription: {summary}\n{description}",
        package.tree.bytes().div_ceil(1024),
        package.depends.join(", "),
    )
}

fn md5_hex(bytes: &[u8]) -> String {
    md5::Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// MD5 is what dpkg verifies an installed file with.
fn md5sums(package: &Package) -> Result<String, String> {
    let is_conffile = |path: &str| package.conffiles.iter().any(|it| it[1..] == *path);
    let files = package.tree.files().filter(|(path, _)| !is_conffile(path));
    Ok(files.map(|(path, bytes)| format!("{}  {path}\n", md5_hex(bytes))).collect())
}
