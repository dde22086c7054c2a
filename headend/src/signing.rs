//! Keys on disk: the files of `headend keygen`, and the signer of a broadcast.
//!
//! | file | content |
//! |---|---|
//! | `root.key` | secret of the root key; only `keygen` needs it |
//! | `root.pub` | what receivers pin |
//! | `online-N.key` | secret of online key number N, and its certificate |
//! | `revoked-N.list` | revocation list number N |
//! | `versions` | a version that no document had yet |
//!
//! Lines are a word and its value. Files with secrets are for their owner only; no file is ever overwritten but `versions`.

mod error;

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use carousel::config::plain;
use carousel::time::WallTime;
use carousel::trust::{Certificate, KeyId, PublicKey, RevocationList, Sealer, SecretKey};

pub use error::{FolderFault, KeyFault, SigningError};

use crate::config::Config;

/// Versions are set aside this far ahead, so that a restart never gives one twice.
const VERSIONS_AHEAD: u64 = 600_000;

/// Arguments of `headend keygen`.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The folder.
    pub out: PathBuf,
    /// Secret of the root key, if it is not in the folder.
    pub root: Option<PathBuf>,
    /// Add an online key to a folder that has some.
    pub rotate: bool,
    /// Online keys that count no more.
    pub revoke: Vec<String>,
    /// Days for which the new certificate is valid.
    pub days: u64,
    /// Services that the new key may sign for; none: all.
    pub services: Vec<String>,
}

/// Result of `headend keygen`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedKeys {
    /// The root key.
    pub root: PublicKey,
    /// The certificate of the new online key.
    pub certificate: Option<Certificate>,
    /// The new revocation list.
    pub revocations: Option<RevocationList>,
    /// Files written.
    pub files: Vec<PathBuf>,
}

/// Makes keys, or a revocation list, in a folder.
///
/// # Errors
/// Obstacle and fix; nothing was overwritten.
pub fn keygen(request: &Request, now: WallTime) -> Result<GeneratedKeys, SigningError> {
    let Request { out, root, rotate, revoke, days, services } = request;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(out).map_err(SigningError::io(out))?;
    let root_file = root.clone().unwrap_or_else(|| out.join("root.key"));
    let (has_root, is_new) = (root_file.exists(), !rotate && revoke.is_empty());
    let mut files = Vec::new();
    let root = match (has_root, is_new) {
        (true, true) if root.is_none() => {
            return Err(SigningError::RootExists(out.clone()));
        }
        (true, _) => field(&read(&root_file)?, "root", &root_file, SecretKey::from_text)?,
        (false, true) if root.is_none() => {
            let root = SecretKey::from_seed(&random()?);
            write(&root_file, &secret_text("root", &root, "keep it offline"), 0o600, &mut files)?;
            let public =
                format!("# root key {}: [trust] keys of receivers\n{}\n", root.public().id(), root.public());
            write(&out.join("root.pub"), &public, 0o644, &mut files)?;
            root
        }
        (false, _) => return Err(SigningError::NoRoot(root_file)),
    };
    let known = numbered(out, "online-", ".key")?;
    let certificates = known.iter().map(|(_, path)| certificate_of(path)).collect::<Result<Vec<_>, _>>()?;
    let mut list = latest_list(out)?;
    if !revoke.is_empty() {
        let (number, mut revoked) = list.map_or((0, Vec::new()), |it| (it.number, it.revoked));
        for id in revoke {
            let key = KeyId::from_text(id).ok_or_else(|| SigningError::BadKeyId(id.clone()))?;
            if certificates.iter().all(|it| it.key.id() != key) {
                let known = certificates.iter().map(|it| it.key.id()).collect();
                return Err(SigningError::UnknownKey { id: id.clone(), folder: out.clone(), known });
            }
            if !revoked.contains(&key) {
                revoked.push(key);
            }
        }
        let new = RevocationList::issue(&root, number + 1, revoked);
        let path = out.join(format!("revoked-{}.list", new.number));
        write(&path, &format!("revoked {}\n", new.to_text()), 0o644, &mut files)?;
        list = Some(new);
    }
    let certificate = if is_new || *rotate {
        let is_revoked =
            |it: &&Certificate| list.as_ref().is_some_and(|list| list.revoked.contains(&it.key.id()));
        // A revoked key may have signed any version: the next epoch overrides all of them.
        let epoch = certificates.iter().filter(is_revoked).map(|it| it.epoch + 1).max().unwrap_or(0);
        let epoch = certificates.iter().map(|it| it.epoch).max().unwrap_or(0).max(epoch);
        let serial = known.last().map_or(0, |(number, _)| *number) + 1;
        let from = now.unix_seconds();
        // Clocks of receivers may be behind.
        let validity = (from.saturating_sub(86_400), from + days * 86_400);
        let secret = SecretKey::from_seed(&random()?);
        let certificate =
            Certificate::issue(&root, secret.public(), (epoch, serial), validity, services.clone());
        let text = secret_text("online", &secret, "signs what is sent")
            + &format!("certificate {}\n", certificate.to_text());
        write(&out.join(format!("online-{serial}.key")), &text, 0o600, &mut files)?;
        Some(certificate)
    } else {
        None
    };
    let revocations = list.filter(|_| !revoke.is_empty());
    Ok(GeneratedKeys { root: root.public(), certificate, revocations, files })
}

/// Checks that the folder of the keys is there.
///
/// # Errors
/// The folder that is not, with the command that makes it.
pub fn keys_are_there(folder: &Path) -> Result<(), SigningError> {
    let why = match fs::metadata(folder) {
        Ok(it) if it.is_dir() => return Ok(()),
        Ok(_) => FolderFault::NotAFolder,
        Err(err) if err.kind() == ErrorKind::NotFound => FolderFault::Missing,
        Err(err) => FolderFault::Io(plain(&err)),
    };
    Err(SigningError::Folder(folder.to_owned(), why))
}

/// Signer of the broadcast of a configuration: of the folder's online keys the newest that is valid and not revoked. `None` if
/// nothing is to be signed.
///
/// # Errors
/// No usable key, and what to do.
pub fn sealer(config: &Config, now: WallTime) -> Result<Option<Sealer>, SigningError> {
    let Some(signing) = &config.signing else { return Ok(None) };
    let folder = &signing.keys;
    keys_are_there(folder)?;
    let list = latest_list(folder)?;
    let date = now.unix_seconds();
    let mut why = KeyFault::Missing;
    let online = numbered(folder, "online-", ".key")?;
    for (_, path) in online.iter().rev() {
        let certificate = certificate_of(path)?;
        let id = certificate.key.id();
        if list.as_ref().is_some_and(|list| list.revoked.contains(&id)) {
            why = KeyFault::Revoked(id);
        } else if date < certificate.from || date > certificate.until {
            why = KeyFault::NotValid(id, day(certificate.from), day(certificate.until));
        } else {
            let secret = field(&read(path)?, "online", path, SecretKey::from_text)?;
            let last = fs::read_to_string(folder.join("versions")).ok().and_then(|it| it.trim().parse().ok());
            let sealer = Sealer::new(secret, certificate, list, last.unwrap_or(0));
            return sealer.map(Some).ok_or_else(|| SigningError::Roots(path.clone()));
        }
    }
    let has_root = !online.is_empty() || folder.join("root.key").exists() || folder.join("root.pub").exists();
    Err(SigningError::NoKey { folder: folder.clone(), why, has_root })
}

/// The signer in one line.
pub fn describe(sealer: &Sealer) -> String {
    let certificate = sealer.certificate();
    format!(
        "signed by key {} of root {}, until {}",
        certificate.key.id(),
        certificate.root.id(),
        day(certificate.until)
    )
}

/// The signer for `--json`.
pub fn to_json(sealer: &Sealer) -> serde_json::Value {
    let certificate = sealer.certificate();
    serde_json::json!({
        "root": certificate.root.id().to_string(),
        "key": certificate.key.id().to_string(),
        "serial": certificate.serial,
        "epoch": certificate.epoch,
        "until": at(certificate.until).to_xml(),
        "until_s": certificate.until,
        "services": certificate.services,
        "revoked": sealer.revocations().map_or(0, |it| it.revoked.len()),
    })
}

/// Sets versions aside while documents are signed.
#[derive(Debug)]
pub struct Versions {
    sealer: Sealer,
    file: PathBuf,
    aside: u64,
}

impl Versions {
    /// Sets the first aside. `None` if nothing is signed.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn open(config: &Config, now: WallTime) -> Result<Option<Self>, SigningError> {
        let (Some(signing), Some(sealer)) = (&config.signing, &config.sealer) else { return Ok(None) };
        let mut versions = Self { sealer: sealer.clone(), file: signing.keys.join("versions"), aside: 0 };
        let first = sealer.last_version().max(u64::try_from(now.unix_ms()).unwrap_or(0));
        versions.set_aside(first + VERSIONS_AHEAD)?;
        Ok(Some(versions))
    }

    /// Sets more aside when half of them are used.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn keep(&mut self) -> Result<(), SigningError> {
        let last = self.sealer.last_version();
        if last + VERSIONS_AHEAD / 2 < self.aside {
            return Ok(());
        }
        self.set_aside(last + VERSIONS_AHEAD)
    }

    fn set_aside(&mut self, version: u64) -> Result<(), SigningError> {
        let new = self.file.with_extension("new");
        let written = fs::write(&new, format!("{version}\n")).and_then(|()| fs::rename(&new, &self.file));
        self.aside = version;
        written.map_err(|err| SigningError::Versions(self.file.clone(), plain(&err)))
    }
}

/// Seconds since 1970 as a date.
pub(crate) fn at(seconds: u64) -> WallTime {
    WallTime::from_unix_ms(i64::try_from(seconds).unwrap_or(i64::MAX / 1000).saturating_mul(1000))
}

fn day(seconds: u64) -> String {
    at(seconds).to_xml().chars().take(10).collect()
}

fn random() -> Result<[u8; 32], SigningError> {
    let mut seed = [0; 32];
    let source = Path::new("/dev/urandom");
    fs::File::open(source).and_then(|mut it| it.read_exact(&mut seed)).map_err(SigningError::io(source))?;
    Ok(seed)
}

fn secret_text(word: &str, secret: &SecretKey, what: &str) -> String {
    format!("# {word} key {}: {what}\n{word} {}\n", secret.public().id(), secret.to_secret_text())
}

fn write(path: &Path, text: &str, mode: u32, files: &mut Vec<PathBuf>) -> Result<(), SigningError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(|err| match err.kind() {
        ErrorKind::AlreadyExists => SigningError::Exists(path.to_owned()),
        _ => SigningError::io(path)(err),
    })?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(SigningError::io(path))?;
    files.push(path.to_owned());
    Ok(())
}

/// Reads a file of keys; one with a secret that others may read is refused.
fn read(path: &Path) -> Result<String, SigningError> {
    let mode = fs::metadata(path).map_err(SigningError::io(path))?.permissions().mode();
    if path.extension().is_some_and(|it| it == "key") && mode & 0o077 != 0 {
        return Err(SigningError::Readable(path.to_owned()));
    }
    fs::read_to_string(path).map_err(SigningError::io(path))
}

fn field<T>(
    text: &str,
    word: &str,
    path: &Path,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, SigningError> {
    let value = text.lines().filter_map(|line| line.split_once(' ')).find(|(it, _)| *it == word);
    let parsed = value.and_then(|(_, value)| parse(value));
    parsed.ok_or_else(|| SigningError::NoLine(path.to_owned(), word.to_owned()))
}

fn certificate_of(path: &Path) -> Result<Certificate, SigningError> {
    field(&read(path)?, "certificate", path, Certificate::from_text)
}

fn latest_list(folder: &Path) -> Result<Option<RevocationList>, SigningError> {
    let lists = numbered(folder, "revoked-", ".list")?;
    let Some((_, path)) = lists.last() else { return Ok(None) };
    field(&read(path)?, "revoked", path, RevocationList::from_text).map(Some)
}

/// Files `prefixN…suffix` of a folder, by number.
fn numbered(folder: &Path, prefix: &str, suffix: &str) -> Result<Vec<(u32, PathBuf)>, SigningError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(SigningError::io(folder))? {
        let path = entry.map_err(SigningError::io(folder))?.path();
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        let number = name.strip_prefix(prefix).and_then(|it| it.strip_suffix(suffix));
        if let Some(number) = number.and_then(|it| it.parse().ok()) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime::from_unix_ms(1_795_219_200_000);

    fn request(out: &Path) -> Request {
        Request { out: out.to_owned(), days: 100, ..Request::default() }
    }

    fn config(keys: &Path) -> Config {
        let text = format!(
            "link.rate_bps = 1_000_000\nsigning.keys = \"{}\"\n[[source]]\npath = \"x\"\nbase = \"http://h/\"\n",
            keys.display()
        );
        Config::parse(&text, Path::new("/")).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_made_once_for_their_owner_alone_and_sign() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("keys");
        let made = keygen(&request(&out), NOW).unwrap();
        assert_eq!((mode(&out), mode(&out.join("root.key"))), (0o700, 0o600));
        assert_eq!((mode(&out.join("online-1.key")), mode(&out.join("root.pub"))), (0o600, 0o644));
        let public = fs::read_to_string(out.join("root.pub")).unwrap();
        assert!(public.contains(&made.root.to_string()));
        let before = fs::read(out.join("root.key")).unwrap();
        let why = keygen(&request(&out), NOW).unwrap_err().to_string();
        assert!(why.contains("--rotate"), "{why}");
        assert_eq!(fs::read(out.join("root.key")).unwrap(), before);
        let sealer = sealer(&config(&out), NOW).unwrap().unwrap();
        assert_eq!(Some(sealer.certificate()), made.certificate.as_ref());
        // The root key is not needed to send.
        fs::remove_file(out.join("root.key")).unwrap();
        assert!(super::sealer(&config(&out), NOW).is_ok());
        fs::set_permissions(out.join("online-1.key"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(super::sealer(&config(&out), NOW).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn a_folder_without_keys_is_named_with_the_command_that_makes_them() {
        let folder = tempfile::tempdir().unwrap();
        let told = |keys: &Path| sealer(&config(keys), NOW).unwrap_err().to_string();
        let away = folder.path().join("away");
        let make = |keys: &Path| format!("`headend keygen --out {}` makes", keys.display());
        assert!(told(&away).contains("away: there is no such folder") && told(&away).contains(&make(&away)));
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(told(&file).contains("file: it is not a folder"), "{}", told(&file));
        let empty = folder.path().join("empty");
        fs::create_dir(&empty).unwrap();
        assert!(told(&empty).contains("no online key") && told(&empty).contains(&make(&empty)));
        // The printed key is the one that is asked for.
        keygen(&request(&empty), NOW).unwrap();
        assert!(sealer(&config(&empty), NOW).is_ok());
        fs::remove_file(empty.join("online-1.key")).unwrap();
        assert!(told(&empty).contains("--rotate` makes one"), "{}", told(&empty));
    }

    #[test]
    fn keys_rotate_and_a_revoked_one_is_followed_by_the_next_epoch() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        let first = keygen(&request(out), NOW).unwrap().certificate.unwrap();
        let rotate = Request { rotate: true, ..request(out) };
        let second = keygen(&rotate, NOW).unwrap().certificate.unwrap();
        assert_eq!((second.serial, second.epoch, second.root), (2, 0, first.root));
        let used = |now| sealer(&config(out), now).map(|it| it.unwrap().certificate().serial);
        assert_eq!(used(NOW), Ok(2));
        assert!(used(NOW.plus_ms(101 * 86_400_000)).unwrap_err().to_string().contains("valid from"));
        let id = second.key.id().to_string();
        let revoke = Request { revoke: vec![id], ..request(out) };
        let made = keygen(&revoke, NOW).unwrap();
        assert_eq!((made.certificate, made.revocations.unwrap().number), (None, 1));
        assert_eq!(used(NOW), Ok(1), "the other is still valid");
        let third = keygen(&rotate, NOW).unwrap().certificate.unwrap();
        assert_eq!((third.serial, third.epoch), (3, 1));
        let list = sealer(&config(out), NOW).unwrap().unwrap().revocations().unwrap().clone();
        assert_eq!(list.revoked, [second.key.id()]);
        let both =
            keygen(&Request { revoke: vec![first.key.id().to_string()], ..request(out) }, NOW).unwrap();
        assert_eq!(both.revocations.unwrap().revoked, [second.key.id(), first.key.id()]);
        let wrong = Request { revoke: vec!["0000000000000000".to_owned()], ..request(out) };
        assert!(keygen(&wrong, NOW).unwrap_err().to_string().contains("no such online key"));
    }

    #[test]
    fn versions_are_never_given_twice() {
        let folder = tempfile::tempdir().unwrap();
        keygen(&request(folder.path()), NOW).unwrap();
        let mut last = 0;
        // The clock goes back between starts.
        for day in [10, 0, -10] {
            let now = NOW.plus_ms(day * 86_400_000);
            let mut config = config(folder.path());
            config.sealer = sealer(&config, NOW).unwrap();
            let mut versions = Versions::open(&config, now).unwrap().unwrap();
            for _ in 0..3 {
                let version = config.sealer.as_ref().unwrap().next_version(now);
                assert!(version > last);
                last = version;
                versions.keep().unwrap();
            }
        }
    }
}
