//! Contents and metadata of each package, independent of its format.

use super::sbom::Contents;
use super::target::{GLIBC, Target};
use super::toolchain::Built;
use super::tree::{Tree, gzip};
use super::{Release, manual};

/// A package, independent of its format.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    /// With the revision of the packaging, as its distribution writes it.
    pub(crate) version: String,
    pub(crate) architecture: String,
    pub(crate) summary: &'static str,
    /// Lines of a longer description.
    pub(crate) description: &'static [&'static str],
    pub(crate) depends: Vec<String>,
    pub(crate) tree: Tree,
    /// Scripts of the package system by their name there.
    pub(crate) scripts: Vec<(&'static str, String)>,
    /// Paths that belong to the machine's operator once they are there.
    pub(crate) conffiles: Vec<String>,
}

pub(crate) const HOMEPAGE: &str = "https://skycache.invalid/";
pub(crate) const MAINTAINER: &str = "Skycache maintainers <maintainers@skycache.invalid>";
pub(crate) const LICENSE: &str = "MIT OR Apache-2.0";

const DAEMON: (&str, &[&str]) = (
    "cache under the satellite dish that players use as if it were the CDN",
    &[
        "skycached receives carousels of packaged HLS and DASH from a one-way link",
        "(DVB-NIP, DVB-MABR, FLUTE over IP multicast), keeps them in a cache on disk,",
        "serves them to ordinary players over HTTP, and repairs what the link has lost",
        "from origins over the terrestrial path.",
    ],
);
const HEADEND: (&str, &[&str]) = (
    "puts packaged HLS and DASH on a one-way link",
    &[
        "headend reads packaged output, plans a carousel, and sends it as IP multicast",
        "(FLUTE, DVB-NIP, DVB-MABR) with forward error correction, as a transport stream",
        "(DSM-CC, MPE) or in baseband frames (GSE), or writes it to a recording. It also",
        "explains what is on the air.",
    ],
);

/// Everything below `etc/` that a package system must not overwrite.
fn conffiles(tree: &Tree) -> Vec<String> {
    let is_conffile = |path: &&str| path.starts_with("etc/") && !path.starts_with("etc/uci-defaults/");
    tree.files().map(|(path, _)| path).filter(is_conffile).map(|path| format!("/{path}")).collect()
}

impl Package {
    pub(crate) fn debian_daemon(release: &Release, target: Target, built: &Built) -> Result<Self, String> {
        let mut tree = sysroot(release, &["box", "systemd", "debian"])?;
        tree.add_file("usr/bin/skycached", 0o755, built.skycached.clone());
        manual::add(&mut tree, "skycached", manual::skycached(), &release.date())?;
        for name in ["stb.toml", "edge.toml", "shield.toml", "edge.socket.conf", "tuner.conf"] {
            let path = format!("usr/share/doc/skycache/examples/{name}");
            tree.add_file(&path, 0o644, release.read(&format!("configs/{name}"))?);
        }
        daemon_contents(release, target)?.add(&mut tree, "usr/share/doc/skycache")?;
        Self::debian(release, target, ("skycache", DAEMON), tree)
    }

    pub(crate) fn debian_headend(release: &Release, target: Target, built: &Built) -> Result<Self, String> {
        let mut tree = sysroot(release, &["headend"])?;
        tree.add_file("usr/bin/headend", 0o755, built.headend.clone());
        manual::add(&mut tree, "headend", manual::headend(), &release.date())?;
        let uplinks = ["carousel-modulator", "mpe-modulator", "gse-modulator", "hub", "leo-gateway"];
        let uplinks = uplinks.map(|name| format!("uplink/{name}.toml"));
        let others = ["headend.toml", "live.toml", "several.toml", "launch.toml", "feasibility.toml"]
            .map(str::to_owned);
        for name in others.into_iter().chain(uplinks) {
            let path = format!("usr/share/doc/skycache-headend/examples/{name}");
            tree.add_file(&path, 0o644, release.read(&format!("configs/{name}"))?);
        }
        let contents =
            Contents::of(release, ("skycache-headend", "headend"), target.triple(), !target.is_for_boxes())?;
        contents.add(&mut tree, "usr/share/doc/skycache-headend")?;
        Self::debian(release, target, ("skycache-headend", HEADEND), tree)
    }

    fn debian(
        release: &Release,
        target: Target,
        (name, (summary, description)): (&'static str, (&'static str, &'static [&'static str])),
        mut tree: Tree,
    ) -> Result<Self, String> {
        let version = format!("{}-1", release.version);
        let doc = format!("usr/share/doc/{name}");
        tree.add_file(
            &format!("{doc}/copyright"),
            0o644,
            copyright(&String::from_utf8_lossy(&release.read("LICENSE")?)),
        );
        let entry = format!(
            "{name} ({version}) unstable; urgency=medium\n\n  * Release {}. What is new is in changelog.gz beside this file.\n\n -- {MAINTAINER}  {}\n",
            release.version,
            release.rfc2822()
        );
        tree.add_file(&format!("{doc}/changelog.Debian.gz"), 0o644, gzip(entry.as_bytes()));
        let overrides = format!("usr/share/lintian/overrides/{name}");
        tree.add_file(
            &overrides,
            0o644,
            release.read(&format!("packaging/debian/{name}/lintian-overrides"))?,
        );
        tree.add_file(&format!("{doc}/changelog.gz"), 0o644, gzip(&release.read("CHANGELOG.md")?));
        let scripts = scripts(release, &format!("debian/{name}"), &["postinst", "prerm", "postrm"])?;
        Ok(Self {
            name,
            version,
            architecture: target.cpu.debian().to_owned(),
            summary,
            description,
            depends: vec![format!("libc6 (>= {GLIBC})")],
            conffiles: conffiles(&tree),
            tree,
            scripts,
        })
    }

    /// One for each of the processor's names there; they differ in nothing else.
    pub(crate) fn openwrt(release: &Release, target: Target, built: &Built) -> Result<Vec<Self>, String> {
        let mut tree = sysroot(release, &["openwrt"])?;
        tree.add_file(
            "etc/skycache/conf.d/README",
            0o644,
            release.read("sysroot/box/etc/skycache/conf.d/README")?,
        );
        tree.add_file("usr/bin/skycached", 0o755, built.skycached.clone());
        daemon_contents(release, target)?.add(&mut tree, "usr/share/doc/skycache")?;
        let scripts = scripts(release, "openwrt", &["postinst", "prerm", "postrm"])?;
        let conffiles = vec!["/etc/config/skycache".to_owned()];
        let version = format!("{}-r1", release.version);
        Ok(Self::for_each(target.cpu.openwrt(), &version, &tree, &scripts, &conffiles))
    }

    pub(crate) fn openembedded(
        release: &Release,
        target: Target,
        built: &Built,
    ) -> Result<Vec<Self>, String> {
        let mut tree = sysroot(release, &["box", "systemd", "sysv"])?;
        tree.add_file("usr/bin/skycached", 0o755, built.skycached.clone());
        daemon_contents(release, target)?.add(&mut tree, "usr/share/doc/skycache")?;
        let scripts = scripts(release, "openembedded", &["preinst", "postinst", "prerm", "postrm"])?;
        let conffiles: Vec<String> =
            conffiles(&tree).into_iter().filter(|it| it.starts_with("/etc/skycache/")).collect();
        let version = format!("{}-r0", release.version);
        Ok(Self::for_each(target.cpu.openembedded(), &version, &tree, &scripts, &conffiles))
    }

    /// The daemon under each of a processor's names.
    fn for_each(
        architectures: &[&str],
        version: &str,
        tree: &Tree,
        scripts: &[(&'static str, String)],
        conffiles: &[String],
    ) -> Vec<Self> {
        let of = |architecture: &&str| Self {
            name: "skycache",
            version: version.to_owned(),
            architecture: (*architecture).to_owned(),
            summary: DAEMON.0,
            description: DAEMON.1,
            depends: Vec::new(),
            conffiles: conffiles.to_vec(),
            tree: tree.clone(),
            scripts: scripts.to_vec(),
        };
        architectures.iter().map(of).collect()
    }

    /// The root of an image: the program, its configuration, its user, what it is made of, and nothing else.
    pub(crate) fn image(release: &Release, target: Target, built: &Built) -> Result<Tree, String> {
        let mut tree = Tree::default();
        daemon_contents(release, target)?.add(&mut tree, "usr/share/doc/skycache")?;
        tree.add_file("usr/bin/skycached", 0o755, built.skycached.clone());
        tree.add_file("etc/skycache/skycached.toml", 0o644, release.read("packaging/oci/skycached.toml")?);
        tree.add_empty_folder("etc/skycache/conf.d", 0o755);
        tree.add_file(
            "etc/passwd",
            0o644,
            "root:x:0:0:root:/:/sbin/nologin\nskycache:x:65532:65532:Skycache:/:/sbin/nologin\n",
        );
        tree.add_file("etc/group", 0o644, "root:x:0:\nskycache:x:65532:\n");
        tree.add_file("etc/nsswitch.conf", 0o644, "hosts: files dns\n");
        // File systems that are mounted over them belong to the operator; without a mount the folders are
        // there all the same.
        for folder in ["var/cache/skycache", "run/skycache", "tmp"] {
            tree.add_empty_folder(folder, 0o1777);
        }
        Ok(tree)
    }
}

impl Release {
    /// A file of the workspace.
    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let path = self.workspace.join(path);
        std::fs::read(&path).map_err(|err| format!("{}: {err}", path.display()))
    }

    /// `Sat, 21 Nov 2026 14:05:01 +0000`
    fn rfc2822(&self) -> String {
        skycache::caching::write_date(self.wall()).replace("GMT", "+0000")
    }

    /// `2026-11-21T14:05:01Z`
    pub(crate) fn created(&self) -> String {
        self.wall().to_xml()
    }

    /// `2026-11-21`
    fn date(&self) -> String {
        self.wall().to_xml()[..10].to_owned()
    }

    fn wall(&self) -> carousel::time::WallTime {
        carousel::time::WallTime::from_unix_ms(i64::try_from(self.epoch_s).unwrap_or(0) * 1000)
    }
}

fn daemon_contents(release: &Release, target: Target) -> Result<Contents, String> {
    Contents::of(release, ("skycache", "skycached"), target.triple(), !target.is_for_boxes())
}

pub(super) fn sysroot(release: &Release, folders: &[&str]) -> Result<Tree, String> {
    let mut tree = Tree::default();
    for folder in folders {
        tree.add_folder(&release.workspace.join("sysroot").join(folder))?;
    }
    Ok(tree)
}

fn scripts(
    release: &Release,
    folder: &str,
    names: &[&'static str],
) -> Result<Vec<(&'static str, String)>, String> {
    let read = |name: &&'static str| {
        let text = release.read(&format!("packaging/{folder}/{name}"))?;
        Ok((*name, String::from_utf8_lossy(&text).into_owned()))
    };
    names.iter().map(read).collect()
}

/// The licence in Debian's machine-readable form.
fn copyright(license: &str) -> String {
    let mit =
        license.split("-----").find(|part| part.contains("Permission is hereby granted")).unwrap_or(license);
    let mit = mit.split_once("Permission is").map_or(mit, |(_, rest)| rest);
    let lines = format!("Permission is{mit}");
    let indented: String = lines
        .trim_end_matches('-')
        .trim()
        .lines()
        .map(|line| if line.trim().is_empty() { " .\n".to_owned() } else { format!(" {line}\n") })
        .collect();
    format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: skycache\nSource: {HOMEPAGE}\n\nFiles: *\nCopyright: 2026 The Skycache authors\nLicense: Expat or Apache-2.0\n\nLicense: Expat\n{indented}\nLicense: Apache-2.0\n On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n"
    )
}
