//! The initial RAM disk: busybox, veritysetup with its libraries, modules, and `packaging/image/initrd/init`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::kernel::{self, Kernel};
use super::{Build, put, read, root};
use crate::run;

/// Programs of busybox that `init` calls.
const APPLETS: [&str; 20] = [
    "sh",
    "cat",
    "dd",
    "grep",
    "hexdump",
    "ln",
    "ls",
    "mkdir",
    "modprobe",
    "mount",
    "mv",
    "reboot",
    "rm",
    "sleep",
    "switch_root",
    "sync",
    "umount",
    "echo",
    "[",
    "test",
];

/// Kind and content of a member.
#[derive(Debug, PartialEq, Eq)]
enum Member {
    Folder,
    File(Vec<u8>, bool),
    Link(String),
}

/// Writes the archive, compressed.
pub(super) fn write(build: &Build<'_>, kernel: &Kernel) -> Result<PathBuf, String> {
    let from = root::folder(build);
    let mut members: Vec<(String, Member)> = Vec::new();
    for folder in ["dev", "efi", "etc", "proc", "root", "run", "sys", "tmp"] {
        members.push((folder.to_owned(), Member::Folder));
    }
    members.push(("init".to_owned(), Member::File(read(&build.lists.join("initrd/init"))?, true)));
    members.push(("bin/busybox".to_owned(), Member::File(read(&from.join("usr/bin/busybox"))?, true)));
    for applet in APPLETS {
        members.push((format!("bin/{applet}"), Member::Link("busybox".to_owned())));
    }
    members
        .push(("sbin/veritysetup".to_owned(), Member::File(read(&from.join("usr/sbin/veritysetup"))?, true)));
    for library in libraries(&from, "usr/sbin/veritysetup")? {
        // As the loader names it: merged folders are links in the root, and not here.
        members.push((
            library.trim_start_matches('/').to_owned(),
            Member::File(read(&resolve(&from, &library)?)?, true),
        ));
    }
    let (names, modules) = kernel::initial(build, kernel)?;
    members.push(("modules".to_owned(), Member::File((names.join("\n") + "\n").into_bytes(), false)));
    let folder = format!("lib/modules/{}", kernel.release);
    for module in &modules {
        members
            .push((format!("{folder}/{module}"), Member::File(read(&kernel.modules.join(module))?, false)));
    }
    let dep = read(&kernel.modules.join("modules.dep"))?;
    let dep: String = String::from_utf8_lossy(&dep)
        .lines()
        .filter(|line| line.split(':').next().is_some_and(|it| modules.contains(it)))
        .map(|line| format!("{line}\n"))
        .collect();
    members.push((format!("{folder}/modules.dep"), Member::File(dep.into_bytes(), false)));
    let archive = build.work.join("initrd.cpio");
    put(&archive, &newc(&members, build.release.epoch_s))?;
    let compressed = build.work.join("initrd.cpio.zst");
    run(build
        .command("zstd")
        .args(["-q", "-f", "-T1", &format!("-{}", build.compression), "-o"])
        .arg(&compressed)
        .arg(&archive))?;
    Ok(compressed)
}

/// Libraries of a program of the root, by the root's own loader.
fn libraries(root: &Path, program: &str) -> Result<BTreeSet<String>, String> {
    let output = Command::new("chroot").arg(root).args(["/usr/bin/ldd", &format!("/{program}")]).output();
    let output = output.map_err(|err| format!("chroot: {err}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = text.split_whitespace().filter(|it| it.starts_with('/') && it.contains(".so"));
    let found: BTreeSet<String> = paths.map(str::to_owned).collect();
    if found.is_empty() { Err(format!("ldd {program}: no libraries")) } else { Ok(found) }
}

/// Links in the root are resolved within it.
fn resolve(root: &Path, path: &str) -> Result<PathBuf, String> {
    let output = Command::new("chroot").arg(root).args(["/usr/bin/readlink", "-f", path]).output();
    let output = output.map_err(|err| format!("chroot: {err}"))?;
    Ok(root.join(String::from_utf8_lossy(&output.stdout).trim().trim_start_matches('/')))
}

/// An archive of the kernel's format (Documentation/driver-api/early-userspace/buffer-format.rst): inode numbers by order,
/// everything root's and as old as `epoch_s`.
fn newc(members: &[(String, Member)], epoch_s: u64) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut folders = BTreeSet::new();
    let mut inode = 1;
    let mut add = |name: &str, mode: u32, bytes: &[u8]| {
        let header = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{epoch_s:08x}{2:08x}{0:08x}{0:08x}{0:08x}{0:08x}{3:08x}{0:08x}",
            0,
            1,
            bytes.len(),
            name.len() + 1
        );
        inode += 1;
        archive.extend(header.as_bytes());
        archive.extend(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(bytes);
        archive.resize(archive.len().next_multiple_of(4), 0);
    };
    for (name, member) in members {
        for (at, _) in name.match_indices('/') {
            if folders.insert(name[..at].to_owned()) {
                add(&name[..at], 0o40755, &[]);
            }
        }
        match member {
            Member::Folder => {
                if folders.insert(name.clone()) {
                    add(name, 0o40755, &[]);
                }
            }
            Member::File(bytes, is_program) => {
                add(name, if *is_program { 0o100_755 } else { 0o100_644 }, bytes);
            }
            Member::Link(target) => add(name, 0o120_777, target.as_bytes()),
        }
    }
    add("TRAILER!!!", 0, &[]);
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_its_folders_once_and_aligned_members() {
        let members = [
            ("a".to_owned(), Member::Folder),
            ("a/b".to_owned(), Member::File(b"text".to_vec(), true)),
            ("a/c".to_owned(), Member::Link("b".to_owned())),
        ];
        let archive = newc(&members, 7);
        assert_eq!(archive.len() % 4, 0);
        let text = String::from_utf8_lossy(&archive);
        assert_eq!(text.matches("070701").count(), 4);
        assert!(text.contains("000081ed") && text.contains("0000a1ff"), "modes");
        assert_eq!(archive, newc(&members, 7));
    }
}
