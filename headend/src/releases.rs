//! Firmware bundles that are on offer: a file each, in a folder that `headend firmware` writes and `headend send` reads.
//!
//! The document that goes on the air is made from them and signed. A bundle stays where it is; its file must not change while it is
//! on offer.

mod error;

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use carousel::Digest;
use carousel::command::is_word;
use carousel::config::plain;
use carousel::firmware::{MAX_BUNDLE_BYTES, MAX_OFFERS, Offer, Window, is_version};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use error::{NameFault, ReleaseError};

use crate::config::Config;
use crate::package::encode;
use crate::sys::{open_source_file, read_source_file};

/// Longest file of an offer.
const FILE_BYTES: u64 = 64 << 10;
/// Name of the signed list of offers.
pub const DOCUMENT: &str = "offers.xml";
/// TSI of the first bundle's session.
const FIRST_TSI: u64 = 100;

/// A bundle on offer, and where its file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its file.
    pub path: PathBuf,
    /// The offer that receivers get.
    pub offer: Offer,
}

/// Form of a release in its file.
#[derive(Debug, Serialize, Deserialize)]
struct StoredRelease {
    path: PathBuf,
    compatible: String,
    version: String,
    length: u64,
    sha256: String,
    share: u16,
    tsi: u64,
    until: u64,
    repair_after_s: u64,
    repair_within_s: u64,
    #[serde(default)]
    allow_downgrade: bool,
    #[serde(default)]
    window: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
}

impl Release {
    /// Its identifier: hardware and version.
    pub fn id(&self) -> String {
        format!("{}_{}", self.offer.compatible, self.offer.version)
    }

    fn stored(&self) -> StoredRelease {
        let it = &self.offer;
        StoredRelease {
            path: self.path.clone(),
            compatible: it.compatible.clone(),
            version: it.version.clone(),
            length: it.length,
            sha256: it.sha256.to_hex(),
            share: it.share,
            tsi: it.session.map_or(FIRST_TSI, |it| it.1),
            until: it.until,
            repair_after_s: it.repair_after_s,
            repair_within_s: it.repair_within_s,
            allow_downgrade: it.allow_downgrade,
            window: it.window.map(|it| it.to_string()),
            groups: it.groups.clone(),
        }
    }

    fn of(stored: StoredRelease, config: &Config) -> Option<Self> {
        let firmware = config.firmware.as_ref()?;
        let window = match &stored.window {
            Some(text) => Some(Window::parse(text)?),
            None => None,
        };
        let offer = Offer {
            url: url(&firmware.base, &stored.path).ok()?,
            compatible: Some(stored.compatible).filter(|it| is_word(it))?,
            version: Some(stored.version).filter(|it| is_version(it))?,
            length: stored.length,
            sha256: Digest::from_hex(&stored.sha256)?,
            allow_downgrade: stored.allow_downgrade,
            share: stored.share.min(carousel::firmware::EVERYBODY),
            groups: stored.groups,
            window,
            session: Some((firmware.group, stored.tsi)),
            source: config.sessions.source,
            repair_after_s: stored.repair_after_s,
            repair_within_s: stored.repair_within_s,
            until: stored.until,
        };
        Some(Self { path: stored.path, offer })
    }
}

/// Why the file of an offer cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, and the fault.
    pub what: String,
    /// The remedy.
    pub fix: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.fix)
    }
}

/// Why the file of an offer cannot be sent; `None`: it is what was offered. All of it is read.
pub fn fault(release: &Release) -> Option<Fault> {
    let offered = &release.offer;
    let path = release.path.display();
    let what = match measure(&release.path) {
        Err(why) => why.to_string(),
        Ok((length, _)) if length != offered.length => {
            format!("{path}: it has {length} bytes, and {} were offered", offered.length)
        }
        Ok((_, sha256)) if sha256 != offered.sha256 => {
            format!("{path}: its bytes are not those that were offered")
        }
        Ok(_) => return None,
    };
    let id = release.id();
    let fix = format!(
        "put the file back that was offered, or `headend firmware withdraw {id}` and offer the new one"
    );
    Some(Fault { what, fix })
}

/// An offer as `--json` has it. `fault` is what keeps its file from being sent, if anything.
pub fn to_json(release: &Release, fault: Option<&Fault>) -> Value {
    let it = &release.offer;
    json!({
        "problem": fault.map(ToString::to_string),
        "schema": 1, "id": release.id(), "path": release.path.display().to_string(), "url": it.url,
        "compatible": it.compatible, "version": it.version, "length": it.length, "sha256": it.sha256.to_hex(),
        "share_percent": f64::from(it.share) / 100.0, "window": it.window.map(|it| it.to_string()),
        "groups": it.groups, "allow_downgrade": it.allow_downgrade, "until": it.until,
        "repair_after_s": it.repair_after_s, "repair_within_s": it.repair_within_s,
    })
}

/// The folder of a configuration; `None` if nothing is signed, or no firmware sent.
pub fn folder(config: &Config) -> Option<PathBuf> {
    let (signing, firmware) = (config.signing.as_ref()?, config.firmware.as_ref()?);
    Some(firmware.folder.clone().unwrap_or_else(|| signing.keys.join("firmware")))
}

/// URL of a bundle: the name of its file below `[firmware] base`, percent-encoded.
///
/// # Errors
/// A name that no URL has.
pub fn url(base: &str, path: &Path) -> Result<String, ReleaseError> {
    let refused = |fault| {
        let name = path.file_name().unwrap_or(path.as_os_str());
        Err(ReleaseError::Name(name.to_owned(), fault))
    };
    let Some(name) = path.file_name().and_then(std::ffi::OsStr::to_str) else {
        return refused(NameFault::Encoding);
    };
    if name.contains(char::is_control) {
        return refused(NameFault::Control);
    }
    let url = format!("{base}{}", encode(name));
    // As receivers spell it, so that all of them mean the same.
    match carousel::name::resolve("", &url) {
        Ok(settled) if carousel::firmware::is_url(&settled) => Ok(settled),
        _ => refused(NameFault::TooLong),
    }
}

/// Offers in force at `date`, by identifier, and a line for each unusable file.
pub fn read(config: &Config, date: u64) -> (Vec<Release>, Vec<String>) {
    let (mut releases, mut problems) = (Vec::new(), Vec::new());
    let Some(folder) = folder(config) else { return (releases, problems) };
    let entries = folder.canonicalize().and_then(fs::read_dir);
    // The first offer makes the folder.
    if let Some(err) = entries.as_ref().err().filter(|it| it.kind() != ErrorKind::NotFound) {
        problems.push(format!("{}: {}", folder.display(), plain(err)));
    }
    for entry in entries.into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|it| it != "json") {
            continue;
        }
        let bytes = read_source_file(&path, FILE_BYTES).ok().filter(|it| it.len() as u64 <= FILE_BYTES);
        let stored = bytes.and_then(|bytes| serde_json::from_slice::<StoredRelease>(&bytes).ok());
        match stored.and_then(|it| Release::of(it, config)) {
            Some(release) if release.offer.until > date => releases.push(release),
            Some(_) => {}
            None => problems.push(format!("{}: no offer of firmware; remove it", path.display())),
        }
    }
    releases.sort_by_key(Release::id);
    if releases.len() > MAX_OFFERS {
        problems.push(format!("more than {MAX_OFFERS} bundles are on offer; the rest waits"));
        releases.truncate(MAX_OFFERS);
    }
    (releases, problems)
}

/// Length and SHA-256 of a bundle's file.
///
/// # Errors
/// If it cannot be read, is empty or too long.
pub fn measure(path: &Path) -> Result<(u64, Digest), ReleaseError> {
    let mut file = open_source_file(path).map_err(ReleaseError::io(path))?.take(MAX_BUNDLE_BYTES + 1);
    let (mut hasher, mut length, mut buffer) = (Digest::hasher(), 0, vec![0; 256 << 10]);
    loop {
        let count = file.read(&mut buffer).map_err(ReleaseError::io(path))?;
        if count == 0 {
            break;
        }
        length += count as u64;
        hasher.update(&buffer[..count]);
    }
    if !(1..=MAX_BUNDLE_BYTES).contains(&length) {
        return Err(ReleaseError::Length(path.to_owned()));
    }
    Ok((length, hasher.finish()))
}

/// Puts a bundle on offer, in a session of its own, and removes offers that have ended. Gives it back as it is offered.
///
/// # Errors
/// If one of its hardware and version is on offer, or there is no place.
pub fn add(config: &Config, mut release: Release, date: u64) -> Result<Release, ReleaseError> {
    let folder = folder(config).ok_or(ReleaseError::NotConfigured)?;
    fs::DirBuilder::new().recursive(true).mode(0o750).create(&folder).map_err(ReleaseError::io(&folder))?;
    let (known, _) = read(config, 0);
    let (old, on_offer): (Vec<_>, Vec<_>) = known.into_iter().partition(|it| it.offer.until <= date);
    for ended in old {
        // Another call may have been faster.
        let _ = fs::remove_file(file(&folder, &ended.id()));
    }
    if on_offer.iter().any(|it| it.id() == release.id()) {
        return Err(ReleaseError::OnOffer { id: release.id(), flag: config.flag() });
    }
    if on_offer.len() >= MAX_OFFERS {
        return Err(ReleaseError::Full { flag: config.flag() });
    }
    let name = |it: &Release| it.path.file_name().map(std::ffi::OsStr::to_owned);
    if let Some(other) = on_offer.iter().find(|it| name(it) == name(&release)) {
        return Err(ReleaseError::SameName(other.id()));
    }
    let is_free = |tsi: &u64| !on_offer.iter().any(|it| it.offer.session.is_some_and(|it| it.1 == *tsi));
    let tsi = (FIRST_TSI..).find(is_free).unwrap_or(FIRST_TSI);
    release.offer.session = config.firmware.as_ref().map(|it| (it.group, tsi));
    write(&folder, &release)?;
    Ok(release)
}

/// Changes the share of receivers that are in; gives the one before, and what is on offer now.
///
/// # Errors
/// If no offer has this identifier.
pub fn set_share(config: &Config, id: &str, share: u16, date: u64) -> Result<(u16, Release), ReleaseError> {
    let folder = folder(config).ok_or(ReleaseError::NotConfigured)?;
    let (known, _) = read(config, date);
    let mut release = known.into_iter().find(|it| it.id() == id).ok_or_else(|| missing(id))?;
    let before = std::mem::replace(&mut release.offer.share, share);
    write(&folder, &release)?;
    Ok((before, release))
}

/// Takes an offer back. Receivers that have installed it keep it.
///
/// # Errors
/// If no offer has this identifier.
pub fn withdraw(config: &Config, id: &str) -> Result<(), ReleaseError> {
    let folder = folder(config).ok_or(ReleaseError::NotConfigured)?;
    let (known, _) = read(config, 0);
    if !known.iter().any(|it| it.id() == id) {
        return Err(missing(id));
    }
    let path = file(&folder, id);
    fs::remove_file(&path).map_err(|err| match err.kind() {
        ErrorKind::NotFound => missing(id),
        _ => ReleaseError::Io(path.clone(), plain(&err)),
    })
}

/// Leaves the signed list of offers beside them, for receivers that ask an origin for it.
///
/// # Errors
/// If it cannot be written.
pub fn publish(config: &Config, document: &[u8]) -> Result<(), ReleaseError> {
    let Some(folder) = folder(config) else { return Ok(()) };
    let (path, new) = (folder.join(DOCUMENT), folder.join("offers.new"));
    let written = fs::write(&new, document).and_then(|()| fs::rename(&new, &path));
    written.map_err(ReleaseError::io(&path))
}

fn missing(id: &str) -> ReleaseError {
    ReleaseError::NotOnOffer(id.to_owned())
}

fn file(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.json"))
}

fn write(folder: &Path, release: &Release) -> Result<(), ReleaseError> {
    let (path, new) = (file(folder, &release.id()), folder.join(format!("{}.new", release.id())));
    let text = serde_json::to_string(&release.stored()).map_err(|err| ReleaseError::io(&path)(err.into()))?;
    // One that a call has left behind that was cut off.
    let _ = fs::remove_file(&new);
    let written =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(&new).and_then(|mut it| {
            writeln!(it, "{text}")?;
            it.sync_all()
        });
    written.and_then(|()| fs::rename(&new, &path)).map_err(ReleaseError::io(&path))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A configuration with keys and firmware in a folder.
    pub(crate) fn config(folder: &Path) -> Config {
        fs::create_dir_all(folder.join("film")).unwrap();
        let text = "link.rate_bps = 20_000_000\nsigning.keys = \"keys\"\n[output]\ninterface = \"127.0.0.1\"\n\
            [firmware]\nbase = \"https://cdn.example.com/firmware/\"\nrate_bps = 2_000_000\n\
            [[source]]\npath = \"film\"\nbase = \"https://cdn.example.com/film/\"\n";
        Config::parse(text, folder).unwrap()
    }

    /// A bundle of that content, to be offered.
    pub(crate) fn release(folder: &Path, version: &str, bytes: &[u8]) -> Release {
        let path = folder.join(format!("{version}.raucb"));
        fs::write(&path, bytes).unwrap();
        let (length, sha256) = measure(&path).unwrap();
        let offer = Offer {
            compatible: "skycache-x86_64".to_owned(),
            version: version.to_owned(),
            url: format!("https://cdn.example.com/firmware/{version}.raucb"),
            length,
            sha256,
            allow_downgrade: false,
            share: 100,
            groups: Vec::new(),
            window: Window::parse("02:00-05:00"),
            session: None,
            source: None,
            repair_after_s: 3600,
            repair_within_s: 60,
            until: 1000,
        };
        Release { path, offer }
    }

    #[test]
    fn bundles_are_on_offer_until_that_ends_or_they_are_withdrawn() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let first = add(&config, release(folder.path(), "1.5", b"one"), 50).unwrap();
        let second = add(&config, release(folder.path(), "1.6", b"two"), 50).unwrap();
        assert_eq!(read(&config, 50), (vec![first.clone(), second.clone()], vec![]));
        let tsi = |it: &Release| it.offer.session.unwrap().1;
        assert_eq!((tsi(&first), tsi(&second)), (100, 101));
        assert!(add(&config, first.clone(), 50).unwrap_err().to_string().contains("withdraw"));
        let (_, wider) = set_share(&config, &first.id(), 1000, 50).unwrap();
        assert_eq!(read(&config, 50).0[0], wider);
        assert_eq!(wider, Release { offer: Offer { share: 1000, ..first.offer.clone() }, ..first.clone() });
        withdraw(&config, &first.id()).unwrap();
        assert!(withdraw(&config, "../../etc/x").unwrap_err().to_string().contains("list"));
        assert_eq!(read(&config, 999).0, [second]);
        assert!(read(&config, 1000).0.is_empty());
        let third = add(&config, release(folder.path(), "1.7", b"three"), 2000).unwrap();
        assert_eq!(tsi(&third), 100, "what has ended is removed");
        fs::write(super::folder(&config).unwrap().join("odd.json"), "{}").unwrap();
        assert_eq!(read(&config, 0).1.len(), 1);
    }

    #[test]
    fn a_file_that_is_not_what_was_offered_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let release = release(folder.path(), "1.5", b"bundle");
        assert_eq!(fault(&release), None);
        for (now, told) in [
            (Some(&b"bundle and more"[..]), "it has 15 bytes, and 6 were offered"),
            (Some(b"BUNDLE"), "its bytes are not those that were offered"),
            (Some(b""), "a bundle has 1 to"),
            (None, "1.5.raucb: there is no such file"),
        ] {
            match now {
                Some(bytes) => fs::write(&release.path, bytes).unwrap(),
                None => fs::remove_file(&release.path).unwrap(),
            }
            let fault = fault(&release).unwrap().to_string();
            assert!(fault.contains(told) && fault.contains("withdraw skycache-x86_64_1.5`"), "{fault}");
        }
    }

    #[test]
    fn a_folder_of_offers_that_cannot_be_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        assert_eq!(read(&config, 0), (vec![], vec![]), "nothing was offered yet");
        let keys = folder.path().join("keys");
        fs::create_dir(&keys).unwrap();
        fs::write(keys.join("firmware"), "in its way").unwrap();
        let (_, problems) = read(&config, 0);
        assert!(problems.len() == 1 && problems[0].contains("keys/firmware: "), "{problems:?}");
    }

    #[test]
    fn the_url_of_a_bundle_is_that_of_its_file_whatever_its_name() {
        let base = "https://cdn.example.com/firmware/";
        for (name, end) in [
            ("1.5.raucb", "1.5.raucb"),
            ("a b.raucb", "a%20b.raucb"),
            ("100%.raucb", "100%25.raucb"),
            ("%41.raucb", "%2541.raucb"),
            ("a#1?x=y.raucb", "a%231%3Fx=y.raucb"),
            ("b\u{fc}ndel~1.raucb", "b%C3%BCndel~1.raucb"),
            ("a\\b:c.raucb", "a%5Cb:c.raucb"),
        ] {
            let url = url(base, &Path::new("/srv/x y").join(name)).unwrap();
            assert_eq!(url, format!("{base}{end}"));
            // Receivers take it for the same object, with the same URL.
            assert_eq!(carousel::name::resolve("", &url).as_ref(), Ok(&url));
            let key = carousel::name::ObjectKey::from_name(&url, None).unwrap();
            assert_eq!(key.as_str(), &url["https://".len()..]);
            assert_eq!(percent_encoding::percent_decode_str(end).decode_utf8_lossy(), name);
        }
        for (name, why) in [
            ("a\nb.raucb", "control character"),
            ("a\u{7f}b.raucb", "control character"),
            (&"x".repeat(2048), "too long"),
        ] {
            let refused = url(base, Path::new(name)).unwrap_err().to_string();
            assert!(refused.contains(why) && refused.contains("rename the file"), "{refused}");
            assert!(!refused.contains('\n'), "{refused}");
        }
        let name = std::os::unix::ffi::OsStrExt::from_bytes(b"a\xff.raucb");
        assert!(url(base, Path::new::<std::ffi::OsStr>(name)).unwrap_err().to_string().contains("not UTF-8"));
    }

    #[test]
    fn bundles_on_offer_are_bounded_and_an_empty_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        for number in 0..MAX_OFFERS {
            add(&config, release(folder.path(), &format!("1.{number}"), b"x"), 50).unwrap();
        }
        let more = release(folder.path(), "2.0", b"x");
        assert!(add(&config, more.clone(), 50).unwrap_err().to_string().contains("on offer"));
        assert!(add(&config, more, 1000).is_ok(), "those before have ended");
        fs::write(folder.path().join("empty"), b"").unwrap();
        assert!(measure(&folder.path().join("empty")).unwrap_err().to_string().contains("1 to"));
    }
}
