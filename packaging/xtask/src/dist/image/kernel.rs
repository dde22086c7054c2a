//! Debian's kernel package, unpacked beside the root: its postinst would want an initramfs generator in the root.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use super::{Build, emptied, read};
use crate::run;

/// Contents of the package.
#[derive(Debug)]
pub(super) struct Kernel {
    /// `6.1.0-56-amd64`
    pub(super) release: String,
    /// Name and version of the package.
    pub(super) package: String,
    pub(super) image: PathBuf,
    /// Folder with `modules.dep` and `kernel/`.
    pub(super) modules: PathBuf,
}

/// Modules of the root and of the initial RAM disk, as paths below the folder of modules.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) root: BTreeSet<String>,
}

pub(super) fn unpack(build: &Build<'_>, is_kept: bool) -> Result<Kernel, String> {
    let folder = build.work.join("kernel");
    if !(is_kept && folder.exists()) {
        let lines = build.list("kernel.txt")?;
        let cpu = if build.cpu.debian() == "amd64" { "x86_64" } else { "aarch64" };
        let meta =
            lines.iter().find_map(|line| line.strip_prefix(cpu)).ok_or("kernel.txt: no kernel for it")?;
        emptied(&folder)?;
        // The metapackage names the kernel; only that one is fetched.
        let meta = format!("{}:{}", meta.trim(), build.cpu.debian());
        let output = Command::new("apt-cache").args(["depends", "--important", &meta]).output();
        let output = output.map_err(|err| format!("apt-cache: {err}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let package = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "))
            .ok_or_else(|| format!("{meta}: not in the lists of packages; apt-get update"))?;
        println!("== {package}");
        run(Command::new("apt-get").args(["-qq", "download", package]).current_dir(&folder))?;
        let debs = std::fs::read_dir(&folder).map_err(|err| format!("{}: {err}", folder.display()))?;
        let deb = debs
            .filter_map(Result::ok)
            .map(|it| it.path())
            .find(|it| it.extension().is_some_and(|it| it == "deb"));
        let deb = deb.ok_or("apt-get download: no package")?;
        run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&folder))?;
    }
    let boot = folder.join("boot");
    let names = std::fs::read_dir(&boot).map_err(|err| format!("{}: {err}", boot.display()))?;
    let release = names
        .filter_map(Result::ok)
        .find_map(|it| it.file_name().to_str()?.strip_prefix("vmlinuz-").map(str::to_owned))
        .ok_or("the kernel's package has no vmlinuz")?;
    let modules = folder.join("lib/modules").join(&release);
    run(Command::new("depmod").arg("-b").arg(&folder).arg(&release))?;
    let debs = std::fs::read_dir(&folder).map_err(|err| format!("{}: {err}", folder.display()))?;
    let mut debs = debs.filter_map(Result::ok).filter_map(|it| it.file_name().into_string().ok());
    let package = debs.find_map(|it| it.strip_suffix(".deb").map(str::to_owned)).unwrap_or_default();
    Ok(Kernel { image: boot.join(format!("vmlinuz-{release}")), release, package, modules })
}

pub(super) fn trim(build: &Build<'_>, kernel: &Kernel) -> Result<Kept, String> {
    let dependencies = dependencies(&String::from_utf8_lossy(&read(&kernel.modules.join("modules.dep"))?));
    let mut wanted = build.list("modules.txt")?;
    wanted.extend(build.list("initrd/modules.txt")?);
    Ok(Kept { root: closure(&dependencies, &wanted) })
}

/// Modules that are wanted, with what they depend on.
pub(super) fn initial(build: &Build<'_>, kernel: &Kernel) -> Result<(Vec<String>, BTreeSet<String>), String> {
    let dependencies = dependencies(&String::from_utf8_lossy(&read(&kernel.modules.join("modules.dep"))?));
    let wanted = build.list("initrd/modules.txt")?;
    let there = wanted.iter().filter(|it| dependencies.contains_key(&format!("kernel/{it}")));
    let names =
        there.filter_map(|it| it.rsplit('/').next()?.strip_suffix(".ko").map(str::to_owned)).collect();
    Ok((names, closure(&dependencies, &wanted)))
}

/// `modules.dep`: module → all that it depends on.
fn dependencies(text: &str) -> BTreeMap<String, Vec<String>> {
    let line = |line: &str| {
        let (module, needs) = line.split_once(':')?;
        Some((module.to_owned(), needs.split_whitespace().map(str::to_owned).collect()))
    };
    text.lines().filter_map(line).collect()
}

/// `wanted` are files or folders below `kernel/`.
fn closure(dependencies: &BTreeMap<String, Vec<String>>, wanted: &[String]) -> BTreeSet<String> {
    let is_wanted = |module: &str| {
        let below = module.strip_prefix("kernel/").unwrap_or(module);
        wanted.iter().any(|it| {
            below.strip_prefix(it.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    let roots = dependencies.iter().filter(|(module, _)| is_wanted(module));
    roots.flat_map(|(module, needs)| std::iter::once(module).chain(needs)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_with_what_they_depend_on() {
        let text = "kernel/drivers/md/dm-verity.ko: kernel/lib/rs.ko kernel/drivers/md/dm-mod.ko\nkernel/lib/rs.ko:\nkernel/drivers/md/dm-mod.ko:\nkernel/drivers/mdio/x.ko:\n";
        let dependencies = dependencies(text);
        let kept = closure(&dependencies, &["drivers/md/dm-verity.ko".to_owned()]);
        assert_eq!(
            kept.iter().collect::<Vec<_>>(),
            ["kernel/drivers/md/dm-mod.ko", "kernel/drivers/md/dm-verity.ko", "kernel/lib/rs.ko"]
        );
        let folder = closure(&dependencies, &["drivers/md".to_owned()]);
        assert!(!folder.contains("kernel/drivers/mdio/x.ko"), "a folder's name is a whole one");
    }
}
