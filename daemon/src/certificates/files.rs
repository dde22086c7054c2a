//! Certificate chain and key of a listener, from files that are reread when they change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use carousel::time::WallTime;

use super::{Certificate, Certificates, WARNING_DAYS};
use crate::{clock, vitals};

/// Interval at which the files are checked for changes.
const LOOK: Duration = Duration::from_secs(10);

/// The certificate in force of one listener: the resolver of its TLS handshakes.
#[derive(Debug)]
pub struct CertificateFiles {
    /// Table of the configuration that names the files: `http.tls`.
    table: &'static str,
    /// Chain and key.
    files: [PathBuf; 2],
    key: RwLock<Arc<CertifiedKey>>,
    shown: Arc<Certificates>,
}

impl CertificateFiles {
    /// Reads `certificate` and `key`, publishes them in `shown`, and checks the files every ten seconds from then on. Needs a
    /// runtime.
    ///
    /// # Errors
    /// One line with the fix, if they are not a certificate and its key.
    pub fn open(
        table: &'static str,
        certificate: &Path,
        key: &Path,
        shown: Arc<Certificates>,
    ) -> Result<Arc<Self>, ConfiguredFileError> {
        let files = [certificate.to_owned(), key.to_owned()];
        let key = read(table, certificate, key)?;
        let all = Arc::new(Self { table, files, key: RwLock::new(Arc::clone(&key)), shown });
        all.put(key);
        vitals::essential_task("certificates", watch(Arc::clone(&all)));
        Ok(all)
    }

    /// Puts a chain and its key into force.
    fn put(&self, key: Arc<CertifiedKey>) {
        self.shown.put(self.table, &self.files[0], &key.cert);
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = key;
    }

    /// Reads the files if they have changed. On failure nothing changes, and the next check tries again: a renewal writes one
    /// file after the other.
    fn reload(&self, known: &mut FileState) {
        let now = self.changed_at();
        if now == known.changed_at {
            return;
        }
        match read(self.table, &self.files[0], &self.files[1]) {
            Ok(key) => {
                self.put(key);
                *known = FileState { changed_at: now, failure: None };
                tracing::info!(table = self.table, "a new certificate is in force");
            }
            Err(err) if known.failure.as_ref() != Some(&err) => {
                tracing::warn!("{err}; the certificate before it stays in force");
                known.failure = Some(err);
            }
            Err(_) => {}
        }
    }

    /// Logs that players refuse the chain, or soon will, once for each reason and file. Returns what was logged.
    fn warn(&self, now: Option<WallTime>) -> Option<String> {
        let key = Arc::clone(&self.key.read().unwrap_or_else(PoisonError::into_inner));
        let what = now.zip(Certificate::read(&key.cert).ok()).and_then(|(now, it)| warning(&it, now));
        let what = self.shown.is_news(self.table, what.clone()).then_some(what).flatten();
        if let Some(what) = &what {
            tracing::warn!(table = self.table, file = %self.files[0].display(), "{what}");
        }
        what
    }

    fn changed_at(&self) -> [Option<SystemTime>; 2] {
        self.files.each_ref().map(|path| std::fs::metadata(path).and_then(|it| it.modified()).ok())
    }
}

/// State of the files when they were read.
#[derive(Debug)]
struct FileState {
    /// Times of change of chain and key.
    changed_at: [Option<SystemTime>; 2],
    /// Reason why newer files cannot be read: it is logged once, not at every check.
    failure: Option<ConfiguredFileError>,
}

/// Fault of the validity of a chain, with the fix.
fn warning(it: &Certificate, now: WallTime) -> Option<String> {
    let fix = "renew it: the files are read again when they change";
    let end = it.not_after.to_xml();
    if it.days_left(now) < 0 {
        Some(format!("the certificate, or one of its chain, ended at {end}, and players refuse it; {fix}"))
    } else if it.not_before > now {
        let begin = it.not_before.to_xml();
        Some(format!(
            "the certificate begins only at {begin}; compare the clocks of this machine and of its authority"
        ))
    } else if it.days_left(now) < WARNING_DAYS {
        Some(format!("the certificate, or one of its chain, ends at {end}; {fix}"))
    } else {
        None
    }
}

impl ResolvesServerCert for CertificateFiles {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.key.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

async fn watch(all: Arc<CertificateFiles>) {
    let mut known = FileState { changed_at: all.changed_at(), failure: None };
    loop {
        all.warn(clock::trusted_wall());
        tokio::time::sleep(LOOK).await;
        all.reload(&mut known);
    }
}

/// Reads certificate chain and key, which `table` of the configuration names.
///
/// # Errors
/// The file, its fault and the fix.
pub fn read(table: &str, certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, ConfiguredFileError> {
    let chain = chain(table, certificate)?;
    let of_key = || format!("[{table}] key {}", key.display());
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|err| ConfiguredFileError { about: of_key(), file: explained(&err, "private key") })?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, private, &provider).map(Arc::new).map_err(|err| {
        let of_certificate = of_certificate(table, certificate);
        let (about, what, fix) = match err {
            rustls::Error::InconsistentKeys(_) => (
                format!("{of_certificate} and key {}", key.display()),
                "they do not belong together".to_owned(),
                "give the key that the certificate was made for, and the box's own certificate first in its file",
            ),
            rustls::Error::InvalidCertificate(_) => {
                (of_certificate, super::failures::plain(&err), "make it again")
            }
            _ => (of_key(), "its kind cannot be used".to_owned(), "give one of RSA, ECDSA or Ed25519"),
        };
        ConfiguredFileError { about, file: UnusableFile { what, fix } }
    })
}

fn of_certificate(table: &str, certificate: &Path) -> String {
    format!("[{table}] certificate {}", certificate.display())
}

/// Facts of the certificate that a listener would present, with its key.
///
/// # Errors
/// The file, its fault and the fix.
pub fn check(table: &str, certificate: &Path, key: &Path) -> Result<Certificate, ConfiguredFileError> {
    let read = read(table, certificate, key)?;
    Certificate::read(&read.cert).map_err(|what| ConfiguredFileError {
        about: of_certificate(table, certificate),
        file: UnusableFile { what, fix: "make it again, or name the right files" },
    })
}

/// Reads the certificates of a PEM file, one at least.
///
/// # Errors
/// The file, its fault and the fix.
pub fn chain(table: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfiguredFileError> {
    read_chain(path).map_err(|file| ConfiguredFileError { about: of_certificate(table, path), file })
}

/// Why a file with certificates or a key is unusable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableFile {
    /// The fault.
    pub what: String,
    /// The remedy.
    pub fix: &'static str,
}

impl fmt::Display for UnusableFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.fix)
    }
}

impl std::error::Error for UnusableFile {}

/// Error of a file that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredFileError {
    /// Table, key and file: `[http.tls] certificate box.pem`.
    pub about: String,
    /// The fault, and its fix.
    pub file: UnusableFile,
}

impl fmt::Display for ConfiguredFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.about, self.file)
    }
}

impl std::error::Error for ConfiguredFileError {}

/// A start ends with one line.
impl From<ConfiguredFileError> for String {
    fn from(err: ConfiguredFileError) -> Self {
        err.to_string()
    }
}

/// Reads the certificates of a PEM file, one at least.
///
/// # Errors
/// The fault, and its fix.
pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, UnusableFile> {
    let all = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|err| explained(&err, "certificate"))?;
    if all.is_empty() {
        return Err(UnusableFile { what: "it has no certificate".to_owned(), fix: "give a PEM file" });
    }
    Ok(all)
}

/// Reason for which a PEM file with a `what` cannot be read, and the fix.
fn explained(err: &rustls::pki_types::pem::Error, what: &str) -> UnusableFile {
    let fix = match err {
        rustls::pki_types::pem::Error::Io(err) if err.kind() == std::io::ErrorKind::PermissionDenied => {
            "let the group of skycached read it: chgrp skycache, chmod 640"
        }
        rustls::pki_types::pem::Error::NoItemsFound => "give a PEM file without",
        _ => "give a PEM file",
    };
    let what = match err {
        rustls::pki_types::pem::Error::Io(err) => carousel::config::plain(err),
        rustls::pki_types::pem::Error::NoItemsFound => format!("it has no {what}, or one with a passphrase"),
        _ => "it is damaged".to_owned(),
    };
    UnusableFile { what, fix }
}

#[cfg(test)]
mod tests {
    use super::super::tests::make;
    use super::*;

    #[test]
    fn a_renewal_comes_into_force_when_both_files_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let is_made = |certificate, key| make(folder.path(), certificate, key, &[]);
        if !is_made("cert.pem", "key.pem") || !is_made("new.pem", "new-key.pem") {
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        let shown = Arc::<Certificates>::default();
        let open =
            || CertificateFiles::open("admin.tls", &path("cert.pem"), &path("key.pem"), Arc::clone(&shown));
        let all = open().unwrap();
        let of = |name: &str| chain("admin.tls", &path(name)).unwrap();
        let in_force = || all.key.read().unwrap().cert.clone();
        let (old, new) = (of("cert.pem"), of("new.pem"));
        let mut known = FileState { changed_at: all.changed_at(), failure: None };
        all.reload(&mut known);
        assert_eq!(in_force(), old);
        // The certificate first: the key is that of the one before.
        std::fs::rename(path("new.pem"), path("cert.pem")).unwrap();
        for _ in 0..3 {
            all.reload(&mut known);
            assert_eq!(in_force(), old);
            assert!(
                known.failure.as_ref().is_some_and(|it| it.about.starts_with("[admin.tls] ")),
                "{known:?}"
            );
        }
        assert!(open().unwrap_err().about.contains("cert.pem"), "at a start it is an error");
        std::fs::rename(path("new-key.pem"), path("key.pem")).unwrap();
        all.reload(&mut known);
        assert_eq!((in_force(), known.failure.is_none()), (new, true));
        // What was said of its end is said once, also where another listener has the same file.
        let days = |days: i64| Some(WallTime::from_unix_ms(clock::wall().unix_ms() + days * 86_400_000));
        let (certificate, key) = (path("cert.pem"), path("key.pem"));
        let other = CertificateFiles::open("http.tls", &certificate, &key, Arc::clone(&shown)).unwrap();
        for (now, said) in [
            (None, None),
            (days(0), None),
            (days(4000), Some("ended at")),
            (days(-4000), Some("begins only at")),
            (days(0), None),
            (days(4000), Some("ended at")),
        ] {
            let logged = all.warn(now);
            assert_eq!(logged.is_some(), said.is_some(), "{logged:?}");
            assert!(logged.is_none_or(|it| said.is_some_and(|said| it.contains(said))), "{said:?}");
            assert_eq!((all.warn(now), other.warn(now)), (None, None), "{said:?}");
        }
        let [it, _] = &shown.to_json(None)[..] else { panic!() };
        assert_eq!((&it["listener"], &it["error"]), (&"admin.tls".into(), &serde_json::Value::Null));
    }

    #[test]
    fn what_does_not_belong_together_is_said_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let is_made = |certificate, key| make(folder.path(), certificate, key, &[]);
        if !is_made("cert.pem", "key.pem") || !is_made("other.pem", "other-key.pem") {
            return;
        }
        assert!(read("http.tls", &path("cert.pem"), &path("key.pem")).is_ok());
        let why = |certificate: &str, key: &str| {
            read("http.tls", &path(certificate), &path(key))
                .unwrap_err()
                .to_string()
                .replace(&path("").display().to_string(), "")
        };
        assert_eq!(
            why("cert.pem", "other-key.pem"),
            "[http.tls] certificate cert.pem and key other-key.pem: they do not belong together; give the key that the certificate was made for, and the box's own certificate first in its file"
        );
        // The two exchanged, and a malformed key.
        assert_eq!(
            why("cert.pem", "cert.pem"),
            "[http.tls] key cert.pem: it has no private key, or one with a passphrase; give a PEM file without"
        );
        assert_eq!(
            why("key.pem", "key.pem"),
            "[http.tls] certificate key.pem: it has no certificate; give a PEM file"
        );
        std::fs::write(path("no-key.pem"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
            .unwrap();
        assert_eq!(
            why("cert.pem", "no-key.pem"),
            "[http.tls] key no-key.pem: its kind cannot be used; give one of RSA, ECDSA or Ed25519"
        );
    }

    #[test]
    fn a_file_without_a_certificate_is_said_to_be_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("empty.pem");
        std::fs::write(&file, "").unwrap();
        let why = chain("http.tls", &file).unwrap_err().to_string();
        assert!(why.contains("it has no certificate; give a PEM file"), "{why}");
        let why = chain("http.tls", &folder.path().join("none.pem")).unwrap_err().to_string();
        assert!(why.starts_with("[http.tls] certificate ") && why.contains("none.pem"), "{why}");
    }
}
