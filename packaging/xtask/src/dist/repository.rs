//! `cargo xtask repository`: signed indexes of packages, with the keys of the repository's operator.
//!
//! | folder | index | signed |
//! |---|---|---|
//! | the packages' own (`.deb`) | `Packages`, `Packages.gz`, `Release` | `InRelease`, `Release.gpg` by gpg |
//! | `openwrt/` (`.ipk`) | `Packages`, `Packages.gz` | `Packages.sig` in the form of usign and signify (Ed25519) |
//! | `oe/` (`.ipk`) | likewise | `Packages.asc` by gpg, for opkg of OpenEmbedded |
//! | `openwrt/` (`.apk`) | `packages.adb` | in itself, by openssl ([`super::apk_index`]) |
//! | `provenance.intoto.json` | | `provenance.intoto.json.asc` by gpg |

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use carousel::digest::{Digest, from_base64, to_base64};
use carousel::trust::SecretKey;

use super::apk_index;
use super::tree::gzip;
use crate::{run, workspace};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The packages, as `cargo xtask dist` writes them
    #[arg(long, value_name = "DIR", default_value = "target/dist/packages")]
    packages: PathBuf,
    /// The key of `.deb` repositories, of `oe/` and of the provenance: as gpg names it
    #[arg(long, value_name = "ID")]
    gpg_key: Option<String>,
    /// The secret key of `openwrt/`, without a passphrase: a file of `usign -G` or `signify -G -n`
    #[arg(long, value_name = "FILE")]
    usign_key: Option<PathBuf>,
    /// The secret key of `.apk` packages in `openwrt/`: a PEM file of openssl, of an elliptic curve (P-256) or RSA
    #[arg(long, value_name = "FILE")]
    apk_key: Option<PathBuf>,
}

pub(crate) fn run_with(arguments: &Arguments) -> Result<(), String> {
    let folder = workspace().join(&arguments.packages);
    let Arguments { gpg_key, usign_key, apk_key, .. } = arguments;
    if gpg_key.is_none() && usign_key.is_none() && apk_key.is_none() {
        let keys = "--gpg-key (apt, oe), --usign-key (ipk of openwrt) or --apk-key (apk of openwrt)";
        return Err(format!("no key: name one by {keys}"));
    }
    let apk_key = apk_key.as_deref().map(apk_index::Key::read).transpose()?;
    let usign = usign_key.as_deref().map(UsignKey::read).transpose()?;
    let mut count = 0;
    if let Some(key) = gpg_key {
        count += debian(&folder, key)?;
        count +=
            ipk(&folder.join("oe"), |index| gpg(key, &["--armor", "--detach-sign"], index, "Packages.asc"))?;
        let provenance = folder.join("provenance.intoto.json");
        if provenance.exists() {
            gpg(key, &["--armor", "--detach-sign"], &provenance, "provenance.intoto.json.asc")?;
        }
    }
    if let Some(key) = usign {
        count += ipk(&folder.join("openwrt"), |index| key.sign_file(index))?;
    }
    if let Some(key) = apk_key {
        count += apk(&folder.join("openwrt"), &key)?;
    }
    if count == 0 {
        return Err(format!("{}: no packages; `cargo xtask dist` makes them", folder.display()));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|err| format!("{}: {err}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes).map_err(|err| format!("{}: {err}", path.display()))?;
    println!("{}  {}", Digest::of(bytes).to_hex(), path.display());
    Ok(())
}

/// Files of a folder with this ending, by name; none if there is no such folder.
fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, String> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(format!("{}: {err}", folder.display())),
    };
    let mut files: Vec<PathBuf> = entries.filter_map(|it| Some(it.ok()?.path())).collect();
    files.retain(|it| it.extension().is_some_and(|it| it == ending));
    files.sort();
    Ok(files)
}

/// A package's entry in an index: what it says of itself, and its file. `sum` is the index's name of a SHA-256.
fn entry(control: &str, path: &Path, sum: &str) -> Result<String, String> {
    let name =
        path.file_name().and_then(|it| it.to_str()).ok_or_else(|| format!("{}: no name", path.display()))?;
    let bytes = read(path)?;
    let digest = Digest::of(&bytes).to_hex();
    Ok(format!("{}\nFilename: ./{name}\nSize: {}\n{sum}: {digest}\n\n", control.trim_end(), bytes.len()))
}

/// Writes and signs a flat APT repository. Returns the number of its packages.
fn debian(folder: &Path, key: &str) -> Result<usize, String> {
    let packages = files(folder, "deb")?;
    if packages.is_empty() {
        return Ok(0);
    }
    let (mut index, mut architectures) = (String::new(), Vec::new());
    for path in &packages {
        let output = Command::new("dpkg-deb").arg("-f").arg(path).output();
        let output = output.map_err(|err| format!("dpkg-deb: {err}; apt-get install dpkg"))?;
        let control = String::from_utf8_lossy(&output.stdout);
        let architecture = control.lines().find_map(|line| line.strip_prefix("Architecture: "));
        let architecture = architecture.filter(|_| output.status.success());
        let architecture = architecture.ok_or_else(|| {
            format!("{}: no Debian package: {}", path.display(), String::from_utf8_lossy(&output.stderr))
        })?;
        architectures.push(architecture.trim().to_owned());
        index += &entry(&control, path, "SHA256")?;
    }
    architectures.sort();
    architectures.dedup();
    let mut release = format!(
        "Origin: Skycache\nLabel: Skycache\nSuite: stable\nDate: {}\nArchitectures: {}\nSHA256:\n",
        date()?,
        architectures.join(" ")
    );
    for (name, bytes) in [("Packages", index.clone().into_bytes()), ("Packages.gz", gzip(index.as_bytes()))] {
        let _ = writeln!(release, " {} {} {name}", Digest::of(&bytes).to_hex(), bytes.len());
        write(&folder.join(name), &bytes)?;
    }
    let path = folder.join("Release");
    write(&path, release.as_bytes())?;
    gpg(key, &["--clearsign"], &path, "InRelease")?;
    gpg(key, &["--armor", "--detach-sign"], &path, "Release.gpg")?;
    Ok(packages.len())
}

/// The time of the index, as APT reads it: `SOURCE_DATE_EPOCH`, or now. A mirror that gives out an older index than APT has is refused by it.
fn date() -> Result<String, String> {
    let at = std::env::var("SOURCE_DATE_EPOCH").map_or_else(|_| "now".to_owned(), |it| format!("@{it}"));
    let output = Command::new("date")
        .env("LC_ALL", "C")
        .args(["-u", "-d", &at, "+%a, %d %b %Y %H:%M:%S UTC"])
        .output();
    let output = output.map_err(|err| format!("date: {err}"))?;
    if !output.status.success() {
        return Err(format!("SOURCE_DATE_EPOCH: `{at}` is not a time"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Signs a file by gpg, into a file beside it.
fn gpg(key: &str, how: &[&str], file: &Path, signature: &str) -> Result<(), String> {
    let to = file.with_file_name(signature);
    let mut command = Command::new("gpg");
    command.args(["--batch", "--yes", "--digest-algo", "SHA256", "--local-user", key]);
    command.arg("--output").arg(&to).args(how).arg(file);
    run(&mut command).map_err(|err| format!("{err}; is `{key}` among `gpg --list-secret-keys`?"))?;
    println!("{}  {}", Digest::of(&read(&to)?).to_hex(), to.display());
    Ok(())
}

/// Writes the index of a folder of `.ipk` packages, and has it signed. Returns their number.
fn ipk(folder: &Path, sign: impl FnOnce(&Path) -> Result<(), String>) -> Result<usize, String> {
    let packages = files(folder, "ipk")?;
    if packages.is_empty() {
        return Ok(0);
    }
    let mut index = String::new();
    for path in &packages {
        let control = control(&read(path)?).ok_or_else(|| format!("{}: no ipk package", path.display()))?;
        index += &entry(&control, path, "SHA256sum")?;
    }
    let path = folder.join("Packages");
    write(&path, index.as_bytes())?;
    write(&folder.join("Packages.gz"), &gzip(index.as_bytes()))?;
    sign(&path)?;
    Ok(packages.len())
}

/// Writes the signed index of a folder of `.apk` packages. Returns their number.
fn apk(folder: &Path, key: &apk_index::Key<'_>) -> Result<usize, String> {
    let paths = files(folder, "apk")?;
    if paths.is_empty() {
        return Ok(0);
    }
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let packages: Vec<(String, Vec<u8>)> =
        paths.iter().map(|path| Ok((name(path), read(path)?))).collect::<Result<_, String>>()?;
    let index = apk_index::index(&packages).map_err(|why| format!("{}: {why}", folder.display()))?;
    write(&folder.join("packages.adb"), &key.signed(&index)?)?;
    Ok(packages.len())
}

/// Description of an ipk package: `control` of `control.tar.gz` in a compressed tar.
fn control(package: &[u8]) -> Option<String> {
    let outer = member(package, "control.tar.gz")?;
    String::from_utf8(member(&outer, "control")?).ok()
}

/// A member of a compressed tar.
fn member(archive: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    for entry in archive.entries().ok()? {
        let mut entry = entry.ok()?;
        if entry.path().ok()?.strip_prefix("./").is_ok_and(|path| path == Path::new(name)) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).ok()?;
            return Some(bytes);
        }
    }
    None
}

/// A secret key of usign or signify.
struct UsignKey {
    secret: SecretKey,
    /// Names the key among those of a device, `/etc/opkg/keys/FINGERPRINT`.
    fingerprint: [u8; 8],
}

impl UsignKey {
    fn read(path: &Path) -> Result<Self, String> {
        let text = String::from_utf8_lossy(&read(path)?).into_owned();
        Self::of(&text).map_err(|why| format!("{}: {why}", path.display()))
    }

    /// A comment, and in base64: `Ed`, `BK`, rounds of the passphrase's derivation (4 bytes), salt (16), checksum (8), fingerprint (8), seed
    /// and public key (32 each).
    fn of(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "no secret key of usign or signify; `usign -G -s FILE -p FILE.pub` makes one";
        let line = text.lines().nth(1).filter(|_| text.starts_with("untrusted comment:")).ok_or(WRONG)?;
        let bytes = from_base64(line.trim()).ok_or(WRONG)?;
        let bytes: &[u8; 104] = bytes.as_slice().try_into().map_err(|_| WRONG)?;
        if &bytes[..4] != b"EdBK" {
            return Err(WRONG);
        }
        if bytes[4..8] != [0; 4] {
            return Err("the key has a passphrase; `signify -G -n` makes one without");
        }
        let part = |at: usize| -> [u8; 32] { std::array::from_fn(|it| bytes[at + it]) };
        let secret = SecretKey::from_seed(&part(40));
        if secret.public().0 != part(72) {
            return Err("its public half does not belong to it");
        }
        Ok(Self { secret, fingerprint: std::array::from_fn(|at| bytes[32 + at]) })
    }

    /// Signs a file, into `FILE.sig`.
    fn sign_file(&self, file: &Path) -> Result<(), String> {
        let mut signature = b"Ed".to_vec();
        signature.extend_from_slice(&self.fingerprint);
        signature.extend_from_slice(&self.secret.sign(&read(file)?));
        let name: String = self.fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("untrusted comment: signed by key {name}\n{}\n", to_base64(&signature));
        let mut path = file.as_os_str().to_owned();
        path.push(".sig");
        write(Path::new(&path), text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use skycache_tests::programs::have;

    use super::*;

    impl Arguments {
        fn none() -> Self {
            Self { packages: PathBuf::new(), gpg_key: None, usign_key: None, apk_key: None }
        }
    }

    /// A package of one file, by dpkg-deb.
    fn deb(folder: &Path, name: &str) {
        let tree = folder.join(".tree");
        std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        std::fs::create_dir_all(tree.join("usr/share/doc")).unwrap();
        std::fs::write(tree.join("usr/share/doc").join(name), name).unwrap();
        let control = format!(
            "Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: Operator <operator@example.com>\nDescription: {name}\n"
        );
        std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
        let mut command = Command::new("dpkg-deb");
        command
            .args(["--root-owner-group", "--build"])
            .arg(&tree)
            .arg(folder.join(format!("{name}_1.0_all.deb")));
        assert!(command.output().unwrap().status.success());
        std::fs::remove_dir_all(&tree).unwrap();
    }

    fn ipk_package(folder: &Path, name: &str) {
        let archive = |members: &[(&str, Vec<u8>)]| {
            let mut archive = tar::Builder::new(Vec::new());
            for (name, bytes) in members {
                super::super::tree::append(&mut archive, name, tar::EntryType::Regular, 0o644, bytes, 0);
            }
            gzip(&archive.into_inner().unwrap())
        };
        let control =
            format!("Package: {name}\nVersion: 1.0\nArchitecture: all\nDescription: {name}\n a box\n");
        let inner = archive(&[("./control", control.into_bytes())]);
        let outer = archive(&[("./debian-binary", b"2.0\n".to_vec()), ("./control.tar.gz", inner)]);
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join(format!("{name}_1.0_all.ipk")), outer).unwrap();
    }

    fn changed(path: &Path, from: &str, to: &str) {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    /// APT itself takes the repository, and neither another index nor another package.
    #[test]
    fn apt_takes_what_is_signed_and_nothing_else() {
        if !["apt-get", "dpkg-deb", "gpg", "gpgconf"].iter().all(|it| have(it)) {
            println!("skipped: apt-get, dpkg-deb and gpg are needed");
            return;
        }
        let work = tempfile::tempdir().unwrap();
        let (packages, home) = (work.path().join("packages"), work.path().join("gpg"));
        std::fs::create_dir_all(&packages).unwrap();
        std::fs::create_dir_all(&home).unwrap();
        std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        deb(&packages, "skybox");
        std::fs::write(packages.join("provenance.intoto.json"), "{}").unwrap();
        let gpg = |arguments: &[&str]| {
            let output =
                Command::new("gpg").arg("--homedir").arg(&home).arg("--batch").args(arguments).output();
            let output = output.unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        let key = "operator@example.com";
        gpg(&[
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
            "--quick-gen-key",
            key,
            "ed25519",
            "sign",
            "never",
        ]);
        let ring = work.path().join("operator.gpg");
        std::fs::write(&ring, gpg(&["--export", key])).unwrap();
        // gpg finds the operator's keys by the environment, which a test must not change for the others.
        let sign = |packages: &Path| {
            let program = std::env::current_exe().unwrap();
            let mut command = Command::new(program);
            command.args(["--exact", "dist::repository::tests::signs_in_a_process_of_its_own", "--ignored"]);
            command.env("GNUPGHOME", &home).env("REPOSITORY", packages).env("REPOSITORY_KEY", key);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        };
        sign(&packages);
        gpg(&[
            "--verify",
            packages.join("provenance.intoto.json.asc").to_str().unwrap(),
            packages.join("provenance.intoto.json").to_str().unwrap(),
        ]);
        let root = work.path().join("apt");
        for folder in ["state/lists/partial", "cache/archives/partial", "etc"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::write(root.join("status"), "").unwrap();
        let source = format!("deb [signed-by={}] file:{} ./\n", ring.display(), packages.display());
        std::fs::write(root.join("sources.list"), source).unwrap();
        let apt = |arguments: &[&str]| {
            let mut command = Command::new("apt-get");
            for (key, value) in [
                ("Dir::State", "state"),
                ("Dir::State::status", "status"),
                ("Dir::Cache", "cache"),
                ("Dir::Etc", "etc"),
                ("Dir::Etc::SourceList", "sources.list"),
                ("Dir::Etc::SourceParts", "none"),
            ] {
                command.arg("-o").arg(format!("{key}={}", root.join(value).display()));
            }
            command.args([
                "-o",
                "APT::Sandbox::User=root",
                "-o",
                "Acquire::Languages=none",
                "-o",
                "APT::Update::Error-Mode=any",
            ]);
            let output = command.args(arguments).current_dir(&root).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            output.status.success().then_some(said.clone()).ok_or(said)
        };
        let update = || {
            std::fs::remove_dir_all(root.join("state/lists")).unwrap();
            std::fs::create_dir_all(root.join("state/lists/partial")).unwrap();
            apt(&["update"])
        };
        update().expect("signed");
        apt(&["download", "skybox"]).expect("of the index");
        assert!(root.join("skybox_1.0_all.deb").exists());
        // Another package under the same name and length.
        std::fs::remove_file(root.join("skybox_1.0_all.deb")).unwrap();
        let file = packages.join("skybox_1.0_all.deb");
        let genuine = std::fs::read(&file).unwrap();
        let mut forged = genuine.clone();
        *forged.last_mut().unwrap() ^= 1;
        std::fs::write(&file, &forged).unwrap();
        let said = apt(&["download", "skybox"]).unwrap_err();
        assert!(said.contains("Hash Sum mismatch"), "{said}");
        // An index that names it.
        let (ours, theirs) = (Digest::of(&genuine).to_hex(), Digest::of(&forged).to_hex());
        changed(&packages.join("Packages"), &ours, &theirs);
        std::fs::remove_file(packages.join("Packages.gz")).unwrap();
        assert!(update().is_err());
        // A release that names that index.
        std::fs::write(&file, &genuine).unwrap();
        sign(&packages);
        update().expect("signed again");
        changed(&packages.join("InRelease"), "Origin: Skycache", "Origin: Skycash");
        let said = update().unwrap_err();
        assert!(said.contains("BADSIG") || said.contains("not signed") || said.contains("invalid"), "{said}");
        let _ = Command::new("gpgconf").arg("--homedir").arg(&home).args(["--kill", "all"]).output();
    }

    #[test]
    #[ignore = "called by apt_takes_what_is_signed_and_nothing_else, with the environment of an operator"]
    fn signs_in_a_process_of_its_own() {
        let Ok(packages) = std::env::var("REPOSITORY") else { return };
        let gpg_key = std::env::var("REPOSITORY_KEY").ok();
        run_with(&Arguments { packages: packages.into(), gpg_key, usign_key: None, apk_key: None }).unwrap();
    }

    /// A key as signify 31 has made it with `-G -n`.
    fn key_text(seed: [u8; 32], rounds: u8) -> String {
        let secret = SecretKey::from_seed(&seed);
        let mut bytes = b"EdBK\0\0\0".to_vec();
        bytes.push(rounds);
        bytes.extend_from_slice(&[5; 16]);
        bytes.extend_from_slice(&[6; 8]);
        bytes.extend_from_slice(&[7; 8]);
        bytes.extend_from_slice(&seed);
        bytes.extend_from_slice(&secret.public().0);
        format!("untrusted comment: operator secret key\n{}\n", to_base64(&bytes))
    }

    #[test]
    fn indexes_of_ipk_have_a_signature_that_signify_verifies() {
        let work = tempfile::tempdir().unwrap();
        let folder = work.path().join("openwrt");
        ipk_package(&folder, "skybox");
        ipk_package(&folder, "skyhead");
        let key = work.path().join("key");
        std::fs::write(&key, key_text([9; 32], 0)).unwrap();
        let public = work.path().join("key.pub");
        let of_public = [&b"Ed"[..], &[7; 8], &SecretKey::from_seed(&[9; 32]).public().0].concat();
        std::fs::write(&public, format!("untrusted comment: operator\n{}\n", to_base64(&of_public))).unwrap();
        let arguments =
            Arguments { packages: work.path().to_owned(), usign_key: Some(key.clone()), ..Arguments::none() };
        run_with(&arguments).unwrap();
        let index = std::fs::read_to_string(folder.join("Packages")).unwrap();
        let entries: Vec<&str> = index.trim_end().split("\n\n").collect();
        assert_eq!(entries.len(), 2);
        assert!(
            entries[1].starts_with("Package: skyhead\n")
                && entries[1].contains("\nFilename: ./skyhead_1.0_all.ipk\n")
        );
        let digest = Digest::of(&std::fs::read(folder.join("skybox_1.0_all.ipk")).unwrap()).to_hex();
        assert!(entries[0].ends_with(&format!("SHA256sum: {digest}")), "{}", entries[0]);
        // In the form of signify: of Ed25519, of that fingerprint, of the whole index.
        let text = std::fs::read_to_string(folder.join("Packages.sig")).unwrap();
        let signature = from_base64(text.lines().nth(1).unwrap()).unwrap();
        assert_eq!((&signature[..2], &signature[2..10]), (&b"Ed"[..], &[7; 8][..]));
        let of_index = signature[10..].try_into().unwrap();
        assert!(SecretKey::from_seed(&[9; 32]).public().verify(index.as_bytes(), &of_index));
        if have("signify-openbsd") {
            let verify = || {
                let mut command = Command::new("signify-openbsd");
                command.arg("-V").arg("-p").arg(&public).arg("-m").arg(folder.join("Packages"));
                command.arg("-x").arg(folder.join("Packages.sig")).output().unwrap().status.success()
            };
            assert!(verify());
            changed(&folder.join("Packages"), &digest, &"0".repeat(64));
            assert!(!verify());
            // A key of its own making is read.
            let (secret, public) = (work.path().join("own.sec"), work.path().join("own.pub"));
            let made = Command::new("signify-openbsd")
                .args(["-G", "-n", "-p"])
                .arg(&public)
                .arg("-s")
                .arg(&secret)
                .output();
            assert!(made.unwrap().status.success());
            UsignKey::read(&secret).unwrap();
        } else {
            println!("not compared with signify: signify-openbsd is not installed");
        }
    }

    /// A package of two files, as `cargo xtask dist` writes it.
    fn apk_package(folder: &Path, name: &'static str, architecture: &str, body: &str) {
        use super::super::{Release, package::Package, tree::Tree};
        let mut tree = Tree::default();
        tree.add_file(&format!("usr/bin/{name}"), 0o755, body.to_owned().into_bytes());
        tree.add_file(&format!("etc/{name}.toml"), 0o644, "a = 1\n");
        let package = Package {
            name,
            version: "1.0-r1".to_owned(),
            architecture: architecture.to_owned(),
            summary: "a box",
            description: &[],
            depends: Vec::new(),
            tree,
            scripts: Vec::new(),
            conffiles: vec![format!("/etc/{name}.toml")],
        };
        let release = Release {
            version: "1.0".to_owned(),
            epoch_s: 1_700_000_000,
            workspace: folder.to_owned(),
            out: folder.to_owned(),
            written: Default::default(),
        };
        std::fs::create_dir_all(folder).unwrap();
        let bytes = super::super::apk::bytes(&release, &package);
        std::fs::write(folder.join(format!("{name}-1.0-r1_{architecture}.apk")), bytes).unwrap();
    }

    fn openssl(arguments: &[&str]) -> (bool, Vec<u8>) {
        let output = Command::new("openssl").args(arguments).output().unwrap();
        (output.status.success(), output.stdout)
    }

    /// A folder with packages, and the index that is signed with a new key.
    fn apk_repository(work: &Path) -> (PathBuf, PathBuf, PathBuf) {
        let (folder, key, public) =
            (work.join("openwrt"), work.join("operator.pem"), work.join("public.pem"));
        for (name, architecture) in [("skybox", "x86_64"), ("skybox", "arm_any"), ("skyhead", "x86_64")] {
            apk_package(&folder, name, architecture, architecture);
        }
        let at = |path: &Path| path.display().to_string();
        assert!(openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &at(&key)]).0);
        assert!(openssl(&["pkey", "-in", &at(&key), "-pubout", "-out", &at(&public)]).0);
        let arguments =
            Arguments { packages: work.to_owned(), apk_key: Some(key.clone()), ..Arguments::none() };
        run_with(&arguments).unwrap();
        (folder, key, public)
    }

    #[test]
    fn indexes_of_apk_name_each_package_by_its_digest_and_openssl_verifies_them() {
        use super::super::adb::{self, Block};
        if !have("openssl") {
            return;
        }
        let work = tempfile::tempdir().unwrap();
        let (folder, _, public) = apk_repository(work.path());
        let bytes = std::fs::read(folder.join("packages.adb")).unwrap();
        let index = adb::content(&bytes, b"indx").unwrap();
        let block = Block(&index);
        let root = block.slots(block.root().unwrap()).unwrap();
        assert_eq!(block.blob(root[2]), Some(&b"${name}-${version}_${arch}.apk"[..]));
        let mut names = Vec::new();
        for package in block.slots(root[1]).unwrap() {
            let slots = block.slots(package).unwrap();
            let text = |at: usize| String::from_utf8(block.blob(slots[at - 1]).unwrap().to_vec()).unwrap();
            let file = format!("{}-{}_{}.apk", text(1), text(2), text(5));
            let package = std::fs::read(folder.join(&file)).unwrap();
            let content = adb::content(&package, b"pckg").unwrap();
            assert_eq!(block.blob(slots[2]), Some(&Digest::of(&content).0[..]), "{file}");
            assert_eq!((slots[12] & 0x0fff_ffff) as usize, package.len(), "{file}");
            names.push(file);
        }
        assert_eq!(
            names,
            ["skybox-1.0-r1_arm_any.apk", "skybox-1.0-r1_x86_64.apk", "skyhead-1.0-r1_x86_64.apk"]
        );
        // The signature, by the public key alone.
        let mut inflated = Vec::new();
        flate2::read::DeflateDecoder::new(&bytes[4..]).read_to_end(&mut inflated).unwrap();
        let signature = &inflated[8 + (4 + index.len()).next_multiple_of(8)..];
        let length = (u32::from_le_bytes(signature[..4].try_into().unwrap()) & 0x3fff_ffff) as usize;
        let (head, signature) = signature[4..length].split_at(18);
        let at = |name: &str| work.path().join(name).display().to_string();
        std::fs::write(at("index"), &index).unwrap();
        std::fs::write(at("signature"), signature).unwrap();
        let digest = openssl(&["dgst", "-sha512", "-binary", &at("index")]).1;
        let verify = |digest: &[u8]| {
            std::fs::write(at("message"), [b"indx", head, digest].concat()).unwrap();
            let public = public.display().to_string();
            openssl(&["dgst", "-sha512", "-verify", &public, "-signature", &at("signature"), &at("message")])
                .0
        };
        assert!(verify(&digest) && !verify(&[0; 64]));
        // A file of another name would not be found.
        std::fs::rename(folder.join(&names[2]), folder.join("skyhead-1.1-r1_x86_64.apk")).unwrap();
        let packages = vec![(
            "skyhead-1.1-r1_x86_64.apk".to_owned(),
            std::fs::read(folder.join("skyhead-1.1-r1_x86_64.apk")).unwrap(),
        )];
        assert!(apk_index::index(&packages).unwrap_err().contains("rename it"));
        assert!(apk_index::index(&[("x.apk".to_owned(), b"ADBd?".to_vec())]).unwrap_err().contains("x.apk"));
    }

    /// apk-tools 3 themselves install from the repository, and take neither another index nor another package, nor one without a key.
    #[test]
    fn apk_takes_what_is_signed_and_nothing_else() {
        if !have("apk") || !have("openssl") {
            return;
        }
        let work = tempfile::tempdir().unwrap();
        let (folder, _, public) = apk_repository(work.path());
        let (root, keys) = (work.path().join("root"), work.path().join("keys"));
        std::fs::create_dir(&keys).unwrap();
        let apk = |arguments: &[&str]| {
            let mut command = Command::new("apk");
            command.arg("--root").arg(&root).arg("--keys-dir").arg(&keys);
            command.args([
                "--arch",
                "x86_64",
                "--no-cache",
                "--no-logfile",
                "--repositories-file",
                "/dev/null",
            ]);
            command.arg("--repository").arg(folder.join("packages.adb")).args(arguments);
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            output.status.success().then_some(said.clone()).ok_or(said)
        };
        let add = |package: &str| {
            let _ = std::fs::remove_dir_all(&root);
            // Others than root cannot change owners, and root is refused this.
            let is_root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&keys).unwrap()) == 0;
            let mode: &[&str] = if is_root { &[] } else { &["--usermode"] };
            apk(&[&["add", "--initdb"], mode, &[package]].concat())
        };
        let said = add("skybox").unwrap_err();
        assert!(said.contains("UNTRUSTED"), "{said}");
        std::fs::copy(&public, keys.join("operator.pem")).unwrap();
        add("skybox").unwrap();
        assert_eq!(std::fs::read_to_string(root.join("usr/bin/skybox")).unwrap(), "x86_64");
        // Another package under the same name and length.
        let file = folder.join("skybox-1.0-r1_x86_64.apk");
        let genuine = std::fs::read(&file).unwrap();
        apk_package(&folder, "skybox", "x86_64", "x86_65");
        assert_ne!(std::fs::read(&file).unwrap(), genuine);
        let said = add("skybox").unwrap_err();
        assert!(!root.join("usr/bin/skybox").exists(), "{said}");
        std::fs::write(&file, &genuine).unwrap();
        add("skybox").unwrap();
        // Another index, by another key.
        let other = work.path().join("other.pem");
        openssl(&[
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            &other.display().to_string(),
        ]);
        let arguments =
            Arguments { packages: work.path().to_owned(), apk_key: Some(other), ..Arguments::none() };
        run_with(&arguments).unwrap();
        let said = add("skybox").unwrap_err();
        assert!(said.contains("UNTRUSTED"), "{said}");
    }

    #[test]
    fn keys_that_cannot_be_used_are_refused_with_their_fix() {
        let why = |text: &str| UsignKey::of(text).map(|_| ()).unwrap_err();
        assert!(UsignKey::of(&key_text([1; 32], 0)).is_ok());
        assert!(why(&key_text([1; 32], 42)).contains("passphrase"));
        for text in ["", "untrusted comment: x\nAAAA\n", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n"] {
            assert!(why(text).contains("usign -G"), "{text}");
        }
        let none = Arguments::none();
        assert!(run_with(&none).unwrap_err().contains("--gpg-key"));
        let empty = tempfile::tempdir().unwrap();
        let none =
            Arguments { packages: empty.path().to_owned(), gpg_key: Some("x".into()), ..Arguments::none() };
        assert!(run_with(&none).unwrap_err().contains("cargo xtask dist"));
    }
}
