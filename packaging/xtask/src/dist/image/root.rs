//! The root: Debian packages, the daemon's package, `packaging/image/root`; without files that the appliance never uses.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::kernel::{Kept, Kernel};
use super::{Build, emptied, put, read};
use crate::dist::package::sysroot;
use crate::dist::tree::{Node, Tree};
use crate::run;

/// Suite that packages come from.
const SUITE: &str = "bookworm";

pub(super) fn folder(build: &Build<'_>) -> PathBuf {
    build.work.join("root")
}

/// A package as dpkg knows it.
#[derive(Debug, Clone)]
pub(super) struct Installed {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) installed_bytes: u64,
}

/// Unpacks the packages into a new root, by way of a tar that `is_kept` takes from the last build.
pub(super) fn unpack(build: &Build<'_>, is_kept: bool) -> Result<Vec<Installed>, String> {
    let tar = build.work.join("packages.tar");
    if !(is_kept && tar.exists()) {
        let packages = build.list("packages.txt")?;
        println!("== {} packages of {SUITE}", packages.len());
        let mut command = build.command("mmdebstrap");
        command.args(["--quiet", "--variant=essential", "--architectures", build.cpu.debian()]);
        command.arg("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr");
        command.arg(format!("--include={}", packages.join(",")));
        for path in ["man", "info", "locale", "doc", "lintian"] {
            command.arg(format!("--dpkgopt=path-exclude=/usr/share/{path}/*"));
        }
        run(command.arg(SUITE).arg(&tar))?;
    }
    let root = folder(build);
    emptied(&root)?;
    run(Command::new("tar")
        .arg("-xpf")
        .arg(&tar)
        .arg("-C")
        .arg(&root)
        .args(["--numeric-owner", "--exclude=./dev/*"]))?;
    let status = read(&root.join("var/lib/dpkg/status"))?;
    Ok(installed(&String::from_utf8_lossy(&status)))
}

/// Packages of dpkg's status file.
fn installed(status: &str) -> Vec<Installed> {
    let paragraphs = status.split("\n\n").map(|paragraph| {
        let field = |name: &str| {
            let value = paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.unwrap_or_default().to_owned()
        };
        let kib: u64 = field("Installed-Size").parse().unwrap_or(0);
        Installed { name: field("Package"), version: field("Version"), installed_bytes: kib * 1024 }
    });
    let mut packages: Vec<Installed> = paragraphs.filter(|it| !it.name.is_empty()).collect();
    packages.sort_by(|one, other| one.name.cmp(&other.name));
    packages
}

/// Makes what was unpacked the appliance's root.
pub(super) fn compose(
    build: &Build<'_>,
    skycached: &[u8],
    keyring: Option<&[u8]>,
    kernel: &Kernel,
    kept: &Kept,
) -> Result<(), String> {
    let root = folder(build);
    let mut tree = sysroot(build.release, &["box", "systemd"])?;
    tree.add_file("usr/bin/skycached", 0o755, skycached);
    tree.add_folder(&build.lists.join("root"))?;
    put_tree(build, &root, &tree)?;
    if let Some(keyring) = keyring {
        put(&root.join("etc/rauc/keyring.pem"), keyring)?;
    }
    put(&root.join("etc/os-release"), os_release(build).as_bytes())?;
    // Users of packages whose scripts did not run: numbers are given in the order of names, hence the same ones each time.
    // With the commit's time: the date of a password is in /etc/shadow, and would be the day of the build.
    run(build.command("systemd-sysusers").arg(format!("--root={}", root.display())))?;
    for unit in build.list("units.txt")? {
        let (action, unit) = unit.split_once(' ').ok_or_else(|| format!("units.txt: {unit}"))?;
        run(Command::new("systemctl")
            .arg(format!("--root={}", root.display()))
            .args(["--quiet", action, unit]))?;
    }
    put_modules(&root, kernel, kept)?;
    for path in build.list("drop.txt")? {
        drop(&root.join(path))?;
    }
    for folder in
        ["efi", "config", "var/cache", "var/lib", "var/log", "dev", "proc", "sys", "run", "tmp", "root"]
    {
        let path = root.join(folder);
        std::fs::create_dir_all(&path).map_err(|err| format!("{}: {err}", path.display()))?;
    }
    let link = |target: &str, name: &str| {
        let path = root.join(name);
        drop(&path)?;
        symlink(target, &path).map_err(|err| format!("{}: {err}", path.display()))
    };
    link("/config/skycache/conf.d", "etc/skycache/conf.d")?;
    link("/run/systemd/resolve/stub-resolv.conf", "etc/resolv.conf")?;
    link("/proc/self/mounts", "etc/mtab")?;
    // systemd puts a new one there in memory: an image that is copied must not carry one.
    put(&root.join("etc/machine-id"), b"")?;
    for name in
        ["etc/.pwd.lock", "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/ld.so.cache~"]
    {
        drop(&root.join(name))?;
    }
    run(Command::new("ldconfig").arg("-r").arg(&root))?;
    drop(&root.join("var/cache/ldconfig"))
}

fn put_tree(build: &Build<'_>, root: &Path, tree: &Tree) -> Result<(), String> {
    let words = BTreeMap::from([("@COMPATIBLE@", build.compatible()), ("@LOADER@", build.loader())]);
    for (path, entry) in tree.iter() {
        let to = root.join(path);
        match &entry.node {
            Node::Folder => std::fs::create_dir_all(&to).map_err(|err| format!("{}: {err}", to.display()))?,
            Node::File(bytes) => {
                let text = std::str::from_utf8(bytes).ok();
                let filled = text
                    .map(|it| words.iter().fold(it.to_owned(), |it, (word, value)| it.replace(word, value)));
                put(&to, filled.as_ref().map_or(bytes.as_slice(), |it| it.as_bytes()))?;
                std::fs::set_permissions(&to, std::fs::Permissions::from_mode(entry.mode))
                    .map_err(|err| format!("{}: {err}", to.display()))?;
            }
        }
    }
    Ok(())
}

/// `IMAGE_VERSION` is what the loader sorts by; an image without `.osrel` is not listed.
pub(super) fn os_release(build: &Build<'_>) -> String {
    format!(
        "NAME=Skycache\nID=skycache\nID_LIKE=debian\nPRETTY_NAME=\"Skycache {0}\"\nVERSION_ID={0}\nIMAGE_ID=skycache\nIMAGE_VERSION={0}\n",
        build.version
    )
}

fn put_modules(root: &Path, kernel: &Kernel, kept: &Kept) -> Result<(), String> {
    let to = root.join("usr/lib/modules").join(&kernel.release);
    for module in &kept.root {
        put(&to.join(module), &read(&kernel.modules.join(module))?)?;
    }
    for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        put(&to.join(name), &read(&kernel.modules.join(name))?)?;
    }
    run(Command::new("depmod").arg("-b").arg(root).arg(&kernel.release))
}

/// A file or a folder, if it is there.
fn drop(path: &Path) -> Result<(), String> {
    let failed = |err: std::io::Error| format!("{}: {err}", path.display());
    match std::fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(it) if it.is_dir() => std::fs::remove_dir_all(path).map_err(failed),
        Ok(_) => std::fs::remove_file(path).map_err(failed),
    }
}

/// For the manifest.
pub(super) fn to_json(packages: &[Installed], architecture: &str) -> Value {
    let of = |it: &Installed| {
        let purl =
            format!("pkg:deb/debian/{}@{}?arch={architecture}", it.name, it.version.replace('+', "%2B"));
        serde_json::json!({ "name": it.name, "version": it.version, "installed_bytes": it.installed_bytes, "purl": purl })
    };
    packages.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_from_dpkgs_status() {
        let status = "Package: b\nStatus: install ok installed\nInstalled-Size: 2\nVersion: 1+2\n\nPackage: a\nVersion: 3\n";
        let packages = installed(status);
        assert_eq!(packages[1].installed_bytes, 2048);
        let json = to_json(&packages, "amd64");
        assert_eq!(json[0]["name"], "a");
        assert_eq!(json[1]["purl"], "pkg:deb/debian/b@1%2B2?arch=amd64");
    }
}
